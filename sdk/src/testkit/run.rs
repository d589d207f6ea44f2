//! Runs one golden case, as a lane would drive the destination, and compares what went out with what the case lists.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, Waker};

use super::case::{Case, Exchange, push_member};
use super::compare::{compare, differ};
use super::manifest::DESTINATION;
use super::pretty::pretty;
use super::{CaseReport, Factory, FixedClock, Script, Subject};
use crate::destination::{Context, Item, Outcome, Purpose, Request, Verdict};
use crate::event::Event;
use crate::json::{Doc, Json, push_text};
use crate::memory::Memory;
use crate::preview::preview;

/// How often a `send` is polled before the case gives up; a scripted transport never makes it wait.
const MOST_POLLS: usize = 10_000;

/// How one event ended.
enum Ending {
    Skipped(crate::destination::Skip),
    Settled(Item, Verdict),
}

/// Runs one case, given as the text of its file.
pub fn run_case(factory: &Factory<'_>, text: &str) -> CaseReport {
    let doc = match Doc::parse(text.into()) {
        Ok(doc) => doc,
        Err(error) => return failed(String::new(), vec![format!("the case is no JSON: {error}")]),
    };
    let case = match Case::read(&doc) {
        Ok(case) => case,
        Err(problems) => return failed(about(&doc), problems),
    };
    let subject = match factory(case.settings) {
        Ok(subject) => subject,
        Err(problems) => return failed(case.about, problems),
    };
    let script = Script::new(case.exchanges.iter().map(|exchange| exchange.answer.clone()));
    let clock = FixedClock { now_ms: case.now_ms, nonce: case.nonce.clone() };
    let mut problems = Vec::new();
    let endings = match drive(&subject, &case, &script, &clock, &mut problems) {
        Ok(endings) => endings,
        Err(problem) => return failed(case.about, vec![problem]),
    };
    let requests = script.requests();
    compare_exchanges(&case.exchanges, &requests, &mut problems);
    check_bodies(&requests, &mut problems);
    let outcomes = outcomes_json(&endings);
    compare_texts("outcomes", case.outcomes, &outcomes, &mut problems);
    check_secrets(&subject, &clock, &endings, &mut problems);
    CaseReport {
        problems,
        endings: endings.iter().map(word).collect(),
        updated: updated(&case, &requests, &outcomes),
        about: case.about,
    }
}

fn failed(about: String, problems: Vec<String>) -> CaseReport {
    CaseReport { about, problems, ..CaseReport::default() }
}

fn about(doc: &Doc) -> String {
    doc.root().get("about").and_then(Json::text).unwrap_or_default().into_owned()
}

/// Renders every event, then packs and sends until nothing waits.
fn drive(
    subject: &Subject,
    case: &Case<'_>,
    script: &Script,
    clock: &FixedClock,
    problems: &mut Vec<String>,
) -> Result<Vec<Ending>, String> {
    let mut endings: Vec<Option<Ending>> = Vec::new();
    let mut waiting: Vec<(usize, Item)> = Vec::new();
    for (position, call) in case.events.iter().enumerate() {
        let event = Event::parse(call.raw().into(), case.now_ms, &subject.names)
            .map_err(|refusal| format!("events[{position}]: {}", refusal.message))?;
        let event = Arc::new(event);
        match subject.destination.render(&event, options(&event, &subject.spellings)) {
            Ok(item) => {
                waiting.push((position, item));
                endings.push(None);
            }
            Err(skip) => endings.push(Some(Ending::Skipped(skip))),
        }
    }
    let memory = Memory::new(1000);
    while !waiting.is_empty() {
        let items: Vec<Item> = waiting.iter().map(|(_, item)| item.clone()).collect();
        let chosen = subject.destination.pack(&items);
        let is_chosen = |at: usize| chosen.contains(&at);
        if !is_chosen(0) || chosen.iter().any(|at| *at >= items.len()) {
            return Err(format!("pack gave {chosen:?} for {} items; the first must be in it", items.len()));
        }
        let mut rest = Vec::new();
        let mut batch = Vec::new();
        for (at, entry) in waiting.into_iter().enumerate() {
            if is_chosen(at) { batch.push(entry) } else { rest.push(entry) }
        }
        waiting = rest;
        let (positions, items): (Vec<usize>, Vec<Item>) = batch.into_iter().unzip();
        let context = Context {
            transport: script,
            clock,
            memory: &memory,
            destination: DESTINATION,
            purpose: Purpose::Deliver,
        };
        let verdicts = block_on(subject.destination.send(&context, &items))
            .ok_or("send waits for something that is neither the transport nor the clock")?;
        if verdicts.len() != items.len() {
            problems.push(format!("send gave {} verdicts for {} items", verdicts.len(), items.len()));
        }
        for ((position, item), verdict) in positions.into_iter().zip(items).zip(verdicts) {
            if let Some(ending) = endings.get_mut(position) {
                *ending = Some(Ending::Settled(item, verdict));
            }
        }
    }
    Ok(endings.into_iter().flatten().collect())
}

/// The options object that a call gives for this adapter.
pub(super) fn options<'e>(event: &'e Event, spellings: &[String]) -> Option<Json<'e>> {
    let is_ours = |key: &str| spellings.iter().any(|spelling| fold(spelling) == fold(key));
    let entry = event.integrations()?.members().filter(|(key, _)| is_ours(key)).last()?;
    Some(entry.1).filter(|value| value.members().next().is_some())
}

fn fold(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut poller = Poller::from_waker(Waker::noop());
    (0..MOST_POLLS).find_map(|_| match future.as_mut().poll(&mut poller) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    })
}

fn compare_exchanges(exchanges: &[Exchange<'_>], requests: &[Request], problems: &mut Vec<String>) {
    for (position, exchange) in exchanges.iter().enumerate() {
        let path = format!("exchanges[{position}].request");
        match (exchange.request, requests.get(position)) {
            (Some(expected), Some(request)) => compare_request(&path, expected, request, problems),
            (None, Some(request)) => differ(&path, "(nothing is listed)", &request_json(request), problems),
            (_, None) => problems.push(format!("{path}: never sent")),
        }
    }
    for request in requests.iter().skip(exchanges.len()) {
        problems.push(format!("a request that no exchange lists: {}", request_json(request)));
    }
}

fn compare_request(path: &str, expected: Json<'_>, request: &Request, problems: &mut Vec<String>) {
    compare_texts(path, Some(expected), &request_json(request), problems);
}

/// A body that calls itself JSON must be JSON.
fn check_bodies(requests: &[Request], problems: &mut Vec<String>) {
    for (position, request) in requests.iter().enumerate() {
        let is_json = |(name, value): &(String, String)| {
            name.eq_ignore_ascii_case("content-type") && value.starts_with("application/json")
        };
        let text = String::from_utf8_lossy(&request.body);
        if let (true, Err(error)) = (request.headers.iter().any(is_json), Doc::parse((&*text).into())) {
            problems.push(format!("request {position}: the body is no JSON: {error}: {text}"));
        }
    }
}

/// Compares a JSON value with a JSON text.
fn compare_texts(path: &str, expected: Option<Json<'_>>, got: &str, problems: &mut Vec<String>) {
    let Ok(doc) = Doc::parse(got.into()) else {
        return problems.push(format!("{path}: what was sent is no JSON: {got}"));
    };
    match expected {
        Some(expected) => compare(path, expected, doc.root(), problems),
        None => differ(path, "(nothing is listed)", got, problems),
    }
}

/// A request as cases show it: the body as JSON where it is JSON, else as text.
fn request_json(request: &Request) -> String {
    let mut out = String::from("{");
    push_member(&mut out, "method", &quoted(request.method));
    push_member(&mut out, "url", &quoted(&request.url));
    let mut headers = String::from("{");
    for (name, value) in &request.headers {
        push_member(&mut headers, name, &quoted(value));
    }
    headers.push('}');
    push_member(&mut out, "headers", &headers);
    if !request.body.is_empty() {
        let text = String::from_utf8_lossy(&request.body);
        let holds_json =
            matches!(text.as_bytes().first(), Some(b'{' | b'[')) && Doc::parse((&*text).into()).is_ok();
        let body = if holds_json { text.into_owned() } else { quoted(&text) };
        push_member(&mut out, "body", &body);
    }
    out.push('}');
    out
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    push_text(&mut out, text);
    out
}

fn word(ending: &Ending) -> &'static str {
    match ending {
        Ending::Skipped(_) => "skip",
        Ending::Settled(_, verdict) => match verdict.outcome {
            Outcome::Delivered => "delivered",
            Outcome::Submitted => "submitted",
            Outcome::Retry { .. } => "retry",
            Outcome::Throttled { .. } => "throttled",
            Outcome::Rejected => "rejected",
            Outcome::Unauthorised => "unauthorised",
        },
    }
}

/// One object an event: the ending with its reason (`true` where it has none), what the vendor asked to wait, and the
/// warnings.
fn outcomes_json(endings: &[Ending]) -> String {
    let mut out = String::from("[");
    for (position, ending) in endings.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        out.push('{');
        push_ending(&mut out, ending);
        out.push('}');
    }
    out.push(']');
    out
}

fn push_ending(out: &mut String, ending: &Ending) {
    let (item, verdict) = match ending {
        Ending::Skipped(skip) => return push_member(out, "skip", &quoted(skip.reason)),
        Ending::Settled(item, verdict) => (item, verdict),
    };
    let reason = if verdict.reason.is_empty() { "true".to_owned() } else { quoted(&verdict.reason) };
    push_member(out, word(ending), &reason);
    if let Outcome::Retry { after: Some(after) } | Outcome::Throttled { after: Some(after), .. } =
        verdict.outcome
    {
        push_member(out, "after_ms", &after.as_millis().to_string());
    }
    if let Outcome::Throttled { user_only: true, .. } = verdict.outcome {
        push_member(out, "user_only", "true");
    }
    if !item.warnings.is_empty() {
        let warnings =
            item.warnings.iter().map(|warning| quoted(&format!("{}: {}", warning.kind, warning.about)));
        push_member(out, "warnings", &format!("[{}]", warnings.collect::<Vec<_>>().join(",")));
    }
}

/// Reasons and answers are stored, previews are shown: no secret may be left in them.
fn check_secrets(subject: &Subject, clock: &FixedClock, endings: &[Ending], problems: &mut Vec<String>) {
    let holds_secret = |text: &str| subject.destination.mask(text) != text;
    for (position, ending) in endings.iter().enumerate() {
        let Ending::Settled(item, verdict) = ending else { continue };
        for (what, text) in [("reason", &*verdict.reason), ("answer", &*verdict.answer)] {
            if holds_secret(text) {
                problems.push(format!("outcomes[{position}]: the {what} holds a secret"));
            }
        }
        let item = std::slice::from_ref(item);
        let preview = preview(&*subject.destination, item, Vec::new(), clock, false);
        if let Some(request) = preview.iter().map(request_json).find(|request| holds_secret(request)) {
            problems.push(format!("events[{position}]: the preview shows a secret: {request}"));
        }
    }
}

/// The case with the requests and outcomes that were seen; the answers stay, further requests are answered by an empty
/// 200.
fn updated(case: &Case<'_>, requests: &[Request], outcomes: &str) -> Option<String> {
    let mut exchanges = String::from("[");
    for (position, request) in requests.iter().enumerate() {
        if position > 0 {
            exchanges.push(',');
        }
        let response = case.exchanges.get(position).and_then(|exchange| exchange.response);
        exchanges.push_str(&format!(
            "{{\"request\":{},\"response\":{}}}",
            request_json(request),
            response.map_or("{\"status\":200}", Json::raw)
        ));
    }
    exchanges.push(']');
    let mut out = String::from("{");
    for name in ["about", "settings", "now", "nonce", "events"] {
        if let Some(value) = case.root.get(name) {
            push_member(&mut out, name, value.raw());
        }
    }
    if !requests.is_empty() {
        push_member(&mut out, "exchanges", &exchanges);
    }
    push_member(&mut out, "outcomes", outcomes);
    out.push('}');
    let doc = Doc::parse(out.into()).ok()?;
    Some(pretty(doc.root(), 0) + "\n")
}
