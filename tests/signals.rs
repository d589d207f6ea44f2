//! How the real process ends when it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::{PATIENCE, Process, Sandbox, free_address, post, request, write_config};

const KEY: &str = "signals-test-key";

#[test]
fn a_second_signal_ends_the_wait_for_a_vendor_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start();
    let address = free_address();
    let config = write_config(
        folder.path(),
        &format!(
            r#"
            [server]
            listen = "{address}"
            drain_timeout = "60s"
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
    request(&sandbox.address, "POST", "/_sandbox/answers", &[], br#"{"then":"hang","times":1}"#).unwrap();
    let mut fanout = Process::fanout(&["serve", "--config", &config]);
    fanout.wait_for("ready");
    let call = json!({"userId": "u", "traits": {"n": 1}});
    assert_eq!(post(&address, "/v1/identify", KEY, &call).unwrap().status, 200);
    sandbox.wait_until("api.mixpanel.com", "the request that hangs", |requests| requests.len() == 1);

    let pid = Pid::from_raw(fanout.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let began = Instant::now();
    while TcpStream::connect(&address).is_ok() {
        assert!(began.elapsed() < PATIENCE, "it still listens");
    }
    kill_process(pid, Signal::TERM).unwrap();
    assert!(!fanout.finish(), "it did not end in order, and says so");
    // The vendor's own time is over after 10 s.
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());

    let mut fanout = Process::fanout(&["serve", "--config", &config]);
    fanout.wait_for("ready");
    sandbox.wait_until("api.mixpanel.com", "the same call again", |requests| requests.len() == 2);
    assert!(fanout.terminate());
}
