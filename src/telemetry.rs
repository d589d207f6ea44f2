//! Every metric's name and labels, the text of `/metrics`, and where log lines go.
//!
//! It does not decide what is worth counting; the parts do. Labels come from the configuration (names of sources and
//! destinations) or from closed lists, never from a call, so their number is bounded. Counters are resolved once and
//! kept by their users: nothing is looked up by name for each event.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::sync::OnceLock;

use fanout_sdk::event::CallType;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

/// The content type of [`Metrics::encode`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A gauge in seconds.
pub type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    source: String,
    r#type: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WarningLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DestinationLabels {
    destination: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClosedLabels {
    destination: String,
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DeliveryLabels {
    destination: String,
    outcome: &'static str,
    reason: String,
}

/// All metrics of the process. Made once; shared behind an `Arc`.
pub struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    warnings: Family<WarningLabels, Counter>,
    ingest_seconds: Histogram,
    deliveries: Family<DeliveryLabels, Counter>,
    replay_deliveries: Family<DeliveryLabels, Counter>,
    pending: Family<DestinationLabels, Gauge>,
    oldest_pending: Family<DestinationLabels, Seconds>,
    attempt_seconds: Family<DestinationLabels, Histogram, fn() -> Histogram>,
    suppressed_calls: Family<DestinationLabels, Counter>,
    closed: Family<ClosedLabels, Gauge>,
    queue_disk_bytes: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// Every metric at zero.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("fanout");
        let calls = Family::default();
        let warnings = Family::default();
        let ingest_seconds = Histogram::new(exponential_buckets(0.000_25, 2.0, 14));
        let deliveries = Family::default();
        let replay_deliveries = Family::default();
        let pending = Family::default();
        let oldest_pending = Family::default();
        let attempt_seconds: Family<DestinationLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.002, 2.0, 15)));
        let suppressed_calls = Family::default();
        let closed = Family::default();
        let queue_disk_bytes = Gauge::default();
        // The encoder adds `_total` to counters.
        registry.register("calls", "Calls received, by what became of them", calls.clone());
        registry.register("warnings", "What was odd about calls that were accepted", warnings.clone());
        registry.register(
            "ingest_seconds",
            "From a request's first byte of body to its answer",
            ingest_seconds.clone(),
        );
        registry.register("deliveries", "Deliveries that ended, by how", deliveries.clone());
        registry.register(
            "replay_deliveries",
            "Deliveries of replays that ended, by how",
            replay_deliveries.clone(),
        );
        registry.register("pending", "Deliveries that are not finished", pending.clone());
        registry.register(
            "oldest_pending_seconds",
            "Age of the oldest unfinished delivery",
            oldest_pending.clone(),
        );
        registry.register("attempt_seconds", "How long attempts take", attempt_seconds.clone());
        registry.register(
            "suppressed_calls",
            "Identifies not sent because they change nothing",
            suppressed_calls.clone(),
        );
        registry.register(
            "destination_closed",
            "1 while a destination as a whole is not sent to, by cause",
            closed.clone(),
        );
        registry.register("queue_disk_bytes", "Bytes of the data directory", queue_disk_bytes.clone());
        Metrics {
            registry,
            calls,
            warnings,
            ingest_seconds,
            deliveries,
            replay_deliveries,
            pending,
            oldest_pending,
            attempt_seconds,
            suppressed_calls,
            closed,
            queue_disk_bytes,
        }
    }

    /// `fanout_calls_total` of one source.
    pub fn source(&self, source: &str) -> SourceCounters {
        SourceCounters { calls: self.calls.clone(), source: source.to_owned(), cells: Default::default() }
    }

    /// Adds to `fanout_warnings_total{kind}`; callers add up a request's warnings first.
    pub fn count_warnings(&self, kind: &'static str, count: u64) {
        self.warnings.get_or_create(&WarningLabels { kind }).inc_by(count);
    }

    /// `fanout_ingest_seconds`
    pub fn ingest_seconds(&self) -> &Histogram {
        &self.ingest_seconds
    }

    /// `fanout_deliveries_total{destination,outcome,reason}`; `reason` is a short code from a closed list, empty where
    /// the outcome says it.
    pub fn deliveries(&self, destination: &str, outcome: &'static str, reason: &str) -> Counter {
        let labels =
            DeliveryLabels { destination: destination.to_owned(), outcome, reason: reason.to_owned() };
        self.deliveries.get_or_create_owned(&labels)
    }

    /// `fanout_replay_deliveries_total{destination,outcome,reason}`: as [`Self::deliveries`], of replays.
    pub fn replay_deliveries(&self, destination: &str, outcome: &'static str, reason: &str) -> Counter {
        let labels =
            DeliveryLabels { destination: destination.to_owned(), outcome, reason: reason.to_owned() };
        self.replay_deliveries.get_or_create_owned(&labels)
    }

    /// `fanout_pending{destination}`
    pub fn pending(&self, destination: &str) -> Gauge {
        self.pending.get_or_create_owned(&destination_labels(destination))
    }

    /// `fanout_oldest_pending_seconds{destination}`
    pub fn oldest_pending_seconds(&self, destination: &str) -> Seconds {
        self.oldest_pending.get_or_create_owned(&destination_labels(destination))
    }

    /// `fanout_attempt_seconds{destination}`
    pub fn attempt_seconds(&self, destination: &str) -> Histogram {
        self.attempt_seconds.get_or_create_owned(&destination_labels(destination))
    }

    /// `fanout_suppressed_calls_total{destination}`
    pub fn suppressed_calls(&self, destination: &str) -> Counter {
        self.suppressed_calls.get_or_create_owned(&destination_labels(destination))
    }

    /// `fanout_destination_closed{destination,cause}`; causes are `paused`, `throttled`, `suspected`, `unauthorised` and
    /// `failing`.
    pub fn destination_closed(&self, destination: &str, cause: &'static str) -> Gauge {
        self.closed.get_or_create_owned(&ClosedLabels { destination: destination.to_owned(), cause })
    }

    /// `fanout_queue_disk_bytes`
    pub fn queue_disk_bytes(&self) -> &Gauge {
        &self.queue_disk_bytes
    }

    /// The text of `/metrics`, of type [`METRICS_CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn destination_labels(destination: &str) -> DestinationLabels {
    DestinationLabels { destination: destination.to_owned() }
}

/// What became of a call, as `fanout_calls_total` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// Durable in the journal.
    Accepted,
    /// Dropped, because one with the same messageId is in the journal.
    Duplicate,
    /// Answered 200 and not kept, because no destination takes calls of its type.
    Unsupported,
    /// Not acceptable; the caller was told why.
    Refused,
    /// Acceptable, but it could not be made durable; the caller was asked to try again.
    Unavailable,
    /// Without a valid write key. Counted by request, under an empty source.
    Unauthorised,
}

const RESULTS: [&str; 6] = ["accepted", "duplicate", "unsupported", "refused", "unavailable", "unauthorised"];
const TYPES: [&str; 7] = ["identify", "track", "page", "screen", "group", "alias", "unknown"];

/// The counters of one source; each is made when it is first needed, so that zeros do not fill the page.
pub struct SourceCounters {
    calls: Family<CallLabels, Counter>,
    source: String,
    cells: [[OnceLock<Counter>; RESULTS.len()]; TYPES.len()],
}

impl SourceCounters {
    /// Counts calls of one type (`None` where it is not known) with one result.
    pub fn count(&self, call_type: Option<CallType>, result: CallResult, count: u64) {
        let type_index = call_type.map_or(TYPES.len() - 1, |call_type| call_type as usize);
        let result_index = result as usize;
        let cell = self.cells.get(type_index).and_then(|row| row.get(result_index));
        let labels = TYPES.get(type_index).zip(RESULTS.get(result_index));
        let (Some(cell), Some((call_type, result))) = (cell, labels) else { return };
        cell.get_or_init(|| {
            let labels = CallLabels { source: self.source.clone(), r#type: call_type, result };
            self.calls.get_or_create_owned(&labels)
        })
        .inc_by(count);
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends log lines to standard error, also about panics. `filter` is written as in `RUST_LOG`, such as `info,fanout::ingest=debug`.
/// Fails with a message for people when the filter is wrong or logging has been set up before.
pub fn init_logging(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| format!("log filter `{filter}` is wrong: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colours).try_init()
        }
        LogFormat::Json => builder.json().try_init(),
    };
    set.map_err(|error| format!("logging could not be set up: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(at, panic = what_panicked(panic.payload()), backtrace, "a fault of the program");
    }));
    Ok(())
}

/// What a panic says, as far as it stands in the program: what is put together may quote a call, and so a person.
fn what_panicked(payload: &dyn Any) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("(left out: it may quote a call)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_documented_name() {
        let metrics = Metrics::new();
        metrics.source("web").count(Some(CallType::Identify), CallResult::Accepted, 3);
        metrics.source("web").count(Some(CallType::Alias), CallResult::Unsupported, 1);
        metrics.source("").count(None, CallResult::Unauthorised, 1);
        metrics.count_warnings("trait_invalid", 2);
        metrics.ingest_seconds().observe(0.001);
        metrics.deliveries("mp", "dead", "rejected").inc();
        metrics.replay_deliveries("mp", "skipped", "superseded").inc();
        metrics.pending("mp").set(7);
        metrics.oldest_pending_seconds("mp").set(1.5);
        metrics.attempt_seconds("mp").observe(0.2);
        metrics.suppressed_calls("mp").inc();
        metrics.destination_closed("mp", "failing").set(1);
        metrics.queue_disk_bytes().set(4096);
        let text = metrics.encode();
        for line in [
            r#"fanout_calls_total{source="web",type="identify",result="accepted"} 3"#,
            r#"fanout_calls_total{source="web",type="alias",result="unsupported"} 1"#,
            r#"fanout_calls_total{source="",type="unknown",result="unauthorised"} 1"#,
            r#"fanout_warnings_total{kind="trait_invalid"} 2"#,
            r#"fanout_ingest_seconds_count 1"#,
            r#"fanout_deliveries_total{destination="mp",outcome="dead",reason="rejected"} 1"#,
            r#"fanout_replay_deliveries_total{destination="mp",outcome="skipped",reason="superseded"} 1"#,
            r#"fanout_pending{destination="mp"} 7"#,
            r#"fanout_oldest_pending_seconds{destination="mp"} 1.5"#,
            r#"fanout_attempt_seconds_count{destination="mp"} 1"#,
            r#"fanout_suppressed_calls_total{destination="mp"} 1"#,
            r#"fanout_destination_closed{destination="mp",cause="failing"} 1"#,
            r#"fanout_queue_disk_bytes 4096"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nis missing from\n{text}");
        }
    }

    #[test]
    fn two_handles_of_a_source_count_together_and_zeros_are_not_shown() {
        let metrics = Metrics::new();
        let (old, new) = (metrics.source("web"), metrics.source("web"));
        old.count(Some(CallType::Track), CallResult::Refused, 1);
        new.count(Some(CallType::Track), CallResult::Refused, 1);
        let text = metrics.encode();
        assert!(text.contains(r#"{source="web",type="track",result="refused"} 2"#), "{text}");
        assert_eq!(text.matches("fanout_calls_total").count(), 1, "{text}");
    }

    #[test]
    fn a_panic_is_told_without_what_it_quotes() {
        let quoting = std::panic::catch_unwind(|| "ada@exämple.com".split_at(7).0.len()).unwrap_err();
        assert!(!what_panicked(&*quoting).contains("ada"));
        let plain = std::panic::catch_unwind(|| panic!("no way back")).unwrap_err();
        assert_eq!(what_panicked(&*plain), "no way back");
    }

    #[test]
    fn a_wrong_log_filter_is_reported() {
        let error = init_logging(LogFormat::Text, "fanout=loud").unwrap_err();
        assert!(error.contains("fanout=loud"), "{error}");
    }
}
