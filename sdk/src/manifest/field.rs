//! The buffer of one field of the rest: members as JSON, ready to be spread into a table.
//! It does not decide what goes in; `rest` does.

use super::lookup::{Hashed, bit};
use crate::json::push_text;

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
    /// Of the name.
    hash: u64,
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

    pub fn len(&self) -> usize {
        self.members.len()
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

    /// Whether one of the members has a name of which `is_taken`; `bits` are those of all names that could be.
    pub fn has_any(&self, bits: u64, is_taken: impl Fn(&str) -> bool) -> bool {
        let could_be =
            |(at, span): (usize, &MemberSpan)| bits & bit(span.hash) != 0 && is_taken(self.name(at));
        self.seen & bits != 0 && self.members.iter().enumerate().any(could_be)
    }

    fn name(&self, at: usize) -> &str {
        let start = self.members.get(at).map_or(0, |span| span.name_start as usize);
        let end = self.members.get(at + 1).map_or(self.names.len(), |next| next.name_start as usize);
        self.names.get(start..end).unwrap_or_default()
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

    pub fn has(&self, name: Hashed<'_>) -> bool {
        let is_same = |(at, span): (usize, &MemberSpan)| span.hash == name.hash && self.name(at) == name.name;
        self.seen & name.bit() != 0 && self.members.iter().enumerate().any(is_same)
    }

    /// Adds a member whose value `write` writes, unless that says that there is none.
    pub fn add(&mut self, name: Hashed<'_>, write: impl FnOnce(&mut String) -> bool) {
        let mark = self.text.len();
        if mark > 0 {
            self.text.push(',');
        }
        let start = self.text.len() as u32;
        push_text(&mut self.text, name.name);
        self.text.push(':');
        let value_start = self.text.len() as u32;
        if !write(&mut self.text) {
            self.text.truncate(mark);
            return;
        }
        let name_start = self.names.len() as u32;
        self.members.push(MemberSpan { hash: name.hash, name_start, start, value_start });
        self.names.push_str(name.name);
        self.seen |= name.bit();
    }
}
