//! A configured vendor: a bound plan as the router's lanes drive it. It renders, packs and previews; what happens
//! between the first request and the last answer of a `send` is `run`'s.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Manifest;
use super::field::FieldBuffer;
use super::hash::{NameHasher, digest, hash};
use super::plan::{Program, RequestPlan};
use super::render::{Gone, MASK, Notes, Scope};
use super::request;
use super::scope::Found;
use super::tree::Node;
use crate::destination::{Context, Destination, Item, Limits, Part, Skip, Verdict};
use crate::event::{CallType, Date, Event};
use crate::json::{Doc, Json};

/// Where requests of one item and batches follow each other in one `send`, so many items at most.
const MIXED_ITEMS: usize = 100;
/// Scratch buffers kept for the next event.
const KEPT_SCRATCH: usize = 4;

/// A manifest with a destination's settings: the vendor, ready to be driven.
pub struct Plan {
    manifest: Arc<Manifest>,
    pub(crate) program: Program,
    limits: Limits,
    scratch: Mutex<Vec<Scratch>>,
}

/// Buffers that one event's rendering needs, reused.
#[derive(Default)]
pub(crate) struct Scratch {
    fields: Vec<FieldBuffer>,
    out: String,
}

/// What is known while an event is rendered, beside the event.
#[derive(Clone, Copy, Default)]
pub(crate) struct Known<'k> {
    pub fetched: &'k [Arc<Doc>],
    pub replies: &'k [(usize, Arc<super::render::Reply>)],
    pub found: Found<'k>,
    pub given: &'k [(usize, Arc<str>)],
    pub settled: bool,
    pub hide: bool,
}

impl Plan {
    pub(crate) fn new(manifest: Arc<Manifest>, program: Program) -> Plan {
        let limits = limits(&program);
        Plan { manifest, program, limits, scratch: Mutex::default() }
    }

    /// The manifest it was bound from.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Whether it takes calls of every type, not identifies alone.
    pub fn takes_all_calls(&self) -> bool {
        self.manifest.takes_all_calls()
    }

    fn take_scratch(&self) -> Scratch {
        let kept = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = kept.unwrap_or_default();
        scratch.fields.resize_with(self.program.rest.fields, FieldBuffer::default);
        scratch.fields.iter_mut().for_each(FieldBuffer::clear);
        scratch
    }

    fn keep_scratch(&self, scratch: Scratch) {
        let mut kept = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_SCRATCH {
            kept.push(scratch);
        }
    }

    /// Calls `then` with a scope that can read everything about an event, or says why the event is skipped.
    pub(crate) fn with_scope<T>(
        &self,
        event: &Event,
        options: Option<Json<'_>>,
        known: Known<'_>,
        then: impl FnOnce(&Scope<'_>, &mut String) -> T,
    ) -> Result<(T, Notes), Skip> {
        let mut scratch = self.take_scratch();
        let notes = Notes::default();
        let result = self.scoped(event, options, known, &notes, &mut scratch, then);
        self.keep_scratch(scratch);
        result.map(|result| (result, notes))
    }

    fn scoped<T>(
        &self,
        event: &Event,
        options: Option<Json<'_>>,
        known: Known<'_>,
        notes: &Notes,
        scratch: &mut Scratch,
        then: impl FnOnce(&Scope<'_>, &mut String) -> T,
    ) -> Result<T, Skip> {
        if event.call_type() != CallType::Identify && !self.takes_all_calls() {
            let detail = format!("{} takes identify calls only", self.manifest.name());
            return Err(Skip { reason: "call_type", detail });
        }
        let scope = Scope {
            event: Some(event),
            options,
            fetched: known.fetched,
            replies: known.replies,
            found: known.found,
            given: known.given,
            settled: known.settled,
            hide: known.hide,
            ..Scope::of_constants(&self.program, notes)
        };
        let identity = self.program.identity.as_ref().unwrap_or(&Node::Absent);
        let Ok(identity) = scope.eval(identity) else {
            return Err(Skip {
                reason: "no_identity",
                detail: "the call has none of what [identity].key asks for".into(),
            });
        };
        let scope = Scope { identity: Some(&identity), ..scope };
        self.program.rest.hand_out(&scope, event, &mut scratch.fields);
        let scope = Scope { fields: &scratch.fields, ..scope };
        scratch.out.clear();
        Ok(then(&scope, &mut scratch.out))
    }

    fn render_parts(&self, scope: &Scope<'_>, out: &mut String) -> Result<Rendered, Skip> {
        let mut parts = Vec::with_capacity(self.program.requests.len());
        let mut digest = 0;
        for (position, request) in self.program.requests.iter().enumerate() {
            let found = if request.stands { Found::Nothing } else { Found::Unknown };
            let scope = &Scope { found, ..*scope };
            if (request.on_demand && !request.stands) || !may_be_wanted(scope, request) {
                continue;
            }
            out.clear();
            scope.notes.volatile.borrow_mut().clear();
            match write_part(scope, request, out) {
                // Without the person there is nothing that the other requests could be about.
                Err(_) if request.stands => return Err(self.nothing_to_send(scope.notes)),
                // What it needs may come with what its conditions wait for.
                Err(_) if request.late_conditions && request.is_late => out.clear(),
                Err(_) => continue,
                Ok(()) => {}
            }
            if out.len() > request.caps.item_bytes {
                let detail = format!(
                    "{} bytes for request {}; the vendor takes {}",
                    out.len(),
                    request.name,
                    request.caps.item_bytes
                );
                return Err(Skip { reason: "too_large", detail });
            }
            let group = match group(scope, request, position) {
                Err(_) if request.late_conditions => position as u64 + 1,
                group => group?,
            };
            digest = stable_hash(digest ^ group, out, &scope.notes.volatile.borrow());
            parts.push(Part { request: position, group, bytes: Bytes::copy_from_slice(out.as_bytes()) });
        }
        if parts.is_empty() {
            return Err(self.nothing_to_send(scope.notes));
        }
        Ok(Rendered { identity: identity_text(scope), parts, digest })
    }

    /// A request without a part of its own although it may be sent.
    fn is_unseen(&self, position: usize, request: &RequestPlan, item: &Item) -> bool {
        request.active && request.on_demand && !item.parts.iter().any(|part| part.request == position)
    }

    /// The digest with what requests would bring that may follow, whatever they depend on.
    fn digest_unseen(&self, item: &Item, scope: &Scope<'_>, out: &mut String) -> u64 {
        let mut digest = item.digest;
        for (position, request) in self.program.requests.iter().enumerate() {
            if !self.is_unseen(position, request, item) {
                continue;
            }
            out.clear();
            scope.notes.volatile.borrow_mut().clear();
            if write_part(scope, request, out).is_ok() {
                let group = group(scope, request, position).unwrap_or(position as u64 + 1);
                digest = stable_hash(digest ^ group, out, &scope.notes.volatile.borrow());
            }
        }
        digest
    }

    fn nothing_to_send(&self, notes: &Notes) -> Skip {
        match notes.required_at.get() {
            Some(at) => {
                let line = self.manifest.line_of(at);
                let detail = format!("a required value is absent, line {line} of the manifest");
                Skip { reason: "required_absent", detail }
            }
            None => Skip {
                reason: "nothing_to_send",
                detail: "no request of the manifest has anything to say".into(),
            },
        }
    }

    /// The item's options, where the call gave them.
    pub(crate) fn options_of<'e>(item: &'e Item) -> Option<Json<'e>> {
        item.options.and_then(|position| item.event.at(position))
    }
}

struct Rendered {
    identity: Arc<str>,
    parts: Vec<Part>,
    digest: u64,
}

/// Whether a request is sent for this event.
pub(crate) fn is_wanted(scope: &Scope<'_>, request: &RequestPlan) -> bool {
    request.active
        && request.when.iter().all(|node| scope.holds(node))
        && !request.unless.iter().any(|node| scope.holds(node))
}

/// Whether a request may turn out to be sent: conditions on what earlier steps bring are open until then.
fn may_be_wanted(scope: &Scope<'_>, request: &RequestPlan) -> bool {
    if !request.late_conditions {
        return is_wanted(scope, request);
    }
    let is_open = |node: &Node| scope.program.needs(node).reply;
    request.active
        && request.when.iter().all(|node| is_open(node) || scope.holds(node))
        && !request.unless.iter().any(|node| !is_open(node) && scope.holds(node))
}

/// An event's bytes in a request: its records, or the whole body where the request takes no batch.
pub(crate) fn write_part(scope: &Scope<'_>, request: &RequestPlan, out: &mut String) -> Result<(), Gone> {
    if request.is_batch {
        return request::records(scope, request, out);
    }
    match (&request.body, request.encoding) {
        (None, _) => Ok(()),
        (Some(body), super::plan::Encoding::Json) => scope.write(body, out).map(|_| ()),
        (body, encoding) => {
            out.push_str(&request::body(scope, body.as_ref(), encoding)?);
            Ok(())
        }
    }
}

/// Equal for items that may share the request: a hash of what stands outside them.
fn group(scope: &Scope<'_>, request: &RequestPlan, position: usize) -> Result<u64, Skip> {
    let start = position as u64 + 1;
    if !request.outside.event {
        return Ok(start);
    }
    let absent = |_| Skip {
        reason: "request_absent",
        detail: format!("url, query or headers of request {} are absent or refused", request.name),
    };
    let head = request::head(scope, &request.url, request.query.as_ref(), request.headers.as_ref())
        .map_err(absent)?;
    let mut group = hash(start, head.url.as_bytes());
    for (name, value) in &head.headers {
        group = hash(hash(group, name.as_bytes()), value.as_bytes());
    }
    if request.is_batch {
        let wrapper =
            request::body(&Scope { items: "[]", ..*scope }, request.body.as_ref(), request.encoding);
        let absent = |_| Skip {
            reason: "request_absent",
            detail: format!("the body of request {} is absent", request.name),
        };
        group = hash(group, wrapper.map_err(absent)?.as_bytes());
    }
    Ok(group)
}

/// A hash of a text without the ranges that differ from call to call.
fn stable_hash(start: u64, text: &str, volatile: &[(usize, usize)]) -> u64 {
    let mut state = start;
    let mut from = 0;
    for (start, end) in volatile {
        state = digest(state, text.get(from..*start).unwrap_or_default().as_bytes());
        from = *end;
    }
    digest(state, text.get(from..).unwrap_or_default().as_bytes())
}

fn identity_text(scope: &Scope<'_>) -> Arc<str> {
    let Some(identity) = scope.identity else { return "".into() };
    match identity.as_text() {
        Some(text) => (*text).into(),
        None => {
            let mut json = String::new();
            let write = |_: Date, _: &mut String| {};
            identity.write_json(&mut json, &super::value::Dates { write: &write, guess: false });
            json.into()
        }
    }
}

fn limits(program: &Program) -> Limits {
    let active = || program.requests.iter().filter(|request| request.active && !request.on_demand);
    let most = active().map(|request| request.caps.items).max().unwrap_or(1);
    let is_mixed = active().any(|request| request.caps.items < most);
    // A look-up is made for one person at a time.
    let most = if program.upsert.is_some() { 1 } else { most };
    let called = || program.requests.iter().filter(|request| request.active);
    Limits {
        items: if is_mixed { most.min(MIXED_ITEMS) } else { most },
        bytes: active().map(|request| request.caps.bytes).min().unwrap_or(usize::MAX),
        linger: active().map(|request| request.caps.linger).max().unwrap_or(Duration::ZERO),
        concurrency: called().filter_map(|request| request.concurrency).min(),
        rates: {
            let mut rates = Vec::new();
            for rate in called().flat_map(|request| &request.rates) {
                if !rates.contains(rate) {
                    rates.push(rate.clone());
                }
            }
            rates.sort_by_key(|rate| rate.per);
            rates
        },
    }
}

#[async_trait]
impl Destination for Plan {
    fn render(&self, event: &Arc<Event>, options: Option<Json<'_>>) -> Result<Item, Skip> {
        let render = |scope: &Scope<'_>, out: &mut String| self.render_parts(scope, out);
        let (rendered, notes) = self.with_scope(event, options, Known::default(), render)?;
        let Rendered { identity, parts, digest } = rendered?;
        let shared = parts
            .iter()
            .rfind(|part| self.program.requests.get(part.request).is_some_and(|request| request.is_batch));
        Ok(Item {
            event: event.clone(),
            options: options.map(Json::position),
            identity,
            group: shared.or(parts.last()).map_or(0, |part| part.group),
            digest,
            parts,
            warnings: notes.warnings.into_inner(),
        })
    }

    fn digest(&self, item: &Item) -> u64 {
        let mut requests = self.program.requests.iter().enumerate();
        if !requests.any(|(position, request)| self.is_unseen(position, request, item)) {
            return item.digest;
        }
        let unseen = |scope: &Scope<'_>, out: &mut String| self.digest_unseen(item, scope, out);
        match self.with_scope(&item.event, Plan::options_of(item), Known::default(), unseen) {
            Ok((digest, _)) => digest,
            // An item of an event that is skipped: there is none.
            Err(_) => item.digest,
        }
    }

    fn pack(&self, waiting: &[Item]) -> Vec<usize> {
        let Some(first) = waiting.first() else { return Vec::new() };
        let size = |item: &Item| item.parts.iter().map(|part| part.bytes.len() + 1).sum::<usize>();
        let most = waiting.len().min(self.limits.items);
        let (mut taken, mut bytes) = (Vec::with_capacity(most), size(first));
        taken.push(0);
        let mut identities: HashSet<&str, BuildHasherDefault<NameHasher>> =
            HashSet::with_capacity_and_hasher(most, BuildHasherDefault::default());
        identities.insert(&first.identity);
        for (position, item) in waiting.iter().enumerate().skip(1) {
            let size = size(item);
            if taken.len() >= self.limits.items || bytes + size > self.limits.bytes {
                break;
            }
            // One that stays behind keeps later ones of the same identity behind.
            if !identities.insert(&item.identity) || item.group != first.group {
                continue;
            }
            bytes += size;
            taken.push(position);
        }
        taken
    }

    async fn send(&self, context: &Context<'_>, items: &[Item]) -> Vec<Verdict> {
        self.run(context, items).finish().await
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn mask(&self, text: &str) -> String {
        masked(text.to_owned(), &self.program.secrets)
    }
}

/// A text with every one of these hidden.
pub(super) fn masked(mut text: String, secrets: &[String]) -> String {
    for secret in secrets {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), MASK);
        }
    }
    text
}
