//! The binary as an operator runs it: `check`, `preview`, and a call on its way from the tracking API to the vendor,
//! where fanout's sandbox stands in for the vendor. Nothing leaves this machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::{Value, json};

const CONFIGURATION: &str = r#"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[[sources]]
name = "app"
write_key = "a-write-key"
[destinations.cardfile]
settings = { token = "a-token" }
"#;

/// A folder with a configuration, and the binary run in it.
struct Operator(tempfile::TempDir);

impl Operator {
    fn new(more: &str) -> Operator {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("fanout.toml"), format!("{CONFIGURATION}{more}")).unwrap();
        Operator(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cardfile"));
        command.args(arguments).current_dir(self.path()).env("FANOUT_LOG", "warn");
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert!(status.success(), "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let mut process = self.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Running { process, output }
    }
}

/// A process that is ended with the test.
struct Running {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// Reads its output up to a line that starts so, and gives the rest of that line.
    fn wait_for(&mut self, start: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it ended before it said {start:?}");
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim().to_owned();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// One HTTP request to `http://HOST:PORT`; the answer's body, which must come with 200.
fn http(url: &str, method: &str, path: &str, body: &str) -> String {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let key = "YS13cml0ZS1rZXk6"; // "a-write-key:" in base64
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic {key}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    body.to_owned()
}

#[test]
fn the_adapter_stands_beside_the_built_in_ones() {
    let operator = Operator::new("");
    let adapters = operator.run(&["adapters"]);
    assert!(adapters.contains("Cardfile") && adapters.contains("Webhook"), "{adapters}");
    assert!(operator.run(&["adapters", "cardfile"]).contains("API token"));
    assert!(operator.run(&["check"]).contains("cardfile"));
}

#[test]
fn a_preview_follows_canned_answers() {
    let operator = Operator::new("");
    let call = r#"{"userId":"u_1","traits":{"email":"ada@lovelace.example"}}"#;
    std::fs::write(operator.path().join("call.json"), call).unwrap();
    let answers = json!([
        {"status": 200, "body": {"cards": [], "next": "page-2"}},
        {"status": 200, "body": {"cards": [{"id": 7, "reference": "u_1"}]}},
    ]);
    std::fs::write(operator.path().join("answers.json"), answers.to_string()).unwrap();
    let preview = operator.run(&["preview", "--event", "call.json", "--responses", "answers.json", "--json"]);
    let preview: Value = serde_json::from_str(&preview).unwrap();
    assert_eq!(
        steps(preview["requests"].as_array().unwrap(), "url"),
        [
            "GET https://api.cardfile.example/v1/cards?domain=lovelace.example",
            "GET https://api.cardfile.example/v1/cards?domain=lovelace.example&page=page-2",
            "PATCH https://api.cardfile.example/v1/cards/7",
        ]
    );
    assert!(!preview.to_string().contains("a-token"), "{preview}");
}

#[test]
fn a_call_reaches_the_vendor_in_as_many_steps_as_it_takes() {
    let mut sandbox = Operator::new("").start(&["sandbox", "--listen", "127.0.0.1:0"]);
    let vendor = sandbox.wait_for("sandbox ");
    let cards =
        |body: Value| json!({"host": "api.cardfile.example", "method": "GET", "times": 1, "body": body});
    let answers = json!([
        cards(json!({"cards": [{"id": 6, "reference": "u_0"}], "next": "page-2"})),
        cards(json!({"cards": [{"id": 7, "reference": "u_1"}]})),
    ]);
    http(&vendor, "POST", "/_sandbox/answers", &answers.to_string());

    let operator = Operator::new(&format!("[queue]\npath = \"data\"\n[sandbox]\nurl = \"{vendor}\"\n"));
    let mut router = operator.start(&["serve"]);
    let tracking = router.wait_for("tracking API ");
    router.wait_for("ready");
    let call = json!({"userId": "u_1", "traits": {"email": "ada@lovelace.example", "firstName": "Ada"}});
    assert_eq!(http(&tracking, "POST", "/v1/identify", &call.to_string()), r#"{"success":true}"#);

    // Waits until a third request is there.
    http(&vendor, "GET", "/_sandbox/requests?after=2&wait=60", "");
    let received = http(&vendor, "GET", "/_sandbox/requests", "");
    let received: Vec<Value> = received.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps(&received, "path"), ["GET /v1/cards", "GET /v1/cards", "PATCH /v1/cards/7"]);
    assert_eq!(received[2]["body"]["first"], "Ada", "{}", received[2]);
}

/// Requests as `METHOD WHERE`.
fn steps(requests: &[Value], place: &str) -> Vec<String> {
    let text = |request: &Value, member: &str| request[member].as_str().unwrap().to_owned();
    requests.iter().map(|request| format!("{} {}", text(request, "method"), text(request, place))).collect()
}
