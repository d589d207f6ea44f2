//! The traits of an identify call: which are reserved, which of several spellings counts, which stay as they are.
//! It does not judge values; `values` does.

use std::collections::HashMap;

use super::values::Reading;
use super::{Draft, Refusal, is_blank, text_at, warning};
use crate::event::{Custom, Date, Slot};
use crate::json::{Json, Kind};
use crate::names::Root;
use crate::reserved::{Found, Group, Meaning, Reserved, find};

/// A value that wants to be a reserved trait.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    reserved: Reserved,
    /// The object that it stands in.
    group: Option<Group>,
    /// Preferred where it is lowest: inside its object, then by its dotted name, then beside the object; of each by
    /// [`Found::rank`].
    rank: u16,
    key: Option<Json<'a>>,
    value: Json<'a>,
}

/// Beside its object; see [`Candidate::rank`].
const FLAT: u16 = 512;
const DOTTED: u16 = 256;

/// Reserved traits whose slots are in the order start, end.
const PERIODS: [(Reserved, Reserved); 2] = [
    (Reserved::SubscriptionServiceTrialPeriodStartAt, Reserved::SubscriptionServiceTrialPeriodEndAt),
    (Reserved::SubscriptionServicePeriodStartAt, Reserved::SubscriptionServicePeriodEndAt),
];

/// The traits from where the call has them: `traits`, or `context.traits` where those are missing or empty.
pub(super) fn choose<'a>(
    traits: Option<Json<'a>>,
    in_context: Option<Json<'a>>,
) -> Result<Option<Json<'a>>, Refusal> {
    let traits = traits.filter(|traits| !is_empty(*traits));
    if traits.is_some_and(|traits| traits.kind() != Kind::Object) {
        return Err(Refusal::new(
            "traits_not_object",
            "traits is not an object; send an object of names and values",
        ));
    }
    Ok(traits.or(in_context.filter(|traits| traits.kind() == Kind::Object)))
}

/// Null, `{}` or `[]`, which is what PHP makes of `{}`.
fn is_empty(json: Json<'_>) -> bool {
    match json.kind() {
        Kind::Null => true,
        Kind::List => json.elements().next().is_none(),
        Kind::Object => json.pairs().next().is_none(),
        _ => false,
    }
}

impl<'a> Draft<'a> {
    /// Sorts the traits into reserved and custom ones.
    pub(super) fn traits(&mut self, traits: Option<Json<'a>>) {
        self.reserved = vec![Slot::Absent; Reserved::COUNT].into();
        let Some(traits) = traits else { return };
        let mut candidates = Vec::with_capacity(24);
        for (key, value) in traits.pairs() {
            let found = match key.plain_text() {
                Some(name) => find(None, name),
                None => find(None, &key.text().unwrap_or_default()),
            };
            match found {
                None => self.keep(None, key, value),
                Some(Found { meaning: Meaning::Trait(reserved), rank, is_dotted }) => {
                    let place = if is_dotted { DOTTED } else { 0 };
                    let rank = place + u16::from(rank);
                    candidates.push(Candidate { reserved, group: None, rank, key: Some(key), value });
                }
                Some(Found { meaning: Meaning::Flat(reserved), rank, .. }) => {
                    let rank = FLAT + u16::from(rank);
                    candidates.push(Candidate { reserved, group: None, rank, key: Some(key), value });
                }
                Some(Found { meaning: Meaning::Group(group), .. }) => {
                    self.group(group, key, value, &mut candidates)
                }
            }
        }
        let in_place = self.customs.len();
        self.settle_all(&candidates);
        if self.customs.len() > in_place {
            self.customs.sort_by_key(|custom| custom.value);
        }
        self.drop_repeated();
        self.derive_name();
        self.check_periods();
        self.note_customs();
    }

    /// A trait that is passed on as it is.
    fn keep(&mut self, group: Option<Group>, key: Json<'a>, value: Json<'a>) {
        let key = self.text(key);
        if group.is_none() && self.get(key).contains([' ', '.']) && !self.warned(warning::TRAIT_KEY_CHARS) {
            let name = self.get(key).to_owned();
            self.warn(warning::TRAIT_KEY_CHARS, &name);
        }
        self.customs.push(Custom { group, key, value: value.position() });
    }

    fn warned(&self, kind: &str) -> bool {
        self.warnings.iter().any(|warning| warning.kind == kind)
    }

    /// `address`, `company` or `subscription`.
    fn group(&mut self, group: Group, key: Json<'a>, value: Json<'a>, candidates: &mut Vec<Candidate<'a>>) {
        match (value.kind(), group.of_text()) {
            (Kind::Object, _) => {
                for (key, value) in value.pairs() {
                    let found = match key.plain_text() {
                        Some(name) => find(Some(group), name),
                        None => find(Some(group), &key.text().unwrap_or_default()),
                    };
                    match found {
                        Some(Found { meaning: Meaning::Trait(reserved), rank, .. }) => {
                            candidates.push(Candidate {
                                reserved,
                                group: Some(group),
                                rank: u16::from(rank),
                                key: Some(key),
                                value,
                            })
                        }
                        _ => self.keep(Some(group), key, value),
                    }
                }
            }
            // A wish to unset the object as a whole.
            (Kind::Null, _) => self.keep(None, key, value),
            _ if is_empty(value) || is_blank(value) => {}
            (Kind::Text, Some(reserved)) => {
                candidates.push(Candidate { reserved, group: None, rank: 255, key: Some(key), value });
            }
            _ => {
                self.warn(warning::TRAIT_INVALID, group.name());
                self.keep(None, key, value);
            }
        }
    }

    fn settle_all(&mut self, candidates: &[Candidate<'a>]) {
        let mut seen: u64 = 0;
        let mut contested: u64 = 0;
        for candidate in candidates {
            let bit = 1u64 << (candidate.reserved as u8);
            contested |= seen & bit;
            seen |= bit;
        }
        for candidate in candidates {
            let bit = 1u64 << (candidate.reserved as u8);
            if contested & bit == 0 {
                self.settle(candidate.reserved, std::slice::from_ref(candidate));
            }
        }
        for reserved in
            Reserved::ALL.iter().copied().filter(|reserved| contested >> (*reserved as u8) & 1 == 1)
        {
            self.settle_contested(reserved, candidates);
        }
    }

    fn settle_contested(&mut self, reserved: Reserved, candidates: &[Candidate<'a>]) {
        let name = |candidate: &Candidate<'a>| candidate.key.and_then(Json::text).unwrap_or_default();
        let mut rivals: Vec<Candidate<'a>> =
            candidates.iter().filter(|candidate| candidate.reserved == reserved).copied().collect();
        rivals.sort_by(|a, b| {
            let by_rank = a.rank.cmp(&b.rank).then_with(|| name(a).cmp(&name(b)));
            // The last one of a key that is given twice stands for both.
            by_rank.then(b.value.position().cmp(&a.value.position()))
        });
        rivals.dedup_by(|b, a| a.rank == b.rank && a.group == b.group && name(a) == name(b));
        self.settle(reserved, &rivals);
    }

    /// Gives a reserved trait the value of the first candidate that has a valid one.
    fn settle(&mut self, reserved: Reserved, candidates: &[Candidate<'a>]) {
        let mut chosen: Option<(Slot, u16)> = None;
        let mut conflict = false;
        let mut saw_null = false;
        let mut invalid = false;
        for candidate in candidates {
            // Beside an object that has the trait already it is something else, and stays.
            if candidate.rank >= FLAT && chosen.is_some_and(|(_, rank)| rank < FLAT) {
                self.keep_candidate(candidate);
                continue;
            }
            match self.value(reserved, candidate.value) {
                Reading::Blank => {}
                Reading::Null => saw_null = true,
                Reading::Foreign => conflict = true,
                Reading::Invalid => {
                    conflict |= chosen.is_some();
                    invalid |= candidate.rank < FLAT;
                }
                Reading::Valid(slot) => match chosen {
                    None => chosen = Some((slot, candidate.rank)),
                    Some((first, _)) => conflict |= !self.same(first, slot),
                },
            }
        }
        if invalid {
            self.warn(warning::TRAIT_INVALID, reserved.name());
        }
        if conflict {
            self.warn(warning::TRAIT_CONFLICT, reserved.name());
        }
        let slot = match chosen {
            Some((slot, _)) => slot,
            None => {
                let kept = self.customs.len();
                for candidate in candidates {
                    if matches!(self.value(reserved, candidate.value), Reading::Invalid | Reading::Foreign) {
                        self.keep_candidate(candidate);
                    }
                }
                if saw_null && self.customs.len() == kept { Slot::Null } else { Slot::Absent }
            }
        };
        if let Some(place) = self.reserved.get_mut(reserved as usize) {
            *place = slot;
        }
    }

    fn keep_candidate(&mut self, candidate: &Candidate<'a>) {
        if let Some(key) = candidate.key {
            self.keep(candidate.group, key, candidate.value);
        }
    }

    fn same(&self, a: Slot, b: Slot) -> bool {
        match (a, b) {
            (Slot::Text(a), Slot::Text(b)) | (Slot::Number(a), Slot::Number(b)) => self.get(a) == self.get(b),
            (Slot::Date(a), Slot::Date(b)) => a == b,
            _ => false,
        }
    }

    /// Of a custom trait that is given twice under the same key, the last one counts.
    fn drop_repeated(&mut self) {
        let count = self.customs.len();
        let mut repeated = Vec::new();
        if count <= 32 {
            for (at, custom) in self.customs.iter().enumerate() {
                let length = custom.key.end - custom.key.start;
                let mut later = self.customs.iter().skip(at + 1);
                let is_same = |other: &Custom| {
                    other.key.end - other.key.start == length
                        && other.group == custom.group
                        && self.get(other.key) == self.get(custom.key)
                };
                if later.any(is_same) {
                    repeated.push(at);
                }
            }
        } else {
            let mut last: HashMap<(Option<Group>, &str), usize> = HashMap::with_capacity(count);
            for (at, custom) in self.customs.iter().enumerate() {
                repeated.extend(last.insert((custom.group, self.get(custom.key)), at));
            }
            repeated.sort_unstable();
        }
        if repeated.is_empty() {
            return;
        }
        let mut repeated = repeated.into_iter().peekable();
        let mut at = 0..;
        self.customs.retain(|_| repeated.next_if_eq(&at.next().unwrap_or_default()).is_none());
    }

    fn slot(&self, reserved: Reserved) -> Slot {
        self.reserved.get(reserved as usize).copied().unwrap_or_default()
    }

    fn set(&mut self, reserved: Reserved, slot: Slot) {
        if let Some(place) = self.reserved.get_mut(reserved as usize) {
            *place = slot;
        }
    }

    /// Fills the name from first and last name where the caller gave none.
    fn derive_name(&mut self) {
        let (Slot::Absent | Slot::Null, Slot::Text(first), Slot::Text(last)) =
            (self.slot(Reserved::Name), self.slot(Reserved::FirstName), self.slot(Reserved::LastName))
        else {
            return;
        };
        let name = format!("{} {}", self.get(first), self.get(last));
        let span = self.make(&name);
        self.set(Reserved::Name, Slot::Text(span));
        self.name_is_derived = true;
    }

    fn check_periods(&mut self) {
        for (start, end) in PERIODS {
            if let (Slot::Date(from), Slot::Date(to)) = (self.slot(start), self.slot(end))
                && Date::unix_ms(to) < Date::unix_ms(from)
            {
                self.warn(warning::TRAIT_SUSPECT, end.name());
            }
        }
    }

    /// Notes where the paths that manifests name stand among the custom traits.
    fn note_customs(&mut self) {
        let root = self.names.branch(Root::Custom);
        for custom in &self.customs {
            let branch = match custom.group {
                None => Some(root),
                Some(group) => root.child(group.name()),
            };
            let name = text_at(self.doc, &self.made, custom.key);
            if let (Some(branch), Some(value)) =
                (branch.and_then(|branch| branch.child(name)), self.doc.at(custom.value))
            {
                branch.note(value, &mut self.named);
            }
        }
    }
}
