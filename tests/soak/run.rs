//! What a run is made of: the process with its data directory and configuration, the vendors and their ledger, and what
//! was sent. It starts the process and looks at what it says of itself; what happens to it is `chaos`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Instant;

use fanout::queue::LaneCounts;
use serde_json::Value;

use super::disk::Disk;
use super::sender::{Call, MOST_CALLS, Refusals};
use super::support::books::{self, Metrics};
use super::support::ledger::{Ledger, Moment, Received};
use super::support::{Process, Reply, Sandbox, free_address, request, write_config};
use super::vendors::{DESTINATIONS, Destination, PLANS, Way};
use super::{PATIENCE, RECOVERY, SENDERS, SOURCES};

pub struct Run {
    pub sandbox: Sandbox,
    pub ledger: Ledger,
    pub data: Disk,
    pub tracking: String,
    pub admin: String,
    life: AtomicU32,
    /// Senders hold it for reading while calls are on their way.
    pub calm: RwLock<()>,
    /// By number: what was sent and may have been accepted, and what was acknowledged.
    pub sent: AtomicU64,
    pub acknowledged: Mutex<BTreeMap<u64, Call>>,
    pub refusals: Refusals,
    pub over: AtomicBool,
    pub has_failed: AtomicBool,
    folder: tempfile::TempDir,
}

impl Run {
    pub fn new() -> Run {
        let folder = tempfile::tempdir().unwrap();
        let adapter = folder.path().join("adapters/plans");
        std::fs::create_dir_all(&adapter).unwrap();
        std::fs::write(adapter.join("manifest.toml"), PLANS).unwrap();
        let sandbox = Sandbox::start();
        Run {
            ledger: Ledger::of(&sandbox.address),
            sandbox,
            data: Disk::new(folder.path().join("data")),
            tracking: free_address(),
            admin: free_address(),
            life: AtomicU32::new(0),
            calm: RwLock::default(),
            sent: AtomicU64::new(0),
            acknowledged: Mutex::default(),
            refusals: Refusals::default(),
            over: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            folder,
        }
    }

    fn config(&self, visits: bool) -> String {
        let sources = SOURCES.iter();
        let sources: String = sources
            .map(|(name, key)| format!("[[sources]]\nname = \"{name}\"\nwrite_key = \"{key}\"\n"))
            .collect();
        let there = DESTINATIONS.iter().filter(|one| visits || one.way != Way::Visits);
        let destinations: String =
            there.map(|one| format!("[destinations.{}]\n{}\n", one.name, one.table)).collect();
        let text = format!(
            r#"
            adapters_dir = "{}"
            [server]
            listen = "{}"
            drain_timeout = "2s"
            [admin]
            listen = "{}"
            [queue]
            path = "{}"
            [sandbox]
            url = "http://{}"
            {sources}
            {destinations}
            "#,
            self.folder.path().join("adapters").display(),
            self.tracking,
            self.admin,
            self.data.path.join("data").display(),
            self.sandbox.address,
        );
        write_config(self.folder.path(), &text)
    }

    /// Starts the process, with the destination that comes and goes or without it.
    pub fn start(&self, visits: bool) -> Process {
        let config = self.config(visits);
        let life = self.life.fetch_add(1, Ordering::Relaxed) + 1;
        let arguments = ["serve", "--config", &config];
        let mut fanout = Process::fanout_in(&[("LIFE", &life.to_string())], &arguments);
        fanout.wait_for("ready");
        fanout
    }

    pub fn life(&self) -> u32 {
        self.life.load(Ordering::Relaxed)
    }

    /// Now, as the vendors see it.
    pub fn moment(&self) -> Moment {
        let counts = request(&self.sandbox.address, "GET", "/_sandbox/counts", &[], b"").unwrap().json();
        Moment { life: self.life(), request: counts["requests"].as_u64().unwrap() }
    }

    /// Asks the admin API something that it must be able to answer.
    pub fn ask(&self, method: &str, path: &str, question: &Value) -> Value {
        let body = if question.is_null() { String::new() } else { question.to_string() };
        let reply: Reply = request(&self.admin, method, path, &[], body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{method} {path} {question}: {}", reply.body);
        reply.json()
    }

    pub fn acknowledged(&self) -> BTreeMap<u64, Call> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// What a destination's vendor has received by now.
    pub fn received(&self, one: &Destination) -> Received {
        assert!(self.ledger.catch_up(PATIENCE, self.moment().request), "the ledger does not catch up");
        self.ledger.read(|vendors| vendors.get(one.host).cloned().unwrap_or_default())
    }

    /// What the data directory says of all destinations, while no process has it.
    pub fn lanes(&self) -> BTreeMap<String, LaneCounts> {
        let names: Vec<&str> = DESTINATIONS.iter().map(|one| one.name).collect();
        books::lanes(&self.data.path.join("data"), &names).expect("the data directory can be opened")
    }

    /// The first call of which it is certain that the journal still has it; a full disk makes it let go of calls early.
    /// Sequences are at least as high as the numbers of calls, but for those that were on their way at the same time.
    pub fn retained_from(&self) -> u64 {
        let names = std::fs::read_dir(self.data.path.join("data")).unwrap().flatten();
        let segments =
            names.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".seg")?.parse().ok());
        match segments.min().unwrap() {
            1 => 1,
            first => first + SENDERS * MOST_CALLS,
        }
    }

    /// Between two lives the data directory accounts for every call, also after a crash: how many calls every destination
    /// has that is always there, whatever became of them, and how many the one has that comes and goes.
    pub fn account(&self, how: &str) -> (u64, u64) {
        let before = self.acknowledged.lock().unwrap().len() as u64;
        let lanes = self.lanes();
        let totals = |visits| {
            let some = DESTINATIONS.iter().filter(move |one| (one.way == Way::Visits) == visits);
            some.map(|one| books::total(&lanes[one.name])).collect::<BTreeSet<u64>>()
        };
        let different = totals(false);
        assert_eq!(different.len(), 1, "a destination has more calls than another: {lanes:#?}");
        let journalled = *different.first().unwrap();
        println!("life {} was {how}: {journalled} calls journalled", self.life());
        assert!(before <= journalled, "{before} calls were acknowledged and {journalled} are there");
        assert!(journalled <= self.sent.load(Ordering::Relaxed), "calls were journalled twice");
        (journalled, *totals(true).first().unwrap())
    }

    /// Waits until no destination has anything left to do.
    pub fn nothing_is_pending(&self) {
        for one in &DESTINATIONS {
            self.wait_until(&format!("{} has something pending for ever", one.name), || {
                Metrics::of(&self.admin).pending(one.name) == Some(0)
            });
        }
    }

    /// Asks until something is so: there is nothing to wait on.
    pub fn wait_until(&self, otherwise: &str, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + RECOVERY;
        while !is_so() {
            assert!(Instant::now() < end, "{otherwise}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
