//! What browsers must be told so that pages of other origins may call: the preflight's answer and the headers of every
//! other one. It refuses nobody: whether a source takes calls from an origin is for those to say who know the source.

use hyper::HeaderMap;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, HeaderValue, ORIGIN, VARY,
};

/// What is allowed where the preflight names no headers.
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Content-Encoding, X-Retry-Count, AnonymousId, SentAt",
);
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, OPTIONS");
/// 15 minutes, as RudderStack has it.
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("900");

/// Adds to any answer what a browser needs in order to hand it to the page. Without an `Origin` it is no browser's.
pub fn expose(request: &HeaderMap, answer: &mut HeaderMap) {
    let Some(origin) = request.get(ORIGIN) else { return };
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    // A beacon always sends cookies along, and some SDKs do; without this word the browser withholds call or answer.
    // Nothing here reads a cookie, so it gives away nothing.
    answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    answer.insert(VARY, HeaderValue::from_static("Origin"));
    answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
}

/// Adds to the answer to `OPTIONS` what the page may send. Whatever headers it asks for are allowed: none of them
/// carries more than the write key that the page has anyway.
pub fn preflight(request: &HeaderMap, answer: &mut HeaderMap) {
    answer.insert(ALLOW, METHODS);
    if !request.contains_key(ORIGIN) {
        return;
    }
    let asked = request.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned().unwrap_or(HEADERS);
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
    answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
}

/// Whether an origin is on a list of which `*` or an empty one means all. Requests without an origin are no browser's
/// and pass.
pub fn origin_is_allowed(request: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = request.get(ORIGIN) else { return true };
    allowed.is_empty()
        || allowed
            .iter()
            .any(|allowed| allowed == "*" || allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pairs: &[(hyper::header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_browser_is_told_what_it_may_send_and_read() {
        let request = request(&[
            (ORIGIN, "https://shop.example"),
            (ACCESS_CONTROL_REQUEST_HEADERS, "authorization,rsa-x"),
        ]);
        let mut answer = HeaderMap::new();
        preflight(&request, &mut answer);
        expose(&request, &mut answer);
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_ORIGIN, "https://shop.example"),
            (ACCESS_CONTROL_ALLOW_HEADERS, "authorization,rsa-x"),
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            (ACCESS_CONTROL_MAX_AGE, "900"),
            (ACCESS_CONTROL_EXPOSE_HEADERS, "Retry-After"),
            (VARY, "Origin"),
        ] {
            assert_eq!(answer.get(&name).map(HeaderValue::as_bytes), Some(value.as_bytes()), "{name}");
        }
    }

    #[test]
    fn others_are_told_nothing() {
        let mut answer = HeaderMap::new();
        preflight(&HeaderMap::new(), &mut answer);
        expose(&HeaderMap::new(), &mut answer);
        assert_eq!(answer.keys().collect::<Vec<_>>(), [&ALLOW]);
    }

    #[test]
    fn origins_can_be_listed() {
        let list = |origins: &[&str]| origins.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>();
        for (origin, allowed, expected) in [
            (Some("https://a.example"), list(&[]), true),
            (Some("https://a.example"), list(&["*"]), true),
            (Some("https://a.example"), list(&["https://b.example", "https://A.example"]), true),
            (Some("https://a.example"), list(&["https://b.example"]), false),
            (Some("null"), list(&["https://b.example"]), false),
            (None, list(&["https://b.example"]), true),
        ] {
            let headers = origin.map(|origin| request(&[(ORIGIN, origin)])).unwrap_or_default();
            assert_eq!(origin_is_allowed(&headers, &allowed), expected, "{origin:?} {allowed:?}");
        }
    }
}
