//! The rest: traits that no line of a manifest names are handed out to fields, the first that takes one has it.
//! It does not decide where a field is written; bodies do.

use std::borrow::Cow;

use super::call::group_value;
use super::field::FieldBuffer;
use super::forms::{DatePolicy, Found, TextForm};
use super::functions::time;
use super::lookup::{Hashed, NameMap, NameSet};
use super::render::Scope;
use super::tree::Node;
use super::value::{Value, ValueKind};
use crate::event::{Event, Field};
use crate::json::{Json, Kind};
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
    pub dates: Option<DatePolicy>,
    pub entries: Vec<Entry>,
    /// How many fields there are.
    pub fields: usize,
    /// Reserved traits that no line names, but for members of groups.
    pub scalars: Vec<Scalar>,
    /// Reserved traits that a line names whose explicit null no line writes; entries that ask for nulls get it.
    pub nulls: Vec<Reserved>,
    /// Members of groups that no line names, each with its name there.
    pub groups: Vec<(Group, Vec<(Reserved, &'static str)>)>,
    /// Custom traits that a line names.
    pub placed: Vec<NameId>,
    pub drop: NameSet,
}

/// A reserved trait that entries may take.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    reserved: Reserved,
    name: Hashed<'static>,
    /// What at least one entry could take of it.
    accepts: Kinds,
}

/// One entry of `[rest].fields`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub field: usize,
    /// What is looped over instead of the rest.
    pub of: Option<Node>,
    pub only: Only,
    pub names: Option<NameMap<String>>,
    pub drop: NameSet,
    pub kinds: Kinds,
    /// What it could take before the policies: nothing else needs a look at names.
    pub accepts: Kinds,
    pub key: Option<Node>,
    pub naming: Naming,
    pub value: Option<Node>,
    pub max: usize,
    pub null: Null,
    pub nested: Nested,
    pub arrays: Arrays,
    pub dates: Option<DatePolicy>,
    pub guess_dates: bool,
}

/// How an entry makes a member's name of a trait's.
#[derive(Clone, Debug)]
pub(crate) enum Naming {
    /// It leaves it as it is.
    Same,
    /// The usual functions.
    Part(TextForm),
    /// The entry's `key`, whatever it is.
    Node,
}

/// Which traits an entry takes.
#[derive(Clone, Debug)]
pub(crate) enum Only {
    All,
    Names(Listed),
    /// A list known only when an event or a fetch is there.
    Node(Node),
}

/// Names known when the destination is configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listed {
    names: NameSet,
    /// What stands behind the `*` of `*_at`.
    endings: Box<[Box<str>]>,
}

impl FromIterator<String> for Listed {
    fn from_iter<I: IntoIterator<Item = String>>(listed: I) -> Self {
        let (endings, names): (Vec<String>, Vec<String>) =
            listed.into_iter().partition(|name| name.len() > 1 && name.starts_with('*'));
        let ending = |name: String| name.trim_start_matches('*').into();
        Listed { names: names.into_iter().collect(), endings: endings.into_iter().map(ending).collect() }
    }
}

impl Listed {
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.endings.is_empty()
    }

    fn has(&self, name: Hashed<'_>) -> bool {
        self.names.has(name) || self.endings.iter().any(|ending| name.name.ends_with(&**ending))
    }
}

/// A set of kinds of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u16);

impl Kinds {
    pub const ALL: Kinds = Kinds(u16::MAX);
    pub const NONE: Kinds = Kinds(0);

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

    /// What an entry of these could take: texts that are dates, and leaves of lists and objects too.
    pub fn accepted(self, guess_dates: bool, nested: &Nested, arrays: &Arrays, only: &Only) -> Kinds {
        if matches!(only, Only::Node(_)) {
            return Kinds::ALL;
        }
        let also = |condition: bool, kind| if condition { Kinds::bit(kind) } else { 0 };
        let text = also(guess_dates && self.has(ValueKind::Date), ValueKind::Text);
        let object = also(matches!(nested, Nested::Flatten(_)), ValueKind::Object);
        Kinds(self.0 | text | object | also(*arrays == Arrays::Index, ValueKind::List))
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
    pub fn hand_out<'a>(&'a self, scope: &Scope<'a>, event: &'a Event, buffers: &mut [FieldBuffer]) {
        if self.entries.iter().any(|entry| entry.of.is_none()) {
            self.hand_out_traits(scope, event, buffers);
        }
        for entry in &self.entries {
            let Some(Ok(value)) = entry.of.as_ref().map(|of| scope.eval(of)) else { continue };
            for (key, value) in entries_of(value) {
                if entry.kinds.has(value.kind()) {
                    entry.write(scope, Hashed::new(&key), &value, buffers);
                }
            }
        }
    }

    fn hand_out_traits<'a>(&'a self, scope: &Scope<'a>, event: &'a Event, buffers: &mut [FieldBuffer]) {
        for Scalar { reserved, name, accepts } in &self.scalars {
            if !event.gives(*reserved) {
                continue;
            }
            let field = event.reserved(*reserved);
            let derived = *reserved == Reserved::Name && event.name_is_derived();
            if derived || !kind_of(field).is_some_and(|kind| accepts.has(kind)) {
                continue;
            }
            if let Some(value) = Value::from_field(field) {
                self.hand(scope, 0, *name, *name, &value, buffers);
            }
        }
        for reserved in self.nulls.iter().filter(|reserved| event.unsets(**reserved)) {
            self.hand_null(scope, *reserved, buffers);
        }
        let named = self.placed.iter().filter_map(|id| event.named(*id));
        let placed: Vec<u32> = named.map(|json| json.position()).collect();
        for (group, members) in &self.groups {
            if let Some(value) = self.group(event, *group, members, &placed) {
                let name = Hashed::new(group.name());
                self.hand(scope, 0, name, name, &value, buffers);
            }
        }
        for (key, json) in event.customs() {
            let name = Hashed::new(key);
            if placed.contains(&json.position()) || self.drop.has(name) {
                continue;
            }
            if !self.hand_leaf(scope, name, json, buffers) {
                self.hand(scope, 0, name, name, &Value::from_json(json), buffers);
            }
        }
    }

    /// Gives the null of a trait that a line names to the first entry that asks for nulls; that of a group's member only
    /// to one that has a name for it.
    fn hand_null<'a>(&'a self, scope: &Scope<'a>, reserved: Reserved, buffers: &mut [FieldBuffer]) {
        let name = Hashed::new(reserved.name());
        let asks = |entry: &&Entry| {
            let has_name = entry.names.as_ref().is_some_and(|names| names.has(name));
            entry.of.is_none()
                && entry.kinds != Kinds::ALL
                && entry.kinds.has(ValueKind::Null)
                && (has_name || reserved.place().0.is_none())
                && entry.takes(scope, name)
        };
        if let Some(entry) = self.entries.iter().find(asks) {
            entry.write(scope, entry.renamed(name, name), &Value::Null, buffers);
        }
    }

    /// Gives a scalar that can be copied as it was received to the first entry that takes it; `false` where more must be
    /// done than copying.
    fn hand_leaf(
        &self,
        scope: &Scope<'_>,
        name: Hashed<'_>,
        json: Json<'_>,
        buffers: &mut [FieldBuffer],
    ) -> bool {
        let (kind, text) = match json.kind() {
            Kind::Number => (ValueKind::Number, ""),
            Kind::True => (ValueKind::True, ""),
            Kind::False => (ValueKind::False, ""),
            Kind::Text => match json.plain_text() {
                Some(text) => (ValueKind::Text, text),
                None => return false,
            },
            Kind::Null | Kind::List | Kind::Object => return false,
        };
        for entry in &self.entries {
            if !entry.accepts.has(kind) || entry.of.is_some() {
                continue;
            }
            if matches!(entry.only, Only::Node(_)) || (entry.guess_dates && time::moment(text).is_some()) {
                return false;
            }
            if !entry.takes(scope, name) || !entry.kinds.has(kind) {
                continue;
            }
            return entry.copy(scope, entry.renamed(name, name), json.raw(), buffers);
        }
        true
    }

    /// The scalars among these that an entry could take, with what of them.
    pub fn scalars(&self, reserved: &[Reserved]) -> Vec<Scalar> {
        let scalar = |reserved: &Reserved| {
            let name = Hashed::new(reserved.name());
            let takers = self.entries.iter().filter(|entry| entry.of.is_none() && entry.could_take(name));
            let accepts = takers.fold(Kinds::NONE, |all, entry| Kinds(all.0 | entry.accepts.0));
            (accepts != Kinds::NONE).then_some(Scalar { reserved: *reserved, name, accepts })
        };
        reserved.iter().filter_map(scalar).collect()
    }

    fn group<'a>(
        &self,
        event: &'a Event,
        group: Group,
        members: &[(Reserved, &'static str)],
        placed: &[u32],
    ) -> Option<Value<'a>> {
        if !event.has_group_customs(group) && !members.iter().any(|(one, _)| event.gives(*one)) {
            return None;
        }
        let value = group_value(event, group, members)?;
        let Value::Object(mut found) = value else { return None };
        let mut customs = event.group_customs(group).map(|(_, json)| placed.contains(&json.position()));
        let reserved = found.len() - event.group_customs(group).count();
        let mut position = 0;
        found.retain(|_| {
            position += 1;
            position <= reserved || !customs.next().unwrap_or(false)
        });
        (!found.is_empty()).then_some(Value::Object(found))
    }

    /// Gives one trait, or one leaf of it, to the first entry from `from` on that takes it.
    fn hand<'a>(
        &'a self,
        scope: &Scope<'a>,
        from: usize,
        of_trait: Hashed<'_>,
        key: Hashed<'_>,
        value: &Value<'a>,
        buffers: &mut [FieldBuffer],
    ) {
        let kind = value.kind();
        let guessed = std::cell::OnceCell::new();
        for (position, entry) in self.entries.iter().enumerate().skip(from) {
            if !entry.accepts.has(kind) || entry.of.is_some() || !entry.takes(scope, of_trait) {
                continue;
            }
            match (kind, &entry.nested, &entry.arrays) {
                (ValueKind::Object, Nested::Flatten(separator), _) => {
                    for (member, value) in value.clone().members().unwrap_or_default() {
                        let key = format!("{}{separator}{member}", key.name);
                        self.hand(scope, position, of_trait, Hashed::new(&key), &value, buffers);
                    }
                    return;
                }
                (ValueKind::List, _, Arrays::Index) => {
                    for (at, value) in value.clone().elements().unwrap_or_default().into_iter().enumerate() {
                        let key = format!("{}.{at}", key.name);
                        self.hand(scope, position, of_trait, Hashed::new(&key), &value, buffers);
                    }
                    return;
                }
                _ => {}
            }
            let value = match value {
                Value::Text(text) if entry.guess_dates => {
                    guessed.get_or_init(|| time::moment(text).map(Value::Date)).as_ref().unwrap_or(value)
                }
                _ => value,
            };
            if !entry.kinds.has(value.kind()) {
                continue;
            }
            let key = entry.renamed(of_trait, key);
            match entry.shaped(value) {
                Some(value) => entry.write(scope, key, &value, buffers),
                None if entry.is_dropped(value.kind()) => {}
                None => entry.write(scope, key, value, buffers),
            }
            return;
        }
    }
}

impl Entry {
    /// Whether it takes traits of that name.
    fn takes(&self, scope: &Scope<'_>, name: Hashed<'_>) -> bool {
        let is_listed = || match (&self.names, &self.only) {
            (None, Only::Node(node)) => is_listed(scope, node, name.name),
            _ => true,
        };
        self.could_take(name) && is_listed()
    }

    /// The same as far as the settings decide it.
    fn could_take(&self, name: Hashed<'_>) -> bool {
        let named = match (&self.names, &self.only) {
            (Some(names), _) => names.has(name),
            (None, Only::Names(names)) => names.has(name),
            (None, Only::All | Only::Node(_)) => true,
        };
        named && !self.drop.has(name)
    }

    /// The vendor's name for a trait where there is one, else the key.
    fn renamed<'n>(&'n self, of_trait: Hashed<'_>, key: Hashed<'n>) -> Hashed<'n> {
        let name = self.names.as_ref().and_then(|names| names.get(of_trait));
        name.map_or(key, |name| Hashed::new(name))
    }

    /// Copies one member into the entry's field; `false` where its name or value is not simply copied.
    fn copy(&self, scope: &Scope<'_>, key: Hashed<'_>, json: &str, buffers: &mut [FieldBuffer]) -> bool {
        let part = match &self.naming {
            Naming::Same => Found::Part(key.name),
            Naming::Part(form) => form.take(key.name),
            Naming::Node => Found::Unsure,
        };
        match (part, &self.value, buffers.get_mut(self.field)) {
            (Found::Unsure, ..) | (_, Some(_), _) => return false,
            (Found::Part(part), None, Some(buffer)) => {
                let name = if part.len() == key.name.len() { key } else { Hashed::new(part) };
                if self.has_room(scope, buffer, key.name, name) {
                    buffer.add(name, |out| {
                        out.push_str(json);
                        true
                    });
                }
            }
            _ => {}
        }
        true
    }

    /// Whether a member of that name can be added; it is noted where it cannot.
    fn has_room(&self, scope: &Scope<'_>, buffer: &FieldBuffer, key: &str, name: Hashed<'_>) -> bool {
        if buffer.len() >= self.max {
            scope.notes.warn("field_full", key);
            return false;
        }
        if buffer.has(name) {
            scope.notes.warn("key_taken", name.name);
            return false;
        }
        true
    }

    /// Whether the policies leave values of that kind out.
    fn is_dropped(&self, kind: ValueKind) -> bool {
        match kind {
            ValueKind::Object => self.nested == Nested::Drop,
            ValueKind::List => self.arrays == Arrays::Drop,
            _ => false,
        }
    }

    /// A list or an object as the policies make it into something else; `None` where they do not.
    fn shaped<'a>(&self, value: &Value<'a>) -> Option<Value<'a>> {
        let as_json = |value: &Value<'_>| {
            let mut json = String::new();
            value.write_json(&mut json, &super::value::Dates::ISO);
            json
        };
        match (value.kind(), &self.nested, &self.arrays) {
            (ValueKind::Object, Nested::Json, _) | (ValueKind::List, _, Arrays::Json) => {
                Some(Value::text(as_json(value)))
            }
            (ValueKind::List, _, Arrays::Join(joiner)) => {
                let elements = value.clone().elements().unwrap_or_default();
                let texts: Vec<String> = elements
                    .iter()
                    .map(|element| element.as_text().map_or_else(|| as_json(element), Cow::into_owned))
                    .collect();
                Some(Value::text(texts.join(joiner)))
            }
            _ => None,
        }
    }

    /// Writes one member into the entry's field.
    fn write<'a>(
        &'a self,
        scope: &Scope<'a>,
        key: Hashed<'_>,
        value: &Value<'a>,
        buffers: &mut [FieldBuffer],
    ) {
        let Some(buffer) = buffers.get_mut(self.field) else { return };
        let part = match &self.naming {
            Naming::Same => Found::Part(key.name),
            Naming::Part(form) => form.take(key.name),
            Naming::Node => Found::Unsure,
        };
        match (part, &self.value) {
            (Found::Absent, None) => {}
            (Found::Part(part), None) => {
                let name = if part.len() == key.name.len() { key } else { Hashed::new(part) };
                self.add(scope, buffer, key.name, name, value, |out| {
                    scope.write_value_as(value, self.dates.as_ref(), self.guess_dates, out).is_ok()
                });
            }
            _ => self.write_evaluated(scope, key.name, value, buffer),
        }
    }

    /// The same for whatever key and value there are.
    fn write_evaluated<'a>(
        &'a self,
        scope: &Scope<'a>,
        key: &str,
        value: &Value<'a>,
        buffer: &mut FieldBuffer,
    ) {
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
            (Value::Date(_), Some(_), Some(dates)) => scope.eval(&dates.node).ok(),
            _ => None,
        };
        let value = date.as_ref().unwrap_or(value);
        let scope = Scope { value: Some(value), ..scope };
        let name = match &self.key {
            None => Cow::Borrowed(key),
            Some(node) => match scope.text(node) {
                Ok(name) => name,
                Err(_) => return,
            },
        };
        self.add(&scope, buffer, key, Hashed::new(&name), value, |out| match &self.value {
            Some(node) => scope.write(node, out).is_ok(),
            None => scope.write_value(value, out).is_ok(),
        });
    }

    /// Adds a member, unless the field is full or has one of that name.
    fn add(
        &self,
        scope: &Scope<'_>,
        buffer: &mut FieldBuffer,
        key: &str,
        name: Hashed<'_>,
        value: &Value<'_>,
        write: impl FnOnce(&mut String) -> bool,
    ) {
        if !self.has_room(scope, buffer, key, name) {
            return;
        }
        buffer.add(name, |out| match (value, &self.value) {
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
            _ => write(out),
        });
    }
}

fn kind_of(field: Field<'_>) -> Option<ValueKind> {
    match field {
        Field::Absent => None,
        Field::Null => Some(ValueKind::Null),
        Field::Text(_) => Some(ValueKind::Text),
        Field::Number(_) => Some(ValueKind::Number),
        Field::Date(_) => Some(ValueKind::Date),
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
