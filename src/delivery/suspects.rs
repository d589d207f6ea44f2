//! Whose events a vendor fails at or refuses while it deals with those of others: the fault is theirs and says nothing
//! about the destination. Pure, and bounded: of too many, those heard of longest ago are forgotten.

use std::collections::HashMap;

/// So many users are remembered of each kind at least, and twice as many at most.
const MOST: usize = 4096;

/// See the module; users are order keys.
#[derive(Debug, Default)]
pub struct Suspects {
    refused: Latest<()>,
    /// How many good answers there had been when a user's event failed the last time.
    failed: Latest<u64>,
    good_answers: u64,
}

impl Suspects {
    /// The vendor dealt with a request.
    pub fn dealt(&mut self) {
        self.good_answers += 1;
    }

    /// The vendor took a user's event.
    pub fn took(&mut self, user: u64) {
        self.refused.remove(user);
        self.failed.remove(user);
    }

    /// A request failed that held events of these users alone. Whether the fault is theirs: each has failed before, and
    /// the vendor has dealt with others since.
    pub fn fail_alone(&mut self, users: impl Iterator<Item = u64>) -> bool {
        let mut alone = true;
        for user in users {
            let before = self.failed.insert(user, self.good_answers);
            alone &= before.is_some_and(|before| before < self.good_answers);
        }
        alone
    }

    /// The vendor refused the credentials for a user's event.
    pub fn refuse(&mut self, user: u64) {
        self.refused.insert(user, ());
    }

    /// Whether it has done so since it took one of that user.
    pub fn is_refused(&self, user: u64) -> bool {
        self.refused.contains(user)
    }

    /// It was the credentials: nobody is suspected of being refused alone.
    pub fn forget_refused(&mut self) {
        self.refused = Latest::default();
    }
}

/// A map in two generations: when the young one is full, it becomes the old one.
#[derive(Debug)]
struct Latest<V> {
    young: HashMap<u64, V>,
    old: HashMap<u64, V>,
}

impl<V> Default for Latest<V> {
    fn default() -> Latest<V> {
        Latest { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<V> Latest<V> {
    fn insert(&mut self, key: u64, value: V) -> Option<V> {
        let before = self.old.remove(&key);
        if self.young.len() >= MOST && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value).or(before)
    }

    fn contains(&self, key: u64) -> bool {
        self.young.contains_key(&key) || self.old.contains_key(&key)
    }

    fn remove(&mut self, key: u64) {
        // There are none as a rule, and looking costs a hash.
        if !self.young.is_empty() || !self.old.is_empty() {
            self.young.remove(&key);
            self.old.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_the_users_own_when_others_went_well_since_the_last_one() {
        let mut suspects = Suspects::default();
        assert!(!suspects.fail_alone([1].into_iter()), "the first may be anybody's");
        assert!(!suspects.fail_alone([1].into_iter()), "nothing has gone well since");
        suspects.dealt();
        assert!(!suspects.fail_alone([1, 2].into_iter()), "2 has not failed before");
        suspects.dealt();
        assert!(suspects.fail_alone([1, 2].into_iter()));
        suspects.dealt();
        suspects.took(1);
        assert!(!suspects.fail_alone([1].into_iter()), "it went well in between");
        assert!(suspects.fail_alone([2].into_iter()));
    }

    #[test]
    fn the_refused_are_remembered_until_they_are_taken_and_so_many_at_most() {
        let mut suspects = Suspects::default();
        for user in 0..10_000 {
            suspects.refuse(user);
            assert!(suspects.is_refused(user) && suspects.is_refused(user.saturating_sub(MOST as u64 - 1)));
            assert!(suspects.refused.young.len() + suspects.refused.old.len() <= 2 * MOST);
        }
        suspects.took(9_999);
        assert!(!suspects.is_refused(9_999) && suspects.is_refused(9_998));
        suspects.forget_refused();
        assert!(!suspects.is_refused(9_998));
    }
}
