//! The gates of a lane: for each order key its oldest open delivery, and those that queue behind it.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Ready,
    InFlight,
    Retry,
}

/// The oldest open delivery of an order key, and those behind it.
pub struct Gate {
    pub head: u64,
    pub first_attempt_at_ms: i64,
    pub due_at_ms: i64,
    pub attempts: u32,
    pub phase: Phase,
    pub has_row: bool,
    pub behind: VecDeque<u64>,
}

impl Gate {
    pub fn of(head: u64) -> Self {
        Self {
            head,
            first_attempt_at_ms: 0,
            due_at_ms: 0,
            attempts: 0,
            phase: Phase::Ready,
            has_row: false,
            behind: VecDeque::new(),
        }
    }
}

/// Order keys are keyed hashes already; they only need spreading.
#[derive(Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

/// By order key.
pub type Gates = HashMap<u64, Gate, BuildHasherDefault<Spread>>;

/// How many queue behind the head of an order key.
pub fn behind(gates: &Gates, order_key: u64) -> usize {
    gates.get(&order_key).map_or(0, |gate| gate.behind.len())
}
