//! `fanout sandbox`: runs the stand-in for the vendors by itself.

use std::io::{self, Write};
use std::sync::Arc;

use fanout_sdk::adapter::Adapter;

use super::serve::Signals;
use super::{Ending, block_on, output};
use crate::clock::SystemClock;
use crate::sandbox::{Options, Sandbox, SandboxError};

/// Runs the sandbox until it is told to stop.
pub fn run(adapters: &[Adapter], listen: &str, count_only: bool, out: &mut dyn Write) -> io::Result<Ending> {
    block_on(async {
        let mut signals = Signals::new()?;
        let sandbox = match start(adapters, listen, count_only).await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                output::complain(&error.to_string());
                return Ok(Ending::Failed);
            }
        };
        writeln!(out, "sandbox {}", sandbox.url())?;
        writeln!(out, "what it received: curl {}/_sandbox/requests", sandbox.url())?;
        out.flush()?;
        signals.next().await;
        Ok(Ending::Done)
    })?
}

/// A sandbox that answers as the built-in adapters' vendors do.
pub async fn start(adapters: &[Adapter], listen: &str, count_only: bool) -> Result<Sandbox, SandboxError> {
    let answers = adapters.iter().filter_map(|adapter| Some((adapter.name, adapter.sandbox?))).collect();
    Sandbox::start(listen, Options { vendors: answers, count_only }, Arc::new(SystemClock)).await
}
