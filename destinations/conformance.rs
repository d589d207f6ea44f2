//! What every built-in adapter must keep to: it loads, its golden cases pass and show the main endings, and its
//! `README.md` is complete. With `UPDATE_GOLDEN=1` the cases are rewritten as they were seen; read the difference.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use fanout_sdk::adapter::Adapter;
use fanout_sdk::json::Doc;
use fanout_sdk::testkit::conformance::{self, Candidate};
use fanout_sdk::testkit::{Report, adapter_factory, run_case, run_folder};

use super::builtin;

/// What an operator looks for.
const HEADINGS: &[&str] =
    &["## What arrives", "## Settings", "## Answers", "## Limits", "## Left out", "## Sources"];
/// Each ending must be shown by a case.
const ENDINGS: &[&str] = &["delivered", "skip", "rejected", "retry"];

fn folder(adapter: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(adapter)
}

fn cases(adapter: &str) -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder(adapter).join("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

fn update(adapter: &str, report: &Report) {
    for (name, case) in &report.cases {
        if let Some(text) = &case.updated {
            fs::write(folder(adapter).join("cases").join(name), text).unwrap();
        }
    }
}

#[test]
fn adapters_are_listed_by_their_folders() {
    let names: Vec<&str> = builtin().iter().map(|adapter| adapter.name).collect();
    assert!(names.contains(&"mixpanel") && names.contains(&"webhook"), "{names:?}");
    assert!(names.is_sorted());
}

#[test]
fn every_golden_case_passes() {
    let updating = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut failed = String::new();
    for adapter in builtin() {
        let factory = adapter_factory(adapter)
            .unwrap_or_else(|problems| panic!("{}:\n{}", adapter.name, problems.join("\n")));
        if updating {
            update(adapter.name, &run_folder(&*factory, &cases(adapter.name)));
        }
        let files = cases(adapter.name);
        let report = run_folder(&*factory, &files);
        if !report.passed() {
            failed.push_str(&format!("{}:\n{report}", adapter.name));
        }
        for ((name, text), (_, case)) in files.iter().zip(&report.cases) {
            if case.problems.is_empty() && case.updated.as_ref() != Some(text) {
                failed.push_str(&format!(
                    "{}/cases/{name}: run with UPDATE_GOLDEN=1 to lay it out\n",
                    adapter.name
                ));
            }
        }
        for ending in ENDINGS.iter().filter(|ending| !report.has_ending(ending)) {
            failed.push_str(&format!("{}: no case ends with {ending}\n", adapter.name));
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

/// What the suite says of an adapter, where it does not pass.
fn failed_suite(adapter: &Adapter) -> Option<String> {
    let factory = adapter_factory(adapter).unwrap();
    let files = cases(adapter.name);
    let waivers = fs::read_to_string(folder(adapter.name).join("conformance.toml")).ok();
    let subject =
        Candidate::of_manifest(&*factory, "manifest.toml", adapter.manifest, &files, waivers.as_deref());
    let report = conformance::run(&subject.unwrap());
    (!report.passed()).then(|| format!("{}:\n{report}", adapter.name))
}

#[test]
fn every_adapter_passes_the_suite() {
    let failed: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = builtin().iter().map(|adapter| scope.spawn(|| failed_suite(adapter))).collect();
        runs.into_iter().filter_map(|run| run.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Traits that callers really send, or could; each must come out as valid JSON or not at all.
const TRICKY_TRAITS: &[&str] = &[
    r#"{"a":"\u0000\u001f\"\\/\n\u2028","\u0000":1,"":"blank"}"#,
    r#"{"a":"\ud800","\udc00b":"x","c":"\ud83d\ude00"}"#,
    r#"{"a":1,"a":2,"A":3,"email":"a@b.co","Email":"c@d.co","EMAIL":null}"#,
    r#"{"a":-0,"b":1e400,"c":1E-9,"d":123456789012345678901234567890,"e":0.10}"#,
    r#"{"email":7,"firstName":["x"],"address":"1 Mill St","company":["x"],"createdAt":"soon","phone":{}}"#,
    r#"{"address":{},"company":null,"subscription":{"unsubscribed":"maybe","x":{"y":[[],[[]],{}]}}}"#,
    r#"{"address":{"city":{"deep":true},"zip":12345},"company":{"name":"","employee_count":"many"}}"#,
    r#"{"tags":[null,1,"a",[2,[3]],{"b":null}],"{user_id}":"{settings}","...":{"...":1},"$set":{"$unset":1}}"#,
    r#"{"createdAt":253402300800000,"birthday":"0000-00-00","since":"2024-02-30T25:61:61Z","age":-1}"#,
    r#"{"城市":"東京","🗼":"👩‍👩‍👧","e\u0301":"é","\u202e":"\u202etxt"}"#,
];

fn nested(depth: usize) -> String {
    format!("{{\"deep\":{}1{}}}", "{\"a\":[".repeat(depth), "]}".repeat(depth))
}

#[test]
fn tricky_traits_make_valid_requests() {
    let long = format!("{{\"long\":\"{}\",\"{}\":1}}", "é".repeat(5000), "k".repeat(3000));
    let traits = TRICKY_TRAITS.iter().map(|traits| (*traits).to_owned()).chain([nested(50), long]);
    let events: Vec<String> = traits
        .enumerate()
        .map(|(n, traits)| {
            format!(r#"{{"type":"identify","messageId":"m{n}","userId":"u{n}","traits":{traits}}}"#)
        })
        .collect();
    for adapter in builtin() {
        let factory = adapter_factory(adapter).unwrap();
        let mut seen = HashSet::new();
        for (name, case) in cases(adapter.name) {
            let doc = Doc::parse(case.into()).unwrap();
            let settings = doc.root().get("settings").unwrap().raw();
            if !seen.insert(settings.to_owned()) {
                continue;
            }
            for event in &events {
                let case = format!(
                    r#"{{"about":"tricky","settings":{settings},"now":"2026-08-01T12:00:05Z","events":[{event}]}}"#
                );
                let report = run_case(&*factory, &case);
                assert!(report.updated.is_some(), "{}/{name}: {event}: {:?}", adapter.name, report.problems);
                let wrong = ["the body is no JSON", "holds a secret", "shows a secret"];
                for problem in &report.problems {
                    assert!(
                        !wrong.iter().any(|wrong| problem.contains(wrong)),
                        "{}: {problem}",
                        adapter.name
                    );
                }
            }
        }
    }
}

#[test]
fn every_readme_is_complete() {
    for adapter in builtin() {
        let text = fs::read_to_string(folder(adapter.name).join("README.md")).unwrap();
        for heading in HEADINGS {
            let body = text
                .split(&format!("\n{heading}\n"))
                .nth(1)
                .map(|rest| rest.split("\n## ").next().unwrap_or(rest));
            assert!(
                body.is_some_and(|body| !body.trim().is_empty()),
                "{}/README.md: {heading}",
                adapter.name
            );
        }
    }
}
