//! Mailchimp: the members of one audience, by the MD5 of their lower-case address.
//!
//! https://mailchimp.com/developer/marketing/api/list-members/, checked 2026-11. PUT is an upsert: `status_if_new` counts
//! for new members alone, and who has left is not subscribed again by a request.

use std::collections::BTreeSet;

use base64::Engine;
use md5::{Digest, Md5};
use serde_json::{Value, json};

use super::Record;
use super::world::{Answer, Call, StandIn, lower, merge};

pub(super) const SETTINGS: &str = r#"{ api_key = "KEY-us20", audience_id = "ea7918abb6" }"#;
const KEY: &str = "KEY-us20";
const AUDIENCE: &str = "ea7918abb6";
const HOST: &str = "us20.api.mailchimp.com";
const TAGS: [&str; 6] = ["FNAME", "LNAME", "ADDRESS", "PHONE", "BIRTHDAY", "COMPANY"];
const STATUSES: [&str; 5] = ["subscribed", "unsubscribed", "cleaned", "pending", "transactional"];

pub struct Mailchimp {
    members: Vec<Member>,
    tags: BTreeSet<String>,
    /// Addresses that were deleted for good.
    forgotten: BTreeSet<String>,
}

struct Member {
    contact_id: String,
    email: String,
    /// The person left, or the address bounced: no request may subscribe it.
    has_left: bool,
    member: Value,
    history: Vec<Value>,
}

impl Default for Mailchimp {
    fn default() -> Mailchimp {
        let tags = TAGS.map(str::to_owned).into();
        Mailchimp { members: Vec::new(), tags, forgotten: BTreeSet::new() }
    }
}

impl StandIn for Mailchimp {
    fn serves(&self, host: &str) -> bool {
        host.ends_with(".api.mailchimp.com")
    }

    fn answer(&mut self, call: &Call<'_>) -> Answer {
        if !authorised(call) {
            return problem(
                401,
                "API Key Invalid",
                "Your API key may be invalid, or you've attempted to access the wrong datacenter.",
            );
        }
        match call.line() {
            (_, path) if path.get(..3) != Some(&["3.0", "lists", AUDIENCE]) => not_found(),
            ("PUT", path) if path.len() == 5 => self.put(path[4], call),
            ("GET", path) if path.len() == 5 => {
                self.find(path[4]).map_or_else(not_found, |at| self.shown(at))
            }
            ("DELETE", path) if path.len() == 5 => self.archive(path[4]),
            ("POST", path) if path.len() == 4 && path[3] == "members" => self.post(call),
            ("POST", path) if path.get(5..) == Some(&["actions", "delete-permanent"]) => self.forget(path[4]),
            _ => not_found(),
        }
    }

    fn records(&self) -> Vec<Record> {
        let record = |member: &Member| Record {
            id: member.contact_id.clone(),
            user_id: None,
            email: Some(member.email.clone()),
            history: member.history.clone(),
        };
        self.members.iter().map(record).collect()
    }

    fn declare(&mut self, traits: &[&str]) {
        self.tags.extend(traits.iter().map(|name| tag(name)));
    }

    fn delete_everybody(&mut self) {
        self.members.clear();
    }
}

/// The merge tag that a trait gets by the vendor's rules for tags.
pub(super) fn tag(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).take(10).collect::<String>().to_uppercase()
}

impl Mailchimp {
    /// The person unsubscribes by the link in a mail.
    pub fn leave(&mut self, email: &str) {
        let at = self.find(email).unwrap();
        self.members[at].has_left = true;
        self.members[at].member["status"] = json!("unsubscribed");
    }

    /// A member's status.
    pub fn status(&self, email: &str) -> Option<String> {
        let at = self.find(email)?;
        self.members[at].member["status"].as_str().map(str::to_owned)
    }

    /// By MD5 of the address, by the address or by the contact's id.
    fn find(&self, name: &str) -> Option<usize> {
        let is = |member: &Member| {
            name == hash(&member.email) || name.to_lowercase() == member.email || name == member.contact_id
        };
        self.members.iter().position(is)
    }

    fn put(&mut self, name: &str, call: &Call<'_>) -> Answer {
        let Some(body) = call.json().filter(Value::is_object) else {
            return problem(400, "JSON Parse Error", "We encountered an unspecified JSON parsing error.");
        };
        match self.find(name) {
            Some(at) => self.update(at, &body),
            None => self.create(&body, &body["status_if_new"]),
        }
    }

    fn post(&mut self, call: &Call<'_>) -> Answer {
        let body = call.json().unwrap_or_default();
        let status = body["status"].clone();
        self.create(&body, &status)
    }

    fn create(&mut self, body: &Value, status: &Value) -> Answer {
        let Some(email) = lower(&body["email_address"]).filter(|email| email.contains('@')) else {
            return invalid("email_address", "This value should be a valid email.");
        };
        if self.forgotten.contains(&email) {
            let detail = format!(
                "{email} was permanently deleted and cannot be re-imported. The contact must re-subscribe to get back on the list."
            );
            return problem(400, "Forgotten Email Not Subscribed", &detail);
        }
        if self.find(&email).is_some() {
            let detail =
                format!("{email} is already a list member. Use PUT to insert or update list members.");
            return problem(400, "Member Exists", &detail);
        }
        let status = if body["status"].is_null() { status } else { &body["status"] };
        if !status.as_str().is_some_and(|status| STATUSES.contains(&status)) {
            return invalid("status_if_new", "The value you selected is not a valid choice.");
        }
        if let Some(refused) = self.refused(body) {
            return refused;
        }
        let contact_id = format!("{:032x}", self.members.len() + 1);
        let member = json!({"id": hash(&email), "contact_id": contact_id, "list_id": AUDIENCE, "merge_fields": {},
            "status": status});
        self.members.push(Member { contact_id, email, has_left: false, member, history: Vec::new() });
        self.write(self.members.len() - 1, body)
    }

    fn update(&mut self, at: usize, body: &Value) -> Answer {
        let member = &self.members[at];
        if let Some(status) = body["status"].as_str() {
            if !STATUSES.contains(&status) {
                return invalid("status", "The value you selected is not a valid choice.");
            }
            if member.has_left && status == "subscribed" {
                let detail = format!(
                    "{} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed.",
                    member.email
                );
                return problem(400, "Member In Compliance State", &detail);
            }
        }
        if let Some(refused) = self.refused(body) {
            return refused;
        }
        self.write(at, body)
    }

    fn write(&mut self, at: usize, body: &Value) -> Answer {
        let tags = &self.tags;
        let kept = &mut self.members[at];
        let mut told = body.clone();
        told.as_object_mut().unwrap().shift_remove("status_if_new");
        let mut fields = told.as_object_mut().unwrap().shift_remove("merge_fields").unwrap_or_default();
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|tag, _| tags.contains(tag)); // Others are ignored.
        }
        merge(&mut kept.member, &told);
        merge(&mut kept.member["merge_fields"], &fields);
        kept.email = lower(&kept.member["email_address"]).unwrap_or_default();
        kept.member["id"] = json!(hash(&kept.email));
        kept.history.push(kept.member.clone());
        self.shown(at)
    }

    /// What is wrong with the merge fields.
    fn refused(&self, body: &Value) -> Option<Answer> {
        for (tag, value) in body["merge_fields"].as_object().into_iter().flatten() {
            if !self.tags.contains(tag) {
                continue;
            }
            if tag == "ADDRESS" && !value.is_string() {
                let is_there = |part: &&str| value[*part].as_str().is_some_and(|text| !text.is_empty());
                if !["addr1", "city", "state", "zip"].iter().all(is_there) {
                    return Some(invalid("ADDRESS", "Please enter a complete address"));
                }
                continue;
            }
            if value.is_object() || value.is_array() {
                return Some(invalid(tag, "Data did not match any of the schemas described in anyOf."));
            }
            if tag == "BIRTHDAY" && !value.as_str().is_some_and(is_month_and_day) {
                return Some(invalid(tag, "Please enter a month (01-12) and a day (01-31)"));
            }
        }
        None
    }

    fn shown(&self, at: usize) -> Answer {
        Answer::new(200, self.members[at].member.clone())
    }

    fn archive(&mut self, name: &str) -> Answer {
        let Some(at) = self.find(name) else { return not_found() };
        self.members[at].member["status"] = json!("archived");
        Answer::new(204, Value::Null)
    }

    fn forget(&mut self, name: &str) -> Answer {
        let Some(at) = self.find(name) else { return not_found() };
        let member = self.members.remove(at);
        self.forgotten.insert(member.email);
        Answer::new(204, Value::Null)
    }
}

fn authorised(call: &Call<'_>) -> bool {
    let authorization = call.header("authorization").unwrap_or_default();
    if call.host != HOST {
        return false;
    }
    if let Some(token) = authorization.strip_prefix("Bearer ") {
        return token == KEY;
    }
    let basic = authorization.strip_prefix("Basic ").unwrap_or_default();
    let decoded = base64::engine::general_purpose::STANDARD.decode(basic).unwrap_or_default();
    String::from_utf8_lossy(&decoded).split_once(':').is_some_and(|(_, key)| key == KEY)
}

fn is_month_and_day(text: &str) -> bool {
    let in_range =
        |text: &str, most: u8| text.len() == 2 && text.parse().is_ok_and(|n: u8| (1..=most).contains(&n));
    text.is_empty()
        || text.split_once('/').is_some_and(|(month, day)| in_range(month, 12) && in_range(day, 31))
}

fn hash(email: &str) -> String {
    Md5::digest(email).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn problem(status: u16, title: &str, detail: &str) -> Answer {
    let body = json!({"type": "https://mailchimp.com/developer/marketing/docs/errors/", "title": title,
        "status": status, "detail": detail, "instance": "d8c3ad5f"});
    Answer::new(status, body).header("content-type", "application/problem+json; charset=utf-8")
}

fn invalid(field: &str, message: &str) -> Answer {
    let mut answer = problem(
        400,
        "Invalid Resource",
        "The resource submitted could not be validated. For field-specific details, see the 'errors' array.",
    );
    answer.body["errors"] = json!([{"field": field, "message": message}]);
    answer
}

fn not_found() -> Answer {
    problem(404, "Resource Not Found", "The requested resource could not be found.")
}
