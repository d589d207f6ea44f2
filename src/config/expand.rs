//! `${NAME}` and `${file:/path}` inside values, after parsing, so that what they hold is never taken for TOML.
//! It reads neither the environment nor files itself: both come in through [`World`].

use std::path::Path;

/// Where variables and files come from.
pub struct World<'a> {
    /// The value of an environment variable; `None` where it is not set.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The text of a file.
    pub file: &'a dyn Fn(&Path) -> std::io::Result<String>,
}

/// Why a value could not be expanded.
#[derive(Debug, PartialEq, Eq)]
pub enum Unexpanded {
    /// The environment variable is not set.
    Unset(String),
    /// The file could not be read: its path, and why.
    Unreadable(String, String),
    /// A `${` that starts neither form.
    Malformed,
}

impl Unexpanded {
    /// What is wrong, and what to do about it.
    pub fn explain(&self) -> (String, String) {
        match self {
            Unexpanded::Unset(name) => (
                format!("the environment variable `{name}` is not set"),
                format!("set `{name}`, or write the value itself"),
            ),
            Unexpanded::Unreadable(path, why) => (
                format!("the file `{path}` cannot be read: {why}"),
                "check its path and who may read it".into(),
            ),
            Unexpanded::Malformed => (
                "`${` starts neither `${NAME}` nor `${file:PATH}`".into(),
                "write `$${` for a `${` of the value itself".into(),
            ),
        }
    }
}

/// Puts in what `${NAME}` and `${file:/path}` stand for; `$${` is a plain `${`. A file's last line break is left out.
/// Reports everything that is wrong, not only the first.
pub fn expand(text: &str, world: &World<'_>) -> Result<String, Vec<Unexpanded>> {
    let mut expanded = String::with_capacity(text.len());
    let mut wrong = Vec::new();
    let mut left = text;
    while let Some(at) = left.find("${") {
        let (before, from) = left.split_at(at);
        let body = from.get(2..).unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            left = body;
            continue;
        }
        expanded.push_str(before);
        let Some((name, rest)) = body.split_once('}') else {
            wrong.push(Unexpanded::Malformed);
            left = "";
            break;
        };
        match look_up(name, world) {
            Ok(value) => expanded.push_str(&value),
            Err(why) => wrong.push(why),
        }
        left = rest;
    }
    expanded.push_str(left);
    if wrong.is_empty() { Ok(expanded) } else { Err(wrong) }
}

fn look_up(name: &str, world: &World<'_>) -> Result<String, Unexpanded> {
    if let Some(path) = name.strip_prefix("file:") {
        let text = (world.file)(Path::new(path))
            .map_err(|error| Unexpanded::Unreadable(path.into(), error.to_string()))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(line.strip_suffix('\r').unwrap_or(line).to_owned());
    }
    if !is_variable(name) {
        return Err(Unexpanded::Malformed);
    }
    (world.variable)(name).ok_or_else(|| Unexpanded::Unset(name.into()))
}

fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand_here(text: &str) -> Result<String, Vec<Unexpanded>> {
        let variable = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        };
        let file = |path: &Path| match path.to_str() {
            Some("/run/key") => Ok("from file\r\n".to_owned()),
            _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
        };
        expand(text, &World { variable: &variable, file: &file })
    }

    #[test]
    fn values_are_put_in() {
        for (text, expanded) in [
            ("plain", "plain"),
            ("", ""),
            ("${A}", "one"),
            ("é${A}/${A}$", "éone/one$"),
            ("[${EMPTY}]", "[]"),
            ("${NESTED}", "${A}"),
            ("${file:/run/key}!", "from file!"),
            ("$${A} $A {A}", "${A} $A {A}"),
            ("$$${A}", "$${A}"),
        ] {
            assert_eq!(expand_here(text).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn everything_wrong_is_reported() {
        let unset = |name: &str| Unexpanded::Unset(name.into());
        for (text, wrong) in [
            ("${B}${A}${C}", vec![unset("B"), unset("C")]),
            ("${", vec![Unexpanded::Malformed]),
            ("${A", vec![Unexpanded::Malformed]),
            ("${}", vec![Unexpanded::Malformed]),
            ("${1A}", vec![Unexpanded::Malformed]),
            ("${A:-x}", vec![Unexpanded::Malformed]),
            ("${file:/none}", vec![Unexpanded::Unreadable("/none".into(), "entity not found".into())]),
        ] {
            assert_eq!(expand_here(text), Err(wrong), "{text}");
        }
    }

    proptest! {
        #[test]
        fn escaping_keeps_any_text(text: String) {
            let escaped = text.replace("${", "$${");
            prop_assert_eq!(expand_here(&escaped), Ok(text));
        }
    }
}
