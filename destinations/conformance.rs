//! What every built-in adapter must keep to: it loads, its golden cases pass and show the main endings, and its
//! `README.md` is complete. With `UPDATE_GOLDEN=1` the cases are rewritten as they were seen; read the difference.

use std::fs;
use std::path::{Path, PathBuf};

use fanout_sdk::testkit::{Report, manifest_factory, run_folder};

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
        let factory = manifest_factory("manifest.toml", adapter.manifest)
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
