//! What a destination remembers between events: ids it looked up, tokens, field lists. Bounded, and lost on restart.
//! Also whose turn it is where only one may be at something. It does not fetch anything and has no clock: callers say
//! what time it is.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// A bounded map from text to text whose entries end at a given time.
pub struct Memory {
    capacity: usize,
    entries: Mutex<HashMap<Box<str>, Entry>>,
    /// What somebody is at, and who waits for it.
    turns: Mutex<HashMap<Box<str>, Vec<Waker>>>,
}

/// The right to be the only one at something until it is dropped.
pub struct Turn<'m> {
    memory: &'m Memory,
    key: Box<str>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Entry {
    value: Arc<str>,
    until_ms: i64,
}

impl Memory {
    /// A memory of at most `capacity` entries.
    pub fn new(capacity: usize) -> Memory {
        Memory { capacity, entries: Mutex::default(), turns: Mutex::default() }
    }

    /// What is remembered under a key and has not ended by `now_ms`.
    pub fn get(&self, key: &str, now_ms: i64) -> Option<Arc<str>> {
        let entries = locked(&self.entries);
        entries.get(key).filter(|entry| entry.until_ms > now_ms).map(|entry| entry.value.clone())
    }

    /// Remembers a value until `until_ms`. When full, entries that have ended go first, else those that end soonest.
    pub fn put(&self, key: &str, value: &str, until_ms: i64, now_ms: i64) {
        let mut entries = locked(&self.entries);
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
        locked(&self.entries).remove(key);
    }

    /// Waits until nobody else is at `key`, so that two sends at one time do not both ask for one token or both create
    /// one person. Turns of different keys have nothing to do with each other, nor with what is remembered.
    pub async fn turn(&self, key: &str) -> Turn<'_> {
        poll_fn(|poller| {
            let mut turns = locked(&self.turns);
            let Some(waiting) = turns.get_mut(key) else {
                turns.insert(key.into(), Vec::new());
                return Poll::Ready(Turn { memory: self, key: key.into() });
            };
            if !waiting.iter().any(|waker| waker.will_wake(poller.waker())) {
                waiting.push(poller.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // All of them look again, so that one that has given up in the meantime holds up nobody.
        let waiting = locked(&self.memory.turns).remove(&self.key);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Context;

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
    fn only_one_has_the_turn() {
        let memory = Memory::new(2);
        let mut poller = Context::from_waker(Waker::noop());
        let mut poll = |future: &mut Pin<Box<dyn Future<Output = Turn<'_>> + '_>>| {
            matches!(future.as_mut().poll(&mut poller), Poll::Pending)
        };
        let mut first: Pin<Box<dyn Future<Output = Turn<'_>>>> = Box::pin(memory.turn("a"));
        let Poll::Ready(turn) = first.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("nobody else is there")
        };
        let mut second: Pin<Box<dyn Future<Output = Turn<'_>>>> = Box::pin(memory.turn("a"));
        let mut other: Pin<Box<dyn Future<Output = Turn<'_>>>> = Box::pin(memory.turn("b"));
        assert!(poll(&mut second), "the first has it");
        assert!(!poll(&mut other), "another key");
        drop(turn);
        assert!(!poll(&mut second), "it is free again");
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
