//! Faults of a vendor, one row each: what it answers from some request on, and how an event may then end. Every
//! successful golden case is played once for each of its requests, so that look-ups and tokens meet the fault too.

use std::collections::HashSet;
use std::time::Duration;

use super::Suite;
use super::scene::{Replay, Scene, place};
use super::stage::{Reply, Sent, new_memory, status};
use crate::destination::{Answer, NoAnswer, Outcome, Verdict};

/// One fault.
pub(super) struct Fault {
    pub id: &'static str,
    pub about: &'static str,
    /// What the vendor answers, given the time in milliseconds.
    reply: fn(i64) -> Reply,
    allowed: Allowed,
    /// How long the vendor asks to wait, in a way that every adapter has to understand.
    wait: Option<Duration>,
}

/// How an event may end whose request met the fault.
#[derive(Clone, Copy)]
enum Allowed {
    /// `Retry` or `Throttled`.
    Later,
    /// `Retry` alone.
    Retry,
    /// Anything but rejected or delivered.
    NotLost,
    /// Anything but delivered.
    NotDone,
}

/// Every fault.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        id: "429-seconds",
        about: "429 with Retry-After in seconds: waited for, nothing lost",
        reply: |_| Ok(with_header(429, "retry-after", "17".to_owned())),
        allowed: Allowed::Later,
        wait: Some(Duration::from_secs(17)),
    },
    Fault {
        id: "429-date",
        about: "429 with Retry-After as an HTTP date: waited for, nothing lost",
        reply: |now_ms| Ok(with_header(429, "retry-after", http_date(now_ms + 30_000))),
        allowed: Allowed::Later,
        wait: Some(Duration::from_secs(29)),
    },
    Fault {
        id: "429-reset",
        about: "429 with X-RateLimit-Reset as an epoch: nothing lost",
        reply: |now_ms| Ok(with_header(429, "x-ratelimit-reset", (now_ms / 1000 + 40).to_string())),
        allowed: Allowed::Later,
        wait: None,
    },
    Fault {
        id: "429-empty",
        about: "429 without header and body: nothing lost",
        reply: |_| Ok(status(429)),
        allowed: Allowed::Later,
        wait: None,
    },
    Fault {
        id: "429-html",
        about: "429 with a page in HTML, as a proxy sends it: nothing lost",
        reply: |_| Ok(html(429)),
        allowed: Allowed::Later,
        wait: None,
    },
    Fault {
        id: "timeout",
        about: "no answer in time, the vendor may have acted: tried again",
        reply: |_| Err(NoAnswer::Timeout(Duration::from_secs(10))),
        allowed: Allowed::Retry,
        wait: None,
    },
    Fault {
        id: "connection",
        about: "connection refused or reset: tried again",
        reply: |_| Err(NoAnswer::Connection("connection reset by peer".to_owned())),
        allowed: Allowed::Retry,
        wait: None,
    },
    Fault {
        id: "500",
        about: "500: tried again",
        reply: |_| Ok(html(500)),
        allowed: Allowed::Later,
        wait: None,
    },
    Fault {
        id: "502",
        about: "502: tried again",
        reply: |_| Ok(html(502)),
        allowed: Allowed::Later,
        wait: None,
    },
    Fault {
        id: "503-wait",
        about: "503 with Retry-After: tried again, not before",
        reply: |_| Ok(with_header(503, "retry-after", "23".to_owned())),
        allowed: Allowed::Later,
        wait: Some(Duration::from_secs(23)),
    },
    Fault {
        id: "501",
        about: "501: not counted as delivered",
        reply: |_| Ok(status(501)),
        allowed: Allowed::NotDone,
        wait: None,
    },
    Fault {
        id: "401",
        about: "401: neither delivered nor a dead letter, the credentials may be mended",
        reply: |_| Ok(status(401)),
        allowed: Allowed::NotLost,
        wait: None,
    },
    Fault {
        id: "403",
        about: "403: neither delivered nor a dead letter, the credentials may be mended",
        reply: |_| Ok(status(403)),
        allowed: Allowed::NotLost,
        wait: None,
    },
];

fn with_header(code: u16, name: &str, value: String) -> Answer {
    let body = format!("{{\"error\":\"answer {code}\"}}").into();
    Answer { headers: vec![(name.to_owned(), value)], body, ..status(code) }
}

fn html(code: u16) -> Answer {
    let body = format!("<html><head><title>{code}</title></head><body><h1>{code}</h1></body></html>");
    Answer {
        headers: vec![("content-type".to_owned(), "text/html".to_owned())],
        body: body.into(),
        ..status(code)
    }
}

fn http_date(ms: i64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    httpdate::fmt_http_date(at)
}

/// Plays every success with this fault, from each request on.
pub(super) fn check(suite: &Suite<'_>, fault: &Fault) -> Vec<String> {
    let excused = excused(suite);
    let mut problems = Vec::new();
    for (scene, at) in suite.steps() {
        let from = scene.exchanges.get(at).map(|(request, _)| place(request)).unwrap_or_default();
        if excused.contains(&from) {
            continue;
        }
        let mut replay = Replay::new(&scene.exchanges);
        let played = scene.play(&scene.items, &new_memory(), &mut |position, request| {
            if position < at { replay.answer(request) } else { (fault.reply)(scene.clock.now_ms) }
        });
        let about = format!("{}, request {at} ({from})", scene.file);
        match played {
            Ok(played) => problems.extend(
                played
                    .send_of(at)
                    .and_then(|sent| judge(fault, sent, at))
                    .map(|what| format!("{about}: {what}")),
            ),
            Err(problem) => problems.push(format!("{about}: {problem}")),
        }
    }
    problems
}

/// Requests whose failure is not the delivery's, as golden cases show: the last one of its kind failed, and the event
/// was delivered.
fn excused(suite: &Suite<'_>) -> HashSet<String> {
    let mut excused = HashSet::new();
    for scene in suite.scenes.iter().filter(|scene| scene.is_success()) {
        for (at, (request, reply)) in scene.exchanges.iter().enumerate() {
            let failed = match reply {
                Ok(answer) => matches!(answer.status, 401 | 403 | 429 | 500..),
                Err(_) => true,
            };
            let mut later = scene.exchanges.iter().skip(at + 1);
            if failed && !later.any(|(other, _)| place(other) == place(request)) {
                excused.insert(place(request));
            }
        }
    }
    excused
}

/// What is wrong with how the items of the `send` ended that met the fault at a request.
fn judge(fault: &Fault, sent: &Sent, at: usize) -> Option<String> {
    // A batch's first part may have gone through before the fault; a single item cannot have.
    let may_be_done = at > sent.first_request && sent.items.len() > 1;
    let is_done = |verdict: &&Verdict| matches!(verdict.outcome, Outcome::Delivered | Outcome::Submitted);
    let done = sent.verdicts.iter().filter(is_done).count();
    if done > 0 && (!may_be_done || done == sent.items.len()) {
        return Some(format!("{done} of {} items count as delivered", sent.items.len()));
    }
    sent.verdicts.iter().filter(|verdict| !is_done(verdict)).find_map(|verdict| {
        if !is_allowed(fault.allowed, &verdict.outcome) {
            let wanted = match fault.allowed {
                Allowed::Later => "retry or throttled",
                Allowed::Retry => "retry",
                Allowed::NotLost => "unauthorised, retry or throttled",
                Allowed::NotDone => "anything but delivered",
            };
            return Some(format!("ended {}; wanted {wanted}", described(verdict)));
        }
        let waited = match verdict.outcome {
            Outcome::Retry { after } | Outcome::Throttled { after, .. } => after,
            _ => return None,
        };
        fault.wait.filter(|wait| waited.is_none_or(|waited| waited < *wait)).map(|wait| {
            format!("ended {}; the vendor asked to wait {} s", described(verdict), wait.as_secs())
        })
    })
}

fn is_allowed(allowed: Allowed, outcome: &Outcome) -> bool {
    match allowed {
        Allowed::Later => matches!(outcome, Outcome::Retry { .. } | Outcome::Throttled { .. }),
        Allowed::Retry => matches!(outcome, Outcome::Retry { .. }),
        Allowed::NotLost => !matches!(outcome, Outcome::Rejected),
        Allowed::NotDone => true,
    }
}

/// A verdict for people.
pub(super) fn described(verdict: &Verdict) -> String {
    format!("as {:?}, reason {:?}", verdict.outcome, super::shape::cut(&verdict.reason, 160))
}

/// The first scene of every flow that is a success, with the position of each of its requests.
pub(super) fn steps(scenes: &[Scene]) -> Vec<(&Scene, usize)> {
    let mut seen = HashSet::new();
    let mut steps = Vec::new();
    for scene in scenes.iter().filter(|scene| scene.is_success()) {
        let sizes: Vec<usize> = scene.played.sends.iter().map(|sent| sent.items.len()).collect();
        if seen.insert((&scene.settings, scene.flow(), sizes)) {
            steps.extend((0..scene.exchanges.len()).map(|at| (scene, at)));
        }
    }
    steps
}
