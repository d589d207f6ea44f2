//! Whatever a vendor answers, `send` ends, gives one verdict an item, and explains every failure shortly. The answers
//! are drawn by a generator with a fixed seed, so that a failure comes back.

use super::Suite;
use super::scene::{Replay, Scene};
use super::stage::{Reply, new_memory};
use crate::destination::{Answer, NoAnswer, Outcome, Verdict};

/// How often each flow is played.
const ROUNDS: u64 = 64;
const MAX_REASON_CHARS: usize = 300;
const MAX_ANSWER_BYTES: usize = 512;
const STATUSES: &[u16] = &[
    100, 200, 200, 200, 201, 202, 204, 207, 301, 302, 304, 400, 400, 401, 403, 404, 404, 405, 408, 409, 410,
    412, 413, 415, 422, 423, 425, 429, 451, 500, 501, 502, 503, 504, 505, 520, 599, 0, 999,
];
const BODIES: &[&str] = &[
    "",
    "{}",
    "[]",
    "null",
    "0",
    "\"text\"",
    "<html></html>",
    "{\"errors\":[{\"index\":99,\"message\":\"no such item\"}]}",
    "{\"errors\":{\"0\":null,\"-1\":[]},\"error\":{\"message\":[1]},\"status\":0,\"results\":[null]}",
    "{\"id\":null,\"data\":[],\"success\":false,\"failed_records\":[{\"index\":-1},{\"index\":1e99},{}]}",
    "{\"id\":{\"id\":[]},\"data\":[{\"id\":\"../..\"}],\"access_token\":\"a\\r\\nb\",\"expires_in\":-5}",
    "\u{feff}{\"a\":1}",
];
const WAITS: &[&str] =
    &["0", "-5", "1e400", "99999999999999999999", "soon", "", "NaN", "Wed, 21 Oct 2015 07:28:00 GMT", "3.7"];

/// Plays every flow again and again with answers that nobody expects.
pub(super) fn check(suite: &Suite<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut flows: Vec<&Scene> =
        suite.steps().into_iter().filter(|(_, at)| *at == 0).map(|(scene, _)| scene).collect();
    flows.dedup_by_key(|scene| &scene.file);
    for scene in flows {
        let found = (0..ROUNDS).find_map(|round| {
            let mut dice = Dice(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let mut answers = Vec::new();
            // In the first rounds the vendor is stuck with one status, as what loops would not survive.
            let stuck = usize::try_from(round).ok().and_then(|round| STATUSES.get(round));
            let stuck = stuck
                .map(|status| answer(&mut dice, scene).map(|answer| Answer { status: *status, ..answer }));
            let mut replay = Replay::new(&scene.exchanges);
            // Else a flow of several requests would hardly get beyond its first.
            let well = dice.below(scene.exchanges.len());
            let played = scene.play(&scene.items, &new_memory(), &mut |at, request| {
                if at < well {
                    return replay.answer(request);
                }
                let reply = match &stuck {
                    Some(reply) => reply.clone(),
                    None => answer(&mut dice, scene),
                };
                answers.push(describe(&reply));
                reply
            });
            let wrong = match played {
                Ok(played) => played.verdicts().find_map(wrong),
                Err(problem) => Some(problem),
            };
            wrong.map(|wrong| {
                let last = answers.iter().rev().take(3).rev().cloned().collect::<Vec<_>>();
                format!("{}: {wrong}; the last answers were: {}", scene.file, last.join(", "))
            })
        });
        problems.extend(found);
    }
    problems
}

fn wrong(verdict: &Verdict) -> Option<String> {
    let failed = !matches!(verdict.outcome, Outcome::Delivered | Outcome::Submitted);
    if failed && verdict.reason.is_empty() {
        return Some(format!("ended as {:?} without a reason", verdict.outcome));
    }
    if verdict.reason.chars().count() > MAX_REASON_CHARS {
        return Some(format!("the reason has more than {MAX_REASON_CHARS} characters"));
    }
    (verdict.answer.len() > MAX_ANSWER_BYTES)
        .then(|| format!("the answer that is kept has more than {MAX_ANSWER_BYTES} bytes"))
}

fn describe(reply: &Reply) -> String {
    match reply {
        Ok(answer) => {
            let body = super::shape::cut(&String::from_utf8_lossy(&answer.body), 80);
            format!("{} {:?} {body:?}", answer.status, answer.headers)
        }
        Err(error) => error.to_string(),
    }
}

/// A sequence of numbers that only looks like chance (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap_or(0) % most.max(1)
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let at = self.below(all.len());
        all.get(at)
    }
}

/// A random answer: now and then one of the case's own, whole or cut or with a byte changed.
fn answer(dice: &mut Dice, scene: &Scene) -> Reply {
    if dice.below(12) == 0 {
        return Err(NoAnswer::Connection("broken pipe".to_owned()));
    }
    let known = dice.of(&scene.exchanges).and_then(|(_, reply)| reply.clone().ok()).unwrap_or_default();
    let mut body: Vec<u8> = match dice.below(8) {
        0 => (0..dice.below(200)).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect(),
        1 => known.body.iter().take(dice.below(known.body.len() + 1)).copied().collect(),
        2 | 3 => {
            let mut body = known.body.to_vec();
            let at = dice.below(body.len());
            if let Some(byte) = body.get_mut(at) {
                *byte = u8::try_from(dice.below(128)).unwrap_or(0);
            }
            body
        }
        4 => known.body.to_vec(),
        _ => dice.of(BODIES).copied().unwrap_or_default().as_bytes().to_vec(),
    };
    match dice.below(60) {
        0 => body.resize(1 << 20, b'x'),
        1 => body = "[".repeat(5_000).into(),
        2 => body = format!("{}1{}", "{\"error\":[".repeat(50), "]}".repeat(50)).into(),
        _ => {}
    }
    let status = if dice.below(3) == 0 { known.status } else { dice.of(STATUSES).copied().unwrap_or(200) };
    let wait = |dice: &mut Dice| dice.of(WAITS).copied().unwrap_or_default().to_owned();
    let names = ["retry-after", "x-ratelimit-reset", "ratelimit-reset", "location"];
    let headers = match dice.below(2) {
        0 => Vec::new(),
        _ => names.iter().map(|name| ((*name).to_owned(), wait(dice))).collect(),
    };
    Ok(Answer { status, headers, body: body.into() })
}
