//! The HTTP client through which every request to a vendor goes: the one place that opens outbound connections.
//!
//! It follows no redirects, reads no proxy from the environment, keeps connections for reuse, and connects to no
//! private address unless told to. Retrying, limiting and compressing are done by others.

mod address;

use std::error::Error as _;
use std::sync::{Arc, Once};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use fanout_sdk::destination::{Answer, NoAnswer, Request, Transport};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use tokio::sync::OnceCell;

use address::{PublicOnly, RefusedAddress};

/// The most bytes of an answer's body that are read; the rest is dropped with the connection.
pub const MOST_ANSWER_BYTES: usize = 1024 * 1024;
/// How long a connection may take to be made, inside the request's own time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a client is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether it may connect to private, loopback and link-local addresses; default no.
    pub allow_private_networks: bool,
    /// When set, `https://HOST/PATH` goes to `<sandbox>/HOST/PATH`, and nothing goes anywhere else.
    pub sandbox: Option<String>,
    /// A proxy's address; default none, whatever the environment says.
    pub proxy: Option<String>,
    /// Certificates in PEM form that are trusted besides the system's.
    pub extra_certificates: Option<Vec<u8>>,
    /// Whether it only ever calls `http://` addresses: then it needs no certificates; default no.
    pub without_tls: bool,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The sandbox's address.
    #[error("the sandbox's address is not an http:// address")]
    Sandbox,
    /// The proxy's address.
    #[error("the proxy's address is not a valid address")]
    Proxy,
    /// The extra certificates.
    #[error("the extra certificates are not in PEM form")]
    Certificates,
    /// Anything else.
    #[error("the HTTP client could not be set up: {0}")]
    Client(String),
}

/// An HTTP client with its own pool of connections; cheap to clone, and clones share the pool.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    options: Options,
    /// Made for the first request: reading the system's certificates takes longer than the whole start of the process.
    client: Arc<OnceCell<reqwest::Client>>,
    sandbox: Option<Url>,
    allow_private_networks: bool,
}

impl HttpTransport {
    /// A client that has not connected to anything yet.
    pub fn new(options: &Options) -> Result<HttpTransport, ClientError> {
        // Made here only to find out what is wrong with the options.
        drop(builder(options)?);
        let sandbox = options.sandbox.as_deref().map(sandbox_address).transpose()?;
        Ok(HttpTransport {
            client: Arc::default(),
            allow_private_networks: may_call_private(options),
            options: options.clone(),
            sandbox,
        })
    }

    async fn client(&self) -> Result<&reqwest::Client, NoAnswer> {
        let make = || async {
            let options = self.options.clone();
            let made = tokio::task::spawn_blocking(move || {
                builder(&options)?.build().map_err(|error| ClientError::Client(innermost(&error)))
            });
            made.await.unwrap_or_else(|error| Err(ClientError::Client(error.to_string())))
        };
        self.client.get_or_try_init(make).await.map_err(|error| NoAnswer::Connection(error.to_string()))
    }

    fn target(&self, address: &str) -> Result<Url, NoAnswer> {
        let url = Url::parse(address)
            .map_err(|error| NoAnswer::Refused(format!("not a valid address: {error}")))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(NoAnswer::Refused("only https:// and http:// addresses are called".to_owned()));
        }
        if let Some(sandbox) = &self.sandbox {
            return Ok(rewritten(sandbox, &url));
        }
        if !self.allow_private_networks {
            address::check_literal(url.host_str().unwrap_or_default())
                .map_err(|refused| NoAnswer::Refused(refused.to_string()))?;
        }
        Ok(url)
    }

    async fn exchange(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let url = self.target(&request.url)?;
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| NoAnswer::Refused("not a valid method".to_owned()))?;
        let mut response = self
            .client()
            .await?
            .request(method, url)
            .timeout(request.timeout)
            .headers(headers(request)?)
            .body(request.body.clone())
            .send()
            .await
            .map_err(|error| no_answer(&error, request.timeout))?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let status = response.status().as_u16();
        let body = read(&mut response).await.map_err(|error| no_answer(&error, request.timeout))?;
        Ok(Answer { status, headers, body })
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        self.exchange(request).await
    }
}

fn builder(options: &Options) -> Result<reqwest::ClientBuilder, ClientError> {
    install_crypto();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .user_agent(concat!("fanout/", env!("CARGO_PKG_VERSION")));
    if let Some(proxy) = &options.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(|_| ClientError::Proxy)?);
    }
    if let Some(pem) = &options.extra_certificates {
        let certificates =
            reqwest::Certificate::from_pem_bundle(pem).map_err(|_| ClientError::Certificates)?;
        builder = builder.tls_certs_merge(certificates);
    }
    if options.sandbox.is_some() || options.without_tls {
        // It is called without TLS, so it works also where there are no certificates.
        builder = builder.tls_certs_only([]);
    }
    if !may_call_private(options) {
        builder = builder.dns_resolver(PublicOnly);
    }
    Ok(builder)
}

/// A proxy resolves the vendor's name itself: what is to be refused then is for the proxy to say.
fn may_call_private(options: &Options) -> bool {
    options.allow_private_networks || options.sandbox.is_some() || options.proxy.is_some()
}

/// TLS by `ring`, chosen once for the whole process.
fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn sandbox_address(text: &str) -> Result<Url, ClientError> {
    let url = Url::parse(text).map_err(|_| ClientError::Sandbox)?;
    if url.scheme() != "http" || url.host_str().is_none() {
        return Err(ClientError::Sandbox);
    }
    Ok(url)
}

/// `https://HOST:PORT/PATH?QUERY` as `<sandbox>/HOST:PORT/PATH?QUERY`.
fn rewritten(sandbox: &Url, url: &Url) -> Url {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let mut target = sandbox.clone();
    target.set_path(&format!("{}/{host}{port}{}", sandbox.path().trim_end_matches('/'), url.path()));
    target.set_query(url.query());
    target
}

fn headers(request: &Request) -> Result<HeaderMap, NoAnswer> {
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for (name, value) in &request.headers {
        let refused =
            || NoAnswer::Refused(format!("header {name:?} cannot be sent: it holds a forbidden character"));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        headers.append(header, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refused())?);
    }
    Ok(headers)
}

async fn read(response: &mut reqwest::Response) -> Result<Bytes, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        let room = MOST_ANSWER_BYTES.saturating_sub(body.len());
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if body.len() >= MOST_ANSWER_BYTES {
            break;
        }
    }
    Ok(body.freeze())
}

/// The error in words that hold no address: its query may be a secret.
fn no_answer(error: &reqwest::Error, timeout: Duration) -> NoAnswer {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<RefusedAddress>() {
            return NoAnswer::Refused(refused.to_string());
        }
        cause = inner.source();
    }
    if error.is_connect() {
        return NoAnswer::Connection(format!("could not connect: {}", innermost(error)));
    }
    if error.is_timeout() {
        return NoAnswer::Timeout(timeout);
    }
    NoAnswer::Connection(innermost(error))
}

/// The cause at the bottom: the operating system's or the TLS library's own words.
fn innermost(error: &reqwest::Error) -> String {
    let Some(mut cause) = error.source() else { return "the request could not be made".to_owned() };
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
