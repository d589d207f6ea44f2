//! The end of a run: the vendors' account, which is the ledger's, against the data directory's, destination by destination.

use std::collections::{BTreeMap, BTreeSet};

use fanout::queue::{Code, LaneCounts};

use super::letters::{self, Letters};
use super::parts::Calls;
use super::past::Past;
use super::rules::Judge;
use super::run::Run;
use super::support::ledger::{Fate, Received};
use super::vendors::{DESTINATIONS, Destination, Way};

/// Once as things are, and once when all dead letters have gone again to vendors that are well.
pub fn everything(run: &Run, mut letters: Letters, past: Past) {
    let calls = run.acknowledged();
    assert!(calls.len() > 200, "hardly anything was accepted: {}", calls.len());
    the_books_agree(run, &calls, &letters, &past);
    let fanout = run.start(past.visits());
    for one in DESTINATIONS.iter().filter(|one| one.way != Way::Visits) {
        let kept = letters::list(run, one);
        let received = run.received(one);
        let dead = dead_letters(one, &calls, &received, &letters);
        let listed: BTreeSet<u64> = kept.keys().copied().collect();
        if one.way == Way::Sheds {
            // Those of a backlog are kept as long as their calls, which a full disk makes go early.
            assert!(listed.is_subset(&dead), "{}: {listed:?} of {dead:?}", one.name);
        } else {
            assert_eq!(listed, dead, "{}", one.name);
        }
        letters.redrive_all(run, one, &kept);
    }
    run.nothing_is_pending();
    assert!(fanout.terminate());
    the_books_agree(run, &calls, &letters, &past);
}

fn the_books_agree(run: &Run, calls: &Calls, letters: &Letters, past: &Past) {
    let (journalled, _) = run.account("over");
    assert_eq!(journalled, calls.len() as u64, "each call was journalled once");
    let lanes = run.lanes();
    for one in &DESTINATIONS {
        let received = run.received(one);
        let counts = &lanes[one.name];
        assert_eq!(counts.unfinished, 0, "{}", one.name);
        match one.way {
            Way::Visits => past.reconcile(calls, &received, counts),
            _ => reconcile(one, calls, &received, letters, counts, run.retained_from()),
        }
    }
}

fn reconcile(
    one: &Destination,
    calls: &Calls,
    received: &Received,
    letters: &Letters,
    counts: &LaneCounts,
    retained_from: u64,
) {
    let wanted: Calls = one.wanted(calls).map(|call| (call, calls[&call].clone())).collect();
    let judge = Judge::new(&wanted, received, letters.redrives(one));
    let disorder =
        received.disorder_beside(one.allowed(), |arrival| judge.cause(arrival).map(|redrive| redrive.at));
    assert_eq!(disorder, None, "{}", one.name);
    for arrival in &received.arrivals {
        let call =
            wanted.get(&arrival.call).unwrap_or_else(|| panic!("{}: nobody sent {arrival:?}", one.name));
        if judge.cause(arrival).is_none_or(|redrive| redrive.whole) {
            let traits: BTreeSet<&str> = arrival.traits.iter().map(String::as_str).collect();
            assert_eq!(traits, one.told(call), "{}: {arrival:?}", one.name);
        }
    }
    for redrive in letters.redrives(one).iter().filter(|redrive| !redrive.whole) {
        let part = |call: &u64| judge.wrong_part(redrive, *call, retained_from);
        let wrong = redrive.calls.iter().find_map(part);
        assert_eq!(wrong, None, "{}", one.name);
    }
    let mut expected: BTreeMap<Code, u64> = BTreeMap::new();
    for (call, sent) in calls {
        let end = if !one.takes(sent.source) {
            Code::Skipped("source".to_owned())
        } else if !one.wants(sent) {
            Code::Skipped("integrations".to_owned())
        } else {
            end(one, &judge, *call)
        };
        *expected.entry(end).or_default() += 1;
    }
    let mut counted: BTreeMap<_, _> = counts.finished.iter().cloned().collect();
    counted.retain(|_, count| *count > 0);
    assert_eq!(counted, expected, "{}", one.name);
    let repeated: u32 = received.times_taken().values().map(|times| times - 1).sum();
    println!("{}: {counted:?}, {repeated} taken again after a crash", one.name);
}

/// What became of a call that was to be sent, by what its vendor received.
fn end(one: &Destination, judge: &Judge<'_>, call: u64) -> Code {
    let last = judge.last(call).filter(|last| one.way != Way::Suppresses || !judge.was_open_again(last));
    let fate = last.map(|arrival| arrival.fate);
    let is_whole = judge.last_redrive(call).is_none_or(|redrive| redrive.whole);
    match (fate, one.way) {
        (Some(Fate::Taken), _) => Code::Delivered,
        (Some(Fate::Refused), _) => Code::Dead("rejected".to_owned()),
        (Some(Fate::Failed), Way::GivesUp) => Code::Dead("expired".to_owned()),
        (_, Way::Sheds) => Code::Dead("backlog".to_owned()),
        (None | Some(Fate::Failed), Way::Suppresses) => {
            assert_eq!(judge.wrong_suppression(call), None, "{}", one.name);
            Code::Suppressed
        }
        (None, _) if !is_whole => Code::Skipped("superseded".to_owned()),
        _ => panic!("{}: call {call} never came to an end", one.name),
    }
}

/// The calls of which there is a letter.
fn dead_letters(one: &Destination, calls: &Calls, received: &Received, letters: &Letters) -> BTreeSet<u64> {
    let wanted: Calls = one.wanted(calls).map(|call| (call, calls[&call].clone())).collect();
    let judge = Judge::new(&wanted, received, letters.redrives(one));
    let is_dead = |call: &u64| matches!(end(one, &judge, *call), Code::Dead(_));
    wanted.keys().copied().filter(|call| is_dead(call) && !letters.is_purged(one, *call)).collect()
}
