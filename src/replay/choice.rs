//! Which events of a replay are sent, and with which traits: those of the user that was asked for, without what later
//! events, delivered live, have set again. Everything else (flags, sources, what the adapter skips) is the lane's
//! business, as always; what is left of an event is the event's own.
//!
//! A trait is set again when a live event of the same order key that was accepted later, and that the destination has
//! taken or is still to take, sets or unsets it. Then sending it could only put an old value back.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use fanout_sdk::event::{CallType, Event};
use fanout_sdk::superseded::{Again, Trait, Value};

use crate::delivery::Select;
use crate::queue::runs::{Range, Retained, Runs, Standing, Start, Unreadable};
use crate::queue::{Claimed, Code, Id};
use crate::routing::{self, Target};

/// The most users and traits of them that are remembered: about 60 MB.
const MOST_REMEMBERED: usize = 1_800_000;
/// The code of an event that is not of the user asked for.
const OTHER_USER: &str = "other_user";

/// Why there is no choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The journal could not be read.
    #[error("{0}")]
    Unreadable(String),
    /// Later events would need too much memory to compare with.
    #[error(
        "there are more than {MOST_REMEMBERED} users and traits that later live events have set again, too many to find \
         out what is superseded"
    )]
    TooMany,
}

impl From<Unreadable> for ChoiceError {
    fn from(error: Unreadable) -> ChoiceError {
        ChoiceError::Unreadable(error.to_string())
    }
}

/// See the module.
pub struct Choice {
    queue: Arc<dyn Runs<Arc<Event>>>,
    user: Option<String>,
    later: Option<Later>,
    /// Why nothing of it can be sent now.
    trouble: Mutex<Option<ChoiceError>>,
}

/// What live events have set again.
struct Later {
    lane: String,
    target: Target,
    range: Range,
    known: Mutex<Known>,
    is_stale: AtomicBool,
    hasher: RandomState,
}

/// What was found out, as far as the journal was read.
struct Known {
    /// The order keys of the replay's events: what others set does not matter. `None` where the journal does not have
    /// all of its events any more, of which one may be sent again: then everybody's matters.
    keys: Option<HashSet<u64>>,
    /// Order key and trait, hashed → the last event that set it, as its distance from the first that was looked at, and
    /// a hash of the value: small, for these are many.
    set: HashMap<u64, (u32, u32)>,
    first: Option<Id>,
    /// Everything before is looked at.
    next: Start,
}

impl Choice {
    /// Of events of `user`, or all; `all`: with what is superseded. Not to be used before it was brought up to date once.
    pub fn new(
        queue: Arc<dyn Runs<Arc<Event>>>,
        target: Target,
        lane: &str,
        range: Range,
        user: Option<String>,
        all: bool,
    ) -> Choice {
        let known = Mutex::new(Known::nothing(range));
        let (lane, is_stale, hasher) = (lane.to_owned(), AtomicBool::new(false), RandomState::new());
        let later = Later { lane, target, range, known, is_stale, hasher };
        Choice { queue, user, later: (!all).then_some(later), trouble: Mutex::default() }
    }

    /// Takes in what was received since it was last asked. Blocks on the disk.
    pub fn look(&self) -> Result<(), ChoiceError> {
        match &self.later {
            Some(later) => later.look(&*self.queue, self.user.as_deref()),
            None => Ok(()),
        }
    }

    /// What became of earlier events has changed, as where dead letters are redriven: the next look is at everything.
    pub fn look_again(&self) {
        if let Some(later) = &self.later {
            later.is_stale.store(true, Ordering::SeqCst);
        }
    }

    /// The code under which an event is left out whatever it says, if it is.
    pub fn why_not(&self, event: &Event) -> Option<&'static str> {
        self.user.as_deref().is_some_and(|user| !is_of(event, user)).then_some(OTHER_USER)
    }

    /// Why nothing can be sent now, if so.
    pub fn trouble(&self) -> Option<ChoiceError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is none.
    fn note(&self, now: Option<ChoiceError>) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = now.as_ref().filter(|_| trouble.is_none()) {
            tracing::error!(%error, "newer events cannot be looked at for a replay, which waits until they can");
        }
        *trouble = now;
        trouble.is_none()
    }

    /// Whether a trait of an event was set again after it.
    pub fn again(&self, order_key: u64, id: Id, one: Trait<'_>, value: Value<'_>) -> Again {
        self.later.as_ref().map_or(Again::No, |later| later.again(order_key, id, one, value))
    }
}

#[async_trait]
impl Select for Arc<Choice> {
    async fn refresh(&self) -> bool {
        let choice = self.clone();
        let looked = match tokio::task::spawn_blocking(move || choice.look()).await {
            Ok(looked) => looked,
            Err(error) => Err(ChoiceError::Unreadable(format!("a fault of the program: {error}"))),
        };
        self.note(looked.err())
    }

    fn leaves_out(&self, delivery: &Claimed<Arc<Event>>) -> Option<&'static str> {
        self.why_not(&delivery.payload)
    }

    fn again(&self, delivery: &Claimed<Arc<Event>>, one: Trait<'_>, value: Value<'_>) -> Again {
        Choice::again(self, delivery.order_key, delivery.id, one, value)
    }
}

fn is_of(event: &Event, user: &str) -> bool {
    event.user_id() == Some(user) || event.anonymous_id() == Some(user)
}

impl Later {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, queue: &dyn Runs<Arc<Event>>, user: Option<&str>) -> Result<(), ChoiceError> {
        let mut known = self.known();
        if self.is_stale.swap(false, Ordering::SeqCst) {
            *known = Known::nothing(self.range);
        }
        if known.first.is_none() {
            let kept_from_ms = queue.kept_from_ms().map_err(ChoiceError::from)?;
            let is_whole = kept_from_ms.is_none_or(|from| from < self.range.since_ms);
            known.keys = is_whole.then(HashSet::new);
        }
        loop {
            let passage = queue.retained(&self.lane, known.next);
            let passage = passage.map_err(ChoiceError::from)?;
            for call in passage.calls.iter().filter(|call| call.payload.call_type() == CallType::Identify) {
                known.first.get_or_insert(call.id);
                let matters = known.keys.as_ref().is_none_or(|keys| keys.contains(&call.order_key));
                if matters && self.counts(queue, call) {
                    let place = known.place(call.id);
                    let set = call.payload.set_traits().map(|(one, value)| {
                        (self.hasher.hash_one((call.order_key, one)), (place, self.short(value)))
                    });
                    known.set.extend(set);
                }
                let is_in_time = (self.range.since_ms..self.range.until_ms).contains(&call.received_at_ms);
                if is_in_time
                    && user.is_none_or(|user| is_of(&call.payload, user))
                    && let Some(keys) = &mut known.keys
                {
                    keys.insert(call.order_key);
                }
            }
            if known.keys.as_ref().map_or(0, HashSet::len) + known.set.len() > MOST_REMEMBERED {
                return Err(ChoiceError::TooMany);
            }
            known.next = Start::At(passage.next);
            if passage.end {
                return Ok(());
            }
        }
    }

    /// Whether the destination has taken a live event, or is to take it.
    fn counts(&self, queue: &dyn Runs<Arc<Event>>, call: &Retained<Arc<Event>>) -> bool {
        match &call.standing {
            Standing::Foreign => false,
            // It will be sent if its flags say so.
            Standing::Open => {
                let source = queue.source_name(call.source).unwrap_or_default();
                routing::decide(&call.payload, &source, &self.target).is_on()
            }
            Standing::Ended(code) => matches!(code, Code::Delivered | Code::Submitted | Code::Suppressed),
        }
    }

    fn again(&self, order_key: u64, id: Id, one: Trait<'_>, value: Value<'_>) -> Again {
        let known = self.known();
        match known.set.get(&self.hasher.hash_one((order_key, one))) {
            Some((last, _)) if *last <= known.place(id) => Again::No,
            Some((_, same)) if *same == self.short(value) => Again::Same,
            Some(_) => Again::Other,
            None => Again::No,
        }
    }

    fn short(&self, value: Value<'_>) -> u32 {
        self.hasher.hash_one(value) as u32
    }
}

impl Known {
    fn nothing(range: Range) -> Known {
        let next = Start::ReceivedFrom(range.since_ms);
        Known { keys: Some(HashSet::new()), set: HashMap::new(), first: None, next }
    }

    /// Where an event stands behind the first one; more than four thousand million calls are not retained.
    fn place(&self, Id(id): Id) -> u32 {
        let Id(first) = self.first.unwrap_or(Id(id));
        u32::try_from(id.saturating_sub(first)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
