//! A real Chromium without a window, driven by WebDriver, and the site whose pages it opens. Neither knows the router.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Process, request};

/// A browser with a profile of its own; ended when dropped.
pub struct Browser {
    /// Ends the browser's driver when dropped, after the browser itself.
    _driver: Process,
    address: String,
    session: String,
    process: u64,
    _profile: tempfile::TempDir,
}

/// A request that a page made, as the browser reports it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub method: String,
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Sent {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The address without scheme, host and query.
    pub fn path(&self) -> &str {
        let from = self.url.find("//").map_or(0, |at| at + 2);
        let path = self.url[from..].find('/').map_or("", |at| &self.url[from + at..]);
        path.split('?').next().unwrap_or_default()
    }
}

impl Browser {
    pub fn start() -> Browser {
        let mut command = Command::new("chromedriver");
        command.args(["--port=0", "--log-level=SEVERE"]);
        let mut driver = Process::start(command);
        let port = driver.wait_for("ChromeDriver was started successfully on port");
        let address = format!("127.0.0.1:{}", port.trim_end_matches('.'));
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless=new".to_owned(),
            // The tests may run as root, where Chromium has no sandbox; the pages are ours.
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--disable-default-apps".to_owned(),
            // Nothing leaves this machine: an SDK that asks its vendor for something gets no address.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE *.localhost".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            // The router's certificate is one that nobody signed.
            "acceptInsecureCerts": true,
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"performance": "ALL"},
        }}});
        let started = ask(&address, "POST", "/session", &capabilities);
        Browser {
            session: started["sessionId"].as_str().unwrap().to_owned(),
            process: started["capabilities"]["goog:processID"].as_u64().unwrap(),
            _driver: driver,
            address,
            _profile: profile,
        }
    }

    fn tell(&self, command: &str, body: &Value) -> Value {
        ask(&self.address, "POST", &format!("/session/{}/{command}", self.session), body)
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.tell("url", &json!({"url": url}));
    }

    /// Runs a function's body in the page; answers what it returns, of a promise what it gives.
    pub fn run(&self, script: &str) -> Value {
        self.tell("execute/sync", &json!({"script": script, "args": []}))
    }

    /// What pages requested since this was asked last.
    pub fn sent(&self) -> Vec<Sent> {
        let entries = self.tell("se/log", &json!({"type": "performance"}));
        // The rest are the browser's own pages.
        let from_pages = |sent: &Sent| sent.url.starts_with("http");
        entries.as_array().unwrap().iter().filter_map(sent).filter(from_pages).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let ended = request(&self.address, "DELETE", &format!("/session/{}", self.session), &[], b"");
        if ended.is_ok_and(|reply| reply.status == 200) {
            return;
        }
        // The driver did not manage to end it.
        if let Some(process) = i32::try_from(self.process).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    }
}

fn ask(address: &str, method: &str, path: &str, body: &Value) -> Value {
    let reply = request(address, method, path, &[], body.to_string().as_bytes()).unwrap();
    let value = reply.json()["value"].clone();
    assert_eq!(reply.status, 200, "{path}: {}", value["message"]);
    value
}

fn sent(entry: &Value) -> Option<Sent> {
    let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
    let message = &message["message"];
    if message["method"] != "Network.requestWillBeSent" {
        return None;
    }
    let request = &message["params"]["request"];
    let headers = request["headers"].as_object()?.iter();
    Some(Sent {
        method: request["method"].as_str()?.to_owned(),
        url: request["url"].as_str()?.to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap_or_default().to_owned()))
            .collect(),
    })
}

/// A site with the pages of `tests/sdks/browser` and under `/npm/` the installed packages.
pub struct Site {
    /// `http://shop.localhost:PORT`: another site than the router's for the browser.
    pub origin: String,
}

impl Site {
    pub fn start() -> Site {
        let packages = root().join("target/sdks/browser/node_modules");
        assert!(packages.exists(), "{} is missing: ./test installs the SDKs", packages.display());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer(&stream));
            }
        });
        Site { origin: format!("http://shop.localhost:{port}") }
    }

    /// A page's address with its query.
    pub fn page(&self, name: &str, query: &[(&str, &str)]) -> String {
        let encode = |text: &str| -> String {
            text.bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                        char::from(byte).to_string()
                    }
                    byte => format!("%{byte:02X}"),
                })
                .collect()
        };
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        format!("{}/{name}.html?{}", self.origin, query.join("&"))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// One request, one answer. What is not there is 404, as the browser's own question for an icon.
fn answer(mut stream: &TcpStream) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(line)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = line.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
    let file = match path.strip_prefix("/npm/") {
        Some(package) => root().join("target/sdks/browser/node_modules").join(package),
        None => root().join("tests/sdks/browser").join(path.trim_start_matches('/')),
    };
    let contents = std::fs::read(&file);
    let status = if contents.is_ok() { "200 OK" } else { "404 Not Found" };
    let contents = contents.unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content_type(&file),
        contents.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&contents));
}

fn content_type(file: &Path) -> &'static str {
    if file.extension().is_some_and(|extension| extension == "js") { "text/javascript" } else { "text/html" }
}
