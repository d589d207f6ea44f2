//! How many requests may be under way at one time: as many as the vendor takes gladly, inside a cap. Pure.
//!
//! Additive increase, multiplicative decrease: one more for each round of good answers while all are in use, fewer when
//! it throttles, fails, or answers much more slowly than it did. Whether anything goes at all is the gate's answer.

use std::time::{Duration, Instant};

/// It begins with so many.
const BEGIN: f64 = 4.0;
/// What is left of it when the vendor throttles or fails,
const HALF: f64 = 0.5;
/// and when it has become slow.
const SLOWER: f64 = 0.8;
/// Slow answers alone never bring it below this, nor keep it there: answers differ for other reasons too.
const SLOW_LEAST: f64 = 2.0;
/// How much of the short moving latency each answer makes up.
const MOVING: f64 = 0.2;
/// So much slower than the quickest is slow,
const RISEN: f64 = 3.0;
/// if it is more than this; below, it is noise.
const NOISE: f64 = 0.05;
/// How long the quickest answer is remembered: between once and twice this.
const MEMORY: Duration = Duration::from_secs(60);
/// What happens within this time of a decrease is the same trouble.
const ONCE: Duration = Duration::from_secs(1);

/// How a request ended, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The vendor answered, in this time; `busy` when all that may be under way were.
    Well {
        /// Without our own waits; `None` where it took nothing, for what is refused is refused quickly.
        took: Option<Duration>,
        /// See above.
        busy: bool,
    },
    /// It asked for fewer requests, gave no answer, or an error of its own.
    Badly,
}

/// See the module.
#[derive(Debug)]
pub struct Pace {
    cap: f64,
    limit: f64,
    moving: Option<f64>,
    /// The quickest of this stretch of time and of the one before: seconds.
    quickest: (f64, f64),
    stretch: Instant,
    cut_at: Option<Instant>,
}

impl Pace {
    /// At most `cap` at one time.
    pub fn new(cap: usize, now: Instant) -> Pace {
        let cap = cap.max(1) as f64;
        Pace {
            cap,
            limit: BEGIN.min(cap),
            moving: None,
            quickest: (f64::INFINITY, f64::INFINITY),
            stretch: now,
            cut_at: None,
        }
    }

    /// How many requests may be under way.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Begins again with one, and grows from there: the destination was closed.
    pub fn restart(&mut self) {
        self.limit = 1.0;
        self.moving = None;
    }

    /// Takes in how a request ended.
    pub fn observe(&mut self, ended: Ended, now: Instant) {
        match ended {
            Ended::Badly => self.cut(HALF, 1.0, now),
            Ended::Well { took, busy } => {
                if took.is_some_and(|took| self.is_slow(took.as_secs_f64(), now)) && self.limit > SLOW_LEAST {
                    self.cut(SLOWER, SLOW_LEAST, now);
                } else if busy {
                    self.limit = (self.limit + 1.0 / self.limit).min(self.cap);
                }
            }
        }
    }

    fn cut(&mut self, to: f64, least: f64, now: Instant) {
        if self.cut_at.is_some_and(|cut_at| now.saturating_duration_since(cut_at) < ONCE) {
            return;
        }
        self.cut_at = Some(now);
        self.limit = (self.limit * to).max(least);
    }

    fn is_slow(&mut self, took: f64, now: Instant) -> bool {
        if now.saturating_duration_since(self.stretch) >= MEMORY {
            self.stretch = now;
            self.quickest = (f64::INFINITY, self.quickest.0);
        }
        self.quickest.0 = self.quickest.0.min(took);
        let moving = self.moving.map_or(took, |moving| moving + (took - moving) * MOVING);
        self.moving = Some(moving);
        let quickest = self.quickest.0.min(self.quickest.1);
        moving > quickest * RISEN && moving - quickest > NOISE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Steps = Vec<(u64, Ended)>;

    fn well(ms: u64) -> Ended {
        Ended::Well { took: Some(Duration::from_millis(ms)), busy: true }
    }

    fn after(pace: &mut Pace, start: Instant, steps: &[(u64, Ended)]) -> usize {
        for (at_ms, ended) in steps {
            pace.observe(*ended, start + Duration::from_millis(*at_ms));
        }
        pace.limit()
    }

    #[test]
    fn what_happens_decides_how_many_may_be_under_way() {
        let (good, slow, idle) =
            (well(100), well(900), Ended::Well { took: Some(Duration::from_millis(100)), busy: false });
        let grown = |count: u64| (0..count).map(|n| (n * 10, good)).collect::<Vec<_>>();
        let with = |count, more: &[(u64, Ended)]| [grown(count), more.to_vec()].concat();
        let cases: [(&str, usize, Steps, usize); 12] = [
            ("it begins modestly", 16, vec![], 4),
            ("within its cap", 2, vec![], 2),
            ("one more for each round", 16, grown(5), 5),
            ("and another", 16, grown(11), 6),
            ("up to the cap", 16, grown(1000), 16),
            ("not while there is little to do", 16, (0..50).map(|n| (n, idle)).collect(), 4),
            ("half when it throttles or fails", 16, with(1000, &[(20_000, Ended::Badly)]), 8),
            ("once for what fails together", 16, with(1000, &[(20_000, Ended::Badly); 9]), 8),
            ("down to one", 16, (0..9).map(|n| (n * 1000, Ended::Badly)).collect(), 1),
            ("one slow answer is noise", 16, with(1000, &[(20_000, slow)]), 16),
            ("slow answers make it fewer", 16, with(1000, &[(20_000, slow); 4]), 12),
            (
                "but never very few",
                16,
                with(1000, &(20..40).map(|n| (n * 1000, slow)).collect::<Vec<_>>()),
                2,
            ),
        ];
        for (what, cap, steps, expected) in cases {
            let start = Instant::now();
            let mut pace = Pace::new(cap, start);
            assert_eq!(after(&mut pace, start, &steps), expected, "{what}");
        }
    }

    #[test]
    fn quick_answers_that_differ_by_little_time_are_all_quick() {
        let start = Instant::now();
        let mut pace = Pace::new(16, start);
        let steps: Vec<_> = (0..1000).map(|n| (n * 10, well(1 + (n % 2) * 30))).collect();
        assert_eq!(after(&mut pace, start, &steps), 16);
    }

    #[test]
    fn what_stays_slow_is_the_new_pace_after_a_while() {
        let start = Instant::now();
        let mut pace = Pace::new(16, start);
        after(&mut pace, start, &(0..100).map(|n| (n * 10, well(100))).collect::<Vec<_>>());
        let slow: Vec<_> = (0..110).map(|n| (2000 + n * 1000, well(900))).collect();
        assert_eq!(after(&mut pace, start, &slow), 2);
        let later: Vec<_> = (0..200).map(|n| (130_000 + n * 100, well(900))).collect();
        assert_eq!(after(&mut pace, start, &later), 16);
    }

    #[test]
    fn answers_that_differ_for_other_reasons_do_not_keep_it_at_one() {
        let start = Instant::now();
        let mut pace = Pace::new(16, start);
        pace.observe(well(10), start);
        pace.restart();
        // Such as calls that cost the vendor less.
        let steps: Vec<_> = (0..600).map(|n| (n * 1000, well(if n % 20 == 19 { 10 } else { 900 }))).collect();
        assert_eq!(after(&mut pace, start, &steps), 2);
    }

    #[test]
    fn after_it_was_closed_it_opens_step_by_step() {
        let start = Instant::now();
        let mut pace = Pace::new(16, start);
        pace.restart();
        let limits: Vec<_> = (0..6).map(|n| after(&mut pace, start, &[(n * 10, well(100))])).collect();
        assert_eq!(limits, [2, 2, 2, 3, 3, 3]);
    }
}
