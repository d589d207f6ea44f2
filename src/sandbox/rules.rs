//! What the sandbox answers: rules that say which requests they are for and what those get.
//!
//! The same form serves a vendor's `sandbox.json`, which says how that vendor answers a good request, and scripts that
//! users post to provoke what a vendor does on a bad day. No vendor is named here.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use fanout_sdk::json::{Doc, Json, Kind};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// The most scripted rules that are kept.
const MOST_SCRIPTED: usize = 10_000;

/// One rule. Patterns are compared whole; `*` in one stands for any text.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which hosts, such as `api*.example.com`; default all.
    #[serde(default = "anything")]
    pub host: String,
    /// Which paths, such as `/v1/users/*`; default all.
    #[serde(default = "anything")]
    pub path: String,
    /// Which method, such as `POST`; default all.
    pub method: Option<String>,
    /// How often it is used before it is gone; default for ever.
    pub times: Option<u64>,
    /// Where in the body the items are, such as `data.contacts`; default the body itself. A list counts its members,
    /// anything else is one item.
    #[serde(default)]
    pub items: String,
    /// The answer's status; default 200.
    #[serde(default = "ok")]
    pub status: u16,
    /// The answer's headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The answer's body, default `{}`: JSON, or a text that is sent as it is. In its texts `{items}` stands for the
    /// number of items in the request and `{id}` for a number that no other answer has; a text that is nothing else
    /// becomes a number.
    #[serde(default = "empty_object")]
    pub body: Value,
    /// Milliseconds before the answer begins; default 0.
    #[serde(default)]
    pub delay_ms: u64,
    /// Milliseconds between two bytes of the body; default 0, all at once.
    #[serde(default)]
    pub drip_ms: u64,
    /// What to do after the delay; default answer.
    #[serde(default)]
    pub then: Then,
}

/// What a rule does with a request.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// Answer it.
    #[default]
    Answer,
    /// Never answer.
    Hang,
    /// Close the connection without an answer.
    Drop,
}

/// What one request gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// How many items the request held.
    pub items: u64,
    /// What to do.
    pub then: Then,
    /// The answer's status.
    pub status: u16,
    /// The answer's headers.
    pub headers: Vec<(String, String)>,
    /// The answer's body.
    pub body: Bytes,
    /// Before the answer begins.
    pub delay: Duration,
    /// Between two bytes of the body.
    pub drip: Duration,
}

/// Why rules were not understood.
#[derive(Debug, thiserror::Error)]
#[error("not a list of sandbox answers: {0}")]
pub struct RuleError(String);

impl RuleError {
    pub(super) fn too_many() -> RuleError {
        RuleError(format!("more than {MOST_SCRIPTED} scripted answers"))
    }
}

/// Reads a vendor's `sandbox.json` or a posted script: a list of rules, or a single one.
pub fn parse(text: &str) -> Result<Vec<Rule>, RuleError> {
    let list = text.trim_start().starts_with('[');
    let rules: Vec<Rule> =
        if list { serde_json::from_str(text) } else { serde_json::from_str(text).map(|rule| vec![rule]) }
            .map_err(|error| RuleError(error.to_string()))?;
    match rules.iter().find(|rule| !(100..=599).contains(&rule.status)) {
        Some(rule) => Err(RuleError(format!("{} is no status", rule.status))),
        None => Ok(rules),
    }
}

/// All rules: scripted ones in their order, then the vendors'.
#[derive(Debug, Default)]
pub struct Rules {
    scripted: VecDeque<Rule>,
    vendors: Vec<Rule>,
    replies: u64,
}

impl Rules {
    /// The vendors' rules, nothing scripted.
    pub fn new(vendors: Vec<Rule>) -> Rules {
        Rules { vendors, ..Rules::default() }
    }

    /// Adds scripted rules behind those that are there; `false` when that would be too many.
    pub fn script(&mut self, rules: Vec<Rule>) -> bool {
        if self.scripted.len() + rules.len() > MOST_SCRIPTED {
            return false;
        }
        self.scripted.extend(rules.into_iter().filter(|rule| rule.times != Some(0)));
        true
    }

    /// Forgets what was scripted.
    pub fn forget_scripts(&mut self) {
        self.scripted.clear();
    }

    /// What a request gets: by the first scripted rule that fits, else by the first of the vendors', else 200 and `{}`.
    /// Where its items are is the vendor's to say, also under a script that does not.
    pub fn reply(&mut self, method: &str, host: &str, path: &str, body: &[u8]) -> Reply {
        self.replies += 1;
        let fits = |rule: &Rule| {
            rule.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
                && matches(&rule.host, host)
                && matches(&rule.path, path)
        };
        let vendor = self.vendors.iter().find(|rule| fits(rule));
        let scripted = self.scripted.iter().position(fits);
        let rule = scripted.and_then(|position| self.scripted.get(position)).or(vendor);
        let place =
            [rule, vendor].into_iter().flatten().map(|rule| &*rule.items).find(|items| !items.is_empty());
        let items = count_items(body, place.unwrap_or_default());
        let reply = rule.map_or_else(|| Reply::plain(items), |rule| rule.reply(items, self.replies));
        self.use_up(scripted);
        reply
    }

    fn use_up(&mut self, position: Option<usize>) {
        let Some(position) = position else { return };
        let Some(times) = self.scripted.get_mut(position).and_then(|rule| rule.times.as_mut()) else {
            return;
        };
        *times = times.saturating_sub(1);
        if *times == 0 {
            self.scripted.remove(position);
        }
    }
}

impl Rule {
    fn reply(&self, items: u64, id: u64) -> Reply {
        let body = match filled(&self.body, items, id) {
            Value::String(text) => text,
            json => json.to_string(),
        };
        let mut headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
            && !self.body.is_string()
        {
            headers.push(JSON_TYPE.map(str::to_owned).into());
        }
        Reply {
            items,
            then: self.then,
            status: self.status,
            headers,
            body: body.into(),
            delay: Duration::from_millis(self.delay_ms),
            drip: Duration::from_millis(self.drip_ms),
        }
    }
}

const JSON_TYPE: [&str; 2] = ["content-type", "application/json"];

impl Reply {
    fn plain(items: u64) -> Reply {
        Reply {
            items,
            then: Then::Answer,
            status: 200,
            headers: vec![JSON_TYPE.map(str::to_owned).into()],
            body: Bytes::from_static(b"{}"),
            delay: Duration::ZERO,
            drip: Duration::ZERO,
        }
    }
}

fn anything() -> String {
    "*".to_owned()
}

fn ok() -> u16 {
    200
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

fn filled(body: &Value, items: u64, id: u64) -> Value {
    match body {
        Value::String(text) if text == "{items}" => items.into(),
        Value::String(text) if text == "{id}" => id.into(),
        Value::String(text) => {
            text.replace("{items}", &items.to_string()).replace("{id}", &id.to_string()).into()
        }
        Value::Array(members) => members.iter().map(|member| filled(member, items, id)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), filled(member, items, id))).collect()
        }
        other => other.clone(),
    }
}

/// Whether a text is what a pattern with `*` describes.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(at) = left.find(part) else { return false };
        left = left.get(at + part.len()..).unwrap_or_default();
    }
    left.ends_with(end)
}

fn count_items(body: &[u8], place: &str) -> u64 {
    if body.is_empty() {
        return 0;
    }
    if place.is_empty() {
        if body.trim_ascii_start().first() == Some(&b'[') {
            // Members without content take no memory, so this is a count without a tree.
            return serde_json::from_slice::<Vec<IgnoredAny>>(body).map_or(1, |members| members.len() as u64);
        }
        return 1;
    }
    let parsed = std::str::from_utf8(body).ok().and_then(|text| Doc::parse(text.into()).ok());
    let Some(doc) = parsed else { return 1 };
    let found = place.split('.').try_fold(doc.root(), |value: Json<'_>, name| value.get(name));
    match found {
        Some(value) if value.kind() == Kind::List => value.elements().count() as u64,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(vendors: &str, scripted: &str) -> Rules {
        let mut rules = Rules::new(parse(vendors).unwrap());
        assert!(rules.script(parse(scripted).unwrap()));
        rules
    }

    #[test]
    fn patterns() {
        let cases = [
            ("*", "anything", true),
            ("*", "", true),
            ("/engage", "/engage", true),
            ("/engage", "/engage/", false),
            ("api*.example.com", "api-eu.example.com", true),
            ("api*.example.com", "api.example.com", true),
            ("api*.example.com", "api.example.org", false),
            ("/users/*/tags", "/users/1/tags", true),
            ("/users/*/tags", "/users/tags", false),
            ("/*/b/*/d", "/a/b/c/d", true),
            ("/*/b/*/d", "/a/c/c/d", false),
            ("ab*ba", "aba", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn items_are_counted_where_the_rule_says() {
        let cases = [
            ("", "", 0),
            ("", "[{},{},[1,2]]", 3),
            ("", "{\"a\":[1,2]}", 1),
            ("", "a=1&b=2", 1),
            ("", "[broken", 1),
            ("a", "{\"a\":[1,2]}", 2),
            ("a.b", "{\"a\":{\"b\":[1,2,3]}}", 3),
            ("a.c", "{\"a\":{\"b\":[1,2,3]}}", 1),
        ];
        for (place, body, expected) in cases {
            assert_eq!(count_items(body.as_bytes(), place), expected, "{place} {body}");
        }
    }

    #[test]
    fn without_a_rule_it_is_200_and_an_empty_object() {
        let reply = Rules::default().reply("POST", "api.example.com", "/", b"[1,2]");
        assert_eq!((reply.status, &reply.body[..], reply.items), (200, &b"{}"[..], 2));
    }

    #[test]
    fn a_vendor_answers_with_the_number_of_items_and_new_ids() {
        let vendor = r#"[{"host":"api.example.com","path":"/people","method":"post","items":"people","status":202,
            "headers":{"x-left":"9"},"body":{"taken":"{items}","text":"{items} of {items}","id":"{id}","same":[true]}}]"#;
        let mut rules = rules(vendor, "[]");
        let mut reply = || rules.reply("POST", "api.example.com", "/people", br#"{"people":[{},{}]}"#);
        assert_eq!(&reply().body[..], br#"{"taken":2,"text":"2 of 2","id":1,"same":[true]}"#);
        let second = reply();
        assert_eq!(&second.body[..], br#"{"taken":2,"text":"2 of 2","id":2,"same":[true]}"#);
        assert_eq!((second.status, second.items), (202, 2));
        assert_eq!(second.headers[0], ("x-left".to_owned(), "9".to_owned()));
    }

    #[test]
    fn a_script_goes_first_and_is_used_up() {
        let mut rules = rules(
            r#"{"path":"/people","items":"people","body":"taken"}"#,
            r#"[{"path":"/people","times":1,"status":429},{"path":"/people","times":2,"then":"hang"},{"host":"b","times":0}]"#,
        );
        let seen: Vec<_> = (0..4)
            .map(|_| rules.reply("POST", "a", "/people", br#"{"people":[1,2,3]}"#))
            .map(|reply| (reply.status, reply.then, reply.items))
            .collect();
        let hangs = (200, Then::Hang, 3);
        assert_eq!(seen, [(429, Then::Answer, 3), hangs, hangs, (200, Then::Answer, 3)]);
        rules.script(parse(r#"{"status":500}"#).unwrap());
        rules.forget_scripts();
        assert_eq!(rules.reply("POST", "a", "/people", b"").body, "taken");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [("[{\"pth\":1}]", "pth"), ("nonsense", "line 1"), ("{\"status\":999}", "999")] {
            assert!(parse(text).unwrap_err().to_string().contains(part), "{text}");
        }
    }
}
