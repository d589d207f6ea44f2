//! The `fanout` binary: hands the command line to `fanout::cli` and turns its verdict into an exit code.

fn main() -> std::process::ExitCode {
    fanout::cli::run()
}
