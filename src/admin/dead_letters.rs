//! `/api/dead-letters`: list, show, redrive and purge. Commands ask the same questions of a data directory that no
//! instance uses. How a letter is kept and opened again is the queue's business.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use fanout_sdk::dates;
use fanout_sdk::destination::{Clock, Destination};
use fanout_sdk::event::{Date, Event};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::api::{Part, Question, Refusal};
use crate::config::parse_duration;
use crate::delivery::request;
use crate::queue::{DeadLetter, Id, Queue};
use crate::routing::{self, Decision, Target};

/// How many letters are read at once.
const PAGE: usize = 256;
/// How many are listed where nobody says how many.
const USUAL_LIMIT: usize = 100;
/// The most that are listed at once.
const MOST_LISTED: usize = 1000;

/// What a question about several letters may say of them.
const FILTERS: [&str; 6] = ["destination", "replay", "reason", "user", "since", "until"];

/// A destination that requests can be rendered for.
#[derive(Clone)]
pub struct Renderer {
    /// The destination's name.
    pub name: Arc<str>,
    /// Renders.
    pub destination: Arc<dyn Destination>,
    /// Which events it gets.
    pub target: Target,
}

/// A lane that may have dead letters: a destination's own, or that of a replay to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its name in the queue, with which its letters' ids begin.
    pub lane: String,
    /// The destination's name.
    pub destination: String,
    /// The replay's number.
    pub replay: Option<u64>,
}

/// Replays, as far as dead letters are concerned.
pub trait Replayed: Send + Sync {
    /// The lanes of those that are kept, by their numbers.
    fn places(&self) -> Vec<Place>;

    /// As [`Queue::redrive`], for the letters of a replay, which goes on if it had ended. Blocks on the disk.
    fn redrive(&self, replay: u64, ids: &[Id], whole: bool) -> usize;

    /// Letters of a destination's own lane were opened again.
    fn redriven(&self, destination: &str);
}

/// The dead letters of all destinations.
#[derive(Clone)]
pub struct DeadLetters {
    /// Where they are kept.
    pub queue: Arc<dyn Queue<Arc<Event>>>,
    /// The destinations' names.
    pub destinations: Vec<String>,
    /// Those of replays.
    pub replays: Arc<dyn Replayed>,
    /// Those that are enabled.
    pub renderers: Vec<Renderer>,
    /// What "ago" counts from.
    pub clock: Arc<dyn Clock>,
}

type Letter = DeadLetter<Arc<Event>>;

/// Which letters are meant.
#[derive(Debug, Default)]
struct Filter {
    destination: Option<String>,
    replay: Option<u64>,
    reason: Option<String>,
    user: Option<String>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    ids: Vec<(Place, Id)>,
}

impl Filter {
    /// Reads it from names and values.
    fn read(text: impl Fn(&str) -> Result<Option<String>, Refusal>, now_ms: i64) -> Result<Filter, Refusal> {
        let time = |name: &str| text(name)?.map(|given| read_time(name, &given, now_ms)).transpose();
        let replay = text("replay")?.map(|number| number.parse());
        Ok(Filter {
            destination: text("destination")?,
            replay: replay.transpose().map_err(|_| {
                Refusal::wrong("replay is not a number", "give one that `fanout replay list` shows")
            })?,
            reason: text("reason")?,
            user: text("user")?,
            since_ms: time("since")?,
            until_ms: time("until")?,
            ids: Vec::new(),
        })
    }

    fn is_empty(&self) -> bool {
        let Filter { destination, replay, reason, user, since_ms, until_ms, ids } = self;
        let texts = destination.is_none() && replay.is_none() && reason.is_none() && user.is_none();
        texts && since_ms.is_none() && until_ms.is_none() && ids.is_empty()
    }

    fn takes_from(&self, place: &Place) -> bool {
        self.destination.as_ref().is_none_or(|wanted| *wanted == place.destination)
            && self.replay.is_none_or(|wanted| place.replay == Some(wanted))
    }

    fn takes(&self, letter: &Letter) -> bool {
        let is_user = |user: &str| {
            let event = letter.payload.as_deref();
            event.is_some_and(|event| event.user_id() == Some(user) || event.anonymous_id() == Some(user))
        };
        self.reason.as_deref().is_none_or(|reason| reason == letter.dead.code)
            && self.since_ms.is_none_or(|since| letter.died_at_ms >= since)
            && self.until_ms.is_none_or(|until| letter.died_at_ms < until)
            && self.user.as_deref().is_none_or(is_user)
    }
}

impl DeadLetters {
    /// Answers a question; blocks on the disk.
    pub fn ask(&self, question: &Question) -> Result<Value, Refusal> {
        match (&question.method, &question.words()[..]) {
            (&Method::GET, []) => self.list(question),
            (&Method::GET, [id]) => self.show(id),
            (&Method::POST, ["redrive"]) => self.redrive_all(&question.body),
            (&Method::POST, ["purge"]) => {
                understood(question.body.keys(), &["ids", "limit"])?;
                self.each_chunk(&question.body, "purged", |place, ids| self.queue.purge(&place.lane, ids))
            }
            (_, ["redrive" | "purge"]) => Err(Refusal::method("POST")),
            (_, [] | [_]) => Err(Refusal::method("GET")),
            _ => Err(Refusal::unknown("there is no such path", "ask for /api/dead-letters")),
        }
    }

    /// Every lane that may have letters, the destinations' own first.
    fn places(&self) -> Vec<Place> {
        let own = |name: &String| Place { lane: name.clone(), destination: name.clone(), replay: None };
        self.destinations.iter().map(own).chain(self.replays.places()).collect()
    }

    fn redrive_all(&self, body: &Map<String, Value>) -> Result<Value, Refusal> {
        understood(body.keys(), &["ids", "limit", "all"])?;
        let whole = member(body, "all", "true or false", Value::as_bool)?.unwrap_or(false);
        let mut disabled = BTreeSet::new();
        let mut answer = self.each_chunk(body, "redriven", |place, ids| {
            let is_enabled = self.renderers.iter().any(|renderer| *renderer.name == *place.destination);
            if is_enabled {
                return self.redrive(place, ids, whole);
            }
            disabled.insert(place.destination.clone());
            0
        })?;
        if let Some(members) = answer.as_object_mut().filter(|_| !disabled.is_empty()) {
            let names = disabled.into_iter().collect::<Vec<_>>().join(", ");
            let note = format!(
                "{names} is not enabled, and what is redriven would be skipped: enable it first, paused if need be"
            );
            members.insert("note".to_owned(), note.into());
        }
        Ok(answer)
    }

    fn redrive(&self, place: &Place, ids: &[Id], whole: bool) -> usize {
        if let Some(replay) = place.replay {
            return self.replays.redrive(replay, ids, whole);
        }
        let opened = self.queue.redrive(&place.lane, ids, whole);
        self.replays.redriven(&place.destination);
        opened
    }

    fn list(&self, question: &Question) -> Result<Value, Refusal> {
        understood(question.query.iter().map(|(name, _)| name), &["limit", "after"])?;
        let text = |name: &str| Ok(question.parameter(name).map(str::to_owned));
        let places = self.places();
        let filter = self.filter(&places, text)?;
        let limit = match question.parameter("limit").map(str::parse) {
            None => USUAL_LIMIT,
            Some(Ok(limit)) if (1..=MOST_LISTED).contains(&limit) => limit,
            Some(_) => return Err(Refusal::wrong("limit is not a number", "give one from 1 to 1000")),
        };
        let after = question.parameter("after").map(|id| self.id(&places, id)).transpose()?;
        let (mut letters, mut next) = (Vec::new(), None);
        let walked = self.walk(&places, &filter, after, |place, letter| {
            if letters.len() == limit {
                return ControlFlow::Break(());
            }
            next = Some(id_text(place, letter.id));
            letters.push(self.summary(place, &letter));
            ControlFlow::Continue(())
        });
        if walked.is_continue() {
            next = None;
        }
        Ok(json!({"letters": letters, "next": next}))
    }

    fn filter(
        &self,
        places: &[Place],
        text: impl Fn(&str) -> Result<Option<String>, Refusal>,
    ) -> Result<Filter, Refusal> {
        let filter = Filter::read(text, self.clock.now_ms())?;
        // A replay's may be gone from the configuration.
        if let Some(name) = &filter.destination
            && !places.iter().any(|place| place.destination == *name)
        {
            return Err(self.no_destination(name));
        }
        if let Some(number) = filter.replay
            && !places.iter().any(|place| place.replay == Some(number))
        {
            return Err(Refusal::unknown(
                format!("there is no replay {number}"),
                "`fanout replay list` shows those there are",
            ));
        }
        Ok(filter)
    }

    fn no_destination(&self, name: &str) -> Refusal {
        Refusal::unknown(
            format!("there is no destination `{name}`"),
            format!("there are: {}", self.destinations.join(", ")),
        )
    }

    fn show(&self, id: &str) -> Result<Value, Refusal> {
        let places = self.places();
        let (place, id_of_call) = self.id(&places, id)?;
        let Some(letter) = self.letter(&place, id_of_call) else {
            return Err(Refusal::unknown(
                format!("{id} is no dead letter"),
                "it was redriven or purged; see `fanout dead-letters list`",
            ));
        };
        Ok(Value::Object(self.whole(&place, &letter)))
    }

    fn letter(&self, place: &Place, id: Id) -> Option<Letter> {
        self.letters_from(place, id, 1).pop().filter(|letter| letter.id == id)
    }

    /// The letters of a lane from an id on, with it.
    fn letters_from(&self, place: &Place, Id(seq): Id, max: usize) -> Vec<Letter> {
        self.queue.dead_letters(&place.lane, seq.checked_sub(1).map(Id), max)
    }

    /// Does something with all letters that are meant, in chunks, each of one lane.
    fn each_chunk(
        &self,
        body: &Map<String, Value>,
        done_as: &str,
        mut work: impl FnMut(&Place, &[Id]) -> usize,
    ) -> Result<Value, Refusal> {
        let text = |name: &str| match body.get(name) {
            Some(Value::Number(number)) if name == "replay" => Ok(Some(number.to_string())),
            _ => Ok(member(body, name, "a text", Value::as_str)?.map(str::to_owned)),
        };
        let places = self.places();
        let mut filter = self.filter(&places, text)?;
        for id in member(body, "ids", "a list of ids", some_ids)?.into_iter().flatten() {
            filter.ids.push(self.id(&places, id.as_str().unwrap_or_default())?);
        }
        let limit = member(body, "limit", "a whole number", Value::as_u64)?.unwrap_or(u64::MAX);
        if filter.is_empty() {
            return Err(Refusal::wrong(
                "neither ids nor a filter say which dead letters are meant",
                "name ids, or at least one of destination, replay, reason, user, since and until",
            ));
        }
        let (mut matched, mut done) = (0_u64, 0);
        let mut chunk: Option<(Place, Vec<Id>)> = None;
        let _ = self.walk(&places, &filter, None, |place, letter| {
            if matched == limit {
                return ControlFlow::Break(());
            }
            matched += 1;
            if let Some((of, ids)) = chunk.take_if(|(of, ids)| of != place || ids.len() == PAGE) {
                done += work(&of, &ids);
            }
            chunk.get_or_insert_with(|| (place.clone(), Vec::new())).1.push(letter.id);
            ControlFlow::Continue(())
        });
        if let Some((of, ids)) = chunk {
            done += work(&of, &ids);
        }
        Ok(json!({"matched": matched, done_as: done}))
    }

    /// Goes through the letters that are meant, lane by lane, in the order of their calls.
    fn walk(
        &self,
        places: &[Place],
        filter: &Filter,
        after: Option<(Place, Id)>,
        mut each: impl FnMut(&Place, Letter) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if !filter.ids.is_empty() {
            return self.walk_ids(filter, each);
        }
        let start = after.as_ref().and_then(|(from, _)| places.iter().position(|one| one == from));
        for place in places.iter().skip(start.unwrap_or(0)).filter(|place| filter.takes_from(place)) {
            let mut at = after.as_ref().filter(|(from, _)| from == place).map(|(_, id)| *id);
            loop {
                let page = self.queue.dead_letters(&place.lane, at, PAGE);
                let Some(last) = page.last().map(|letter| letter.id) else { break };
                at = Some(last);
                for letter in page.into_iter().filter(|letter| filter.takes(letter)) {
                    each(place, letter)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn walk_ids(
        &self,
        filter: &Filter,
        mut each: impl FnMut(&Place, Letter) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut ids = filter.ids.clone();
        ids.sort_unstable();
        ids.dedup();
        for of_lane in ids.chunk_by(|(one, _), (next, _)| one == next) {
            let Some((place, _)) = of_lane.first().filter(|(place, _)| filter.takes_from(place)) else {
                continue;
            };
            let mut asked = of_lane;
            // Many at a time: each look at the letters costs a checkpoint.
            while let Some((_, first)) = asked.first() {
                let page = self.letters_from(place, *first, asked.len().min(PAGE));
                let Some(last) = page.last().map(|letter| letter.id) else { break };
                let (seen, rest) = asked.split_at(asked.partition_point(|(_, id)| *id <= last));
                asked = rest;
                let is_asked = |id| seen.binary_search_by_key(&id, |(_, id)| *id).is_ok();
                for letter in page.into_iter().filter(|letter| is_asked(letter.id) && filter.takes(letter)) {
                    each(place, letter)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// A letter's id as people write it: the lane's name and a number.
    fn id(&self, places: &[Place], text: &str) -> Result<(Place, Id), Refusal> {
        let parts = text.rsplit_once(':').and_then(|(lane, seq)| Some((lane, seq.parse().ok()?)));
        let Some((lane, seq)) = parts else {
            return Err(Refusal::wrong(
                format!("`{text}` is no dead letter's id"),
                "an id is like webhook:123; `fanout dead-letters list` shows them",
            ));
        };
        match places.iter().find(|place| place.lane == lane) {
            Some(place) => Ok((place.clone(), Id(seq))),
            None => Err(Refusal::unknown(
                format!("there is no destination or replay `{lane}`"),
                format!(
                    "there are: {}; `fanout replay list` shows the replays",
                    self.destinations.join(", ")
                ),
            )),
        }
    }

    /// What a list says of a letter.
    fn summary(&self, place: &Place, letter: &Letter) -> Value {
        let event = letter.payload.as_deref();
        json!({
            "id": id_text(place, letter.id),
            "destination": place.destination,
            "replay": place.replay,
            "died_at": time_text(letter.died_at_ms),
            "received_at": time_text(letter.received_at_ms),
            "user": event.and_then(|event| event.user_id().or(event.anonymous_id())),
            "message_id": event.map(Event::message_id),
            "source": letter.source.and_then(|source| self.queue.source_name(source)),
            "reason": letter.dead.code,
            "attempts": letter.dead.attempts,
            "call_kept": event.is_some(),
        })
    }

    /// All that is known of a letter.
    fn whole(&self, place: &Place, letter: &Letter) -> Map<String, Value> {
        let Value::Object(mut whole) = self.summary(place, letter) else { return Map::new() };
        let dead = &letter.dead;
        let first = (dead.first_attempt_at_ms != 0).then(|| time_text(dead.first_attempt_at_ms));
        let (request, origin) = self.request(&place.destination, letter);
        let event = letter.payload.as_deref();
        let call = event.and_then(|event| serde_json::from_str::<Value>(event.raw().raw()).ok());
        let redrive = event.map(|_| format!("fanout dead-letters redrive {}", id_text(place, letter.id)));
        for (key, value) in [
            ("first_attempt_at", json!(first)),
            ("detail", json!(dead.reason)),
            ("answer", json!(dead.answer)),
            ("request", json!(request)),
            ("request_is", json!(origin)),
            ("call", json!(call)),
            ("redrive", json!(redrive)),
        ] {
            whole.insert(key.to_owned(), value);
        }
        whole
    }

    /// The request, and where it is from.
    fn request(&self, destination: &str, letter: &Letter) -> (Option<String>, &'static str) {
        if let Some(request) = &letter.dead.request {
            return (Some(request.clone()), "kept when it died, rendered for this call alone");
        }
        let Some(event) = &letter.payload else {
            return (None, "not known: the call is gone");
        };
        let Some(renderer) = self.renderers.iter().find(|renderer| &*renderer.name == destination) else {
            return (None, "not known: the destination is not enabled");
        };
        let source = letter.source.and_then(|source| self.queue.source_name(source)).unwrap_or_default();
        let options = match routing::decide(event, &source, &renderer.target) {
            Decision::On { options, .. } => options,
            Decision::Off { .. } => return (None, "none: by its flags it would not be sent today"),
        };
        match renderer.destination.render(event, options) {
            Ok(item) => (
                request::shown(&*renderer.destination, item, &*self.clock),
                "rendered again with today's settings",
            ),
            Err(_) => (None, "none: with today's settings it would be skipped"),
        }
    }
}

#[async_trait]
impl Part for DeadLetters {
    fn name(&self) -> &'static str {
        "dead-letters"
    }

    async fn answer(&self, question: Question) -> Result<Value, Refusal> {
        let letters = self.clone();
        let work = tokio::task::spawn_blocking(move || letters.ask(&question));
        work.await.unwrap_or_else(|_| Err(Refusal::failed("the answer could not be made", "see the log")))
    }
}

fn id_text(place: &Place, Id(seq): Id) -> String {
    format!("{}:{seq}", place.lane)
}

fn time_text(ms: i64) -> String {
    let mut text = String::new();
    dates::push_iso_ms(&mut text, Date::Moment(ms));
    text
}

/// Refuses names that mean nothing: a filter that is passed over makes a purge or a redrive one of more than was meant.
fn understood<'q>(names: impl Iterator<Item = &'q String>, more: &[&str]) -> Result<(), Refusal> {
    let known = || FILTERS.iter().chain(more).copied();
    match names.into_iter().find(|name| known().all(|known| known != **name)) {
        None => Ok(()),
        Some(name) => Err(Refusal::wrong(
            format!("`{name}` means nothing here"),
            format!("there are: {}", known().collect::<Vec<_>>().join(", ")),
        )),
    }
}

/// A member of a question's body, which may be absent and must not be anything else.
fn member<'b, T>(
    body: &'b Map<String, Value>,
    name: &str,
    what: &str,
    read: impl Fn(&'b Value) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    let wrong = || Refusal::wrong(format!("`{name}` is not {what}"), format!("write it as {what}"));
    body.get(name).map(|value| read(value).ok_or_else(wrong)).transpose()
}

/// None at all would be taken for any.
fn some_ids(value: &Value) -> Option<&Vec<Value>> {
    value.as_array().filter(|ids| !ids.is_empty())
}

/// A date or a time, or how long ago.
fn read_time(name: &str, text: &str, now_ms: i64) -> Result<i64, Refusal> {
    if let Some(ago) = parse_duration(text) {
        return Ok(now_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)));
    }
    dates::parse(text).map(|parsed| parsed.date.unix_ms()).ok_or_else(|| {
        Refusal::wrong(
            format!("{name} is neither a time nor a length of time: `{text}`"),
            "write 2026-11-22T08:30:00Z, 2026-11-22, or 2h for two hours ago",
        )
    })
}
