//! What follows from an attempt's outcome: for the delivery (done, later, released or dead) and for the destination as
//! a whole (the signs its gate takes in). Pure: time and chance come in as arguments.

use std::time::Duration;

use fanout_sdk::destination::{Outcome, Verdict};

use super::backoff::Backoff;
use super::gate::{Failed, Signs};
use crate::queue::{Code, Dead, Id, Settled};

/// The longest wait that a vendor may ask for. One beyond a day is a mistake, such as a date read with a wrong clock, and
/// must not keep events until somebody notices.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A claimed delivery without its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// To settle it with.
    pub id: Id,
    /// Whose it is.
    pub order_key: u64,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// When the first attempt was made, for people: milliseconds since 1970, as well as it is known.
    pub first_attempt_at_ms: i64,
    /// The same in the lane's own time, from which `retry_for` counts.
    pub since_ms: i64,
}

/// How an ended attempt is counted: the labels of `fanout_deliveries_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// `delivered`, `submitted`, `skipped`, `suppressed`, `retry`, `throttled`, `unauthorised` or `dead`.
    pub outcome: &'static str,
    /// For `skipped` and `dead` the code, else empty.
    pub reason: &'static str,
}

impl Label {
    const fn of(outcome: &'static str) -> Label {
        Label { outcome, reason: "" }
    }
}

/// The moment of an attempt's end, and how long a delivery may be tried.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// The lane's own time.
    pub own_ms: i64,
    /// Counted from the first attempt, in the lane's own time.
    pub retry_for: Duration,
    /// At least 0 and below 1.
    pub random: f64,
}

/// A 503 that says for how long speaks for the vendor as a whole, like a 429, and not for the request: RFC 9110,
/// section 15.6.4. Any other wait is that of the event.
pub fn for_the_whole(verdict: &mut Verdict) {
    if let Outcome::Retry { after: after @ Some(_) } = verdict.outcome
        && verdict.answer.starts_with("503")
    {
        verdict.outcome = Outcome::Throttled { after, user_only: false };
    }
}

/// What a request's verdicts say about the destination, with the order keys of its events.
pub fn signs(verdicts: &[Verdict], mut order_keys: impl Iterator<Item = u64>) -> Signs {
    let mut signs = Signs::default();
    let to_retry = |verdict: &Verdict| matches!(verdict.outcome, Outcome::Retry { .. });
    if verdicts.iter().all(to_retry)
        && let Some(order_key) = order_keys.next()
    {
        let several = order_keys.any(|other| other != order_key);
        signs.failed = Some(Failed { order_key, several });
    }
    signs.taken = verdicts.iter().any(is_taken);
    for verdict in verdicts {
        match verdict.outcome {
            Outcome::Delivered | Outcome::Submitted | Outcome::Rejected => signs.dealt = true,
            Outcome::Unauthorised => signs.unauthorised = true,
            Outcome::Throttled { after, user_only: false } => {
                let after = after.map(|after| after.min(LONGEST_WAIT));
                signs.throttled = Some(after.max(signs.throttled.flatten()));
            }
            Outcome::Retry { .. } | Outcome::Throttled { user_only: true, .. } => {}
        }
    }
    signs
}

/// How a delivery is settled. `alone_refused` says that the vendor refuses the credentials for this event while it
/// takes them for others: then it is a failure of the event and counts as an attempt.
pub fn settle(verdict: Verdict, ticket: &Ticket, moment: Moment, alone_refused: bool) -> (Settled, Label) {
    match verdict.outcome {
        Outcome::Delivered => (Settled::Done(Code::Delivered), Label::of("delivered")),
        Outcome::Submitted => (Settled::Done(Code::Submitted), Label::of("submitted")),
        Outcome::Rejected => dead("rejected", verdict, ticket),
        Outcome::Throttled { user_only: false, .. } => (Settled::Release, Label::of("throttled")),
        Outcome::Unauthorised if !alone_refused => (Settled::Release, Label::of("unauthorised")),
        Outcome::Retry { after } => later(after, "retry", verdict, ticket, moment),
        Outcome::Throttled { after, user_only: true } => later(after, "throttled", verdict, ticket, moment),
        Outcome::Unauthorised => later(None, "unauthorised", verdict, ticket, moment),
    }
}

/// Whether the vendor took it.
pub fn is_taken(verdict: &Verdict) -> bool {
    matches!(verdict.outcome, Outcome::Delivered | Outcome::Submitted)
}

/// The verdict on an event whose request ended without one.
pub fn no_verdict(reason: &str) -> Verdict {
    Verdict { outcome: Outcome::Retry { after: None }, reason: reason.to_owned(), answer: "".into() }
}

/// A failed attempt: tried again until `retry_for` is over. A wait of our own ends at that time at the latest, so that
/// the last attempt is not the one before it; a wait that the vendor asked for is kept, and the attempt after it is the
/// last one.
fn later(
    after: Option<Duration>,
    outcome: &'static str,
    verdict: Verdict,
    ticket: &Ticket,
    moment: Moment,
) -> (Settled, Label) {
    let left_ms = ticket.since_ms.saturating_add(millis(moment.retry_for)).saturating_sub(moment.own_ms);
    if left_ms <= 0 {
        return dead("expired", verdict, ticket);
    }
    let at_ms = match after {
        Some(asked) => moment.now_ms.saturating_add(millis(asked.min(LONGEST_WAIT))),
        None => {
            let wait = Backoff::EVENT.full_jitter(ticket.attempt, moment.random);
            moment.now_ms.saturating_add(millis(wait).min(left_ms))
        }
    };
    let since_ms = ticket.since_ms;
    (Settled::Later { at_ms, since_ms, reason: verdict.reason }, Label::of(outcome))
}

fn dead(code: &'static str, verdict: Verdict, ticket: &Ticket) -> (Settled, Label) {
    let dead = Dead {
        code: code.to_owned(),
        reason: verdict.reason,
        attempts: ticket.attempt,
        first_attempt_at_ms: ticket.first_attempt_at_ms,
        answer: (*verdict.answer).to_owned(),
        request: None,
    };
    (Settled::Dead(dead), Label { outcome: "dead", reason: code })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MOMENT: Moment = Moment { now_ms: 1_000_000, own_ms: 700_000, retry_for: HOUR, random: 0.5 };

    fn ticket(attempt: u32, since_ms: i64) -> Ticket {
        let first_attempt_at_ms = since_ms + MOMENT.now_ms - MOMENT.own_ms;
        Ticket { id: Id(7), order_key: 1, attempt, first_attempt_at_ms, since_ms }
    }

    fn verdict(outcome: Outcome) -> Verdict {
        Verdict { outcome, reason: "because".into(), answer: "400 no".into() }
    }

    fn settled(outcome: Outcome, ticket: &Ticket) -> (Settled, &'static str) {
        let (settled, label) = settle(verdict(outcome), ticket, MOMENT, false);
        (settled, label.outcome)
    }

    fn later_at(at_ms: i64) -> Settled {
        later_since(at_ms, MOMENT.own_ms)
    }

    fn later_since(at_ms: i64, since_ms: i64) -> Settled {
        Settled::Later { at_ms, since_ms, reason: "because".into() }
    }

    #[test]
    fn every_outcome_settles_its_delivery() {
        let fresh = ticket(1, MOMENT.own_ms);
        let secs = |n| Some(Duration::from_secs(n));
        let rejected = Dead {
            code: "rejected".into(),
            reason: "because".into(),
            attempts: 1,
            first_attempt_at_ms: fresh.first_attempt_at_ms,
            answer: "400 no".into(),
            request: None,
        };
        let cases = [
            (Outcome::Delivered, Settled::Done(Code::Delivered), "delivered"),
            (Outcome::Submitted, Settled::Done(Code::Submitted), "submitted"),
            (Outcome::Rejected, Settled::Dead(rejected), "dead"),
            (Outcome::Unauthorised, Settled::Release, "unauthorised"),
            (Outcome::Throttled { after: secs(9), user_only: false }, Settled::Release, "throttled"),
            (Outcome::Throttled { after: secs(9), user_only: true }, later_at(1_009_000), "throttled"),
            (Outcome::Retry { after: secs(3) }, later_at(1_003_000), "retry"),
            (Outcome::Retry { after: None }, later_at(1_000_500), "retry"),
        ];
        for (outcome, expected, label) in cases {
            assert_eq!(settled(outcome.clone(), &fresh), (expected, label), "{outcome:?}");
        }
    }

    #[test]
    fn an_event_refused_alone_is_tried_again_like_any_failure() {
        let (settled, label) = settle(verdict(Outcome::Unauthorised), &ticket(3, 699_000), MOMENT, true);
        assert_eq!((settled, label), (later_since(1_002_000, 699_000), Label::of("unauthorised")));
    }

    #[test]
    fn a_wait_beyond_reason_is_cut_short() {
        let day_ms = 86_400_000;
        let ticket = ticket(1, MOMENT.own_ms);
        for asked in [Duration::from_millis(day_ms as u64 + 1), Duration::MAX] {
            let throttled = |user_only| Outcome::Throttled { after: Some(asked), user_only };
            for outcome in [Outcome::Retry { after: Some(asked) }, throttled(true)] {
                let (settled, _) = settle(verdict(outcome), &ticket, MOMENT, false);
                assert_eq!(settled, later_at(MOMENT.now_ms + day_ms));
            }
            let signs = signs(&[verdict(throttled(false))], [1].into_iter());
            assert_eq!(signs.throttled, Some(Some(Duration::from_millis(day_ms as u64))));
        }
    }

    #[test]
    fn retrying_ends_when_retry_for_is_over() {
        let hour_ms = 3_600_000;
        let started = |ago_ms| ticket(20, MOMENT.own_ms - ago_ms);
        let after = |seconds| Outcome::Retry { after: Some(Duration::from_secs(seconds)) };
        // Half of the 300 s cap would pass the end, so the last attempt is made at the end.
        assert_eq!(
            settled(Outcome::Retry { after: None }, &started(hour_ms - 60_000)).0,
            later_since(1_060_000, MOMENT.own_ms + 60_000 - hour_ms)
        );
        assert_eq!(
            settled(after(120), &started(hour_ms - 60_000)).0,
            later_since(1_120_000, MOMENT.own_ms + 60_000 - hour_ms)
        );
        for outcome in [Outcome::Retry { after: None }, after(120)] {
            let (settled, label) = settle(verdict(outcome), &started(hour_ms), MOMENT, false);
            assert!(matches!(settled, Settled::Dead(dead) if dead.code == "expired" && dead.attempts == 20));
            assert_eq!(label, Label { outcome: "dead", reason: "expired" });
        }
    }

    #[test]
    fn one_verdict_is_enough_for_a_sign_and_the_longest_wait_counts() {
        let throttled =
            |seconds: u64| Outcome::Throttled { after: Some(Duration::from_secs(seconds)), user_only: false };
        let retry = || Outcome::Retry { after: None };
        let open = Signs::default();
        let secs = |n| Some(Some(Duration::from_secs(n)));
        let failed = |several| Some(Failed { order_key: 4, several });
        let cases: [(Vec<Outcome>, Signs); 8] = [
            (vec![], open),
            (vec![retry()], Signs { failed: failed(false), ..open }),
            (vec![retry(), retry()], Signs { failed: failed(true), ..open }),
            (vec![retry(), Outcome::Rejected], Signs { dealt: true, ..open }),
            (
                vec![Outcome::Unauthorised, Outcome::Delivered],
                Signs { dealt: true, taken: true, unauthorised: true, ..open },
            ),
            (vec![throttled(3), throttled(9), throttled(1)], Signs { throttled: secs(9), ..open }),
            (
                vec![Outcome::Throttled { after: None, user_only: false }],
                Signs { throttled: Some(None), ..open },
            ),
            (vec![Outcome::Throttled { after: None, user_only: true }], open),
        ];
        for (outcomes, expected) in cases {
            let verdicts: Vec<_> = outcomes.into_iter().map(verdict).collect();
            let order_keys = (4..).take(verdicts.len());
            assert_eq!(signs(&verdicts, order_keys), expected, "{verdicts:?}");
        }
    }

    #[test]
    fn a_503_that_names_a_time_is_the_whole_destinations() {
        let after = Some(Duration::from_secs(9));
        let retry = |after, answer: &str| Verdict {
            outcome: Outcome::Retry { after },
            reason: String::new(),
            answer: answer.into(),
        };
        let whole = Outcome::Throttled { after, user_only: false };
        let cases = [
            (retry(after, "503 back soon"), whole),
            (retry(None, "503 back soon"), Outcome::Retry { after: None }),
            (retry(after, "409 503"), Outcome::Retry { after }),
            (retry(after, ""), Outcome::Retry { after }),
        ];
        for (mut verdict, expected) in cases {
            for_the_whole(&mut verdict);
            assert_eq!(verdict.outcome, expected, "{}", verdict.answer);
        }
    }
}
