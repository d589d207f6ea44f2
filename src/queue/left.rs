//! Events of one order key that a lane has left in the journal, because too many of them wait behind one another: a
//! range of sequences, in memory and on disk, however many they are. They are read again when their turn comes near.

use super::delta::Row;

/// What [`Row::attempts`] is for such a range; a real delivery never has so many.
const MARK: u32 = u32::MAX;

/// See the module. Every open event of the key from `from` on and below `to` is left, and none of another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The first that may be one.
    pub from: u64,
    /// After the last.
    pub to: u64,
    /// How many they are.
    pub count: u64,
    /// When the first was received, about: milliseconds since 1970.
    pub received_at_ms: i64,
    /// It has to be written down.
    pub changed: bool,
    /// The sequence that its row has on disk.
    pub row_at: Option<u64>,
}

impl Left {
    /// Where it is written down: under its last event's sequence, which no other row has.
    pub fn last(&self) -> u64 {
        self.to.saturating_sub(1)
    }

    /// As it is written down.
    pub fn row(&self, order_key: u64) -> Row {
        Row {
            order_key,
            received_at_ms: self.received_at_ms,
            attempts: MARK,
            first_attempt_at_ms: self.from.cast_signed(),
            due_at_ms: self.count.cast_signed(),
            reason: String::new(),
        }
    }

    /// What the row of a sequence says, if it is of a range.
    pub fn of(last: u64, row: &Row) -> Option<Left> {
        (row.attempts == MARK).then(|| Left {
            from: row.first_attempt_at_ms.cast_unsigned(),
            to: last + 1,
            count: row.due_at_ms.cast_unsigned(),
            received_at_ms: row.received_at_ms,
            changed: false,
            row_at: Some(last),
        })
    }
}

/// What is to be read again: the events of an order key in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// Whose.
    pub order_key: u64,
    /// From this sequence on.
    pub from: u64,
    /// Below this one.
    pub to: u64,
    /// At most so many.
    pub max: usize,
}

/// What was found: sequences and when they were received, in order, and from where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The events.
    pub events: Vec<(u64, i64)>,
    /// Everything below was looked at.
    pub next: u64,
}
