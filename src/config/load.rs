//! Brings in the configuration file and the environment, and hands them to `resolve`. Nothing else reads them. What
//! the command line reads and writes for its users goes through here too.

use std::io;
use std::path::{Path, PathBuf};

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
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| Problem {
            file: path.display().to_string(),
            line: 0,
            column: 0,
            message: format!("the file cannot be read: {error}"),
            remedy: "check its path and who may read it".into(),
        })
    };
    Ok((read(&tls.certificate)?, read(&tls.key)?))
}

/// What is logged: `FANOUT_LOG`, written as in `RUST_LOG`; without it, what matters to an operator.
pub fn log_filter() -> String {
    std::env::var("FANOUT_LOG").unwrap_or_else(|_| "info".to_owned())
}

/// The `adapters_dir` of a configuration file that may be missing or wrong otherwise.
pub fn adapters_dir(path: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(path).ok()?;
    let dir = text.parse::<toml::Table>().ok()?.get("adapters_dir")?.as_str()?.to_owned();
    let world =
        World { variable: &|name| std::env::var(name).ok(), file: &|path| std::fs::read_to_string(path) };
    super::expand::expand(&dir, &world).ok().map(PathBuf::from)
}

/// Reads a file that the user named.
pub fn read_text(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

/// Writes a file that the user named.
pub fn write_text(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
}

/// The files of a folder with that ending, in the order of their names.
pub fn files_in(folder: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == ending) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(file: String, error: &io::Error) -> Problem {
    let (message, remedy) = match error.kind() {
        io::ErrorKind::NotFound => (
            "there is no such file".to_owned(),
            "copy config.example.toml to it, name another with --config FILE, or try `fanout demo`, which needs none",
        ),
        io::ErrorKind::InvalidData => ("the file is not UTF-8 text".to_owned(), "save it as UTF-8"),
        _ => (format!("the file cannot be read: {error}"), "check its path and who may read it"),
    };
    Problem { file, line: 0, column: 0, message, remedy: remedy.into() }
}
