//! Whether a lane may send: the state of a destination as a whole. Pure: time and chance come in as arguments.
//!
//! Open, everything goes. Throttled, nothing goes until the vendor's time is over. Under suspicion and paused, one
//! event goes at a time, as a probe, at growing intervals; a probe that the vendor answers opens the gate again.
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
}

/// What a request says about the destination as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// It dealt with at least one event: took it or refused it for what it holds.
    pub dealt: bool,
    /// It asked for fewer requests, for so long if it said so.
    pub throttled: Option<Option<Duration>>,
    /// It refused the credentials.
    pub unauthorised: bool,
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
    Probed { confirmed: bool, next: Instant, under_way: bool, failures: u32 },
}

/// The wait before the first probe: long enough for a vendor's hiccup, short enough to lose no time over one.
const FIRST_PROBE: Duration = Duration::from_secs(1);

/// The state of a destination as a whole.
#[derive(Debug)]
pub struct Gate {
    state: State,
    /// Throttled answers without a good one between them, counted once for each pause.
    throttles: u32,
}

impl Gate {
    /// An open gate.
    pub fn new() -> Gate {
        Gate { state: State::Open, throttles: 0 }
    }

    /// What may be sent now.
    pub fn permit(&self, now: Instant) -> Permit {
        match self.state {
            State::Open => Permit::Free,
            State::Throttled { until } if until <= now => Permit::Free,
            State::Throttled { until } => Permit::NotBefore(until),
            State::Probed { under_way: true, .. } => Permit::Probing,
            State::Probed { next, .. } if next <= now => Permit::Probe,
            State::Probed { next, .. } => Permit::NotBefore(next),
        }
    }

    /// Why not everything goes at this moment, and until when nothing goes at all.
    pub fn closed(&self, now: Instant) -> Option<(Cause, Instant)> {
        match self.state {
            State::Throttled { until } if until > now => Some((Cause::Throttled, until)),
            State::Open | State::Throttled { .. } => None,
            State::Probed { confirmed: false, next, .. } => Some((Cause::Suspected, next)),
            State::Probed { confirmed: true, next, .. } => Some((Cause::Unauthorised, next)),
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
        if probe {
            return self.observe_probe(signs, now, random);
        }
        if matches!(self.state, State::Probed { .. }) {
            return None; // Sent before the gate closed: it says nothing about what the vendor does now.
        }
        if signs.unauthorised {
            let next = match self.state {
                State::Throttled { until } => until.max(now + FIRST_PROBE),
                _ => now + FIRST_PROBE,
            };
            self.state = State::Probed { confirmed: false, next, under_way: false, failures: 0 };
            return Some(Change::Closed(Cause::Suspected));
        }
        if let Some(after) = signs.throttled {
            return self.throttle(after, now, random);
        }
        if signs.dealt {
            return self.good_answer(now);
        }
        None
    }

    fn observe_probe(&mut self, signs: Signs, now: Instant, random: f64) -> Option<Change> {
        let State::Probed { confirmed, failures, .. } = self.state else { return None };
        if signs.dealt && !signs.unauthorised {
            *self = Gate::new();
            return Some(Change::Opened);
        }
        let failures = failures.saturating_add(1);
        let standard = Backoff::UNAUTHORISED.half_jitter(failures, random);
        let wait = signs.throttled.flatten().map_or(standard, |asked| asked.max(FIRST_PROBE));
        let confirmed_now = confirmed || signs.unauthorised;
        self.state = State::Probed { confirmed: confirmed_now, next: now + wait, under_way: false, failures };
        (confirmed_now && !confirmed).then_some(Change::Closed(Cause::Unauthorised))
    }

    fn throttle(&mut self, after: Option<Duration>, now: Instant, random: f64) -> Option<Change> {
        let running = match self.state {
            State::Throttled { until } if until > now => Some(until),
            _ => None,
        };
        if running.is_none() {
            self.throttles = self.throttles.saturating_add(1);
        }
        let wait = after.unwrap_or_else(|| Backoff::THROTTLED.half_jitter(self.throttles, random));
        let until = running.map_or(now + wait, |running| running.max(now + wait));
        self.state = State::Throttled { until };
        running.is_none().then_some(Change::Closed(Cause::Throttled))
    }

    fn good_answer(&mut self, now: Instant) -> Option<Change> {
        match self.state {
            State::Throttled { until } if until <= now => {
                *self = Gate::new();
                Some(Change::Opened)
            }
            _ => None, // While throttled, it answers a request from before.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Signs = Signs { dealt: true, throttled: None, unauthorised: false };
    const FAILED: Signs = Signs { dealt: false, throttled: None, unauthorised: false };
    const REFUSED: Signs = Signs { dealt: false, throttled: None, unauthorised: true };

    fn throttled(seconds: Option<u64>) -> Signs {
        Signs { throttled: Some(seconds.map(Duration::from_secs)), ..FAILED }
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
}
