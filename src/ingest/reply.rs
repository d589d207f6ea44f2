//! Every answer of the tracking API. The SDKs depend on each detail: success is exactly 200 with a JSON object, an
//! error body has `code`, `message` and `error`, a permanent refusal is 400 or 401, a temporary one 503 with
//! `Retry-After` in whole seconds. It decides none of that for a request; it only words it.

use bytes::Bytes;
use fanout_sdk::json::push_text;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::auth::AuthError;
use super::body::BodyError;
use crate::http::Answer;
use crate::queue::AppendError;

/// How many refusals a batch's answer spells out; `rejected_total` has their number where there are more.
pub const MAX_LISTED: usize = 2_500;

/// A transparent image of one pixel.
const GIF: &[u8] =
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\
\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

/// A call of a batch that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its position in the batch, counted from 0.
    pub index: usize,
    /// Why, from a closed list.
    pub code: &'static str,
    /// Why, for people; without any of the call's values.
    pub message: String,
}

/// Why a whole request was refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// Its body could not be read.
    Body(BodyError),
    /// Its source is not known.
    Auth(AuthError),
    /// Its one call, or the batch as such, is not acceptable.
    Call {
        /// Why, from a closed list.
        code: &'static str,
        /// Why, for people.
        message: String,
    },
    /// Calls of its batch are not acceptable and its source is strict.
    Strict(Refusals),
    /// It could not be made durable.
    Queue(QueueFailure),
    /// It was sent to a name that is not this server's.
    Host,
    /// There is no such path.
    NotFound,
    /// Settings were asked for with a write key that no enabled source has.
    NoSettings,
    /// The path is called with another method.
    Method(&'static str),
}

/// Which kind of [`AppendError`] it was; its text is for the log only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueFailure {
    /// No room.
    Full,
    /// Not written.
    Failed,
    /// Shutting down.
    Closed,
}

impl From<&AppendError> for QueueFailure {
    fn from(error: &AppendError) -> QueueFailure {
        match error {
            AppendError::Full(_) => QueueFailure::Full,
            AppendError::Failed(_) => QueueFailure::Failed,
            AppendError::Closed => QueueFailure::Closed,
        }
    }
}

/// The calls of a batch that were not accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// The first [`MAX_LISTED`] of them.
    pub listed: Vec<Rejected>,
    /// How many there are.
    pub total: usize,
}

impl Refusals {
    /// Adds one.
    pub fn push(&mut self, index: usize, code: &'static str, message: String) {
        self.total += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(Rejected { index, code, message });
        }
    }

    fn write(&self, out: &mut String) {
        out.push_str(",\"rejected\":[");
        for (position, rejected) in self.listed.iter().enumerate() {
            if position > 0 {
                out.push(',');
            }
            out.push_str("{\"index\":");
            out.push_str(&rejected.index.to_string());
            out.push_str(",\"code\":");
            push_text(out, rejected.code);
            out.push_str(",\"message\":");
            push_text(out, &rejected.message);
            out.push('}');
        }
        out.push(']');
        if self.total > self.listed.len() {
            out.push_str(",\"rejected_total\":");
            out.push_str(&self.total.to_string());
        }
    }
}

/// Everything was accepted.
pub fn success() -> Answer {
    json(StatusCode::OK, Bytes::from_static(b"{\"success\":true}"))
}

/// The batch was accepted but for these calls.
pub fn accepted(refusals: &Refusals) -> Answer {
    if refusals.total == 0 {
        return success();
    }
    let mut body = String::from("{\"success\":true");
    refusals.write(&mut body);
    body.push('}');
    json(StatusCode::OK, body.into())
}

/// A JSON document, such as settings.
pub fn document(body: String) -> Answer {
    let mut answer = json(StatusCode::OK, body.into());
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

/// The image of a pixel endpoint. With a failure that asks to try again, it has that status: 200 is for calls that
/// are durable, and for those that never will be.
pub fn image(failure: Option<&Failure>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(GIF)));
    if let Some(refusal) = failure.map(Failure::wording).filter(|refusal| refusal.retry_after.is_some()) {
        refusal.mark(&mut answer);
    }
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/gif"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// To `OPTIONS`: nothing, with headers that others add.
pub fn nothing() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// The request was refused.
pub fn failure(failure: &Failure) -> Answer {
    let wording = failure.wording();
    let mut body = String::from("{\"success\":false,\"code\":");
    push_text(&mut body, wording.code);
    body.push_str(",\"message\":");
    push_text(&mut body, &wording.message);
    body.push_str(",\"error\":");
    push_text(&mut body, &wording.message);
    if let Failure::Strict(refusals) = failure {
        refusals.write(&mut body);
    }
    body.push('}');
    let mut answer = json(wording.status, body.into());
    wording.mark(&mut answer);
    if let Failure::Method(allowed) = failure {
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    }
    // The rest of such a body never comes, or is not waited for.
    if matches!(failure, Failure::Body(BodyError::Slow | BodyError::Broken)) {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

fn json(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// How a failure is told.
struct Wording {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Seconds; only for what may succeed later.
    retry_after: Option<u16>,
}

impl Wording {
    fn mark(&self, answer: &mut Answer) {
        *answer.status_mut() = self.status;
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}

fn refused(status: StatusCode, code: &'static str, message: impl Into<String>) -> Wording {
    Wording { status, code, message: message.into(), retry_after: None }
}

fn later(seconds: u16, code: &'static str, message: &str) -> Wording {
    Wording { retry_after: Some(seconds), ..refused(StatusCode::SERVICE_UNAVAILABLE, code, message) }
}

impl Failure {
    /// Its code, as callers see it.
    pub fn code(&self) -> &'static str {
        self.wording().code
    }

    fn wording(&self) -> Wording {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        match self {
            Failure::Body(error) => body_wording(error),
            Failure::Auth(error) => {
                let (code, message) = auth_wording(*error);
                refused(StatusCode::UNAUTHORIZED, code, message)
            }
            Failure::Call { code, message } => refused(BAD, code, message.as_str()),
            Failure::Strict(refusals) => refused(
                BAD,
                "batch_rejected",
                format!(
                    "{} of the batch's calls cannot be accepted; this source is strict, so none was",
                    refusals.total
                ),
            ),
            Failure::Queue(QueueFailure::Full) => later(
                30,
                "queue_full",
                "the server's disk is full: keep the calls and send them again; its log says what fills it",
            ),
            Failure::Queue(QueueFailure::Failed) => later(
                5,
                "queue_failed",
                "the server could not write the calls to its disk: send them again; its log says why",
            ),
            Failure::Queue(QueueFailure::Closed) => {
                later(5, "shutting_down", "the server is shutting down; try again")
            }
            Failure::Host => refused(
                BAD,
                "host_not_allowed",
                "this server does not answer to the name in the Host header; add it to `allowed_hosts`",
            ),
            Failure::NoSettings => refused(
                StatusCode::NOT_FOUND,
                "unknown_source",
                "no enabled source has this write key, so nothing will be sent; check the key that the page is given",
            ),
            Failure::NotFound => {
                refused(StatusCode::NOT_FOUND, "not_found", "the tracking API has no such path")
            }
            Failure::Method(allowed) => refused(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                format!("this path takes {allowed} only"),
            ),
        }
    }
}

fn body_wording(error: &BodyError) -> Wording {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    match error {
        // Not 413: Swift keeps sending the same batch after one.
        BodyError::TooLarge { limit } => {
            refused(BAD, "body_too_large", format!("the body may have {limit} bytes after decompression"))
        }
        BodyError::Slow => later(5, "body_timeout", "the body did not arrive in time; try again"),
        BodyError::Broken => refused(BAD, "body_incomplete", "the body ended early"),
        BodyError::Encoding => {
            refused(BAD, "encoding_unsupported", "Content-Encoding may be gzip, deflate or identity")
        }
        BodyError::Corrupt => {
            refused(BAD, "encoding_invalid", "the body is not what its Content-Encoding says")
        }
        BodyError::Busy => later(1, "busy", "too many calls are being received; try again"),
    }
}

fn auth_wording(error: AuthError) -> (&'static str, &'static str) {
    match error {
        AuthError::Missing => (
            "write_key_missing",
            "no write key: give it as the user name of Basic authorisation, as `writeKey` in the body or in the query",
        ),
        AuthError::Malformed => ("authorization_malformed", "the Authorization header cannot be read"),
        AuthError::Unknown => ("unknown_source", "no source has this write key"),
        AuthError::Conflict => ("write_key_conflict", "two different write keys were given"),
        AuthError::Disabled => ("source_disabled", "the source of this write key is switched off"),
        AuthError::Token => ("bearer_token_invalid", "the bearer token is not that of the source"),
        AuthError::Origin => ("origin_not_allowed", "the source takes no calls from pages of this origin"),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn text(answer: Answer) -> String {
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn success_is_a_json_object() {
        let answer = success();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()[CONTENT_TYPE]),
            (200, &HeaderValue::from_static("application/json"))
        );
        assert_eq!(text(answer).await, r#"{"success":true}"#);
        assert_eq!(text(accepted(&Refusals::default())).await, r#"{"success":true}"#);
        let mut refusals = Refusals::default();
        refusals.push(1, "no_user_anon_id", "needs \"userId\"".to_owned());
        assert_eq!(
            text(accepted(&refusals)).await,
            r#"{"success":true,"rejected":[{"index":1,"code":"no_user_anon_id","message":"needs \"userId\""}]}"#
        );
    }

    #[tokio::test]
    async fn long_lists_are_cut_and_say_so() {
        let mut refusals = Refusals::default();
        for index in 0..3_000 {
            refusals.push(index, "c", String::new());
        }
        let body: serde_json::Value = serde_json::from_str(&text(accepted(&refusals)).await).unwrap();
        assert_eq!(body["rejected"].as_array().unwrap().len(), MAX_LISTED);
        assert_eq!(body["rejected_total"], 3_000);
    }

    #[tokio::test]
    async fn every_failure_has_the_form_that_sdks_need() {
        use Failure::*;
        let mut refusals = Refusals::default();
        refusals.push(0, "id_not_string", "m".to_owned());
        for (failed, status, code, retry_after) in [
            (Body(BodyError::TooLarge { limit: 9 }), 400, "body_too_large", None),
            (Body(BodyError::Slow), 503, "body_timeout", Some("5")),
            (Body(BodyError::Broken), 400, "body_incomplete", None),
            (Body(BodyError::Encoding), 400, "encoding_unsupported", None),
            (Body(BodyError::Corrupt), 400, "encoding_invalid", None),
            (Body(BodyError::Busy), 503, "busy", Some("1")),
            (Auth(AuthError::Missing), 401, "write_key_missing", None),
            (Auth(AuthError::Malformed), 401, "authorization_malformed", None),
            (Auth(AuthError::Unknown), 401, "unknown_source", None),
            (Auth(AuthError::Conflict), 401, "write_key_conflict", None),
            (Auth(AuthError::Disabled), 401, "source_disabled", None),
            (Auth(AuthError::Token), 401, "bearer_token_invalid", None),
            (Auth(AuthError::Origin), 401, "origin_not_allowed", None),
            (Call { code: "bad_json", message: "x \"y\"".to_owned() }, 400, "bad_json", None),
            (Strict(refusals), 400, "batch_rejected", None),
            (Queue(QueueFailure::Full), 503, "queue_full", Some("30")),
            (Queue(QueueFailure::Failed), 503, "queue_failed", Some("5")),
            (Queue(QueueFailure::Closed), 503, "shutting_down", Some("5")),
            (Host, 400, "host_not_allowed", None),
            (NotFound, 404, "not_found", None),
            (NoSettings, 404, "unknown_source", None),
            (Method("POST"), 405, "method_not_allowed", None),
        ] {
            let answer = failure(&failed);
            assert_eq!(answer.status().as_u16(), status, "{code}");
            assert_eq!(
                answer.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap()),
                retry_after,
                "{code}"
            );
            let body: serde_json::Value = serde_json::from_str(&text(answer).await).unwrap();
            assert_eq!((&body["success"], &body["code"]), (&false.into(), &code.into()));
            assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{code}");
            assert_eq!(body["error"], body["message"], "{code}");
            assert_eq!(body["rejected"].is_array(), code == "batch_rejected");
        }
    }

    #[tokio::test]
    async fn the_image_is_a_gif_and_says_only_when_to_try_again() {
        for (failure, status) in [
            (None, 200),
            (Some(Failure::Auth(AuthError::Unknown)), 200),
            (Some(Failure::Queue(QueueFailure::Full)), 503),
        ] {
            let answer = image(failure.as_ref());
            assert_eq!(answer.status().as_u16(), status);
            assert_eq!(answer.headers().contains_key(RETRY_AFTER), status == 503);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(
                body.starts_with(b"GIF89a") && body.ends_with(b";") && body.len() == 42 + 1,
                "{}",
                body.len()
            );
        }
    }
}
