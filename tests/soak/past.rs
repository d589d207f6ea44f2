//! The destination that comes and goes, and the replays that bring it what it missed, or bring it again.
//!
//! While it is away, calls are not for it; whatever of them it receives later, a replay has sent. When it was taken out,
//! what it had not received by then ended, so that this too is sent by replays alone from then on. That is how a replayed
//! delivery is told from a live one, by the call and the life in which it came, and no two replays of one time run in one
//! life.

mod account;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;

use fanout_sdk::dates;
use fanout_sdk::event::Date;
use serde_json::{Value, json};

use super::SENDERS;
use super::run::Run;
use super::sender::USERS;
use super::support::ledger::Arrival;
use super::vendors::PAST;

/// The most replays under way at one time.
const MOST_RUNNING: usize = 3;

/// A time in which the configuration did not change.
#[derive(Debug)]
struct Era {
    visits: bool,
    /// When it began: milliseconds since 1970.
    since_ms: i64,
    /// Its first life and its first call.
    life: u32,
    call: u64,
}

/// A replay as it was asked for, and what it said of itself when it had ended.
#[derive(Debug)]
struct Replay {
    id: u64,
    /// Of calls of these times.
    eras: Range<usize>,
    user: Option<u64>,
    /// Also of calls that later ones have superseded.
    all: bool,
    /// Not all of its calls were retained any more, as after a full disk.
    is_short: bool,
    life: u32,
    end: Option<End>,
}

#[derive(Debug)]
struct End {
    life: u32,
    is_cancelled: bool,
    /// Nothing if it ended by itself at the moment at which it was to be cancelled: that takes it off the list.
    outcomes: Option<BTreeMap<String, u64>>,
}

#[derive(Debug)]
pub struct Past {
    eras: Vec<Era>,
    replays: Vec<Replay>,
}

impl Past {
    /// It is away at first.
    pub fn begin() -> Past {
        Past { eras: vec![Era { visits: false, since_ms: now_ms(), life: 1, call: 1 }], replays: Vec::new() }
    }

    /// Whether it is in the configuration now.
    pub fn visits(&self) -> bool {
        self.eras.last().is_some_and(|era| era.visits)
    }

    /// It comes or goes, between two lives and while no call is on its way.
    pub fn turn(&mut self, run: &Run) {
        let sent = run.sent.load(Ordering::Relaxed);
        let acknowledged = run.acknowledged.lock().unwrap().len() as u64;
        assert_eq!(acknowledged, sent, "calls are on their way");
        let call = sent + 1;
        self.eras.push(Era { visits: !self.visits(), since_ms: now_ms(), life: run.life() + 1, call });
    }

    /// How many calls it has of those that are journalled.
    pub fn total(&self, journalled: u64) -> u64 {
        let calls = |era: usize| {
            self.eras.get(era + 1).map_or(journalled + 1, |next| next.call) - self.eras[era].call
        };
        (0..self.eras.len()).filter(|era| self.eras[*era].visits).map(calls).sum()
    }

    pub fn something_happens(&mut self, run: &Run, random: &mut fastrand::Rng) {
        self.look(run);
        match random.u8(..4) {
            0 => self.cancel(run, random),
            _ => self.replay(run, random),
        }
    }

    /// Starts a replay where one may be started.
    pub fn replay(&mut self, run: &Run, random: &mut fastrand::Rng) {
        self.look(run);
        let is_running = |replay: &&Replay| replay.end.is_none();
        let free = self.free(run.life());
        if !self.visits() || free.is_empty() || self.replays.iter().filter(is_running).count() >= MOST_RUNNING
        {
            return;
        }
        let eras = free[random.usize(..free.len())].clone();
        let all = random.bool();
        let user = (random.u8(..4) == 0).then(|| random.u64(..SENDERS * USERS));
        // It takes some seconds, so that it is cut off at times and at others is not.
        let calls = self.eras[eras.end].call - self.eras[eras.start].call;
        let mut question = json!({"to": PAST.name, "since": time(self.eras[eras.start].since_ms),
            "until": time(self.eras[eras.end].since_ms), "rate": format!("{} per 1 s", 20 + calls / 5), "all": all});
        if let Some(user) = user {
            question["user"] = json!(user.to_string());
        }
        let answer = run.ask("POST", "/api/replay", &question);
        let id = answer["id"].as_u64().unwrap();
        println!("replay {id} of {calls} calls: {question}");
        let is_short = answer["note"].is_string();
        self.replays.push(Replay { id, eras, user, all, is_short, life: run.life(), end: None });
    }

    /// Times that are over and that no replay is of in this life.
    fn free(&self, life: u32) -> Vec<Range<usize>> {
        let now = self.eras.len() - 1;
        let is_free = |eras: &Range<usize>| {
            self.replays.iter().all(|replay| {
                let is_apart = replay.eras.end <= eras.start || eras.end <= replay.eras.start;
                is_apart || replay.end.as_ref().is_some_and(|end| end.life < life)
            })
        };
        (0..now).flat_map(|first| (first + 1..=now).map(move |end| first..end)).filter(is_free).collect()
    }

    fn cancel(&mut self, run: &Run, random: &mut fastrand::Rng) {
        let mut running: Vec<&mut Replay> =
            self.replays.iter_mut().filter(|replay| replay.end.is_none()).collect();
        if running.is_empty() {
            return;
        }
        let replay = running.swap_remove(random.usize(..running.len()));
        let answer = run.ask("DELETE", &format!("/api/replay/{}", replay.id), &Value::Null);
        replay.note(&answer, run.life());
        println!("replay {} was cancelled: {:?}", replay.id, replay.end);
    }

    /// Takes in which replays have ended.
    pub fn look(&mut self, run: &Run) {
        let list = run.ask("GET", "/api/replay", &Value::Null);
        for replay in self.replays.iter_mut().filter(|replay| replay.end.is_none()) {
            let found = list["replays"].as_array().unwrap().iter().find(|listed| listed["id"] == replay.id);
            replay.note(found.unwrap_or_else(|| panic!("{replay:?} is not listed: {list}")), run.life());
        }
    }

    pub fn wait_for_all(&mut self, run: &Run) {
        run.wait_until("a replay does not end", || {
            self.look(run);
            self.replays.iter().all(|replay| replay.end.is_some())
        });
    }

    /// In which time a call was accepted.
    fn era_of_call(&self, call: u64) -> usize {
        self.eras.partition_point(|era| era.call <= call) - 1
    }

    fn era_of_life(&self, life: u32) -> usize {
        self.eras.partition_point(|era| era.life <= life) - 1
    }

    /// Which replay has sent something, if it was not its lane that follows the newest calls.
    fn cause(&self, arrival: &Arrival) -> Option<&Replay> {
        let era = self.era_of_call(arrival.call);
        if era == self.era_of_life(arrival.at.life) {
            assert!(self.eras[era].visits, "{arrival:?} came while the destination was away");
            return None;
        }
        let mut causes = self
            .replays
            .iter()
            .filter(|replay| replay.eras.contains(&era) && replay.lives().contains(&arrival.at.life));
        let cause = causes.next().unwrap_or_else(|| panic!("nobody asked for {arrival:?}: {self:#?}"));
        assert!(causes.next().is_none(), "two replays of one time ran in one life");
        Some(cause)
    }
}

impl Replay {
    /// Takes in what it says of itself, if it has ended.
    fn note(&mut self, shown: &Value, life: u32) {
        let is_cancelled = match shown["state"].as_str() {
            Some("running") => return,
            Some(state) => state == "cancelled",
            None => false,
        };
        assert!(shown["state"].is_string() || shown["removed"] == true, "{shown}");
        let outcomes = serde_json::from_value(shown["outcomes"].clone()).ok();
        self.end = Some(End { life, is_cancelled, outcomes });
    }

    /// To be asked for when all have ended.
    fn end(&self) -> &End {
        self.end.as_ref().unwrap()
    }

    fn lives(&self) -> std::ops::RangeInclusive<u32> {
        self.life..=self.end.as_ref().map_or(u32::MAX, |end| end.life)
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

fn time(ms: i64) -> String {
    let mut text = String::new();
    dates::push_iso_ms(&mut text, Date::Moment(ms));
    text
}
