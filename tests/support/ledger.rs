//! What the stand-ins for the vendors received, call by call, collected while a test runs: the account that is kept
//! outside the process, to hold the process's own against.
//!
//! A request says which life of the process it comes from, by a header or by its token, so that what is repeated after a
//! crash can be told from what is sent twice for no reason.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
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

/// A moment as the vendors see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// In which life of the process.
    pub life: u32,
    /// After so many requests to all vendors.
    pub request: u64,
}

/// A call that a vendor received, once.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Which life of the process sent it, in which request.
    pub at: Moment,
    /// Which user's.
    pub user: u64,
    /// Which call, numbered by the test; a user's calls were accepted in the order of their numbers.
    pub call: u64,
    /// The names of the traits that it had.
    pub traits: Arc<BTreeSet<String>>,
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

    /// What came of only some of the calls, or in only some of the lives.
    pub fn only(&self, is_wanted: impl Fn(&Arrival) -> bool) -> Received {
        let mut some = Received::default();
        self.arrivals
            .iter()
            .filter(|arrival| is_wanted(arrival))
            .for_each(|arrival| some.add(arrival.clone()));
        some
    }

    /// By life, and in each as it came: a request that a killed process left on its way may be read after the first one
    /// of the next.
    pub fn by_life(&self) -> Vec<&Arrival> {
        let mut sorted: Vec<&Arrival> = self.arrivals.iter().collect();
        sorted.sort_by_key(|arrival| arrival.at);
        sorted
    }

    /// What came last of each call.
    pub fn last(&self) -> BTreeMap<u64, &Arrival> {
        self.by_life().into_iter().map(|arrival| (arrival.call, arrival)).collect()
    }

    /// What became of each call in the end.
    pub fn fates(&self) -> BTreeMap<u64, Fate> {
        self.last().into_iter().map(|(call, arrival)| (call, arrival.fate)).collect()
    }

    /// What came out of order, if anything. Within a life none may come before the one before it had come to an end,
    /// unless the process `gives_up` on some, and none again after its end. A new life may begin again with calls whose
    /// end the one before had not written down, but none is ever overtaken by a later one.
    pub fn disorder(&self, gives_up: bool) -> Option<String> {
        self.disorder_beside(Allowed { gives_up, ..Allowed::default() }, |_| None)
    }

    /// As [`Received::disorder`], where some came because they were `redriven` at some moment: those keep the order among
    /// themselves, and may come between others from then on.
    pub fn disorder_beside(
        &self,
        allowed: Allowed,
        redriven: impl Fn(&Arrival) -> Option<Moment>,
    ) -> Option<String> {
        let mut latest: HashMap<u64, &Arrival> = HashMap::new();
        let mut series: HashMap<(u64, Option<Moment>), Series> = HashMap::new();
        for arrival in self.by_life() {
            let Arrival { at, user, call, .. } = *arrival;
            let since = redriven(arrival);
            let before = latest.insert(user, arrival);
            let before = before.filter(|before| before.at.life == at.life && since < Some(before.at));
            let wrong = match before {
                Some(before) if before.call == call && before.fate != Fate::Failed => {
                    Some("again after its end".to_owned())
                }
                Some(before) if before.call != call && before.fate == Fate::Failed && !allowed.gives_up => {
                    Some(format!("before the end of {}", before.call))
                }
                _ => series.entry((user, since)).or_default().disorder(at.life, call, allowed),
            };
            if let Some(wrong) = wrong {
                return Some(format!("call {call} of user {user} came {wrong} in life {}", at.life));
            }
        }
        let mut overtaken = series.into_iter().filter(|(_, series)| series.owes);
        overtaken
            .next()
            .map(|((user, _), series)| format!("{} of user {user} did not come again", series.highest))
    }
}

/// What is no disorder.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// The process ends calls that have failed.
    pub gives_up: bool,
    /// The process leaves calls out, which after a crash it may send: then those after them come once more.
    pub leaves_out: bool,
}

/// Where those of a user's calls stand at a vendor that are in order.
#[derive(Default)]
struct Series {
    life: u32,
    last: u64,
    highest: u64,
    seen: HashSet<u64>,
    /// The highest is to come once more.
    owes: bool,
}

impl Series {
    fn disorder(&mut self, life: u32, call: u64, allowed: Allowed) -> Option<String> {
        let last = std::mem::replace(&mut self.last, call);
        if std::mem::replace(&mut self.life, life) == life && last > call {
            return Some(format!("after {last}"));
        }
        let is_overtaken = self.seen.insert(call) && call < self.highest;
        if is_overtaken && !allowed.leaves_out {
            return Some(format!("overtaken by {}", self.highest));
        }
        self.owes = call < self.highest && (is_overtaken || self.owes);
        self.highest = self.highest.max(call);
        None
    }
}

/// By the vendors' hosts.
pub type Vendors = BTreeMap<String, Received>;

/// Collects until dropped.
pub struct Ledger {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    book: Mutex<Book>,
    news: Condvar,
    over: AtomicBool,
    has_ended: AtomicBool,
}

#[derive(Default)]
struct Book {
    /// So many requests are in it.
    requests: u64,
    vendors: Vendors,
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
            book: Mutex::default(),
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
        self.wait_for(patience, |book| enough(&book.vendors))
    }

    /// Waits until so many requests are collected; `false` when they are not in time.
    pub fn catch_up(&self, patience: Duration, requests: u64) -> bool {
        self.wait_for(patience, |book| book.requests >= requests)
    }

    fn wait_for(&self, patience: Duration, enough: impl Fn(&Book) -> bool) -> bool {
        let end = Instant::now() + patience;
        let mut book = self.shared.book.lock().unwrap();
        while !enough(&book) {
            assert!(!self.shared.has_ended.load(Ordering::Relaxed), "the ledger has ended; see above");
            let Some(left) = end.checked_duration_since(Instant::now()) else { return false };
            book = self.shared.news.wait_timeout(book, left).unwrap().0;
        }
        true
    }

    /// What was received so far.
    pub fn read<R>(&self, read: impl FnOnce(&Vendors) -> R) -> R {
        read(&self.shared.book.lock().unwrap().vendors)
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
    let mut names = HashSet::new();
    while !shared.over.load(Ordering::Relaxed) {
        let path = format!("/_sandbox/requests?after={last}&wait=1");
        let Ok(reply) = request(sandbox, "GET", &path, &[], b"") else { return };
        let mut came = Vec::new();
        for line in reply.body.lines() {
            let request: Value = serde_json::from_str(line).unwrap();
            last += 1;
            assert_eq!(request["number"], last, "the sandbox forgot requests before they were collected");
            came.push((request["host"].as_str().unwrap().to_owned(), arrivals(&request, &mut names)));
        }
        let mut book = shared.book.lock().unwrap();
        for (host, arrivals) in came {
            let vendor = book.vendors.entry(host).or_default();
            arrivals.into_iter().for_each(|arrival| vendor.add(arrival));
        }
        book.requests = last;
        drop(book);
        shared.news.notify_all();
    }
}

/// The calls in a request: records with `$set`, or one or many envelopes. `names` are the sets of traits that are known.
fn arrivals(request: &Value, names: &mut HashSet<Arc<BTreeSet<String>>>) -> Vec<Arrival> {
    let items = request["body"].as_array().map_or(std::slice::from_ref(&request["body"]), Vec::as_slice);
    let status = request["status"].as_u64().unwrap() as u16;
    let header = request["headers"]["x-life"].as_str();
    let each = items.iter().enumerate().map(|(position, item)| {
        let (user, traits, token) = match item.get("$set") {
            Some(set) => (&item["$distinct_id"], set, item["$token"].as_str()),
            None => (&item["data"]["userId"], &item["data"]["traits"], None),
        };
        // A trait tells which call it is, or its messageId where that trait is left out.
        let message = item["data"]["messageId"].as_str().and_then(|id| id.strip_prefix("m-")?.parse().ok());
        let of = traits.as_object().map(|traits| traits.keys().cloned().collect()).unwrap_or_default();
        Arrival {
            at: Moment {
                life: header.or(token).and_then(|life| life.parse().ok()).unwrap_or_default(),
                request: request["number"].as_u64().unwrap(),
            },
            user: user.as_str().and_then(|user| user.parse().ok()).unwrap_or_else(|| panic!("{item}")),
            call: traits["n"].as_u64().or(message).unwrap_or_else(|| panic!("{item}")),
            traits: shared(names, of),
            fate: fate(status, position, items.len()),
        }
    });
    each.collect()
}

/// There are few sets of names and many arrivals.
fn shared(known: &mut HashSet<Arc<BTreeSet<String>>>, names: BTreeSet<String>) -> Arc<BTreeSet<String>> {
    if let Some(known) = known.get(&names) {
        return known.clone();
    }
    let names = Arc::new(names);
    known.insert(names.clone());
    names
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
