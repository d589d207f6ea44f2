//! The one table of every setting: name, kind, bounds, default and meaning. The reader takes bounds and defaults from it,
//! unknown keys are found with it, and `docs/config.md` and the test of `config.example.toml` are made from it.
//! It does not read anything.

use std::time::Duration;

use super::values::{ByteSize, show_duration};

/// A table of the configuration file.
pub struct Table {
    /// Its header as it stands in a file, such as `[server]`; empty for the top level.
    pub header: &'static str,
    /// What the table is for.
    pub doc: &'static str,
    /// Its settings.
    pub keys: &'static [Key],
}

/// A setting.
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// What holds where it is not given.
    pub absent: Absent,
    /// What it means.
    pub doc: &'static str,
}

/// What a setting may hold.
#[derive(Clone, Copy)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number, from and to.
    Count(u64, u64),
    /// A number of bytes with its unit, from and to.
    Size(ByteSize, ByteSize),
    /// A length of time with its unit, from and to.
    Time(Duration, Duration),
    /// How many of what in which time.
    Rate,
    /// An IP address and a port.
    Address,
    /// An `http` or `https` address.
    Url,
    /// Letters of `a-z0-9_-`, 1 to 64.
    Name,
    /// Any text that is not empty.
    Text,
    /// A text that is shown nowhere.
    Secret,
    /// A file or folder; relative to the working directory.
    Path,
    /// A list of texts.
    Texts,
    /// A table or a list of tables with a section of its own.
    Section,
    /// A table whose keys the adapter declares.
    Settings,
}

/// What holds where a setting is not given.
#[derive(Clone, Copy)]
pub enum Absent {
    /// This value, as it would stand in the file.
    Default(&'static str),
    /// The file is refused.
    Refused,
    /// What these words say.
    Means(&'static str),
}

impl Kind {
    /// What the setting may hold, in words.
    pub fn describe(self) -> String {
        match self {
            Kind::Flag => "`true` or `false`".into(),
            Kind::Count(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Size(min, max) => format!("a size from \"{min}\" to \"{max}\""),
            Kind::Time(min, max) => {
                format!("a time from \"{}\" to \"{}\"", show_duration(min), show_duration(max))
            }
            Kind::Rate => "a rate such as \"100 requests per 10 s\"".into(),
            Kind::Address => "an IP address and a port".into(),
            Kind::Url => "an `http` or `https` address".into(),
            Kind::Name => "1 to 64 of `a-z`, `0-9`, `_` and `-`".into(),
            Kind::Text => "a text".into(),
            Kind::Secret => "a text, never shown".into(),
            Kind::Path => "a path, relative to the working directory".into(),
            Kind::Texts => "a list of texts".into(),
            Kind::Section => "a table, see below".into(),
            Kind::Settings => "the table of settings that the adapter declares".into(),
        }
    }
}

impl Table {
    /// The setting of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn key(name: &'static str, kind: Kind, absent: Absent, doc: &'static str) -> Key {
    Key { name, kind, absent, doc }
}

const fn kib(n: u64) -> ByteSize {
    ByteSize(n << 10)
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const DAY: u64 = 24 * 60 * 60;

/// The top level.
pub static TOP: Table = Table {
    header: "",
    doc: "What stands above the first table.",
    keys: &[
        key("server", Kind::Section, Absent::Means("its defaults"), "The tracking API."),
        key("admin", Kind::Section, Absent::Means("its defaults"), "Health and metrics."),
        key("sources", Kind::Section, Absent::Means("every call is answered 401"), "Who may send calls."),
        key("queue", Kind::Section, Absent::Means("its defaults"), "Where accepted calls are kept."),
        key("sandbox", Kind::Section, Absent::Means("vendors are called"), "A stand-in for every vendor."),
        key(
            "destinations",
            Kind::Section,
            Absent::Means("nothing is delivered"),
            "Where calls are delivered.",
        ),
        key(
            "adapters_dir",
            Kind::Path,
            Absent::Means("only the built-in adapters"),
            "A folder with one folder for each adapter of your own. They may not have the name of a built-in one.",
        ),
    ],
};

/// `allowed_hosts` of both listeners.
const ALLOWED_HOSTS: Key = key(
    "allowed_hosts",
    Kind::Texts,
    Absent::Default("[]"),
    "The names by which clients may address it: the request's `Host` without its port. Names of this machine are always allowed. None given: on a loopback address those alone, on any other all.",
);

/// `[server]`
pub static SERVER: Table = Table {
    header: "[server]",
    doc: "The tracking API, to which SDKs send their calls.",
    keys: &[
        key("listen", Kind::Address, Absent::Default("\"127.0.0.1:8080\""), "Where it listens."),
        key(
            "max_body",
            Kind::Size(kib(1), kib(4096)),
            Absent::Default("\"500 KiB\""),
            "The largest body of a request, decompressed. A larger one is answered 400. RudderStack's SDKs may send up to 4 MiB.",
        ),
        key(
            "max_event",
            Kind::Size(kib(1), kib(4096)),
            Absent::Default("\"32 KiB\""),
            "The largest single call. A larger one is rejected alone, the rest of its batch is accepted.",
        ),
        key(
            "max_batch_events",
            Kind::Count(1, 100_000),
            Absent::Default("2500"),
            "The most calls in one batch. Those beyond are rejected, the others accepted.",
        ),
        key(
            "header_timeout",
            Kind::Time(seconds(1), seconds(600)),
            Absent::Default("\"30 s\""),
            "How long a client may take to send the head of a request, and how long an idle connection is kept.",
        ),
        key(
            "body_timeout",
            Kind::Time(seconds(1), seconds(600)),
            Absent::Default("\"30 s\""),
            "How long a client may take to send the body of a request.",
        ),
        key(
            "write_timeout",
            Kind::Time(seconds(1), seconds(600)),
            Absent::Default("\"30 s\""),
            "How long a client may refuse to take any byte of its answer.",
        ),
        key(
            "max_connections",
            Kind::Count(1, 1_000_000),
            Absent::Default("2048"),
            "The most connections at one time. Further ones wait until one is free.",
        ),
        key(
            "max_in_flight",
            Kind::Size(kib(1 << 10), ByteSize(1 << 40)),
            Absent::Default("\"64 MiB\""),
            "The most memory that all requests under way may hold together; a call takes about five times its size. Beyond it they are answered 503 and asked to try again.",
        ),
        ALLOWED_HOSTS,
        key(
            "public_url",
            Kind::Url,
            Absent::Means("the address that the browser used"),
            "The address by which browsers reach it; given to analytics.js in its settings.",
        ),
        key(
            "fill_ip",
            Kind::Flag,
            Absent::Default("false"),
            "Whether a browser's or a phone's call without `context.ip` gets the caller's address.",
        ),
        key(
            "trusted_proxies",
            Kind::Texts,
            Absent::Default("[]"),
            "IP addresses of the proxies whose `X-Forwarded-For` is believed.",
        ),
        key("tls", Kind::Section, Absent::Means("unencrypted only"), "An encrypted listener."),
        key(
            "drain_timeout",
            Kind::Time(seconds(0), seconds(3600)),
            Absent::Default("\"25 s\""),
            "How long a shutdown waits for requests and deliveries under way. What is not delivered by then is delivered after the next start.",
        ),
    ],
};

/// `[server.tls]`
pub static TLS: Table = Table {
    header: "[server.tls]",
    doc: "A second, encrypted listener of the tracking API. The files are in PEM form. They are looked at every two seconds, and at once on SIGHUP: a renewed certificate is used for new connections without a restart, and one that cannot be used is logged while the old one stays.",
    keys: &[
        key("listen", Kind::Address, Absent::Default("\"0.0.0.0:8443\""), "Where it listens."),
        key("certificate", Kind::Path, Absent::Refused, "The certificate chain, the server's own first."),
        key("key", Kind::Path, Absent::Refused, "Its private key, not encrypted by a passphrase."),
    ],
};

/// `[admin]`
pub static ADMIN: Table = Table {
    header: "[admin]",
    doc: "Health and metrics, for operators only.",
    keys: &[
        key("listen", Kind::Address, Absent::Default("\"127.0.0.1:8081\""), "Where it listens."),
        key(
            "token",
            Kind::Secret,
            Absent::Means("no token is asked for"),
            "The token that clients send as `Authorization: Bearer TOKEN`. Needed when `listen` is not a loopback address; at least 16 characters.",
        ),
        ALLOWED_HOSTS,
    ],
};

/// `[[sources]]`
pub static SOURCE: Table = Table {
    header: "[[sources]]",
    doc: "A source: a caller with a write key. One table for each.",
    keys: &[
        key("name", Kind::Name, Absent::Refused, "Its name, in metrics and in `sources` of a destination."),
        key(
            "write_key",
            Kind::Secret,
            Absent::Refused,
            "The key that its SDK is configured with. Not shared with another source; no colon.",
        ),
        key(
            "enabled",
            Kind::Flag,
            Absent::Default("true"),
            "Whether its calls are accepted; if not, they are answered 401.",
        ),
        key(
            "strict",
            Kind::Flag,
            Absent::Default("false"),
            "Whether a batch with any refused call is answered 400 and refused as a whole. For development.",
        ),
        key(
            "allowed_origins",
            Kind::Texts,
            Absent::Default("[]"),
            "The web origins whose pages may send calls, such as `https://www.example.com`. None given: all.",
        ),
        key(
            "bearer_token",
            Kind::Secret,
            Absent::Means("bearer tokens are ignored"),
            "A token that is accepted as `Authorization: Bearer TOKEN`, beside the write key in the body.",
        ),
    ],
};

/// `[queue]`
pub static QUEUE: Table = Table {
    header: "[queue]",
    doc: "Where accepted calls are kept until every destination is done with them.",
    keys: &[
        key(
            "path",
            Kind::Path,
            Absent::Default("\"fanout-data\""),
            "The data directory. One instance has it for itself.",
        ),
        key(
            "max_disk",
            Kind::Size(kib(64 << 10), ByteSize(1 << 50)),
            Absent::Default("\"10 GiB\""),
            "The most disk it may use. When unfinished calls fill it, new ones are answered 503.",
        ),
        key(
            "retain",
            Kind::Time(seconds(0), seconds(3650 * DAY)),
            Absent::Default("\"7 d\""),
            "How long calls are kept for replay after every destination is done with them; shorter where `max_disk` presses.",
        ),
        key(
            "duplicate_window",
            Kind::Section,
            Absent::Means("its defaults"),
            "How far back repeated calls are recognised.",
        ),
    ],
};

/// `[queue.duplicate_window]`
pub static DUPLICATE_WINDOW: Table = Table {
    header: "[queue.duplicate_window]",
    doc: "How far back a repeated messageId of one source is recognised, answered 200 and dropped. What is less counts.",
    keys: &[
        key("time", Kind::Time(seconds(0), seconds(30 * DAY)), Absent::Default("\"24 h\""), "How long."),
        key(
            "count",
            Kind::Count(0, 100_000_000),
            Absent::Default("1000000"),
            "How many calls for each source.",
        ),
    ],
};

/// `[sandbox]`
pub static SANDBOX: Table = Table {
    header: "[sandbox]",
    doc: "A stand-in for every vendor, such as `fanout sandbox`. The data directory is then marked as one that never calls vendors.",
    keys: &[key(
        "url",
        Kind::Url,
        Absent::Refused,
        "Where requests go instead of the vendor: `https://HOST/PATH` becomes `URL/HOST/PATH`.",
    )],
};

/// `[destinations.NAME]`
pub static DESTINATION: Table = Table {
    header: "[destinations.NAME]",
    doc: "A destination: an adapter with settings of its own. `NAME` is yours: 1 to 64 of `a-z`, `0-9`, `_` and `-`. `fanout adapters` lists the adapters, `fanout adapters NAME` their settings.",
    keys: &[
        key("adapter", Kind::Name, Absent::Means("the table's name"), "The vendor."),
        key(
            "enabled",
            Kind::Flag,
            Absent::Default("true"),
            "Whether it takes calls; if not, each one is recorded as skipped.",
        ),
        key("paused", Kind::Flag, Absent::Default("false"), "Whether it keeps calls and sends nothing."),
        key("sources", Kind::Texts, Absent::Means("all"), "The names of the sources whose calls it takes."),
        key(
            "opt_in",
            Kind::Flag,
            Absent::Means("as the adapter has it"),
            "Whether it takes only calls whose `integrations` name it; a few adapters want that unless told otherwise.",
        ),
        key(
            "settings",
            Kind::Settings,
            Absent::Means("the adapter's defaults"),
            "What the vendor needs to know, such as keys and the region.",
        ),
        key("delivery", Kind::Section, Absent::Means("its defaults"), "How it is delivered."),
    ],
};

/// `[destinations.NAME.delivery]`
pub static DELIVERY: Table = Table {
    header: "[destinations.NAME.delivery]",
    doc: "How a destination is delivered.",
    keys: &[
        key(
            "retry_for",
            Kind::Time(seconds(0), seconds(30 * DAY)),
            Absent::Default("\"24 h\""),
            "How long a failing delivery is tried again, from its first attempt. Then it is a dead letter. It stands still while the destination as a whole is paused, throttled, failing or refuses the credentials.",
        ),
        key(
            "max_concurrency",
            Kind::Count(1, 256),
            Absent::Means("4 where a request holds a batch, else 16"),
            "The most requests at one time; less where the vendor's own limit is lower, and while it throttles, fails or answers slowly.",
        ),
        key(
            "rate_limit",
            Kind::Rate,
            Absent::Means("the vendor's published rates alone"),
            "A rate to keep beside them, of `requests`, `items` or `bytes`; with ` per user` at its end for each user by itself.",
        ),
        key(
            "max_backlog",
            Kind::Count(1, 1_000_000_000_000),
            Absent::Means("as many as the disk holds"),
            "How many calls may wait for it. Beyond that the oldest that are not under way are given up, as dead letters of the reason `backlog`, which can be sent again as long as they are retained.",
        ),
        key(
            "linger",
            Kind::Time(seconds(0), seconds(60)),
            Absent::Means("what the adapter says"),
            "How long a batch waits to fill.",
        ),
        key(
            "allow_private_networks",
            Kind::Flag,
            Absent::Default("false"),
            "Whether it may call private, loopback and link-local addresses.",
        ),
        key(
            "suppress_unchanged",
            Kind::Time(seconds(1), seconds(30 * DAY)),
            Absent::Means("off: each one is sent"),
            "For how long after the last one that the vendor took an identify with the same content is not sent to it. \
             The times and the messageId of a call are not compared where the adapter places them by themselves; who \
             is sent calls as a whole, as a webhook is, gets each one. Takes up to 13 MiB of memory.",
        ),
    ],
};

/// Every table, in the order of the documentation.
pub static TABLES: &[&Table] =
    &[&TOP, &SERVER, &TLS, &ADMIN, &SOURCE, &QUEUE, &DUPLICATE_WINDOW, &SANDBOX, &DESTINATION, &DELIVERY];
