//! `fanout demo`: router and sandbox in one process, the specifications' example calls, and what each vendor received.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use fanout_sdk::adapter::Adapter;
use fanout_sdk::destination::{Destination, Request, Transport};

use super::examples;
use super::serve::{Signals, addresses};
use super::{Ending, block_on, output, sandbox};
use crate::app::{Instance, StartError};
use crate::config::{self, AdapterSet, Config, World};
use crate::sandbox::{Sandbox, record::Received};
use crate::transport::{self, HttpTransport};

const CONFIGURATION: &str = include_str!("demo.toml");
const WRITE_KEY: &str = "demo-key-0001";
/// The address that the README names; another one where it is taken.
const USUAL_ADDRESS: &str = "127.0.0.1:8080";
const USUAL_ADMIN_ADDRESS: &str = "127.0.0.1:8081";
const ANY_ADDRESS: &str = "127.0.0.1:0";
/// How often the demo looks whether everything has been delivered.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long it waits for that.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the demo.
pub fn run(built_in: &[Adapter], out: &mut dyn Write) -> io::Result<Ending> {
    block_on(async {
        // Before anything is there that would be left behind.
        let mut signals = Signals::new()?;
        let data = DataDirectory::new();
        let sandbox = match sandbox::start(built_in, "127.0.0.1:0", false).await {
            Ok(sandbox) => sandbox,
            Err(error) => return failed(&error.to_string()),
        };
        let adapters = AdapterSet::open(built_in, None);
        let (config, instance) = match start(&sandbox, &data, built_in, &adapters).await {
            Ok(started) => started,
            Err(problem) => return failed(&problem),
        };
        let ending = tokio::select! {
            ending = show(&config, &adapters, &instance, &sandbox, out) => ending,
            _ = signals.next() => Ok(Ending::Done),
        };
        instance.stop().await;
        ending
    })?
}

/// Starts at the usual addresses, or at any where others have them: also where they were taken just now.
async fn start(
    sandbox: &Sandbox,
    data: &DataDirectory,
    built_in: &[Adapter],
    adapters: &AdapterSet,
) -> Result<(Config, Instance), String> {
    let usual =
        configuration(sandbox, data, built_in, &free_or(USUAL_ADDRESS), &free_or(USUAL_ADMIN_ADDRESS))?;
    match Instance::start(&usual, adapters).await {
        Ok(instance) => return Ok((usual, instance)),
        Err(StartError::Listen { .. }) => {}
        Err(error) => return Err(error.to_string()),
    }
    let other = configuration(sandbox, data, built_in, ANY_ADDRESS, ANY_ADDRESS)?;
    let instance = Instance::start(&other, adapters).await.map_err(|error| error.to_string())?;
    Ok((other, instance))
}

fn failed(problem: &str) -> io::Result<Ending> {
    output::complain(problem);
    Ok(Ending::Failed)
}

async fn show(
    config: &Config,
    adapters: &AdapterSet,
    instance: &Instance,
    sandbox: &Sandbox,
    out: &mut dyn Write,
) -> io::Result<Ending> {
    addresses(instance, out)?;
    writeln!(
        out,
        "sandbox       {}   (stands in for the vendors; nothing leaves this machine)",
        sandbox.url()
    )?;
    for (about, call) in examples::ALL {
        if let Err(problem) = post(instance, about, call, out).await? {
            return failed(&problem);
        }
    }
    if !delivered(config, instance).await {
        return failed("the example calls were not delivered within 30 s; this is a bug");
    }
    let mut vendors = Vendors::new(config, adapters);
    vendors.show_new(sandbox, out)?;
    if !io::stdin().is_terminal() {
        return Ok(Ending::Done);
    }
    writeln!(out, "\nIt stays up until Ctrl-C. Post a call of your own:\n")?;
    writeln!(out, "  curl -u {WRITE_KEY}: http://{}/v1/identify \\", instance.tracking)?;
    writeln!(
        out,
        "    -d '{{\"userId\":\"u_1\",\"traits\":{{\"email\":\"ada@example.com\",\"firstName\":\"Ada\"}}}}'\n"
    )?;
    out.flush()?;
    loop {
        tokio::time::sleep(LOOK_AGAIN * 10).await;
        vendors.show_new(sandbox, out)?;
    }
}

/// Sends an example as an application would, over HTTP.
async fn post(
    instance: &Instance,
    about: &str,
    call: &'static str,
    out: &mut dyn Write,
) -> io::Result<Result<(), String>> {
    writeln!(out, "\n── call: {about}")?;
    writeln!(out, "{call}")?;
    out.flush()?;
    let options = transport::Options { allow_private_networks: true, ..transport::Options::default() };
    let client = match HttpTransport::new(&options) {
        Ok(client) => client,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{WRITE_KEY}:"));
    let request = Request {
        name: "identify".into(),
        method: "POST",
        url: format!("http://{}/v1/identify", instance.tracking),
        headers: vec![("Authorization".into(), format!("Basic {login}"))],
        body: call.into(),
        timeout: PATIENCE,
    };
    match client.send(&request).await {
        Ok(answer) if answer.status == 200 => {
            writeln!(out, "   answer: 200 {}", String::from_utf8_lossy(&answer.body))?;
            Ok(Ok(()))
        }
        Ok(answer) => Ok(Err(format!("answer: {} {}", answer.status, String::from_utf8_lossy(&answer.body)))),
        Err(error) => Ok(Err(error.to_string())),
    }
}

async fn delivered(config: &Config, instance: &Instance) -> bool {
    let all_done =
        || config.destinations.iter().all(|destination| instance.unfinished(&destination.name) == 0);
    let wait = async {
        while !all_done() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.is_ok()
}

/// Shows what vendors received, once each, with the demo's secrets masked.
struct Vendors {
    destinations: Vec<Box<dyn Destination>>,
    shown: u64,
}

impl Vendors {
    fn new(config: &Config, adapters: &AdapterSet) -> Vendors {
        let bound = config.destinations.iter().filter_map(|destination| adapters.bind(destination).ok());
        Vendors { destinations: bound.collect(), shown: 0 }
    }

    fn show_new(&mut self, sandbox: &Sandbox, out: &mut dyn Write) -> io::Result<()> {
        let new: Vec<Received> =
            sandbox.requests().into_iter().filter(|request| request.number > self.shown).collect();
        self.shown = new.last().map_or(self.shown, |request| request.number);
        let mut by_host: BTreeMap<&str, Vec<&Received>> = BTreeMap::new();
        for request in &new {
            by_host.entry(&request.host).or_default().push(request);
        }
        for (host, requests) in by_host {
            writeln!(out, "\n── {host} received")?;
            for request in requests {
                self.show(request, out)?;
            }
        }
        out.flush()
    }

    fn show(&self, request: &Received, out: &mut dyn Write) -> io::Result<()> {
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        writeln!(out, "{} https://{}{}{query}", request.method, request.host, request.path)?;
        for (name, value) in request.headers.iter().filter(|(name, _)| !is_transport_header(name)) {
            writeln!(out, "{name}: {}", self.shown_header(name, value))?;
        }
        if request.body.is_empty() {
            return writeln!(out);
        }
        let body = match serde_json::from_slice::<serde_json::Value>(&request.body) {
            Ok(json) => serde_json::to_string_pretty(&json).unwrap_or_default(),
            Err(_) => String::from_utf8_lossy(&request.body).into_owned(),
        };
        writeln!(out, "\n{}\n", self.mask(&body))
    }

    fn mask(&self, text: &str) -> String {
        self.destinations.iter().fold(text.to_owned(), |text, destination| destination.mask(&text))
    }

    /// A header's value; of what it authorises with, a token that the vendor gave included, its kind alone.
    fn shown_header(&self, name: &str, value: &str) -> String {
        match value.split_once(' ') {
            Some((kind, _)) if name == "authorization" => format!("{kind} ***"),
            _ => self.mask(value),
        }
    }
}

fn is_transport_header(name: &str) -> bool {
    matches!(name, "host" | "content-length" | "accept" | "user-agent" | "connection" | "accept-encoding")
}

fn configuration(
    sandbox: &Sandbox,
    data: &DataDirectory,
    built_in: &[Adapter],
    tracking: &str,
    admin: &str,
) -> Result<Config, String> {
    let variable = |name: &str| match name {
        "TRACKING" => Some(tracking.to_owned()),
        "ADMIN" => Some(admin.to_owned()),
        "DATA" => Some(data.0.display().to_string()),
        "SANDBOX" => Some(sandbox.url()),
        _ => None,
    };
    let world = World { variable: &variable, file: &|_| Err(io::Error::from(io::ErrorKind::NotFound)) };
    let open = |folder: Option<&Path>| AdapterSet::open_boxed(built_in, folder);
    let loaded = config::resolve("demo.toml", CONFIGURATION, &world, &open);
    let first = loaded.errors.first().map(ToString::to_string);
    loaded.config.ok_or_else(|| first.unwrap_or_default())
}

/// The address if nobody listens there, else any free port.
fn free_or(address: &str) -> String {
    match TcpListener::bind(address) {
        Ok(_) => address.to_owned(),
        Err(_) => ANY_ADDRESS.to_owned(),
    }
}

/// A folder of the demo's own, gone when the demo is.
struct DataDirectory(PathBuf);

impl DataDirectory {
    fn new() -> DataDirectory {
        DataDirectory(std::env::temp_dir().join(format!("fanout-demo-{}", uuid::Uuid::new_v4())))
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
