//! A vendor that answers as it was drawn, behind a manifest that takes refused batches apart. It remembers what came and
//! says what came in a wrong order.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use fanout_sdk::destination::{Answer, Destination, NoAnswer, Request, Transport};
use fanout_sdk::manifest::Manifest;
use fanout_sdk::names::Names;
use serde_json::{Value, json};

const MANIFEST: &str = r#"
adapter = { name = "Vendor", docs = "https://vendor.test", checked = "2026-08" }

[settings]
items = { type = "int", min = 1, max = 100, doc = "Items in a request" }

[identity]
key = ["{user_id}"]

[[request]]
url = "https://vendor.test/people"
batch = { items = "{settings.items}" }
body = "{items}"
item = { id = "{identity}", n = "{custom.n | required}" }
outcomes = [
  { status = 207, each = "{body}", index = "{value.at}", when = "{value.is | is('again')}", then = "retry" },
  { status = 207, each = "{body}", index = "{value.at}", when = "{value.is | is('soon')}", then = "retry", after = "1 s" },
  { status = 207, each = "{body}", index = "{value.at}", when = "{value.is | is('slower')}", then = "throttled", after = "3 s" },
  { status = 207, each = "{body}", index = "{value.at}", when = "{value.is | is('who')}", then = "unauthorised" },
  { status = 207, each = "{body}", index = "{value.at}", when = "{value.is | is('never')}", then = "rejected" },
  { status = 207, then = "delivered" },
]
"#;

/// What a vendor did with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Taken,
    Refused,
    /// Neither: it is to come again.
    Open,
}

/// An event that came in a request.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// In which run of the lane.
    pub run: usize,
    /// Which event.
    pub number: usize,
    pub fate: Fate,
}

/// Events that were redriven together.
#[derive(Debug)]
pub struct Redrive {
    /// What came from here on is what came of it.
    pub from: usize,
    pub numbers: BTreeSet<usize>,
    /// Whether they are sent even where later ones have set everything again.
    pub whole: bool,
    /// What was delivered by then, for all that is certain.
    pub delivered: BTreeSet<usize>,
}

pub struct Vendor {
    /// The order key of each event.
    pub users: Vec<u8>,
    drawn: Mutex<std::iter::Fuse<std::vec::IntoIter<u8>>>,
    pub record: Mutex<Record>,
}

/// What came.
#[derive(Debug, Default)]
pub struct Record {
    pub run: usize,
    pub arrivals: Vec<Arrival>,
    pub redrives: Vec<Redrive>,
    /// Order keys whose events are in a request that is under way.
    under_way: HashSet<u8>,
    /// What no request may be; a lane survives an adapter that panics, so it is told later.
    wrong: Vec<String>,
}

/// Two users are one person at the vendor.
pub fn identity(user: u8) -> String {
    format!("person {}", user / 2)
}

/// The vendor's adapter, and the names that events are made with.
pub fn adapter(items: usize) -> (Arc<dyn Destination>, Names) {
    let mut names = Names::default();
    let manifest = Arc::new(Manifest::load("vendor.toml", MANIFEST, &mut names).unwrap());
    let settings = format!("items = {items}").parse().unwrap();
    (Arc::new(manifest.bind("vendor", &settings).unwrap()), names)
}

impl Vendor {
    pub fn new(users: Vec<u8>, drawn: Vec<u8>) -> Vendor {
        Vendor { users, drawn: Mutex::new(drawn.into_iter().fuse()), record: Mutex::default() }
    }

    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// `u8::MAX` once all that was drawn is used up.
    fn draw(&self) -> u8 {
        self.drawn.lock().unwrap().next().unwrap_or(u8::MAX)
    }

    /// The answer to so many items, and what becomes of each.
    fn decide(&self, items: usize) -> (Result<Answer, NoAnswer>, Vec<Fate>) {
        let answer =
            |status, body: &str| Ok(Answer { status, headers: Vec::new(), body: body.to_owned().into() });
        let open = vec![Fate::Open; items];
        match self.draw() % 16 {
            0 | 1 if items == 1 => (answer(413, ""), vec![Fate::Refused]),
            0 | 1 => (answer(413, ""), open),
            2 => {
                let headers = vec![("retry-after".to_owned(), "2".to_owned())];
                (Ok(Answer { status: 429, headers, body: "".into() }), open)
            }
            3 => (answer(500, ""), open),
            4 => (Err(NoAnswer::Connection("reset".into())), open),
            5 => (answer(401, ""), open),
            _ => {
                let each: Vec<_> = (0..items).map(|_| one(self.draw())).collect();
                let said: Vec<Value> =
                    each.iter().enumerate().map(|(at, (is, _))| json!({"at": at, "is": is})).collect();
                (answer(207, &json!(said).to_string()), each.into_iter().map(|(_, fate)| fate).collect())
            }
        }
    }
}

/// What is said of one item, and what that means.
fn one(drawn: u8) -> (&'static str, Fate) {
    match drawn % 16 {
        0 => ("again", Fate::Open),
        1 => ("soon", Fate::Open),
        2 => ("slower", Fate::Open),
        3 => ("who", Fate::Open),
        4 | 5 => ("never", Fate::Refused),
        _ => ("taken", Fate::Taken),
    }
}

/// The request is under way until this is dropped, also when nobody waits for the answer any more.
struct UnderWay<'a>(&'a Vendor, Vec<u8>);

impl<'a> UnderWay<'a> {
    fn begin(vendor: &'a Vendor, users: Vec<u8>) -> UnderWay<'a> {
        let mut record = vendor.record();
        for user in &users {
            if !record.under_way.insert(*user) {
                record.wrong.push(format!("user {user} has two attempts at one time"));
            }
        }
        drop(record);
        UnderWay(vendor, users)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Ok(mut record) = self.0.record.lock() else { return };
        self.1.iter().for_each(|user| {
            record.under_way.remove(user);
        });
    }
}

#[async_trait]
impl Transport for Vendor {
    async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let items: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
        let people: HashSet<&str> = items.iter().map(|item| item["id"].as_str().unwrap()).collect();
        if people.len() < items.len() {
            self.record().wrong.push(format!("one person is in a request twice: {items:?}"));
        }
        let numbers: Vec<usize> = items.iter().map(|item| item["n"].as_u64().unwrap() as usize).collect();
        let users = numbers.iter().map(|number| self.users[*number]).collect();
        let _under_way = UnderWay::begin(self, users);
        let (answer, fates) = self.decide(items.len());
        {
            let mut record = self.record();
            let run = record.run;
            let came = numbers.into_iter().zip(fates).map(|(number, fate)| Arrival { run, number, fate });
            record.arrivals.extend(came);
        }
        tokio::time::sleep(Duration::from_millis(u64::from(self.draw() % 40))).await;
        answer
    }
}

impl Record {
    /// Of which redrive something came, counted from 1; 0 for what came by itself.
    pub fn series(&self, at: usize, number: usize) -> usize {
        let is_of = |redrive: &Redrive| redrive.from <= at && redrive.numbers.contains(&number);
        self.redrives.iter().rposition(is_of).map_or(0, |position| position + 1)
    }

    /// What came last of each event.
    pub fn last(&self) -> BTreeMap<usize, (usize, Arrival)> {
        self.arrivals.iter().enumerate().map(|(at, came)| (came.number, (at, *came))).collect()
    }

    /// Where something came that the lane has settled for certain, since another event of the user came after it in the
    /// same run.
    pub fn settled(&self, users: &[u8]) -> BTreeSet<usize> {
        let mut settled = BTreeSet::new();
        let mut latest: BTreeMap<(usize, u8), usize> = BTreeMap::new();
        for (at, came) in self.arrivals.iter().enumerate() {
            let before = latest.insert((came.run, users[came.number]), at);
            settled.extend(before.filter(|before| self.arrivals[*before].number != came.number));
        }
        settled
    }

    /// What is certain to be delivered in this run.
    pub fn delivered(&self, users: &[u8]) -> BTreeSet<usize> {
        let came = self.settled(users).into_iter().map(|at| self.arrivals[at]);
        let taken = came.filter(|came| came.run == self.run && came.fate == Fate::Taken);
        taken.map(|came| came.number).collect()
    }

    /// Whether something of a redrive should not have come: a later event of the user had set everything again.
    fn is_superseded(&self, users: &[u8], came: &Arrival, series: usize) -> bool {
        let redrive = series.checked_sub(1).and_then(|position| self.redrives.get(position));
        redrive.filter(|redrive| !redrive.whole).is_some_and(|redrive| {
            redrive.delivered.iter().any(|later| *later > came.number && users[*later] == users[came.number])
        })
    }

    /// Fails if something came in a wrong order. What is `begun` is never left for another: a later one comes when it has
    /// ended, and an older one only if it was redriven since.
    pub fn check(&self, users: &[u8], begun: bool) {
        assert_eq!(self.wrong, Vec::<String>::new());
        let mut latest: BTreeMap<u8, (usize, Arrival)> = BTreeMap::new();
        // By user and series: in this run, and in all.
        let mut numbers: BTreeMap<(u8, usize), (usize, Vec<usize>)> = BTreeMap::new();
        for (at, came) in self.arrivals.iter().enumerate() {
            let (user, series) = (users[came.number], self.series(at, came.number));
            let place = || format!("user {user}, arrival {at} of series {series}: {:#?}", self.arrivals);
            if let Some((before, of)) = latest.insert(user, (at, *came)).filter(|(_, of)| of.run == came.run)
            {
                let is_redriven_since = series > 0 && self.redrives[series - 1].from > before;
                match of.fate {
                    _ if is_redriven_since => {}
                    Fate::Open if begun => assert_eq!(of.number, came.number, "before it ended: {}", place()),
                    Fate::Open => {}
                    _ => assert_ne!(of.number, came.number, "after its end: {}", place()),
                }
            }
            assert!(!self.is_superseded(users, came, series), "superseded: {}", place());
            let (run, seen) = numbers.entry((user, series)).or_default();
            let since = if *run == came.run { seen.last().copied() } else { None };
            *run = came.run;
            assert!(since.is_none_or(|since| since <= came.number), "back in one run: {}", place());
            // A run begins no later than after what the vendor has seen: nothing is left out.
            match seen.iter().position(|number| *number == came.number) {
                Some(position) => seen.truncate(position + 1),
                None => seen.push(came.number),
            }
            assert!(seen.is_sorted(), "overtaken: {}", place());
        }
    }
}
