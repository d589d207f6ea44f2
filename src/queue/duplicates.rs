//! Remembers which messages came in lately, per source, so that a repeated one is known. In memory only: it is filled
//! again from the record heads when the journal is opened.
//!
//! A source's keys are kept in generations of a quarter of the window by time, and of at most a quarter by number. The
//! oldest generation goes when the others cover the window, so what is remembered is the window and up to a quarter more.
//! An entry takes 9 bytes in a table that is 88 % full once its generation is: for a million, 12 to 15 MB.
//!
//! 64 bits are enough: among a million remembered keys of its source, a new message is taken for a repeated one with
//! a probability of 10⁶ ÷ 2⁶⁴, about 5 in 10¹⁴. The keys come from a keyed hash, so nobody can aim at a collision.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

const GENERATIONS: usize = 4;

/// The window.
#[derive(Debug)]
pub struct Duplicates {
    window_ms: i64,
    entries: usize,
    sources: HashMap<u16, VecDeque<Generation>, BuildHasherDefault<AsIs>>,
}

#[derive(Debug)]
struct Generation {
    started_at_ms: i64,
    newest_at_ms: i64,
    keys: HashSet<u64, BuildHasherDefault<AsIs>>,
}

impl Duplicates {
    /// Remembers, for each source, what came within `window` and is among the newest `entries`. Zero: nothing.
    pub fn new(window: Duration, entries: usize) -> Self {
        let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        Self { window_ms, entries, sources: HashMap::default() }
    }

    /// Remembers a key, unless it is known already: then the answer is false.
    pub fn insert(&mut self, source: u16, key: u64, now_ms: i64) -> bool {
        if self.window_ms == 0 || self.entries == 0 {
            return true;
        }
        let per_generation = full_table(self.entries.div_ceil(GENERATIONS));
        let generation_ms = (self.window_ms / GENERATIONS as i64).max(1);
        let generations = self.sources.entry(source).or_default();
        forget(generations, now_ms.saturating_sub(self.window_ms), self.entries);
        if generations.iter().any(|generation| generation.keys.contains(&key)) {
            return false;
        }
        let full = |last: &Generation| {
            last.keys.len() >= per_generation || now_ms.saturating_sub(last.started_at_ms) >= generation_ms
        };
        if generations.back().is_none_or(full) {
            generations.push_back(Generation {
                started_at_ms: now_ms,
                newest_at_ms: now_ms,
                keys: HashSet::default(),
            });
        }
        if let Some(last) = generations.back_mut() {
            last.newest_at_ms = last.newest_at_ms.max(now_ms);
            last.keys.insert(key);
        }
        true
    }

    /// Whether a key is remembered.
    pub fn contains(&self, source: u16, key: u64) -> bool {
        self.sources.get(&source).is_some_and(|all| all.iter().any(|g| g.keys.contains(&key)))
    }

    /// Forgets a key whose record could not be written.
    pub fn remove(&mut self, source: u16, key: u64) {
        let Some(generations) = self.sources.get_mut(&source) else { return };
        for generation in generations.iter_mut().rev() {
            if generation.keys.remove(&key) {
                return;
            }
        }
    }

    /// Forgets what has grown too old, also of sources that send nothing.
    pub fn sweep(&mut self, now_ms: i64) {
        let oldest_ms = now_ms.saturating_sub(self.window_ms);
        self.sources.retain(|_, generations| {
            forget(generations, oldest_ms, self.entries);
            !generations.is_empty()
        });
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.sources.values().flatten().map(|generation| generation.keys.len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The largest number of entries, at most so many, that fill their table.
fn full_table(entries: usize) -> usize {
    match 1 << entries.max(1).ilog2() {
        // The table of the next size is full with seven eighths of its places.
        places if places / 4 * 7 <= entries && places >= 8 => places / 4 * 7,
        places if places >= 8 => places / 8 * 7,
        _ => entries,
    }
}

/// Drops old generations while they are out of time, or the newer ones hold as many entries as are wanted.
fn forget(generations: &mut VecDeque<Generation>, oldest_ms: i64, entries: usize) {
    while let Some(first) = generations.front() {
        let newer: usize = generations.iter().skip(1).map(|generation| generation.keys.len()).sum();
        if first.newest_at_ms >= oldest_ms && newer < entries {
            return;
        }
        generations.pop_front();
    }
}

/// The keys are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    /// The number of a source: few, and given out one after the other.
    fn write_u16(&mut self, number: u16) {
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn day(entries: usize) -> Duplicates {
        Duplicates::new(Duration::from_hours(24), entries)
    }

    #[test]
    fn a_repeated_key_is_known_per_source() {
        let mut window = day(100);
        assert!(window.insert(1, 7, 0));
        assert!(!window.insert(1, 7, 0));
        assert!(window.insert(2, 7, 0));
        window.remove(1, 7);
        assert!(!window.contains(1, 7));
        assert!(window.contains(2, 7));
        assert!(window.insert(1, 7, 0));
    }

    #[test]
    fn the_newest_entries_are_kept_and_not_many_more() {
        let mut window = day(1000);
        for key in 0..100_000 {
            assert!(window.insert(1, key, 0));
            assert!(window.len() <= 1250, "{}", window.len());
        }
        assert!((99_000..100_000).all(|key| window.contains(1, key)));
        assert!(!window.contains(1, 98_000));
    }

    #[test]
    fn the_tables_of_full_generations_are_full() {
        for entries in [100, 1000, 12_345, 50_000] {
            let mut window = day(entries);
            for key in 0..entries as u64 * 5 / 4 {
                window.insert(1, key, 0);
            }
            let all = window.sources.get(&1).unwrap();
            let full = all.iter().take(all.len() - 1);
            assert!(full.clone().count() >= GENERATIONS);
            full.for_each(|generation| assert_eq!(generation.keys.capacity(), generation.keys.len()));
        }
    }

    #[test]
    fn a_day_is_kept_and_not_much_more() {
        let mut window = day(1_000_000);
        for hour in 0..100 {
            window.insert(1, hour as u64, hour * HOUR);
        }
        assert!((75..100).all(|key| window.contains(1, key)));
        assert!(!window.contains(1, 68));
    }

    #[test]
    fn a_silent_source_is_forgotten() {
        let mut window = day(100);
        window.insert(1, 1, 0);
        window.sweep(24 * HOUR);
        assert_eq!(window.len(), 1);
        window.sweep(24 * HOUR + 1);
        assert!(window.is_empty());
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let mut window = day(100);
        assert!(window.insert(1, 1, 100 * HOUR));
        assert!(window.insert(1, 2, 0));
        assert!(!window.insert(1, 1, 0));
        assert!(!window.insert(1, 2, 100 * HOUR));
    }

    #[test]
    fn switched_off_it_knows_nothing() {
        for mut window in [Duplicates::new(Duration::ZERO, 10), day(0)] {
            assert!(window.insert(1, 1, 0) && window.insert(1, 1, 0));
            assert!(window.is_empty());
        }
    }
}
