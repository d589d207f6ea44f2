//! The choice over the real queue: what of a call was set again, as outcomes change and segments go.

use std::time::{Duration, Instant};

use fanout_sdk::names::Names;
use fanout_sdk::reserved::Reserved;

use super::*;
use crate::queue::local::{LocalQueue, Options};
use crate::queue::{Dead, Entry, Queue, Settled, journal};

const LANE: &str = "one";
const ALL: Range = Range { since_ms: 0, until_ms: i64::MAX };

struct Bench {
    queue: Arc<LocalQueue<Arc<Event>>>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal::Options {
            segment_bytes: 4096,
            retain: Duration::ZERO,
            ..journal::Options::new(folder.path().join("data"))
        };
        let options = Options::new(journal, vec![LANE.to_owned()]);
        let decode = |head: &crate::queue::record::Head, body: &[u8]| {
            let text = std::str::from_utf8(body).ok()?;
            Event::parse(text.into(), head.received_at_ms, &Names::default()).ok().map(Arc::new)
        };
        let (queue, _) = LocalQueue::open(options, Arc::new(decode), Arc::new(|| 1_000_000_000)).unwrap();
        Bench { queue: Arc::new(queue), _folder: folder }
    }

    /// Appends a call, which ends so: its id.
    async fn call(&self, user: u64, at_ms: i64, traits: &str, how: Settled) -> Id {
        let ids = (user, at_ms);
        let text =
            format!(r#"{{"type":"identify","userId":"{user}","messageId":"{ids:?}","traits":{traits}}}"#);
        let payload = Arc::new(Event::parse(text.as_str().into(), at_ms, &Names::default()).unwrap());
        let entry = Entry {
            source: 0,
            received_at_ms: at_ms,
            kind: 0,
            order_key: user,
            message_key: at_ms as u64,
            body: text.as_bytes().into(),
            payload,
        };
        self.queue.append(vec![entry]).await.unwrap();
        let claimed = self.queue.claim(LANE, 1).await.remove(0);
        self.queue.settle(LANE, vec![(claimed.id, how)]);
        claimed.id
    }

    fn choice(&self, range: Range) -> Choice {
        let target = Target::new(LANE, "One", &[], false, None);
        Choice::new(self.queue.clone(), target, LANE, range, None, false)
    }
}

fn delivered() -> Settled {
    Settled::Done(Code::Delivered)
}

fn rejected() -> Settled {
    Settled::Dead(Dead { code: "rejected".into(), ..Dead::default() })
}

fn of_n(choice: &Choice, user: u64, id: Id, n: &str) -> Again {
    choice.again(user, id, Trait::Custom(None, "n"), Value::Json(n))
}

#[tokio::test]
async fn what_counts_was_delivered_later_to_the_same_user() {
    let bench = Bench::new();
    let first = bench.call(1, 1, r#"{"n":1,"email":"a@b.co"}"#, delivered()).await;
    let second = bench.call(1, 2, r#"{"n":2,"Email":"a@b.co"}"#, delivered()).await;
    bench.call(1, 3, r#"{"n":3}"#, rejected()).await;
    bench.call(1, 4, r#"{"n":3}"#, Settled::Done(Code::Skipped("integrations".into()))).await;
    bench.call(2, 5, r#"{"n":4}"#, delivered()).await;
    let choice = bench.choice(ALL);
    choice.look().unwrap();
    assert_eq!([of_n(&choice, 1, first, "1"), of_n(&choice, 1, first, "2")], [Again::Other, Again::Same]);
    assert_eq!(of_n(&choice, 1, second, "2"), Again::No);
    let email = Value::Field(fanout_sdk::event::Field::Text("a@b.co"));
    assert_eq!(choice.again(1, first, Trait::Reserved(Reserved::Email), email), Again::Same);

    bench.call(1, 6, r#"{"n":2}"#, Settled::Done(Code::Suppressed)).await;
    choice.look().unwrap();
    assert_eq!([of_n(&choice, 1, second, "2"), of_n(&choice, 1, second, "1")], [Again::Same, Again::Other]);
}

#[tokio::test]
async fn users_of_whom_nothing_is_replayed_take_no_room() {
    let bench = Bench::new();
    bench.call(1, 100, r#"{"n":1}"#, delivered()).await;
    for at_ms in 200..220 {
        bench.call(1 + at_ms as u64 % 2, at_ms, r#"{"n":2}"#, delivered()).await;
    }
    let choice = bench.choice(Range { since_ms: 100, until_ms: 101 });
    choice.look().unwrap();
    let known = choice.later.as_ref().unwrap().known();
    assert_eq!((known.keys.as_ref().unwrap().len(), known.set.len()), (1, 1));
}

#[tokio::test]
async fn what_is_redriven_counts_once_everything_is_looked_at_again() {
    let bench = Bench::new();
    let first = bench.call(1, 1, r#"{"n":1}"#, delivered()).await;
    let dead = bench.call(1, 2, r#"{"n":2}"#, rejected()).await;
    let choice = bench.choice(ALL);
    choice.look().unwrap();
    assert_eq!(of_n(&choice, 1, first, "1"), Again::No);
    assert_eq!(bench.queue.redrive(LANE, &[dead], true), 1);
    choice.look_again();
    choice.look().unwrap();
    assert_eq!(of_n(&choice, 1, first, "1"), Again::Other, "it is to be delivered");
    choice.look_again();
    assert_eq!(of_n(&choice, 1, first, "1"), Again::Other, "until then, what was known counts");
}

#[tokio::test]
async fn a_call_whose_segment_has_gone_is_compared_all_the_same() {
    let bench = Bench::new();
    let first = bench.call(1, 1, r#"{"n":1}"#, rejected()).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut at_ms = 1;
    while bench.queue.kept_from_ms().unwrap().is_none() {
        assert!(Instant::now() < deadline, "its segment stays");
        at_ms += 1;
        bench.call(2, at_ms, r#"{"n":2}"#, delivered()).await;
    }
    bench.call(1, at_ms + 1, r#"{"n":2}"#, delivered()).await;
    let letters = bench.queue.dead_letters(LANE, None, 9);
    assert!(letters.iter().any(|letter| letter.id == first && letter.payload.is_some()));
    let choice = bench.choice(Range { since_ms: 1, until_ms: 2 });
    choice.look().unwrap();
    assert_eq!(of_n(&choice, 1, first, "1"), Again::Other);
}
