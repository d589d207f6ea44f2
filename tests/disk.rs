//! The real binary on disks that fill up, turn read-only, lose files and rot: no accepted call is lost, it goes on by
//! itself when the disk does, and each message says what to do. What cannot be had without a disk of its own (errors of
//! single reads, writes and syncs) is tested at the journal, on a disk in memory.
//!
//! Full and read-only file systems are small ones in memory, mounted for the test. Where mounting is not permitted, the
//! test says so; the same faults are injected at the journal in any case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]
#![allow(clippy::print_stdout, reason = "says what could not be tested")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{KEY, PATIENCE, Process, Reply, Sandbox, free_address, post, request, write_config};

const HOST: &str = "hook.example.com";

/// A file system of its own; gone when dropped.
struct Mount {
    folder: tempfile::TempDir,
}

impl Mount {
    /// `None` where this process may not mount, which is said.
    fn new(mebibytes: u32) -> Option<Mount> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m,mode=0777");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Mount { folder });
        }
        println!("mounting is not permitted here: only the injected faults at the journal are tested");
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        let status = Command::new("mount").args(["-o", &option]).arg(self.path()).status().unwrap();
        assert!(status.success());
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.path().join("filler")).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// A fanout with a data directory in a chosen place, whose messages are kept.
struct Service {
    address: String,
    config: String,
    data: PathBuf,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Service {
    fn new(place: &Path, sandbox: &str) -> Service {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (address, data) = (free_address(), place.join("data"));
        let text = format!(
            r#"
            [server]
            listen = "{address}"
            drain_timeout = "1s"
            [admin]
            listen = "127.0.0.1:0"
            [[sources]]
            name = "app"
            write_key = "{KEY}"
            [queue]
            path = "{}"
            max_disk = "64 MiB"
            [sandbox]
            url = "http://{sandbox}"
            [destinations.hook]
            adapter = "webhook"
            settings = {{ url = "https://{HOST}/in", retry_4xx = false }}
            "#,
            data.display()
        );
        let config = write_config(folder.path(), &text);
        Service { address, config, data, log: folder.path().join("log"), _folder: folder }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
        command.args(["serve", "--config", &self.config]).env("FANOUT_LOG", "info");
        command.stderr(File::options().append(true).create(true).open(&self.log).unwrap());
        command
    }

    fn serve(&self) -> Process {
        let mut process = Process::start(self.command());
        process.wait_for("ready");
        process
    }

    /// It must refuse to start, which is no crash, and say why in one go.
    fn refuses(&self, parts: &[&str]) {
        self.refused(self.command(), parts);
    }

    fn refused(&self, command: Command, parts: &[&str]) {
        let _ = fs::remove_file(&self.log);
        let mut command = command;
        command.stderr(File::options().append(true).create(true).open(&self.log).unwrap());
        assert_eq!(Process::start(command).exit_code(), Some(1), "{}", self.messages());
        let messages = self.messages();
        for part in parts {
            assert!(messages.contains(part), "{part:?} is missing: {messages}");
        }
        assert!(!messages.contains("panicked"), "{messages}");
    }

    fn messages(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait_for_message(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let messages = self.messages();
            if let Some(line) = messages.lines().find(|line| line.contains(part)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "{part:?} was not said: {messages}");
            // A file is looked at; there is nothing to wait on.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn send(&self, n: u64, padding: usize) -> std::io::Result<Reply> {
        post(&self.address, "/v1/identify", KEY, &call(n, padding))
    }

    fn accept(&self, calls: std::ops::Range<u64>) {
        for n in calls {
            let reply = self.send(n, 0).unwrap();
            assert_eq!(reply.status, 200, "{}", reply.body);
        }
    }

    /// Sends one call until it is answered so.
    fn until_answered(&self, n: u64, status: u16) -> Reply {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.send(n, 0).unwrap();
            if reply.status == status {
                return reply;
            }
            assert!(Instant::now() < deadline, "still {}: {}\n{}", reply.status, reply.body, self.messages());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> =
            fs::read_dir(&self.data).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        found.sort();
        found
    }
}

fn call(n: u64, padding: usize) -> Value {
    json!({"type": "identify", "messageId": format!("m-{n}"), "userId": format!("u-{n}"), "traits": {"n": n, "padding": "p".repeat(padding)}})
}

fn received(requests: &[Value]) -> BTreeSet<u64> {
    let items = requests.iter().filter(|request| request["status"] == 200).flat_map(
        |request| match &request["body"] {
            Value::Array(items) => items.clone(),
            one => vec![one.clone()],
        },
    );
    items.map(|item| item["data"]["traits"]["n"].as_u64().unwrap()).collect()
}

fn wait_for_all(sandbox: &Sandbox, expected: &BTreeSet<u64>) {
    sandbox.wait_until(HOST, "every accepted call", |requests| expected.is_subset(&received(requests)));
}

fn let_vendor_wait(sandbox: &Sandbox) {
    // A pause of the whole destination: it goes on soon after the vendor does.
    let_vendor_answer(sandbox, &json!({"host": HOST, "status": 429, "headers": {"retry-after": "1"}}));
}

fn let_vendor_answer(sandbox: &Sandbox, rule: &Value) {
    let reply =
        request(&sandbox.address, "POST", "/_sandbox/answers", &[], rule.to_string().as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
}

fn let_vendor_work(sandbox: &Sandbox) {
    request(&sandbox.address, "DELETE", "/_sandbox/answers", &[], b"").unwrap();
}

fn let_vendor_wait_no_more(sandbox: &Sandbox, rule: &Value) {
    let_vendor_work(sandbox);
    let_vendor_answer(sandbox, rule);
}

fn asks_to_try_again(reply: &Reply, code: &str) {
    assert_eq!(reply.status, 503, "{}", reply.body);
    let seconds: u32 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    let body = reply.json();
    assert_eq!(body["code"], code, "{body}");
    assert!(body["message"].as_str().unwrap().contains("send them again"), "{body}");
}

#[test]
fn a_full_disk_costs_no_accepted_call_and_needs_no_restart() {
    let Some(mount) = Mount::new(16) else { return };
    let sandbox = Sandbox::start();
    let service = Service::new(mount.path(), &sandbox.address);
    let fanout = service.serve();
    let (accepted, over) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicBool::new(false)));
    let next = Arc::new(AtomicU64::new(0));
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let (accepted, over, next, address) =
                (accepted.clone(), over.clone(), next.clone(), service.address.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Ok(reply) = post(&address, "/v1/identify", KEY, &call(n, 500)) else { continue };
                    match reply.status {
                        200 => drop(accepted.lock().unwrap().insert(n)),
                        _ => asks_to_try_again(&reply, "queue_full"),
                    }
                }
            })
        })
        .collect();
    let enough = |count: usize| {
        let deadline = Instant::now() + PATIENCE;
        while accepted.lock().unwrap().len() < count {
            assert!(Instant::now() < deadline, "{}", service.messages());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    enough(100);
    // While calls come in, so that writes and the state's own are hit anywhere.
    mount.fill();
    let said = service.wait_for_message("calls are answered 503");
    assert!(said.contains("make room") && said.contains("data"), "{said}");
    let before = accepted.lock().unwrap().len();
    mount.make_room();
    service.wait_for_message("calls are taken again");
    enough(before + 100);

    // Killed on a full disk, and started on it.
    mount.fill();
    service.until_answered(1_000_000, 503);
    fanout.kill();
    over.store(true, Ordering::Relaxed);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let fanout = service.serve();
    asks_to_try_again(&service.send(1_000_001, 0).unwrap(), "queue_full");
    mount.make_room();
    service.until_answered(1_000_001, 200);
    let mut expected = accepted.lock().unwrap().clone();
    expected.insert(1_000_001);
    wait_for_all(&sandbox, &expected);
    assert!(fanout.terminate());
    let messages = service.messages();
    assert!(!messages.contains("damaged") && !messages.contains("panicked"), "{messages}");
}

#[test]
fn a_state_that_cannot_grow_on_a_full_disk_stops_deliveries_and_harms_none() {
    let Some(mount) = Mount::new(16) else { return };
    let sandbox = Sandbox::start();
    let_vendor_wait(&sandbox);
    let service = Service::new(mount.path(), &sandbox.address);
    let fanout = service.serve();
    let calls: Vec<Value> = (0..400).map(|n| call(n, 0)).collect();
    let reply = post(&service.address, "/v1/batch", KEY, &json!({"batch": calls})).unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"success":true}"#));
    mount.fill();
    // Each becomes a dead letter, which takes room in the state.
    let refusal = "no ".repeat(200);
    let_vendor_wait_no_more(&sandbox, &json!({"host": HOST, "status": 422, "body": {"error": refusal}}));
    let said = service.wait_for_message("the lanes' state cannot be written down");
    assert!(said.contains("state.redb") && said.contains("make room on that disk"), "{said}");
    fanout.kill();
    fs::remove_file(&service.log).unwrap();
    let fanout = service.serve();
    service.wait_for_message("the lanes' state cannot be written down");
    let_vendor_work(&sandbox);
    mount.make_room();
    service.wait_for_message("the lanes' state is written down again");
    sandbox.wait_until(HOST, "an answer for every call", |requests| {
        let answered = |request: &&Value| matches!(request["status"].as_u64(), Some(200 | 422));
        let users =
            requests.iter().filter(answered).map(|request| request["body"]["data"]["userId"].to_string());
        users.collect::<BTreeSet<_>>().len() == 400
    });
    assert!(fanout.terminate());
}

#[test]
fn a_first_start_on_a_full_disk_says_so_and_leaves_nothing_in_the_way() {
    let Some(mount) = Mount::new(4) else { return };
    let sandbox = Sandbox::start();
    let service = Service::new(mount.path(), &sandbox.address);
    mount.fill();
    service.refuses(&["make room on that disk", "data"]);
    mount.make_room();
    let fanout = service.serve();
    assert!(fanout.terminate());
}

#[test]
fn a_read_only_disk_is_a_message_and_loses_nothing() {
    let Some(mount) = Mount::new(16) else { return };
    let sandbox = Sandbox::start();
    let_vendor_wait(&sandbox);
    let service = Service::new(mount.path(), &sandbox.address);
    let fanout = service.serve();
    service.accept(0..20);
    fanout.kill();
    mount.remount("ro");
    service.refuses(&["read-only", "mount it writable", "data"]);
    mount.remount("rw");
    let_vendor_work(&sandbox);
    let fanout = service.serve();
    wait_for_all(&sandbox, &(0..20).collect());
    assert!(fanout.terminate());
}

#[test]
fn a_directory_without_permission_is_a_message() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let sandbox = Sandbox::start();
    let service = Service::new(place.path(), &sandbox.address);
    fs::create_dir(&service.data).unwrap();
    fs::set_permissions(&service.data, fs::Permissions::from_mode(0o500)).unwrap();
    let mut command = service.command();
    if rustix::process::geteuid().is_root() {
        // Nothing is forbidden to root.
        command.uid(65_534);
        let reaches = Command::new(env!("CARGO_BIN_EXE_fanout")).arg("--version").uid(65_534).output();
        if !reaches.is_ok_and(|output| output.status.success()) {
            return println!("another user cannot reach the binary here: not tested");
        }
    }
    let parts = ["ermission denied", "let the user that this process runs as", "data"];
    service.refused(command, &parts);
}

#[test]
fn a_data_directory_that_is_moved_away_is_missed_and_may_come_back() {
    let place = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start();
    let_vendor_wait(&sandbox);
    let service = Service::new(place.path(), &sandbox.address);
    let fanout = service.serve();
    service.accept(0..20);
    let elsewhere = place.path().join("elsewhere");
    fs::rename(&service.data, &elsewhere).unwrap();
    asks_to_try_again(&service.send(20, 0).unwrap(), "queue_failed");
    let said = service.wait_for_message("calls are answered 503");
    assert!(said.contains("moved or removed") && said.contains("put it back"), "{said}");
    assert!(!service.data.exists(), "nobody else's directory is begun in its place");
    fs::rename(&elsewhere, &service.data).unwrap();
    service.accept(20..40);
    fanout.kill();
    let_vendor_work(&sandbox);
    let fanout = service.serve();
    wait_for_all(&sandbox, &(0..40).collect());
    assert!(fanout.terminate());
}

#[test]
fn a_data_directory_that_is_removed_refuses_calls_and_ends_in_order() {
    let place = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start();
    let service = Service::new(place.path(), &sandbox.address);
    let fanout = service.serve();
    service.accept(0..5);
    fs::remove_dir_all(&service.data).unwrap();
    for n in 5..10 {
        asks_to_try_again(&service.send(n, 0).unwrap(), "queue_failed");
    }
    // What was accepted before is in memory still.
    wait_for_all(&sandbox, &(0..5).collect());
    assert!(fanout.terminate());
    let fanout = service.serve();
    service.accept(5..10);
    wait_for_all(&sandbox, &(0..10).collect());
    assert!(fanout.terminate());
}

#[test]
fn at_max_disk_the_alarm_names_the_lane_and_the_setting_and_room_is_made_by_itself() {
    let place = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start();
    let_vendor_wait(&sandbox);
    let service = Service::new(place.path(), &sandbox.address);
    let fanout = service.serve();
    let mut accepted = BTreeSet::new();
    for n in 0.. {
        let reply = service.send(n, 30_000).unwrap();
        if reply.status != 200 {
            asks_to_try_again(&reply, "queue_full");
            break;
        }
        accepted.insert(n);
    }
    assert!(accepted.len() > 1500, "{}", accepted.len());
    let said = service.wait_for_message("calls are answered 503");
    for part in ["queue.max_disk", "`hook`", "max_backlog", &format!("{} unfinished", accepted.len())] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let total: u64 = fs::read_dir(&service.data).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(total <= 64 << 20, "{total}");
    let_vendor_work(&sandbox);
    let last = 1_000_000;
    service.until_answered(last, 200);
    accepted.insert(last);
    service.wait_for_message("calls are taken again");
    wait_for_all(&sandbox, &accepted);
    assert!(fanout.terminate());
}

#[test]
fn a_damaged_record_costs_that_call_and_is_said_once() {
    for (is_last, expected) in [(false, 19), (true, 19)] {
        let place = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::start();
        let_vendor_wait(&sandbox);
        let service = Service::new(place.path(), &sandbox.address);
        let fanout = service.serve();
        service.accept(0..20);
        // An orderly end: the state knows how many there are.
        assert!(fanout.terminate());
        let segment = &service.segments()[0];
        let mut bytes = fs::read(segment).unwrap();
        let lost = if is_last { "m-19" } else { "m-7\"" };
        let at = bytes.windows(4).position(|window| window == lost.as_bytes()).unwrap();
        bytes[at] ^= 0x40;
        fs::write(segment, &bytes).unwrap();
        fs::remove_file(&service.log).unwrap();
        let_vendor_work(&sandbox);
        let fanout = service.serve();
        let others = (0..20).filter(|n| *n != if is_last { 19 } else { 7 }).collect();
        wait_for_all(&sandbox, &others);
        assert_eq!(others.len(), expected);
        service.accept(20..21);
        assert!(fanout.terminate());
        let messages = service.messages();
        let said: Vec<_> = messages.lines().filter(|line| line.contains("damaged")).collect();
        let [said] = &said[..] else { panic!("{messages}") };
        for part in
            [&segment.display().to_string(), "from byte", "up to 1 calls", "restore the file from a copy"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn a_damaged_state_is_refused_and_an_older_copy_of_it_will_do() {
    let place = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start();
    let service = Service::new(place.path(), &sandbox.address);
    let fanout = service.serve();
    service.accept(0..5);
    wait_for_all(&sandbox, &(0..5).collect());
    assert!(fanout.terminate());
    let state = service.data.join("state.redb");
    let copy = fs::read(&state).unwrap();
    let_vendor_wait(&sandbox);
    let fanout = service.serve();
    service.accept(5..20);
    fanout.kill();
    let before: Vec<_> = service.segments().iter().map(|path| fs::read(path).unwrap()).collect();

    let good = fs::read(&state).unwrap();
    for damaged in [b"not what it was".to_vec(), good[..good.len() / 2].to_vec(), vec![0; good.len()]] {
        fs::write(&state, damaged).unwrap();
        service.refuses(&["state.redb", "copy", "docs/operations.md"]);
    }
    fs::remove_file(&state).unwrap();
    service.refuses(&["state.redb is missing", "copy", "docs/operations.md"]);
    let after: Vec<_> = service.segments().iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(before == after, "the calls are untouched");

    fs::write(&state, copy).unwrap();
    let_vendor_work(&sandbox);
    let fanout = service.serve();
    wait_for_all(&sandbox, &(0..20).collect());
    assert!(fanout.terminate());
}

#[test]
fn a_journal_of_a_newer_format_is_refused_and_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start();
    let service = Service::new(place.path(), &sandbox.address);
    let fanout = service.serve();
    service.accept(0..3);
    wait_for_all(&sandbox, &(0..3).collect());
    assert!(fanout.terminate());
    let segment = &service.segments()[0];
    let good = fs::read(segment).unwrap();
    let mut newer = good.clone();
    newer[8] = 2;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&newer[..12]), &newer[16..48]);
    newer[12..16].copy_from_slice(&checksum.to_le_bytes());
    fs::write(segment, &newer).unwrap();
    service.refuses(&[
        "format version 2",
        "versions up to 1",
        "newer program",
        &segment.display().to_string(),
    ]);
    assert!(fs::read(segment).unwrap() == newer);
    fs::write(segment, &good).unwrap();
    assert!(service.serve().terminate());
}
