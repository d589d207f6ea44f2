//! The journal's one writer: takes whatever waits, writes it with one write, syncs once, wakes everyone.
//!
//! No timer: a lone append waits for one sync only, and what arrives meanwhile shares the next one. A failed write or
//! sync is final for its file: the file is cut back to what was durable and left, its waiting appends fail, and the
//! next ones go to a new file whose head says where the old one ended. Sequences of failed appends are not used again.
//! A file in which nothing became durable is removed, so that a disk that fails again and again does not fill up.
//!
//! Nothing is acknowledged that went to a file which is no longer where the next start looks for it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::duplicates::Duplicates;
use super::files::{self, Disk, Files, Lock, write_all};
use super::record::{self, Head, MAX_BODY, RECORD_HEAD, SegmentHead};
use super::segment::{self, End, Place, Segment};
use super::{AppendError, Appended, Entry};

/// The largest append, and so the largest write: 32 MiB with the records' heads.
pub const MAX_APPEND: usize = 32 << 20;
/// What one sync is shared by, at most, unless a single append is larger.
const GROUP_BYTES: usize = 8 << 20;
/// What may wait for the writer: 64 MiB. Beyond it appends are refused.
const WAITING_BYTES: usize = 64 << 20;
/// A write buffer that had to grow beyond this is given back.
const BUFFER_KEPT: usize = 1 << 20;
/// Old entries of the window of duplicates are looked for this often.
const SWEEP_EVERY_MS: i64 = 60_000;

/// Told what has become durable.
pub type OnDurable<P> = Box<dyn FnMut(Vec<(Head, P)>) + Send>;
type Reply = oneshot::Sender<Result<Vec<Appended>, AppendError>>;

/// What the writer and everyone else use together.
pub struct Shared<P> {
    waiting: Mutex<Waiting<P>>,
    wake: Condvar,
    segments: Mutex<VecDeque<Arc<Segment>>>,
    next_seq: AtomicU64,
    beside: AtomicU64,
}

struct Waiting<P> {
    requests: VecDeque<Request<P>>,
    bytes: usize,
    /// The time at which an old segment is to be left, if that was asked for.
    leave_old: Option<i64>,
    closed: bool,
}

/// What the writer is to do next.
enum Work<P> {
    Commit(Vec<Request<P>>),
    LeaveOld(i64),
}

struct Request<P> {
    entries: Vec<Entry<P>>,
    bytes: usize,
    reply: Reply,
}

impl<P> Shared<P> {
    /// With the segments that were found, and the sequence below which all is durable.
    pub fn new(segments: VecDeque<Arc<Segment>>, next_seq: u64) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                requests: VecDeque::new(),
                bytes: 0,
                leave_old: None,
                closed: false,
            }),
            wake: Condvar::new(),
            segments: Mutex::new(segments),
            next_seq: AtomicU64::new(next_seq),
            beside: AtomicU64::new(0),
        }
    }

    /// All records below are durable.
    pub fn next_seq(&self) -> u64 {
        self.next_seq.load(Ordering::Acquire)
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> MutexGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.end().bytes).sum()
    }

    /// Bytes on disk, with those of the files beside the journal that share its limit.
    pub fn used_bytes(&self) -> u64 {
        self.disk_bytes() + self.beside.load(Ordering::Relaxed)
    }

    /// Says how many bytes the files beside the journal have.
    pub fn set_beside(&self, bytes: u64) {
        self.beside.store(bytes, Ordering::Relaxed);
    }

    /// Lets the writer leave the segment in use for a new one, if it is old.
    pub fn leave_old(&self, now_ms: i64) {
        self.waiting().leave_old = Some(now_ms);
        self.wake.notify_one();
    }

    /// Hands entries to the writer.
    pub fn submit(&self, entries: Vec<Entry<P>>, reply: Reply) -> Result<(), AppendError> {
        let bytes = entries.iter().map(|entry| RECORD_HEAD + entry.body.len()).sum();
        if bytes > MAX_APPEND || entries.iter().any(|entry| entry.body.len() > MAX_BODY) {
            let text = format!("more than {MAX_APPEND} bytes at once, or more than {MAX_BODY} in one record");
            return Err(AppendError::Failed(text));
        }
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(AppendError::Closed);
        }
        if waiting.bytes > WAITING_BYTES {
            let text = format!(
                "{WAITING_BYTES} bytes wait for the disk already, which is too slow for what comes in"
            );
            return Err(AppendError::Full(text));
        }
        waiting.bytes += bytes;
        waiting.requests.push_back(Request { entries, bytes, reply });
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Lets the writer finish what waits, and then end. Later appends are refused.
    pub fn close(&self) {
        self.waiting().closed = true;
        self.wake.notify_all();
    }

    /// Waits for requests and takes as many as may share a sync; `None` once closed and finished.
    fn take(&self) -> Option<Work<P>> {
        let mut waiting = self.waiting();
        while waiting.requests.is_empty() {
            if waiting.closed {
                return None;
            }
            if let Some(now_ms) = waiting.leave_old.take() {
                return Some(Work::LeaveOld(now_ms));
            }
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut count, mut bytes) = (0, 0);
        for request in &waiting.requests {
            if count > 0 && bytes + request.bytes > GROUP_BYTES {
                break;
            }
            count += 1;
            bytes += request.bytes;
        }
        waiting.bytes -= bytes;
        Some(Work::Commit(waiting.requests.drain(..count).collect()))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<P>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where and how much to write.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The journal's directory.
    pub dir: PathBuf,
    /// A segment is left for a new one when it would grow beyond this.
    pub segment_bytes: u64,
    /// A segment is left for a new one when it is older than this: milliseconds.
    pub segment_ms: i64,
    /// What the segments, and the files beside them, may take.
    pub max_disk_bytes: u64,
    /// Appends are refused beyond this.
    pub watermark_bytes: u64,
    /// What stays free on the file system.
    pub min_free_bytes: u64,
}

/// Everything the writing thread owns.
pub struct Writer<P> {
    /// Shared with the journal.
    pub shared: Arc<Shared<P>>,
    /// The file system.
    pub files: Arc<dyn Files>,
    /// Of the directory.
    pub lock: Arc<dyn Lock>,
    /// Where and how much.
    pub limits: Limits,
    /// Which messages came in lately.
    pub duplicates: Duplicates,
    /// The segment that is written to.
    pub active: Option<Active>,
    /// For the next record.
    pub next_seq: u64,
    /// After the last durable record.
    pub end_seq: u64,
    /// Told what is durable.
    pub on_durable: OnDurable<P>,
    /// When old duplicates were last looked for.
    pub swept_at_ms: i64,
    /// What is about to be written.
    pub buffer: Vec<u8>,
}

/// The segment that is written to.
pub struct Active {
    /// As readers know it.
    pub segment: Arc<Segment>,
    /// Its head.
    pub head: SegmentHead,
    /// Its file.
    pub file: Box<dyn Disk>,
    /// When its first record came: milliseconds since 1970.
    pub began_at_ms: i64,
}

/// An append that waits for the group's sync.
struct Waiter {
    reply: Reply,
    appended: Vec<Appended>,
    /// Source and message key of what was dropped.
    repeated: Vec<(u16, u64)>,
}

/// Records that go to disk together.
struct Group<P> {
    waiters: Vec<Waiter>,
    fresh: Vec<Entry<P>>,
    bytes: usize,
    newest_at_ms: i64,
}

impl<P> Writer<P> {
    /// Writes until the journal is closed.
    pub fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _closing = CloseAtEnd(&shared);
        while let Some(work) = shared.take() {
            match work {
                Work::Commit(requests) => self.commit(requests),
                Work::LeaveOld(now_ms) => self.leave_old(now_ms),
            }
        }
    }

    fn commit(&mut self, requests: Vec<Request<P>>) {
        let group = self.group(requests);
        if group.fresh.is_empty() {
            return answer(group.waiters);
        }
        let heads = match self.write(&group) {
            Ok(heads) => heads,
            Err(error) => return self.refuse(group, &error),
        };
        let payloads = group.fresh.into_iter().map(|entry| entry.payload);
        (self.on_durable)(heads.into_iter().zip(payloads).collect());
        answer(group.waiters);
        if group.newest_at_ms.saturating_sub(self.swept_at_ms) > SWEEP_EVERY_MS {
            self.swept_at_ms = group.newest_at_ms;
            self.duplicates.sweep(group.newest_at_ms);
        }
    }

    /// Sorts out what is repeated and numbers the rest.
    fn group(&mut self, requests: Vec<Request<P>>) -> Group<P> {
        let mut group = Group {
            waiters: Vec::with_capacity(requests.len()),
            fresh: Vec::new(),
            bytes: 0,
            newest_at_ms: 0,
        };
        for Request { entries, reply, .. } in requests {
            let mut waiter =
                Waiter { reply, appended: Vec::with_capacity(entries.len()), repeated: Vec::new() };
            for entry in entries {
                if self.duplicates.insert(entry.source, entry.message_key, entry.received_at_ms) {
                    waiter.appended.push(Appended::Accepted);
                    group.bytes += RECORD_HEAD + entry.body.len();
                    group.newest_at_ms = group.newest_at_ms.max(entry.received_at_ms);
                    group.fresh.push(entry);
                } else {
                    waiter.appended.push(Appended::Duplicate);
                    waiter.repeated.push((entry.source, entry.message_key));
                }
            }
            group.waiters.push(waiter);
        }
        group
    }

    /// Makes a group durable, or nothing of it.
    fn write(&mut self, group: &Group<P>) -> Result<Vec<Head>, AppendError> {
        self.check_room(group.bytes as u64)?;
        self.check_place()?;
        let active = self.take_active(group)?;
        let first = Place { seq: self.next_seq, offset: active.segment.end().bytes };
        let heads = self.encode(&active.head, &group.fresh);
        // Whatever comes of it, nobody else gets these numbers.
        self.next_seq += heads.len() as u64;
        let written = write_all(&*active.file, &self.buffer, first.offset).and_then(|()| active.file.sync());
        if let Err(error) = written.and_then(|()| is_in_place(&active)) {
            self.leave(&active);
            return Err(append_error("write", &active.segment.path, &error));
        }
        active.segment.set_end(End { bytes: first.offset + self.buffer.len() as u64, seq: self.next_seq });
        active.segment.note(first);
        self.end_seq = self.next_seq;
        self.active = Some(active);
        self.shared.next_seq.store(self.next_seq, Ordering::Release);
        Ok(heads)
    }

    fn encode(&mut self, segment: &SegmentHead, fresh: &[Entry<P>]) -> Vec<Head> {
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
        let mut heads = Vec::with_capacity(fresh.len());
        for (entry, seq) in fresh.iter().zip(self.next_seq..) {
            let head = Head {
                seq,
                source: entry.source,
                received_at_ms: entry.received_at_ms,
                kind: entry.kind,
                order_key: entry.order_key,
                message_key: entry.message_key,
            };
            record::encode(segment, &head, &entry.body, &mut self.buffer);
            heads.push(head);
        }
        heads
    }

    /// Refuses while there is still room to record how deliveries end.
    fn check_room(&self, bytes: u64) -> Result<(), AppendError> {
        let Limits { dir, max_disk_bytes, watermark_bytes, min_free_bytes, .. } = &self.limits;
        let dir = dir.display();
        let used = self.shared.used_bytes();
        if used + bytes > *watermark_bytes {
            return Err(AppendError::Full(format!(
                "{dir} holds {used} of at most {max_disk_bytes} bytes (queue.max_disk), of which the last {} are for \
                 outcomes; see which destination is behind, or raise queue.max_disk",
                max_disk_bytes.saturating_sub(*watermark_bytes),
            )));
        }
        // Where the free space is not known, the write itself will tell.
        let available = self.files.available(&self.limits.dir).unwrap_or(u64::MAX);
        if available < min_free_bytes.saturating_add(bytes) {
            return Err(AppendError::Full(format!(
                "the disk under {dir} has {available} bytes left and {min_free_bytes} are kept free; \
                 make room there"
            )));
        }
        Ok(())
    }

    /// Refuses where the next start would not find what is written now.
    fn check_place(&self) -> Result<(), AppendError> {
        if self.lock.is_in_place() {
            return Ok(());
        }
        let dir = self.limits.dir.display();
        Err(AppendError::Failed(format!(
            "{dir} was moved or removed while it is in use: put it back as it was, or restart the program to begin a \
             new one"
        )))
    }

    /// The segment for a group: the one in use, or a new one when that is full or gone.
    fn take_active(&mut self, group: &Group<P>) -> Result<Active, AppendError> {
        let Limits { segment_bytes, segment_ms, .. } = self.limits;
        let fits = |active: &mut Active| {
            let used = active.segment.end().bytes;
            let age_ms = group.newest_at_ms.saturating_sub(active.began_at_ms);
            active.segment.is_empty() || (used + group.bytes as u64 <= segment_bytes && age_ms < segment_ms)
        };
        if let Some(mut active) = self.active.take_if(fits) {
            if active.segment.is_empty() {
                active.began_at_ms = group.newest_at_ms;
            }
            return Ok(active);
        }
        let created = self.create(group.newest_at_ms);
        created.map_err(|error| append_error("create a segment in", &self.limits.dir, &error))
    }

    /// A new segment, in which nothing is yet.
    fn create(&mut self, now_ms: i64) -> io::Result<Active> {
        let created = segment::create(&*self.files, &self.limits.dir, self.next_seq, self.end_seq, now_ms);
        // What is left of the file of a failure may keep its name, which is made of the sequence.
        let (segment, head, file) = created.inspect_err(|_| self.next_seq += 1)?;
        // Whatever becomes of the new one, nothing is written to the old one any more.
        self.active = None;
        let segment = Arc::new(segment);
        self.shared.segments().push_back(Arc::clone(&segment));
        Ok(Active { segment, head, file, began_at_ms: now_ms })
    }

    /// Goes on in a new segment if the newest one is old, so that it may go in its time though no call comes.
    fn leave_old(&mut self, now_ms: i64) {
        let newest = self.shared.segments().back().map(Arc::clone);
        let Some(newest) = newest.filter(|newest| !newest.is_empty()) else { return };
        let began_at_ms = self.active.as_ref().map_or(newest.created_at_ms, |active| active.began_at_ms);
        if now_ms.saturating_sub(began_at_ms) < self.limits.segment_ms || !self.lock.is_in_place() {
            return;
        }
        match self.create(now_ms) {
            Ok(active) => self.active = Some(active),
            Err(error) => tracing::debug!(%error, "an old segment is left later"),
        }
    }

    /// Leaves a file for good after a failed write or sync: what was not durable is cut off as far as that is possible.
    /// Where it is not, the next segment's head says that those records were refused.
    fn leave(&self, active: &Active) {
        let Active { segment, file, .. } = active;
        let path = segment.path.display();
        if let Err(error) = file.set_len(segment.end().bytes).and_then(|()| file.sync()) {
            tracing::debug!(%path, %error, "the end of a failed segment could not be cut off");
        }
        if !segment.is_empty() {
            return;
        }
        segment.retire();
        match self.files.remove(&segment.path).and_then(|()| self.files.sync_dir(&self.limits.dir)) {
            Ok(()) => drop(self.shared.segments().pop_back_if(|last| Arc::ptr_eq(last, segment))),
            Err(error) => tracing::debug!(%path, %error, "an empty segment could not be removed"),
        }
    }

    fn refuse(&mut self, group: Group<P>, error: &AppendError) {
        for entry in &group.fresh {
            self.duplicates.remove(entry.source, entry.message_key);
        }
        for waiter in group.waiters {
            // What repeats only records that were durable before is answered as if nothing had happened.
            let durable = waiter.repeated.len() == waiter.appended.len()
                && waiter.repeated.iter().all(|(source, key)| self.duplicates.contains(*source, *key));
            let answer = if durable { Ok(waiter.appended) } else { Err(error.clone()) };
            // Whoever no longer waits does not want the answer.
            let _ = waiter.reply.send(answer);
        }
    }
}

/// Whether the next start would find the segment.
fn is_in_place(active: &Active) -> io::Result<()> {
    if active.file.is_at(&active.segment.path) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn append_error(what: &str, path: &Path, error: &io::Error) -> AppendError {
    let text = format!("cannot {what} {}: {error}; {}", path.display(), files::remedy(error));
    if files::is_full(error) { AppendError::Full(text) } else { AppendError::Failed(text) }
}

fn answer(waiters: Vec<Waiter>) {
    for waiter in waiters {
        // Whoever no longer waits does not want the answer.
        let _ = waiter.reply.send(Ok(waiter.appended));
    }
}

/// However the writer ends, nobody waits for it in vain.
struct CloseAtEnd<'a, P>(&'a Shared<P>);

impl<P> Drop for CloseAtEnd<'_, P> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.closed = true;
        waiting.requests.clear();
    }
}
