//! `docs/config.md` and `config.example.toml` say what the program does.

use toml::Value;

use super::*;
use crate::config::schema::{Absent, Key, TABLES};

const EXAMPLE: &str = include_str!("../../../config.example.toml");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md");

/// The example with every setting in force.
fn example_in_full() -> String {
    EXAMPLE
        .lines()
        .map(|line| if is_setting(line) { &line[1..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect()
}

fn is_setting(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
}

fn example_world(text: &str) -> Loaded {
    let variable = |name: &str| Some(format!("the-value-of-{name}"));
    let file = |path: &Path| match path.to_str() {
        Some("certificate.pem") => Ok(CERTIFICATE.to_owned()),
        Some("key.pem") => Ok(KEY.to_owned()),
        _ => Ok(String::new()),
    };
    let world = World { variable: &variable, file: &file };
    resolve("config.example.toml", text, &world, &|_| {
        AdapterSet::open_boxed(fanout_destinations::builtin(), None)
    })
}

#[test]
fn the_example_is_correct_as_it_stands_and_in_full() {
    let loaded = example_world(EXAMPLE);
    assert_eq!(shown(&loaded.errors), Vec::<String>::new());
    assert!(loaded.config.is_some());
    let full = example_world(&example_in_full());
    assert_eq!(shown(&full.errors), Vec::<String>::new());
    let config = full.config.unwrap();
    assert_eq!(config.sandbox.as_deref(), Some("http://127.0.0.1:8082"));
    assert_eq!(config.destinations[0].delivery.max_concurrency, Some(4));
}

#[test]
fn the_example_needs_only_its_write_key() {
    let variable = |name: &str| (name == "FANOUT_WRITE_KEY").then(|| "0123456789".to_owned());
    let world = World { variable: &variable, file: &|_| Ok(String::new()) };
    let loaded = resolve("config.example.toml", EXAMPLE, &world, &|_| {
        AdapterSet::open_boxed(fanout_destinations::builtin(), None)
    });
    assert_eq!(shown(&loaded.errors), Vec::<String>::new());
}

#[test]
fn the_example_holds_every_setting_with_its_default() {
    let example: toml::Table = example_in_full().parse().unwrap();
    for table in TABLES {
        for key in table.keys {
            let path = format!("{}.{}", table.header, key.name);
            let value =
                find(&example, table.header, key).unwrap_or_else(|| panic!("{path} is not in the example"));
            let written: toml::Table = match key.absent {
                Absent::Default(default) => format!("value = {default}").parse().unwrap(),
                Absent::Refused | Absent::Means(_) => continue,
            };
            // The one destination is shown switched off, so that the example runs without its token.
            if path != "[destinations.NAME].enabled" {
                assert_eq!(*value, written["value"], "{path}");
            }
        }
    }
}

/// A setting of the example by its table's header.
fn find<'a>(example: &'a toml::Table, header: &str, key: &Key) -> Option<&'a Value> {
    let mut table = example;
    for part in header.trim_matches(['[', ']']).split('.').filter(|part| !part.is_empty()) {
        let part = if part == "NAME" { table.keys().next()? } else { part };
        table = match table.get(part)? {
            Value::Array(items) => items[0].as_table()?,
            inner => inner.as_table()?,
        };
    }
    table.get(key.name)
}

#[test]
fn defaults_are_what_a_file_without_settings_gives() {
    let bare = format!("{:?}", read(GOOD).config.unwrap());
    let mut full = GOOD.to_owned();
    for table in TABLES {
        let header = table.header.replace("NAME", "pipemail");
        let lines: String = table
            .keys
            .iter()
            .filter_map(|key| match key.absent {
                Absent::Default(default) => Some(format!("{} = {default}\n", key.name)),
                Absent::Refused | Absent::Means(_) => None,
            })
            .collect();
        // Some tables switch something on by being there.
        let switches_on = table.keys.iter().any(|key| matches!(key.absent, Absent::Refused));
        if switches_on && !full.contains(&header) {
            continue;
        }
        full = match (table.header, full.find(&format!("{header}\n"))) {
            ("", _) => full,
            (_, Some(at)) => format!("{}{header}\n{lines}{}", &full[..at], &full[at + header.len() + 1..]),
            (_, None) if lines.is_empty() => full,
            (_, None) => format!("{full}\n{header}\n{lines}"),
        };
    }
    let loaded = read(&full);
    assert_eq!(shown(&loaded.errors), Vec::<String>::new());
    assert_eq!(format!("{:?}", loaded.config.unwrap()), bare);
}

#[test]
fn the_reference_is_up_to_date() {
    let page = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(Path::new(PAGE).parent().unwrap()).unwrap();
        std::fs::write(PAGE, &page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(written == page, "docs/config.md is out of date; run the tests with UPDATE_DOCS=1 to rewrite it");
}

const INTRODUCTION: &str = r#"# Configuration

<!-- Made from src/config/schema.rs: change it there, then run `UPDATE_DOCS=1 cargo test -p fanout documents`. -->

`fanout` reads one TOML file, `fanout.toml` unless `--config FILE` names another. [`config.example.toml`](../config.example.toml)
holds every setting; `fanout check` reports every mistake at once. An unknown key is a mistake.

- **Environment and files.** Inside any text value, `${NAME}` is the environment variable `NAME`, and `${file:/path}` is what
  stands in a file, without its last line break. They are put in after the file is read as TOML, so what they hold is never
  taken for TOML. `$${` is a plain `${`. One that is missing is a mistake, except in `settings` of a destination that is
  not enabled. Flags and whole numbers may be written as such a text too: `enabled = "${USE_WEBHOOK}"`.
- **Sizes** have a unit: `B`, `KB`, `MB`, `GB`, `TB` (thousands) or `KiB`, `MiB`, `GiB`, `TiB` (1024).
- **Times** have a unit: `ms`, `s`, `min`, `h` or `d`.
- **Paths** are relative to the directory in which `fanout` is started.
"#;

/// The settings reference.
fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    for table in TABLES {
        let title =
            if table.header.is_empty() { "Top level".to_owned() } else { format!("`{}`", table.header) };
        page += &format!(
            "\n## {title}\n\n{}\n\n| Setting | Holds | Default | Meaning |\n|---|---|---|---|\n",
            table.doc
        );
        for key in table.keys {
            let absent = match key.absent {
                Absent::Default(default) => format!("`{default}`"),
                Absent::Refused => "must be given".to_owned(),
                Absent::Means(words) => words.to_owned(),
            };
            page += &format!("| `{}` | {} | {absent} | {} |\n", key.name, key.kind.describe(), key.doc);
        }
    }
    page
}
