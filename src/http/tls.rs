//! The encrypted side of a listener: PEM texts to a server configuration that can be replaced while connections are
//! open. It reads no files; whoever watches them gives their texts.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Why a certificate and its key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The certificate's text holds none, or a broken one.
    #[error("the certificate file holds no certificate in PEM form: {0}")]
    Certificate(String),
    /// The key's text holds none, or a broken one.
    #[error("the key file holds no private key in PEM form: {0}")]
    Key(String),
    /// They do not belong together, or are of an unsupported kind.
    #[error("certificate and key cannot be used: {0}")]
    Pair(String),
}

/// A listener's certificate and key. Clones share it.
#[derive(Clone)]
pub struct Tls {
    current: Arc<watch::Sender<Arc<ServerConfig>>>,
}

impl Tls {
    /// From the PEM texts of a certificate chain, the server's own first, and of its private key.
    pub fn new(certificates: &[u8], key: &[u8]) -> Result<Tls, TlsError> {
        Ok(Tls { current: Arc::new(watch::Sender::new(server_config(certificates, key)?)) })
    }

    /// Takes a new certificate and key for connections from now on; open ones stay. On an error the old one stays.
    pub fn replace(&self, certificates: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.current.send_replace(server_config(certificates, key)?);
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.borrow().clone())
    }
}

fn server_config(certificates: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("no section found".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Pair(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| TlsError::Pair(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
