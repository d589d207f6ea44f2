//! One wrong file for every rule, with the exact words and place of its message.

use super::*;

/// What is wrong when this stands above a good file's tables, or below them where it starts with `+`.
fn errors(text: &str) -> Vec<String> {
    let whole = match text.strip_prefix('+') {
        Some(below) => format!("{}\n{below}", GOOD.trim()),
        None => format!("{text}\n{GOOD}"),
    };
    shown(&read(&whole).errors)
}

#[test]
fn every_mistake_is_explained() {
    for (text, message) in MISTAKES {
        assert_eq!(errors(text), [*message], "{text}");
    }
}

const MISTAKES: &[(&str, &str)] = &[
    ("servr = 1", "f.toml:1:1: unknown key `servr`; did you mean `server`?"),
    (
        "zzzzzz = 1",
        "f.toml:1:1: unknown key `zzzzzz`; the keys here are `server`, `admin`, `sources`, `queue`, `sandbox`, `destinations` and `adapters_dir`",
    ),
    (
        "server = 1",
        "f.toml:1:10: `server` is a number, not a table; write it under a header of its own: `[server]`",
    ),
    (
        "[server]\nlisten = 80",
        r#"f.toml:2:10: `server.listen` is a number, not an address to listen at; write an IP address and a port, such as "127.0.0.1:8080", or "0.0.0.0:8080" for every interface"#,
    ),
    (
        "[server]\nlisten = \":8080\"",
        r#"f.toml:2:10: `server.listen` is ":8080", not an address to listen at; write an IP address and a port, such as "127.0.0.1:8080", or "0.0.0.0:8080" for every interface"#,
    ),
    ("[server]\n  lisen = \"x\"", "f.toml:2:3: unknown key `server.lisen`; did you mean `listen`?"),
    (
        "[server]\nmax_body = 500",
        r#"f.toml:2:12: `server.max_body` is a number, not a size; write a whole number with its unit, such as "500 KiB" or "10 GiB""#,
    ),
    (
        "[server]\nmax_body = \"500\"",
        r#"f.toml:2:12: `server.max_body` is "500", not a size; write a whole number with its unit, such as "500 KiB" or "10 GiB""#,
    ),
    (
        "[server]\nmax_body = \"5 MiB\"",
        r#"f.toml:2:12: `server.max_body` is 5 MiB; use a size from "1 KiB" to "4 MiB""#,
    ),
    (
        "[server]\nmax_event = \"1 MiB\"",
        "f.toml:2:13: `server.max_event` is 1 MiB, more than `server.max_body`, which is 500 KiB; raise `max_body` or lower `max_event`",
    ),
    (
        "[server]\nmax_batch_events = 0",
        "f.toml:2:20: `server.max_batch_events` is 0; use a whole number from 1 to 100000",
    ),
    (
        "[server]\nmax_batch_events = \"many\"",
        "f.toml:2:20: `server.max_batch_events` is a text, not a whole number",
    ),
    (
        "[server]\nmax_batch_events = 1.5",
        "f.toml:2:20: `server.max_batch_events` is a fraction, not a whole number",
    ),
    (
        "[server]\nbody_timeout = \"1 week\"",
        r#"f.toml:2:16: `server.body_timeout` is "1 week", not a time; write a whole number with its unit, such as "500 ms", "30 s", "5 min", "24 h" or "7 d""#,
    ),
    (
        "[server]\nbody_timeout = \"1 d\"",
        r#"f.toml:2:16: `server.body_timeout` is 1 d; use a time from "1 s" to "10 min""#,
    ),
    (
        "[server]\nbody_timeout = 30",
        r#"f.toml:2:16: `server.body_timeout` is a number, not a time; write a whole number with its unit, such as "500 ms", "30 s", "5 min", "24 h" or "7 d""#,
    ),
    (
        "[server]\nallowed_hosts = \"a\"",
        r#"f.toml:2:17: `server.allowed_hosts` is a text, not a list of texts; write it as ["one", "two"]"#,
    ),
    (
        "[server]\nallowed_hosts = [1]",
        "f.toml:2:18: `server.allowed_hosts` holds a number; write it in quotes",
    ),
    (
        "[server]\nallowed_hosts = [\"a\", \"http://b\"]",
        r#"f.toml:2:23: `server.allowed_hosts` holds "http://b", which is no host name; write the name alone, without scheme, port and path"#,
    ),
    (
        "[server]\npublic_url = \"example.com\"",
        r#"f.toml:2:14: `server.public_url` is a text, not an http or https address; write an address such as "https://events.example.com", without query, user or password"#,
    ),
    (
        "[server]\npublic_url = \"https://u:p@example.com\"",
        r#"f.toml:2:14: `server.public_url` is a text, not an http or https address; write an address such as "https://events.example.com", without query, user or password"#,
    ),
    (
        "[server]\nfill_ip = \"yes\"",
        "f.toml:2:11: `server.fill_ip` is a text, not true or false; write true or false without quotes",
    ),
    (
        "[server]\nfill_ip = 1",
        "f.toml:2:11: `server.fill_ip` is a number, not true or false; write true or false without quotes",
    ),
    (
        "[server]\nlisten = \"${NONE}\"",
        "f.toml:2:10: the environment variable `NONE` is not set; set `NONE`, or write the value itself",
    ),
    (
        "[server]\nlisten = \"${file:/none}\"",
        "f.toml:2:10: the file `/none` cannot be read: entity not found; check its path and who may read it",
    ),
    (
        "[server]\nlisten = \"${PORT:-1}\"",
        "f.toml:2:10: `${` starts neither `${NAME}` nor `${file:PATH}`; write `$${` for a `${` of the value itself",
    ),
    (
        "[server]\nmax_in_flight = \"1 MiB\"\nmax_body = \"2 MiB\"",
        "f.toml:3:12: `server.max_body` is 2 MiB, more than `server.max_in_flight`, which is 1 MiB; raise `max_in_flight` or lower `max_body`",
    ),
    (
        "[server]\ntrusted_proxies = [\"10.0.0.1\", \"10.0.0.0/8\"]",
        r#"f.toml:2:32: `server.trusted_proxies` holds "10.0.0.0/8", which is no IP address; write each proxy's address, such as "10.0.0.5""#,
    ),
    (
        "[server.tls]\nlisten = \"127.0.0.1:8081\"\ncertificate = \"/tls/certificate\"\nkey = \"/tls/key\"",
        "f.toml:2:10: `admin.listen` is 127.0.0.1:8081, which clashes with `server.tls.listen`, 127.0.0.1:8081; use another port for one of them",
    ),
    (
        "[server.tls]\ncertificate = \"/run/token\"",
        r#"f.toml:1:1: `server.tls.key` is missing; add `key = "…"`"#,
    ),
    (
        "[server.tls]\ncertificate = \"/tls/certificate\"\nkey = \"/tls/other-key\"",
        "f.toml:2:15: `server.tls.certificate`: the private key belongs to another certificate; take both from one renewal; `openssl x509 -pubkey -noout -in CERTIFICATE` and `openssl pkey -pubout -in KEY` must print the same",
    ),
    (
        "[server.tls]\ncertificate = \"/tls/certificate\"\nkey = \"/run/token\"",
        "f.toml:3:7: `server.tls.key`: the key file holds no private key in PEM form; it must hold one between BEGIN PRIVATE KEY and END PRIVATE KEY",
    ),
    (
        "[server.tls]\ncertificate = \"/tls/binary\"\nkey = \"/tls/key\"",
        "f.toml:2:15: the file `/tls/binary` is in binary form, not in PEM form; convert it, a certificate with `openssl x509 -inform der -in FILE -out FILE.pem`, a key with `openssl pkey -inform der -in FILE -out FILE.pem`",
    ),
    (
        "[server.tls]\ncertificate = \"/run/token\"\nkey = \"/none\"",
        "f.toml:3:7: the file `/none` cannot be read: entity not found; check its path and who may read it",
    ),
    (
        "[admin]\nlisten = \"127.0.0.1:8080\"",
        "f.toml:2:10: `admin.listen` is 127.0.0.1:8080, which clashes with `server.listen`, 127.0.0.1:8080; use another port for one of them",
    ),
    (
        "[server]\nlisten = \"0.0.0.0:8081\"",
        "f.toml:2:10: `admin.listen` is 127.0.0.1:8081, which clashes with `server.listen`, 0.0.0.0:8081; use another port for one of them",
    ),
    (
        "[admin]\nlisten = \"0.0.0.0:9\"",
        "f.toml:2:10: `admin.token` is missing, and `admin.listen` is 0.0.0.0:9, which is not a loopback address; set `token` to a long random text, or listen on 127.0.0.1",
    ),
    (
        "[admin]\ntoken = \"short\"",
        "f.toml:2:9: `admin.token` is shorter than 16 characters; use a long random one, such as from `openssl rand -hex 32`",
    ),
    ("[admin]\ntoken = \"\"", "f.toml:2:9: `admin.token` is empty; give it a value or leave the line out"),
    ("[admin]\ntoken = 5", "f.toml:2:9: `admin.token` is a number, not a text; write it in quotes"),
    (
        "[queue]\nmax_disk = \"1 MiB\"",
        r#"f.toml:2:12: `queue.max_disk` is 1 MiB; use a size from "64 MiB" to "1024 TiB""#,
    ),
    ("[queue]\npath = \"\"", "f.toml:2:8: `queue.path` is empty; give it a value or leave the line out"),
    (
        "[queue]\nduplicate_window = { time = \"1 h\", cuont = 1 }",
        "f.toml:2:36: unknown key `queue.duplicate_window.cuont`; did you mean `count`?",
    ),
    (
        "[queue]\nduplicate_window = \"1 h\"",
        "f.toml:2:20: `queue.duplicate_window` is a text, not a table; write it under a header of its own: `[queue.duplicate_window]`",
    ),
    ("[sandbox]", r#"f.toml:1:1: `sandbox.url` is missing; add `url = "…"`"#),
    (
        "[sandbox]\nurl = \"ftp://x\"",
        r#"f.toml:2:7: `sandbox.url` is a text, not an http or https address; write an address such as "https://events.example.com", without query, user or password"#,
    ),
    ("adapters_dir = 7", "f.toml:1:16: `adapters_dir` is a number, not a text; write it in quotes"),
    (
        "+[[sources]]\nname = \"web\"\nwrite_key = \"abcdefghij\"",
        "f.toml:7:8: two sources are named `web`; give each one a name of its own",
    ),
    (
        "+[[sources]]\nname = \"two\"\nwrite_key = \"0123456789\"",
        "f.toml:8:13: the sources `web` and `two` have the same write key; give each one a key of its own",
    ),
    (
        "+[[sources]]\nname = \"two\"\nwrite_key = \"01234:56789\"",
        "f.toml:8:13: the write key of `two` holds a colon or white space, which SDKs cannot send; use letters and digits",
    ),
    (
        "+[[sources]]\nname = \"Two\"\nwrite_key = \"abcdefghij\"",
        r#"f.toml:7:8: "Two" is no name for a source; use 1 to 64 of `a-z`, `0-9`, `_` and `-`"#,
    ),
    ("+[[sources]]\nname = \"two\"", r#"f.toml:6:1: `sources.write_key` is missing; add `write_key = "…"`"#),
    (
        "+[[sources]]\nwrite_key = \"abcdefghij\"",
        r#"f.toml:6:1: `sources.name` is missing; add `name = "…"`"#,
    ),
    (
        "+[[sources]]\nname = \"two\"\nwrite_key = \"${NONE}\"",
        "f.toml:8:13: the environment variable `NONE` is not set; set `NONE`, or write the value itself",
    ),
    (
        "+[[sources]]\nname = \"two\"\nwrite_key = \"abcdefghij\"\nallowed_origins = [\"example.com\"]",
        r#"f.toml:9:20: `sources.allowed_origins` holds "example.com", which is no origin; write scheme and host, such as "https://www.example.com""#,
    ),
    (
        "+[destinations.pipemaill]",
        r#"f.toml:6:15: there is no adapter `pipemaill`; did you mean `pipemail`? The table may have any name if you add `adapter = "pipemail"`"#,
    ),
    (
        "+[destinations.hook]",
        r#"f.toml:6:15: there is no adapter `hook`; add `adapter = "…"` with one of `pipemail` and `webhook`"#,
    ),
    (
        "+[destinations.hook]\nadapter = \"webhok\"",
        "f.toml:7:11: there is no adapter `webhok`; did you mean `webhook`?",
    ),
    (
        "+[destinations.hook]\nadapter = \"pigeonpost\"",
        r#"f.toml:7:11: there is no adapter `pigeonpost`; add `adapter = "…"` with one of `pipemail` and `webhook`"#,
    ),
    (
        "+[destinations.\"My Hook\"]\nadapter = \"webhook\"\nsettings.url = \"https://a.b\"",
        r#"f.toml:6:15: "My Hook" is no name for a destination; use 1 to 64 of `a-z`, `0-9`, `_` and `-`"#,
    ),
    (
        "+[destinations]\nhook = 1",
        "f.toml:7:8: `destinations.hook` is a number, not a table; write it under a header of its own: `[destinations.hook]`",
    ),
    (
        "+[destinations.webhook]\nsources = [\"wbe\"]\nsettings.url = \"https://a.b\"",
        "f.toml:7:12: there is no source `wbe`; did you mean `web`?",
    ),
    (
        "+[destinations.webhook]\nsources = [\"other\"]\nsettings.url = \"https://a.b\"",
        "f.toml:7:12: there is no source `other`; the sources are `web`",
    ),
    (
        "+[destinations.webhook]\nenabeld = true\nsettings.url = \"https://a.b\"",
        "f.toml:7:1: unknown key `destinations.webhook.enabeld`; did you mean `enabled`?",
    ),
    ("+[destinations.webhook]", "f.toml:6:15: `url` is missing; see the adapter"),
    (
        "+[destinations.webhook]\nsettings = 1",
        "f.toml:7:12: `destinations.webhook.settings` is a number, not a table; write it under a header of its own: `[destinations.webhook.settings]`",
    ),
    (
        "+[destinations.webhook.settings]\nurl = \"https://a.b\"\n  uri = 1",
        "f.toml:8:3: unknown setting `uri`; see the adapter",
    ),
    (
        "+[destinations.webhook.settings]\nurl = \"https://a.b\"\nheaders = [\"a\", 2]",
        "f.toml:8:17: not a text; see the adapter",
    ),
    (
        "+[destinations.webhook.settings]\nurl = \"${NONE}\"",
        "f.toml:7:7: the environment variable `NONE` is not set; set `NONE`, or write the value itself",
    ),
    (
        "+[destinations.webhook]\nenabled = false\nsettings.url = \"${NONE}\"\nsettings.uri = 5",
        "f.toml:9:10: unknown setting `uri`; see the adapter",
    ),
    (
        "+[destinations.webhook]\nenabled = false\nsettings.url = \"${\"",
        "f.toml:8:16: `${` starts neither `${NAME}` nor `${file:PATH}`; write `$${` for a `${` of the value itself",
    ),
    (
        "+[destinations.webhook]\nsettings.url = \"http://10.0.0.1/hook\"",
        "f.toml:7:10: `destinations.webhook.settings.url` is an address on a private network: 10.0.0.1; set `allow_private_networks = true` under [destinations.webhook.delivery] if you mean it",
    ),
    (
        "+[destinations.webhook]\nsettings.url = \"https://localhost:1/hook\"",
        "f.toml:7:10: `destinations.webhook.settings.url` is an address on a private network: localhost; set `allow_private_networks = true` under [destinations.webhook.delivery] if you mean it",
    ),
    (
        "+[destinations.webhook]\nsettings.url = \"https://a.b\"\n[destinations.webhook.delivery]\nretry_fro = \"1 h\"",
        "f.toml:9:1: unknown key `destinations.webhook.delivery.retry_fro`; did you mean `retry_for`?",
    ),
    (
        "+[destinations.webhook]\nsettings.url = \"https://a.b\"\n[destinations.webhook.delivery]\nmax_concurrency = 0",
        "f.toml:9:19: `destinations.webhook.delivery.max_concurrency` is 0; use a whole number from 1 to 256",
    ),
    (
        "+[destinations.webhook]\nsettings.url = \"https://a.b\"\n[destinations.webhook.delivery]\nrate_limit = \"100/s\"",
        "f.toml:9:14: `destinations.webhook.delivery.rate_limit` is \"100/s\", not a rate; write how many `requests`, `items` or `bytes` in which time, such as \"100 requests per 10 s\"",
    ),
    (
        "+[destinations.webhook]\nsettings.url = \"https://a.b\"\nsettings.headers = 99999999999999999999",
        "f.toml:8:20: the number is too large; use a smaller one, or a text",
    ),
    (
        "[server\nlisten = 1",
        "f.toml:1:8: this is no TOML: unclosed table, expected `]`; texts stand in quotes, tables in brackets",
    ),
    (
        "[server]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"",
        "f.toml:3:1: the key `listen` is given twice; remove one of them",
    ),
    (
        "[server]\nlisten = 127.0.0.1",
        "f.toml:2:15: this is no TOML: invalid float, expected nothing; texts stand in quotes, tables in brackets",
    ),
];

#[test]
fn oddities_are_warned_of() {
    for (text, warnings) in ODDITIES {
        let loaded = read(text);
        assert_eq!(shown(&loaded.errors), Vec::<String>::new(), "{text}");
        assert_eq!(shown(&loaded.warnings), *warnings, "{text}");
        assert!(loaded.config.is_some());
    }
}

const ODDITIES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "f.toml:1:1: there is no source: every call will be answered 401; add a [[sources]] table with `name` and `write_key`",
            "f.toml:1:1: no destination is enabled: calls are accepted and delivered nowhere; add a [destinations.NAME] table, or set `enabled = true` in one; `fanout adapters` lists the vendors",
        ],
    ),
    (
        "[[sources]]\nname = \"web\"\nwrite_key = \"0123456789\"\nenabled = false\n[destinations.pipemail]\nsettings.project_token = \"t\"",
        &[
            "f.toml:1:1: no source is enabled: every call will be answered 401; set `enabled = true` in one of them",
        ],
    ),
    (
        "[[sources]]\nname = \"web\"\nwrite_key = \"0123456\"\n[destinations.pipemail]\nsettings.project_token = \"t\"\nenabled = false",
        &[
            "f.toml:3:13: the write key of `web` is shorter than 8 characters; use a long random one, such as from `openssl rand -hex 16`",
            "f.toml:4:2: no destination is enabled: calls are accepted and delivered nowhere; add a [destinations.NAME] table, or set `enabled = true` in one; `fanout adapters` lists the vendors",
        ],
    ),
    (
        "[[sources]]\nname = \"web\"\nwrite_key = \"0123456789\"\n[sandbox]\nurl = \"http://127.0.0.1:8082\"\n[destinations.webhook]\nsettings.url = \"https://127.0.0.1/x\"\nsources = []",
        &[
            "f.toml:4:1: nothing reaches a vendor: requests go to the sandbox at http://127.0.0.1:8082; remove [sandbox] to call vendors",
            "f.toml:8:11: `destinations.webhook.sources` is empty: it takes no call; remove the line to take all",
        ],
    ),
    (
        "[[sources]]\nname = \"web\"\nwrite_key = \"0123456789\"\n[destinations.webhook]\nsettings.url = \"http://user:pass@example.com/x\"",
        &["f.toml:5:10: `destinations.webhook.settings.url` is not encrypted: http://example.com; use https"],
    ),
];

#[test]
fn everything_wrong_comes_at_once() {
    let text = r#"adaptersdir = "x"
[server]
listen = "localhost"
max_body = "500"
[admin]
listen = "0.0.0.0:8081"
[[sources]]
name = "web"
write_key = "${NONE}"
strict = "maybe"
[[sources]]
name = "web"
write_key = "0123456789"
[queue]
retain = "1 year"
[destinations.pipemail]
sources = ["wen"]
settings = { token = "t" }
[destinations.pipemail.delivery]
max_concurency = 3
"#;
    let loaded = read(text);
    assert!(loaded.config.is_none());
    let expected = [
        "f.toml:1:1: unknown key `adaptersdir`",
        "f.toml:3:10: `server.listen` is \"localhost\", not an address to listen at",
        "f.toml:4:12: `server.max_body` is \"500\", not a size",
        "f.toml:6:10: `admin.token` is missing",
        "f.toml:9:13: the environment variable `NONE` is not set",
        "f.toml:10:10: `sources.strict` is a text, not true or false",
        "f.toml:12:8: two sources are named `web`",
        "f.toml:15:10: `queue.retain` is \"1 year\", not a time",
        "f.toml:17:12: there is no source `wen`",
        "f.toml:18:12: `project_token` is missing",
        "f.toml:18:14: unknown setting `token`",
        "f.toml:20:1: unknown key `destinations.pipemail.delivery.max_concurency`",
    ];
    let errors = shown(&loaded.errors);
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
}

#[test]
fn every_syntax_error_comes_at_once() {
    let errors = shown(&read("[server]\nlisten = 127.0.0.1\n[queue]\npath = fanout-data\n").errors);
    assert!(errors.iter().any(|error| error.starts_with("f.toml:2:")), "{errors:?}");
    assert!(errors.iter().any(|error| error.starts_with("f.toml:4:")), "{errors:?}");
}

#[test]
fn messages_hold_no_secrets() {
    for text in [
        "[[sources]]\nname = \"web\"\nwrite_key = \"se:cret\"",
        "[[sources]]\nname = \"web\"\nwrite_key = secret-key",
        "[admin]\ntoken = \"secret\"",
        "[sandbox]\nurl = \"http://me:secret@example.com\"",
        "[destinations.webhook]\nsettings.url = \"http://me:secret@10.0.0.1/secret\"",
    ] {
        let loaded = read(text);
        assert!(!loaded.errors.is_empty(), "{text}");
        let all = format!("{:?}{:?}", shown(&loaded.errors), shown(&loaded.warnings));
        assert!(!all.contains("secret") && !all.contains("cret\""), "{all}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[a-z\\[\\]{}=\". \\n$0-9é]{0,200}") {
        read(&text);
        read(&format!("[destinations.pipemail]\nsettings = {{ {text} }}"));
        read(&format!("[server]\nlisten = \"{text}\""));
    }
}
