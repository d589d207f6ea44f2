//! The steps of a lane's work on events: route, render and pack, send, settle. What order they go in and when is the
//! loop's business, in `lane`.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use fanout_sdk::destination::{Context, Item, Purpose, Rate, RateUnit, Verdict};
use fanout_sdk::event::{CallType, Event, Warning};
use fanout_sdk::memory::Memory;
use fanout_sdk::superseded::{Again, Left, Trait, Value};
use tokio::time::Instant;

use super::limiter::Limited;
use super::outcome::{self, Label};
use super::{LaneSpec, Role, Services, Suppression, request};
use crate::queue::{Claimed, Code, Dead, Id, Settled};
use crate::routing::{self, Decision};

/// For how many dead letters of a run the request is rendered: enough for the hundred that the queue keeps of each code.
const REQUESTS_KEPT: usize = 1000;

/// The most entries that a destination remembers between events.
const MEMORY_ENTRIES: usize = 10_000;

/// How an attempt ended.
pub(super) struct Sent {
    /// For each item.
    pub(super) verdicts: Vec<Verdict>,
    /// How long it took, with the waits for published rates.
    pub(super) took: Duration,
    /// Of that, the waits for published rates.
    pub(super) waited: Duration,
    /// What was sent.
    pub(super) items: Vec<Item>,
}

/// What the steps need; shared by the loop and the tasks of its requests.
pub(super) struct Work {
    pub(super) spec: LaneSpec,
    pub(super) services: Services,
    pub(super) role: Role,
    memory: Memory,
    requests_kept: AtomicUsize,
    suppression: Option<Arc<Suppression>>,
}

/// Why an event needs no request: how it is settled and counted.
pub(super) struct NotSent {
    pub(super) settled: Settled,
    pub(super) label: Label,
}

impl NotSent {
    fn skipped(reason: &'static str) -> NotSent {
        NotSent {
            settled: Settled::Done(Code::Skipped(reason.to_owned())),
            label: Label { outcome: "skipped", reason },
        }
    }

    /// The vendor has what the event would write.
    fn suppressed() -> NotSent {
        NotSent {
            settled: Settled::Done(Code::Suppressed),
            label: Label { outcome: "suppressed", reason: "" },
        }
    }

    /// The adapter broke while rendering: this event is set aside so that it does not stop the lane.
    fn broken(attempts: u32) -> NotSent {
        let reason = "the adapter failed while it rendered this event".to_owned();
        let dead = Dead { code: "adapter".to_owned(), reason, attempts, ..Dead::default() };
        NotSent { settled: Settled::Dead(dead), label: Label { outcome: "dead", reason: "adapter" } }
    }
}

/// Every rate to be kept: those that are published, and the one that is configured.
pub(super) fn rates(spec: &LaneSpec) -> Vec<Rate> {
    spec.destination.limits().rates.iter().chain(&spec.policy.rate_limit).cloned().collect()
}

impl Work {
    pub(super) fn new(spec: LaneSpec, role: Role, services: Services) -> Work {
        let requests_kept = AtomicUsize::new(0);
        // What a replay sends was asked for.
        let suppression = spec.suppression.clone().filter(|_| role.replay.is_none());
        if let Some(suppression) = &suppression {
            suppression.start(&*services.queue);
        }
        Work { spec, services, role, memory: Memory::new(MEMORY_ENTRIES), requests_kept, suppression }
    }

    /// The lane's name in the queue.
    pub(super) fn lane(&self) -> &str {
        self.role.replay.as_ref().map_or(&self.spec.name, |replay| &replay.lane)
    }

    /// Decides whether the event is sent, and renders it.
    #[allow(clippy::result_large_err, reason = "skips are as frequent as items, and take no allocation")]
    pub(super) fn prepare(&self, delivery: &Claimed<Arc<Event>>, source: &str) -> Result<Item, NotSent> {
        let left_out = self.role.replay.as_ref().and_then(|replay| replay.select.leaves_out(delivery));
        if let Some(reason) = left_out {
            return Err(NotSent::skipped(reason));
        }
        let event = match self.rest(delivery) {
            Left::Whole => &delivery.payload,
            Left::Part(event) => &Arc::from(event),
            Left::Nothing => return Err(NotSent::skipped("superseded")),
        };
        if !self.spec.every_call && event.call_type() != CallType::Identify {
            return Err(NotSent::skipped("call_type"));
        }
        let options = match routing::decide(event, source, &self.spec.target) {
            Decision::On { options, warnings } => {
                self.warn(&warnings);
                options
            }
            Decision::Off { reason, warnings, .. } => {
                self.warn(&warnings);
                return Err(NotSent::skipped(reason));
            }
        };
        let rendered =
            std::panic::catch_unwind(AssertUnwindSafe(|| self.spec.destination.render(event, options)));
        match rendered {
            Ok(Ok(item)) => {
                self.warn(&item.warnings);
                if self.suppresses(delivery, &item) { Err(NotSent::suppressed()) } else { Ok(item) }
            }
            Ok(Err(skip)) => Err(NotSent::skipped(skip.reason)),
            Err(_) => Err(NotSent::broken(delivery.attempt)),
        }
    }

    /// What is left of a call that is sent late: of a dead letter, without what the lane has delivered since; of a
    /// replay's, without what was delivered live since.
    fn rest(&self, delivery: &Claimed<Arc<Event>>) -> Left {
        let select = self.role.replay.as_ref().filter(|_| !delivery.whole).map(|replay| &replay.select);
        if delivery.later.is_empty() && select.is_none() {
            return Left::Whole;
        }
        let later: HashMap<Trait<'_>, Value<'_>> =
            delivery.later.iter().flat_map(|later| later.set_traits()).collect();
        delivery.payload.without(|one, value| {
            let own = match later.get(&one) {
                None => Again::No,
                Some(last) if *last == value => Again::Same,
                Some(_) => Again::Other,
            };
            own.and(select.map_or(Again::No, |select| select.again(delivery, one, value)))
        })
    }

    fn suppresses(&self, delivery: &Claimed<Arc<Event>>, item: &Item) -> bool {
        let Some(suppression) = &self.suppression else { return false };
        let now_ms = self.services.clock.now_ms();
        suppression.suppresses(delivery, item, &*self.spec.destination, &*self.services.queue, now_ms)
    }

    /// Keeps what is worth knowing at the next start; nothing is under way any more.
    pub(super) async fn save(&self) {
        let Some(suppression) = self.suppression.clone() else { return };
        let queue = self.services.queue.clone();
        if tokio::task::spawn_blocking(move || suppression.save(&*queue)).await.is_err() {
            tracing::error!(destination = %self.spec.name, "saving the digests failed by a fault of the program");
        }
    }

    fn warn(&self, warnings: &[Warning]) {
        if !warnings.is_empty() {
            self.services.observer.warned(&self.spec.name, warnings);
        }
    }

    /// Which items share the next request; one by one if the adapter breaks over it.
    pub(super) fn pack(&self, waiting: &[Item]) -> Vec<usize> {
        std::panic::catch_unwind(AssertUnwindSafe(|| self.spec.destination.pack(waiting))).unwrap_or_default()
    }

    /// One attempt, as the task that it runs in.
    pub(super) async fn send(self: Arc<Self>, items: Vec<Item>) -> Sent {
        // Of all lanes to this vendor together no more are under way than it takes.
        let _slot = self.role.beside.slot().await;
        let limiter = &self.role.beside.limiter;
        limiter.wait_for(RateUnit::Items, items.len()).await;
        let start = Instant::now();
        let waited_us = AtomicU64::new(0);
        let transport = Limited { transport: &*self.spec.transport, limiter, waited_us: &waited_us };
        let context = Context {
            transport: &transport,
            clock: &*self.services.clock,
            memory: &self.memory,
            destination: &self.spec.name,
            purpose: Purpose::Deliver,
        };
        let verdicts = self.spec.destination.send(&context, &items).await;
        self.warn(&left_out(&verdicts));
        if let Some(suppression) = &self.suppression {
            suppression.sent(&items, &verdicts, &*self.services.queue);
        }
        let took = start.elapsed();
        let waited = Duration::from_micros(waited_us.load(Relaxed)).min(took);
        Sent { verdicts, took, waited, items }
    }

    /// A dead letter is kept with its request, rendered for this event alone.
    pub(super) fn with_request(&self, settled: Settled, item: Option<&Item>) -> Settled {
        match (settled, item) {
            (Settled::Dead(dead), Some(item)) if self.requests_kept.fetch_add(1, Relaxed) < REQUESTS_KEPT => {
                let (destination, clock) = (&*self.spec.destination, &*self.services.clock);
                let request = request::shown(destination, item.clone(), clock);
                Settled::Dead(Dead { request, ..dead })
            }
            (settled, _) => settled,
        }
    }
}

/// Successes that are not whole, because the vendor refused a part.
fn left_out(verdicts: &[Verdict]) -> Vec<Warning> {
    let odd = verdicts
        .iter()
        .filter(|verdict| outcome::is_taken(verdict))
        .filter(|verdict| !verdict.reason.is_empty());
    odd.map(|verdict| Warning { kind: "delivered_in_part", about: verdict.reason.clone() }).collect()
}

/// Deliveries to be settled in one go, and how they are counted.
#[derive(Default)]
pub(super) struct Settlement {
    settled: Vec<(Id, Settled)>,
    counts: Vec<(Label, u64)>,
}

impl Settlement {
    pub(super) fn add(&mut self, id: Id, settled: Settled, label: Label) {
        self.settled.push((id, settled));
        match self.counts.iter_mut().find(|(counted, _)| *counted == label) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((label, 1)),
        }
    }

    /// Given back without an attempt: not counted.
    pub(super) fn release(&mut self, id: Id) {
        self.settled.push((id, Settled::Release));
    }

    /// Given back without an attempt, not to be claimed before this time: not counted.
    pub(super) fn wait(&mut self, id: Id, at_ms: i64) {
        self.settled.push((id, Settled::Wait { at_ms }));
    }

    pub(super) fn report(mut self, work: &Work) {
        if self.settled.is_empty() {
            return;
        }
        // The last first: what is given back goes to the front again, one by one.
        self.settled.reverse();
        if let Some(suppression) = &work.suppression {
            suppression.settled(&self.settled, work.services.clock.now_ms());
        }
        work.services.queue.settle(work.lane(), self.settled);
        for (label, count) in self.counts {
            work.services.observer.ended(&work.spec.name, label, count);
        }
    }
}
