//! Functions that compare, look up, and take lists and objects apart.

use super::{Arg, Table};
use crate::manifest::value::{Dates, Value, ValueKind};

pub(super) fn is<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    is_one_of(&input, args).then_some(Value::Bool(true))
}

pub(super) fn not<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    (!is_one_of(&input, args)).then_some(input)
}

fn is_one_of(input: &Value<'_>, args: &[Arg<'_>]) -> bool {
    args.iter().any(|arg| matches!(arg, Arg::Value(Some(other)) if input.same(other)))
}

pub(super) fn in_table<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    table(args)?.contains(&input.as_text()?).then_some(input)
}

pub(super) fn not_in_table<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let found = table(args).is_some_and(|table| input.as_text().is_some_and(|text| table.contains(&text)));
    (!found).then_some(input)
}

pub(super) fn map<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let found: &'a Value<'static> = table(args)?.get(&input.as_text()?)?;
    Some(found.borrow())
}

fn table<'a>(args: &[Arg<'a>]) -> Option<&'a Table> {
    match args.first() {
        Some(Arg::Table(table)) => Some(table),
        _ => None,
    }
}

pub(super) fn list<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    match input.kind() {
        ValueKind::List => Some(input),
        ValueKind::Null | ValueKind::Bytes => None,
        _ => Some(Value::List(vec![input])),
    }
}

pub(super) fn last<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    input.elements()?.pop()
}

pub(super) fn flat<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let elements = input.elements()?.into_iter().flat_map(|element| match element.kind() {
        ValueKind::List => element.elements().unwrap_or_default(),
        _ => vec![element],
    });
    not_empty(elements.collect())
}

pub(super) fn keys<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    not_empty(input.members()?.into_iter().map(|(key, _)| Value::Text(key)).collect())
}

pub(super) fn values<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    not_empty(input.members()?.into_iter().map(|(_, value)| value).collect())
}

fn not_empty(elements: Vec<Value<'_>>) -> Option<Value<'_>> {
    (!elements.is_empty()).then_some(Value::List(elements))
}

pub(super) fn json<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    if matches!(input, Value::Bytes(_)) {
        return None;
    }
    let mut out = String::new();
    input.write_json(&mut out, &Dates::ISO);
    Some(Value::text(out))
}
