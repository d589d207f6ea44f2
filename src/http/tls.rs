//! The encrypted side of a listener: PEM texts to a server configuration that can be replaced while connections are
//! open, and what to do about texts that cannot be used. It reads no files; whoever watches them gives their texts.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Why a certificate and its key cannot be used, and what to do about it. It shows nothing of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct TlsError {
    /// Which of the two files it is about; the certificate's where they do not fit.
    pub part: Part,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: &'static str,
}

/// One of a listener's two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The certificate chain.
    Certificate,
    /// The private key.
    Key,
}

/// A listener's certificate and key. Clones share it.
#[derive(Clone)]
pub struct Tls {
    current: Arc<watch::Sender<Arc<ServerConfig>>>,
}

impl Tls {
    /// From the PEM texts of a certificate chain, the server's own first, and of its private key.
    ///
    /// # Errors
    /// What is wrong with them, see [`TlsError`].
    pub fn new(certificates: &[u8], key: &[u8]) -> Result<Tls, TlsError> {
        Ok(Tls { current: Arc::new(watch::Sender::new(server_config(certificates, key)?)) })
    }

    /// Takes a new certificate and key for connections from now on; open ones stay. On an error the old one stays.
    ///
    /// # Errors
    /// What is wrong with them, see [`TlsError`].
    pub fn replace(&self, certificates: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.current.send_replace(server_config(certificates, key)?);
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.borrow().clone())
    }
}

/// Whether a certificate chain and a private key could be used, without using them.
///
/// # Errors
/// What is wrong with them, see [`TlsError`].
pub fn check_certificate(certificates: &[u8], key: &[u8]) -> Result<(), TlsError> {
    server_config(certificates, key).map(drop)
}

fn server_config(certificates: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = read_chain(certificates)?;
    let key = read_key(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: rustls::Error| unusable(&error, &chain, &key, &provider);
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_no_client_auth()
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(failed)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refused = |message: &str, remedy| TlsError {
        part: Part::Certificate,
        message: format!("the certificate file {message}"),
        remedy,
    };
    let chain = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().map_err(|error| {
        refused(damage(&error), "copy the whole file again, from the first BEGIN line to the last END line")
    })?;
    if !chain.is_empty() {
        return Ok(chain);
    }
    Err(if has(text, "PRIVATE KEY-----") {
        refused(
            "holds a private key and no certificate",
            "check that `certificate` and `key` are not swapped",
        )
    } else if is_der(text) {
        refused(
            "is in binary form, not in PEM form",
            "convert it: openssl x509 -inform der -in FILE -out FILE.pem, or for PKCS#12 openssl pkcs12 -nokeys -in FILE -out FILE.pem",
        )
    } else {
        refused(
            "holds no certificate in PEM form",
            "it must hold the chain, each certificate between BEGIN CERTIFICATE and END CERTIFICATE",
        )
    })
}

fn read_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let refused = |message: &str, remedy| TlsError {
        part: Part::Key,
        message: format!("the key file {message}"),
        remedy,
    };
    if has(text, "ENCRYPTED") {
        return Err(refused(
            "holds an encrypted key, whose passphrase nobody can type at a start",
            "decrypt it, and let nobody else read it: openssl pkey -in FILE -out FILE.plain",
        ));
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound if has(text, "CERTIFICATE-----") => {
            refused("holds a certificate and no private key", "check that `certificate` and `key` are not swapped")
        }
        pem::Error::NoItemsFound if is_der(text) => refused(
            "is in binary form, not in PEM form",
            "convert it: openssl pkey -inform der -in FILE -out FILE.pem, or for PKCS#12 openssl pkcs12 -nocerts -nodes -in FILE -out FILE.pem",
        ),
        pem::Error::NoItemsFound => refused(
            "holds no private key in PEM form",
            "it must hold one between BEGIN PRIVATE KEY and END PRIVATE KEY",
        ),
        error => {
            refused(damage(&error), "copy the whole file again, from its BEGIN line to its END line")
        }
    })
}

/// What a file suffers from. The library's own words would show lines of it.
fn damage(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "ends in the middle of a section",
        _ => "is damaged",
    }
}

/// What is wrong with a pair of which each was readable.
fn unusable(
    error: &rustls::Error,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> TlsError {
    let refused = |part, message: String, remedy| TlsError { part, message, remedy };
    let fits = |one: &CertificateDer<'static>| {
        CertifiedKey::from_der(vec![one.clone()], key.clone_key(), provider).is_ok()
    };
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => match chain.iter().position(fits) {
            Some(at) => refused(
                Part::Certificate,
                format!("the private key belongs to certificate {} of the certificate file", at + 1),
                "put the server's own certificate first, then the one that signed it, and so on",
            ),
            None => refused(
                Part::Certificate,
                "the private key belongs to another certificate".to_owned(),
                "take both from one renewal; `openssl x509 -pubkey -noout -in CERTIFICATE` and `openssl pkey -pubout -in KEY` must print the same",
            ),
        },
        rustls::Error::General(_) => refused(
            Part::Key,
            "the private key is of a kind that is not supported".to_owned(),
            "use RSA with 2048 bits or more, ECDSA on P-256 or P-384, or Ed25519",
        ),
        error => refused(
            Part::Certificate,
            format!("the certificate cannot be used: {error}"),
            "have it issued again, as X.509 version 3",
        ),
    }
}

fn has(text: &[u8], word: &str) -> bool {
    memchr::memmem::find(text, word.as_bytes()).is_some()
}

/// A sequence, which is how both begin in binary form.
fn is_der(text: &[u8]) -> bool {
    matches!(text, [0x30, length, ..] if *length >= 0x80)
}
