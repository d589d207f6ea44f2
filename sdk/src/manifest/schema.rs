//! The sections of a manifest as structures. `sections` reads them, `check` decides whether names mean something, and
//! values come in at `bind`.

use std::time::Duration;

use super::expression::Template;
use super::source::{Data, Key, Node};
use crate::destination::Rate;

/// A manifest's sections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    pub adapter: Adapter,
    pub settings: Vec<Setting>,
    pub options: Vec<Setting>,
    pub identity: Vec<Data>,
    pub tables: Vec<(Key, Node)>,
    pub values: Vec<(Key, Data)>,
    pub rest: Rest,
    pub fetches: Vec<Fetch>,
    pub upsert: Option<Upsert>,
    pub code: Option<CodeNames>,
    pub requests: Vec<Request>,
    pub deletes: Vec<Request>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Adapter {
    pub name: String,
    pub aliases: Vec<String>,
    pub opt_in: bool,
    /// Takes calls of every type, not identifies alone.
    pub all_calls: bool,
    pub docs: String,
    pub checked: String,
}

/// The types of settings and options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Secret,
    Bool,
    Int,
    Num,
    Choice,
    List,
    Map,
    Url,
    Host,
}

pub(super) const KINDS: &[(&str, Kind)] = &[
    ("text", Kind::Text),
    ("secret", Kind::Secret),
    ("bool", Kind::Bool),
    ("int", Kind::Int),
    ("num", Kind::Num),
    ("choice", Kind::Choice),
    ("list", Kind::List),
    ("map", Kind::Map),
    ("url", Kind::Url),
    ("host", Kind::Host),
];

impl Kind {
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// A setting, or an option of the call.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub at: usize,
    pub name: String,
    pub kind: Kind,
    pub doc: String,
    pub default: Option<Data>,
    pub optional: bool,
    /// Where it holds, the setting must be given; elsewhere it is optional.
    pub needed_when: Option<Data>,
    pub choices: Vec<Choice>,
    pub pattern: Option<String>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub secret: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub name: String,
    pub attributes: Vec<(String, String)>,
}

/// What becomes of the traits that no line names; `None` where nothing is said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    pub null: Option<Data>,
    pub dates: Option<Data>,
    pub guess_dates: Option<Data>,
    pub nested: Option<Data>,
    pub separator: Option<Data>,
    pub arrays: Option<Data>,
    pub joiner: Option<Data>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Rest {
    pub policies: Policies,
    pub drop: Vec<String>,
    pub copy: Vec<String>,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub at: usize,
    pub name: String,
    pub of: Option<Data>,
    pub only: Option<Data>,
    pub names: Option<Data>,
    pub drop: Option<Data>,
    pub kinds: Vec<&'static str>,
    pub key: Option<Data>,
    pub value: Option<Data>,
    pub max: Option<usize>,
    pub policies: Policies,
}

/// Look up, then update or create: the names of the requests that do it.
#[derive(Clone, Debug)]
pub(crate) struct Upsert {
    pub at: usize,
    pub find: Vec<(usize, String)>,
    pub update: Option<(usize, String)>,
    pub create: Option<(usize, String)>,
    pub remember: Option<Duration>,
    pub when: Vec<Data>,
}

impl Upsert {
    /// Every request that it names.
    pub fn requests(&self) -> impl Iterator<Item = &(usize, String)> {
        self.find.iter().chain(&self.update).chain(&self.create)
    }
}

/// What code beside the manifest and the manifest call each other's things.
#[derive(Clone, Debug)]
pub(crate) struct CodeNames {
    /// What rules may tell the code.
    pub words: Vec<(usize, String)>,
    /// What the code gives, read as `{given.NAME}`.
    pub gives: Vec<(usize, String)>,
    /// The requests on demand that the code asks for.
    pub asks: Vec<(usize, String)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub name: String,
    pub at: usize,
    pub request: Request,
    pub keep: Option<Data>,
    pub each: Option<Data>,
    pub key: Option<Data>,
    pub lasts: Option<Data>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub at: usize,
    pub name: String,
    pub when: Vec<Data>,
    pub unless: Vec<Data>,
    pub on_demand: bool,
    pub optional: bool,
    pub method: Option<Data>,
    pub url: Option<Data>,
    pub query: Option<Data>,
    pub headers: Option<Data>,
    pub encoding: Option<Data>,
    pub timeout: Option<Duration>,
    pub body: Option<Data>,
    pub item: Option<Data>,
    pub batch: Option<Batch>,
    /// What a delivered answer gives: the id that was found or created.
    pub keep: Option<Data>,
    pub rates: Vec<Rate>,
    pub concurrency: Option<usize>,
    pub outcomes: Vec<Rule>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub at: usize,
    pub items: Option<Data>,
    pub bytes: Option<usize>,
    pub item_bytes: Option<usize>,
    pub linger: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub at: usize,
    pub status: Vec<Status>,
    pub when: Vec<Data>,
    pub unless: Vec<Data>,
    pub each: Option<Data>,
    pub index: Option<Data>,
    pub id: Option<Data>,
    pub item: Option<Data>,
    pub then: Then,
    pub after: Option<Data>,
    pub times: Option<u32>,
    pub pace: Option<Duration>,
    pub reason: Option<Data>,
    /// The id that was found, or what the code is told.
    pub keep: Option<Data>,
    /// The request with which what was found is updated, where it is not the usual one.
    pub update: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Exactly(u16),
    /// `4` for `"4xx"`.
    Hundreds(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Delivered,
    Submitted,
    Retry,
    Throttled,
    Rejected,
    Unauthorised,
    Split,
    Send(String),
    Found,
    Missing,
    Tell(String),
}

/// Every text of an optional piece of data.
pub(crate) fn templates_of<'a>(data: impl IntoIterator<Item = &'a Data>) -> Vec<&'a Template> {
    let mut found = Vec::new();
    data.into_iter().for_each(|data| data.templates(&mut found));
    found
}
