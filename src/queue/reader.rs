//! Walks over the records of one segment, from any record on, and finds the next good one behind damage.
//! Says what it sees; whether that is a torn tail, damage or nothing is for `recovery` and `journal` to judge.

use std::io;

use super::files::{Disk, is_unreadable, read_full};
use super::record::{self, Decoded, Head, RECORD_HEAD, SegmentHead};
use super::segment::Place;

/// Read ahead of the record that is asked for.
const READ_AHEAD: usize = 256 << 10;
/// The unit in which an unreadable part of the disk is stepped over.
const PAGE: usize = 4096;

/// What is to be made of a part that the disk cannot read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unreadable {
    /// An error: it may be there the next time.
    #[default]
    IsError,
    /// It is given up: stepped over page by page, like damage.
    IsDamage,
}

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// An intact record.
    Record {
        /// Where it starts.
        offset: u64,
        /// Its head.
        head: Head,
        /// Its body.
        body: &'a [u8],
    },
    /// Bytes that are no intact record, with an intact one behind them.
    Damaged(Gap),
    /// No intact record follows. Bytes from here on, if there are any, are none.
    End {
        /// Where the last intact record ends.
        offset: u64,
        /// The sequence after it.
        end_seq: u64,
    },
}

/// A damaged part of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it starts.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// The lowest sequence that can have been in it.
    pub first_seq: u64,
    /// The sequence of the next intact record.
    pub end_seq: u64,
}

/// A walk over one segment.
pub struct Walk<'a> {
    file: &'a dyn Disk,
    segment: SegmentHead,
    window: Window,
    offset: u64,
    end: u64,
    next_seq: u64,
    limit_seq: u64,
}

impl<'a> Walk<'a> {
    /// From a record's place to the byte `end`, and not to the sequence `limit_seq` or beyond.
    pub fn new(file: &'a dyn Disk, segment: SegmentHead, from: Place, end: u64, limit_seq: u64) -> Self {
        Self {
            file,
            segment,
            window: Window::default(),
            offset: from.offset,
            end,
            next_seq: from.seq,
            limit_seq,
        }
    }

    /// As said; otherwise what cannot be read is an error.
    pub fn with(mut self, unreadable: Unreadable) -> Self {
        self.window.unreadable = unreadable;
        self
    }

    /// Where it stands.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether something was stepped over because the disk could not read it.
    pub fn has_met_unreadable(&self) -> bool {
        self.window.has_met_unreadable
    }

    /// The next thing in the segment; [`Step::End`] again and again at the end.
    pub fn step(&mut self) -> io::Result<Step<'_>> {
        let offset = self.offset;
        let Some(found) = self.record_at(offset)? else { return self.step_over() };
        self.offset = offset + found.size() as u64;
        self.next_seq = found.head.seq + 1;
        let record = self.window.get(self.file, offset, found.size(), self.end)?;
        Ok(Step::Record { offset, head: found.head, body: record.get(RECORD_HEAD..).unwrap_or_default() })
    }

    fn step_over(&mut self) -> io::Result<Step<'_>> {
        let offset = self.offset;
        let Some((next, end_seq)) = self.find_after(offset)? else {
            return Ok(Step::End { offset, end_seq: self.next_seq });
        };
        let gap = Gap { offset, bytes: next - offset, first_seq: self.next_seq, end_seq };
        self.offset = next;
        Ok(Step::Damaged(gap))
    }

    /// The record at an offset, if it is intact, in order and below the limit.
    fn record_at(&mut self, offset: u64) -> io::Result<Option<Decoded>> {
        let head = self.window.get(self.file, offset, RECORD_HEAD, self.end)?;
        let Some(found) = record::decode(&self.segment, head) else { return Ok(None) };
        if found.head.seq < self.next_seq || found.head.seq >= self.limit_seq {
            return Ok(None);
        }
        let record = self.window.get(self.file, offset, found.size(), self.end)?;
        let body = record.get(RECORD_HEAD..).unwrap_or_default();
        Ok(found.fits(&self.segment, body).then_some(found))
    }

    /// Offset and sequence of the first intact record that starts behind an offset.
    fn find_after(&mut self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        let marker = self.segment.marker.to_le_bytes();
        let mut at = offset + 1;
        while at + RECORD_HEAD as u64 <= self.end {
            let bytes = self.window.get(self.file, at, READ_AHEAD, self.end)?;
            let length = bytes.len() as u64;
            let Some(hit) = memchr::memmem::find(bytes, &marker) else {
                // A marker may lie across the border of two windows.
                at += length.saturating_sub(marker.len() as u64 - 1).max(1);
                continue;
            };
            at += hit as u64;
            if let Some(found) = self.record_at(at)? {
                return Ok(Some((at, found.head.seq)));
            }
            at += 1;
        }
        Ok(None)
    }
}

/// A part of a file in memory.
#[derive(Default)]
pub struct Window {
    start: u64,
    bytes: Vec<u8>,
    unreadable: Unreadable,
    has_met_unreadable: bool,
}

impl Window {
    /// One that steps over what cannot be read.
    pub fn over_holes() -> Self {
        Self { unreadable: Unreadable::IsDamage, ..Self::default() }
    }

    /// Whether something was stepped over.
    pub fn has_met_unreadable(&self) -> bool {
        self.has_met_unreadable
    }

    /// Bytes of the file at an offset; fewer than asked for only where `end` is nearer.
    pub fn get(&mut self, file: &dyn Disk, offset: u64, length: usize, end: u64) -> io::Result<&[u8]> {
        let length = length.min(usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX));
        if offset < self.start || offset + length as u64 > self.start + self.bytes.len() as u64 {
            let ahead = length.max(READ_AHEAD) as u64;
            let ahead = ahead.min(end.saturating_sub(offset)) as usize;
            match self.fill(file, offset, ahead) {
                // What is wanted may lie before what cannot be read.
                Err(error) if is_unreadable(&error) && length < ahead => self.fill(file, offset, length)?,
                filled => filled?,
            }
        }
        let at = (offset - self.start) as usize;
        let available = self.bytes.get(at..).unwrap_or_default();
        Ok(available.get(..length).unwrap_or(available))
    }

    fn fill(&mut self, file: &dyn Disk, offset: u64, length: usize) -> io::Result<()> {
        self.start = offset;
        self.bytes.clear();
        self.bytes.resize(length, 0);
        match read_full(file, &mut self.bytes, offset) {
            Ok(read) => {
                self.bytes.truncate(read);
                Ok(())
            }
            Err(error) if is_unreadable(&error) && self.unreadable == Unreadable::IsDamage => {
                self.fill_by_page(file, offset)
            }
            Err(error) => {
                self.bytes.clear();
                Err(error)
            }
        }
    }

    /// What can be read is read; the rest stays zero, which no record is.
    fn fill_by_page(&mut self, file: &dyn Disk, offset: u64) -> io::Result<()> {
        let mut at = offset;
        let mut met = false;
        let mut rest = self.bytes.as_mut_slice();
        while !rest.is_empty() {
            let to_border = PAGE - (at % PAGE as u64) as usize;
            let (page, behind) = rest.split_at_mut(to_border.min(rest.len()));
            match read_full(file, page, at) {
                Err(error) if !is_unreadable(&error) => return Err(error),
                read => {
                    met |= read.is_err();
                    at += page.len() as u64;
                }
            }
            rest = behind;
        }
        self.has_met_unreadable |= met;
        Ok(())
    }
}
