//! The journal on a real disk and on one that fails.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::queue::faults::FaultyFiles;
use crate::queue::files::RealFiles;
use crate::queue::record::MAX_BODY;

pub const NOW: i64 = 1_750_000_000_000;

pub fn entry(key: u64, body: &[u8]) -> Entry<u64> {
    Entry {
        source: 1,
        received_at_ms: NOW,
        kind: 2,
        order_key: key % 7,
        message_key: key,
        body: Arc::from(body),
        payload: key,
    }
}

pub type Told = Arc<Mutex<Vec<(Head, u64)>>>;

pub fn open_on(
    files: Arc<dyn Files>,
    options: Options,
) -> Result<(Journal<u64>, Recovered, Told), OpenError> {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let on_durable = Box::new(move |records| tell.lock().unwrap().extend(records));
    let (journal, recovered) = Journal::open(files, options, NOW, on_durable)?;
    Ok((journal, recovered, told))
}

fn open(options: Options) -> (Journal<u64>, Recovered, Told) {
    open_on(Arc::new(RealFiles), options).unwrap()
}

/// A small journal on a faulty disk.
pub fn small() -> Options {
    Options {
        min_free_bytes: 0,
        patience_at_open: Duration::ZERO,
        patience: Duration::ZERO,
        ..Options::new("/j")
    }
}

pub fn open_faulty(disk: &FaultyFiles, options: Options) -> (Journal<u64>, Recovered, Told) {
    open_on(Arc::new(disk.for_new_process()), options).unwrap()
}

pub fn bodies(journal: &Journal<u64>, from: u64) -> Vec<(u64, Vec<u8>)> {
    journal
        .read(from, usize::MAX)
        .unwrap()
        .into_iter()
        .map(|(head, body)| (head.seq, body.to_vec()))
        .collect()
}

pub fn keys(journal: &Journal<u64>) -> Vec<u64> {
    journal.read(0, usize::MAX).unwrap().into_iter().map(|(head, _)| head.message_key).collect()
}

#[tokio::test]
async fn what_was_appended_is_told_read_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, recovered, told) = open(Options::new(dir.path()));
    assert_eq!(recovered, Recovered { first_seq: 1, next_seq: 1, ..Recovered::default() });
    assert_eq!(bodies(&journal, 0), []);
    let answer = journal.append(vec![entry(1, b"a"), entry(2, b"b"), entry(1, b"c")]).await.unwrap();
    assert_eq!(answer, [Appended::Accepted, Appended::Accepted, Appended::Duplicate]);
    assert_eq!(journal.append(vec![entry(2, b"d")]).await.unwrap(), [Appended::Duplicate]);
    assert_eq!(journal.append(Vec::new()).await.unwrap(), []);
    let kept = [(1, b"a".to_vec()), (2, b"b".to_vec())];
    assert_eq!(bodies(&journal, 0), kept);
    let heard: Vec<_> = told.lock().unwrap().iter().map(|(head, payload)| (head.seq, *payload)).collect();
    assert_eq!(heard, [(1, 1), (2, 2)]);
    journal.close();
    assert!(matches!(journal.append(vec![entry(9, b"")]).await, Err(AppendError::Closed)));
    drop(journal);

    let (journal, recovered, _) = open(Options::new(dir.path()));
    let expected = Recovered { segments: 1, records: 2, first_seq: 1, next_seq: 3, ..Recovered::default() };
    assert_eq!(recovered, expected);
    let answer = journal.append(vec![entry(1, b"e"), entry(3, b"f")]).await.unwrap();
    assert_eq!(answer, [Appended::Duplicate, Appended::Accepted]);
    assert_eq!(bodies(&journal, 2), [(2, b"b".to_vec()), (3, b"f".to_vec())]);
    let (head, _) = journal.read(3, 0).unwrap().remove(0);
    let same = Head { seq: 3, source: 1, received_at_ms: NOW, kind: 2, order_key: 3, message_key: 3 };
    assert_eq!(head, same);
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (_journal, ..) = open(Options::new(dir.path()));
    let error = open_on(Arc::new(RealFiles), Options::new(dir.path())).err().unwrap().to_string();
    let told = format!("in use by process {}", std::process::id());
    assert!(error.contains(&told) && error.contains("queue.path"), "{error}");
}

#[tokio::test]
async fn reading_goes_on_over_segments_and_in_parts() {
    let disk = FaultyFiles::new(1);
    let options = Options { segment_bytes: 20_000, ..small() };
    let (journal, ..) = open_faulty(&disk, options.clone());
    for key in 0..100 {
        journal.append(vec![entry(key, &[key as u8; 900])]).await.unwrap();
    }
    assert!(disk.list(&options.dir).unwrap().len() > 5);
    let check = |journal: &Journal<u64>| {
        let mut from = 0;
        let mut found = Vec::new();
        loop {
            let part = journal.read(from, 3000).unwrap();
            let Some((last, _)) = part.last() else { break };
            assert!(part.len() <= 4);
            from = last.seq + 1;
            found.extend(part.iter().map(|(head, body)| (head.message_key, body[0])));
        }
        assert_eq!(found, (0..100).map(|key| (key, key as u8)).collect::<Vec<_>>());
        assert_eq!(journal.damaged(), 0);
    };
    check(&journal);
    drop(journal);
    let (journal, recovered, _) = open_faulty(&disk, options.clone());
    assert_eq!((recovered.records, recovered.damaged), (100, Vec::new()));
    check(&journal);
    drop(journal);
    // Without a window, only the newest segment is looked at; reading finds the rest.
    let (journal, recovered, _) = open_faulty(&disk, Options { duplicate_window: Duration::ZERO, ..options });
    assert!(recovered.records <= 100 && recovered.next_seq == 101);
    check(&journal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn appends_that_wait_together_share_a_sync() {
    let disk = FaultyFiles::new(1);
    let (journal, _, told) = open_faulty(&disk, small());
    let journal = Arc::new(journal);
    let before = disk.syncs();
    let tasks: Vec<_> = (0..64)
        .map(|task: u64| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                for number in 0..50 {
                    let key = task * 1000 + number;
                    journal.append(vec![entry(key, &key.to_le_bytes())]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let found = journal.read(0, usize::MAX).unwrap();
    assert_eq!(found.len(), 3200);
    assert!(found.iter().all(|(head, body)| body[..] == head.message_key.to_le_bytes()));
    assert!(found.iter().map(|(head, _)| head.seq).eq(1..=3200));
    assert!(told.lock().unwrap().iter().map(|(head, _)| head.seq).eq(1..=3200));
    // Each task waits for its own append, so order within a task is kept.
    for task in 0..64 {
        let own = found.iter().map(|(head, _)| head.message_key).filter(|key| key / 1000 == task);
        assert!(own.eq(task * 1000..task * 1000 + 50));
    }
    assert!(disk.syncs() - before < 3200, "{} syncs", disk.syncs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reading_beside_writing_sees_only_whole_durable_records() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ..) = open(Options { segment_bytes: 200_000, ..Options::new(dir.path()) });
    let journal = Arc::new(journal);
    let reader = {
        let journal = Arc::clone(&journal);
        tokio::task::spawn_blocking(move || {
            let mut next = 1;
            while next <= 2000 {
                let end = journal.next_seq();
                let part = journal.read(next, 10_000).unwrap();
                assert!(!part.is_empty() || next == end, "{next} of {end} is not there");
                for (head, body) in part {
                    assert_eq!(head.seq, next);
                    assert_eq!(body[..], [head.message_key as u8; 500]);
                    next += 1;
                }
                std::thread::yield_now();
            }
        })
    };
    for first in (0..2000).step_by(20) {
        let entries = (first..first + 20).map(|key| entry(key, &[key as u8; 500])).collect();
        journal.append(entries).await.unwrap();
    }
    reader.await.unwrap();
    assert_eq!(journal.damaged(), 0);
}

#[tokio::test]
async fn a_failed_write_or_sync_fails_its_appends_and_the_next_go_on() {
    type Fault = fn(&FaultyFiles);
    let faults: [(&str, Fault); 4] = [
        ("write", |disk| disk.fail_writes(1)),
        ("sync", |disk| disk.fail_syncs(1)),
        ("sync and sync after cut", |disk| disk.fail_syncs(2)),
        ("sync and cut", |disk| {
            disk.fail_syncs(1);
            disk.fail_cuts(1);
        }),
    ];
    for (name, fault) in faults {
        for seed in 0..20 {
            let disk = FaultyFiles::new(seed);
            let (journal, _, told) = open_faulty(&disk, small());
            journal.append(vec![entry(1, b"a")]).await.unwrap();
            fault(&disk);
            let failed = journal.append(vec![entry(2, b"b"), entry(3, b"c")]).await;
            assert!(
                matches!(&failed, Err(AppendError::Failed(text)) if text.contains("/j/")),
                "{name}: {failed:?}"
            );
            assert_eq!(journal.next_seq(), 2);
            // What was durable before is known, what failed is not.
            assert_eq!(journal.append(vec![entry(1, b"a")]).await.unwrap(), [Appended::Duplicate]);
            assert_eq!(journal.append(vec![entry(2, b"b")]).await.unwrap(), [Appended::Accepted]);
            let expected = [(1, b"a".to_vec()), (4, b"b".to_vec())];
            assert_eq!(bodies(&journal, 0), expected, "{name}");
            assert_eq!(told.lock().unwrap().len(), 2);
            disk.cut_power();
            drop(journal);
            let (journal, recovered, _) = open_faulty(&disk, small());
            assert_eq!(bodies(&journal, 0), expected, "{name} {seed}");
            assert_eq!(recovered.damaged, [], "{name} {seed}");
            assert_eq!(journal.damaged(), 0, "{name} {seed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_shares_the_fate_of_an_original_that_is_being_written() {
    for fails in [true, false] {
        let disk = FaultyFiles::new(1);
        let (go, held) = std::sync::mpsc::channel::<()>();
        // While the writer tells of one group it takes no other: what comes meanwhile goes to disk together.
        let on_durable = Box::new(move |_| held.recv().unwrap_or_default());
        let (journal, _) = Journal::<u64>::open(Arc::new(disk.clone()), small(), NOW, on_durable).unwrap();
        let (first, original, repeated, known) = tokio::join!(
            journal.append(vec![entry(1, b"a")]),
            journal.append(vec![entry(2, b"b")]),
            journal.append(vec![entry(2, b"b")]),
            async {
                while journal.next_seq() == 1 {
                    tokio::task::yield_now().await;
                }
                let known = journal.append(vec![entry(1, b"a")]);
                let release = async {
                    disk.fail_syncs(u32::from(fails));
                    drop(go);
                };
                tokio::join!(known, release).0
            },
        );
        // The first two may have shared the first group.
        let together = first.is_ok() && original.is_ok();
        assert_eq!(known.unwrap(), [Appended::Duplicate]);
        match (fails, together) {
            (true, false) => {
                assert!(matches!(original, Err(AppendError::Failed(_))), "{original:?}");
                assert!(matches!(repeated, Err(AppendError::Failed(_))), "{repeated:?}");
                assert_eq!(journal.append(vec![entry(2, b"b")]).await.unwrap(), [Appended::Accepted]);
            }
            _ => {
                assert_eq!(original.unwrap(), [Appended::Accepted]);
                assert_eq!(repeated.unwrap(), [Appended::Duplicate]);
            }
        }
    }
}

#[tokio::test]
async fn short_writes_are_finished() {
    let disk = FaultyFiles::new(1);
    disk.shorten_writes();
    let (journal, ..) = open_faulty(&disk, small());
    for key in 0..50 {
        journal.append(vec![entry(key, &[1; 3000])]).await.unwrap();
    }
    assert_eq!(keys(&journal), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_disk_refuses_and_goes_on_by_itself_when_there_is_room() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    journal.append(vec![entry(1, &[1; 1000])]).await.unwrap();
    for capacity in [5500, 6200] {
        disk.set_capacity(capacity);
        for _ in 0..3 {
            let full = journal.append(vec![entry(2, &[2; 1000])]).await;
            let Err(AppendError::Full(text)) = full else { panic!("{full:?}") };
            assert!(text.contains("/j") && text.contains("make room"), "{text}");
        }
    }
    disk.set_capacity(u64::MAX);
    journal.append(vec![entry(2, &[2; 1000])]).await.unwrap();
    assert_eq!(keys(&journal), [1, 2]);
    drop(journal);
    let (journal, recovered, _) = open_faulty(&disk, small());
    assert_eq!((keys(&journal), recovered.damaged), (vec![1, 2], vec![]));
}

#[tokio::test]
async fn a_disk_that_fills_up_in_the_middle_of_a_write_harms_nothing() {
    // The file system promises room that it then does not have.
    struct Promising(FaultyFiles);
    impl Files for Promising {
        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            self.0.create_dir(dir)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            self.0.list(dir)
        }
        fn create(&self, path: &Path) -> io::Result<Box<dyn crate::queue::files::Disk>> {
            self.0.create(path)
        }
        fn open(&self, path: &Path) -> io::Result<Box<dyn crate::queue::files::Disk>> {
            self.0.open(path)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            self.0.remove(path)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            self.0.sync_dir(dir)
        }
        fn available(&self, _: &Path) -> io::Result<u64> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
            self.0.lock(path)
        }
    }
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_on(Arc::new(Promising(disk.clone())), small()).unwrap();
    journal.append(vec![entry(1, &[1; 1000])]).await.unwrap();
    disk.set_capacity(5800);
    for _ in 0..3 {
        let full = journal.append(vec![entry(2, &[2; 1000])]).await;
        assert!(matches!(&full, Err(AppendError::Full(text)) if text.contains("make room")), "{full:?}");
    }
    disk.set_capacity(u64::MAX);
    journal.append(vec![entry(2, &[2; 1000])]).await.unwrap();
    disk.cut_power();
    drop(journal);
    let (journal, recovered, _) = open_faulty(&disk, small());
    assert_eq!((keys(&journal), recovered.damaged), (vec![1, 2], vec![]));
}

#[tokio::test]
async fn at_the_watermark_appends_are_refused_until_segments_go() {
    let disk = FaultyFiles::new(1);
    let options = Options { max_disk_bytes: 400_000, ..small() };
    let (journal, ..) = open_faulty(&disk, options);
    let mut key = 0;
    let text = loop {
        match journal.append(vec![entry(key, &[1; 1000])]).await {
            Ok(_) => key += 1,
            Err(AppendError::Full(text)) => break text,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(journal.disk_bytes() > 370_000 && journal.disk_bytes() <= 375_000);
    for part in ["/j", "400000", "25000", "queue.max_disk"] {
        assert!(text.contains(part), "{text}");
    }
    // A repeated message needs no room.
    assert_eq!(journal.append(vec![entry(0, b"")]).await.unwrap(), [Appended::Duplicate]);
    // Somebody needs all of it.
    journal.retain(1, NOW);
    assert_eq!((journal.first_seq(), keys(&journal).len() as u64), (1, key));
    // Nobody does: the oldest go, the others stay for replay.
    journal.retain(journal.next_seq(), NOW);
    assert!(journal.disk_bytes() <= 350_000 && journal.disk_bytes() > 280_000, "{}", journal.disk_bytes());
    assert!(journal.first_seq() > 1);
    assert_eq!(keys(&journal)[0], journal.first_seq() - 1);
    journal.append(vec![entry(key, &[1; 1000])]).await.unwrap();
}

#[tokio::test]
async fn segments_go_when_they_are_old_and_nobody_needs_them() {
    let disk = FaultyFiles::new(1);
    let options = Options { segment_bytes: 10_000, retain: Duration::from_secs(1), ..small() };
    let (journal, ..) = open_faulty(&disk, options.clone());
    for key in 0..20 {
        journal.append(vec![entry(key, &[1; 2000])]).await.unwrap();
    }
    let next = journal.next_seq();
    journal.retain(next, NOW + 1000);
    assert_eq!(journal.first_seq(), 1);
    journal.retain(10, NOW + 1001);
    let first = journal.first_seq();
    assert!((2..=10).contains(&first), "{first}");
    disk.fail_removes(1);
    journal.retain(next, NOW + 1001);
    assert_eq!(journal.first_seq(), first);
    journal.retain(next, NOW + 1001);
    assert_eq!(disk.list(&options.dir).unwrap().len(), 1);
    let left = bodies(&journal, 0);
    assert_eq!(left.last().unwrap().0, 20);
    disk.cut_power();
    drop(journal);
    let (journal, recovered, _) = open_faulty(&disk, options);
    assert_eq!(bodies(&journal, 0), left);
    assert_eq!((recovered.next_seq, recovered.damaged), (21, vec![]));
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    let large = journal.append(vec![entry(1, &vec![0; MAX_BODY + 1])]).await;
    assert!(matches!(large, Err(AppendError::Failed(_))));
    let many = (0..9).map(|key| entry(key, &[0; 4 << 20])).collect();
    assert!(matches!(journal.append(many).await, Err(AppendError::Failed(_))));
    assert_eq!(journal.append(vec![entry(1, b"")]).await.unwrap(), [Appended::Accepted]);
}

#[tokio::test]
async fn a_panic_in_the_callers_hands_leaves_nobody_waiting() {
    let disk = FaultyFiles::new(1);
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let on_durable = Box::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        panic!("as planned");
    });
    let (journal, _) = Journal::<u64>::open(Arc::new(disk), small(), NOW, on_durable).unwrap();
    assert!(matches!(journal.append(vec![entry(1, b"")]).await, Err(AppendError::Failed(_))));
    journal.close();
    assert!(matches!(journal.append(vec![entry(2, b"")]).await, Err(AppendError::Closed)));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_owner_can_ask_for_higher_sequences() {
    let disk = FaultyFiles::new(1);
    let (journal, ..) = open_faulty(&disk, small());
    journal.append(vec![entry(1, b"a")]).await.unwrap();
    drop(journal);
    let (journal, recovered, _) = open_faulty(&disk, Options { min_next_seq: 50, ..small() });
    assert_eq!((recovered.next_seq, journal.next_seq()), (50, 50));
    let [damage] = &recovered.damaged[..] else { panic!("{:?}", recovered.damaged) };
    assert_eq!((damage.first_seq, damage.end_seq, damage.bytes), (2, 50, 0), "the owner knows of them");
    journal.append(vec![entry(2, b"b")]).await.unwrap();
    let expected = [(1, b"a".to_vec()), (50, b"b".to_vec())];
    assert_eq!(bodies(&journal, 0), expected);
    drop(journal);
    let (journal, recovered, _) = open_faulty(&disk, small());
    assert_eq!((bodies(&journal, 0).len(), recovered.next_seq, recovered.damaged.len()), (2, 51, 1));
}
