//! How a secret looks once it has been written into a request, so that it can be hidden in what a vendor sends back.
//! It does not hide anything; `mask` does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::request::percent_encoded;
use crate::json::push_escaped;

/// Shorter parts of base64 may be chance.
const SHORTEST_BASE64: usize = 8;

/// A text as it is, in JSON, in JSON inside JSON, in a url or form, and in base64 as part of a longer text.
pub(crate) fn forms(text: &str) -> Vec<String> {
    let json = in_json(text);
    let mut forms = vec![
        text.to_owned(),
        in_json(&json),
        json.replace('/', "\\/"),
        percent_encoded(text),
        percent_encoded(&json),
        json,
    ];
    forms.extend((0..3).filter_map(|before| in_base64(text, before)));
    forms.sort_unstable();
    forms.dedup();
    forms
}

fn in_json(text: &str) -> String {
    let mut out = String::new();
    push_escaped(&mut out, text);
    out
}

/// The characters of base64 that a text alone decides when so many bytes stand before it, counted in threes.
fn in_base64(text: &str, before: usize) -> Option<String> {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(text.as_bytes());
    let decided = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
    let encoded = STANDARD.encode(&bytes);
    encoded.get(decided).filter(|part| part.len() >= SHORTEST_BASE64).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_text_wherever_it_was_written() {
        let secret = "p\"a/ss w+rd";
        let forms = forms(secret);
        for written in [
            "Basic: p\"a/ss w+rd".to_owned(),
            r#"{"token":"p\"a/ss w+rd"}"#.to_owned(),
            r#"{"token":"p\"a\/ss w+rd"}"#.to_owned(),
            r#"{"error":"{\"token\":\"p\\\"a/ss w+rd\"}"}"#.to_owned(),
            "token=p%22a%2Fss%20w%2Brd".to_owned(),
            "data=%7B%22token%22%3A%22p%5C%22a%2Fss%20w%2Brd%22%7D".to_owned(),
            STANDARD.encode(format!("user:{secret}")),
            STANDARD.encode(format!("user1:{secret}:x")),
            STANDARD.encode(format!("{secret}:")),
        ] {
            assert!(forms.iter().any(|form| written.contains(form.as_str())), "{written}: {forms:?}");
        }
    }

    #[test]
    fn plain_texts_have_few_forms() {
        assert_eq!(forms("abcd"), ["abcd"]);
        assert_eq!(forms("abcdefgh").len(), 4);
    }
}
