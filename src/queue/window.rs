//! The part of the journal that a lane has open: one state, order key and time per sequence, in chunks.
//!
//! Chunks join at the front of the journal and leave, encoded, once nothing in them is open. Which event may be
//! claimed when is not decided here.

use std::collections::{BTreeMap, VecDeque};

use super::chunks;
use super::codes::{GAP, RETRY, UNREAD, WAITING};

/// Sizes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// A chunk holds two to the power of this many sequences.
    pub chunk_bits: u32,
    /// How many chunks may be open, at least one.
    pub chunks: usize,
}

impl Shape {
    /// How many sequences a chunk on disk holds: two to the power of this.
    pub const CHUNK_BITS: u32 = 12;

    /// A window of at least so many events, in chunks of 4,096.
    pub fn of_events(events: usize) -> Self {
        Self { chunk_bits: Self::CHUNK_BITS, chunks: events.div_ceil(1 << Self::CHUNK_BITS).max(2) }
    }

    /// How many sequences a chunk holds.
    pub fn chunk_len(&self) -> usize {
        1 << self.chunk_bits
    }
}

/// What a lane keeps of an open event, beside its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// As in the record's head.
    pub order_key: u64,
    /// As in the record's head: milliseconds since 1970.
    pub received_at_ms: i64,
}

struct Chunk {
    states: Vec<u8>,
    slots: Vec<Slot>,
    open: u32,
    changed: bool,
}

/// See the module.
pub struct Window {
    shape: Shape,
    first_chunk: u64,
    chunks: VecDeque<Chunk>,
    next: u64,
    low: u64,
    /// Outcomes of an earlier run that the lane comes to again.
    resumed: BTreeMap<u64, Vec<u8>>,
}

impl Window {
    /// A window that begins at a sequence, with the outcomes that are known already, encoded, by chunk number.
    pub fn new(shape: Shape, start: u64, resumed: BTreeMap<u64, Vec<u8>>) -> Self {
        let first_chunk = start >> shape.chunk_bits;
        let is_known = resumed.contains_key(&first_chunk);
        let mut window =
            Self { shape, first_chunk, chunks: VecDeque::new(), next: start, low: start, resumed };
        if is_known {
            // What it knows of earlier sequences must not be forgotten, nor written over.
            window.has_room();
        }
        window
    }

    /// The first sequence that the lane has not come to.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The lowest sequence whose state is kept here.
    pub fn base(&self) -> u64 {
        if self.chunks.is_empty() { self.next } else { self.first_chunk << self.shape.chunk_bits }
    }

    /// The lowest open sequence; the next one if none is open.
    pub fn low(&mut self) -> u64 {
        self.low = self.low.max(self.base());
        while self.low < self.next && self.state(self.low) < WAITING {
            self.low += 1;
        }
        self.low
    }

    fn place(&self, seq: u64) -> Option<(usize, usize)> {
        let chunk = (seq >> self.shape.chunk_bits).checked_sub(self.first_chunk)?;
        Some((usize::try_from(chunk).ok()?, (seq as usize) & (self.shape.chunk_len() - 1)))
    }

    /// The state of a sequence; unread outside the window.
    pub fn state(&self, seq: u64) -> u8 {
        let state = || {
            let (chunk, at) = self.place(seq)?;
            self.chunks.get(chunk)?.states.get(at).copied()
        };
        state().unwrap_or(UNREAD)
    }

    /// What is kept of an open event.
    pub fn slot(&self, seq: u64) -> Option<Slot> {
        let (chunk, at) = self.place(seq)?;
        let chunk = self.chunks.get(chunk)?;
        if chunk.states.get(at).is_none_or(|state| *state < WAITING) {
            return None;
        }
        chunk.slots.get(at).copied()
    }

    /// Changes the state of a sequence in the window.
    pub fn set(&mut self, seq: u64, state: u8) {
        let Some((chunk, at)) = self.place(seq) else { return };
        let Some(chunk) = self.chunks.get_mut(chunk) else { return };
        let Some(now) = chunk.states.get_mut(at) else { return };
        let before = std::mem::replace(now, state);
        chunk.changed |= chunks::on_disk(before) != chunks::on_disk(state);
        match (before >= WAITING, state >= WAITING) {
            (false, true) => chunk.open += 1,
            (true, false) => chunk.open = chunk.open.saturating_sub(1),
            _ => {}
        }
    }

    /// Whether there is room for the next sequence, made if need be.
    pub fn has_room(&mut self) -> bool {
        if self.chunks.is_empty() {
            self.first_chunk = self.next >> self.shape.chunk_bits;
        }
        match self.place(self.next) {
            Some((chunk, _)) if chunk < self.chunks.len() => return true,
            _ if self.chunks.len() >= self.shape.chunks.max(1) => return false,
            _ => {}
        }
        let number = self.next >> self.shape.chunk_bits;
        let len = self.shape.chunk_len();
        let known = self.resumed.remove(&number).and_then(|bytes| chunks::decode(&bytes, len));
        let mut states = known.unwrap_or_else(|| vec![UNREAD; len]);
        if self.chunks.is_empty() {
            let begin = (self.next as usize) & (len - 1);
            states.iter_mut().take(begin).filter(|state| **state == UNREAD).for_each(|state| *state = GAP);
        }
        self.chunks.push_back(Chunk { states, slots: vec![Slot::default(); len], open: 0, changed: true });
        true
    }

    /// Goes past the next sequence, for which there must be room: it has no call, or what is known of it stays.
    pub fn pass(&mut self, state: u8) {
        if self.state(self.next) == UNREAD {
            self.set(self.next, state);
        }
        self.next += 1;
    }

    /// Takes in the next sequence, for which there must be room.
    pub fn take_in(&mut self, slot: Slot) {
        if let Some((chunk, at)) = self.place(self.next)
            && let Some(place) = self.chunks.get_mut(chunk).and_then(|chunk| chunk.slots.get_mut(at))
        {
            *place = slot;
        }
        self.set(self.next, WAITING);
        self.next += 1;
    }

    /// Takes in a sequence that was passed and left open. `false` if it is not kept here any more.
    pub fn take_in_late(&mut self, seq: u64, slot: Slot) -> bool {
        if seq >= self.next || self.state(seq) != UNREAD {
            return false;
        }
        let Some((chunk, at)) = self.place(seq) else { return false };
        let Some(place) = self.chunks.get_mut(chunk).and_then(|chunk| chunk.slots.get_mut(at)) else {
            return false;
        };
        *place = slot;
        self.set(seq, WAITING);
        self.low = self.low.min(seq);
        true
    }

    /// The sequences in the window that are open and not claimed, from the oldest on.
    pub fn unclaimed(&mut self) -> impl Iterator<Item = (u64, Slot)> + '_ {
        let low = self.low();
        (low..self.next)
            .filter(|seq| matches!(self.state(*seq), WAITING | RETRY))
            .filter_map(|seq| self.slot(seq).map(|slot| (seq, slot)))
    }

    /// Opens a sequence again that the window has come to and not left.
    pub fn reopen(&mut self, seq: u64, slot: Slot) {
        if let Some((chunk, at)) = self.place(seq)
            && let Some(place) = self.chunks.get_mut(chunk).and_then(|chunk| chunk.slots.get_mut(at))
        {
            *place = slot;
        }
        self.set(seq, WAITING);
        self.low = self.low.min(seq);
    }

    /// Begins again at a sequence far ahead; nothing may be open. Hands out the chunks that are left behind.
    pub fn jump(&mut self, seq: u64, mut left: impl FnMut(u64, Vec<u8>)) {
        for (number, chunk) in (self.first_chunk..).zip(self.chunks.drain(..)) {
            let bytes = chunks::encode(&chunk.states);
            if number == seq >> self.shape.chunk_bits {
                self.resumed.insert(number, bytes.clone());
            }
            left(number, bytes);
        }
        self.resumed.retain(|number, _| *number >= seq >> self.shape.chunk_bits);
        self.next = seq;
    }

    /// Lets go of the chunks at the front in which nothing is open any more.
    pub fn retire(&mut self, mut left: impl FnMut(u64, Vec<u8>)) {
        while self.chunks.front().is_some_and(|chunk| chunk.open == 0)
            && (self.first_chunk + 1) << self.shape.chunk_bits <= self.next
        {
            self.pop(&mut left);
        }
    }

    /// Lets go of the chunk at the front with whatever is open in it.
    pub fn pop(&mut self, mut left: impl FnMut(u64, Vec<u8>)) {
        if let Some(chunk) = self.chunks.pop_front() {
            left(self.first_chunk, chunks::encode(&chunk.states));
            self.first_chunk += 1;
        }
    }

    /// How many events are open in the chunk at the front.
    pub fn open_in_front(&self) -> usize {
        self.chunks.front().map_or(0, |chunk| chunk.open as usize)
    }

    /// How many sequences from the next one on are known to be finished, by an earlier run.
    pub fn known_ahead(&self) -> u64 {
        let known = |states: &[u8]| states.iter().filter(|state| **state != UNREAD).count() as u64;
        let here = self.place(self.next).and_then(|(chunk, at)| self.chunks.get(chunk)?.states.get(at..));
        let len = self.shape.chunk_len();
        let later = self.resumed.iter().filter_map(|(number, bytes)| {
            let passed = self.next.saturating_sub(number << self.shape.chunk_bits) as usize;
            Some(known(chunks::decode(bytes, len)?.get(passed..).unwrap_or_default()))
        });
        here.map_or(0, known) + later.sum::<u64>()
    }

    /// Whether nothing is open in the whole window.
    pub fn is_quiet(&self) -> bool {
        self.chunks.iter().all(|chunk| chunk.open == 0)
    }

    /// The open events of the chunk at the front, in order.
    pub fn front(&self) -> impl Iterator<Item = (u64, Slot)> + '_ {
        let begin = self.first_chunk << self.shape.chunk_bits;
        let chunk = self.chunks.front();
        let pairs = chunk.map(|chunk| chunk.states.iter().zip(&chunk.slots)).into_iter().flatten();
        (begin..).zip(pairs).filter(|(_, (state, _))| **state >= WAITING).map(|(seq, (_, slot))| (seq, *slot))
    }

    /// Hands out the chunks that changed since the last call and stay.
    pub fn changed(&mut self, mut changed: impl FnMut(u64, Vec<u8>)) {
        for (number, chunk) in (self.first_chunk..).zip(self.chunks.iter_mut()) {
            if std::mem::take(&mut chunk.changed) {
                changed(number, chunks::encode(&chunk.states));
            }
        }
    }

    /// Hands out all chunks.
    pub fn all(&self, mut each: impl FnMut(u64, Vec<u8>)) {
        for (number, chunk) in (self.first_chunk..).zip(&self.chunks) {
            each(number, chunks::encode(&chunk.states));
        }
    }
}
