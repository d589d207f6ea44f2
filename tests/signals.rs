//! How the real process ends when it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

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
