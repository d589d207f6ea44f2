//! The upsert of a `send`: look up, then update or create, recover from what the vendor knows better, remember the id.
//! Which requests these are, and what their answers mean, is the manifest's.

use std::sync::Arc;

use super::exchange::Exchanged;
use super::{Run, Told};
use crate::destination::Outcome;
use crate::manifest::outcomes::{Decision, What};
use crate::manifest::plan::UpsertPlan;

/// How often the vendor may change its mind about a person before it is asked again later. Recovering from a conflict with
/// somebody who was archived takes three: it is there, it is restored, it is the right one.
const MOST_CONTRADICTIONS: u8 = 4;

/// What comes next for an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Step {
    /// Look into the memory.
    #[default]
    Begin,
    /// Ask the request at this position of `find`.
    Find(usize),
    /// Update with this request what was found.
    Update(usize),
    Create,
    Done,
}

impl<'r> Run<'r> {
    /// Looks the person of an item up and updates or creates it; does nothing where the manifest has no upsert, or it has
    /// been done. Gives what a rule tells the code: when the code has done something about it, or has ended the item,
    /// this is to be called again, and goes on with the step at which it was.
    pub async fn upsert(&mut self, at: usize) -> Option<Told> {
        let plan = self.plan;
        let upsert = plan.program.upsert.as_ref()?;
        self.take_turn(at).await;
        while self.is_open(at) {
            let step = self.states.get(at).map_or(Step::Done, |state| state.step);
            match step {
                Step::Done => return None,
                Step::Begin => self.begin(at, upsert),
                Step::Find(position) => match upsert.find.get(position) {
                    Some(request) if self.is_asked(at, *request) => {
                        if let Some(told) = self.step(at, *request, step, upsert).await {
                            return Some(told);
                        }
                    }
                    Some(_) => self.go_to(at, Step::Find(position + 1)),
                    None => self.create_or_end(at, upsert),
                },
                Step::Update(request) => {
                    if let Some(told) = self.step(at, request, step, upsert).await {
                        return Some(told);
                    }
                }
                Step::Create => match upsert.create {
                    Some(request) => {
                        if let Some(told) = self.step(at, request, step, upsert).await {
                            return Some(told);
                        }
                    }
                    None => self.create_or_end(at, upsert),
                },
            }
        }
        None
    }

    /// The id that the upsert of an item found or created.
    pub fn found(&self, at: usize) -> Option<&str> {
        self.states.get(at)?.found.as_deref()
    }

    async fn take_turn(&mut self, at: usize) {
        let is_free = self.states.get(at).is_some_and(|state| state.turn.is_none());
        if let (true, Some(key)) = (is_free, self.memory_key(at)) {
            let turn = self.context.memory.turn(&key).await;
            if let Some(state) = self.states.get_mut(at) {
                state.turn = Some(turn);
            }
        }
    }

    fn memory_key(&self, at: usize) -> Option<String> {
        self.items.get(at).map(|item| format!("upsert/{}", item.identity))
    }

    fn go_to(&mut self, at: usize, step: Step) {
        if let Some(state) = self.states.get_mut(at) {
            state.step = step;
        }
    }

    fn begin(&mut self, at: usize, upsert: &UpsertPlan) {
        let key = self.memory_key(at).unwrap_or_default();
        let kept = self.context.memory.get(&key, self.context.clock.now_ms());
        let kept = kept.as_deref().and_then(|kept| kept.split_once(' '));
        let known = kept.and_then(|(request, id)| Some((request.parse().ok()?, id)));
        let Some(state) = self.states.get_mut(at) else { return };
        match known {
            Some((request, id)) => {
                state.remembered = true;
                state.found = Some(id.into());
                state.step = Step::Update(request);
            }
            None if upsert.find.is_empty() => state.step = Step::Create,
            None => state.step = Step::Find(0),
        }
    }

    /// Whether a request of `find` is asked for this item.
    fn is_asked(&self, at: usize, request: usize) -> bool {
        self.plan.program.requests.get(request).is_some_and(|plan| self.is_wanted_now(at, plan))
    }

    fn create_or_end(&mut self, at: usize, upsert: &UpsertPlan) {
        match upsert.create {
            Some(_) => self.go_to(at, Step::Create),
            None => {
                self.end(at, Outcome::Rejected, "the vendor does not know this person, and none is created")
            }
        }
    }

    /// Makes one step's request.
    async fn step(&mut self, at: usize, request: usize, step: Step, upsert: &UpsertPlan) -> Option<Told> {
        let (decision, shown) = match self.single(at, request).await {
            Exchanged::Answered(mut decisions, shown) => (decisions.pop()?, shown),
            Exchanged::Absent(reason) => {
                match step {
                    // There is nothing to look for.
                    Step::Find(position) => self.go_to(at, Step::Find(position + 1)),
                    _ => self.end(at, Outcome::Rejected, &reason),
                }
                return None;
            }
            Exchanged::Ended => {
                // A request that is optional and was not answered leaves the item open.
                match step {
                    Step::Find(position) => self.go_to(at, Step::Find(position + 1)),
                    _ => self.go_to(at, Step::Done),
                }
                return None;
            }
        };
        match (&decision.what, step) {
            (What::Tell(word), _) => {
                let kept = decision.kept.clone().unwrap_or_default();
                return Some(Told { word: word.clone(), kept, reason: decision.reason });
            }
            (What::Found { update }, _) => {
                self.take_found(at, &decision, update.unwrap_or(upsert.update), step)
            }
            (What::Missing, Step::Find(position)) => self.go_to(at, Step::Find(position + 1)),
            (What::Missing, Step::Update(_)) => self.is_gone(at, upsert),
            (What::Delivered | What::Submitted, Step::Update(request)) => {
                self.decide(at, &decision, &shown);
                self.remember(at, request, upsert);
                self.go_to(at, Step::Done);
            }
            (What::Delivered | What::Submitted, _) => {
                self.decide(at, &decision, &shown);
                if let (Some(state), Some(id)) = (self.states.get_mut(at), &decision.kept) {
                    state.found = Some(id.as_str().into());
                }
                self.remember(at, upsert.update, upsert);
                self.go_to(at, Step::Done);
            }
            // A rule asks for a later request, whose outcome counts.
            (What::Send(_), Step::Find(position)) => self.go_to(at, Step::Find(position + 1)),
            (What::Send(_), _) => {
                self.decide(at, &decision, &shown);
                self.go_to(at, Step::Done);
            }
            _ => self.decide(at, &decision, &shown),
        }
        None
    }

    fn take_found(&mut self, at: usize, decision: &Decision, update: usize, step: Step) {
        let Some(state) = self.states.get_mut(at) else { return };
        state.found = decision.kept.as_deref().map(Arc::from);
        state.remembered = false;
        state.step = Step::Update(update);
        if !matches!(step, Step::Find(_)) {
            self.contradicted(at);
        }
    }

    /// What was to be updated is not there any more.
    fn is_gone(&mut self, at: usize, upsert: &UpsertPlan) {
        if let Some(key) = self.memory_key(at) {
            self.context.memory.forget(&key);
        }
        let Some(state) = self.states.get_mut(at) else { return };
        state.found = None;
        if std::mem::take(&mut state.remembered) && !upsert.find.is_empty() {
            state.step = Step::Find(0);
            return;
        }
        self.create_or_end(at, upsert);
        self.contradicted(at);
    }

    fn contradicted(&mut self, at: usize) {
        let Some(state) = self.states.get_mut(at) else { return };
        state.contradictions += 1;
        if state.contradictions > MOST_CONTRADICTIONS {
            let reason = "the vendor says in turns that it has this person and that it does not";
            self.end(at, Outcome::Retry { after: None }, reason);
        }
    }

    fn remember(&self, at: usize, update: usize, upsert: &UpsertPlan) {
        let (Some(id), Some(key)) = (self.found(at), self.memory_key(at)) else { return };
        let now_ms = self.context.clock.now_ms();
        let lasts_ms = i64::try_from(upsert.remember.as_millis()).unwrap_or(i64::MAX);
        self.context.memory.put(&key, &format!("{update} {id}"), now_ms.saturating_add(lasts_ms), now_ms);
    }
}
