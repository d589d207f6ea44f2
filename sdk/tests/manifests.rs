//! The twelve manifests of `manifests/` load, render, and make their fact sheets' worked requests. Needs the feature
//! `testkit`.
#![cfg(feature = "testkit")]

use std::fs;
use std::path::{Path, PathBuf};

use fanout_sdk::testkit::{manifest_factory, run_folder};

fn files(extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    files.sort_unstable();
    files
}

#[test]
fn all_twelve_load() {
    let mut wrong = String::new();
    assert_eq!(files("toml").len(), 12);
    for file in files("toml") {
        let name = file.file_name().unwrap().to_str().unwrap();
        if let Err(problems) = manifest_factory(name, &fs::read_to_string(&file).unwrap()) {
            wrong.push_str(&format!("{}\n", problems.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn sample_calls_make_the_expected_requests() {
    let cases = files("json");
    let mut failed = String::new();
    assert_eq!(cases.len(), 12);
    for case in cases {
        let manifest = fs::read_to_string(case.with_extension("toml")).unwrap();
        let factory =
            manifest_factory("manifest.toml", &manifest).unwrap_or_else(|p| panic!("{}", p.join("\n")));
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        let run = || run_folder(&*factory, &[(name.clone(), fs::read_to_string(&case).unwrap())]);
        if std::env::var_os("UPDATE_GOLDEN").is_some()
            && let Some(text) = run().cases.remove(0).1.updated
        {
            fs::write(&case, text).unwrap();
        }
        let report = run();
        if !report.passed() {
            failed.push_str(&report.to_string());
        }
    }
    assert!(failed.is_empty(), "{failed}");
}
