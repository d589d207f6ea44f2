//! A constant list or map of a manifest, prepared for look-ups that ignore case.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::manifest::value::Value;

/// A constant list or map: one of `[tables]`, or a setting of type list or map.
#[derive(Clone, Debug, Default)]
pub struct Table {
    names: Vec<String>,
    by_name: HashMap<String, Value<'static>>,
}

impl Table {
    /// A list of texts; each stands for itself.
    pub fn list(names: impl IntoIterator<Item = String>) -> Table {
        Table::map(names.into_iter().map(|name| (name.clone(), Value::text(name))))
    }

    /// A map from texts to values; of two names that differ in case only, the first one counts.
    pub fn map(entries: impl IntoIterator<Item = (String, Value<'static>)>) -> Table {
        let mut table = Table::default();
        for (name, value) in entries {
            table.by_name.entry(fold(&name).into_owned()).or_insert(value);
            table.names.push(name);
        }
        table
    }

    /// The value for a text, case ignored.
    pub fn get(&self, name: &str) -> Option<&Value<'static>> {
        self.by_name.get(&*fold(name))
    }

    /// Whether it holds a text, case ignored.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The list's texts or the map's names, as they are written and in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

fn fold(name: &str) -> Cow<'_, str> {
    let plain = name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if plain { Cow::Borrowed(name) } else { Cow::Owned(name.to_lowercase()) }
}
