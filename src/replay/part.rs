//! `/api/replay`: what is asked, in words, to what is done.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Method;
use serde_json::{Map, Value};

use super::{Replays, Wish, words};
use crate::admin::api::{Part, Question, Refusal};

/// What the body of a question may have.
const MEMBERS: [&str; 7] = ["to", "since", "until", "user", "rate", "all", "dry_run"];

#[async_trait]
impl Part for Arc<Replays> {
    fn name(&self) -> &'static str {
        "replay"
    }

    async fn answer(&self, question: Question) -> Result<Value, Refusal> {
        match (&question.method, question.words().as_slice()) {
            (&Method::GET, []) => Ok(self.list()),
            (&Method::POST, []) => {
                let wish = wish(&question.body, self.means.clock.now_ms())?;
                if flag(&question.body, "dry_run")? {
                    self.dry_run(wish).await
                } else {
                    self.start(wish).await
                }
            }
            (&Method::DELETE, [id]) => match id.parse() {
                Ok(id) => self.cancel(id).await,
                Err(_) => {
                    Err(Refusal::wrong(format!("{id} is no replay's number"), "see `fanout replay list`"))
                }
            },
            (_, []) => Err(Refusal::method("GET or POST")),
            (_, [_]) => Err(Refusal::method("DELETE")),
            _ => Err(Refusal::unknown("the admin API has no such path", "see the documentation's list")),
        }
    }
}

fn wish(body: &Map<String, Value>, now_ms: i64) -> Result<Wish, Refusal> {
    if let Some(name) = body.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        return Err(Refusal::wrong(
            format!("{name} is not known here"),
            format!("give some of: {}", MEMBERS.join(", ")),
        ));
    }
    let needed = |name: &str| {
        text(body, name)?.ok_or_else(|| Refusal::wrong(format!("{name} is missing"), format!("give {name}")))
    };
    let to = needed("to")?.to_owned();
    let since_ms = moment("since", needed("since")?, now_ms)?;
    let until_ms = match text(body, "until")? {
        Some(until) => moment("until", until, now_ms)?.min(now_ms),
        None => now_ms,
    };
    if since_ms >= until_ms {
        return Err(Refusal::wrong(
            "there is nothing between since and until",
            "give a since that is before until, and before now",
        ));
    }
    let rate = match text(body, "rate")? {
        None => None,
        Some(rate) => Some(words::rate(rate).ok_or_else(|| {
            Refusal::wrong(format!("{rate:?} is no rate"), "write it as in \"100 per 1 s\"")
        })?),
    };
    let user = text(body, "user")?.map(str::to_owned);
    Ok(Wish { to, since_ms, until_ms, user, rate, all: flag(body, "all")? })
}

fn moment(name: &str, text: &str, now_ms: i64) -> Result<i64, Refusal> {
    words::moment(text, now_ms).ok_or_else(|| {
        Refusal::wrong(
            format!("{name} {text:?} is no time"),
            "write it as 2026-11-22T10:00:00Z, as 2026-11-22, or as how long ago: 2h, 7d",
        )
    })
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refusal::wrong(format!("{name} is no text"), format!("give {name} as a text"))),
    }
}

fn flag(body: &Map<String, Value>, name: &str) -> Result<bool, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(Refusal::wrong(format!("{name} is neither true nor false"), "give true or false")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000;

    fn read(body: &Value) -> Result<Wish, Refusal> {
        wish(body.as_object().unwrap(), NOW_MS)
    }

    #[test]
    fn a_wish_is_read() {
        let read = read(
            &json!({"to": "crm", "since": "2h", "until": "2030-01-01", "rate": "5 per 1 s", "user": "u"}),
        );
        let wish = read.unwrap();
        assert_eq!((wish.since_ms, wish.until_ms), (NOW_MS - 7_200_000, NOW_MS), "not beyond now");
        assert_eq!((wish.to.as_str(), wish.user.as_deref(), wish.all), ("crm", Some("u"), false));
        assert_eq!(wish.rate.map(|(count, _)| count), Some(5));
    }

    #[test]
    fn what_is_wrong_is_said_with_a_remedy() {
        for (body, about) in [
            (json!({"since": "2h"}), "to"),
            (json!({"to": "crm"}), "since"),
            (json!({"to": "crm", "since": "soon"}), "soon"),
            (json!({"to": "crm", "since": "1h", "until": "2h"}), "between"),
            (json!({"to": "crm", "since": "2030-01-01"}), "between"),
            (json!({"to": "crm", "since": "2h", "rate": "fast"}), "fast"),
            (json!({"to": "crm", "since": "2h", "all": 1}), "all"),
            (json!({"to": 5, "since": "2h"}), "to"),
            (json!({"to": "crm", "since": "2h", "users": "u"}), "users"),
        ] {
            let refusal = read(&body).unwrap_err();
            assert!(refusal.message.contains(about) && !refusal.remedy.is_empty(), "{body}: {refusal:?}");
        }
    }
}
