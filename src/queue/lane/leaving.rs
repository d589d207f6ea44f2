//! How a lane leaves a user's flood in the journal, and comes back to it.

use super::Lane;
use super::gates::behind;
use crate::queue::codes::UNREAD;
use crate::queue::delta::Row;
use crate::queue::left::{Found, Left, Search};
use crate::queue::window::Slot;

/// So many order keys may have events left in the journal; those of further keys are kept in memory like any other.
pub(super) const MAX_LEFT: usize = 1024;
impl Lane {
    /// Leaves an event in the journal if others of its order key are left already.
    pub(super) fn leave_behind(&mut self, seq: u64, order_key: u64) -> bool {
        // From before a restart what was below was taken in, and is again.
        let Some(left) = self.left.get_mut(&order_key).filter(|left| left.from <= seq) else { return false };
        if seq >= left.to {
            left.to = seq + 1;
            left.count += 1;
            left.changed = true;
            self.open += 1;
        }
        true
    }

    /// Leaves the event in the journal that was just taken in, the first of its order key.
    pub(super) fn leave_first(&mut self, seq: u64, order_key: u64, received_at_ms: i64) {
        self.window.set(seq, UNREAD);
        let left = Left { from: seq, to: seq + 1, count: 1, received_at_ms, changed: true, row_at: None };
        self.left.insert(order_key, left);
    }

    /// What is to be read again, if anything; the answer goes to [`Self::take_back`].
    pub fn search(&mut self) -> Option<Search> {
        if self.hungry.is_empty() {
            return None;
        }
        let (gates, left, limit) = (&self.gates, &self.left, self.limits.behind);
        let room = |order_key: u64| limit.saturating_sub(behind(gates, order_key));
        self.hungry.retain(|order_key| left.contains_key(order_key) && room(*order_key) > 0);
        // After a restart the lane comes to what is left once more, and not before that.
        let next = self.window.next();
        self.hungry.iter().find_map(|order_key| {
            let Left { from, to, .. } = *left.get(order_key).filter(|left| left.from < next)?;
            Some(Search { order_key: *order_key, from, to: to.min(next), max: room(*order_key) })
        })
    }

    /// Takes in what was found again. Until then it is searched for.
    pub fn take_back(&mut self, search: Search, found: Found) {
        let Search { order_key, from, .. } = search;
        let Found { events, next } = found;
        let current = self.left.get(&order_key).copied().filter(|left| left.from == from);
        let Some(mut left) = current else { return };
        self.hungry.retain(|hungry| *hungry != order_key);
        self.changed = true;
        for (seq, received_at_ms) in events {
            left.count = left.count.saturating_sub(1);
            left.received_at_ms = received_at_ms;
            self.open = self.open.saturating_sub(1);
            let slot = Slot { order_key, received_at_ms };
            let mut row = None;
            if !self.window.take_in_late(seq, slot) {
                self.parked.insert(seq, slot);
                row = Some(Row { order_key, received_at_ms, ..Row::default() });
            }
            if row.is_some() || left.row_at == Some(seq) {
                self.delta.rows.insert(seq, row.clone());
            }
            if left.row_at == Some(seq) {
                left.row_at = None;
            }
            self.enter(seq, order_key, row);
        }
        left.from = next.clamp(from, left.to);
        if left.from >= left.to {
            // What was not found the journal has lost.
            self.open = self.open.saturating_sub(left.count);
            self.delta.rows.extend(left.row_at.map(|at| (at, None)));
            self.left.remove(&order_key);
            return;
        }
        left.changed = true;
        self.left.insert(order_key, left);
        self.feed_soon(order_key);
    }

    /// Has more of a key's events read again if few of those that are here are left.
    pub(super) fn feed_soon(&mut self, order_key: u64) {
        if behind(&self.gates, order_key) <= self.limits.behind / 4 && !self.hungry.contains(&order_key) {
            self.hungry.push_back(order_key);
        }
    }

    /// How many events are left in the journal behind others of their order key.
    pub fn left(&self) -> u64 {
        self.left.values().map(|left| left.count).sum()
    }
}
