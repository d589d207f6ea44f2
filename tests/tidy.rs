//! Checks of the tree itself: module docs, borders between modules, licences of dependencies, paths named in documents.
//! It does not run the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files_under(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            found.extend(files_under(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}

fn sources() -> Vec<PathBuf> {
    ["src", "sdk", "destinations", "tests", "benches", "examples"]
        .iter()
        .map(|folder| root().join(folder))
        .filter(|folder| folder.exists())
        .flat_map(|folder| files_under(&folder, "rs"))
        .collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

#[test]
fn every_file_says_its_job() {
    let silent: Vec<_> =
        sources().iter().filter(|path| !read(path).starts_with("//!")).map(|path| relative(path)).collect();
    assert!(silent.is_empty(), "these files do not open with //!: {silent:?}");
}

/// What a module of the router may not reach; see ARCHITECTURE.md, "Invariants".
const BORDERS: &[(&str, &[&str])] = &[
    ("src/ingest", &["crate::delivery", "crate::admin", "crate::cli", "crate::app"]),
    ("src/delivery", &["crate::ingest", "crate::admin", "crate::cli", "crate::app"]),
    (
        "src/queue",
        &["crate::ingest", "crate::delivery", "crate::config", "crate::routing", "crate::app", "fanout_sdk"],
    ),
    (
        "src/routing.rs",
        &["crate::queue", "crate::ingest", "crate::delivery", "crate::config", "crate::app", "std::fs"],
    ),
    ("src/config", &["crate::queue", "crate::ingest", "crate::delivery", "crate::cli", "crate::app"]),
    ("sdk/src", &["std::fs", "std::net", "std::env", "SystemTime::now", "tokio::"]),
];

#[test]
fn modules_keep_their_borders() {
    let mut broken = Vec::new();
    for path in sources() {
        let name = relative(&path);
        let text = read(&path);
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (module, forbidden) in BORDERS.iter().filter(|(module, _)| name.starts_with(module)) {
            if name.ends_with("tests.rs") || name.contains("/tests/") {
                continue;
            }
            for word in forbidden.iter().filter(|word| product.contains(**word)) {
                broken.push(format!("{name}: {module} may not use {word}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_vendor_is_named_outside_its_folder() {
    let vendors: Vec<String> = std::fs::read_dir(root().join("destinations"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().join("manifest.toml").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "webhook") // also the common word for what it is
        .collect();
    assert!(!vendors.is_empty());
    let mut named = Vec::new();
    for path in ["src", "sdk/src"].iter().flat_map(|folder| files_under(&root().join(folder), "rs")) {
        let text = read(&path);
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        if path.ends_with("tests.rs") {
            continue;
        }
        for (number, line) in product.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default().to_lowercase();
            for vendor in vendors.iter().filter(|vendor| code.contains(vendor.as_str())) {
                named.push(format!("{}:{}: {vendor}", relative(&path), number + 1));
            }
        }
    }
    assert!(named.is_empty(), "{}", named.join("\n"));
}

#[test]
fn documents_name_only_paths_that_exist() {
    let mut missing = Vec::new();
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "destinations/README.md"] {
        for word in read(&root().join(document)).split('`').skip(1).step_by(2) {
            let is_path = ["src/", "sdk/", "destinations/", "tests/", "benches/", "docs/", "examples/"]
                .iter()
                .any(|top| word.starts_with(top));
            let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_path && plain && !root().join(word).exists() {
                missing.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn dependencies_are_what_deny_toml_allows() {
    let rules: toml::Table = read(&root().join("deny.toml")).parse().unwrap();
    let texts = |value: &toml::Value| -> BTreeSet<String> {
        value.as_array().unwrap().iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let allowed = texts(&rules["licenses"]["allow"]);
    let banned: BTreeSet<_> = rules["bans"]["deny"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ban| ban["crate"].as_str().unwrap().to_owned())
        .collect();
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--all-features"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50, "only {} packages", packages.len());
    let resolved: BTreeSet<_> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["id"].as_str().unwrap())
        .collect();
    let mut wrong = Vec::new();
    for package in packages.iter().filter(|package| resolved.contains(package["id"].as_str().unwrap())) {
        let name = package["name"].as_str().unwrap();
        let license = package["license"].as_str().unwrap_or("none given");
        if !license_is_allowed(license, &allowed) {
            wrong.push(format!("{name}: licence {license} is not in deny.toml"));
        }
        if banned.contains(name) {
            wrong.push(format!("{name} is banned by deny.toml"));
        }
        if package["source"].as_str().is_some_and(|source| !source.starts_with("registry+")) {
            wrong.push(format!("{name} comes from {}", package["source"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether one alternative of an SPDX expression (`A OR B`, `A/B`, `A AND B`, one level of brackets) is allowed.
fn license_is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    if expression.contains('(') {
        return expression
            .split(" AND ")
            .all(|part| license_is_allowed(part.trim_matches(['(', ')']), allowed));
    }
    expression
        .split(" OR ")
        .any(|choice| choice.split(" AND ").all(|license| allowed.contains(license.trim())))
}

#[test]
fn license_expressions_are_read() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Unicode-3.0".to_owned()]);
    for (expression, expected) in [
        ("MIT", true),
        ("MIT OR Apache-2.0", true),
        ("Apache-2.0/MIT", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("GPL-3.0", false),
        ("MIT AND GPL-3.0", false),
        ("(GPL-2.0 OR GPL-3.0) AND MIT", false),
    ] {
        assert_eq!(license_is_allowed(expression, &allowed), expected, "{expression}");
    }
}
