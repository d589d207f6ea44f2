//! What the tests of the real binary share: starting and ending processes, speaking HTTP, reading the sandbox.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

pub mod books;
pub mod ledger;

use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up; generous, since machines differ.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running process whose standard output is read line by line.
pub struct Process {
    child: Child,
    /// Locked so that a test's threads may share what holds a process; only its owner reads them.
    lines: Mutex<Receiver<String>>,
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts a command; what it writes to standard error is passed on, so that it stands in a failing test's output.
    pub fn start(mut command: Command) -> Process {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Process { child, lines: Mutex::new(lines), stdin }
    }

    /// Starts the binary under test.
    pub fn fanout(arguments: &[&str]) -> Process {
        Process::fanout_in(&[], arguments)
    }

    /// Starts the binary under test with variables of the environment.
    pub fn fanout_in(environment: &[(&str, &str)], arguments: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
        command.args(arguments).env("FANOUT_LOG", "warn").envs(environment.iter().copied());
        Process::start(command)
    }

    /// Waits for a line that starts so and answers what follows.
    pub fn wait_for(&mut self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.get_mut().unwrap().recv_timeout(left) {
                Ok(line) => {
                    if let Some(rest) = line.trim().strip_prefix(start) {
                        return rest.trim().to_owned();
                    }
                }
                Err(error) => panic!("no line {start:?}: {error}; the process: {:?}", self.child.try_wait()),
            }
        }
    }

    /// Everything printed from now on until the process ends.
    pub fn rest_of_output(&mut self) -> String {
        let mut output = String::new();
        while let Ok(line) = self.lines.get_mut().unwrap().recv_timeout(PATIENCE) {
            output.push_str(&line);
            output.push('\n');
        }
        output
    }

    /// Writes a line to its standard input.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, then waits; answers whether it ended with success.
    pub fn terminate(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }

    /// SIGTERM, without waiting for what comes of it.
    pub fn ask_to_end(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// SIGINT, as Ctrl-C sends it.
    pub fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    /// Waits for its end, for as long as patience lasts; answers its exit code.
    pub fn exit_code(mut self) -> Option<i32> {
        // Its output ends when it does.
        self.rest_of_output();
        self.child.wait().unwrap().code()
    }

    /// Waits for its own end; answers whether it ended with success.
    pub fn finish(mut self) -> bool {
        drop(self.stdin.take());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// One request on a connection of its own. An error is the network's: refused, reset, cut off.
pub fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut message = head.into_bytes();
    message.extend_from_slice(body);
    stream.write_all(&message)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let cut_off = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "no whole answer");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut_off)?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(cut_off());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut body = Vec::new();
    match length.and_then(|(_, value)| value.parse().ok()) {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
        }
        None => {
            reader.read_to_end(&mut body)?;
        }
    }
    Ok(Reply { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Posts JSON with a write key by Basic authorisation.
pub fn post(address: &str, path: &str, key: &str, body: &serde_json::Value) -> std::io::Result<Reply> {
    use base64::Engine;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{key}:"));
    request(
        address,
        "POST",
        path,
        &[("Authorization", &format!("Basic {basic}"))],
        body.to_string().as_bytes(),
    )
}

/// A loopback address that nobody listens on at the moment; for a server that must come back at the same place. Its port
/// is none that the system gives to outgoing connections, of which one could take it before the server does.
pub fn free_address() -> String {
    loop {
        let port = 10_000 + RandomState::new().hash_one(()) % 20_000;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// The stand-in for the vendors, as a process of its own.
pub struct Sandbox {
    pub process: Process,
    pub address: String,
}

impl Sandbox {
    pub fn start() -> Sandbox {
        Sandbox::start_with(&[])
    }

    /// One that counts what comes and keeps none of it.
    pub fn counting() -> Sandbox {
        Sandbox::start_with(&["--count-only"])
    }

    fn start_with(more: &[&str]) -> Sandbox {
        let mut process = Process::fanout(&[&["sandbox", "--listen", "127.0.0.1:0"], more].concat());
        let url = process.wait_for("sandbox");
        Sandbox { process, address: url.trim_start_matches("http://").to_owned() }
    }

    /// Adds answers, one rule or a list, behind those that are scripted already.
    pub fn script(&self, rules: &serde_json::Value) {
        let reply =
            request(&self.address, "POST", "/_sandbox/answers", &[], rules.to_string().as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    /// Forgets every scripted answer: from now on all vendors are well.
    pub fn recover(&self) {
        let reply = request(&self.address, "DELETE", "/_sandbox/answers", &[], b"").unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    /// What it received for a host after a number; waits a little for something to come.
    fn after(&self, host: &str, number: u64) -> Vec<serde_json::Value> {
        let path = format!("/_sandbox/requests?host={host}&after={number}&wait=5");
        let reply = request(&self.address, "GET", &path, &[], b"").unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until what a host received satisfies the test, and answers it.
    pub fn wait_until(
        &self,
        host: &str,
        what: &str,
        enough: impl Fn(&[serde_json::Value]) -> bool,
    ) -> Vec<serde_json::Value> {
        let deadline = Instant::now() + PATIENCE;
        let mut received = Vec::new();
        let mut last = 0;
        loop {
            received.extend(self.after(host, last));
            last = received.last().and_then(|request| request["number"].as_u64()).unwrap_or(0);
            if enough(&received) {
                return received;
            }
            assert!(Instant::now() < deadline, "{what}: {host} received only {} requests", received.len());
        }
    }
}

/// Writes a configuration and answers its path.
pub fn write_config(folder: &Path, text: &str) -> String {
    let path = folder.join("fanout.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// The write key of a `Service`'s only source.
pub const KEY: &str = "test-write-key";

/// A fanout with an address, a configuration and a data directory of its own: started, killed and started again at will.
pub struct Service {
    /// Where the tracking API listens.
    pub address: String,
    /// Where the admin API listens.
    pub admin: String,
    /// The data directory.
    pub data: PathBuf,
    config: String,
    _folder: tempfile::TempDir,
}

impl Service {
    /// One that sends to a stand-in instead of the vendors. `destinations` are tables as they stand in a file.
    pub fn new(sandbox: &str, destinations: &str) -> Service {
        Service::with_server(sandbox, "", destinations)
    }

    /// One with further lines of `[server]`.
    pub fn with_server(sandbox: &str, server: &str, destinations: &str) -> Service {
        let folder = tempfile::tempdir().unwrap();
        let (address, admin) = (free_address(), free_address());
        let data = folder.path().join("data");
        let config = format!(
            r#"
            [server]
            listen = "{address}"
            {server}
            [admin]
            listen = "{admin}"
            [[sources]]
            name = "app"
            write_key = "{KEY}"
            [queue]
            path = "{}"
            [sandbox]
            url = "{sandbox}"
            {destinations}
            "#,
            data.display(),
        );
        let config = write_config(folder.path(), &config);
        Service { address, admin, data, config, _folder: folder }
    }

    /// Starts it and waits until it is ready.
    pub fn serve(&self) -> Process {
        self.serve_in(&[])
    }

    /// Starts it with variables of the environment and waits until it is ready.
    pub fn serve_in(&self, environment: &[(&str, &str)]) -> Process {
        let mut process = Process::fanout_in(environment, &["serve", "--config", &self.config]);
        process.wait_for("ready");
        process
    }

    /// Posts to a path of the tracking API, which must take it.
    pub fn accept(&self, path: &str, body: &serde_json::Value) {
        let reply = post(&self.address, path, KEY, body).unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"success":true}"#));
    }
}
