//! How long a lane waits after the journal could not be read for it, and what is said of it: once, and when it is over.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The wait after a first failure; each is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait. The journal takes failures that are much further apart for separate ones.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether the journal can be read for a lane.
#[derive(Default)]
pub struct Trouble(Mutex<Option<Failing>>);

struct Failing {
    wait: Duration,
    not_before: Instant,
}

impl Trouble {
    /// How long to wait before the next attempt; `None` if it may be made.
    pub fn wait(&self) -> Option<Duration> {
        let failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = failing.as_ref()?.not_before.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Reading failed.
    pub fn failed(&self, lane: &str, error: &dyn Display) {
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = match &*failing {
            Some(before) => (before.wait * 2).min(LONGEST),
            None => {
                tracing::error!(
                    lane,
                    "{error}. Deliveries that need it wait, and it is tried again; nothing is lost"
                );
                FIRST
            }
        };
        *failing = Some(Failing { wait, not_before: Instant::now() + wait });
    }

    /// Reading went well.
    pub fn passed(&self, lane: &str) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!(lane, "the journal can be read again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_until_it_goes_well() {
        let trouble = Trouble::default();
        assert_eq!(trouble.wait(), None);
        let mut last = Duration::ZERO;
        for _ in 0..3 {
            trouble.failed("a", &"no");
            let wait = trouble.wait().unwrap();
            assert!(wait > last && wait <= LONGEST);
            last = wait;
        }
        for _ in 0..20 {
            trouble.failed("a", &"no");
        }
        assert!(trouble.wait().unwrap() <= LONGEST);
        trouble.passed("a");
        assert_eq!(trouble.wait(), None);
    }
}
