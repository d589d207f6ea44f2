//! A running instance: the queue, a lane for each destination, the two listeners, and how all of it ends.
//! It wires; what the parts do is theirs.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanout_sdk::destination::Clock;
use fanout_sdk::event::{Event, Warning};
use fanout_sdk::manifest::Manifest;
use fanout_sdk::names::Names;
use fanout_sdk::problem::Problem;
use fanout_sdk::superseded;
use siphasher::sip::SipHasher13;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::certificate::{Certificate, LOOK_EVERY};
use crate::clock::SystemClock;
use crate::config::{self, AdapterSet, Config};
use crate::delivery::{Label, LaneSpec, Lanes, Observer, Policy, Services, Suppression};
use crate::queue::local::{self, LocalQueue};
use crate::queue::record::Head;
use crate::queue::runs::Runs;
use crate::queue::{AppendError, Code, LaneCounts, Payload, Queue, journal};
use crate::replay::{self, Means, Replays};
use crate::routing::Target;
use crate::telemetry::Metrics;
use crate::transport::{self, HttpTransport};
use crate::{admin, http, ingest};
use admin::dead_letters::{DeadLetters, Renderer, Replayed};

/// Under which key the data directory says whom it was used with.
const STAMP: &str = "data-directory-is-for";

/// Why an instance did not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error("{0}")]
    Queue(#[from] local::OpenError),
    /// The data directory belongs to another kind of run.
    #[error(
        "the data directory {path} was used {was}, and this configuration would use it {now}: calls in it would reach \
         the wrong place. Give [queue] another path, or {remedy}"
    )]
    Stamp {
        /// The directory.
        path: String,
        /// How it was used before.
        was: &'static str,
        /// How it would be used now.
        now: &'static str,
        /// What makes it the same again.
        remedy: &'static str,
    },
    /// The data directory could not be stamped.
    #[error("the data directory cannot be written: {0}")]
    Write(#[from] AppendError),
    /// A listener.
    #[error(
        "{what} cannot listen on {address}: {error}; is another instance running? the address is set by {key}"
    )]
    Listen {
        /// Which one.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// The setting.
        key: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// The files of certificate and key.
    #[error("{0}")]
    Certificate(Problem),
    /// What is in them.
    #[error("[server.tls]: {0}")]
    Tls(#[from] http::TlsError),
    /// The HTTP client.
    #[error("{0}")]
    Client(#[from] transport::ClientError),
    /// A destination's settings, which `fanout check` explains with their places.
    #[error("destination {name}: {problem}; `fanout check` shows where")]
    Destination {
        /// Its name.
        name: String,
        /// The first problem.
        problem: String,
    },
}

/// A running instance.
pub struct Instance {
    /// Where the tracking API listens.
    pub tracking: SocketAddr,
    /// Where the tracking API listens with TLS, if it does.
    pub tracking_tls: Option<SocketAddr>,
    /// Where the admin API listens.
    pub admin: SocketAddr,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    queue: Arc<dyn Queue<Arc<Event>>>,
    lanes: Arc<Lanes>,
    stop: watch::Sender<bool>,
    certificate: Option<Renewal>,
    listeners: Vec<JoinHandle<()>>,
    drain: Duration,
}

impl Instance {
    /// Starts everything that a configuration asks for. Accepts calls when this returns.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start(config: &Config, adapters: &AdapterSet) -> Result<Instance, StartError> {
        // Whatever can fail comes first: nothing may be running when this returns an error.
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let names = Arc::new(adapters.paths().clone());
        let (tracking, tracking_at) =
            listen("the tracking API", config.server.listen, "[server] listen").await?;
        let encrypted = match &config.server.tls {
            Some(tls) => Some(listen_encrypted(tls).await?),
            None => None,
        };
        let (admin, admin_at) = listen("the admin API", config.admin.listen, "[admin] listen").await?;
        let specs = lane_specs(config, adapters)?;
        let takes_every_call = specs.iter().any(|spec| spec.every_call);
        let renderers = renderers(&specs);
        let runs = open_queue(config, names.clone(), clock.clone(), false)?;
        let queue: Arc<dyn Queue<Arc<Event>>> = runs.clone();
        stamp(config, &*queue)?;

        let metrics = Arc::new(Metrics::new());
        let by_name = specs.iter().map(|spec| (spec.name.to_string(), spec.clone())).collect();
        let lanes = Arc::new(start_lanes(config, specs, &queue, clock.clone(), &metrics).await);
        let replays = Replays::new(Means {
            queue: runs,
            lanes: lanes.clone(),
            specs: by_name,
            observer: Arc::new(CountingReplays(metrics.clone())),
            clock,
        });
        replays.resume().await;
        let (stop, stopped) = watch::channel(false);
        let limits = limits(config);
        let mut listeners = Vec::new();
        let letters = dead_letters(config, queue.clone(), Arc::new(replays.clone()), renderers);
        let admin_handler = admin_handler(config, admin_at, &queue, &metrics, stopped.clone());
        let admin_handler = Arc::new(admin_handler.with(letters).with(replays));
        listeners.push(tokio::spawn(http::serve(admin, admin_handler, limits, None, until(stopped.clone()))));
        let handler = Arc::new(ingest::Ingest::new(
            queue.clone(),
            metrics.clone(),
            tracking_at.ip(),
            Arc::new(AtomicBool::new(takes_every_call)),
            ingest_settings(config),
            names,
        ));
        let mut tracking_tls = None;
        let mut renewal = None;
        if let Some(Encrypted { listener, address, tls, certificate }) = encrypted {
            tracking_tls = Some(address);
            renewal = Some(Renewal::start(certificate));
            let stopped = until(stopped.clone());
            listeners.push(tokio::spawn(http::serve(listener, handler.clone(), limits, Some(tls), stopped)));
        }
        listeners.push(tokio::spawn(http::serve(tracking, handler, limits, None, until(stopped))));

        Ok(Instance {
            tracking: tracking_at,
            tracking_tls,
            admin: admin_at,
            metrics,
            queue,
            lanes,
            stop,
            certificate: renewal,
            listeners,
            drain: config.server.drain_timeout,
        })
    }

    /// How many deliveries of a destination are not finished.
    pub fn unfinished(&self, destination: &str) -> u64 {
        self.queue.counts(destination).map_or(0, |counts| counts.unfinished)
    }

    /// What looks at the certificate's files again at once when it is notified; `None` without TLS.
    pub fn certificate_changed(&self) -> Option<Arc<Notify>> {
        self.certificate.as_ref().map(|renewal| renewal.told.clone())
    }

    /// Ends it: takes no more calls, lets requests finish for as long as configured, writes everything down. What was
    /// not finished goes on at the next start.
    pub async fn stop(self) {
        let deadline = Instant::now() + self.drain;
        self.stop.send_replace(true);
        let listeners = async {
            for listener in self.listeners {
                // A listener that panicked has nothing left to finish.
                let _ = listener.await;
            }
        };
        // At once: a slow client must not use up the time that requests to vendors have, nor lanes begin new ones.
        tokio::join!(listeners, self.lanes.shutdown(deadline));
        self.queue.close().await;
    }
}

/// Waits for the word to stop.
async fn until(mut stopped: watch::Receiver<bool>) {
    // An instance that is gone stops its listeners too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn listen(
    what: &'static str,
    address: SocketAddr,
    key: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { what, address, key, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// An encrypted listener that is bound.
struct Encrypted {
    listener: TcpListener,
    address: SocketAddr,
    tls: http::Tls,
    certificate: Certificate,
}

async fn listen_encrypted(files: &config::Tls) -> Result<Encrypted, StartError> {
    let contents = config::read_certificate(files).map_err(StartError::Certificate)?;
    let tls = http::Tls::new(&contents.0, &contents.1)?;
    let (listener, address) =
        listen("the encrypted tracking API", files.listen, "[server.tls] listen").await?;
    let certificate = Certificate::new(files.clone(), tls.clone(), contents);
    Ok(Encrypted { listener, address, tls, certificate })
}

/// The task that keeps the certificate up to date; ends when dropped.
struct Renewal {
    told: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Renewal {
    fn start(certificate: Certificate) -> Renewal {
        let told = Arc::new(Notify::new());
        let task = tokio::spawn(certificate.keep(LOOK_EVERY, told.clone()));
        Renewal { told, task }
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Payload for Arc<Event> {
    fn held_bytes(&self) -> usize {
        Event::held_bytes(self)
    }

    fn still_say(calls: &[Self]) -> Vec<bool> {
        superseded::still_say(calls)
    }
}

fn open_queue(
    config: &Config,
    names: Arc<Names>,
    clock: Arc<dyn Clock>,
    as_it_is: bool,
) -> Result<Arc<dyn Runs<Arc<Event>>>, StartError> {
    let lanes = config.destinations.iter().map(|destination| destination.name.clone()).collect();
    let journal = journal::Options {
        max_disk_bytes: config.queue.max_disk.0,
        retain: config.queue.retain,
        duplicate_window: config.queue.duplicate_window.time,
        duplicate_entries: config.queue.duplicate_window.count,
        ..journal::Options::new(&config.queue.path)
    };
    let options = local::Options { as_it_is, ..local::Options::new(journal, lanes) };
    let decode = move |head: &Head, body: &[u8]| {
        let text = std::str::from_utf8(body).ok()?;
        Event::parse(text.into(), head.received_at_ms, &names).ok().map(Arc::new)
    };
    let now = move || clock.now_ms();
    let (queue, report) = LocalQueue::open(options, Arc::new(decode), Arc::new(now))?;
    if report.torn_tail_bytes > 0 {
        tracing::warn!(
            bytes = report.torn_tail_bytes,
            "cut an unfinished write off the journal's end; it had never been acknowledged"
        );
    }
    tracing::info!(segments = report.segments, next = report.next_seq, "opened the data directory");
    Ok(Arc::new(queue))
}

/// Calls meant for the sandbox must never reach vendors, nor the other way round.
fn stamp(config: &Config, queue: &dyn Queue<Arc<Event>>) -> Result<(), StartError> {
    let wanted: &[u8] = if config.sandbox.is_some() { b"sandbox" } else { b"live" };
    let words = |stamp: &[u8]| if stamp == b"sandbox" { "with the sandbox" } else { "with real vendors" };
    match queue.get(STAMP) {
        None => Ok(queue.put(STAMP, wanted)?),
        Some(stamp) if stamp == wanted => Ok(()),
        Some(stamp) => Err(StartError::Stamp {
            path: config.queue.path.display().to_string(),
            was: words(&stamp),
            now: words(wanted),
            remedy: if config.sandbox.is_some() { "remove [sandbox]" } else { "set [sandbox] url again" },
        }),
    }
}

/// Starts a lane for each destination: those that are enabled have a spec.
async fn start_lanes(
    config: &Config,
    specs: Vec<LaneSpec>,
    queue: &Arc<dyn Queue<Arc<Event>>>,
    clock: Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Lanes {
    let observer = Arc::new(Counting(metrics.clone()));
    let lanes = Lanes::new(Services { queue: queue.clone(), clock, observer, random: fastrand::f64 });
    for disabled in config.destinations.iter().filter(|destination| !destination.enabled) {
        lanes.start_disabled(disabled.name.as_str().into(), Instant::now()).await;
    }
    for spec in specs {
        lanes.start(spec, Instant::now()).await;
    }
    lanes
}

/// What the lanes of the enabled destinations are made of.
fn lane_specs(config: &Config, adapters: &AdapterSet) -> Result<Vec<LaneSpec>, StartError> {
    // Two pools of connections, however many destinations: one that may call private addresses, one that may not.
    let client = |allow_private_networks| {
        HttpTransport::new(&transport::Options {
            allow_private_networks,
            sandbox: config.sandbox.clone(),
            ..transport::Options::default()
        })
    };
    let (careful, free) = (client(false)?, client(true)?);
    let enabled = config.destinations.iter().filter(|destination| destination.enabled);
    enabled
        .map(|destination| {
            let client = if destination.delivery.allow_private_networks { &free } else { &careful };
            lane_spec(adapters, destination, client.clone())
        })
        .collect()
}

fn lane_spec(
    adapters: &AdapterSet,
    destination: &config::Destination,
    transport: HttpTransport,
) -> Result<LaneSpec, StartError> {
    let wrong = |problem: String| StartError::Destination { name: destination.name.clone(), problem };
    let adapter = adapters
        .get(&destination.adapter)
        .ok_or_else(|| wrong(format!("there is no adapter {}", destination.adapter)))?;
    let manifest = &adapter.manifest;
    let vendor = adapters
        .bind(destination)
        .map_err(|problems| wrong(problems.first().map(ToString::to_string).unwrap_or_default()))?;
    Ok(LaneSpec {
        name: destination.name.as_str().into(),
        destination: Arc::from(vendor),
        transport: Arc::new(transport),
        target: Target::new(
            &destination.name,
            manifest.name(),
            manifest.aliases(),
            destination.opt_in.unwrap_or(manifest.opt_in()),
            destination.sources.clone(),
        ),
        every_call: manifest.takes_all_calls(),
        policy: Policy {
            retry_for: destination.delivery.retry_for,
            max_concurrency: destination.delivery.max_concurrency,
            linger: destination.delivery.linger,
            rate_limit: destination.delivery.rate_limit.clone(),
            max_backlog: destination.delivery.max_backlog.map(|calls| calls as u64),
        },
        paused: destination.paused,
        suppression: suppression(manifest, destination),
    })
}

/// What the requests of dead letters are rendered with.
fn renderers(specs: &[LaneSpec]) -> Vec<Renderer> {
    let renderer = |spec: &LaneSpec| Renderer {
        name: spec.name.clone(),
        destination: spec.destination.clone(),
        target: spec.target.clone(),
    };
    specs.iter().map(renderer).collect()
}

fn dead_letters(
    config: &Config,
    queue: Arc<dyn Queue<Arc<Event>>>,
    replays: Arc<dyn Replayed>,
    renderers: Vec<Renderer>,
) -> DeadLetters {
    let destinations = config.destinations.iter().map(|destination| destination.name.clone()).collect();
    DeadLetters { queue, destinations, replays, renderers, clock: Arc::new(SystemClock) }
}

/// The dead letters of a data directory that no instance uses; locked until this is dropped.
///
/// # Errors
/// See [`StartError`].
pub fn dead_letters_offline(config: &Config, adapters: &AdapterSet) -> Result<DeadLetters, StartError> {
    let renderers = renderers(&lane_specs(config, adapters)?);
    let queue = open_queue(config, Arc::new(adapters.paths().clone()), Arc::new(SystemClock), true)?;
    let replays = Arc::new(replay::Stored { queue: queue.clone() });
    Ok(dead_letters(config, queue, replays, renderers))
}

/// What leaves out identifies that change nothing, where the destination asks for it.
fn suppression(manifest: &Manifest, destination: &config::Destination) -> Option<Arc<Suppression>> {
    use std::hash::{Hash, Hasher};

    let refresh = destination.delivery.suppress_unchanged?;
    let mut fingerprint = SipHasher13::new();
    // Code beside a manifest, and how calls are normalised, changes with the version.
    (env!("CARGO_PKG_VERSION"), &destination.adapter, manifest.fingerprint()).hash(&mut fingerprint);
    destination.settings.to_string().hash(&mut fingerprint);
    Some(Arc::new(Suppression::new(&destination.name, refresh, fingerprint.finish())))
}

fn ingest_settings(config: &Config) -> ingest::Settings {
    let server = &config.server;
    ingest::Settings {
        sources: config.sources.iter().map(ingest_source).collect(),
        max_body_bytes: server.max_body.0 as usize,
        max_event_bytes: server.max_event.0 as usize,
        max_batch_events: server.max_batch_events,
        max_bytes_in_flight: server.max_in_flight.0 as usize,
        body_timeout: server.body_timeout,
        public_url: server.public_url.clone(),
        allowed_hosts: server.allowed_hosts.clone(),
        fill_ip: server.fill_ip,
        trusted_proxies: server.trusted_proxies.clone(),
    }
}

fn ingest_source(source: &crate::config::Source) -> ingest::Source {
    ingest::Source {
        name: source.name.clone(),
        write_key: source.write_key.expose().to_owned(),
        enabled: source.enabled,
        strict: source.strict,
        bearer_token: source.bearer_token.as_ref().map(|token| token.expose().to_owned()),
        allowed_origins: source.allowed_origins.clone(),
    }
}

fn limits(config: &Config) -> http::Limits {
    http::Limits {
        max_connections: config.server.max_connections,
        header_timeout: config.server.header_timeout,
        write_timeout: config.server.write_timeout,
        drain_timeout: config.server.drain_timeout,
    }
}

fn admin_handler(
    config: &Config,
    address: SocketAddr,
    queue: &Arc<dyn Queue<Arc<Event>>>,
    metrics: &Arc<Metrics>,
    stopped: watch::Receiver<bool>,
) -> admin::Admin {
    let settings = admin::Settings {
        token: config.admin.token.as_ref().map(|token| token.expose().to_owned()),
        allowed_hosts: config.admin.allowed_hosts.clone(),
    };
    let asked = queue.clone();
    let ready = move || match asked.broken() {
        _ if *stopped.borrow() => Err("shutting down".to_owned()),
        Some(why) => Err(why),
        None => Ok(()),
    };
    let destinations: Vec<String> =
        config.destinations.iter().map(|destination| destination.name.clone()).collect();
    let (queue, gauges) = (queue.clone(), metrics.clone());
    let given_up = GivenUp::new(&*queue, &destinations);
    let refresh = move || {
        gauges.queue_disk_bytes().set(queue.disk_bytes() as i64);
        let now_ms = SystemClock.now_ms();
        for name in &destinations {
            let Some(counts) = queue.counts(name) else { continue };
            for (reason, more) in given_up.since(name, &counts).into_iter().filter(|(_, more)| *more > 0) {
                gauges.deliveries(name, "dead", reason).inc_by(more);
            }
            gauges.pending(name).set(counts.unfinished as i64);
            let age =
                counts.oldest_received_at_ms.map_or(0.0, |oldest| (now_ms - oldest).max(0) as f64 / 1000.0);
            gauges.oldest_pending_seconds(name).set(age);
        }
    };
    admin::Admin::new(address.ip(), settings, metrics.clone(), ready, refresh)
}

/// The codes of deliveries that the queue ends by itself: a lane kept more than it may, the disk lost the call, or it
/// cannot be read.
const GIVEN_UP: [&str; 3] = ["backlog", "lost", "undecodable"];

/// How many of those there were when they were last looked at: the queue ends them, not the lanes.
struct GivenUp(Mutex<HashMap<(String, &'static str), u64>>);

impl GivenUp {
    fn new(queue: &dyn Queue<Arc<Event>>, destinations: &[String]) -> GivenUp {
        let given_up = GivenUp(Mutex::default());
        for name in destinations {
            if let Some(counts) = queue.counts(name) {
                given_up.since(name, &counts);
            }
        }
        given_up
    }

    /// How many there are more, by code.
    fn since(&self, name: &str, counts: &LaneCounts) -> [(&'static str, u64); 3] {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        GIVEN_UP.map(|reason| {
            let of_it = |code: &Code| matches!(code, Code::Dead(known) if known == reason);
            let now = counts.finished.iter().filter(|(code, _)| of_it(code)).map(|(_, count)| count).sum();
            let before: u64 = seen.insert((name.to_owned(), reason), now).unwrap_or_default();
            (reason, now.saturating_sub(before))
        })
    }
}

/// Turns what lanes report into metrics.
struct Counting(Arc<Metrics>);

impl Observer for Counting {
    fn ended(&self, destination: &str, label: Label, count: u64) {
        self.0.deliveries(destination, label.outcome, label.reason).inc_by(count);
        if label.outcome == "suppressed" {
            self.0.suppressed_calls(destination).inc_by(count);
        }
    }

    fn attempted(&self, destination: &str, took: Duration) {
        self.0.attempt_seconds(destination).observe(took.as_secs_f64());
    }

    fn closed(&self, destination: &str, cause: &'static str, closed: bool) {
        self.0.destination_closed(destination, cause).set(closed.into());
    }

    fn warned(&self, _: &str, warnings: &[Warning]) {
        for warning in warnings {
            self.0.count_warnings(warning.kind, 1);
        }
    }
}

/// Counts what replays do by itself: the books of the live lanes are theirs.
struct CountingReplays(Arc<Metrics>);

impl Observer for CountingReplays {
    fn ended(&self, destination: &str, label: Label, count: u64) {
        self.0.replay_deliveries(destination, label.outcome, label.reason).inc_by(count);
    }

    fn attempted(&self, _: &str, _: Duration) {}

    fn closed(&self, _: &str, _: &'static str, _: bool) {}

    fn warned(&self, _: &str, warnings: &[Warning]) {
        for warning in warnings {
            self.0.count_warnings(warning.kind, 1);
        }
    }
}
