//! The suppression by itself: a table of what is suppressed, and its model of a vendor.

use super::*;

mod model;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// One lane's suppressor with a clock, and calls that are written as `user:content`, or with several records as
/// `user:content/record:content`.
struct Lane {
    suppressor: Suppressor,
    now_ms: i64,
    next: u64,
}

fn number(text: &str) -> u64 {
    text.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte))
}

impl Lane {
    fn new() -> Lane {
        Lane { suppressor: Suppressor::new(DAY), now_ms: 1_000_000, next: 0 }
    }

    fn call(&mut self, order_key: &str, text: &str) -> Call {
        let record = |part: &str| {
            let (key, content) = part.split_once(':').unwrap();
            Record { key: number(key), content: number(content) }
        };
        self.next += 1;
        Call {
            id: Id(self.next),
            order_key: number(order_key),
            records: text.split('/').map(record).collect(),
            is_comparable: true,
        }
    }

    /// The id of a call that goes; `None` for one that is suppressed.
    fn begin_as(&mut self, order_key: &str, text: &str) -> Option<Id> {
        let call = self.call(order_key, text);
        let id = call.id;
        (!self.suppressor.suppresses(call, self.now_ms)).then_some(id)
    }

    fn begin(&mut self, text: &str) -> Option<Id> {
        let order_key = text.split(':').next().unwrap().to_owned();
        self.begin_as(&order_key, text)
    }

    fn end(&mut self, id: Option<Id>, ended: Ended) {
        self.suppressor.end(id.expect("suppressed"), ended, self.now_ms);
    }

    fn take(&mut self, text: &str) {
        let id = self.begin(text);
        self.end(id, Ended::Taken);
    }

    fn is_suppressed(&mut self, text: &str) -> bool {
        match self.begin(text) {
            None => true,
            Some(id) => {
                // Back as if it had never been, for the next question.
                self.suppressor.under_way.remove(&id);
                let (key, _) = text.split_once(':').unwrap();
                self.suppressor.close(number(key));
                false
            }
        }
    }
}

/// What one user's calls come to: `+` goes and is taken, `!` goes and is refused, `=` is suppressed.
#[test]
fn a_call_is_compared_with_the_last_one_that_was_taken() {
    let cases: &[&[&str]] = &[
        &["+a", "=a", "=a", "=a"],
        &["+a", "+b", "+a", "=a"],
        &["+a", "=a", "+b", "=b", "+a"],
        &["!a", "!a", "+a", "=a"],
        &["+a", "!b", "+a", "=a"],
    ];
    for case in cases {
        let mut lane = Lane::new();
        for (position, step) in case.iter().enumerate() {
            let (kind, content) = step.split_at(1);
            let id = lane.begin(&format!("u:{content}"));
            assert_eq!(id.is_none(), kind == "=", "{case:?} at {position}");
            match kind {
                "+" => lane.end(id, Ended::Taken),
                "!" => lane.end(id, Ended::Over),
                _ => {}
            }
        }
    }
}

#[test]
fn users_do_not_touch_each_other() {
    let mut lane = Lane::new();
    lane.take("u:a");
    lane.take("v:b");
    assert!(lane.begin("u:a").is_none() && lane.begin("v:b").is_none());
    assert!(lane.begin("w:a").is_some());
}

#[test]
fn one_call_a_day_goes_although_nothing_changed() {
    let mut lane = Lane::new();
    lane.take("u:a");
    lane.now_ms += DAY - 1;
    assert!(lane.begin("u:a").is_none());
    lane.now_ms += 1;
    lane.take("u:a");
    lane.now_ms += DAY - 1;
    assert!(lane.begin("u:a").is_none(), "the day begins with the last one that went");
    lane.now_ms -= 2 * DAY;
    assert!(lane.begin("u:a").is_some(), "a clock that was put back proves nothing");
}

#[test]
fn nothing_is_suppressed_while_a_call_to_the_record_is_under_way() {
    let mut lane = Lane::new();
    lane.take("u:a");
    let other = lane.begin_as("anonymous", "u:b");
    assert!(!lane.is_suppressed("u:a"), "it would be overtaken");
    lane.end(other, Ended::Over);
    lane.take("u:a");
    assert!(lane.is_suppressed("u:a"));
}

#[test]
fn of_two_that_overlap_nobody_knows_which_was_last() {
    for ends in [[Ended::Taken, Ended::Taken], [Ended::Taken, Ended::Over], [Ended::Over, Ended::Taken]] {
        for second_first in [false, true] {
            let mut lane = Lane::new();
            let first = lane.begin_as("anonymous", "u:b");
            let second = lane.begin("u:a");
            let order = if second_first {
                [(second, ends[1]), (first, ends[0])]
            } else {
                [(first, ends[0]), (second, ends[1])]
            };
            for (id, ended) in order {
                lane.end(id, ended);
            }
            assert!(!lane.is_suppressed("u:a") && !lane.is_suppressed("u:b"), "{ends:?} {second_first}");
            lane.take("u:a");
            assert!(lane.is_suppressed("u:a"));
        }
    }
}

#[test]
fn until_a_tried_call_is_finished_its_records_are_unsure() {
    let mut lane = Lane::new();
    lane.take("u:a");
    let parked = lane.begin_as("anonymous", "u:b");
    lane.end(parked, Ended::Unfinished);
    lane.take("u:a");
    assert!(!lane.is_suppressed("u:a"), "the other one may be applied at any time");
    // It comes again, is taken, and then the record is what it wrote.
    let again = lane.begin_as("anonymous", "u:b");
    lane.end(again, Ended::Taken);
    assert!(!lane.is_suppressed("u:a"));
    assert!(lane.is_suppressed("u:b"));
}

#[test]
fn the_next_call_of_an_order_key_says_that_the_one_before_is_finished() {
    let mut lane = Lane::new();
    let parked = lane.begin("u:b");
    lane.end(parked, Ended::Unfinished);
    lane.take("u:a"); // The parked one became a dead letter without the lane.
    assert!(lane.is_suppressed("u:a"));
}

#[test]
fn several_that_are_unfinished_keep_a_record_unsure() {
    let mut lane = Lane::new();
    for order_key in ["one", "two"] {
        let id = lane.begin_as(order_key, "u:b");
        lane.end(id, Ended::Unfinished);
    }
    let id = lane.begin_as("one", "u:b");
    lane.end(id, Ended::Taken);
    assert!(!lane.is_suppressed("u:b"), "two may still be applied");
    lane.now_ms += UNSURE_MS;
    lane.take("u:b");
    assert!(lane.is_suppressed("u:b"));
}

#[test]
fn each_record_of_a_call_must_hold_what_it_writes() {
    let mut lane = Lane::new();
    lane.take("u:a/acme:small");
    assert!(lane.begin("u:a/acme:small").is_none());
    lane.take("v:b/acme:big");
    assert!(lane.begin("u:a").is_none(), "the person is as it was");
    lane.take("u:a/acme:small");
    assert!(lane.begin("v:b/acme:big").is_some(), "another user's call changed the company");
}

#[test]
fn what_cannot_be_compared_goes_and_leaves_nothing_known() {
    let mut lane = Lane::new();
    lane.take("u:a");
    let mut call = lane.call("u", "u:a");
    call.is_comparable = false;
    let id = call.id;
    assert!(!lane.suppressor.suppresses(call, lane.now_ms));
    lane.end(Some(id), Ended::Taken);
    assert!(!lane.is_suppressed("u:a"));

    let nameless = Call { records: Vec::new(), ..lane.call("u", "u:a") };
    assert!(!lane.suppressor.suppresses(nameless.clone(), 0) && !lane.suppressor.suppresses(nameless, 0));
}

#[test]
fn a_call_that_was_taken_in_part_does_not_count() {
    let mut lane = Lane::new();
    let id = lane.begin("u:a");
    lane.suppressor.spoil(number("u"));
    lane.end(id, Ended::Taken);
    assert!(!lane.is_suppressed("u:a"));
    lane.take("u:a");
    assert!(lane.is_suppressed("u:a"));
}

#[test]
fn what_something_else_may_have_changed_is_sent() {
    type Forget = fn(&mut Suppressor);
    let forget: [(&str, Forget); 2] = [
        ("while bypassed", |suppressor| suppressor.bypass(true)),
        ("after it", |suppressor| {
            suppressor.bypass(true);
            suppressor.bypass(false);
        }),
    ];
    for (name, forget) in forget {
        let mut lane = Lane::new();
        lane.take("u:a");
        lane.take("v:a");
        let under_way = lane.begin("u:b");
        forget(&mut lane.suppressor);
        lane.end(under_way, Ended::Taken);
        assert!(!lane.is_suppressed("u:a") && !lane.is_suppressed("u:b"), "{name}");
        assert!(!lane.is_suppressed("v:a"), "{name}");
        lane.take("u:a");
        assert_eq!(lane.is_suppressed("u:a"), name != "while bypassed", "{name}");
    }
}

#[test]
fn what_is_unsure_stays_so_whatever_is_forgotten() {
    let mut lane = Lane::new();
    let parked = lane.begin_as("anonymous", "u:b");
    lane.end(parked, Ended::Unfinished);
    lane.suppressor.bypass(true);
    lane.suppressor.bypass(false);
    lane.take("u:a");
    assert!(!lane.is_suppressed("u:a"));
}

#[test]
fn what_is_saved_counts_after_the_restart_and_only_under_the_same_fingerprint() {
    let mut lane = Lane::new();
    lane.take("u:a");
    let parked = lane.begin_as("anonymous", "v:b");
    lane.end(parked, Ended::Unfinished);
    let bytes = lane.suppressor.save(5);
    let reload = |bytes: &[u8], fingerprint| {
        let mut lane = Lane::new();
        lane.suppressor.load(bytes, fingerprint);
        lane
    };
    let mut same = reload(&bytes, 5);
    assert!(same.is_suppressed("u:a"));
    same.take("v:a");
    assert!(!same.is_suppressed("v:a"), "the parked one is still there");
    assert!(reload(&bytes, 6).suppressor.known.len() == 0);
    for cut in 0..bytes.len() {
        assert!(reload(&bytes[..cut], 5).suppressor.known.len() <= 1, "{cut}");
    }
    let mut other_format = bytes.clone();
    other_format[0] = 2;
    assert!(reload(&other_format, 5).suppressor.known.len() == 0);
}

#[test]
fn a_restart_without_what_was_saved_knows_nothing_but_the_bypass() {
    let mut lane = Lane::new();
    lane.take("u:a");
    lane.suppressor.restart();
    assert!(!lane.is_suppressed("u:a"));
    lane.suppressor.bypass(true);
    lane.suppressor.restart();
    lane.take("u:a");
    assert!(!lane.is_suppressed("u:a"));
}

#[test]
fn memory_is_bounded_and_what_is_asked_for_stays_longest() {
    let mut recent = Recent::new(10);
    let known = Known::Taken { content: 1, at_ms: 1 };
    for key in 0..1000 {
        recent.set(key, known);
        assert!(recent.get(0).is_some(), "asked for all the time");
        assert!(recent.len() <= 20 && recent.young.len() <= 10);
    }
    assert!(recent.get(999).is_some() && recent.get(500).is_none());
    recent.remove(999);
    recent.keep(|_| false);
    assert!(recent.get(999).is_none() && recent.len() == 0);
}
