//! What runs over retained calls must do, whatever keeps the calls.

use super::{
    Place, append, claim, claim_now, dead_count, done, end_each, entry, finished, later, names, rejected,
};
use crate::queue::runs::{Range, Retained, Runs, Standing, Start};
use crate::queue::{Code, Queue, Settled};

const RUN: &str = "replay:1";
const ALL: Range = Range { since_ms: 0, until_ms: i64::MAX };

/// Appends `call 0` and so on, of so many order keys; `call N` is received at 1000 + N.
async fn calls(queue: &impl Queue<String>, numbers: std::ops::Range<u64>, keys: u64) {
    let entries = numbers.map(|n| entry(&format!("call {n}"), n % keys, n)).collect();
    queue.append(entries).await.unwrap();
}

fn finish(queue: &impl Queue<String>, lane: &str, claimed: &[crate::queue::Claimed<String>]) {
    queue.settle(lane, done(claimed));
}

pub async fn a_run_is_over_the_calls_of_its_time(place: impl Place) {
    let queue = place.open(&["a"]);
    calls(&queue, 0..6, 9).await;
    finish(&queue, "a", &claim(&queue, "a", 6).await);
    let info = queue.add_run(RUN, Range { since_ms: 1002, until_ms: 1005 }).unwrap();
    assert!(info.calls >= 3 && info.kept_from_ms.is_none(), "{info:?}");
    calls(&queue, 6..8, 9).await;
    let claimed = claim(&queue, RUN, 3).await;
    assert_eq!(names(&claimed), ["call 2", "call 3", "call 4"]);
    assert!(claimed.iter().all(|claimed| claimed.attempt == 1));
    let counts = queue.counts(RUN).unwrap();
    assert!((3..=info.calls).contains(&counts.unfinished) && !counts.done, "{counts:?}");
    finish(&queue, RUN, &claimed);
    assert!(queue.claim(RUN, 9).await.is_empty(), "it does not wait for more");
    let counts = queue.counts(RUN).unwrap();
    assert!(counts.done && counts.unfinished == 0 && counts.in_flight == 0, "{counts:?}");
    assert_eq!(counts.finished, [(Code::Delivered, 3)]);
    assert_eq!(
        (queue.counts("a").unwrap().unfinished, finished(&queue, "a")),
        (2, 6),
        "a lane does not notice"
    );
}

pub async fn a_run_is_over_what_there_was(place: impl Place) {
    let queue = place.open(&["a"]);
    calls(&queue, 0..2, 9).await;
    queue.add_run(RUN, ALL).unwrap();
    calls(&queue, 2..4, 9).await;
    let claimed = claim(&queue, RUN, 2).await;
    assert_eq!(names(&claimed), ["call 0", "call 1"]);
    assert!(claim_now(&queue, RUN).await.is_empty());
    queue.settle(RUN, later(&claimed[..1], place.now_ms() + 20));
    finish(&queue, RUN, &claimed[1..]);
    let again = claim(&queue, RUN, 1).await;
    assert_eq!((again[0].payload.as_str(), again[0].attempt), ("call 0", 2));
    assert!(!queue.counts(RUN).unwrap().done);
    finish(&queue, RUN, &again);
    assert!(queue.claim(RUN, 9).await.is_empty() && queue.counts(RUN).unwrap().done);
}

pub async fn a_run_keeps_the_order_of_a_key(place: impl Place) {
    let queue = place.open(&["a"]);
    calls(&queue, 0..6, 2).await;
    queue.add_run(RUN, ALL).unwrap();
    let heads = claim(&queue, RUN, 2).await;
    assert_eq!(names(&heads), ["call 0", "call 1"]);
    assert!(claim_now(&queue, RUN).await.is_empty(), "the others wait behind them");
    finish(&queue, RUN, &heads[1..]);
    assert_eq!(names(&claim(&queue, RUN, 1).await), ["call 3"]);
}

pub async fn a_run_goes_on_after_a_crash(place: impl Place) {
    let queue = place.open(&["a"]);
    calls(&queue, 0..8, 9).await;
    queue.add_run(RUN, Range { since_ms: 1001, until_ms: 1007 }).unwrap();
    let claimed = claim(&queue, RUN, 4).await;
    finish(&queue, RUN, &claimed[..2]);
    queue.settle(RUN, later(&claimed[2..3], place.now_ms() + 60_000));
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a"]);
    assert_eq!(finished(&queue, RUN), 2);
    let claimed = claim(&queue, RUN, 3).await;
    assert_eq!(names(&claimed), ["call 4", "call 5", "call 6"]);
    finish(&queue, RUN, &claimed);
    // A crash: what was settled last may come again, and nothing else.
    drop(queue);
    let queue = place.open(&["b"]);
    place.advance(60_000);
    let left = usize::try_from(queue.counts(RUN).unwrap().unfinished).unwrap();
    assert!((1..=6).contains(&left), "{left}");
    let mut claimed = Vec::new();
    loop {
        let more = queue.claim(RUN, 9).await;
        if more.is_empty() {
            break;
        }
        finish(&queue, RUN, &more);
        claimed.extend(more);
    }
    let mut left = names(&claimed);
    left.sort_unstable();
    assert!(left.contains(&"call 3"), "{left:?}");
    assert!(left.iter().all(|name| ["call 3", "call 4", "call 5", "call 6"].contains(name)), "{left:?}");
    assert_eq!(queue.counts(RUN).unwrap().finished, [(Code::Delivered, 6)]);
    assert!(queue.counts(RUN).unwrap().done);
}

pub async fn a_run_that_is_done_stays_done(place: impl Place) {
    let queue = place.open(&["a"]);
    calls(&queue, 0..3, 9).await;
    queue.add_run(RUN, ALL).unwrap();
    finish(&queue, RUN, &claim(&queue, RUN, 3).await);
    assert!(queue.claim(RUN, 9).await.is_empty(), "which tells the queue that it is over");
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a"]);
    assert!(queue.counts(RUN).unwrap().done);
    assert!(queue.claim(RUN, 9).await.is_empty());
    assert_eq!(
        queue.add_run(RUN, Range { since_ms: 5, until_ms: 6 }).unwrap().calls,
        3,
        "it stays what it is"
    );
    assert_eq!(finished(&queue, RUN), 3);
}

pub async fn a_run_that_is_done_goes_on_for_what_is_redriven(place: impl Place) {
    let queue = place.open(&["a"]);
    calls(&queue, 0..4, 1).await;
    queue.add_run(RUN, ALL).unwrap();
    let delivered = || Settled::Done(Code::Delivered);
    let ids = end_each(&queue, RUN, vec![rejected(), delivered(), rejected(), delivered()]).await;
    assert!(queue.claim(RUN, 9).await.is_empty() && queue.counts(RUN).unwrap().done);
    assert_eq!(queue.redrive(RUN, &ids, false), 2);
    assert_eq!((queue.counts(RUN).unwrap().done, dead_count(&queue, RUN)), (false, (2, 0)));
    let first = claim(&queue, RUN, 1).await.remove(0);
    assert_eq!((first.payload.as_str(), first.whole), ("call 0", false));
    assert_eq!(first.later, ["call 1", "call 3"]);
    queue.settle(RUN, vec![(first.id, delivered())]);
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a"]);
    let second = claim(&queue, RUN, 1).await.remove(0);
    assert_eq!((second.payload.as_str(), second.later), ("call 2", vec!["call 3".to_owned()]));
    queue.settle(RUN, vec![(second.id, rejected())]);
    assert!(queue.claim(RUN, 9).await.is_empty() && queue.counts(RUN).unwrap().done);
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a"]);
    assert_eq!(queue.redrive(RUN, &ids, true), 1, "after a restart, too");
    let third = claim(&queue, RUN, 1).await.remove(0);
    assert_eq!((third.payload.as_str(), third.whole, third.later.len()), ("call 2", true, 0));
    queue.settle(RUN, vec![(third.id, delivered())]);
    assert!(queue.claim(RUN, 9).await.is_empty() && queue.counts(RUN).unwrap().done);
    let counts = (dead_count(&queue, RUN), finished(&queue, RUN), queue.counts("a").unwrap().unfinished);
    assert_eq!(counts, ((0, 0), 4, 4));
}

pub async fn a_removed_run_leaves_nothing(place: impl Place) {
    let queue = place.open(&["a"]);
    calls(&queue, 0..3, 9).await;
    queue.add_run(RUN, ALL).unwrap();
    let claimed = claim(&queue, RUN, 2).await;
    finish(&queue, RUN, &claimed[..1]);
    queue.remove_run(RUN).unwrap();
    assert_eq!(queue.counts(RUN), None);
    assert!(queue.claim(RUN, 1).await.is_empty());
    finish(&queue, RUN, &claimed[1..]);
    queue.remove_run(RUN).unwrap();
    queue.remove_run("a").unwrap();
    assert!(queue.counts("a").is_some(), "only runs are removed");
    assert!(queue.add_run("a", ALL).is_err());
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a"]);
    assert_eq!(queue.counts(RUN), None);
    queue.add_run(RUN, ALL).unwrap();
    assert_eq!(names(&claim(&queue, RUN, 3).await).len(), 3);
    assert_eq!(finished(&queue, RUN), 0);
}

pub async fn a_run_over_nothing_is_done_at_once(place: impl Place) {
    let queue = place.open(&["a"]);
    queue.add_run(RUN, ALL).unwrap();
    assert!(queue.claim(RUN, 9).await.is_empty());
    assert!(queue.counts(RUN).unwrap().done);
    append(&queue, &["one"]).await;
    queue.add_run("replay:2", Range { since_ms: i64::MAX - 1, until_ms: i64::MAX }).unwrap();
    assert!(queue.claim("replay:2", 9).await.is_empty());
    assert!(queue.counts("replay:2").unwrap().done);
}

/// All retained calls, with what became of them in a lane.
fn retained(queue: &impl Runs<String>, lane: &str, mut start: Start) -> Vec<Retained<String>> {
    let mut calls = Vec::new();
    loop {
        let passage = queue.retained(lane, start).unwrap();
        calls.extend(passage.calls);
        if passage.end {
            return calls;
        }
        start = Start::At(passage.next);
    }
}

pub async fn retained_calls_are_read_with_what_became_of_them(place: impl Place) {
    let queue = place.open(&["a"]);
    calls(&queue, 0..4, 9).await;
    let claimed = claim(&queue, "a", 3).await;
    finish(&queue, "a", &claimed[..1]);
    queue.settle("a", vec![(claimed[1].id, Settled::Done(Code::Skipped("opt_in".to_owned())))]);
    queue.settle("a", later(&claimed[2..], place.now_ms() + 60_000));
    let mut queue = queue;
    for again in [false, true] {
        if again {
            queue.close().await;
            drop(queue);
            queue = place.open(&["a", "b"]);
        }
        let calls = retained(&queue, "a", Start::ReceivedFrom(0));
        let all: Vec<_> = calls.iter().map(|call| call.payload.as_str()).collect();
        assert_eq!(all, ["call 0", "call 1", "call 2", "call 3"]);
        assert_eq!((calls[3].order_key, calls[3].received_at_ms), (3, 1003));
        let standings: Vec<_> = calls.iter().map(|call| call.standing.clone()).collect();
        let skipped = Standing::Ended(Code::Skipped("opt_in".to_owned()));
        assert_eq!(standings, [Standing::Ended(Code::Delivered), skipped, Standing::Open, Standing::Open]);
        assert_eq!(retained(&queue, "a", Start::At(calls[2].id)).len(), 2);
        let foreign = retained(&queue, "b", Start::ReceivedFrom(0));
        assert!(foreign.iter().all(|call| call.standing == Standing::Foreign));
        assert!(retained(&queue, "a", Start::ReceivedFrom(i64::MAX)).is_empty());
    }
}
