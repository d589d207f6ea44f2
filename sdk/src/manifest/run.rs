//! One `send`: which requests are made for some items, in which order, and how each item ends. The plain requests go in
//! the manifest's order (`chunks`), after the upsert (`steps`); what a request and its answer are is `exchange`'s.

mod chunks;
mod exchange;
mod fetch;
mod steps;

use std::collections::VecDeque;
use std::sync::Arc;

use super::bound::{Plan, masked};
use super::outcomes::{Decision, What};
use super::scope::Reply;
use crate::destination::{Context, Destination as _, Item, Outcome, Verdict};
use crate::json::Doc;
use crate::memory::Turn;
use chunks::Chunk;
use exchange::Exchanged;
use steps::Step;

const MAX_REASON_CHARS: usize = 300;
const MAX_ANSWER_BYTES: usize = 512;
/// A `send` that makes more requests than this, and ten for each item, goes round in circles.
const MOST_REQUESTS: usize = 1_000;

/// One `send` of a manifest's requests. Code beside a manifest drives it; a manifest alone is [`Run::finish`].
///
/// ```text
/// let mut run = self.plan.run(context, items);
/// for at in 0..items.len() {
///     while let Some(told) = run.upsert(at).await {
///         // do what the rule's word asks for, or end the item
///     }
/// }
/// run.finish().await
/// ```
pub struct Run<'r> {
    plan: &'r Plan,
    context: &'r Context<'r>,
    items: &'r [Item],
    states: Vec<State<'r>>,
    /// The next plain request of the manifest.
    next_request: usize,
    agenda: VecDeque<Chunk>,
    fetched: Vec<Arc<Doc>>,
    /// What fetches gave, in every form in which a vendor may send it back.
    tokens: Vec<String>,
    /// Whether fetches were made anew, so that bytes made before may hold what was refused.
    renewed: bool,
    /// What was made anew has not been taken yet: to be refused again is then the vendor's last word.
    on_trial: bool,
    /// How many requests were made.
    made: usize,
}

/// How far one item is.
#[derive(Default)]
struct State<'r> {
    /// Decided for good.
    verdict: Option<Verdict>,
    /// What is left out of it, for the verdict of a success.
    left_out: String,
    /// One of its requests was only submitted.
    submitted: bool,
    /// The requests that `send:` rules asked for.
    asked: Vec<usize>,
    replies: Vec<(usize, Arc<Reply>)>,
    found: Option<Arc<str>>,
    /// Whether what was found came from the memory.
    remembered: bool,
    given: Vec<(usize, Arc<str>)>,
    step: Step,
    /// How often the vendor took back what it had said.
    contradictions: u8,
    /// Nobody else looks this person up in the meantime.
    turn: Option<Turn<'r>>,
}

/// What a rule tells the code beside the manifest: `then = "tell:WORD"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The word.
    pub word: String,
    /// What its `keep` says; JSON where it is no scalar, empty where it is absent.
    pub kept: String,
    /// What its `reason` says, for a verdict.
    pub reason: String,
}

/// What came of a request that the code asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The vendor took it.
    Delivered,
    /// A rule tells the code something.
    Told(Told),
    /// The item has ended: there is nothing more to do for it.
    Ended,
}

impl Plan {
    /// Begins a `send`.
    pub fn run<'r>(&'r self, context: &'r Context<'r>, items: &'r [Item]) -> Run<'r> {
        Run {
            plan: self,
            context,
            items,
            states: items.iter().map(|_| State::default()).collect(),
            next_request: 0,
            agenda: VecDeque::new(),
            fetched: Vec::new(),
            tokens: Vec::new(),
            renewed: false,
            on_trial: false,
            made: 0,
        }
    }
}

impl<'r> Run<'r> {
    /// Whether nothing has ended an item yet.
    pub fn is_open(&self, at: usize) -> bool {
        self.states.get(at).is_some_and(|state| state.verdict.is_none())
    }

    /// Gives the manifest's `{given.NAME}` a value for an item. A name that `[code] gives` does not list is a mistake of
    /// the code's, and ends the item.
    pub fn give(&mut self, at: usize, name: &str, value: &str) {
        let Some(slot) = self.plan.program.gives.iter().position(|known| known == name) else {
            let reason = format!("the code gives {name}, which [code] gives of the manifest does not list");
            return self.end(at, Outcome::Rejected, &reason);
        };
        if let Some(state) = self.states.get_mut(at) {
            state.given.push((slot, value.into()));
        }
    }

    /// Ends an item, unless it has ended. Reason and answer are cut, and secrets in them masked.
    pub fn end(&mut self, at: usize, outcome: Outcome, reason: &str) {
        let verdict = self.unanswered(outcome, reason);
        self.decide_all(&[at], verdict);
    }

    /// Says that an item's success will not be whole: the vendor refuses a part of it, which is left out.
    pub fn leave_out(&mut self, at: usize, what: &str) {
        let what = self.reason(what, &[]);
        if let Some(state) = self.states.get_mut(at) {
            state.left_out = what;
        }
    }

    /// Makes a request on demand for one item. A name that the manifest does not have is a mistake of the code's, and
    /// ends the item.
    pub async fn ask(&mut self, at: usize, request: &str) -> Said {
        let Some(found) = self.plan.program.requests.iter().position(|known| &*known.name == request) else {
            self.end(at, Outcome::Rejected, &format!("the code asks for {request}, which is no request"));
            return Said::Ended;
        };
        if !self.is_open(at) {
            return Said::Ended;
        }
        let request = found;
        match self.single(at, request).await {
            Exchanged::Answered(mut decisions, shown) => match decisions.pop() {
                Some(decision) => self.said(at, decision, &shown),
                None => Said::Ended,
            },
            Exchanged::Absent(reason) => {
                self.end(at, Outcome::Rejected, &reason);
                Said::Ended
            }
            Exchanged::Ended => Said::Ended,
        }
    }

    fn said(&mut self, at: usize, decision: Decision, shown: &Arc<str>) -> Said {
        if let What::Tell(word) = decision.what {
            let kept = decision.kept.unwrap_or_default();
            return Said::Told(Told { word, kept, reason: decision.reason });
        }
        self.decide(at, &decision, shown);
        if self.is_open(at) { Said::Delivered } else { Said::Ended }
    }

    /// Makes the plain requests in the manifest's order. Stops where a rule tells the code something about an item, whose
    /// request is made again when this is called again; to be called until it gives nothing.
    pub async fn requests(&mut self) -> Option<(usize, Told)> {
        while let Some(chunk) = self.next_chunk().await {
            if let Some(told) = self.make(chunk).await {
                return Some(told);
            }
        }
        None
    }

    /// Does everything that is left, and says how each item ended, in their order.
    pub async fn finish(mut self) -> Vec<Verdict> {
        for at in 0..self.items.len() {
            while let Some(told) = self.upsert(at).await {
                self.end_untold(at, &told);
            }
        }
        while let Some((at, told)) = self.requests().await {
            self.end_untold(at, &told);
        }
        let nothing: Arc<str> = "".into();
        let done = |submitted, reason| Verdict {
            outcome: if submitted { Outcome::Submitted } else { Outcome::Delivered },
            reason,
            answer: nothing.clone(),
        };
        let ends = self.states.into_iter();
        ends.map(|state| state.verdict.unwrap_or_else(|| done(state.submitted, state.left_out))).collect()
    }

    /// Nobody does anything about what was told: the vendor has refused it.
    fn end_untold(&mut self, at: usize, told: &Told) {
        self.end(at, Outcome::Rejected, &format!("{}: {}", told.word, told.reason));
    }

    fn verdict(&self, outcome: Outcome, reason: &str, answer: &Arc<str>) -> Verdict {
        Verdict { outcome, reason: self.reason(reason, &[]), answer: answer.clone() }
    }

    /// The verdict where there is no answer to show.
    fn unanswered(&self, outcome: Outcome, reason: &str) -> Verdict {
        self.verdict(outcome, reason, &"".into())
    }

    /// A reason as it may be shown.
    fn reason(&self, reason: &str, tokens: &[String]) -> String {
        self.hidden(reason, tokens).chars().take(MAX_REASON_CHARS).collect()
    }

    /// An answer as it may be shown. To be made once for all items: it may be long.
    fn shown(&self, reply: &Reply, tokens: &[String]) -> Arc<str> {
        let mut answer = self.hidden(&format!("{} {}", reply.status, reply.text), tokens);
        answer.truncate(answer.floor_char_boundary(MAX_ANSWER_BYTES));
        answer.into()
    }

    /// Without the settings' secrets, what fetches gave, and these. Before a text is cut: half a secret is not found.
    fn hidden(&self, text: &str, tokens: &[String]) -> String {
        masked(masked(self.plan.mask(text), &self.tokens), tokens)
    }

    fn decide_all(&mut self, items: &[usize], verdict: Verdict) {
        for at in items {
            if let Some(State { verdict: slot @ None, .. }) = self.states.get_mut(*at) {
                *slot = Some(verdict.clone());
            }
        }
    }

    /// Takes in a decision; what the vendor has taken leaves the item open for what follows.
    fn decide(&mut self, at: usize, decision: &Decision, shown: &Arc<str>) {
        let outcome = match &decision.what {
            What::Delivered | What::Found { .. } => return,
            What::Submitted => {
                if let Some(state) = self.states.get_mut(at) {
                    state.submitted = true;
                }
                return;
            }
            What::Send(request) => {
                if let Some(state) = self.states.get_mut(at) {
                    state.asked.push(*request);
                }
                return;
            }
            What::Retry(after) => Outcome::Retry { after: *after },
            What::Throttled { after, user_only } => {
                Outcome::Throttled { after: *after, user_only: *user_only }
            }
            What::Rejected | What::Split { .. } | What::Missing | What::Tell(_) => Outcome::Rejected,
            What::Unauthorised => Outcome::Unauthorised,
        };
        let verdict = self.verdict(outcome, &decision.reason, shown);
        self.decide_all(&[at], verdict);
    }
}

#[cfg(test)]
mod tests;
