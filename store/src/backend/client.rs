//! The HTTP client of every network backend: one pool of connections, one set of trusted roots.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept: shorter than servers do, so that it is seldom met closed.
const IDLE: Duration = Duration::from_secs(30);
/// When a silent connection is asked whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// The process's client. Trusts the platform's certificate authorities, or, where `SSL_CERT_FILE` or
/// `SSL_CERT_DIR` are set, those instead. Goes through the proxies that the environment names. Follows no
/// redirect: whoever uses it decides where its credentials may go.
pub(crate) fn shared() -> io::Result<reqwest::Client> {
    static SHARED: OnceLock<reqwest::Client> = OnceLock::new();
    if let Some(client) = SHARED.get() {
        return Ok(client.clone());
    }
    let client = build(CONNECT, Trust::Platform)?;
    Ok(SHARED.get_or_init(|| client).clone())
}

/// A client that trusts the certificate authorities of one file, and no others.
pub(crate) fn trusting(authorities: &Path) -> io::Result<reqwest::Client> {
    build(CONNECT, Trust::Only(authorities))
}

/// Whose certificates a client takes.
#[derive(Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// Those of the platform's authorities.
    Platform,
    /// Those of the authorities in a file.
    Only(&'a Path),
}

/// A client of its own.
pub(crate) fn build(connect: Duration, trust: Trust<'_>) -> io::Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls(trust)?)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(connect)
        .pool_idle_timeout(IDLE)
        .tcp_keepalive(KEEPALIVE)
        .user_agent(concat!("landfall/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| io::Error::other(error.without_url()))
}

fn tls(trust: Trust<'_>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Platform => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "cannot read a certificate authority");
            }
            // Of hundreds of roots a few may be of a kind that rustls refuses; without any, https says so itself.
            let (_, refused) = roots.add_parsable_certificates(found.certs);
            tracing::debug!(roots = roots.len(), refused, "certificate authorities");
        }
        Trust::Only(file) => {
            let unusable = |why: String| io::Error::other(format!("{}: {why}", file.display()));
            let found = CertificateDer::pem_file_iter(file).map_err(|error| unusable(error.to_string()))?;
            for certificate in found {
                let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
                roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable("it holds no certificate".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
