//! Brings in the configuration file and the environment, and hands them to `resolve`. Nothing else reads them.

use std::path::Path;

use fanout_sdk::problem::Problem;

use super::{Loaded, OpenAdapters, Tls, World, resolve};

/// Reads a configuration file with this process's environment.
pub fn load(path: &Path, open_adapters: OpenAdapters<'_>) -> Loaded {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let world = World {
                variable: &|name| std::env::var(name).ok(),
                file: &|path| std::fs::read_to_string(path),
            };
            resolve(&file, &text, &world, open_adapters)
        }
        Err(error) => Loaded { config: None, errors: vec![unreadable(file, &error)], warnings: Vec::new() },
    }
}

/// Reads the files of a listener's certificate chain and private key.
///
/// # Errors
/// The one that cannot be read.
pub fn read_certificate(tls: &Tls) -> Result<(Vec<u8>, Vec<u8>), Problem> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| unreadable(path.display().to_string(), &error));
    Ok((read(&tls.certificate)?, read(&tls.key)?))
}

/// What is logged: `FANOUT_LOG`, written as in `RUST_LOG`; without it, what matters to an operator.
pub fn log_filter() -> String {
    std::env::var("FANOUT_LOG").unwrap_or_else(|_| "info".to_owned())
}

fn unreadable(file: String, error: &std::io::Error) -> Problem {
    let (message, remedy) = match error.kind() {
        std::io::ErrorKind::NotFound => (
            "there is no such file".to_owned(),
            "copy config.example.toml to it, name another with --config FILE, or try `fanout demo`, which needs none",
        ),
        std::io::ErrorKind::InvalidData => ("the file is not UTF-8 text".to_owned(), "save it as UTF-8"),
        _ => (format!("the file cannot be read: {error}"), "check its path and who may read it"),
    };
    Problem { file, line: 0, column: 0, message, remedy: remedy.into() }
}
