//! Makes the subjects of golden cases from a manifest, with its adapter's Rust code where it has some.

use std::sync::Arc;

use super::{Factory, Subject};
use crate::adapter::{self, Adapter, Code};
use crate::json::{Json, Kind};
use crate::names::Names;

/// The name under which a case's destination is configured.
pub(super) const DESTINATION: &str = "case";

/// Loads an adapter that is a manifest alone, and gives what configures it with a case's settings.
///
/// # Errors
/// Everything that is wrong with the manifest, with line and column.
pub fn manifest_factory(file_name: &str, text: &str) -> Result<Box<Factory<'static>>, Vec<String>> {
    factory(file_name, text, None)
}

/// Loads an adapter as a binary carries it, and gives what configures it with a case's settings.
///
/// # Errors
/// As [`manifest_factory`].
pub fn adapter_factory(adapter: &Adapter) -> Result<Box<Factory<'static>>, Vec<String>> {
    factory(&adapter.file(), adapter.manifest, adapter.code)
}

/// Loads a manifest with the Rust code that goes with it, and gives what configures both with a case's settings.
///
/// # Errors
/// As [`manifest_factory`].
pub fn factory(
    file_name: &str,
    text: &str,
    code: Option<Code>,
) -> Result<Box<Factory<'static>>, Vec<String>> {
    let mut names = Names::default();
    let manifest = adapter::load(file_name, text, code, &mut names)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let manifest = Arc::new(manifest);
    let spellings: Vec<String> = std::iter::once(manifest.name())
        .chain(manifest.aliases().iter().map(String::as_str))
        .map(str::to_owned)
        .collect();
    Ok(Box::new(move |settings| {
        let settings = table(settings)?;
        let plan = manifest
            .bind(DESTINATION, &settings)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let destination = adapter::destination(plan, code);
        Ok(Subject { destination, names: names.clone(), spellings: spellings.clone() })
    }))
}

fn table(settings: Json<'_>) -> Result<toml::Table, Vec<String>> {
    settings.members().map(|(key, value)| Ok((key.into_owned(), toml_value(value)?))).collect()
}

fn toml_value(json: Json<'_>) -> Result<toml::Value, Vec<String>> {
    let number = || json.number().unwrap_or_default();
    Ok(match json.kind() {
        Kind::Null => return Err(vec!["a setting cannot be null: leave it out".to_owned()]),
        Kind::True => toml::Value::Boolean(true),
        Kind::False => toml::Value::Boolean(false),
        Kind::Text => toml::Value::String(json.text().unwrap_or_default().into_owned()),
        Kind::Number => match number().parse::<i64>() {
            Ok(whole) => toml::Value::Integer(whole),
            Err(_) => toml::Value::Float(number().parse().unwrap_or(f64::NAN)),
        },
        Kind::List => toml::Value::Array(json.elements().map(toml_value).collect::<Result<_, _>>()?),
        Kind::Object => toml::Value::Table(table(json)?),
    })
}
