//! What SDKs ask for when they start: analytics.js, Kotlin and Swift their project's settings, RudderStack's
//! JavaScript SDK its source, its Go SDK the number of servers. Each answer is the least that makes the SDK send its
//! calls here and nowhere else. It does not check write keys.

use fanout_sdk::json::push_text;

/// Settings for analytics.js, Kotlin and Swift. Without `Segment.io.apiKey` analytics.js would send everything to
/// Segment, without `metrics.sampleRate` its own measurements. `host` is this server as the SDK reaches it, with a
/// port where it needs one; `base` is a path before `/v1`, empty or like `/track`.
pub fn project_settings(write_key: &str, address: &Address) -> String {
    let mut out = String::from(r#"{"integrations":{"Segment.io":{"apiKey":"#);
    push_text(&mut out, write_key);
    out.push_str(r#","apiHost":"#);
    push_text(&mut out, &format!("{}/v1", address.host));
    out.push_str(r#","protocol":"#);
    push_text(&mut out, if address.https { "https" } else { "http" });
    out.push_str(r#","addBundledMetadata":true}},"metrics":{"sampleRate":0},"plan":{}}"#);
    out
}

/// The least that RudderStack's JavaScript SDK accepts; it delivers nothing by itself then.
pub fn source_config(source: &str, write_key: &str) -> String {
    let mut out = String::from(r#"{"source":{"id":"#);
    push_text(&mut out, source);
    out.push_str(r#","name":"#);
    push_text(&mut out, source);
    out.push_str(r#","writeKey":"#);
    push_text(&mut out, write_key);
    out.push_str(r#","enabled":true,"config":{},"destinations":[]}}"#);
    out
}

/// One server, so that RudderStack's Go SDK does not divide its calls among several.
pub fn cluster_info() -> String {
    r#"{"nodeCount":1}"#.to_owned()
}

/// This server as the outside reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name, port where it is not the usual one, and path before `/v1` where there is one.
    pub host: String,
    /// Whether it is reached by `https`.
    pub https: bool,
}

impl Address {
    /// From a configured address such as `https://track.example.com`. Anything that is no such address is refused.
    pub fn parse(url: &str) -> Option<Address> {
        let (https, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return None,
        };
        let host = rest.trim_end_matches('/');
        let plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']' | '/' | '~');
        (!host.is_empty() && !host.starts_with('/') && host.chars().all(plain))
            .then(|| Address { host: host.to_owned(), https })
    }

    /// The host name alone.
    pub fn name(&self) -> &str {
        let authority = self.host.split('/').next().unwrap_or_default();
        match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => authority.split(':').next().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn settings_keep_every_call_here() {
        let address = Address::parse("https://track.example.com:8443/x/").unwrap();
        let settings: Value = serde_json::from_str(&project_settings("k\"1", &address)).unwrap();
        assert_eq!(
            settings,
            json!({
                "integrations": {"Segment.io": {
                    "apiKey": "k\"1",
                    "apiHost": "track.example.com:8443/x/v1",
                    "protocol": "https",
                    "addBundledMetadata": true,
                }},
                "metrics": {"sampleRate": 0},
                "plan": {},
            })
        );
    }

    #[test]
    fn source_config_has_what_is_validated() {
        let config: Value = serde_json::from_str(&source_config("web", "k")).unwrap();
        assert_eq!(
            config,
            json!({"source": {
                "id": "web", "name": "web", "writeKey": "k", "enabled": true, "config": {}, "destinations": [],
            }})
        );
    }

    #[test]
    fn addresses_are_checked() {
        for (url, expected) in [
            ("https://a.example", Some(("a.example", true, "a.example"))),
            ("http://a.example:81//", Some(("a.example:81", false, "a.example"))),
            ("http://[::1]:81", Some(("[::1]:81", false, "::1"))),
            ("https://a.example/b", Some(("a.example/b", true, "a.example"))),
            ("https://", None),
            ("https:///b", None),
            ("a.example", None),
            ("ftp://a.example", None),
            ("https://a b", None),
            ("https://a\"b", None),
            ("https://a?b", None),
        ] {
            let parsed = Address::parse(url);
            let parts = parsed.as_ref().map(|address| (address.host.as_str(), address.https, address.name()));
            assert_eq!(parts, expected, "{url}");
        }
    }
}
