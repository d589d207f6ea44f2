//! Manifests from their text to requests: mistakes and where they are reported, absence, the rest, skips, masking.
//! The order of requests and what answers mean is tested in `run/tests.rs`.

use std::sync::Arc;

use super::*;
use crate::destination::{Clock, Destination, Item, Request};
use crate::event::Event;
use crate::names::Names;
use crate::preview::preview;

/// A small manifest in which everything is right.
const BASE: &str = r#"adapter = { name = "Acme", aliases = ["ac"], docs = "https://acme.test", checked = "2026-07" }

[settings]
key = { type = "secret", doc = "API key" }
region = { type = "choice", default = "us", choices = { us = { api = "us.acme.test" }, eu = { api = "eu.acme.test" } }, doc = "Region" }

[options]
list = { type = "text", doc = "List" }

[identity]
key = ["{user_id}"]

[tables]
plans = { gold = 1 }

[rest]
fields = [{ name = "custom" }]

[values]
name = "{traits.name}"

[[request]]
url = "https://{settings.region.api}/people"
headers = { Authorization = "Bearer {settings.key}" }
batch = { items = 10, bytes = "1 MB" }
body = { people = "{items}" }
outcomes = [{ status = 400, then = "split", reason = "{body.error}" }]

[request.item]
id = "{identity}"
name = "{values.name}"
plan = "{custom.plan | map(tables.plans)}"
list = "{options.list}"
"..." = "{fields.custom}"
"#;

pub(super) struct At(pub i64);

impl Clock for At {
    fn now_ms(&self) -> i64 {
        self.0
    }

    fn nonce(&self) -> String {
        "0123456789abcdef0123456789abcdef".into()
    }
}

pub(super) fn plan(manifest: &str, settings: &str) -> (Plan, Names) {
    let mut names = Names::default();
    let manifest = Manifest::load("acme.toml", manifest, &mut names).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    let plan = Arc::new(manifest).bind("acme", &settings.parse().unwrap());
    let plan = plan.unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    (plan, names)
}

pub(super) fn event(call: &str, names: &Names) -> Arc<Event> {
    Arc::new(Event::parse(call.into(), 1_785_585_605_000, names).unwrap())
}

pub(super) fn identify(user: &str, traits: &str, names: &Names) -> Arc<Event> {
    let call = format!(
        r#"{{"type":"identify","messageId":"m-{user}","userId":"{user}","timestamp":"2026-08-01T12:00:00Z","traits":{traits}}}"#
    );
    event(&call, names)
}

/// The bodies that one event makes, or why it is skipped.
fn bodies(manifest: &str, settings: &str, call: &str) -> Vec<String> {
    let (plan, names) = plan(manifest, settings);
    match plan.render(&event(call, &names), None) {
        Ok(item) => texts(&preview(&plan, &[item], Vec::new(), &At(0), true)),
        Err(skip) => vec![format!("{}: {}", skip.reason, skip.detail)],
    }
}

fn texts(requests: &[Request]) -> Vec<String> {
    requests.iter().map(|request| String::from_utf8(request.body.to_vec()).unwrap()).collect()
}

#[test]
fn mistakes_are_reported_with_their_place_and_remedy() {
    // What is replaced, by what, and the problems that follow.
    let rows: &[(&str, &str, &[&str])] = &[
        (
            "[options]",
            "[optoins]\nx = 1\n[options]",
            &["7:2: unknown section optoins; did you mean options?"],
        ),
        ("aliases =", "alias =", &["1:28: unknown key in adapter: alias; did you mean aliases?"]),
        (", checked = \"2026-07\"", "", &["1:11: adapter.checked is missing"]),
        (
            "doc = \"Region\" }",
            "dok = \"Region\" }",
            &[
                "5:10: setting region has no doc; say in a few words what it is",
                "5:121: unknown key in setting region: dok; did you mean doc?",
            ],
        ),
        (
            "default = \"us\"",
            "default = \"uk\"",
            &["5:39: unknown choice of setting region: uk; did you mean us?"],
        ),
        ("{traits.name}", "{traits.nmae}", &["20:10: unknown reserved trait nmae; did you mean name?"]),
        ("{traits.name}", "{trait.name}", &["20:10: unknown root trait; did you mean traits?"]),
        ("{traits.name}", "{traits.name | uper}", &["20:24: unknown function uper; did you mean upper?"]),
        ("{traits.name}", "{traits.name | cut}", &["20:24: cut takes 1 arguments, not 0"]),
        ("{traits.name}", "{traits.name | cut('x')}", &["20:24: cut: no count: a whole number above 0"]),
        ("{traits.name}", "{traits.name | unix}", &["20:24: unix takes a date, not a text"]),
        (
            "{traits.name}",
            "{traits.name | hmac_sha1('k')}",
            &["31:9: bytes cannot be written; pass them through hex or base64"],
        ),
        (
            "{traits.name}",
            "{traits.name",
            &["20:21: in \"{traits.name\": the expression does not end; } is missing"],
        ),
        ("{traits.name}", "{values.name}", &["20:10: values.name needs itself: name -> name"]),
        ("{traits.name}", "{attempt.body}", &["20:10: attempt cannot be read in an item"]),
        (
            "map(tables.plans)",
            "map(tables.plan)",
            &[
                "14:1: table plans is declared but never read; read it as {tables.plans}, or remove it",
                "32:28: unknown table plan; did you mean plans?",
            ],
        ),
        (
            "map(tables.plans)",
            "map(traits.age)",
            &[
                "14:1: table plans is declared but never read; read it as {tables.plans}, or remove it",
                "32:24: map looks into a table; name one: tables.NAME, or a setting of type list or map",
            ],
        ),
        (
            "{options.list}",
            "{options.lits}",
            &[
                "8:1: option list is declared but never read; read it as {options.list}, or remove it",
                "33:10: unknown option lits; did you mean list?",
            ],
        ),
        (
            "{fields.custom}",
            "{fields.costum}",
            &[
                "17:11: field custom is declared but never read; read it as {fields.custom}, or remove it",
                "34:11: unknown field costum; did you mean custom?",
            ],
        ),
        (
            "{settings.region.api}",
            "{settings.region.app}",
            &[
                "23:17: choice us of setting region has no attribute app; it has: api",
                "23:17: the host depends on a call or on a setting of any form; build scheme and host from literals, and settings of type url, host or choice or with a pattern",
            ],
        ),
        (
            "https://{settings.region.api}",
            "https://{settings.region.api}{user_id}",
            &[
                "23:38: the host depends on a call or on a setting of any form; build scheme and host from literals, and settings of type url, host or choice or with a pattern",
            ],
        ),
        ("{body.error}", "{settings.key}", &["27:55: a reason must not hold a secret"]),
        ("{body.error}", "{user_id}", &["27:56: user_id cannot be read in an outcome rule"]),
        ("then = \"split\"", "then = \"splits\"", &["27:36: unknown outcome splits; did you mean split?"]),
        ("then = \"split\"", "then = \"send:other\"", &["27:13: unknown request other; allowed: main"]),
        (
            "status = 400, then",
            "each = \"{body.x}\", item = \"{identity}\", then",
            &["27:13: item without id; say which part of the entry names the item"],
        ),
        (
            "outcomes = [{ status = 400, then = \"split\"",
            "outcomes = [{ then = \"rejected\" }, { then = \"split\"",
            &["27:36: this rule is never reached: the one before decides everything"],
        ),
        (
            "\"1 MB\"",
            "\"1 mb\"",
            &["25:31: batch.bytes is no size: 1 mb; write it like \"499 kB\"; units: B, kB, MB, KiB, MiB"],
        ),
        (
            "bytes = \"1 MB\"",
            "bytes = \"1 kB\", item_bytes = \"1 MB\"",
            &["25:9: batch.item_bytes is larger than batch.bytes"],
        ),
        (
            "\"{items}\"",
            "\"{raw}\"",
            &[
                "29:1: request main: the body does not hold {items}; write body = \"{items}\", or put it where the vendor wants the list",
            ],
        ),
        (
            "{ name = \"custom\" }",
            "{ name = \"custom\" }, { name = \"custom\", kinds = [\"null\"] }",
            &["17:32: field custom gets nothing: custom before it takes every trait"],
        ),
        (
            "batch =",
            "limits = { rates = [\"10 calls per 1 s\"] }\nbatch =",
            &["25:21: no rate: 10 calls per 1 s; write it like \"100 requests per 10 s\"; also items, bytes"],
        ),
        (
            "batch =",
            "compress = \"gzip\"\nbatch =",
            &["25:12: compress is not available yet; leave it out; bodies are sent as they are"],
        ),
        (
            "{ status = 400,",
            "{ status = 99,",
            &["27:24: no status; write a number such as 404, a list of them, or \"4xx\""],
        ),
        ("[identity]\nkey = [\"{user_id}\"]", "[identity]", &["10:1: identity.key is missing"]),
        (
            "[rest]",
            "[rest]\nnested = \"flaten\"\narrays = \"drop\"\nnull = { wite = 1 }",
            &[
                "17:11: unknown policy nested: flaten; did you mean flatten?",
                "19:8: policy null: a table has the key write alone; { write = \"\" }",
            ],
        ),
        (
            "{ name = \"custom\" }",
            "{ name = \"custom\", names = \"{custom.names}\" }",
            &["17:40: custom cannot be read in names or drop of a field"],
        ),
        (
            "batch =",
            "method = \"put\"\nencoding = \"xml\"\nbatch =",
            &[
                "25:11: unknown method put; did you mean PUT?",
                "26:13: unknown encoding xml; allowed: form, json, lines",
            ],
        ),
        (
            "type = \"secret\", doc",
            "type = \"secret\", pattern = \"(\", doc",
            &["4:1: key: pattern is no regular expression: found open group without closing ')'"],
        ),
    ];
    for (old, new, expected) in rows {
        assert!(BASE.contains(old), "{old}");
        let problems = Manifest::load("acme.toml", &BASE.replacen(old, new, 1), &mut Names::default());
        let problems = problems.expect_err(new).iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected: Vec<String> = expected.iter().map(|problem| format!("acme.toml:{problem}")).collect();
        assert_eq!(problems, expected, "{new}");
    }
}

#[test]
fn settings_are_checked_when_a_destination_is_configured() {
    let manifest = Arc::new(Manifest::load("acme.toml", BASE, &mut Names::default()).unwrap());
    for (settings, expected) in [
        ("", "destination acme: setting key is missing; API key"),
        ("key = 1", "destination acme: setting key must be a text; API key"),
        ("key = ' '", "destination acme: setting key is empty; API key"),
        ("key = 'k'\nregoin = 'eu'", "destination acme: unknown setting regoin; did you mean region?"),
        ("key = 'k'\nregion = 'uk'", "destination acme: setting region is uk; allowed: us, eu; Region"),
    ] {
        let problems = manifest.bind("acme", &settings.parse().unwrap()).err().unwrap();
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [expected], "{settings}");
    }
}

#[test]
fn a_default_that_does_not_fit_says_what_the_setting_is() {
    let key = "key = { type = \"secret\"";
    assert!(BASE.contains(key), "{BASE}");
    let centre = "centre = { type = \"text\", pattern = \"^[a-z]+$\", default = \"{settings.key | after('-') or '0'}\", \
                  doc = \"Centre, such as us\" }";
    let reading = BASE.replacen(key, &format!("{centre}\n{key}"), 1);
    let reading =
        reading.replacen("[[request]]\n", "[[request]]\nquery = { at = \"{settings.centre}\" }\n", 1);
    let manifest = Arc::new(Manifest::load("acme.toml", &reading, &mut Names::default()).unwrap());
    let problems = |settings: &str| manifest.bind("acme", &settings.parse().unwrap()).err();
    assert!(problems("key = 'k-us'").is_none());
    let told: Vec<String> = problems("key = 'k'").unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["destination acme: setting centre does not match ^[a-z]+$; Centre, such as us"]);
}

#[test]
fn a_setting_can_make_another_one_necessary() {
    let region = "region = { type = \"choice\"";
    assert!(BASE.contains(region), "{BASE}");
    let token =
        "token = { type = \"secret\", needed_when = \"{settings.region | is('eu')}\", doc = \"Token\" }";
    let reading = BASE.replacen(region, &format!("{token}\n{region}"), 1);
    let reading =
        reading.replacen("[[request]]\n", "[[request]]\nquery = { token = \"{settings.token}\" }\n", 1);
    let manifest = Arc::new(Manifest::load("acme.toml", &reading, &mut Names::default()).unwrap());
    let problems = |settings: &str| -> Vec<String> {
        let bound = manifest.bind("acme", &settings.parse().unwrap());
        bound.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    };
    let missing = "destination acme: setting token is missing, needed with region = eu; Token";
    assert!(problems("key = 'k'\nregion = 'us'").is_empty());
    assert!(problems("key = 'k'\nregion = 'eu'\ntoken = 't'").is_empty());
    assert_eq!(problems("key = 'k'\nregion = 'eu'"), [missing]);
    assert_eq!(problems("region = 'eu'"), ["destination acme: setting key is missing; API key", missing]);
    assert_eq!(
        problems("key = 'k'\nregion = 'uk'"),
        ["destination acme: setting region is uk; allowed: us, eu; Region"]
    );
    let required = |manifest: &Manifest| {
        let settings = manifest.settings();
        settings.iter().find(|setting| setting.name == "token").is_some_and(|setting| setting.required)
    };
    assert!(!required(&manifest));
    let by_default = reading.replacen("default = \"us\"", "default = \"eu\"", 1);
    assert!(required(&Manifest::load("acme.toml", &by_default, &mut Names::default()).unwrap()));
    let text = reading.replacen("needed_when", "default = 'x', needed_when", 1);
    let wrong = Manifest::load("acme.toml", &text, &mut Names::default()).unwrap_err();
    assert!(
        wrong.iter().any(|problem| problem.message == "setting token: with a default it is never missing"),
        "{wrong:?}"
    );
}

#[test]
fn a_manifest_tells_about_itself() {
    let manifest = Manifest::load("acme.toml", BASE, &mut Names::default()).unwrap();
    assert_eq!(
        (manifest.name(), manifest.aliases(), manifest.opt_in()),
        ("Acme", &["ac".to_owned()][..], false)
    );
    let region = &manifest.settings()[1];
    assert_eq!((region.kind, region.default.as_deref(), region.required), ("choice", Some("\"us\""), false));
    assert_eq!(region.choices, ["us", "eu"]);
    assert!(manifest.settings()[0].secret && manifest.settings()[0].required);
}

#[test]
fn absence_leaves_out_members_texts_and_tables() {
    let with = |item: &str| {
        BASE.replacen("name = \"{values.name}\"", &format!("name = \"{{values.name}}\"\n{item}"), 1)
    };
    for (item, traits, expected) in [
        ("x = \"{traits.email}\"", "{}", r#"{"id":"u"}"#),
        ("x = \"mail: {traits.email}\"", "{}", r#"{"id":"u"}"#),
        ("x = { a = 1, b = \"{traits.email}\" }", "{}", r#"{"id":"u"}"#),
        ("x = { a = 1 }", "{}", r#"{"id":"u","x":{"a":1}}"#),
        (
            "x = { a = 1, b = \"{traits.title}\" }",
            r#"{"title":"CTO"}"#,
            r#"{"id":"u","x":{"a":1,"b":"CTO"}}"#,
        ),
        (
            "x = { a = \"{user_id}\", b = { c = \"{traits.email | required}\", d = \"{user_id}\" } }",
            "{}",
            r#"{"id":"u","x":{"a":"u"}}"#,
        ),
        ("x = [\"{traits.email}\", \"{user_id}\"]", "{}", r#"{"id":"u","x":["u"]}"#),
        ("x = [\"{traits.email}\"]", "{}", r#"{"id":"u"}"#),
        ("x = \"{traits.email or traits.title or 'none'}\"", "{}", r#"{"id":"u","x":"none"}"#),
        ("x = \"{'' }{user_id}\"", "{}", r#"{"id":"u","x":"u"}"#),
        ("x = \"{custom.n}\"", r#"{"n":1.50}"#, r#"{"id":"u","x":1.50}"#),
        ("x = \"n{custom.n}\"", r#"{"n":1.50}"#, r#"{"id":"u","x":"n1.50"}"#),
        ("x = \"{custom.o.a}\"", r#"{"o":{"a":[1, 2]}}"#, r#"{"id":"u","x":[1,2],"o":{"a":[1,2]}}"#),
        (
            "x = \"{traits.created_at | unix}\"",
            r#"{"created_at":"2024-03-05T09:30:00Z"}"#,
            r#"{"id":"u","x":1709631000}"#,
        ),
        (
            "x = \"{traits.created_at}\"",
            r#"{"created_at":"2024-03-05T09:30:00Z"}"#,
            r#"{"id":"u","x":"2024-03-05T09:30:00Z"}"#,
        ),
        ("x = \"{{y}}\"", "{}", r#"{"id":"u","x":"{y}"}"#),
    ] {
        let call = format!(r#"{{"type":"identify","userId":"u","traits":{traits}}}"#);
        assert_eq!(
            bodies(&with(item), "key = 'k'", &call),
            [format!("{{\"people\":[{expected}]}}")],
            "{item}"
        );
    }
}

#[test]
fn the_rest_is_handed_out_by_policy() {
    let with = |rest: &str| BASE.replacen("fields = [{ name = \"custom\" }]", rest, 1);
    let traits = r#"{"a":1,"n":null,"o":{"x":1,"y":{"z":2}},"l":[1,"b"],"s":" t ","d":"2024-03-05T09:30:00Z","company":{"name":"E","extra":1}}"#;
    let call = format!(r#"{{"type":"identify","userId":"u","traits":{traits}}}"#);
    let company = r#""company":{"name":"E","extra":1}"#;
    let o = r#""o":{"x":1,"y":{"z":2}}"#;
    let d = r#""d":"2024-03-05T09:30:00Z""#;
    for (rest, expected) in [
        ("fields = [{ name = \"custom\" }]", format!(r#"{company},"a":1,{o},"l":[1,"b"],"s":" t ",{d}"#)),
        ("null = \"keep\"\nnested = \"drop\"\narrays = \"drop\"\nfields = [{ name = \"custom\" }]", format!(r#""a":1,"n":null,"s":" t ",{d}"#)),
        (
            "null = { write = \"\" }\nnested = \"flatten\"\narrays = \"join\"\nfields = [{ name = \"custom\" }]",
            format!(r#""company_name":"E","company_extra":1,"a":1,"n":"","o_x":1,"o_y_z":2,"l":"1,b","s":" t ",{d}"#),
        ),
        (
            "nested = \"json\"\narrays = \"index\"\nguess_dates = true\ndates = \"{value | unix}\"\nfields = [{ name = \"custom\" }]",
            r#""company":"{\"name\":\"E\",\"extra\":1}","a":1,"o":"{\"x\":1,\"y\":{\"z\":2}}","l.0":1,"l.1":"b","s":" t ","d":1709631000"#.to_owned(),
        ),
        ("drop = [\"company\", \"o\", \"l\", \"d\"]\nfields = [{ name = \"custom\", key = \"c_{key}\", value = \"{value | text}\" }]", r#""c_a":"1","c_s":" t ""#.to_owned()),
        ("fields = [{ name = \"custom\", only = [\"a\", \"s\"] }]", r#""a":1,"s":" t ""#.to_owned()),
        ("fields = [{ name = \"custom\", only = [\"n\", \"*\", \"*pany\"] }]", company.to_owned()),
        ("fields = [{ name = \"custom\", names = { a = \"A\" } }]", r#""A":1"#.to_owned()),
        ("fields = [{ name = \"custom\", kinds = [\"number\", \"null\"] }]", r#""a":1,"n":null"#.to_owned()),
        ("fields = [{ name = \"custom\", drop = [\"a\"], max = 1 }]", company.to_owned()),
        ("fields = [{ name = \"custom\", of = \"{custom.l}\", key = \"k{key}\" }]", r#""k0":1,"k1":"b""#.to_owned()),
    ] {
        let expected = format!("{{\"people\":[{{\"id\":\"u\",{expected}}}]}}");
        assert_eq!(bodies(&with(rest), "key = 'k'", &call), [expected], "{rest}");
    }
}

#[test]
fn a_table_that_is_spread_keeps_nulls_and_yields_to_the_line_of_its_own() {
    let manifest = BASE.replacen("[rest]\n", "[rest]\nnull = \"keep\"\n", 1);
    let manifest = manifest.replacen(
        "[values]\n",
        "[values]\none = { x = \"{traits.email}\", y = \"{custom.n}\" }\neither = [\"{values.one | if(settings.key)}\", \"{values.one | unless(settings.key)}\"]\n",
        1,
    );
    let manifest = manifest.replacen(
        "list = \"{options.list}\"",
        "x = \"{traits.phone}\"\nlist = \"{options.list}\"",
        1,
    );
    let manifest = manifest.replacen(
        "\"...\" = \"{fields.custom}\"",
        "\"...\" = [\"{values.either}\", \"{fields.custom}\"]",
        1,
    );
    for (traits, expected) in [
        (r#"{"email":"a@b.co","n":1}"#, r#","x":"a@b.co","y":1"#),
        (r#"{"email":"a@b.co","n":null,"phone":"+1"}"#, r#","x":"+1","y":null"#),
        (r#"{"email":null,"n":1}"#, r#","x":null,"y":1"#),
    ] {
        let call = format!(r#"{{"type":"identify","userId":"u","traits":{traits}}}"#);
        let expected = format!("{{\"people\":[{{\"id\":\"u\"{expected}}}]}}");
        assert_eq!(bodies(&manifest, "key = 'k'", &call), [expected], "{traits}");
    }
}

#[test]
fn a_null_is_written_where_the_conditions_hold() {
    let with = |item: &str| {
        let manifest = BASE.replacen("[rest]\n", "[rest]\nnull = \"keep\"\n", 1);
        manifest.replacen("name = \"{values.name}\"", &format!("name = \"{{values.name}}\"\n{item}"), 1)
    };
    for (item, traits, expected) in [
        ("x = \"{traits.created_at | unix}\"", r#"{"created_at":null}"#, r#","x":null"#),
        ("x = \"{traits.created_at | unix | if(user_id)}\"", r#"{"created_at":null}"#, r#","x":null"#),
        ("x = \"{traits.created_at | if(user_id) | unix}\"", r#"{"created_at":null}"#, r#","x":null"#),
        ("x = \"{traits.created_at | unless(user_id) | unix}\"", r#"{"created_at":null}"#, ""),
        ("x = \"{traits.created_at | if(anonymous_id) | unix}\"", r#"{"created_at":null}"#, ""),
        ("x = \"{traits.created_at | if(false)}\"", r#"{"created_at":null}"#, ""),
        ("x = \"{traits.email | if(traits.email)}\"", r#"{"email":null}"#, ""),
        (
            "x = \"{traits.email | if(traits.email) | unless(anonymous_id)}\"",
            r#"{"email":"a@b.co"}"#,
            r#","x":"a@b.co""#,
        ),
        ("x = \"{custom.n | if(user_id) | unless(anonymous_id)}\"", r#"{"n":null}"#, r#","x":null"#),
    ] {
        let call = format!(r#"{{"type":"identify","userId":"u","traits":{traits}}}"#);
        let expected = format!("{{\"people\":[{{\"id\":\"u\"{expected}}}]}}");
        assert_eq!(bodies(&with(item), "key = 'k'", &call), [expected], "{item}");
    }
}

#[test]
fn skips_say_why() {
    assert_eq!(
        bodies(BASE, "key = 'k'", r#"{"type":"identify","anonymousId":"a"}"#),
        ["no_identity: the call has none of what [identity].key asks for"]
    );
    let required = BASE.replacen("{values.name}", "{values.name | required}", 1);
    assert_eq!(
        bodies(&required, "key = 'k'", r#"{"type":"identify","userId":"u"}"#),
        ["required_absent: a required value is absent, line 31 of the manifest"]
    );
}

#[test]
fn secrets_are_masked_and_urls_encoded() {
    let manifest = BASE
        .replacen(
            "/people\"",
            "/people/{identity}\"\nquery = { k = \"{settings.key}\", q = \"{traits.title}\" }",
            1,
        )
        .replacen("batch = { items = 10, bytes = \"1 MB\" }\n", "", 1);
    let (plan, names) = plan(&manifest, "key = 'top secret'");
    let item =
        plan.render(&identify("a/b ü", r#"{"title":"x&y","plan_note":"top secret"}"#, &names), None).unwrap();
    let shown = &preview(&plan, std::slice::from_ref(&item), Vec::new(), &At(0), true)[0];
    assert_eq!(shown.url, "https://us.acme.test/people/a%2Fb%20%C3%BC?k=top%20secret&q=x%26y");
    assert_eq!(shown.headers[1].1, "Bearer top secret");
    let hidden = &preview(&plan, &[item], Vec::new(), &At(0), false)[0];
    assert_eq!(hidden.url, "https://us.acme.test/people/a%2Fb%20%C3%BC?k=***&q=x%26y");
    assert_eq!(hidden.headers[1].1, "Bearer ***");
    assert_eq!(plan.mask("the key top secret leaked"), "the key *** leaked");
    assert_eq!(plan.mask("key=top%20secret&x=1"), "key=***&x=1");
    assert_eq!(plan.mask("Basic YWRhOnRvcCBzZWNyZXQ="), "Basic YWRhOn***Q=");
    let dots = plan.render(&identify("..", "{}", &names), None);
    assert_eq!(dots.unwrap_err().reason, "request_absent");
}

#[test]
fn what_stands_outside_the_items_parts_the_batch() {
    let manifest =
        BASE.replacen("{ people = \"{items}\" }", "{ people = \"{items}\", list = \"{traits.title}\" }", 1);
    let (plan, names) = plan(&manifest, "key = 'k'");
    let item = |user: &str, title: &str| {
        plan.render(&identify(user, &format!(r#"{{"title":"{title}"}}"#), &names), None).unwrap()
    };
    let items: Vec<Item> = [item("a", "x"), item("b", "y"), item("c", "x"), item("a", "x")].into();
    assert_eq!(plan.pack(&items), [0, 2]);
    assert_eq!(items[0].group, items[2].group);
    assert_ne!(items[0].group, items[1].group);
    assert_eq!(
        texts(&preview(&plan, &items[..3], Vec::new(), &At(0), true)),
        [r#"{"people":[{"id":"a"},{"id":"c"}],"list":"x"}"#, r#"{"people":[{"id":"b"}],"list":"y"}"#]
    );
}

#[test]
fn a_digest_is_the_same_for_a_call_that_changes_nothing() {
    let manifest = BASE.replacen(
        "id = \"{identity}\"",
        "id = \"{identity}\"\nat = \"{timestamp | unix}\"\nmessage = \"{message_id}\"",
        1,
    );
    let (plan, names) = plan(&manifest, "key = 'k'");
    let digest = |message: &str, time: &str, traits: &str| {
        let call = format!(
            r#"{{"type":"identify","messageId":"{message}","userId":"u","timestamp":"{time}","traits":{traits}}}"#
        );
        plan.render(&event(&call, &names), None).unwrap().digest
    };
    let first = digest("m-1", "2026-08-01T12:00:00Z", r#"{"a":1}"#);
    assert_eq!(first, digest("m-2", "2026-08-01T13:00:00Z", r#"{"a":1}"#));
    assert_ne!(first, digest("m-1", "2026-08-01T12:00:00Z", r#"{"a":2}"#));
}

#[test]
fn an_option_of_another_form_is_left_out_with_one_warning() {
    let manifest = BASE
        .replacen("list = { type = \"text\",", "list = { type = \"text\", pattern = \"^[a-z0-9]+$\",", 1)
        .replacen("list = \"{options.list}\"", "list = \"{options.list}\"\nagain = \"{options.list}\"", 1);
    let (plan, names) = plan(&manifest, "key = 'k'");
    for (list, expected, warned) in [
        (r#""abc1""#, r#","list":"abc1","again":"abc1""#, 0),
        ("12", r#","list":12,"again":12"#, 0),
        (r#""../abc""#, "", 1),
        (r#""abc\n""#, "", 1),
        ("-1", "", 1),
        ("[]", "", 1),
    ] {
        let call = format!(
            r#"{{"type":"identify","messageId":"m","userId":"u","integrations":{{"acme":{{"list":{list}}}}}}}"#
        );
        let event = event(&call, &names);
        let options = event.integrations().and_then(|all| all.get("acme"));
        let item = plan.render(&event, options).unwrap();
        let about: Vec<_> = item.warnings.iter().map(|warning| (warning.kind, &*warning.about)).collect();
        assert_eq!(about, vec![("option_invalid", "list"); warned], "{list}");
        assert_eq!(
            texts(&preview(&plan, &[item], Vec::new(), &At(0), true)),
            [format!(r#"{{"people":[{{"id":"u"{expected}}}]}}"#)]
        );
    }
}
