//! Lists every folder beside this file that holds a `manifest.toml`, so that adding a vendor edits no other file.

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
    let mut code = String::from("static BUILTIN: &[Adapter] = &[\n");
    for name in names {
        let text =
            |file: &str| format!("include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{name}/{file}\"))");
        let sandbox = match here.join(&name).join("sandbox.json").is_file() {
            true => format!("Some({})", text("sandbox.json")),
            false => "None".to_owned(),
        };
        let manifest = text("manifest.toml");
        writeln!(code, "    Adapter {{ name: {name:?}, manifest: {manifest}, sandbox: {sandbox} }},")
            .map_err(io::Error::other)?;
    }
    code.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(Path::new(&out).join("builtin.rs"), code)
}
