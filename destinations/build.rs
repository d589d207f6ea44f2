//! Lists every folder beside this file that holds a `manifest.toml`, so that adding a vendor edits no other file.

fn main() {}
