//! What comes twice: a call that its sender repeats is delivered once, also across restarts, and a crash sends again only
//! what was in flight, which the test counts at the vendor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fanout::queue::Code;
use serde_json::{Value, json};
use support::books;
use support::ledger::{Fate, Ledger};
use support::{Sandbox, Service};

const HOST: &str = "one.example.com";
const PATIENCE: Duration = Duration::from_secs(120);
/// Requests at one time, of one call each.
const CONCURRENCY: u64 = 8;

const HOOK: &str = r#"
    [destinations.hook]
    adapter = "webhook"
    settings = { url = "https://one.example.com/in", headers = { x-life = "${LIFE}" } }
    delivery = { max_concurrency = 8 }
"#;

/// A batch of calls, each of another user.
fn batch(calls: std::ops::Range<u64>) -> Value {
    let calls: Vec<Value> = calls
        .map(|n| {
            json!({"type": "identify", "messageId": format!("m-{n}"), "userId": n.to_string(), "traits": {"n": n}})
        })
        .collect();
    json!({ "batch": calls })
}

fn wait_for(ledger: &Ledger, what: &str, calls: u64) {
    let came = ledger.wait(PATIENCE, |vendors| vendors.get(HOST).is_some_and(|v| v.ended as u64 == calls));
    let have = ledger.read(|vendors| vendors.get(HOST).map_or(0, |vendor| vendor.ended));
    assert!(came, "{what}: {have} of {calls}");
}

#[test]
fn a_repeated_call_is_known_after_every_kind_of_restart() {
    let sandbox = Sandbox::start();
    let ledger = Ledger::of(&sandbox.address);
    let service = Service::new(&format!("http://{}", sandbox.address), HOOK);
    let mut fanout = service.serve_in(&[("LIFE", "1")]);
    service.accept("/v1/batch", &batch(1..101));
    for life in 2..6 {
        if life % 2 == 0 {
            fanout.kill();
        } else {
            assert!(fanout.terminate());
        }
        fanout = service.serve_in(&[("LIFE", &life.to_string())]);
        service.accept("/v1/batch", &batch(1..101));
        // Old ones beside a new one, which is delivered after they would be.
        service.accept("/v1/batch", &batch(1..100 + life));
    }
    wait_for(&ledger, "every call", 104);
    assert!(fanout.terminate());
    let counts = books::lanes(&service.data, &["hook"]).unwrap().remove("hook").unwrap();
    assert_eq!(counts.finished, [(Code::Delivered, 104)], "each was journalled once");
}

#[test]
fn the_window_that_a_restart_brings_back_is_the_one_that_was_there() {
    let sandbox = Sandbox::start();
    let ledger = Ledger::of(&sandbox.address);
    let window = "[queue.duplicate_window]\ncount = 1000";
    let service = Service::new(&format!("http://{}", sandbox.address), &format!("{window}\n{HOOK}"));
    let fanout = service.serve_in(&[("LIFE", "1")]);
    for first in (1..4001).step_by(200) {
        service.accept("/v1/batch", &batch(first..first + 200));
    }
    wait_for(&ledger, "every call", 4000);
    fanout.kill();
    let fanout = service.serve_in(&[("LIFE", "2")]);
    service.accept("/v1/batch", &batch(3501..4001)); // inside: dropped
    service.accept("/v1/batch", &batch(1..11)); // long outside: taken again, as memory is bounded
    service.accept("/v1/batch", &batch(4001..4002));
    wait_for(&ledger, "the new one", 4001);
    assert!(fanout.terminate());
    assert_eq!(finished(&service), Some(4011));
}

/// The vendor stops answering after a number of calls. Once the data directory says that these are delivered, nothing
/// but the requests that hang is open to doubt, so a crash sends those again and no other.
#[test]
fn a_crash_sends_again_what_was_in_flight_and_nothing_else() {
    const ANSWERED: u64 = 500;
    const CALLS: u64 = 600;
    let sandbox = Sandbox::start();
    let ledger = Ledger::of(&sandbox.address);
    sandbox.script(&json!([
        {"host": HOST, "status": 200, "times": ANSWERED},
        {"host": HOST, "then": "hang"},
    ]));
    let service = Service::new(&format!("http://{}", sandbox.address), HOOK);
    let fanout = service.serve_in(&[("LIFE", "1")]);
    service.accept("/v1/batch", &batch(1..301));
    service.accept("/v1/batch", &batch(301..CALLS + 1));
    wait_for(&ledger, "what is answered", ANSWERED);
    let hanging = |ledger: &Ledger| ledger.read(|vendors| vendors[HOST].arrivals.len() as u64) - ANSWERED;
    let end = Instant::now() + PATIENCE;
    while finished(&service) != Some(ANSWERED) {
        assert!(Instant::now() < end, "what was delivered is not written down");
    }
    fanout.kill();
    let in_flight = hanging(&ledger);
    assert!((1..=CONCURRENCY).contains(&in_flight), "{in_flight} in flight");

    sandbox.recover();
    let fanout = service.serve_in(&[("LIFE", "2")]);
    wait_for(&ledger, "every call", CALLS);
    assert!(fanout.terminate());
    let times = ledger.read(|vendors| {
        let mut times: BTreeMap<u64, u64> = BTreeMap::new();
        vendors[HOST].arrivals.iter().for_each(|arrival| *times.entry(arrival.call).or_default() += 1);
        times
    });
    let again: Vec<u64> = times.iter().filter(|(_, times)| **times > 1).map(|(call, _)| *call).collect();
    println!("{in_flight} were in flight, {} were sent again", again.len());
    assert_eq!(again.len() as u64, in_flight);
    ledger.read(|vendors| {
        for arrival in vendors[HOST].arrivals.iter().filter(|arrival| again.contains(&arrival.call)) {
            assert_eq!(arrival.fate == Fate::Taken, arrival.at.life == 2, "{arrival:?}");
        }
    });
}

/// Under load, what comes again is exactly what the vendor took and the data directory does not say: the requests that
/// were in flight and those that ended after the last checkpoint. A clean stop repeats nothing.
#[test]
fn a_crash_under_load_sends_again_only_what_was_not_written_down() {
    let sandbox = Sandbox::start();
    let ledger = Ledger::of(&sandbox.address);
    let service = Service::new(&format!("http://{}", sandbox.address), HOOK);
    let mut sent = 0;
    for (round, is_killed) in [true, true, false, true].into_iter().enumerate() {
        let (life, next_life) = (2 * round as u32 + 1, 2 * round as u32 + 2);
        let fanout = service.serve_in(&[("LIFE", &life.to_string())]);
        service.accept("/v1/batch", &batch(sent + 1..sent + 301));
        service.accept("/v1/batch", &batch(sent + 301..sent + 601));
        sent += 600;
        let goal = sent as usize - 300;
        assert!(ledger.wait(PATIENCE, |vendors| vendors.get(HOST).is_some_and(|v| v.ended >= goal)));
        if is_killed {
            fanout.kill();
        } else {
            assert!(fanout.terminate());
        }
        let written = finished(&service).unwrap();
        let fanout = service.serve_in(&[("LIFE", &next_life.to_string())]);
        wait_for(&ledger, "every call", sent);
        assert!(fanout.terminate());

        let (before, after) = ledger.read(|vendors| {
            let taken_in = |lives: std::ops::RangeInclusive<u32>| -> BTreeSet<u64> {
                let arrivals =
                    vendors[HOST].arrivals.iter().filter(|arrival| lives.contains(&arrival.at.life));
                arrivals.map(|arrival| arrival.call).collect()
            };
            (taken_in(1..=life), taken_in(next_life..=next_life))
        });
        let again = before.intersection(&after).count() as u64;
        println!("{} were taken, {written} written down, {again} sent again", before.len());
        assert_eq!(again, before.len() as u64 - written);
        assert!(is_killed || again == 0, "a clean stop repeats nothing");
        assert!(!after.is_empty() || !is_killed, "it was killed too late to show anything");
    }
}

/// How many deliveries the data directory says have ended.
fn finished(service: &Service) -> Option<u64> {
    let counts = books::lanes(&service.data, &["hook"])?.remove("hook")?;
    Some(counts.finished.iter().map(|(_, count)| *count).sum())
}
