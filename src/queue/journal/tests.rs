//! The journal on a real disk.

use super::*;
use crate::queue::files::RealFiles;

const NOW: i64 = 1_750_000_000_000;

fn entry(key: u64, body: &[u8]) -> Entry<u64> {
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

type Told = Arc<Mutex<Vec<(Head, u64)>>>;

fn open(options: Options) -> (Journal<u64>, Recovered, Told) {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let on_durable = Box::new(move |records| tell.lock().unwrap().extend(records));
    let (journal, recovered) = Journal::open(Arc::new(RealFiles), options, NOW, on_durable).unwrap();
    (journal, recovered, told)
}

fn bodies(journal: &Journal<u64>, from: u64) -> Vec<(u64, Vec<u8>)> {
    journal
        .read(from, usize::MAX)
        .unwrap()
        .into_iter()
        .map(|(head, body)| (head.seq, body.to_vec()))
        .collect()
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
    assert_eq!(
        journal.append(vec![entry(1, b"e"), entry(3, b"f")]).await.unwrap(),
        [Appended::Duplicate, Appended::Accepted]
    );
    assert_eq!(bodies(&journal, 2), [(2, b"b".to_vec()), (3, b"f".to_vec())]);
    let (head, _) = journal.read(3, 1).unwrap().remove(0);
    let same = Head { seq: 3, source: 1, received_at_ms: NOW, kind: 2, order_key: 3, message_key: 3 };
    assert_eq!(head, same);
}
