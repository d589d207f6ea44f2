//! What vendors in trouble cost the others: how many calls a second sixteen healthy destinations deliver, and how long a
//! batch takes to reach them all: by themselves, beside four in trouble, beside four more that are well, and by themselves
//! again, in turns in one run.
//!
//! `cargo bench --bench isolation [-- SECONDS]`. It prints figures, and whether those beside others differ by more than
//! those of two measurements of the same do; it asserts nothing about time. Where all cores are busy, four more
//! destinations cost what they work: what their trouble costs is what they cost more than four that are well.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{KEY, Sandbox, Service, post, request};

const HEALTHY: usize = 16;
const OTHERS: [&str; 4] = ["hole", "drip", "down", "flap"];
const BATCH: u64 = 50;
/// How often the four measurements of a round are made.
const ROUNDS: usize = 9;

/// What one measurement gave.
#[derive(Clone, Copy)]
struct Figures {
    calls_a_second: f64,
    median_ms: f64,
    worst_of_a_hundred_ms: f64,
}

/// One of the figures.
type Part = fn(&Figures) -> f64;

/// What the four others are like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Absent,
    InTrouble,
    Well,
}

/// The same sixteen before, beside and after others: what the machine does besides hits all alike, and how far the first
/// and the last differ says what it does.
struct Round {
    before: Figures,
    beside_trouble: Figures,
    beside_well: Figures,
    after: Figures,
}

impl Round {
    fn measure(time: Duration) -> Round {
        let one = |what, others| {
            let figures = measure(others, time);
            show(what, figures);
            figures
        };
        Round {
            before: one("by themselves", Others::Absent),
            beside_trouble: one("beside four in trouble", Others::InTrouble),
            beside_well: one("beside four well ones", Others::Well),
            after: one("by themselves", Others::Absent),
        }
    }

    /// One figure beside others, by what it is alone.
    fn cost(&self, beside: &Figures, part: Part) -> f64 {
        part(beside) / (part(&self.before) * part(&self.after)).sqrt()
    }

    /// How much larger one of the two alone is than the other.
    fn noise(&self, part: Part) -> f64 {
        let ratio = part(&self.after) / part(&self.before);
        ratio.max(1.0 / ratio)
    }
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(2);
    println!("{:<24} {:>10} {:>10} {:>10}", "sixteen healthy", "calls/s", "p50 ms", "p99 ms");
    let rounds: Vec<Round> = (0..ROUNDS).map(|_| Round::measure(Duration::from_secs(seconds))).collect();
    let of_all = |quarters: usize, of: fn(&Round, Part) -> f64| {
        let one = |part: Part| {
            let mut values: Vec<f64> = rounds.iter().map(|round| of(round, part)).collect();
            values.sort_by(f64::total_cmp);
            values[(values.len() - 1) * quarters / 4]
        };
        Figures {
            calls_a_second: one(|figures| figures.calls_a_second),
            median_ms: one(|figures| figures.median_ms),
            worst_of_a_hundred_ms: one(|figures| figures.worst_of_a_hundred_ms),
        }
    };
    let trouble = of_all(2, |round, part| round.cost(&round.beside_trouble, part));
    show("four well : none", of_all(2, |round, part| round.cost(&round.beside_well, part)));
    show("four in trouble : none", trouble);
    // Of three rounds in four the two alone do not differ by more, so that a median that does is no chance.
    let noise = of_all(3, Round::noise);
    show("noise, of 3 in 4 rounds", noise);
    let verdict = |cost: f64, noise: f64| if cost.max(1.0 / cost) <= noise { "as noise" } else { "more" };
    println!(
        "{:<24} {:>10} {:>10} {:>10}",
        "trouble costs",
        verdict(trouble.calls_a_second, noise.calls_a_second),
        verdict(trouble.median_ms, noise.median_ms),
        verdict(trouble.worst_of_a_hundred_ms, noise.worst_of_a_hundred_ms),
    );
}

fn show(what: &str, figures: Figures) {
    let Figures { calls_a_second, median_ms, worst_of_a_hundred_ms } = figures;
    println!("{what:<24} {calls_a_second:>10.2} {median_ms:>10.2} {worst_of_a_hundred_ms:>10.2}");
}

/// Sends batch after batch, each when all healthy destinations have the one before, so that the time from one to the
/// next is the time that a batch takes from the sender to sixteen vendors.
fn measure(others: Others, time: Duration) -> Figures {
    let sandbox = Sandbox::counting();
    if others == Others::InTrouble {
        sandbox.script(&json!([
            {"host": host("hole"), "then": "hang"},
            {"host": host("drip"), "body": "thirty bytes, one every second", "drip_ms": 1000},
            {"host": host("down"), "status": 500},
        ]));
        let moods = [json!({"status": 503}), json!({"then": "drop"}), json!({"status": 200})];
        let moods: Vec<Value> = (0..100)
            .map(|_| {
                let mut rule = moods[fastrand::usize(..moods.len())].clone();
                rule["host"] = json!(host("flap"));
                rule["times"] = json!(fastrand::u64(1..20));
                rule
            })
            .collect();
        sandbox.script(&json!(moods));
    }
    let service = Service::new(&format!("http://{}", sandbox.address), &destinations(others));
    let fanout = service.serve();
    let mut took = Vec::new();
    let begin = Instant::now();
    let mut sent = 0;
    while begin.elapsed() < time {
        let start = Instant::now();
        let reply = post(&service.address, "/v1/batch", KEY, &batch(sent)).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        sent += BATCH;
        while !everyone_has(&sandbox.address, sent) {}
        took.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let elapsed = begin.elapsed().as_secs_f64();
    fanout.kill();
    took.sort_by(f64::total_cmp);
    Figures {
        calls_a_second: sent as f64 / elapsed,
        median_ms: took[took.len() / 2],
        worst_of_a_hundred_ms: took[(took.len() - 1) * 99 / 100],
    }
}

/// The next question waits for the answer to the last one; the sandbox has no other word for it.
fn everyone_has(sandbox: &str, calls: u64) -> bool {
    let counts = request(sandbox, "GET", "/_sandbox/counts", &[], b"").unwrap().json();
    let items = |number| counts["hosts"][host(&healthy(number))]["items"].as_u64().unwrap_or_default();
    (0..HEALTHY).all(|number| items(number) >= calls)
}

fn healthy(number: usize) -> String {
    format!("well{number}")
}

fn host(name: &str) -> String {
    format!("{name}.example.com")
}

fn destinations(others: Others) -> String {
    let others = OTHERS.iter().filter(|_| others != Others::Absent).map(|name| (*name).to_owned());
    let names = (0..HEALTHY).map(healthy).chain(others);
    let table = |name: String| {
        let url = format!("https://{}/in", host(&name));
        format!(
            "[destinations.{name}]\nadapter = \"webhook\"\nsettings = {{ url = \"{url}\", max_batch = 50 }}\n"
        )
    };
    names.map(table).collect()
}

fn batch(first: u64) -> Value {
    let call = |n: u64| {
        json!({"type": "identify", "messageId": format!("m-{n}"), "userId": format!("u-{}", n % 5_000),
            "traits": {"n": n, "email": format!("u-{n}@example.com"), "plan": "gold"}})
    };
    json!({ "batch": (first..first + BATCH).map(call).collect::<Vec<_>>() })
}
