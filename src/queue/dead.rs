//! Dead letters of the local queue: reading them, opening them again, deleting them, and what has overtaken one that is
//! opened again.

use std::collections::{HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};

use super::codes::{DELIVERED, SUBMITTED, SUPPRESSED, UNREAD, WAITING};
use super::feed::Step;
use super::journal::Stored;
use super::lane::redrive::Letter;
use super::reading::Unread;
use super::record::Head;
use super::shared::{BLOCK, Cell, Shared, read};
use super::store::{DeadRow, StoreError};
use super::{BACKLOG, Code, Dead, DeadLetter, Id, Payload};

/// How many of an order key's later calls are looked at: of more than these, only those that say something that no later one
/// that was taken says again, and of more than these in turn, the newest.
const MOST_LATER: usize = 256;
/// How many there are after that at most, so that it is not done again for every call.
const KEPT_LATER: usize = 192;
/// How much of a call's neighbourhood is read to find it: bytes.
const NEAR: usize = 16 << 10;

/// The later calls of the order keys whose deliveries were opened again, as far as the journal was read.
#[derive(Default)]
pub struct Trail {
    keys: HashMap<u64, Vec<u64>>,
    /// Order keys of which so many were open that some are not among them: these may be taken by now.
    lacking: HashSet<u64>,
    /// What was read: from this sequence on,
    from: u64,
    /// and below this one.
    read_to: u64,
}

impl Trail {
    fn note(&mut self, head: &Head) {
        if let Some(seqs) = self.keys.get_mut(&head.order_key) {
            seqs.push(head.seq);
        }
        self.read_to = head.seq + 1;
    }
}

impl<T: Clone> Cell<T> {
    /// What was read for deliveries that were opened again takes memory that is not needed when none is open.
    pub fn forget_trail(&self) {
        if self.state().lane.redriven().0.is_none() {
            *self.trail.lock().unwrap_or_else(PoisonError::into_inner) = Trail::default();
            self.reopened.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

impl<T: Payload> Shared<T> {
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
        let reason = match row.dead.reason.as_str() {
            "" if code == BACKLOG => {
                "more calls waited for the destination than its max_backlog allows".to_owned()
            }
            reason => reason.to_owned(),
        };
        DeadLetter {
            id: Id(row.seq),
            dead: Dead { code, reason, ..row.dead },
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
        found.or_else(|_| self.kept(seq)).unwrap_or_default()
    }

    /// As [`Self::call`], for whom it matters whether a call is not there or cannot be read.
    fn find_call(&self, seq: u64, near: &mut Vec<Stored>) -> Result<Option<Stored>, Unread> {
        if seq < self.journal.first_seq() {
            return Ok(self.kept(seq)?);
        }
        let ends = near.first().zip(near.last());
        if ends.is_none_or(|((first, _), (last, _))| !(first.seq..=last.seq).contains(&seq)) {
            near.clear();
            *near = self.journal.read(seq, NEAR)?;
        }
        let at = near.partition_point(|(head, _)| head.seq < seq);
        match near.get(at).filter(|(head, _)| head.seq == seq) {
            Some(call) => Ok(Some(call.clone())),
            None => Ok(self.kept(seq)?),
        }
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
        let letter = |row: DeadRow| {
            let (Head { seq, order_key, received_at_ms, .. }, _) = self.call(row.seq, &mut near)?;
            Some(Letter { seq, number: row.number, order_key, received_at_ms, whole })
        };
        let letters: Vec<Letter> = rows.into_iter().filter_map(letter).collect();
        if let Some(last) = letters.last() {
            self.come_to(cell, last.seq);
        }
        let mut feed = cell.state();
        let (mut opened, mut reopened) = (0, Vec::new());
        for letter in letters {
            let Letter { seq, order_key, whole, .. } = letter;
            if feed.lane.redrive(letter) {
                feed.dead.push((seq, None));
                opened += 1;
                // What is sent whole asks for no trail.
                reopened.extend((!whole).then_some(order_key));
            }
        }
        drop(feed);
        cell.reopened.lock().unwrap_or_else(PoisonError::into_inner).extend(reopened);
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
    pub fn overtakers(&self, cell: &Cell<T>, head: &Head) -> Result<Vec<T>, Unread> {
        if !cell.state().lane.is_to_be_reduced(head.seq) {
            return Ok(Vec::new());
        }
        Ok(self.later(cell, head)?.into_iter().map(|(_, payload)| payload).collect())
    }

    fn later(&self, cell: &Cell<T>, head: &Head) -> Result<Vec<(Id, T)>, Unread> {
        // The outcomes of what has left the window are asked of the disk.
        if !self.keeper().checkpoint(self) {
            return Err(Unread::OutOfDate);
        }
        let trail = self.trail(cell, head)?;
        let seqs = trail.keys.get(&head.order_key).cloned().unwrap_or_default();
        drop(trail);
        let (mut near, mut found) = (Vec::new(), Vec::new());
        for seq in seqs.into_iter().filter(|seq| *seq > head.seq) {
            if self.standing(cell, seq)? != Standing::Taken {
                continue;
            }
            let call = self.find_call(seq, &mut near)?;
            let payload = call.and_then(|(head, body)| self.decode(&head, &body));
            found.extend(payload.map(|payload| (Id(seq), payload)));
        }
        Ok(found)
    }

    /// Reads on where the trail ends, or again from the oldest delivery on where it lacks this order key.
    fn trail<'c>(&self, cell: &'c Cell<T>, head: &Head) -> Result<MutexGuard<'c, Trail>, Unread> {
        let mut trail = cell.trail.lock().unwrap_or_else(PoisonError::into_inner);
        let reopened = std::mem::take(&mut *cell.reopened.lock().unwrap_or_else(PoisonError::into_inner));
        for key in reopened {
            if trail.lacking.remove(&key) {
                trail.keys.remove(&key);
            }
        }
        let was_read = (trail.from..trail.read_to).contains(&head.seq);
        if !trail.keys.contains_key(&head.order_key) || !was_read {
            let (lowest, keys) = cell.state().lane.redriven();
            trail.keys = keys.into_iter().chain([head.order_key]).map(|key| (key, Vec::new())).collect();
            trail.lacking.clear();
            trail.from = lowest.map_or(head.seq, |lowest| lowest.min(head.seq));
            trail.read_to = trail.from;
        }
        loop {
            let block = self.journal.read(trail.read_to, BLOCK)?;
            if block.is_empty() {
                return Ok(trail);
            }
            block.iter().for_each(|(head, _)| trail.note(head));
            let Trail { keys, lacking, .. } = &mut *trail;
            for (key, seqs) in keys.iter_mut().filter(|(_, seqs)| seqs.len() > MOST_LATER) {
                let (matter, is_whole) = self.thinned(cell, seqs)?;
                *seqs = matter;
                if !is_whole {
                    lacking.insert(*key);
                }
            }
        }
    }

    /// Of very many later calls of one order key, those that matter.
    fn thinned(&self, cell: &Cell<T>, seqs: &[u64]) -> Result<(Vec<u64>, bool), Unread> {
        let (mut near, mut taken, mut payloads, mut open) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for seq in seqs.iter().copied() {
            match self.standing(cell, seq)? {
                Standing::Over => {}
                Standing::Open => open.push(seq),
                Standing::Taken => {
                    let call = self.find_call(seq, &mut near)?;
                    if let Some(payload) = call.and_then(|(head, body)| self.decode(&head, &body)) {
                        taken.push(seq);
                        payloads.push(payload);
                    }
                }
            }
        }
        let still_say = T::still_say(&payloads);
        let mut matter: Vec<u64> =
            taken.into_iter().zip(still_say).filter(|(_, says)| *says).map(|(seq, _)| seq).collect();
        // What the vendor has counts before what it may get.
        let newest = |seqs: &mut Vec<u64>, most: usize| drop(seqs.drain(..seqs.len().saturating_sub(most)));
        newest(&mut matter, KEPT_LATER);
        let is_whole = open.len() <= KEPT_LATER - matter.len();
        newest(&mut open, KEPT_LATER - matter.len());
        matter.extend(open);
        matter.sort_unstable();
        Ok((matter, is_whole))
    }

    /// What a vendor has of a delivery of the lane.
    fn standing(&self, cell: &Cell<T>, seq: u64) -> Result<Standing, StoreError> {
        let feed = cell.state();
        // What lies ahead of it after a restart is known on disk only.
        let is_known = feed.lane.has(seq) && seq < feed.lane.next();
        let in_window = is_known.then(|| feed.lane.state(seq));
        drop(feed);
        let state = match in_window {
            Some(state) => state,
            None => self.store.outcome(cell.id, seq)?,
        };
        Ok(match state {
            DELIVERED | SUBMITTED | SUPPRESSED => Standing::Taken,
            UNREAD | WAITING.. => Standing::Open,
            // A dead letter may be opened again.
            state if matches!(read(&self.codes).code(state), Some(Code::Dead(_))) => Standing::Open,
            _ => Standing::Over,
        })
    }
}

/// What a vendor has of a delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// What it says.
    Taken,
    /// Nothing so far.
    Open,
    /// Nothing, and that stays so.
    Over,
}
