//! The scripted transport and the fixed clock.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::destination::{Answer, Clock, NoAnswer, Request, Transport};

/// A transport that gives prepared answers in their order and remembers the requests. When the answers have run out, it
/// gives none.
#[derive(Default)]
pub struct Script {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Result<Answer, NoAnswer>>,
    requests: Vec<Request>,
}

impl Script {
    /// A transport with these answers.
    pub fn new(answers: impl IntoIterator<Item = Result<Answer, NoAnswer>>) -> Script {
        Script { state: Mutex::new(State { answers: answers.into_iter().collect(), requests: Vec::new() }) }
    }

    /// The requests that were sent, in their order.
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).requests.clone()
    }
}

#[async_trait]
impl Transport for Script {
    async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests.push(request.clone());
        state
            .answers
            .pop_front()
            .unwrap_or_else(|| Err(NoAnswer::Connection("no exchange is left".to_owned())))
    }
}

/// A clock that stands still and a nonce that is always the same.
pub struct FixedClock {
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// 32 hexadecimal digits.
    pub nonce: String,
}

impl Clock for FixedClock {
    fn now_ms(&self) -> i64 {
        self.now_ms
    }

    fn nonce(&self) -> String {
        self.nonce.clone()
    }
}
