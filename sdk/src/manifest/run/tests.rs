//! One `send` against scripted answers: the standard table, splitting, rules, fetches and the order of requests.

use std::time::Duration;

use super::*;
use crate::destination::Destination;
use crate::manifest::tests::{At, identify, plan};

const BATCH: &str = r#"adapter = { name = "Acme", docs = "https://acme.test", checked = "2026-07" }
[settings]
key = { type = "secret", doc = "API key" }
[identity]
key = ["{user_id}"]
[[request]]
url = "https://acme.test/people"
headers = { Authorization = "{settings.key}" }
batch = { items = 10 }
body = "{items}"
item = [{ id = "{identity}" }, { id = "{identity}", title = "{traits.title | required}" }]
outcomes = [
  { status = 207, each = "{body.errors}", index = "{value.index}", then = "rejected", reason = "{value.why}: {settings.note}" },
  { status = 207, each = "{body.refused}", id = "{value}", then = "rejected", reason = "refused" },
  { status = 207, each = "{body.slow}", id = "{value}", item = "{traits.email}", then = "throttled", after = "30 s" },
  { status = 207, then = "delivered" },
  { status = 400, then = "split", reason = "{body.error}" },
  { status = 409, times = 1, then = "retry", after = "{body.wait | wait}" },
  { status = 202, then = "submitted" },
]
"#;

/// A vendor's answers in order: status, body.
type Answers<'s> = &'s [(u16, &'s str)];

fn batch() -> String {
    BATCH.replacen(
        "key = { type",
        "note = { type = \"text\", optional = true, doc = \"Note\" }\nkey = { type",
        1,
    )
}

/// Sends items of users, each with their traits, and gives the bodies and how each item ended.
fn drive(manifest: &str, users: &[(&str, &str)], answers: Answers<'_>) -> (Vec<String>, Vec<Verdict>) {
    drive_with(manifest, users, answers, &Memory::new(16))
}

fn drive_with(
    manifest: &str,
    users: &[(&str, &str)],
    answers: Answers<'_>,
    memory: &Memory,
) -> (Vec<String>, Vec<Verdict>) {
    let (plan, names) = plan(manifest, "key = 'secret'");
    let items: Vec<Item> = users
        .iter()
        .map(|(user, traits)| plan.render(&identify(user, traits, &names), None).unwrap())
        .collect();
    let mut run = Run::new(&plan, &items);
    let (mut sent, mut answers) = (Vec::new(), answers.iter());
    let clock = At(1_785_585_605_000);
    while let Some(request) = run.next(memory, &clock) {
        let shown = format!("{} {}", request.url, String::from_utf8_lossy(&request.body));
        sent.push(shown.trim_start_matches("https://acme.test/").to_owned());
        let (status, body) = answers.next().unwrap_or_else(|| panic!("no answer left for {sent:?}"));
        let answer = match status {
            0 => Err(NoAnswer::Timeout(Duration::from_secs(10))),
            _ => Ok(Answer {
                status: *status,
                headers: vec![("retry-after".into(), "7".into())],
                body: body.to_string().into(),
            }),
        };
        run.answered(answer, memory, &clock);
    }
    assert_eq!(answers.next(), None, "an answer is left");
    (sent, run.verdicts())
}

fn outcomes_of(verdicts: &[Verdict]) -> Vec<String> {
    verdicts
        .iter()
        .map(|verdict| match &verdict.outcome {
            Outcome::Retry { after } => {
                format!("retry {:?} {}", after.map(|after| after.as_secs()), verdict.reason)
            }
            Outcome::Throttled { after, user_only } => {
                format!("throttled {:?} {user_only}", after.map(|after| after.as_secs()))
            }
            other => format!("{other:?} {}", verdict.reason).trim_end().to_owned(),
        })
        .collect()
}

#[test]
fn the_standard_table() {
    for (status, expected) in [
        (200, "Delivered"),
        (202, "Submitted"),
        (301, "Rejected the vendor answered 301"),
        (401, "Unauthorised the vendor answered 401"),
        (403, "Unauthorised the vendor answered 403"),
        (404, "Rejected the vendor answered 404"),
        (408, "retry Some(7) the vendor answered 408"),
        (413, "Rejected the vendor answered 413"),
        (429, "throttled Some(7) false"),
        (500, "retry Some(7) the vendor answered 500"),
        (501, "Rejected the vendor answered 501"),
        (503, "retry Some(7) the vendor answered 503"),
        (0, "retry None no answer within 10s"),
    ] {
        let (_, verdicts) = drive(&batch(), &[("a", "{}")], &[(status, "")]);
        assert_eq!(outcomes_of(&verdicts), [expected], "{status}");
    }
}

#[test]
fn a_refused_batch_is_split_until_the_bad_item_is_found() {
    let users = [("a", "{}"), ("b", "{}"), ("c", "{}")];
    let refused = (400, r#"{"error":"bad secret"}"#);
    let (sent, verdicts) = drive(&batch(), &users, &[refused, refused, (200, ""), refused, (200, "")]);
    assert_eq!(
        sent,
        [
            r#"people [{"id":"a"},{"id":"b"},{"id":"c"}]"#,
            r#"people [{"id":"a"},{"id":"b"}]"#,
            r#"people [{"id":"a"}]"#,
            r#"people [{"id":"b"}]"#,
            r#"people [{"id":"c"}]"#,
        ]
    );
    assert_eq!(outcomes_of(&verdicts), ["Delivered", "Rejected bad ***", "Delivered"]);
    assert_eq!(&*verdicts[1].answer, r#"400 {"error":"bad ***"}"#);
}

#[test]
fn single_items_are_rejected_by_record_and_by_id() {
    let users = [("a", r#"{"title":"x"}"#), ("b", "{}"), ("c", r#"{"email":"c@acme.test"}"#), ("d", "{}")];
    let body = r#"{"errors":[{"index":2,"why":"no b"}],"refused":["d","nobody"],"slow":["c@acme.test"]}"#;
    let (sent, verdicts) = drive(&batch(), &users, &[(207, body)]);
    assert_eq!(sent, [r#"people [{"id":"a"},{"id":"a","title":"x"},{"id":"b"},{"id":"c"},{"id":"d"}]"#]);
    assert_eq!(
        outcomes_of(&verdicts),
        ["Delivered", "Rejected no b", "throttled Some(30) true", "Rejected refused"]
    );
}

#[test]
fn a_rule_with_times_steps_aside() {
    let memory = Memory::new(16);
    let answer = [(409, r#"{"wait":"2 s"}"#)];
    let (_, first) = drive_with(&batch(), &[("a", "{}")], &answer, &memory);
    let (_, second) = drive_with(&batch(), &[("a", "{}")], &answer, &memory);
    assert_eq!(outcomes_of(&first), ["retry Some(2) the vendor answered 409"]);
    assert_eq!(outcomes_of(&second), ["Rejected the vendor answered 409"]);
}

const SECOND: &str = r#"adapter = { name = "Acme", docs = "https://acme.test", checked = "2026-07" }
[settings]
key = { type = "secret", doc = "API key" }
[identity]
key = ["{user_id}"]
[[request]]
name = "update"
url = "https://acme.test/update/{identity}"
headers = { Authorization = "{settings.key}" }
body = { id = "{identity}" }
outcomes = [{ status = 404, then = "send:create" }]
[[request]]
name = "create"
on_demand = true
url = "https://acme.test/create"
body = { id = "{identity}", hint = "{reply.update.body.hint}" }
[[request]]
name = "tags"
url = "https://acme.test/tags"
batch = { items = 5 }
body = { all = "{items}" }
item = "{user_id}"
"#;

#[test]
fn requests_follow_each_other_and_leave_out_what_was_rejected() {
    let users = [("a", "{}"), ("b", "{}"), ("c", "{}")];
    let answers = [(200, ""), (404, r#"{"hint":"h"}"#), (422, "no"), (201, ""), (200, "")];
    let (sent, verdicts) = drive(SECOND, &users, &answers);
    assert_eq!(
        sent,
        [
            r#"update/a {"id":"a"}"#,
            r#"update/b {"id":"b"}"#,
            r#"update/c {"id":"c"}"#,
            r#"create {"id":"b","hint":"h"}"#,
            r#"tags {"all":["a","b"]}"#,
        ]
    );
    assert_eq!(outcomes_of(&verdicts), ["Delivered", "Delivered", "Rejected the vendor answered 422"]);
    assert_eq!(&*verdicts[2].answer, "422 no");
}

const FETCH: &str = r#"adapter = { name = "Acme", docs = "https://acme.test", checked = "2026-07" }
[settings]
key = { type = "secret", doc = "API key" }
[identity]
key = ["{user_id}"]
[rest]
fields = [{ name = "custom", only = "{fetch.names}" }]
[fetch.token]
url = "https://acme.test/token"
body = { key = "{settings.key}" }
keep = "{body.token}"
for = "{body.lasts | wait}"
[fetch.names]
method = "GET"
url = "https://acme.test/names"
each = "{body.names}"
keep = "{value.name}"
for = "24 h"
[[request]]
url = "https://acme.test/people"
query = { token = "{fetch.token}" }
body = { id = "{identity}", "..." = "{fields.custom}" }
"#;

const TOKEN: (u16, &str) = (200, r#"{"token":"t1","lasts":3600}"#);
const NAMES: (u16, &str) = (200, r#"{"names":[{"name":"known"}]}"#);

#[test]
fn fetches_are_made_once_and_renewed_when_refused() {
    let memory = Memory::new(16);
    let users = [("a", r#"{"known":1,"unknown":2}"#)];
    let (sent, _) = drive_with(FETCH, &users, &[TOKEN, NAMES, (200, "")], &memory);
    assert_eq!(sent, [r#"token {"key":"secret"}"#, "names ", r#"people?token=t1 {"id":"a","known":1}"#]);
    let renewed = (200, r#"{"token":"t2","lasts":3600}"#);
    let (sent, verdicts) = drive_with(FETCH, &users, &[(401, ""), renewed, NAMES, (200, "")], &memory);
    assert_eq!(sent[0], r#"people?token=t1 {"id":"a","known":1}"#);
    assert_eq!(sent[3], r#"people?token=t2 {"id":"a","known":1}"#);
    assert_eq!(outcomes_of(&verdicts), ["Delivered"]);
    let (sent, verdicts) = drive_with(FETCH, &users, &[(401, ""), renewed, NAMES, (401, "")], &memory);
    assert_eq!(sent.len(), 4);
    assert_eq!(outcomes_of(&verdicts), ["Unauthorised the vendor answered 401"]);
}

#[test]
fn a_fetch_that_fails_ends_the_attempt() {
    for (answer, expected) in [
        ((403, ""), "Unauthorised fetch token: the vendor answered 403"),
        ((500, ""), "retry None fetch token: the vendor answered 500"),
        ((429, ""), "throttled None false"),
        ((200, "{}"), "retry None fetch token: the answer holds nothing to keep"),
        ((0, ""), "retry None fetch token: no answer within 10s"),
    ] {
        let (sent, verdicts) = drive(FETCH, &[("a", "{}")], &[answer]);
        assert_eq!(sent.len(), 1);
        assert_eq!(outcomes_of(&verdicts), [expected], "{answer:?}");
    }
}

#[test]
fn a_preview_shows_what_would_be_fetched() {
    let (plan, names) = plan(FETCH, "key = 'secret'");
    let item = plan.render(&identify("a", r#"{"known":1}"#, &names), None).unwrap();
    let requests = plan.preview(&[item], &At(0), false);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].url, "https://acme.test/people?token=%3Cfetch.token%3E");
    assert_eq!(&*requests[0].body, br#"{"id":"a","known":1}"#);
}
