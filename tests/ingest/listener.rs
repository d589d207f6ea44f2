//! The listener loop through a real socket: slow clients, limits, shutdown, TLS, and the admin API on top of it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::http::Client;
use crate::support::server::{Server, assert_ok, assert_refused, basic, identify, settings};
use fanout::admin::{self, Admin};
use fanout::http::{Limits, Tls, serve};
use fanout::ingest::Settings;
use fanout::telemetry::Metrics;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let short = Settings { body_timeout: Duration::from_millis(50), ..settings() };
    let server = Server::with(short, Limits::default(), None).await;
    let mut client = Client::connect(server.address).await;
    let head = format!(
        "POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Length: 100\r\n\r\n{{",
        basic("web-key:")
    );
    client.write(head.as_bytes()).await;
    let reply = client.read(false).await.unwrap();
    assert_refused(&reply, 503, "body_timeout");
    assert_eq!(reply.header("connection"), "close");
    assert!(client.read(false).await.is_none());
}

#[tokio::test]
async fn a_head_that_does_not_come_is_given_up() {
    let limits = Limits { header_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = Server::with(settings(), limits, None).await;
    let mut client = Client::connect(server.address).await;
    client.write(b"POST /v1/batch HTTP/1.1\r\nHost: loc").await;
    let reply = client.read(false).await;
    assert!(reply.is_none_or(|reply| reply.status == 408), "closed, with or without a word");
    assert!(client.read(false).await.is_none());
}

#[tokio::test]
async fn slow_bodies_together_cannot_fill_the_memory() {
    let small = Settings { max_bytes_in_flight: 100_000, ..settings() };
    let server = Server::with(small, Limits::default(), None).await;
    let key = basic("web-key:");
    let mut large = json!({"batch": [identify("u")]}).to_string().into_bytes();
    large.resize(100_001, b' ');
    let reply = server.send("POST", "/v1/batch", &[("Authorization", &key)], &large).await;
    assert_refused(&reply, 503, "busy");
    // What was held is free again.
    assert_ok(&server.post("/v1/batch", json!({"batch": [identify("u")]})).await);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_its_turn() {
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let server = Server::with(settings(), limits, None).await;
    let mut first = Client::connect(server.address).await;
    assert_eq!(first.send("GET", "/cluster-info", &[], b"").await.status, 200);
    let mut second = Client::connect(server.address).await;
    let mut answered = Box::pin(second.send("GET", "/cluster-info", &[], b""));
    tokio::select! {
        biased;
        _ = &mut answered => panic!("answered beside the first"),
        reply = first.send("GET", "/cluster-info", &[], b"") => assert_eq!(reply.status, 200),
    }
    drop(first);
    assert_eq!(answered.await.status, 200);
}

#[tokio::test]
async fn a_stop_lets_what_has_begun_finish() {
    let mut server = Server::start().await;
    let mut idle = Client::connect(server.address).await;
    assert_eq!(idle.send("GET", "/cluster-info", &[], b"").await.status, 200);
    let mut busy = Client::connect(server.address).await;
    let body = identify("u").to_string();
    let head = format!(
        "POST /v1/identify HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        basic("web-key:"),
        body.len()
    );
    busy.write(head.as_bytes()).await;
    // The server asks for the body: the request has begun.
    assert_eq!(busy.read(true).await.unwrap().status, 100);
    server.stop.take().unwrap().send(()).unwrap();
    assert!(idle.read(false).await.is_none(), "an idle connection is closed");
    busy.write(body.as_bytes()).await;
    assert_ok(&busy.read(false).await.unwrap());
    server.served.await.unwrap();
    assert_eq!(server.queue.take().len(), 1);
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let limits = Limits { drain_timeout: Duration::from_millis(50), ..Limits::default() };
    let mut server = Server::with(settings(), limits, None).await;
    let mut stuck = Client::connect(server.address).await;
    let head = format!(
        "POST /v1/identify HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        basic("web-key:")
    );
    stuck.write(head.as_bytes()).await;
    assert_eq!(stuck.read(true).await.unwrap().status, 100);
    server.stop.take().unwrap().send(()).unwrap();
    server.served.await.unwrap();
    assert!(stuck.read(false).await.is_none());
}

const CERTIFICATE: &[u8] = include_bytes!("support/tls/certificate.pem");
const KEY: &[u8] = include_bytes!("support/tls/key.pem");
const OTHER_CERTIFICATE: &[u8] = include_bytes!("support/tls/other-certificate.pem");
const OTHER_KEY: &[u8] = include_bytes!("support/tls/other-key.pem");

/// Connects, trusting one certificate.
async fn tls_client(
    server: &Server,
    trusted: &[u8],
    name: &'static str,
) -> std::io::Result<Client<TlsStream<TcpStream>>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from(name).unwrap();
    Ok(Client::over(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

#[tokio::test]
async fn tls_is_spoken_and_its_certificate_replaced() {
    let tls = Tls::new(CERTIFICATE, KEY).unwrap();
    let server = Server::with(settings(), Limits::default(), Some(tls.clone())).await;
    let key = basic("web-key:");
    let body = identify("u").to_string();
    let headers = [("Authorization", key.as_str())];
    let mut client = tls_client(&server, CERTIFICATE, "localhost").await.unwrap();
    assert_ok(&client.send("POST", "/v1/identify", &headers, body.as_bytes()).await);
    let reply = client.send("GET", "/v1/projects/web-key/settings", &[], b"").await;
    assert_eq!(reply.json()["integrations"]["Segment.io"]["protocol"], "https");

    assert!(tls.replace(OTHER_CERTIFICATE, KEY).is_err(), "they do not belong together");
    assert!(tls_client(&server, CERTIFICATE, "localhost").await.is_ok(), "the old one stays");
    tls.replace(OTHER_CERTIFICATE, OTHER_KEY).unwrap();
    assert!(tls_client(&server, CERTIFICATE, "localhost").await.is_err());
    assert!(tls_client(&server, OTHER_CERTIFICATE, "other.localhost").await.is_ok());
    assert_ok(&client.send("POST", "/v1/identify", &headers, body.as_bytes()).await);
}

/// Bytes of a certificate in DER form.
const BINARY: &[u8] = &[0x30, 0x82, 0x01, 0x91, 0x30];
const ENCRYPTED: &[u8] =
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIC\n-----END ENCRYPTED PRIVATE KEY-----\n";
const OLD_ENCRYPTED: &[u8] =
    b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIC\n-----END RSA PRIVATE KEY-----\n";
const UNKNOWN_KIND: &[u8] = b"-----BEGIN PRIVATE KEY-----\nMIIC\n-----END PRIVATE KEY-----\n";

#[test]
fn what_is_wrong_with_a_certificate_is_named_with_a_remedy() {
    let wrong_order = [OTHER_CERTIFICATE, CERTIFICATE].concat();
    let cut = CERTIFICATE.len() / 2;
    for (certificate, key, message, remedy) in [
        (&b"nothing"[..], KEY, "certificate file holds no certificate", "BEGIN CERTIFICATE"),
        (b"", KEY, "certificate file holds no certificate", "BEGIN CERTIFICATE"),
        (KEY, KEY, "certificate file holds a private key", "swapped"),
        (BINARY, KEY, "certificate file is in binary form", "openssl x509 -inform der"),
        (&CERTIFICATE[..cut], KEY, "certificate file ends in the middle", "copy the whole file"),
        (CERTIFICATE, b"nothing", "key file holds no private key", "BEGIN PRIVATE KEY"),
        (CERTIFICATE, CERTIFICATE, "key file holds a certificate", "swapped"),
        (CERTIFICATE, BINARY, "key file is in binary form", "openssl pkey -inform der"),
        (CERTIFICATE, ENCRYPTED, "encrypted key", "openssl pkey -in"),
        (CERTIFICATE, OLD_ENCRYPTED, "encrypted key", "openssl pkey -in"),
        (CERTIFICATE, &KEY[..KEY.len() / 2], "key file ends in the middle", "copy the whole file"),
        (CERTIFICATE, UNKNOWN_KIND, "of a kind that is not supported", "P-256"),
        (CERTIFICATE, OTHER_KEY, "belongs to another certificate", "one renewal"),
        (&wrong_order, KEY, "belongs to certificate 2", "own certificate first"),
    ] {
        let error = Tls::new(certificate, key).err().unwrap().to_string();
        let (what, do_this) = error.split_once("; ").unwrap();
        assert!(what.contains(message) && do_this.contains(remedy), "{error}");
    }
}

#[tokio::test]
async fn a_client_that_never_speaks_tls_does_not_hold_the_others() {
    let limits =
        Limits { max_connections: 1, header_timeout: Duration::from_millis(50), ..Limits::default() };
    let tls = Tls::new(CERTIFICATE, KEY).unwrap();
    let server = Server::with(settings(), limits, Some(tls)).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let mut client = tls_client(&server, CERTIFICATE, "localhost").await.unwrap();
    assert_eq!(client.send("GET", "/cluster-info", &[], b"").await.status, 200);
}

#[tokio::test]
async fn the_admin_api_answers_on_the_same_loop() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::new());
    metrics.pending("mixpanel").set(3);
    let admin = Admin::new(address.ip(), admin::Settings::default(), metrics, || Ok(()), || {});
    tokio::spawn(serve(listener, Arc::new(admin), Limits::default(), None, std::future::pending()));
    let mut client = Client::connect(address).await;
    assert_eq!(client.send("GET", "/healthz", &[], b"").await.text(), "ok\n");
    assert_eq!(client.send("GET", "/readyz", &[], b"").await.text(), "ready\n");
    let reply = client.send("GET", "/metrics", &[], b"").await;
    assert!(reply.header("content-type").starts_with("application/openmetrics-text"));
    assert!(reply.text().contains("fanout_pending{destination=\"mixpanel\"} 3"), "{}", reply.text());
}
