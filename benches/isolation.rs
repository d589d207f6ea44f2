//! What vendors in trouble cost the others: how many calls a second sixteen healthy destinations deliver, and how long a
//! batch takes to reach them all, by themselves and beside four in trouble, in turns in one run.
//!
//! `cargo bench --bench isolation [-- SECONDS]`. It prints figures and asserts nothing about time.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::books::Metrics;
use support::{KEY, Process, Sandbox, Service, post};

const HEALTHY: usize = 16;
const TROUBLED: [&str; 4] = ["hole", "drip", "down", "flap"];
const BATCH: u64 = 50;
/// How often one is measured after the other, so that what the machine does besides hits both alike.
const ROUNDS: usize = 3;

/// What one measurement gave.
#[derive(Clone, Copy, Default)]
struct Figures {
    calls_a_second: f64,
    median_ms: f64,
    worst_of_a_hundred_ms: f64,
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(6);
    println!("{:<24} {:>10} {:>12} {:>12}", "sixteen healthy", "calls/s", "p50 ms", "p99 ms");
    let mut sums = [Figures::default(); 2];
    for _ in 0..ROUNDS {
        for (sum, in_trouble) in sums.iter_mut().zip([false, true]) {
            let figures = measure(in_trouble, Duration::from_secs(seconds));
            show(if in_trouble { "beside four in trouble" } else { "by themselves" }, figures);
            sum.calls_a_second += figures.calls_a_second;
            sum.median_ms += figures.median_ms;
            sum.worst_of_a_hundred_ms += figures.worst_of_a_hundred_ms;
        }
    }
    let [alone, beside] = sums;
    show(
        "beside / by themselves",
        Figures {
            calls_a_second: beside.calls_a_second / alone.calls_a_second,
            median_ms: beside.median_ms / alone.median_ms,
            worst_of_a_hundred_ms: beside.worst_of_a_hundred_ms / alone.worst_of_a_hundred_ms,
        },
    );
}

fn show(what: &str, figures: Figures) {
    let Figures { calls_a_second, median_ms, worst_of_a_hundred_ms } = figures;
    println!("{what:<24} {calls_a_second:>10.2} {median_ms:>12.2} {worst_of_a_hundred_ms:>12.2}");
}

/// Sends batch after batch, each when all healthy destinations have the one before, so that the time from one to the
/// next is the time that a batch takes from the sender to sixteen vendors.
fn measure(in_trouble: bool, time: Duration) -> Figures {
    let sandbox = counting_sandbox();
    if in_trouble {
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
    let service = Service::new(&format!("http://{}", sandbox.address), &destinations(in_trouble));
    let fanout = service.serve();
    let mut took = Vec::new();
    let begin = Instant::now();
    let mut sent = 0;
    while begin.elapsed() < time {
        let start = Instant::now();
        let reply = post(&service.address, "/v1/batch", KEY, &batch(sent)).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        sent += BATCH;
        while !everyone_has(&service.admin, sent) {}
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

fn counting_sandbox() -> Sandbox {
    let mut process = Process::fanout(&["sandbox", "--listen", "127.0.0.1:0", "--count-only"]);
    let url = process.wait_for("sandbox");
    Sandbox { process, address: url.trim_start_matches("http://").to_owned() }
}

fn everyone_has(admin: &str, calls: u64) -> bool {
    let metrics = Metrics::of(admin);
    (0..HEALTHY).all(|number| metrics.deliveries(&healthy(number), "delivered") >= calls)
}

fn healthy(number: usize) -> String {
    format!("well{number}")
}

fn host(name: &str) -> String {
    format!("{name}.example.com")
}

fn destinations(in_trouble: bool) -> String {
    let troubled = TROUBLED.iter().filter(|_| in_trouble).map(|name| (*name).to_owned());
    let names = (0..HEALTHY).map(healthy).chain(troubled);
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
