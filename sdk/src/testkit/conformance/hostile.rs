//! Calls that want more than to be delivered. Browser write keys are public: ids and options are chosen by anyone. A
//! request they get into keeps the shape of a harmless one, no text ends the text around it, and no secret is fetched.

use super::Suite;
use super::calls::{HOSTILE, long_text, object, quoted, with};
use super::scene::{Scene, place};
use super::shape::{Shape, cut, malformed, percent_decoded, split_url};
use crate::destination::Request;
use crate::json::{Doc, Json};

/// Where an id may stand in a call.
const IDS: &[&[&str]] = &[
    &["userId"],
    &["anonymousId"],
    &["messageId"],
    &["traits", "email"],
    &["traits", "company", "id"],
    &["traits", "id"],
    &["traits", "phone"],
];
const HARMLESS: &str = "harmless1";
/// Every so many hostile texts are tried where they cannot reach anything but a JSON body.
const EVERY: usize = 5;

/// Hostile texts wherever a call may say who it is about.
pub(super) fn identities(suite: &Suite<'_>) -> Vec<String> {
    let scenes = suite.settings();
    let of_scene =
        |scene: &&Scene| IDS.iter().flat_map(|path| check_place(suite, scene, path, &[])).collect::<Vec<_>>();
    scenes.iter().flat_map(of_scene).collect()
}

/// Hostile texts in every option that the adapter takes from a call.
pub(super) fn options(suite: &Suite<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for scene in suite.settings() {
        let Some(name) = scene.subject.spellings.first() else { continue };
        for option in &suite.adapter.options {
            let path = ["integrations", name, &option.name];
            problems.extend(check_place(suite, scene, &path, &[option.kind]));
        }
    }
    problems
}

/// Puts every hostile text into one place of a scene's call.
fn check_place(suite: &Suite<'_>, scene: &Scene, path: &[&str], kinds: &[&str]) -> Vec<String> {
    let call = scene.call();
    let quoted_harmless = quoted(HARMLESS);
    let address = quoted(&format!("{HARMLESS}@example.com"));
    let mut harmless: Vec<Request> = scene.exchanges.iter().map(|(request, _)| request.clone()).collect();
    for value in [None, Some(&*quoted_harmless), Some(&address), Some("7"), Some("null")] {
        let values =
            value.map_or_else(|| vec![None], |value| forms(value, kinds).into_iter().map(Some).collect());
        for value in values {
            let requests = sent(scene, &with(call, path, value.as_deref()));
            harmless.extend(requests.unwrap_or_default());
        }
    }
    let settings = Doc::parse(scene.settings.as_str().into()).ok();
    let secrets: Vec<String> = settings.as_ref().map(|doc| suite.secrets(doc.root())).unwrap_or_default();
    let mut texts: Vec<String> = HOSTILE.iter().map(|text| (*text).to_owned()).collect();
    texts.push(long_text(10_000));
    texts.push(quoted(&format!("{}@example.com", "../".repeat(30))));
    texts.extend(
        suite.adapter.settings.iter().map(|setting| quoted(&format!("{{settings.{}}}", setting.name))),
    );
    if !reaches_outside(&harmless) {
        // Inside a JSON body a text cannot do much; a few are enough to see that it stays there.
        texts = texts.into_iter().step_by(EVERY).collect();
    }
    let mut known: Vec<Known> = harmless.iter().map(|known| Known::of(known, &secrets)).collect();
    known.extend(seen_elsewhere(suite, &harmless));
    let judge = Judge { harmless: known, secrets: &secrets };
    let mut problems = Vec::new();
    for value in texts.iter().flat_map(|text| forms(text, kinds)) {
        let about = format!("{}, {} {}", scene.file, path.join("."), cut(&value, 60));
        match sent(scene, &with(call, path, Some(&value))) {
            Ok(requests) => {
                let wrong = requests.iter().find_map(|request| judge.wrong(request, &value));
                problems.extend(wrong.map(|wrong| format!("{about}: {wrong}")));
            }
            Err(problem) => problems.push(format!("{about}: {problem}")),
        }
    }
    problems
}

/// Kinds of requests that only other golden cases show: a hostile id may make a flow take another turn, such as a
/// look-up by address where the id cannot stand in a path. They go where this scene's own requests go.
fn seen_elsewhere(suite: &Suite<'_>, own: &[Request]) -> Vec<Known> {
    let origin = own.first().map(|request| Shape::of(request).origin).unwrap_or_default();
    let all = suite.scenes.iter().flat_map(|scene| &scene.exchanges).map(|(request, _)| request);
    let others = all.filter(|request| !own.iter().any(|own| own.name == request.name));
    let mut found: Vec<Known> = Vec::new();
    for request in others {
        let known = Known::of(request, &[]);
        let known =
            Known { shape: Shape { origin: origin.clone(), ..known.shape }, secrets: usize::MAX, ..known };
        if !found.iter().any(|other| other.name == known.name && other.shape == known.shape) {
            found.push(known);
        }
    }
    found
}

/// Whether what stands in a place of the call shows in urls, headers or bodies that are not JSON.
fn reaches_outside(harmless: &[Request]) -> bool {
    let first =
        |request: &Request| harmless.iter().find(|other| other.name == request.name).map(|other| &*other.url);
    harmless.iter().any(|request| {
        let holds = |text: &str| text.contains(HARMLESS);
        let text = String::from_utf8_lossy(&request.body);
        first(request) != Some(&*request.url)
            || holds(&request.url)
            || request.headers.iter().any(|(_, value)| holds(value))
            || (holds(&text) && Doc::parse((&*text).into()).is_err())
    })
}

/// A text, and where an option takes lists or tables one that holds it.
fn forms(value: &str, kinds: &[&str]) -> Vec<String> {
    let mut forms = vec![value.to_owned()];
    if kinds.contains(&"list") {
        forms.push(format!("[{value}]"));
    }
    if kinds.contains(&"map") && value.starts_with('"') {
        let key =
            Doc::parse(value.into()).ok().and_then(|doc| doc.root().text().map(|text| text.into_owned()));
        forms.push(object(&[
            (key.unwrap_or_default(), value.to_owned()),
            ("cnf".to_owned(), value.to_owned()),
        ]));
    }
    forms
}

/// The requests that a call leads to; none where it is skipped.
fn sent(scene: &Scene, call: &str) -> Result<Vec<Request>, String> {
    match scene.render(call) {
        Ok(item) => scene.play_well(&[item]).map(|played| played.requests().cloned().collect()),
        Err(_) => Ok(Vec::new()),
    }
}

/// What requests are held against.
struct Judge<'j> {
    harmless: Vec<Known>,
    secrets: &'j [String],
}

/// A harmless request, as far as it is compared.
struct Known {
    name: std::sync::Arc<str>,
    shape: Shape,
    secrets: usize,
    texts: Vec<(String, String)>,
}

impl Known {
    fn of(request: &Request, secrets: &[String]) -> Known {
        let (shape, texts) = (Shape::of(request), texts_of(request));
        Known { name: request.name.clone(), shape, secrets: count(request, secrets), texts }
    }
}

/// How often a secret stands in a request.
fn count(request: &Request, secrets: &[String]) -> usize {
    let text = everything(request);
    secrets.iter().map(|secret| text.matches(secret.as_str()).count()).sum()
}

impl Judge<'_> {
    fn wrong(&self, request: &Request, value: &str) -> Option<String> {
        if let Some(wrong) = malformed(request) {
            return Some(wrong);
        }
        let shape = Shape::of(request);
        let like: Vec<&Known> = self.harmless.iter().filter(|known| known.name == request.name).collect();
        if !like.iter().any(|known| known.shape == shape) {
            let Some(known) = like.first().map(|known| &known.shape) else {
                return Some(format!("no golden case shows a request like {}: {shape}", place(request)));
            };
            return Some(format!(
                "the request's shape is {shape}; without the hostile text it is {known}. Encode the value for its place"
            ));
        }
        if count(request, self.secrets) > like.iter().map(|known| known.secrets).max().unwrap_or(0) {
            return Some(format!("a secret came into the request: {}", cut(&request.url, 160)));
        }
        let has_quote = Doc::parse(value.into()).is_ok_and(|doc| holds_quote(doc.root()));
        if !has_quote {
            return None;
        }
        let texts = texts_of(request);
        let broken = like.iter().any(|known| breaks_out(&known.texts, &texts));
        broken.then(|| {
            format!("a quote in the value ends the text of a query: {}", cut(&everything(request), 300))
        })
    }
}

fn holds_quote(json: Json<'_>) -> bool {
    json.text().is_some_and(|text| text.contains(['\'', '"'])) || json.elements().any(holds_quote)
}

pub(super) fn everything(request: &Request) -> String {
    let headers: Vec<String> =
        request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!("{} {} {}", request.url, headers.join(" "), String::from_utf8_lossy(&request.body))
}

/// Whether a text of the harmless request that holds its value in quotes, as query languages do, is one in which the
/// hostile value ends the quotes.
fn breaks_out(harmless: &[(String, String)], hostile: &[(String, String)]) -> bool {
    harmless.iter().zip(hostile).any(|((name, known), (other, text))| {
        name == other
            && ['\'', '"'].iter().any(|quote| {
                let needle = format!("{quote}{HARMLESS}");
                let Some((start, rest)) = known.split_once(&needle) else { return false };
                let Some((_, end)) = rest.split_once(*quote) else { return false };
                let inner = text
                    .strip_prefix(start)
                    .and_then(|text| text.strip_prefix(*quote))
                    .and_then(|text| text.strip_suffix(end))
                    .and_then(|text| text.strip_suffix(*quote));
                inner.is_some_and(|inner| ends_early(inner, *quote))
            })
    })
}

/// Whether a quote stands in a text that is neither escaped by a backslash nor doubled.
fn ends_early(text: &str, quote: char) -> bool {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next().is_none() => return true,
            c if c == quote && chars.next_if_eq(&quote).is_none() => return true,
            _ => {}
        }
    }
    false
}

/// The decoded texts of a query, a form and a JSON body, each with where it stands.
fn texts_of(request: &Request) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    let (_, _, query) = split_url(&request.url);
    let body = String::from_utf8_lossy(&request.body);
    let fields = |pairs: &str, texts: &mut Vec<(String, String)>| {
        for (name, value) in pairs.split('&').filter_map(|pair| pair.split_once('=')) {
            texts.push((name.to_owned(), String::from_utf8_lossy(&percent_decoded(value)).into_owned()));
        }
    };
    fields(query, &mut texts);
    match Doc::parse((&*body).into()) {
        Ok(doc) => texts_in("body", doc.root(), &mut texts),
        Err(_) => fields(&body, &mut texts),
    }
    texts
}

fn texts_in(path: &str, json: Json<'_>, texts: &mut Vec<(String, String)>) {
    texts.extend(json.text().map(|text| (path.to_owned(), text.into_owned())));
    json.members().for_each(|(key, value)| texts_in(&format!("{path}.{key}"), value, texts));
    json.elements().enumerate().for_each(|(at, value)| texts_in(&format!("{path}[{at}]"), value, texts));
}
