//! What an expression may read while it runs, and what is noticed on the way. Reading it is `render`'s.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::field::FieldBuffer;
use super::forms::DatePolicy;
use super::plan::Program;
use super::value::Value;
use crate::event::{Event, Warning};
use crate::json::{Doc, Json};

/// What stands where a secret would.
pub(crate) const MASK: &str = "***";

/// Why there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    Absent,
    /// The nearest table around is absent too.
    Required,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// Only what the manifest says; it makes no table present.
    Constant,
    Present,
}

/// What is known of the id that an upsert looks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Found<'a> {
    /// The upsert has not been made.
    #[default]
    Unknown,
    /// The vendor does not have it.
    Nothing,
    Id(&'a str),
}

/// A vendor's answer, read once.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// The body where it is JSON.
    pub doc: Option<Doc>,
    pub text: String,
}

/// What is known of the attempt when its bytes are ready.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub id: String,
    pub time_ms: i64,
    pub nonce: String,
    pub body: String,
}

/// What was noticed on the way.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Where the last `required` stands that found nothing.
    pub required_at: Cell<Option<usize>>,
    pub warnings: RefCell<Vec<Warning>>,
    /// Ranges of the buffer that differ from call to call.
    pub volatile: RefCell<Vec<(usize, usize)>>,
}

impl Notes {
    /// Notes what was odd; once, however often the same place is read.
    pub fn warn(&self, kind: &'static str, about: &str) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.iter().any(|warning| warning.kind == kind && warning.about == about) {
            return;
        }
        warnings.push(Warning { kind, about: about.to_owned() });
    }

    /// Takes back what was written behind `mark`.
    pub fn cut(&self, out: &mut String, mark: usize) {
        out.truncate(mark);
        let mut ranges = self.volatile.borrow_mut();
        while ranges.last().is_some_and(|(_, end)| *end > mark) {
            ranges.pop();
        }
    }
}

/// Everything an expression may read.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub program: &'a Program,
    pub notes: &'a Notes,
    pub event: Option<&'a Event>,
    pub options: Option<Json<'a>>,
    pub identity: Option<&'a Value<'a>>,
    pub fields: &'a [FieldBuffer],
    /// What the fetches keep; shorter where it is not known, as in a preview.
    pub fetched: &'a [Arc<Doc>],
    pub replies: &'a [(usize, Arc<Reply>)],
    pub found: Found<'a>,
    /// What the code has given, by position.
    pub given: &'a [(usize, Arc<str>)],
    /// Whether what is not known now never will be, as while a request is sent; else it is shown by its name.
    pub settled: bool,
    pub reply: Option<&'a Reply>,
    pub items: &'a str,
    pub attempt: Option<&'a Attempt>,
    pub key: Option<&'a Value<'a>>,
    pub value: Option<&'a Value<'a>>,
    /// How dates are written that name no format.
    pub dates: Option<&'a DatePolicy>,
    /// Whether texts that look like a moment count as dates.
    pub guess_dates: bool,
    pub now_ms: i64,
    /// Whether secrets are written as `***`.
    pub hide: bool,
}
