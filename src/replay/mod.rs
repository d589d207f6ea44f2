//! Replays: retained events sent to a destination again or for the first time, each by a lane of its own beside the
//! destination's, with counts of its own. Here they are started, listed, ended, and taken up again after a restart.
//!
//! What a lane does with an event is delivery's business, what it is handed out the queue's.

mod choice;
mod dry;
mod kept;
mod letters;
mod part;
mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanout_sdk::destination::{Clock, RateUnit};
use fanout_sdk::event::Event;
use serde_json::{Value, json};
use tokio::time::Instant;

use choice::{Choice, ChoiceError};
use kept::{Index, Kept, State};

pub use letters::Stored;

use crate::admin::api::Refusal;
use crate::delivery::{LaneSpec, Lanes, Observer, Replay};
use crate::queue::runs::{Range, Runs};
use crate::queue::{LaneCounts, Queue};

type Events = dyn Runs<Arc<Event>>;

/// So many may be unfinished at one time: each has memory of its own and keeps calls from being let go.
const MOST_RUNNING: usize = 8;
/// So many are listed after they ended.
const MOST_ENDED: usize = 20;
/// How many events go where neither the operator nor the vendor says it,
const STANDARD_RATE: (u64, Duration) = (50, Duration::from_secs(1));
/// and which part of what the vendor publishes.
const SHARE: u64 = 10;
/// What is said where dead letters are deleted with a replay.
const LETTERS_WENT: &str = "its dead letters were deleted with it";
/// How long the requests of one that is cancelled may take to end.
const CANCEL_TIME: Duration = Duration::from_secs(10);

/// What a replay is asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// To which destination.
    pub to: String,
    /// Of calls received from this time on: milliseconds since 1970.
    pub since_ms: i64,
    /// And before this one, now at the latest.
    pub until_ms: i64,
    /// Only of this userId or anonymousId.
    pub user: Option<String>,
    /// So many events in this time at most.
    pub rate: Option<(u64, Duration)>,
    /// Also what later events have superseded.
    pub all: bool,
}

/// What replays are made with.
pub struct Means {
    /// Where calls are retained.
    pub queue: Arc<Events>,
    /// What runs.
    pub lanes: Arc<Lanes>,
    /// The enabled destinations, by name.
    pub specs: BTreeMap<String, LaneSpec>,
    /// Who is told what replays do.
    pub observer: Arc<dyn Observer>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
}

/// All replays of an instance.
pub struct Replays {
    means: Means,
    /// Why one that is not finished does nothing.
    notes: Mutex<BTreeMap<u64, String>>,
    /// Those that a task sees to, with what each chooses by as soon as that is known.
    seen_to: Mutex<BTreeMap<u64, Option<Arc<Choice>>>>,
    /// Held while what is kept of them changes.
    changing: tokio::sync::Mutex<()>,
}

impl Replays {
    /// None is started; see [`Replays::resume`].
    pub fn new(means: Means) -> Arc<Replays> {
        Arc::new(Replays {
            means,
            notes: Mutex::default(),
            seen_to: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// Starts those again that an earlier run of the program did not finish.
    pub fn resume(self: &Arc<Self>) {
        for kept in self.kept().into_iter().filter(|kept| kept.state == State::Running) {
            tracing::info!(replay = kept.id, destination = kept.to, "a replay goes on");
            self.see_to(kept, None);
        }
    }

    /// What would be sent.
    async fn dry_run(self: &Arc<Self>, wish: Wish) -> Result<Value, Refusal> {
        let spec = self.spec(&wish.to)?;
        let (choice, queue) = (self.choice(&spec, &wish), self.means.queue.clone());
        let range = Range { since_ms: wish.since_ms, until_ms: wish.until_ms };
        let (counts, kept_from_ms) = blocking(move || {
            choice.look().map_err(refused_choice)?;
            let counts = dry::count(&*queue, &spec, &choice, range).map_err(unreadable)?;
            Ok((counts, queue.kept_from_ms().map_err(unreadable)?))
        })
        .await?;
        let mut answer = json!({
            "dry_run": true, "to": wish.to, "since": words::show(wish.since_ms), "until": words::show(wish.until_ms),
            "would_send": counts.would_send, "left_out": counts.left_out,
        });
        add_note(&mut answer, &wish, kept_from_ms);
        Ok(answer)
    }

    /// Starts one.
    async fn start(self: &Arc<Self>, wish: Wish) -> Result<Value, Refusal> {
        let spec = self.spec(&wish.to)?;
        let _changing = self.changing.lock().await;
        let all = self.kept();
        if kept::running(&all) >= MOST_RUNNING {
            return Err(Refusal::wrong(
                format!("{MOST_RUNNING} replays are under way"),
                "wait until one has ended, or end one with `fanout replay cancel`",
            ));
        }
        // Before anything is kept: it may find out that it cannot be done.
        let choice = self.choice(&spec, &wish);
        let choice = blocking(move || choice.look().map(|()| choice).map_err(refused_choice)).await?;
        let (count, per) = wish.rate.unwrap_or_else(|| standard_rate(&spec));
        let queue = self.means.queue.clone();
        let mut index = Index::load(&*queue as &dyn Queue<_>);
        let kept = Kept {
            id: index.next,
            to: wish.to.clone(),
            since_ms: wish.since_ms,
            until_ms: wish.until_ms,
            user: wish.user.clone(),
            count,
            per_ms: u64::try_from(per.as_millis()).unwrap_or(u64::MAX),
            all: wish.all,
            state: State::Running,
            started_at_ms: self.means.clock.now_ms(),
            ended_at_ms: None,
            outcomes: BTreeMap::new(),
        };
        index.ids.push(kept.id);
        index.next += 1;
        let written = kept.clone();
        let info = blocking(move || {
            let failed = |error: crate::queue::AppendError| not_written(&error);
            kept::save(&*queue as &dyn Queue<_>, &written).map_err(failed)?;
            index.save(&*queue as &dyn Queue<_>).map_err(failed)?;
            let range = Range { since_ms: written.since_ms, until_ms: written.until_ms };
            queue.add_run(&written.lane(), range).map_err(failed)
        })
        .await?;
        let mut answer = self.show(&kept);
        add_note(&mut answer, &wish, info.kept_from_ms);
        self.see_to(kept, Some(choice));
        Ok(answer)
    }

    /// Ends one, or takes one that has ended off the list.
    async fn cancel(&self, id: u64) -> Result<Value, Refusal> {
        let _changing = self.changing.lock().await;
        let queue = &self.means.queue;
        let Some(mut kept) = self.kept().into_iter().find(|kept| kept.id == id) else {
            return Err(Refusal::unknown(format!("there is no replay {id}"), "see `fanout replay list`"));
        };
        if kept.state != State::Running {
            let (queue, kept_now) = (queue.clone(), kept.clone());
            let had_letters = blocking(move || drop_one(&*queue, &kept_now)).await?;
            let mut answer = json!({"id": id, "removed": true});
            had_letters.then(|| add(&mut answer, "note", LETTERS_WENT.to_owned()));
            return Ok(answer);
        }
        self.means.lanes.stop(&kept.lane(), Instant::now() + CANCEL_TIME).await;
        self.end(&mut kept, State::Cancelled).await?;
        let (queue, lane) = (queue.clone(), kept.lane());
        let had_letters = blocking(move || remove_lane(&*queue, &lane)).await?;
        let mut answer = self.show(&kept);
        had_letters.then(|| add(&mut answer, "note", LETTERS_WENT.to_owned()));
        Ok(answer)
    }

    /// All that are kept, oldest first.
    fn list(&self) -> Value {
        json!({"replays": self.kept().iter().map(|kept| self.show(kept)).collect::<Vec<_>>()})
    }

    fn kept(&self) -> Vec<Kept> {
        kept::all(&*self.means.queue as &dyn Queue<_>)
    }

    fn notes(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen_to(&self) -> MutexGuard<'_, BTreeMap<u64, Option<Arc<Choice>>>> {
        self.seen_to.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spec(&self, to: &str) -> Result<LaneSpec, Refusal> {
        self.means.specs.get(to).cloned().ok_or_else(|| {
            let names: Vec<&str> = self.means.specs.keys().map(String::as_str).collect();
            Refusal::wrong(
                format!("there is no enabled destination {to}"),
                format!("enable it, or name one of: {}", names.join(", ")),
            )
        })
    }

    fn choice(&self, spec: &LaneSpec, wish: &Wish) -> Arc<Choice> {
        let (queue, target) = (self.means.queue.clone(), spec.target.clone());
        let range = Range { since_ms: wish.since_ms, until_ms: wish.until_ms };
        Arc::new(Choice::new(queue, target, &spec.name, range, wish.user.clone(), wish.all))
    }

    /// Has a task see to it that one goes on, unless one does; with `changing` held once others may.
    fn see_to(self: &Arc<Self>, kept: Kept, choice: Option<Arc<Choice>>) {
        let mut seen_to = self.seen_to();
        if seen_to.contains_key(&kept.id) {
            return;
        }
        seen_to.insert(kept.id, choice.clone());
        drop(seen_to);
        let replays = self.clone();
        tokio::spawn(async move {
            let id = kept.id;
            if let Err(note) = replays.run(kept, choice).await {
                let _changing = replays.changing.lock().await;
                replays.notes().insert(id, note);
                replays.seen_to().remove(&id);
            }
        });
    }

    /// Delivers one until it has ended. Or says why it cannot.
    async fn run(&self, kept: Kept, choice: Option<Arc<Choice>>) -> Result<(), String> {
        let Some(spec) = self.means.specs.get(&kept.to).cloned() else {
            let note = format!(
                "destination {} is not enabled: enable it and restart, or cancel the replay; until then the calls of \
                 its range are kept",
                kept.to
            );
            tracing::warn!(replay = kept.id, "{note}");
            return Err(note);
        };
        self.notes().remove(&kept.id);
        let choice = match choice {
            Some(choice) => choice,
            None => self.take_up(&kept, &spec).await.map_err(|refusal| {
                let note = format!("{}: {}", refusal.message, refusal.remedy);
                tracing::error!(replay = kept.id, "a replay cannot go on: {note}");
                note
            })?,
        };
        self.deliver(kept, spec, choice).await
    }

    /// What one chooses by that goes on after a restart, or because dead letters of it were opened again.
    async fn take_up(&self, kept: &Kept, spec: &LaneSpec) -> Result<Arc<Choice>, Refusal> {
        let wish = Wish {
            to: kept.to.clone(),
            since_ms: kept.since_ms,
            until_ms: kept.until_ms,
            user: kept.user.clone(),
            rate: None,
            all: kept.all,
        };
        let (id, queue) = (kept.id, self.means.queue.clone());
        let (lane, range) = (kept.lane(), Range { since_ms: kept.since_ms, until_ms: kept.until_ms });
        let changing = self.changing.lock().await;
        blocking(move || {
            // A crash may have come between keeping it and adding it; or it was cancelled a moment ago.
            let kept = kept::load(&*queue as &dyn Queue<_>, id);
            if kept.is_none_or(|kept| kept.state != State::Running) {
                return Ok(());
            }
            queue.add_run(&lane, range).map(drop).map_err(|error| not_written(&error))
        })
        .await?;
        drop(changing);
        let choice = self.choice(spec, &wish);
        let choice = blocking(move || choice.look().map(|()| choice).map_err(refused_choice)).await?;
        self.seen_to().insert(id, Some(choice.clone()));
        Ok(choice)
    }

    async fn deliver(&self, mut kept: Kept, mut spec: LaneSpec, choice: Arc<Choice>) -> Result<(), String> {
        // What waits for it is bounded by its range.
        spec.policy.max_backlog = None;
        let lane = kept.lane();
        loop {
            let replay = Replay {
                lane: lane.as_str().into(),
                select: Arc::new(choice.clone()),
                count: kept.count,
                per: kept.per(),
            };
            let observer = self.means.observer.clone();
            let started = self.means.lanes.start_replay(spec.clone(), replay, observer, Instant::now()).await;
            let Some(ended) = started else { return Err(format!("destination {} has no lane", kept.to)) };
            ended.notified().await;
            self.means.lanes.stop(&lane, Instant::now()).await;
            let _changing = self.changing.lock().await;
            match self.means.queue.counts(&lane) {
                // Dead letters of it were opened again, its destination's lane was replaced, or the program ends.
                Some(counts) if !counts.done => continue,
                Some(_) => {
                    if let Err(refusal) = self.end(&mut kept, State::Done).await {
                        let error = refusal.message;
                        tracing::error!(replay = kept.id, "the end of a replay is not written down: {error}");
                    }
                }
                None => {} // Cancelled.
            }
            self.seen_to().remove(&kept.id);
            return Ok(());
        }
    }

    /// Keeps how one ended, and no more than so many that have.
    async fn end(&self, kept: &mut Kept, state: State) -> Result<(), Refusal> {
        kept.state = state;
        kept.ended_at_ms = Some(self.means.clock.now_ms());
        let counts = self.means.queue.counts(&kept.lane());
        kept.outcomes = counts.as_ref().map(kept::outcomes).unwrap_or_default();
        tracing::info!(replay = kept.id, destination = kept.to, ?state, outcomes = ?kept.outcomes, "a replay ended");
        self.notes().remove(&kept.id);
        let (queue, kept) = (self.means.queue.clone(), kept.clone());
        let ended: Vec<Kept> =
            self.kept().into_iter().filter(|one| one.state != State::Running && one.id != kept.id).collect();
        blocking(move || {
            kept::save(&*queue as &dyn Queue<_>, &kept).map_err(|error| not_written(&error))?;
            let too_many = (ended.len() + 1).saturating_sub(MOST_ENDED);
            for one in letters::last_wanted(ended, |one| letters::has_any(&*queue, &one.lane()), too_many) {
                if drop_one(&*queue, &one)? {
                    tracing::warn!(
                        replay = one.id,
                        destination = one.to,
                        "more than {MOST_ENDED} replays with dead letters have ended: the oldest is off the list, and its \
                         dead letters are deleted; redrive or purge dead letters to keep them few"
                    );
                }
            }
            Ok(())
        })
        .await
    }

    fn show(&self, kept: &Kept) -> Value {
        let running = kept.state == State::Running;
        let counts = self.means.queue.counts(&kept.lane()).filter(|_| running);
        let outcomes = counts.as_ref().map_or_else(|| kept.outcomes.clone(), kept::outcomes);
        let LaneCounts { unfinished, in_flight, retrying, .. } = counts.unwrap_or_default();
        let mut shown = json!({
            "id": kept.id,
            "to": kept.to,
            "since": words::show(kept.since_ms),
            "until": words::show(kept.until_ms),
            "user": kept.user,
            "rate": format!("{} per {}", kept.count, crate::config::values::show_duration(kept.per())),
            "all": kept.all,
            "state": kept.state,
            "started": words::show(kept.started_at_ms),
            "ended": kept.ended_at_ms.map(words::show),
            "pending": unfinished,
            "in_flight": in_flight,
            "retrying": retrying,
            "outcomes": outcomes,
        });
        if let Some(waits) = self.waits(kept).filter(|_| running) {
            add(&mut shown, "waits", waits);
        }
        shown
    }

    /// Why one does nothing.
    fn waits(&self, kept: &Kept) -> Option<String> {
        if let Some(note) = self.notes().get(&kept.id) {
            return Some(note.clone());
        }
        let choice = self.seen_to().get(&kept.id).cloned().flatten();
        if let Some(trouble) = choice.and_then(|choice| choice.trouble()) {
            let Refusal { message, remedy, .. } = refused_choice(trouble);
            return Some(format!("{message}: {remedy}"));
        }
        let (_, status) = self.means.lanes.status().into_iter().find(|(name, _)| **name == *kept.to)?;
        match status.closed {
            _ if status.paused => Some("the destination is paused".to_owned()),
            Some(cause) => Some(format!("the destination is closed: {cause:?}").to_lowercase()),
            None => None,
        }
    }
}

/// Takes one off the list. Hands out whether dead letters went with it.
fn drop_one(queue: &Events, kept: &Kept) -> Result<bool, Refusal> {
    let failed = |error: crate::queue::AppendError| not_written(&error);
    let had_letters = remove_lane(queue, &kept.lane())?;
    let queue = queue as &dyn Queue<_>;
    let mut index = Index::load(queue);
    index.ids.retain(|id| *id != kept.id);
    index.save(queue).map_err(failed)?;
    kept::forget(queue, kept.id).map_err(failed)?;
    Ok(had_letters)
}

/// Hands out whether dead letters went with it.
fn remove_lane(queue: &Events, lane: &str) -> Result<bool, Refusal> {
    let had_letters = letters::has_any(queue, lane);
    queue.remove_run(lane).map_err(|error| not_written(&error))?;
    Ok(had_letters)
}

/// A tenth of what the vendor publishes, if it does.
fn standard_rate(spec: &LaneSpec) -> (u64, Duration) {
    let limits = spec.destination.limits();
    let rates = limits.rates.iter().chain(&spec.policy.rate_limit);
    let items = rates.filter(|rate| !rate.per_user && rate.count > 0).filter_map(|rate| match rate.unit {
        RateUnit::Items => Some((rate.count, rate.per)),
        RateUnit::Requests => Some((rate.count.saturating_mul(limits.items as u64), rate.per)),
        RateUnit::Bytes => None,
    });
    let slower = |(count, per): &(u64, Duration)| *count as f64 / per.as_secs_f64();
    match items.min_by(|a, b| slower(a).total_cmp(&slower(b))) {
        Some((count, per)) if count >= SHARE => (count / SHARE, per),
        Some((count, per)) => (count, per * SHARE as u32),
        None => STANDARD_RATE,
    }
}

/// Says when the range reaches before what is retained.
fn add_note(answer: &mut Value, wish: &Wish, kept_from_ms: Option<i64>) {
    let Some(from) = kept_from_ms.filter(|from| *from > wish.since_ms) else { return };
    let note = format!(
        "calls before {} are not retained any more; [queue] retain says how long they are",
        words::show(from)
    );
    add(answer, "note", note);
}

fn add(object: &mut Value, name: &str, text: String) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), text.into());
    }
}

fn not_written(error: &crate::queue::AppendError) -> Refusal {
    Refusal::failed(error.to_string(), "see that the disk works and has room")
}

fn unreadable(error: impl std::fmt::Display) -> Refusal {
    Refusal::failed(error.to_string(), "see that the disk works")
}

fn refused_choice(error: ChoiceError) -> Refusal {
    match error {
        ChoiceError::Unreadable(_) => unreadable(error),
        ChoiceError::TooMany => Refusal::wrong(
            error.to_string(),
            "choose less time, one --user, or --all to send what is superseded too",
        ),
    }
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Refusal> + Send + 'static,
) -> Result<R, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Refusal::failed(
            format!("a fault of the program: {error}"),
            "please report it with the log's lines",
        )),
    }
}
