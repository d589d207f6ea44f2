//! Dead letters from the outside: a vendor that rejects, the commands that show and redrive, kills in the middle, and
//! what the vendor has received in the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use support::{PATIENCE, Process, Sandbox, free_address, post, request, write_config};

const KEY: &str = "dead-letters-test-key";
const HOST: &str = "hooks.example.com";

struct Rig {
    folder: tempfile::TempDir,
    sandbox: Sandbox,
    address: String,
    admin: String,
}

impl Rig {
    fn new() -> Rig {
        let rig = Rig {
            folder: tempfile::tempdir().unwrap(),
            sandbox: Sandbox::start(),
            address: free_address(),
            admin: free_address(),
        };
        rig.configure("");
        rig
    }

    /// With further lines for the destination.
    fn configure(&self, lines: &str) {
        let text = format!(
            r#"
            [server]
            listen = "{}"
            [admin]
            listen = "{}"
            token = "admin-token-of-the-tests"
            [[sources]]
            name = "app"
            write_key = "{KEY}"
            [queue]
            path = "data"
            [sandbox]
            url = "http://{}"
            [destinations.webhook]
            settings = {{ url = "https://{HOST}/users", bearer_token = "s3cret-s3cret", retry_4xx = false }}
            {lines}
            "#,
            self.address, self.admin, self.sandbox.address
        );
        write_config(self.folder.path(), &text);
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

    /// Runs `dead-letters` and answers exit code, output and complaints.
    fn letters(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(&[&["dead-letters"], arguments].concat()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// What a listing with these filters holds.
    fn listed(&self, arguments: &[&str]) -> Vec<Value> {
        let (code, out, complaints) = self.letters(&[&["list", "--json"], arguments].concat());
        assert_eq!(code, 0, "{complaints}");
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Lists until there are so many.
    fn wait_listed(&self, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let letters = self.listed(&["--limit", "1000"]);
            if letters.len() == count {
                return letters;
            }
            assert!(Instant::now() < deadline, "{} of {count} dead letters", letters.len());
        }
    }

    fn identify(&self, user: &str, traits: Value) {
        let call = json!({"userId": user, "traits": traits});
        let reply = post(&self.address, "/v1/identify", KEY, &call).unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"success":true}"#));
    }

    fn script(&self, answers: Value) {
        let body = answers.to_string();
        let reply = request(&self.sandbox.address, "POST", "/_sandbox/answers", &[], body.as_bytes());
        assert_eq!(reply.unwrap().status, 200);
    }

    fn mend(&self) {
        let reply = request(&self.sandbox.address, "DELETE", "/_sandbox/answers", &[], b"");
        assert_eq!(reply.unwrap().status, 200);
    }

    /// Waits until the vendor has taken so many calls, and answers their users and traits in the order of arrival.
    fn taken(&self, count: usize) -> Vec<(String, Value)> {
        let is_taken = |request: &&Value| request["status"] == 200;
        let requests = self
            .sandbox
            .wait_until(HOST, "calls", |requests| requests.iter().filter(is_taken).count() >= count);
        let call = |request: &Value| {
            let data = &request["body"]["data"];
            (data["userId"].as_str().unwrap().to_owned(), data["traits"].clone())
        };
        requests.iter().filter(is_taken).map(call).collect()
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let headers = [("Authorization", "Bearer admin-token-of-the-tests")];
        let text = request(&self.admin, "GET", "/metrics", &headers, b"").unwrap().body;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

fn reject_all(rig: &Rig) {
    rig.script(
        json!({"host": HOST, "status": 400, "body": {"error": "no ada@example.com, key s3cret-s3cret"}}),
    );
}

#[test]
fn a_rejected_call_is_listed_shown_mended_and_redriven_once() {
    let rig = Rig::new();
    reject_all(&rig);
    let fanout = rig.start();
    rig.identify("ada", json!({"email": "ada@example.com"}));
    rig.identify("bob", json!({"n": 1}));
    let letters = rig.wait_listed(2);
    let id = letters[0]["id"].as_str().unwrap();
    assert_eq!((&letters[0]["user"], &letters[0]["reason"]), (&json!("ada"), &json!("rejected")));
    for (filter, count) in [
        (&["--user", "bob"][..], 1),
        (&["--destination", "webhook", "--reason", "rejected"], 2),
        (&["--reason", "expired"], 0),
        (&["--since", "1h"], 2),
        (&["--until", "1h"], 0),
        (&["--limit", "1"], 1),
        (&["--after", id], 1),
    ] {
        assert_eq!(rig.listed(filter).len(), count, "{filter:?}");
    }
    let (code, out, _) = rig.letters(&["list"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, lines.len()), (0, 3), "{out}");
    assert!(lines[0].starts_with("ID ") && lines[1].starts_with(id), "{out}");
    assert!(!out.contains("ada@example.com"), "personal data only where it is asked for: {out}");

    let (code, out, _) = rig.letters(&["show", id]);
    assert_eq!(code, 0);
    for part in ["ada@example.com", "POST ***", "kept when it died", "400", "rejected"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(out.contains(&format!("fanout dead-letters redrive {id}")), "{out}");
    assert!(!out.contains("s3cret-s3cret"), "{out}");

    rig.mend();
    let (code, out, _) = rig.letters(&["redrive", id]);
    assert_eq!((code, out.as_str()), (0, "redriven: 1 of 1\n"));
    assert_eq!(rig.taken(1)[0].0, "ada");
    let (code, out, _) = rig.letters(&["redrive", id]);
    assert_eq!((code, out.as_str()), (0, "redriven: 0 of 0\n"), "it is no dead letter any more");
    assert_eq!(rig.letters(&["purge", "--user", "bob"]).1, "purged: 1 of 1\n");
    assert_eq!(rig.letters(&["list"]).1, "no dead letters\n");
    assert_eq!(rig.taken(1).len(), 1);
    assert!(fanout.terminate());
}

#[test]
fn wrong_questions_are_told_what_to_do() {
    let rig = Rig::new();
    let (code, _, complaint) = rig.letters(&["list"]);
    assert_eq!(code, 1);
    assert!(complaint.contains("there is no data directory"), "{complaint}");
    let fanout = rig.start();
    for (arguments, code, part) in [
        (&["redrive"][..], 2, "name ids"),
        (&["purge", "--all"], 2, "--all"),
        (&["show", "webhook"], 2, "webhook:123"),
        (&["show", "nobody:1"], 1, "there are: webhook"),
        (&["show", "webhook:1"], 1, "no dead letter"),
        (&["list", "--since", "yesterday"], 2, "2h for two hours ago"),
        (&["list", "--limit", "0"], 2, "from 1 to 1000"),
    ] {
        let (ended, _, complaint) = rig.letters(arguments);
        assert_eq!(ended, code, "{arguments:?}: {complaint}");
        assert!(complaint.contains(part), "{arguments:?}: {complaint}");
    }
    let reply = request(&rig.admin, "GET", "/api/dead-letters", &[], b"").unwrap();
    assert_eq!(reply.status, 401, "without the token");
    assert!(fanout.terminate());
}

#[test]
fn what_is_not_understood_touches_no_letter() {
    let rig = Rig::new();
    reject_all(&rig);
    let fanout = rig.start();
    rig.identify("ada", json!({"n": 1}));
    rig.wait_listed(1);
    let headers = [("Authorization", "Bearer admin-token-of-the-tests")];
    let ask = |method: &str, path: &str, body: &Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let path = format!("/api/dead-letters{path}");
        request(&rig.admin, method, &path, &headers, body.as_bytes()).unwrap()
    };
    for (body, status, part) in [
        (json!({"destinaton": "webhook", "reason": "rejected"}), 400, "destination, replay, reason"),
        (json!({"destination": "webhok"}), 404, "there are: webhook"),
        (json!({"replay": 9}), 404, "fanout replay list"),
        (json!({"destination": 7, "reason": "rejected"}), 400, "a text"),
        (json!({"reason": "rejected", "limit": "0"}), 400, "a whole number"),
        (json!({"reason": "rejected", "limit": -1}), 400, "a whole number"),
        (json!({"reason": "rejected", "ids": "webhook:1"}), 400, "a list of ids"),
        (json!({"reason": "rejected", "ids": []}), 400, "a list of ids"),
        (json!({"reason": "rejected", "all": "no"}), 400, "all"),
    ] {
        for path in ["/purge", "/redrive"] {
            let reply = ask("POST", path, &body);
            assert_eq!(reply.status, status, "{path} {body}: {}", reply.body);
            assert!(reply.body.contains(part), "{path} {body}: {}", reply.body);
        }
    }
    for path in ["?destinaton=webhook", "?destination=webhok"] {
        assert!(matches!(ask("GET", path, &Value::Null).status, 400 | 404), "{path}");
    }
    assert_eq!(rig.listed(&[]).len(), 1);
    assert!(fanout.terminate());
}

#[test]
fn what_a_later_delivery_has_set_again_is_left_out() {
    let rig = Rig::new();
    // The user's first two calls are rejected, then the vendor is well again.
    rig.script(json!({"host": HOST, "status": 400, "times": 2}));
    let fanout = rig.start();
    rig.identify("ada", json!({"a": 1, "b": 1}));
    rig.identify("ada", json!({"a": 2}));
    rig.wait_listed(2);
    rig.identify("ada", json!({"a": 3}));
    assert_eq!(rig.taken(1), [("ada".to_owned(), json!({"a": 3}))]);
    assert_eq!(rig.letters(&["redrive", "--user", "ada"]).1, "redriven: 2 of 2\n");
    let first = rig.taken(2);
    assert_eq!(first[1], ("ada".to_owned(), json!({"b": 1})));
    let superseded =
        r#"fanout_deliveries_total{destination="webhook",outcome="skipped",reason="superseded"}"#;
    let deadline = Instant::now() + PATIENCE;
    while rig.metric(superseded) != Some(1.0) {
        assert!(Instant::now() < deadline, "the second is skipped");
    }
    assert_eq!(rig.taken(2).len(), 2);
    assert!(rig.listed(&[]).is_empty());
    assert!(fanout.terminate());
}

#[test]
fn letters_of_a_disabled_destination_stay_what_they_are() {
    let rig = Rig::new();
    reject_all(&rig);
    let fanout = rig.start();
    rig.identify("ada", json!({"n": 1}));
    let letters = rig.wait_listed(1);
    assert!(fanout.terminate());
    rig.mend();
    rig.configure("enabled = false");
    for is_running in [true, false] {
        let fanout = is_running.then(|| rig.start());
        let (code, out, _) = rig.letters(&["redrive", "--user", "ada"]);
        assert_eq!(code, 1, "{out}");
        assert!(out.contains("redriven: 0 of 1") && out.contains("webhook is not enabled"), "{out}");
        assert_eq!(rig.listed(&[]), letters);
        assert!(fanout.is_none_or(Process::terminate));
    }
    rig.configure("");
    let fanout = rig.start();
    assert_eq!(rig.letters(&["redrive", "--user", "ada"]).1, "redriven: 1 of 1\n");
    assert_eq!(rig.taken(1), [("ada".to_owned(), json!({"n": 1}))]);
    assert!(fanout.terminate());
}

#[test]
fn everything_works_without_a_running_instance() {
    let rig = Rig::new();
    reject_all(&rig);
    let fanout = rig.start();
    for n in 0..5 {
        rig.identify("ada", json!({"n": n}));
    }
    let letters = rig.wait_listed(5);
    assert!(fanout.terminate());
    rig.mend();
    let ids: Vec<&str> = letters.iter().map(|letter| letter["id"].as_str().unwrap()).collect();
    assert_eq!(rig.listed(&["--user", "ada"]).len(), 5);
    let (code, out, _) = rig.letters(&["show", ids[1]]);
    assert!(code == 0 && out.contains("kept when it died"), "{out}");
    assert_eq!(rig.letters(&["purge", ids[0]]).1, "purged: 1 of 1\n");
    let (code, out, complaint) = rig.letters(&["redrive", ids[3], ids[2], ids[1]]);
    assert_eq!((code, out.as_str()), (0, "redriven: 3 of 3\n"), "{complaint}");
    assert_eq!(rig.listed(&[]).len(), 1);
    let fanout = rig.start();
    let taken: Vec<Value> = rig.taken(3).into_iter().map(|(_, traits)| traits["n"].clone()).collect();
    assert_eq!(taken, [1, 2, 3], "in the order of their calls");
    assert_eq!(rig.listed(&[]).len(), 1);
    assert!(fanout.terminate());
}

#[test]
fn more_ids_than_are_looked_up_at_once_are_purged_and_no_others() {
    const CALLS: usize = 700;
    let rig = Rig::new();
    reject_all(&rig);
    let fanout = rig.start();
    let call = |n: usize| json!({"type": "identify", "userId": format!("u{n}"), "traits": {"n": n}});
    let batch = json!({ "batch": (0..CALLS).map(call).collect::<Vec<_>>() });
    assert_eq!(post(&rig.address, "/v1/batch", KEY, &batch).unwrap().status, 200);
    let letters = rig.wait_listed(CALLS);
    let id = |letter: &Value| letter["id"].as_str().unwrap().to_owned();
    // Near ones and far ones, in no order, one twice, and some that are none.
    let (asked, left): (Vec<_>, Vec<_>) =
        letters.iter().enumerate().partition(|(n, _)| n % 2 == 0 || *n > 650);
    let mut ids: Vec<String> = asked.iter().rev().map(|(_, letter)| id(letter)).collect();
    ids.extend([id(&letters[0]), "webhook:0".to_owned(), "webhook:99999999".to_owned()]);
    let arguments: Vec<&str> = ["purge"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    let purged = format!("purged: {0} of {0}\n", asked.len());
    assert_eq!(rig.letters(&arguments).1, purged);
    let rest: Vec<String> = rig.wait_listed(left.len()).iter().map(id).collect();
    assert_eq!(rest, left.iter().map(|(_, letter)| id(letter)).collect::<Vec<_>>());
    assert!(fanout.terminate());
}

#[test]
fn a_redrive_that_is_killed_in_the_middle_loses_nothing_and_keeps_the_order() {
    const USERS: usize = 8;
    const CALLS: usize = 12;
    let rig = Rig::new();
    reject_all(&rig);
    let mut fanout = rig.start();
    for n in 0..CALLS {
        for user in 0..USERS {
            rig.identify(&format!("u{user}"), json!({"n": n}));
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while rig.listed(&[]).len() < USERS * CALLS {
        assert!(Instant::now() < deadline);
    }
    rig.mend();
    rig.script(json!({"host": HOST, "status": 200, "delay_ms": 5}));
    let (code, out, complaint) = rig.letters(&["redrive", "--destination", "webhook", "--all"]);
    assert_eq!((code, out.trim()), (0, "redriven: 96 of 96"), "{complaint}");
    for round in 1..=3 {
        rig.taken(round * 20);
        fanout.kill();
        fanout = rig.start();
    }
    let deadline = Instant::now() + PATIENCE;
    while rig.metric(r#"fanout_pending{destination="webhook"}"#) != Some(0.0) {
        assert!(Instant::now() < deadline, "not all of it is delivered");
    }
    assert!(rig.listed(&[]).is_empty(), "none is dead and open at the same time");
    let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (user, traits) in rig.taken(USERS * CALLS) {
        seen.entry(user).or_default().push(traits["n"].as_i64().unwrap());
    }
    assert_eq!(seen.len(), USERS);
    for (user, numbers) in &seen {
        // What was in flight or had ended in the last 100 ms before a kill comes again, from there on in order.
        let mut first_seen = numbers.clone();
        let mut known = std::collections::BTreeSet::new();
        first_seen.retain(|n| known.insert(*n));
        assert_eq!(first_seen, (0..CALLS as i64).collect::<Vec<_>>(), "{user}: {numbers:?}");
    }
    assert!(fanout.terminate());
}
