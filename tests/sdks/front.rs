//! What stands between an SDK and fanout in `tests/sdk_clients.rs`: passes requests on, remembers each one and its
//! answer, and can swallow answers, as a network does that fails at the wrong moment. It judges nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;

use crate::support::PATIENCE;

/// What makes one front different from another.
#[derive(Clone)]
pub struct Kind {
    /// Where fanout listens.
    pub upstream: String,
    /// Whether both sides are encrypted.
    pub tls: bool,
    /// Whether it answers 502 where there is no answer, as a load balancer does; else the connection is closed.
    pub balances: bool,
}

/// A request that came by.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as JSON, inflated.
    pub body: Value,
    /// What fanout answered; `None` where no answer came.
    pub status: Option<u16>,
    pub retry_after: Option<String>,
    /// Whether the SDK never got that answer.
    pub swallowed: bool,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The calls that it holds.
    pub fn message_ids(&self) -> Vec<String> {
        let calls = self.body["batch"].as_array().unwrap();
        calls.iter().map(|call| call["messageId"].as_str().unwrap().to_owned()).collect()
    }
}

/// A front, listening; ends when dropped.
pub struct Front {
    address: String,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

struct Shared {
    kind: Kind,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    swallows: bool,
    closed: bool,
}

impl Front {
    pub fn start(kind: Kind) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared { kind, state: Mutex::default(), changed: Condvar::new() });
        let mut front = Front { address, shared, listening: None };
        front.listen(listener);
        front
    }

    fn listen(&mut self, listener: TcpListener) {
        let shared = self.shared.clone();
        self.listening = Some(std::thread::spawn(move || accept(&listener, &shared)));
    }

    /// What the SDK is told to be the host.
    pub fn url(&self) -> String {
        match self.shared.kind.tls {
            true => format!("https://{}", self.address.replace("127.0.0.1", "localhost")),
            false => format!("http://{}", self.address),
        }
    }

    /// From now on whatever was accepted is not answered, or everything is answered again.
    pub fn swallow_successes(&self, swallows: bool) {
        self.shared.state.lock().unwrap().swallows = swallows;
    }

    /// Closes its port, or answers 502 where it balances.
    pub fn close(&mut self) {
        self.shared.state.lock().unwrap().closed = true;
        if !self.shared.kind.balances {
            // Wakes the listening thread, which sees that it is to end.
            let _ = TcpStream::connect(&self.address);
            self.listening.take().unwrap().join().unwrap();
        }
    }

    pub fn open(&mut self) {
        self.shared.state.lock().unwrap().closed = false;
        if self.listening.is_none() {
            self.listen(TcpListener::bind(&self.address).unwrap());
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state.lock().unwrap().seen.clone()
    }

    /// Waits until a request came by for which this holds.
    pub fn wait_for(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock().unwrap();
        while !state.seen.iter().any(&holds) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} did not come: {:#?}", state.seen);
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().closed = true;
        let _ = TcpStream::connect(&self.address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if shared.state.lock().unwrap().closed && !shared.kind.balances {
            return;
        }
        let shared = shared.clone();
        std::thread::spawn(move || {
            // An error here is the SDK's or fanout's connection ending early.
            let _ = match shared.kind.tls {
                true => pass_on(server_session(stream), &shared),
                false => pass_on(stream, &shared),
            };
        });
    }
}

/// One request and its answer; every connection carries one.
fn pass_on(stream: impl Read + Write, shared: &Shared) -> std::io::Result<()> {
    let mut client = BufReader::new(stream);
    let (head, body) = read_message(&mut client)?;
    let answer = match shared.state.lock().unwrap().closed {
        true => None,
        false => ask(&head, &body, &shared.kind).ok(),
    };
    let swallowed = shared.remember(&head, &body, answer.as_ref());
    let mut client = client.into_inner();
    match answer.filter(|_| !swallowed) {
        Some(answer) => {
            let head = without(&answer.head, &["connection"]);
            client.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
            client.write_all(&answer.body)
        }
        None if shared.kind.balances => {
            client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        }
        None => Ok(()),
    }
}

struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

fn ask(head: &str, body: &[u8], kind: &Kind) -> std::io::Result<Answer> {
    let stream = TcpStream::connect(&kind.upstream)?;
    match kind.tls {
        true => exchange(client_session(stream), head, body),
        false => exchange(stream, head, body),
    }
}

fn exchange(mut stream: impl Read + Write, head: &str, body: &[u8]) -> std::io::Result<Answer> {
    let head = without(head, &["connection", "transfer-encoding", "content-length", "expect"]);
    let length = body.len();
    stream.write_all(format!("{head}Connection: close\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
    stream.write_all(body)?;
    let (head, body) = read_message(&mut BufReader::new(stream))?;
    Ok(Answer { head, body })
}

impl Shared {
    /// Answers whether the answer is to be swallowed.
    fn remember(&self, head: &str, body: &[u8], answer: Option<&Answer>) -> bool {
        let mut state = self.state.lock().unwrap();
        let status = answer.map(Answer::status);
        let swallowed = state.swallows && status == Some(200);
        let headers = headers(head);
        let is_gzip = headers.iter().any(|(name, value)| name == "content-encoding" && value == "gzip");
        let mut text = Vec::new();
        match is_gzip {
            true => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut text).unwrap()),
            false => text.extend_from_slice(body),
        }
        let answered = answer.map(|answer| self::headers(&answer.head)).unwrap_or_default();
        state.seen.push(Seen {
            path: head.split(' ').nth(1).unwrap().to_owned(),
            headers,
            body: serde_json::from_slice(&text).unwrap(),
            status,
            retry_after: answered.into_iter().find(|(name, _)| name == "retry-after").map(|(_, value)| value),
            swallowed,
        });
        self.changed.notify_all();
        swallowed
    }
}

/// The head without its empty line, and the body by its length.
fn read_message(stream: &mut impl BufRead) -> std::io::Result<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    head.truncate(head.len() - 2);
    let headers = headers(&head);
    assert!(
        !headers.iter().any(|(name, _)| name == "transfer-encoding"),
        "no SDK here sends in chunks: {head}"
    );
    let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value);
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}

fn headers(head: &str) -> Vec<(String, String)> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect()
}

fn without(head: &str, names: &[&str]) -> String {
    let is_named = |line: &str| {
        line.split_once(':').is_some_and(|(name, _)| names.contains(&name.to_lowercase().as_str()))
    };
    head.split_inclusive("\r\n").filter(|line| !is_named(line)).collect()
}

/// A file of the certificate that fanout and every encrypted front have.
pub fn pem(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ingest/support/tls").join(name)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_file(pem("certificate.pem")).unwrap()
}

fn server_session(stream: TcpStream) -> rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    let key = PrivateKeyDer::from_pem_file(pem("key.pem")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], key)
        .unwrap();
    rustls::StreamOwned::new(rustls::ServerConnection::new(config.into()).unwrap(), stream)
}

fn client_session(stream: TcpStream) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    rustls::StreamOwned::new(rustls::ClientConnection::new(config.into(), name).unwrap(), stream)
}
