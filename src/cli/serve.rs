//! `fanout serve`: runs the router until it is told to stop.

use std::io::{self, Write};
use std::sync::Arc;

use tokio::sync::Notify;

use fanout_sdk::adapter::Adapter;

use super::args::Common;
use super::{Ending, block_on, configuration, output};
use crate::app::{Instance, StartError};
use crate::config::{self, AdapterSet, Config};
use crate::telemetry::{self, LogFormat};

/// Runs the router.
pub fn run(common: &Common, built_in: &[Adapter], out: &mut dyn Write) -> io::Result<Ending> {
    let Some((config, warnings)) = configuration(common, built_in)? else { return Ok(Ending::Wrong) };
    for warning in &warnings {
        output::complain(&warning.to_string());
    }
    let adapters = AdapterSet::open(built_in, config.adapters_dir.as_deref());
    let format = if common.json { LogFormat::Json } else { LogFormat::Text };
    if let Err(problem) = telemetry::init_logging(format, &config::log_filter()) {
        output::complain(&problem);
        return Ok(Ending::Wrong);
    }
    block_on(serve(&config, &adapters, out))?
}

async fn serve(config: &Config, adapters: &AdapterSet, out: &mut dyn Write) -> io::Result<Ending> {
    // Before anything listens: a signal during the start must not be missed.
    let mut signals = Signals::new()?;
    let instance = match Instance::start(config, adapters).await {
        Ok(instance) => instance,
        Err(error) => {
            output::complain(&error.to_string());
            return Ok(match error {
                StartError::Destination { .. } | StartError::Stamp { .. } => Ending::Wrong,
                _ => Ending::Failed,
            });
        }
    };
    // Without a certificate a hang-up means what it means to every program.
    let renewals = instance.certificate_changed().map(Hangups::new).transpose()?;
    addresses(&instance, out)?;
    writeln!(out, "ready")?;
    out.flush()?;
    if let Some(renewals) = renewals {
        tokio::spawn(renewals.pass_on());
    }
    let signal = signals.next().await;
    tracing::info!(signal, "stopping; what is under way may finish");
    tokio::select! {
        () = instance.stop() => Ok(Ending::Done),
        signal = signals.next() => {
            output::complain(&format!(
                "{signal} again: ended at once; calls that were accepted are safe, and what was under way is sent again"
            ));
            Ok(Ending::Failed)
        }
    }
}

/// Where an instance listens, a line each.
pub fn addresses(instance: &Instance, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "fanout {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "tracking API  http://{}", instance.tracking)?;
    if let Some(address) = instance.tracking_tls {
        writeln!(out, "              https://{address}")?;
    }
    writeln!(out, "admin         http://{}", instance.admin)
}

/// SIGHUP, which tells that the certificate's files have changed.
struct Hangups {
    hangup: tokio::signal::unix::Signal,
    changed: Arc<Notify>,
}

impl Hangups {
    /// Catches them from now on.
    fn new(changed: Arc<Notify>) -> io::Result<Hangups> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Hangups { hangup: signal(SignalKind::hangup())?, changed })
    }

    async fn pass_on(mut self) {
        while self.hangup.recv().await.is_some() {
            self.changed.notify_one();
        }
    }
}

/// The signals that end a process in an orderly way.
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Catches them from now on.
    pub fn new() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one and names it.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
