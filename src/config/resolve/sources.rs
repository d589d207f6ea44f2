//! `[[sources]]`: who may send calls.

use crate::config::read::{Reader, Section};
use crate::config::{Secret, Source, schema};

/// A write key shorter than this is warned of.
const SHORT_KEY: usize = 8;

/// The sources, and the name of each one with its place, also of those that are wrong otherwise.
pub(super) fn read<'a>(reader: &mut Reader<'a>, top: &Section<'a>) -> (Vec<Source>, Vec<String>) {
    let mut sources: Vec<Source> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let Some(value) = top.get("sources") else {
        reader.warn(
            0,
            "there is no source: every call will be answered 401",
            "add a [[sources]] table with `name` and `write_key`",
        );
        return (sources, names);
    };
    let Some(items) =
        value.get_ref().as_array().filter(|items| items.iter().all(|item| item.get_ref().is_table()))
    else {
        reader.error(
            value.span().start,
            "`sources` is not a list of tables",
            "write each source under a header `[[sources]]`",
        );
        return (sources, names);
    };
    for item in items.iter() {
        let section =
            reader.section("sources", &schema::SOURCE, item.span().start, item.get_ref().as_table());
        let source = source(reader, &section, &sources, &names);
        names.extend(section.get("name").and_then(|name| name.get_ref().as_str()).map(str::to_owned));
        sources.extend(source);
    }
    if !items.is_empty() && sources.len() == items.len() && !sources.iter().any(|source| source.enabled) {
        let at = value.span().start;
        reader.warn(
            at,
            "no source is enabled: every call will be answered 401",
            "set `enabled = true` in one of them",
        );
    }
    (sources, names)
}

fn source<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    others: &[Source],
    names: &[String],
) -> Option<Source> {
    let name = reader.name("a source", section, "name");
    let write_key = reader.secret(section, "write_key");
    let enabled = reader.flag(section, "enabled");
    let strict = reader.flag(section, "strict");
    let allowed_origins = allowed_origins(reader, section);
    let bearer_token = reader.secret(section, "bearer_token");
    if let Some(name) = &name
        && names.contains(name)
    {
        reader.error(
            section.place("name"),
            format!("two sources are named `{name}`"),
            "give each one a name of its own",
        );
    }
    if let Some(key) = &write_key {
        check_write_key(reader, section, key, name.as_deref().unwrap_or("?"), others);
    }
    Some(Source {
        name: name?,
        write_key: write_key?,
        enabled: enabled?,
        strict: strict?,
        allowed_origins: allowed_origins?,
        bearer_token,
    })
}

fn check_write_key(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &Secret,
    name: &str,
    others: &[Source],
) {
    let at = section.place("write_key");
    if let Some(other) = others.iter().find(|other| other.write_key == *key) {
        let message = format!("the sources `{}` and `{name}` have the same write key", other.name);
        reader.error(at, message, "give each one a key of its own");
    }
    if key.expose().contains(':') || key.expose().chars().any(|c| c.is_whitespace() || c.is_control()) {
        let message =
            format!("the write key of `{name}` holds a colon or white space, which SDKs cannot send");
        reader.error(at, message, "use letters and digits");
    }
    if key.expose().chars().count() < SHORT_KEY {
        let message = format!("the write key of `{name}` is shorter than {SHORT_KEY} characters");
        reader.warn(at, message, "use a long random one, such as from `openssl rand -hex 16`");
    }
}

fn allowed_origins<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Option<Vec<String>> {
    let origins = reader.texts(section, "allowed_origins")?;
    let mut allowed = Vec::with_capacity(origins.len());
    for (origin, at) in origins {
        match as_origin(&origin) {
            Some(origin) => allowed.push(origin),
            None => {
                let message = format!("`sources.allowed_origins` holds \"{origin}\", which is no origin");
                reader.error(at, message, "write scheme and host, such as \"https://www.example.com\"");
            }
        }
    }
    Some(allowed)
}

/// An origin as browsers write it. Apps have schemes of their own, such as `capacitor://localhost`.
fn as_origin(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok()?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let origin = url.origin();
    let own_scheme = || Some(format!("{}://{}", url.scheme(), url.host_str()?.to_lowercase()));
    if !bare {
        None
    } else if origin.is_tuple() {
        Some(origin.ascii_serialization())
    } else {
        own_scheme()
    }
}
