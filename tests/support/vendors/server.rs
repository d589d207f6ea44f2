//! The HTTP server of the stand-ins: takes `/HOST/PATH` apart, meets it with the planned fault and hands it on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::world::{Answer, Call};
use super::{Fault, Recorded, Shared, Vendor};

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed as planned")]
struct Closed;

/// Serves for ever.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream, shared.clone()));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    let service = service_fn(move |request| handle(request, shared.clone()));
    // An error is a client that went away or a planned end: either way there is nobody to tell.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Closed> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Err(Closed) };
    let body = body.to_bytes();
    let (host, path) = split(head.uri.path());
    let Some(vendor) = shared.world().vendor_of(host) else {
        return Ok(response(Answer::new(502, json!({"error": format!("nobody serves {host:?}")}))));
    };
    let recorded = Recorded {
        vendor,
        method: head.method.to_string(),
        host: host.to_owned(),
        path: path.to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned())),
        fault: None,
        status: None,
        at: Instant::now(),
    };
    let mut released = shared.released.subscribe();
    let (at, fault) = shared.change(|world| {
        let fault = world.next_fault(&recorded);
        world.requests.push(Recorded { fault, ..recorded.clone() });
        (recorded.at, fault)
    });
    match fault {
        Some(Fault::Status(status, retry_after)) => {
            let mut answer = Answer::new(status, json!({"error": "as planned"}));
            if let Some(seconds) = retry_after {
                answer = answer.header("retry-after", seconds);
            }
            answered(&shared, vendor, at, status);
            return Ok(response(answer));
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::DropBeforeCommit) => return Err(Closed),
        Some(Fault::Hold) => released.changed().await.map_err(|_| Closed)?,
        _ => {}
    }
    let answer = commit(&shared, &recorded, &body);
    match fault {
        Some(Fault::HangAfterCommit) => std::future::pending().await,
        Some(Fault::DropAfterCommit) => return Err(Closed),
        Some(Fault::Slow(milliseconds)) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
        _ => {}
    }
    answered(&shared, vendor, at, answer.status);
    Ok(response(answer))
}

fn commit(shared: &Shared, recorded: &Recorded, body: &[u8]) -> Answer {
    let call = Call {
        method: &recorded.method,
        host: &recorded.host,
        path: recorded.path.split('/').filter(|segment| !segment.is_empty()).map(percent_decoded).collect(),
        query: pairs(&recorded.query),
        headers: &recorded.headers,
        body,
    };
    shared.change(|world| world.stand_in(recorded.vendor).answer(&call))
}

fn answered(shared: &Shared, vendor: Vendor, at: Instant, status: u16) {
    shared.change(|world| {
        // Absent where the test has forgotten the requests meanwhile.
        if let Some(request) =
            world.requests.iter_mut().find(|other| other.vendor == vendor && other.at == at)
        {
            request.status = Some(status);
        }
    });
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    let body = match &answer.body {
        Value::Null => Bytes::new(),
        body => {
            if !answer.headers.iter().any(|(name, _)| *name == "content-type") {
                response = response.header("content-type", "application/json");
            }
            body.to_string().into()
        }
    };
    response.body(Full::new(body)).unwrap()
}

/// `/HOST/PATH` as host and `/PATH`.
fn split(path: &str) -> (&str, &str) {
    let rest = path.trim_start_matches('/');
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    (host, if path.is_empty() { "/" } else { path })
}

/// The pairs of a query or a form, decoded.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decoded(&key.replace('+', " ")), percent_decoded(&value.replace('+', " ")))
        })
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
