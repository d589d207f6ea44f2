//! The bytes of a segment: the segment's head and the records behind it. Encodes and decodes; opens no files.
//!
//! All numbers are little-endian. A segment of format version 1:
//!
//! ```text
//! 0     segment head, 48 bytes
//! 4096  the same again: one unreadable page does not cost a segment
//! 4144  records, one behind the other
//! ```
//!
//! Segment head; the first 16 bytes mean the same in every version, so that an old program can tell a newer file
//! from a damaged one:
//!
//! ```text
//! 0   8  "fanoutJ\n"
//! 8   2  format version
//! 10  2  length of this head
//! 12  4  CRC32C of this head without these four bytes
//! 16  4  salt of the records' checksums, random
//! 20  4  sync marker of the records, random
//! 24  8  sequence of the first record
//! 32  8  older end: records of older segments from this sequence on were refused, whatever is found of them
//! 40  8  created: milliseconds since 1970
//! ```
//!
//! Record:
//!
//! ```text
//! 0   4  sync marker of the segment
//! 4   4  CRC32C, seeded with the salt, of bytes 8 to 51
//! 8   4  length of the body
//! 12  4  CRC32C, seeded with the salt, of the body
//! 16  8  sequence
//! 24  8  received: milliseconds since 1970
//! 32  8  order key
//! 40  8  message key
//! 48  2  source
//! 50  1  kind
//! 51  1  zero
//! 52     body
//! ```
//!
//! Nobody outside this process knows salt and marker, so a body that imitates a record must guess 64 bits to be taken
//! for one, and even then only where damage before it makes the reader look. The head has a checksum of its own so
//! that the length is believed only when it is known to be right.

/// Bytes of a record before its body.
pub const RECORD_HEAD: usize = 52;
/// The longest body: 16 MiB.
pub const MAX_BODY: usize = 16 << 20;
/// Where the records begin in a segment.
pub const RECORDS_START: u64 = (SECOND_COPY + SEGMENT_HEAD) as u64;
/// The format version that is written, and the newest that can be read.
pub const VERSION: u16 = 1;

const MAGIC: &[u8; 8] = b"fanoutJ\n";
const SEGMENT_HEAD: usize = 48;
const SECOND_COPY: usize = 4096;
const CHECKSUM_AT: usize = 12;

/// What a record says about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its place in the journal; never used twice.
    pub seq: u64,
    /// Number of the source.
    pub source: u16,
    /// Milliseconds since 1970.
    pub received_at_ms: i64,
    /// A small number of the owner's.
    pub kind: u8,
    /// Hash of the order key.
    pub order_key: u64,
    /// Hash of source and messageId.
    pub message_key: u64,
}

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// Seed of the checksums.
    pub salt: u32,
    /// First bytes of each record.
    pub marker: u32,
    /// Sequence of the first record.
    pub first_seq: u64,
    /// Records of older segments from this sequence on were refused.
    pub older_end: u64,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
}

/// What the first bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A segment this program can read.
    Segment(SegmentHead),
    /// A segment of a version this program does not know.
    Unknown(u16),
    /// Neither of the two copies of the head is intact.
    Damaged,
}

/// A record's head as read, with what is needed to check its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The head.
    pub head: Head,
    /// Bytes of the body.
    pub body_len: usize,
    body_crc: u32,
}

impl Decoded {
    /// Bytes of head and body.
    pub fn size(&self) -> usize {
        RECORD_HEAD + self.body_len
    }

    /// Whether this is the body that was written.
    pub fn fits(&self, segment: &SegmentHead, body: &[u8]) -> bool {
        body.len() == self.body_len && crc32c::crc32c_append(segment.salt, body) == self.body_crc
    }
}

impl SegmentHead {
    /// The first [`RECORDS_START`] bytes of a segment.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(RECORDS_START as usize);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&(SEGMENT_HEAD as u16).to_le_bytes());
        let mut rest = Vec::with_capacity(SEGMENT_HEAD);
        rest.extend_from_slice(&self.salt.to_le_bytes());
        rest.extend_from_slice(&self.marker.to_le_bytes());
        rest.extend_from_slice(&self.first_seq.to_le_bytes());
        rest.extend_from_slice(&self.older_end.to_le_bytes());
        rest.extend_from_slice(&self.created_at_ms.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), &rest);
        head.extend_from_slice(&crc.to_le_bytes());
        head.extend_from_slice(&rest);
        let copy = head.clone();
        head.resize(SECOND_COPY, 0);
        head.extend_from_slice(&copy);
        head
    }

    /// Reads the first bytes of a file, at best [`RECORDS_START`] of them.
    pub fn decode(bytes: &[u8]) -> Start {
        let first = decode_copy(bytes);
        if first != Start::Damaged {
            return first;
        }
        decode_copy(bytes.get(SECOND_COPY..).unwrap_or_default())
    }
}

fn decode_copy(bytes: &[u8]) -> Start {
    decode_intact(bytes).unwrap_or(Start::Damaged)
}

fn decode_intact(bytes: &[u8]) -> Option<Start> {
    if bytes.get(..8)? != MAGIC {
        return None;
    }
    let length = usize::from(u16_at(bytes, 10)?);
    let checked = crc32c::crc32c(bytes.get(..CHECKSUM_AT)?);
    let checked = crc32c::crc32c_append(checked, bytes.get(CHECKSUM_AT + 4..length)?);
    if checked != u32_at(bytes, CHECKSUM_AT)? {
        return None;
    }
    let version = u16_at(bytes, 8)?;
    if version != VERSION {
        return Some(Start::Unknown(version));
    }
    Some(Start::Segment(SegmentHead {
        salt: u32_at(bytes, 16)?,
        marker: u32_at(bytes, 20)?,
        first_seq: u64_at(bytes, 24)?,
        older_end: u64_at(bytes, 32)?,
        created_at_ms: u64_at(bytes, 40)?.cast_signed(),
    }))
}

/// Puts a record behind what is in `out`. The body is at most [`MAX_BODY`] long.
pub fn encode(segment: &SegmentHead, head: &Head, body: &[u8], out: &mut Vec<u8>) {
    let mut bytes = [0; RECORD_HEAD];
    put(&mut bytes, 0, &segment.marker.to_le_bytes());
    put(&mut bytes, 8, &(body.len() as u32).to_le_bytes());
    put(&mut bytes, 12, &crc32c::crc32c_append(segment.salt, body).to_le_bytes());
    put(&mut bytes, 16, &head.seq.to_le_bytes());
    put(&mut bytes, 24, &head.received_at_ms.to_le_bytes());
    put(&mut bytes, 32, &head.order_key.to_le_bytes());
    put(&mut bytes, 40, &head.message_key.to_le_bytes());
    put(&mut bytes, 48, &head.source.to_le_bytes());
    put(&mut bytes, 50, &[head.kind]);
    let crc = crc32c::crc32c_append(segment.salt, bytes.get(8..).unwrap_or_default());
    put(&mut bytes, 4, &crc.to_le_bytes());
    out.extend_from_slice(&bytes);
    out.extend_from_slice(body);
}

/// Reads a record's head; `None` where the bytes are not an intact one of this segment.
pub fn decode(segment: &SegmentHead, bytes: &[u8]) -> Option<Decoded> {
    let bytes = bytes.get(..RECORD_HEAD)?;
    if u32_at(bytes, 0)? != segment.marker {
        return None;
    }
    if crc32c::crc32c_append(segment.salt, bytes.get(8..)?) != u32_at(bytes, 4)? {
        return None;
    }
    let body_len = u32_at(bytes, 8)? as usize;
    if body_len > MAX_BODY {
        return None;
    }
    let head = Head {
        seq: u64_at(bytes, 16)?,
        received_at_ms: u64_at(bytes, 24)?.cast_signed(),
        order_key: u64_at(bytes, 32)?,
        message_key: u64_at(bytes, 40)?,
        source: u16_at(bytes, 48)?,
        kind: *bytes.get(50)?,
    };
    Some(Decoded { head, body_len, body_crc: u32_at(bytes, 12)? })
}

fn put(bytes: &mut [u8; RECORD_HEAD], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: SegmentHead =
        SegmentHead { salt: 7, marker: 0x1234_5678, first_seq: 5, older_end: 4, created_at_ms: -1 };
    const HEAD: Head = Head { seq: 6, source: 3, received_at_ms: -2, kind: 1, order_key: 8, message_key: 9 };

    fn encoded(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&SEGMENT, &HEAD, body, &mut out);
        out
    }

    #[test]
    fn a_record_comes_back() {
        for body in [&b""[..], b"{}", &[0; 100_000]] {
            let bytes = encoded(body);
            let decoded = decode(&SEGMENT, &bytes).unwrap();
            assert_eq!((decoded.head, decoded.size()), (HEAD, bytes.len()));
            assert!(decoded.fits(&SEGMENT, &bytes[RECORD_HEAD..]));
        }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let bytes = encoded(b"ab");
        assert_eq!(bytes[..4], SEGMENT.marker.to_le_bytes());
        assert_eq!(bytes[8..12], 2u32.to_le_bytes());
        assert_eq!(bytes[12..16], crc32c::crc32c_append(7, b"ab").to_le_bytes());
        assert_eq!(bytes[16..24], 6u64.to_le_bytes());
        assert_eq!(bytes[48..52], [3, 0, 1, 0]);
        assert_eq!(&bytes[52..], b"ab");
    }

    #[test]
    fn each_flipped_bit_of_a_record_is_seen() {
        let good = encoded(b"body");
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let whole = decode(&SEGMENT, &bytes).is_some_and(|d| d.fits(&SEGMENT, &bytes[RECORD_HEAD..]));
            assert!(!whole, "bit {bit}");
        }
    }

    #[test]
    fn a_record_of_another_segment_is_none() {
        let bytes = encoded(b"body");
        for other in [SegmentHead { salt: 8, ..SEGMENT }, SegmentHead { marker: 1, ..SEGMENT }] {
            assert_eq!(decode(&other, &bytes), None);
        }
    }

    #[test]
    fn a_segment_head_survives_in_either_copy() {
        let good = SEGMENT.encode();
        assert_eq!(good.len() as u64, RECORDS_START);
        assert_eq!(SegmentHead::decode(&good), Start::Segment(SEGMENT));
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHead::decode(&bytes), Start::Segment(SEGMENT), "bit {bit}");
        }
        let mut bytes = good;
        bytes[20] ^= 1;
        bytes[SECOND_COPY + 30] ^= 1;
        assert_eq!(SegmentHead::decode(&bytes), Start::Damaged);
    }

    #[test]
    fn short_starts_are_damaged() {
        let good = SEGMENT.encode();
        for len in 0..SEGMENT_HEAD {
            assert_eq!(SegmentHead::decode(&good[..len]), Start::Damaged, "{len}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = SEGMENT.encode();
        bytes[8] = 2;
        assert_eq!(SegmentHead::decode(&bytes[..SEGMENT_HEAD]), Start::Damaged);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..48]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHead::decode(&bytes), Start::Unknown(2));
    }
}
