//! The tracking API through a real socket: what SDKs send, byte by byte, and what they are answered. Tests named
//! `row_N…` are the rows of the protocol reference's table of tricky inputs.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::http::Client;
use crate::support::server::{Server, assert_ok, assert_refused, basic, identify, settings, source};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fanout::http::Limits;
use fanout::ingest::Settings;
use fanout::queue::AppendError;
use fanout_sdk::event::CallType;
use fanout_sdk::names::Names;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

const BAD_KEY: &str = "no-such-key";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn every_call_path_takes_its_type() {
    let server = Server::start().await;
    server.all_types.store(true, Ordering::Relaxed);
    for (path, call_type) in [
        ("/v1/identify", "identify"),
        ("/v1/i", "identify"),
        ("/v1/track", "track"),
        ("/v1/t", "track"),
        ("/v1/page", "page"),
        ("/v1/p", "page"),
        ("/v1/screen", "screen"),
        ("/v1/s", "screen"),
        ("/v1/group", "group"),
        ("/v1/g", "group"),
        ("/v1/alias", "alias"),
        ("/v1/a/", "alias"),
    ] {
        // The path's type wins over the body's.
        let call =
            json!({"userId": "u", "type": "merge", "writeKey": "web-key", "previousId": "p", "event": "e"});
        assert_ok(&server.post(path, call).await);
        let journal = server.journal();
        assert_eq!(journal.len(), 1, "{path}");
        assert_eq!(journal[0]["type"], call_type, "{path}");
        assert_eq!(journal[0].get("writeKey"), None, "{path}");
    }
}

#[tokio::test]
async fn only_identify_calls_are_kept_unless_somebody_takes_all() {
    let server = Server::start().await;
    assert_ok(&server.post("/v1/track", json!({"userId": "u", "event": "e"})).await);
    assert_eq!(server.journal().len(), 0);
    assert!(server.metric(r#"fanout_calls_total{source="web",type="track",result="unsupported"} 1"#));
    server.all_types.store(true, Ordering::Relaxed);
    assert_ok(&server.post("/v1/track", json!({"userId": "u", "event": "e"})).await);
    let entries = server.queue.take();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].kind, CallType::Track as u8);
}

#[tokio::test]
async fn entries_carry_the_keys_of_user_and_message() {
    let server = Server::start().await;
    let both = json!({"userId": "u", "anonymousId": "a", "messageId": "1"});
    for (key, call) in [
        ("web-key", both),
        ("app-key", json!({"userId": "u", "messageId": "1"})),
        ("web-key", json!({"anonymousId": "u", "messageId": "2"})),
        ("web-key", json!({"anonymousId": "a"})),
    ] {
        let (key, call) = (basic(key), call.to_string());
        assert_ok(&server.send("POST", "/v1/identify", &[("Authorization", &key)], call.as_bytes()).await);
    }
    let entries = server.queue.take();
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[0].order_key, entries[1].order_key, "across sources");
    assert_eq!(entries[0].order_key, entries[2].order_key);
    assert_ne!(entries[0].order_key, entries[3].order_key);
    assert_ne!(entries[0].message_key, entries[1].message_key, "by source");
    assert_ne!(entries[0].source, entries[1].source);
    assert!(!entries[3].payload.message_id().is_empty(), "made up");
    assert!(entries.iter().all(|entry| entry.kind == CallType::Identify as u8));
    assert!(entries[0].received_at_ms > 1_600_000_000_000);
    assert_eq!(entries[0].received_at_ms, entries[0].payload.received_at_ms());
}

#[tokio::test]
async fn row_1_java_posts_to_import_with_a_slash_and_the_key_in_the_body() {
    let server = Server::start().await;
    let body = json!({"batch": [identify("u")], "sentAt": "2026-01-01T00:00:00Z", "writeKey": "web-key"});
    assert_ok(&server.send("POST", "/v1/import/", &[], body.to_string().as_bytes()).await);
    assert_eq!(server.journal().len(), 1);
}

#[tokio::test]
async fn row_2_rudderstack_node_sends_gzip_as_a_form() {
    let server = Server::start().await;
    let key = basic("web-key:");
    let headers = [
        ("Authorization", key.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Encoding", "gzip"),
    ];
    let body = gzip(json!({"batch": [identify("u")]}).to_string().as_bytes());
    assert_ok(&server.send("POST", "/v1/batch", &headers, &body).await);
    assert_eq!(server.journal()[0]["userId"], "u");
}

#[tokio::test]
async fn row_3_a_page_posts_text_without_authorization() {
    let server = Server::start().await;
    let headers = [("Content-Type", "text/plain"), ("Origin", "https://shop.example")];
    let body = json!({"userId": "u", "writeKey": "web-key"}).to_string();
    let reply = server.send("POST", "/v1/i", &headers, body.as_bytes()).await;
    assert_ok(&reply);
    assert_eq!(reply.header("access-control-allow-origin"), "https://shop.example");
    assert_eq!(reply.header("access-control-allow-credentials"), "true");
    assert_eq!(reply.header("vary"), "Origin");
    assert_eq!(server.journal().len(), 1);
}

#[tokio::test]
async fn row_4_a_preflight_is_answered() {
    let server = Server::start().await;
    let headers = [
        ("Origin", "https://shop.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,x-retry-count"),
    ];
    let reply = server.send("OPTIONS", "/v1/i", &headers, b"").await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    assert_eq!(reply.header("access-control-allow-headers"), "authorization,x-retry-count");
    assert_eq!(reply.header("access-control-allow-origin"), "https://shop.example");
    assert_eq!(reply.header("access-control-allow-credentials"), "true");
    assert_eq!(reply.header("access-control-max-age"), "900");
    assert!(reply.header("access-control-allow-methods").contains("POST"));
}

#[tokio::test]
async fn row_5_a_page_can_read_when_to_try_again() {
    let server = Server::start().await;
    server.queue.fail_with(Some(AppendError::Full("disk".to_owned())));
    let headers = [("Origin", "https://shop.example")];
    let body = json!({"userId": "u", "writeKey": "web-key"}).to_string();
    let reply = server.send("POST", "/v1/i", &headers, body.as_bytes()).await;
    assert_refused(&reply, 503, "queue_full");
    assert!((1..=300).contains(&reply.header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(reply.header("access-control-expose-headers"), "Retry-After");
}

#[tokio::test]
async fn row_6_broken_and_exploding_gzip_is_refused() {
    let server = Server::start().await;
    let key = basic("web-key:");
    let headers = [("Authorization", key.as_str()), ("Content-Encoding", "gzip")];
    let mut cut = gzip(json!({"batch": [identify("u")]}).to_string().as_bytes());
    cut.truncate(cut.len() / 2);
    let bomb = gzip(&vec![b' '; 20 << 20]);
    let mut client = Client::connect(server.address).await;
    for (body, code) in [(cut, "encoding_invalid"), (bomb, "body_too_large")] {
        assert_refused(&client.send("POST", "/v1/batch", &headers, &body).await, 400, code);
    }
    assert_eq!(server.journal().len(), 0);
}

#[tokio::test]
async fn row_7_plain_json_that_says_gzip() {
    let server = Server::start().await;
    let key = basic("web-key:");
    for encoding in ["gzip", "deflate"] {
        let headers = [("Authorization", key.as_str()), ("Content-Encoding", encoding)];
        let reply = server.send("POST", "/v1/identify", &headers, identify("u").to_string().as_bytes()).await;
        assert_refused(&reply, 400, "encoding_invalid");
    }
    let headers = [("Authorization", key.as_str()), ("Content-Encoding", "br")];
    let reply = server.send("POST", "/v1/identify", &headers, b"x").await;
    assert_refused(&reply, 400, "encoding_unsupported");
}

#[tokio::test]
async fn deflate_is_inflated() {
    let server = Server::start().await;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(identify("u").to_string().as_bytes()).unwrap();
    let key = basic("web-key:");
    let headers = [("Authorization", key.as_str()), ("Content-Encoding", "deflate")];
    assert_ok(&server.send("POST", "/v1/identify", &headers, &encoder.finish().unwrap()).await);
    assert_eq!(server.journal()[0]["userId"], "u");
}

#[tokio::test]
async fn row_8_basic_authorization_without_a_colon() {
    let server = Server::start().await;
    let key = basic("web-key");
    assert_ok(
        &server
            .send("POST", "/v1/identify", &[("Authorization", &key)], identify("u").to_string().as_bytes())
            .await,
    );
}

#[tokio::test]
async fn row_9_two_keys_that_differ() {
    let server = Server::start().await;
    let key = basic("web-key:");
    let body = json!({"batch": [identify("u")], "writeKey": "app-key"}).to_string();
    for (path, headers) in
        [("/v1/batch", vec![("Authorization", key.as_str())]), ("/v1/batch?writeKey=web-key", vec![])]
    {
        let reply = server.send("POST", path, &headers, body.as_bytes()).await;
        assert_refused(&reply, 401, "write_key_conflict");
    }
    assert_eq!(server.journal().len(), 0);
}

#[tokio::test]
async fn keys_and_tokens_that_are_wrong() {
    let server = Server::start().await;
    let web = basic("web-key:");
    let bad = basic(&format!("{BAD_KEY}:"));
    let old = basic("old-key:");
    let mut client = Client::connect(server.address).await;
    for (path, header, body_key, expected) in [
        ("/v1/identify", None, None, "write_key_missing"),
        ("/v1/identify", Some(bad.as_str()), None, "unknown_source"),
        ("/v1/identify", None, Some(BAD_KEY), "unknown_source"),
        ("/v1/identify?writeKey=no-such-key", None, None, "unknown_source"),
        ("/v1/identify", Some("Basic ***"), None, "authorization_malformed"),
        ("/v1/identify", Some(old.as_str()), None, "source_disabled"),
        ("/v1/identify", Some("Bearer wrong"), Some("oauth-key"), "bearer_token_invalid"),
        ("/v1/identify", Some("Bearer wrong"), None, "write_key_missing"),
        // D-2: a token means nothing where none is configured.
        ("/v1/identify", Some("Bearer wrong"), Some("web-key"), ""),
        ("/v1/identify", Some("Bearer token"), Some("oauth-key"), ""),
        ("/v1/identify", Some("Bearer token"), None, ""),
        ("/v1/identify?writeKey=web-key", None, None, ""),
        ("/v1/identify?writeKey=web-key", Some(web.as_str()), Some("web-key"), ""),
    ] {
        let mut call = identify("u");
        if let Some(key) = body_key {
            call["writeKey"] = key.into();
        }
        let headers: Vec<_> = header.iter().map(|value| ("Authorization", *value)).collect();
        // One connection for all: a refusal does not end it.
        let reply = client.send("POST", path, &headers, call.to_string().as_bytes()).await;
        match expected {
            "" => assert_ok(&reply),
            code => assert_refused(&reply, 401, code),
        }
    }
    assert!(server.metric(r#"fanout_calls_total{source="",type="unknown",result="unauthorised"} 8"#));
}

#[tokio::test]
async fn pages_of_other_origins_may_be_shut_out() {
    let server = Server::start().await;
    let key = basic("shop-key:");
    for (origin, status) in
        [(None, 200), (Some("https://shop.example"), 200), (Some("https://evil.example"), 401)]
    {
        let mut headers = vec![("Authorization", key.as_str())];
        headers.extend(origin.map(|origin| ("Origin", origin)));
        let reply = server.send("POST", "/v1/i", &headers, identify("u").to_string().as_bytes()).await;
        assert_eq!(reply.status, status, "{origin:?}");
    }
}

#[tokio::test]
async fn row_10_batches_that_are_empty_or_none() {
    let server = Server::start().await;
    assert_ok(&server.post("/v1/batch", json!({"batch": []})).await);
    assert!(server.metric(r#"fanout_warnings_total{kind="empty_batch"} 1"#));
    assert_refused(&server.post("/v1/batch", json!({})).await, 400, "batch_missing");
    assert_refused(&server.post("/v1/batch", json!({"batch": {}})).await, 400, "batch_not_list");
    let key = basic("web-key:");
    for body in ["[]", "null", "1", "\"x\""] {
        let reply = server.send("POST", "/v1/batch", &[("Authorization", &key)], body.as_bytes()).await;
        assert_refused(&reply, 400, "not_an_object");
        let reply = server.send("POST", "/v1/identify", &[("Authorization", &key)], body.as_bytes()).await;
        assert_refused(&reply, 400, "not_an_object");
    }
    let reply = server.send("POST", "/v1/batch", &[("Authorization", &key)], b"").await;
    assert_refused(&reply, 400, "invalid_json");
}

#[tokio::test]
async fn row_11_a_call_without_ids_is_rejected_alone() {
    let server = Server::start().await;
    let batch = json!({"batch": [identify("a"), {"type": "identify", "traits": {}}, identify("b")]});
    let reply = server.post("/v1/batch", batch).await;
    let body = reply.json();
    assert_eq!((reply.status, &body["success"]), (200, &true.into()));
    assert_eq!(body["rejected"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&body["rejected"][0]["index"], &body["rejected"][0]["code"]),
        (&1.into(), &"no_user_anon_id".into())
    );
    let users: Vec<Value> = server.journal().into_iter().map(|call| call["userId"].clone()).collect();
    assert_eq!(users, ["a", "b"]);
    // Also when none is left.
    let reply = server.post("/v1/batch", json!({"batch": [{"type": "identify"}, 1]})).await;
    assert_eq!((reply.status, reply.json()["rejected"].as_array().map(Vec::len)), (200, Some(2)));
}

#[tokio::test]
async fn a_strict_source_takes_all_or_nothing() {
    let server = Server::start().await;
    let key = basic("dev-key:");
    let batch = json!({"batch": [identify("a"), {"type": "identify"}]}).to_string();
    let reply = server.send("POST", "/v1/batch", &[("Authorization", &key)], batch.as_bytes()).await;
    assert_refused(&reply, 400, "batch_rejected");
    assert_eq!(reply.json()["rejected"][0]["index"], 1);
    assert_eq!(server.journal().len(), 0);
    let batch = json!({"batch": [identify("a")]}).to_string();
    assert_ok(&server.send("POST", "/v1/batch", &[("Authorization", &key)], batch.as_bytes()).await);
    assert_eq!(server.journal().len(), 1);
}

#[tokio::test]
async fn row_12_a_batch_of_several_types() {
    let server = Server::start().await;
    let batch = json!({"batch": [
        {"type": "track", "userId": "u", "event": "e"}, identify("u"), {"type": "page", "anonymousId": "a"},
    ]});
    assert_ok(&server.post("/v1/batch", batch).await);
    assert_eq!(server.journal().len(), 1);
    for (call_type, result) in [("track", "unsupported"), ("identify", "accepted"), ("page", "unsupported")] {
        let line = format!(r#"fanout_calls_total{{source="web",type="{call_type}",result="{result}"}} 1"#);
        assert!(server.metric(&line), "{line}");
    }
}

#[tokio::test]
async fn row_13_calls_beyond_the_limit_are_rejected_and_counted() {
    let server = Server::start().await;
    let calls: Vec<Value> =
        (0..2_501).map(|n| json!({"type": "identify", "userId": n, "messageId": n})).collect();
    let reply = server.post("/v1/batch", json!({"batch": calls})).await;
    let body = reply.json();
    assert_eq!(reply.status, 200);
    assert_eq!(body["rejected"].as_array().unwrap().len(), 1);
    assert_eq!(body["rejected"][0]["index"], 2_500);
    assert_eq!(server.journal().len(), 2_500);
    assert!(server.metric(r#"fanout_calls_total{source="web",type="unknown",result="refused"} 1"#));
}

#[tokio::test]
async fn row_14_one_call_that_is_too_large() {
    let server = Server::start().await;
    let mut large = identify("large");
    large["traits"]["bio"] = "x".repeat(33 * 1024).into();
    let fill = || json!({"type": "identify", "userId": "f", "traits": {"bio": "x".repeat(30_000)}});
    let reply = server.post("/v1/batch", json!({"batch": [fill(), large.clone(), fill()]})).await;
    let body = reply.json();
    assert_eq!((reply.status, body["rejected"].as_array().unwrap().len()), (200, 1));
    assert_eq!(
        (&body["rejected"][0]["index"], &body["rejected"][0]["code"]),
        (&1.into(), &"event_too_large".into())
    );
    assert_eq!(server.journal().len(), 2);
    assert_refused(&server.post("/v1/identify", large).await, 400, "event_too_large");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_the_connection_lives() {
    let server = Server::start().await;
    let key = basic("web-key:");
    let mut client = Client::connect(server.address).await;
    let body = vec![b' '; 500 * 1024 + 1];
    let reply = client.send("POST", "/v1/batch", &[("Authorization", &key)], &body).await;
    assert_refused(&reply, 400, "body_too_large");
    let mut exact = json!({"batch": [identify("u")]}).to_string().into_bytes();
    exact.resize(500 * 1024, b' ');
    assert_ok(&client.send("POST", "/v1/batch", &[("Authorization", &key)], &exact).await);
}

#[tokio::test]
async fn a_chunked_body_is_put_together_and_bounded() {
    let server = Server::start().await;
    let mut client = Client::connect(server.address).await;
    let head = format!(
        "POST /v1/b HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        basic("web-key:")
    );
    let body = json!({"batch": [identify("u")]}).to_string();
    client.write(head.as_bytes()).await;
    for piece in body.as_bytes().chunks(7) {
        client.write(format!("{:x}\r\n", piece.len()).as_bytes()).await;
        client.write(piece).await;
        client.write(b"\r\n").await;
    }
    client.write(b"0\r\n\r\n").await;
    assert_ok(&client.read(false).await.unwrap());
    client.write(head.as_bytes()).await;
    let piece = vec![b' '; 100 * 1024];
    for _ in 0..6 {
        client.write(format!("{:x}\r\n", piece.len()).as_bytes()).await;
        client.write(&piece).await;
        client.write(b"\r\n").await;
    }
    client.write(b"0\r\n\r\n").await;
    assert_refused(&client.read(false).await.unwrap(), 400, "body_too_large");
}

#[tokio::test]
async fn rows_15_to_20_ids_and_traits() {
    let server = Server::start().await;
    for (call, refused) in [
        (json!({"userId": 123}), None),
        (json!({"userId": "", "anonymousId": "  "}), Some("no_user_anon_id")),
        (json!({"userId": null, "anonymousId": "a"}), None),
        (json!({"userId": true}), Some("id_not_string")),
        (json!({"userId": "u", "traits": []}), None),
        (json!({"userId": "u", "traits": null}), None),
        (json!({"userId": "u", "traits": "x"}), Some("traits_not_object")),
        (json!({"userId": "u", "traits": [1]}), Some("traits_not_object")),
        (json!({"userId": "u", "context": {"traits": {"email": "a@b.c"}}}), None),
    ] {
        let reply = server.post("/v1/identify", call).await;
        match refused {
            None => assert_ok(&reply),
            Some(code) => assert_refused(&reply, 400, code),
        }
    }
}

#[tokio::test]
async fn row_21_go_gives_context_to_the_batch_only() {
    let server = Server::start().await;
    let batch = json!({
        "messageId": "b", "sentAt": "2026-01-01T00:00:00Z", "context": {"library": {"name": "analytics-go"}},
        "batch": [{"type": "identify", "userId": "u", "messageId": "m"}],
    });
    assert_ok(&server.post("/v1/batch", batch).await);
    let journal = server.journal();
    assert_eq!(journal[0]["context"]["library"]["name"], "analytics-go");
    assert_eq!(journal[0]["sentAt"], "2026-01-01T00:00:00Z");
    assert_eq!(journal[0]["messageId"], "m");
}

#[tokio::test]
async fn a_context_that_would_fill_the_memory_is_refused() {
    let server = Server::start().await;
    let calls = vec![json!({"type": "identify", "userId": "u"}); 2_500];
    let batch = json!({"batch": calls, "context": {"x": "x".repeat(30_000)}});
    assert_refused(&server.post("/v1/batch", batch.clone()).await, 400, "batch_too_large");
    // However large a body may be, the queue's own limit is not passed: it would answer 503 for ever.
    let settings = Settings { max_body_bytes: fanout::ingest::MAX_BODY_BYTES, ..settings() };
    let generous = Server::with(settings, Limits::default(), None).await;
    let calls = vec![json!({"type": "identify", "userId": "u"}); 1_000];
    let batch = json!({"batch": calls, "context": {"x": "x".repeat(30_000)}});
    assert_refused(&generous.post("/v1/batch", batch).await, 400, "batch_too_large");
}

#[tokio::test]
async fn rows_29_and_31_repeated_calls_are_success() {
    let server = Server::start().await;
    assert_ok(&server.post("/v1/batch", json!({"batch": [identify("u"), identify("u")]})).await);
    let key = basic("web-key:");
    let headers = [("Authorization", key.as_str()), ("X-Retry-Count", "1")];
    let again = json!({"batch": [identify("u")]}).to_string();
    assert_ok(&server.send("POST", "/v1/batch", &headers, again.as_bytes()).await);
    let other = basic("app-key:");
    assert_ok(&server.send("POST", "/v1/batch", &[("Authorization", &other)], again.as_bytes()).await);
    assert_eq!(server.journal().len(), 2, "one for each source");
    assert!(server.metric(r#"fanout_calls_total{source="web",type="identify",result="duplicate"} 2"#));
}

#[tokio::test]
async fn row_30_odd_message_ids() {
    let server = Server::start().await;
    for id in [json!("x".repeat(101)), json!("a\u{0}\u{200b}b"), json!(5)] {
        assert_ok(&server.post("/v1/identify", json!({"userId": "u", "messageId": id})).await);
    }
    let ids: Vec<String> =
        server.queue.take().iter().map(|entry| entry.payload.message_id().to_owned()).collect();
    assert_eq!(ids, ["x".repeat(101), "ab".to_owned(), "5".to_owned()]);
    assert!(server.metric(r#"fanout_warnings_total{kind="message_id_long"} 1"#));
}

#[tokio::test]
async fn row_53_settings_for_analytics_js() {
    let server = Server::start().await;
    let headers = [("Origin", "https://shop.example"), ("Host", "localhost:9000")];
    let reply = server.send("GET", "/v1/projects/web-key/settings", &headers, b"").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
    assert_eq!(reply.header("access-control-allow-origin"), "https://shop.example");
    let segment = &reply.json()["integrations"]["Segment.io"];
    assert_eq!(
        segment,
        &json!({
            "apiKey": "web-key", "apiHost": "localhost:9000/v1", "protocol": "http", "addBundledMetadata": true,
        })
    );
    assert_eq!(reply.json()["metrics"]["sampleRate"], 0);
    let forwarded =
        server.send("GET", "/v1/projects/web-key/settings", &[("X-Forwarded-Proto", "https")], b"").await;
    assert_eq!(forwarded.json()["integrations"]["Segment.io"]["protocol"], "https");
    for key in [BAD_KEY, "old-key"] {
        let reply = server.send("GET", &format!("/v1/projects/{key}/settings"), &[], b"").await;
        // It stands in the browser's console, where the page's author looks.
        assert_refused(&reply, 404, "unknown_source");
        assert!(reply.json()["message"].as_str().is_some_and(|message| message.contains("check the key")));
        assert_eq!(reply.json().get("integrations"), None);
    }
    let public = Settings { public_url: Some("https://track.example.com/x".to_owned()), ..settings() };
    server.ingest.replace(public, Arc::new(Names::default()));
    let host = [("Host", "track.example.com")];
    let reply = server.send("GET", "/v1/projects/web-key/settings", &host, b"").await;
    let segment = &reply.json()["integrations"]["Segment.io"];
    assert_eq!(
        (&segment["apiHost"], &segment["protocol"]),
        (&"track.example.com/x/v1".into(), &"https".into())
    );
}

#[tokio::test]
async fn rudderstack_start_up_requests() {
    let server = Server::start().await;
    let key = basic("web-key:");
    for (path, headers) in [
        ("/sourceConfig/?writeKey=web-key", vec![]),
        ("/sourceConfig", vec![("Authorization", key.as_str())]),
    ] {
        let reply = server.send("GET", path, &headers, b"").await;
        assert_eq!((reply.status, &reply.json()["source"]["id"]), (200, &"web".into()), "{path}");
    }
    let reply = server.send("GET", "/sourceConfig/?writeKey=no-such-key", &[], b"").await;
    assert_refused(&reply, 401, "unknown_source");
    assert_eq!(server.send("GET", "/cluster-info", &[], b"").await.text(), r#"{"nodeCount":1}"#);
}

#[tokio::test]
async fn row_54_texts_that_are_hardly_json() {
    let server = Server::start().await;
    let key = basic("web-key:");
    let deep =
        format!("{{\"userId\":\"u\",\"traits\":{{\"a\":{}{}}}}}", "[".repeat(10_000), "]".repeat(10_000));
    for (body, refused) in [
        (&br#"{"userId":"a","userId":"last"}"#[..], None),
        (br#"{"userId":"last","traits":{"a":"\ud800"}}"#, None),
        (b"\xef\xbb\xbf{\"userId\":\"last\"}", None),
        (br#"{"userId":"u","traits":{"a":NaN}}"#, Some("invalid_json")),
        (deep.as_bytes(), Some("invalid_json")),
        (b"{\"userId\":\"\xff\"}", Some("invalid_json")),
        (br#"{"userId":"u""#, Some("invalid_json")),
    ] {
        let reply = server.send("POST", "/v1/identify", &[("Authorization", &key)], body).await;
        match refused {
            None => {
                assert_ok(&reply);
                assert_eq!(server.queue.take()[0].payload.user_id(), Some("last"));
            }
            Some(code) => assert_refused(&reply, 400, code),
        }
    }
}

#[tokio::test]
async fn row_55_pixels_always_show() {
    let server = Server::start().await;
    let call = json!({"userId": "u", "writeKey": "web-key", "traits": {"name": "ü?>~"}}).to_string();
    let data = BASE64_URL_SAFE_NO_PAD.encode(&call);
    for (path, kept) in [
        (format!("/v1/pixel/identify?data={data}"), 1),
        ("/v1/pixel/identify?userId=u&traits.email=a%40b.c&writeKey=web-key".to_owned(), 1),
        ("/v1/pixel/identify?data=***".to_owned(), 0),
        ("/v1/pixel/identify".to_owned(), 0),
        (format!("/v1/pixel/identify?userId=u&writeKey={BAD_KEY}"), 0),
        ("/v1/pixel/track?userId=u&writeKey=web-key".to_owned(), 0),
        ("/pixel/v1/page?userId=u&writeKey=web-key".to_owned(), 0),
    ] {
        let reply = server.send("GET", &path, &[], b"").await;
        assert_eq!((reply.status, reply.header("content-type")), (200, "image/gif"), "{path}");
        assert!(reply.body.starts_with(b"GIF89a"));
        assert_eq!(server.journal().len(), kept, "{path}");
    }
    assert!(server.metric(r#"fanout_calls_total{source="web",type="track",result="unsupported"} 1"#));
    assert_eq!(server.send("HEAD", &format!("/v1/pixel/identify?data={data}"), &[], b"").await.status, 405);
    assert_eq!(server.journal().len(), 0);
    server.queue.fail_with(Some(AppendError::Closed));
    let reply = server.send("GET", &format!("/v1/pixel/identify?data={data}"), &[], b"").await;
    assert_eq!((reply.status, reply.header("content-type")), (503, "image/gif"));
}

#[tokio::test]
async fn row_58_what_cannot_be_made_durable_is_not_acknowledged() {
    let server = Server::start().await;
    for (error, code) in [
        (AppendError::Full("secret detail".to_owned()), "queue_full"),
        (AppendError::Failed("secret detail".to_owned()), "queue_failed"),
        (AppendError::Closed, "shutting_down"),
    ] {
        server.queue.fail_with(Some(error));
        let reply = server.post("/v1/batch", json!({"batch": [identify("u")]})).await;
        assert_refused(&reply, 503, code);
        assert!(!reply.text().contains("secret"));
    }
    server.queue.fail_with(None);
    assert_ok(&server.post("/v1/batch", json!({"batch": [identify("u")]})).await);
    assert!(server.metric(r#"fanout_calls_total{source="web",type="identify",result="unavailable"} 3"#));
}

#[tokio::test]
async fn beacons_and_client_metrics() {
    let server = Server::start().await;
    let body = json!({"batch": [identify("u")], "sentAt": "2026-01-01T00:00:00Z"}).to_string();
    let text = [("Content-Type", "text/plain")];
    assert_ok(&server.send("POST", "/beacon/v1/batch?writeKey=web-key", &text, body.as_bytes()).await);
    assert_eq!(server.journal().len(), 1);
    assert_ok(&server.send("POST", "/v1/m", &text, br#"{"series":[]}"#).await);
}

#[tokio::test]
async fn unknown_paths_methods_and_names() {
    let server = Server::start().await;
    let mut client = Client::connect(server.address).await;
    assert_refused(&client.send("POST", "/v1/merge", &[], b"{}").await, 404, "not_found");
    assert_refused(&client.send("GET", "/", &[], b"").await, 404, "not_found");
    let reply = client.send("GET", "/v1/batch", &[], b"").await;
    assert_refused(&reply, 405, "method_not_allowed");
    assert_eq!(reply.header("allow"), "POST");
    assert_eq!(client.send("HEAD", "/cluster-info", &[], b"").await.status, 200);
    let reply = client.send("GET", "/cluster-info", &[("Host", "evil.example")], b"").await;
    assert_refused(&reply, 400, "host_not_allowed");
    assert_eq!(reply.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn settings_can_be_replaced_while_connections_are_open() {
    let server = Server::start().await;
    let mut client = Client::connect(server.address).await;
    let key = basic("new-key:");
    let body = identify("u").to_string();
    let headers = [("Authorization", key.as_str())];
    assert_refused(&client.send("POST", "/v1/i", &headers, body.as_bytes()).await, 401, "unknown_source");
    let settings = Settings { sources: vec![source("web", "new-key")], ..Settings::default() };
    server.ingest.replace(settings, Arc::new(Names::default()));
    assert_ok(&client.send("POST", "/v1/i", &headers, body.as_bytes()).await);
}

#[tokio::test]
async fn the_caller_s_address_is_filled_in_when_asked_for() {
    let fill =
        Settings { fill_ip: true, trusted_proxies: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], ..settings() };
    let server = Server::with(fill, Limits::default(), None).await;
    let key = basic("web-key:");
    let call = json!({"userId": "u", "context": {"library": {"name": "analytics.js"}, "ip": ""}}).to_string();
    for (forwarded, expected) in [
        (None, "127.0.0.1"),
        (Some("203.0.113.9"), "203.0.113.9"),
        (Some("1.1.1.1, 203.0.113.9"), "203.0.113.9"),
        (Some("garbage"), "127.0.0.1"),
    ] {
        let mut headers = vec![("Authorization", key.as_str())];
        headers.extend(forwarded.map(|forwarded| ("X-Forwarded-For", forwarded)));
        assert_ok(&server.send("POST", "/v1/i", &headers, call.as_bytes()).await);
        assert_eq!(server.journal()[0]["context"]["ip"], expected, "{forwarded:?}");
    }
    server.ingest.replace(Settings { fill_ip: false, ..settings() }, Arc::new(Names::default()));
    assert_ok(&server.send("POST", "/v1/i", &[("Authorization", &key)], call.as_bytes()).await);
    assert_eq!(server.journal()[0]["context"]["ip"], "");
}

/// Texts that are nearly a request: pieces of one in any order.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("{\"batch\":["),
        Just("]}"),
        Just("{\"userId\":\"u\","),
        Just("\"writeKey\":\"web-key\""),
        Just("\"traits\":{\"a\":"),
        Just("{}"),
        Just("null"),
        Just("1e999"),
        Just("\"\\ud800\""),
        Just(","),
        Just("}"),
        Just("\u{feff}"),
    ];
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes()),
    ]
}

#[test]
fn whatever_is_sent_is_answered_in_the_agreed_form() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start());
    let paths =
        ["/v1/batch", "/v1/i", "/v1/alias/", "/v1/import", "/v1/m", "/nowhere", "/v1/batch?writeKey=web-key"];
    let encodings = ["", "gzip", "deflate", "identity", "br"];
    let request = (
        nearly_json(),
        proptest::sample::select(paths.to_vec()),
        proptest::sample::select(encodings.to_vec()),
    );
    let mut runner = TestRunner::new(Config { cases: 256, ..Config::with_source_file(file!()) });
    let checked = runner.run(&request, |(body, path, encoding)| {
        let reply = runtime.block_on(async {
            let headers = [("Content-Encoding", encoding), ("Authorization", "Basic d2ViLWtleTo=")];
            server.send("POST", path, &headers, &body).await
        });
        let answer = reply.json();
        match reply.status {
            200 => prop_assert_eq!(&answer["success"], true),
            400 | 401 | 404 => prop_assert!(answer["code"].is_string() && answer["message"].is_string()),
            other => prop_assert!(false, "{}", other),
        }
        Ok(())
    });
    checked.unwrap();
}
