//! Redrives, toggled lanes and failing disks, put together in ways that the other tests leave out.

use super::*;
use crate::queue::conformance::{Place, claim, claim_now, names};
use crate::queue::kept::Room;

const DELIVERED: Settled = Settled::Done(Code::Delivered);

fn rejected() -> Settled {
    Settled::Dead(Dead { code: "rejected".into(), reason: "no".into(), attempts: 1, ..Dead::default() })
}

/// One that was received now, so that it is retained however long the test takes.
fn entry(name: &str, order_key: u64, message_key: u64) -> Entry<String> {
    Entry { received_at_ms: real_now(), ..crate::queue::conformance::entry(name, order_key, message_key) }
}

/// Appends calls of one user, or of each a user, and ends each as is said of it.
async fn live(queue: &LocalQueue<String>, calls: Vec<(&str, u64, Settled)>) -> Vec<Id> {
    let mut ids = Vec::new();
    for (name, key, how) in calls {
        queue.append(vec![entry(name, key, queue.hash(&[name]) >> 32)]).await.unwrap();
        let id = claim(queue, "a", 1).await[0].id;
        queue.settle("a", vec![(id, how)]);
        ids.push(id);
    }
    ids
}

async fn append(queue: &LocalQueue<String>, name: &str, key: u64) {
    queue.append(vec![entry(name, key, queue.hash(&[name]) >> 32)]).await.unwrap();
}

fn none() -> Vec<String> {
    Vec::new()
}

fn only_a() -> Vec<String> {
    vec!["a".to_owned()]
}

#[tokio::test]
async fn an_older_letter_that_is_redriven_later_knows_what_has_overtaken_it() {
    let place = dir(|_| {});
    let queue = place.open(&["a"]);
    let calls = vec![("one", 7, rejected()), ("two", 7, DELIVERED), ("three", 7, rejected())];
    let ids = live(&queue, calls).await;
    assert_eq!(queue.redrive("a", &[ids[2]], false), 1);
    let third = claim(&queue, "a", 1).await.remove(0);
    assert_eq!((third.payload.as_str(), third.later.len()), ("three", 0));
    queue.settle("a", vec![(third.id, DELIVERED)]);
    assert_eq!(queue.redrive("a", &[ids[0]], false), 1);
    let first = claim(&queue, "a", 1).await.remove(0);
    assert_eq!(first.later, ["two", "three"], "what `one` says was overtaken by both");
}

#[tokio::test]
async fn what_was_said_long_ago_has_overtaken_a_letter_too_however_many_calls_came_since() {
    let place = dir(|_| {});
    let queue = place.open(&["a"]);
    let mut calls = vec![("color=red size=1 plan=a", 7, rejected()), ("size=2", 7, DELIVERED)];
    calls.push(("plan=b", 7, rejected()));
    let since: Vec<String> = (0..1000).map(|n| format!("color=blue number {n}")).collect();
    calls.extend(since.iter().map(|call| (call.as_str(), 7, DELIVERED)));
    let ids = live(&queue, calls).await;
    let later = queue.later_of("a", ids[0]);
    assert_eq!(later.first(), Some(&(ids[1], "size=2".to_owned())));
    assert_eq!(later.last(), Some(&(ids[1002], "color=blue number 999".to_owned())));
    assert!(later.len() < 300, "{}", later.len());

    assert_eq!(queue.redrive("a", &[ids[2]], false), 1, "it was no part of it while it was dead");
    let again = claim(&queue, "a", 1).await.remove(0);
    queue.settle("a", vec![(again.id, DELIVERED)]);
    assert_eq!(queue.redrive("a", &[ids[0]], false), 1);
    let first = claim(&queue, "a", 1).await.remove(0);
    assert_eq!(first.later[..2], ["size=2", "plan=b"]);
}

#[tokio::test]
async fn a_letter_redriven_in_a_lane_that_came_back_survives_a_crash() {
    let place = dir(|_| {});
    let queue = place.open(&["a"]);
    let ids = live(&queue, vec![("one", 1, rejected()), ("two", 2, DELIVERED)]).await;
    queue.set_lanes(&none()).unwrap();
    queue.set_lanes(&only_a()).unwrap();
    assert_eq!(queue.redrive("a", &ids, false), 1);
    append(&queue, "three", 3).await;
    assert_eq!(claim(&queue, "a", 2).await.len(), 2);
    queue.give_back("a");
    assert!(queue.shared.keeper().checkpoint(&queue.shared));
    drop(queue);

    let queue = place.open(&["a"]);
    assert_eq!(queue.counts("a").unwrap().unfinished, 2);
    let claimed = queue.claim("a", 10).await;
    let mut all = claimed.clone();
    all.extend(claim_now(&queue, "a").await);
    let mut seen = names(&all);
    seen.sort_unstable();
    assert_eq!(seen, ["one", "three"], "counts: {:?}", queue.counts("a"));
}

#[tokio::test]
async fn the_outcome_of_a_letter_redriven_in_a_lane_that_came_back_is_written_down() {
    let place = dir(|_| {});
    let queue = place.open(&["a"]);
    let ids = live(&queue, vec![("one", 1, rejected()), ("two", 2, DELIVERED)]).await;
    queue.set_lanes(&none()).unwrap();
    queue.set_lanes(&only_a()).unwrap();
    assert_eq!(queue.redrive("a", &ids, false), 1);
    append(&queue, "three", 3).await;
    let claimed = claim(&queue, "a", 2).await;
    queue.settle("a", done(&claimed));
    append(&queue, "four", 4).await;
    let claimed = claim(&queue, "a", 1).await;
    queue.settle("a", done(&claimed));
    assert!(queue.shared.keeper().checkpoint(&queue.shared));
    let states: Vec<u8> = (1..5).map(|seq| queue.shared.store.outcome(1, seq).unwrap()).collect();
    assert_eq!(states, [codes::DELIVERED; 4]);
}

#[tokio::test]
async fn outcomes_outlive_a_lane_that_comes_and_goes_twice() {
    let place = dir(|_| {});
    let queue = place.open(&["a"]);
    let ids = live(&queue, vec![("one", 1, rejected()), ("two", 2, DELIVERED)]).await;
    for _ in 0..2 {
        queue.set_lanes(&none()).unwrap();
        queue.set_lanes(&only_a()).unwrap();
    }
    append(&queue, "three", 3).await;
    let claimed = claim(&queue, "a", 1).await;
    queue.settle("a", done(&claimed));
    assert!(queue.shared.keeper().checkpoint(&queue.shared));
    assert_eq!(queue.shared.store.outcome(1, 2).unwrap(), codes::DELIVERED);
    assert_eq!(queue.dead_letters("a", None, 10).len(), 1);
    assert_eq!(queue.redrive("a", &ids, false), 1, "it is listed, and can be opened");
}

/// A queue whose first segments have gone, with one dead letter whose call was kept.
async fn with_a_kept_call(place: &Dir) -> (LocalQueue<String>, Id) {
    let queue = place.open(&["a"]);
    for block in 0..8 {
        queue.append(many(block * 250..block * 250 + 250, 10_000)).await.unwrap();
    }
    let mut left = 2000;
    let mut letter = None;
    while left > 0 {
        let claimed = queue.claim("a", 1000).await;
        left -= claimed.len();
        let end =
            |one: &Claimed<String>| (one.id, if one.payload == "call 3" { rejected() } else { DELIVERED });
        letter = letter.or_else(|| claimed.iter().find(|one| one.payload == "call 3").map(|one| one.id));
        queue.settle("a", claimed.iter().map(end).collect());
    }
    place.advance(1000);
    let mut keeper = queue.shared.keeper();
    assert!(keeper.checkpoint(&queue.shared));
    keeper.retain(&queue.shared);
    drop(keeper);
    assert!(queue.shared.journal.first_seq() > 10);
    assert_eq!(queue.shared.store.kept_calls().unwrap().len(), 1);
    (queue, letter.unwrap())
}

fn small_segments(options: &mut Options) {
    options.journal.segment_bytes = 32 << 10;
    options.journal.retain = Duration::ZERO;
    options.journal.min_free_bytes = 0;
}

#[tokio::test]
async fn a_call_that_dies_again_is_kept_whenever_it_dies() {
    let place = dir(small_segments);
    let (queue, id) = with_a_kept_call(&place).await;
    assert_eq!(queue.redrive("a", &[id], true), 1);
    let claimed = claim(&queue, "a", 1).await;
    assert_eq!(claimed[0].id, id);
    {
        // What the keeper's thread does; the answer comes between the two.
        let mut keeper = queue.shared.keeper();
        assert!(keeper.checkpoint(&queue.shared));
        queue.settle("a", vec![(id, rejected())]);
        keeper.retain(&queue.shared);
    }
    let letters = queue.dead_letters("a", None, 10);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].payload.as_deref(), Some("call 3"), "the call of a dead letter");
}

#[tokio::test]
async fn a_call_that_was_asked_for_again_makes_no_room_for_others() {
    let place = dir(small_segments);
    let (queue, id) = with_a_kept_call(&place).await;
    assert_eq!(queue.redrive("a", &[id], true), 1);
    // What is kept is above its limit, for another letter's sake.
    let room = Room { open: 1 << 20, dead: 0 };
    queue.shared.keep_calls_below(u64::MAX, room, &mut || true).unwrap();
    assert_eq!(names(&claim_now(&queue, "a").await), ["call 3"], "{:?}", queue.counts("a"));
}

#[tokio::test]
async fn a_lane_hands_out_what_it_fetched_though_more_falls_due() {
    let place = dir(|options| {
        options.tail_bytes = 0;
        options.behind_bytes = 0;
    });
    let queue = place.open(&["a"]);
    queue.append(many(0..50, 100)).await.unwrap();
    let claimed = claim(&queue, "a", 50).await;
    let now_ms = place.now_ms();
    let later = |(n, one): (i64, &Claimed<String>)| {
        (one.id, Settled::Later { at_ms: now_ms + 10_000_000 + n * 1000, since_ms: 0, reason: String::new() })
    };
    queue.settle("a", (0..).zip(&claimed).map(later).collect());
    // Of another time, so that the lane has not read these last.
    queue.append(many(50..60, 100)).await.unwrap();
    queue.settle("a", done(&claim(&queue, "a", 10).await));
    place.advance(10_000_000);
    let cell = queue.shared.lane("a").unwrap();
    for _ in 0..20 {
        // While one is fetched, the next falls due.
        place.advance(1000);
        match queue.shared.step(&cell, 10) {
            Step::Out(out) if !out.is_empty() => return,
            Step::Fetch(seqs) => queue.shared.read_for(&cell, Step::Fetch(seqs)).unwrap(),
            _ => {}
        }
    }
    panic!("it fetched twenty times and handed out nothing");
}

const USERS: u64 = 7;
const LANES: [&str; 2] = ["a", "b"];

/// What one lane is known to have.
#[derive(Default, Clone)]
struct Book {
    /// Settled for good, by number of the call: whether delivered.
    ended: std::collections::BTreeMap<u64, bool>,
    held: Vec<Claimed<String>>,
    /// Opened again once: may come out of order.
    reopened: BTreeSet<u64>,
    /// The lane was removed when these were there.
    written_off: BTreeSet<u64>,
}

struct Storm {
    random: fastrand::Rng,
    dir: tempfile::TempDir,
    disk: FaultyFiles,
    full: Arc<std::sync::atomic::AtomicBool>,
    ahead: Arc<AtomicI64>,
    accepted: Vec<u64>,
    next: u64,
    books: [Book; 2],
}

fn number(claimed: &Claimed<String>) -> u64 {
    claimed.payload.strip_prefix("call ").unwrap().parse().unwrap()
}

impl Storm {
    fn open(&self) -> LocalQueue<String> {
        use crate::queue::store::tests::store_that_fills;
        let mut options = journal::Options::new(self.dir.path().join("data"));
        std::fs::create_dir_all(&options.dir).unwrap();
        options.segment_bytes = 4096;
        options.retain = Duration::ZERO;
        let store = store_that_fills(&self.dir.path().join("data/state.redb"), &self.full);
        let loaded = store.load().unwrap();
        options.min_next_seq = options.min_next_seq.max(loaded.total.0);
        let tail = Arc::new(Tail::new(0, 0, 2000));
        let newest = Arc::clone(&tail);
        let ahead = Arc::clone(&self.ahead);
        let clock: Clock = Arc::new(move || 1_000_000 + ahead.load(Ordering::SeqCst));
        let files = Arc::new(self.disk.for_new_process());
        let (journal, _) =
            Journal::open(files, options, clock(), Box::new(move |records| newest.add(records))).unwrap();
        let journalled = count(&journal, loaded.total).unwrap().max(loaded.journalled());
        tail.begin(journal.next_seq(), journalled);
        let decode: Decode<String> = Arc::new(|_: &Head, body: &[u8]| String::from_utf8(body.to_vec()).ok());
        let limits = Limits { shape: Shape::of_events(8192), parked: 30, behind: 4 };
        let parts = Parts { journal, store, tail, loaded, clock, decode, limits, behind_bytes: 1000 };
        let shared = Arc::new(Shared::new(parts));
        shared.set_lanes(&LANES.map(str::to_owned)).unwrap();
        LocalQueue { shared, thread: None }
    }

    async fn step(&mut self, queue: &LocalQueue<String>) {
        match self.random.u32(..24) {
            0..4 => self.append(queue).await,
            4..6 => drop(queue.shared.keeper().checkpoint(&queue.shared)),
            6 => {
                let mut keeper = queue.shared.keeper();
                keeper.retain(&queue.shared);
            }
            7 => {
                let is_full = self.random.u32(..3) == 0;
                self.full.store(is_full, Ordering::SeqCst);
            }
            8..10 => self.redrive(queue),
            10 => drop(self.ahead.fetch_add(self.random.i64(0..5000), Ordering::SeqCst)),
            11 => self.toggle(queue),
            12 => {
                let lane = self.random.usize(..2);
                queue.give_back(LANES[lane]);
                self.books[lane].held.clear();
            }
            _ => {
                let lane = self.random.usize(..2);
                let max = self.random.usize(1..8);
                if let Ok(claimed) =
                    tokio::time::timeout(Duration::from_millis(3), queue.claim(LANES[lane], max)).await
                {
                    self.take(lane, claimed);
                }
                self.settle(queue, lane);
            }
        }
    }

    fn take(&mut self, lane: usize, claimed: Vec<Claimed<String>>) {
        let book = &mut self.books[lane];
        for one in &claimed {
            let n = number(one);
            assert!(book.held.iter().all(|held| held.order_key != one.order_key), "two at once of {n}");
            for earlier in self.accepted.iter().filter(|other| **other % USERS == n % USERS && **other < n) {
                let over = book.ended.contains_key(earlier) || book.written_off.contains(earlier);
                assert!(over || book.reopened.contains(earlier), "{}: {n} overtook {earlier}", LANES[lane]);
            }
            if !one.later.is_empty() {
                assert!(book.reopened.contains(&n));
            }
        }
        book.held.extend(claimed);
    }

    fn settle(&mut self, queue: &LocalQueue<String>, lane: usize) {
        let book = &mut self.books[lane];
        let mut settled = Vec::new();
        while !book.held.is_empty() && self.random.u32(..5) > 0 {
            let claimed = book.held.swap_remove(self.random.usize(..book.held.len()));
            let n = number(&claimed);
            let how = match self.random.u32(..8) {
                0 => Settled::Later {
                    at_ms: 1_000_000 + self.ahead.load(Ordering::SeqCst) + self.random.i64(0..4000),
                    since_ms: 0,
                    reason: String::new(),
                },
                1 => Settled::Release,
                2 | 3 => {
                    book.ended.insert(n, false);
                    rejected()
                }
                _ => {
                    book.ended.insert(n, true);
                    DELIVERED
                }
            };
            settled.push((claimed.id, how));
        }
        queue.settle(LANES[lane], settled);
    }

    fn redrive(&mut self, queue: &LocalQueue<String>) {
        let lane = self.random.usize(..2);
        let letters = queue.dead_letters(LANES[lane], None, 1000);
        for letter in &letters {
            assert!(
                letter.payload.is_some(),
                "{}: the call of {:?} is gone: {}",
                LANES[lane],
                letter.id,
                letter.dead.code
            );
        }
        let mut ids: Vec<Id> = Vec::new();
        for letter in letters {
            if self.random.u32(..3) == 0 {
                ids.push(letter.id);
                let n = letter.payload.unwrap().strip_prefix("call ").unwrap().parse().unwrap();
                self.books[lane].reopened.insert(n);
            }
        }
        let whole = self.random.bool();
        queue.redrive(LANES[lane], &ids, whole);
    }

    fn toggle(&mut self, queue: &LocalQueue<String>) {
        if self.full.load(Ordering::SeqCst) {
            return;
        }
        queue.set_lanes(&["a".to_owned()]).unwrap();
        assert!(queue.counts("b").is_none());
        queue.set_lanes(&LANES.map(str::to_owned)).unwrap();
        self.books[1].written_off.extend(&self.accepted);
        self.books[1].held.clear();
    }

    async fn append(&mut self, queue: &LocalQueue<String>) {
        let block = self.next..self.next + self.random.u64(1..30);
        self.next = block.end;
        if self.random.u32(..8) == 0 {
            self.disk.fail_writes(1);
        }
        if queue.append(many(block.clone(), USERS)).await.is_ok() {
            self.accepted.extend(block);
        }
    }
}

async fn storm(seed: u64) {
    let mut storm = Storm {
        random: fastrand::Rng::with_seed(seed),
        dir: tempfile::tempdir().unwrap(),
        disk: FaultyFiles::new(seed),
        full: Arc::default(),
        ahead: Arc::default(),
        accepted: Vec::new(),
        next: 0,
        books: Default::default(),
    };
    for _ in 0..4 {
        let queue = storm.open();
        let steps = storm.random.usize(5..120);
        for _ in 0..steps {
            storm.step(&queue).await;
        }
        if storm.random.bool() {
            storm.disk.kill()
        } else {
            storm.disk.cut_power()
        }
        drop(queue);
        storm.full.store(false, Ordering::SeqCst);
        storm.books.iter_mut().for_each(|book| book.held.clear());
    }
    let queue = storm.open();
    for (lane, name) in LANES.into_iter().enumerate() {
        for _ in 0..100_000 {
            storm.ahead.fetch_add(1000, Ordering::SeqCst);
            let counts = queue.counts(name).unwrap();
            if counts.unfinished == 0 {
                break;
            }
            if let Ok(claimed) =
                tokio::time::timeout(Duration::from_millis(200), queue.claim(name, 100)).await
            {
                storm.take(lane, claimed.clone());
                storm.books[lane].held.clear();
                storm.books[lane].ended.extend(claimed.iter().map(|one| (number(one), true)));
                queue.settle(name, done(&claimed));
            }
            assert!(queue.shared.keeper().checkpoint(&queue.shared));
        }
        let counts = queue.counts(name).unwrap();
        assert_eq!(counts.unfinished, 0, "{name} {counts:?}");
        assert!(queue.shared.keeper().checkpoint(&queue.shared));
        let lost: Vec<_> =
            counts.finished.iter().filter(|(code, n)| *code == Code::Dead("lost".into()) && *n > 0).collect();
        assert!(lost.is_empty(), "{name} {counts:?} of {}", storm.accepted.len());
        let letters = queue.dead_letters(name, None, usize::MAX).len() as u64;
        let dead: u64 =
            counts.finished.iter().filter(|(code, _)| matches!(code, Code::Dead(_))).map(|(_, n)| n).sum();
        assert_eq!(letters, dead, "{name} {counts:?}");
        let all: u64 = counts.finished.iter().map(|(_, n)| n).sum();
        if lane == 0 {
            assert_eq!(all, queue.shared.tail.total().1, "{name} {counts:?}");
            let missing: Vec<_> =
                storm.accepted.iter().filter(|n| !storm.books[0].ended.contains_key(n)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
        // What is written of each call that the journal has adds up.
        let cell = queue.shared.lane(name).unwrap();
        for (head, _) in queue.shared.journal.read(0, usize::MAX).unwrap() {
            let state = queue.shared.store.outcome(cell.id, head.seq).unwrap();
            let open = state == codes::UNREAD;
            assert!(!open || lane == 1, "{name}: nothing is written of {}", head.seq);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_nor_overtaken_in_a_storm() {
    for seed in 0..8 {
        storm(seed).await;
    }
}

#[tokio::test]
async fn what_was_redriven_meanwhile_has_overtaken_an_older_letter_however_many_calls_came_since() {
    let place = dir(|_| {});
    let queue = place.open(&["a"]);
    let mut calls = vec![
        ("hello", 7, rejected()),
        ("size=1", 7, rejected()),
        ("size=2", 7, rejected()),
        ("other", 8, rejected()),
    ];
    let since: Vec<String> = (0..300).map(|n| format!("n{n}=1")).collect();
    calls.extend(since.iter().map(|call| (call.as_str(), 7, rejected())));
    let ids = live(&queue, calls).await;
    // Another user's is tried again for a while.
    assert_eq!(queue.redrive("a", &[ids[3]], false), 1);
    let other = claim(&queue, "a", 1).await.remove(0);
    let at_ms = place.now_ms() + 3_600_000;
    queue.settle("a", vec![(other.id, Settled::Later { at_ms, since_ms: 0, reason: "busy".into() })]);
    for number in [0, 2] {
        assert_eq!(queue.redrive("a", &[ids[number]], false), 1);
        let again = claim(&queue, "a", 1).await.remove(0);
        assert_eq!(again.id, ids[number]);
        queue.settle("a", vec![(again.id, DELIVERED)]);
    }
    assert_eq!(queue.redrive("a", &[ids[1]], false), 1);
    let first = claim(&queue, "a", 1).await.remove(0);
    assert_eq!((first.payload.as_str(), first.later), ("size=1", vec!["size=2".to_owned()]));
}

#[tokio::test]
async fn a_backlog_that_was_delivered_since_has_overtaken_a_letter() {
    let place = dir(|_| {});
    let queue = place.open(&["a"]);
    let calls = vec![("hello", 7, rejected()), ("size=1", 7, rejected()), ("other", 8, rejected())];
    let ids = live(&queue, calls).await;
    queue.append(vec![entry("size=2", 7, 1_000)]).await.unwrap();
    for n in 0..230 {
        queue.append(vec![entry("color=blue", 7, 2_000 + n)]).await.unwrap();
    }
    for n in 0..100 {
        queue.append(vec![entry("color=red", 7, 3_000 + n)]).await.unwrap();
    }
    assert_eq!(queue.redrive("a", &[ids[0], ids[2]], false), 2);
    let mut left = 333;
    while left > 0 {
        for one in claim(&queue, "a", 1).await {
            let later = one.payload == "other";
            let at_ms = place.now_ms() + 3_600_000;
            let busy = Settled::Later { at_ms, since_ms: 0, reason: "busy".into() };
            queue.settle("a", vec![(one.id, if later { busy } else { DELIVERED })]);
            left -= 1;
        }
    }
    assert_eq!(queue.redrive("a", &[ids[1]], false), 1);
    let first = claim(&queue, "a", 1).await.remove(0);
    assert_eq!((first.payload.as_str(), first.later.first().map(String::as_str)), ("size=1", Some("size=2")));
}

#[tokio::test]
async fn after_a_crash_a_redriven_letter_knows_what_has_overtaken_it() {
    let place = dir(|_| {});
    let queue = place.open(&["a"]);
    let ids = live(&queue, vec![("size=1", 7, rejected())]).await;
    let fill = |range: std::ops::Range<u64>| -> Vec<Entry<String>> {
        range.map(|n| entry(&format!("call {n}"), 1_000 + n, 1_000 + n)).collect()
    };
    let mut calls = fill(0..4200);
    calls.push(entry("waits", 8, 500));
    calls.extend(fill(4200..9000));
    calls.push(entry("size=2", 7, 501));
    calls.extend(fill(9000..10_000));
    let mut left = calls.len();
    for block in calls.chunks(250) {
        queue.append(block.to_vec()).await.unwrap();
    }
    while left > 0 {
        let claimed = claim(&queue, "a", left.min(1000)).await;
        left -= claimed.len();
        let at_ms = place.now_ms() + 3_600_000;
        let later = || Settled::Later { at_ms, since_ms: 0, reason: "busy".into() };
        let how = |one: &Claimed<String>| if one.payload == "waits" { later() } else { DELIVERED };
        queue.settle("a", claimed.iter().map(|one| (one.id, how(one))).collect());
    }
    let before = queue.later_of("a", ids[0]);
    assert_eq!(before.len(), 1);
    assert_eq!(queue.redrive("a", &[ids[0]], false), 1);
    drop(queue);

    let queue = place.open(&["a"]);
    let first = claim(&queue, "a", 1).await.remove(0);
    assert_eq!((first.payload.as_str(), first.later), ("size=1", vec!["size=2".to_owned()]));
}

/// What was read for a delivery that was given up before it was handed out is out of date when it is redriven.
#[tokio::test]
async fn what_was_read_before_a_delivery_was_given_up_is_not_handed_out_after_its_redrive() {
    let place = dir(|options| {
        options.tail_bytes = 100;
        options.behind_bytes = 0;
    });
    let queue = place.open(&["a"]);
    let calls: Vec<_> = (0..20).map(|n| entry(&format!("size=1 of {n}"), n, n)).collect();
    queue.append(calls).await.unwrap();
    // They wait until nothing of them is in memory any more.
    let claimed = claim(&queue, "a", 20).await;
    let wait = Settled::Wait { at_ms: place.now_ms() + 60_000 };
    queue.settle("a", claimed.iter().map(|one| (one.id, wait.clone())).collect());
    queue.append(many(1000..3000, u64::MAX)).await.unwrap();
    let mut left = 2000;
    while left > 0 {
        let claimed = claim(&queue, "a", 100).await;
        left -= claimed.len();
        queue.settle("a", done(&claimed));
    }
    place.advance(60_000);
    // One is handed out; the others were read with it.
    let claimed = claim(&queue, "a", 1).await;
    queue.settle("a", done(&claimed));
    queue.set_limits("a", crate::queue::LaneLimits { max_backlog: Some(0) });
    while queue.counts("a").unwrap().unfinished > 0 {
        queue.shared.shed(&queue.shared.lane("a").unwrap());
        tokio::task::yield_now().await;
    }
    queue.set_limits("a", crate::queue::LaneLimits::default());
    append(&queue, "size=2", 5).await;
    let newer = claim(&queue, "a", 1).await;
    assert_eq!(names(&newer), ["size=2"]);
    queue.settle("a", done(&newer));
    let letters = queue.dead_letters("a", None, 100);
    let letter = letters.iter().find(|letter| letter.payload.as_deref() == Some("size=1 of 5")).unwrap();
    assert_eq!(queue.redrive("a", &[letter.id], false), 1);
    let again = claim(&queue, "a", 1).await.remove(0);
    assert_eq!((again.payload.as_str(), again.later), ("size=1 of 5", vec!["size=2".to_owned()]));
}

/// Letters that are sent whole never ask for a trail.
#[tokio::test]
async fn what_is_kept_of_redrives_does_not_grow_with_the_letters_that_are_sent_whole() {
    let place = dir(|_| {});
    let queue = place.open(&["a"]);
    let texts: Vec<String> = (0..40).map(|n| format!("call {n}")).collect();
    let calls = texts.iter().zip(1000..).map(|(text, key)| (text.as_str(), key, rejected()));
    let ids = live(&queue, calls.collect()).await;
    assert_eq!(queue.redrive("a", &ids[..1], true), 1, "this one stays open");
    let first = claim(&queue, "a", 1).await.remove(0);
    let at_ms = place.now_ms() + 3_600_000;
    queue.settle("a", vec![(first.id, Settled::Later { at_ms, since_ms: 0, reason: "busy".into() })]);
    for id in &ids[1..] {
        assert_eq!(queue.redrive("a", &[*id], true), 1);
        let claimed = claim(&queue, "a", 1).await;
        queue.settle("a", done(&claimed));
    }
    assert_eq!(queue.shared.lane("a").unwrap().reopened.lock().unwrap().len(), 0);
}
