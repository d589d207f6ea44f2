//! `conformance.toml`: the checks that an adapter does not pass, each with the reason why that is right.

/// A check that may fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiver {
    pub check: String,
    pub reason: String,
}

/// Reads the file, and says everything that is wrong with it.
pub(super) fn read(text: &str, checks: &[&str]) -> (Vec<Waiver>, Vec<String>) {
    let (mut waivers, mut problems) = (Vec::new(), Vec::new());
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return (waivers, vec![format!("conformance.toml: {error}")]),
    };
    for key in table.keys().filter(|key| *key != "waive") {
        problems
            .push(format!("conformance.toml: unknown key {key:?}; it holds [[waive]] with check and reason"));
    }
    let entries = table.get("waive").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        problems.push("conformance.toml: nothing is waived; delete the file".to_owned());
    }
    for entry in entries {
        let text =
            |name: &str| entry.get(name).and_then(toml::Value::as_str).unwrap_or_default().trim().to_owned();
        let waiver = Waiver { check: text("check"), reason: text("reason") };
        let about = format!("conformance.toml: waiver of {:?}", waiver.check);
        let unknown = entry.as_table().into_iter().flat_map(toml::Table::keys);
        for key in unknown.filter(|key| !matches!(key.as_str(), "check" | "reason")) {
            problems.push(format!("{about}: unknown key {key:?}; allowed: check, reason"));
        }
        if !checks.contains(&&*waiver.check) {
            problems.push(format!("{about}: there is no such check; the checks are: {}", checks.join(", ")));
        }
        if waiver.reason.is_empty() {
            problems.push(format!(
                "{about}: say in `reason` why the check does not hold for this vendor, with its page"
            ));
        }
        if waivers.iter().any(|other: &Waiver| other.check == waiver.check) {
            problems.push(format!("{about}: given twice"));
        }
        waivers.push(waiver);
    }
    (waivers, problems)
}
