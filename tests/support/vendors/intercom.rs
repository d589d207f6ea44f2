//! Intercom: contacts, companies and the attributes that a workspace knows.
//!
//! https://developers.intercom.com/docs/references/rest-api/api.intercom.io/contacts, checked 2026-11. No two users share
//! an external id or an address: the second one is a conflict that names the first. Leads may share an address. The
//! search reads an index that lags behind where the test says so; reads by id or external id do not.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Record;
use super::world::{Answer, Call, StandIn, lower, merge};

pub(super) const SETTINGS: &str = r#"{ access_token = "intercom-token" }"#;
const TOKEN: &str = "intercom-token";
const HOST: &str = "api.intercom.io";
/// What a contact takes besides custom attributes.
const FIELDS: [&str; 12] = [
    "role",
    "external_id",
    "email",
    "phone",
    "name",
    "avatar",
    "signed_up_at",
    "last_seen_at",
    "owner_id",
    "unsubscribed_from_emails",
    "language_override",
    "custom_attributes",
];

#[derive(Default)]
pub struct Intercom {
    contacts: Vec<Contact>,
    companies: Vec<Value>,
    /// Names of custom attributes, of contacts and of companies.
    attributes: BTreeMap<String, BTreeSet<String>>,
    /// What the search knows: contact id, external id, address.
    index: BTreeMap<String, (Option<String>, Option<String>)>,
    lags: bool,
    made: u32,
}

struct Contact {
    id: String,
    contact: Value,
    archived: bool,
    history: Vec<Value>,
}

impl Contact {
    fn external_id(&self) -> Option<&str> {
        self.contact["external_id"].as_str()
    }

    fn email(&self) -> Option<String> {
        lower(&self.contact["email"])
    }
}

impl StandIn for Intercom {
    fn serves(&self, host: &str) -> bool {
        host.starts_with("api.") && host.ends_with("intercom.io")
    }

    fn answer(&mut self, call: &Call<'_>) -> Answer {
        if call.host != HOST || call.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return error(401, "unauthorized", "Access Token Invalid");
        }
        let body = call.json().unwrap_or_default();
        let answer = match call.line() {
            ("GET", path) if path.starts_with(&["contacts", "find_by_external_id"]) && path.len() == 3 => {
                self.live(|contact| contact.external_id() == Some(path[2]))
                    .map_or_else(no_user, |at| self.shown(at))
            }
            ("POST", path) if path == ["contacts", "search"] => self.search(&body),
            ("POST", path) if path == ["contacts", "merge"] => self.merge(&body),
            ("POST", path) if path == ["contacts"] => self.create(&body),
            ("POST", path) if path == ["companies"] => self.company(&body),
            ("GET", path) if path == ["companies"] => self.find_company(call.query("company_id")),
            ("GET", path) if path == ["data_attributes"] => self.list_attributes(call.query("model")),
            ("POST", path) if path == ["data_attributes"] => self.create_attribute(&body),
            (method, path) if path.first() == Some(&"contacts") && path.len() > 1 => {
                match self.contacts.iter().position(|contact| contact.id == path[1]) {
                    Some(at) => self.contact(at, method, &path[2..], &body),
                    None => no_user(),
                }
            }
            _ => error(404, "not_found", "The requested resource was not found"),
        };
        answer.header("x-ratelimit-limit", 1666).header("x-ratelimit-remaining", 1600)
    }

    fn records(&self) -> Vec<Record> {
        let record = |contact: &Contact| Record {
            id: contact.id.clone(),
            user_id: contact.external_id().map(str::to_owned),
            email: contact.email(),
            history: contact.history.clone(),
        };
        self.contacts.iter().map(record).collect()
    }

    fn declare(&mut self, traits: &[&str]) {
        for model in ["contact", "company"] {
            let names = traits.iter().map(|name| (*name).to_owned());
            self.attributes.entry(model.to_owned()).or_default().extend(names);
        }
    }

    fn delete_everybody(&mut self) {
        self.contacts.clear();
        self.index.clear();
    }
}

impl Intercom {
    /// From now on the search does not know what is written, until `catch_up`.
    pub fn search_lags(&mut self) {
        self.lags = true;
    }

    /// The search knows everything again, now and from now on.
    pub fn catch_up(&mut self) {
        self.lags = false;
        (0..self.contacts.len()).for_each(|at| self.index(at));
    }

    /// Archives a contact, as a teammate may.
    pub fn archive(&mut self, external_id: &str) {
        let at = self.live(|contact| contact.external_id() == Some(external_id)).unwrap();
        self.contacts[at].archived = true;
    }

    /// The custom attributes of contacts that the workspace knows.
    pub fn attributes(&self) -> BTreeSet<String> {
        self.attributes.get("contact").cloned().unwrap_or_default()
    }

    /// The `company_id`s that a contact is attached to.
    pub fn companies_of(&self, external_id: &str) -> Vec<String> {
        let Some(at) = self.live(|contact| contact.external_id() == Some(external_id)) else {
            return Vec::new();
        };
        let attached = self.contacts[at].contact["companies"].as_array().into_iter().flatten();
        let company_id = |id: &Value| self.companies.iter().find(|company| company["id"] == *id);
        attached
            .filter_map(company_id)
            .filter_map(|company| company["company_id"].as_str())
            .map(str::to_owned)
            .collect()
    }

    fn live(&self, is: impl Fn(&Contact) -> bool) -> Option<usize> {
        self.contacts.iter().position(|contact| !contact.archived && is(contact))
    }

    fn shown(&self, at: usize) -> Answer {
        Answer::new(200, self.contacts[at].contact.clone())
    }

    fn next_id(&mut self) -> String {
        self.made += 1;
        format!("6762f0dd1bb69f9f{:08x}", self.made)
    }

    fn index(&mut self, at: usize) {
        let contact = &self.contacts[at];
        let keys = (contact.external_id().map(str::to_owned), contact.email());
        self.index.insert(contact.id.clone(), keys);
    }

    fn search(&self, body: &Value) -> Answer {
        let query = &body["query"];
        if holds(query, None, None).is_none() {
            return error(400, "parameter_invalid", "The query is not valid");
        }
        let mut found = Vec::new();
        for contact in self.contacts.iter().filter(|contact| !contact.archived) {
            let Some((external_id, email)) = self.index.get(&contact.id) else { continue };
            if holds(query, external_id.as_deref(), email.as_deref()) == Some(true) {
                found.push(contact.contact.clone());
            }
        }
        Answer::new(200, json!({"type": "list", "total_count": found.len(), "data": found}))
    }

    fn create(&mut self, body: &Value) -> Answer {
        let role = body["role"].as_str().unwrap_or("user");
        if let Some(refused) = self.refused(body, "contact").or_else(|| self.conflict(None, role, body)) {
            return refused;
        }
        if role == "lead" && body["external_id"].is_string() {
            return error(400, "parameter_invalid", "External ID cannot be set for leads");
        }
        let id = self.next_id();
        let contact = json!({"type": "contact", "id": id, "role": role, "external_id": null, "email": null,
            "custom_attributes": {}, "companies": []});
        self.contacts.push(Contact { id, contact, archived: false, history: Vec::new() });
        self.write(self.contacts.len() - 1, body)
    }

    fn contact(&mut self, at: usize, method: &str, rest: &[&str], body: &Value) -> Answer {
        match (method, rest) {
            ("POST", ["unarchive"]) => self.contacts[at].archived = false,
            (_, ["archive"]) => self.contacts[at].archived = true,
            _ if self.contacts[at].archived => {
                return error(410, "contact_archived", "The contact has been archived");
            }
            ("GET", []) => return self.shown(at),
            ("PUT", []) => return self.update(at, body),
            ("DELETE", []) => drop(self.contacts.remove(at)),
            ("POST", ["companies"]) => return self.attach(at, &body["id"]),
            ("DELETE", ["companies", id]) => {
                let companies = self.contacts[at].contact["companies"].as_array_mut().unwrap();
                companies.retain(|company| company != id);
            }
            _ => return error(404, "not_found", "The requested resource was not found"),
        }
        Answer::new(200, json!({"type": "contact", "id": body["id"]}))
    }

    fn update(&mut self, at: usize, body: &Value) -> Answer {
        let role = self.contacts[at].contact["role"].as_str().unwrap_or_default().to_owned();
        let refused = self.refused(body, "contact").or_else(|| self.conflict(Some(at), &role, body));
        refused.unwrap_or_else(|| self.write(at, body))
    }

    fn write(&mut self, at: usize, body: &Value) -> Answer {
        let contact = &mut self.contacts[at];
        let mut told = body.clone();
        let fields = told.as_object_mut().unwrap();
        fields.retain(|field, _| FIELDS.contains(&field.as_str()));
        let custom = fields.shift_remove("custom_attributes").unwrap_or_default();
        merge(&mut contact.contact, &told);
        merge(&mut contact.contact["custom_attributes"], &custom);
        contact.history.push(contact.contact.clone());
        if !self.lags {
            self.index(at);
        }
        self.shown(at)
    }

    /// Another contact that has what this one is to have.
    fn conflict(&self, but: Option<usize>, role: &str, body: &Value) -> Option<Answer> {
        let email = lower(&body["email"]).filter(|_| role == "user");
        let clashes = |contact: &Contact| {
            let same_id =
                body["external_id"].is_string() && contact.external_id() == body["external_id"].as_str();
            same_id || contact.contact["role"] == "user" && email.is_some() && contact.email() == email
        };
        let mut others = self.contacts.iter().enumerate().filter(|(at, _)| Some(*at) != but);
        let (_, other) = others.find(|(_, contact)| clashes(contact))?;
        let which = if other.archived { "An archived" } else { "A" };
        let message = format!("{which} contact matching those details already exists with id={}", other.id);
        Some(error(409, "conflict", &message))
    }

    /// What is wrong with the custom attributes.
    fn refused(&self, body: &Value, model: &str) -> Option<Answer> {
        if !body.is_object() {
            return Some(error(400, "bad_request", "The body is not a JSON object"));
        }
        for (name, value) in body["custom_attributes"].as_object().into_iter().flatten() {
            if value.is_array() || value.is_object() {
                let message = format!("Custom attribute '{name}' must be a text, a number or a boolean");
                return Some(error(400, "parameter_invalid", &message));
            }
            if !self.attributes.get(model).is_some_and(|names| names.contains(name)) {
                return Some(error(
                    400,
                    "parameter_invalid",
                    &format!("Custom attribute '{name}' does not exist"),
                ));
            }
        }
        None
    }

    fn merge(&mut self, body: &Value) -> Answer {
        let position = |id: &Value| self.contacts.iter().position(|contact| *id == contact.id.as_str());
        let (Some(from), Some(_)) = (position(&body["from"]), position(&body["into"])) else {
            return no_user();
        };
        self.contacts.remove(from);
        let into = self.contacts.iter().position(|contact| body["into"] == contact.id.as_str());
        into.map_or_else(no_user, |at| self.shown(at))
    }

    fn company(&mut self, body: &Value) -> Answer {
        if let Some(refused) = self.refused(body, "company") {
            return refused;
        }
        let at = self.companies.iter().position(|company| company["company_id"] == body["company_id"]);
        let at = at.unwrap_or_else(|| {
            let id = self.next_id();
            self.companies.push(json!({"type": "company", "id": id}));
            self.companies.len() - 1
        });
        merge(&mut self.companies[at], body);
        Answer::new(200, self.companies[at].clone())
    }

    fn find_company(&self, company_id: Option<&str>) -> Answer {
        let is = |company: &&Value| company["company_id"].as_str() == company_id;
        match self.companies.iter().find(is) {
            Some(company) => Answer::new(200, company.clone()),
            None => error(404, "company_not_found", "Company Not Found"),
        }
    }

    fn attach(&mut self, at: usize, id: &Value) -> Answer {
        let Some(company) = self.companies.iter().find(|company| company["id"] == *id) else {
            return error(404, "company_not_found", "Company Not Found");
        };
        let contact = &mut self.contacts[at];
        let companies = contact.contact["companies"].as_array_mut().unwrap();
        if !companies.contains(id) {
            companies.push(id.clone());
        }
        *contact.history.last_mut().unwrap() = contact.contact.clone();
        Answer::new(200, company.clone())
    }

    fn list_attributes(&self, model: Option<&str>) -> Answer {
        let models =
            self.attributes.iter().filter(|(name, _)| model.is_none_or(|model| model == name.as_str()));
        let entry = |model: &str, name: &str| {
            json!({"type": "data_attribute", "model": model, "name": name,
            "full_name": format!("custom_attributes.{name}"), "custom": true, "api_writable": true, "archived": false})
        };
        let data: Vec<Value> =
            models.flat_map(|(model, names)| names.iter().map(|name| entry(model, name))).collect();
        Answer::new(200, json!({"type": "list", "data": data}))
    }

    fn create_attribute(&mut self, body: &Value) -> Answer {
        const TYPES: [&str; 6] = ["string", "integer", "float", "boolean", "datetime", "date"];
        let (Some(name), Some(model)) = (body["name"].as_str(), body["model"].as_str()) else {
            return error(400, "parameter_not_found", "Name and model are needed");
        };
        if !body["data_type"].as_str().is_some_and(|data_type| TYPES.contains(&data_type)) {
            return error(400, "parameter_invalid", "The data type is not valid");
        }
        if !self.attributes.entry(model.to_owned()).or_default().insert(name.to_owned()) {
            let message = format!(
                "You already have '{name}' in your {model} data. To save this as new data, use a different name."
            );
            return error(400, "parameter_invalid", &message);
        }
        Answer::new(200, json!({"type": "data_attribute", "name": name, "model": model, "custom": true}))
    }
}

/// Whether a query holds; `None` where it is not one that this stand-in knows.
fn holds(query: &Value, external_id: Option<&str>, email: Option<&str>) -> Option<bool> {
    let parts = || -> Option<Vec<bool>> {
        query["value"].as_array()?.iter().map(|part| holds(part, external_id, email)).collect()
    };
    match query["operator"].as_str()? {
        "OR" => parts().map(|parts| parts.contains(&true)),
        "AND" => parts().map(|parts| !parts.contains(&false)),
        "=" => match query["field"].as_str()? {
            "external_id" => Some(external_id == query["value"].as_str()),
            "email" => Some(email.is_some() && email.map(str::to_owned) == lower(&query["value"])),
            _ => None,
        },
        _ => None,
    }
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    let errors = json!([{"code": code, "message": message}]);
    Answer::new(
        status,
        json!({"type": "error.list", "request_id": "b3c8c472-8478-4f15-a29b", "errors": errors}),
    )
}

fn no_user() -> Answer {
    error(404, "not_found", "User Not Found")
}
