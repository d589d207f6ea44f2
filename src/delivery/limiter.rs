//! Keeps a destination's rates, published or configured, before the vendor has to ask: every request waits here for its
//! turn, and an event whose user has had enough for now is told how long that is.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fanout_sdk::destination::{Answer, NoAnswer, Rate, RateUnit, Request, Transport};
use tokio::time::Instant;

/// A tenth of a rate may go at once; the rest is spread evenly, so that no window of the rate's length ever holds more
/// than the rate.
const BURST: f64 = 0.1;

/// So many users are remembered at least, and twice as many at most. When there are more at one time, the vendor has to
/// say who goes too fast.
const USERS: usize = 8192;

/// The rates of one destination.
#[derive(Debug)]
pub struct Limiter {
    buckets: Vec<(RateUnit, Mutex<Bucket>)>,
    /// The vendor asked for a pause until then.
    held: Mutex<Option<Instant>>,
}

impl Limiter {
    /// Full buckets, one for each rate that counts for the whole destination.
    pub fn new(rates: &[Rate], now: Instant) -> Limiter {
        let shared = rates.iter().filter(|rate| !rate.per_user && rate.count > 0 && !rate.per.is_zero());
        let buckets = shared.map(|rate| (rate.unit, Mutex::new(Bucket::new(rate, now)))).collect();
        Limiter { buckets, held: Mutex::default() }
    }

    /// Lets nothing go before this time, also not what waits already.
    pub fn hold(&self, until: Instant) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn held_until(&self) -> Option<Instant> {
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.filter(|until| *until > Instant::now())
    }

    /// Waits until so many of a unit may go. Hands out how long that was.
    pub async fn wait_for(&self, unit: RateUnit, count: usize) -> Duration {
        let began = Instant::now();
        loop {
            let wait = self.reserve(unit, count);
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            // After a pause everybody takes a turn anew, so that those who waited do not all go at once.
            match self.held_until() {
                None => return began.elapsed(),
                Some(until) => tokio::time::sleep_until(until).await,
            }
        }
    }

    fn reserve(&self, unit: RateUnit, count: usize) -> Duration {
        let now = Instant::now();
        let of_unit = self.buckets.iter().filter(|(of, _)| *of == unit);
        let waits = of_unit.map(|(_, bucket)| {
            bucket.lock().unwrap_or_else(PoisonError::into_inner).reserve(count as f64, now)
        });
        waits.max().unwrap_or_default()
    }
}

/// The rates that count for each user by itself.
#[derive(Debug)]
pub struct PerUser {
    rates: Vec<Rate>,
    /// Those seen since `older` was put away, and those seen before.
    newer: HashMap<u64, Vec<Bucket>>,
    older: HashMap<u64, Vec<Bucket>>,
    users: usize,
    hasher: RandomState,
}

impl PerUser {
    /// Full buckets for everybody.
    pub fn new(rates: &[Rate]) -> PerUser {
        let own = rates.iter().filter(|rate| rate.per_user && rate.count > 0 && !rate.per.is_zero());
        PerUser {
            rates: own.cloned().collect(),
            newer: HashMap::new(),
            older: HashMap::new(),
            users: USERS,
            hasher: RandomState::new(),
        }
    }

    /// Takes one item of so many bytes from a user's share; or says how long it has to wait, and takes nothing.
    pub fn take(&mut self, user: impl Hash, bytes: usize, now: Instant) -> Option<Duration> {
        if self.rates.is_empty() {
            return None;
        }
        let user = self.hasher.hash_one(user);
        let buckets = self.buckets(user, now);
        let wait = buckets.iter_mut().map(|bucket| bucket.wait(now)).max().unwrap_or_default();
        if !wait.is_zero() {
            return Some(wait);
        }
        let amounts: Vec<usize> =
            self.rates.iter().map(|rate| if rate.unit == RateUnit::Bytes { bytes } else { 1 }).collect();
        let buckets = self.buckets(user, now);
        for (bucket, amount) in buckets.iter_mut().zip(amounts) {
            bucket.reserve(amount as f64, now);
        }
        None
    }

    fn buckets(&mut self, user: u64, now: Instant) -> &mut Vec<Bucket> {
        if self.newer.len() >= self.users && !self.newer.contains_key(&user) {
            self.older = std::mem::take(&mut self.newer);
        }
        let (rates, older) = (&self.rates, &mut self.older);
        self.newer.entry(user).or_insert_with(|| {
            older.remove(&user).unwrap_or_else(|| rates.iter().map(|rate| Bucket::new(rate, now)).collect())
        })
    }
}

/// A token bucket that lends: what is taken is taken at once, and the debt says how long to wait.
#[derive(Debug)]
struct Bucket {
    capacity: f64,
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: &Rate, now: Instant) -> Bucket {
        let count = rate.count as f64;
        let capacity = (count * BURST).floor().max(1.0);
        let per_second = (count - capacity + 1.0) / rate.per.as_secs_f64();
        Bucket { capacity, per_second, tokens: capacity, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.capacity);
        self.at = now;
    }

    fn reserve(&mut self, count: f64, now: Instant) -> Duration {
        self.fill(now);
        self.tokens -= count;
        Duration::try_from_secs_f64(-self.tokens / self.per_second).unwrap_or_default()
    }

    /// How long until one may go; takes nothing.
    fn wait(&mut self, now: Instant) -> Duration {
        self.fill(now);
        // What is left by rounding must not cost a wait of its own.
        let missing = 1.0 - self.tokens - 1e-6;
        Duration::try_from_secs_f64(missing / self.per_second).unwrap_or_default()
    }
}

/// A transport whose requests wait for their turn.
pub struct Limited<'a> {
    /// Where they go.
    pub transport: &'a dyn Transport,
    /// What they wait for.
    pub limiter: &'a Limiter,
    /// How long they have waited, in microseconds: it is no time of the vendor's.
    pub waited_us: &'a AtomicU64,
}

#[async_trait]
impl Transport for Limited<'_> {
    async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let mut waited = self.limiter.wait_for(RateUnit::Requests, 1).await;
        waited += self.limiter.wait_for(RateUnit::Bytes, request.body.len()).await;
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.waited_us.fetch_add(waited_us, Ordering::Relaxed);
        self.transport.send(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(count: u64, unit: RateUnit, seconds: u64) -> Rate {
        Rate { count, unit, per: Duration::from_secs(seconds), per_user: false }
    }

    #[tokio::test(start_paused = true)]
    async fn one_a_second_means_one_a_second_and_other_units_do_not_wait() {
        let start = Instant::now();
        let per_user = Rate { per_user: true, ..rate(1, RateUnit::Items, 3600) };
        let limiter = Limiter::new(&[rate(1, RateUnit::Requests, 1), per_user], start);
        for expected in [0, 1, 2, 3] {
            limiter.wait_for(RateUnit::Requests, 1).await;
            limiter.wait_for(RateUnit::Items, 5000).await;
            assert_eq!(start.elapsed().as_secs_f64().round() as u64, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_a_burst_goes_on_credit_and_the_next_one_waits_for_it() {
        let start = Instant::now();
        let limiter = Limiter::new(&[rate(1000, RateUnit::Items, 1)], start);
        limiter.wait_for(RateUnit::Items, 100).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        limiter.wait_for(RateUnit::Items, 901).await;
        assert_eq!(start.elapsed().as_secs_f64().round() as u64, 1);
    }

    #[test]
    fn a_user_over_its_rate_waits_and_others_go_on() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut users = PerUser::new(&[
            Rate { per_user: true, ..rate(1, RateUnit::Items, 10) },
            Rate { per_user: true, ..rate(1000, RateUnit::Bytes, 1) },
            rate(1, RateUnit::Items, 3600),
        ]);
        assert_eq!(users.take(1, 10, start), None);
        assert_eq!(users.take(2, 10, start), None, "another user has a rate of its own");
        for ms in [0, 4000] {
            let wait = users.take(1, 10, at(ms)).unwrap();
            assert_eq!(wait.as_millis().div_ceil(10) * 10, 10_000 - u128::from(ms), "asking costs nothing");
        }
        assert_eq!(users.take(1, 10, at(10_000)), None);
        assert!(users.take(1, 10, at(10_001)).is_some());
        assert_eq!(PerUser::new(&[rate(1, RateUnit::Items, 1)]).take(1, 9, start), None);
    }

    #[test]
    fn so_many_users_are_remembered_at_most_and_the_latest_are() {
        let start = Instant::now();
        let mut users = PerUser::new(&[Rate { per_user: true, ..rate(1, RateUnit::Items, 3600) }]);
        users.users = 10;
        for user in 0..1000u64 {
            assert_eq!(users.take(user, 1, start), None);
            for latest in user.saturating_sub(9)..=user {
                assert!(users.take(latest, 1, start).is_some(), "{latest} of {user}");
            }
            assert!(users.newer.len() + users.older.len() <= 20);
        }
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_the_rate(count in 1..200u64, gaps in prop::collection::vec(0..400u64, 1..400)) {
            let mut now = Instant::now();
            let mut bucket = Bucket::new(&rate(count, RateUnit::Requests, 1), now);
            let mut went = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap / 20);
                went.push(now + bucket.reserve(1.0, now));
            }
            for (position, first) in went.iter().enumerate() {
                let window = *first + Duration::from_micros(999_900);
                let inside = went[position..].iter().filter(|at| **at < window).count();
                prop_assert!(inside as u64 <= count, "{inside} of {count}");
            }
        }
    }
}
