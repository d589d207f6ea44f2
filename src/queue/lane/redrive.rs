//! Dead letters that are opened again: how they come back into a lane that has gone past them.
//!
//! One that the window still holds is opened there; one that it has left is parked. Each has a row, so that it is found
//! again after a restart even when the journal does not have its call any more.

use super::super::codes::UNREAD;
use super::super::delta::Row;
use super::super::window::Slot;
use super::Lane;
use super::gates::{Gate, Phase};

/// A dead letter to be opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its sequence.
    pub seq: u64,
    /// The number of the code it ended with.
    pub number: u8,
    /// Its order key.
    pub order_key: u64,
    /// When its call was received: milliseconds since 1970.
    pub received_at_ms: i64,
    /// Whether it is sent with what later calls have set again.
    pub whole: bool,
}

impl Gate {
    /// Puts an older delivery where it belongs. `true` if there is another head now, in the place of one that was ready.
    pub(super) fn insert(&mut self, seq: u64) -> bool {
        self.queue_up(seq);
        if seq > self.head || self.phase != Phase::Ready || self.attempts > 0 {
            return false;
        }
        // The oldest goes first, which may be one that came behind the head while that was in flight.
        let Some(oldest) = self.behind.pop_front() else { return false };
        let head = std::mem::replace(&mut self.head, oldest);
        self.queue_up(head);
        self.has_row = true;
        true
    }

    fn queue_up(&mut self, seq: u64) {
        let at = self.behind.partition_point(|behind| *behind < seq);
        self.behind.insert(at, seq);
    }
}

impl Lane {
    /// Opens a dead letter again, before the later ones of its order key that have not begun. `false` if the lane has not
    /// come to it, if it is open, or if there are too many.
    pub fn redrive(&mut self, letter: Letter) -> bool {
        let Letter { seq, number, order_key, received_at_ms, whole } = letter;
        let in_window = seq >= self.window.base();
        let has_it = seq < self.next() && (!in_window || self.window.state(seq) == number);
        if !has_it || self.slot(seq).is_some() || self.redriven.len() >= self.limits.parked.div_ceil(2) {
            return false;
        }
        let slot = Slot { order_key, received_at_ms };
        if in_window {
            self.window.reopen(seq, slot);
        } else {
            self.parked.insert(seq, slot);
            self.delta.patches.push((seq, UNREAD));
        }
        let count = self.counts.entry(number).or_default();
        *count = count.saturating_sub(1);
        self.delta.counts.insert(number, *count);
        self.finished = self.finished.saturating_sub(1);
        self.redriven.insert(seq, whole);
        self.delta.redriven.insert(seq, Some(whole));
        let row = Row { order_key, received_at_ms, ..Row::default() };
        self.delta.rows.insert(seq, Some(row.clone()));
        self.enter(seq, order_key, Some(row));
        self.changed = true;
        true
    }

    /// After a restart: what was opened again below a sequence is taken in from its row, in case the journal does not
    /// have its call any more. `false`: there is no room for all of it.
    pub(super) fn take_in_redriven(&mut self, below: u64) -> bool {
        loop {
            let mut ahead = self.resumed.range(self.next()..below);
            let row = ahead.find(|(seq, _)| self.redriven.contains_key(seq));
            let Some((seq, slot)) = row.map(|(seq, row)| (*seq, (row.order_key, row.received_at_ms))) else {
                return true;
            };
            if !self.pass_gap(seq) || !self.make_room() {
                return false;
            }
            self.admit(seq, slot.0, slot.1);
        }
    }

    /// Whether an open delivery was a dead letter and is to be sent without what later calls have set again.
    pub fn is_to_be_reduced(&self, seq: u64) -> bool {
        !self.redriven.is_empty() && self.redriven.get(&seq) == Some(&false)
    }

    /// Whether an open delivery was a dead letter and is to be sent with what later calls have set again.
    pub fn is_to_be_whole(&self, seq: u64) -> bool {
        !self.redriven.is_empty() && self.redriven.get(&seq) == Some(&true)
    }

    /// The lowest open sequence that was a dead letter, and the order keys of all of them.
    pub fn redriven(&self) -> (Option<u64>, Vec<u64>) {
        let seqs = self.redriven.keys();
        let keys = seqs.filter_map(|seq| Some(self.slot(*seq)?.order_key)).collect();
        (self.redriven.first_key_value().map(|(seq, _)| *seq), keys)
    }

    /// Whether the state of a sequence is known here.
    pub fn has(&self, seq: u64) -> bool {
        seq >= self.window.base() || self.parked.contains_key(&seq)
    }

    /// See [`Lane::set_ahead`].
    pub fn ahead_ms(&self) -> i64 {
        self.ahead_ms
    }

    /// Order key and time of an open delivery.
    pub fn place(&self, seq: u64) -> Option<Slot> {
        self.slot(seq)
    }
}
