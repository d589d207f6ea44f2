//! Browser SDKs, real ones in a real Chromium, speak to the real binary from pages of another origin; a stand-in for the
//! vendor must have every call exactly as the vendor's documentation asks, once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

#[path = "support/browser.rs"]
mod browser;
mod support;
#[path = "support/vendors/mod.rs"]
mod vendors;

use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use browser::{Browser, Sent, Site};
use serde_json::{Value, json};
use support::{PATIENCE, Process, Sandbox, free_address, request, write_config};
use vendors::{Vendor, Vendors};

const KEY: &str = "browser-test-key";
const VENDOR: &str = "api.mixpanel.com";
const NEXT: &str = "@segment/analytics-next";
/// The last release without an authorisation header: its calls are simple requests of type text/plain.
const NEXT_SIMPLE: &str = "analytics-next-1-83";

const RUDDER: &str = "@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js";
const OLD_RUDDER: &str = "rudder-sdk-js/dist/npm/index.js";
const BATCHING: (&str, &str) = ("batching", "1");

/// A router, a stand-in for the vendor, a site, and a browser.
struct Rig {
    folder: tempfile::TempDir,
    sandbox: Sandbox,
    /// Where the router's requests go: the sandbox, unless a test brings vendors of its own with their destinations.
    upstream: String,
    destinations: String,
    address: String,
    api: String,
    /// The same by TLS.
    secure: String,
    site: Site,
    browser: Browser,
}

impl Rig {
    fn new() -> Rig {
        let address = free_address();
        let sandbox = Sandbox::start();
        Rig {
            folder: tempfile::tempdir().unwrap(),
            upstream: format!("http://{}", sandbox.address),
            sandbox,
            destinations: "[destinations.mixpanel]\nsettings = { project_token = \"TOKEN\" }".to_owned(),
            api: format!("http://{address}"),
            secure: format!("https://{}", free_address()),
            address,
            site: Site::start(),
            browser: Browser::start(),
        }
    }

    /// Starts the router. Called again after a kill, it comes back at the same place with the same data.
    fn serve(&self) -> Process {
        let tls = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ingest/support/tls");
        let config = write_config(
            self.folder.path(),
            &format!(
                r#"
                [server]
                listen = "{}"
                max_in_flight = "1 MiB"
                [server.tls]
                listen = "{}"
                certificate = "{tls}/certificate.pem"
                key = "{tls}/key.pem"
                [admin]
                listen = "127.0.0.1:0"
                [[sources]]
                name = "web"
                write_key = "{KEY}"
                [[sources]]
                name = "picky"
                write_key = "picky-key"
                allowed_origins = ["https://elsewhere.example"]
                [queue]
                path = "{}/data"
                [sandbox]
                url = "{}"
                {}
                "#,
                self.address,
                self.secure.trim_start_matches("https://"),
                self.folder.path().display(),
                self.upstream,
                self.destinations
            ),
        );
        let mut process = Process::fanout(&["serve", "--config", &config]);
        process.wait_for("ready");
        process
    }

    fn open_next(&self, sdk: &str, more: &[(&str, &str)]) {
        // Without authorisation header, batches know https only.
        let api = if sdk == NEXT_SIMPLE && more.contains(&BATCHING) { &self.secure } else { &self.api };
        let mut query = vec![("sdk", sdk), ("api", api), ("key", KEY)];
        query.extend(more);
        self.browser.open(&self.site.page("next", &query));
    }

    /// Waits until the vendor has that many records, and answers them.
    fn records(&self, count: usize) -> Vec<Value> {
        let received = self
            .sandbox
            .wait_until(VENDOR, &format!("{count} records"), |requests| records(requests).len() >= count);
        records(&received)
    }

    /// What was sent to the router since the last time; nothing may have gone to anybody else.
    fn sent(&self) -> Vec<Sent> {
        let sent = self.browser.sent();
        for request in &sent {
            let ours = [&self.api, &self.secure, &self.site.origin];
            let is_ours = ours.iter().any(|origin| request.url.starts_with(*origin));
            assert!(is_ours, "{} left this place", request.url);
        }
        sent.into_iter().filter(|request| !request.url.starts_with(&self.site.origin)).collect()
    }
}

fn is_quick() -> bool {
    std::env::var("FANOUT_TESTS").as_deref() == Ok("quick")
}

fn records(requests: &[Value]) -> Vec<Value> {
    requests.iter().flat_map(|request| request["body"].as_array().unwrap().clone()).collect()
}

/// What the vendor's documentation asks for, for a user with [`TRAITS`].
fn expected(user: &str) -> Vec<Value> {
    vec![
        json!({"$token": "TOKEN", "$distinct_id": user, "$ip": "0", "$set": {
            "$email": "ada@example.com", "$first_name": "Ada", "$created": "2024-03-05T09:30:00",
            "address": {"postal_code": "0123"}, "plan": "pro",
        }}),
        json!({"$token": "TOKEN", "$distinct_id": user, "$ip": "0", "$unset": ["old"]}),
    ]
}

/// Traits as pages write them: a date object, names in camel case, null for what is to go.
const TRAITS: &str = "{email: 'ada@example.com', firstName: 'Ada', createdAt: new Date(1709631000000), \
     address: {postalCode: '0123'}, plan: 'pro', old: null}";

fn sorted(mut records: Vec<Value>) -> Vec<String> {
    records.sort_by_key(|record| (record["$distinct_id"].to_string(), record.get("$unset").is_some()));
    records.iter().map(Value::to_string).collect()
}

impl Rig {
    /// Lets the router deliver everything, and answers every record that the vendor ever had.
    fn end(self, fanout: Process) -> Vec<Value> {
        assert!(fanout.terminate());
        let path = format!("/_sandbox/requests?host={VENDOR}");
        let reply = request(&self.sandbox.address, "GET", &path, &[], b"").unwrap();
        let received: Vec<Value> =
            reply.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        records(&received)
    }

    fn run(&self, script: &str) -> Value {
        self.browser.run(script)
    }

    /// Identifies a user with [`TRAITS`]; answers whether the SDK took it for undeliverable.
    fn identify(&self, user: &str) -> bool {
        let script = format!("return !!(await analytics.identify('{user}', {TRAITS})).failedDelivery()");
        self.run(&script).as_bool().unwrap()
    }
}

fn posts(sent: &[Sent]) -> Vec<&Sent> {
    sent.iter().filter(|request| request.method == "POST").collect()
}

#[test]
fn analytics_js_identifies_known_and_anonymous_users() {
    if is_quick() {
        return;
    }
    let rig = Rig::new();
    let fanout = rig.serve();
    let mut all = Vec::new();
    for (sdk, mode, path) in [
        (NEXT, &[][..], "/v1/i"),
        (NEXT, &[BATCHING], "/v1/b"),
        (NEXT_SIMPLE, &[], "/v1/i"),
        (NEXT_SIMPLE, &[BATCHING], "/v1/b"),
    ] {
        let user = format!("{sdk}-{}", mode.len());
        rig.open_next(sdk, mode);
        let anonymous = rig.run(&format!(
            "await analytics.reset();
             await analytics.identify({TRAITS});
             const anonymous = (await analytics.user()).anonymousId();
             await analytics.reset();
             await analytics.identify('{user}', {TRAITS});
             await analytics.track('ignored');
             return anonymous"
        ));
        all.extend(expected(&format!("$device:{}", anonymous.as_str().unwrap())));
        all.extend(expected(&user));
        rig.records(all.len());
        let sent = rig.sent();
        assert_eq!(sent[0].path(), format!("/v1/projects/{KEY}/settings"));
        let identifies: Vec<_> = posts(&sent).into_iter().filter(|post| post.path() == path).collect();
        assert_eq!(identifies.len(), 2 - mode.len(), "{sent:?}");
        for post in identifies {
            assert_eq!(post.header("content-type"), Some("text/plain"), "{post:?}");
            assert_eq!(post.header("authorization").is_some(), sdk == NEXT, "{post:?}");
        }
        let asked =
            sent.iter().filter(|request| request.method == "OPTIONS" && request.path() == path).count();
        assert_eq!(
            asked,
            usize::from(sdk == NEXT),
            "one question for each address, none for a simple request"
        );
    }
    assert_eq!(sorted(rig.end(fanout)), sorted(all));
}

#[test]
fn the_snippet_loads_and_sends_what_was_called_before() {
    if is_quick() {
        return;
    }
    let rig = Rig::new();
    let fanout = rig.serve();
    rig.browser.open(&rig.site.page("snippet", &[("api", &rig.api), ("key", KEY)]));
    let records = rig.records(1);
    assert_eq!(
        records,
        [json!({"$token": "TOKEN", "$distinct_id": "snippet", "$ip": "0",
            "$set": {"$email": "snippet@example.com", "logins": 3}})]
    );
    assert_eq!(rig.sent()[0].path(), format!("/v1/projects/{KEY}/settings"));
    assert_eq!(rig.end(fanout).len(), 1);
}

#[test]
fn what_is_under_way_when_a_page_is_left_arrives_once() {
    if is_quick() {
        return;
    }
    let rig = Rig::new();
    let fanout = rig.serve();
    let mut all = Vec::new();
    for (sdk, mode) in [(NEXT, &[][..]), (NEXT, &[BATCHING]), (NEXT_SIMPLE, &[]), (NEXT_SIMPLE, &[BATCHING])]
    {
        rig.open_next(sdk, mode);
        let user = format!("left-{sdk}-{}", mode.len());
        // The page is gone before any answer is there: the SDK keeps the call for the next page, or sends it while
        // the page goes.
        rig.run(&format!(
            "await analytics;
             const real = window.fetch;
             window.fetch = (...call) => {{ location.href = '/empty.html'; return real(...call) }};
             analytics.identify('{user}', {TRAITS});
             if ({batching}) location.href = '/empty.html'",
            batching = !mode.is_empty()
        ));
        // It may leave only now; on the next page it would be too late.
        while rig.browser.run("return location.pathname") != "/empty.html" {}
        rig.open_next(sdk, mode);
        assert!(!rig.identify(&format!("next-{user}")));
        all.extend(expected(&user));
        all.extend(expected(&format!("next-{user}")));
        rig.records(all.len());
    }
    rig.sent();
    assert_eq!(sorted(rig.end(fanout)), sorted(all));
}

#[test]
fn a_kill_in_the_middle_loses_nothing() {
    if is_quick() {
        return;
    }
    let rig = Rig::new();
    let mut fanout = rig.serve();
    let mut before = Vec::new();
    let mut after = Vec::new();
    for (sdk, mode) in [(NEXT, &[("cdn", "none")][..]), (NEXT, &[("cdn", "none"), BATCHING])] {
        let user = |n: u8| format!("kill-{}-{n}", mode.len());
        rig.open_next(sdk, mode);
        rig.identify(&user(0));
        before.extend(expected(&user(0)));
        rig.records(before.len() + after.len());
        fanout.kill();
        for n in 1..4 {
            rig.run(&format!("await analytics.identify('{}', {TRAITS})", user(n)));
            after.extend(expected(&user(n)));
        }
        if mode.len() == 1 {
            // Also through a reload while nobody answers.
            rig.open_next(sdk, mode);
            rig.run(&format!("await analytics.identify('{}', {TRAITS})", user(4)));
            after.extend(expected(&user(4)));
        }
        fanout = rig.serve();
        rig.records(before.len() + after.len());
    }
    rig.sent();
    let (early, late): (Vec<Value>, Vec<Value>) = rig
        .end(fanout)
        .into_iter()
        .partition(|record| record["$distinct_id"].as_str().is_some_and(|user| user.ends_with("-0")));
    assert_eq!(sorted(late), sorted(after));
    // What the vendor had just before a kill may be repeated, never changed.
    for record in early {
        assert!(before.contains(&record), "{record}");
    }
}

#[test]
fn a_wrong_key_is_tried_once() {
    if is_quick() {
        return;
    }
    let rig = Rig::new();
    let fanout = rig.serve();
    for sdk in [NEXT, NEXT_SIMPLE] {
        let mut query = vec![("sdk", sdk), ("api", rig.api.as_str()), ("key", "wrong-key")];
        rig.browser.open(&rig.site.page("next", &query));
        let why = rig.run("return await failed");
        assert!(
            why.as_str().is_some_and(|why| why.contains("check the key that the page is given")),
            "{why}"
        );
        rig.sent();
        query.push(("cdn", "none"));
        rig.browser.open(&rig.site.page("next", &query));
        let failed = rig.identify("stranger");
        // Older releases take a refusal for success; either way they do not try again.
        assert_eq!(failed, sdk == NEXT);
        assert_eq!(posts(&rig.sent()).len(), 1);
    }
    assert_eq!(rig.end(fanout), Vec::<Value>::new());
}

/// Of RudderStack's SDKs; the user's id, or nothing.
fn identify_by_rudder(user: &str) -> String {
    format!("analytics.identify({user}{TRAITS})")
}

#[test]
fn rudderstack_identifies_known_and_anonymous_users() {
    if is_quick() {
        return;
    }
    let rig = Rig::new();
    let fanout = rig.serve();
    let mut all = Vec::new();
    for (number, (sdk, options, path)) in [
        (RUDDER, "{}", "/v1/identify"),
        (
            RUDDER,
            r#"{"queueOptions":{"batch":{"enabled":true,"maxItems":2,"flushInterval":500}}}"#,
            "/v1/batch",
        ),
        (
            RUDDER,
            r#"{"useBeacon":true,"beaconQueueOptions":{"maxItems":2,"flushQueueInterval":500}}"#,
            "/beacon/v1/batch",
        ),
        (OLD_RUDDER, "{}", "/v1/identify"),
        (
            OLD_RUDDER,
            r#"{"useBeacon":true,"beaconQueueOptions":{"maxItems":2,"flushQueueInterval":500}}"#,
            "/beacon/v1/batch",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let query = [("sdk", sdk), ("api", &rig.api), ("key", KEY), ("options", options)];
        rig.browser.open(&rig.site.page("rudder", &query));
        let user = format!("rudder-{number}");
        let anonymous = rig.run(&format!(
            "await ready; analytics.reset(true); {}; const anonymous = analytics.getAnonymousId();
             analytics.reset(true); {}; return anonymous",
            identify_by_rudder(""),
            identify_by_rudder(&format!("'{user}', ")),
        ));
        // Its SDKs leave null traits out, so nothing is removed.
        all.extend(expected(&format!("$device:{}", anonymous.as_str().unwrap())).into_iter().take(1));
        all.extend(expected(&user).into_iter().take(1));
        rig.records(all.len());
        let sent = rig.sent();
        assert!(posts(&sent).iter().any(|post| post.path() == path), "{path}: {sent:?}");
    }
    assert_eq!(sorted(rig.end(fanout)), sorted(all));
}

#[test]
fn rudderstack_loses_nothing_through_a_kill_and_obeys_a_refusal() {
    if is_quick() {
        return;
    }
    let rig = Rig::new();
    let mut fanout = rig.serve();
    let mut all = Vec::new();
    let options = r#"{"queueOptions":{"minRetryDelay":100,"maxRetryDelay":200}}"#;
    for (number, sdk) in [RUDDER, OLD_RUDDER].into_iter().enumerate() {
        let query = [("sdk", sdk), ("api", &rig.api), ("key", KEY), ("options", options)];
        rig.browser.open(&rig.site.page("rudder", &query));
        rig.run("await ready");
        fanout.kill();
        for call in 0..3 {
            let user = format!("rudder-kill-{number}-{call}");
            rig.run(&identify_by_rudder(&format!("'{user}', ")));
            all.extend(expected(&user).into_iter().take(1));
        }
        fanout = rig.serve();
        rig.records(all.len());

        rig.sent();
        let query = [
            ("sdk", sdk),
            ("api", rig.api.as_str()),
            ("key", "wrong-key"),
            ("options", options),
            ("config", "none"),
        ];
        rig.browser.open(&rig.site.page("rudder", &query));
        rig.run(&format!("await ready; {}", identify_by_rudder("'stranger', ")));
        // Its queue is in the page's storage: once the call has left it, it has given up.
        let queued = "return Object.values(localStorage).some((value) => value.includes('stranger') \
             && value.includes('messageId'))";
        let began = Instant::now();
        let mut tries = 0;
        while tries == 0 || rig.run(queued) == true {
            tries += posts(&rig.sent()).len();
            assert!(began.elapsed() < PATIENCE, "it does not give up");
        }
        assert_eq!(tries + posts(&rig.sent()).len(), 1, "a refusal is not tried again");
    }
    assert_eq!(sorted(rig.end(fanout)), sorted(all));
}

#[test]
fn pages_may_send_calls_in_every_way_that_browsers_know() {
    if is_quick() {
        return;
    }
    let rig = Rig::new();
    let fanout = rig.serve();
    rig.browser.open(&rig.site.page("empty", &[]));
    rig.run(&format!("window.api = '{}'; window.call = (user) => ({{userId: user, writeKey: '{KEY}', type: 'identify', traits: {{plan: 'pro'}}}})", rig.api));
    let mut all = Vec::new();
    for (user, script) in [
        ("no-cors", "await fetch(api + '/v1/identify', {method: 'POST', mode: 'no-cors', body})"),
        ("text", "navigator.sendBeacon(api + '/v1/identify', body)"),
        ("text-batch", "navigator.sendBeacon(api + '/v1/batch', batch)"),
        ("json", "navigator.sendBeacon(api + '/v1/identify', new Blob([body], {type: 'application/json'}))"),
        ("by-query", "navigator.sendBeacon(api + '/beacon/v1/batch?writeKey=' + key, batch)"),
        (
            "keepalive",
            "await fetch(api + '/v1/i', {method: 'POST', keepalive: true, body, headers: {Authorization: 'Basic ' + btoa(key + ':')}})",
        ),
        ("cookies", "await fetch(api + '/v1/i', {method: 'POST', credentials: 'include', body})"),
        (
            "headers",
            "await fetch(api + '/v1/identify', {method: 'POST', body, headers: {'Content-Type': 'application/json', AnonymousId: 'YQ==', 'X-Retry-Count': '1', SentAt: 'now', 'Rsa-Any': '1'}})",
        ),
        (
            "pixel",
            "const image = new Image(); image.src = api + '/v1/pixel/identify?data=' + encodeURIComponent(btoa(body)); await image.decode(); if (image.width !== 1) throw 'no pixel'",
        ),
        (
            "form",
            "const form = new FormData(); await fetch(api + '/v1/identify', {method: 'POST', mode: 'no-cors', body: new Blob([body], {type: 'application/x-www-form-urlencoded'})})",
        ),
    ] {
        rig.run(&format!("const key = '{KEY}', body = JSON.stringify(call('{user}')), batch = JSON.stringify({{writeKey: key, batch: [call('{user}')]}}); {script}"));
        all.push(json!({"$token": "TOKEN", "$distinct_id": user, "$ip": "0", "$set": {"plan": "pro"}}));
        rig.records(all.len());
    }
    for (what, key, body, status, code) in [
        ("an unknown key", "wrong", "{userId: 'u'}", 401, "unknown_source"),
        ("an origin that the source does not take", "picky-key", "{userId: 'u'}", 401, "origin_not_allowed"),
        ("nobody", KEY, "{}", 400, "no_user_anon_id"),
    ] {
        let answer = rig.run(&format!(
            "const answer = await fetch(api + '/v1/identify', {{method: 'POST', body: JSON.stringify({body}),
                 headers: {{Authorization: 'Basic ' + btoa('{key}:')}}}});
             return [answer.status, (await answer.json()).code]"
        ));
        assert_eq!(answer, json!([status, code]), "{what}");
    }
    let broken = "const image = new Image(); image.src = api + '/v1/pixel/identify?data=!'; await image.decode(); return image.width";
    assert_eq!(rig.run(broken), 1);
    assert_eq!(sorted(rig.end(fanout)), sorted(all));
}

/// Those of the vendors with a stand-in that there is an adapter for.
fn vendors_with_adapters() -> Vec<Vendor> {
    let destinations = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("destinations");
    let has_adapter = |vendor: &Vendor| destinations.join(vendor.name()).join("manifest.toml").exists();
    Vendor::ALL.into_iter().filter(has_adapter).collect()
}

#[test]
fn every_vendor_knows_each_person_of_a_page_once() {
    if is_quick() {
        return;
    }
    let vendors = Vendors::start();
    vendors.declare(&["logins"]);
    let kinds = vendors_with_adapters();
    assert!(kinds.len() >= 3, "{kinds:?}");
    // Without a field for the user id, Salesforce finds people by their address, the anonymous ones too.
    let by_address = |table: String| table.replace(r#", external_id_field = "UserId__c""#, "");
    let destinations = kinds.iter().map(|vendor| by_address(vendors.destination(*vendor))).collect();
    let rig = Rig { upstream: vendors.url(), destinations, ..Rig::new() };
    let mut fanout = rig.serve();
    let mut people = Vec::new();
    for (number, sdk) in [NEXT, NEXT_SIMPLE, RUDDER, OLD_RUDDER].into_iter().enumerate() {
        if sdk.contains("next") {
            rig.open_next(sdk, &[]);
            rig.run("await analytics");
        } else {
            let options = r#"{"queueOptions":{"minRetryDelay":100,"maxRetryDelay":200}}"#;
            let query = [("sdk", sdk), ("api", &rig.api), ("key", KEY), ("options", options)];
            rig.browser.open(&rig.site.page("rudder", &query));
            rig.run("await ready");
        }
        // The calls meet a closed port; the SDK keeps them.
        fanout.kill();
        let known = (format!("known-{number}"), format!("known-{number}@example.com"), 2 * number);
        let call = |user: &str, email: &str, logins: usize| {
            format!(
                "await analytics.identify({user}{{email: '{email}', firstName: 'Ada', lastName: 'Byron', \
                 logins: {logins}}}, {{integrations: {{All: true, Salesforce: true}}}});"
            )
        };
        let anonymous = (format!("anonymous-{number}@example.com"), 2 * number + 1);
        // The anonymous call comes last: analytics.js fills in whoever is there when it sends a call again.
        let id = rig.run(&format!(
            "await analytics.reset(true); {} await analytics.reset(true); {}
             return analytics.getAnonymousId ? analytics.getAnonymousId() : (await analytics.user()).anonymousId()",
            call(&format!("'{}', ", known.0), &known.1, known.2),
            call("", &anonymous.0, anonymous.1),
        ));
        fanout = rig.serve();
        people.push(known);
        people.push((format!("$device:{}", id.as_str().unwrap()), anonymous.0, anonymous.1));
        vendors.wait_until(&format!("everybody of {sdk}"), |vendors| {
            kinds.iter().all(|vendor| people.iter().all(|person| knows(vendors, *vendor, person)))
        });
    }
    assert!(fanout.terminate());
    for vendor in kinds {
        assert_eq!(vendors.records(vendor).len(), people.len(), "{}: {}", vendor.name(), vendors.summary());
        assert_eq!(vendors.duplicates(vendor), Vec::<String>::new(), "{}", vendor.name());
    }
}

/// Whether a vendor has a person (id, address, logins) with the right number of logins.
fn knows(vendors: &Vendors, vendor: Vendor, (id, email, logins): &(String, String, usize)) -> bool {
    let people = vendors.people(vendor);
    let person = people.get(id).or_else(|| people.get(email));
    person.is_some_and(|person| vendor.custom(&person.attributes, "logins") == json!(logins))
}

/// Takes nearly all the room that requests together may have, with requests that do not end.
fn crowd(address: &str) -> [TcpStream; 3] {
    let began = Instant::now();
    let is_busy = || {
        let reply = request(address, "POST", "/v1/batch", &[], &[b' '; 2_000]).unwrap();
        reply.status == 503 && reply.header("retry-after") == Some("1")
    };
    loop {
        let held = [400_000, 400_000, 248_000].map(|bytes| {
            let mut stream = TcpStream::connect(address).unwrap();
            let head =
                format!("POST /v1/batch HTTP/1.1\r\nHost: {address}\r\nContent-Length: 500000\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&vec![b' '; bytes]).unwrap();
            stream
        });
        // A question may itself have been in the way of the last bytes, which are then refused and not held: where a
        // second one is not refused, it all starts again.
        for _ in 0..200 {
            if is_busy() && is_busy() {
                return held;
            }
        }
        assert!(began.elapsed() < PATIENCE, "there is still room");
    }
}

#[test]
fn a_router_that_asks_for_time_is_given_it() {
    if is_quick() {
        return;
    }
    let rig = Rig::new();
    let fanout = rig.serve();
    let mut all = Vec::new();
    for (sdk, mode) in [(NEXT, &[][..]), (NEXT, &[BATCHING])] {
        rig.open_next(sdk, mode);
        rig.run("await analytics");
        rig.sent();
        let crowd = crowd(&rig.address);
        let user = format!("patient-{}", mode.len());
        rig.run(&format!("await analytics.identify('{user}', {TRAITS})"));
        // It has asked again, so it has had its answer.
        let began = Instant::now();
        while !rig.sent().iter().any(|request| request.header("x-retry-count").is_some()) {
            assert!(began.elapsed() < PATIENCE, "no second try");
        }
        drop(crowd);
        all.extend(expected(&user));
        rig.records(all.len());
    }
    assert_eq!(sorted(rig.end(fanout)), sorted(all));
}
