//! What every implementation of the queue's border must do, as tests that know nothing else of it.
//!
//! An implementation says in a [`Place`] how it is opened, and calls `conformance!` in its tests.

mod runs;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::runs::Runs;
use super::{AppendError, Appended, Claimed, Code, Dead, Entry, Id, Payload, Queue, Settled};

impl Payload for String {
    fn held_bytes(&self) -> usize {
        self.capacity()
    }

    /// Words as `color=red` set a trait; a text without one says what no other says.
    fn still_say(calls: &[Self]) -> Vec<bool> {
        let mut said = BTreeSet::new();
        let says = |text: &String| {
            let traits = || text.split(' ').filter_map(|word| word.split_once('='));
            traits().filter(|(name, _)| said.insert((*name).to_owned())).count() > 0 || traits().count() == 0
        };
        let mut newest_first: Vec<bool> = calls.iter().rev().map(says).collect();
        newest_first.reverse();
        newest_first
    }
}

/// Where a queue keeps its data, and its clock.
pub trait Place {
    type Queue: Runs<String>;
    /// Opens it, again or for the first time. Dropping a queue that was not closed is a crash.
    fn open(&self, lanes: &[&str]) -> Self::Queue;
    /// The queue's clock: milliseconds since 1970.
    fn now_ms(&self) -> i64;
    /// Sets the clock forward, or back.
    fn advance(&self, ms: i64);
}

/// Makes a test of every case, given an expression for a new place.
macro_rules! conformance {
    ($place:expr => $($case:ident)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            crate::queue::conformance::$case($place).await;
        }
    )* };
    ($place:expr) => { conformance! { $place =>
        hands_out_what_was_appended
        one_order_key_goes_in_order_one_at_a_time
        lanes_do_not_wait_for_each_other
        a_retry_waits_for_its_time_and_counts
        a_release_comes_again_at_once_and_is_no_attempt
        a_restart_resumes_exactly_what_is_unfinished
        a_crash_loses_nothing
        retries_survive_a_restart
        a_new_lane_begins_at_the_end
        a_removed_lane_is_accounted_for
        counts_balance
        repeated_messages_are_dropped
        a_waiting_claim_is_woken
        a_dropped_claim_loses_nothing
        closing_ends_claims_and_appends
        outcomes_at_the_end_are_kept
        dead_letters_are_listed_and_purged
        a_redriven_letter_goes_before_what_waits
        a_redriven_letter_knows_what_has_overtaken_it
        redriven_letters_survive_a_crash
        small_things_survive
        unknown_lanes_have_nothing
        a_run_is_over_the_calls_of_its_time
        a_run_is_over_what_there_was
        a_run_keeps_the_order_of_a_key
        a_run_goes_on_after_a_crash
        a_run_that_is_done_stays_done
        a_run_that_is_done_goes_on_for_what_is_redriven
        a_removed_run_leaves_nothing
        a_run_over_nothing_is_done_at_once
        retained_calls_are_read_with_what_became_of_them
        a_wait_comes_again_in_its_time_and_is_no_attempt
        what_a_broken_lane_had_claimed_comes_again_in_order
        beyond_its_backlog_the_oldest_that_are_not_in_flight_are_given_up
        one_users_flood_delays_nobody_else
        a_clock_that_is_set_back_delays_no_retry
    } };
}
pub(crate) use conformance;
pub use runs::*;

pub fn entry(name: &str, order_key: u64, message_key: u64) -> Entry<String> {
    Entry {
        source: 0,
        received_at_ms: 1_000 + i64::try_from(message_key).unwrap(),
        kind: 1,
        order_key,
        message_key,
        body: Arc::from(name.as_bytes()),
        payload: name.to_owned(),
    }
}

/// Appends `names`, each with an order key of its own.
async fn append(queue: &impl Queue<String>, names: &[&str]) {
    for name in names {
        let key = queue.hash(&[name]);
        assert_eq!(queue.append(vec![entry(name, key, key >> 32)]).await.unwrap(), [Appended::Accepted]);
    }
}

pub async fn a_wait_comes_again_in_its_time_and_is_no_attempt(place: impl Place) {
    let queue = place.open(&["a"]);
    append(&queue, &["one"]).await;
    for _ in 0..3 {
        let claimed = claim(&queue, "a", 1).await;
        assert_eq!(claimed[0].attempt, 1);
        let how = Settled::Wait { at_ms: place.now_ms() + 60_000 };
        queue.settle("a", vec![(claimed[0].id, how)]);
        assert!(claim_now(&queue, "a").await.is_empty());
        place.advance(60_000);
    }
}

pub async fn what_a_broken_lane_had_claimed_comes_again_in_order(place: impl Place) {
    let queue = place.open(&["a"]);
    let entries = (0..6).map(|n| entry(&format!("call {n}"), n % 4, n)).collect();
    queue.append(entries).await.unwrap();
    let claimed = claim(&queue, "a", 4).await;
    queue.settle("a", done(&claimed[1..2]));
    queue.give_back("a");
    assert_eq!(queue.counts("a").unwrap().in_flight, 0);
    let again = claim(&queue, "a", 4).await;
    assert_eq!(names(&again), ["call 0", "call 2", "call 3", "call 5"]);
    assert!(again.iter().all(|claimed| claimed.attempt == 1));
    queue.give_back("nobody");
}

pub async fn a_clock_that_is_set_back_delays_no_retry(place: impl Place) {
    let queue = place.open(&["a"]);
    append(&queue, &["one", "two"]).await;
    let claimed = claim(&queue, "a", 2).await;
    queue.settle("a", later(&claimed[..1], place.now_ms() + 60_000));
    place.advance(-3 * 3_600_000);
    queue.settle("a", later(&claimed[1..], place.now_ms() + 60_000));
    assert!(claim_now(&queue, "a").await.is_empty());
    place.advance(60_000);
    assert_eq!(names(&claim(&queue, "a", 2).await), ["one", "two"]);
    queue.close().await;
    drop(queue);

    // What was written down before is in the old time; and then it is set back by a year while nothing runs.
    let queue = place.open(&["a"]);
    place.advance(3_600_000);
    let claimed = claim(&queue, "a", 2).await;
    queue.settle("a", later(&claimed, place.now_ms() + 60_000));
    queue.close().await;
    drop(queue);
    place.advance(-365 * 24 * 3_600_000);
    let queue = place.open(&["a"]);
    assert!(claim_now(&queue, "a").await.is_empty());
    place.advance(3_600_000);
    assert_eq!(names(&claim(&queue, "a", 2).await), ["one", "two"]);
}

/// Waits until a lane has so few unfinished deliveries, which must come in time.
async fn shrunk(queue: &impl Queue<String>, lane: &str, count: u64) {
    let all = async {
        while queue.counts(lane).unwrap().unfinished > count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("its backlog stayed");
}

pub async fn beyond_its_backlog_the_oldest_that_are_not_in_flight_are_given_up(place: impl Place) {
    let queue = place.open(&["a", "b"]);
    let entries = (0..40).map(|n| entry(&format!("call {n}"), n % 8, n)).collect();
    queue.append(entries).await.unwrap();
    let begun = claim(&queue, "a", 3).await;
    queue.settle("a", later(&begun[..1], place.now_ms() + 60_000));
    queue.set_limits("a", super::LaneLimits { max_backlog: Some(10) });
    shrunk(&queue, "a", 10).await;
    let dead = vec![(Code::Dead("backlog".to_owned()), 30)];
    assert_eq!(queue.counts("a").unwrap().finished, dead);
    assert_eq!(queue.counts("b").unwrap().unfinished, 40, "the other lane keeps all");
    queue.settle("a", done(&begun[1..]));
    assert_eq!(queue.counts("a").unwrap().retrying, 0, "what waited for another attempt was the oldest");
    let newest: BTreeSet<String> = (32..40).map(|n| format!("call {n}")).collect();
    let left = |claimed: &[Claimed<String>]| -> BTreeSet<String> {
        names(claimed).into_iter().map(str::to_owned).collect()
    };
    assert_eq!(left(&claim(&queue, "a", 8).await), newest);
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a", "b"]);
    place.advance(60_000);
    assert_eq!(left(&claim(&queue, "a", 8).await), newest);
    let counts: BTreeSet<_> = queue.counts("a").unwrap().finished.into_iter().collect();
    assert_eq!(counts, [(Code::Delivered, 2), dead[0].clone()].into());
}

pub async fn one_users_flood_delays_nobody_else(place: impl Place) {
    const FLOOD: u64 = 2000;
    let queue = place.open(&["a"]);
    let body = |n: u64| entry(&format!("call {n}"), if n % 100 == 99 { n } else { 1 }, n);
    queue.append((0..FLOOD).map(body).collect()).await.unwrap();
    let all = claim(&queue, "a", 21).await;
    assert_eq!(all.iter().filter(|claimed| claimed.order_key != 1).count(), 20);
    queue.settle("a", done(&all[1..]));
    queue.close().await;
    drop(queue);

    let queue = place.open(&["a"]);
    let mut expected = (0..FLOOD).filter(|n| n % 100 != 99);
    queue.append(vec![entry("the last", 1, FLOOD + 1)]).await.unwrap();
    for expected in expected.by_ref() {
        let next = claim(&queue, "a", 1).await;
        assert_eq!(names(&next), [format!("call {expected}")]);
        queue.settle("a", done(&next));
    }
    assert_eq!(names(&claim(&queue, "a", 1).await), ["the last"]);
    let counts = queue.counts("a").unwrap();
    assert_eq!((counts.unfinished, counts.in_flight, finished(&queue, "a")), (1, 1, FLOOD));
}

/// Claims until there are so many, which must come in time.
pub async fn claim(queue: &impl Queue<String>, lane: &str, count: usize) -> Vec<Claimed<String>> {
    let mut claimed = Vec::new();
    let all = async {
        while claimed.len() < count {
            claimed.extend(queue.claim(lane, count - claimed.len()).await);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("there was nothing to claim");
    claimed
}

/// What can be claimed without waiting for anything.
pub async fn claim_now(queue: &impl Queue<String>, lane: &str) -> Vec<Claimed<String>> {
    tokio::time::timeout(Duration::from_millis(30), queue.claim(lane, 100)).await.unwrap_or_default()
}

pub fn names(claimed: &[Claimed<String>]) -> Vec<&str> {
    claimed.iter().map(|claimed| claimed.payload.as_str()).collect()
}

fn done(claimed: &[Claimed<String>]) -> Vec<(Id, Settled)> {
    claimed.iter().map(|claimed| (claimed.id, Settled::Done(Code::Delivered))).collect()
}

/// From when the lane counts; the queue does not look at it.
const SINCE_MS: i64 = 123;

fn later(claimed: &[Claimed<String>], at_ms: i64) -> Vec<(Id, Settled)> {
    let how = Settled::Later { at_ms, since_ms: SINCE_MS, reason: "busy".to_owned() };
    claimed.iter().map(|claimed| (claimed.id, how.clone())).collect()
}

fn finished(queue: &impl Queue<String>, lane: &str) -> u64 {
    queue.counts(lane).unwrap().finished.iter().map(|(_, count)| count).sum()
}

pub async fn hands_out_what_was_appended(place: impl Place) {
    let queue = place.open(&["a"]);
    let entries = (0..5).map(|n| entry(&format!("call {n}"), n, n)).collect();
    assert_eq!(queue.append(entries).await.unwrap(), [Appended::Accepted; 5]);
    let before = place.now_ms();
    let first = claim(&queue, "a", 2).await;
    assert_eq!(names(&first), ["call 0", "call 1"]);
    assert_eq!((first[0].order_key, first[0].attempt), (0, 1));
    assert!((before..=place.now_ms()).contains(&first[0].first_attempt_at_ms));
    assert_eq!(names(&claim(&queue, "a", 3).await), ["call 2", "call 3", "call 4"]);
    assert!(claim_now(&queue, "a").await.is_empty(), "each is handed out once");
    assert!(queue.disk_bytes() > 0);
}

pub async fn one_order_key_goes_in_order_one_at_a_time(place: impl Place) {
    let queue = place.open(&["a"]);
    let entries = (0..6).map(|n| entry(&format!("call {n}"), n % 2, n)).collect();
    queue.append(entries).await.unwrap();
    let heads = claim(&queue, "a", 2).await;
    assert_eq!(names(&heads), ["call 0", "call 1"]);
    assert!(claim_now(&queue, "a").await.is_empty(), "the others wait behind them");
    queue.settle("a", done(&heads[1..]));
    assert_eq!(names(&claim(&queue, "a", 1).await), ["call 3"], "the other user goes on");
    queue.settle("a", later(&heads[..1], place.now_ms() + 50));
    assert_eq!(names(&claim(&queue, "a", 1).await), ["call 0"], "not call 2");
    queue.settle("a", done(&heads[..1]));
    assert_eq!(names(&claim(&queue, "a", 1).await), ["call 2"]);
}

pub async fn lanes_do_not_wait_for_each_other(place: impl Place) {
    let queue = place.open(&["a", "b"]);
    append(&queue, &["one", "two"]).await;
    let stuck = claim(&queue, "a", 2).await;
    let moving = claim(&queue, "b", 2).await;
    assert_eq!(names(&stuck), names(&moving));
    queue.settle("b", done(&moving));
    append(&queue, &["three"]).await;
    assert_eq!(names(&claim(&queue, "b", 1).await), ["three"]);
    assert_eq!(queue.counts("a").unwrap().unfinished, 3);
    assert_eq!(queue.counts("b").unwrap().unfinished, 1);
}

pub async fn a_retry_waits_for_its_time_and_counts(place: impl Place) {
    let queue = place.open(&["a"]);
    append(&queue, &["one"]).await;
    let first = claim(&queue, "a", 1).await;
    queue.settle("a", later(&first, place.now_ms() + 60_000));
    let counts = queue.counts("a").unwrap();
    assert_eq!((counts.unfinished, counts.in_flight, counts.retrying), (1, 0, 1));
    assert!(claim_now(&queue, "a").await.is_empty());
    place.advance(60_000);
    let second = claim(&queue, "a", 1).await;
    assert_eq!((second[0].attempt, second[0].first_attempt_at_ms), (2, SINCE_MS));
    queue.settle("a", later(&second, place.now_ms() + 40));
    let third = claim(&queue, "a", 1).await;
    assert_eq!((third[0].attempt, third[0].first_attempt_at_ms), (3, SINCE_MS));
    assert_eq!(names(&third), ["one"]);
}

pub async fn a_release_comes_again_at_once_and_is_no_attempt(place: impl Place) {
    let queue = place.open(&["a"]);
    append(&queue, &["one", "two"]).await;
    for _ in 0..3 {
        let claimed = claim(&queue, "a", 2).await;
        assert!(claimed.iter().all(|claimed| claimed.attempt == 1));
        queue.settle("a", claimed.iter().map(|claimed| (claimed.id, Settled::Release)).collect());
    }
    assert_eq!(queue.counts("a").unwrap().unfinished, 2);
}

pub async fn a_restart_resumes_exactly_what_is_unfinished(place: impl Place) {
    let queue = place.open(&["a", "b"]);
    append(&queue, &["one", "two", "three", "four"]).await;
    let claimed = claim(&queue, "a", 3).await;
    queue.settle("a", done(&claimed[1..2]));
    queue.settle("b", done(&claim(&queue, "b", 4).await));
    queue.close().await;
    drop(queue);

    let queue = place.open(&["a", "b"]);
    assert_eq!(queue.counts("a").unwrap().unfinished, 3);
    assert_eq!(names(&claim(&queue, "a", 3).await), ["one", "three", "four"]);
    assert!(claim_now(&queue, "a").await.is_empty());
    assert!(claim_now(&queue, "b").await.is_empty());
    assert_eq!((finished(&queue, "a"), finished(&queue, "b")), (1, 4));
}

pub async fn a_crash_loses_nothing(place: impl Place) {
    let mut appended = BTreeSet::new();
    let mut delivered = BTreeSet::new();
    for round in 0..5 {
        let queue = place.open(&["a"]);
        for n in 0..10 {
            let name = format!("call {round} {n}");
            append(&queue, &[&name]).await;
            appended.insert(name);
        }
        let claimed = claim(&queue, "a", 6).await;
        queue.settle("a", done(&claimed[..4]));
        delivered.extend(claimed[..4].iter().map(|claimed| claimed.payload.clone()));
        let counts = queue.counts("a").unwrap();
        assert_eq!(counts.unfinished + finished(&queue, "a"), appended.len() as u64);
    }
    let queue = place.open(&["a"]);
    let left = usize::try_from(queue.counts("a").unwrap().unfinished).unwrap();
    assert!(left >= appended.len() - delivered.len());
    let claimed = claim(&queue, "a", left).await;
    delivered.extend(claimed.iter().map(|claimed| claimed.payload.clone()));
    assert_eq!(delivered, appended);
    assert!(claim_now(&queue, "a").await.is_empty());
}

pub async fn retries_survive_a_restart(place: impl Place) {
    let queue = place.open(&["a"]);
    let entries = (0..3).map(|n| entry(&format!("call {n}"), n / 2, n)).collect();
    queue.append(entries).await.unwrap();
    let claimed = claim(&queue, "a", 2).await;
    assert_eq!(names(&claimed), ["call 0", "call 2"]);
    queue.settle("a", later(&claimed[..1], place.now_ms() + 60_000));
    queue.settle("a", done(&claimed[1..]));
    queue.close().await;
    drop(queue);

    let queue = place.open(&["a"]);
    assert!(claim_now(&queue, "a").await.is_empty(), "call 1 waits behind call 0");
    place.advance(60_000);
    let again = claim(&queue, "a", 1).await;
    assert_eq!((again[0].payload.as_str(), again[0].attempt), ("call 0", 2));
    assert_eq!(again[0].first_attempt_at_ms, SINCE_MS);
    queue.settle("a", done(&again));
    assert_eq!(names(&claim(&queue, "a", 1).await), ["call 1"]);
}

pub async fn a_new_lane_begins_at_the_end(place: impl Place) {
    let queue = place.open(&["a"]);
    append(&queue, &["one", "two"]).await;
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a", "b"]);
    append(&queue, &["three"]).await;
    assert_eq!(names(&claim(&queue, "b", 1).await), ["three"]);
    let counts = queue.counts("b").unwrap();
    assert_eq!((counts.unfinished, counts.in_flight, finished(&queue, "b")), (1, 1, 0));
    assert_eq!(queue.counts("a").unwrap().unfinished, 3);
}

pub async fn a_removed_lane_is_accounted_for(place: impl Place) {
    let queue = place.open(&["a", "b"]);
    append(&queue, &["one", "two", "three"]).await;
    let claimed = claim(&queue, "a", 2).await;
    queue.settle("a", done(&claimed[..1]));
    queue.close().await;
    drop(queue);
    let queue = place.open(&["b"]);
    assert_eq!(queue.counts("a"), None);
    append(&queue, &["four"]).await;
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a", "b"]);
    let counts = queue.counts("a").unwrap();
    let expected = [(Code::Delivered, 1), (Code::Skipped("removed".to_owned()), 2)];
    assert_eq!((counts.unfinished, counts.finished.as_slice()), (0, expected.as_slice()));
    append(&queue, &["five"]).await;
    assert_eq!(names(&claim(&queue, "a", 1).await), ["five"]);
    assert_eq!(queue.counts("b").unwrap().unfinished, 5);
}

pub async fn counts_balance(place: impl Place) {
    let queue = place.open(&["a"]);
    assert_eq!(queue.counts("a").unwrap(), super::LaneCounts::default());
    append(&queue, &["one", "two", "three", "four", "five", "six"]).await;
    assert_eq!(queue.counts("a").unwrap().unfinished, 6, "though none was claimed");
    assert!(queue.counts("a").unwrap().oldest_received_at_ms.is_some());
    let claimed = claim(&queue, "a", 6).await;
    let dead = Dead {
        code: "rejected".into(),
        reason: "no".into(),
        attempts: 1,
        answer: "{}".into(),
        ..Dead::default()
    };
    let skipped = Code::Skipped("integrations".to_owned());
    let hows = [
        Settled::Done(Code::Submitted),
        Settled::Done(skipped.clone()),
        Settled::Dead(dead),
        Settled::Done(Code::Suppressed),
        Settled::Later { at_ms: place.now_ms() + 60_000, since_ms: 0, reason: String::new() },
    ];
    queue.settle("a", claimed.iter().map(|claimed| claimed.id).zip(hows).collect());
    let counts = queue.counts("a").unwrap();
    assert_eq!((counts.unfinished, counts.in_flight, counts.retrying), (2, 1, 1));
    let finished: BTreeSet<_> = counts.finished.into_iter().collect();
    let dead = Code::Dead("rejected".to_owned());
    let expected = [(Code::Submitted, 1), (skipped, 1), (Code::Suppressed, 1), (dead, 1)];
    assert_eq!(finished, expected.clone().into());
    queue.settle("a", done(&claimed[..4]));
    assert_eq!(
        queue.counts("a").unwrap().finished.into_iter().collect::<BTreeSet<_>>(),
        expected.clone().into()
    );
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a"]);
    let counts = queue.counts("a").unwrap();
    assert_eq!(counts.finished.into_iter().collect::<BTreeSet<_>>(), expected.into());
    assert_eq!(counts.unfinished, 2);
}

pub async fn repeated_messages_are_dropped(place: impl Place) {
    let queue = place.open(&["a"]);
    let now = |n| Entry { received_at_ms: place.now_ms(), ..entry(&format!("call {n}"), n, n) };
    queue.append(vec![now(1), now(2)]).await.unwrap();
    let again = queue.append(vec![now(2), now(3)]).await.unwrap();
    assert_eq!(again, [Appended::Duplicate, Appended::Accepted]);
    assert_eq!(names(&claim(&queue, "a", 3).await), ["call 1", "call 2", "call 3"]);
    assert_eq!(queue.counts("a").unwrap().unfinished, 3);
}

pub async fn a_waiting_claim_is_woken(place: impl Place) {
    let queue = place.open(&["a"]);
    let (claimed, ()) = tokio::join!(claim(&queue, "a", 1), append(&queue, &["one"]));
    let behind = entry("two", claimed[0].order_key, 9);
    queue.append(vec![behind]).await.unwrap();
    let settle = async { queue.settle("a", done(&claimed)) };
    let (next, ()) = tokio::join!(claim(&queue, "a", 1), settle);
    assert_eq!(names(&next), ["two"]);
}

pub async fn a_dropped_claim_loses_nothing(place: impl Place) {
    let queue = place.open(&["a"]);
    let mut claimed = Vec::new();
    for n in 0..50 {
        let name = format!("call {n}");
        let names = [name.as_str()];
        let mut appending = pin!(append(&queue, &names));
        let got = tokio::select! {
            biased;
            () = &mut appending => continue,
            got = queue.claim("a", 10) => got,
        };
        claimed.extend(got);
        appending.await;
    }
    let left = 50 - claimed.len();
    claimed.extend(claim(&queue, "a", left).await);
    let distinct: BTreeSet<_> = claimed.iter().map(|claimed| claimed.payload.clone()).collect();
    assert_eq!(distinct.len(), claimed.len());
    assert!(claim_now(&queue, "a").await.is_empty());
}

pub async fn closing_ends_claims_and_appends(place: impl Place) {
    let queue = place.open(&["a"]);
    let waiting = tokio::time::timeout(Duration::from_secs(20), queue.claim("a", 1));
    let (claimed, ()) = tokio::join!(waiting, queue.close());
    assert!(claimed.expect("the claim went on waiting").is_empty());
    let refused = queue.append(vec![entry("late", 1, 1)]).await;
    assert!(matches!(refused, Err(AppendError::Closed)), "{refused:?}");
    assert!(queue.claim("a", 1).await.is_empty());
    queue.close().await;
}

pub async fn outcomes_at_the_end_are_kept(place: impl Place) {
    let queue = place.open(&["a"]);
    append(&queue, &["one", "two"]).await;
    let claimed = claim(&queue, "a", 2).await;
    queue.close().await;
    queue.settle("a", done(&claimed[..1]));
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a"]);
    assert_eq!(names(&claim(&queue, "a", 1).await), ["two"]);
}

pub async fn small_things_survive(place: impl Place) {
    let queue = place.open(&[]);
    let (web, app) = (queue.source_id("web"), queue.source_id("app"));
    assert_ne!(web, app);
    assert_eq!(queue.source_id("web"), web);
    let hash = queue.hash(&["web", "u-1"]);
    assert_ne!(hash, queue.hash(&["we", "bu-1"]), "parts do not run into each other");
    assert_eq!(queue.get("paused"), None);
    queue.put("paused", b"1").unwrap();
    queue.put("paused", b"2").unwrap();
    drop(queue);
    let queue = place.open(&[]);
    assert_eq!(queue.source_name(web).as_deref(), Some("web"));
    assert_eq!(queue.source_name(app).as_deref(), Some("app"));
    assert_eq!(queue.source_name(app.max(web) + 1), None);
    assert_eq!(queue.source_id("app"), app);
    assert_eq!(queue.hash(&["web", "u-1"]), hash);
    assert_eq!(queue.get("paused").as_deref(), Some(&b"2"[..]));
}

pub async fn unknown_lanes_have_nothing(place: impl Place) {
    let queue = place.open(&["a"]);
    append(&queue, &["one"]).await;
    assert!(queue.claim("b", 1).await.is_empty());
    assert!(queue.claim("a", 0).await.is_empty());
    assert_eq!(queue.counts("b"), None);
    queue.settle("b", vec![(Id(1), Settled::Release)]);
    queue.settle("a", vec![(Id(1), Settled::Release), (Id(99), Settled::Done(Code::Delivered))]);
    assert_eq!(queue.counts("a").unwrap().unfinished, 1);
}

fn rejected() -> Settled {
    let request = Some("POST /".to_owned());
    let dead = Dead { code: "rejected".into(), reason: "no".into(), attempts: 1, request, ..Dead::default() };
    Settled::Dead(dead)
}

/// Calls of one user by name; the first number is that of the first message key.
async fn append_of_one_user(queue: &impl Queue<String>, first: u64, names: &[&str]) {
    for (key, name) in (first..).zip(names) {
        queue.append(vec![entry(name, 77, key)]).await.unwrap();
    }
}

/// Claims one after the other and ends each as is said of it.
async fn end_each(queue: &impl Queue<String>, lane: &str, hows: Vec<Settled>) -> Vec<Id> {
    let mut ids = Vec::new();
    for how in hows {
        let id = claim(queue, lane, 1).await[0].id;
        queue.settle(lane, vec![(id, how)]);
        ids.push(id);
    }
    ids
}

fn dead_count(queue: &impl Queue<String>, lane: &str) -> (u64, u64) {
    let counts = queue.counts(lane).unwrap();
    let dead = counts.finished.iter().filter(|(code, _)| matches!(code, Code::Dead(_)));
    (counts.unfinished, dead.map(|(_, count)| count).sum())
}

pub async fn dead_letters_are_listed_and_purged(place: impl Place) {
    let queue = place.open(&["a", "b"]);
    append_of_one_user(&queue, 1, &["one", "two", "three"]).await;
    let ids = end_each(&queue, "a", vec![rejected(), Settled::Done(Code::Delivered), rejected()]).await;
    let letters = queue.dead_letters("a", None, 10);
    let seen: Vec<_> = letters.iter().map(|letter| (letter.id, letter.payload.as_deref())).collect();
    assert_eq!(seen, [(ids[0], Some("one")), (ids[2], Some("three"))]);
    assert_eq!((letters[0].order_key, letters[0].received_at_ms, letters[0].source), (77, 1_001, Some(0)));
    assert_eq!(letters[0].dead.request.as_deref(), Some("POST /"));
    assert_eq!(queue.dead_letters("a", Some(ids[0]), 10).len(), 1);
    assert_eq!(queue.dead_letters("a", None, 1).len(), 1);
    assert_eq!(queue.dead_letters("b", None, 10).len() + queue.dead_letters("c", None, 10).len(), 0);
    assert_eq!(queue.purge("a", &[ids[0], ids[1]]), 1);
    assert_eq!((queue.dead_letters("a", None, 10).len(), dead_count(&queue, "a")), (1, (0, 2)));
    assert_eq!(queue.redrive("a", &[ids[0]], false), 0, "its record is gone");
}

pub async fn a_redriven_letter_goes_before_what_waits(place: impl Place) {
    let queue = place.open(&["a"]);
    append_of_one_user(&queue, 1, &["one", "two", "three", "four"]).await;
    let ids = end_each(&queue, "a", vec![rejected(), rejected()]).await;
    assert_eq!(dead_count(&queue, "a"), (2, 2));
    assert_eq!(queue.redrive("a", &[ids[1], ids[0], ids[0]], true), 2);
    assert_eq!(queue.redrive("a", &ids, true), 0, "they are open");
    assert_eq!(dead_count(&queue, "a"), (4, 0));
    let mut order = Vec::new();
    for _ in 0..4 {
        let claimed = claim(&queue, "a", 1).await.remove(0);
        assert_eq!((claimed.attempt, claimed.later.len()), (1, 0));
        assert_eq!(claimed.whole, ids.contains(&claimed.id));
        queue.settle("a", done(std::slice::from_ref(&claimed)));
        order.push(claimed.payload);
    }
    assert_eq!(order, ["one", "two", "three", "four"]);
    assert_eq!(dead_count(&queue, "a"), (0, 0));
    assert!(queue.dead_letters("a", None, 10).is_empty());
}

pub async fn a_redriven_letter_knows_what_has_overtaken_it(place: impl Place) {
    let queue = place.open(&["a"]);
    append(&queue, &["another user"]).await;
    append_of_one_user(&queue, 1, &["one", "two", "three", "four", "five"]).await;
    let skipped = Settled::Done(Code::Skipped("flag".into()));
    let delivered = || Settled::Done(Code::Delivered);
    let hows = vec![delivered(), rejected(), delivered(), skipped, rejected(), delivered()];
    let ids = end_each(&queue, "a", hows).await;
    let overtakers = queue.later_of("a", ids[1]);
    assert_eq!(overtakers, [(ids[2], "two".to_owned()), (ids[5], "five".to_owned())]);
    assert_eq!(queue.redrive("a", &ids, false), 2);
    let first = claim(&queue, "a", 1).await.remove(0);
    assert_eq!((first.payload.as_str(), first.later), ("one", vec!["two".to_owned(), "five".to_owned()]));
    queue.settle("a", vec![(first.id, delivered())]);
    let second = claim(&queue, "a", 1).await.remove(0);
    assert_eq!((second.payload.as_str(), second.later), ("four", vec!["five".to_owned()]));
}

pub async fn redriven_letters_survive_a_crash(place: impl Place) {
    let queue = place.open(&["a"]);
    append_of_one_user(&queue, 1, &["one", "two", "three"]).await;
    let ids = end_each(&queue, "a", vec![rejected(), Settled::Done(Code::Delivered), rejected()]).await;
    assert_eq!(queue.dead_letters("a", None, 10).len(), 2);
    drop(queue);
    let queue = place.open(&["a"]);
    assert_eq!(queue.redrive("a", &ids, false), 2, "before the lane has come to them again");
    drop(queue);
    let queue = place.open(&["a"]);
    assert_eq!((dead_count(&queue, "a"), queue.dead_letters("a", None, 10).len()), ((2, 0), 0));
    let first = claim(&queue, "a", 1).await.remove(0);
    assert_eq!((first.payload.as_str(), first.later), ("one", vec!["two".to_owned()]));
    queue.settle("a", vec![(first.id, rejected())]);
    let third = claim(&queue, "a", 1).await.remove(0);
    assert_eq!((third.payload.as_str(), third.attempt, third.later.len()), ("three", 1, 0));
    queue.settle("a", vec![(third.id, Settled::Done(Code::Delivered))]);
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a"]);
    assert_eq!((dead_count(&queue, "a"), queue.dead_letters("a", None, 10).len()), ((0, 1), 1));
    append_of_one_user(&queue, 4, &["four"]).await;
    assert_eq!(names(&claim(&queue, "a", 1).await), ["four"], "nothing of it is open any more");
}
