//! The rest: traits that no line of a manifest names are handed out to fields, the first that takes one has it.
//! It does not decide where a field is written; bodies do.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::field::{Buffers, bit_of};
use super::functions::time;
use super::render::Scope;
use super::tree::Node;
use super::value::{Value, ValueKind};
use crate::event::{Event, Field};
use crate::names::NameId;
use crate::reserved::{Group, Reserved};

/// What is written for an explicit null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Null {
    #[default]
    Drop,
    Keep,
    /// This JSON.
    Write(Box<str>),
}

/// What becomes of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Nested {
    #[default]
    Keep,
    Drop,
    Json,
    /// Into members of the object around it, names joined by this.
    Flatten(Box<str>),
}

/// What becomes of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Arrays {
    #[default]
    Keep,
    Drop,
    Json,
    /// Into one text, elements joined by this.
    Join(Box<str>),
    Index,
}

/// How the rest is handed out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rest {
    pub null: Null,
    pub dates: Option<Node>,
    pub entries: Vec<Entry>,
    /// How many fields there are.
    pub fields: usize,
    /// Reserved traits that no line names, but for members of groups.
    pub scalars: Vec<Reserved>,
    /// Reserved traits that a line names whose explicit null no line writes; entries that ask for nulls get it.
    pub nulls: Vec<Reserved>,
    /// Members of groups that no line names.
    pub groups: Vec<(Group, Vec<(Reserved, &'static str)>)>,
    /// Custom traits that a line names.
    pub placed: Vec<NameId>,
    pub drop: HashSet<String>,
}

/// One entry of `[rest].fields`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub field: usize,
    /// What is looped over instead of the rest.
    pub of: Option<Node>,
    pub only: Only,
    pub names: Option<HashMap<String, String>>,
    pub drop: HashSet<String>,
    pub kinds: Kinds,
    pub key: Option<Node>,
    /// Whether what becomes of a name depends on the name alone.
    pub key_is_pure: bool,
    pub value: Option<Node>,
    pub max: usize,
    pub null: Null,
    pub nested: Nested,
    pub arrays: Arrays,
    pub dates: Option<Node>,
    pub guess_dates: bool,
}

/// Which traits an entry takes.
#[derive(Clone, Debug)]
pub(crate) enum Only {
    All,
    Names(HashSet<String>),
    /// A list known only when an event or a fetch is there.
    Node(Node),
}

/// A set of kinds of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u16);

impl Kinds {
    pub const ALL: Kinds = Kinds(u16::MAX);

    /// Those named; all when none is.
    pub fn named(names: &[&str]) -> Kinds {
        if names.is_empty() {
            return Kinds::ALL;
        }
        let bits = names.iter().map(|name| match *name {
            "null" => Kinds::bit(ValueKind::Null),
            "true" => Kinds::bit(ValueKind::True),
            "false" => Kinds::bit(ValueKind::False),
            "bool" => Kinds::bit(ValueKind::True) | Kinds::bit(ValueKind::False),
            "number" => Kinds::bit(ValueKind::Number),
            "text" => Kinds::bit(ValueKind::Text),
            "date" => Kinds::bit(ValueKind::Date),
            "list" => Kinds::bit(ValueKind::List),
            _ => Kinds::bit(ValueKind::Object),
        });
        Kinds(bits.fold(0, |all, bit| all | bit))
    }

    fn bit(kind: ValueKind) -> u16 {
        1 << kind as u16
    }

    fn has(self, kind: ValueKind) -> bool {
        self.0 & Kinds::bit(kind) != 0
    }
}

impl Rest {
    /// Hands out an event's rest; the buffers are those of the fields, empty.
    pub fn hand_out<'a>(&'a self, scope: &Scope<'a>, event: &'a Event, buffers: &mut Buffers) {
        if self.entries.iter().any(|entry| entry.of.is_none()) {
            self.hand_out_traits(scope, event, buffers);
        }
        for (position, entry) in self.entries.iter().enumerate() {
            let Some(Ok(value)) = entry.of.as_ref().map(|of| scope.eval(of)) else { continue };
            for (key, value) in entries_of(value) {
                if entry.kinds.has(value.kind()) {
                    entry.write(scope, position, &key, &value, buffers);
                }
            }
        }
    }

    fn hand_out_traits<'a>(&'a self, scope: &Scope<'a>, event: &'a Event, buffers: &mut Buffers) {
        for reserved in &self.scalars {
            let field = event.reserved(*reserved);
            let derived = *reserved == Reserved::Name && event.name_is_derived();
            if field == Field::Absent || derived {
                continue;
            }
            if let Some(value) = Value::from_field(field) {
                self.hand(scope, 0, reserved.name(), reserved.name(), value, buffers);
            }
        }
        for reserved in self.nulls.iter().filter(|reserved| event.reserved(**reserved) == Field::Null) {
            self.hand_null(scope, *reserved, buffers);
        }
        let named = self.placed.iter().filter_map(|id| event.named(*id));
        let placed: Vec<u32> = named.map(|json| json.position()).collect();
        for (group, members) in &self.groups {
            if let Some(value) = self.group(event, *group, members, &placed) {
                self.hand(scope, 0, group.name(), group.name(), value, buffers);
            }
        }
        for (key, json) in event.customs() {
            if placed.contains(&json.position()) || self.drop.contains(key) {
                continue;
            }
            self.hand(scope, 0, key, key, Value::from_json(json), buffers);
        }
    }

    /// Gives the null of a trait that a line names to the first entry that asks for nulls; that of a group's member only
    /// to one that has a name for it.
    fn hand_null<'a>(&'a self, scope: &Scope<'a>, reserved: Reserved, buffers: &mut Buffers) {
        let asks = |(_, entry): &(usize, &Entry)| {
            let has_name = entry.names.as_ref().is_some_and(|names| names.contains_key(reserved.name()));
            entry.of.is_none()
                && entry.kinds != Kinds::ALL
                && entry.kinds.has(ValueKind::Null)
                && (has_name || reserved.place().0.is_none())
                && entry.takes(scope, reserved.name())
        };
        if let Some((position, entry)) = self.entries.iter().enumerate().find(asks) {
            let name = entry.names.as_ref().and_then(|names| names.get(reserved.name()));
            let name = name.map_or(reserved.name(), |name| name);
            entry.write(scope, position, name, &Value::Null, buffers);
        }
    }

    fn group<'a>(
        &self,
        event: &'a Event,
        group: Group,
        members: &[(Reserved, &'static str)],
        placed: &[u32],
    ) -> Option<Value<'a>> {
        let reserved = members.iter().map(|(one, name)| (*name, Value::from_field(event.reserved(*one))));
        let customs = event.group_customs(group).filter(|(_, json)| !placed.contains(&json.position()));
        let customs = customs.map(|(name, json)| (name, Some(Value::from_json(json))));
        let present = |(name, value)| Some((Cow::Borrowed(name), value?));
        let found: Vec<_> = reserved.chain(customs).filter_map(present).collect();
        (!found.is_empty()).then_some(Value::Object(found))
    }

    /// Gives one trait, or one leaf of it, to the first entry from `from` on that takes it.
    fn hand<'a>(
        &'a self,
        scope: &Scope<'a>,
        from: usize,
        of_trait: &str,
        key: &str,
        value: Value<'a>,
        buffers: &mut Buffers,
    ) {
        for (position, entry) in self.entries.iter().enumerate().skip(from) {
            if entry.of.is_some() || !entry.takes(scope, of_trait) {
                continue;
            }
            let kind = value.kind();
            match (kind, &entry.nested, &entry.arrays) {
                (ValueKind::Object, Nested::Flatten(separator), _) => {
                    for (member, value) in value.members().unwrap_or_default() {
                        self.hand(
                            scope,
                            position,
                            of_trait,
                            &format!("{key}{separator}{member}"),
                            value,
                            buffers,
                        );
                    }
                    return;
                }
                (ValueKind::List, _, Arrays::Index) => {
                    for (at, value) in value.elements().unwrap_or_default().into_iter().enumerate() {
                        self.hand(scope, position, of_trait, &format!("{key}.{at}"), value, buffers);
                    }
                    return;
                }
                _ => {}
            }
            let date = match &value {
                Value::Text(text) if entry.guess_dates => time::moment(text).map(Value::Date),
                _ => None,
            };
            if !entry.kinds.has(date.as_ref().unwrap_or(&value).kind()) {
                continue;
            }
            let key = entry.names.as_ref().and_then(|names| names.get(of_trait)).map_or(key, |name| name);
            if let Some(value) = entry.shaped(date.unwrap_or(value)) {
                entry.write(scope, position, key, &value, buffers);
            }
            return;
        }
    }
}

impl Entry {
    /// Whether it takes traits of that name.
    fn takes(&self, scope: &Scope<'_>, name: &str) -> bool {
        let named = match (&self.names, &self.only) {
            (Some(names), _) => names.contains_key(name),
            (None, Only::All) => true,
            (None, Only::Names(names)) => names.contains(name),
            (None, Only::Node(node)) => is_listed(scope, node, name),
        };
        named && !self.drop.contains(name)
    }

    /// Lists and objects as the policies say; `None` where they are dropped.
    fn shaped<'a>(&self, value: Value<'a>) -> Option<Value<'a>> {
        let as_json = |value: &Value<'_>| {
            let mut json = String::new();
            value.write_json(&mut json, &super::value::Dates::ISO);
            json
        };
        match value.kind() {
            ValueKind::Object => match self.nested {
                Nested::Drop => None,
                Nested::Json => Some(Value::text(as_json(&value))),
                _ => Some(value),
            },
            ValueKind::List => match &self.arrays {
                Arrays::Drop => None,
                Arrays::Json => Some(Value::text(as_json(&value))),
                Arrays::Join(joiner) => {
                    let elements = value.elements().unwrap_or_default();
                    let texts: Vec<String> = elements
                        .iter()
                        .map(|element| element.as_text().map_or_else(|| as_json(element), Cow::into_owned))
                        .collect();
                    Some(Value::text(texts.join(joiner)))
                }
                _ => Some(value),
            },
            _ => Some(value),
        }
    }

    /// Writes one member into the entry's field.
    fn write<'a>(
        &'a self,
        scope: &Scope<'a>,
        position: usize,
        key: &str,
        value: &Value<'a>,
        buffers: &mut Buffers,
    ) {
        let (Some(buffer), Some(names)) =
            (buffers.fields.get_mut(self.field), buffers.names.get_mut(position))
        else {
            return;
        };
        let at_hand = Value::text(key);
        let scope = Scope {
            key: Some(&at_hand),
            value: Some(value),
            dates: self.dates.as_ref(),
            guess_dates: self.guess_dates,
            ..*scope
        };
        // Functions of `value` get a date as the policy writes it.
        let date = match (value, &self.value, &self.dates) {
            (Value::Date(_), Some(_), Some(dates)) => scope.eval(dates).ok(),
            _ => None,
        };
        let value = date.as_ref().unwrap_or(value);
        let scope = Scope { value: Some(value), ..scope };
        let name = match &self.key {
            None => Cow::Borrowed(key),
            Some(node) if self.key_is_pure && !scope.hide => match names.name(&scope, node, key) {
                Some(name) => Cow::Borrowed(name),
                None => return,
            },
            Some(node) => match scope.text(node) {
                Ok(name) => name,
                Err(_) => return,
            },
        };
        if buffer.len() >= self.max {
            scope.notes.warn("field_full", key);
            return;
        }
        let bit = bit_of(&name);
        if buffer.has(&name, bit) {
            scope.notes.warn("key_taken", &name);
            return;
        }
        buffer.add(&name, bit, |out| match (value, &self.value) {
            (Value::Null, _) if self.kinds == Kinds::ALL => match &self.null {
                Null::Drop => false,
                Null::Keep => {
                    out.push_str("null");
                    true
                }
                Null::Write(json) => {
                    out.push_str(json);
                    true
                }
            },
            (Value::Null, None) => {
                out.push_str("null");
                true
            }
            (_, Some(node)) => scope.write(node, out).is_ok(),
            (value, None) => scope.write_value(value, out).is_ok(),
        });
    }
}

/// Whether a list that is known only now holds a name; a fetched list that is not there yet holds all.
fn is_listed(scope: &Scope<'_>, node: &Node, name: &str) -> bool {
    match scope.eval(node) {
        Ok(Value::Text(text)) => text.starts_with("<fetch."),
        Ok(list) => list
            .elements()
            .unwrap_or_default()
            .iter()
            .any(|element| element.as_text().as_deref() == Some(name)),
        Err(_) => false,
    }
}

/// A list's or an object's entries; positions are a list's keys.
pub(crate) fn entries_of(value: Value<'_>) -> Vec<(Cow<'_, str>, Value<'_>)> {
    match value.kind() {
        ValueKind::Object => value.members().unwrap_or_default(),
        _ => {
            let elements = value.elements().unwrap_or_default().into_iter().enumerate();
            elements.map(|(at, value)| (Cow::Owned(at.to_string()), value)).collect()
        }
    }
}
