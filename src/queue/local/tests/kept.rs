//! What is kept of calls whose segments the journal lets go of, and what is not.

use super::*;
use crate::queue::{BACKLOG, LaneLimits, runs};

/// Nothing is retained that nobody needs, and a lane soon goes past what it cannot finish.
fn small(options: &mut Options) {
    options.journal.segment_bytes = 64 << 10;
    options.journal.retain = Duration::ZERO;
    options.journal.min_free_bytes = 0;
    options.window_events = 8192;
}

/// A second later, what may go is gone.
fn tidy(place: &Dir, queue: &LocalQueue<String>) {
    place.advance(1000);
    let mut keeper = queue.shared.keeper();
    assert!(keeper.checkpoint(&queue.shared));
    keeper.retain(&queue.shared);
}

/// How many calls are kept beside the journal.
fn kept(queue: &LocalQueue<String>) -> usize {
    queue.shared.store.kept_calls().unwrap().len()
}

async fn append(queue: &LocalQueue<String>, entries: Vec<Entry<String>>) {
    for block in entries.chunks(250) {
        queue.append(block.to_vec()).await.unwrap();
    }
}

/// So many calls of a kilobyte, each of another user.
fn large(range: std::ops::Range<u64>) -> Vec<Entry<String>> {
    range.map(|n| entry(&format!("call {n:01000}"), n, n)).collect()
}

/// Ends so many deliveries of a lane, each as `how` says.
async fn end(queue: &LocalQueue<String>, lane: &str, mut count: usize, how: impl Fn(&str) -> Settled) {
    while count > 0 {
        let claimed = tokio::time::timeout(Duration::from_secs(20), queue.claim(lane, count.min(1000))).await;
        let claimed = claimed.expect("there was nothing to claim");
        count -= claimed.len();
        queue.settle(lane, claimed.iter().map(|one| (one.id, how(&one.payload))).collect());
    }
}

fn rejected() -> Settled {
    Settled::Dead(Dead { code: "rejected".into(), reason: "no".into(), attempts: 1, ..Dead::default() })
}

#[tokio::test]
async fn calls_of_dead_letters_outlive_their_segments() {
    let place = dir(small);
    let queue = place.open(&["a", "b"]);
    for block in 0..40 {
        queue.append(many(block * 250..block * 250 + 250, 1000)).await.unwrap();
    }
    for lane in ["a", "b"] {
        let mut left = 10_000;
        while left > 0 {
            let claimed = queue.claim(lane, 1000).await;
            left -= claimed.len();
            let dead = || Dead { code: "rejected".into(), attempts: 1, ..Dead::default() };
            let is_dead = |claimed: &Claimed<String>| ["call 3", "call 1003"].contains(&&*claimed.payload);
            let end = |one: &Claimed<String>| {
                let how = if is_dead(one) { Settled::Dead(dead()) } else { Settled::Done(Code::Delivered) };
                (one.id, how)
            };
            queue.settle(lane, claimed.iter().map(end).collect());
        }
    }
    tidy(&place, &queue);
    assert!(queue.shared.journal.first_seq() > 2000, "their segments are gone");
    assert_eq!(kept(&queue), 2, "once for both lanes");
    queue.close().await;
    drop(queue);

    let queue = place.open(&["a", "b"]);
    let letters = queue.dead_letters("a", None, 10);
    let calls: Vec<_> = letters.iter().map(|letter| letter.payload.as_deref()).collect();
    assert_eq!(calls, [Some("call 3"), Some("call 1003")]);
    let ids: Vec<Id> = letters.iter().map(|letter| letter.id).collect();
    assert_eq!((queue.redrive("a", &ids, false), queue.purge("b", &ids)), (2, 2));
    tidy(&place, &queue);
    drop(queue);
    let queue = place.open(&["a", "b"]);
    assert_eq!(kept(&queue), 2, "they are open");
    let first = claim(&queue, "a", 1).await;
    assert_eq!(names(&first), ["call 3"]);
    queue.settle("a", done(&first));
    let second = claim(&queue, "a", 1).await;
    assert_eq!(names(&second), ["call 1003"]);
    queue.settle("a", done(&second));
    tidy(&place, &queue);
    assert_eq!(kept(&queue), 0, "nobody needs them any more");
    let counts = queue.counts("a").unwrap();
    assert_eq!(
        (counts.unfinished, counts.finished),
        (0, vec![(Code::Delivered, 10_000), (Code::Dead("rejected".into()), 0)])
    );
}

/// A user whose calls cannot be delivered does not hold back the segments in which they are.
#[tokio::test]
async fn what_waits_behind_a_failing_delivery_outlives_its_segments() {
    let place = dir(small);
    let queue = place.open(&["a"]);
    let is_stuck = |n: u64| n % 20 == 3;
    let calls = (0..30_000).map(|n| entry(&format!("call {n}"), if is_stuck(n) { 7 } else { 1000 + n }, n));
    append(&queue, calls.collect()).await;
    let hour = || Settled::Later { at_ms: place.now_ms() + 3_600_000, since_ms: 0, reason: "busy".into() };
    let how = |call: &str| if call == "call 3" { hour() } else { Settled::Done(Code::Delivered) };
    end(&queue, "a", 30_000 - 1500 + 1, how).await;
    tidy(&place, &queue);
    let first_seq = queue.shared.journal.first_seq();
    assert!(first_seq > 20_000, "their segments stay: {first_seq}");
    let of_user = (0..first_seq - 1).filter(|n| is_stuck(*n)).count();
    assert_eq!(kept(&queue), of_user);
    let counts = queue.counts("a").unwrap();
    assert_eq!((counts.unfinished, counts.retrying), (1500, 1));
    let standing = |queue: &LocalQueue<String>| {
        let passage = queue.retained("a", runs::Start::ReceivedFrom(0)).unwrap();
        let open = passage.calls.iter().filter(|call| call.standing == runs::Standing::Open);
        open.map(|call| call.payload.clone()).collect::<Vec<_>>()
    };
    let open = standing(&queue);
    let retained = open.iter().filter_map(|call| call.strip_prefix("call ")?.parse().ok());
    assert!(open.len() > 1 && retained.clone().all(is_stuck), "{open:?}");

    // As after a crash, and the journal has nothing of most of them.
    drop(queue);
    let queue = place.open(&["a"]);
    tidy(&place, &queue);
    assert_eq!(claim_now(&queue, "a").await.len(), 0, "they wait, also after a restart");
    assert_eq!(standing(&queue), open);
    place.advance(3_600_000);
    for n in (0..30_000).filter(|n| is_stuck(*n)) {
        let claimed = claim(&queue, "a", 1).await;
        assert_eq!(names(&claimed), [format!("call {n}")], "in order, and none is missing");
        queue.settle("a", done(&claimed));
    }
    tidy(&place, &queue);
    let counts = queue.counts("a").unwrap();
    assert_eq!((counts.unfinished, counts.finished), (0, vec![(Code::Delivered, 30_000)]));
    assert_eq!(kept(&queue), 0, "nobody needs them any more");
}

/// Nor though its lane has gone no further since than it keeps open.
#[tokio::test]
async fn a_failing_delivery_among_the_newest_holds_no_segments_back() {
    fn change(options: &mut Options) {
        small(options);
        options.window_events = 65_536;
    }
    let place = dir(change);
    let queue = place.open(&["a", "b"]);
    append(&queue, many(0..30_000, u64::MAX)).await;
    let hour = || Settled::Later { at_ms: place.now_ms() + 3_600_000, since_ms: 0, reason: "busy".into() };
    let how = |call: &str| if call == "call 3" { hour() } else { Settled::Done(Code::Delivered) };
    end(&queue, "a", 30_000, how).await;
    // This one has many that could be handed out: it is behind, and needs them where they are.
    end(&queue, "b", 10_000, |_| Settled::Done(Code::Delivered)).await;
    tidy(&place, &queue);
    let first_seq = queue.shared.journal.first_seq();
    assert!((7000..=10_001).contains(&first_seq), "{first_seq}");
    end(&queue, "b", 20_000, |_| Settled::Done(Code::Delivered)).await;
    tidy(&place, &queue);
    let first_seq = queue.shared.journal.first_seq();
    assert!(first_seq > 25_000, "their segments stay: {first_seq}");
    assert_eq!(kept(&queue), 1);
    drop(queue);

    let queue = place.open(&["a", "b"]);
    tidy(&place, &queue);
    assert_eq!(claim_now(&queue, "a").await.len(), 0, "it waits, also after a restart");
    place.advance(3_600_000);
    let claimed = claim(&queue, "a", 1).await;
    assert_eq!(names(&claimed), ["call 3"]);
    queue.settle("a", done(&claimed));
    for lane in ["a", "b"] {
        let counts = queue.counts(lane).unwrap();
        assert_eq!((counts.unfinished, counts.finished), (0, vec![(Code::Delivered, 30_000)]));
    }
}

#[tokio::test]
async fn beyond_what_may_be_kept_segments_stay_for_what_is_open_and_the_oldest_dead_letters_go() {
    fn change(options: &mut Options) {
        small(options);
        options.journal.max_disk_bytes = 16 << 20; // 512 KiB for dead letters, 1 MiB for what is open
        options.parked_events = 20_000;
    }
    let place = dir(change);
    let queue = place.open(&["a"]);
    append(&queue, large(0..1000)).await;
    end(&queue, "a", 1000, |_| rejected()).await;
    append(&queue, many(1000..10_000, u64::MAX)).await;
    end(&queue, "a", 9000, |_| Settled::Done(Code::Delivered)).await;
    tidy(&place, &queue);
    let letters = queue.dead_letters("a", None, 2000);
    let with_call = letters.iter().filter(|letter| letter.payload.is_some()).count();
    assert_eq!((letters.len(), with_call, kept(&queue)), (521, 521, 521), "512 KiB of calls of 1,005 bytes");
    assert_eq!(letters[0].payload.as_deref(), Some(&*format!("call {:01000}", 479)), "the newest");
    let finished = queue.counts("a").unwrap().finished;
    let dead = (Code::Dead("rejected".into()), 1000);
    assert!(finished.contains(&dead), "they stay counted: {finished:?}");

    let first_seq = queue.shared.journal.first_seq();
    let later = || Settled::Later { at_ms: place.now_ms() + 3_600_000, since_ms: 0, reason: "busy".into() };
    append(&queue, large(10_000..12_000)).await;
    end(&queue, "a", 2000, |_| later()).await;
    append(&queue, many(12_000..30_000, u64::MAX)).await;
    end(&queue, "a", 18_000, |_| Settled::Done(Code::Delivered)).await;
    tidy(&place, &queue);
    let stays_at = queue.shared.journal.first_seq();
    assert!((first_seq..12_000).contains(&stays_at), "{stays_at}");
    let open = kept(&queue) - 521;
    assert!((900..=1043).contains(&open), "{open}: not more than 1 MiB");
    place.advance(3_600_000);
    end(&queue, "a", 2000, |_| Settled::Done(Code::Delivered)).await;
    tidy(&place, &queue);
    assert!(queue.shared.journal.first_seq() > 28_000);
    assert_eq!(kept(&queue), 521, "the dead letters'");
}

#[tokio::test]
async fn what_a_backlog_gave_up_can_be_sent_again_as_long_as_it_is_retained() {
    fn change(options: &mut Options) {
        small(options);
        options.journal.retain = Duration::from_hours(1);
    }
    let place = dir(change);
    let queue = place.open(&["a"]);
    let now_ms = place.now_ms();
    let now = |entries: Vec<Entry<String>>| {
        entries.into_iter().map(|entry| Entry { received_at_ms: now_ms, ..entry }).collect()
    };
    append(&queue, now(many(0..10_000, u64::MAX))).await;
    let limits = LaneLimits { max_backlog: Some(100) };
    queue.set_limits("a", limits);
    while queue.counts("a").unwrap().unfinished > 100 {
        queue.shared.shed(&queue.shared.lane("a").unwrap());
    }
    tidy(&place, &queue);
    drop(queue);
    let queue = place.open(&["a"]);
    queue.set_limits("a", limits);
    let letters = queue.dead_letters("a", None, 20_000);
    assert_eq!(letters.len(), 9900);
    let last = letters.last().unwrap();
    assert_eq!((last.payload.as_deref(), &*last.dead.code), (Some("call 9899"), "backlog"));
    assert!(last.dead.reason.contains("max_backlog") && last.died_at_ms > 0);
    assert_eq!(last.received_at_ms, now_ms);
    let ids = letters[9000..9003].iter().map(|letter| letter.id).collect::<Vec<_>>();
    assert_eq!((queue.redrive("a", &ids[..2], false), queue.purge("a", &ids[2..])), (2, 1));
    let claimed = claim(&queue, "a", 102).await;
    let again = ["call 9000", "call 9001"];
    assert!(again.iter().all(|name| names(&claimed).contains(name)), "they are not given up again");
    queue.settle("a", done(&claimed));
    let finished = queue.counts("a").unwrap().finished;
    let backlog = Code::Dead(BACKLOG.into());
    assert_eq!(finished, [(Code::Delivered, 102), (backlog.clone(), 9898)], "a purged one stays counted");

    queue.set_limits("a", LaneLimits::default());
    place.advance(2 * 3_600_000);
    append(&queue, many(10_000..12_000, u64::MAX)).await;
    end(&queue, "a", 2000, |_| Settled::Done(Code::Delivered)).await;
    tidy(&place, &queue);
    assert!(queue.shared.journal.first_seq() > 9000);
    assert_eq!(kept(&queue), 0, "their calls go in their time");
    let left = queue.dead_letters("a", None, 20_000).len();
    assert!(left < 900, "and they with them: {left}");
    assert!(queue.counts("a").unwrap().finished.contains(&(backlog, 9898)));
}

/// Calls that `max_backlog` gave up are kept as long as they are retained; those that were parked for longer, but not in
/// the place of letters that are kept.
#[tokio::test]
async fn what_a_backlog_gave_up_while_it_was_parked_takes_no_letters_place() {
    fn change(options: &mut Options) {
        small(options);
        options.journal.max_disk_bytes = 16 << 20; // 512 KiB for dead letters, 1 MiB for what is open
        options.parked_events = 20_000;
    }
    let place = dir(change);
    let queue = place.open(&["a"]);
    append(&queue, large(0..300)).await;
    end(&queue, "a", 300, |_| rejected()).await;
    let later = || Settled::Later { at_ms: place.now_ms() + 3_600_000, since_ms: 0, reason: "busy".into() };
    append(&queue, large(1000..1900)).await;
    end(&queue, "a", 900, |_| later()).await;
    append(&queue, many(2000..12_000, u64::MAX)).await;
    end(&queue, "a", 10_000, |_| Settled::Done(Code::Delivered)).await;
    tidy(&place, &queue);
    assert_eq!(kept(&queue), 1200, "all segments of them have gone");
    queue.set_limits("a", LaneLimits { max_backlog: Some(100) });
    while queue.counts("a").unwrap().unfinished > 100 {
        queue.shared.shed(&queue.shared.lane("a").unwrap());
    }
    tidy(&place, &queue);
    queue.set_limits("a", LaneLimits::default());
    append(&queue, many(20_000..30_000, u64::MAX)).await;
    end(&queue, "a", 10_000, |_| Settled::Done(Code::Delivered)).await;
    tidy(&place, &queue);
    let letters = queue.dead_letters("a", None, 20_000);
    let of = |code: &str| {
        letters.iter().filter(|letter| letter.dead.code == code && letter.payload.is_some()).count()
    };
    assert_eq!((of("rejected"), of("backlog")), (300, 221), "kept: {}", kept(&queue));
}
