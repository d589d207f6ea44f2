//! Puts a document together from values of another one: their nodes are taken over with their offsets shifted, so that
//! nothing is scanned twice. It checks nothing: what it is given is valid already, and so is what it writes.

use std::ops::Range;
use std::sync::Arc;

use super::{Doc, Json, Kind, Node, push_text};

impl Doc {
    /// A document of its own that holds this value alone.
    pub(crate) fn of(value: Json<'_>) -> Doc {
        let node = value.node();
        let mut nodes = Vec::new();
        take_over(&mut nodes, value.doc, value.at..node.next, 0u32.wrapping_sub(node.start));
        Doc { text: Arc::from(value.raw()), nodes }
    }
}

/// An object that is being written.
pub(crate) struct Builder {
    text: String,
    nodes: Vec<Node>,
}

/// An object inside of which is being written; see [`Builder::open`].
pub(crate) struct Open(usize);

impl Builder {
    /// Begins a document, with room for so many bytes, and for the values of `like` and some more.
    pub(crate) fn new(bytes: usize, like: Json<'_>) -> Builder {
        let values = like.node().next.saturating_sub(like.at) as usize;
        Builder { text: String::with_capacity(bytes), nodes: Vec::with_capacity(values + 8) }
    }

    /// Begins an object.
    pub(crate) fn open(&mut self) -> Open {
        let start = self.text.len() as u32;
        self.text.push('{');
        self.nodes.push(Node { kind: Kind::Object, escaped: false, start, end: 0, next: 0 });
        Open(self.nodes.len() - 1)
    }

    /// Ends the object that was begun last.
    pub(crate) fn close(&mut self, Open(at): Open) {
        self.text.push('}');
        let (end, next) = (self.text.len() as u32, self.nodes.len() as u32);
        if let Some(node) = self.nodes.get_mut(at) {
            (node.end, node.next) = (end, next);
        }
    }

    /// Writes members as they stand in their object: from one's key to another's value, and all between.
    pub(crate) fn members(&mut self, first_key: Json<'_>, last_value: Json<'_>) {
        self.comma();
        let (first, last) = (first_key.node(), last_value.node());
        let shift = (self.text.len() as u32).wrapping_sub(first.start);
        let text = first_key.doc.text.get(first.start as usize..last.end as usize);
        self.text.push_str(text.unwrap_or_default());
        take_over(&mut self.nodes, first_key.doc, first_key.at..last.next, shift);
    }

    /// Writes a key; its value is to follow.
    pub(crate) fn key(&mut self, key: &str) {
        self.comma();
        self.string(key);
        self.text.push(':');
    }

    /// Writes a string.
    pub(crate) fn string(&mut self, text: &str) {
        let start = self.text.len();
        push_text(&mut self.text, text);
        let end = self.text.len();
        let escaped = end - start != text.len() + 2;
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { kind: Kind::Text, escaped, start: start as u32, end: end as u32, next });
    }

    /// Writes a value as it stands in its document.
    pub(crate) fn value(&mut self, value: Json<'_>) {
        let node = value.node();
        let shift = (self.text.len() as u32).wrapping_sub(node.start);
        self.text.push_str(value.raw());
        take_over(&mut self.nodes, value.doc, value.at..node.next, shift);
    }

    /// The document, once all is closed.
    pub(crate) fn finish(self) -> Doc {
        Doc { text: self.text.into(), nodes: self.nodes }
    }

    /// A comma, unless the object has no member yet: only then an open brace is the last that was written.
    fn comma(&mut self) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
    }
}

/// Copies nodes behind others. Their text is moved by `shift` bytes, modulo 2³².
fn take_over(nodes: &mut Vec<Node>, doc: &Doc, range: Range<u32>, shift: u32) {
    let by = (nodes.len() as u32).wrapping_sub(range.start);
    let taken = doc.nodes.get(range.start as usize..range.end as usize).unwrap_or_default();
    nodes.extend(taken.iter().map(|node| Node {
        start: node.start.wrapping_add(shift),
        end: node.end.wrapping_add(shift),
        next: node.next.wrapping_add(by),
        ..*node
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(text: &str) -> Doc {
        Doc::parse(text.into()).unwrap()
    }

    /// What is put together is what would have been read.
    fn assert_same(built: &Doc) {
        let read = Doc::parse(built.text.clone()).unwrap();
        assert_eq!(format!("{:?}", built.nodes), format!("{:?}", read.nodes), "{}", built.text);
    }

    #[test]
    fn a_value_stands_alone() {
        let body = doc(r#" [1, {"a" : [true, "x\n", {}], "b":null} ,"é"]"#);
        for value in body.root().elements().chain([body.root()]) {
            let alone = Doc::of(value);
            assert_eq!(&*alone.text, value.raw());
            assert_same(&alone);
        }
    }

    #[test]
    fn an_object_of_parts_is_as_if_read() {
        let body = doc(r#"{"z": 1, "a" : [1,{"b":"\u0041"}] , "c":{"d":-1.5e3}, "e":"é"}"#);
        let members: Vec<_> = body.root().pairs().collect();
        let mut builder = Builder::new(16, body.root());
        let outer = builder.open();
        builder.members(members[1].0, members[2].1);
        builder.key("new\n");
        builder.string("ä\"");
        builder.key("in");
        let inner = builder.open();
        builder.members(members[3].0, members[3].1);
        builder.key("v");
        builder.value(members[1].1);
        builder.close(inner);
        builder.key("none");
        let empty = builder.open();
        builder.close(empty);
        builder.close(outer);
        let built = builder.finish();
        assert_same(&built);
        assert_eq!(
            &*built.text,
            r#"{"a" : [1,{"b":"\u0041"}] , "c":{"d":-1.5e3},"new\n":"ä\"","in":{"e":"é","v":[1,{"b":"\u0041"}]},"none":{}}"#
        );
    }
}
