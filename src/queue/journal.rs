//! The journal: records kept durably in segment files, appended through one writing thread, read from anywhere.
//! Knows bytes and sequences; who still needs a record is for the caller to say.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::duplicates::Duplicates;
use super::files::{Files, Lock, LockError, is_unreadable, remedy};
use super::reader::{Gap, Step, Unreadable, Walk};
use super::record::{Head, RECORD_HEAD, SegmentHead, Start};
use super::recovery::{Damage, OpenError, Recovered, Recovery, start_of};
use super::segment::{End, Place, Segment};
use super::writer::{Active, Limits, OnDurable, Shared, Writer};
use super::{AppendError, Appended, Entry};

/// Damaged places beyond this many are counted no more.
const DAMAGED_KEPT: usize = 10_000;
/// A segment is at most this part of the disk that may be used, so that space can be given back in small steps.
const SEGMENTS_AT_LEAST: u64 = 8;
/// A segment covers at most this part of the time for which records are kept, so that they go in small steps.
const SEGMENTS_IN_TIME: u32 = 8;
/// A segment covers at most this.
const LONGEST_SEGMENT: Duration = Duration::from_hours(24);
/// However short the time for which records are kept, a segment is not left earlier.
const SHORTEST_SEGMENT: Duration = Duration::from_mins(1);
/// What stays free on the file system is at most this part of the disk that may be used.
const FREE_PART: u64 = 16;
/// Failures to read one place that are further apart than this are not one failure that lasts.
const LASTING: Duration = Duration::from_mins(2);
/// Places that cannot be read beyond this many are waited for from the beginning again.
const FAILING_KEPT: usize = 1000;

/// How a journal is to be kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its directory; created if missing.
    pub dir: PathBuf,
    /// About how large a segment file becomes, in bytes. Default 48 MiB.
    pub segment_bytes: u64,
    /// What all segment files, and the files beside them, may take, in bytes. Default 10 GiB. Appends are refused when a
    /// sixteenth of it is left.
    pub max_disk_bytes: u64,
    /// What stays free on the file system, in bytes. Default 64 MiB; never more than a sixteenth of `max_disk_bytes`.
    pub min_free_bytes: u64,
    /// How long records are kept that nobody needs. Default 7 days.
    pub retain: Duration,
    /// How long a repeated message is known as such. Default 24 hours; 0 switches that off.
    pub duplicate_window: Duration,
    /// How many messages of each source are known. Default 1,000,000; 0 switches that off.
    pub duplicate_entries: usize,
    /// No sequence below this one is given out, and where the journal ends before it, that is damage. Default 1. For an
    /// owner that has seen sequences which a failing disk may have lost since.
    pub min_next_seq: u64,
    /// How long a part that the disk cannot read is tried again while the journal is opened, before it is given up as
    /// damaged. Default 3 seconds.
    pub patience_at_open: Duration,
    /// How long a part must stay unreadable, while the rest of its file can be read, before it is given up as damaged.
    /// Until then reading it is an error. Default 10 minutes.
    pub patience: Duration,
}

impl Options {
    /// The defaults, in a directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 48 << 20,
            max_disk_bytes: 10 << 30,
            min_free_bytes: 64 << 20,
            retain: Duration::from_hours(7 * 24),
            duplicate_window: Duration::from_hours(24),
            duplicate_entries: 1_000_000,
            min_next_seq: 1,
            patience_at_open: Duration::from_secs(3),
            patience: Duration::from_mins(10),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            dir: self.dir.clone(),
            segment_bytes: self.segment_bytes.min(self.max_disk_bytes / SEGMENTS_AT_LEAST),
            segment_ms: self.segment_ms(),
            max_disk_bytes: self.max_disk_bytes,
            watermark_bytes: self.max_disk_bytes - self.max_disk_bytes / 16,
            min_free_bytes: self.min_free_bytes.min(self.max_disk_bytes / FREE_PART),
        }
    }

    /// How much time one segment covers: milliseconds.
    fn segment_ms(&self) -> i64 {
        let part = (self.retain / SEGMENTS_IN_TIME).clamp(SHORTEST_SEGMENT, LONGEST_SEGMENT);
        i64::try_from(part.as_millis()).unwrap_or(i64::MAX)
    }

    /// Above this, segments that nobody needs go before their time: a sixteenth below the watermark.
    fn pressed_bytes(&self) -> u64 {
        self.max_disk_bytes - self.max_disk_bytes / 8
    }
}

/// A record as it was read.
pub type Stored = (Head, Arc<[u8]>);

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}; {}", remedy(.source))]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// The disk's answer.
    pub source: io::Error,
}

/// An open journal. Dropping it does as [`Journal::close`] does.
pub struct Journal<P> {
    files: Arc<dyn Files>,
    options: Options,
    shared: Arc<Shared<P>>,
    damaged: Mutex<BTreeSet<(PathBuf, u64)>>,
    failing: Mutex<BTreeMap<(PathBuf, u64), Failing>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    _lock: Arc<dyn Lock>,
}

/// A place that cannot be read.
struct Failing {
    since: Instant,
    last: Instant,
}

/// Where reading a segment stopped, and why.
struct Stopped {
    offset: u64,
    error: io::Error,
}

/// What was read of one segment.
struct Part {
    records: Vec<Stored>,
    bytes: usize,
}

impl<P: Send + 'static> Journal<P> {
    /// Opens the journal in a directory, or creates it, and recovers what is in it.
    ///
    /// `on_durable` is called by the writing thread, in the order of sequences, after the sync and before those who
    /// wait for it go on; at that time [`Journal::read`] finds the records too. It must not block for long.
    pub fn open(
        files: Arc<dyn Files>,
        options: Options,
        now_ms: i64,
        on_durable: OnDurable<P>,
    ) -> Result<(Self, Recovered), OpenError> {
        let dir = options.dir.as_path();
        files.create_dir(dir).map_err(OpenError::io("create", dir))?;
        let lock: Arc<dyn Lock> = Arc::from(lock(&*files, dir)?);
        let mut duplicates = Duplicates::new(options.duplicate_window, options.duplicate_entries);
        let recovery = Recovery {
            files: &*files,
            dir,
            min_next_seq: options.min_next_seq,
            window: options.duplicate_window,
            now_ms,
            patience: options.patience_at_open,
        };
        let state = recovery.run(&mut duplicates)?;
        let newest = state.segments.back().map(Arc::clone);
        let active = newest.zip(state.active).and_then(|(segment, file)| {
            let head = segment.head?;
            let began_at_ms = head.created_at_ms;
            Some(Active { segment, head, file, began_at_ms })
        });
        let next_seq = state.recovered.next_seq;
        let shared = Arc::new(Shared::new(state.segments, next_seq));
        let writer = Writer {
            shared: Arc::clone(&shared),
            files: Arc::clone(&files),
            lock: Arc::clone(&lock),
            limits: options.limits(),
            duplicates,
            active,
            next_seq,
            end_seq: state.end_seq,
            on_durable,
            swept_at_ms: now_ms,
            buffer: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(|| writer.run());
        let thread = thread.map_err(OpenError::io("start the writer of", dir))?;
        let (damaged, failing) = (Mutex::default(), Mutex::default());
        let writer = Mutex::new(Some(thread));
        let journal = Self { files, options, shared, damaged, failing, writer, _lock: lock };
        for damage in &state.recovered.damaged {
            journal.report(damage);
        }
        Ok((journal, state.recovered))
    }

    /// Keeps entries durably, all or none: once this returns `Ok`, they survive a crash. The answers are in the
    /// entries' order. A message that repeats one of the same append or of one that is being written shares its fate.
    ///
    /// An append is at most 32 MiB long and a body 16 MiB.
    ///
    /// Where this is dropped before it returns, the entries may be kept or not.
    pub async fn append(&self, entries: Vec<Entry<P>>) -> Result<Vec<Appended>, AppendError> {
        let (reply, answer) = oneshot::channel();
        self.shared.submit(entries, reply)?;
        let ended = |_| AppendError::Failed("the journal's writer has ended; restart the program".to_owned());
        answer.await.map_err(ended)?
    }

    /// Reads durable records from a sequence on, in order, until `max_bytes` are reached; at least one record unless
    /// there is none. Blocks on the disk. Sequences without a record are possible: damaged, failed or retired ones;
    /// what is below the first record that is returned, or below the earlier [`Journal::next_seq`] if none is, will
    /// never be there.
    pub fn read(&self, from_seq: u64, max_bytes: usize) -> Result<Vec<Stored>, ReadError> {
        let mut part = Part { records: Vec::new(), bytes: 0 };
        let (mut from_seq, max_bytes) = (from_seq, max_bytes.max(1));
        while let Some((segment, newer_first)) = self.segment_with(from_seq) {
            self.read_segment(&segment, from_seq, max_bytes, &mut part)?;
            match newer_first {
                Some(first_seq) if part.bytes < max_bytes => from_seq = first_seq,
                _ => break,
            }
        }
        Ok(part.records)
    }

    /// The lowest sequence that a record can have.
    pub fn first_seq(&self) -> u64 {
        self.shared.segments().front().map_or_else(|| self.next_seq(), |segment| segment.first_seq)
    }

    /// All records below this sequence are durable.
    pub fn next_seq(&self) -> u64 {
        self.shared.next_seq()
    }

    /// Bytes of all segments.
    pub fn disk_bytes(&self) -> u64 {
        self.shared.disk_bytes()
    }

    /// Says how many bytes the files beside the journal have, which count against its limit.
    pub fn set_beside(&self, bytes: u64) {
        self.shared.set_beside(bytes);
    }

    /// Whether space is short: by the limit, or on the file system.
    pub fn is_pressed(&self) -> bool {
        let keep_free = self.options.limits().min_free_bytes.saturating_mul(2);
        self.shared.used_bytes() > self.options.pressed_bytes()
            || self.files.available(&self.options.dir).is_ok_and(|available| available < keep_free)
    }

    /// How many damaged places were met since the journal was opened.
    pub fn damaged(&self) -> u64 {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// Removes the oldest segments whose records are all below `needed_from`, where they are older than
    /// [`Options::retain`] or disk space is short. The newest one is left for a new one when it is old, so that it can
    /// go too. To be called now and then. Blocks on the disk.
    pub fn retain(&self, needed_from: u64, now_ms: i64) {
        self.leave_old(needed_from, now_ms);
        let retain_ms = i64::try_from(self.options.retain.as_millis()).unwrap_or(i64::MAX);
        while let Some(segment) = self.retired(needed_from, now_ms.saturating_sub(retain_ms)) {
            // One after the other, durably, and never past one that stays: a gap between segments would look like
            // damage.
            if let Err(error) = self.remove(&segment) {
                let path = segment.path.display();
                tracing::warn!(%path, %error, "a segment that nobody needs was not removed; trying again later");
                return;
            }
        }
    }

    /// Goes on in a new segment, soon, if nobody needs anything and the newest one is old: so it can go in its time though
    /// no call comes.
    pub fn leave_old(&self, needed_from: u64, now_ms: i64) {
        if self.next_seq() <= needed_from {
            self.shared.leave_old(now_ms);
        }
    }

    /// Below which sequence [`Journal::retain`] would remove segments next; 0 if it would remove none.
    pub fn leaves_below(&self, needed_from: u64, now_ms: i64) -> u64 {
        let retain_ms = i64::try_from(self.options.retain.as_millis()).unwrap_or(i64::MAX);
        let oldest_ms = now_ms.saturating_sub(retain_ms);
        let pressed = self.is_pressed();
        let segments = self.shared.segments();
        let newer = segments.get(1).filter(|newer| newer.first_seq <= needed_from);
        newer.filter(|newer| pressed || newer.created_at_ms < oldest_ms).map_or(0, |newer| newer.first_seq)
    }

    /// See [`Options::max_disk_bytes`].
    pub fn max_disk_bytes(&self) -> u64 {
        self.options.max_disk_bytes
    }

    /// Refuses further appends, waits until what was appended before is written, and ends the writer.
    pub fn close(&self) {
        self.shared.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the journal's writer had panicked");
        }
    }

    /// The oldest segment, if it may go.
    fn retired(&self, needed_from: u64, oldest_ms: i64) -> Option<Arc<Segment>> {
        let pressed = self.is_pressed();
        let segments = self.shared.segments();
        // Its records are at least as old as the next segment; the newest segment stays.
        let newer = segments.get(1)?;
        let may_go = newer.first_seq <= needed_from && (pressed || newer.created_at_ms < oldest_ms);
        segments.front().filter(|_| may_go).map(Arc::clone)
    }

    fn remove(&self, segment: &Arc<Segment>) -> io::Result<()> {
        segment.retire();
        match self.files.remove(&segment.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.files.sync_dir(&self.options.dir)?,
        }
        let mut segments = self.shared.segments();
        segments.pop_front_if(|first| Arc::ptr_eq(first, segment));
        Ok(())
    }

    /// The segment that has a sequence, or the first after it, and the first sequence of the segment after that.
    fn segment_with(&self, seq: u64) -> Option<(Arc<Segment>, Option<u64>)> {
        let segments = self.shared.segments();
        let at = segments.partition_point(|segment| segment.first_seq <= seq).saturating_sub(1);
        let segment = segments.get(at)?;
        Some((Arc::clone(segment), segments.get(at + 1).map(|newer| newer.first_seq)))
    }

    fn read_segment(
        &self,
        segment: &Segment,
        from_seq: u64,
        max_bytes: usize,
        part: &mut Part,
    ) -> Result<(), ReadError> {
        let Some(head) = segment.head else { return Ok(()) };
        let unreadable = if segment.has_holes() { Unreadable::IsDamage } else { Unreadable::IsError };
        let Err(Stopped { offset, error }) = self.walk(segment, head, from_seq, max_bytes, unreadable, part)
        else {
            return Ok(());
        };
        if error.kind() == io::ErrorKind::NotFound && segment.is_retired() {
            return Ok(());
        }
        if !part.records.is_empty() {
            // Whoever wants the next ones will hear of it.
            part.bytes = usize::MAX;
            return Ok(());
        }
        if is_unreadable(&error) && self.is_hopeless(segment, offset) {
            segment.give_up_holes();
            return self.read_segment(segment, from_seq, max_bytes, part);
        }
        Err(ReadError { path: segment.path.clone(), source: error })
    }

    /// Whether a place has been unreadable for so long that it is given up. While nothing of the file can be read, it is
    /// not: then the disk is gone, and may come back.
    fn is_hopeless(&self, segment: &Segment, offset: u64) -> bool {
        if segment.has_holes() {
            return false;
        }
        let now = Instant::now();
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.retain(|_, place| now.duration_since(place.last) < LASTING);
        if failing.len() >= FAILING_KEPT {
            failing.clear();
        }
        let place =
            failing.entry((segment.path.clone(), offset)).or_insert(Failing { since: now, last: now });
        place.last = now;
        now.duration_since(place.since) >= self.options.patience && self.can_read_head(segment)
    }

    /// Asks the disk itself.
    fn can_read_head(&self, segment: &Segment) -> bool {
        let read = || {
            let file = self.files.open(&segment.path)?;
            file.forget(0);
            start_of(&*file)
        };
        matches!(read(), Ok(Start::Segment(_)))
    }

    fn walk(
        &self,
        segment: &Segment,
        head: SegmentHead,
        from_seq: u64,
        max_bytes: usize,
        unreadable: Unreadable,
        part: &mut Part,
    ) -> Result<(), Stopped> {
        let End { bytes, seq: end_seq } = segment.end();
        if from_seq >= end_seq {
            return Ok(());
        }
        let file = self.files.open(&segment.path).map_err(|error| Stopped { offset: 0, error })?;
        let start = segment.place_before(from_seq);
        let mut walk = Walk::new(&*file, head, start, bytes, end_seq).with(unreadable);
        while part.bytes < max_bytes {
            let offset = walk.offset();
            match walk.step().map_err(|error| Stopped { offset, error })? {
                Step::Record { offset, head, body } => {
                    segment.note(Place { seq: head.seq, offset });
                    if head.seq >= from_seq {
                        part.bytes += RECORD_HEAD + body.len();
                        part.records.push((head, Arc::from(body)));
                    }
                    if head.seq + 1 == end_seq {
                        return Ok(());
                    }
                }
                Step::Damaged(gap) => self.report(&Damage::new(&segment.path, gap)),
                Step::End { offset, end_seq: found } => {
                    let gap = Gap { offset, bytes: bytes.saturating_sub(offset), first_seq: found, end_seq };
                    self.report(&Damage::new(&segment.path, gap));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reports a damaged place once.
    fn report(&self, damage: &Damage) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.len() < DAMAGED_KEPT && damaged.insert((damage.path.clone(), damage.offset)) {
            tracing::error!("{damage}");
        }
    }
}

impl<P> Drop for Journal<P> {
    fn drop(&mut self) {
        self.shared.close();
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // A panic of the writer was reported to those who waited for it.
        let _ = writer.map(JoinHandle::join);
    }
}

fn lock(files: &dyn Files, dir: &Path) -> Result<Box<dyn Lock>, OpenError> {
    let path = dir.join("lock");
    files.lock(&path).map_err(|error| match error {
        LockError::Held(holder) => OpenError::Locked { dir: dir.to_owned(), holder },
        LockError::Io(source) => OpenError::Io { what: "lock", path, source },
    })
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod failing;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
