//! Golden cases as scenes: what a destination was configured with, its items, and the exchanges that make a success, so
//! that a check can play them again with one thing changed.

use std::sync::Arc;

use super::super::case::{Case, read_answer};
use super::super::run::options;
use super::super::{Factory, FixedClock, Subject};
use super::stage::{Played, Reply, new_memory, play, status};
use crate::destination::{Item, NoAnswer, Outcome, Request, Skip};
use crate::event::Event;
use crate::json::{Doc, Json};
use crate::memory::Memory;

/// A golden case that was run.
pub(super) struct Scene {
    /// The case's file.
    pub file: String,
    /// The settings as JSON.
    pub settings: String,
    pub subject: Subject,
    /// The calls as JSON, those that are skipped included.
    pub calls: Vec<String>,
    pub items: Vec<Item>,
    pub clock: FixedClock,
    /// What was asked and answered.
    pub exchanges: Vec<(Request, Reply)>,
    pub played: Played,
}

impl Scene {
    /// Runs a golden case.
    ///
    /// # Errors
    /// Why it cannot be run.
    pub fn of_case(factory: &Factory<'_>, file: &str, text: &str) -> Result<Scene, String> {
        let doc = Doc::parse(text.into()).map_err(|error| format!("the case is no JSON: {error}"))?;
        let case = Case::read(&doc).map_err(|problems| problems.join("; "))?;
        let calls = case.events.iter().map(|event| event.raw().to_owned()).collect();
        let answers = case.root.get("exchanges").into_iter().flat_map(Json::elements);
        let answers: Vec<Reply> =
            answers.filter_map(|exchange| read_answer(exchange.get("response")?).ok()).collect();
        let clock = FixedClock { now_ms: case.now_ms, nonce: case.nonce.clone() };
        Scene::new(factory, file, case.settings.raw(), calls, clock, &answers)
    }

    fn new(
        factory: &Factory<'_>,
        file: &str,
        settings: &str,
        calls: Vec<String>,
        clock: FixedClock,
        answers: &[Reply],
    ) -> Result<Scene, String> {
        let doc = Doc::parse(settings.into()).map_err(|error| error.to_string())?;
        let subject = factory(doc.root()).map_err(|problems| problems.join("; "))?;
        let mut scene = Scene {
            file: file.to_owned(),
            settings: settings.to_owned(),
            subject,
            calls: Vec::new(),
            items: Vec::new(),
            clock,
            exchanges: Vec::new(),
            played: Played::default(),
        };
        scene.items = calls.iter().filter_map(|call| scene.render(call).ok()).collect();
        scene.calls = calls;
        let mut answers = answers.iter();
        let mut vendor = |_: usize, _: &Request| match answers.next() {
            Some(answer) => answer.clone(),
            None => Err(NoAnswer::Connection("no exchange is left".to_owned())),
        };
        let mut replies = Vec::new();
        let mut recording = |at: usize, request: &Request| {
            let reply = vendor(at, request);
            replies.push((request.clone(), reply.clone()));
            reply
        };
        let destination = &*scene.subject.destination;
        scene.played = play(destination, &scene.items, &scene.clock, &new_memory(), &mut recording)?;
        scene.exchanges = replies;
        Ok(scene)
    }

    /// The same scene with other settings, the vendor answering as before.
    pub fn with_settings(&self, factory: &Factory<'_>, settings: &str) -> Result<Scene, String> {
        let answers: Vec<Reply> = self.exchanges.iter().map(|(_, reply)| reply.clone()).collect();
        Scene::new(factory, &self.file, settings, self.calls.clone(), self.clock_at(0), &answers)
    }

    /// The scene's clock, so much later, with a nonce of its own unless it stands still.
    pub fn clock_at(&self, later_ms: i64) -> FixedClock {
        let nonce = if later_ms == 0 { self.clock.nonce.clone() } else { "c0ffee00".repeat(4) };
        FixedClock { now_ms: self.clock.now_ms + later_ms, nonce }
    }

    /// A call as the destination takes it; the outer error is a call that no router accepts.
    pub fn render(&self, call: &str) -> Result<Item, Skip> {
        let event = Event::parse(call.into(), self.clock.now_ms, &self.subject.names)
            .map_err(|refusal| Skip { reason: "refused", detail: refusal.message })?;
        let event = Arc::new(event);
        self.subject.destination.render(&event, options(&event, &self.subject.spellings))
    }

    /// The first of its calls that is not skipped.
    pub fn call(&self) -> &str {
        let renders = |call: &&String| self.render(call).is_ok();
        self.calls.iter().find(renders).map(String::as_str).unwrap_or_default()
    }

    /// Whether every item was taken by the vendor, and nothing was asked that the case does not answer.
    pub fn is_success(&self) -> bool {
        let is_done = |outcome: &Outcome| matches!(outcome, Outcome::Delivered | Outcome::Submitted);
        !self.items.is_empty() && self.played.verdicts().all(|verdict| is_done(&verdict.outcome))
    }

    /// Items of this scene's destination, played against a vendor.
    pub fn play(
        &self,
        items: &[Item],
        memory: &Memory,
        vendor: &mut super::stage::Vendor<'_>,
    ) -> Result<Played, String> {
        play(&*self.subject.destination, items, &self.clock, memory, vendor)
    }

    /// Items of this scene's destination, the vendor answering as in the case.
    pub fn play_well(&self, items: &[Item]) -> Result<Played, String> {
        let mut replay = Replay::new(&self.exchanges);
        self.play(items, &new_memory(), &mut |_, request| replay.answer(request))
    }

    /// Which kinds of requests were made, in their order; equal for scenes of one flow.
    pub fn flow(&self) -> Vec<String> {
        self.exchanges.iter().map(|(request, _)| place(request)).collect()
    }
}

/// Answers requests as a case answers those that are most like them, in the case's order where several are.
pub(super) struct Replay<'s> {
    exchanges: &'s [(Request, Reply)],
    used: Vec<bool>,
}

impl<'s> Replay<'s> {
    pub fn new(exchanges: &'s [(Request, Reply)]) -> Replay<'s> {
        Replay { exchanges, used: vec![false; exchanges.len()] }
    }

    /// The answer to a request; an empty 200 for one that the case knows nothing like.
    pub fn answer(&mut self, request: &Request) -> Reply {
        let likeness = |at: usize, known: &Request| {
            let used = self.used.get(at).copied().unwrap_or_default();
            (likeness(known, request), !used, std::cmp::Reverse(at))
        };
        let best = self
            .exchanges
            .iter()
            .enumerate()
            .map(|(at, (known, reply))| (likeness(at, known), at, reply))
            .max_by_key(|(likeness, ..)| *likeness);
        match best {
            Some(((likeness, ..), at, reply)) if likeness > 0 => {
                if let Some(used) = self.used.get_mut(at) {
                    *used = true;
                }
                reply.clone()
            }
            _ => Ok(status(200)),
        }
    }
}

fn likeness(known: &Request, request: &Request) -> u32 {
    let mut likeness = 0;
    if place(known) == place(request) {
        likeness += 4;
        if known.url == request.url {
            likeness += 2;
        }
        if known.body == request.body {
            likeness += 1;
        }
    }
    likeness
}

/// What kind of request it is: its name, else method, host and how long its path is.
pub(super) fn place(request: &Request) -> String {
    if !request.name.is_empty() {
        return request.name.to_string();
    }
    let parts = super::shape::Shape::of(request);
    format!("{} {} with {} path segments", request.method, parts.origin, parts.segments)
}

/// Whether it asks for a token or the like, and stores nothing.
pub(super) fn is_fetch(request: &Request) -> bool {
    request.name.starts_with("fetch.")
}
