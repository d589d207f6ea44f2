//! The sandbox: one server that stands in for every vendor. It takes `/HOST/PATH`, remembers what it got and answers
//! like the vendor, or as a script says.
//!
//! `GET /_sandbox/requests` lists what was received, one line of JSON each (`?after=NUMBER`,
//! `?host=PATTERN`, `?wait=SECONDS` for one to come);
//! `DELETE` forgets it. `GET /_sandbox/counts` counts. `POST /_sandbox/answers` scripts answers, `DELETE` forgets them.
//! It shows what it received as it was, secrets included: it is meant for a loopback address.

pub mod record;
pub mod rules;
mod serve;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanout_sdk::destination::Clock;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use record::{Count, Received, Record};
use rules::{Rule, RuleError, Rules};

/// What a sandbox is made of.
#[derive(Default)]
pub struct Options<'a> {
    /// The texts of the vendors' `sandbox.json`, each with its adapter's name for messages.
    pub vendors: Vec<(&'a str, &'a str)>,
    /// Counts items and keeps no request: the end of a benchmark.
    pub count_only: bool,
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A vendor's answers.
    #[error("sandbox.json of {0}: {1}")]
    Vendor(String, RuleError),
    /// The address.
    #[error("cannot listen on {0}: {1}")]
    Listen(String, std::io::Error),
}

/// A running sandbox; stops when dropped.
pub struct Sandbox {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    rules: Mutex<Rules>,
    record: Mutex<Record>,
    count_only: bool,
    clock: Arc<dyn Clock>,
    /// Changes whenever a request was kept.
    news: tokio::sync::watch::Sender<()>,
}

impl Sandbox {
    /// Listens on an address such as `127.0.0.1:8082`; port 0 takes a free one.
    pub async fn start(
        listen: &str,
        options: Options<'_>,
        clock: Arc<dyn Clock>,
    ) -> Result<Sandbox, SandboxError> {
        let mut vendors = Vec::<Rule>::new();
        for (name, text) in options.vendors {
            vendors.extend(rules::parse(text).map_err(|error| SandboxError::Vendor(name.to_owned(), error))?);
        }
        let failed = |error| SandboxError::Listen(listen.to_owned(), error);
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = Arc::new(State {
            rules: Mutex::new(Rules::new(vendors)),
            record: Mutex::default(),
            count_only: options.count_only,
            clock,
            news: Default::default(),
        });
        let task = tokio::spawn(serve::accept(listener, state.clone()));
        Ok(Sandbox { address, state, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What goes into `[sandbox] url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The latest requests, oldest first.
    pub fn requests(&self) -> Vec<Received> {
        self.state.record().kept().cloned().collect()
    }

    /// How much came in all.
    pub fn total(&self) -> Count {
        self.state.record().total()
    }

    /// Scripts answers, as `POST /_sandbox/answers` does.
    pub fn script(&self, text: &str) -> Result<(), RuleError> {
        self.state.script(text)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script(&self, text: &str) -> Result<(), RuleError> {
        let rules = rules::parse(text)?;
        if self.rules().script(rules) { Ok(()) } else { Err(RuleError::too_many()) }
    }
}

#[cfg(test)]
mod tests;
