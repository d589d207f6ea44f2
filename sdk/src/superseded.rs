//! A call without the traits that later calls of the same user have set again: what is left of it when it is sent late.
//!
//! Identifies are partial updates, so an old call is not worthless because a newer one was delivered: only what the
//! newer one said too is. Which calls are later, and which of them were delivered, is for others to say.

use std::collections::HashSet;

use crate::event::{CallType, Event, Slot};
use crate::json::{Json, Kind, push_text};
use crate::names::Names;
use crate::reserved::{Found, Group, Meaning, Reserved, find};

/// What is left of a call.
#[derive(Debug)]
pub enum Left {
    /// All of it: no later call says anything about its traits.
    Whole,
    /// Some of its traits, as a call of its own with the same ids, times and flags.
    Part(Box<Event>),
    /// None of its traits.
    Nothing,
}

/// A trait, whatever spelling a call gave it in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Trait {
    Reserved(Reserved),
    Custom(Option<Group>, String),
}

/// Which traits calls have set or unset.
#[derive(Default)]
struct Set(HashSet<Trait>);

impl Set {
    fn add(&mut self, event: &Event) {
        let given = Reserved::ALL
            .iter()
            .copied()
            .filter(|reserved| !matches!(event.reserved.get(*reserved as usize), None | Some(Slot::Absent)));
        self.0.extend(given.map(Trait::Reserved));
        let customs = event.customs().map(|(key, _)| Trait::Custom(None, key.to_owned()));
        self.0.extend(customs);
        for group in Group::ALL.iter().copied() {
            let members = event.group_customs(group);
            self.0.extend(members.map(|(key, _)| Trait::Custom(Some(group), key.to_owned())));
        }
    }

    fn has_custom(&self, group: Option<Group>, key: &str) -> bool {
        self.0.contains(&Trait::Custom(group, key.to_owned()))
    }

    fn has_reserved(&self, reserved: Reserved) -> bool {
        self.0.contains(&Trait::Reserved(reserved))
    }

    /// Whether a member of the traits, or of a reserved object in them, was set again.
    fn has(&self, group: Option<Group>, key: &str, value: Json<'_>) -> bool {
        if self.has_custom(group, key) {
            return true;
        }
        match find(group, key).map(|Found { meaning, .. }| meaning) {
            Some(Meaning::Trait(reserved) | Meaning::Flat(reserved)) => self.has_reserved(reserved),
            // A text in an object's place stands for one of its members.
            Some(Meaning::Group(Group::Address)) if value.kind() == Kind::Text => {
                self.has_reserved(Reserved::AddressStreet)
            }
            Some(Meaning::Group(Group::Company)) if value.kind() == Kind::Text => {
                self.has_reserved(Reserved::CompanyName)
            }
            _ => false,
        }
    }
}

impl Event {
    /// What is left of this call when the traits are taken out that these later calls have set or unset.
    pub fn without<'a>(&self, later: impl IntoIterator<Item = &'a Event>) -> Left {
        let mut set = Set::default();
        let is_identify = |event: &&Event| event.call_type() == CallType::Identify;
        let mut any = false;
        later.into_iter().filter(is_identify).for_each(|event| {
            any = true;
            set.add(event);
        });
        if !any || self.call_type() != CallType::Identify {
            return Left::Whole;
        }
        let text = rewritten(self.raw(), &set);
        let reduced = Event::parse(text.into(), self.received_at_ms(), &Names::default());
        // It was a call before, and only traits are gone; were it none now, the whole of it would be no worse.
        let Ok(mut reduced) = reduced else { return Left::Whole };
        let mut is_whole = reduced.raw().raw().len() == self.raw().raw().len();
        if reduced.name_is_derived && set.has_reserved(Reserved::Name) {
            is_whole = false;
            reduced.name_is_derived = false;
            if let Some(name) = reduced.reserved.get_mut(Reserved::Name as usize) {
                *name = Slot::Absent;
            }
        }
        let has_any = |event: &Event| {
            !event.customs.is_empty() || event.reserved.iter().any(|slot| !matches!(slot, Slot::Absent))
        };
        if !has_any(&reduced) {
            return Left::Nothing;
        }
        if is_whole {
            return Left::Whole;
        }
        let mut moved = Vec::new();
        pair_up(self.raw(), reduced.raw(), &mut moved);
        reduced.named = self.named.iter().map(|position| moved_to(&moved, *position)).collect();
        Left::Part(Box::new(reduced))
    }
}

/// The call's text without the traits of a set, wherever the call has traits.
fn rewritten(call: Json<'_>, set: &Set) -> String {
    let mut out = String::with_capacity(call.raw().len());
    object(&mut out, call, |out, key, value| match key {
        "traits" if value.kind() == Kind::Object => traits(out, value, set),
        "context" if value.kind() == Kind::Object => object(out, value, |out, key, value| match key {
            "traits" if value.kind() == Kind::Object => traits(out, value, set),
            _ => keep(out, value),
        }),
        _ => keep(out, value),
    });
    out
}

fn traits(out: &mut String, traits: Json<'_>, set: &Set) -> bool {
    object(out, traits, |out, key, value| {
        if set.has(None, key, value) {
            return false;
        }
        match find(None, key).map(|Found { meaning, .. }| meaning) {
            Some(Meaning::Group(group)) if value.kind() == Kind::Object => {
                let was_empty = value.pairs().next().is_none();
                let before = out.len();
                let members = |out: &mut String, key: &str, value: Json<'_>| {
                    !set.has(Some(group), key, value) && keep(out, value)
                };
                object(out, value, members);
                was_empty || out.get(before..) != Some("{}")
            }
            _ => keep(out, value),
        }
    })
}

fn keep(out: &mut String, value: Json<'_>) -> bool {
    out.push_str(value.raw());
    true
}

/// Writes an object with those members for which `write` writes a value and says so.
fn object(
    out: &mut String,
    json: Json<'_>,
    mut write: impl FnMut(&mut String, &str, Json<'_>) -> bool,
) -> bool {
    out.push('{');
    let mut first = true;
    for (key, value) in json.members() {
        let before = out.len();
        if !first {
            out.push(',');
        }
        push_text(out, &key);
        out.push(':');
        if write(out, &key, value) {
            first = false;
        } else {
            out.truncate(before);
        }
    }
    out.push('}');
    true
}

/// Where the values of a call stand in what is left of it: pairs of positions, rising.
fn pair_up(old: Json<'_>, new: Json<'_>, moved: &mut Vec<(u32, u32)>) {
    moved.push((old.position(), new.position()));
    let mut left = new.members().peekable();
    for (key, value) in old.members() {
        if let Some((_, kept)) = left.next_if(|(kept, _)| *kept == key) {
            pair_up(value, kept, moved);
        }
    }
    for (value, kept) in old.elements().zip(new.elements()) {
        pair_up(value, kept, moved);
    }
}

/// The place of a named value, counted from 1; 0 where it has none any more.
fn moved_to(moved: &[(u32, u32)], position: u32) -> u32 {
    let Some(old) = position.checked_sub(1) else { return 0 };
    let at = moved.binary_search_by_key(&old, |(old, _)| *old);
    at.ok().and_then(|at| moved.get(at)).map_or(0, |(_, new)| new + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Field;
    use crate::names::Root;

    fn call(traits: &str) -> Event {
        named(traits, &Names::default())
    }

    fn named(traits: &str, names: &Names) -> Event {
        let text = format!(
            r#"{{"type":"identify","userId":"u","messageId":"m","timestamp":"2026-01-02T03:04:05Z","context":{{"ip":"1.2.3.4"}},"integrations":{{"x":false}},"traits":{traits}}}"#
        );
        Event::parse(text.into(), 7, names).unwrap()
    }

    #[test]
    fn what_later_calls_said_is_taken_out_and_the_rest_stays() {
        for (dead, later, left) in [
            (r#"{"a":1,"b":2}"#, vec![r#"{"b":3}"#], r#"{"a":1}"#),
            (r#"{"a":1,"b":2}"#, vec![r#"{"b":null}"#], r#"{"a":1}"#),
            (r#"{"a":1,"b":2,"c":3}"#, vec![r#"{"b":3}"#, r#"{"c":3}"#], r#"{"a":1}"#),
            (r#"{"a":1}"#, vec![r#"{"b":3}"#], "whole"),
            (r#"{"a":1}"#, vec![], "whole"),
            (r#"{"a":1}"#, vec![r#"{"a":1}"#], "nothing"),
            (r#"{"firstName":"A","email":"a@b.co"}"#, vec![r#"{"first_name":"B"}"#], r#"{"email":"a@b.co"}"#),
            (
                r#"{"address":{"city":"P","zip":"1","x":1}}"#,
                vec![r#"{"address":{"postal_code":"2"}}"#],
                r#"{"address":{"city":"P","x":1}}"#,
            ),
            (r#"{"address":{"city":"P"},"a":1}"#, vec![r#"{"city":"R"}"#], r#"{"a":1}"#),
            (r#"{"address":{"city":"P"},"a":1}"#, vec![r#"{"address":null}"#], r#"{"a":1}"#),
            (r#"{"company":"Acme","a":1}"#, vec![r#"{"company":{"name":"Other"}}"#], r#"{"a":1}"#),
            (r#"{"plan":{"a":1},"b":1}"#, vec![r#"{"plan":{"c":1}}"#], r#"{"b":1}"#),
            (r#"{"a\"b":1,"c":[{"d":1}]}"#, vec![r#"{"e":1}"#, r#"{"a\"b":2}"#], r#"{"c":[{"d":1}]}"#),
        ] {
            let later: Vec<Event> = later.into_iter().map(call).collect();
            let found = match call(dead).without(&later) {
                Left::Whole => "whole".to_owned(),
                Left::Nothing => "nothing".to_owned(),
                Left::Part(event) => {
                    let of = (event.user_id(), event.message_id(), event.received_at_ms());
                    assert_eq!(of, (Some("u"), "m", 7));
                    assert_eq!(event.timestamp_ms(), call(dead).timestamp_ms());
                    assert_eq!(event.integrations().unwrap().raw(), r#"{"x":false}"#);
                    event.raw().get("traits").unwrap().raw().to_owned()
                }
            };
            assert_eq!(found, left, "{dead} after {later:?}");
        }
    }

    #[test]
    fn a_name_that_would_be_put_together_does_not_undo_a_later_one() {
        let Left::Part(event) =
            call(r#"{"first_name":"Ada","last_name":"L"}"#).without([&call(r#"{"name":"Ada K"}"#)])
        else {
            // Nothing was taken out of its text, yet the name that it gave rise to is.
            panic!("it is not the whole call any more");
        };
        assert_eq!(event.reserved(Reserved::Name), Field::Absent);
        assert_eq!(event.reserved(Reserved::FirstName), Field::Text("Ada"));
    }

    #[test]
    fn named_values_are_found_where_they_moved_to() {
        let mut names = Names::default();
        let [a, b] = ["a", "b"].map(|name| names.intern(Root::Custom, &[name.to_owned()]).unwrap());
        let dead = named(r#"{"a":1,"x":[1,{"y":2}],"b":{"c":3}}"#, &names);
        let Left::Part(event) = dead.without([&call(r#"{"a":2,"x":1}"#)]) else { panic!("a part is left") };
        assert!(event.named(a).is_none());
        assert_eq!(event.named(b).unwrap().raw(), r#"{"c":3}"#);
    }

    #[test]
    fn traits_in_the_context_count_and_other_calls_do_not() {
        let text = r#"{"type":"identify","userId":"u","messageId":"m","context":{"traits":{"a":1,"b":2}}}"#;
        let dead = Event::parse(text.into(), 0, &Names::default()).unwrap();
        let Left::Part(event) = dead.without([&call(r#"{"a":2}"#)]) else { panic!("a part is left") };
        assert_eq!(event.context().unwrap().raw(), r#"{"traits":{"b":2}}"#);
        let text = r#"{"type":"track","event":"e","userId":"u","messageId":"m"}"#;
        let track = Event::parse(text.into(), 0, &Names::default()).unwrap();
        assert!(matches!(dead.without([&track]), Left::Whole));
        assert!(matches!(track.without([&dead]), Left::Whole));
    }
}
