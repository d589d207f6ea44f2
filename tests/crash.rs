//! `kill -9` of the real process at random moments under load: every call that was answered 200 must reach the vendor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use support::{KEY, Sandbox, Service, post};

const SENDERS: u64 = 4;
const BATCH: u64 = 20;
const USERS: u64 = 500;

/// Rounds of starting, loading and killing.
fn rounds() -> u64 {
    if std::env::var("FANOUT_TESTS").as_deref() == Ok("quick") { 5 } else { 50 }
}

#[test]
fn every_acknowledged_call_survives_kill_9() {
    let sandbox = Sandbox::start();
    let service = Service::new(
        &format!("http://{}", sandbox.address),
        "[destinations.mixpanel]\nsettings = { project_token = \"TOKEN\" }",
    );
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let next = Arc::new(AtomicU64::new(0));
    for round in 0..rounds() {
        let fanout = service.serve();
        let over = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (acknowledged, next, over, address) =
                    (acknowledged.clone(), next.clone(), over.clone(), service.address.clone());
                std::thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let first = next.fetch_add(BATCH, Ordering::Relaxed);
                        let calls: Vec<Value> = (first..first + BATCH).map(call).collect();
                        let Ok(reply) = post(&address, "/v1/batch", KEY, &json!({ "batch": calls })) else {
                            return;
                        };
                        if reply.status == 200 {
                            assert_eq!(reply.body, r#"{"success":true}"#);
                            acknowledged.lock().unwrap().extend(first..first + BATCH);
                        }
                    }
                })
            })
            .collect();
        // The moment is random on purpose: 5 to 120 ms into the load.
        std::thread::sleep(Duration::from_micros(fastrand::u64(5_000..120_000)));
        fanout.kill();
        over.store(true, Ordering::Relaxed);
        for sender in senders {
            sender.join().unwrap();
        }
        println!("round {round}: {} acknowledged so far", acknowledged.lock().unwrap().len());
    }

    let fanout = service.serve();
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(
        acknowledged.len() as u64 > rounds() * BATCH,
        "hardly anything was acknowledged: {}",
        acknowledged.len()
    );
    let received = sandbox.wait_until("api.mixpanel.com", "every acknowledged call", |requests| {
        let delivered = delivered(requests);
        acknowledged.iter().all(|n| delivered.contains_key(n))
    });
    let delivered = delivered(&received);
    let repeated: u64 = delivered.values().map(|times| times - 1).sum();
    println!("{} acknowledged, {} delivered, {repeated} sent again", acknowledged.len(), delivered.len());
    in_order_per_user(&received);
    assert!(fanout.terminate());
}

fn call(n: u64) -> Value {
    json!({"type": "identify", "messageId": format!("m-{n}"), "userId": format!("u-{}", n % USERS), "traits": {"n": n}})
}

fn records(requests: &[Value]) -> impl Iterator<Item = (&str, u64)> {
    requests
        .iter()
        .flat_map(|request| request["body"].as_array().into_iter().flatten())
        .map(|record| (record["$distinct_id"].as_str().unwrap(), record["$set"]["n"].as_u64().unwrap()))
}

fn delivered(requests: &[Value]) -> BTreeMap<u64, u64> {
    let mut delivered = BTreeMap::new();
    for (_, n) in records(requests) {
        *delivered.entry(n).or_default() += 1;
    }
    delivered
}

/// The same user's calls arrive in the order of their first appearance, whatever is repeated after a crash: a repeated
/// call may step back, but from there on the order is that of before.
fn in_order_per_user(requests: &[Value]) {
    let mut seen: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (user, n) in records(requests) {
        let order = seen.entry(user).or_default();
        match order.iter().position(|earlier| *earlier == n) {
            Some(at) => order.truncate(at + 1),
            None => order.push(n),
        }
    }
    // One sender at a time holds a range of numbers, so a user's calls may be accepted in another order than that of
    // their numbers only between senders: never by more than the senders hold at once.
    for (user, order) in seen {
        for pair in order.windows(2) {
            assert!(pair[0] < pair[1] + SENDERS * BATCH, "{user}: {} before {}", pair[0], pair[1]);
        }
    }
}
