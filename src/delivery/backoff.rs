//! How long to wait after a failure. Pure: the caller brings the random number and remembers how often it failed.

use std::time::Duration;

/// Between which bounds a wait grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failure; doubled by each further one.
    pub base: Duration,
    /// The longest wait of all.
    pub cap: Duration,
}

impl Backoff {
    /// For one event's next attempt.
    pub const EVENT: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(300) };
    /// For a destination that throttles without saying for how long.
    pub const THROTTLED: Backoff = Backoff { base: Duration::from_secs(2), cap: Duration::from_secs(300) };
    /// For starting a lane again that broke.
    pub const RESTART: Backoff = Backoff { base: Duration::from_secs(2), cap: Duration::from_secs(60) };
    /// For the next probe of a destination that fails without exception.
    pub const FAILING: Backoff = Backoff { base: Duration::from_secs(2), cap: Duration::from_secs(300) };
    /// For the next probe of a destination that refuses the credentials.
    pub const UNAUTHORISED: Backoff =
        Backoff { base: Duration::from_secs(30), cap: Duration::from_secs(900) };

    /// Anything from nothing to the whole wait, so that what failed together does not come back together.
    /// `failures` counts from 1; `random` is at least 0 and below 1.
    pub fn full_jitter(self, failures: u32, random: f64) -> Duration {
        self.ceiling(failures).mul_f64(random.clamp(0.0, 1.0))
    }

    /// At least half of the wait: for a whole destination, which must not be tried again at once.
    pub fn half_jitter(self, failures: u32, random: f64) -> Duration {
        self.ceiling(failures).mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    fn ceiling(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let seconds = |failures| Backoff::EVENT.full_jitter(failures, 1.0).as_secs();
        assert_eq!(
            (0..=11).map(seconds).collect::<Vec<_>>(),
            [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
        );
        assert_eq!(seconds(u32::MAX), 300);
    }

    #[test]
    fn full_jitter_reaches_from_nothing_to_the_whole_wait_and_half_jitter_from_its_half() {
        for (random, full, half) in [(0.0, 0, 4_000), (0.5, 4_000, 6_000), (1.0, 8_000, 8_000)] {
            assert_eq!(Backoff::EVENT.full_jitter(4, random).as_millis(), full);
            assert_eq!(Backoff::EVENT.half_jitter(4, random).as_millis(), half);
        }
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_cap(failures: u32, random in 0.0..1.0f64) {
            for wait in [Backoff::EVENT.full_jitter(failures, random), Backoff::THROTTLED.half_jitter(failures, random)] {
                prop_assert!(wait <= Backoff::EVENT.cap);
            }
        }
    }
}
