//! What a lane gives back to the real queue comes again in its order.

use fanout_sdk::event::Event;
use fanout_sdk::names::Names;

use super::doubles::{Counts, START_MS, TestClock, spec, vendor};
use super::*;
use crate::queue::local::{LocalQueue, Options};
use crate::queue::{Entry, journal};

fn open(dir: &std::path::Path, clock: &Arc<TestClock>) -> LocalQueue<Arc<Event>> {
    let options = Options::new(journal::Options::new(dir), vec!["vendor".to_owned()]);
    let clock = clock.clone();
    LocalQueue::open(options, Arc::new(|_, _| None), Arc::new(move || clock.now_ms())).unwrap().0
}

fn entry(user: u8, number: usize) -> Entry<Arc<Event>> {
    let text = format!(r#"{{"type":"identify","userId":"{user}#{number}","messageId":"m{number}"}}"#);
    Entry {
        source: 0,
        received_at_ms: START_MS,
        kind: 0,
        order_key: u64::from(user),
        message_key: number as u64,
        body: text.as_bytes().into(),
        payload: Arc::new(Event::parse(text.as_str().into(), START_MS, &Names::default()).unwrap()),
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_throttled_request_held_goes_again_in_the_order_in_which_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let clock = Arc::new(TestClock(start));
    let limits =
        Limits { items: 3, bytes: 100, linger: Duration::ZERO, concurrency: Some(1), rates: Vec::new() };
    let vendor = vendor(limits, start, |(number, ..)| {
        Play::All(0, if *number == 1 { throttled(Some(2)) } else { Outcome::Delivered })
    });
    let queue = Arc::new(open(dir.path(), &clock));
    queue.append((0..3).map(|number| entry(number, number.into())).collect()).await.unwrap();
    let services =
        Services { queue: queue.clone(), clock, observer: Arc::<Counts>::default(), random: || 0.5 };
    let lanes = Lanes::new(services);
    lanes.start(spec(&vendor, None), start).await;
    while queue.counts("vendor").unwrap().unfinished > 0 {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    lanes.shutdown(start).await;
    assert_eq!(vendor.requests(), requests(&[(0, "0#0 1#1 2#2"), (2000, "0#0 1#1 2#2")]));
}
