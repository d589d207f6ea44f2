//! What the sandbox received: the latest requests, bounded, and counts of all of them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::json;

/// The most requests that are kept.
const MOST_REQUESTS: usize = 200_000;
/// The most bytes that they may have together.
const MOST_BYTES: usize = 128 * 1024 * 1024;
/// The most addresses that are counted each by itself.
const MOST_ADDRESSES: usize = 1_000;

/// A request as it was received, its body decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Counted from 1.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// Such as `POST`.
    pub method: String,
    /// The vendor's host.
    pub host: String,
    /// The path at the vendor, without the query.
    pub path: String,
    /// The query; empty where there is none.
    pub query: String,
    /// In their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// How many items it held.
    pub items: u64,
    /// The status it was answered with; 0 where it got no answer.
    pub status: u16,
}

impl Received {
    /// One line of JSON; the body is JSON where it was, else a text.
    pub fn to_line(&self) -> String {
        let mut headers = BTreeMap::<&str, String>::new();
        for (name, value) in &self.headers {
            let joined = headers.entry(name).or_default();
            if !joined.is_empty() {
                joined.push_str(", ");
            }
            joined.push_str(value);
        }
        let head = json!({
            "number": self.number, "at_ms": self.at_ms, "method": self.method, "host": self.host, "path": self.path,
            "query": self.query, "headers": headers, "items": self.items, "status": self.status,
        });
        let mut line = head.to_string();
        line.pop();
        let text = String::from_utf8_lossy(&self.body);
        let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
        // Texts in JSON hold no bare line breaks, so those between its members can go.
        let body = if is_json { text.replace(['\n', '\r'], " ") } else { json!(text).to_string() };
        let _ = writeln!(line, ",\"body\":{body}}}");
        line
    }

    fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        self.body.len() + self.path.len() + self.query.len() + headers + 256
    }
}

/// How many requests and items came, and for one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests.
    pub requests: u64,
    /// Items in them.
    pub items: u64,
}

/// The latest requests and the counts of all since the last [`Record::clear`].
#[derive(Debug, Default)]
pub struct Record {
    kept: VecDeque<Received>,
    bytes: usize,
    total: Count,
    dropped: u64,
    by_address: BTreeMap<String, Count>,
}

impl Record {
    /// Counts a request of so many items to a host.
    pub fn count(&mut self, host: &str, items: u64) {
        self.total.requests += 1;
        self.total.items += items;
        let known = self.by_address.len() < MOST_ADDRESSES || self.by_address.contains_key(host);
        let host = if known { host } else { "(others)" };
        match self.by_address.get_mut(host) {
            Some(count) => {
                count.requests += 1;
                count.items += items;
            }
            None => {
                self.by_address.insert(host.to_owned(), Count { requests: 1, items });
            }
        }
    }

    /// Keeps a counted request and gives it its number; the oldest make room.
    pub fn keep(&mut self, mut received: Received) {
        received.number = self.total.requests;
        self.bytes += received.size();
        self.kept.push_back(received);
        while self.kept.len() > MOST_REQUESTS || (self.bytes > MOST_BYTES && self.kept.len() > 1) {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.size();
            self.dropped += 1;
        }
    }

    /// What is kept, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &Received> {
        self.kept.iter()
    }

    /// What is kept of what came after a number, oldest first.
    pub fn after(&self, number: u64) -> impl Iterator<Item = &Received> {
        self.kept.range(self.kept.partition_point(|kept| kept.number <= number)..)
    }

    /// How much came in all.
    pub fn total(&self) -> Count {
        self.total
    }

    /// The counts as JSON.
    pub fn counts(&self) -> String {
        let hosts: BTreeMap<_, _> = self
            .by_address
            .iter()
            .map(|(host, count)| (host, json!({"requests": count.requests, "items": count.items})))
            .collect();
        let total = self.total;
        json!({"requests": total.requests, "items": total.items, "dropped": self.dropped, "hosts": hosts})
            .to_string()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Record::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(body: impl Into<Bytes>) -> Received {
        Received {
            number: 0,
            at_ms: 5,
            method: "POST".into(),
            host: "api.example.com".into(),
            path: "/a".into(),
            query: "b=1".into(),
            headers: vec![("x".into(), "1".into()), ("x".into(), "2".into())],
            body: body.into(),
            items: 1,
            status: 200,
        }
    }

    #[test]
    fn a_request_is_one_line_of_json_whatever_its_body() {
        for (body, expected) in [
            ("{\"a\":\n 1.0}", json!({"a": 1.0})),
            ("a=1\nb", json!("a=1\nb")),
            ("", json!("")),
            ("[1", json!("[1")),
        ] {
            let line = received(body).to_line();
            assert_eq!(line.matches('\n').count(), 1);
            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(parsed["body"], expected);
            assert_eq!((&parsed["headers"]["x"], &parsed["query"]), (&json!("1, 2"), &json!("b=1")));
        }
    }

    #[test]
    fn the_oldest_make_room_but_stay_counted() {
        let mut record = Record::default();
        for _ in 0..3 {
            record.count("a", 2);
            record.keep(received(vec![b'x'; MOST_BYTES / 2 - 1000]));
        }
        assert_eq!(record.kept().map(|received| received.number).collect::<Vec<_>>(), [2, 3]);
        for (number, left) in [(0, 2), (1, 2), (2, 1), (3, 0), (9, 0)] {
            assert_eq!(record.after(number).count(), left, "after {number}");
        }
        assert_eq!(record.total(), Count { requests: 3, items: 6 });
        assert!(record.counts().contains("\"dropped\":1"));
        record.clear();
        assert_eq!((record.kept().count(), record.total()), (0, Count::default()));
    }

    #[test]
    fn hosts_beyond_the_limit_are_counted_together() {
        let mut record = Record::default();
        for host in 0..MOST_ADDRESSES + 5 {
            record.count(&format!("host-{host}"), 1);
        }
        record.count("host-0", 1);
        assert_eq!(record.by_address["(others)"].requests, 5);
        assert_eq!(record.by_address["host-0"].requests, 2);
    }
}
