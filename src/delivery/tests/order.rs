//! The lane and the real queue together against what must be true, through random answers, batches that are taken in
//! parts, redrives, stops and crashes: each user's events reach the vendor in their order, none is lost, and each has one
//! final state, which is the vendor's.

mod vendor;

use std::collections::BTreeMap;

use fanout_sdk::event::Event;
use fanout_sdk::names::Names;

use super::doubles::{Counts, START_MS, TestClock};
use super::*;
use crate::queue::local::{LocalQueue, Options};
use crate::queue::{Code, Entry, LaneCounts, journal};
use crate::routing::Target;
use vendor::{Fate, Record, Redrive, Vendor, adapter, identity};

/// What ends a run, this many milliseconds after it began.
#[derive(Clone, Copy, Debug)]
enum End {
    Stop(u64),
    Crash(u64),
}

/// Redriving dead letters, this many milliseconds after the one before.
#[derive(Clone, Copy, Debug)]
struct Wish {
    wait_ms: u64,
    /// By the bits of its number's remainder: which ones.
    which: u8,
    whole: bool,
}

/// What happens.
#[derive(Clone, Debug)]
struct Course {
    /// Whose each event is.
    users: Vec<u8>,
    /// What the vendor answers.
    drawn: Vec<u8>,
    /// How many items a request may hold.
    items: usize,
    ends: Vec<End>,
    wishes: Vec<Wish>,
    max_backlog: Option<u64>,
}

fn entry(user: u8, number: usize, names: &Names) -> Entry<Arc<Event>> {
    let text = format!(
        r#"{{"type":"identify","userId":"{}","messageId":"m{number}","traits":{{"n":{number}}}}}"#,
        identity(user)
    );
    Entry {
        source: 0,
        received_at_ms: START_MS,
        kind: 0,
        order_key: u64::from(user),
        message_key: number as u64,
        body: text.as_bytes().into(),
        payload: Arc::new(Event::parse(text.as_str().into(), START_MS, names).unwrap()),
    }
}

/// What there is besides the queue and the lane of one run.
struct Rig {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    names: Arc<Names>,
    destination: Arc<dyn Destination>,
    vendor: Arc<Vendor>,
    max_backlog: Option<u64>,
}

impl Rig {
    fn new(course: &Course) -> Rig {
        let (destination, names) = adapter(course.items);
        Rig {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(TestClock(Instant::now())),
            names: Arc::new(names),
            destination,
            vendor: Arc::new(Vendor::new(course.users.clone(), course.drawn.clone())),
            max_backlog: course.max_backlog,
        }
    }

    fn open(&self) -> LocalQueue<Arc<Event>> {
        let mut options = Options::new(journal::Options::new(self.dir.path()), vec!["vendor".to_owned()]);
        // Small, so that events are parked, left in the journal and read again.
        (options.tail_bytes, options.behind_bytes) = (2000, 2000);
        let names = self.names.clone();
        let decode = move |_: &crate::queue::record::Head, body: &[u8]| {
            let text = std::str::from_utf8(body).ok()?;
            Event::parse(text.into(), START_MS, &names).ok().map(Arc::new)
        };
        let clock = self.clock.clone();
        LocalQueue::open(options, Arc::new(decode), Arc::new(move || clock.now_ms())).unwrap().0
    }

    async fn start_lane(&self, queue: &Arc<LocalQueue<Arc<Event>>>) -> Lanes {
        let lanes = Lanes::new(Services {
            queue: queue.clone(),
            clock: self.clock.clone(),
            observer: Arc::<Counts>::default(),
            random: || 0.5,
        });
        let linger = Some(Duration::from_millis(10));
        let spec = LaneSpec {
            name: "vendor".into(),
            destination: self.destination.clone(),
            transport: self.vendor.clone(),
            target: Target::new("vendor", "Vendor", &[], false, None),
            every_call: false,
            policy: Policy { max_backlog: self.max_backlog, linger, ..Policy::default() },
            paused: false,
            suppression: None,
        };
        lanes.start(spec, self.clock.0).await;
        lanes
    }

    /// Opens some of the dead letters again.
    fn redrive(&self, queue: &LocalQueue<Arc<Event>>, wish: Wish) {
        let number = |payload: &Arc<Event>| payload.message_id()[1..].parse::<usize>().unwrap();
        let letters = queue.dead_letters("vendor", None, 1000).into_iter();
        let letters = letters.map(|letter| (letter.id, number(&letter.payload.unwrap())));
        let chosen: Vec<_> = letters.filter(|(_, number)| wish.which >> (number % 8) & 1 == 1).collect();
        let ids: Vec<_> = chosen.iter().map(|(id, _)| *id).collect();
        assert_eq!(queue.redrive("vendor", &ids, wish.whole), ids.len());
        // Nothing else ran meanwhile: there is one thread.
        let mut record = self.vendor.record();
        let (from, delivered) = (record.arrivals.len(), record.delivered(&self.vendor.users));
        let numbers = chosen.into_iter().map(|(_, number)| number).collect();
        record.redrives.push(Redrive { from, numbers, whole: wish.whole, delivered });
    }

    /// Lets the lane work until the end that is given, or until nothing is left to do, redriving meanwhile. What the
    /// queue counts then.
    async fn run(&self, queue: LocalQueue<Arc<Event>>, end: Option<End>, wishes: &mut Wishes) -> LaneCounts {
        let queue = Arc::new(queue);
        let lanes = self.start_lane(&queue).await;
        let wait = match end {
            Some(End::Stop(ms) | End::Crash(ms)) => Duration::from_millis(ms),
            None => Duration::from_secs(48 * 3600),
        };
        let began = Instant::now();
        let is_busy = || queue.counts("vendor").unwrap().unfinished > 0;
        while began.elapsed() < wait && (end.is_some() || is_busy() || !wishes.is_empty()) {
            if let Some(wish) = wishes.next_due() {
                self.redrive(&queue, wish);
            }
            tokio::time::sleep(Duration::from_millis(250).min(wait)).await;
        }
        lanes.shutdown(Instant::now()).await;
        if !matches!(end, Some(End::Crash(_))) {
            queue.close().await;
        }
        queue.counts("vendor").unwrap()
    }
}

/// What is still to be redriven, and since when the next one waits.
struct Wishes(std::collections::VecDeque<Wish>, Instant);

impl Wishes {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn next_due(&mut self) -> Option<Wish> {
        let waited = self.1.elapsed();
        let wish = self.0.pop_front_if(|wish| waited >= Duration::from_millis(wish.wait_ms))?;
        self.1 = Instant::now();
        Some(wish)
    }
}

async fn run(course: Course) {
    let rig = Rig::new(&course);
    let Course { users, ends, wishes, max_backlog, .. } = course;
    let (mut ends, mut wishes) = (ends.into_iter(), Wishes(wishes.into(), rig.clock.0));
    let mut crashed = Vec::new();
    let numbered = users.iter().enumerate();
    let mut new: Vec<_> = numbered.map(|(number, user)| entry(*user, number, &rig.names)).collect();
    loop {
        let queue = rig.open();
        // All but a third before the first run, some before each further one.
        let rest = new.split_off((new.len() * 2).div_ceil(3));
        queue.append(std::mem::replace(&mut new, rest)).await.unwrap();
        let end = if new.is_empty() { ends.next() } else { Some(ends.next().unwrap_or(End::Stop(5000))) };
        let counts = rig.run(queue, end, &mut wishes).await;
        let mut record = rig.vendor.record();
        // What is not in flight may be given up for a long backlog at any time.
        record.check(&users, max_backlog.is_none());
        match end {
            Some(End::Crash(_)) => crashed.push(record.run),
            Some(End::Stop(_)) => {}
            None => {
                assert_eq!(counts.unfinished, 0, "{counts:?}");
                return check_ends(&record, &users, &crashed, max_backlog.is_some(), counts.finished);
            }
        }
        record.run += 1;
    }
}

/// Each event ended once, and as the vendor says.
fn check_ends(record: &Record, users: &[u8], crashed: &[usize], may_shed: bool, counts: Vec<(Code, u64)>) {
    let (last, settled) = (record.last(), record.settled(users));
    let counts: BTreeMap<Code, u64> = counts.into_iter().collect();
    let count = |code: Code| counts.get(&code).copied().unwrap_or_default();
    let (mut taken, mut refused, mut superseded, mut shed, mut unsure) = (0, 0, 0, 0, 0);
    for number in 0..users.len() {
        let series = record.redrives.iter().rposition(|redrive| redrive.numbers.contains(&number));
        let came = last.get(&number).filter(|(at, came)| {
            came.fate != Fate::Open && record.series(*at, number) == series.map_or(0, |series| series + 1)
        });
        match (came, series.map(|series| &record.redrives[series])) {
            (Some((at, came)), _) => {
                *if came.fate == Fate::Taken { &mut taken } else { &mut refused } += 1;
                // Not written down, and given up before it came again.
                let is_lost = came.run < record.run && !settled.contains(at);
                unsure += u64::from(is_lost || crashed.contains(&came.run));
            }
            (None, Some(redrive)) if !redrive.whole => {
                superseded += 1;
                let is_later = |later: usize| later > number && users[later] == users[number];
                let mut others = last.iter().filter(|(later, _)| is_later(**later));
                assert!(
                    others.any(|(_, (_, came))| came.fate == Fate::Taken),
                    "{number} was left out: {record:#?}"
                );
            }
            (None, _) => shed += 1,
        }
    }
    let unsure = if may_shed { unsure } else { 0 };
    assert!(may_shed || shed == 0, "{shed} never ended at the vendor: {record:#?}");
    let backlog = count(Code::Dead("backlog".into()));
    assert!((shed..=shed + unsure).contains(&backlog), "{shed} and {unsure} at most: {counts:?}");
    let ended = count(Code::Delivered) + count(Code::Dead("rejected".into()));
    assert_eq!(count(Code::Skipped("superseded".into())), superseded, "{counts:?}, {record:#?}");
    assert_eq!(ended + superseded + backlog, users.len() as u64, "{counts:?}");
    if unsure == 0 {
        assert_eq!(count(Code::Delivered), taken, "{counts:?}, {record:#?}");
        assert_eq!(count(Code::Dead("rejected".into())), refused, "{counts:?}");
    }
}

fn end() -> impl Strategy<Value = End> {
    (0..20_000u64, any::<bool>()).prop_map(|(ms, crash)| if crash { End::Crash(ms) } else { End::Stop(ms) })
}

fn wish() -> impl Strategy<Value = Wish> {
    (0..10_000u64, any::<u8>(), any::<bool>()).prop_map(|(wait_ms, which, whole)| Wish {
        wait_ms,
        which,
        whole,
    })
}

prop_compose! {
    fn course()(
        users in prop::collection::vec(0..6u8, 1..120),
        drawn in prop::collection::vec(any::<u8>(), 0..250),
        items in 1..8usize,
        ends in prop::collection::vec(end(), 0..4),
        wishes in prop::collection::vec(wish(), 0..4),
        max_backlog in prop::option::weighted(0.3, 5..60u64),
    ) -> Course {
        Course { users, drawn, items, ends, wishes, max_backlog }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn order_is_kept_nothing_is_lost_and_each_event_ends_once(course in course()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(course));
    }
}
