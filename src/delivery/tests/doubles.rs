//! A queue in memory, a vendor that plays a script, and a clock that follows the runtime's paused time.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fanout_sdk::destination::{
    Answer, Clock, Context, Destination, Item, Limits, NoAnswer, Outcome, Part, Request, Skip, Transport,
    Verdict,
};
use fanout_sdk::event::{Event, Warning};
use fanout_sdk::json::Json;
use fanout_sdk::names::Names;
use siphasher::sip::SipHasher13;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::delivery::{Label, LaneSpec, Lanes, Observer, Policy, Services, Status};
use crate::queue::{AppendError, Appended, Claimed, Code, Entry, Id, LaneCounts, LaneLimits, Queue, Settled};
use crate::routing::Target;

pub const START_MS: i64 = 1_000_000;

pub struct TestClock(pub Instant);

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        START_MS + self.0.elapsed().as_millis() as i64
    }

    fn nonce(&self) -> String {
        "0".repeat(32)
    }
}

struct Delivery {
    source: u16,
    order_key: u64,
    attempt: u32,
    first_ms: Option<i64>,
    not_before_ms: i64,
    claimed: bool,
    end: Option<Settled>,
    payload: Arc<Event>,
}

/// One lane's worth of a queue; keeps the order of each order key as the real one does.
pub struct FakeQueue {
    clock: Arc<TestClock>,
    deliveries: Mutex<Vec<Delivery>>,
    changed: Notify,
    closed: AtomicBool,
    pub claims: AtomicUsize,
    pub settled: Mutex<Vec<Settled>>,
    pub values: Mutex<HashMap<String, Vec<u8>>>,
    pub is_read_only: AtomicBool,
    pub limits: Mutex<LaneLimits>,
    /// Whose the deliveries are.
    pub lane: Mutex<&'static str>,
    /// Any other lane has nothing to do until it is told that it is over.
    pub other_ends: Notify,
}

impl FakeQueue {
    pub fn add(&self, user: &str) {
        let text = format!(r#"{{"type":"identify","userId":"{user}","messageId":"m","traits":{{"a":1}}}}"#);
        self.add_call(user.len() as u64 * 31 + user.bytes().map(u64::from).sum::<u64>(), &text);
    }

    pub fn add_call(&self, order_key: u64, text: &str) {
        self.add_from(7, order_key, text);
    }

    pub fn add_from(&self, source: u16, order_key: u64, text: &str) {
        let payload = Arc::new(Event::parse(text.into(), START_MS, &Names::default()).unwrap());
        self.deliveries.lock().unwrap().push(Delivery {
            source,
            order_key,
            attempt: 1,
            first_ms: None,
            not_before_ms: 0,
            claimed: false,
            end: None,
            payload,
        });
        self.changed.notify_waiters();
    }

    fn try_claim(&self, max: usize) -> Vec<Claimed<Arc<Event>>> {
        let now_ms = self.clock.now_ms();
        let mut busy = HashSet::new();
        let mut claimed = Vec::new();
        for (number, delivery) in self.deliveries.lock().unwrap().iter_mut().enumerate() {
            if delivery.end.is_some() {
                continue;
            }
            let head = busy.insert(delivery.order_key);
            if claimed.len() == max || !head || delivery.claimed || delivery.not_before_ms > now_ms {
                continue;
            }
            delivery.claimed = true;
            claimed.push(Claimed {
                id: Id(number as u64),
                source: delivery.source,
                order_key: delivery.order_key,
                attempt: delivery.attempt,
                first_attempt_at_ms: *delivery.first_ms.get_or_insert(now_ms),
                payload: delivery.payload.clone(),
                later: Vec::new(),
                whole: false,
            });
        }
        claimed
    }

    fn next_retry_ms(&self) -> Option<i64> {
        let deliveries = self.deliveries.lock().unwrap();
        let waiting = deliveries.iter().filter(|delivery| delivery.end.is_none() && !delivery.claimed);
        let now_ms = self.clock.now_ms();
        waiting.map(|delivery| delivery.not_before_ms).filter(|at_ms| *at_ms > now_ms).min()
    }

    pub fn claimed(&self) -> usize {
        self.deliveries
            .lock()
            .unwrap()
            .iter()
            .filter(|delivery| delivery.claimed && delivery.end.is_none())
            .count()
    }

    pub fn unfinished(&self) -> usize {
        self.deliveries.lock().unwrap().iter().filter(|delivery| delivery.end.is_none()).count()
    }

    /// How each delivery ended and in which attempt.
    pub fn ends(&self) -> Vec<(String, u32)> {
        let deliveries = self.deliveries.lock().unwrap();
        let end = |delivery: &Delivery| match &delivery.end {
            Some(Settled::Done(Code::Skipped(reason))) => format!("skipped {reason}"),
            Some(Settled::Done(code)) => format!("{code:?}"),
            Some(Settled::Dead(dead)) => format!("dead {}", dead.code),
            _ => "unfinished".to_owned(),
        };
        deliveries.iter().map(|delivery| (end(delivery), delivery.attempt)).collect()
    }

    /// Waits until everything has ended.
    pub async fn drained(&self) {
        while self.unfinished() > 0 {
            self.changed.notified().await;
        }
    }
}

#[async_trait]
impl Queue<Arc<Event>> for FakeQueue {
    async fn append(&self, _: Vec<Entry<Arc<Event>>>) -> Result<Vec<Appended>, AppendError> {
        Err(AppendError::Closed)
    }

    fn source_id(&self, _: &str) -> u16 {
        7
    }

    fn source_name(&self, id: u16) -> Option<String> {
        (id == 7).then(|| "web".to_owned())
    }

    fn hash(&self, parts: &[&str]) -> u64 {
        let mut hasher = SipHasher13::new();
        parts.hash(&mut hasher);
        hasher.finish()
    }

    async fn claim(&self, lane: &str, max: usize) -> Vec<Claimed<Arc<Event>>> {
        assert!(max > 0, "a lane without room must not claim");
        if lane != *self.lane.lock().unwrap() {
            self.other_ends.notified().await;
            return Vec::new();
        }
        self.claims.fetch_add(1, Ordering::SeqCst);
        loop {
            if self.closed.load(Ordering::SeqCst) {
                return Vec::new();
            }
            let claimed = self.try_claim(max);
            if !claimed.is_empty() {
                return claimed;
            }
            match self.next_retry_ms() {
                None => self.changed.notified().await,
                Some(at_ms) => {
                    let wait = Duration::from_millis((at_ms - self.clock.now_ms()).max(0) as u64);
                    let _ = tokio::time::timeout(wait, self.changed.notified()).await;
                }
            }
        }
    }

    fn settle(&self, _: &str, settled: Vec<(Id, Settled)>) {
        let mut deliveries = self.deliveries.lock().unwrap();
        for (id, how) in settled {
            self.settled.lock().unwrap().push(how.clone());
            let delivery = &mut deliveries[id.0 as usize];
            assert!(delivery.claimed && delivery.end.is_none(), "settled twice: {id:?} {how:?}");
            delivery.claimed = false;
            match how {
                Settled::Later { at_ms, since_ms, .. } => {
                    delivery.not_before_ms = at_ms;
                    delivery.first_ms = Some(since_ms);
                    delivery.attempt += 1;
                }
                Settled::Wait { at_ms } => {
                    delivery.not_before_ms = at_ms;
                    delivery.first_ms = delivery.first_ms.filter(|_| delivery.attempt > 1);
                }
                Settled::Release if delivery.attempt == 1 => delivery.first_ms = None,
                Settled::Release => {}
                end => delivery.end = Some(end),
            }
        }
        drop(deliveries);
        self.changed.notify_waiters();
    }

    fn give_back(&self, _: &str) {
        for delivery in self.deliveries.lock().unwrap().iter_mut().filter(|delivery| delivery.end.is_none()) {
            delivery.claimed = false;
        }
    }

    fn set_limits(&self, _: &str, limits: LaneLimits) {
        *self.limits.lock().unwrap() = limits;
    }

    fn broken(&self) -> Option<String> {
        None
    }

    fn counts(&self, _: &str) -> Option<LaneCounts> {
        None
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.values.lock().unwrap().get(key).cloned()
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), AppendError> {
        if self.is_read_only.load(Ordering::SeqCst) {
            return Err(AppendError::Failed("read-only".into()));
        }
        self.values.lock().unwrap().insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }
}

/// What a vendor does with one request.
pub enum Play {
    /// The same outcome for all items, after so many milliseconds.
    All(u64, Outcome),
    /// One outcome for each item.
    Each(Vec<Outcome>),
    /// All items are taken, but not all of them.
    InPart,
    /// It answers 503 and asks to wait so many seconds.
    Unavailable(u64),
    /// Nothing, ever.
    Hang,
    /// The adapter breaks.
    Panic,
}

/// The number of the request counted from 1, when it came, and the users in it.
pub type Seen = (usize, u64, Vec<String>);
type Script = Box<dyn FnMut(&Seen) -> Play + Send>;

/// A vendor that plays a script and remembers what it saw.
pub struct Vendor {
    pub limits: Limits,
    pub seen: Mutex<Vec<Seen>>,
    pub most_at_once: Mutex<(usize, usize)>,
    start: Instant,
    script: Mutex<Script>,
}

impl Vendor {
    /// When each request came, in milliseconds, and who was in it.
    pub fn requests(&self) -> Vec<(u64, String)> {
        self.seen.lock().unwrap().iter().map(|(_, at, users)| (*at, users.join(" "))).collect()
    }

    /// When each request came, in milliseconds.
    pub fn times(&self) -> Vec<u64> {
        self.seen.lock().unwrap().iter().map(|(_, at, _)| *at).collect()
    }
}

struct AtWork<'a>(&'a Mutex<(usize, usize)>);

impl<'a> AtWork<'a> {
    fn begin(counter: &'a Mutex<(usize, usize)>) -> AtWork<'a> {
        let mut now = counter.lock().unwrap();
        now.0 += 1;
        now.1 = now.1.max(now.0);
        AtWork(counter)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

fn traits_digest(event: &Event) -> u64 {
    let mut hasher = SipHasher13::new();
    event.raw().get("traits").map(Json::raw).hash(&mut hasher);
    hasher.finish()
}

#[async_trait]
impl Destination for Vendor {
    fn render(&self, event: &Arc<Event>, options: Option<Json<'_>>) -> Result<Item, Skip> {
        let Some(user) = event.user_id() else {
            return Err(Skip { reason: "no_identity", detail: String::new() });
        };
        assert_ne!(user, "bomb");
        let bytes =
            vec![b'x'; options.and_then(|options| options.get("size")?.number()?.parse().ok()).unwrap_or(10)];
        Ok(Item {
            event: event.clone(),
            options: None,
            identity: user.split('#').next().unwrap().into(),
            group: 0,
            digest: traits_digest(event),
            parts: vec![Part { request: 0, group: 0, bytes: bytes.into() }],
            warnings: if user == "odd" {
                vec![Warning { kind: "test", about: String::new() }]
            } else {
                Vec::new()
            },
        })
    }

    fn pack(&self, waiting: &[Item]) -> Vec<usize> {
        let mut identities = HashSet::new();
        let chosen = waiting.iter().enumerate().filter(|(_, item)| identities.insert(item.identity.clone()));
        chosen.map(|(position, _)| position).take(self.limits.items).collect()
    }

    async fn send(&self, context: &Context<'_>, items: &[Item]) -> Vec<Verdict> {
        if context.purpose.is_show() {
            return Vec::new(); // Nobody is called for a request that is only shown.
        }
        let _at_work = AtWork::begin(&self.most_at_once);
        let users = items.iter().filter_map(|item| item.event.user_id()).map(str::to_owned).collect();
        let play = {
            let mut seen = self.seen.lock().unwrap();
            let request: Seen = (seen.len() + 1, self.start.elapsed().as_millis() as u64, users);
            seen.push(request.clone());
            (self.script.lock().unwrap())(&request)
        };
        let verdict = |outcome| {
            let is_whole = matches!(outcome, Outcome::Delivered | Outcome::Submitted);
            let reason = if is_whole { String::new() } else { "because".to_owned() };
            Verdict { outcome, reason, answer: "403 who: secret@person".into() }
        };
        match play {
            Play::Hang => std::future::pending().await,
            Play::Panic => panic!("as scripted"),
            Play::InPart => {
                let reason = "without the phone number".to_owned();
                let verdict = Verdict { outcome: Outcome::Delivered, reason, answer: "".into() };
                vec![verdict; items.len()]
            }
            Play::Unavailable(seconds) => {
                let outcome = Outcome::Retry { after: Some(Duration::from_secs(seconds)) };
                items
                    .iter()
                    .map(|_| Verdict { answer: "503 busy".into(), ..verdict(outcome.clone()) })
                    .collect()
            }
            Play::Each(outcomes) => outcomes.into_iter().map(verdict).collect(),
            Play::All(delay, outcome) => {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                items.iter().map(|_| verdict(outcome.clone())).collect()
            }
        }
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn mask(&self, text: &str) -> String {
        text.to_owned()
    }
}

struct NoTransport;

#[async_trait]
impl Transport for NoTransport {
    async fn send(&self, _: &Request) -> Result<Answer, NoAnswer> {
        Err(NoAnswer::Refused("there is none".into()))
    }
}

#[derive(Default)]
pub struct Counts {
    pub ended: Mutex<HashMap<(&'static str, &'static str), u64>>,
    pub attempts: Mutex<u64>,
    pub warned: Mutex<u64>,
    /// What closed and opened, in order.
    pub closed: Mutex<Vec<(&'static str, bool)>>,
    /// Breaks at this attempt, counted from 1.
    pub break_at: AtomicUsize,
}

impl Counts {
    pub fn of(&self, outcome: &'static str, reason: &'static str) -> u64 {
        self.ended.lock().unwrap().get(&(outcome, reason)).copied().unwrap_or_default()
    }
}

impl Observer for Counts {
    fn ended(&self, _: &str, label: Label, count: u64) {
        *self.ended.lock().unwrap().entry((label.outcome, label.reason)).or_default() += count;
    }

    fn attempted(&self, _: &str, _: Duration) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        *attempts += 1;
        assert_ne!(*attempts, self.break_at.load(Ordering::SeqCst) as u64, "as told");
    }

    fn closed(&self, _: &str, cause: &'static str, closed: bool) {
        self.closed.lock().unwrap().push((cause, closed));
    }

    fn warned(&self, _: &str, warnings: &[Warning]) {
        *self.warned.lock().unwrap() += warnings.len() as u64;
    }
}

/// One lane between a queue and a vendor.
pub struct Bench {
    pub start: Instant,
    pub queue: Arc<FakeQueue>,
    pub vendor: Arc<Vendor>,
    pub counts: Arc<Counts>,
    pub lanes: Lanes,
    pub spec: LaneSpec,
}

/// At most so many items and 100 bytes in a request, four requests at a time, a linger of 10 ms.
pub fn bench(items: usize, script: impl FnMut(&Seen) -> Play + Send + 'static) -> Bench {
    let linger = Duration::from_millis(10);
    bench_with(Limits { items, bytes: 100, linger, concurrency: Some(4), rates: Vec::new() }, script)
}

pub fn vendor(
    limits: Limits,
    start: Instant,
    script: impl FnMut(&Seen) -> Play + Send + 'static,
) -> Arc<Vendor> {
    Arc::new(Vendor {
        limits,
        seen: Mutex::default(),
        most_at_once: Mutex::default(),
        start,
        script: Mutex::new(Box::new(script)),
    })
}

pub fn spec(vendor: &Arc<Vendor>, source: Option<&str>) -> LaneSpec {
    LaneSpec {
        name: "vendor".into(),
        destination: vendor.clone(),
        transport: Arc::new(NoTransport),
        target: Target::new("vendor", "Vendor", &[], false, source.map(|source| vec![source.to_owned()])),
        every_call: false,
        policy: Policy::default(),
        paused: false,
        suppression: None,
    }
}

pub fn bench_with(limits: Limits, script: impl FnMut(&Seen) -> Play + Send + 'static) -> Bench {
    let start = Instant::now();
    let vendor = vendor(limits, start, script);
    let clock = Arc::new(TestClock(start));
    let queue = Arc::new(FakeQueue {
        clock: clock.clone(),
        deliveries: Mutex::default(),
        changed: Notify::new(),
        closed: AtomicBool::new(false),
        claims: AtomicUsize::new(0),
        settled: Mutex::default(),
        values: Mutex::default(),
        is_read_only: AtomicBool::new(false),
        limits: Mutex::default(),
        lane: Mutex::new("vendor"),
        other_ends: Notify::new(),
    });
    let counts = Arc::<Counts>::default();
    let services = Services { queue: queue.clone(), clock, observer: counts.clone(), random: || 0.5 };
    let spec = spec(&vendor, Some("web"));
    Bench { start, queue, vendor, counts, lanes: Lanes::new(services), spec }
}

impl Bench {
    /// Starts the lane.
    pub async fn go(&mut self) {
        self.lanes.start(self.spec.clone(), self.start).await;
    }

    /// Lets time pass until so many milliseconds after the start.
    pub async fn until(&self, millis: u64) {
        tokio::time::sleep_until(self.start + Duration::from_millis(millis)).await;
    }

    pub fn add(&self, users: &[&str]) {
        users.iter().for_each(|user| self.queue.add(user));
    }

    /// Adds an event of a user who has no other.
    pub fn add_numbered(&self, user: u64) {
        let text = format!(r#"{{"type":"identify","userId":"user {user}","messageId":"m"}}"#);
        self.queue.add_call(1_000_000 + user, &text);
    }

    pub fn status(&self) -> Status {
        self.lanes.status()[0].1.clone()
    }
}
