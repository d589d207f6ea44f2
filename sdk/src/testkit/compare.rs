//! Says where two JSON values differ. Members' order and the way a number is written do not count.

use crate::json::{Json, Kind};

/// How much of a value a difference shows, in characters.
const SHOWN: usize = 160;

/// Adds every difference between two values to a list, each with its path.
pub(super) fn compare(path: &str, expected: Json<'_>, got: Json<'_>, problems: &mut Vec<String>) {
    match (expected.kind(), got.kind()) {
        (Kind::Object, Kind::Object) => compare_objects(path, expected, got, problems),
        (Kind::List, Kind::List) => compare_lists(path, expected, got, problems),
        (Kind::Number, Kind::Number) if same_number(expected.raw(), got.raw()) => {}
        (Kind::Text, Kind::Text) if expected.text() == got.text() => {}
        (Kind::Null, Kind::Null) | (Kind::True, Kind::True) | (Kind::False, Kind::False) => {}
        _ => differ(path, expected.raw(), got.raw(), problems),
    }
}

/// Adds a difference between two texts that are shown as they are.
pub(super) fn differ(path: &str, expected: &str, got: &str, problems: &mut Vec<String>) {
    problems.push(format!(
        "{path}: expected {}\n{:width$}  got      {}",
        shown(expected),
        "",
        shown(got),
        width = path.len()
    ));
}

fn compare_objects(path: &str, expected: Json<'_>, got: Json<'_>, problems: &mut Vec<String>) {
    for (key, value) in expected.members() {
        let path = member(path, &key);
        match got.get(&key) {
            Some(got) => compare(&path, value, got, problems),
            None => problems.push(format!("{path}: missing, expected {}", shown(value.raw()))),
        }
    }
    for (key, value) in got.members() {
        if expected.get(&key).is_none() {
            problems.push(format!("{}: not expected, got {}", member(path, &key), shown(value.raw())));
        }
        if got.members().filter(|(other, _)| *other == key).count() > 1 {
            problems.push(format!("{}: written twice", member(path, &key)));
        }
    }
}

fn compare_lists(path: &str, expected: Json<'_>, got: Json<'_>, problems: &mut Vec<String>) {
    let mut got_elements = got.elements();
    let mut position = 0;
    for value in expected.elements() {
        match got_elements.next() {
            Some(got) => compare(&format!("{path}[{position}]"), value, got, problems),
            None => problems.push(format!("{path}[{position}]: missing, expected {}", shown(value.raw()))),
        }
        position += 1;
    }
    for got in got_elements {
        problems.push(format!("{path}[{position}]: not expected, got {}", shown(got.raw())));
        position += 1;
    }
}

fn member(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '-'));
    if plain { format!("{path}.{key}") } else { format!("{path}.{key:?}") }
}

fn same_number(a: &str, b: &str) -> bool {
    let is_whole = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if a == b || (is_whole(a) && is_whole(b)) {
        return a == b;
    }
    a.parse::<f64>().ok().zip(b.parse::<f64>().ok()).is_some_and(|(a, b)| a == b)
}

fn shown(raw: &str) -> String {
    let one_line: String = raw.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} …", one_line.get(..end).unwrap_or_default()),
        None => one_line,
    }
}
