//! What became of a request's calls, added up so that each counter is touched once a request.

use fanout_sdk::event::CallType;

use crate::telemetry::{CallResult, Metrics, SourceCounters};

/// See the module.
#[derive(Default)]
pub struct Tally {
    calls: Vec<((Option<CallType>, CallResult), u64)>,
    warnings: Vec<(&'static str, u64)>,
}

impl Tally {
    /// Counts a call.
    pub fn count(&mut self, call_type: Option<CallType>, result: CallResult) {
        add(&mut self.calls, (call_type, result));
    }

    /// Counts a warning.
    pub fn warn(&mut self, kind: &'static str) {
        add(&mut self.warnings, kind);
    }

    /// Hands the sums on.
    pub fn flush(self, counters: &SourceCounters, metrics: &Metrics) {
        for ((call_type, result), count) in self.calls {
            counters.count(call_type, result, count);
        }
        for (kind, count) in self.warnings {
            metrics.count_warnings(kind, count);
        }
    }
}

/// There are few different ones: a list is searched faster than a map.
fn add<K: PartialEq>(sums: &mut Vec<(K, u64)>, key: K) {
    match sums.iter_mut().find(|(have, _)| *have == key) {
        Some((_, sum)) => *sum += 1,
        None => sums.push((key, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up() {
        let metrics = Metrics::new();
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.count(Some(CallType::Identify), CallResult::Accepted);
            tally.warn("trait_conflict");
        }
        tally.count(None, CallResult::Refused);
        tally.flush(&metrics.source("web"), &metrics);
        let text = metrics.encode();
        for line in [
            r#"fanout_calls_total{source="web",type="identify",result="accepted"} 3"#,
            r#"fanout_calls_total{source="web",type="unknown",result="refused"} 1"#,
            r#"fanout_warnings_total{kind="trait_conflict"} 3"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
