//! Constants while a manifest is bound: joined, and made from TOML or from what was evaluated.

use super::functions::Table;
use super::settings::as_table;
use super::source::{Node as Toml, Raw};
use super::tree::Node;
use super::value::Value;

/// Neighbouring constants as one, but for secret ones, which are masked by themselves.
pub(super) fn merged(parts: Vec<Node>) -> Vec<Node> {
    let mut left: Vec<Node> = Vec::new();
    for part in parts {
        let joined = match (left.last().and_then(Node::as_constant), part.as_constant()) {
            (Some(before), Some(constant)) if !before.secret && !constant.secret => {
                before.value.as_text().zip(constant.value.as_text()).map(|(a, b)| format!("{a}{b}"))
            }
            _ => None,
        };
        match joined {
            Some(text) => {
                left.pop();
                left.push(Node::text(text));
            }
            None => left.push(part),
        }
    }
    left
}

pub(super) fn constant_of(node: &Toml) -> Value<'static> {
    match &node.value {
        Raw::Text(text) => Value::text(text.replace("{{", "{").replace("}}", "}")),
        Raw::Number(number) => Value::Number(number.clone().into()),
        Raw::Bool(yes) => Value::Bool(*yes),
        Raw::List(items) => Value::List(items.iter().map(constant_of).collect()),
        Raw::Table(table) => Value::Object(
            table.iter().map(|(key, node)| (key.text.clone().into(), constant_of(node))).collect(),
        ),
    }
}

pub(super) fn constant_table(node: &Toml) -> Table {
    as_table(&constant_of(node)).unwrap_or_default()
}

/// A value that borrows from nothing.
pub(super) fn into_owned(value: Value<'_>) -> Value<'static> {
    match value {
        Value::Text(text) => Value::Text(text.into_owned().into()),
        Value::Number(number) => Value::Number(number.into_owned().into()),
        Value::Bool(yes) => Value::Bool(yes),
        Value::Date(date) => Value::Date(date),
        Value::Json(json) => super::render::owned(json),
        Value::List(items) => Value::List(items.into_iter().map(into_owned).collect()),
        Value::Object(members) => Value::Object(
            members.into_iter().map(|(key, value)| (key.into_owned().into(), into_owned(value))).collect(),
        ),
        Value::Bytes(bytes) => Value::Bytes(bytes),
        Value::Null => Value::Null,
    }
}
