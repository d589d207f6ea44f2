//! What each vendor must be sent for a user whom an SDK of `tests/sdk_clients.rs` identified once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use serde_json::{Value, json};

use crate::table::User;
use crate::vendors::{Recorded, Vendor, Vendors};

/// The settings of a vendor's destination by which it takes anonymous users too, where there are such.
pub fn settings(vendors: &Vendors, vendor: Vendor) -> String {
    let settings = vendors.settings(vendor);
    match vendor {
        // Without a field for the user id, people are found by their address.
        Vendor::Salesforce => settings.replace(r#", external_id_field = "UserId__c""#, ""),
        _ => settings,
    }
}

/// What a vendor was sent, by user, in the order of arrival.
pub fn sent(vendors: &Vendors, vendor: Vendor) -> BTreeMap<String, Vec<Value>> {
    let mut users = BTreeMap::<String, Vec<Value>>::new();
    for request in vendors.requests(vendor) {
        for (user, what) in items(&request) {
            users.entry(user).or_default().push(what);
        }
    }
    users
}

/// The users that a request is about, each with its part of the request.
fn items(request: &Recorded) -> Vec<(String, Value)> {
    let whole = json!({"request": line(request), "body": request.body});
    match request.vendor {
        Vendor::Mixpanel => {
            assert_eq!(line(request), "POST /engage?ip=0&strict=1&verbose=1");
            let records = request.body.as_array().unwrap().iter();
            records
                .map(|record| {
                    let id = record["$distinct_id"].as_str().unwrap();
                    (id.trim_start_matches("$device:").to_owned(), record.clone())
                })
                .collect()
        }
        Vendor::Mailchimp => vec![(user_of(&request.body["email_address"]), whole)],
        Vendor::Intercom => {
            let asked_for = request.path.strip_prefix("/contacts/find_by_external_id/").map(str::to_owned);
            let body = &request.body;
            let email = if request.is("/contacts/search") { &body["query"]["value"] } else { &body["email"] };
            vec![(asked_for.unwrap_or_else(|| user_of(email)), whole)]
        }
        Vendor::Salesforce if request.is("/services/oauth2/token$") => Vec::new(),
        Vendor::Salesforce if request.method == "GET" => {
            let email = request.query.split("%27").nth(1).unwrap().replace("%40", "@");
            vec![(user_of(&json!(email)), whole)]
        }
        Vendor::Salesforce => vec![(user_of(&request.body["Email"]), whole)],
    }
}

fn line(request: &Recorded) -> String {
    let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    format!("{} {}{query}", request.method, request.path)
}

fn user_of(email: &Value) -> String {
    email.as_str().unwrap().strip_suffix("@example.com").unwrap().to_owned()
}

/// What a vendor's documentation asks for.
pub fn expected(vendor: Vendor, user: &User) -> Vec<Value> {
    let User { name, is_known, logins } = user;
    let email = format!("{name}@example.com");
    match vendor {
        Vendor::Mixpanel => {
            let id = if *is_known { name.clone() } else { format!("$device:{name}") };
            vec![
                json!({"$token": "TOKEN", "$distinct_id": id, "$ip": "0", "$set": {
                    "$email": email, "$first_name": "Ada", "$last_name": "Byron", "$name": "Ada Byron",
                    "$created": "2024-03-05T09:30:00", "$city": "London",
                    "address": {"postal_code": "0123"}, "logins": logins,
                }}),
                json!({"$token": "TOKEN", "$distinct_id": id, "$ip": "0", "$unset": ["old_key"]}),
            ]
        }
        Vendor::Mailchimp => {
            let hash = format!("{:x}", Md5::digest(&email));
            vec![json!({
                "request": format!("PUT /3.0/lists/ea7918abb6/members/{hash}?skip_merge_validation=true"),
                "body": {"email_address": email, "status_if_new": "subscribed", "merge_fields": {
                    "FNAME": "Ada", "LNAME": "Byron", "CREATEDAT": "2024-03-05", "LOGINS": logins.to_string(),
                    "OLDKEY": "",
                }},
            })]
        }
        Vendor::Intercom => {
            let look_up = json!({"request": format!("GET /contacts/find_by_external_id/{name}"), "body": ""});
            let search = json!({"query": {"field": "email", "operator": "=", "value": email}});
            let mut contact = json!({
                "role": "user", "email": email, "name": "Ada Byron", "signed_up_at": 1_709_631_000,
                "custom_attributes": {
                    "logins": logins, "old_key": null, "address_city": "London", "address_postal_code": "0123",
                },
            });
            if *is_known {
                contact["external_id"] = json!(name);
            }
            let others = [
                json!({"request": "POST /contacts/search", "body": search}),
                json!({"request": "POST /contacts", "body": contact}),
            ];
            is_known.then_some(look_up).into_iter().chain(others).collect()
        }
        Vendor::Salesforce => {
            let query = format!(
                "SELECT Id, IsConverted, ConvertedContactId FROM Lead WHERE Email = '{email}' \
                 ORDER BY IsConverted, LastModifiedDate DESC LIMIT 2"
            );
            let query = [(" ", "%20"), (",", "%2C"), ("=", "%3D"), ("'", "%27"), ("@", "%40")]
                .iter()
                .fold(query, |text, (plain, encoded)| text.replace(plain, encoded));
            let lead = json!({
                "FirstName": "Ada", "LastName": "Byron", "Company": "n/a", "Email": email, "City": "London",
                "PostalCode": "0123", "logins__c": logins, "old_key__c": null,
            });
            vec![
                json!({"request": format!("GET /services/data/v62.0/query?q={query}"), "body": ""}),
                json!({"request": "POST /services/data/v62.0/sobjects/Lead", "body": lead}),
            ]
        }
    }
}
