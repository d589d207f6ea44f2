//! The conformance suite: what every adapter must stand, whether a manifest or code says what it does.
//!
//! It knows a destination only as its lane does, through [`Destination`](crate::destination::Destination). What an
//! adapter's vendor is like it learns from the golden cases: every case that ends delivered is a script of look-ups,
//! tokens and answers, which the checks play again with one thing changed: a fault at each of the requests, a hostile
//! text in the call, another secret.
//!
//! | checks | what is asked |
//! |---|---|
//! | `success` | a golden case ends delivered, so that there is something to play |
//! | `429-…`, `500`, `502`, `503-wait`, `501`, `401`, `403`, `timeout`, `connection` | the fault loses nothing and counts nothing as delivered; a Retry-After is obeyed |
//! | `same-again` | after a time-out the second attempt is one that the vendor can recognise |
//! | `200-error`, `bad-item` | a golden case shows an error inside a 2xx, and the one bad item of a batch |
//! | `413-single`, `413-batch`, `oversize` | what is too large ends, and alone |
//! | `unicode`, `empty`, `all-traits`, `wrong-types` | every request is well formed |
//! | `hostile-ids`, `hostile-options` | a call changes no host, path, header or query that is not its own |
//! | `secrets`, `tokens` | nothing that is kept or shown holds one, whatever the vendor sends back |
//! | `render`, `pack`, `any-answer` | pure, inside the limits, one verdict an item whatever is answered |
//!
//! An adapter that rightly does something else says so in `conformance.toml`, beside its manifest:
//!
//! ```toml
//! [[waive]]
//! check  = "200-error"
//! reason = "the API has no error in a 2xx: https://vendor.example/docs/errors, checked 2026-11"
//! ```
//!
//! A waiver without a reason, of a check that does not exist, or of one that passes, fails.

mod again;
mod answers;
mod calls;
mod faults;
mod hostile;
mod pure;
mod scene;
mod secrets;
mod shape;
mod shown;
mod size;
mod stage;
mod traits;
mod waivers;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Factory;
use crate::json::Json;
use crate::manifest::{Manifest, SettingDoc};
use crate::names::Names;
use scene::{Scene, place};

/// How many problems of one check are shown.
const SHOWN: usize = 5;

/// What the suite is run on.
pub struct Candidate<'a> {
    /// Makes its destinations.
    pub factory: &'a Factory<'a>,
    /// Its golden cases: file names and texts.
    pub cases: &'a [(String, String)],
    /// What its destinations are configured with; the suite asks which of it is secret.
    pub settings: Vec<SettingDoc>,
    /// What calls may say under `integrations.<Name>`.
    pub options: Vec<SettingDoc>,
    /// The text of its `conformance.toml`, where there is one.
    pub waivers: Option<&'a str>,
}

impl<'a> Candidate<'a> {
    /// An adapter whose settings and options a manifest declares; one that is code has such a manifest, too.
    ///
    /// # Errors
    /// Everything that is wrong with the manifest.
    pub fn of_manifest(
        factory: &'a Factory<'a>,
        file_name: &str,
        manifest: &str,
        cases: &'a [(String, String)],
        waivers: Option<&'a str>,
    ) -> Result<Candidate<'a>, Vec<String>> {
        let manifest = Manifest::load(file_name, manifest, &mut Names::default())
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(Candidate { factory, cases, settings: manifest.settings(), options: manifest.options(), waivers })
    }
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its short name, by which a waiver names it.
    pub id: &'static str,
    /// What it asks, in a line.
    pub about: &'static str,
    /// What is wrong; a waived check may have some.
    pub problems: Vec<String>,
    /// Why it need not pass, as `conformance.toml` says.
    pub waived: Option<String>,
}

impl Checked {
    /// Whether it neither passed nor is waived.
    pub fn failed(&self) -> bool {
        !self.problems.is_empty() && self.waived.is_none()
    }
}

/// What came of the whole suite.
#[derive(Clone, Debug, Default)]
pub struct Conformance {
    /// Every check, in a fixed order.
    pub checks: Vec<Checked>,
    /// What is wrong with the waivers.
    pub problems: Vec<String>,
}

impl Conformance {
    /// Whether every check passed or is waived, and every waiver is right.
    pub fn passed(&self) -> bool {
        self.problems.is_empty() && !self.checks.iter().any(Checked::failed)
    }
}

impl std::fmt::Display for Conformance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for check in &self.checks {
            let word = match (&check.waived, check.problems.is_empty()) {
                (Some(_), _) => "waived",
                (None, true) => "ok    ",
                (None, false) => "FAIL  ",
            };
            writeln!(f, "{word} {}: {}", check.id, check.waived.as_deref().unwrap_or(check.about))?;
            if check.failed() {
                for problem in check.problems.iter().take(SHOWN) {
                    writeln!(f, "       {}", problem.replace('\n', "\n       "))?;
                }
                if check.problems.len() > SHOWN {
                    writeln!(f, "       and {} more", check.problems.len() - SHOWN)?;
                }
            }
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "FAIL   {problem}"))
    }
}

/// One check of the suite: its name, what it asks, and what carries it out.
type Check = (&'static str, &'static str, fn(&Suite<'_>) -> Vec<String>);

/// Every check but the faults.
const CHECKS: &[Check] = &[
    ("success", "a golden case ends delivered", success),
    ("same-again", "after a time-out the same bytes are sent again", again::check),
    ("200-error", "a golden case shows a failure inside a 2xx", shown::error_in_success),
    ("bad-item", "a golden case shows one bad item of a batch", shown::bad_item),
    ("413-single", "413 for a single event: rejected", size::refused_single),
    ("413-batch", "413 for a batch: split, the bad item rejected, the others sent once", size::refused_batch),
    ("oversize", "calls of megabytes: skipped with the size, or inside the adapter's caps", size::oversize),
    ("unicode", "tricky texts in traits, keys and ids: well-formed requests", traits::unicode),
    ("empty", "no traits, empty ones, only nulls: well-formed requests", traits::empty),
    ("all-traits", "all reserved traits at once: sent, well formed", traits::all),
    ("wrong-types", "reserved traits of wrong types: well-formed requests", traits::wrong_types),
    ("hostile-ids", "hostile ids change no request's shape", hostile::identities),
    ("hostile-options", "hostile options change no request's shape", hostile::options),
    ("secrets", "no secret setting in reasons, answers, warnings, previews", secrets::settings),
    ("tokens", "no token of the vendor in reasons and answers", secrets::tokens),
    ("render", "the same call gives the same bytes", pure::render),
    ("pack", "the first item, in order, inside the limits, one of an identity", pure::pack),
    ("any-answer", "whatever is answered: an end, a verdict an item, a short reason", answers::check),
];

/// The names of every check, as waivers spell them.
pub fn check_names() -> Vec<&'static str> {
    let faults = faults::FAULTS.iter().map(|fault| fault.id);
    CHECKS.iter().map(|(id, ..)| *id).chain(faults).collect()
}

/// Runs every check on an adapter. No check reads a clock, a file or the network.
pub fn run(adapter: &Candidate<'_>) -> Conformance {
    run_those(adapter, &|_| true)
}

fn run_those(adapter: &Candidate<'_>, wanted: &dyn Fn(&str) -> bool) -> Conformance {
    let (waivers, mut problems) = match adapter.waivers {
        Some(text) => waivers::read(text, &check_names()),
        None => Default::default(),
    };
    let mut checks: Vec<Checked> = Vec::new();
    let mut add = |id: &'static str, about: &'static str, problems: Vec<String>| {
        let waived = waivers.iter().find(|waiver| waiver.check == id).map(|waiver| waiver.reason.clone());
        checks.push(Checked { id, about, problems, waived });
    };
    let suite = match guarded(|| Suite::new(adapter)) {
        Ok(suite) => suite,
        Err(problem) => {
            add("success", "a golden case ends delivered", vec![problem]);
            return Conformance { checks, problems };
        }
    };
    for (id, about, check) in CHECKS.iter().filter(|(id, ..)| wanted(id)) {
        add(id, about, guarded(|| check(&suite)).unwrap_or_else(|problem| vec![problem]));
    }
    for fault in faults::FAULTS.iter().filter(|fault| wanted(fault.id)) {
        let found = guarded(|| faults::check(&suite, fault));
        add(fault.id, fault.about, found.unwrap_or_else(|problem| vec![problem]));
    }
    let stale = checks.iter().filter(|check| check.waived.is_some() && check.problems.is_empty());
    problems.extend(stale.map(|check| {
        format!("conformance.toml: waiver of {:?}: the check passes without it; delete the waiver", check.id)
    }));
    Conformance { checks, problems }
}

/// What a check found, or that it panicked.
fn guarded<T>(check: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(check)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        format!("the adapter panicked: {text}")
    })
}

/// An adapter and its golden cases, played.
struct Suite<'a> {
    adapter: &'a Candidate<'a>,
    scenes: Vec<Scene>,
    /// What is wrong with the cases.
    problems: Vec<String>,
}

impl<'a> Suite<'a> {
    fn new(adapter: &'a Candidate<'a>) -> Suite<'a> {
        let (mut scenes, mut problems) = (Vec::new(), Vec::new());
        for (file, text) in adapter.cases {
            match Scene::of_case(adapter.factory, file, text) {
                Ok(scene) => scenes.push(scene),
                Err(problem) => problems.push(format!("{file}: {problem}")),
            }
        }
        Suite { adapter, scenes, problems }
    }

    /// The successes of different flows, with each of their requests.
    fn steps(&self) -> Vec<(&Scene, usize)> {
        faults::steps(&self.scenes)
    }

    /// One scene for each way in which a case configures the destination, with a call that is not skipped; a success
    /// where there is one.
    fn settings(&self) -> Vec<&Scene> {
        let mut seen = HashSet::new();
        let (well, badly): (Vec<&Scene>, Vec<&Scene>) =
            self.scenes.iter().filter(|scene| !scene.items.is_empty()).partition(|scene| scene.is_success());
        well.into_iter().chain(badly).filter(|scene| seen.insert(&*scene.settings)).collect()
    }

    /// The values of the secret settings.
    fn secrets(&self, settings: Json<'_>) -> Vec<String> {
        let secret = self.adapter.settings.iter().filter(|setting| setting.secret);
        let values = secret.filter_map(|setting| settings.get(&setting.name));
        values.flat_map(texts_of).filter(|text| text.chars().count() >= 4).collect()
    }

    /// The failures that golden cases show at a kind of request: status, body, and the path to one of its texts.
    fn errors_at(&self, at: &str) -> Vec<(u16, String, Vec<String>)> {
        let mut errors = Vec::new();
        for (request, reply) in
            self.scenes.iter().filter(|scene| !scene.is_success()).flat_map(|scene| &scene.exchanges)
        {
            let Ok(answer) = reply else { continue };
            if place(request) == at {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                let paths = secrets::leaves(reply).into_iter();
                errors.extend(paths.map(|(path, _)| (answer.status, body.clone(), path)));
            }
        }
        errors.sort_unstable();
        errors.dedup();
        errors
    }
}

/// The texts in a setting's value.
fn texts_of(value: Json<'_>) -> Vec<String> {
    let inner = value.elements().chain(value.members().map(|(_, value)| value)).flat_map(texts_of);
    value.text().map(|text| text.into_owned()).into_iter().chain(inner).collect()
}

fn success(suite: &Suite<'_>) -> Vec<String> {
    let mut problems = suite.problems.clone();
    if !suite.scenes.iter().any(Scene::is_success) {
        problems.push("no golden case ends delivered; the other checks have nothing to play".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests;
