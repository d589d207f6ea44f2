//! Functions about days, points in time and durations.

use std::borrow::Cow;
use std::time::Duration;

use super::{Arg, text_at};
use crate::dates;
use crate::event::Date;
use crate::manifest::value::Value;

/// Seconds below this are a wait from now, above it a point in time since 1970.
const FIRST_EPOCH: f64 = 1e8;

/// A text that is RFC 3339 with a time and a zone.
#[inline]
pub(crate) fn moment(text: &str) -> Option<Date> {
    let has_time = text.len() >= 20 && matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' '));
    if has_time { with_zone(text) } else { None }
}

fn with_zone(text: &str) -> Option<Date> {
    dates::parse(text).filter(|parsed| !parsed.zone_missing).map(|parsed| parsed.date)
}

fn written<'a>(write: fn(&mut String, Date), date: Date) -> Value<'a> {
    let mut out = String::new();
    write(&mut out, date);
    Value::text(out)
}

fn as_date(input: &Value<'_>) -> Option<Date> {
    match input {
        Value::Date(date) => Some(*date),
        _ => None,
    }
}

pub(super) fn day<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    matches!(input, Value::Date(Date::Day(_))).then_some(input)
}

pub(super) fn iso<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    Some(written(dates::push_iso, as_date(&input)?))
}

pub(super) fn date<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    Some(written(dates::push_date, as_date(&input)?))
}

pub(super) fn unix<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    Some(Value::whole(as_date(&input)?.unix()))
}

pub(super) fn unix_ms<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    Some(Value::whole(as_date(&input)?.unix_ms()))
}

pub(super) fn format<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let mut out = String::new();
    dates::Format::new(&text_at(args, 0)?).ok()?.push(&mut out, as_date(&input)?);
    Some(Value::text(out))
}

pub(super) fn time<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let date = match &input {
        Value::Date(date) => *date,
        Value::Number(number) => dates::parse_number(number)?,
        Value::Text(text) => dates::parse(text)?.date,
        _ => return None,
    };
    Some(Value::Date(date))
}

/// The milliseconds from now until what a vendor names: a number of seconds, a point in time since 1970 in seconds or
/// milliseconds, an HTTP date, or a text such as `30 s`.
pub(super) fn wait<'a>(input: Value<'a>, _args: &[Arg<'a>], now_ms: i64) -> Option<Value<'a>> {
    let text: Cow<'_, str> = match &input {
        Value::Text(text) | Value::Number(text) => Cow::Borrowed(text.trim()),
        _ => return None,
    };
    let ms = match text.parse::<f64>() {
        Ok(number) if !number.is_finite() || number < 0.0 => return None,
        Ok(number) if number < FIRST_EPOCH => (number * 1000.0).ceil() as i64,
        Ok(_) => dates::parse_number(&text)?.unix_ms().saturating_sub(now_ms),
        Err(_) => match duration(&text) {
            Some(duration) => i64::try_from(duration.as_millis()).ok()?,
            None => http_date_ms(&text)?.saturating_sub(now_ms),
        },
    };
    Some(Value::whole(ms.max(0)))
}

fn http_date_ms(text: &str) -> Option<i64> {
    let at = httpdate::parse_http_date(text).ok()?;
    let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// A duration as manifests write it: a whole number and `ms`, `s`, `min`, `h` or `d`, with or without a space.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at_checked(digits)?;
    let count: u64 = count.parse().ok()?;
    let unit_ms: u64 = match unit.trim_start() {
        "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    count.checked_mul(unit_ms).map(Duration::from_millis)
}
