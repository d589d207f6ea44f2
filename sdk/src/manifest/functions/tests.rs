//! What every function gives and refuses, in tables; published vectors for signatures; any input for panics.

use proptest::prelude::*;

use super::*;
use crate::event::Date;
use crate::json::Doc;
use crate::manifest::value::Dates;

/// 2026-08-01T12:00:05Z
const NOW_MS: i64 = 1_785_585_605_000;

/// A constant from its JSON text; `D:` before a number makes a moment of the milliseconds, `day:` a day.
fn constant(text: &str) -> Value<'static> {
    if let Some(ms) = text.strip_prefix("D:") {
        return Value::Date(Date::Moment(ms.parse().unwrap()));
    }
    if let Some(day) = text.strip_prefix("day:") {
        return Value::Date(Date::Day(day.parse().unwrap()));
    }
    let doc: &'static Doc = Box::leak(Box::new(Doc::parse(text.into()).unwrap()));
    Value::from_json(doc.root())
}

fn written(value: Option<Value<'_>>) -> String {
    let mut out = String::new();
    match value {
        Some(Value::Bytes(bytes)) => out = format!("{bytes:02x?}"),
        Some(value) => value.write_json(&mut out, &Dates::ISO),
        None => out.push_str("absent"),
    }
    out
}

fn run(name: &str, input: &str, args: &[&str]) -> String {
    let args: Vec<Arg<'static>> =
        args.iter().map(|arg| Arg::Value((*arg != "absent").then(|| constant(arg)))).collect();
    written(apply(function(name).unwrap(), constant(input), &args, NOW_MS))
}

/// Rows of function, input, arguments, what comes out; all but the name as JSON.
fn check(rows: &[(&str, &str, &[&str], &str)]) {
    for (name, input, args, expected) in rows {
        assert_eq!(run(name, input, args), *expected, "{input} | {name}({args:?})");
    }
}

#[test]
fn comparing() {
    check(&[
        ("is", "1", &["1"], "true"),
        ("is", "\"b\"", &["\"a\"", "\"b\""], "true"),
        ("is", "\"b\"", &["\"a\"", "absent"], "absent"),
        ("is", "601", &["\"601\""], "true"),
        ("is", "false", &["false"], "true"),
        ("is", "[1]", &["[1]"], "absent"),
        ("not", "\"u\"", &["\"v\""], "\"u\""),
        ("not", "\"u\"", &["absent"], "\"u\""),
        ("not", "\"u\"", &["\"v\"", "\"u\""], "absent"),
        ("not", "{\"a\":1}", &["0"], "{\"a\":1}"),
        ("starting", "\"cio_1\"", &["\"cio_\""], "\"cio_1\""),
        ("starting", "\"u_1\"", &["\"cio_\""], "absent"),
        ("starting", "\"u_1\"", &["absent"], "absent"),
        ("starting", "true", &["\"t\""], "absent"),
        ("ending", "\"a_at\"", &["\"_at\""], "\"a_at\""),
        ("ending", "\"_at_a\"", &["\"_at\""], "absent"),
        ("ending", "\"a\"", &["absent"], "absent"),
        ("not_starting", "\"$a\"", &["\"$\""], "absent"),
        ("not_starting", "\"é$\"", &["\"$\""], "\"é$\""),
        ("not_starting", "\"a\"", &["absent"], "\"a\""),
        ("not_starting", "[]", &["\"$\""], "absent"),
        ("contains", "\"Invalid API key: x\"", &["\"Invalid API key\""], "\"Invalid API key: x\""),
        ("contains", "\"x\"", &["\"y\""], "absent"),
        ("fits", "\"ééé\"", &["3"], "\"ééé\""),
        ("fits", "\"éééé\"", &["3"], "absent"),
    ]);
}

#[test]
fn forms() {
    let long_email = format!("\"{}@example.com\"", "a".repeat(250));
    check(&[
        ("email", "\"ada@example.com\"", &[], "\"ada@example.com\""),
        ("email", "\"ada@exämple.com\"", &[], "\"ada@exämple.com\""),
        ("email", "\"ada@example\"", &[], "absent"),
        ("email", "\"ada @example.com\"", &[], "absent"),
        ("email", "\"a@b@example.com\"", &[], "absent"),
        ("email", "\"ada@.com\"", &[], "absent"),
        ("email", "\"u_42\"", &[], "absent"),
        ("email", &long_email, &[], "absent"),
        ("email", "7", &[], "absent"),
        ("uuid", "\"8f1d4c1e-0b1f-4c39-9a5e-1f5f7e0d2a11\"", &[], "\"8f1d4c1e-0b1f-4c39-9a5e-1f5f7e0d2a11\""),
        ("uuid", "\"8F1D4C1E-0B1F-4C39-9A5E-1F5F7E0D2A11\"", &[], "\"8F1D4C1E-0B1F-4C39-9A5E-1F5F7E0D2A11\""),
        ("uuid", "\"8f1d4c1e0b1f4c399a5e1f5f7e0d2a11\"", &[], "absent"),
        ("uuid", "\"anon-5d2e8a\"", &[], "absent"),
        ("day", "day:7648", &[], "\"1990-12-10\""),
        ("day", "D:0", &[], "absent"),
        ("day", "\"1990-12-10\"", &[], "absent"),
    ]);
}

#[test]
fn letters_and_words() {
    check(&[
        ("lower", "\"  Ada@Example.COM \"", &[], "\"ada@example.com\""),
        ("lower", "\"  \"", &[], "absent"),
        ("lower", "\"ÉCOLE\"", &[], "\"école\""),
        ("lower", "12", &[], "\"12\""),
        ("lower", "true", &[], "absent"),
        ("lower", "{}", &[], "absent"),
        ("upper", "\"straße\"", &[], "\"STRASSE\""),
        ("upper", "D:0", &[], "\"1970-01-01T00:00:00Z\""),
        ("snake", "\"planTier\"", &[], "\"plan_tier\""),
        ("snake", "\"Plan  Tier-2\"", &[], "\"plan_tier_2\""),
        ("snake", "\"userID\"", &[], "\"user_id\""),
        ("snake", "\"HTTPServer\"", &[], "\"http_server\""),
        ("snake", "\"$$\"", &[], "absent"),
        ("snake", "\"École Élémentaire\"", &[], "\"école_élémentaire\""),
        ("kebab", "\"planTier\"", &[], "\"plan-tier\""),
        ("camel", "\"plan_tier x\"", &[], "\"planTierX\""),
        ("camel", "\"PLAN\"", &[], "\"plan\""),
        ("camel", "null", &[], "absent"),
        ("first_word", "\" Ada  Byron King\"", &[], "\"Ada\""),
        ("other_words", "\" Ada  Byron King\"", &[], "\"Byron King\""),
        ("other_words", "\"Ada\"", &[], "absent"),
        ("first_word", "\"\"", &[], "absent"),
        ("first_word", "[]", &[], "absent"),
        ("after", "\"cio_a_b\"", &["\"_\""], "\"a_b\""),
        ("after", "\"cio\"", &["\"_\""], "absent"),
        ("after", "\"cio_\"", &["\"_\""], "absent"),
        ("before", "\"ada@x@y\"", &["\"@\""], "\"ada\""),
        ("before", "\"ada\"", &["\"@\""], "absent"),
        ("before", "\"@x\"", &["\"@\""], "absent"),
        ("split", "\"key-us20\"", &["\"-\""], "[\"key\",\"us20\"]"),
        ("split", "\" , \"", &["\",\""], "absent"),
        ("split", "\"é,ü\"", &["\",\""], "[\"é\",\"ü\"]"),
        ("split", "[]", &["\",\""], "absent"),
        ("join", "[\"1 Mill St\",2,null,[3],true]", &["\", \""], "\"1 Mill St, 2, true\""),
        ("join", "[]", &["\",\""], "absent"),
        ("join", "\"a\"", &["\",\""], "absent"),
    ]);
}

#[test]
fn cutting_and_characters() {
    check(&[
        ("cut", "\"ééé\"", &["2"], "\"éé\""),
        ("cut", "\"éé\"", &["2"], "\"éé\""),
        ("cut", "123456", &["2"], "123456"),
        ("cut", "[\"abc\"]", &["2"], "[\"abc\"]"),
        ("cut", "\"\\n\\\"x\"", &["2"], "\"\\n\\\"\""),
        ("cut_bytes", "\"ééé\"", &["3"], "\"é\""),
        ("cut_bytes", "\"ééé\"", &["6"], "\"ééé\""),
        ("cut_bytes", "\"é\"", &["1"], "absent"),
        ("cut_bytes", "null", &["1"], "null"),
        ("keep", "\"Plan-Tier 2é\"", &["\"A-Za-z0-9\""], "\"PlanTier2\""),
        ("keep", "\"+44 20\"", &["\"0-9\""], "\"4420\""),
        ("keep", "\"é\"", &["\"a-z\""], "absent"),
        ("keep", "\"a-b_c\"", &["\"a-z-\""], "\"a-bc\""),
        ("keep", "false", &["\"a-z\""], "absent"),
        ("replace", "\"plan tier.é\"", &["\"a-z0-9_\"", "\"_\""], "\"plan_tier__\""),
        ("replace", "\"a.b.c\"", &["\"^.\"", "\"_\""], "\"a_b_c\""),
        ("replace", "\"abc\"", &["\"^.\"", "\"_\""], "\"abc\""),
        ("replace", "\"a b\"", &["\"a-z\"", "\"\""], "\"ab\""),
        ("replace", "{}", &["\"a-z\"", "\"\""], "absent"),
        ("escape", "\"<a href='x'>&\\\"\"", &["\"html\""], "\"&lt;a href=&#39;x&#39;&gt;&amp;&quot;\""),
        ("escape", "\"<@U1> 'a' & b\"", &["\"slack\""], "\"&lt;@U1&gt; 'a' &amp; b\""),
        ("escape", r#""o'hara\\ \"x\"""#, &["\"backslash\""], r#""o\\'hara\\\\ \\\"x\\\"""#),
        ("escape", "\"plain\"", &["\"backslash\""], "\"plain\""),
        ("escape", "\"a\"", &["\"sql\""], "absent"),
        ("text", "12.50", &[], "\"12.50\""),
        ("text", "true", &[], "\"true\""),
        ("text", "day:0", &[], "\"1970-01-01\""),
        ("text", "[1]", &[], "absent"),
        ("text", "null", &[], "absent"),
    ]);
}

#[test]
fn phone_numbers() {
    check(&[
        ("e164", "\"+44 20 7946 0958\"", &[], "\"+442079460958\""),
        ("e164", "\"+1 (415) 555-0123\"", &[], "\"+14155550123\""),
        ("e164", "\"+44 (0)20 7946 0958\"", &[], "absent"),
        ("e164", "\"020 7946 0958\"", &[], "absent"),
        ("e164", "\"+0123456789\"", &[], "absent"),
        ("e164", "\"+123456\"", &[], "absent"),
        ("e164", "\"+123456789012345\"", &[], "\"+123456789012345\""),
        ("e164", "\"+1234567890123456\"", &[], "absent"),
        ("e164", "\"+44 20 79x\"", &[], "absent"),
        ("e164", "\"\"", &[], "absent"),
        ("e164", "442079460958", &[], "absent"),
    ]);
}

#[test]
fn hashes_and_encodings() {
    check(&[
        ("md5", "\"ada@example.com\"", &[], "\"3e3417d7ef77d5932a6734b916515ed5\""),
        ("md5", "{}", &[], "absent"),
        ("sha1", "\"abc\"", &[], "\"a9993e364706816aba3e25717850c26c9cd0d89d\""),
        ("sha256", "\"abc\"", &[], "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""),
        ("base64", "\"s:k\"", &[], "\"czpr\""),
        ("base64", "\"é\"", &[], "\"w6k=\""),
        ("hex", "\"é\"", &[], "\"c3a9\""),
        ("hex", "true", &[], "absent"),
        ("base64url", "\"~~~?\"", &[], "\"fn5-Pw\""),
        ("unbase64", "\"w6k=\"", &[], "[c3, a9]"),
        ("unbase64", "\"w6k\"", &[], "[c3, a9]"),
        ("unbase64", "\"w6k*\"", &[], "absent"),
        ("uuid5", "\"msg-7f3c21\"", &[], "\"33896eb1-b7b8-5781-95e2-2b357ea83901\""),
        ("hmac_sha1", "\"x\"", &["absent"], "absent"),
        ("hmac_sha256", "\"x\"", &["absent"], "absent"),
        ("ed25519", "\"x\"", &["\"short\""], "absent"),
    ]);
}

#[test]
fn signatures_agree_with_published_vectors() {
    let body = r#"{"type":"user.identified","timestamp":"2024-05-02T10:15:30.250Z","data":{"messageId":"msg-7f3c21","userId":"u_1001","anonymousId":"anon-5d2e8a","traits":{"email":"ada@example.com","first_name":"Ada","score":42}}}"#;
    let sign = |name: &str, text: String, key: Value<'static>, encode: &str| {
        let signed = apply(function(name).unwrap(), Value::text(text), &[Arg::Value(Some(key))], 0).unwrap();
        written(apply(function(encode).unwrap(), signed, &[], 0))
    };
    let key = Value::Bytes(b"0123456789abcdef0123456789abcdef".to_vec());
    assert_eq!(
        sign("hmac_sha256", format!("msg-7f3c21.1714644931.{body}"), key, "base64"),
        "\"v1,DkYvmlkmEVpeWni74RWCGq1pktxueSNOv5lyjkjhZR8=\"".replace("v1,", "")
    );
    assert_eq!(
        sign("hmac_sha1", body.to_owned(), Value::text("shared-secret"), "hex"),
        "\"81539d19f6287857e5328ff61ab6cd00672904a2\""
    );
    // RFC 8032, section 7.1, test 1: the seed alone and with its public key give the same signature.
    let seed = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    let public = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e,
        0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
    ];
    let Some(Value::Bytes(seed)) = apply(function("unbase64").unwrap(), Value::text(seed), &[], 0) else {
        panic!()
    };
    let pair = [seed.clone(), public.to_vec()].concat();
    for key in [seed.clone(), pair] {
        let signature = sign("ed25519", String::new(), Value::Bytes(key), "hex");
        assert!(
            signature.starts_with("\"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901"),
            "{signature}"
        );
    }
    let wrong_pair = Value::Bytes([seed.clone(), seed].concat());
    assert!(
        apply(function("ed25519").unwrap(), Value::text("x"), &[Arg::Value(Some(wrong_pair))], 0).is_none()
    );
}

/// Both files hold one key, made for this test and used for nothing else; the signature is what OpenSSL gives.
#[test]
fn rs256_signs_as_openssl_does() {
    let pkcs8 = include_str!("fixtures/throwaway-rsa-pkcs8.pem");
    let pkcs1 = include_str!("fixtures/throwaway-rsa-pkcs1.pem");
    let sign = |key: &str| {
        let key = Arg::Value(Some(Value::text(key.to_owned())));
        let signed = apply(function("rs256").unwrap(), Value::text("a"), &[key], 0)?;
        Some(written(apply(function("base64url").unwrap(), signed, &[], 0)))
    };
    for key in [pkcs8.to_owned(), pkcs1.to_owned(), pkcs8.replace('\n', "\\n")] {
        let signature = sign(&key).unwrap();
        assert!(signature.starts_with("\"eLYskkhND9q3J05zNT8eWkxsWMvAIS-mhQt1Le5_HWC"), "{signature}");
        assert_eq!(signature.len(), 342 + 2, "256 bytes without padding");
    }
    let broken = pkcs8.replacen("MII", "MIX", 1);
    for key in ["no key", "-----BEGIN PRIVATE KEY-----\nYQ==\n-----END PRIVATE KEY-----", &broken] {
        assert_eq!(sign(key), None);
    }
}

#[test]
fn numbers() {
    check(&[
        ("int", "42", &[], "42"),
        ("int", "\" 42 \"", &[], "42"),
        ("int", "12.9", &[], "12"),
        ("int", "-12.9", &[], "-12"),
        ("int", "1.2e3", &[], "1200"),
        ("int", "9007199254740993", &[], "9007199254740993"),
        ("int", "1e-500", &[], "absent"),
        ("int", "1e300", &[], "absent"),
        ("int", "\"\"", &[], "absent"),
        ("int", "\"12px\"", &[], "absent"),
        ("int", "true", &[], "absent"),
        ("int", "\"٣\"", &[], "absent"),
        ("num", "1.50", &[], "1.50"),
        ("num", "\"1.50\"", &[], "1.5"),
        ("num", "\"+.5\"", &[], "0.5"),
        ("num", "\"-0.0\"", &[], "0"),
        ("num", "\"1e2\"", &[], "100"),
        ("num", "\".\"", &[], "absent"),
        ("num", "\"-\"", &[], "absent"),
        ("num", "\"1.2.3\"", &[], "absent"),
        ("num", "\"NaN\"", &[], "absent"),
        ("num", "[1]", &[], "absent"),
        ("times", "1.001", &["1000"], "1001"),
        ("times", "0.57", &["1000"], "570"),
        ("times", "-2", &["0.5"], "-1"),
        ("times", "\"19.99\"", &["1000"], "19990"),
        ("times", "99999999999999999999999999999999999999", &["1000"], "absent"),
        ("times", "5", &["absent"], "absent"),
        ("add", "1785585605", &["180"], "1785585785"),
        ("add", "0.1", &["0.2"], "0.3"),
        ("add", "-1", &["1"], "0"),
        ("add", "\"12\"", &["-0.5"], "11.5"),
        ("add", "1e40", &["1e-40"], "absent"),
        ("add", "\"x\"", &["1"], "absent"),
        ("bool", "\"TRUE\"", &[], "true"),
        ("bool", "\"false\"", &[], "false"),
        ("bool", "1", &[], "true"),
        ("bool", "0", &[], "false"),
        ("bool", "2", &[], "absent"),
        ("bool", "\"yes\"", &[], "absent"),
        ("bool", "null", &[], "absent"),
        ("bool", "{}", &[], "absent"),
    ]);
}

#[test]
fn dates() {
    check(&[
        ("iso", "D:1709631000000", &[], "\"2024-03-05T09:30:00Z\""),
        ("iso", "D:1709631000250", &[], "\"2024-03-05T09:30:00.250Z\""),
        ("iso", "D:-1", &[], "\"1969-12-31T23:59:59.999Z\""),
        ("iso", "day:7648", &[], "\"1990-12-10\""),
        ("iso", "D:9223372036854775807", &[], "\"9999-12-31T23:59:59.999Z\""),
        ("iso", "\"2024-03-05\"", &[], "absent"),
        ("date", "D:1709631000000", &[], "\"2024-03-05\""),
        ("date", "D:-1", &[], "\"1969-12-31\""),
        ("date", "day:-719528", &[], "\"0000-01-01\""),
        ("unix", "D:1709631000999", &[], "1709631000"),
        ("unix", "D:-1", &[], "-1"),
        ("unix", "day:7648", &[], "660787200"),
        ("unix", "1709631000", &[], "absent"),
        ("unix_ms", "D:1709631000250", &[], "1709631000250"),
        ("format", "day:7648", &["\"%m/%d\""], "\"12/10\""),
        ("format", "D:1709631000250", &["\"%Y-%m-%dT%H:%M:%S\""], "\"2024-03-05T09:30:00\""),
        ("format", "D:0", &["\"%\""], "absent"),
        ("format", "\"x\"", &["\"%Y\""], "absent"),
        ("time", "\"2024-03-05T10:30:00+01:00\"", &[], "\"2024-03-05T09:30:00Z\""),
        ("time", "\"1990-12-10\"", &[], "\"1990-12-10\""),
        ("time", "1709631000", &[], "\"2024-03-05T09:30:00Z\""),
        ("time", "1709631000250", &[], "\"2024-03-05T09:30:00.250Z\""),
        ("time", "\"soon\"", &[], "absent"),
        ("time", "\"2024-13-05\"", &[], "absent"),
        ("time", "true", &[], "absent"),
    ]);
}

#[test]
fn waits_are_milliseconds_from_now() {
    check(&[
        ("wait", "30", &[], "30000"),
        ("wait", "0.65", &[], "650"),
        ("wait", "\"30\"", &[], "30000"),
        ("wait", "\"30 s\"", &[], "30000"),
        ("wait", "\"5min\"", &[], "300000"),
        ("wait", "1785585610", &[], "5000"),
        ("wait", "1785585610250", &[], "5250"),
        ("wait", "1785585600", &[], "0"),
        ("wait", "\"Sat, 01 Aug 2026 12:00:15 GMT\"", &[], "10000"),
        ("wait", "\"Sat, 01 Aug 2020 12:00:15 GMT\"", &[], "0"),
        ("wait", "-1", &[], "absent"),
        ("wait", "\"inf\"", &[], "absent"),
        ("wait", "1e300", &[], "absent"),
        ("wait", "\"soon\"", &[], "absent"),
        ("wait", "true", &[], "absent"),
    ]);
}

#[test]
fn durations() {
    for (text, ms) in [
        ("10 s", Some(10_000)),
        ("24 h", Some(86_400_000)),
        ("250ms", Some(250)),
        ("1 d", Some(86_400_000)),
        ("2 weeks", None),
        ("s", None),
        ("10", None),
        ("-1 s", None),
        ("99999999999999999999 s", None),
    ] {
        assert_eq!(duration(text).map(|duration| duration.as_millis()), ms, "{text}");
    }
}

#[test]
fn structures() {
    check(&[
        ("list", "\"a\"", &[], "[\"a\"]"),
        ("list", "[1,2]", &[], "[1,2]"),
        ("list", "[]", &[], "[]"),
        ("list", "{\"a\":1}", &[], "[{\"a\":1}]"),
        ("list", "null", &[], "absent"),
        ("last", "[1,\"us20\"]", &[], "\"us20\""),
        ("last", "[]", &[], "absent"),
        ("last", "\"a\"", &[], "absent"),
        ("flat", "[[0,1],[2],3,[]]", &[], "[0,1,2,3]"),
        ("flat", "[]", &[], "absent"),
        ("keys", "{\"é\":1,\"b\":null}", &[], "[\"é\",\"b\"]"),
        ("keys", "{}", &[], "absent"),
        ("keys", "[1]", &[], "absent"),
        ("values", "{\"a\":1,\"b\":[2]}", &[], "[1,[2]]"),
        ("values", "\"a\"", &[], "absent"),
        ("json", "{\"a\":[1,\"é\\\"\"]}", &[], "\"{\\\"a\\\":[1,\\\"é\\\\\\\"\\\"]}\""),
        ("json", "null", &[], "\"null\""),
    ]);
}

#[test]
fn tables_ignore_case() {
    let gender = Table::map([
        ("Male".to_owned(), Value::text("M")),
        ("female".to_owned(), Value::text("F")),
        ("MALE".to_owned(), Value::text("X")),
        ("true".to_owned(), Value::Bool(false)),
        ("Élève".to_owned(), Value::text("E")),
        ("2".to_owned(), Value::whole(20)),
    ]);
    let list = Table::list(["Anonymous".to_owned(), "[object Object]".to_owned()]);
    let empty = Table::default();
    for (name, input, table, expected) in [
        ("map", "\"male\"", &gender, "\"M\""),
        ("map", "\"FEMALE\"", &gender, "\"F\""),
        ("map", "true", &gender, "false"),
        ("map", "2", &gender, "20"),
        ("map", "\"ÉLÈVE\"", &gender, "\"E\""),
        ("map", "\"other\"", &gender, "absent"),
        ("map", "null", &gender, "absent"),
        ("map", "[]", &gender, "absent"),
        ("in", "\"ANONYMOUS\"", &list, "\"ANONYMOUS\""),
        ("in", "\"ada\"", &list, "absent"),
        ("not_in", "\"[Object object]\"", &list, "absent"),
        ("not_in", "\"ada\"", &list, "\"ada\""),
        ("not_in", "\"ada\"", &empty, "\"ada\""),
        ("in", "\"ada\"", &empty, "absent"),
    ] {
        let value = apply(function(name).unwrap(), constant(input), &[Arg::Table(table)], 0);
        assert_eq!(written(value), expected, "{input} | {name}");
    }
    assert_eq!(list.names(), ["Anonymous", "[object Object]"]);
}

#[test]
fn literals_are_checked_at_load() {
    for (name, position, literal, wrong) in [
        ("format", 0, "%Y-%m-%d", false),
        ("format", 0, "%Q", true),
        ("escape", 0, "html", false),
        ("escape", 0, "backslash", false),
        ("ending", 0, "", true),
        ("escape", 0, "sql", true),
        ("cut", 0, "255", false),
        ("cut", 0, "0", true),
        ("cut", 0, "-1", true),
        ("times", 0, "0.5", false),
        ("times", 0, "x", true),
        ("keep", 0, "^", true),
        ("replace", 1, "", false),
        ("after", 0, "", true),
        ("is", 3, "", false),
        ("lower", 0, "", false),
    ] {
        assert_eq!(
            check_literal(function(name).unwrap(), position, literal).is_some(),
            wrong,
            "{name} {literal}"
        );
    }
}

#[test]
fn names_are_unique_and_control_passes() {
    for (position, one) in FUNCTIONS.iter().enumerate() {
        assert!(FUNCTIONS.iter().skip(position + 1).all(|other| other.name != one.name), "{}", one.name);
        assert!(!one.repeats || !one.args.is_empty());
    }
    assert_eq!(run("required", "1", &[]), "1");
    assert!(function("eval").is_none());
}

proptest! {
    #[test]
    fn nothing_panics_on_any_text(text in any::<String>(), arg in any::<String>()) {
        for function in FUNCTIONS {
            let args: Vec<Arg<'_>> = (0..function.args.len()).map(|_| Arg::Value(Some(Value::text(arg.clone())))).collect();
            let _ = written(apply(function, Value::text(text.clone()), &args, NOW_MS));
            let _ = check_literal(function, 0, &arg);
        }
    }

    #[test]
    fn nothing_panics_on_any_date(ms in any::<i64>(), day in any::<i32>()) {
        for function in FUNCTIONS {
            for date in [Date::Moment(ms), Date::Day(day)] {
                let args: Vec<Arg<'_>> = (0..function.args.len()).map(|_| Arg::Value(Some(Value::text("%Y")))).collect();
                let _ = written(apply(function, Value::Date(date), &args, ms));
            }
        }
    }

    #[test]
    fn a_number_as_text_is_the_same_number(number in any::<i64>(), fraction in 0u32..1000) {
        let text = format!("\"{number}.{fraction:03}\"");
        let as_number: f64 = run("num", &text, &[]).parse().unwrap();
        prop_assert_eq!(as_number, text.trim_matches('"').parse::<f64>().unwrap());
        prop_assert_eq!(run("int", &text, &[]), number.to_string());
    }
}
