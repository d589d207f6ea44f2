//! A fanout with one adapter more than the built-in ones: `cardfile check`, `cardfile serve` and all the rest.

fn main() -> std::process::ExitCode {
    fanout::cli::run_with(&[cardfile::ADAPTER])
}
