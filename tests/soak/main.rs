//! Everything that goes wrong, mixed at random, and the books at the end: vendors that fail in every way and recover, a
//! process that is killed and stopped under load, a full disk, repeated calls, flags, batches large and small. At any
//! moment the data directory accounts for every journalled call at every destination, and in the end the account is the
//! one that the vendors kept.
//!
//! `./soak [SECONDS] [SEED]` runs it for longer. Nothing here is timed: what happens next happens after so many calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]
#![allow(clippy::print_stdout, reason = "the seed and what happened are for who reads a failure")]

mod disk;
mod sender;
#[path = "../support/mod.rs"]
mod support;
mod vendors;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use disk::Disk;
use fanout::queue::Code;
use sender::{Call, Refusals, Sender};
use serde_json::json;
use support::books::{self, Metrics};
use support::ledger::{Arrival, Fate, Ledger, Received, Vendors};
use support::{Process, Sandbox, free_address, request, write_config};
use vendors::{DESTINATIONS, STEADY, bad_moment};

const SENDERS: u64 = 4;
/// Of the sources, each with its write key.
const SOURCES: [(&str, &str); 2] = [("app", "soak-app-key"), ("web", "soak-web-key")];
/// How long the vendors may take to have everything once all is well: requests that hang are given up after 15 s, and
/// waits have grown.
const RECOVERY: Duration = Duration::from_secs(300);
/// How long nothing at all may come before the run has failed.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn every_call_is_accounted_for_at_every_destination() {
    let seed = number_from("FANOUT_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    let is_quick = std::env::var("FANOUT_TESTS").as_deref() == Ok("quick");
    let time =
        Duration::from_secs(number_from("FANOUT_SOAK_SECONDS").unwrap_or(if is_quick { 8 } else { 25 }));
    println!("{} s with seed {seed}: ./soak {0} {seed} runs it again", time.as_secs());

    let run = Run::new();
    run.darken();
    let mut random = fastrand::Rng::with_seed(seed);
    let fanout = std::thread::scope(|scope| {
        let _guard = StopsSenders(&run);
        for sender in 0..SENDERS {
            let random = fastrand::Rng::with_seed(seed.wrapping_add(sender + 1));
            let run = &run;
            scope.spawn(move || Sender { number: sender, random, run, sent: Vec::new() }.run());
        }
        let mut fanout = run.start();
        let end = Instant::now() + time;
        while Instant::now() < end {
            run.wait_for_more_calls(random.u64(5..80));
            fanout = run.something_happens(fanout, &mut random);
        }
        run.sandbox.recover();
        fanout
    });
    run.everything_is_there();
    run.nothing_is_pending();
    assert!(fanout.terminate());
    run.everything_came_in_order();
    run.the_books_agree();
    run.redrive();
    run.the_books_agree();
}

/// The ledger notices what it is there to notice.
#[test]
fn the_ledger_knows_order_from_disorder() {
    use Fate::{Failed, Taken};
    // Each arrival: life, call, fate.
    let cases: [(&[(u32, u64, Fate)], bool, Option<&str>); 9] = [
        (&[(1, 1, Taken), (1, 2, Taken), (1, 9, Taken)], false, None),
        (&[(1, 1, Failed), (1, 1, Taken), (1, 2, Taken)], false, None),
        (&[(1, 1, Taken), (1, 2, Taken), (2, 1, Taken), (2, 2, Taken), (2, 3, Taken)], false, None),
        (&[(1, 1, Failed), (1, 2, Taken)], true, None),
        (&[(1, 1, Failed), (1, 2, Taken)], false, Some("before the end of 1")),
        (&[(1, 2, Taken), (1, 1, Taken)], false, Some("after 2")),
        (&[(1, 1, Taken), (1, 1, Taken)], false, Some("again after its end")),
        (&[(1, 2, Taken), (2, 1, Taken)], false, Some("overtaken by 2")),
        (&[(2, 1, Taken), (1, 1, Taken), (2, 2, Taken)], false, None), // what was killed is read late
    ];
    for (arrivals, gives_up, expected) in cases {
        let mut received = Received::default();
        for (request, (life, call, fate)) in (1..).zip(arrivals) {
            received.add(Arrival { life: *life, request, user: 1, call: *call, fate: *fate });
        }
        let disorder = received.disorder(gives_up);
        let is_expected = |wrong: &String| expected.is_some_and(|expected| wrong.contains(expected));
        assert!(disorder.as_ref().map_or(expected.is_none(), is_expected), "{arrivals:?}: {disorder:?}");
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// A scope waits for all of its threads, also when it fails; there is nobody left then to take their calls.
struct StopsSenders<'a>(&'a Run);

impl Drop for StopsSenders<'_> {
    fn drop(&mut self) {
        self.0.has_failed.store(std::thread::panicking(), Ordering::Relaxed);
        self.0.over.store(true, Ordering::Relaxed);
    }
}

struct Run {
    sandbox: Sandbox,
    ledger: Ledger,
    data: Disk,
    config: String,
    tracking: String,
    admin: String,
    life: AtomicU32,
    /// By number: what was sent and may have been accepted, and what was acknowledged.
    sent: AtomicU64,
    acknowledged: Mutex<BTreeMap<u64, Call>>,
    refusals: Refusals,
    over: AtomicBool,
    has_failed: AtomicBool,
    _folder: tempfile::TempDir,
}

impl Run {
    fn new() -> Run {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::start();
        let ledger = Ledger::of(&sandbox.address);
        let data = Disk::new(folder.path().join("data"));
        let (tracking, admin) = (free_address(), free_address());
        let sources: String = SOURCES
            .iter()
            .map(|(name, key)| format!("[[sources]]\nname = \"{name}\"\nwrite_key = \"{key}\"\n"))
            .collect();
        let destinations: String =
            DESTINATIONS.iter().map(|one| format!("[destinations.{}]\n{}\n", one.name, one.table)).collect();
        let text = format!(
            r#"
            [server]
            listen = "{tracking}"
            drain_timeout = "2s"
            [admin]
            listen = "{admin}"
            [queue]
            path = "{}"
            [sandbox]
            url = "http://{}"
            {sources}
            {destinations}
            "#,
            data.path.join("data").display(),
            sandbox.address,
        );
        let config = write_config(folder.path(), &text);
        Run {
            sandbox,
            ledger,
            data,
            config,
            tracking,
            admin,
            life: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            acknowledged: Mutex::default(),
            refusals: Refusals::default(),
            over: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            _folder: folder,
        }
    }

    fn start(&self) -> Process {
        let life = self.life.fetch_add(1, Ordering::Relaxed) + 1;
        let arguments = ["serve", "--config", &self.config];
        let mut fanout = Process::fanout_in(&[("LIFE", &life.to_string())], &arguments);
        fanout.wait_for("ready");
        fanout
    }

    /// One vendor is down until the end, whatever becomes of the others.
    fn darken(&self) {
        self.sandbox.script(&json!({"host": "dark.example.com", "status": 500}));
    }

    /// The run's only clock: calls that reach the destination that is always well.
    fn wait_for_more_calls(&self, more: u64) {
        let steady = |vendors: &Vendors| vendors.get(STEADY.host).map_or(0, |v| v.ended);
        let goal = self.ledger.read(steady) + more as usize;
        let came = self.ledger.wait(PATIENCE, |vendors| steady(vendors) >= goal);
        assert!(came, "calls no longer reach the destination that is always well");
    }

    fn something_happens(&self, fanout: Process, random: &mut fastrand::Rng) -> Process {
        match random.u8(..40) {
            0..34 => self.sandbox.script(&bad_moment(random)),
            34 => {
                self.sandbox.recover();
                self.darken();
            }
            35 | 36 => {
                fanout.kill();
                return self.next_life("killed");
            }
            37 => {
                assert!(fanout.terminate());
                return self.next_life("stopped");
            }
            38 => {
                fanout.ask_to_end();
                fanout.kill();
                return self.next_life("killed while it stopped");
            }
            _ => return self.fill_the_disk(fanout, random.bool()),
        }
        fanout
    }

    /// Between two lives the data directory accounts for every call, also after a crash.
    fn next_life(&self, how: &str) -> Process {
        let (before, journalled) = (self.acknowledged.lock().unwrap().len() as u64, self.account());
        println!("life {} was {how}: {journalled} calls journalled", self.life.load(Ordering::Relaxed));
        assert!(before <= journalled, "{before} calls were acknowledged and {journalled} are there");
        assert!(journalled <= self.sent.load(Ordering::Relaxed), "calls were journalled twice");
        self.start()
    }

    /// How many calls every destination has, whatever became of them: the same number for all.
    fn account(&self) -> u64 {
        let names: Vec<&str> = DESTINATIONS.iter().map(|one| one.name).collect();
        let lanes =
            books::lanes(&self.data.path.join("data"), &names).expect("the data directory can be opened");
        let totals: BTreeMap<_, _> =
            lanes.iter().map(|(name, counts)| (name, books::total(counts))).collect();
        let different: BTreeSet<_> = totals.values().collect();
        assert_eq!(different.len(), 1, "a destination has more calls than another: {lanes:#?}");
        *different.first().unwrap().to_owned()
    }

    /// Nothing can be accepted until there is room again, nor after a crash meanwhile.
    fn fill_the_disk(&self, fanout: Process, is_killed: bool) -> Process {
        let Some(filler) = self.data.fill() else { return fanout };
        let refused = self.refusals.wait_for_another();
        println!("the disk was full");
        let mut fanout = fanout;
        if is_killed {
            fanout.kill();
            fanout = self.next_life("killed with a full disk");
        }
        std::fs::remove_file(filler).unwrap();
        assert!(refused, "calls were accepted on a full disk");
        fanout
    }

    fn acknowledged(&self) -> BTreeMap<u64, Call> {
        self.acknowledged.lock().unwrap().clone()
    }

    fn everything_is_there(&self) {
        let acknowledged = self.acknowledged();
        assert!(acknowledged.len() > 200, "hardly anything was accepted: {}", acknowledged.len());
        for one in DESTINATIONS.iter().filter(|one| !one.gives_up) {
            let wanted: Vec<u64> = one.wanted(&acknowledged).collect();
            let came = self.ledger.wait(RECOVERY, |vendors| {
                vendors.get(one.host).is_some_and(|vendor| {
                    vendor.ended >= wanted.len() && wanted.iter().all(|call| vendor.has_ended(*call))
                })
            });
            let missing = || -> Vec<u64> {
                let has_ended = |call: &u64| {
                    self.ledger.read(|vendors| vendors.get(one.host).is_some_and(|v| v.has_ended(*call)))
                };
                wanted.iter().copied().filter(|call| !has_ended(call)).collect()
            };
            assert!(came, "{} did not receive {:?}", one.name, missing());
        }
    }

    fn nothing_is_pending(&self) {
        let end = Instant::now() + RECOVERY;
        for one in &DESTINATIONS {
            while Metrics::of(&self.admin).pending(one.name) != Some(0) {
                assert!(Instant::now() < end, "{} has something pending for ever", one.name);
                // Metrics are asked for; there is nothing to wait on.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn everything_came_in_order(&self) {
        for one in &DESTINATIONS {
            let disorder = self.ledger.read(|vendors| vendors[one.host].disorder(one.gives_up));
            assert_eq!(disorder, None, "{}", one.name);
        }
    }

    /// All dead letters go again, to vendors that are well: they come once, in order, and nothing else does.
    fn redrive(&self) {
        let fanout = self.start();
        let life = self.life.load(Ordering::Relaxed);
        let mut dead = BTreeMap::new();
        for one in &DESTINATIONS {
            let fates = self.ledger.read(|vendors| vendors[one.host].fates());
            let letters: BTreeSet<u64> =
                fates.into_iter().filter(|(_, fate)| *fate != Fate::Taken).map(|(call, _)| call).collect();
            let question = json!({"destination": one.name, "all": true}).to_string();
            let path = "/api/dead-letters/redrive";
            let reply = request(&self.admin, "POST", path, &[], question.as_bytes()).unwrap();
            let count = letters.len();
            assert_eq!(reply.json(), json!({"matched": count, "redriven": count}), "{}", one.name);
            dead.insert(one.name, letters);
        }
        self.nothing_is_pending();
        assert!(fanout.terminate());
        for one in &DESTINATIONS {
            let letters = &dead[one.name];
            let is_there = |vendors: &Vendors| {
                letters.iter().all(|call| vendors[one.host].times_taken().contains_key(call))
            };
            assert!(self.ledger.wait(PATIENCE, is_there), "{}: a redriven call did not come", one.name);
            let mut again = Received::default();
            self.ledger.read(|vendors| {
                let arrivals = vendors[one.host].arrivals.iter().filter(|arrival| arrival.life == life);
                arrivals.for_each(|arrival| again.add(*arrival));
            });
            assert_eq!(again.disorder(false), None, "{}", one.name);
            assert_eq!(again.fates().into_keys().collect::<BTreeSet<_>>(), *letters, "{}", one.name);
            println!("{}: {} dead letters redriven", one.name, letters.len());
        }
    }

    /// The vendors' account and the data directory's are the same.
    fn the_books_agree(&self) {
        let acknowledged = self.acknowledged();
        assert_eq!(self.account(), acknowledged.len() as u64, "each call was journalled once");
        let names: Vec<&str> = DESTINATIONS.iter().map(|one| one.name).collect();
        let lanes = books::lanes(&self.data.path.join("data"), &names).unwrap();
        for one in &DESTINATIONS {
            let vendor = self.ledger.read(|vendors| vendors[one.host].clone());
            let fates = vendor.fates();
            assert!(one.gives_up || !fates.values().any(|fate| *fate == Fate::Failed), "{}", one.name);
            let wanted: BTreeSet<u64> = one.wanted(&acknowledged).collect();
            let came: BTreeSet<u64> = fates.keys().copied().collect();
            assert_eq!(came, wanted, "{}: nothing else came", one.name);
            let count = |fate| fates.values().filter(|one| **one == fate).count() as u64;
            let by_source = acknowledged.values().filter(|call| !one.takes(call.source)).count() as u64;
            let mut expected = BTreeMap::from([
                (Code::Delivered, count(Fate::Taken)),
                (Code::Dead("rejected".to_owned()), count(Fate::Refused)),
                (Code::Dead("expired".to_owned()), count(Fate::Failed)),
                (Code::Skipped("source".to_owned()), by_source),
                (
                    Code::Skipped("integrations".to_owned()),
                    (acknowledged.len() - wanted.len()) as u64 - by_source,
                ),
            ]);
            let mut counted: BTreeMap<_, _> = lanes[one.name].finished.iter().cloned().collect();
            counted.retain(|_, count| *count > 0);
            expected.retain(|_, count| *count > 0);
            assert_eq!(counted, expected, "{}", one.name);
            let repeated: u32 = vendor.times_taken().values().map(|times| times - 1).sum();
            println!(
                "{}: {} calls, {} taken, {} refused, {} given up, {repeated} taken again after a crash",
                one.name,
                wanted.len(),
                count(Fate::Taken),
                count(Fate::Refused),
                count(Fate::Failed)
            );
        }
    }
}
