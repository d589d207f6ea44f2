//! The items that wait to be sent: when a request is due, and taking a request's items out. Pure.
//! Which items may share a request is the destination's choice, not made here.

use std::time::{Duration, Instant};

use fanout_sdk::destination::{Item, Limits};

use super::outcome::Ticket;

/// Items that wait, oldest first, each with its ticket.
#[derive(Debug, Default)]
pub struct Waiting {
    items: Vec<Item>,
    tickets: Vec<(Ticket, Instant)>,
    bytes: usize,
}

/// When the next request is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing waits.
    Never,
    /// Its oldest item has lingered enough, or a batch is full.
    Now,
    /// Unless more comes.
    At(Instant),
}

impl Waiting {
    /// Adds an item that came at `now`.
    pub fn push(&mut self, item: Item, ticket: Ticket, now: Instant) {
        self.bytes = self.bytes.saturating_add(size(&item));
        self.items.push(item);
        self.tickets.push((ticket, now));
    }

    /// What waits.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many more may come: two batches may wait, one being filled behind one that is ready.
    pub fn room(&self, capacity: usize, limits: &Limits) -> usize {
        if self.bytes >= limits.bytes.saturating_mul(2) && !self.is_empty() {
            return 0;
        }
        capacity.saturating_sub(self.len())
    }

    /// When the next request is due: at once when as much waits as one request may hold, even if not all of it may
    /// share one, else when the oldest item has waited for `linger`.
    pub fn due(&self, now: Instant, limits: &Limits, linger: Duration) -> Due {
        let Some((_, oldest)) = self.tickets.first() else { return Due::Never };
        let end = *oldest + linger;
        if self.len() >= limits.items || self.bytes >= limits.bytes || end <= now {
            return Due::Now;
        }
        Due::At(end)
    }

    /// Takes out the items at these positions, in the order in which they came. Positions that do not exist are
    /// ignored, and the first item always goes, so that whatever an adapter chooses, the lane moves on.
    pub fn take(&mut self, mut positions: Vec<usize>) -> (Vec<Item>, Vec<Ticket>) {
        positions.push(0);
        self.take_exactly(positions)
    }

    /// Takes out one item by itself: the first that `preferred` accepts, else the first.
    pub fn take_one(&mut self, preferred: impl Fn(&Ticket) -> bool) -> (Vec<Item>, Vec<Ticket>) {
        let position = self.tickets.iter().position(|(ticket, _)| preferred(ticket)).unwrap_or(0);
        self.take_exactly(vec![position])
    }

    fn take_exactly(&mut self, mut positions: Vec<usize>) -> (Vec<Item>, Vec<Ticket>) {
        positions.sort_unstable();
        positions.dedup();
        let (mut items, mut tickets) =
            (Vec::with_capacity(positions.len()), Vec::with_capacity(positions.len()));
        let mut next = positions.into_iter().peekable();
        let all = std::mem::take(&mut self.items).into_iter().zip(std::mem::take(&mut self.tickets));
        for (position, (item, ticket)) in all.enumerate() {
            if next.next_if_eq(&position).is_some() {
                self.bytes = self.bytes.saturating_sub(size(&item));
                items.push(item);
                tickets.push(ticket.0);
            } else {
                self.items.push(item);
                self.tickets.push(ticket);
            }
        }
        (items, tickets)
    }

    /// Takes out everything, for what is to be released.
    pub fn clear(&mut self) -> Vec<Ticket> {
        self.bytes = 0;
        self.items.clear();
        std::mem::take(&mut self.tickets).into_iter().map(|(ticket, _)| ticket).collect()
    }
}

fn size(item: &Item) -> usize {
    item.parts.iter().map(|part| part.bytes.len()).sum()
}
