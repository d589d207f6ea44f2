//! The queue on the local disk: the journal, the lanes' state and the newest records, put together.
//!
//! What a lane may hand out is decided by `Lane`, what is written when by the keeper. Here is the way of a block of
//! deliveries: from the tail, or from the journal for a lane that is behind, to whoever claims them, and back.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use siphasher::sip::SipHasher13;

use super::feed::Step;
use super::files::{Files, RealFiles};
use super::journal::{self, Journal, ReadError};
use super::keeper;
use super::lane::Limits;
use super::record::{Head, RECORDS_START};
use super::recovery::{OpenError as JournalError, Recovered};
use super::segment::parse_name;
use super::shared::{BLOCK, Cell, LONGEST_WAIT_MS, Parts, Shared, read};
use super::store::{Store, StoreError, has_content};
use super::tail::{Fresh, Tail};
use super::window::Shape;
use super::{
    AppendError, Appended, Claimed, DeadLetter, Entry, Id, LaneCounts, LaneLimits, Payload, Queue, Settled,
};

/// The most deliveries of one claim.
const MAX_CLAIM: usize = 4096;

/// How long a queue that is dropped waits for reads that nobody wants any more.
const LAST_READS: Duration = Duration::from_secs(5);

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
    /// How much memory the newest calls may hold, decoded, for lanes that keep up: bytes. Default 32 MiB.
    pub tail_bytes: usize,
    /// How much memory what it read last may hold, decoded, for a lane that is behind: bytes. Default 4 MiB.
    pub behind_bytes: usize,
    /// How many events a lane has open at a time, beside parked ones. Default 65,536.
    pub window_events: usize,
    /// How many events of a lane may be parked. Default 65,536.
    pub parked_events: usize,
    /// Whether the lanes stay as the last run left them, whatever `lanes` says; then there must have been one. For whoever
    /// looks at the data directory without running on it. Default no.
    pub as_it_is: bool,
}

impl Options {
    /// The defaults, with the journal's options and the lanes' names.
    pub fn new(journal: journal::Options, lanes: Vec<String>) -> Self {
        Self {
            journal,
            lanes,
            tail_bytes: 32 << 20,
            behind_bytes: 4 << 20,
            window_events: 1 << 16,
            parked_events: 1 << 16,
            as_it_is: false,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            shape: Shape::of_events(self.window_events),
            parked: self.parked_events,
            behind: Limits::BEHIND,
        }
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
    /// The lanes' state is gone, and there are calls.
    #[error(
        "{path} is missing or empty, but the journal beside it holds calls, and without that file nobody knows which of \
         them were delivered: put back a copy of it, which may be older (what was delivered since is delivered again), \
         or move the *.seg files away to give up what was not delivered. docs/operations.md tells more"
    )]
    StateMissing {
        /// The state's file.
        path: PathBuf,
    },
    /// There is nothing to look at.
    #[error(
        "there is no data directory {dir}: [queue] path of the configuration names it, and `fanout serve` creates it"
    )]
    NotThere {
        /// Where it should be.
        dir: PathBuf,
    },
    /// The lanes' state, see the log. A removed lane goes with the next change of lanes.
    #[error(
        "the lanes' state cannot be written down, so no destination was removed; see the errors about that file"
    )]
    NotWritten,
    /// Starting a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// There are more lanes than numbers for them.
    #[error("there have been 65,535 destinations in this data directory: start a new one")]
    TooManyLanes,
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
        // A dropped claim may have left a read behind; until it ends, the directory cannot be opened again.
        let began = Instant::now();
        while Arc::strong_count(&self.shared) > 1 && began.elapsed() < LAST_READS {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl<T: Payload> LocalQueue<T> {
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
        if options.as_it_is && !journal_options.dir.join("state.redb").exists() {
            return Err(OpenError::NotThere { dir: journal_options.dir });
        }
        files.create_dir(&journal_options.dir).map_err(JournalError::io("create", &journal_options.dir))?;
        let state = journal_options.dir.join("state.redb");
        check_state(&*files, &journal_options.dir, &state)?;
        let tail = Arc::new(Tail::new(0, 0, options.tail_bytes));
        let open_journal = |journal_options| {
            let newest = Arc::clone(&tail);
            Journal::open(files, journal_options, clock(), Box::new(move |records| newest.add(records)))
        };
        let store = match Store::open(&state) {
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
        let active = loaded.lanes.iter().filter(|lane| lane.active);
        let as_it_is = options.as_it_is.then(|| active.map(|lane| lane.name.clone()).collect());
        let lanes: Vec<String> = as_it_is.unwrap_or(options.lanes.clone());
        // Where the journal has lost calls, the lanes remember that there were more.
        let journalled = count(&journal, loaded.total)?.max(loaded.journalled());
        tail.begin(journal.next_seq(), journalled);
        let (limits, behind_bytes) = (options.limits(), options.behind_bytes);
        let parts = Parts { journal, store, tail, loaded, clock, decode, limits, behind_bytes };
        let shared = Arc::new(Shared::new(parts));
        shared.journal.set_beside(shared.store.disk_bytes());
        shared.set_lanes(&lanes)?;
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("lane-state".into())
            .spawn(move || keeper::watch(&worker, || keeper::run(&worker)));
        Ok((Self { shared, thread: Some(thread.map_err(OpenError::Thread)?) }, recovered))
    }

    /// Changes which lanes there are. A new one begins at the journal's end; what a removed one has left is recorded
    /// as skipped, `removed`. A lane's deliveries in flight should have been settled before it is removed.
    /// Blocks on the disk.
    pub fn set_lanes(&self, names: &[String]) -> Result<(), OpenError> {
        self.shared.set_lanes(names)
    }

    /// What is needed of a step of a claim is read from the journal, unless a read for the lane is under way: a dropped
    /// claim may have left it behind, and it may be what is needed.
    async fn read_for(&self, cell: &Arc<Cell<T>>, step: Step) {
        let Ok(turn) = Arc::clone(&cell.reads).try_lock_owned() else { return drop(cell.reads.lock().await) };
        if let Some(wait) = cell.trouble.wait() {
            drop(turn);
            return tokio::time::sleep(wait.min(Duration::from_millis(LONGEST_WAIT_MS))).await;
        }
        let (shared, lane) = (Arc::clone(&self.shared), Arc::clone(cell));
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            // Here, since nobody may be waiting for the answer any more.
            match shared.read_for(&lane, step) {
                Ok(()) => lane.trouble.passed(&lane.name),
                Err(error) => lane.trouble.failed(&lane.name, &error),
            }
        });
        if let Err(error) = work.await {
            cell.trouble.failed(&cell.name, &error);
        }
    }
}

/// With a new state the lanes would begin at the journal's end, and what was not delivered would be lost silently.
/// The state is created before the first segment, so calls without it mean that it was lost.
fn check_state(files: &dyn Files, dir: &Path, state: &Path) -> Result<(), OpenError> {
    if has_content(state) {
        return Ok(());
    }
    for name in files.list(dir).map_err(JournalError::io("list", dir))? {
        let segment = dir.join(&name);
        let bytes = || files.open(&segment)?.size();
        if parse_name(&name).is_some() && bytes().map_err(JournalError::io("read", &segment))? > RECORDS_START
        {
            return Err(OpenError::StateMissing { path: state.to_owned() });
        }
    }
    Ok(())
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

#[async_trait]
impl<T: Payload> Queue<T> for LocalQueue<T> {
    async fn append(&self, entries: Vec<Entry<T>>) -> Result<Vec<Appended>, AppendError> {
        let fresh = |entry: Entry<T>| Entry {
            source: entry.source,
            received_at_ms: entry.received_at_ms,
            kind: entry.kind,
            order_key: entry.order_key,
            message_key: entry.message_key,
            payload: Fresh { held_bytes: entry.payload.held_bytes(), payload: entry.payload },
            body: entry.body,
        };
        let result = match entries.iter().try_for_each(|entry| self.shared.check_source(entry.source)) {
            Ok(()) => self.shared.journal.append(entries.into_iter().map(fresh).collect()).await,
            Err(error) => Err(error),
        };
        match &result {
            Ok(appended) if appended.contains(&Appended::Accepted) => self.shared.alarm.accepted(),
            Ok(_) => {}
            Err(error) => {
                let holder = || self.shared.holder().filter(|_| self.shared.journal.is_pressed());
                self.shared.alarm.refused(error, holder);
            }
        }
        result
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
                Step::Search(search) => self.read_for(&cell, Step::Search(search)).await,
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

    fn give_back(&self, lane: &str) {
        if let Some(cell) = self.shared.lane(lane) {
            self.shared.give_back(&cell);
        }
    }

    fn set_limits(&self, lane: &str, limits: LaneLimits) {
        if let Some(cell) = self.shared.lane(lane) {
            self.shared.set_limits(&cell, limits);
        }
    }

    fn broken(&self) -> Option<String> {
        self.shared.broken.load(Ordering::SeqCst).then(|| {
            "deliveries stand still after a fault of the program in keeping their state; restart fanout"
                .to_owned()
        })
    }

    fn counts(&self, lane: &str) -> Option<LaneCounts> {
        self.shared.lane(lane).map(|cell| self.shared.counts(&cell))
    }

    fn dead_letters(&self, lane: &str, after: Option<Id>, max: usize) -> Vec<DeadLetter<T>> {
        let cell = self.shared.lane(lane);
        cell.map(|cell| self.shared.dead_letters(&cell, after, max)).unwrap_or_default()
    }

    fn redrive(&self, lane: &str, ids: &[Id], whole: bool) -> usize {
        self.shared.lane(lane).map_or(0, |cell| self.shared.redrive(&cell, ids, whole))
    }

    fn purge(&self, lane: &str, ids: &[Id]) -> usize {
        self.shared.lane(lane).map_or(0, |cell| self.shared.purge(&cell, ids))
    }

    fn later_of(&self, lane: &str, id: Id) -> Vec<(Id, T)> {
        self.shared.lane(lane).map(|cell| self.shared.later_of(&cell, id)).unwrap_or_default()
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

mod runs;

#[cfg(test)]
mod tests;
