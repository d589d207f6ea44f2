//! TOML with positions: a file's text as a tree in which every key and value knows where it stands, and a reader that
//! collects problems instead of stopping at the first. It knows no section of the manifest (`schema`).

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expression::{self, Part, Template};
use crate::problem::{Problem, nearest};

/// A TOML value and where it stands in the file.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub at: usize,
    pub value: Raw,
}

#[derive(Clone, Debug)]
pub(crate) enum Raw {
    Text(String),
    Number(String),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
}

/// A table's entries in the order of the file.
pub(crate) type Table = Vec<(Key, Node)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub at: usize,
    pub text: String,
}

/// What a value of a body, url, header or reason is written as.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Text(Template),
    /// A number or a yes/no, as JSON.
    Constant(String),
    List(usize, Vec<Data>),
    Table(usize, Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub key: Template,
    pub value: Data,
}

impl Entry {
    /// Whether it spreads its value into the table around it.
    pub fn is_spread(&self) -> bool {
        self.key.plain() == Some("...")
    }
}

impl Data {
    pub fn at(&self) -> usize {
        match self {
            Data::Text(template) => template.at,
            Data::Constant(_) => 0,
            Data::List(at, _) | Data::Table(at, _) => *at,
        }
    }

    /// Every text in it, keys included.
    pub fn templates<'a>(&'a self, found: &mut Vec<&'a Template>) {
        match self {
            Data::Text(template) => found.push(template),
            Data::Constant(_) => {}
            Data::List(_, items) => items.iter().for_each(|item| item.templates(found)),
            Data::Table(_, entries) => entries.iter().for_each(|entry| {
                found.push(&entry.key);
                entry.value.templates(found);
            }),
        }
    }
}

/// Reads a file's tree and collects what is wrong with it.
pub(crate) struct Reader<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Reader<'a> {
        Reader { file, text, problems: Vec::new() }
    }

    pub fn problem(&mut self, at: usize, message: impl Into<String>, remedy: impl Into<String>) {
        let problem = Problem::at(self.file, self.text, at, message, remedy);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// A name that is not one of the allowed ones, with the nearest as remedy.
    pub fn unknown<'n>(
        &mut self,
        at: usize,
        what: &str,
        name: &str,
        allowed: impl IntoIterator<Item = &'n str>,
    ) {
        let mut allowed: Vec<&str> = allowed.into_iter().collect();
        let remedy = match nearest(name, allowed.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None if allowed.is_empty() => "none is declared".to_owned(),
            None => {
                allowed.sort_unstable();
                format!("allowed: {}", allowed.join(", "))
            }
        };
        self.problem(at, format!("unknown {what} {name}"), remedy);
    }

    /// The file as a tree; an empty one where it is no TOML.
    pub fn tree(&mut self) -> Table {
        match DeTable::parse(self.text) {
            Ok(table) => convert_table(table.get_ref()),
            Err(error) => {
                self.problem(error.span().map_or(0, |span| span.start), error.message().to_owned(), "");
                Table::new()
            }
        }
    }

    pub fn template(&mut self, text: &str, at: usize) -> Template {
        // Behind the quotes, and exact only where the text has no escapes.
        let written = self.text.get(at..).unwrap_or_default();
        let quotes = if written.starts_with("\"\"\"") || written.starts_with("'''") { 3 } else { 1 };
        let exact = written.get(quotes..).is_some_and(|inner| inner.starts_with(text));
        let base = if exact { at + quotes } else { at };
        expression::parse(text, base).unwrap_or_else(|mistake| {
            let offset = if exact { mistake.at } else { 0 };
            self.problem(base + offset, format!("in \"{text}\": {}", mistake.message), "");
            Template { at: base, parts: vec![Part::Text(String::new())] }
        })
    }

    pub fn data(&mut self, node: &Node) -> Data {
        match &node.value {
            Raw::Text(text) => Data::Text(self.template(text, node.at)),
            Raw::Number(number) => Data::Constant(number.clone()),
            Raw::Bool(yes) => Data::Constant(yes.to_string()),
            Raw::List(items) => Data::List(node.at, items.iter().map(|item| self.data(item)).collect()),
            Raw::Table(table) => Data::Table(node.at, self.entries(table)),
        }
    }

    fn entries(&mut self, table: &Table) -> Vec<Entry> {
        let entry = |(key, value): &(Key, Node)| Entry {
            key: self.template(&key.text, key.at),
            value: self.data(value),
        };
        table.iter().map(entry).collect()
    }

    /// Reports every key that is none of the allowed ones.
    pub fn keys(&mut self, table: &Table, section: &str, allowed: &[&str]) {
        for (key, _) in table {
            if !allowed.contains(&key.text.as_str()) {
                self.unknown(key.at, &format!("key in {section}:"), &key.text, allowed.iter().copied());
            }
        }
    }

    pub fn table<'n>(&mut self, node: &'n Node, what: &str) -> &'n [(Key, Node)] {
        match &node.value {
            Raw::Table(table) => table,
            _ => self.wrong_type(node, what, "a table"),
        }
    }

    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Raw::List(items) => items,
            _ => self.wrong_type(node, what, "a list"),
        }
    }

    pub fn text(&mut self, node: &Node, what: &str) -> String {
        match &node.value {
            Raw::Text(text) => text.clone(),
            _ => self.wrong_type(node, what, "a text"),
        }
    }

    pub fn bool(&mut self, node: &Node, what: &str) -> bool {
        match node.value {
            Raw::Bool(yes) => yes,
            _ => self.wrong_type(node, what, "true or false"),
        }
    }

    pub fn texts(&mut self, node: &Node, what: &str) -> Vec<String> {
        self.list(node, what).iter().map(|item| self.text(item, what)).collect()
    }

    /// One of a closed list of words.
    pub fn word(&mut self, node: &Node, what: &str, allowed: &[&'static str]) -> Option<&'static str> {
        let text = self.text(node, what);
        let found = allowed.iter().copied().find(|word| *word == text);
        if found.is_none() {
            self.unknown(node.at, what, &text, allowed.iter().copied());
        }
        found
    }

    /// A length of time, such as `"10 s"`.
    pub fn duration(&mut self, node: &Node, what: &str) -> Option<std::time::Duration> {
        let text = self.text(node, what);
        let duration = super::units::duration(&text);
        if duration.is_none() {
            self.problem(
                node.at,
                format!("{what} is no duration: {text}"),
                "write it like \"10 s\"; units: ms, s, min, h, d",
            );
        }
        duration
    }

    /// An amount of bytes, such as `"8 MiB"`.
    pub fn size(&mut self, node: &Node, what: &str) -> Option<usize> {
        let text = self.text(node, what);
        let size = super::units::size(&text);
        if size.is_none() {
            self.problem(
                node.at,
                format!("{what} is no size: {text}"),
                "write it like \"499 kB\"; units: B, kB, MB, KiB, MiB",
            );
        }
        size
    }

    fn wrong_type<T: Default>(&mut self, node: &Node, what: &str, wanted: &str) -> T {
        let found = match node.value {
            Raw::Text(_) => "a text",
            Raw::Number(_) => "a number",
            Raw::Bool(_) => "true or false",
            Raw::List(_) => "a list",
            Raw::Table(_) => "a table",
        };
        self.problem(node.at, format!("{what} must be {wanted}, not {found}"), "");
        T::default()
    }
}

/// The value under a key of a table.
pub(crate) fn get<'n>(table: &'n [(Key, Node)], name: &str) -> Option<&'n Node> {
    table.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
}

fn convert_table(table: &DeTable<'_>) -> Table {
    let mut entries: Table = table
        .iter()
        .map(|(key, value)| (Key { at: key.span().start, text: key.get_ref().to_string() }, convert(value)))
        .collect();
    entries.sort_by_key(|(key, _)| key.at);
    entries
}

fn convert(value: &Spanned<DeValue<'_>>) -> Node {
    let raw = match value.get_ref() {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => Raw::Number(number.to_string().replace(['_', '+'], "")),
        DeValue::Float(number) => Raw::Number(number.to_string().replace(['_', '+'], "")),
        DeValue::Boolean(yes) => Raw::Bool(*yes),
        DeValue::Datetime(date) => Raw::Text(date.to_string()),
        DeValue::Array(items) => Raw::List(items.iter().map(convert).collect()),
        DeValue::Table(table) => Raw::Table(convert_table(table)),
    };
    Node { at: value.span().start, value: raw }
}
