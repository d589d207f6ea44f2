//! One segment file: its name, how one is created, and what the rest of the journal knows of it while it runs.
//! Neither reads records (`reader`) nor writes them (`writer`).

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::files::{Disk, Files, write_all};
use super::record::{RECORDS_START, SegmentHead};

/// A place for reading to start is remembered about every so many bytes.
const INDEX_EVERY: u64 = 64 << 10;

/// A segment of a running journal.
#[derive(Debug)]
pub struct Segment {
    /// Where it is.
    pub path: PathBuf,
    /// Its head; `None` where that is damaged and nothing in the file can be read.
    pub head: Option<SegmentHead>,
    /// No record in it has a lower sequence.
    pub first_seq: u64,
    /// Milliseconds since 1970; 0 where the head is damaged.
    pub created_at_ms: i64,
    end: Mutex<End>,
    index: Mutex<Vec<Place>>,
    retired: AtomicBool,
    has_holes: AtomicBool,
}

/// How far a segment is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Bytes.
    pub bytes: u64,
    /// The sequence after the last record; the segment's first one where there is none.
    pub seq: u64,
}

/// A record's sequence and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Sequence of the record.
    pub seq: u64,
    /// Where it starts.
    pub offset: u64,
}

impl Segment {
    /// A segment that is durable up to an end.
    pub fn new(path: PathBuf, first_seq: u64, head: Option<SegmentHead>, end: End) -> Self {
        Self {
            path,
            head,
            first_seq,
            created_at_ms: head.map_or(0, |head| head.created_at_ms),
            end: Mutex::new(end),
            index: Mutex::new(Vec::new()),
            retired: AtomicBool::new(false),
            has_holes: AtomicBool::new(false),
        }
    }

    /// Says that its file is being removed because nobody needs it.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// Whether its file may be gone because nobody needed it.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Says that what cannot be read of it is given up.
    pub fn give_up_holes(&self) {
        self.has_holes.store(true, Ordering::SeqCst);
    }

    /// Whether what cannot be read of it is given up.
    pub fn has_holes(&self) -> bool {
        self.has_holes.load(Ordering::SeqCst)
    }

    /// Whether no record was ever durable in it.
    pub fn is_empty(&self) -> bool {
        self.end().bytes <= RECORDS_START
    }

    /// How far it is durable.
    pub fn end(&self) -> End {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how far it is durable.
    pub fn set_end(&self, end: End) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    /// Remembers where a record starts, if the last remembered one is far enough before it.
    pub fn note(&self, place: Place) {
        let mut index = self.index();
        if index.last().is_none_or(|last| last.offset + INDEX_EVERY <= place.offset) {
            index.push(place);
        }
    }

    /// The last remembered record that is not after a sequence, else the start.
    pub fn place_before(&self, seq: u64) -> Place {
        let index = self.index();
        let after = index.partition_point(|place| place.seq <= seq);
        let start = Place { seq: self.first_seq, offset: RECORDS_START };
        after.checked_sub(1).and_then(|last| index.get(last)).copied().unwrap_or(start)
    }

    fn index(&self) -> MutexGuard<'_, Vec<Place>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file name of the segment that starts with a sequence.
pub fn file_name(first_seq: u64) -> String {
    format!("{first_seq:020}.seg")
}

/// The first sequence in a segment's file name; `None` for the name of anything else.
pub fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Creates a segment durably, name and head, with a new salt. What is left of one that failed is removed.
pub fn create(
    files: &dyn Files,
    dir: &Path,
    first_seq: u64,
    older_end: u64,
    created_at_ms: i64,
) -> io::Result<(Segment, SegmentHead, Box<dyn Disk>)> {
    let random = RandomState::new().hash_one(first_seq);
    let head = SegmentHead {
        salt: random as u32,
        // No byte of it is zero: an area of zeros must not look like one marker after the other.
        marker: (random >> 32) as u32 | 0x0101_0101,
        first_seq,
        older_end,
        created_at_ms,
    };
    let path = dir.join(file_name(first_seq));
    let file = files.create(&path)?;
    let written =
        write_all(&*file, &head.encode(), 0).and_then(|()| file.sync()).and_then(|()| files.sync_dir(dir));
    if let Err(error) = written {
        // Nothing is in it; recovery removes it too, should this fail.
        let _ = files.remove(&path);
        return Err(error);
    }
    let end = End { bytes: RECORDS_START, seq: first_seq };
    Ok((Segment::new(path, first_seq, Some(head), end), head, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_like_sequences_and_come_back() {
        for (seq, name) in [(1, "00000000000000000001.seg"), (u64::MAX, "18446744073709551615.seg")] {
            assert_eq!(file_name(seq), name);
            assert_eq!(parse_name(name), Some(seq));
        }
        for other in [
            "lock",
            "1.seg",
            "0000000000000000000a.seg",
            "99999999999999999999.seg",
            "+0000000000000000001.seg",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn the_nearest_place_before_a_sequence() {
        let segment = Segment::new(PathBuf::new(), 10, None, End { bytes: 0, seq: 10 });
        let start = Place { seq: 10, offset: RECORDS_START };
        assert_eq!(segment.place_before(15), start);
        let places = [(10, RECORDS_START), (20, 100_000), (21, 100_100), (30, 200_000)];
        for (seq, offset) in places {
            segment.note(Place { seq, offset });
        }
        for (seq, found) in [(5, 10), (10, 10), (19, 10), (20, 20), (29, 20), (99, 30)] {
            assert_eq!(segment.place_before(seq).seq, found, "{seq}");
        }
    }
}
