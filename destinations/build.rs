//! Lists every folder beside this file that holds a `manifest.toml`, with its `sandbox.json` and the Rust code of its
//! `mod.rs` where there are such, so that adding a vendor edits no other file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=.");
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut names: Vec<String> = fs::read_dir(&here)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| here.join(name).join("manifest.toml").is_file())
        .collect();
    names.sort_unstable();
    let mut modules = String::new();
    let mut list = String::from("static BUILTIN: &[Adapter] = &[\n");
    for name in names {
        let folder = here.join(&name);
        let manifest = text(&folder, "manifest.toml");
        let sandbox = match folder.join("sandbox.json").is_file() {
            true => format!("Some({})", text(&folder, "sandbox.json")),
            false => "None".to_owned(),
        };
        let code = match folder.join("mod.rs").is_file() {
            true => {
                let module = format!("vendor_{}", name.replace('-', "_"));
                let file = folder.join("mod.rs");
                writeln!(modules, "#[path = {file:?}]\nmod {module};").map_err(io::Error::other)?;
                format!("Some({module}::adapter)")
            }
            false => "None".to_owned(),
        };
        writeln!(
            list,
            "    Adapter {{ name: {name:?}, manifest: {manifest}, sandbox: {sandbox}, code: {code} }},"
        )
        .map_err(io::Error::other)?;
    }
    list.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(Path::new(&out).join("builtin.rs"), modules + &list)
}

/// The expression that embeds a file.
fn text(folder: &Path, file: &str) -> String {
    format!("include_str!({:?})", folder.join(file))
}
