//! `fanout check`: every mistake of the configuration, or what would run.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use fanout_sdk::adapter::Adapter;

use super::Ending;
use super::args::Common;
use super::output;
use crate::config::{self, AdapterSet, Config, Loaded};

/// Checks the configuration.
pub fn run(common: &Common, built_in: &[Adapter], out: &mut dyn Write) -> io::Result<Ending> {
    let Loaded { config, errors, warnings } =
        config::load(&common.config, &|folder| AdapterSet::open_boxed(built_in, folder));
    if common.json {
        output::json_line(out, &output::problems_json(&errors, &warnings))?;
    } else {
        output::problems(out, &errors, &warnings)?;
        if let Some(config) = &config {
            if !warnings.is_empty() {
                writeln!(out)?;
            }
            summary(out, &common.config, config)?;
        }
    }
    Ok(if config.is_some() { Ending::Done } else { Ending::Wrong })
}

/// What would run.
fn summary(out: &mut dyn Write, file: &Path, config: &Config) -> io::Result<()> {
    writeln!(out, "{} can be used.\n", file.display())?;
    let address = |scheme: &str, address: SocketAddr| format!("{scheme}://{address}");
    let mut parts = vec![["tracking API".to_owned(), address("http", config.server.listen)]];
    if let Some(tls) = &config.server.tls {
        parts.push([String::new(), address("https", tls.listen)]);
    }
    parts.push(["health, metrics".to_owned(), address("http", config.admin.listen)]);
    let data = format!("{}, at most {}", config.queue.path.display(), config.queue.max_disk);
    parts.push(["data directory".to_owned(), data]);
    output::table(out, ["PART", "WHERE"], &parts)?;

    let state = |enabled: bool, paused: bool| match (enabled, paused) {
        (false, _) => "disabled",
        (true, true) => "paused",
        (true, false) => "enabled",
    };
    let sources =
        config.sources.iter().map(|source| [source.name.clone(), state(source.enabled, false).into()]);
    let sources: Vec<_> = sources.collect();
    separate(out, sources.len())?;
    output::table(out, ["SOURCE", "STATE"], &sources)?;

    let destinations = config.destinations.iter().map(|destination| {
        let sources = destination.sources.as_ref().map_or("all".to_owned(), |sources| sources.join(", "));
        let state = state(destination.enabled, destination.paused);
        [destination.name.clone(), destination.adapter.clone(), state.into(), sources]
    });
    let destinations: Vec<_> = destinations.collect();
    separate(out, destinations.len())?;
    output::table(out, ["DESTINATION", "ADAPTER", "STATE", "SOURCES"], &destinations)
}

fn separate(out: &mut dyn Write, rows: usize) -> io::Result<()> {
    if rows == 0 { Ok(()) } else { writeln!(out) }
}
