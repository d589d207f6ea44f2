//! Calls as SDKs send them, and as nobody should: what becomes of each, and properties that hold for all.

use proptest::prelude::*;

use super::*;
use crate::dates;
use crate::event::{Date, Field};
use crate::names::Root;
use crate::reserved::{Group, Reserved};

const RECEIVED: i64 = 1_714_644_931_000; // 2024-05-02T10:15:31Z

fn parse(text: &str) -> Result<Event, Refusal> {
    Event::parse(text.into(), RECEIVED, &Names::default())
}

fn call(members: &str) -> Event {
    parse(&format!(r#"{{"type":"identify",{members}}}"#)).unwrap()
}

fn with(traits: &str) -> Event {
    call(&format!(r#""userId":"u","traits":{traits}"#))
}

fn traits(event: &Event) -> String {
    let mut out = String::new();
    event.write_traits(&mut out);
    out
}

fn kinds(event: &Event) -> Vec<String> {
    event.warnings().iter().map(|warning| format!("{} {}", warning.kind, warning.about)).collect()
}

fn customs(event: &Event) -> String {
    event.customs().map(|(key, value)| format!("{key}={}", value.raw())).collect::<Vec<_>>().join(" ")
}

/// Traits as sent, as normalised, and the warnings.
fn check(rows: &[(&str, &str, &[&str])]) {
    for (sent, expected, warnings) in rows {
        let event = with(sent);
        assert_eq!(traits(&event), *expected, "{sent}");
        assert_eq!(kinds(&event), *warnings, "{sent}");
    }
}

#[test]
fn reads_the_specifications_examples() {
    let event = parse(
        r#"{"anonymousId":"507f191e810c19729de860ea","type":"identify","userId":"97980cfea0067","channel":"browser",
        "context":{"ip":"","userAgent":"Mozilla/5.0"},"integrations":{"All":false,"Mixpanel":true,"Salesforce":true},
        "messageId":"022bb90c-bbac-11e4-8dfc-aa07a5b093db","receivedAt":"2015-02-23T22:28:55.387Z",
        "sentAt":"2015-02-23T22:28:55.111Z","timestamp":"2015-02-23T22:28:55.111Z","traits":{"firstname":"Elon",
        "lastname":"Musk","email":"elon@example.com","Place of birth":"South Africa",
        "address":{"street":"6th St","city":"Durban","country":"South Africa"}},"version":"1.1"}"#,
    )
    .unwrap();
    assert_eq!(
        (event.user_id(), event.anonymous_id()),
        (Some("97980cfea0067"), Some("507f191e810c19729de860ea"))
    );
    assert_eq!(event.message_id(), "022bb90c-bbac-11e4-8dfc-aa07a5b093db");
    assert_eq!((event.timestamp_ms(), event.received_at_ms()), (RECEIVED, RECEIVED));
    assert_eq!(event.reserved(Reserved::Name), Field::Text("Elon Musk"));
    assert!(event.name_is_derived());
    assert_eq!(event.reserved(Reserved::AddressCity), Field::Text("Durban"));
    assert_eq!(customs(&event), "Place of birth=\"South Africa\"");
    assert_eq!(kinds(&event), ["trait_key_chars Place of birth"]);

    let event = parse(
        r#"{"anonymousId":"59f75a945b289f44d6e8aca5","context":{"ip":""},"message_id":"aaf06138","received_at":"2017-02-09T12:08:32.387Z",
        "sent_at":"2017-02-09T12:08:32.111Z","timestamp":"2017-02-09T12:08:32.111Z","traits":{"name":"Mark Twain","email":"","plan":"premium",
        "logins":5,"address":{"street":"351 Farmington Avenue","city":"Hartford","state":"CT","postal_code":"06105","country":"USA"}},
        "type":"identify","user_id":"97980cfea0067","version":"1.2"}"#,
    )
    .unwrap();
    assert_eq!((event.user_id(), event.message_id()), (Some("97980cfea0067"), "aaf06138"));
    assert_eq!(event.reserved(Reserved::Email), Field::Absent);
    assert_eq!(event.reserved(Reserved::AddressPostalCode), Field::Text("06105"));
    assert_eq!(customs(&event), "plan=\"premium\" logins=5");
    assert!(kinds(&event).is_empty());
}

#[test]
fn refusals() {
    for (text, code) in [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        (r#"{"type":"identify","userId":NaN}"#, "invalid_json"),
        ("[]", "not_an_object"),
        ("null", "not_an_object"),
        (r#"{"userId":"u"}"#, "type_missing"),
        (r#"{"type":"","userId":"u"}"#, "type_missing"),
        (r#"{"type":7,"userId":"u"}"#, "type_missing"),
        (r#"{"type":"login","userId":"u"}"#, "type_unknown"),
        (r#"{"type":"identify"}"#, "no_user_anon_id"),
        (r#"{"type":"identify","userId":"","anonymousId":"  "}"#, "no_user_anon_id"),
        (r#"{"type":"track","userId":null}"#, "no_user_anon_id"),
        (r#"{"type":"identify","traits":{"id":"x"}}"#, "no_user_anon_id"),
        (r#"{"type":"identify","userId":true}"#, "id_not_string"),
        (r#"{"type":"identify","userId":{},"anonymousId":"a"}"#, "id_not_string"),
        (r#"{"type":"identify","anonymousId":["a"]}"#, "id_not_string"),
        (r#"{"type":"identify","userId":"u","traits":"x"}"#, "traits_not_object"),
        (r#"{"type":"identify","userId":"u","traits":[1]}"#, "traits_not_object"),
        (r#"{"type":"identify","userId":"u","traits":5}"#, "traits_not_object"),
        (r#"{"type":"identify","userId":"u","traits":false}"#, "traits_not_object"),
    ] {
        let refusal = parse(text).unwrap_err();
        assert_eq!(refusal.code, code, "{text}");
        assert!(!refusal.message.is_empty());
    }
    let deep = format!(
        r#"{{"type":"identify","userId":"u","traits":{}1{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert_eq!(parse(&deep).unwrap_err().code, "invalid_json");
}

#[test]
fn identity() {
    for (members, user_id, anonymous_id, warnings) in [
        (r#""userId":"u""#, Some("u"), None, ""),
        (r#""userId":123"#, Some("123"), None, ""),
        (r#""userId":12345678901234567890"#, Some("12345678901234567890"), None, ""),
        (r#""userId":1e3"#, Some("1000"), None, ""),
        (r#""userId":1.0"#, Some("1"), None, ""),
        (r#""userId":-12.50e1"#, Some("-125"), None, ""),
        (r#""userId":-0"#, Some("0"), None, ""),
        (r#""userId":0e9"#, Some("0"), None, ""),
        (r#""userId":1.5"#, Some("1.5"), None, ""),
        (r#""userId":5e-1"#, Some("5e-1"), None, ""),
        (r#""userId":1e999999999999"#, Some("1e999999999999"), None, ""),
        (r#""userId":null,"anonymousId":"a""#, None, Some("a"), ""),
        (r#""userId":"","anonymous_id":7"#, None, Some("7"), ""),
        (r#""user_id":"s""#, Some("s"), None, ""),
        (r#""user_id":"s","userId":"c""#, Some("c"), None, "field_conflict user_id"),
        (r#""user_id":"s","userId":"s""#, Some("s"), None, ""),
        (r#""user_id":"s","userId":null"#, Some("s"), None, ""),
        (r#""user_id":"s","userId":" ""#, Some("s"), None, ""),
        (r#""sessionId":"z""#, None, Some("z"), ""),
        (r#""sessionId":"z","anonymousId":"a""#, None, Some("a"), ""),
        (r#""userId":"\u00e9\n""#, Some("é\n"), None, ""),
        (r#""userId":"\ud800""#, Some("\u{fffd}"), None, ""),
        (r#""userId":"a","userId":"b""#, Some("b"), None, ""),
    ] {
        let event = call(members);
        assert_eq!((event.user_id(), event.anonymous_id()), (user_id, anonymous_id), "{members}");
        assert_eq!(kinds(&event).join(""), warnings, "{members}");
    }
    assert_eq!(parse("\u{feff}{\"type\":\"TRACK\",\"userId\":\"u\"}").unwrap().call_type(), CallType::Track);
}

#[test]
fn message_ids() {
    let long = "m".repeat(101);
    for (members, expected, warnings) in [
        (r#""messageId":"m""#.to_owned(), "m", ""),
        (r#""message_id":"m""#.to_owned(), "m", ""),
        (r#""messageId":"","message_id":"m""#.to_owned(), "m", ""),
        (r#""messageId":123e1"#.to_owned(), "1230", ""),
        (r#""messageId":"a\u0000b\u200bc""#.to_owned(), "abc", "message_id_cleaned message_id"),
        (format!(r#""messageId":"{long}""#), &long, "message_id_long message_id"),
        (format!(r#""messageId":"{}""#, "é".repeat(100)), &"é".repeat(100), ""),
        (String::from(r#""messageId":null"#), "", ""),
    ] {
        let event = call(&format!(r#""userId":"u",{members}"#));
        assert_eq!(event.message_id(), expected, "{members}");
        assert_eq!(kinds(&event).join(""), warnings, "{members}");
    }
}

#[test]
fn times() {
    let iso = |ms: i64| {
        let mut out = String::new();
        dates::push_iso_ms(&mut out, Date::Moment(ms));
        out
    };
    for (members, expected, warnings) in [
        // The server's clock says 2024-05-02T10:15:31.000Z.
        ("", "2024-05-02T10:15:31.000Z", ""),
        (r#","timestamp":"2024-05-02T10:15:30.250Z""#, "2024-05-02T10:15:30.250Z", ""),
        (r#","originalTimestamp":"2024-05-02T10:15:30.250Z""#, "2024-05-02T10:15:30.250Z", ""),
        (r#","original_timestamp":"2024-05-02T10:15:30.250Z""#, "2024-05-02T10:15:30.250Z", ""),
        (
            r#","timestamp":"2024-05-01T00:00:00Z","sentAt":"2024-05-01T00:00:10Z""#,
            "2024-05-02T10:15:21.000Z",
            "",
        ),
        (
            r#","timestamp":"2024-05-01T00:00:00Z","sent_at":"2024-05-01T00:00:10Z""#,
            "2024-05-02T10:15:21.000Z",
            "",
        ),
        (
            r#","timestamp":"2012-01-01T00:00:00Z","sentAt":"2024-05-02T10:15:30Z""#,
            "2012-01-01T00:00:01.000Z",
            "",
        ),
        (
            r#","timestamp":"2024-05-02T11:15:00Z","sentAt":"2024-05-02T10:15:00Z""#,
            "2024-05-02T11:15:31.000Z",
            "clock_skew timestamp",
        ),
        (r#","receivedAt":"1999-01-01T00:00:00Z""#, "2024-05-02T10:15:31.000Z", ""),
        (r#","timestamp":"2024-05-02T15:45:30.123456789+05:30""#, "2024-05-02T10:15:30.123Z", ""),
        (r#","timestamp":"2016-12-31T23:59:60Z""#, "2017-01-01T00:00:00.000Z", ""),
        (r#","timestamp":"2016-12-31T24:00:00Z""#, "2017-01-01T00:00:00.000Z", ""),
        (r#","timestamp":"0000-01-01T00:00:00Z""#, "0000-01-01T00:00:00.000Z", ""),
        (
            r#","timestamp":"9999-12-31T23:59:59Z","sentAt":"0000-01-01T00:00:00Z""#,
            "9999-12-31T23:59:59.999Z",
            "clock_skew timestamp",
        ),
        (
            r#","timestamp":"0000-01-01T00:00:00Z","sentAt":"9999-12-31T23:59:59Z""#,
            "0000-01-01T00:00:00.000Z",
            "",
        ),
        (r#","timestamp":"2024-05-02 10:15:30""#, "2024-05-02T10:15:30.000Z", "zone_missing timestamp"),
        (r#","timestamp":1714644930250"#, "2024-05-02T10:15:30.250Z", ""),
        (r#","timestamp":"1714644930""#, "2024-05-02T10:15:30.000Z", ""),
        (r#","timestamp":"yesterday""#, "2024-05-02T10:15:31.000Z", "time_invalid timestamp"),
        (
            r#","timestamp":{},"originalTimestamp":"2024-05-02T10:15:30Z""#,
            "2024-05-02T10:15:30.000Z",
            "time_invalid timestamp",
        ),
        (
            r#","timestamp":"2024-05-02T10:15:30Z","sentAt":"soon""#,
            "2024-05-02T10:15:30.000Z",
            "time_invalid sent_at",
        ),
        (r#","timestamp":null,"sentAt":"""#, "2024-05-02T10:15:31.000Z", ""),
    ] {
        let event = call(&format!(r#""userId":"u"{members}"#));
        assert_eq!(iso(event.timestamp_ms()), expected, "{members}");
        assert_eq!(kinds(&event).join(""), warnings, "{members}");
    }
}

#[test]
fn traits_stand_in_traits_or_in_the_context() {
    for (members, expected) in [
        (r#""traits":{"a":1}"#, r#"{"a":1}"#),
        (r#""traits":{"a":1},"context":{"traits":{"b":1}}"#, r#"{"a":1}"#),
        (r#""context":{"traits":{"email":"a@b.co"}}"#, r#"{"email":"a@b.co"}"#),
        (r#""traits":{},"context":{"traits":{"b":1}}"#, r#"{"b":1}"#),
        (r#""traits":null,"context":{"traits":{"b":1}}"#, r#"{"b":1}"#),
        (r#""traits":[],"context":{"traits":"x"}"#, "{}"),
        (r#""traits":[]"#, "{}"),
        (r#""traits":null"#, "{}"),
        (r#""context":"none""#, "{}"),
    ] {
        assert_eq!(traits(&call(&format!(r#""userId":"u",{members}"#))), expected, "{members}");
    }
}

#[test]
fn other_call_types_have_no_user_traits() {
    let event = parse(r#"{"type":"group","userId":"u","traits":{"name":"Initech","zip":1}}"#).unwrap();
    assert_eq!(event.call_type(), CallType::Group);
    assert_eq!(event.reserved(Reserved::Name), Field::Absent);
    assert_eq!(event.customs().count(), 0);
    assert!(parse(r#"{"type":"track","userId":"u","traits":7}"#).is_ok());
}

#[test]
fn every_alias_is_its_trait() {
    check(&[
        (r#"{"photoUrl":"http://a"}"#, r#"{"avatar":"http://a"}"#, &[]),
        (r#"{"avatarUrl":"http://a"}"#, r#"{"avatar":"http://a"}"#, &[]),
        (r#"{"avatarURL":"http://a"}"#, r#"{"avatar":"http://a"}"#, &[]),
        (r#"{"avatar_URL":"http://a"}"#, r#"{"avatar":"http://a"}"#, &[]),
        (r#"{"dateOfBirth":"1990-01-02"}"#, r#"{"birthday":"1990-01-02"}"#, &[]),
        (r#"{"dob":"1990-01-02"}"#, r#"{"birthday":"1990-01-02"}"#, &[]),
        (r#"{"DOB":"1990-01-02"}"#, r#"{"birthday":"1990-01-02"}"#, &[]),
        (r#"{"created":"2020-01-01"}"#, r#"{"created_at":"2020-01-01"}"#, &[]),
        (r#"{"createdat":"2020-01-01"}"#, r#"{"created_at":"2020-01-01"}"#, &[]),
        (r#"{"background":"b"}"#, r#"{"description":"b"}"#, &[]),
        (r#"{"phones":["+1","+2"]}"#, r#"{"phone":"+1"}"#, &[]),
        (r#"{"websites":["w"]}"#, r#"{"website":"w"}"#, &[]),
        (r#"{"position":"CTO"}"#, r#"{"title":"CTO"}"#, &[]),
        (r#"{"jobTitle":"CTO"}"#, r#"{"title":"CTO"}"#, &[]),
        (r#"{"userName":"n"}"#, r#"{"username":"n"}"#, &[]),
        (r#"{"First Name":"A"}"#, r#"{"first_name":"A"}"#, &[]),
        (r#"{"FIRST_NAME":"A"}"#, r#"{"first_name":"A"}"#, &[]),
        (r#"{"lastname":"B"}"#, r#"{"last_name":"B"}"#, &[]),
        (r#"{"zip":"1"}"#, r#"{"address":{"postal_code":"1"}}"#, &[]),
        (r#"{"zipCode":"1"}"#, r#"{"address":{"postal_code":"1"}}"#, &[]),
        (r#"{"zip_code":"1"}"#, r#"{"address":{"postal_code":"1"}}"#, &[]),
        (r#"{"zipcode":"1"}"#, r#"{"address":{"postal_code":"1"}}"#, &[]),
        (r#"{"postalcode":"1"}"#, r#"{"address":{"postal_code":"1"}}"#, &[]),
        (r#"{"postalCode":"1"}"#, r#"{"address":{"postal_code":"1"}}"#, &[]),
        (
            r#"{"street":"s","city":"c","state":"t","region":"r","country":"y"}"#,
            r#"{"address":{"street":"s","city":"c","state":"t","region":"r","country":"y"}}"#,
            &[],
        ),
        (r#"{"address":{"zip":94103,"City":"Q"}}"#, r#"{"address":{"city":"Q","postal_code":"94103"}}"#, &[]),
        (r#"{"address.city":"Q"}"#, r#"{"address":{"city":"Q"}}"#, &[]),
        (
            r#"{"company":{"employees":3,"created":"2020-01-01"}}"#,
            r#"{"company":{"employee_count":3,"created_at":"2020-01-01"}}"#,
            &[],
        ),
        (r#"{"company.employeeCount":3}"#, r#"{"company":{"employee_count":3}}"#, &[]),
        (r#"{"subscription.planName":"p"}"#, r#"{"subscription":{"plan_name":"p"}}"#, &[]),
        (
            r#"{"subscription":{"canceled_at":"2020-01-01"}}"#,
            r#"{"subscription":{"service_period_cancelled_at":"2020-01-01"}}"#,
            &[],
        ),
        (
            r#"{"subscription":{"servicePeriodCanceledAt":"2020-01-01"}}"#,
            r#"{"subscription":{"service_period_cancelled_at":"2020-01-01"}}"#,
            &[],
        ),
    ]);
}

#[test]
fn of_several_spellings_one_counts() {
    check(&[
        (r#"{"first_name":null,"firstName":"C"}"#, r#"{"first_name":"C"}"#, &[]),
        (r#"{"first_name":"","firstName":"C"}"#, r#"{"first_name":"C"}"#, &[]),
        (r#"{"firstName":"A","first_name":"B"}"#, r#"{"first_name":"B"}"#, &["trait_conflict first_name"]),
        (r#"{"firstname":"A","firstName":"B"}"#, r#"{"first_name":"B"}"#, &["trait_conflict first_name"]),
        (r#"{"firstname":"A","FirstName":"B"}"#, r#"{"first_name":"B"}"#, &["trait_conflict first_name"]),
        (r#"{"firstName":"A","first_name":"A"}"#, r#"{"first_name":"A"}"#, &[]),
        (r#"{"first_name":"A","first_name":"B"}"#, r#"{"first_name":"B"}"#, &[]),
        (
            r#"{"created":"2019-01-01","createdAt":"2020-01-01"}"#,
            r#"{"created_at":"2020-01-01"}"#,
            &["trait_conflict created_at"],
        ),
        (r#"{"title":"T","position":"P"}"#, r#"{"title":"T"}"#, &["trait_conflict title"]),
        (r#"{"job_title":"J","position":"P"}"#, r#"{"title":"P"}"#, &["trait_conflict title"]),
        // A valid one is taken before one that is not.
        (r#"{"email":"broken","Email":"a@b.co"}"#, r#"{"email":"a@b.co"}"#, &["trait_invalid email"]),
        (
            r#"{"email":"a@b.co","Email":"broken"}"#,
            r#"{"email":"a@b.co"}"#,
            &["trait_invalid email", "trait_conflict email"],
        ),
        // Inside its object, by its dotted name, beside it; what stands beside it then is something else.
        (
            r#"{"city":"flat","address.city":"dotted","address":{"city":"inside"}}"#,
            r#"{"address":{"city":"inside"},"city":"flat"}"#,
            &["trait_conflict address.city"],
        ),
        (
            r#"{"state":"active","address":{"state":"CA"}}"#,
            r#"{"address":{"state":"CA"},"state":"active"}"#,
            &[],
        ),
        (
            r#"{"zip":"1","postalCode":"2"}"#,
            r#"{"address":{"postal_code":"2"}}"#,
            &["trait_conflict address.postal_code"],
        ),
        (r#"{"state":{"on":true}}"#, r#"{"state":{"on":true}}"#, &[]),
        (
            r#"{"address":"6th St","address.street":"other"}"#,
            r#"{"address":{"street":"6th St"}}"#,
            &["trait_conflict address.street"],
        ),
    ]);
}

#[test]
fn names() {
    check(&[
        (
            r#"{"firstname":"Elon","lastname":"Musk"}"#,
            r#"{"first_name":"Elon","last_name":"Musk","name":"Elon Musk"}"#,
            &[],
        ),
        (
            r#"{"name":"","firstName":" A ","lastName":"B"}"#,
            r#"{"first_name":"A","last_name":"B","name":"A B"}"#,
            &[],
        ),
        (
            r#"{"name":null,"firstName":"A","lastName":"B"}"#,
            r#"{"first_name":"A","last_name":"B","name":"A B"}"#,
            &[],
        ),
        (
            r#"{"name":"N","firstName":"A","lastName":"B"}"#,
            r#"{"first_name":"A","last_name":"B","name":"N"}"#,
            &[],
        ),
        (r#"{"name":"  Jean  Paul Sartre "}"#, r#"{"name":"Jean  Paul Sartre"}"#, &[]),
        (r#"{"firstName":"A"}"#, r#"{"first_name":"A"}"#, &[]),
        (r#"{"firstName":"A","lastName":null}"#, r#"{"first_name":"A","last_name":null}"#, &[]),
    ]);
    let event = with(r#"{"name":123,"firstName":"A","lastName":"B"}"#);
    assert_eq!(event.reserved(Reserved::Name), Field::Text("A B"));
    assert_eq!(customs(&event), "name=123");
}

#[test]
fn values_by_their_rules() {
    check(&[
        (r#"{"email":" Ada@B.co "}"#, r#"{"email":"Ada@B.co"}"#, &[]),
        (r#"{"email":"[email protected]"}"#, r#"{"email":"[email protected]"}"#, &["trait_invalid email"]),
        (r#"{"email":"a@b"}"#, r#"{"email":"a@b"}"#, &["trait_invalid email"]),
        (r#"{"email":"a@b@c.d"}"#, r#"{"email":"a@b@c.d"}"#, &["trait_invalid email"]),
        (r#"{"email":"@c.d"}"#, r#"{"email":"@c.d"}"#, &["trait_invalid email"]),
        (r#"{"email":5}"#, r#"{"email":5}"#, &["trait_invalid email"]),
        (r#"{"email":"  "}"#, "{}", &[]),
        (r#"{"email":null}"#, r#"{"email":null}"#, &[]),
        (r#"{"age":26}"#, r#"{"age":26}"#, &[]),
        (r#"{"age":"026"}"#, r#"{"age":26}"#, &[]),
        (r#"{"age":26.5}"#, r#"{"age":26.5}"#, &[]),
        (r#"{"age":151}"#, r#"{"age":151}"#, &["trait_invalid age"]),
        (r#"{"age":-1}"#, r#"{"age":-1}"#, &["trait_invalid age"]),
        (r#"{"age":"old"}"#, r#"{"age":"old"}"#, &["trait_invalid age"]),
        (r#"{"avatar":"HTTPS://a.b/c"}"#, r#"{"avatar":"HTTPS://a.b/c"}"#, &[]),
        (r#"{"avatar":"//a.b/c"}"#, r#"{"avatar":"//a.b/c"}"#, &["trait_invalid avatar"]),
        (r#"{"avatar":"http://"}"#, r#"{"avatar":"http://"}"#, &["trait_invalid avatar"]),
        (r#"{"birthday":-86400}"#, r#"{"birthday":"1969-12-31T00:00:00.000Z"}"#, &[]),
        (
            r#"{"created_at":-86400}"#,
            r#"{"created_at":"1969-12-31T00:00:00.000Z"}"#,
            &["trait_suspect created_at"],
        ),
        (r#"{"created_at":0}"#, r#"{"created_at":"1970-01-01T00:00:00.000Z"}"#, &[]),
        (r#"{"created_at":1577836800}"#, r#"{"created_at":"2020-01-01T00:00:00.000Z"}"#, &[]),
        (r#"{"created_at":"1577836800000"}"#, r#"{"created_at":"2020-01-01T00:00:00.000Z"}"#, &[]),
        (
            r#"{"created_at":"2020-01-01T00:00:00"}"#,
            r#"{"created_at":"2020-01-01T00:00:00.000Z"}"#,
            &["zone_missing created_at"],
        ),
        (r#"{"createdAt":"2020-13-45"}"#, r#"{"createdAt":"2020-13-45"}"#, &["trait_invalid created_at"]),
        (r#"{"created_at":"2020"}"#, r#"{"created_at":"2020"}"#, &["trait_invalid created_at"]),
        (r#"{"created_at":"01/02/2020"}"#, r#"{"created_at":"01/02/2020"}"#, &["trait_invalid created_at"]),
        (r#"{"created_at":true}"#, r#"{"created_at":true}"#, &["trait_invalid created_at"]),
        (r#"{"phone":4155550123}"#, r#"{"phone":"4155550123"}"#, &[]),
        (r#"{"phone":["+1"]}"#, r#"{"phone":"+1"}"#, &[]),
        (r#"{"phone":[]}"#, "{}", &[]),
        (r#"{"phone":{}}"#, r#"{"phone":{}}"#, &["trait_invalid phone"]),
        (r#"{"website":["w"]}"#, r#"{"website":"w"}"#, &[]),
        (r#"{"website":5}"#, r#"{"website":5}"#, &["trait_invalid website"]),
        (r#"{"first_name":5}"#, r#"{"first_name":5}"#, &["trait_invalid first_name"]),
        (r#"{"gender":" f "}"#, r#"{"gender":"f"}"#, &[]),
        (r#"{"description":"a\n\u00e9"}"#, r#"{"description":"a\né"}"#, &[]),
        (r#"{"id":"u"}"#, r#"{"id":"u"}"#, &[]),
        (r#"{"id":7}"#, r#"{"id":7}"#, &["trait_conflict id"]),
        (r#"{"id":"other"}"#, r#"{"id":"other"}"#, &["trait_conflict id"]),
        (r#"{"address":"6th St"}"#, r#"{"address":{"street":"6th St"}}"#, &[]),
        (r#"{"address":["6th St"]}"#, r#"{"address":["6th St"]}"#, &["trait_invalid address"]),
        (r#"{"address":{"city":" "}}"#, "{}", &[]),
        (r#"{"address":[]}"#, "{}", &[]),
        (r#"{"address":{"city":null}}"#, r#"{"address":{"city":null}}"#, &[]),
        (
            r#"{"address":{"city":5,"planet":"E"}}"#,
            r#"{"address":{"city":5,"planet":"E"}}"#,
            &["trait_invalid address.city"],
        ),
        (r#"{"company":"Initech"}"#, r#"{"company":{"name":"Initech"}}"#, &[]),
        (r#"{"company":5}"#, r#"{"company":5}"#, &["trait_invalid company"]),
        (r#"{"company":{"id":9}}"#, r#"{"company":{"id":9}}"#, &[]),
        (r#"{"company":{"id":"9"}}"#, r#"{"company":{"id":"9"}}"#, &[]),
        (r#"{"company":{"employeeCount":"42"}}"#, r#"{"company":{"employee_count":42}}"#, &[]),
        (r#"{"company":{"employeeCount":1e2}}"#, r#"{"company":{"employee_count":100}}"#, &[]),
        (
            r#"{"company":{"employee_count":-1}}"#,
            r#"{"company":{"employee_count":-1}}"#,
            &["trait_invalid company.employee_count"],
        ),
        (r#"{"subscription":"pro"}"#, r#"{"subscription":"pro"}"#, &["trait_invalid subscription"]),
        (r#"{"subscription":{"plan_id":7}}"#, r#"{"subscription":{"plan_id":"7"}}"#, &[]),
        (
            r#"{"subscription":{"payment_status":"PAST_DUE"}}"#,
            r#"{"subscription":{"payment_status":"past due"}}"#,
            &[],
        ),
        (r#"{"subscription":{"status":"cancelled"}}"#, r#"{"subscription":{"status":"canceled"}}"#, &[]),
        (
            r#"{"subscription":{"status":"Trial-Cancelled"}}"#,
            r#"{"subscription":{"status":"trial canceled"}}"#,
            &[],
        ),
        (r#"{"subscription":{"status":"unknown"}}"#, r#"{"subscription":{"status":"unknown"}}"#, &[]),
        (
            r#"{"subscription":{"status":"weird"}}"#,
            r#"{"subscription":{"status":"weird"}}"#,
            &["trait_invalid subscription.status"],
        ),
        (
            r#"{"subscription":{"plan_interval_unit":"Months"}}"#,
            r#"{"subscription":{"plan_interval_unit":"month"}}"#,
            &[],
        ),
        (
            r#"{"subscription":{"plan_interval_count":0}}"#,
            r#"{"subscription":{"plan_interval_count":0}}"#,
            &["trait_invalid subscription.plan_interval_count"],
        ),
        (
            r#"{"subscription":{"plan_interval_count":"3"}}"#,
            r#"{"subscription":{"plan_interval_count":3}}"#,
            &[],
        ),
        (
            r#"{"subscription":{"amount_in_cents":1999}}"#,
            r#"{"subscription":{"amount_in_cents":"1999"}}"#,
            &[],
        ),
        (r#"{"subscription":{"amount_in_cents":"007"}}"#, r#"{"subscription":{"amount_in_cents":"7"}}"#, &[]),
        (
            r#"{"subscription":{"amount_in_cents":"19.99"}}"#,
            r#"{"subscription":{"amount_in_cents":"19.99"}}"#,
            &["trait_invalid subscription.amount_in_cents"],
        ),
        (
            r#"{"subscription":{"tax_amount_in_cents":-5}}"#,
            r#"{"subscription":{"tax_amount_in_cents":-5}}"#,
            &["trait_invalid subscription.tax_amount_in_cents"],
        ),
        (r#"{"subscription":{"currency":"EUR"}}"#, r#"{"subscription":{"currency":"eur"}}"#, &[]),
        (
            r#"{"subscription":{"currency":"euro"}}"#,
            r#"{"subscription":{"currency":"euro"}}"#,
            &["trait_invalid subscription.currency"],
        ),
        (
            r#"{"subscription":{"service_period_start_at":"2020-01-02","service_period_end_at":"2020-01-01"}}"#,
            r#"{"subscription":{"service_period_start_at":"2020-01-02","service_period_end_at":"2020-01-01"}}"#,
            &["trait_suspect subscription.service_period_end_at"],
        ),
    ]);
    let event = call(r#""anonymousId":"a","traits":{"id":7}"#);
    assert_eq!(event.reserved(Reserved::Id), Field::Text("7"));
}

#[test]
fn custom_traits_stay_as_they_are() {
    let event =
        with(r#"{"Country of birth":"South Africa","a.b":1.50,"x":null,"\u0041":[1, 2],"x":{"y" : 1e400}}"#);
    assert_eq!(customs(&event), "Country of birth=\"South Africa\" a.b=1.50 A=[1, 2] x={\"y\" : 1e400}");
    assert_eq!(kinds(&event), ["trait_key_chars Country of birth"]);
    let event = with(r#"{"a.b":1}"#);
    assert_eq!(
        (customs(&event), kinds(&event)),
        ("a.b=1".to_owned(), vec!["trait_key_chars a.b".to_owned()])
    );
    let many: String = (0..100).map(|n| format!("\"k{n}\":{n},")).collect();
    let event = with(&format!(r#"{{{many}"k7":"again"}}"#));
    assert_eq!(event.customs().count(), 100);
    assert_eq!(event.customs().last().unwrap().1.raw(), "\"again\"");
    // One that could not be a reserved trait stands where it was sent.
    assert_eq!(customs(&with(r#"{"a":1,"email":"x","b":2}"#)), "a=1 email=\"x\" b=2");
}

#[test]
fn members_of_groups_that_are_not_reserved() {
    let event = with(r#"{"subscription":{"plan_name":"p","seats":4},"Address":{"planet":"E"}}"#);
    let of = |group| {
        event.group_customs(group).map(|(key, value)| format!("{key}={}", value.raw())).collect::<Vec<_>>()
    };
    assert_eq!(
        (of(Group::Subscription), of(Group::Address)),
        (vec!["seats=4".to_owned()], vec!["planet=\"E\"".to_owned()])
    );
    assert_eq!(customs(&event), "");
}

#[test]
fn named_paths() {
    let mut names = Names::default();
    let mut intern = |root, path: &[&str]| {
        names.intern(root, &path.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>()).unwrap()
    };
    let ids = [
        intern(Root::Custom, &["plan"]),
        intern(Root::Custom, &["deep", "a", "1"]),
        intern(Root::Custom, &["subscription", "seats"]),
        intern(Root::Custom, &["email"]),
        intern(Root::Custom, &["absent"]),
        intern(Root::Context, &["ip"]),
        intern(Root::Context, &["device", "id"]),
        intern(Root::Context, &["device"]),
    ];
    let call = r#"{"type":"identify","userId":"u","traits":{"plan":"x","plan":"pro","deep":{"a":[0,7]},"subscription":{"seats":4},"email":"a@b.co"},
        "context":{"ip":"::1","device":{"id":9}}}"#;
    let event = Event::parse(call.into(), 0, &names).unwrap();
    let found = ids.map(|id| event.named(id).map(|value| value.raw()));
    assert_eq!(
        found,
        [Some("\"pro\""), Some("7"), Some("4"), None, None, Some("\"::1\""), Some("9"), Some("{\"id\":9}")]
    );
    let later = names.intern(Root::Context, &["later".to_owned()]).unwrap();
    assert!(event.named(later).is_none());
}

#[test]
fn old_flags_in_the_context_are_warned_of() {
    assert_eq!(
        kinds(&call(r#""userId":"u","context":{"All":false}"#)),
        ["integrations_in_context context.All"]
    );
}

#[test]
fn warnings_are_of_the_closed_list() {
    let event = call(
        r#""userId":"u","user_id":"v","messageId":"a\u0000","timestamp":"x","sentAt":"2020-01-01 00:00:00","context":{"All":1},
        "traits":{"email":1,"a b":1,"a":1,"created_at":-1,"title":"a","Title":"b"}"#,
    );
    assert_eq!(event.warnings().len(), 9);
    assert!(event.warnings().iter().all(|given| warning::ALL.contains(&given.kind)));
}

/// Keys and values that are likely to hit a rule.
fn any_traits() -> impl Strategy<Value = serde_json::Value> {
    let key = prop_oneof![
        prop::sample::select(Reserved::ALL.iter().map(|r| r.name().to_owned()).collect::<Vec<_>>()),
        prop::sample::select(vec![
            "address",
            "company",
            "subscription",
            "city",
            "zip",
            "zipCode",
            "firstName",
            "Email",
            "createdAt",
            "created",
            "phones",
            "Name",
            "plan",
            "status",
            "planName",
            "employees",
            "a b",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        prop::sample::select(vec![
            "",
            " ",
            "a@b.co",
            "2020-01-01",
            "2020-01-01T00:00:00",
            "1577836800",
            "42",
            "0",
            "EUR",
            "PAST_DUE",
            "months",
            "http://a",
        ])
        .prop_map(Into::into),
    ];
    let value = leaf.prop_recursive(3, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    });
    value.prop_filter("an object", serde_json::Value::is_object)
}

proptest! {
    #[test]
    fn no_object_panics_and_the_same_text_gives_the_same_event(mut body in any_traits(), traits in any_traits(), context in any_traits()) {
        let members = body.as_object_mut().unwrap();
        members.insert("type".to_owned(), "identify".into());
        members.insert("traits".to_owned(), traits);
        members.insert("context".to_owned(), context);
        let text = body.to_string();
        match (parse(&text), parse(&text)) {
            (Ok(a), Ok(b)) => {
                let (mut first, mut second) = (String::new(), String::new());
                a.write_canonical(&mut first);
                b.write_canonical(&mut second);
                prop_assert_eq!(&first, &second);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&first).is_ok(), "{}", first);
                prop_assert_eq!(a.warnings(), b.warnings());
            }
            (Err(a), Err(b)) => prop_assert_eq!(a, b),
            _ => prop_assert!(false, "accepted only once"),
        }
    }

    #[test]
    fn normalising_twice_changes_nothing_more(sent in any_traits()) {
        let once = traits(&with(&sent.to_string()));
        let twice = traits(&with(&once));
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        prop_assert_eq!(parsed(&once), parsed(&twice));
    }

    #[test]
    fn custom_traits_survive_to_the_byte(members in prop::collection::btree_map("custom[a-zA-Z0-9 ._$\u{e9}\"\\\\]{0,8}", "\\PC{0,8}", 0..50)) {
        let sent: serde_json::Map<_, _> = members.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        let event = with(&serde_json::Value::Object(sent).to_string());
        let kept: Vec<(String, String)> =
            event.customs().map(|(key, value)| (key.to_owned(), value.raw().to_owned())).collect();
        let expected: Vec<(String, String)> =
            members.into_iter().map(|(key, value)| (key, serde_json::Value::from(value).to_string())).collect();
        prop_assert_eq!(kept, expected);
    }
}

#[test]
fn an_event_says_what_it_holds() {
    let event = |traits: &str| {
        let text = format!(r#"{{"type":"identify","userId":"u","messageId":"m","traits":{traits}}}"#);
        Event::parse(text.as_str().into(), 0, &Names::default()).unwrap().held_bytes()
    };
    let small = event("{}");
    assert!((500..3_000).contains(&small), "{small}");
    let of_text = event(&format!(r#"{{"a":"{}"}}"#, "x".repeat(30_000)));
    assert!((30_000..32_000).contains(&of_text), "a long text is little more than itself: {of_text}");
    let of_numbers = event(&format!(r#"{{"a":[{}1]}}"#, "1,".repeat(14_999)));
    assert!(
        (270_000..340_000).contains(&of_numbers),
        "sixteen bytes for each value, and the text: {of_numbers}"
    );
}
