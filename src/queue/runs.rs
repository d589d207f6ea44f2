//! The part of the border that replays use: lanes of their own over calls that are retained, and reading those calls.
//! What is done with them is for the owner; how a lane works is the queue's business as for every other.

use super::{AppendError, Code, Id, Queue};

/// Which retained calls a run is over, by when they were received: milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first that are part of it.
    pub since_ms: i64,
    /// The first that are not.
    pub until_ms: i64,
}

/// What a run is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunInfo {
    /// So many calls at most.
    pub calls: u64,
    /// When the oldest call was received that is retained, where older ones have been let go: milliseconds since 1970.
    pub kept_from_ms: Option<i64>,
}

/// Where to begin reading retained calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first that may have been received at this time: milliseconds since 1970.
    ReceivedFrom(i64),
    /// At this one, or the next that there is.
    At(Id),
}

/// What has become of a call in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not the lane's: the lane began after it.
    Foreign,
    /// It is not finished.
    Open,
    /// It ended.
    Ended(Code),
}

/// A call that is retained.
#[derive(Clone, Debug)]
pub struct Retained<T> {
    /// The same in every lane.
    pub id: Id,
    /// As it was appended.
    pub source: u16,
    /// As it was appended.
    pub order_key: u64,
    /// As it was appended.
    pub received_at_ms: i64,
    /// In the lane that was asked for.
    pub standing: Standing,
    /// What was appended.
    pub payload: T,
}

/// Some retained calls, one behind the other in the order in which they were appended.
#[derive(Clone, Debug)]
pub struct Passage<T> {
    /// Those that can be decoded; may be empty before the end.
    pub calls: Vec<Retained<T>>,
    /// Where to go on; at the end, where the next call will be.
    pub next: Id,
    /// There are no more now.
    pub end: bool,
}

/// The calls could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("could not read the journal: {0}")]
pub struct Unreadable(pub String);

/// See the module.
pub trait Runs<T>: Queue<T> {
    /// Adds a lane over retained calls, beside those that follow the newest: a run. It claims and settles as every lane
    /// does, its state survives restarts, what it needs is retained, and [`super::LaneCounts::done`] says when
    /// everything in its range is finished; then claims are empty. Where there is one of this name, nothing changes.
    /// Blocks on the disk.
    fn add_run(&self, lane: &str, range: Range) -> Result<RunInfo, AppendError>;

    /// Removes a run with its counts and dead letters; no other lane. Blocks on the disk.
    fn remove_run(&self, lane: &str) -> Result<(), AppendError>;

    /// When the oldest call was received that is retained, where older ones have been let go: milliseconds since 1970.
    /// Blocks on the disk.
    fn kept_from_ms(&self) -> Result<Option<i64>, Unreadable>;

    /// Reads some retained calls, and what has become of them in a lane. Blocks on the disk.
    fn retained(&self, lane: &str, start: Start) -> Result<Passage<T>, Unreadable>;
}

/// A range of sequences, with the exact times in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Nothing before this sequence is part of it.
    pub first: u64,
    /// Nothing from this sequence on.
    pub end: u64,
    /// By when calls were received.
    pub range: Range,
}

impl Run {
    /// Whether a call is part of it.
    pub fn has(&self, seq: u64, received_at_ms: i64) -> bool {
        (self.first..self.end).contains(&seq)
            && (self.range.since_ms..self.range.until_ms).contains(&received_at_ms)
    }
}
