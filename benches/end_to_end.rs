//! How many identifies one CPU-second accepts and delivers through four batching destinations to a local sink, everything
//! synced; and, in the same run, its floor: an HTTP server of the same stack that reads the same bodies and syncs them.
//!
//! `cargo bench --bench end_to_end [-- SECONDS]`. It prints figures and asserts nothing about time.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KEY: &str = "bench-write-key";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "floor") {
        return floor::serve(&arguments[1]);
    }
    let seconds = arguments.first().and_then(|first| first.parse().ok()).unwrap_or(8);
    println!(
        "{:<10} {:>6} {:>8} {:>12} {:>14} {:>10}",
        "server", "batch", "clients", "calls/s", "calls/CPU-s", "µs/call"
    );
    for (batch, clients) in [(100, 8), (1, 64)] {
        let floor = measure("floor", batch, clients, seconds);
        let fanout = measure("fanout", batch, clients, seconds);
        println!("{:>10} of the floor's calls per CPU-second: {:.2}", "", fanout / floor);
    }
}

/// One server under load; answers calls per CPU-second.
fn measure(server: &str, batch: u64, clients: u64, seconds: u64) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let mut sandbox = None;
    let mut process = match server {
        "floor" => {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["floor", folder.path().to_str().unwrap()]);
            Served::start(command, "listening")
        }
        _ => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
            command.args(["sandbox", "--listen", "127.0.0.1:0", "--count-only"]);
            let vendors = Served::start(command, "sandbox");
            let config = folder.path().join("fanout.toml");
            std::fs::write(&config, configuration(folder.path().to_str().unwrap(), &vendors.url)).unwrap();
            sandbox = Some(vendors);
            let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
            command.args(["serve", "--config", config.to_str().unwrap()]).env("FANOUT_LOG", "warn");
            Served::start(command, "tracking API")
        }
    };
    let address = process.url.trim_start_matches("http://").to_owned();
    let accepted = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let cpu_before = cpu_seconds(process.child.id());
    let senders: Vec<_> = (0..clients)
        .map(|client| {
            let (accepted, over, address) = (accepted.clone(), over.clone(), address.clone());
            std::thread::spawn(move || send(&address, client, batch, &accepted, &over))
        })
        .collect();
    std::thread::sleep(Duration::from_secs(seconds));
    over.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().unwrap();
    }
    let took = start.elapsed().as_secs_f64();
    let accepted = accepted.load(Ordering::Relaxed);
    if sandbox.is_some() {
        // A clean end delivers what is still waiting; its CPU time counts too.
        process.wait_until_delivered(accepted * 4);
    }
    let cpu = cpu_seconds(process.child.id()) - cpu_before;
    let _ = process.child.kill();
    let _ = process.child.wait();
    if let Some(mut vendors) = sandbox {
        let _ = vendors.child.kill();
        let _ = vendors.child.wait();
    }
    println!(
        "{server:<10} {batch:>6} {clients:>8} {:>12.0} {:>14.0} {:>10.2}",
        accepted as f64 / took,
        accepted as f64 / cpu,
        cpu * 1e6 / accepted as f64
    );
    accepted as f64 / cpu
}

struct Served {
    child: Child,
    url: String,
    admin: String,
}

impl Served {
    fn start(mut command: Command, line: &str) -> Served {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut url, mut admin) = (String::new(), String::new());
        for text in lines.by_ref().map_while(Result::ok) {
            let text = text.trim().to_owned();
            if let Some(rest) = text.strip_prefix(line) {
                url = rest.trim().to_owned();
            }
            if let Some(rest) = text.strip_prefix("admin") {
                admin = rest.trim().to_owned();
            }
            if !url.is_empty() && (line != "tracking API" || text.starts_with("ready")) {
                break;
            }
        }
        std::thread::spawn(move || for _ in lines {});
        Served { child, url, admin }
    }

    fn wait_until_delivered(&mut self, deliveries: u64) {
        let address = self.admin.trim_start_matches("http://").to_owned();
        loop {
            let mut stream = TcpStream::connect(&address).unwrap();
            write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            let done: f64 = text
                .lines()
                .filter(|line| line.starts_with("fanout_deliveries_total{"))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum();
            if done as u64 >= deliveries {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn configuration(folder: &str, sandbox: &str) -> String {
    let mut text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[[sources]]\nname = \"bench\"\n\
         write_key = \"{KEY}\"\n[queue]\npath = \"{folder}/data\"\n[sandbox]\nurl = \"{sandbox}\"\n"
    );
    for n in 1..=4 {
        text.push_str(&format!(
            "[destinations.m{n}]\nadapter = \"mixpanel\"\nsettings = {{ project_token = \"token-{n}\" }}\n"
        ));
    }
    text
}

/// About 0.9 KB, as server SDKs send it.
fn call(client: u64, n: u64) -> String {
    let user = format!("user-{client}-{}", n % 5_000);
    format!(
        r#"{{"type":"identify","messageId":"bench-{client}-{n}","userId":"{user}","timestamp":"2026-08-01T12:00:00.000Z","integrations":{{}},"context":{{"library":{{"name":"@segment/analytics-node","version":"3.1.0"}}}},"_metadata":{{"nodeVersion":"20.20.2","jsRuntime":"node"}},"traits":{{"email":"{user}@example.com","firstName":"Ada","lastName":"Byron","phone":"+44 20 7946 0958","createdAt":"2024-03-05T09:30:00Z","birthday":"1990-12-10","title":"CTO","avatar":"https://example.com/avatars/{user}.png","company":{{"id":"c9","name":"Engine Ltd","industry":"Computing","employee_count":12,"plan":"pro"}},"address":{{"street":"1 Mill St","city":"London","state":"LND","postalCode":"W1A 1AA","country":"GB"}},"plan_tier":"gold","logins":{n},"tags":["a","b"],"beta":true,"score":12.5,"referrer":"newsletter","locale":"en-GB","last_seen_version":"4.17.3"}}}}"#
    )
}

fn send(address: &str, client: u64, batch: u64, accepted: &AtomicU64, over: &AtomicBool) {
    let basic = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(format!("{KEY}:"))
    };
    let mut stream = BufReader::new(TcpStream::connect(address).unwrap());
    let mut n = 0;
    while !over.load(Ordering::Relaxed) {
        let (path, body) = if batch == 1 {
            ("/v1/identify", call(client, n))
        } else {
            let calls: Vec<String> = (n..n + batch).map(|n| call(client, n)).collect();
            ("/v1/batch", format!(r#"{{"batch":[{}],"sentAt":"2026-08-01T12:00:00.010Z"}}"#, calls.join(",")))
        };
        n += batch;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {basic}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let socket = stream.get_mut();
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body.as_bytes()).unwrap();
        let mut length = 0;
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        loop {
            line.clear();
            stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).unwrap();
        accepted.fetch_add(batch, Ordering::Relaxed);
    }
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// The floor: the same HTTP stack, reading the same bodies, syncing them in groups, doing nothing else.
mod floor {
    use std::convert::Infallible;
    use std::io::Write;
    use std::sync::mpsc;

    use http_body_util::{BodyExt, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::sync::oneshot;

    type Waiting = (Bytes, oneshot::Sender<()>);

    pub fn serve(folder: &str) {
        let mut file = std::fs::File::create(format!("{folder}/floor")).unwrap();
        let (sender, waiting) = mpsc::channel::<Waiting>();
        std::thread::spawn(move || {
            while let Ok(first) = waiting.recv() {
                let group: Vec<Waiting> = std::iter::once(first).chain(waiting.try_iter()).collect();
                for (bytes, _) in &group {
                    file.write_all(bytes).unwrap();
                }
                file.sync_data().unwrap();
                for (_, done) in group {
                    let _ = done.send(());
                }
            }
        });
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(listen(sender));
    }

    async fn listen(sender: mpsc::Sender<Waiting>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listening http://{}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = stream.set_nodelay(true);
            let sender = sender.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| answer(request, sender.clone()));
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(
        request: Request<Incoming>,
        sender: mpsc::Sender<Waiting>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let (done, synced) = oneshot::channel();
        sender.send((body, done)).unwrap();
        synced.await.unwrap();
        Ok(Response::builder()
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(b"{\"success\":true}")))
            .unwrap())
    }
}
