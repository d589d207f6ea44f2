//! Durations, sizes and published rates as people write them: `"10 s"`, `"8 MiB"`, `"100 requests per 10 s"`.

use std::time::Duration;

use crate::destination::{Rate, RateUnit};

/// `"250 ms"`, `"30 s"`, `"1 min"`, `"24 h"`, `"1 d"`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// `"512 B"`, `"499 kB"`, `"8 MiB"`.
pub(crate) fn size(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let bytes = match unit {
        "B" => 1,
        "kB" => 1000,
        "MB" => 1_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    number.checked_mul(bytes).and_then(|bytes| usize::try_from(bytes).ok())
}

/// `"100 requests per 10 s"`, `"5 items per 1 min per user"`.
pub(crate) fn rate(text: &str) -> Option<Rate> {
    let (limit, per) = text.split_once(" per ")?;
    let (count, unit) = split(limit)?;
    let unit = match unit {
        "requests" => RateUnit::Requests,
        "items" => RateUnit::Items,
        "bytes" => RateUnit::Bytes,
        _ => return None,
    };
    let (per, per_user) = per.strip_suffix(" per user").map_or((per, false), |per| (per, true));
    let per = duration(per).filter(|per| !per.is_zero())?;
    (count > 0).then_some(Rate { count, unit, per, per_user })
}

fn split(text: &str) -> Option<(u64, &str)> {
    let (number, unit) = text.trim().split_once(' ')?;
    Some((number.parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_units() {
        for (text, expected) in
            [("30 s", Some(30_000)), ("1 d", Some(86_400_000)), ("1 year", None), ("s", None), ("-1 s", None)]
        {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        }
        for (text, expected) in
            [("499 kB", Some(499_000)), ("8 MiB", Some(8 << 20)), ("8MiB", None), ("1 GB", None)]
        {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn reads_rates() {
        let rate_of = |count, unit, seconds, per_user| {
            Some(Rate { count, unit, per: Duration::from_secs(seconds), per_user })
        };
        for (text, expected) in [
            ("100 requests per 10 s", rate_of(100, RateUnit::Requests, 10, false)),
            ("5 items per 1 min per user", rate_of(5, RateUnit::Items, 60, true)),
            ("0 items per 1 s", None),
            ("5 calls per 1 s", None),
            ("5 items", None),
        ] {
            assert_eq!(rate(text), expected, "{text}");
        }
    }
}
