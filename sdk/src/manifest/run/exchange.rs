//! One request and its answer: what is sent for some items, and what the answer means for each of them.

use std::cell::RefCell;
use std::sync::Arc;

use super::chunks::Chunk;
use super::{MOST_REQUESTS, Run};
use crate::destination::{Answer, NoAnswer, Outcome, Request};
use crate::json::{Doc, Json};
use crate::manifest::bound::{Known, Plan};
use crate::manifest::outcomes::{self, Decision, Items, What};
use crate::manifest::plan::{Encoding, RequestPlan, Role};
use crate::manifest::render::{Attempt, Gone, Notes, Reply, Scope};
use crate::manifest::request::{self, Head};
use crate::manifest::scope::Found;
use crate::manifest::tree::{Node, Source};
use crate::manifest::written;

/// How long it is remembered that a rule with `times` was used for an event.
const TIMES_MS: i64 = 3_600_000;
/// A fetched text that is shorter, such as a type, is no secret.
const SHORTEST_TOKEN: usize = 8;

/// What came of a request.
pub(super) enum Exchanged {
    /// What its answer means for each item, and the answer as it is shown; of both nothing is secret or long.
    Answered(Vec<Decision>, Arc<str>),
    /// It was not made: something that it needs is absent.
    Absent(String),
    /// There was no answer, and the items have ended unless the request is optional.
    Ended,
}

impl<'r> Run<'r> {
    /// Makes a request for one item.
    pub(super) async fn single(&mut self, at: usize, request: usize) -> Exchanged {
        let Some(plan) = self.plan.program.requests.get(request) else { return Exchanged::Ended };
        if !self.fetch_for(plan, &[at]).await {
            return Exchanged::Ended;
        }
        match self.part(at, request, plan) {
            Ok(bytes) => self.exchange(&Chunk { request, items: vec![at], parts: vec![bytes] }).await,
            Err(reason) => Exchanged::Absent(reason),
        }
    }

    /// Makes a chunk's request, and once more with what fetches bring anew where the vendor refuses what they brought.
    pub(super) async fn exchange(&mut self, chunk: &Chunk) -> Exchanged {
        let Some(plan) = self.plan.program.requests.get(chunk.request) else { return Exchanged::Ended };
        let mut again: Option<Vec<bytes::Bytes>> = None;
        loop {
            if !self.fetch_for(plan, &chunk.items).await {
                return Exchanged::Ended;
            }
            if chunk.parts.is_empty() || (self.renewed && plan.is_late) {
                let rendered = chunk.items.iter().map(|at| self.part(*at, chunk.request, plan));
                match rendered.collect() {
                    Ok(parts) => again = Some(parts),
                    Err(reason) => return Exchanged::Absent(reason),
                }
            }
            let parts = again.as_deref().unwrap_or(&chunk.parts);
            let request = match self.request(chunk, parts) {
                Ok(request) => request,
                Err(reason) => return Exchanged::Absent(reason),
            };
            if self.is_circling(chunk) {
                return Exchanged::Ended;
            }
            let answer = self.context.transport.send(&request).await;
            let tokens = tokens_in(&request, &self.fetched);
            let answered = self.answered(chunk, parts, plan, answer, &tokens);
            if let Exchanged::Answered(decisions, _) = &answered
                && needs_fetch(plan)
            {
                let refused = decisions.iter().all(|decision| decision.what == What::Unauthorised);
                if refused && !self.on_trial {
                    self.renew();
                    continue;
                }
                self.on_trial = refused;
            }
            if let Exchanged::Answered(decisions, _) = &answered {
                self.count_times(chunk, plan, decisions);
            }
            return answered;
        }
    }

    /// Whether this `send` makes requests without end; then its items wait for another attempt.
    fn is_circling(&mut self, chunk: &Chunk) -> bool {
        self.made += 1;
        let circles = self.made > MOST_REQUESTS + 10 * self.items.len();
        if circles {
            let outcome = Outcome::Retry { after: None };
            let verdict = self.unanswered(outcome, "this delivery makes requests without end");
            self.decide_all(&chunk.items, verdict);
        }
        circles
    }

    fn answered(
        &mut self,
        chunk: &Chunk,
        parts: &[bytes::Bytes],
        plan: &RequestPlan,
        answer: Result<Answer, NoAnswer>,
        tokens: &[String],
    ) -> Exchanged {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if !plan.optional {
                    let verdict = self.unanswered(Outcome::Retry { after: None }, &error.to_string());
                    self.decide_all(&chunk.items, verdict);
                }
                return Exchanged::Ended;
            }
        };
        if answer.status == 0 {
            return Exchanged::Answered(vec![assumed(plan); chunk.items.len()], "".into());
        }
        let reply = Arc::new(outcomes::reply(answer));
        // Only a later request can read it.
        if chunk.request + 1 < self.plan.program.requests.len() {
            for at in &chunk.items {
                if let Some(state) = self.states.get_mut(*at) {
                    state.replies.push((chunk.request, reply.clone()));
                }
            }
        }
        let decisions = self.classify(chunk, parts, plan, &reply, tokens);
        Exchanged::Answered(decisions, self.shown(&reply, tokens))
    }

    /// What is known about an item beside its event.
    pub(super) fn known(&self, at: usize) -> Known<'_> {
        let state = self.states.get(at);
        Known {
            fetched: &self.fetched,
            replies: state.map(|state| state.replies.as_slice()).unwrap_or_default(),
            found: match state.and_then(|state| state.found.as_deref()) {
                Some(id) => Found::Id(id),
                None if self.is_pretended(at) => Found::Unknown,
                None => Found::Nothing,
            },
            given: state.map(|state| state.given.as_slice()).unwrap_or_default(),
            settled: !self.context.purpose.is_show(),
            hide: self.context.purpose.hides_secrets(),
        }
    }

    /// Whether something was created of which only a vendor could say the id.
    fn is_pretended(&self, at: usize) -> bool {
        let is_done = self.states.get(at).is_some_and(|state| state.step == super::steps::Step::Done);
        is_done && self.context.purpose.is_show()
    }

    /// A chunk's request, its head rendered for the first of its items.
    fn request(&self, chunk: &Chunk, parts: &[bytes::Bytes]) -> Result<Request, String> {
        let wrong = || "an item or request is gone".to_owned();
        let plan = self.plan.program.requests.get(chunk.request).ok_or_else(wrong)?;
        let first = chunk.items.first().copied().ok_or_else(wrong)?;
        let item = self.items.get(first).ok_or_else(wrong)?;
        let id = self.attempt_id(chunk);
        let clock = self.context.clock;
        let build = |scope: &Scope<'_>, _: &mut String| -> Result<(Head, String), Gone> {
            let body = if plan.is_batch {
                let texts = parts.iter().map(|part| std::str::from_utf8(part).unwrap_or_default());
                let items = request::joined(texts, plan.encoding);
                match (&plan.body, plan.encoding) {
                    (Some(Node::Source(Source::Items)), Encoding::Json | Encoding::Lines) => items,
                    (body, encoding) => {
                        request::body(&Scope { items: &items, ..*scope }, body.as_ref(), encoding)?
                    }
                }
            } else {
                parts.first().map(|part| String::from_utf8_lossy(part).into_owned()).unwrap_or_default()
            };
            let attempt = Attempt { id: id.clone(), time_ms: clock.now_ms(), nonce: clock.nonce(), body };
            let scope = Scope { attempt: Some(&attempt), ..*scope };
            let head = request::head(&scope, &plan.url, plan.query.as_ref(), plan.headers.as_ref())?;
            Ok((head, attempt.body))
        };
        let built = if plan.outside.event {
            let options = Plan::options_of(item);
            self.plan.with_scope(&item.event, options, self.known(first), build).ok().map(|(built, _)| built)
        } else {
            // Nothing of the event is asked for, so its rest need not be handed out again.
            let notes = Notes::default();
            let Known { fetched, replies, found, given, settled, hide } = self.known(first);
            let constants = Scope::of_constants(&self.plan.program, &notes);
            let scope = Scope { fetched, replies, found, given, settled, hide, ..constants };
            Some(build(&scope, &mut String::new()))
        };
        match built {
            Some(Ok((head, body))) => {
                let has_body = plan.body.is_some();
                Ok(finished(
                    plan.name.clone(),
                    plan.method,
                    head,
                    body,
                    has_body,
                    plan.encoding,
                    plan.timeout,
                ))
            }
            _ => Err(format!("request {}: url, query, headers or body are absent or refused", plan.name)),
        }
    }

    /// The same for every attempt to deliver these items; it holds no character that a signature could trip over.
    fn attempt_id(&self, chunk: &Chunk) -> String {
        let mut messages =
            chunk.items.iter().filter_map(|at| self.items.get(*at)).map(|item| item.event.message_id());
        match (messages.next(), chunk.items.len()) {
            (Some(message), 1) => {
                let safe =
                    |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
                message.chars().map(safe).collect()
            }
            (first, _) => {
                let all = first.into_iter().chain(messages);
                let hash =
                    all.fold(0, |state, message| crate::manifest::hash::hash(state, message.as_bytes()));
                format!("batch_{hash:016x}")
            }
        }
    }

    fn times_key(&self, at: usize, request: usize, rule: usize) -> String {
        let message = self.items.get(at).map_or("", |item| item.event.message_id());
        format!("times/{request}/{rule}/{message}")
    }

    /// Counts how often rules with `times` have decided.
    fn count_times(&self, chunk: &Chunk, plan: &RequestPlan, decisions: &[Decision]) {
        let (memory, now_ms) = (self.context.memory, self.context.clock.now_ms());
        for (at, decision) in chunk.items.iter().zip(decisions) {
            let is_counted = |rule: &usize| plan.rules.get(*rule).is_some_and(|rule| rule.times.is_some());
            let Some(rule) = decision.rule.filter(is_counted) else { continue };
            let key = self.times_key(*at, chunk.request, rule);
            let before: u32 = memory.get(&key, now_ms).and_then(|count| count.parse().ok()).unwrap_or(0);
            memory.put(&key, &(before + 1).to_string(), now_ms + TIMES_MS, now_ms);
        }
    }

    fn classify(
        &self,
        chunk: &Chunk,
        parts: &[bytes::Bytes],
        plan: &RequestPlan,
        reply: &Reply,
        tokens: &[String],
    ) -> Vec<Decision> {
        let now_ms = self.context.clock.now_ms();
        let records: RefCell<Option<Vec<usize>>> = RefCell::new(None);
        let of_record = |record: usize| {
            if plan.records.len() <= 1 {
                return (record < chunk.items.len()).then_some(record);
            }
            records.borrow_mut().get_or_insert_with(|| owners(parts)).get(record).copied()
        };
        let id = |item: usize, rule: usize| {
            let at = *chunk.items.get(item)?;
            let item = self.items.get(at)?;
            let node =
                plan.rules.get(rule)?.item.as_ref().unwrap_or(const { &Node::Source(Source::Identity) });
            let read =
                |scope: &Scope<'_>, _: &mut String| scope.text(node).ok().map(|text| text.into_owned());
            self.plan.with_scope(&item.event, Plan::options_of(item), self.known(at), read).ok()?.0
        };
        let times = |item: usize, rule: usize| {
            let key =
                chunk.items.get(item).map(|at| self.times_key(*at, chunk.request, rule)).unwrap_or_default();
            self.context.memory.get(&key, now_ms).and_then(|count| count.parse().ok()).unwrap_or(0)
        };
        let shown = |reason: &str| self.reason(reason, tokens);
        let items =
            Items { count: chunk.items.len(), of_record: &of_record, id: &id, times: &times, shown: &shown };
        let decide = |scope: &Scope<'_>| outcomes::classify(&Scope { now_ms, ..*scope }, plan, reply, &items);
        let single = chunk.items.first().filter(|_| plan.rules_read_event);
        if let Some((at, item)) = single.and_then(|at| Some((*at, self.items.get(*at)?))) {
            let options = Plan::options_of(item);
            let decided =
                self.plan.with_scope(&item.event, options, self.known(at), |scope, _| decide(scope));
            if let Ok((decisions, _)) = decided {
                return decisions;
            }
        }
        let notes = Notes::default();
        decide(&Scope::of_constants(&self.plan.program, &notes))
    }
}

pub(super) fn needs_fetch(plan: &RequestPlan) -> bool {
    plan.outside.fetch || plan.inside_fetch
}

/// A success of which nothing is known: what is looked for is not there.
fn assumed(plan: &RequestPlan) -> Decision {
    let what = if plan.role == Role::Find { What::Missing } else { What::Delivered };
    Decision { what, reason: String::new(), rule: None, kept: None }
}

/// For each record of a request, the position of the item it belongs to.
fn owners(parts: &[bytes::Bytes]) -> Vec<usize> {
    let mut owners = Vec::new();
    for (position, part) in parts.iter().enumerate() {
        let list = format!("[{}]", std::str::from_utf8(part).unwrap_or_default());
        let count = Doc::parse(list.into()).map_or(1, |doc| doc.root().elements().count());
        owners.extend(std::iter::repeat_n(position, count));
    }
    owners
}

pub(super) fn finished(
    name: Arc<str>,
    method: &'static str,
    head: Head,
    body: String,
    has_body: bool,
    encoding: Encoding,
    timeout: std::time::Duration,
) -> Request {
    let Head { url, mut headers } = head;
    if has_body && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        headers.insert(0, ("Content-Type".to_owned(), request::content_type(encoding).to_owned()));
    }
    Request { name, method, url, headers, body: body.into(), timeout }
}

/// The texts of fetches that a request carries in its headers or query, in every form in which a vendor may send them
/// back, long ones first.
fn tokens_in(request: &Request, fetched: &[Arc<Doc>]) -> Vec<String> {
    let query = request.url.split_once('?').map_or("", |(_, query)| query);
    let mut texts = Vec::new();
    fetched.iter().for_each(|doc| texts_of(doc.root(), &mut texts));
    let is_carried = |text: &String| {
        let is_in = |(_, value): &(String, String)| value.contains(text.as_str());
        request.headers.iter().any(is_in) || query.contains(&request::percent_encoded(text))
    };
    let carried = texts.into_iter().filter(|text| text.len() >= SHORTEST_TOKEN).filter(is_carried);
    let mut forms: Vec<String> = carried.flat_map(|text| written::forms(&text)).collect();
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms
}

fn texts_of(json: Json<'_>, texts: &mut Vec<String>) {
    texts.extend(json.text().map(|text| text.into_owned()));
    json.elements().chain(json.members().map(|(_, value)| value)).for_each(|value| texts_of(value, texts));
}
