//! A value while an expression of a manifest runs, and how it is written as JSON.
//! It knows neither expressions nor functions, and nothing about where a value goes.

use std::borrow::Cow;

use crate::dates;
use crate::event::{Date, Field};
use crate::json::{Json, Kind, push_compact, push_text};
use crate::manifest::functions::time;

/// A value. *Absent* is `None` around it.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A number in JSON's grammar, as it was written.
    Number(Cow<'a, str>),
    /// `true` or `false`.
    Bool(bool),
    /// A day or a point in time.
    Date(Date),
    /// A list or an object of the call or of a reply.
    Json(Json<'a>),
    /// A list that was put together.
    List(Vec<Value<'a>>),
    /// An object that was put together, in the order in which it is written.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
    /// Bytes, which must be encoded before they are written.
    Bytes(Vec<u8>),
    /// JSON's `null`.
    Null,
}

/// What a [`Value`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// JSON's `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
    /// a number
    Number,
    /// a text
    Text,
    /// a day or a point in time
    Date,
    /// a list
    List,
    /// an object
    Object,
    /// bytes
    Bytes,
}

/// How the dates inside a value are written as JSON.
pub struct Dates<'d> {
    /// Writes one date.
    pub write: &'d dyn Fn(Date, &mut String),
    /// Whether texts that are RFC 3339 with a zone count as dates, at any depth.
    pub guess: bool,
}

impl Dates<'_> {
    /// RFC 3339 in UTC, days as days, texts left alone.
    pub const ISO: Dates<'static> = Dates { write: &write_iso, guess: false };
}

fn iso(date: Date) -> String {
    let mut out = String::new();
    dates::push_iso(&mut out, date);
    out
}

fn write_iso(date: Date, out: &mut String) {
    out.push('"');
    dates::push_iso(out, date);
    out.push('"');
}

impl<'a> Value<'a> {
    /// A value of a call or a reply: scalars and `null` become this type's own, lists and objects stay where they are.
    pub fn from_json(json: Json<'a>) -> Value<'a> {
        match json.kind() {
            Kind::Null => Value::Null,
            Kind::False => Value::Bool(false),
            Kind::True => Value::Bool(true),
            Kind::Number => Value::Number(Cow::Borrowed(json.raw())),
            Kind::Text => Value::Text(json.text().unwrap_or_default()),
            Kind::List | Kind::Object => Value::Json(json),
        }
    }

    /// A reserved trait; `None` where the call does not have it.
    pub fn from_field(field: Field<'a>) -> Option<Value<'a>> {
        match field {
            Field::Absent => None,
            Field::Null => Some(Value::Null),
            Field::Text(text) => Some(Value::Text(Cow::Borrowed(text))),
            Field::Number(number) => Some(Value::Number(Cow::Borrowed(number))),
            Field::Date(date) => Some(Value::Date(date)),
        }
    }

    /// A text that is owned or borrowed.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Value<'a> {
        Value::Text(text.into())
    }

    /// A whole number.
    pub fn whole(number: impl Into<i128>) -> Value<'a> {
        Value::Number(Cow::Owned(number.into().to_string()))
    }

    /// The same value, its texts borrowed from this one.
    pub fn borrow(&'a self) -> Value<'a> {
        match self {
            Value::Text(text) => Value::Text(Cow::Borrowed(text)),
            Value::Number(number) => Value::Number(Cow::Borrowed(number)),
            other => other.clone(),
        }
    }

    /// What it is.
    pub fn kind(&self) -> ValueKind {
        match self {
            Value::Text(_) => ValueKind::Text,
            Value::Number(_) => ValueKind::Number,
            Value::Bool(true) => ValueKind::True,
            Value::Bool(false) => ValueKind::False,
            Value::Date(_) => ValueKind::Date,
            Value::Json(json) if json.kind() == Kind::Object => ValueKind::Object,
            Value::Json(_) | Value::List(_) => ValueKind::List,
            Value::Object(_) => ValueKind::Object,
            Value::Bytes(_) => ValueKind::Bytes,
            Value::Null => ValueKind::Null,
        }
    }

    /// A scalar as text: dates as RFC 3339 in UTC. `None` for lists, objects, bytes and `null`.
    pub fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::Text(text) | Value::Number(text) => Some(Cow::Borrowed(text)),
            Value::Bool(bool) => Some(Cow::Borrowed(if *bool { "true" } else { "false" })),
            Value::Date(date) => Some(Cow::Owned(iso(*date))),
            _ => None,
        }
    }

    /// As [`Value::as_text`], without a copy where there is a text already.
    pub fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Value::Text(text) | Value::Number(text) => Some(text),
            Value::Bool(bool) => Some(Cow::Borrowed(if bool { "true" } else { "false" })),
            Value::Date(date) => Some(Cow::Owned(iso(date))),
            _ => None,
        }
    }

    /// A number's text, in JSON's grammar; `None` for anything else.
    pub fn as_number(&self) -> Option<&str> {
        match self {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Whether a condition holds that has this value: it is there, and not `false`. `null` counts as not there.
    pub fn holds(&self) -> bool {
        !matches!(self, Value::Bool(false) | Value::Null)
    }

    /// A text without anything but white space.
    pub fn is_blank(&self) -> bool {
        matches!(self, Value::Text(text) if super::forms::is_blank(text))
    }

    /// Whether both are the same scalar: compared as texts, numbers by their value (`1` and `1.0` are the same). Lists,
    /// objects and bytes are the same as nothing.
    pub fn same(&self, other: &Value<'_>) -> bool {
        if let (Value::Null, Value::Null) = (self, other) {
            return true;
        }
        if let (Some(a), Some(b)) = (self.as_number(), other.as_number()) {
            return a == b || a.parse::<f64>().ok().zip(b.parse::<f64>().ok()).is_some_and(|(a, b)| a == b);
        }
        self.as_text().zip(other.as_text()).is_some_and(|(a, b)| a == b)
    }

    /// The elements of a list; `None` for anything else.
    pub fn elements(self) -> Option<Vec<Value<'a>>> {
        match self {
            Value::List(elements) => Some(elements),
            Value::Json(json) if json.kind() == Kind::List => {
                Some(json.elements().map(Value::from_json).collect())
            }
            _ => None,
        }
    }

    /// The members of an object in their order; `None` for anything else.
    pub fn members(self) -> Option<Vec<(Cow<'a, str>, Value<'a>)>> {
        match self {
            Value::Object(members) => Some(members),
            Value::Json(json) if json.kind() == Kind::Object => {
                Some(json.members().map(|(key, value)| (key, Value::from_json(value))).collect())
            }
            _ => None,
        }
    }

    /// The member of an object by its exact name.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Value::Json(json) => json.get(name).map(Value::from_json),
            Value::Object(members) => {
                members.iter().rfind(|(key, _)| key == name).map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    /// The element of a list by position, counted from 0.
    pub fn index(&self, position: usize) -> Option<Value<'a>> {
        match self {
            Value::Json(json) => json.index(position).map(Value::from_json),
            Value::List(elements) => elements.get(position).cloned(),
            _ => None,
        }
    }

    /// Writes it as compact JSON. Bytes cannot be written, which the loader has made sure of; they become `null`.
    pub fn write_json(&self, out: &mut String, dates: &Dates<'_>) {
        match self {
            Value::Text(text) => write_text(out, text, dates),
            Value::Number(number) => out.push_str(number),
            Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
            Value::Date(date) => (dates.write)(*date, out),
            Value::Json(json) => write_received(out, *json, dates),
            Value::List(elements) => {
                write_list(out, elements.iter(), |out, value| value.write_json(out, dates))
            }
            Value::Object(members) => {
                write_object(out, members.iter().map(|(key, value)| (&**key, value)), |out, value| {
                    value.write_json(out, dates);
                });
            }
            Value::Bytes(_) | Value::Null => out.push_str("null"),
        }
    }
}

/// Writes what a call or a reply holds, without white space between values: it counts against vendors' limits, line
/// breaks part records in some bodies, and the same value must always give the same text.
fn write_received(out: &mut String, json: Json<'_>, dates: &Dates<'_>) {
    if !dates.guess {
        return push_compact(out, json);
    }
    match json.kind() {
        Kind::Text => write_text(out, &json.text().unwrap_or_default(), dates),
        Kind::List => write_list(out, json.elements(), |out, value| write_received(out, value, dates)),
        Kind::Object => write_object(out, json.members(), |out, value| write_received(out, value, dates)),
        _ => out.push_str(json.raw()),
    }
}

fn write_text(out: &mut String, text: &str, dates: &Dates<'_>) {
    match time::moment(text).filter(|_| dates.guess) {
        Some(date) => (dates.write)(date, out),
        None => push_text(out, text),
    }
}

fn write_list<T>(out: &mut String, elements: impl Iterator<Item = T>, write: impl Fn(&mut String, T)) {
    out.push('[');
    for (position, element) in elements.enumerate() {
        if position > 0 {
            out.push(',');
        }
        write(out, element);
    }
    out.push(']');
}

fn write_object<K: AsRef<str>, V>(
    out: &mut String,
    members: impl Iterator<Item = (K, V)>,
    write: impl Fn(&mut String, V),
) {
    out.push('{');
    for (position, (key, value)) in members.enumerate() {
        if position > 0 {
            out.push(',');
        }
        push_text(out, key.as_ref());
        out.push(':');
        write(out, value);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Doc;

    fn written(value: &Value<'_>, dates: &Dates<'_>) -> String {
        let mut out = String::new();
        value.write_json(&mut out, dates);
        out
    }

    #[test]
    fn json_is_written_compactly_with_its_dates() {
        let seconds = Dates { write: &|_, out| out.push_str("DATE"), guess: true };
        for (text, plain, guessed) in [
            (
                r#"{"a": 1.50, "b":[true, null]}"#,
                r#"{"a":1.50,"b":[true,null]}"#,
                r#"{"a":1.50,"b":[true,null]}"#,
            ),
            ("{\n \"a\": [\r\n1 ]}", r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"at":["2024-03-05T09:30:00Z"]}"#, r#"{"at":["2024-03-05T09:30:00Z"]}"#, r#"{"at":[DATE]}"#),
            (
                r#"["2024-03-05", "2024-03-05T09:30:00"]"#,
                r#"["2024-03-05","2024-03-05T09:30:00"]"#,
                r#"["2024-03-05","2024-03-05T09:30:00"]"#,
            ),
            (r#""é\u00e9\n""#, "\"éé\\n\"", "\"éé\\n\""),
            ("[]", "[]", "[]"),
            ("{}", "{}", "{}"),
        ] {
            let doc = Doc::parse(text.into()).unwrap();
            let value = Value::from_json(doc.root());
            assert_eq!(written(&value, &Dates::ISO), plain, "{text}");
            assert_eq!(written(&value, &seconds), guessed, "{text}");
        }
    }

    #[test]
    fn built_values_are_written_in_order() {
        let value = Value::Object(vec![
            ("b\"".into(), Value::List(vec![Value::whole(1), Value::Null, Value::Bool(true)])),
            ("a".into(), Value::Date(Date::Moment(1_709_631_000_000))),
            ("day".into(), Value::Date(Date::Day(7_648))),
        ]);
        assert_eq!(
            written(&value, &Dates::ISO),
            r#"{"b\"":[1,null,true],"a":"2024-03-05T09:30:00Z","day":"1990-12-10"}"#
        );
    }

    #[test]
    fn sameness_is_of_scalars_and_by_text() {
        let number = |text: &'static str| Value::Number(text.into());
        for (a, b, same) in [
            (number("1"), number("1.0"), true),
            (number("1"), number("2"), false),
            (number("601"), Value::text("601"), true),
            (Value::Bool(true), Value::text("true"), true),
            (Value::text("A"), Value::text("a"), false),
            (Value::Null, Value::Null, true),
            (Value::Null, Value::text("null"), false),
            (Value::List(vec![]), Value::List(vec![]), false),
            (Value::Date(Date::Day(0)), Value::text("1970-01-01"), true),
        ] {
            assert_eq!(a.same(&b), same, "{a:?} {b:?}");
        }
    }

    #[test]
    fn conditions_hold_unless_false_or_null() {
        assert!(Value::text("false").holds());
        assert!(Value::whole(0).holds());
        assert!(!Value::Bool(false).holds());
        assert!(!Value::Null.holds());
    }

    #[test]
    fn members_and_elements_are_found_in_either_form() {
        let doc = Doc::parse(r#"{"a":[1,"x"],"a":[2]}"#.into()).unwrap();
        let received = Value::from_json(doc.root());
        let built = Value::Object(vec![("a".into(), Value::List(vec![Value::whole(2)]))]);
        for value in [received, built] {
            assert_eq!(value.get("a").unwrap().index(0).unwrap().as_text().unwrap(), "2");
            assert!(value.get("b").is_none());
            assert!(value.index(0).is_none());
        }
    }
}
