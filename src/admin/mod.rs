//! The admin listener: health, readiness, metrics and the admin API. Who may ask is checked here: `Host` against DNS
//! rebinding, `Origin` against other sites' pages, and the token. What the API's parts do is theirs.

pub mod api;
pub mod dead_letters;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::Value;
use subtle::ConstantTimeEq;

use api::{Part, Question, Refusal};

use crate::http::{Answer, Handler, HostRule, Peer};
use crate::telemetry::{METRICS_CONTENT_TYPE, Metrics};

/// The type of the API's answers.
const JSON: &str = "application/json";

/// What the admin listener is configured with.
#[derive(Clone, Default)]
pub struct Settings {
    /// What callers give as `Authorization: Bearer …`. Needed where the listener is not on a loopback address: without
    /// one only `/healthz` and `/readyz` are answered there.
    pub token: Option<String>,
    /// Names that the listener answers to beside loopback ones; empty on another address: any.
    pub allowed_hosts: Vec<String>,
}

/// Answers the admin listener's requests.
pub struct Admin {
    metrics: Arc<Metrics>,
    readiness: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    refresh: Box<dyn Fn() + Send + Sync>,
    settings: Settings,
    hosts: HostRule,
    loopback: bool,
    parts: Vec<Box<dyn Part>>,
}

impl Admin {
    /// For a listener bound to `address`. `readiness` says why the process cannot take calls, if so; `refresh` brings
    /// gauges up to date before they are shown.
    pub fn new(
        address: IpAddr,
        settings: Settings,
        metrics: Arc<Metrics>,
        readiness: impl Fn() -> Result<(), String> + Send + Sync + 'static,
        refresh: impl Fn() + Send + Sync + 'static,
    ) -> Admin {
        Admin {
            hosts: HostRule::new(address, &settings.allowed_hosts),
            loopback: address.is_loopback(),
            settings,
            metrics,
            readiness: Box::new(readiness),
            refresh: Box::new(refresh),
            parts: Vec::new(),
        }
    }

    /// With a part of the admin API.
    pub fn with(mut self, part: impl Part + 'static) -> Admin {
        self.parts.push(Box::new(part));
        self
    }

    /// The answer to a request; its body is read only where that is needed.
    async fn handle_any<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(refused) = self.refused(&request) {
            return refused;
        }
        if !request.uri().path().starts_with("/api/") {
            return self.answer(&request);
        }
        match self.ask(request).await {
            Ok(answer) => text(StatusCode::OK, JSON, answer.to_string()),
            Err(refusal) => text(refusal.status, JSON, refusal.body().to_string()),
        }
    }

    async fn ask<B>(&self, request: Request<B>) -> Result<Value, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (name, question) = Question::read(request).await?;
        match self.parts.iter().find(|part| part.name() == name) {
            Some(part) => part.answer(question).await,
            None => Err(Refusal::unknown("the admin API has no such path", "see the documentation's list")),
        }
    }

    /// Why this request is not answered.
    fn refused<B>(&self, request: &Request<B>) -> Option<Answer> {
        if !self.hosts.permits(request) {
            return Some(refusal(StatusCode::BAD_REQUEST, "host_not_allowed", "not this server's name"));
        }
        if !is_same_origin(request.headers()) {
            return Some(refusal(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "pages of other origins may not call",
            ));
        }
        let path = request.uri().path();
        // Probes of an orchestrator carry no token, and these say nothing but yes or no.
        let is_open = matches!(path, "/healthz" | "/readyz");
        if !is_open && !self.may(request.headers()) {
            return Some(refusal(
                StatusCode::UNAUTHORIZED,
                "token_needed",
                "give the admin token as Authorization: Bearer",
            ));
        }
        None
    }

    fn answer<B>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
            return refusal(StatusCode::NOT_FOUND, "not_found", "the admin API has no such path");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return refusal(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path takes GET only");
        }
        match path {
            "/healthz" => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".to_owned()),
            "/readyz" => match (self.readiness)() {
                Ok(()) => text(StatusCode::OK, "text/plain; charset=utf-8", "ready\n".to_owned()),
                Err(why) => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "text/plain; charset=utf-8",
                    format!("not ready: {why}\n"),
                ),
            },
            _ => {
                (self.refresh)();
                text(StatusCode::OK, METRICS_CONTENT_TYPE, self.metrics.encode())
            }
        }
    }

    fn may(&self, headers: &HeaderMap) -> bool {
        let Some(token) = self.settings.token.as_deref().filter(|token| !token.is_empty()) else {
            return self.loopback;
        };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
            let (scheme, given) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| given.trim())
        });
        given.is_some_and(|given| given.as_bytes().ct_eq(token.as_bytes()).into())
    }
}

impl Handler for Admin {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Answer {
        self.handle_any(request).await
    }
}

/// Whether a request comes from no page, or from one that this listener served.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let authority =
        origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn refusal(status: StatusCode, code: &'static str, message: &'static str) -> Answer {
    text(status, JSON, format!(r#"{{"success":false,"code":"{code}","message":"{message}"}}"#))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn admin(address: Ipv4Addr, token: Option<&str>, ready: bool) -> Admin {
        let settings = Settings { token: token.map(str::to_owned), allowed_hosts: Vec::new() };
        let readiness = move || if ready { Ok(()) } else { Err("opening the journal".to_owned()) };
        Admin::new(address.into(), settings, Arc::new(Metrics::new()), readiness, || {})
    }

    async fn status(admin: &Admin, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        admin.handle_any(request.body(Full::new(Bytes::new())).unwrap()).await.status().as_u16()
    }

    #[tokio::test]
    async fn who_may_ask() {
        let near = admin(Ipv4Addr::LOCALHOST, None, true);
        let near_with_token = admin(Ipv4Addr::LOCALHOST, Some("secret"), true);
        let far = admin(Ipv4Addr::UNSPECIFIED, Some("secret"), true);
        let far_without_token = admin(Ipv4Addr::UNSPECIFIED, None, true);
        let local = ("host", "localhost:8081");
        let bearer = ("authorization", "Bearer secret");
        for (admin, path, headers, expected) in [
            (&near, "/metrics", vec![local], 200),
            (&near, "/metrics", vec![("host", "evil.example")], 400),
            (&near, "/metrics", vec![local, ("origin", "http://localhost:8081")], 200),
            (&near, "/metrics", vec![local, ("origin", "http://evil.example")], 403),
            (&near, "/metrics", vec![local, ("origin", "null")], 403),
            (&near, "/healthz", vec![local, ("origin", "http://evil.example")], 403),
            (&near_with_token, "/metrics", vec![local], 401),
            (&near_with_token, "/metrics", vec![local, bearer], 200),
            (&far, "/metrics", vec![("host", "any.example")], 401),
            (&far, "/metrics", vec![("host", "any.example"), ("authorization", "Bearer wrong")], 401),
            (&far, "/metrics", vec![("host", "any.example"), ("authorization", "Basic secret")], 401),
            (&far, "/metrics", vec![("host", "any.example"), ("authorization", "bearer secret")], 200),
            (&far, "/healthz", vec![("host", "any.example")], 200),
            (&far, "/readyz", vec![("host", "any.example")], 200),
            (&far, "/nothing", vec![("host", "any.example")], 401),
            (&far, "/nothing", vec![("host", "any.example"), bearer], 404),
            (
                &far_without_token,
                "/metrics",
                vec![("host", "any.example"), ("authorization", "Bearer ")],
                401,
            ),
        ] {
            assert_eq!(status(admin, "GET", path, &headers).await, expected, "{path} {headers:?}");
        }
        assert_eq!(status(&near, "POST", "/metrics", &[local]).await, 405);
    }

    struct Echo;

    #[async_trait::async_trait]
    impl Part for Echo {
        fn name(&self) -> &'static str {
            "echo"
        }

        async fn answer(&self, question: Question) -> Result<Value, Refusal> {
            match question.method {
                Method::GET => Ok(Value::from(question.path)),
                _ => Err(Refusal::method("GET")),
            }
        }
    }

    #[tokio::test]
    async fn the_api_is_answered_by_its_parts_and_only_to_those_who_may() {
        let admin = admin(Ipv4Addr::LOCALHOST, Some("secret"), true).with(Echo);
        let (local, bearer) = (("host", "localhost:8081"), ("authorization", "Bearer secret"));
        let evil = ("origin", "http://evil.example");
        for (method, path, headers, expected) in [
            ("GET", "/api/echo/a", vec![local, bearer], 200),
            ("POST", "/api/echo/a", vec![local, bearer], 405),
            ("GET", "/api/nothing", vec![local, bearer], 404),
            ("GET", "/api/echo/a", vec![local], 401),
            ("GET", "/api/echo/a", vec![local, bearer, evil], 403),
            ("POST", "/api/echo/a", vec![("host", "evil.example"), bearer], 400),
        ] {
            assert_eq!(status(&admin, method, path, &headers).await, expected, "{method} {path} {headers:?}");
        }
    }

    #[tokio::test]
    async fn readiness_is_what_the_app_says() {
        for (ready, expected) in [(true, 200), (false, 503)] {
            assert_eq!(
                status(&admin(Ipv4Addr::LOCALHOST, None, ready), "GET", "/readyz", &[]).await,
                expected
            );
        }
    }

    #[tokio::test]
    async fn gauges_are_refreshed_before_they_are_shown() {
        let refreshed = Arc::new(AtomicBool::new(false));
        let seen = refreshed.clone();
        let admin = Admin::new(
            Ipv4Addr::LOCALHOST.into(),
            Settings::default(),
            Arc::new(Metrics::new()),
            || Ok(()),
            move || seen.store(true, Ordering::Relaxed),
        );
        assert_eq!(status(&admin, "GET", "/healthz", &[]).await, 200);
        assert!(!refreshed.load(Ordering::Relaxed));
        assert_eq!(status(&admin, "GET", "/metrics", &[]).await, 200);
        assert!(refreshed.load(Ordering::Relaxed));
    }
}
