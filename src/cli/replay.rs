//! `fanout replay`: asks the running instance to send retained calls, and shows how far it is.

use std::io::{self, Write};

use fanout_sdk::adapter::Adapter;
use serde_json::{Map, Value, json};

use super::args::{Common, ReplayArguments, ReplayCommand};
use super::remote::{Failure, Remote};
use super::{Ending, block_on, configuration, output};

const PATH: &str = "/api/replay";

/// Starts, lists or cancels.
pub fn run(
    common: &Common,
    built_in: &[Adapter],
    arguments: &ReplayArguments,
    out: &mut dyn Write,
) -> io::Result<Ending> {
    let Some((config, _)) = configuration(common, built_in)? else { return Ok(Ending::Wrong) };
    let asked = async {
        let remote = Remote::new(&config.admin)?;
        let answer = match &arguments.command {
            None => remote.post(PATH, &wish(arguments)).await,
            Some(ReplayCommand::List) => remote.get(PATH).await,
            Some(ReplayCommand::Cancel { id }) => remote.delete(&format!("{PATH}/{id}")).await,
        };
        answer.map_err(Failure::from)
    };
    let answer = match block_on(asked)? {
        Ok(answer) => answer,
        Err(failure) => return Ok(failure.complain()),
    };
    if common.json {
        output::json_line(out, &answer)?;
    } else if let Some(ReplayCommand::List) = arguments.command {
        list(out, &answer)?;
    } else {
        tell(out, &answer)?;
    }
    Ok(Ending::Done)
}

fn wish(arguments: &ReplayArguments) -> Value {
    let texts = [
        ("to", &arguments.to),
        ("since", &arguments.since),
        ("until", &arguments.until),
        ("user", &arguments.user),
        ("rate", &arguments.rate),
    ];
    let given = texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?))));
    let flags = [("all", arguments.all), ("dry_run", arguments.dry_run)];
    let flags = flags.into_iter().map(|(name, flag)| (name.to_owned(), json!(flag)));
    Value::Object(given.chain(flags).collect::<Map<_, _>>())
}

fn list(out: &mut dyn Write, answer: &Value) -> io::Result<()> {
    let replays = answer.get("replays").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if replays.is_empty() {
        return writeln!(out, "no replays");
    }
    let heads = ["ID", "TO", "SINCE", "UNTIL", "STATE", "PENDING", "OUTCOMES"];
    let row = |replay: &Value| {
        ["id", "to", "since", "until", "state", "pending", "outcomes"].map(|name| cell(replay, name))
    };
    output::table(out, heads, &replays.iter().map(row).collect::<Vec<_>>())?;
    for replay in replays {
        let id = cell(replay, "id");
        if let Some(waits) = replay.get("waits").and_then(Value::as_str) {
            writeln!(out, "replay {id} waits: {waits}")?;
        }
        if has_dead(replay) {
            writeln!(out, "replay {id}: `fanout dead-letters list --replay {id}` shows what is dead")?;
        }
    }
    Ok(())
}

/// Whether something of it is dead and kept; with a cancelled one all of it is gone.
fn has_dead(replay: &Value) -> bool {
    let mut outcomes = replay.get("outcomes").and_then(Value::as_object).into_iter().flatten();
    cell(replay, "state") != "cancelled" && outcomes.any(|(name, _)| name.starts_with("dead: "))
}

fn cell(replay: &Value, name: &str) -> String {
    match replay.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(counts)) => {
            let counts = counts.iter().map(|(name, count)| format!("{count} {name}"));
            counts.collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

fn tell(out: &mut dyn Write, answer: &Value) -> io::Result<()> {
    let id = cell(answer, "id");
    if answer.get("dry_run").is_some() {
        writeln!(out, "would send  {}", cell(answer, "would_send"))?;
        for (reason, count) in answer.get("left_out").and_then(Value::as_object).into_iter().flatten() {
            writeln!(out, "left out    {count}  {reason}")?;
        }
    } else if answer.get("removed").is_some() {
        writeln!(out, "replay {id} is off the list")?;
    } else if cell(answer, "state") == "cancelled" {
        writeln!(out, "replay {id} is cancelled: {}", cell(answer, "outcomes"))?;
    } else {
        let (to, pending, rate) = (cell(answer, "to"), cell(answer, "pending"), cell(answer, "rate"));
        writeln!(out, "replay {id} to {to} is under way: at most {pending} calls, {rate}")?;
        writeln!(out, "`fanout replay list` shows how far it is, `fanout replay cancel {id}` ends it")?;
    }
    match answer.get("note").and_then(Value::as_str) {
        Some(note) => writeln!(out, "note: {note}"),
        None => Ok(()),
    }
}
