//! The journal on a disk that fails for a while: what can be read again later is not lost, what cannot be written is
//! refused, and nothing is left behind.

use std::path::Path;

use super::tests::{NOW, bodies, entry, keys, open_faulty, small};
use super::*;
use crate::queue::faults::FaultyFiles;

const FIRST: &str = "/j/00000000000000000001.seg";
const DAY_MS: i64 = 86_400_000;

fn patient() -> Options {
    Options { patience: Duration::from_hours(1), ..small() }
}

fn segments(disk: &FaultyFiles) -> usize {
    disk.list(Path::new("/j")).unwrap().iter().filter(|name| name.ends_with(".seg")).count()
}

async fn append(journal: &Journal<u64>, keys: std::ops::Range<u64>, bytes: usize) {
    for key in keys {
        journal.append(vec![entry(key, &vec![key as u8; bytes])]).await.unwrap();
    }
}

fn at(key: u64, received_at_ms: i64) -> Entry<u64> {
    Entry { received_at_ms, ..entry(key, &[1; 100]) }
}

#[tokio::test]
async fn writes_that_fail_again_and_again_leave_no_files_behind() {
    type Fault = fn(&FaultyFiles);
    let faults: [Fault; 3] = [
        |disk| disk.fail_writes(1),
        // The segment's head is written with the first sync, the records with the second.
        |disk| disk.fail_syncs(1),
        |disk| disk.set_read_only(true),
    ];
    for fault in faults {
        let disk = FaultyFiles::new(1);
        let (journal, ..) = open_faulty(&disk, small());
        append(&journal, 0..3, 100).await;
        for _ in 0..20 {
            fault(&disk);
            assert!(matches!(journal.append(vec![entry(9, b"x")]).await, Err(AppendError::Failed(_))));
            assert!(segments(&disk) <= 2, "{}", segments(&disk));
        }
        disk.set_read_only(false);
        append(&journal, 9..12, 100).await;
        assert_eq!(keys(&journal), [0, 1, 2, 9, 10, 11]);
        assert!(segments(&disk) <= 3);
        disk.cut_power();
        drop(journal);
        let (journal, recovered, _) = open_faulty(&disk, small());
        assert_eq!((keys(&journal), recovered.damaged), (vec![0, 1, 2, 9, 10, 11], vec![]));
    }
}

#[tokio::test]
async fn a_new_segment_that_cannot_be_written_is_removed_again() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, Options { segment_bytes: 5000, ..small() });
    append(&journal, 0..1, 800).await;
    for seed in 0..20 {
        // The disk takes the new segment's head, and not the records.
        disk.set_capacity(4952 + 4144 + 100 + seed);
        assert!(matches!(journal.append(vec![entry(9, &[1; 800])]).await, Err(AppendError::Full(_))));
        assert_eq!(segments(&disk), 1);
    }
    disk.set_capacity(u64::MAX);
    append(&journal, 9..10, 800).await;
    assert_eq!((keys(&journal), segments(&disk)), (vec![0, 9], 2));
}

#[tokio::test]
async fn a_read_that_fails_once_is_no_damage() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, patient());
    append(&journal, 0..20, 1000).await;
    for _ in 0..3 {
        // What is wanted is asked for twice: with what lies behind it, and alone.
        disk.fail_reads(2);
        let error = journal.read(0, usize::MAX).unwrap_err().to_string();
        assert!(error.contains(FIRST) && error.contains("check that disk"), "{error}");
    }
    assert_eq!((keys(&journal).len(), journal.damaged()), (20, 0));
}

#[tokio::test]
async fn what_cannot_be_read_for_a_while_is_waited_for() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, patient());
    append(&journal, 0..20, 1000).await;
    disk.spoil_page(Path::new(FIRST), 12_000);
    let before = journal.read(0, usize::MAX).unwrap();
    assert_eq!(before.last().unwrap().0.seq, before.len() as u64, "whatever lies before it is there");
    let next = before.len() as u64 + 1;
    for _ in 0..3 {
        assert!(journal.read(next, usize::MAX).is_err());
    }
    disk.heal_page(Path::new(FIRST), 12_000);
    assert_eq!((keys(&journal).len(), journal.damaged()), (20, 0));
}

#[tokio::test]
async fn what_stays_unreadable_is_given_up_in_the_end_and_reported() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    append(&journal, 0..20, 1000).await;
    disk.spoil_page(Path::new(FIRST), 12_000);
    let before = journal.read(0, usize::MAX).unwrap().len() as u64;
    let rest = journal.read(before + 1, usize::MAX).unwrap();
    assert_eq!((rest.last().unwrap().0.seq, journal.damaged()), (20, 1));
}

#[tokio::test]
async fn a_disk_that_is_gone_is_waited_for_however_long() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    append(&journal, 0..20, 1000).await;
    let pages = || (0..7).map(|page| page * 4096);
    pages().for_each(|offset| disk.spoil_page(Path::new(FIRST), offset));
    for _ in 0..5 {
        assert!(journal.read(0, usize::MAX).is_err());
    }
    pages().for_each(|offset| disk.heal_page(Path::new(FIRST), offset));
    assert_eq!((keys(&journal).len(), journal.damaged()), (20, 0));
}

#[tokio::test]
async fn an_end_that_cannot_be_read_at_the_start_is_not_taken_for_a_torn_one() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    append(&journal, 0..20, 1000).await;
    drop(journal);
    let bytes = disk.content(Path::new(FIRST));
    disk.spoil_page(Path::new(FIRST), bytes.len() as u64 - 1);
    let (journal, recovered, _) = open_faulty(&disk, small());
    assert_eq!((recovered.torn_tail_bytes, recovered.damaged.len()), (0, 1));
    assert!(recovered.next_seq > 20, "sequences that may be there are not used again");
    append(&journal, 50..51, 10).await;
    assert_eq!(disk.content(Path::new(FIRST)), bytes, "nothing was cut or overwritten");
    drop(journal);
    disk.heal_page(Path::new(FIRST), bytes.len() as u64 - 1);
    let (journal, ..) = open_faulty(&disk, small());
    assert_eq!(keys(&journal), (0..20).chain([50]).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_end_that_was_accepted_is_damage_and_no_torn_tail() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    append(&journal, 0..5, 1000).await;
    drop(journal);
    let good = disk.content(Path::new(FIRST));
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    disk.put(Path::new(FIRST), &bytes);
    let options = Options { min_next_seq: 6, ..small() };
    let (journal, recovered, _) = open_faulty(&disk, options.clone());
    assert_eq!((recovered.torn_tail_bytes, recovered.next_seq), (0, 6));
    let [damage] = &recovered.damaged[..] else { panic!("{:?}", recovered.damaged) };
    assert_eq!((damage.first_seq, damage.end_seq), (5, 6));
    assert_eq!(disk.content(Path::new(FIRST)), bytes, "nothing is cut");
    append(&journal, 9..10, 10).await;
    assert_eq!((keys(&journal), journal.damaged()), (vec![0, 1, 2, 3, 9], 1));
    drop(journal);
    // The file is restored from a copy.
    disk.put(Path::new(FIRST), &good);
    let (journal, recovered, _) = open_faulty(&disk, options);
    assert_eq!((keys(&journal), recovered.damaged), (vec![0, 1, 2, 3, 4, 9], vec![]));
}

#[tokio::test]
async fn reads_that_fail_for_a_moment_at_the_start_cost_nothing() {
    for failures in 1..6 {
        let disk = FaultyFiles::new(1);
        let (journal, ..) = open_faulty(&disk, small());
        append(&journal, 0..20, 1000).await;
        drop(journal);
        disk.fail_reads(failures);
        let options = Options { patience_at_open: Duration::from_secs(3), ..small() };
        let (journal, recovered, _) = open_faulty(&disk, options);
        assert_eq!((recovered.damaged, recovered.torn_tail_bytes, recovered.segments), (vec![], 0, 1));
        assert_eq!(keys(&journal).len(), 20);
    }
}

#[tokio::test]
async fn a_segment_of_which_nothing_can_be_read_is_an_error_at_the_start_and_stays() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    append(&journal, 0..3, 1000).await;
    drop(journal);
    for page in [0, 4096] {
        disk.spoil_page(Path::new(FIRST), page);
    }
    let opened = super::tests::open_on(Arc::new(disk.for_new_process()), small());
    let error = opened.err().unwrap().to_string();
    assert!(error.contains(FIRST) && error.contains("check that disk"), "{error}");
    for page in [0, 4096] {
        disk.heal_page(Path::new(FIRST), page);
    }
    assert_eq!(keys(&open_faulty(&disk, small()).0).len(), 3);
}

#[tokio::test]
async fn nothing_is_acknowledged_that_went_to_a_file_which_is_gone() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    append(&journal, 0..3, 100).await;
    let elsewhere = Path::new("/elsewhere/1.seg");
    disk.rename(Path::new(FIRST), elsewhere);
    let refused = journal.append(vec![entry(5, b"x")]).await;
    assert!(
        matches!(&refused, Err(AppendError::Failed(text)) if text.contains("put it back")),
        "{refused:?}"
    );
    let error = journal.read(0, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("put it back"), "who needs it waits: {error}");
    append(&journal, 5..6, 100).await;
    disk.rename(elsewhere, Path::new(FIRST));
    assert_eq!(keys(&journal), [0, 1, 2, 5]);
}

#[tokio::test]
async fn a_read_only_disk_refuses_and_goes_on_when_it_is_writable() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    append(&journal, 0..3, 100).await;
    disk.set_read_only(true);
    for _ in 0..3 {
        let refused = journal.append(vec![entry(5, b"x")]).await;
        let Err(AppendError::Failed(text)) = refused else { panic!("{refused:?}") };
        assert!(text.contains("read-only") && text.contains("writable"), "{text}");
    }
    assert_eq!(keys(&journal), [0, 1, 2]);
    disk.set_read_only(false);
    append(&journal, 5..6, 100).await;
    assert_eq!(keys(&journal), [0, 1, 2, 5]);
}

#[tokio::test]
async fn segments_end_with_time_too() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, Options { retain: Duration::from_hours(8 * 24 * 30), ..small() });
    for day in 0..5 {
        for hour in 0..3 {
            let received = NOW + day * DAY_MS + hour * 3_600_000;
            journal.append(vec![at((day * 3 + hour) as u64, received)]).await.unwrap();
        }
    }
    assert_eq!(segments(&disk), 5, "a day is the longest");
    assert_eq!(keys(&journal).len(), 15);
}

#[tokio::test]
async fn a_quiet_journal_keeps_calls_no_longer_than_it_should() {
    let disk = FaultyFiles::new(1);
    let options = Options { retain: Duration::from_hours(8), ..small() };
    let (journal, ..) = open_faulty(&disk, options.clone());
    journal.append(vec![at(1, NOW)]).await.unwrap();
    let hour = 3_600_000;
    let settle = |now_ms: i64, count: usize| {
        journal.retain(journal.next_seq(), now_ms);
        while journal.shared.segments().len() != count {
            std::thread::yield_now();
        }
    };
    journal.retain(1, NOW + 20 * hour);
    settle(NOW + hour - 1, 1);
    settle(NOW + hour, 2);
    settle(NOW + 9 * hour, 2);
    assert_eq!(keys(&journal), [1]);
    settle(NOW + 9 * hour + 1, 1);
    assert_eq!((keys(&journal), journal.first_seq(), journal.next_seq()), (vec![], 2, 2));
    // Nothing is in the newest one: it stays, however old.
    settle(NOW + 90 * hour, 1);
    journal.append(vec![at(2, NOW + 90 * hour), at(3, NOW + 90 * hour)]).await.unwrap();
    journal.append(vec![at(4, NOW + 90 * hour + 1)]).await.unwrap();
    assert_eq!((segments(&disk), keys(&journal)), (1, vec![2, 3, 4]));
    disk.cut_power();
    let (journal, recovered, _) = open_faulty(&disk, options);
    assert_eq!((keys(&journal), recovered.next_seq, recovered.damaged), (vec![2, 3, 4], 5, vec![]));
}

#[tokio::test]
async fn a_full_file_system_lets_segments_go_early() {
    let disk = FaultyFiles::new(1);
    let options = Options { segment_bytes: 10_000, min_free_bytes: 20_000, ..Options::new("/j") };
    let (journal, ..) = open_faulty(&disk, options);
    append(&journal, 0..20, 2000).await;
    let before = segments(&disk);
    journal.retain(journal.next_seq(), NOW);
    assert_eq!(segments(&disk), before, "there is room");
    // Somebody else fills the disk.
    disk.set_capacity(journal.disk_bytes() + 15_000);
    assert!(matches!(journal.append(vec![entry(99, b"x")]).await, Err(AppendError::Full(_))));
    journal.retain(1, NOW);
    assert_eq!(segments(&disk), before, "all of it is needed");
    journal.retain(journal.next_seq(), NOW);
    assert!(segments(&disk) < before);
    append(&journal, 99..100, 10).await;
}

#[tokio::test]
async fn files_beside_the_journal_count_against_its_limit() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, Options { max_disk_bytes: 400_000, ..small() });
    append(&journal, 0..10, 1000).await;
    journal.set_beside(370_000);
    let full = journal.append(vec![entry(99, b"x")]).await;
    assert!(matches!(&full, Err(AppendError::Full(text)) if text.contains("queue.max_disk")), "{full:?}");
    assert!(journal.is_pressed());
    journal.set_beside(100_000);
    append(&journal, 99..100, 10).await;
    assert!(!journal.is_pressed());
}

#[tokio::test]
async fn a_small_limit_keeps_little_free() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, Options { max_disk_bytes: 16 << 20, ..Options::new("/j") });
    disk.set_capacity(1 << 20);
    assert!(matches!(journal.append(vec![entry(1, b"x")]).await, Err(AppendError::Full(_))));
    disk.set_capacity((1 << 20) + 10_000);
    append(&journal, 1..2, 10).await;
    assert_eq!(bodies(&journal, 0).len(), 1);
}
