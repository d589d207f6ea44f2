//! The sandbox from the outside.

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanout_sdk::destination::{Answer, NoAnswer, Request, Transport};
use serde_json::{Value, json};

use super::*;
use crate::clock::SystemClock;
use crate::transport::{self, HttpTransport};

struct Client {
    sandbox: Sandbox,
    http: HttpTransport,
}

async fn start(options: Options<'_>) -> Client {
    let sandbox = Sandbox::start("127.0.0.1:0", options, Arc::new(SystemClock)).await.unwrap();
    let options = transport::Options { allow_private_networks: true, ..Default::default() };
    Client { sandbox, http: HttpTransport::new(&options).unwrap() }
}

impl Client {
    async fn ask(&self, method: &'static str, path: &str, body: &str) -> Result<Answer, NoAnswer> {
        self.send(method, path, Vec::new(), body.to_owned().into()).await
    }

    async fn send(
        &self,
        method: &'static str,
        path: &str,
        headers: Vec<(String, String)>,
        body: Bytes,
    ) -> Result<Answer, NoAnswer> {
        let url = format!("{}{path}", self.sandbox.url());
        let timeout = Duration::from_secs(20);
        self.http.send(&Request { name: "t".into(), method, url, headers, body, timeout }).await
    }

    async fn text(&self, method: &'static str, path: &str, body: &str) -> (u16, String) {
        let answer = self.ask(method, path, body).await.unwrap();
        (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn what_was_received_can_be_listed_counted_and_forgotten() {
    let client = start(Options::default()).await;
    assert_eq!(
        client.text("POST", "/api.example.com/people?x=1", "[{\"a\":1.0},{}]").await,
        (200, "{}".into())
    );
    assert_eq!(client.text("GET", "/other.example.com", "").await.0, 200);

    let (_, lines) = client.text("GET", "/_sandbox/requests", "").await;
    let seen: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (&seen[0]["host"], &seen[0]["path"], &seen[0]["query"]),
        (&json!("api.example.com"), &json!("/people"), &json!("x=1"))
    );
    assert_eq!(
        (&seen[0]["body"], &seen[0]["items"], &seen[0]["status"]),
        (&json!([{"a": 1.0}, {}]), &json!(2), &json!(200))
    );
    assert_eq!((&seen[1]["path"], &seen[1]["method"]), (&json!("/"), &json!("GET")));
    for (query, expected) in
        [("after=1", 1), ("after=2", 0), ("host=*.example.com", 2), ("host=api.*&after=0", 1)]
    {
        let (_, lines) = client.text("GET", &format!("/_sandbox/requests?{query}"), "").await;
        assert_eq!(lines.lines().count(), expected, "{query}");
    }

    let (_, counts) = client.text("GET", "/_sandbox/counts", "").await;
    let counts: Value = serde_json::from_str(&counts).unwrap();
    assert_eq!((&counts["requests"], &counts["items"]), (&json!(2), &json!(2)));
    assert_eq!(counts["hosts"]["api.example.com"], json!({"requests": 1, "items": 2}));

    client.ask("DELETE", "/_sandbox/requests", "").await.unwrap();
    assert_eq!(client.text("GET", "/_sandbox/requests", "").await, (200, String::new()));
}

#[tokio::test]
async fn counting_alone_keeps_nothing() {
    let client = start(Options { count_only: true, ..Options::default() }).await;
    client.ask("POST", "/api.example.com/", "[1,2,3]").await.unwrap();
    assert_eq!(
        (client.sandbox.total(), client.sandbox.requests().len()),
        (Count { requests: 1, items: 3 }, 0)
    );
}

#[tokio::test]
async fn a_vendor_answers_in_its_own_way_and_a_mistake_in_its_file_is_named() {
    let vendor = r#"[{"host":"api.example.com","body":{"taken":"{items}"}}]"#;
    let client = start(Options { vendors: vec![("example", vendor)], count_only: false }).await;
    assert_eq!(client.text("POST", "/api.example.com/x", "[1,2]").await.1, "{\"taken\":2}");

    let broken = Options { vendors: vec![("example", "[{\"stats\":1}]")], count_only: false };
    let Err(error) = Sandbox::start("127.0.0.1:0", broken, Arc::new(SystemClock)).await else {
        panic!("it must fail")
    };
    assert!(
        error.to_string().starts_with("sandbox.json of example: ") && error.to_string().contains("stats"),
        "{error}"
    );
}

#[tokio::test]
async fn answers_can_be_scripted_from_outside() {
    let client = start(Options::default()).await;
    let script = r#"[
        {"host":"a","times":1,"status":429,"headers":{"retry-after":"3"},"body":"slow down"},
        {"host":"a","times":1,"then":"drop"},
        {"host":"a","times":1,"delay_ms":150,"drip_ms":20,"body":"drip"}
    ]"#;
    assert_eq!(client.text("POST", "/_sandbox/answers", script).await.0, 200);
    let throttled = client.ask("POST", "/a/", "").await.unwrap();
    assert_eq!((throttled.status, &throttled.body[..]), (429, &b"slow down"[..]));
    assert!(throttled.headers.contains(&("retry-after".into(), "3".into())));
    assert!(matches!(client.ask("POST", "/a/", "").await, Err(NoAnswer::Connection(_))));
    let start = Instant::now();
    assert_eq!(client.text("POST", "/a/", "").await, (200, "drip".into()));
    assert!(start.elapsed() >= Duration::from_millis(150 + 4 * 20), "{:?}", start.elapsed());
    assert_eq!(client.text("POST", "/a/", "").await, (200, "{}".into()));

    client.text("POST", "/_sandbox/answers", "{\"status\":500}").await;
    assert_eq!(client.text("POST", "/a/", "").await.0, 500);
    client.ask("DELETE", "/_sandbox/answers", "").await.unwrap();
    assert_eq!(client.text("POST", "/a/", "").await.0, 200);
}

#[tokio::test]
async fn compressed_bodies_are_kept_readable() {
    let client = start(Options::default()).await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"[1,2,3]").unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(b"[1,2,3]").unwrap();
    for (encoding, body) in [("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap())] {
        let headers = vec![("content-encoding".to_owned(), encoding.to_owned())];
        assert_eq!(client.send("POST", "/a/", headers, body.into()).await.unwrap().status, 200);
    }
    assert!(client.sandbox.requests().iter().all(|kept| &kept.body[..] == b"[1,2,3]" && kept.items == 3));
    for encoding in ["gzip", "br"] {
        let headers = vec![("content-encoding".to_owned(), encoding.to_owned())];
        assert_eq!(
            client.send("POST", "/a/", headers, "plain".into()).await.unwrap().status,
            400,
            "{encoding}"
        );
    }
}

#[tokio::test]
async fn wrong_use_is_explained() {
    let client = start(Options::default()).await;
    let cases = [
        ("GET", "/", "", 404, "/HOST/PATH"),
        ("GET", "/_sandbox/nonsense", "", 404, "/_sandbox/counts"),
        ("POST", "/_sandbox/answers", "{\"staus\":1}", 400, "staus"),
    ];
    for (method, path, body, status, part) in cases {
        let (got, text) = client.text(method, path, body).await;
        assert!(got == status && text.contains(part), "{method} {path}: {got} {text}");
    }
    assert_eq!(client.sandbox.total().requests, 0);
}
