//! `suppress_unchanged` from outside: what the sandbox received, and the books afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fanout::queue::local::{LocalQueue, Options};
use fanout::queue::{Code, Queue, journal};
use fanout_sdk::dates::push_iso_ms;
use fanout_sdk::event::Date;
use serde_json::{Value, json};
use support::{PATIENCE, Process, Sandbox, free_address, post, request, write_config};

const KEY: &str = "suppress-test-key";
const HOST: &str = "api.mixpanel.com";
const USERS: usize = 1000;
const BATCH: usize = 250;

struct Site {
    folder: tempfile::TempDir,
    config: String,
    tracking: String,
    admin: String,
    sandbox: Sandbox,
    process: Option<Process>,
    sent: u64,
}

impl Site {
    fn new() -> Site {
        let (folder, sandbox) = (tempfile::tempdir().unwrap(), Sandbox::start());
        let (tracking, admin) = (free_address(), free_address());
        let text = format!(
            r#"
            [server]
            listen = "{tracking}"
            [admin]
            listen = "{admin}"
            [[sources]]
            name = "app"
            write_key = "{KEY}"
            [queue]
            path = "{}/data"
            [sandbox]
            url = "http://{}"
            [destinations.mixpanel]
            settings = {{ project_token = "TOKEN" }}
            [destinations.mixpanel.delivery]
            suppress_unchanged = "24h"
            "#,
            folder.path().display(),
            sandbox.address
        );
        let config = write_config(folder.path(), &text);
        let mut site = Site { folder, config, tracking, admin, sandbox, process: None, sent: 0 };
        site.start();
        site
    }

    fn start(&mut self) {
        let mut process = Process::fanout(&["serve", "--config", &self.config]);
        process.wait_for("ready");
        self.process = Some(process);
    }

    fn stop(&mut self) {
        assert!(self.process.take().unwrap().terminate());
    }

    /// Every user calls identify once.
    fn identify_all(&mut self, plan: &str) {
        for users in (0..USERS).collect::<Vec<_>>().chunks(BATCH) {
            let calls: Vec<Value> = users.iter().map(|user| self.call(*user, plan)).collect();
            let reply = post(&self.tracking, "/v1/batch", KEY, &json!({ "batch": calls })).unwrap();
            assert_eq!(reply.status, 200, "{}", reply.body);
        }
    }

    fn call(&mut self, user: usize, plan: &str) -> Value {
        self.sent += 1;
        let email = format!("u{user}@example.com");
        json!({
            "type": "identify",
            "messageId": format!("m-{}", self.sent),
            "userId": format!("u-{user}"),
            "anonymousId": format!("a-{user}"),
            "timestamp": format!("2026-08-01T12:00:{:02}Z", self.sent % 60),
            "traits": {"email": email, "plan": plan},
        })
    }

    fn metrics(&self) -> String {
        request(&self.admin, "GET", "/metrics", &[], b"").unwrap().body
    }

    fn wait_until_idle(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.metrics().contains("fanout_pending{destination=\"mixpanel\"} 0\n") {
            assert!(Instant::now() < deadline, "something stays pending:\n{}", self.metrics());
            // Metrics are asked for; there is nothing to wait on.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the vendor was sent, user by user, in order.
    fn received(&self) -> BTreeMap<String, Vec<String>> {
        let mut plans: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for request in self.sandbox.wait_until(HOST, "requests", |_| true) {
            for item in request["body"].as_array().unwrap() {
                let user = item["$distinct_id"].as_str().unwrap().to_owned();
                plans.entry(user).or_default().push(item["$set"]["plan"].as_str().unwrap().to_owned());
            }
        }
        plans
    }

    /// Asks `fanout replay`.
    fn replay(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
        let output = command.args(["replay", "--config", &self.config, "--json"]).args(arguments).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts a replay of the calls before a time, at a rate.
    fn start_replay(&self, until: &str, rate: &str) {
        let range = ["--to", "mixpanel", "--since", "1h", "--until", until, "--all", "--rate", rate];
        assert_eq!(self.replay(&range)["state"], "running");
    }

    /// Waits until the only replay is as wanted.
    fn wait_for_replay(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let replay = self.replay(&["list"])["replays"][0].clone();
            if wanted(&replay) {
                return replay;
            }
            assert!(Instant::now() < deadline, "{what}: {replay}");
        }
    }

    /// Every user has had calls with these plans, each delivered before the next: when the first one was through.
    fn plans(&mut self, first: &str, second: &str) -> String {
        self.identify_all(first);
        self.wait_until_idle();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let mut between = String::new();
        push_iso_ms(&mut between, Date::Moment(now.as_millis() as i64));
        self.identify_all(second);
        self.wait_until_idle();
        self.each_received(&[first, second]);
        between
    }

    fn each_received(&self, expected: &[&str]) {
        let received = self.received();
        assert_eq!(received.len(), USERS);
        for (user, plans) in received {
            assert_eq!(plans, expected, "{user}");
        }
    }
}

fn books(folder: &Path) -> Vec<(Code, u64)> {
    let options = Options::new(journal::Options::new(folder.join("data")), vec!["mixpanel".to_owned()]);
    let (queue, _) = LocalQueue::<()>::open(options, Arc::new(|_, _| Some(())), Arc::new(|| 0)).unwrap();
    let counts = queue.counts("mixpanel").unwrap();
    assert_eq!(counts.unfinished, 0);
    counts.finished
}

#[test]
fn ten_unchanged_calls_of_a_user_are_one_at_the_vendor() {
    let mut site = Site::new();
    for _ in 0..10 {
        site.identify_all("free");
    }
    site.wait_until_idle();
    site.each_received(&["free"]);
    let metrics = site.metrics();
    assert!(metrics.contains("fanout_suppressed_calls_total{destination=\"mixpanel\"} 9000\n"), "{metrics}");
    assert!(
        metrics.contains(
            "fanout_deliveries_total{destination=\"mixpanel\",outcome=\"suppressed\",reason=\"\"} 9000\n"
        ),
        "{metrics}"
    );
    site.stop();
    assert_eq!(books(site.folder.path()), [(Code::Delivered, 1000), (Code::Suppressed, 9000)]);

    // What is known outlives a clean restart, and never a crash.
    site.start();
    site.identify_all("free");
    site.wait_until_idle();
    site.each_received(&["free"]);
    site.process.take().unwrap().kill();
    site.start();
    site.identify_all("free");
    site.wait_until_idle();
    site.each_received(&["free", "free"]);
    site.stop();
    let books = books(site.folder.path());
    assert_eq!(books.iter().map(|(_, count)| count).sum::<u64>(), site.sent);
    assert!(books.contains(&(Code::Delivered, 2000)), "{books:?}");
}

#[test]
fn each_change_arrives_and_so_does_the_change_back() {
    let mut site = Site::new();
    for plan in ["free", "free", "free", "paid", "paid", "free", "free", "paid"] {
        site.identify_all(plan);
    }
    site.wait_until_idle();
    site.each_received(&["free", "paid", "free", "paid"]);
    site.stop();
    assert_eq!(books(site.folder.path()), [(Code::Delivered, 4000), (Code::Suppressed, 4000)]);
}

#[test]
fn after_a_replay_has_put_old_values_back_the_unchanged_call_goes_once_more() {
    let mut site = Site::new();
    let between = site.plans("free", "paid");
    site.start_replay(&between, "100000 per 1 s");
    let replay = site.wait_for_replay("it does not end", |replay| replay["state"] == "done");
    assert_eq!(replay["outcomes"], json!({"delivered": USERS}));
    site.each_received(&["free", "paid", "free"]);
    site.identify_all("paid");
    site.wait_until_idle();
    site.each_received(&["free", "paid", "free", "paid"]);
    site.identify_all("paid");
    site.wait_until_idle();
    site.each_received(&["free", "paid", "free", "paid"]);
    site.stop();
    assert_eq!(books(site.folder.path()), [(Code::Delivered, 3000), (Code::Suppressed, 1000)]);
}

#[test]
fn a_replay_that_is_killed_in_the_middle_leaves_no_old_value_behind() {
    let mut site = Site::new();
    let between = site.plans("free", "paid");
    site.start_replay(&between, "150 per 1 s");
    let count = |replay: &Value| replay["outcomes"]["delivered"].as_u64().unwrap_or(0);
    let seen = site.wait_for_replay("it does not begin", |replay| count(replay) > 0);
    assert!(count(&seen) < USERS as u64, "it was to be killed in the middle: {seen}");
    site.process.take().unwrap().kill();
    site.start();
    site.wait_for_replay("it does not go on", |replay| count(replay) > count(&seen));
    // What is taken now is no proof of what is there: the replay may still write to it.
    site.identify_all("paid");
    let ended = site.wait_for_replay("it does not end", |replay| replay["state"] == "done");
    assert_eq!(count(&ended), USERS as u64);
    site.identify_all("paid");
    site.wait_until_idle();
    let received = site.received();
    for (user, plans) in &received {
        assert_eq!(plans.last().unwrap(), "paid", "{user}");
    }
    site.identify_all("paid");
    site.wait_until_idle();
    assert_eq!(site.received(), received, "now it is known again");
    site.stop();
}

#[test]
fn what_was_known_does_not_outlive_a_run_without_the_setting() {
    let mut site = Site::new();
    let with = std::fs::read_to_string(&site.config).unwrap();
    let without = with.replace("suppress_unchanged", "# suppress_unchanged");
    for (config, plan) in [(&with, "free"), (&without, "paid"), (&with, "free")] {
        site.stop();
        std::fs::write(&site.config, config).unwrap();
        site.start();
        site.identify_all(plan);
        site.wait_until_idle();
    }
    site.each_received(&["free", "paid", "free"]);
    site.stop();
}

#[test]
fn nor_does_it_outlive_a_replay_in_such_a_run() {
    let mut site = Site::new();
    let between = site.plans("free", "paid");
    let with = std::fs::read_to_string(&site.config).unwrap();
    site.stop();
    std::fs::write(&site.config, with.replace("suppress_unchanged", "# suppress_unchanged")).unwrap();
    site.start();
    site.start_replay(&between, "100000 per 1 s");
    site.wait_for_replay("it does not end", |replay| replay["state"] == "done");
    site.stop();
    std::fs::write(&site.config, with).unwrap();
    site.start();
    site.identify_all("paid");
    site.wait_until_idle();
    site.each_received(&["free", "paid", "free", "paid"]);
    site.stop();
}
