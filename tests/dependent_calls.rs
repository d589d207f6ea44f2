//! One person stays one person, and the last value wins, where a delivery takes several calls that depend on each other:
//! through kills between the calls, lost answers, time-outs after the vendor acted, a lagging search and bad times.
//! The real binary speaks to stand-ins that make a second person wherever the vendor would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

#[path = "support/bench.rs"]
mod bench;
mod support;
#[path = "support/vendors/mod.rs"]
mod vendors;

use std::time::Duration;

use bench::{
    Bench, EMAIL, INTERCOM, INTERCOM_ADDRESS_ONLY, INTERCOM_SEARCH_LAG, MAILCHIMP, MIXPANEL,
    SALESFORCE_BY_ADDRESS, SALESFORCE_BY_ID, Way, identify,
};
use serde_json::{Value, json};
use support::Process;
use vendors::{Fault, Person, Vendor, Vendors};

fn two_calls_in_a_row_make_one_person(way: &Way) {
    let bench = Bench::new(way);
    let fanout = bench.service.serve();
    bench.identify(1);
    bench.identify(2);
    bench.wait_for(2);
    let person = bench.only_person(fanout);
    assert_eq!(bench.values(&person), [1, 2]);
}

fn two_calls_of_one_batch_make_one_person(way: &Way) {
    let bench = Bench::new(way);
    let fanout = bench.service.serve();
    bench.service.accept("/v1/batch", &json!({"batch": [bench.call(1), bench.call(2)]}));
    bench.wait_for(2);
    let person = bench.only_person(fanout);
    assert_eq!(bench.values(&person), [1, 2]);
}

fn what_is_known_of_a_person_saves_requests(way: &Way) {
    let bench = Bench::new(way);
    let fanout = bench.service.serve();
    for (n, requests) in [(1, way.requests[0]), (2, way.requests[1]), (3, way.requests[1])] {
        bench.vendors.forget_requests();
        bench.identify(n);
        bench.wait_for(n);
        assert_eq!(bench.requests(), requests, "identify {n}:{}", bench.vendors.summary());
    }
    bench.only_person(fanout);
}

fn a_kill_before_the_person_is_made(way: &Way) {
    let bench = Bench::new(way);
    let fanout = bench.service.serve();
    bench.fault(Fault::Hang, 1);
    bench.identify(1);
    bench.identify(2);
    bench.vendors.wait_for_requests(way.vendor, way.creates, 1);
    fanout.kill();
    assert!(bench.vendors.people(way.vendor).is_empty());
    let fanout = bench.service.serve();
    bench.wait_for(2);
    let person = bench.only_person(fanout);
    assert_eq!(bench.values(&person), [1, 2]);
}

fn a_kill_between_the_person_and_the_answer(way: &Way) {
    let bench = Bench::new(way);
    let fanout = bench.service.serve();
    bench.fault(Fault::HangAfterCommit, 1);
    bench.identify(1);
    bench.identify(2);
    bench.wait_for(1);
    fanout.kill();
    let fanout = bench.service.serve();
    bench.wait_for(2);
    let person = bench.only_person(fanout);
    assert_eq!(bench.values(&person), [1, 1, 2], "sent again, since nobody knows that it arrived");
}

fn a_lost_answer_and_a_kill(way: &Way) {
    let bench = Bench::new(way);
    let fanout = bench.service.serve();
    bench.fault(Fault::DropAfterCommit, 1);
    bench.identify(1);
    bench.identify(2);
    bench.wait_for(1);
    fanout.kill();
    let fanout = bench.service.serve();
    // The first two may have arrived before the kill and be on their way again; behind this one nothing is.
    bench.identify(3);
    bench.wait_for(3);
    let person = bench.only_person(fanout);
    assert_eq!(bench.values(&person).last(), Some(&3));
}

fn a_lost_answer(way: &Way) {
    let bench = Bench::new(way);
    let fanout = bench.service.serve();
    bench.fault(Fault::DropAfterCommit, 1);
    bench.identify(1);
    bench.identify(2);
    bench.wait_for(2);
    let person = bench.only_person(fanout);
    assert_eq!(bench.values(&person), [1, 1, 2]);
}

fn a_time_out_after_the_person_is_made(way: &Way) {
    // To the adapter a time-out is a lost answer that comes late.
    if way.patient || std::env::var("FANOUT_TESTS").as_deref() == Ok("quick") {
        return;
    }
    let bench = Bench::new(way);
    let fanout = bench.service.serve();
    bench.fault(Fault::HangAfterCommit, 1);
    bench.identify(1);
    bench.identify(2);
    bench.wait_for(2);
    let person = bench.only_person(fanout);
    assert_eq!(bench.values(&person), [1, 1, 2]);
}

/// Kills fanout at the first request of these calls, after the next start at the second, and so on, and starts it again.
/// `fault` is what that request meets.
fn kill_at_each_request(
    bench: &Bench<'_>,
    calls: &[Value],
    fault: Fault,
    is_done: fn(&Vendors) -> bool,
) -> Process {
    let vendor = bench.way.vendor;
    for before in 0..6 {
        bench.vendors.heal();
        bench.vendors.forget_requests();
        bench.vendors.fault(vendor, Fault::Slow(0), "", before);
        bench.vendors.fault(vendor, fault, "", 1);
        let fanout = bench.service.serve();
        if before == 0 {
            calls.iter().for_each(|call| bench.service.accept("/v1/identify", call));
        }
        bench.vendors.wait_until("a request that hangs", |vendors| {
            vendors.requests(vendor).iter().any(|request| request.fault == Some(fault)) || is_done(vendors)
        });
        fanout.kill();
    }
    bench.vendors.heal();
    bench.service.serve()
}

fn a_kill_at_each_request(way: &Way) {
    for fault in [Fault::Hang, Fault::HangAfterCommit] {
        let bench = Bench::new(way);
        let has_second = |vendors: &Vendors| {
            let has = |vendor: Vendor| {
                vendors.people(vendor).values().any(|person| vendor.custom(&person.attributes, "n") == 2)
            };
            Vendor::ALL.into_iter().any(has)
        };
        let fanout = kill_at_each_request(&bench, &[bench.call(1), bench.call(2)], fault, has_second);
        // What had arrived may be on its way again; behind this one nothing is.
        bench.identify(3);
        bench.wait_for(3);
        let person = bench.only_person(fanout);
        assert_eq!(bench.values(&person).last(), Some(&3), "{fault:?}");
    }
}

/// Nobody and somebody with one address, under way at the same time: two order keys, so nothing but the vendor's own
/// answers and the adapter's care keeps them one.
fn one_address_of_two_at_once(way: &Way) {
    for (anonymous_first, kill) in [(true, false), (false, false), (true, true), (false, true)] {
        let bench = Bench::new(way);
        let mut fanout = bench.service.serve();
        let anonymous = identify(true, "9", json!({"email": EMAIL, "last_name": "Byron", "other": 1}));
        let known = identify(false, "9", json!({"email": "Ada@Example.com", "last_name": "Byron", "n": 1}));
        let (first, second) = if anonymous_first { (anonymous, known) } else { (known, anonymous) };
        // Where the vendor takes nobody without a user id, there is nothing to hold.
        let holds = way.takes_anonymous || !anonymous_first;
        if holds {
            bench.fault(Fault::Hold, 1);
        }
        bench.service.accept("/v1/identify", &first);
        if holds {
            bench.vendors.wait_for_requests(way.vendor, way.creates, 1);
        }
        bench.service.accept("/v1/identify", &second);
        // When a later one has arrived, the second one is under way or waits for the first.
        bench.service.accept(
            "/v1/identify",
            &identify(false, "8", json!({"email": "bob@example.com", "last_name": "B", "n": 8})),
        );
        bench.wait_for(8);
        if kill {
            fanout.kill();
            fanout = bench.service.serve();
        }
        bench.vendors.release();
        bench.wait_for(1);
        if way.takes_anonymous {
            bench.vendors.wait_until("both values", |vendors| {
                let people = vendors.people(way.vendor);
                people.values().any(|person| way.vendor.custom(&person.attributes, "other") == 1)
            });
        }
        assert!(fanout.terminate());
        let records = bench.vendors.records(way.vendor);
        let ada = records.iter().filter(|record| record.email.as_deref() == Some(EMAIL));
        assert!(ada.count() <= 1, "{records:#?}{}", bench.vendors.summary());
        assert_eq!(bench.vendors.duplicates(way.vendor), [""; 0], "{}", bench.vendors.summary());
        if way.takes_anonymous {
            let has_both = |record: &&vendors::Record| {
                let attributes = record.history.last().unwrap();
                way.vendor.custom(attributes, "n") == 1 && way.vendor.custom(attributes, "other") == 1
            };
            assert!(
                records.iter().any(|record| has_both(&record)),
                "{records:#?}{}",
                bench.vendors.summary()
            );
        }
    }
}

fn the_last_value_wins_through_bad_times(way: &Way) {
    const USERS: u64 = 3;
    const CALLS: u64 = 8;
    let bench = Bench::new(way);
    let fanout = bench.service.serve();
    // Few enough that not even all of them together make one person wait for long.
    for fault in [Fault::Status(503, None), Fault::Status(503, Some(1)), Fault::DropBeforeCommit] {
        bench.vendors.fault(way.vendor, fault, way.people, 2);
    }
    bench.vendors.fault(way.vendor, Fault::Status(429, Some(1)), way.people, 1);
    let call = |n: u64, user: u64| {
        let email = format!("user-{user}@example.com");
        identify(way.anonymous, &user.to_string(), json!({"email": email, "last_name": "B", "n": n}))
    };
    for n in 1..=CALLS {
        let batch: Vec<Value> = (0..USERS).map(|user| call(n, user)).collect();
        bench.service.accept("/v1/batch", &json!({"batch": batch}));
    }
    bench.vendors.wait_until("the last value of everybody", |vendors| {
        let people = vendors.people(way.vendor);
        let is_last = |person: &Person| way.vendor.custom(&person.attributes, "n") == CALLS;
        people.len() as u64 == USERS && people.values().all(is_last)
    });
    assert!(fanout.terminate());
    for (name, person) in bench.vendors.people(way.vendor) {
        assert_eq!(person.created, 1, "{name}");
        assert_eq!(bench.values(&person), (1..=CALLS).collect::<Vec<_>>(), "{name}");
    }
}

/// The vendor's operator deletes the person whose id fanout may remember.
fn a_person_who_was_deleted_is_made_again(way: &Way) {
    let bench = Bench::new(way);
    let fanout = bench.service.serve();
    bench.identify(1);
    bench.identify(2);
    bench.wait_for(2);
    bench.vendors.delete_everybody(way.vendor);
    bench.identify(3);
    bench.identify(4);
    bench.wait_for(4);
    let person = bench.only_person(fanout);
    assert_eq!(bench.values(&person), [3, 4]);
}

/// Everything at once, at moments that differ from run to run.
fn many_people_through_kills_and_lost_answers(way: &Way) {
    const USERS: u64 = 12;
    const CALLS: u64 = 5;
    let bench = Bench::new(way);
    let mut fanout = bench.service.serve();
    for fault in
        [Fault::DropAfterCommit, Fault::Status(503, None), Fault::DropBeforeCommit, Fault::DropAfterCommit]
    {
        bench.vendors.fault(way.vendor, fault, way.people, 2);
    }
    let batch = |n: u64| {
        let call = |user: u64| {
            let email = format!("user-{user}@example.com");
            identify(way.anonymous, &user.to_string(), json!({"email": email, "last_name": "B", "n": n}))
        };
        json!({"batch": (0..USERS).map(call).collect::<Vec<_>>()})
    };
    for n in 1..CALLS {
        bench.service.accept("/v1/batch", &batch(n));
        bench.vendors.wait_for_requests(way.vendor, way.people, 1);
        // The moment is random on purpose: up to 30 ms into the deliveries.
        std::thread::sleep(Duration::from_micros(fastrand::u64(..30_000)));
        fanout.kill();
        bench.vendors.forget_requests();
        fanout = bench.service.serve();
    }
    // What had arrived may be on its way again; behind these nothing is.
    bench.service.accept("/v1/batch", &batch(CALLS));
    bench.vendors.wait_until("the last value of everybody", |vendors| {
        let people = vendors.people(way.vendor);
        let is_last = |person: &Person| way.vendor.custom(&person.attributes, "n") == CALLS;
        people.len() as u64 == USERS && people.values().all(is_last)
    });
    assert!(fanout.terminate());
    let people = bench.vendors.people(way.vendor);
    assert_eq!(people.len() as u64, USERS);
    for (name, person) in people {
        assert_eq!(person.created, 1, "{name}{}", bench.vendors.summary());
        let values = bench.values(&person);
        assert_eq!((values.first(), values.last()), (Some(&1), Some(&CALLS)), "{name}: {values:?}");
        // What is sent again may step back; nothing is passed over.
        assert!(values.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{name}: {values:?}");
    }
}

/// The session of many deliveries at once ends: one of them renews it, for all.
fn a_session_that_ends_is_renewed_once(way: &Way) {
    const USERS: u64 = 12;
    let bench = Bench::new(way);
    let fanout = bench.service.serve();
    for n in [1, 2] {
        let call = |user| {
            let email = format!("user-{user}@example.com");
            identify(false, &format!("{user}"), json!({"email": email, "last_name": "B", "n": n}))
        };
        bench.service.accept("/v1/batch", &json!({"batch": (0..USERS).map(call).collect::<Vec<_>>()}));
        bench.vendors.wait_until("everybody", |vendors| {
            let people = vendors.people(way.vendor);
            let is_last = |person: &Person| way.vendor.custom(&person.attributes, "n") == n;
            people.len() as u64 == USERS && people.values().all(is_last)
        });
        bench.vendors.salesforce(|salesforce| salesforce.expire_tokens());
    }
    assert!(fanout.terminate());
    assert_eq!(
        bench.vendors.salesforce(|salesforce| salesforce.tokens_given),
        2,
        "{}",
        bench.vendors.summary()
    );
    assert_eq!(bench.vendors.duplicates(way.vendor), [""; 0], "{}", bench.vendors.summary());
}

#[test]
fn salesforce_sessions_of_batches() {
    a_session_that_ends_is_renewed_once(&SALESFORCE_BY_ID);
}

#[test]
fn salesforce_sessions_of_look_ups() {
    a_session_that_ends_is_renewed_once(&SALESFORCE_BY_ADDRESS);
}

#[test]
fn intercom_company_is_attached_through_kills() {
    let is_attached = |vendors: &Vendors| vendors.intercom(|intercom| intercom.companies_of("u-1")) == ["c9"];
    for fault in [Fault::Hang, Fault::HangAfterCommit, Fault::DropAfterCommit] {
        let bench = Bench::new(&INTERCOM);
        let company = json!({"id": "c9", "name": "Engine Ltd"});
        let call = identify(false, "1", json!({"email": EMAIL, "n": 1, "company": company}));
        let fanout = kill_at_each_request(&bench, &[call], fault, is_attached);
        bench.vendors.wait_until("the attachment", is_attached);
        bench.only_person(fanout);
    }
}

/// Many deliveries at once meet an attribute that the workspace lacks.
#[test]
fn intercom_attribute_is_made_once_for_many() {
    const USERS: u64 = 12;
    let way = Way {
        settings: Some(r#"{ access_token = "intercom-token", create_missing_attributes = true }"#),
        ..INTERCOM
    };
    let bench = Bench::new(&way);
    let fanout = bench.service.serve();
    let call =
        |user: u64| identify(false, &user.to_string(), json!({"last_name": "B", "n": 1, "fresh": user}));
    bench.service.accept("/v1/batch", &json!({"batch": (0..USERS).map(call).collect::<Vec<_>>()}));
    bench.vendors.wait_until("everybody", |vendors| {
        let people = vendors.people(way.vendor);
        people.len() as u64 == USERS
            && people.values().all(|person| way.vendor.custom(&person.attributes, "fresh").is_u64())
    });
    assert!(fanout.terminate());
    let people = bench.vendors.people(way.vendor);
    assert!(people.values().all(|person| person.created == 1), "{people:#?}");
    assert!(bench.vendors.intercom(|intercom| intercom.attributes()).contains("fresh"));
}

macro_rules! ways {
    ($($name:ident: $way:expr,)*) => { $(mod $name { ways!(@tests $way;
        two_calls_in_a_row_make_one_person,
        two_calls_of_one_batch_make_one_person,
        what_is_known_of_a_person_saves_requests,
        a_kill_before_the_person_is_made,
        a_kill_between_the_person_and_the_answer,
        a_lost_answer_and_a_kill,
        a_lost_answer,
        a_time_out_after_the_person_is_made,
        a_kill_at_each_request,
        one_address_of_two_at_once,
        the_last_value_wins_through_bad_times,
        a_person_who_was_deleted_is_made_again,
        many_people_through_kills_and_lost_answers,
    ); })* };
    (@tests $way:expr; $($test:ident,)*) => { $(
        #[test]
        fn $test() {
            super::$test(&$way);
        }
    )* };
}

ways! {
    mixpanel: super::MIXPANEL,
    mailchimp: super::MAILCHIMP,
    intercom: super::INTERCOM,
    intercom_search_lag: super::INTERCOM_SEARCH_LAG,
    intercom_address_only: super::INTERCOM_ADDRESS_ONLY,
    salesforce_by_id: super::SALESFORCE_BY_ID,
    salesforce_by_address: super::SALESFORCE_BY_ADDRESS,
}
