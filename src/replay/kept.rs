//! What is kept of replays in the queue's small values: an index, and one value each. It starts nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::queue::{AppendError, Code, LaneCounts, Queue};

/// Under which key the index is.
const INDEX: &str = "replays";

/// Where a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is not finished; it goes on by itself after a restart.
    Running,
    /// Everything of it is finished.
    Done,
    /// It was ended before that.
    Cancelled,
}

/// A replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Counted from 1.
    pub id: u64,
    /// To which destination.
    pub to: String,
    /// Of calls received from this time on: milliseconds since 1970.
    pub since_ms: i64,
    /// And before this one.
    pub until_ms: i64,
    /// Only of this userId or anonymousId.
    #[serde(default)]
    pub user: Option<String>,
    /// So many events at most
    pub count: u64,
    /// in this time: milliseconds.
    pub per_ms: u64,
    /// Also what later events have superseded.
    pub all: bool,
    /// Where it stands.
    pub state: State,
    /// When it was asked for: milliseconds since 1970.
    pub started_at_ms: i64,
    /// When it ended.
    #[serde(default)]
    pub ended_at_ms: Option<i64>,
    /// Its counts when it ended, by outcome.
    #[serde(default)]
    pub outcomes: BTreeMap<String, u64>,
}

impl Kept {
    /// The name of its lane in the queue.
    pub fn lane(&self) -> String {
        format!("replay:{}", self.id)
    }

    /// In which time [`Kept::count`] events go.
    pub fn per(&self) -> Duration {
        Duration::from_millis(self.per_ms)
    }
}

/// Counts by outcome, such as `delivered` and `skipped: superseded`.
pub fn outcomes(counts: &LaneCounts) -> BTreeMap<String, u64> {
    let some = counts.finished.iter().filter(|(_, count)| *count > 0);
    some.map(|(code, count)| (name(code), *count)).collect()
}

fn name(code: &Code) -> String {
    match code {
        Code::Delivered => "delivered".to_owned(),
        Code::Submitted => "submitted".to_owned(),
        Code::Suppressed => "suppressed".to_owned(),
        Code::Skipped(reason) => format!("skipped: {reason}"),
        Code::Dead(reason) => format!("dead: {reason}"),
    }
}

/// The ids that are kept, oldest first, and the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Those that are kept.
    pub ids: Vec<u64>,
    /// Never given out before.
    pub next: u64,
}

impl Index {
    /// As it is kept; empty where nothing is.
    pub fn load<T>(queue: &dyn Queue<T>) -> Index {
        let value: Option<Value> = queue.get(INDEX).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let ids =
            |value: &Value| Some(value.get("ids")?.as_array()?.iter().filter_map(Value::as_u64).collect());
        let next = |value: &Value| value.get("next")?.as_u64();
        Index {
            ids: value.as_ref().and_then(ids).unwrap_or_default(),
            next: value.as_ref().and_then(next).unwrap_or(1),
        }
    }

    /// Keeps it. Blocks on the disk.
    pub fn save<T>(&self, queue: &dyn Queue<T>) -> Result<(), AppendError> {
        queue.put(INDEX, json!({"ids": self.ids, "next": self.next}).to_string().as_bytes())
    }
}

/// All that are kept, oldest first.
pub fn all<T>(queue: &dyn Queue<T>) -> Vec<Kept> {
    Index::load(queue).ids.into_iter().filter_map(|id| load(queue, id)).collect()
}

/// How many of these are not finished.
pub fn running(all: &[Kept]) -> usize {
    all.iter().filter(|kept| kept.state == State::Running).count()
}

/// A replay that is kept.
pub fn load<T>(queue: &dyn Queue<T>, id: u64) -> Option<Kept> {
    serde_json::from_slice(&queue.get(&key(id))?).ok()
}

/// Keeps a replay. Blocks on the disk.
pub fn save<T>(queue: &dyn Queue<T>, kept: &Kept) -> Result<(), AppendError> {
    let value = serde_json::to_vec(kept).map_err(|error| AppendError::Failed(error.to_string()))?;
    queue.put(&key(kept.id), &value)
}

/// Keeps nothing of a replay any more. Blocks on the disk.
pub fn forget<T>(queue: &dyn Queue<T>, id: u64) -> Result<(), AppendError> {
    queue.put(&key(id), b"")
}

fn key(id: u64) -> String {
    format!("replay/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_named_for_people() {
        let counts = LaneCounts {
            finished: vec![
                (Code::Delivered, 3),
                (Code::Skipped("superseded".into()), 2),
                (Code::Dead("rejected".into()), 1),
                (Code::Dead("expired".into()), 0),
            ],
            ..LaneCounts::default()
        };
        let expected = [("dead: rejected", 1), ("delivered", 3), ("skipped: superseded", 2)];
        assert_eq!(outcomes(&counts), expected.map(|(name, count)| (name.to_owned(), count)).into());
    }
}
