//! `fanout demo` as a newcomer runs it: what it prints, when it ends, and what it leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::{Process, post};

fn command(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
    command.arg("demo").env_clear().env("TMPDIR", temporary).current_dir(temporary);
    command
}

/// Runs it to its end with nothing on standard input.
fn run(temporary: &Path) -> Output {
    command(temporary).stdin(Stdio::null()).output().unwrap()
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// The JSON bodies that stand below a vendor's heading.
fn bodies(output: &str, host: &str) -> Vec<Value> {
    let start = format!("── {host} received\n");
    output
        .split(&start)
        .skip(1)
        .flat_map(|rest| rest.split("\n── ").next().unwrap().split("\n\n"))
        .filter_map(|block| serde_json::from_str(block).ok())
        .collect()
}

#[test]
fn it_shows_what_each_vendor_received_and_ends_by_itself() {
    let temporary = tempfile::tempdir().unwrap();
    let output = run(temporary.path());
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out.matches("── call: ").count(), 4);
    assert_eq!(out.matches("answer: 200 {\"success\":true}").count(), 4);
    for part in
        ["tracking API  http://127.0.0.1:", "admin         http://127.0.0.1:", "sandbox       http://"]
    {
        assert!(out.contains(part), "{part}\n{out}");
    }

    let records: Vec<Value> = bodies(&out, "api.mixpanel.com")
        .into_iter()
        .flat_map(|body| body.as_array().unwrap().clone())
        .collect();
    assert_eq!(records.len(), 4, "{out}");
    assert!(records.iter().all(|record| record["$token"] == "***"));
    let set = |n: usize| &records[n]["$set"];
    assert_eq!((&set(0)["$first_name"], &set(0)["$city"]), (&"Elon".into(), &"Durban".into()));
    assert_eq!((&set(1)["$email"], &set(1)["$name"]), (&"elon@example.com".into(), &"Elon Musk".into()));
    assert_eq!(records[2]["$distinct_id"], "$device:507f191e810c19729de860ea");
    assert_eq!((&set(3)["$region"], &set(3)["logins"]), (&"CT".into(), &5.into()));

    let envelopes = bodies(&out, "hooks.example.com");
    let users: Vec<&Value> = envelopes.iter().map(|body| &body["data"]["userId"]).collect();
    assert_eq!(users.len(), 3, "the first call's integrations leave the webhook out: {users:?}");
    assert!(envelopes.iter().all(|body| body["type"] == "user.identified"));
    assert_eq!(envelopes[2]["data"]["traits"]["address"]["postal_code"], "06105");
    assert_eq!(out.matches("webhook-signature: v1,").count(), 3);

    // One user of three has no anonymous id alone; the first example names neither of these two vendors.
    let contacts: Vec<Value> = bodies(&out, "api.intercom.io");
    let created: Vec<&Value> = contacts.iter().filter(|body| body["role"] == "user").collect();
    assert_eq!(created.len(), 2, "{out}");
    assert_eq!((&created[0]["external_id"], &created[0]["name"]), (&"abc123".into(), &"Elon Musk".into()));
    assert_eq!(created[1]["custom_attributes"]["address_city"], "Hartford");
    let members = bodies(&out, "us20.api.mailchimp.com");
    assert_eq!(members.len(), 2, "{out}");
    assert_eq!(members[0]["merge_fields"]["FNAME"], "Elon");
    assert_eq!(members[1]["merge_fields"]["ADDRESS"]["zip"], "06105");
    // It takes calls that name it, and the first example does; the token brought the host.
    let leads = bodies(&out, "sandbox.my.salesforce.com");
    assert_eq!(leads.len(), 1, "{out}");
    assert_eq!(leads[0]["records"][0]["UserId__c"], "97980cfea0067");
    assert_eq!(leads[0]["records"][0]["LastName"], "Musk");
    assert!(
        out.contains("grant_type=client_credentials&client_id=demo-client-id&client_secret=***"),
        "{out}"
    );

    for secret in
        ["demo-project-token", "whsec_", "ZGVtby1zaWduaW5n", "demokey", "demo-access", "ZGVtb2tleS", "token1"]
    {
        assert!(!out.contains(secret), "{secret}\n{out}");
    }
    assert!(is_empty(temporary.path()), "it left something behind");
}

#[test]
fn it_takes_other_ports_where_the_usual_ones_are_taken() {
    // Whoever has them, they are taken.
    let _taken = ["127.0.0.1:8080", "127.0.0.1:8081"].map(TcpListener::bind);
    let temporary = tempfile::tempdir().unwrap();
    let output = run(temporary.path());
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{out}");
    for (label, usual) in [("tracking API  http://", ":8080"), ("admin         http://", ":8081")] {
        let line = out.lines().find_map(|line| line.strip_prefix(label)).unwrap();
        assert!(!line.ends_with(usual), "{line}");
    }
    assert!(is_empty(temporary.path()));
}

/// A terminal of its own is given to it by `script` of util-linux; where that is missing there is nothing to test with.
#[test]
fn with_a_terminal_it_stays_up_shows_what_comes_and_ends_with_ctrl_c() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: there is no `script` here to make a terminal with");
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("tmp");
    std::fs::create_dir(&folder).unwrap();
    let mut command = Command::new("script");
    command
        .args(["-qec", "echo pid $$; exec \"$FANOUT\" demo", "/dev/null"])
        .env("FANOUT", env!("CARGO_BIN_EXE_fanout"))
        .env("SHELL", "/bin/sh")
        .env("TMPDIR", &folder);
    let mut demo = Process::start(command);
    let pid: i32 = demo.wait_for("pid").parse().unwrap();
    let address = demo.wait_for("tracking API").trim_start_matches("http://").to_owned();
    demo.wait_for("It stays up until Ctrl-C");
    assert!(demo.wait_for("curl").contains(&format!("http://{address}/v1/identify")));
    let call = json!({"userId": "u1", "traits": {"email": "ada@example.com", "created_at": 1577836800}});
    assert_eq!(post(&address, "/v1/identify", "demo-key-0001", &call).unwrap().status, 200);
    assert_eq!(demo.wait_for("\"$created\":"), "\"2020-01-01T00:00:00\"");
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(demo.exit_code(), Some(0), "`script` ends as what it ran");
    assert!(is_empty(&folder), "it left something behind");
}
