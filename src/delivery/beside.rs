//! What the lane of a destination and its replays share, so that together they ask no more of the vendor than it allows:
//! the published rates, the requests at one time, and whether anything may be sent at all. The lane decides that;
//! replays follow it, and tell it what they see. Also here: a replay's own rate.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fanout_sdk::destination::Rate;
use fanout_sdk::event::Event;
use fanout_sdk::superseded::{Again, Trait, Value};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use super::gate::{Permit, Signs};
use super::limiter::Limiter;
use crate::queue::Claimed;

/// What replays have seen and the lane has not taken in; more is dropped, for it says the same again.
const MOST_TOLD: usize = 64;

/// Whether replays may send, as the lane of their destination has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// They may.
    Open,
    /// One request, which the lane takes for its probe: it has nothing to probe with.
    Probe,
    /// Nothing; before this time nothing changes, where it is known.
    Closed(Option<Instant>),
}

/// See the module.
pub(super) struct Beside {
    pub(super) limiter: Limiter,
    slots: Semaphore,
    standing: watch::Sender<Standing>,
    told: Mutex<VecDeque<Signs>>,
    news: Notify,
}

impl Beside {
    /// For a destination with these rates and so many requests at one time. Closed until its lane says otherwise.
    pub(super) fn new(rates: &[Rate], concurrency: usize) -> Beside {
        Beside {
            limiter: Limiter::new(rates, tokio::time::Instant::now()),
            slots: Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            standing: watch::Sender::new(Standing::Closed(None)),
            told: Mutex::default(),
            news: Notify::new(),
        }
    }

    /// Waits for one of the places for requests at one time; `None` never comes, for they are not taken away.
    pub(super) async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.acquire().await.ok()
    }

    /// The lane says whether replays may send.
    pub(super) fn stand(&self, standing: Standing) {
        self.standing.send_if_modified(|now| std::mem::replace(now, standing) != standing);
    }

    /// What the lane said, for a replay to wait for changes of it.
    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// A replay says what it saw of the vendor.
    pub(super) fn tell(&self, signs: Signs) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MOST_TOLD {
            told.push_back(signs);
        }
        self.news.notify_one();
    }

    /// Waits for what a replay says. Cancel-safe; for one listener.
    pub(super) async fn hear(&self) -> Signs {
        loop {
            let next = self.told.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            if let Some(signs) = next {
                return signs;
            }
            self.news.notified().await;
        }
    }
}

impl Standing {
    /// What a replay may do that has requests under way or not, when nothing else keeps it.
    pub(super) fn permit(self, sending: bool) -> Permit {
        match self {
            Standing::Open => Permit::Free,
            Standing::Probe if !sending => Permit::Probe,
            Standing::Closed(Some(until)) => Permit::NotBefore(until),
            Standing::Probe | Standing::Closed(None) => Permit::Probing,
        }
    }
}

/// Which events of a run are sent, and with which traits. Called on the lane's own task.
#[async_trait]
pub trait Select: Send + Sync {
    /// Brings it up to date, before it is asked about what was claimed. `false` where that cannot be done now: then
    /// nothing of it may be sent.
    async fn refresh(&self) -> bool;

    /// The code under which an event is skipped, if it is left out.
    fn leaves_out(&self, delivery: &Claimed<Arc<Event>>) -> Option<&'static str>;

    /// Whether later events have set a trait of it again.
    fn again(&self, delivery: &Claimed<Arc<Event>>, one: Trait<'_>, value: Value<'_>) -> Again;
}

/// What makes a lane a replay's.
#[derive(Clone)]
pub struct Replay {
    /// Its name in the queue.
    pub lane: Arc<str>,
    /// Which events are sent.
    pub select: Arc<dyn Select>,
    /// So many events at most are sent,
    pub count: u64,
    /// in this time.
    pub per: Duration,
}

/// A replay's own rate: a token bucket that holds at most a second's worth, and one event at least.
#[derive(Debug)]
pub(super) struct Trickle {
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Trickle {
    /// A full one.
    pub(super) fn new(count: u64, per: Duration, now: Instant) -> Trickle {
        let per_second = count.max(1) as f64 / per.max(Duration::from_millis(1)).as_secs_f64();
        Trickle { per_second, tokens: per_second.max(1.0), at: now }
    }

    /// How many may go now; 0 with the time at which one may.
    pub(super) fn room(&mut self, now: Instant) -> Result<usize, Instant> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.per_second.max(1.0));
        self.at = now;
        // What rounding takes away must not cost a turn of its own.
        if self.tokens + 1e-6 >= 1.0 {
            return Ok((self.tokens + 1e-6) as usize);
        }
        let wait = Duration::try_from_secs_f64((1.0 - self.tokens) / self.per_second);
        Err(now + wait.unwrap_or(Duration::from_secs(3600)).max(Duration::from_millis(1)))
    }

    /// One goes.
    pub(super) fn take(&mut self) {
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_keeps_its_rate_and_saves_up_a_second_at_most() {
        let start = Instant::now();
        for (count, per, burst, in_ten) in [(50, 1, 50, 550), (1, 10, 1, 2), (600, 60, 10, 110)] {
            let mut trickle = Trickle::new(count, Duration::from_secs(per), start);
            let (mut now, mut went) = (start, 0);
            let mut first = None;
            while now <= start + Duration::from_millis(10_050) {
                match trickle.room(now) {
                    Ok(room) => {
                        first.get_or_insert(room);
                        (0..room).for_each(|_| trickle.take());
                        went += room;
                    }
                    Err(next) => now = next,
                }
            }
            assert_eq!(first, Some(burst));
            assert!(went.abs_diff(in_ten) <= 3, "{went} of {count} per {per} s");
        }
    }

    #[test]
    fn what_a_replay_may_do_follows_the_lane() {
        let until = Instant::now();
        for (standing, sending, permit) in [
            (Standing::Open, true, Permit::Free),
            (Standing::Probe, false, Permit::Probe),
            (Standing::Probe, true, Permit::Probing),
            (Standing::Closed(None), false, Permit::Probing),
            (Standing::Closed(Some(until)), false, Permit::NotBefore(until)),
        ] {
            assert_eq!(standing.permit(sending), permit, "{standing:?}");
        }
    }

    #[tokio::test]
    async fn what_replays_tell_is_heard_in_order_and_bounded() {
        let beside = Beside::new(&[], 1);
        for n in 0..MOST_TOLD + 5 {
            beside.tell(Signs { dealt: n == 0, ..Signs::default() });
        }
        assert!(beside.hear().await.dealt);
        for _ in 1..MOST_TOLD {
            assert!(!beside.hear().await.dealt);
        }
        let more = tokio::time::timeout(Duration::from_millis(10), beside.hear()).await;
        assert!(more.is_err(), "the rest was dropped");
    }
}
