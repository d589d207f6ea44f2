//! The usual chains of functions, prepared when a destination is configured, so that an event's texts are cut and its
//! dates written without a value in between. What is not usual is left to `render`, which gives the same bytes.

use super::functions::text;
use super::tree::{Argument, Call, Node, Source};
use crate::dates::{Format, push_date, push_iso};
use crate::event::Date;

/// What steps make of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'t> {
    Part(&'t str),
    Absent,
    /// It would have to be changed: the functions themselves know.
    Unsure,
}

/// One function that takes a part of a text, or leaves the usual text as it is.
#[derive(Clone, Debug)]
enum Step {
    Starting(Box<str>),
    NotStarting(Box<str>),
    Contains(Box<str>),
    Fits(usize),
    Cut(usize),
    CutBytes(usize),
    Email,
    Text,
    Lower,
    E164,
    /// Words with this between them.
    Words(u8),
}

impl Step {
    fn of(call: &Call) -> Option<Step> {
        let argument = || match call.args.first() {
            Some(Argument::Node(node)) => node.as_constant()?.value.as_text(),
            _ => None,
        };
        let text = || argument().map(|text| Box::from(&*text));
        let count = || argument().and_then(|text| text.parse().ok());
        Some(match call.function.name {
            "starting" => Step::Starting(text()?),
            "not_starting" => Step::NotStarting(text()?),
            "contains" => Step::Contains(text()?),
            "fits" => Step::Fits(count()?),
            "cut" => Step::Cut(count()?),
            "cut_bytes" => Step::CutBytes(count()?),
            "email" => Step::Email,
            "text" => Step::Text,
            "lower" => Step::Lower,
            "e164" => Step::E164,
            "snake" => Step::Words(b'_'),
            "kebab" => Step::Words(b'-'),
            _ => return None,
        })
    }

    fn take<'t>(&self, text: &'t str) -> Found<'t> {
        let only_if = |passes| if passes { Found::Part(text) } else { Found::Absent };
        let unchanged = |is_so| if is_so { Found::Part(text) } else { Found::Unsure };
        match self {
            Step::Starting(start) => only_if(text.starts_with(&**start)),
            Step::NotStarting(start) => only_if(!text.starts_with(&**start)),
            Step::Contains(part) => only_if(text.contains(&**part)),
            Step::Fits(most) => only_if(text.len() <= *most || text.chars().nth(*most).is_none()),
            Step::Cut(most) if text.len() <= *most => Found::Part(text),
            Step::Cut(most) => {
                let end = text.char_indices().nth(*most).map_or(text.len(), |(at, _)| at);
                Found::Part(text.get(..end).unwrap_or_default())
            }
            Step::CutBytes(most) => {
                Found::Part(text.get(..text.floor_char_boundary(*most)).unwrap_or_default())
            }
            Step::Email => only_if(text::is_email(text)),
            Step::Text => Found::Part(text),
            Step::Lower => {
                let trimmed = text.trim();
                let is_lower = trimmed.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
                if is_lower { Found::Part(trimmed) } else { Found::Unsure }
            }
            Step::E164 => {
                let digits = text.strip_prefix('+').unwrap_or_default();
                let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
                unchanged(is_plain && (7..=15).contains(&digits.len()) && !digits.starts_with('0'))
            }
            Step::Words(between) => {
                let is_word = |word: &[u8]| {
                    !word.is_empty() && word.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                };
                unchanged(text.as_bytes().split(|byte| byte == between).all(is_word))
            }
        }
    }
}

/// Functions one behind the other, from text to text.
#[derive(Clone, Debug)]
pub(crate) struct TextForm(Box<[Step]>);

impl TextForm {
    /// Those of a node; and where the text comes from.
    pub fn of(node: &Node) -> Option<(&Source, TextForm)> {
        let mut steps = Vec::new();
        let mut at = node;
        let source = loop {
            match at {
                Node::Source(source) => break source,
                Node::Call(call) if !call.secret => {
                    steps.push(Step::of(call)?);
                    at = &call.input;
                }
                _ => return None,
            }
        };
        steps.reverse();
        Some((source, TextForm(steps.into())))
    }

    pub fn take<'t>(&self, mut text: &'t str) -> Found<'t> {
        if is_blank(text) {
            return Found::Absent;
        }
        for step in &self.0 {
            match step.take(text) {
                Found::Part(part) if part.len() == text.len() || !is_blank(part) => text = part,
                Found::Unsure => return Found::Unsure,
                _ => return Found::Absent,
            }
        }
        Found::Part(text)
    }
}

/// Whether a text holds nothing but white space.
pub(crate) fn is_blank(text: &str) -> bool {
    match text.as_bytes().first() {
        Some(b'!'..=b'~') => false,
        _ => text.trim().is_empty(),
    }
}

/// One way to write a date.
#[derive(Clone, Debug)]
pub(crate) struct DateStep {
    days_only: bool,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Iso,
    Date,
    Unix,
    UnixMs,
    Format(Format),
}

impl DateStep {
    /// That of a node; and where the date comes from.
    pub fn of(node: &Node) -> Option<(&Source, DateStep)> {
        let Node::Call(call) = node else { return None };
        if call.secret {
            return None;
        }
        let how = match call.function.name {
            "iso" => How::Iso,
            "date" => How::Date,
            "unix" => How::Unix,
            "unix_ms" => How::UnixMs,
            "format" => How::Format(format_of(call)?),
            _ => return None,
        };
        match &call.input {
            Node::Source(source) => Some((source, DateStep { days_only: false, how })),
            Node::Call(inner) if inner.function.name == "day" && !inner.secret => match &inner.input {
                Node::Source(source) => Some((source, DateStep { days_only: true, how })),
                _ => None,
            },
            _ => None,
        }
    }

    /// Writes a date as JSON; `false` where it takes days alone and this is none.
    pub fn write(&self, date: Date, out: &mut String) -> bool {
        if self.days_only && matches!(date, Date::Moment(_)) {
            return false;
        }
        let quoted = |out: &mut String, push: &dyn Fn(&mut String)| {
            out.push('"');
            push(out);
            out.push('"');
        };
        match &self.how {
            How::Iso => quoted(out, &|out| push_iso(out, date)),
            How::Date => quoted(out, &|out| push_date(out, date)),
            How::Format(format) => quoted(out, &|out| format.push(out, date)),
            How::Unix => push_whole(out, date.unix()),
            How::UnixMs => push_whole(out, date.unix_ms()),
        }
        true
    }
}

/// A format whose texts need no escape and that is never blank.
fn format_of(call: &Call) -> Option<Format> {
    let Some(Argument::Node(node)) = call.args.first() else { return None };
    let pattern = node.as_constant()?.value.as_text()?;
    let is_plain = !pattern.contains(|c: char| c.is_control() || matches!(c, '"' | '\\'));
    if !is_plain || is_blank(&pattern) {
        return None;
    }
    Format::new(&pattern).ok()
}

fn push_whole(out: &mut String, number: i64) {
    use std::fmt::Write;
    // Writing into a text cannot fail.
    let _ = write!(out, "{number}");
}

/// How dates are written that name no format.
#[derive(Clone, Debug)]
pub(crate) struct DatePolicy {
    pub node: Node,
    /// The first that takes the date writes it.
    steps: Option<Box<[DateStep]>>,
}

impl DatePolicy {
    pub fn new(node: Node) -> DatePolicy {
        let of_value = |node| match DateStep::of(node) {
            Some((Source::Value, step)) => Some(step),
            _ => None,
        };
        let steps = match &node {
            Node::First(nodes) => nodes.iter().map(of_value).collect(),
            node => of_value(node).map(|step| Box::from([step])),
        };
        DatePolicy { node, steps }
    }

    /// Writes a date as JSON; `None` where only the node itself knows, `Some(false)` where it leaves the date out.
    pub fn write(&self, date: Date, out: &mut String) -> Option<bool> {
        Some(self.steps.as_ref()?.iter().any(|step| step.write(date, out)))
    }
}

/// A chain from a source, see [`Call`].
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub source: Source,
    pub chain: Chain,
}

#[derive(Clone, Debug)]
pub(crate) enum Chain {
    Text(TextForm),
    Date(DateStep),
}

impl Form {
    pub fn of(node: &Node) -> Option<Form> {
        if let Some((source, step)) = DateStep::of(node) {
            return Some(Form { source: source.clone(), chain: Chain::Date(step) });
        }
        let (source, form) = TextForm::of(node)?;
        Some(Form { source: source.clone(), chain: Chain::Text(form) })
    }
}

#[cfg(test)]
mod tests;
