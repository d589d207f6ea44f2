//! How long normalising takes: nanoseconds per call for the specifications' examples. Asserts nothing about time.

#![allow(clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use fanout_sdk::event::{CallType, Event};
use fanout_sdk::json::Doc;
use fanout_sdk::names::{Names, Root};
use fanout_sdk::normalise::envelope::{Limits, batch, single};

const SPEC_A: &str = r#"{"anonymousId":"507f191e810c19729de860ea","type":"identify","userId":"97980cfea0067","channel":"browser","context":{"ip":"","userAgent":"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_5) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/40.0.2214.115 Safari/537.36"},"integrations":{"All":false,"Mixpanel":true,"Salesforce":true},"messageId":"022bb90c-bbac-11e4-8dfc-aa07a5b093db","receivedAt":"2015-02-23T22:28:55.387Z","sentAt":"2015-02-23T22:28:55.111Z","timestamp":"2015-02-23T22:28:55.111Z","traits":{"firstname":"Elon","lastname":"Musk","email":"elon@example.com","Place of birth":"South Africa","address":{"street":"6th St","city":"Durban","country":"South Africa"}},"version":"1.1"}"#;
const PLAINFLOW: &str = r#"{"anonymousId":"59f75a945b289f44d6e8aca5","context":{"ip":"","userAgent":"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11) AppleWebKit/601.1.32 (KHTML, like Gecko) Version/8.1 Safari/601.1.32"},"message_id":"aaf06138-2ceb-4881-9c73-79a1c782f370","received_at":"2017-02-09T12:08:32.387Z","sent_at":"2017-02-09T12:08:32.111Z","timestamp":"2017-02-09T12:08:32.111Z","traits":{"name":"Mark Twain","email":"mark@example.com","plan":"premium","logins":5,"address":{"street":"351 Farmington Avenue","city":"Hartford","state":"CT","postal_code":"06105","country":"USA"}},"type":"identify","user_id":"97980cfea0067","version":"1.2"}"#;
const SHEET: &str = r#"{"type":"identify","messageId":"msg-7f3c21","userId":"u_1001","anonymousId":"anon-5d2e8a","timestamp":"2024-05-02T10:15:30.250Z","traits":{"email":"ada@example.com","first_name":"Ada","last_name":"Byron","phone":"+14155550123","birthday":"1988-12-10","created_at":"2023-01-15T08:00:00Z","company":{"id":"c_9","name":"Engines Ltd","plan":"pro"},"address":{"city":"London","country":"GB"},"score":42,"tags":["a","b"],"old_plan":null},"context":{"ip":"203.0.113.7","locale":"en-GB"}}"#;

const LIMITS: Limits = Limits { event_bytes: 32 << 10, events: 2500 };

/// The best of five rounds, each of about a tenth of a second; skipped if the first argument is no part of its name.
/// With a second argument, just so many times: for counting instructions with `perf stat`.
fn time(name: &str, calls: usize, mut work: impl FnMut()) {
    let wanted = std::env::args().nth(1).filter(|argument| argument != "--bench").unwrap_or_default();
    if !name.contains(&wanted) {
        return;
    }
    if let Some(times) = std::env::args().nth(2).and_then(|times| times.parse::<u32>().ok()) {
        (0..times).for_each(|_| work());
        return;
    }
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let mut rounds = 0u32;
        while start.elapsed().as_millis() < 100 {
            for _ in 0..64 {
                work();
            }
            rounds += 64;
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds) / calls as f64);
    }
    println!("{name:<44} {best:>8.0} ns per call");
}

fn main() {
    let mut names = Names::default();
    for (root, path) in [
        (Root::Custom, "plan"),
        (Root::Custom, "unsubscribed"),
        (Root::Context, "ip"),
        (Root::Context, "active"),
    ] {
        names.intern(root, &[path.to_owned()]);
    }
    for (name, text) in
        [("specification A", SPEC_A), ("Plainflow", PLAINFLOW), ("fact sheets' sample", SHEET)]
    {
        let text: Arc<str> = text.into();
        println!("{name}, {} bytes", text.len());
        time("  JSON alone", 1, || {
            black_box(Doc::parse(text.clone()).is_ok());
        });
        time("  Event::parse", 1, || {
            black_box(Event::parse(text.clone(), 0, &names).is_ok());
        });
        let doc = Doc::parse(text.clone());
        if let Ok(doc) = &doc {
            time("  record of a single call", 1, || {
                black_box(single(doc.clone(), CallType::Identify, LIMITS, &mut String::new).is_ok());
            });
        }
        let body: Arc<str> = format!("{{\"batch\":[{}]}}", vec![&*text; 100].join(",")).into();
        time("  batch of 100: JSON, records, events", 100, || {
            let Ok(doc) = Doc::parse(body.clone()) else { return };
            for record in batch(&doc, LIMITS, &mut String::new).into_iter().flatten().flatten() {
                black_box(Event::from_doc(record, 0, &names).is_ok());
            }
        });
    }
}
