//! What happens during a run, drawn at random: to the vendors, to the process, to its disk and its configuration, and what
//! an operator asks of it. Always one thing at a time, so that the account says after what it was wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::letters::Letters;
use super::past::Past;
use super::run::Run;
use super::support::Process;
use super::support::books::Metrics;
use super::support::ledger::Received;
use super::vendors::{DESTINATIONS, MAX_BACKLOG, STEADY, Way, bad_moment, darkness, maintenance};

pub struct Chaos<'a> {
    run: &'a Run,
    random: fastrand::Rng,
    /// There is none between two lives.
    fanout: Option<Process>,
    is_dark: bool,
    letters: Letters,
    past: Past,
}

impl<'a> Chaos<'a> {
    pub fn begin(run: &'a Run, random: fastrand::Rng) -> Chaos<'a> {
        run.sandbox.script(&darkness());
        run.sandbox.script(&maintenance());
        let past = Past::begin();
        let fanout = Some(run.start(past.visits()));
        Chaos { run, random, fanout, is_dark: true, letters: Letters::default(), past }
    }

    pub fn reign(&mut self, time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time {
            let more = self.random.u64(5..80);
            self.wait_for_more_calls(more);
            if self.is_dark && begin.elapsed() > time / 3 {
                self.light();
            } else {
                self.something_happens();
            }
        }
    }

    /// The run's only clock: calls that reach the destination that is always well.
    fn wait_for_more_calls(&self, more: u64) {
        let steady = |vendors: &BTreeMap<String, Received>| vendors.get(STEADY.host).map_or(0, |v| v.ended);
        let goal = self.run.ledger.read(steady) + more as usize;
        let came = self.run.ledger.wait(PATIENCE, |vendors| steady(vendors) >= goal);
        assert!(came, "calls no longer reach the destination that is always well");
    }

    fn something_happens(&mut self) {
        match self.random.u8(..48) {
            0..27 => self.run.sandbox.script(&bad_moment(&mut self.random)),
            27 => self.restart("killed, and all vendors are well", |chaos, fanout| {
                fanout.kill();
                chaos.recover();
            }),
            28..33 => self.restart("killed", |_, fanout| fanout.kill()),
            33 => self.restart("stopped", |_, fanout| assert!(fanout.terminate())),
            34 => self.restart("killed while it stopped", |_, fanout| {
                fanout.ask_to_end();
                fanout.kill();
            }),
            35 => self.fill_the_disk(),
            36..39 => self.letters.something_happens(self.run, &mut self.random),
            39 => {
                self.letters.something_happens(self.run, &mut self.random);
                self.restart("killed over its dead letters", |_, fanout| fanout.kill());
            }
            40..46 => self.past.something_happens(self.run, &mut self.random),
            _ => self.change_the_configuration(|_| ()),
        }
    }

    /// Ends this life, and begins the next one when the data directory has accounted for every call.
    fn restart(&mut self, how: &str, end: impl FnOnce(&mut Self, Process)) {
        self.past.look(self.run);
        let fanout = self.fanout.take().unwrap();
        end(self, fanout);
        let (journalled, of_the_past) = self.run.account(how);
        assert_eq!(of_the_past, self.past.total(journalled), "of the destination that comes and goes");
        self.fanout = Some(self.run.start(self.past.visits()));
    }

    /// All vendors are well for a while, but for those that are down for long. To be called between two lives, so that
    /// nothing comes to those meanwhile.
    fn recover(&mut self) {
        self.run.sandbox.recover();
        self.run.sandbox.script(&maintenance());
        if self.is_dark {
            self.run.sandbox.script(&darkness());
        }
    }

    /// A destination comes or goes. No call is on its way meanwhile, so that each is known to be of one time or the other.
    fn change_the_configuration(&mut self, and: impl FnOnce(&mut Self)) {
        let run = self.run;
        let _calm = run.calm.write().unwrap();
        self.restart("stopped for another configuration", |chaos, fanout| {
            assert!(fanout.terminate());
            chaos.past.turn(run);
            and(chaos);
        });
        self.past.replay(run, &mut self.random);
    }

    /// Is stopped and started with the destination that comes and goes, whether it was there or not.
    fn restart_with_all(&mut self, and: impl FnOnce(&mut Self)) {
        if !self.past.visits() {
            return self.change_the_configuration(and);
        }
        self.restart("stopped", |chaos, fanout| {
            assert!(fanout.terminate());
            and(chaos);
        });
    }

    /// The vendor comes back that was dark from the beginning, and so does the destination that comes and goes, which gets
    /// what it missed.
    fn light(&mut self) {
        self.is_dark = false;
        self.restart_with_all(Self::recover);
        self.past.replay(self.run, &mut self.random);
    }

    /// Nothing can be accepted until there is room again, nor after a crash meanwhile.
    fn fill_the_disk(&mut self) {
        let Some(filler) = self.run.data.fill() else { return };
        let refused = self.run.refusals.wait_for_another();
        println!("the disk was full");
        if self.random.bool() {
            self.restart("killed with a full disk", |_, fanout| fanout.kill());
        }
        std::fs::remove_file(filler).unwrap();
        assert!(refused, "calls were accepted on a full disk");
    }

    /// All is well at last. The process is started once more, which tries at once what it would have tried again after a
    /// while; that it does so by itself is `tests/isolation.rs`'s.
    pub fn end(mut self) -> (Letters, Past) {
        let run = self.run;
        for one in DESTINATIONS.iter().filter(|one| one.way == Way::Sheds) {
            run.wait_until(&format!("{} keeps more than it may", one.name), || {
                Metrics::of(&run.admin).pending(one.name).is_some_and(|pending| pending <= MAX_BACKLOG)
            });
        }
        self.restart_with_all(|_| run.sandbox.recover());
        let begin = Instant::now();
        run.nothing_is_pending();
        self.past.wait_for_all(run);
        println!("everything was delivered {:?} after all was well", begin.elapsed());
        assert!(self.fanout.take().unwrap().terminate());
        (self.letters, self.past)
    }
}
