//! Vendors that send back what they were sent. Whatever of it is kept or shown, no secret may be left in it: neither a
//! setting's value nor a token that the vendor gave.

use std::collections::HashMap;

use super::Suite;
use super::calls::{object, quoted, with};
use super::hostile::everything;
use super::scene::{Replay, Scene, place};
use super::shape::cut;
use super::stage::{Played, Reply, new_memory};
use crate::destination::{Answer, Item, Request};
use crate::json::{Doc, Json};
use crate::manifest::written::forms;
use crate::preview::preview;

/// How much of a secret is already too much, in characters.
const TOO_MUCH: usize = 12;
/// Vendors' most usual names for what went wrong.
const USUAL: &[&str] =
    &["error", "message", "detail", "title", "reason", "error_description", "code", "description"];
/// Answers of one golden case are tried in so many forms at most.
const LEAVES: usize = 8;
/// Where the parts of a verdict are cut, less the status in front: a secret may lie across.
const CUTS: &[usize] = &[300, 508];

/// A vendor's answer, made from what it was sent.
type Echo = dyn Fn(&Request) -> Answer + Send + Sync;

/// A secret and the texts by which it is recognised.
#[derive(Clone)]
struct Secret {
    about: String,
    needles: Vec<String>,
}

/// No secret setting in reasons, answers, warnings, skips and previews.
pub(super) fn settings(suite: &Suite<'_>) -> Vec<String> {
    let mut disguised: HashMap<&str, Option<(String, Vec<Secret>)>> = HashMap::new();
    let mut problems = Vec::new();
    for (scene, at) in suite.steps() {
        let found = disguised.entry(&scene.settings).or_insert_with(|| disguise(suite, scene));
        let Some((settings, secrets)) = found else { continue };
        let Ok(scene) = scene.with_settings(suite.adapter.factory, settings) else { continue };
        if at == 0 {
            problems.extend(shown_at_rest(&scene, secrets));
        }
        problems.extend(echoed(suite, &scene, at, secrets));
    }
    problems
}

/// No token of an earlier answer in what is kept of a later one.
pub(super) fn tokens(suite: &Suite<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for (scene, at) in suite.steps() {
        let mut tokens = Vec::new();
        for (position, (_, reply)) in scene.exchanges.iter().enumerate().take(at) {
            let later = scene.exchanges.iter().skip(position + 1);
            let headers: Vec<&str> =
                later.flat_map(|(request, _)| &request.headers).map(|(_, value)| value.as_str()).collect();
            let is_token =
                |text: &String| text.len() >= TOO_MUCH && headers.iter().any(|value| value.contains(text));
            let given = leaves(reply).into_iter().map(|(_, text)| text).filter(is_token);
            tokens.extend(given.map(|text| Secret {
                about: "a token that the vendor gave".to_owned(),
                needles: vec![text],
            }));
        }
        if !tokens.is_empty() {
            problems.extend(echoed(suite, scene, at, &tokens));
        }
    }
    problems
}

/// Warnings and previews.
fn shown_at_rest(scene: &Scene, secrets: &[Secret]) -> Vec<String> {
    let mut shown: Vec<(String, String)> = Vec::new();
    for item in &scene.items {
        shown.extend(item.warnings.iter().map(|warning| ("a warning".to_owned(), warning.about.clone())));
        let requests = previewed(scene, item);
        shown.extend(requests.iter().map(|request| ("the preview".to_owned(), everything(request))));
    }
    let details = scene.calls.iter().filter_map(|call| scene.render(call).err());
    shown.extend(details.map(|skip| ("the detail of a skip".to_owned(), skip.detail)));
    shown
        .iter()
        .filter_map(|(what, text)| Some(format!("{}: {what} {}", scene.file, holding(secrets, text)?)))
        .collect()
}

/// What `fanout preview` shows of an item: without answers, and with those of the case.
fn previewed(scene: &Scene, item: &Item) -> Vec<Request> {
    let answers = scene.exchanges.iter().map(|(_, reply)| reply.clone()).collect();
    let shown = |answers| {
        let (destination, item) = (&*scene.subject.destination, std::slice::from_ref(item));
        preview(destination, item, answers, &scene.clock, false)
    };
    [shown(Vec::new()), shown(answers)].concat()
}

fn holding(secrets: &[Secret], text: &str) -> Option<String> {
    let secret = secrets.iter().find(|secret| secret.needles.iter().any(|needle| text.contains(needle)))?;
    Some(format!("shows {}: {}", secret.about, cut(text, 400)))
}

/// Plays a scene with a vendor that, from one request on, sends everything back in every form.
fn echoed(suite: &Suite<'_>, scene: &Scene, at: usize, secrets: &[Secret]) -> Vec<String> {
    let Some((asked, _)) = scene.exchanges.get(at) else { return Vec::new() };
    let mut echoes: Vec<Box<Echo>> = Vec::new();
    for status in [200, 400, 401, 429] {
        echoes.push(Box::new(move |request| plain(status, everything(request))));
        echoes.push(Box::new(move |request| plain(status, usual(&everything(request)))));
    }
    for cut_at in CUTS {
        for (secret, as_json) in secrets.iter().flat_map(|secret| [(secret, false), (secret, true)]) {
            let needles = secret.needles.clone();
            echoes.push(Box::new(move |request| {
                let text = padded(&everything(request), &needles, *cut_at);
                plain(400, if as_json { usual(&text) } else { text })
            }));
        }
    }
    for (status, body, path) in suite.errors_at(&place(asked)) {
        echoes.push(Box::new(move |request| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            plain(status, replaced(&body, &path, &quoted(&everything(request))))
        }));
    }
    let mut problems = Vec::new();
    for echo in &echoes {
        let mut replay = Replay::new(&scene.exchanges);
        let played = scene.play(&scene.items, &new_memory(), &mut |position, request| {
            if position < at { replay.answer(request) } else { Ok(echo(request)) }
        });
        let leak = played.ok().and_then(|played| leak(&played, secrets));
        problems.extend(leak.map(|leak| format!("{}, request {at} ({}): {leak}", scene.file, place(asked))));
    }
    problems
}

fn leak(played: &Played, secrets: &[Secret]) -> Option<String> {
    played.verdicts().find_map(|verdict| {
        let reason = holding(secrets, &verdict.reason).map(|text| format!("the reason {text}"));
        reason.or_else(|| {
            holding(secrets, &verdict.answer).map(|text| format!("the answer that is kept {text}"))
        })
    })
}

fn plain(status: u16, body: String) -> Answer {
    Answer { status, headers: Vec::new(), body: body.into() }
}

/// A text under all the names that errors usually have.
fn usual(text: &str) -> String {
    let text = quoted(text);
    let mut members: Vec<(String, String)> =
        USUAL.iter().map(|name| ((*name).to_owned(), text.clone())).collect();
    let inner = object(&members);
    members.push(("errors".to_owned(), format!("[{inner}]")));
    members.push(("status".to_owned(), "0".to_owned()));
    object(&members)
}

/// A text in which the first secret begins a little before a place where verdicts are cut.
fn padded(text: &str, needles: &[String], cut_at: usize) -> String {
    let start = needles.iter().filter_map(|needle| text.find(needle.as_str())).min().unwrap_or(0);
    let lead = cut_at.saturating_sub(TOO_MUCH);
    format!("{}{}", "-".repeat(lead), text.get(start..).unwrap_or_default())
}

/// The texts in an answer's JSON, each with its path.
pub(super) fn leaves(reply: &Reply) -> Vec<(Vec<String>, String)> {
    let Ok(answer) = reply else { return Vec::new() };
    let text = String::from_utf8_lossy(&answer.body);
    let mut found = Vec::new();
    if let Ok(doc) = Doc::parse((&*text).into()) {
        leaves_of(doc.root(), &mut Vec::new(), &mut found);
    }
    found.truncate(LEAVES);
    found
}

fn leaves_of(json: Json<'_>, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
    found.extend(json.text().map(|text| (path.clone(), text.into_owned())));
    let elements = json.elements().enumerate().map(|(at, value)| (at.to_string(), value));
    for (key, value) in json.members().map(|(key, value)| (key.into_owned(), value)).chain(elements) {
        path.push(key);
        leaves_of(value, path, found);
        path.pop();
    }
}

/// JSON with the value at a path of keys and positions replaced.
fn replaced(json: &str, path: &[&str], value: &str) -> String {
    let Some((name, rest)) = path.split_first() else { return value.to_owned() };
    let Ok(doc) = Doc::parse(json.into()) else { return json.to_owned() };
    let elements: Vec<&str> = doc.root().elements().map(Json::raw).collect();
    if elements.is_empty() {
        let inner = doc.root().get(name).map(|inner| replaced(inner.raw(), rest, value));
        return with(json, &[name], inner.as_deref());
    }
    let put = |(at, raw): (usize, &&str)| {
        if at.to_string() == **name { replaced(raw, rest, value) } else { (*raw).to_owned() }
    };
    format!("[{}]", elements.iter().enumerate().map(put).collect::<Vec<_>>().join(","))
}

/// The settings with other secrets, such as can be recognised in any form, where the destination takes them.
fn disguise(suite: &Suite<'_>, scene: &Scene) -> Option<(String, Vec<Secret>)> {
    let mut settings = scene.settings.clone();
    let mut secrets = Vec::new();
    for (number, setting) in suite.adapter.settings.iter().enumerate().filter(|(_, setting)| setting.secret) {
        let doc = Doc::parse(settings.as_str().into()).ok()?;
        let Some(value) = doc.root().get(&setting.name) else { continue };
        let about = format!("the setting {}", setting.name);
        let Some(old) = value.text().filter(|_| setting.kind == "secret") else {
            let texts = super::texts_of(value);
            secrets.extend(
                texts.into_iter().map(|text| Secret { about: about.clone(), needles: needles(&text) }),
            );
            continue;
        };
        let plain = format!("Zk{number:02}vQ8xW2jH5nR3tB7yL9pD4mC6");
        let awkward = format!("{plain}\"\\/+&=% '<>");
        let new = [awkward, plain, shaped(&old, number)].into_iter().find_map(|candidate| {
            let changed = with(&settings, &[&setting.name], Some(&quoted(&candidate)));
            let twin = scene.with_settings(suite.adapter.factory, &changed).ok()?;
            is_alike(scene, &twin).then_some((candidate, changed))
        });
        match new {
            Some((text, changed)) => {
                let start: String = text.chars().take(TOO_MUCH).collect();
                let needles = [needles(&text), needles(&start)].concat();
                secrets.push(Secret { about, needles });
                settings = changed;
            }
            None => secrets.push(Secret { about, needles: needles(&old) }),
        }
    }
    (!secrets.is_empty()).then_some((settings, secrets))
}

/// Whether two scenes make the same requests but for what is in them, and end alike.
fn is_alike(one: &Scene, other: &Scene) -> bool {
    let shape = |scene: &Scene| {
        let shapes = scene.exchanges.iter().map(|(request, _)| super::shape::Shape::of(request).headers);
        (scene.flow(), shapes.collect::<Vec<_>>())
    };
    let ends =
        |scene: &Scene| scene.played.verdicts().map(|verdict| verdict.outcome.clone()).collect::<Vec<_>>();
    shape(one) == shape(other) && ends(one) == ends(other)
}

/// The same kind of text: what stands before the last underscore stays, other letters and digits are replaced.
fn shaped(old: &str, number: usize) -> String {
    let start = old.rfind('_').map_or(0, |at| at + 1);
    let (kept, rest) = old.split_at_checked(start).unwrap_or(("", old));
    let other = |(at, c): (usize, char)| {
        let of = |letters: &str| letters.chars().nth((at * 7 + number) % letters.len()).unwrap_or(c);
        match c {
            'a'..='z' => of("qwertzuiopasdfghjklyxcvbnm"),
            'A'..='Z' => of("QWERTZUIOPASDFGHJKLYXCVBNM"),
            '0'..='9' => of("9517362840"),
            c => c,
        }
    };
    format!("{kept}{}", rest.chars().enumerate().map(other).collect::<String>())
}

/// The texts by which a secret is recognised; too short a one could be anything.
fn needles(text: &str) -> Vec<String> {
    if text.chars().count() < 4 { Vec::new() } else { forms(text) }
}
