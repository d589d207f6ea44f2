//! `fanout test-adapter`: the golden cases of an adapter's folder and the conformance suite, as the built-in ones are
//! tested.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fanout_sdk::adapter::{Adapter, Code};
use fanout_sdk::testkit::conformance::{self, Candidate, Conformance};
use fanout_sdk::testkit::{Report, factory, run_folder};
use serde_json::json;

use super::args::Common;
use super::{Ending, output};
use crate::config;

/// What a complete adapter shows; the built-in ones are held to it.
const ENDINGS: &[&str] = &["delivered", "skip", "rejected", "retry"];

/// Where an adapter says which checks it does not pass, and why.
const WAIVERS: &str = "conformance.toml";

/// Runs the cases; with `update`, writes them as they were seen. Where they pass, runs the conformance suite.
pub fn run(
    common: &Common,
    adapters: &[Adapter],
    folder: &Path,
    update: bool,
    out: &mut dyn Write,
) -> io::Result<Ending> {
    let manifest = folder.join("manifest.toml");
    let (text, cases) = match read(&manifest, folder) {
        Ok(read) => read,
        Err(message) => {
            output::complain(&message);
            return Ok(Ending::Wrong);
        }
    };
    let factory = match factory(&manifest.display().to_string(), &text, code_of(adapters, &text, folder)) {
        Ok(factory) => factory,
        Err(problems) => {
            for problem in problems {
                writeln!(out, "{problem}")?;
            }
            return Ok(Ending::Failed);
        }
    };
    let waivers = match waivers(folder) {
        Ok(waivers) => waivers,
        Err(message) => {
            output::complain(&message);
            return Ok(Ending::Wrong);
        }
    };
    let mut cases = cases;
    let mut report = run_folder(&*factory, &cases);
    if update {
        cases = rewrite(folder, cases, &report)?;
        report = run_folder(&*factory, &cases);
    }
    let subject = Candidate::of_manifest(&*factory, "manifest.toml", &text, &cases, waivers.as_deref());
    // What cases get wrong, every check would get wrong once more.
    let suite = subject.ok().filter(|_| report.passed()).map(|subject| conformance::run(&subject));
    if common.json {
        let cases = report.cases.iter().map(|(file, case)| {
            json!({ "file": file, "about": case.about, "passed": case.problems.is_empty(), "problems": case.problems })
        });
        let cases: Vec<_> = cases.collect();
        output::json_line(out, &json!({ "cases": cases, "conformance": suite.as_ref().map(suite_json) }))?;
    } else {
        write!(out, "{report}")?;
        let failed = report.cases.iter().filter(|(_, case)| !case.problems.is_empty()).count();
        writeln!(out, "{}, {failed} failed", output::count(report.cases.len(), "case"))?;
        if failed > 0 {
            writeln!(
                out,
                "--update writes what was seen into the cases; read the difference before you keep it"
            )?;
        }
        let unseen: Vec<&str> = ENDINGS.iter().copied().filter(|ending| !report.has_ending(ending)).collect();
        if !unseen.is_empty() {
            writeln!(out, "no case ends with: {}; a complete adapter shows each", unseen.join(", "))?;
        }
        match &suite {
            Some(suite) => show_suite(out, suite)?,
            None => writeln!(out, "the conformance checks run once every case passes")?,
        }
    }
    let passed = report.passed() && suite.is_some_and(|suite| suite.passed());
    Ok(if passed { Ending::Done } else { Ending::Failed })
}

fn show_suite(out: &mut dyn Write, suite: &Conformance) -> io::Result<()> {
    write!(out, "\n{suite}")?;
    let failed = suite.checks.iter().filter(|check| check.failed()).count();
    let waived = suite.checks.iter().filter(|check| check.waived.is_some()).count();
    writeln!(out, "{}, {failed} failed, {waived} waived", output::count(suite.checks.len(), "check"))?;
    if failed > 0 {
        writeln!(
            out,
            "a check that is wrong about this vendor is waived, with the reason, in {WAIVERS}; see destinations/README.md"
        )?;
    }
    Ok(())
}

fn suite_json(suite: &Conformance) -> serde_json::Value {
    let check = |check: &conformance::Checked| {
        json!({
            "check": check.id,
            "about": check.about,
            "passed": check.problems.is_empty(),
            "waived": check.waived,
            "problems": check.problems,
        })
    };
    let checks: Vec<_> = suite.checks.iter().map(check).collect();
    json!({ "passed": suite.passed(), "checks": checks, "problems": suite.problems })
}

/// The text of the waivers, where there are some.
fn waivers(folder: &Path) -> Result<Option<String>, String> {
    let path = folder.join(WAIVERS);
    match config::read_text(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// The Rust code of the built-in adapter that this is: the one with this manifest, or else with this folder's name.
fn code_of(adapters: &[Adapter], manifest: &str, folder: &Path) -> Option<Code> {
    let folder = std::path::absolute(folder).ok()?;
    let same_text = adapters.iter().find(|adapter| adapter.manifest == manifest);
    let same_name = || adapters.iter().find(|adapter| folder.ends_with(adapter.name));
    same_text.or_else(same_name)?.code
}

type Files = Vec<(String, String)>;

fn read(manifest: &Path, folder: &Path) -> Result<(String, Files), String> {
    let text = config::read_text(manifest)
        .map_err(|error| format!("cannot read {}: {error}", manifest.display()))?;
    let cases = folder.join("cases");
    let paths = config::files_in(&cases, "json")
        .map_err(|error| format!("cannot read the folder of golden cases, {}: {error}", cases.display()))?;
    if paths.is_empty() {
        return Err(format!(
            "{} holds no golden case; write one as destinations/README.md shows",
            cases.display()
        ));
    }
    let case = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text =
            config::read_text(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok((name, text))
    };
    Ok((text, paths.into_iter().map(case).collect::<Result<_, String>>()?))
}

/// The cases as they were seen, also on disk.
fn rewrite(folder: &Path, cases: Files, report: &Report) -> io::Result<Files> {
    let mut rewritten = Vec::with_capacity(cases.len());
    for ((name, old), (_, case)) in cases.into_iter().zip(&report.cases) {
        let text = case.updated.clone().unwrap_or(old);
        config::write_text(&folder.join("cases").join(&name), &text)?;
        rewritten.push((name, text));
    }
    Ok(rewritten)
}
