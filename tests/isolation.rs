//! Twenty destinations, four of which are in four kinds of trouble: what goes wrong at one costs the others nothing, and
//! ingest nothing. How fast the others are beside them is measured by `benches/isolation.rs`, not asserted here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::books::{self, Metrics};
use support::ledger::{DRIPPED, Fate, Ledger};
use support::{KEY, Sandbox, Service, post};

const SENDERS: u64 = 4;
const BATCHES: u64 = 25;
const BATCH: u64 = 10;
const CALLS: u64 = SENDERS * BATCHES * BATCH;
const USERS: u64 = 25;
/// What a call carries beside its number.
const PADDING: usize = 2 * 1024;
const HEALTHY: usize = 16;
/// The bad ones: never answers, answers a byte a second, answers 500, and changes its mind.
const TROUBLED: [&str; 4] = ["hole", "drip", "down", "flap"];
/// What the process may take. All lanes that keep up share one copy of the newest calls, at most 32 MiB of bodies, which
/// decoded are five times that; each of the four that are behind keeps at most 2 MiB of what it reads, decoded five times
/// that, and some hundred items: 200 MiB. The rest is for the lanes' windows (1.1 MiB each), connections, threads and what
/// the allocator keeps. `PADDING` is small, so a process that keeps its bounds stays far below.
const MEMORY: u64 = 256 << 20;
/// Long enough for answers that never come to be given up (15 s each) and for waits that have doubled a few times.
const RECOVERY: Duration = Duration::from_secs(240);

#[test]
fn four_vendors_in_trouble_cost_sixteen_others_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let sandbox = Sandbox::start();
    let ledger = Ledger::of(&sandbox.address);
    bring_trouble(&sandbox, fastrand::Rng::with_seed(seed));
    let names: Vec<String> = (0..HEALTHY).map(healthy).chain(TROUBLED.map(str::to_owned)).collect();
    let service = Service::new(&format!("http://{}", sandbox.address), &destinations(&names));
    let fanout = service.serve();

    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let service = &service;
            scope.spawn(move || send(service, sender));
        }
    });
    let is_complete = |name: &String| {
        ledger.wait(RECOVERY, |vendors| vendors.get(&host(name)).is_some_and(|v| v.ended == CALLS as usize))
    };
    for name in &names[..HEALTHY] {
        assert!(is_complete(name), "{name} did not receive everything beside vendors in trouble");
    }

    // The healthy ones are complete, and the others still owe all that they ever got: nothing waited for them.
    let metrics = Metrics::of(&service.admin);
    for name in &TROUBLED[..3] {
        assert_eq!(metrics.pending(name), Some(CALLS), "{name} keeps everything");
        let taken = ledger.read(|vendors| vendors.get(&host(name)).map_or(0, |vendor| vendor.ended));
        assert_eq!(taken, 0, "{name} is still bad");
    }
    let attempted = ledger.read(|vendors| TROUBLED.map(|name| vendors.contains_key(&host(name))));
    assert_eq!(attempted, [true; 4], "each was tried");
    let memory = books::peak_memory(fanout.pid());
    println!("peak memory {} MiB beside four troubled lanes", memory >> 20);
    assert!(memory < MEMORY, "{} MiB", memory >> 20);

    sandbox.recover();
    for name in &names {
        assert!(is_complete(name), "{name} did not receive everything after its recovery");
    }
    ledger.read(|vendors| {
        for name in &names {
            let vendor = &vendors[&host(name)];
            assert_eq!(vendor.disorder(false), None, "{name}");
            assert!(vendor.fates().values().all(|fate| *fate == Fate::Taken), "{name}");
        }
        for name in &names[..HEALTHY] {
            assert_eq!(vendors[&host(name)].arrivals.len() as u64, CALLS, "{name}: everything came once");
        }
    });
    assert!(fanout.terminate());
    let lanes = books::lanes(&service.data, &names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    for (name, counts) in lanes {
        assert_eq!(counts.finished, [(fanout::queue::Code::Delivered, CALLS)], "{name}");
        assert_eq!(counts.unfinished, 0, "{name}");
    }
}

fn healthy(number: usize) -> String {
    format!("well{number}")
}

fn host(name: &str) -> String {
    format!("{name}.example.com")
}

/// Half of the healthy ones take one call a request, the others up to fifty.
fn destinations(names: &[String]) -> String {
    let table = |(number, name): (usize, &String)| {
        let many = if number < HEALTHY && number % 2 == 1 { ", max_batch = 50" } else { "" };
        let url = format!("https://{}/in", host(name));
        format!("[destinations.{name}]\nadapter = \"webhook\"\nsettings = {{ url = \"{url}\"{many} }}\n")
    };
    names.iter().enumerate().map(table).collect()
}

fn bring_trouble(sandbox: &Sandbox, mut random: fastrand::Rng) {
    sandbox.script(&json!([
        {"host": host("hole"), "then": "hang"},
        {"host": host("drip"), "status": DRIPPED, "body": "thirty bytes, one every second", "drip_ms": 1000},
        {"host": host("down"), "status": 500},
    ]));
    let moods: Vec<Value> = (0..500)
        .map(|_| {
            let mut rule = match random.u8(..3) {
                0 => json!({"status": 503}),
                1 => json!({"then": "drop"}),
                _ => json!({"status": 200}),
            };
            rule["host"] = json!(host("flap"));
            rule["times"] = json!(random.u64(1..4));
            rule
        })
        .collect();
    sandbox.script(&json!(moods));
}

/// A user belongs to one sender, so that the order of its calls is known; nothing but 200 is ever the answer.
fn send(service: &Service, sender: u64) {
    let padding = "x".repeat(PADDING);
    for batch in 0..BATCHES {
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        let calls: Vec<Value> = numbers
            .map(|n| {
                let (call, user) = (n * SENDERS + sender + 1, sender * USERS + n % USERS);
                json!({"type": "identify", "messageId": format!("m-{call}"), "userId": user.to_string(),
                    "traits": {"n": call, "padding": padding}})
            })
            .collect();
        let reply = post(&service.address, "/v1/batch", KEY, &json!({ "batch": calls })).unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"success":true}"#));
    }
}
