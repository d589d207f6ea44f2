//! The client against real servers on this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::clock::SystemClock;
use crate::sandbox::Sandbox;

async fn sandbox(script: &str) -> Sandbox {
    let sandbox = Sandbox::start("127.0.0.1:0", Default::default(), Arc::new(SystemClock)).await.unwrap();
    sandbox.script(script).unwrap();
    sandbox
}

fn through(sandbox: &Sandbox) -> HttpTransport {
    HttpTransport::new(&Options { sandbox: Some(sandbox.url()), ..Options::default() }).unwrap()
}

fn post(url: &str) -> Request {
    Request {
        name: "main".into(),
        method: "POST",
        url: url.into(),
        headers: vec![("content-type".into(), "application/json".into()), ("x-a".into(), "ü".into())],
        body: Bytes::from_static(b"[1,2]"),
        timeout: Duration::from_secs(20),
    }
}

#[test]
fn a_sandbox_takes_host_port_path_and_query() {
    let cases = [
        ("http://127.0.0.1:1", "https://a.example/b/c?d=e", "http://127.0.0.1:1/a.example/b/c?d=e"),
        ("http://127.0.0.1:1/", "https://a.example:8443", "http://127.0.0.1:1/a.example:8443/"),
        ("http://box/under/", "http://a.example/%2F?", "http://box/under/a.example/%2F?"),
    ];
    for (sandbox, url, expected) in cases {
        let rewritten = rewritten(&sandbox_address(sandbox).unwrap(), &Url::parse(url).unwrap());
        assert_eq!(rewritten.as_str(), expected);
    }
    for wrong in ["https://127.0.0.1", "nonsense", "file:///tmp"] {
        assert!(matches!(sandbox_address(wrong), Err(ClientError::Sandbox)), "{wrong}");
    }
}

#[tokio::test]
async fn a_request_arrives_as_it_was_made_and_its_answer_comes_back() {
    let sandbox = sandbox(r#"{"status":418,"headers":{"X-Left":"7"},"body":"tea"}"#).await;
    let answer = through(&sandbox).send(&post("https://api.example.com/v1/a%20b?key=1")).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (418, &b"tea"[..]));
    assert!(answer.headers.contains(&("x-left".into(), "7".into())));

    let [got] = &sandbox.requests()[..] else { panic!("one request was sent") };
    assert_eq!(
        (&*got.method, &*got.host, &*got.path, &*got.query),
        ("POST", "api.example.com", "/v1/a%20b", "key=1")
    );
    assert_eq!((&got.body[..], got.items), (&b"[1,2]"[..], 2));
    let header = |name: &str| got.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    assert_eq!(header("x-a").as_deref(), Some("ü"));
    assert_eq!(header("user-agent").unwrap(), concat!("fanout/", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let sandbox =
        sandbox(r#"{"path":"/from","status":307,"headers":{"location":"/api.example.com/to"}}"#).await;
    let answer = through(&sandbox).send(&post("https://api.example.com/from")).await.unwrap();
    assert_eq!((answer.status, sandbox.total().requests), (307, 1));
}

#[tokio::test]
async fn silence_ends_with_the_requests_own_time() {
    let sandbox =
        sandbox(r#"[{"path":"/hang","then":"hang"},{"path":"/drip","drip_ms":60000,"body":"slow"}]"#).await;
    let transport = through(&sandbox);
    for path in ["hang", "drip"] {
        let timeout = Duration::from_millis(300);
        let request = Request { timeout, ..post(&format!("https://api.example.com/{path}")) };
        let start = Instant::now();
        assert_eq!(transport.send(&request).await.unwrap_err(), NoAnswer::Timeout(timeout), "{path}");
        assert!(start.elapsed() >= timeout);
    }
}

#[tokio::test]
async fn an_answer_is_read_up_to_the_limit() {
    let script = serde_json::json!({"body": "x".repeat(MOST_ANSWER_BYTES + 5)}).to_string();
    let sandbox = sandbox(&script).await;
    let answer = through(&sandbox).send(&post("https://api.example.com/")).await.unwrap();
    assert_eq!(answer.body.len(), MOST_ANSWER_BYTES);
}

#[tokio::test]
async fn errors_are_in_words_without_the_address() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let sandbox = sandbox(r#"{"then":"drop"}"#).await;
    let direct = HttpTransport::new(&Options { allow_private_networks: true, ..Options::default() }).unwrap();
    let dropped = through(&sandbox).send(&post("https://api.example.com/?token=hush")).await.unwrap_err();
    let refused = direct.send(&post(&format!("http://{closed}/?token=hush"))).await.unwrap_err();
    for error in [dropped, refused] {
        assert!(matches!(&error, NoAnswer::Connection(text) if !text.is_empty()), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn private_addresses_are_refused_also_behind_names_unless_allowed() {
    let sandbox = sandbox("[]").await;
    let port = sandbox.address().port();
    let careful = HttpTransport::new(&Options::default()).unwrap();
    let allowed =
        HttpTransport::new(&Options { allow_private_networks: true, ..Options::default() }).unwrap();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1"] {
        let request = post(&format!("http://{host}:{port}/h/p"));
        let error = careful.send(&request).await.unwrap_err();
        assert!(
            matches!(&error, NoAnswer::Refused(text) if text.contains("allow_private_networks")),
            "{host}: {error}"
        );
    }
    assert_eq!(sandbox.total().requests, 0);
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(
            allowed.send(&post(&format!("http://{host}:{port}/h/p"))).await.unwrap().status,
            200,
            "{host}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused() {
    let transport = HttpTransport::new(&Options::default()).unwrap();
    let bad_header =
        Request { headers: vec![("x".into(), "a\r\nb: c".into())], ..post("https://api.example.com") };
    for request in [post("not an address"), post("file:///etc/hostname"), post("https://"), bad_header] {
        assert!(matches!(transport.send(&request).await, Err(NoAnswer::Refused(_))), "{}", request.url);
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut read = Vec::new();
                while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {
                    if read.ends_with(b"[1,2]") {
                        read.clear();
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                    }
                }
            });
        }
    });
    let transport =
        HttpTransport::new(&Options { allow_private_networks: true, ..Options::default() }).unwrap();
    for _ in 0..3 {
        assert_eq!(&transport.send(&post(&url)).await.unwrap().body[..], b"ok");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    server.abort();
}

#[test]
fn a_bad_proxy_or_certificate_is_named() {
    let proxy = Options { proxy: Some("://".into()), ..Options::default() };
    assert!(matches!(HttpTransport::new(&proxy), Err(ClientError::Proxy)));
    let pem = b"-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n".to_vec();
    let certificates = Options { extra_certificates: Some(pem), ..Options::default() };
    assert!(matches!(
        HttpTransport::new(&certificates),
        Err(ClientError::Certificates | ClientError::Client(_))
    ));
}
