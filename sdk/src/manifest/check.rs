//! What can be wrong with a manifest before any settings are known: names, arguments and types of its expressions.
//! What stands between sections (rules, batches, hosts, placed traits) is checked in `check_sections`.

use std::collections::HashSet;

use super::bind;
use super::expression::{Member, Path, Pipe, Source as Written, Step, Template};
use super::functions::{FUNCTIONS, Parameter, Type, check_literal, function};
use super::places::*;
use super::schema::{Kind, Policies, Request, Schema, templates_of};
use super::source::{Data, Reader};
use super::walk::{policies_of, request_parts, rule_parts};
use crate::problem::Problem;
use crate::reserved::{self, Group, Reserved};

/// Reports everything that is wrong.
pub(crate) fn check(reader: &mut Reader<'_>, schema: &Schema) {
    let mut checker = Checker { reader, schema, used: HashSet::new(), open: Vec::new() };
    checker.everything();
    checker.unused();
    super::check_sections::check(checker.reader, schema);
}

pub(super) struct Checker<'r, 'f, 's> {
    pub reader: &'r mut Reader<'f>,
    pub schema: &'s Schema,
    /// Names that are read, as `settings.region`.
    used: HashSet<String>,
    /// The values that are being followed, outermost first.
    open: Vec<&'s str>,
}

impl<'s> Checker<'_, '_, 's> {
    fn problem(&mut self, at: usize, message: impl Into<String>, remedy: impl Into<String>) {
        self.reader.problem(at, message, remedy);
    }

    fn everything(&mut self) {
        let schema = self.schema;
        for setting in &schema.settings {
            self.data(setting.default.iter().chain(&setting.needed_when), IN_DEFAULT);
        }
        self.data(&schema.identity, IN_IDENTITY);
        for (key, data) in &schema.values {
            // Where it may stand is decided by whoever reads it; here only what holds everywhere.
            self.used_value(&key.text, data, place("values", &[ALL]));
        }
        self.policies(&schema.rest.policies);
        for field in &schema.rest.fields {
            self.data([&field.of, &field.only, &field.key, &field.value].into_iter().flatten(), IN_FIELD);
            self.data([&field.names, &field.drop].into_iter().flatten(), IN_NAMES);
            self.policies(&field.policies);
        }
        for (position, request) in schema.requests.iter().enumerate() {
            self.request(request, Some(position));
        }
        for request in &schema.deletes {
            self.request(request, None);
        }
        for fetch in &schema.fetches {
            self.data(request_parts(&fetch.request), IN_FETCH);
            self.data([&fetch.keep, &fetch.each, &fetch.key, &fetch.lasts].into_iter().flatten(), IN_KEEP);
            self.data(fetch.request.outcomes.iter().flat_map(rule_parts), IN_KEEP);
        }
        self.data(schema.upsert.iter().flat_map(|upsert| &upsert.when), IN_NAMES);
    }

    fn policies(&mut self, policies: &'s Policies) {
        self.data(policies_of(policies), IN_POLICY);
    }

    fn request(&mut self, request: &'s Request, position: Option<usize>) {
        let at = |place: Place| Place { request: position, ..place };
        self.data(request.when.iter().chain(&request.unless), at(IN_WHEN));
        self.data(request.url.iter(), at(IN_URL));
        self.data([&request.query, &request.headers].into_iter().flatten(), at(IN_HEAD));
        self.data(request.body.iter(), at(IN_BODY));
        self.data(request.item.iter(), at(IN_ITEM));
        let items = request.batch.iter().filter_map(|batch| batch.items.as_ref());
        self.data([&request.method, &request.encoding].into_iter().flatten().chain(items), IN_DEFAULT);
        let in_rule = if request.item.is_none() { IN_OWN_RULE } else { IN_RULE };
        self.data(request.keep.iter(), in_rule);
        for rule in &request.outcomes {
            self.data(rule_parts(rule), in_rule);
            self.data(rule.item.iter(), IN_RULE_ITEM);
        }
    }

    fn data(&mut self, data: impl IntoIterator<Item = &'s Data>, place: Place) {
        for template in templates_of(data) {
            self.template(template, place);
        }
    }

    fn template(&mut self, template: &'s Template, place: Place) {
        for pipe in template.pipes() {
            let last = self.pipe(pipe, place);
            if last == Type::Bytes && place.name != "values" {
                let at = pipe.steps.last().map_or(template.at, |step| step.at);
                self.problem(at, "bytes cannot be written", "pass them through hex or base64");
            }
        }
    }

    /// Checks a source and its functions; what comes out at the end.
    fn pipe(&mut self, pipe: &'s Pipe, place: Place) -> Type {
        let mut found = self.source(&pipe.source, place);
        for step in &pipe.steps {
            found = self.step(step, found, place);
        }
        found
    }

    fn source(&mut self, source: &'s Written, place: Place) -> Type {
        match source {
            Written::Text(_) => Type::Text,
            Written::Number(_) => Type::Number,
            Written::Bool(_) => Type::Bool,
            Written::Path(path) => self.path(path, place),
        }
    }

    fn step(&mut self, step: &'s Step, input: Type, place: Place) -> Type {
        let Some(function) = function(&step.name) else {
            self.reader.unknown(
                step.at,
                "function",
                &step.name,
                FUNCTIONS.iter().map(|function| function.name),
            );
            return Type::Any;
        };
        if !accepts(function.takes, input) {
            let message = format!("{} takes {}, not {}", step.name, name_of(function.takes), name_of(input));
            self.problem(step.at, message, "");
        }
        let (wanted, given) = (function.args.len(), step.args.len());
        if given < wanted || (given > wanted && !function.repeats) {
            let wanted = if function.repeats { format!("at least {wanted}") } else { wanted.to_string() };
            self.problem(step.at, format!("{} takes {wanted} arguments, not {given}", step.name), "");
        }
        for (position, arg) in step.args.iter().enumerate() {
            let parameter = function.args.get(position.min(wanted.saturating_sub(1)));
            if parameter == Some(&Parameter::Table) {
                self.table_argument(step, arg, place);
                continue;
            }
            self.source(arg, place);
            let literal = match arg {
                Written::Text(text) | Written::Number(text) => Some(text.as_str()),
                _ => None,
            };
            if let Some(wrong) = literal.and_then(|literal| check_literal(function, position, literal)) {
                self.problem(step.at, format!("{}: {wrong}", step.name), "");
            }
        }
        function.gives.unwrap_or(input)
    }

    fn table_argument(&mut self, step: &'s Step, arg: &'s Written, place: Place) {
        if let Written::Path(path) = arg
            && matches!(path.root.as_str(), "tables" | "settings")
        {
            self.path(path, place);
            return;
        }
        self.problem(
            step.at,
            format!("{} looks into a table", step.name),
            "name one: tables.NAME, or a setting of type list or map",
        );
    }

    /// A path's type; a member of something else has one that only the call or the reply knows.
    fn path(&mut self, path: &'s Path, place: Place) -> Type {
        let found = self.root(path, place);
        let own = match path.root.as_str() {
            "traits" | "settings" | "attempt" | "headers" => usize::MAX,
            "options" | "values" | "fields" => 1,
            _ => 0,
        };
        if path.members.len() > own { Type::Any } else { found }
    }

    fn root(&mut self, path: &'s Path, place: Place) -> Type {
        if !ALL.contains(&path.root.as_str()) {
            self.reader.unknown(path.at, "root", &path.root, ALL.iter().copied());
            return Type::Any;
        }
        if !place.roots.iter().any(|roots| roots.contains(&path.root.as_str())) {
            self.problem(path.at, format!("{} cannot be read in {}", path.root, place.name), "");
            return Type::Any;
        }
        let schema = self.schema;
        match path.root.as_str() {
            "user_id" | "anonymous_id" | "message_id" => Type::Text,
            "timestamp" | "received_at" => Type::Date,
            "key" => Type::Text,
            "status" => Type::Number,
            "items" => Type::List,
            "rest" | "event" | "raw" if path.members.is_empty() => Type::Object,
            "traits" => self.reserved(path),
            "context" => {
                self.named(path, "field of context", CONTEXT.iter().copied());
                Type::Any
            }
            "options" => {
                match self.declared(path, "option", schema.options.iter().map(|o| o.name.as_str())) {
                    Some(name) => {
                        schema.options.iter().find(|o| o.name == name).map_or(Type::Any, |o| type_of(o.kind))
                    }
                    None => Type::Any,
                }
            }
            "settings" => self.setting(path),
            "values" => self.value(path, place),
            "fields" => {
                self.declared(path, "field", schema.rest.fields.iter().map(|field| field.name.as_str()));
                Type::Object
            }
            "tables" => {
                self.declared(path, "table", schema.tables.iter().map(|(key, _)| key.text.as_str()));
                Type::Any
            }
            "fetch" => {
                self.declared(path, "fetch", schema.fetches.iter().map(|fetch| fetch.name.as_str()));
                Type::Any
            }
            "reply" => {
                self.reply(path, place);
                Type::Any
            }
            "found" => {
                if schema.upsert.is_none() {
                    self.problem(path.at, "found is what an upsert finds, and there is none", "");
                }
                Type::Text
            }
            "given" => {
                let gives = schema.code.iter().flat_map(|code| &code.gives);
                self.declared(path, "value that the code gives", gives.map(|(_, name)| name.as_str()));
                Type::Text
            }
            "attempt" => {
                self.named(path, "member of attempt:", ATTEMPT.iter().copied());
                if path.first() == Some("time") { Type::Date } else { Type::Text }
            }
            _ => Type::Any,
        }
    }

    /// The first member, where it is one of the allowed ones; else a problem.
    fn named<'n>(
        &mut self,
        path: &'n Path,
        what: &str,
        allowed: impl Iterator<Item = &'n str> + Clone,
    ) -> Option<&'n str> {
        match path.first() {
            Some(name) if allowed.clone().any(|one| one == name) => Some(name),
            Some(name) => {
                self.reader.unknown(path.at, what, name, allowed);
                None
            }
            None => {
                self.problem(
                    path.at,
                    format!("{} needs a name behind it", path.root),
                    format!("{}.NAME", path.root),
                );
                None
            }
        }
    }

    /// As [`Checker::named`], for names that a manifest declares itself; notes that it is used.
    fn declared<'n>(
        &mut self,
        path: &'n Path,
        what: &str,
        allowed: impl Iterator<Item = &'n str> + Clone,
    ) -> Option<&'n str> {
        let name = self.named(path, what, allowed)?;
        self.used.insert(format!("{}.{name}", path.root));
        Some(name)
    }

    fn reserved(&mut self, path: &Path) -> Type {
        match bind::reserved(path) {
            Some(super::tree::Source::Reserved(reserved)) => match reserved.rule() {
                reserved::Rule::Date => Type::Date,
                reserved::Rule::Age | reserved::Rule::Count { .. } => Type::Number,
                _ => Type::Text,
            },
            Some(_) => Type::Object,
            None => {
                let name = path.names().unwrap_or_default().join(".");
                let names = Reserved::ALL
                    .iter()
                    .map(|one| one.name())
                    .chain(Group::ALL.iter().map(|group| group.name()));
                self.reader.unknown(path.at, "reserved trait", &name, names);
                Type::Any
            }
        }
    }

    fn setting(&mut self, path: &'s Path) -> Type {
        let schema = self.schema;
        let Some(name) =
            self.declared(path, "setting", schema.settings.iter().map(|setting| setting.name.as_str()))
        else {
            return Type::Any;
        };
        let Some(setting) = schema.settings.iter().find(|setting| setting.name == name) else {
            return Type::Any;
        };
        let Some(Member::Name(attribute)) = path.members.get(1) else { return type_of(setting.kind) };
        for choice in &setting.choices {
            if !choice.attributes.iter().any(|(name, _)| name == attribute) {
                let message =
                    format!("choice {} of setting {name} has no attribute {attribute}", choice.name);
                let names: Vec<&str> = choice.attributes.iter().map(|(name, _)| name.as_str()).collect();
                self.problem(path.at, message, format!("it has: {}", names.join(", ")));
                break;
            }
        }
        Type::Text
    }

    fn value(&mut self, path: &'s Path, place: Place) -> Type {
        let schema = self.schema;
        let Some(name) = self.declared(path, "value", schema.values.iter().map(|(key, _)| key.text.as_str()))
        else {
            return Type::Any;
        };
        if let Some(from) = self.open.iter().position(|open| *open == name) {
            let circle: Vec<&str> = self.open.iter().skip(from).copied().chain([name]).collect();
            let message = format!("values.{name} needs itself: {}", circle.join(" -> "));
            self.problem(path.at, message, "");
            return Type::Any;
        }
        match schema.values.iter().find(|(key, _)| key.text == name) {
            Some((key, data)) => self.used_value(&key.text, data, place),
            None => Type::Any,
        }
    }

    fn used_value(&mut self, name: &'s str, data: &'s Data, place: Place) -> Type {
        self.open.push(name);
        // Bytes may pass from one value to another, encoded only at the end.
        let inner = Place { name: if place.roots == [ALL] { "values" } else { place.name }, ..place };
        let found = match data {
            Data::Text(template) => match template.single() {
                Some(pipes) => {
                    let types: Vec<Type> = pipes.iter().map(|pipe| self.pipe(pipe, inner)).collect();
                    let first = types.first().copied().unwrap_or(Type::Any);
                    if types.iter().all(|one| *one == first) { first } else { Type::Any }
                }
                None => {
                    self.template(template, inner);
                    Type::Text
                }
            },
            Data::Constant(_) => Type::Any,
            Data::List(..) => {
                self.data([data], inner);
                Type::Any
            }
            Data::Table(..) => {
                self.data([data], inner);
                Type::Object
            }
        };
        self.open.pop();
        found
    }

    fn reply(&mut self, path: &'s Path, place: Place) {
        let schema = self.schema;
        let Some(name) =
            self.named(path, "request", schema.requests.iter().map(|request| request.name.as_str()))
        else {
            return;
        };
        let position = schema.requests.iter().position(|request| request.name == name);
        if let (Some(position), Some(request)) = (position, place.request)
            && position >= request
        {
            self.problem(path.at, format!("reply.{name} is not there yet: {name} is no earlier request"), "");
        }
        if path.members.get(1) != Some(&Member::Name("body".to_owned())) {
            self.problem(path.at, "of a reply only its body can be read", format!("reply.{name}.body"));
        }
    }

    /// What is declared and never read.
    fn unused(&mut self) {
        let schema = self.schema;
        let settings = schema.settings.iter().map(|one| ("settings", "setting", one.name.as_str(), one.at));
        let options = schema.options.iter().map(|one| ("options", "option", one.name.as_str(), one.at));
        let tables = schema.tables.iter().map(|(key, _)| ("tables", "table", key.text.as_str(), key.at));
        let values = schema.values.iter().map(|(key, _)| ("values", "value", key.text.as_str(), key.at));
        let fields = schema.rest.fields.iter().map(|one| ("fields", "field", one.name.as_str(), one.at));
        let fetches = schema.fetches.iter().map(|one| ("fetch", "fetch", one.name.as_str(), one.at));
        let gives = schema.code.iter().flat_map(|code| &code.gives);
        let gives = gives.map(|(at, name)| ("given", "value", name.as_str(), *at));
        for (root, what, name, at) in
            settings.chain(options).chain(tables).chain(values).chain(fields).chain(fetches).chain(gives)
        {
            if !self.used.contains(&format!("{root}.{name}")) {
                self.reader.problem(
                    at,
                    format!("{what} {name} is declared but never read"),
                    format!("read it as {{{root}.{name}}}, or remove it"),
                );
            }
        }
    }
}

fn accepts(takes: Type, given: Type) -> bool {
    match (takes, given) {
        (Type::Any, _) | (_, Type::Any) => true,
        (Type::Text, given) => matches!(given, Type::Text | Type::Number | Type::Date | Type::Bool),
        (Type::Bytes, given) => matches!(given, Type::Bytes | Type::Text | Type::Number | Type::Date),
        (takes, given) => takes == given,
    }
}

fn name_of(found: Type) -> &'static str {
    match found {
        Type::Text => "a text",
        Type::Number => "a number",
        Type::Bool => "true or false",
        Type::Date => "a date",
        Type::List => "a list",
        Type::Object => "an object",
        Type::Bytes => "bytes",
        Type::Any => "anything",
    }
}

fn type_of(kind: Kind) -> Type {
    match kind {
        Kind::Bool => Type::Bool,
        Kind::Int | Kind::Num => Type::Number,
        Kind::List => Type::List,
        Kind::Map => Type::Object,
        _ => Type::Text,
    }
}

/// A list of problems in the order of the file, none twice.
pub(crate) fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems.dedup();
    problems
}
