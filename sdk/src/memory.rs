//! What a destination remembers between events: ids it looked up, tokens, field lists. Bounded, and lost on restart.
//! It does not fetch anything and has no clock: callers say what time it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A bounded map from text to text whose entries end at a given time.
pub struct Memory {
    capacity: usize,
    entries: Mutex<HashMap<Box<str>, Entry>>,
}

struct Entry {
    value: Arc<str>,
    until_ms: i64,
}

impl Memory {
    /// A memory of at most `capacity` entries.
    pub fn new(capacity: usize) -> Memory {
        Memory { capacity, entries: Mutex::default() }
    }

    /// What is remembered under a key and has not ended by `now_ms`.
    pub fn get(&self, key: &str, now_ms: i64) -> Option<Arc<str>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|entry| entry.until_ms > now_ms).map(|entry| entry.value.clone())
    }

    /// Remembers a value until `until_ms`. When full, entries that have ended go first, else those that end soonest.
    pub fn put(&self, key: &str, value: &str, until_ms: i64, now_ms: i64) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.capacity && !entries.contains_key(key) {
            entries.retain(|_, entry| entry.until_ms > now_ms);
            if entries.len() >= self.capacity {
                let mut ends: Vec<i64> = entries.values().map(|entry| entry.until_ms).collect();
                ends.sort_unstable();
                let limit = ends.get(ends.len() / 8).copied().unwrap_or(i64::MAX);
                entries.retain(|_, entry| entry.until_ms > limit);
            }
        }
        entries.insert(key.into(), Entry { value: value.into(), until_ms });
    }

    /// Forgets a key, such as a token that was refused or an id that is gone.
    pub fn forget(&self, key: &str) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_and_can_be_forgotten() {
        let memory = Memory::new(2);
        memory.put("a", "1", 100, 0);
        assert_eq!(memory.get("a", 99).as_deref(), Some("1"));
        assert_eq!(memory.get("a", 100), None);
        memory.forget("a");
        assert_eq!(memory.get("a", 0), None);
    }

    #[test]
    fn a_full_memory_keeps_what_lasts_longest() {
        let memory = Memory::new(2);
        memory.put("short", "1", 100, 0);
        memory.put("long", "2", 900, 0);
        memory.put("new", "3", 500, 0);
        assert_eq!(memory.get("short", 0), None);
        assert_eq!(memory.get("long", 0).as_deref(), Some("2"));
        assert_eq!(memory.get("new", 0).as_deref(), Some("3"));
    }
}
