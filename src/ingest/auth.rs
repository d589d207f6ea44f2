//! Which source a request comes from: its write key from Basic authorisation, body and query, compared in constant
//! time. It never logs a key, and it does not read the body.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use subtle::{Choice, ConstantTimeEq};

use crate::http::query;

/// Why a request belongs to no source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// There is no write key.
    Missing,
    /// The `Authorization` header cannot be read.
    Malformed,
    /// No source has this write key.
    Unknown,
    /// Two different write keys were given.
    Conflict,
    /// The source is switched off.
    Disabled,
    /// The source wants another bearer token.
    Token,
    /// The source takes no calls from pages of this origin.
    Origin,
}

/// What a source proves itself with.
pub trait Secrets {
    /// Its write key.
    fn write_key(&self) -> &str;
    /// Its bearer token, where it has one.
    fn bearer_token(&self) -> Option<&str>;
}

/// What a request's head says about its source. Not printable: it holds keys.
#[derive(Default)]
pub struct Credentials<'a> {
    basic: Option<String>,
    bearer: Option<&'a str>,
    query: Option<Cow<'a, str>>,
}

impl<'a> Credentials<'a> {
    /// Reads header and query. A scheme that is neither Basic nor Bearer is ignored, as is an empty key.
    pub fn read(headers: &'a HeaderMap, query: Option<&'a str>) -> Result<Credentials<'a>, AuthError> {
        let mut credentials = Credentials {
            query: query.and_then(|query| query::get(query, "writeKey")).filter(|key| !key.is_empty()),
            ..Credentials::default()
        };
        let Some(header) = headers.get(AUTHORIZATION) else { return Ok(credentials) };
        let header = header.to_str().map_err(|_| AuthError::Malformed)?.trim();
        let (scheme, value) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            credentials.basic = Some(basic_key(value)?).filter(|key| !key.is_empty());
        } else if scheme.eq_ignore_ascii_case("bearer") {
            credentials.bearer = Some(value.trim());
        }
        Ok(credentials)
    }

    /// The source of a request, given the write key of its body. Without a key, a bearer token alone names its source.
    pub fn source<'s, S: Secrets>(
        &self,
        sources: &'s [S],
        body_key: Option<&str>,
    ) -> Result<&'s S, AuthError> {
        let mut keys = [self.basic.as_deref(), body_key.filter(|key| !key.is_empty()), self.query.as_deref()]
            .into_iter()
            .flatten();
        let Some(key) = keys.next() else {
            let token = self.bearer.ok_or(AuthError::Missing)?;
            return find(sources, token, |source| source.bearer_token()).ok_or(AuthError::Missing);
        };
        if !keys.all(|other| equal(key, other)) {
            return Err(AuthError::Conflict);
        }
        let source = find(sources, key, |source| Some(source.write_key())).ok_or(AuthError::Unknown)?;
        match (self.bearer, source.bearer_token()) {
            (Some(given), Some(wanted)) if !equal(given, wanted) => Err(AuthError::Token),
            _ => Ok(source),
        }
    }

    /// Whether the head alone says enough to look for the source before the body is read.
    pub fn has_key(&self) -> bool {
        self.basic.is_some() || self.query.is_some()
    }
}

/// The user name of Basic authorisation; a missing colon is taken as an empty password.
fn basic_key(value: &str) -> Result<String, AuthError> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let decoded = LENIENT.decode(value.trim()).map_err(|_| AuthError::Malformed)?;
    let mut text = String::from_utf8(decoded).map_err(|_| AuthError::Malformed)?;
    if let Some(colon) = text.find(':') {
        text.truncate(colon);
    }
    Ok(text)
}

/// Looks at every source, whatever matches, so that the time says nothing about a key but its length.
fn find<'s, S>(sources: &'s [S], given: &str, secret: impl Fn(&S) -> Option<&str>) -> Option<&'s S> {
    let mut found = None;
    for source in sources {
        let matches = match secret(source) {
            Some(secret) if !secret.is_empty() => secret.as_bytes().ct_eq(given.as_bytes()),
            _ => Choice::from(0),
        };
        if bool::from(matches) {
            found = Some(source);
        }
    }
    found
}

/// Compares in a time that says nothing but the length.
pub fn equal(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Source(&'static str, Option<&'static str>);

    impl Secrets for Source {
        fn write_key(&self) -> &str {
            self.0
        }
        fn bearer_token(&self) -> Option<&str> {
            self.1
        }
    }

    const SOURCES: [Source; 3] =
        [Source("key-one", None), Source("key-two", Some("token")), Source("", None)];

    fn basic(text: &str) -> Option<String> {
        Some(format!("Basic {}", BASE64_STANDARD.encode(text)))
    }

    #[test]
    fn keys_come_from_header_body_and_query() {
        let no_pad = Some(format!("basic  {}", BASE64_STANDARD_NO_PAD.encode("key-one:")));
        let bearer = |token: &str| Some(format!("Bearer {token}"));
        let other = |text: &str| Some(text.to_owned());
        for (header, body, query, expected) in [
            (basic("key-one:"), None, None, Ok("key-one")),
            (basic("key-one"), None, None, Ok("key-one")),
            (basic("key-one:password"), None, None, Ok("key-one")),
            (no_pad, None, None, Ok("key-one")),
            (None, Some("key-one"), None, Ok("key-one")),
            (None, None, Some("a=b&writeKey=key-two"), Ok("key-two")),
            (basic("key-one:"), Some("key-one"), Some("writeKey=key-one"), Ok("key-one")),
            (basic(":"), Some("key-one"), None, Ok("key-one")),
            (basic("key-one:"), Some(""), Some("writeKey="), Ok("key-one")),
            (basic("key-one:"), Some("key-two"), None, Err(AuthError::Conflict)),
            (None, Some("key-one"), Some("writeKey=key-two"), Err(AuthError::Conflict)),
            (None, None, None, Err(AuthError::Missing)),
            (basic(":"), None, None, Err(AuthError::Missing)),
            (basic("key"), None, None, Err(AuthError::Unknown)),
            (None, Some("key-one2"), None, Err(AuthError::Unknown)),
            (other("Basic"), None, None, Err(AuthError::Missing)),
            (other("Basic !!!"), None, None, Err(AuthError::Malformed)),
            (other("Negotiate x"), Some("key-one"), None, Ok("key-one")),
            // A token counts only where one is configured.
            (bearer("anything"), Some("key-one"), None, Ok("key-one")),
            (bearer("token"), Some("key-two"), None, Ok("key-two")),
            (bearer("wrong"), Some("key-two"), None, Err(AuthError::Token)),
            (bearer("token"), None, None, Ok("key-two")),
            (bearer("wrong"), None, None, Err(AuthError::Missing)),
            (bearer(""), None, None, Err(AuthError::Missing)),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = &header {
                headers.insert(AUTHORIZATION, header.parse().unwrap());
            }
            let found =
                Credentials::read(&headers, query).and_then(|credentials| credentials.source(&SOURCES, body));
            assert_eq!(found.map(|source| source.0), expected, "{header:?} {body:?} {query:?}");
        }
    }
}
