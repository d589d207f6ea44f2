//! The lane and the real queue together against what must be true, through random outcomes, batches, stops and crashes:
//! each user's events reach the vendor in their order, none is lost, and each has one final state.

use std::collections::BTreeMap;

use fanout_sdk::event::Event;
use fanout_sdk::names::Names;

use super::doubles::{Counts, START_MS, Seen, TestClock, Vendor, spec, vendor};
use super::*;
use crate::queue::local::{LocalQueue, Options};
use crate::queue::{Entry, journal};

/// What ends a run, this many milliseconds after it began.
#[derive(Clone, Copy, Debug)]
enum End {
    Stop(u64),
    Crash(u64),
}

fn open(dir: &std::path::Path, clock: &Arc<TestClock>) -> LocalQueue<Arc<Event>> {
    let mut options = Options::new(journal::Options::new(dir), vec!["vendor".to_owned()]);
    // Small, so that events are parked, left in the journal and read again.
    (options.tail_bytes, options.behind_bytes) = (2000, 2000);
    let decode = |_: &crate::queue::record::Head, body: &[u8]| {
        let text = std::str::from_utf8(body).ok()?;
        Event::parse(text.into(), START_MS, &Names::default()).ok().map(Arc::new)
    };
    let clock = clock.clone();
    LocalQueue::open(options, Arc::new(decode), Arc::new(move || clock.now_ms())).unwrap().0
}

fn entry(user: u8, number: usize) -> Entry<Arc<Event>> {
    let text = format!(r#"{{"type":"identify","userId":"{user}#{number}","messageId":"m{number}"}}"#);
    Entry {
        source: 0,
        received_at_ms: START_MS,
        kind: 0,
        order_key: u64::from(user),
        message_key: number as u64,
        body: text.as_bytes().into(),
        payload: Arc::new(Event::parse(text.as_str().into(), START_MS, &Names::default()).unwrap()),
    }
}

fn outcome(drawn: u8) -> Outcome {
    match drawn {
        0 | 1 => RETRY,
        2 => throttled(Some(2)),
        3 => Outcome::Unauthorised,
        4 => Outcome::Rejected,
        5 => Outcome::Retry { after: Some(Duration::from_secs(1)) },
        6 => Outcome::Throttled { after: Some(Duration::from_secs(3)), user_only: true },
        _ => Outcome::Delivered,
    }
}

/// Requests of one run, with what became of each item.
fn check_order(vendor: &Vendor, from: usize, done: &mut BTreeMap<String, Vec<usize>>) {
    let mut latest = BTreeMap::new();
    for (_, _, items) in vendor.seen.lock().unwrap().iter().skip(from) {
        for item in items {
            let (user, number) = item.split_once('#').unwrap();
            let number: usize = number.parse().unwrap();
            let before = latest.insert(user.to_owned(), number);
            assert!(before.is_none_or(|before| before <= number), "{user}: {before:?} before {number}");
            let seen = done.entry(user.to_owned()).or_default();
            // A run begins no later than after what the vendor has seen: nothing is left out.
            if !seen.contains(&number) {
                seen.push(number);
                assert!(seen.is_sorted(), "{user}: {seen:?}");
            }
        }
    }
}

async fn run(users: Vec<u8>, drawn: Vec<u8>, items: usize, ends: Vec<End>) {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let clock = Arc::new(TestClock(start));
    let mut drawn = drawn.into_iter().fuse();
    let linger = Duration::from_millis(10);
    let limits = Limits { items, bytes: 100, linger, concurrency: Some(4), rates: Vec::new() };
    let vendor = vendor(limits, start, move |(_, _, users): &Seen| {
        Play::Each(users.iter().map(|_| drawn.next().map_or(Outcome::Delivered, outcome)).collect())
    });
    let mut seen = BTreeMap::new();
    let mut ends = ends.into_iter();
    let mut new = users.iter().enumerate().map(|(number, user)| entry(*user, number)).collect::<Vec<_>>();
    loop {
        let queue = Arc::new(open(dir.path(), &clock));
        // All but a third before the first run, some before each further one.
        let rest = new.split_off((new.len() * 2).div_ceil(3));
        queue.append(std::mem::replace(&mut new, rest)).await.unwrap();
        let lanes = Lanes::new(Services {
            queue: queue.clone(),
            clock: clock.clone(),
            observer: Arc::<Counts>::default(),
            random: || 0.5,
        });
        let from = vendor.seen.lock().unwrap().len();
        lanes.start(spec(&vendor, None), start).await;
        let end = if new.is_empty() { ends.next() } else { Some(ends.next().unwrap_or(End::Stop(5000))) };
        let wait = match end {
            Some(End::Stop(ms) | End::Crash(ms)) => Duration::from_millis(ms),
            None => Duration::from_secs(48 * 3600),
        };
        let began = Instant::now();
        while began.elapsed() < wait && (end.is_some() || queue.counts("vendor").unwrap().unfinished > 0) {
            tokio::time::sleep(Duration::from_millis(250).min(wait)).await;
        }
        // What is in flight then would make order a matter of luck: the vendor answers at once.
        lanes.shutdown(Instant::now()).await;
        if !matches!(end, Some(End::Crash(_))) {
            queue.close().await;
        }
        check_order(&vendor, from, &mut seen);
        if end.is_none() {
            let counts = queue.counts("vendor").unwrap();
            let finished: u64 = counts.finished.iter().map(|(_, count)| count).sum();
            assert_eq!((counts.unfinished, finished), (0, users.len() as u64), "{counts:?}");
            break;
        }
    }
    let all: usize = seen.values().map(Vec::len).sum();
    assert_eq!(all, users.len(), "the vendor saw every event");
}

fn end() -> impl Strategy<Value = End> {
    (0..20_000u64, any::<bool>()).prop_map(|(ms, crash)| if crash { End::Crash(ms) } else { End::Stop(ms) })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn order_is_kept_nothing_is_lost_and_each_event_ends_once(
        users in prop::collection::vec(0..6u8, 1..120),
        drawn in prop::collection::vec(0..14u8, 0..150),
        items in 1..6usize,
        ends in prop::collection::vec(end(), 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(users, drawn, items, ends));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_throttled_request_held_goes_again_in_the_order_in_which_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let clock = Arc::new(TestClock(start));
    let limits =
        Limits { items: 3, bytes: 100, linger: Duration::ZERO, concurrency: Some(1), rates: Vec::new() };
    let vendor = vendor(limits, start, |(number, ..)| {
        Play::All(0, if *number == 1 { throttled(Some(2)) } else { Outcome::Delivered })
    });
    let queue = Arc::new(open(dir.path(), &clock));
    queue.append((0..3).map(|number| entry(number, number.into())).collect()).await.unwrap();
    let services =
        Services { queue: queue.clone(), clock, observer: Arc::<Counts>::default(), random: || 0.5 };
    let lanes = Lanes::new(services);
    lanes.start(spec(&vendor, None), start).await;
    while queue.counts("vendor").unwrap().unfinished > 0 {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    lanes.shutdown(start).await;
    assert_eq!(vendor.requests(), requests(&[(0, "0#0 1#1 2#2"), (2000, "0#0 1#1 2#2")]));
}
