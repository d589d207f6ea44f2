//! From a journalled call to an [`Event`]: the common fields, identity, times and, for identify calls, the traits.
//! It has no clock and draws no ids: whoever journals a call fills its messageId (see [`envelope`]).
//!
//! A call is walked once; whatever is already in its one right form is pointed at and not copied.

mod common;
pub mod envelope;
mod traits;
mod values;

use std::sync::Arc;

use crate::event::{CallType, Event, Given, Slot, Span, Warning};
use crate::json::{Doc, Json, Kind};
use crate::names::Names;
use common::{Common, in_options};

/// The kinds of [`Warning`] that normalising gives: the closed list.
pub mod warning {
    /// A reserved trait's value cannot be one; it was kept among the custom traits.
    pub const TRAIT_INVALID: &str = "trait_invalid";
    /// A reserved trait was given in several spellings with different values; or `id` is not the userId.
    pub const TRAIT_CONFLICT: &str = "trait_conflict";
    /// A custom trait's name holds a space or a full stop; it was kept as it is. Given once a call.
    pub const TRAIT_KEY_CHARS: &str = "trait_key_chars";
    /// A reserved trait's value was taken though it is odd: a date before 1970, a period that ends before it starts.
    pub const TRAIT_SUSPECT: &str = "trait_suspect";
    /// A time without a zone; UTC was assumed.
    pub const ZONE_MISSING: &str = "zone_missing";
    /// A time of the call that cannot be read; it was treated as missing.
    pub const TIME_INVALID: &str = "time_invalid";
    /// The call was sent before it was made, by the client's clock; the time was kept.
    pub const CLOCK_SKEW: &str = "clock_skew";
    /// A common field was given in camel case and in snake case with different values; camel case was taken.
    pub const FIELD_CONFLICT: &str = "field_conflict";
    /// The messageId has more than 100 characters; it was accepted.
    pub const MESSAGE_ID_LONG: &str = "message_id_long";
    /// Invisible characters were removed from the messageId.
    pub const MESSAGE_ID_CLEANED: &str = "message_id_cleaned";
    /// `All` stands in `context` itself, an old form that has no effect; it belongs in `integrations`.
    pub const INTEGRATIONS_IN_CONTEXT: &str = "integrations_in_context";

    /// All of them.
    pub const ALL: &[&str] = &[
        TRAIT_INVALID,
        TRAIT_CONFLICT,
        TRAIT_KEY_CHARS,
        TRAIT_SUSPECT,
        ZONE_MISSING,
        TIME_INVALID,
        CLOCK_SKEW,
        FIELD_CONFLICT,
        MESSAGE_ID_LONG,
        MESSAGE_ID_CLEANED,
        INTEGRATIONS_IN_CONTEXT,
    ];
}

/// Why a call is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// A code from a closed list, the one that callers see: `invalid_json`, `not_an_object`, `type_missing`,
    /// `type_unknown`, `no_user_anon_id`, `id_not_string`, `traits_not_object`, `event_too_large`, and for batches
    /// `batch_missing`, `batch_not_list`, `too_many_events`.
    pub code: &'static str,
    /// What is wrong and what to do about it. Holds no value of the call.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }
}

/// The longest text that is taken, so that every offset fits its field: 256 MiB.
const MAX_TEXT: usize = 256 << 20;

impl CallType {
    /// The type of that name, in any case.
    pub fn named(name: &str) -> Option<CallType> {
        CallType::ALL.iter().copied().find(|call_type| call_type.name().eq_ignore_ascii_case(name))
    }
}

impl Event {
    /// Reads a journalled call: one call's JSON text, its batch's fields merged in. `names` are the paths that
    /// [`Event::named`] will answer for.
    pub fn parse(text: Arc<str>, received_at_ms: i64, names: &Names) -> Result<Event, Refusal> {
        let doc = read(text)?;
        Event::from_doc(doc, received_at_ms, names)
    }

    /// As [`Event::parse`], for a text that was read already.
    pub fn from_doc(doc: Doc, received_at_ms: i64, names: &Names) -> Result<Event, Refusal> {
        if doc.text().len() > MAX_TEXT {
            return Err(Refusal::new("event_too_large", "the call is too large; send at most 32 KiB"));
        }
        let mut draft = Draft::new(&doc, names);
        let common = Common::read(doc.root())?;
        let call_type = common.call_type()?;
        let user_id = draft.id(common.user_id, common.user_id_snake, "user_id")?;
        let anonymous_id = match draft.id(common.anonymous_id, common.anonymous_id_snake, "anonymous_id")? {
            Some(id) => Some(id),
            None => draft.id(common.session_id, None, "anonymous_id")?,
        };
        if user_id.is_none() && anonymous_id.is_none() {
            return Err(Refusal::new(
                "no_user_anon_id",
                "neither userId nor anonymousId is given; send at least one of them, as a non-empty string",
            ));
        }
        let message_id = draft.message_id(&common);
        let timestamp_ms = draft.timestamp(&common, received_at_ms);
        let context = common.context.filter(|context| context.kind() == Kind::Object);
        let places = draft.context(context);
        if call_type == CallType::Identify {
            let traits = traits::choose(common.traits, places.traits)?;
            draft.user_id = user_id;
            draft.traits(traits);
        }
        let integrations = common
            .integrations
            .or(places.integrations)
            .or_else(|| in_options(common.options, places.providers));
        let Draft { made, reserved, name_is_derived, customs, named, warnings, .. } = draft;
        let context = context.map(Json::position);
        let integrations = integrations.map(Json::position);
        Ok(Event {
            given: Given::of(&reserved),
            made,
            call_type,
            user_id,
            anonymous_id,
            message_id,
            timestamp_ms,
            received_at_ms,
            reserved,
            name_is_derived,
            customs,
            context,
            integrations,
            named,
            warnings,
            doc,
        })
    }
}

/// Reads JSON, or says why it is none.
pub fn read(text: Arc<str>) -> Result<Doc, Refusal> {
    Doc::parse(text).map_err(|error| {
        Refusal::new(
            "invalid_json",
            format!("the body is no JSON: {error}; send one JSON object, encoded as UTF-8"),
        )
    })
}

/// An event that is being made.
struct Draft<'a> {
    doc: &'a Doc,
    names: &'a Names,
    made: String,
    user_id: Option<Span>,
    reserved: Box<[Slot]>,
    name_is_derived: bool,
    customs: Vec<crate::event::Custom>,
    named: Box<[u32]>,
    warnings: Vec<Warning>,
}

impl<'a> Draft<'a> {
    fn new(doc: &'a Doc, names: &'a Names) -> Draft<'a> {
        Draft {
            doc,
            names,
            made: String::new(),
            user_id: None,
            reserved: Box::default(),
            name_is_derived: false,
            customs: Vec::with_capacity(16),
            named: vec![0; names.len()].into(),
            warnings: Vec::new(),
        }
    }

    fn warn(&mut self, kind: &'static str, about: &str) {
        let about = about.chars().take(100).collect();
        self.warnings.push(Warning { kind, about });
    }

    /// Adds a text to those that differ from the call's own.
    fn make(&mut self, text: &str) -> Span {
        let start = (self.doc.text().len() + self.made.len()) as u32;
        if self.made.is_empty() {
            // A call has few of them: most need no more than this.
            self.made.reserve(text.len().max(64));
        }
        self.made.push_str(text);
        Span { start, end: start + text.len() as u32 }
    }

    /// A text of the call: in place, or decoded if it has escapes.
    fn text(&mut self, json: Json<'_>) -> Span {
        let (start, end) = json.bounds();
        match json.plain_text() {
            Some(_) => Span { start: start + 1, end: end - 1 },
            None => self.make(&json.text().unwrap_or_default()),
        }
    }

    /// A text of the call without the white space around it.
    fn trimmed(&mut self, json: Json<'_>) -> Span {
        match json.plain_text() {
            Some(text) if !may_need_trim(text) => self.text(json),
            Some(text) => {
                let start = json.bounds().0 + 1 + (text.len() - text.trim_start().len()) as u32;
                Span { start, end: start + text.trim().len() as u32 }
            }
            None => self.make(json.text().unwrap_or_default().trim()),
        }
    }

    fn get(&self, span: Span) -> &str {
        text_at(self.doc, &self.made, span)
    }
}

/// The text of a span; see [`Span`].
fn text_at<'a>(doc: &'a Doc, made: &'a str, span: Span) -> &'a str {
    let base = doc.text().len();
    let (from, base) = if (span.start as usize) < base { (&**doc.text(), 0) } else { (made, base) };
    from.get(span.start as usize - base..span.end as usize - base).unwrap_or_default()
}

/// Whether a text may have white space at an end: quick, and only sometimes wrong where it says yes.
fn may_need_trim(text: &str) -> bool {
    let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| !byte.is_ascii_graphic());
    is_edge(text.bytes().next()) || is_edge(text.bytes().next_back())
}

/// Null, or a text of white space.
fn is_blank(json: Json<'_>) -> bool {
    match json.kind() {
        Kind::Null => true,
        Kind::Text => match json.plain_text() {
            Some(text) => text.is_empty() || (may_need_trim(text) && text.trim().is_empty()),
            None => json.text().is_none_or(|text| text.trim().is_empty()),
        },
        _ => false,
    }
}

fn not_blank(json: Option<Json<'_>>) -> Option<Json<'_>> {
    json.filter(|json| !is_blank(*json))
}

#[cfg(test)]
mod tests;
