//! What a destination that is down for long costs: how much memory the process holds while its backlog grows to millions,
//! beside a destination that is well; how long a start takes with that backlog, after `kill -9` and after SIGTERM; and how
//! fast the backlog is delivered once the vendor is back.
//!
//! `cargo bench --bench backlog [-- CALLS [RATE]]`. It prints figures and asserts nothing about time or memory.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::{KEY, Process, Sandbox, Service, request};

const CLIENTS: u64 = 8;

/// What is sent.
struct Load {
    name: &'static str,
    calls: u64,
    batch: u64,
    /// How many users there are.
    users: u64,
    /// How many bytes each call has besides its names.
    padding: usize,
    /// How many destinations are down.
    dark: usize,
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let calls = numbers.next().unwrap_or(1_000_000);
    let rate = numbers.next().unwrap_or(40_000);
    let small =
        Load { name: "a user a call, 0.5 KB", calls, batch: 100, users: u64::MAX, padding: 300, dark: 1 };
    let hot = Load { name: "100 users, 0.5 KB", users: 100, ..small };
    let large = Load { name: "a user a call, 30 KB", calls: calls / 20, batch: 16, padding: 30_000, ..small };
    let wide = Load { name: "a user a call, 0.5 KB, twenty down", calls: calls / 3, dark: 20, ..small };
    for load in [&small, &hot, &large, &wide] {
        measure(load, rate);
    }
}

fn measure(load: &Load, rate: u64) {
    println!("\n{}, at most {rate} calls/s", load.name);
    println!(
        "{:>10} {:>12} {:>12} {:>12} {:>14}",
        "accepted", "calls/s", "dark waits", "well waits", "resident MB"
    );
    let sandbox = Sandbox::counting();
    sandbox.script(&json!([{"host": "dark*.example.com", "status": 500}]));
    let service = Service::new(&format!("http://{}", sandbox.address), &destinations(load.dark));
    let fanout = service.serve();
    let accepted = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let begin = Instant::now();
    let row = |pid| {
        let calls = accepted.load(Ordering::Relaxed);
        let a_second = calls as f64 / begin.elapsed().as_secs_f64();
        let (dark, well) = (pending(&service, "dark0"), pending(&service, "well"));
        let resident = megabytes(pid, "VmRSS:");
        println!("{calls:>10} {a_second:>12.0} {dark:>12} {well:>12} {resident:>14.0}");
    };
    std::thread::scope(|scope| {
        let (accepted, address) = (&accepted, &service.address);
        let senders: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || send(address, client, load, rate / CLIENTS, accepted)))
            .collect();
        let (over, row, pid) = (&over, &row, fanout.pid());
        scope.spawn(move || {
            let mut shown = 0;
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
                if accepted.load(Ordering::Relaxed) >= (shown + 1) * load.calls / 10 {
                    shown += 1;
                    row(pid);
                }
            }
        });
        for sender in senders {
            sender.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    println!("{:>10} at most {:.0} MB", "resident", megabytes(fanout.pid(), "VmHWM:"));
    fanout.kill();
    let fanout = restart(&service, "kill -9");
    let start = Instant::now();
    assert!(fanout.terminate());
    println!("{:>10} after SIGTERM: {:.2} s", "ended", start.elapsed().as_secs_f64());
    let fanout = restart(&service, "SIGTERM");
    sandbox.recover();
    let start = Instant::now();
    let waiting = pending(&service, "dark0");
    let first = wait_until(|| pending(&service, "dark0") < waiting, start);
    let last = wait_until(|| pending(&service, "dark0") == 0, start);
    let a_second = waiting as f64 / last.saturating_sub(first).as_secs_f64();
    let (first, last) = (first.as_secs_f64(), last.as_secs_f64());
    println!("{:>10} first after {first:.1} s, all after {last:.1} s: {a_second:.0} calls/s", "delivered");
    println!("{:>10} at most {:.0} MB", "resident", megabytes(fanout.pid(), "VmHWM:"));
    fanout.kill();
}

/// Starts it again and says how long that took.
fn restart(service: &Service, after: &str) -> Process {
    let start = Instant::now();
    let fanout = service.serve();
    let took = start.elapsed().as_secs_f64();
    println!("{:>10} after {after}: {took:.2} s, {:.0} MB", "ready", megabytes(fanout.pid(), "VmRSS:"));
    fanout
}

fn wait_until(so: impl Fn() -> bool, start: Instant) -> Duration {
    while !so() {
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

fn destinations(dark: usize) -> String {
    let table = |name: String| {
        format!(
            "[destinations.{name}]\nadapter = \"webhook\"\n\
             settings = {{ url = \"https://{name}.example.com/in\", max_batch = 100 }}\n"
        )
    };
    (0..dark).map(|number| format!("dark{number}")).chain(["well".to_owned()]).map(table).collect()
}

/// Sends its share of the calls, no faster than its share of the rate.
fn send(address: &str, client: u64, load: &Load, rate: u64, accepted: &AtomicU64) {
    let padding: String = "a word or two ".chars().cycle().take(load.padding).collect();
    let mut connection = BufReader::new(TcpStream::connect(address).unwrap());
    let (mut sent, begin) = (0, Instant::now());
    while sent < load.calls / CLIENTS {
        let calls: Vec<String> =
            (sent..sent + load.batch).map(|n| call(n * CLIENTS + client, load.users, &padding)).collect();
        let body = format!(r#"{{"writeKey":"{KEY}","batch":[{}]}}"#, calls.join(","));
        // In one write: a second one would wait for the word that the first has arrived.
        let head =
            format!("POST /v1/batch HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.get_mut().write_all((head + &body).as_bytes()).unwrap();
        read_answer(&mut connection);
        sent += load.batch;
        accepted.fetch_add(load.batch, Ordering::Relaxed);
        let due = Duration::from_secs_f64(sent as f64 / rate as f64);
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
    }
}

fn call(n: u64, users: u64, padding: &str) -> String {
    let user = n % users;
    format!(
        r#"{{"type":"identify","messageId":"backlog-{n}","userId":"user-{user}","timestamp":"2026-08-01T12:00:00.000Z","traits":{{"email":"user-{user}@example.com","firstName":"Ada","createdAt":"2024-03-05T09:30:00Z","n":{n},"about":"{padding}"}}}}"#
    )
}

fn read_answer(connection: &mut BufReader<TcpStream>) {
    let mut line = String::new();
    connection.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    let mut length = 0;
    loop {
        line.clear();
        connection.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer).unwrap();
}

/// How many calls wait for a destination.
fn pending(service: &Service, destination: &str) -> u64 {
    let metrics = request(&service.admin, "GET", "/metrics", &[], b"").unwrap().body;
    let name = format!("fanout_pending{{destination=\"{destination}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
}

/// A figure of the kernel's about a process.
fn megabytes(pid: u32, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    kilobytes.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
}
