//! A store over HTTP: what `landfall serve` runs.
//!
//! Hosts need nothing but `GET` and single ranges of a store's objects, so any static server will do; this one is
//! for teams without one, and the only one that takes uploads. It speaks HTTP/1.1, reads and writes one directory,
//! and holds nothing in memory between requests but its tokens and counts.
//!
//! A request goes through `route` (what is it, and may its sender), then `get` or `put`. Everything is bounded by
//! `limits`: connections, heads, bodies, time.

mod answer;
mod body;
mod connection;
mod get;
pub mod limits;
mod log;
mod metrics;
mod put;
mod range;
mod reload;
mod reports;
mod route;
mod state;
mod tls;
mod tokens;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use landfall_store::backend::{Backend, DirBackend};
use landfall_store::{Store, StoreError};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use tls::Certificate;

use crate::systemd::Systemd;
use limits::{HANDSHAKE_TIME, STOP_TIME, TURNED_AWAY};
use state::Serving;
use tls::Tls;
use tokens::Doors;

/// What to serve, where, and to whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The store's directory.
    pub dir: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The file with the tokens that may push.
    pub push_tokens: Option<PathBuf>,
    /// The file with the tokens that may read.
    pub read_tokens: Option<PathBuf>,
    /// The file with the tokens of hosts that may report.
    pub report_tokens: Option<PathBuf>,
    /// Where the certificate is; none: plain HTTP.
    pub certificate: Option<Certificate>,
    /// Whether tokens may travel in clear beyond this machine.
    pub tokens_in_clear: bool,
    /// Connections at a time.
    pub connections: usize,
    /// Bytes of one upload.
    pub upload_bytes: u64,
}

/// Why a store is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is no store, or none that this landfall knows.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A token or certificate file cannot be used.
    #[error("{0}")]
    File(String),
    /// Tokens would travel in clear.
    #[error("{0} is reached from other machines, and without TLS a token can be read on the way")]
    InClear(SocketAddr),
    /// The directory cannot be written to, and pushes or reports were asked for.
    #[error("the store cannot be written to: {0}")]
    ReadOnly(landfall_store::backend::BackendError),
    /// The address cannot be listened on.
    #[error("cannot listen on {at}: {source}")]
    Listen {
        /// The address.
        at: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel does not deliver signals.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
}

/// A server that listens, and has not answered yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    serving: Arc<Serving>,
    places: Arc<Semaphore>,
    signals: Signals,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, ServeError> {
        let listen = |kind| signal(kind).map_err(ServeError::Signals);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every request was answered, or had its time.
    InOrder,
    /// A second signal cut what was still running.
    AtOnce,
}

impl Server {
    /// Checks everything, and listens.
    pub async fn bind(settings: &Settings) -> Result<Self, ServeError> {
        // First: whoever starts a server and ends it at once shall see it end in order.
        let signals = Signals::listen()?;
        let [push, read, report] =
            [&settings.push_tokens, &settings.read_tokens, &settings.report_tokens].map(Option::as_deref);
        let doors = Doors::open(push, read, report).map_err(ServeError::File)?;
        let tls = settings.certificate.as_ref().map(Tls::open).transpose().map_err(ServeError::File)?;
        let in_clear = tls.is_none() && doors.any() && !settings.listen.ip().is_loopback();
        if in_clear && !settings.tokens_in_clear {
            return Err(ServeError::InClear(settings.listen));
        }
        let store = open(settings)?;
        let failed = |source| ServeError::Listen { at: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            tls: tls.map(Arc::new),
            serving: Arc::new(Serving::new(store, doors, settings.upload_bytes)),
            places: Arc::new(Semaphore::new(settings.connections)),
            signals,
        })
    }

    /// The address hosts use, with the port that it really has.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Answers until a signal ends it.
    pub async fn run(mut self) -> Ended {
        let mut systemd = Systemd::new();
        let (stop, stopping) = watch::channel(false);
        let turned_away = Arc::new(Semaphore::new(TURNED_AWAY));
        let mut connections = JoinSet::new();
        systemd.ready();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(&mut connections, stream, peer, &stopping, &turned_away),
                    Err(error) => {
                        tracing::error!(%error, "no connection can be taken");
                        // Out of files: others have to end first.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = systemd.sign_is_due() => systemd.sign_of_life(),
                () = self.signals.recv() => break,
            }
        }
        drop(self.listener);
        systemd.stopping();
        tracing::info!(running = connections.len(), "stopping: running requests end first");
        // Nobody receives it where no connection is open.
        let _ = stop.send(true);
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => Ended::InOrder,
            () = tokio::time::sleep(STOP_TIME) => {
                tracing::warn!(running = connections.len(), "requests are cut: they took too long to end");
                Ended::InOrder
            }
            () = self.signals.recv() => Ended::AtOnce,
        }
    }

    fn admit(
        &self,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        peer: SocketAddr,
        stopping: &watch::Receiver<bool>,
        turned_away: &Arc<Semaphore>,
    ) {
        let serving = Arc::clone(&self.serving);
        let (tls, stopping) = (self.tls.clone(), stopping.clone());
        // Answers are small or written in large pieces: waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            serving.metrics().turned_away();
            if let Ok(place) = Arc::clone(turned_away).try_acquire_owned() {
                connections.spawn(async move {
                    match tls {
                        None => connection::turn_away(stream).await,
                        Some(tls) => {
                            if let Ok(Ok(stream)) =
                                timeout(HANDSHAKE_TIME, tls.acceptor().accept(stream)).await
                            {
                                connection::turn_away(stream).await;
                            }
                        }
                    }
                    drop(place);
                });
            }
            return;
        };
        connections.spawn(async move {
            serving.metrics().connected();
            match tls {
                None => connection::serve(stream, peer, Arc::clone(&serving), stopping).await,
                Some(tls) => match timeout(HANDSHAKE_TIME, tls.acceptor().accept(stream)).await {
                    Ok(Ok(stream)) => connection::serve(stream, peer, Arc::clone(&serving), stopping).await,
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS came about"),
                    Err(_) => tracing::debug!(%peer, "no TLS came about in time"),
                },
            }
            serving.metrics().disconnected();
            drop(place);
        });
    }
}

/// The store, made only where pushes may fill it.
fn open(settings: &Settings) -> Result<DirBackend, ServeError> {
    if settings.push_tokens.is_some() {
        Store::create(&settings.dir)?;
    } else {
        Store::open(&settings.dir)?;
    }
    let store = DirBackend::open(&settings.dir).map_err(|error| ServeError::Store(error.into()))?;
    if settings.push_tokens.is_some() || settings.report_tokens.is_some() {
        // Asking for the time writes a file: better now than at the first push or report.
        store.now().map_err(ServeError::ReadOnly)?;
    }
    Ok(store)
}
