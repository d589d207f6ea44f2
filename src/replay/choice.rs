//! Which events of a replay are sent: those of the user that was asked for, and not those that a later event, delivered
//! live, has superseded. Everything else (flags, sources, what the adapter skips) is the lane's business, as always.
//!
//! An event is superseded when live events of the same user that were received after it, and that the destination has
//! taken or is still to take, have set every one of its traits again. Then sending it could only put old values back. An
//! event is sent whole or not at all.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use fanout_sdk::event::{CallType, Event};
use fanout_sdk::json::Json;

use crate::delivery::Select;
use crate::queue::runs::{Runs, Standing, Start};
use crate::queue::{Claimed, Code, Id};
use crate::routing::{self, Target};

/// The most traits of users that are compared, over all users: about 60 MB.
const MOST_TRAITS: usize = 1_800_000;
/// The code of an event that is not of the user asked for.
const OTHER_USER: &str = "other_user";
/// The code of an event that is superseded.
const SUPERSEDED: &str = "superseded";

/// Why there is no choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The journal could not be read.
    #[error("{0}")]
    Unreadable(String),
    /// Later events would need too much memory to compare with.
    #[error(
        "since then, live events have set more than {MOST_TRAITS} traits of users, too many to find out which events are \
         superseded"
    )]
    TooMany,
}

/// See the module.
pub struct Choice {
    queue: Arc<dyn Runs<Arc<Event>>>,
    user: Option<String>,
    later: Option<Later>,
}

/// What live events have set since the replay's first call.
struct Later {
    lane: String,
    target: Target,
    set: Mutex<Set>,
    hasher: RandomState,
}

/// User and trait, hashed → the last call that set it.
struct Set {
    traits: HashMap<u64, Id>,
    /// Everything before is looked at.
    next: Start,
}

impl Choice {
    /// Of events of `user`, or all; `all`: superseded ones too. Not to be used before it was brought up to date once.
    pub fn new(
        queue: Arc<dyn Runs<Arc<Event>>>,
        target: Target,
        lane: &str,
        since_ms: i64,
        user: Option<String>,
        all: bool,
    ) -> Choice {
        let set = Mutex::new(Set { traits: HashMap::new(), next: Start::ReceivedFrom(since_ms) });
        let later = Later { lane: lane.to_owned(), target, set, hasher: RandomState::new() };
        Choice { queue, user, later: (!all).then_some(later) }
    }

    /// Takes in what was received since it was last asked. Blocks on the disk.
    pub fn look(&self) -> Result<(), ChoiceError> {
        match &self.later {
            Some(later) => later.look(&*self.queue, self.user.as_deref()),
            None => Ok(()),
        }
    }

    /// The code under which an event is left out, if it is.
    pub fn why_not(&self, event: &Event, order_key: u64, id: Id) -> Option<&'static str> {
        if self.user.as_deref().is_some_and(|user| !is_of(event, user)) {
            return Some(OTHER_USER);
        }
        self.later.as_ref().filter(|later| later.supersede(event, order_key, id)).map(|_| SUPERSEDED)
    }
}

#[async_trait]
impl Select for Arc<Choice> {
    async fn refresh(&self) {
        let choice = self.clone();
        match tokio::task::spawn_blocking(move || choice.look()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "newer events could not be looked at for a replay"),
            Err(error) => tracing::error!(%error, "a fault of the program while looking at newer events"),
        }
    }

    fn leaves_out(&self, delivery: &Claimed<Arc<Event>>) -> Option<&'static str> {
        self.why_not(&delivery.payload, delivery.order_key, delivery.id)
    }
}

fn is_of(event: &Event, user: &str) -> bool {
    event.user_id() == Some(user) || event.anonymous_id() == Some(user)
}

impl Later {
    fn set(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, queue: &dyn Runs<Arc<Event>>, user: Option<&str>) -> Result<(), ChoiceError> {
        let mut set = self.set();
        loop {
            let passage = queue.retained(&self.lane, set.next);
            let passage = passage.map_err(|error| ChoiceError::Unreadable(error.to_string()))?;
            for call in &passage.calls {
                let counts = match &call.standing {
                    Standing::Foreign => false,
                    // It will be sent if its flags say so.
                    Standing::Open => {
                        let source = queue.source_name(call.source).unwrap_or_default();
                        routing::decide(&call.payload, &source, &self.target).is_on()
                    }
                    Standing::Ended(code) => {
                        matches!(code, Code::Delivered | Code::Submitted | Code::Suppressed)
                    }
                };
                let counts = counts && call.payload.call_type() == CallType::Identify;
                if counts && user.is_none_or(|user| is_of(&call.payload, user)) {
                    for name in traits(&call.payload) {
                        set.traits.insert(self.key(call.order_key, &name), call.id);
                    }
                }
            }
            if set.traits.len() > MOST_TRAITS {
                return Err(ChoiceError::TooMany);
            }
            set.next = Start::At(passage.next);
            if passage.end {
                return Ok(());
            }
        }
    }

    fn supersede(&self, event: &Event, order_key: u64, id: Id) -> bool {
        if event.call_type() != CallType::Identify {
            return false;
        }
        let set = self.set();
        let mut names = traits(event).into_iter().peekable();
        names.peek().is_some()
            && names.all(|name| set.traits.get(&self.key(order_key, &name)).is_some_and(|last| *last > id))
    }

    fn key(&self, order_key: u64, name: &str) -> u64 {
        self.hasher.hash_one((order_key, name))
    }
}

/// The names of the traits that a call sets, those inside an object by their path: a call may set a part of an object.
fn traits(event: &Event) -> Vec<String> {
    let raw = event.raw();
    let inside = raw.get("context").and_then(|context| context.get("traits"));
    let mut names = Vec::new();
    for traits in [raw.get("traits"), inside].into_iter().flatten() {
        collect(traits, "", &mut names);
    }
    names
}

fn collect(json: Json<'_>, path: &str, names: &mut Vec<String>) {
    for (name, value) in json.members() {
        let path = format!("{path}/{name}");
        if value.members().next().is_some() {
            collect(value, &path, names);
        } else {
            names.push(path);
        }
    }
}
