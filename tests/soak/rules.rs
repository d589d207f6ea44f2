//! What may become of calls besides being taken, refused and repeated, judged by what one vendor received alone. Pure.

use std::collections::HashMap;

use super::letters::Redrive;
use super::parts::{Calls, Late};
use super::sender::Call;
use super::support::ledger::{Arrival, Fate, Moment, Received};

/// Judges one destination.
pub struct Judge<'a> {
    /// What it was to receive.
    calls: &'a Calls,
    late: Late<'a>,
    redrives: &'a [Redrive],
    /// What came of each call, and of each user, in the order in which it was sent.
    came: HashMap<u64, Vec<&'a Arrival>>,
    came_of_users: HashMap<u64, Vec<Came<'a>>>,
}

/// What came, and because of which redrive if not by itself.
#[derive(Clone, Copy, Debug)]
struct Came<'a> {
    arrival: &'a Arrival,
    cause: Option<&'a Redrive>,
}

/// Which redrive a call came of, if it did not come by itself.
fn cause<'a>(redrives: &'a [Redrive], arrival: &Arrival) -> Option<&'a Redrive> {
    let is_cause = |redrive: &&Redrive| redrive.at < arrival.at && redrive.calls.contains(&arrival.call);
    redrives.iter().rfind(is_cause)
}

impl<'a> Judge<'a> {
    pub fn new(calls: &'a Calls, received: &'a Received, redrives: &'a [Redrive]) -> Judge<'a> {
        let (mut came, mut came_of_users) = (HashMap::new(), HashMap::new());
        for arrival in received.by_life() {
            came.entry(arrival.call).or_insert_with(Vec::new).push(arrival);
            let came = Came { arrival, cause: cause(redrives, arrival) };
            came_of_users.entry(arrival.user).or_insert_with(Vec::new).push(came);
        }
        Judge { calls, late: Late::new(calls), redrives, came, came_of_users }
    }

    /// Which redrive a call came of, if it did not come by itself.
    pub fn cause(&self, arrival: &Arrival) -> Option<&'a Redrive> {
        cause(self.redrives, arrival)
    }

    /// The last redrive of a call.
    pub fn last_redrive(&self, call: u64) -> Option<&'a Redrive> {
        self.redrives.iter().rfind(|redrive| redrive.calls.contains(&call))
    }

    fn came(&self, call: u64) -> &[&'a Arrival] {
        self.came.get(&call).map(Vec::as_slice).unwrap_or_default()
    }

    /// What became of a call in the end, at the vendor.
    pub fn last(&self, call: u64) -> Option<&'a Arrival> {
        let since = self.last_redrive(call).map(|redrive| redrive.at);
        self.came(call).last().copied().filter(|arrival| since < Some(arrival.at))
    }

    /// Whether a crash came before the end of a call was written down, as it shows in an earlier one that came once more:
    /// that it did not come itself has another reason.
    pub fn was_open_again(&self, last: &Arrival) -> bool {
        let cause = |arrival: &Arrival| self.cause(arrival).map(|redrive| redrive.at);
        self.came_of_user(last.user).iter().map(|came| came.arrival).any(|arrival| {
            arrival.call < last.call && arrival.at.life > last.at.life && cause(arrival) == cause(last)
        })
    }

    fn came_of_user(&self, user: u64) -> &[Came<'a>] {
        self.came_of_users.get(&user).map(Vec::as_slice).unwrap_or_default()
    }

    /// What is wrong with what came of a call because of a redrive that leaves out what later ones have set again.
    /// Later ones are looked at as far as they are retained, which is certain of those `retained_from` some call on.
    pub fn wrong_part(&self, redrive: &Redrive, call: u64, retained_from: u64) -> Option<String> {
        let is_of_it = |arrival: &&&Arrival| self.cause(arrival).is_some_and(|cause| cause.at == redrive.at);
        match self.came(call).iter().rfind(is_of_it) {
            Some(arrival) => {
                let surely = |later| later >= retained_from && self.was_taken(later, redrive.at);
                self.late.wrong_part(call, &arrival.traits, surely, |_| true)
            }
            None if self.late.may_be_nothing(call, |_| true) => None,
            None => Some(format!("call {call} did not come, and later ones have not set all of it")),
        }
    }

    /// Whether the process knew of a delivery at a moment, for all that is certain: it did not send it again since.
    fn was_taken(&self, call: u64, at: Moment) -> bool {
        let came = self.came(call);
        came.last().is_some_and(|arrival| arrival.fate == Fate::Taken && arrival.at <= at)
    }

    /// What is wrong with leaving out a call because it would have changed nothing: what the vendor took last of that user
    /// must have said the same.
    pub fn wrong_suppression(&self, call: u64) -> Option<String> {
        let Call { user, traits, .. } = &self.calls[&call];
        let possible = match self.last_redrive(call) {
            Some(redrive) => self.said_since(*user, redrive.at),
            None => self.said_before(*user, call),
        };
        let is_right = possible.iter().any(|said| self.calls[said].traits["plan"] == traits["plan"]);
        (!is_right)
            .then(|| format!("call {call} of user {user} was no repetition: {:#?}", self.came_of_user(*user)))
    }

    /// What the vendor may have taken last at some time since a moment.
    fn said_since(&self, user: u64, at: Moment) -> Vec<u64> {
        let taken: Vec<Came<'_>> = self.taken(user).collect();
        let from = taken.iter().rposition(|came| came.arrival.at <= at).unwrap_or_default();
        taken.iter().skip(from).map(|came| came.arrival.call).collect()
    }

    /// What the vendor may have taken last when a call's turn came that was not redriven: the one before it, and what was
    /// redriven between that and the next one, for nobody knows whether it was before or after.
    fn said_before(&self, user: u64, call: u64) -> Vec<u64> {
        let (again, usual): (Vec<Came<'_>>, Vec<_>) = self.taken(user).partition(|came| came.cause.is_some());
        let earlier = usual.iter().map(|came| came.arrival).filter(|arrival| arrival.call < call);
        let before = earlier.max_by_key(|arrival| (arrival.call, arrival.at));
        let from = before.map(|arrival| arrival.at).unwrap_or_default();
        let next = self
            .came_of_user(user)
            .iter()
            .find(|came| came.arrival.call > call && from < came.arrival.at && came.cause.is_none());
        let between = again
            .into_iter()
            .map(|came| came.arrival)
            .filter(|arrival| from < arrival.at && next.is_none_or(|next| arrival.at < next.arrival.at));
        before.into_iter().chain(between).map(|arrival| arrival.call).collect()
    }

    fn taken(&self, user: u64) -> impl Iterator<Item = Came<'a>> {
        self.came_of_user(user).iter().copied().filter(|came| came.arrival.fate == Fate::Taken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::super::support::ledger::Allowed;
    use super::*;

    use Fate::{Failed, Refused, Taken};

    fn arrival(life: u32, request: u64, call: u64, fate: Fate) -> Arrival {
        Arrival { at: Moment { life, request }, user: 1, call, traits: Arc::default(), fate }
    }

    fn calls(plans: &[u64]) -> Calls {
        let call = |plan: &u64| {
            let traits = BTreeMap::from([("plan", *plan)]);
            Call { source: "app", user: 1, off: BTreeSet::new(), traits }
        };
        (1..).zip(plans.iter().map(call)).collect()
    }

    fn received(arrivals: &[Arrival]) -> Received {
        let mut received = Received::default();
        arrivals.iter().for_each(|arrival| received.add(arrival.clone()));
        received
    }

    fn redrive(request: u64, call: u64) -> Redrive {
        Redrive { at: Moment { life: 1, request }, whole: false, calls: BTreeSet::from([call]) }
    }

    /// Of order, by life, call, fate of each arrival; call 5 is redriven after the second request of life 1.
    #[test]
    fn the_ledger_knows_order_from_disorder() {
        /// Whether the process gives up and leaves calls out; what is to be noticed.
        type Case = (&'static [(u32, u64, Fate)], bool, Option<&'static str>);
        let cases: [Case; 15] = [
            (&[(1, 1, Taken), (1, 2, Taken), (1, 9, Taken)], false, None),
            (&[(1, 1, Failed), (1, 1, Taken), (1, 2, Taken)], false, None),
            (&[(1, 1, Taken), (1, 2, Taken), (2, 1, Taken), (2, 2, Taken), (2, 3, Taken)], false, None),
            (&[(1, 1, Failed), (1, 2, Taken)], true, None),
            (&[(1, 1, Failed), (1, 2, Taken)], false, Some("before the end of 1")),
            (&[(1, 2, Taken), (1, 1, Taken)], false, Some("after 2")),
            (&[(1, 1, Taken), (1, 1, Taken)], false, Some("again after its end")),
            (&[(1, 2, Taken), (2, 1, Taken)], false, Some("overtaken by 2")),
            (&[(1, 2, Taken), (2, 1, Taken)], true, Some("2 of user 1 did not come again")),
            (&[(1, 2, Taken), (2, 1, Taken), (2, 2, Taken)], true, None),
            (&[(2, 1, Taken), (1, 1, Taken), (2, 2, Taken)], false, None), // what was killed is read late
            (&[(1, 5, Refused), (1, 6, Failed), (1, 5, Taken), (1, 6, Taken)], false, None),
            (
                &[(1, 5, Refused), (1, 6, Taken), (1, 5, Failed), (1, 7, Taken)],
                false,
                Some("before the end of 5"),
            ),
            (
                &[(1, 5, Refused), (1, 6, Taken), (1, 5, Taken), (1, 5, Taken)],
                false,
                Some("again after its end"),
            ),
            (&[(1, 6, Taken), (1, 5, Refused)], false, Some("after 6")),
        ];
        let (calls, redrives) = (Calls::new(), [redrive(2, 5)]);
        for (arrivals, is_allowed, expected) in cases {
            let allowed = Allowed { gives_up: is_allowed, leaves_out: is_allowed };
            let arrivals = (1..).zip(arrivals);
            let arrivals: Vec<_> =
                arrivals.map(|(request, (life, call, fate))| arrival(*life, request, *call, *fate)).collect();
            let received = received(&arrivals);
            let judge = Judge::new(&calls, &received, &redrives);
            let disorder =
                received.disorder_beside(allowed, |arrival| judge.cause(arrival).map(|redrive| redrive.at));
            let is_expected = |wrong: &String| expected.is_some_and(|expected| wrong.contains(expected));
            assert!(disorder.as_ref().map_or(expected.is_none(), is_expected), "{arrivals:?}: {disorder:?}");
        }
    }

    #[test]
    fn a_repetition_is_told_from_a_change() {
        let calls = calls(&[0, 0, 1, 1, 0]);
        // Which calls came, and what became of them; which one did not; which one was redriven after the third
        // request; whether it may have been left out.
        type Case = (&'static [(u64, Fate)], u64, Option<u64>, bool);
        let cases: [Case; 8] = [
            (&[(1, Taken)], 2, None, true),
            (&[(1, Refused)], 2, None, false),
            (&[(1, Taken), (3, Taken)], 4, None, true),
            (&[(1, Taken), (3, Taken)], 5, None, false),
            (&[(1, Taken), (3, Refused)], 5, None, true),
            // The first is redriven when the third was taken: the fifth repeats it.
            (&[(1, Refused), (2, Taken), (3, Taken), (1, Taken)], 5, Some(1), true),
            (&[(1, Refused), (2, Taken), (3, Taken), (1, Taken)], 4, Some(1), true),
            (&[(3, Refused), (5, Taken)], 3, Some(3), false),
        ];
        for (came, left_out, redriven, is_right) in cases {
            let arrivals = (1..).zip(came).map(|(request, (call, fate))| arrival(1, request, *call, *fate));
            let received = received(&arrivals.collect::<Vec<_>>());
            let redrives: Vec<Redrive> = redriven.map(|call| redrive(3, call)).into_iter().collect();
            let wrong = Judge::new(&calls, &received, &redrives).wrong_suppression(left_out);
            assert_eq!(wrong.is_none(), is_right, "{came:?} without {left_out}: {wrong:?}");
        }
    }
}
