//! What the command line takes, with its help. It does nothing.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// Takes Segment-style identify calls over HTTP and delivers each one to the vendors that are switched on.
#[derive(Debug, Parser)]
#[command(name = "fanout", version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Arguments {
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  fanout check                               what is wrong with fanout.toml, and what would run
  fanout adapters webhook                    what a destination for Webhook is configured with
  fanout preview --event call.json           what each destination would get for one call

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.";

/// What every command takes.
#[derive(Args, Debug)]
pub struct Common {
    /// The configuration file
    #[arg(short, long, global = true, value_name = "FILE", default_value = "fanout.toml")]
    pub config: PathBuf,

    /// Write JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the router
    ///
    /// Prints where it listens and `ready`, then runs until SIGTERM or Ctrl-C; what is under way may finish first, and
    /// what is not finished goes on at the next start. FANOUT_LOG sets what is logged, such as `warn`; --json writes the
    /// log as JSON.
    #[command(after_help = "Example:\n  fanout serve --config /etc/fanout.toml")]
    Serve,

    /// Show the router at work, without configuration
    ///
    /// Runs router and sandbox in one process, sends the specifications' example calls, prints what each vendor received
    /// and stays up with an address to post to. Without a terminal on standard input it ends by itself.
    Demo,

    /// Run the stand-in for the vendors by itself
    ///
    /// Takes /HOST/PATH, remembers what it got and answers like the vendor. With its address as `[sandbox] url`,
    /// everything goes there instead of to the vendors.
    #[command(after_help = "Example:\n  fanout sandbox --listen 127.0.0.1:8082")]
    Sandbox {
        /// Where it listens; port 0 takes a free one
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8082")]
        listen: String,
        /// Only count what comes in, for measuring
        #[arg(long)]
        count_only: bool,
    },

    /// Check the configuration and say what would run
    ///
    /// Reports every mistake at once, each with its place and its remedy. Changes nothing and calls nobody.
    /// With --json: one list of problems, each with severity, file, line, column, message and remedy.
    #[command(after_help = "Examples:\n  fanout check\n  fanout --config /etc/fanout.toml check --json")]
    Check,

    /// Show what each destination would get for one call; send nothing
    ///
    /// Routes and renders the call as live delivery does. Whatever depends on a secret is shown as `***`.
    /// With --json: one line for each destination with destination, adapter, outcome ("send" or "skip"), reason where
    /// it is skipped, warnings, and requests with method, url, headers and body.
    #[command(
        after_help = "Examples:\n  fanout preview\n  fanout preview --event call.json --to webhook\n  \
        echo '{\"userId\":\"u1\",\"traits\":{\"email\":\"ada@example.com\"}}' | fanout preview --event - --json"
    )]
    Preview(PreviewArguments),

    /// Send retained calls to a destination again, or for the first time
    ///
    /// Asks the running instance, which sends them beside live traffic at a bounded rate, each by its own integrations
    /// flags, a user's in their order, and goes on after a restart. A call whose traits were all set again by later
    /// ones is left out. Times are written as 2026-11-22T10:00:00Z, as 2026-11-22, or as how long ago: 2h, 7d.
    #[command(
        subcommand_negates_reqs = true,
        after_help = "Examples:\n  fanout replay --to webhook --since 2h --dry-run\n  \
        fanout replay --to webhook --since 2026-11-20 --until 2026-11-21 --rate '100 per 1 s'\n  \
        fanout replay --to webhook --since 7d --user u1 --all\n  fanout replay list\n  fanout replay cancel 3"
    )]
    Replay(ReplayArguments),

    /// List the vendors there are, or show the settings of one
    #[command(after_help = "Examples:\n  fanout adapters\n  fanout adapters webhook")]
    Adapters {
        /// The adapter to describe, such as `webhook`
        name: Option<String>,
    },

    /// Run the golden cases of an adapter of your own
    ///
    /// Reads DIR/manifest.toml and DIR/cases/*.json, sends nothing, and says how each case went; then how the adapter
    /// stands the conformance checks, those aside that DIR/conformance.toml waives.
    #[command(
        after_help = "Examples:\n  fanout test-adapter adapters/acme\n  fanout test-adapter adapters/acme --update"
    )]
    TestAdapter {
        /// The adapter's folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,

        /// Rewrite the cases as they were seen; read the difference before you keep it
        #[arg(long)]
        update: bool,
    },

    /// See, send again or delete deliveries that will not be tried again by themselves
    ///
    /// Asks the running instance; where none runs, it locks the data directory and works there.
    #[command(after_help = "Examples:\n  fanout dead-letters list --destination webhook --since 2h\n  \
        fanout dead-letters show webhook:123\n  fanout dead-letters redrive --destination webhook --reason rejected")]
    DeadLetters {
        /// What to do with them
        #[command(subcommand)]
        command: DeadLettersCommand,
    },

    /// Print a script that completes the command line
    #[command(
        after_help = "Example:\n  fanout completions bash > ~/.local/share/bash-completion/completions/fanout"
    )]
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// What `dead-letters` does.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List them, one line each; with --json one object a line
    List {
        /// Which ones
        #[command(flatten)]
        filter: LetterFilter,

        /// Go on behind this one
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },

    /// Show all that is known of one: the call, the request, the last answer
    Show {
        /// Its id, such as webhook:123
        id: String,
    },

    /// Send them again, each user's in their order and before what waits
    ///
    /// Traits that later delivered calls of the same user have set again are left out; where nothing is left, the
    /// delivery is skipped as superseded.
    Redrive {
        /// Their ids, such as webhook:123; or give a filter
        ids: Vec<String>,

        /// Which ones
        #[command(flatten)]
        filter: LetterFilter,

        /// Send also what a later delivered call has set again
        #[arg(long)]
        all: bool,
    },

    /// Delete them; they stay counted as dead and cannot be sent again
    Purge {
        /// Their ids, such as webhook:123; or give a filter
        ids: Vec<String>,

        /// Which ones
        #[command(flatten)]
        filter: LetterFilter,
    },
}

/// Which dead letters are meant.
#[derive(Args, Debug, Default)]
pub struct LetterFilter {
    /// Of this destination, also those of replays to it
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,

    /// Of the replay with this number
    #[arg(long, value_name = "NUMBER")]
    pub replay: Option<u64>,

    /// With this reason, such as rejected or expired
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,

    /// Of this user: a userId or an anonymousId
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,

    /// That died at this time or later: 2026-11-22T08:30:00Z, 2026-11-22, or 2h for two hours ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// That died before this time, written as for --since
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// At most so many; a list has 100 without it
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<u64>,
}

/// What `preview` takes.
#[derive(Args, Debug)]
pub struct PreviewArguments {
    /// A file with one call as JSON, `-` for standard input; without it, the specification's own example
    #[arg(long, value_name = "FILE")]
    pub event: Option<PathBuf>,

    /// Only this destination
    #[arg(long, value_name = "NAME")]
    pub to: Option<String>,

    /// A file with the vendor's answers: a JSON list of {"status", "headers", "body"} or {"none": "timeout"}, given
    /// in their order to each destination's requests; after them, and without it, everything succeeds
    #[arg(long, value_name = "FILE")]
    pub responses: Option<PathBuf>,

    /// Route as if this source had sent it; without it, `sources` of destinations is not asked
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,

    /// Show secrets
    #[arg(long)]
    pub show_secrets: bool,
}

/// What `replay` takes.
#[derive(Args, Debug)]
pub struct ReplayArguments {
    /// What to do instead of starting one.
    #[command(subcommand)]
    pub command: Option<ReplayCommand>,

    /// The destination
    #[arg(long, value_name = "NAME", required = true)]
    pub to: Option<String>,

    /// Calls received from this time on
    #[arg(long, value_name = "TIME", required = true)]
    pub since: Option<String>,

    /// Calls received before this time; without it, now
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// Only calls of this userId or anonymousId
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,

    /// So many calls at most, as in "100 per 1 s"; without it, a tenth of what the vendor publishes, or 50 a second
    #[arg(long, value_name = "RATE")]
    pub rate: Option<String>,

    /// Send also what later calls have set again
    #[arg(long)]
    pub all: bool,

    /// Count what would be sent; send nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What else there is to do with replays.
#[derive(Debug, Subcommand)]
pub enum ReplayCommand {
    /// List replays, under way and ended
    List,

    /// End a replay, or take one that has ended off the list, with its dead letters
    Cancel {
        /// Its number
        id: u64,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }
}
