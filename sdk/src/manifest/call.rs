//! The call as a whole, and its groups of traits, in canonical names.

use std::borrow::Cow;

use super::value::{Dates, Value};
use crate::event::Event;
use crate::json::push_text;
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

/// The call in canonical names: its ids, traits and context.
pub(super) fn write_event(event: &Event, out: &mut String) {
    let member = |out: &mut String, name: &str, value: &Value<'_>| {
        if !out.ends_with('{') {
            out.push(',');
        }
        push_text(out, name);
        out.push(':');
        value.write_json(out, &Dates::ISO);
    };
    out.push('{');
    member(out, "messageId", &Value::text(event.message_id()));
    for (name, id) in [("userId", event.user_id()), ("anonymousId", event.anonymous_id())] {
        if let Some(id) = id {
            member(out, name, &Value::text(id));
        }
    }
    out.push_str(",\"traits\":{");
    for reserved in Reserved::ALL.iter().copied() {
        let is_derived = reserved == Reserved::Name && event.name_is_derived();
        if let (None, name) = reserved.place()
            && let Some(value) = Value::from_field(event.reserved(reserved)).filter(|_| !is_derived)
        {
            member(out, name, &value);
        }
    }
    for group in Group::ALL {
        if let Some(value) = group_value(event, *group) {
            member(out, group.name(), &value);
        }
    }
    for (key, json) in event.customs() {
        member(out, key, &Value::from_json(json));
    }
    out.push('}');
    if let Some(context) = event.context() {
        member(out, "context", &Value::from_json(context));
    }
    out.push('}');
}
