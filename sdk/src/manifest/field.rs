//! The buffers into which fields are written while an event's rest is handed out. They are reused from event to event.
//! Which trait goes where is decided in `rest`.

use super::render::{Gone, Scope};
use super::tree::Node;
use crate::json::push_text;

/// How many transformed names an entry of `[rest].fields` remembers.
const CACHED_NAMES: usize = 64;

/// Buffers for all fields, and the names that each entry has made before.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub fields: Vec<FieldBuffer>,
    pub names: Vec<NameCache>,
}

impl Buffers {
    /// Empties the fields, and sees to it that there are enough of them.
    pub fn reset(&mut self, fields: usize, entries: usize) {
        self.fields.resize_with(fields, FieldBuffer::default);
        self.names.resize_with(entries, NameCache::default);
        self.fields.iter_mut().for_each(FieldBuffer::clear);
    }
}

/// What became of names: traits have the same few names again and again.
#[derive(Debug, Default)]
pub(crate) struct NameCache {
    slots: Vec<Option<Made>>,
}

/// A name, and what an entry made of it; nothing where it leaves the trait out.
type Made = (Box<str>, Option<Box<str>>);

impl NameCache {
    /// The name that a node makes of `key`, which the scope holds; the node must depend on nothing else.
    pub fn name<'a>(&mut self, scope: &Scope<'a>, node: &'a Node, key: &str) -> Option<&str> {
        if self.slots.is_empty() {
            self.slots.resize_with(CACHED_NAMES, || None);
        }
        let slot = self.slots.get_mut(position_of(key) % CACHED_NAMES)?;
        if !matches!(slot, Some((name, _)) if **name == *key) {
            let made: Result<Box<str>, Gone> = scope.text(node).map(|text| (*text).into());
            *slot = Some((key.into(), made.ok()));
        }
        slot.as_ref().and_then(|(_, made)| made.as_deref())
    }
}

/// A number that differs for most names, quickly made.
fn position_of(name: &str) -> usize {
    let bytes = name.as_bytes();
    let at = |position: usize| bytes.get(position).copied().unwrap_or(0) as usize;
    let length = bytes.len();
    at(0) ^ (at(length / 2) << 1) ^ (at(length.wrapping_sub(1)) << 3) ^ length.wrapping_mul(7)
}

/// The bit by which a name is seen quickly to be new.
pub(crate) fn bit_of(name: &str) -> u64 {
    1 << (position_of(name) & 63)
}

/// A field's members as JSON, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct FieldBuffer {
    text: String,
    members: Vec<MemberSpan>,
    /// The names, decoded, one behind the other.
    names: String,
    /// A bit for each name's hash, to see quickly that a name is new.
    seen: u64,
}

#[derive(Clone, Copy, Debug)]
struct MemberSpan {
    name_start: u32,
    start: u32,
    value_start: u32,
}

impl FieldBuffer {
    pub fn clear(&mut self) {
        self.text.clear();
        self.members.clear();
        self.names.clear();
        self.seen = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members with commas between them.
    pub fn members(&self) -> &str {
        &self.text
    }

    /// Each member's name, and the member as JSON.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.spans().map(|(name, start, _, end)| (name, self.text.get(start..end).unwrap_or_default()))
    }

    /// Name, start, start of the value, end.
    fn spans(&self) -> impl Iterator<Item = (&str, usize, usize, usize)> {
        self.members.iter().enumerate().map(|(at, span)| {
            let next = self.members.get(at + 1);
            let name_end = next.map_or(self.names.len(), |next| next.name_start as usize);
            // A comma stands between two members.
            let end = next.map_or(self.text.len(), |next| next.start as usize - 1);
            let name = self.names.get(span.name_start as usize..name_end).unwrap_or_default();
            (name, span.start as usize, span.value_start as usize, end)
        })
    }

    /// Writes the names as JSON texts.
    pub fn push_keys(&self, out: &mut String) {
        for (at, (name, ..)) in self.spans().enumerate() {
            if at > 0 {
                out.push(',');
            }
            push_text(out, name);
        }
    }

    /// Writes the values.
    pub fn push_values(&self, out: &mut String) {
        for (at, (_, _, value, end)) in self.spans().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(self.text.get(value..end).unwrap_or_default());
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether a member of that name is there; see [`bit_of`].
    pub fn has(&self, name: &str, bit: u64) -> bool {
        self.seen & bit != 0 && self.spans().any(|(taken, ..)| taken == name)
    }

    /// Adds a member whose value `write` writes, unless that says that there is none.
    pub fn add(&mut self, name: &str, bit: u64, write: impl FnOnce(&mut String) -> bool) {
        let mark = self.text.len();
        if mark > 0 {
            self.text.push(',');
        }
        let start = self.text.len() as u32;
        push_text(&mut self.text, name);
        self.text.push(':');
        let value_start = self.text.len() as u32;
        if !write(&mut self.text) {
            self.text.truncate(mark);
            return;
        }
        self.members.push(MemberSpan { name_start: self.names.len() as u32, start, value_start });
        self.names.push_str(name);
        self.seen |= bit;
    }
}
