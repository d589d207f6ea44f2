//! `fanout dead-letters`: list, show, redrive and purge what will not be tried again by itself. Asks the running
//! instance; where none runs, it locks the data directory and answers from there.

use std::io::{self, Write};

use fanout_sdk::adapter::Adapter;
use hyper::Method;
use serde_json::{Value, json};

use super::args::{Common, DeadLettersCommand, LetterFilter};
use super::remote::{Failure, Remote, RemoteError, encoded, with_query};
use super::{Ending, block_on, configuration, output};
use crate::admin::api::Question;
use crate::app;
use crate::config::{AdapterSet, Config};

/// The API's place.
const PATH: &str = "/api/dead-letters";

/// Does what is asked.
pub fn run(
    common: &Common,
    built_in: &[Adapter],
    command: &DeadLettersCommand,
    out: &mut dyn Write,
) -> io::Result<Ending> {
    let Some((config, _)) = configuration(common, built_in)? else { return Ok(Ending::Wrong) };
    let wanted = Wanted::of(command);
    match block_on(answer(&config, built_in, &wanted))? {
        Ok(answer) if common.json => write_json(out, command, &answer).map(|()| Ending::Done),
        Ok(answer) => write_text(out, common, command, &answer),
        Err(failure) => Ok(failure.complain()),
    }
}

/// A question in the API's words.
struct Wanted {
    method: Method,
    words: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Value,
}

impl Wanted {
    fn of(command: &DeadLettersCommand) -> Wanted {
        let nothing = Wanted { method: Method::GET, words: Vec::new(), query: Vec::new(), body: json!({}) };
        match command {
            DeadLettersCommand::List { filter, after } => {
                let after = after.clone().map(|after| ("after", after));
                Wanted { query: pairs(filter).into_iter().chain(after).collect(), ..nothing }
            }
            DeadLettersCommand::Show { id } => Wanted { words: vec![id.clone()], ..nothing },
            DeadLettersCommand::Redrive { ids, filter, all } => {
                let mut body = body(ids, filter);
                if let Some(members) = body.as_object_mut() {
                    members.insert("all".to_owned(), json!(all));
                }
                Wanted { method: Method::POST, words: vec!["redrive".to_owned()], body, ..nothing }
            }
            DeadLettersCommand::Purge { ids, filter } => Wanted {
                method: Method::POST,
                words: vec!["purge".to_owned()],
                body: body(ids, filter),
                ..nothing
            },
        }
    }
}

fn pairs(filter: &LetterFilter) -> Vec<(&'static str, String)> {
    let LetterFilter { destination, replay, reason, user, since, until, limit } = filter;
    let texts = [
        ("destination", destination.clone()),
        ("replay", replay.map(|replay| replay.to_string())),
        ("reason", reason.clone()),
        ("user", user.clone()),
        ("since", since.clone()),
        ("until", until.clone()),
        ("limit", limit.map(|limit| limit.to_string())),
    ];
    texts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn body(ids: &[String], filter: &LetterFilter) -> Value {
    let texts = pairs(filter).into_iter().filter(|(name, _)| *name != "limit");
    let mut body: serde_json::Map<String, Value> =
        texts.map(|(name, value)| (name.to_owned(), json!(value))).collect();
    if let Some(limit) = filter.limit {
        body.insert("limit".to_owned(), json!(limit));
    }
    if !ids.is_empty() {
        body.insert("ids".to_owned(), json!(ids));
    }
    Value::Object(body)
}

/// The running instance's answer, or that of the data directory.
async fn answer(config: &Config, built_in: &[Adapter], wanted: &Wanted) -> Result<Value, Failure> {
    let remote = Remote::new(&config.admin)?;
    let words: String = wanted.words.iter().map(|word| format!("/{}", encoded(word))).collect();
    let query: Vec<_> = wanted.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let path = with_query(&format!("{PATH}{words}"), &query);
    let answer = match wanted.method {
        Method::POST => remote.post(&path, &wanted.body).await,
        _ => remote.get(&path).await,
    };
    if !matches!(answer, Err(RemoteError::NotRunning(_))) {
        return answer.map_err(Failure::from);
    }
    let adapters = AdapterSet::open(built_in, config.adapters_dir.as_deref());
    let letters = app::dead_letters_offline(config, &adapters).map_err(Failure::new)?;
    let question = Question {
        method: wanted.method.clone(),
        path: wanted.words.clone(),
        query: wanted.query.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        body: wanted.body.as_object().cloned().unwrap_or_default(),
    };
    let work = tokio::task::spawn_blocking(move || letters.ask(&question));
    let answer = work.await.map_err(Failure::new)?;
    answer.map_err(|refusal| RemoteError::from(refusal).into())
}

fn write_json(out: &mut dyn Write, command: &DeadLettersCommand, answer: &Value) -> io::Result<()> {
    match (command, answer.get("letters").and_then(Value::as_array)) {
        (DeadLettersCommand::List { .. }, Some(letters)) => {
            letters.iter().try_for_each(|letter| output::json_line(out, letter))
        }
        _ => output::json_line(out, answer),
    }
}

fn write_text(
    out: &mut dyn Write,
    common: &Common,
    command: &DeadLettersCommand,
    answer: &Value,
) -> io::Result<Ending> {
    match command {
        DeadLettersCommand::List { .. } => list(out, answer)?,
        DeadLettersCommand::Show { .. } => show(out, common, answer)?,
        DeadLettersCommand::Redrive { .. } | DeadLettersCommand::Purge { .. } => {
            return count(out, answer);
        }
    }
    Ok(Ending::Done)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or("-")
}

fn list(out: &mut dyn Write, answer: &Value) -> io::Result<()> {
    let letters = answer.get("letters").and_then(Value::as_array);
    let row = |letter: &Value| {
        let [id, died_at, user, reason] =
            ["id", "died_at", "user", "reason"].map(|name| text(letter, name).to_owned());
        [id, destination(letter), died_at, user, reason]
    };
    let rows: Vec<_> = letters.into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        return writeln!(out, "no dead letters");
    }
    output::table(out, ["ID", "DESTINATION", "TIME", "USER", "REASON"], &rows)?;
    match answer.get("next").and_then(Value::as_str) {
        Some(next) => writeln!(out, "there are more: --after {next}"),
        None => Ok(()),
    }
}

/// Its destination, and by which replay it was to go there, if by one.
fn destination(letter: &Value) -> String {
    let name = text(letter, "destination");
    match letter.get("replay").and_then(Value::as_u64) {
        Some(replay) => format!("{name} (replay {replay})"),
        None => name.to_owned(),
    }
}

fn show(out: &mut dyn Write, common: &Common, letter: &Value) -> io::Result<()> {
    let attempts = letter.get("attempts").and_then(Value::as_u64).unwrap_or_default().to_string();
    let reason = match text(letter, "detail") {
        "" | "-" => text(letter, "reason").to_owned(),
        detail => format!("{}: {detail}", text(letter, "reason")),
    };
    let lines = [
        ("id", text(letter, "id").to_owned()),
        ("destination", destination(letter)),
        ("reason", reason),
        ("attempts", attempts),
        ("received", text(letter, "received_at").to_owned()),
        ("first attempt", text(letter, "first_attempt_at").to_owned()),
        ("died", text(letter, "died_at").to_owned()),
        ("source", text(letter, "source").to_owned()),
        ("user", text(letter, "user").to_owned()),
        ("message", text(letter, "message_id").to_owned()),
    ];
    for (name, value) in lines {
        writeln!(out, "{name:<14} {value}")?;
    }
    block(out, "last answer", text(letter, "answer"))?;
    block(out, &format!("request ({})", text(letter, "request_is")), text(letter, "request"))?;
    let call = letter.get("call").filter(|call| !call.is_null());
    let call = call.and_then(|call| serde_json::to_string_pretty(call).ok());
    block(out, "call", call.as_deref().unwrap_or("gone: the journal does not have it any more"))?;
    match letter.get("redrive").and_then(Value::as_str) {
        Some(command) => {
            let file = common.config.display().to_string();
            let config = if file == "fanout.toml" { String::new() } else { format!(" --config {file}") };
            writeln!(out, "\nto send it again:\n  {command}{config}")
        }
        None => writeln!(out, "\nit cannot be sent again; purge it when it is of no use any more"),
    }
}

fn block(out: &mut dyn Write, title: &str, body: &str) -> io::Result<()> {
    writeln!(out, "\n{title}:")?;
    let body = if body.is_empty() { "-" } else { body };
    body.lines().try_for_each(|line| writeln!(out, "  {line}"))
}

/// What was redriven or purged; not all that was meant is a failure.
fn count(out: &mut dyn Write, answer: &Value) -> io::Result<Ending> {
    let number = |name: &str| answer.get(name).and_then(Value::as_u64);
    let matched = number("matched").unwrap_or_default();
    let (word, done) = match number("redriven") {
        Some(done) => ("redriven", done),
        None => ("purged", number("purged").unwrap_or_default()),
    };
    writeln!(out, "{word}: {done} of {matched}")?;
    if done == matched {
        return Ok(Ending::Done);
    }
    let why = "the others are open already, their call is gone, or too many letters are open or replays under way: look \
               again when those have ended";
    writeln!(out, "{}", answer.get("note").and_then(Value::as_str).unwrap_or(why))?;
    Ok(Ending::Failed)
}
