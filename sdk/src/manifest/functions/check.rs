//! What a literal argument must look like, so that a mistake is found when a manifest is loaded.

use super::{Function, Parameter};
use crate::dates;

/// What is wrong with a literal argument of a function at a position, or `None`.
pub fn check_literal(function: &Function, position: usize, literal: &str) -> Option<&'static str> {
    let last = function.args.len().saturating_sub(1);
    let parameter = function.args.get(position.min(last))?;
    match (function.name, position) {
        ("format", _) if dates::Format::new(literal).is_err() => {
            Some("no date format: use fields such as %Y-%m-%d")
        }
        ("keep" | "replace", 0) if matches!(literal, "" | "^") => {
            Some("an empty class: name characters as in a bracket")
        }
        ("escape", _) if !matches!(literal, "slack" | "html" | "xml" | "backslash") => {
            Some("unknown format: slack, html, xml or backslash")
        }
        ("split" | "after" | "before" | "starting" | "ending" | "contains", _) if literal.is_empty() => {
            Some("an empty text")
        }
        ("cut" | "cut_bytes" | "fits", _) if literal.parse::<usize>().is_ok_and(|count| count > 0) => None,
        ("cut" | "cut_bytes" | "fits", _) => Some("no count: a whole number above 0"),
        _ if *parameter == Parameter::Number && literal.parse::<f64>().is_err() => Some("no number"),
        _ => None,
    }
}
