//! The configuration: what the operator wrote, checked and resolved, every problem at once with its place.
//!
//! `schema` says what there is, `read` takes single values with their positions, `resolve` puts them together and checks
//! them against each other, `load` brings in the file and the environment. Only `load` touches the world.

mod adapters;
mod expand;
mod load;
mod read;
mod resolve;
pub mod schema;
#[cfg(test)]
mod tests;
pub mod values;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fanout_sdk::destination::Rate;
use fanout_sdk::problem::Problem;

pub use adapters::{Adapter, AdapterSet};
pub use expand::World;
pub use load::{adapters_dir, files_in, load, log_filter, read_certificate, read_text, write_text};
pub use resolve::resolve;
pub use values::{ByteSize, Secret, parse_duration};

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[admin]`
    pub admin: Admin,
    /// `[[sources]]`, in the file's order; disabled ones too.
    pub sources: Vec<Source>,
    /// `[queue]`
    pub queue: Queue,
    /// `[sandbox] url`: where requests go instead of the vendors, without a slash at the end.
    pub sandbox: Option<String>,
    /// The folder of the operator's own adapters.
    pub adapters_dir: Option<PathBuf>,
    /// `[destinations.NAME]`, in the file's order; disabled ones too.
    pub destinations: Vec<Destination>,
}

/// `[server]`: the tracking API.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The largest body, decompressed.
    pub max_body: ByteSize,
    /// The largest single call.
    pub max_event: ByteSize,
    /// The most calls in a batch.
    pub max_batch_events: usize,
    /// For the head of a request.
    pub header_timeout: Duration,
    /// For the body of a request.
    pub body_timeout: Duration,
    /// For a client to take any byte of its answer.
    pub write_timeout: Duration,
    /// The most connections at one time.
    pub max_connections: usize,
    /// The most bytes that all requests under way may hold together.
    pub max_in_flight: ByteSize,
    /// Names in lower case that `Host` may carry besides those of this machine. None: on a loopback address those
    /// alone, on any other all.
    pub allowed_hosts: Vec<String>,
    /// The address by which browsers reach it, without a slash at the end.
    pub public_url: Option<String>,
    /// Whether the client's address fills an absent `context.ip`.
    pub fill_ip: bool,
    /// The proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// The encrypted listener.
    pub tls: Option<Tls>,
    /// How long a shutdown waits for what is under way.
    pub drain_timeout: Duration,
}

/// `[server.tls]`: an encrypted listener of the tracking API.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Where it listens.
    pub listen: SocketAddr,
    /// A PEM file: the certificate chain.
    pub certificate: PathBuf,
    /// A PEM file: the private key.
    pub key: PathBuf,
}

/// `[admin]`: health and metrics.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What clients must send; always there when `listen` is not a loopback address.
    pub token: Option<Secret>,
    /// As [`Server::allowed_hosts`].
    pub allowed_hosts: Vec<String>,
}

/// `[[sources]]`: a caller with a write key.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, unlike any other's.
    pub name: String,
    /// Its key, unlike any other's.
    pub write_key: Secret,
    /// Whether its calls are accepted.
    pub enabled: bool,
    /// Whether one refused call refuses its batch.
    pub strict: bool,
    /// Web origins in lower case, without a slash at the end. None: all.
    pub allowed_origins: Vec<String>,
    /// The bearer token that it may send.
    pub bearer_token: Option<Secret>,
}

/// `[queue]`: where accepted calls are kept.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The data directory.
    pub path: PathBuf,
    /// The most disk.
    pub max_disk: ByteSize,
    /// How long finished calls are kept.
    pub retain: Duration,
    /// How far back repeated calls are recognised.
    pub duplicate_window: DuplicateWindow,
}

/// `[queue.duplicate_window]`: what is less counts.
#[derive(Clone, Debug)]
pub struct DuplicateWindow {
    /// How long.
    pub time: Duration,
    /// How many calls for each source.
    pub count: usize,
}

/// `[destinations.NAME]`: a configured instance of an adapter.
#[derive(Clone)]
pub struct Destination {
    /// The table's name.
    pub name: String,
    /// The adapter's name.
    pub adapter: String,
    /// Whether it takes calls.
    pub enabled: bool,
    /// Whether it keeps calls and sends nothing.
    pub paused: bool,
    /// The sources it takes; `None` for all.
    pub sources: Option<Vec<String>>,
    /// Whether it takes only calls that name it; `None`: as the adapter has it.
    pub opt_in: Option<bool>,
    /// The adapter's settings with everything put in; may hold secrets. Of a disabled destination they may be incomplete.
    pub settings: toml::Table,
    /// `[destinations.NAME.delivery]`
    pub delivery: Delivery,
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Destination")
            .field("name", &self.name)
            .field("adapter", &self.adapter)
            .field("enabled", &self.enabled)
            .field("paused", &self.paused)
            .field("sources", &self.sources)
            .field("opt_in", &self.opt_in)
            .field("settings", &"***")
            .field("delivery", &self.delivery)
            .finish()
    }
}

/// `[destinations.NAME.delivery]`: how it is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// How long a failing delivery is tried again.
    pub retry_for: Duration,
    /// The most requests at one time; `None` for what delivery takes by itself.
    pub max_concurrency: Option<usize>,
    /// How long a batch waits to fill; `None` for what the adapter says.
    pub linger: Option<Duration>,
    /// A rate to keep beside those that the adapter knows.
    pub rate_limit: Option<Rate>,
    /// How many calls may wait for it; `None` for any number.
    pub max_backlog: Option<usize>,
    /// Whether it may call private, loopback and link-local addresses.
    pub allow_private_networks: bool,
    /// For how long an identify that changes nothing is not sent; `None` where each one is.
    pub suppress_unchanged: Option<Duration>,
}

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; `None` where there is any error.
    pub config: Option<Config>,
    /// What keeps it from being used.
    pub errors: Vec<Problem>,
    /// What is odd about it.
    pub warnings: Vec<Problem>,
}

/// The adapters as configuration sees them.
pub trait Adapters {
    /// Their names.
    fn names(&self) -> Vec<String>;

    /// What is wrong with their manifests, where they were read from a folder.
    fn problems(&self) -> Vec<Problem>;

    /// What is wrong with a destination's settings.
    fn check(&self, adapter: &str, destination: &str, settings: &toml::Table) -> Vec<SettingProblem>;
}

/// Brings in the built-in adapters and those of a folder.
pub type OpenAdapters<'a> = &'a dyn Fn(Option<&Path>) -> Box<dyn Adapters>;

/// A mistake in a destination's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingProblem {
    /// The setting, and the keys and positions inside it; empty for the table as a whole. One that is missing is named
    /// too: the problem then stands where its table does.
    pub path: Vec<String>,
    /// As [`Problem::message`].
    pub message: String,
    /// As [`Problem::remedy`].
    pub remedy: String,
}
