//! The listener loop that the tracking API and the admin API share: HTTP/1.1 connections with keep-alive, their limits
//! and a shutdown that lets requests finish. It knows no path and builds no answer.

mod host;
pub mod query;
mod stall;
mod tls;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use host::HostRule;
pub use tls::{Part, Tls, TlsError, check_certificate};

/// What a handler gives back. Answers are small, so they are whole.
pub type Answer = Response<Full<Bytes>>;

/// The largest read buffer of a connection; a request's head must fit into it.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// How long to wait before the next try when the process is out of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Address of the connection; a proxy's where there is one.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Answer> + Send;
}

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections are open at a time; more wait in the kernel's queue. Default 2,048.
    pub max_connections: usize,
    /// How long a request's head may take, and an idle connection is kept. Default 30 s.
    pub header_timeout: Duration,
    /// How long a client may refuse to take any byte of its answer. Default 30 s.
    pub write_timeout: Duration,
    /// How long requests may take to finish after the stop. Default 10 s.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_connections: 2048,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Over,
}

/// Serves connections until `stop` is ready, then takes no new one and lets requests that have begun finish, for at
/// most [`Limits::drain_timeout`]. With `tls`, every connection is encrypted.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    limits: Limits,
    tls: Option<Tls>,
    stop: impl Future<Output = ()>,
) {
    let max_connections = limits.max_connections.clamp(1, u32::MAX as usize);
    let slots = Arc::new(Semaphore::new(max_connections));
    let (phase, watch_phase) = watch::channel(Phase::Serving);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, address, slot)) = accepted else { continue };
        let connection = Connection {
            handler: handler.clone(),
            peer: Peer { address, tls: tls.is_some() },
            limits,
            phase: watch_phase.clone(),
        };
        tokio::spawn(connection.run(stream, tls.clone(), slot));
    }
    drop(listener);
    let _ = phase.send(Phase::Draining);
    let all_closed = slots.acquire_many(max_connections as u32);
    if tokio::time::timeout(limits.drain_timeout, all_closed).await.is_err() {
        tracing::warn!("requests still unfinished after {:?} were cut off", limits.drain_timeout);
        let _ = phase.send(Phase::Over);
        let _ = slots.acquire_many(max_connections as u32).await;
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => {
            // Answers are single small writes: waiting to fill a packet only delays them.
            let _ = stream.set_nodelay(true);
            Some((stream, address, slot))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

struct Connection<H> {
    handler: Arc<H>,
    peer: Peer,
    limits: Limits,
    phase: watch::Receiver<Phase>,
}

impl<H: Handler> Connection<H> {
    /// Holds its slot until the connection is closed.
    async fn run(self, stream: TcpStream, tls: Option<Tls>, slot: OwnedSemaphorePermit) {
        match tls {
            None => self.serve(stream).await,
            Some(tls) => {
                let handshake = tls.acceptor().accept(stream);
                match tokio::time::timeout(self.limits.header_timeout, handshake).await {
                    Ok(Ok(stream)) => self.serve(stream).await,
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                    Err(_) => tracing::debug!("TLS handshake took too long"),
                }
            }
        }
        drop(slot);
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) {
        let Connection { handler, peer, limits, phase } = self;
        let service = service_fn(move |request| {
            let handler = handler.clone();
            async move { Ok::<Answer, std::convert::Infallible>(handler.handle(request, peer).await) }
        });
        let io = TokioIo::new(stall::Stall::new(stream, limits.write_timeout));
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(MAX_BUFFER_BYTES);
        let mut connection = pin!(builder.serve_connection(io, service));
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = reached(phase.clone(), Phase::Draining) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    served = connection => served,
                    () = reached(phase, Phase::Over) => Ok(()),
                }
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

async fn reached(mut current: watch::Receiver<Phase>, phase: Phase) {
    let _ = current.wait_for(|current| *current >= phase).await;
}
