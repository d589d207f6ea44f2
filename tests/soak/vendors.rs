//! The destinations of the soak, and how their vendors fail.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::sender::Call;
use super::support::ledger::DRIPPED;

/// A destination of the configuration.
pub struct Destination {
    pub name: &'static str,
    pub host: &'static str,
    pub table: &'static str,
    /// The only source it takes, if not all.
    pub source: Option<&'static str>,
    /// Whether its vendor fails at times, and calls may be flagged off for it.
    pub is_tried: bool,
    /// Whether a call that fails for a second becomes a dead letter.
    pub gives_up: bool,
}

/// What refuses items, what refuses batches, what takes one source, what is given up soon, what is down until the end,
/// and one that is always well, by which the run is paced.
pub const DESTINATIONS: [Destination; 8] = [
    Destination {
        name: "profiles_us",
        host: "api.mixpanel.com",
        table: r#"adapter = "mixpanel"
            settings = { project_token = "${LIFE}" }"#,
        source: None,
        is_tried: true,
        gives_up: false,
    },
    Destination {
        name: "profiles_eu",
        host: "api-eu.mixpanel.com",
        table: r#"adapter = "mixpanel"
            settings = { project_token = "${LIFE}", region = "eu" }"#,
        source: None,
        is_tried: true,
        gives_up: false,
    },
    Destination {
        name: "hook_one",
        host: "one.example.com",
        table: r#"adapter = "webhook"
            settings = { url = "https://one.example.com/in", retry_4xx = false, headers = { x-life = "${LIFE}" } }"#,
        source: None,
        is_tried: true,
        gives_up: false,
    },
    Destination {
        name: "hook_many",
        host: "many.example.com",
        table: r#"adapter = "webhook"
            settings = { url = "https://many.example.com/in", max_batch = 20, retry_4xx = false, headers = { x-life = "${LIFE}" } }"#,
        source: None,
        is_tried: true,
        gives_up: false,
    },
    Destination {
        name: "hook_web",
        host: "web.example.com",
        table: r#"adapter = "webhook"
            sources = ["web"]
            settings = { url = "https://web.example.com/in", headers = { x-life = "${LIFE}" } }"#,
        source: Some("web"),
        is_tried: true,
        gives_up: false,
    },
    Destination {
        name: "hook_short",
        host: "short.example.com",
        table: r#"adapter = "webhook"
            delivery = { retry_for = "1s" }
            settings = { url = "https://short.example.com/in", max_batch = 5, headers = { x-life = "${LIFE}" } }"#,
        source: None,
        is_tried: true,
        gives_up: true,
    },
    Destination {
        name: "hook_dark",
        host: "dark.example.com",
        table: r#"adapter = "webhook"
            settings = { url = "https://dark.example.com/in", max_batch = 20, headers = { x-life = "${LIFE}" } }"#,
        source: None,
        is_tried: false,
        gives_up: false,
    },
    STEADY,
];

pub const STEADY: Destination = Destination {
    name: "hook_steady",
    host: "steady.example.com",
    table: r#"adapter = "webhook"
        settings = { url = "https://steady.example.com/in", max_batch = 50, headers = { x-life = "${LIFE}" } }"#,
    source: None,
    is_tried: false,
    gives_up: false,
};

impl Destination {
    pub fn takes(&self, source: &str) -> bool {
        self.source.is_none_or(|only| only == source)
    }

    /// Which of the acknowledged calls it is to receive.
    pub fn wanted<'a>(&'a self, acknowledged: &'a BTreeMap<u64, Call>) -> impl Iterator<Item = u64> + 'a {
        let is_wanted = |call: &&Call| self.takes(call.source) && !call.off.contains(self.name);
        acknowledged.iter().filter(move |(_, call)| is_wanted(call)).map(|(number, _)| *number)
    }
}

/// What one vendor does for its next few requests.
pub fn bad_moment(random: &mut fastrand::Rng) -> Value {
    let tried: Vec<&Destination> = DESTINATIONS.iter().filter(|one| one.is_tried).collect();
    let host = tried[random.usize(..tried.len())].host;
    let refusal = match host {
        // The first record is bad; the others are taken.
        "api.mixpanel.com" | "api-eu.mixpanel.com" => json!({"status": 207, "body":
            {"code": 207, "failed_records": [{"index": 0, "field": "$set", "message": "no"}]}}),
        // Tried again, as their settings say.
        "web.example.com" | "short.example.com" => json!({"status": 404}),
        "many.example.com" if random.bool() => json!({"status": 413}), // taken in parts
        _ => json!({"status": 422}),
    };
    let mut rule = match random.u8(..12) {
        0 => json!({"status": 503}),
        1 => json!({"status": 429, "headers": {"retry-after": "1"}}),
        2 => json!({"status": 429}),
        3 => json!({"then": "drop"}),
        4 => json!({"then": "drop", "delay_ms": 300}),
        5 => json!({"status": 500, "delay_ms": 200}),
        6 => json!({"status": 200, "body": {"code": 200, "status": "OK"}, "delay_ms": 200}),
        7 => json!({"then": "hang"}),
        8 => {
            json!({"status": DRIPPED, "body": "sixty bytes, one a second: nobody waits that long for an answer",
            "drip_ms": 1000})
        }
        9 => json!({"status": 401}),
        _ => refusal,
    };
    rule["host"] = json!(host);
    let times = match host {
        // Credentials that are refused twice pause a destination for longer than this run may last.
        _ if rule["status"] == 401 => 1,
        "short.example.com" => random.u64(20..80), // long enough for some calls to be given up
        _ => random.u64(1..5),
    };
    rule["times"] = json!(times);
    rule
}
