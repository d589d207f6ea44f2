//! From a checked manifest and a destination's settings to nodes: paths are resolved, settings put in, and whatever
//! depends on constants alone is evaluated here, once. `assemble` puts the nodes together to a plan.

mod table;

use std::collections::HashMap;
use std::sync::Arc;

use super::expression::{Member, Part, Path, Pipe, Source as Written, Step, Template};
use super::fold::{constant_of, constant_table, into_owned, merged};
use super::forms::Form;
use super::functions::{self, Table};
use super::plan::Program;
use super::render::{Gone, Notes, Scope};
use super::schema::{Kind, Schema};
use super::settings::as_table;
use super::source::Data;
use super::tree::{Argument, Call, Choice, Constant, Node, OptionSpec, Source};
use super::value::Value;
use crate::names::{NameId, Root};
use crate::reserved::{Group, Reserved};

/// Where a text stands, which decides how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// JSON that is sent.
    Body,
    /// A url: what is not the operator's is one segment.
    Url,
    /// The beginning of a url, where the vendor may have said which host is meant.
    Origin,
    /// Anywhere else.
    Plain,
}

/// The paths that a manifest mentions, by number.
pub(crate) type NameIds = HashMap<(Root, Vec<String>), NameId>;

/// Lowers a manifest's data to nodes.
pub(crate) struct Binder<'m> {
    pub schema: &'m Schema,
    pub names: &'m NameIds,
    /// By position in the schema: a setting's value where it has one.
    pub settings: Vec<Option<Value<'static>>>,
    /// Lowered `[values]`, by position.
    pub values: Vec<Option<Node>>,
    /// Names of `[rest].fields`, by position.
    pub fields: Vec<String>,
    /// Fields that have an entry left which can take something.
    pub live_fields: Vec<bool>,
    /// Whether nulls of placed traits are dropped.
    pub drops_nulls: bool,
    tables: HashMap<String, Arc<Table>>,
    /// Evaluates constants.
    empty: Program,
}

impl<'m> Binder<'m> {
    pub fn new(schema: &'m Schema, names: &'m NameIds, settings: Vec<Option<Value<'static>>>) -> Binder<'m> {
        let mut fields: Vec<String> = Vec::new();
        for field in &schema.rest.fields {
            if !fields.contains(&field.name) {
                fields.push(field.name.clone());
            }
        }
        let tables = schema
            .tables
            .iter()
            .map(|(key, node)| (key.text.clone(), Arc::new(constant_table(node))))
            .collect();
        Binder {
            schema,
            names,
            settings,
            values: vec![None; schema.values.len()],
            live_fields: vec![true; fields.len()],
            fields,
            drops_nulls: true,
            tables,
            empty: Program::default(),
        }
    }

    /// Puts in what the settings' defaults say where nothing was given.
    pub fn fill_defaults(&mut self) {
        for (position, setting) in self.schema.settings.iter().enumerate() {
            if self.settings.get(position).is_some_and(Option::is_none)
                && let Some(default) = &setting.default
            {
                let node = self.data(default, Place::Plain);
                let value = match (setting.kind, node.as_constant()) {
                    (Kind::Map, None) => Some(Value::Object(Vec::new())),
                    (_, constant) => constant.map(|constant| constant.value.clone()),
                };
                if let Some(slot) = self.settings.get_mut(position) {
                    *slot = value;
                }
            }
        }
    }

    /// A constant's value, where a piece of data is one.
    pub fn constant(&mut self, data: &Data) -> Option<Value<'static>> {
        self.data(data, Place::Plain).as_constant().map(|constant| constant.value.clone())
    }

    pub fn optional(&mut self, data: &Option<Data>, place: Place) -> Option<Node> {
        data.as_ref().map(|data| self.data(data, place))
    }

    pub fn data(&mut self, data: &Data, place: Place) -> Node {
        match data {
            Data::Text(template) => self.template(template, place),
            Data::Constant(json) => {
                let value = match json.as_str() {
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    number => Value::Number(number.to_owned().into()),
                };
                Node::constant(value, false, false)
            }
            Data::List(_, items) => {
                let nodes: Vec<Node> = items.iter().map(|item| self.data(item, place)).collect();
                self.list(nodes)
            }
            Data::Table(_, entries) => self.table(entries, place),
        }
    }

    fn list(&self, nodes: Vec<Node>) -> Node {
        let nodes: Vec<Node> = nodes.into_iter().filter(|node| !matches!(node, Node::Absent)).collect();
        if !nodes.iter().all(Node::is_fixed) {
            return Node::List(nodes.into());
        }
        let constants: Vec<_> = nodes.iter().filter_map(Node::as_constant).collect();
        let (secret, counts) = (constants.iter().any(|c| c.secret), constants.iter().any(|c| c.counts));
        // A list that holds a secret stays a list, so that only the secret is masked.
        if secret {
            return Node::List(nodes.into());
        }
        Node::constant(Value::List(constants.iter().map(|c| c.value.clone()).collect()), false, counts)
    }

    pub fn template(&mut self, template: &Template, place: Place) -> Node {
        if let Some(pipes) = template.single() {
            return self.pipes(pipes, place);
        }
        let mut parts: Vec<Node> = Vec::new();
        let (mut counts, mut secret) = (false, false);
        for (position, part) in template.parts.iter().enumerate() {
            let place = match place {
                Place::Origin if position == 0 => Place::Origin,
                Place::Origin | Place::Url => Place::Url,
                _ => Place::Plain,
            };
            let node = match part {
                Part::Text(text) => Node::text(text.as_str()),
                Part::Expression(pipes) => {
                    counts = true;
                    self.pipes(pipes, place)
                }
            };
            if matches!(node, Node::Absent) {
                return Node::Absent;
            }
            secret |= node.as_constant().is_some_and(|constant| constant.secret);
            match node {
                Node::Text(inner) => parts.extend(inner),
                node => parts.push(node),
            }
        }
        if parts.iter().all(|part| part.as_constant().is_some()) {
            let constants = || parts.iter().filter_map(Node::as_constant);
            let text: String = constants().filter_map(|constant| constant.value.as_text()).collect();
            let shown = |constant: &Constant| match constant.secret {
                true => constant.shown.as_text().map(|text| text.into_owned()),
                false => constant.value.as_text().map(|text| text.into_owned()),
            };
            let shown: String = constants().filter_map(shown).collect();
            return Node::constant_shown(Value::text(text), secret, Value::text(shown), counts);
        }
        Node::Text(merged(parts).into())
    }

    /// A text of which the parts that are absent are left out instead of the whole.
    pub fn partial(&mut self, data: &Data) -> Node {
        let Data::Text(template) = data else { return self.data(data, Place::Plain) };
        let parts = template.parts.iter().map(|part| match part {
            Part::Text(text) => Node::text(text.as_str()),
            Part::Expression(pipes) => self.pipes(pipes, Place::Plain),
        });
        Node::Text(parts.collect())
    }

    /// Alternatives, the first that is present.
    fn pipes(&mut self, pipes: &[Pipe], place: Place) -> Node {
        let nodes = pipes.iter().map(|pipe| self.pipe(pipe, place)).collect();
        first(nodes)
    }

    fn pipe(&mut self, pipe: &Pipe, place: Place) -> Node {
        if let (Place::Url | Place::Origin, Written::Path(path)) = (place, &pipe.source)
            && path.root == "values"
            && pipe.steps.is_empty()
            && let Some((_, data)) =
                self.schema.values.iter().find(|(key, _)| Some(key.text.as_str()) == path.first())
        {
            return self.value_data(data, place);
        }
        if let (Place::Origin, Written::Path(path), []) = (place, &pipe.source, pipe.steps.as_slice())
            && path.root == "fetch"
        {
            return Node::Origin(Box::new(self.path(path)));
        }
        let (mut node, is_operators) = self.source(&pipe.source);
        let source = match &node {
            Node::Source(source) => Some(source.clone()),
            _ => None,
        };
        if let (Place::Body, Some(source @ (Source::Reserved(_) | Source::Named(_)))) = (place, &source)
            && !self.drops_nulls
        {
            return self.nullable(node, source.clone(), &pipe.steps);
        }
        for step in &pipe.steps {
            node = self.step(node, step);
        }
        match (place, source) {
            (Place::Url | Place::Origin, _) if !(is_operators && pipe.steps.is_empty()) => self.segment(node),
            (_, Some(source)) if super::tree::Needs::of_source(&source).volatile => {
                Node::Volatile(Box::new(node))
            }
            _ => node,
        }
    }

    /// A placed trait whose null is written. No function takes a null, but a condition holds for it as for a value.
    fn nullable(&mut self, mut node: Node, source: Source, steps: &[Step]) -> Node {
        let is_condition = |step: &&Step| matches!(step.name.as_str(), "if" | "unless");
        let conditions: Vec<&Step> = match steps.iter().any(|step| step.name == "required") {
            true => Vec::new(),
            false => steps.iter().filter(is_condition).collect(),
        };
        for step in steps.iter().filter(|step| conditions.is_empty() || !is_condition(step)) {
            node = self.step(node, step);
        }
        let nullable = Node::Nullable(Box::new(node), source);
        conditions.into_iter().fold(nullable, |node, step| self.step(node, step))
    }

    fn segment(&self, node: Node) -> Node {
        match node {
            Node::Absent => Node::Absent,
            node if node.is_fixed() => {
                let secret = node.as_constant().is_some_and(|constant| constant.secret);
                self.folded(Node::Segment(Box::new(node)), secret)
            }
            node => Node::Segment(Box::new(node)),
        }
    }

    /// A source, and whether it is the operator's to write anything with, a host included.
    fn source(&mut self, source: &Written) -> (Node, bool) {
        let constant = |value| (Node::constant(value, false, true), true);
        match source {
            Written::Text(text) => constant(Value::text(text.clone())),
            Written::Number(number) => constant(Value::Number(number.clone().into())),
            Written::Bool(yes) => constant(Value::Bool(*yes)),
            Written::Path(path) if path.root == "settings" => self.setting(path),
            Written::Path(path) => (self.path(path), false),
        }
    }

    fn setting(&self, path: &Path) -> (Node, bool) {
        let found =
            self.schema.settings.iter().position(|setting| Some(setting.name.as_str()) == path.first());
        let Some((setting, value)) =
            found.and_then(|at| Some((self.schema.settings.get(at)?, self.settings.get(at)?.as_ref()?)))
        else {
            return (Node::Absent, true);
        };
        let trusted = matches!(setting.kind, Kind::Url | Kind::Host | Kind::Choice | Kind::Bool | Kind::Int)
            || setting.pattern.is_some();
        match path.members.get(1) {
            None => (Node::constant(value.clone(), setting.secret, true), trusted),
            Some(Member::Name(attribute)) => {
                let choice =
                    setting.choices.iter().find(|choice| value.as_text().as_deref() == Some(&*choice.name));
                let found =
                    choice.and_then(|choice| choice.attributes.iter().find(|(name, _)| name == attribute));
                let node = found
                    .map_or(Node::Absent, |(_, text)| Node::constant(Value::text(text.clone()), false, true));
                (node, true)
            }
            Some(Member::Index(_)) => (Node::Absent, true),
        }
    }

    fn path(&mut self, path: &Path) -> Node {
        let members = path.members.as_slice();
        let plain = |source| with_members(Node::Source(source), members);
        match path.root.as_str() {
            "user_id" => plain(Source::UserId),
            "anonymous_id" => plain(Source::AnonymousId),
            "message_id" => plain(Source::MessageId),
            "timestamp" => plain(Source::Timestamp),
            "received_at" => plain(Source::ReceivedAt),
            "event" => plain(Source::Event),
            "raw" => plain(Source::Raw),
            "identity" => plain(Source::Identity),
            "items" => plain(Source::Items),
            "key" => plain(Source::Key),
            "value" => plain(Source::Value),
            "status" => plain(Source::Status),
            "body" => plain(Source::Body),
            "headers" => Node::Source(Source::Header(path.first().unwrap_or_default().to_lowercase().into())),
            "traits" => reserved(path).map_or(Node::Absent, Node::Source),
            "custom" => self.named(Root::Custom, path),
            "context" => self.named(Root::Context, path),
            "options" => self.option(path),
            "values" => self.value(path),
            "fields" => {
                let slot = self.fields.iter().position(|name| Some(name.as_str()) == path.first());
                let live = slot.filter(|slot| self.live_fields.get(*slot).copied().unwrap_or(false));
                live.map_or(Node::Absent, Node::Field)
            }
            "fetch" => {
                let slot =
                    self.schema.fetches.iter().position(|fetch| Some(fetch.name.as_str()) == path.first());
                slot.map_or(Node::Absent, |slot| {
                    with_members(Node::Source(Source::Fetch(slot)), members.get(1..).unwrap_or_default())
                })
            }
            "found" => plain(Source::Found),
            "given" => {
                let gives = self.schema.code.as_ref().map(|code| code.gives.as_slice()).unwrap_or_default();
                let slot = gives.iter().position(|(_, name)| Some(name.as_str()) == path.first());
                slot.map_or(Node::Absent, |slot| Node::Source(Source::Given(slot)))
            }
            "reply" => {
                let slot = self
                    .schema
                    .requests
                    .iter()
                    .position(|request| Some(request.name.as_str()) == path.first());
                // The second member is `body`.
                slot.map_or(Node::Absent, |slot| {
                    with_members(Node::Source(Source::Reply(slot)), members.get(2..).unwrap_or_default())
                })
            }
            "attempt" => match path.first() {
                Some("id") => Node::Source(Source::AttemptId),
                Some("time") => Node::Source(Source::AttemptTime),
                Some("nonce") => Node::Source(Source::AttemptNonce),
                _ => Node::Source(Source::AttemptBody),
            },
            "tables" => self.constant_of_table(path),
            _ => Node::Absent,
        }
    }

    fn named(&self, root: Root, path: &Path) -> Node {
        let id = path.names().and_then(|names| self.names.get(&(root, names)).copied());
        id.map_or(Node::Absent, |id| Node::Source(Source::Named(id)))
    }

    fn option(&self, path: &Path) -> Node {
        let option = self.schema.options.iter().find(|option| Some(option.name.as_str()) == path.first());
        let Some(option) = option else { return Node::Absent };
        let choices = option.choices.iter().map(|choice| choice.name.clone()).collect();
        let pattern = option.pattern.as_deref().and_then(|pattern| regex_lite::Regex::new(pattern).ok());
        let spec = OptionSpec { name: option.name.clone(), kind: option.kind, choices, pattern };
        with_members(Node::Source(Source::Option(Arc::new(spec))), path.members.get(1..).unwrap_or_default())
    }

    fn value(&mut self, path: &Path) -> Node {
        let slot = self.schema.values.iter().position(|(key, _)| Some(key.text.as_str()) == path.first());
        let Some(slot) = slot else { return Node::Absent };
        let schema = self.schema;
        if self.values.get(slot).is_some_and(Option::is_none)
            && let Some((_, data)) = schema.values.get(slot)
        {
            let node = self.value_data(data, Place::Body);
            if let Some(place) = self.values.get_mut(slot) {
                *place = Some(node);
            }
        }
        let rest = path.members.get(1..).unwrap_or_default();
        match self.values.get(slot) {
            Some(Some(node)) if node.is_fixed() && rest.is_empty() => node.clone(),
            _ => with_members(Node::Value(slot), rest),
        }
    }

    /// One of `[values]`: a list in it is the first that is present.
    pub fn value_data(&mut self, data: &Data, place: Place) -> Node {
        match data {
            Data::List(_, items) => first(items.iter().map(|item| self.data(item, place)).collect()),
            other => self.data(other, place),
        }
    }

    fn constant_of_table(&self, path: &Path) -> Node {
        let found = self.schema.tables.iter().find(|(key, _)| Some(key.text.as_str()) == path.first());
        found.map_or(Node::Absent, |(_, node)| Node::constant(constant_of(node), false, true))
    }

    fn step(&mut self, input: Node, step: &Step) -> Node {
        if matches!(input, Node::Absent) && step.name != "required" {
            return Node::Absent;
        }
        let Some(function) = functions::function(&step.name) else { return Node::Absent };
        if step.name == "required" {
            return if input.as_constant().is_some() {
                input
            } else {
                Node::Required(Box::new(input), step.at)
            };
        }
        if let "if" | "unless" = step.name.as_str() {
            let condition = step.args.first().map_or(Node::Absent, |arg| self.source(arg).0);
            return self.choice(input, condition, step.name == "unless");
        }
        let mut args = Vec::new();
        for (position, arg) in step.args.iter().enumerate() {
            let parameter = function.args.get(position.min(function.args.len().saturating_sub(1)));
            args.push(match (parameter, arg) {
                (Some(functions::Parameter::Table), Written::Path(path)) => {
                    Argument::Table(self.table_of(path))
                }
                _ => Argument::Node(self.source(arg).0),
            });
        }
        let fixed = |argument: &Argument| match argument {
            Argument::Table(_) => true,
            Argument::Node(node) => node.is_fixed(),
        };
        let secret_arg = |argument: &Argument| match argument {
            Argument::Table(_) => false,
            Argument::Node(node) => is_secret(node),
        };
        let secret = is_secret(&input) || args.iter().any(secret_arg);
        let folds = input.is_fixed() && args.iter().all(fixed);
        let mut call = Box::new(Call { function, input, args: args.into(), secret, form: None });
        if !folds {
            let node = Node::Call(call.clone());
            call.form = Form::of(&node).map(Box::new);
            return Node::Call(call);
        }
        self.folded(Node::Call(call), secret)
    }

    fn choice(&self, input: Node, condition: Node, unless: bool) -> Node {
        let decided = match &condition {
            Node::Absent => Some(false),
            Node::Constant(constant) => Some(constant.value.holds()),
            _ => None,
        };
        match decided {
            Some(holds) if holds != unless => input,
            Some(_) => Node::Absent,
            None => Node::If(Box::new(Choice { input, condition, unless })),
        }
    }

    fn table_of(&self, path: &Path) -> Arc<Table> {
        let name = path.first().unwrap_or_default();
        if path.root == "settings" {
            let at = self.schema.settings.iter().position(|setting| setting.name == name);
            let value = at.and_then(|at| self.settings.get(at)).and_then(Option::as_ref);
            return Arc::new(value.and_then(as_table).unwrap_or_default());
        }
        self.tables.get(name).cloned().unwrap_or_default()
    }

    /// A node of constants, evaluated.
    fn folded(&self, node: Node, secret: bool) -> Node {
        let notes = Notes::default();
        match Scope::of_constants(&self.empty, &notes).eval(&node) {
            Ok(value) => Node::constant(into_owned(value), secret, true),
            Err(Gone::Absent | Gone::Required) => Node::Absent,
        }
    }
}

/// The first of several: those that can never be present are left out, and what stands behind a constant too.
pub(crate) fn first(nodes: Vec<Node>) -> Node {
    let mut left = Vec::new();
    for node in nodes {
        if matches!(node, Node::Absent) {
            continue;
        }
        let decides = node.as_constant().is_some();
        left.push(node);
        if decides {
            break;
        }
    }
    match left.len() {
        0 => Node::Absent,
        1 => left.pop().unwrap_or(Node::Absent),
        _ => Node::First(left.into()),
    }
}

fn is_secret(node: &Node) -> bool {
    let mut secret = match node {
        Node::Constant(constant) => constant.secret,
        Node::Call(call) => call.secret,
        _ => false,
    };
    node.for_children(&mut |child| secret |= is_secret(child));
    secret
}

fn with_members(node: Node, members: &[Member]) -> Node {
    if members.is_empty() { node } else { Node::Member(Box::new(node), members.into()) }
}

/// The reserved trait, or group of them, that a path names.
pub(crate) fn reserved(path: &Path) -> Option<Source> {
    let name = path.names()?.join(".");
    let group = Group::ALL.iter().find(|group| group.name() == name);
    Reserved::named(&name).map(Source::Reserved).or_else(|| group.map(|group| Source::Group(*group)))
}
