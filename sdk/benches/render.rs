//! How long rendering takes: nanoseconds per event for the Mixpanel manifest, and for packing and building the request
//! of a hundred. Asserts nothing about time.
//!
//! `cargo bench -p fanout-sdk --bench render -- [PART OF A NAME] [ROUNDS]`; with a number of rounds it renders the
//! typical call that often and prints nothing, to count instructions.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, Waker};
use std::time::Instant;

use async_trait::async_trait;
use fanout_sdk::destination::{
    Answer, Clock, Context, Destination, Item, NoAnswer, Purpose, Request, Transport, Verdict,
};
use fanout_sdk::event::Event;
use fanout_sdk::manifest::{Manifest, Plan};
use fanout_sdk::memory::Memory;
use fanout_sdk::names::Names;

const MIXPANEL: &str = include_str!("../../destinations/mixpanel/manifest.toml");
const SHEET: &str = r#"{"type":"identify","messageId":"msg-7f3c21","userId":"u_1001","anonymousId":"anon-5d2e8a","timestamp":"2024-05-02T10:15:30.250Z","traits":{"email":"ada@example.com","first_name":"Ada","last_name":"Byron","phone":"+14155550123","birthday":"1988-12-10","created_at":"2023-01-15T08:00:00Z","company":{"id":"c_9","name":"Engines Ltd","plan":"pro"},"address":{"city":"London","country":"GB"},"score":42,"tags":["a","b"],"old_plan":null},"context":{"ip":"203.0.113.7","locale":"en-GB"}}"#;
const TYPICAL: &str = r#"{"type":"identify","messageId":"9a4f1b8e-2d53-4d0a-8a51-6f3c2b7e9d10","userId":"user_004217","anonymousId":"3f6c1d2e-7a84-4b59-9c60-1e2d3c4b5a69","timestamp":"2026-07-02T10:15:30.250Z","traits":{"email":"grace.hopper@example.com","firstName":"Grace","lastName":"Hopper","phone":"+14155550123","username":"ghopper","createdAt":"2023-01-15T08:00:00Z","address":{"city":"Arlington","country":"US","postalCode":"22201"},"plan":"enterprise","logins":318,"lifetime_value":12450.75,"is_admin":true,"newsletter":false,"last_seen_at":"2026-07-01T22:10:05Z","referrer":"https://www.example.com/campaign?utm_source=spring","favourite_colour":"navy blue","team":"compilers","seats":25,"tags":["beta","priority"],"onboarding":{"step":4,"done":true}},"context":{"ip":"203.0.113.7","locale":"en-GB","library":{"name":"analytics-node","version":"2.1.0"}}}"#;
/// How many destinations of one vendor take turns, so that no plan is the only warm one.
const PLANS: usize = 4;
const BATCH: usize = 100;

struct Fixed;

impl Clock for Fixed {
    fn now_ms(&self) -> i64 {
        1_785_000_000_000
    }

    fn nonce(&self) -> String {
        "0123456789abcdef0123456789abcdef".into()
    }
}

/// A vendor that takes everything at once.
struct Willing;

#[async_trait]
impl Transport for Willing {
    async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        black_box(request);
        Ok(Answer { status: 200, headers: Vec::new(), body: r#"{"code":200,"status":"OK"}"#.into() })
    }
}

/// The best of five rounds, each of about a tenth of a second.
fn time(name: &str, of: usize, mut work: impl FnMut()) {
    let wanted = std::env::args().nth(1).filter(|argument| argument != "--bench").unwrap_or_default();
    if !name.contains(&wanted) {
        return;
    }
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let mut rounds = 0u32;
        while start.elapsed().as_millis() < 100 {
            for _ in 0..16 {
                work();
            }
            rounds += 16;
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds) / of as f64);
    }
    println!("{name:<44} {best:>8.0} ns per event");
}

/// The verdicts of a send that waits for nothing.
fn sent(plan: &Plan, memory: &Memory, items: &[Item]) -> Vec<Verdict> {
    let context = Context {
        transport: &Willing,
        clock: &Fixed,
        memory,
        destination: "bench",
        purpose: Purpose::Deliver,
    };
    let mut sending = pin!(plan.send(&context, items));
    match sending.as_mut().poll(&mut Task::from_waker(Waker::noop())) {
        Poll::Ready(verdicts) => verdicts,
        Poll::Pending => Vec::new(),
    }
}

fn main() {
    let mut names = Names::default();
    let manifest = Arc::new(Manifest::load("manifest.toml", MIXPANEL, &mut names).unwrap());
    let plans: Vec<Plan> = (0..PLANS)
        .map(|number| {
            let settings = format!("project_token = \"token{number}\"").parse().unwrap();
            manifest.bind("bench", &settings).unwrap()
        })
        .collect();
    let event = |text: &str| Arc::new(Event::parse(text.into(), 0, &names).unwrap());
    let typical = event(TYPICAL);
    if let Some(rounds) = std::env::args().skip(1).find_map(|argument| argument.parse::<u32>().ok()) {
        for _ in 0..rounds {
            for plan in &plans {
                black_box(plan.render(&typical, None).is_ok());
            }
        }
        return;
    }
    for (name, event) in [("sheet", event(SHEET)), ("typical", typical)] {
        println!("{name} call, {} bytes", event.raw().raw().len());
        time(&format!("  render, {name}"), PLANS, || {
            for plan in &plans {
                black_box(plan.render(&event, None).is_ok());
            }
        });
        let plan = plans.first().unwrap();
        let items: Vec<Item> = (0..BATCH)
            .map(|number| Item {
                identity: format!("user_{number}").into(),
                ..plan.render(&event, None).unwrap()
            })
            .collect();
        time(&format!("  pack, {name}"), BATCH, || {
            black_box(plan.pack(&items));
        });
        let memory = Memory::new(10);
        time(&format!("  build, send and classify, {name}"), BATCH, || {
            black_box(sent(plan, &memory, &items));
        });
    }
}
