//! What a lane needs is read again: a block of the journal, single events, or what it has left there.

use super::Payload;
use super::blocks::Decoded;
use super::codes;
use super::feed::{Fetched, Found, Step};
use super::journal::{ReadError, Stored};
use super::left::{self, Search};
use super::record::Head;
use super::shared::{BLOCK, Cell, Shared};
use super::store::StoreError;

/// How much is read around an event that is fetched again: bytes.
const FETCH: usize = 16 << 10;
/// How much is fetched at once: bytes.
const MAX_FETCHED: usize = 1 << 20;

/// Why something could not be read; it may be there all the same.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// What is kept beside it.
    #[error(transparent)]
    Kept(#[from] StoreError),
    /// What the lanes have done is not written down, and what is written is out of date.
    #[error("the lanes' state cannot be written down; see the errors about that file")]
    OutOfDate,
}

impl<T: Payload> Shared<T> {
    pub fn read_for(&self, cell: &Cell<T>, step: Step) -> Result<(), Unread> {
        match step {
            Step::Read { from, tail } => {
                let block = self.blocks.from(from, || {
                    let block = self.journal.read(from, BLOCK)?;
                    Ok::<_, ReadError>(block.iter().map(|stored| self.decoded(stored)).collect())
                })?;
                cell.state().add_block(from, tail, block);
            }
            Step::Fetch(seqs) => {
                let fetched = self.fetch(cell, seqs)?;
                cell.state().add_fetched(fetched);
            }
            Step::Search(search) => {
                let found = self.find(search)?;
                cell.state().lane.take_back(search, found);
            }
            Step::Out(_) | Step::Again | Step::Wait(_) => {}
        }
        Ok(())
    }

    pub fn decode(&self, head: &Head, body: &[u8]) -> Option<T> {
        (self.decode)(head, body)
    }

    fn decoded(&self, (head, body): &Stored) -> Decoded<T> {
        let payload = (self.decode)(head, body);
        let held_bytes = payload.as_ref().map_or(0, T::held_bytes);
        (*head, payload, held_bytes)
    }

    /// Reads single events again; the first of them, and as many more as fit.
    fn fetch(&self, cell: &Cell<T>, mut seqs: Vec<u64>) -> Result<Fetched<T>, Unread> {
        let first = seqs.first().copied().unwrap_or_default();
        seqs.sort_unstable();
        // In the journal's order, but from the first on: nothing can be handed out before it is here.
        let before = seqs.partition_point(|seq| *seq < first);
        seqs.rotate_left(before);
        let mut block: Vec<Stored> = Vec::new();
        let mut fetched = Vec::with_capacity(seqs.len());
        let mut bytes = 0;
        for seq in seqs {
            if bytes > MAX_FETCHED {
                break;
            }
            let ends = block.first().zip(block.last());
            let is_near = ends.is_some_and(|((first, _), (last, _))| (first.seq..=last.seq).contains(&seq));
            if !is_near && seq >= self.journal.first_seq() {
                block = self.journal.read(seq, FETCH)?;
            }
            let at = block.partition_point(|(head, _)| head.seq < seq);
            let found = block.get(at).filter(|(head, _)| head.seq == seq).cloned();
            let found = match found {
                None => self.kept(seq)?,
                found => found,
            };
            let found = match found {
                Some((head, body)) => {
                    bytes += body.len();
                    let later = self.overtakers(cell, &head)?;
                    let found = |payload| Found { source: head.source, payload, later };
                    self.decode(&head, &body).map(found).ok_or(codes::UNDECODABLE)
                }
                None => Err(codes::LOST),
            };
            fetched.push((seq, found));
        }
        Ok(fetched)
    }

    /// Looks through one block of the journal.
    fn find(&self, search: Search) -> Result<left::Found, Unread> {
        let block = self.journal.read(search.from, BLOCK)?;
        let mut found = left::Found { events: Vec::new(), next: search.to };
        if let Some((last, _)) = block.last() {
            found.next = (last.seq + 1).min(search.to);
        }
        // Asked after the journal was: what it lets go of meanwhile is kept before.
        let journal_from = block.first().map_or(search.to, |(head, _)| head.seq).min(search.to);
        let kept = self.store.kept_of(search.order_key, search.from..journal_from)?;
        let its = |head: &Head| head.seq < search.to && head.order_key == search.order_key;
        let read =
            block.iter().filter(|(head, _)| its(head)).map(|(head, _)| (head.seq, head.received_at_ms));
        for event in kept.into_iter().chain(read) {
            if found.events.len() == search.max {
                found.next = event.0;
                break;
            }
            found.events.push(event);
        }
        Ok(found)
    }
}
