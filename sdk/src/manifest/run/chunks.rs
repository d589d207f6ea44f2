//! The plain requests of a `send`: which items share one, and what becomes of a batch that was refused as a whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::exchange::Exchanged;
use super::{Run, Told};
use crate::destination::{Item, Outcome};
use crate::manifest::bound::{Plan, is_wanted, write_part};
use crate::manifest::outcomes::What;
use crate::manifest::plan::RequestPlan;
use crate::manifest::scope::Scope;

/// Items that share one request.
pub(super) struct Chunk {
    pub request: usize,
    pub items: Vec<usize>,
    /// The items' bytes; none where they are to be rendered again.
    pub parts: Vec<Bytes>,
}

impl Run<'_> {
    /// The items of the next request.
    pub(super) async fn next_chunk(&mut self) -> Option<Chunk> {
        loop {
            if let Some(mut chunk) = self.agenda.pop_front() {
                let before = chunk.items.len();
                chunk.items.retain(|at| self.is_open(*at));
                if chunk.items.len() < before {
                    chunk.parts.clear();
                }
                if chunk.items.is_empty() {
                    continue;
                }
                return Some(chunk);
            }
            let request = self.next_request;
            let plan = self.plan.program.requests.get(request)?;
            self.next_request += 1;
            let wanting = self.wanting(request);
            if wanting.is_empty() || !self.fetch_for(plan, &wanting).await {
                continue;
            }
            self.plan_chunks(request);
        }
    }

    /// Makes a request and takes in what its answer means; what a rule tells the code about an item.
    pub(super) async fn make(&mut self, chunk: Chunk) -> Option<(usize, Told)> {
        let (decisions, shown) = match self.exchange(&chunk).await {
            Exchanged::Answered(decisions, shown) => (decisions, shown),
            Exchanged::Absent(reason) => {
                let verdict = self.unanswered(Outcome::Rejected, &reason);
                self.decide_all(&chunk.items, verdict);
                return None;
            }
            Exchanged::Ended => return None,
        };
        let optional = self.plan.program.requests.get(chunk.request).is_some_and(|plan| plan.optional);
        let (mut split, mut pace, mut told) = (Vec::new(), None, None);
        for (position, decision) in decisions.into_iter().enumerate() {
            let Some(at) = chunk.items.get(position).copied() else { continue };
            match decision.what {
                What::Split { pace: asked } if chunk.items.len() > 1 => {
                    pace = asked;
                    split.push(position);
                }
                What::Tell(word) => {
                    self.agenda.push_front(Chunk {
                        request: chunk.request,
                        items: vec![at],
                        parts: Vec::new(),
                    });
                    let kept = decision.kept.unwrap_or_default();
                    told.get_or_insert((at, Told { word, kept, reason: decision.reason }));
                }
                _ if optional => {}
                _ => self.decide(at, &decision, &shown),
            }
        }
        self.split(chunk, &split, pace, &shown);
        told
    }

    fn split(&mut self, chunk: Chunk, positions: &[usize], pace: Option<Duration>, shown: &Arc<str>) {
        if positions.is_empty() {
            return;
        }
        let half = positions.len().div_ceil(2);
        let (first, second) = positions.split_at(half);
        let part_of = |positions: &[usize]| Chunk {
            request: chunk.request,
            items: positions.iter().filter_map(|at| chunk.items.get(*at).copied()).collect(),
            parts: positions.iter().filter_map(|at| chunk.parts.get(*at).cloned()).collect(),
        };
        let (first, second) = (part_of(first), part_of(second));
        match pace {
            Some(_) if !second.items.is_empty() => {
                let outcome = Outcome::Throttled { after: pace, user_only: false };
                let verdict = self.verdict(outcome, "waits while a refused batch is split slowly", shown);
                self.decide_all(&second.items, verdict);
            }
            _ if second.items.is_empty() => {}
            _ => self.agenda.push_front(second),
        }
        self.agenda.push_front(first);
    }

    /// The items that a request is for and that nothing has ended yet.
    fn wanting(&self, request: usize) -> Vec<usize> {
        let Some(plan) = self.plan.program.requests.get(request) else { return Vec::new() };
        let wants = |(at, item): (usize, &Item)| {
            let wanted = match plan.on_demand {
                true => self.states.get(at).is_some_and(|state| state.asked.contains(&request)),
                false => item.parts.iter().any(|part| part.request == request),
            };
            let wanted = wanted && self.is_open(at);
            (wanted && (!plan.late_conditions || self.is_wanted_now(at, plan))).then_some(at)
        };
        self.items.iter().enumerate().filter_map(wants).collect()
    }

    /// Whether a request's conditions hold with what the steps so far have brought.
    pub(super) fn is_wanted_now(&self, at: usize, plan: &RequestPlan) -> bool {
        let Some(item) = self.items.get(at) else { return false };
        let options = Plan::options_of(item);
        let wanted =
            self.plan.with_scope(&item.event, options, self.known(at), |scope, _| is_wanted(scope, plan));
        wanted.is_ok_and(|(wanted, _)| wanted)
    }

    /// An item's bytes in a request: those rendered before, unless they depend on what is known only now.
    pub(super) fn part(&self, at: usize, request: usize, plan: &RequestPlan) -> Result<Bytes, String> {
        let item = self.items.get(at).ok_or("no such item")?;
        if !plan.is_late && !plan.on_demand && !self.context.purpose.hides_secrets() {
            let part = item.parts.iter().find(|part| part.request == request);
            return part.map(|part| part.bytes.clone()).ok_or_else(|| "no such part".to_owned());
        }
        let write = |scope: &Scope<'_>, out: &mut String| {
            write_part(scope, plan, out).map(|()| Bytes::copy_from_slice(out.as_bytes()))
        };
        let rendered = self.plan.with_scope(&item.event, Plan::options_of(item), self.known(at), write);
        match rendered {
            Ok((Ok(bytes), _)) => Ok(bytes),
            _ => Err(format!("request {}: a value that it needs is absent", plan.name)),
        }
    }

    /// Puts the items of a request into chunks: of one group, and up to the vendor's caps.
    fn plan_chunks(&mut self, request: usize) {
        let Some(plan) = self.plan.program.requests.get(request) else { return };
        let mut chunks: Vec<(u64, usize, Chunk)> = Vec::new();
        for at in self.wanting(request) {
            let bytes = match self.part(at, request, plan) {
                Ok(bytes) => bytes,
                Err(reason) => {
                    let verdict = self.unanswered(Outcome::Rejected, &reason);
                    self.decide_all(&[at], verdict);
                    continue;
                }
            };
            let part =
                self.items.get(at).and_then(|item| item.parts.iter().find(|part| part.request == request));
            // What is rendered on demand has no group of its own; it shares only where everyone does.
            let group =
                part.map_or(if plan.outside.event { u64::MAX - at as u64 } else { 0 }, |part| part.group);
            let fits = |(of, size, chunk): &&mut (u64, usize, Chunk)| {
                *of == group && chunk.items.len() < plan.caps.items && *size + bytes.len() < plan.caps.bytes
            };
            match chunks.iter_mut().rev().find(fits) {
                Some((_, size, chunk)) => {
                    *size += bytes.len() + 1;
                    chunk.items.push(at);
                    chunk.parts.push(bytes);
                }
                None => {
                    let size = bytes.len() + 1;
                    chunks.push((group, size, Chunk { request, items: vec![at], parts: vec![bytes] }));
                }
            }
        }
        self.agenda.extend(chunks.into_iter().map(|(_, _, chunk)| chunk));
    }
}
