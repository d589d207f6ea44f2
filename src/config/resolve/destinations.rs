//! `[destinations.NAME]`: where calls are delivered, with the adapters' own judgement of their settings.

use fanout_sdk::problem::nearest;

use crate::config::read::{Reader, Section, list, locate};
use crate::config::values::is_private_host;
use crate::config::{Adapters, Delivery, Destination, schema};

pub(super) fn read<'a>(
    reader: &mut Reader<'a>,
    top: &Section<'a>,
    sources: &[String],
    in_sandbox: bool,
    adapters: &dyn Adapters,
) -> Vec<Destination> {
    let mut destinations = Vec::new();
    let table = top.get("destinations").and_then(|value| reader.table("destinations", value));
    let mut entries: Vec<_> = table.into_iter().flat_map(|table| table.iter()).collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let given = entries.len();
    for (key, value) in entries {
        let (name, at) = (key.get_ref(), key.span().start);
        let path = format!("destinations.{name}");
        let Some(table) = reader.table(&path, value) else { continue };
        let named = reader.is_name("a destination", at, name);
        let section = reader.section(&path, &schema::DESTINATION, at, Some(table));
        let destination = destination(reader, &section, name, sources, in_sandbox, adapters);
        destinations.extend(destination.filter(|_| named));
    }
    if destinations.len() == given && !destinations.iter().any(|destination| destination.enabled) {
        let remedy = "add a [destinations.NAME] table, or set `enabled = true` in one; `fanout adapters` lists the vendors";
        reader.warn(
            top.place("destinations"),
            "no destination is enabled: calls are accepted and delivered nowhere",
            remedy,
        );
    }
    destinations
}

fn destination<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    name: &str,
    sources: &[String],
    in_sandbox: bool,
    adapters: &dyn Adapters,
) -> Option<Destination> {
    let enabled = reader.flag(section, "enabled");
    let paused = reader.flag(section, "paused");
    let taken = sources_taken(reader, section, sources);
    let opt_in = reader.flag(section, "opt_in");
    let delivery = delivery(reader, section);
    let adapter = adapter(reader, section, name, adapters);
    let may_be_private =
        in_sandbox || delivery.as_ref().is_none_or(|delivery| delivery.allow_private_networks);
    // One whose `enabled` is wrong is read as if it were enabled: what is missing will have to be there.
    let needed = enabled.unwrap_or(true);
    let settings = settings(reader, section, needed, |reader, settings, whole| {
        if !may_be_private {
            refuse_private_addresses(reader, section, name, settings);
        }
        let Some(adapter) = &adapter else { return };
        for problem in adapters.check(adapter, name, settings) {
            // Where something could not be put in, only what is there can be judged.
            if whole || problem.path.first().is_some_and(|key| settings.contains_key(key)) {
                let at = section.get("settings").map_or(section.at, |value| locate(value, &problem.path));
                reader.error(at, problem.message, problem.remedy);
            }
        }
    });
    Some(Destination {
        name: name.to_owned(),
        adapter: adapter?,
        enabled: enabled?,
        paused: paused?,
        sources: taken,
        opt_in,
        settings: settings?,
        delivery: delivery?,
    })
}

fn adapter<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    name: &str,
    adapters: &dyn Adapters,
) -> Option<String> {
    let adapter = match section.get("adapter") {
        Some(_) => reader.text(section, "adapter")?,
        None => name.to_owned(),
    };
    let mut names = adapters.names();
    names.sort();
    if names.contains(&adapter) {
        return Some(adapter);
    }
    let remedy = match nearest(&adapter, names.iter().map(String::as_str)) {
        Some(near) if section.get("adapter").is_some() => format!("did you mean `{near}`?"),
        Some(near) => {
            format!("did you mean `{near}`? The table may have any name if you add `adapter = \"{near}\"`")
        }
        None => format!("add `adapter = \"…\"` with one of {}", list(names.iter().map(String::as_str))),
    };
    reader.error(section.place("adapter"), format!("there is no adapter `{adapter}`"), remedy);
    None
}

fn sources_taken<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    known: &[String],
) -> Option<Vec<String>> {
    let sources = reader.texts(section, "sources")?;
    if sources.is_empty() {
        let path = section.path("sources");
        reader.warn(
            section.place("sources"),
            format!("`{path}` is empty: it takes no call"),
            "remove the line to take all",
        );
    }
    for (source, at) in &sources {
        if known.contains(source) {
            continue;
        }
        let remedy = match nearest(source, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the sources are {}", list(known.iter().map(String::as_str))),
        };
        reader.error(*at, format!("there is no source `{source}`"), remedy);
    }
    Some(sources.into_iter().map(|(source, _)| source).collect())
}

fn delivery<'a>(reader: &mut Reader<'a>, destination: &Section<'a>) -> Option<Delivery> {
    let section = reader.subsection(destination, "delivery", &schema::DELIVERY);
    let retry_for = reader.time(&section, "retry_for");
    let max_concurrency = reader.count(&section, "max_concurrency");
    let linger = reader.time(&section, "linger");
    let rate_limit = reader.rate(&section, "rate_limit");
    let max_backlog = reader.count(&section, "max_backlog");
    let allow_private_networks = reader.flag(&section, "allow_private_networks");
    let suppress_unchanged = reader.time(&section, "suppress_unchanged");
    Some(Delivery {
        retry_for: retry_for?,
        max_concurrency,
        linger,
        rate_limit,
        max_backlog,
        allow_private_networks: allow_private_networks?,
        suppress_unchanged,
    })
}

/// The adapter's settings with everything put in, after `check` saw them and whether all could be put in.
fn settings<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    needed: bool,
    check: impl Fn(&mut Reader<'a>, &toml::Table, bool),
) -> Option<toml::Table> {
    let Some(value) = section.get("settings") else {
        check(reader, &toml::Table::new(), true);
        return Some(toml::Table::new());
    };
    reader.table(&section.path("settings"), value)?;
    let before = reader.errors.len();
    let mut whole = true;
    let Some(toml::Value::Table(settings)) = reader.plain(value, needed, &mut whole) else { return None };
    check(reader, &settings, whole && reader.errors.len() == before);
    Some(settings)
}

/// Requests to private addresses are refused at delivery; here the operator learns it before the first call is lost.
fn refuse_private_addresses(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    name: &str,
    settings: &toml::Table,
) {
    for (key, value) in settings {
        let Some(url) = value.as_str().and_then(|text| reqwest::Url::parse(text).ok()) else { continue };
        let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
            continue;
        };
        let at = section.get("settings").map_or(section.at, |value| locate(value, std::slice::from_ref(key)));
        if is_private_host(host) {
            let message =
                format!("`destinations.{name}.settings.{key}` is an address on a private network: {host}");
            let remedy = format!(
                "set `allow_private_networks = true` under [destinations.{name}.delivery] if you mean it"
            );
            reader.error(at, message, remedy);
        } else if url.scheme() == "http" {
            let message = format!("`destinations.{name}.settings.{key}` is not encrypted: http://{host}");
            reader.warn(at, message, "use https");
        }
    }
}
