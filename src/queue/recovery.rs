//! Reads what a journal's directory holds when it is opened: cuts a torn tail, reports damage, finds the next sequence
//! and fills the window of duplicates. Runs before the writer does; serves no reads.
//!
//! What happened before does not matter: an orderly end, a killed process, a power cut, a failed write. The rules:
//!
//! - The newest segment is synced and read from the disk itself before anyone relies on it.
//! - In the newest segment, bytes behind the last intact record are a torn tail, and are cut.
//! - Sequences that may have been in a torn tail are not used again.
//! - Where the owner knows of sequences behind the end, they were accepted: that is damage, and nothing is cut.
//! - Elsewhere, bytes that are no intact record are damage: reported, and stepped over.
//! - A file too short for a segment's head was being created; nothing was accepted into it, and it is removed.
//! - What the disk cannot read is tried again for a while, then stepped over like damage. It is never taken for a torn
//!   tail: nothing is cut, and the sequences that may be in it are neither used again nor called refused.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::duplicates::Duplicates;
use super::files::{Disk, Files, is_unreadable, remedy};
use super::reader::{Gap, Step, Unreadable, Walk, Window};
use super::record::{RECORD_HEAD, RECORDS_START, SegmentHead, Start, VERSION};
use super::segment::{End, Place, Segment, file_name, parse_name};
use super::writer::MAX_APPEND;

/// The first pause before something is read again; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What was found when a journal was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Segments in the directory.
    pub segments: u64,
    /// Intact records among those that were looked at: the newest segment and what the window of duplicates needs.
    pub records: u64,
    /// The lowest sequence that a record can have.
    pub first_seq: u64,
    /// The sequence of the next record.
    pub next_seq: u64,
    /// Damaged places, oldest first.
    pub damaged: Vec<Damage>,
    /// Bytes cut from the end because no intact record followed.
    pub torn_tail_bytes: u64,
}

/// A place in the journal that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// The first byte of it.
    pub offset: u64,
    /// How many bytes; 0 where they are missing.
    pub bytes: u64,
    /// The first sequence that can have been there.
    pub first_seq: u64,
    /// The sequence after the last one that can have been there.
    pub end_seq: u64,
}

impl Damage {
    /// A gap that was found in a segment.
    pub fn new(path: &Path, gap: Gap) -> Self {
        let Gap { offset, bytes, first_seq, end_seq } = gap;
        Self { path: path.to_owned(), offset, bytes, first_seq, end_seq }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, bytes, first_seq, end_seq } = self;
        let path = path.display();
        write!(
            f,
            "{path}: {bytes} bytes from byte {offset} on are damaged; up to {} calls, sequences {first_seq} to {}, \
             cannot be read and are skipped. After a power cut these may be calls that were never accepted; \
             otherwise check the disk, and restore the file from a copy if there is one",
            end_seq.saturating_sub(*first_seq),
            end_seq.saturating_sub(1).max(*first_seq),
        )
    }
}

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{dir} is in use by process {holder}: stop that one, or give this one a directory of its own (queue.path)"
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The other process's id.
        holder: String,
    },
    /// A file was written by a newer program.
    #[error(
        "{path} has format version {version}, and this program knows versions up to {VERSION}: \
         start the newer program that wrote it, or move the directory away"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// The disk answered with an error.
    #[error("cannot {what} {path}: {source}; {}", remedy(.source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

impl OpenError {
    /// For `map_err`: says what was tried.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// What the journal goes on from.
pub struct State {
    /// All segments, oldest first.
    pub segments: VecDeque<Arc<Segment>>,
    /// The file of the newest segment, if records may be put behind those in it.
    pub active: Option<Box<dyn Disk>>,
    /// The sequence after the last durable record.
    pub end_seq: u64,
    /// For the caller.
    pub recovered: Recovered,
}

/// What to recover, and how.
pub struct Recovery<'a> {
    /// The file system.
    pub files: &'a dyn Files,
    /// The journal's directory.
    pub dir: &'a Path,
    /// The next sequence is not lower, and those below it were durable once.
    pub min_next_seq: u64,
    /// How far back records are looked at for duplicates.
    pub window: Duration,
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// How long what the disk cannot read is tried again.
    pub patience: Duration,
}

/// What a walk through a segment found.
#[derive(Default)]
struct Walked {
    records: u64,
    gaps: Vec<Gap>,
    end: End,
    has_holes: bool,
}

/// A segment's file before its records were looked at.
struct Found {
    path: PathBuf,
    file: Box<dyn Disk>,
    bytes: u64,
    first_seq: u64,
    head: Option<SegmentHead>,
}

impl Recovery<'_> {
    /// Reads the directory and puts what is found into the window of duplicates.
    pub fn run(&self, duplicates: &mut Duplicates) -> Result<State, OpenError> {
        let found = self.find()?;
        let mut recovered = Recovered { segments: found.len() as u64, ..Recovered::default() };
        let mut segments = VecDeque::with_capacity(found.len());
        let mut end_seq = 1;
        let looked_at_from = self.first_of_window(&found);
        for (at, this) in found.iter().enumerate() {
            let newer = found.get(at + 1);
            let segment = this.segment(newer);
            if this.head.is_none() {
                recovered.damaged.push(this.lost(segment.end().seq));
            } else if at >= looked_at_from {
                self.look_at(this, &segment, newer, &mut recovered, duplicates)?;
            }
            end_seq = segment.end().seq;
            segments.push_back(Arc::new(segment));
        }
        let burnt = recovered.torn_tail_bytes.div_ceil(RECORD_HEAD as u64);
        recovered.next_seq = (end_seq + burnt).max(self.min_next_seq);
        recovered.first_seq = segments.front().map_or(recovered.next_seq, |segment| segment.first_seq);
        // Nothing is put behind what cannot be read.
        let is_whole = segments.back().is_some_and(|last| last.head.is_some() && !last.has_holes());
        let active = found.into_iter().next_back().filter(|_| is_whole).map(|last| last.file);
        Ok(State { segments, active, end_seq, recovered })
    }

    /// Reads, and reads again for as long as patience lasts what the disk cannot read; then without it.
    fn patiently<R>(&self, mut read: impl FnMut(Unreadable) -> io::Result<R>) -> io::Result<R> {
        let mut waited = Duration::ZERO;
        let mut pause = FIRST_PAUSE;
        loop {
            match read(Unreadable::IsError) {
                Err(error) if is_unreadable(&error) && waited < self.patience => {
                    if waited.is_zero() {
                        tracing::warn!(dir = %self.dir.display(), %error, "the disk cannot read something; trying again");
                    }
                    std::thread::sleep(pause);
                    waited += pause;
                    pause *= 2;
                }
                Err(error) if is_unreadable(&error) => return read(Unreadable::IsDamage),
                result => return result,
            }
        }
    }

    /// The segments in the directory, oldest first.
    fn find(&self) -> Result<Vec<Found>, OpenError> {
        let names = self.files.list(self.dir).map_err(OpenError::io("list", self.dir))?;
        let mut sequences: Vec<u64> = names.iter().filter_map(|name| parse_name(name)).collect();
        sequences.sort_unstable();
        let mut found = Vec::with_capacity(sequences.len());
        for first_seq in sequences {
            let one = self.open(first_seq)?;
            if one.head.is_none() && one.bytes <= RECORDS_START {
                self.files.remove(&one.path).map_err(OpenError::io("remove", &one.path))?;
                self.files.sync_dir(self.dir).map_err(OpenError::io("sync", self.dir))?;
            } else {
                found.push(one);
            }
        }
        Ok(found)
    }

    fn open(&self, first_seq: u64) -> Result<Found, OpenError> {
        let path = self.dir.join(file_name(first_seq));
        let file = self.files.open(&path).map_err(OpenError::io("open", &path))?;
        let bytes = file.size().map_err(OpenError::io("read", &path))?;
        let start = self.patiently(|_| start_of(&*file));
        let head = match start.map_err(OpenError::io("read", &path))? {
            Start::Segment(head) => Some(head).filter(|head| head.first_seq == first_seq),
            Start::Unknown(version) => return Err(OpenError::Version { path, version }),
            Start::Damaged => None,
        };
        Ok(Found { path, file, bytes, first_seq, head })
    }

    /// The first segment that may hold a record of the window; at the latest, the newest segment.
    fn first_of_window(&self, found: &[Found]) -> usize {
        let window_ms = i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX);
        let oldest_ms = self.now_ms.saturating_sub(window_ms);
        let ended_before = |newer: &Found| newer.head.is_some_and(|head| head.created_at_ms < oldest_ms);
        found.iter().skip(1).take_while(|newer| ended_before(newer)).count()
    }

    fn look_at(
        &self,
        this: &Found,
        segment: &Segment,
        newer: Option<&Found>,
        recovered: &mut Recovered,
        duplicates: &mut Duplicates,
    ) -> Result<(), OpenError> {
        let Some(head) = this.head else { return Ok(()) };
        if newer.is_none() {
            this.make_durable()?;
        }
        let limit_seq = newer.map_or(u64::MAX, |_| segment.end().seq);
        let start = Place { seq: this.first_seq, offset: RECORDS_START };
        let walked = self.patiently(|unreadable| {
            let walk = Walk::new(&*this.file, head, start, this.bytes, limit_seq).with(unreadable);
            go_through(walk, segment, duplicates)
        });
        let Walked { records, gaps, end, has_holes } = walked.map_err(OpenError::io("read", &this.path))?;
        recovered.records += records;
        recovered.damaged.extend(gaps.into_iter().map(|gap| Damage::new(&this.path, gap)));
        match newer {
            None if has_holes || end.seq < self.min_next_seq => {
                segment.give_up_holes();
                let bytes = this.bytes.saturating_sub(end.bytes);
                let unread = if has_holes { bytes.div_ceil(RECORD_HEAD as u64) } else { 0 };
                let end_seq = (end.seq + unread).max(self.min_next_seq);
                segment.set_end(End { bytes: this.bytes, seq: end_seq });
                if end.seq < end_seq {
                    let gap = Gap { offset: end.bytes, bytes, first_seq: end.seq, end_seq };
                    recovered.damaged.push(Damage::new(&this.path, gap));
                }
            }
            None => {
                recovered.torn_tail_bytes = this.cut(end.bytes)?;
                segment.set_end(end);
            }
            // Where the newer head is damaged, nobody says where this one ended.
            Some(newer) if newer.head.is_none() => segment.set_end(end),
            Some(_) if has_holes => segment.give_up_holes(),
            Some(_) if end.seq < segment.end().seq => recovered.damaged.push(Damage {
                path: this.path.clone(),
                offset: end.bytes,
                bytes: this.bytes.saturating_sub(end.bytes),
                first_seq: end.seq,
                end_seq: segment.end().seq,
            }),
            Some(_) => {}
        }
        Ok(())
    }
}

/// Walks to the end of a segment.
fn go_through(mut walk: Walk<'_>, segment: &Segment, duplicates: &mut Duplicates) -> io::Result<Walked> {
    let mut walked = Walked::default();
    loop {
        match walk.step()? {
            Step::Record { offset, head, .. } => {
                walked.records += 1;
                duplicates.insert(head.source, head.message_key, head.received_at_ms);
                segment.note(Place { seq: head.seq, offset });
            }
            Step::Damaged(gap) => walked.gaps.push(gap),
            Step::End { offset, end_seq } => {
                walked.end = End { bytes: offset, seq: end_seq };
                walked.has_holes = walk.has_met_unreadable();
                return Ok(walked);
            }
        }
    }
}

/// Reads a file's head, page by page so that one unreadable page does not hide both copies.
pub fn start_of(file: &dyn Disk) -> io::Result<Start> {
    let mut window = Window::over_holes();
    let start = SegmentHead::decode(window.get(file, 0, RECORDS_START as usize, RECORDS_START)?);
    if start == Start::Damaged && window.has_met_unreadable() {
        return Err(rustix::io::Errno::IO.into());
    }
    Ok(start)
}

impl Found {
    fn segment(&self, newer: Option<&Found>) -> Segment {
        let end_seq = match newer {
            Some(newer) => newer.head.map_or(newer.first_seq, |head| head.older_end),
            None if self.head.is_none() => self.first_seq + self.bytes.div_ceil(RECORD_HEAD as u64),
            None => self.first_seq,
        };
        let end = End { bytes: self.bytes, seq: end_seq.max(self.first_seq) };
        Segment::new(self.path.clone(), self.first_seq, self.head, end)
    }

    /// The damage where a segment's head cannot be read.
    fn lost(&self, end_seq: u64) -> Damage {
        Damage { path: self.path.clone(), offset: 0, bytes: self.bytes, first_seq: self.first_seq, end_seq }
    }

    /// What a killed process wrote may be in memory only: it is synced. Then it is read from the disk itself, as far
    /// back as a last unsynced write can reach: after a sync that failed, memory shows what the disk does not have.
    fn make_durable(&self) -> Result<(), OpenError> {
        self.file.sync().map_err(OpenError::io("sync", &self.path))?;
        self.file.forget(self.bytes.saturating_sub(MAX_APPEND as u64));
        Ok(())
    }

    /// Cuts what is behind a byte, makes the rest durable, and says how much was cut.
    fn cut(&self, end: u64) -> Result<u64, OpenError> {
        let torn = self.bytes.saturating_sub(end);
        if torn > 0 {
            self.file.set_len(end).map_err(OpenError::io("cut the end of", &self.path))?;
            self.file.sync().map_err(OpenError::io("sync", &self.path))?;
        }
        Ok(torn)
    }
}
