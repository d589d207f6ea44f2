//! What each vendor must be sent for a user whom an SDK of `tests/sdk_clients.rs` identified once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::table::User;
use crate::vendors::{Vendor, Vendors};

/// What a vendor was sent for each user, as its documentation asks; in the order of arrival.
pub fn sent(vendors: &Vendors, vendor: Vendor) -> BTreeMap<String, Vec<Value>> {
    let mut users = BTreeMap::<String, Vec<Value>>::new();
    for request in vendors.requests(vendor) {
        match vendor {
            Vendor::Mixpanel => {
                let line = (request.method.as_str(), request.path.as_str(), request.query.as_str());
                assert_eq!(line, ("POST", "/engage", "ip=0&strict=1&verbose=1"));
                for record in request.body.as_array().unwrap() {
                    let user = record["$distinct_id"].as_str().unwrap().trim_start_matches("$device:");
                    users.entry(user.to_owned()).or_default().push(record.clone());
                }
            }
            _ => panic!("no expectations for {vendor:?}"),
        }
    }
    users
}

pub fn expected(vendor: Vendor, user: &User) -> Vec<Value> {
    let User { name, is_known, logins } = user;
    match vendor {
        Vendor::Mixpanel => {
            let id = if *is_known { name.clone() } else { format!("$device:{name}") };
            vec![
                json!({"$token": "TOKEN", "$distinct_id": id, "$ip": "0", "$set": {
                    "$email": format!("{name}@example.com"), "$first_name": "Ada", "$last_name": "Byron",
                    "$name": "Ada Byron", "$created": "2024-03-05T09:30:00", "$city": "London",
                    "address": {"postal_code": "0123"}, "logins": logins,
                }}),
                json!({"$token": "TOKEN", "$distinct_id": id, "$ip": "0", "$unset": ["old_key"]}),
            ]
        }
        _ => panic!("no expectations for {vendor:?}"),
    }
}
