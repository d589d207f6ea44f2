//! Mixpanel: profiles behind `/engage`, and the `$identify` events of `/track`.
//!
//! https://docs.mixpanel.com/reference/profile-set, checked 2026-11. A profile is addressed by its distinct id, which
//! makes every write an upsert: no request makes two profiles of one distinct id.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Record;
use super::world::{Answer, Call, StandIn, merge};

pub(super) const SETTINGS: &str = r#"{ project_token = "TOKEN" }"#;
const TOKEN: &str = "TOKEN";
const MOST_RECORDS: usize = 2000;

#[derive(Default)]
pub struct Mixpanel {
    profiles: Vec<Profile>,
    /// Anonymous ids and the distinct ids that they were joined with.
    pub identified: BTreeMap<String, String>,
}

struct Profile {
    distinct_id: String,
    properties: Value,
    history: Vec<Value>,
}

impl StandIn for Mixpanel {
    fn serves(&self, host: &str) -> bool {
        host.ends_with("mixpanel.com")
    }

    fn answer(&mut self, call: &Call<'_>) -> Answer {
        match call.line() {
            ("POST", path) if path == ["engage"] => self.engage(call),
            ("POST", path) if path == ["track"] => self.track(call),
            _ => Answer::new(404, json!({"status": 0, "error": "not found"})),
        }
    }

    fn records(&self) -> Vec<Record> {
        let record = |profile: &Profile| Record {
            id: profile.distinct_id.clone(),
            user_id: Some(profile.distinct_id.clone()),
            email: None, // A property like any other: two profiles may share an address.
            history: profile.history.clone(),
        };
        self.profiles.iter().map(record).collect()
    }

    fn declare(&mut self, _: &[&str]) {}

    fn delete_everybody(&mut self) {
        self.profiles.clear();
    }
}

impl Mixpanel {
    fn engage(&mut self, call: &Call<'_>) -> Answer {
        let Some(Value::Array(records)) = call.json() else {
            return Answer::new(400, json!({"status": 0, "error": "the body is not a list of updates"}));
        };
        if records.len() > MOST_RECORDS {
            return Answer::new(413, json!({"status": 0, "error": "too many updates"}));
        }
        if records.iter().any(|record| record["$token"] != TOKEN) {
            return Answer::new(
                401,
                json!({"code": 401, "error": "Invalid credentials", "status": "Unauthorized"}),
            );
        }
        let failed: Vec<Value> =
            records.iter().enumerate().filter_map(|(at, record)| self.update(at, record)).collect();
        let imported = records.len() - failed.len();
        if failed.is_empty() {
            return Answer::new(200, json!({"code": 200, "status": "OK", "num_records_imported": imported}));
        }
        let error = "some data points in the request failed validation";
        Answer::new(
            400,
            json!({"code": 400, "status": "Bad Request", "error": error, "num_records_imported": imported,
                "failed_records": failed}),
        )
    }

    /// Applies one update, or answers its entry in `failed_records`.
    fn update(&mut self, at: usize, record: &Value) -> Option<Value> {
        let failed =
            |field: &str, message: &str| Some(json!({"index": at, "field": field, "message": message}));
        let Some(distinct_id) = record["$distinct_id"].as_str().filter(|id| !id.is_empty()) else {
            return failed("$distinct_id", "'$distinct_id' must be a text that is not empty");
        };
        const OPERATIONS: [&str; 7] = ["$set", "$set_once", "$add", "$union", "$append", "$unset", "$delete"];
        let mut operations = OPERATIONS.iter().filter(|operation| !record[**operation].is_null());
        let (Some(operation), None) = (operations.next(), operations.next()) else {
            return failed("$set", "an update has exactly one operation");
        };
        if *operation == "$delete" {
            self.profiles.retain(|profile| profile.distinct_id != distinct_id);
            return None;
        }
        let profile = self.profile(distinct_id);
        apply(&mut profile.properties, operation, &record[*operation]);
        profile.history.push(profile.properties.clone());
        None
    }

    fn profile(&mut self, distinct_id: &str) -> &mut Profile {
        let at = self.profiles.iter().position(|profile| profile.distinct_id == distinct_id).unwrap_or_else(
            || {
                let (distinct_id, history) = (distinct_id.to_owned(), Vec::new());
                self.profiles.push(Profile { distinct_id, properties: json!({}), history });
                self.profiles.len() - 1
            },
        );
        &mut self.profiles[at]
    }

    fn track(&mut self, call: &Call<'_>) -> Answer {
        let form = call.form();
        let data = form.iter().find(|(key, _)| key == "data").map_or("", |(_, value)| value);
        let event: Value = serde_json::from_str(data).unwrap_or_default();
        let properties = &event["properties"];
        if properties["token"] != TOKEN {
            return Answer::new(200, json!({"status": 0, "error": "token, missing or empty"}));
        }
        if let (Some(anonymous), Some(user)) =
            (properties["$anon_id"].as_str(), properties["$identified_id"].as_str())
        {
            self.identified.insert(anonymous.to_owned(), user.to_owned());
        }
        Answer::new(200, json!({"status": 1, "error": null}))
    }
}

fn apply(properties: &mut Value, operation: &str, operand: &Value) {
    if operation == "$set" {
        return merge(properties, operand);
    }
    let unset = operand.as_array().into_iter().flatten().filter_map(Value::as_str);
    if operation == "$unset" {
        let properties = properties.as_object_mut().unwrap();
        unset.for_each(|key| drop(properties.shift_remove(key)));
        return;
    }
    for (key, value) in operand.as_object().into_iter().flatten() {
        let property = &mut properties[key];
        match operation {
            "$set_once" if property.is_null() => *property = value.clone(),
            "$add" => *property = json!(property.as_f64().unwrap_or(0.0) + value.as_f64().unwrap_or(0.0)),
            "$append" => append(property, value),
            "$union" => {
                for entry in value.as_array().into_iter().flatten() {
                    let is_there = property.as_array().is_some_and(|list| list.contains(entry));
                    if !is_there {
                        append(property, entry);
                    }
                }
            }
            _ => {}
        }
    }
}

fn append(property: &mut Value, value: &Value) {
    match property.as_array_mut() {
        Some(list) => list.push(value.clone()),
        None => *property = json!([value]),
    }
}
