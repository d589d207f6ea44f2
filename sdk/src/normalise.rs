//! From a journalled call to an [`Event`]: the common fields, identity, times and, for identify calls, the traits.
//! It has no clock and draws no ids: whoever journals a call fills its messageId (see [`envelope`]).
//!
//! A call is walked once; whatever is already in its one right form is pointed at and not copied.

pub mod envelope;
mod traits;
mod values;

use std::sync::Arc;

use crate::dates;
use crate::event::{CallType, Date, Event, Slot, Span, Warning};
use crate::json::{Doc, Json, Kind};
use crate::names::{Names, Root};
use crate::reserved::Reserved;

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

/// The last places where flags may stand, both from the days before `integrations`.
fn in_options<'a>(options: Option<Json<'a>>, context_providers: Option<Json<'a>>) -> Option<Json<'a>> {
    let in_options = options.and_then(|options| options.get("integrations"));
    in_options.or(context_providers).or_else(|| options.and_then(|options| options.get("providers")))
}

/// The members of a call that mean something, wherever they were found.
#[derive(Default)]
struct Common<'a> {
    call_type: Option<Json<'a>>,
    user_id: Option<Json<'a>>,
    user_id_snake: Option<Json<'a>>,
    anonymous_id: Option<Json<'a>>,
    anonymous_id_snake: Option<Json<'a>>,
    session_id: Option<Json<'a>>,
    message_id: Option<Json<'a>>,
    message_id_snake: Option<Json<'a>>,
    timestamp: Option<Json<'a>>,
    original_timestamp: Option<Json<'a>>,
    original_timestamp_snake: Option<Json<'a>>,
    sent_at: Option<Json<'a>>,
    sent_at_snake: Option<Json<'a>>,
    context: Option<Json<'a>>,
    integrations: Option<Json<'a>>,
    options: Option<Json<'a>>,
    traits: Option<Json<'a>>,
}

impl<'a> Common<'a> {
    fn read(root: Json<'a>) -> Result<Common<'a>, Refusal> {
        if root.kind() != Kind::Object {
            return Err(Refusal::new(
                "not_an_object",
                "a call must be a JSON object, such as {\"type\":\"identify\", …}",
            ));
        }
        let mut common = Common::default();
        for (key, value) in root.members() {
            let slot = match &*key {
                "type" => &mut common.call_type,
                "userId" => &mut common.user_id,
                "user_id" => &mut common.user_id_snake,
                "anonymousId" => &mut common.anonymous_id,
                "anonymous_id" => &mut common.anonymous_id_snake,
                "sessionId" => &mut common.session_id,
                "messageId" => &mut common.message_id,
                "message_id" => &mut common.message_id_snake,
                "timestamp" => &mut common.timestamp,
                "originalTimestamp" => &mut common.original_timestamp,
                "original_timestamp" => &mut common.original_timestamp_snake,
                "sentAt" => &mut common.sent_at,
                "sent_at" => &mut common.sent_at_snake,
                "context" => &mut common.context,
                "integrations" => &mut common.integrations,
                "options" => &mut common.options,
                "traits" => &mut common.traits,
                _ => continue,
            };
            *slot = Some(value);
        }
        Ok(common)
    }

    fn call_type(&self) -> Result<CallType, Refusal> {
        let name =
            self.call_type.and_then(Json::text).filter(|name| !name.trim().is_empty()).ok_or_else(|| {
                Refusal::new(
                    "type_missing",
                    "type is not given; send type \"identify\", or use the path /v1/identify",
                )
            })?;
        CallType::named(&name).ok_or_else(|| {
            Refusal::new("type_unknown", "type must be identify, track, page, screen, group or alias")
        })
    }
}

/// What the context holds besides itself.
#[derive(Default)]
struct Places<'a> {
    traits: Option<Json<'a>>,
    integrations: Option<Json<'a>>,
    providers: Option<Json<'a>>,
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
            customs: Vec::with_capacity(8),
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

    /// A userId or anonymousId from its camel-case or snake-case field.
    fn id(
        &mut self,
        camel: Option<Json<'a>>,
        snake: Option<Json<'a>>,
        name: &str,
    ) -> Result<Option<Span>, Refusal> {
        let camel = camel.filter(|id| !is_blank(*id));
        let snake = snake.filter(|id| !is_blank(*id));
        if let (Some(camel), Some(snake)) = (camel, snake)
            && camel.raw() != snake.raw()
        {
            self.warn(warning::FIELD_CONFLICT, name);
        }
        let Some(id) = camel.or(snake) else { return Ok(None) };
        match id.kind() {
            Kind::Text => Ok(Some(self.text(id))),
            Kind::Number => Ok(Some(self.number(id))),
            _ => Err(Refusal::new(
                "id_not_string",
                format!("{name} is neither a string nor a number; send it as a non-empty string"),
            )),
        }
    }

    /// A number as the text of an id: whole ones without exponent or fraction, others as they were written.
    fn number(&mut self, json: Json<'_>) -> Span {
        let raw = json.raw();
        match values::whole(raw) {
            Some(digits) if *digits != *raw => self.make(&digits),
            _ => {
                let (start, end) = json.bounds();
                Span { start, end }
            }
        }
    }

    fn message_id(&mut self, common: &Common<'a>) -> Span {
        let Some(field) = message_id_field(common.message_id, common.message_id_snake) else {
            return self.make("");
        };
        let id = if field.kind() == Kind::Number {
            self.number(field)
        } else {
            let text = field.text().unwrap_or_default();
            let is_clean = text.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_clean && text.contains(is_invisible) {
                self.warn(warning::MESSAGE_ID_CLEANED, "message_id");
                self.make(&text.replace(is_invisible, ""))
            } else {
                self.text(field)
            }
        };
        let text = self.get(id);
        if text.len() > 100 && text.chars().count() > 100 {
            self.warn(warning::MESSAGE_ID_LONG, "message_id");
        }
        id
    }

    /// When the call was made, by the server's clock: received − (sent − made), each as far as it is known.
    fn timestamp(&mut self, common: &Common<'a>, received_at_ms: i64) -> i64 {
        let original = match self.time(common.timestamp, "timestamp") {
            Some(ms) => Some(ms),
            None => {
                let field = not_blank(common.original_timestamp).or(common.original_timestamp_snake);
                self.time(field, "original_timestamp")
            }
        };
        let sent = self.time(not_blank(common.sent_at).or(common.sent_at_snake), "sent_at");
        let timestamp = match (original, sent) {
            (None, _) => received_at_ms,
            (Some(original), None) => original,
            (Some(original), Some(sent)) => {
                if sent < original {
                    self.warn(warning::CLOCK_SKEW, "timestamp");
                }
                received_at_ms.saturating_sub(sent.saturating_sub(original))
            }
        };
        timestamp.clamp(dates::MIN_MS, dates::MAX_MS)
    }

    fn time(&mut self, field: Option<Json<'a>>, name: &str) -> Option<i64> {
        let field = not_blank(field)?;
        let parsed = match field.kind() {
            Kind::Number => dates::parse_number(field.raw()).map(|date| (date, false)),
            Kind::Text => field.text().and_then(|text| dates::parse(&text)).map(|p| (p.date, p.zone_missing)),
            _ => None,
        };
        let Some((date, zone_missing)) = parsed else {
            self.warn(warning::TIME_INVALID, name);
            return None;
        };
        if zone_missing {
            self.warn(warning::ZONE_MISSING, name);
        }
        Some(Date::unix_ms(date))
    }

    /// Walks the context once: the paths that manifests name, and what may stand there instead of at the top.
    fn context(&mut self, context: Option<Json<'a>>) -> Places<'a> {
        let mut places = Places::default();
        let Some(context) = context else { return places };
        let branch = self.names.branch(Root::Context);
        for (key, value) in context.members() {
            match &*key {
                "traits" => places.traits = Some(value),
                "integrations" => places.integrations = Some(value),
                "providers" => places.providers = Some(value),
                "All" | "all" => self.warn(warning::INTEGRATIONS_IN_CONTEXT, "context.All"),
                _ => {}
            }
            if let Some(branch) = branch.child(&key) {
                branch.note(value, &mut self.named);
            }
        }
        places
    }
}

/// The text of a span; see [`Span`].
fn text_at<'a>(doc: &'a Doc, made: &'a str, span: Span) -> &'a str {
    let base = doc.text().len();
    let (from, base) = if (span.start as usize) < base { (&**doc.text(), 0) } else { (made, base) };
    from.get(span.start as usize - base..span.end as usize - base).unwrap_or_default()
}

/// The field that holds a usable messageId: text that is more than invisible characters and white space, or a number.
fn message_id_field<'a>(camel: Option<Json<'a>>, snake: Option<Json<'a>>) -> Option<Json<'a>> {
    [camel, snake].into_iter().flatten().find(|field| match field.kind() {
        Kind::Number => true,
        Kind::Text => {
            field.text().is_some_and(|text| text.chars().any(|c| !is_invisible(c) && !c.is_whitespace()))
        }
        _ => false,
    })
}

/// Control characters, and those that take no room: zero-width spaces and joiners, and the byte order mark.
fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
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

/// Reserved traits whose slots are in the order start, end.
const PERIODS: [(Reserved, Reserved); 2] = [
    (Reserved::SubscriptionServiceTrialPeriodStartAt, Reserved::SubscriptionServiceTrialPeriodEndAt),
    (Reserved::SubscriptionServicePeriodStartAt, Reserved::SubscriptionServicePeriodEndAt),
];

#[cfg(test)]
mod tests;
