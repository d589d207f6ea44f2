//! Who sends calls during the soak, in requests large and small, some of them twice, with flags of both kinds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::run::Run;
use super::support::ledger::Received;
use super::support::post;
use super::vendors::{DESTINATIONS, STEADY};
use super::{PATIENCE, SOURCES};

/// Of one sender.
pub const USERS: u64 = 20;

/// In one request.
pub const MOST_CALLS: u64 = 60;

/// A call that was acknowledged.
#[derive(Clone, Debug)]
pub struct Call {
    pub source: &'static str,
    pub user: u64,
    /// The destinations that it is flagged off for.
    pub off: BTreeSet<&'static str>,
    /// Its traits, each with what tells one value from another.
    pub traits: BTreeMap<&'static str, u64>,
}

/// What a call may have besides its number, a plan that is often the one before, and padding, so that a later one may set again some of its traits and not all.
const FURTHER_TRAITS: [&str; 3] = ["color", "size", "weight"];

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
    number: u64,
    random: fastrand::Rng,
    run: &'a Run,
    /// Requests that were acknowledged, some of which are sent again.
    sent: Vec<(&'static str, Value)>,
    /// By user: the latest.
    plans: HashMap<u64, u64>,
}

impl<'a> Sender<'a> {
    pub fn new(number: u64, random: fastrand::Rng, run: &'a Run) -> Sender<'a> {
        Sender { number, random, run, sent: Vec::new(), plans: HashMap::new() }
    }

    pub fn run(mut self) {
        while !self.run.over.load(Ordering::Relaxed) {
            let Some(last) = self.send_some() else { return };
            self.run.ledger.wait(PATIENCE, |vendors| {
                let has_come = |vendor: &Received| vendor.has_ended(last);
                self.run.over.load(Ordering::Relaxed) || vendors.get(STEADY.host).is_some_and(has_come)
            });
        }
    }

    /// The number of the last call, which was acknowledged; nothing when the run has failed.
    fn send_some(&mut self) -> Option<u64> {
        let _on_their_way = self.run.calm.read().unwrap();
        let (source, key) = SOURCES[self.random.usize(..SOURCES.len())];
        let calls = self.calls(source);
        let bodies: Vec<Value> = calls.iter().map(|(number, call)| self.body(*number, call)).collect();
        let body = json!({ "batch": bodies });
        self.send_until_taken(key, &body)?;
        let last = calls.last().map(|(number, _)| *number);
        self.run.acknowledged.lock().unwrap().extend(calls);
        if self.random.u8(..10) == 0 && !self.sent.is_empty() {
            let (key, again) = self.sent[self.random.usize(..self.sent.len())].clone();
            self.send_until_taken(key, &again)?;
        }
        if self.sent.len() < 50 {
            self.sent.push((key, body));
        }
        last
    }

    fn calls(&mut self, source: &'static str) -> Vec<(u64, Call)> {
        let count = match self.random.u8(..4) {
            0 | 1 => 1,
            2 => self.random.u64(2..10),
            _ => self.random.u64(10..=MOST_CALLS),
        };
        let first = self.run.sent.fetch_add(count, Ordering::Relaxed) + 1;
        (first..first + count).map(|number| (number, self.call(source, number))).collect()
    }

    fn call(&mut self, source: &'static str, number: u64) -> Call {
        let user = self.number * USERS + self.random.u64(..USERS);
        let plan = self.plans.entry(user).or_default();
        if self.random.bool() {
            *plan = self.random.u64(..3);
        }
        let padding = match self.random.u8(..50) {
            0 => self.random.u64(..20_000),
            _ => self.random.u64(..100),
        };
        let mut traits = BTreeMap::from([("n", number), ("plan", *plan), ("padding", padding)]);
        let further = FURTHER_TRAITS.into_iter().filter(|_| self.random.u8(..4) == 0);
        traits.extend(further.map(|name| (name, number)));
        Call { source, user, off: self.flagged_off(), traits }
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
        let value = |(name, value): (&&str, &u64)| match *name {
            "padding" => json!("x".repeat(*value as usize)),
            "plan" => json!(format!("plan {value}")),
            _ => json!(value),
        };
        let traits: serde_json::Map<String, Value> =
            call.traits.iter().map(|one| ((*one.0).to_owned(), value(one))).collect();
        json!({"type": "identify", "messageId": format!("m-{number}"), "userId": call.user.to_string(),
            "integrations": flags, "traits": traits})
    }

    /// Nothing when the run has failed and nobody takes calls any more.
    fn send_until_taken(&self, key: &str, body: &Value) -> Option<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            match post(&self.run.tracking, "/v1/batch", key, body) {
                Ok(reply) if reply.status == 200 => return Some(()),
                Ok(reply) if reply.status == 503 => self.run.refusals.add(),
                Ok(reply) => panic!("{}: {}", reply.status, reply.body),
                Err(_) => {} // It was killed meanwhile.
            }
            if self.run.has_failed.load(Ordering::Relaxed) {
                return None;
            }
            assert!(Instant::now() < end, "calls are not taken");
            // As an SDK does: nothing tells it when to try again.
            std::thread::sleep(Duration::from_millis(25));
        }
    }
}
