//! A destination's settings, checked against the manifest's schema. It does not decide what they are used for.

use super::bind::{Binder, NameIds};
use super::expression::Source as Written;
use super::functions::Table;
use super::schema::{Kind, Schema, Setting};
use super::source::Data;
use super::value::Value;
use crate::problem::{Problem, nearest};

/// Reads the settings that were given, by their position in the schema; reports everything that is wrong with them.
pub(crate) fn read(
    schema: &Schema,
    destination: &str,
    given: &toml::Table,
) -> (Vec<Option<Value<'static>>>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut problem = |message: String, remedy: String| {
        let message = format!("destination {destination}: {message}");
        problems.push(Problem { file: String::new(), line: 0, column: 0, message, remedy });
    };
    for name in given.keys() {
        if !schema.settings.iter().any(|setting| setting.name == *name) {
            let names = || schema.settings.iter().map(|setting| setting.name.as_str());
            let remedy = match nearest(name, names()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("{} has: {}", schema.adapter.name, names().collect::<Vec<_>>().join(", ")),
            };
            problem(format!("unknown setting {name}"), remedy);
        }
    }
    let mut values = Vec::new();
    for setting in &schema.settings {
        let value = match given.get(&setting.name) {
            Some(value) => match accept(setting, value) {
                Ok(value) => Some(value),
                Err(wanted) => {
                    problem(format!("setting {} {wanted}", setting.name), setting.doc.clone());
                    None
                }
            },
            None if setting.default.is_none() && !setting.optional => {
                problem(format!("setting {} is missing", setting.name), setting.doc.clone());
                None
            }
            None => None,
        };
        values.push(value);
    }
    (values, problems)
}

/// The settings that others make necessary and that were not given.
pub(crate) fn missing(schema: &Schema, destination: &str, binder: &mut Binder<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (position, setting) in schema.settings.iter().enumerate() {
        let Some(condition) = &setting.needed_when else { continue };
        let is_given = binder.settings.get(position).is_some_and(Option::is_some);
        if is_given || !binder.constant(condition).is_some_and(|value| value.holds()) {
            continue;
        }
        let because: Vec<String> = read_in(condition, binder);
        problems.push(Problem {
            file: String::new(),
            line: 0,
            column: 0,
            message: format!(
                "destination {destination}: setting {} is missing{}",
                setting.name,
                with(&because)
            ),
            remedy: setting.doc.clone(),
        });
    }
    problems
}

/// The settings whose condition holds where nothing is given.
pub(crate) fn needed_by_default<'s>(schema: &'s Schema, names: &NameIds) -> Vec<&'s str> {
    let mut binder = Binder::new(schema, names, vec![None; schema.settings.len()]);
    binder.fill_defaults();
    let mut is_needed = |setting: &&Setting| {
        let condition = setting.needed_when.as_ref();
        condition.is_some_and(|condition| binder.constant(condition).is_some_and(|value| value.holds()))
    };
    schema.settings.iter().filter(|setting| is_needed(setting)).map(|setting| setting.name.as_str()).collect()
}

/// The settings that a condition reads, each with its value: `flow = jwt`.
fn read_in(condition: &Data, binder: &Binder<'_>) -> Vec<String> {
    let mut templates = Vec::new();
    condition.templates(&mut templates);
    let paths =
        templates.iter().flat_map(|template| template.pipes()).filter_map(|pipe| match &pipe.source {
            Written::Path(path) if path.root == "settings" => path.first(),
            _ => None,
        });
    let value = |name: &str| {
        let position = binder.schema.settings.iter().position(|one| one.name == name && !one.secret)?;
        let value = binder.settings.get(position)?.as_ref()?.as_text()?.into_owned();
        Some(format!("{name} = {value}"))
    };
    paths.filter_map(value).collect()
}

fn with(because: &[String]) -> String {
    if because.is_empty() { String::new() } else { format!(", needed with {}", because.join(" and ")) }
}

/// The value where it fits the setting, else what it must be; a wrong secret is never repeated.
pub(crate) fn accept(setting: &Setting, given: &toml::Value) -> Result<Value<'static>, String> {
    let value = match (setting.kind, given) {
        (Kind::Bool, toml::Value::Boolean(yes)) => Value::Bool(*yes),
        (Kind::Int, toml::Value::Integer(number)) => Value::whole(*number),
        (Kind::Num, toml::Value::Integer(number)) => Value::whole(*number),
        (Kind::Num, toml::Value::Float(number)) if number.is_finite() => {
            Value::Number(number.to_string().into())
        }
        (Kind::List, toml::Value::Array(items)) => Value::List(items.iter().filter_map(constant).collect()),
        (Kind::Map, toml::Value::Table(_)) => constant(given).unwrap_or(Value::Null),
        (Kind::Text | Kind::Secret | Kind::Url | Kind::Host | Kind::Choice, toml::Value::String(text)) => {
            Value::text(text.clone())
        }
        _ => return Err(format!("must be {}", wanted(setting.kind))),
    };
    check(setting, &value)?;
    // Such as a variable of the environment that is set to nothing.
    let must_hold = setting.default.is_none() && (!setting.optional || setting.needed_when.is_some());
    let is_empty = || value.as_text().is_some_and(|text| text.trim().is_empty());
    if setting.kind == Kind::Secret && must_hold && is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(value)
}

/// Whether a value of the right type is one that the setting allows.
pub(crate) fn check(setting: &Setting, value: &Value<'_>) -> Result<(), String> {
    let text = value.as_text().unwrap_or_default();
    match setting.kind {
        Kind::Choice if !setting.choices.iter().any(|choice| choice.name == text) => {
            let names: Vec<&str> = setting.choices.iter().map(|choice| choice.name.as_str()).collect();
            return Err(format!("is {text}; allowed: {}", names.join(", ")));
        }
        Kind::Url if !is_url(&text) => {
            return Err("must be a url such as https://example.com/path".to_owned());
        }
        Kind::Host if !is_host(&text) => return Err("must be a host such as api.example.com".to_owned()),
        _ => {}
    }
    if let Some(pattern) = &setting.pattern
        && !regex_lite::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(&text))
    {
        return Err(format!("does not match {pattern}"));
    }
    let size = match value {
        Value::Number(number) => number.parse().ok(),
        Value::List(items) => Some(items.len() as f64),
        _ => None,
    };
    match (size, setting.min, setting.max) {
        (Some(size), Some(min), _) if size < min => Err(format!("must be at least {min}")),
        (Some(size), _, Some(max)) if size > max => Err(format!("must be at most {max}")),
        _ => Ok(()),
    }
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Int => "a whole number",
        Kind::Num => "a number",
        Kind::List => "a list",
        Kind::Map => "a table",
        _ => "a text",
    }
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        is_host(rest.get(..end).unwrap_or_default())
            && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
    })
}

/// A name or address, with or without a port.
fn is_host(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_');
    !text.is_empty() && text.chars().all(allowed)
}

fn constant(value: &toml::Value) -> Option<Value<'static>> {
    Some(match value {
        toml::Value::String(text) => Value::text(text.clone()),
        toml::Value::Integer(number) => Value::whole(*number),
        toml::Value::Float(number) if number.is_finite() => Value::Number(number.to_string().into()),
        toml::Value::Boolean(yes) => Value::Bool(*yes),
        toml::Value::Array(items) => Value::List(items.iter().filter_map(constant).collect()),
        toml::Value::Table(table) => Value::Object(
            table.iter().filter_map(|(key, value)| Some((key.clone().into(), constant(value)?))).collect(),
        ),
        _ => return None,
    })
}

/// A setting of type list or map as a table that functions can look into.
pub(crate) fn as_table(value: &Value<'static>) -> Option<Table> {
    match value {
        Value::List(items) => {
            Some(Table::list(items.iter().filter_map(Value::as_text).map(|text| text.into_owned())))
        }
        Value::Object(members) => {
            Some(Table::map(members.iter().map(|(key, value)| (key.clone().into_owned(), value.clone()))))
        }
        _ => None,
    }
}

/// The texts in a secret that must never be shown.
pub(crate) fn secret_texts(value: &Value<'_>, found: &mut Vec<String>) {
    match value {
        Value::List(items) => items.iter().for_each(|item| secret_texts(item, found)),
        Value::Object(members) => members.iter().for_each(|(_, value)| secret_texts(value, found)),
        _ => found
            .extend(value.as_text().map(|text| text.into_owned()).filter(|text| text.chars().count() >= 4)),
    }
}
