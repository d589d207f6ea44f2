//! The value of a reserved trait: is it one, and what is its one form? One function for each [`Rule`].

use std::borrow::Cow;

use super::{Draft, is_blank, warning};
use crate::dates;
use crate::event::{Slot, Span};
use crate::json::{Json, Kind};
use crate::reserved::{Reserved, Rule};

/// What became of a value.
pub(super) enum Reading {
    /// Nothing is given.
    Blank,
    /// `null`: a wish to unset it.
    Null,
    /// It cannot be such a trait.
    Invalid,
    /// An `id` that is not the userId: something else that happens to be called so.
    Foreign,
    /// Its one form.
    Valid(Slot),
}

/// The longest e-mail address that the mail standards allow, in characters.
const MAX_EMAIL: usize = 254;
/// The longest whole number that is written out, in digits.
const MAX_DIGITS: usize = 64;

impl Draft<'_> {
    /// Reads a value by the trait's rule.
    pub(super) fn value(&mut self, reserved: Reserved, value: Json<'_>) -> Reading {
        let rule = reserved.rule();
        let value = match (rule, value.kind()) {
            (Rule::FirstText | Rule::FirstCode, Kind::List) => match value.elements().next() {
                Some(first) => first,
                None => return Reading::Blank,
            },
            _ => value,
        };
        if value.is_null() {
            return Reading::Null;
        }
        if is_blank(value) {
            return Reading::Blank;
        }
        let slot = match rule {
            Rule::Text | Rule::FirstText => self.plain(value),
            Rule::Code | Rule::FirstCode => self.plain(value).or_else(|| self.digits_as_text(value)),
            Rule::TextOrNumber => self.plain(value).or_else(|| in_place(value)),
            Rule::Url => self.checked(value, is_url),
            Rule::Email => self.checked(value, is_email),
            Rule::Age => self.age(value),
            Rule::Count { least } => self.count(value, least),
            Rule::Date => self.date(value, reserved),
            Rule::OneOf(known) => self.one_of(value, known),
            Rule::Unit => self.unit(value),
            Rule::Cents => self.cents(value),
            Rule::Currency => self.currency(value),
        };
        match (slot, self.user_id) {
            (Some(Slot::Text(id)), Some(user_id))
                if reserved == Reserved::Id && self.get(id) != self.get(user_id) =>
            {
                Reading::Foreign
            }
            (Some(slot), _) => Reading::Valid(slot),
            (None, _) => Reading::Invalid,
        }
    }

    fn plain(&mut self, value: Json<'_>) -> Option<Slot> {
        (value.kind() == Kind::Text).then(|| Slot::Text(self.trimmed(value)))
    }

    fn checked(&mut self, value: Json<'_>, fits: fn(&str) -> bool) -> Option<Slot> {
        let text = value.text()?;
        fits(text.trim()).then(|| Slot::Text(self.trimmed(value)))
    }

    fn digits_as_text(&mut self, value: Json<'_>) -> Option<Slot> {
        let digits = whole(value.number()?)?;
        Some(Slot::Text(self.written(value, &digits)))
    }

    /// Digits where the value itself stands if it was written so, else made.
    fn written(&mut self, value: Json<'_>, digits: &str) -> Span {
        let (start, end) = value.bounds();
        if value.raw() == digits { Span { start, end } } else { self.make(digits) }
    }

    fn age(&mut self, value: Json<'_>) -> Option<Slot> {
        let text = value.text();
        let number = match &text {
            Some(text) => without_zeros(text.trim())?,
            None => value.number()?,
        };
        let age: f64 = number.parse().ok()?;
        (0.0..=150.0).contains(&age).then(|| Slot::Number(self.written(value, number)))
    }

    fn count(&mut self, value: Json<'_>, least: u8) -> Option<Slot> {
        let digits = whole_of(value)?;
        let is_enough = !digits.starts_with('-') && (least == 0 || *digits != *"0");
        is_enough.then(|| Slot::Number(self.written(value, &digits)))
    }

    fn cents(&mut self, value: Json<'_>) -> Option<Slot> {
        let digits = whole_of(value)?;
        (!digits.starts_with('-')).then(|| Slot::Text(self.written(value, &digits)))
    }

    fn date(&mut self, value: Json<'_>, reserved: Reserved) -> Option<Slot> {
        let date = match value.kind() {
            Kind::Number => dates::parse_number(value.raw())?,
            _ => {
                let parsed = dates::parse(&value.text()?)?;
                if parsed.zone_missing {
                    self.warn(warning::ZONE_MISSING, reserved.name());
                }
                parsed.date
            }
        };
        if date.unix_ms() < 0 && reserved != Reserved::Birthday {
            self.warn(warning::TRAIT_SUSPECT, reserved.name());
        }
        Some(Slot::Date(date))
    }

    fn one_of(&mut self, value: Json<'_>, known: &[&'static str]) -> Option<Slot> {
        let text = value.text()?;
        let words = text.to_lowercase().replace(['_', '-'], " ");
        let folded = words.split_whitespace().collect::<Vec<_>>().join(" ").replace("cancelled", "canceled");
        let canonical = known.iter().copied().find(|known| *known == folded)?;
        Some(Slot::Text(self.canonical(value, canonical)))
    }

    fn unit(&mut self, value: Json<'_>) -> Option<Slot> {
        let text = value.text()?.trim().to_ascii_lowercase();
        let unit = match &*text {
            "day" | "days" => "day",
            "week" | "weeks" => "week",
            "month" | "months" => "month",
            "year" | "years" => "year",
            _ => return None,
        };
        Some(Slot::Text(self.canonical(value, unit)))
    }

    fn currency(&mut self, value: Json<'_>) -> Option<Slot> {
        let code = value.text()?.trim().to_ascii_lowercase();
        let is_code = code.len() == 3 && code.bytes().all(|b| b.is_ascii_lowercase());
        is_code.then(|| Slot::Text(self.canonical(value, &code)))
    }

    fn canonical(&mut self, value: Json<'_>, canonical: &str) -> Span {
        if value.plain_text() == Some(canonical) { self.text(value) } else { self.make(canonical) }
    }
}

/// A number just as it was written.
fn in_place(value: Json<'_>) -> Option<Slot> {
    let (start, end) = value.bounds();
    (value.kind() == Kind::Number).then_some(Slot::Number(Span { start, end }))
}

/// The digits of a whole number, or of a text of digits.
fn whole_of(value: Json<'_>) -> Option<Cow<'_, str>> {
    match value.text() {
        Some(text) => {
            let text = text.trim();
            let is_digits = text.bytes().all(|b| b.is_ascii_digit());
            is_digits.then(|| without_zeros(text)).flatten().map(|digits| Cow::Owned(digits.to_owned()))
        }
        None => whole(value.number()?),
    }
}

/// A text of digits, perhaps with a fraction, as JSON writes numbers: without leading zeros.
fn without_zeros(text: &str) -> Option<&str> {
    let (digits, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(digits) || !all_digits(fraction) {
        return None;
    }
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    text.get(zeros.min(digits.len() - 1)..)
}

/// A JSON number's digits, without fraction or exponent; `None` for one that is not whole or has more than 64 digits
/// once it is written out. Borrowed where it was written so.
pub(super) fn whole(number: &str) -> Option<Cow<'_, str>> {
    let (sign, unsigned) = number.split_at_checked(usize::from(number.starts_with('-')))?;
    if unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Some(if unsigned == "0" { Cow::Borrowed(unsigned) } else { Cow::Borrowed(number) });
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (digits, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut all = format!("{digits}{fraction}");
    let point = i64::try_from(digits.len()).ok()?.checked_add(exponent)?;
    if all.bytes().all(|b| b == b'0') {
        return Some(Cow::Borrowed("0"));
    }
    let point = usize::try_from(point).ok().filter(|point| *point <= MAX_DIGITS)?;
    if all.get(point..).is_some_and(|rest| rest.bytes().any(|b| b != b'0')) {
        return None;
    }
    while all.len() < point {
        all.push('0');
    }
    all.truncate(point);
    Some(Cow::Owned(format!("{sign}{}", all.trim_start_matches('0'))))
}

fn is_url(text: &str) -> bool {
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (head, rest) = text.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace))
}

fn is_email(text: &str) -> bool {
    let Some((user, domain)) = text.split_once('@') else { return false };
    let is_odd = |c: char| c.is_whitespace() || c.is_control();
    !user.is_empty()
        && !domain.contains('@')
        && domain.trim_matches('.').contains('.')
        && !text.contains(is_odd)
        && (text.len() <= MAX_EMAIL || text.chars().count() <= MAX_EMAIL)
}
