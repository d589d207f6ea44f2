//! Stand-ins for the vendors that remember what they were told and answer as the vendor does, in the test's own process.
//!
//! `Vendors::start()` listens on a free loopback port; its `url()` goes into `[sandbox] url` of a fanout under test, and
//! `destination(vendor)` below it. Unlike `fanout sandbox`, which plays scripted answers, these keep people: a contact
//! that is created twice is two contacts where the vendor allows it and a conflict where it does not.
//! A test file takes them in with `#[path = "support/vendors/mod.rs"] mod vendors;`.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod intercom;
mod mailchimp;
mod mixpanel;
mod salesforce;
mod server;
mod world;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use intercom::Intercom;
pub use mailchimp::Mailchimp;
pub use mixpanel::Mixpanel;
pub use salesforce::Salesforce;
use world::{Planned, World};

/// How long anything may take before a test gives up; generous, since machines differ.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vendor {
    Mixpanel,
    Mailchimp,
    Intercom,
    Salesforce,
}

impl Vendor {
    pub const ALL: [Vendor; 4] = [Vendor::Mixpanel, Vendor::Mailchimp, Vendor::Intercom, Vendor::Salesforce];

    /// The adapter's name, also the destination's.
    pub fn name(self) -> &'static str {
        match self {
            Vendor::Mixpanel => "mixpanel",
            Vendor::Mailchimp => "mailchimp",
            Vendor::Intercom => "intercom",
            Vendor::Salesforce => "salesforce",
        }
    }

    /// What a vendor keeps of a custom trait, read from a person's attributes; null where it has none. A number is a
    /// number also where the vendor keeps it as text.
    pub fn custom(self, attributes: &Value, name: &str) -> Value {
        let place = match self {
            Vendor::Mixpanel => &attributes[name],
            Vendor::Mailchimp => &attributes["merge_fields"][mailchimp::tag(name)],
            Vendor::Intercom => &attributes["custom_attributes"][name],
            Vendor::Salesforce => &attributes[salesforce::custom_field(name)],
        };
        let number = place.as_str().and_then(|text| text.parse::<serde_json::Number>().ok());
        number.map_or_else(|| place.clone(), Value::Number)
    }
}

/// A person, or what is kept of the several that a vendor has for one identity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Person {
    /// As the vendor keeps them after the last write, in the vendor's own form; see `Vendor::custom`.
    pub attributes: Value,
    /// How often it was written, its creation counted.
    pub writes: u32,
    /// How many people the vendor made for this identity: 2 is a duplicate.
    pub created: u32,
    /// The attributes after each write, oldest first.
    pub history: Vec<Value>,
}

/// One record of a vendor.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The vendor's own id.
    pub id: String,
    /// The user id where the vendor has been given one.
    pub user_id: Option<String>,
    /// Lower-case.
    pub email: Option<String>,
    /// The attributes after each write, oldest first; never empty.
    pub history: Vec<Value>,
}

impl Record {
    /// What people are told apart by: the user id, else the e-mail address, else the vendor's own id.
    pub fn identity(&self) -> &str {
        self.user_id.as_deref().or(self.email.as_deref()).unwrap_or(&self.id)
    }
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this status and, where given, Retry-After in seconds. The vendor does nothing.
    Status(u16, Option<u32>),
    /// Never answered, and the vendor does nothing.
    Hang,
    /// The vendor does what it is asked for and never answers.
    HangAfterCommit,
    /// The connection is closed, and the vendor does nothing.
    DropBeforeCommit,
    /// The vendor does what it is asked for, then the connection is closed.
    DropAfterCommit,
    /// Done at once, answered after so many milliseconds.
    Slow(u64),
    /// Neither done nor answered until `Vendors::release`; then both.
    Hold,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub vendor: Vendor,
    pub method: String,
    pub host: String,
    pub path: String,
    /// Without the question mark; empty where there is none.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As JSON; a text where it is not JSON.
    pub body: Value,
    /// The fault that it met.
    pub fault: Option<Fault>,
    /// What was answered; `None` while it is under way, and for good where no answer was given.
    pub status: Option<u16>,
    /// When it came in.
    pub at: Instant,
}

impl Recorded {
    /// Whether `METHOD PATH` holds this text; with a `$` at its end, whether it ends with it.
    /// `POST /contacts$` is not `POST /contacts/search`.
    pub fn is(&self, matching: &str) -> bool {
        let line = format!("{} {}", self.method, self.path);
        match matching.strip_suffix('$') {
            Some(end) => line.ends_with(end),
            None => line.contains(matching),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The stand-ins, listening; they end when dropped.
pub struct Vendors {
    shared: Arc<Shared>,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

/// What the test and the server's threads share.
struct Shared {
    world: Mutex<World>,
    /// Told after every change.
    changed: Condvar,
    /// How often `release` was called.
    released: tokio::sync::watch::Sender<u64>,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world();
        world.changes += 1;
        let result = change(&mut world);
        self.changed.notify_all();
        result
    }
}

impl Vendors {
    pub fn start() -> Vendors {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            world: Mutex::default(),
            changed: Condvar::new(),
            released: tokio::sync::watch::channel(0).0,
        });
        runtime.spawn(server::accept(listener, shared.clone()));
        Vendors { shared, address, _runtime: runtime }
    }

    /// For `[sandbox] url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The value of `settings` of a destination that fits: an inline table with the credentials that are accepted.
    pub fn settings(&self, vendor: Vendor) -> String {
        match vendor {
            Vendor::Mixpanel => mixpanel::SETTINGS,
            Vendor::Mailchimp => mailchimp::SETTINGS,
            Vendor::Intercom => intercom::SETTINGS,
            Vendor::Salesforce => salesforce::SETTINGS,
        }
        .to_owned()
    }

    /// The whole table of a destination that fits, named as the vendor.
    pub fn destination(&self, vendor: Vendor) -> String {
        format!("[destinations.{}]\nsettings = {}\n", vendor.name(), self.settings(vendor))
    }

    /// Everybody that a vendor has, by user id where the vendor has one, else by lower-case e-mail address.
    pub fn people(&self, vendor: Vendor) -> BTreeMap<String, Person> {
        let mut people = BTreeMap::<String, Person>::new();
        for record in self.records(vendor) {
            let person = people.entry(record.identity().to_owned()).or_default();
            person.created += 1;
            person.writes += u32::try_from(record.history.len()).unwrap();
            person.history.extend(record.history);
            person.attributes = person.history.last().cloned().unwrap_or_default();
        }
        people
    }

    /// Every record of a vendor, in the order of creation.
    pub fn records(&self, vendor: Vendor) -> Vec<Record> {
        self.shared.world().stand_in(vendor).records()
    }

    /// The user ids and e-mail addresses that more than one record of a vendor has.
    pub fn duplicates(&self, vendor: Vendor) -> Vec<String> {
        let mut times = BTreeMap::<String, u32>::new();
        for record in self.records(vendor) {
            for key in [record.user_id, record.email].into_iter().flatten() {
                *times.entry(key).or_default() += 1;
            }
        }
        times.into_iter().filter(|(_, times)| *times > 1).map(|(key, _)| key).collect()
    }

    /// Every request for a vendor, in the order of arrival.
    pub fn requests(&self, vendor: Vendor) -> Vec<Recorded> {
        self.shared.world().requests.iter().filter(|request| request.vendor == vendor).cloned().collect()
    }

    /// Forgets requests, not people.
    pub fn forget_requests(&self) {
        self.shared.change(|world| world.requests.clear());
    }

    /// What goes wrong with the next `times` requests whose `METHOD PATH` matches as in `Recorded::is`; "" is every one.
    /// The first fault that fits is taken, then those planned after it.
    pub fn fault(&self, vendor: Vendor, fault: Fault, matching: &str, times: u32) {
        let planned = Planned { vendor, fault, matching: matching.to_owned(), left: times };
        self.shared.change(|world| world.faults.push(planned));
    }

    /// Takes back what is left of all faults; requests that hang go on hanging.
    pub fn heal(&self) {
        self.shared.change(|world| world.faults.clear());
    }

    /// Lets every request go that is held at this moment.
    pub fn release(&self) {
        self.shared.released.send_modify(|times| *times += 1);
    }

    /// Makes room for custom traits at every vendor that wants them declared.
    pub fn declare(&self, traits: &[&str]) {
        self.shared.change(|world| {
            Vendor::ALL.into_iter().for_each(|vendor| world.stand_in(vendor).declare(traits))
        });
    }

    /// Deletes every person at a vendor, as its operator may.
    pub fn delete_everybody(&self, vendor: Vendor) {
        self.shared.change(|world| world.stand_in(vendor).delete_everybody());
    }

    /// Waits until this holds; looks again whenever something came in or was answered.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Vendors) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.shared.world().changes;
            if holds(self) {
                return;
            }
            let world = self.shared.world();
            let left = deadline.saturating_duration_since(Instant::now());
            let (world, timeout) =
                self.shared.changed.wait_timeout_while(world, left, |world| world.changes == seen).unwrap();
            drop(world);
            assert!(!timeout.timed_out(), "{what} did not come: {}", self.summary());
        }
    }

    /// Waits until so many requests that match have come in.
    pub fn wait_for_requests(&self, vendor: Vendor, matching: &str, count: usize) {
        self.wait_until(&format!("{count} of {matching:?} at {}", vendor.name()), |vendors| {
            vendors.requests(vendor).iter().filter(|request| request.is(matching)).count() >= count
        });
    }

    /// Controls of one vendor.
    pub fn mixpanel<T>(&self, with: impl FnOnce(&mut Mixpanel) -> T) -> T {
        self.shared.change(|world| with(&mut world.mixpanel))
    }

    pub fn mailchimp<T>(&self, with: impl FnOnce(&mut Mailchimp) -> T) -> T {
        self.shared.change(|world| with(&mut world.mailchimp))
    }

    pub fn intercom<T>(&self, with: impl FnOnce(&mut Intercom) -> T) -> T {
        self.shared.change(|world| with(&mut world.intercom))
    }

    pub fn salesforce<T>(&self, with: impl FnOnce(&mut Salesforce) -> T) -> T {
        self.shared.change(|world| with(&mut world.salesforce))
    }

    /// What happened, for a failing test's message.
    pub fn summary(&self) -> String {
        let world = self.shared.world();
        let lines = world.requests.iter().rev().take(40).rev().map(|request| {
            let Recorded { method, host, path, fault, status, body, .. } = request;
            format!("\n  {method} {host}{path} -> {status:?} {fault:?} {body}")
        });
        lines.collect()
    }
}
