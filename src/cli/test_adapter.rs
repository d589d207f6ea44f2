//! `fanout test-adapter`: the golden cases of an adapter's folder, as the built-in ones are tested.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fanout_sdk::adapter::{Adapter, Code};
use fanout_sdk::testkit::{Report, factory, run_folder};
use serde_json::json;

use super::args::Common;
use super::{Ending, output};
use crate::config;

/// What a complete adapter shows; the built-in ones are held to it.
const ENDINGS: &[&str] = &["delivered", "skip", "rejected", "retry"];

/// Runs the cases; with `update`, writes them as they were seen.
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
    let factory = match factory(&manifest.display().to_string(), &text, code_of(adapters, folder)) {
        Ok(factory) => factory,
        Err(problems) => {
            for problem in problems {
                writeln!(out, "{problem}")?;
            }
            return Ok(Ending::Failed);
        }
    };
    let mut report = run_folder(&*factory, &cases);
    if update {
        let rewritten = rewrite(folder, cases, &report)?;
        report = run_folder(&*factory, &rewritten);
    }
    if common.json {
        let cases = report.cases.iter().map(|(file, case)| {
            json!({ "file": file, "about": case.about, "passed": case.problems.is_empty(), "problems": case.problems })
        });
        output::json_line(out, &cases.collect())?;
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
    }
    Ok(if report.passed() { Ending::Done } else { Ending::Failed })
}

/// The Rust code of the built-in adapter whose folder this is.
fn code_of(adapters: &[Adapter], folder: &Path) -> Option<Code> {
    let folder = std::path::absolute(folder).ok()?;
    adapters.iter().find(|adapter| folder.file_name().is_some_and(|name| name == adapter.name))?.code
}

type Files = Vec<(String, String)>;

fn read(manifest: &Path, folder: &Path) -> Result<(String, Files), String> {
    let text = config::read_text(manifest)
        .map_err(|error| format!("cannot read {}: {error}", manifest.display()))?;
    let cases = folder.join("cases");
    let paths = config::files_in(&cases, "json")
        .map_err(|error| format!("cannot read {}: {error}", cases.display()))?;
    if paths.is_empty() {
        return Err(format!("{} holds no case; write one as destinations/README.md shows", cases.display()));
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
