//! What only a golden case can show, because every vendor says it differently: an error inside a 200, and the one bad
//! item of a batch.

use std::collections::HashSet;

use super::Suite;
use super::scene::place;
use super::stage::Sent;
use crate::destination::{Outcome, Verdict};

fn is_done(verdict: &Verdict) -> bool {
    matches!(verdict.outcome, Outcome::Delivered | Outcome::Submitted)
}

/// A case must end with a failure that a 2xx told.
pub(super) fn error_in_success(suite: &Suite<'_>) -> Vec<String> {
    let shows = |verdict: &Verdict| !is_done(verdict) && verdict.answer.starts_with('2');
    if suite.scenes.iter().any(|scene| scene.played.verdicts().any(shows)) {
        return Vec::new();
    }
    vec![
        "no golden case shows an event that fails although the vendor answered 2xx. Write one as the vendor's page has \
         it, or waive this check with the page that says that it never happens"
            .to_owned(),
    ]
}

/// Where a request holds several items, a case must show one of them failing alone.
pub(super) fn bad_item(suite: &Suite<'_>) -> Vec<String> {
    let batches = suite.scenes.iter().any(|scene| scene.subject.destination.limits().items > 1);
    let shows = |sent: &Sent| {
        let is_mixed = sent.verdicts.iter().any(is_done) && !sent.verdicts.iter().all(is_done);
        let mut kinds = HashSet::new();
        is_mixed && sent.requests.iter().all(|request| kinds.insert(place(request)))
    };
    if !batches || suite.scenes.iter().any(|scene| scene.played.sends.iter().any(shows)) {
        return Vec::new();
    }
    vec![
        "no golden case shows a batch of which one answer takes some items and refuses others. Write one as the \
         vendor's page has it, or waive this check with the page that says that a batch is taken or refused as a whole"
            .to_owned(),
    ]
}
