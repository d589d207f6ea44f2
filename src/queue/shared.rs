//! What the local queue and its keeper share: the lanes, the journal, the state, and the steps of a claim that block.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::Notify;

use super::alarm::Alarm;
use super::blocks::Blocks;
use super::codes::{self, Codes};
use super::dead::Trail;
use super::delta::Saved;
use super::feed::{Feed, Step};
use super::journal::Journal;
use super::keeper::{Bell, Keeper};
use super::lane::{Again, Lane, Limits};
use super::local::{Clock, Decode, OpenError};
use super::runs::Run;
use super::store::{Batch, Loaded, SavedLane, Store};
use super::tail::{Fresh, Tail};
use super::time::Time;
use super::trouble::Trouble;
use super::{AppendError, BACKLOG, Code, Id, LaneCounts, LaneLimits, Payload, Settled};

/// How much is read from the journal at once: bytes.
pub const BLOCK: usize = 512 << 10;
/// The longest that a delivery waits: a day, which is as long as a vendor may ask, and a little: milliseconds.
const LONGEST_DELAY_MS: i64 = 25 * 60 * 60 * 1000;
/// The longest that one waits after a restart: the clock may have been set back meanwhile. Milliseconds.
const LONGEST_RESUMED_DELAY_MS: i64 = 60 * 60 * 1000;
/// How many deliveries are given up in one go, and how many goes there are before others have their turn.
const SHED: (u64, usize) = (4096, 16);

/// Waits for a time are cut into pieces of this length, in case the clock is set: milliseconds.
pub const LONGEST_WAIT_MS: u64 = 1000;

/// One lane and what it needs.
pub struct Cell<T> {
    pub id: u16,
    pub name: String,
    /// What it is over, if it is a run.
    pub run: Option<Run>,
    /// The lowest sequence that is needed after a crash.
    pub needed: AtomicU64,
    pub wake: Arc<Notify>,
    /// Held while the journal is read for it: a read goes on when the claim that wanted it is dropped.
    pub reads: Arc<tokio::sync::Mutex<()>>,
    /// Whether that goes well.
    pub trouble: Trouble,
    /// How many deliveries may be unfinished; the largest number where any may.
    pub max_backlog: AtomicU64,
    /// What has overtaken deliveries that were opened again.
    pub trail: Mutex<Trail>,
    /// Order keys of what was opened again since the trail was last looked at.
    pub reopened: Mutex<std::collections::HashSet<u64>>,
    state: Mutex<Feed<T>>,
}

impl<T> Cell<T> {
    /// After a crash, calls from this sequence on are needed; of a run that is done, none.
    pub fn needs(&self, from: u64) {
        let done = self.run.is_some_and(|run| from >= run.end);
        self.needed.store(if done { u64::MAX } else { from }, Ordering::SeqCst);
    }

    pub fn state(&self) -> MutexGuard<'_, Feed<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub struct Sources {
    pub names: BTreeMap<u16, String>,
    ids: HashMap<String, u16>,
    unwritten: Vec<(u16, String)>,
}

/// What a queue is put together from.
pub struct Parts<T> {
    pub journal: Journal<Fresh<T>>,
    pub store: Store,
    pub tail: Arc<Tail<T>>,
    pub loaded: Loaded,
    pub clock: Clock,
    pub decode: Decode<T>,
    pub limits: Limits,
    pub behind_bytes: usize,
}

/// What the queue and its keeper share.
pub struct Shared<T> {
    pub journal: Journal<Fresh<T>>,
    pub store: Store,
    pub tail: Arc<Tail<T>>,
    pub bell: Bell,
    pub clock: Clock,
    time: Time,
    /// The state cannot be written down.
    pub stalled: AtomicBool,
    /// Nor ever will be by this process.
    pub broken: AtomicBool,
    pub closing: AtomicBool,
    /// Calls that are kept may be needed no more.
    pub idle_calls: AtomicBool,
    keeper: Mutex<Keeper>,
    pub lanes: RwLock<BTreeMap<String, Arc<Cell<T>>>>,
    /// Every lane there ever was, as it was last put down.
    pub known: Mutex<Vec<SavedLane>>,
    pub codes: RwLock<Codes>,
    pub sources: RwLock<Sources>,
    /// Sources from this number on are not written down: their calls cannot be taken.
    unwritten_from: AtomicU32,
    /// Of calls that are turned away.
    pub alarm: Alarm,
    /// Read back for lanes that are behind.
    pub blocks: Blocks<T>,
    pub decode: Decode<T>,
    pub hash_key: [u8; 16],
    limits: Limits,
    behind_bytes: usize,
}

pub fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Shared<T> {
    pub fn lanes(&self) -> Vec<Arc<Cell<T>>> {
        read(&self.lanes).values().cloned().collect()
    }

    pub fn lane_ids(&self) -> Vec<u16> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|lane| lane.id).collect()
    }

    pub fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The codes that were given out since `next` was the next one, and the next one now.
    pub fn new_codes(&self, next: u8) -> (Vec<(u8, Code)>, u8) {
        let codes = read(&self.codes);
        (codes.since(next), codes.next())
    }

    pub fn take_new_sources(&self) -> Vec<(u16, String)> {
        if read(&self.sources).unwritten.is_empty() {
            return Vec::new();
        }
        std::mem::take(&mut write(&self.sources).unwritten)
    }

    /// The sources that were taken to be written down are.
    pub fn sources_written(&self) {
        let sources = read(&self.sources);
        let lowest = sources.unwritten.iter().map(|(id, _)| u32::from(*id)).min();
        self.unwritten_from.store(lowest.unwrap_or(u32::MAX), Ordering::SeqCst);
    }

    /// Whether calls of a source may be journalled. Before its number is written down they may not: a crash would give
    /// the number to another source, and the calls with it.
    pub fn check_source(&self, id: u16) -> Result<(), AppendError> {
        if u32::from(id) < self.unwritten_from.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.bell.changed();
        Err(AppendError::Failed(
            "the number of a new source cannot be written to state.redb; see the errors about that file"
                .to_owned(),
        ))
    }

    /// Which lane keeps the oldest calls, in words; `None` where none is behind.
    pub fn holder(&self) -> Option<String> {
        let (end, journalled) = self.tail.total();
        // Where none needs the journal, one may have more parked than can be kept beside it.
        let from = |lane: &Arc<Cell<T>>| (lane.needed.load(Ordering::SeqCst), lane.state().lane.low());
        let (oldest, (needed, low)) =
            self.lanes().into_iter().map(|lane| (lane.clone(), from(&lane))).min_by_key(|(_, from)| *from)?;
        if needed.min(low) >= end {
            return None;
        }
        let name = &oldest.name;
        if oldest.run.is_some() {
            return Some(format!(
                "The oldest calls are kept for {name}, which is not finished: see what it waits for with `fanout replay \
                 list`, cancel it, or raise queue.max_disk"
            ));
        }
        let unfinished = oldest.state().lane.unfinished(journalled);
        Some(format!(
            "The oldest calls are kept for destination `{name}`, which has {unfinished} unfinished: see why, disable it, \
             cap it with max_backlog in [destinations.{name}.delivery], or raise queue.max_disk"
        ))
    }

    pub fn lane(&self, name: &str) -> Option<Arc<Cell<T>>> {
        read(&self.lanes).get(name).cloned()
    }

    fn number(&self, code: &Code) -> u8 {
        let known = codes::fixed(code).or_else(|| read(&self.codes).number(code));
        known.unwrap_or_else(|| write(&self.codes).number_or_new(code))
    }
}

impl<T: Payload> Shared<T> {
    /// With the lanes as an earlier run left them.
    pub fn new(parts: Parts<T>) -> Self {
        let Loaded { hash_key, sources: names, codes: numbers, lanes: mut known, runs, .. } = parts.loaded;
        let mut codes = Codes::default();
        for (number, code) in numbers {
            codes.restore(number, code);
        }
        let ids = names.iter().map(|(id, name)| (name.clone(), *id)).collect();
        let mut shared = Self {
            journal: parts.journal,
            store: parts.store,
            tail: parts.tail,
            bell: Bell::default(),
            time: Time::new(Arc::clone(&parts.clock)),
            clock: parts.clock,
            stalled: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            idle_calls: AtomicBool::new(true),
            keeper: Mutex::new(Keeper::new(codes.next(), parts.loaded.total)),
            lanes: RwLock::default(),
            known: Mutex::default(),
            codes: RwLock::new(codes),
            sources: RwLock::new(Sources { names, ids, unwritten: Vec::new() }),
            unwritten_from: AtomicU32::new(u32::MAX),
            alarm: Alarm::default(),
            blocks: Blocks::default(),
            decode: parts.decode,
            hash_key,
            limits: parts.limits,
            behind_bytes: parts.behind_bytes,
        };
        let mut lanes = BTreeMap::new();
        for lane in known.iter_mut().filter(|lane| lane.active) {
            lanes.insert(lane.name.clone(), shared.cell(lane, runs.get(&lane.id).copied()));
            // It is kept in the lane from now on.
            lane.saved = Saved::default();
        }
        shared.lanes = RwLock::new(lanes);
        shared.known = Mutex::new(known);
        shared
    }

    pub fn cell(&self, lane: &SavedLane, run: Option<Run>) -> Arc<Cell<T>> {
        let mut saved = lane.saved.clone();
        let latest_ms = (self.clock)().saturating_add(LONGEST_RESUMED_DELAY_MS);
        for row in saved.rows.values_mut().filter(|row| row.is_delivery()) {
            row.due_at_ms = row.due_at_ms.min(latest_ms);
        }
        let mut state = Lane::resume(self.limits, saved);
        let needed = state.needed();
        let cell = Cell {
            id: lane.id,
            name: lane.name.clone(),
            run,
            needed: AtomicU64::default(),
            wake: Arc::default(),
            reads: Arc::default(),
            trouble: Trouble::default(),
            max_backlog: AtomicU64::new(u64::MAX),
            trail: Mutex::default(),
            reopened: Mutex::default(),
            state: Mutex::new(Feed::new(state, run, self.behind_bytes)),
        };
        cell.needs(needed);
        Arc::new(cell)
    }

    pub fn set_lanes(&self, names: &[String]) -> Result<(), OpenError> {
        let mut keeper = self.keeper();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gone = |cell: &Arc<Cell<T>>| cell.run.is_none() && !names.contains(&cell.name);
        let removed = self.lanes().into_iter().filter(is_gone).collect();
        self.remove(&mut keeper, &mut known, removed)?;
        self.add(&mut known, names)?;
        self.wake_all_lanes();
        self.bell.changed();
        Ok(())
    }

    /// Every lane that there is now is woken from now on.
    pub fn wake_all_lanes(&self) {
        self.tail.set_waiting(self.lanes().iter().map(|cell| Arc::clone(&cell.wake)).collect());
    }

    /// The number of a lane that is new.
    pub fn next_lane_id(known: &[SavedLane]) -> Option<u16> {
        known.iter().map(|lane| lane.id).max().unwrap_or_default().checked_add(1)
    }

    fn remove(
        &self,
        keeper: &mut Keeper,
        known: &mut [SavedLane],
        removed: Vec<Arc<Cell<T>>>,
    ) -> Result<(), OpenError> {
        if removed.is_empty() {
            return Ok(());
        }
        for cell in &removed {
            let mut state = cell.state();
            let (end, journalled) = self.tail.total();
            let left = state.lane.end_all(end, journalled, codes::REMOVED);
            tracing::info!(
                lane = cell.name,
                left,
                "a destination was removed; what was left for it is skipped"
            );
        }
        if !keeper.checkpoint(self) {
            return Err(OpenError::NotWritten);
        }
        for cell in removed {
            write(&self.lanes).remove(&cell.name);
            if let Some(lane) = known.iter_mut().find(|lane| lane.id == cell.id) {
                let mut state = cell.state();
                lane.active = false;
                lane.saved = state.lane.saved();
            }
            cell.wake.notify_waiters();
        }
        self.store.put_lanes(known.iter().filter(|lane| !lane.active))?;
        Ok(())
    }

    fn add(&self, known: &mut Vec<SavedLane>, names: &[String]) -> Result<(), OpenError> {
        let (end, journalled) = self.tail.total();
        let mut added = Vec::new();
        for name in names {
            if read(&self.lanes).contains_key(name) || added.iter().any(|lane: &SavedLane| lane.name == *name)
            {
                continue;
            }
            let at = match known.iter().position(|lane| lane.name == *name) {
                Some(at) => at,
                None => {
                    let id = Self::next_lane_id(known).ok_or(OpenError::TooManyLanes)?;
                    known.push(SavedLane { id, name: name.clone(), active: true, saved: Saved::default() });
                    known.len() - 1
                }
            };
            let Some(lane) = known.get_mut(at) else { continue };
            lane.active = true;
            lane.saved.base = end;
            lane.saved.begin = journalled.saturating_sub(lane.saved.counts.values().sum());
            added.push(lane.clone());
        }
        if added.is_empty() {
            return Ok(());
        }
        self.store.put_lanes(&added)?;
        let cells = added.iter().map(|lane| (lane.name.clone(), self.cell(lane, None)));
        write(&self.lanes).extend(cells);
        Ok(())
    }

    /// One step of a claim.
    pub fn step(&self, cell: &Cell<T>, max: usize) -> Step<T> {
        // A lane of the same name may have been added since.
        let removed = || self.lane(&cell.name).is_none_or(|now| !std::ptr::eq(&*now, cell));
        if self.closing.load(Ordering::SeqCst) || removed() {
            return Step::Out(Vec::new());
        }
        if self.stalled.load(Ordering::SeqCst) {
            return Step::Wait(Some(LONGEST_WAIT_MS));
        }
        let now_ms = self.time.now().ms;
        let mut feed = cell.state();
        let newest = self.tail.read();
        let step = feed.step(&newest, max, now_ms);
        drop(newest);
        if feed.lane.has_changed() {
            self.bell.changed();
        }
        step
    }

    /// Ends what a lane has beyond its backlog's limit, the oldest first; reads the journal for that, for a while. Hands
    /// out how many deliveries that were, and whether there may be more.
    pub fn shed(&self, cell: &Cell<T>) -> (u64, bool) {
        let max = cell.max_backlog.load(Ordering::SeqCst);
        let mut ended = 0;
        for _ in 0..SHED.1 {
            if max == u64::MAX || self.stalled.load(Ordering::SeqCst) {
                return (ended, false);
            }
            let number = self.number(&Code::Dead(BACKLOG.to_owned()));
            let now = self.time.now();
            let mut feed = cell.state();
            let newest = self.tail.read();
            let excess = feed.lane.unfinished(newest.journalled).saturating_sub(max).min(SHED.0);
            if excess == 0 {
                return (ended, false);
            }
            let count = usize::try_from(excess).unwrap_or(usize::MAX);
            let (shed, step) = feed.shed(&newest, count, number, now.ms.saturating_sub(now.ahead_ms));
            drop((newest, feed));
            ended += shed as u64;
            if matches!(step, Step::Wait(_)) {
                return (ended, false);
            }
            let Ok(_turn) = cell.reads.try_lock() else { return (ended, true) };
            if let Err(error) = self.read_for(cell, step) {
                tracing::error!(lane = cell.name, %error, "the journal cannot be read; trying again");
                return (ended, false);
            }
        }
        (ended, true)
    }

    pub fn set_limits(&self, cell: &Cell<T>, limits: LaneLimits) {
        cell.max_backlog.store(limits.max_backlog.unwrap_or(u64::MAX), Ordering::SeqCst);
        self.bell.changed();
    }

    pub fn give_back(&self, cell: &Cell<T>) {
        let count = cell.state().lane.give_back();
        tracing::info!(lane = cell.name, count, "what a lane had claimed is handed out again");
        cell.wake.notify_waiters();
    }

    pub fn settle(&self, cell: &Cell<T>, settled: Vec<(Id, Settled)>) {
        let now = self.time.now();
        let (now_ms, wall_ms) = (now.ms, now.ms.saturating_sub(now.ahead_ms));
        let due =
            |at_ms: i64| now_ms.saturating_add(at_ms.saturating_sub(wall_ms).clamp(0, LONGEST_DELAY_MS));
        // Most of a block end alike.
        let mut latest: Option<(Code, u8)> = None;
        let mut feed = cell.state();
        feed.lane.set_ahead(now.ahead_ms);
        for (Id(seq), how) in settled {
            match how {
                Settled::Done(code) => {
                    let number = match &latest {
                        Some((same, number)) if *same == code => *number,
                        _ => latest.insert((code.clone(), self.number(&code))).1,
                    };
                    feed.lane.done(seq, number);
                }
                Settled::Later { at_ms, since_ms, reason } => {
                    let again = Again { at_ms: due(at_ms), since_ms, reason: &reason };
                    feed.lane.later(seq, again, now_ms);
                }
                Settled::Wait { at_ms } => drop(feed.lane.wait(seq, due(at_ms))),
                Settled::Release => drop(feed.lane.release(seq)),
                Settled::Dead(dead) => {
                    let number = self.number(&Code::Dead(dead.code.clone()));
                    feed.end_dead(seq, number, dead, wall_ms);
                }
            }
        }
        drop(feed);
        self.bell.changed();
        cell.wake.notify_waiters();
    }

    pub fn counts(&self, cell: &Cell<T>) -> LaneCounts {
        let mut feed = cell.state();
        let (journalled, next_received) = {
            let newest = self.tail.read();
            let next = newest.recent.from(feed.lane.next()).next().map(|record| record.received_at_ms);
            (newest.journalled, next.filter(|_| newest.recent.has_from(feed.lane.next())))
        };
        let codes = read(&self.codes);
        let named = |(number, count): (&u8, &u64)| Some((codes.code(*number)?.clone(), *count));
        let left_of_run = feed.left_of_run();
        let unfinished = left_of_run.unwrap_or_else(|| feed.lane.unfinished(journalled));
        let mut oldest = feed.lane.oldest_received_at_ms();
        if oldest.is_none() && unfinished > 0 && left_of_run.is_none() {
            oldest = next_received.or_else(|| feed.next_received(|from| self.journal.read(from, 1).ok()));
        }
        LaneCounts {
            unfinished,
            in_flight: feed.lane.in_flight(),
            retrying: feed.lane.retrying(),
            oldest_received_at_ms: oldest,
            finished: feed.lane.counts().iter().filter_map(named).collect(),
            done: feed.is_done(),
        }
    }

    pub fn source_id(&self, name: &str) -> u16 {
        if let Some(id) = read(&self.sources).ids.get(name) {
            return *id;
        }
        let mut sources = write(&self.sources);
        if let Some(id) = sources.ids.get(name) {
            return *id;
        }
        let id = match sources.names.last_key_value() {
            None => 0,
            Some((last, _)) if *last < u16::MAX => last + 1,
            Some((last, _)) => {
                tracing::error!(
                    name,
                    "there have been 65,536 sources; this one is counted as the last of them"
                );
                return *last;
            }
        };
        sources.names.insert(id, name.to_owned());
        sources.ids.insert(name.to_owned(), id);
        let batch = Batch { sources: vec![(id, name.to_owned())], ..Batch::default() };
        // Before a call of this source can be journalled.
        if let Err(error) = self.store.commit(&batch) {
            tracing::error!(%error, name, "a new source's number cannot be written down; its calls are answered 503 until then");
            self.unwritten_from.fetch_min(u32::from(id), Ordering::SeqCst);
            sources.unwritten.extend(batch.sources);
            self.bell.changed();
        }
        id
    }

    /// Ends in order; blocks on the disk.
    pub fn close(&self) {
        self.journal.close();
        if self.broken.load(Ordering::SeqCst) {
            return;
        }
        if !self.keeper().finish(self) {
            tracing::error!("the lanes' state could not be written down; some deliveries will be made again");
        }
    }
}
