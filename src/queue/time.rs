//! The time that lanes go by: wall time, but it never goes back, so that a clock that is set back delays no retry.

use std::sync::{Mutex, PoisonError};

use super::local::Clock;

/// See the module.
pub struct Time {
    clock: Clock,
    /// The latest wall time that was seen, and how far lanes are ahead of it.
    seen: Mutex<(i64, i64)>,
}

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The time that lanes go by: milliseconds since 1970.
    pub ms: i64,
    /// How far it is ahead of wall time: milliseconds.
    pub ahead_ms: i64,
}

impl Time {
    /// By this clock.
    pub fn new(clock: Clock) -> Time {
        Time { clock, seen: Mutex::new((i64::MIN, 0)) }
    }

    /// Now.
    pub fn now(&self) -> Now {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: otherwise two threads could see the clock go back.
        let wall_ms = (self.clock)();
        let (latest_ms, ahead_ms) = *seen;
        let ahead_ms = ahead_ms.saturating_add(latest_ms.saturating_sub(wall_ms).max(0));
        *seen = (wall_ms, ahead_ms);
        Now { ms: wall_ms.saturating_add(ahead_ms), ahead_ms }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[test]
    fn it_goes_on_where_a_clock_that_is_set_back_left_off() {
        let wall = Arc::new(AtomicI64::new(1000));
        let clock = wall.clone();
        let time = Time::new(Arc::new(move || clock.load(Ordering::SeqCst)));
        let cases = [
            (1000, 1000, 0),
            (1500, 1500, 0),
            (200, 1500, 1300),
            (300, 1600, 1300),
            (250, 1600, 1350),
            (9000, 10_350, 1350),
        ];
        for (at, ms, ahead_ms) in cases {
            wall.store(at, Ordering::SeqCst);
            assert_eq!(time.now(), Now { ms, ahead_ms }, "at {at}");
        }
    }
}
