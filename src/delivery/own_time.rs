//! A lane's own time: wall time without the time in which its destination as a whole was closed. What `retry_for` counts.
//!
//! Inside a process it follows the steady clock, so that a wall clock that is set changes nothing; between processes it
//! is kept as its distance from wall time. Pure: it neither looks at a clock nor writes.

use std::time::Instant;

/// The longest time that a closed destination is taken to have stood still while no process was running: the longest
/// `retry_for`.
const LONGEST_ABSENCE_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// What is lost of it in a crash at most, so that not every short pause is written down.
const WORTH_KEEPING_MS: u64 = 1000;

/// See the module. In milliseconds since 1970, less what it stood still.
#[derive(Debug)]
pub struct OwnTime {
    ms: i64,
    at: Instant,
    runs: bool,
    saved: (i64, bool),
}

impl OwnTime {
    /// Goes on from what [`Self::save`] handed out; runs. What cannot be read is taken as nothing.
    pub fn load(saved: Option<&[u8]>, wall_ms: i64, now: Instant) -> OwnTime {
        let text = saved.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        let mut words = text.split(' ').map(|word| word.parse::<i64>().ok());
        let mut stood_ms = words.next().flatten().unwrap_or_default();
        let closed_at_ms = words.next().flatten();
        if let Some(closed_at_ms) = closed_at_ms {
            stood_ms =
                stood_ms.saturating_add(wall_ms.saturating_sub(closed_at_ms).clamp(0, LONGEST_ABSENCE_MS));
        }
        let saved = (stood_ms, closed_at_ms.is_some());
        OwnTime { ms: wall_ms.saturating_sub(stood_ms), at: now, runs: true, saved }
    }

    /// What it is.
    pub fn now_ms(&self, now: Instant) -> i64 {
        if self.runs { self.ms.saturating_add(millis(now, self.at)) } else { self.ms }
    }

    /// Lets it stand still or run. What is to be kept of that, if it has to be.
    pub fn set(&mut self, runs: bool, wall_ms: i64, now: Instant) -> Option<String> {
        if runs == self.runs {
            return None;
        }
        self.ms = self.now_ms(now);
        (self.at, self.runs) = (now, runs);
        self.save(wall_ms, now)
    }

    /// What is to be kept, if it is not what was kept before.
    pub fn save(&mut self, wall_ms: i64, now: Instant) -> Option<String> {
        let stood_ms = wall_ms.saturating_sub(self.now_ms(now));
        let (before_ms, stood) = self.saved;
        if stood != self.runs && stood_ms.abs_diff(before_ms) < WORTH_KEEPING_MS {
            return None;
        }
        self.saved = (stood_ms, !self.runs);
        Some(if self.runs { stood_ms.to_string() } else { format!("{stood_ms} {wall_ms}") })
    }
}

fn millis(later: Instant, earlier: Instant) -> i64 {
    i64::try_from(later.saturating_duration_since(earlier).as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WALL: i64 = 1_000_000_000;

    fn at(start: Instant, ms: i64) -> Instant {
        start + Duration::from_millis(ms as u64)
    }

    #[test]
    fn it_stands_still_while_it_is_told_to_and_survives_restarts() {
        let start = Instant::now();
        let mut time = OwnTime::load(None, WALL, start);
        assert_eq!(time.now_ms(at(start, 5000)), WALL + 5000);
        let kept = time.set(false, WALL + 5000, at(start, 5000));
        assert_eq!(kept.as_deref(), Some("0 1000005000"));
        assert_eq!(time.now_ms(at(start, 65_000)), WALL + 5000);
        assert_eq!(time.set(false, WALL + 65_000, at(start, 65_000)), None, "it stands already");
        // A crash here, and a start ten seconds later: all of it stood still.
        let again = OwnTime::load(kept.as_deref().map(str::as_bytes), WALL + 75_000, start);
        assert_eq!(again.now_ms(at(start, 100)), WALL + 5100);
        let kept = time.set(true, WALL + 65_000, at(start, 65_000));
        assert_eq!(kept.as_deref(), Some("60000"));
        assert_eq!(time.now_ms(at(start, 66_000)), WALL + 6000);
        // Stopped while it runs: the time without a process counts.
        let again = OwnTime::load(kept.as_deref().map(str::as_bytes), WALL + 100_000, start);
        assert_eq!(again.now_ms(start), WALL + 40_000);
    }

    #[test]
    fn a_wall_clock_that_is_set_changes_nothing() {
        let start = Instant::now();
        for step in [-3 * 3_600_000, 3 * 3_600_000] {
            let mut time = OwnTime::load(None, WALL, start);
            assert_eq!(time.now_ms(at(start, 10_000)), WALL + 10_000);
            let kept = time.save(WALL + step + 10_000, at(start, 10_000)).unwrap();
            assert_eq!(time.save(WALL + step + 10_000, at(start, 10_000)), None, "kept already");
            let again = OwnTime::load(Some(kept.as_bytes()), WALL + step + 11_000, start);
            assert_eq!(again.now_ms(start), WALL + 11_000, "{step}");
        }
    }

    #[test]
    fn short_pauses_are_not_worth_keeping_and_nonsense_is_nothing() {
        let start = Instant::now();
        let mut time = OwnTime::load(None, WALL, start);
        assert!(time.set(false, WALL, start).is_some());
        assert!(time.set(true, WALL + 400, at(start, 400)).is_some(), "it must not be thought closed");
        assert_eq!(time.save(WALL + 500, at(start, 500)), None);
        for (saved, stood) in [
            (&b""[..], 0),
            (b"x y", 0),
            (b"\xff", 0),
            (b"70 x", 70),
            (b"0 2000000000", 0),
            (b"0 -9223372036854775808", LONGEST_ABSENCE_MS),
        ] {
            assert_eq!(OwnTime::load(Some(saved), WALL, start).now_ms(start), WALL - stood, "{saved:?}");
        }
    }
}
