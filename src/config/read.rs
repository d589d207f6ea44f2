//! Takes single values out of a parsed file, by their setting's kind, and remembers what is wrong with them and where.
//! It knows neither which settings there are nor how they belong together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fanout_sdk::destination::Rate;
use fanout_sdk::problem::{Problem, nearest};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expand::{Unexpanded, World, expand};
use super::schema::{Absent, Key, Kind, Table};
use super::values::{ByteSize, Secret, parse_duration, show_duration};

/// A value with its place.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// Reads one file.
pub struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    world: &'a World<'a>,
    /// What keeps the file from being used.
    pub errors: Vec<Problem>,
    /// What is odd.
    pub warnings: Vec<Problem>,
}

/// A table of the file beside what it may hold; an absent one gives its defaults.
pub struct Section<'a> {
    table: Option<&'a DeTable<'a>>,
    schema: &'static Table,
    name: String,
    /// Where it starts.
    pub at: usize,
}

impl<'a> Section<'a> {
    /// The value of a key, where it is given.
    pub fn get(&self, key: &str) -> Option<&'a Value<'a>> {
        self.table?.get(key)
    }

    /// Where the value of a key stands; the table itself where it is not given.
    pub fn place(&self, key: &str) -> usize {
        self.get(key).map_or(self.at, |value| value.span().start)
    }

    /// Where a key of a table further inside stands, where it is given.
    pub fn find(&self, tables: &str, key: &str) -> Option<usize> {
        let table =
            tables.split('.').try_fold(self.table?, |table, name| table.get(name)?.get_ref().as_table())?;
        Some(table.get(key)?.span().start)
    }

    /// A key with the names of its tables, such as `server.listen`.
    pub fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

impl<'a> Reader<'a> {
    /// For a file of that name with that text.
    pub fn new(file: &'a str, text: &'a str, world: &'a World<'a>) -> Reader<'a> {
        Reader { file, text, world, errors: Vec::new(), warnings: Vec::new() }
    }

    /// Remembers an error.
    pub fn error(&mut self, at: usize, message: impl Into<String>, remedy: impl Into<String>) {
        self.errors.push(Problem::at(self.file, self.text, at, message, remedy));
    }

    /// Remembers a warning.
    pub fn warn(&mut self, at: usize, message: impl Into<String>, remedy: impl Into<String>) {
        self.warnings.push(Problem::at(self.file, self.text, at, message, remedy));
    }

    /// A table with its schema; unknown keys become errors.
    pub fn section(
        &mut self,
        name: &str,
        schema: &'static Table,
        at: usize,
        table: Option<&'a DeTable<'a>>,
    ) -> Section<'a> {
        let section = Section { table, schema, name: name.to_owned(), at };
        for key in table.into_iter().flat_map(|table| table.keys()) {
            if schema.key(key.get_ref()).is_none() {
                self.unknown(&section, key.span().start, key.get_ref());
            }
        }
        section
    }

    fn unknown(&mut self, section: &Section<'_>, at: usize, key: &str) {
        let known = || section.schema.keys.iter().map(|key| key.name);
        let remedy = match nearest(key, known()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the keys here are {}", list(known())),
        };
        self.error(at, format!("unknown key `{}`", section.path(key)), remedy);
    }

    /// A table inside a table.
    pub fn subsection(&mut self, parent: &Section<'a>, key: &str, schema: &'static Table) -> Section<'a> {
        let value = parent.get(key);
        let table = value.and_then(|value| self.table(&parent.path(key), value));
        self.section(&parent.path(key), schema, parent.place(key), table)
    }

    /// A value that must be a table.
    pub fn table(&mut self, path: &str, value: &'a Value<'a>) -> Option<&'a DeTable<'a>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let message = format!("`{path}` is {}, not a table", describe(value.get_ref()));
            self.error(
                value.span().start,
                message,
                format!("write it under a header of its own: `[{path}]`"),
            );
        }
        table
    }

    /// Reads `true` or `false`.
    pub fn flag(&mut self, section: &Section<'a>, key: &str) -> Option<bool> {
        self.read(section, key, |reader, key, value| {
            let parsed = match value.get_ref() {
                DeValue::Boolean(flag) => Some(*flag),
                DeValue::String(_) => reader.expanded(value)?.parse().ok(),
                _ => None,
            };
            reader.expect(parsed, section, key, value, "write true or false without quotes".into())
        })
    }

    /// Reads a whole number within the setting's bounds.
    pub fn count(&mut self, section: &Section<'a>, key: &str) -> Option<usize> {
        self.read(section, key, |reader, key, value| {
            let parsed = match value.get_ref() {
                DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
                DeValue::String(_) => reader.expanded(value)?.parse().ok(),
                _ => None,
            };
            let number = reader.expect(parsed, section, key, value, String::new())?;
            let bounds = match key.kind {
                Kind::Count(min, max) => i128::from(min)..=i128::from(max),
                _ => 0..=i128::from(u32::MAX),
            };
            reader.bounded(bounds.contains(&number), section, key, value, &number.to_string())?;
            usize::try_from(number).ok()
        })
    }

    /// Reads a size within the setting's bounds.
    pub fn size(&mut self, section: &Section<'a>, key: &str) -> Option<ByteSize> {
        self.read(section, key, |reader, key, value| {
            let remedy = "write a whole number with its unit, such as \"500 KiB\" or \"10 GiB\"";
            let size = reader.parsed(section, key, value, remedy, ByteSize::parse)?;
            let fits = matches!(key.kind, Kind::Size(min, max) if (min..=max).contains(&size));
            reader.bounded(fits, section, key, value, &size.to_string())?;
            Some(size)
        })
    }

    /// Reads a length of time within the setting's bounds.
    pub fn time(&mut self, section: &Section<'a>, key: &str) -> Option<Duration> {
        self.read(section, key, |reader, key, value| {
            let remedy = "write a whole number with its unit, such as \"500 ms\", \"30 s\", \"5 min\", \"24 h\" or \"7 d\"";
            let time = reader.parsed(section, key, value, remedy, parse_duration)?;
            let fits = matches!(key.kind, Kind::Time(min, max) if (min..=max).contains(&time));
            reader.bounded(fits, section, key, value, &show_duration(time))?;
            Some(time)
        })
    }

    /// Reads a rate.
    pub fn rate(&mut self, section: &Section<'a>, key: &str) -> Option<Rate> {
        self.read(section, key, |reader, key, value| {
            let remedy = "write how many `requests`, `items` or `bytes` in which time, such as \"100 requests per 10 s\"";
            reader.parsed(section, key, value, remedy, Rate::parse)
        })
    }

    /// Reads an IP address and a port.
    pub fn address(&mut self, section: &Section<'a>, key: &str) -> Option<SocketAddr> {
        self.read(section, key, |reader, key, value| {
            let remedy = "write an IP address and a port, such as \"127.0.0.1:8080\", or \"0.0.0.0:8080\" for every interface";
            reader.parsed(section, key, value, remedy, |text| text.parse().ok())
        })
    }

    /// Reads an `http` or `https` address; without a slash at the end.
    pub fn url(&mut self, section: &Section<'a>, key: &str) -> Option<String> {
        self.read(section, key, |reader, key, value| {
            let remedy =
                "write an address such as \"https://events.example.com\", without query, user or password";
            reader.parsed(section, key, value, remedy, parse_url)
        })
    }

    /// Reads a name.
    pub fn name(&mut self, whose: &str, section: &Section<'a>, key: &str) -> Option<String> {
        let name = self.text(section, key)?;
        self.is_name(whose, section.place(key), &name).then_some(name)
    }

    /// Whether a text may be a name; an error if not.
    pub fn is_name(&mut self, whose: &str, at: usize, name: &str) -> bool {
        let good = is_name(name);
        if !good {
            self.error(
                at,
                format!("\"{name}\" is no name for {whose}"),
                "use 1 to 64 of `a-z`, `0-9`, `_` and `-`",
            );
        }
        good
    }

    /// Reads a text that is not empty.
    pub fn text(&mut self, section: &Section<'a>, key: &str) -> Option<String> {
        self.read(section, key, |reader, key, value| {
            let text = match value.get_ref() {
                DeValue::String(_) => Some(reader.expanded(value)?),
                _ => None,
            };
            let text = reader.expect(text, section, key, value, "write it in quotes".into())?;
            if text.trim().is_empty() {
                let path = section.path(key.name);
                reader.error(
                    value.span().start,
                    format!("`{path}` is empty"),
                    "give it a value or leave the line out",
                );
                return None;
            }
            Some(text)
        })
    }

    /// Reads a text that is not shown.
    pub fn secret(&mut self, section: &Section<'a>, key: &str) -> Option<Secret> {
        self.text(section, key).map(Secret::new)
    }

    /// Reads the path of a PEM file and what the file holds.
    pub fn file(&mut self, section: &Section<'a>, key: &str) -> Option<(PathBuf, String)> {
        let path = self.text(section, key)?;
        match (self.world.file)(Path::new(&path)) {
            Ok(text) => Some((path.into(), text)),
            Err(error) => {
                let (message, remedy) = match error.kind() {
                    std::io::ErrorKind::InvalidData => (
                        format!("the file `{path}` is in binary form, not in PEM form"),
                        "convert it, a certificate with `openssl x509 -inform der -in FILE -out FILE.pem`, \
                         a key with `openssl pkey -inform der -in FILE -out FILE.pem`"
                            .to_owned(),
                    ),
                    _ => Unexpanded::Unreadable(path, error.to_string()).explain(),
                };
                self.error(section.place(key), message, remedy);
                None
            }
        }
    }

    /// Reads a list of texts, each with its place.
    pub fn texts(&mut self, section: &Section<'a>, key: &str) -> Option<Vec<(String, usize)>> {
        self.read(section, key, |reader, key, value| {
            let items = value.get_ref().as_array();
            let items = reader.expect(items, section, key, value, "write it as [\"one\", \"two\"]".into())?;
            let mut texts = Vec::new();
            for item in items {
                if item.get_ref().is_str() {
                    texts.push((reader.expanded(item)?, item.span().start));
                } else {
                    let message = format!("`{}` holds {}", section.path(key.name), describe(item.get_ref()));
                    reader.error(item.span().start, message, "write it in quotes");
                }
            }
            Some(texts)
        })
    }

    /// Whether the key is given at all, or else has a default.
    fn read<T>(
        &mut self,
        section: &Section<'a>,
        key: &str,
        read: impl Fn(&mut Self, &'static Key, &Value<'_>) -> Option<T>,
    ) -> Option<T> {
        let key = section.schema.key(key)?;
        if let Some(value) = section.get(key.name) {
            return read(self, key, value);
        }
        match key.absent {
            Absent::Default(default) => read(self, key, &DeValue::parse(default).ok()?),
            Absent::Refused => {
                let message = format!("`{}` is missing", section.path(key.name));
                self.error(section.at, message, format!("add `{} = \"…\"`", key.name));
                None
            }
            Absent::Means(_) => None,
        }
    }

    fn parsed<T>(
        &mut self,
        section: &Section<'_>,
        key: &Key,
        value: &Value<'_>,
        remedy: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let DeValue::String(_) = value.get_ref() else {
            return self.expect(None, section, key, value, remedy.into());
        };
        let text = self.expanded(value)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            // An address may hold a password.
            let shown = if matches!(key.kind, Kind::Url) { "a text".into() } else { format!("\"{text}\"") };
            let message = format!("`{}` is {shown}, not {}", section.path(key.name), what(key.kind));
            self.error(value.span().start, message, remedy);
        }
        parsed
    }

    /// An error where there is no value because the kind is wrong.
    fn expect<T>(
        &mut self,
        parsed: Option<T>,
        section: &Section<'_>,
        key: &Key,
        value: &Value<'_>,
        remedy: String,
    ) -> Option<T> {
        if parsed.is_none() {
            let message = format!(
                "`{}` is {}, not {}",
                section.path(key.name),
                describe(value.get_ref()),
                what(key.kind)
            );
            self.error(value.span().start, message, remedy);
        }
        parsed
    }

    fn bounded(
        &mut self,
        fits: bool,
        section: &Section<'_>,
        key: &Key,
        value: &Value<'_>,
        shown: &str,
    ) -> Option<()> {
        if !fits {
            let message = format!("`{}` is {shown}", section.path(key.name));
            self.error(value.span().start, message, format!("use {}", key.kind.describe()));
        }
        fits.then_some(())
    }

    /// A text with everything put in; what cannot be put in becomes errors.
    pub fn expanded(&mut self, value: &Value<'_>) -> Option<String> {
        match expand(value.get_ref().as_str()?, self.world) {
            Ok(text) => Some(text),
            Err(wrong) => {
                for why in wrong {
                    let (message, remedy) = why.explain();
                    self.error(value.span().start, message, remedy);
                }
                None
            }
        }
    }

    /// A value as it is handed to an adapter. Where `needed` is not set, a text whose variables or files are missing is
    /// left out without an error, and `whole` becomes false.
    pub fn plain(&mut self, value: &Value<'_>, needed: bool, whole: &mut bool) -> Option<toml::Value> {
        Some(match value.get_ref() {
            DeValue::String(text) if !needed => match expand(text, self.world) {
                Err(wrong) if !wrong.contains(&Unexpanded::Malformed) => {
                    *whole = false;
                    return None;
                }
                _ => toml::Value::String(self.expanded(value)?),
            },
            DeValue::String(_) => toml::Value::String(self.expanded(value)?),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => toml::Value::Integer(number),
                Err(_) => {
                    self.error(value.span().start, "the number is too large", "use a smaller one, or a text");
                    return None;
                }
            },
            DeValue::Float(number) => toml::Value::Float(number.as_str().parse().ok()?),
            DeValue::Boolean(flag) => toml::Value::Boolean(*flag),
            DeValue::Datetime(time) => toml::Value::Datetime(*time),
            DeValue::Array(items) => {
                toml::Value::Array(items.iter().filter_map(|item| self.plain(item, needed, whole)).collect())
            }
            DeValue::Table(table) => {
                let mut plain = toml::Table::new();
                for (key, value) in table.iter() {
                    if let Some(value) = self.plain(value, needed, whole) {
                        plain.insert(key.get_ref().to_string(), value);
                    }
                }
                toml::Value::Table(plain)
            }
        })
    }
}

/// Where the value at a path inside a value stands, as near as it can be told.
pub fn locate(value: &Value<'_>, path: &[String]) -> usize {
    let Some((first, rest)) = path.split_first() else { return value.span().start };
    match value.get_ref() {
        DeValue::Table(table) => match table.get_key_value(first.as_str()) {
            Some((key, _)) if rest.is_empty() => key.span().start,
            Some((_, inner)) => locate(inner, rest),
            None => value.span().start,
        },
        DeValue::Array(items) => match first.parse().ok().and_then(|index: usize| items.get(index)) {
            Some(inner) => locate(inner, rest),
            None => value.span().start,
        },
        _ => value.span().start,
    }
}

/// Whether a text may name a source, a destination or an adapter.
pub fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    (1..=64).contains(&text.len()) && text.chars().all(allowed)
}

/// Names in a sentence.
pub fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        None => "none".into(),
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}

fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn what(kind: Kind) -> &'static str {
    match kind {
        Kind::Flag => "true or false",
        Kind::Count(..) => "a whole number",
        Kind::Size(..) => "a size",
        Kind::Time(..) => "a time",
        Kind::Rate => "a rate",
        Kind::Address => "an address to listen at",
        Kind::Url => "an http or https address",
        Kind::Name | Kind::Text | Kind::Secret | Kind::Path => "a text",
        Kind::Texts => "a list of texts",
        Kind::Section | Kind::Settings => "a table",
    }
}

fn parse_url(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    plain.then(|| url.as_str().trim_end_matches('/').to_owned())
}
