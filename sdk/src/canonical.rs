//! Writes an event as JSON in canonical names, for vendors that take the call as a whole.
//! It does not choose what a vendor gets; manifests do.

use crate::dates;
use crate::event::{CallType, Date, Event, Field};
use crate::json::{push_compact, push_text};
use crate::reserved::{Group, Reserved};

/// Members of a call that [`Event::write_canonical`] writes itself or leaves out: type and times stand
/// in a manifest's own words beside the call; flags are for the router, the credential and `_metadata` for nobody else.
const HANDLED: &[&str] = &[
    "type",
    "messageId",
    "message_id",
    "userId",
    "user_id",
    "anonymousId",
    "anonymous_id",
    "timestamp",
    "originalTimestamp",
    "original_timestamp",
    "sentAt",
    "sent_at",
    "receivedAt",
    "received_at",
    "context",
    "traits",
    "integrations",
    "writeKey",
    "write_key",
    "_metadata",
];

impl Event {
    /// Writes the call: its ids, the traits as [`Event::write_traits`] does, the context; what else the call holds follows
    /// untouched, such as a track call's `event` and `properties`.
    pub fn write_canonical(&self, out: &mut String) {
        let root = self.raw();
        let mut object = Object::open(out);
        if !self.message_id().is_empty() {
            push_text(object.member("messageId"), self.message_id());
        }
        for (name, id) in [("userId", self.user_id()), ("anonymousId", self.anonymous_id())] {
            if let Some(id) = id {
                push_text(object.member(name), id);
            }
        }
        if self.call_type() == CallType::Identify {
            self.write_traits(object.member("traits"));
        } else if let Some(traits) = root.get("traits") {
            push_compact(object.member("traits"), traits);
        }
        if let Some(context) = self.context() {
            push_compact(object.member("context"), context);
        }
        for (key, value) in root.members() {
            if !HANDLED.contains(&&*key) {
                push_compact(object.member(&key), value);
            }
        }
        object.close();
    }

    /// Writes the traits as one object: reserved ones under their canonical names in the order of [`Reserved::ALL`],
    /// dates in UTC with milliseconds, days as `YYYY-MM-DD`; behind them the custom ones, untouched.
    pub fn write_traits(&self, out: &mut String) {
        let mut object = Object::open(out);
        let mut written = Vec::new();
        for reserved in Reserved::ALL.iter().copied() {
            match reserved.place() {
                (None, name) => {
                    let is_hidden =
                        reserved == Reserved::Name && self.name_is_derived() && self.has_custom("name");
                    if !is_hidden && self.reserved(reserved) != Field::Absent {
                        push_field(object.member(name), self.reserved(reserved));
                    }
                }
                (Some(group), _) if !written.contains(&group) => {
                    written.push(group);
                    if self.has_group(group) {
                        self.write_group(group, object.member(group.name()));
                    }
                }
                _ => {}
            }
        }
        for (key, value) in self.customs() {
            let is_group = Group::ALL.iter().any(|group| group.name() == key && self.has_group(*group));
            if !is_group {
                push_compact(object.member(key), value);
            }
        }
        object.close();
    }

    fn write_group(&self, group: Group, out: &mut String) {
        let mut object = Object::open(out);
        for (reserved, name) in members(group) {
            let field = self.reserved(reserved);
            if field != Field::Absent {
                push_field(object.member(name), field);
            }
        }
        for (key, value) in self.group_customs(group) {
            push_compact(object.member(key), value);
        }
        object.close();
    }

    fn has_group(&self, group: Group) -> bool {
        members(group).any(|(reserved, _)| self.reserved(reserved) != Field::Absent)
            || self.group_customs(group).next().is_some()
    }

    fn has_custom(&self, name: &str) -> bool {
        self.customs().any(|(key, _)| key == name)
    }
}

fn members(group: Group) -> impl Iterator<Item = (Reserved, &'static str)> {
    Reserved::ALL.iter().filter_map(move |reserved| match reserved.place() {
        (Some(of), name) if of == group => Some((*reserved, name)),
        _ => None,
    })
}

fn push_field(out: &mut String, field: Field<'_>) {
    match field {
        Field::Absent | Field::Null => out.push_str("null"),
        Field::Text(text) => push_text(out, text),
        Field::Number(number) => out.push_str(number),
        Field::Date(date) => push_date(out, date),
    }
}

fn push_date(out: &mut String, date: Date) {
    out.push('"');
    dates::push_iso_ms(out, date);
    out.push('"');
}

/// A JSON object that is being written at the end of a text.
struct Object<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut String) -> Object<'a> {
        out.push('{');
        Object { out, is_empty: true }
    }

    fn member(&mut self, key: &str) -> &mut String {
        if !self.is_empty {
            self.out.push(',');
        }
        self.is_empty = false;
        push_text(self.out, key);
        self.out.push(':');
        self.out
    }

    fn close(self) {
        self.out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Names;

    fn canonical(text: &str) -> String {
        let mut out = String::new();
        Event::parse(text.into(), 1_714_644_931_000, &Names::default()).unwrap().write_canonical(&mut out);
        out
    }

    #[test]
    fn writes_canonical_names_and_forms() {
        let call = r#"{"type":"Identify","message_id":"m","user_id":7,"anonymousId":"a","writeKey":"w","_metadata":{"x":1},
            "timestamp":"2024-05-02T12:15:30+02:00","sent_at":"2024-05-02T10:15:31Z","receivedAt":"1999-01-01","version":"1.2",
            "traits":{"firstName":"Ada","createdAt":1577836800,"dob":"1988-12-10","company":{"id":9,"name":" E "},
            "zip":94103,"Address":{"city":"London","planet":"Earth"},"old":null,"phone":null,"n":1.50,"x y":"\u00e9"},
            "extra":[1, 2]}"#;
        assert_eq!(
            canonical(call),
            r#"{"messageId":"m","userId":"7","anonymousId":"a","traits":{"address":{"city":"London","postal_code":"94103","planet":"Earth"},"birthday":"1988-12-10","company":{"id":9,"name":"E"},"created_at":"2020-01-01T00:00:00.000Z","first_name":"Ada","phone":null,"old":null,"n":1.50,"x y":"\u00e9"},"version":"1.2","extra":[1,2]}"#
        );
    }

    #[test]
    fn other_types_keep_their_own_fields() {
        let call = r#"{"type":"group","userId":"u","messageId":"m","groupId":"g","traits":{"firstName":"x"},"context":{"ip":""},"integrations":{"All":true}}"#;
        let expected =
            r#"{"messageId":"m","userId":"u","traits":{"firstName":"x"},"context":{"ip":""},"groupId":"g"}"#;
        assert_eq!(canonical(call), expected);
    }

    #[test]
    fn no_key_is_written_twice() {
        for (traits, expected) in [
            (r#"{"address":[1],"city":"Q"}"#, r#"{"address":{"city":"Q"}}"#),
            (r#"{"address":[1]}"#, r#"{"address":[1]}"#),
            (
                r#"{"name":5,"first_name":"A","last_name":"B"}"#,
                r#"{"first_name":"A","last_name":"B","name":5}"#,
            ),
            (r#"{"address":null}"#, r#"{"address":null}"#),
        ] {
            let mut out = String::new();
            let call = format!(r#"{{"type":"identify","userId":"u","traits":{traits}}}"#);
            Event::parse(call.into(), 0, &Names::default()).unwrap().write_traits(&mut out);
            assert_eq!(out, expected, "{traits}");
        }
    }
}
