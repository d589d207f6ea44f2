//! A lane, its queue and its vendor at random: calls of several order keys to the same records, requests that overlap,
//! fail, are applied although they failed, or late; crashes, clean restarts, redrives. Beside the vendor there is one
//! that gets every call: where a call was suppressed, it changes nothing there either.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::super::*;

const REFRESH_MS: i64 = 1000;
const FINGERPRINT: u64 = 9;

/// What a call writes: fields of records. Calls are partial updates, as identifies are.
type Content = Vec<(u64, usize)>;

/// The four things that can be written to a record: two fields, two values each.
fn fields(what: usize) -> (&'static str, usize) {
    [("plan", 0), ("plan", 1), ("name", 0), ("name", 1)][what % 4]
}

#[derive(Default, Clone, PartialEq, Debug)]
struct Vendor(BTreeMap<(u64, &'static str), usize>);

impl Vendor {
    fn apply(&mut self, content: &Content) {
        for (record, what) in content {
            let (field, value) = fields(*what);
            self.0.insert((*record, field), value);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A call of an order key arrives.
    Call {
        order_key: u64,
        content: Content,
    },
    /// The lane claims the head of an order key that is free.
    Claim {
        order_key: u64,
    },
    /// The vendor applies a claimed delivery; its answer comes later, or never.
    Apply {
        which: usize,
    },
    /// A claimed delivery ends; the one that is that far down.
    End {
        which: usize,
        how: How,
    },
    /// What a failed request asked for is applied after all, while its delivery is unfinished.
    Late {
        which: usize,
    },
    Time {
        ms: i64,
    },
    Crash,
    Restart,
    /// Something else begins to write to the vendor, or ends.
    Others,
    /// It writes this; it begins and ends with that where it has not begun.
    Elsewhere {
        content: Content,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Taken,
    Refused,
    /// Not applied, tried again.
    Failed,
    /// Applied, and tried again.
    AppliedAndFailed,
    /// Never sent.
    Released,
}

fn content() -> impl Strategy<Value = Content> {
    // Mostly one record, sometimes that of a company too; few of each, so that they meet.
    (0..3u64, 0..4usize, proptest::option::weighted(0.3, 0..4usize)).prop_map(|(person, what, company)| {
        let mut content = vec![(person, what)];
        content.extend(company.map(|what| (100, what)));
        content
    })
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        8 => Just(How::Taken),
        1 => Just(How::Refused),
        1 => Just(How::Failed),
        1 => Just(How::AppliedAndFailed),
        1 => Just(How::Released),
    ];
    prop_oneof![
        10 => (0..4u64, content()).prop_map(|(order_key, content)| Step::Call { order_key, content }),
        12 => (0..4u64).prop_map(|order_key| Step::Claim { order_key }),
        3 => (0..4usize).prop_map(|which| Step::Apply { which }),
        10 => (0..4usize, how).prop_map(|(which, how)| Step::End { which, how }),
        1 => (0..4usize).prop_map(|which| Step::Late { which }),
        2 => (1..600i64).prop_map(|ms| Step::Time { ms }),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
        1 => Just(Step::Others),
        2 => content().prop_map(|content| Step::Elsewhere { content }),
    ]
}

struct Claim {
    id: Id,
    order_key: u64,
    content: Content,
    is_applied: bool,
}

struct World {
    suppressor: Suppressor,
    now_ms: i64,
    next: u64,
    /// By order key, oldest first; only the head is ever claimed.
    queues: BTreeMap<u64, VecDeque<(Id, Content)>>,
    claimed: Vec<Claim>,
    /// Tried, not finished, since the last crash.
    tried: BTreeMap<Id, Content>,
    vendor: Vendor,
    /// The vendor that gets every call.
    every: Vendor,
    /// By record what was applied last, and when that or the answer was.
    last: BTreeMap<u64, (usize, i64)>,
    suppressed: usize,
    has_others: bool,
}

impl World {
    fn new() -> World {
        World {
            suppressor: Suppressor::new(REFRESH_MS),
            now_ms: 0,
            next: 0,
            queues: BTreeMap::new(),
            claimed: Vec::new(),
            tried: BTreeMap::new(),
            vendor: Vendor::default(),
            every: Vendor::default(),
            last: BTreeMap::new(),
            suppressed: 0,
            has_others: false,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Call { order_key, content } => {
                self.next += 1;
                self.queues.entry(order_key).or_default().push_back((Id(self.next), content));
            }
            Step::Claim { order_key } => self.claim(order_key),
            Step::Apply { which } => {
                if let Some(claim) = self.claimed.get_mut(which).filter(|claim| !claim.is_applied) {
                    claim.is_applied = true;
                    let content = claim.content.clone();
                    self.apply(&content);
                }
            }
            Step::End { which, how } => self.end(which, how),
            Step::Late { which } => {
                if let Some(content) = self.tried.values().nth(which).cloned() {
                    self.apply(&content);
                }
            }
            Step::Time { ms } => self.now_ms += ms,
            Step::Crash => {
                self.suppressor.restart();
                self.claimed.clear();
                self.tried.clear();
            }
            Step::Restart => {
                while !self.claimed.is_empty() {
                    self.end(0, How::Failed);
                }
                let saved = self.suppressor.save(FINGERPRINT);
                self.suppressor.restart();
                self.suppressor.load(&saved, FINGERPRINT);
            }
            Step::Others => self.others(),
            Step::Elsewhere { content } => {
                let is_short = !self.has_others;
                is_short.then(|| self.others());
                self.apply(&content);
                self.last.clear();
                is_short.then(|| self.others());
            }
        }
    }

    fn others(&mut self) {
        self.has_others = !self.has_others;
        self.suppressor.bypass(self.has_others);
    }

    fn claim(&mut self, order_key: u64) {
        if self.claimed.iter().any(|claim| claim.order_key == order_key) {
            return;
        }
        let Some((id, content)) = self.queues.get(&order_key).and_then(|queue| queue.front()).cloned() else {
            return;
        };
        let records = content.iter().map(|(key, what)| Record { key: *key, content: *what as u64 }).collect();
        let call = Call { id, order_key, records, is_comparable: true };
        if self.suppressor.suppresses(call, self.now_ms) {
            self.check(id, &content);
            self.suppressed += 1;
            self.every.apply(&content);
            self.finish(order_key);
        } else {
            self.claimed.push(Claim { id, order_key, content, is_applied: false });
        }
    }

    /// The rule, told without the suppressor.
    fn check(&self, id: Id, content: &Content) {
        assert!(!self.has_others, "something else writes");
        let touches =
            |other: &Content| other.iter().any(|(key, _)| content.iter().any(|(own, _)| own == key));
        assert!(!self.claimed.iter().any(|claim| touches(&claim.content)), "one is under way");
        let unfinished = self.tried.iter().filter(|(other, _)| **other != id);
        assert!(
            !unfinished.into_iter().any(|(_, other)| touches(other)),
            "one was tried and is not finished"
        );
        for (key, what) in content {
            let (last, at_ms) = self.last[key];
            assert_eq!(last, *what, "something else was taken last");
            assert!(self.now_ms - at_ms < REFRESH_MS, "the refresh is due");
        }
        let mut after = self.vendor.clone();
        after.apply(content);
        assert_eq!(after, self.vendor, "it would have changed the vendor's record");
    }

    fn end(&mut self, which: usize, how: How) {
        if self.claimed.is_empty() {
            return;
        }
        let which = which % self.claimed.len();
        let Claim { id, order_key, content, is_applied } = self.claimed.remove(which);
        if matches!(how, How::Taken | How::AppliedAndFailed) && !is_applied {
            self.apply(&content);
        }
        let ended = match how {
            How::Taken => Ended::Taken,
            How::Refused => Ended::Over,
            How::Failed | How::AppliedAndFailed | How::Released => Ended::Unfinished,
        };
        if ended == Ended::Taken {
            for (key, _) in &content {
                self.last.entry(*key).and_modify(|(_, at_ms)| *at_ms = self.now_ms);
            }
        }
        if ended != Ended::Unfinished {
            self.tried.remove(&id);
            self.finish(order_key);
        } else if how != How::Released || is_applied {
            self.tried.insert(id, content);
        }
        self.suppressor.end(id, ended, self.now_ms);
    }

    fn apply(&mut self, content: &Content) {
        self.vendor.apply(content);
        self.every.apply(content);
        for (key, what) in content {
            self.last.insert(*key, (*what, self.now_ms));
        }
    }

    fn finish(&mut self, order_key: u64) {
        self.queues.get_mut(&order_key).and_then(VecDeque::pop_front);
    }

    /// Until nothing is left, every request taken.
    fn drain(&mut self) {
        while self.queues.values().any(|queue| !queue.is_empty()) {
            for order_key in 0..4 {
                self.claim(order_key);
            }
            while !self.claimed.is_empty() {
                self.end(0, How::Taken);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn the_vendors_record_is_as_if_every_call_had_been_sent(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            prop_assert_eq!(&world.vendor, &world.every);
        }
        world.drain();
        prop_assert_eq!(&world.vendor, &world.every);
        prop_assert!(world.suppressor.open.is_empty() && world.suppressor.under_way.is_empty());
    }

    /// Where nothing fails and one user's calls follow each other, exactly the repeated ones are left out.
    #[test]
    fn every_repeated_call_is_suppressed(contents in proptest::collection::vec(0..3usize, 1..60)) {
        let mut world = World::new();
        let mut repeated = 0;
        for (position, what) in contents.iter().enumerate() {
            world.step(Step::Call { order_key: 1, content: vec![(1, *what)] });
            world.drain();
            repeated += usize::from(position > 0 && contents[position - 1] == *what);
        }
        prop_assert_eq!(world.suppressed, repeated);
    }
}
