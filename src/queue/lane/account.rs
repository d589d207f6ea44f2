//! What can be asked of a lane, and what is to be written down of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use super::Lane;
use crate::queue::codes::LOST;
use crate::queue::delta::{Delta, Saved};

/// Calls that a lane needs although it has gone past them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Those that are parked or opened again, by sequence.
    pub calls: BTreeSet<u64>,
    /// Those of an order key in a range, which are left in the journal.
    pub left: HashMap<u64, Range<u64>>,
}

impl Held {
    /// Whether a call is one of them.
    pub fn has(&self, seq: u64, order_key: u64) -> bool {
        self.calls.contains(&seq) || self.left.get(&order_key).is_some_and(|range| range.contains(&seq))
    }
}

impl Lane {
    /// The lowest sequence that is not finished; the next one if all are.
    pub fn low(&mut self) -> u64 {
        let low = self.window.low();
        let left = self.left.values().map(|left| left.from).min().unwrap_or(low);
        self.parked.first_key_value().map_or(low, |(parked, _)| low.min(*parked)).min(left)
    }

    /// Below this sequence the lane needs nothing of the journal but what [`Lane::held_below`] says.
    pub fn needed(&mut self) -> u64 {
        // What is left in the journal has no row of its own: after a restart the lane must not take it for a gap.
        if self.left.is_empty() { self.window.low() } else { self.window.base() }
    }

    /// What the lane needs of the calls below a sequence that is not above [`Lane::needed`].
    pub fn held_below(&self, below: u64) -> Held {
        let parked = self.parked.range(..below).map(|(seq, _)| *seq);
        let redriven = self.redriven.range(..below).map(|(seq, _)| *seq);
        let left = self.left.iter().filter(|(_, left)| left.from < below);
        Held {
            calls: parked.chain(redriven).collect(),
            left: left.map(|(order_key, left)| (*order_key, left.from..left.to)).collect(),
        }
    }

    /// Whether an event of an order key is left in the journal.
    pub fn is_left(&self, seq: u64, order_key: u64) -> bool {
        self.left.get(&order_key).is_some_and(|left| (left.from..left.to).contains(&seq))
    }

    /// When the oldest event that was taken in and is not finished was received: milliseconds since 1970.
    pub fn oldest_received_at_ms(&mut self) -> Option<i64> {
        let low = self.low();
        let left = || self.left.values().find(|left| left.from == low).map(|left| left.received_at_ms);
        self.slot(low).map(|slot| slot.received_at_ms).or_else(left)
    }

    /// How many sequences that the lane has not come to are known to be finished, by an earlier run.
    pub fn known_ahead(&self) -> u64 {
        self.window.known_ahead()
    }

    /// Whether an event is taken in and not finished.
    pub fn is_open(&self, seq: u64) -> bool {
        self.slot(seq).is_some()
    }

    /// How many events are taken in and not finished.
    pub fn open(&self) -> u64 {
        self.open
    }

    /// How many of them are claimed.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// How many of them wait for another attempt.
    pub fn retrying(&self) -> u64 {
        self.retries.len() as u64
    }

    /// How many of them are parked.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// How many deliveries have ended, by code, since the lane began.
    pub fn counts(&self) -> &BTreeMap<u8, u64> {
        &self.counts
    }

    /// How many deliveries are not finished, when so many calls have been journalled.
    pub fn unfinished(&self, journalled: u64) -> u64 {
        journalled.saturating_sub(self.begin).saturating_sub(self.finished)
    }

    /// To be called when the lane has come to the journal's end, where what is open is known: calls that were counted
    /// and that the journal does not have any more are dead, lost. Hands out how many those were.
    pub fn reconcile(&mut self, journalled: u64) -> u64 {
        let begin = journalled.saturating_sub(self.finished + self.open);
        let missing = begin.saturating_sub(self.begin);
        if missing > 0 {
            self.count(LOST, missing);
            self.changed = true;
        } else if begin < self.begin {
            self.begin = begin;
            self.changed = true;
        }
        missing
    }

    /// The state of a sequence in the window, as a number of [`crate::queue::codes`].
    pub fn state(&self, seq: u64) -> u8 {
        self.window.state(seq)
    }

    /// Whether there is something for [`Self::checkpoint`].
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// What [`Self::resume`] needs of a lane in which nothing is open.
    pub fn saved(&mut self) -> Saved {
        let mut chunks = BTreeMap::new();
        self.window.all(|number, bytes| drop(chunks.insert(number, bytes)));
        let (base, begin, counts) = (self.window.base(), self.begin, self.counts.clone());
        Saved { base, begin, counts, chunks, ..Saved::default() }
    }

    /// What has to be written down since the last call; `None` if nothing changed.
    pub fn checkpoint(&mut self) -> Option<Delta> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut delta = std::mem::take(&mut self.delta);
        for (order_key, left) in self.left.iter_mut().filter(|(_, left)| left.changed) {
            left.changed = false;
            let before = left.row_at.replace(left.last());
            delta.rows.extend(before.map(|at| (at, None)));
            delta.rows.insert(left.last(), Some(left.row(*order_key)));
        }
        self.window.changed(|number, bytes| drop(delta.chunks.insert(number, bytes)));
        delta.base = self.window.base();
        delta.needed = self.needed();
        delta.begin = self.begin;
        Some(delta)
    }
}
