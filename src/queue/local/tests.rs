//! The local queue: the border's conformance, and what is particular to a disk.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;

use super::*;
use crate::queue::codes;
use crate::queue::conformance::{Place, claim, claim_now, conformance, entry, names};
use crate::queue::faults::FaultyFiles;
use crate::queue::runs::{Range, RunInfo, Runs};
use crate::queue::{Code, Dead};

mod combined;

/// A directory and a clock.
struct Dir {
    dir: tempfile::TempDir,
    ahead: Arc<AtomicI64>,
    change: fn(&mut Options),
}

fn dir(change: fn(&mut Options)) -> Dir {
    Dir { dir: tempfile::tempdir().unwrap(), ahead: Arc::default(), change }
}

fn real_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

impl Place for Dir {
    type Queue = LocalQueue<String>;

    fn open(&self, lanes: &[&str]) -> LocalQueue<String> {
        let journal = journal::Options::new(self.dir.path().join("data"));
        let mut options = Options::new(journal, lanes.iter().map(|lane| (*lane).to_owned()).collect());
        (self.change)(&mut options);
        let decode =
            |_: &Head, body: &[u8]| String::from_utf8(body.to_vec()).ok().filter(|text| text != "alien");
        let ahead = Arc::clone(&self.ahead);
        let clock = move || real_now() + ahead.load(Ordering::SeqCst);
        LocalQueue::open(options, Arc::new(decode), Arc::new(clock)).unwrap().0
    }

    fn now_ms(&self) -> i64 {
        real_now() + self.ahead.load(Ordering::SeqCst)
    }

    fn advance(&self, ms: i64) {
        self.ahead.fetch_add(ms, Ordering::SeqCst);
    }
}

mod kept;

conformance!(dir(|_| {}));

/// The same where nothing is kept in memory, so that everything is read from the disk.
mod from_disk {
    use super::{conformance, dir};

    conformance!(dir(|options| {
        options.tail_bytes = 0;
        options.behind_bytes = 0;
    }));
}

fn many(range: std::ops::Range<u64>, order_keys: u64) -> Vec<Entry<String>> {
    range.map(|n| entry(&format!("call {n}"), n % order_keys, n)).collect()
}

fn done(claimed: &[Claimed<String>]) -> Vec<(Id, Settled)> {
    claimed.iter().map(|claimed| (claimed.id, Settled::Done(Code::Delivered))).collect()
}

#[tokio::test]
async fn a_backlog_of_few_users_is_delivered_in_order() {
    let place = dir(|options| {
        options.tail_bytes = 10_000;
        options.behind_bytes = 20_000;
    });
    let queue = place.open(&["a"]);
    for block in 0..20 {
        queue.append(many(block * 500..block * 500 + 500, 37)).await.unwrap();
    }
    let mut last = std::collections::BTreeMap::new();
    let mut count = 0;
    while count < 10_000 {
        let claimed = claim(&queue, "a", 1).await;
        for claimed in &claimed {
            let n: u64 = claimed.payload.strip_prefix("call ").unwrap().parse().unwrap();
            assert!(last.insert(claimed.order_key, n).is_none_or(|before| before + 37 == n));
        }
        count += claimed.len();
        queue.settle("a", done(&claimed));
    }
    assert_eq!(queue.counts("a").unwrap().unfinished, 0);
}

#[tokio::test]
async fn what_is_kept_in_memory_is_bounded_by_what_it_holds_and_not_by_the_bodies() {
    let place = dir(|options| {
        options.tail_bytes = 50_000;
        options.behind_bytes = 50_000;
    });
    let queue = place.open(&["a"]);
    let mut entries = many(0..1000, u64::MAX);
    for entry in &mut entries {
        entry.payload.reserve_exact(10_000);
    }
    queue.append(entries).await.unwrap();
    let newest = queue.shared.tail.read();
    assert_eq!(
        (newest.recent.start(), newest.recent.end()),
        (997, 1001),
        "four of them hold 40,000 bytes and a little"
    );
}

#[tokio::test]
async fn more_are_parked_than_the_window_holds() {
    let place = dir(|options| {
        options.window_events = 8192;
        options.parked_events = 20_000;
        options.tail_bytes = 100_000;
    });
    let queue = place.open(&["a"]);
    for block in 0..20 {
        queue.append(many(block * 1000..block * 1000 + 1000, u64::MAX)).await.unwrap();
    }
    let mut failed = 0;
    while failed < 20_000 {
        let claimed = queue.claim("a", 1000).await;
        failed += claimed.len();
        let how = Settled::Later { at_ms: place.now_ms() + 60_000, since_ms: 0, reason: "down".into() };
        queue.settle("a", claimed.iter().map(|claimed| (claimed.id, how.clone())).collect());
    }
    assert_eq!(queue.counts("a").unwrap().retrying, 20_000);
    queue.append(many(20_000..20_001, u64::MAX)).await.unwrap();
    assert_eq!(names(&claim(&queue, "a", 1).await), ["call 20000"], "a new one goes on");
    queue.close().await;
    drop(queue);

    let queue = place.open(&["a"]);
    assert_eq!(queue.counts("a").unwrap().unfinished, 20_001);
    assert_eq!(queue.counts("a").unwrap().oldest_received_at_ms, Some(1_000));
    place.advance(60_000);
    let mut seen = BTreeSet::new();
    while seen.len() < 20_001 {
        let claimed = queue.claim("a", 1000).await;
        for claimed in &claimed {
            let attempt = if claimed.payload == "call 20000" { 1 } else { 2 };
            assert_eq!(claimed.attempt, attempt, "{}", claimed.payload);
            assert!(seen.insert(claimed.payload.clone()));
        }
        queue.settle("a", done(&claimed));
    }
    assert_eq!(queue.counts("a").unwrap().finished, [(Code::Delivered, 20_001)]);
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a"]);
    assert!(claim_now(&queue, "a").await.is_empty());
    assert_eq!(queue.counts("a").unwrap().unfinished, 0);
}

#[tokio::test]
async fn what_cannot_be_decoded_is_a_dead_letter() {
    let place = dir(|options| options.tail_bytes = 0);
    let queue = place.open(&["a"]);
    queue.append(vec![entry("one", 1, 1), entry("alien", 1, 2), entry("two", 1, 3)]).await.unwrap();
    for name in ["one", "two"] {
        let claimed = claim(&queue, "a", 1).await;
        assert_eq!(names(&claimed), [name]);
        queue.settle("a", done(&claimed));
    }
    let counts = queue.counts("a").unwrap();
    assert_eq!(counts.finished, [(Code::Delivered, 2), (Code::Dead("undecodable".into()), 1)]);
    queue.close().await;
    let letters = queue.dead_letters("a", None, 10);
    assert_eq!((letters.len(), letters[0].dead.code.as_str()), (1, "undecodable"));
}

#[tokio::test]
async fn dead_letters_are_kept_with_what_is_known_of_them() {
    let place = dir(|_| {});
    let queue = place.open(&["a", "b"]);
    queue.append(many(0..3, 10)).await.unwrap();
    let claimed = claim(&queue, "a", 3).await;
    let dead = |n: usize| Dead {
        code: ["rejected", "expired", "rejected"][n].into(),
        reason: format!("reason {n}"),
        attempts: 7,
        first_attempt_at_ms: 5,
        answer: "no".into(),
        request: Some("GET /".into()),
    };
    let settled = claimed.iter().enumerate().map(|(n, claimed)| (claimed.id, Settled::Dead(dead(n))));
    queue.settle("a", settled.collect());
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a", "b"]);
    let letters = queue.dead_letters("a", Some(claimed[0].id), 10);
    assert_eq!(letters.iter().map(|letter| letter.dead.clone()).collect::<Vec<_>>(), [dead(1), dead(2)]);
    assert_eq!(letters[0].payload.as_deref(), Some("call 1"));
    assert!(queue.dead_letters("b", None, 10).is_empty());
}

#[tokio::test]
async fn lanes_come_and_go_while_it_runs() {
    let place = dir(|_| {});
    let queue = place.open(&["a", "b"]);
    queue.append(many(0..10, 100)).await.unwrap();
    let claimed = claim(&queue, "a", 4).await;
    queue.settle("a", done(&claimed));
    queue.set_lanes(&["b".into(), "c".into()]).unwrap();
    assert_eq!(queue.counts("a"), None);
    assert!(queue.claim("a", 1).await.is_empty());
    assert_eq!(queue.counts("c").unwrap().unfinished, 0);
    queue.append(many(10..12, 100)).await.unwrap();
    queue.set_lanes(&["a".into(), "b".into(), "c".into()]).unwrap();
    queue.append(many(12..13, 100)).await.unwrap();
    let counts = queue.counts("a").unwrap();
    let expected = [(Code::Delivered, 4), (Code::Skipped("removed".into()), 6)];
    assert_eq!((counts.unfinished, counts.finished.as_slice()), (1, expected.as_slice()));
    assert_eq!(names(&claim(&queue, "a", 1).await), ["call 12"]);
    assert_eq!(names(&claim(&queue, "c", 3).await), ["call 10", "call 11", "call 12"]);
    assert_eq!(queue.counts("b").unwrap().unfinished, 13);
    let waiting = tokio::time::timeout(Duration::from_secs(20), queue.claim("c", 1));
    let change = async {
        queue.set_lanes(&["a".into(), "b".into()]).unwrap();
        queue.set_lanes(&["a".into(), "b".into(), "c".into()]).unwrap();
    };
    let (ended, ()) = tokio::join!(waiting, change);
    assert!(ended.unwrap().is_empty(), "the lane that it waited for is gone");
    queue.close().await;
    let store = &queue.shared.store;
    let states: Vec<u8> = claimed.iter().map(|claimed| store.outcome(1, claimed.id.0).unwrap()).collect();
    assert_eq!(states, [codes::DELIVERED; 4], "what was written of the first life stays");
}

#[tokio::test]
async fn a_lane_that_waits_for_the_disk_goes_on_after_a_claim_was_dropped() {
    let place = dir(|options| options.tail_bytes = 0);
    let queue = place.open(&["a"]);
    queue.append(many(0..2000, 10)).await.unwrap();
    let mut count = 0;
    let mut turns = 0u32;
    while count < 2000 {
        turns += 1;
        let wait = Duration::from_micros(u64::from(turns % 7) * 200);
        if let Ok(claimed) = tokio::time::timeout(wait, queue.claim("a", 50)).await {
            count += claimed.len();
            queue.settle("a", done(&claimed));
        }
    }
    assert_eq!(queue.counts("a").unwrap().finished, [(Code::Delivered, 2000)]);
}

#[tokio::test]
async fn many_large_retries_are_fetched_again_whatever_their_order() {
    let place = dir(|options| {
        options.tail_bytes = 0;
        options.behind_bytes = 0;
    });
    for later_first in [false, true] {
        let queue = place.open(&["a"]);
        let large = "x".repeat(40_000);
        let first = if later_first { 100 } else { 0 };
        let call = |n: u64| entry(&format!("{n} {large}"), n, n);
        queue.append((first..first + 64).map(call).collect()).await.unwrap();
        let claimed = claim(&queue, "a", 64).await;
        let now_ms = place.now_ms();
        let due = |n: usize| now_ms + 10_000 + if later_first { 64 - n as i64 } else { n as i64 };
        let retry = |(n, claimed): (usize, &Claimed<String>)| {
            (claimed.id, Settled::Later { at_ms: due(n), since_ms: 0, reason: String::new() })
        };
        queue.settle("a", claimed.iter().enumerate().map(retry).collect());
        place.advance(11_000);
        let again = claim(&queue, "a", 64).await;
        assert_eq!(again.len(), 64);
        assert!(again.iter().all(|claimed| claimed.attempt == 2 && claimed.payload.len() > 40_000));
        let mut dues = claimed.iter().enumerate().map(|(n, c)| (due(n), c.id)).collect::<Vec<_>>();
        dues.sort_unstable();
        let expected: Vec<Id> = dues.into_iter().map(|(_, id)| id).collect();
        let order: Vec<Id> = again.iter().map(|claimed| claimed.id).collect();
        assert_eq!(order, expected, "the one first whose time came first");
        queue.settle("a", done(&again));
        queue.close().await;
    }
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "the lock is the disk that does not answer")]
async fn dropped_claims_do_not_pile_up_reads() {
    let place = tempfile::tempdir().unwrap();
    let mut options = Options::new(journal::Options::new(place.path()), vec!["a".into()]);
    options.tail_bytes = 0;
    let (now, most) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let (running, highest) = (Arc::clone(&now), Arc::clone(&most));
    // A disk that answers nothing while this is locked.
    let disk = Arc::new(Mutex::new(()));
    let slow = Arc::clone(&disk);
    let decode = move |_: &Head, body: &[u8]| {
        highest.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        drop(slow.lock());
        running.fetch_sub(1, Ordering::SeqCst);
        String::from_utf8(body.to_vec()).ok()
    };
    let (queue, _) = LocalQueue::open(options, Arc::new(decode), Arc::new(real_now)).unwrap();
    queue.append(vec![entry("one", 1, 1)]).await.unwrap();
    let stuck = disk.lock().unwrap();
    for _ in 0..20 {
        let dropped = tokio::time::timeout(Duration::from_millis(2), queue.claim("a", 1)).await;
        assert!(dropped.is_err(), "nothing can be read");
    }
    drop(stuck);
    assert_eq!(names(&claim(&queue, "a", 1).await), ["one"]);
    assert_eq!(most.load(Ordering::SeqCst), 1, "reads of one lane at the same time");
}

#[tokio::test]
async fn without_its_state_a_journal_with_calls_is_not_opened() {
    let place = dir(|_| {});
    let queue = place.open(&["a"]);
    queue.append(many(0..3, 10)).await.unwrap();
    queue.close().await;
    drop(queue);
    let data = place.dir.path().join("data");
    let state = data.join("state.redb");
    let kept = std::fs::read(&state).unwrap();
    let open = || {
        let options = Options::new(journal::Options::new(&data), vec!["a".into()]);
        LocalQueue::<String>::open(options, Arc::new(|_, _| None), Arc::new(|| 0))
    };
    for removed in [true, false] {
        if removed { std::fs::remove_file(&state) } else { std::fs::write(&state, "") }.unwrap();
        for _ in 0..2 {
            let error = open().map(|_| ()).unwrap_err();
            assert!(error.to_string().contains("missing"), "{error}");
            assert!(error.to_string().contains("state.redb"), "{error}");
        }
        std::fs::write(&state, &kept).unwrap();
    }
    assert_eq!(claim(&place.open(&["a"]), "a", 3).await.len(), 3, "nothing was touched");
}

#[test]
fn nothing_is_handed_out_while_outcomes_cannot_be_written() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = dir(|_| {});
    let queue = place.open(&["a"]);
    runtime.block_on(queue.append(many(0..2, 10))).unwrap();
    let claimed = runtime.block_on(claim(&queue, "a", 1));
    // As the keeper does when writing fails; it cannot write meanwhile.
    let keeper = queue.shared.keeper();
    queue.shared.stalled.store(true, Ordering::SeqCst);
    assert!(runtime.block_on(claim_now(&queue, "a")).is_empty());
    drop(keeper);
    queue.settle("a", done(&claimed));
    let next = runtime.block_on(claim(&queue, "a", 1));
    assert_eq!(names(&next), ["call 1"], "the keeper wrote it down and wakes the lane");
}

#[tokio::test]
async fn segments_go_when_no_lane_needs_them_and_counts_stay() {
    let place = dir(|options| {
        options.journal.segment_bytes = 64 << 10;
        options.journal.retain = Duration::ZERO;
    });
    let queue = place.open(&["a", "b"]);
    for block in 0..40 {
        queue.append(many(block * 250..block * 250 + 250, u64::MAX)).await.unwrap();
    }
    let before = queue.shared.journal.disk_bytes();
    for lane in ["a", "b"] {
        let mut left = 10_000;
        while left > 0 {
            let claimed = queue.claim(lane, 1000).await;
            left -= claimed.len();
            queue.settle(lane, done(&claimed));
        }
        place.advance(1000);
        let mut keeper = queue.shared.keeper();
        assert!(keeper.checkpoint(&queue.shared));
        keeper.retain(&queue.shared);
        let first = queue.shared.journal.first_seq();
        assert_eq!(first > 1, lane == "b", "a segment stays while a lane needs it");
    }
    assert!(queue.shared.journal.disk_bytes() < before / 4);
    assert_eq!(queue.shared.store.outcome(1, 1).unwrap(), codes::UNREAD, "too old to be kept");
    queue.close().await;
    drop(queue);
    let queue = place.open(&["a", "b"]);
    assert_eq!(queue.counts("a").unwrap().finished, [(Code::Delivered, 10_000)]);
    assert_eq!(queue.counts("a").unwrap().unfinished, 0);
}

#[tokio::test]
async fn a_lane_waits_for_what_cannot_be_read_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyFiles::new(1);
    let mut options = Options::new(journal::Options::new(dir.path()), vec!["a".into()]);
    (options.tail_bytes, options.behind_bytes) = (0, 0);
    let decode = |_: &Head, body: &[u8]| String::from_utf8(body.to_vec()).ok();
    let (queue, _) =
        LocalQueue::open_on(Arc::new(disk.clone()), options, Arc::new(decode), Arc::new(real_now)).unwrap();
    let body = "x".repeat(1000);
    queue.append((0..20).map(|n| entry(&body, n, n)).collect()).await.unwrap();
    let segment = dir.path().join("00000000000000000001.seg");
    disk.spoil_page(&segment, 12_000);
    let cell = queue.shared.lane("a").unwrap();
    let mut taken = 0;
    while cell.trouble.wait().is_none() {
        tokio::select! {
            claimed = queue.claim("a", 5) => {
                taken += claimed.len();
                queue.settle("a", done(&claimed));
            }
            // Nothing tells that a claim waits.
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
    assert!(taken < 20, "{taken}");
    disk.heal_page(&segment, 12_000);
    while taken < 20 {
        let claimed = queue.claim("a", 5).await;
        taken += claimed.len();
        queue.settle("a", done(&claimed));
    }
    let counts = queue.counts("a").unwrap();
    assert_eq!((counts.unfinished, counts.finished), (0, vec![(Code::Delivered, 20)]));
    assert_eq!(queue.shared.journal.damaged(), 0);
}

#[tokio::test]
async fn a_quiet_queue_lets_go_of_its_last_calls_in_time() {
    let place = dir(|options| options.journal.retain = Duration::from_hours(8));
    let queue = place.open(&["a"]);
    queue.append(vec![Entry { received_at_ms: place.now_ms(), ..entry("call", 1, 1) }]).await.unwrap();
    let claimed = claim(&queue, "a", 1).await;
    queue.settle("a", done(&claimed));
    let retain = || {
        place.advance(9 * 3_600_000);
        let mut keeper = queue.shared.keeper();
        assert!(keeper.checkpoint(&queue.shared));
        keeper.retain(&queue.shared);
    };
    let journal = &queue.shared.journal;
    let before = journal.disk_bytes();
    retain();
    while journal.disk_bytes() == before {
        // The journal's writer goes on in a new segment.
        tokio::task::yield_now().await;
    }
    assert_eq!(journal.first_seq(), 1, "it is kept for replay");
    retain();
    assert_eq!(queue.shared.journal.first_seq(), 2);
}

#[tokio::test]
async fn what_an_unfinished_run_needs_stays_and_no_more() {
    let place = dir(|options| {
        options.journal.segment_bytes = 64 << 10;
        options.journal.retain = Duration::from_secs(3600);
    });
    let queue = place.open(&["a"]);
    let t0 = place.now_ms();
    for block in 0..40 {
        let entries = many(block * 250..block * 250 + 250, u64::MAX).into_iter();
        let received_at_ms = t0 + i64::try_from(block).unwrap() * 1_000_000;
        queue.append(entries.map(|entry| Entry { received_at_ms, ..entry }).collect()).await.unwrap();
        queue.settle("a", done(&claim(&queue, "a", 250).await));
    }
    let range = Range { since_ms: t0 + 20_000_000, until_ms: t0 + 29_500_000 };
    let info = queue.add_run("replay:1", range).unwrap();
    assert_eq!(info, RunInfo { calls: 2500, kept_from_ms: None }, "found by time, to the call");
    place.advance(24 * 3_600_000);
    let tidy = || {
        let mut keeper = queue.shared.keeper();
        assert!(keeper.checkpoint(&queue.shared));
        keeper.retain(&queue.shared);
        queue.shared.journal.first_seq()
    };
    let first = tidy();
    assert!((2..=5001).contains(&first), "{first}: what the run needs stays, what is before it goes");
    let gone = queue.add_run("replay:2", Range { since_ms: t0, until_ms: t0 + 1 }).unwrap();
    assert!(gone.kept_from_ms.is_some_and(|from| from > t0), "{gone:?}");
    let mut left = 2500;
    while left > 0 {
        let claimed = queue.claim("replay:1", 1000).await;
        assert!(claimed.iter().all(|claimed| (5001..7501).contains(&claimed.id.0)));
        left -= claimed.len();
        queue.settle("replay:1", done(&claimed));
    }
    assert!(queue.claim("replay:1", 1).await.is_empty());
    assert!(queue.claim("replay:2", 1).await.is_empty());
    assert!(tidy() > 7501, "a run that is done needs nothing");
    assert_eq!(queue.counts("replay:1").unwrap().finished, [(Code::Delivered, 2500)]);
}

#[tokio::test]
async fn files_are_private_and_the_directory_is_used_once() {
    let place = dir(|_| {});
    let queue = place.open(&["a"]);
    queue.append(many(0..1, 1)).await.unwrap();
    let data = place.dir.path().join("data");
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(&data).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
    let options = Options::new(journal::Options::new(&data), Vec::new());
    let second = LocalQueue::<String>::open(options, Arc::new(|_, _| None), Arc::new(|| 0));
    assert!(matches!(second, Err(OpenError::Journal(JournalError::Locked { .. }))));
    drop(queue);
    place.open(&["a"]);
}

/// What one lane's vendor has seen.
#[derive(Default)]
struct Vendor {
    seen: BTreeSet<u64>,
    held: Vec<Claimed<String>>,
}

impl Vendor {
    /// Whoever is handed out must be the oldest accepted one of its order key that the vendor has not seen, or one
    /// that it has seen already.
    fn take(&mut self, claimed: &Claimed<String>, accepted: &[u64]) {
        let n: u64 = claimed.payload.strip_prefix("call ").unwrap().parse().unwrap();
        assert_eq!(claimed.order_key, n % KEYS);
        for earlier in accepted.iter().filter(|other| **other % KEYS == n % KEYS && **other < n) {
            assert!(self.seen.contains(earlier), "{n} overtook {earlier}");
        }
    }
}

const KEYS: u64 = 7;
const BOTH: [&str; 2] = ["a", "b"];

struct Lives {
    random: fastrand::Rng,
    disk: crate::queue::faults::FaultyFiles,
    dir: tempfile::TempDir,
    accepted: Vec<u64>,
    next: u64,
    vendors: [Vendor; 2],
}

impl Lives {
    fn open(&self) -> LocalQueue<String> {
        let mut journal = journal::Options::new(self.dir.path());
        journal.segment_bytes = 4096;
        journal.retain = Duration::ZERO;
        let mut options = Options::new(journal, BOTH.map(str::to_owned).into());
        options.tail_bytes = 2_000;
        options.behind_bytes = 1_000;
        let decode = |_: &Head, body: &[u8]| String::from_utf8(body.to_vec()).ok();
        let files = Arc::new(self.disk.for_new_process());
        LocalQueue::open_on(files, options, Arc::new(decode), Arc::new(real_now)).unwrap().0
    }

    async fn live(&mut self, queue: &LocalQueue<String>, steps: usize) {
        for _ in 0..steps {
            match self.random.u32(..10) {
                0..3 => self.append(queue).await,
                3 => queue.shared.keeper().retain(&queue.shared),
                4 => drop(queue.shared.keeper().checkpoint(&queue.shared)),
                _ => {
                    let lane = self.random.usize(..2);
                    let wait = Duration::from_millis(3);
                    let max = self.random.usize(1..8);
                    if let Ok(claimed) = tokio::time::timeout(wait, queue.claim(BOTH[lane], max)).await {
                        claimed.iter().for_each(|c| self.vendors[lane].take(c, &self.accepted));
                        self.vendors[lane].held.extend(claimed);
                    }
                    self.settle(queue, lane);
                }
            }
        }
    }

    async fn append(&mut self, queue: &LocalQueue<String>) {
        let block = self.next..self.next + self.random.u64(1..20);
        self.next = block.end;
        if self.random.u32(..8) == 0 {
            self.disk.fail_writes(1);
        }
        if queue.append(many(block.clone(), KEYS)).await.is_ok() {
            self.accepted.extend(block);
        }
    }

    fn settle(&mut self, queue: &LocalQueue<String>, lane: usize) {
        let Vendor { held, seen } = &mut self.vendors[lane];
        let mut settled = Vec::new();
        while !held.is_empty() && self.random.u32(..5) > 0 {
            let claimed = held.swap_remove(self.random.usize(..held.len()));
            let n: u64 = claimed.payload.strip_prefix("call ").unwrap().parse().unwrap();
            let how = match self.random.u32(..6) {
                0 => Settled::Later {
                    at_ms: real_now() + self.random.i64(..4),
                    since_ms: 0,
                    reason: String::new(),
                },
                1 => Settled::Release,
                _ => {
                    seen.insert(n);
                    Settled::Done(Code::Delivered)
                }
            };
            settled.push((claimed.id, how));
        }
        queue.settle(BOTH[lane], settled);
    }
}

async fn random_lives(seed: u64) {
    let disk = crate::queue::faults::FaultyFiles::new(seed);
    let mut lives = Lives {
        random: fastrand::Rng::with_seed(seed),
        disk,
        dir: tempfile::tempdir().unwrap(),
        accepted: Vec::new(),
        next: 0,
        vendors: Default::default(),
    };
    for _ in 0..5 {
        let queue = lives.open();
        let steps = lives.random.usize(5..80);
        lives.live(&queue, steps).await;
        if lives.random.bool() {
            lives.disk.kill()
        } else {
            lives.disk.cut_power()
        }
        drop(queue);
        lives.vendors.iter_mut().for_each(|vendor| vendor.held.clear());
    }
    let queue = lives.open();
    for (lane, vendor) in BOTH.into_iter().zip(&mut lives.vendors) {
        while queue.counts(lane).unwrap().unfinished > 0 {
            let claimed = claim(&queue, lane, 1).await;
            for claimed in &claimed {
                vendor.take(claimed, &lives.accepted);
                vendor.seen.insert(claimed.payload.strip_prefix("call ").unwrap().parse().unwrap());
            }
            queue.settle(lane, done(&claimed));
        }
        assert!(claim_now(&queue, lane).await.is_empty());
        let missing: Vec<_> = lives.accepted.iter().filter(|n| !vendor.seen.contains(n)).collect();
        assert!(missing.is_empty(), "seed {seed}: {lane} never got {missing:?}");
        assert_eq!(queue.counts(lane).unwrap().finished, [(Code::Delivered, vendor.seen.len() as u64)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_nor_overtaken_through_crashes() {
    for seed in 0..8 {
        random_lives(seed).await;
    }
}
