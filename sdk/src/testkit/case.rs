//! Reads a golden case. It does not run it.

use crate::dates;
use crate::destination::{Answer, NoAnswer};
use crate::json::{Doc, Json, Kind, push_text};

/// The members that a case may have.
const MEMBERS: &[&str] = &["about", "settings", "now", "nonce", "events", "exchanges", "outcomes"];

/// A case, read as far as it has to be before it runs.
pub(super) struct Case<'a> {
    pub about: String,
    pub settings: Json<'a>,
    pub now_ms: i64,
    pub nonce: String,
    pub events: Vec<Json<'a>>,
    pub exchanges: Vec<Exchange<'a>>,
    pub outcomes: Option<Json<'a>>,
    /// The whole case.
    pub root: Json<'a>,
}

/// A request that must be sent, and its scripted answer.
#[derive(Clone)]
pub(super) struct Exchange<'a> {
    pub request: Option<Json<'a>>,
    /// As the case has it, for rewriting.
    pub response: Option<Json<'a>>,
    pub answer: Result<Answer, NoAnswer>,
}

impl<'a> Case<'a> {
    /// Reads a case, or says everything that is wrong with it.
    pub fn read(doc: &'a Doc) -> Result<Case<'a>, Vec<String>> {
        let root = doc.root();
        let mut problems = Vec::new();
        for (key, _) in root.members() {
            if !MEMBERS.contains(&&*key) {
                problems.push(format!("unknown member {key:?}; allowed: {}", MEMBERS.join(", ")));
            }
        }
        let text = |name: &str| root.get(name).and_then(Json::text).unwrap_or_default().into_owned();
        let about = text("about");
        if about.is_empty() {
            problems.push("\"about\" is missing: say in one line what the case shows".to_owned());
        }
        let now_ms = match dates::parse(&text("now")) {
            Some(now) => now.date.unix_ms(),
            None => {
                problems.push("\"now\" must be a point in time such as 2026-08-01T12:00:05Z".to_owned());
                0
            }
        };
        let settings = root.get("settings").filter(|settings| settings.kind() == Kind::Object);
        if settings.is_none() {
            problems.push("\"settings\" must be an object".to_owned());
        }
        let events: Vec<Json<'a>> = root.get("events").into_iter().flat_map(Json::elements).collect();
        if events.is_empty() {
            problems.push("\"events\" must hold at least one call".to_owned());
        }
        let mut exchanges = Vec::new();
        for (position, exchange) in root.get("exchanges").into_iter().flat_map(Json::elements).enumerate() {
            match Exchange::read(exchange) {
                Ok(exchange) => exchanges.push(exchange),
                Err(problem) => problems.push(format!("exchanges[{position}]: {problem}")),
            }
        }
        let nonce =
            root.get("nonce").and_then(Json::text).map_or_else(|| "0".repeat(32), |nonce| nonce.into_owned());
        match settings {
            Some(settings) if problems.is_empty() => {
                let outcomes = root.get("outcomes");
                Ok(Case { about, settings, now_ms, nonce, events, exchanges, outcomes, root })
            }
            _ => Err(problems),
        }
    }
}

impl<'a> Exchange<'a> {
    fn read(exchange: Json<'a>) -> Result<Exchange<'a>, String> {
        let response = exchange.get("response").ok_or("\"response\" is missing")?;
        Ok(Exchange {
            request: exchange.get("request"),
            response: Some(response),
            answer: read_answer(response)?,
        })
    }
}

/// Reads canned answers: a JSON list of what a case writes as `response`.
///
/// # Errors
/// What is wrong with the first one that is wrong, and where it stands.
pub fn read_answers(text: &str) -> Result<Vec<Result<Answer, NoAnswer>>, String> {
    let doc = Doc::parse(text.into()).map_err(|error| format!("it is no JSON: {error}"))?;
    if doc.root().kind() != Kind::List {
        return Err("it must be a list of answers, such as [{\"status\": 200, \"body\": {}}]".to_owned());
    }
    let read = |(position, response)| {
        read_answer(response).map_err(|problem| format!("answer {position}, counted from 0: {problem}"))
    };
    doc.root().elements().enumerate().map(read).collect()
}

/// `{"status": 200, "headers": {…}, "body": …}`, a text body as it is, other JSON as JSON; or `{"none": "timeout"}`.
pub(super) fn read_answer(response: Json<'_>) -> Result<Result<Answer, NoAnswer>, String> {
    if let Some(none) = response.get("none").and_then(Json::text) {
        return match &*none {
            "timeout" => Ok(Err(NoAnswer::Timeout(std::time::Duration::from_secs(10)))),
            "connection" => Ok(Err(NoAnswer::Connection("reset by peer".to_owned()))),
            "refused" => Ok(Err(NoAnswer::Refused("private address".to_owned()))),
            other => Err(format!("\"none\" is {other:?}; allowed: timeout, connection, refused")),
        };
    }
    let status = response.get("status").and_then(Json::number).and_then(|status| status.parse().ok());
    let headers = response.get("headers").into_iter().flat_map(Json::members);
    let headers = headers.map(|(name, value)| (name.to_lowercase(), scalar_text(value))).collect();
    let body = response.get("body").map(|body| match body.text() {
        Some(text) => text.into_owned(),
        None => body.raw().to_owned(),
    });
    let body = body.unwrap_or_default().into_bytes().into();
    Ok(Ok(Answer { status: status.ok_or("an answer needs a \"status\" or \"none\"")?, headers, body }))
}

fn scalar_text(value: Json<'_>) -> String {
    value.text().map_or_else(|| value.raw().to_owned(), |text| text.into_owned())
}

/// Writes one member of an object that is being put together.
pub(super) fn push_member(out: &mut String, key: &str, json: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    push_text(out, key);
    out.push(':');
    out.push_str(json);
}
