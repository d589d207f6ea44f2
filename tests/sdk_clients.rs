//! The official server-side SDKs, real ones, speak to the real binary and meet what goes wrong between them: a wrong
//! write key, an answer 503, an answer that never arrives, a kill. Every user must be at every vendor, once.
//!
//! Ruby's and PHP's cannot be installed from Debian, npm or PyPI: `tests/sdks/wire_form.py` sends their form instead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

#[path = "sdks/arrivals.rs"]
mod arrivals;
#[path = "sdks/front.rs"]
mod front;
mod support;
#[path = "sdks/table.rs"]
mod table;
#[path = "support/vendors/mod.rs"]
mod vendors;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use arrivals::{expected, sent, settings};
use front::{Front, Kind, Seen};
use serde_json::json;
use support::{PATIENCE, Process, free_address, request, write_config};
use table::{SDKS, Sdk, User, wire};
use vendors::{Vendor, Vendors};

/// Where the users of every SDK must arrive.
const VENDORS: [Vendor; 4] = Vendor::ALL;

/// Each `send` identifies so many known users, and as many anonymous ones.
const USERS: u64 = 3;

/// One fanout, the vendors, and a front for each SDK.
struct Rig {
    folder: tempfile::TempDir,
    vendors: Vendors,
    address: String,
    tls_address: String,
    admin: String,
}

impl Rig {
    fn new() -> Rig {
        let vendors = Vendors::start();
        vendors.declare(&["logins", "old_key", "address_city", "address_postal_code"]);
        Rig {
            folder: tempfile::tempdir().unwrap(),
            vendors,
            address: free_address(),
            tls_address: free_address(),
            admin: free_address(),
        }
    }

    /// Starts fanout. While its destinations are paused it keeps what it accepts, so that nothing is under way to a
    /// vendor when it is killed, and a repeated call at a vendor can only come from an SDK.
    fn serve(&self, paused: bool) -> Process {
        let mut text = format!(
            r#"
            [server]
            listen = "{}"
            max_body = "4 MiB"
            max_in_flight = "4 MiB"
            [server.tls]
            listen = "{}"
            certificate = "{}"
            key = "{}"
            [admin]
            listen = "{}"
            [queue]
            path = "{}/data"
            [sandbox]
            url = "{}"
            "#,
            self.address,
            self.tls_address,
            front::pem("certificate.pem").display(),
            front::pem("key.pem").display(),
            self.admin,
            self.folder.path().display(),
            self.vendors.url(),
        );
        for sdk in &SDKS {
            text.push_str(&format!("[[sources]]\nname = \"{}\"\nwrite_key = \"{}\"\n", sdk.name, sdk.key()));
        }
        for vendor in VENDORS {
            let (name, settings) = (vendor.name(), settings(&self.vendors, vendor));
            text.push_str(&format!("[destinations.{name}]\npaused = {paused}\nsettings = {settings}\n"));
        }
        let config = write_config(self.folder.path(), &text);
        let mut process = Process::fanout(&["serve", "--config", &config]);
        process.wait_for("ready");
        process
    }

    fn front(&self, sdk: &Sdk) -> Front {
        let upstream = if sdk.is_encrypted { &self.tls_address } else { &self.address };
        Front::start(Kind { upstream: upstream.clone(), tls: sdk.is_encrypted, balances: sdk.needs_balancer })
    }

    fn metric(&self, line: &str) -> u64 {
        let metrics = request(&self.admin, "GET", "/metrics", &[], b"").unwrap().body;
        let value = metrics.lines().find_map(|found| found.strip_prefix(line));
        value.unwrap_or_else(|| panic!("no {line}: {metrics}")).trim().parse().unwrap()
    }

    /// Waits until no destination has anything left to do.
    fn wait_delivered(&self) {
        let deadline = Instant::now() + PATIENCE;
        for vendor in VENDORS {
            let pending = format!("fanout_pending{{destination=\"{}\"}}", vendor.name());
            while self.metric(&pending) != 0 {
                assert!(Instant::now() < deadline, "{}: {}", vendor.name(), self.vendors.summary());
            }
        }
    }

    /// Uses up all the memory that fanout gives to requests, by one that stays a byte short of its end; until this is
    /// dropped, fanout answers 503 to every other one.
    fn exhaust(&self) -> TcpStream {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stream = self.send_all_but_a_byte();
            // What was written need not have been read yet, and is refused if a probe is in its way at its end: once
            // one probe is refused, the next one tells.
            for _ in 0..300 {
                if self.is_busy() && self.is_busy() {
                    return stream;
                }
            }
            assert!(Instant::now() < deadline, "fanout is never busy");
        }
    }

    fn send_all_but_a_byte(&self) -> TcpStream {
        const BODY: usize = 4 << 20;
        let (key, host) = (SDKS[0].key(), &self.address);
        let head = format!(
            "POST /v1/batch?writeKey={key} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {BODY}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(host).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b' '; BODY - 1]).unwrap();
        stream
    }

    fn is_busy(&self) -> bool {
        let body = json!({"writeKey": SDKS[0].key(), "batch": []}).to_string();
        request(&self.address, "POST", "/v1/batch", &[], body.as_bytes()).unwrap().status == 503
    }
}

#[test]
fn no_user_is_lost_or_repeated_whatever_happens_between_sdk_and_fanout() {
    if std::env::var("FANOUT_TESTS").as_deref() == Ok("quick") {
        return;
    }
    let rig = Rig::new();
    let fanout = rig.serve(true);
    let mut fronts: Vec<Front> = SDKS.iter().map(|sdk| rig.front(sdk)).collect();
    let started = SDKS.iter().zip(&fronts);
    let mut clients: Vec<Process> =
        started.map(|(sdk, front)| sdk.start(&front.url(), &sdk.key(), &sdk.retries.to_string())).collect();
    clients.iter_mut().for_each(|client| drop(client.wait_for("listening")));
    let say = |clients: &mut Vec<Process>, round: u64| {
        clients
            .iter_mut()
            .for_each(|client| client.say(&format!("send {} {}", round * USERS, (round + 1) * USERS)));
    };
    let wait_sent = |clients: &mut Vec<Process>, round: u64| {
        for client in clients {
            client.wait_for(&format!("sent {} {}", round * USERS, (round + 1) * USERS));
        }
    };

    // Each is told to come back in a second, and does.
    let held = rig.exhaust();
    say(&mut clients, 0);
    for (sdk, front) in SDKS.iter().zip(&fronts) {
        front.wait_for(sdk.name, |seen| seen.status == Some(503) && seen.retry_after.as_deref() == Some("1"));
    }
    drop(held);
    wait_sent(&mut clients, 0);

    // Each has something accepted without ever hearing of it; then fanout is killed.
    fronts.iter().for_each(|front| front.swallow_successes(true));
    say(&mut clients, 1);
    for (sdk, front) in SDKS.iter().zip(&fronts) {
        front.wait_for(sdk.name, |seen| seen.swallowed);
    }
    fanout.kill();
    fronts.iter_mut().for_each(Front::close);
    let fanout = rig.serve(false);
    for front in &mut fronts {
        front.swallow_successes(false);
        front.open();
    }
    wait_sent(&mut clients, 1);
    say(&mut clients, 2);
    wait_sent(&mut clients, 2);

    let everybody: Vec<User> = SDKS.iter().flat_map(|sdk| sdk.users(0..3 * USERS)).collect();
    rig.wait_delivered();
    for (sdk, front) in SDKS.iter().zip(&fronts) {
        check_conduct(sdk, &front.seen(), &rig);
    }
    assert!(fanout.terminate(), "SIGTERM ends it with success");
    for vendor in VENDORS {
        let sent = sent(&rig.vendors, vendor);
        for user in &everybody {
            assert_eq!(sent[&user.name], expected(vendor, user), "{}: {}", vendor.name(), user.name);
        }
        assert_eq!(sent.len(), everybody.len());
        let people = rig.vendors.people(vendor);
        assert!(people.values().all(|person| person.created == 1), "{}: {people:#?}", vendor.name());
    }
    clients.into_iter().for_each(|client| assert!(client.finish()));
}

/// How an SDK spoke, how often it tried, and that what it sent again was recognised.
fn check_conduct(sdk: &Sdk, seen: &[Seen], rig: &Rig) {
    let mut tries = BTreeMap::<String, usize>::new();
    let mut unheard = BTreeSet::new();
    for request in seen {
        assert_eq!(wire(request), sdk.wire, "{}", sdk.name);
        for id in request.message_ids() {
            *tries.entry(id.clone()).or_default() += 1;
            if request.swallowed {
                unheard.insert(id);
            }
        }
    }
    let most = tries.values().max().unwrap();
    assert!(*most <= 1 + sdk.retries, "{} sent a call {most} times: {seen:#?}", sdk.name);
    assert_eq!(tries.len() as u64, 3 * 2 * USERS, "{}: a call sent again keeps its messageId", sdk.name);
    let repeated = rig.metric(&format!(
        "fanout_calls_total{{source=\"{}\",type=\"identify\",result=\"duplicate\"}}",
        sdk.name
    ));
    assert!(repeated >= unheard.len() as u64, "{}: {repeated} of {} repeated", sdk.name, unheard.len());
}

#[test]
fn a_wrong_write_key_is_told_and_tried_no_more_than_the_sdk_always_does() {
    if std::env::var("FANOUT_TESTS").as_deref() == Ok("quick") {
        return;
    }
    let rig = Rig::new();
    let fanout = rig.serve(false);
    let fronts: Vec<Front> = SDKS.iter().map(|sdk| rig.front(sdk)).collect();
    let started = SDKS.iter().zip(&fronts);
    let mut clients: Vec<Process> =
        started.map(|(sdk, front)| sdk.start(&front.url(), "wrong-key", "default")).collect();
    clients.iter_mut().for_each(|client| client.say("send 0 1"));
    for ((sdk, front), client) in SDKS.iter().zip(&fronts).zip(&mut clients) {
        assert_eq!(client.wait_for("failed 0 1:"), sdk.told, "{}", sdk.name);
        let seen = front.seen();
        assert!(
            seen.iter().all(|request| request.status == Some(401) && request.retry_after.is_none()),
            "{seen:#?}"
        );
        let mut tries = BTreeMap::<String, usize>::new();
        for id in seen.iter().flat_map(Seen::message_ids) {
            *tries.entry(id).or_default() += 1;
        }
        let requests: Vec<usize> = tries.into_values().collect();
        assert_eq!(requests, [sdk.requests_with_wrong_key; 2], "{}: {seen:#?}", sdk.name);
    }
    assert!(fanout.terminate());
    for vendor in VENDORS {
        assert_eq!(rig.vendors.requests(vendor).len(), 0);
    }
}

#[test]
fn the_page_on_sdks_names_every_version_that_is_tested() {
    let page = std::fs::read_to_string("docs/sdks.md").unwrap();
    let is_named = |version: &str| page.split(['|', ',', ' ']).any(|word| word == version);
    let packages = std::fs::read_to_string("tests/sdks/package.json").unwrap();
    let packages: serde_json::Value = serde_json::from_str(&packages).unwrap();
    for (name, version) in packages["dependencies"].as_object().unwrap() {
        let version = version.as_str().unwrap();
        assert!(is_named(version.rsplit('@').next().unwrap()), "{name} {version}");
    }
    for file in std::fs::read_dir("tests/sdks/python").unwrap() {
        let list = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let is_sdk = |name: &str| name.contains("analytics-python") || name == "rudder-sdk-python";
        let (name, version) =
            list.lines().filter_map(|line| line.split_once("==")).find(|(name, _)| is_sdk(name)).unwrap();
        assert!(is_named(version), "{name} {version}");
    }
}
