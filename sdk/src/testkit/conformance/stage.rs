//! The stage on which checks play a destination: a vendor that answers whatever a check wants, and what drives packs and
//! sends as a lane would. It does not judge outcomes, but stops at what no lane could live with.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::super::FixedClock;
use super::super::manifest::DESTINATION;
use super::super::run::block_on;
use crate::destination::{
    Answer, Context, Destination, Item, NoAnswer, Purpose, Request, Transport, Verdict,
};
use crate::memory::Memory;

/// What a vendor answers.
pub(super) type Reply = Result<Answer, NoAnswer>;
/// Answers a request, given how many were made before it.
pub(super) type Vendor<'v> = dyn FnMut(usize, &Request) -> Reply + Send + 'v;

/// More requests than this in one `send`, and for each of its items, are taken for a loop without an end.
const REQUESTS: usize = 50;
const REQUESTS_AN_ITEM: usize = 20;
/// How many entries a destination may remember during a check.
const MEMORY: usize = 1000;

/// One `send` and what came of it.
#[derive(Debug)]
pub(super) struct Sent {
    /// Which of the items, by position.
    pub items: Vec<usize>,
    /// How many requests were made by earlier ones.
    pub first_request: usize,
    pub requests: Vec<Request>,
    pub verdicts: Vec<Verdict>,
}

/// Everything that came of some items.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub sends: Vec<Sent>,
}

impl Played {
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.sends.iter().flat_map(|sent| &sent.requests)
    }

    pub fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.sends.iter().flat_map(|sent| &sent.verdicts)
    }

    /// The `send` that made a request, by the request's position.
    pub fn send_of(&self, request: usize) -> Option<&Sent> {
        self.sends
            .iter()
            .find(|sent| (sent.first_request..sent.first_request + sent.requests.len()).contains(&request))
    }
}

pub(super) fn new_memory() -> Memory {
    Memory::new(MEMORY)
}

/// The one place where a check makes what a destination may use while it sends.
fn context<'a>(transport: &'a dyn Transport, clock: &'a FixedClock, memory: &'a Memory) -> Context<'a> {
    Context { transport, clock, memory, destination: DESTINATION, purpose: Purpose::Deliver }
}

/// Packs and sends the items until none waits.
///
/// # Errors
/// What no lane could live with: `pack` without the first item, a wrong number of verdicts, a `send` without an end.
pub(super) fn play(
    destination: &dyn Destination,
    items: &[Item],
    clock: &FixedClock,
    memory: &Memory,
    vendor: &mut Vendor<'_>,
) -> Result<Played, String> {
    let mut played = Played::default();
    let mut waiting: Vec<usize> = (0..items.len()).collect();
    let mut made = 0;
    let vendor = Mutex::new(vendor);
    while !waiting.is_empty() {
        let queue: Vec<Item> = waiting.iter().filter_map(|at| items.get(*at)).cloned().collect();
        let chosen = destination.pack(&queue);
        let is_sound = chosen.first() == Some(&0)
            && chosen.is_sorted_by(|a, b| a < b)
            && chosen.iter().all(|at| *at < queue.len());
        if !is_sound {
            return Err(format!(
                "pack gave {chosen:?} for {} items; it must give positions in their order, the first item's among them",
                queue.len()
            ));
        }
        let batch: Vec<Item> = chosen.iter().filter_map(|at| queue.get(*at)).cloned().collect();
        let positions: Vec<usize> = chosen.iter().filter_map(|at| waiting.get(*at)).copied().collect();
        waiting.retain(|at| !positions.contains(at));
        let most = REQUESTS + REQUESTS_AN_ITEM * batch.len();
        let stage = Stage { vendor: &vendor, before: made, most, requests: Mutex::default() };
        let verdicts = block_on(destination.send(&context(&stage, clock, memory), &batch));
        let requests = stage.requests.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(verdicts) = verdicts else {
            return Err(match requests.len() > most {
                true => {
                    format!("send made more than {most} requests for {} items and did not end", batch.len())
                }
                false => "send waits for something that is neither the transport nor the clock".to_owned(),
            });
        };
        if verdicts.len() != batch.len() {
            let message = "each item must get exactly one verdict";
            return Err(format!(
                "send gave {} verdicts for {} items; {message}",
                verdicts.len(),
                batch.len()
            ));
        }
        let first_request = made;
        made += requests.len();
        played.sends.push(Sent { items: positions, first_request, requests, verdicts });
    }
    Ok(played)
}

struct Stage<'a, 'v> {
    vendor: &'a Mutex<&'a mut Vendor<'v>>,
    before: usize,
    most: usize,
    requests: Mutex<Vec<Request>>,
}

#[async_trait]
impl Transport for Stage<'_, '_> {
    async fn send(&self, request: &Request) -> Reply {
        let at = {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.push(request.clone());
            requests.len()
        };
        if at > self.most {
            return std::future::pending().await;
        }
        let mut vendor = self.vendor.lock().unwrap_or_else(PoisonError::into_inner);
        vendor(self.before + at - 1, request)
    }
}

/// An answer without a body.
pub(super) fn status(status: u16) -> Answer {
    Answer { status, ..Answer::default() }
}
