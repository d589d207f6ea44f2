//! Dead letters of the local queue: reading them, opening them again, deleting them, what has overtaken one that is
//! opened again, and keeping their calls when the journal lets go of them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::codes::{DELIVERED, SUBMITTED, SUPPRESSED};
use super::feed::Step;
use super::journal::{ReadError, Stored};
use super::lane::redrive::Letter;
use super::record::Head;
use super::shared::{BLOCK, Cell, Shared, read};
use super::store::{DeadRow, StoreError};
use super::{Code, Dead, DeadLetter, Id};

/// How many of the newest calls that have overtaken a delivery are looked at.
const MOST_LATER: usize = 256;
/// How much is written at once of the calls that are kept: bytes.
const KEPT_AT_ONCE: usize = 4 << 20;
/// How much of a call's neighbourhood is read to find it: bytes.
const NEAR: usize = 16 << 10;

/// The later calls of the order keys whose deliveries were opened again, as far as the journal was read.
#[derive(Default)]
pub struct Trail {
    keys: HashMap<u64, VecDeque<u64>>,
    read_to: u64,
}

impl Trail {
    fn note(&mut self, head: &Head) {
        if let Some(seqs) = self.keys.get_mut(&head.order_key) {
            seqs.push_back(head.seq);
            if seqs.len() > MOST_LATER {
                seqs.pop_front();
            }
        }
        self.read_to = head.seq + 1;
    }
}

impl<T: Clone + Send + Sync + 'static> Shared<T> {
    /// The dead letters behind an id, with their calls.
    pub fn dead_letters(&self, cell: &Cell<T>, after: Option<Id>, max: usize) -> Vec<DeadLetter<T>> {
        // What ended just now is to be seen, too.
        self.keeper().checkpoint(self);
        let from = after.map_or(0, |Id(seq)| seq.saturating_add(1));
        let rows = self.store.dead(cell.id, from, max);
        let rows = rows.inspect_err(|error| tracing::error!(%error, "the dead letters cannot be read"));
        let mut near = Vec::new();
        rows.unwrap_or_default().into_iter().map(|row| self.letter(row, &mut near)).collect()
    }

    fn letter(&self, row: DeadRow, near: &mut Vec<Stored>) -> DeadLetter<T> {
        let code = match read(&self.codes).code(row.number) {
            Some(Code::Dead(code)) => code.clone(),
            _ => "other".to_owned(),
        };
        let call = self.call(row.seq, near);
        let head = call.as_ref().map(|(head, _)| *head);
        DeadLetter {
            id: Id(row.seq),
            dead: Dead { code, ..row.dead },
            died_at_ms: row.at_ms,
            received_at_ms: head.map_or(row.received_at_ms, |head| head.received_at_ms),
            order_key: head.map_or(row.order_key, |head| head.order_key),
            source: head.map(|head| head.source),
            payload: call.and_then(|(head, body)| self.decode(&head, &body)),
        }
    }

    /// A call, from the journal or from where it was kept; `near` is what was read last.
    fn call(&self, seq: u64, near: &mut Vec<Stored>) -> Option<Stored> {
        let found = self.find_call(seq, near).inspect_err(|error| tracing::error!("{error}"));
        found.unwrap_or_else(|_| self.kept(seq))
    }

    /// As [`Self::call`], for whom it matters whether a call is not there or cannot be read.
    fn find_call(&self, seq: u64, near: &mut Vec<Stored>) -> Result<Option<Stored>, ReadError> {
        let ends = near.first().zip(near.last());
        if ends.is_none_or(|((first, _), (last, _))| !(first.seq..=last.seq).contains(&seq)) {
            near.clear();
            *near = self.journal.read(seq, NEAR)?;
        }
        let at = near.partition_point(|(head, _)| head.seq < seq);
        Ok(near.get(at).filter(|(head, _)| head.seq == seq).cloned().or_else(|| self.kept(seq)))
    }

    /// A call that the journal does not have any more.
    pub fn kept(&self, seq: u64) -> Option<Stored> {
        let call = self.store.call(seq);
        call.inspect_err(|error| tracing::error!(%error, "a kept call cannot be read")).ok().flatten()
    }

    /// Opens dead letters again. Hands out how many.
    pub fn redrive(&self, cell: &Cell<T>, ids: &[Id], whole: bool) -> usize {
        // Held throughout, so that nothing of it is written in halves.
        let mut keeper = self.keeper();
        if !keeper.checkpoint(self) {
            return 0;
        }
        let Ok(rows) = self.dead_rows(cell, ids) else { return 0 };
        let mut near = Vec::new();
        let rows: Vec<DeadRow> =
            rows.into_iter().filter(|row| self.call(row.seq, &mut near).is_some()).collect();
        if let Some(last) = rows.last() {
            self.come_to(cell, last.seq);
        }
        let mut feed = cell.state();
        let mut opened = 0;
        for DeadRow { seq, number, order_key, received_at_ms, .. } in rows {
            if feed.lane.redrive(Letter { seq, number, order_key, received_at_ms, whole }) {
                feed.dead.push((seq, None));
                opened += 1;
            }
        }
        drop(feed);
        self.idle_calls.store(true, Ordering::SeqCst);
        // If it fails it is tried again, and what was opened stays so.
        keeper.checkpoint(self);
        drop(keeper);
        self.bell.changed();
        cell.wake.notify_waiters();
        opened
    }

    /// After a restart, a lane comes to its dead letters once more before they can be opened.
    fn come_to(&self, cell: &Cell<T>, seq: u64) {
        loop {
            let step = {
                let mut feed = cell.state();
                feed.come_to(seq, &self.tail.read())
            };
            let Some(step @ Step::Read { .. }) = step else { return };
            if let Err(error) = self.read_for(cell, step) {
                tracing::error!("{error}");
                return;
            }
        }
    }

    /// Deletes dead letters. Hands out how many there were.
    pub fn purge(&self, cell: &Cell<T>, ids: &[Id]) -> usize {
        let mut keeper = self.keeper();
        if !keeper.checkpoint(self) {
            return 0;
        }
        let Ok(rows) = self.dead_rows(cell, ids) else { return 0 };
        cell.state().dead.extend(rows.iter().map(|row| (row.seq, None)));
        self.idle_calls.store(true, Ordering::SeqCst);
        if keeper.checkpoint(self) { rows.len() } else { 0 }
    }

    fn dead_rows(&self, cell: &Cell<T>, ids: &[Id]) -> Result<Vec<DeadRow>, StoreError> {
        let mut seqs: Vec<u64> = ids.iter().map(|Id(seq)| *seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        let rows = self.store.dead_among(cell.id, &seqs);
        rows.inspect_err(|error| tracing::error!(%error, "the dead letters cannot be read"))
    }

    /// See [`super::Queue::later_of`].
    pub fn later_of(&self, cell: &Cell<T>, Id(seq): Id) -> Vec<(Id, T)> {
        let Some((head, _)) = self.call(seq, &mut Vec::new()) else { return Vec::new() };
        let later = self.later(cell, &head);
        later.inspect_err(|error| tracing::error!("{error}")).unwrap_or_default()
    }

    /// The payloads of [`super::Claimed::later`].
    pub fn overtakers(&self, cell: &Cell<T>, head: &Head) -> Result<Vec<T>, ReadError> {
        if !cell.state().lane.is_to_be_reduced(head.seq) {
            return Ok(Vec::new());
        }
        Ok(self.later(cell, head)?.into_iter().map(|(_, payload)| payload).collect())
    }

    fn later(&self, cell: &Cell<T>, head: &Head) -> Result<Vec<(Id, T)>, ReadError> {
        // The outcomes of what has left the window are asked of the disk.
        self.keeper().checkpoint(self);
        let trail = self.trail(cell, head)?;
        let seqs = trail.keys.get(&head.order_key).cloned().unwrap_or_default();
        drop(trail);
        let mut near = Vec::new();
        let taken = seqs.into_iter().filter(|seq| *seq > head.seq && self.was_taken(cell, *seq));
        let found = taken.filter_map(|seq| {
            let (head, body) = self.call(seq, &mut near)?;
            Some((Id(seq), self.decode(&head, &body)?))
        });
        Ok(found.collect())
    }

    /// Reads on where the trail ends, or again from the oldest delivery on where it lacks this order key.
    fn trail<'c>(&self, cell: &'c Cell<T>, head: &Head) -> Result<MutexGuard<'c, Trail>, ReadError> {
        let mut trail = cell.trail.lock().unwrap_or_else(PoisonError::into_inner);
        if !trail.keys.contains_key(&head.order_key) || trail.read_to <= head.seq {
            let (lowest, keys) = cell.state().lane.redriven();
            trail.keys = keys.into_iter().chain([head.order_key]).map(|key| (key, VecDeque::new())).collect();
            trail.read_to = lowest.map_or(head.seq, |lowest| lowest.min(head.seq));
        }
        loop {
            let block = self.journal.read(trail.read_to, BLOCK)?;
            if block.is_empty() {
                return Ok(trail);
            }
            block.iter().for_each(|(head, _)| trail.note(head));
        }
    }

    /// Whether the vendor has what this delivery of the lane says.
    fn was_taken(&self, cell: &Cell<T>, seq: u64) -> bool {
        let is_taken = |state: u8| matches!(state, DELIVERED | SUBMITTED | SUPPRESSED);
        let feed = cell.state();
        if feed.lane.has(seq) {
            return is_taken(feed.lane.state(seq));
        }
        drop(feed);
        self.store.outcome(cell.id, seq).is_ok_and(is_taken)
    }

    /// Keeps the calls of dead letters below a sequence, since their segments are about to go; beyond `max_bytes` in all,
    /// the oldest kept ones go. `false` if that failed; then the segments must stay.
    pub fn keep_calls_below(&self, below: u64, max_bytes: u64) -> bool {
        let kept = self.try_keep_calls_below(below, max_bytes);
        kept.inspect_err(|error| tracing::warn!(%error, "segments stay: dead letters in them cannot be kept"))
            .is_ok()
    }

    fn try_keep_calls_below(&self, below: u64, max_bytes: u64) -> Result<(), Box<dyn std::error::Error>> {
        let first = self.journal.first_seq();
        let mut kept = self.store.kept_calls()?;
        let known: Vec<u64> = kept.iter().map(|(seq, _)| *seq).collect();
        let dead = self.store.dead_between(&self.lane_ids(), first, below)?;
        let mut near = Vec::new();
        let (mut calls, mut bytes) = (Vec::new(), 0);
        for seq in dead.into_iter().chain(self.open_redriven()).filter(|seq| *seq < below) {
            if known.binary_search(&seq).is_ok() {
                continue;
            }
            // What cannot be read now may be readable later: until then its segment stays.
            let Some((head, body)) = self.find_call(seq, &mut near)? else { continue };
            kept.push((seq, body.len() as u64));
            bytes += body.len();
            calls.push((head, body));
            if bytes > KEPT_AT_ONCE {
                self.store.keep_calls(&std::mem::take(&mut calls), &[])?;
                bytes = 0;
            }
        }
        kept.sort_unstable();
        let mut total: u64 = kept.iter().map(|(_, bytes)| bytes).sum();
        let mut too_many = Vec::new();
        for (seq, bytes) in kept {
            if total <= max_bytes {
                break;
            }
            total -= bytes;
            too_many.push(seq);
        }
        if !too_many.is_empty() {
            tracing::warn!(
                calls = too_many.len(),
                "the calls of the oldest dead letters make room for newer ones: they cannot be redriven any more; redrive \
                 or purge dead letters, or give [queue] more max_disk"
            );
        }
        if !calls.is_empty() || !too_many.is_empty() {
            self.store.keep_calls(&calls, &too_many)?;
        }
        Ok(())
    }

    /// Forgets kept calls that no dead letter and no open delivery needs.
    pub fn forget_calls(&self) -> Result<(), StoreError> {
        if !self.idle_calls.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        let kept = self.store.kept_calls()?;
        let Some((last, _)) = kept.last() else { return Ok(()) };
        let dead = self.store.dead_between(&self.lane_ids(), 0, last + 1)?;
        let open = self.open_redriven();
        self.idle_calls.fetch_or(!open.is_empty(), Ordering::SeqCst);
        let idle = |seq: &u64| dead.binary_search(seq).is_err() && !open.contains(seq);
        let forget: Vec<u64> = kept.into_iter().map(|(seq, _)| seq).filter(idle).collect();
        if forget.is_empty() { Ok(()) } else { self.store.keep_calls(&[], &forget) }
    }

    fn open_redriven(&self) -> BTreeSet<u64> {
        self.lanes().iter().flat_map(|cell| cell.state().lane.all_redriven()).collect()
    }
}
