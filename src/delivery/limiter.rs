//! Keeps a destination's published rates before the vendor has to ask: every request waits here for its turn.
//! Rates per user are not kept here.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fanout_sdk::destination::{Answer, NoAnswer, Rate, RateUnit, Request, Transport};
use tokio::time::Instant;

/// A tenth of a rate may go at once; the rest is spread evenly, so that no window of the rate's length ever holds more
/// than the rate.
const BURST: f64 = 0.1;

/// The rates of one destination.
#[derive(Debug)]
pub struct Limiter {
    buckets: Vec<(RateUnit, Mutex<Bucket>)>,
}

impl Limiter {
    /// Full buckets, one for each rate that counts for the whole destination.
    pub fn new(rates: &[Rate], now: Instant) -> Limiter {
        let shared = rates.iter().filter(|rate| !rate.per_user && rate.count > 0 && !rate.per.is_zero());
        Limiter { buckets: shared.map(|rate| (rate.unit, Mutex::new(Bucket::new(rate, now)))).collect() }
    }

    /// Waits until so many of a unit may go.
    pub async fn wait_for(&self, unit: RateUnit, count: usize) {
        let now = Instant::now();
        let wait = self
            .buckets
            .iter()
            .filter(|(of, _)| *of == unit)
            .map(|(_, bucket)| {
                bucket.lock().unwrap_or_else(PoisonError::into_inner).reserve(count as f64, now)
            })
            .max()
            .unwrap_or_default();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
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

    fn reserve(&mut self, count: f64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.capacity) - count;
        self.at = now;
        Duration::try_from_secs_f64(-self.tokens / self.per_second).unwrap_or_default()
    }
}

/// A transport whose requests wait for their turn.
pub struct Limited<'a> {
    /// Where they go.
    pub transport: &'a dyn Transport,
    /// What they wait for.
    pub limiter: &'a Limiter,
}

#[async_trait]
impl Transport for Limited<'_> {
    async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        self.limiter.wait_for(RateUnit::Requests, 1).await;
        self.limiter.wait_for(RateUnit::Bytes, request.body.len()).await;
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
