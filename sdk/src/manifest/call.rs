//! The groups of reserved traits as values.

use std::borrow::Cow;

use super::value::Value;
use crate::event::Event;
use crate::reserved::{Group, Reserved};

/// The members of `address`, `company` or `subscription` that the call has: those of `reserved`, and the others.
pub(super) fn group_value<'a>(
    event: &'a Event,
    group: Group,
    reserved: &[(Reserved, &'static str)],
) -> Option<Value<'a>> {
    let given = reserved.iter().filter(|(one, _)| event.gives(*one));
    let count = given.clone().count() + event.group_customs(group).count();
    if count == 0 {
        return None;
    }
    let mut members = Vec::with_capacity(count);
    for (one, member) in given {
        if let Some(value) = Value::from_field(event.reserved(*one)) {
            members.push((Cow::Borrowed(*member), value));
        }
    }
    let customs = event.group_customs(group);
    members.extend(customs.map(|(key, json)| (Cow::Borrowed(key), Value::from_json(json))));
    Some(Value::Object(members))
}
