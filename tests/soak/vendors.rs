//! The destinations of the soak, and how their vendors fail.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::sender::Call;
use super::support::ledger::{Allowed, DRIPPED};

/// A destination of the configuration.
pub struct Destination {
    pub name: &'static str,
    pub host: &'static str,
    pub table: &'static str,
    /// The only source it takes, if not all.
    pub source: Option<&'static str>,
    /// Whether its vendor fails at times, and calls may be flagged off for it.
    pub is_tried: bool,
    pub way: Way,
}

/// How a call may end there besides being taken, refused or flagged off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Plain,
    /// A call that fails for a second becomes a dead letter.
    GivesUp,
    /// The oldest of a long backlog are given up; its vendor is dark until all else is over.
    Sheds,
    /// Unchanged calls are not sent.
    Suppresses,
    /// It is in the configuration at times, and replays bring it what it missed.
    Visits,
}

impl Destination {
    const fn new(name: &'static str, host: &'static str, table: &'static str) -> Destination {
        Destination { name, host, table, source: None, is_tried: true, way: Way::Plain }
    }
}

/// So many calls may wait for the destination that sheds.
pub const MAX_BACKLOG: u64 = 300;

pub const DESTINATIONS: [Destination; 11] = [
    Destination::new(
        "profiles_us",
        "api.mixpanel.com",
        r#"adapter = "mixpanel"
        settings = { project_token = "${LIFE}" }"#,
    ),
    Destination::new(
        "profiles_eu",
        "api-eu.mixpanel.com",
        r#"adapter = "mixpanel"
        settings = { project_token = "${LIFE}", region = "eu" }"#,
    ),
    Destination::new(
        "hook_one",
        "one.example.com",
        r#"adapter = "webhook"
        settings = { url = "https://one.example.com/in", retry_4xx = false, headers = { x-life = "${LIFE}" } }"#,
    ),
    Destination::new(
        "hook_many",
        "many.example.com",
        r#"adapter = "webhook"
        settings = { url = "https://many.example.com/in", max_batch = 20, retry_4xx = false, headers = { x-life = "${LIFE}" } }"#,
    ),
    Destination {
        source: Some("web"),
        ..Destination::new(
            "hook_web",
            "web.example.com",
            r#"adapter = "webhook"
            sources = ["web"]
            settings = { url = "https://web.example.com/in", headers = { x-life = "${LIFE}" } }"#,
        )
    },
    Destination {
        way: Way::GivesUp,
        ..Destination::new(
            "hook_short",
            "short.example.com",
            r#"adapter = "webhook"
            delivery = { retry_for = "1s" }
            settings = { url = "https://short.example.com/in", max_batch = 5, headers = { x-life = "${LIFE}" } }"#,
        )
    },
    Destination {
        way: Way::Suppresses,
        ..Destination::new(
            "plans",
            "plans.example.com",
            r#"adapter = "plans"
            delivery = { suppress_unchanged = "24h" }
            settings = { life = "${LIFE}" }"#,
        )
    },
    Destination {
        is_tried: false,
        way: Way::Sheds,
        ..Destination::new(
            "hook_full",
            "full.example.com",
            r#"adapter = "webhook"
            delivery = { max_backlog = 300 }
            settings = { url = "https://full.example.com/in", max_batch = 20, headers = { x-life = "${LIFE}" } }"#,
        )
    },
    Destination {
        is_tried: false,
        ..Destination::new(
            "hook_dark",
            "dark.example.com",
            r#"adapter = "webhook"
            settings = { url = "https://dark.example.com/in", max_batch = 20, headers = { x-life = "${LIFE}" } }"#,
        )
    },
    PAST,
    STEADY,
];

/// The one by which the run is paced.
pub const STEADY: Destination = Destination {
    is_tried: false,
    ..Destination::new(
        "hook_steady",
        "steady.example.com",
        r#"adapter = "webhook"
        settings = { url = "https://steady.example.com/in", max_batch = 50, headers = { x-life = "${LIFE}" } }"#,
    )
};

/// The one that comes and goes.
pub const PAST: Destination = Destination {
    way: Way::Visits,
    ..Destination::new(
        "hook_past",
        "past.example.com",
        r#"adapter = "webhook"
        settings = { url = "https://past.example.com/in", max_batch = 10, retry_4xx = false, headers = { x-life = "${LIFE}" } }"#,
    )
};

/// The adapter of the destination that suppresses: what changes of a person is one trait. The messageId is not compared.
pub const PLANS: &str = r#"
adapter = { name = "Plans", docs = "https://plans.example.com", checked = "2026-08" }

[settings]
life = { type = "text", doc = "Which life of the process sends" }

[identity]
key = ["{user_id}"]

[[request]]
url = "https://plans.example.com/in"
headers = { x-life = "{settings.life}" }
batch = { items = 20 }
body = "{items}"
item = { data = { messageId = "{message_id}", userId = "{identity}", traits = { plan = "{custom.plan | required}" } } }
"#;

impl Destination {
    pub fn takes(&self, source: &str) -> bool {
        self.source.is_none_or(|only| only == source)
    }

    /// Which of the acknowledged calls it is to receive.
    pub fn wanted<'a>(&'a self, acknowledged: &'a BTreeMap<u64, Call>) -> impl Iterator<Item = u64> + 'a {
        let is_wanted = |call: &&Call| self.wants(call);
        acknowledged.iter().filter(move |(_, call)| is_wanted(call)).map(|(number, _)| *number)
    }

    /// Whether it is to receive a call, by its source and its flags.
    pub fn wants(&self, call: &Call) -> bool {
        self.takes(call.source) && !call.off.contains(self.name)
    }

    /// What is no disorder at its vendor.
    pub fn allowed(&self) -> Allowed {
        Allowed {
            gives_up: matches!(self.way, Way::GivesUp | Way::Sheds),
            leaves_out: self.way == Way::Suppresses,
        }
    }

    /// Which traits of a call its vendor is told.
    pub fn told<'a>(&self, call: &'a Call) -> BTreeSet<&'a str> {
        let is_told = |name: &&str| self.way != Way::Suppresses || *name == "plan";
        call.traits.keys().copied().filter(is_told).collect()
    }

    /// Whether a call is known at its vendor when traits are left out of it.
    pub fn knows_parts(&self) -> bool {
        self.host.ends_with("example.com") && self.way != Way::Suppresses
    }
}

/// One vendor is down for the first third of the run or longer, whatever becomes of the others.
pub fn darkness() -> Value {
    json!({"host": "dark.example.com", "status": 500})
}

/// Another is down throughout, and says so: nothing is tried there but after a restart.
pub fn maintenance() -> Value {
    json!({"host": "full.example.com", "status": 503, "headers": {"retry-after": "3600"}})
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
        "many.example.com" | "plans.example.com" | "past.example.com" if random.bool() => {
            json!({"status": 413})
        } // taken in parts
        _ => json!({"status": 422}),
    };
    let mut rule = match random.u8(..16) {
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
