//! Tells the operator when calls are turned away, why, and when they are taken again: once, not for every call.
//! Whether calls are turned away is decided elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::AppendError;

/// While calls are turned away, it is said again this often.
const AGAIN: Duration = Duration::from_mins(1);

/// Whether calls are turned away at the moment, and when that was said last.
#[derive(Default)]
pub struct Alarm {
    raised: AtomicBool,
    said: Mutex<Option<Instant>>,
}

impl Alarm {
    /// Calls were turned away. `holder` says what keeps the room that is missing.
    pub fn refused(&self, error: &AppendError, holder: impl FnOnce() -> Option<String>) {
        if matches!(error, AppendError::Closed) || !self.is_due() {
            return;
        }
        self.raised.store(true, Ordering::SeqCst);
        match holder() {
            Some(holder) => tracing::error!("calls are answered 503: {error}. {holder}"),
            None => tracing::error!("calls are answered 503: {error}"),
        }
    }

    /// Calls were taken.
    pub fn accepted(&self) {
        // This is on the way of every call.
        if self.raised.load(Ordering::Relaxed) && self.raised.swap(false, Ordering::SeqCst) {
            tracing::info!("calls are taken again");
        }
    }

    /// At the border between room and no room, calls may be taken and turned away in turns.
    fn is_due(&self) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said.is_none_or(|said| said.elapsed() >= AGAIN);
        if is_due {
            *said = Some(Instant::now());
        }
        is_due
    }
}
