//! From the body of a request to calls that are durable: opened, its source known, each call made an event, all of
//! them appended in one go. It answers nothing; it says what was refused, or why everything was.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use fanout_sdk::event::{CallType, Event};
use fanout_sdk::json::{Doc, Json, Kind};
use fanout_sdk::normalise::envelope::{self, Limits};
use fanout_sdk::normalise::{self, Refusal};
use hyper::body::Bytes;
use hyper::http::request::Parts;

use super::auth::{AuthError, Credentials};
use super::body::Body;
use super::reply::{Failure, Refusals};
use super::tally::Tally;
use super::{Active, ActiveSource, Ingest, client_ip, cors};
use crate::http::Peer;
use crate::queue::{Appended, Entry};
use crate::telemetry::CallResult;

/// The warning of a batch without calls.
const EMPTY_BATCH: &str = "empty_batch";

/// How many times the largest body a batch's calls may have in all, once its common fields are copied into each.
const MAX_GROWTH: usize = 16;
/// The most bytes that a batch's calls may have in all, whatever the largest body: the queue takes no more at one time, and
/// would ask for the same batch again and again.
const MAX_GROWN_BYTES: usize = 24 << 20;

/// What the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One call of this type.
    Single(CallType),
    /// An object with a list of calls.
    Batch,
}

/// A call's journal text made an event, or why it is refused.
type Call = Result<(Arc<str>, Arc<Event>), Refusal>;

impl Ingest {
    /// Takes the calls of a request. When this returns, those that are not among the refusals are durable, or of a type
    /// that nobody takes.
    pub(super) async fn take(
        &self,
        active: &Active,
        head: &Parts,
        peer: Peer,
        mut body: Body,
        shape: Shape,
    ) -> Result<Refusals, Failure> {
        let received_at_ms = now_ms();
        let (source, calls) = open(active, head, peer, &mut body, shape, received_at_ms)?;
        let mut tally = Tally::default();
        let taken = self.keep(source, calls, received_at_ms, shape, &mut tally).await;
        tally.flush(&source.counters, &self.metrics);
        // Until here the calls count as bytes in flight.
        drop(body);
        taken
    }

    async fn keep(
        &self,
        source: &ActiveSource,
        calls: Vec<Call>,
        received_at_ms: i64,
        shape: Shape,
        tally: &mut Tally,
    ) -> Result<Refusals, Failure> {
        let type_of_path = match shape {
            Shape::Single(call_type) => Some(call_type),
            Shape::Batch => None,
        };
        if calls.is_empty() {
            tally.warn(EMPTY_BATCH);
        }
        let keeps_all_types = self.journal_all_types.load(Ordering::Relaxed);
        let mut refusals = Refusals::default();
        let mut entries = Vec::with_capacity(calls.len());
        for (index, call) in calls.into_iter().enumerate() {
            match call {
                Err(refusal) => {
                    tally.count(type_of_path, CallResult::Refused);
                    refusals.push(index, refusal.code, refusal.message);
                }
                Ok((_, event)) if event.call_type() != CallType::Identify && !keeps_all_types => {
                    tally.count(Some(event.call_type()), CallResult::Unsupported);
                }
                Ok((text, event)) => entries.push(self.entry(source, text, event, received_at_ms)),
            }
        }
        if let (Shape::Single(_), Some(refused)) = (shape, refusals.listed.first()) {
            return Err(Failure::Call { code: refused.code, message: refused.message.clone() });
        }
        if source.source.strict && refusals.total > 0 {
            for entry in &entries {
                tally.count(Some(entry.payload.call_type()), CallResult::Refused);
            }
            return Err(Failure::Strict(refusals));
        }
        self.append(entries, tally).await.map(|()| refusals)
    }

    fn entry(
        &self,
        source: &ActiveSource,
        text: Arc<str>,
        event: Arc<Event>,
        received_at_ms: i64,
    ) -> Entry<Arc<Event>> {
        let user = event.user_id().or(event.anonymous_id()).unwrap_or_default();
        Entry {
            source: source.id,
            received_at_ms,
            kind: event.call_type() as u8,
            order_key: self.queue.hash(&[user]),
            message_key: self.queue.hash(&[&source.source.name, event.message_id()]),
            body: text.into(),
            payload: event,
        }
    }

    async fn append(&self, entries: Vec<Entry<Arc<Event>>>, tally: &mut Tally) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        let events: Vec<Arc<Event>> = entries.iter().map(|entry| entry.payload.clone()).collect();
        match self.queue.append(entries).await {
            Ok(verdicts) => {
                for (event, verdict) in events.iter().zip(verdicts) {
                    let result = match verdict {
                        Appended::Accepted => CallResult::Accepted,
                        Appended::Duplicate => CallResult::Duplicate,
                    };
                    tally.count(Some(event.call_type()), result);
                    if verdict == Appended::Accepted {
                        event.warnings().iter().for_each(|warning| tally.warn(warning.kind));
                    }
                }
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "calls were turned away");
                for event in &events {
                    tally.count(Some(event.call_type()), CallResult::Unavailable);
                }
                Err(Failure::Queue((&error).into()))
            }
        }
    }
}

/// Reads a body, finds its source and makes its calls events; the body's own tree is gone when it returns.
fn open<'a>(
    active: &'a Active,
    head: &Parts,
    peer: Peer,
    body: &mut Body,
    shape: Shape,
    received_at_ms: i64,
) -> Result<(&'a ActiveSource, Vec<Call>), Failure> {
    let text = std::str::from_utf8(&body.bytes).map_err(|_| not_utf8())?;
    let doc = normalise::read(text.into())?;
    let source = authorise(active, head, envelope::write_key(doc.root()).as_deref())?;
    let limits =
        Limits { event_bytes: active.settings.max_event_bytes, events: active.settings.max_batch_events };
    let size = grown_size(doc.root(), limits);
    if size > active.body_limits.max_bytes.saturating_mul(MAX_GROWTH).min(MAX_GROWN_BYTES) {
        return Err(too_large_together());
    }
    // Before they are made of it, about what the calls will hold beside the body.
    let calls_hold = doc.held_bytes().saturating_mul(size) / doc.text().len().max(1);
    body.hold(doc.text().len() + calls_hold).map_err(Failure::Body)?;
    let caller = active.settings.fill_ip.then(|| active.caller(&head.headers, peer));
    let mut new_id = || uuid::Uuid::new_v4().to_string();
    let to_event = |doc: Doc| -> Call {
        let doc = match caller.and_then(|caller| client_ip::fill(doc.text(), caller)) {
            Some(text) => normalise::read(text)?,
            None => doc,
        };
        let text = doc.text().clone();
        let event = Event::from_doc(doc, received_at_ms, &active.names)?;
        Ok((text, Arc::new(event)))
    };
    let calls = match shape {
        Shape::Single(call_type) => {
            vec![envelope::single(doc, call_type, limits, &mut new_id).and_then(to_event)]
        }
        Shape::Batch => {
            let calls = envelope::batch(&doc, limits, &mut new_id)?;
            calls.into_iter().map(|call| call.and_then(to_event)).collect()
        }
    };
    body.bytes = Bytes::new();
    let calls_hold = calls.iter().flatten().map(|(_, event)| event.held_bytes()).sum();
    body.hold(calls_hold).map_err(Failure::Body)?;
    Ok((source, calls))
}

fn authorise<'a>(
    active: &'a Active,
    head: &Parts,
    body_key: Option<&str>,
) -> Result<&'a ActiveSource, Failure> {
    let source = Credentials::read(&head.headers, head.uri.query())
        .and_then(|credentials| credentials.source(&active.sources, body_key))
        .map_err(Failure::Auth)?;
    if !source.source.enabled {
        return Err(Failure::Auth(AuthError::Disabled));
    }
    if !cors::origin_is_allowed(&head.headers, &source.source.allowed_origins) {
        return Err(Failure::Auth(AuthError::Origin));
    }
    Ok(source)
}

/// Bytes of all calls of a body together, once what the batch has in common stands in each of them.
fn grown_size(root: Json<'_>, limits: Limits) -> usize {
    let calls = root.get("batch").map_or(0, |batch| batch.elements().take(limits.events).count());
    let common: usize = ["context", "integrations"]
        .into_iter()
        .filter_map(|name| root.get(name))
        .filter(|value| value.kind() == Kind::Object)
        .map(|value| value.raw().len())
        .filter(|length| *length <= limits.event_bytes)
        .sum();
    root.raw().len().saturating_add(calls.saturating_mul(common))
}

fn not_utf8() -> Failure {
    Failure::Call { code: "invalid_json", message: "the body is not encoded as UTF-8".to_owned() }
}

fn too_large_together() -> Failure {
    Failure::Call {
        code: "batch_too_large",
        message: "the batch's context is too large to be given to each of its calls; send smaller batches"
            .to_owned(),
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Call { code: refusal.code, message: refusal.message }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
