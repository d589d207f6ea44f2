//! From a request's body to the texts that are journalled, one a call: the batch's common fields merged in, the write
//! key taken out, the path's type and a messageId put in. Whatever needs none of this stays byte for byte as it came.
//! It does not normalise, so that better normalising also serves what was journalled before.

use super::common::{in_options, message_id_field};
use super::{Refusal, not_blank};
use crate::event::CallType;
use crate::json::{Builder, Doc, Json, Kind};
use std::borrow::Cow;
use std::collections::HashMap;

/// What one request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of one call, as its text stands in the decoded body; also the most that a batch may give to each
    /// of its calls.
    pub event_bytes: usize,
    /// The most calls of one batch; those behind are refused one by one.
    pub events: usize,
}

/// What is journalled for a call, read already, or why it is not.
pub type Record = Result<Doc, Refusal>;

/// The write key in a body: `writeKey`, else `write_key`.
pub fn write_key(root: Json<'_>) -> Option<Cow<'_, str>> {
    not_blank(root.get("writeKey")).or_else(|| not_blank(root.get("write_key"))).and_then(Json::text)
}

/// The record of a single call; the path says its type. `new_id` makes a messageId where the call has none.
pub fn single(body: Doc, call_type: CallType, limits: Limits, new_id: &mut dyn FnMut() -> String) -> Record {
    let root = body.root();
    let common = Common { call_type: Some(call_type), ..Common::default() };
    match record(root, &common, limits, new_id)? {
        Some(doc) => Ok(doc),
        None if root.raw().len() == body.text().len() => Ok(body),
        None => Ok(Doc::of(root)),
    }
}

/// The records of a batch's calls, in their order, each accepted or refused by itself; an empty list for an empty
/// batch. The error is for a body that is no batch.
pub fn batch(body: &Doc, limits: Limits, new_id: &mut dyn FnMut() -> String) -> Result<Vec<Record>, Refusal> {
    let root = body.root();
    if root.kind() != Kind::Object {
        return Err(Refusal::new("not_an_object", "the body must be a JSON object, such as {\"batch\":[…]}"));
    }
    let Some(calls) = root.get("batch") else {
        return Err(Refusal::new(
            "batch_missing",
            "batch is not given; send {\"batch\":[…]}, or use /v1/identify",
        ));
    };
    if calls.kind() != Kind::List {
        return Err(Refusal::new("batch_not_list", "batch must be a list of calls"));
    }
    let common = Common {
        call_type: None,
        sent_at: not_blank(root.get("sentAt")).or_else(|| not_blank(root.get("sent_at"))),
        context: root.get("context").filter(|context| context.pairs().next().is_some()),
        integrations: root.get("integrations").filter(|flags| !flags.is_null() && !is_empty(*flags)),
    };
    let records = calls.elements().enumerate().map(|(at, call)| {
        if at >= limits.events {
            let message =
                format!("the batch has more than {} events; send the rest in another one", limits.events);
            return Err(Refusal::new("too_many_events", message));
        }
        let changed = record(call, &common, limits, new_id)?;
        Ok(changed.unwrap_or_else(|| Doc::of(call)))
    });
    Ok(records.collect())
}

/// What is put into a call from outside of it.
#[derive(Default)]
struct Common<'a> {
    call_type: Option<CallType>,
    sent_at: Option<Json<'a>>,
    context: Option<Json<'a>>,
    integrations: Option<Json<'a>>,
}

/// What stands in a call and may have to be changed.
#[derive(Default)]
struct Call<'a> {
    has_write_key: bool,
    call_type: Option<Json<'a>>,
    message_id: Option<Json<'a>>,
    message_id_snake: Option<Json<'a>>,
    sent_at: Option<Json<'a>>,
    context: Option<Json<'a>>,
    integrations: Option<Json<'a>>,
    options: Option<Json<'a>>,
}

impl<'a> Call<'a> {
    fn read(call: Json<'a>) -> Call<'a> {
        let mut found = Call::default();
        for (key, value) in call.members() {
            match &*key {
                "writeKey" | "write_key" => found.has_write_key = true,
                "type" => found.call_type = Some(value),
                "messageId" => found.message_id = Some(value),
                "message_id" => found.message_id_snake = Some(value),
                "sentAt" | "sent_at" => found.sent_at = not_blank(Some(value)).or(found.sent_at),
                "context" => found.context = Some(value),
                "integrations" => found.integrations = Some(value),
                "options" => found.options = Some(value),
                _ => {}
            }
        }
        found
    }

    /// The call's own flags, from wherever it has them.
    fn flags(&self) -> Option<Json<'a>> {
        let in_context = |name| self.context.and_then(|context| context.get(name));
        self.integrations
            .filter(|flags| !flags.is_null() && !is_empty(*flags))
            .or_else(|| in_context("integrations"))
            .or_else(|| in_options(self.options, in_context("providers")))
    }
}

/// A call as it is to be; `None` where it can stay as it is.
fn record<'a>(
    call: Json<'a>,
    common: &Common<'a>,
    limits: Limits,
    new_id: &mut dyn FnMut() -> String,
) -> Result<Option<Doc>, Refusal> {
    if call.kind() != Kind::Object {
        return Err(Refusal::new(
            "not_an_object",
            "a call must be a JSON object, such as {\"type\":\"identify\", …}",
        ));
    }
    let given = [common.context, common.integrations]
        .into_iter()
        .flatten()
        .map(|json| json.raw().len())
        .sum::<usize>();
    let size = call.raw().len();
    if size.max(given) > limits.event_bytes {
        let what = if size > limits.event_bytes { "the call" } else { "what the batch gives to each call" };
        let message = format!(
            "{what} has {} bytes, more than the limit of {}; send fewer or shorter traits",
            size.max(given),
            limits.event_bytes
        );
        return Err(Refusal::new("event_too_large", message));
    }

    let found = Call::read(call);
    let call_type = common.call_type.filter(|of_path| {
        let own = found.call_type.and_then(Json::text);
        own.is_none_or(|own| CallType::named(&own) != Some(*of_path))
    });
    let message_id = message_id_field(found.message_id, found.message_id_snake).is_none().then(new_id);
    let sent_at = common.sent_at.filter(|_| found.sent_at.is_none());
    // One that is there and no object is the caller's own, and wins.
    let own_context = found.context.filter(|context| !context.is_null());
    let context = common.context.filter(|_| own_context.is_none_or(|own| own.kind() == Kind::Object));
    let own_flags = found.flags();
    let integrations = common.integrations.filter(|_| own_flags.is_none_or(|own| own.kind() == Kind::Object));
    let changes = found.has_write_key
        || call_type.is_some()
        || message_id.is_some()
        || sent_at.is_some()
        || context.is_some()
        || integrations.is_some();
    if !changes {
        return Ok(None);
    }

    let mut out = Builder::new(size + given + 96, call);
    let object = out.open();
    // Members that stay are copied as long as none between them goes.
    let mut kept: Option<(Json<'_>, Json<'_>)> = None;
    for (key, value) in call.pairs() {
        let is_replaced =
            match &*key.plain_text().map_or_else(|| key.text().unwrap_or_default(), Cow::Borrowed) {
                "writeKey" | "write_key" => true,
                "type" => call_type.is_some(),
                "messageId" | "message_id" => message_id.is_some(),
                "sentAt" | "sent_at" => sent_at.is_some(),
                "context" => context.is_some(),
                "integrations" => integrations.is_some(),
                _ => false,
            };
        kept = match kept {
            Some((first, last)) if is_replaced => {
                out.members(first, last);
                None
            }
            _ if is_replaced => None,
            Some((first, _)) => Some((first, value)),
            None => Some((key, value)),
        };
    }
    if let Some((first, last)) = kept {
        out.members(first, last);
    }
    if let Some(call_type) = call_type {
        out.key("type");
        out.string(call_type.name());
    }
    if let Some(id) = message_id {
        out.key("messageId");
        out.string(&id);
    }
    if let Some(sent_at) = sent_at {
        out.key("sentAt");
        out.value(sent_at);
    }
    if let Some(context) = context {
        out.key("context");
        merge(&mut out, context, own_context);
    }
    if let Some(integrations) = integrations {
        out.key("integrations");
        merge(&mut out, integrations, own_flags);
    }
    out.close(object);
    Ok(Some(out.finish()))
}

fn is_empty(json: Json<'_>) -> bool {
    matches!(json.kind(), Kind::List | Kind::Object)
        && json.elements().next().is_none()
        && json.pairs().next().is_none()
}

/// Writes `over` with whatever of `base` it does not have; objects that both have are merged in the same way.
fn merge(out: &mut Builder, base: Json<'_>, over: Option<Json<'_>>) {
    let Some(over) = over.filter(|over| over.kind() == Kind::Object && base.kind() == Kind::Object) else {
        return out.value(over.unwrap_or(base));
    };
    let below: HashMap<Cow<'_, str>, Json<'_>> = base.members().collect();
    let above: HashMap<Cow<'_, str>, Json<'_>> = over.members().collect();
    let object = out.open();
    for (key, value) in over.members() {
        let is_last = above.get(&key).is_some_and(|last| last.position() == value.position());
        if is_last {
            let below = below.get(&key).copied().filter(|below| below.kind() == Kind::Object);
            out.key(&key);
            match below {
                Some(below) if value.kind() == Kind::Object => merge(out, below, Some(value)),
                _ => out.value(value),
            }
        }
    }
    for (key, value) in base.members() {
        let is_last = below.get(&key).is_some_and(|last| last.position() == value.position());
        if is_last && !above.contains_key(&key) {
            out.key(&key);
            out.value(value);
        }
    }
    out.close(object);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use proptest::prelude::*;

    type Text = Result<Arc<str>, Refusal>;

    const LIMITS: Limits = Limits { event_bytes: 32 << 10, events: 3 };

    fn doc(text: &str) -> Doc {
        Doc::parse(text.into()).unwrap()
    }

    /// A record's text, after making sure that its nodes are those of that text.
    fn text(record: Record) -> Text {
        let record = record?;
        assert_eq!(format!("{record:?}"), format!("{:?}", doc(record.text())));
        Ok(record.text().clone())
    }

    fn one(body: &str) -> Text {
        text(single(doc(body), CallType::Identify, LIMITS, &mut || "NEW".to_owned()))
    }

    fn many(body: &str) -> Result<Vec<Text>, Refusal> {
        let mut made = 0;
        let records = batch(&doc(body), LIMITS, &mut || {
            made += 1;
            format!("NEW{made}")
        });
        Ok(records?.into_iter().map(text).collect())
    }

    #[test]
    fn a_call_that_needs_nothing_is_not_copied() {
        let body = doc(r#"{"type": "identify",  "messageId":"m", "traits":{"a" : 1}}"#);
        let record = single(body.clone(), CallType::Identify, LIMITS, &mut || unreachable!()).unwrap();
        assert!(Arc::ptr_eq(record.text(), body.text()));
    }

    #[test]
    fn single_calls() {
        for (body, expected) in [
            (r#"{"userId":"u"}"#, r#"{"userId":"u","type":"identify","messageId":"NEW"}"#),
            (r#"{"type":"track","messageId":"m"}"#, r#"{"messageId":"m","type":"identify"}"#),
            (r#"{"type":"IDENTIFY","messageId":"m"}"#, r#"{"type":"IDENTIFY","messageId":"m"}"#),
            (r#"{"type":"identify","messageId":""}"#, r#"{"type":"identify","messageId":"NEW"}"#),
            (r#"{"type":"identify","messageId":"\u200b "}"#, r#"{"type":"identify","messageId":"NEW"}"#),
            (r#"{"type":"identify","messageId":true}"#, r#"{"type":"identify","messageId":"NEW"}"#),
            (r#"{"type":"identify","messageId":12}"#, r#"{"type":"identify","messageId":12}"#),
            (
                r#"{"type":"identify","messageId":null,"message_id":"s"}"#,
                r#"{"type":"identify","messageId":null,"message_id":"s"}"#,
            ),
            (
                r#"{"type":"identify","writeKey":"w","messageId":"m","write_key":"w"}"#,
                r#"{"type":"identify","messageId":"m"}"#,
            ),
            (r#"{"writeKey":"w"}"#, r#"{"type":"identify","messageId":"NEW"}"#),
            (
                r#"{"type":"identify","messageId":"m","traits":{"writeKey":"x", "n":1e5}}"#,
                r#"{"type":"identify","messageId":"m","traits":{"writeKey":"x", "n":1e5}}"#,
            ),
            (
                "\u{feff} {\"type\":\"identify\",\"messageId\":\"m\"} ",
                r#"{"type":"identify","messageId":"m"}"#,
            ),
        ] {
            assert_eq!(&*one(body).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn bodies_that_are_no_batch() {
        for (body, code) in [
            ("{}", "batch_missing"),
            (r#"{"userId":"u"}"#, "batch_missing"),
            (r#"{"batch":{}}"#, "batch_not_list"),
            (r#"{"batch":null}"#, "batch_not_list"),
            ("[]", "not_an_object"),
            ("null", "not_an_object"),
        ] {
            assert_eq!(many(body).unwrap_err().code, code, "{body}");
        }
        assert_eq!(many(r#"{"batch":[]}"#).unwrap(), []);
        assert_eq!(one("[]").unwrap_err().code, "not_an_object");
    }

    #[test]
    fn batches() {
        for (body, expected) in [
            (
                r#"{"batch":[{"type":"identify", "messageId":"m"}]}"#,
                r#"{"type":"identify", "messageId":"m"}"#,
            ),
            (
                r#"{"batch":[{"messageId":"m"}],"messageId":"b","timestamp":"t","writeKey":"w"}"#,
                r#"{"messageId":"m"}"#,
            ),
            (r#"{"batch":[{"messageId":"m"}],"sentAt":"s"}"#, r#"{"messageId":"m","sentAt":"s"}"#),
            (
                r#"{"batch":[{"messageId":"m","sentAt":null}],"sent_at":"s"}"#,
                r#"{"messageId":"m","sentAt":"s"}"#,
            ),
            (
                r#"{"batch":[{"messageId":"m","sent_at":"i"}],"sentAt":"s"}"#,
                r#"{"messageId":"m","sent_at":"i"}"#,
            ),
            (r#"{"batch":[{"messageId":"m"}],"context":{"a":1}}"#, r#"{"messageId":"m","context":{"a":1}}"#),
            (
                r#"{"batch":[{"messageId":"m","context":null}],"context":{"a":1}}"#,
                r#"{"messageId":"m","context":{"a":1}}"#,
            ),
            (
                r#"{"batch":[{"messageId":"m","context":"c"}],"context":{"a":1}}"#,
                r#"{"messageId":"m","context":"c"}"#,
            ),
            (
                r#"{"batch":[{"messageId":"m","context":{"library":{"name":"i"},"a":null}}],"context":{"a":1,"library":{"name":"b","version":"2"},"b":[1]}}"#,
                r#"{"messageId":"m","context":{"library":{"name":"i","version":"2"},"a":null,"b":[1]}}"#,
            ),
            (
                r#"{"batch":[{"messageId":"m","integrations":{"X":true}}],"integrations":{"All":false}}"#,
                r#"{"messageId":"m","integrations":{"X":true,"All":false}}"#,
            ),
            (
                r#"{"batch":[{"messageId":"m","integrations":{"X":false}}],"integrations":{"X":true}}"#,
                r#"{"messageId":"m","integrations":{"X":false}}"#,
            ),
            (
                r#"{"batch":[{"messageId":"m","integrations":[]}],"integrations":{"X":true}}"#,
                r#"{"messageId":"m","integrations":{"X":true}}"#,
            ),
            (
                r#"{"batch":[{"messageId":"m"}],"integrations":"X"}"#,
                r#"{"messageId":"m","integrations":"X"}"#,
            ),
            (
                r#"{"batch":[{"messageId":"m","integrations":"X"}],"integrations":{"Y":true}}"#,
                r#"{"messageId":"m","integrations":"X"}"#,
            ),
            (
                r#"{"batch":[{"messageId":"m","context":{"integrations":{"X":false}}}],"integrations":{"All":true}}"#,
                r#"{"messageId":"m","context":{"integrations":{"X":false}},"integrations":{"X":false,"All":true}}"#,
            ),
            (r#"{"batch":[{"messageId":"m"}],"context":{},"integrations":null}"#, r#"{"messageId":"m"}"#),
        ] {
            let records = many(body).unwrap();
            assert_eq!(
                records.into_iter().map(|record| record.unwrap()).collect::<Vec<_>>(),
                [expected.into()],
                "{body}"
            );
        }
    }

    #[test]
    fn calls_of_a_batch_are_refused_one_by_one() {
        let large = "x".repeat(33 << 10);
        let body =
            format!(r#"{{"batch":[{{"messageId":"1"}},7,{{"messageId":"{large}"}},{{"messageId":"4"}}]}}"#);
        let codes: Vec<_> =
            many(&body).unwrap().into_iter().map(|record| record.map_err(|refusal| refusal.code)).collect();
        let expected = [
            Ok(r#"{"messageId":"1"}"#.into()),
            Err("not_an_object"),
            Err("event_too_large"),
            Err("too_many_events"),
        ];
        assert_eq!(codes, expected);
    }

    #[test]
    fn a_batch_gives_no_more_than_a_call_may_have() {
        let body =
            format!(r#"{{"batch":[{{"messageId":"1"}}],"context":{{"a":"{}"}}}}"#, "x".repeat(33 << 10));
        assert_eq!(many(&body).unwrap().pop().unwrap().unwrap_err().code, "event_too_large");
    }

    #[test]
    fn every_call_gets_an_id_of_its_own() {
        let records: Vec<_> =
            many(r#"{"batch":[{},{"a":1}]}"#).unwrap().into_iter().map(|record| record.unwrap()).collect();
        assert_eq!(records, [r#"{"messageId":"NEW1"}"#.into(), Arc::from(r#"{"a":1,"messageId":"NEW2"}"#)]);
    }

    #[test]
    fn finds_the_write_key() {
        for (body, expected) in [
            (r#"{"writeKey":"w"}"#, Some("w")),
            (r#"{"write_key":"w"}"#, Some("w")),
            (r#"{"writeKey":"","write_key":"w"}"#, Some("w")),
            (r#"{"writeKey":7}"#, None),
            ("[]", None),
        ] {
            assert_eq!(write_key(doc(body).root()).as_deref(), expected, "{body}");
        }
    }

    fn member() -> impl Strategy<Value = (String, serde_json::Value)> {
        let key = prop_oneof![
            Just("context".to_owned()),
            Just("integrations".to_owned()),
            Just("writeKey".to_owned()),
            Just("messageId".to_owned()),
            Just("sentAt".to_owned()),
            "[a-c]",
        ];
        let leaf =
            prop_oneof![any::<bool>().prop_map(Into::into), "\\PC{0,4}".prop_map(serde_json::Value::from)];
        let value = leaf.prop_recursive(3, 12, 4, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect()))
        });
        (key, value)
    }

    proptest! {
        #[test]
        fn records_are_json_and_keep_what_is_not_common(
            common in prop::collection::vec(member(), 0..5),
            call in prop::collection::vec(member(), 0..6),
        ) {
            let call: serde_json::Map<_, _> = call.into_iter().collect();
            let mut body: serde_json::Map<_, _> = common.into_iter().collect();
            body.insert("batch".to_owned(), vec![serde_json::Value::Object(call.clone())].into());
            let records = many(&serde_json::Value::Object(body).to_string()).unwrap();
            let record: serde_json::Value = serde_json::from_str(records[0].as_ref().unwrap()).unwrap();
            prop_assert!(record.get("writeKey").is_none());
            prop_assert!(record.get("messageId").is_some());
            for key in ["a", "b", "c"] {
                prop_assert_eq!(record.get(key), call.get(key));
            }
            // Done once more, nothing changes.
            let again = batch(&doc(&format!("{{\"batch\":[{record}]}}")), LIMITS, &mut || unreachable!()).unwrap();
            prop_assert_eq!(again[0].as_ref().unwrap().text().to_string(), record.to_string());
        }
    }
}
