//! Dead letters of replays: where they are, and what it means to open one again. A replay that has ended goes on for what
//! is opened, with its own rate and counts, and ends again. How letters are listed and deleted is the admin API's business.

use std::sync::Arc;

use super::kept::{self, Kept, State};
use super::{Events, MOST_RUNNING, Replays};
use crate::admin::dead_letters::{Place, Replayed};
use crate::queue::{Id, Queue};

/// The replays of a data directory that no instance uses: what is opened goes out after the next start.
pub struct Stored {
    /// Where they are kept.
    pub queue: Arc<Events>,
}

impl Replayed for Stored {
    fn places(&self) -> Vec<Place> {
        places(&*self.queue)
    }

    fn redrive(&self, replay: u64, ids: &[Id], whole: bool) -> usize {
        open_again(&*self.queue, replay, ids, whole).0
    }

    fn redriven(&self, _: &str) {}
}

impl Replayed for Arc<Replays> {
    fn places(&self) -> Vec<Place> {
        places(&*self.means.queue)
    }

    fn redrive(&self, replay: u64, ids: &[Id], whole: bool) -> usize {
        let _changing = self.changing.blocking_lock();
        let (opened, goes_on) = open_again(&*self.means.queue, replay, ids, whole);
        if let Some(kept) = goes_on {
            self.see_to(kept, None);
        }
        opened
    }

    fn redriven(&self, destination: &str) {
        let choices: Vec<_> =
            self.seen_to().iter().filter_map(|(id, choice)| Some((*id, choice.clone()?))).collect();
        let kept = self.kept();
        let is_its = |id: u64| kept.iter().any(|kept| kept.id == id && kept.to == destination);
        choices.into_iter().filter(|(id, _)| is_its(*id)).for_each(|(_, choice)| choice.look_again());
    }
}

fn places(queue: &Events) -> Vec<Place> {
    let place = |kept: Kept| Place { lane: kept.lane(), destination: kept.to, replay: Some(kept.id) };
    // The lane of a cancelled one is gone.
    let all = kept::all(queue as &dyn Queue<_>).into_iter();
    all.filter(|kept| kept.state != State::Cancelled).map(place).collect()
}

/// Opens letters of a replay again. Hands out how many, and the replay where it is to go on.
fn open_again(queue: &Events, id: u64, ids: &[Id], whole: bool) -> (usize, Option<Kept>) {
    let values = queue as &dyn Queue<_>;
    let Some(before) = kept::load(values, id) else { return (0, None) };
    let kept = Kept { state: State::Running, ended_at_ms: None, ..before.clone() };
    let had_ended = before.state != State::Running;
    if had_ended && kept::running(&kept::all(values)) >= MOST_RUNNING {
        tracing::warn!(
            replay = id,
            "{MOST_RUNNING} replays are under way: dead letters of another one cannot be redriven until one has ended"
        );
        return (0, None);
    }
    // First, so that a crash leaves nothing open that nobody sees to.
    let save = |kept: &Kept| kept::save(values, kept);
    let saved = if had_ended { save(&kept) } else { Ok(()) };
    if let Err(error) = saved {
        tracing::error!(%error, replay = id, "dead letters cannot be redriven");
        return (0, None);
    }
    match queue.redrive(&kept.lane(), ids, whole) {
        0 => {
            if had_ended && let Err(error) = save(&before) {
                tracing::error!(%error, replay = id, "the end of a replay is not written down");
            }
            (0, None)
        }
        opened => (opened, Some(kept)),
    }
}

/// Whether a lane has dead letters. Blocks on the disk.
pub(super) fn has_any(queue: &Events, lane: &str) -> bool {
    !queue.dead_letters(lane, None, 1).is_empty()
}

/// So many of those that have ended, as they are wanted least: the oldest first, and those that have dead letters last.
pub(super) fn last_wanted(ended: Vec<Kept>, has_letters: impl Fn(&Kept) -> bool, count: usize) -> Vec<Kept> {
    if count == 0 {
        return Vec::new();
    }
    let (with, without): (Vec<_>, Vec<_>) = ended.into_iter().partition(|one| has_letters(one));
    without.into_iter().chain(with).take(count).collect()
}
