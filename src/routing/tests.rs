//! The truth table of the `integrations` flags, row by row, and how destinations and adapters are named in them.

use std::sync::Arc;

use fanout_sdk::json::Doc;
use fanout_sdk::names::Names;
use fanout_sdk::normalise::envelope::{Limits, batch};

use super::*;

fn event(text: &str) -> Event {
    Event::parse(text.into(), 0, &Names::default()).unwrap()
}

/// An identify call with more members behind its own.
fn call(members: &str) -> Event {
    let comma = if members.is_empty() { "" } else { "," };
    event(&format!(r#"{{"type":"identify","userId":"u"{comma}{members}}}"#))
}

fn x() -> Target {
    Target::new("d", "X", &["Old Name".to_owned()], false, None)
}

fn salesforce() -> Target {
    Target::new("sf", "Salesforce", &[], true, None)
}

/// `on`, `on {options}`, `off` or `off, reason`; with `, kind` for each warning.
fn told(decision: &Decision<'_>) -> String {
    let (mut text, warnings) = match decision {
        Decision::On { options: None, warnings } => ("on".to_owned(), warnings),
        Decision::On { options: Some(options), warnings } => (format!("on {}", options.raw()), warnings),
        Decision::Off { reason: "integrations", warnings, .. } => ("off".to_owned(), warnings),
        Decision::Off { reason, warnings, .. } => (format!("off, {reason}"), warnings),
    };
    for warning in warnings {
        text.push_str(", ");
        text.push_str(warning.kind);
    }
    text
}

#[test]
fn the_truth_table() {
    let rows: &[(&str, &str, &str)] = &[
        ("1", "", "on"),
        ("2", r#""integrations":{}"#, "on"),
        ("3", r#""integrations":null"#, "on"),
        ("4", r#""integrations":[]"#, "on"),
        ("5", r#""integrations":["X"]"#, "off, integrations_invalid"),
        ("6 text", r#""integrations":"X""#, "off, integrations_invalid"),
        ("6 true", r#""integrations":true"#, "off, integrations_invalid"),
        ("6 false", r#""integrations":false"#, "off, integrations_invalid"),
        ("7", r#""integrations":{"All":true}"#, "on"),
        ("8", r#""integrations":{"All":false}"#, "off"),
        ("9", r#""integrations":{"all":false}"#, "off"),
        ("10", r#""integrations":{"ALL":false}"#, "off"),
        ("11", r#""integrations":{"All":true,"X":false}"#, "off"),
        ("12", r#""integrations":{"X":false}"#, "off"),
        ("13", r#""integrations":{"All":false,"X":true}"#, "on"),
        ("14", r#""integrations":{"All":false,"X":{"a":1}}"#, r#"on {"a":1}"#),
        ("15", r#""integrations":{"All":false,"X":{}}"#, "on {}"),
        ("16", r#""integrations":{"X":{"a":1}}"#, r#"on {"a":1}"#),
        ("17", r#""integrations":{"X":null}"#, "on"),
        ("18", r#""integrations":{"All":false,"X":null}"#, "off"),
        ("19", r#""integrations":{"X":"false"}"#, "off, flag_coerced"),
        ("20", r#""integrations":{"X":""}"#, "on, flag_invalid"),
        ("21", r#""integrations":{"X":0}"#, "off, flag_coerced"),
        ("22", r#""integrations":{"All":false,"X":"true"}"#, "on, flag_coerced"),
        ("23", r#""integrations":{"All":false,"X":1}"#, "on, flag_coerced"),
        ("24", r#""integrations":{"All":false,"X":[]}"#, "on []"),
        ("25", r#""integrations":{"All":"false"}"#, "off, flag_coerced"),
        ("26", r#""integrations":{"All":null}"#, "on"),
        ("27", r#""integrations":{"All":0}"#, "off, flag_coerced"),
        ("28", r#""integrations":{"All":"false","X":true}"#, "on, flag_coerced"),
        ("29", r#""integrations":{"All":null,"X":true}"#, "on"),
        ("30", r#""integrations":{"All":false,"all":true}"#, "off"),
        ("31", r#""integrations":{"all":false,"All":true}"#, "on"),
        ("32", r#""integrations":{"All":false,"x":true}"#, "on, flag_folded"),
        ("33", r#""integrations":{"x":false}"#, "off, flag_folded"),
        ("34", r#""integrations":{"X":true,"x":false}"#, "on"),
        ("35", r#""integrations":{"All":false,"Unknown":true}"#, "off"),
        ("36", r#""integrations":{"All":false,"Old Name":true}"#, "on"),
        ("41, no storage sinks", r#""integrations":{"Warehouses":{"all":false}}"#, "on"),
        ("42", r#""context":{"All":false}"#, "on"),
        ("43", r#""context":{"integrations":{"X":false}}"#, "off"),
        ("44", r#""context":{"providers":{"X":false}}"#, "off"),
        ("47", r#""integrations":{"Segment.io":true}"#, "on"),
        ("48", r#""integrations":{"All":{"a":1}}"#, "on, flag_coerced"),
        ("options.integrations", r#""options":{"integrations":{"X":false}}"#, "off"),
        ("options.providers", r#""options":{"providers":{"X":false}}"#, "off"),
        ("All is no flag", r#""integrations":{"All":"maybe"}"#, "off, flag_invalid"),
    ];
    for (row, members, expected) in rows {
        assert_eq!(told(&by_flags(call(members).integrations(), &x())), *expected, "row {row}");
    }
    for (row, members, expected) in [
        ("37", r#""integrations":{"All":true}"#, "off, opt_in"),
        ("37 absent", "", "off, opt_in"),
        ("38", r#""integrations":{"Salesforce":true}"#, "on"),
        ("38 options", r#""integrations":{"Salesforce":{}}"#, "on {}"),
        ("39", r#""integrations":{"Salesforce":null}"#, "off, opt_in"),
    ] {
        assert_eq!(told(&by_flags(call(members).integrations(), &salesforce())), expected, "row {row}");
    }
    assert!(
        call(r#""context":{"All":false}"#).warnings().iter().any(|w| w.kind == "integrations_in_context"),
        "row 42"
    );
}

#[test]
fn flags_of_a_batch_stand_below_those_of_its_calls() {
    for (row, flags, own, expected) in
        [("45", r#"{"All":false}"#, r#"{"X":true}"#, "on"), ("46", r#"{"X":true}"#, r#"{"X":false}"#, "off")]
    {
        let body = format!(
            r#"{{"integrations":{flags},"batch":[{{"type":"identify","userId":"u","messageId":"m","integrations":{own}}}]}}"#
        );
        let limits = Limits { event_bytes: 32_768, events: 2500 };
        let mut records = batch(&Doc::parse(body.into()).unwrap(), limits, &mut String::new).unwrap();
        let record: Arc<str> = records.pop().unwrap().unwrap().text().clone();
        assert_eq!(told(&by_flags(event(&record).integrations(), &x())), expected, "row {row}");
    }
}

#[test]
fn names_rank_destination_adapter_alias_folded() {
    let target = Target::new("mp_eu", "Mixpanel", &["mp".to_owned(), "Mix".to_owned()], false, None);
    for (flags, expected) in [
        (r#"{"mp_eu":true,"Mixpanel":false}"#, "on"),
        (r#"{"mp_eu":false,"Mixpanel":true}"#, "off"),
        (r#"{"Mixpanel":true,"mp":false}"#, "on"),
        (r#"{"mp":true,"Mix":false}"#, "off"),
        (r#"{"Mix":false,"mp":true}"#, "off"),
        (r#"{"mp":true,"mixpanel":false}"#, "on"),
        (r#"{"mp":true,"mp":false}"#, "off"),
        (r#"{"mp":false,"mp":true}"#, "on"),
        (r#"{"Mixpanel":null,"mp":false}"#, "off"),
        (r#"{"All":false,"MIX PANEL":{"a":1}}"#, r#"on {"a":1}, flag_folded"#),
        (r#"{"All":false,"Mixpanel (Actions)":true}"#, "on, flag_folded"),
        (r#"{"All":false,"Actions Mixpanel":true}"#, "on, flag_folded"),
        (r#"{"All":false,"MP-EU":true}"#, "on, flag_folded"),
        (r#"{"All":false,"Mixpanel2":true}"#, "off"),
        (r#"{"All":false,"":true}"#, "off"),
    ] {
        let event = call(&format!(r#""integrations":{flags}"#));
        assert_eq!(told(&by_flags(event.integrations(), &target)), expected, "{flags}");
    }
}

#[test]
fn one_flag_of_the_adapter_moves_all_of_its_destinations() {
    let targets = ["a", "b"].map(|name| Target::new(name, "Mixpanel", &[], false, None));
    let event = call(r#""integrations":{"Mixpanel":false,"b":true}"#);
    let on: Vec<bool> = targets.iter().map(|target| decide(&event, "web", target).is_on()).collect();
    assert_eq!(on, [false, true]);
}

#[test]
fn options_reach_only_the_one_they_name() {
    let event = call(r#""integrations":{"Segment.io":true,"All":false,"Mixpanel":{"token":"t"}}"#);
    let mixpanel = Target::new("mixpanel", "Mixpanel", &[], false, None);
    assert_eq!(told(&decide(&event, "web", &mixpanel)), r#"on {"token":"t"}"#);
    assert_eq!(told(&decide(&event, "web", &x())), "off");
}

#[test]
fn sources_come_before_flags() {
    let target = Target::new("d", "X", &[], false, Some(vec!["web".to_owned()]));
    let event = call(r#""integrations":{"X":true}"#);
    assert_eq!(told(&decide(&event, "web", &target)), "on");
    let Decision::Off { reason, detail, .. } = decide(&event, "app", &target) else { panic!("sent") };
    assert_eq!(reason, "source");
    assert_eq!(detail, "destinations.d.sources does not list source \"app\"; add it there to send its calls");
}

#[test]
fn a_skip_names_the_flag_and_the_remedy() {
    for (flags, expected) in [
        (
            r#"{"x":false}"#,
            "the call says integrations.x = false; drop the flag or set it to true to send to d",
        ),
        (r#"{"All":false}"#, "the call says integrations.All = false; add \"X\": true to send to d"),
    ] {
        let event = call(&format!(r#""integrations":{flags}"#));
        let Decision::Off { detail, .. } = by_flags(event.integrations(), &x()) else {
            panic!("{flags} was sent")
        };
        assert_eq!(detail, expected);
    }
}

#[test]
fn finds_unknown_names() {
    let event = call(
        r#""integrations":{"All":false,"all":true,"Segment.io":true,"Warehouses":{},"x":1,"Old Name":1,"Mixpanell":true}"#,
    );
    assert_eq!(unknown_names(&event, &[x()]), ["Mixpanell"]);
    assert!(unknown_names(&call(r#""integrations":"X""#), &[x()]).is_empty());
}
