//! Suppression as a lane uses it: which of the vendor's records an item writes to, what an outcome means for them, and
//! what is kept from one run of the lane to the next. The rule itself is `suppress`'s.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanout_sdk::destination::{Destination, Item, Outcome, Verdict};
use fanout_sdk::event::{CallType, Event, Field};
use fanout_sdk::reserved::{Group, Reserved};

use super::suppress::{Call, Ended, Record, Suppressor};
use crate::queue::{Claimed, Code, Id, Queue, Settled};

/// Where a destination's digests are between two runs of its lane.
fn saved_at(destination: &str) -> String {
    format!("digests/{destination}")
}

/// Drops what an earlier run of a lane has saved that leaves nothing out now: a replay is about to change the vendor's
/// records.
pub(super) fn forget_saved(queue: &dyn Queue<Arc<Event>>, destination: &str) {
    let key = saved_at(destination);
    let is_saved = queue.get(&key).is_some_and(|bytes| !bytes.is_empty());
    if is_saved && let Err(error) = queue.put(&key, b"") {
        tracing::warn!(destination, %error, "the saved digests of unchanged calls could not be dropped");
    }
}

/// Leaves out identifies that change nothing at one destination.
#[derive(Debug)]
pub struct Suppression {
    destination: Arc<str>,
    fingerprint: u64,
    suppressor: Mutex<Suppressor>,
}

impl Suppression {
    /// For the destination of that name. An unchanged call goes all the same `refresh` after the last one that did.
    /// `fingerprint` stands for everything besides a call on which it depends what the vendor stores, such as adapter
    /// and settings: under another one nothing that was saved holds.
    pub fn new(destination: &str, refresh: Duration, fingerprint: u64) -> Suppression {
        let refresh_ms = i64::try_from(refresh.as_millis()).unwrap_or(i64::MAX);
        Suppression {
            destination: destination.into(),
            fingerprint,
            suppressor: Mutex::new(Suppressor::new(refresh_ms)),
        }
    }

    fn suppressor(&self) -> MutexGuard<'_, Suppressor> {
        self.suppressor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the queue's key, because it was made of secrets; and with how many deliveries have ended, so that what was
    /// saved holds only where none has since: the setting may have been left out for a while.
    fn fingerprint(&self, queue: &dyn Queue<Arc<Event>>) -> u64 {
        let counts = queue.counts(&self.destination).unwrap_or_default();
        let ended: u64 = counts.finished.iter().map(|(_, count)| count).sum();
        queue.hash(&["fingerprint", &self.fingerprint.to_string(), &ended.to_string()])
    }

    /// At the start of the lane: what was saved counts from now on, and is gone from the disk, so that a crash can
    /// leave nothing that is out of date.
    pub(super) fn start(&self, queue: &dyn Queue<Arc<Event>>) {
        let mut suppressor = self.suppressor();
        suppressor.restart();
        let key = saved_at(&self.destination);
        let fingerprint = self.fingerprint(queue);
        let Some(bytes) = queue.get(&key).filter(|bytes| !bytes.is_empty()) else { return };
        match queue.put(&key, b"") {
            Ok(()) => suppressor.load(&bytes, fingerprint),
            Err(error) => tracing::warn!(
                destination = &*self.destination,
                %error,
                "could not drop the saved digests, so they are not used: unchanged calls are sent once more"
            ),
        }
    }

    /// At the end of the lane, when everything is settled. Writes to the disk.
    pub(super) fn save(&self, queue: &dyn Queue<Arc<Event>>) {
        let mut suppressor = self.suppressor();
        let bytes = suppressor.save(self.fingerprint(queue));
        suppressor.restart();
        if let Err(error) = queue.put(&saved_at(&self.destination), &bytes) {
            tracing::warn!(
                destination = &*self.destination,
                %error,
                "could not save the digests: unchanged calls are sent once more after the restart"
            );
        }
    }

    /// Whether the item changes nothing. If it may, it is under way until it is settled.
    pub(super) fn suppresses(
        &self,
        delivery: &Claimed<Arc<Event>>,
        item: &Item,
        destination: &dyn Destination,
        queue: &dyn Queue<Arc<Event>>,
        now_ms: i64,
    ) -> bool {
        let digest = std::panic::catch_unwind(AssertUnwindSafe(|| destination.digest(item))).ok();
        let call = Call {
            id: delivery.id,
            order_key: delivery.order_key,
            records: records(item, digest.unwrap_or_default(), |parts| queue.hash(parts)),
            is_comparable: digest.is_some() && item.event.call_type() == CallType::Identify,
        };
        self.suppressor().suppresses(call, now_ms)
    }

    /// A success that is not whole may be whole the next time.
    pub(super) fn sent(&self, items: &[Item], verdicts: &[Verdict], queue: &dyn Queue<Arc<Event>>) {
        for (item, verdict) in items.iter().zip(verdicts) {
            let is_done = matches!(verdict.outcome, Outcome::Delivered | Outcome::Submitted);
            if is_done && !verdict.reason.is_empty() {
                self.suppressor().spoil(person_key(&item.identity, |parts| queue.hash(parts)));
            }
        }
    }

    /// What became of deliveries; those that are not under way are ignored.
    pub(super) fn settled(&self, settled: &[(Id, Settled)], now_ms: i64) {
        let mut suppressor = self.suppressor();
        for (id, settled) in settled {
            let ended = match settled {
                Settled::Done(Code::Delivered | Code::Submitted) => Ended::Taken,
                Settled::Done(_) | Settled::Dead(_) => Ended::Over,
                _ => Ended::Unfinished,
            };
            suppressor.end(*id, ended, now_ms);
        }
    }

    /// Something else writes to the vendor's records from now on, until what this hands out is dropped; see
    /// [`Suppressor::bypass`].
    pub(super) fn bypass(self: Arc<Self>) -> Bypass {
        self.suppressor().bypass(true);
        Bypass(self)
    }
}

/// While it lives, nothing is suppressed.
pub(super) struct Bypass(Arc<Suppression>);

impl Drop for Bypass {
    fn drop(&mut self) {
        self.0.suppressor().bypass(false);
    }
}

fn person_key(name: &str, hash: impl Fn(&[&str]) -> u64) -> u64 {
    hash(&["person", name])
}

/// What an item writes to. A vendor may find one person by several names, and a company belongs to many: whoever writes
/// under one of these names changes what stands there for all.
fn records(item: &Item, digest: u64, hash: impl Fn(&[&str]) -> u64) -> Vec<Record> {
    let event = &*item.event;
    let mut records: Vec<Record> = Vec::with_capacity(4);
    let mut add = |key: u64, content: u64| {
        if !records.iter().any(|record| record.key == key) {
            records.push(Record { key, content });
        }
    };
    let previous_id = event.raw().get("previousId").filter(|_| event.call_type() == CallType::Alias);
    let previous_id = previous_id.and_then(|id| id.text());
    let names = [
        Some(&*item.identity).filter(|identity| !identity.is_empty()),
        event.user_id(),
        event.anonymous_id(),
        text(event, Reserved::Email),
        previous_id.as_deref(),
    ];
    for name in names.into_iter().flatten() {
        add(person_key(name, &hash), digest);
    }
    let companies = [Reserved::CompanyId, Reserved::CompanyName].map(|trait_| text(event, trait_));
    if companies.iter().any(Option::is_some) {
        let content = hash(&[&company(event)]);
        for name in companies.into_iter().flatten() {
            add(hash(&["company", name]), content);
        }
    }
    records
}

fn text(event: &Event, reserved: Reserved) -> Option<&str> {
    match event.reserved(reserved) {
        Field::Text(text) | Field::Number(text) => Some(text),
        Field::Absent | Field::Null | Field::Date(_) => None,
    }
}

/// Everything that the call says of the company.
fn company(event: &Event) -> String {
    let members = Group::Company.members().iter();
    let reserved: Vec<_> = members.map(|(member, _)| event.reserved(*member)).collect();
    let customs: Vec<_> =
        event.group_customs(Group::Company).map(|(key, value)| (key, value.raw())).collect();
    format!("{reserved:?} {customs:?}")
}

#[cfg(test)]
mod tests;
