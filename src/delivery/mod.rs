//! Delivery: one lane for each destination, each at its own pace, from the queue to the vendor.
//!
//! Here are the words that lanes share with the application (what a lane is made of, its policy, its status, what it
//! reports) and [`Lanes`], which starts, pauses, replaces and stops them. How a lane works is in `lane`.

mod backoff;
mod batch;
mod beside;
mod disabled;
mod gate;
mod keep;
mod lane;
mod limiter;
mod outcome;
mod own_time;
mod pace;
pub mod request;
mod supervise;
mod suppress;
mod suppression;
mod suspects;
mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanout_sdk::destination::{Clock, Destination, Rate, Transport};
use fanout_sdk::event::{Event, Warning};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use beside::{Replay, Select};
pub use gate::Cause;
pub use outcome::Label;
pub use suppression::Suppression;

use beside::Beside;

use crate::queue::{LaneLimits, Queue};
use crate::routing::Target;

/// How a destination is delivered to, where its adapter does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a delivery is tried, from its first attempt; default 24 hours. It stands still while the destination as
    /// a whole is paused, throttled, failing or refuses the credentials.
    pub retry_for: Duration,
    /// The most requests at one time, never more than the adapter's own cap; default 4 where requests hold batches and
    /// 16 where they hold one item.
    pub max_concurrency: Option<usize>,
    /// How long an item waits for others to share its request; default the adapter's.
    pub linger: Option<Duration>,
    /// A rate to keep beside those that the adapter knows; default none.
    pub rate_limit: Option<Rate>,
    /// How many calls may wait, with those under way; beyond it the oldest that are not are given up. Default no
    /// limit.
    pub max_backlog: Option<u64>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            retry_for: Duration::from_secs(24 * 60 * 60),
            max_concurrency: None,
            linger: None,
            rate_limit: None,
            max_backlog: None,
        }
    }
}

/// What a lane is made of.
#[derive(Clone)]
pub struct LaneSpec {
    /// The destination's name, which is also the lane's name in the queue.
    pub name: Arc<str>,
    /// Renders and sends.
    pub destination: Arc<dyn Destination>,
    /// Where its requests go.
    pub transport: Arc<dyn Transport>,
    /// Which events it gets.
    pub target: Target,
    /// Whether it takes calls of every type; else identify alone.
    pub every_call: bool,
    /// How it is delivered to.
    pub policy: Policy,
    /// Whether it starts paused: it keeps what arrives and sends nothing.
    pub paused: bool,
    /// Leaves out what changes nothing; `None` where everything is sent.
    pub suppression: Option<Arc<Suppression>>,
}

/// What all lanes share.
#[derive(Clone)]
pub struct Services {
    /// Where deliveries come from.
    pub queue: Arc<dyn Queue<Arc<Event>>>,
    /// Wall time and nonces.
    pub clock: Arc<dyn Clock>,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
    /// Chance for the jitter of waits: at least 0 and below 1.
    pub random: fn() -> f64,
}

/// Is told what lanes do, for metrics. Called on the lanes' own tasks: it must be quick and must not block.
pub trait Observer: Send + Sync {
    /// So many deliveries, or attempts at them, ended this way.
    fn ended(&self, destination: &str, label: Label, count: u64);
    /// One request, or chain of requests, took this long, by the clock and with the waits for published rates.
    fn attempted(&self, destination: &str, took: Duration);
    /// The destination as a whole is not sent to, for this cause, or no longer for it.
    fn closed(&self, destination: &str, cause: &'static str, closed: bool);
    /// What was odd about an event's flags, or when it was rendered.
    fn warned(&self, destination: &str, warnings: &[Warning]);
}

/// What a lane is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether the operator paused it.
    pub paused: bool,
    /// Why not everything goes, if so.
    pub closed: Option<Cause>,
    /// Until when nothing goes: milliseconds since 1970.
    pub until_ms: Option<i64>,
    /// The last failure.
    pub last_error: Option<LastError>,
    /// Items that wait for a request.
    pub waiting: usize,
    /// Requests under way.
    pub requests: usize,
}

/// A failure, told without what the vendor wrote, which may hold personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// As counted.
    pub outcome: &'static str,
    /// The answer's status, or why there was no answer.
    pub what: String,
}

/// A lane's part: the one that follows a destination's newest events, or a replay beside it.
#[derive(Clone)]
struct Role {
    beside: Arc<Beside>,
    replay: Option<Replay>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Run,
    Pause,
    Stop { deadline: Instant },
}

struct Running {
    command: watch::Sender<Command>,
    status: Arc<Mutex<Status>>,
    suppression: Option<Arc<Suppression>>,
    /// The destination that it is a replay to, if it is one.
    replay_to: Option<Arc<str>>,
    /// Taken by whoever waits for its end.
    task: Option<JoinHandle<()>>,
}

/// All lanes of a process. Shared as it is: starting and stopping wait for each other, the rest waits for nothing.
pub struct Lanes {
    services: Services,
    running: Mutex<BTreeMap<Arc<str>, Running>>,
    /// What the lane of each destination shares with its replays.
    beside: Mutex<BTreeMap<Arc<str>, Arc<Beside>>>,
    /// Held while lanes start and stop; whether they have stopped for good.
    changing: tokio::sync::Mutex<bool>,
}

impl Lanes {
    /// No lanes yet.
    pub fn new(services: Services) -> Lanes {
        Lanes {
            services,
            running: Mutex::default(),
            beside: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// Starts a lane. One of the same name is stopped first, whose requests have until `deadline` to end, so that no
    /// user's events overtake each other; so are the replays beside it, which whoever started them may start again.
    pub async fn start(&self, spec: LaneSpec, deadline: Instant) {
        let _changing = self.changing.lock().await;
        self.end(|lane, running| running.is_of(lane, &spec.name), deadline).await;
        let (command, commands) = watch::channel(if spec.paused { Command::Pause } else { Command::Run });
        let (name, status) = (spec.name.clone(), Arc::<Mutex<Status>>::default());
        let suppression = spec.suppression.clone();
        let beside = Arc::new(Beside::new(&work::rates(&spec), lane::concurrency(&spec)));
        self.shared().insert(name.clone(), beside.clone());
        let role = Role { beside, replay: None };
        self.services.queue.set_limits(&name, LaneLimits { max_backlog: spec.policy.max_backlog });
        let work = supervised(name.clone(), spec, role, self.services.clone(), commands, status.clone());
        let task = Some(tokio::spawn(work));
        self.running().insert(name, Running { command, status, suppression, replay_to: None, task });
    }

    /// Starts a replay beside the lane of its destination, whose rates, requests at one time and pauses it shares; who is
    /// told what happens is its own. It ends by itself when everything is finished, or when the lane is replaced, and says
    /// so; then it is still to be stopped. `None` where the destination has no lane, or all have stopped for good.
    pub async fn start_replay(
        &self,
        spec: LaneSpec,
        replay: Replay,
        observer: Arc<dyn Observer>,
        deadline: Instant,
    ) -> Option<Arc<Notify>> {
        let changing = self.changing.lock().await;
        let beside = self.shared().get(&spec.name).filter(|_| !*changing).cloned()?;
        let (name, to) = (replay.lane.clone(), spec.name.clone());
        self.end(|lane, _| *lane == *name, deadline).await;
        let (command, commands) = watch::channel(Command::Run);
        let status = Arc::<Mutex<Status>>::default();
        let bypass = self.suppression(&to).map(Suppression::bypass);
        if bypass.is_none() {
            suppression::forget_saved(&*self.services.queue, &to);
        }
        let role = Role { beside, replay: Some(replay) };
        let services = Services { observer, ..self.services.clone() };
        let work = supervised(name.clone(), spec, role, services, commands, status.clone());
        let ended = Arc::new(Notify::new());
        let told = ended.clone();
        let task = Some(tokio::spawn(async move {
            work.await;
            drop(bypass);
            told.notify_one();
        }));
        self.running()
            .insert(name, Running { command, status, suppression: None, replay_to: Some(to), task });
        Some(ended)
    }

    fn shared(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Beside>>> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the lane of a disabled destination, which skips every event.
    pub async fn start_disabled(&self, name: Arc<str>, deadline: Instant) {
        let _changing = self.changing.lock().await;
        self.end(|lane, running| running.is_of(lane, &name), deadline).await;
        self.shared().remove(&name);
        let (command, commands) = watch::channel(Command::Run);
        self.services.queue.set_limits(&name, LaneLimits::default());
        let (lane, services, told) = (name.clone(), self.services.clone(), commands.clone());
        let skip = move || disabled::run(lane.clone(), services.clone(), told.clone());
        let task = Some(tokio::spawn(supervise::run(name.clone(), self.services.clone(), commands, skip)));
        let (status, suppression, replay_to) = (Arc::default(), None, None);
        self.running().insert(name, Running { command, status, suppression, replay_to, task });
    }

    /// Stops a lane; what it had claimed goes back to the queue unless it ends before the deadline.
    pub async fn stop(&self, name: &str, deadline: Instant) {
        let _changing = self.changing.lock().await;
        self.end(|lane, _| *lane == *name, deadline).await;
    }

    /// Stops all lanes at once and for good. Requests under way have until the deadline, also those of a lane that is being stopped
    /// already; the events of those that do not end in time will be sent again.
    pub async fn shutdown(&self, deadline: Instant) {
        self.command(|_, _| true, Command::Stop { deadline });
        let mut changing = self.changing.lock().await;
        *changing = true;
        self.end(|_, _| true, deadline).await;
    }

    /// Pauses a lane or lets it go on; `false` when there is none of that name.
    pub fn pause(&self, name: &str, paused: bool) -> bool {
        self.command(|lane, _| *lane == *name, if paused { Command::Pause } else { Command::Run })
    }

    fn suppression(&self, name: &str) -> Option<Arc<Suppression>> {
        self.running().get(name).and_then(|lane| lane.suppression.clone())
    }

    /// What every lane is doing, by name.
    pub fn status(&self) -> Vec<(Arc<str>, Status)> {
        let status = |lane: &Running| lane.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.running().iter().map(|(name, lane)| (name.clone(), status(lane))).collect()
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells some lanes what to do; one that is to stop cannot be told otherwise. `false` when there is none.
    fn command(&self, which: impl Fn(&str, &Running) -> bool, command: Command) -> bool {
        let mut found = false;
        for (_, lane) in self.running().iter().filter(|(name, lane)| which(name, lane)) {
            lane.command.send_if_modified(|current| {
                let stopping = matches!(current, Command::Stop { .. });
                let changed = *current != command && (!stopping || matches!(command, Command::Stop { .. }));
                if changed {
                    *current = command;
                }
                changed
            });
            found = true;
        }
        found
    }

    async fn end(&self, which: impl Fn(&str, &Running) -> bool, deadline: Instant) {
        self.command(&which, Command::Stop { deadline });
        let tasks: Vec<_> = self
            .running()
            .iter_mut()
            .filter(|(name, lane)| which(name, lane))
            .filter_map(|(name, lane)| Some((name.clone(), lane.task.take()?)))
            .collect();
        for (lane, task) in tasks {
            if task.await.is_err() {
                tracing::error!(
                    destination = &*lane,
                    "a lane ended by a fault of the program; what it had claimed is sent again after a restart"
                );
            }
            self.running().remove(&lane);
        }
    }
}

impl Running {
    /// Whether it is the lane of a destination, or a replay beside that.
    fn is_of(&self, lane: &str, destination: &str) -> bool {
        lane == destination || self.replay_to.as_deref() == Some(destination)
    }
}

/// The work of a lane, begun again when it breaks.
fn supervised(
    name: Arc<str>,
    spec: LaneSpec,
    role: Role,
    services: Services,
    commands: watch::Receiver<Command>,
    status: Arc<Mutex<Status>>,
) -> impl Future<Output = ()> {
    let (of_lane, told) = (services.clone(), commands.clone());
    let lane = move || {
        let (spec, role, services) = (spec.clone(), role.clone(), of_lane.clone());
        lane::Lane::new(spec, role, services, told.clone(), status.clone()).run()
    };
    supervise::run(name, services, commands, lane)
}

#[cfg(test)]
mod tests;
