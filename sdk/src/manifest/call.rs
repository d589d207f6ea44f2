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
    let mut members = Vec::new();
    for (one, member) in reserved {
        if let Some(value) = Value::from_field(event.reserved(*one)) {
            members.push((Cow::Borrowed(*member), value));
        }
    }
    let customs = event.group_customs(group);
    members.extend(customs.map(|(key, json)| (Cow::Borrowed(key), Value::from_json(json))));
    (!members.is_empty()).then_some(Value::Object(members))
}
