//! The sandbox's HTTP server: takes requests apart, hands them to the record and the rules, and plays the reply.

use std::convert::Infallible;
use std::future::Future;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::CONTENT_ENCODING;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Sleep;

use super::State;
use super::record::Received;
use super::rules::{Then, matches};

/// The largest body that is taken, and the largest that a compressed one may become.
const MOST_BODY_BYTES: usize = 64 * 1024 * 1024;
const API: &str = "/_sandbox/";

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed as scripted")]
struct Closed;

/// Serves until dropped; connections end with it.
pub(super) async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, state.clone()));
                }
                // Out of file descriptors, most likely: connections that end make room.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| handle(request, state.clone()));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    // An error is a client that went away or a scripted end: either way there is nobody to tell.
    let _ = connection.await;
}

async fn handle(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Reply>, Closed> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MOST_BODY_BYTES).collect().await else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broke off"));
    };
    let body = body.to_bytes();
    if head.uri.path().starts_with(API) {
        wait_for_news(head.uri.query().unwrap_or_default(), &state).await;
        return Ok(api(&head.method, head.uri.path(), head.uri.query().unwrap_or_default(), &body, &state));
    }
    let Some((host, path)) = split(head.uri.path()) else {
        return Ok(plain(StatusCode::NOT_FOUND, "this is fanout's sandbox: it takes /HOST/PATH"));
    };
    let body = match decompressed(&head.headers, body) {
        Ok(body) => body,
        Err(problem) => return Ok(plain(StatusCode::BAD_REQUEST, problem)),
    };

    let reply = state.rules().reply(head.method.as_str(), host, path, &body);
    let status = if reply.then == Then::Answer { reply.status } else { 0 };
    remember(&state, &head, host, path, body, reply.items, status);

    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    match reply.then {
        Then::Hang => std::future::pending().await,
        Then::Drop => return Err(Closed),
        Then::Answer => {}
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    let body = Reply::new(reply.body, reply.drip);
    Ok(response
        .body(body)
        .unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "the scripted headers are invalid")))
}

/// `/HOST/PATH` as host and `/PATH`.
fn split(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix('/')?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    (!host.is_empty()).then_some((host, if path.is_empty() { "/" } else { path }))
}

fn remember(
    state: &State,
    head: &hyper::http::request::Parts,
    host: &str,
    path: &str,
    body: Bytes,
    items: u64,
    status: u16,
) {
    let mut record = state.record();
    record.count(host, items);
    if state.count_only {
        return;
    }
    let headers = head.headers.iter();
    record.keep(Received {
        number: 0,
        at_ms: state.clock.now_ms(),
        method: head.method.to_string(),
        host: host.to_owned(),
        path: path.to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body,
        items,
        status,
    });
    drop(record);
    state.news.send_replace(());
}

fn decompressed(headers: &HeaderMap, body: Bytes) -> Result<Bytes, &'static str> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else { return Ok(body) };
    let limit = MOST_BODY_BYTES as u64;
    let mut out = Vec::new();
    let read = match encoding.as_bytes() {
        b"gzip" => flate2::read::MultiGzDecoder::new(&*body).take(limit).read_to_end(&mut out),
        b"deflate" => flate2::read::ZlibDecoder::new(&*body).take(limit).read_to_end(&mut out),
        b"identity" => return Ok(body),
        _ => return Err("the body's content-encoding is not one the sandbox knows"),
    };
    read.map(|_| out.into()).map_err(|_| "the body is not what its content-encoding says")
}

fn api(method: &Method, path: &str, query: &str, body: &[u8], state: &State) -> Response<Reply> {
    match (method.as_str(), path.strip_prefix(API).unwrap_or_default()) {
        ("GET", "requests") => lines(query, state),
        ("DELETE", "requests") => {
            state.record().clear();
            plain(StatusCode::OK, "{}")
        }
        ("GET", "counts") => {
            let counts = state.record().counts();
            plain(StatusCode::OK, counts)
        }
        ("POST", "answers") => match std::str::from_utf8(body).map(|text| state.script(text)) {
            Ok(Ok(())) => plain(StatusCode::OK, "{}"),
            Ok(Err(error)) => plain(StatusCode::BAD_REQUEST, error.to_string()),
            Err(_) => plain(StatusCode::BAD_REQUEST, "not a text"),
        },
        ("DELETE", "answers") => {
            state.rules().forget_scripts();
            plain(StatusCode::OK, "{}")
        }
        _ => plain(
            StatusCode::NOT_FOUND,
            "there is GET and DELETE /_sandbox/requests, GET /_sandbox/counts, POST and DELETE /_sandbox/answers",
        ),
    }
}

/// With `wait=SECONDS`, an answer waits that long for a request that is asked for and has not come yet.
async fn wait_for_news(query: &str, state: &State) {
    let Some(seconds) = parameter(query, "wait").and_then(|seconds| seconds.parse().ok()) else { return };
    let (after, host) = asked_for(query);
    let mut news = state.news.subscribe();
    let is_there = |_: &()| state.record().after(after).any(|kept| matches(host, &kept.host));
    // Nothing came in time: the answer is empty then.
    let _ = tokio::time::timeout(Duration::from_secs(seconds), news.wait_for(is_there)).await;
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

/// Which requests are asked for: those after a number, for hosts of a pattern.
fn asked_for(query: &str) -> (u64, &str) {
    let after = parameter(query, "after").and_then(|number| number.parse().ok()).unwrap_or_default();
    (after, parameter(query, "host").unwrap_or("*"))
}

fn lines(query: &str, state: &State) -> Response<Reply> {
    let (after, host) = asked_for(query);
    let wanted: Vec<Received> = {
        let record = state.record(); // Bodies are shared, so this is short.
        record.after(after).filter(|kept| matches(host, &kept.host)).cloned().collect()
    };
    plain(StatusCode::OK, wanted.iter().map(Received::to_line).collect::<String>())
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Reply::new(text.into(), Duration::ZERO));
    *response.status_mut() = status;
    response
}

/// A body that comes at once, or one byte at a time.
struct Reply {
    left: Bytes,
    drip: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Reply {
    fn new(left: Bytes, drip: Duration) -> Reply {
        Reply { left, drip, pause: None }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        if self.drip.is_zero() {
            let all = std::mem::take(&mut self.left);
            return Poll::Ready(Some(Ok(Frame::data(all))));
        }
        let drip = self.drip;
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(drip)));
        ready!(pause.as_mut().poll(context));
        self.pause = None;
        let byte = self.left.split_to(1);
        Poll::Ready(Some(Ok(Frame::data(byte))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
