//! The journal against a model: whatever happens, every acknowledged record is found, nothing is found twice, no
//! sequence is used twice, and no damage is reported where there was something.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use proptest::prelude::*;

use super::tests::{entry, open_faulty, small};
use super::*;
use crate::queue::faults::FaultyFiles;

/// What happens to the journal.
#[derive(Clone, Debug)]
enum Action {
    Append(Vec<u64>),
    Together(Vec<u64>),
    Interrupted(Vec<u64>),
    FailWrite,
    FailSyncs(u32),
    FailCut,
    Full,
    Room,
    Kill,
    CutPower,
    Reopen,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let keys = || prop::collection::vec(0u64..60, 1..6);
    let action = prop_oneof![
        8 => keys().prop_map(Action::Append),
        4 => keys().prop_map(Action::Together),
        2 => keys().prop_map(Action::Interrupted),
        1 => Just(Action::FailWrite),
        1 => (1u32..3).prop_map(Action::FailSyncs),
        1 => Just(Action::FailCut),
        1 => Just(Action::Full),
        1 => Just(Action::Room),
        1 => Just(Action::Kill),
        2 => Just(Action::CutPower),
        1 => Just(Action::Reopen),
    ];
    prop::collection::vec(action, 1..40)
}

struct Model {
    disk: FaultyFiles,
    options: Options,
    journal: Option<Arc<Journal<u64>>>,
    /// Keys that were answered with success.
    acknowledged: BTreeSet<u64>,
    /// The key of each sequence that was ever seen.
    sequences: BTreeMap<u64, u64>,
    /// Damaged places that were found when the journal was opened; there are no others.
    damaged: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let disk = FaultyFiles::new(seed);
        let options = Options { segment_bytes: 6000, ..small() };
        let (acknowledged, sequences) = (BTreeSet::new(), BTreeMap::new());
        let mut model = Self { disk, options, journal: None, acknowledged, sequences, damaged: 0 };
        model.reopen();
        model
    }

    fn journal(&self) -> Arc<Journal<u64>> {
        Arc::clone(self.journal.as_ref().unwrap())
    }

    fn reopen(&mut self) {
        self.journal = None;
        // A fault that was planned and not met would hit the recovery, which may then refuse to start.
        self.disk.fail_syncs(0);
        self.disk.fail_cuts(0);
        self.disk.fail_writes(0);
        let (journal, recovered, _) = open_faulty(&self.disk, self.options.clone());
        for damage in &recovered.damaged {
            // A power cut may leave the end of a write and not its start: that is reported, and held nothing known.
            let known = self.sequences.range(damage.first_seq..damage.end_seq).next();
            assert_eq!(known, None, "{damage}");
        }
        self.damaged = recovered.damaged.len() as u64;
        assert!(recovered.next_seq > self.sequences.keys().next_back().copied().unwrap_or(0));
        self.journal = Some(Arc::new(journal));
    }

    async fn apply(&mut self, action: &Action) {
        match action {
            Action::Append(keys) => {
                let entries = keys.iter().map(|key| entry(*key, &body(*key))).collect();
                let answer = self.journal().append(entries).await;
                self.acknowledge(answer, keys);
            }
            Action::Together(keys) => {
                let appends = keys.iter().map(|key| {
                    let (journal, entry) = (self.journal(), entry(*key, &body(*key)));
                    (*key, tokio::spawn(async move { journal.append(vec![entry]).await }))
                });
                for (key, append) in appends.collect::<Vec<_>>() {
                    let answer = append.await.unwrap();
                    self.acknowledge(answer, &[key]);
                }
            }
            Action::Interrupted(keys) => {
                let journal = self.journal();
                for key in keys {
                    let mut append = pin!(journal.append(vec![entry(*key, &body(*key))]));
                    // It reaches the writer; nobody waits for what comes of it.
                    if let Poll::Ready(answer) = poll_fn(|cx| Poll::Ready(append.as_mut().poll(cx))).await {
                        self.acknowledge(answer, &[*key]);
                    }
                }
                self.disk.cut_power();
                drop(journal);
                self.reopen();
            }
            Action::FailWrite => self.disk.fail_writes(1),
            Action::FailSyncs(number) => self.disk.fail_syncs(*number),
            Action::FailCut => self.disk.fail_cuts(1),
            Action::Full => self.disk.set_capacity(9000),
            Action::Room => self.disk.set_capacity(u64::MAX),
            Action::Kill => {
                self.disk.kill();
                self.reopen();
            }
            Action::CutPower => {
                self.disk.cut_power();
                self.reopen();
            }
            Action::Reopen => self.reopen(),
        }
    }
    fn acknowledge(&mut self, answer: Result<Vec<Appended>, AppendError>, keys: &[u64]) {
        if let Ok(appended) = answer {
            assert_eq!(appended.len(), keys.len());
            self.acknowledged.extend(keys);
        }
    }

    fn check(&mut self) {
        let found = self.journal().read(0, usize::MAX).unwrap();
        assert!(found.windows(2).all(|pair| pair[0].0.seq < pair[1].0.seq));
        let keys: BTreeSet<_> = found.iter().map(|(head, _)| head.message_key).collect();
        assert_eq!(keys.len(), found.len(), "found twice");
        assert!(self.acknowledged.is_subset(&keys), "lost {:?}", self.acknowledged.difference(&keys));
        for (head, stored) in &found {
            assert_eq!(stored[..], body(head.message_key));
            let before = self.sequences.insert(head.seq, head.message_key);
            assert!(before.is_none_or(|key| key == head.message_key), "{} used twice", head.seq);
        }
        assert_eq!(self.journal().damaged(), self.damaged);
    }
}

/// Short and long ones, so that writes end anywhere in a sector.
fn body(key: u64) -> Vec<u8> {
    vec![key as u8; key as usize * 17]
}

proptest! {
    #[test]
    fn nothing_acknowledged_is_lost_or_doubled(seed in 0u64..1_000_000, actions in actions()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new(seed);
            for action in &actions {
                model.apply(action).await;
                model.check();
            }
            model.disk.cut_power();
            model.reopen();
            model.check();
        });
    }
}
