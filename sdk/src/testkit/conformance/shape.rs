//! The shape of a request: what no call may change about it. And whether its bytes are what they claim to be.

use crate::destination::Request;
use crate::json::Doc;

/// What stays the same whatever a call holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub method: &'static str,
    /// Scheme and authority.
    pub origin: String,
    /// How many segments the path has.
    pub segments: usize,
    /// The names of the query's fields, sorted.
    pub query: Vec<String>,
    /// The names of the headers in lower case, sorted.
    pub headers: Vec<String>,
}

impl Shape {
    pub fn of(request: &Request) -> Shape {
        let (origin, path, query) = split_url(&request.url);
        let mut query: Vec<String> =
            query.split('&').filter_map(|pair| pair.split('=').next()).map(str::to_owned).collect();
        query.sort_unstable();
        let mut headers: Vec<String> =
            request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        headers.sort_unstable();
        Shape {
            method: request.method,
            origin: origin.to_owned(),
            segments: path.matches('/').count(),
            query,
            headers,
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shape { method, origin, segments, query, headers } = self;
        let (query, headers) = (query.join(", "), headers.join(", "));
        write!(f, "{method} {origin}, {segments} path segments, query [{query}], headers [{headers}]")
    }
}

/// Origin, path, and query without its question mark.
pub(super) fn split_url(url: &str) -> (&str, &str, &str) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(start..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(url.len(), |at| start + at);
    let (origin, rest) = (url.get(..end).unwrap_or_default(), url.get(end..).unwrap_or_default());
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    (origin, path, query)
}

/// Everything that makes a request malformed, or something else than it claims to be.
pub(super) fn malformed(request: &Request) -> Option<String> {
    let (_, path, _) = split_url(&request.url);
    if request.url.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, '#' | '\\')) {
        return Some(format!("the url holds white space, a control character, # or \\: {:?}", request.url));
    }
    if path.split('/').any(|segment| matches!(&*percent_decoded(segment), b"." | b"..")) {
        return Some(format!("the url's path has a dot segment: {:?}", request.url));
    }
    for (name, value) in &request.headers {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) || value.chars().any(|c| c.is_control()) {
            return Some(format!("header {name:?} holds a character that could end it: {value:?}"));
        }
    }
    let Ok(text) = std::str::from_utf8(&request.body) else {
        return Some("the body is no UTF-8".to_owned());
    };
    let content_type = request
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map_or("", |(_, value)| value);
    let is_wrong = |text: &str| Doc::parse(text.into()).err();
    let error = match content_type.split(';').next().unwrap_or_default().trim() {
        "application/x-ndjson" => text.lines().find_map(is_wrong),
        "application/x-www-form-urlencoded" => {
            let decoded = percent_decoded(text);
            return std::str::from_utf8(&decoded)
                .is_err()
                .then(|| "the form's fields are no UTF-8".to_owned());
        }
        kind if kind.ends_with("json") => is_wrong(text),
        _ => None,
    };
    error.map(|error| format!("the body is no JSON: {error}: {}", cut(text, 160)))
}

/// Bytes with `%XX` replaced.
pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let digits = (byte == b'%').then(|| Some((hex(ahead.next()?)?, hex(ahead.next()?)?))).flatten();
        match digits {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = ahead;
            }
            None => out.push(byte),
        }
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// At most so many characters of a text.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
