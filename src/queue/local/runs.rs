//! Runs over retained calls, and reading those calls. What a claim does with them is the same as for every lane.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::LocalQueue;
use crate::queue::codes::{GAP, UNREAD, WAITING};
use crate::queue::delta::Saved;
use crate::queue::journal::ReadError;
use crate::queue::record::Head;
use crate::queue::runs::{Passage, Range, Retained, Run, RunInfo, Runs, Standing, Start, Unreadable};
use crate::queue::shared::{BLOCK, Cell, Shared, read, write};
use crate::queue::store::{SavedLane, StoreError};
use crate::queue::window::Shape;
use crate::queue::{AppendError, Id, Payload};

/// A call is journalled after it was received, by as long as its request's body takes: calls of a time are looked for
/// this much before and behind. Milliseconds.
const OUT_OF_ORDER_MS: i64 = 120_000;

impl<T: Payload> Runs<T> for LocalQueue<T> {
    fn add_run(&self, lane: &str, range: Range) -> Result<RunInfo, AppendError> {
        let shared = &*self.shared;
        let failed = |error: ReadError| AppendError::Failed(error.to_string());
        let mut run = shared.sequences(range).map_err(failed)?;
        // Held so that nothing goes that the run needs, before it is known to be needed.
        let _keeper = shared.keeper();
        run.first = run.first.max(shared.journal.first_seq()).min(run.end);
        if let Some(cell) = shared.lane(lane) {
            run = cell.run.ok_or_else(|| AppendError::Failed(format!("{lane} is no run")))?;
        } else {
            shared.begin_run(lane, run)?;
        }
        Ok(RunInfo { calls: run.end - run.first, kept_from_ms: shared.kept_from_ms().map_err(failed)? })
    }

    fn remove_run(&self, lane: &str) -> Result<(), AppendError> {
        let shared = &*self.shared;
        let mut keeper = shared.keeper();
        let Some(cell) = shared.lane(lane).filter(|cell| cell.run.is_some()) else { return Ok(()) };
        shared.store.delete_run(cell.id).map_err(not_written)?;
        keeper.forget(cell.id);
        write(&shared.lanes).remove(lane);
        shared.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| known.id != cell.id);
        // Calls that were kept for it alone.
        shared.idle_calls.store(true, Ordering::SeqCst);
        shared.wake_all_lanes();
        cell.wake.notify_waiters();
        shared.bell.changed();
        Ok(())
    }

    fn kept_from_ms(&self) -> Result<Option<i64>, Unreadable> {
        self.shared.kept_from_ms().map_err(|error| Unreadable(error.to_string()))
    }

    fn retained(&self, lane: &str, start: Start) -> Result<Passage<T>, Unreadable> {
        let shared = &*self.shared;
        let unreadable = |error: ReadError| Unreadable(error.to_string());
        let from = match start {
            Start::At(Id(seq)) => seq,
            Start::ReceivedFrom(ms) => {
                shared.first_received_from(ms.saturating_sub(OUT_OF_ORDER_MS)).map_err(unreadable)?
            }
        };
        let end = shared.journal.next_seq();
        let block = shared.journal.read(from, BLOCK).map_err(unreadable)?;
        let Some((last, _)) = block.last() else {
            return Ok(Passage { calls: Vec::new(), next: Id(end.max(from)), end: true });
        };
        let next = last.seq + 1;
        let cell = shared.lane(lane);
        let mut standings = Standings::new(shared, cell.as_deref());
        let mut calls = Vec::with_capacity(block.len());
        for (head, body) in &block {
            let Some(payload) = (shared.decode)(head, body) else { continue };
            let standing = standings.of(head).map_err(|error| Unreadable(error.to_string()))?;
            calls.push(Retained {
                id: Id(head.seq),
                source: head.source,
                order_key: head.order_key,
                received_at_ms: head.received_at_ms,
                standing,
                payload,
            });
        }
        Ok(Passage { calls, next: Id(next), end: next >= end })
    }
}

fn not_written(error: StoreError) -> AppendError {
    AppendError::Failed(error.to_string())
}

impl<T: Payload> Shared<T> {
    /// The sequences that calls of a time may have.
    fn sequences(&self, range: Range) -> Result<Run, ReadError> {
        let first = self.first_received_from(range.since_ms.saturating_sub(OUT_OF_ORDER_MS))?;
        let end = self.first_received_from(range.until_ms.saturating_add(OUT_OF_ORDER_MS))?;
        Ok(Run { first: first.min(end), end, range })
    }

    /// The sequence of the first call that was received at a time or later, where they were received in order; else one
    /// near it. The journal's end if there is none.
    fn first_received_from(&self, ms: i64) -> Result<u64, ReadError> {
        let (mut low, mut high) = (self.journal.first_seq(), self.journal.next_seq());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.journal.read(middle, 1)?.first() {
                Some((head, _)) if head.seq < high && head.received_at_ms < ms => low = head.seq + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    fn kept_from_ms(&self) -> Result<Option<i64>, ReadError> {
        let first = self.journal.first_seq();
        if first <= 1 {
            return Ok(None);
        }
        Ok(self.journal.read(first, 1)?.first().map(|(head, _)| head.received_at_ms))
    }

    fn begin_run(&self, name: &str, run: Run) -> Result<(), AppendError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let id = Self::next_lane_id(&known)
            .ok_or_else(|| AppendError::Failed("there are 65,535 lanes in this data directory".to_owned()))?;
        let saved = Saved { base: run.first, ..Saved::default() };
        let mut lane = SavedLane { id, name: name.to_owned(), active: true, saved };
        self.store.put_run(&lane, &run).map_err(not_written)?;
        write(&self.lanes).insert(name.to_owned(), self.cell(&lane, Some(run)));
        lane.saved = Saved::default();
        known.push(lane);
        drop(known);
        self.wake_all_lanes();
        Ok(())
    }
}

/// What became of one call after the other in a lane.
struct Standings<'a, T> {
    shared: &'a Shared<T>,
    cell: Option<&'a Cell<T>>,
    /// Everything below is finished and written down.
    written_below: u64,
    chunk: Option<(u64, Vec<u8>)>,
}

impl<'a, T: Clone> Standings<'a, T> {
    fn new(shared: &'a Shared<T>, cell: Option<&'a Cell<T>>) -> Self {
        let written_below = cell.map_or(0, |cell| cell.needed.load(Ordering::SeqCst));
        Self { shared, cell, written_below, chunk: None }
    }

    fn of(&mut self, head: &Head) -> Result<Standing, StoreError> {
        let seq = head.seq;
        let Some(cell) = self.cell else { return Ok(Standing::Foreign) };
        let feed = cell.state();
        if feed.lane.is_open(seq) || feed.lane.is_left(seq, head.order_key) {
            return Ok(Standing::Open);
        }
        let state = feed.lane.state(seq);
        drop(feed);
        let state = if state == UNREAD { self.written(cell.id, seq)? } else { state };
        Ok(match state {
            // The lane has not come to it, or it has left its memory and is not written down yet.
            UNREAD if seq >= self.written_below => Standing::Open,
            UNREAD | GAP => Standing::Foreign,
            WAITING.. => Standing::Open,
            number => match read(&self.shared.codes).code(number) {
                Some(code) => Standing::Ended(code.clone()),
                None => Standing::Foreign,
            },
        })
    }

    fn written(&mut self, lane: u16, seq: u64) -> Result<u8, StoreError> {
        let number = seq >> Shape::CHUNK_BITS;
        if self.chunk.as_ref().is_none_or(|(at, _)| *at != number) {
            self.chunk = Some((number, self.shared.store.chunk(lane, number)?));
        }
        let at = (seq & ((1 << Shape::CHUNK_BITS) - 1)) as usize;
        Ok(self.chunk.as_ref().and_then(|(_, states)| states.get(at)).copied().unwrap_or(UNREAD))
    }
}
