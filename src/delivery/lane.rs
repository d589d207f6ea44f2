//! The loop of one lane: claim → route → render → wait for a batch → send → settle.
//!
//! The loop only moves things: what may be sent is the gate's answer, how many requests at one time the pace's, when a
//! request is due the batch's, what an outcome means is decided in `outcome`, and the steps themselves are in `work`.
//! There is a task for each request, none for an event; nothing is claimed that there is no room for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanout_sdk::destination::{Item, Limits, Outcome, Verdict};
use fanout_sdk::event::Event;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::batch::{self, Due, Waiting};
use super::beside::{Standing, Trickle};
use super::gate::{Cause, Change, Gate, Permit, Signs};
use super::keep::Kept;
use super::limiter::PerUser;
use super::outcome::{self, Moment, Ticket};
use super::own_time::OwnTime;
use super::pace::{Ended, Pace};
use super::suspects::Suspects;
use super::work::{NotSent, Sent, Settlement, Work, rates};
use super::{Command, LaneSpec, LastError, Role, Services, Status};
use crate::queue::Claimed;

/// The most events taken from the queue at one time, so that a lane with a backlog lets others have their turn.
const BLOCK: usize = 1024;
/// The most items that wait, whatever a batch may hold.
const MOST_WAITING: usize = 8192;
/// From how many events a probe is chosen: more than there are users as a rule whose events fail or are refused whatever
/// the vendor does for others, for those come first.
const PROBE_CHOICE: usize = 256;
/// For how long those of refused users make room for others to choose a probe from: milliseconds.
const PUT_BY_MS: i64 = 2000;

struct InFlight {
    tickets: Vec<Ticket>,
    probe: bool,
    /// As much was under way as may be.
    busy: bool,
}

pub(super) struct Lane {
    work: Arc<Work>,
    /// Names of sources by their numbers: the queue's own are fixed for ever.
    sources: Vec<(u16, String)>,
    commands: watch::Receiver<Command>,
    status: Arc<Mutex<Status>>,
    pace: Pace,
    capacity: usize,
    linger: Duration,
    gate: Gate,
    /// What the destination's lane says to its replays; a lane does not ask itself.
    standing: watch::Receiver<Standing>,
    /// A replay's own rate.
    trickle: Option<Trickle>,
    per_user: PerUser,
    own_time: OwnTime,
    kept: Kept,
    waiting: Waiting,
    sends: JoinSet<Sent>,
    in_flight: HashMap<tokio::task::Id, InFlight>,
    /// Whose events must not close the gate again and again while others are taken.
    suspects: Suspects,
    /// Whose event was the last probe: another's is a better witness.
    last_probe: Option<u64>,
    /// When events were first put by since the last probe, so that others come.
    put_by_at: Option<Instant>,
    last_error: Option<LastError>,
    queue_closed: bool,
}

/// The most requests of a destination at one time.
pub(super) fn concurrency(spec: &LaneSpec) -> usize {
    let limits = spec.destination.limits();
    let standard = if limits.items > 1 { 4 } else { 16 };
    let wanted = spec.policy.max_concurrency.unwrap_or(standard);
    wanted.min(limits.concurrency.unwrap_or(usize::MAX)).max(1)
}

/// After how long a replay looks again whether it can choose what to send: milliseconds.
const CHOOSE_AGAIN_MS: i64 = 1000;
/// Of these, so many are a replay's at most: live events go first.
const REPLAY_SHARE: usize = 4;

impl Lane {
    pub(super) fn new(
        spec: LaneSpec,
        role: Role,
        services: Services,
        commands: watch::Receiver<Command>,
        status: Arc<Mutex<Status>>,
    ) -> Lane {
        let limits = spec.destination.limits();
        let share = if role.replay.is_some() { REPLAY_SHARE } else { 1 };
        let concurrency = (concurrency(&spec) / share).max(1);
        let now = Instant::now().into_std();
        let trickle = role.replay.as_ref().map(|replay| Trickle::new(replay.count, replay.per, now));
        let standing = role.beside.standing();
        let capacity = limits.items.saturating_mul(2).max(4 * concurrency.min(BLOCK)).min(MOST_WAITING);
        let linger = spec.policy.linger.unwrap_or(limits.linger);
        let rates = rates(&spec);
        let work = Arc::new(Work::new(spec, role, services));
        let services = &work.services;
        let kept = Kept::new(services.queue.clone(), format!("stood_still/{}", work.lane()));
        let own_time = OwnTime::load(kept.load().as_deref(), services.clock.now_ms(), now);
        Lane {
            pace: Pace::new(concurrency, now),
            per_user: PerUser::new(&rates),
            own_time,
            kept,
            last_probe: None,
            put_by_at: None,
            work,
            standing,
            trickle,
            sources: Vec::new(),
            commands,
            status,
            capacity,
            linger,
            gate: Gate::new(),
            waiting: Waiting::default(),
            sends: JoinSet::new(),
            in_flight: HashMap::new(),
            suspects: Suspects::default(),
            last_error: None,
            queue_closed: false,
        }
    }

    /// Works until told to stop.
    pub(super) async fn run(mut self) {
        let work = self.work.clone();
        loop {
            let command = *self.commands.borrow_and_update();
            match command {
                Command::Stop { deadline } => return self.stop(deadline).await,
                Command::Pause => self.release_waiting(),
                Command::Run if self.is_held_back() => self.release_waiting(),
                Command::Run => self.send_what_is_due(),
            }
            let paused = command == Command::Pause;
            let now = Instant::now();
            self.keep_time(paused || self.is_held_back(), now);
            self.publish(paused);
            let room = if paused || self.queue_closed { 0 } else { self.room(now) };
            let wake = if paused { None } else { self.wake(now) };
            tokio::select! {
                changed = self.commands.changed() => {
                    if changed.is_err() {
                        return self.stop(now).await;
                    }
                }
                Some(joined) = self.sends.join_next_with_id() => self.finish(joined),
                signs = work.role.beside.hear(), if !self.is_replay() => self.heed(signs),
                changed = self.standing.changed(), if work.role.replay.is_some() => {
                    if changed.is_err() {
                        return self.stop(now).await;
                    }
                }
                claimed = work.services.queue.claim(work.lane(), room), if room > 0 => {
                    if self.is_replay() && claimed.is_empty() {
                        return self.stop(now).await; // It is over, or the queue is closing.
                    }
                    if self.can_choose().await { self.take_in(claimed) } else { self.put_off(claimed) }
                    tokio::task::yield_now().await; // A backlog of events to skip must not keep other lanes waiting.
                }
                () = tokio::time::sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        }
    }

    fn is_replay(&self) -> bool {
        self.work.role.replay.is_some()
    }

    /// What may be done now: what this lane's gate says and, for a replay, the destination's lane.
    fn permit(&self, now: std::time::Instant) -> Permit {
        let own = self.gate.permit(now);
        if !self.is_replay() || own != Permit::Free {
            return own;
        }
        match self.standing.borrow().permit(!self.sends.is_empty()) {
            Permit::NotBefore(until) if until <= now => Permit::Probing, // The lane is about to say.
            permit => permit,
        }
    }

    /// Whether a replay may send nothing, because its destination's lane may not.
    fn is_held_back(&self) -> bool {
        self.is_replay() && matches!(*self.standing.borrow(), Standing::Closed(_))
    }

    /// Says to the destination's replays what they may do.
    fn stand(&self, paused: bool) {
        let now = Instant::now().into_std();
        let idle = self.waiting.is_empty() && self.sends.is_empty();
        self.work.role.beside.stand(match self.gate.permit(now) {
            _ if paused => Standing::Closed(None),
            Permit::Free => Standing::Open,
            Permit::NotBefore(until) => Standing::Closed(Some(until)),
            Permit::Probe if idle => Standing::Probe,
            Permit::Probe | Permit::Probing => Standing::Closed(None),
        });
    }

    /// Takes in what a replay saw of the vendor; where there was nothing of the lane's own to probe with, as its probe.
    fn heed(&mut self, signs: Signs) {
        let now = Instant::now().into_std();
        let probe = self.gate.permit(now) == Permit::Probe && self.sends.is_empty();
        if probe {
            self.gate.probe_sent();
        }
        self.gate.observe(signs, probe, now, (self.work.services.random)());
        self.hold_back(now);
    }

    /// Nothing more goes that is not under way, where the gate says so.
    fn hold_back(&mut self, now: std::time::Instant) {
        if let Some((Cause::Throttled, until)) = self.gate.closed(now) {
            self.work.role.beside.limiter.hold(Instant::from_std(until));
        }
        if !self.gate_is_free() {
            // The time in which nothing goes must not count as time in which they are tried.
            self.release_waiting();
        }
    }

    /// How many events to claim.
    fn room(&mut self, now: Instant) -> usize {
        let room = match self.permit(now.into_std()) {
            Permit::Free => self.waiting.room(self.capacity, self.limits()),
            Permit::Probe => PROBE_CHOICE.saturating_sub(self.waiting.len()),
            Permit::NotBefore(_) | Permit::Probing => 0,
        };
        let trickle = self.trickle.as_mut().map(|trickle| trickle.room(now.into_std()).unwrap_or(0));
        room.min(BLOCK).min(trickle.unwrap_or(BLOCK))
    }

    /// When there will be something to send without anything else happening.
    fn wake(&mut self, now: Instant) -> Option<Instant> {
        let trickle = self.trickle.as_mut().and_then(|trickle| trickle.room(now.into_std()).err());
        [self.wake_to_send(now), trickle.map(Instant::from_std)].into_iter().flatten().min()
    }

    fn wake_to_send(&self, now: Instant) -> Option<Instant> {
        match self.permit(now.into_std()) {
            Permit::Probing => None,
            Permit::NotBefore(time) => Some(Instant::from_std(time)),
            Permit::Probe | Permit::Free if self.sends.len() >= self.pace.limit() => None,
            Permit::Probe => None, // It would have gone: nothing waits.
            Permit::Free => match self.waiting.due(now.into_std(), self.limits(), self.linger) {
                Due::Never => None,
                Due::Now => Some(now),
                Due::At(time) => Some(Instant::from_std(time)),
            },
        }
    }

    fn limits(&self) -> &Limits {
        self.work.spec.destination.limits()
    }

    /// Routes and renders a block of events; what is not to be sent is settled at once.
    fn take_in(&mut self, claimed: Vec<Claimed<Arc<Event>>>) {
        if claimed.is_empty() {
            self.queue_closed = true;
            return;
        }
        let moment = Instant::now();
        let now = moment.into_std();
        let (now_ms, own_ms) = (self.work.services.clock.now_ms(), self.own_time.now_ms(now));
        let mut settled = Settlement::default();
        for delivery in claimed {
            let since_ms =
                if delivery.attempt == 1 { own_ms } else { delivery.first_attempt_at_ms.min(own_ms) };
            let ticket = Ticket {
                id: delivery.id,
                order_key: delivery.order_key,
                attempt: delivery.attempt,
                first_attempt_at_ms: now_ms.saturating_sub(own_ms.saturating_sub(since_ms)),
                since_ms,
            };
            let source = self.source_at(delivery.source);
            let source = self.sources.get(source).map_or("", |(_, name)| name);
            match self.work.prepare(&delivery, source) {
                Ok(item) => match self.per_user.take(&item.identity, batch::size(&item), moment) {
                    None => {
                        if let Some(trickle) = &mut self.trickle {
                            trickle.take();
                        }
                        self.waiting.push(item, ticket, now);
                    }
                    Some(wait) => {
                        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX).saturating_add(1);
                        settled.wait(ticket.id, now_ms.saturating_add(wait_ms));
                    }
                },
                Err(NotSent { settled: how, label }) => settled.add(ticket.id, how, label),
            }
        }
        settled.report(&self.work);
    }

    /// Whether a replay can choose from what it has claimed; not when it is told something meanwhile.
    async fn can_choose(&mut self) -> bool {
        let work = self.work.clone();
        let Some(replay) = &work.role.replay else { return true };
        tokio::select! {
            can = replay.select.refresh() => can,
            _ = self.commands.changed() => false,
        }
    }

    /// Gives back what a replay cannot choose from now, for a while.
    fn put_off(&self, claimed: Vec<Claimed<Arc<Event>>>) {
        let at_ms = self.work.services.clock.now_ms().saturating_add(CHOOSE_AGAIN_MS);
        let mut settled = Settlement::default();
        claimed.into_iter().for_each(|delivery| settled.wait(delivery.id, at_ms));
        settled.report(&self.work);
    }

    /// Where a source's name stands among those seen: they are few, and most events come from the same one.
    fn source_at(&mut self, number: u16) -> usize {
        self.sources.iter().position(|(known, _)| *known == number).unwrap_or_else(|| {
            let name = self.work.services.queue.source_name(number).unwrap_or_default();
            self.sources.push((number, name));
            self.sources.len() - 1
        })
    }

    fn send_what_is_due(&mut self) {
        while self.sends.len() < self.pace.limit() && !self.waiting.is_empty() {
            let now = Instant::now().into_std();
            match self.permit(now) {
                Permit::NotBefore(_) | Permit::Probing => return,
                Permit::Probe if self.only_refused_wait() && self.may_put_by() => return self.put_by(),
                Permit::Probe => {
                    let (suspects, last) = (&self.suspects, self.last_probe);
                    let (items, tickets) = self.waiting.take_one(|Ticket { order_key, attempt, .. }| {
                        (suspects.is_refused(*order_key), last == Some(*order_key), *attempt)
                    });
                    self.last_probe = tickets.first().map(|ticket| ticket.order_key);
                    self.put_by_at = None;
                    self.gate.probe_sent();
                    self.send(items, tickets, true);
                }
                Permit::Free if self.waiting.due(now, self.limits(), self.linger) == Due::Now => {
                    let positions = self.work.pack(self.waiting.items());
                    let (items, tickets) = self.waiting.take(positions);
                    self.send(items, tickets, false);
                }
                Permit::Free => return,
            }
        }
    }

    fn send(&mut self, items: Vec<Item>, tickets: Vec<Ticket>, probe: bool) {
        let task = self.sends.spawn(self.work.clone().send(items));
        let busy = self.sends.len() >= self.pace.limit();
        self.in_flight.insert(task.id(), InFlight { tickets, probe, busy });
    }

    /// A request's task has ended.
    fn finish(&mut self, joined: Result<(tokio::task::Id, Sent), JoinError>) {
        match joined {
            Ok((id, sent)) => {
                self.work.services.observer.attempted(&self.work.spec.name, sent.took);
                if let Some(in_flight) = self.in_flight.remove(&id) {
                    let took = sent.took.saturating_sub(sent.waited);
                    self.conclude(in_flight, sent.verdicts, took, &sent.items);
                }
            }
            Err(error) => {
                let Some(in_flight) = self.in_flight.remove(&error.id()) else { return };
                if error.is_panic() {
                    tracing::error!(destination = %self.work.spec.name, "the adapter failed by a fault of its own");
                }
                self.conclude(in_flight, Vec::new(), Duration::ZERO, &[]);
            }
        }
    }

    /// Settles a request's deliveries and tells the gate.
    fn conclude(&mut self, in_flight: InFlight, mut verdicts: Vec<Verdict>, took: Duration, items: &[Item]) {
        let missing = || outcome::no_verdict("the adapter did not say how it ended");
        verdicts.resize_with(in_flight.tickets.len(), missing);
        verdicts.iter_mut().for_each(outcome::for_the_whole);
        let random = self.work.services.random;
        let now_ms = self.work.services.clock.now_ms();
        let now = Instant::now().into_std();
        let own_ms = self.own_time.now_ms(now);
        let retry_for = self.work.spec.policy.retry_for;
        let taken = verdicts.iter().any(outcome::is_taken);
        let order_keys = || in_flight.tickets.iter().map(|ticket| ticket.order_key);
        let mut signs = outcome::signs(&verdicts, order_keys());
        if signs.failed.is_some() && self.suspects.fail_alone(order_keys()) {
            signs.failed = None;
        }
        if signs.dealt {
            self.suspects.dealt();
        }
        signs.refused_again = signs.unauthorised && !self.anyone_new_refused(&in_flight.tickets, &verdicts);
        signs.unauthorised &= in_flight.probe || !signs.refused_again;
        if self.is_replay() {
            self.work.role.beside.tell(signs);
        }
        let blame_events = !in_flight.probe && !signs.unauthorised && self.gate_is_free();

        let mut settled = Settlement::default();
        let probe_was_suspect = order_keys().any(|user| self.suspects.is_refused(user));
        for (position, (ticket, verdict)) in in_flight.tickets.iter().zip(verdicts).enumerate() {
            let moment = Moment { now_ms, own_ms, retry_for, random: random() };
            self.remember(ticket, &verdict, now_ms);
            let (how, label) = outcome::settle(verdict, ticket, moment, blame_events);
            settled.add(ticket.id, self.work.with_request(how, items.get(position)), label);
        }
        settled.report(&self.work);

        self.set_pace(signs, in_flight.busy, taken.then_some(took), now);
        let is_vouched_for = self.gate.is_vouched_for(now);
        match self.gate.observe(signs, in_flight.probe, now, random()) {
            Some(Change::Opened) if probe_was_suspect => self.suspects.forget_refused(),
            Some(Change::Closed(Cause::Unauthorised)) if !probe_was_suspect && !is_vouched_for => {
                self.suspects.forget_refused();
            }
            Some(Change::Closed(Cause::Failing)) => self.pace.restart(),
            _ => {}
        }
        self.hold_back(now);
    }

    fn set_pace(&mut self, signs: Signs, busy: bool, took: Option<Duration>, now: std::time::Instant) {
        if signs.throttled.is_some() || signs.failed.is_some() {
            self.pace.observe(Ended::Badly, now);
        } else if signs.dealt {
            self.pace.observe(Ended::Well { took, busy }, now);
        }
    }

    /// Time stands still for the lane while nothing may go.
    fn keep_time(&mut self, paused: bool, now: Instant) {
        let now = now.into_std();
        let runs = !paused && self.gate.closed(now).is_none();
        if let Some(value) = self.own_time.set(runs, self.work.services.clock.now_ms(), now) {
            self.kept.save(value);
        }
    }

    fn gate_is_free(&self) -> bool {
        self.gate.permit(Instant::now().into_std()) == Permit::Free
    }

    /// Whether the credentials were refused for an event that is not among the suspects already.
    fn anyone_new_refused(&self, tickets: &[Ticket], verdicts: &[Verdict]) -> bool {
        let mut both = tickets.iter().zip(verdicts);
        both.any(|(ticket, verdict)| {
            verdict.outcome == Outcome::Unauthorised && !self.suspects.is_refused(ticket.order_key)
        })
    }

    fn remember(&mut self, ticket: &Ticket, verdict: &Verdict, now_ms: i64) {
        let outcome = match verdict.outcome {
            Outcome::Delivered | Outcome::Submitted => {
                self.suspects.took(ticket.order_key);
                return;
            }
            Outcome::Unauthorised => {
                self.suspects.refuse(ticket.order_key);
                "unauthorised"
            }
            Outcome::Rejected => "rejected",
            Outcome::Retry { .. } => "retry",
            Outcome::Throttled { .. } => "throttled",
        };
        self.last_error = Some(LastError { at_ms: now_ms, outcome, what: what_went_wrong(verdict) });
    }

    /// Whether all that a probe could be chosen from is of users for whom the credentials were refused before, and there
    /// may be others behind them.
    fn only_refused_wait(&self) -> bool {
        let is_refused = |ticket: &Ticket| self.suspects.is_refused(ticket.order_key);
        self.waiting.len() >= PROBE_CHOICE && self.waiting.tickets().all(is_refused)
    }

    /// Until the first that were put by come again: then all that may go are of refused users, and one of them has to do.
    fn may_put_by(&self) -> bool {
        let most = Duration::from_millis(PUT_BY_MS.unsigned_abs());
        self.put_by_at.is_none_or(|at| at.elapsed() < most)
    }

    /// Gives back what waits, for a while, so that others come.
    fn put_by(&mut self) {
        self.put_by_at.get_or_insert_with(Instant::now);
        let at_ms = self.work.services.clock.now_ms().saturating_add(PUT_BY_MS);
        let mut settled = Settlement::default();
        self.waiting.clear().into_iter().for_each(|ticket| settled.wait(ticket.id, at_ms));
        settled.report(&self.work);
    }

    fn release_waiting(&mut self) {
        let mut settled = Settlement::default();
        for ticket in self.waiting.clear() {
            settled.release(ticket.id);
        }
        settled.report(&self.work);
    }

    /// Lets requests under way end until the deadline; what is not known then goes back to the queue.
    async fn stop(mut self, mut deadline: Instant) {
        self.release_waiting();
        while !self.sends.is_empty() {
            tokio::select! {
                Some(joined) = self.sends.join_next_with_id() => self.finish(joined),
                Ok(()) = self.commands.changed() => {
                    if let Command::Stop { deadline: newer } = *self.commands.borrow_and_update() {
                        deadline = newer.min(deadline);
                    }
                }
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        while let Some(joined) = self.sends.try_join_next_with_id() {
            self.finish(joined);
        }
        let mut settled = Settlement::default();
        let in_flight = self.in_flight.drain().flat_map(|(_, in_flight)| in_flight.tickets);
        let mut ids: Vec<_> = in_flight.map(|ticket| ticket.id).collect();
        ids.sort_unstable();
        ids.into_iter().for_each(|id| settled.release(id));
        settled.report(&self.work);
        self.publish(false);
        self.forget_cause();
        if !self.is_replay() {
            self.work.role.beside.stand(Standing::Closed(None));
        }
        let now = Instant::now().into_std();
        if let Some(value) = self.own_time.save(self.work.services.clock.now_ms(), now) {
            self.kept.save(value);
        }
        self.kept.end().await;
        self.work.save().await;
    }

    fn publish(&self, paused: bool) {
        if !self.is_replay() {
            self.stand(paused);
        }
        let now = Instant::now().into_std();
        let closed = self.gate.closed(now);
        let until_ms = closed.map(|(_, until)| {
            let wait = until.saturating_duration_since(now).as_millis();
            self.work.services.clock.now_ms().saturating_add(i64::try_from(wait).unwrap_or(i64::MAX))
        });
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = closed.map(|(cause, _)| cause);
        let observer = &self.work.services.observer;
        if status.closed != cause {
            self.log(status.closed, cause);
            for (cause, closed) in [(status.closed, false), (cause, true)] {
                if let Some(cause) = cause {
                    observer.closed(&self.work.spec.name, cause.word(), closed);
                }
            }
        }
        if status.paused != paused {
            observer.closed(&self.work.spec.name, "paused", paused);
        }
        status.paused = paused;
        status.closed = cause;
        status.until_ms = until_ms;
        status.waiting = self.waiting.len();
        status.requests = self.sends.len();
        if status.last_error != self.last_error {
            status.last_error.clone_from(&self.last_error);
        }
    }

    /// A lane that has ended is closed for nothing.
    fn forget_cause(&self) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cause) = status.closed.take() {
            self.work.services.observer.closed(&self.work.spec.name, cause.word(), false);
        }
    }

    fn log(&self, before: Option<Cause>, now: Option<Cause>) {
        let destination = &*self.work.spec.name;
        match now {
            Some(Cause::Unauthorised) => tracing::error!(
                destination,
                "the vendor refuses the credentials: nothing is lost, deliveries wait; check the destination's settings"
            ),
            Some(Cause::Suspected) => {
                tracing::warn!(destination, "credentials refused; trying one event again")
            }
            Some(Cause::Throttled) => {
                tracing::info!(destination, "throttled; waiting as long as the vendor asks")
            }
            Some(Cause::Failing) => tracing::warn!(
                destination,
                last_error = self.last_error.as_ref().map(|error| &*error.what),
                "one request after the other fails: nothing is lost, deliveries wait; one event goes at a time until \
                 the vendor answers"
            ),
            None if before == Some(Cause::Unauthorised) => {
                tracing::info!(destination, "the vendor takes the credentials again");
            }
            None if before == Some(Cause::Failing) => {
                tracing::info!(destination, "the vendor answers again; deliveries go on");
            }
            None => {}
        }
    }
}

/// The status of the answer, or why there was none; never what the vendor wrote.
fn what_went_wrong(verdict: &Verdict) -> String {
    if verdict.answer.is_empty() {
        return verdict.reason.clone();
    }
    verdict.answer.chars().take_while(char::is_ascii_digit).collect()
}
