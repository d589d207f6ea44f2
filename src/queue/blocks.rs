//! The blocks that were read back from the journal last, decoded: lanes that are behind are mostly behind at about the same
//! place, and one of them reads and decodes for all. It decides nothing about lanes.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::record::Head;

/// How much memory the blocks may hold, decoded, beside the one that was read last: bytes.
const KEPT_BYTES: usize = 8 << 20;

/// A record, what was decoded of it, and how many bytes that holds in memory.
pub type Decoded<T> = (Head, Option<T>, usize);

/// Consecutive records of the journal, from the sequence on that was asked for.
struct Block<T> {
    from: u64,
    records: Vec<Decoded<T>>,
}

/// The latest blocks.
pub struct Blocks<T>(Mutex<Kept<T>>);

struct Kept<T> {
    blocks: VecDeque<Block<T>>,
    /// Asked for since they were last tidied up.
    in_use: bool,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self(Mutex::new(Kept { blocks: VecDeque::new(), in_use: false }))
    }
}

impl<T: Clone> Blocks<T> {
    /// The records from a sequence on: of a block that has it, else of the one that `read` reads. While one reads, others
    /// wait, since it is probably what they want too.
    pub fn from<E>(
        &self,
        from: u64,
        read: impl FnOnce() -> Result<Vec<Decoded<T>>, E>,
    ) -> Result<Vec<Decoded<T>>, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.in_use = true;
        let blocks = &mut kept.blocks;
        if let Some(found) = blocks.iter().find_map(|block| block.part(from)) {
            return Ok(found);
        }
        let records = read()?;
        if !records.is_empty() {
            let mut held_bytes = 0;
            blocks.retain(|block| {
                held_bytes += block.held_bytes();
                held_bytes <= KEPT_BYTES
            });
            blocks.push_front(Block { from, records: records.clone() });
        }
        Ok(records)
    }

    /// Forgets them if nobody asked since the last time: no lane is behind any more.
    pub fn tidy(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut kept.in_use) {
            kept.blocks = VecDeque::new();
        }
    }
}

impl<T: Clone> Block<T> {
    fn held_bytes(&self) -> usize {
        self.records.iter().map(|(_, _, held_bytes)| held_bytes + size_of::<Decoded<T>>()).sum()
    }

    /// The records from a sequence on, if it is known that none is missing between.
    fn part(&self, from: u64) -> Option<Vec<Decoded<T>>> {
        let last = self.records.last()?.0.seq;
        if !(self.from..=last).contains(&from) {
            return None;
        }
        let at = self.records.partition_point(|(head, ..)| head.seq < from);
        Some(self.records.get(at..)?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64) -> Decoded<u64> {
        let head = Head { seq, source: 0, received_at_ms: 0, kind: 0, order_key: 0, message_key: 0 };
        (head, Some(seq), KEPT_BYTES / 4)
    }

    fn ask(blocks: &Blocks<u64>, from: u64, journal: &[u64]) -> (Vec<u64>, bool) {
        let mut has_read = false;
        let read = || {
            has_read = true;
            Ok::<_, ()>(journal.iter().filter(|seq| **seq >= from).map(|seq| record(*seq)).collect())
        };
        let found = blocks.from(from, read).unwrap();
        (found.iter().map(|(head, ..)| head.seq).collect(), has_read)
    }

    #[test]
    fn a_block_serves_every_sequence_inside_it() {
        let blocks = Blocks::default();
        let journal = [10, 11, 13, 14];
        assert_eq!(ask(&blocks, 9, &journal), (vec![10, 11, 13, 14], true));
        for (from, expected) in [(9, vec![10, 11, 13, 14]), (12, vec![13, 14]), (14, vec![14])] {
            assert_eq!(ask(&blocks, from, &journal), (expected, false), "{from}");
        }
        assert_eq!(ask(&blocks, 8, &journal), (vec![10, 11, 13, 14], true), "before it there may be others");
        assert_eq!(ask(&blocks, 15, &[15, 16]), (vec![15, 16], true), "behind it there are others now");
    }

    #[test]
    fn the_oldest_block_makes_room_and_nothing_is_not_kept() {
        let blocks = Blocks::default();
        assert_eq!(ask(&blocks, 1, &[]), (vec![], true));
        assert_eq!(ask(&blocks, 1, &[1]), (vec![1], true));
        for first in [20, 30, 40] {
            assert!(ask(&blocks, first, &[first]).1);
        }
        assert!(!ask(&blocks, 1, &[1]).1);
        assert!(ask(&blocks, 90, &[90]).1);
        assert!(ask(&blocks, 1, &[1]).1, "it was the oldest");
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_forgotten() {
        let blocks = Blocks::default();
        ask(&blocks, 1, &[1]);
        blocks.tidy();
        assert!(!ask(&blocks, 1, &[1]).1);
        blocks.tidy();
        blocks.tidy();
        assert!(ask(&blocks, 1, &[1]).1);
    }
}
