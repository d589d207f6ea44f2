//! The ways in which a person comes to a vendor, and a delivery on one of them: fanout, a stand-in and what to ask them.
//! A test file takes it in with `#[path = "support/bench.rs"] mod bench;`, beside `support` and `vendors`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use serde_json::{Value, json};

use crate::support::{Process, Service};
use crate::vendors::{Fault, Person, Vendor, Vendors};

pub const EMAIL: &str = "ada@example.com";

/// A way in which a person comes to a vendor. Each test runs for every way.
pub struct Way {
    pub vendor: Vendor,
    /// Instead of the stand-in's own settings.
    pub settings: Option<&'static str>,
    /// Whether the person is without a user id.
    pub anonymous: bool,
    /// Whether the vendor's search knows nothing of what was written during the test.
    pub search_lags: bool,
    /// The request that makes a person.
    pub creates: &'static str,
    /// What the requests about people have in common.
    pub people: &'static str,
    /// Whether the vendor takes people without a user id, by their address.
    pub takes_anonymous: bool,
    /// How many requests the first identify takes, and how many each one after it.
    pub requests: [usize; 2],
    /// Whether the adapter waits for an answer for longer than a test has patience.
    pub patient: bool,
}

pub const MIXPANEL: Way = Way {
    vendor: Vendor::Mixpanel,
    settings: None,
    anonymous: false,
    search_lags: false,
    creates: "POST /engage$",
    people: "/engage",
    takes_anonymous: false,
    requests: [1, 1],
    patient: false,
};

pub const MAILCHIMP: Way = Way {
    vendor: Vendor::Mailchimp,
    creates: "PUT /3.0/lists/",
    people: "/lists/",
    takes_anonymous: true,
    patient: true,
    ..MIXPANEL
};

pub const INTERCOM: Way = Way {
    vendor: Vendor::Intercom,
    creates: "POST /contacts$",
    people: "/contacts",
    takes_anonymous: true,
    requests: [3, 1],
    ..MIXPANEL
};

/// The search finds nothing that was written lately.
pub const INTERCOM_SEARCH_LAG: Way = Way { search_lags: true, ..INTERCOM };

/// Without a user id there is nothing but the address to search by.
pub const INTERCOM_ADDRESS_ONLY: Way = Way { anonymous: true, requests: [2, 1], ..INTERCOM_SEARCH_LAG };

pub const SALESFORCE_BY_ID: Way = Way {
    vendor: Vendor::Salesforce,
    settings: Some(
        r#"{ login_host = "acme.my.salesforce.com", client_id = "ID", client_secret = "SECRET", object = "Contact", external_id_field = "UserId__c" }"#,
    ),
    creates: "/composite/sobjects/Contact/UserId__c$",
    people: "/services/data/",
    ..MIXPANEL
};

pub const SALESFORCE_BY_ADDRESS: Way = Way {
    vendor: Vendor::Salesforce,
    settings: Some(
        r#"{ login_host = "acme.my.salesforce.com", client_id = "ID", client_secret = "SECRET" }"#,
    ),
    creates: "/sobjects/Lead$",
    people: "/services/data/",
    takes_anonymous: true,
    requests: [2, 1],
    ..MIXPANEL
};

/// A delivery under test: stand-in, fanout and the way between them.
pub struct Bench<'a> {
    pub way: &'a Way,
    pub vendors: Vendors,
    pub service: Service,
}

impl Bench<'_> {
    pub fn new(way: &Way) -> Bench<'_> {
        let vendors = Vendors::start();
        vendors.declare(&["n", "other"]);
        if way.search_lags {
            vendors.intercom(|intercom| intercom.search_lags());
        }
        let settings = way.settings.map_or_else(|| vendors.settings(way.vendor), str::to_owned);
        let destination = format!("[destinations.{}]\nsettings = {settings}", way.vendor.name());
        let service = Service::new(&vendors.url(), &destination);
        Bench { way, vendors, service }
    }

    pub fn identify(&self, n: u64) {
        self.service.accept("/v1/identify", &self.call(n));
    }

    pub fn call(&self, n: u64) -> Value {
        identify(self.way.anonymous, "1", json!({"email": EMAIL, "last_name": "Byron", "n": n}))
    }

    pub fn fault(&self, fault: Fault, times: u32) {
        self.vendors.fault(self.way.vendor, fault, self.way.creates, times);
    }

    /// Waits until somebody at the vendor has this value.
    pub fn wait_for(&self, n: u64) {
        let vendor = self.way.vendor;
        self.vendors.wait_until(&format!("n = {n}"), |vendors| {
            vendors.people(vendor).values().any(|person| vendor.custom(&person.attributes, "n") == n)
        });
    }

    /// How many requests came, without those for a session.
    pub fn requests(&self) -> usize {
        self.vendors.requests(self.way.vendor).iter().filter(|request| !request.is("/oauth2/token")).count()
    }

    /// Ends fanout in order, so that nothing more comes, and answers the only person there is.
    pub fn only_person(&self, fanout: Process) -> Person {
        assert!(fanout.terminate());
        let mut people: Vec<Person> = self.vendors.people(self.way.vendor).into_values().collect();
        assert_eq!(people.len(), 1, "{people:#?}{}", self.vendors.summary());
        let person = people.remove(0);
        assert_eq!(person.created, 1, "{person:#?}{}", self.vendors.summary());
        person
    }

    /// The values that a person had, one after the other.
    pub fn values(&self, person: &Person) -> Vec<u64> {
        person
            .history
            .iter()
            .map(|attributes| self.way.vendor.custom(attributes, "n").as_u64().unwrap())
            .collect()
    }
}

pub fn identify(anonymous: bool, name: &str, traits: Value) -> Value {
    let (key, name) =
        if anonymous { ("anonymousId", format!("a-{name}")) } else { ("userId", format!("u-{name}")) };
    // Salesforce is opted into call by call.
    json!({"type": "identify", key: name, "traits": traits, "integrations": {"All": true, "Salesforce": true}})
}
