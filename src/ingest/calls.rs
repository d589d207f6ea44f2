//! From the text of a request to calls that are durable: opened, its source known, each call made an event, all of
//! them appended in one go. It answers nothing; it says what was refused, or why everything was.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use fanout_sdk::event::{CallType, Event};
use hyper::http::request::Parts;

use super::auth::{AuthError, Credentials};
use super::reply::{Failure, Refusals};
use super::{Active, ActiveSource, Ingest, cors};
use crate::http::Peer;
use crate::queue::{Appended, Entry};
use crate::telemetry::{CallResult, SourceCounters};

/// The warning of a batch without calls.
const EMPTY_BATCH: &str = "empty_batch";

/// What the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One call of this type.
    Single(CallType),
    /// An object with a list of calls.
    Batch,
}

impl Ingest {
    /// Takes the calls of a request. When this returns, those that are not among the refusals are durable, or are of a
    /// type that nobody takes.
    pub(super) async fn take(
        &self,
        active: &Active,
        head: &Parts,
        peer: Peer,
        body: &[u8],
        shape: Shape,
    ) -> Result<Refusals, Failure> {
        let received_at_ms = now_ms();
        let opened = open(body, shape, active)?;
        let source = authorise(active, head, opened.write_key.as_deref())?;
        let mut tally = Tally::default();
        let taken = self.append(active, source, opened.calls, received_at_ms, shape, &mut tally).await;
        tally.flush(&source.counters, |kind, count| self.metrics.count_warnings(kind, count));
        taken
    }
}
