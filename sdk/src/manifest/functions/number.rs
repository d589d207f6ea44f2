//! Functions that give numbers and yes or no. Numbers are decimal: nothing is rounded by passing through a float.

use std::borrow::Cow;

use super::{Arg, text_at};
use crate::manifest::value::Value;

/// `digits` times ten to the power of `exponent`.
#[derive(Clone, Copy)]
struct Decimal {
    digits: i128,
    exponent: i32,
}

/// The largest exponent, either way, that is written out; JSON numbers beyond it are no amounts of anything.
const MAX_EXPONENT: i32 = 400;

impl Decimal {
    /// Reads a number: a sign, digits with a point, an exponent. At most 36 digits count.
    fn parse(text: &str) -> Option<Decimal> {
        let text = text.trim();
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let fraction = fraction.trim_end_matches('0');
        if mantissa.is_empty() || mantissa == "." || whole.len() + fraction.len() > 36 {
            return None;
        }
        let mut digits: i128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            let digit = byte.is_ascii_digit().then(|| i128::from(byte - b'0'))?;
            digits = digits.checked_mul(10)?.checked_add(digit)?;
        }
        let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let in_range = (-MAX_EXPONENT..=MAX_EXPONENT).contains(&exponent);
        in_range.then_some(Decimal { digits: if negative { -digits } else { digits }, exponent })
    }

    /// The digits before the point.
    fn whole(self) -> Option<i128> {
        let power = 10_i128.checked_pow(self.exponent.unsigned_abs());
        match (self.exponent >= 0, power) {
            (true, Some(power)) => self.digits.checked_mul(power),
            (true, None) => (self.digits == 0).then_some(0),
            (false, Some(power)) => Some(self.digits / power),
            (false, None) => Some(0),
        }
    }

    /// The digits before an exponent that is no larger than its own.
    fn at(self, exponent: i32) -> Option<i128> {
        let power = 10_i128.checked_pow(u32::try_from(self.exponent.checked_sub(exponent)?).ok()?)?;
        self.digits.checked_mul(power)
    }

    fn write(self) -> String {
        let Decimal { mut digits, mut exponent } = self;
        while exponent < 0 && digits % 10 == 0 && digits != 0 {
            digits /= 10;
            exponent += 1;
        }
        if digits == 0 {
            return "0".to_owned();
        }
        let sign = if digits < 0 { "-" } else { "" };
        let text = digits.unsigned_abs().to_string();
        if exponent >= 0 {
            return format!("{sign}{text}{}", "0".repeat(exponent as usize));
        }
        let behind = exponent.unsigned_abs() as usize;
        let padded = format!("{text:0>width$}", width = behind + 1);
        let (whole, fraction) = padded.split_at(padded.len() - behind);
        format!("{sign}{whole}.{fraction}")
    }
}

fn decimal(input: &Value<'_>) -> Option<Decimal> {
    match input {
        Value::Number(text) | Value::Text(text) => Decimal::parse(text),
        _ => None,
    }
}

/// The whole number of a number or a text; what is behind the point is cut off.
pub(super) fn int<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    if matches!(&input, Value::Number(text) if text.bytes().all(|byte| byte.is_ascii_digit())) {
        return Some(input);
    }
    decimal(&input)?.whole().map(Value::whole)
}

pub(super) fn num<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    match input {
        Value::Number(_) => Some(input),
        _ => decimal(&input).map(number),
    }
}

pub(super) fn times<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let (a, b) = (decimal(&input)?, Decimal::parse(&text_at(args, 0)?)?);
    let product =
        Decimal { digits: a.digits.checked_mul(b.digits)?, exponent: a.exponent.checked_add(b.exponent)? };
    Some(number(product))
}

pub(super) fn add<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let (a, b) = (decimal(&input)?, Decimal::parse(&text_at(args, 0)?)?);
    let exponent = a.exponent.min(b.exponent);
    let digits = a.at(exponent)?.checked_add(b.at(exponent)?)?;
    Some(number(Decimal { digits, exponent }))
}

fn number<'a>(decimal: Decimal) -> Value<'a> {
    Value::Number(Cow::Owned(decimal.write()))
}

pub(super) fn bool<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let text = input.as_text()?;
    let truth = match text.trim() {
        "1" => true,
        "0" => false,
        text if text.eq_ignore_ascii_case("true") => true,
        text if text.eq_ignore_ascii_case("false") => false,
        _ => return None,
    };
    Some(Value::Bool(truth))
}
