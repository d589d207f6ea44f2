//! That the prepared forms write the same bytes as the functions themselves.

use proptest::prelude::*;

use crate::destination::Destination;
use crate::manifest::tests::{event, plan};

/// One line for each form; `#` stands where a step may be put that changes nothing but is no form.
const LINES: &[&str] = &[
    "{traits.email #}",
    "{traits.email # | lower}",
    "{traits.phone # | e164 or traits.phone #}",
    "{traits.first_name # | cut(3)}",
    "{traits.first_name # | cut_bytes(4) | text}",
    "{traits.last_name # | fits(4)}",
    "{custom.a # | starting('a')}",
    "{custom.a # | not_starting('$') | lower}",
    "{custom.a # | contains('b')}",
    "{custom.a # | snake}",
    "{custom.b # | kebab | cut(5)}",
    "{custom.b # | email}",
    "{custom.b #}",
    "{traits.created_at #}",
    "{traits.created_at # | unix}",
    "{traits.created_at # | unix_ms}",
    "{traits.birthday # | date}",
    "{traits.birthday # | day | iso or traits.created_at # | format('%d.%m.%Y')}",
];
const KEYS: &[&str] = &[
    "{key #}",
    "{key # | not_starting('$') | cut(4)}",
    "{key # | starting('a') | cut_bytes(3)}",
    "{key # | fits(3)}",
    "{key # | snake}",
    "{key # | kebab}",
    "{key # | lower}",
];
const DATES: &[&str] = &[
    "{value # | iso}",
    "{value # | date}",
    "{value # | unix}",
    "{value # | unix_ms}",
    "{value # | day | iso or value # | format('%Y-%m-%dT%H:%M:%SZ')}",
    "{value # | format('%d %b %Y %H:%M UTC')}",
];

/// A manifest that uses one key, one way to write dates and every line, with `#` as `step`.
fn manifest(key: &str, dates: &str, guess: bool, step: &str) -> String {
    let mut text = format!(
        r#"adapter = {{ name = "Acme", docs = "https://acme.test", checked = "2026-07" }}
[identity]
key = ["{{user_id}}"]
[rest]
dates = "{dates}"
guess_dates = {guess}
copy = ["email", "first_name", "last_name", "phone", "birthday", "created_at", "a", "b"]
fields = [
  {{ name = "numbers", kinds = ["number", "null"], key = "{key}", max = 3 }},
  {{ name = "others", key = "{key}" }},
]
[[request]]
url = "https://acme.test/people"
body = "{{items}}"
batch = {{ items = 10, bytes = "1 MB" }}
[request.item]
numbers = "{{fields.numbers}}"
"#
    );
    for (number, line) in LINES.iter().enumerate() {
        text.push_str(&format!("a{number} = \"{line}\"\n"));
    }
    text.push_str("\"...\" = \"{fields.others}\"\n");
    text.replace('#', step)
}

/// What a call's item is, or why it is none, and what was noticed.
fn rendered(manifest: &str, call: &str) -> Result<(String, String), String> {
    let (plan, names) = plan(manifest, "");
    match plan.render(&event(call, &names), None) {
        Ok(item) => {
            let bytes = item.parts.first().map(|part| part.bytes.to_vec()).unwrap_or_default();
            Ok((String::from_utf8(bytes).unwrap(), format!("{:?}", item.warnings)))
        }
        Err(skip) => Err(skip.reason.to_owned()),
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "email",
            "first_name",
            "last_name",
            "phone",
            "birthday",
            "created_at",
            "a",
            "b",
            "a1",
            "$a",
            "aB",
            "ab_c",
            "a-b",
            "äöü",
            " ",
            "address",
            "a2",
            "score"
        ])
        .prop_map(str::to_owned),
        "[a-b$ÄA_1-]{1,6}",
    ]
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "a@b.test",
            "A@b.test",
            " ab ",
            "+14155550123",
            "+1 415 555",
            "0123",
            "a_b-c",
            "abc",
            "$x",
            "",
            "2024-05-02T10:15:30.250Z",
            "2024-05-02T10:15:30+02:00",
            "2024-05-02",
            "ä\"\\\n€",
            "Ab Cd",
        ])
        .prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        any::<bool>().prop_map(Into::into),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Into::into),
            prop::collection::btree_map("[a-c]{1,2}", inner, 0..3)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn forms_write_what_the_functions_write(
        traits in prop::collection::btree_map(name(), value(), 0..12),
        key in 0..KEYS.len(),
        dates in 0..DATES.len(),
        guess in any::<bool>(),
    ) {
        let traits = serde_json::Value::Object(traits.into_iter().collect());
        let call = format!(r#"{{"type":"identify","messageId":"m","userId":"u","traits":{traits}}}"#);
        let with = |step: &str| rendered(&manifest(KEYS[key], DATES[dates], guess, step), &call);
        prop_assert_eq!(with(""), with("| not('§')"));
    }
}

#[test]
fn every_line_has_a_form_and_none_with_another_step() {
    let forms = |step: &str| {
        let (plan, _) = plan(&manifest(KEYS[1], DATES[4], true, step), "");
        let debug = format!("{:?}", plan.program);
        (debug.matches("form: Some").count(), debug.contains("naming: Part"), debug.contains("steps: Some"))
    };
    let (lines, named, dated) = forms("");
    assert!(lines >= 17 && named && dated, "{lines}");
    assert_eq!(forms("| not('§')"), (0, false, false));
}
