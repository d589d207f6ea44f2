//! The manifest engine: one TOML file that describes a vendor becomes a [`Destination`](crate::destination::Destination).
//!
//! Loading ([`Manifest::load`]) reads the file (`source`, `schema`, `expression`) and checks everything that can be
//! checked without settings (`check`). Binding ([`Manifest::bind`]) puts one destination's settings in (`settings`,
//! `bind`, `assemble`) and gives a [`Plan`]. Carrying out is `render`, `rest` and `request` for bytes, `outcomes` for
//! answers, `run` for the order of requests.

mod assemble;
mod bind;
mod bound;
mod call;
mod check;
mod check_sections;
mod check_steps;
mod expression;
mod field;
mod fold;
mod forms;
pub mod functions;
mod hash;
mod lookup;
mod outcomes;
mod places;
mod plan;
mod render;
mod request;
mod rest;
mod run;
mod schema;
mod scope;
mod sections;
mod settings;
mod source;
mod tree;
mod units;
pub mod value;
mod walk;
pub(crate) mod written;

use std::sync::Arc;

use schema::{Schema, Setting};
use source::Reader;

use crate::names::Names;
use crate::problem::Problem;

pub use bound::Plan;
pub use run::{Run, Said, Told};
pub(crate) use units::rate;

/// A vendor as its manifest describes it, without settings.
#[derive(Debug)]
pub struct Manifest {
    schema: Schema,
    names: bind::NameIds,
    /// Where the file's lines start.
    lines: Vec<usize>,
    fingerprint: u64,
}

/// A setting or an option as a manifest declares it, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingDoc {
    /// Its name.
    pub name: String,
    /// Its type, such as `choice`.
    pub kind: &'static str,
    /// What it is, in a few words.
    pub doc: String,
    /// Whether it must be given where all others have their defaults.
    pub required: bool,
    /// Whether its value is never shown.
    pub secret: bool,
    /// What holds where nothing is given; `None` where nothing does or it follows from other settings.
    pub default: Option<String>,
    /// The values that a choice allows.
    pub choices: Vec<String>,
}

impl Manifest {
    /// Reads and checks a manifest. The paths it mentions are added to `names`, which every event must be made with.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the file.
    pub fn load(file_name: &str, toml_text: &str, names: &mut Names) -> Result<Manifest, Vec<Problem>> {
        let mut reader = Reader::new(file_name, toml_text);
        let schema = sections::read(&mut reader);
        let mut ids = bind::NameIds::new();
        if reader.problems.is_empty() || !schema.requests.is_empty() {
            check::check(&mut reader, &schema);
        }
        for (root, path) in walk::paths(&schema) {
            match names.intern(root, &path) {
                Some(id) => {
                    ids.insert((root, path), id);
                }
                None => reader.problem(0, "all manifests together mention more than 65,535 paths", ""),
            }
        }
        if reader.problems.is_empty() {
            let lines = toml_text.match_indices('\n').map(|(at, _)| at).collect();
            let fingerprint = hash::digest(0, toml_text.as_bytes());
            return Ok(Manifest { schema, names: ids, lines, fingerprint });
        }
        Err(check::sorted(reader.problems))
    }

    /// Puts a destination's settings in.
    ///
    /// # Errors
    /// Everything that is wrong with the settings.
    pub fn bind(
        self: &Arc<Manifest>,
        destination_name: &str,
        settings: &toml::Table,
    ) -> Result<Plan, Vec<Problem>> {
        let program = assemble::assemble(&self.schema, &self.names, destination_name, settings)?;
        Ok(Plan::new(self.clone(), program))
    }

    /// The line, counted from 1, in which a byte of the file stands.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|newline| *newline < at) + 1
    }

    /// A hash of its text: another one as soon as anything in the file changes.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The adapter's name, as `integrations` spells it.
    pub fn name(&self) -> &str {
        &self.schema.adapter.name
    }

    /// Other names that callers use for it.
    pub fn aliases(&self) -> &[String] {
        &self.schema.adapter.aliases
    }

    /// Whether it gets only calls that name it.
    pub fn opt_in(&self) -> bool {
        self.schema.adapter.opt_in
    }

    /// Whether it takes calls of every type, not identifies alone.
    pub fn takes_all_calls(&self) -> bool {
        self.schema.adapter.all_calls
    }

    /// Whether it is written for code that stands beside it, and says too little without.
    pub fn needs_code(&self) -> bool {
        self.schema.code.is_some()
    }

    /// The vendor's page.
    pub fn docs(&self) -> &str {
        &self.schema.adapter.docs
    }

    /// When the vendor's page was last checked.
    pub fn checked(&self) -> &str {
        &self.schema.adapter.checked
    }

    /// What a destination of this adapter can be configured with.
    pub fn settings(&self) -> Vec<SettingDoc> {
        let needed = settings::needed_by_default(&self.schema, &self.names);
        let doc = |setting: &Setting| {
            let doc = setting_doc(setting);
            SettingDoc { required: doc.required || needed.contains(&setting.name.as_str()), ..doc }
        };
        self.schema.settings.iter().map(doc).collect()
    }

    /// What a call may say under `integrations.<Name>`.
    pub fn options(&self) -> Vec<SettingDoc> {
        self.schema
            .options
            .iter()
            .map(|option| SettingDoc { required: false, ..setting_doc(option) })
            .collect()
    }
}

fn setting_doc(setting: &Setting) -> SettingDoc {
    SettingDoc {
        name: setting.name.clone(),
        kind: setting.kind.name(),
        doc: setting.doc.clone(),
        required: setting.default.is_none() && !setting.optional,
        secret: setting.secret,
        default: setting.default.as_ref().and_then(default_text),
        choices: setting.choices.iter().map(|choice| choice.name.clone()).collect(),
    }
}

fn default_text(default: &source::Data) -> Option<String> {
    match default {
        source::Data::Text(template) => template.plain().map(|text| format!("{text:?}")),
        source::Data::Constant(json) => Some(json.clone()),
        source::Data::List(_, items) => {
            let texts: Option<Vec<String>> = items.iter().map(default_text).collect();
            texts.map(|texts| format!("[{}]", texts.join(", ")))
        }
        source::Data::Table(_, entries) => entries.is_empty().then(|| "{}".to_owned()),
    }
}

#[cfg(test)]
mod tests;
