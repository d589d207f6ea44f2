//! The configuration as a whole: every message with its place, and what a correct file becomes.

mod documents;
mod messages;

use std::path::Path;

use fanout_sdk::problem::Problem;

use super::*;

/// Two adapters as they might be: `pipemail` needs `project_token`, `webhook` needs `url`.
struct TwoAdapters;

impl Adapters for TwoAdapters {
    fn names(&self) -> Vec<String> {
        vec!["webhook".into(), "pipemail".into()]
    }

    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    fn check(&self, adapter: &str, _: &str, settings: &toml::Table) -> Vec<SettingProblem> {
        let (needed, known): (_, &[&str]) = match adapter {
            "pipemail" => ("project_token", &["project_token", "region", "union_traits"]),
            _ => ("url", &["url", "headers"]),
        };
        let problem = |path: &[&str], message: &str| SettingProblem {
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            message: message.to_owned(),
            remedy: "see the adapter".to_owned(),
        };
        let mut problems = Vec::new();
        if !settings.contains_key(needed) {
            problems.push(problem(&[needed], &format!("`{needed}` is missing")));
        }
        for (key, value) in settings {
            if !known.contains(&key.as_str()) {
                problems.push(problem(&[key], &format!("unknown setting `{key}`")));
            }
            for (position, item) in value.as_array().into_iter().flatten().enumerate() {
                if !item.is_str() {
                    problems.push(problem(&[key, &position.to_string()], "not a text"));
                }
            }
        }
        problems
    }
}

/// Reads a text as `f.toml` with a small environment: `KEY` is set, `PORT` is 9000, the file `/run/token` exists.
fn read(text: &str) -> Loaded {
    let variable = |name: &str| match name {
        "KEY" => Some("a-long-write-key".to_owned()),
        "PORT" => Some("9000".to_owned()),
        "ON" => Some("true".to_owned()),
        _ => None,
    };
    let file = |path: &Path| match path.to_str() {
        Some("/run/token") => Ok("token-of-16-chars-and-more\n".to_owned()),
        Some("/tls/certificate") => Ok(CERTIFICATE.to_owned()),
        Some("/tls/key") => Ok(KEY.to_owned()),
        Some("/tls/other-key") => {
            Ok(include_str!("../../../tests/ingest/support/tls/other-key.pem").to_owned())
        }
        Some("/tls/binary") => Err(std::io::Error::from(std::io::ErrorKind::InvalidData)),
        _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
    };
    resolve("f.toml", text, &World { variable: &variable, file: &file }, &|_| Box::new(TwoAdapters))
}

fn shown(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

const CERTIFICATE: &str = include_str!("../../../tests/ingest/support/tls/certificate.pem");
const KEY: &str = include_str!("../../../tests/ingest/support/tls/key.pem");

/// A source and a destination, so that nothing is warned of.
const GOOD: &str = r#"
[[sources]]
name = "web"
write_key = "0123456789"
[destinations.pipemail]
settings = { project_token = "t" }
"#;

#[test]
fn little_is_enough() {
    let loaded = read(GOOD);
    assert_eq!((shown(&loaded.errors), shown(&loaded.warnings)), (vec![], vec![]));
    let config = loaded.config.unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.max_body, ByteSize(500 << 10));
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.queue.path, Path::new("fanout-data"));
    assert_eq!(config.queue.duplicate_window.count, 1_000_000);
    assert_eq!(config.sandbox, None);
    assert_eq!(config.sources[0].name, "web");
    assert!(config.sources[0].enabled);
    let destination = &config.destinations[0];
    assert_eq!((destination.name.as_str(), destination.adapter.as_str()), ("pipemail", "pipemail"));
    assert_eq!((destination.enabled, destination.paused, &destination.sources), (true, false, &None));
    assert_eq!(destination.delivery.retry_for, Duration::from_secs(24 * 3600));
    assert_eq!(destination.delivery.max_concurrency, None);
    assert_eq!(destination.delivery.suppress_unchanged, None);
}

#[test]
fn every_setting_is_taken() {
    let text = r#"
        adapters_dir = "my-adapters"
        [server]
        listen = "0.0.0.0:${PORT}"
        max_body = "4 MiB"
        max_event = "64 KiB"
        max_batch_events = 100
        header_timeout = "1 s"
        body_timeout = "2 s"
        max_connections = 7
        allowed_hosts = ["Events.Example.com"]
        public_url = "https://events.example.com/"
        fill_ip = "${ON}"
        write_timeout = "3 s"
        max_in_flight = "8 MiB"
        trusted_proxies = ["10.0.0.1", "fd00::1"]
        drain_timeout = "0 s"
        [server.tls]
        listen = "[::]:8443"
        certificate = "/tls/certificate"
        key = "/tls/key"
        [admin]
        listen = "0.0.0.0:9001"
        token = "${file:/run/token}"
        allowed_hosts = ["fanout"]
        [[sources]]
        name = "web"
        write_key = "${KEY}"
        enabled = false
        strict = true
        allowed_origins = ["https://WWW.example.com/", "http://localhost:3000", "capacitor://localhost"]
        bearer_token = "b-token"
        [[sources]]
        name = "back"
        write_key = "$${KEY}-literally"
        [queue]
        path = "/var/lib/fanout"
        max_disk = "1 GB"
        retain = "1d"
        duplicate_window = { time = "1 h", count = 5 }
        [sandbox]
        url = "http://127.0.0.1:8082/"
        [destinations.b-hook]
        adapter = "webhook"
        enabled = "${ON}"
        paused = true
        sources = ["back"]
        settings = { url = "https://example.com/${PORT}", headers = { a = ["${KEY}"] } }
        [destinations.b-hook.delivery]
        retry_for = "2 h"
        max_concurrency = 9
        rate_limit = "100 requests per 10 s"
        max_backlog = 5000000
        linger = "250 ms"
        allow_private_networks = true
        suppress_unchanged = "12 h"
        [destinations.a]
        adapter = "pipemail"
        settings.project_token = "t"
    "#;
    let loaded = read(text);
    assert_eq!(shown(&loaded.errors), Vec::<String>::new());
    let config = loaded.config.unwrap();
    assert_eq!(config.adapters_dir.as_deref(), Some(Path::new("my-adapters")));
    let server = &config.server;
    assert_eq!(server.listen.to_string(), "0.0.0.0:9000");
    assert_eq!((server.max_body, server.max_event), (ByteSize(4 << 20), ByteSize(64 << 10)));
    assert_eq!((server.max_batch_events, server.max_connections), (100, 7));
    assert_eq!((server.header_timeout.as_secs(), server.body_timeout.as_secs()), (1, 2));
    assert_eq!(server.allowed_hosts, ["events.example.com"]);
    assert_eq!(server.public_url.as_deref(), Some("https://events.example.com"));
    assert_eq!((server.write_timeout.as_secs(), server.max_in_flight), (3, ByteSize(8 << 20)));
    assert_eq!(format!("{:?}", server.trusted_proxies), "[10.0.0.1, fd00::1]");
    let tls = server.tls.as_ref().unwrap();
    assert_eq!((tls.listen.port(), tls.certificate.as_path()), (8443, Path::new("/tls/certificate")));
    assert_eq!(config.admin.allowed_hosts, ["fanout"]);
    assert!(server.fill_ip && server.drain_timeout.is_zero());
    assert_eq!(config.admin.token.as_ref().unwrap().expose(), "token-of-16-chars-and-more");
    let [web, back] = config.sources.as_slice() else { panic!("two sources") };
    assert_eq!((web.write_key.expose(), web.enabled, web.strict), ("a-long-write-key", false, true));
    assert_eq!(
        web.allowed_origins,
        ["https://www.example.com", "http://localhost:3000", "capacitor://localhost"]
    );
    assert_eq!(web.bearer_token.as_ref().unwrap().expose(), "b-token");
    assert_eq!(back.write_key.expose(), "${KEY}-literally");
    assert_eq!(config.queue.path, Path::new("/var/lib/fanout"));
    assert_eq!((config.queue.max_disk.0, config.queue.retain.as_secs()), (1_000_000_000, 86_400));
    assert_eq!(
        (config.queue.duplicate_window.time.as_secs(), config.queue.duplicate_window.count),
        (3600, 5)
    );
    assert_eq!(config.sandbox.as_deref(), Some("http://127.0.0.1:8082"));
    let [hook, a] = config.destinations.as_slice() else { panic!("two destinations") };
    assert_eq!((hook.name.as_str(), hook.adapter.as_str(), a.name.as_str()), ("b-hook", "webhook", "a"));
    assert_eq!(
        (hook.enabled, hook.paused, hook.sources.as_deref()),
        (true, true, Some(["back".to_owned()].as_slice()))
    );
    assert_eq!(hook.settings["url"].as_str(), Some("https://example.com/9000"));
    assert_eq!(hook.settings["headers"]["a"][0].as_str(), Some("a-long-write-key"));
    let delivery = Delivery {
        retry_for: Duration::from_secs(7200),
        max_concurrency: Some(9),
        linger: Some(Duration::from_millis(250)),
        rate_limit: Rate::parse("100 requests per 10 s"),
        max_backlog: Some(5_000_000),
        allow_private_networks: true,
        suppress_unchanged: Some(Duration::from_secs(12 * 3600)),
    };
    assert_eq!(hook.delivery, delivery);
}

#[test]
fn values_put_in_are_never_taken_for_toml() {
    let variable = |_: &str| Some("x\"\nlisten = \"0.0.0.0:1".to_owned());
    let world = World { variable: &variable, file: &|_| Ok(String::new()) };
    let text = GOOD.replace("\"t\"", "\"${T}\"");
    let config = resolve("f.toml", &text, &world, &|_| Box::new(TwoAdapters)).config.unwrap();
    assert_eq!(config.destinations[0].settings["project_token"].as_str(), variable("").as_deref());
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
}

#[test]
fn what_a_disabled_destination_lacks_is_no_error() {
    let disabled = "[destinations.pipemail]\nenabled = false\nsettings = { project_token = \"${UNSET}\" }";
    let with_hook = format!("{disabled}\n[destinations.webhook]\nsettings.url = \"https://example.com\"");
    let loaded = read(&format!("[[sources]]\nname = \"web\"\nwrite_key = \"0123456789\"\n{with_hook}"));
    assert_eq!((shown(&loaded.errors), shown(&loaded.warnings)), (vec![], vec![]));
    let config = loaded.config.unwrap();
    assert!(!config.destinations[0].enabled && config.destinations[0].settings.is_empty());
}

#[test]
fn secrets_are_not_in_debug_output() {
    let config = read(GOOD).config.unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("0123456789") && !shown.contains("\"t\""), "{shown}");
}

#[test]
fn the_adapters_folder_is_handed_on() {
    let world = World { variable: &|_| None, file: &|_| Ok(String::new()) };
    let asked = std::cell::RefCell::new(Vec::new());
    let open = |dir: Option<&Path>| -> Box<dyn Adapters> {
        asked.borrow_mut().push(dir.map(Path::to_path_buf));
        Box::new(TwoAdapters)
    };
    resolve("f.toml", "adapters_dir = \"mine\"", &world, &open);
    resolve("f.toml", "", &world, &open);
    assert_eq!(asked.into_inner(), [Some("mine".into()), None]);
}
