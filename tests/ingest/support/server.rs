//! The tracking API on a free port of this machine, with a queue in memory and six sources.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fanout::http::{Limits, Tls, serve};
use fanout::ingest::{Ingest, Settings, Source};
use fanout::telemetry::Metrics;
use fanout_sdk::names::Names;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::http::{Client, Reply};
use super::queue::MemoryQueue;

/// A listening tracking API with its queue.
pub struct Server {
    pub address: SocketAddr,
    pub queue: Arc<MemoryQueue>,
    pub metrics: Arc<Metrics>,
    pub all_types: Arc<AtomicBool>,
    pub ingest: Arc<Ingest>,
    pub stop: Option<oneshot::Sender<()>>,
    pub served: JoinHandle<()>,
}

pub fn source(name: &str, write_key: &str) -> Source {
    Source {
        name: name.to_owned(),
        write_key: write_key.to_owned(),
        enabled: true,
        strict: false,
        bearer_token: None,
        allowed_origins: Vec::new(),
    }
}

pub fn settings() -> Settings {
    let disabled = Source { enabled: false, ..source("old", "old-key") };
    let strict = Source { strict: true, ..source("dev", "dev-key") };
    let token = Source { bearer_token: Some("token".to_owned()), ..source("oauth", "oauth-key") };
    let shop =
        Source { allowed_origins: vec!["https://shop.example".to_owned()], ..source("shop", "shop-key") };
    let sources = vec![source("web", "web-key"), source("app", "app-key"), disabled, strict, token, shop];
    Settings { sources, ..Settings::default() }
}

impl Server {
    pub async fn start() -> Server {
        Server::with(settings(), Limits::default(), None).await
    }

    pub async fn with(settings: Settings, limits: Limits, tls: Option<Tls>) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let queue = Arc::new(MemoryQueue::default());
        let metrics = Arc::new(Metrics::new());
        let all_types = Arc::new(AtomicBool::new(false));
        let names = Arc::new(Names::default());
        let ingest = Arc::new(Ingest::new(
            queue.clone(),
            metrics.clone(),
            address.ip(),
            all_types.clone(),
            settings,
            names,
        ));
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, ingest.clone(), limits, tls, async {
            let _ = stopped.await;
        }));
        Server { address, queue, metrics, all_types, ingest, stop: Some(stop), served }
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        Client::connect(self.address).await.send(method, path, headers, body).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        let key = basic("web-key:");
        self.send("POST", path, &[("Authorization", &key)], body.to_string().as_bytes()).await
    }

    /// What is in the queue, as JSON.
    pub fn journal(&self) -> Vec<Value> {
        self.queue.take().iter().map(|entry| serde_json::from_slice(&entry.body).unwrap()).collect()
    }

    pub fn metric(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|have| have == line)
    }
}

pub fn basic(text: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(text))
}

pub fn identify(user: &str) -> Value {
    json!({"type": "identify", "userId": user, "messageId": format!("m-{user}"), "traits": {"email": "a@b.c"}})
}

#[track_caller]
pub fn assert_ok(reply: &Reply) {
    assert_eq!((reply.status, reply.text()), (200, r#"{"success":true}"#));
    assert_eq!(reply.header("content-type"), "application/json");
}

#[track_caller]
pub fn assert_refused(reply: &Reply, status: u16, code: &str) {
    let body = reply.json();
    assert_eq!((reply.status, &body["code"]), (status, &Value::from(code)), "{body}");
    assert_eq!(body["success"], false);
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert_eq!(body["error"], body["message"]);
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(status == 503, !reply.header("retry-after").is_empty());
}
