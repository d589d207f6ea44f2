//! One `send`, as a machine without I/O: which request comes next, and what its answer means for each item. Requests
//! go in the manifest's order; refused batches are split, fetches made and renewed, `send:` rules followed.

mod fetch;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::bound::{Known, Plan, write_part};
use super::outcomes::{self, Decision, Items, What};
use super::plan::{Encoding, RequestPlan};
use super::render::{Attempt, Gone, Notes, Reply, Scope};
use super::request::{self, Head};
use super::tree::{Node, Source};
use crate::destination::{Answer, Clock, Item, NoAnswer, Outcome, Request, Verdict};
use crate::json::Doc;
use crate::memory::Memory;

const MAX_REASON_CHARS: usize = 300;
const MAX_ANSWER_BYTES: usize = 512;
/// How long it is remembered that a rule with `times` was used for an event.
const TIMES_MS: i64 = 3_600_000;
/// The state of one `send`.
pub(crate) struct Run<'p> {
    plan: &'p Plan,
    items: &'p [Item],
    /// Decided for good, by item.
    verdicts: Vec<Option<Verdict>>,
    /// Whether one of its requests was only submitted, by item.
    submitted: Vec<bool>,
    /// The requests that `send:` rules asked for, by item.
    asked: Vec<Vec<usize>>,
    replies: Vec<Vec<(usize, Arc<Reply>)>>,
    /// The next request of the manifest.
    next_request: usize,
    agenda: VecDeque<Chunk>,
    fetched: Vec<Arc<Doc>>,
    renewed: bool,
    waiting: Option<Waiting>,
    preview: bool,
    hide: bool,
}

/// Items that share one request.
struct Chunk {
    request: usize,
    items: Vec<usize>,
    parts: Vec<Bytes>,
}

enum Waiting {
    Fetch(usize),
    Chunk(Chunk),
}

impl<'p> Run<'p> {
    pub fn new(plan: &'p Plan, items: &'p [Item]) -> Run<'p> {
        Run {
            plan,
            items,
            verdicts: vec![None; items.len()],
            submitted: vec![false; items.len()],
            asked: vec![Vec::new(); items.len()],
            replies: vec![Vec::new(); items.len()],
            next_request: 0,
            agenda: VecDeque::new(),
            fetched: Vec::new(),
            renewed: false,
            waiting: None,
            preview: false,
            hide: false,
        }
    }

    /// The next request to send; its answer goes to [`Run::answered`]. `None` when everything is decided.
    pub fn next(&mut self, memory: &Memory, clock: &dyn Clock) -> Option<Request> {
        loop {
            let at = self.agenda.front().map_or(self.next_request, |chunk| chunk.request);
            let plan = self.plan.program.requests.get(at)?;
            let wanting = match self.agenda.front() {
                Some(chunk) => chunk.items.clone(),
                None => self.wanting(at),
            };
            if !wanting.is_empty() && !self.preview && needs_fetch(plan) {
                match self.missing_fetch(memory, clock) {
                    Ok(None) => {}
                    Ok(Some(request)) => return Some(request),
                    Err(reason) => {
                        let verdict = self.verdict(Outcome::Retry { after: None }, &reason, "");
                        self.decide_all(&wanting, verdict);
                    }
                }
            }
            let Some(chunk) = self.agenda.pop_front() else {
                self.plan_chunks(at);
                self.next_request += 1;
                continue;
            };
            match self.filled(chunk).and_then(|chunk| Ok((self.request(&chunk, clock)?, chunk))) {
                Ok((request, chunk)) => {
                    self.waiting = Some(Waiting::Chunk(chunk));
                    return Some(request);
                }
                Err(reason) => {
                    let verdict = self.verdict(Outcome::Rejected, &reason, "");
                    self.decide_all(&wanting, verdict);
                }
            }
        }
    }

    /// Takes in the answer to the request that [`Run::next`] gave.
    pub fn answered(&mut self, answer: Result<Answer, NoAnswer>, memory: &Memory, clock: &dyn Clock) {
        match self.waiting.take() {
            Some(Waiting::Fetch(slot)) => self.fetch_answered(slot, answer, memory, clock),
            Some(Waiting::Chunk(chunk)) => self.chunk_answered(chunk, answer, memory, clock),
            None => {}
        }
    }

    /// How each item ended.
    pub fn verdicts(self) -> Vec<Verdict> {
        let no_answer: Arc<str> = "".into();
        let done = |submitted| Verdict {
            outcome: if submitted { Outcome::Submitted } else { Outcome::Delivered },
            reason: String::new(),
            answer: no_answer.clone(),
        };
        let ends = self.verdicts.into_iter().zip(self.submitted);
        ends.map(|(verdict, submitted)| verdict.unwrap_or_else(|| done(submitted))).collect()
    }

    fn known(&self, item: usize) -> Known<'_> {
        let replies = self.replies.get(item).map(Vec::as_slice).unwrap_or_default();
        Known { fetched: &self.fetched, replies, hide: self.hide }
    }

    /// The items that a request is for and that nothing has ended yet.
    fn wanting(&self, request: usize) -> Vec<usize> {
        let on_demand = self.plan.program.requests.get(request).is_some_and(|plan| plan.on_demand);
        let wants = |(at, item): (usize, &Item)| {
            let open = self.verdicts.get(at).is_some_and(Option::is_none);
            let wanted = match on_demand {
                true => self.asked.get(at).is_some_and(|asked| asked.contains(&request)),
                false => item.parts.iter().any(|part| part.request == request),
            };
            (open && wanted).then_some(at)
        };
        self.items.iter().enumerate().filter_map(wants).collect()
    }

    /// A chunk of the items that nothing has ended, with their bytes.
    fn filled(&self, mut chunk: Chunk) -> Result<Chunk, String> {
        if !chunk.parts.is_empty() {
            return Ok(chunk);
        }
        let plan = self.plan.program.requests.get(chunk.request).ok_or("no such request")?;
        chunk.items.retain(|at| self.verdicts.get(*at).is_some_and(Option::is_none));
        chunk.parts =
            chunk.items.iter().map(|at| self.part(*at, chunk.request, plan)).collect::<Result<_, _>>()?;
        Ok(chunk)
    }

    /// An item's bytes in a request: those rendered before, unless they depend on what is known only now.
    fn part(&self, at: usize, request: usize, plan: &RequestPlan) -> Result<Bytes, String> {
        let item = self.items.get(at).ok_or("no such item")?;
        if !plan.is_late && !plan.on_demand && !self.hide {
            let part = item.parts.iter().find(|part| part.request == request);
            return part.map(|part| part.bytes.clone()).ok_or_else(|| "no such part".to_owned());
        }
        let write = |scope: &Scope<'_>, out: &mut String| {
            write_part(scope, plan, out).map(|()| Bytes::copy_from_slice(out.as_bytes()))
        };
        let rendered = self.plan.with_scope(&item.event, Plan::options_of(item), self.known(at), write);
        match rendered {
            Ok((Ok(bytes), _)) => Ok(bytes),
            _ => Err(format!("request {}: a value that it needs is absent", plan.name)),
        }
    }

    /// Puts the items of a request into chunks: of one group, and up to the vendor's caps.
    fn plan_chunks(&mut self, request: usize) {
        let Some(plan) = self.plan.program.requests.get(request) else { return };
        let mut chunks: Vec<(u64, usize, Chunk)> = Vec::new();
        for at in self.wanting(request) {
            let bytes = match self.part(at, request, plan) {
                Ok(bytes) => bytes,
                Err(reason) => {
                    let verdict = self.verdict(Outcome::Rejected, &reason, "");
                    self.decide_all(&[at], verdict);
                    continue;
                }
            };
            let part =
                self.items.get(at).and_then(|item| item.parts.iter().find(|part| part.request == request));
            // What is rendered on demand has no group of its own; it shares only where everyone does.
            let group =
                part.map_or(if plan.outside.event { u64::MAX - at as u64 } else { 0 }, |part| part.group);
            let fits = |(of, size, chunk): &&mut (u64, usize, Chunk)| {
                *of == group && chunk.items.len() < plan.caps.items && *size + bytes.len() < plan.caps.bytes
            };
            match chunks.iter_mut().rev().find(fits) {
                Some((_, size, chunk)) => {
                    *size += bytes.len() + 1;
                    chunk.items.push(at);
                    chunk.parts.push(bytes);
                }
                None => {
                    let size = bytes.len() + 1;
                    chunks.push((group, size, Chunk { request, items: vec![at], parts: vec![bytes] }));
                }
            }
        }
        self.agenda.extend(chunks.into_iter().map(|(_, _, chunk)| chunk));
    }

    /// A chunk's request, its head rendered for the first of its items.
    fn request(&self, chunk: &Chunk, clock: &dyn Clock) -> Result<Request, String> {
        let wrong = || "an item or request is gone".to_owned();
        let plan = self.plan.program.requests.get(chunk.request).ok_or_else(wrong)?;
        let first = chunk.items.first().copied().ok_or_else(wrong)?;
        let item = self.items.get(first).ok_or_else(wrong)?;
        let id = self.attempt_id(chunk);
        let build = |scope: &Scope<'_>, _: &mut String| -> Result<(Head, String), Gone> {
            let body = if plan.is_batch {
                let texts = chunk.parts.iter().map(|part| std::str::from_utf8(part).unwrap_or_default());
                let items = request::joined(texts, plan.encoding);
                match (&plan.body, plan.encoding) {
                    (Some(Node::Source(Source::Items)), Encoding::Json | Encoding::Lines) => items,
                    (body, encoding) => {
                        request::body(&Scope { items: &items, ..*scope }, body.as_ref(), encoding)?
                    }
                }
            } else {
                chunk.parts.first().map(|part| String::from_utf8_lossy(part).into_owned()).unwrap_or_default()
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
            let Known { fetched, replies, hide } = self.known(first);
            let scope = Scope { fetched, replies, hide, ..Scope::of_constants(&self.plan.program, &notes) };
            Some(build(&scope, &mut String::new()))
        };
        match built {
            Some(Ok((head, body))) => Ok(finished(
                plan.name.clone(),
                plan.method,
                head,
                body,
                plan.body.is_some(),
                plan.encoding,
                plan.timeout,
            )),
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
                format!(
                    "batch_{:016x}",
                    all.fold(0, |state, message| super::hash::hash(state, message.as_bytes()))
                )
            }
        }
    }

    fn verdict(&self, outcome: Outcome, reason: &str, answer: &str) -> Verdict {
        use crate::destination::Destination;
        let reason = self.plan.mask(reason).chars().take(MAX_REASON_CHARS).collect();
        let mut answer = self.plan.mask(answer);
        while answer.len() > MAX_ANSWER_BYTES {
            answer.pop();
        }
        Verdict { outcome, reason, answer: answer.into() }
    }

    fn decide_all(&mut self, items: &[usize], verdict: Verdict) {
        for at in items {
            if let Some(slot @ None) = self.verdicts.get_mut(*at) {
                *slot = Some(verdict.clone());
            }
        }
    }

    fn chunk_answered(
        &mut self,
        chunk: Chunk,
        answer: Result<Answer, NoAnswer>,
        memory: &Memory,
        clock: &dyn Clock,
    ) {
        if self.preview {
            return;
        }
        let Some(plan) = self.plan.program.requests.get(chunk.request) else { return };
        let reply = match answer {
            Ok(answer) => Arc::new(outcomes::reply(answer)),
            Err(error) => {
                if !plan.optional {
                    let verdict = self.verdict(Outcome::Retry { after: None }, &error.to_string(), "");
                    self.decide_all(&chunk.items, verdict);
                }
                return;
            }
        };
        // Only a later request can read it.
        let is_last = chunk.request + 1 == self.plan.program.requests.len();
        for at in chunk.items.iter().filter(|_| !is_last) {
            if let Some(replies) = self.replies.get_mut(*at) {
                replies.push((chunk.request, reply.clone()));
            }
        }
        let decisions = self.classify(&chunk, plan, &reply, memory, clock);
        let shown = format!("{} {}", reply.status, reply.text);
        let mut split: Vec<usize> = Vec::new();
        let mut again: Vec<usize> = Vec::new();
        let mut pace = None;
        for (position, decision) in decisions.into_iter().enumerate() {
            let Some(at) = chunk.items.get(position).copied() else { continue };
            self.count_times(at, chunk.request, &decision, plan, memory, clock);
            match &decision.what {
                What::Split { pace: asked } if chunk.items.len() > 1 => {
                    pace = *asked;
                    split.push(position);
                }
                What::Unauthorised if !self.renewed && needs_fetch(plan) => again.push(position),
                _ if plan.optional => {}
                _ => self.decide(at, &decision, &shown),
            }
        }
        if !again.is_empty() {
            self.renewed = true;
            self.fetched.clear();
            self.plan.program.fetches.iter().for_each(|fetch| memory.forget(&fetch::memory_key(fetch)));
            let items = again.iter().filter_map(|position| chunk.items.get(*position).copied()).collect();
            self.agenda.push_front(Chunk { request: chunk.request, items, parts: Vec::new() });
        }
        self.split(chunk, &split, pace, &shown);
    }

    fn split(&mut self, chunk: Chunk, positions: &[usize], pace: Option<std::time::Duration>, shown: &str) {
        if positions.is_empty() {
            return;
        }
        let half = positions.len().div_ceil(2);
        let (first, second) = positions.split_at(half);
        let part_of = |positions: &[usize]| Chunk {
            request: chunk.request,
            items: positions.iter().filter_map(|at| chunk.items.get(*at).copied()).collect(),
            parts: positions.iter().filter_map(|at| chunk.parts.get(*at).cloned()).collect(),
        };
        let (first, second) = (part_of(first), part_of(second));
        match pace {
            Some(_) if !second.items.is_empty() => {
                let outcome = Outcome::Throttled { after: pace, user_only: false };
                let verdict = self.verdict(outcome, "waits while a refused batch is split slowly", shown);
                self.decide_all(&second.items, verdict);
            }
            _ if second.items.is_empty() => {}
            _ => self.agenda.push_front(second),
        }
        self.agenda.push_front(first);
    }

    fn decide(&mut self, at: usize, decision: &Decision, shown: &str) {
        let outcome = match &decision.what {
            What::Delivered => return,
            What::Submitted => {
                if let Some(submitted) = self.submitted.get_mut(at) {
                    *submitted = true;
                }
                return;
            }
            What::Send(request) => {
                if let Some(asked) = self.asked.get_mut(at) {
                    asked.push(*request);
                }
                return;
            }
            What::Retry(after) => Outcome::Retry { after: *after },
            What::Throttled { after, user_only } => {
                Outcome::Throttled { after: *after, user_only: *user_only }
            }
            What::Rejected | What::Split { .. } => Outcome::Rejected,
            What::Unauthorised => Outcome::Unauthorised,
        };
        let verdict = self.verdict(outcome, &decision.reason, shown);
        self.decide_all(&[at], verdict);
    }

    fn times_key(&self, at: usize, request: usize, rule: usize) -> String {
        let message = self.items.get(at).map_or("", |item| item.event.message_id());
        format!("times/{request}/{rule}/{message}")
    }

    fn count_times(
        &self,
        at: usize,
        request: usize,
        decision: &Decision,
        plan: &RequestPlan,
        memory: &Memory,
        clock: &dyn Clock,
    ) {
        let Some(rule) =
            decision.rule.filter(|rule| plan.rules.get(*rule).is_some_and(|rule| rule.times.is_some()))
        else {
            return;
        };
        let (key, now) = (self.times_key(at, request, rule), clock.now_ms());
        let before: u32 = memory.get(&key, now).and_then(|count| count.parse().ok()).unwrap_or(0);
        memory.put(&key, &(before + 1).to_string(), now + TIMES_MS, now);
    }

    fn classify(
        &self,
        chunk: &Chunk,
        plan: &RequestPlan,
        reply: &Reply,
        memory: &Memory,
        clock: &dyn Clock,
    ) -> Vec<Decision> {
        let now_ms = clock.now_ms();
        let records: RefCell<Option<Vec<usize>>> = RefCell::new(None);
        let of_record = |record: usize| {
            if plan.records.len() <= 1 {
                return (record < chunk.items.len()).then_some(record);
            }
            records.borrow_mut().get_or_insert_with(|| owners(chunk)).get(record).copied()
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
            memory.get(&key, now_ms).and_then(|count| count.parse().ok()).unwrap_or(0)
        };
        let notes = Notes::default();
        let scope = Scope { now_ms, ..Scope::of_constants(&self.plan.program, &notes) };
        let items = Items { count: chunk.items.len(), of_record: &of_record, id: &id, times: &times };
        outcomes::classify(&scope, plan, reply, &items)
    }
}

fn needs_fetch(plan: &RequestPlan) -> bool {
    plan.outside.fetch || plan.inside_fetch
}

/// For each record of a chunk, the position of the item it belongs to.
fn owners(chunk: &Chunk) -> Vec<usize> {
    let mut owners = Vec::new();
    for (position, part) in chunk.parts.iter().enumerate() {
        let list = format!("[{}]", std::str::from_utf8(part).unwrap_or_default());
        let count = Doc::parse(list.into()).map_or(1, |doc| doc.root().elements().count());
        owners.extend(std::iter::repeat_n(position, count));
    }
    owners
}

fn finished(
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

/// The requests that a send would make if every answer were a success.
pub(crate) fn preview(plan: &Plan, items: &[Item], clock: &dyn Clock, hide: bool) -> Vec<Request> {
    let memory = Memory::new(0);
    let mut run = Run { preview: true, hide, ..Run::new(plan, items) };
    let mut requests = Vec::new();
    while let Some(request) = run.next(&memory, clock) {
        run.answered(Ok(Answer::default()), &memory, clock);
        requests.push(request);
    }
    if hide {
        use crate::destination::Destination;
        for request in &mut requests {
            request.url = plan.mask(&request.url);
            request.headers.iter_mut().for_each(|(_, value)| *value = plan.mask(value));
        }
    }
    requests
}

#[cfg(test)]
mod tests;
