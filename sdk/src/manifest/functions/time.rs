//! Functions about days, points in time and durations.

use std::borrow::Cow;
use std::time::Duration;

use jiff::civil;
use jiff::tz::TimeZone;

use super::{Arg, text_at};
use crate::event::Date;
use crate::manifest::value::Value;

const MS_PER_DAY: i64 = 86_400_000;

/// Seconds below this are a wait from now, above it a point in time since 1970.
const FIRST_EPOCH: f64 = 1e8;
/// Numbers from here on are milliseconds since 1970, below it seconds.
const FIRST_EPOCH_MS: f64 = 1e11;

/// Milliseconds since 1970, a day at its start.
fn ms(date: Date) -> i64 {
    match date {
        Date::Day(day) => i64::from(day) * MS_PER_DAY,
        Date::Moment(ms) => ms,
    }
}

fn utc(date: Date) -> Option<civil::DateTime> {
    let timestamp = jiff::Timestamp::from_millisecond(ms(date)).ok()?;
    Some(timestamp.to_zoned(TimeZone::UTC).datetime())
}

/// RFC 3339 in UTC, milliseconds only when there are some; a day as a day. `None` outside the years 0 to 9999.
pub(crate) fn iso_text(date: Date) -> Option<String> {
    let at = utc(date).filter(|at| at.year() >= 0)?;
    let day = format!("{:04}-{:02}-{:02}", at.year(), at.month(), at.day());
    let millisecond = at.millisecond();
    Some(match date {
        Date::Day(_) => day,
        Date::Moment(_) => {
            let fraction = if millisecond == 0 { String::new() } else { format!(".{millisecond:03}") };
            format!("{day}T{:02}:{:02}:{:02}{fraction}Z", at.hour(), at.minute(), at.second())
        }
    })
}

/// A text that is RFC 3339 with a zone.
pub(crate) fn moment(text: &str) -> Option<Date> {
    let begins_right = matches!(text.as_bytes(), [_, _, _, _, b'-', _, _, b'-', _, _, b'T' | b't' | b' ', rest @ ..] if rest.len() >= 6);
    if !begins_right {
        return None;
    }
    text.parse::<jiff::Timestamp>().ok().map(|at| Date::Moment(at.as_millisecond()))
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
    iso_text(as_date(&input)?).map(Value::text)
}

pub(super) fn date<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let day = ms(as_date(&input)?).div_euclid(MS_PER_DAY);
    iso_text(Date::Day(i32::try_from(day).ok()?)).map(Value::text)
}

pub(super) fn unix<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    Some(Value::whole(ms(as_date(&input)?).div_euclid(1000)))
}

pub(super) fn unix_ms<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    Some(Value::whole(ms(as_date(&input)?)))
}

pub(super) fn format<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let at = utc(as_date(&input)?)?;
    jiff::fmt::strtime::format(&*text_at(args, 0)?, at).ok().map(Value::text)
}

pub(super) fn time<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let date = match &input {
        Value::Date(date) => *date,
        Value::Number(number) => epoch(number)?,
        Value::Text(text) => from_text(text.trim())?,
        _ => return None,
    };
    Some(Value::Date(date))
}

fn from_text(text: &str) -> Option<Date> {
    if let Some(date) = moment(text) {
        return Some(date);
    }
    if text.len() == 10 && text.contains('-') {
        let day: civil::Date = text.parse().ok()?;
        let ms = day.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
        return i32::try_from(ms / MS_PER_DAY).ok().map(Date::Day);
    }
    epoch(text)
}

/// A number of seconds or milliseconds since 1970.
fn epoch(number: &str) -> Option<Date> {
    let number: f64 = number.parse().ok()?;
    let ms = if number.abs() < FIRST_EPOCH_MS { number * 1000.0 } else { number };
    (ms.is_finite() && ms.abs() < 2.5e14).then_some(Date::Moment(ms as i64))
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
        Ok(_) => epoch(&text).map(|date| ms(date).saturating_sub(now_ms))?,
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

/// Whether a date format can be written for every date.
pub(super) fn is_format(format: &str) -> bool {
    utc(Date::Moment(0)).is_some_and(|at| jiff::fmt::strtime::format(format, at).is_ok())
}
