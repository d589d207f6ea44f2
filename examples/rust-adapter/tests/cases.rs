//! The golden cases in `cases/`: which requests go out for which call, and what the vendor's answers mean. With
//! `UPDATE_GOLDEN=1` they are rewritten as they were seen; read the difference before you keep it. And the conformance
//! suite, which plays them again with something going wrong.

use std::path::{Path, PathBuf};

use fanout_sdk::testkit::conformance::{self, Candidate};
use fanout_sdk::testkit::{adapter_factory, run_folder};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

fn read(folder: &Path) -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_golden_case_passes() {
    let folder = folder();
    let factory =
        adapter_factory(&cardfile::ADAPTER).unwrap_or_else(|problems| panic!("{}", problems.join("\n")));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        for (name, case) in run_folder(&*factory, &read(&folder)).cases {
            if let Some(text) = case.updated {
                std::fs::write(folder.join(name), text).unwrap();
            }
        }
    }
    let report = run_folder(&*factory, &read(&folder));
    assert!(report.passed(), "{report}");
    for ending in ["delivered", "skip", "rejected", "retry"] {
        assert!(report.has_ending(ending), "no case ends with {ending}");
    }
}

#[test]
fn it_stands_what_every_adapter_must() {
    let cardfile = cardfile::ADAPTER;
    let factory = adapter_factory(&cardfile).unwrap();
    let cases = read(&folder());
    let waivers = include_str!("../conformance.toml");
    let candidate =
        Candidate::of_manifest(&*factory, "manifest.toml", cardfile.manifest, &cases, Some(waivers)).unwrap();
    let report = conformance::run(&candidate);
    assert!(report.passed(), "{report}");
}
