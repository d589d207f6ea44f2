//! `fanout completions`: the script that a shell completes the command line with.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use super::Ending;
use super::args::Arguments;

/// Writes the script.
pub fn run(shell: Shell, out: &mut dyn Write) -> io::Result<Ending> {
    // The generator panics where it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "fanout", &mut script);
    out.write_all(&script)?;
    Ok(Ending::Done)
}
