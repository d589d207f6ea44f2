//! How the real process ends when it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::{PATIENCE, Sandbox, Service, request};

#[test]
fn a_second_signal_ends_the_wait_for_a_vendor_and_loses_nothing() {
    let sandbox = Sandbox::start();
    let service = Service::with_server(
        &format!("http://{}", sandbox.address),
        "drain_timeout = \"60s\"",
        "[destinations.mixpanel]\nsettings = { project_token = \"TOKEN\" }",
    );
    request(&sandbox.address, "POST", "/_sandbox/answers", &[], br#"{"then":"hang","times":1}"#).unwrap();
    let fanout = service.serve();
    service.accept("/v1/identify", &json!({"userId": "u", "traits": {"n": 1}}));
    sandbox.wait_until("api.mixpanel.com", "the request that hangs", |requests| requests.len() == 1);

    let pid = Pid::from_raw(fanout.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let began = Instant::now();
    while TcpStream::connect(&service.address).is_ok() {
        assert!(began.elapsed() < PATIENCE, "it still listens");
    }
    kill_process(pid, Signal::TERM).unwrap();
    assert!(!fanout.finish(), "it did not end in order, and says so");
    // The vendor's own time is over after 10 s.
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());

    let fanout = service.serve();
    sandbox.wait_until("api.mixpanel.com", "the same call again", |requests| requests.len() == 2);
    assert!(fanout.terminate());
}

#[test]
fn a_client_that_takes_its_time_does_not_keep_the_lanes_going() {
    let sandbox = Sandbox::start();
    let service = Service::with_server(
        &format!("http://{}", sandbox.address),
        "drain_timeout = \"2s\"",
        "[destinations.webhook]\nsettings = { url = \"https://hook.example.com/in\" }\n\
         delivery = { max_concurrency = 1 }",
    );
    sandbox.script(&json!({"delay_ms": 50}));
    let fanout = service.serve();
    let mut slow = TcpStream::connect(&service.address).unwrap();
    slow.write_all(b"POST /v1/identify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{").unwrap();
    for n in 0..100 {
        service.accept("/v1/identify", &json!({"userId": format!("u{n}"), "traits": {"n": n}}));
    }
    let host = "hook.example.com";
    sandbox.wait_until(host, "a delivery", |requests| !requests.is_empty());
    fanout.ask_to_end();
    let began = Instant::now();
    while TcpStream::connect(&service.address).is_ok() {
        assert!(began.elapsed() < PATIENCE, "it still listens");
    }
    let so_far = sandbox.wait_until(host, "what came so far", |_| true).len();
    assert!(fanout.finish());
    let in_all = sandbox.wait_until(host, "all", |_| true).len();
    assert!(in_all <= so_far + 3, "{so_far} requests when it was told to end, {in_all} in all");
    drop(slow);
}
