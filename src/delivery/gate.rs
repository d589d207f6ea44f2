//! Whether a lane may send: the state of a destination as a whole. Pure: time and chance come in as arguments.
//!
//! Open, everything goes. Throttled, nothing goes until the vendor's time is over. When it refuses the credentials, or
//! fails without exception, one event goes at a time, as a probe, at growing intervals; a probe that the vendor answers
//! opens the gate again. How much goes at one time while it is open is the pace's answer.
//! It does not know events, requests or the queue.

use std::time::{Duration, Instant};

use super::backoff::Backoff;

/// What a lane may do at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Send as much as there is room for.
    Free,
    /// Send one event by itself, and report it as a probe.
    Probe,
    /// Send nothing before this time.
    NotBefore(Instant),
    /// Send nothing before the probe that is under way has ended.
    Probing,
}

/// Why a destination as a whole is not sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It asked for fewer requests.
    Throttled,
    /// It refused the credentials, which the next probe will confirm or not.
    Suspected,
    /// It refused the credentials again.
    Unauthorised,
    /// Requests failed one after the other: no answer, or an error of its own.
    Failing,
}

impl Cause {
    /// A short word for it, from a closed list.
    pub fn word(self) -> &'static str {
        match self {
            Cause::Throttled => "throttled",
            Cause::Suspected => "suspected",
            Cause::Unauthorised => "unauthorised",
            Cause::Failing => "failing",
        }
    }
}

/// What a request says about the destination as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// It dealt with at least one event: took it or refused it for what it holds.
    pub dealt: bool,
    /// It took at least one: a refusal for what an event holds may come before anybody looks at the credentials.
    pub taken: bool,
    /// It asked for fewer requests, for so long if it said so.
    pub throttled: Option<Option<Duration>>,
    /// It refused the credentials.
    pub unauthorised: bool,
    /// It had refused them before for each user for whom it did so.
    pub refused_again: bool,
    /// It dealt with none of the request's events: all are to be tried again.
    pub failed: Option<Failed>,
}

/// Whose events a failed request held. One user's alone say nothing about the destination: the fault may be theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The order key of the first.
    pub order_key: u64,
    /// There were others.
    pub several: bool,
}

/// How the gate changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It closed, or closed for another reason.
    Closed(Cause),
    /// Everything goes again.
    Opened,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open,
    Throttled { until: Instant },
    Probed { cause: Cause, next: Instant, under_way: bool, failures: u32 },
}

/// Failed requests without a good answer between them.
#[derive(Clone, Copy, Debug)]
struct Streak {
    since: Instant,
    requests: u32,
    of: Failed,
}

/// The wait before the first probe: long enough for a vendor's hiccup, short enough to lose no time over one.
const FIRST_PROBE: Duration = Duration::from_secs(1);
/// So many failed requests in a row close the gate,
const STREAK: u32 = 5;
/// over at least this time: what fails at one moment is one failure. Until it is over, nothing more goes.
const STREAK_TIME: Duration = Duration::from_secs(2);
/// After it was closed for failing, so many are enough,
const RELAPSE: u32 = 2;
/// until so many good answers have come.
const TRUSTED: u32 = 10;
/// So long after a probe has shown that the credentials are good,
const VOUCHED_TIME: Duration = Duration::from_secs(60);
/// a refusal is one user's matter until so many users in a row were refused: they are probed without a wait.
const VOUCHED_PROBES: u32 = 10;

/// The state of a destination as a whole.
#[derive(Debug)]
pub struct Gate {
    state: State,
    /// Throttled answers without a good one between them, counted once for each pause.
    throttles: u32,
    streak: Option<Streak>,
    /// How often it was probed when it was last closed for failing; 0 once it is trusted again.
    distrust: u32,
    /// Good answers since.
    good: u32,
    /// When a probe has last shown that the credentials are good although they had been refused.
    vouched: Option<Instant>,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

impl Gate {
    /// An open gate.
    pub fn new() -> Gate {
        Gate { state: State::Open, throttles: 0, streak: None, distrust: 0, good: 0, vouched: None }
    }

    /// What may be sent now.
    pub fn permit(&self, now: Instant) -> Permit {
        match self.state {
            State::Throttled { until } if until > now => Permit::NotBefore(until),
            State::Open | State::Throttled { .. } => match self.held_until(now) {
                Some(until) => Permit::NotBefore(until),
                None => Permit::Free,
            },
            State::Probed { under_way: true, .. } => Permit::Probing,
            State::Probed { next, .. } if next <= now => Permit::Probe,
            State::Probed { next, .. } => Permit::NotBefore(next),
        }
    }

    /// Enough requests have failed, but at one moment: whether the destination fails shows when that is over.
    fn held_until(&self, now: Instant) -> Option<Instant> {
        let streak = self.streak.filter(|streak| streak.of.several && streak.requests >= STREAK)?;
        let until = streak.since + STREAK_TIME;
        (until > now).then_some(until)
    }

    /// Why not everything goes at this moment, and until when nothing goes at all.
    pub fn closed(&self, now: Instant) -> Option<(Cause, Instant)> {
        match self.state {
            State::Throttled { until } if until > now => Some((Cause::Throttled, until)),
            State::Open | State::Throttled { .. } => None,
            State::Probed { cause, next, .. } => Some((cause, next)),
        }
    }

    /// A probe was sent.
    pub fn probe_sent(&mut self) {
        if let State::Probed { under_way, .. } = &mut self.state {
            *under_way = true;
        }
    }

    /// Takes in how a request ended; says what that changed, if anything.
    pub fn observe(&mut self, signs: Signs, probe: bool, now: Instant, random: f64) -> Option<Change> {
        match self.state {
            State::Probed { cause: Cause::Failing, failures, .. } => {
                self.observe_failing(signs, probe, failures, now, random)
            }
            State::Probed { .. } if probe => self.observe_probe(signs, now, random),
            // Sent before the gate closed: it says nothing about what the vendor does now.
            State::Probed { .. } => None,
            State::Open | State::Throttled { .. } => self.observe_open(signs, now, random),
        }
    }

    fn observe_open(&mut self, signs: Signs, now: Instant, random: f64) -> Option<Change> {
        if signs.failed.is_none() {
            self.streak = None;
        }
        if signs.unauthorised {
            let wait = if self.is_vouched_for(now) { Duration::ZERO } else { FIRST_PROBE };
            return Some(self.close(Cause::Suspected, now + wait, 0));
        }
        if let Some(after) = signs.throttled {
            return self.throttle(after, now, random);
        }
        if signs.dealt {
            return self.good_answer(now);
        }
        signs.failed.and_then(|failed| self.fail(failed, now, random))
    }

    /// Closes it; a pause that the vendor asked for is kept.
    fn close(&mut self, cause: Cause, next: Instant, failures: u32) -> Change {
        let next = match self.state {
            State::Throttled { until } => until.max(next),
            _ => next,
        };
        self.state = State::Probed { cause, next, under_way: false, failures };
        self.streak = None;
        self.good = 0;
        Change::Closed(cause)
    }

    fn fail(&mut self, failed: Failed, now: Instant, random: f64) -> Option<Change> {
        let new = Streak { since: now, requests: 0, of: failed };
        let streak = self.streak.get_or_insert(new);
        streak.requests = streak.requests.saturating_add(1);
        streak.of.several |= failed.several || failed.order_key != streak.of.order_key;
        let distrusted = self.distrust > 0;
        let long = distrusted || now.saturating_duration_since(streak.since) >= STREAK_TIME;
        if !streak.of.several || !long || streak.requests < if distrusted { RELAPSE } else { STREAK } {
            return None;
        }
        let wait = if distrusted { Backoff::FAILING.half_jitter(self.distrust, random) } else { FIRST_PROBE };
        Some(self.close(Cause::Failing, now + wait, self.distrust))
    }

    /// While it is closed for failing, any answer says that the vendor is there again.
    fn observe_failing(
        &mut self,
        signs: Signs,
        probe: bool,
        failures: u32,
        now: Instant,
        random: f64,
    ) -> Option<Change> {
        if signs.unauthorised && probe {
            self.distrust = failures.max(1);
            return Some(self.close(Cause::Suspected, now + FIRST_PROBE, 0));
        }
        if let Some(after) = signs.throttled {
            (self.state, self.distrust) = (State::Open, failures.max(1));
            return self.throttle(after, now, random);
        }
        if signs.dealt {
            (self.state, self.distrust, self.good) = (State::Open, failures.max(1), 1);
            return Some(Change::Opened);
        }
        if probe {
            let failures = failures.saturating_add(1);
            let next = now + Backoff::FAILING.half_jitter(failures, random);
            self.state = State::Probed { cause: Cause::Failing, next, under_way: false, failures };
        }
        None
    }

    fn observe_probe(&mut self, signs: Signs, now: Instant, random: f64) -> Option<Change> {
        let State::Probed { cause, failures, .. } = self.state else { return None };
        if signs.dealt && !signs.unauthorised {
            let vouched = if signs.taken { Some(now) } else { self.vouched };
            *self = Gate { vouched, ..Gate::new() };
            return Some(Change::Opened);
        }
        let failures = failures.saturating_add(1);
        let is_doubted = signs.unauthorised && cause == Cause::Suspected && failures < VOUCHED_PROBES;
        if is_doubted && self.is_vouched_for(now) {
            // Where nobody else's was there to be tried, somebody's may come.
            let wait = if signs.refused_again { FIRST_PROBE } else { Duration::ZERO };
            self.state = State::Probed { cause, next: now + wait, under_way: false, failures };
            return None;
        }
        let failures = if cause == Cause::Suspected && signs.unauthorised { 1 } else { failures };
        let standard = Backoff::UNAUTHORISED.half_jitter(failures, random);
        let wait = signs.throttled.flatten().map_or(standard, |asked| asked.max(FIRST_PROBE));
        let confirmed = cause != Cause::Unauthorised && signs.unauthorised;
        let cause = if confirmed { Cause::Unauthorised } else { cause };
        self.state = State::Probed { cause, next: now + wait, under_way: false, failures };
        confirmed.then_some(Change::Closed(Cause::Unauthorised))
    }

    /// Whether a probe has shown a moment ago that the credentials are good.
    pub fn is_vouched_for(&self, now: Instant) -> bool {
        self.vouched.is_some_and(|at| now.saturating_duration_since(at) < VOUCHED_TIME)
    }

    fn throttle(&mut self, after: Option<Duration>, now: Instant, random: f64) -> Option<Change> {
        let running = match self.state {
            State::Throttled { until } if until > now => Some(until),
            _ => None,
        };
        if running.is_none() {
            self.throttles = self.throttles.saturating_add(1);
        }
        let wait = match after {
            // A vendor that names no time worth the name, time after time, is not hammered.
            Some(asked) if self.throttles > 1 => asked.max(FIRST_PROBE),
            Some(asked) => asked,
            None => Backoff::THROTTLED.half_jitter(self.throttles, random),
        };
        let until = running.map_or(now + wait, |running| running.max(now + wait));
        self.state = State::Throttled { until };
        running.is_none().then_some(Change::Closed(Cause::Throttled))
    }

    fn good_answer(&mut self, now: Instant) -> Option<Change> {
        self.good = self.good.saturating_add(1);
        if self.good >= TRUSTED {
            self.distrust = 0;
        }
        match self.state {
            State::Throttled { until } if until <= now => {
                (self.state, self.throttles) = (State::Open, 0);
                Some(Change::Opened)
            }
            _ => None, // While throttled, it answers a request from before.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Signs = Signs {
        dealt: false,
        taken: false,
        throttled: None,
        unauthorised: false,
        refused_again: false,
        failed: None,
    };
    const GOOD: Signs = Signs { dealt: true, taken: true, ..NOTHING };
    const FAILED: Signs = failed_for(1);
    const REFUSED: Signs = Signs { unauthorised: true, ..NOTHING };

    const fn failed_for(order_key: u64) -> Signs {
        Signs { failed: Some(Failed { order_key, several: false }), ..NOTHING }
    }

    fn throttled(seconds: Option<u64>) -> Signs {
        Signs { throttled: Some(seconds.map(Duration::from_secs)), ..NOTHING }
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn an_open_gate_stays_open_through_good_answers_and_failures() {
        let start = Instant::now();
        let mut gate = Gate::new();
        assert_eq!(gate.observe(GOOD, false, start, 0.5), None);
        assert_eq!(gate.observe(FAILED, false, start, 0.5), None);
        assert_eq!(gate.permit(start), Permit::Free);
    }

    #[test]
    fn throttled_nothing_goes_until_the_time_the_vendor_named() {
        let start = Instant::now();
        let mut gate = Gate::new();
        assert_eq!(
            gate.observe(throttled(Some(10)), false, start, 0.5),
            Some(Change::Closed(Cause::Throttled))
        );
        assert_eq!(gate.permit(start), Permit::NotBefore(at(start, 10)));
        // Answers to requests that were under way: a later time counts, an earlier one and a good one do not.
        assert_eq!(gate.observe(throttled(Some(30)), false, start, 0.5), None);
        assert_eq!(gate.observe(throttled(Some(5)), false, start, 0.5), None);
        assert_eq!(gate.observe(GOOD, false, start, 0.5), None);
        assert_eq!(gate.closed(start), Some((Cause::Throttled, at(start, 30))));
        assert_eq!(gate.permit(at(start, 30)), Permit::Free);
        assert_eq!(gate.observe(GOOD, false, at(start, 30), 0.5), Some(Change::Opened));
    }

    #[test]
    fn without_a_time_the_pauses_grow_until_a_good_answer() {
        let mut now = Instant::now();
        let mut gate = Gate::new();
        let mut waits = Vec::new();
        for _ in 0..4 {
            gate.observe(throttled(None), false, now, 1.0);
            let Permit::NotBefore(until) = gate.permit(now) else { panic!("it must be closed") };
            waits.push((until - now).as_secs());
            now = until;
        }
        assert_eq!(waits, [2, 4, 8, 16]);
        gate.observe(GOOD, false, now, 1.0);
        gate.observe(throttled(None), false, now, 1.0);
        assert_eq!(gate.permit(now), Permit::NotBefore(at(now, 2)));
    }

    #[test]
    fn refused_credentials_are_probed_confirmed_probed_ever_more_rarely_and_recover() {
        let start = Instant::now();
        let mut gate = Gate::new();
        assert_eq!(gate.observe(REFUSED, false, start, 1.0), Some(Change::Closed(Cause::Suspected)));
        assert_eq!(gate.permit(start), Permit::NotBefore(at(start, 1)));
        assert_eq!(gate.permit(at(start, 1)), Permit::Probe);
        gate.probe_sent();
        assert_eq!(gate.permit(at(start, 1)), Permit::Probing);
        assert_eq!(gate.observe(REFUSED, true, at(start, 1), 1.0), Some(Change::Closed(Cause::Unauthorised)));
        assert_eq!(gate.closed(at(start, 1)), Some((Cause::Unauthorised, at(start, 31))));
        for (now, next) in [(31, 91), (91, 211), (211, 451), (451, 931), (931, 1831), (1831, 2731)] {
            assert_eq!(gate.permit(at(start, now)), Permit::Probe);
            gate.probe_sent();
            assert_eq!(gate.observe(REFUSED, true, at(start, now), 1.0), None);
            assert_eq!(gate.permit(at(start, now)), Permit::NotBefore(at(start, next)));
        }
        gate.probe_sent();
        assert_eq!(gate.observe(GOOD, true, at(start, 2731), 1.0), Some(Change::Opened));
        assert_eq!(gate.permit(at(start, 2731)), Permit::Free);
    }

    #[test]
    fn while_a_probe_vouches_for_the_credentials_the_refused_are_probed_at_once_and_so_many_confirm_it() {
        let start = Instant::now();
        let mut gate = Gate::new();
        gate.observe(REFUSED, false, start, 0.5);
        gate.probe_sent();
        assert_eq!(gate.observe(GOOD, true, at(start, 1), 0.5), Some(Change::Opened));
        assert_eq!(gate.observe(REFUSED, false, at(start, 5), 0.5), Some(Change::Closed(Cause::Suspected)));
        for _ in 1..VOUCHED_PROBES {
            assert_eq!(gate.permit(at(start, 5)), Permit::Probe);
            gate.probe_sent();
            assert_eq!(gate.permit(at(start, 5)), Permit::Probing);
            assert_eq!(gate.observe(REFUSED, true, at(start, 5), 0.5), None);
        }
        gate.probe_sent();
        let confirmed = Some(Change::Closed(Cause::Unauthorised));
        assert_eq!(gate.observe(REFUSED, true, at(start, 5), 0.5), confirmed);
        let (soon, late) = (at(start, 20), at(start, 36));
        assert!(
            matches!(gate.permit(at(start, 5)), Permit::NotBefore(until) if soon < until && until < late)
        );
        // One of whom it is known already says nothing for the others, who may come in a moment.
        gate.probe_sent();
        gate.observe(GOOD, true, at(start, 100), 0.5);
        gate.observe(REFUSED, false, at(start, 100), 0.5);
        gate.probe_sent();
        let again = Signs { refused_again: true, ..REFUSED };
        assert_eq!(gate.observe(again, true, at(start, 100), 0.5), None);
        assert_eq!(gate.permit(at(start, 100)), Permit::NotBefore(at(start, 101)));
        // Nor does what was long ago, or what was refused for what it holds.
        gate.probe_sent();
        gate.observe(GOOD, true, at(start, 200), 0.5);
        gate.observe(REFUSED, false, at(start, 299), 0.5);
        gate.probe_sent();
        gate.observe(Signs { taken: false, ..GOOD }, true, at(start, 299), 0.5);
        gate.observe(REFUSED, false, at(start, 300), 0.5);
        assert_eq!(gate.permit(at(start, 300)), Permit::NotBefore(at(start, 301)));
    }

    #[test]
    fn a_suspicion_that_the_probe_does_not_confirm_is_dropped() {
        let start = Instant::now();
        let mut gate = Gate::new();
        gate.observe(REFUSED, false, start, 0.5);
        assert_eq!(gate.observe(GOOD, false, start, 0.5), None, "an older answer is no probe");
        gate.probe_sent();
        assert_eq!(gate.observe(GOOD, true, at(start, 1), 0.5), Some(Change::Opened));
    }

    #[test]
    fn a_probe_that_fails_otherwise_neither_confirms_nor_opens() {
        let start = Instant::now();
        for (signs, next) in [(FAILED, 30), (throttled(Some(7)), 7), (throttled(Some(0)), 1)] {
            let mut gate = Gate::new();
            gate.observe(REFUSED, false, start, 1.0);
            gate.probe_sent();
            assert_eq!(gate.observe(signs, true, start, 1.0), None);
            assert_eq!(gate.closed(start), Some((Cause::Suspected, at(start, next))), "{signs:?}");
        }
    }

    #[test]
    fn what_was_sent_before_the_gate_closed_does_not_move_the_next_probe() {
        let start = Instant::now();
        for late in [REFUSED, throttled(Some(600)), FAILED] {
            let mut gate = Gate::new();
            gate.observe(REFUSED, false, start, 1.0);
            assert_eq!(gate.observe(late, false, at(start, 1), 1.0), None);
            assert_eq!(gate.permit(at(start, 1)), Permit::Probe, "{late:?}");
        }
    }

    #[test]
    fn a_probe_waits_for_the_end_of_throttling() {
        let start = Instant::now();
        let mut gate = Gate::new();
        gate.observe(throttled(Some(60)), false, start, 1.0);
        assert_eq!(gate.observe(REFUSED, false, start, 1.0), Some(Change::Closed(Cause::Suspected)));
        assert_eq!(gate.permit(start), Permit::NotBefore(at(start, 60)));
    }

    /// Failed requests of users in turn, half a second apart; the second in which the gate closed.
    fn fails(gate: &mut Gate, start: Instant, users: u64, times: u64) -> Option<Instant> {
        (0..times).map(|n| (n, start + Duration::from_millis(500 * n))).find_map(|(n, now)| {
            (gate.observe(failed_for(n % users), false, now, 1.0) == Some(Change::Closed(Cause::Failing)))
                .then_some(now)
        })
    }

    #[test]
    fn requests_that_fail_without_exception_close_it_and_probes_grow_rarer_until_one_is_answered() {
        let start = Instant::now();
        let mut gate = Gate::new();
        let mut now = fails(&mut gate, start, 3, 100).unwrap();
        assert_eq!(now, at(start, 2), "five, over two seconds");
        assert_eq!(gate.closed(now), Some((Cause::Failing, at(start, 3))));
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(gate.permit(now), Permit::NotBefore(at(now, wait)));
            now = at(now, wait);
            assert_eq!(gate.permit(now), Permit::Probe);
            gate.probe_sent();
            assert_eq!(gate.permit(now), Permit::Probing);
            assert_eq!(gate.observe(failed_for(now.elapsed().as_secs()), true, now, 1.0), None);
        }
        gate.probe_sent();
        assert_eq!(gate.observe(GOOD, true, now, 1.0), Some(Change::Opened));
        assert_eq!((gate.permit(now), gate.closed(now)), (Permit::Free, None));
    }

    #[test]
    fn what_fails_at_one_moment_holds_it_for_two_seconds_and_what_follows_decides() {
        let start = Instant::now();
        for (next, closed) in [(GOOD, None), (failed_for(9), Some(Change::Closed(Cause::Failing)))] {
            let mut gate = Gate::new();
            for user in 0..16 {
                assert_eq!(gate.observe(failed_for(user), false, start, 0.5), None);
            }
            assert_eq!((gate.permit(start), gate.closed(start)), (Permit::NotBefore(at(start, 2)), None));
            assert_eq!(gate.permit(at(start, 2)), Permit::Free);
            assert_eq!(gate.observe(next, false, at(start, 2), 0.5), closed);
        }
    }

    #[test]
    fn one_users_failures_never_close_it_nor_do_failures_with_good_answers_between_them() {
        let start = Instant::now();
        let mut gate = Gate::new();
        assert_eq!(fails(&mut gate, start, 1, 1000), None);
        for round in 0..100 {
            assert_eq!(fails(&mut gate, at(start, 3 * round), 3, 4), None);
            gate.observe(GOOD, false, at(start, 3 * round + 2), 0.5);
            assert_eq!(gate.permit(at(start, 3 * round + 2)), Permit::Free);
        }
        let both = Signs { failed: Some(Failed { order_key: 1, several: true }), ..NOTHING };
        let closed = (0..9).find(|n| gate.observe(both, false, at(start, 1000 + n), 0.5).is_some());
        assert_eq!(closed, Some(4), "a request of several users counts for more than one");
    }

    #[test]
    fn a_relapse_closes_it_sooner_and_for_longer_until_it_is_trusted_again() {
        let start = Instant::now();
        let mut gate = Gate::new();
        let mut now = fails(&mut gate, start, 2, 9).unwrap();
        for _ in 0..3 {
            gate.observe(FAILED, true, now, 1.0);
        }
        assert_eq!(gate.observe(GOOD, true, now, 1.0), Some(Change::Opened));
        assert_eq!(gate.observe(failed_for(1), false, now, 1.0), None);
        assert_eq!(gate.observe(failed_for(2), false, now, 1.0), Some(Change::Closed(Cause::Failing)));
        assert_eq!(gate.permit(now), Permit::NotBefore(at(now, 8)));
        assert_eq!(gate.observe(GOOD, false, now, 1.0), Some(Change::Opened), "any good answer will do");
        for _ in 0..TRUSTED {
            gate.observe(GOOD, false, now, 1.0);
        }
        now = at(now, 100);
        assert_eq!(fails(&mut gate, now, 2, 4), None);
        assert_eq!(fails(&mut gate, at(now, 2), 2, 1), Some(at(now, 2)));
        assert_eq!(gate.permit(at(now, 2)), Permit::NotBefore(at(now, 3)));
    }

    #[test]
    fn a_failing_vendor_may_come_back_throttling_or_refusing() {
        let start = Instant::now();
        let cases = [(throttled(Some(60)), Cause::Throttled, 60), (REFUSED, Cause::Suspected, 1)];
        for (signs, cause, wait) in cases {
            let mut gate = Gate::new();
            let now = fails(&mut gate, start, 2, 9).unwrap();
            gate.probe_sent();
            assert_eq!(gate.observe(signs, true, now, 0.5), Some(Change::Closed(cause)));
            assert_eq!(gate.closed(now), Some((cause, at(now, wait))));
        }
    }

    #[test]
    fn a_vendor_that_throttles_for_no_time_at_all_is_not_hammered() {
        let start = Instant::now();
        let mut gate = Gate::new();
        let mut waits = Vec::new();
        for _ in 0..3 {
            gate.observe(throttled(Some(0)), false, start, 0.5);
            waits.push(gate.closed(start).map(|(_, until)| (until - start).as_secs()));
        }
        assert_eq!(waits, [None, Some(1), Some(1)]);
    }
}
