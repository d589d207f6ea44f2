//! From a file's text to a [`Config`]: reads every table and checks the tables against each other. Pure: the environment,
//! files and adapters come in as functions.

mod destinations;
mod listeners;
mod sources;

use toml::de::DeTable;

use super::read::{Reader, Section};
use super::{Config, DuplicateWindow, Loaded, OpenAdapters, Queue, World, schema};

/// Reads a configuration. `file` is its name as the user gave it, for the problems' places.
pub fn resolve(file: &str, text: &str, world: &World<'_>, open_adapters: OpenAdapters<'_>) -> Loaded {
    let (root, syntax) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(file, text, world);
    if !syntax.is_empty() {
        // What could be recovered of a broken file may be half a value; judging it would report mistakes nobody made.
        for error in &syntax {
            let span = error.span().unwrap_or_default();
            let message = error.message().replace('\n', ", ");
            match text.get(span.clone()) {
                Some(key) if message == "duplicate key" => {
                    reader.error(span.start, format!("the key `{key}` is given twice"), "remove one of them");
                }
                _ => reader.error(
                    span.start,
                    format!("this is no TOML: {message}"),
                    "texts stand in quotes, tables in brackets",
                ),
            }
        }
        return finish(None, reader);
    }
    let top = reader.section("", &schema::TOP, 0, Some(root.get_ref()));
    let adapters_dir = reader.text(&top, "adapters_dir").map(Into::into);
    let adapters = open_adapters(adapters_dir.as_deref());
    reader.errors.extend(adapters.problems());

    let listeners = listeners::read(&mut reader, &top);
    let (sources, source_names) = sources::read(&mut reader, &top);
    let queue = queue(&mut reader, &top);
    let sandbox = sandbox(&mut reader, &top);
    let in_sandbox = top.get("sandbox").is_some();
    let destinations = destinations::read(&mut reader, &top, &source_names, in_sandbox, adapters.as_ref());

    let config = listeners.zip(queue).map(|((server, admin), queue)| Config {
        server,
        admin,
        sources,
        queue,
        sandbox,
        adapters_dir,
        destinations,
    });
    finish(config, reader)
}

fn finish(config: Option<Config>, mut reader: Reader<'_>) -> Loaded {
    for problems in [&mut reader.errors, &mut reader.warnings] {
        problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    }
    let config = config.filter(|_| reader.errors.is_empty());
    Loaded { config, errors: reader.errors, warnings: reader.warnings }
}

fn queue<'a>(reader: &mut Reader<'a>, top: &Section<'a>) -> Option<Queue> {
    let section = reader.subsection(top, "queue", &schema::QUEUE);
    let path = reader.text(&section, "path");
    let max_disk = reader.size(&section, "max_disk");
    let retain = reader.time(&section, "retain");
    let window = reader.subsection(&section, "duplicate_window", &schema::DUPLICATE_WINDOW);
    let time = reader.time(&window, "time");
    let count = reader.count(&window, "count");
    Some(Queue {
        path: path?.into(),
        max_disk: max_disk?,
        retain: retain?,
        duplicate_window: DuplicateWindow { time: time?, count: count? },
    })
}

fn sandbox<'a>(reader: &mut Reader<'a>, top: &Section<'a>) -> Option<String> {
    let value = top.get("sandbox")?;
    let section = reader.subsection(top, "sandbox", &schema::SANDBOX);
    let url = reader.url(&section, "url")?;
    let message = format!("nothing reaches a vendor: requests go to the sandbox at {url}");
    reader.warn(value.span().start, message, "remove [sandbox] to call vendors");
    Some(url)
}
