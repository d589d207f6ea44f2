//! What a manifest's texts and tables become when a destination is configured: a tree of nodes in which every path is
//! resolved, every setting is a constant, and whatever depends on constants alone is one. It does not write anything
//! (`render`) and is not made here (`bind`).

use std::sync::Arc;

use super::expression::Member;
use super::forms::Form;
use super::functions::{Function, Table};
use super::schema::Kind;
use super::value::Value;
use crate::names::NameId;
use crate::reserved::{Group, Reserved};

/// A piece of data, ready to be evaluated.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Absent,
    Constant(Arc<Constant>),
    Source(Source),
    /// Members of a value, such as `options.address.city`.
    Member(Box<Node>, Box<[Member]>),
    /// Texts one behind the other; absent when one of them is.
    Text(Box<[Node]>),
    /// The first that is present.
    First(Box<[Node]>),
    Call(Box<Call>),
    If(Box<Choice>),
    /// Makes the nearest table absent; the position is the line's, for the reason.
    Required(Box<Node>, usize),
    Table(Box<TableNode>),
    List(Box<[Node]>),
    /// One of `[values]`, by position.
    Value(usize),
    /// A name of `[rest].fields`, by position.
    Field(usize),
    /// One segment of a url.
    Segment(Box<Node>),
    /// Scheme and host of a url, from an answer of the vendor's.
    Origin(Box<Node>),
    /// A placed trait, for which an explicit null is written as the `null` policy says.
    Nullable(Box<Node>, Source),
    /// Bytes that differ from call to call even when nothing changes.
    Volatile(Box<Node>),
}

#[derive(Clone, Debug)]
pub(crate) struct Constant {
    pub value: Value<'static>,
    /// As JSON.
    pub json: Box<str>,
    /// Depends on a secret setting.
    pub secret: bool,
    /// What is shown instead of a secret.
    pub shown: Value<'static>,
    /// Came from an expression, so that it makes the table around it present.
    pub counts: bool,
}

/// Where a value comes from when an event, a reply or an attempt is there.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    UserId,
    AnonymousId,
    MessageId,
    Timestamp,
    ReceivedAt,
    Reserved(Reserved),
    Group(Group),
    /// A custom trait or a context field.
    Named(NameId),
    Option(Arc<OptionSpec>),
    Event,
    Raw,
    Identity,
    Fetch(usize),
    Items,
    Key,
    Value,
    Status,
    Header(Arc<str>),
    Body,
    /// The reply of an earlier request, by position.
    Reply(usize),
    /// The id that the upsert found or created.
    Found,
    /// What the code has given, by position.
    Given(usize),
    AttemptId,
    AttemptTime,
    AttemptNonce,
    AttemptBody,
}

/// An option that a call may give.
#[derive(Debug)]
pub(crate) struct OptionSpec {
    pub name: String,
    pub kind: Kind,
    pub choices: Vec<String>,
    /// What the value must match, as text.
    pub pattern: Option<regex_lite::Regex>,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub function: &'static Function,
    pub input: Node,
    pub args: Box<[Argument]>,
    pub secret: bool,
    /// The whole chain up to this call, where it is one of the usual ones.
    pub form: Option<Box<Form>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Argument {
    Node(Node),
    Table(Arc<Table>),
}

/// A value that passes by condition.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub input: Node,
    pub condition: Node,
    /// Passes when the condition does not hold.
    pub unless: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct TableNode {
    pub entries: Box<[(Key, Node)]>,
    /// Spread into the table, behind its own entries.
    pub spreads: Box<[Node]>,
    /// Fields without which the table is absent; asked before anything is written.
    pub guards: Box<[usize]>,
    /// Whether there is an expression in it; a table without one is a constant.
    pub has_expressions: bool,
    /// The bits of its own names, see [`Hashed::bit`](super::lookup::Hashed::bit).
    pub name_bits: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Key {
    /// The name, and the same as JSON with quotes and colon.
    Name(Box<str>, Box<str>),
    Node(Node),
}

impl Key {
    /// Its name, where that is known.
    pub fn name(&self) -> Option<&str> {
        match self {
            Key::Name(name, _) => Some(name),
            Key::Node(_) => None,
        }
    }
}

impl Node {
    /// A constant from a value.
    pub fn constant(value: Value<'static>, secret: bool, counts: bool) -> Node {
        let shown = if secret { masked(&value) } else { Value::Null };
        Node::constant_shown(value, secret, shown, counts)
    }

    /// A constant from a value, and what is shown of it.
    pub fn constant_shown(value: Value<'static>, secret: bool, shown: Value<'static>, counts: bool) -> Node {
        let mut json = String::new();
        value.write_json(&mut json, &super::value::Dates::ISO);
        Node::Constant(Arc::new(Constant { value, json: json.into(), secret, shown, counts }))
    }

    /// A constant text that came from no expression.
    pub fn text(text: impl Into<String>) -> Node {
        Node::constant(Value::text(text.into()), false, false)
    }

    pub fn as_constant(&self) -> Option<&Constant> {
        match self {
            Node::Constant(constant) => Some(constant),
            _ => None,
        }
    }

    /// Whether it is the same for every event.
    pub fn is_fixed(&self) -> bool {
        matches!(self, Node::Constant(_) | Node::Absent)
    }

    /// The nodes directly inside.
    pub fn for_children<'n>(&'n self, see: &mut dyn FnMut(&'n Node)) {
        match self {
            Node::Absent | Node::Constant(_) | Node::Source(_) | Node::Value(_) | Node::Field(_) => {}
            Node::Member(inner, _)
            | Node::Required(inner, _)
            | Node::Segment(inner)
            | Node::Origin(inner)
            | Node::Nullable(inner, _)
            | Node::Volatile(inner) => see(inner),
            Node::Text(nodes) | Node::First(nodes) | Node::List(nodes) => nodes.iter().for_each(see),
            Node::Call(call) => {
                see(&call.input);
                for argument in &call.args {
                    if let Argument::Node(node) = argument {
                        see(node);
                    }
                }
            }
            Node::If(choice) => {
                see(&choice.input);
                see(&choice.condition);
            }
            Node::Table(table) => {
                for (key, node) in &table.entries {
                    if let Key::Node(key) = key {
                        see(key);
                    }
                    see(node);
                }
                table.spreads.iter().for_each(see);
            }
        }
    }
}

/// A secret's shape without its content.
fn masked(value: &Value<'_>) -> Value<'static> {
    let mask = || Value::text(super::render::MASK);
    match value {
        Value::Object(members) => {
            Value::Object(members.iter().map(|(key, _)| (key.to_string().into(), mask())).collect())
        }
        _ => mask(),
    }
}

/// What a node depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The event, its options included.
    pub event: bool,
    pub fetch: bool,
    pub reply: bool,
    pub attempt: bool,
    pub items: bool,
    /// The message id or a time.
    pub volatile: bool,
}

impl Needs {
    pub fn or(self, other: Needs) -> Needs {
        Needs {
            event: self.event || other.event,
            fetch: self.fetch || other.fetch,
            reply: self.reply || other.reply,
            attempt: self.attempt || other.attempt,
            items: self.items || other.items,
            volatile: self.volatile || other.volatile,
        }
    }

    pub fn of_source(source: &Source) -> Needs {
        let mut needs = Needs::default();
        match source {
            Source::Fetch(_) => needs.fetch = true,
            Source::Items => needs.items = true,
            Source::Reply(_) => needs.reply = true,
            Source::Found | Source::Given(_) => {
                needs.event = true;
                needs.reply = true;
            }
            Source::AttemptId | Source::AttemptTime | Source::AttemptNonce | Source::AttemptBody => {
                needs.attempt = true
            }
            Source::Status | Source::Header(_) | Source::Body | Source::Key | Source::Value => {}
            Source::MessageId | Source::Timestamp | Source::ReceivedAt => {
                needs.event = true;
                needs.volatile = true;
            }
            _ => needs.event = true,
        }
        needs
    }
}
