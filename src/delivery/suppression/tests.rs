//! The suppression in a lane: a scripted vendor, restarts, and what is forgotten when.

use std::time::Duration;

use fanout_sdk::destination::Outcome;

use super::*;
use crate::delivery::tests::doubles::{Bench, Play, bench};

const HOUR: Duration = Duration::from_secs(3600);
const TAKEN: Play = Play::All(0, Outcome::Delivered);

fn suppressing(script: impl FnMut(&crate::delivery::tests::doubles::Seen) -> Play + Send + 'static) -> Bench {
    let mut bench = bench(1, script);
    bench.spec.suppression = Some(Arc::new(Suppression::new("vendor", HOUR, 1)));
    bench
}

impl Bench {
    /// One call after the other; how many requests the vendor has had then.
    async fn identify(&self, user: &str, traits: &str) -> usize {
        let text = format!(r#"{{"type":"identify","userId":"{user}","messageId":"m","traits":{traits}}}"#);
        self.queue.add_call(user.len() as u64, &text);
        self.queue.drained().await;
        self.vendor.requests().len()
    }

    async fn restart(&mut self) {
        self.lanes.stop("vendor", self.start).await;
        self.go().await;
    }
}

fn seen(bench: &Bench) -> u64 {
    bench.counts.of("suppressed", "")
}

#[tokio::test(start_paused = true)]
async fn a_lane_sends_what_changes_and_counts_the_rest() {
    let mut bench = suppressing(|_| TAKEN);
    bench.go().await;
    let calls =
        [("a", r#"{"p":1}"#, 1), ("a", r#"{"p":1}"#, 1), ("a", r#"{"p":2}"#, 2), ("a", r#"{"p":1}"#, 3)];
    for (user, traits, requests) in calls {
        assert_eq!(bench.identify(user, traits).await, requests, "{traits}");
    }
    assert_eq!(seen(&bench), 1);
    assert_eq!(bench.queue.ends()[1], ("Suppressed".to_owned(), 1));
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_everything_is_sent() {
    let mut bench = bench(1, |_| TAKEN);
    bench.go().await;
    bench.identify("a", r#"{"p":1}"#).await;
    assert_eq!((bench.identify("a", r#"{"p":1}"#).await, seen(&bench)), (2, 0));
    bench.lanes.stop("vendor", bench.start).await;
    assert!(!bench.queue.values.lock().unwrap().contains_key("digests/vendor"));
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_keeps_what_is_known_once() {
    let mut bench = suppressing(|_| TAKEN);
    bench.go().await;
    bench.identify("a", "{}").await;
    bench.restart().await;
    assert_eq!(bench.identify("a", "{}").await, 1);
    let saved = || bench.queue.values.lock().unwrap()["digests/vendor"].clone();
    assert!(saved().is_empty(), "a crash now must find nothing");
    bench.restart().await;
    bench.lanes.stop("vendor", bench.start).await;
    let kept = bench.queue.values.lock().unwrap()["digests/vendor"].clone();
    assert!(!kept.is_empty());
    // Other settings: nothing that was saved holds.
    bench.spec.suppression = Some(Arc::new(Suppression::new("vendor", HOUR, 2)));
    bench.go().await;
    assert_eq!(bench.identify("a", "{}").await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_dropped_from_the_disk_is_not_used() {
    let mut bench = suppressing(|_| TAKEN);
    bench.go().await;
    bench.identify("a", "{}").await;
    bench.lanes.stop("vendor", bench.start).await;
    bench.queue.is_read_only.store(true, std::sync::atomic::Ordering::SeqCst);
    bench.go().await;
    assert_eq!(bench.identify("a", "{}").await, 2);
    bench.lanes.stop("vendor", bench.start).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_does_not_count_and_one_taken_later_or_without_a_report_does() {
    let failing = Outcome::Retry { after: None };
    for (first, requests) in [(Outcome::Rejected, 2), (failing, 2), (Outcome::Submitted, 1)] {
        let mut plays = vec![first.clone()].into_iter();
        let mut bench = suppressing(move |_| Play::All(0, plays.next().unwrap_or(Outcome::Delivered)));
        bench.go().await;
        bench.identify("a", "{}").await;
        assert_eq!(bench.identify("a", "{}").await, requests, "{first:?}");
        assert_eq!(seen(&bench), u64::from(first != Outcome::Rejected), "{first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_in_part_goes_again() {
    let mut plays = vec![Play::InPart].into_iter();
    let mut bench = suppressing(move |_| plays.next().unwrap_or(TAKEN));
    bench.go().await;
    bench.identify("a", "{}").await;
    assert_eq!(bench.identify("a", "{}").await, 2);
    assert_eq!(bench.identify("a", "{}").await, 2);
}

#[tokio::test(start_paused = true)]
async fn while_a_replay_runs_everything_goes_and_nothing_of_it_counts() {
    let mut bench = suppressing(|_| TAKEN);
    bench.go().await;
    bench.identify("a", "{}").await;
    let ended = bench.replay().await.unwrap();
    bench.identify("a", "{}").await;
    assert_eq!(bench.identify("a", "{}").await, 3);
    bench.queue.other_ends.notify_one();
    ended.notified().await;
    assert_eq!(bench.identify("a", "{}").await, 4, "what it wrote last is not known");
    assert_eq!(bench.identify("a", "{}").await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_replaced_knows_of_the_replay_that_is_started_again_beside_it() {
    let mut bench = suppressing(|_| TAKEN);
    bench.go().await;
    let ended = bench.replay().await.unwrap();
    bench.spec.suppression = Some(Arc::new(Suppression::new("vendor", HOUR, 1)));
    bench.go().await;
    tokio::time::timeout(HOUR, ended.notified())
        .await
        .expect("the replay still runs, unknown to the new lane");
    bench.replay().await.unwrap();
    bench.identify("a", "{}").await;
    assert_eq!(bench.identify("a", "{}").await, 2);
}

fn item(call: &str) -> Item {
    let names = fanout_sdk::names::Names::default();
    let event = Arc::new(Event::parse(call.into(), 0, &names).unwrap());
    let (identity, parts, warnings) = ("U1".into(), Vec::new(), Vec::new());
    Item { event, options: None, identity, group: 0, digest: 0, parts, warnings }
}

/// Names of the records that a call writes to, in the test's own words.
fn written(call: &str) -> Vec<String> {
    let item = item(call);
    let hashed = std::cell::RefCell::new(Vec::new());
    let hash = |parts: &[&str]| {
        hashed.borrow_mut().push(parts.join(" "));
        hashed.borrow().iter().position(|known| *known == parts.join(" ")).unwrap() as u64
    };
    let records = records(&item, 77, hash);
    let keys: Vec<usize> = records.iter().map(|record| record.key as usize).collect();
    keys.into_iter().map(|key| hashed.borrow()[key].clone()).collect()
}

#[test]
fn a_call_writes_to_the_person_under_each_name_and_to_the_company() {
    let cases: [(&str, &[&str]); 4] = [
        (r#"{"type":"identify","userId":"U1","messageId":"m"}"#, &["person U1"]),
        (
            r#"{"type":"identify","userId":"7","anonymousId":"x","messageId":"m","traits":{"email":"a@b.co"}}"#,
            &["person U1", "person 7", "person x", "person a@b.co"],
        ),
        (
            r#"{"type":"identify","userId":"U1","messageId":"m","traits":{"company":{"id":"c","name":"Acme"}}}"#,
            &["person U1", "company c", "company Acme"],
        ),
        (
            r#"{"type":"alias","userId":"U1","previousId":"old","messageId":"m"}"#,
            &["person U1", "person old"],
        ),
    ];
    for (call, expected) in cases {
        assert_eq!(written(call), expected, "{call}");
    }
}
