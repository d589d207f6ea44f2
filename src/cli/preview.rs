//! `fanout preview`: what each destination would get for one call. It sends nothing.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use fanout_sdk::adapter;
use fanout_sdk::destination::{self, Answer, Clock as _, NoAnswer, Request};
use fanout_sdk::event::{CallType, Event, Warning};
use fanout_sdk::json::Doc;
use fanout_sdk::manifest::Manifest;
use fanout_sdk::names::Names;
use fanout_sdk::normalise::{self, envelope};
use fanout_sdk::problem::nearest;
use fanout_sdk::testkit;
use serde_json::{Value, json};

use super::args::{Common, PreviewArguments};
use super::{Ending, configuration, examples, output};
use crate::clock::SystemClock;
use crate::config::{self, AdapterSet, Config, Destination};
use crate::routing::{self, Decision, Target};

/// What one destination would get.
struct Preview<'a> {
    destination: &'a str,
    adapter: &'a str,
    /// Why it gets nothing; `None` where it gets something.
    skipped: Option<String>,
    warnings: Vec<String>,
    requests: Vec<Request>,
}

/// What all destinations get.
struct Call {
    event: Arc<Event>,
    /// What the vendor is taken to answer.
    answers: Vec<Result<Answer, NoAnswer>>,
}

impl Call {
    fn read(arguments: &PreviewArguments, names: &Names) -> Result<Call, String> {
        let event = read_event(arguments.event.as_deref(), names)?;
        let answers = arguments.responses.as_deref().map(read_responses).transpose()?;
        Ok(Call { event, answers: answers.unwrap_or_default() })
    }
}

/// Shows what would be sent.
pub fn run(
    common: &Common,
    built_in: &[adapter::Adapter],
    arguments: &PreviewArguments,
    out: &mut dyn Write,
) -> io::Result<Ending> {
    let Some((config, _)) = configuration(common, built_in)? else { return Ok(Ending::Wrong) };
    let chosen = match choose(&config, arguments.to.as_deref()) {
        Ok(chosen) => chosen,
        Err(message) => {
            output::complain(&message);
            return Ok(Ending::Wrong);
        }
    };
    let adapters = AdapterSet::open(built_in, config.adapters_dir.as_deref());
    let call = match Call::read(arguments, adapters.paths()) {
        Ok(call) => call,
        Err(message) => {
            output::complain(&message);
            return Ok(Ending::Failed);
        }
    };
    for destination in chosen {
        let preview = preview(&adapters, destination, &call, arguments);
        if common.json {
            write_json(out, &preview)?;
        } else {
            write_text(out, &preview)?;
        }
    }
    if arguments.event.is_none() && !common.json {
        writeln!(
            out,
            "this was the specification's own example call; give one of your own with --event FILE"
        )?;
    }
    Ok(Ending::Done)
}

/// The destinations that were asked for.
fn choose<'c>(config: &'c Config, to: Option<&str>) -> Result<Vec<&'c Destination>, String> {
    let Some(name) = to else { return Ok(config.destinations.iter().collect()) };
    let names = || config.destinations.iter().map(|destination| destination.name.as_str());
    match config.destinations.iter().find(|destination| destination.name == name) {
        Some(destination) => Ok(vec![destination]),
        None => Err(match nearest(name, names()) {
            Some(near) => format!("there is no destination `{name}`; did you mean `{near}`?"),
            None => format!(
                "there is no destination `{name}`; there are: {}",
                names().collect::<Vec<_>>().join(", ")
            ),
        }),
    }
}

/// The call, as ingest would take it.
fn read_event(file: Option<&Path>, names: &Names) -> Result<Arc<Event>, String> {
    let text = match file {
        None => examples::IDENTIFY.to_owned(),
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| format!("cannot read the call: {error}"))?;
            text
        }
        Some(path) => {
            config::read_text(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?
        }
    };
    let refused = |refusal: normalise::Refusal| {
        format!("the call would be refused: {} ({})", refusal.message, refusal.code)
    };
    let body = normalise::read(text.into()).map_err(refused)?;
    if body.root().get("batch").is_some() {
        return Err("this is a batch; give one of its calls".to_owned());
    }
    let call_type = call_type(&body)?;
    let limits = envelope::Limits { event_bytes: usize::MAX, events: 1 };
    let record = envelope::single(body, call_type, limits, &mut || SystemClock.nonce()).map_err(refused)?;
    Event::from_doc(record, SystemClock.now_ms(), names).map(Arc::new).map_err(refused)
}

fn read_responses(file: &Path) -> Result<Vec<Result<Answer, NoAnswer>>, String> {
    let text = config::read_text(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    testkit::read_answers(&text).map_err(|problem| format!("{}: {problem}", file.display()))
}

/// The call's type; an identify where it says none.
fn call_type(body: &Doc) -> Result<CallType, String> {
    match body.root().get("type").and_then(|name| name.text()) {
        None => Ok(CallType::Identify),
        Some(name) => {
            CallType::named(&name).ok_or_else(|| format!("`{name}` is no type of call; use `identify`"))
        }
    }
}

fn preview<'a>(
    adapters: &AdapterSet,
    destination: &'a Destination,
    call: &Call,
    arguments: &PreviewArguments,
) -> Preview<'a> {
    let event = &call.event;
    let mut preview = Preview {
        destination: &destination.name,
        adapter: &destination.adapter,
        skipped: None,
        warnings: event.warnings().iter().map(shown).collect(),
        requests: Vec::new(),
    };
    if !destination.enabled {
        let place = format!("destinations.{}.enabled is false", destination.name);
        preview.skipped = Some(format!("disabled: {place}; set it to true to send calls"));
        return preview;
    }
    if destination.paused {
        preview.warnings.push("paused: calls are kept until the destination goes on".to_owned());
    }
    let Some(adapter) = adapters.get(&destination.adapter) else {
        preview.skipped = Some(format!("settings: there is no adapter `{}`", destination.adapter));
        return preview;
    };
    match adapter.bind(&destination.name, &destination.settings) {
        Ok(vendor) => fill(&mut preview, destination, &adapter.manifest, &*vendor, call, arguments),
        // `load` has judged the settings already; this is for what changed since.
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            preview.skipped = Some(format!("settings: {}", problems.join("; ")));
        }
    }
    preview
}

/// Routes, renders and packs as a lane would.
fn fill(
    preview: &mut Preview<'_>,
    destination: &Destination,
    manifest: &Manifest,
    vendor: &dyn destination::Destination,
    call: &Call,
    arguments: &PreviewArguments,
) {
    let event = &call.event;
    let sources = destination.sources.clone();
    let opt_in = destination.opt_in.unwrap_or(manifest.opt_in());
    let target = Target::new(&destination.name, manifest.name(), manifest.aliases(), opt_in, sources);
    if event.call_type() != CallType::Identify && !manifest.takes_all_calls() {
        preview.skipped = Some(format!("type: {} takes identify calls alone", preview.adapter));
        return;
    }
    let decision = match arguments.source.as_deref() {
        Some(source) => routing::decide(event, source, &target),
        None => routing::by_flags(event.integrations(), &target),
    };
    let options = match decision {
        Decision::On { options, warnings } => {
            preview.warnings.extend(warnings.iter().map(shown));
            options
        }
        Decision::Off { reason, detail, warnings } => {
            preview.warnings.extend(warnings.iter().map(shown));
            preview.skipped = Some(format!("{reason}: {detail}"));
            return;
        }
    };
    match vendor.render(event, options) {
        Ok(item) => {
            preview.warnings.extend(item.warnings.iter().map(shown));
            preview.requests = fanout_sdk::preview::preview(
                vendor,
                &[item],
                call.answers.clone(),
                &SystemClock,
                arguments.show_secrets,
            );
            let (given, used) = (call.answers.len(), preview.requests.len());
            if used < given {
                let unused = format!("responses: {used} of {given} were asked for; the rest was not needed");
                preview.warnings.push(unused);
            }
        }
        Err(skip) => preview.skipped = Some(format!("{}: {}", skip.reason, skip.detail)),
    }
}

fn shown(warning: &Warning) -> String {
    if warning.about.is_empty() {
        warning.kind.to_owned()
    } else {
        format!("{}: {}", warning.kind, warning.about)
    }
}

/// One line. Bodies that are JSON stand in it as they are, so that no number and no order of members changes.
fn write_json(out: &mut dyn Write, preview: &Preview<'_>) -> io::Result<()> {
    let (destination, adapter) = (json!(preview.destination), json!(preview.adapter));
    let outcome = if preview.skipped.is_some() { "skip" } else { "send" };
    write!(out, r#"{{"destination":{destination},"adapter":{adapter},"outcome":"{outcome}""#)?;
    if let Some(reason) = &preview.skipped {
        write!(out, r#","reason":{}"#, json!(reason))?;
    }
    write!(out, r#","warnings":{},"requests":["#, json!(preview.warnings))?;
    for (position, request) in preview.requests.iter().enumerate() {
        let comma = if position == 0 { "" } else { "," };
        let headers: serde_json::Map<String, Value> =
            request.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let (method, url, headers) = (json!(request.method), json!(request.url), Value::Object(headers));
        write!(
            out,
            r#"{comma}{{"method":{method},"url":{url},"headers":{headers},"body":{}}}"#,
            body_json(request)
        )?;
    }
    writeln!(out, "]}}")
}

fn body_json(request: &Request) -> String {
    let text = String::from_utf8_lossy(&request.body);
    if text.is_empty() {
        return "null".to_owned();
    }
    let is_json = !text.contains(['\n', '\r']) && Doc::parse(text.as_ref().into()).is_ok();
    if is_json { text.into_owned() } else { json!(text).to_string() }
}

fn write_text(out: &mut dyn Write, preview: &Preview<'_>) -> io::Result<()> {
    let name = match preview.destination == preview.adapter {
        true => preview.destination.to_owned(),
        false => format!("{} ({})", preview.destination, preview.adapter),
    };
    match &preview.skipped {
        Some(reason) => writeln!(out, "{name}: skipped\n  {reason}")?,
        None => writeln!(out, "{name}: would be sent {}", output::count(preview.requests.len(), "request"))?,
    }
    for request in &preview.requests {
        writeln!(out, "\n  {} {}", request.method, request.url)?;
        for (header, value) in &request.headers {
            writeln!(out, "  {header}: {value}")?;
        }
        let body = String::from_utf8_lossy(&request.body);
        let pretty =
            serde_json::from_str::<Value>(&body).and_then(|value| serde_json::to_string_pretty(&value));
        for line in pretty.unwrap_or_else(|_| body.into_owned()).lines() {
            writeln!(out, "    {line}")?;
        }
    }
    for warning in &preview.warnings {
        writeln!(out, "  warning: {warning}")?;
    }
    writeln!(out)
}
