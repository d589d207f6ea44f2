//! What a lane does about its destination as a whole: failing, paused, throttled, too fast, and its own faults.

use super::*;

const HOUR: u64 = 3_600_000;

/// Twenty users, one event each.
fn crowd(bench: &Bench) {
    (0..20).for_each(|user| bench.add_numbered(user));
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_without_exception_is_probed_gently_and_recovers_by_itself() {
    let mut bench =
        bench(
            1,
            |(_, at, _)| {
                if *at < 6 * HOUR { Play::All(5, RETRY) } else { Play::All(5, Outcome::Delivered) }
            },
        );
    bench.spec.policy.retry_for = Duration::from_secs(1800);
    crowd(&bench);
    bench.go().await;
    bench.until(10_000).await;
    assert_eq!(bench.status().closed, Some(Cause::Failing));
    bench.until(HOUR).await;
    let times = bench.vendor.times();
    let later: Vec<_> = times.iter().copied().filter(|at| *at > 600_000).collect();
    assert!(
        later.windows(2).all(|pair| pair[1] - pair[0] >= 150_000),
        "a probe at most every 150 s: {later:?}"
    );
    assert!(times.len() < 80, "{}", times.len());
    crowd(&bench);
    bench.queue.drained().await;
    // It was down for six hours, and events are tried for half of one: that time stood still.
    assert!(bench.queue.ends().iter().all(|(end, _)| end == "Delivered"), "{:?}", bench.queue.ends());
    assert!(bench.start.elapsed() < Duration::from_millis(6 * HOUR + 700_000));
    assert_eq!(*bench.counts.closed.lock().unwrap(), [("failing", true), ("failing", false)]);
    assert_eq!(bench.status().closed, None);
}

#[tokio::test(start_paused = true)]
async fn one_event_that_always_fails_among_good_ones_closes_nothing_and_ends_in_its_time() {
    let mut bench =
        bench(
            1,
            |(_, _, users)| {
                if users == &["bad"] { Play::All(0, RETRY) } else { Play::All(0, Outcome::Delivered) }
            },
        );
    bench.spec.policy.retry_for = Duration::from_secs(600);
    bench.add(&["bad"]);
    bench.go().await;
    for second in 1..700 {
        bench.until(second * 1000).await;
        bench.add(&["good"]);
    }
    assert_eq!(bench.queue.ends()[0].0, "dead expired");
    bench.queue.drained().await;
    assert!(bench.counts.closed.lock().unwrap().is_empty());
    assert_eq!(bench.counts.of("delivered", ""), 699);
}

#[tokio::test(start_paused = true)]
async fn a_503_that_names_a_time_pauses_the_destination_and_uses_up_no_attempt() {
    let mut bench =
        bench(
            1,
            |(_, at, _)| if *at < 5000 { Play::Unavailable(60) } else { Play::All(0, Outcome::Delivered) },
        );
    bench.add(&["a"]);
    bench.go().await;
    bench.until(1000).await;
    bench.add(&["bb"]);
    bench.until(59_000).await;
    assert_eq!((bench.status().closed, bench.vendor.times().len()), (Some(Cause::Throttled), 1));
    bench.queue.drained().await;
    assert_eq!(bench.vendor.times(), [0, 60_000, 60_000]);
    assert_eq!(bench.queue.ends(), vec![("Delivered".to_owned(), 1); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_no_time_in_which_events_are_tried_even_across_restarts() {
    let mut bench =
        bench(
            1,
            |(_, at, _)| {
                if *at < 50 * HOUR { Play::All(0, RETRY) } else { Play::All(0, Outcome::Delivered) }
            },
        );
    bench.spec.policy.retry_for = Duration::from_secs(3600);
    bench.add(&["a"]);
    bench.go().await;
    bench.until(100).await;
    assert!(bench.lanes.pause("vendor", true));
    bench.until(20 * HOUR).await;
    bench.spec.paused = true;
    bench.go().await;
    bench.until(50 * HOUR).await;
    assert!(bench.lanes.pause("vendor", false));
    bench.queue.drained().await;
    assert_eq!(bench.queue.ends(), [("Delivered".to_owned(), 2)]);
    bench.lanes.shutdown(bench.start).await;
    assert_eq!(
        bench.queue.values.lock().unwrap()["stood_still/vendor"],
        (50 * HOUR - 100).to_string().as_bytes()
    );
    assert_eq!(
        *bench.counts.closed.lock().unwrap(),
        [("paused", true), ("paused", false), ("paused", true), ("paused", false)]
    );
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_survive_a_restart_without_loss_or_hammering() {
    let mut bench = bench(1, |(_, at, _)| {
        Play::All(0, if *at < 2 * HOUR { Outcome::Unauthorised } else { Outcome::Delivered })
    });
    bench.spec.policy.retry_for = Duration::from_secs(600);
    crowd(&bench);
    bench.go().await;
    for restart in 1..4 {
        bench.until(restart * 600_000).await;
        assert_eq!(bench.status().closed, Some(Cause::Unauthorised));
        bench.go().await;
    }
    bench.until(2 * HOUR - 1).await;
    assert!(bench.vendor.times().len() < 60, "{:?}", bench.vendor.times());
    bench.queue.drained().await;
    assert_eq!(bench.queue.ends(), vec![("Delivered".to_owned(), 1); 20]);
}

#[tokio::test(start_paused = true)]
async fn a_configured_rate_is_kept_beside_the_published_ones() {
    let mut bench = bench(1, |_| Play::All(0, Outcome::Delivered));
    bench.spec.policy.rate_limit = Rate::parse("10 items per 10 s");
    crowd(&bench);
    bench.go().await;
    bench.queue.drained().await;
    let times = bench.vendor.times();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 999), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_user_over_its_rate_waits_without_an_attempt_and_others_go_on() {
    let rates = vec![Rate { count: 1, unit: RateUnit::Items, per: Duration::from_secs(60), per_user: true }];
    let linger = Duration::ZERO;
    let limits = Limits { items: 1, bytes: 100, linger, concurrency: None, rates };
    let mut bench = bench_with(limits, |_| Play::All(0, Outcome::Delivered));
    bench.add(&["a", "a", "bb", "ccc", "a"]);
    bench.go().await;
    bench.queue.drained().await;
    let (times, ends) = (bench.vendor.times(), bench.queue.ends());
    assert_eq!(times[..3], [0, 0, 0]);
    assert!(times[3] >= 60_000 && times[4] - times[3] >= 60_000 && times[4] < 121_000, "{times:?}");
    assert_eq!(ends, vec![("Delivered".to_owned(), 1); 5]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_of_the_vendor_it_opens_step_by_step() {
    let mut bench = bench_with(
        Limits { items: 1, bytes: 100, linger: Duration::ZERO, concurrency: None, rates: Vec::new() },
        |(_, at, _)| if *at < 60_000 { Play::All(10, RETRY) } else { Play::All(100, Outcome::Delivered) },
    );
    crowd(&bench);
    bench.go().await;
    bench.until(59_000).await;
    *bench.vendor.most_at_once.lock().unwrap() = (0, 0);
    (20..400).for_each(|user| bench.add_numbered(user));
    bench.queue.drained().await;
    let times = bench.vendor.times();
    let opened = times.iter().position(|at| *at > 60_000).unwrap();
    let in_the_first = |ms: u64| times[opened..].iter().filter(|at| **at < times[opened] + ms).count();
    assert_eq!((in_the_first(100), in_the_first(200)), (1, 3), "{:?}", &times[opened..]);
    assert_eq!(bench.vendor.most_at_once.lock().unwrap().1, 16);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_breaks_is_started_again_and_what_it_had_claimed_goes_on_in_order() {
    let mut bench = bench(1, |_| Play::All(10, Outcome::Delivered));
    bench.counts.break_at.store(3, Ordering::SeqCst);
    bench.add(&["a", "a", "bb", "bb", "a"]);
    bench.go().await;
    bench.queue.drained().await;
    assert!(bench.queue.ends().iter().all(|(end, _)| end == "Delivered"));
    let again = bench.vendor.times().into_iter().find(|at| *at >= 1000);
    assert_eq!(again, Some(1520), "after three quarters of two seconds");
    assert_eq!(bench.lanes.status().len(), 1);
    bench.lanes.shutdown(bench.start).await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_waits_after_a_fault_stops_at_once() {
    let mut bench = bench(1, |_| Play::All(10, Outcome::Delivered));
    bench.counts.break_at.store(1, Ordering::SeqCst);
    bench.add(&["a"]);
    bench.go().await;
    bench.until(100).await;
    bench.lanes.shutdown(bench.start + Duration::from_secs(3600)).await;
    assert_eq!((bench.start.elapsed(), bench.queue.claimed()), (Duration::from_millis(100), 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_lane_may_keep_reaches_the_queue() {
    let mut bench = bench(1, |_| Play::All(10, Outcome::Delivered));
    bench.spec.policy.max_backlog = Some(7);
    bench.go().await;
    assert_eq!(bench.queue.limits.lock().unwrap().max_backlog, Some(7));
    bench.lanes.start_disabled("vendor".into(), bench.start).await;
    assert_eq!(bench.queue.limits.lock().unwrap().max_backlog, None);
}

/// A vendor that answers with this whatever it is sent about bad users, and takes the rest.
fn bad_for(users: &[String], outcome: Outcome) -> Play {
    let is_bad = users.iter().any(|user| user.starts_with("bad"));
    Play::All(5, if is_bad { outcome } else { Outcome::Delivered })
}

/// Adds an event of a bad user who has no other.
fn add_bad(bench: &Bench, user: u64) {
    let text = format!(r#"{{"type":"identify","userId":"bad {user}","messageId":"m"}}"#);
    bench.queue.add_call(2_000_000 + user, &text);
}

#[tokio::test(start_paused = true)]
async fn events_that_always_fail_do_not_keep_a_vendor_that_is_back_from_the_others() {
    let mut bench =
        bench(1, |(_, at, users)| if *at < 60_000 { Play::All(5, RETRY) } else { bad_for(users, RETRY) });
    (0..30).for_each(|user| add_bad(&bench, user));
    bench.go().await;
    bench.until(10_000).await;
    assert_eq!(bench.status().closed, Some(Cause::Failing));
    crowd(&bench);
    bench.until(HOUR).await;
    assert_eq!(bench.counts.of("delivered", ""), 20);
}

#[tokio::test(start_paused = true)]
async fn users_whose_events_always_fail_end_in_their_time_at_a_quiet_destination_too() {
    let mut bench = bench(1, |(_, _, users)| bad_for(users, RETRY));
    bench.spec.policy.retry_for = Duration::from_secs(3600);
    (0..10).for_each(|user| add_bad(&bench, user));
    bench.go().await;
    for minute in 1..120 {
        bench.until(minute * 60_000).await;
        bench.add_numbered(minute);
    }
    bench.queue.drained().await;
    assert_eq!((bench.counts.of("delivered", ""), bench.counts.of("dead", "expired")), (119, 10));
    assert!(bench.start.elapsed() < Duration::from_millis(3 * HOUR), "{:?}", bench.start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn events_that_are_refused_alone_do_not_stand_in_the_way_of_the_others_and_end_in_their_time() {
    let mut bench = bench(1, |(_, _, users)| bad_for(users, Outcome::Unauthorised));
    bench.spec.policy.retry_for = Duration::from_secs(60);
    (0..20).for_each(|user| add_bad(&bench, user));
    (0..200).for_each(|user| bench.add_numbered(user));
    bench.go().await;
    bench.until(HOUR).await;
    assert_eq!((bench.counts.of("delivered", ""), bench.counts.of("dead", "expired")), (200, 20));
}

#[tokio::test(start_paused = true)]
async fn many_users_who_are_refused_alone_do_not_stop_the_others() {
    let mut bench = bench(1, |(_, _, users)| bad_for(users, Outcome::Unauthorised));
    bench.spec.policy.retry_for = Duration::from_secs(60);
    for user in 0..1000 {
        add_bad(&bench, user);
        bench.add_numbered(user);
    }
    bench.go().await;
    bench.until(60_000).await;
    assert_eq!(bench.counts.of("delivered", ""), 1000);
    // As long as others are taken, their time goes on.
    for second in 61..1800 {
        bench.until(second * 1000).await;
        bench.add_numbered(second * 1000);
    }
    bench.until(1_801_000).await;
    assert_eq!((bench.counts.of("dead", "expired"), bench.counts.of("delivered", "")), (1000, 2739));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_revoked_after_users_were_refused_alone_close_the_destination() {
    let mut bench = bench(1, |(_, at, users)| match *at < 20_000 {
        true => bad_for(users, Outcome::Unauthorised),
        false => Play::All(5, Outcome::Unauthorised),
    });
    (0..3).for_each(|user| add_bad(&bench, user));
    bench.go().await;
    bench.until(500).await;
    for second in 1..120 {
        bench.until(second * 1000).await;
        (0..10).for_each(|n| bench.add_numbered(second * 10 + n));
    }
    assert_eq!(bench.counts.of("delivered", ""), 190);
    assert_eq!(bench.status().closed, Some(Cause::Unauthorised));
    let since: Vec<u64> = bench.vendor.times().into_iter().filter(|at| *at >= 20_000).collect();
    assert!(since.len() < 30, "it is not hammered: {since:?}");
    assert_eq!(bench.counts.of("dead", "expired"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_rate_is_not_sent_into_a_pause_that_the_vendor_asks_for() {
    let rates = vec![Rate { count: 1, unit: RateUnit::Items, per: Duration::from_secs(1), per_user: false }];
    let limits = Limits { items: 1, bytes: 100, linger: Duration::ZERO, concurrency: None, rates };
    let mut bench = bench_with(limits, |(number, ..)| {
        Play::All(0, if *number == 1 { throttled(Some(60)) } else { Outcome::Delivered })
    });
    crowd(&bench);
    bench.go().await;
    bench.until(59_000).await;
    assert_eq!(bench.vendor.times(), [0]);
    bench.queue.drained().await;
    let times = bench.vendor.times();
    assert!(times[1] >= 60_000 && times.windows(2).all(|pair| pair[1] - pair[0] >= 999), "{times:?}");
    assert!(bench.queue.ends().iter().all(|end| *end == ("Delivered".to_owned(), 1)));
}

#[tokio::test(start_paused = true)]
async fn quick_refusals_do_not_make_what_is_taken_look_slow() {
    let limits =
        Limits { items: 1, bytes: 100, linger: Duration::ZERO, concurrency: None, rates: Vec::new() };
    let mut bench = bench_with(limits, |(_, _, users)| match users[0].starts_with("bad") {
        true => Play::All(10, Outcome::Rejected),
        false => Play::All(500, Outcome::Delivered),
    });
    for user in 0..400 {
        if user % 20 == 0 {
            add_bad(&bench, user);
        }
        bench.add_numbered(user);
    }
    bench.go().await;
    bench.until(8000).await;
    bench.vendor.most_at_once.lock().unwrap().1 = 0;
    bench.queue.drained().await;
    assert_eq!(bench.vendor.most_at_once.lock().unwrap().1, 16);
}

/// How many of so many users, all of whom are refused, are taken once the vendor takes the credentials again.
async fn taken_of_refused(users: u64) -> u64 {
    let limits =
        Limits { items: 512, bytes: 1 << 20, linger: Duration::ZERO, concurrency: None, rates: Vec::new() };
    let mut bench = bench_with(limits, |(_, at, _)| {
        Play::All(5, if *at < 60_000 { Outcome::Unauthorised } else { Outcome::Delivered })
    });
    (0..users).for_each(|user| bench.add_numbered(user));
    bench.go().await;
    bench.until(24 * HOUR).await;
    bench.counts.of("delivered", "")
}

#[tokio::test(start_paused = true)]
async fn however_many_users_are_refused_one_of_them_is_the_probe_where_there_is_nobody_else() {
    for users in [255, 256, 257, 512] {
        assert_eq!(taken_of_refused(users).await, users);
    }
}

/// Two events a second for two minutes, and every 20 s one of a user who is refused alone: for how long a lane was closed.
async fn closed_ms(bench: &Bench) -> u64 {
    let mut closed_ms = 0;
    for tick in 1..1200 {
        bench.until(tick * 100).await;
        if tick % 5 == 0 {
            bench.add_numbered(tick);
        }
        if tick % 200 == 103 {
            add_bad(bench, tick);
        }
        if bench.lanes.status().iter().any(|(_, status)| status.closed.is_some()) {
            closed_ms += 100;
        }
    }
    closed_ms
}

#[tokio::test(start_paused = true)]
async fn now_and_then_a_user_who_is_refused_alone_closes_a_lane_that_keeps_up_for_a_moment_only() {
    let mut bench = bench(1, |(_, _, users)| bad_for(users, Outcome::Unauthorised));
    bench.spec.policy.retry_for = Duration::from_secs(600);
    bench.go().await;
    let closed_ms = closed_ms(&bench).await;
    assert!(!bench.counts.closed.lock().unwrap().contains(&("unauthorised", true)));
    assert!(closed_ms < 10_000, "{closed_ms} ms of 120,000");
}

#[tokio::test(start_paused = true)]
async fn many_refused_users_one_after_the_other_do_not_close_it_for_many_minutes() {
    let limits =
        Limits { items: 1, bytes: 100, linger: Duration::ZERO, concurrency: Some(1), rates: Vec::new() };
    let mut bench = bench_with(limits, |(_, _, users)| bad_for(users, Outcome::Unauthorised));
    bench.spec.policy.retry_for = Duration::from_secs(600);
    bench.go().await;
    add_bad(&bench, 0);
    bench.until(500).await;
    bench.add_numbered(1);
    bench.until(5000).await;
    (1..15).for_each(|user| add_bad(&bench, user));
    let (mut longest, mut since) = (0, None);
    for second in 6..2000 {
        bench.until(second * 1000).await;
        bench.add_numbered(second);
        match (bench.status().closed.is_some(), since) {
            (true, None) => since = Some(second),
            (true, Some(from)) => longest = longest.max(second - from),
            (false, _) => since = None,
        }
    }
    assert!(longest < 60, "{longest} s");
}

/// Some vendors look at what an event holds before they look at the credentials.
#[tokio::test(start_paused = true)]
async fn what_is_rejected_for_what_it_holds_does_not_vouch_for_revoked_credentials() {
    let mut bench = bench(1, |(_, _, users)| {
        Play::All(5, if users[0].starts_with("bad") { Outcome::Rejected } else { Outcome::Unauthorised })
    });
    bench.spec.policy.retry_for = Duration::from_secs(1800);
    bench.go().await;
    for second in 1..3600 {
        bench.until(second * 1000).await;
        (0..5).for_each(|n| bench.add_numbered(second * 10 + n));
        add_bad(&bench, second);
    }
    bench.until(2 * HOUR).await;
    assert_eq!(bench.counts.of("dead", "expired"), 0);
    let requests = bench.vendor.times().len();
    assert!(requests < 10_000, "{requests}, of which 3,599 are answered for what they hold");
}

/// As beside a lane that keeps up, but the events are a replay's.
#[tokio::test(start_paused = true)]
async fn now_and_then_a_user_of_a_replay_who_is_refused_alone_closes_the_destination_for_a_moment_only() {
    let mut bench = bench(1, |(_, _, users)| bad_for(users, Outcome::Unauthorised));
    *bench.queue.lane.lock().unwrap() = "replay:1";
    bench.spec.policy.retry_for = Duration::from_secs(600);
    bench.go().await;
    bench.replay().await.unwrap();
    let closed_ms = closed_ms(&bench).await;
    assert!(!bench.counts.closed.lock().unwrap().contains(&("unauthorised", true)));
    assert!(closed_ms < 10_000, "{closed_ms} ms of 120,000");
}
