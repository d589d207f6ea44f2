//! The queue on the local disk: the journal, the lanes' state and the newest records, put together.
//!
//! What a lane may hand out is decided by [`Lane`], what is written when by the keeper. Here is the way of a block of
//! deliveries: from the tail, or from the journal for a lane that is behind, to whoever claims them, and back.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use siphasher::sip::SipHasher13;
use tokio::sync::Notify;

use super::codes::{self, Codes};
use super::feed::{Feed, Fetched, Step};
use super::files::{Files, RealFiles};
use super::journal::{self, Journal, ReadError, Stored};
use super::keeper::{self, Bell, Keeper};
use super::lane::{Lane, Limits, Saved};
use super::record::Head;
use super::recovery::{OpenError as JournalError, Recovered};
use super::store::{Batch, DeadRow, SavedLane, Store, StoreError};
use super::tail::{Fresh, Tail};
use super::window::Shape;
use super::{AppendError, Appended, Claimed, Code, Dead, Entry, Id, LaneCounts, Queue, Settled};

/// How much is read from the journal at once: bytes.
const BLOCK: usize = 512 << 10;
/// How much is read around an event that is fetched again: bytes.
const FETCH: usize = 16 << 10;
/// How much is fetched at once: bytes.
const MAX_FETCHED: usize = 1 << 20;
/// The most deliveries of one claim.
const MAX_CLAIM: usize = 4096;
/// Waits for a time are cut into pieces of this length, in case the clock is set: milliseconds.
const LONGEST_WAIT_MS: u64 = 1000;

/// Decodes a record that is read back; `None` if it cannot be.
pub type Decode<T> = Arc<dyn Fn(&Head, &[u8]) -> Option<T> + Send + Sync>;
/// Milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a local queue is to be kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of the journal; the state is kept in its directory.
    pub journal: journal::Options,
    /// The lanes' names.
    pub lanes: Vec<String>,
    /// How much of the newest calls is kept in memory for lanes that keep up, in bytes. Default 32 MiB.
    pub tail_bytes: usize,
    /// How much a lane that is behind keeps of what it read, in bytes. Default 2 MiB.
    pub behind_bytes: usize,
    /// How many events a lane has open at a time, beside parked ones. Default 65,536.
    pub window_events: usize,
    /// How many events of a lane may be parked. Default 65,536.
    pub parked_events: usize,
}

impl Options {
    /// The defaults, with the journal's options and the lanes' names.
    pub fn new(journal: journal::Options, lanes: Vec<String>) -> Self {
        Self {
            journal,
            lanes,
            tail_bytes: 32 << 20,
            behind_bytes: 2 << 20,
            window_events: 1 << 16,
            parked_events: 1 << 16,
        }
    }

    fn limits(&self) -> Limits {
        Limits { shape: Shape::of_events(self.window_events), parked: self.parked_events }
    }
}

/// Why a queue could not be opened, or its lanes not be changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The lanes' state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Reading the journal's end.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Starting a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// There are more lanes than numbers for them.
    #[error("there have been 65,535 destinations in this data directory: start a new one")]
    TooManyLanes,
}

/// One lane and what it needs.
pub(super) struct Cell<T> {
    pub id: u16,
    pub name: String,
    /// The lowest sequence that is needed after a crash.
    pub needed: AtomicU64,
    wake: Arc<Notify>,
    state: Mutex<Feed<T>>,
}

impl<T> Cell<T> {
    pub fn state(&self) -> MutexGuard<'_, Feed<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Sources {
    names: BTreeMap<u16, String>,
    ids: HashMap<String, u16>,
    unwritten: Vec<(u16, String)>,
}

/// What the queue and its keeper share.
pub(super) struct Shared<T> {
    pub journal: Journal<Fresh<T>>,
    pub store: Store,
    pub tail: Arc<Tail<T>>,
    pub bell: Bell,
    pub clock: Clock,
    /// The state cannot be written down.
    pub stalled: AtomicBool,
    closing: AtomicBool,
    keeper: Mutex<Keeper>,
    lanes: RwLock<BTreeMap<String, Arc<Cell<T>>>>,
    /// Every lane there ever was, as it was last put down.
    known: Mutex<Vec<SavedLane>>,
    codes: RwLock<Codes>,
    sources: RwLock<Sources>,
    decode: Decode<T>,
    hash_key: [u8; 16],
    limits: Limits,
    behind_bytes: usize,
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
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

    fn lane(&self, name: &str) -> Option<Arc<Cell<T>>> {
        read(&self.lanes).get(name).cloned()
    }

    fn number(&self, code: &Code) -> u8 {
        let known = codes::fixed(code).or_else(|| read(&self.codes).number(code));
        known.unwrap_or_else(|| write(&self.codes).number_or_new(code))
    }
}

/// The queue on the local disk. Dropping it without [`Queue::close`] is like a crash: what was settled in the last
/// 100 ms may be handed out again.
pub struct LocalQueue<T> {
    shared: Arc<Shared<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T> Drop for LocalQueue<T> {
    fn drop(&mut self) {
        self.shared.bell.stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes the lanes' state had panicked");
        }
    }
}

impl<T: Clone + Send + Sync + 'static> LocalQueue<T> {
    /// Opens the queue in its directory, or creates it. Blocks on the disk.
    pub fn open(options: Options, decode: Decode<T>, clock: Clock) -> Result<(Self, Recovered), OpenError> {
        Self::open_on(Arc::new(RealFiles), options, decode, clock)
    }

    /// As [`Self::open`], with other file operations for the journal.
    pub fn open_on(
        files: Arc<dyn Files>,
        options: Options,
        decode: Decode<T>,
        clock: Clock,
    ) -> Result<(Self, Recovered), OpenError> {
        let mut journal_options = options.journal.clone();
        files.create_dir(&journal_options.dir).map_err(JournalError::io("create", &journal_options.dir))?;
        let tail = Arc::new(Tail::new(0, 0, options.tail_bytes));
        let open_journal = |journal_options| {
            let newest = Arc::clone(&tail);
            Journal::open(files, journal_options, clock(), Box::new(move |records| newest.add(records)))
        };
        let store = match Store::open(&journal_options.dir.join("state.redb")) {
            // The journal's lock says who has it.
            Err(error) if error.is_locked() => {
                open_journal(journal_options)?;
                return Err(error.into());
            }
            store => store?,
        };
        let loaded = store.load()?;
        journal_options.min_next_seq = journal_options.min_next_seq.max(loaded.total.0);
        let (journal, recovered) = open_journal(journal_options)?;
        let end = journal.next_seq();
        let journalled = count(&journal, loaded.total)?;
        tail.begin(end, journalled);

        let mut codes = Codes::default();
        for (number, code) in loaded.codes {
            codes.restore(number, code);
        }
        let ids = loaded.sources.iter().map(|(id, name)| (name.clone(), *id)).collect();
        let shared = Arc::new(Shared {
            journal,
            store,
            tail,
            bell: Bell::default(),
            clock,
            stalled: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            keeper: Mutex::new(Keeper::new(codes.next())),
            lanes: RwLock::default(),
            known: Mutex::default(),
            codes: RwLock::new(codes),
            sources: RwLock::new(Sources { names: loaded.sources, ids, unwritten: Vec::new() }),
            decode,
            hash_key: loaded.hash_key,
            limits: options.limits(),
            behind_bytes: options.behind_bytes,
        });
        shared.resume(loaded.lanes);
        shared.set_lanes(&options.lanes)?;
        let worker = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("lane-state".into()).spawn(move || keeper::run(&worker));
        Ok((Self { shared, thread: Some(thread.map_err(OpenError::Thread)?) }, recovered))
    }

    /// Changes which lanes there are. A new one begins at the journal's end; what a removed one has left is recorded
    /// as skipped, `removed`. A lane's deliveries in flight should have been settled before it is removed.
    /// Blocks on the disk.
    pub fn set_lanes(&self, names: &[String]) -> Result<(), OpenError> {
        self.shared.set_lanes(names)
    }

    /// The dead letters of a lane from an id on, at most so many, with their ids. Blocks on the disk.
    pub fn dead_letters(&self, lane: &str, from: Id, max: usize) -> Result<Vec<(Id, i64, Dead)>, StoreError> {
        let Some(cell) = self.shared.lane(lane) else { return Ok(Vec::new()) };
        let rows = self.shared.store.dead(cell.id, from.0, max)?;
        let codes = read(&self.shared.codes);
        let named = |row: DeadRow| {
            let code = match codes.code(row.number) {
                Some(Code::Dead(code)) => code.clone(),
                _ => "other".to_owned(),
            };
            (Id(row.seq), row.at_ms, Dead { code, ..row.dead })
        };
        Ok(rows.into_iter().map(named).collect())
    }

    /// What is needed of a step of a claim is read from the journal.
    async fn read_for(&self, cell: &Arc<Cell<T>>, step: Step) {
        let (shared, lane) = (Arc::clone(&self.shared), Arc::clone(cell));
        let work = tokio::task::spawn_blocking(move || shared.read_for(&lane, step));
        let failed = match work.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(lane = cell.name, error = failed, "the journal cannot be read; trying again");
        tokio::time::sleep(Duration::from_millis(LONGEST_WAIT_MS)).await;
    }
}

/// How many calls there have been, from a count of those below a sequence.
fn count<P: Send + 'static>(journal: &Journal<P>, (seq, mut count): (u64, u64)) -> Result<u64, ReadError> {
    let mut from = seq.max(journal.first_seq());
    loop {
        let block = journal.read(from, BLOCK)?;
        let Some((head, _)) = block.last() else { return Ok(count) };
        count += block.len() as u64;
        from = head.seq + 1;
    }
}

impl<T: Clone + Send + Sync + 'static> Shared<T> {
    /// Takes up the lanes as an earlier run left them.
    fn resume(&self, mut saved: Vec<SavedLane>) {
        let mut lanes = write(&self.lanes);
        for lane in saved.iter_mut().filter(|lane| lane.active) {
            lanes.insert(lane.name.clone(), self.cell(lane));
            // It is kept in the lane from now on.
            lane.saved = Saved::default();
        }
        drop(lanes);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = saved;
    }

    fn cell(&self, lane: &SavedLane) -> Arc<Cell<T>> {
        let needed = lane.saved.rows.first_key_value().map_or(lane.saved.base, |(seq, _)| *seq);
        let state = Lane::resume(self.limits, lane.saved.clone());
        Arc::new(Cell {
            id: lane.id,
            name: lane.name.clone(),
            needed: AtomicU64::new(needed.min(lane.saved.base)),
            wake: Arc::default(),
            state: Mutex::new(Feed::new(state, self.behind_bytes)),
        })
    }

    fn set_lanes(&self, names: &[String]) -> Result<(), OpenError> {
        let mut keeper = self.keeper();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = self.lanes().into_iter().filter(|cell| !names.contains(&cell.name)).collect();
        self.remove(&mut keeper, &mut known, removed)?;
        self.add(&mut known, names)?;
        let waiting = self.lanes().iter().map(|cell| Arc::clone(&cell.wake)).collect();
        self.tail.set_waiting(waiting);
        self.bell.changed();
        Ok(())
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
            let newest = self.tail.read();
            let left = state.lane.end_all(newest.recent.end(), newest.journalled, codes::REMOVED);
            tracing::info!(
                lane = cell.name,
                left,
                "a destination was removed; what was left for it is skipped"
            );
        }
        if !keeper.checkpoint(self) {
            // It is tried again with the next checkpoint; the lane goes with the next change of lanes.
            return Ok(());
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
        let (end, journalled) = {
            let newest = self.tail.read();
            (newest.recent.end(), newest.journalled)
        };
        let mut added = Vec::new();
        for name in names {
            if read(&self.lanes).contains_key(name) || added.iter().any(|lane: &SavedLane| lane.name == *name)
            {
                continue;
            }
            let at = match known.iter().position(|lane| lane.name == *name) {
                Some(at) => at,
                None => {
                    let id = known.iter().map(|lane| lane.id).max().unwrap_or_default();
                    let id = id.checked_add(1).ok_or(OpenError::TooManyLanes)?;
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
        let cells = added.iter().map(|lane| (lane.name.clone(), self.cell(lane)));
        write(&self.lanes).extend(cells);
        Ok(())
    }

    /// One step of a claim.
    fn step(&self, cell: &Cell<T>, max: usize) -> Step<T> {
        if self.closing.load(Ordering::SeqCst) || self.lane(&cell.name).is_none() {
            return Step::Out(Vec::new());
        }
        if self.stalled.load(Ordering::SeqCst) {
            return Step::Wait(Some(LONGEST_WAIT_MS));
        }
        let now_ms = (self.clock)();
        let mut feed = cell.state();
        let newest = self.tail.read();
        let step = feed.step(&newest, max, now_ms);
        drop(newest);
        if feed.lane.has_changed() {
            self.bell.changed();
        }
        step
    }

    fn read_for(&self, cell: &Cell<T>, step: Step) -> Result<(), ReadError> {
        match step {
            Step::Read { from, tail } => {
                let block = self.journal.read(from, BLOCK)?;
                let decoded = block.iter().map(|stored| self.decoded(stored)).collect();
                cell.state().add_block(from, tail, decoded);
            }
            Step::Fetch(seqs) => {
                let fetched = self.fetch(seqs)?;
                cell.state().add_fetched(fetched);
            }
            Step::Out(_) | Step::Again | Step::Wait(_) => {}
        }
        Ok(())
    }

    fn decoded(&self, (head, body): &Stored) -> (Head, Option<T>, usize) {
        (*head, (self.decode)(head, body), body.len())
    }

    /// Reads single events again; the first of them, and as many more as fit.
    fn fetch(&self, mut seqs: Vec<u64>) -> Result<Fetched<T>, ReadError> {
        seqs.sort_unstable();
        let mut block: Vec<Stored> = Vec::new();
        let mut fetched = Vec::with_capacity(seqs.len());
        let mut bytes = 0;
        for seq in seqs {
            if bytes > MAX_FETCHED {
                break;
            }
            if block.last().is_none_or(|(last, _)| last.seq < seq) {
                block = self.journal.read(seq, FETCH)?;
            }
            let at = block.partition_point(|(head, _)| head.seq < seq);
            let found = match block.get(at).filter(|(head, _)| head.seq == seq) {
                Some((head, body)) => {
                    bytes += body.len();
                    (self.decode)(head, body).ok_or(codes::UNDECODABLE)
                }
                None => Err(codes::LOST),
            };
            fetched.push((seq, found));
        }
        Ok(fetched)
    }

    fn settle(&self, cell: &Cell<T>, settled: Vec<(Id, Settled)>) {
        let now_ms = (self.clock)();
        let mut feed = cell.state();
        for (Id(seq), how) in settled {
            match how {
                Settled::Done(code) => drop(feed.lane.done(seq, self.number(&code))),
                Settled::Later { at_ms, reason } => drop(feed.lane.later(seq, at_ms, now_ms, &reason)),
                Settled::Release => drop(feed.lane.release(seq)),
                Settled::Dead(dead) => {
                    let number = self.number(&Code::Dead(dead.code.clone()));
                    if feed.lane.done(seq, number).is_some() {
                        feed.dead.push(DeadRow { seq, number, at_ms: now_ms, dead });
                    }
                }
            }
        }
        drop(feed);
        self.bell.changed();
        cell.wake.notify_waiters();
    }

    fn counts(&self, cell: &Cell<T>) -> LaneCounts {
        let mut feed = cell.state();
        let (journalled, next_received) = {
            let newest = self.tail.read();
            let next = newest.recent.from(feed.lane.next()).next().map(|record| record.received_at_ms);
            (newest.journalled, next.filter(|_| newest.recent.has_from(feed.lane.next())))
        };
        let codes = read(&self.codes);
        let named = |(number, count): (&u8, &u64)| Some((codes.code(*number)?.clone(), *count));
        let unfinished = feed.lane.unfinished(journalled);
        let mut oldest = feed.lane.oldest_received_at_ms();
        if oldest.is_none() && unfinished > 0 {
            oldest = next_received.or_else(|| feed.next_received(|from| self.journal.read(from, 1).ok()));
        }
        LaneCounts {
            unfinished,
            in_flight: feed.lane.in_flight(),
            retrying: feed.lane.retrying(),
            oldest_received_at_ms: oldest,
            finished: feed.lane.counts().iter().filter_map(named).collect(),
        }
    }

    fn source_id(&self, name: &str) -> u16 {
        if let Some(id) = read(&self.sources).ids.get(name) {
            return *id;
        }
        let mut sources = write(&self.sources);
        if let Some(id) = sources.ids.get(name) {
            return *id;
        }
        let id = sources.names.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
        sources.names.insert(id, name.to_owned());
        sources.ids.insert(name.to_owned(), id);
        let batch = Batch { sources: vec![(id, name.to_owned())], ..Batch::default() };
        // Before a call of this source can be journalled.
        if let Err(error) = self.store.commit(&batch) {
            tracing::warn!(%error, "a source's number is written down later");
            sources.unwritten.extend(batch.sources);
            self.bell.changed();
        }
        id
    }

    /// Ends in order; blocks on the disk.
    fn close(&self) {
        self.journal.close();
        if !self.keeper().checkpoint(self) {
            tracing::error!("the lanes' state could not be written down; some deliveries will be made again");
        }
    }
}

#[async_trait]
impl<T: Clone + Send + Sync + 'static> Queue<T> for LocalQueue<T> {
    async fn append(&self, entries: Vec<Entry<T>>) -> Result<Vec<Appended>, AppendError> {
        let fresh = |entry: Entry<T>| Entry {
            source: entry.source,
            received_at_ms: entry.received_at_ms,
            kind: entry.kind,
            order_key: entry.order_key,
            message_key: entry.message_key,
            payload: Fresh { payload: entry.payload, bytes: entry.body.len() },
            body: entry.body,
        };
        self.shared.journal.append(entries.into_iter().map(fresh).collect()).await
    }

    fn source_id(&self, name: &str) -> u16 {
        self.shared.source_id(name)
    }

    fn source_name(&self, id: u16) -> Option<String> {
        read(&self.shared.sources).names.get(&id).cloned()
    }

    fn hash(&self, parts: &[&str]) -> u64 {
        use std::hash::Hasher;
        let mut hasher = SipHasher13::new_with_key(&self.shared.hash_key);
        for part in parts {
            hasher.write(&(part.len() as u64).to_le_bytes());
            hasher.write(part.as_bytes());
        }
        hasher.finish()
    }

    async fn claim(&self, lane: &str, max: usize) -> Vec<Claimed<T>> {
        let Some(cell) = self.shared.lane(lane).filter(|_| max > 0) else { return Vec::new() };
        loop {
            // Registered before looking, so that nothing is missed in between.
            let mut woken = pin!(cell.wake.notified());
            woken.as_mut().enable();
            match self.shared.step(&cell, max.min(MAX_CLAIM)) {
                Step::Out(claimed) => return claimed,
                Step::Again => tokio::task::yield_now().await,
                Step::Read { from, tail } => self.read_for(&cell, Step::Read { from, tail }).await,
                Step::Fetch(seqs) => self.read_for(&cell, Step::Fetch(seqs)).await,
                Step::Wait(None) => woken.await,
                Step::Wait(Some(ms)) => {
                    let wait = Duration::from_millis(ms.clamp(1, LONGEST_WAIT_MS));
                    let _ = tokio::time::timeout(wait, woken).await;
                }
            }
        }
    }

    fn settle(&self, lane: &str, settled: Vec<(Id, Settled)>) {
        if let Some(cell) = self.shared.lane(lane) {
            self.shared.settle(&cell, settled);
        }
    }

    fn counts(&self, lane: &str) -> Option<LaneCounts> {
        self.shared.lane(lane).map(|cell| self.shared.counts(&cell))
    }

    fn disk_bytes(&self) -> u64 {
        self.shared.journal.disk_bytes() + self.shared.store.disk_bytes()
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let value = self.shared.store.get(key);
        value.inspect_err(|error| tracing::error!(%error, key, "a value cannot be read")).ok().flatten()
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), AppendError> {
        self.shared.store.put(key, value).map_err(|error| AppendError::Failed(error.to_string()))
    }

    async fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.tail.wake();
        let shared = Arc::clone(&self.shared);
        if let Err(error) = tokio::task::spawn_blocking(move || shared.close()).await {
            tracing::error!(%error, "closing the queue failed");
        }
    }
}

#[cfg(test)]
mod tests;
