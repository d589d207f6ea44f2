//! The groups of reserved traits as values.

use std::borrow::Cow;

use super::value::Value;
use crate::event::Event;
use crate::reserved::{Group, Reserved};

/// The members of `address`, `company` or `subscription` that the call has.
pub(super) fn group_value(event: &Event, group: Group) -> Option<Value<'_>> {
    let mut members = Vec::new();
    for one in Reserved::ALL.iter().filter(|one| one.place().0 == Some(group)) {
        members.extend(
            Value::from_field(event.reserved(*one)).map(|value| (Cow::Borrowed(one.place().1), value)),
        );
    }
    let customs = event.group_customs(group);
    members.extend(customs.map(|(key, json)| (Cow::Borrowed(key), Value::from_json(json))));
    (!members.is_empty()).then_some(Value::Object(members))
}
