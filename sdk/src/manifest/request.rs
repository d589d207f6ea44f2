//! Urls, queries, headers and bodies: what is around the items, and their encodings.
//! It does not decide which requests are made; `run` does.

use super::plan::{Encoding, RequestPlan};
use super::render::{Gone, Scope};
use super::tree::{Key, Node};
use super::value::Value;

/// Headers that belong to the connection, or that a call may not set.
const NEVER: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const NEVER_BY_CALL: &[&str] = &["authorization", "content-encoding", "content-type", "cookie", "forwarded"];

/// The parts of a request that stand outside its body.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub url: String,
    pub headers: Vec<(String, String)>,
}

/// Evaluates url, query and headers.
pub(crate) fn head<'a>(
    scope: &Scope<'a>,
    url: &'a Node,
    query: Option<&'a Node>,
    headers: Option<&'a Node>,
) -> Result<Head, Gone> {
    let mut url = scope.text(url)?.into_owned();
    if let Some(query) = query {
        append_query(scope, query, &mut url)?;
    }
    if !is_safe(&url) {
        return Err(Gone::Absent);
    }
    let mut found = Vec::new();
    if let Some(headers) = headers {
        add_headers(scope, headers, &mut found)?;
    }
    Ok(Head { url, headers: found })
}

fn append_query<'a>(scope: &Scope<'a>, query: &'a Node, url: &mut String) -> Result<(), Gone> {
    let pairs = match scope.eval(query) {
        Ok(value) => form_encoded(&value),
        Err(Gone::Absent) if !is_required(scope, query) => String::new(),
        Err(_) => return Err(Gone::Absent),
    };
    if !pairs.is_empty() {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&pairs);
    }
    Ok(())
}

/// Whether a table is absent because something that it requires is.
fn is_required(scope: &Scope<'_>, node: &Node) -> bool {
    match node {
        Node::Value(slot) => is_required(scope, scope.program.value(*slot)),
        Node::Table(table) => table.entries.iter().any(|(_, node)| matches!(node, Node::Required(..))),
        _ => false,
    }
}

/// Scheme and host, where a text is `https://` and those alone; a slash at its end does not count.
pub(crate) fn origin(text: &str) -> Option<&str> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let host = text.strip_prefix("https://")?;
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    (!host.is_empty() && host.chars().all(is_host)).then_some(text)
}

/// No `..` or `.` segment, no control character or white space, and an authority that ends.
fn is_safe(url: &str) -> bool {
    let path_end = url.find('?').unwrap_or(url.len());
    let path = url.get(..path_end).unwrap_or_default();
    let is_dots = |segment: &str| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    !path.split('/').any(is_dots) && !url.contains(|c: char| c.is_control() || c.is_whitespace())
}

fn add_headers<'a>(scope: &Scope<'a>, node: &'a Node, found: &mut Vec<(String, String)>) -> Result<(), Gone> {
    match node {
        Node::Value(slot) => add_headers(scope, scope.program.value(*slot), found),
        Node::Absent => Ok(()),
        Node::Table(table) => {
            for (key, node) in &table.entries {
                let name = match key {
                    Key::Name(name, _) => name.to_string(),
                    Key::Node(node) => scope.text(node)?.into_owned(),
                };
                match scope.text(node) {
                    Ok(value) => add_header(&name, &value, &[], found)?,
                    Err(Gone::Absent) => {}
                    Err(Gone::Required) => return Err(Gone::Required),
                }
            }
            table.spreads.iter().try_for_each(|spread| spread_headers(scope, spread, found))
        }
        other => spread_headers(scope, other, found),
    }
}

/// Spread headers never replace those before them, and those of a call are not all allowed.
fn spread_headers<'a>(
    scope: &Scope<'a>,
    node: &'a Node,
    found: &mut Vec<(String, String)>,
) -> Result<(), Gone> {
    if let Node::List(nodes) = node {
        return nodes.iter().try_for_each(|node| spread_headers(scope, node, found));
    }
    let refused = if node.is_fixed() { &[][..] } else { NEVER_BY_CALL };
    let mut result = Ok(());
    scope.spread(node, &mut |key, value| {
        let is_there = found.iter().any(|(name, _)| name.eq_ignore_ascii_case(&key));
        if let (Ok(()), false, Some(text)) = (result, is_there, value.as_text()) {
            result = add_header(&key, &text, refused, found);
        }
    });
    result
}

fn add_header(
    name: &str,
    value: &str,
    refused: &[&str],
    found: &mut Vec<(String, String)>,
) -> Result<(), Gone> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let folded = name.to_ascii_lowercase();
    if NEVER.contains(&&*folded) || refused.contains(&&*folded) {
        return Ok(());
    }
    if name.is_empty() || !name.chars().all(is_token) || value.chars().any(char::is_control) {
        return Err(Gone::Absent);
    }
    found.push((name.to_owned(), value.to_owned()));
    Ok(())
}

/// The body around the items, which `scope` holds.
pub(crate) fn body<'a>(
    scope: &Scope<'a>,
    node: Option<&'a Node>,
    encoding: Encoding,
) -> Result<String, Gone> {
    let Some(node) = node else { return Ok(String::new()) };
    if encoding == Encoding::Form {
        return Ok(form_encoded(&scope.eval(node)?));
    }
    let mut out = String::with_capacity(scope.items.len() + scope.items.len().min(256));
    scope.write(node, &mut out)?;
    Ok(out)
}

/// Records one behind the other, as [`joined`] expects them; none where no record is present.
pub(crate) fn records<'a>(scope: &Scope<'a>, request: &'a RequestPlan, out: &mut String) -> Result<(), Gone> {
    let start = out.len();
    for record in &request.records {
        let mark = out.len();
        if mark > start {
            out.push_str(separator(request.encoding));
        }
        if scope.write(record, out).is_err() {
            scope.notes.cut(out, mark);
        }
    }
    if out.len() > start { Ok(()) } else { Err(Gone::Absent) }
}

/// What stands between records.
pub(crate) fn separator(encoding: Encoding) -> &'static str {
    if encoding == Encoding::Lines { "\n" } else { "," }
}

/// The items as `{items}` stands for them.
pub(crate) fn joined<'p>(parts: impl Iterator<Item = &'p str> + Clone, encoding: Encoding) -> String {
    let size: usize = parts.clone().map(|part| part.len() + 1).sum();
    let mut out = String::with_capacity(size + 1);
    let is_list = encoding != Encoding::Lines;
    if is_list {
        out.push('[');
    }
    for (position, part) in parts.enumerate() {
        if position > 0 {
            out.push_str(separator(encoding));
        }
        out.push_str(part);
    }
    if is_list {
        out.push(']');
    }
    out
}

/// The content type of an encoding.
pub(crate) fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::Form => "application/x-www-form-urlencoded",
        Encoding::Lines => "application/x-ndjson",
    }
}

/// Everything but letters, digits and `-._~*` as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'*' => {
                out.push(byte as char)
            }
            _ => {
                out.push('%');
                let digits = [byte >> 4, byte & 15].into_iter();
                out.extend(
                    digits
                        .filter_map(|digit| char::from_digit(digit.into(), 16))
                        .map(|d| d.to_ascii_uppercase()),
                );
            }
        }
    }
    out
}

/// An object as form or query fields; members of members as `a[b]`.
fn form_encoded(value: &Value<'_>) -> String {
    let mut out = String::new();
    push_fields(&mut out, "", value);
    out
}

fn push_fields(out: &mut String, name: &str, value: &Value<'_>) {
    if let Some(text) = value.as_text() {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        out.push_str(&percent_encoded(&text));
        return;
    }
    for (key, value) in super::rest::entries_of(value.clone()) {
        let key = percent_encoded(&key);
        let inner = if name.is_empty() { key } else { format!("{name}[{key}]") };
        push_fields(out, &inner, &value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_dots_and_control_characters() {
        for (url, safe) in [
            ("https://a.test/b/c", true),
            ("https://a.test/b/../c", false),
            ("https://a.test/%2e%2E/c", false),
            ("https://a.test/./c", false),
            ("https://a.test/..c/x?y=..", true),
            ("https://a.test/a b", false),
            ("https://a.test/a\nb", false),
        ] {
            assert_eq!(is_safe(url), safe, "{url}");
        }
    }

    #[test]
    fn an_origin_is_scheme_and_host_alone() {
        for (text, found) in [
            ("https://acme.test", Some("https://acme.test")),
            ("https://acme.test:8443/", Some("https://acme.test:8443")),
            ("https://acme.test/path", None),
            ("https://acme.test?x=1", None),
            ("https://user@acme.test", None),
            ("http://acme.test", None),
            ("https://", None),
            ("acme.test", None),
        ] {
            assert_eq!(origin(text), found, "{text}");
        }
    }

    #[test]
    fn encodes_forms() {
        let value = Value::Object(vec![
            ("a b".into(), Value::text("ä&=")),
            ("c".into(), Value::Object(vec![("d".into(), Value::whole(1))])),
            ("e".into(), Value::List(vec![Value::Bool(true)])),
            ("n".into(), Value::Null),
        ]);
        assert_eq!(form_encoded(&value), "a%20b=%C3%A4%26%3D&c[d]=1&e[0]=true");
    }

    #[test]
    fn headers_refuse_what_could_break_out() {
        let mut found = Vec::new();
        assert_eq!(add_header("X-A", "b\r\nX-C: d", &[], &mut found), Err(Gone::Absent));
        assert_eq!(add_header("X A", "b", &[], &mut found), Err(Gone::Absent));
        assert_eq!(add_header("Host", "b", &[], &mut found), Ok(()));
        assert_eq!(add_header("Authorization", "b", NEVER_BY_CALL, &mut found), Ok(()));
        assert_eq!(add_header("X-A", "b", NEVER_BY_CALL, &mut found), Ok(()));
        assert_eq!(found, [("X-A".to_owned(), "b".to_owned())]);
    }
}
