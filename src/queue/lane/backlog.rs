//! How a lane ends what it was not asked to try: the oldest of a backlog that is too long, or everything.

use std::collections::hash_map::Entry;

use super::Lane;
use super::gates::{Gate, Gates, Phase};
use crate::queue::codes::{UNREAD, WAITING};
use crate::queue::window::Slot;

impl Lane {
    /// Ends the oldest deliveries that are not begun with a code, at most so many. Hands them out; fewer
    /// than asked for when there are no more among those that are taken in, or when older ones are left in the journal.
    pub fn shed(&mut self, count: usize, code: u8) -> Vec<(u64, Slot)> {
        let oldest_left = self.left.values().map(|left| left.from).min().unwrap_or(u64::MAX);
        let parked = self.parked.iter().map(|(seq, slot)| (*seq, *slot));
        let mut unbegun: Vec<(u64, Slot)> = parked
            .chain(self.window.unclaimed())
            .filter(|(seq, slot)| *seq < oldest_left && is_unbegun(&self.gates, *seq, *slot))
            // Somebody asked for these.
            .filter(|(seq, _)| !self.redriven.contains_key(seq))
            .take(count)
            .collect();
        unbegun.sort_unstable_by_key(|(seq, _)| *seq);
        for (seq, slot) in &unbegun {
            self.drop_unbegun(*seq, slot.order_key, code);
            if self.left.contains_key(&slot.order_key) {
                self.feed_soon(slot.order_key);
            }
        }
        if !unbegun.is_empty() {
            let mut ready = std::mem::take(&mut self.ready);
            ready.retain(|seq| self.is_ready(*seq));
            self.ready = ready;
            self.retire();
        }
        if unbegun.len() < count
            && let Some((order_key, _)) = self.left.iter().min_by_key(|(_, left)| left.from)
        {
            // They are the oldest now.
            let order_key = *order_key;
            self.feed_soon(order_key);
        }
        unbegun
    }

    fn drop_unbegun(&mut self, seq: u64, order_key: u64, code: u8) {
        if self.parked.contains_key(&seq) || self.redriven.contains_key(&seq) {
            self.delta.rows.insert(seq, None);
        }
        if let Entry::Occupied(mut place) = self.gates.entry(order_key) {
            let gate = place.get_mut();
            if gate.head == seq && gate.has_row {
                self.delta.rows.insert(seq, None);
            }
            if gate.head != seq {
                if let Ok(at) = gate.behind.binary_search(&seq) {
                    gate.behind.remove(at);
                }
            } else if let Some(next) = gate.behind.pop_front() {
                *gate = Gate { behind: std::mem::take(&mut gate.behind), ..Gate::of(next) };
                gate.has_row = self.parked.contains_key(&next) || self.redriven.contains_key(&next);
                self.ready.push_back(next);
            } else {
                place.remove();
            }
        }
        self.end(seq, code);
    }

    /// Ends everything up to the journal's end with one code. Hands out how many deliveries that were.
    pub fn end_all(&mut self, end: u64, journalled: u64, code: u8) -> u64 {
        let left = self.unfinished(journalled);
        let ranges = std::mem::take(&mut self.left).into_values().filter_map(|left| left.row_at);
        let rows = std::mem::take(&mut self.resumed).into_keys().chain(ranges);
        let gates = std::mem::take(&mut self.gates).into_values();
        let heads = gates.filter(|gate| gate.has_row).map(|gate| gate.head);
        let parked = std::mem::take(&mut self.parked);
        let redriven = std::mem::take(&mut self.redriven);
        self.delta.rows.extend(redriven.keys().map(|seq| (*seq, None)));
        self.delta.redriven.extend(redriven.keys().map(|seq| (*seq, None)));
        self.delta.rows.extend(rows.chain(heads).chain(parked.keys().copied()).map(|seq| (seq, None)));
        self.delta.patches.extend(parked.keys().map(|seq| (*seq, code)));
        for seq in self.window.base()..self.next() {
            // What is unread below the next one was left.
            if matches!(self.window.state(seq), UNREAD | WAITING..) {
                self.window.set(seq, code);
            }
        }
        self.retire();
        while self.next() < end && self.window.has_room() {
            self.window.pass(code);
            self.retire();
        }
        self.ready.clear();
        self.hungry.clear();
        self.retries.clear();
        self.open = 0;
        self.in_flight = 0;
        self.count(code, left);
        self.changed = true;
        left
    }
}

/// Whether nothing has been tried of a delivery that is taken in and not claimed.
fn is_unbegun(gates: &Gates, seq: u64, slot: Slot) -> bool {
    let Some(gate) = gates.get(&slot.order_key) else { return false };
    gate.head != seq || (gate.phase == Phase::Ready && gate.attempts == 0)
}
