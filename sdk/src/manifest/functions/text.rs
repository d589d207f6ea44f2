//! Functions from text to text, and between texts and lists.

use std::borrow::Cow;

use super::{Arg, count_at, text_at};
use crate::manifest::value::Value;

/// A text, a number or a date as text; the others are refused.
fn accept(input: Value<'_>) -> Option<Cow<'_, str>> {
    match input {
        Value::Bool(_) => None,
        other => other.into_text(),
    }
}

pub(super) fn starting<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let start = text_at(args, 0)?;
    accept(input).filter(|text| text.starts_with(&*start)).map(Value::Text)
}

pub(super) fn not_starting<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let start = text_at(args, 0);
    accept(input).filter(|text| start.is_none_or(|start| !text.starts_with(&*start))).map(Value::Text)
}

pub(super) fn ending<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let end = text_at(args, 0)?;
    accept(input).filter(|text| text.ends_with(&*end)).map(Value::Text)
}

pub(super) fn contains<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let part = text_at(args, 0)?;
    accept(input).filter(|text| text.contains(&*part)).map(Value::Text)
}

pub(super) fn fits<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let most = count_at(args, 0)?;
    accept(input).filter(|text| text.chars().nth(most).is_none()).map(Value::Text)
}

pub(super) fn email<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    accept(input).filter(|text| is_email(text)).map(Value::Text)
}

/// The form `local@host.domain`, without white space; nothing says that the address exists.
pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let labels_are_filled = domain.contains('.') && domain.split('.').all(|label| !label.is_empty());
    let plain = !text.chars().any(|c| c.is_whitespace() || c.is_control());
    !local.is_empty() && !local.contains('@') && labels_are_filled && plain && text.len() <= 254
}

pub(super) fn uuid<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    accept(input).filter(|text| text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()).map(Value::Text)
}

pub(super) fn lower<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    accept(input).map(|text| Value::text(text.trim().to_lowercase()))
}

pub(super) fn upper<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    accept(input).map(|text| Value::text(text.to_uppercase()))
}

pub(super) fn snake<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    accept(input).map(|text| Value::text(words(&text).join("_")))
}

pub(super) fn kebab<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    accept(input).map(|text| Value::text(words(&text).join("-")))
}

pub(super) fn camel<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let mut out = String::new();
    for word in words(&accept(input)?) {
        let mut chars = word.chars();
        match chars.next() {
            Some(first) if !out.is_empty() => out.extend(first.to_uppercase()),
            Some(first) => out.push(first),
            None => {}
        }
        out.push_str(chars.as_str());
    }
    Some(Value::text(out))
}

/// The words of a name in lower case: parted by whatever is no letter or digit, and before a capital that follows a
/// small letter or a digit, or ends a run of capitals (`userID` is two words, `HTTPServer` too).
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    let mut before: Option<char> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if !c.is_alphanumeric() {
            open = false;
            before = None;
            continue;
        }
        let next_is_small = chars.peek().is_some_and(|next| next.is_lowercase());
        let starts = c.is_uppercase() && before.is_some_and(|before| !before.is_uppercase() || next_is_small);
        if !open || starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
        open = true;
        before = Some(c);
    }
    words
}

pub(super) fn cut<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let most = count_at(args, 0)?;
    cut_text(input, |text| text.char_indices().nth(most).map(|(at, _)| at))
}

pub(super) fn cut_bytes<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let most = count_at(args, 0)?;
    cut_text(input, |text| (text.len() > most).then(|| text.floor_char_boundary(most)))
}

/// Cuts a text where `at` says; other types pass.
fn cut_text<'a>(input: Value<'a>, at: impl Fn(&str) -> Option<usize>) -> Option<Value<'a>> {
    let Value::Text(text) = input else { return Some(input) };
    let Some(end) = at(&text) else { return Some(Value::Text(text)) };
    Some(match text {
        Cow::Borrowed(text) => Value::text(text.get(..end).unwrap_or_default()),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Value::text(text)
        }
    })
}

/// Whether a character is in a class such as `a-z0-9_`; after a leading `^`, whether it is not.
fn in_class(class: &str, c: char) -> bool {
    let (inside, class) = match class.strip_prefix('^') {
        Some(rest) => (false, rest),
        None => (true, class),
    };
    let mut chars = class.chars().peekable();
    while let Some(from) = chars.next() {
        let mut ahead = chars.clone();
        let to = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(to)) => {
                chars = ahead;
                to
            }
            _ => from,
        };
        if (from..=to).contains(&c) {
            return inside;
        }
    }
    !inside
}

pub(super) fn keep<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let class = text_at(args, 0)?;
    accept(input).map(|text| Value::text(text.chars().filter(|c| in_class(&class, *c)).collect::<String>()))
}

/// Puts the second argument in place of every character that is not in the class.
pub(super) fn replace<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let (class, by) = (text_at(args, 0)?, text_at(args, 1)?);
    let text = accept(input)?;
    if text.chars().all(|c| in_class(&class, c)) {
        return Some(Value::Text(text));
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if in_class(&class, c) { out.push(c) } else { out.push_str(&by) }
    }
    Some(Value::text(out))
}

/// What follows the first occurrence; absent where there is none.
pub(super) fn after<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let mark = text_at(args, 0)?;
    accept(input)?.split_once(&*mark).map(|(_, rest)| Value::text(rest.to_owned()))
}

/// What precedes the first occurrence; absent where there is none.
pub(super) fn before<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let mark = text_at(args, 0)?;
    accept(input)?.split_once(&*mark).map(|(start, _)| Value::text(start.to_owned()))
}

pub(super) fn first_word<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    accept(input)?.split_whitespace().next().map(|word| Value::text(word.to_owned()))
}

pub(super) fn other_words<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let text = accept(input)?;
    let (_, rest) = text.trim().split_once(char::is_whitespace)?;
    Some(Value::text(rest.trim().to_owned()))
}

/// A plus and 7 to 15 digits; spaces and the usual punctuation are taken out. A trunk prefix in parentheses,
/// `+44 (0)20 …`, makes the number ambiguous, so it is refused.
pub(super) fn e164<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let text = accept(input)?;
    let rest = text.trim().strip_prefix('+').filter(|rest| !rest.contains("(0)"))?;
    let mut out = String::with_capacity(rest.len() + 1);
    out.push('+');
    for c in rest.chars() {
        match c {
            '0'..='9' => out.push(c),
            ' ' | '\u{a0}' | '-' | '.' | '(' | ')' | '/' => {}
            _ => return None,
        }
    }
    ((8..=16).contains(&out.len()) && !out.starts_with("+0")).then(|| Value::text(out))
}

/// Makes a text safe inside another format: `slack`, `html` or `xml`.
pub(super) fn escape<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let quotes = match &*text_at(args, 0)? {
        "slack" => false,
        "html" | "xml" => true,
        "backslash" => return accept(input).map(backslashed),
        _ => return None,
    };
    let text = accept(input)?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' if quotes => out.push_str("&quot;"),
            '\'' if quotes => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    Some(Value::text(out))
}

/// A text between quotes of either kind: a backslash stands before every one of them, and before every other one.
fn backslashed(text: Cow<'_, str>) -> Value<'_> {
    if !text.contains(['\\', '\'', '"']) {
        return Value::Text(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if matches!(c, '\\' | '\'' | '"') {
            out.push('\\');
        }
        out.push(c);
    }
    Value::text(out)
}

/// The parts between the marks, blank ones left out.
pub(super) fn split<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let mark = text_at(args, 0)?;
    let text = accept(input)?;
    let parts = text.split(&*mark).map(str::trim).filter(|part| !part.is_empty());
    let parts: Vec<Value<'a>> = parts.map(|part| Value::text(part.to_owned())).collect();
    (!parts.is_empty()).then_some(Value::List(parts))
}

/// The scalars of a list with a text between them; nulls, lists and objects in it are left out.
pub(super) fn join<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let between = text_at(args, 0).unwrap_or_default();
    let parts: Vec<Cow<'a, str>> = input.elements()?.into_iter().filter_map(Value::into_text).collect();
    Some(Value::text(parts.join(&*between)))
}

pub(super) fn text<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    input.into_text().map(Value::Text)
}
