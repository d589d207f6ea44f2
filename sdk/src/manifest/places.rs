//! Which roots may be read where in a manifest; the table of roots in its grammar, as data.

/// What may be read where; see the table of roots in the manifest's grammar.
pub(super) const CALL: &[&str] = &[
    "user_id",
    "anonymous_id",
    "message_id",
    "timestamp",
    "received_at",
    "traits",
    "custom",
    "context",
    "options",
];
pub(super) const REPLY: &[&str] = &["status", "headers", "body"];
pub(super) const ENTRY: &[&str] = &["key", "value"];
/// What steps before this one have brought.
pub(super) const STEPS: &[&str] = &["found", "given"];
pub(super) const ALL: &[&str] = &[
    "user_id",
    "anonymous_id",
    "message_id",
    "timestamp",
    "received_at",
    "traits",
    "custom",
    "context",
    "options",
    "event",
    "raw",
    "settings",
    "identity",
    "values",
    "fields",
    "tables",
    "fetch",
    "items",
    "key",
    "value",
    "status",
    "headers",
    "body",
    "reply",
    "found",
    "given",
    "attempt",
    "rest",
];

/// The fields of `context` that the specifications name.
pub(super) const CONTEXT: &[&str] = &[
    "active",
    "app",
    "campaign",
    "channel",
    "device",
    "direct",
    "groupId",
    "ip",
    "library",
    "locale",
    "location",
    "network",
    "os",
    "page",
    "referrer",
    "screen",
    "sessionId",
    "timezone",
    "userAgent",
    "userAgentData",
];
pub(super) const ATTEMPT: &[&str] = &["id", "time", "nonce", "body"];

/// A place in which an expression stands: its name for people, and the roots that it may read.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub name: &'static str,
    pub roots: &'static [&'static [&'static str]],
    /// The request around it, whose earlier ones `reply` may name.
    pub request: Option<usize>,
}

pub(super) const fn place(name: &'static str, roots: &'static [&'static [&'static str]]) -> Place {
    Place { name, roots, request: None }
}

pub(super) const IN_DEFAULT: Place = place("a default", &[&["settings"]]);
pub(super) const IN_IDENTITY: Place = place("identity", &[CALL, &["settings", "values", "tables"]]);
pub(super) const IN_WHEN: Place =
    place("a condition", &[CALL, STEPS, &["settings", "values", "tables", "identity", "fields"]]);
pub(super) const IN_URL: Place =
    place("a url", &[CALL, STEPS, &["settings", "values", "tables", "identity", "fields", "fetch", "reply"]]);
pub(super) const IN_HEAD: Place = place(
    "headers and query",
    &[CALL, STEPS, &["settings", "values", "tables", "identity", "fields", "fetch", "reply", "attempt"]],
);
pub(super) const IN_BODY: Place = place(
    "a body",
    &[
        CALL,
        STEPS,
        &["settings", "values", "tables", "identity", "fields", "fetch", "reply", "event", "raw", "items"],
    ],
);
pub(super) const IN_ITEM: Place = place(
    "an item",
    &[CALL, STEPS, &["settings", "values", "tables", "identity", "fields", "fetch", "reply", "event", "raw"]],
);
pub(super) const IN_RULE: Place =
    place("an outcome rule", &[REPLY, ENTRY, &["settings", "values", "tables"]]);
/// A rule of a request that holds one event alone.
pub(super) const IN_OWN_RULE: Place =
    place("an outcome rule", &[REPLY, ENTRY, CALL, STEPS, &["settings", "values", "tables", "identity"]]);
pub(super) const IN_RULE_ITEM: Place =
    place("item of a rule", &[CALL, &["settings", "values", "tables", "identity"]]);
pub(super) const IN_FIELD: Place =
    place("a field", &[CALL, ENTRY, &["settings", "values", "tables", "identity", "fetch", "rest"]]);
/// What is decided when a destination is configured.
pub(super) const IN_NAMES: Place = place("names or drop of a field", &[&["settings", "values", "tables"]]);
pub(super) const IN_POLICY: Place = place("a policy", &[&["value", "settings", "tables"]]);
pub(super) const IN_FETCH: Place = place("a fetch", &[&["settings", "values", "tables", "attempt"]]);
pub(super) const IN_KEEP: Place =
    place("what a fetch keeps", &[REPLY, ENTRY, &["settings", "values", "tables"]]);
