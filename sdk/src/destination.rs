//! The Rust trait [`Destination`] and the words around it: item, request, answer, outcome.
//! It does not know manifests; the engine implements this trait for them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::event::Event;
use crate::json::Json;

/// A request to a vendor, ready to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Its name in the manifest, such as `main`.
    pub name: Arc<str>,
    /// `POST`, `PUT`, `PATCH`, `GET` or `DELETE`.
    pub method: &'static str,
    /// The whole address, query included.
    pub url: String,
    /// Headers in the order in which they are sent.
    pub headers: Vec<(String, String)>,
    /// The exact bytes of the body.
    pub body: Bytes,
    /// How long the vendor may take for the whole exchange.
    pub timeout: Duration,
}

/// What a vendor answered.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status code; 0 in a [`preview`](crate::preview::preview) where nobody said what the vendor would answer: a
    /// success of which nothing is known.
    pub status: u16,
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, cut at a limit of the transport.
    pub body: Bytes,
}

/// Why there is no answer. None of these says whether the vendor acted on the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The time for the exchange was over.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection could not be made, or broke.
    #[error("connection failed: {0}")]
    Connection(String),
    /// The address is one that the destination may not call.
    #[error("address refused: {0}")]
    Refused(String),
}

/// Where requests go; the router's HTTP client, or a script in tests.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request and reads the whole answer.
    async fn send(&self, request: &Request) -> Result<Answer, NoAnswer>;
}

/// Where time and chance come from, so that tests can fix them.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;
    /// 32 random hexadecimal digits.
    fn nonce(&self) -> String;
}

/// How an attempt ended for one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The vendor has it.
    Delivered,
    /// The vendor took it and never reports the result.
    Submitted,
    /// Try again; counts as an attempt.
    Retry {
        /// How long the vendor asked to wait; the standard wait where it did not say.
        after: Option<Duration>,
    },
    /// The vendor wants fewer requests; counts as no attempt and pauses the destination.
    Throttled {
        /// How long the vendor asked to wait.
        after: Option<Duration>,
        /// Only this user is throttled, not the destination.
        user_only: bool,
    },
    /// The vendor will never take it: a dead letter.
    Rejected,
    /// The vendor refuses the credentials.
    Unauthorised,
}

/// An outcome with its explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// Why; for a success what was left out of it, nearly always empty. At most 300 characters, no secrets.
    pub reason: String,
    /// The vendor's answer, status first, at most 512 bytes, secrets masked; empty for a success.
    pub answer: Arc<str>,
}

/// Why an event is not sent to a destination by its adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// A short code that is counted, such as `no_identity`.
    pub reason: &'static str,
    /// The line or rule that says so, for people.
    pub detail: String,
}

/// One event rendered for one destination.
#[derive(Clone, Debug)]
pub struct Item {
    /// The event it was rendered from.
    pub event: Arc<Event>,
    /// Where in the event the options stand that the call gave under `integrations.<Name>`; see [`Event::at`].
    pub options: Option<u32>,
    /// Who it is about at the vendor; a request holds at most one item of each.
    pub identity: Arc<str>,
    /// Equal for items that may share a request: a hash of everything that stands outside the items.
    pub group: u64,
    /// A hash of what the vendor would store by the requests of `parts`, equal for a call that changes nothing.
    pub digest: u64,
    /// The rendered bytes of each request that this event needs.
    pub parts: Vec<Part>,
    /// What is odd about it, such as a custom trait left out because of a cap.
    pub warnings: Vec<crate::event::Warning>,
}

/// An item's bytes in one of the requests of a delivery.
#[derive(Clone, Debug)]
pub struct Part {
    /// Which request, counted in the manifest's order.
    pub request: usize,
    /// Equal for items that may share this request.
    pub group: u64,
    /// The item as the vendor's wrapper takes it.
    pub bytes: Bytes,
}

/// What a destination asks of its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most items that one `send` should get; 1 where the vendor takes no batches.
    pub items: usize,
    /// The most bytes that those items may have together.
    pub bytes: usize,
    /// How long to wait for a batch to fill.
    pub linger: Duration,
    /// The most requests at one time; `None` where the vendor says nothing.
    pub concurrency: Option<usize>,
    /// Published rates, most narrow first.
    pub rates: Vec<Rate>,
}

/// A published rate: at most `count` of `unit` in `per`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// Of what.
    pub unit: RateUnit,
    /// In which time.
    pub per: Duration,
    /// Counted for each user by itself.
    pub per_user: bool,
}

impl Rate {
    /// Reads a rate as manifests write it: `100 requests per 10 s`, `5 items per 1 min per user`. `None` for anything else.
    pub fn parse(text: &str) -> Option<Rate> {
        crate::manifest::rate(text)
    }
}

/// What a [`Rate`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateUnit {
    /// HTTP requests.
    Requests,
    /// Items in them.
    Items,
    /// Bytes of their bodies.
    Bytes,
}

/// What a destination may use while it sends: the lane's transport and clock, and what it remembers between events.
pub struct Context<'a> {
    /// Every request passes the lane's limiter.
    pub transport: &'a dyn Transport,
    /// Time and chance.
    pub clock: &'a dyn Clock,
    /// Ids, tokens and field lists, bounded, shared by all sends of the destination.
    pub memory: &'a crate::memory::Memory,
    /// Stays the same over all attempts of one delivery: the destination's name, used in idempotency keys.
    pub destination: &'a str,
    /// What the requests are made for.
    pub purpose: Purpose,
}

/// What a `send` makes its requests for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// They are sent.
    #[default]
    Deliver,
    /// They are shown to somebody and never leave the process; tokens are not asked for.
    Show {
        /// Whether what depends on a secret is shown, too; else it is `***`.
        secrets: bool,
    },
}

impl Purpose {
    /// Whether requests are shown instead of sent.
    pub fn is_show(self) -> bool {
        matches!(self, Purpose::Show { .. })
    }

    /// Whether secrets are written as `***`.
    pub fn hides_secrets(self) -> bool {
        matches!(self, Purpose::Show { secrets: false })
    }
}

/// A configured vendor, as its lane drives it.
#[async_trait]
pub trait Destination: Send + Sync {
    /// One event for this vendor. Pure.
    fn render(&self, event: &Arc<Event>, options: Option<Json<'_>>) -> Result<Item, Skip>;

    /// A hash of everything that the vendor would store of an item, whichever of its requests it takes to bring it there:
    /// equal for a call that changes nothing, and asked for only where such calls are left out. An adapter whose code
    /// sends what [`Item::digest`] does not cover says more. Pure.
    fn digest(&self, item: &Item) -> u64 {
        item.digest
    }

    /// Which of the waiting items, by position, go into the next `send`: always the first, and those that may share
    /// its request, up to the vendor's caps and one for each identity. Pure.
    fn pack(&self, waiting: &[Item]) -> Vec<usize>;

    /// Sends the items and says how each one ended, in their order. A cancelled `send` means retry.
    async fn send(&self, context: &Context<'_>, items: &[Item]) -> Vec<Verdict>;

    /// What it asks of its lane.
    fn limits(&self) -> &Limits;

    /// Replaces every secret of this destination's settings in a text by `***`.
    fn mask(&self, text: &str) -> String;
}
