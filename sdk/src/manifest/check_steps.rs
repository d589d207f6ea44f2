//! What can be wrong with the steps of a delivery that follow from answers: `send:`, the upsert, and what is said between
//! the manifest and the code beside it.

use std::collections::HashSet;

use super::schema::{Request, Schema, Then};
use super::source::Reader;

pub(super) fn check(reader: &mut Reader<'_>, schema: &Schema) {
    sends(reader, schema);
    upsert(reader, schema);
    code(reader, schema);
    for request in schema.requests.iter().chain(&schema.deletes) {
        kept(reader, schema, request);
    }
}

fn named<'s>(schema: &'s Schema, name: &str) -> Option<&'s Request> {
    schema.requests.iter().find(|request| request.name == name)
}

/// Somebody names a request: it must be there and wait for that.
fn on_demand(reader: &mut Reader<'_>, schema: &Schema, at: usize, name: &str) {
    match named(schema, name) {
        None => reader.unknown(at, "request", name, schema.requests.iter().map(|other| other.name.as_str())),
        Some(request) if !request.on_demand => {
            reader.problem(at, format!("request {name} is sent anyway"), "mark it on_demand = true")
        }
        Some(_) => {}
    }
}

fn upsert(reader: &mut Reader<'_>, schema: &Schema) {
    let Some(upsert) = &schema.upsert else { return };
    let mut seen: HashSet<&str> = HashSet::new();
    for (at, name) in upsert.requests() {
        on_demand(reader, schema, *at, name);
        if !seen.insert(name) {
            reader.problem(*at, format!("upsert names request {name} twice"), "");
        }
        if named(schema, name).is_some_and(|request| request.item.is_some()) {
            reader.problem(
                *at,
                format!("request {name} of the upsert takes items"),
                "it is for one event: use body",
            );
        }
    }
    if upsert.find.is_empty() && upsert.create.is_none() {
        reader.problem(upsert.at, "upsert neither finds nor creates", "");
    }
    for (at, name) in &upsert.find {
        let finds = |request: &&Request| {
            request.keep.is_some() || request.outcomes.iter().any(|rule| rule.then == Then::Found)
        };
        if named(schema, name).filter(finds).is_none() && named(schema, name).is_some() {
            let message = format!("request {name} is to find, and does not say what");
            reader.problem(*at, message, "keep = \"{body.id}\", or a rule with then = \"found\"");
        }
    }
}

fn code(reader: &mut Reader<'_>, schema: &Schema) {
    let told = |word: &str| {
        let rules = schema.requests.iter().flat_map(|request| &request.outcomes);
        rules.into_iter().any(|rule| rule.then == Then::Tell(word.to_owned()))
    };
    let Some(code) = &schema.code else { return };
    for (at, word) in code.words.iter().filter(|(_, word)| !told(word)) {
        reader.problem(*at, format!("no rule tells {word}"), format!("then = \"tell:{word}\""));
    }
    for (at, name) in &code.asks {
        on_demand(reader, schema, *at, name);
    }
}

/// What `found`, `missing`, `tell:` and `keep` go with.
fn kept(reader: &mut Reader<'_>, schema: &Schema, request: &Request) {
    let upsert = schema.upsert.as_ref();
    let is = |names: &[(usize, String)]| names.iter().any(|(_, name)| *name == request.name);
    let finds = upsert.is_some_and(|upsert| is(&upsert.find));
    let creates =
        upsert.and_then(|upsert| upsert.create.as_ref()).is_some_and(|(_, name)| *name == request.name);
    let is_step = finds || creates || updates(schema, request);
    if let Some(keep) = &request.keep
        && !(finds || creates)
    {
        let remedy = "it says which id was found or created, in a request that upsert names";
        reader.problem(keep.at(), format!("keep in request {}", request.name), remedy);
    }
    for rule in request.outcomes.iter().filter(|rule| rule.at > request.at || is_step) {
        match &rule.then {
            Then::Found | Then::Missing if !is_step => {
                reader.problem(rule.at, "found and missing are for the requests that upsert names", "");
            }
            Then::Missing if creates => {
                reader.problem(
                    rule.at,
                    "a request that creates cannot miss anything",
                    "then = \"retry\" starts over",
                );
            }
            Then::Found if rule.keep.is_none() => {
                reader.problem(rule.at, "found does not say what", "keep = \"{body.id}\"");
            }
            Then::Tell(word) => tell(reader, schema, rule.at, word),
            _ => {}
        }
        if rule.keep.is_some() && !matches!(rule.then, Then::Found | Then::Tell(_)) {
            reader.problem(rule.at, "keep belongs to found and tell:", "");
        }
        match &rule.update {
            Some(_) if rule.then != Then::Found => reader.problem(rule.at, "update belongs to found", ""),
            Some(name) => on_demand(reader, schema, rule.at, name),
            None => {}
        }
    }
}

/// Whether a request updates what was found: the upsert's own, or one that a rule names.
fn updates(schema: &Schema, request: &Request) -> bool {
    let Some(upsert) = &schema.upsert else { return false };
    let rules = schema.requests.iter().flat_map(|request| &request.outcomes);
    let named = rules.filter_map(|rule| rule.update.as_ref());
    named.chain(upsert.update.iter().map(|(_, name)| name)).any(|name| *name == request.name)
}

fn tell(reader: &mut Reader<'_>, schema: &Schema, at: usize, word: &str) {
    match &schema.code {
        None => reader.problem(
            at,
            format!("tell:{word}: there is no code to be told"),
            "declare it in [code] words",
        ),
        Some(code) if !code.words.iter().any(|(_, known)| known == word) => {
            reader.unknown(at, "word of [code]:", word, code.words.iter().map(|(_, known)| known.as_str()));
        }
        Some(_) => {}
    }
}

/// `send:NAME` names a later request on demand, and every such request is named.
fn sends(reader: &mut Reader<'_>, schema: &Schema) {
    let mut sent: HashSet<&str> = HashSet::new();
    for (position, request) in schema.requests.iter().enumerate() {
        for rule in &request.outcomes {
            let Then::Send(name) = &rule.then else { continue };
            sent.insert(name);
            match schema.requests.iter().position(|other| other.name == *name) {
                None => reader.unknown(
                    rule.at,
                    "request",
                    name,
                    schema.requests.iter().map(|other| other.name.as_str()),
                ),
                Some(other) if other <= position => {
                    reader.problem(
                        rule.at,
                        format!("send:{name} does not name a later request"),
                        "move it behind this one",
                    );
                }
                Some(other) if !schema.requests.get(other).is_some_and(|other| other.on_demand) => {
                    reader.problem(
                        rule.at,
                        format!("send:{name}: that request is sent anyway"),
                        "mark it on_demand = true",
                    );
                }
                Some(_) => {}
            }
        }
    }
    let asked = schema.code.iter().flat_map(|code| &code.asks);
    let steps = schema.upsert.iter().flat_map(|upsert| upsert.requests());
    sent.extend(asked.chain(steps).map(|(_, name)| name.as_str()));
    for request in schema.requests.iter().filter(|request| request.on_demand) {
        if !sent.contains(request.name.as_str()) && !updates(schema, request) {
            reader.problem(
                request.at,
                format!("request {} is on demand, and nothing asks for it", request.name),
                format!(
                    "ask for it with then = \"send:{}\", in [upsert], or in asks of [code]",
                    request.name
                ),
            );
        }
    }
}
