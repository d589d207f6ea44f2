//! What is written down of a lane, and what it is resumed from. Writing is the store's.

use std::collections::BTreeMap;

/// What is kept on disk of a delivery that waits for another attempt, or that is parked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// As in the record's head.
    pub order_key: u64,
    /// As in the record's head: milliseconds since 1970.
    pub received_at_ms: i64,
    /// How many attempts were made; 0 for one that waits behind another.
    pub attempts: u32,
    /// From when its owner counts.
    pub first_attempt_at_ms: i64,
    /// When the next one may be made: milliseconds since 1970.
    pub due_at_ms: i64,
    /// Why the last one did not end it, for people.
    pub reason: String,
}

impl Row {
    /// Whether it is of one delivery, and not of a range that is left in the journal.
    pub fn is_delivery(&self) -> bool {
        super::left::Left::of(0, self).is_none()
    }
}

/// What changed since the last checkpoint, and where the lane stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// After a restart the lane reads the journal from here.
    pub base: u64,
    /// The lowest sequence that the lane still needs.
    pub needed: u64,
    /// How many calls had been journalled when the lane began.
    pub begin: u64,
    /// Counts of the codes that changed.
    pub counts: BTreeMap<u8, u64>,
    /// Encoded outcomes by chunk number.
    pub chunks: BTreeMap<u64, Vec<u8>>,
    /// Outcomes in chunks that have left the window, to be applied after `chunks`.
    pub patches: Vec<(u64, u8)>,
    /// Rows to be written, or deleted.
    pub rows: BTreeMap<u64, Option<Row>>,
    /// Deliveries that were opened again, and whether whole; `None` for those that have ended since.
    pub redriven: BTreeMap<u64, Option<bool>>,
}

impl Delta {
    /// Whether something may have ended, or come back into the window, that had left it.
    pub fn ends_waits(&self) -> bool {
        !self.patches.is_empty() || !self.rows.is_empty() || !self.redriven.is_empty()
    }

    /// Adds what came later.
    pub fn absorb(&mut self, later: Self) {
        self.base = later.base;
        self.needed = later.needed;
        self.begin = later.begin;
        self.counts.extend(later.counts);
        self.chunks.extend(later.chunks);
        self.patches.extend(later.patches);
        self.rows.extend(later.rows);
        self.redriven.extend(later.redriven);
    }
}

/// What an earlier run wrote down of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// As in [`Delta`].
    pub base: u64,
    /// As in [`Delta`].
    pub begin: u64,
    /// All counts.
    pub counts: BTreeMap<u8, u64>,
    /// The chunks from `base` on.
    pub chunks: BTreeMap<u64, Vec<u8>>,
    /// All rows.
    pub rows: BTreeMap<u64, Row>,
    /// What was opened again and has not ended, and whether whole.
    pub redriven: BTreeMap<u64, bool>,
}
