//! Puts the caller's address into `context.ip` of a call that a browser or a phone sent without one. It does not find
//! out the address, nor whether that is wanted.

use std::net::IpAddr;
use std::sync::Arc;

use fanout_sdk::json::{Doc, Json, Kind};

/// Names in `context.library` of SDKs that run where the user is. A server's own address would say nothing about him.
const CLIENT_LIBRARIES: &[&str] = &[
    "analytics.js",
    "analytics-kotlin",
    "analytics-android",
    "analytics-swift",
    "analytics-ios",
    "analytics-react-native",
    "analytics_flutter",
    "RudderLabs JavaScript SDK",
    "com.rudderstack.android.sdk.core",
    "rudder-ios-library",
];

/// The call with the address; `None` where it stays as it is.
pub fn fill(call: &Arc<str>, address: IpAddr) -> Option<Arc<str>> {
    let doc = Doc::parse(call.clone()).ok()?;
    let context = doc.root().get("context").filter(|context| context.kind() == Kind::Object)?;
    if !is_from_a_client(context) {
        return None;
    }
    let text = doc.text();
    let (from, to, before) = match context.get("ip") {
        Some(ip) if ip.is_null() || ip.text().is_some_and(|ip| ip.trim().is_empty()) => {
            let from = offset(text, ip);
            (from, from + ip.raw().len(), "")
        }
        Some(_) => return None,
        None => {
            let end = offset(text, context) + context.raw().len() - 1;
            (end, end, if context.members().next().is_some() { ",\"ip\":" } else { "\"ip\":" })
        }
    };
    Some(format!("{}{before}\"{address}\"{}", text.get(..from)?, text.get(to..)?).into())
}

fn is_from_a_client(context: Json<'_>) -> bool {
    let library = context.get("library").and_then(|library| library.get("name").unwrap_or(library).text());
    context.get("direct").and_then(Json::bool) == Some(true)
        || library.is_some_and(|name| CLIENT_LIBRARIES.iter().any(|known| name.eq_ignore_ascii_case(known)))
}

/// Where a value's text begins in its document's.
fn offset(text: &str, value: Json<'_>) -> usize {
    (value.raw().as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_what_a_client_left_open() {
        for (call, expected) in [
            (r#"{"context":{"direct":true}}"#, Some(r#"{"context":{"direct":true,"ip":"10.0.0.1"}}"#)),
            (
                r#"{"a":1,"context": {"ip" : "", "library":{"name":"Analytics.js"}} ,"b":2}"#,
                Some(r#"{"a":1,"context": {"ip" : "10.0.0.1", "library":{"name":"Analytics.js"}} ,"b":2}"#),
            ),
            (
                r#"{"context":{"ip":null,"library":"analytics-swift"}}"#,
                Some(r#"{"context":{"ip":"10.0.0.1","library":"analytics-swift"}}"#),
            ),
            (r#"{"context":{"ip":"1.1.1.1","direct":true}}"#, None),
            (r#"{"context":{"library":{"name":"analytics-node"}}}"#, None),
            (r#"{"context":{"direct":"true"}}"#, None),
            (r#"{"context":{}}"#, None),
            (r#"{"context":[]}"#, None),
            (r#"{}"#, None),
        ] {
            let filled = fill(&call.into(), "10.0.0.1".parse().unwrap());
            assert_eq!(filled.as_deref(), expected, "{call}");
        }
    }
}
