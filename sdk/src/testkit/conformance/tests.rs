//! The suite against a destination that does everything right, and against the same one with each thing wrong.

mod vendor;

use super::*;
use vendor::{declared, factory};

const ONE: &str = r#"{
  "about": "one user", "settings": { "key": "s3cret-key" }, "now": "2026-08-01T12:00:05Z",
  "events": [{ "type": "identify", "messageId": "m1", "userId": "u1", "traits": { "email": "ada@example.com", "plan": "a" } }],
  "exchanges": [
    { "response": { "status": 200, "body": { "token": "t0ken-of-the-vendor" } } },
    { "response": { "status": 200, "body": { "failed": [] } } }
  ]
}"#;
const BAD_ITEM: &str = r#"{
  "about": "one of two is bad", "settings": { "key": "s3cret-key" }, "now": "2026-08-01T12:00:05Z",
  "events": [
    { "type": "identify", "messageId": "m1", "userId": "u1", "traits": { "email": "ada@example.com" } },
    { "type": "identify", "messageId": "m2", "userId": "u2", "traits": { "email": "bob@example.com" } }
  ],
  "exchanges": [
    { "response": { "status": 200, "body": { "token": "t0ken-of-the-vendor" } } },
    { "response": { "status": 200, "body": { "failed": [1], "message": "bad address" } } }
  ]
}"#;

fn cases(texts: &[&str]) -> Vec<(String, String)> {
    texts.iter().enumerate().map(|(at, text)| (format!("case-{at}.json"), (*text).to_owned())).collect()
}

fn report(flaw: &str, texts: &[&str], waivers: Option<&str>) -> Conformance {
    report_of(flaw, texts, waivers, &|_| true)
}

fn report_of(
    flaw: &str,
    texts: &[&str],
    waivers: Option<&str>,
    wanted: &dyn Fn(&str) -> bool,
) -> Conformance {
    let (factory, cases) = (factory(flaw), cases(texts));
    let (settings, options) = (vec![declared("key", "secret")], vec![declared("list", "text")]);
    run_those(&Candidate { factory: &*factory, cases: &cases, settings, options, waivers }, wanted)
}

fn failed(report: &Conformance) -> Vec<&'static str> {
    report.checks.iter().filter(|check| check.failed()).map(|check| check.id).collect()
}

#[test]
fn what_does_everything_right_passes() {
    let report = report("", &[ONE, BAD_ITEM], None);
    assert!(report.passed(), "{report}");
    let ids: Vec<&str> = report.checks.iter().map(|check| check.id).collect();
    assert_eq!(ids, check_names());
}

/// Every way of being wrong, and the check that finds it.
const FLAWS: &[(&str, &str)] = &[
    ("same-again", "same-again"),
    ("413-single", "413-single"),
    ("413-batch", "413-batch"),
    ("413-doubled", "413-batch"),
    ("any-size", "oversize"),
    ("silent-size", "oversize"),
    ("unicode", "unicode"),
    ("empty", "empty"),
    ("all-traits", "all-traits"),
    ("wrong-types", "wrong-types"),
    ("raw-path", "hostile-ids"),
    ("raw-query", "hostile-ids"),
    ("hostile-options", "hostile-options"),
    ("shows-secrets", "secrets"),
    ("cuts-first", "secrets"),
    ("preview", "secrets"),
    ("shows-tokens", "tokens"),
    ("render", "render"),
    ("pack", "pack"),
    ("no-reason", "any-answer"),
    ("long-reason", "any-answer"),
    ("lost-verdict", "any-answer"),
    ("endless", "any-answer"),
    ("panics", "any-answer"),
    ("429-seconds", "429-seconds"),
    ("429-date", "429-date"),
    ("429-reset", "429-reset"),
    ("429-empty", "429-empty"),
    ("429-html", "429-html"),
    ("timeout", "timeout"),
    ("connection", "connection"),
    ("500", "500"),
    ("502", "502"),
    ("503-wait", "503-wait"),
    ("501", "501"),
    ("401", "401"),
    ("403", "403"),
];

#[test]
fn every_flaw_is_found_by_its_check() {
    let mut shown = Vec::new();
    for (flaw, check) in FLAWS {
        let report = report_of(flaw, &[ONE, BAD_ITEM], None, &|id| id == *check);
        assert!(failed(&report).contains(check), "{flaw}: {report}");
        assert!(!report.passed());
        shown.push(*check);
    }
    let by_cases_alone = ["success", "200-error", "bad-item"];
    let missing: Vec<&str> =
        check_names().into_iter().filter(|id| !shown.contains(id) && !by_cases_alone.contains(id)).collect();
    assert_eq!(missing, [""; 0], "these checks are not shown to fail");
}

#[test]
fn a_pack_without_the_first_item_fails_at_once() {
    let report = report("pack-first", &[ONE], None);
    assert!(failed(&report).contains(&"success"));
    assert!(report.to_string().contains("the first item's among them"), "{report}");
}

#[test]
fn what_cases_must_show_fails_without_them() {
    assert_eq!(failed(&report("", &[ONE], None)), ["200-error", "bad-item"]);
    assert!(failed(&report("", &[], None)).contains(&"success"));
    assert!(failed(&report("", &[ONE, BAD_ITEM, "{"], None)).contains(&"success"));
}

#[test]
fn waivers_need_a_check_that_fails_and_a_reason() {
    let waivers =
        |check: &str, reason: &str| format!("[[waive]]\ncheck = \"{check}\"\nreason = \"{reason}\"\n");
    let right = waivers("200-error", "no errors") + &waivers("bad-item", "no batches");
    let with = |text: &str| report("", &[ONE], Some(text));
    let passed = with(&right);
    assert!(passed.passed(), "{passed}");
    assert!(passed.to_string().contains("waived 200-error: no errors\n"), "{passed}");
    for (text, problem) in [
        (
            right.clone() + &waivers("500", "x"),
            "waiver of \"500\": the check passes without it; delete the waiver",
        ),
        (right.clone() + &waivers("5000", "x"), "waiver of \"5000\": there is no such check"),
        (right.clone() + &waivers("bad-item", "x"), "waiver of \"bad-item\": given twice"),
        (right.replace("no errors", " "), "waiver of \"200-error\": say in `reason`"),
        (right.clone() + "who = 1\n", "waiver of \"bad-item\": unknown key \"who\""),
        (format!("x = 1\n{right}"), "unknown key \"x\""),
        (String::new(), "nothing is waived; delete the file"),
        ("[[waive".to_owned(), "conformance.toml: TOML parse error"),
    ] {
        let report = with(&text);
        assert!(!report.passed());
        assert!(
            report.problems.iter().any(|found| found.contains(problem)),
            "{problem}: {:?}",
            report.problems
        );
    }
}

#[test]
fn a_report_says_what_is_wrong_in_a_few_lines() {
    let report = report("429-seconds", &[ONE, BAD_ITEM], None);
    let text = report.to_string();
    assert!(text.starts_with("ok     success: a golden case ends delivered\n"), "{text}");
    let wanted = "FAIL   429-seconds: 429 with Retry-After in seconds: waited for, nothing lost\n       \
                  case-0.json, request 0 (fetch.token): ended as Throttled";
    assert!(text.contains(wanted), "{text}");
}
