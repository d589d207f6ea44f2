//! The manual of the manifest, `docs/manifest.md`, is held against the engine: every function and every key that the
//! engine knows stands in it, its examples load, and its functions do what it says. Needs the feature `testkit`.
#![cfg(feature = "testkit")]

use fanout_sdk::json::Doc;
use fanout_sdk::manifest::Manifest;
use fanout_sdk::manifest::functions::FUNCTIONS;
use fanout_sdk::names::Names;
use fanout_sdk::problem::Problem;
use fanout_sdk::testkit::{manifest_factory, run_case};

const MANUAL: &str = include_str!("../../docs/manifest.md");

/// What the examples of the functions read; see the manual.
const TRAITS: &str = r#"{"email":"Ada@Example.com","createdAt":"2024-03-05T09:30:00Z","birthday":"1990-12-10",
    "tags":["a","b"],"sizes":[[1],[2,3]],"score":"12.50","flag":"true","prefs":{"sms":false}}"#;

fn manifest(start: &str, request: &str) -> String {
    format!(
        "adapter = {{ name = \"A\", docs = \"https://a.test\", checked = \"2026-07\" }}\n{start}\n\
         [identity]\nkey = [\"{{user_id}}\"]\n[[request]]\nurl = \"https://a.test/\"\n{request}\n"
    )
}

/// The blocks that are marked with a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("\n```{language}\n");
    MANUAL.split(&start).skip(1).map(|rest| rest.split("\n```").next().unwrap_or(rest)).collect()
}

fn problems(text: &str) -> Vec<Problem> {
    Manifest::load("m.toml", text, &mut Names::default()).err().unwrap_or_default()
}

/// The words that a manifest with a wrong one is offered instead.
fn offered(text: &str, unknown: &str) -> Vec<String> {
    let problems = problems(text);
    let problem = problems.iter().find(|problem| problem.message.contains(unknown));
    let problem = problem.unwrap_or_else(|| panic!("{unknown}: {problems:?}"));
    let list = problem.remedy.strip_prefix("allowed: ").unwrap_or_else(|| panic!("{problem:?}"));
    list.split(", ").map(str::to_owned).collect()
}

/// One example of the list of functions: its name, expression and result.
fn examples() -> Vec<(&'static str, &'static str, &'static str)> {
    let list = blocks("text").into_iter().find(|block| block.starts_with("is("));
    let list = list.unwrap_or_else(|| panic!("there is no list of functions"));
    let example = |line: &'static str| {
        let (head, rest) = line.split_at(line.find('{')?);
        let end = rest.find("}  ")? + 1;
        let (expression, rest) = rest.split_at(end);
        let result = rest.trim_start().split("  ").next()?;
        Some((head.split(['(', ' ']).next()?, expression, result))
    };
    list.lines().map(|line| example(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

#[test]
fn its_manifests_load() {
    let blocks = blocks("toml");
    assert!(blocks.len() > 3);
    for text in blocks {
        let problems: Vec<String> = problems(text).iter().map(ToString::to_string).collect();
        assert!(problems.is_empty(), "{text}\n{}", problems.join("\n"));
    }
}

#[test]
fn it_lists_every_function_and_no_other() {
    let listed: Vec<&str> = examples().into_iter().map(|(name, ..)| name).collect();
    let known: Vec<&str> = FUNCTIONS.iter().map(|function| function.name).collect();
    assert_eq!(listed, known);
}

#[test]
fn its_functions_give_what_it_says() {
    let mut wrong = Vec::new();
    for (name, expression, result) in examples() {
        let start = "tables = { genders = { f = \"female\" }, plans = [\"pro\", \"team\"] }";
        let uses = "one = \"{user_id | in(tables.plans)}\"\ntwo = \"{user_id | map(tables.genders)}\"\n";
        let body = format!("[request.body]\nall = 1\nx = \"{expression}\"\n{uses}always = \"{{user_id}}\"");
        let factory = manifest_factory("m.toml", &manifest(start, &body))
            .unwrap_or_else(|problems| panic!("{name}: {}", problems.join("\n")));
        let case = format!(
            r#"{{"about":"x","settings":{{}},"now":"2026-08-01T12:00:05Z","events":[{{"type":"identify",
                "messageId":"m","userId":"u_1","traits":{TRAITS}}}],"exchanges":[{{"response":{{"status":200}}}}]}}"#
        );
        let written = run_case(&*factory, &case).updated.unwrap_or_else(|| panic!("{name}"));
        let doc = Doc::parse(written.as_str().into()).unwrap();
        let request = doc.root().get("exchanges").unwrap().elements().next().unwrap().get("request").unwrap();
        let found = request.get("body").unwrap().get("x");
        let found = found.map_or_else(|| "absent".to_owned(), |json| json.raw().replace(", ", ","));
        let found = found.replace("[ ", "[").replace(" ]", "]");
        if found != result {
            wrong.push(format!("{name}: {expression} gives {found}, not {result}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn it_names_every_section_key_and_word() {
    let setting =
        |keys: &str| manifest(&format!("[settings]\ns = {{ type = \"text\", doc = \"d\", {keys} }}"), "");
    let rule = |keys: &str| manifest("", &format!("outcomes = [{{ {keys} }}]"));
    let unknown = "qqqqqqqq";
    let mut missing = Vec::new();
    for (what, text) in [
        ("section", manifest("[qqqqqqqq]", "")),
        ("adapter", manifest("", "").replace("name = \"A\"", "name = \"A\", qqqqqqqq = 1")),
        ("setting", setting("qqqqqqqq = 1")),
        ("type", manifest("[settings]\ns = { type = \"qqqqqqqq\", doc = \"d\" }", "")),
        ("identity", manifest("", "").replace("[identity]", "[identity]\nqqqqqqqq = 1")),
        ("rest", manifest("[rest]\nqqqqqqqq = 1", "")),
        ("field", manifest("[rest]\nfields = [{ name = \"f\", qqqqqqqq = 1 }]", "")),
        ("kind", manifest("[rest]\nfields = [{ name = \"f\", kinds = [\"qqqqqqqq\"] }]", "")),
        ("fetch", manifest("[fetch.f]\nqqqqqqqq = 1", "")),
        ("defaults", manifest("[defaults]\nqqqqqqqq = 1", "")),
        ("request", manifest("", "qqqqqqqq = 1")),
        ("batch", manifest("", "batch = { qqqqqqqq = 1 }")),
        ("limits", manifest("", "limits = { qqqqqqqq = 1 }")),
        ("rule", rule("then = \"retry\", qqqqqqqq = 1")),
        ("then", rule("then = \"qqqqqqqq\"")),
        ("calls", manifest("", "").replace("name = \"A\"", "name = \"A\", calls = \"qqqqqqqq\"")),
        ("root", manifest("", "body = { x = \"{qqqqqqqq}\" }")),
        ("attempt", manifest("", "headers = { x = \"{attempt.qqqqqqqq}\" }")),
    ] {
        for word in offered(&text, unknown) {
            let forms = ["`WORD`", "`WORD.", "`[WORD", "`[[WORD", "`\"WORD\"", ".WORD`", "`WORD "];
            if !forms.iter().any(|form| MANUAL.contains(&form.replace("WORD", &word))) {
                missing.push(format!("{what}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/manifest.md does not say anything of: {missing:?}");
}
