//! Lanes in particular positions; `model` has all others.

mod model;

use std::collections::BTreeMap;

use super::*;
use crate::queue::chunks;
use crate::queue::codes::DELIVERED;

const TINY: Limits = Limits { shape: Shape { chunk_bits: 2, chunks: 2 }, parked: 6, behind: 3 };

/// What a store does with deltas, without the store.
#[derive(Clone, Default)]
struct Disk {
    saved: Saved,
    all_chunks: BTreeMap<u64, Vec<u8>>,
    needed: u64,
}

impl Disk {
    fn write(&mut self, delta: Delta, shape: Shape) {
        self.all_chunks.extend(delta.chunks);
        for (seq, code) in delta.patches {
            let number = seq >> shape.chunk_bits;
            let bytes = self.all_chunks.entry(number).or_default();
            let mut states = chunks::decode(bytes, shape.chunk_len()).unwrap();
            let state = &mut states[(seq as usize) & (shape.chunk_len() - 1)];
            assert_eq!(
                *state == UNREAD,
                code != UNREAD,
                "{seq} had an outcome already, or none to be taken back"
            );
            *state = code;
            *bytes = chunks::encode(&states);
        }
        for (seq, row) in delta.rows {
            match row {
                Some(row) => drop(self.saved.rows.insert(seq, row)),
                None => drop(self.saved.rows.remove(&seq)),
            }
        }
        for (seq, whole) in delta.redriven {
            match whole {
                Some(whole) => drop(self.saved.redriven.insert(seq, whole)),
                None => drop(self.saved.redriven.remove(&seq)),
            }
        }
        self.saved.counts.extend(delta.counts);
        self.saved.base = delta.base;
        self.saved.begin = delta.begin;
        self.needed = delta.needed;
    }

    fn saved(&self, shape: Shape) -> Saved {
        let mut saved = self.saved.clone();
        saved.chunks = self.all_chunks.clone().split_off(&(saved.base >> shape.chunk_bits));
        saved
    }

    fn state(&self, seq: u64, shape: Shape) -> u8 {
        let Some(bytes) = self.all_chunks.get(&(seq >> shape.chunk_bits)) else { return UNREAD };
        chunks::decode(bytes, shape.chunk_len()).unwrap()[(seq as usize) & (shape.chunk_len() - 1)]
    }
}

fn again(at_ms: i64) -> Again<'static> {
    Again { at_ms, since_ms: 500, reason: "busy" }
}

#[test]
fn a_stuck_lane_parks_up_to_its_cap_and_goes_on() {
    let limits = Limits { shape: Shape { chunk_bits: 2, chunks: 2 }, parked: 20, behind: 3 };
    let mut lane = Lane::new(limits, 0, 0);
    for seq in 0..100 {
        if !lane.take_in(seq, seq, 0) {
            break;
        }
        let claim = lane.claim(0).unwrap();
        assert!(lane.later(claim.seq, again(1_000_000), 0));
        lane.checkpoint();
    }
    assert_eq!(lane.parked(), 20, "more than two windows");
    assert_eq!(lane.next(), 28);
    assert!(!lane.take_in(28, 28, 0), "at the cap nothing new comes in");
    lane.wake_due(1_000_000);
    let mut ended = 0;
    while let Some(claim) = lane.claim(1_000_000) {
        assert_eq!(claim.attempt, 2);
        assert!(lane.done(claim.seq, DELIVERED).is_some());
        ended += 1;
    }
    assert_eq!(ended, 28);
    assert!(lane.take_in(28, 28, 0));
    assert_eq!(lane.low(), 28);
}

#[test]
fn one_users_flood_neither_fills_the_lane_nor_keeps_others_waiting() {
    let limits = Limits { shape: Shape { chunk_bits: 6, chunks: 4 }, parked: 100, behind: 16 };
    let mut lane = Lane::new(limits, 0, 0);
    // One is in flight, or waits for another attempt: all others of its user wait for it, those of others for nobody.
    for wait in [None, Some(again(1_000_000))] {
        let begin = lane.next();
        assert!(lane.take_in(begin, 7, 0));
        let head = lane.claim(0).unwrap();
        if let Some(again) = wait {
            assert!(lane.later(head.seq, again, 0));
        }
        for seq in begin + 1..begin + 100_000 {
            let other = seq % 10 == 0;
            assert!(lane.take_in(seq, if other { seq } else { 7 }, 0), "it stopped at {seq}");
            if other {
                assert_eq!(lane.claim(0).unwrap().seq, seq);
                assert!(lane.done(seq, DELIVERED).is_some());
            }
            if seq % 1000 == 0 {
                lane.checkpoint();
            }
        }
        assert!(lane.parked() <= 2 * 17 && lane.window.base() > begin + 99_000);
        assert_eq!(lane.low(), 0);
        // Everything is written in two rows and some.
        let saved = lane.left.values().map(|left| left.row(7)).collect::<Vec<_>>();
        assert_eq!(saved.len(), 1);
        lane.release(head.seq);
    }
}

#[test]
fn later_events_of_a_parked_key_stay_behind_it_across_a_restart() {
    let mut lane = Lane::new(TINY, 0, 0);
    let mut disk = Disk::default();
    for seq in 0..4 {
        assert!(lane.take_in(seq, 7, 0));
    }
    let head = lane.claim(0).unwrap();
    assert!(lane.later(head.seq, again(60_000), 0));
    for seq in 4..12 {
        assert!(lane.take_in(seq, 100 + seq, 0));
    }
    assert_eq!(lane.parked(), 4);
    disk.write(lane.checkpoint().unwrap(), TINY.shape);
    assert_eq!((disk.saved.base, disk.needed), (4, 4), "the journal may let go of them");
    assert_eq!(lane.held_below(4).calls, [0, 1, 2, 3].into(), "when they are kept elsewhere");

    let mut lane = Lane::resume(TINY, disk.saved(TINY.shape));
    assert_eq!(lane.claim(0), None, "the head waits, and the others behind it");
    lane.wake_due(60_000);
    for seq in 0..4 {
        let claim = lane.claim(60_000).unwrap();
        assert_eq!((claim.seq, claim.attempt), (seq, if seq == 0 { 2 } else { 1 }));
        assert_eq!(claim.first_attempt_at_ms, if seq == 0 { 500 } else { 60_000 });
        assert_eq!(lane.claim(60_000), None);
        assert!(lane.done(seq, DELIVERED).is_some());
    }
}

#[test]
fn outcomes_for_what_is_not_in_flight_change_nothing() {
    let mut lane = Lane::new(TINY, 0, 0);
    assert!(lane.take_in(0, 1, 0));
    assert!(lane.take_in(1, 1, 0));
    assert_eq!(lane.done(0, DELIVERED), None);
    assert!(!lane.release(0));
    lane.claim(5).unwrap();
    for seq in [1, 2, u64::MAX] {
        assert_eq!(lane.done(seq, DELIVERED), None);
        assert!(!lane.later(seq, again(0), 0));
        assert!(!lane.release(seq));
    }
    assert_eq!((lane.state(0), lane.state(1), lane.state(2)), (IN_FLIGHT, WAITING, UNREAD));
    assert_eq!((lane.in_flight(), lane.open(), lane.counts().len()), (1, 2, 0));
}

#[test]
fn a_release_is_no_attempt() {
    let mut lane = Lane::new(TINY, 0, 0);
    assert!(lane.take_in(0, 1, 0));
    for now in 0..3 {
        let claim = lane.claim(now).unwrap();
        assert_eq!((claim.attempt, claim.first_attempt_at_ms), (1, now));
        assert!(lane.release(0));
    }
}

#[test]
fn calls_that_the_journal_lost_are_dead() {
    let mut lane = Lane::new(TINY, 10, 10);
    assert!(lane.take_in(12, 1, 50));
    assert_eq!(lane.unfinished(13), 3, "two were counted and are not there");
    assert_eq!(lane.reconcile(13), 2);
    assert_eq!((lane.unfinished(13), lane.counts().get(&codes::LOST)), (1, Some(&2)));
    assert_eq!(lane.reconcile(13), 0);
    assert_eq!(lane.oldest_received_at_ms(), Some(50));
    lane.claim(60).unwrap();
    assert!(lane.done(12, DELIVERED).is_some());
    assert!(lane.pass_to(1 << 60), "a leap takes no time while nothing could be in between");
}

/// What a vendor asked a user's deliveries to wait counts for the next one of that user.
#[test]
fn what_is_given_up_leaves_its_wait_to_the_next_of_its_user() {
    let mut lane = Lane::new(TINY, 0, 0);
    for seq in 0..3 {
        assert!(lane.take_in(seq, 7, 0));
    }
    assert_eq!(lane.claim(0).unwrap().seq, 0);
    assert!(lane.later(0, again(60_000), 0), "as after 429 with Retry-After: 60 for this user");
    assert_eq!(lane.shed(1, codes::FIRST_FREE).len(), 1);
    lane.wake_due(1000);
    assert_eq!(lane.claim(1000), None, "the vendor asked for a minute");
    lane.wake_due(60_000);
    assert_eq!(lane.claim(60_000).map(|claim| (claim.seq, claim.attempt)), Some((1, 1)));
}
