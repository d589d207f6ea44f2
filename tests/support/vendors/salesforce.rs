//! Salesforce: Leads and Contacts of one org, its token endpoint and its queries.
//!
//! https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/, checked 2026-11. `UserId__c` is an external
//! id that is unique; an address is not: whoever creates twice has two records. Queries see every write at once.

mod soql;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Record;
use super::world::{Answer, Call, StandIn, lower, merge};

pub(super) const SETTINGS: &str = r#"{ login_host = "acme.my.salesforce.com", client_id = "ID", client_secret = "SECRET", external_id_field = "UserId__c" }"#;
const HOST: &str = "acme.my.salesforce.com";
const EXTERNAL_ID: &str = "UserId__c";
const MOST_ROWS: usize = 200;
const LEAD_FIELDS: &str = "Id IsDeleted CreatedDate LastModifiedDate IsConverted ConvertedContactId FirstName LastName Company Title Phone MobilePhone Email Website Description Industry NumberOfEmployees Street City State PostalCode Country StateCode CountryCode HasOptedOutOfEmail LeadSource Status UserId__c";
const CONTACT_FIELDS: &str = "Id IsDeleted CreatedDate LastModifiedDate FirstName LastName Title Phone MobilePhone Email Description Birthdate MailingStreet MailingCity MailingState MailingPostalCode MailingCountry HasOptedOutOfEmail LeadSource AccountId UserId__c";

#[derive(Default)]
pub struct Salesforce {
    rows: Vec<Row>,
    custom: BTreeSet<String>,
    tokens: BTreeSet<String>,
    writes: u32,
    /// How many tokens were given.
    pub tokens_given: u32,
}

struct Row {
    object: String,
    id: String,
    fields: Value,
    history: Vec<Value>,
}

/// What is wrong with a row: code, message, fields.
struct Refused(&'static str, String, Vec<String>);

impl Refused {
    fn json(&self) -> Value {
        json!({"statusCode": self.0, "message": self.1, "fields": self.2})
    }

    fn answer(&self) -> Answer {
        Answer::new(400, json!([{"errorCode": self.0, "message": self.1, "fields": self.2}]))
    }
}

impl StandIn for Salesforce {
    fn serves(&self, host: &str) -> bool {
        host.ends_with(".salesforce.com")
    }

    fn answer(&mut self, call: &Call<'_>) -> Answer {
        if call.line() == ("POST", vec!["services", "oauth2", "token"]) {
            return self.token(&call.form());
        }
        let token = call.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if call.host != HOST || !token.is_some_and(|token| self.tokens.contains(token)) {
            return failed(401, "INVALID_SESSION_ID", "Session expired or invalid");
        }
        let (method, path) = call.line();
        let ["services", "data", _, rest @ ..] = path.as_slice() else { return not_found() };
        let body = call.json().unwrap_or_default();
        let answer = match (method, rest) {
            ("PATCH", ["composite", "sobjects", object, field]) => self.upsert_rows(object, field, &body),
            ("GET", ["query"]) => self.query(call.query("q").unwrap_or_default()),
            ("POST", ["sobjects", object]) => self.create(object, &body),
            ("PATCH", ["sobjects", object, field, value]) => self.upsert(object, field, value, body),
            ("PATCH", ["sobjects", object, id]) => self.update_by_id(object, id, &body),
            ("GET", ["sobjects", object, id]) => self
                .by_id(object, id)
                .map_or_else(not_found, |at| Answer::new(200, self.rows[at].fields.clone())),
            ("DELETE", ["sobjects", object, id]) => self.delete(object, id),
            _ => not_found(),
        };
        answer.header("sforce-limit-info", "api-usage=18/5000")
    }

    fn records(&self) -> Vec<Record> {
        let record = |row: &Row| Record {
            id: row.id.clone(),
            user_id: row.fields[EXTERNAL_ID].as_str().map(str::to_owned),
            email: lower(&row.fields["Email"]),
            history: row.history.clone(),
        };
        self.rows.iter().map(record).collect()
    }

    fn declare(&mut self, traits: &[&str]) {
        self.custom.extend(traits.iter().map(|name| custom_field(name)));
    }

    fn delete_everybody(&mut self) {
        self.rows.clear();
    }
}

/// The custom field of a trait.
pub(super) fn custom_field(name: &str) -> String {
    format!("{name}__c")
}

impl Salesforce {
    /// Every session ends: the next call with an old token is answered 401.
    pub fn expire_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Converts the lead of an address into a contact, as a salesperson does; answers the contact's id.
    pub fn convert(&mut self, email: &str) -> String {
        let is = |row: &Row| row.object == "Lead" && lower(&row.fields["Email"]).as_deref() == Some(email);
        let at = self.rows.iter().position(is).unwrap();
        let lead = self.rows[at].fields.clone();
        let fields =
            json!({"FirstName": lead["FirstName"], "LastName": lead["LastName"], "Email": lead["Email"]});
        let id = self.insert("Contact", &fields);
        merge(&mut self.rows[at].fields, &json!({"IsConverted": true, "ConvertedContactId": id}));
        id
    }

    fn token(&mut self, form: &[(String, String)]) -> Answer {
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
        let refused = |error: &str, description: &str| {
            Answer::new(400, json!({"error": error, "error_description": description}))
        };
        let by_assertion = field("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer";
        let accepted = match field("grant_type") {
            "client_credentials" => true,
            "password" => field("username") == "ada@acme.test" && field("password") == "PASSWORDTOKEN",
            "refresh_token" => field("refresh_token") == "REFRESH",
            _ if by_assertion => field("assertion").split('.').count() == 3,
            _ => return refused("unsupported_grant_type", "grant type not supported"),
        };
        if !by_assertion && field("client_id") != "ID" {
            return refused("invalid_client_id", "client identifier invalid");
        }
        if !by_assertion && field("client_secret") != "SECRET" {
            return refused("invalid_client", "invalid client credentials");
        }
        if !accepted {
            return refused("invalid_grant", "authentication failure");
        }
        self.tokens_given += 1;
        let token = format!("00D000000000001!{}", self.tokens_given);
        self.tokens.insert(token.clone());
        Answer::new(
            200,
            json!({"access_token": token, "instance_url": format!("https://{HOST}"), "token_type": "Bearer",
                "issued_at": "1790000000000", "scope": "api"}),
        )
    }

    fn upsert_rows(&mut self, object: &str, field: &str, body: &Value) -> Answer {
        let Some(rows) = body["records"].as_array().filter(|rows| rows.len() <= MOST_ROWS) else {
            return failed(400, "INVALID_INPUT", "The records are missing or more than 200");
        };
        if field != EXTERNAL_ID {
            return failed(
                404,
                "NOT_FOUND",
                "Provided external ID field does not exist or is not accessible",
            );
        }
        let times = |value: &Value| rows.iter().filter(|row| row[field] == *value).count();
        let results: Vec<Value> = rows
            .iter()
            .map(|row| {
                if row["attributes"]["type"] != object {
                    return self.told(Err(Refused(
                        "INVALID_TYPE",
                        "all records have one type".into(),
                        vec![],
                    )));
                }
                let Some(value) = row[field].as_str() else {
                    let message = format!("{field} not specified");
                    return self.told(Err(Refused("MISSING_ARGUMENT", message, vec![])));
                };
                if times(&row[field]) > 1 {
                    let message = format!("Duplicate external id specified: {value}");
                    return self.told(Err(Refused("DUPLICATE_VALUE", message, vec![field.to_owned()])));
                }
                let upserted = self.upsert_row(object, field, value, row);
                self.told(upserted)
            })
            .collect();
        Answer::new(200, Value::Array(results))
    }

    fn told(&self, result: Result<(String, bool), Refused>) -> Value {
        match result {
            Ok((id, created)) => json!({"id": id, "success": true, "created": created, "errors": []}),
            Err(refused) => json!({"success": false, "created": false, "errors": [refused.json()]}),
        }
    }

    fn upsert_row(
        &mut self,
        object: &str,
        field: &str,
        value: &str,
        row: &Value,
    ) -> Result<(String, bool), Refused> {
        let mut row = row.clone();
        row.as_object_mut().unwrap().shift_remove("attributes");
        match self.rows.iter().position(|kept| kept.object == object && kept.fields[field] == value) {
            Some(at) => self.update(at, &row).map(|()| (self.rows[at].id.clone(), false)),
            None => {
                row[field] = json!(value);
                self.checked(object, &row, true)?;
                Ok((self.insert(object, &row), true))
            }
        }
    }

    fn upsert(&mut self, object: &str, field: &str, value: &str, body: Value) -> Answer {
        if field == "Id" {
            return self.update_by_id(object, value, &body);
        }
        match self.upsert_row(object, field, value, &body) {
            Ok((id, created)) => {
                let status = if created { 201 } else { 200 };
                Answer::new(status, json!({"id": id, "success": true, "created": created, "errors": []}))
            }
            Err(refused) => refused.answer(),
        }
    }

    fn create(&mut self, object: &str, body: &Value) -> Answer {
        if let Err(refused) = self.checked(object, body, true) {
            return refused.answer();
        }
        let same = |row: &&Row| {
            row.object == object
                && !body[EXTERNAL_ID].is_null()
                && row.fields[EXTERNAL_ID] == body[EXTERNAL_ID]
        };
        if let Some(other) = self.rows.iter().find(same) {
            let message = format!(
                "duplicate value found: {EXTERNAL_ID} duplicates value on record with id: {}",
                other.id
            );
            return Refused("DUPLICATE_VALUE", message, vec![]).answer();
        }
        let id = self.insert(object, body);
        Answer::new(201, json!({"id": id, "success": true, "errors": []}))
    }

    fn insert(&mut self, object: &str, fields: &Value) -> String {
        let prefix = if object == "Contact" { "003" } else { "00Q" };
        let now = self.now();
        let id = format!("{prefix}{:015}", self.writes);
        let mut kept = json!({"Id": id, "IsDeleted": false, "CreatedDate": now, "LastModifiedDate": now});
        if object == "Lead" {
            merge(&mut kept, &json!({"IsConverted": false, "ConvertedContactId": null}));
        }
        merge(&mut kept, fields);
        self.rows.push(Row {
            object: object.to_owned(),
            id: id.clone(),
            history: vec![kept.clone()],
            fields: kept,
        });
        id
    }

    fn update_by_id(&mut self, object: &str, id: &str, body: &Value) -> Answer {
        let Some(at) = self.by_id(object, id) else { return not_found() };
        match self.update(at, body) {
            Ok(()) => Answer::new(204, Value::Null),
            Err(refused) => refused.answer(),
        }
    }

    fn update(&mut self, at: usize, fields: &Value) -> Result<(), Refused> {
        if self.rows[at].fields["IsConverted"] == true {
            let message = "cannot reference converted lead".to_owned();
            return Err(Refused("CANNOT_UPDATE_CONVERTED_LEAD", message, vec![]));
        }
        let object = self.rows[at].object.clone();
        self.checked(&object, fields, false)?;
        let now = self.now();
        let row = &mut self.rows[at];
        merge(&mut row.fields, fields);
        row.fields["LastModifiedDate"] = json!(now);
        row.history.push(row.fields.clone());
        Ok(())
    }

    /// Fields that exist, that are well-formed and, for a new record, that it cannot do without.
    fn checked(&self, object: &str, fields: &Value, new: bool) -> Result<(), Refused> {
        let (known, required): (_, &[&str]) = match object {
            "Lead" => (LEAD_FIELDS, &["LastName", "Company"]),
            "Contact" => (CONTACT_FIELDS, &["LastName"]),
            _ => return Err(Refused("NOT_FOUND", "The requested resource does not exist".into(), vec![])),
        };
        for (name, value) in fields.as_object().into_iter().flatten() {
            let is = |other: &str| other.eq_ignore_ascii_case(name);
            if !known.split(' ').any(is) && !self.custom.iter().any(|other| is(other)) {
                let message = format!("No such column '{name}' on sobject of type {object}");
                return Err(Refused("INVALID_FIELD", message, vec![]));
            }
            if name == "Email" && value.as_str().is_some_and(|email| !email.contains('@')) {
                let message = format!("Email: invalid email address: {value}");
                return Err(Refused("INVALID_EMAIL_ADDRESS", message, vec!["Email".to_owned()]));
            }
        }
        let is_missing = |field: &&&str| {
            let value = &fields[**field];
            value.as_str().is_some_and(str::is_empty)
                || value.is_null() && (new || fields.get(**field).is_some())
        };
        let missing: Vec<String> =
            required.iter().filter(is_missing).map(|field| (*field).to_owned()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!("Required fields are missing: [{}]", missing.join(", "));
        Err(Refused("REQUIRED_FIELD_MISSING", message, missing))
    }

    /// A time for each write, in their order.
    fn now(&mut self) -> String {
        self.writes += 1;
        format!("2026-11-01T00:{:02}:{:02}.000+0000", self.writes / 60, self.writes % 60)
    }

    fn by_id(&self, object: &str, id: &str) -> Option<usize> {
        self.rows.iter().position(|row| row.object == object && row.id == id)
    }

    fn delete(&mut self, object: &str, id: &str) -> Answer {
        let Some(at) = self.by_id(object, id) else { return not_found() };
        self.rows.remove(at);
        Answer::new(204, Value::Null)
    }

    fn query(&self, text: &str) -> Answer {
        let Some(query) = soql::parse(text) else {
            return failed(400, "MALFORMED_QUERY", "unexpected token");
        };
        let is_meant = |row: &&Row| row.object == query.object && query.holds(&row.fields);
        let mut rows: Vec<&Row> = self.rows.iter().filter(is_meant).collect();
        rows.sort_by(|a, b| query.order(&a.fields, &b.fields));
        let records: Vec<Value> = rows
            .into_iter()
            .take(query.limit)
            .map(|row| {
                let url = format!("/services/data/v62.0/sobjects/{}/{}", row.object, row.id);
                let mut record = json!({"attributes": {"type": row.object, "url": url}});
                for field in &query.fields {
                    record[field] = row.fields[field].clone();
                }
                record
            })
            .collect();
        Answer::new(200, json!({"totalSize": records.len(), "done": true, "records": records}))
    }
}

fn failed(status: u16, code: &str, message: &str) -> Answer {
    Answer::new(status, json!([{"message": message, "errorCode": code}]))
}

fn not_found() -> Answer {
    failed(404, "NOT_FOUND", "The requested resource does not exist")
}
