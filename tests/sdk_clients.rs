//! Segment's official SDKs, real ones, speak to the real binary, which is killed and restarted in between; a stand-in for
//! the vendor must have every call exactly as the vendor's documentation asks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use support::{Process, Sandbox, free_address, write_config};

const KEY: &str = "sdk-test-key-1";

fn sdk(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/sdks").join(name);
    assert!(path.exists(), "{} is missing: ./test installs the SDKs", path.display());
    path
}

fn node(address: &str) -> Command {
    let modules = sdk("node/node_modules");
    let mut command = Command::new("node");
    command.arg(script("identify.cjs")).env("NODE_PATH", modules);
    command.args([&format!("http://{address}"), KEY, "node"]);
    command
}

fn python(address: &str) -> Command {
    let mut command = Command::new(sdk("python/bin/python"));
    command.arg(script("identify.py")).args([&format!("http://{address}"), KEY, "python"]);
    command
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sdks").join(name)
}

/// The records that the vendor's documentation asks for, for one call of the scripts.
fn expected(user: &str, logins: u64) -> Vec<Value> {
    vec![
        json!({"$token": "TOKEN", "$distinct_id": user, "$ip": "0", "$set": {
            "$email": format!("{user}@example.com"), "$first_name": "Ada", "$last_name": "Byron", "$name": "Ada Byron",
            "$created": "2024-03-05T09:30:00", "$city": "London",
            "address": {"postal_code": "0123"}, "logins": logins,
        }}),
        json!({"$token": "TOKEN", "$distinct_id": user, "$ip": "0", "$unset": ["old_key"]}),
    ]
}

#[test]
fn node_and_python_lose_nothing_through_a_kill() {
    if std::env::var("FANOUT_TESTS").as_deref() == Ok("quick") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start();
    let address = free_address();
    let config = write_config(
        folder.path(),
        &format!(
            r#"
            [server]
            listen = "{address}"
            [admin]
            listen = "127.0.0.1:0"
            [[sources]]
            name = "app"
            write_key = "{KEY}"
            [queue]
            path = "{}/data"
            [sandbox]
            url = "http://{}"
            [destinations.mixpanel]
            settings = {{ project_token = "TOKEN" }}
            "#,
            folder.path().display(),
            sandbox.address
        ),
    );
    let serve = || {
        let mut process = Process::fanout(&["serve", "--config", &config]);
        process.wait_for("ready");
        process
    };

    let fanout = serve();
    let mut clients = [Process::start(node(&address)), Process::start(python(&address))];
    for client in &mut clients {
        client.say("send 0 50");
        client.wait_for("sent 0 50");
    }
    fanout.kill();
    // Their first tries meet a closed port; they retry until somebody answers.
    for client in &mut clients {
        client.say("send 50 100");
    }
    let fanout = serve();
    for client in &mut clients {
        client.wait_for("sent 50 100");
    }
    fanout.kill();
    let fanout = serve();

    let users = |requests: &[Value]| -> BTreeMap<String, Vec<Value>> {
        let mut users: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for record in requests.iter().flat_map(|request| request["body"].as_array().unwrap().clone()) {
            users.entry(record["$distinct_id"].as_str().unwrap().to_owned()).or_default().push(record);
        }
        users
    };
    let received =
        sandbox.wait_until("api.mixpanel.com", "200 users", |requests| users(requests).len() == 200);
    for request in &received {
        assert_eq!(request["method"], "POST");
        assert_eq!(request["path"], "/engage");
        assert_eq!(request["query"], "ip=0&strict=1&verbose=1");
        assert_eq!(request["headers"]["content-type"], "application/json");
    }
    let users = users(&received);
    for client in ["node", "python"] {
        for i in 0..100 {
            let user = format!("{client}-{i}");
            let records = &users[&user];
            // A kill may repeat what had just been sent, never change it.
            assert_eq!(records.len() % 2, 0, "{user}: {records:?}");
            for pair in records.chunks(2) {
                assert_eq!(pair, expected(&user, i), "{user}");
            }
        }
    }
    for client in clients {
        assert!(client.finish());
    }
    assert!(fanout.terminate(), "SIGTERM ends it with success");
}
