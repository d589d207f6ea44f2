//! Dates: reads every form in which applications send them, and writes the forms that vendors ask for.
//! It has no clock and knows no time zones but offsets: whatever has none is taken as UTC.

use crate::event::Date;

/// The first millisecond of the year 0000.
pub const MIN_MS: i64 = -62_167_219_200_000;
/// The last millisecond of the year 9999.
pub const MAX_MS: i64 = 253_402_300_799_999;

const DAY_MS: i64 = 86_400_000;
/// Numbers below it are seconds, others milliseconds: the year 2970 in seconds, 1971 in milliseconds.
const SECONDS_BELOW: f64 = 31_557_600_000.0;

/// A date that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The day or the moment.
    pub date: Date,
    /// It has a time and no zone, so UTC was assumed.
    pub zone_missing: bool,
}

impl Date {
    /// Milliseconds since 1970; midnight UTC of a day.
    pub fn unix_ms(self) -> i64 {
        match self {
            Date::Day(day) => i64::from(day) * DAY_MS,
            Date::Moment(ms) => ms,
        }
    }

    /// Whole seconds since 1970, rounded down; midnight UTC of a day.
    pub fn unix(self) -> i64 {
        self.unix_ms().div_euclid(1000)
    }
}

/// Reads a date from a text: `YYYY-MM-DD` or `YYYYMMDD` (a day), RFC 3339 with any fraction, with a space for the `T`,
/// with `Z`, `±hh:mm`, `±hhmm`, `±hh` or no zone, or an epoch of 9 to 14 digits (see [`parse_number`]).
///
/// A leap second is the next minute's first, `24:00` the next day's start. `None` for anything else: a year alone, day
/// and month the other way round, a day that no calendar has, a year beyond 9999.
pub fn parse(text: &str) -> Option<Parsed> {
    let text = text.trim();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return match (text.len(), digits.len()) {
            (8, 8) => {
                let mut reader = Reader(text.as_bytes());
                let day = day(reader.number(4)?, reader.number(2)?, reader.number(2)?)?;
                Some(Parsed { date: Date::Day(day), zone_missing: false })
            }
            (_, 9..=14) => parse_number(text).map(|date| Parsed { date, zone_missing: false }),
            _ => None,
        };
    }
    let mut reader = Reader(text.as_bytes());
    let year = reader.number(4)?;
    reader.byte(b"-")?;
    let month = reader.number(2)?;
    reader.byte(b"-")?;
    let day = day(year, month, reader.number(2)?)?;
    if reader.0.is_empty() {
        return Some(Parsed { date: Date::Day(day), zone_missing: false });
    }
    reader.byte(b"Tt ")?;
    let time = reader.time()?;
    let offset = reader.zone()?;
    let ms = i64::from(day) * DAY_MS + time - offset.unwrap_or(0);
    let date = moment(ms)?;
    Some(Parsed { date, zone_missing: offset.is_none() })
}

/// Reads an epoch as JSON or digits write it: seconds below 31,557,600,000 (the year 2970), else milliseconds;
/// fractions are kept to the millisecond.
pub fn parse_number(number: &str) -> Option<Date> {
    let value: f64 = number.parse().ok()?;
    let ms = if value.abs() < SECONDS_BELOW { value * 1000.0 } else { value };
    if !ms.is_finite() {
        return None;
    }
    // Exact: f64 holds every millisecond of the years 0 to 9999.
    moment(ms.round() as i64)
}

fn moment(ms: i64) -> Option<Date> {
    (MIN_MS..=MAX_MS).contains(&ms).then_some(Date::Moment(ms))
}

/// Days since 1970-01-01 of a day that the calendar has.
fn day(year: i64, month: i64, day: i64) -> Option<i32> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Counted from 0000-03-01, so that the leap day is a year's last.
    let from_march = (month + 9) % 12;
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        head.iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
    }

    fn byte(&mut self, any_of: &[u8]) -> Option<()> {
        let (head, rest) = self.0.split_first()?;
        self.0 = rest;
        any_of.contains(head).then_some(())
    }

    fn accept(&mut self, any_of: &[u8]) -> bool {
        let is_next = self.0.first().is_some_and(|byte| any_of.contains(byte));
        if is_next {
            self.0 = self.0.get(1..).unwrap_or_default();
        }
        is_next
    }

    /// `hh:mm`, `hh:mm:ss` or `hh:mm:ss.fraction`, in milliseconds.
    fn time(&mut self) -> Option<i64> {
        let hours = self.number(2)?;
        self.byte(b":")?;
        let minutes = self.number(2)?;
        let mut seconds = 0;
        let mut ms = 0;
        if self.accept(b":") {
            seconds = self.number(2)?;
            if self.accept(b".,") {
                ms = self.fraction()?;
            }
        }
        let is_end_of_day = hours == 24 && minutes == 0 && seconds == 0 && ms == 0;
        if (hours > 23 && !is_end_of_day) || minutes > 59 || seconds > 60 {
            return None;
        }
        if seconds == 60 {
            ms = 0;
        }
        Some(((hours * 60 + minutes) * 60 + seconds) * 1000 + ms)
    }

    fn fraction(&mut self) -> Option<i64> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        let ms = (0..3).fold(0, |ms, at| ms * 10 + i64::from(fraction.get(at).map_or(0, |byte| byte - b'0')));
        (digits > 0).then_some(ms)
    }

    /// The offset in milliseconds; `Some(None)` where there is none.
    fn zone(&mut self) -> Option<Option<i64>> {
        if self.0.is_empty() {
            return Some(None);
        }
        self.accept(b" ");
        if matches!(self.0, b"Z" | b"z" | b"UTC" | b"GMT") {
            return Some(Some(0));
        }
        let sign = if self.accept(b"+") {
            1
        } else {
            self.byte(b"-")?;
            -1
        };
        let hours = self.number(2)?;
        let mut minutes = 0;
        if !self.0.is_empty() {
            self.accept(b":");
            minutes = self.number(2)?;
        }
        (hours < 24 && minutes < 60 && self.0.is_empty())
            .then_some(Some(sign * (hours * 60 + minutes) * 60_000))
    }
}

/// A moment in parts, UTC.
struct Parts {
    year: i64,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    ms: u32,
    /// Days since 1970-01-01.
    days: i64,
}

/// The parts of a date; one beyond the years 0000 to 9999 is taken as the nearest inside.
fn parts(date: Date) -> Parts {
    let ms = date.unix_ms().clamp(MIN_MS, MAX_MS);
    let days = ms.div_euclid(DAY_MS);
    let in_day = ms.rem_euclid(DAY_MS);
    let since = days + 719_468;
    let era = since.div_euclid(146_097);
    let day_of_era = since.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    Parts {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month: month as u32,
        day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u32,
        hour: (in_day / 3_600_000) as u32,
        minute: (in_day / 60_000 % 60) as u32,
        second: (in_day / 1000 % 60) as u32,
        ms: (in_day % 1000) as u32,
        days,
    }
}

/// Writes a number with leading zeros.
fn push_number(out: &mut String, number: u32, digits: u32) {
    let digit = |number: u32| char::from(b'0' + (number % 10) as u8);
    if digits > 2 {
        push_number(out, number / 100, digits - 2);
    }
    if digits > 1 {
        out.push(digit(number / 10));
    }
    out.push(digit(number));
}

fn push_day(out: &mut String, parts: &Parts) {
    push_number(out, parts.year as u32, 4);
    out.push('-');
    push_number(out, parts.month, 2);
    out.push('-');
    push_number(out, parts.day, 2);
}

fn push_moment(out: &mut String, parts: &Parts, with_ms: bool) {
    push_day(out, parts);
    out.push('T');
    push_number(out, parts.hour, 2);
    out.push(':');
    push_number(out, parts.minute, 2);
    out.push(':');
    push_number(out, parts.second, 2);
    if with_ms {
        out.push('.');
        push_number(out, parts.ms, 3);
    }
    out.push('Z');
}

/// Writes `2024-05-02T10:15:30Z`, milliseconds only when they are not zero; a day as `2024-05-02`.
pub fn push_iso(out: &mut String, date: Date) {
    let parts = parts(date);
    match date {
        Date::Day(_) => push_day(out, &parts),
        Date::Moment(_) => push_moment(out, &parts, parts.ms != 0),
    }
}

/// Writes `2024-05-02T10:15:30.000Z`, always with milliseconds; a day as `2024-05-02`.
pub fn push_iso_ms(out: &mut String, date: Date) {
    let parts = parts(date);
    match date {
        Date::Day(_) => push_day(out, &parts),
        Date::Moment(_) => push_moment(out, &parts, true),
    }
}

/// Writes the day alone, in UTC: `2024-05-02`.
pub fn push_date(out: &mut String, date: Date) {
    push_day(out, &parts(date));
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A date format in the style of strftime, read once. `%Y %m %d %H %M %S` as usual, `%y` the year's last two digits,
/// `%e` the day without leading zero, `%j` the day of the year, `%b %B` the English month, `%a %A` the weekday, `%L`
/// milliseconds, `%s` unix seconds, `%%` a per cent sign. Always UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Part(char),
}

impl Format {
    /// Reads a format; the error says which specifier is unknown.
    pub fn new(pattern: &str) -> Result<Format, String> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut chars = pattern.chars();
        while let Some(next) = chars.next() {
            if next != '%' {
                text.push(next);
                continue;
            }
            match chars.next() {
                Some('%') => text.push('%'),
                Some(part) if "YymdeHMSLjbBaAs".contains(part) => {
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    pieces.push(Piece::Part(part));
                }
                Some(other) => return Err(format!("unknown date specifier `%{other}`")),
                None => return Err("a date format ends in `%`".to_owned()),
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Format(pieces))
    }

    /// Writes a date.
    pub fn push(&self, out: &mut String, date: Date) {
        let parts = parts(date);
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Part(part) => push_part(out, &parts, date, *part),
            }
        }
    }
}

fn push_part(out: &mut String, parts: &Parts, date: Date, part: char) {
    let month = || MONTHS.get(parts.month as usize - 1).copied().unwrap_or_default();
    let weekday = || WEEKDAYS.get((parts.days + 4).rem_euclid(7) as usize).copied().unwrap_or_default();
    match part {
        'Y' => push_number(out, parts.year as u32, 4),
        'y' => push_number(out, parts.year as u32 % 100, 2),
        'm' => push_number(out, parts.month, 2),
        'd' => push_number(out, parts.day, 2),
        'e' => push_number(out, parts.day, 1 + u32::from(parts.day > 9)),
        'H' => push_number(out, parts.hour, 2),
        'M' => push_number(out, parts.minute, 2),
        'S' => push_number(out, parts.second, 2),
        'L' => push_number(out, parts.ms, 3),
        'j' => {
            let new_year = day(parts.year, 1, 1).map_or(parts.days, i64::from);
            push_number(out, (parts.days - new_year + 1) as u32, 3);
        }
        'b' => out.push_str(month().get(..3).unwrap_or_default()),
        'B' => out.push_str(month()),
        'a' => out.push_str(weekday().get(..3).unwrap_or_default()),
        'A' => out.push_str(weekday()),
        _ => out.push_str(&date.unix().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn iso(text: &str) -> Option<String> {
        parse(text).map(|parsed| {
            let mut out = String::new();
            push_iso_ms(&mut out, parsed.date);
            out
        })
    }

    #[test]
    fn reads_every_form() {
        for (text, expected) in [
            ("2020-01-01", "2020-01-01"),
            ("20200101", "2020-01-01"),
            ("2020-02-29", "2020-02-29"),
            ("2020-01-01T00:00:00+02:00", "2019-12-31T22:00:00.000Z"),
            ("2020-01-01T00:00:00+0530", "2019-12-31T18:30:00.000Z"),
            ("2020-01-01T00:00:00-08", "2020-01-01T08:00:00.000Z"),
            ("2020-01-01 00:00:00", "2020-01-01T00:00:00.000Z"),
            ("2020-01-01 00:00:00 +0100", "2019-12-31T23:00:00.000Z"),
            ("2020-01-01 00:00:00 UTC", "2020-01-01T00:00:00.000Z"),
            ("2020-01-01T00:00Z", "2020-01-01T00:00:00.000Z"),
            ("2020-01-01t00:00:00.1z", "2020-01-01T00:00:00.100Z"),
            ("2020-01-01T00:00:00.123456Z", "2020-01-01T00:00:00.123Z"),
            ("2020-01-01T00:00:00,123456789+05:30", "2019-12-31T18:30:00.123Z"),
            ("1577836800", "2020-01-01T00:00:00.000Z"),
            ("1577836800000", "2020-01-01T00:00:00.000Z"),
            ("-1577836800", "1920-01-02T00:00:00.000Z"),
            (" 2020-01-01 ", "2020-01-01"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"),
            ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.000Z"),
            ("2016-12-31T24:00:00Z", "2017-01-01T00:00:00.000Z"),
            ("0000-01-01", "0000-01-01"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_date_or_could_be_two() {
        for text in [
            "",
            " ",
            "2020",
            "2020-01",
            "2020-13-45",
            "2020-02-30",
            "2021-02-29",
            "1900-02-29",
            "01/02/2020",
            "not a date",
            "2020-01-01T",
            "2020-01-01T25:00:00Z",
            "2020-01-01T24:00:01Z",
            "2020-01-01T00:60:00Z",
            "2020-01-01T00:00:61Z",
            "2020-01-01T00:00:00.Z",
            "2020-01-01T00:00:00+25:00",
            "2020-01-01T00:00:00+02:0",
            "2020-01-01T00:00:00 CET",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:60Z",
            "+2020-01-01",
            "20-01-01",
            "0",
            "-",
            "20201301",
            "2020-01-01T00:00:00ZZ",
            "1577836800000000000",
        ] {
            assert_eq!(iso(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_seconds_or_milliseconds() {
        for (number, ms) in [
            ("0", Some(0)),
            ("1577836800", Some(1_577_836_800_000)),
            ("1577836800.25", Some(1_577_836_800_250)),
            ("1577836800000", Some(1_577_836_800_000)),
            ("1.5778368e9", Some(1_577_836_800_000)),
            ("-1", Some(-1000)),
            ("1e300", None),
            ("1e999", None),
            ("999999999999999", None),
        ] {
            assert_eq!(parse_number(number), ms.map(Date::Moment), "{number}");
        }
    }

    #[test]
    fn says_whether_the_zone_is_missing() {
        assert!(parse("2020-01-01T00:00:00").unwrap().zone_missing);
        assert!(!parse("2020-01-01T00:00:00Z").unwrap().zone_missing);
        assert!(!parse("2020-01-01").unwrap().zone_missing);
    }

    #[test]
    fn writes_iso_days_and_epochs() {
        let whole = Date::Moment(1_714_644_930_000);
        let split = Date::Moment(1_714_644_930_250);
        let write = |push: fn(&mut String, Date), date| {
            let mut out = String::new();
            push(&mut out, date);
            out
        };
        assert_eq!(write(push_iso, whole), "2024-05-02T10:15:30Z");
        assert_eq!(write(push_iso, split), "2024-05-02T10:15:30.250Z");
        assert_eq!(write(push_iso_ms, whole), "2024-05-02T10:15:30.000Z");
        assert_eq!(write(push_date, split), "2024-05-02");
        assert_eq!(write(push_iso, Date::Day(19_845)), "2024-05-02");
        assert_eq!((split.unix(), split.unix_ms()), (1_714_644_930, 1_714_644_930_250));
        assert_eq!((Date::Day(1).unix(), Date::Moment(-1).unix()), (86_400, -1));
    }

    #[test]
    fn formats() {
        for (pattern, expected) in [
            ("%Y-%m-%dT%H:%M:%S", "2024-05-02T10:15:30"),
            ("%m/%d", "05/02"),
            ("%d.%m.%y", "02.05.24"),
            ("%e %B %Y, %b %a %A", "2 May 2024, May Thu Thursday"),
            ("%j %L %s 100%%", "123 250 1714644930 100%"),
            ("", ""),
        ] {
            let mut out = String::new();
            Format::new(pattern).unwrap().push(&mut out, Date::Moment(1_714_644_930_250));
            assert_eq!(out, expected, "{pattern}");
        }
        assert_eq!(Format::new("%Q").unwrap_err(), "unknown date specifier `%Q`");
        assert!(Format::new("100%").is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_jiff_and_reads_back(ms in MIN_MS..=MAX_MS) {
            let mut out = String::new();
            push_iso_ms(&mut out, Date::Moment(ms));
            let jiff: jiff::Timestamp = out.parse().unwrap();
            prop_assert_eq!(jiff.as_millisecond(), ms);
            prop_assert_eq!(parse(&out).unwrap().date, Date::Moment(ms));
        }

        #[test]
        fn never_panics(text in "[0-9TZ:+. -]{0,32}", ms in any::<i64>(), day in any::<i32>()) {
            parse(&text);
            parse_number(&text);
            let mut out = String::new();
            push_iso(&mut out, Date::Moment(ms));
            push_iso(&mut out, Date::Day(day));
            Format::new("%Y%j%A%s").unwrap().push(&mut out, Date::Day(day));
        }
    }
}
