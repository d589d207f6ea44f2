//! Calls that outlive their segment: those of dead letters, and those that a lane has gone past without finishing them.
//! They are copied into the state file before the journal lets go of the segment, once, however many lanes need them, so
//! that one user who keeps failing does not hold back everybody's calls.

use std::error::Error;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::journal::Stored;
use super::lane::account::Held;
use super::shared::{BLOCK, Shared, read};
use super::store::{KeptCall, StoreError};
use super::{BACKLOG, Code, Payload};

/// How much is written at once of the calls that are kept: bytes.
const KEPT_AT_ONCE: usize = 4 << 20;
/// Which part of the disk that may be used the calls of dead letters may take after their segments have gone,
const DEAD_PART: u64 = 32;
/// and which those of deliveries that are not finished.
const OPEN_PART: u64 = 16;

/// How many bytes of calls may be kept.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Of deliveries that are not finished.
    pub open: u64,
    /// Of dead letters alone.
    pub dead: u64,
}

impl Room {
    /// Of a disk of which so many bytes may be used.
    pub fn of(max_disk_bytes: u64) -> Self {
        Self { open: max_disk_bytes / OPEN_PART, dead: max_disk_bytes / DEAD_PART }
    }
}

/// What of a range of calls is needed, and by whom.
struct Needed {
    range: Range<u64>,
    /// By lanes that have gone past them.
    open: Vec<Held>,
    /// By dead letters: sequences, rising.
    dead: Vec<u64>,
    /// What is kept already, by rising sequence.
    kept: Vec<KeptCall>,
}

impl Needed {
    fn is_open(&self, seq: u64, order_key: u64) -> bool {
        self.open.iter().any(|held| held.has(seq, order_key))
    }

    fn has(&self, seq: u64, order_key: u64) -> bool {
        self.dead.binary_search(&seq).is_ok() || self.is_open(seq, order_key)
    }

    fn is_kept(&self, seq: u64) -> bool {
        self.kept.binary_search_by_key(&seq, |call| call.seq).is_ok()
    }

    /// From where to read on for what is not kept yet.
    fn next(&self, from: u64) -> Option<u64> {
        if from >= self.range.end {
            return None;
        }
        if self.open.iter().any(|held| !held.left.is_empty()) {
            return Some(from);
        }
        let at = self.dead.partition_point(|seq| *seq < from);
        let dead = self.dead.iter().skip(at).find(|seq| !self.is_kept(**seq)).copied();
        let open = self.open.iter().filter_map(|held| {
            held.calls.range(from..self.range.end).find(|seq| !self.is_kept(**seq)).copied()
        });
        open.chain(dead).min()
    }

    /// Bytes of the open deliveries' calls that are kept.
    fn open_bytes(&self) -> u64 {
        let open = self.kept.iter().filter(|call| self.is_open(call.seq, call.order_key));
        open.map(|call| call.bytes).sum()
    }

    /// Bytes of the calls of dead letters alone that are kept.
    fn idle_bytes(&self) -> u64 {
        self.kept.iter().map(|call| call.bytes).sum::<u64>().saturating_sub(self.open_bytes())
    }

    /// The calls of dead letters alone that are too many for so many bytes: first those that are not among `firm`, rising
    /// sequences, and the oldest first.
    fn too_many_for(&self, most: u64, firm: &[u64]) -> Vec<u64> {
        let idle = self.kept.iter().filter(|call| !self.is_open(call.seq, call.order_key));
        let is_firm = |call: &&KeptCall| firm.binary_search(&call.seq).is_ok();
        let (last, first): (Vec<&KeptCall>, Vec<&KeptCall>) = idle.partition(is_firm);
        let mut total: u64 = first.iter().chain(&last).map(|call| call.bytes).sum();
        let mut too_many = Vec::new();
        for call in first.into_iter().chain(last) {
            if total <= most {
                break;
            }
            total -= call.bytes;
            too_many.push(call.seq);
        }
        too_many
    }
}

impl<T: Payload> Shared<T> {
    /// A call that the journal does not have any more.
    pub fn kept(&self, seq: u64) -> Result<Option<Stored>, StoreError> {
        self.store.call(seq)
    }

    /// Keeps what is needed of the calls below a sequence, since their segments are about to go. `checkpoint` writes down
    /// what the lanes have done and says whether it is written; it is called now and then meanwhile. After an error the
    /// segments must stay.
    pub fn keep_calls_below(
        &self,
        below: u64,
        room: Room,
        checkpoint: &mut dyn FnMut() -> bool,
    ) -> Result<(), Box<dyn Error>> {
        let range = self.journal.first_seq()..below;
        let mut needed = self.needed(range, self.number_of_backlog(), checkpoint)?;
        let mut open_bytes = needed.open_bytes();
        let (mut calls, mut bytes, mut added) = (Vec::new(), 0, Vec::new());
        let mut from = needed.range.start;
        while let Some(next) = needed.next(from) {
            // What cannot be read now may be readable later: until then its segment stays.
            let block = self.journal.read(next, BLOCK)?;
            let Some((last, _)) = block.last() else { break };
            from = last.seq + 1;
            for (head, body) in block.into_iter().filter(|(head, _)| needed.range.contains(&head.seq)) {
                if !needed.has(head.seq, head.order_key) || needed.is_kept(head.seq) {
                    continue;
                }
                if needed.is_open(head.seq, head.order_key) {
                    open_bytes += body.len() as u64;
                }
                bytes += body.len();
                added.push(KeptCall { seq: head.seq, order_key: head.order_key, bytes: body.len() as u64 });
                calls.push((head, body));
            }
            if open_bytes > room.open {
                return Err(too_much_open(open_bytes).into());
            }
            if bytes > KEPT_AT_ONCE {
                self.store.keep_calls(&std::mem::take(&mut calls))?;
                bytes = 0;
                // It may take longer than settled deliveries should wait to be written down.
                checkpoint();
            }
        }
        self.store.keep_calls(&calls)?;
        needed.kept.extend(added);
        needed.kept.sort_unstable_by_key(|call| call.seq);
        if needed.idle_bytes() <= room.dead {
            return Ok(());
        }
        // What a backlog gave up while it was parked is kept for want of nothing better, and goes first.
        let ends = needed.kept.first().zip(needed.kept.last());
        let range = ends.map_or(0..0, |(first, last)| first.seq..last.seq + 1);
        let firm = self.store.dead_between(&self.lane_ids(), range, self.number_of_backlog())?;
        Ok(self.drop_letters(&needed.too_many_for(room.dead, &firm))?)
    }

    fn number_of_backlog(&self) -> Option<u8> {
        read(&self.codes).number(&Code::Dead(BACKLOG.to_owned()))
    }

    fn drop_letters(&self, seqs: &[u64]) -> Result<(), StoreError> {
        if seqs.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            calls = seqs.len(),
            "the oldest dead letters make room for newer ones: their records and calls are deleted, and only their counts \
             stay; redrive or purge dead letters, or give [queue] more max_disk"
        );
        self.store.drop_letters(&self.lane_ids(), seqs)
    }

    /// What is needed of a range, by what the disk and the lanes know; of dead letters those but of one code's number.
    fn needed(
        &self,
        range: Range<u64>,
        without: Option<u8>,
        checkpoint: &mut dyn FnMut() -> bool,
    ) -> Result<Needed, Box<dyn Error>> {
        // In this order: what ends meanwhile counts as open, and what had ended is written down, so that neither a crash
        // opens it again nor its dead letter is missed.
        let open = self.lanes().iter().map(|cell| cell.state().lane.held_below(range.end)).collect();
        if !checkpoint() {
            return Err("the lanes' state cannot be written down".into());
        }
        let dead = self.store.dead_between(&self.lane_ids(), range.clone(), without)?;
        Ok(Needed { range, open, dead, kept: self.store.kept_calls()? })
    }

    /// Forgets kept calls that no dead letter and no open delivery needs. For `checkpoint` see
    /// [`Self::keep_calls_below`].
    pub fn forget_calls(&self, mut checkpoint: impl FnMut() -> bool) -> Result<(), Box<dyn Error>> {
        if !self.idle_calls.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        let kept = self.store.kept_calls()?;
        let (Some(first), Some(last)) = (kept.first(), kept.last()) else { return Ok(()) };
        let needed = self.needed(first.seq..last.seq + 1, None, &mut checkpoint)?;
        let idle = |call: &&KeptCall| !needed.has(call.seq, call.order_key);
        let forget: Vec<u64> = needed.kept.iter().filter(idle).map(|call| call.seq).collect();
        if !forget.is_empty() {
            self.store.forget_calls(&forget)?;
        }
        Ok(())
    }
}

fn too_much_open(bytes: u64) -> String {
    format!(
        "{bytes} bytes of calls wait behind deliveries that are tried again and again, more than a {OPEN_PART}th of [queue] \
         max_disk; shorten retry_for of their destination, cap it with max_backlog, or raise max_disk"
    )
}
