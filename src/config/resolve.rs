//! From a file's text to a [`Config`]: reads every table and checks the tables against each other. Pure: the environment,
//! files and adapters come in as functions.

use fanout_sdk::problem::nearest;
use toml::de::DeTable;

use super::read::{Reader, Section, list, locate};
use super::values::{addresses_clash, is_private_host};
use super::{
    Adapters, Admin, Config, Delivery, Destination, DuplicateWindow, Loaded, OpenAdapters, Queue, Secret,
    Server, Source, World, schema,
};

/// Write keys and tokens shorter than these are warned of and refused.
const SHORT_KEY: usize = 8;
const SHORT_TOKEN: usize = 16;

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

    let server = server(&mut reader, &top);
    let admin = admin(&mut reader, &top, server.as_ref());
    let (sources, source_names) = sources(&mut reader, &top);
    let queue = queue(&mut reader, &top);
    let sandbox = sandbox(&mut reader, &top);
    let in_sandbox = top.get("sandbox").is_some();
    let destinations = destinations(&mut reader, &top, &source_names, in_sandbox, adapters.as_ref());

    let config = (|| {
        Some(Config {
            server: server?,
            admin: admin?,
            sources,
            queue: queue?,
            sandbox,
            adapters_dir,
            destinations,
        })
    })();
    finish(config, reader)
}

fn finish(config: Option<Config>, mut reader: Reader<'_>) -> Loaded {
    reader.errors.sort_by_key(|problem| (problem.line, problem.column));
    reader.warnings.sort_by_key(|problem| (problem.line, problem.column));
    let config = config.filter(|_| reader.errors.is_empty());
    Loaded { config, errors: reader.errors, warnings: reader.warnings }
}

fn server<'a>(reader: &mut Reader<'a>, top: &Section<'a>) -> Option<Server> {
    let section = reader.subsection(top, "server", &schema::SERVER);
    let listen = reader.address(&section, "listen");
    let max_body = reader.size(&section, "max_body");
    let max_event = reader.size(&section, "max_event");
    let max_batch_events = reader.count(&section, "max_batch_events");
    let header_timeout = reader.time(&section, "header_timeout");
    let body_timeout = reader.time(&section, "body_timeout");
    let max_connections = reader.count(&section, "max_connections");
    let allowed_hosts = allowed_hosts(reader, &section);
    let public_url = reader.url(&section, "public_url");
    let fill_ip = reader.flag(&section, "fill_ip");
    let drain_timeout = reader.time(&section, "drain_timeout");
    if let (Some(event), Some(body)) = (max_event, max_body)
        && event > body
    {
        let message = format!("`server.max_event` is {event}, more than `server.max_body`, which is {body}");
        reader.error(section.place("max_event"), message, "raise `max_body` or lower `max_event`");
    }
    Some(Server {
        listen: listen?,
        max_body: max_body?,
        max_event: max_event?,
        max_batch_events: max_batch_events?,
        header_timeout: header_timeout?,
        body_timeout: body_timeout?,
        max_connections: max_connections?,
        allowed_hosts: allowed_hosts?,
        public_url,
        fill_ip: fill_ip?,
        drain_timeout: drain_timeout?,
    })
}

fn allowed_hosts<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Option<Vec<String>> {
    let hosts = reader.texts(section, "allowed_hosts")?;
    for (host, at) in &hosts {
        let is_name = host == "*"
            || (!host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || ".-_".contains(c)));
        if !is_name {
            let message = format!("`server.allowed_hosts` holds \"{host}\", which is no host name");
            reader.error(*at, message, "write the name alone, without scheme, port and path, or \"*\"");
        }
    }
    Some(hosts.into_iter().map(|(host, _)| host.to_lowercase()).collect())
}

fn admin<'a>(reader: &mut Reader<'a>, top: &Section<'a>, server: Option<&Server>) -> Option<Admin> {
    let section = reader.subsection(top, "admin", &schema::ADMIN);
    let listen = reader.address(&section, "listen");
    let token = reader.secret(&section, "token");
    if let (Some(listen), Some(server)) = (listen, server)
        && addresses_clash(listen, server.listen)
    {
        let message =
            format!("`admin.listen` is {listen}, which clashes with `server.listen`, {}", server.listen);
        reader.error(section.place("listen"), message, "use another port for one of them");
    }
    if let Some(token) = &token
        && token.expose().len() < SHORT_TOKEN
    {
        let message = format!("`admin.token` is shorter than {SHORT_TOKEN} characters");
        reader.error(
            section.place("token"),
            message,
            "use a long random one, such as from `openssl rand -hex 32`",
        );
    }
    let listen = listen?;
    if !listen.ip().is_loopback() && section.get("token").is_none() {
        let message = format!(
            "`admin.token` is missing, and `admin.listen` is {listen}, which is not a loopback address"
        );
        let remedy = "set `token` to a long random text, or listen on 127.0.0.1";
        reader.error(section.place("listen"), message, remedy);
    }
    Some(Admin { listen, token })
}

/// The sources, and the name of each one with its place, also of those that are wrong otherwise.
fn sources<'a>(reader: &mut Reader<'a>, top: &Section<'a>) -> (Vec<Source>, Vec<String>) {
    let mut sources: Vec<Source> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let Some(value) = top.get("sources") else {
        reader.warn(
            0,
            "there is no source: every call will be answered 401",
            "add a [[sources]] table with `name` and `write_key`",
        );
        return (sources, names);
    };
    let Some(items) =
        value.get_ref().as_array().filter(|items| items.iter().all(|item| item.get_ref().is_table()))
    else {
        reader.error(
            value.span().start,
            "`sources` is not a list of tables",
            "write each source under a header `[[sources]]`",
        );
        return (sources, names);
    };
    for item in items.iter() {
        let section =
            reader.section("sources", &schema::SOURCE, item.span().start, item.get_ref().as_table());
        let source = source(reader, &section, &sources, &names);
        names.extend(section.get("name").and_then(|name| name.get_ref().as_str()).map(str::to_owned));
        sources.extend(source);
    }
    if !items.is_empty() && sources.len() == items.len() && !sources.iter().any(|source| source.enabled) {
        let at = value.span().start;
        reader.warn(
            at,
            "no source is enabled: every call will be answered 401",
            "set `enabled = true` in one of them",
        );
    }
    (sources, names)
}

fn source<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    others: &[Source],
    names: &[String],
) -> Option<Source> {
    let name = reader.name("a source", section, "name");
    let write_key = reader.secret(section, "write_key");
    let enabled = reader.flag(section, "enabled");
    let strict = reader.flag(section, "strict");
    let allowed_origins = allowed_origins(reader, section);
    let bearer_token = reader.secret(section, "bearer_token");
    if let Some(name) = &name
        && names.contains(name)
    {
        reader.error(
            section.place("name"),
            format!("two sources are named `{name}`"),
            "give each one a name of its own",
        );
    }
    if let Some(key) = &write_key {
        check_write_key(reader, section, key, name.as_deref().unwrap_or("?"), others);
    }
    Some(Source {
        name: name?,
        write_key: write_key?,
        enabled: enabled?,
        strict: strict?,
        allowed_origins: allowed_origins?,
        bearer_token,
    })
}

fn check_write_key(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &Secret,
    name: &str,
    others: &[Source],
) {
    let at = section.place("write_key");
    if let Some(other) = others.iter().find(|other| other.write_key == *key) {
        let message = format!("the sources `{}` and `{name}` have the same write key", other.name);
        reader.error(at, message, "give each one a key of its own");
    }
    if key.expose().contains(':') || key.expose().chars().any(|c| c.is_whitespace() || c.is_control()) {
        let message =
            format!("the write key of `{name}` holds a colon or white space, which SDKs cannot send");
        reader.error(at, message, "use letters and digits");
    }
    if key.expose().chars().count() < SHORT_KEY {
        let message = format!("the write key of `{name}` is shorter than {SHORT_KEY} characters");
        reader.warn(at, message, "use a long random one, such as from `openssl rand -hex 16`");
    }
}

fn allowed_origins<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Option<Vec<String>> {
    let origins = reader.texts(section, "allowed_origins")?;
    let mut allowed = Vec::with_capacity(origins.len());
    for (origin, at) in origins {
        if origin == "*" {
            allowed.push(origin);
            continue;
        }
        let url =
            reqwest::Url::parse(&origin).ok().filter(|url| url.host_str().is_some() && url.path() == "/");
        match url.filter(|url| url.query().is_none() && url.fragment().is_none()) {
            Some(url) => allowed.push(url.origin().ascii_serialization()),
            None => {
                let message = format!("`sources.allowed_origins` holds \"{origin}\", which is no origin");
                reader.error(
                    at,
                    message,
                    "write scheme and host, such as \"https://www.example.com\", or \"*\"",
                );
            }
        }
    }
    Some(allowed)
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

fn destinations<'a>(
    reader: &mut Reader<'a>,
    top: &Section<'a>,
    sources: &[String],
    in_sandbox: bool,
    adapters: &dyn Adapters,
) -> Vec<Destination> {
    let mut destinations = Vec::new();
    let table = top.get("destinations").and_then(|value| reader.table("destinations", value));
    let mut entries: Vec<_> = table.into_iter().flat_map(|table| table.iter()).collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let given = entries.len();
    for (key, value) in entries {
        let (name, at) = (key.get_ref(), key.span().start);
        let path = format!("destinations.{name}");
        let Some(table) = reader.table(&path, value) else { continue };
        let named = reader.is_name("a destination", at, name);
        let section = reader.section(&path, &schema::DESTINATION, at, Some(table));
        let destination = destination(reader, &section, name, sources, in_sandbox, adapters);
        destinations.extend(destination.filter(|_| named));
    }
    if destinations.len() == given && !destinations.iter().any(|destination| destination.enabled) {
        let remedy = "add a [destinations.NAME] table, or set `enabled = true` in one; `fanout adapters` lists the vendors";
        reader.warn(
            top.place("destinations"),
            "no destination is enabled: calls are accepted and delivered nowhere",
            remedy,
        );
    }
    destinations
}

fn destination<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    name: &str,
    sources: &[String],
    in_sandbox: bool,
    adapters: &dyn Adapters,
) -> Option<Destination> {
    let enabled = reader.flag(section, "enabled");
    let paused = reader.flag(section, "paused");
    let taken = destination_sources(reader, section, sources);
    let delivery = delivery(reader, section);
    let adapter = adapter(reader, section, name, adapters);
    let may_be_private =
        in_sandbox || delivery.as_ref().is_none_or(|delivery| delivery.allow_private_networks);
    // One whose `enabled` is wrong is read as if it were enabled: what is missing will have to be there.
    let needed = enabled.unwrap_or(true);
    let settings = settings(reader, section, needed, |reader, settings, whole| {
        if !may_be_private {
            refuse_private_addresses(reader, section, name, settings);
        }
        let Some(adapter) = &adapter else { return };
        for problem in adapters.check(adapter, name, settings) {
            // Where something could not be put in, only what is there can be judged.
            if whole || problem.path.first().is_some_and(|key| settings.contains_key(key)) {
                let at = section.get("settings").map_or(section.at, |value| locate(value, &problem.path));
                reader.error(at, problem.message, problem.remedy);
            }
        }
    });
    Some(Destination {
        name: name.to_owned(),
        adapter: adapter?,
        enabled: enabled?,
        paused: paused?,
        sources: taken,
        settings: settings?,
        delivery: delivery?,
    })
}

fn adapter<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    name: &str,
    adapters: &dyn Adapters,
) -> Option<String> {
    let adapter = match section.get("adapter") {
        Some(_) => reader.text(section, "adapter")?,
        None => name.to_owned(),
    };
    let mut names = adapters.names();
    names.sort();
    if names.contains(&adapter) {
        return Some(adapter);
    }
    let remedy = match nearest(&adapter, names.iter().map(String::as_str)) {
        Some(near) if section.get("adapter").is_some() => format!("did you mean `{near}`?"),
        Some(near) => {
            format!("did you mean `{near}`? The table may have any name if you add `adapter = \"{near}\"`")
        }
        None => format!("add `adapter = \"…\"` with one of {}", list(names.iter().map(String::as_str))),
    };
    reader.error(section.place("adapter"), format!("there is no adapter `{adapter}`"), remedy);
    None
}

fn destination_sources<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    known: &[String],
) -> Option<Vec<String>> {
    let sources = reader.texts(section, "sources")?;
    if sources.is_empty() {
        let path = section.path("sources");
        reader.warn(
            section.place("sources"),
            format!("`{path}` is empty: it takes no call"),
            "remove the line to take all",
        );
    }
    for (source, at) in &sources {
        if known.contains(source) {
            continue;
        }
        let remedy = match nearest(source, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the sources are {}", list(known.iter().map(String::as_str))),
        };
        reader.error(*at, format!("there is no source `{source}`"), remedy);
    }
    Some(sources.into_iter().map(|(source, _)| source).collect())
}

fn delivery<'a>(reader: &mut Reader<'a>, destination: &Section<'a>) -> Option<Delivery> {
    let section = reader.subsection(destination, "delivery", &schema::DELIVERY);
    let retry_for = reader.time(&section, "retry_for");
    let max_concurrency = reader.count(&section, "max_concurrency");
    let max_batch = reader.count(&section, "max_batch");
    let linger = reader.time(&section, "linger");
    let allow_private_networks = reader.flag(&section, "allow_private_networks");
    Some(Delivery {
        retry_for: retry_for?,
        max_concurrency: max_concurrency?,
        max_batch,
        linger,
        allow_private_networks: allow_private_networks?,
    })
}

/// The adapter's settings with everything put in, after `check` saw them and whether all could be put in.
fn settings<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    needed: bool,
    check: impl Fn(&mut Reader<'a>, &toml::Table, bool),
) -> Option<toml::Table> {
    let Some(value) = section.get("settings") else {
        check(reader, &toml::Table::new(), true);
        return Some(toml::Table::new());
    };
    reader.table(&section.path("settings"), value)?;
    let before = reader.errors.len();
    let mut whole = true;
    let Some(toml::Value::Table(settings)) = reader.plain(value, needed, &mut whole) else { return None };
    check(reader, &settings, whole && reader.errors.len() == before);
    Some(settings)
}

/// Requests to private addresses are refused at delivery; here the operator learns it before the first call is lost.
fn refuse_private_addresses(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    name: &str,
    settings: &toml::Table,
) {
    for (key, value) in settings {
        let Some(url) = value.as_str().and_then(|text| reqwest::Url::parse(text).ok()) else { continue };
        let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
            continue;
        };
        let at = section.get("settings").map_or(section.at, |value| locate(value, std::slice::from_ref(key)));
        if is_private_host(host) {
            let message =
                format!("`destinations.{name}.settings.{key}` is an address on a private network: {host}");
            let remedy = format!(
                "set `allow_private_networks = true` under [destinations.{name}.delivery] if you mean it"
            );
            reader.error(at, message, remedy);
        } else if url.scheme() == "http" {
            let message = format!("`destinations.{name}.settings.{key}` is not encrypted: http://{host}");
            reader.warn(at, message, "use https");
        }
    }
}
