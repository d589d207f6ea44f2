//! Small constant sets and maps by name, for look-ups with a hash that is made once a trait. It does not fold case.

use super::hash::hash_name;

/// A name with its hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hashed<'n> {
    pub name: &'n str,
    pub hash: u64,
}

impl<'n> Hashed<'n> {
    pub fn new(name: &'n str) -> Hashed<'n> {
        Hashed { name, hash: hash_name(name) }
    }

    /// One bit of 64, to see quickly that a name is not among others.
    pub fn bit(self) -> u64 {
        bit(self.hash)
    }
}

/// The bit of a hash, see [`Hashed::bit`].
pub(crate) fn bit(hash: u64) -> u64 {
    1 << (hash & 63)
}

/// Names and what they stand for.
#[derive(Clone, Debug)]
pub(crate) struct NameMap<T> {
    bits: u64,
    /// Sorted by hash.
    entries: Box<[(u64, Box<str>, T)]>,
}

/// Names alone.
pub(crate) type NameSet = NameMap<()>;

impl<T> Default for NameMap<T> {
    fn default() -> Self {
        NameMap { bits: 0, entries: Box::default() }
    }
}

impl<T> FromIterator<(String, T)> for NameMap<T> {
    /// Of two equal names the first one counts.
    fn from_iter<I: IntoIterator<Item = (String, T)>>(names: I) -> Self {
        let entry = |(name, value): (String, T)| (Hashed::new(&name).hash, name.into_boxed_str(), value);
        let mut entries: Vec<(u64, Box<str>, T)> = names.into_iter().map(entry).collect();
        entries.sort_by_key(|(hash, ..)| *hash);
        let bits = entries.iter().fold(0, |bits, (hash, ..)| bits | bit(*hash));
        NameMap { bits, entries: entries.into() }
    }
}

impl FromIterator<String> for NameSet {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        names.into_iter().map(|name| (name, ())).collect()
    }
}

impl<T> NameMap<T> {
    pub fn get(&self, name: Hashed<'_>) -> Option<&T> {
        if self.bits & name.bit() == 0 {
            return None;
        }
        let start = self.entries.partition_point(|(hash, ..)| *hash < name.hash);
        let same = self.entries.iter().skip(start).take_while(|(hash, ..)| *hash == name.hash);
        same.into_iter().find(|(_, own, _)| **own == *name.name).map(|(.., value)| value)
    }

    pub fn has(&self, name: Hashed<'_>) -> bool {
        self.get(name).is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put_in() {
        let names: Vec<String> = (0..200).map(|number| format!("name_{number}")).collect();
        let map: NameMap<usize> = names.iter().cloned().zip(0..).collect();
        for (number, name) in names.iter().enumerate() {
            assert_eq!(map.get(Hashed::new(name)), Some(&number));
            assert!(!map.has(Hashed::new(&format!("{name}_"))));
        }
        assert!(NameSet::default().is_empty() && !NameSet::default().has(Hashed::new("")));
    }

    #[test]
    fn the_first_of_two_equal_names_counts() {
        let map: NameMap<u8> = [("a".to_owned(), 1), ("a".to_owned(), 2)].into_iter().collect();
        assert_eq!(map.get(Hashed::new("a")), Some(&1));
    }
}
