//! The running instance as commands see it: JSON over its admin API, found by `[admin]` of the configuration. What is
//! asked, and what is done when nothing runs there, is for the commands.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use fanout_sdk::destination::{NoAnswer, Request, Transport};
use serde_json::Value;

use super::{Ending, output};
use crate::admin::api::Refusal;
use crate::config::{Admin, Secret};
use crate::transport::{HttpTransport, Options};

/// How long the instance may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// Nothing answers there.
    #[error("no fanout runs at {0}, the [admin] listen of the configuration: start it with `fanout serve`")]
    NotRunning(SocketAddr),
    /// The instance says no.
    #[error("{message}{}{remedy}", if remedy.is_empty() { "" } else { ": " })]
    Refused {
        /// The answer's status.
        status: u16,
        /// What is wrong.
        message: String,
        /// What to do about it.
        remedy: String,
    },
    /// What came is no answer of fanout's.
    #[error("{address} did not answer as fanout does ({what}): see whether [admin] listen is right")]
    Other {
        /// Where.
        address: SocketAddr,
        /// What came instead.
        what: String,
    },
}

/// Why a command has nothing to show, and how it ends.
#[derive(Debug)]
pub struct Failure {
    message: String,
    ending: Ending,
}

impl Failure {
    /// The command could not do what was asked.
    pub fn new(message: impl ToString) -> Failure {
        Failure { message: message.to_string(), ending: Ending::Failed }
    }

    /// Says it on standard error.
    pub fn complain(self) -> Ending {
        output::complain(&self.message);
        self.ending
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Failure {
        // A question that is wrong in itself is wrong usage.
        let is_usage = matches!(error, RemoteError::Refused { status: 400, .. });
        let ending = if is_usage { Ending::Wrong } else { Ending::Failed };
        Failure { message: error.to_string(), ending }
    }
}

impl From<Refusal> for RemoteError {
    fn from(Refusal { status, message, remedy, .. }: Refusal) -> RemoteError {
        RemoteError::Refused { status: status.as_u16(), message, remedy }
    }
}

/// A running instance's admin API.
pub struct Remote {
    transport: HttpTransport,
    address: SocketAddr,
    token: Option<Secret>,
}

impl Remote {
    /// The instance that the configuration describes; whether it runs shows with the first question.
    pub fn new(admin: &Admin) -> Result<Remote, Failure> {
        let options = Options { allow_private_networks: true, without_tls: true, ..Options::default() };
        let transport = HttpTransport::new(&options).map_err(Failure::new)?;
        Ok(Remote { transport, address: reachable(admin.listen), token: admin.token.clone() })
    }

    /// Asks with GET; the path begins with `/api/` and carries its query, see [`with_query`].
    pub async fn get(&self, path: &str) -> Result<Value, RemoteError> {
        self.ask("GET", path, None).await
    }

    /// Asks with POST.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, RemoteError> {
        self.ask("POST", path, Some(body)).await
    }

    /// Asks with DELETE.
    pub async fn delete(&self, path: &str) -> Result<Value, RemoteError> {
        self.ask("DELETE", path, None).await
    }

    async fn ask(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, RemoteError> {
        let mut headers = Vec::new();
        if let Some(token) = &self.token {
            headers.push(("authorization".to_owned(), format!("Bearer {}", token.expose())));
        }
        if body.is_some() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let request = Request {
            method,
            url: format!("http://{}{path}", self.address),
            headers,
            body: body.map(Value::to_string).unwrap_or_default().into(),
            timeout: TIMEOUT,
            ..Request::default()
        };
        let other = |what: String| RemoteError::Other { address: self.address, what };
        let answer = match self.transport.send(&request).await {
            Ok(answer) => answer,
            Err(NoAnswer::Connection(_)) => return Err(RemoteError::NotRunning(self.address)),
            Err(error) => return Err(other(error.to_string())),
        };
        let status = answer.status;
        let answer: Value =
            serde_json::from_slice(&answer.body).map_err(|_| other(format!("status {status}, no JSON")))?;
        if status == 200 {
            return Ok(answer);
        }
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match answer.get("code") {
            Some(_) => Err(RemoteError::Refused { status, message: text("message"), remedy: text("remedy") }),
            None => Err(other(format!("status {status}"))),
        }
    }
}

/// A path with a query of these names and values.
pub fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// A text as one word of a path or one value of a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What listens on every address is asked at the loopback one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query;

    #[test]
    fn paths_carry_any_text() {
        assert_eq!(with_query("/api/x", &[]), "/api/x");
        let path = with_query("/api/x", &[("user", "a b&c=ö+%"), ("n", "1")]);
        let (_, text) = path.split_once('?').unwrap();
        assert_eq!(query::get(text, "user").as_deref(), Some("a b&c=ö+%"));
        assert_eq!(query::get(text, "n").as_deref(), Some("1"));
    }

    #[test]
    fn an_instance_is_reached_where_it_listens() {
        for (listen, asked) in [
            ("0.0.0.0:81", "127.0.0.1:81"),
            ("[::]:81", "[::1]:81"),
            ("10.0.0.7:81", "10.0.0.7:81"),
            ("127.0.0.1:81", "127.0.0.1:81"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap(), "{listen}");
        }
    }

    #[tokio::test]
    async fn nothing_that_runs_is_told_from_something_else() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let admin = Admin { listen: address, token: None, allowed_hosts: Vec::new() };
        let error = Remote::new(&admin).unwrap().get("/api/x").await.unwrap_err();
        assert_eq!(error, RemoteError::NotRunning(address));
        assert!(error.to_string().contains("fanout serve"));
    }
}
