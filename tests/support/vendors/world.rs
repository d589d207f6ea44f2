//! What the stand-ins have in common: the requests and faults of all, and what a stand-in gets and gives.

use serde_json::{Value, json};

use super::{Fault, Intercom, Mailchimp, Mixpanel, Record, Recorded, Salesforce, Vendor, server};

#[derive(Default)]
pub(super) struct World {
    pub(super) mixpanel: Mixpanel,
    pub(super) mailchimp: Mailchimp,
    pub(super) intercom: Intercom,
    pub(super) salesforce: Salesforce,
    pub(super) requests: Vec<Recorded>,
    pub(super) faults: Vec<Planned>,
    pub(super) changes: u64,
}

pub(super) struct Planned {
    pub(super) vendor: Vendor,
    pub(super) fault: Fault,
    pub(super) matching: String,
    pub(super) left: u32,
}

impl World {
    pub(super) fn stand_in(&mut self, vendor: Vendor) -> &mut dyn StandIn {
        match vendor {
            Vendor::Mixpanel => &mut self.mixpanel,
            Vendor::Mailchimp => &mut self.mailchimp,
            Vendor::Intercom => &mut self.intercom,
            Vendor::Salesforce => &mut self.salesforce,
        }
    }

    pub(super) fn vendor_of(&mut self, host: &str) -> Option<Vendor> {
        Vendor::ALL.into_iter().find(|vendor| self.stand_in(*vendor).serves(host))
    }

    /// The fault for this request, used up by it.
    pub(super) fn next_fault(&mut self, request: &Recorded) -> Option<Fault> {
        let fits = |planned: &&mut Planned| {
            planned.left > 0 && planned.vendor == request.vendor && request.is(&planned.matching)
        };
        let planned = self.faults.iter_mut().find(fits)?;
        planned.left -= 1;
        Some(planned.fault)
    }
}

/// What every stand-in does.
pub(super) trait StandIn {
    /// Whether requests for this host are its own.
    fn serves(&self, host: &str) -> bool;
    /// Does what the request asks for and answers it.
    fn answer(&mut self, call: &Call<'_>) -> Answer;
    /// Everybody it has, in the order of creation.
    fn records(&self) -> Vec<Record>;
    /// Makes room for custom traits where the vendor wants them declared.
    fn declare(&mut self, traits: &[&str]);
    /// Forgets everybody, as if they had been deleted one by one.
    fn delete_everybody(&mut self);
}

/// A request as a stand-in sees it.
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    /// The path's segments, percent-decoded.
    pub(super) path: Vec<String>,
    /// The query, decoded.
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: &'a [(String, String)],
    pub(super) body: &'a [u8],
}

impl Call<'_> {
    /// Method and path, for matching.
    pub(super) fn line(&self) -> (&str, Vec<&str>) {
        (self.method, self.path.iter().map(String::as_str).collect())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.body).ok()
    }

    /// The body's fields, where it is a form.
    pub(super) fn form(&self) -> Vec<(String, String)> {
        server::pairs(&String::from_utf8_lossy(self.body))
    }
}

/// What a stand-in answers.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    /// Null: no body.
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn new(status: u16, body: Value) -> Answer {
        Answer { status, headers: Vec::new(), body }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Answer {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// Lower-case and trimmed, as vendors compare addresses.
pub(super) fn lower(email: &Value) -> Option<String> {
    let email = email.as_str()?.trim().to_lowercase();
    (!email.is_empty()).then_some(email)
}

/// The members of `from` written over those of `into`.
pub(super) fn merge(into: &mut Value, from: &Value) {
    let Some(from) = from.as_object() else { return };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in from {
        into[key] = value.clone();
    }
}
