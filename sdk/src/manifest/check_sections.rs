//! What can be wrong between the sections of a manifest: hosts, batches, rules, fields and requests that do not go
//! together. Names and types inside expressions are `check`'s.

use std::collections::HashSet;

use super::expression::{Member, Part, Path, Source as Written, Template};
use super::schema::{Fetch, Kind, Policies, Request, Rule, Schema, Then, templates_of};
use super::source::{Data, Reader};

const METHODS: &[&str] = &["POST", "PUT", "PATCH", "GET", "DELETE"];
const ENCODINGS: &[&str] = &["json", "form", "lines"];

pub(super) fn check(reader: &mut Reader<'_>, schema: &Schema) {
    for request in schema.requests.iter().chain(&schema.deletes) {
        host(reader, schema, request);
        items(reader, schema, request);
        rules(reader, schema, request);
    }
    for fetch in &schema.fetches {
        host(reader, schema, &fetch.request);
        fetch_rules(reader, fetch);
    }
    super::check_steps::check(reader, schema);
    fields(reader, schema);
    words(reader, schema);
}

/// Words that are literals: what settings decide is looked at when a destination is configured.
fn words(reader: &mut Reader<'_>, schema: &Schema) {
    let fetches = schema.fetches.iter().map(|fetch| &fetch.request);
    for request in schema.requests.iter().chain(&schema.deletes).chain(fetches) {
        word(reader, &request.method, "method", METHODS);
        word(reader, &request.encoding, "encoding", ENCODINGS);
    }
    policies(reader, &schema.rest.policies);
    schema.rest.fields.iter().for_each(|field| policies(reader, &field.policies));
    for setting in schema.settings.iter().chain(&schema.options) {
        if let Some(pattern) = &setting.pattern
            && let Err(error) = regex_lite::Regex::new(pattern)
        {
            let message = format!("{}: pattern is no regular expression: {error}", setting.name);
            reader.problem(setting.at, message, "");
        }
    }
}

fn policies(reader: &mut Reader<'_>, policies: &Policies) {
    word(reader, &policies.nested, "policy nested:", &["keep", "drop", "json", "flatten"]);
    word(reader, &policies.arrays, "policy arrays:", &["keep", "drop", "json", "join", "index"]);
    match &policies.null {
        Some(Data::Table(at, entries)) => {
            let keys: Vec<_> = entries.iter().filter_map(|entry| entry.key.plain()).collect();
            if keys != ["write"] {
                reader.problem(*at, "policy null: a table has the key write alone", "{ write = \"\" }");
            }
        }
        null => word(reader, null, "policy null:", &["drop", "keep"]),
    }
}

fn word(reader: &mut Reader<'_>, data: &Option<Data>, what: &str, allowed: &[&str]) {
    if let Some(Data::Text(template)) = data
        && let Some(text) = template.plain()
        && !allowed.contains(&text)
    {
        reader.unknown(template.at, what, text, allowed.iter().copied());
    }
}

/// Scheme and host must be the operator's.
fn host(reader: &mut Reader<'_>, schema: &Schema, request: &Request) {
    match &request.url {
        None => reader.problem(request.at, format!("request {} has no url", request.name), ""),
        Some(url) => {
            let mut start = String::new();
            if let Err(at) = host_of(schema, url, &mut start, 0) {
                let remedy = "build scheme and host from literals, and settings of type url, host or choice or with a pattern";
                reader.problem(at, "the host depends on a call or on a setting of any form", remedy);
            } else if !start.starts_with("https://") && !start.starts_with("http://") {
                reader.problem(url.at(), "the url does not start with https://", "");
            }
        }
    }
}

/// Reads a url up to the end of its host, or says where something stands in it that may not.
fn host_of(schema: &Schema, data: &Data, start: &mut String, depth: usize) -> Result<(), usize> {
    match data {
        Data::Text(template) => template_host(schema, template, start, depth),
        Data::List(_, items) => {
            let before = start.clone();
            for item in items {
                start.clone_from(&before);
                host_of(schema, item, start, depth)?;
            }
            Ok(())
        }
        other => Err(other.at()),
    }
}

fn is_ended(start: &str) -> bool {
    start.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?']))
}

fn template_host(
    schema: &Schema,
    template: &Template,
    start: &mut String,
    depth: usize,
) -> Result<(), usize> {
    for part in &template.parts {
        if is_ended(start) {
            return Ok(());
        }
        let pipes = match part {
            Part::Text(text) => {
                start.push_str(text);
                continue;
            }
            Part::Expression(pipes) => pipes,
        };
        let before = start.clone();
        for pipe in pipes {
            start.clone_from(&before);
            let path = match &pipe.source {
                Written::Path(path) => path,
                Written::Text(text) if pipe.steps.is_empty() => {
                    start.push_str(text);
                    continue;
                }
                _ => continue,
            };
            match (path.root.as_str(), pipe.steps.is_empty(), depth < 16) {
                ("settings", true, _) => start.push_str(&operators(schema, path).ok_or(path.at)?),
                // The vendor's own answer to the operator's credentials; only an origin is taken from it.
                ("fetch", true, _) if start.is_empty() => start.push_str("https://example.com"),
                ("values", true, true) => {
                    let value = schema.values.iter().find(|(key, _)| Some(key.text.as_str()) == path.first());
                    host_of(schema, &value.ok_or(path.at)?.1, start, depth + 1)?;
                }
                _ => return Err(path.at),
            }
        }
    }
    Ok(())
}

/// An example of what a setting puts into a host, where it may.
fn operators(schema: &Schema, path: &Path) -> Option<String> {
    let setting = schema.settings.iter().find(|setting| Some(setting.name.as_str()) == path.first())?;
    if let Some(Member::Name(attribute)) = path.members.get(1) {
        let first = setting.choices.first()?;
        return first.attributes.iter().find(|(name, _)| name == attribute).map(|(_, value)| value.clone());
    }
    match setting.kind {
        Kind::Url => Some("https://example.com/".to_owned()),
        Kind::Host | Kind::Choice => Some("example.com".to_owned()),
        _ => setting.pattern.as_ref().map(|_| "example".to_owned()),
    }
}

/// `{items}` needs an item, and the reverse; sizes must fit each other.
fn items(reader: &mut Reader<'_>, schema: &Schema, request: &Request) {
    let has_items = reads(schema, request.body.iter(), "items");
    match (&request.item, has_items) {
        (Some(item), false) => {
            reader.problem(
                item.at(),
                format!("request {}: the body does not hold {{items}}", request.name),
                "write body = \"{items}\", or put it where the vendor wants the list",
            );
        }
        (None, true) => reader.problem(
            request.at,
            format!("request {}: {{items}} without item", request.name),
            "say what one item is",
        ),
        _ => {}
    }
    let Some(batch) = &request.batch else { return };
    if request.item.is_none() {
        reader.problem(batch.at, format!("request {}: batch without item", request.name), "");
    }
    if let (Some(bytes), Some(item_bytes)) = (batch.bytes, batch.item_bytes)
        && item_bytes > bytes
    {
        reader.problem(batch.at, "batch.item_bytes is larger than batch.bytes", "");
    }
}

/// Whether data reads a root, through values too.
fn reads<'s>(schema: &'s Schema, data: impl IntoIterator<Item = &'s Data>, root: &str) -> bool {
    let mut open = templates_of(data);
    let mut seen: HashSet<&str> = HashSet::new();
    while let Some(template) = open.pop() {
        for pipe in template.pipes() {
            let args = pipe.steps.iter().flat_map(|step| &step.args);
            for source in std::iter::once(&pipe.source).chain(args) {
                let Written::Path(path) = source else { continue };
                if path.root == root {
                    return true;
                }
                let value = schema
                    .values
                    .iter()
                    .find(|(key, _)| path.root == "values" && Some(key.text.as_str()) == path.first());
                if let Some((key, data)) = value
                    && seen.insert(&key.text)
                {
                    data.templates(&mut open);
                }
            }
        }
    }
    false
}

fn rules(reader: &mut Reader<'_>, schema: &Schema, request: &Request) {
    let mut ended = false;
    for rule in &request.outcomes {
        // Rules of [defaults] stand elsewhere in the file and may well be shadowed.
        if ended && rule.at > request.at {
            reader.problem(rule.at, "this rule is never reached: the one before decides everything", "");
        }
        ended |= rule.at > request.at && decides_everything(rule);
        if rule.each.is_none() && (rule.index.is_some() || rule.id.is_some() || rule.item.is_some()) {
            reader.problem(rule.at, "index, id and item belong to a rule with each", "");
        }
        if rule.item.is_some() && rule.id.is_none() {
            reader.problem(rule.at, "item without id", "say which part of the entry names the item");
        }
        if request.item.is_none() && (rule.index.is_some() || rule.id.is_some()) {
            let message = format!("index or id in request {}, which takes no items", request.name);
            reader.problem(rule.at, message, "");
        }
        if rule.times.is_some() && matches!(rule.then, Then::Delivered | Then::Submitted) {
            reader.problem(rule.at, "times does not go with delivered or submitted", "");
        }
        if rule.pace.is_some() && rule.then != Then::Split {
            reader.problem(rule.at, "pace belongs to then = \"split\"", "");
        }
        if rule.after.is_some() && !matches!(rule.then, Then::Retry | Then::Throttled) {
            reader.problem(rule.at, "after belongs to retry and throttled", "");
        }
        if let Some(reason) = &rule.reason
            && reads_secret(schema, reason)
        {
            reader.problem(reason.at(), "a reason must not hold a secret", "");
        }
    }
}

fn decides_everything(rule: &Rule) -> bool {
    let unconditional = rule.status.is_empty() && rule.when.is_empty() && rule.unless.is_empty();
    unconditional && rule.each.is_none() && rule.times.is_none()
}

fn reads_secret(schema: &Schema, data: &Data) -> bool {
    let is_secret = |path: &Path| {
        schema.settings.iter().any(|setting| setting.secret && Some(setting.name.as_str()) == path.first())
    };
    let mut open = templates_of([data]);
    let mut seen: HashSet<&str> = HashSet::new();
    while let Some(template) = open.pop() {
        for pipe in template.pipes() {
            let Written::Path(path) = &pipe.source else { continue };
            if path.root == "settings" && is_secret(path) {
                return true;
            }
            let value = schema
                .values
                .iter()
                .find(|(key, _)| path.root == "values" && Some(key.text.as_str()) == path.first());
            if let Some((key, data)) = value
                && seen.insert(&key.text)
            {
                data.templates(&mut open);
            }
        }
    }
    false
}

/// A fetch has no event that could be delivered or rejected.
fn fetch_rules(reader: &mut Reader<'_>, fetch: &Fetch) {
    for rule in &fetch.request.outcomes {
        if !matches!(rule.then, Then::Retry | Then::Throttled | Then::Unauthorised) {
            let message = format!("fetch.{}: this does not say why there is nothing to keep", fetch.name);
            reader.problem(rule.at, message, "allowed: retry, throttled, unauthorised");
        }
    }
}

/// A field behind one that takes everything gets nothing.
fn fields(reader: &mut Reader<'_>, schema: &Schema) {
    let mut taken: Option<&str> = None;
    for field in schema.rest.fields.iter().filter(|field| field.of.is_none()) {
        if let Some(name) = taken {
            reader.problem(
                field.at,
                format!("field {} gets nothing: {name} before it takes every trait", field.name),
                "",
            );
        }
        let takes_all =
            field.only.is_none() && field.names.is_none() && field.drop.is_none() && field.kinds.is_empty();
        if takes_all && taken.is_none() {
            taken = Some(&field.name);
        }
    }
}
