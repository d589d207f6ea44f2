//! JSON as fanout reads it: one pass over a text gives a flat list of nodes, each a span of that text.
//!
//! Nothing is copied and no number is converted, so what an application sent can be passed on byte by byte, and a
//! value is decoded only by whoever wants it. The same type serves calls and vendors' answers.
//! It does not write JSON; [`push_text`] escapes a text for those who do.
//!
//! Invariants: a [`Doc`] exists only for a complete, valid JSON text of at most [`MAX_DEPTH`] levels; a lone surrogate
//! escape (`\ud800`) has been replaced by `\ufffd`, so every text can be decoded; node `n + 1` is the first child of a
//! container `n`, and an object's children alternate between key and value.

mod build;

use std::borrow::Cow;
use std::sync::Arc;

pub(crate) use build::Builder;

/// How deep lists and objects may be nested; serde_json's own limit.
pub const MAX_DEPTH: usize = 128;

/// What a JSON value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `null`
    Null,
    /// `false`
    False,
    /// `true`
    True,
    /// a number, kept as it was written
    Number,
    /// a string
    Text,
    /// an array
    List,
    /// an object
    Object,
}

/// Why a text is no JSON: where, and what is wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct JsonError {
    /// Offset in bytes, counted from 0.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    /// A text with escapes, which must be decoded before it is compared.
    escaped: bool,
    start: u32,
    end: u32,
    /// The node after this one and all its descendants.
    next: u32,
}

/// A parsed JSON text. Cheap to keep: the text is shared, the nodes are 16 bytes each.
#[derive(Clone, Debug)]
pub struct Doc {
    text: Arc<str>,
    nodes: Vec<Node>,
}

impl Doc {
    /// Reads one JSON value that fills the whole text, but for white space and a byte order mark.
    pub fn parse(text: Arc<str>) -> Result<Doc, JsonError> {
        if text.len() > u32::MAX as usize {
            return Err(JsonError { at: 0, what: "text of more than 4 GiB" });
        }
        let mut scanner = Scanner {
            bytes: text.as_bytes(),
            // Calls have a value or key in about ten bytes.
            nodes: Vec::with_capacity(16 + text.len() / 9),
            lone_surrogates: Vec::new(),
        };
        scanner.document()?;
        let Scanner { mut nodes, lone_surrogates, .. } = scanner;
        if nodes.capacity() - nodes.len() > 16 + nodes.len() / 4 {
            // A text of long values has far fewer.
            nodes.shrink_to_fit();
        }
        let text = if lone_surrogates.is_empty() { text } else { replace_escapes(&text, &lone_surrogates) };
        Ok(Doc { text, nodes })
    }

    /// The outermost value.
    pub fn root(&self) -> Json<'_> {
        Json { doc: self, at: 0 }
    }

    /// The text, as received but for lone surrogates.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// How many bytes it holds in memory, the text among them.
    pub fn held_bytes(&self) -> usize {
        self.text.len() + self.nodes.capacity() * size_of::<Node>()
    }

    /// The value at a position that [`Json::position`] gave for this document.
    pub fn at(&self, position: u32) -> Option<Json<'_>> {
        self.nodes.get(position as usize).map(|_| Json { doc: self, at: position })
    }
}

/// A value of a [`Doc`].
#[derive(Clone, Copy)]
pub struct Json<'a> {
    doc: &'a Doc,
    at: u32,
}

impl<'a> Json<'a> {
    #[inline]
    fn node(self) -> Node {
        const NULL: Node = Node { kind: Kind::Null, escaped: false, start: 0, end: 0, next: 0 };
        self.doc.nodes.get(self.at as usize).copied().unwrap_or(NULL)
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Where it stands among its document's values; see [`Doc::at`].
    pub fn position(self) -> u32 {
        self.at
    }

    /// The JSON text of this value, as received.
    pub fn raw(self) -> &'a str {
        let node = self.node();
        self.doc.text.get(node.start as usize..node.end as usize).unwrap_or("null")
    }

    /// A string's text, decoded; `None` for anything else.
    pub fn text(self) -> Option<Cow<'a, str>> {
        let node = self.node();
        if node.kind != Kind::Text {
            return None;
        }
        let inner = self.doc.text.get(node.start as usize + 1..(node.end as usize).saturating_sub(1))?;
        Some(if node.escaped { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) })
    }

    /// A number as it was written; `None` for anything else.
    pub fn number(self) -> Option<&'a str> {
        (self.kind() == Kind::Number).then(|| self.raw())
    }

    /// `true` or `false`; `None` for anything else.
    pub fn bool(self) -> Option<bool> {
        match self.kind() {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// The members of an object in the order in which they were sent, a key given twice included; none for anything
    /// else.
    pub fn members(self) -> Members<'a> {
        Members(self.pairs())
    }

    /// The elements of a list; none for anything else.
    pub fn elements(self) -> Elements<'a> {
        Elements(self.children(Kind::List))
    }

    /// The member of an object by its exact name; the last one where a key was given twice.
    pub fn get(self, name: &str) -> Option<Json<'a>> {
        let is_named = |key: Json<'_>| match key.plain_text() {
            Some(key) => key == name,
            None => key.text().is_some_and(|key| key == name),
        };
        self.pairs().filter(|(key, _)| is_named(*key)).last().map(|(_, value)| value)
    }

    /// The element of a list by position, counted from 0.
    pub fn index(self, position: usize) -> Option<Json<'a>> {
        self.elements().nth(position)
    }

    /// The keys and values of an object, keys undecoded; none for anything else.
    pub(crate) fn pairs(self) -> Pairs<'a> {
        Pairs(self.children(Kind::Object))
    }

    /// Where it stands in its document's text: its first byte and the one behind its last.
    pub(crate) fn bounds(self) -> (u32, u32) {
        let node = self.node();
        (node.start, node.end)
    }

    /// A string's text if it holds no escape, so that it can be read in place.
    #[inline]
    pub(crate) fn plain_text(self) -> Option<&'a str> {
        let node = self.node();
        if node.kind != Kind::Text || node.escaped {
            return None;
        }
        self.doc.text.get(node.start as usize + 1..(node.end as usize).saturating_sub(1))
    }

    fn children(self, of: Kind) -> Children<'a> {
        let node = self.node();
        let (at, end) = if node.kind == of { (self.at + 1, node.next) } else { (0, 0) };
        Children { doc: self.doc, at, end }
    }
}

impl std::fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.raw())
    }
}

struct Children<'a> {
    doc: &'a Doc,
    at: u32,
    end: u32,
}

impl<'a> Iterator for Children<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Json<'a>> {
        if self.at >= self.end {
            return None;
        }
        let value = Json { doc: self.doc, at: self.at };
        self.at = value.node().next;
        Some(value)
    }
}

/// See [`Json::members`].
pub struct Members<'a>(Pairs<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Json<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.0.next()?;
        let key = match key.plain_text() {
            Some(text) => Cow::Borrowed(text),
            None => key.text().unwrap_or_default(),
        };
        Some((key, value))
    }
}

/// See [`Json::pairs`].
pub(crate) struct Pairs<'a>(Children<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (Json<'a>, Json<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let Children { doc, at: key, end } = self.0;
        if key >= end {
            return None;
        }
        // A key is a text, and has no node below it.
        let value = Json { doc, at: key + 1 };
        self.0.at = value.node().next;
        Some((Json { doc, at: key }, value))
    }
}

/// See [`Json::elements`].
pub struct Elements<'a>(Children<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// Writes a text as a JSON string, quotes included.
pub fn push_text(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Writes a text as the inside of a JSON string, without quotes.
#[inline]
pub fn push_escaped(out: &mut String, text: &str) {
    if is_plain(text.as_bytes()) { out.push_str(text) } else { push_special(out, text) }
}

/// Whether there is nothing to escape. Short texts, which most are, cost two words at most.
fn is_plain(bytes: &[u8]) -> bool {
    let plain = |bytes: &[u8]| first_special(bytes, 0) == bytes.len();
    let word = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)).to_le_bytes();
    let ends = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>());
    match (bytes.len(), ends, bytes.last_chunk::<8>()) {
        (4..8, (Some(start), Some(end)), _) => {
            plain(&word(u32::from_le_bytes(*start), u32::from_le_bytes(*end)))
        }
        (8.., _, Some(end)) => {
            let (words, _) = bytes.as_chunks::<8>();
            words.iter().all(|word| plain(word)) && plain(end)
        }
        _ => plain(bytes),
    }
}

#[cold]
fn push_special(out: &mut String, text: &str) {
    let mut rest = text;
    loop {
        let at = first_special(rest.as_bytes(), 0);
        if at == rest.len() {
            break;
        }
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = from.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\u{c}') => out.push_str("\\f"),
            Some(control) => {
                let code = control as u32;
                out.push_str("\\u00");
                out.extend(
                    [code >> 4, code & 15].into_iter().filter_map(|digit| char::from_digit(digit, 16)),
                );
            }
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

/// Writes a value without white space between its parts; texts and numbers as they were received.
pub fn push_compact(out: &mut String, json: Json<'_>) {
    let raw = json.raw();
    if !raw.bytes().any(|byte| byte <= b' ') {
        out.push_str(raw);
        return;
    }
    let children = match json.kind() {
        Kind::List | Kind::Object => json.children(json.kind()),
        _ => return out.push_str(raw),
    };
    let is_object = json.kind() == Kind::Object;
    out.push(if is_object { '{' } else { '[' });
    for (position, child) in children.enumerate() {
        match position {
            0 => {}
            odd if is_object && odd % 2 == 1 => out.push(':'),
            _ => out.push(','),
        }
        push_compact(out, child);
    }
    out.push(if is_object { '}' } else { ']' });
}

fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = from.chars();
        chars.next();
        let escape = chars.next();
        rest = chars.as_str();
        match escape {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let high = hex4(rest);
                rest = rest.get(4..).unwrap_or_default();
                let low =
                    rest.strip_prefix("\\u").and_then(hex4).filter(|low| (0xdc00..0xe000).contains(low));
                let code = match (high, low) {
                    (Some(high @ 0xd800..0xdc00), Some(low)) => {
                        rest = rest.get(6..).unwrap_or_default();
                        Some(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
                    }
                    (high, _) => high,
                };
                out.push(code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(itself) => out.push(itself),
            None => {}
        }
    }
    out.push_str(rest);
    out
}

fn hex4(text: &str) -> Option<u32> {
    text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok())
}

/// Puts `\ufffd` at each offset; the length stays the same, so no span moves.
fn replace_escapes(text: &str, offsets: &[usize]) -> Arc<str> {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for &at in offsets {
        out.push_str(text.get(from..at).unwrap_or_default());
        out.push_str("\\ufffd");
        from = at + 6;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out.into()
}

/// Where the first byte from `at` on stands that is a quote, a backslash or a control character, eight bytes at a time;
/// the end where there is none.
#[inline(always)]
fn first_special(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
        let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
        let control = word.wrapping_sub(ONES * 0x20);
        // The lowest bit set marks the first such byte; bits above it mean nothing.
        let special = (quote | backslash | control) & !word & HIGH;
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20).unwrap_or(rest.len())
}

/// While a container is open, its node's `next` is the container around it; this is around the outermost.
const OUTSIDE: u32 = u32::MAX;

struct Scanner<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    lone_surrogates: Vec<usize>,
}

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), JsonError> {
        let mut at = if self.bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let (mut container, mut is_object, mut depth) = (OUTSIDE, false, 0);
        'value: loop {
            at = self.white(at);
            match self.byte(at) {
                b'"' => at = self.text(at)?,
                first @ (b'{' | b'[') => {
                    if depth == MAX_DEPTH {
                        return Err(wrong(at, "nested more than 128 levels deep"));
                    }
                    depth += 1;
                    is_object = first == b'{';
                    let (kind, end) = if is_object { (Kind::Object, b'}') } else { (Kind::List, b']') };
                    let around = std::mem::replace(&mut container, self.nodes.len() as u32);
                    self.nodes.push(Node { kind, escaped: false, start: at as u32, end: 0, next: around });
                    at = self.white(at + 1);
                    if self.byte(at) != end {
                        if is_object {
                            at = self.key(at)?;
                        }
                        continue 'value;
                    }
                }
                b'-' | b'0'..=b'9' => at = self.number(at)?,
                b't' => at = self.word(at, b"true", Kind::True)?,
                b'f' => at = self.word(at, b"false", Kind::False)?,
                b'n' => at = self.word(at, b"null", Kind::Null)?,
                _ => return Err(self.unexpected(at, "expected a value")),
            }
            // After a value: close what ends here, then go on behind a comma.
            loop {
                at = self.white(at);
                if container == OUTSIDE {
                    let is_end = at == self.bytes.len();
                    return if is_end { Ok(()) } else { Err(wrong(at, "text after the value")) };
                }
                match self.byte(at) {
                    b',' => {
                        at += 1;
                        if is_object {
                            at = self.white(at);
                            at = self.key(at)?;
                        }
                        continue 'value;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => {
                        let what = "expected a comma or the end of the list or object";
                        return Err(self.unexpected(at, what));
                    }
                }
                at += 1;
                depth -= 1;
                (container, is_object) = self.close(container, at);
            }
        }
    }

    /// Ends a container; hands out the one around it, and whether that is an object.
    fn close(&mut self, container: u32, end: usize) -> (u32, bool) {
        let next = self.nodes.len() as u32;
        let Some(node) = self.nodes.get_mut(container as usize) else { return (OUTSIDE, false) };
        node.end = end as u32;
        let around = std::mem::replace(&mut node.next, next);
        (around, self.nodes.get(around as usize).is_some_and(|node| node.kind == Kind::Object))
    }

    #[inline(always)]
    fn key(&mut self, at: usize) -> Result<usize, JsonError> {
        if self.byte(at) != b'"' {
            return Err(self.unexpected(at, "expected a key"));
        }
        let at = self.text(at)?;
        let at = self.white(at);
        if self.byte(at) != b':' {
            return Err(self.unexpected(at, "expected a colon"));
        }
        Ok(at + 1)
    }

    /// Reads a string from its quote on; hands out what is behind it, as all of these do.
    #[inline(always)]
    fn text(&mut self, start: usize) -> Result<usize, JsonError> {
        let at = first_special(self.bytes, start + 1);
        if self.byte(at) != b'"' {
            return self.escaped_text(start, at);
        }
        self.push(Kind::Text, start, at + 1, false);
        Ok(at + 1)
    }

    /// A string that has something other than its end at an offset.
    #[cold]
    fn escaped_text(&mut self, start: usize, mut at: usize) -> Result<usize, JsonError> {
        loop {
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => at = self.escape(at)?,
                Some(_) => return Err(wrong(at, "a control character inside a string")),
                None => return Err(wrong(at, "a string does not end")),
            }
            at = first_special(self.bytes, at);
        }
        self.push(Kind::Text, start, at + 1, true);
        Ok(at + 1)
    }

    fn escape(&mut self, at: usize) -> Result<usize, JsonError> {
        match self.byte(at + 1) {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
            b'u' => match self.surrogate(at)? {
                0xd800..0xdc00 if self.low_follows(at) => Ok(at + 12),
                0xd800..0xe000 => {
                    self.lone_surrogates.push(at);
                    Ok(at + 6)
                }
                _ => Ok(at + 6),
            },
            _ => Err(wrong(at, "an unknown escape")),
        }
    }

    fn low_follows(&self, at: usize) -> bool {
        self.bytes.get(at + 6..at + 8) == Some(b"\\u")
            && self.surrogate(at + 6).is_ok_and(|low| (0xdc00..0xe000).contains(&low))
    }

    /// The code of the `\uXXXX` escape at an offset.
    fn surrogate(&self, at: usize) -> Result<u32, JsonError> {
        let wrong = wrong(at, "an escape without four hexadecimal digits");
        let digits = self.bytes.get(at + 2..at + 6).ok_or(wrong)?;
        digits.iter().try_fold(0, |code, &digit| {
            (digit as char).to_digit(16).map(|digit| code << 4 | digit).ok_or(wrong)
        })
    }

    fn number(&mut self, start: usize) -> Result<usize, JsonError> {
        let mut at = if self.byte(start) == b'-' { start + 1 } else { start };
        at = if self.byte(at) == b'0' { at + 1 } else { self.digits(at)? };
        if self.byte(at) == b'.' {
            at = self.digits(at + 1)?;
        }
        if let b'e' | b'E' = self.byte(at) {
            at += 1;
            if let b'+' | b'-' = self.byte(at) {
                at += 1;
            }
            at = self.digits(at)?;
        }
        self.push(Kind::Number, start, at, false);
        Ok(at)
    }

    /// At least one digit.
    fn digits(&self, start: usize) -> Result<usize, JsonError> {
        let mut at = start;
        while self.byte(at).is_ascii_digit() {
            at += 1;
        }
        if at == start { Err(wrong(at, "a number without digits")) } else { Ok(at) }
    }

    fn word(&mut self, at: usize, word: &[u8], kind: Kind) -> Result<usize, JsonError> {
        let end = at + word.len();
        if self.bytes.get(at..end) != Some(word) {
            return Err(wrong(at, "expected a value"));
        }
        self.push(kind, at, end, false);
        Ok(end)
    }

    #[inline(always)]
    fn push(&mut self, kind: Kind, start: usize, end: usize, escaped: bool) {
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { kind, escaped, start: start as u32, end: end as u32, next });
    }

    #[inline(always)]
    fn white(&self, mut at: usize) -> usize {
        while let b' ' | b'\n' | b'\r' | b'\t' = self.byte(at) {
            at += 1;
        }
        at
    }

    /// The byte at an offset; behind the end zero, which means nothing anywhere in JSON.
    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    #[cold]
    fn unexpected(&self, at: usize, what: &'static str) -> JsonError {
        wrong(at, if at < self.bytes.len() { what } else { "the text ends too early" })
    }
}

fn wrong(at: usize, what: &'static str) -> JsonError {
    JsonError { at, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Doc, JsonError> {
        Doc::parse(text.into())
    }

    fn rebuild(json: Json<'_>) -> serde_json::Value {
        match json.kind() {
            Kind::Null => serde_json::Value::Null,
            Kind::True | Kind::False => json.bool().into(),
            Kind::Number => serde_json::from_str(json.raw()).unwrap(),
            Kind::Text => json.text().unwrap().into_owned().into(),
            Kind::List => json.elements().map(rebuild).collect(),
            Kind::Object => serde_json::Value::Object(
                json.members().map(|(key, value)| (key.into_owned(), rebuild(value))).collect(),
            ),
        }
    }

    #[test]
    fn reads_what_serde_json_reads() {
        for text in [
            "null",
            " true ",
            "-0.5e+3",
            "\"\"",
            "[]",
            "{}",
            "[[],{}]",
            "{\"a\":{\"b\":[1,2,{\"c\":null}]},\"d\":\"e\"}",
            "\"\\u00e9\\ud83d\\ude00\\n\\\\\\\"\\/\"",
            "{\"a\":1,\"a\":2}",
            "[1 , 2\n,\t3]",
        ] {
            let expected: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(rebuild(parse(text).unwrap().root()), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_json() {
        for text in [
            "",
            " ",
            "nul",
            "nulll",
            "[1,]",
            "{\"a\":1,}",
            "[,1]",
            "{,}",
            "[1 2]",
            "{\"a\" 1}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "1e",
            "NaN",
            "Infinity",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\n\"",
            "[",
            "{\"a\":",
            "]",
            "[}",
            "{]",
            "{} {}",
            "1 2",
            "'a'",
        ] {
            assert!(parse(text).is_err(), "{text:?} was read");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn keeps_numbers_to_the_digit() {
        let doc = parse("[12345678901234567890123, 1.0, 1e3]").unwrap();
        let numbers: Vec<_> = doc.root().elements().filter_map(Json::number).collect();
        assert_eq!(numbers, ["12345678901234567890123", "1.0", "1e3"]);
    }

    #[test]
    fn the_last_of_two_equal_keys_wins() {
        assert_eq!(parse(r#"{"a":1,"b":0,"a":2}"#).unwrap().root().get("a").unwrap().raw(), "2");
        assert_eq!(parse(r#"{"\u0061":3}"#).unwrap().root().get("a").unwrap().raw(), "3");
    }

    #[test]
    fn replaces_lone_surrogates_in_place() {
        for (text, expected) in [
            (r#"["\ud800","x"]"#, "[\"\\ufffd\",\"x\"]"),
            (r#"["\udc00\ud800","\ud83d\ude00"]"#, "[\"\\ufffd\\ufffd\",\"\\ud83d\\ude00\"]"),
            (r#"["\ud800\ud83d\ude00"]"#, "[\"\\ufffd\\ud83d\\ude00\"]"),
        ] {
            let doc = parse(text).unwrap();
            assert_eq!(doc.root().raw(), expected);
            serde_json::from_str::<serde_json::Value>(doc.root().raw()).unwrap();
        }
    }

    #[test]
    fn compact_is_the_same_value_without_white_space() {
        let doc = parse("{ \"a b\" : [ 1 , { \"c\" : \"d e\" } ] , \"f\" : { } }").unwrap();
        let mut out = String::new();
        push_compact(&mut out, doc.root());
        assert_eq!(out, r#"{"a b":[1,{"c":"d e"}],"f":{}}"#);
    }

    #[test]
    fn strips_a_byte_order_mark() {
        assert_eq!(parse("\u{feff}{}").unwrap().root().kind(), Kind::Object);
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(parse(&nested(10_000)).unwrap_err().what, "nested more than 128 levels deep");
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn finds_the_first_special_byte(bytes in prop::collection::vec(any::<u8>(), 0..40), plain in 0usize..40) {
            let bytes: Vec<u8> = std::iter::repeat_n(b'x', plain).chain(bytes).collect();
            let expected = bytes.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20);
            prop_assert_eq!(first_special(&bytes, 0), expected.unwrap_or(bytes.len()));
            prop_assert_eq!(is_plain(&bytes), expected.is_none());
            let end = bytes.len().min(plain);
            prop_assert!(is_plain(bytes.get(..end).unwrap()));
        }

        #[test]
        fn any_value_survives(value in any_json()) {
            let doc = parse(&value.to_string()).unwrap();
            prop_assert_eq!(rebuild(doc.root()), serde_json::from_str::<serde_json::Value>(&value.to_string()).unwrap());
        }

        #[test]
        fn agrees_with_serde_json_on_mutated_text(value in any_json(), at in any::<prop::sample::Index>(), with in "[\\[\\]{},:\"\\\\0-9a-u .+-]") {
            let mut chars: Vec<char> = value.to_string().chars().collect();
            let at = at.index(chars.len());
            chars[at] = with.chars().next().unwrap();
            let text: String = chars.into_iter().collect();
            // serde_json refuses lone surrogates and out-of-range numbers, which are kept here.
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(expected) => prop_assert_eq!(rebuild(parse(&text).unwrap().root()), expected),
                Err(error) => prop_assert!(
                    parse(&text).is_err()
                        || ["number out of range", "surrogate", "hex escape"].iter().any(|w| error.to_string().contains(w)),
                    "{text:?}: {error}"
                ),
            }
        }

        #[test]
        fn a_written_text_reads_back(text in any::<String>()) {
            let mut out = String::new();
            push_text(&mut out, &text);
            let doc = parse(&out).unwrap();
            prop_assert_eq!(doc.root().text().unwrap(), text.as_str());
        }
    }
}
