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

    /// Of what waits, in its order.
    pub fn tickets(&self) -> impl Iterator<Item = &Ticket> {
        self.tickets.iter().map(|(ticket, _)| ticket)
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

    /// Takes out one item by itself: of those with the lowest rank the latest.
    pub fn take_one<R: Ord>(&mut self, rank: impl Fn(&Ticket) -> R) -> (Vec<Item>, Vec<Ticket>) {
        let latest_first = self.tickets.iter().enumerate().rev();
        let best = latest_first.min_by_key(|(_, (ticket, _))| rank(ticket));
        self.take_exactly(best.map(|(position, _)| position).into_iter().collect())
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

/// How many bytes an item has.
pub fn size(item: &Item) -> usize {
    item.parts.iter().map(|part| part.bytes.len()).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fanout_sdk::destination::Part;
    use fanout_sdk::event::Event;
    use fanout_sdk::names::Names;

    use super::*;
    use crate::queue::Id;

    fn waiting(sizes: &[usize], start: Instant) -> Waiting {
        let event =
            Event::parse(r#"{"type":"identify","userId":"a","messageId":"m"}"#.into(), 0, &Names::default());
        let event = Arc::new(event.unwrap());
        let mut waiting = Waiting::default();
        for (number, size) in sizes.iter().enumerate() {
            let part = Part { request: 0, group: 0, bytes: vec![b'x'; *size].into() };
            let item = Item {
                event: event.clone(),
                options: None,
                identity: number.to_string().into(),
                group: 0,
                digest: 0,
                parts: vec![part],
                warnings: Vec::new(),
            };
            let number = number as u64;
            let ticket =
                Ticket { id: Id(number), order_key: number, attempt: 1, first_attempt_at_ms: 0, since_ms: 0 };
            waiting.push(item, ticket, start + Duration::from_millis(number));
        }
        waiting
    }

    fn limits(items: usize, bytes: usize) -> Limits {
        Limits { items, bytes, linger: Duration::ZERO, concurrency: None, rates: Vec::new() }
    }

    fn ids(tickets: &[Ticket]) -> Vec<u64> {
        tickets.iter().map(|ticket| ticket.id.0).collect()
    }

    #[test]
    fn a_request_is_due_when_it_is_full_or_its_oldest_item_has_lingered() {
        let start = Instant::now();
        let linger = Duration::from_millis(10);
        let at = |millis| start + Duration::from_millis(millis);
        let cases = [
            (vec![], limits(9, 99), 50, Due::Never),
            (vec![1, 1], limits(9, 99), 5, Due::At(at(10))),
            (vec![1, 1], limits(9, 99), 10, Due::Now),
            (vec![1, 1], limits(2, 99), 0, Due::Now),
            (vec![50, 49], limits(9, 99), 0, Due::Now),
        ];
        for (sizes, limits, now, expected) in cases {
            assert_eq!(waiting(&sizes, start).due(at(now), &limits, linger), expected, "{sizes:?} at {now}");
        }
    }

    #[test]
    fn whatever_an_adapter_chooses_the_first_goes_and_nothing_goes_twice() {
        let cases: [(&[usize], &[u64], &[u64]); 5] = [
            (&[0, 1, 2], &[0, 1, 2], &[3]),
            (&[], &[0], &[1, 2, 3]),
            (&[3, 1, 1, 99], &[0, 1, 3], &[2]),
            (&[usize::MAX], &[0], &[1, 2, 3]),
            (&[2], &[0, 2], &[1, 3]),
        ];
        for (chosen, taken, left) in cases {
            let mut waiting = waiting(&[1, 2, 4, 8], Instant::now());
            let (items, tickets) = waiting.take(chosen.to_vec());
            assert_eq!((ids(&tickets), items.len()), (taken.to_vec(), taken.len()), "{chosen:?}");
            assert_eq!(ids(&waiting.clear()), left, "{chosen:?}");
        }
        assert!(Waiting::default().take(vec![0]).0.is_empty());
    }

    #[test]
    fn one_by_itself_is_the_latest_of_the_lowest_rank() {
        let mut waiting = waiting(&[1, 1, 1, 1], Instant::now());
        assert_eq!(ids(&waiting.take_one(|ticket| ticket.id.0 != 1).1), [1]);
        assert_eq!(ids(&waiting.take_one(|ticket| ticket.id.0 == 3).1), [2]);
        assert_eq!(ids(&waiting.take_one(|_| 0).1), [3]);
        assert_eq!(ids(&waiting.clear()), [0]);
        assert!(waiting.take_one(|_| 0).1.is_empty());
    }

    #[test]
    fn room_ends_with_two_batches_of_items_or_bytes() {
        let now = Instant::now();
        for (sizes, expected) in
            [(vec![], 6), (vec![10, 10], 4), (vec![99, 98], 4), (vec![99, 99], 0), (vec![1; 6], 0)]
        {
            assert_eq!(waiting(&sizes, now).room(6, &limits(3, 99)), expected, "{sizes:?}");
        }
        let mut waiting = waiting(&[99, 99], now);
        waiting.take(vec![0]);
        assert_eq!(waiting.room(6, &limits(3, 99)), 5, "what was taken makes room");
    }
}
