//! What an answer means: the rules of a request in order, then the standard table. Pure: it decides, `run` acts.

use std::time::Duration;

use super::functions;
use super::plan::{RequestPlan, Role, RulePlan, Wait};
use super::render::{Reply, Scope};
use super::rest::entries_of;
use super::schema::{Status, Then};
use super::tree::Node;
use super::value::Value;
use crate::destination::Answer;
use crate::json::Doc;

/// What becomes of one item after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub what: What,
    pub reason: String,
    /// The rule that says so; `None` for the standard table.
    pub rule: Option<usize>,
    /// The id that was found or created, or what the code is told.
    pub kept: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Delivered,
    Submitted,
    Retry(Option<Duration>),
    Throttled {
        after: Option<Duration>,
        user_only: bool,
    },
    Rejected,
    Unauthorised,
    Split {
        pace: Option<Duration>,
    },
    /// To a later request, by position.
    Send(usize),
    /// The vendor has the person, under the id that is kept; the request that updates it where it is not the usual one.
    Found {
        update: Option<usize>,
    },
    /// The vendor does not have the person.
    Missing,
    /// A word for the code beside the manifest.
    Tell(String),
}

/// What rules may ask about the items of a request.
pub(crate) struct Items<'q> {
    /// How many there are.
    pub count: usize,
    /// The item that the record at a position of the request belongs to.
    pub of_record: &'q dyn Fn(usize) -> Option<usize>,
    /// What an item calls itself where a rule, by position, looks for an `id`.
    pub id: &'q dyn Fn(usize, usize) -> Option<String>,
    /// How often a rule, by position, has decided about an item in this delivery.
    pub times: &'q dyn Fn(usize, usize) -> u32,
    /// A reason as it may be shown: without secrets, and short.
    pub shown: &'q dyn Fn(&str) -> String,
}

/// Reads an answer, once.
pub(crate) fn reply(answer: Answer) -> Reply {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let doc = Doc::parse(text.as_str().into()).ok();
    Reply { status: answer.status, headers: answer.headers, doc, text }
}

/// Decides about every item of a request. The scope's clock says what time it is.
pub(crate) fn classify<'a>(
    scope: &Scope<'a>,
    request: &'a RequestPlan,
    reply: &'a Reply,
    items: &Items<'_>,
) -> Vec<Decision> {
    let mut decided: Vec<Option<Decision>> = vec![None; items.count];
    let scope = Scope { reply: Some(reply), ..*scope };
    for (position, rule) in request.rules.iter().enumerate() {
        if decided.iter().all(Option::is_some) {
            break;
        }
        if !rule.status.is_empty() && !rule.status.iter().any(|status| fits(*status, reply.status)) {
            continue;
        }
        match &rule.each {
            Some(each) => {
                let Ok(entries) = scope.eval(each) else { continue };
                for (at, (key, value)) in entries_of(entries).into_iter().enumerate() {
                    let key = Value::Text(key);
                    let entry = Scope { key: Some(&key), value: Some(&value), ..scope };
                    if !holds(&entry, rule) || lacks_id(&entry, rule) {
                        continue;
                    }
                    if !request.is_batch {
                        decide_all(&entry, rule, position, items, &mut decided);
                        break;
                    }
                    decide_named(&entry, rule, position, at, items, &mut decided);
                }
            }
            None if holds(&scope, rule) && !lacks_id(&scope, rule) => {
                decide_all(&scope, rule, position, items, &mut decided);
            }
            None => {}
        }
    }
    let finished = |slot: Option<Decision>| match slot {
        Some(decision) if decision.what == What::Delivered => delivered(&scope, request, decision),
        Some(decision) => decision,
        None => standard(&scope, request, reply),
    };
    decided.into_iter().map(finished).collect()
}

/// Decides about every item that is still open: alike, so it is made once, for the answer may be long and the items many.
fn decide_all(
    scope: &Scope<'_>,
    rule: &RulePlan,
    position: usize,
    items: &Items<'_>,
    decided: &mut [Option<Decision>],
) {
    let mut alike = None;
    for (item, slot) in decided.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
        if may(rule, position, item, items) {
            let made = || decision(scope, rule, position, false).shown(items);
            *slot = Some(alike.get_or_insert_with(made).clone());
        }
    }
}

impl Decision {
    fn shown(mut self, items: &Items<'_>) -> Decision {
        self.reason = (items.shown)(&self.reason);
        self
    }
}

/// Whether a rule says that something was found where the answer does not say what: then it does not fit.
fn lacks_id(scope: &Scope<'_>, rule: &RulePlan) -> bool {
    rule.then == Then::Found && rule.keep.as_ref().is_none_or(|keep| scope.text(keep).is_err())
}

/// A success: what it gives is kept, and one that is to find something has found or missed it.
fn delivered(scope: &Scope<'_>, request: &RequestPlan, decision: Decision) -> Decision {
    let kept = request.keep.as_ref().and_then(|keep| Some(scope.text(keep).ok()?.into_owned()));
    let what = match (request.role, &kept) {
        (Role::Find, Some(_)) => What::Found { update: None },
        (Role::Find, None) => What::Missing,
        _ => What::Delivered,
    };
    Decision { what, kept, ..decision }
}

/// Decides about the items that one entry of a reply names.
fn decide_named(
    scope: &Scope<'_>,
    rule: &RulePlan,
    position: usize,
    at: usize,
    items: &Items<'_>,
    decided: &mut [Option<Decision>],
) {
    let named: Vec<usize> = match (&rule.id, &rule.index) {
        (Some(id), _) => {
            let Ok(id) = scope.text(id) else { return };
            (0..items.count).filter(|item| (items.id)(*item, position).as_deref() == Some(&*id)).collect()
        }
        (None, Some(index)) => {
            let record = scope.text(index).ok().and_then(|text| text.parse().ok());
            record.and_then(|record| (items.of_record)(record)).into_iter().collect()
        }
        (None, None) => (items.of_record)(at).into_iter().collect(),
    };
    for item in named {
        if let Some(slot @ None) = decided.get_mut(item)
            && may(rule, position, item, items)
        {
            *slot = Some(decision(scope, rule, position, true).shown(items));
        }
    }
}

fn may(rule: &RulePlan, position: usize, item: usize, items: &Items<'_>) -> bool {
    rule.times.is_none_or(|times| (items.times)(item, position) < times)
}

fn holds(scope: &Scope<'_>, rule: &RulePlan) -> bool {
    rule.when.iter().all(|node| scope.holds(node)) && !rule.unless.iter().any(|node| scope.holds(node))
}

fn fits(status: Status, found: u16) -> bool {
    match status {
        Status::Exactly(status) => status == found,
        Status::Hundreds(hundreds) => found / 100 == hundreds,
    }
}

fn decision(scope: &Scope<'_>, rule: &RulePlan, position: usize, named: bool) -> Decision {
    let after = rule.after.as_ref().and_then(|after| wait(scope, after)).or_else(|| retry_after(scope));
    let what = match &rule.then {
        Then::Delivered => What::Delivered,
        Then::Submitted => What::Submitted,
        Then::Retry => What::Retry(after),
        Then::Throttled => What::Throttled { after, user_only: named },
        Then::Rejected => What::Rejected,
        Then::Unauthorised => What::Unauthorised,
        Then::Split => What::Split { pace: rule.pace },
        Then::Send(_) => rule.send.map_or(What::Rejected, What::Send),
        Then::Found => What::Found { update: rule.update },
        Then::Missing => What::Missing,
        Then::Tell(word) => What::Tell(word.clone()),
    };
    let kept = rule.keep.as_ref().and_then(|keep| scope.eval(keep).ok());
    let kept = kept.map(|kept| kept.as_text().map_or_else(|| json(&kept), |text| text.into_owned()));
    let reason = match (&what, &rule.reason) {
        (What::Delivered | What::Submitted, _) => String::new(),
        (_, Some(reason)) => partial_text(scope, reason),
        (_, None) => String::new(),
    };
    let reason = if reason.is_empty() && !matches!(what, What::Delivered | What::Submitted) {
        scope.reply.map(answered).unwrap_or_default()
    } else {
        reason
    };
    Decision { what, reason, rule: Some(position), kept }
}

/// A reason with what there is of it: half a reason is better than none.
fn partial_text(scope: &Scope<'_>, node: &Node) -> String {
    let part = |node: &Node| match scope.eval(node) {
        Ok(value) => value.as_text().map_or_else(|| json(&value), |text| text.into_owned()),
        Err(_) => String::new(),
    };
    let text: String = match node {
        Node::Text(parts) => parts.iter().map(part).collect(),
        node => part(node),
    };
    text.trim_matches(|c: char| c.is_whitespace() || c == ':').to_owned()
}

fn json(value: &Value<'_>) -> String {
    let mut out = String::new();
    value.write_json(&mut out, &super::value::Dates::ISO);
    out
}

/// How long a rule or a fetch says.
pub(crate) fn wait(scope: &Scope<'_>, wait: &Wait) -> Option<Duration> {
    match wait {
        Wait::Fixed(duration) => Some(*duration),
        Wait::Node(node) => {
            let text = scope.text(node).ok()?;
            text.parse::<f64>().ok().filter(|ms| *ms >= 0.0).map(|ms| Duration::from_millis(ms as u64))
        }
    }
}

/// The `Retry-After` header in either form.
fn retry_after(scope: &Scope<'_>) -> Option<Duration> {
    let (_, text) = scope.reply?.headers.iter().find(|(name, _)| name == "retry-after")?;
    let waits =
        functions::apply(functions::function("wait")?, Value::text(text.as_str()), &[], scope.now_ms)?;
    waits.as_text()?.parse::<f64>().ok().filter(|ms| *ms >= 0.0).map(|ms| Duration::from_millis(ms as u64))
}

fn answered(reply: &Reply) -> String {
    format!("the vendor answered {}", reply.status)
}

/// What a status means where no rule says it.
fn standard(scope: &Scope<'_>, request: &RequestPlan, reply: &Reply) -> Decision {
    let what = match reply.status {
        200..=299 => What::Delivered,
        404 if matches!(request.role, Role::Find | Role::Update) => What::Missing,
        401 | 403 => What::Unauthorised,
        408 | 425 => What::Retry(retry_after(scope)),
        413 => What::Split { pace: None },
        429 => What::Throttled { after: retry_after(scope), user_only: false },
        501 | 505 => What::Rejected,
        500..=599 => What::Retry(retry_after(scope)),
        _ => What::Rejected,
    };
    if what == What::Delivered {
        let success = Decision { what, reason: String::new(), rule: None, kept: None };
        return delivered(scope, request, success);
    }
    Decision { what, reason: answered(reply), rule: None, kept: None }
}

/// Why there is nothing to keep of a fetch's answer: its rules, then the standard table, in which a refused request is
/// one for credentials that are wrong.
pub(crate) fn classify_fetch<'a>(
    scope: &Scope<'a>,
    rules: &'a [RulePlan],
    reply: &'a Reply,
) -> (What, Option<String>) {
    let scope = Scope { reply: Some(reply), ..*scope };
    for (position, rule) in rules.iter().enumerate() {
        let status = rule.status.is_empty() || rule.status.iter().any(|status| fits(*status, reply.status));
        if status && holds(&scope, rule) {
            let decision = decision(&scope, rule, position, false);
            return (decision.what, rule.reason.is_some().then_some(decision.reason));
        }
    }
    let what = match reply.status {
        400 | 401 | 403 => What::Unauthorised,
        429 => What::Throttled { after: retry_after(&scope), user_only: false },
        _ => What::Retry(retry_after(&scope)),
    };
    (what, None)
}
