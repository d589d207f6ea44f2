//! Calls as they really come: tricky texts in every trait, key and id; no traits, only nulls, all reserved ones, all of
//! wrong types. Whatever goes out must be well formed, and nothing may break.

use super::Suite;
use super::calls::{TRICKY, long_text, object, with};
use super::scene::Scene;
use super::shape::{cut, malformed};
use crate::reserved::{Group, Reserved};

/// Every reserved trait with a value that is valid for it.
const ALL: &str = r#"{
    "address": {"street":"1 Mill St","city":"Cambridge","state":"MA","region":"New England","postalCode":"02138","country":"US"},
    "age": 36, "avatar": "https://example.com/a.png", "birthday": "1990-12-10",
    "company": {"id":"c_1","name":"Acme","industry":"Tools","employee_count":42,"plan":"pro","created_at":"2020-01-02T03:04:05Z"},
    "createdAt": "2024-03-05T09:30:00Z", "description": "a text", "email": "ada@example.com", "firstName": "Ada",
    "gender": "female", "id": "u_42", "lastName": "Lovelace", "name": "Ada Lovelace", "phone": "+15550102000",
    "subscription": {"plan_name":"Pro","plan_id":"p_1","status":"active","payment_status":"paid","plan_interval_count":1,
        "plan_interval_unit":"month","service_trial_period_start_at":"2024-03-05T09:30:00Z",
        "service_trial_period_end_at":"2024-04-05T09:30:00Z","service_period_start_at":"2024-03-05T09:30:00Z",
        "service_period_end_at":"2025-03-05T09:30:00Z","service_period_cancelled_at":"2024-06-05T09:30:00Z",
        "due_date":"2025-03-05T09:30:00Z","amount_in_cents":4900,"currency":"USD","discount_code":"X",
        "discount_amount_in_cents":100,"tax_amount_in_cents":7},
    "title": "Countess", "username": "ada", "website": "https://example.com", "plan": "pro", "tags": ["a", "b"]
}"#;
/// Values that fit no reserved trait, or few.
const WRONG: &[&str] = &[
    "7",
    "-0.5e-7",
    "true",
    "[]",
    "{}",
    "[[],{\"a\":null}]",
    "{\"a\":{\"b\":[1]}}",
    "\"soon\"",
    "\"\"",
    "1e400",
];

/// Tricky texts in every reserved trait, in keys, and as ids.
pub(super) fn unicode(suite: &Suite<'_>) -> Vec<String> {
    let variants = |call: &str| {
        let mut calls = Vec::new();
        for text in TRICKY {
            calls.push((format!("every trait {text}"), with(call, &["traits"], Some(&all_traits(text)))));
            let keys = format!("{{{text}:{text},\"a\":{{{text}:[{text}]}},\"email\":\"ada@example.com\"}}");
            calls.push((format!("key {text}"), with(call, &["traits"], Some(&keys))));
            for id in ["userId", "anonymousId", "messageId"] {
                calls.push((format!("{id} {text}"), with(call, &[id], Some(text))));
            }
        }
        calls
    };
    suite.settings().into_iter().flat_map(|scene| sound(scene, variants(scene.call()), false)).collect()
}

/// Calls without traits, with empty ones, and with nothing but nulls.
pub(super) fn empty(suite: &Suite<'_>) -> Vec<String> {
    let variants = |call: &str| {
        vec![
            ("no traits".to_owned(), with(call, &["traits"], None)),
            ("traits {}".to_owned(), with(call, &["traits"], Some("{}"))),
            ("traits null".to_owned(), with(call, &["traits"], Some("null"))),
            ("only nulls".to_owned(), with(call, &["traits"], Some(&all_traits("null")))),
            ("only blanks".to_owned(), with(call, &["traits"], Some(&all_traits("\"  \"")))),
        ]
    };
    suite.settings().into_iter().flat_map(|scene| sound(scene, variants(scene.call()), false)).collect()
}

/// All reserved traits at once: the richest call there is must not be skipped.
pub(super) fn all(suite: &Suite<'_>) -> Vec<String> {
    let variants = |call: &str| vec![("all reserved traits".to_owned(), with(call, &["traits"], Some(ALL)))];
    suite.settings().into_iter().flat_map(|scene| sound(scene, variants(scene.call()), true)).collect()
}

/// All reserved traits of a type that is none of theirs.
pub(super) fn wrong_types(suite: &Suite<'_>) -> Vec<String> {
    let long = long_text(5_000);
    let variants = |call: &str| {
        let traits = |value: &&str| {
            let about = format!("every trait {}", cut(value, 40));
            (about, with(call, &["traits"], Some(&all_traits(value))))
        };
        let groups =
            r#"{"address":"1 Mill St","company":["x"],"subscription":7,"createdAt":{},"email":[null]}"#;
        let mut calls: Vec<(String, String)> = WRONG.iter().chain([&&*long]).map(traits).collect();
        calls.push(("objects that are none".to_owned(), with(call, &["traits"], Some(groups))));
        calls
    };
    suite.settings().into_iter().flat_map(|scene| sound(scene, variants(scene.call()), false)).collect()
}

/// Every reserved trait with the same value, and a custom one.
fn all_traits(value: &str) -> String {
    let of_group = |group: Option<Group>| {
        let placed = Reserved::ALL.iter().map(|one| one.place()).filter(move |(of, _)| *of == group);
        placed.map(|(_, member)| (member.to_owned(), value.to_owned()))
    };
    let mut members = vec![("cnf_custom".to_owned(), value.to_owned())];
    members.extend(of_group(None));
    for group in Group::ALL {
        members.push((group.name().to_owned(), object(&of_group(Some(*group)).collect::<Vec<_>>())));
    }
    object(&members)
}

/// Renders, packs and sends every call, and says what is malformed.
fn sound(scene: &Scene, calls: Vec<(String, String)>, must_be_sent: bool) -> Vec<String> {
    let mut problems = Vec::new();
    for (about, call) in calls {
        let item = match scene.render(&call) {
            Ok(item) => item,
            Err(skip) => {
                if must_be_sent {
                    problems
                        .push(format!("{}, {about}: skipped: {} {}", scene.file, skip.reason, skip.detail));
                }
                continue;
            }
        };
        match scene.play_well(&[item]) {
            Ok(played) => {
                let wrong = played.requests().find_map(malformed);
                problems.extend(wrong.map(|wrong| format!("{}, {about}: {wrong}", scene.file)));
            }
            Err(problem) => problems.push(format!("{}, {about}: {problem}", scene.file)),
        }
    }
    problems
}
