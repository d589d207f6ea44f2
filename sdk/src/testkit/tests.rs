//! The golden-case runner against an adapter written in Rust: right cases pass, and every difference fails.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::destination::{Context, Item, Limits, NoAnswer, Outcome, Part, Request, Skip, Transport, Verdict};
use crate::event::{Event, Warning};
use crate::json::Kind;

/// Posts `[userId, …]`, at most two of them, each user once; 2xx delivers, `{"bad": n}` rejects one, no answer retries.
struct Echo {
    limits: Limits,
    leaks: bool,
    breaks_json: bool,
}

#[async_trait]
impl Destination for Echo {
    fn render(&self, event: &Arc<Event>, options: Option<Json<'_>>) -> Result<Item, Skip> {
        let user = event.user_id().ok_or(Skip { reason: "no_identity", detail: String::new() })?;
        let suffix =
            options.and_then(|options| options.get("suffix")).and_then(Json::text).unwrap_or_default();
        let bytes = format!("\"{user}{suffix}\"").into();
        let warnings = suffix
            .is_empty()
            .then(Vec::new)
            .unwrap_or_else(|| vec![Warning { kind: "option_used", about: "suffix".to_owned() }]);
        Ok(Item {
            event: event.clone(),
            options: options.map(Json::position),
            identity: user.into(),
            group: 0,
            digest: 0,
            parts: vec![Part { request: 0, group: 0, bytes }],
            warnings,
        })
    }

    fn pack(&self, waiting: &[Item]) -> Vec<usize> {
        (0..waiting.len().min(2)).collect()
    }

    async fn send(&self, context: &Context<'_>, items: &[Item]) -> Vec<Verdict> {
        let hides = context.purpose.hides_secrets();
        let token = if hides { "***" } else { "s3cret" };
        let body: Vec<String> =
            items.iter().map(|item| String::from_utf8(item.parts[0].bytes.to_vec()).unwrap()).collect();
        let request = Request {
            method: "POST",
            url: format!(
                "https://vendor.test/?at={}&nonce={}",
                context.clock.now_ms(),
                context.clock.nonce()
            ),
            headers: vec![("Authorization".to_owned(), format!("Bearer {token}"))],
            body: format!("[{}]", body.join(",")).into(),
            ..Request::default()
        };
        let request =
            if self.leaks && hides { Request { body: "[\"s3cret\"]".into(), ..request } } else { request };
        let request = if self.breaks_json {
            let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            Request { headers, body: "[1,".into(), ..request }
        } else {
            request
        };
        let answer = context.transport.send(&request).await;
        let verdict = |at: usize| match &answer {
            Ok(answer) => {
                let text = String::from_utf8(answer.body.to_vec()).unwrap();
                if text.contains(&format!("\"bad\": {at}")) {
                    return Verdict {
                        outcome: Outcome::Rejected,
                        reason: "bad".to_owned(),
                        answer: text.into(),
                    };
                }
                Verdict { outcome: Outcome::Delivered, reason: String::new(), answer: "".into() }
            }
            Err(error) => Verdict {
                outcome: Outcome::Retry { after: Some(Duration::from_secs(2)) },
                reason: error.to_string(),
                answer: "".into(),
            },
        };
        (0..items.len()).map(verdict).collect()
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn mask(&self, text: &str) -> String {
        text.replace("s3cret", "***")
    }
}

fn factory(settings: Json<'_>) -> Result<Subject, Vec<String>> {
    if settings.get("key").is_none_or(|key| key.kind() != Kind::Text) {
        return Err(vec!["setting key is missing".to_owned()]);
    }
    let limits =
        Limits { items: 2, bytes: 100, linger: Duration::ZERO, concurrency: None, rates: Vec::new() };
    Ok(Subject {
        destination: Box::new(Echo {
            limits,
            leaks: settings.get("leaks").is_some(),
            breaks_json: settings.get("breaks_json").is_some(),
        }),
        names: Names::default(),
        spellings: vec!["Echo (Actions)".to_owned()],
    })
}

const CASE: &str = r#"{
  "about": "three calls, one without a user, one refused",
  "settings": { "key": "s" },
  "now": "2026-08-01T12:00:05Z",
  "nonce": "00000000000000000000000000000001",
  "events": [
    { "type": "identify", "messageId": "1", "userId": "a", "traits": { "x": 1 } },
    { "type": "identify", "messageId": "2", "anonymousId": "b" },
    {
      "type": "identify",
      "messageId": "3",
      "userId": "c",
      "integrations": { "echoActions": { "suffix": "!" } },
      "traits": { "bio": "a text that makes this call too long for one line of the file" }
    }
  ],
  "exchanges": [
    {
      "request": {
        "method": "POST",
        "url": "https://vendor.test/?at=1785585605000&nonce=00000000000000000000000000000001",
        "headers": { "Authorization": "Bearer s3cret" },
        "body": ["a", "c!"]
      },
      "response": { "status": 200, "body": { "bad": 1 } }
    }
  ],
  "outcomes": [
    { "delivered": true },
    { "skip": "no_identity" },
    { "rejected": "bad", "warnings": ["option_used: suffix"] }
  ]
}
"#;

fn run(from: &str, to: &str) -> CaseReport {
    assert!(CASE.contains(from), "{from}");
    run_case(&factory, &CASE.replacen(from, to, 1))
}

#[test]
fn a_case_that_is_right_passes_and_is_rewritten_as_it_is() {
    let report = run_case(&factory, CASE);
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(report.endings, ["delivered", "skip", "rejected"]);
    assert_eq!(report.updated.as_deref(), Some(CASE));
}

#[test]
fn every_difference_fails_with_its_path() {
    for (from, to, problem) in [
        ("[\"a\", \"c!\"]", "[\"b\", \"c!\"]", "exchanges[0].request.body[0]: expected \"b\"\n"),
        ("[\"a\", \"c!\"]", "[\"a\"]", "exchanges[0].request.body[1]: not expected, got \"c!\""),
        ("[\"a\", \"c!\"]", "[\"a\", \"c!\", 1]", "exchanges[0].request.body[2]: missing, expected 1"),
        ("[\"a\", \"c!\"]", "{\"a\": 1}", "exchanges[0].request.body: expected {\"a\": 1}"),
        ("\"POST\"", "\"PUT\"", "exchanges[0].request.method: expected \"PUT\""),
        ("Bearer s3cret", "Bearer", "exchanges[0].request.headers.Authorization: expected \"Bearer\""),
        (
            "{ \"delivered\": true }",
            "{ \"submitted\": true }",
            "outcomes[0].submitted: missing, expected true",
        ),
        ("\"rejected\": \"bad\"", "\"rejected\": \"worse\"", "outcomes[2].rejected: expected \"worse\""),
        ("\"now\": \"2026", "\"now\": \"2025", "exchanges[0].request.url: expected"),
    ] {
        let report = run(from, to);
        assert!(
            report.problems.iter().any(|found| found.starts_with(problem)),
            "{to}: {:?}",
            report.problems
        );
        assert!(!report.updated.unwrap().is_empty());
    }
}

#[test]
fn requests_and_exchanges_must_pair() {
    let unsent = run(
        "\"bad\": 1 } }\n    }",
        "\"bad\": 1 } } }, { \"request\": {}, \"response\": { \"status\": 200 } }",
    );
    assert_eq!(unsent.problems, ["exchanges[1].request: never sent"]);

    let start = CASE.find("  \"exchanges\"").unwrap();
    let end = CASE.find("  \"outcomes\"").unwrap();
    let unlisted = run_case(&factory, &format!("{}{}", &CASE[..start], &CASE[end..]));
    assert!(
        unlisted.problems[0].starts_with("a request that no exchange lists: {"),
        "{:?}",
        unlisted.problems
    );
    assert!(
        unlisted
            .updated
            .unwrap()
            .contains("\"retry\": \"connection failed: no exchange is left\", \"after_ms\": 2000")
    );
}

#[test]
fn an_updated_case_passes_with_the_same_answers() {
    let broken = run("[\"a\", \"c!\"]", "[\"z\"]");
    assert_eq!(run_case(&factory, &broken.updated.unwrap()).problems, [""; 0]);
}

#[test]
fn missing_answers_are_scripted_too() {
    let report = run("{ \"status\": 200, \"body\": { \"bad\": 1 } }", "{ \"none\": \"timeout\" }");
    assert_eq!(report.endings, ["retry", "skip", "retry"]);
    let report = run("{ \"status\": 200, \"body\": { \"bad\": 1 } }", "{ \"none\": \"sleep\" }");
    assert_eq!(
        report.problems,
        ["exchanges[0]: \"none\" is \"sleep\"; allowed: timeout, connection, refused"]
    );
}

#[test]
fn secrets_in_what_is_shown_fail() {
    let report = run("{ \"bad\": 1 }", "{ \"bad\": 1, \"key\": \"s3cret\" }");
    assert_eq!(report.problems, ["outcomes[2]: the answer holds a secret"]);
    let report = run("\"key\": \"s\"", "\"key\": \"s\", \"leaks\": true");
    assert!(
        report.problems[0].starts_with("events[0]: the preview shows a secret: {"),
        "{:?}",
        report.problems
    );
}

#[test]
fn a_body_that_calls_itself_json_must_be_json() {
    let report = run("\"key\": \"s\"", "\"key\": \"s\", \"breaks_json\": true");
    let wrong = "request 0: the body is no JSON: the text ends too early at byte 3: [1,";
    assert!(report.problems.iter().any(|problem| problem == wrong), "{:?}", report.problems);
}

#[test]
fn mistakes_in_a_case_are_named_together() {
    for (text, problems) in [
        ("{", vec!["the case is no JSON: the text ends too early at byte 1"]),
        (
            r#"{"abuot": "x", "now": "soon"}"#,
            vec![
                "unknown member \"abuot\"; allowed: about, settings, now, nonce, events, exchanges, outcomes",
                "\"about\" is missing: say in one line what the case shows",
                "\"now\" must be a point in time such as 2026-08-01T12:00:05Z",
                "\"settings\" must be an object",
                "\"events\" must hold at least one call",
            ],
        ),
    ] {
        let report = run_case(&factory, text);
        assert_eq!(report.problems, problems, "{text}");
        assert!(report.updated.is_none());
    }
    assert_eq!(run("{ \"key\": \"s\" }", "{}").problems, ["setting key is missing"]);
    let no_call = run("\"type\": \"identify\", \"messageId\": \"1\"", "\"messageId\": \"1\"");
    assert!(no_call.problems[0].starts_with("events[0]: "), "{:?}", no_call.problems);
}

#[test]
fn a_report_names_files_and_passes_only_with_cases() {
    let report = run_folder(
        &factory,
        &[("good.json".to_owned(), CASE.to_owned()), ("bad.json".to_owned(), "{".to_owned())],
    );
    assert!(!report.passed());
    assert!(report.has_ending("rejected") && !report.has_ending("throttled"));
    assert!(
        report
            .to_string()
            .starts_with("ok   good.json: three calls, one without a user, one refused\nFAIL bad.json: \n")
    );
    assert!(!run_folder(&factory, &[]).passed());
}

#[test]
fn a_script_that_has_run_out_gives_no_answer() {
    let script = Script::new([]);
    let sent = async { script.send(&Request::default()).await };
    let mut poller = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(answer) = std::pin::pin!(sent).poll(&mut poller) else { panic!() };
    assert!(matches!(answer, Err(NoAnswer::Connection(_))));
    assert_eq!(script.requests().len(), 1);
}
