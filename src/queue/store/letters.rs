//! The dead letters in the state file: their rows, which of them were opened again, and the calls of those whose segment
//! of the journal has gone. Each call is kept once, however many lanes need it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{
    ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};

use super::{DeadRow, Store, StoreError};
use crate::queue::Dead;
use crate::queue::codes::cut;
use crate::queue::delta::{Delta, Saved};
use crate::queue::journal::Stored;
use crate::queue::record::Head;

/// The longest answer of a dead letter: bytes.
const MAX_ANSWER: usize = 512;
/// The longest request of a dead letter: bytes.
const MAX_REQUEST: usize = 4096;
/// The longest reason of a dead letter: bytes, for 300 characters.
const MAX_REASON: usize = 1200;

/// What a row takes besides its texts, about: bytes.
const ROW: usize = 40;

/// Lane, sequence → code, attempts, died at, reason, answer.
type DeadValue = (u8, u32, i64, &'static str, &'static str);
const DEAD: TableDefinition<(u16, u64), DeadValue> = TableDefinition::new("dead_letters");
/// Lane, sequence → first attempt, order key, received, request.
type MoreValue = (i64, u64, i64, Option<&'static str>);
const MORE: TableDefinition<(u16, u64), MoreValue> = TableDefinition::new("dead_letters_more");
/// Lane, sequence → whole.
const REDRIVEN: TableDefinition<(u16, u64), bool> = TableDefinition::new("redriven");
/// Sequence → source, received, kind, order key, message key, body.
type CallValue = (u16, i64, u8, u64, u64, &'static [u8]);
const CALLS: TableDefinition<u64, CallValue> = TableDefinition::new("kept_calls");

/// Deletes everything about a lane.
pub fn delete(tx: &WriteTransaction, lane: u16) -> Result<(), redb::Error> {
    tx.open_table(DEAD)?.retain_in((lane, 0)..=(lane, u64::MAX), |_, _| false)?;
    tx.open_table(MORE)?.retain_in((lane, 0)..=(lane, u64::MAX), |_, _| false)?;
    tx.open_table(REDRIVEN)?.retain_in((lane, 0)..=(lane, u64::MAX), |_, _| false)?;
    Ok(())
}

/// Sequence → order key, length of the body, of every kept call.
const INDEX: TableDefinition<u64, (u64, u64)> = TableDefinition::new("kept_calls_index");

/// A kept call, without the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptCall {
    /// Its sequence.
    pub seq: u64,
    /// As in its head.
    pub order_key: u64,
    /// Of its body.
    pub bytes: u64,
}

/// Creates the tables where they are missing.
pub fn create(tx: &WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(DEAD)?;
    tx.open_table(MORE)?;
    tx.open_table(REDRIVEN)?;
    let mut index = tx.open_table(INDEX)?;
    if index.is_empty()? {
        for entry in tx.open_table(CALLS)?.iter()? {
            let (seq, call) = entry?;
            let (_, _, _, order_key, _, body) = call.value();
            index.insert(seq.value(), (order_key, body.len() as u64))?;
        }
    }
    Ok(())
}

/// Writes rows, or deletes them, one after the other. Hands out about how many bytes were deleted.
pub fn write(tx: &WriteTransaction, changes: &[(u16, u64, Option<DeadRow>)]) -> Result<u64, redb::Error> {
    if changes.is_empty() {
        return Ok(0);
    }
    let mut freed = 0;
    let (mut dead, mut more) = (tx.open_table(DEAD)?, tx.open_table(MORE)?);
    for (lane, seq, row) in changes {
        let key = (*lane, *seq);
        let Some(DeadRow { number, at_ms, order_key, received_at_ms, dead: letter, .. }) = row else {
            freed += dead.remove(key)?.map_or(0, |row| row.value().3.len() + row.value().4.len() + ROW);
            freed += more.remove(key)?.map_or(0, |row| row.value().3.map_or(0, str::len) + ROW);
            continue;
        };
        let (reason, answer) = (cut(&letter.reason, MAX_REASON), cut(&letter.answer, MAX_ANSWER));
        dead.insert(key, (*number, letter.attempts, *at_ms, reason, answer))?;
        if reason.is_empty() {
            continue; // Its call says the rest, and there may be very many.
        }
        let request = letter.request.as_deref().map(|request| cut(request, MAX_REQUEST));
        more.insert(key, (letter.first_attempt_at_ms, *order_key, *received_at_ms, request))?;
    }
    Ok(freed as u64)
}

/// Writes which deliveries were opened again.
pub fn write_redriven(tx: &WriteTransaction, lane: u16, delta: &Delta) -> Result<(), redb::Error> {
    if delta.redriven.is_empty() {
        return Ok(());
    }
    let mut table = tx.open_table(REDRIVEN)?;
    for (seq, whole) in &delta.redriven {
        match whole {
            Some(whole) => drop(table.insert((lane, *seq), *whole)?),
            None => drop(table.remove((lane, *seq))?),
        }
    }
    Ok(())
}

/// Reads which deliveries were opened again.
pub fn load_redriven(tx: &ReadTransaction, lane: u16, saved: &mut Saved) -> Result<(), redb::Error> {
    for entry in tx.open_table(REDRIVEN)?.range((lane, 0)..=(lane, u64::MAX))? {
        let (key, whole) = entry?;
        saved.redriven.insert(key.value().1, whole.value());
    }
    Ok(())
}

impl Store {
    /// The dead letters of a lane from a sequence on, at most so many.
    pub fn dead(&self, lane: u16, from_seq: u64, max: usize) -> Result<Vec<DeadRow>, StoreError> {
        self.with(|database| {
            let tx = database.begin_read()?;
            let (dead, more) = (tx.open_table(DEAD)?, tx.open_table(MORE)?);
            let mut rows = Vec::new();
            for entry in dead.range((lane, from_seq)..=(lane, u64::MAX))?.take(max) {
                let (key, value) = entry?;
                let seq = key.value().1;
                let rest = more.get((lane, seq))?;
                rows.push(row_of(seq, value.value(), rest.as_ref().map(|rest| rest.value())));
            }
            Ok(rows)
        })
    }

    /// Those of these sequences that are dead letters of a lane.
    pub fn dead_among(&self, lane: u16, seqs: &[u64]) -> Result<Vec<DeadRow>, StoreError> {
        self.with(|database| {
            let tx = database.begin_read()?;
            let (dead, more) = (tx.open_table(DEAD)?, tx.open_table(MORE)?);
            let mut rows = Vec::new();
            for seq in seqs {
                let Some(value) = dead.get((lane, *seq))? else { continue };
                let rest = more.get((lane, *seq))?;
                rows.push(row_of(*seq, value.value(), rest.as_ref().map(|rest| rest.value())));
            }
            Ok(rows)
        })
    }

    /// The sequences of all dead letters of these lanes in a range, rising; without those of one code's number.
    pub fn dead_between(
        &self,
        lanes: &[u16],
        range: Range<u64>,
        without: Option<u8>,
    ) -> Result<Vec<u64>, StoreError> {
        self.with(|database| {
            let tx = database.begin_read()?;
            let dead = tx.open_table(DEAD)?;
            let mut seqs = Vec::new();
            for lane in lanes {
                for entry in dead.range((*lane, range.start)..(*lane, range.end))? {
                    let (key, value) = entry?;
                    if Some(value.value().0) != without {
                        seqs.push(key.value().1);
                    }
                }
            }
            seqs.sort_unstable();
            seqs.dedup();
            Ok(seqs)
        })
    }

    /// A call that was kept.
    pub fn call(&self, seq: u64) -> Result<Option<Stored>, StoreError> {
        self.with(|database| {
            let tx = database.begin_read()?;
            let kept = tx.open_table(CALLS)?.get(seq)?;
            Ok(kept.map(|kept| {
                let (source, received_at_ms, kind, order_key, message_key, body) = kept.value();
                let head = Head { seq, source, received_at_ms, kind, order_key, message_key };
                (head, Arc::from(body))
            }))
        })
    }

    /// All kept calls, rising.
    pub fn kept_calls(&self) -> Result<Vec<KeptCall>, StoreError> {
        self.with(|database| {
            let tx = database.begin_read()?;
            let mut calls = Vec::new();
            for entry in tx.open_table(INDEX)?.iter()? {
                let (seq, call) = entry?;
                let (order_key, bytes) = call.value();
                calls.push(KeptCall { seq: seq.value(), order_key, bytes });
            }
            Ok(calls)
        })
    }

    /// The kept calls of an order key in a range: sequence, and when it was received.
    pub fn kept_of(&self, order_key: u64, range: Range<u64>) -> Result<Vec<(u64, i64)>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        self.with(|database| {
            let tx = database.begin_read()?;
            let calls = tx.open_table(CALLS)?;
            let mut found = Vec::new();
            for entry in tx.open_table(INDEX)?.range(range)? {
                let (seq, kept) = entry?;
                let call = if kept.value().0 == order_key { calls.get(seq.value())? } else { None };
                found.extend(call.map(|call| (seq.value(), call.value().1)));
            }
            Ok(found)
        })
    }

    /// Keeps calls.
    pub fn keep_calls(&self, calls: &[Stored]) -> Result<(), StoreError> {
        if calls.is_empty() {
            return Ok(());
        }
        self.write(|tx| {
            let (mut table, mut index) = (tx.open_table(CALLS)?, tx.open_table(INDEX)?);
            for (head, body) in calls {
                let Head { seq, source, received_at_ms, kind, order_key, message_key } = *head;
                table.insert(seq, (source, received_at_ms, kind, order_key, message_key, &**body))?;
                index.insert(seq, (order_key, body.len() as u64))?;
            }
            Ok(())
        })
    }

    /// Forgets kept calls.
    pub fn forget_calls(&self, seqs: &[u64]) -> Result<(), StoreError> {
        let freed = self.write(|tx| forget(tx, seqs))?;
        self.freed.fetch_add(freed, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets kept calls and the dead letters of these lanes that had them.
    pub fn drop_letters(&self, lanes: &[u16], seqs: &[u64]) -> Result<(), StoreError> {
        self.write(|tx| {
            let (mut dead, mut more) = (tx.open_table(DEAD)?, tx.open_table(MORE)?);
            for key in lanes.iter().flat_map(|lane| seqs.iter().map(|seq| (*lane, *seq))) {
                dead.remove(key)?;
                more.remove(key)?;
            }
            // Others soon take their place: the file stays as it is.
            forget(tx, seqs).map(drop)
        })
    }
}

/// Hands out how many bytes they had.
fn forget(tx: &WriteTransaction, seqs: &[u64]) -> Result<u64, redb::Error> {
    let (mut table, mut index) = (tx.open_table(CALLS)?, tx.open_table(INDEX)?);
    let mut freed = 0;
    for seq in seqs {
        table.remove(*seq)?;
        freed += index.remove(*seq)?.map_or(0, |call| call.value().1);
    }
    Ok(freed)
}

/// Deletes the dead letters in a range that the journal has let go of, whose calls are not kept.
pub fn prune(tx: &WriteTransaction, lanes: &[u16], range: &Range<u64>) -> Result<(), redb::Error> {
    let (mut dead, mut more) = (tx.open_table(DEAD)?, tx.open_table(MORE)?);
    let index = tx.open_table(INDEX)?;
    for lane in lanes {
        let mut gone = Vec::new();
        for entry in dead.range((*lane, range.start)..(*lane, range.end))? {
            let key = entry?.0.value();
            if index.get(key.1)?.is_none() {
                gone.push(key);
            }
        }
        for key in gone {
            dead.remove(key)?;
            more.remove(key)?;
        }
    }
    Ok(())
}

fn row_of(
    seq: u64,
    (number, attempts, at_ms, reason, answer): (u8, u32, i64, &str, &str),
    more: Option<(i64, u64, i64, Option<&str>)>,
) -> DeadRow {
    let (first_attempt_at_ms, order_key, received_at_ms, request) = more.unwrap_or_default();
    let dead = Dead {
        code: String::new(),
        reason: reason.to_owned(),
        attempts,
        first_attempt_at_ms,
        answer: answer.to_owned(),
        request: request.map(str::to_owned),
    };
    DeadRow { seq, number, at_ms, order_key, received_at_ms, dead }
}
