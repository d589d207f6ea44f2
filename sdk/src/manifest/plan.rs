//! The bound plan: a manifest with one destination's settings in it. Data only; `bind` makes it, `render`, `request`,
//! `outcomes` and `run` carry it out.

use std::sync::Arc;
use std::time::Duration;

use super::rest::Rest;
use super::schema::{Status, Then};
use super::tree::{Needs, Node};
use crate::destination::Rate;

/// Everything that a destination does, ready to be carried out.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub values: Vec<Node>,
    pub identity: Option<Node>,
    pub rest: Rest,
    /// In the manifest's order; those that the settings rule out are there but not active.
    pub requests: Vec<RequestPlan>,
    pub fetches: Vec<FetchPlan>,
    /// What is looked up and then updated or created, where the settings ask for it.
    pub upsert: Option<UpsertPlan>,
    /// What the code beside the manifest gives, by position.
    pub gives: Vec<String>,
    /// The values of secret settings in every form in which a vendor may send them back, long ones first.
    pub secrets: Vec<String>,
}

impl Program {
    pub fn value(&self, slot: usize) -> &Node {
        self.values.get(slot).unwrap_or(&Node::Absent)
    }

    /// What a node depends on, through values and fields.
    pub fn needs(&self, node: &Node) -> Needs {
        match node {
            Node::Source(source) => {
                let identity =
                    self.identity.as_ref().filter(|_| matches!(source, super::tree::Source::Identity));
                identity.map_or_else(Needs::default, |node| self.needs(node)).or(Needs::of_source(source))
            }
            Node::Value(slot) => self.needs(self.value(*slot)),
            Node::Field(slot) => {
                let mut needs = Needs { event: true, ..Needs::default() };
                for entry in self.rest.entries.iter().filter(|entry| entry.field == *slot) {
                    let only = match &entry.only {
                        super::rest::Only::Node(node) => Some(node),
                        _ => None,
                    };
                    for node in [&entry.of, &entry.key, &entry.value].into_iter().flatten().chain(only) {
                        needs = needs.or(self.needs(node));
                    }
                }
                needs
            }
            _ => {
                let mut needs = Needs::default();
                node.for_children(&mut |child| needs = needs.or(self.needs(child)));
                needs
            }
        }
    }
}

/// Requests, by position, that look up, then update or create.
#[derive(Debug)]
pub(crate) struct UpsertPlan {
    pub find: Vec<usize>,
    pub update: usize,
    pub create: Option<usize>,
    /// How long an id is remembered.
    pub remember: Duration,
}

/// What a request is to the upsert, which decides what answers mean that no rule speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    #[default]
    Plain,
    Find,
    Update,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    #[default]
    Json,
    Form,
    Lines,
}

#[derive(Debug)]
pub(crate) struct RequestPlan {
    pub name: Arc<str>,
    /// Whether the settings let it be sent at all.
    pub active: bool,
    pub when: Vec<Node>,
    pub unless: Vec<Node>,
    pub on_demand: bool,
    pub optional: bool,
    pub method: &'static str,
    pub url: Node,
    pub query: Option<Node>,
    pub headers: Option<Node>,
    pub encoding: Encoding,
    pub timeout: Duration,
    pub body: Option<Node>,
    /// One node a record; none where there is no `item`.
    pub records: Vec<Node>,
    /// Whether the body holds `{items}`.
    pub is_batch: bool,
    pub role: Role,
    /// Its bytes stand for the item although it is sent on demand: the upsert sends them one way or the other.
    pub stands: bool,
    /// The id in a delivered answer.
    pub keep: Option<Node>,
    /// Whether its rules ask for the event.
    pub rules_read_event: bool,
    pub caps: Caps,
    pub rates: Vec<Rate>,
    pub concurrency: Option<usize>,
    pub rules: Vec<RulePlan>,
    /// What stands outside the items depends on.
    pub outside: Needs,
    /// Whether the items need a fetch.
    pub inside_fetch: bool,
    /// Its bytes are made only when it is sent, because they need a fetch or a reply.
    pub is_late: bool,
    /// Its conditions ask for what earlier steps bring, so they are decided only when it is its turn.
    pub late_conditions: bool,
}

/// What one request may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    pub items: usize,
    pub bytes: usize,
    pub item_bytes: usize,
    pub linger: Duration,
}

#[derive(Debug)]
pub(crate) struct RulePlan {
    pub status: Vec<Status>,
    pub when: Vec<Node>,
    pub unless: Vec<Node>,
    pub each: Option<Node>,
    pub index: Option<Node>,
    pub id: Option<Node>,
    pub item: Option<Node>,
    pub then: Then,
    /// The request that `send:NAME` names.
    pub send: Option<usize>,
    pub after: Option<Wait>,
    pub times: Option<u32>,
    pub pace: Option<Duration>,
    pub reason: Option<Node>,
    pub keep: Option<Node>,
    /// The request, by position, with which what was found is updated.
    pub update: Option<usize>,
}

/// How long to wait.
#[derive(Debug)]
pub(crate) enum Wait {
    Fixed(Duration),
    /// Gives milliseconds.
    Node(Node),
}

#[derive(Debug)]
pub(crate) struct FetchPlan {
    pub name: String,
    pub method: &'static str,
    pub url: Node,
    pub query: Option<Node>,
    pub headers: Option<Node>,
    pub encoding: Encoding,
    pub timeout: Duration,
    pub body: Option<Node>,
    pub keep: Node,
    pub each: Option<Node>,
    pub key: Option<Node>,
    pub lasts: Option<Wait>,
    pub rules: Vec<RulePlan>,
}
