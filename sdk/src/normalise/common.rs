//! The common fields of a call: its type, who it is about, its messageId, its times, and what stands in the context.
//! It does not look at traits.

use super::values;
use super::{Draft, Refusal, is_blank, not_blank, warning};
use crate::dates;
use crate::event::{CallType, Date, Span};
use crate::json::{Json, Kind};
use crate::names::Root;

/// The members of a call that mean something, wherever they were found.
#[derive(Default)]
pub(super) struct Common<'a> {
    pub(super) call_type: Option<Json<'a>>,
    pub(super) user_id: Option<Json<'a>>,
    pub(super) user_id_snake: Option<Json<'a>>,
    pub(super) anonymous_id: Option<Json<'a>>,
    pub(super) anonymous_id_snake: Option<Json<'a>>,
    pub(super) session_id: Option<Json<'a>>,
    pub(super) message_id: Option<Json<'a>>,
    pub(super) message_id_snake: Option<Json<'a>>,
    pub(super) timestamp: Option<Json<'a>>,
    pub(super) original_timestamp: Option<Json<'a>>,
    pub(super) original_timestamp_snake: Option<Json<'a>>,
    pub(super) sent_at: Option<Json<'a>>,
    pub(super) sent_at_snake: Option<Json<'a>>,
    pub(super) context: Option<Json<'a>>,
    pub(super) integrations: Option<Json<'a>>,
    pub(super) options: Option<Json<'a>>,
    pub(super) traits: Option<Json<'a>>,
}

impl<'a> Common<'a> {
    pub(super) fn read(root: Json<'a>) -> Result<Common<'a>, Refusal> {
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

    pub(super) fn call_type(&self) -> Result<CallType, Refusal> {
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
pub(super) struct Places<'a> {
    pub(super) traits: Option<Json<'a>>,
    pub(super) integrations: Option<Json<'a>>,
    pub(super) providers: Option<Json<'a>>,
}
impl<'a> Draft<'a> {
    /// A userId or anonymousId from its camel-case or snake-case field.
    pub(super) fn id(
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

    pub(super) fn message_id(&mut self, common: &Common<'a>) -> Span {
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
    pub(super) fn timestamp(&mut self, common: &Common<'a>, received_at_ms: i64) -> i64 {
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
    pub(super) fn context(&mut self, context: Option<Json<'a>>) -> Places<'a> {
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
/// The last places where flags may stand, both from the days before `integrations`.
pub(super) fn in_options<'a>(
    options: Option<Json<'a>>,
    context_providers: Option<Json<'a>>,
) -> Option<Json<'a>> {
    let in_options = options.and_then(|options| options.get("integrations"));
    in_options.or(context_providers).or_else(|| options.and_then(|options| options.get("providers")))
}

/// The field that holds a usable messageId: text that is more than invisible characters and white space, or a number.
pub(super) fn message_id_field<'a>(camel: Option<Json<'a>>, snake: Option<Json<'a>>) -> Option<Json<'a>> {
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
