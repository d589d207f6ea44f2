//! What a delivery costs in the queue, in memory: the pure lane, and claim and settle of the local queue over four
//! lanes that keep up. The journal's cost is in neither figure.
//!
//! `cargo bench --bench lanes`

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use fanout::queue::codes::DELIVERED;
use fanout::queue::journal;
use fanout::queue::lane::{Lane, Limits};
use fanout::queue::local::{LocalQueue, Options};
use fanout::queue::window::Shape;
use fanout::queue::{Code, Entry, Payload, Queue, Settled};

/// The payload of each event.
#[derive(Clone)]
struct Text(#[allow(dead_code, reason = "it is what is carried")] Arc<str>);

impl Payload for Text {
    fn held_bytes(&self) -> usize {
        0 // They share it.
    }
}

const EVENTS: u64 = 400_000;
const USERS: u64 = 50_000;
const LANES: [&str; 4] = ["a", "b", "c", "d"];
const BLOCK: usize = 1000;

fn key(n: u64) -> u64 {
    (n % USERS).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn main() {
    for _ in 0..3 {
        println!("pure lane: {:.0} ns per event", pure());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for _ in 0..3 {
        let per_event = runtime.block_on(local());
        println!("claim and settle: {per_event:.0} ns per event and lane");
    }
}

/// Taking in, claiming and ending events in blocks, with a checkpoint every 20,000.
fn pure() -> f64 {
    let limits = Limits { shape: Shape::of_events(65_536), parked: 65_536, behind: Limits::BEHIND };
    let mut lane = Lane::new(limits, 0, 0);
    let mut claimed = Vec::with_capacity(BLOCK);
    let began = Instant::now();
    for block in 0..EVENTS / BLOCK as u64 {
        for n in block * BLOCK as u64..(block + 1) * BLOCK as u64 {
            assert!(lane.take_in(n, key(n), 0));
        }
        claimed.extend(std::iter::from_fn(|| lane.claim(0)));
        for claim in claimed.drain(..) {
            lane.done(claim.seq, DELIVERED);
        }
        if block % 20 == 0 {
            black_box(lane.checkpoint());
        }
    }
    assert_eq!(lane.unfinished(EVENTS), 0);
    began.elapsed().as_nanos() as f64 / EVENTS as f64
}

async fn local() -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(
        journal::Options::new(dir.path()),
        LANES.iter().map(|lane| (*lane).to_owned()).collect(),
    );
    options.tail_bytes = 1 << 30;
    let (queue, _) = LocalQueue::open(options, Arc::new(|_, _| None), Arc::new(|| 0)).unwrap();
    let payload = Text(Arc::from("an event"));
    let body: Arc<[u8]> = Arc::from([b'x'; 100]);
    for block in 0..EVENTS / BLOCK as u64 {
        let numbers = block * BLOCK as u64..(block + 1) * BLOCK as u64;
        let entries = numbers.map(|n| Entry {
            source: 0,
            received_at_ms: 0,
            kind: 0,
            order_key: key(n),
            message_key: n,
            body: Arc::clone(&body),
            payload: payload.clone(),
        });
        queue.append(entries.collect()).await.unwrap();
    }
    let began = Instant::now();
    for _ in 0..EVENTS / BLOCK as u64 {
        for lane in LANES {
            let claimed = queue.claim(lane, BLOCK).await;
            queue.settle(
                lane,
                claimed.into_iter().map(|claimed| (claimed.id, Settled::Done(Code::Delivered))).collect(),
            );
        }
    }
    let took = began.elapsed();
    for lane in LANES {
        assert_eq!(queue.counts(lane).unwrap().unfinished, 0);
    }
    queue.close().await;
    took.as_nanos() as f64 / (EVENTS * LANES.len() as u64) as f64
}
