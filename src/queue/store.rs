//! What the lanes have done, on disk: one `redb` file, written in one transaction for all lanes.
//!
//! After a failed write the file is closed and opened again at the next use, which is what `redb` wants after a full
//! disk. What is written when is decided elsewhere.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::chunks;
use super::codes::UNREAD;
use super::delta::{Delta, Row, Saved};
use super::files::remedy;
use super::runs::{self, Run};
use super::window::Shape;
use super::{Code, Dead};

mod letters;

pub use letters::KeptCall;

/// Version of the file's layout.
const FORMAT: u32 = 1;
/// Less than this is not worth making the file smaller: bytes.
const WORTH_GIVING_BACK: u64 = 8 << 20;
/// How much of the file is kept in memory: bytes.
const CACHE: usize = 4 << 20;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const VALUES: TableDefinition<&str, &[u8]> = TableDefinition::new("values");
const SOURCES: TableDefinition<u16, &str> = TableDefinition::new("sources");
/// Number → dead or skipped, reason.
const CODES: TableDefinition<u8, (bool, &str)> = TableDefinition::new("codes");
/// Number → name, active, base, begin.
const LANES: TableDefinition<u16, (&str, bool, u64, u64)> = TableDefinition::new("lanes");
const COUNTS: TableDefinition<(u16, u8), u64> = TableDefinition::new("counts");
const CHUNKS: TableDefinition<(u16, u64), &[u8]> = TableDefinition::new("chunks");
/// Lane, sequence → order key, received, attempts, first attempt, due, reason.
type RowValue = (u64, i64, u32, i64, i64, &'static str);
const ROWS: TableDefinition<(u16, u64), RowValue> = TableDefinition::new("retries");
/// Lane → first sequence, sequence after the last, received from, received before. Not in files of before replays.
const RUNS: TableDefinition<u16, (u64, u64, i64, i64)> = TableDefinition::new("runs");

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Opening, reading or writing the file failed.
    #[error("the state file {path}: {source}; {}", advice(.source))]
    Database {
        /// The file.
        path: PathBuf,
        /// What `redb` says.
        source: Box<redb::Error>,
    },
    /// The file was written by another version of this program.
    #[error(
        "the state file {path} has format {found}, and this version reads format {FORMAT}: use the version that wrote it"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it has.
        found: u32,
    },
}

/// What an operator can do about it.
fn advice(error: &redb::Error) -> &'static str {
    match error {
        redb::Error::Io(error)
            if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            remedy(error)
        }
        redb::Error::PreviousIo => "see the error before this one",
        redb::Error::DatabaseAlreadyOpen => "stop the process that uses it",
        _ => {
            "it is damaged, and without it nobody knows which calls were delivered. Put back a copy of it, which may be \
             older: what was delivered since is delivered again. Without a copy, move the whole directory away and begin \
             a new one, which gives up what was not delivered. docs/operations.md tells more"
        }
    }
}

impl StoreError {
    fn at(path: &Path, source: redb::Error) -> Self {
        Self::Database { path: path.to_owned(), source: Box::new(source) }
    }

    /// Whether another process has the file open.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Database { source, .. } if matches!(**source, redb::Error::DatabaseAlreadyOpen))
    }
}

/// A lane as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedLane {
    /// Its number, the same for ever.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Whether it takes events; `false` for one that was removed.
    pub active: bool,
    /// Its state.
    pub saved: Saved,
}

/// All that was written down, except dead letters and small values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The key of the keyed hash.
    pub hash_key: [u8; 16],
    /// Source names by number.
    pub sources: BTreeMap<u16, String>,
    /// Codes by number.
    pub codes: BTreeMap<u8, Code>,
    /// How many calls were journalled below this sequence: the sequence, the count.
    pub total: (u64, u64),
    /// The lanes.
    pub lanes: Vec<SavedLane>,
    /// Those of them that are runs over retained calls, by number.
    pub runs: BTreeMap<u16, Run>,
}

impl Loaded {
    /// How many calls must have been journalled, by what the lanes have done.
    pub fn journalled(&self) -> u64 {
        self.lanes
            .iter()
            .map(|SavedLane { saved, .. }| saved.begin + saved.counts.values().sum::<u64>())
            .max()
            .unwrap_or(0)
    }
}

/// A dead letter as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadRow {
    /// Its sequence.
    pub seq: u64,
    /// Number of its code.
    pub number: u8,
    /// When it died: milliseconds since 1970.
    pub at_ms: i64,
    /// Its order key.
    pub order_key: u64,
    /// When its call was received: milliseconds since 1970.
    pub received_at_ms: i64,
    /// The rest.
    pub dead: Dead,
}

/// What one transaction writes.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Changes by lane.
    pub lanes: BTreeMap<u16, Delta>,
    /// Dead letters with the lane's number and their sequence; `None` for those that are none any more.
    pub dead: Vec<(u16, u64, Option<DeadRow>)>,
    /// New codes.
    pub codes: Vec<(u8, Code)>,
    /// New sources.
    pub sources: Vec<(u16, String)>,
    /// As in [`Loaded`].
    pub total: Option<(u64, u64)>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.dead.is_empty() && self.codes.is_empty() && self.sources.is_empty()
    }
}

/// Opens the file.
type Opener = Box<dyn Fn() -> Result<Database, redb::Error> + Send + Sync>;

/// See the module.
pub struct Store {
    path: PathBuf,
    open: Opener,
    database: Mutex<Option<Database>>,
    /// Bytes of what was deleted at somebody's wish or is needed no more, since the file was last made smaller.
    freed: AtomicU64,
}

impl Store {
    /// Opens or creates the file, mode 0600. A crash while it is created leaves nothing that must be taken care of.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !has_content(path) {
            let unfinished = path.with_extension("new");
            let created = remove_if_there(&unfinished)
                .map_err(redb::Error::from)
                .map_err(|error| StoreError::at(&unfinished, error))
                .and_then(|()| Self::with_opener(&unfinished, opener(&unfinished, true)));
            drop(created?);
            put_in_place(&unfinished, path).map_err(|error| StoreError::at(path, error.into()))?;
        }
        Self::with_opener(path, opener(path, false))
    }

    fn with_opener(path: &Path, open: Opener) -> Result<Self, StoreError> {
        let store =
            Self { path: path.to_owned(), open, database: Mutex::new(None), freed: AtomicU64::new(0) };
        store.prepare()?;
        Ok(store)
    }

    /// Creates the tables in a new file, and checks the format of an old one.
    fn prepare(&self) -> Result<(), StoreError> {
        let found = self.with(|database| {
            let tx = database.begin_read()?;
            match tx.open_table(META) {
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                table => Ok(table?.get("format")?.map(|value| version(value.value()))),
            }
        })?;
        match found {
            // What came after the first release of the format.
            Some(FORMAT) => self.write(create_later_tables),
            Some(found) => Err(StoreError::Format { path: self.path.clone(), found }),
            None => self.write(create),
        }
    }

    fn error(&self, source: redb::Error) -> StoreError {
        StoreError::at(&self.path, source)
    }

    /// Runs `work` on the open file; after a failure the next call opens it again.
    fn with<R>(&self, work: impl FnOnce(&mut Database) -> Result<R, redb::Error>) -> Result<R, StoreError> {
        let mut place = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let mut database = match place.take() {
            Some(database) => database,
            None => (self.open)().map_err(|error| self.error(error))?,
        };
        let result = work(&mut database).map_err(|error| self.error(error))?;
        *place = Some(database);
        Ok(result)
    }

    fn write<R>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<R, redb::Error>,
    ) -> Result<R, StoreError> {
        self.with(|database| {
            let tx = database.begin_write()?;
            let result = work(&tx)?;
            tx.commit()?;
            Ok(result)
        })
    }

    /// Reads all that was written down.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        self.with(|database| {
            let tx = database.begin_read()?;
            let meta = tx.open_table(META)?;
            let mut loaded = Loaded::default();
            if let Some(key) = meta.get("hash_key")?.and_then(|value| value.value().try_into().ok()) {
                loaded.hash_key = key;
            }
            if let Some(total) = meta.get("total")? {
                loaded.total = split_total(total.value()).unwrap_or_default();
            }
            for entry in tx.open_table(SOURCES)?.iter()? {
                let (id, name) = entry?;
                loaded.sources.insert(id.value(), name.value().to_owned());
            }
            for entry in tx.open_table(CODES)?.iter()? {
                let (number, code) = entry?;
                let (dead, text) = code.value();
                let code = if dead { Code::Dead } else { Code::Skipped }(text.to_owned());
                loaded.codes.insert(number.value(), code);
            }
            for entry in tx.open_table(LANES)?.iter()? {
                let (id, lane) = entry?;
                let (name, active, base, begin) = lane.value();
                let saved = Saved { base, begin, ..Saved::default() };
                loaded.lanes.push(SavedLane { id: id.value(), name: name.to_owned(), active, saved });
            }
            loaded.runs = load_runs(&tx)?;
            let (counts, chunks, rows) =
                (tx.open_table(COUNTS)?, tx.open_table(CHUNKS)?, tx.open_table(ROWS)?);
            for SavedLane { id, saved, .. } in &mut loaded.lanes {
                let id = *id;
                for entry in counts.range((id, 0)..=(id, u8::MAX))? {
                    let (key, count) = entry?;
                    saved.counts.insert(key.value().1, count.value());
                }
                for entry in chunks.range((id, saved.base >> Shape::CHUNK_BITS)..=(id, u64::MAX))? {
                    let (key, bytes) = entry?;
                    saved.chunks.insert(key.value().1, bytes.value().to_owned());
                }
                for entry in rows.range((id, 0)..=(id, u64::MAX))? {
                    let (key, row) = entry?;
                    saved.rows.insert(key.value().1, row_of(row.value()));
                }
                letters::load_redriven(&tx, id, saved)?;
            }
            Ok(loaded)
        })
    }

    /// Writes a batch, all or nothing.
    pub fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut freed = 0;
        self.write(|tx| {
            for (lane, delta) in &batch.lanes {
                write_delta(tx, *lane, delta)?;
            }
            freed = letters::write(tx, &batch.dead)?;
            let mut codes = tx.open_table(CODES)?;
            for (number, code) in &batch.codes {
                match code {
                    Code::Dead(text) => drop(codes.insert(number, (true, text.as_str()))?),
                    Code::Skipped(text) => drop(codes.insert(number, (false, text.as_str()))?),
                    _ => {}
                }
            }
            let mut sources = tx.open_table(SOURCES)?;
            for (id, name) in &batch.sources {
                sources.insert(id, name.as_str())?;
            }
            if let Some((seq, count)) = batch.total {
                let bytes = [seq.to_le_bytes(), count.to_le_bytes()].concat();
                tx.open_table(META)?.insert("total", bytes.as_slice())?;
            }
            Ok(())
        })?;
        self.freed.fetch_add(freed, Ordering::Relaxed);
        Ok(())
    }

    /// Writes down that lanes exist and where they stand, or that they were removed; not their other state.
    pub fn put_lanes<'a>(&self, lanes: impl IntoIterator<Item = &'a SavedLane>) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut table = tx.open_table(LANES)?;
            for SavedLane { id, name, active, saved } in lanes {
                table.insert(id, (name.as_str(), *active, saved.base, saved.begin))?;
            }
            Ok(())
        })
    }

    /// Writes down that there is a run.
    pub fn put_run(&self, lane: &SavedLane, run: &Run) -> Result<(), StoreError> {
        let SavedLane { id, name, active, saved } = lane;
        self.write(|tx| {
            tx.open_table(LANES)?.insert(id, (name.as_str(), *active, saved.base, saved.begin))?;
            let Run { first, end, range: runs::Range { since_ms, until_ms } } = *run;
            tx.open_table(RUNS)?.insert(id, (first, end, since_ms, until_ms))?;
            Ok(())
        })
    }

    /// Deletes a run and all that was written down of it.
    pub fn delete_run(&self, lane: u16) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.open_table(RUNS)?.remove(lane)?;
            tx.open_table(LANES)?.remove(lane)?;
            tx.open_table(COUNTS)?.retain_in((lane, 0)..=(lane, u8::MAX), |_, _| false)?;
            tx.open_table(CHUNKS)?.retain_in((lane, 0)..=(lane, u64::MAX), |_, _| false)?;
            tx.open_table(ROWS)?.retain_in((lane, 0)..=(lane, u64::MAX), |_, _| false)?;
            letters::delete(tx, lane)
        })
    }

    /// The states that are written down of a chunk; none if nothing is.
    pub fn chunk(&self, lane: u16, number: u64) -> Result<Vec<u8>, StoreError> {
        self.with(|database| {
            let tx = database.begin_read()?;
            let chunk = tx.open_table(CHUNKS)?.get((lane, number))?;
            let decoded = chunk.and_then(|bytes| chunks::decode(bytes.value(), 1 << Shape::CHUNK_BITS));
            Ok(decoded.unwrap_or_default())
        })
    }

    /// Deletes the outcomes of sequences in a range that the journal does not have any more, and the dead letters whose
    /// calls are not kept.
    pub fn prune(&self, lanes: &[u16], gone: Range<u64>) -> Result<(), StoreError> {
        let before = gone.end >> Shape::CHUNK_BITS;
        self.write(|tx| {
            let mut chunks = tx.open_table(CHUNKS)?;
            for lane in lanes {
                chunks.retain_in((*lane, 0)..(*lane, before), |_, _| false)?;
            }
            letters::prune(tx, lanes, &gone)
        })
    }

    /// The state that is written down of a sequence, as a number; unread if none is.
    pub fn outcome(&self, lane: u16, seq: u64) -> Result<u8, StoreError> {
        self.with(|database| {
            let tx = database.begin_read()?;
            let Some(bytes) = tx.open_table(CHUNKS)?.get((lane, seq >> Shape::CHUNK_BITS))? else {
                return Ok(UNREAD);
            };
            let states = chunks::decode(bytes.value(), 1 << Shape::CHUNK_BITS).unwrap_or_default();
            Ok(states.get(in_chunk(seq)).copied().unwrap_or(UNREAD))
        })
    }

    /// Reads a small value.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|database| {
            let tx = database.begin_read()?;
            Ok(tx.open_table(VALUES)?.get(key)?.map(|value| value.value().to_owned()))
        })
    }

    /// Writes a small value.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.open_table(VALUES)?.insert(key, value)?;
            Ok(())
        })
    }

    /// Makes the file smaller if much of it was deleted: it keeps its length otherwise, and counts with it. May take
    /// seconds.
    pub fn give_room_back(&self) -> Result<(), StoreError> {
        let freed = self.freed.load(Ordering::Relaxed);
        if freed < WORTH_GIVING_BACK || freed < self.disk_bytes() / 4 {
            return Ok(());
        }
        self.freed.store(0, Ordering::Relaxed);
        self.with(|database| Ok(database.compact().map(drop)?))
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }
}

/// Whether there is a file with something in it.
pub fn has_content(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

fn opener(path: &Path, create: bool) -> Opener {
    let path = path.to_owned();
    Box::new(move || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).truncate(false).mode(0o600);
        let backend = FileBackend::new(options.open(&path)?)?;
        Ok(builder().create_with_backend(backend)?)
    })
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn put_in_place(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    match to.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// A file that was damaged must fail to open: without the check, `redb` may trust it and panic.
fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

/// A version that cannot be read is none that is known.
fn version(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(u32::MAX, u32::from_le_bytes)
}

fn create(tx: &WriteTransaction) -> Result<(), redb::Error> {
    let mut meta = tx.open_table(META)?;
    meta.insert("format", FORMAT.to_le_bytes().as_slice())?;
    // 122 of its 128 bits are random, from the operating system.
    meta.insert("hash_key", uuid::Uuid::new_v4().as_bytes().as_slice())?;
    tx.open_table(VALUES)?;
    tx.open_table(SOURCES)?;
    tx.open_table(CODES)?;
    tx.open_table(LANES)?;
    tx.open_table(COUNTS)?;
    tx.open_table(CHUNKS)?;
    tx.open_table(ROWS)?;
    create_later_tables(tx)
}

fn create_later_tables(tx: &WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(RUNS)?;
    letters::create(tx)
}

/// Reads which lanes are runs.
fn load_runs(tx: &redb::ReadTransaction) -> Result<BTreeMap<u16, Run>, redb::Error> {
    let mut runs = BTreeMap::new();
    for entry in tx.open_table(RUNS)?.iter()? {
        let (lane, run) = entry?;
        let (first, end, since_ms, until_ms) = run.value();
        runs.insert(lane.value(), Run { first, end, range: runs::Range { since_ms, until_ms } });
    }
    Ok(runs)
}

fn in_chunk(seq: u64) -> usize {
    (seq & ((1 << Shape::CHUNK_BITS) - 1)) as usize
}

fn split_total(bytes: &[u8]) -> Option<(u64, u64)> {
    let (seq, count) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*seq), u64::from_le_bytes(count.try_into().ok()?)))
}

fn row_of((order_key, received_at_ms, attempts, first, due, reason): (u64, i64, u32, i64, i64, &str)) -> Row {
    let reason = reason.to_owned();
    Row { order_key, received_at_ms, attempts, first_attempt_at_ms: first, due_at_ms: due, reason }
}

fn write_delta(tx: &WriteTransaction, lane: u16, delta: &Delta) -> Result<(), redb::Error> {
    let mut lanes = tx.open_table(LANES)?;
    let known = lanes.get(lane)?.map(|known| (known.value().0.to_owned(), known.value().1));
    if let Some((name, active)) = known {
        lanes.insert(lane, (name.as_str(), active, delta.base, delta.begin))?;
    }
    let mut counts = tx.open_table(COUNTS)?;
    for (code, count) in &delta.counts {
        counts.insert((lane, *code), *count)?;
    }
    let mut chunks = tx.open_table(CHUNKS)?;
    for (number, bytes) in &delta.chunks {
        chunks.insert((lane, *number), bytes.as_slice())?;
    }
    let mut patches: BTreeMap<u64, Vec<(u64, u8)>> = BTreeMap::new();
    for patch in &delta.patches {
        patches.entry(patch.0 >> Shape::CHUNK_BITS).or_default().push(*patch);
    }
    for (number, patches) in patches {
        let len = 1 << Shape::CHUNK_BITS;
        let known = chunks.get((lane, number))?.and_then(|bytes| chunks::decode(bytes.value(), len));
        let mut states = known.unwrap_or_else(|| vec![UNREAD; len]);
        for (seq, code) in patches {
            if let Some(state) = states.get_mut(in_chunk(seq)) {
                *state = code;
            }
        }
        chunks.insert((lane, number), chunks::encode(&states).as_slice())?;
    }
    let mut rows = tx.open_table(ROWS)?;
    letters::write_redriven(tx, lane, delta)?;
    for (seq, row) in &delta.rows {
        match row {
            Some(row) => {
                let value = (
                    row.order_key,
                    row.received_at_ms,
                    row.attempts,
                    row.first_attempt_at_ms,
                    row.due_at_ms,
                    row.reason.as_str(),
                );
                rows.insert((lane, *seq), value)?;
            }
            None => drop(rows.remove((lane, *seq))?),
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
