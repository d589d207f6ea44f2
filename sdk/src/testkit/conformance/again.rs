//! A vendor that took a request but whose answer never came: the second attempt must be one that it can recognise.

use super::Suite;
use super::scene::{Replay, is_fetch, place};
use super::shape::split_url;
use super::stage::{new_memory, play};
use crate::destination::{Item, NoAnswer, Request};

/// How much later the second attempt is made.
const LATER_MS: i64 = 60_000;
/// Headers in whose names one of these stands tell a vendor that it has seen a request before.
const RECOGNISED_BY: &[&str] = &["idempoten", "request-id", "message-id", "webhook-id", "dedup"];

/// Plays every success with a time-out at each request, then sends the same items once more.
pub(super) fn check(suite: &Suite<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for (scene, at) in suite.steps() {
        let memory = new_memory();
        let mut replay = Replay::new(&scene.exchanges);
        let timeout = || Err(NoAnswer::Timeout(std::time::Duration::from_secs(10)));
        let first = scene.play(&scene.items, &memory, &mut |position, request| {
            if position < at { replay.answer(request) } else { timeout() }
        });
        let Ok(first) = first else { continue };
        let Some(sent) = first.send_of(at) else { continue };
        let Some(lost) = sent.requests.get(at - sent.first_request).filter(|request| !is_fetch(request))
        else {
            continue;
        };
        let items: Vec<Item> = sent.items.iter().filter_map(|at| scene.items.get(*at)).cloned().collect();
        let mut replay = Replay::new(&scene.exchanges);
        let clock = scene.clock_at(LATER_MS);
        let mut vendor = |_: usize, request: &Request| replay.answer(request);
        let about = format!("{}, request {at} ({})", scene.file, place(lost));
        match play(&*scene.subject.destination, &items, &clock, &memory, &mut vendor) {
            Ok(second) => {
                let same = second.requests().filter(|request| place(request) == place(lost));
                let differences: Vec<String> = same.map(|request| difference(lost, request)).collect();
                // What the first attempt found out may lead another way; then the vendor decides what it meets.
                let none = second.requests().next().is_none().then(|| "makes no request at all".to_owned());
                let wrong = match differences.iter().all(|difference| !difference.is_empty()) {
                    true => differences.into_iter().next().or(none),
                    false => None,
                };
                problems.extend(wrong.map(|what| {
                    format!(
                        "{about}: after a time-out the vendor may have acted, but the second attempt {what}"
                    )
                }));
            }
            Err(problem) => problems.push(format!("{about}: {problem}")),
        }
    }
    problems
}

/// What keeps a vendor from recognising the second request; empty where it can. Signatures and times may differ.
fn difference(first: &Request, second: &Request) -> String {
    let path = |request: &Request| {
        let (origin, path, _) = split_url(&request.url);
        format!("{} {origin}{path}", request.method)
    };
    if path(first) != path(second) {
        return format!("goes to {} instead of {}", path(second), path(first));
    }
    if first.body != second.body {
        let text = |request: &Request| super::shape::cut(&String::from_utf8_lossy(&request.body), 300);
        return format!("has another body: {} instead of {}", text(second), text(first));
    }
    let keys = |request: &Request| -> Vec<(String, String)> {
        let is_key = |name: &str| RECOGNISED_BY.iter().any(|part| name.to_lowercase().contains(part));
        request.headers.iter().filter(|(name, _)| is_key(name)).cloned().collect()
    };
    if keys(first) != keys(second) {
        return format!("has other headers: {:?} instead of {:?}", keys(second), keys(first));
    }
    String::new()
}
