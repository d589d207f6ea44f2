//! The command line: what can be asked, and who answers. It reads arguments and picks the exit code; each command has a
//! file of its own.

mod adapters;
mod args;
mod check;
mod completions;
mod dead_letters;
mod demo;
pub mod examples;
mod output;
mod preview;
mod remote;
mod replay;
mod sandbox;
mod serve;
mod test_adapter;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use fanout_sdk::adapter::Adapter;
use fanout_sdk::problem::Problem;

use crate::config::{self, AdapterSet, Config, Loaded};
use args::{Arguments, Command, Common};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It did what was asked.
    Done,
    /// It could not.
    Failed,
    /// The arguments or the configuration are wrong.
    Wrong,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> ExitCode {
        ExitCode::from(match ending {
            Ending::Done => 0,
            Ending::Failed => 1,
            Ending::Wrong => 2,
        })
    }
}

/// Runs the command line of this process with the built-in adapters.
pub fn run() -> ExitCode {
    run_with(&[])
}

/// Runs the command line of this process with the built-in adapters and these beside them: the whole of a binary that
/// carries adapters of its own.
///
/// ```no_run
/// use fanout_sdk::adapter::Adapter;
///
/// const ACME: Adapter = Adapter { name: "acme", manifest: "…", sandbox: None, code: None };
///
/// fn main() -> std::process::ExitCode {
///     fanout::cli::run_with(&[ACME])
/// }
/// ```
pub fn run_with(own: &[Adapter]) -> ExitCode {
    // Wrong usage ends here, with help and exit code 2.
    let arguments = Arguments::parse();
    let adapters: Vec<Adapter> = fanout_destinations::builtin().iter().chain(own).copied().collect();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let ended = answer(arguments, &adapters, &mut out).and_then(|ending| out.flush().map(|()| ending));
    match ended {
        Ok(ending) => ending.into(),
        // Who reads our output has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ending::Done.into(),
        Err(error) => {
            output::complain(&format!("cannot write the output: {error}"));
            Ending::Failed.into()
        }
    }
}

fn answer(arguments: Arguments, adapters: &[Adapter], out: &mut dyn Write) -> io::Result<Ending> {
    let common = arguments.common;
    match arguments.command {
        Command::Serve => serve::run(&common, adapters, out),
        Command::Demo => demo::run(adapters, out),
        Command::Sandbox { listen, count_only } => sandbox::run(adapters, &listen, count_only, out),
        Command::Check => check::run(&common, adapters, out),
        Command::Preview(arguments) => preview::run(&common, adapters, &arguments, out),
        Command::Replay(arguments) => replay::run(&common, adapters, &arguments, out),
        Command::Adapters { name } => adapters::run(&common, adapters, name.as_deref(), out),
        Command::TestAdapter { folder, update } => test_adapter::run(&common, adapters, &folder, update, out),
        Command::DeadLetters { command } => dead_letters::run(&common, adapters, &command, out),
        Command::Completions { shell } => completions::run(shell, out),
    }
}

/// The configuration with its warnings, for commands that cannot do without it. `None` where it has errors, which are on
/// standard error then.
fn configuration(common: &Common, built_in: &[Adapter]) -> io::Result<Option<(Config, Vec<Problem>)>> {
    let Loaded { config, errors, warnings } =
        config::load(&common.config, &|folder| AdapterSet::open_boxed(built_in, folder));
    if config.is_none() {
        output::problems(&mut io::stderr(), &errors, &warnings)?;
    }
    Ok(config.map(|config| (config, warnings)))
}

/// Runs an asynchronous command. When it has ended nothing more is waited for: a name that is being resolved, for one,
/// cannot be given up, and takes as long as the system lets it.
fn block_on<F: Future>(command: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(command);
    runtime.shutdown_background();
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_has_ended_waits_for_no_call_that_blocks() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let command = async {
            tokio::task::spawn_blocking(move || ended.recv());
            7
        };
        assert_eq!(block_on(command).unwrap(), 7);
        drop(end);
    }
}
