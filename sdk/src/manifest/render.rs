//! Evaluates nodes: to values, and to JSON straight into a buffer that is cut back where something turns out absent.
//! It does not know requests (`request`) nor how the rest is handed out (`rest`).

use std::borrow::Cow;

use super::call::group_value;
use super::expression::Member;
use super::field::FieldBuffer;
use super::forms::{Chain, DatePolicy, Form, Found, is_blank};
use super::functions::{self, Arg};
use super::plan::Program;
use super::rest::Null;
use super::schema::Kind;
use super::tree::{Argument, Call, Constant, Key, Node, OptionSpec, Source, TableNode};
use super::value::{Dates, Value};
use crate::event::{Date, Event, Field};
use crate::json::{Doc, Json, push_text};
use crate::reserved::Reserved;

pub(crate) use super::scope::{Attempt, Found as FoundId, Gone, MASK, Notes, Reply, Scope, Wrote};

impl<'a> Scope<'a> {
    /// One in which only constants can be read.
    pub fn of_constants(program: &'a Program, notes: &'a Notes) -> Scope<'a> {
        Scope {
            program,
            notes,
            event: None,
            options: None,
            identity: None,
            fields: &[],
            fetched: &[],
            replies: &[],
            found: FoundId::Unknown,
            given: &[],
            settled: false,
            reply: None,
            items: "",
            attempt: None,
            key: None,
            value: None,
            dates: program.rest.dates.as_ref(),
            guess_dates: false,
            now_ms: 0,
            hide: false,
        }
    }

    /// Whether a condition holds.
    pub fn holds(&self, node: &'a Node) -> bool {
        match node {
            Node::Field(slot) => self.fields.get(*slot).is_some_and(|field| !field.is_empty()),
            _ => self.eval(node).is_ok_and(|value| value.holds()),
        }
    }

    /// A node's scalar as text.
    pub fn text(&self, node: &'a Node) -> Result<Cow<'a, str>, Gone> {
        self.eval(node)?.into_text().ok_or(Gone::Absent)
    }

    /// A node's value.
    pub fn eval(&self, node: &'a Node) -> Result<Value<'a>, Gone> {
        match node {
            Node::Absent => Err(Gone::Absent),
            Node::Constant(constant) => Ok(self.constant(constant)),
            Node::Source(source) => self.source(source),
            Node::Member(inner, members) => match self.unknown(inner) {
                Some(name) => Ok(Value::text(placeholder(&name, members))),
                None => member(self.eval(inner)?, members),
            },
            Node::Text(parts) => {
                let mut text = String::new();
                for part in parts {
                    text.push_str(&self.text(part)?);
                }
                Ok(Value::text(text))
            }
            Node::First(nodes) => self.first(nodes, |scope, node| scope.eval(node)),
            Node::Call(call) => self.call(call),
            Node::If(choice) => {
                let value = self.eval(&choice.input)?;
                if self.holds(&choice.condition) != choice.unless { Ok(value) } else { Err(Gone::Absent) }
            }
            Node::Required(inner, at) => self.eval(inner).map_err(|_| self.missing(*at)),
            Node::Table(table) => self.object(table),
            Node::List(nodes) => {
                let values: Vec<Value<'a>> = nodes.iter().filter_map(|node| self.eval(node).ok()).collect();
                if values.is_empty() { Err(Gone::Absent) } else { Ok(Value::List(values)) }
            }
            Node::Value(slot) => self.eval(self.program.value(*slot)),
            Node::Field(_) => {
                let mut json = String::new();
                self.write(node, &mut json)?;
                parsed(&json)
            }
            Node::Segment(inner) => {
                let text = self.text(inner)?;
                if self.is_unknown(inner) {
                    return Ok(Value::text(text));
                }
                Ok(Value::text(super::request::percent_encoded(&text)))
            }
            Node::Origin(inner) => {
                let text = self.text(inner)?;
                match super::request::origin(&text) {
                    Some(origin) => Ok(Value::text(origin.to_owned())),
                    None if self.is_unknown(inner) => Ok(Value::text(format!("https://{text}"))),
                    None => Err(Gone::Absent),
                }
            }
            Node::Nullable(inner, _) | Node::Volatile(inner) => self.eval(inner),
        }
    }

    /// What a source is called that will be known only when the request is sent.
    fn unknown(&self, node: &Node) -> Option<String> {
        let Node::Source(source) = node else { return None };
        match source {
            Source::Fetch(slot) if !self.settled && self.fetched.get(*slot).is_none() => {
                self.program.fetches.get(*slot).map(|fetch| format!("fetch.{}", fetch.name))
            }
            Source::Reply(request) if !self.settled && !self.has_reply(*request) => {
                self.program.requests.get(*request).map(|of| format!("reply.{}.body", of.name))
            }
            Source::Found if matches!(self.found, FoundId::Unknown) && !self.settled => {
                Some("found".to_owned())
            }
            _ => None,
        }
    }

    fn has_reply(&self, request: usize) -> bool {
        self.replies.iter().any(|(of, _)| *of == request)
    }

    fn is_unknown(&self, node: &Node) -> bool {
        match node {
            Node::Member(inner, _) => self.unknown(inner).is_some(),
            node => self.unknown(node).is_some(),
        }
    }

    fn missing(&self, at: usize) -> Gone {
        self.notes.required_at.set(Some(at));
        Gone::Required
    }

    fn constant(&self, constant: &'a Constant) -> Value<'a> {
        if self.hide && constant.secret { constant.shown.borrow() } else { constant.value.borrow() }
    }

    /// The first of several that is present.
    fn first<T>(
        &self,
        nodes: &'a [Node],
        mut attempt: impl FnMut(&Self, &'a Node) -> Result<T, Gone>,
    ) -> Result<T, Gone> {
        for (position, node) in nodes.iter().enumerate() {
            // What is not known yet gives way to what is.
            let inner = if let Node::Origin(inner) = node { inner } else { node };
            if position + 1 < nodes.len() && self.is_unknown(inner) {
                continue;
            }
            match attempt(self, node) {
                Err(Gone::Absent) => {}
                found => return found,
            }
        }
        Err(Gone::Absent)
    }

    fn call(&self, call: &'a Call) -> Result<Value<'a>, Gone> {
        if let ("json", Node::Source(Source::Items)) = (call.function.name, &call.input) {
            return Ok(Value::text(self.items));
        }
        let input = self.eval(&call.input)?;
        let argument = |argument: &'a Argument| match argument {
            Argument::Table(table) => Arg::Table(table),
            Argument::Node(node) => Arg::Value(self.eval(node).ok()),
        };
        let value = match &*call.args {
            [] => functions::apply(call.function, input, &[], self.now_ms),
            [one] => functions::apply(call.function, input, &[argument(one)], self.now_ms),
            all => {
                let all: Vec<Arg<'a>> = all.iter().map(argument).collect();
                functions::apply(call.function, input, &all, self.now_ms)
            }
        };
        let value = value.ok_or(Gone::Absent)?;
        Ok(if self.hide && call.secret { Value::text(MASK) } else { value })
    }

    fn source(&self, source: &'a Source) -> Result<Value<'a>, Gone> {
        let value = match source {
            Source::Found => match self.found {
                FoundId::Id(id) => Some(Value::text(id)),
                FoundId::Unknown if !self.settled => Some(Value::text("<found>")),
                FoundId::Unknown | FoundId::Nothing => None,
            },
            Source::Given(slot) => {
                self.given.iter().rfind(|(of, _)| of == slot).map(|(_, text)| Value::text(&**text))
            }
            Source::UserId => self.event.and_then(Event::user_id).map(Value::text),
            Source::AnonymousId => self.event.and_then(Event::anonymous_id).map(Value::text),
            Source::MessageId => self.event.map(|event| Value::text(event.message_id())),
            Source::Timestamp => self.event.map(|event| Value::Date(Date::Moment(event.timestamp_ms()))),
            Source::ReceivedAt => self.event.map(|event| Value::Date(Date::Moment(event.received_at_ms()))),
            Source::Reserved(reserved) => {
                self.event.and_then(|event| Value::from_field(event.reserved(*reserved)))
            }
            Source::Group(group) => self.event.and_then(|event| group_value(event, *group, group.members())),
            Source::Named(id) => self.event.and_then(|event| event.named(*id)).map(Value::from_json),
            Source::Option(spec) => self.option(spec),
            Source::Raw => self.event.map(|event| Value::from_json(event.raw())),
            Source::Event | Source::Items => {
                let mut json = String::new();
                self.write_source(source, &mut json)?;
                return parsed(&json);
            }
            Source::Identity => self.identity.cloned(),
            Source::Fetch(slot) => match self.fetched.get(*slot) {
                Some(doc) => Some(Value::from_json(doc.root())),
                None if self.settled => None,
                None => self
                    .program
                    .fetches
                    .get(*slot)
                    .map(|fetch| Value::text(format!("<fetch.{}>", fetch.name))),
            },
            Source::Key => self.key.map(|key| key.borrow()),
            Source::Value => self.value.map(|value| value.borrow()),
            Source::Status => self.reply.map(|reply| Value::whole(reply.status)),
            Source::Header(name) => self.reply.and_then(|reply| header(reply, name)),
            Source::Body => self.reply.and_then(body),
            Source::Reply(request) => match self.replies.iter().rfind(|(of, _)| of == request) {
                Some((_, reply)) => body(reply),
                None if self.settled => None,
                None => {
                    self.program.requests.get(*request).map(|of| Value::text(format!("<reply.{}>", of.name)))
                }
            },
            Source::AttemptId => self.attempt.map(|attempt| Value::text(&*attempt.id)),
            Source::AttemptTime => self.attempt.map(|attempt| Value::Date(Date::Moment(attempt.time_ms))),
            Source::AttemptNonce => self.attempt.map(|attempt| Value::text(&*attempt.nonce)),
            Source::AttemptBody => self.attempt.map(|attempt| Value::text(&*attempt.body)),
        };
        value.filter(|value| !matches!(value, Value::Null) && !value.is_blank()).ok_or(Gone::Absent)
    }

    /// An option of the call, where it has the declared type and matches the pattern.
    fn option(&self, spec: &OptionSpec) -> Option<Value<'a>> {
        let value = Value::from_json(self.options?.get(&spec.name)?);
        let fits = match (spec.kind, &value) {
            (_, Value::Null) => return None,
            (Kind::Bool, value) => matches!(value, Value::Bool(_)),
            (Kind::Int, Value::Number(number)) => number.parse::<i64>().is_ok(),
            (Kind::Num, value) => matches!(value, Value::Number(_)),
            (Kind::List, Value::Json(json)) => json.kind() == crate::json::Kind::List,
            (Kind::Map, Value::Json(json)) => json.kind() == crate::json::Kind::Object,
            (Kind::Choice, Value::Text(text)) => spec.choices.iter().any(|choice| choice == text),
            (Kind::Text, value) => matches!(value, Value::Text(_) | Value::Number(_)),
            _ => false,
        };
        let matches =
            |pattern: &regex_lite::Regex| value.as_text().is_some_and(|text| pattern.is_match(&text));
        let fits = fits && spec.pattern.as_ref().is_none_or(matches);
        if !fits {
            self.notes.warn("option_invalid", &spec.name);
        }
        fits.then_some(value)
    }

    fn object(&self, table: &'a TableNode) -> Result<Value<'a>, Gone> {
        let mut members: Vec<(Cow<'a, str>, Value<'a>)> = Vec::with_capacity(table.entries.len());
        let mut any = false;
        for (key, node) in &table.entries {
            let key = match key {
                Key::Name(name, _) => Ok(Cow::Borrowed(&**name)),
                Key::Node(node) => self.text(node),
            };
            match key.and_then(|key| Ok((key, self.eval(node)?))) {
                Ok(member) => {
                    any |= node.as_constant().is_none_or(|constant| constant.counts);
                    members.push(member);
                }
                Err(Gone::Absent) => {}
                Err(Gone::Required) => return Err(Gone::Absent),
            }
        }
        for spread in &table.spreads {
            self.spread(spread, &mut |key, value| {
                any = true;
                if !members.iter().any(|(taken, _)| *taken == key) {
                    members.push((key, value));
                }
            });
        }
        if any || !table.has_expressions { Ok(Value::Object(members)) } else { Err(Gone::Absent) }
    }

    /// Every member of what is spread; a list spreads each of its elements.
    pub fn spread(&self, node: &'a Node, take: &mut dyn FnMut(Cow<'a, str>, Value<'a>)) {
        match node {
            Node::List(nodes) => nodes.iter().for_each(|node| self.spread(node, take)),
            _ => {
                let members = self.eval(node).ok().and_then(Value::members).unwrap_or_default();
                members.into_iter().for_each(|(key, value)| take(key, value));
            }
        }
    }

    /// Writes a node as JSON; what was written before stays when it is gone.
    pub fn write(&self, node: &'a Node, out: &mut String) -> Result<Wrote, Gone> {
        match node {
            Node::Constant(constant) => {
                match self.hide && constant.secret {
                    true => constant.shown.write_json(out, &Dates::ISO),
                    false => out.push_str(&constant.json),
                }
                Ok(if constant.counts { Wrote::Present } else { Wrote::Constant })
            }
            Node::Source(Source::Reserved(reserved)) => self.write_reserved(*reserved, out),
            Node::Source(source @ (Source::Event | Source::Items)) => self.write_source(source, out),
            Node::First(nodes) => self.first(nodes, |scope, node| scope.write(node, out)),
            Node::If(choice)
                if matches!(
                    choice.input,
                    Node::Source(Source::Event)
                        | Node::Table(_)
                        | Node::Value(_)
                        | Node::Nullable(..)
                        | Node::If(_)
                ) =>
            {
                match self.holds(&choice.condition) != choice.unless {
                    true => self.write(&choice.input, out),
                    false => Err(Gone::Absent),
                }
            }
            Node::Required(inner, at) => self.write(inner, out).map_err(|_| self.missing(*at)),
            Node::Table(table) => self.write_table(table, out),
            Node::List(nodes) => self.write_list(nodes, out),
            Node::Value(slot) => self.write(self.program.value(*slot), out),
            Node::Field(slot) => {
                self.write_field(*slot, out, '{', |buffer, out| out.push_str(buffer.members()), '}')
            }
            Node::Call(call) => match (call.function.name, &call.input) {
                ("keys", Node::Field(slot)) => self.write_field(*slot, out, '[', FieldBuffer::push_keys, ']'),
                ("values", Node::Field(slot)) => {
                    self.write_field(*slot, out, '[', FieldBuffer::push_values, ']')
                }
                _ => match call.form.as_ref().and_then(|form| self.write_form(form, out)) {
                    Some(wrote) => wrote,
                    None => self.write_value(&self.call(call)?, out),
                },
            },
            Node::Nullable(inner, source) => match self.write(inner, out) {
                Err(Gone::Absent) if self.is_null(source) => self.write_null(out),
                wrote => wrote,
            },
            Node::Volatile(inner) => {
                let start = out.len();
                let wrote = self.write(inner, out)?;
                self.notes.volatile.borrow_mut().push((start, out.len()));
                Ok(wrote)
            }
            _ => self.write_value(&self.eval(node)?, out),
        }
    }

    /// Writes a value as JSON, its dates as the rest's policy says.
    pub fn write_value(&self, value: &Value<'_>, out: &mut String) -> Result<Wrote, Gone> {
        self.write_value_as(value, self.dates, self.guess_dates, out)
    }

    /// The same with another policy for dates.
    pub fn write_value_as(
        &self,
        value: &Value<'_>,
        dates: Option<&'a DatePolicy>,
        guess: bool,
        out: &mut String,
    ) -> Result<Wrote, Gone> {
        match value {
            Value::Bytes(_) => return Err(Gone::Absent),
            Value::Text(text) if !guess => push_text(out, text),
            Value::Number(number) => out.push_str(number),
            Value::Date(date) => self.write_date(*date, dates, out),
            value => {
                let write = |date: Date, out: &mut String| self.write_date(date, dates, out);
                value.write_json(out, &Dates { write: &write, guess });
            }
        }
        Ok(Wrote::Present)
    }

    fn write_date(&self, date: Date, dates: Option<&'a DatePolicy>, out: &mut String) {
        let mark = out.len();
        if let Some(policy) = dates {
            let written = policy.write(date, out).unwrap_or_else(|| {
                // What the policy writes is a text of the vendor's form: no date is looked for in it.
                let value = Value::Date(date);
                let scope = Scope { value: Some(&value), dates: None, guess_dates: false, ..*self };
                scope.write(&policy.node, out).is_ok()
            });
            if written {
                return;
            }
        }
        out.truncate(mark);
        (Dates::ISO.write)(date, out);
    }

    fn write_reserved(&self, reserved: Reserved, out: &mut String) -> Result<Wrote, Gone> {
        match self.event.map_or(Field::Absent, |event| event.reserved(reserved)) {
            Field::Text(text) if is_blank(text) => return Err(Gone::Absent),
            Field::Text(text) if self.guess_dates => return self.write_value(&Value::text(text), out),
            Field::Text(text) => push_text(out, text),
            Field::Number(number) => out.push_str(number),
            Field::Date(date) => self.write_date(date, self.dates, out),
            Field::Absent | Field::Null => return Err(Gone::Absent),
        }
        Ok(Wrote::Present)
    }

    /// Writes a usual chain; `None` where the value is not the usual one.
    fn write_form(&self, form: &'a Form, out: &mut String) -> Option<Result<Wrote, Gone>> {
        let value = match self.source(&form.source) {
            Ok(value) => value,
            Err(gone) => return Some(Err(gone)),
        };
        let wrote = match (&value, &form.chain) {
            (Value::Text(text), Chain::Text(steps)) if !self.guess_dates => match steps.take(text) {
                Found::Unsure => return None,
                Found::Absent => false,
                Found::Part(part) => {
                    push_text(out, part);
                    true
                }
            },
            (Value::Date(date), Chain::Date(step)) => step.write(*date, out),
            _ => return None,
        };
        Some(if wrote { Ok(Wrote::Present) } else { Err(Gone::Absent) })
    }

    /// Whether it is quickly seen that a node is absent.
    fn is_absent(&self, node: &'a Node) -> bool {
        match (node, self.event) {
            (Node::Source(Source::Reserved(reserved)), Some(event)) => !event.has(*reserved),
            (Node::Source(Source::Named(id)), Some(event)) => event.named(*id).is_none(),
            (Node::First(nodes), _) => nodes.iter().all(|node| self.is_absent(node)),
            (Node::Call(call), _) => self.is_absent(&call.input),
            _ => false,
        }
    }

    fn write_source(&self, source: &Source, out: &mut String) -> Result<Wrote, Gone> {
        match (source, self.event) {
            (Source::Items, _) => out.push_str(self.items),
            (_, Some(event)) => event.write_canonical(out),
            (_, None) => return Err(Gone::Absent),
        }
        Ok(Wrote::Present)
    }

    fn is_null(&self, source: &Source) -> bool {
        match (source, self.event) {
            (Source::Reserved(reserved), Some(event)) => event.unsets(*reserved),
            (Source::Named(id), Some(event)) => event.named(*id).is_some_and(Json::is_null),
            _ => false,
        }
    }

    fn write_null(&self, out: &mut String) -> Result<Wrote, Gone> {
        match &self.program.rest.null {
            Null::Drop => return Err(Gone::Absent),
            Null::Keep => out.push_str("null"),
            Null::Write(json) => out.push_str(json),
        }
        Ok(Wrote::Present)
    }

    fn write_list(&self, nodes: &'a [Node], out: &mut String) -> Result<Wrote, Gone> {
        let start = out.len();
        let (mut present, mut first) = (nodes.iter().all(Node::is_fixed), true);
        out.push('[');
        for node in nodes {
            let mark = out.len();
            if !first {
                out.push(',');
            }
            match self.write(node, out) {
                Ok(wrote) => {
                    present |= wrote == Wrote::Present;
                    first = false;
                }
                Err(_) => self.notes.cut(out, mark),
            }
        }
        if !present {
            self.notes.cut(out, start);
            return Err(Gone::Absent);
        }
        out.push(']');
        Ok(Wrote::Present)
    }

    fn write_table(&self, table: &'a TableNode, out: &mut String) -> Result<Wrote, Gone> {
        let is_empty = |slot: &usize| self.fields.get(*slot).is_none_or(FieldBuffer::is_empty);
        if table.guards.iter().any(is_empty) {
            return Err(Gone::Absent);
        }
        let start = out.len();
        out.push('{');
        let mut present = false;
        let mut written: u64 = 0;
        for (position, (key, node)) in table.entries.iter().enumerate() {
            if self.is_absent(node) {
                continue;
            }
            let mark = out.len();
            if mark > start + 1 {
                out.push(',');
            }
            let wrote = match key {
                Key::Name(_, json) => {
                    out.push_str(json);
                    self.write(node, out)
                }
                Key::Node(key) => self.text(key).and_then(|key| {
                    push_text(out, &key);
                    out.push(':');
                    self.write(node, out)
                }),
            };
            match wrote {
                Ok(wrote) => {
                    present |= wrote == Wrote::Present;
                    written |= 1 << position.min(63);
                }
                Err(Gone::Absent) => self.notes.cut(out, mark),
                Err(Gone::Required) => {
                    self.notes.cut(out, start);
                    return Err(Gone::Absent);
                }
            }
        }
        for spread in &table.spreads {
            present |= self.write_spread(spread, table, written, start + 1, out);
        }
        if !present && table.has_expressions {
            self.notes.cut(out, start);
            return Err(Gone::Absent);
        }
        out.push('}');
        Ok(if present { Wrote::Present } else { Wrote::Constant })
    }

    /// Writes the members of what is spread, but for those that the table has by itself; answers whether there were any.
    fn write_spread(
        &self,
        node: &'a Node,
        table: &'a TableNode,
        written: u64,
        inner: usize,
        out: &mut String,
    ) -> bool {
        let is_taken = |key: &str| {
            let has_name = |(position, (name, _)): (usize, &(Key, Node))| {
                written & (1 << position.min(63)) != 0 && matches!(name, Key::Name(name, _) if **name == *key)
            };
            table.entries.iter().enumerate().any(has_name)
        };
        match node {
            Node::List(nodes) => {
                let mut any = false;
                for node in nodes {
                    any |= self.write_spread(node, table, written, inner, out);
                }
                any
            }
            Node::Field(slot) => {
                let Some(buffer) = self.fields.get(*slot).filter(|buffer| !buffer.is_empty()) else {
                    return false;
                };
                if !buffer.has_any(table.name_bits, is_taken) {
                    if out.len() > inner {
                        out.push(',');
                    }
                    out.push_str(buffer.members());
                    return true;
                }
                for (key, member) in buffer.iter() {
                    if is_taken(key) {
                        self.notes.warn("key_taken", key);
                        continue;
                    }
                    if out.len() > inner {
                        out.push(',');
                    }
                    out.push_str(member);
                }
                true
            }
            _ => {
                let mut any = false;
                self.spread(node, &mut |key, value| {
                    any = true;
                    if is_taken(&key) {
                        return;
                    }
                    let mark = out.len();
                    if mark > inner {
                        out.push(',');
                    }
                    push_text(out, &key);
                    out.push(':');
                    if self.write_value(&value, out).is_err() {
                        out.truncate(mark);
                    }
                });
                any
            }
        }
    }

    fn write_field(
        &self,
        slot: usize,
        out: &mut String,
        open: char,
        write: impl Fn(&FieldBuffer, &mut String),
        close: char,
    ) -> Result<Wrote, Gone> {
        let buffer = self.fields.get(slot).filter(|buffer| !buffer.is_empty()).ok_or(Gone::Absent)?;
        out.push(open);
        write(buffer, out);
        out.push(close);
        Ok(Wrote::Present)
    }
}

/// What stands for a member of something that is not known yet.
fn placeholder(name: &str, members: &[Member]) -> String {
    let mut text = format!("<{name}");
    for member in members {
        match member {
            Member::Name(name) => {
                text.push('.');
                text.push_str(name);
            }
            Member::Index(position) => text.push_str(&format!("[{position}]")),
        }
    }
    text.push('>');
    text
}

fn member<'a>(value: Value<'a>, members: &[Member]) -> Result<Value<'a>, Gone> {
    let found = members.iter().try_fold(value, |value, member| match member {
        Member::Name(name) => value.get(name),
        Member::Index(position) => value.index(*position),
    });
    found.filter(|value| !matches!(value, Value::Null) && !value.is_blank()).ok_or(Gone::Absent)
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<Value<'a>> {
    reply.headers.iter().find(|(header, _)| header == name).map(|(_, value)| Value::text(&**value))
}

fn body(reply: &Reply) -> Option<Value<'_>> {
    match &reply.doc {
        Some(doc) => Some(Value::from_json(doc.root())),
        None => Some(Value::text(&*reply.text)),
    }
}

/// JSON that was written by this engine, as a value of its own.
fn parsed<'a>(json: &str) -> Result<Value<'a>, Gone> {
    Doc::parse(json.into()).map(|doc| owned(doc.root())).map_err(|_| Gone::Absent)
}

/// A value that borrows from nothing.
pub(crate) fn owned(json: Json<'_>) -> Value<'static> {
    match Value::from_json(json) {
        Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
        Value::Number(number) => Value::Number(Cow::Owned(number.into_owned())),
        Value::Bool(yes) => Value::Bool(yes),
        Value::Json(json) if json.kind() == crate::json::Kind::List => {
            Value::List(json.elements().map(owned).collect())
        }
        Value::Json(json) => Value::Object(
            json.members().map(|(key, value)| (Cow::Owned(key.into_owned()), owned(value))).collect(),
        ),
        _ => Value::Null,
    }
}
