//! Which identifies change nothing at the vendor and need not be sent. Pure: calls, how they ended, and the time come
//! in as arguments. It knows neither vendors nor queues; what a call writes to and how it is hashed is `suppression`'s.
//!
//! A call writes to *records* of the vendor: the person's, under each of its names, and the company's. For each record
//! is kept what is known of it: the content that the vendor took last and when, or that a call which tried to write it
//! is not finished. A call is suppressed when each of its records is known to hold exactly what it would write, the
//! vendor took that not longer ago than the refresh time, and no call in the lane is about to write to one of them.
//!
//! - Content is compared with what was taken last, not with anything before it: A → B → A is sent three times.
//! - What overlaps commits nothing: of two calls under way to one record nobody knows which the vendor applied last.
//! - A call that was tried and is not finished (retrying, parked, given back) may have reached the vendor all the same:
//!   its records are unsure until it is finished, or a later call of its order key comes, which comes only then. A call
//!   that is still behind another one in the queue was not tried and cannot have changed anything: the one suppressed
//!   before it changes nothing either, so that the record ends the same.
//! - Whatever was refused, or is no identify, leaves nothing known of its records.
//!
//! Memory is bounded by [`MOST_RECORDS`]; the records least recently seen go first, and their calls are sent again.

use std::collections::HashMap;

use crate::queue::Id;

/// The most records of which something is known; of a user that calls identify with a userId, an anonymousId and an
/// e-mail address there are three. At most 9 MiB, and 13 as seen from outside.
pub const MOST_RECORDS: usize = 229_376;
/// What a table of 2^17 places holds before it grows.
const GENERATION: usize = MOST_RECORDS / 2;
/// How long a record can be unsure: longer than any delivery is tried.
const UNSURE_MS: i64 = 62 * 24 * 60 * 60 * 1000;
/// The first byte of what is saved.
const FORMAT: u8 = 1;
/// What one record takes there.
const SAVED_BYTES: usize = 25;
/// Stands for the order key where calls of several are unfinished.
const SEVERAL: u64 = u64::MAX;

/// Something at the vendor that a call writes to, and what it would write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which: a hash of its name.
    pub key: u64,
    /// A hash of what the call writes.
    pub content: u64,
}

/// A claimed delivery that is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// As the queue names it.
    pub id: Id,
    /// Whose it is.
    pub order_key: u64,
    /// What it writes to, each once.
    pub records: Vec<Record>,
    /// Whether it may be suppressed, and others after it because of it: an identify whose content is known.
    pub is_comparable: bool,
}

/// How a delivery that was not suppressed ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The vendor took it.
    Taken,
    /// It comes again.
    Unfinished,
    /// It is over, and the vendor did not take it.
    Over,
}

/// What is known of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// The vendor took this last, then.
    Taken { content: u64, at_ms: i64 },
    /// A call of this order key may have changed it, and is not finished.
    Unsure { order_key: u64, at_ms: i64 },
}

/// A record that calls of the lane are about to write to.
#[derive(Debug, Default)]
struct Open {
    calls: u32,
    /// What they leave cannot be told.
    spoiled: bool,
}

/// What one lane knows of its vendor's records.
#[derive(Debug)]
pub struct Suppressor {
    refresh_ms: i64,
    known: Recent,
    open: HashMap<u64, Open>,
    under_way: HashMap<Id, Call>,
    /// How many write to the vendor besides the lane.
    others: u32,
}

impl Suppressor {
    /// Knows nothing yet. An unchanged call goes all the same `refresh_ms` after the last one that did.
    pub fn new(refresh_ms: i64) -> Suppressor {
        Suppressor {
            refresh_ms,
            known: Recent::new(GENERATION),
            open: HashMap::new(),
            under_way: HashMap::new(),
            others: 0,
        }
    }

    /// Whether the call is to be suppressed. If not, it is under way until [`Suppressor::end`].
    pub fn suppresses(&mut self, call: Call, now_ms: i64) -> bool {
        let may_be = self.others == 0 && call.is_comparable && !call.records.is_empty();
        if may_be && call.records.iter().all(|record| self.holds(*record, now_ms)) {
            return true;
        }
        for record in &call.records {
            let open = self.open.entry(record.key).or_default();
            open.calls += 1;
            open.spoiled |= open.calls > 1;
        }
        self.under_way.insert(call.id, call);
        false
    }

    /// Whether the vendor's record is certain to hold what the call would write.
    fn holds(&mut self, record: Record, now_ms: i64) -> bool {
        let refresh = 0..self.refresh_ms;
        !self.open.contains_key(&record.key)
            && matches!(
                self.known.get(record.key),
                Some(Known::Taken { content, at_ms })
                    if content == record.content && refresh.contains(&now_ms.saturating_sub(at_ms))
            )
    }

    /// A call that was not suppressed has ended; others are ignored.
    pub fn end(&mut self, id: Id, ended: Ended, now_ms: i64) {
        let Some(call) = self.under_way.remove(&id) else { return };
        for record in &call.records {
            let is_spoiled = self.close(record.key) || self.others > 0;
            let other = self.unfinished_other(record.key, call.order_key, now_ms);
            match (ended, other) {
                (Ended::Unfinished, other) => {
                    let order_key = if other { SEVERAL } else { call.order_key };
                    self.known.set(record.key, Known::Unsure { order_key, at_ms: now_ms });
                }
                (_, true) => {}
                (Ended::Taken, false) if call.is_comparable && !is_spoiled => {
                    self.known.set(record.key, Known::Taken { content: record.content, at_ms: now_ms });
                }
                (Ended::Taken | Ended::Over, false) => self.known.remove(record.key),
            }
        }
    }

    /// One call fewer writes to the record. Whether it cannot be told what they left.
    fn close(&mut self, key: u64) -> bool {
        let Some(open) = self.open.get_mut(&key) else { return true };
        open.calls = open.calls.saturating_sub(1);
        let is_spoiled = open.spoiled;
        if open.calls == 0 {
            self.open.remove(&key);
        }
        is_spoiled
    }

    /// Whether a call of another order key has tried to write the record and is not finished.
    fn unfinished_other(&mut self, key: u64, own: u64, now_ms: i64) -> bool {
        matches!(
            self.known.get(key),
            Some(Known::Unsure { order_key, at_ms })
                if order_key != own && now_ms.saturating_sub(at_ms) < UNSURE_MS
        )
    }

    /// What is written to the record now does not count, as when the vendor took a part of it only.
    pub fn spoil(&mut self, key: u64) {
        if let Some(open) = self.open.get_mut(&key) {
            open.spoiled = true;
        }
    }

    /// While something else writes to the vendor's records, such as a replay, nothing is suppressed and nothing that
    /// the vendor takes counts; at its beginning and its end everything is forgotten.
    /// Of several each is told of by itself.
    pub fn bypass(&mut self, begins: bool) {
        self.others = if begins { self.others.saturating_add(1) } else { self.others.saturating_sub(1) };
        self.open.values_mut().for_each(|open| open.spoiled = true);
        self.known.keep(|known| matches!(known, Known::Unsure { .. }));
    }

    /// Knows nothing again, as after a crash; nothing is under way.
    pub fn restart(&mut self) {
        let others = self.others;
        *self = Suppressor { others, ..Suppressor::new(self.refresh_ms) };
    }

    /// For a clean shutdown, when nothing is under way any more. `fingerprint` stands for everything that the contents
    /// depend on besides the calls.
    pub fn save(&self, fingerprint: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9 + self.known.len() * SAVED_BYTES);
        bytes.push(FORMAT);
        bytes.extend(fingerprint.to_le_bytes());
        for (key, known) in self.known.oldest_first() {
            let (kind, what, at_ms) = match known {
                Known::Taken { content, at_ms } => (0, content, at_ms),
                Known::Unsure { order_key, at_ms } => (1, order_key, at_ms),
            };
            bytes.extend(key.to_le_bytes());
            bytes.push(kind);
            bytes.extend(what.to_le_bytes());
            bytes.extend(at_ms.to_le_bytes());
        }
        bytes
    }

    /// Takes over what was saved; nothing if that is under another fingerprint, of another format or cut short.
    pub fn load(&mut self, bytes: &[u8], fingerprint: u64) {
        let Some((FORMAT, rest)) = bytes.split_first().map(|(format, rest)| (*format, rest)) else { return };
        let Some((saved_under, rest)) = rest.split_first_chunk() else { return };
        let (records, cut) = rest.as_chunks::<SAVED_BYTES>();
        if u64::from_le_bytes(*saved_under) != fingerprint || !cut.is_empty() {
            return;
        }
        for record in records {
            if let Some((key, known)) = loaded(record) {
                self.known.set(key, known);
            }
        }
    }
}

fn loaded(record: &[u8; SAVED_BYTES]) -> Option<(u64, Known)> {
    let (key, rest) = record.split_first_chunk()?;
    let (kind, rest) = rest.split_first()?;
    let (what, rest) = rest.split_first_chunk()?;
    let at_ms = i64::from_le_bytes(*rest.first_chunk()?);
    let what = u64::from_le_bytes(*what);
    let known = match kind {
        0 => Known::Taken { content: what, at_ms },
        1 => Known::Unsure { order_key: what, at_ms },
        _ => return None,
    };
    Some((u64::from_le_bytes(*key), known))
}

/// A map of two generations: when the young one is full, it becomes the old one, and what was old and not asked for
/// meanwhile is gone.
#[derive(Debug)]
struct Recent {
    most: usize,
    young: HashMap<u64, Known>,
    old: HashMap<u64, Known>,
}

impl Recent {
    fn new(most: usize) -> Recent {
        Recent { most, young: HashMap::new(), old: HashMap::new() }
    }

    fn get(&mut self, key: u64) -> Option<Known> {
        if let Some(known) = self.young.get(&key) {
            return Some(*known);
        }
        let known = self.old.remove(&key)?;
        self.set(key, known);
        Some(known)
    }

    fn set(&mut self, key: u64, known: Known) {
        self.old.remove(&key);
        if self.young.len() >= self.most && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, known);
    }

    fn remove(&mut self, key: u64) {
        self.young.remove(&key);
        self.old.remove(&key);
    }

    fn keep(&mut self, keep: impl Fn(&Known) -> bool) {
        self.young.retain(|_, known| keep(known));
        self.old.retain(|_, known| keep(known));
    }

    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn oldest_first(&self) -> impl Iterator<Item = (u64, Known)> {
        self.old.iter().chain(&self.young).map(|(key, known)| (*key, *known))
    }
}

#[cfg(test)]
mod tests;
