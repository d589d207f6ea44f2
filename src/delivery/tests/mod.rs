//! Lanes against a scripted vendor, in paused time.

pub(super) mod doubles;
mod give_back;
mod order;
pub(super) mod replay;
mod whole;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanout_sdk::destination::{Limits, Outcome, Rate, RateUnit};
use proptest::prelude::*;

use super::*;
use crate::queue::Settled;
use doubles::{Bench, Play, START_MS, bench, bench_with};

const DELIVERED: Play = Play::All(0, Outcome::Delivered);
const RETRY: Outcome = Outcome::Retry { after: None };

fn throttled(seconds: Option<u64>) -> Outcome {
    Outcome::Throttled { after: seconds.map(Duration::from_secs), user_only: false }
}

fn requests(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected.iter().map(|(at, users)| (*at, (*users).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_goes_at_once_and_the_rest_after_the_linger() {
    let mut bench = bench(3, |_| DELIVERED);
    bench.add(&["a", "b", "c", "d", "e"]);
    bench.go().await;
    bench.queue.drained().await;
    assert_eq!(bench.vendor.requests(), requests(&[(0, "a b c"), (10, "d e")]));
    assert_eq!((bench.counts.of("delivered", ""), *bench.counts.attempts.lock().unwrap()), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn what_comes_within_the_linger_shares_the_request_and_a_lone_event_waits_no_longer() {
    let mut bench = bench(3, |_| DELIVERED);
    bench.go().await;
    for (at, user) in [(100, "a"), (106, "b"), (200, "c")] {
        bench.until(at).await;
        bench.add(&[user]);
    }
    bench.queue.drained().await;
    assert_eq!(bench.vendor.requests(), requests(&[(110, "a b"), (210, "c")]));
}

#[tokio::test(start_paused = true)]
async fn without_batches_nothing_lingers() {
    let mut bench = bench(1, |_| DELIVERED);
    bench.add(&["a", "b"]);
    bench.go().await;
    bench.queue.drained().await;
    assert_eq!(bench.vendor.requests(), requests(&[(0, "a"), (0, "b")]));
}

#[tokio::test(start_paused = true)]
async fn bytes_fill_a_batch_too_and_options_reach_the_adapter() {
    let mut bench = bench(10, |_| DELIVERED);
    for (key, size) in [(1, 60), (2, 60)] {
        let text = format!(
            r#"{{"type":"identify","userId":"{key}","messageId":"m","integrations":{{"vendor":{{"size":{size}}}}}}}"#
        );
        bench.queue.add_call(key, &text);
    }
    bench.go().await;
    bench.queue.drained().await;
    assert_eq!(bench.vendor.requests(), requests(&[(0, "1 2")]));
}

#[tokio::test(start_paused = true)]
async fn one_vendor_identity_is_in_a_request_once() {
    let mut bench = bench(3, |_| DELIVERED);
    bench.add(&["a#1", "a#2", "b"]);
    bench.go().await;
    bench.queue.drained().await;
    assert_eq!(bench.vendor.requests(), requests(&[(0, "a#1 b"), (10, "a#2")]));
}

#[tokio::test(start_paused = true)]
async fn a_users_events_keep_their_order_through_retries_and_others_pass() {
    let mut bench = bench(1, |(_, at, users)| {
        if users == &["a"] && *at < 400 { Play::All(5, RETRY) } else { Play::All(5, Outcome::Delivered) }
    });
    bench.add(&["a", "a", "b", "a"]);
    bench.go().await;
    bench.queue.drained().await;
    let expected = [(0, "a"), (0, "b"), (505, "a"), (510, "a"), (515, "a")];
    assert_eq!(bench.vendor.requests(), requests(&expected));
}

#[tokio::test(start_paused = true)]
async fn retries_back_off_and_end_with_a_dead_letter() {
    let mut bench = bench(1, |_| Play::All(0, RETRY));
    bench.spec.policy.retry_for = Duration::from_secs(10);
    bench.add(&["a"]);
    bench.go().await;
    bench.queue.drained().await;
    assert_eq!(bench.vendor.times(), [0, 500, 1500, 3500, 7500, 10_000]);
    assert_eq!(bench.queue.ends(), [("dead expired".to_owned(), 6)]);
    assert_eq!((bench.counts.of("retry", ""), bench.counts.of("dead", "expired")), (5, 1));
    let error = bench.status().last_error.unwrap();
    assert_eq!((error.at_ms, error.outcome, &*error.what), (START_MS + 10_000, "retry", "403"));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_the_vendor_asks_for_is_kept() {
    let after = Some(Duration::from_secs(7));
    let mut bench = bench(1, move |(number, ..)| match number {
        1 => Play::All(0, Outcome::Retry { after }),
        2 => Play::All(0, Outcome::Throttled { after, user_only: true }),
        _ => DELIVERED,
    });
    bench.add(&["a"]);
    bench.go().await;
    bench.queue.drained().await;
    assert_eq!(bench.vendor.times(), [0, 7000, 14_000]);
}

#[tokio::test(start_paused = true)]
async fn throttling_pauses_the_destination_and_uses_up_no_attempt() {
    let mut bench =
        bench(1, |(_, at, _)| if *at < 5000 { Play::All(20, throttled(Some(30))) } else { DELIVERED });
    bench.add(&["a", "b"]);
    bench.go().await;
    bench.until(1000).await;
    bench.add(&["c"]);
    let status = bench.status();
    assert_eq!((status.closed, status.until_ms), (Some(Cause::Throttled), Some(START_MS + 30_020)));
    bench.until(30_000).await;
    assert_eq!((bench.vendor.times().len(), bench.queue.claimed()), (2, 0));
    bench.queue.drained().await;
    assert_eq!(bench.vendor.times(), [0, 0, 30_020, 30_020, 30_020]);
    assert!(bench.queue.ends().iter().all(|end| *end == ("Delivered".to_owned(), 1)));
    assert_eq!((bench.status().closed, bench.counts.of("throttled", "")), (None, 2));
}

#[tokio::test(start_paused = true)]
async fn what_waits_while_nothing_goes_uses_up_none_of_its_time() {
    for closing in [throttled(Some(7200)), Outcome::Unauthorised] {
        let repaired = Duration::from_secs(7000).as_millis() as u64;
        let mut failed = std::collections::HashSet::new();
        let mut bench = bench(1, move |(_, at, users)| match users {
            _ if *at < repaired => Play::All(10, closing.clone()),
            _ if failed.insert(users.clone()) => Play::All(10, RETRY),
            _ => DELIVERED,
        });
        bench.spec.policy.retry_for = Duration::from_secs(3600);
        // Four go out, and the others wait in the lane.
        bench.add(&["a", "bb", "ccc", "dddd", "eeeee", "ffffff", "ggggggg", "hhhhhhhh"]);
        bench.go().await;
        bench.queue.drained().await;
        assert_eq!(bench.queue.ends(), vec![("Delivered".to_owned(), 2); 8]);
    }
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_pause_the_destination_are_probed_with_one_event_and_lose_nothing() {
    let repaired = Arc::new(AtomicBool::new(false));
    let vendor_repaired = repaired.clone();
    let mut bench = bench(3, move |_| {
        let good = vendor_repaired.load(Ordering::SeqCst);
        Play::All(0, if good { Outcome::Delivered } else { Outcome::Unauthorised })
    });
    bench.add(&["a", "b", "c", "d", "e", "f"]);
    bench.go().await;
    bench.until(500).await;
    assert_eq!(bench.status().closed, Some(Cause::Suspected));
    bench.until(2000).await;
    assert_eq!(bench.status().closed, Some(Cause::Unauthorised));
    bench.until(200_000).await;
    let probes: Vec<_> = bench.vendor.seen.lock().unwrap().iter().skip(2).cloned().collect();
    assert_eq!(probes.iter().map(|(_, at, _)| *at).collect::<Vec<_>>(), [1000, 23_500, 68_500, 158_500]);
    assert!(probes.iter().all(|(.., users)| users.len() == 1));
    repaired.store(true, Ordering::SeqCst);
    bench.queue.drained().await;
    assert_eq!(bench.vendor.times()[6], 338_500);
    assert!(
        bench.queue.ends().iter().all(|end| *end == ("Delivered".to_owned(), 1)),
        "{:?}",
        bench.queue.ends()
    );
    assert_eq!((bench.status().closed, bench.counts.of("dead", "expired")), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_come_and_go_are_noticed_each_time() {
    let mut bench = bench(1, |(number, ..)| {
        Play::All(0, if matches!(number, 4 | 20) { Outcome::Delivered } else { Outcome::Unauthorised })
    });
    bench.add(&["a", "b"]);
    bench.go().await;
    bench.until(40_000).await;
    // Both were refused, one probe failed, one passed, and then the other was refused again: that is no fault of it.
    let mut ends = bench.queue.ends();
    ends.sort();
    assert_eq!(ends, [("Delivered".to_owned(), 1), ("unfinished".to_owned(), 1)]);
    assert_eq!(bench.status().closed, Some(Cause::Unauthorised));
    bench.queue.drained().await;
    assert!(bench.queue.ends().iter().all(|end| *end == ("Delivered".to_owned(), 1)));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_another_event_confirms_clears_the_first_one() {
    let mut bench = bench(1, |(number, ..)| {
        Play::All(0, if *number > 2 { Outcome::Delivered } else { Outcome::Unauthorised })
    });
    bench.go().await;
    for (at, user) in [(0, "a"), (500, "b"), (2000, "c")] {
        bench.until(at).await;
        bench.add(&[user]);
    }
    bench.queue.drained().await;
    let expected = [(0, "a"), (1000, "b"), (23_500, "c"), (23_500, "a"), (23_500, "b")];
    let mut seen = bench.vendor.requests();
    seen[3..].sort();
    assert_eq!(seen, requests(&expected));
}

#[tokio::test(start_paused = true)]
async fn one_event_that_is_refused_alone_does_not_stop_the_others() {
    let mut bench = bench(1, |(_, _, users)| {
        Play::All(0, if users == &["bad"] { Outcome::Unauthorised } else { Outcome::Delivered })
    });
    bench.spec.policy.retry_for = Duration::from_secs(600);
    bench.add(&["bad", "a"]);
    bench.go().await;
    bench.until(500).await;
    bench.add(&["b", "c"]);
    bench.until(3000).await;
    assert_eq!((bench.queue.unfinished(), bench.status().closed), (1, None));
    for at in [4000, 5000, 6000] {
        bench.until(at).await;
        bench.add(&["d"]);
    }
    bench.queue.drained().await;
    let ends: Vec<_> = bench.queue.ends().into_iter().map(|(end, _)| end).collect();
    assert_eq!(
        ends,
        ["dead expired", "Delivered", "Delivered", "Delivered", "Delivered", "Delivered", "Delivered"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_for_the_vendor_is_skipped_with_its_reason() {
    let mut bench = bench(1, |(_, _, users)| if users == &["odd"] { Play::InPart } else { DELIVERED });
    let calls = [
        r#"{"type":"identify","userId":"a","messageId":"m","integrations":{"All":"false"}}"#,
        r#"{"type":"track","userId":"a","messageId":"m","event":"e"}"#,
        r#"{"type":"identify","anonymousId":"a","messageId":"m"}"#,
        r#"{"type":"identify","userId":"bomb","messageId":"m"}"#,
        r#"{"type":"identify","userId":"odd","messageId":"m"}"#,
    ];
    calls.iter().zip(0..).for_each(|(call, key)| bench.queue.add_call(key, call));
    bench.queue.add_from(8, 8, r#"{"type":"identify","userId":"a","messageId":"m"}"#);
    bench.go().await;
    bench.queue.drained().await;
    let ends: Vec<_> = bench.queue.ends().into_iter().map(|(end, _)| end).collect();
    let expected = [
        "skipped integrations",
        "skipped call_type",
        "skipped no_identity",
        "dead adapter",
        "Delivered",
        "skipped source",
    ];
    assert_eq!(ends, expected);
    // Odd were one event, one flag, and a success in part.
    assert_eq!((bench.counts.of("skipped", "integrations"), *bench.counts.warned.lock().unwrap()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_lane_for_every_call_takes_every_call() {
    let mut bench = bench(1, |_| DELIVERED);
    bench.spec.every_call = true;
    bench.queue.add_call(1, r#"{"type":"track","userId":"a","messageId":"m","event":"e"}"#);
    bench.go().await;
    bench.queue.drained().await;
    assert_eq!(bench.queue.ends(), [("Delivered".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_breaks_or_forgets_items_costs_an_attempt_and_nothing_more() {
    let mut bench = bench(2, |(number, ..)| match number {
        1 => Play::Panic,
        2 => Play::Each(vec![Outcome::Delivered]),
        _ => DELIVERED,
    });
    bench.add(&["a", "b"]);
    bench.go().await;
    bench.queue.drained().await;
    assert_eq!(bench.queue.ends(), [("Delivered".to_owned(), 2), ("Delivered".to_owned(), 3)]);
}

#[tokio::test(start_paused = true)]
async fn each_item_has_its_own_outcome() {
    let mut bench = bench(3, |(number, ..)| match number {
        1 => Play::Each(vec![Outcome::Submitted, Outcome::Rejected, RETRY]),
        _ => DELIVERED,
    });
    bench.add(&["a", "b", "c"]);
    bench.go().await;
    bench.queue.drained().await;
    let ends: Vec<_> = bench.queue.ends().into_iter().map(|(end, _)| end).collect();
    assert_eq!(ends, ["Submitted", "dead rejected", "Delivered"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_vendor_gets_so_many_requests_and_the_lane_claims_no_more_than_it_has_room_for() {
    let mut bench = bench(2, |_| Play::Hang);
    let users: Vec<String> = (0..500).map(|number| format!("user-{number}-{}", "x".repeat(number))).collect();
    users.iter().for_each(|user| bench.queue.add(user));
    bench.go().await;
    bench.until(60_000).await;
    assert_eq!(
        (bench.vendor.seen.lock().unwrap().len(), bench.vendor.most_at_once.lock().unwrap().1),
        (4, 4)
    );
    // Four requests of two, and 4 × 4 that wait.
    assert_eq!(bench.queue.claimed(), 8 + 16);
    assert_eq!((bench.status().waiting, bench.status().requests), (16, 4));
}

#[tokio::test(start_paused = true)]
async fn a_lane_whose_vendor_hangs_delays_no_other() {
    let mut hanging = bench(1, |_| Play::Hang);
    let mut healthy = bench(1, |_| DELIVERED);
    hanging.go().await;
    healthy.go().await;
    for bench in [&hanging, &healthy] {
        bench.add(&["a", "b", "c", "d", "e", "f", "g"]);
    }
    healthy.queue.drained().await;
    assert!(healthy.start.elapsed() < Duration::from_millis(10));
    assert_eq!(hanging.queue.unfinished(), 7);
}

#[tokio::test(start_paused = true)]
async fn published_rates_are_kept() {
    let rates = vec![Rate { count: 2, unit: RateUnit::Items, per: Duration::from_secs(1), per_user: false }];
    let linger = Duration::ZERO;
    let mut bench =
        bench_with(Limits { items: 2, bytes: 100, linger, concurrency: None, rates }, |_| DELIVERED);
    bench.add(&["a", "b", "c", "d", "e", "f"]);
    bench.go().await;
    bench.queue.drained().await;
    let times = bench.vendor.times();
    assert_eq!(times.len(), 3);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 999), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn paused_it_keeps_what_arrives_and_goes_on_where_it_was() {
    let mut bench = bench(1, |_| Play::All(50, Outcome::Delivered));
    bench.add(&["a"]);
    bench.go().await;
    bench.until(10).await;
    assert!(bench.lanes.pause("vendor", true));
    bench.add(&["b"]);
    bench.until(1000).await;
    assert_eq!((bench.vendor.requests(), bench.queue.claimed()), (requests(&[(0, "a")]), 0));
    assert_eq!((bench.status().paused, bench.queue.unfinished()), (true, 1));
    assert!(bench.lanes.pause("vendor", false));
    bench.queue.drained().await;
    assert_eq!(bench.vendor.times(), [0, 1000]);
    assert!(!bench.lanes.pause("nobody", true));
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_requests_end_until_the_deadline_and_gives_the_rest_back() {
    let mut bench = bench(1, |(_, _, users)| match &*users[0] {
        "slow" => Play::All(200, Outcome::Delivered),
        _ => Play::Hang,
    });
    bench.add(&["slow", "hangs", "e", "ee", "waits", "waits as well"]);
    bench.go().await;
    bench.until(100).await;
    assert_eq!(bench.queue.claimed(), 6);
    bench.lanes.shutdown(bench.start + Duration::from_millis(1100)).await;
    assert_eq!(bench.start.elapsed(), Duration::from_millis(1100));
    assert_eq!((bench.queue.claimed(), bench.queue.unfinished()), (0, 5));
    assert_eq!(bench.queue.ends()[0], ("Delivered".to_owned(), 1));
    let released = bench.queue.settled.lock().unwrap().iter().filter(|how| **how == Settled::Release).count();
    assert_eq!((released, bench.vendor.most_at_once.lock().unwrap().0), (5, 0));
    assert!(bench.lanes.status().is_empty());
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_as_soon_as_nothing_is_under_way() {
    let mut bench = bench(1, |_| Play::All(200, Outcome::Delivered));
    bench.add(&["a"]);
    bench.go().await;
    bench.until(50).await;
    bench.lanes.shutdown(bench.start + Duration::from_secs(3600)).await;
    assert_eq!((bench.start.elapsed(), bench.queue.unfinished()), (Duration::from_millis(200), 0));
}

#[tokio::test(start_paused = true)]
async fn a_lane_started_again_waits_for_what_the_old_one_has_under_way() {
    let mut bench = bench(1, |(number, ..)| match number {
        1 => Play::All(300, Outcome::Delivered),
        _ => DELIVERED,
    });
    bench.add(&["a", "a"]);
    bench.go().await;
    bench.until(100).await;
    bench.lanes.start(bench.spec.clone(), bench.start + Duration::from_secs(5)).await;
    bench.queue.drained().await;
    assert_eq!((bench.vendor.times(), bench.lanes.status().len()), (vec![0, 300], 1));
}

#[tokio::test(start_paused = true)]
async fn a_lane_told_to_stop_cannot_be_told_otherwise() {
    let mut bench = bench(1, |_| Play::Hang);
    bench.add(&["a"]);
    bench.go().await;
    bench.until(100).await;
    let stopping = bench.lanes.stop("vendor", bench.start + Duration::from_secs(1));
    let both = async { tokio::join!(stopping, async { bench.lanes.pause("vendor", false) }) };
    let ((), found) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert!(found && bench.lanes.status().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_closing_queue_is_asked_once_and_what_is_under_way_ends() {
    let mut bench = bench(1, |_| Play::All(500, Outcome::Delivered));
    bench.add(&["a"]);
    bench.go().await;
    bench.until(100).await;
    let before = bench.queue.claims.load(Ordering::SeqCst);
    bench.queue.close().await;
    bench.queue.drained().await;
    bench.until(60_000).await;
    assert_eq!(bench.queue.claims.load(Ordering::SeqCst), before);
    bench.lanes.shutdown(bench.start).await;
}

#[tokio::test(start_paused = true)]
async fn so_many_items_wait_at_most_however_large_a_batch_may_be() {
    let limits = Limits {
        items: 1_000_000,
        bytes: 1_000_000,
        linger: Duration::from_secs(60),
        concurrency: None,
        rates: Vec::new(),
    };
    let mut bench = bench_with(limits, |_| DELIVERED);
    for number in 0..9000 {
        bench.queue.add_call(number, r#"{"type":"identify","userId":"a","messageId":"m"}"#);
    }
    bench.go().await;
    bench.until(1000).await;
    assert_eq!((bench.status().waiting, bench.queue.claimed()), (8192, 8192));
}

#[tokio::test(start_paused = true)]
async fn shutting_down_shortens_a_stop_under_way_and_status_is_there_all_along() {
    let mut bench = bench(1, |_| Play::Hang);
    bench.add(&["a"]);
    bench.go().await;
    bench.until(100).await;
    let (start, second) = (bench.start, Duration::from_secs(1));
    let stopping = bench.lanes.stop("vendor", start + 3600 * second);
    let meanwhile = async {
        bench.until(500).await;
        assert_eq!(bench.status().requests, 1);
        assert!(bench.lanes.pause("vendor", false), "it is still there, and goes on stopping");
        bench.lanes.shutdown(start + second).await;
    };
    tokio::join!(stopping, meanwhile);
    assert_eq!((start.elapsed(), bench.queue.claimed()), (second, 0));
}

/// Outcomes drawn at random, until all have ended.
async fn random_run(users: Vec<u8>, outcomes: Vec<u8>, items: usize) -> Bench {
    let mut drawn = outcomes.into_iter();
    let mut bench = bench(items, move |(_, _, users)| {
        let mut outcome = || match drawn.next() {
            Some(0) => RETRY,
            Some(1) => throttled(Some(2)),
            Some(2) => throttled(None),
            Some(3) => Outcome::Unauthorised,
            Some(4) => Outcome::Rejected,
            Some(5) => Outcome::Retry { after: Some(Duration::from_secs(1)) },
            _ => Outcome::Delivered,
        };
        Play::Each(users.iter().map(|_| outcome()).collect())
    });
    for (number, user) in users.iter().enumerate() {
        let text = format!(r#"{{"type":"identify","userId":"{user}#{number}","messageId":"m"}}"#);
        bench.queue.add_call(u64::from(*user), &text);
    }
    bench.go().await;
    tokio::time::timeout(Duration::from_secs(20 * 3600), bench.queue.drained()).await.unwrap();
    bench
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_vendor_does_every_event_ends_and_each_users_order_is_kept(
        users in prop::collection::vec(0..5u8, 1..40),
        outcomes in prop::collection::vec(0..12u8, 0..80),
        items in 1..6usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let count = users.len();
            let bench = random_run(users, outcomes, items).await;
            let ends = bench.queue.ends();
            assert!(ends.iter().all(|(end, _)| end == "Delivered" || end == "dead rejected"), "{ends:?}");
            let ended = bench.counts.of("delivered", "") + bench.counts.of("dead", "rejected");
            assert_eq!(ended, count as u64);
            let mut latest = HashMap::<String, usize>::new();
            for (_, _, items) in bench.vendor.seen.lock().unwrap().iter() {
                for item in items {
                    let (user, number) = item.split_once('#').unwrap();
                    let number = number.parse().unwrap();
                    let before = latest.insert(user.to_owned(), number);
                    assert!(before.is_none_or(|before| before <= number), "{user}: {before:?} before {number}");
                }
            }
        });
    }
}
