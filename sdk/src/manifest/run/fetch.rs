//! What must be asked first: the requests of `[fetch]`, and keeping what they answer.

use std::sync::Arc;

use super::{Run, Waiting, finished};
use crate::destination::{Answer, Clock, NoAnswer, Outcome, Request};
use crate::json::Doc;
use crate::manifest::plan::FetchPlan;
use crate::manifest::render::{Gone, Notes, Reply, Scope};
use crate::manifest::rest::entries_of;
use crate::manifest::value::{Dates, Value};
use crate::manifest::{outcomes, request};
use crate::memory::Memory;

/// Where a fetch does not say how long its answer holds.
const DEFAULT_FETCH_MS: i64 = 3_600_000;

impl Run<'_> {
    /// Loads what the fetches keep; the request for the first one that is not remembered.
    pub(super) fn missing_fetch(
        &mut self,
        memory: &Memory,
        clock: &dyn Clock,
    ) -> Result<Option<Request>, String> {
        while let Some(fetch) = self.plan.program.fetches.get(self.fetched.len()) {
            let kept = memory.get(&memory_key(fetch), clock.now_ms()).and_then(|kept| Doc::parse(kept).ok());
            match kept {
                Some(doc) => self.fetched.push(Arc::new(doc)),
                None => {
                    let request = self
                        .fetch_request(fetch)
                        .map_err(|_| format!("fetch {} cannot be made", fetch.name))?;
                    self.waiting = Some(Waiting::Fetch(self.fetched.len()));
                    return Ok(Some(request));
                }
            }
        }
        Ok(None)
    }

    fn fetch_request(&self, fetch: &FetchPlan) -> Result<Request, Gone> {
        let notes = Notes::default();
        let scope = Scope::of_constants(&self.plan.program, &notes);
        let body = request::body(&scope, fetch.body.as_ref(), fetch.encoding)?;
        let head = request::head(&scope, &fetch.url, fetch.query.as_ref(), fetch.headers.as_ref())?;
        let name = format!("fetch.{}", fetch.name);
        Ok(finished(
            name.into(),
            fetch.method,
            head,
            body,
            fetch.body.is_some(),
            fetch.encoding,
            fetch.timeout,
        ))
    }

    pub(super) fn fetch_answered(
        &mut self,
        slot: usize,
        answer: Result<Answer, NoAnswer>,
        memory: &Memory,
        clock: &dyn Clock,
    ) {
        let Some(fetch) = self.plan.program.fetches.get(slot) else { return };
        let (outcome, reason, shown) = match answer {
            Ok(answer) => {
                let reply = outcomes::reply(answer);
                let reason = format!("fetch {}: the vendor answered {}", fetch.name, reply.status);
                let shown = format!("{} {}", reply.status, reply.text);
                match reply.status {
                    200..=299 if self.keep(fetch, &reply, memory, clock) => return,
                    401 | 403 => (Outcome::Unauthorised, reason, shown),
                    429 => (Outcome::Throttled { after: None, user_only: false }, reason, shown),
                    // A token may stand in what did answer, so nothing of it is shown.
                    200..=299 => (
                        Outcome::Retry { after: None },
                        format!("fetch {}: the answer holds nothing to keep", fetch.name),
                        String::new(),
                    ),
                    _ => (Outcome::Retry { after: None }, reason, shown),
                }
            }
            Err(error) => {
                (Outcome::Retry { after: None }, format!("fetch {}: {error}", fetch.name), String::new())
            }
        };
        let verdict = self.verdict(outcome, &reason, &shown);
        let open: Vec<usize> = (0..self.items.len()).collect();
        self.decide_all(&open, verdict);
    }

    /// Remembers what a fetch keeps of its answer, a little shorter than the vendor allows.
    fn keep(&self, fetch: &FetchPlan, reply: &Reply, memory: &Memory, clock: &dyn Clock) -> bool {
        let notes = Notes::default();
        let now_ms = clock.now_ms();
        let scope = Scope { reply: Some(reply), now_ms, ..Scope::of_constants(&self.plan.program, &notes) };
        let Some(kept) = kept(&scope, fetch) else { return false };
        let lasts = fetch.lasts.as_ref().and_then(|lasts| outcomes::wait(&scope, lasts));
        let lasts_ms = lasts
            .map_or(DEFAULT_FETCH_MS, |lasts| i64::try_from(lasts.as_millis()).unwrap_or(DEFAULT_FETCH_MS));
        memory.put(&memory_key(fetch), &kept, now_ms + lasts_ms - lasts_ms / 10, now_ms);
        true
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
