//! A call from the query of a pixel's address: JSON in base64 under `data`, or names with dots. It gives the JSON text
//! of the call; it does not judge the call.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use crate::http::query;

/// How deep names with dots may go.
const MAX_DEPTH: usize = 16;

/// The JSON text of the call in a query; `None` where `data` is not base64 of a text.
pub fn call(query: &str) -> Option<String> {
    match query::pairs(query).find(|(name, _)| name == "data") {
        Some((_, data)) => decode_data(&data),
        None => Some(Value::Object(from_dotted(query)).to_string()),
    }
}

/// Base64 of either alphabet, with padding or without; a `+` that came as a space included.
fn decode_data(data: &str) -> Option<String> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
    const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);
    let data: Cow<'_, str> = if data.contains(' ') { data.replace(' ', "+").into() } else { data.into() };
    let bytes = PLAIN.decode(data.as_bytes()).or_else(|_| URL.decode(data.as_bytes())).ok()?;
    String::from_utf8(bytes).ok()
}

/// `traits.email=x` becomes `{"traits":{"email":"x"}}`; every value stays a text.
fn from_dotted(query: &str) -> Map<String, Value> {
    let mut call = Map::new();
    for (name, value) in query::pairs(query) {
        let path: Vec<&str> = name.split('.').collect();
        if path.len() <= MAX_DEPTH && path.iter().all(|part| !part.is_empty()) {
            insert(&mut call, &path, value.into_owned());
        }
    }
    call
}

/// What is there already and is no object gives way.
fn insert(object: &mut Map<String, Value>, path: &[&str], value: String) {
    match path {
        [] => {}
        [last] => {
            object.insert((*last).to_owned(), Value::String(value));
        }
        [first, rest @ ..] => {
            let member = object.entry((*first).to_owned()).or_insert(Value::Null);
            if !member.is_object() {
                *member = Value::Object(Map::new());
            }
            if let Value::Object(inner) = member {
                insert(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn data_is_base64_of_any_kind() {
        let text = r#"{"userId":"ü?>~~~","writeKey":"k"}"#;
        let plain = BASE64_STANDARD.encode(text);
        for data in [
            plain.clone(),
            plain.replace('+', "%2B"),
            plain.replace('=', "%3D"),
            BASE64_URL_SAFE_NO_PAD.encode(text),
        ] {
            assert_eq!(call(&format!("x=1&data={data}")).as_deref(), Some(text), "{data}");
        }
        assert_eq!(call("data=!!"), None);
        assert_eq!(call("data=_w"), None);
    }

    #[test]
    fn names_with_dots_become_objects() {
        for (query, expected) in [
            (
                "userId=u&traits.email=a%40b.c&traits.address.city=Q",
                r#"{"userId":"u","traits":{"email":"a@b.c","address":{"city":"Q"}}}"#,
            ),
            ("traits=x&traits.a=1", r#"{"traits":{"a":"1"}}"#),
            ("a..b=1&.c=1&d.=1", "{}"),
            ("", "{}"),
        ] {
            assert_eq!(call(query).as_deref(), Some(expected), "{query}");
        }
        let deep = format!("{}=1", ["a"; MAX_DEPTH + 1].join("."));
        assert_eq!(call(&deep).as_deref(), Some("{}"));
    }
}
