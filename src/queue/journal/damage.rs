//! What is left of a journal whose files were cut, flipped or spoilt, and the files of released formats.

use std::path::Path;

use super::tests::{NOW, bodies, entry, keys, open_faulty, open_on, small};
use super::*;
use crate::queue::faults::FaultyFiles;
use crate::queue::record::{self, RECORDS_START};
use crate::queue::segment::file_name;

const FIRST: &str = "/j/00000000000000000001.seg";

/// A segment with records of these bodies, keys counted from 0.
async fn segment(bodies: &[&[u8]]) -> Vec<u8> {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    for (key, body) in bodies.iter().enumerate() {
        journal.append(vec![entry(key as u64, body)]).await.unwrap();
    }
    drop(journal);
    disk.content(Path::new(FIRST))
}

fn with_segment(bytes: &[u8]) -> (Journal<u64>, Recovered) {
    let disk = FaultyFiles::new(1);
    disk.put(Path::new(FIRST), bytes);
    let (journal, recovered, _) = open_faulty(&disk, small());
    (journal, recovered)
}

/// Where the records of a segment start and end.
fn places(bytes: &[u8], bodies: &[&[u8]]) -> Vec<(usize, usize)> {
    let mut at = RECORDS_START as usize;
    let places = bodies.iter().map(|body| {
        let start = at;
        at += record::RECORD_HEAD + body.len();
        (start, at)
    });
    let places: Vec<_> = places.collect();
    assert_eq!(at, bytes.len());
    places
}

#[tokio::test]
async fn whatever_length_is_left_holds_the_whole_records() {
    let small_bodies: [&[u8]; 5] = [b"{}", b"", b"{\"a\":1}", b"xx", b"last"];
    let good = segment(&small_bodies).await;
    let places = places(&good, &small_bodies);
    for length in 0..=good.len() {
        if (100..RECORDS_START as usize - 10).contains(&length) && length % 64 != 0 {
            continue;
        }
        let (journal, recovered) = with_segment(&good[..length]);
        let whole = places.iter().filter(|(_, end)| *end <= length).count();
        assert_eq!(keys(&journal), (0..whole as u64).collect::<Vec<_>>(), "{length}");
        let end =
            places.get(..whole).and_then(|all| all.last()).map_or(RECORDS_START as usize, |(_, end)| *end);
        assert_eq!(recovered.torn_tail_bytes as usize, length.saturating_sub(end), "{length}");
        assert_eq!(recovered.damaged, [], "{length}");
        assert!(recovered.next_seq > whole as u64);
        let answer = journal.append(vec![entry(99, b"next")]).await.unwrap();
        assert_eq!(answer, [Appended::Accepted]);
        assert_eq!(
            bodies(&journal, recovered.next_seq),
            [(recovered.next_seq, b"next".to_vec())],
            "{length}"
        );
    }
}

#[tokio::test]
async fn zeros_behind_the_end_are_a_torn_tail() {
    let mut bytes = segment(&[b"a", b"b"]).await;
    let length = bytes.len();
    for zeros in [1, 51, 52, 4096, 1_000_000] {
        bytes.resize(length + zeros, 0);
        let (journal, recovered) = with_segment(&bytes);
        assert_eq!((keys(&journal), recovered.torn_tail_bytes), (vec![0, 1], zeros as u64));
        assert_eq!(journal.disk_bytes(), length as u64);
    }
}

#[tokio::test]
async fn each_flipped_bit_costs_at_most_its_record_and_is_reported() {
    let some: [&[u8]; 5] = [b"{}", b"", b"{\"a\":1}", b"xx", b"last"];
    let good = segment(&some).await;
    let places = places(&good, &some);
    let bits = (0..48 * 8).chain(4096 * 8..good.len() * 8);
    for bit in bits {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (journal, recovered) = with_segment(&bytes);
        let hit = places.iter().position(|(start, end)| (*start..*end).contains(&(bit / 8)));
        let expected: Vec<_> = (0..5).filter(|key| Some(*key) != hit.map(|hit| hit as u64)).collect();
        assert_eq!(keys(&journal), expected, "bit {bit}");
        let torn = hit == Some(4);
        assert_eq!(recovered.torn_tail_bytes > 0, torn, "bit {bit}");
        let damage = hit.filter(|_| !torn).map(|hit| Damage {
            path: FIRST.into(),
            offset: places[hit].0 as u64,
            bytes: (places[hit].1 - places[hit].0) as u64,
            first_seq: hit as u64 + 1,
            end_seq: hit as u64 + 2,
        });
        assert_eq!(recovered.damaged, damage.into_iter().collect::<Vec<_>>(), "bit {bit}");
        assert_eq!(journal.damaged(), recovered.damaged.len() as u64, "bit {bit}");
        assert!(recovered.next_seq >= 6, "bit {bit}: {}", recovered.next_seq);
    }
}

#[tokio::test]
async fn a_body_that_holds_records_is_never_taken_for_them() {
    // Whole segments and records of other journals, and this journal's own sequences and keys in another one's records.
    let other = segment(&[b"evil", b"more evil"]).await;
    let mut own = Vec::new();
    let guess = SegmentHead { salt: 0, marker: 0x0101_0101, first_seq: 1, older_end: 1, created_at_ms: NOW };
    for seq in 1..50 {
        let head =
            Head { seq, source: 1, received_at_ms: NOW, kind: 2, order_key: 0, message_key: 700 + seq };
        record::encode(&guess, &head, b"evil", &mut own);
    }
    let hostile: [&[u8]; 5] = [b"a", &other, &own, &other[RECORDS_START as usize..], b"z"];
    let good = segment(&hostile).await;
    let places = places(&good, &hostile);
    assert_eq!(keys(&with_segment(&good).0), [0, 1, 2, 3, 4]);
    // Damage to the head in front of a hostile body makes the reader look inside it.
    for hit in 1..4 {
        let mut bytes = good.clone();
        bytes[places[hit].0 + 9] ^= 4;
        let (journal, recovered) = with_segment(&bytes);
        let expected: Vec<_> = (0..5).filter(|key| *key != hit as u64).collect();
        assert_eq!(keys(&journal), expected);
        assert_eq!((recovered.damaged.len(), recovered.torn_tail_bytes), (1, 0));
    }
    // Torn in the middle of a hostile body.
    for cut in places[1].0 + 1..places[1].1 {
        let (journal, recovered) = with_segment(&good[..cut]);
        assert_eq!(keys(&journal), [0], "{cut}");
        assert_eq!(recovered.damaged, []);
    }
}

#[tokio::test]
async fn an_old_record_of_the_same_segment_inside_a_body_is_not_taken_either() {
    // As if someone had read the file: marker and checksums are right, only the sequence gives it away.
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    journal.append(vec![entry(0, b"a")]).await.unwrap();
    let copied = disk.content(Path::new(FIRST))[RECORDS_START as usize..].to_vec();
    journal.append(vec![entry(1, &copied)]).await.unwrap();
    journal.append(vec![entry(2, b"z")]).await.unwrap();
    drop(journal);
    let mut bytes = disk.content(Path::new(FIRST));
    bytes[RECORDS_START as usize + copied.len() + 20] ^= 1;
    let (journal, recovered) = with_segment(&bytes);
    assert_eq!(keys(&journal), [0, 2]);
    assert_eq!(recovered.damaged.len(), 1);
}

#[tokio::test]
async fn several_damaged_records_in_a_row_are_one_place() {
    let some: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];
    let mut bytes = segment(&some).await;
    let places = places(&bytes, &some);
    bytes[places[1].0] ^= 1;
    bytes[places[2].1 - 1] ^= 1;
    bytes[places[3].0 + 17] ^= 1;
    let (journal, recovered) = with_segment(&bytes);
    assert_eq!(keys(&journal), [0, 4, 5]);
    let [damage] = &recovered.damaged[..] else { panic!("{:?}", recovered.damaged) };
    assert_eq!((damage.offset, damage.bytes), (places[1].0 as u64, (places[3].1 - places[1].0) as u64));
    let text = damage.to_string();
    assert!(text.contains("up to 3 calls, sequences 2 to 4") && text.contains(FIRST), "{text}");
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_stepped_over() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    for key in 0..20 {
        journal.append(vec![entry(key, &[7; 1000])]).await.unwrap();
    }
    drop(journal);
    disk.spoil_page(Path::new(FIRST), 12_000);
    let (journal, recovered, _) = open_faulty(&disk, small());
    let found = keys(&journal);
    assert_eq!(found.len(), 15, "{found:?}");
    assert_eq!((found[0], found[14], recovered.damaged.len(), journal.damaged()), (0, 19, 1, 1));
    drop(journal);
    // One copy of the segment's head is enough.
    disk.spoil_page(Path::new(FIRST), 0);
    let (journal, ..) = open_faulty(&disk, small());
    assert_eq!(keys(&journal), found);
}

/// A journal of several segments: their paths, and the sequences in each.
async fn several() -> (FaultyFiles, Vec<(PathBuf, Vec<u64>)>) {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, Options { segment_bytes: 7000, ..small() });
    for key in 1..=12 {
        journal.append(vec![entry(key, &[7; 1000])]).await.unwrap();
    }
    let firsts: Vec<_> = journal.shared.segments().iter().map(|segment| segment.first_seq).collect();
    assert!(firsts.len() >= 4);
    let ends = firsts.iter().skip(1).copied().chain([13]);
    let all = firsts
        .iter()
        .zip(ends)
        .map(|(first, end)| (Path::new("/j").join(file_name(*first)), (*first..end).collect()));
    (disk, all.collect())
}

#[tokio::test]
async fn a_segment_whose_head_is_lost_is_reported_and_left_where_it_is() {
    let count = several().await.1.len();
    for hit in 0..count {
        let (disk, all) = several().await;
        let (path, lost) = &all[hit];
        let mut bytes = disk.content(path);
        bytes[..RECORDS_START as usize].fill(0);
        disk.put(path, &bytes);
        let (journal, recovered, _) = open_faulty(&disk, small());
        let expected: Vec<_> = (1..=12).filter(|key| !lost.contains(key)).collect();
        assert_eq!(keys(&journal), expected, "{hit}");
        let [damage] = &recovered.damaged[..] else { panic!("{:?}", recovered.damaged) };
        assert_eq!((&damage.path, damage.offset, damage.first_seq), (path, 0, lost[0]));
        assert!(recovered.next_seq >= 13);
        journal.append(vec![entry(50, b"new")]).await.unwrap();
        assert_eq!(bodies(&journal, recovered.next_seq).len(), 1);
        assert_eq!(disk.content(path), bytes);
        drop(journal);
        let (journal, ..) = open_faulty(&disk, small());
        assert_eq!(keys(&journal).len(), expected.len() + 1);
    }
}

#[tokio::test]
async fn an_end_that_is_missing_from_an_older_segment_is_reported() {
    let (disk, all) = several().await;
    let (path, lost) = &all[1];
    let bytes = disk.content(path);
    disk.put(path, &bytes[..bytes.len() - 1]);
    let last = lost.last().unwrap();
    // A day later it is not looked at when the journal is opened, only when it is read.
    for (now_ms, at_open) in [(NOW, 1), (NOW + 86_400_001, 0)] {
        let files = Arc::new(disk.clone());
        let (journal, recovered) = Journal::<u64>::open(files, small(), now_ms, Box::new(|_| ())).unwrap();
        assert_eq!((recovered.damaged.len(), recovered.next_seq), (at_open, 13));
        for damage in &recovered.damaged {
            assert_eq!((damage.first_seq, damage.end_seq), (*last, last + 1));
        }
        let expected: Vec<_> = (1..=12).filter(|key| key != last).collect();
        let found = journal.read(0, usize::MAX).unwrap();
        assert_eq!(found.iter().map(|(head, _)| head.message_key).collect::<Vec<_>>(), expected);
        assert_eq!(journal.damaged(), 1);
    }
}

#[tokio::test]
async fn a_segment_that_was_being_created_is_removed() {
    for left in [0, 1, 48, 4096, RECORDS_START as usize] {
        let (disk, all) = several().await;
        let name = Path::new("/j").join(file_name(13));
        disk.put(&name, &vec![0; left]);
        let (journal, recovered, _) = open_faulty(&disk, small());
        assert_eq!((recovered.segments as usize, recovered.damaged.len()), (all.len(), 0));
        assert!(!disk.list(Path::new("/j")).unwrap().contains(&file_name(13)));
        assert_eq!(keys(&journal), (1..=12).collect::<Vec<_>>());
        journal.append(vec![entry(13, b"")]).await.unwrap();
        assert_eq!(keys(&journal), (1..=13).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_newer_format_is_an_error_with_a_remedy() {
    let (disk, all) = several().await;
    let path = &all[1].0;
    let mut bytes = disk.content(path);
    bytes[8] = 2;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..48]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.put(path, &bytes);
    let error = open_on(Arc::new(disk), small()).err().unwrap().to_string();
    for part in [&path.display().to_string(), "version 2", "up to 1", "newer program"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn segments_of_version_1_are_read() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/queue-v1/00000000000000000001.seg");
    let bytes = std::fs::read(fixture).unwrap();
    let (journal, recovered) = with_segment(&bytes);
    assert_eq!((recovered.records, recovered.next_seq, recovered.damaged.len()), (3, 4, 0));
    let found = journal.read(0, usize::MAX).unwrap();
    let heads: Vec<_> = found.iter().map(|(head, _)| *head).collect();
    let head = |seq, order_key, message_key| {
        let kind = 2;
        Head { seq, source: 1, received_at_ms: NOW, kind, order_key, message_key }
    };
    assert_eq!(heads, [head(1, 1, 1), head(2, 2, 2), head(3, 1, u64::MAX)]);
    let bodies: Vec<_> = found.iter().map(|(_, body)| body.to_vec()).collect();
    assert_eq!(bodies, [b"{\"userId\":\"u1\"}".to_vec(), Vec::new(), vec![0; 5000]]);
}
