//! What must be asked first: the requests of `[fetch]`, and keeping what they answer.

use std::sync::Arc;

use super::Run;
use super::exchange::{finished, needs_fetch};
use crate::destination::{Outcome, Request, Verdict};
use crate::json::Doc;
use crate::manifest::outcomes::What;
use crate::manifest::plan::{FetchPlan, RequestPlan};
use crate::manifest::render::{Attempt, Gone, Notes, Reply, Scope};
use crate::manifest::rest::entries_of;
use crate::manifest::value::{Dates, Value, ValueKind};
use crate::manifest::{outcomes, request, written};

/// Where a fetch does not say how long its answer holds.
const DEFAULT_FETCH_MS: i64 = 3_600_000;
/// Shorter texts, in characters, are no tokens, and may stand in an answer by chance.
const SHORTEST_TOKEN: usize = 8;

impl Run<'_> {
    /// Has everything ready that a request needs from fetches; else its items have ended.
    pub(super) async fn fetch_for(&mut self, plan: &RequestPlan, items: &[usize]) -> bool {
        if !needs_fetch(plan) || self.context.purpose.is_show() {
            return true;
        }
        while let Some(fetch) = self.plan.program.fetches.get(self.fetched.len()) {
            match self.fetch(fetch).await {
                Ok(doc) => {
                    if fetch.each.is_none() {
                        self.hide(&doc);
                    }
                    self.fetched.push(Arc::new(doc));
                }
                Err(verdict) => {
                    self.decide_all(items, verdict);
                    return false;
                }
            }
        }
        true
    }

    /// Has no verdict show what a fetch gave; a list that was asked for is no secret, nor is an address.
    fn hide(&mut self, doc: &Doc) {
        let value = Value::from_json(doc.root());
        let texts = match value.kind() {
            ValueKind::Object => {
                value.members().unwrap_or_default().into_iter().map(|(_, member)| member).collect()
            }
            _ => vec![value],
        };
        let texts = texts.iter().filter(|value| value.kind() == ValueKind::Text).filter_map(Value::as_text);
        let tokens =
            texts.filter(|text| text.chars().count() >= SHORTEST_TOKEN && !text.starts_with("https://"));
        self.tokens.extend(tokens.flat_map(|token| written::forms(&token)));
        self.tokens.sort_by_key(|token| std::cmp::Reverse(token.len()));
        self.tokens.dedup();
    }

    /// What a fetch keeps: as it is remembered, else asked for, by one send at a time.
    async fn fetch(&mut self, fetch: &FetchPlan) -> Result<Doc, Verdict> {
        let (memory, clock) = (self.context.memory, self.context.clock);
        let key = memory_key(fetch);
        let kept = || memory.get(&key, clock.now_ms()).and_then(|kept| Doc::parse(kept).ok());
        if let Some(doc) = kept() {
            return Ok(doc);
        }
        let _turn = memory.turn(&key).await;
        // Somebody else may have asked in the meantime.
        if let Some(doc) = kept() {
            return Ok(doc);
        }
        let retry = Outcome::Retry { after: None };
        let Ok(request) = self.fetch_request(fetch) else {
            let reason = format!("fetch {}: the settings do not give all that it needs", fetch.name);
            return Err(self.unanswered(retry, &reason));
        };
        self.made += 1;
        match self.context.transport.send(&request).await {
            Ok(answer) => self.keep(fetch, &outcomes::reply(answer)),
            Err(error) => Err(self.unanswered(retry, &format!("fetch {}: {error}", fetch.name))),
        }
    }

    fn fetch_request(&self, fetch: &FetchPlan) -> Result<Request, Gone> {
        let notes = Notes::default();
        let clock = self.context.clock;
        let attempt =
            Attempt { id: String::new(), time_ms: clock.now_ms(), nonce: clock.nonce(), body: String::new() };
        let scope = Scope { attempt: Some(&attempt), ..Scope::of_constants(&self.plan.program, &notes) };
        let body = request::body(&scope, fetch.body.as_ref(), fetch.encoding)?;
        let attempt = Attempt { body, ..attempt.clone() };
        let scope = Scope { attempt: Some(&attempt), ..scope };
        let head = request::head(&scope, &fetch.url, fetch.query.as_ref(), fetch.headers.as_ref())?;
        let name = format!("fetch.{}", fetch.name);
        let (has_body, body) = (fetch.body.is_some(), attempt.body.clone());
        Ok(finished(name.into(), fetch.method, head, body, has_body, fetch.encoding, fetch.timeout))
    }

    /// Remembers what a fetch keeps of its answer, a little shorter than the vendor allows.
    fn keep(&self, fetch: &FetchPlan, reply: &Reply) -> Result<Doc, Verdict> {
        let notes = Notes::default();
        let now_ms = self.context.clock.now_ms();
        let scope = Scope { reply: Some(reply), now_ms, ..Scope::of_constants(&self.plan.program, &notes) };
        if !(200..300).contains(&reply.status) {
            return Err(self.refused(fetch, reply, &scope));
        }
        let Some(kept) = kept(&scope, fetch).and_then(|kept| Doc::parse(kept.into()).ok()) else {
            // A token may stand in what did answer, so nothing of it is shown.
            let reason = format!("fetch {}: the answer holds nothing to keep", fetch.name);
            return Err(self.unanswered(Outcome::Retry { after: None }, &reason));
        };
        let lasts = fetch.lasts.as_ref().and_then(|lasts| outcomes::wait(&scope, lasts));
        let lasts_ms = lasts
            .map_or(DEFAULT_FETCH_MS, |lasts| i64::try_from(lasts.as_millis()).unwrap_or(DEFAULT_FETCH_MS));
        self.context.memory.put(
            &memory_key(fetch),
            kept.root().raw(),
            now_ms.saturating_add(lasts_ms - lasts_ms / 10),
            now_ms,
        );
        Ok(kept)
    }

    fn refused(&self, fetch: &FetchPlan, reply: &Reply, scope: &Scope<'_>) -> Verdict {
        let (what, reason) = outcomes::classify_fetch(scope, &fetch.rules, reply);
        let outcome = match what {
            What::Unauthorised => Outcome::Unauthorised,
            What::Throttled { after, .. } => Outcome::Throttled { after, user_only: false },
            What::Retry(after) => Outcome::Retry { after },
            _ => Outcome::Retry { after: None },
        };
        let reason = reason.unwrap_or_else(|| format!("the vendor answered {}", reply.status));
        let reason = format!("fetch {}: {reason}", fetch.name);
        self.verdict(outcome, &reason, &self.shown(reply, &[]))
    }

    /// Has everything that was fetched asked for anew, unless another send has done so already.
    pub(super) fn renew(&mut self) {
        self.renewed = true;
        self.on_trial = true;
        let (memory, now_ms) = (self.context.memory, self.context.clock.now_ms());
        for (fetch, used) in self.plan.program.fetches.iter().zip(&self.fetched) {
            let key = memory_key(fetch);
            if memory.get(&key, now_ms).is_some_and(|kept| *kept == *used.root().raw()) {
                memory.forget(&key);
            }
        }
        self.fetched.clear();
    }
}

/// What a fetch keeps, as JSON.
pub(super) fn kept(scope: &Scope<'_>, fetch: &FetchPlan) -> Option<String> {
    let mut out = String::new();
    let Some(each) = &fetch.each else {
        scope.eval(&fetch.keep).ok()?.write_json(&mut out, &Dates::ISO);
        return Some(out);
    };
    let (mut list, mut map) = (Vec::new(), Vec::new());
    for (key, value) in entries_of(scope.eval(each).ok()?) {
        let key = Value::Text(key);
        let scope = Scope { key: Some(&key), value: Some(&value), ..*scope };
        let mut json = String::new();
        let Ok(kept) = scope.eval(&fetch.keep) else { continue };
        kept.write_json(&mut json, &Dates::ISO);
        match &fetch.key {
            Some(key) => map.extend(scope.text(key).ok().map(|key| (key.into_owned(), json))),
            None => list.push(json),
        }
    }
    if fetch.key.is_none() {
        return Some(format!("[{}]", list.join(",")));
    }
    out.push('{');
    for (key, json) in map {
        if out.len() > 1 {
            out.push(',');
        }
        crate::json::push_text(&mut out, &key);
        out.push(':');
        out.push_str(&json);
    }
    out.push('}');
    Some(out)
}

pub(super) fn memory_key(fetch: &FetchPlan) -> String {
    format!("fetch/{}", fetch.name)
}
