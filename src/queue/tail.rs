//! The newest durable records with what their owner decoded, bounded in bytes, so that lanes that keep up never read
//! the disk. A lane that catches up keeps the blocks that it reads in the same form.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::Notify;

use super::record::Head;

/// What travels through the journal beside a record's bytes.
pub struct Fresh<T> {
    pub payload: T,
    pub held_bytes: usize,
}

/// A record that is kept.
pub struct Record<T> {
    pub seq: u64,
    pub source: u16,
    pub order_key: u64,
    pub received_at_ms: i64,
    /// `None` if it could not be decoded.
    pub payload: Option<T>,
    held_bytes: usize,
}

/// Consecutive records, bounded by the memory that they hold.
pub struct Recent<T> {
    records: VecDeque<Record<T>>,
    held_bytes: usize,
    max_bytes: usize,
    start: u64,
    end: u64,
}

impl<T> Recent<T> {
    /// Nothing yet, of what begins at a sequence.
    pub fn new(start: u64, max_bytes: usize) -> Self {
        Self { records: VecDeque::new(), held_bytes: 0, max_bytes, start, end: start }
    }

    /// Forgets everything and begins at a sequence.
    pub fn reset(&mut self, start: u64) {
        *self = Self::new(start, self.max_bytes);
    }

    /// Adds the next record, and how many bytes its payload holds.
    pub fn add(&mut self, head: &Head, payload: Option<T>, held_bytes: usize) {
        let Head { seq, source, order_key, received_at_ms, .. } = *head;
        let held_bytes = held_bytes + size_of::<Record<T>>();
        self.records.push_back(Record { seq, source, order_key, received_at_ms, payload, held_bytes });
        self.held_bytes += held_bytes;
        self.end = seq + 1;
    }

    /// Takes out the oldest records while they hold too much, but none from this sequence on.
    pub fn take_excess(&mut self, keep_from: u64) -> Vec<Record<T>> {
        let mut excess = self.held_bytes.saturating_sub(self.max_bytes);
        let goes = |record: &&Record<T>| {
            let goes = excess > 0 && record.seq < keep_from;
            excess = excess.saturating_sub(record.held_bytes);
            goes
        };
        let count = self.records.iter().take_while(goes).count();
        self.take(count)
    }

    /// Takes out the records below a sequence.
    pub fn take_below(&mut self, seq: u64) -> Vec<Record<T>> {
        self.take(self.records.partition_point(|record| record.seq < seq))
    }

    fn take(&mut self, count: usize) -> Vec<Record<T>> {
        let taken: Vec<Record<T>> = self.records.drain(..count).collect();
        if let Some(last) = taken.last() {
            self.start = last.seq + 1;
            self.held_bytes -= taken.iter().map(|record| record.held_bytes).sum::<usize>();
        }
        if self.records.is_empty() {
            self.records.shrink_to(64);
        }
        taken
    }

    /// Every record from this sequence to [`Self::end`] is here.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The sequence after the newest record.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether the records from a sequence on are here, and there is one.
    pub fn has_from(&self, seq: u64) -> bool {
        self.start <= seq && seq < self.end
    }

    fn index(&self, seq: u64) -> usize {
        let first = self.records.front().map_or(self.end, |oldest| oldest.seq);
        let guess = usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX);
        match self.records.get(guess) {
            Some(record) if record.seq == seq => guess,
            _ => self.records.partition_point(|record| record.seq < seq),
        }
    }

    /// The record of a sequence.
    pub fn get(&self, seq: u64) -> Option<&Record<T>> {
        self.records.get(self.index(seq)).filter(|record| record.seq == seq)
    }

    /// The records from a sequence on.
    pub fn from(&self, seq: u64) -> impl Iterator<Item = &Record<T>> {
        self.records.range(self.index(seq)..)
    }
}

/// The newest records, and how many there have been.
pub struct Newest<T> {
    pub recent: Recent<T>,
    /// How many calls have been journalled below [`Recent::end`].
    pub journalled: u64,
}

/// What lanes share: the newest records, and who is woken when there are more.
pub struct Tail<T> {
    newest: RwLock<Newest<T>>,
    waiting: RwLock<Vec<Arc<Notify>>>,
}

impl<T> Tail<T> {
    /// A tail that begins at a sequence, when so many calls have been journalled.
    pub fn new(start: u64, journalled: u64, max_bytes: usize) -> Self {
        let newest = Newest { recent: Recent::new(start, max_bytes), journalled };
        Self { newest: RwLock::new(newest), waiting: RwLock::default() }
    }

    /// Begins at a sequence, when so many calls have been journalled.
    pub fn begin(&self, start: u64, journalled: u64) {
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        newest.recent.reset(start);
        newest.journalled = journalled;
    }

    /// Adds records that have just become durable, and wakes the lanes.
    pub fn add(&self, records: Vec<(Head, Fresh<T>)>) {
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        newest.journalled += records.len() as u64;
        for (head, fresh) in records {
            newest.recent.add(&head, Some(fresh.payload), fresh.held_bytes);
        }
        let excess = newest.recent.take_excess(u64::MAX);
        drop(newest);
        self.wake();
        // Here and not above: freeing them takes long, and the lanes must not wait for it.
        drop(excess);
    }

    /// The newest records. Whoever holds this holds up the journal.
    pub fn read(&self) -> RwLockReadGuard<'_, Newest<T>> {
        self.newest.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lanes that have come to this sequence find here what they need.
    pub fn start(&self) -> u64 {
        self.read().recent.start()
    }

    /// The journal's end, and how many calls have been journalled below it.
    pub fn total(&self) -> (u64, u64) {
        let newest = self.read();
        (newest.recent.end(), newest.journalled)
    }

    /// Drops the records below a sequence.
    pub fn drop_below(&self, seq: u64) {
        if self.start() < seq {
            let dropped = self.newest.write().unwrap_or_else(PoisonError::into_inner).recent.take_below(seq);
            // Here and not above: freeing them takes long, and the journal must not wait for it.
            drop(dropped);
        }
    }

    /// Wakes every lane.
    pub fn wake(&self) {
        for lane in self.waiting.read().unwrap_or_else(PoisonError::into_inner).iter() {
            lane.notify_waiters();
        }
    }

    /// Says who is to be woken.
    pub fn set_waiting(&self, waiting: Vec<Arc<Notify>>) {
        *self.waiting.write().unwrap_or_else(PoisonError::into_inner) = waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64) -> Head {
        Head { seq, source: 0, received_at_ms: 0, kind: 0, order_key: seq * 10, message_key: seq }
    }

    #[test]
    fn old_records_make_room_and_gaps_are_found() {
        let cost = 100 + size_of::<Record<u64>>();
        let mut recent = Recent::new(5, 3 * cost);
        let push = |recent: &mut Recent<u64>, seq, payload, held_bytes| {
            recent.add(&head(seq), payload, held_bytes);
            recent.take_excess(u64::MAX).len()
        };
        assert!(!recent.has_from(5));
        for seq in [5, 8, 9] {
            assert_eq!(push(&mut recent, seq, Some(seq), 100), 0);
        }
        assert!(recent.has_from(5) && recent.has_from(9) && !recent.has_from(4) && !recent.has_from(10));
        assert_eq!(recent.from(6).map(|record| record.seq).collect::<Vec<_>>(), [8, 9]);
        assert_eq!(recent.get(8).map(|record| record.order_key), Some(80));
        assert!(recent.get(7).is_none() && recent.get(10).is_none());
        assert_eq!(push(&mut recent, 20, None, 100), 1);
        assert_eq!((recent.start(), recent.end()), (6, 21), "nothing is missing from 6 on");
        assert!(recent.get(5).is_none());
        assert_eq!(recent.get(9).and_then(|record| record.payload), Some(9));
        assert_eq!(push(&mut recent, 21, None, 1_000_000), 4);
        assert!(!recent.has_from(21), "too large to keep");
        assert_eq!((recent.start(), recent.end()), (22, 22));
    }

    #[test]
    fn what_nobody_needs_goes() {
        let tail = Tail::new(1, 7, 1 << 20);
        tail.add((1..=9).map(|seq| (head(seq), Fresh { payload: seq, held_bytes: 10 })).collect());
        tail.drop_below(4);
        let newest = tail.read();
        assert_eq!((newest.recent.start(), newest.recent.end(), newest.journalled), (4, 10, 16));
        assert_eq!(newest.recent.from(0).count(), 6);
    }
}
