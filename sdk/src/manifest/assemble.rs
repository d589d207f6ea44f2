//! Puts a plan together: binds every section of a manifest with the settings of one destination, and decides what the
//! settings alone decide.

use std::collections::HashSet;
use std::time::Duration;

use super::bind::{Binder, NameIds, Place, reserved};
use super::expression::{Source as Written, Template};
use super::forms::{DatePolicy, TextForm};
use super::lookup::NameMap;
use super::plan::{Caps, Encoding, FetchPlan, Program, RequestPlan, Role, RulePlan, UpsertPlan, Wait};
use super::rest::{Arrays, Entry, Kinds, Naming, Nested, Null, Only, Rest};
use super::schema::{Fetch, Field, Policies, Request, Rule, Schema, Setting, Then, templates_of};
use super::source::Data;
use super::tree::{Needs, Node, Source};
use super::value::Value;
use super::{settings, units};
use crate::names::Root;
use crate::problem::Problem;
use crate::reserved::{Group, Reserved};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_REMEMBER: Duration = Duration::from_secs(3600);
const DEFAULT_LINGER: Duration = Duration::from_millis(100);
/// Where a manifest says nothing about the size of a request.
const DEFAULT_BYTES: usize = 4 << 20;

/// Binds a manifest for a destination.
pub(crate) fn assemble(
    schema: &Schema,
    names: &NameIds,
    destination: &str,
    given: &toml::Table,
) -> Result<Program, Vec<Problem>> {
    let (values, mut problems) = settings::read(schema, destination, given);
    let is_refused =
        |(setting, value): (&Setting, &Option<_>)| value.is_none() && given.contains_key(&setting.name);
    let any_refused = schema.settings.iter().zip(&values).any(is_refused);
    let mut binder = Binder::new(schema, names, values);
    binder.fill_defaults();
    // A setting that was given and refused would make others necessary, or not.
    if !any_refused {
        problems.extend(settings::missing(schema, destination, &mut binder));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut problem = |message: String, remedy: &str| {
        problems.push(Problem {
            file: String::new(),
            line: 0,
            column: 0,
            message: format!("destination {destination}: {message}"),
            remedy: remedy.to_owned(),
        });
    };
    for (setting, value) in schema.settings.iter().zip(&binder.settings) {
        if let Some(value) = value
            && let Err(wrong) = settings::check(setting, value)
        {
            problem(format!("setting {} {wrong}", setting.name), &setting.doc);
        }
    }
    let mut program = Program::default();
    for (setting, value) in schema.settings.iter().zip(&binder.settings) {
        if let (true, Some(value)) = (setting.secret, value) {
            settings::secret_texts(value, &mut program.secrets);
        }
    }
    program.secrets = program.secrets.iter().flat_map(|secret| super::written::forms(secret)).collect();
    program.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    program.secrets.dedup();
    program.rest = rest(schema, names, &mut binder);
    let identity = schema.identity.iter().map(|data| binder.data(data, Place::Plain)).collect();
    program.identity = Some(super::bind::first(identity));
    program.fetches = schema.fetches.iter().map(|fetch| fetch_plan(schema, &mut binder, fetch)).collect();
    program.requests = schema
        .requests
        .iter()
        .map(|request| {
            let (plan, wrong) = request_plan(schema, &mut binder, request);
            if let Some(wrong) = wrong {
                problem(wrong, "");
            }
            plan
        })
        .collect();
    program.gives = schema.code.iter().flat_map(|code| &code.gives).map(|(_, name)| name.clone()).collect();
    program.upsert = upsert_plan(schema, &mut binder);
    if let Some(upsert) = &program.upsert {
        give_roles(upsert, &mut program.requests);
    }
    for slot in 0..schema.values.len() {
        program.values.push(binder.values.get_mut(slot).and_then(Option::take).unwrap_or(Node::Absent));
    }
    let needs: Vec<(Needs, bool, bool)> =
        program.requests.iter().map(|request| request_needs(&program, request)).collect();
    let rules: Vec<bool> =
        program.requests.iter().map(|request| rules_need(&program, request).event).collect();
    let late: Vec<bool> =
        program.requests.iter().map(|request| has_late_conditions(&program, request)).collect();
    for (((request, (outside, inside_fetch, is_late)), reads), late) in
        program.requests.iter_mut().zip(needs).zip(rules).zip(late)
    {
        request.late_conditions = late;
        request.outside = outside;
        request.inside_fetch = inside_fetch;
        request.is_late = is_late;
        request.rules_read_event = reads;
    }
    if problems.is_empty() { Ok(program) } else { Err(problems) }
}

/// What stands outside the items depends on, and whether the bytes can be made only when they are sent.
fn request_needs(program: &Program, request: &RequestPlan) -> (Needs, bool, bool) {
    let outside =
        [Some(&request.url), request.query.as_ref(), request.headers.as_ref(), request.body.as_ref()];
    let outside =
        outside.into_iter().flatten().fold(Needs::default(), |needs, node| needs.or(program.needs(node)));
    let inside = request.records.iter().fold(Needs::default(), |needs, node| needs.or(program.needs(node)));
    let body = request
        .body
        .as_ref()
        .filter(|_| !request.is_batch)
        .map(|node| program.needs(node))
        .unwrap_or_default();
    let inside = inside.or(body);
    (outside, inside.fetch, inside.fetch || inside.reply)
}

fn has_late_conditions(program: &Program, request: &RequestPlan) -> bool {
    request.when.iter().chain(&request.unless).any(|node| program.needs(node).reply)
}

/// What the rules of a request ask for.
fn rules_need(program: &Program, request: &RequestPlan) -> Needs {
    let of_rule = |rule: &RulePlan| {
        let parts = [&rule.each, &rule.keep, &rule.reason].into_iter().flatten();
        let nodes = rule.when.iter().chain(&rule.unless).chain(parts);
        nodes.fold(Needs::default(), |needs, node| needs.or(program.needs(node)))
    };
    let keep = request.keep.as_ref().map(|node| program.needs(node)).unwrap_or_default();
    request.rules.iter().fold(keep, |needs, rule| needs.or(of_rule(rule)))
}

/// The upsert, where the settings ask for it.
fn upsert_plan(schema: &Schema, binder: &mut Binder<'_>) -> Option<UpsertPlan> {
    let upsert = schema.upsert.as_ref()?;
    if conditions(binder, &upsert.when).iter().any(|node| decided(node) == Some(false)) {
        return None;
    }
    let position =
        |(_, name): &(usize, String)| schema.requests.iter().position(|request| request.name == *name);
    Some(UpsertPlan {
        find: upsert.find.iter().filter_map(position).collect(),
        update: upsert.update.as_ref().and_then(position)?,
        create: upsert.create.as_ref().and_then(position),
        remember: upsert.remember.unwrap_or(DEFAULT_REMEMBER),
    })
}

fn give_roles(upsert: &UpsertPlan, requests: &mut [RequestPlan]) {
    let others: Vec<usize> =
        requests.iter().flat_map(|request| &request.rules).filter_map(|rule| rule.update).collect();
    for (position, request) in requests.iter_mut().enumerate() {
        request.stands = position == upsert.create.unwrap_or(upsert.update);
        if upsert.find.contains(&position) {
            request.role = Role::Find;
        } else if position == upsert.update || others.contains(&position) {
            request.role = Role::Update;
        }
    }
}

fn conditions(binder: &mut Binder<'_>, data: &[Data]) -> Vec<Node> {
    data.iter().map(|data| binder.data(data, Place::Plain)).collect()
}

/// Whether conditions are decided by the settings, and how.
fn decided(node: &Node) -> Option<bool> {
    match node {
        Node::Absent => Some(false),
        _ => node.as_constant().map(|constant| constant.value.holds()),
    }
}

fn request_plan(
    schema: &Schema,
    binder: &mut Binder<'_>,
    request: &Request,
) -> (RequestPlan, Option<String>) {
    let mut wrong = None;
    let when = conditions(binder, &request.when);
    let unless = conditions(binder, &request.unless);
    let active = !when.iter().any(|node| decided(node) == Some(false))
        && !unless.iter().any(|node| decided(node) == Some(true));
    let body = binder.optional(&request.body, Place::Body);
    let records = match &request.item {
        Some(Data::List(_, items)) => items.iter().map(|item| binder.data(item, Place::Body)).collect(),
        Some(item) => vec![binder.data(item, Place::Body)],
        None => Vec::new(),
    };
    let method = binder.optional(&request.method, Place::Plain).unwrap_or_else(|| Node::text("POST"));
    let Some(method) = method_of(&method) else {
        return (
            request_plan(schema, binder, &Request { method: None, ..request.clone() }).0,
            Some(format!("request {}: no such method", request.name)),
        );
    };
    let encoding = binder.optional(&request.encoding, Place::Plain);
    let encoding = match encoding
        .as_ref()
        .and_then(Node::as_constant)
        .and_then(|constant| constant.value.as_text())
        .as_deref()
    {
        None | Some("json") => Encoding::Json,
        Some("form") => Encoding::Form,
        Some("lines") => Encoding::Lines,
        Some(other) => {
            wrong = Some(format!("encoding {other} is not available; choose json, form or lines"));
            Encoding::Json
        }
    };
    let url = binder.optional(&request.url, Place::Origin).map_or(Node::Absent, ended_authority);
    if active && matches!(url, Node::Absent) {
        wrong = Some(format!("request {}: the settings leave it without a url", request.name));
    }
    let is_batch = !records.is_empty();
    let plan = RequestPlan {
        name: request.name.as_str().into(),
        active,
        when: when.into_iter().filter(|node| decided(node).is_none()).collect(),
        unless: unless.into_iter().filter(|node| decided(node).is_none()).collect(),
        on_demand: request.on_demand,
        optional: request.optional,
        method,
        url,
        query: binder.optional(&request.query, Place::Plain),
        headers: binder.optional(&request.headers, Place::Plain),
        encoding,
        timeout: request.timeout.unwrap_or(DEFAULT_TIMEOUT),
        body,
        records,
        is_batch,
        role: Role::Plain,
        stands: false,
        keep: binder.optional(&request.keep, Place::Plain),
        rules_read_event: false,
        caps: caps(binder, request, is_batch),
        rates: request.rates.clone(),
        concurrency: request.concurrency,
        rules: request.outcomes.iter().map(|rule| rule_plan(schema, binder, rule)).collect(),
        outside: Needs::default(),
        inside_fetch: false,
        is_late: false,
        late_conditions: false,
    };
    (plan, wrong)
}

fn caps(binder: &mut Binder<'_>, request: &Request, is_batch: bool) -> Caps {
    let batch = request.batch.clone().unwrap_or_default();
    let items = batch.items.as_ref().and_then(|items| binder.constant(items));
    let items = items.and_then(|items| items.as_text().and_then(|text| text.parse().ok())).unwrap_or(1);
    Caps {
        items: if is_batch { items } else { 1 },
        bytes: batch.bytes.unwrap_or(DEFAULT_BYTES),
        item_bytes: batch.item_bytes.or(batch.bytes).unwrap_or(DEFAULT_BYTES),
        linger: batch.linger.unwrap_or(DEFAULT_LINGER),
    }
}

/// What is put behind a bare authority belongs to the path, never to the host.
fn ended_authority(url: Node) -> Node {
    let Node::Text(parts) = url else { return url };
    let mut parts = parts.into_vec();
    let mut start = String::new();
    let mut secret = false;
    let constants = parts.iter().take_while(|part| part.as_constant().is_some()).count();
    for part in parts.iter().take(constants).filter_map(Node::as_constant) {
        start.push_str(&part.value.as_text().unwrap_or_default());
        secret |= part.secret;
    }
    let authority = start.split_once("://").map_or("", |(_, rest)| rest);
    if !authority.is_empty() && !authority.contains(['/', '?']) {
        start.push('/');
    }
    parts.splice(..constants, [Node::constant(Value::text(start), secret, false)]);
    Node::Text(parts.into())
}

fn method_of(node: &Node) -> Option<&'static str> {
    let text = node.as_constant()?.value.as_text()?.into_owned();
    ["POST", "PUT", "PATCH", "GET", "DELETE"].into_iter().find(|method| *method == text)
}

fn rule_plan(schema: &Schema, binder: &mut Binder<'_>, rule: &Rule) -> RulePlan {
    let position = |name: &String| schema.requests.iter().position(|request| request.name == *name);
    let send = match &rule.then {
        Then::Send(name) => position(name),
        _ => None,
    };
    RulePlan {
        status: rule.status.clone(),
        when: conditions(binder, &rule.when),
        unless: conditions(binder, &rule.unless),
        each: binder.optional(&rule.each, Place::Plain),
        index: binder.optional(&rule.index, Place::Plain),
        id: binder.optional(&rule.id, Place::Plain),
        item: binder.optional(&rule.item, Place::Plain),
        then: rule.then.clone(),
        send,
        after: rule.after.as_ref().map(|after| wait(binder, after)),
        times: rule.times,
        pace: rule.pace,
        reason: rule.reason.as_ref().map(|reason| binder.partial(reason)),
        keep: binder.optional(&rule.keep, Place::Plain),
        update: rule.update.as_ref().and_then(position),
    }
}

fn wait(binder: &mut Binder<'_>, data: &Data) -> Wait {
    if let Data::Text(template) = data
        && let Some(duration) = template.plain().and_then(units::duration)
    {
        return Wait::Fixed(duration);
    }
    Wait::Node(binder.data(data, Place::Plain))
}

fn fetch_plan(schema: &Schema, binder: &mut Binder<'_>, fetch: &Fetch) -> FetchPlan {
    let request = &fetch.request;
    let method = binder.optional(&request.method, Place::Plain).unwrap_or_else(|| Node::text("POST"));
    FetchPlan {
        name: fetch.name.clone(),
        method: method_of(&method).unwrap_or("POST"),
        url: binder.optional(&request.url, Place::Url).map_or(Node::Absent, ended_authority),
        query: binder.optional(&request.query, Place::Plain),
        headers: binder.optional(&request.headers, Place::Plain),
        encoding: match &request.encoding {
            Some(Data::Text(template)) if template.plain() == Some("form") => Encoding::Form,
            _ => Encoding::Json,
        },
        timeout: request.timeout.unwrap_or(DEFAULT_TIMEOUT),
        body: binder.optional(&request.body, Place::Plain),
        keep: binder.optional(&fetch.keep, Place::Plain).unwrap_or(Node::Absent),
        each: binder.optional(&fetch.each, Place::Plain),
        key: binder.optional(&fetch.key, Place::Plain),
        lasts: fetch.lasts.as_ref().map(|lasts| wait(binder, lasts)),
        rules: request.outcomes.iter().map(|rule| rule_plan(schema, binder, rule)).collect(),
    }
}

/// The traits that bodies, items and queries name, through values too: reserved ones, and paths of custom ones.
fn placed(schema: &Schema) -> (HashSet<Reserved>, HashSet<Vec<String>>) {
    let data = schema.requests.iter().flat_map(|request| [&request.body, &request.item, &request.query]);
    let mut open: Vec<&Template> = templates_of(data.flatten());
    let mut seen: HashSet<&str> = HashSet::new();
    let (mut reserved_ones, mut customs) = (HashSet::new(), HashSet::new());
    while let Some(template) = open.pop() {
        let steps = template.pipes().flat_map(|pipe| pipe.steps.iter().flat_map(|step| &step.args));
        for source in template.pipes().map(|pipe| &pipe.source).chain(steps) {
            let Written::Path(path) = source else { continue };
            match path.root.as_str() {
                "traits" => match reserved(path) {
                    Some(Source::Reserved(one)) => {
                        reserved_ones.insert(one);
                    }
                    Some(Source::Group(group)) => {
                        reserved_ones.extend(Reserved::ALL.iter().filter(|one| one.place().0 == Some(group)));
                    }
                    _ => {}
                },
                "custom" => customs.extend(path.names()),
                "values" => {
                    let value = schema.values.iter().find(|(key, _)| Some(key.text.as_str()) == path.first());
                    if let Some((key, data)) = value
                        && seen.insert(&key.text)
                    {
                        data.templates(&mut open);
                    }
                }
                _ => {}
            }
        }
    }
    (reserved_ones, customs)
}

fn rest(schema: &Schema, names: &NameIds, binder: &mut Binder<'_>) -> Rest {
    let base = &schema.rest;
    let null = null_policy(binder, &base.policies.null).unwrap_or_default();
    binder.drops_nulls = null == Null::Drop;
    let (mut taken, customs) = placed(schema);
    let mut dropped = Vec::new();
    let is_in = |list: &[String], name: &str| list.iter().any(|one| one == name);
    for reserved in Reserved::ALL {
        let group = reserved.place().0.map(Group::name);
        if is_in(&base.copy, reserved.name()) || group.is_some_and(|group| is_in(&base.copy, group)) {
            taken.remove(reserved);
        }
        if is_in(&base.drop, reserved.name()) || group.is_some_and(|group| is_in(&base.drop, group)) {
            taken.insert(*reserved);
            dropped.push(*reserved);
        }
    }
    let left = |group: Option<Group>| {
        let is_left = |one: &&Reserved| one.place().0 == group && !taken.contains(one);
        Reserved::ALL.iter().filter(is_left).copied().collect::<Vec<_>>()
    };
    let scalars = left(None);
    let is_placed = |path: &Vec<String>| match path.as_slice() {
        [name] => !is_in(&base.copy, name),
        [group, _] => Group::ALL.iter().any(|one| one.name() == group) && !is_in(&base.copy, group),
        _ => false,
    };
    let placed = customs.iter().filter(|path| is_placed(path));
    let nulls = Reserved::ALL.iter().filter(|one| taken.contains(one) && !dropped.contains(one));
    let mut rest = Rest {
        nulls: if null == Null::Drop { nulls.copied().collect() } else { Vec::new() },
        null,
        dates: binder.optional(&base.policies.dates, Place::Plain).map(DatePolicy::new),
        fields: binder.fields.len(),
        scalars: Vec::new(),
        groups: Group::ALL
            .iter()
            .filter(|group| !is_in(&base.drop, group.name()))
            .map(|group| {
                let members = left(Some(*group)).into_iter().map(|one| (one, one.place().1));
                (*group, members.collect())
            })
            .collect(),
        placed: placed.filter_map(|path| names.get(&(Root::Custom, path.clone())).copied()).collect(),
        drop: base.drop.iter().cloned().collect(),
        entries: Vec::new(),
    };
    for field in &base.fields {
        rest.entries.extend(entry(binder, &base.policies, field));
    }
    rest.scalars = rest.scalars(&scalars);
    for slot in 0..binder.fields.len() {
        if let Some(live) = binder.live_fields.get_mut(slot) {
            *live = rest.entries.iter().any(|entry| entry.field == slot);
        }
    }
    rest
}

fn null_policy(binder: &mut Binder<'_>, data: &Option<Data>) -> Option<Null> {
    let data = data.as_ref()?;
    if let Data::Table(_, entries) = data {
        let write = entries.first().map(|entry| binder.data(&entry.value, Place::Plain));
        return write.and_then(|node| node.as_constant().map(|constant| Null::Write(constant.json.clone())));
    }
    Some(if word(binder, data) == "keep" { Null::Keep } else { Null::Drop })
}

fn word(binder: &mut Binder<'_>, data: &Data) -> String {
    let value = binder.constant(data);
    value.and_then(|value| value.as_text().map(|text| text.into_owned())).unwrap_or_default()
}

fn words<T: FromIterator<String> + Default>(value: &Value<'static>) -> T {
    settings::as_table(value).map(|table| table.names().iter().cloned().collect()).unwrap_or_default()
}

/// An entry, unless the settings leave it nothing to take.
fn entry(binder: &mut Binder<'_>, base: &Policies, field: &Field) -> Option<Entry> {
    let own = &field.policies;
    let only = match &field.only {
        None => Only::All,
        Some(data) => match binder.data(data, Place::Plain) {
            Node::Absent => return None,
            Node::Constant(constant) => Only::Names(words(&constant.value)),
            node => Only::Node(node),
        },
    };
    if matches!(&only, Only::Names(names) if names.is_empty()) {
        return None;
    }
    let names: Option<NameMap<String>> = match &field.names {
        None => None,
        Some(data) => {
            let members = binder.constant(data).and_then(Value::members).unwrap_or_default();
            let named = |(key, value): (std::borrow::Cow<'static, str>, Value<'static>)| {
                Some((key.into_owned(), value.as_text()?.into_owned()))
            };
            Some(members.into_iter().filter_map(named).collect())
        }
    };
    if names.as_ref().is_some_and(NameMap::is_empty) {
        return None;
    }
    let of = field.of.as_ref().filter(|of| !is_rest(of)).map(|of| binder.data(of, Place::Plain));
    if matches!(of, Some(Node::Absent)) {
        return None;
    }
    let mut policy = |own: &Option<Data>, base: &Option<Data>, default: &str| {
        own.as_ref().or(base.as_ref()).map_or_else(|| default.to_owned(), |data| word(binder, data))
    };
    let separator = policy(&own.separator, &base.separator, "_");
    let joiner = policy(&own.joiner, &base.joiner, ",");
    let nested = match policy(&own.nested, &base.nested, "keep").as_str() {
        "drop" => Nested::Drop,
        "json" => Nested::Json,
        "flatten" => Nested::Flatten(separator.into()),
        _ => Nested::Keep,
    };
    let arrays = match policy(&own.arrays, &base.arrays, "keep").as_str() {
        "drop" => Arrays::Drop,
        "json" => Arrays::Json,
        "join" => Arrays::Join(joiner.into()),
        "index" => Arrays::Index,
        _ => Arrays::Keep,
    };
    let guess_dates = policy(&own.guess_dates, &base.guess_dates, "false") == "true";
    let null = null_policy(binder, &own.null).or_else(|| null_policy(binder, &base.null)).unwrap_or_default();
    let dates = own
        .dates
        .as_ref()
        .or(base.dates.as_ref())
        .map(|data| DatePolicy::new(binder.data(data, Place::Plain)));
    let key = binder.optional(&field.key, Place::Plain);
    let kinds = Kinds::named(&field.kinds);
    let accepts = kinds.accepted(guess_dates, &nested, &arrays, &only);
    Some(Entry {
        field: binder.fields.iter().position(|name| *name == field.name).unwrap_or(0),
        of,
        only,
        names,
        drop: field
            .drop
            .as_ref()
            .and_then(|data| binder.constant(data))
            .map(|value| words(&value))
            .unwrap_or_default(),
        kinds,
        accepts,
        naming: naming(key.as_ref()),
        key,
        value: binder.optional(&field.value, Place::Plain),
        max: field.max.unwrap_or(usize::MAX),
        null,
        nested,
        arrays,
        dates,
        guess_dates,
    })
}

/// How an entry's names are made, where that is one of the usual ways.
fn naming(key: Option<&Node>) -> Naming {
    let Some(node) = key else { return Naming::Same };
    match TextForm::of(node) {
        Some((Source::Key, form)) => Naming::Part(form),
        _ => Naming::Node,
    }
}

/// Whether a text is `{rest}`.
fn is_rest(data: &Data) -> bool {
    let Data::Text(template) = data else { return false };
    matches!(template.single(), Some([pipe]) if matches!(&pipe.source, Written::Path(path) if path.root == "rest"))
}
