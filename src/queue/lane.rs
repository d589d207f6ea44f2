//! The state of one lane: which of its deliveries wait, are in flight, wait for another attempt or have ended.
//!
//! Pure: no I/O, no clock, no payloads; times are parameters. What has to be written down is collected in a [`Delta`].
//!
//! The *gate* lets at most one delivery of an order key out at a time, the oldest; the key's others queue behind it.
//! When the window is full and there is nothing else to hand out, or when the journal has to let go of it, what is open
//! at its front is *parked*: it leaves the window and becomes rows, so that the window can move on. When very many queue
//! behind one another, those beyond a bound are *left* in the journal: the lane remembers a range and reads them again
//! when their turn comes near.

pub mod account;
pub mod backlog;
mod gates;
mod leaving;
pub mod redrive;

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use super::codes::{self, GAP, IN_FLIGHT, RETRY, UNREAD, WAITING};
use super::delta::{Delta, Row, Saved};
use super::left::Left;
use super::window::{Shape, Slot, Window};

use gates::{Gate, Gates, Phase, Spread};
use leaving::MAX_LEFT;

/// Waits longer than this are written down: milliseconds.
const SHORT_WAIT_MS: i64 = 1000;
/// So many chunks may wait to be written before the lane stops taking in events.
const MAX_UNWRITTEN_CHUNKS: usize = 64;

/// A chunk is parked although this share of it could be handed out: that many would keep a lane waiting for one user.
const ACTIVE_SHARE: usize = 64;

/// Sizes of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the open window.
    pub shape: Shape,
    /// How many events may be parked. At the cap, a lane whose window is full takes in nothing new.
    pub parked: usize,
    /// How many events of one order key may queue behind its head; further ones are left in the journal.
    pub behind: usize,
}

impl Limits {
    /// What [`Self::behind`] is as a rule.
    pub const BEHIND: usize = 256;
}

/// A delivery that may be attempted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its sequence.
    pub seq: u64,
    /// Its order key.
    pub order_key: u64,
    /// Which attempt it is, counted from 1.
    pub attempt: u32,
    /// What [`Lane::later`] was told; the time of the claim for attempt 1.
    pub first_attempt_at_ms: i64,
}

/// When and why a delivery is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again<'a> {
    /// Not before this time: milliseconds since 1970.
    pub at_ms: i64,
    /// From when its owner counts; kept and handed out with the next claim.
    pub since_ms: i64,
    /// Why, for people.
    pub reason: &'a str,
}

/// See the module.
pub struct Lane {
    limits: Limits,
    window: Window,
    gates: Gates,
    ready: VecDeque<u64>,
    retries: BinaryHeap<Reverse<(i64, u64)>>,
    parked: BTreeMap<u64, Slot>,
    /// Rows of an earlier run whose events have not been read again yet.
    resumed: BTreeMap<u64, Row>,
    /// What is left in the journal, by order key.
    left: HashMap<u64, Left, BuildHasherDefault<Spread>>,
    /// Order keys of which few queue in memory and more are left.
    hungry: VecDeque<u64>,
    /// How far the clock that the caller goes by is ahead of wall time, in which rows are written.
    ahead_ms: i64,
    /// Open ones that were dead letters, and whether they are to be sent whole.
    redriven: BTreeMap<u64, bool>,
    begin: u64,
    counts: BTreeMap<u8, u64>,
    finished: u64,
    open: u64,
    in_flight: u64,
    delta: Delta,
    changed: bool,
}

impl Lane {
    /// A lane that begins at a sequence, when so many calls had been journalled.
    pub fn new(limits: Limits, start: u64, begin: u64) -> Self {
        Self::resume(limits, Saved { base: start, begin, ..Saved::default() })
    }

    /// A lane as an earlier run left it: what was not final is open again.
    pub fn resume(limits: Limits, saved: Saved) -> Self {
        let mut rows = saved.rows;
        let left: Vec<_> =
            rows.iter().filter_map(|(seq, row)| Some((row.order_key, Left::of(*seq, row)?))).collect();
        rows.retain(|seq, row| Left::of(*seq, row).is_none());
        let ahead = rows.split_off(&saved.base);
        let mut lane = Self {
            limits,
            window: Window::new(limits.shape, saved.base, saved.chunks),
            gates: HashMap::default(),
            ready: VecDeque::new(),
            retries: BinaryHeap::new(),
            parked: BTreeMap::new(),
            resumed: ahead,
            left: HashMap::default(),
            hungry: VecDeque::new(),
            ahead_ms: 0,
            redriven: saved.redriven,
            begin: saved.begin,
            finished: saved.counts.values().sum(),
            counts: saved.counts,
            open: 0,
            in_flight: 0,
            delta: Delta::default(),
            changed: true,
        };
        for (seq, row) in rows {
            let slot = Slot { order_key: row.order_key, received_at_ms: row.received_at_ms };
            lane.parked.insert(seq, slot);
            lane.enter(seq, slot.order_key, Some(row));
        }
        for (order_key, left) in left {
            lane.open += left.count;
            lane.left.insert(order_key, left);
            lane.hungry.push_back(order_key);
        }
        lane
    }

    /// Says how far the clock of the times that the lane is given is ahead of wall time: milliseconds.
    pub fn set_ahead(&mut self, ms: i64) {
        self.ahead_ms = ms;
    }

    /// The first sequence that the lane has not come to.
    pub fn next(&self) -> u64 {
        self.window.next()
    }

    /// Takes in the event of a sequence, which must not be below [`Self::next`]; sequences in between have no call.
    /// `false`: there is no room for it now.
    pub fn take_in(&mut self, seq: u64, order_key: u64, received_at_ms: i64) -> bool {
        if !self.pass_to(seq) || !self.make_room() {
            return false;
        }
        if seq < self.next() {
            return true;
        }
        self.admit(seq, order_key, received_at_ms);
        true
    }

    /// Takes in the next sequence, for which there is room.
    fn admit(&mut self, seq: u64, order_key: u64, received_at_ms: i64) {
        self.changed = true;
        if self.window.state(seq) != UNREAD {
            self.window.pass(GAP);
            self.drop_stale_rows(seq);
            self.retire();
            return;
        }
        if !self.left.is_empty() && self.leave_behind(seq, order_key) {
            self.window.pass(UNREAD);
            self.drop_stale_rows(seq);
            self.retire();
            return;
        }
        self.window.take_in(Slot { order_key, received_at_ms });
        let row = if self.resumed.is_empty() { None } else { self.resumed.remove(&seq) };
        if !self.enter(seq, order_key, row) {
            self.leave_first(seq, order_key, received_at_ms);
            self.retire();
        }
    }

    /// Goes past sequences that have no call. `false`: there was no room for all of them.
    pub fn pass_to(&mut self, seq: u64) -> bool {
        (self.redriven.is_empty() || self.take_in_redriven(seq)) && self.pass_gap(seq)
    }

    fn pass_gap(&mut self, seq: u64) -> bool {
        let span = (self.limits.shape.chunks * self.limits.shape.chunk_len()) as u64;
        if seq.saturating_sub(self.next()) > span && self.window.is_quiet() {
            let chunks = &mut self.delta.chunks;
            self.window.jump(seq, |number, bytes| drop(chunks.insert(number, bytes)));
            self.changed = true;
        }
        while self.next() < seq {
            if !self.make_room() {
                return false;
            }
            self.window.pass(GAP);
            self.changed = true;
            if self.next().trailing_zeros() >= self.limits.shape.chunk_bits {
                self.retire();
            }
        }
        self.drop_stale_rows(seq.saturating_sub(1));
        true
    }

    /// Lets go of everything before the next sequence; nothing may be open. A restart begins there.
    pub fn let_go(&mut self) {
        let next = self.next();
        if self.window.base() < next {
            let chunks = &mut self.delta.chunks;
            self.window.jump(next, |number, bytes| drop(chunks.insert(number, bytes)));
            self.changed = true;
        }
    }

    /// Rows of events up to here that did not turn up again are of no use.
    fn drop_stale_rows(&mut self, up_to: u64) {
        while let Some(row) = self.resumed.first_entry().filter(|row| *row.key() <= up_to) {
            self.delta.rows.insert(*row.key(), None);
            row.remove();
        }
    }

    /// An open event joins its order key. `false` if it is to be left in the journal, for too many are here.
    fn enter(&mut self, seq: u64, order_key: u64, row: Option<Row>) -> bool {
        self.open += 1;
        let gate = match self.gates.entry(order_key) {
            Entry::Occupied(mut gate) => {
                let gate = gate.get_mut();
                // Where some are left already, what comes before them was here before a restart and stays.
                let may_leave = self.left.len() < MAX_LEFT && !self.left.contains_key(&order_key);
                if gate.behind.len() >= self.limits.behind && row.is_none() && may_leave {
                    return false;
                }
                if gate.behind.back().is_none_or(|last| *last < seq) && gate.head < seq {
                    gate.behind.push_back(seq);
                } else {
                    let before = gate.head;
                    if gate.insert(seq) {
                        let place = self.ready.iter_mut().find(|ready| **ready == before);
                        place.into_iter().for_each(|ready| *ready = gate.head);
                    }
                }
                if row.is_some() && !self.parked.contains_key(&seq) && !self.redriven.contains_key(&seq) {
                    self.delta.rows.insert(seq, None);
                }
                return true;
            }
            Entry::Vacant(place) => place.insert(Gate::of(seq)),
        };
        gate.has_row = row.is_some();
        match row {
            Some(row) if row.attempts > 0 => {
                gate.attempts = row.attempts;
                gate.first_attempt_at_ms = row.first_attempt_at_ms;
                gate.due_at_ms = row.due_at_ms;
                gate.phase = Phase::Retry;
                self.retries.push(Reverse((row.due_at_ms, seq)));
                self.window.set(seq, RETRY);
            }
            _ => self.ready.push_back(seq),
        }
        true
    }

    fn make_room(&mut self) -> bool {
        loop {
            if self.delta.chunks.len() > MAX_UNWRITTEN_CHUNKS {
                return false;
            }
            if self.window.has_room() {
                return true;
            }
            if !self.park_front() {
                return false;
            }
        }
    }

    /// Parks what is open below a sequence, so that the journal can let go of it: whole chunks, and only those of which
    /// all but a few wait. Hands out whether there was one.
    pub fn park_below(&mut self, below: u64) -> bool {
        let chunk = self.limits.shape.chunk_len() as u64;
        let mut has_parked = false;
        while self.window.base() < below && self.window.base() + chunk <= self.next() && self.park_front() {
            has_parked = true;
        }
        has_parked
    }

    /// Moves the open events of the front chunk out of the window, if all of them wait for another attempt or
    /// behind one that does.
    fn park_front(&mut self) -> bool {
        if self.parked.len() + self.window.open_in_front() > self.limits.parked {
            return false;
        }
        let is_active = |(seq, slot): &(u64, Slot)| {
            let gate = self.gates.get(&slot.order_key);
            gate.is_none_or(|gate| gate.head == *seq && gate.phase != Phase::Retry)
        };
        let most_active = (self.limits.shape.chunk_len() / ACTIVE_SHARE).max(1);
        if self.window.front().filter(is_active).nth(most_active).is_some() {
            return false;
        }
        for (seq, slot) in self.window.front() {
            self.parked.insert(seq, slot);
            let mut row =
                Row { order_key: slot.order_key, received_at_ms: slot.received_at_ms, ..Row::default() };
            if let Some(gate) = self.gates.get_mut(&slot.order_key).filter(|gate| gate.head == seq) {
                if std::mem::replace(&mut gate.has_row, true) {
                    continue;
                }
                row.attempts = gate.attempts;
                row.first_attempt_at_ms = gate.first_attempt_at_ms;
                row.due_at_ms = gate.due_at_ms.saturating_sub(self.ahead_ms);
            }
            self.delta.rows.insert(seq, Some(row));
        }
        let chunks = &mut self.delta.chunks;
        self.window.pop(|number, bytes| drop(chunks.insert(number, bytes)));
        self.changed = true;
        true
    }

    fn retire(&mut self) {
        let chunks = &mut self.delta.chunks;
        self.window.retire(|number, bytes| drop(chunks.insert(number, bytes)));
    }

    fn slot(&self, seq: u64) -> Option<Slot> {
        self.window.slot(seq).or_else(|| self.parked.get(&seq).copied())
    }

    /// Makes the retries ready whose time has come.
    pub fn wake_due(&mut self, now_ms: i64) {
        let mut woken = Vec::new();
        while let Some(Reverse((due, seq))) =
            self.retries.peek().copied().filter(|Reverse((due, _))| *due <= now_ms)
        {
            self.retries.pop();
            let Some(slot) = self.slot(seq) else { continue };
            let Some(gate) = self.gates.get_mut(&slot.order_key) else { continue };
            if gate.head == seq && gate.phase == Phase::Retry && gate.due_at_ms == due {
                gate.phase = Phase::Ready;
                self.window.set(seq, WAITING);
                woken.push(seq);
            }
        }
        // Before what is new, and among themselves the one first whose time came first.
        woken.into_iter().rev().for_each(|seq| self.ready.push_front(seq));
    }

    /// When the next retry is due: milliseconds since 1970.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.retries.peek().map(|Reverse((due, _))| *due)
    }

    /// The deliveries that may be claimed now, in the order in which they will be.
    pub fn ready(&self) -> impl Iterator<Item = u64> + '_ {
        self.ready.iter().copied()
    }

    /// How many may be claimed now.
    pub fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// The first that may be claimed now.
    pub fn next_ready(&self) -> Option<u64> {
        self.ready.front().copied()
    }

    /// Has those that may be claimed now and are picked claimed before the others.
    pub fn put_first(&mut self, is_picked: impl Fn(u64) -> bool) {
        if self.ready.front().is_some_and(|seq| !is_picked(*seq)) {
            let (picked, others): (VecDeque<u64>, VecDeque<u64>) =
                self.ready.iter().partition(|seq| is_picked(**seq));
            self.ready = picked;
            self.ready.extend(others);
        }
    }

    /// Whether this delivery may be claimed now.
    pub fn is_ready(&self, seq: u64) -> bool {
        let gate = self.slot(seq).and_then(|slot| self.gates.get(&slot.order_key));
        gate.is_some_and(|gate| gate.head == seq && gate.phase == Phase::Ready)
    }

    /// Claims the first one that may be.
    pub fn claim(&mut self, now_ms: i64) -> Option<Claim> {
        let seq = self.ready.pop_front()?;
        let order_key = self.slot(seq)?.order_key;
        let gate = self.gates.get_mut(&order_key)?;
        gate.phase = Phase::InFlight;
        if gate.attempts == 0 {
            gate.first_attempt_at_ms = now_ms;
        }
        let first_attempt_at_ms = gate.first_attempt_at_ms;
        let attempt = gate.attempts.saturating_add(1);
        self.in_flight += 1;
        self.window.set(seq, IN_FLIGHT);
        Some(Claim { seq, order_key, attempt, first_attempt_at_ms })
    }

    /// Ends a claimed delivery. Hands out how many attempts were made; `None` if it is not in flight.
    pub fn done(&mut self, seq: u64, code: u8) -> Option<u32> {
        let slot = self.slot(seq)?;
        let Entry::Occupied(mut place) = self.gates.entry(slot.order_key) else { return None };
        let gate = place.get_mut();
        if gate.head != seq || gate.phase != Phase::InFlight {
            return None;
        }
        let attempts = gate.attempts.saturating_add(1);
        if gate.has_row {
            self.delta.rows.insert(seq, None);
        }
        match gate.behind.pop_front() {
            Some(next) => {
                *gate = Gate { behind: std::mem::take(&mut gate.behind), ..Gate::of(next) };
                gate.has_row = self.parked.contains_key(&next) || self.redriven.contains_key(&next);
                self.ready.push_back(next);
            }
            None => drop(place.remove()),
        }
        if !self.left.is_empty() && self.left.contains_key(&slot.order_key) {
            self.feed_soon(slot.order_key);
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        self.end(seq, code);
        self.retire();
        Some(attempts)
    }

    fn end(&mut self, seq: u64, code: u8) {
        if !self.redriven.is_empty() && self.redriven.remove(&seq).is_some() {
            self.delta.redriven.insert(seq, None);
            self.delta.rows.insert(seq, None);
        }
        self.count(code, 1);
        self.open = self.open.saturating_sub(1);
        self.changed = true;
        if self.parked.remove(&seq).is_some() {
            self.delta.patches.push((seq, code));
        } else {
            self.window.set(seq, code);
        }
    }

    fn count(&mut self, code: u8, more: u64) {
        let count = self.counts.entry(code).or_default();
        *count += more;
        self.finished += more;
        self.delta.counts.insert(code, *count);
    }

    /// Keeps a claimed delivery for another attempt. `false` if it is not in flight.
    pub fn later(&mut self, seq: u64, again: Again<'_>, now_ms: i64) -> bool {
        let Again { at_ms, since_ms, reason } = again;
        let Some(slot) = self.slot(seq) else { return false };
        let Some(gate) = self.gates.get_mut(&slot.order_key) else { return false };
        if gate.head != seq || gate.phase != Phase::InFlight {
            return false;
        }
        gate.phase = Phase::Retry;
        gate.attempts = gate.attempts.saturating_add(1);
        gate.due_at_ms = at_ms;
        gate.first_attempt_at_ms = since_ms;
        if gate.has_row || at_ms.saturating_sub(now_ms) > SHORT_WAIT_MS {
            gate.has_row = true;
            let row = Row {
                order_key: slot.order_key,
                received_at_ms: slot.received_at_ms,
                attempts: gate.attempts,
                first_attempt_at_ms: gate.first_attempt_at_ms,
                due_at_ms: at_ms.saturating_sub(self.ahead_ms),
                reason: codes::cut(reason, 300).to_owned(),
            };
            self.delta.rows.insert(seq, Some(row));
            self.changed = true;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        self.retries.push(Reverse((at_ms, seq)));
        self.window.set(seq, RETRY);
        true
    }

    /// Keeps a claimed delivery until a time; it was no attempt. Not written down. `false` if it is not in flight.
    pub fn wait(&mut self, seq: u64, at_ms: i64) -> bool {
        let Some(slot) = self.slot(seq) else { return false };
        let Some(gate) = self.gates.get_mut(&slot.order_key) else { return false };
        if gate.head != seq || gate.phase != Phase::InFlight {
            return false;
        }
        gate.phase = Phase::Retry;
        gate.due_at_ms = at_ms;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.retries.push(Reverse((at_ms, seq)));
        self.window.set(seq, RETRY);
        true
    }

    /// Gives everything back that is claimed, as if it had not been. Hands out how many deliveries that were.
    pub fn give_back(&mut self) -> usize {
        let claimed = self.gates.values().filter(|gate| gate.phase == Phase::InFlight);
        let mut seqs: Vec<u64> = claimed.map(|gate| gate.head).collect();
        seqs.sort_unstable();
        // The last first: each goes to the front.
        seqs.iter().rev().filter(|seq| self.release(**seq)).count()
    }

    /// Gives a claimed delivery back, as if it had not been claimed. `false` if it is not in flight.
    pub fn release(&mut self, seq: u64) -> bool {
        let Some(slot) = self.slot(seq) else { return false };
        let Some(gate) = self.gates.get_mut(&slot.order_key) else { return false };
        if gate.head != seq || gate.phase != Phase::InFlight {
            return false;
        }
        gate.phase = Phase::Ready;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.ready.push_front(seq);
        self.window.set(seq, WAITING);
        true
    }
}

#[cfg(test)]
mod tests;
