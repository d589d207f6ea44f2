//! A call without the traits that later calls of the same user have set again: what is left of it when it is sent late.
//!
//! Identifies are partial updates, so an old call is not worthless because a newer one was delivered: only what the
//! newer one said too is. Which calls are later, and which of them were delivered, is for others to say.

use std::collections::HashSet;
use std::sync::Arc;

use crate::event::{Event, Field, Given, Slot};
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

/// A trait that a call sets or unsets, whatever spelling it was given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trait<'a> {
    /// A reserved one.
    Reserved(Reserved),
    /// A reserved object as a whole, as where it is set to null.
    Object(Group),
    /// Any other, of the traits or of a reserved object, under the caller's own key.
    Custom(Option<Group>, &'a str),
}

/// What a trait is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value<'a> {
    /// In the reserved trait's one form.
    Field(Field<'a>),
    /// Any other, as it was written.
    Json(&'a str),
}

/// Whether later calls have set a trait again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// None has.
    No,
    /// The last one that did has set it to the same value.
    Same,
    /// The last one that did has set it to another value, or unset it.
    Other,
}

impl Again {
    /// What two say together that do not know of each other.
    pub fn and(self, other: Again) -> Again {
        match (self, other) {
            (Again::No, again) | (again, Again::No) => again,
            (Again::Same, Again::Same) => Again::Same,
            _ => Again::Other,
        }
    }
}

impl Event {
    /// The traits that an identify sets or unsets, and to what; a name that was put together from others is one of them.
    /// None for calls of other types.
    pub fn set_traits(&self) -> impl Iterator<Item = (Trait<'_>, Value<'_>)> {
        let given = Reserved::ALL.iter().copied().filter_map(|reserved| {
            let field = self.reserved(reserved);
            (field != Field::Absent).then_some((Trait::Reserved(reserved), Value::Field(field)))
        });
        let groups = [None].into_iter().chain(Group::ALL.iter().copied().map(Some));
        let customs = groups.flat_map(|group| {
            let members = self.members_of(group);
            members.map(move |(key, value)| (named(group, key, value), Value::Json(value.raw())))
        });
        given.chain(customs)
    }

    /// What is left of this call after later ones, of which it is asked what they have set again.
    ///
    /// A trait that was set to another value is taken out. One that was set to the same value stays while anything else
    /// does: it does no harm, and the vendor may know the person by it.
    pub fn without(&self, again: impl Fn(Trait<'_>, Value<'_>) -> Again) -> Left {
        let again = |one: Trait<'_>, value: Value<'_>| of_object(&again, one, value);
        let sent = |(one, _): &(Trait<'_>, Value<'_>)| {
            !self.name_is_derived || *one != Trait::Reserved(Reserved::Name)
        };
        let mut traits = self.set_traits().filter(sent).map(|(one, value)| again(one, value)).peekable();
        if traits.peek().is_some() && traits.all(|again| again != Again::No) {
            return Left::Nothing;
        }
        let mut rest = Rest { event: self, again: &again, text: String::new(), took: false };
        rest.call(self.raw());
        let Rest { text, mut took, .. } = rest;
        let reduced = Event::parse(text.into(), self.received_at_ms(), &Names::default());
        // It was a call before, and only traits are gone; were it none now, the whole of it would be no worse.
        let Ok(mut reduced) = reduced else { return Left::Whole };
        let name = Value::Field(reduced.reserved(Reserved::Name));
        if reduced.name_is_derived && again(Trait::Reserved(Reserved::Name), name) == Again::Other {
            took = true;
            reduced.name_is_derived = false;
            if let Some(name) = reduced.reserved.get_mut(Reserved::Name as usize) {
                *name = Slot::Absent;
            }
            reduced.given = Given::of(&reduced.reserved);
        }
        if !took {
            return Left::Whole;
        }
        let mut moved = Vec::new();
        pair_up(self.raw(), reduced.raw(), &mut moved);
        reduced.named = self.named.iter().map(|position| moved_to(&moved, *position)).collect();
        Left::Part(Box::new(reduced))
    }
}

/// Which of these calls of one user, oldest first, set a trait that no later one of them sets. What a call before them all
/// is [`Event::without`] does not depend on the others.
pub fn still_say(calls: &[Arc<Event>]) -> Vec<bool> {
    let mut said = HashSet::new();
    let mut newest_first = Vec::with_capacity(calls.len());
    for event in calls.iter().rev() {
        // Not `any`: each of its traits is said from here on.
        let new = event.set_traits().filter(|(one, _)| said.insert(*one)).count();
        newest_first.push(new > 0);
    }
    newest_first.reverse();
    newest_first
}

type Asked<'s> = &'s dyn Fn(Trait<'_>, Value<'_>) -> Again;

/// Whether a trait was set again, by itself or with the object that it is a member of; an object, or one of its members.
fn of_object(again: Asked<'_>, one: Trait<'_>, value: Value<'_>) -> Again {
    let is_set = |one: Trait<'_>| again(one, value) != Again::No;
    let is_other = match one {
        Trait::Reserved(reserved) => reserved.place().0.is_some_and(|object| is_set(Trait::Object(object))),
        Trait::Custom(object, _) => object.is_some_and(|object| is_set(Trait::Object(object))),
        Trait::Object(object) => object.members().iter().any(|(member, _)| is_set(Trait::Reserved(*member))),
    };
    if is_other { Again::Other } else { again(one, value) }
}

/// Which trait a member of the traits, or of a reserved object in them, is.
fn named<'k>(group: Option<Group>, key: &'k str, value: Json<'_>) -> Trait<'k> {
    match find(group, key).map(|Found { meaning, .. }| meaning) {
        Some(Meaning::Trait(reserved) | Meaning::Flat(reserved)) => Trait::Reserved(reserved),
        Some(Meaning::Group(object)) => match object.of_text() {
            Some(member) if value.kind() == Kind::Text => Trait::Reserved(member),
            _ => Trait::Object(object),
        },
        None => Trait::Custom(group, key),
    }
}

/// The call's text without some of its traits, wherever it has traits, as it is written.
struct Rest<'s> {
    event: &'s Event,
    again: Asked<'s>,
    text: String,
    /// Whether something was taken out.
    took: bool,
}

impl Rest<'_> {
    fn call(&mut self, call: Json<'_>) {
        self.object(call, |rest, key, value| match key {
            "traits" if value.kind() == Kind::Object => rest.traits(value),
            "context" if value.kind() == Kind::Object => {
                rest.object(value, |rest, key, value| match key {
                    "traits" if value.kind() == Kind::Object => rest.traits(value),
                    _ => rest.keep(value),
                });
                true
            }
            _ => rest.keep(value),
        });
    }

    fn traits(&mut self, traits: Json<'_>) -> bool {
        self.object(traits, |rest, key, value| match named(None, key, value) {
            Trait::Object(object) if value.kind() == Kind::Object => rest.members(object, value),
            one => !rest.takes(one, value) && rest.keep(value),
        });
        true
    }

    /// Of a reserved object, which goes with the last of its members.
    fn members(&mut self, object: Group, value: Json<'_>) -> bool {
        let was_empty = value.pairs().next().is_none();
        let before = self.text.len();
        self.object(value, |rest, key, value| {
            !rest.takes(named(Some(object), key, value), value) && rest.keep(value)
        });
        was_empty || self.text.get(before..) != Some("{}")
    }

    fn takes(&mut self, one: Trait<'_>, json: Json<'_>) -> bool {
        let field = match one {
            Trait::Reserved(reserved) => self.event.reserved(reserved),
            _ => Field::Absent,
        };
        let value = if field == Field::Absent { Value::Json(json.raw()) } else { Value::Field(field) };
        let takes = (self.again)(one, value) == Again::Other;
        self.took |= takes;
        takes
    }

    fn keep(&mut self, value: Json<'_>) -> bool {
        self.text.push_str(value.raw());
        true
    }

    /// Writes an object with those members for which `write` writes a value and says so.
    fn object(&mut self, json: Json<'_>, mut write: impl FnMut(&mut Self, &str, Json<'_>) -> bool) {
        self.text.push('{');
        let mut first = true;
        for (key, value) in json.members() {
            let before = self.text.len();
            if !first {
                self.text.push(',');
            }
            push_text(&mut self.text, &key);
            self.text.push(':');
            if write(self, &key, value) {
                first = false;
            } else {
                self.text.truncate(before);
            }
        }
        self.text.push('}');
    }
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
    use std::collections::HashMap;

    use super::*;
    use crate::names::Root;

    fn call(traits: &str) -> Event {
        named(traits, &Names::default())
    }

    /// What is left of a call after others, the traits of which are asked for as its users do.
    fn rest(dead: &Event, later: &[Event]) -> Left {
        let set: HashMap<Trait<'_>, Value<'_>> = later.iter().flat_map(Event::set_traits).collect();
        dead.without(|one, value| match set.get(&one) {
            None => Again::No,
            Some(last) if *last == value => Again::Same,
            Some(_) => Again::Other,
        })
    }

    fn named(traits: &str, names: &Names) -> Event {
        let text = format!(
            r#"{{"type":"identify","userId":"u","messageId":"m","timestamp":"2026-01-02T03:04:05Z","context":{{"ip":"1.2.3.4"}},"integrations":{{"x":false}},"traits":{traits}}}"#
        );
        Event::parse(text.into(), 7, names).unwrap()
    }

    #[test]
    fn only_calls_that_say_what_no_later_one_says_still_say_something() {
        let calls = [
            r#"{"email":"a@example.com","town":1}"#,
            r#"{"address":{"city":"Paris"},"plan":1}"#,
            r#"{"email":null}"#,
            r#"{"address":null}"#,
            r#"{"plan":1,"Email":"b@example.com"}"#,
            "{}",
        ];
        let calls: Vec<Arc<Event>> = calls.iter().map(|traits| Arc::new(call(traits))).collect();
        assert_eq!(still_say(&calls), [true, true, false, true, true, false]);
        assert_eq!(still_say(&calls[..2]), [true, true]);
        assert_eq!(still_say(&calls[2..5]), [false, true, true]);
        assert!(still_say(&[]).is_empty());
    }

    #[test]
    fn what_later_calls_said_is_taken_out_and_the_rest_stays() {
        for (dead, later, left) in [
            (r#"{"a":1,"b":2}"#, vec![r#"{"b":3}"#], r#"{"a":1}"#),
            (r#"{"a":1,"b":2}"#, vec![r#"{"b":null}"#], r#"{"a":1}"#),
            (r#"{"a":1,"b":2,"c":3}"#, vec![r#"{"b":3}"#, r#"{"c":4}"#], r#"{"a":1}"#),
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
            (r#"{"city":"P","a":1}"#, vec![r#"{"Address":null}"#], r#"{"a":1}"#),
            (r#"{"address":{"city":"P"},"a":1}"#, vec![r#"{"Address":null}"#], r#"{"a":1}"#),
            (r#"{"address":null,"a":1}"#, vec![r#"{"address":{"city":"R"}}"#], r#"{"a":1}"#),
            (
                r#"{"email":"a@b.co","n":1,"a":1}"#,
                vec![r#"{"Email":" a@b.co ","n":2}"#],
                r#"{"email":"a@b.co","a":1}"#,
            ),
            (r#"{"b":1,"a":1}"#, vec![r#"{"b":2}"#, r#"{"b":1}"#], "whole"),
            (r#"{"b":1,"a":1}"#, vec![r#"{"b":1}"#, r#"{"b":2}"#], r#"{"a":1}"#),
            (r#"{"city":"P","a":1}"#, vec![r#"{"city":"P"}"#, r#"{"address":null}"#], r#"{"a":1}"#),
            (r#"{}"#, vec![r#"{"a":1}"#], "whole"),
            (r#"{ "a" : 1 }"#, vec![r#"{"b":1}"#], "whole"),
            (r#"{"company":"Acme","a":1}"#, vec![r#"{"company":{"name":"Other"}}"#], r#"{"a":1}"#),
            (r#"{"plan":{"a":1},"b":1}"#, vec![r#"{"plan":{"c":1}}"#], r#"{"b":1}"#),
            (r#"{"a\"b":1,"c":[{"d":1}]}"#, vec![r#"{"e":1}"#, r#"{"a\"b":2}"#], r#"{"c":[{"d":1}]}"#),
        ] {
            let events: Vec<Event> = later.iter().map(|traits| call(traits)).collect();
            let found = match rest(&call(dead), &events) {
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
            rest(&call(r#"{"first_name":"Ada","last_name":"L"}"#), &[call(r#"{"name":"Ada K"}"#)])
        else {
            // Nothing was taken out of its text, yet the name that it gave rise to is.
            panic!("it is not the whole call any more");
        };
        assert_eq!(event.reserved(Reserved::Name), Field::Absent);
        assert_eq!(event.reserved(Reserved::FirstName), Field::Text("Ada"));
    }

    #[test]
    fn of_two_answers_the_stricter_one_counts() {
        use Again::{No, Other, Same};
        for (one, other, together) in
            [(No, No, No), (No, Same, Same), (Same, Other, Other), (Same, Same, Same)]
        {
            assert_eq!((one.and(other), other.and(one)), (together, together));
        }
    }

    #[test]
    fn named_values_are_found_where_they_moved_to() {
        let mut names = Names::default();
        let [a, b] = ["a", "b"].map(|name| names.intern(Root::Custom, &[name.to_owned()]).unwrap());
        let dead = named(r#"{"a":1,"x":[1,{"y":2}],"b":{"c":3}}"#, &names);
        let Left::Part(event) = rest(&dead, &[call(r#"{"a":2,"x":1}"#)]) else { panic!("a part is left") };
        assert!(event.named(a).is_none());
        assert_eq!(event.named(b).unwrap().raw(), r#"{"c":3}"#);
    }

    #[test]
    fn traits_that_the_call_did_not_have_do_not_come_up() {
        let text = r#"{"type":"identify","userId":"u","messageId":"m","traits":{"a":1},"context":{"traits":{"b":2}}}"#;
        let dead = Event::parse(text.into(), 0, &Names::default()).unwrap();
        assert!(matches!(rest(&dead, &[call(r#"{"a":2}"#)]), Left::Nothing));
    }

    #[test]
    fn traits_in_the_context_count_and_other_calls_do_not() {
        let text = r#"{"type":"identify","userId":"u","messageId":"m","context":{"traits":{"a":1,"b":2}}}"#;
        let dead = Event::parse(text.into(), 0, &Names::default()).unwrap();
        let Left::Part(event) = rest(&dead, &[call(r#"{"a":2}"#)]) else { panic!("a part is left") };
        assert_eq!(event.context().unwrap().raw(), r#"{"traits":{"b":2}}"#);
        let text = r#"{"type":"track","event":"e","userId":"u","messageId":"m"}"#;
        let track = Event::parse(text.into(), 0, &Names::default()).unwrap();
        assert!(matches!(rest(&dead, std::slice::from_ref(&track)), Left::Whole));
        assert!(matches!(rest(&track, &[dead]), Left::Whole));
    }
}
