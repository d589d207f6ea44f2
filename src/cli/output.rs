//! How commands write: problems, tables, JSON, complaints. It decides neither what nor whether.

use std::io::{self, Write};

use fanout_sdk::problem::Problem;
use serde_json::{Value, json};

/// One line of JSON.
pub fn json_line(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{value}")
}

/// Columns that are as wide as their widest cell, two spaces between; nothing without rows.
pub fn table<const N: usize>(out: &mut dyn Write, heads: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let heads = heads.map(str::to_owned);
    let mut widths = [0; N];
    for row in rows.iter().chain([&heads]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in [&heads].into_iter().chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Errors and warnings in the file's order, each with its remedy on a line of its own, and how many there are.
pub fn problems(out: &mut dyn Write, errors: &[Problem], warnings: &[Problem]) -> io::Result<()> {
    for (severity, problem) in in_order(errors, warnings) {
        let place = Problem { message: String::new(), remedy: String::new(), ..problem.clone() };
        writeln!(out, "{place}{severity}: {}", problem.message)?;
        if !problem.remedy.is_empty() {
            writeln!(out, "    {}", problem.remedy)?;
        }
    }
    if !errors.is_empty() || !warnings.is_empty() {
        writeln!(out, "{}, {}", count(errors.len(), "error"), count(warnings.len(), "warning"))?;
    }
    Ok(())
}

/// Errors and warnings as one JSON list.
pub fn problems_json(errors: &[Problem], warnings: &[Problem]) -> Value {
    let line = |(severity, problem): (&str, &Problem)| {
        json!({
            "severity": severity,
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "message": problem.message,
            "remedy": problem.remedy,
        })
    };
    Value::Array(in_order(errors, warnings).into_iter().map(line).collect())
}

fn in_order<'p>(errors: &'p [Problem], warnings: &'p [Problem]) -> Vec<(&'static str, &'p Problem)> {
    let errors = errors.iter().map(|problem| ("error", problem));
    let mut all: Vec<_> = errors.chain(warnings.iter().map(|problem| ("warning", problem))).collect();
    all.sort_by_key(|(_, problem)| (&problem.file, problem.line, problem.column));
    all
}

/// `1 error`, `2 errors`.
pub fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// Tells the user on standard error why nothing came. That this cannot be written is no reason to fail once more.
pub fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "fanout: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tables_line_up() {
        let rows = [["é".to_owned(), "1".to_owned()], ["abc".to_owned(), String::new()]];
        assert_eq!(written(|out| table(out, ["A", "B"], &rows)), "A    B\né    1\nabc\n");
        assert_eq!(written(|out| table(out, ["A"], &[])), "");
    }

    #[test]
    fn problems_come_in_order_and_are_counted() {
        let at = |line, message: &str, remedy: &str| Problem {
            file: "f.toml".into(),
            line,
            column: 3,
            message: message.into(),
            remedy: remedy.into(),
        };
        let nowhere = Problem { line: 0, column: 0, ..at(0, "gone", "") };
        let (errors, warnings) = ([at(7, "worse", ""), nowhere], [at(2, "bad", "mend it")]);
        assert_eq!(
            written(|out| problems(out, &errors, &warnings)),
            "f.toml: error: gone\nf.toml:2:3: warning: bad\n    mend it\nf.toml:7:3: error: worse\n2 errors, 1 warning\n"
        );
        assert_eq!(written(|out| problems(out, &[], &[])), "");
        let list = problems_json(&errors, &warnings);
        assert_eq!(list[1]["severity"], "warning");
        assert_eq!(list[2]["line"], 7);
    }
}
