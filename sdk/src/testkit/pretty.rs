//! Writes JSON for people: what fits into a line stays on one, the rest is indented by two. The same value always gives
//! the same text.

use crate::json::{Json, Kind, push_text};

/// The longest line that holds a whole list or object, in characters.
const WIDTH: usize = 120;

/// A value over as many lines as it needs, the first one behind what stands before it, at a depth.
pub(super) fn pretty(json: Json<'_>, depth: usize) -> String {
    let mut out = String::new();
    write(&mut out, json, depth, 0);
    out
}

/// `before`: how many characters the first line has in front of the value.
fn write(out: &mut String, json: Json<'_>, depth: usize, before: usize) {
    let mut line = String::new();
    write_line(&mut line, json);
    let is_empty = json.members().next().is_none() && json.elements().next().is_none();
    if is_empty || line.chars().count() + 2 * depth + before <= WIDTH {
        out.push_str(&line);
        return;
    }
    let (open, close) = if json.kind() == Kind::Object { ('{', '}') } else { ('[', ']') };
    out.push(open);
    let indent = "  ".repeat(depth + 1);
    for (position, (key, value)) in members_or_elements(json).enumerate() {
        out.push_str(if position > 0 { ",\n" } else { "\n" });
        out.push_str(&indent);
        let start = out.len();
        if let Some(key) = key {
            push_text(out, &key);
            out.push_str(": ");
        }
        let before = out.len() - start + 1;
        write(out, value, depth + 1, before);
    }
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
    out.push(close);
}

fn write_line(out: &mut String, json: Json<'_>) {
    let (open, close) = match json.kind() {
        Kind::Object => ("{", "}"),
        Kind::List => ("[", "]"),
        Kind::Text => return push_text(out, &json.text().unwrap_or_default()),
        _ => return out.push_str(json.raw()),
    };
    let inside = if json.kind() == Kind::Object { " " } else { "" };
    out.push_str(open);
    for (position, (key, value)) in members_or_elements(json).enumerate() {
        out.push_str(if position > 0 { ", " } else { inside });
        if let Some(key) = key {
            push_text(out, &key);
            out.push_str(": ");
        }
        write_line(out, value);
    }
    if json.members().next().is_some() {
        out.push_str(inside);
    }
    out.push_str(close);
}

fn members_or_elements<'a>(
    json: Json<'a>,
) -> impl Iterator<Item = (Option<std::borrow::Cow<'a, str>>, Json<'a>)> {
    let members = json.members().map(|(key, value)| (Some(key), value));
    members.chain(json.elements().map(|value| (None, value)))
}
