//! The state file: what is written comes back, and a full disk is survived.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::queue::codes::{DELIVERED, FIRST_FREE, SUBMITTED};

fn delta(base: u64) -> Delta {
    Delta { base, needed: base, begin: 1, ..Delta::default() }
}

fn lane(id: u16, name: &str, active: bool, base: u64, begin: u64) -> SavedLane {
    SavedLane { id, name: name.into(), active, saved: Saved { base, begin, ..Saved::default() } }
}

fn row(order_key: u64) -> Row {
    Row { order_key, attempts: 2, due_at_ms: 99, reason: "busy".into(), ..Row::default() }
}

#[test]
fn what_was_written_comes_back_and_the_file_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let store = Store::open(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    store.put_lanes(&[lane(1, "mixpanel", true, 0, 0), lane(2, "webhook", false, 5, 6)]).unwrap();
    let mut first = delta(4096);
    first.counts = [(DELIVERED, 7), (FIRST_FREE, 1)].into();
    first.chunks = [(0, chunks::encode(&[UNREAD, DELIVERED])), (1, chunks::encode(&[SUBMITTED]))].into();
    first.rows = [(0, Some(row(3))), (9, Some(row(4)))].into();
    let dead = Dead {
        code: "rejected".into(),
        reason: "bad".into(),
        attempts: 3,
        answer: "ä".repeat(400),
        ..Dead::default()
    };
    let batch = Batch {
        lanes: [(1, first)].into(),
        dead: vec![(
            1,
            8,
            Some(DeadRow { seq: 8, number: FIRST_FREE, at_ms: 5, dead, ..DeadRow::default() }),
        )],
        codes: vec![(FIRST_FREE, Code::Dead("rejected".into()))],
        sources: vec![(3, "web".into())],
        total: Some((10, 8)),
    };
    store.commit(&batch).unwrap();
    store.put("paused", b"yes").unwrap();
    let key = store.load().unwrap().hash_key;
    drop(store);

    let store = Store::open(&path).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.hash_key, key);
    assert_ne!(key, [0; 16]);
    assert_eq!(loaded.total, (10, 8));
    assert_eq!(loaded.sources, [(3, "web".to_owned())].into());
    assert_eq!(loaded.codes, [(FIRST_FREE, Code::Dead("rejected".into()))].into());
    let [mixpanel, webhook] = &loaded.lanes[..] else { panic!("{loaded:?}") };
    assert_eq!((webhook.active, webhook.saved.base, webhook.saved.begin), (false, 5, 6));
    assert_eq!((mixpanel.active, mixpanel.saved.base, mixpanel.saved.begin), (true, 4096, 1));
    assert_eq!(mixpanel.saved.counts, [(DELIVERED, 7), (FIRST_FREE, 1)].into());
    assert_eq!(mixpanel.saved.chunks.keys().copied().collect::<Vec<_>>(), [1], "from the base on");
    assert_eq!(mixpanel.saved.rows, [(0, row(3)), (9, row(4))].into());
    assert_eq!(store.get("paused").unwrap().as_deref(), Some(&b"yes"[..]));
    assert_eq!(store.get("other").unwrap(), None);
    let letters = store.dead(1, 0, 10).unwrap();
    assert_eq!((letters.len(), letters[0].dead.answer.len(), letters[0].dead.attempts), (1, 512, 3));
    assert!(store.dead(1, 9, 10).unwrap().is_empty() && store.dead(2, 0, 10).unwrap().is_empty());
}

#[test]
fn outcomes_of_parked_events_are_added_to_their_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state")).unwrap();
    store.put_lanes(&[lane(1, "a", true, 0, 0)]).unwrap();
    let mut change = delta(4096);
    change.chunks.insert(0, chunks::encode(&[DELIVERED, UNREAD, DELIVERED, UNREAD]));
    change.rows = [(1, Some(row(1))), (3, Some(row(1)))].into();
    change.patches = vec![(1, SUBMITTED)];
    store.commit(&Batch { lanes: [(1, change)].into(), ..Batch::default() }).unwrap();
    let mut change = delta(4096);
    change.patches = vec![(3, DELIVERED)];
    change.rows = [(1, None), (3, None)].into();
    store.commit(&Batch { lanes: [(1, change)].into(), ..Batch::default() }).unwrap();
    let states: Vec<u8> = (0..5).map(|seq| store.outcome(1, seq).unwrap()).collect();
    assert_eq!(states, [DELIVERED, SUBMITTED, DELIVERED, DELIVERED, UNREAD]);
    assert!(store.load().unwrap().lanes[0].saved.rows.is_empty());

    store.prune(&[1], 0..4095).unwrap();
    assert_eq!(store.outcome(1, 0).unwrap(), DELIVERED);
    store.prune(&[1], 0..4096).unwrap();
    assert_eq!(store.outcome(1, 0).unwrap(), UNREAD);
}

#[test]
fn another_format_is_refused_and_a_damaged_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let store = Store::open(&path).unwrap();
    store
        .write(|tx| {
            tx.open_table(META)?.insert("format", 9u32.to_le_bytes().as_slice())?;
            Ok(())
        })
        .unwrap();
    drop(store);
    assert!(matches!(Store::open(&path), Err(StoreError::Format { found: 9, .. })));

    std::fs::write(&path, b"not a database, but longer than nothing").unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Database { .. })));
}

#[test]
fn a_file_that_was_being_created_is_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    std::fs::write(dir.path().join("state.new"), b"half of one").unwrap();
    let store = Store::open(&path).unwrap();
    store.put("a", b"1").unwrap();
    drop(store);
    assert!(!dir.path().join("state.new").exists());
    assert_eq!(Store::open(&path).unwrap().get("a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn whatever_is_wrong_with_the_file_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let store = Store::open(&path).unwrap();
    for key in 0..50 {
        store.put(&format!("key {key}"), &[key; 900]).unwrap();
    }
    drop(store);
    let good = std::fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for round in 0..120 {
        let mut bytes = good.clone();
        match round % 4 {
            0 => bytes.truncate(random.usize(1..good.len())),
            1 => bytes[random.usize(0..good.len())] ^= 1 << random.u8(0..8),
            // The file's own head.
            2 => bytes[random.usize(0..320)] ^= 1 << random.u8(0..8),
            _ => {
                let page = random.usize(0..good.len() / 4096) * 4096;
                bytes[page..page + 4096].fill(0);
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        match Store::open(&path) {
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("state.redb") && text.contains("copy"), "{text}");
                refused += 1;
            }
            Ok(store) => {
                for key in 0..50 {
                    assert_eq!(store.get(&format!("key {key}")).unwrap(), Some(vec![key; 900]), "{round}");
                }
            }
        }
    }
    assert!(refused > 30, "{refused}");
}

/// A file on a disk that can be full.
#[derive(Debug)]
struct Fallible {
    file: FileBackend,
    full: Arc<AtomicBool>,
}

impl Fallible {
    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl redb::StorageBackend for Fallible {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// A state file on a disk that is full while the switch says so.
pub fn store_that_fills(path: &Path, full: &Arc<AtomicBool>) -> Store {
    let (file, switch) = (path.to_owned(), Arc::clone(full));
    let open = move || {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file)?;
        let backend = Fallible { file: FileBackend::new(options)?, full: switch.clone() };
        Ok(builder().create_with_backend(backend)?)
    };
    Store::with_opener(path, Box::new(open)).unwrap()
}

#[test]
fn a_full_disk_loses_nothing_and_writing_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let full = Arc::new(AtomicBool::new(false));
    let store = store_that_fills(&path, &full);
    store.put("before", b"1").unwrap();
    for round in 0u8..3 {
        full.store(true, Ordering::SeqCst);
        let big = vec![round; 100_000];
        assert!(store.put("during", &big).is_err());
        assert!(store.put("during", &big).is_err(), "nor the second time");
        full.store(false, Ordering::SeqCst);
        assert_eq!(store.get("before").unwrap().as_deref(), Some(&b"1"[..]));
        assert_ne!(store.get("during").unwrap(), Some(big), "what was refused is not there");
        store.put("after", &[round]).unwrap();
    }
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.get("before").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(store.get("after").unwrap().as_deref(), Some(&[2][..]));
}

#[test]
fn a_purge_gives_its_room_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state")).unwrap();
    let dead = Dead { code: "rejected".into(), reason: "x".repeat(300), attempts: 3, ..Dead::default() };
    let row = |seq| DeadRow { seq, number: FIRST_FREE, at_ms: 5, dead: dead.clone(), ..DeadRow::default() };
    let write = |dead| store.commit(&Batch { dead, ..Batch::default() }).unwrap();
    write((0..50_000).map(|seq| (1, seq, Some(row(seq)))).collect());
    let full = store.disk_bytes();
    write((0..50_000).map(|seq| (1, seq, None)).collect());
    store.give_room_back().unwrap();
    assert!(store.disk_bytes() < full / 2, "{full} bytes, and after the purge {}", store.disk_bytes());
}

#[test]
fn a_file_from_before_dead_letters_could_be_redriven_gets_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let store = Store::open(&path).unwrap();
    let dead = Dead { code: "rejected".into(), reason: "bad".into(), attempts: 3, ..Dead::default() };
    let row = DeadRow { seq: 8, number: FIRST_FREE, at_ms: 5, dead, ..DeadRow::default() };
    store.commit(&Batch { dead: vec![(1, 8, Some(row))], ..Batch::default() }).unwrap();
    let drop_table = |name: &'static str| {
        let delete = |tx: &WriteTransaction| {
            let table = tx.list_tables()?.find(|table| redb::TableHandle::name(table) == name);
            Ok(tx.delete_table(table.unwrap())?)
        };
        store.write(delete).unwrap()
    };
    for name in ["dead_letters_more", "redriven", "kept_calls"] {
        assert!(drop_table(name), "{name}");
    }
    drop(store);
    let store = Store::open(&path).unwrap();
    let letters = store.dead(1, 0, 10).unwrap();
    assert_eq!((letters.len(), letters[0].dead.attempts, letters[0].dead.request.as_deref()), (1, 3, None));
    assert!(store.kept_calls().unwrap().is_empty() && store.load().unwrap().lanes.is_empty());
}
