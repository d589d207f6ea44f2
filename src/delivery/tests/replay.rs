//! A replay beside the lane of its destination: when it sends, and when it ends.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use fanout_sdk::superseded::{Again, Trait, Value};

use super::doubles::Bench;
use super::*;
use crate::delivery::{Replay, Select};
use crate::queue::Claimed;

/// Chooses everything whole, once it can.
pub struct Chooser {
    pub is_ready: AtomicBool,
}

#[async_trait]
impl Select for Arc<Chooser> {
    async fn refresh(&self) -> bool {
        self.is_ready.load(Ordering::SeqCst)
    }

    fn leaves_out(&self, _: &Claimed<Arc<Event>>) -> Option<&'static str> {
        None
    }

    fn again(&self, _: &Claimed<Arc<Event>>, _: Trait<'_>, _: Value<'_>) -> Again {
        Again::No
    }
}

impl Bench {
    /// Starts a replay that chooses by this; unless the queue's deliveries are its own, it has nothing to do.
    async fn replay_by(&self, chooser: &Arc<Chooser>) -> Option<Arc<Notify>> {
        let (lane, select, per) =
            ("replay:1".into(), Arc::new(chooser.clone()), std::time::Duration::from_secs(1));
        let replay = Replay { lane, select, count: 1000, per };
        self.lanes.start_replay(self.spec.clone(), replay, self.counts.clone(), self.start).await
    }

    /// Starts a replay that chooses everything.
    pub async fn replay(&self) -> Option<Arc<Notify>> {
        self.replay_by(&Arc::new(Chooser { is_ready: true.into() })).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_chosen_from_waits_and_uses_up_no_attempt() {
    let mut bench = bench(1, |_| Play::All(0, Outcome::Delivered));
    *bench.queue.lane.lock().unwrap() = "replay:1";
    bench.add(&["a", "a", "bb"]);
    bench.go().await;
    let chooser = Arc::new(Chooser { is_ready: false.into() });
    bench.replay_by(&chooser).await.unwrap();
    bench.until(60_000).await;
    assert!(bench.vendor.requests().is_empty(), "{:?}", bench.vendor.requests());
    chooser.is_ready.store(true, Ordering::SeqCst);
    bench.queue.drained().await;
    assert_eq!(bench.queue.ends(), vec![("Delivered".to_owned(), 1); 3]);
    assert!(bench.start.elapsed() < Duration::from_secs(62));
}

#[tokio::test(start_paused = true)]
async fn a_replay_ends_with_the_lane_beside_which_it_runs() {
    let mut bench = bench(1, |_| Play::All(0, Outcome::Delivered));
    bench.go().await;
    let ended = bench.replay().await.unwrap();
    bench.go().await;
    let hour = Duration::from_secs(3600);
    tokio::time::timeout(hour, ended.notified()).await.expect("the replay still runs");
    let ended = bench.replay().await.expect("it can be started again");
    bench.lanes.start_disabled("vendor".into(), bench.start).await;
    tokio::time::timeout(hour, ended.notified()).await.expect("the replay still runs");
    assert!(bench.replay().await.is_none(), "to a disabled destination");
}

#[tokio::test(start_paused = true)]
async fn after_the_end_no_replay_begins() {
    let mut bench = bench(1, |_| Play::All(0, Outcome::Delivered));
    bench.go().await;
    bench.lanes.shutdown(bench.start).await;
    assert!(bench.replay().await.is_none());
}
