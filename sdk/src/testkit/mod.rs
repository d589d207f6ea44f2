//! Golden cases: an adapter's promises as JSON files, and what runs them without a network, a clock or a disk.
//!
//! A case says what a destination is configured with, which calls come in, which exact requests must go out in which
//! order, what the vendor answers, and how each event must end. [`run_case`] runs one; [`run_folder`] runs many. Files
//! are read and written by the caller.

mod case;
mod compare;
pub mod conformance;
mod manifest;
mod pretty;
mod run;
mod script;

use crate::destination::Destination;
use crate::json::Json;
use crate::names::Names;

pub use case::read_answers;
pub use manifest::{adapter_factory, factory, manifest_factory};
pub use run::run_case;
pub use script::{FixedClock, Script};

/// A destination that was made from a case's settings.
pub struct Subject {
    /// The destination.
    pub destination: Box<dyn Destination>,
    /// The paths that its manifest mentions; the events are made with them.
    pub names: Names,
    /// The names under which `integrations` may hold its options: the adapter's name and aliases.
    pub spellings: Vec<String>,
}

/// Makes a [`Subject`] from a case's settings, or says what is wrong with them.
pub type Factory<'f> = dyn Fn(Json<'_>) -> Result<Subject, Vec<String>> + 'f;

/// What came of one case.
#[derive(Clone, Debug, Default)]
pub struct CaseReport {
    /// What the case says it is about.
    pub about: String,
    /// What differs from what the case lists; empty for a case that passed.
    pub problems: Vec<String>,
    /// How the events ended, one word each, such as `delivered` or `skip`.
    pub endings: Vec<&'static str>,
    /// The case as it would have to be written to pass: its requests and outcomes are those that were seen. `None`
    /// where the case could not be run.
    pub updated: Option<String>,
}

/// What came of a folder of cases, in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The file's name and what came of it.
    pub cases: Vec<(String, CaseReport)>,
}

impl Report {
    /// Whether there was at least one case and every one passed.
    pub fn passed(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(|(_, case)| case.problems.is_empty())
    }

    /// Whether an event of any case ended so.
    pub fn has_ending(&self, ending: &str) -> bool {
        self.cases.iter().any(|(_, case)| case.endings.contains(&ending))
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, case) in &self.cases {
            let verdict = if case.problems.is_empty() { "ok  " } else { "FAIL" };
            writeln!(f, "{verdict} {name}: {}", case.about)?;
            for problem in &case.problems {
                writeln!(f, "     {}", problem.replace('\n', "\n     "))?;
            }
        }
        Ok(())
    }
}

/// Runs every case of a folder, given as file names and texts.
pub fn run_folder(factory: &Factory<'_>, files: &[(String, String)]) -> Report {
    Report { cases: files.iter().map(|(name, text)| (name.clone(), run_case(factory, text))).collect() }
}

#[cfg(test)]
mod tests;
