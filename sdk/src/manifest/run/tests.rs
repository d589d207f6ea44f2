//! One `send` against scripted answers: the standard table, splitting, rules, fetches and the order of requests.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::destination::{Answer, NoAnswer, Purpose, Request, Transport};
use crate::manifest::tests::{At, event, identify, plan};
use crate::memory::Memory;
use crate::preview::preview;

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
    let vendor = Vendor { answers: Mutex::new(answers.iter().copied().collect()), sent: Mutex::default() };
    let context = Context {
        transport: &vendor,
        clock: &At(1_785_585_605_000),
        memory,
        destination: "acme",
        purpose: Purpose::Deliver,
    };
    let verdicts = ready(plan.send(&context, &items));
    assert!(vendor.answers.into_inner().unwrap().is_empty(), "an answer is left");
    (vendor.sent.into_inner().unwrap(), verdicts)
}

/// A future's value, which is there at once because nothing waits here.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// Gives prepared answers, status 0 for none at all.
struct Vendor<'s> {
    answers: Mutex<VecDeque<(u16, &'s str)>>,
    sent: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Vendor<'_> {
    async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let method = if request.method == "POST" { String::new() } else { format!("{} ", request.method) };
        let url = request.url.trim_start_matches("https://acme.test/");
        let mut sent = self.sent.lock().unwrap();
        sent.push(format!("{method}{url} {}", String::from_utf8_lossy(&request.body)));
        let answer = self.answers.lock().unwrap().pop_front();
        let (status, body) = answer.unwrap_or_else(|| panic!("no answer left for {sent:?}"));
        match status {
            0 => Err(NoAnswer::Timeout(Duration::from_secs(10))),
            _ => Ok(Answer {
                status,
                headers: vec![("retry-after".into(), "7".into())],
                body: body.to_owned().into(),
            }),
        }
    }
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
fn a_token_that_the_vendor_sends_back_is_masked() {
    let manifest = FETCH.replace(
        "body = { id = \"{identity}\"",
        "headers = { Authorization = \"Bearer {fetch.token}\" }\n\
         outcomes = [{ status = 400, then = \"rejected\", reason = \"{body.error}\" }]\n\
         body = { id = \"{identity}\"",
    );
    let token = (200, r#"{"token":"t0ken/of the vendor","lasts":3600}"#);
    let echo =
        (400, r#"{"error":"Bearer t0ken/of the vendor, t0ken%2Fof%20the%20vendor; known is no field"}"#);
    let (_, verdicts) = drive(&manifest, &[("a", "{}")], &[token, NAMES, echo]);
    assert_eq!(verdicts[0].reason, "Bearer ***, ***; known is no field");
    assert_eq!(&*verdicts[0].answer, r#"400 {"error":"Bearer ***, ***; known is no field"}"#);
}

#[test]
fn fetches_are_made_once_and_renewed_when_refused() {
    let memory = Memory::new(16);
    let users = [("a", r#"{"known":1,"unknown":2}"#)];
    let (sent, _) = drive_with(FETCH, &users, &[TOKEN, NAMES, (200, "")], &memory);
    assert_eq!(sent, [r#"token {"key":"secret"}"#, "GET names ", r#"people?token=t1 {"id":"a","known":1}"#]);
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
        ((400, ""), "Unauthorised fetch token: the vendor answered 400"),
        ((403, ""), "Unauthorised fetch token: the vendor answered 403"),
        ((500, ""), "retry Some(7) fetch token: the vendor answered 500"),
        ((429, ""), "throttled Some(7) false"),
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
    let requests = preview(&plan, &[item], Vec::new(), &At(0), false);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].url, "https://acme.test/people?token=%3Cfetch.token%3E");
    assert_eq!(&*requests[0].body, br#"{"id":"a","known":1}"#);
}

const UPSERT: &str = r#"adapter = { name = "Acme", docs = "https://acme.test", checked = "2026-07" }
[settings]
key = { type = "secret", doc = "API key" }
[identity]
key = ["{user_id}"]
[upsert]
find = ["by_id", "by_mail"]
update = "update"
create = "create"
remember = "1 h"
[values]
person = { id = "{user_id}", mail = "{traits.email}" }
[defaults]
headers = { Authorization = "{settings.key}" }
[[request]]
name = "by_id"
on_demand = true
method = "GET"
url = "https://acme.test/people/by/{user_id}"
keep = "{body.id}"
[[request]]
name = "by_mail"
on_demand = true
method = "GET"
url = "https://acme.test/people"
query = { mail = "{traits.email | lower | required}" }
outcomes = [
  { each = "{body.people}", when = "{value.owner | is(user_id)}", then = "found", keep = "{value.id}" },
  { when = "{body.lead}", then = "found", keep = "{body.lead}", update = "convert" },
  { status = "2xx", then = "missing" },
]
[[request]]
name = "update"
on_demand = true
method = "PUT"
url = "https://acme.test/people/{found}"
body = "{values.person}"
outcomes = [{ status = 301, then = "found", keep = "{body.now}" }]
[[request]]
name = "convert"
on_demand = true
method = "PUT"
url = "https://acme.test/leads/{found}"
body = "{values.person}"
[[request]]
name = "create"
on_demand = true
url = "https://acme.test/people"
body = "{values.person}"
keep = "{body.id}"
outcomes = [
  { status = 409, then = "found", keep = "{body.existing}" },
  { status = 409, then = "retry", after = "5 s", reason = "{body.why}" },
]
[[request]]
name = "tag"
when = "{traits.title}"
url = "https://acme.test/people/{found}/tags"
body = { tag = "{traits.title}" }
"#;

const ADA: (&str, &str) = ("a", r#"{"email":"Ada@acme.test"}"#);
const ASKED: &str = "GET people/by/a ";
const ASKED_MAIL: &str = "GET people?mail=ada%40acme.test ";
const P1_EXISTS: (u16, &str) = (409, r#"{"existing":"p1"}"#);
const CREATED: &str = r#"people {"id":"a","mail":"Ada@acme.test"}"#;

fn updated(path: &str) -> String {
    format!(r#"PUT {path} {{"id":"a","mail":"Ada@acme.test"}}"#)
}

#[test]
fn a_digest_covers_what_requests_may_bring_that_are_decided_on_later() {
    let manifest = UPSERT.replacen(
        "https://acme.test/leads/{found}\"\nbody = \"{values.person}\"",
        "https://acme.test/leads/{found}\"\nbody = { born = \"{traits.birthday | date}\" }",
        1,
    );
    let (plan, names) = plan(&manifest, "key = 'secret'");
    let digests = |message: &str, traits: &str| {
        let call = format!(r#"{{"type":"identify","messageId":"{message}","userId":"a","traits":{traits}}}"#);
        let item = plan.render(&event(&call, &names), None).unwrap();
        (item.digest, plan.digest(&item))
    };
    let first = digests("m-1", r#"{"title":"x"}"#);
    assert_eq!(first, digests("m-2", r#"{"title":"x","unused":1}"#));
    let born = digests("m-1", r#"{"title":"x","birthday":"1990-02-03"}"#);
    assert_eq!(born.0, first.0, "the parts are the same");
    assert_ne!(born.1, first.1);
    assert_ne!(first.1, digests("m-1", r#"{"title":"y"}"#).1);
}

#[test]
fn a_person_is_looked_up_then_updated_or_created() {
    let nobody = (200, r#"{"people":[{"id":"p9","owner":"z"}]}"#);
    let rows: &[(&str, Answers<'_>, &[&str], &str)] = &[
        (
            "found by the first",
            &[(200, r#"{"id":"p1"}"#), (200, "")],
            &[ASKED, &updated("people/p1")],
            "Delivered",
        ),
        (
            "found by the second",
            &[(404, ""), (200, r#"{"people":[{"id":"p0","owner":"z"},{"id":"p2","owner":"a"}]}"#), (200, "")],
            &[ASKED, ASKED_MAIL, &updated("people/p2")],
            "Delivered",
        ),
        (
            "another request updates it",
            &[(404, ""), (200, r#"{"lead":"l 1"}"#), (200, "")],
            &[ASKED, ASKED_MAIL, &updated("leads/l%201")],
            "Delivered",
        ),
        (
            "created",
            &[(200, "{}"), nobody, (201, r#"{"id":"p3"}"#)],
            &[ASKED, ASKED_MAIL, CREATED],
            "Delivered",
        ),
        (
            "there is one after all",
            &[(404, ""), nobody, (409, r#"{"existing":"p4"}"#), (200, "")],
            &[ASKED, ASKED_MAIL, CREATED, &updated("people/p4")],
            "Delivered",
        ),
        (
            "there is one after all, who knows which",
            &[(404, ""), nobody, (409, r#"{"why":"exists"}"#)],
            &[ASKED, ASKED_MAIL, CREATED],
            "retry Some(5) exists",
        ),
        (
            "merged into another",
            &[(200, r#"{"id":"p1"}"#), (301, r#"{"now":"p5"}"#), (200, "")],
            &[ASKED, &updated("people/p1"), &updated("people/p5")],
            "Delivered",
        ),
        (
            "gone in the meantime",
            &[(200, r#"{"id":"p1"}"#), (404, ""), (201, r#"{"id":"p6"}"#)],
            &[ASKED, &updated("people/p1"), CREATED],
            "Delivered",
        ),
        (
            "the vendor contradicts itself",
            &[(200, r#"{"id":"p1"}"#), (404, ""), P1_EXISTS, (404, ""), P1_EXISTS, (404, "")],
            &[ASKED, &updated("people/p1"), CREATED, &updated("people/p1"), CREATED, &updated("people/p1")],
            "retry None the vendor says in turns that it has this person and that it does not",
        ),
        ("the look-up fails", &[(500, "")], &[ASKED], "retry Some(7) the vendor answered 500"),
        ("no answer", &[(0, "")], &[ASKED], "retry None no answer within 10s"),
        (
            "refused",
            &[(404, ""), nobody, (422, "no")],
            &[ASKED, ASKED_MAIL, CREATED],
            "Rejected the vendor answered 422",
        ),
    ];
    for (about, answers, sent, outcome) in rows {
        let (seen, verdicts) = drive(UPSERT, &[ADA], answers);
        assert_eq!(seen, *sent, "{about}");
        assert_eq!(outcomes_of(&verdicts), [*outcome], "{about}");
    }
}

#[test]
fn a_look_up_without_its_value_is_passed_over_and_later_requests_read_the_id() {
    let (sent, verdicts) =
        drive(UPSERT, &[("a", r#"{"title":"CTO"}"#)], &[(404, ""), (201, r#"{"id":"p1"}"#), (200, "")]);
    assert_eq!(sent, [ASKED, r#"people {"id":"a"}"#, r#"people/p1/tags {"tag":"CTO"}"#]);
    assert_eq!(outcomes_of(&verdicts), ["Delivered"]);
}

#[test]
fn an_id_is_remembered_until_the_vendor_has_it_no_more() {
    let memory = Memory::new(16);
    let created = [(404, ""), (200, "{}"), (201, r#"{"id":"p1"}"#)];
    drive_with(UPSERT, &[ADA], &created, &memory);
    let (sent, _) = drive_with(UPSERT, &[ADA], &[(200, "")], &memory);
    assert_eq!(sent, [updated("people/p1")]);
    let again = [(404, ""), (200, r#"{"id":"p2"}"#), (200, "")];
    let (sent, verdicts) = drive_with(UPSERT, &[ADA], &again, &memory);
    assert_eq!(sent, [&updated("people/p1"), ASKED, &updated("people/p2")]);
    assert_eq!(outcomes_of(&verdicts), ["Delivered"]);
    let (sent, _) = drive_with(UPSERT, &[ADA], &[(200, "")], &memory);
    assert_eq!(sent, [updated("people/p2")]);
}

#[test]
fn a_preview_of_a_look_up_shows_what_is_made_of_somebody_new_or_known() {
    let (plan, names) = plan(UPSERT, "key = 'secret'");
    let item = plan.render(&identify("a", r#"{"title":"CTO"}"#, &names), None).unwrap();
    let shown = |answers: &[(u16, &str)]| -> Vec<String> {
        let answer = |(status, body): &(u16, &str)| Answer {
            status: *status,
            headers: Vec::new(),
            body: (*body).to_owned().into(),
        };
        let answers = answers.iter().map(answer).map(Ok).collect();
        let requests = preview(&plan, std::slice::from_ref(&item), answers, &At(0), false);
        assert!(requests.iter().all(|request| request.headers.iter().any(|(_, value)| value == "***")));
        requests.iter().map(|request| format!("{} {}", request.method, request.url)).collect()
    };
    assert_eq!(
        shown(&[]),
        [
            "GET https://acme.test/people/by/a",
            "POST https://acme.test/people",
            "POST https://acme.test/people/<found>/tags"
        ]
    );
    assert_eq!(
        shown(&[(200, r#"{"id":"p1"}"#)]),
        [
            "GET https://acme.test/people/by/a",
            "PUT https://acme.test/people/p1",
            "POST https://acme.test/people/p1/tags"
        ]
    );
}

#[test]
fn two_sends_of_one_person_take_turns() {
    let (plan, names) = plan(UPSERT, "key = 'secret'");
    let item = plan.render(&identify("a", "{}", &names), None).unwrap();
    let memory = Memory::new(16);
    let vendor = Vendor {
        answers: Mutex::new([(404, ""), (201, r#"{"id":"p1"}"#), (200, "")].into()),
        sent: Mutex::default(),
    };
    let context = Context {
        transport: &vendor,
        clock: &At(0),
        memory: &memory,
        destination: "acme",
        purpose: Purpose::Deliver,
    };
    let items = [item];
    let mut first = plan.run(&context, &items);
    assert!(ready(first.upsert(0)).is_none());
    let mut second = pin!(plan.send(&context, &items));
    let mut poller = std::task::Context::from_waker(Waker::noop());
    assert!(second.as_mut().poll(&mut poller).is_pending(), "the first has not ended");
    ready(first.finish());
    assert!(second.as_mut().poll(&mut poller).is_ready());
    assert_eq!(*vendor.sent.lock().unwrap(), [ASKED, r#"people {"id":"a"}"#, r#"PUT people/p1 {"id":"a"}"#]);
}

const CODED: &str = r#"adapter = { name = "Acme", docs = "https://acme.test", checked = "2026-07" }
[settings]
key = { type = "secret", doc = "API key" }
[identity]
key = ["{user_id}"]
[code]
words = ["unknown_field", "bad_phone"]
gives = ["field", "no_phone"]
asks = ["field"]
[[request]]
name = "field"
on_demand = true
url = "https://acme.test/fields"
headers = { Authorization = "{settings.key}" }
body = { name = "{given.field}" }
[[request]]
name = "person"
url = "https://acme.test/people"
body = { id = "{user_id}", phone = "{traits.phone | unless(given.no_phone)}", note = "{fields.note}" }
outcomes = [
  { each = "{body.errors}", when = "{value.code | is('unknown')}", then = "tell:unknown_field", keep = "{value.field}", reason = "{value.field} is unknown" },
  { when = "{body.bad | is('phone')}", then = "tell:bad_phone", reason = "bad phone" },
]
[rest]
fields = [{ name = "note" }]
"#;

#[test]
fn code_is_told_what_the_rules_say_and_gives_what_they_ask_for() {
    let (plan, names) = plan(CODED, "key = 'secret'");
    assert!(plan.manifest().needs_code());
    let items = [plan.render(&identify("a", r#"{"phone":"12","plan":"x"}"#, &names), None).unwrap()];
    let unknown = (400, r#"{"errors":[{"code":"odd"},{"code":"unknown","field":"plan"}]}"#);
    let answers = [unknown, (200, ""), (400, r#"{"bad":"phone"}"#), (200, "")];
    let vendor = Vendor { answers: Mutex::new(answers.into()), sent: Mutex::default() };
    let context = Context {
        transport: &vendor,
        clock: &At(0),
        memory: &Memory::new(16),
        destination: "acme",
        purpose: Purpose::Deliver,
    };
    let verdicts = ready(async {
        let mut run = plan.run(&context, &items);
        assert!(run.upsert(0).await.is_none(), "there is none");
        while let Some((at, told)) = run.requests().await {
            match told.word.as_str() {
                "unknown_field" => {
                    run.give(at, "field", &told.kept);
                    assert_eq!(run.ask(at, "field").await, Said::Delivered);
                }
                _ => {
                    run.give(at, "no_phone", "true");
                    run.leave_out(at, "without the phone number, not the secret");
                }
            }
        }
        run.finish().await
    });
    assert_eq!(
        vendor.sent.into_inner().unwrap(),
        [
            r#"people {"id":"a","phone":"12","note":{"plan":"x"}}"#,
            r#"fields {"name":"plan"}"#,
            r#"people {"id":"a","phone":"12","note":{"plan":"x"}}"#,
            r#"people {"id":"a","note":{"plan":"x"}}"#,
        ]
    );
    assert_eq!(verdicts[0].outcome, Outcome::Delivered);
    assert_eq!(verdicts[0].reason, "without the phone number, not the ***");
    // Where nobody does anything about it, the vendor has refused it.
    let (_, verdicts) = drive(CODED, &[("a", "{}")], &[unknown]);
    assert_eq!(outcomes_of(&verdicts), ["Rejected unknown_field: plan is unknown"]);
}

#[test]
fn conditions_on_what_steps_bring_are_decided_when_it_is_the_requests_turn() {
    let only = r#"
[[request]]
name = "only"
when = ["{given.no_phone}", "{traits.title}"]
url = "https://acme.test/only/{given.no_phone}"
body = { why = "{given.no_phone | required}" }
[[request]]
name = "never"
unless = "{given.no_phone}"
url = "https://acme.test/never"
"#;
    let (plan, names) = plan(&format!("{CODED}{only}"), "key = 'secret'");
    let items = ["a", "b"].map(|user| {
        let traits = if user == "a" { r#"{"title":"x"}"# } else { "{}" };
        plan.render(&identify(user, traits, &names), None).unwrap()
    });
    let vendor = Vendor { answers: Mutex::new([(200, ""); 3].into()), sent: Mutex::default() };
    let context = Context {
        transport: &vendor,
        clock: &At(0),
        memory: &Memory::new(16),
        destination: "acme",
        purpose: Purpose::Deliver,
    };
    let verdicts = ready(async {
        let mut run = plan.run(&context, &items);
        run.give(0, "no_phone", "true");
        run.give(1, "no_phone", "true");
        run.finish().await
    });
    assert_eq!(
        vendor.sent.into_inner().unwrap(),
        [r#"people {"id":"a","note":{"title":"x"}}"#, r#"people {"id":"b"}"#, r#"only/true {"why":"true"}"#]
    );
    assert_eq!(outcomes_of(&verdicts), ["Delivered", "Delivered"]);
}

#[test]
fn what_code_calls_wrongly_ends_the_item() {
    let (plan, names) = plan(CODED, "key = 'secret'");
    let items = ["a", "b"].map(|user| plan.render(&identify(user, "{}", &names), None).unwrap());
    let vendor = Vendor { answers: Mutex::default(), sent: Mutex::default() };
    let context = Context {
        transport: &vendor,
        clock: &At(0),
        memory: &Memory::new(16),
        destination: "acme",
        purpose: Purpose::Deliver,
    };
    let verdicts = ready(async {
        let mut run = plan.run(&context, &items);
        run.give(0, "feild", "plan");
        assert_eq!(run.ask(1, "feild").await, Said::Ended);
        run.finish().await
    });
    assert_eq!(
        outcomes_of(&verdicts),
        [
            "Rejected the code gives feild, which [code] gives of the manifest does not list",
            "Rejected the code asks for feild, which is no request",
        ]
    );
    assert!(vendor.sent.into_inner().unwrap().is_empty());
}

const TOKENS: &str = r#"adapter = { name = "Acme", docs = "https://acme.test", checked = "2026-07" }
[settings]
key = { type = "secret", doc = "API key" }
[identity]
key = ["{user_id}"]
[values]
claims = { iss = "me", exp = "{attempt.time | unix | add(180)}" }
[fetch.token]
url = "https://acme.test/token"
encoding = "form"
body = { assertion = "{values.claims | json | base64url}", key = "{settings.key}" }
keep = "{body}"
for = "1 h"
outcomes = [{ status = 400, when = "{body.error | is('busy')}", then = "retry", after = "9 s", reason = "{body.error}" }]
[[request]]
url = "{fetch.token.origin or 'https://login.acme.test'}/people"
headers = { Authorization = "Bearer {fetch.token.access}" }
body = { id = "{identity}" }
"#;

#[test]
fn what_a_fetch_gave_is_hidden_in_what_the_vendor_sends_back() {
    let token = (200, r#"{"access":"tok/en-12345","origin":"https://eu.acme.test"}"#);
    let renewed = (200, r#"{"access":"tok/en-67890","origin":"https://eu.acme.test"}"#);
    let echo = r#"{"sent":"Bearer tok\/en-67890, before tok/en-12345, to https://eu.acme.test"}"#;
    let (_, verdicts) = drive(TOKENS, &[("a", "{}")], &[token, (401, ""), renewed, (422, echo)]);
    let hidden = r#"422 {"sent":"Bearer ***, before ***, to https://eu.acme.test"}"#;
    assert_eq!(&*verdicts[0].answer, hidden);
    // Names that were asked for are no secrets.
    let names = (200, r#"{"names":[{"name":"department"}]}"#);
    let (_, verdicts) = drive(FETCH, &[("a", "{}")], &[TOKEN, names, (422, "department")]);
    assert_eq!(&*verdicts[0].answer, "422 department");
}

#[test]
fn a_token_that_ends_again_in_a_long_send_is_renewed_again() {
    let token = (200, r#"{"access":"t1","origin":"https://eu.acme.test"}"#);
    let answers = [token, (401, ""), token, (200, ""), (401, ""), token, (200, "")];
    let (_, verdicts) = drive(TOKENS, &[("a", "{}"), ("b", "{}")], &answers);
    assert_eq!(outcomes_of(&verdicts), ["Delivered", "Delivered"]);
    // Refused as soon as it is new, it is not asked for without end.
    let answers = [token, (401, ""), token, (401, ""), (401, "")];
    let (_, verdicts) = drive(TOKENS, &[("a", "{}"), ("b", "{}")], &answers);
    assert!(verdicts.iter().all(|verdict| verdict.outcome == Outcome::Unauthorised), "{verdicts:?}");
}

#[test]
fn a_token_brings_the_host_and_is_asked_for_by_one_at_a_time() {
    let (plan, names) = plan(TOKENS, "key = 's'");
    let item = |user: &str| plan.render(&identify(user, "{}", &names), None).unwrap();
    let (one, two) = ([item("a")], [item("b")]);
    let token = (200, r#"{"access":"t1","origin":"https://eu.acme.test/"}"#);
    let vendor = Vendor { answers: Mutex::new([token, (200, ""), (200, "")].into()), sent: Mutex::default() };
    let memory = Memory::new(16);
    let context = Context {
        transport: &vendor,
        clock: &At(1_785_585_605_000),
        memory: &memory,
        destination: "acme",
        purpose: Purpose::Deliver,
    };
    let turn = ready(memory.turn("fetch/token"));
    let mut first = pin!(plan.send(&context, &one));
    let mut second = pin!(plan.send(&context, &two));
    let mut poller = std::task::Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut poller).is_pending() && second.as_mut().poll(&mut poller).is_pending());
    drop(turn);
    assert!(first.as_mut().poll(&mut poller).is_ready() && second.as_mut().poll(&mut poller).is_ready());
    let claims = "eyJpc3MiOiJtZSIsImV4cCI6MTc4NTU4NTc4NX0";
    assert_eq!(
        *vendor.sent.lock().unwrap(),
        [
            format!("token assertion={claims}&key=s"),
            r#"https://eu.acme.test/people {"id":"a"}"#.to_owned(),
            r#"https://eu.acme.test/people {"id":"b"}"#.to_owned(),
        ]
    );
    let shown = &preview(&plan, &one, Vec::new(), &At(0), false)[0];
    assert_eq!(shown.url, "https://login.acme.test/people");
    assert_eq!(shown.headers[1].1, "Bearer <fetch.token.access>");
    for (answer, expected) in [
        ((400, r#"{"error":"busy"}"#), "retry Some(9) fetch token: busy"),
        ((400, r#"{"error":"invalid_grant"}"#), "Unauthorised fetch token: the vendor answered 400"),
    ] {
        let (_, verdicts) = drive(TOKENS, &[("a", "{}")], &[answer]);
        assert_eq!(outcomes_of(&verdicts), [expected]);
    }
    // What is no origin is no host.
    let evil = (200, r#"{"access":"t1","origin":"https://acme.test@evil.test/x?"}"#);
    let (sent, verdicts) = drive(TOKENS, &[("a", "{}")], &[evil, (200, "")]);
    assert_eq!(sent[1], r#"https://login.acme.test/people {"id":"a"}"#);
    assert_eq!(outcomes_of(&verdicts), ["Delivered"]);
}

#[test]
fn a_long_answer_is_made_ready_to_be_shown_once_however_many_items_it_is_about() {
    let users = [("a", r#"{"title":"t"}"#), ("b", "{}"), ("c", "{}")];
    let long = format!(r#"{{"error":"{}"}}"#, "no ".repeat(1000));
    let (_, verdicts) = drive(&batch(), &users, &[(409, &long)]);
    let [first, others @ ..] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert!(others.iter().all(|verdict| Arc::ptr_eq(&verdict.answer, &first.answer)));
    assert!(first.answer.len() <= MAX_ANSWER_BYTES && first.answer.starts_with("409 {"));
}
