//! How people write the times and rates of a replay. Pure.

use std::time::Duration;

use fanout_sdk::dates;
use fanout_sdk::event::Date;

use crate::config::values::parse_duration;

/// A time as `2026-11-22T10:00:00Z`, a day as `2026-11-22` (its start, in UTC), or how long ago as `2h` or `7d`:
/// milliseconds since 1970.
pub fn moment(text: &str, now_ms: i64) -> Option<i64> {
    if let Some(ago) = parse_duration(text) {
        return Some(now_ms.saturating_sub(i64::try_from(ago.as_millis()).ok()?));
    }
    // An epoch would be read too, but nobody writes one for what a day means.
    let is_date = text.trim().get(4..5) == Some("-");
    is_date.then(|| dates::parse(text)).flatten().map(|parsed| parsed.date.unix_ms())
}

/// A time as [`moment`] reads it.
pub fn show(ms: i64) -> String {
    let mut text = String::new();
    dates::push_iso_ms(&mut text, Date::Moment(ms));
    text
}

/// A rate such as `100 per 1 s`: how many, and in which time.
pub fn rate(text: &str) -> Option<(u64, Duration)> {
    let (count, per) = text.split_once(" per ")?;
    let count = count.trim().parse().ok().filter(|count| (1..=1_000_000).contains(count))?;
    let per = parse_duration(per).filter(|per| !per.is_zero() && *per <= Duration::from_secs(86_400))?;
    Some((count, per))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now_ms = 1_790_000_000_000;
        for (text, expected) in [
            ("2h", Some(now_ms - 7_200_000)),
            ("7 d", Some(now_ms - 7 * 86_400_000)),
            ("0s", Some(now_ms)),
            ("2026-09-21", Some(1_789_948_800_000)),
            ("2026-09-21T01:00:00+01:00", Some(1_789_948_800_000)),
            ("2026-09-21 00:00:01", Some(1_789_948_801_000)),
            ("yesterday", None),
            ("1790000000", None),
            ("2026-13-01", None),
            ("", None),
        ] {
            assert_eq!(moment(text, now_ms), expected, "{text}");
        }
        assert_eq!(moment(&show(now_ms), 0), Some(now_ms));
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, expected) in [
            ("100 per 1 s", Some((100, 1000))),
            ("5 per 2min", Some((5, 120_000))),
            ("0 per 1 s", None),
            ("5 per 0 s", None),
            ("5 per 2 d", None),
            ("5/s", None),
            ("x per 1 s", None),
        ] {
            let read = rate(text).map(|(count, per)| (count, per.as_millis()));
            assert_eq!(read, expected, "{text}");
        }
    }
}
