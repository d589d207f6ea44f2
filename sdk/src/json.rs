//! JSON as fanout reads it: one pass over a text gives a flat list of nodes, each a span of that text.
//!
//! Nothing is copied and no number is converted, so what an application sent can be passed on byte by byte, and a
//! value is decoded only by whoever wants it. The same type serves calls and vendors' answers.
//! It does not write JSON; [`push_text`] escapes a text for those who do.
//!
//! Invariants: a [`Doc`] exists only for a complete, valid JSON text of at most [`MAX_DEPTH`] levels; a lone surrogate
//! escape (`\ud800`) has been replaced by `\ufffd`, so every text can be decoded; node `n + 1` is the first child of a
//! container `n`, and an object's children alternate between key and value.

use std::borrow::Cow;
use std::sync::Arc;

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

/// A parsed JSON text. Cheap to keep: the text is shared, the nodes are 20 bytes each.
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
            at: 0,
            nodes: Vec::with_capacity(16 + text.len() / 24),
            lone_surrogates: Vec::new(),
        };
        scanner.document()?;
        let Scanner { nodes, lone_surrogates, .. } = scanner;
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
        Members(self.children(Kind::Object))
    }

    /// The elements of a list; none for anything else.
    pub fn elements(self) -> Elements<'a> {
        Elements(self.children(Kind::List))
    }

    /// The member of an object by its exact name; the last one where a key was given twice.
    pub fn get(self, name: &str) -> Option<Json<'a>> {
        self.members().filter(|(key, _)| key == name).last().map(|(_, value)| value)
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
pub struct Members<'a>(Children<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Json<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?;
        let value = self.0.next()?;
        Some((key.text().unwrap_or_default(), value))
    }
}

/// See [`Json::pairs`].
pub(crate) struct Pairs<'a>(Children<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (Json<'a>, Json<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.next()?, self.0.next()?))
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
    let word = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)).to_le_bytes();
    let ends = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>());
    match (bytes.len(), ends, bytes.last_chunk::<8>()) {
        (4..8, (Some(start), Some(end)), _) => {
            first_special(&word(u32::from_le_bytes(*start), u32::from_le_bytes(*end))).is_none()
        }
        (8.., _, Some(end)) => {
            let (words, _) = bytes.as_chunks::<8>();
            words.iter().all(|word| first_special(word).is_none()) && first_special(end).is_none()
        }
        _ => first_special(bytes).is_none(),
    }
}

#[cold]
fn push_special(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = first_special(rest.as_bytes()) {
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

/// Where the first byte stands that is a quote, a backslash or a control character; eight bytes at a time.
#[inline]
fn first_special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    // The lowest bit set marks the first byte below `limit`; bits above it mean nothing.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * b'"' as u64), 1);
        let backslash = below(word ^ (ONES * b'\\' as u64), 1);
        let special = quote | backslash | below(word, 0x20);
        if special != 0 {
            return Some(at * 8 + special.trailing_zeros() as usize / 8);
        }
    }
    let tail = rest.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20)?;
    Some(words.len() * 8 + tail)
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    lone_surrogates: Vec<usize>,
}

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), JsonError> {
        if self.bytes.starts_with(b"\xef\xbb\xbf") {
            self.at = 3;
        }
        // The open containers, outermost first.
        let mut open: Vec<u32> = Vec::new();
        loop {
            self.white();
            let mut entered = self.value(&mut open)?;
            // After a value: close what ends here, then go on behind a comma.
            loop {
                let Some(&container) = open.last() else {
                    self.white();
                    return if self.at == self.bytes.len() {
                        Ok(())
                    } else {
                        Err(self.wrong("text after the value"))
                    };
                };
                let is_object =
                    self.nodes.get(container as usize).is_some_and(|node| node.kind == Kind::Object);
                self.white();
                match self.peek() {
                    Some(b',') if !entered => {
                        self.at += 1;
                        if is_object {
                            self.white();
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if is_object => self.close(&mut open),
                    Some(b']') if !is_object => self.close(&mut open),
                    Some(_) if entered => {
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(_) => return Err(self.wrong("expected a comma or the end of the list or object")),
                    None => return Err(self.wrong("the text ends too early")),
                }
                entered = false;
            }
        }
    }

    /// Reads a scalar, or enters a container; answers whether it entered one.
    fn value(&mut self, open: &mut Vec<u32>) -> Result<bool, JsonError> {
        match self.peek() {
            Some(b'"') => self.text()?,
            Some(first @ (b'{' | b'[')) => {
                if open.len() >= MAX_DEPTH {
                    return Err(self.wrong("nested more than 128 levels deep"));
                }
                open.push(self.nodes.len() as u32);
                let kind = if first == b'{' { Kind::Object } else { Kind::List };
                self.push(kind, self.at, 0, false);
                self.at += 1;
                return Ok(true);
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word(b"true", Kind::True)?,
            Some(b'f') => self.word(b"false", Kind::False)?,
            Some(b'n') => self.word(b"null", Kind::Null)?,
            Some(_) => return Err(self.wrong("expected a value")),
            None => return Err(self.wrong("the text ends too early")),
        }
        Ok(false)
    }

    fn close(&mut self, open: &mut Vec<u32>) {
        self.at += 1;
        let next = self.nodes.len() as u32;
        if let Some(node) = open.pop().and_then(|at| self.nodes.get_mut(at as usize)) {
            node.end = self.at as u32;
            node.next = next;
        }
    }

    fn key(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("expected a key"));
        }
        self.text()?;
        self.white();
        if self.peek() != Some(b':') {
            return Err(self.wrong("expected a colon"));
        }
        self.at += 1;
        Ok(())
    }

    fn text(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(skip) = first_special(rest) else {
                return Err(self.wrong("a string does not end"));
            };
            self.at += skip;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.push(Kind::Text, start, self.at, escaped);
                    return Ok(());
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.wrong("a control character inside a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => match self.surrogate(self.at)? {
                0xd800..0xdc00 if self.low_follows() => self.at += 12,
                0xd800..0xe000 => {
                    self.lone_surrogates.push(self.at);
                    self.at += 6;
                }
                _ => self.at += 6,
            },
            _ => return Err(self.wrong("an unknown escape")),
        }
        Ok(())
    }

    fn low_follows(&self) -> bool {
        self.bytes.get(self.at + 6..self.at + 8) == Some(b"\\u")
            && self.surrogate(self.at + 6).is_ok_and(|low| (0xdc00..0xe000).contains(&low))
    }

    /// The code of the `\uXXXX` escape at an offset.
    fn surrogate(&self, at: usize) -> Result<u32, JsonError> {
        let wrong = JsonError { at, what: "an escape without four hexadecimal digits" };
        let digits = self.bytes.get(at + 2..at + 6).ok_or(wrong)?;
        digits.iter().try_fold(0, |code, &digit| {
            (digit as char).to_digit(16).map(|digit| code << 4 | digit).ok_or(wrong)
        })
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.wrong("a number without digits")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        self.push(Kind::Number, start, self.at, false);
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), JsonError> {
        let before = self.at;
        self.digits();
        if self.at == before { Err(self.wrong("a number without digits")) } else { Ok(()) }
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<(), JsonError> {
        let end = self.at + word.len();
        if self.bytes.get(self.at..end) != Some(word) {
            return Err(self.wrong("expected a value"));
        }
        self.push(kind, self.at, end, false);
        self.at = end;
        Ok(())
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize, escaped: bool) {
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { kind, escaped, start: start as u32, end: end as u32, next });
    }

    fn white(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn wrong(&self, what: &'static str) -> JsonError {
        JsonError { at: self.at, what }
    }
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
            prop_assert_eq!(first_special(&bytes), expected);
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
