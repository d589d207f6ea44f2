//! What the stand-ins for the vendors received, call by call, collected while a test runs: the account that is kept
//! outside the process, to hold the process's own against.
//!
//! A request says which life of the process it comes from, by a header or by its token, so that what is repeated after a
//! crash can be told from what is sent twice for no reason.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::request;

/// The status of an answer that comes a byte at a time and takes longer than anyone waits for.
pub const DRIPPED: u16 = 201;

/// What a vendor did with a call that it received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Took it and said so.
    Taken,
    /// Refused it for what it holds.
    Refused,
    /// Neither, as far as the sender could know.
    Failed,
}

/// A call that a vendor received, once.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Which life of the process sent it.
    pub life: u32,
    /// Counts the requests of all vendors.
    pub request: u64,
    /// Which user's.
    pub user: u64,
    /// Which call, numbered by the test; a user's calls were accepted in the order of their numbers.
    pub call: u64,
    /// What became of it.
    pub fate: Fate,
}

/// What one vendor received.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// In the order in which it came.
    pub arrivals: Vec<Arrival>,
    /// How many calls were taken or refused, each counted once.
    pub ended: usize,
    is_ended: HashSet<u64>,
}

impl Received {
    /// Adds what came next.
    pub fn add(&mut self, arrival: Arrival) {
        if arrival.fate != Fate::Failed && self.is_ended.insert(arrival.call) {
            self.ended += 1;
        }
        self.arrivals.push(arrival);
    }

    /// Whether a call was taken or refused.
    pub fn has_ended(&self, call: u64) -> bool {
        self.is_ended.contains(&call)
    }

    /// How often each call was taken.
    pub fn times_taken(&self) -> BTreeMap<u64, u32> {
        let mut times = BTreeMap::new();
        for arrival in self.arrivals.iter().filter(|arrival| arrival.fate == Fate::Taken) {
            *times.entry(arrival.call).or_default() += 1;
        }
        times
    }

    /// By life, and in each as it came: a request that a killed process left on its way may be read after the first one
    /// of the next.
    fn by_life(&self) -> Vec<Arrival> {
        let mut sorted = self.arrivals.clone();
        sorted.sort_by_key(|arrival| (arrival.life, arrival.request));
        sorted
    }

    /// What became of each call in the end.
    pub fn fates(&self) -> BTreeMap<u64, Fate> {
        self.by_life().into_iter().map(|arrival| (arrival.call, arrival.fate)).collect()
    }

    /// What came out of order, if anything. Within a life none may come before the one before it had come to an end,
    /// unless the process `gives_up` on some, and none again after its end. A new life may begin again with calls whose
    /// end the one before had not written down, but none is ever overtaken by a later one.
    pub fn disorder(&self, gives_up: bool) -> Option<String> {
        let mut users: HashMap<u64, Latest> = HashMap::new();
        let mut seen = HashSet::new();
        for Arrival { life, user, call, fate, .. } in self.by_life() {
            let latest = users.entry(user).or_default();
            let of_this_life = latest.at.filter(|_| latest.life == life);
            let wrong = match of_this_life {
                Some((before, _)) if before > call => Some(format!("after {before}")),
                Some((before, true)) if before == call => Some("again after its end".to_owned()),
                Some((before, false)) if before < call && !gives_up => {
                    Some(format!("before the end of {before}"))
                }
                _ if seen.insert(call) && call < latest.highest => {
                    Some(format!("overtaken by {}", latest.highest))
                }
                _ => None,
            };
            if let Some(wrong) = wrong {
                return Some(format!("call {call} of user {user} came {wrong} in life {life}"));
            }
            *latest =
                Latest { life, at: Some((call, fate != Fate::Failed)), highest: latest.highest.max(call) };
        }
        None
    }
}

/// Where a user's calls stand at a vendor.
#[derive(Clone, Copy, Default)]
struct Latest {
    life: u32,
    /// The last call to come, and whether it came to an end.
    at: Option<(u64, bool)>,
    highest: u64,
}

/// By the vendors' hosts.
pub type Vendors = BTreeMap<String, Received>;

/// Collects until dropped.
pub struct Ledger {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    vendors: Mutex<Vendors>,
    news: Condvar,
    over: AtomicBool,
    has_ended: AtomicBool,
}

/// Tells who waits when collecting ends, however it does.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::Relaxed);
        self.0.news.notify_all();
    }
}

impl Ledger {
    /// Collects what a sandbox receives from now on.
    pub fn of(sandbox: &str) -> Ledger {
        let shared = Arc::new(Shared {
            vendors: Mutex::default(),
            news: Condvar::new(),
            over: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        });
        let (address, collected) = (sandbox.to_owned(), shared.clone());
        let thread = Some(std::thread::spawn(move || collect(&address, &collected)));
        Ledger { shared, thread }
    }

    /// Waits until what was received satisfies the test; `false` when it does not in time.
    pub fn wait(&self, patience: Duration, enough: impl Fn(&Vendors) -> bool) -> bool {
        let end = Instant::now() + patience;
        let mut vendors = self.shared.vendors.lock().unwrap();
        while !enough(&vendors) {
            assert!(!self.shared.has_ended.load(Ordering::Relaxed), "the ledger has ended; see above");
            let Some(left) = end.checked_duration_since(Instant::now()) else { return false };
            vendors = self.shared.news.wait_timeout(vendors, left).unwrap().0;
        }
        true
    }

    /// What was received so far.
    pub fn read<R>(&self, read: impl FnOnce(&Vendors) -> R) -> R {
        read(&self.shared.vendors.lock().unwrap())
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // It ends with its request, or because the sandbox does.
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the ledger ended by a failure; see above");
        }
    }
}

fn collect(sandbox: &str, shared: &Shared) {
    let _end = End(shared);
    let mut last = 0;
    while !shared.over.load(Ordering::Relaxed) {
        let path = format!("/_sandbox/requests?after={last}&wait=1");
        let Ok(reply) = request(sandbox, "GET", &path, &[], b"") else { return };
        let mut came = Vec::new();
        for line in reply.body.lines() {
            let request: Value = serde_json::from_str(line).unwrap();
            last += 1;
            assert_eq!(request["number"], last, "the sandbox forgot requests before they were collected");
            came.push((request["host"].as_str().unwrap().to_owned(), arrivals(&request)));
        }
        let mut vendors = shared.vendors.lock().unwrap();
        for (host, arrivals) in came {
            let vendor = vendors.entry(host).or_default();
            arrivals.into_iter().for_each(|arrival| vendor.add(arrival));
        }
        drop(vendors);
        shared.news.notify_all();
    }
}

/// The calls in a request: records with `$set`, or one or many envelopes.
fn arrivals(request: &Value) -> Vec<Arrival> {
    let items = request["body"].as_array().map_or(std::slice::from_ref(&request["body"]), Vec::as_slice);
    let status = request["status"].as_u64().unwrap() as u16;
    let header = request["headers"]["x-life"].as_str();
    let each = items.iter().enumerate().map(|(position, item)| {
        let (user, traits, token) = match item.get("$set") {
            Some(set) => (&item["$distinct_id"], set, item["$token"].as_str()),
            None => (&item["data"]["userId"], &item["data"]["traits"], None),
        };
        Arrival {
            life: header.or(token).and_then(|life| life.parse().ok()).unwrap_or_default(),
            request: request["number"].as_u64().unwrap(),
            user: user.as_str().and_then(|user| user.parse().ok()).unwrap_or_else(|| panic!("{item}")),
            call: traits["n"].as_u64().unwrap_or_else(|| panic!("{item}")),
            fate: fate(status, position, items.len()),
        }
    });
    each.collect()
}

/// 207 refuses the first item of a batch and takes the others, 422 refuses all; what was too large as a batch is sent
/// again in parts.
fn fate(status: u16, position: usize, items: usize) -> Fate {
    match status {
        200 => Fate::Taken,
        207 if position > 0 => Fate::Taken,
        207 => Fate::Refused,
        422 => Fate::Refused,
        413 if items == 1 => Fate::Refused,
        _ => Fate::Failed,
    }
}
