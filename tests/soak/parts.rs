//! What is left of a call that is sent late, after later ones of its user have set some of its traits again. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::sender::Call;

/// By number; a user's calls were accepted in the order of their numbers.
pub type Calls = BTreeMap<u64, Call>;

/// Calls to one destination, of which some are sent late.
pub struct Late<'a> {
    calls: &'a Calls,
    /// Each user's, in their order.
    of_users: HashMap<u64, Vec<u64>>,
}

/// What is known of one trait of a call.
#[derive(Default)]
struct Again {
    /// A later call that may count has set it, to any value, or to another one.
    maybe: bool,
    maybe_other: bool,
    /// One that counts for certain has.
    surely: bool,
    /// The last one that counts has set it to another value, whichever of those that may count do.
    surely_other: bool,
}

impl<'a> Late<'a> {
    /// Of the calls that a destination was to receive.
    pub fn new(calls: &'a Calls) -> Late<'a> {
        let mut of_users: HashMap<u64, Vec<u64>> = HashMap::new();
        for (number, call) in calls {
            of_users.entry(call.user).or_default().push(*number);
        }
        Late { calls, of_users }
    }

    /// Whether nothing may be left of a call, so that it is not sent. `maybe` says which later calls may count: those that
    /// the destination has taken by then.
    pub fn may_be_nothing(&self, call: u64, maybe: impl Fn(u64) -> bool) -> bool {
        self.again(call, |_| false, maybe).values().all(|again| again.maybe)
    }

    /// What is wrong with the traits with which a call came. `surely` says which later calls count for certain.
    pub fn wrong_part(
        &self,
        call: u64,
        came: &BTreeSet<String>,
        surely: impl Fn(u64) -> bool,
        maybe: impl Fn(u64) -> bool,
    ) -> Option<String> {
        let again = self.again(call, surely, maybe);
        if again.values().all(|again| again.surely) {
            return Some(format!("call {call} came although later ones have set all of it"));
        }
        let wrong = again.iter().find(|(name, again)| match came.contains(**name) {
            true => again.surely_other,
            false => !again.maybe_other,
        })?;
        let how = if came.contains(*wrong.0) { "with" } else { "without" };
        Some(format!("call {call} came {how} {}", wrong.0))
    }

    fn again(
        &self,
        call: u64,
        surely: impl Fn(u64) -> bool,
        maybe: impl Fn(u64) -> bool,
    ) -> BTreeMap<&'static str, Again> {
        let Call { user, traits, .. } = &self.calls[&call];
        let mut again: BTreeMap<&'static str, Again> =
            traits.keys().map(|name| (*name, Again::default())).collect();
        let ours = &self.of_users[user];
        for later in &ours[ours.partition_point(|one| *one <= call)..] {
            let is_certain = surely(*later);
            if !is_certain && !maybe(*later) {
                continue;
            }
            for (name, value) in &self.calls[later].traits {
                let Some(again) = again.get_mut(name) else { continue };
                let is_other = traits[name] != *value;
                again.maybe = true;
                again.maybe_other |= is_other;
                again.surely |= is_certain;
                again.surely_other = is_other && (is_certain || again.surely_other);
            }
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(traits: &[(&'static str, u64)]) -> Call {
        let traits = traits.iter().copied().collect();
        Call { source: "app", user: 1, off: BTreeSet::new(), traits }
    }

    #[test]
    fn parts_are_told_from_what_is_lost() {
        let all =
            [call(&[("n", 1), ("plan", 7), ("color", 1)]), call(&[("n", 2), ("plan", 7)]), call(&[("n", 3)])];
        let calls: Calls = (1..).zip(all).collect();
        let late = Late::new(&calls);
        // With which traits the first call came, which later ones count for certain and which may; what is wrong.
        type Case = (&'static [&'static str], &'static [u64], &'static [u64], Option<&'static str>);
        let cases: [Case; 9] = [
            (&["plan", "color"], &[2, 3], &[], None),
            (&["n", "plan", "color"], &[2], &[3], Some("with n")),
            (&["n", "plan", "color"], &[], &[2, 3], None),
            (&["plan", "color"], &[], &[3], None),
            (&["plan", "color"], &[], &[], Some("without n")),
            (&["color"], &[2, 3], &[], Some("without plan")),
            (&["plan"], &[2, 3], &[], Some("without color")),
            (&["color", "n"], &[2, 3], &[], Some("with n")),
            (&["color", "plan", "n"], &[3], &[2], Some("with n")),
        ];
        for (came, surely, maybe, expected) in cases {
            let names = came.iter().map(|name| (*name).to_owned()).collect();
            let wrong =
                late.wrong_part(1, &names, |call| surely.contains(&call), |call| maybe.contains(&call));
            let is_expected = |wrong: &String| expected.is_some_and(|expected| wrong.contains(expected));
            assert!(
                wrong.as_ref().map_or(expected.is_none(), is_expected),
                "{came:?}, {surely:?}: {wrong:?}"
            );
        }
        let whole = ["n", "plan"].map(str::to_owned).into();
        let wrong = late.wrong_part(2, &whole, |call| call == 3, |_| true);
        assert_eq!(wrong.as_deref(), Some("call 2 came with n"));
        assert!(!late.may_be_nothing(1, |_| true) && !late.may_be_nothing(2, |_| true));
        let calls: Calls = (1..).zip([call(&[("n", 1)]), call(&[("n", 1)])]).collect();
        let late = Late::new(&calls);
        assert!(late.may_be_nothing(1, |_| true) && !late.may_be_nothing(1, |_| false));
        let wrong = late.wrong_part(1, &["n".to_owned()].into(), |_| true, |_| true);
        assert!(wrong.is_some_and(|wrong| wrong.contains("all of it")));
    }
}
