//! A lane against a model: random appends, claims, outcomes, checkpoints, failures to write, and crashes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::redrive::Letter;
use super::*;
use crate::queue::codes::{FIRST_FREE, REMOVED, SUBMITTED, SUPPRESSED};
use crate::queue::left::Found;

const BACKLOG: u8 = FIRST_FREE;
/// The number of a dead letter's code.
const DEAD: u8 = FIRST_FREE + 1;

#[derive(Clone, Debug)]
enum Op {
    Append {
        key: u64,
        gap: u64,
    },
    TakeIn(usize),
    Claim(usize),
    Done(usize, u8),
    Later(usize, i64),
    Release(usize),
    /// And whether the journal does not have the call any more.
    Redrive(usize, bool),
    Wait(usize, i64),
    GiveBack,
    Search(usize),
    Shed(usize),
    Tick(i64),
    Checkpoint,
    /// The journal lets go of what the lane does not need, but for what it holds.
    LetGo,
    /// The journal asks the lane to go past what is so far behind its beginning.
    MakeWay(u64),
    /// The state cannot be written from now on, or again.
    Fail,
    /// Removed and added again, the calls between not being for it.
    Toggle(u64),
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u64..5, prop_oneof![8 => Just(0u64), 1 => 1u64..3, 1 => 3u64..40])
            .prop_map(|(key, gap)| Op::Append { key, gap }),
        4 => (1usize..12).prop_map(Op::TakeIn),
        4 => (1usize..5).prop_map(Op::Claim),
        5 => (0usize..8, prop_oneof![Just(DELIVERED), Just(SUBMITTED), Just(SUPPRESSED), Just(DEAD), Just(DEAD)])
            .prop_map(|(which, code)| Op::Done(which, code)),
        4 => (0usize..8, prop_oneof![1i64..900, 1001i64..9000]).prop_map(|(which, wait)| Op::Later(which, wait)),
        1 => (0usize..8).prop_map(Op::Release),
        3 => (0usize..8, any::<bool>()).prop_map(|(which, gone)| Op::Redrive(which, gone)),
        1 => (0usize..8, 1i64..900).prop_map(|(which, wait)| Op::Wait(which, wait)),
        1 => Just(Op::GiveBack),
        3 => (1usize..6).prop_map(Op::Search),
        1 => (1usize..6).prop_map(Op::Shed),
        2 => (1i64..3000).prop_map(Op::Tick),
        2 => Just(Op::Checkpoint),
        2 => Just(Op::LetGo),
        2 => (1u64..60).prop_map(Op::MakeWay),
        1 => Just(Op::Fail),
        1 => (0u64..6).prop_map(Op::Toggle),
        1 => Just(Op::Crash),
    ]
}

/// The truth: what was appended, and what became of it.
struct World {
    lane: Lane,
    disk: Disk,
    begin: u64,
    journal: Vec<(u64, u64)>,
    next_seq: u64,
    now: i64,
    in_flight: BTreeMap<u64, u64>,
    final_now: BTreeMap<u64, u8>,
    final_on_disk: BTreeMap<u64, u8>,
    attempts: BTreeMap<u64, u32>,
    /// The most attempts that were written down.
    attempts_on_disk: BTreeMap<u64, u32>,
    due: BTreeMap<u64, i64>,
    /// Calls that only the rows of their deliveries know.
    gone: BTreeSet<u64>,
    /// What the journal has let go of: everything below, but for these.
    trimmed: (u64, BTreeSet<u64>),
    /// Deliveries that had been tried when an earlier one was opened again: they go first.
    begun: BTreeSet<u64>,
    /// What could not be written, while it cannot be.
    pending: Option<Delta>,
    fails: bool,
    /// Those that were left when the lane was removed: nobody knows which they were.
    unknown: BTreeSet<u64>,
}

impl World {
    fn new(start: u64, begin: u64) -> Self {
        let mut world = Self {
            lane: Lane::new(TINY, start, begin),
            disk: Disk::default(),
            begin,
            journal: Vec::new(),
            next_seq: start,
            now: 1_000_000,
            in_flight: BTreeMap::new(),
            final_now: BTreeMap::new(),
            final_on_disk: BTreeMap::new(),
            attempts: BTreeMap::new(),
            attempts_on_disk: BTreeMap::new(),
            due: BTreeMap::new(),
            gone: BTreeSet::new(),
            trimmed: (0, BTreeSet::new()),
            begun: BTreeSet::new(),
            pending: None,
            fails: false,
            unknown: BTreeSet::new(),
        };
        world.checkpoint();
        world
    }

    fn journalled(&self) -> u64 {
        self.begin + self.journal.len() as u64
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Append { key, gap } => {
                self.next_seq += gap;
                self.journal.push((self.next_seq, key));
                self.next_seq += 1;
            }
            Op::TakeIn(count) => self.take_in(count),
            Op::Claim(count) => {
                for _ in 0..count {
                    self.claim();
                }
            }
            Op::Done(which, code) => self.with_flying(which, |world, seq| world.done(seq, code)),
            Op::Later(which, wait) => self.with_flying(which, |world, seq| {
                assert!(world.lane.later(seq, again(world.now + wait), world.now));
                world.in_flight.remove(&seq);
                world.due.insert(seq, world.now + wait);
                *world.attempts.entry(seq).or_default() += 1;
            }),
            Op::Release(which) => self.with_flying(which, |world, seq| {
                assert!(world.lane.release(seq));
                world.in_flight.remove(&seq);
            }),
            Op::Redrive(which, gone) => self.redrive(which, gone),
            Op::Wait(which, wait) => self.with_flying(which, |world, seq| {
                assert!(world.lane.wait(seq, world.now + wait));
                world.in_flight.remove(&seq);
                world.due.insert(seq, world.now + wait);
            }),
            Op::GiveBack => {
                assert_eq!(self.lane.give_back(), self.in_flight.len());
                self.in_flight.clear();
            }
            Op::Search(block) => drop(self.search(block)),
            Op::Shed(count) => self.shed(count),
            Op::Tick(ms) => self.now += ms,
            Op::Checkpoint => self.checkpoint(),
            Op::LetGo => self.let_go(),
            Op::MakeWay(far) => drop(self.lane.park_below(self.lane.window.base() + far)),
            Op::Fail => self.fails = !self.fails,
            Op::Toggle(between) => self.toggle(between),
            Op::Crash => self.crash(),
        }
        self.check();
    }

    fn with_flying(&mut self, which: usize, act: impl FnOnce(&mut Self, u64)) {
        if let Some(seq) = self.in_flight.keys().nth(which % self.in_flight.len().max(1)).copied() {
            act(self, seq);
        }
    }

    fn done(&mut self, seq: u64, code: u8) {
        let attempts = self.attempts.get(&seq).copied().unwrap_or_default() + 1;
        assert_eq!(self.lane.done(seq, code), Some(attempts));
        assert_eq!(self.lane.done(seq, code), None, "a delivery ends once");
        self.in_flight.remove(&seq);
        self.final_now.insert(seq, code);
    }

    fn redrive(&mut self, which: usize, gone: bool) {
        let dead: Vec<u64> =
            self.final_now.iter().filter(|(_, code)| **code == DEAD).map(|(seq, _)| *seq).collect();
        let Some(seq) = dead.get(which % dead.len().max(1)).copied() else { return };
        let key = self.journal.iter().find(|(at, _)| *at == seq).unwrap().1;
        let letter = Letter { seq, number: DEAD, order_key: key, received_at_ms: seq as i64, whole: false };
        if !self.lane.redrive(letter) {
            return;
        }
        assert!(!self.lane.redrive(letter), "it is open");
        assert!(self.lane.is_to_be_reduced(seq));
        if gone && self.final_on_disk.contains_key(&seq) {
            self.gone.insert(seq);
        }
        self.final_now.remove(&seq);
        self.attempts.remove(&seq);
        self.due.remove(&seq);
        let later = self.journal.iter().filter(|(at, other)| *other == key && *at > seq).map(|(at, _)| *at);
        let waits = |at: &u64| {
            self.lane.gates.get(&key).is_some_and(|gate| gate.head == *at && gate.phase == Phase::Retry)
        };
        let begun =
            later.filter(|at| self.in_flight.contains_key(at) || self.attempts.contains_key(at) || waits(at));
        self.begun.extend(begun);
        // One that the lane has not come to since a crash joins behind it and begins anew.
        for (at, other) in self.journal.iter().filter(|(at, _)| *at >= self.lane.next()) {
            if *other == key {
                self.attempts.remove(at);
                self.due.remove(at);
            }
        }
    }

    fn take_in(&mut self, count: usize) {
        let next = self.lane.next();
        let there = self
            .journal
            .iter()
            .filter(|(seq, _)| *seq >= next.max(self.trimmed.0) && !self.gone.contains(seq));
        for (seq, key) in there.take(count) {
            if !self.lane.take_in(*seq, *key, *seq as i64) {
                return;
            }
        }
        if count == usize::MAX {
            self.lane.pass_to(self.next_seq);
        }
    }

    /// Reads a block of the journal again, if that is wanted.
    fn search(&mut self, block: usize) -> bool {
        let Some(search) = self.lane.search() else { return false };
        let (below, kept) = &self.trimmed;
        let is_there = |seq: &u64| seq >= below || kept.contains(seq);
        let there = self.journal.iter().filter(|(seq, _)| *seq >= search.from && is_there(seq));
        let block: Vec<_> = there.take(block).collect();
        let mut found =
            Found { events: Vec::new(), next: block.last().map_or(search.to, |(seq, _)| seq + 1) };
        for (seq, _) in block.iter().filter(|(seq, key)| *key == search.order_key && *seq < search.to) {
            if found.events.len() == search.max {
                found.next = *seq;
                break;
            }
            found.events.push((*seq, *seq as i64));
        }
        self.lane.take_back(search, found);
        true
    }

    /// Exactly the oldest that are not in flight are ended, of those that are not left in the journal.
    fn shed(&mut self, count: usize) {
        let left = self.lane.left.values().map(|left| left.from).min().unwrap_or(u64::MAX);
        let known = self.journal.iter().map(|(seq, _)| *seq).filter(|seq| *seq < self.lane.next().min(left));
        let is_idle = |seq: &u64| {
            !self.final_now.contains_key(seq)
                && !self.in_flight.contains_key(seq)
                && !self.lane.redriven.contains_key(seq)
        };
        let oldest: Vec<_> = known.filter(is_idle).take(count).collect();
        let shed = self.lane.shed(count, BACKLOG);
        assert_eq!(shed.iter().map(|shed| shed.seq).collect::<Vec<_>>(), oldest);
        for seq in oldest {
            self.final_now.insert(seq, BACKLOG);
            self.due.remove(&seq);
        }
    }

    fn claim(&mut self) -> Option<u64> {
        self.lane.wake_due(self.now);
        let claim = self.lane.claim(self.now)?;
        let seq = claim.seq;
        let key = self.journal.iter().find(|(at, _)| *at == seq).unwrap().1;
        assert_eq!(claim.order_key, key);
        assert!(!self.final_now.contains_key(&seq), "{seq} was final");
        for (earlier, _) in self.journal.iter().filter(|(at, other)| *other == key && *at < seq) {
            let may = self.begun.contains(&seq);
            assert!(may || self.final_now.contains_key(earlier), "{seq} overtook {earlier}");
        }
        assert!(self.in_flight.insert(seq, key).is_none(), "{seq} was in flight");
        let known = self.attempts.get(&seq).copied().unwrap_or_default();
        // One that had been tried begins anew where an earlier one was opened again, or goes on where the lane came to
        // it only after that one had ended.
        let written = self.attempts_on_disk.get(&seq).copied().unwrap_or_default();
        assert!(
            claim.attempt == known + 1 || (known == 0 && claim.attempt <= written + 1),
            "{seq}: {claim:?}"
        );
        if claim.attempt > 1 {
            self.attempts.insert(seq, claim.attempt - 1);
        }
        assert!(self.due.remove(&seq).is_none_or(|due| due <= self.now), "{seq} was not due");
        Some(seq)
    }

    fn checkpoint(&mut self) {
        if let Some(delta) = self.lane.checkpoint() {
            self.pending.get_or_insert_default().absorb(delta);
        }
        if self.fails {
            return;
        }
        if let Some(delta) = self.pending.take() {
            self.disk.write(delta, TINY.shape);
        }
        self.final_on_disk = self.final_now.clone();
        for (seq, attempts) in &self.attempts {
            let most = self.attempts_on_disk.entry(*seq).or_default();
            *most = (*most).max(*attempts);
        }
        assert_eq!(self.lane.checkpoint(), None, "nothing changed since");
    }

    fn let_go(&mut self) {
        if self.fails {
            return;
        }
        let below = self.disk.needed;
        let held = self.lane.held_below(below);
        self.checkpoint();
        let (before, kept) = &self.trimmed;
        let there = self.journal.iter().filter(|(seq, _)| *seq >= *before || kept.contains(seq));
        let needed = there.filter(|(seq, _)| *seq < below && !self.final_on_disk.contains_key(seq));
        let needed: BTreeMap<u64, u64> = needed.copied().collect();
        for (seq, key) in &needed {
            assert!(held.has(*seq, *key), "{seq} is not finished and would be gone");
        }
        self.trimmed = (below.max(*before), needed.into_keys().collect());
    }

    fn toggle(&mut self, between: u64) {
        self.fails = false;
        let base = self.lane.window.base();
        let kept_out: BTreeMap<u64, u64> =
            self.lane.left.iter().map(|(key, left)| (*key, left.from)).collect();
        self.lane.end_all(self.next_seq, self.journalled(), REMOVED);
        for (seq, key) in &self.journal {
            if !self.final_now.contains_key(seq) {
                self.final_now.insert(*seq, REMOVED);
                if *seq < base && kept_out.get(key).is_some_and(|from| from <= seq) {
                    self.unknown.insert(*seq);
                }
            }
        }
        self.in_flight.clear();
        self.checkpoint();
        let mut saved = self.lane.saved();
        self.begin += between;
        self.next_seq += between;
        saved.base = self.next_seq;
        saved.begin = self.journalled() - saved.counts.values().sum::<u64>();
        self.disk.saved.base = saved.base;
        self.disk.saved.begin = saved.begin;
        self.lane = Lane::resume(TINY, saved);
        self.attempts.clear();
        self.due.clear();
        self.begun.clear();
        self.gone.clear();
        self.attempts_on_disk.clear();
        self.checkpoint();
    }

    fn crash(&mut self) {
        self.pending = None;
        self.lane = Lane::resume(TINY, self.disk.saved(TINY.shape));
        self.in_flight.clear();
        self.due.clear();
        self.final_now = self.final_on_disk.clone();
        let rows = &self.disk.saved.rows;
        let rows = rows.iter().filter(|(_, row)| row.is_delivery());
        self.attempts = rows.clone().map(|(seq, row)| (*seq, row.attempts)).collect();
        for (seq, row) in rows {
            let known = self.attempts_on_disk.get(seq).copied().unwrap_or_default();
            assert!(row.attempts <= known, "{seq}: attempts that were not made");
            if row.attempts > 0 {
                self.due.insert(*seq, row.due_at_ms);
            }
        }
        // What had been tried waits behind an earlier one that was opened again since, and begins anew after it.
        for (seq, key) in &self.journal {
            let is_open = |at: &u64| !self.final_now.contains_key(at);
            let mut earlier = self.journal.iter().filter(|(at, other)| other == key && at < seq);
            if earlier.any(|(at, _)| is_open(at)) {
                self.attempts.remove(seq);
                self.due.remove(seq);
            }
        }
    }

    fn check(&mut self) {
        let unfinished =
            self.journal.iter().filter(|(seq, _)| !self.final_now.contains_key(seq)).count() as u64;
        assert_eq!(self.lane.unfinished(self.journalled()), unfinished);
        assert_eq!(self.lane.counts().values().sum::<u64>(), self.final_now.len() as u64);
        assert_eq!(self.lane.in_flight(), self.in_flight.len() as u64);
        // Those opened again come on top, and what is read again of five keys.
        assert!(self.lane.parked() <= TINY.parked + TINY.parked.div_ceil(2) + 5 * TINY.behind);
        assert!(self.lane.gates.values().all(|gate| gate.behind.len() <= TINY.behind + TINY.parked));
        let retrying = self.lane.gates.values().filter(|gate| gate.phase == Phase::Retry).count() as u64;
        assert_eq!(self.lane.retrying(), retrying);
        let ready = self.lane.gates.values().filter(|gate| gate.phase == Phase::Ready).count();
        assert_eq!(self.lane.ready_count(), ready);
        assert!(self.lane.ready().all(|seq| self.lane.is_ready(seq)));
        let keys: BTreeSet<_> = self.in_flight.values().collect();
        assert_eq!(keys.len(), self.in_flight.len(), "two of one order key were in flight");
        let lowest =
            self.journal.iter().find(|(seq, _)| !self.final_now.contains_key(seq)).map(|(seq, _)| *seq);
        let low = self.lane.low();
        assert!(lowest.is_none_or(|lowest| low <= lowest), "{low} is above what is open: {lowest:?}");
    }

    /// Everything left is delivered, whatever state it is in.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            self.take_in(usize::MAX);
            while self.search(3) {}
            while self.claim().is_some() {}
            while let Some(seq) = self.in_flight.keys().next().copied() {
                self.done(seq, DELIVERED);
            }
            self.check();
            self.fails = false;
            self.checkpoint();
            if self.final_now.len() == self.journal.len() {
                return;
            }
            self.now += 1000;
        }
        panic!("stuck: {} of {}", self.final_now.len(), self.journal.len());
    }
}

/// As many as `PROPTEST_CASES` says, or what takes a few seconds.
fn number_of_cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(512)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: number_of_cases(), ..ProptestConfig::default() })]

    #[test]
    fn every_event_ends_once_in_order_and_is_accounted_for(
        start in 1u64..10,
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut world = World::new(start, 3);
        for op in &ops {
            world.step(op);
        }
        world.drain();
        prop_assert_eq!(world.lane.reconcile(world.journalled()), 0);
        prop_assert_eq!(world.lane.open(), 0);
        prop_assert_eq!(world.lane.retrying(), 0);
        prop_assert!(world.disk.saved.rows.is_empty(), "rows stayed: {:?}", world.disk.saved.rows);
        prop_assert!(world.disk.saved.redriven.is_empty(), "marks stayed: {:?}", world.disk.saved.redriven);
        prop_assert_eq!(world.disk.needed, world.lane.next());
        for (seq, code) in &world.final_now {
            let state = world.disk.state(*seq, TINY.shape);
            prop_assert!(state == *code || (world.unknown.contains(seq) && state <= codes::GAP), "of {}: {}", seq, state);
        }
    }

    #[test]
    fn a_removed_lane_leaves_nothing_open(start in 1u64..10, ops in prop::collection::vec(op(), 1..100)) {
        let mut world = World::new(start, 0);
        for op in &ops {
            world.step(op);
        }
        let left = world.journal.len() - world.final_now.len();
        let journalled = world.journalled();
        let base = world.lane.window.base();
        let kept_out: BTreeMap<u64, u64> = world.lane.left.iter().map(|(key, left)| (*key, left.from)).collect();
        prop_assert_eq!(world.lane.end_all(world.next_seq, journalled, REMOVED), left as u64);
        prop_assert_eq!(world.lane.unfinished(journalled), 0);
        world.fails = false;
        world.checkpoint();
        prop_assert!(world.disk.saved.rows.is_empty() && world.disk.saved.redriven.is_empty());
        for (seq, key) in &world.journal {
            // Where it is not known which events were left, they are counted and nothing more.
            let unknown = *seq < base && kept_out.get(key).is_some_and(|from| from <= seq);
            if world.unknown.contains(seq) {
                continue;
            }
            let code = world.final_now.get(seq).copied().unwrap_or(if unknown { UNREAD } else { REMOVED });
            prop_assert_eq!(world.disk.state(*seq, TINY.shape), code, "of {}", seq);
        }
    }
}
