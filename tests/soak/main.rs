//! Everything that goes wrong, mixed at random, and the books at the end: vendors that fail in every way and recover, a
//! process that is killed and stopped under load, a full disk, repeated calls, flags, batches large and small, dead letters
//! that are redriven and purged, replays, a destination that comes and goes, one that leaves out what is unchanged, one
//! that may not keep much. At any moment the data directory accounts for every journalled call at every destination, and
//! in the end the account is the one that the vendors kept.
//!
//! `./soak [SECONDS] [SEED]` runs it for longer. Nothing here is timed: what happens next happens after so many calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]
#![allow(clippy::print_stdout, reason = "the seed and what happened are for who reads a failure")]

mod chaos;
mod disk;
mod letters;
mod parts;
mod past;
mod reconcile;
mod rules;
mod run;
mod sender;
#[path = "../support/mod.rs"]
mod support;
mod vendors;

use std::sync::atomic::Ordering;
use std::time::Duration;

use chaos::Chaos;
use run::Run;
use sender::Sender;

const SENDERS: u64 = 4;
/// Of the sources, each with its write key.
const SOURCES: [(&str, &str); 2] = [("app", "soak-app-key"), ("web", "soak-web-key")];
/// How long the vendors may take to have everything once all is well: what has failed often waits for 5 minutes at most.
const RECOVERY: Duration = Duration::from_secs(600);
/// How long nothing at all may come before the run has failed.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn every_call_is_accounted_for_at_every_destination() {
    let seed = number_from("FANOUT_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    let is_quick = std::env::var("FANOUT_TESTS").as_deref() == Ok("quick");
    let time =
        Duration::from_secs(number_from("FANOUT_SOAK_SECONDS").unwrap_or(if is_quick { 8 } else { 25 }));
    println!("{} s with seed {seed}: ./soak {0} {seed} runs it again", time.as_secs());

    let run = Run::new();
    let mut chaos = Chaos::begin(&run, fastrand::Rng::with_seed(seed));
    std::thread::scope(|scope| {
        let _guard = StopsSenders(&run);
        for sender in 0..SENDERS {
            let random = fastrand::Rng::with_seed(seed.wrapping_add(sender + 1));
            let run = &run;
            scope.spawn(move || Sender::new(sender, random, run).run());
        }
        chaos.reign(time);
    });
    let (letters, past) = chaos.end();
    reconcile::everything(&run, letters, past);
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// A scope waits for all of its threads, also when it fails; there is nobody left then to take their calls.
struct StopsSenders<'a>(&'a Run);

impl Drop for StopsSenders<'_> {
    fn drop(&mut self) {
        self.0.has_failed.store(std::thread::panicking(), Ordering::Relaxed);
        self.0.over.store(true, Ordering::Relaxed);
    }
}
