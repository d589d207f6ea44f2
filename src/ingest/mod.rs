//! The tracking API: from an HTTP request to calls that are durable in the queue, and to the answer.
//!
//! This file has the settings and sends each request to the part that answers it. It reads no configuration, knows no
//! destination, and keeps nothing about a call once it is answered.

mod auth;
mod body;
mod calls;
mod client_ip;
mod cors;
mod paths;
mod pixel;
mod reply;
mod settings_endpoint;
mod tally;

use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use fanout_sdk::event::Event;
use fanout_sdk::names::Names;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request};

use crate::http::{Answer, Handler, HostRule, Peer, query};
use crate::queue::Queue;
use crate::telemetry::{CallResult, Metrics, SourceCounters};
use auth::{AuthError, Credentials, Secrets};
use body::{Body, BodyLimits, Budget};
use calls::Shape;
use paths::Endpoint;
use reply::Failure;
use settings_endpoint::Address;

/// The most that [`Settings::max_body_bytes`] can be: 4 MiB, as RudderStack has it.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// A caller with a write key.
#[derive(Clone)]
pub struct Source {
    /// Its name, which stands in metrics and in the journal.
    pub name: String,
    /// What its SDKs are configured with.
    pub write_key: String,
    /// Whether its calls are taken. Default true.
    pub enabled: bool,
    /// Whether a batch with any unacceptable call is refused as a whole (for development). Default false.
    pub strict: bool,
    /// What a `Bearer` authorisation must say, where one is given; without this, it is ignored.
    pub bearer_token: Option<String>,
    /// Origins whose pages may call, such as `https://shop.example`; empty: all.
    pub allowed_origins: Vec<String>,
}

/// What the tracking API is configured with.
#[derive(Clone)]
pub struct Settings {
    /// Who may call.
    pub sources: Vec<Source>,
    /// Bytes of a body, as sent and as inflated. Default 500 KiB, at most [`MAX_BODY_BYTES`].
    pub max_body_bytes: usize,
    /// Bytes of one call. Default 32 KiB.
    pub max_event_bytes: usize,
    /// Calls of a batch; those beyond are rejected one by one. Default 2,500.
    pub max_batch_events: usize,
    /// Memory that all requests together may hold, with the events that are made of them: bytes. Beyond it they are asked
    /// to try again. Default 64 MiB. Taken at the start only.
    pub max_bytes_in_flight: usize,
    /// How long a body may take to arrive. Default 30 s.
    pub body_timeout: Duration,
    /// The address by which browsers reach this server, such as `https://track.example.com`; without it, the one that
    /// they used, as far as it can be seen.
    pub public_url: Option<String>,
    /// Names that the listener answers to, beside loopback ones and that of `public_url`. Empty: on a loopback address
    /// only those, on any other all.
    pub allowed_hosts: Vec<String>,
    /// Whether a browser's or a phone's call without `context.ip` gets the caller's address. Default false.
    pub fill_ip: bool,
    /// Addresses of proxies whose `X-Forwarded-For` is believed. Default none.
    pub trusted_proxies: Vec<IpAddr>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            sources: Vec::new(),
            max_body_bytes: 500 * 1024,
            max_event_bytes: 32 * 1024,
            max_batch_events: 2_500,
            max_bytes_in_flight: 64 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            public_url: None,
            allowed_hosts: Vec::new(),
            fill_ip: false,
            trusted_proxies: Vec::new(),
        }
    }
}

/// Answers the tracking API's requests.
pub struct Ingest {
    queue: Arc<dyn Queue<Arc<Event>>>,
    metrics: Arc<Metrics>,
    /// Counts requests that belong to no source.
    strangers: SourceCounters,
    budget: Budget,
    listen: IpAddr,
    journal_all_types: Arc<AtomicBool>,
    active: RwLock<Arc<Active>>,
}

/// Settings in the form in which requests use them. Never changed, only replaced.
struct Active {
    settings: Settings,
    sources: Vec<ActiveSource>,
    names: Arc<Names>,
    body_limits: BodyLimits,
    hosts: HostRule,
    public: Option<Address>,
}

struct ActiveSource {
    source: Source,
    id: u16,
    counters: SourceCounters,
}

impl Secrets for ActiveSource {
    fn write_key(&self) -> &str {
        &self.source.write_key
    }

    fn bearer_token(&self) -> Option<&str> {
        self.source.bearer_token.as_deref()
    }
}

impl Ingest {
    /// For a listener bound to `listen`. While `journal_all_types` is true, calls of every type are kept, because a
    /// destination takes them; otherwise only identify calls are, and the others are answered and counted.
    pub fn new(
        queue: Arc<dyn Queue<Arc<Event>>>,
        metrics: Arc<Metrics>,
        listen: IpAddr,
        journal_all_types: Arc<AtomicBool>,
        settings: Settings,
        names: Arc<Names>,
    ) -> Ingest {
        let active = Active::new(settings, names, listen, &*queue, &metrics);
        Ingest {
            strangers: metrics.source(""),
            budget: Budget::new(active.settings.max_bytes_in_flight),
            active: RwLock::new(Arc::new(active)),
            queue,
            metrics,
            listen,
            journal_all_types,
        }
    }

    /// Takes new settings and names for requests from now on.
    pub fn replace(&self, settings: Settings, names: Arc<Names>) {
        let active = Active::new(settings, names, self.listen, &*self.queue, &self.metrics);
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(active);
    }

    fn active(&self) -> Arc<Active> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn answer(&self, active: &Active, head: &Parts, body: Incoming, peer: Peer) -> Answer {
        if head.method == Method::OPTIONS {
            let mut answer = reply::nothing();
            cors::preflight(&head.headers, answer.headers_mut());
            return answer;
        }
        let endpoint = paths::find(head.uri.path()).ok_or(Failure::NotFound).and_then(|endpoint| {
            // A pixel that is only asked about was not shown.
            let is_look = head.method == Method::HEAD && !matches!(endpoint, Endpoint::Pixel(_));
            let asked = if is_look { "GET" } else { head.method.as_str() };
            if asked == endpoint.method() { Ok(endpoint) } else { Err(Failure::Method(endpoint.method())) }
        });
        match endpoint {
            Err(failure) => {
                body::drain(body, &head.headers, active.body_limits.timeout).await;
                reply::failure(&failure)
            }
            Ok(Endpoint::Call(call_type)) => {
                self.receive(active, head, body, peer, Shape::Single(call_type)).await
            }
            Ok(Endpoint::Batch) => self.receive(active, head, body, peer, Shape::Batch).await,
            Ok(Endpoint::ClientMetrics) => {
                body::drain(body, &head.headers, active.body_limits.timeout).await;
                reply::success()
            }
            Ok(Endpoint::Pixel(call_type)) => {
                let failure = match head.uri.query().and_then(pixel::call) {
                    Some(call) => {
                        let body = Body::small(call.into());
                        let taken = self.take(active, head, peer, body, Shape::Single(call_type)).await;
                        taken.inspect_err(|failure| self.count_stranger(failure)).err()
                    }
                    None => None,
                };
                reply::image(failure.as_ref())
            }
            Ok(Endpoint::ProjectSettings(key)) => match active.source_of_key(&query::decode(key)) {
                Some(source) => reply::document(settings_endpoint::project_settings(
                    source.write_key(),
                    &active.address(head, peer),
                )),
                None => reply::failure(&Failure::NoSettings),
            },
            Ok(Endpoint::SourceConfig) => match self.source_of_head(active, head) {
                Ok(source) => {
                    reply::document(settings_endpoint::source_config(&source.source.name, source.write_key()))
                }
                Err(error) => reply::failure(&Failure::Auth(error)),
            },
            Ok(Endpoint::ClusterInfo) => reply::document(settings_endpoint::cluster_info()),
        }
    }

    /// Calls in a body.
    async fn receive(
        &self,
        active: &Active,
        head: &Parts,
        body: Incoming,
        peer: Peer,
        shape: Shape,
    ) -> Answer {
        let began = Instant::now();
        let received = match self.check_head(active, head) {
            Err(error) => {
                body::drain(body, &head.headers, active.body_limits.timeout).await;
                Err(Failure::Auth(error))
            }
            Ok(()) => match body::read(body, &head.headers, &active.body_limits, &self.budget).await {
                Err(error) => Err(Failure::Body(error)),
                Ok(body) => self.take(active, head, peer, body, shape).await,
            },
        };
        self.metrics.ingest_seconds().observe(began.elapsed().as_secs_f64());
        match received {
            Ok(refusals) => reply::accepted(&refusals),
            Err(failure) => {
                tracing::debug!(path = head.uri.path(), code = failure.code(), "a request was refused");
                self.count_stranger(&failure);
                reply::failure(&failure)
            }
        }
    }

    fn count_stranger(&self, failure: &Failure) {
        if let Failure::Auth(_) = failure {
            self.strangers.count(None, CallResult::Unauthorised, 1);
        }
    }

    /// Refuses a stranger before reading what it sends, where the head names a key.
    fn check_head(&self, active: &Active, head: &Parts) -> Result<(), AuthError> {
        let credentials = Credentials::read(&head.headers, head.uri.query())?;
        if credentials.has_key() {
            credentials.source(&active.sources, None)?;
        }
        Ok(())
    }

    fn source_of_head<'a>(&self, active: &'a Active, head: &Parts) -> Result<&'a ActiveSource, AuthError> {
        let source = Credentials::read(&head.headers, head.uri.query())?.source(&active.sources, None)?;
        if source.source.enabled { Ok(source) } else { Err(AuthError::Disabled) }
    }
}

impl Handler for Ingest {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Answer {
        let active = self.active();
        if !active.hosts.permits(&request) {
            return reply::failure(&Failure::Host);
        }
        let (head, body) = request.into_parts();
        let mut answer = self.answer(&active, &head, body, peer).await;
        cors::expose(&head.headers, answer.headers_mut());
        answer
    }
}

impl Active {
    fn new(
        mut settings: Settings,
        names: Arc<Names>,
        listen: IpAddr,
        queue: &dyn Queue<Arc<Event>>,
        metrics: &Metrics,
    ) -> Active {
        settings.max_body_bytes = settings.max_body_bytes.clamp(1, MAX_BODY_BYTES);
        let public = settings.public_url.as_deref().and_then(Address::parse);
        let mut hosts = settings.allowed_hosts.clone();
        if let Some(public) = public.as_ref().filter(|_| listen.is_loopback() || !hosts.is_empty()) {
            hosts.push(public.name().to_owned());
        }
        let sources = std::mem::take(&mut settings.sources).into_iter().map(|source| ActiveSource {
            id: queue.source_id(&source.name),
            counters: metrics.source(&source.name),
            source,
        });
        Active {
            sources: sources.collect(),
            names,
            body_limits: BodyLimits { max_bytes: settings.max_body_bytes, timeout: settings.body_timeout },
            hosts: HostRule::new(listen, &hosts),
            public,
            settings,
        }
    }

    fn source_of_key(&self, key: &str) -> Option<&ActiveSource> {
        let source = Credentials::default().source(&self.sources, Some(key)).ok()?;
        source.source.enabled.then_some(source)
    }

    /// How the caller of a request reaches this server.
    fn address(&self, head: &Parts, peer: Peer) -> Address {
        if let Some(public) = &self.public {
            return public.clone();
        }
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        // It decides only what this very caller is told, so anybody may say it.
        let https = peer.tls
            || header("x-forwarded-proto").is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let seen = header("host").and_then(|host| Address::parse(&format!("http://{host}")));
        Address { https, host: seen.map_or_else(|| "localhost".to_owned(), |address| address.host) }
    }

    /// The address of whoever called, through proxies that are trusted.
    fn caller(&self, headers: &HeaderMap, peer: Peer) -> IpAddr {
        let mut caller = peer.address.ip().to_canonical();
        let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let chain: Vec<IpAddr> =
            forwarded.flat_map(|value| value.split(',')).map_while(|part| part.trim().parse().ok()).collect();
        for address in chain.into_iter().rev() {
            if !self.settings.trusted_proxies.contains(&caller) {
                break;
            }
            caller = address.to_canonical();
        }
        caller
    }
}
