//! Tables: their lines, and what is spread into them. What stands in a line is `bind`'s.

use super::{Binder, Place, first};
use crate::manifest::lookup::Hashed;
use crate::manifest::source::{Data, Entry};
use crate::manifest::tree::{Key, Node, TableNode};
use crate::manifest::value::Value;

#[derive(Default)]
struct TableParts {
    entries: Vec<(Key, Node)>,
    spreads: Vec<Node>,
    has_expressions: bool,
}

impl Binder<'_> {
    /// A table; static tables that are spread into it become entries of its own.
    pub(super) fn table(&mut self, entries: &[Entry], place: Place) -> Node {
        let mut table = TableParts::default();
        for entry in entries {
            if entry.is_spread() {
                let spread = self.data(&entry.value, place);
                table.has_expressions = true;
                self.add_spread(spread, &mut table);
                continue;
            }
            table.has_expressions |= has_expression(&entry.value) || entry.key.single().is_some();
            let key = self.template(&entry.key, Place::Plain);
            let node = self.data(&entry.value, place);
            if matches!(&node, Node::Required(inner, _) if matches!(**inner, Node::Absent)) {
                return Node::Absent;
            }
            if !matches!((&key, &node), (Node::Absent, _) | (_, Node::Absent)) {
                table.entries.push((named_key(key), node));
            }
        }
        let guards = table.entries.iter().filter_map(|(_, node)| guard(node)).collect();
        let is_constant = |(key, node): &(Key, Node)| {
            matches!(key, Key::Name(..)) && node.as_constant().is_some_and(|constant| !constant.secret)
        };
        if table.spreads.is_empty() && table.entries.iter().all(is_constant) {
            let counts = table.entries.iter().any(|(_, node)| node.as_constant().is_some_and(|c| c.counts));
            if table.has_expressions && !counts {
                return Node::Absent;
            }
            let member = |(key, node): (Key, Node)| match key {
                Key::Name(name, _) => Some((String::from(name).into(), node.as_constant()?.value.clone())),
                Key::Node(_) => None,
            };
            return Node::constant(
                Value::Object(table.entries.into_iter().filter_map(member).collect()),
                false,
                counts,
            );
        }
        let name_bits = table.entries.iter().fold(0, |bits, (key, _)| match key {
            Key::Name(name, _) => bits | Hashed::new(name).bit(),
            Key::Node(_) => bits,
        });
        Node::Table(Box::new(TableNode {
            name_bits,
            entries: table.entries.into(),
            spreads: table.spreads.into(),
            guards,
            has_expressions: table.has_expressions,
        }))
    }

    fn add_spread(&self, node: Node, table: &mut TableParts) {
        let inner = match self.behind(&node) {
            Node::Absent => return,
            Node::List(nodes) => return nodes.iter().for_each(|node| self.add_spread(node.clone(), table)),
            Node::Table(inner)
                if !inner.entries.iter().any(|(_, node)| matches!(node, Node::Required(..))) =>
            {
                inner
            }
            _ => {
                table.spreads.push(node);
                return;
            }
        };
        for (key, node) in &inner.entries {
            let own = match key {
                Key::Name(name, _) => table.entries.iter_mut().find(|(own, _)| own.name() == Some(&**name)),
                Key::Node(_) => None,
            };
            match own {
                Some((_, own)) => *own = first(vec![std::mem::replace(own, Node::Absent), node.clone()]),
                None => table.entries.push((key.clone(), node.clone())),
            }
        }
        table.spreads.extend(inner.spreads.iter().cloned());
    }

    /// What a value, or one that is nothing but another value, stands for.
    fn behind<'n>(&'n self, mut node: &'n Node) -> &'n Node {
        while let Node::Value(slot) = node
            && let Some(Some(inner)) = self.values.get(*slot)
        {
            node = inner;
        }
        node
    }
}

fn named_key(node: Node) -> Key {
    match node.as_constant().and_then(|constant| constant.value.as_text()) {
        Some(name) => {
            let mut json = String::new();
            crate::json::push_text(&mut json, &name);
            json.push(':');
            Key::Name((*name).into(), json.into())
        }
        None => Key::Node(node),
    }
}

/// The field without which a required entry is absent.
fn guard(node: &Node) -> Option<usize> {
    let Node::Required(inner, _) = node else { return None };
    match &**inner {
        Node::Field(slot) => Some(*slot),
        Node::Call(call) => match (&call.input, call.function.name) {
            (Node::Field(slot), "keys" | "values") => Some(*slot),
            _ => None,
        },
        _ => None,
    }
}

fn has_expression(data: &Data) -> bool {
    let mut found = Vec::new();
    data.templates(&mut found);
    found.iter().any(|template| template.pipes().next().is_some())
}
