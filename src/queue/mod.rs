//! The border of the queue: what ingest and delivery may ask of the place where accepted calls are kept.
//!
//! The queue knows bytes, ids and lanes' names; it knows neither events nor vendors: `T` is whatever its owner decoded
//! from a record's bytes, kept beside a record while it is fresh so that nobody decodes it again.
//! Nothing here assumes one process, a total order across order keys, or that an id is an offset.

mod alarm;
mod blocks;
pub mod chunks;
pub mod codes;
#[cfg(test)]
pub(crate) mod conformance;
mod dead;
pub mod delta;
pub mod duplicates;
#[cfg(test)]
pub mod faults;
mod feed;
pub mod files;
pub mod journal;
mod keeper;
mod kept;
pub mod lane;
pub mod left;
pub mod local;
mod reader;
mod reading;
pub mod record;
pub mod recovery;
pub mod runs;
pub mod segment;
mod shared;
pub mod store;
mod tail;
mod time;
mod trouble;
pub mod window;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;

/// What the owner decodes of a record: handed out for it, and kept in memory by the queue.
pub trait Payload: Clone + Send + Sync + 'static {
    /// How many bytes it holds in memory, about; the record's body too where it keeps that.
    fn held_bytes(&self) -> usize;

    /// Which of these calls of one order key, in their order, say something that no later one of them says. Those that do
    /// not may be missing among the later calls of a delivery that was opened again.
    fn still_say(calls: &[Self]) -> Vec<bool> {
        vec![true; calls.len()]
    }
}

/// For an owner that does not look at what is handed out.
impl Payload for () {
    fn held_bytes(&self) -> usize {
        0
    }
}

/// A call to be kept.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// Number of the source that sent it, from [`Queue::source_id`].
    pub source: u16,
    /// When it was received: milliseconds since 1970.
    pub received_at_ms: i64,
    /// A small number of the owner's, such as the call's type.
    pub kind: u8,
    /// Calls of one order key are claimed in the order in which they were appended, one at a time.
    pub order_key: u64,
    /// Hash of source and messageId; a repeated one inside the window is a duplicate.
    pub message_key: u64,
    /// What is written to disk.
    pub body: Arc<[u8]>,
    /// What a claim hands out.
    pub payload: T,
}

/// What became of an appended call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is durable.
    Accepted,
    /// One with the same message key is durable already; this one was dropped.
    Duplicate,
}

/// Why nothing was appended. Nothing of the request is acknowledged; the caller may try again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk, or the part of it that may be used, is nearly full.
    #[error("no room for more calls: {0}")]
    Full(String),
    /// Writing or syncing failed.
    #[error("could not write the journal: {0}")]
    Failed(String),
    /// The queue is closing.
    #[error("shutting down")]
    Closed,
}

/// Names one delivery of a lane until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u64);

/// A delivery handed to a lane, to be settled by it.
#[derive(Clone, Debug)]
pub struct Claimed<T> {
    /// To settle it with.
    pub id: Id,
    /// As it was appended.
    pub source: u16,
    /// As it was appended.
    pub order_key: u64,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// What the lane said with [`Settled::Later`]; for attempt 1 the queue's time, in milliseconds since 1970.
    pub first_attempt_at_ms: i64,
    /// What was appended.
    pub payload: T,
    /// For one that was redriven: later calls of its order key that the lane has delivered, oldest first, at most the
    /// newest 256 and as far as they are retained. Empty for all others.
    pub later: Vec<T>,
    /// Whether it was redriven to be sent whole, see [`Queue::redrive`].
    pub whole: bool,
}

/// How a lane is done with a claimed delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is finished; the code says how.
    Done(Code),
    /// It is to be claimed again, not before this time; the next claim is one attempt further.
    Later {
        /// Milliseconds since 1970.
        at_ms: i64,
        /// From when the lane counts how long it has been tried, in whatever time the lane goes by; handed out again
        /// as [`Claimed::first_attempt_at_ms`].
        since_ms: i64,
        /// Why, for people.
        reason: String,
    },
    /// It is to be claimed again as soon as possible, and this was no attempt.
    Release,
    /// It is to be claimed again, not before this time, and this was no attempt. Not written down: after a restart it is
    /// claimed at once.
    Wait {
        /// Milliseconds since 1970.
        at_ms: i64,
    },
    /// It will not be tried again by itself.
    Dead(Dead),
}

/// A final state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The vendor has it.
    Delivered,
    /// The vendor took it and never reports the result.
    Submitted,
    /// It was not sent; the reason is a short code such as `integrations`.
    Skipped(String),
    /// It was not sent because it changes nothing.
    Suppressed,
    /// A dead letter; the reason is a short code such as `rejected`.
    Dead(String),
}

/// How a delivery became a dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dead {
    /// A short code from a closed list: `rejected`, `expired`, `backlog`, …
    pub code: String,
    /// Why, for people: at most 300 characters.
    pub reason: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// When the first attempt was made: milliseconds since 1970; 0 where none was.
    pub first_attempt_at_ms: i64,
    /// The last answer, at most 512 bytes, secrets masked.
    pub answer: String,
    /// The request for people: method, url and body, at most 4 KiB, secrets masked. Kept for the first hundred of each
    /// lane and code.
    pub request: Option<String>,
}

/// A dead letter as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter<T> {
    /// Names it in its lane.
    pub id: Id,
    /// How it ended.
    pub dead: Dead,
    /// When it ended: milliseconds since 1970.
    pub died_at_ms: i64,
    /// When the call was received: milliseconds since 1970.
    pub received_at_ms: i64,
    /// As it was appended.
    pub order_key: u64,
    /// The number of its source; `None` when the call is gone.
    pub source: Option<u16>,
    /// The call; `None` when the disk lost it or there was no room to keep it.
    pub payload: Option<T>,
}

/// The code of dead letters that a lane could not keep waiting, see [`LaneLimits`].
pub const BACKLOG: &str = "backlog";

/// What a lane may keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneLimits {
    /// How many of its deliveries may be unfinished. Beyond it the oldest that are not in flight become dead letters of the
    /// code `backlog`, whose calls are kept as long as they are retained, and not longer. Default no limit.
    pub max_backlog: Option<u64>,
}

/// Where a lane stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// Not finished: waiting, in flight or to be tried again.
    pub unfinished: u64,
    /// Of those, claimed and not settled.
    pub in_flight: u64,
    /// Of those, waiting for another attempt.
    pub retrying: u64,
    /// When the oldest unfinished one was received: milliseconds since 1970.
    pub oldest_received_at_ms: Option<i64>,
    /// Finished since the lane began, by code. Survives restarts.
    pub finished: Vec<(Code, u64)>,
    /// Whether it is a run over retained calls, see [`runs`], of which everything is finished.
    pub done: bool,
}

/// The place where accepted calls are kept until every lane is done with them.
#[async_trait]
pub trait Queue<T>: Send + Sync {
    /// Keeps calls durably, all or none: when this returns `Ok`, they survive a crash.
    async fn append(&self, entries: Vec<Entry<T>>) -> Result<Vec<Appended>, AppendError>;

    /// The number of a source's name, the same for ever.
    fn source_id(&self, name: &str) -> u16;

    /// The name of a source's number.
    fn source_name(&self, id: u16) -> Option<String>;

    /// A stable keyed hash, for order keys and message keys.
    fn hash(&self, parts: &[&str]) -> u64;

    /// Waits until the lane has something to do and hands out at most `max` deliveries, at most one for each order key.
    /// Cancel-safe: what a dropped call had taken is not lost. Empty once the queue is closing.
    async fn claim(&self, lane: &str, max: usize) -> Vec<Claimed<T>>;

    /// Says how claimed deliveries ended. Written down within 100 ms; a crash before that hands them out again.
    fn settle(&self, lane: &str, settled: Vec<(Id, Settled)>);

    /// Gives everything back that the lane has claimed and not settled, as if it had not been claimed: for a lane that
    /// broke and does not know what that was.
    fn give_back(&self, lane: &str);

    /// Changes what a lane may keep. Looked after within a few seconds, also while the lane claims nothing.
    fn set_limits(&self, lane: &str, limits: LaneLimits);

    /// Why no lane gets anything although there may be something, if so: what only a restart mends.
    fn broken(&self) -> Option<String>;

    /// Where a lane stands; `None` for a lane that does not exist.
    fn counts(&self, lane: &str) -> Option<LaneCounts>;

    /// The dead letters of a lane behind an id, in the order of their calls, at most `max`. Blocks on the disk.
    fn dead_letters(&self, lane: &str, after: Option<Id>, max: usize) -> Vec<DeadLetter<T>> {
        let _ = (lane, after, max);
        Vec::new()
    }

    /// Opens dead letters again, durably: each passes its order key's gate before what came later, with attempt 1, and
    /// its dead count goes down by one. Unless `whole`, it is claimed with the calls that have overtaken it, see
    /// [`Claimed::later`]. Hands out how many were opened: not those that are no dead letters, whose call is gone, or for
    /// which there is no room now. Blocks on the disk.
    fn redrive(&self, lane: &str, ids: &[Id], whole: bool) -> usize {
        let _ = (lane, ids, whole);
        0
    }

    /// Deletes the records of dead letters, durably; their state stays dead. Hands out how many there were. Blocks on the
    /// disk.
    fn purge(&self, lane: &str, ids: &[Id]) -> usize {
        let _ = (lane, ids);
        0
    }

    /// Later calls of the same order key that the lane has delivered, as in [`Claimed::later`]. Blocks on the disk.
    fn later_of(&self, lane: &str, id: Id) -> Vec<(Id, T)> {
        let _ = (lane, id);
        Vec::new()
    }

    /// Bytes on disk.
    fn disk_bytes(&self) -> u64;

    /// A small value that survives restarts.
    fn get(&self, key: &str) -> Option<Vec<u8>>;

    /// Writes a small value durably.
    fn put(&self, key: &str, value: &[u8]) -> Result<(), AppendError>;

    /// Stops handing out deliveries and taking calls, writes down what is settled, and waits for that.
    async fn close(&self);
}
