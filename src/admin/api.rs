//! What everything under `/api` shares: how a question comes in, how an answer or a refusal goes out. Who may ask has
//! been decided when a question gets here; what the answers are is for the parts, one for each first word of the path.

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use hyper::{Method, Request, StatusCode};
use serde_json::{Map, Value, json};

use crate::http::query;

/// The longest body of a question: bytes.
const MOST_BODY: usize = 1 << 20;

/// A question to the admin API.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// How it is asked.
    pub method: Method,
    /// The words of the path behind `/api/` and the part's own name, decoded.
    pub path: Vec<String>,
    /// Names and values of the query, decoded.
    pub query: Vec<(String, String)>,
    /// The body's members; empty without a body.
    pub body: Map<String, Value>,
}

impl Question {
    /// Reads a request to `/api/NAME/…` whole; hands out the name as well.
    pub async fn read<B>(request: Request<B>) -> Result<(String, Question), Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let uri = request.uri();
        let words = uri.path().strip_prefix("/api/").unwrap_or_default();
        let mut words = words.split('/').map(|word| query::decode(word).into_owned());
        let name = words.next().unwrap_or_default();
        let path = words.collect();
        let pairs = query::pairs(uri.query().unwrap_or_default());
        let query = pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        let method = request.method().clone();
        let body = Limited::new(request.into_body(), MOST_BODY).collect().await;
        let body = body.map_err(|_| {
            Refusal::wrong("the body could not be read", "send at most 1 MiB of JSON, and send it whole")
        })?;
        let body = members(&body.to_bytes())?;
        Ok((name, Question { method, path, query, body }))
    }

    /// The words of the path, for matching.
    pub fn words(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// The first value of a name in the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn members(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body)
        .map_err(|error| Refusal::wrong(format!("the body is not a JSON object: {error}"), "send an object"))
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The answer's status.
    pub status: StatusCode,
    /// A short code for programs.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Refusal {
    /// The question is not right: 400.
    pub fn wrong(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal {
            status: StatusCode::BAD_REQUEST,
            code: "wrong_request",
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// What it is about does not exist: 404.
    pub fn unknown(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::NOT_FOUND, code: "not_found", ..Refusal::wrong(message, remedy) }
    }

    /// The path does not take this method: 405.
    pub fn method(allowed: &'static str) -> Refusal {
        Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            code: "method_not_allowed",
            ..Refusal::wrong("this path does not take that method", format!("ask with {allowed}"))
        }
    }

    /// It could not be done, and not because of the question: 500.
    pub fn failed(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "failed",
            ..Refusal::wrong(message, remedy)
        }
    }

    /// As JSON.
    pub fn body(&self) -> Value {
        json!({"success": false, "code": self.code, "message": self.message, "remedy": self.remedy})
    }
}

/// A part of the admin API: everything under `/api/NAME`.
#[async_trait]
pub trait Part: Send + Sync {
    /// The first word of its paths.
    fn name(&self) -> &'static str;

    /// Answers a question about it. Whatever blocks on the disk belongs on a thread of its own.
    async fn answer(&self, question: Question) -> Result<Value, Refusal>;
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    async fn read(path: &str, body: &str) -> Result<(String, Question), Refusal> {
        let body = Full::new(Bytes::from(body.to_owned()));
        Question::read(Request::builder().method("POST").uri(path).body(body).unwrap()).await
    }

    #[tokio::test]
    async fn questions_are_taken_apart() {
        let (name, question) = read("/api/letters/a%3A1/x?user=a%20b&user=c", r#"{"n":1}"#).await.unwrap();
        assert_eq!((name.as_str(), question.words()), ("letters", vec!["a:1", "x"]));
        assert_eq!((question.parameter("user"), question.parameter("n")), (Some("a b"), None));
        assert_eq!(question.body.get("n"), Some(&json!(1)));
        let (_, question) = read("/api/letters", "").await.unwrap();
        assert!(question.path.is_empty() && question.body.is_empty());
    }

    #[tokio::test]
    async fn bodies_that_are_no_object_are_refused_with_a_remedy() {
        for body in ["[]", "{", &" ".repeat(MOST_BODY + 1)] {
            let refusal = read("/api/letters", body).await.unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
            assert!(!refusal.remedy.is_empty() && refusal.body()["message"].is_string());
        }
    }
}
