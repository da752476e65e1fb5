//! TLS from certificate files, read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::reload::Reloaded;

/// Where the server's certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, PEM, the server's own first.
    pub chain: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// The server's end of TLS.
pub struct Tls(Reloaded<ServerConfig>);

impl Tls {
    /// Reads the files.
    pub fn open(certificate: &Certificate) -> Result<Self, String> {
        let own = certificate.clone();
        let files = vec![certificate.chain.clone(), certificate.key.clone()];
        Reloaded::new(files, move || read(&own)).map(Self)
    }

    /// What takes a connection now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.get())
    }
}

fn read(files: &Certificate) -> Result<ServerConfig, String> {
    fn at<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> String {
        move |error| format!("{}: {error}", path.display())
    }
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&files.chain).and_then(Iterator::collect).map_err(at(&files.chain))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(at(&files.key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(at(&files.chain))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
