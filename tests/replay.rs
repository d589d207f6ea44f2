//! `fanout replay` through the real binary: to a new destination, to an old one again, by flags and user, through
//! `kill -9`, and beside live traffic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Instant;

use fanout::queue::local::{LocalQueue, Options};
use fanout::queue::{Queue, journal};
use serde_json::{Value, json};
use support::{KEY, PATIENCE, Process, Sandbox, free_address, post, request, write_config};

/// A fanout whose destinations can be changed between its lives, with the vendors' stand-in.
struct Rig {
    sandbox: Sandbox,
    folder: tempfile::TempDir,
    tracking: String,
    admin: String,
}

fn hook(name: &str) -> String {
    let settings = format!(r#"settings = {{ url = "https://{name}.example.com/users", payload = "raw" }}"#);
    format!("[destinations.{name}]\nadapter = \"webhook\"\n{settings}\n")
}

fn call(n: u64, user: &str) -> Value {
    json!({"type": "identify", "messageId": format!("m-{n}"), "userId": user, "traits": {"n": n}})
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        Rig { sandbox: Sandbox::start(), folder, tracking: free_address(), admin: free_address() }
    }

    fn config(&self) -> String {
        self.folder.path().join("fanout.toml").display().to_string()
    }

    fn serve(&self, destinations: &str) -> Process {
        let Rig { sandbox, folder, tracking, admin } = self;
        let text = format!(
            "[server]\nlisten = \"{tracking}\"\n[admin]\nlisten = \"{admin}\"\n[[sources]]\nname = \"app\"\n\
             write_key = \"{KEY}\"\n[queue]\npath = \"{}/data\"\n[sandbox]\nurl = \"http://{}\"\n{destinations}",
            folder.path().display(),
            sandbox.address,
        );
        write_config(folder.path(), &text);
        let mut process = Process::fanout(&["serve", "--config", &self.config()]);
        process.wait_for("ready");
        process
    }

    fn accept(&self, calls: Vec<Value>) {
        let reply = post(&self.tracking, "/v1/batch", KEY, &json!({ "batch": calls })).unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"success":true}"#));
    }

    /// Runs a command with these arguments.
    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        let mut fanout = Command::new(env!("CARGO_BIN_EXE_fanout"));
        fanout.args([command, "--config", &self.config()]).args(arguments).output().unwrap()
    }

    /// What a command writes that must succeed.
    fn says(&self, command: &str, arguments: &[&str]) -> String {
        let output = self.run(command, arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn replay(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.says("replay", &[&["--json"], arguments].concat())).unwrap()
    }

    /// The dead letters that such a filter lists.
    fn letters(&self, filter: &[&str]) -> Vec<Value> {
        let text = self.says("dead-letters", &[&["list", "--json"], filter].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until a replay is as wanted, by the list.
    fn wait_for(&self, id: &Value, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let list = self.replay(&["list"]);
            let found = list["replays"].as_array().unwrap().iter().find(|replay| replay["id"] == *id);
            if let Some(replay) = found.filter(|replay| wanted(replay)) {
                return replay.clone();
            }
            assert!(Instant::now() < deadline, "{what}: {list}");
        }
    }

    fn finished(&self, id: &Value) -> Value {
        self.wait_for(id, "it does not end", |replay| replay["state"] == "done")
    }

    fn metric(&self, line: &str) -> Option<f64> {
        let text = request(&self.admin, "GET", "/metrics", &[], b"").unwrap().body;
        text.lines().find_map(|have| have.strip_prefix(line)?.trim().parse().ok())
    }

    /// The users and traits that a destination received, at least so many, in order.
    fn traits(&self, name: &str, count: usize) -> Vec<(String, Value)> {
        let host = format!("{name}.example.com");
        let requests = self.sandbox.wait_until(&host, "calls", |requests| requests.len() >= count);
        let traits = |request: &Value| {
            let body = &request["body"];
            (body["userId"].as_str().unwrap().to_owned(), body["traits"].clone())
        };
        requests.iter().map(traits).collect()
    }

    /// The numbers that a destination received, at least so many, by user; nothing for a call without one.
    fn received(&self, name: &str, count: usize) -> BTreeMap<String, Vec<Option<u64>>> {
        let mut received: BTreeMap<String, Vec<Option<u64>>> = BTreeMap::new();
        for (user, traits) in self.traits(name, count) {
            received.entry(user).or_default().push(traits["n"].as_u64());
        }
        received
    }
}

fn of(lists: &[(&str, &[u64])]) -> BTreeMap<String, Vec<Option<u64>>> {
    let list = |numbers: &[u64]| numbers.iter().map(|n| Some(*n)).collect();
    lists.iter().map(|(user, numbers)| ((*user).to_owned(), list(numbers))).collect()
}

#[test]
fn a_new_destination_gets_what_came_before_it_once_and_by_the_calls_own_flags() {
    let rig = Rig::new();
    let fanout = rig.serve(&hook("one"));
    let mut calls: Vec<Value> = (0..6).map(|n| call(n, ["a", "b"][n as usize % 2])).collect();
    calls[3]["integrations"] = json!({"two": false});
    calls.push(
        json!({"type": "identify", "messageId": "m-6", "userId": "a", "traits": {"n": 6, "plan": "pro"}}),
    );
    rig.accept(calls);
    rig.received("one", 7);
    assert!(fanout.terminate());

    let fanout = rig.serve(&(hook("one") + &hook("two")));
    rig.accept(vec![call(7, "a")]);
    assert_eq!(rig.received("two", 1), of(&[("a", &[7])]), "a new destination begins at the journal's end");

    let expected = json!({"skipped: integrations": 1, "skipped: superseded": 3});
    let dry = rig.replay(&["--to", "two", "--since", "1h", "--dry-run"]);
    assert_eq!((&dry["would_send"], &dry["left_out"]), (&json!(4), &expected));
    assert!(rig.replay(&["list"])["replays"].as_array().unwrap().is_empty(), "nothing was started");

    let started = rig.replay(&["--to", "two", "--since", "1h"]);
    assert_eq!((&started["state"], &started["rate"]), (&json!("running"), &json!("50 per 1 s")));
    assert!(started["note"].is_null(), "nothing has been let go: {started}");
    let ended = rig.finished(&started["id"]);
    let outcomes = json!({"delivered": 4, "skipped: integrations": 1, "skipped: superseded": 3});
    assert_eq!((&ended["outcomes"], &ended["pending"]), (&outcomes, &json!(0)));
    // m-7 has set again all that m-0, m-2 and m-4 had, but not the plan of m-6.
    let part = json!({"plan": "pro"});
    let received = rig.traits("two", 5);
    let of_user = |wanted: &str| {
        let its = received.iter().filter(|(user, _)| user == wanted);
        its.map(|(_, traits)| traits.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of_user("a"), [json!({"n": 7}), part, json!({"n": 7})]);
    assert_eq!(of_user("b"), [json!({"n": 1}), json!({"n": 5})]);
    assert_eq!(
        rig.received("one", 7).values().map(Vec::len).sum::<usize>(),
        8,
        "nothing more than the live call"
    );

    let live =
        |outcome| format!(r#"fanout_deliveries_total{{destination="two",outcome="{outcome}",reason=""}}"#);
    let replayed = r#"fanout_replay_deliveries_total{destination="two",outcome="delivered",reason=""}"#;
    assert_eq!((rig.metric(&live("delivered")), rig.metric(replayed)), (Some(1.0), Some(4.0)));
    assert_eq!(rig.metric(r#"fanout_pending{destination="two"}"#), Some(0.0));
    assert!(fanout.terminate());
}

#[test]
fn an_old_destination_gets_it_again_and_one_user_alone_if_asked() {
    let rig = Rig::new();
    let fanout = rig.serve(&hook("one"));
    let mut calls: Vec<Value> = (0..6).map(|n| call(n, ["a", "b"][n as usize % 2])).collect();
    calls.push(json!({"type": "identify", "messageId": "m-6", "anonymousId": "b", "userId": "c", "traits": {"n": 6}}));
    rig.accept(calls);
    rig.received("one", 7);

    let id = rig.replay(&["--to", "one", "--since", "1h", "--user", "b", "--all"])["id"].clone();
    let ended = rig.finished(&id);
    assert_eq!(ended["outcomes"], json!({"delivered": 4, "skipped: other_user": 3}));
    let expected = of(&[("a", &[0, 2, 4]), ("b", &[1, 3, 5, 1, 3, 5]), ("c", &[6, 6])]);
    assert_eq!(rig.received("one", 11), expected);

    // Without --all only what nothing later has set again.
    let id = rig.replay(&["--to", "one", "--since", "1h"])["id"].clone();
    let ended = rig.finished(&id);
    assert_eq!(ended["outcomes"], json!({"delivered": 3, "skipped: superseded": 4}));
    let list = rig.replay(&["list"]);
    assert_eq!(list["replays"].as_array().unwrap().len(), 2, "ended ones stay listed");
    rig.replay(&["cancel", "1"]);
    assert_eq!(rig.replay(&["list"])["replays"][0]["id"], 2);
    assert!(fanout.terminate());
}

#[test]
fn what_later_calls_have_set_again_is_left_out_trait_by_trait_whatever_its_spelling() {
    let rig = Rig::new();
    let fanout = rig.serve(&hook("one"));
    let identify = |n: u64, traits: Value| json!({"type": "identify", "messageId": format!("m-{n}"), "userId": "a", "traits": traits});
    let calls = [
        json!({"first_name": "Ada", "plan": "x", "address": {"city": "P", "zip": "1"}, "email": "a@b.co"}),
        json!({"dob": "1815-12-10"}),
        json!({"firstName": "B", "address": {"postalCode": "2"}, "birthday": "1815-12-11", "Email": "a@b.co"}),
    ];
    for (n, traits) in calls.iter().enumerate() {
        rig.accept(vec![identify(n as u64, traits.clone())]);
        rig.traits("one", n + 1);
    }
    let dry = rig.replay(&["--to", "one", "--since", "1h", "--dry-run"]);
    assert_eq!((&dry["would_send"], &dry["left_out"]), (&json!(2), &json!({"skipped: superseded": 1})));
    let id = rig.replay(&["--to", "one", "--since", "1h"])["id"].clone();
    let ended = rig.finished(&id);
    assert_eq!(ended["outcomes"], json!({"delivered": 2, "skipped: superseded": 1}));
    let replayed: Vec<Value> = rig.traits("one", 5).into_iter().skip(3).map(|(_, traits)| traits).collect();
    let part = json!({"plan": "x", "address": {"city": "P"}, "email": "a@b.co"});
    assert_eq!(replayed, [part, calls[2].clone()], "what has the same value stays");

    let id = rig.replay(&["--to", "one", "--since", "1h", "--all"])["id"].clone();
    assert_eq!(rig.finished(&id)["outcomes"], json!({"delivered": 3}));
    let replayed: Vec<Value> = rig.traits("one", 8).into_iter().skip(5).map(|(_, traits)| traits).collect();
    assert_eq!(replayed, calls, "--all sends them whole");
    assert!(fanout.terminate());
}

#[test]
fn a_replay_of_one_anonymous_id_knows_what_its_user_has_set_again_without_it() {
    let rig = Rig::new();
    let fanout = rig.serve(&hook("one"));
    let mut first = call(1, "c");
    first["anonymousId"] = json!("b");
    rig.accept(vec![first, call(2, "c")]);
    rig.received("one", 2);
    let id = rig.replay(&["--to", "one", "--since", "1h", "--user", "b"])["id"].clone();
    let ended = rig.finished(&id);
    assert_eq!(ended["outcomes"], json!({"skipped: other_user": 1, "skipped: superseded": 1}));
    assert!(fanout.terminate());
}

#[test]
fn a_killed_replay_goes_on_beside_live_traffic_in_order() {
    const CALLS: u64 = 300;
    let rig = Rig::new();
    let fanout = rig.serve(&hook("one"));
    rig.accept((0..CALLS).map(|n| call(n, &format!("u{}", n % 7))).collect());
    rig.received("one", CALLS as usize);
    assert!(fanout.terminate());

    let both = hook("one") + &hook("two");
    let mut fanout = rig.serve(&both);
    let id = rig.replay(&["--to", "two", "--since", "1h", "--rate", "60 per 1 s", "--all"])["id"].clone();
    let delivered = |replay: &Value| replay["outcomes"]["delivered"].as_u64().unwrap_or(0);
    let mut live = 0;
    for part in 1..4 {
        let seen = rig.wait_for(&id, "it does not go on", |replay| delivered(replay) >= part * 60);
        assert!(
            delivered(&seen) < CALLS && seen["state"] == "running",
            "it was to be killed in the middle: {seen}"
        );
        let more = (0..10).map(|n| call(1000 + live + n, &format!("live{}", n % 3))).collect();
        rig.accept(more);
        live += 10;
        fanout.kill();
        fanout = rig.serve(&both);
    }
    let ended = rig.finished(&id);
    assert_eq!(ended["outcomes"], json!({ "delivered": CALLS }));
    let mut repeated = 0;
    let received = rig.received("two", (CALLS + live) as usize);
    for (user, numbers) in received {
        let mut order: Vec<u64> = Vec::new();
        for n in numbers.into_iter().flatten() {
            match order.iter().position(|earlier| *earlier == n) {
                Some(at) => {
                    repeated += order.len() - at;
                    order.truncate(at + 1);
                }
                None => order.push(n),
            }
        }
        assert!(order.is_sorted(), "{user}: {order:?}");
        let all = if user.starts_with("live") {
            live / 10 * [4, 3, 3][user.as_bytes()[4] as usize - 48]
        } else {
            0
        };
        let replayed = (0..CALLS).filter(|n| user == format!("u{}", n % 7)).count() as u64;
        assert_eq!(order.len() as u64, all + replayed, "{user}: {order:?}");
    }
    // In flight, or finished in the last 100 ms before one of three kills: a second's worth at the very most.
    assert!(repeated <= 3 * 60, "{repeated} were sent again");
    assert!(fanout.terminate());
}

#[test]
fn a_closed_destination_holds_its_replays_and_a_cancelled_one_stops() {
    let rig = Rig::new();
    let fanout = rig.serve(&hook("one"));
    rig.accept((0..20).map(|n| call(n, &format!("u{n}"))).collect());
    rig.received("one", 20);
    assert!(fanout.terminate());
    let paused = hook("one").replace("adapter", "paused = true\nadapter");
    let fanout = rig.serve(&paused);
    let id = rig.replay(&["--to", "one", "--since", "1h"])["id"].clone();
    let waits = rig.wait_for(&id, "it does not wait", |replay| replay["waits"].is_string());
    assert_eq!((&waits["waits"], &waits["outcomes"]), (&json!("the destination is paused"), &json!({})));
    let cancelled = rig.replay(&["cancel", &id.to_string()]);
    assert_eq!(cancelled["state"], "cancelled");
    assert!(fanout.terminate());
    let fanout = rig.serve(&hook("one"));
    assert_eq!(rig.replay(&["list"])["replays"][0]["state"], "cancelled", "it does not come back");
    rig.accept(vec![call(99, "live")]);
    assert_eq!(rig.received("one", 21).len(), 21, "nothing of it was sent");
    assert!(fanout.terminate());
}

/// Looks into the data directory while no instance uses it.
fn open(rig: &Rig) -> LocalQueue<()> {
    let data = rig.folder.path().join("data");
    let options = Options { as_it_is: true, ..Options::new(journal::Options::new(data), Vec::new()) };
    LocalQueue::open(options, Arc::new(|_, _| Some(())), Arc::new(|| 0)).unwrap().0
}

#[test]
fn a_kill_in_the_middle_of_cancelling_leaves_nothing_of_it() {
    let rig = Rig::new();
    let paused = hook("one").replace("adapter", "paused = true\nadapter");
    let fanout = rig.serve(&paused);
    rig.accept(vec![call(1, "a")]);
    assert_eq!(rig.replay(&["--to", "one", "--since", "1h"])["state"], "running");
    assert!(fanout.terminate());
    // It is known to be cancelled, and its lane is still there.
    let queue = open(&rig);
    let kept = String::from_utf8(queue.get("replay/1").unwrap()).unwrap();
    let cancelled = kept.replace(r#""state":"running""#, r#""state":"cancelled""#);
    queue.put("replay/1", cancelled.as_bytes()).unwrap();
    assert_eq!(queue.counts("replay:1").unwrap().unfinished, 1);
    drop(queue);
    let fanout = rig.serve(&paused);
    assert_eq!(rig.replay(&["list"])["replays"][0]["state"], "cancelled");
    assert!(fanout.terminate());
    assert_eq!(open(&rig).counts("replay:1"), None, "it would keep its calls for ever");
}

#[test]
fn refused_credentials_hold_a_replay_that_goes_on_without_live_traffic() {
    let rig = Rig::new();
    let fanout = rig.serve(&hook("one"));
    rig.accept((0..5).map(|n| call(n, &format!("u{n}"))).collect());
    rig.received("one", 5);
    rig.sandbox.script(&json!([{"host": "one.example.com", "status": 401, "times": 2}]));
    let id = rig.replay(&["--to", "one", "--since", "1h"])["id"].clone();
    rig.wait_for(&id, "it does not wait", |replay| replay["waits"].is_string());
    let ended = rig.finished(&id);
    assert_eq!(ended["outcomes"], json!({"delivered": 5}));
    rig.accept(vec![call(9, "u9")]);
    assert_eq!(rig.received("one", 13)["u9"], [Some(9)], "live traffic goes on as well");
    assert!(fanout.terminate());
}

#[test]
fn mistakes_are_said_with_their_remedy() {
    let rig = Rig::new();
    let fanout = rig.serve(&hook("one"));
    for (arguments, code, says) in [
        (&["--to", "none", "--since", "1h"][..], 2, "name one of: one"),
        (&["--to", "one", "--since", "soon"], 2, "how long ago"),
        (&["--to", "one", "--since", "1h", "--rate", "fast"], 2, "100 per 1 s"),
        (&["--to", "one"], 2, "--since"),
        (&["cancel", "7"], 1, "fanout replay list"),
    ] {
        let output = rig.run("replay", arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
    }
    assert!(fanout.terminate());
    let output = rig.run("replay", &["list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("fanout serve"));
}

/// A destination that gives up on what is refused.
fn strict(name: &str) -> String {
    hook(name).replace(r#"payload = "raw""#, r#"payload = "raw", retry_4xx = false"#)
}

/// Calls of one user, each with a trait that all of them set and one of its own.
fn overlapping(numbers: std::ops::Range<u64>) -> Vec<Value> {
    let traits = |n: u64| json!({"n": n, format!("own{n}"): n});
    let call = |n: u64| json!({"type": "identify", "messageId": format!("m-{n}"), "userId": "a", "traits": traits(n)});
    numbers.map(call).collect()
}

/// Delivers so many calls to a strict destination, and replays them, the first ones of which are refused.
fn with_letters(rig: &Rig, calls: u64, refused: u64) -> (Process, Value) {
    let fanout = rig.serve(&strict("one"));
    rig.accept(overlapping(0..calls));
    rig.traits("one", calls as usize);
    rig.sandbox.script(&json!([{"host": "one.example.com", "status": 400, "times": refused}]));
    let id = rig.replay(&["--to", "one", "--since", "1h", "--all"])["id"].clone();
    let ended = rig.finished(&id);
    assert_eq!(ended["outcomes"]["dead: rejected"], json!(refused));
    (fanout, id)
}

#[test]
fn dead_letters_of_a_replay_are_listed_and_redriven_after_its_end() {
    let rig = Rig::new();
    let (fanout, id) = with_letters(&rig, 4, 3);
    let letters = rig.letters(&["--destination", "one"]);
    let ids: Vec<&str> = letters.iter().map(|letter| letter["id"].as_str().unwrap()).collect();
    let said = |name: &str| letters.iter().map(|letter| letter[name].clone()).collect::<Vec<_>>();
    assert_eq!((said("destination"), said("replay")), (vec![json!("one"); 3], vec![id.clone(); 3]));
    assert_eq!(rig.letters(&["--replay", &id.to_string()]), letters);
    let unknown = rig.run("dead-letters", &["list", "--replay", "7"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there is no replay 7"), "{unknown:?}");
    let listed = rig.says("dead-letters", &["list"]);
    assert!(listed.contains(ids[0]) && listed.contains("one (replay 1)"), "{listed}");
    let shown = rig.says("dead-letters", &["show", ids[0]]);
    assert!(shown.contains(&format!("fanout dead-letters redrive {}", ids[0])), "{shown}");
    assert!(rig.says("replay", &["list"]).contains("fanout dead-letters list --replay 1"));

    let outcome = |rig: &Rig, wanted: Value| {
        rig.wait_for(&id, "it does not end again", |replay| {
            replay["state"] == "done" && replay["outcomes"] == wanted
        })
    };
    assert_eq!(rig.says("dead-letters", &["redrive", ids[0]]), "redriven: 1 of 1\n");
    outcome(&rig, json!({"dead: rejected": 2, "delivered": 2}));
    assert_eq!(rig.says("dead-letters", &["redrive", ids[1], "--all"]), "redriven: 1 of 1\n");
    outcome(&rig, json!({"dead: rejected": 1, "delivered": 3}));
    let sent: Vec<Value> = rig.traits("one", 10).into_iter().skip(8).map(|(_, traits)| traits).collect();
    assert_eq!(
        sent,
        [json!({"own0": 0}), json!({"n": 1, "own1": 1})],
        "without what the last one set, and whole"
    );
    assert_eq!(rig.says("dead-letters", &["purge", "--replay", "1"]), "purged: 1 of 1\n");
    assert_eq!(rig.says("dead-letters", &["list"]), "no dead letters\n");
    let live = r#"fanout_deliveries_total{destination="one",outcome="delivered",reason=""}"#;
    let replayed = r#"fanout_replay_deliveries_total{destination="one",outcome="delivered",reason=""}"#;
    assert_eq!((rig.metric(live), rig.metric(replayed)), (Some(4.0), Some(3.0)), "the first state stays");
    assert!(fanout.terminate());
}

#[test]
fn a_redrive_of_a_replay_outlives_kills_and_needs_no_instance() {
    const CALLS: u64 = 60;
    let rig = Rig::new();
    let (fanout, id) = with_letters(&rig, CALLS, CALLS);
    assert!(fanout.terminate());
    assert_eq!(rig.letters(&["--replay", "1"]).len(), CALLS as usize);
    let redrive = ["redrive", "--replay", "1", "--all"];
    assert_eq!(rig.says("dead-letters", &redrive), format!("redriven: {CALLS} of {CALLS}\n"));
    rig.sandbox.script(&json!([{"host": "one.example.com", "status": 200, "delay_ms": 20}]));
    for round in 1..3 {
        let fanout = rig.serve(&strict("one"));
        let wanted = CALLS as usize * 2 + round * 10;
        rig.traits("one", wanted);
        fanout.kill();
    }
    let fanout = rig.serve(&strict("one"));
    let ended = rig.finished(&id);
    assert_eq!(ended["outcomes"], json!({ "delivered": CALLS }));
    let mut sent = rig.received("one", CALLS as usize * 3).remove("a").unwrap().split_off(CALLS as usize * 2);
    let mut known = std::collections::BTreeSet::new();
    // What was in flight or had ended in the last 100 ms before a kill comes again.
    sent.retain(|n| known.insert(*n));
    assert_eq!(sent, (0..CALLS).map(Some).collect::<Vec<_>>(), "in the order of their calls");
    assert!(rig.letters(&[]).is_empty());
    assert!(fanout.terminate());
}

#[test]
fn dead_letters_of_a_replay_to_a_destination_that_is_gone_are_found_and_stay() {
    let rig = Rig::new();
    let (fanout, _) = with_letters(&rig, 1, 1);
    assert!(fanout.terminate());
    let fanout = rig.serve(&strict("two"));
    let filter = ["--destination", "one"];
    assert_eq!(rig.letters(&filter).len(), 1);
    let refused = rig.run("dead-letters", &[&["redrive"], &filter[..]].concat());
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(said.contains("redriven: 0 of 1") && said.contains("one is not enabled"), "{said}");
    assert_eq!(rig.letters(&filter).len(), 1);
    assert_eq!(rig.run("dead-letters", &["list", "--destination", "none"]).status.code(), Some(1));
    assert!(fanout.terminate());
}

#[test]
fn of_replays_that_ended_those_without_dead_letters_go_first() {
    let rig = Rig::new();
    let (fanout, id) = with_letters(&rig, 1, 1);
    for _ in 0..20 {
        let id = rig.replay(&["--to", "one", "--since", "1h", "--user", "nobody"])["id"].clone();
        rig.finished(&id);
    }
    let list = rig.replay(&["list"]);
    let ids: Vec<&Value> = list["replays"].as_array().unwrap().iter().map(|replay| &replay["id"]).collect();
    assert_eq!((ids.len(), ids[0], ids[1]), (20, &id, &json!(3)));
    assert_eq!(rig.letters(&["--replay", "1"]).len(), 1);
    let answer = rig.replay(&["cancel", "1"]);
    assert_eq!(answer["note"], "its dead letters were deleted with it");
    assert!(rig.letters(&[]).is_empty());
    assert!(fanout.terminate());
}

#[test]
fn a_replay_leaves_out_what_a_redrive_beside_it_has_delivered() {
    let rig = Rig::new();
    let fanout = rig.serve(&strict("one"));
    rig.accept(vec![call(0, "filler")]);
    rig.accept(overlapping(1..2));
    rig.traits("one", 2);
    rig.sandbox.script(&json!([{"host": "one.example.com", "status": 400, "times": 1}]));
    rig.accept(vec![call(2, "a")]);
    rig.traits("one", 3);
    let deadline = Instant::now() + PATIENCE;
    while rig.letters(&[]).is_empty() {
        assert!(Instant::now() < deadline, "it is no dead letter");
    }
    // Slow, so that the redrive is through between its first call and its second.
    let id = rig.replay(&["--to", "one", "--since", "1h", "--rate", "1 per 8 s"])["id"].clone();
    rig.traits("one", 4);
    assert_eq!(rig.says("dead-letters", &["redrive", "--user", "a"]), "redriven: 1 of 1\n");
    assert_eq!(rig.traits("one", 5)[4].1, json!({"n": 2}));
    assert_eq!(rig.traits("one", 6)[5].1, json!({"own1": 1}), "an old value would be put back");
    rig.replay(&["cancel", &id.to_string()]);
    assert!(fanout.terminate());
}
