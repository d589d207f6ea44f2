//! What a destination would send, without sending it: runs a `send` against prepared answers and keeps the requests.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context as Poller, Waker};

use async_trait::async_trait;

use crate::destination::{Answer, Clock, Context, Destination, Item, NoAnswer, Purpose, Request, Transport};
use crate::memory::Memory;

/// More requests than this are not shown: an adapter that asks on and on would never end.
const MOST_REQUESTS: usize = 1_000;
const MOST_REMEMBERED: usize = 1_000;

/// The requests that a `send` of these items would make if the vendor gave these answers in their order, and successes
/// of which nothing is known after them. Unless `show_secrets`, whatever depends on a secret is `***`.
pub fn preview(
    destination: &dyn Destination,
    items: &[Item],
    answers: Vec<Result<Answer, NoAnswer>>,
    clock: &dyn Clock,
    show_secrets: bool,
) -> Vec<Request> {
    let pretended = Pretended { answers: Mutex::new(answers.into()), requests: Mutex::default() };
    let memory = Memory::new(MOST_REMEMBERED);
    let context = Context {
        transport: &pretended,
        clock,
        memory: &memory,
        destination: "preview",
        purpose: Purpose::Show { secrets: show_secrets },
    };
    {
        // Nothing in it waits: the answers are there, and nobody else takes a turn.
        let mut sending = pin!(destination.send(&context, items));
        let _ = sending.as_mut().poll(&mut Poller::from_waker(Waker::noop()));
    }
    let mut requests = pretended.requests.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !show_secrets {
        for request in &mut requests {
            request.url = destination.mask(&request.url);
            request.headers.iter_mut().for_each(|(_, value)| *value = destination.mask(value));
        }
    }
    requests
}

/// Gives prepared answers and remembers what was asked.
struct Pretended {
    answers: Mutex<VecDeque<Result<Answer, NoAnswer>>>,
    requests: Mutex<Vec<Request>>,
}

#[async_trait]
impl Transport for Pretended {
    async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= MOST_REQUESTS {
            return Err(NoAnswer::Connection("too many requests to show".to_owned()));
        }
        requests.push(request.clone());
        let next = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        next.unwrap_or_else(|| Ok(Answer::default()))
    }
}
