//! The table of SDKs that `tests/sdk_clients.rs` tries: how each is started, and what is known of its conduct.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::path::PathBuf;
use std::process::Command;

use crate::front::{Seen, pem};
use crate::support::Process;

/// How an SDK is started.
pub enum Driver {
    /// This npm package.
    Node(&'static str),
    /// This module, from the folder of this name in `target/sdks`.
    Python(&'static str, &'static str),
    /// No SDK, only its form on the wire.
    WireForm(&'static str),
}

pub struct Sdk {
    pub name: &'static str,
    pub driver: Driver,
    /// How it names itself, where it sends, and how it shows its key.
    pub wire: &'static str,
    /// The setting of its retries, for one call, that docs/sdks.md recommends.
    pub retries: usize,
    /// How often it sends a call that is answered 401, by its own default.
    pub requests_with_wrong_key: usize,
    /// What it then tells the application.
    pub told: &'static str,
    /// Whether it speaks https here; the wire forms' SDKs know nothing else.
    pub is_encrypted: bool,
    /// Whether it gives up at once when the network fails, so that it needs a load balancer in front of fanout.
    pub needs_balancer: bool,
}

/// What most rows of the table have in common.
const MOST: Sdk = Sdk {
    name: "",
    driver: Driver::WireForm(""),
    wire: "",
    retries: 10,
    requests_with_wrong_key: 1,
    told: "[401] Unauthorized",
    is_encrypted: false,
    needs_balancer: false,
};

pub const SDKS: [Sdk; 12] = [
    Sdk {
        name: "node-1",
        driver: Driver::Node("@segment/analytics-node-1"),
        wire: "analytics-node-next/latest /v1/batch header",
        retries: 60,
        requests_with_wrong_key: 4,
        ..MOST
    },
    Sdk {
        name: "node-2",
        driver: Driver::Node("@segment/analytics-node-2"),
        wire: "analytics-node-next/latest /v1/batch body",
        retries: 60,
        requests_with_wrong_key: 4,
        ..MOST
    },
    Sdk {
        name: "node-3",
        driver: Driver::Node("@segment/analytics-node-3"),
        wire: "analytics-node-next/latest /v1/batch header body",
        ..MOST
    },
    Sdk {
        name: "node-classic",
        driver: Driver::Node("analytics-node"),
        wire: "analytics-node/6.2.0 /v1/batch header",
        told: "Request failed with status code 401",
        ..MOST
    },
    Sdk {
        name: "rudderstack-node",
        driver: Driver::Node("@rudderstack/rudder-sdk-node"),
        wire: "analytics-node/3.0.13 /v1/batch header gzip",
        told: "Request failed with status code 401",
        is_encrypted: true,
        ..MOST
    },
    Sdk {
        name: "python-2-4",
        driver: Driver::Python("segment.analytics", "segment-2.4"),
        wire: "analytics-python/2.4.0 /v1/batch header body",
        told: "[Segment] unknown_source: no source has this write key (401)",
        ..MOST
    },
    Sdk {
        name: "python-2-3",
        driver: Driver::Python("segment.analytics", "segment-2.3"),
        wire: "analytics-python/2.3.6 /v1/batch body",
        told: "[Segment] unknown_source: no source has this write key (401)",
        ..MOST
    },
    Sdk {
        name: "python-2-2",
        driver: Driver::Python("segment.analytics", "segment-2.2"),
        wire: "analytics-python/2.2.3 /v1/batch header",
        told: "[Segment] unknown_source: no source has this write key (401)",
        ..MOST
    },
    Sdk {
        name: "python-1-4",
        driver: Driver::Python("analytics", "segment-1.4"),
        wire: "analytics-python/1.4.post1 /v1/batch header",
        told: "[Segment] unknown_source: no source has this write key (401)",
        ..MOST
    },
    Sdk {
        name: "rudderstack-python",
        driver: Driver::Python("rudderstack.analytics", "rudderstack-2.1"),
        wire: "analytics-python/2.1.9 /v1/batch header gzip",
        told: "[rudderstack] unknown_source: no source has this write key (401)",
        is_encrypted: true,
        ..MOST
    },
    Sdk {
        name: "ruby-wire-form",
        driver: Driver::WireForm("ruby"),
        wire: "analytics-ruby/2.5.0 /v1/import header",
        retries: 30,
        told: "[401]",
        is_encrypted: true,
        ..MOST
    },
    Sdk {
        name: "php-wire-form",
        driver: Driver::WireForm("php"),
        wire: "analytics-php/3.8.2 /v1/batch header",
        retries: 7,
        told: "[401]",
        needs_balancer: true,
        is_encrypted: true,
        ..MOST
    },
];

impl Sdk {
    /// One source for each, so that metrics tell them apart.
    pub fn key(&self) -> String {
        format!("write-key-of-{}", self.name)
    }

    /// Starts it in the state of an application that is ready to identify users.
    pub fn start(&self, url: &str, key: &str, retries: &str) -> Process {
        let mut command = match self.driver {
            Driver::Node(package) => {
                let mut command = Command::new("node");
                command.env("NODE_PATH", installed("node/node_modules")).args([&script("node.cjs"), package]);
                command
            }
            Driver::Python(module, folder) => {
                let mut command = Command::new(installed("python/bin/python"));
                let folder = installed(&format!("python-{folder}"));
                command.env("PYTHONPATH", folder).args([&script("python.py"), module]);
                command
            }
            Driver::WireForm(kind) => {
                let mut command = Command::new(installed("python/bin/python"));
                command.args([&script("wire_form.py"), kind]);
                command
            }
        };
        for trusted in ["NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"] {
            command.env(trusted, pem("certificate.pem"));
        }
        command.args([url, key, self.name, retries]);
        Process::start(command)
    }

    /// The known and the anonymous users of one `send`.
    pub fn users(&self, numbers: std::ops::Range<u64>) -> Vec<User> {
        let user = |name: String, is_known, logins| User { name, is_known, logins };
        numbers
            .flat_map(|n| {
                [
                    user(format!("{}-{n}", self.name), true, n),
                    user(format!("{}-anonymous-{n}", self.name), false, n),
                ]
            })
            .collect()
    }
}

pub struct User {
    pub name: String,
    pub is_known: bool,
    pub logins: u64,
}

fn installed(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/sdks").join(name);
    assert!(path.exists(), "{} is missing: ./test installs the SDKs", path.display());
    path
}

fn script(name: &str) -> String {
    format!("{}/tests/sdks/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// How a request names its sender, where it goes, and how it shows the key.
pub fn wire(seen: &Seen) -> String {
    let mut facts = vec![seen.header("user-agent").unwrap(), &seen.path];
    if seen.header("authorization").is_some_and(|value| value.starts_with("Basic ")) {
        facts.push("header");
    }
    if seen.body["writeKey"].is_string() {
        facts.push("body");
    }
    facts.extend(seen.header("content-encoding"));
    facts.join(" ")
}
