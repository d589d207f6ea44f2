//! A destination in Rust that does everything right, and one thing wrong if told so: a token, then users in batches, to
//! a list that a call may choose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::super::super::{Factory, Subject};
use super::super::calls::quoted;
use crate::destination::{
    Answer, Context, Destination, Item, Limits, NoAnswer, Outcome, Part, Request, Skip, Verdict,
};
use crate::event::Event;
use crate::json::{Doc, Json};
use crate::manifest::SettingDoc;
use crate::manifest::written::forms;
use crate::names::Names;
use crate::reserved::Reserved;

const ITEM_BYTES: usize = 100_000;

pub(super) struct Vendor {
    key: String,
    flaw: String,
    limits: Limits,
    rendered: AtomicU64,
}

pub(super) fn factory(flaw: &str) -> Box<Factory<'static>> {
    let flaw = flaw.to_owned();
    Box::new(move |settings: Json<'_>| {
        let key = settings.get("key").and_then(Json::text).ok_or(vec!["key is missing".to_owned()])?;
        let limits = Limits {
            items: 3,
            bytes: 3 * ITEM_BYTES,
            linger: Duration::ZERO,
            concurrency: None,
            rates: Vec::new(),
        };
        let vendor =
            Vendor { key: key.into_owned(), flaw: flaw.clone(), limits, rendered: AtomicU64::default() };
        Ok(Subject {
            destination: Box::new(vendor),
            names: Names::default(),
            spellings: vec!["Acme".to_owned()],
        })
    })
}

pub(super) fn declared(name: &str, kind: &'static str) -> SettingDoc {
    SettingDoc {
        name: name.to_owned(),
        kind,
        doc: String::new(),
        required: false,
        secret: kind == "secret",
        default: None,
        choices: Vec::new(),
    }
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn wait(answer: &Answer, now_ms: i64, dates: bool) -> Option<Duration> {
    let (_, text) = answer.headers.iter().find(|(name, _)| name == "retry-after")?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok().filter(|_| dates)?;
    let at = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    at.checked_sub(Duration::from_millis(now_ms as u64))
}

impl Vendor {
    fn has(&self, flaw: &str) -> bool {
        self.flaw == flaw
    }

    fn verdict(&self, outcome: Outcome, reason: &str, answer: &str, token: &str) -> Verdict {
        let mask = |text: &str| {
            if self.has("shows-secrets") {
                return text.to_owned();
            }
            let text = self.mask(text);
            if token.is_empty() || self.has("shows-tokens") { text } else { text.replace(token, "***") }
        };
        let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
        let long = if self.has("long-reason") { 2_000 } else { 300 };
        let answer = if self.has("cuts-first") { mask(&cut(answer, 512)) } else { cut(&mask(answer), 512) };
        let answer = answer.char_indices().take_while(|(at, c)| at + c.len_utf8() <= 512).map(|(_, c)| c);
        let reason = if self.has("no-reason") { String::new() } else { cut(&mask(reason), long) };
        Verdict { outcome, reason, answer: answer.collect::<String>().into() }
    }

    /// What an answer means for all items, unless it means something else for each.
    fn outcome(&self, answer: &Result<Answer, NoAnswer>, now_ms: i64) -> Option<Outcome> {
        let answer = match answer {
            Err(NoAnswer::Timeout(_)) if self.has("timeout") => return Some(Outcome::Delivered),
            Err(NoAnswer::Connection(_)) if self.has("connection") => return Some(Outcome::Rejected),
            Err(_) => return Some(Outcome::Retry { after: None }),
            Ok(answer) => answer,
        };
        let after = wait(answer, now_ms, !self.has("429-date"));
        let is_json = Doc::parse(String::from_utf8_lossy(&answer.body).into()).is_ok();
        let has_reset = answer.headers.iter().any(|(name, _)| name == "x-ratelimit-reset");
        if self.flaw == answer.status.to_string() {
            return Some(if answer.status == 501 { Outcome::Delivered } else { Outcome::Rejected });
        }
        Some(match answer.status {
            200..=299 => return None,
            429 if self.has("429-seconds") && after.is_some() => {
                Outcome::Throttled { after: None, user_only: false }
            }
            429 if self.has("429-reset") && has_reset => Outcome::Rejected,
            429 if self.has("429-empty") && answer.body.is_empty() && !has_reset => Outcome::Delivered,
            429 if self.has("429-html") && !is_json && !answer.body.is_empty() => Outcome::Rejected,
            429 => Outcome::Throttled { after, user_only: false },
            503 if self.has("503-wait") => Outcome::Retry { after: Some(Duration::from_secs(1)) },
            401 | 403 => Outcome::Unauthorised,
            501 => Outcome::Rejected,
            500.. => Outcome::Retry { after },
            _ => Outcome::Rejected,
        })
    }

    async fn ask(&self, context: &Context<'_>, request: Request) -> Result<Answer, NoAnswer> {
        let mut answer = context.transport.send(&request).await;
        while self.has("endless") && answer.as_ref().is_ok_and(|answer| answer.status == 500) {
            answer = context.transport.send(&request).await;
        }
        answer
    }

    async fn token(&self, context: &Context<'_>) -> Result<String, Verdict> {
        let now_ms = context.clock.now_ms();
        if let Some(token) = context.memory.get("token", now_ms) {
            return Ok(token.to_string());
        }
        let hides = context.purpose.hides_secrets() && !self.has("preview");
        let key = if hides { "***" } else { &self.key };
        let request = Request {
            name: "fetch.token".into(),
            method: "POST",
            url: "https://vendor.test/token".to_owned(),
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body: format!("{{\"key\":{}}}", quoted(key)).into(),
            timeout: Duration::from_secs(10),
        };
        let answer = self.ask(context, request).await;
        let shown = shown(&answer);
        if let Some(outcome) = self.outcome(&answer, now_ms) {
            return Err(self.verdict(outcome, &shown, &shown, ""));
        }
        let doc =
            answer.ok().and_then(|answer| Doc::parse(String::from_utf8_lossy(&answer.body).into()).ok());
        let token = doc.as_ref().and_then(|doc| doc.root().get("token")).and_then(Json::text);
        let sound = token.filter(|token| token.chars().all(|c| c.is_ascii_graphic()) && token.len() > 3);
        let none = || self.verdict(Outcome::Retry { after: None }, "the token is missing", "", "");
        let token = sound.ok_or_else(none)?.into_owned();
        context.memory.put("token", &token, now_ms + 60_000, now_ms);
        Ok(token)
    }

    fn request(&self, context: &Context<'_>, items: &[Item], token: &str) -> Request {
        let first = &items[0];
        let option = first.options.and_then(|at| first.event.at(at)).and_then(|options| options.get("list"));
        let list = option.and_then(Json::text).unwrap_or("main".into());
        let list =
            if self.has("hostile-options") { list.into_owned() } else { format!("l{}", encoded(&list)) };
        let identity = match &*self.flaw {
            "raw-path" => first.identity.to_string(),
            _ => format!("u{}", encoded(&first.identity)),
        };
        let quoted_id = match &*self.flaw {
            "raw-query" => first.identity.to_string(),
            _ => first.identity.replace('\\', "\\\\").replace('\'', "\\'"),
        };
        let ids: Vec<&str> = items.iter().map(|item| item.event.message_id()).collect();
        let key = encoded(&ids.concat());
        let key = if self.has("same-again") { context.clock.nonce() } else { key };
        let users: Vec<&str> =
            items.iter().map(|item| std::str::from_utf8(&item.parts[0].bytes).unwrap_or("null")).collect();
        Request {
            name: "users".into(),
            method: "POST",
            url: format!("https://vendor.test/{list}/{identity}?q={}", encoded(&format!("id='{quoted_id}'"))),
            headers: vec![
                ("Content-Type".to_owned(), "application/json".to_owned()),
                ("Authorization".to_owned(), format!("Bearer {token}")),
                ("Idempotency-Key".to_owned(), key),
            ],
            body: format!("[{}]", users.join(",")).into(),
            timeout: Duration::from_secs(10),
        }
    }

    /// Sends some of the items, halves them where they are too large together.
    async fn send_some(&self, context: &Context<'_>, items: &[Item], token: &str) -> Vec<Verdict> {
        let mut verdicts: Vec<Option<Verdict>> = vec![None; items.len()];
        let mut agenda = vec![(0, items.len())];
        while let Some((start, end)) = agenda.pop() {
            let answer = self.ask(context, self.request(context, &items[start..end], token)).await;
            let is_large = answer.as_ref().is_ok_and(|answer| answer.status == 413);
            if is_large && end - start > 1 && !self.has("413-batch") {
                let half = start + (end - start) / 2;
                agenda.extend([(start, half), (half, end)]);
                if self.has("413-doubled") {
                    agenda.push((start, half));
                }
                continue;
            }
            let outcome = match is_large && self.has("413-single") {
                true => Some(Outcome::Retry { after: None }),
                false => self.outcome(&answer, context.clock.now_ms()),
            };
            let shown = shown(&answer);
            for (at, verdict) in verdicts.iter_mut().enumerate().take(end).skip(start) {
                *verdict = Some(match &outcome {
                    Some(outcome) => self.verdict(outcome.clone(), &shown, &shown, token),
                    None => self.of_item(&answer, at - start, &shown, token),
                });
            }
        }
        verdicts.into_iter().flatten().collect()
    }

    fn of_item(&self, answer: &Result<Answer, NoAnswer>, at: usize, shown: &str, token: &str) -> Verdict {
        let body = answer.as_ref().map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
        let body = body.unwrap_or_default();
        if self.has("panics") {
            Doc::parse(body.as_str().into()).unwrap();
        }
        let doc = Doc::parse(body.into()).ok();
        let failed = doc.as_ref().and_then(|doc| doc.root().get("failed"));
        match failed.into_iter().flat_map(Json::elements).any(|index| index.raw() == at.to_string()) {
            true => self.verdict(Outcome::Rejected, &format!("refused: {shown}"), shown, token),
            false => Verdict { outcome: Outcome::Delivered, reason: String::new(), answer: "".into() },
        }
    }

    fn body(&self, event: &Event, identity: &str) -> String {
        let text = |text: &str| if self.has("unicode") { format!("\"{text}\"") } else { quoted(text) };
        let mut out = format!("{{\"id\":{}", quoted(identity));
        for one in Reserved::ALL {
            if let crate::event::Field::Text(value) = event.reserved(*one) {
                out.push_str(&format!(",{}:{}", quoted(one.name()), text(value)));
            }
        }
        for (key, value) in event.customs() {
            let value = if self.has("wrong-types") && key == "age" { "" } else { value.raw() };
            out.push_str(&format!(",{}:{value}", quoted(key)));
        }
        if self.has("empty") && !event.has(Reserved::Email) && event.customs().next().is_none() {
            out.push(',');
        }
        out + "}"
    }
}

fn shown(answer: &Result<Answer, NoAnswer>) -> String {
    match answer {
        Ok(answer) => format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
        Err(error) => error.to_string(),
    }
}

#[async_trait]
impl Destination for Vendor {
    fn render(&self, event: &Arc<Event>, options: Option<Json<'_>>) -> Result<Item, Skip> {
        let user = event.user_id().ok_or(Skip { reason: "no_identity", detail: "no userId".to_owned() })?;
        if self.has("all-traits") && event.has(Reserved::CompanyName) {
            return Err(Skip { reason: "company", detail: "companies are not for us".to_owned() });
        }
        let body = self.body(event, user);
        if body.len() > ITEM_BYTES && !self.has("any-size") {
            let size = if self.has("silent-size") { String::new() } else { body.len().to_string() };
            return Err(Skip { reason: "too_large", detail: format!("{size} bytes are too many") });
        }
        let rendered = self.rendered.fetch_add(1, Ordering::Relaxed);
        Ok(Item {
            event: event.clone(),
            options: options.map(Json::position),
            identity: user.into(),
            group: 0,
            digest: if self.has("render") { rendered } else { 0 },
            parts: vec![Part { request: 0, group: 0, bytes: body.into() }],
            warnings: Vec::new(),
        })
    }

    fn pack(&self, waiting: &[Item]) -> Vec<usize> {
        let mut chosen: Vec<usize> = Vec::new();
        for (at, item) in waiting.iter().enumerate() {
            let is_new = !chosen.iter().any(|other| waiting[*other].identity == item.identity);
            if chosen.len() < self.limits.items && (is_new || self.has("pack")) {
                chosen.push(at);
            }
        }
        if self.has("pack-first") { chosen.into_iter().skip(1).collect() } else { chosen }
    }

    async fn send(&self, context: &Context<'_>, items: &[Item]) -> Vec<Verdict> {
        let token = match self.token(context).await {
            Ok(token) => token,
            Err(verdict) => return vec![verdict; items.len()],
        };
        let mut verdicts = self.send_some(context, items, &token).await;
        if self.has("lost-verdict") && verdicts.iter().any(|verdict| verdict.outcome == Outcome::Rejected) {
            verdicts.pop();
        }
        verdicts
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn mask(&self, text: &str) -> String {
        let mut forms = forms(&self.key);
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), "***"))
    }
}
