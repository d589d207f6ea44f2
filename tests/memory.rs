//! The real binary's memory while calls pile up for a destination that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use serde_json::json;
use support::{KEY, Sandbox, Service, request};

/// Well above what is kept in memory by default, well below what as many bytes of calls would hold once they are read.
const MOST_BYTES: u64 = 160 << 20;

/// The most memory that a process has had so far.
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn calls_that_grow_when_they_are_read_are_bounded_by_what_they_hold() {
    let sandbox = Sandbox::start();
    sandbox.script(&json!([{"host": "hook.example.com", "status": 500}]));
    let destination = r#"[destinations.webhook]
        settings = { url = "https://hook.example.com/in" }"#;
    let service = Service::new(&format!("http://{}", sandbox.address), destination);
    let fanout = service.serve();
    // Anybody may send them: 30 KB each, and nine times that in memory.
    let numbers = "1,".repeat(15_000);
    for batch in 0..60 {
        let call =
            |n| format!(r#"{{"type":"identify","userId":"u-{batch}-{n}","traits":{{"n":[{numbers}1]}}}}"#);
        let calls: Vec<String> = (0..16).map(call).collect();
        let body = format!(r#"{{"writeKey":"{KEY}","batch":[{}]}}"#, calls.join(","));
        let reply = request(&service.address, "POST", "/v1/batch", &[], body.as_bytes()).unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"success":true}"#));
    }
    let peak = peak_bytes(fanout.pid());
    assert!(peak < MOST_BYTES, "{} MiB", peak >> 20);
    fanout.kill();
}
