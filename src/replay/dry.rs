//! What a replay would send, counted and not sent. It goes the same way as a lane: choice, flags, rendering.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanout_sdk::event::{CallType, Event};
use fanout_sdk::superseded::{Again, Left, Trait, Value};

use super::choice::Choice;
use crate::delivery::LaneSpec;
use crate::queue::runs::{Range, Runs, Start, Unreadable};
use crate::routing::{self, Decision};

/// What would become of the calls of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// So many would be sent.
    pub would_send: u64,
    /// So many would not, by reason.
    pub left_out: BTreeMap<String, u64>,
}

/// Counts. Blocks on the disk.
pub fn count(
    queue: &dyn Runs<Arc<Event>>,
    spec: &LaneSpec,
    choice: &Choice,
    range: Range,
) -> Result<Counts, Unreadable> {
    let mut counts = Counts::default();
    let mut start = Start::ReceivedFrom(range.since_ms);
    loop {
        let passage = queue.retained(&spec.name, start)?;
        for call in &passage.calls {
            if !(range.since_ms..range.until_ms).contains(&call.received_at_ms) {
                continue;
            }
            let source = queue.source_name(call.source).unwrap_or_default();
            let again = |one: Trait<'_>, value: Value<'_>| choice.again(call.order_key, call.id, one, value);
            let why_not = choice.why_not(&call.payload);
            match why_not.or_else(|| why_skipped(spec, &call.payload, &source, again)) {
                Some(reason) => *counts.left_out.entry(format!("skipped: {reason}")).or_default() += 1,
                None => counts.would_send += 1,
            }
        }
        if passage.end {
            return Ok(counts);
        }
        start = Start::At(passage.next);
    }
}

fn why_skipped(
    spec: &LaneSpec,
    event: &Arc<Event>,
    source: &str,
    again: impl Fn(Trait<'_>, Value<'_>) -> Again,
) -> Option<&'static str> {
    let event = match event.without(again) {
        Left::Whole => event,
        Left::Part(event) => &Arc::from(event),
        Left::Nothing => return Some("superseded"),
    };
    if !spec.every_call && event.call_type() != CallType::Identify {
        return Some("call_type");
    }
    match routing::decide(event, source, &spec.target) {
        Decision::On { options, .. } => spec.destination.render(event, options).err().map(|skip| skip.reason),
        Decision::Off { reason, .. } => Some(reason),
    }
}
