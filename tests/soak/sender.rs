//! Who sends calls during the soak, in requests large and small, some of them twice, with flags of both kinds.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::ledger::Received;
use super::support::post;
use super::vendors::{DESTINATIONS, STEADY};
use super::{PATIENCE, Run, SOURCES};

/// Of one sender.
const USERS: u64 = 20;

/// A call that was acknowledged.
#[derive(Clone, Debug)]
pub struct Call {
    pub source: &'static str,
    /// The destinations that it is flagged off for.
    pub off: BTreeSet<&'static str>,
}

/// Tells who waits when a call could not be taken.
#[derive(Default)]
pub struct Refusals {
    count: Mutex<u64>,
    news: Condvar,
}

impl Refusals {
    pub fn add(&self) {
        *self.count.lock().unwrap() += 1;
        self.news.notify_all();
    }

    pub fn wait_for_another(&self) -> bool {
        let count = self.count.lock().unwrap();
        let before = *count;
        !self.news.wait_timeout_while(count, PATIENCE, |count| *count == before).unwrap().1.timed_out()
    }
}

/// A sender, who behaves as an SDK does: the next calls go when those before were acknowledged, and the same ones again
/// until they are. A user belongs to one sender, so that the order of its calls is known.
pub struct Sender<'a> {
    pub number: u64,
    pub random: fastrand::Rng,
    pub run: &'a Run,
    /// Requests that were acknowledged, some of which are sent again.
    pub sent: Vec<(&'static str, Value)>,
}

impl Sender<'_> {
    pub fn run(mut self) {
        while !self.run.over.load(Ordering::Relaxed) {
            let (source, key) = SOURCES[self.random.usize(..SOURCES.len())];
            let calls = self.calls(source);
            let bodies: Vec<Value> = calls.iter().map(|(number, call)| self.body(*number, call)).collect();
            let body = json!({ "batch": bodies });
            if !self.send_until_taken(key, &body) {
                return;
            }
            let last = *calls.last().map(|(number, _)| number).unwrap();
            self.run.acknowledged.lock().unwrap().extend(calls);
            if self.random.u8(..10) == 0 && !self.sent.is_empty() {
                let (key, again) = self.sent[self.random.usize(..self.sent.len())].clone();
                if !self.send_until_taken(key, &again) {
                    return;
                }
            }
            if self.sent.len() < 50 {
                self.sent.push((key, body));
            }
            self.run.ledger.wait(PATIENCE, |vendors| {
                let has_come = |vendor: &Received| vendor.has_ended(last);
                self.run.over.load(Ordering::Relaxed) || vendors.get(STEADY.host).is_some_and(has_come)
            });
        }
    }

    fn calls(&mut self, source: &'static str) -> Vec<(u64, Call)> {
        let count = match self.random.u8(..4) {
            0 | 1 => 1,
            2 => self.random.u64(2..10),
            _ => self.random.u64(10..60),
        };
        let first = self.run.sent.fetch_add(count, Ordering::Relaxed) + 1;
        (first..first + count).map(|number| (number, Call { source, off: self.flagged_off() })).collect()
    }

    fn flagged_off(&mut self) -> BTreeSet<&'static str> {
        if self.random.u8(..4) > 0 {
            return BTreeSet::new();
        }
        let names = DESTINATIONS.iter().filter(|one| one.is_tried).map(|one| one.name);
        names.filter(|_| self.random.bool()).collect()
    }

    /// Flags are written in both ways: what is off, or that all is off but these.
    fn body(&mut self, number: u64, call: &Call) -> Value {
        let mut flags = serde_json::Map::new();
        let all_off = self.random.bool() && !call.off.is_empty();
        if all_off {
            flags.insert("All".to_owned(), json!(false));
        }
        for one in DESTINATIONS.iter().filter(|one| call.off.contains(one.name) != all_off) {
            flags.insert(one.name.to_owned(), json!(all_off));
        }
        let padding = match self.random.u8(..50) {
            0 => self.random.usize(..20_000),
            _ => self.random.usize(..100),
        };
        let user = self.number * USERS + self.random.u64(..USERS);
        json!({"type": "identify", "messageId": format!("m-{number}"), "userId": user.to_string(),
            "integrations": flags, "traits": {"n": number, "padding": "x".repeat(padding)}})
    }

    /// `false` when the run has failed and nobody takes calls any more.
    fn send_until_taken(&self, key: &str, body: &Value) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            match post(&self.run.tracking, "/v1/batch", key, body) {
                Ok(reply) if reply.status == 200 => return true,
                Ok(reply) if reply.status == 503 => self.run.refusals.add(),
                Ok(reply) => panic!("{}: {}", reply.status, reply.body),
                Err(_) => {} // It was killed meanwhile.
            }
            if self.run.has_failed.load(Ordering::Relaxed) {
                return false;
            }
            assert!(Instant::now() < end, "calls are not taken");
            // As an SDK does: nothing tells it when to try again.
            std::thread::sleep(Duration::from_millis(25));
        }
    }
}
