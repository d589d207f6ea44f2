//! Dead letters that are redriven and purged while calls come: what was asked for, and what came of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::run::Run;
use super::support::ledger::Moment;
use super::vendors::{DESTINATIONS, Destination, Way};

/// Dead letters of one destination that were opened again together.
#[derive(Debug)]
pub struct Redrive {
    /// What came later is what came of it.
    pub at: Moment,
    /// Whether they are sent with what later calls have set again.
    pub whole: bool,
    pub calls: BTreeSet<u64>,
}

/// The queue opens no more than 32,768 of a destination at one time; the others stay.
const MOST_AT_ONCE: usize = 30_000;

/// By destination.
#[derive(Default)]
pub struct Letters {
    redrives: BTreeMap<&'static str, Vec<Redrive>>,
    purged: BTreeMap<&'static str, BTreeSet<u64>>,
}

impl Letters {
    /// Some of a destination's letters are redriven or purged.
    pub fn something_happens(&mut self, run: &Run, random: &mut fastrand::Rng) {
        let tried: Vec<&Destination> =
            DESTINATIONS.iter().filter(|one| one.is_tried && one.way != Way::Visits).collect();
        let one = tried[random.usize(..tried.len())];
        let mut letters = list(run, one);
        letters.retain(|_, _| random.u8(..3) > 0);
        if letters.is_empty() {
            return;
        }
        if random.u8(..4) == 0 {
            self.purge(run, one, &letters);
        } else {
            self.redrive(run, one, &letters, !one.knows_parts() || random.bool());
        }
    }

    fn redrive(&mut self, run: &Run, one: &Destination, letters: &BTreeMap<u64, String>, whole: bool) {
        let ids: Vec<&String> = letters.values().collect();
        let question = json!({"ids": ids, "all": whole});
        self.ask(run, one, letters.keys().copied().collect(), whole, &question);
    }

    /// All of a destination's, which are these; of very many the oldest.
    pub fn redrive_all(&mut self, run: &Run, one: &Destination, letters: &BTreeMap<u64, String>) {
        let seq = |id: &str| id.rsplit(':').next().and_then(|seq| seq.parse::<u64>().ok());
        let mut calls: Vec<u64> = letters.keys().copied().collect();
        calls.sort_by_key(|call| seq(&letters[call]));
        calls.truncate(MOST_AT_ONCE);
        let question = json!({"destination": one.name, "all": true, "limit": MOST_AT_ONCE});
        self.ask(run, one, calls.into_iter().collect(), true, &question);
    }

    fn ask(&mut self, run: &Run, one: &Destination, calls: BTreeSet<u64>, whole: bool, question: &Value) {
        let (at, count) = (run.moment(), calls.len());
        let answer = run.ask("POST", "/api/dead-letters/redrive", question);
        assert_eq!(answer, json!({"matched": count, "redriven": count}), "{}", one.name);
        println!("{}: {count} dead letters redriven", one.name);
        self.redrives.entry(one.name).or_default().push(Redrive { at, whole, calls });
    }

    fn purge(&mut self, run: &Run, one: &Destination, letters: &BTreeMap<u64, String>) {
        let ids: Vec<&String> = letters.values().collect();
        let answer = run.ask("POST", "/api/dead-letters/purge", &json!({ "ids": ids }));
        assert_eq!(answer, json!({"matched": ids.len(), "purged": ids.len()}), "{}", one.name);
        println!("{}: {} dead letters purged", one.name, ids.len());
        self.purged.entry(one.name).or_default().extend(letters.keys());
    }

    /// Of a destination, oldest first.
    pub fn redrives(&self, one: &Destination) -> &[Redrive] {
        self.redrives.get(one.name).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn is_purged(&self, one: &Destination, call: u64) -> bool {
        self.purged.get(one.name).is_some_and(|calls| calls.contains(&call))
    }
}

/// The dead letters of a destination that are kept: the calls, each with its letter's id.
pub fn list(run: &Run, one: &Destination) -> BTreeMap<u64, String> {
    let mut letters = BTreeMap::new();
    let mut after = String::new();
    loop {
        let path = format!("/api/dead-letters?destination={}&limit=1000{after}", one.name);
        let page = run.ask("GET", &path, &Value::Null);
        for letter in page["letters"].as_array().unwrap() {
            let call = letter["message_id"].as_str().and_then(|id| id.strip_prefix("m-")?.parse().ok());
            letters.insert(
                call.unwrap_or_else(|| panic!("{letter}")),
                letter["id"].as_str().unwrap().to_owned(),
            );
        }
        let Some(next) = page["next"].as_str() else { return letters };
        after = format!("&after={next}");
    }
}
