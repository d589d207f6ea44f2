//! How a lane ends what it was not asked to try: the oldest of a backlog that is too long, or everything.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;

use super::Lane;
use super::gates::{Gate, Gates, Phase};
use crate::queue::codes::{RETRY, UNREAD, WAITING};
use crate::queue::window::Slot;

/// A delivery that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// Its sequence.
    pub seq: u64,
    /// What was kept of it.
    pub slot: Slot,
    /// How many attempts were made.
    pub attempts: u32,
}

impl Lane {
    /// Ends the oldest deliveries that are not in flight with a code, at most so many. Hands them out; fewer
    /// than asked for when there are no more among those that are taken in, or when older ones are left in the journal.
    pub fn shed(&mut self, count: usize, code: u8) -> Vec<Shed> {
        let oldest_left = self.left.values().map(|left| left.from).min().unwrap_or(u64::MAX);
        let parked = self.parked.iter().map(|(seq, slot)| (*seq, *slot));
        let mut idle: Vec<Shed> = parked
            .chain(self.window.unclaimed())
            .filter(|(seq, _)| *seq < oldest_left)
            // Somebody asked for these.
            .filter(|(seq, _)| !self.redriven.contains_key(seq))
            .filter_map(|(seq, slot)| idle(&self.gates, seq, slot))
            .take(count)
            .collect();
        idle.sort_unstable_by_key(|shed| shed.seq);
        for Shed { seq, slot, .. } in &idle {
            self.drop_idle(*seq, slot.order_key, code);
            if self.left.contains_key(&slot.order_key) {
                self.feed_soon(slot.order_key);
            }
        }
        if !idle.is_empty() {
            let mut ready = std::mem::take(&mut self.ready);
            ready.retain(|seq| self.is_ready(*seq));
            self.ready = ready;
            let mut retries = std::mem::take(&mut self.retries);
            retries.retain(|Reverse((_, seq))| self.slot(*seq).is_some());
            self.retries = retries;
            self.retire();
        }
        if idle.len() < count
            && let Some((order_key, _)) = self.left.iter().min_by_key(|(_, left)| left.from)
        {
            // They are the oldest now.
            let order_key = *order_key;
            self.feed_soon(order_key);
        }
        idle
    }

    fn drop_idle(&mut self, seq: u64, order_key: u64, code: u8) {
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
                let (phase, due_at_ms) = (gate.phase, gate.due_at_ms);
                *gate = Gate { behind: std::mem::take(&mut gate.behind), ..Gate::of(next) };
                gate.has_row = self.parked.contains_key(&next) || self.redriven.contains_key(&next);
                if phase == Phase::Retry {
                    // It was the user's wait, as the vendor may have asked for.
                    (gate.phase, gate.due_at_ms) = (phase, due_at_ms);
                    self.retries.push(Reverse((due_at_ms, next)));
                    self.window.set(next, RETRY);
                } else {
                    self.ready.push_back(next);
                }
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

/// A delivery that is taken in, unless it is in flight.
fn idle(gates: &Gates, seq: u64, slot: Slot) -> Option<Shed> {
    let gate = gates.get(&slot.order_key)?;
    match gate.head == seq {
        false => Some(Shed { seq, slot, attempts: 0 }),
        true => (gate.phase != Phase::InFlight).then_some(Shed { seq, slot, attempts: gate.attempts }),
    }
}
