//! A queue in memory that keeps what ingest appends and can be told to fail. It hands nothing out.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fanout::queue::{AppendError, Appended, Claimed, Entry, Id, LaneCounts, LaneLimits, Queue, Settled};
use fanout_sdk::event::Event;

/// See the module.
#[derive(Default)]
pub struct MemoryQueue {
    entries: Mutex<Vec<Entry<Arc<Event>>>>,
    seen: Mutex<HashSet<u64>>,
    failure: Mutex<Option<AppendError>>,
    sources: Mutex<Vec<String>>,
}

impl MemoryQueue {
    /// What the next appends fail with; `None` lets them pass again.
    pub fn fail_with(&self, failure: Option<AppendError>) {
        *self.failure.lock().unwrap() = failure;
    }

    /// Takes what was appended so far.
    pub fn take(&self) -> Vec<Entry<Arc<Event>>> {
        std::mem::take(&mut self.entries.lock().unwrap())
    }
}

#[async_trait]
impl Queue<Arc<Event>> for MemoryQueue {
    async fn append(&self, entries: Vec<Entry<Arc<Event>>>) -> Result<Vec<Appended>, AppendError> {
        if let Some(failure) = self.failure.lock().unwrap().clone() {
            return Err(failure);
        }
        let mut seen = self.seen.lock().unwrap();
        let mut kept = self.entries.lock().unwrap();
        let mut verdicts = Vec::new();
        for entry in entries {
            if seen.insert(entry.message_key) {
                kept.push(entry);
                verdicts.push(Appended::Accepted);
            } else {
                verdicts.push(Appended::Duplicate);
            }
        }
        Ok(verdicts)
    }

    fn source_id(&self, name: &str) -> u16 {
        let mut sources = self.sources.lock().unwrap();
        let at = sources.iter().position(|source| source == name).unwrap_or_else(|| {
            sources.push(name.to_owned());
            sources.len() - 1
        });
        at as u16
    }

    fn source_name(&self, id: u16) -> Option<String> {
        self.sources.lock().unwrap().get(id as usize).cloned()
    }

    fn hash(&self, parts: &[&str]) -> u64 {
        let mut hasher = DefaultHasher::new();
        parts.hash(&mut hasher);
        hasher.finish()
    }

    async fn claim(&self, _: &str, _: usize) -> Vec<Claimed<Arc<Event>>> {
        Vec::new()
    }

    fn settle(&self, _: &str, _: Vec<(Id, Settled)>) {}

    fn give_back(&self, _: &str) {}

    fn set_limits(&self, _: &str, _: LaneLimits) {}

    fn broken(&self) -> Option<String> {
        None
    }

    fn counts(&self, _: &str) -> Option<LaneCounts> {
        None
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn get(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn put(&self, _: &str, _: &[u8]) -> Result<(), AppendError> {
        Ok(())
    }

    async fn close(&self) {}
}
