//! How the router behaves as a process: starting, refusing to start, delivering on good and bad days, ending, starting
//! again. Everything through the real binary, with the sandbox in the vendors' place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{PATIENCE, Process, Reply, Sandbox, free_address, post, request, write_config};

const KEY: &str = "serve-test-key";
const MIXPANEL: &str = "[destinations.mixpanel]\nsettings = { project_token = \"TOKEN\" }\n";
const WEBHOOK: &str =
    "[destinations.webhook]\nsettings = { url = \"https://hooks.example.com/users\", retry_4xx = false }\n";
const TO_MIXPANEL: &str = "api.mixpanel.com";
const TO_WEBHOOK: &str = "hooks.example.com";

/// A folder, a sandbox and addresses for one router.
struct Rig {
    folder: tempfile::TempDir,
    sandbox: Sandbox,
    address: String,
    admin: String,
}

impl Rig {
    fn new() -> Rig {
        Rig {
            folder: tempfile::tempdir().unwrap(),
            sandbox: Sandbox::start(),
            address: free_address(),
            admin: free_address(),
        }
    }

    /// Writes the configuration: what every test needs, `[server]` settings, and the destinations.
    fn configure(&self, server: &str, destinations: &str) -> String {
        let text = format!(
            r#"
            adapters_dir = "adapters"
            [server]
            listen = "{}"
            {server}
            [admin]
            listen = "{}"
            [[sources]]
            name = "app"
            write_key = "{KEY}"
            [queue]
            path = "data"
            [sandbox]
            url = "http://{}"
            {destinations}
            "#,
            self.address, self.admin, self.sandbox.address
        );
        std::fs::create_dir_all(self.folder.path().join("adapters")).unwrap();
        write_config(self.folder.path(), &text)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
        command.args(arguments).current_dir(self.folder.path()).env("FANOUT_LOG", "warn");
        command
    }

    fn start(&self) -> Process {
        let mut fanout = Process::start(self.command(&["serve"]));
        fanout.wait_for("ready");
        fanout
    }

    fn serve(&self, destinations: &str) -> Process {
        self.configure("", destinations);
        self.start()
    }

    /// A start that is expected to fail.
    fn refuse(&self) -> Output {
        self.command(&["serve"]).output().unwrap()
    }

    fn identify(&self, users: impl IntoIterator<Item = u32>) {
        for user in users {
            self.accept("/v1/identify", &json!({"userId": format!("u{user}"), "traits": {"n": user}}));
        }
    }

    fn accept(&self, path: &str, body: &Value) {
        let reply = post(&self.address, path, KEY, body).unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"success":true}"#));
    }

    /// Tells the sandbox what to answer from now on.
    fn script(&self, answers: Value) {
        let body = answers.to_string();
        let reply =
            request(&self.sandbox.address, "POST", "/_sandbox/answers", &[], body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    fn forget_scripts(&self) {
        assert_eq!(
            request(&self.sandbox.address, "DELETE", "/_sandbox/answers", &[], b"").unwrap().status,
            200
        );
    }

    fn get(&self, path: &str) -> Reply {
        request(&self.admin, "GET", path, &[], b"").unwrap()
    }

    /// A metric's value; `None` while it has none.
    fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").body;
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .map(|value| value.parse().unwrap())
    }

    /// Metrics cannot be awaited, only asked again.
    fn wait_for_metric(&self, name: &str, wanted: f64) {
        self.wait_until(name, |value| value == wanted);
    }

    fn wait_for_at_least(&self, name: &str, wanted: f64) {
        self.wait_until(name, |value| value >= wanted);
    }

    fn wait_until(&self, name: &str, enough: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.metric(name).is_some_and(&enough) {
            assert!(Instant::now() < deadline, "{name} does not come to it:\n{}", self.get("/metrics").body);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a vendor has taken so many items, and answers every item with how often it was taken.
    fn wait_taken(&self, host: &str, count: usize) -> BTreeMap<String, u32> {
        let requests = self.sandbox.wait_until(host, "items", |requests| taken(requests).len() >= count);
        taken(&requests)
    }

    fn requests(&self, host: &str) -> Vec<Value> {
        let path = format!("/_sandbox/requests?host={host}");
        let reply = request(&self.sandbox.address, "GET", &path, &[], b"").unwrap();
        reply.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The users in requests that were answered 200, with how often each came.
fn taken(requests: &[Value]) -> BTreeMap<String, u32> {
    let mut taken = BTreeMap::new();
    for request in requests.iter().filter(|request| request["status"] == 200) {
        let body = &request["body"];
        let users: Vec<&Value> = match body.as_array() {
            Some(records) => records.iter().map(|record| &record["$distinct_id"]).collect(),
            None => vec![&body["data"]["userId"]],
        };
        for user in users {
            *taken.entry(user.as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    taken
}

fn users(range: std::ops::RangeInclusive<u32>) -> BTreeMap<String, u32> {
    range.map(|n| (format!("u{n}"), 1)).collect()
}

fn deliveries(destination: &str, outcome: &str, reason: &str) -> String {
    format!(r#"fanout_deliveries_total{{destination="{destination}",outcome="{outcome}",reason="{reason}"}}"#)
}

fn pending(destination: &str) -> String {
    format!(r#"fanout_pending{{destination="{destination}"}}"#)
}

/// Exit code and what stands on standard error.
fn ended(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

// ---- ending and starting again

#[test]
fn calls_accepted_right_before_sigterm_reach_the_vendor_exactly_once() {
    let rig = Rig::new();
    let fanout = rig.serve(&format!("{MIXPANEL}{WEBHOOK}"));
    rig.identify(1..=40);
    fanout.ask_to_end();
    assert_eq!(fanout.exit_code(), Some(0));
    let fanout = rig.start();
    for host in [TO_MIXPANEL, TO_WEBHOOK] {
        assert_eq!(rig.wait_taken(host, 40), users(1..=40), "{host}");
    }
    assert!(fanout.terminate());
}

#[test]
fn a_request_under_way_at_sigterm_gets_its_answer() {
    let rig = Rig::new();
    let fanout = rig.serve(WEBHOOK);
    let body = json!({"userId": "u1", "writeKey": KEY}).to_string();
    let mut stream = TcpStream::connect(&rig.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /v1/identify HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 100 "), "{line}");

    fanout.ask_to_end();
    // The listener is closed before anything else, so a refused connection says that the end has begun.
    while TcpStream::connect(&rig.address).is_ok() {
        std::thread::yield_now();
    }
    stream.write_all(body.as_bytes()).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("HTTP/1.1 200 ") && rest.ends_with(r#"{"success":true}"#), "{rest}");
    assert_eq!(fanout.exit_code(), Some(0));

    let fanout = rig.start();
    assert_eq!(rig.wait_taken(TO_WEBHOOK, 1), users(1..=1));
    assert!(fanout.terminate());
}

#[test]
fn a_second_sigterm_ends_it_at_once_and_loses_nothing() {
    let rig = Rig::new();
    rig.configure("drain_timeout = \"600 s\"", WEBHOOK);
    rig.script(json!({"then": "hang"}));
    let fanout = rig.start();
    rig.identify(1..=3);
    rig.sandbox.wait_until(TO_WEBHOOK, "three", |requests| requests.len() == 3);
    fanout.ask_to_end();
    while TcpStream::connect(&rig.address).is_ok() {
        std::thread::yield_now();
    }
    fanout.ask_to_end();
    assert_eq!(fanout.exit_code(), Some(1));
    rig.forget_scripts();
    let fanout = rig.start();
    assert_eq!(rig.wait_taken(TO_WEBHOOK, 3), users(1..=3));
    assert!(fanout.terminate());
}

#[test]
fn deliveries_that_a_dead_vendor_left_unfinished_go_on_after_a_restart() {
    for answer in [json!({"then": "hang"}), json!({"then": "drop"}), json!({"status": 503})] {
        let rig = Rig::new();
        rig.configure("drain_timeout = \"100 ms\"", &format!("{MIXPANEL}{WEBHOOK}"));
        rig.script(answer.clone());
        let fanout = rig.start();
        rig.identify(1..=5);
        for host in [TO_MIXPANEL, TO_WEBHOOK] {
            rig.sandbox.wait_until(host, "an attempt", |requests| !requests.is_empty());
        }
        fanout.ask_to_end();
        assert_eq!(fanout.exit_code(), Some(0));
        rig.forget_scripts();
        let fanout = rig.start();
        for host in [TO_MIXPANEL, TO_WEBHOOK] {
            assert_eq!(rig.wait_taken(host, 5), users(1..=5), "{host} {answer}");
        }
        for destination in ["mixpanel", "webhook"] {
            rig.wait_for_metric(&pending(destination), 0.0);
            assert_eq!(rig.metric(&deliveries(destination, "delivered", "")), Some(5.0));
        }
        assert!(fanout.terminate());
    }
}

#[test]
fn sigkill_between_acceptance_and_delivery_loses_nothing_for_any_destination() {
    let rig = Rig::new();
    rig.script(json!({"then": "hang"}));
    let fanout = rig.serve(&format!("{MIXPANEL}{WEBHOOK}"));
    rig.identify(1..=20);
    fanout.kill();
    rig.forget_scripts();
    let fanout = rig.start();
    for host in [TO_MIXPANEL, TO_WEBHOOK] {
        assert_eq!(rig.wait_taken(host, 20), users(1..=20), "{host}");
    }
    assert!(fanout.terminate());
}

/// Row 29 of the tricky inputs: the duplicates window outlives the process.
#[test]
fn a_repeated_message_id_is_delivered_once_also_after_a_restart() {
    let rig = Rig::new();
    let call = json!({"type": "identify", "messageId": "m-1", "userId": "u1"});
    let fanout = rig.serve(WEBHOOK);
    rig.accept("/v1/batch", &json!({"batch": [call, call]}));
    rig.wait_taken(TO_WEBHOOK, 1);
    assert!(fanout.terminate());
    let fanout = rig.start();
    rig.accept("/v1/batch", &json!({"batch": [call]}));
    rig.identify(2..=2);
    assert_eq!(rig.wait_taken(TO_WEBHOOK, 2), users(1..=2));
    assert_eq!(
        rig.metric(r#"fanout_calls_total{source="app",type="identify",result="duplicate"}"#),
        Some(1.0)
    );
    assert!(fanout.terminate());
}

// ---- vendors' bad days

#[test]
fn a_vendor_that_never_answers_delays_no_other() {
    let rig = Rig::new();
    rig.script(json!({"host": TO_MIXPANEL, "then": "hang"}));
    rig.configure("drain_timeout = \"100 ms\"", &format!("{MIXPANEL}{WEBHOOK}"));
    let fanout = rig.start();
    rig.identify(1..=100);
    assert_eq!(rig.wait_taken(TO_WEBHOOK, 100), users(1..=100));
    assert_eq!(rig.metric(&pending("mixpanel")), Some(100.0));
    assert!(rig.metric(r#"fanout_oldest_pending_seconds{destination="mixpanel"}"#).unwrap() > 0.0);
    assert!(fanout.terminate());
}

#[test]
fn a_paused_destination_keeps_and_a_disabled_one_records_that_it_skipped() {
    let rig = Rig::new();
    let destinations = format!(
        "{WEBHOOK}[destinations.kept]\nadapter = \"mixpanel\"\npaused = true\nsettings = {{ project_token = \"T\" }}\n\
         [destinations.off]\nadapter = \"mixpanel\"\nenabled = false\nsettings = {{ project_token = \"${{NOT_SET}}\" }}\n"
    );
    let fanout = rig.serve(&destinations);
    rig.identify(1..=3);
    rig.wait_taken(TO_WEBHOOK, 3);
    rig.wait_for_metric(&deliveries("off", "skipped", "disabled"), 3.0);
    assert_eq!(rig.metric(&pending("off")), Some(0.0));
    assert_eq!(rig.metric(&pending("kept")), Some(3.0));
    assert_eq!(rig.requests(TO_MIXPANEL).len(), 0);
    assert!(fanout.terminate());

    let fanout = rig.serve(&destinations.replace("paused = true", "paused = false"));
    assert_eq!(rig.wait_taken(TO_MIXPANEL, 3), users(1..=3));
    assert!(fanout.terminate());
}

#[test]
fn retry_after_pauses_the_destination_and_uses_up_no_attempt() {
    let rig = Rig::new();
    rig.script(json!({"host": TO_WEBHOOK, "times": 1, "status": 429, "headers": {"Retry-After": "2"}}));
    // Every wait of its own would pass the end of trying.
    let fanout = rig.serve(&format!("{WEBHOOK}[destinations.webhook.delivery]\nretry_for = \"1 s\"\n"));
    rig.identify(1..=1);
    // Once the router has taken the answer in, nothing may go any more.
    rig.wait_for_metric(&deliveries("webhook", "throttled", ""), 1.0);
    rig.identify(2..=4);
    assert_eq!(rig.wait_taken(TO_WEBHOOK, 4), users(1..=4));
    let times: Vec<i64> =
        rig.requests(TO_WEBHOOK).iter().map(|request| request["at_ms"].as_i64().unwrap()).collect();
    assert_eq!(times.len(), 5);
    assert!(times[1] - times[0] >= 1_900, "{times:?}");
    rig.wait_for_metric(&deliveries("webhook", "delivered", ""), 4.0);
    assert_eq!(rig.metric(&deliveries("webhook", "throttled", "")), Some(1.0));
    assert_eq!(rig.metric(&deliveries("webhook", "retry", "")), None);
    assert!(fanout.terminate());
}

#[test]
fn an_item_that_the_vendor_rejects_alone_is_a_dead_letter_and_the_others_are_delivered() {
    let rig = Rig::new();
    let answer = json!({"code": 200, "num_good_events": 2, "status": 0,
        "failed_records": [{"index": 1, "insert_id": "", "field": "$email", "message": "some values are bad"}]});
    rig.script(json!({"host": TO_MIXPANEL, "times": 1, "body": answer}));
    let fanout = rig.serve(MIXPANEL);
    let call = |n: u32| json!({"type": "identify", "userId": format!("u{n}"), "traits": {"n": n}});
    rig.accept("/v1/batch", &json!({"batch": [call(1), call(2), call(3)]}));
    rig.wait_for_metric(&deliveries("mixpanel", "delivered", ""), 2.0);
    rig.wait_for_metric(&deliveries("mixpanel", "dead", "rejected"), 1.0);
    rig.wait_for_metric(&pending("mixpanel"), 0.0);
    assert_eq!(rig.requests(TO_MIXPANEL).len(), 1);
    assert!(fanout.terminate());
}

#[test]
fn refused_credentials_stop_the_destination_burn_nothing_and_mend() {
    let rig = Rig::new();
    rig.script(json!({"host": TO_WEBHOOK, "status": 401}));
    let fanout = rig.serve(&format!("{MIXPANEL}{WEBHOOK}"));
    rig.identify(1..=1);
    // The first, and the probe that confirms it.
    rig.sandbox.wait_until(TO_WEBHOOK, "two", |requests| requests.len() == 2);
    rig.wait_for_metric(&deliveries("webhook", "unauthorised", ""), 2.0);
    rig.identify(2..=5);
    assert_eq!(rig.wait_taken(TO_MIXPANEL, 5), users(1..=5));
    rig.wait_for_metric(&pending("webhook"), 5.0);
    assert_eq!(rig.requests(TO_WEBHOOK).len(), 2, "nothing more is sent while it is paused");
    assert!(fanout.terminate());
    rig.forget_scripts();
    let fanout = rig.start();
    assert_eq!(rig.wait_taken(TO_WEBHOOK, 5), users(1..=5));
    assert!(fanout.terminate());
}

#[test]
fn credentials_refused_once_are_tried_again_and_everything_goes() {
    let rig = Rig::new();
    rig.script(json!({"host": TO_WEBHOOK, "status": 403, "times": 1}));
    let fanout = rig.serve(WEBHOOK);
    rig.identify(1..=5);
    assert_eq!(rig.wait_taken(TO_WEBHOOK, 5), users(1..=5));
    assert!(fanout.terminate());
}

/// Row 56 of the tricky inputs.
#[test]
fn a_redirect_of_the_vendor_is_not_followed() {
    let rig = Rig::new();
    let elsewhere = format!("http://{}/evil.example/users", rig.sandbox.address);
    rig.script(json!({"host": TO_WEBHOOK, "status": 307, "headers": {"Location": elsewhere}}));
    let fanout = rig.serve(WEBHOOK);
    rig.identify(1..=1);
    rig.wait_for_metric(&deliveries("webhook", "dead", "rejected"), 1.0);
    assert_eq!(rig.requests("evil.example").len(), 0);
    assert!(fanout.terminate());
}

// ---- what goes where

#[test]
fn other_calls_are_counted_unless_a_destination_takes_them() {
    let rig = Rig::new();
    let batch = json!({"batch": [
        {"type": "identify", "userId": "u1", "traits": {"plan": "free"}},
        {"type": "track", "userId": "u1", "event": "Paid", "properties": {"sum": 3}},
        {"type": "page", "userId": "u1", "name": "Home"}]});
    let track =
        |result: &str| format!(r#"fanout_calls_total{{source="app",type="track",result="{result}"}}"#);
    let fanout = rig.serve(MIXPANEL);
    rig.accept("/v1/batch", &batch);
    assert_eq!(rig.wait_taken(TO_MIXPANEL, 1), users(1..=1));
    assert_eq!((rig.metric(&track("unsupported")), rig.metric(&track("accepted"))), (Some(1.0), None));
    assert_eq!(rig.metric(&pending("mixpanel")), Some(0.0), "they are not kept");
    assert!(fanout.terminate());

    let fanout = rig.serve(&format!("{MIXPANEL}{WEBHOOK}"));
    rig.accept("/v1/batch", &batch);
    let received = rig.sandbox.wait_until(TO_WEBHOOK, "all three", |requests| requests.len() == 3);
    let body = |kind: &str| {
        let body = received.iter().map(|request| &request["body"]).find(|body| body["type"] == kind);
        body.unwrap_or_else(|| panic!("no {kind} in {received:#?}"))
    };
    assert_eq!(body("user.identified")["data"]["userId"], "u1");
    assert_eq!(body("call.track")["data"]["event"], "Paid");
    assert_eq!(body("call.track")["data"]["properties"], json!({"sum": 3}));
    assert_eq!(body("call.page")["data"]["name"], "Home");
    assert_eq!(rig.metric(&track("accepted")), Some(1.0));
    assert!(fanout.terminate());
}

const OPT_IN_ADAPTER: &str = r#"
adapter = { name = "Shy", opt_in = true, docs = "https://example.com/docs", checked = "2026-07" }
[identity]
key = ["{user_id}"]
[[request]]
url = "https://shy.example.com/users"
body = { data = { userId = "{identity}" } }
"#;

#[test]
fn integrations_flags_decide_who_gets_a_call() {
    let rig = Rig::new();
    rig.configure("", "");
    let folder = rig.folder.path().join("adapters/shy");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("manifest.toml"), OPT_IN_ADAPTER).unwrap();
    let webhook = WEBHOOK.replace("retry_4xx = false", "append_path = true");
    let fanout = rig.serve(&format!("{MIXPANEL}{webhook}[destinations.shy]\nsettings = {{}}\n"));
    let flags = [
        json!({}),
        json!({"All": false, "Mixpanel": true}),
        json!({"Webhook": {"appendPath": "vip"}}),
        json!({"All": true}),
        json!({"All": false, "Shy": true}),
        json!({"mixpanel": false, "webhook": false}),
        json!([]),
    ];
    for (n, integrations) in (1..).zip(flags) {
        let call = json!({"userId": format!("u{n}"), "traits": {"n": n}, "integrations": integrations});
        rig.accept("/v1/identify", &call);
    }
    let got = |host: &str, expected: &[u32]| {
        let expected: BTreeMap<String, u32> = expected.iter().map(|n| (format!("u{n}"), 1)).collect();
        assert_eq!(rig.wait_taken(host, expected.len()), expected, "{host}");
    };
    got(TO_MIXPANEL, &[1, 2, 3, 4, 7]);
    got(TO_WEBHOOK, &[1, 3, 4, 7]);
    got("shy.example.com", &[5]);
    for destination in ["mixpanel", "webhook", "shy"] {
        rig.wait_for_metric(&pending(destination), 0.0);
    }
    let paths: BTreeMap<String, String> = rig
        .requests(TO_WEBHOOK)
        .iter()
        .map(|request| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&request["body"]["data"]["userId"]), text(&request["path"]))
        })
        .collect();
    assert_eq!((&*paths["u3"], &*paths["u1"]), ("/users/vip", "/users"));
    assert_eq!(rig.metric(&deliveries("shy", "skipped", "integrations")), Some(1.0));
    assert_eq!(rig.metric(&deliveries("shy", "skipped", "opt_in")), Some(5.0));
    assert_eq!(rig.metric(&deliveries("mixpanel", "skipped", "integrations")), Some(2.0));
    assert!(fanout.terminate());
}

/// Rows 15 to 18, 22 to 28 and 32 to 45 of the tricky inputs are tables beside the code; these few go the whole way.
#[test]
fn tricky_ids_times_and_traits_reach_the_vendor_in_its_own_form() {
    let rig = Rig::new();
    let fanout = rig.serve(&format!("{MIXPANEL}{WEBHOOK}"));
    let body = br#"{"batch":[
        {"type":"identify","messageId":"a","userId":12345678901234567890,"traits":{"createdAt":"1577836800000","firstname":"Elon","lastname":"Musk"}},
        {"type":"identify","messageId":"b","userId":1e3,"traits":{"created_at":1577836800,"created":"2019-01-01","address":"6th St"}},
        {"type":"identify","messageId":"c","userId":1.0,"anonymousId":null,"traits":{"createdAt":"2020-13-45","Country of birth":"South Africa"}}
    ]}"#;
    let key = ("Authorization", "Basic c2VydmUtdGVzdC1rZXk6");
    let reply = request(&rig.address, "POST", "/v1/batch", &[key], body).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    let received = rig.sandbox.wait_until(TO_MIXPANEL, "three", |requests| taken(requests).len() == 3);
    let records: BTreeMap<&str, &Value> = received
        .iter()
        .flat_map(|request| request["body"].as_array().unwrap())
        .map(|record| (record["$distinct_id"].as_str().unwrap(), &record["$set"]))
        .collect();
    let big = records["12345678901234567890"];
    assert_eq!(big["$created"], "2020-01-01T00:00:00");
    assert_eq!((&big["$first_name"], &big["$name"]), (&"Elon".into(), &"Elon Musk".into()));
    assert_eq!(records["1000"]["$created"], "2020-01-01T00:00:00");
    assert_eq!(records["1"].get("$created"), None);
    assert_eq!(records["1"]["createdAt"], "2020-13-45", "kept under its own name");
    assert_eq!(records["1"]["Country of birth"], "South Africa");
    let webhook = rig.wait_taken(TO_WEBHOOK, 3);
    assert!(webhook.contains_key("12345678901234567890") && webhook.contains_key("1000"), "{webhook:?}");
    assert!(rig.metric(r#"fanout_warnings_total{kind="trait_invalid"}"#).unwrap() >= 1.0);
    assert!(fanout.terminate());
}

#[test]
fn listeners_believe_the_proxies_and_names_that_the_configuration_lists() {
    let rig = Rig::new();
    let server = "fill_ip = true\ntrusted_proxies = [\"127.0.0.1\"]\nallowed_hosts = [\"in.example\"]";
    let path = rig.configure(server, WEBHOOK);
    let text = std::fs::read_to_string(&path).unwrap();
    let names = "[admin]\nallowed_hosts = [\"ops.example\"]";
    std::fs::write(&path, text.replacen("[admin]", names, 1)).unwrap();
    let fanout = rig.start();
    let call = json!({"writeKey": KEY, "userId": "u1", "context": {"library": {"name": "analytics.js"}}})
        .to_string();
    let send = |host: &str| {
        let mut stream = TcpStream::connect(&rig.address).unwrap();
        let head = format!(
            "POST /v1/identify HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{call}",
            call.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(send("other.example").contains("host_not_allowed"));
    assert!(send("in.example").starts_with("HTTP/1.1 200 "));
    let received = rig.sandbox.wait_until(TO_WEBHOOK, "it", |requests| requests.len() == 1);
    assert_eq!(received[0]["body"]["data"]["context"]["ip"], "203.0.113.9");
    for (host, status) in [("ops.example", "200"), ("in.example", "400")] {
        let mut stream = TcpStream::connect(&rig.admin).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
    assert!(fanout.terminate());
}

/// Rows 23 to 26 of the tricky inputs.
#[test]
fn times_of_calls_reach_the_vendor_corrected() {
    let rig = Rig::new();
    let fanout = rig.serve(WEBHOOK);
    let now = jiff::Timestamp::now().as_second();
    let at = |seconds: i64| jiff::Timestamp::from_second(seconds).unwrap().to_string();
    let calls = [
        ("skewed", json!({"timestamp": at(now - 5_000), "sentAt": at(now - 4_990)}), now - 10),
        ("historical", json!({"timestamp": "2012-01-01T00:00:00Z", "sentAt": at(now)}), 1_325_376_000),
        ("future", json!({"timestamp": at(now + 3_600), "sentAt": at(now)}), now + 3_600),
        ("received", json!({"receivedAt": "1999-01-01T00:00:00Z"}), now),
    ];
    for (user, call, _) in &calls {
        let mut call = call.clone();
        call["userId"] = json!(user);
        rig.accept("/v1/identify", &call);
    }
    rig.wait_taken(TO_WEBHOOK, calls.len());
    for request in rig.requests(TO_WEBHOOK) {
        let body = &request["body"];
        let (user, _, expected) = calls.iter().find(|(user, ..)| body["data"]["userId"] == *user).unwrap();
        let got: jiff::Timestamp = body["timestamp"].as_str().unwrap().parse().unwrap();
        // The rest is the way from here to the server, and the second that was cut off.
        let late = got.as_millisecond() - expected * 1000;
        assert!((0..60_000).contains(&late), "{user}: {got} is {late} ms after what was expected");
    }
    assert!(rig.metric(r#"fanout_warnings_total{kind="clock_skew"}"#).unwrap() >= 1.0);
    assert!(fanout.terminate());
}

// ---- refusing to start

#[test]
fn a_data_directory_serves_either_the_sandbox_or_real_vendors() {
    let rig = Rig::new();
    for (first_is_sandbox, was, remedy) in [
        (true, "with the sandbox", "set [sandbox] url again"),
        (false, "with real vendors", "remove [sandbox]"),
    ] {
        let disabled = MIXPANEL.replace("]\n", "]\nenabled = false\n");
        let path = rig.configure("", &disabled);
        let with_sandbox = std::fs::read_to_string(&path).unwrap();
        let (_, rest) = with_sandbox.split_once("[sandbox]").unwrap();
        let url = rest.lines().nth(1).unwrap();
        let live = with_sandbox.replace("[sandbox]", "").replace(url, "");
        let (first, second) = if first_is_sandbox { (with_sandbox, live) } else { (live, with_sandbox) };
        std::fs::write(&path, first).unwrap();
        assert!(rig.start().terminate());
        std::fs::write(&path, second).unwrap();
        let (code, err) = ended(&rig.refuse());
        assert_eq!(code, Some(2), "{err}");
        assert!(
            err.contains(was) && err.contains("Give [queue] another path") && err.contains(remedy),
            "{err}"
        );
        std::fs::remove_dir_all(rig.folder.path().join("data")).unwrap();
    }
}

#[test]
fn a_data_directory_serves_one_process_and_a_port_one_listener() {
    let rig = Rig::new();
    let path = rig.configure("", MIXPANEL);
    let fanout = rig.start();
    let (code, err) = ended(&rig.refuse());
    assert_eq!(code, Some(1), "{err}");
    for part in [rig.address.as_str(), "another instance", "[server] listen"] {
        assert!(err.contains(part), "{part}\n{err}");
    }

    let text = std::fs::read_to_string(&path).unwrap();
    let other = text.replace(&rig.address, "127.0.0.1:0").replace(&rig.admin, "127.0.0.1:0");
    std::fs::write(&path, &other).unwrap();
    let (code, err) = ended(&rig.refuse());
    assert_eq!(code, Some(1), "{err}");
    for part in [format!("process {}", fanout.pid()), "in use".to_owned(), "queue.path".to_owned()] {
        assert!(err.contains(&part), "{part}\n{err}");
    }
    // What was refused has left the other one alone.
    rig.identify(1..=1);
    rig.wait_taken(TO_MIXPANEL, 1);
    assert!(fanout.terminate());
}

#[test]
fn a_configuration_that_cannot_be_used_is_explained_before_anything_starts() {
    let rig = Rig::new();
    let (code, err) = ended(&rig.refuse());
    assert_eq!(code, Some(2));
    for part in ["fanout.toml: error: there is no such file", "config.example.toml", "fanout demo"] {
        assert!(err.contains(part), "{part}\n{err}");
    }

    let unset = MIXPANEL.replace("TOKEN", "${FANOUT_TEST_NOT_SET}");
    rig.configure("", &unset);
    let (code, err) = ended(&rig.refuse());
    assert_eq!(code, Some(2), "{err}");
    for part in ["fanout.toml:", "`FANOUT_TEST_NOT_SET` is not set", "set `FANOUT_TEST_NOT_SET`, or write"] {
        assert!(err.contains(part), "{part}\n{err}");
    }
    assert!(!rig.folder.path().join("data").exists(), "nothing was started");

    rig.configure("", &unset.replace("]\n", "]\nenabled = false\n"));
    assert!(rig.start().terminate());
}

// ---- watching it

#[test]
fn health_readiness_and_every_documented_metric() {
    let rig = Rig::new();
    rig.script(json!({"host": TO_WEBHOOK, "status": 400, "times": 1}));
    let fanout = rig.serve(&format!("{MIXPANEL}{WEBHOOK}"));
    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let reply = rig.get(path);
        assert_eq!((reply.status, reply.body.as_str()), (200, body), "{path}");
    }
    assert_eq!(rig.get("/").status, 404);
    rig.accept("/v1/identify", &json!({"userId": "u1", "traits": {"email": "no address", "plan": "free"}}));
    rig.wait_taken(TO_MIXPANEL, 1);
    rig.wait_for_metric(&deliveries("mixpanel", "delivered", ""), 1.0);
    rig.wait_for_metric(&deliveries("webhook", "dead", "rejected"), 1.0);
    let reply = rig.get("/metrics");
    assert!(reply.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    for start in [
        r#"fanout_calls_total{source="app",type="identify",result="accepted"} 1"#,
        r#"fanout_warnings_total{kind="trait_invalid"} 1"#,
        r#"fanout_pending{destination="mixpanel"} 0"#,
        r#"fanout_oldest_pending_seconds{destination="mixpanel"} 0"#,
        r#"fanout_attempt_seconds_count{destination="mixpanel"} 1"#,
        r#"fanout_attempt_seconds_count{destination="webhook"} 1"#,
        "fanout_ingest_seconds_count 1",
        "fanout_queue_disk_bytes ",
    ] {
        assert!(reply.body.lines().any(|line| line.starts_with(start)), "{start}\n{}", reply.body);
    }
    assert!(rig.metric("fanout_queue_disk_bytes").unwrap() > 0.0);
    assert!(fanout.terminate());
}

#[test]
fn calls_are_taken_over_tls_when_it_is_configured() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    let rig = Rig::new();
    let pem =
        |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ingest/support/tls").join(name);
    let destinations = format!(
        "[server.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{}\"\nkey = \"{}\"\n{WEBHOOK}",
        pem("certificate.pem").display(),
        pem("key.pem").display()
    );
    rig.configure("", &destinations);
    let mut fanout = Process::start(rig.command(&["serve"]));
    let address = fanout.wait_for("https://");
    fanout.wait_for("ready");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem("certificate.pem")).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut stream = rustls::StreamOwned::new(session, TcpStream::connect(address).unwrap());
    let body = json!({"userId": "u1", "writeKey": KEY}).to_string();
    let message = format!(
        "POST /v1/identify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(message.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(r#"{"success":true}"#), "{answer}");
    rig.wait_taken(TO_WEBHOOK, 1);
    assert!(fanout.terminate());
}

#[test]
fn neither_secrets_nor_personal_data_are_logged() {
    let rig = Rig::new();
    let destinations = "[destinations.mixpanel]\nsettings = { project_token = \"SECRET-token\" }\n\
         [destinations.webhook]\nsettings = { url = \"https://hooks.example.com/SECRET-path\", \
         bearer_token = \"SECRET-bearer\", retry_4xx = false }\n\
         [destinations.refused]\nadapter = \"webhook\"\n\
         settings = { url = \"https://refused.example.com/SECRET-path\", headers = { x-key = \"SECRET-header\" } }\n";
    let echo = "ada@example.com is known already; SECRET-token, SECRET-bearer";
    rig.script(json!([
        {"host": TO_MIXPANEL, "status": 400, "body": {"error": echo, "status": 0}, "times": 2},
        {"host": TO_WEBHOOK, "status": 422, "body": echo, "times": 1},
        {"host": TO_WEBHOOK, "status": 500, "body": echo, "times": 1},
        {"host": TO_WEBHOOK, "then": "drop", "times": 1},
        {"host": "refused.example.com", "status": 401, "body": echo},
    ]));
    let path = rig.configure("drain_timeout = \"100 ms\"", destinations);
    let text = std::fs::read_to_string(&path).unwrap().replace(KEY, "SECRET-write-key");
    std::fs::write(&path, text).unwrap();
    let log = rig.folder.path().join("log");
    let mut command = rig.command(&["serve"]);
    command.env("FANOUT_LOG", "debug").stderr(std::fs::File::create(&log).unwrap());
    let mut fanout = Process::start(command);
    let mut output = fanout.wait_for("tracking API");
    output.push_str(&fanout.wait_for("admin"));
    fanout.wait_for("ready");
    for n in 0..4 {
        let traits = json!({"email": "ada@example.com", "phone": "+15550001111", "name": "Ada Lovelace"});
        let call = json!({"userId": format!("ada{n}@example.com"), "traits": traits});
        assert_eq!(post(&rig.address, "/v1/identify", "SECRET-write-key", &call).unwrap().status, 200);
    }
    assert_eq!(post(&rig.address, "/v1/identify", "SECRET-wrong-key", &json!({})).unwrap().status, 401);
    let broken = br#"{"userId":"ada@example.com","traits":{"email":"ada@example.com",}}"#;
    let refused =
        request(&rig.address, "POST", "/v1/identify?writeKey=SECRET-write-key", &[], broken).unwrap();
    assert_eq!(refused.status, 400, "{}", refused.body);
    output.push_str(&refused.body);
    rig.wait_for_metric(&deliveries("webhook", "dead", "rejected"), 1.0);
    rig.wait_for_metric(&deliveries("webhook", "delivered", ""), 3.0);
    rig.wait_for_metric(&pending("mixpanel"), 0.0);
    // How many were under way before the pause is chance; with the probe they are two at least.
    rig.wait_for_at_least(&deliveries("refused", "unauthorised", ""), 2.0);
    output.push_str(&rig.get("/metrics").body);
    assert!(fanout.terminate());
    output.push_str(&std::fs::read_to_string(&log).unwrap());
    assert!(output.contains("destination=\"refused\"") || output.contains("destination=refused"), "{output}");
    for secret in ["SECRET", "ada", "Ada", "5550001111"] {
        assert!(!output.contains(secret), "{secret} is in\n{output}");
    }
}
