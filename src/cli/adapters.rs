//! `fanout adapters`: which vendors there are, and what a destination of one is configured with.

use std::io::{self, Write};

use fanout_sdk::adapter;
use fanout_sdk::manifest::SettingDoc;
use fanout_sdk::problem::nearest;
use serde_json::{Value, json};

use super::args::Common;
use super::{Ending, output};
use crate::config::{self, Adapter, AdapterSet};

/// Lists the adapters, or describes one.
pub fn run(
    common: &Common,
    built_in: &[adapter::Adapter],
    name: Option<&str>,
    out: &mut dyn Write,
) -> io::Result<Ending> {
    // A configuration that is wrong elsewhere is no reason not to say what there is.
    let folder = config::adapters_dir(&common.config);
    let adapters = AdapterSet::open(built_in, folder.as_deref());
    let problems = config::Adapters::problems(&adapters);
    output::problems(&mut io::stderr(), &problems, &[])?;
    let Some(name) = name else { return list(common, &adapters, out) };
    match adapters.get(name) {
        Some(adapter) if common.json => output::json_line(out, &as_json(adapter)).map(|()| Ending::Done),
        Some(adapter) => describe(adapter, out).map(|()| Ending::Done),
        None => {
            let names = || adapters.all().iter().map(|adapter| adapter.name.as_str());
            let remedy = match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
            };
            output::complain(&format!("there is no adapter `{name}`; {remedy}"));
            Ok(Ending::Wrong)
        }
    }
}

fn list(common: &Common, adapters: &AdapterSet, out: &mut dyn Write) -> io::Result<Ending> {
    if common.json {
        output::json_line(out, &Value::Array(adapters.all().iter().map(as_json).collect()))?;
        return Ok(Ending::Done);
    }
    let rows: Vec<_> = adapters
        .all()
        .iter()
        .map(|adapter| {
            let origin =
                adapter.folder.as_ref().map_or("built in".to_owned(), |folder| folder.display().to_string());
            [
                adapter.name.clone(),
                adapter.manifest.name().to_owned(),
                origin,
                adapter.manifest.docs().to_owned(),
            ]
        })
        .collect();
    output::table(out, ["ADAPTER", "VENDOR", "FROM", "DOCUMENTATION"], &rows)?;
    writeln!(out, "\n`fanout adapters NAME` shows the settings of one.")?;
    Ok(Ending::Done)
}

fn describe(adapter: &Adapter, out: &mut dyn Write) -> io::Result<()> {
    let manifest = &adapter.manifest;
    writeln!(out, "{}", manifest.name())?;
    writeln!(out, "{} (checked {})", manifest.docs(), manifest.checked())?;
    if !manifest.aliases().is_empty() {
        writeln!(out, "Calls may also name it: {}", manifest.aliases().join(", "))?;
    }
    if manifest.opt_in() {
        writeln!(out, "It gets only the calls that name it in `integrations`.")?;
    }
    if manifest.takes_all_calls() {
        writeln!(out, "It takes calls of every type, not only identify.")?;
    }
    let settings = manifest.settings();
    if !settings.is_empty() {
        writeln!(out)?;
        output::table(
            out,
            ["SETTING", "HOLDS", "DEFAULT", "MEANING"],
            &settings.iter().map(row).collect::<Vec<_>>(),
        )?;
    }
    let options = manifest.options();
    if !options.is_empty() {
        writeln!(out, "\nA call may say under `integrations.{}`:", manifest.name())?;
        let rows: Vec<_> =
            options.iter().map(|option| [option.name.clone(), holds(option), option.doc.clone()]).collect();
        output::table(out, ["OPTION", "HOLDS", "MEANING"], &rows)?;
    }
    writeln!(out, "\nIn the configuration:\n\n[destinations.{}]", adapter.name)?;
    let needed: Vec<_> =
        settings.iter().filter(|setting| setting.required).map(|setting| example(adapter, setting)).collect();
    if needed.is_empty() { Ok(()) } else { writeln!(out, "settings = {{ {} }}", needed.join(", ")) }
}

fn row(setting: &SettingDoc) -> [String; 4] {
    let default = match (&setting.default, setting.required) {
        (Some(default), _) => default.clone(),
        (None, true) => "must be given".to_owned(),
        (None, false) => String::new(),
    };
    [setting.name.clone(), holds(setting), default, setting.doc.clone()]
}

fn holds(setting: &SettingDoc) -> String {
    if setting.choices.is_empty() { setting.kind.to_owned() } else { setting.choices.join(" | ") }
}

/// How a required setting may be written: what is secret comes from the environment.
fn example(adapter: &Adapter, setting: &SettingDoc) -> String {
    let variable = format!("{}_{}", adapter.name, setting.name).to_uppercase().replace('-', "_");
    match setting.choices.first() {
        Some(choice) => format!("{} = \"{choice}\"", setting.name),
        None => format!("{} = \"${{{variable}}}\"", setting.name),
    }
}

fn as_json(adapter: &Adapter) -> Value {
    let manifest = &adapter.manifest;
    let settings = |settings: Vec<SettingDoc>| -> Value {
        settings
            .into_iter()
            .map(|setting| {
                json!({
                    "name": setting.name, "type": setting.kind, "doc": setting.doc, "required": setting.required,
                    "secret": setting.secret, "default": setting.default, "choices": setting.choices,
                })
            })
            .collect()
    };
    json!({
        "name": adapter.name,
        "vendor": manifest.name(),
        "aliases": manifest.aliases(),
        "opt_in": manifest.opt_in(),
        "takes_all_calls": manifest.takes_all_calls(),
        "docs": manifest.docs(),
        "checked": manifest.checked(),
        "folder": adapter.folder,
        "settings": settings(manifest.settings()),
        "options": settings(manifest.options()),
    })
}
