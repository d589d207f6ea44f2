//! What is too large: a vendor that says so, and calls of several megabytes.

use std::collections::HashSet;

use super::Suite;
use super::calls::{long_text, mark, object, of_user, with};
use super::faults::described;
use super::scene::{Replay, Scene, is_fetch, place};
use super::stage::{Played, Reply, new_memory, status};
use crate::destination::{Item, Outcome, Request, Verdict};
use crate::json::{Doc, Json};

/// How many users the batch of a check has, and which of them is too large.
const USERS: usize = 5;
const LARGE: usize = 2;
/// What may stand around the items of a request.
const WRAPPER_BYTES: usize = 64 << 10;

fn may_be_too_large(request: &Request) -> bool {
    !request.body.is_empty() && request.method != "GET" && !is_fetch(request)
}

/// A single item that is too large for the vendor is a dead letter: trying again would never end.
pub(super) fn refused_single(suite: &Suite<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for (scene, at) in suite.steps() {
        let Some((refused, _)) = scene.exchanges.get(at).filter(|(request, _)| may_be_too_large(request))
        else {
            continue;
        };
        if scene.played.send_of(at).is_none_or(|sent| sent.items.len() != 1) {
            continue;
        }
        let mut replay = Replay::new(&scene.exchanges);
        let played = scene.play(&scene.items, &new_memory(), &mut |position, request| {
            if position >= at && place(request) == place(refused) {
                return Ok(status(413));
            }
            replay.answer(request)
        });
        let about = format!("{}, request {at} ({})", scene.file, place(refused));
        match played {
            Ok(played) => {
                let verdict = played.send_of(at).and_then(|sent| sent.verdicts.first());
                let wrong = verdict.filter(|verdict| verdict.outcome != Outcome::Rejected);
                problems.extend(wrong.map(|verdict| {
                    format!("{about}: 413 for a single event ended {}; wanted rejected", described(verdict))
                }));
            }
            Err(problem) => problems.push(format!("{about}: {problem}")),
        }
    }
    problems
}

/// A batch that is too large is split until the bad item is alone; every other one is sent, once.
pub(super) fn refused_batch(suite: &Suite<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for scene in suite.settings().into_iter().filter(|scene| scene.subject.destination.limits().items > 1) {
        let call = scene.call();
        let items: Vec<Item> =
            (0..USERS).filter_map(|user| scene.render(&of_user(call, user)).ok()).collect();
        let clean = scene.play_well(&items);
        let batched = clean.iter().flat_map(Played::requests).find(|request| users_in(request).len() > 1);
        let Some(batched) = batched.map(place) else { continue };
        let is_well = |reply: &Reply| reply.as_ref().is_ok_and(|answer| answer.status < 300);
        let well: Vec<_> = scene.exchanges.iter().filter(|(_, reply)| is_well(reply)).cloned().collect();
        let mut replay = Replay::new(&well);
        let played = scene.play(&items, &new_memory(), &mut |_, request| {
            let is_refused = place(request) == batched && users_in(request).contains(&LARGE);
            if is_refused { Ok(status(413)) } else { replay.answer(request) }
        });
        let found =
            played.map(|played| lost_or_doubled(&played, &batched)).unwrap_or_else(|problem| vec![problem]);
        problems.extend(found.into_iter().map(|what| format!("{}, request {batched}: {what}", scene.file)));
    }
    problems
}

/// The users whose marks stand in a request's body.
fn users_in(request: &Request) -> Vec<usize> {
    let text = String::from_utf8_lossy(&request.body).to_lowercase();
    (0..USERS).filter(|user| text.contains(&mark(*user))).collect()
}

fn lost_or_doubled(played: &Played, batched: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let verdicts = played.sends.iter().flat_map(|sent| sent.items.iter().zip(&sent.verdicts));
    for (user, verdict) in verdicts {
        let taken = played
            .requests()
            .filter(|request| place(request) == batched)
            .map(users_in)
            .filter(|users| users.contains(user) && !users.contains(&LARGE))
            .count();
        let is_done = matches!(verdict.outcome, Outcome::Delivered | Outcome::Submitted);
        if *user == LARGE && verdict.outcome != Outcome::Rejected {
            problems
                .push(format!("the item that is too large ended {}; wanted rejected", described(verdict)));
        }
        if *user != LARGE && verdict.outcome == Outcome::Rejected && taken == 0 {
            problems.push(format!("an item beside the one that is too large ended {}", described(verdict)));
        }
        if *user != LARGE && is_done && taken != 1 {
            problems.push(format!(
                "an item beside the one that is too large was sent {taken} times; wanted once"
            ));
        }
    }
    problems
}

/// Calls of several megabytes: skipped or rejected with the size in the reason, or sent inside the adapter's own caps.
pub(super) fn oversize(suite: &Suite<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    // Large calls take their time; once for each kind of request and limit is enough.
    let mut seen = HashSet::new();
    for scene in suite.settings() {
        let limits = scene.subject.destination.limits();
        let kinds = scene.exchanges.iter().map(|(request, _)| (place(request), limits.items, limits.bytes));
        let new = kinds.filter(|kind| seen.insert(kind.clone())).count();
        if new == 0 {
            continue;
        }
        let call = scene.call();
        for (about, call) in oversized(call) {
            let found = oversize_of(scene, &call);
            problems.extend(found.map(|what| format!("{}, {about}: {what}", scene.file)));
        }
    }
    problems
}

fn oversized(call: &str) -> Vec<(&'static str, String)> {
    let traits = Doc::parse(call.into()).ok();
    let traits = traits.as_ref().and_then(|doc| doc.root().get("traits"));
    let given = traits.into_iter().flat_map(Json::members);
    let given = given.map(|(key, value)| (key.into_owned(), value.raw().to_owned()));
    let made = (0..2_000).map(|n| (format!("custom_trait_{n}"), long_text(1_000)));
    let many = with(call, &["traits"], Some(&object(&given.chain(made).collect::<Vec<_>>())));
    let list = format!("[{}]", vec!["\"an element\""; 20_000].join(","));
    vec![
        ("a custom trait of 5 MB", with(call, &["traits", "cnf_long"], Some(&long_text(5 << 20)))),
        ("a description of 1 MB", with(call, &["traits", "description"], Some(&long_text(1 << 20)))),
        ("2,000 custom traits of 1 kB", many),
        ("a list of 20,000 elements", with(call, &["traits", "cnf_list"], Some(&list))),
    ]
}

fn oversize_of(scene: &Scene, call: &str) -> Option<String> {
    let item = match scene.render(call) {
        Ok(item) => item,
        Err(skip) if !names_size(&skip.detail) => {
            return Some(format!(
                "skipped ({}), but the detail names no size: {:?}",
                skip.reason, skip.detail
            ));
        }
        Err(_) => return None,
    };
    let most = scene.subject.destination.limits().bytes;
    let played = match scene.play_well(&[item]) {
        Ok(played) => played,
        Err(problem) => return Some(problem),
    };
    if let Some(large) =
        played.requests().find(|request| request.body.len() > most.saturating_add(WRAPPER_BYTES))
    {
        return Some(format!(
            "request {} has {} bytes; the adapter's own cap is {most}. Skip the event with its size in the reason",
            place(large),
            large.body.len(),
        ));
    }
    let was_sent = played.requests().next().is_some();
    let is_unexplained = |verdict: &&Verdict| {
        let says = if was_sent { !verdict.reason.is_empty() } else { names_size(&verdict.reason) };
        verdict.outcome == Outcome::Rejected && !says
    };
    let verdict = played.verdicts().find(is_unexplained);
    verdict.map(|verdict| format!("ended {}; the reason must name the size", described(verdict)))
}

/// Whether a text holds a number that could be the size of something large.
fn names_size(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit() && c != ',').any(|number| number.len() >= 4)
}
