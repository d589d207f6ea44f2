//! How a lane comes to its events and their payloads: from the tail if it keeps up, else from blocks of the journal.
//!
//! Pure: it says what is to be read and takes in what was read; it neither reads nor waits.

use std::collections::HashMap;

use super::blocks::Decoded;
use super::codes::UNDECODABLE;
use super::journal::Stored;
use super::lane::backlog::Shed;
use super::lane::{Claim, Lane};
use super::left::Search;
use super::runs::Run;
use super::store::DeadRow;
use super::tail::{Newest, Recent};
use super::window::Slot;
use super::{Claimed, Dead, Id};

/// How many events are taken in before others have their turn.
const MAX_TAKEN: usize = 4096;
/// How many events are fetched at once.
const MAX_FETCHED: usize = 64;

/// Of how many dead letters of a code the request is kept.
const REQUESTS_KEPT: u64 = 100;

/// What is to be done next for a claim.
pub enum Step<T = std::convert::Infallible> {
    /// Hand these out.
    Out(Vec<Claimed<T>>),
    /// Come again, after others have had their turn.
    Again,
    /// Read a block from this sequence on; the tail has everything from `tail` on.
    Read { from: u64, tail: u64 },
    /// Read these events again.
    Fetch(Vec<u64>),
    /// Look for what was left in the journal.
    Search(Search),
    /// Wait until woken, at most so many milliseconds.
    Wait(Option<u64>),
}

enum Filled {
    Enough,
    Turn,
    Behind(u64),
    Dry,
}

enum Payload<T> {
    Here(Found<T>),
    Bad(u8),
    Missing,
}

/// An event that was read again.
pub struct Found<T> {
    pub source: u16,
    pub payload: T,
    /// See [`Claimed::later`].
    pub later: Vec<T>,
}

/// Events that were read again, or the number of the code that ends them.
pub type Fetched<T> = Vec<(u64, Result<Found<T>, u8>)>;

/// A lane with what it has read.
pub struct Feed<T> {
    pub lane: Lane,
    /// Dead letters that are not written down yet, by sequence; `None` for those that are none any more.
    pub dead: Vec<(u64, Option<DeadRow>)>,
    /// What a run is over; `None` for a lane that follows the newest calls.
    run: Option<Run>,
    own: Recent<T>,
    /// The last step was a search: what is ready goes first now.
    searched: bool,
    fetched: HashMap<u64, Result<Found<T>, u8>>,
    /// They were fetched since something was last handed out.
    has_fetched: bool,
    /// When the next event was received, for a lane that does not claim.
    next_received: Option<(u64, i64)>,
}

impl<T: Clone> Feed<T> {
    pub fn new(lane: Lane, run: Option<Run>, own_bytes: usize) -> Self {
        let own = Recent::new(lane.next(), own_bytes);
        let (dead, fetched) = (Vec::new(), HashMap::new());
        Self { lane, dead, run, own, searched: false, fetched, has_fetched: false, next_received: None }
    }

    /// Takes in what there is, and hands out what may be claimed.
    pub fn step(&mut self, newest: &Newest<T>, max: usize, now_ms: i64) -> Step<T> {
        self.lane.wake_due(now_ms);
        let filled = self.fill(newest, max);
        if let Some(search) = self.lane.search()
            && (self.lane.ready_count() == 0 || !self.searched)
        {
            self.searched = true;
            return Step::Search(search);
        }
        self.searched = false;
        if self.lane.ready_count() > 0 {
            return self.hand_out(&newest.recent, max, now_ms);
        }
        if self.is_done() {
            self.lane.let_go();
            return Step::Out(Vec::new());
        }
        match filled {
            Filled::Behind(from) => Step::Read { from, tail: newest.recent.start() },
            Filled::Turn => Step::Again,
            Filled::Enough | Filled::Dry => {
                let due = self.lane.next_due_ms();
                Step::Wait(due.map(|due| u64::try_from(due.saturating_sub(now_ms)).unwrap_or_default()))
            }
        }
    }

    /// How many deliveries of a run are not finished, at most; `None` for any other lane.
    pub fn left_of_run(&self) -> Option<u64> {
        let run = self.run?;
        let ahead = run.end.saturating_sub(self.lane.next());
        Some(ahead.saturating_sub(self.lane.known_ahead()) + self.lane.open())
    }

    /// Whether everything of a run is finished.
    pub fn is_done(&self) -> bool {
        self.run.is_some_and(|run| self.lane.next() >= run.end) && self.lane.open() == 0
    }

    /// Up to where the lane goes, if the calls are there up to `end`.
    fn goal(&self, end: u64) -> u64 {
        self.run.map_or(end, |run| run.end.min(end))
    }

    /// Ends the oldest deliveries that are not in flight as dead letters of a code, at most so many; hands out how many, and
    /// what is to be done to come to more of them.
    pub fn shed(&mut self, newest: &Newest<T>, count: usize, number: u8, wall_ms: i64) -> (usize, Step) {
        let ended = self.lane.shed(count, number);
        let shed = ended.len();
        // What was read of one is out of date when it is opened again.
        ended.iter().for_each(|shed| drop(self.fetched.remove(&shed.seq)));
        let row = |Shed { seq, slot, attempts }: Shed| {
            let Slot { order_key, received_at_ms } = slot;
            let dead = Dead { attempts, ..Dead::default() };
            (seq, Some(DeadRow { seq, number, at_ms: wall_ms, order_key, received_at_ms, dead }))
        };
        self.dead.extend(ended.into_iter().map(row));
        if shed == count {
            return (shed, Step::Again);
        }
        if let Some(search) = self.lane.search() {
            return (shed, Step::Search(search));
        }
        let before = self.lane.next();
        let step = match self.fill(newest, usize::MAX) {
            Filled::Behind(from) => Step::Read { from, tail: newest.recent.start() },
            _ if self.lane.next() > before || shed > 0 => Step::Again,
            _ => Step::Wait(None),
        };
        (shed, step)
    }

    fn fill(&mut self, newest: &Newest<T>, max: usize) -> Filled {
        let mut turns = MAX_TAKEN;
        while self.lane.ready_count() < max {
            let next = self.lane.next();
            if self.run.is_some_and(|run| next >= run.end) {
                return Filled::Dry;
            }
            let keeps_up = next >= newest.recent.start();
            if !keeps_up && !self.own.has_from(next) {
                return Filled::Behind(next);
            }
            let from = if keeps_up { &newest.recent } else { &self.own };
            for record in from.from(next) {
                if self.lane.ready_count() >= max {
                    return Filled::Enough;
                }
                if turns == 0 {
                    return Filled::Turn;
                }
                turns -= 1;
                if let Some(run) = self.run.filter(|run| !run.has(record.seq, record.received_at_ms)) {
                    if !self.lane.pass_to((record.seq + 1).min(run.end)) || self.lane.next() >= run.end {
                        return Filled::Dry;
                    }
                    continue;
                }
                if !self.lane.take_in(record.seq, record.order_key, record.received_at_ms) {
                    return Filled::Dry;
                }
            }
            if keeps_up {
                if self.lane.pass_to(self.goal(newest.recent.end())) && self.run.is_none() {
                    self.caught_up(newest.journalled);
                }
                return Filled::Dry;
            }
        }
        Filled::Enough
    }

    fn caught_up(&mut self, journalled: u64) {
        let missing = self.lane.reconcile(journalled);
        if missing > 0 {
            tracing::warn!(
                missing,
                "calls are missing from the journal and cannot be delivered: they count as dead, lost"
            );
        }
        if self.own.end() <= self.lane.low() {
            self.own.reset(self.lane.next());
        }
    }

    fn payload(&mut self, newest: &Recent<T>, seq: u64) -> Payload<T> {
        let fetched = if self.fetched.is_empty() { None } else { self.fetched.remove(&seq) };
        match fetched {
            Some(Ok(found)) => return Payload::Here(found),
            Some(Err(code)) => return Payload::Bad(code),
            None if self.lane.is_to_be_reduced(seq) => return Payload::Missing,
            None => {}
        }
        match newest.get(seq).or_else(|| self.own.get(seq)) {
            Some(record) => match record.payload.clone() {
                Some(payload) => Payload::Here(Found { source: record.source, payload, later: Vec::new() }),
                None => Payload::Bad(UNDECODABLE),
            },
            None => Payload::Missing,
        }
    }

    fn hand_out(&mut self, newest: &Recent<T>, max: usize, now_ms: i64) -> Step<T> {
        if std::mem::take(&mut self.has_fetched) {
            // Before what has fallen due since: else one would be fetched after the other and none handed out.
            self.lane.put_first(|seq| self.fetched.contains_key(&seq));
        }
        let mut out = Vec::with_capacity(self.lane.ready_count().min(max));
        while let Some(seq) = self.lane.next_ready().filter(|_| out.len() < max) {
            let payload = match self.payload(newest, seq) {
                Payload::Here(found) => Ok(found),
                Payload::Bad(code) => Err(code),
                Payload::Missing => break,
            };
            let Some(claim) = self.lane.claim(now_ms) else { break };
            match payload {
                Ok(Found { source, payload, later }) => out.push(Claimed {
                    id: Id(claim.seq),
                    source,
                    order_key: claim.order_key,
                    attempt: claim.attempt,
                    first_attempt_at_ms: claim.first_attempt_at_ms,
                    payload,
                    later,
                    whole: self.lane.is_to_be_whole(claim.seq),
                }),
                Err(code) => self.bury(claim, code, now_ms),
            }
        }
        if !out.is_empty() {
            return Step::Out(out);
        }
        let missing = |seq: &u64| {
            self.lane.is_to_be_reduced(*seq) || newest.get(*seq).is_none() && self.own.get(*seq).is_none()
        };
        let seqs: Vec<u64> = self.lane.ready().filter(missing).take(MAX_FETCHED).collect();
        if seqs.is_empty() { Step::Again } else { Step::Fetch(seqs) }
    }

    /// What cannot be handed out is a dead letter.
    fn bury(&mut self, claim: Claim, number: u8, now_ms: i64) {
        let reason = if number == UNDECODABLE {
            "the journal's record cannot be decoded: it was written by another version"
        } else {
            "the journal does not have the call any more: the disk lost it"
        };
        let attempts = claim.attempt.saturating_sub(1);
        let first_attempt_at_ms = if attempts == 0 { 0 } else { claim.first_attempt_at_ms };
        let dead = Dead { reason: reason.to_owned(), attempts, first_attempt_at_ms, ..Dead::default() };
        self.end_dead(claim.seq, number, dead, now_ms.saturating_sub(self.lane.ahead_ms()));
    }

    /// Ends a claimed delivery as a dead letter.
    pub fn end_dead(&mut self, seq: u64, number: u8, mut dead: Dead, now_ms: i64) {
        let Some(place) = self.lane.place(seq) else { return };
        if self.lane.done(seq, number).is_none() {
            return;
        }
        if self.lane.counts().get(&number).is_some_and(|count| *count > REQUESTS_KEPT) {
            dead.request = None;
        }
        let (order_key, received_at_ms) = (place.order_key, place.received_at_ms);
        self.dead.push((seq, Some(DeadRow { seq, number, at_ms: now_ms, order_key, received_at_ms, dead })));
    }

    /// Takes in events until the lane has come to a sequence. Hands out what has to be read first; `None` when it has
    /// come there or there is no room.
    pub fn come_to(&mut self, seq: u64, newest: &Newest<T>) -> Option<Step> {
        while self.lane.next() <= seq {
            match self.fill(newest, usize::MAX) {
                Filled::Behind(from) => return Some(Step::Read { from, tail: newest.recent.start() }),
                Filled::Turn => {}
                Filled::Enough | Filled::Dry => return None,
            }
        }
        None
    }

    /// Takes in a block that was read from a sequence on, when the tail had everything from `tail` on.
    pub fn add_block(&mut self, from: u64, tail: u64, block: Vec<Decoded<T>>) {
        if self.lane.next() != from {
            return;
        }
        if block.is_empty() {
            self.lane.pass_to(self.goal(tail));
            return;
        }
        if self.own.end() != from {
            self.own.reset(from);
        }
        for (head, payload, held_bytes) in block {
            self.own.add(&head, payload, held_bytes);
        }
        self.own.take_excess(from);
    }

    /// Takes in events that were read again.
    pub fn add_fetched(&mut self, fetched: Fetched<T>) {
        // What is left of an earlier time is not kept, so that this stays as small as one read.
        let ready = fetched.into_iter().filter(|(seq, _)| self.lane.is_ready(*seq));
        self.fetched = ready.collect();
        self.has_fetched = true;
    }

    /// When the next event was received that the lane has not taken in, read with `read` unless it is known.
    pub fn next_received(&mut self, read: impl FnOnce(u64) -> Option<Vec<Stored>>) -> Option<i64> {
        let next = self.lane.next();
        if self.next_received.is_none_or(|(seq, _)| seq != next) {
            let received = read(next)?.first()?.0.received_at_ms;
            self.next_received = Some((next, received));
        }
        self.next_received.map(|(_, received)| received)
    }
}
