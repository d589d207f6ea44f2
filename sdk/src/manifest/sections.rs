//! Reads a manifest's sections and keys: what may stand where, and of which TOML type.

use super::schema::{
    Adapter, Batch, Choice, CodeNames, Fetch, Field, KINDS, Kind, Policies, Request, Rest, Rule, Schema,
    Setting, Status, Then, Upsert,
};
use super::source::{Data, Key, Node, Raw, Reader, Table, get};
use super::units;

const SECTIONS: &[&str] = &[
    "adapter", "settings", "options", "identity", "tables", "values", "rest", "fetch", "upsert", "code",
    "defaults", "request", "delete",
];
const POLICY_KEYS: &[&str] = &["null", "dates", "guess_dates", "nested", "separator", "arrays", "joiner"];
const REQUEST_KEYS: &[&str] = &[
    "name",
    "when",
    "unless",
    "on_demand",
    "optional",
    "method",
    "url",
    "query",
    "headers",
    "encoding",
    "compress",
    "timeout",
    "body",
    "item",
    "batch",
    "keep",
    "limits",
    "outcomes",
];
const FIELD_KINDS: &[&str] = &["null", "true", "false", "bool", "number", "text", "date", "list", "object"];

/// Reads every section; what is wrong with them is in the reader's problems.
pub(crate) fn read(reader: &mut Reader<'_>) -> Schema {
    let tree = reader.tree();
    if tree.is_empty() {
        if reader.problems.is_empty() {
            reader.problem(0, "the manifest is empty", "");
        }
        return Schema::default();
    }
    for (key, _) in &tree {
        if !SECTIONS.contains(&key.text.as_str()) {
            reader.unknown(key.at, "section", &key.text, SECTIONS.iter().copied());
        }
    }
    let mut schema = Schema::default();
    match get(&tree, "adapter") {
        Some(node) => schema.adapter = adapter(reader, node),
        None => reader.problem(0, "section adapter is missing", ""),
    }
    match get(&tree, "identity") {
        Some(node) => schema.identity = identity(reader, node),
        None => reader.problem(
            0,
            "section identity is missing",
            "say who an event is about: key = [\"{user_id}\"]",
        ),
    }
    schema.settings = settings(reader, get(&tree, "settings"), "setting");
    schema.options = settings(reader, get(&tree, "options"), "option");
    if let Some(node) = get(&tree, "tables") {
        schema.tables = reader.table(node, "section tables").to_vec();
    }
    if let Some(node) = get(&tree, "values") {
        let entries = reader.table(node, "section values").to_vec();
        schema.values = entries.into_iter().map(|(key, value)| (key, reader.data(&value))).collect();
    }
    if let Some(node) = get(&tree, "rest") {
        schema.rest = rest(reader, node);
    }
    let none = Table::new();
    let defaults =
        get(&tree, "defaults").map_or(none.as_slice(), |node| reader.table(node, "section defaults"));
    reader.keys(&defaults.to_vec(), "defaults", REQUEST_KEYS);
    if let Some(node) = get(&tree, "fetch") {
        let fetches = reader.table(node, "section fetch").to_vec();
        schema.fetches = fetches.iter().map(|(key, node)| fetch(reader, key, node)).collect();
    }
    schema.upsert = get(&tree, "upsert").map(|node| upsert(reader, node));
    schema.code = get(&tree, "code").map(|node| code(reader, node));
    schema.requests = requests(reader, get(&tree, "request"), "request", defaults);
    schema.deletes = requests(reader, get(&tree, "delete"), "delete", defaults);
    if schema.requests.is_empty() {
        reader.problem(0, "no [[request]]", "a manifest describes at least one");
    }
    schema
}

fn adapter(reader: &mut Reader<'_>, node: &Node) -> Adapter {
    let table = reader.table(node, "section adapter").to_vec();
    reader.keys(&table, "adapter", &["name", "docs", "checked", "aliases", "opt_in", "calls", "retired"]);
    let mut needed = |name: &str| match get(&table, name) {
        Some(node) => reader.text(node, name),
        None => {
            reader.problem(node.at, format!("adapter.{name} is missing"), "");
            String::new()
        }
    };
    let (name, docs, checked) = (needed("name"), needed("docs"), needed("checked"));
    Adapter {
        name,
        docs,
        checked,
        aliases: get(&table, "aliases").map_or_else(Vec::new, |node| reader.texts(node, "adapter.aliases")),
        opt_in: get(&table, "opt_in").is_some_and(|node| reader.bool(node, "adapter.opt_in")),
        all_calls: get(&table, "calls").and_then(|node| reader.word(node, "calls", &["identify", "all"]))
            == Some("all"),
    }
}

fn identity(reader: &mut Reader<'_>, node: &Node) -> Vec<Data> {
    let table = reader.table(node, "section identity").to_vec();
    reader.keys(&table, "identity", &["key"]);
    match get(&table, "key") {
        Some(node) => reader.list(node, "identity.key").iter().map(|item| reader.data(item)).collect(),
        None => {
            reader.problem(node.at, "identity.key is missing", "");
            Vec::new()
        }
    }
}

fn settings(reader: &mut Reader<'_>, node: Option<&Node>, what: &str) -> Vec<Setting> {
    let Some(node) = node else { return Vec::new() };
    let table = reader.table(node, "the section").to_vec();
    table.iter().map(|(key, node)| setting(reader, key, node, what)).collect()
}

const SETTING_KEYS: &[&str] = &[
    "type",
    "doc",
    "default",
    "optional",
    "needed_when",
    "choices",
    "pattern",
    "min",
    "max",
    "secret",
    "docs",
    "checked",
];

fn setting(reader: &mut Reader<'_>, key: &Key, node: &Node, what: &str) -> Setting {
    let about = format!("{what} {}", key.text);
    let table = reader.table(node, &about).to_vec();
    reader.keys(&table, &about, SETTING_KEYS);
    let names: Vec<&'static str> = KINDS.iter().map(|(name, _)| *name).collect();
    let kind = match get(&table, "type") {
        Some(node) => reader.word(node, "type", &names),
        None => {
            reader.problem(node.at, format!("{about} has no type"), format!("allowed: {}", names.join(", ")));
            None
        }
    };
    let kind = KINDS.iter().find(|(name, _)| Some(*name) == kind).map_or(Kind::Text, |(_, kind)| *kind);
    let doc = get(&table, "doc").map(|node| reader.text(node, "doc")).unwrap_or_default();
    if doc.is_empty() {
        reader.problem(node.at, format!("{about} has no doc"), "say in a few words what it is");
    }
    let choices = get(&table, "choices").map_or_else(Vec::new, |node| choices(reader, node));
    if (kind == Kind::Choice) == choices.is_empty() {
        reader.problem(node.at, format!("{about}: choices belong to type choice, and it needs them"), "");
    }
    let number = |reader: &mut Reader<'_>, name: &str| {
        let node = get(&table, name)?;
        match &node.value {
            Raw::Number(number) => number.parse().ok(),
            _ => {
                reader.problem(node.at, format!("{about}: {name} must be a number"), "");
                None
            }
        }
    };
    let default = get(&table, "default").map(|node| reader.data(node));
    if let (Kind::Choice, Some(Data::Text(text))) = (kind, &default)
        && let Some(text) = text.plain()
        && !choices.iter().any(|choice| choice.name == text)
    {
        let at = get(&table, "default").map_or(node.at, |node| node.at);
        reader.unknown(
            at,
            &format!("choice of {about}:"),
            text,
            choices.iter().map(|choice| choice.name.as_str()),
        );
    }
    let (min, max) = (number(reader, "min"), number(reader, "max"));
    let needed_when = get(&table, "needed_when").map(|node| reader.data(node));
    if let (Some(_), Some(_), Some(node)) = (&needed_when, &default, get(&table, "needed_when")) {
        reader.problem(
            node.at,
            format!("{about}: with a default it is never missing"),
            "leave needed_when out",
        );
    }
    Setting {
        at: key.at,
        name: key.text.clone(),
        kind,
        doc,
        default,
        optional: needed_when.is_some()
            || get(&table, "optional").is_some_and(|node| reader.bool(node, "optional")),
        needed_when,
        choices,
        pattern: get(&table, "pattern").map(|node| reader.text(node, "pattern")),
        min,
        max,
        secret: kind == Kind::Secret || get(&table, "secret").is_some_and(|node| reader.bool(node, "secret")),
    }
}

fn choices(reader: &mut Reader<'_>, node: &Node) -> Vec<Choice> {
    if let Raw::List(items) = &node.value {
        let choice = |item| Choice { name: reader.text(item, "a choice"), attributes: Vec::new() };
        return items.iter().map(choice).collect();
    }
    let table = reader.table(node, "choices").to_vec();
    let mut found = Vec::new();
    for (key, node) in &table {
        let attributes = reader.table(node, "a choice").to_vec();
        let attribute = |(key, node): &(Key, Node)| (key.text.clone(), reader.text(node, "an attribute"));
        found.push(Choice { name: key.text.clone(), attributes: attributes.iter().map(attribute).collect() });
    }
    found
}

fn data(reader: &mut Reader<'_>, table: &[(Key, Node)], name: &str) -> Option<Data> {
    get(table, name).map(|node| reader.data(node))
}

fn policies(reader: &mut Reader<'_>, table: &[(Key, Node)]) -> Policies {
    Policies {
        null: data(reader, table, "null"),
        dates: data(reader, table, "dates"),
        guess_dates: data(reader, table, "guess_dates"),
        nested: data(reader, table, "nested"),
        separator: data(reader, table, "separator"),
        arrays: data(reader, table, "arrays"),
        joiner: data(reader, table, "joiner"),
    }
}

fn rest(reader: &mut Reader<'_>, node: &Node) -> Rest {
    let table = reader.table(node, "section rest").to_vec();
    let mut allowed = POLICY_KEYS.to_vec();
    allowed.extend(["drop", "copy", "fields"]);
    reader.keys(&table, "rest", &allowed);
    Rest {
        policies: policies(reader, &table),
        drop: get(&table, "drop").map_or_else(Vec::new, |node| reader.texts(node, "rest.drop")),
        copy: get(&table, "copy").map_or_else(Vec::new, |node| reader.texts(node, "rest.copy")),
        fields: get(&table, "fields").map_or_else(Vec::new, |node| {
            reader.list(node, "rest.fields").iter().map(|item| field(reader, item)).collect()
        }),
    }
}

fn field(reader: &mut Reader<'_>, node: &Node) -> Field {
    let table = reader.table(node, "an entry of rest.fields").to_vec();
    let mut allowed = vec!["name", "of", "only", "names", "drop", "kinds", "key", "value", "max"];
    allowed.extend(POLICY_KEYS);
    reader.keys(&table, "an entry of rest.fields", &allowed);
    let name = get(&table, "name").map(|node| reader.text(node, "name")).unwrap_or_default();
    if name.is_empty() {
        reader.problem(node.at, "an entry of rest.fields has no name", "");
    }
    let kinds = get(&table, "kinds").map_or_else(Vec::new, |node| {
        reader.list(node, "kinds").iter().filter_map(|item| reader.word(item, "kind", FIELD_KINDS)).collect()
    });
    Field {
        at: node.at,
        name,
        of: data(reader, &table, "of"),
        only: data(reader, &table, "only"),
        names: data(reader, &table, "names"),
        drop: data(reader, &table, "drop"),
        kinds,
        key: data(reader, &table, "key"),
        value: data(reader, &table, "value"),
        max: get(&table, "max").and_then(|node| count(reader, node, "max")),
        policies: policies(reader, &table),
    }
}

fn count(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<usize> {
    let number = match &node.value {
        Raw::Number(number) => number.parse().ok().filter(|number| *number > 0),
        _ => None,
    };
    if number.is_none() {
        reader.problem(node.at, format!("{what} must be a whole number above 0"), "");
    }
    number
}

fn fetch(reader: &mut Reader<'_>, key: &Key, node: &Node) -> Fetch {
    let about = format!("fetch.{}", key.text);
    let table = reader.table(node, &about).to_vec();
    let mut allowed = vec![
        "keep", "each", "key", "for", "method", "url", "query", "headers", "encoding", "timeout", "body",
        "outcomes",
    ];
    allowed.sort_unstable();
    reader.keys(&table, &about, &allowed);
    for name in ["keep", "for"] {
        if get(&table, name).is_none() {
            reader.problem(key.at, format!("{about}.{name} is missing"), "");
        }
    }
    Fetch {
        name: key.text.clone(),
        at: key.at,
        keep: data(reader, &table, "keep"),
        each: data(reader, &table, "each"),
        key: data(reader, &table, "key"),
        lasts: data(reader, &table, "for"),
        // `keep` is the fetch's own.
        request: Request { keep: None, ..request(reader, key.at, &table, &[]) },
    }
}

fn upsert(reader: &mut Reader<'_>, node: &Node) -> Upsert {
    let table = reader.table(node, "section upsert").to_vec();
    reader.keys(&table, "upsert", &["find", "update", "create", "remember", "when"]);
    let mut one = |name: &str| get(&table, name).map(|node| (node.at, reader.text(node, name)));
    let (update, create) = (one("update"), one("create"));
    if update.is_none() {
        reader.problem(node.at, "upsert.update is missing", "name the request that updates what was found");
    }
    Upsert {
        at: node.at,
        find: get(&table, "find").map_or_else(Vec::new, |node| names(reader, node, "upsert.find")),
        update,
        create,
        remember: get(&table, "remember").and_then(|node| reader.duration(node, "upsert.remember")),
        when: get(&table, "when").map_or_else(Vec::new, |node| conditions(reader, node)),
    }
}

fn code(reader: &mut Reader<'_>, node: &Node) -> CodeNames {
    let table = reader.table(node, "section code").to_vec();
    reader.keys(&table, "code", &["words", "gives", "asks"]);
    let mut list = |name: &str| get(&table, name).map_or_else(Vec::new, |node| names(reader, node, name));
    CodeNames { words: list("words"), gives: list("gives"), asks: list("asks") }
}

/// A list of names, each with its place.
fn names(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<(usize, String)> {
    let items = reader.list(node, what).to_vec();
    items.iter().map(|item| (item.at, reader.text(item, what))).collect()
}

fn requests(
    reader: &mut Reader<'_>,
    node: Option<&Node>,
    section: &str,
    defaults: &[(Key, Node)],
) -> Vec<Request> {
    let Some(node) = node else { return Vec::new() };
    let items = reader.list(node, &format!("section {section}")).to_vec();
    let mut found = Vec::new();
    for item in &items {
        let table = reader.table(item, &format!("section {section}")).to_vec();
        reader.keys(&table, section, REQUEST_KEYS);
        let request = request(reader, item.at, &table, defaults);
        if found.iter().any(|other: &Request| other.name == request.name) {
            reader.problem(
                item.at,
                format!("two {section}s are called {}", request.name),
                "give each its own name",
            );
        }
        found.push(request);
    }
    found
}

fn request(reader: &mut Reader<'_>, at: usize, table: &[(Key, Node)], defaults: &[(Key, Node)]) -> Request {
    let find = |name: &str| get(table, name).or_else(|| get(defaults, name));
    let limits = find("limits").map(|node| reader.table(node, "limits").to_vec()).unwrap_or_default();
    reader.keys(&limits, "limits", &["rates", "concurrency", "docs", "checked"]);
    let mut rates = Vec::new();
    if let Some(node) = get(&limits, "rates") {
        for item in reader.list(node, "limits.rates") {
            let text = reader.text(item, "a rate");
            match units::rate(&text) {
                Some(rate) => rates.push(rate),
                None => reader.problem(
                    item.at,
                    format!("no rate: {text}"),
                    "write it like \"100 requests per 10 s\"; also items, bytes",
                ),
            }
        }
    }
    let mut outcomes = Vec::new();
    for rules in [get(table, "outcomes"), get(defaults, "outcomes")].into_iter().flatten() {
        for item in reader.list(rules, "outcomes") {
            outcomes.extend(rule(reader, item));
        }
    }
    let merged = |reader: &mut Reader<'_>, name: &str| match (
        get(table, name).map(|node| reader.data(node)),
        get(defaults, name).map(|node| reader.data(node)),
    ) {
        (Some(Data::Table(at, mut own)), Some(Data::Table(_, general))) => {
            let missing: Vec<_> = general
                .into_iter()
                .filter(|entry| !own.iter().any(|o| o.key.plain() == entry.key.plain()))
                .collect();
            own.extend(missing);
            Some(Data::Table(at, own))
        }
        (own, general) => own.or(general),
    };
    let (query, headers) = (merged(reader, "query"), merged(reader, "headers"));
    if let Some(node) = find("compress") {
        reader.problem(node.at, "compress is not available yet", "leave it out; bodies are sent as they are");
    }
    Request {
        at,
        name: get(table, "name").map_or_else(|| "main".to_owned(), |node| reader.text(node, "name")),
        when: find("when").map_or_else(Vec::new, |node| conditions(reader, node)),
        unless: find("unless").map_or_else(Vec::new, |node| conditions(reader, node)),
        on_demand: find("on_demand").is_some_and(|node| reader.bool(node, "on_demand")),
        optional: find("optional").is_some_and(|node| reader.bool(node, "optional")),
        method: find("method").map(|node| reader.data(node)),
        url: find("url").map(|node| reader.data(node)),
        query,
        headers,
        encoding: find("encoding").map(|node| reader.data(node)),
        timeout: find("timeout").and_then(|node| reader.duration(node, "timeout")),
        body: find("body").map(|node| reader.data(node)),
        item: find("item").map(|node| reader.data(node)),
        batch: find("batch").map(|node| batch(reader, node)),
        keep: get(table, "keep").map(|node| reader.data(node)),
        rates,
        concurrency: get(&limits, "concurrency").and_then(|node| count(reader, node, "limits.concurrency")),
        outcomes,
    }
}

fn batch(reader: &mut Reader<'_>, node: &Node) -> Batch {
    let table = reader.table(node, "batch").to_vec();
    reader.keys(&table, "batch", &["items", "bytes", "item_bytes", "linger"]);
    Batch {
        at: node.at,
        items: data(reader, &table, "items"),
        bytes: get(&table, "bytes").and_then(|node| reader.size(node, "batch.bytes")),
        item_bytes: get(&table, "item_bytes").and_then(|node| reader.size(node, "batch.item_bytes")),
        linger: get(&table, "linger").and_then(|node| reader.duration(node, "batch.linger")),
    }
}

fn conditions(reader: &mut Reader<'_>, node: &Node) -> Vec<Data> {
    match &node.value {
        Raw::List(items) => items.iter().map(|item| reader.data(item)).collect(),
        _ => vec![reader.data(node)],
    }
}

const RULE_KEYS: &[&str] = &[
    "status", "when", "unless", "each", "index", "id", "item", "then", "after", "times", "pace", "reason",
    "keep", "update",
];
const THEN: &[(&str, Then)] = &[
    ("delivered", Then::Delivered),
    ("submitted", Then::Submitted),
    ("retry", Then::Retry),
    ("throttled", Then::Throttled),
    ("rejected", Then::Rejected),
    ("unauthorised", Then::Unauthorised),
    ("split", Then::Split),
    ("found", Then::Found),
    ("missing", Then::Missing),
];

fn rule(reader: &mut Reader<'_>, node: &Node) -> Option<Rule> {
    let table = reader.table(node, "an outcome rule").to_vec();
    reader.keys(&table, "an outcome rule", RULE_KEYS);
    let Some(then_node) = get(&table, "then") else {
        reader.problem(node.at, "an outcome rule has no then", "say what it means: then = \"rejected\"");
        return None;
    };
    let word = reader.text(then_node, "then");
    let known = THEN.iter().find(|(name, _)| *name == word).map(|(_, then)| then.clone());
    let sends = || word.strip_prefix("send:").map(|name| Then::Send(name.to_owned()));
    let tells = || word.strip_prefix("tell:").map(|word| Then::Tell(word.to_owned()));
    let Some(then) = known.or_else(sends).or_else(tells) else {
        let names = THEN.iter().map(|(name, _)| *name).chain(["send:NAME", "tell:WORD"]);
        reader.unknown(then_node.at, "outcome", &word, names);
        return None;
    };
    Some(Rule {
        at: node.at,
        status: get(&table, "status").map_or_else(Vec::new, |node| statuses(reader, node)),
        when: get(&table, "when").map_or_else(Vec::new, |node| conditions(reader, node)),
        unless: get(&table, "unless").map_or_else(Vec::new, |node| conditions(reader, node)),
        each: data(reader, &table, "each"),
        index: data(reader, &table, "index"),
        id: data(reader, &table, "id"),
        item: data(reader, &table, "item"),
        then,
        after: data(reader, &table, "after"),
        times: get(&table, "times").and_then(|node| count(reader, node, "times")).map(|times| times as u32),
        pace: get(&table, "pace").and_then(|node| reader.duration(node, "pace")),
        reason: data(reader, &table, "reason"),
        keep: data(reader, &table, "keep"),
        update: get(&table, "update").map(|node| reader.text(node, "update")),
    })
}

fn statuses(reader: &mut Reader<'_>, node: &Node) -> Vec<Status> {
    let nodes = match &node.value {
        Raw::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut found = Vec::new();
    for node in nodes {
        let status = match &node.value {
            Raw::Number(number) => {
                number.parse().ok().filter(|n| (100..600).contains(n)).map(Status::Exactly)
            }
            Raw::Text(text) => text
                .strip_suffix("xx")
                .and_then(|n| n.parse().ok())
                .filter(|n| (1..6).contains(n))
                .map(Status::Hundreds),
            _ => None,
        };
        match status {
            Some(status) => found.push(status),
            None => {
                reader.problem(node.at, "no status", "write a number such as 404, a list of them, or \"4xx\"")
            }
        }
    }
    found
}
