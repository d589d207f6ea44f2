//! Writes the lanes' state down every 50 ms if anything changed, and lets go of what nobody needs any more.
//!
//! It also sees to it that no lane keeps more than it may.
//!
//! When writing fails, what is to be written is kept, and lanes hand out nothing until it is written: so it stays
//! small, and little is sent again after a crash.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Payload;
use super::codes::FIRST_FREE;
use super::delta::Delta;
use super::kept::Room;
use super::shared::{Cell, Shared};
use super::store::Batch;

/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(50);
/// How long after a failure writing is tried again.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// How often at most it is said that a lane keeps more than it may, or that segments stay.
const ALARM_EVERY: Duration = Duration::from_secs(60);
/// How often segments are looked at that may go.
const RETAIN_EVERY: Duration = Duration::from_secs(5);
/// The same while space is short: what may go then is what calls are refused for.
const RETAIN_PRESSED: Duration = Duration::from_millis(250);
/// But looking takes this part of the time at most.
const RETAIN_SHARE: u32 = 20;

/// Tells the keeper's thread that there is something to do.
#[derive(Default)]
pub struct Bell {
    state: Mutex<(bool, bool)>,
    rung: Condvar,
}

impl Bell {
    /// Something changed.
    pub fn changed(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut state.0, true) {
            self.rung.notify_all();
        }
    }

    /// The thread shall end.
    pub fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.rung.notify_all();
    }

    /// Waits for a change, at most so long. Hands out whether there was one; `None` if the thread shall end.
    fn wait(&self, at_most: Duration) -> Option<bool> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rung.wait_timeout_while(state, at_most, |(changed, stop)| !*changed && !*stop);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let changed = std::mem::take(&mut state.0);
        (!state.1).then_some(changed)
    }

    /// Waits so long. `false` if the thread shall end.
    fn pause(&self, time: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rung.wait_timeout_while(state, time, |(_, stop)| !*stop);
        !waited.unwrap_or_else(PoisonError::into_inner).0.1
    }
}

/// What has not been written down yet.
pub struct Keeper {
    batch: Batch,
    next_code: u8,
    /// The last count that was written down, and below which sequence it counts.
    total: (u64, u64),
    pruned_below: u64,
    /// When it was last said that segments stay.
    said_stay: Option<Instant>,
}

impl Keeper {
    /// With the code number that was to be given out next and the count of calls when the state was loaded.
    pub fn new(next_code: u8, total: (u64, u64)) -> Self {
        let next_code = next_code.max(FIRST_FREE);
        Self { batch: Batch::default(), next_code, total, pruned_below: 0, said_stay: None }
    }

    /// Writes down what changed. `false` if that failed; then it is kept for the next time.
    pub fn checkpoint<T: Payload>(&mut self, shared: &Shared<T>) -> bool {
        if shared.broken.load(Ordering::SeqCst) {
            return false;
        }
        let lanes = shared.lanes();
        let (mut low, tail_start) = (u64::MAX, shared.tail.start());
        for lane in &lanes {
            let mut state = lane.state();
            // A lane that is behind, as a run is by its nature, reads from disk.
            if lane.run.is_none() && state.lane.next() >= tail_start {
                low = low.min(state.lane.needed());
            }
            self.batch.dead.extend(state.dead.drain(..).map(|(seq, row)| (lane.id, seq, row)));
            if let Some(delta) = state.lane.checkpoint() {
                self.batch.lanes.entry(lane.id).or_default().absorb(delta);
            }
        }
        // After the lanes: it is never behind what they have seen.
        let total = shared.tail.total();
        shared.tail.drop_below(low.min(total.0));
        let (codes, next_code) = shared.new_codes(self.next_code);
        self.batch.codes = codes;
        self.batch.sources.extend(shared.take_new_sources());
        if self.batch.is_empty() && !shared.stalled.load(Ordering::SeqCst) {
            return true;
        }
        if !self.commit(shared, total) {
            return false;
        }
        let batch = std::mem::take(&mut self.batch);
        self.next_code = next_code;
        let ends_waits = batch.lanes.values().any(Delta::ends_waits);
        if ends_waits || batch.dead.iter().any(|(.., row)| row.is_none()) {
            shared.idle_calls.store(true, Ordering::SeqCst);
        }
        if !batch.sources.is_empty() {
            shared.sources_written();
        }
        for lane in &lanes {
            if let Some(needed) = batch.lanes.get(&lane.id).map(|delta| delta.needed) {
                lane.needs(needed);
            }
        }
        let was_stalled = shared.stalled.swap(false, Ordering::SeqCst);
        if was_stalled {
            tracing::info!("the lanes' state is written down again");
        }
        if was_stalled || batch.lanes.values().any(|delta| !delta.chunks.is_empty()) {
            shared.tail.wake();
        }
        true
    }

    /// Writes down what changed, and how many calls there are, by which the next start tells a torn end from a lost one.
    pub fn finish<T: Payload>(&mut self, shared: &Shared<T>) -> bool {
        let written = self.checkpoint(shared);
        let total = shared.tail.total();
        written && (total == self.total || self.commit(shared, total))
    }

    /// Forgets what was to be written down of a lane.
    pub fn forget(&mut self, lane: u16) {
        self.batch.lanes.remove(&lane);
        self.batch.dead.retain(|(of, ..)| *of != lane);
    }

    fn commit<T>(&mut self, shared: &Shared<T>, total: (u64, u64)) -> bool {
        self.batch.total = Some(total);
        if let Err(error) = shared.store.commit(&self.batch) {
            if !shared.stalled.swap(true, Ordering::SeqCst) {
                tracing::error!(%error, "the lanes' state cannot be written down; deliveries wait until it can");
            }
            return false;
        }
        self.total = total;
        true
    }

    /// Lets the journal drop segments that no lane needs, and drops the outcomes of what it has dropped.
    pub fn retain<T: Payload>(&mut self, shared: &Shared<T>) {
        shared.lanes().iter().for_each(|cell| cell.forget_trail());
        let total = shared.tail.total();
        let is_stalled = shared.stalled.load(Ordering::SeqCst);
        // Calls can be counted only while the journal has them. Where the disk is full, room is made with what is known.
        let is_counted = total == self.total || (!is_stalled && self.commit(shared, total));
        let counted_to = if is_counted { total.0 } else { self.total.0 };
        if let Err(error) = shared.store.give_room_back() {
            tracing::warn!(%error, "the state file was not made smaller");
        }
        shared.journal.set_beside(shared.store.disk_bytes());
        self.let_go(shared, counted_to);
        let first_seq = shared.journal.first_seq();
        if is_stalled || first_seq <= self.pruned_below {
            return;
        }
        match shared.store.prune(&shared.lane_ids(), self.pruned_below..first_seq) {
            Ok(()) => self.pruned_below = first_seq,
            Err(error) => tracing::warn!(%error, "old outcomes were not deleted"),
        }
    }
}

impl Keeper {
    /// Lets segments go of whose calls all are counted; what is needed of them is kept first.
    fn let_go<T: Payload>(&mut self, shared: &Shared<T>, counted_to: u64) {
        let now_ms = (shared.clock)();
        shared.journal.leave_old(needed(shared, counted_to), now_ms);
        if let Err(error) = shared.forget_calls(|| self.checkpoint(shared)) {
            tracing::warn!(%error, "kept calls that nothing needs any more were not deleted");
        }
        loop {
            self.make_way(shared, shared.journal.leaves_below(u64::MAX, now_ms));
            let needed = needed(shared, counted_to);
            let below = shared.journal.leaves_below(needed, now_ms);
            let first_seq = shared.journal.first_seq();
            if below <= first_seq {
                return;
            }
            let room = Room::of(shared.journal.max_disk_bytes());
            if let Err(error) = shared.keep_calls_below(below, room, &mut || self.checkpoint(shared)) {
                if self.said_stay.is_none_or(|said| said.elapsed() >= ALARM_EVERY) {
                    tracing::warn!(%error, "segments stay: calls in them cannot be kept");
                    self.said_stay = Some(Instant::now());
                }
                return;
            }
            shared.journal.retain(needed.min(below), now_ms);
            if shared.journal.first_seq() == first_seq {
                return;
            }
        }
    }

    /// Has lanes that only a few waiting deliveries hold below a sequence go past them.
    fn make_way<T: Payload>(&mut self, shared: &Shared<T>, below: u64) {
        let is_held = |lane: &&Arc<Cell<T>>| lane.needed.load(Ordering::SeqCst) < below;
        let lanes = shared.lanes();
        let gone = lanes.iter().filter(is_held).filter(|lane| lane.state().lane.park_below(below)).count();
        if gone > 0 {
            self.checkpoint(shared);
        }
    }
}

/// Below which sequence no lane needs anything of the journal but what can be kept.
fn needed<T>(shared: &Shared<T>, counted_to: u64) -> u64 {
    let lanes = shared.lanes();
    lanes.iter().map(|lane| lane.needed.load(Ordering::SeqCst)).fold(counted_to, u64::min)
}

/// What lanes have given up because they kept more than they may, since it was last said.
#[derive(Default)]
struct Alarm(BTreeMap<u16, (u64, Option<Instant>)>);

impl Alarm {
    fn shed<T>(&mut self, lane: &Cell<T>, more: u64) {
        let (count, said) = self.0.entry(lane.id).or_default();
        *count += more;
        if *count == 0 || said.is_some_and(|said| said.elapsed() < ALARM_EVERY) {
            return;
        }
        tracing::error!(
            lane = lane.name,
            given_up = *count,
            max_backlog = lane.max_backlog.load(Ordering::SeqCst),
            "more calls wait for this destination than `max_backlog` in [destinations.{}.delivery] allows: the oldest \
             are given up, dead for `backlog`; repair the destination, or raise the setting",
            lane.name
        );
        (*count, *said) = (0, Some(Instant::now()));
    }
}

/// Does the thread's work, and what is left to do when that breaks. Going on with a state that may be half of one could lose
/// deliveries, and a restart begins with what is on disk: so lanes get nothing any more, and it is said why.
pub fn watch<T>(shared: &Shared<T>, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        shared.broken.store(true, Ordering::SeqCst);
        shared.stalled.store(true, Ordering::SeqCst);
        tracing::error!(
            "a fault of the program in keeping the lanes' state: calls are accepted, deliveries stand still; restart \
             fanout, and please report this with the lines above"
        );
    }
}

/// How long after segments were looked at they are again, when looking took so long the last time.
fn retain_every(is_pressed: bool, took: Duration) -> Duration {
    if is_pressed { (took * RETAIN_SHARE).clamp(RETAIN_PRESSED, RETAIN_EVERY) } else { RETAIN_EVERY }
}

/// The thread's work: runs until the bell says stop, which is no orderly end.
pub fn run<T: Payload>(shared: &Arc<Shared<T>>) {
    let (mut retained, mut took) = (Instant::now(), Duration::ZERO);
    let mut alarm = Alarm::default();
    loop {
        let failed = shared.stalled.load(Ordering::SeqCst);
        let retain_every = retain_every(shared.journal.is_pressed(), took);
        let Some(changed) = shared.bell.wait(if failed { AFTER_FAILURE } else { retain_every }) else {
            return;
        };
        if (changed || failed) && !shared.bell.pause(if failed { AFTER_FAILURE } else { GATHER }) {
            return;
        }
        for lane in shared.lanes() {
            let (ended, more) = shared.shed(&lane);
            alarm.shed(&lane, ended);
            if more {
                shared.bell.changed();
            }
        }
        let mut keeper = shared.keeper();
        keeper.checkpoint(shared);
        if retained.elapsed() >= retain_every {
            let begins = Instant::now();
            keeper.retain(shared);
            shared.blocks.tidy();
            retained = Instant::now();
            took = retained - begins;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::queue::codes::{DELIVERED, UNREAD};
    use crate::queue::delta::Saved;
    use crate::queue::faults::FaultyFiles;
    use crate::queue::feed::Step;
    use crate::queue::journal::{self, Journal};
    use crate::queue::lane::Limits;
    use crate::queue::record::Head;
    use crate::queue::shared::Parts;
    use crate::queue::store::SavedLane;
    use crate::queue::store::tests::store_that_fills;
    use crate::queue::tail::{Fresh, Tail};
    use crate::queue::window::Shape;
    use crate::queue::{Code, Dead, Id, Settled};

    impl Payload for u64 {
        fn held_bytes(&self) -> usize {
            0
        }
    }

    fn shared(path: &std::path::Path, full: &Arc<AtomicBool>) -> Shared<u64> {
        let files = Arc::new(FaultyFiles::new(1));
        let options = journal::Options::new("/data");
        let (journal, _) = Journal::open(files, options, 0, Box::new(|_| {})).unwrap();
        let store = store_that_fills(path, full);
        let shared = Shared::new(Parts {
            journal,
            loaded: store.load().unwrap(),
            store,
            tail: Arc::new(Tail::new(1, 0, 1 << 20)),
            clock: Arc::new(|| 0),
            decode: Arc::new(|_, _| None),
            limits: Limits { shape: Shape::of_events(8192), parked: 10, behind: 4 },
            behind_bytes: 1000,
        });
        shared.set_lanes(&["a".to_owned()]).unwrap();
        shared
    }

    fn head(seq: u64) -> Head {
        Head { seq, source: 0, received_at_ms: 0, kind: 0, order_key: seq, message_key: seq }
    }

    #[test]
    fn looking_for_segments_that_may_go_takes_a_small_part_of_the_time() {
        let ms = Duration::from_millis;
        for (is_pressed, took, every) in
            [(false, 0, 5000), (true, 0, 250), (true, 12, 250), (true, 100, 2000), (true, 3000, 5000)]
        {
            assert_eq!(retain_every(is_pressed, ms(took)), ms(every));
        }
    }

    #[test]
    fn what_could_not_be_written_is_written_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let full = Arc::new(AtomicBool::new(false));
        let shared = shared(&path, &full);
        shared.tail.add((1..4).map(|seq| (head(seq), Fresh { payload: seq, held_bytes: 1 })).collect());
        let cell = shared.lane("a").unwrap();
        assert!(matches!(shared.step(&cell, 10), Step::Out(out) if out.len() == 3));
        assert!(shared.keeper().checkpoint(&shared));

        full.store(true, Ordering::SeqCst);
        let dead = Dead { code: "rejected".into(), reason: "no".into(), attempts: 1, ..Dead::default() };
        shared.settle(&cell, vec![(Id(1), Settled::Done(Code::Delivered))]);
        assert!(!shared.keeper().checkpoint(&shared));
        shared.settle(&cell, vec![(Id(2), Settled::Dead(dead))]);
        assert!(!shared.keeper().checkpoint(&shared), "nor the second time");
        assert!(shared.stalled.load(Ordering::SeqCst));
        assert_eq!(cell.needed.load(Ordering::SeqCst), 1, "a crash now would need them again");

        full.store(false, Ordering::SeqCst);
        assert!(shared.keeper().checkpoint(&shared));
        assert!(!shared.stalled.load(Ordering::SeqCst));
        assert_eq!(cell.needed.load(Ordering::SeqCst), 3);
        let states = [1, 2, 3].map(|seq| shared.store.outcome(1, seq).unwrap());
        assert_eq!(states, [DELIVERED, FIRST_FREE, UNREAD]);
        assert_eq!(shared.store.dead(1, 0, 10).unwrap().len(), 1);
        let loaded = shared.store.load().unwrap();
        assert_eq!(loaded.codes, [(FIRST_FREE, Code::Dead("rejected".into()))].into());
        assert_eq!(loaded.total, (4, 3));
        let [SavedLane { saved: Saved { counts, .. }, .. }] = &loaded.lanes[..] else { panic!("{loaded:?}") };
        assert_eq!(*counts, [(DELIVERED, 1), (FIRST_FREE, 1)].into());
    }

    #[test]
    fn a_source_whose_number_is_not_written_down_is_not_heard() {
        let dir = tempfile::tempdir().unwrap();
        let full = Arc::new(AtomicBool::new(false));
        let shared = shared(&dir.path().join("state"), &full);
        let known = shared.source_id("known");
        full.store(true, Ordering::SeqCst);
        let new = shared.source_id("new");
        assert_ne!(known, new);
        assert_eq!(shared.source_id("new"), new);
        assert!(shared.check_source(known).is_ok(), "its calls can be taken");
        let error = shared.check_source(new).unwrap_err().to_string();
        assert!(error.contains("state.redb"), "{error}");
        assert!(!shared.keeper().checkpoint(&shared));
        let newer = shared.source_id("newer");
        assert!(shared.check_source(new).is_err() && shared.check_source(newer).is_err());

        full.store(false, Ordering::SeqCst);
        assert!(shared.keeper().checkpoint(&shared));
        assert!(shared.check_source(new).is_ok() && shared.check_source(newer).is_ok());
        let names = shared.store.load().unwrap().sources;
        assert_eq!(
            (names.get(&new), names.get(&newer)),
            (Some(&"new".to_owned()), Some(&"newer".to_owned()))
        );
    }

    #[test]
    fn calls_are_counted_before_the_journal_lets_go_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let shared = shared(&path, &Arc::default());
        shared.set_lanes(&[]).unwrap();
        shared.tail.add((1..4).map(|seq| (head(seq), Fresh { payload: seq, held_bytes: 1 })).collect());
        let mut keeper = shared.keeper();
        assert!(keeper.checkpoint(&shared));
        keeper.retain(&shared);
        assert_eq!(shared.store.load().unwrap().total, (4, 3));
    }

    #[test]
    fn lanes_go_on_when_only_the_count_of_calls_could_not_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let full = Arc::new(AtomicBool::new(false));
        let shared = shared(&dir.path().join("state"), &full);
        assert!(shared.keeper().checkpoint(&shared));
        // A call comes for a lane that is paused, and then there is no room for a while.
        shared.tail.add(vec![(head(1), Fresh { payload: 1, held_bytes: 1 })]);
        full.store(true, Ordering::SeqCst);
        shared.keeper().retain(&shared);
        full.store(false, Ordering::SeqCst);
        // What the thread does from now on.
        for _ in 0..3 {
            let mut keeper = shared.keeper();
            assert!(keeper.checkpoint(&shared));
            keeper.retain(&shared);
        }
        let cell = shared.lane("a").unwrap();
        assert!(
            matches!(shared.step(&cell, 10), Step::Out(out) if out.len() == 1),
            "stalled: {}",
            shared.stalled.load(Ordering::SeqCst)
        );
    }

    #[test]
    fn lanes_that_got_nothing_more_get_nothing_though_somebody_looks_at_dead_letters() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(&dir.path().join("state"), &Arc::default());
        shared.tail.add(vec![(head(1), Fresh { payload: 1, held_bytes: 1 })]);
        watch(&shared, || panic!("as told"));
        let cell = shared.lane("a").unwrap();
        assert!(shared.dead_letters(&cell, None, 10).is_empty());
        assert!(shared.broken.load(Ordering::SeqCst));
        assert!(matches!(shared.step(&cell, 10), Step::Wait(Some(_))));
    }

    #[test]
    fn a_lane_that_was_removed_while_nothing_could_be_written_goes_when_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let full = Arc::new(AtomicBool::new(false));
        let shared = shared(&dir.path().join("state"), &full);
        shared.set_lanes(&["a".to_owned(), "b".to_owned()]).unwrap();
        assert!(shared.keeper().checkpoint(&shared));
        full.store(true, Ordering::SeqCst);
        let removed = shared.set_lanes(&["b".to_owned()]);
        full.store(false, Ordering::SeqCst);
        assert!(shared.keeper().checkpoint(&shared));
        // Otherwise it keeps every later call in the journal, and nobody claims them.
        assert!(removed.is_err() || shared.lane("a").is_none(), "it is said to be removed, and is there");
    }

    #[test]
    fn a_kept_call_that_cannot_be_read_now_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let full = Arc::new(AtomicBool::new(false));
        let shared = shared(&dir.path().join("state"), &full);
        shared.tail.add(vec![(head(1), Fresh { payload: 1, held_bytes: 1 })]);
        let cell = shared.lane("a").unwrap();
        assert!(matches!(shared.step(&cell, 10), Step::Out(out) if out.len() == 1));
        let dead = Dead { code: "rejected".into(), attempts: 1, ..Dead::default() };
        shared.settle(&cell, vec![(Id(1), Settled::Dead(dead))]);
        assert!(shared.keeper().checkpoint(&shared));
        // The journal of this test never had it: it is where the calls of dead letters are.
        shared.store.keep_calls(&[(head(1), Arc::from(&b"{}"[..]))]).unwrap();
        assert_eq!(shared.redrive(&cell, &[Id(1)], false), 1);
        let Step::Fetch(seqs) = shared.step(&cell, 10) else { panic!("nothing to fetch") };
        // A small value of somebody else's cannot be written: the file is closed, and cannot be opened while there is
        // no room.
        full.store(true, Ordering::SeqCst);
        assert!(shared.store.put("other", b"1").is_err());
        let _ = shared.read_for(&cell, Step::Fetch(seqs));
        full.store(false, Ordering::SeqCst);
        let _ = shared.step(&cell, 10);
        let counts = shared.counts(&cell).finished;
        let lost = counts.iter().find(|(code, _)| *code == Code::Dead("lost".into()));
        assert_eq!(lost, None, "{counts:?}");
    }

    #[test]
    fn only_lanes_that_keep_up_hold_the_newest_calls() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(&dir.path().join("state"), &Arc::default());
        shared.set_lanes(&["a".to_owned(), "dark".to_owned()]).unwrap();
        let add = |held_bytes, seqs: std::ops::Range<u64>| {
            shared.tail.add(seqs.map(|seq| (head(seq), Fresh { payload: seq, held_bytes })).collect());
        };
        let cell = shared.lane("a").unwrap();
        let deliver = |expected: usize| {
            let Step::Out(out) = shared.step(&cell, 10) else { panic!("there are some") };
            assert_eq!(out.len(), expected);
            let done = out.iter().map(|claimed| (claimed.id, Settled::Done(Code::Delivered)));
            shared.settle(&cell, done.collect());
            assert!(shared.keeper().checkpoint(&shared));
        };
        add(1, 1..4);
        deliver(3);
        assert_eq!(shared.tail.start(), 1, "the other may want them soon");
        add(1 << 20, 4..5);
        add(1, 5..7);
        assert_eq!(shared.tail.start(), 5, "there was no room for them");
        add(1, 7..8);
        let (tail, journal) = (shared.tail.start(), shared.tail.total().0);
        let newest = shared.tail.read();
        assert!(cell.state().come_to(3, &newest).is_none());
        drop(newest);
        cell.state().add_block(4, tail, vec![(head(4), Some(4), 1)]);
        deliver(4);
        assert_eq!((tail, shared.tail.start()), (5, journal), "the other reads from disk");
    }

    #[test]
    fn a_keeper_that_breaks_is_noticed_and_lanes_get_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(&dir.path().join("state"), &Arc::default());
        shared.tail.add(vec![(head(1), Fresh { payload: 1, held_bytes: 1 })]);
        watch(&shared, || panic!("as told"));
        assert!(shared.broken.load(Ordering::SeqCst));
        let cell = shared.lane("a").unwrap();
        assert!(matches!(shared.step(&cell, 10), Step::Wait(Some(_))));
        assert!(shared.shed(&cell) == (0, false));
        shared.close();
    }
}
