//! What the vendor of the destination that comes and goes received, against the counts of its lane and of its replays.

use std::collections::{BTreeMap, BTreeSet};

use fanout::queue::{Code, LaneCounts};

use super::super::parts::{Calls, Late};
use super::super::sender::Call;
use super::super::support::ledger::{Allowed, Fate, Received};
use super::super::vendors::PAST;
use super::{Past, Replay};

const DELIVERED: &str = "delivered";
const REJECTED: &str = "dead: rejected";
const OFF: &str = "skipped: integrations";
const OTHER_USER: &str = "skipped: other_user";
const SUPERSEDED: &str = "skipped: superseded";
/// It was cancelled before, or did not have it.
const OPEN: &str = "open";

impl Past {
    pub fn reconcile(&self, calls: &Calls, received: &Received, counts: &LaneCounts) {
        let live = received.only(|arrival| self.cause(arrival).is_none());
        assert_eq!(live.disorder(false), None, "{}", PAST.name);
        self.reconcile_live(calls, &live, counts);
        let taken: BTreeSet<u64> = live.times_taken().into_keys().collect();
        let (late, mut replayed) = (Late::new(calls), 0);
        for replay in &self.replays {
            let came =
                received.only(|arrival| self.cause(arrival).is_some_and(|cause| cause.id == replay.id));
            // Before each attempt it is looked at anew whether later calls have superseded a call.
            let allowed = Allowed { gives_up: !replay.all, leaves_out: !replay.all };
            assert_eq!(came.disorder_beside(allowed, |_| None), None, "{replay:?}");
            self.check_parts(replay, calls, &late, &came, &taken);
            self.reconcile_replay(replay, calls, &late, &came);
            replayed += came.fates().len();
        }
        let ends = self.replays.iter().filter_map(|replay| replay.end.as_ref());
        println!(
            "{}: {} taken live; {replayed} sent by {} replays, of which {} were cut off and {} cancelled",
            PAST.name,
            taken.len(),
            self.replays.len(),
            self.replays.iter().filter(|replay| replay.lives().count() > 1).count(),
            ends.filter(|end| end.is_cancelled).count(),
        );
    }

    fn reconcile_live(&self, calls: &Calls, live: &Received, counts: &LaneCounts) {
        let is_theirs = |call: u64| self.eras[self.era_of_call(call)].visits;
        let theirs: BTreeMap<u64, &Call> =
            calls.iter().filter(|(call, _)| is_theirs(**call)).map(|(call, sent)| (*call, sent)).collect();
        let fates = live.fates();
        assert!(fates.keys().all(|call| PAST.wants(theirs[call])), "what is flagged off came");
        let (mut expected, mut left, mut off) = (BTreeMap::<Code, u64>::new(), 0, 0);
        for (call, sent) in &theirs {
            let code = match fates.get(call) {
                Some(Fate::Taken) => Code::Delivered,
                Some(Fate::Refused) => Code::Dead("rejected".to_owned()),
                _ if !PAST.wants(sent) => {
                    off += 1;
                    continue;
                }
                _ => {
                    assert!(self.era_of_call(*call) + 1 < self.eras.len(), "call {call} never came");
                    left += 1;
                    continue;
                }
            };
            *expected.entry(code).or_default() += 1;
        }
        // What was left when it was taken out was ended without a look at its flags.
        let mut counted: BTreeMap<Code, u64> = counts.finished.iter().cloned().collect();
        let removed = counted.remove(&Code::Skipped("removed".to_owned())).unwrap_or_default();
        let skipped = counted.remove(&Code::Skipped("integrations".to_owned())).unwrap_or_default();
        counted.retain(|_, count| *count > 0);
        assert_eq!(counted, expected, "{counts:?}");
        assert!(left <= removed && removed + skipped == left + off, "{left} left, {off} off: {counts:?}");
    }

    /// What came was asked for, and had what it was to have after what the vendor had `taken` live.
    fn check_parts(
        &self,
        replay: &Replay,
        calls: &Calls,
        late: &Late<'_>,
        came: &Received,
        taken: &BTreeSet<u64>,
    ) {
        let surely =
            |later| taken.contains(&later) && self.era_of_call(later) < self.era_of_life(replay.life);
        let maybe = |later| self.may_supersede(replay, calls, later);
        for arrival in &came.arrivals {
            let sent = &calls[&arrival.call];
            let is_asked = replay.user.is_none_or(|user| user == sent.user) && PAST.wants(sent);
            assert!(is_asked, "{replay:?} sent what nobody asked for: {arrival:?}");
            if replay.all {
                let traits: BTreeSet<&str> = arrival.traits.iter().map(String::as_str).collect();
                assert_eq!(traits, PAST.told(sent), "{replay:?}: {arrival:?}");
            } else {
                let wrong = late.wrong_part(arrival.call, &arrival.traits, surely, maybe);
                assert_eq!(wrong, None, "{replay:?}: {arrival:?}");
            }
        }
    }

    /// Whether a live call may be one that the destination takes before the end of a replay.
    fn may_supersede(&self, replay: &Replay, calls: &Calls, later: u64) -> bool {
        let era = self.era_of_call(later);
        self.eras[era].visits && era <= self.era_of_life(replay.end().life) && PAST.wants(&calls[&later])
    }

    fn reconcile_replay(&self, replay: &Replay, calls: &Calls, late: &Late<'_>, came: &Received) {
        let theirs = calls.range(self.eras[replay.eras.start].call..self.eras[replay.eras.end].call);
        let (mut least, mut most) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
        let last = came.last();
        for call in theirs.clone().map(|(call, _)| call) {
            let arrival = last.get(call).copied();
            let written = arrival.map(|arrival| (arrival.fate, arrival.at.life == replay.end().life));
            let ends = self.possible_ends(replay, calls, late, *call, written);
            assert!(!ends.is_empty(), "{replay:?}: call {call} has no end, {arrival:?}");
            if let [end] = ends[..] {
                *least.entry(end).or_default() += 1;
            }
            ends.into_iter().for_each(|end| *most.entry(end).or_default() += 1);
        }
        let Some(mut counted) = replay.end().outcomes.clone() else { return };
        let ended: u64 = counted.values().sum();
        counted.insert(OPEN.to_owned(), theirs.count() as u64 - ended);
        for name in [DELIVERED, REJECTED, OFF, OTHER_USER, SUPERSEDED, OPEN] {
            let bounds = least.get(name).copied().unwrap_or(0)..=most.get(name).copied().unwrap_or(0);
            let count = counted.remove(name).unwrap_or(0);
            assert!(bounds.contains(&count), "{name}: {bounds:?} {replay:?}");
        }
        assert!(counted.is_empty(), "{counted:?} {replay:?}");
    }

    /// How a call may have ended in a replay, by what last came of it, if anything, and whether in the replay's last life.
    /// Most can have ended in one way alone. What a killed process had not written down may end in another the next time.
    fn possible_ends(
        &self,
        replay: &Replay,
        calls: &Calls,
        late: &Late<'_>,
        call: u64,
        came: Option<(Fate, bool)>,
    ) -> Vec<&'static str> {
        let sent = &calls[&call];
        let mut ends = Vec::new();
        let is_certain = match came {
            Some((Fate::Taken, in_last)) => {
                ends.push(DELIVERED);
                in_last
            }
            Some((Fate::Refused, in_last)) => {
                ends.push(REJECTED);
                in_last
            }
            Some((Fate::Failed, _)) | None => false,
        };
        if is_certain {
            return ends;
        }
        if replay.user.is_some_and(|user| user != sent.user) {
            ends.push(OTHER_USER);
        } else {
            if !replay.all && late.may_be_nothing(call, |later| self.may_supersede(replay, calls, later)) {
                ends.push(SUPERSEDED);
            }
            if !PAST.wants(sent) {
                ends.push(OFF);
            }
        }
        if replay.end().is_cancelled || replay.is_short {
            ends.push(OPEN);
        }
        ends
    }
}
