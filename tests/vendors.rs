//! The stand-ins for the vendors behave as the vendors do: above all, they tell one person from two.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;
#[path = "support/vendors/mod.rs"]
mod vendors;

use serde_json::{Value, json};
use support::Reply;
use vendors::{Fault, Vendor, Vendors};

const SALESFORCE: &str = "acme.my.salesforce.com/services/data/v62.0";
const MEMBERS: &str = "us20.api.mailchimp.com/3.0/lists/ea7918abb6/members";
/// MD5 of `ada@example.com`.
const ADA: &str = "3e3417d7ef77d5932a6734b916515ed5";

fn try_call(vendors: &Vendors, line: &str, credentials: &str, body: &str) -> std::io::Result<Reply> {
    let (method, path) = line.split_once(' ').unwrap();
    let url = vendors.url();
    let address = url.trim_start_matches("http://");
    support::request(address, method, &format!("/{path}"), &[("Authorization", credentials)], body.as_bytes())
}

fn call(vendors: &Vendors, line: &str, credentials: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let reply = try_call(vendors, line, credentials, &body).unwrap();
    (reply.status, serde_json::from_str(&reply.body).unwrap_or_default())
}

fn engage(vendors: &Vendors, records: Value) -> (u16, Value) {
    call(vendors, "POST api.mixpanel.com/engage?strict=1", "", records)
}

fn intercom(vendors: &Vendors, line: &str, body: Value) -> (u16, Value) {
    let (method, path) = line.split_once(' ').unwrap();
    call(vendors, &format!("{method} api.intercom.io/{path}"), "Bearer intercom-token", body)
}

fn mailchimp(vendors: &Vendors, line: &str, body: Value) -> (u16, Value) {
    let (method, path) = line.split_once(' ').unwrap();
    call(vendors, &format!("{method} {MEMBERS}/{path}"), "Bearer KEY-us20", body)
}

/// A session at Salesforce.
struct Session<'a>(&'a Vendors, String);

impl Session<'_> {
    fn new(vendors: &Vendors) -> Session<'_> {
        let form = "grant_type=client_credentials&client_id=ID&client_secret=SECRET";
        let reply =
            try_call(vendors, "POST acme.my.salesforce.com/services/oauth2/token", "", form).unwrap().json();
        Session(vendors, format!("Bearer {}", reply["access_token"].as_str().unwrap()))
    }

    fn call(&self, line: &str, body: Value) -> (u16, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        call(self.0, &format!("{method} {SALESFORCE}/{path}"), &self.1, body)
    }

    fn upsert(&self, rows: Value) -> Value {
        let body = json!({"allOrNone": false, "records": rows});
        let (status, answer) = self.call("PATCH composite/sobjects/Lead/UserId__c", body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The number of leads with this text, as it stands in the query, for an address.
    fn leads(&self, escaped: &str) -> u64 {
        let query = format!("SELECT Id, IsConverted FROM Lead WHERE Email = '{escaped}'").replace(' ', "+");
        let (status, answer) = self.call(&format!("GET query/?q={query}"), Value::Null);
        assert_eq!(status, 200, "{answer}");
        answer["totalSize"].as_u64().unwrap()
    }
}

fn lead(user_id: &str, n: u64) -> Value {
    json!({"attributes": {"type": "Lead"}, "UserId__c": user_id, "LastName": "B", "Company": "n/a", "n__c": n})
}

#[test]
fn wrong_credentials_are_refused_by_every_vendor() {
    let vendors = Vendors::start();
    assert_eq!(engage(&vendors, json!([{"$token": "OTHER", "$distinct_id": "u", "$set": {}}])).0, 401);
    let status = |line: &str, credentials: &str| {
        call(&vendors, line, credentials, json!({"email_address": "a@b.test"})).0
    };
    assert_eq!(status(&format!("PUT {MEMBERS}/x"), "Bearer KEY-us21"), 401);
    assert_eq!(status(&format!("PUT {}/x", MEMBERS.replace("us20", "us21")), "Bearer KEY-us20"), 401);
    assert_eq!(status("POST api.intercom.io/contacts", "Bearer other"), 401);
    assert_eq!(status("POST api.eu.intercom.io/contacts", "Bearer intercom-token"), 401);
    assert_eq!(status(&format!("POST {SALESFORCE}/sobjects/Lead"), "Bearer other"), 401);
    let form = "grant_type=client_credentials&client_id=ID&client_secret=OTHER";
    let refused = try_call(&vendors, "POST acme.my.salesforce.com/services/oauth2/token", "", form).unwrap();
    assert_eq!((refused.status, refused.json()["error"].clone()), (400, json!("invalid_client")));
    for vendor in Vendor::ALL {
        assert!(vendors.people(vendor).is_empty(), "{vendor:?}");
    }
}

#[test]
fn a_mixpanel_profile_is_one_however_often_it_is_written() {
    let vendors = Vendors::start();
    let update =
        |operation: &str, value: Value| json!({"$token": "TOKEN", "$distinct_id": "u_1", operation: value});
    let (status, answer) = engage(
        &vendors,
        json!([
            update("$set", json!({"n": 1, "old": true})),
            update("$set_once", json!({"n": 5, "first": 1})),
            update("$union", json!({"tags": ["a", "b", "a"]})),
            update("$append", json!({"seen": "x"})),
            update("$unset", json!(["old"])),
        ]),
    );
    assert_eq!((status, &answer["num_records_imported"]), (200, &json!(5)));
    let people = vendors.people(Vendor::Mixpanel);
    let person = &people["u_1"];
    assert_eq!((person.created, person.writes), (1, 5));
    assert_eq!(person.attributes, json!({"n": 1, "first": 1, "tags": ["a", "b"], "seen": ["x"]}));

    let (status, answer) =
        engage(&vendors, json!([update("$set", json!({"n": 2})), {"$token": "TOKEN", "$set": {}}]));
    assert_eq!((status, &answer["failed_records"][0]["index"]), (400, &json!(1)));
    assert_eq!(vendors.people(Vendor::Mixpanel)["u_1"].attributes["n"], 2);
}

#[test]
fn a_mailchimp_member_keeps_its_status_and_who_left_stays_away() {
    let vendors = Vendors::start();
    vendors.declare(&["plan_tier"]);
    let member = json!({"email_address": "Ada@Example.com", "status_if_new": "subscribed",
        "merge_fields": {"FNAME": "Ada", "PLANTIER": "7", "NOSUCHTAG": "x"}});
    assert_eq!(mailchimp(&vendors, &format!("PUT {ADA}"), member.clone()).0, 200);
    let people = vendors.people(Vendor::Mailchimp);
    assert_eq!(
        people["ada@example.com"].attributes["merge_fields"],
        json!({"FNAME": "Ada", "PLANTIER": "7"})
    );
    assert_eq!(Vendor::Mailchimp.custom(&people["ada@example.com"].attributes, "plan_tier"), 7);

    vendors.mailchimp(|mailchimp| mailchimp.leave("ada@example.com"));
    assert_eq!(mailchimp(&vendors, &format!("PUT {ADA}"), member).1["status"], "unsubscribed");
    let subscribe = json!({"email_address": "ada@example.com", "status": "subscribed"});
    let (status, problem) = mailchimp(&vendors, &format!("PUT {ADA}"), subscribe.clone());
    assert_eq!((status, &problem["title"]), (400, &json!("Member In Compliance State")));
    let person = &vendors.people(Vendor::Mailchimp)["ada@example.com"];
    assert_eq!((person.created, person.writes), (1, 2));

    // Under a hash that is not its own it is nobody's, and the address is taken.
    let (_, problem) = mailchimp(&vendors, "PUT 00000000000000000000000000000000", subscribe.clone());
    assert_eq!(problem["title"], "Member Exists");
    assert_eq!(mailchimp(&vendors, &format!("POST {ADA}/actions/delete-permanent"), Value::Null).0, 204);
    let (_, problem) = mailchimp(&vendors, &format!("PUT {ADA}"), subscribe);
    assert_eq!(problem["title"], "Forgotten Email Not Subscribed");
}

#[test]
fn mailchimp_refuses_half_an_address_and_a_whole_birthday() {
    let vendors = Vendors::start();
    for (tag, value) in
        [("ADDRESS", json!({"addr1": "1 Mill St"})), ("BIRTHDAY", json!("1990-12-10")), ("FNAME", json!([]))]
    {
        let member = json!({"email_address": "ada@example.com", "status_if_new": "pending", "merge_fields": {tag: value}});
        let (status, problem) = mailchimp(&vendors, &format!("PUT {ADA}"), member);
        assert_eq!((status, &problem["errors"][0]["field"]), (400, &json!(tag)));
    }
    assert!(vendors.people(Vendor::Mailchimp).is_empty());
}

#[test]
fn an_intercom_user_is_a_conflict_when_its_id_or_address_is_taken() {
    let vendors = Vendors::start();
    let (status, ada) = intercom(
        &vendors,
        "POST contacts",
        json!({"role": "user", "external_id": "u_1", "email": "Ada@b.test"}),
    );
    assert_eq!(status, 200);
    let id = ada["id"].as_str().unwrap();
    for taken in [
        json!({"external_id": "u_1"}),
        json!({"external_id": "u_2", "email": "ada@b.test"}),
        json!({"email": "ADA@b.test"}),
    ] {
        let (status, error) = intercom(&vendors, "POST contacts", taken);
        assert_eq!((status, &error["errors"][0]["code"]), (409, &json!("conflict")));
        assert!(error["errors"][0]["message"].as_str().unwrap().ends_with(&format!("id={id}")), "{error}");
    }
    let (status, _) =
        intercom(&vendors, &format!("PUT contacts/{id}"), json!({"name": "Ada", "email": "ada@b.test"}));
    assert_eq!(status, 200);
    assert_eq!(intercom(&vendors, "GET contacts/find_by_external_id/u_1", Value::Null).1["name"], "Ada");
    assert_eq!(intercom(&vendors, "GET contacts/find_by_external_id/u_2", Value::Null).0, 404);
    let person = &vendors.people(Vendor::Intercom)["u_1"];
    assert_eq!((person.created, person.writes), (1, 2));

    vendors.intercom(|intercom| intercom.archive("u_1"));
    assert_eq!(intercom(&vendors, "GET contacts/find_by_external_id/u_1", Value::Null).0, 404);
    assert_eq!(intercom(&vendors, &format!("PUT contacts/{id}"), json!({"name": "x"})).0, 410);
    let (_, error) = intercom(&vendors, "POST contacts", json!({"external_id": "u_1"}));
    assert!(error["errors"][0]["message"].as_str().unwrap().starts_with("An archived contact"), "{error}");
    assert_eq!(intercom(&vendors, &format!("POST contacts/{id}/unarchive"), json!({})).0, 200);
    assert_eq!(intercom(&vendors, &format!("PUT contacts/{id}"), json!({"name": "x"})).0, 200);
}

#[test]
fn intercom_leads_with_one_address_are_two_people() {
    let vendors = Vendors::start();
    for _ in 0..2 {
        assert_eq!(
            intercom(&vendors, "POST contacts", json!({"role": "lead", "email": "ada@b.test"})).0,
            200
        );
    }
    assert_eq!(vendors.records(Vendor::Intercom).len(), 2);
    assert_eq!(vendors.people(Vendor::Intercom)["ada@b.test"].created, 2);
    assert_eq!(vendors.duplicates(Vendor::Intercom), ["ada@b.test"]);
}

#[test]
fn the_intercom_search_lags_when_told_and_reads_by_id_do_not() {
    let vendors = Vendors::start();
    let found = || {
        let query = json!({"query": {"operator": "OR", "value": [
            {"field": "email", "operator": "=", "value": "ADA@b.test"},
            {"field": "external_id", "operator": "=", "value": "u_9"},
        ]}});
        intercom(&vendors, "POST contacts/search", query).1["total_count"].as_u64().unwrap()
    };
    vendors.intercom(|intercom| intercom.search_lags());
    intercom(&vendors, "POST contacts", json!({"external_id": "u_1", "email": "ada@b.test"}));
    assert_eq!(found(), 0);
    assert_eq!(intercom(&vendors, "GET contacts/find_by_external_id/u_1", Value::Null).0, 200);
    vendors.intercom(|intercom| intercom.catch_up());
    assert_eq!(found(), 1);
}

#[test]
fn intercom_knows_only_declared_attributes_and_keeps_companies() {
    let vendors = Vendors::start();
    let contact = json!({"external_id": "u_1", "custom_attributes": {"n": 1}});
    let (status, error) = intercom(&vendors, "POST contacts", contact.clone());
    assert_eq!((status, &error["errors"][0]["code"]), (400, &json!("parameter_invalid")));
    let attribute = json!({"name": "n", "model": "contact", "data_type": "integer"});
    assert_eq!(intercom(&vendors, "POST data_attributes", attribute.clone()).0, 200);
    assert_eq!(intercom(&vendors, "POST data_attributes", attribute).0, 400);
    assert_eq!(
        intercom(&vendors, "GET data_attributes?model=contact", Value::Null).1["data"][0]["name"],
        "n"
    );
    let id = intercom(&vendors, "POST contacts", contact).1["id"].as_str().unwrap().to_owned();

    let company = json!({"company_id": "c9", "name": "Engine Ltd"});
    let (_, made) = intercom(&vendors, "POST companies", company.clone());
    assert_eq!(intercom(&vendors, "POST companies", company).1["id"], made["id"]);
    for _ in 0..2 {
        assert_eq!(
            intercom(&vendors, &format!("POST contacts/{id}/companies"), json!({"id": made["id"]})).0,
            200
        );
    }
    assert_eq!(vendors.intercom(|intercom| intercom.companies_of("u_1")), ["c9"]);
}

#[test]
fn salesforce_upserts_by_external_id_row_by_row() {
    let vendors = Vendors::start();
    vendors.declare(&["n"]);
    let session = Session::new(&vendors);
    let rows = session.upsert(json!([lead("u_1", 1), lead("u_2", 1), lead("u_2", 2), {"attributes": {"type": "Lead"}, "UserId__c": "u_3"}]));
    assert_eq!((&rows[0]["success"], &rows[0]["created"]), (&json!(true), &json!(true)));
    let codes: Vec<&Value> = (1..4).map(|at| &rows[at]["errors"][0]["statusCode"]).collect();
    assert_eq!(codes, ["DUPLICATE_VALUE", "DUPLICATE_VALUE", "REQUIRED_FIELD_MISSING"]);

    let rows = session.upsert(json!([lead("u_1", 2)]));
    assert_eq!((&rows[0]["success"], &rows[0]["created"]), (&json!(true), &json!(false)));
    let people = vendors.people(Vendor::Salesforce);
    assert_eq!(people.keys().collect::<Vec<_>>(), ["u_1"]);
    assert_eq!((people["u_1"].created, people["u_1"].writes), (1, 2));
    assert_eq!(Vendor::Salesforce.custom(&people["u_1"].attributes, "n"), 2);
}

#[test]
fn salesforce_leads_created_twice_are_two_people_and_found_twice() {
    let vendors = Vendors::start();
    let session = Session::new(&vendors);
    for (count, email) in [(1, "o'hara@b.test"), (2, "O'Hara@b.test")] {
        let lead = json!({"LastName": "O'Hara", "Company": "n/a", "Email": email});
        assert_eq!(session.call("POST sobjects/Lead", lead).0, 201);
        assert_eq!(session.leads("o\\'hara@b.test"), count);
    }
    assert_eq!(session.leads("nobody@b.test"), 0);
    assert_eq!(
        session.call("GET query?q=SELECT+Id+FROM+Lead+WHERE+Email+=+'o'hara@b.test'", Value::Null).0,
        400
    );
    assert_eq!(vendors.people(Vendor::Salesforce)["o'hara@b.test"].created, 2);
    assert_eq!(vendors.duplicates(Vendor::Salesforce), ["o'hara@b.test"]);
    // The external id is unique, also where records are created.
    let lead = json!({"LastName": "B", "Company": "n/a", "UserId__c": "u_1"});
    assert_eq!(session.call("POST sobjects/Lead", lead.clone()).0, 201);
    assert_eq!(session.call("POST sobjects/Lead", lead).1[0]["errorCode"], "DUPLICATE_VALUE");
}

#[test]
fn a_salesforce_session_ends_and_a_converted_lead_is_not_updated() {
    let vendors = Vendors::start();
    let session = Session::new(&vendors);
    let lead = json!({"LastName": "B", "Company": "n/a", "Email": "ada@b.test"});
    let id = session.call("POST sobjects/Lead", lead).1["id"].as_str().unwrap().to_owned();
    let line = format!("PATCH sobjects/Lead/{id}");
    assert_eq!(session.call(&line, json!({"Title": "CTO"})).0, 204);
    assert_eq!(session.call(&line, json!({"LastName": ""})).1[0]["errorCode"], "REQUIRED_FIELD_MISSING");
    assert_eq!(session.call(&line, json!({"nope__c": 1})).1[0]["errorCode"], "INVALID_FIELD");
    let contact = vendors.salesforce(|salesforce| salesforce.convert("ada@b.test"));
    assert_eq!(session.call(&line, json!({"Title": "x"})).1[0]["errorCode"], "CANNOT_UPDATE_CONVERTED_LEAD");
    assert_eq!(session.call(&format!("PATCH sobjects/Contact/{contact}"), json!({"Title": "x"})).0, 204);
    // An open lead comes before a converted one.
    let open = json!({"LastName": "B", "Company": "n/a", "Email": "ada@b.test"});
    let open = session.call("POST sobjects/Lead", open).1["id"].clone();
    let query =
        "SELECT Id FROM Lead WHERE Email = 'ada@b.test' ORDER BY IsConverted, LastModifiedDate DESC LIMIT 2";
    let (_, found) = session.call(&format!("GET query?q={}", query.replace(' ', "+")), Value::Null);
    let ids: Vec<&Value> = found["records"].as_array().unwrap().iter().map(|record| &record["Id"]).collect();
    assert_eq!(ids, [&open, &json!(id)]);

    vendors.salesforce(|salesforce| salesforce.expire_tokens());
    let (status, error) = session.call(&line, json!({"Title": "x"}));
    assert_eq!((status, &error[0]["errorCode"]), (401, &json!("INVALID_SESSION_ID")));
    assert_eq!(Session::new(&vendors).call(&line, json!({})).0, 400);
}

#[test]
fn faults_meet_the_requests_that_they_are_for() {
    let vendors = Vendors::start();
    let create = |user: &str| {
        let body = json!({"external_id": user}).to_string();
        try_call(&vendors, "POST api.intercom.io/contacts", "Bearer intercom-token", &body)
    };
    vendors.fault(Vendor::Intercom, Fault::Status(503, Some(7)), "POST /contacts$", 1);
    vendors.fault(Vendor::Intercom, Fault::DropBeforeCommit, "POST /contacts$", 1);
    vendors.fault(Vendor::Intercom, Fault::DropAfterCommit, "POST /contacts$", 1);
    vendors.fault(Vendor::Intercom, Fault::Slow(1), "POST /contacts$", 1);
    assert_eq!(intercom(&vendors, "POST contacts/search", json!({})).0, 400, "not one that is meant");

    let reply = create("u_1").unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("7")));
    assert!(create("u_2").is_err());
    assert!(vendors.people(Vendor::Intercom).is_empty());
    assert!(create("u_3").is_err());
    assert_eq!(create("u_4").unwrap().status, 200);
    assert_eq!(create("u_5").unwrap().status, 200);
    assert_eq!(vendors.people(Vendor::Intercom).keys().collect::<Vec<_>>(), ["u_3", "u_4", "u_5"]);
    let statuses: Vec<_> = vendors.requests(Vendor::Intercom).iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(400), Some(503), None, None, Some(200), Some(200)]);
}

#[test]
fn a_held_request_is_done_when_released_and_one_that_hangs_is_never_answered() {
    let vendors = Vendors::start();
    let create = |user: &str| {
        let body = json!({"external_id": user}).to_string();
        try_call(&vendors, "POST api.intercom.io/contacts", "Bearer intercom-token", &body)
    };
    vendors.fault(Vendor::Intercom, Fault::Hold, "", 1);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| create("u_1").unwrap().status);
        vendors.wait_for_requests(Vendor::Intercom, "POST /contacts$", 1);
        assert!(vendors.people(Vendor::Intercom).is_empty());
        vendors.release();
        assert_eq!(held.join().unwrap(), 200);
    });
    assert_eq!(vendors.people(Vendor::Intercom).len(), 1);

    vendors.fault(Vendor::Intercom, Fault::Hang, "", 1);
    vendors.fault(Vendor::Intercom, Fault::HangAfterCommit, "", 1);
    let url = vendors.url();
    for user in ["u_2", "u_3"] {
        let body = json!({"external_id": user}).to_string();
        let mut stream = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
        let head =
            "POST /api.intercom.io/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer intercom-token\r\n";
        std::io::Write::write_all(
            &mut stream,
            format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        )
        .unwrap();
        vendors.wait_until("the request", |vendors| {
            vendors.requests(Vendor::Intercom).iter().any(|request| request.body["external_id"] == user)
        });
    }
    vendors
        .wait_until("what was done without an answer", |vendors| vendors.people(Vendor::Intercom).len() == 2);
    assert!(!vendors.people(Vendor::Intercom).contains_key("u_2"));
    assert_eq!(vendors.requests(Vendor::Intercom).last().unwrap().status, None);
}
