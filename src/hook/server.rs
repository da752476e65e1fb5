//! The server of the web hook: one path, bounded in time, size and callers.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::verify::{Call, Secret};
use crate::config::WebhookConfig;

/// Where a git server calls.
const PATH: &str = "/hooks/git";
/// Callers at a time; one more is hung up on.
const CALLERS_MAX: usize = 32;
/// Time for a caller, from its first byte to our last.
const CALLER_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of a body: GitHub sends at most 25 MB. It is hashed as it comes in and never held.
const BODY_BYTES_MAX: u64 = 26 << 20;
/// Bytes of all headers.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Pause after the system could not accept a caller (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Calls that are refused are told in the log at most this often, with their number.
const TELL_PAUSE: Duration = Duration::from_secs(60);

/// Why there is no hook.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for web hooks on {address}: {source}")]
pub struct HookError {
    address: SocketAddr,
    source: std::io::Error,
}

/// An open hook. Dropping it closes it.
#[derive(Debug)]
pub struct Hook {
    config: WebhookConfig,
    address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

impl Hook {
    /// Opens it. Each genuine call sends one `()`; calls that come while one waits there are the same call.
    pub async fn open(config: &WebhookConfig, looks: mpsc::Sender<()>) -> Result<Self, HookError> {
        let refused = |source| HookError { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let desk = Rc::new(Desk {
            secret_file: config.secret_file.as_path().into(),
            looks,
            refused: Cell::default(),
            told: Cell::default(),
        });
        Ok(Self { config: config.clone(), address, serving: tokio::task::spawn_local(serve(listener, desk)) })
    }

    /// What it was opened with.
    pub const fn config(&self) -> &WebhookConfig {
        &self.config
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What every caller meets.
struct Desk {
    secret_file: Box<Path>,
    looks: mpsc::Sender<()>,
    refused: Cell<u64>,
    told: Cell<Option<Instant>>,
}

async fn serve(listener: TcpListener, desk: Rc<Desk>) {
    let room = Arc::new(Semaphore::new(CALLERS_MAX));
    loop {
        let caller = match listener.accept().await {
            Ok((caller, _)) => caller,
            Err(error) => {
                warn!(%error, "a caller of the web hook could not be let in");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let desk = Rc::clone(&desk);
        tokio::task::spawn_local(async move {
            if tokio::time::timeout(CALLER_LIMIT, receive(caller, &desk)).await.is_err() {
                debug!("a caller of the web hook took too long");
            }
            drop(permit);
        });
    }
}

async fn receive(caller: TcpStream, desk: &Rc<Desk>) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(desk.answer(request).await) });
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(CALLER_LIMIT)
        .serve_connection(TokioIo::new(caller), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a caller of the web hook left");
    }
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != PATH {
            return say(StatusCode::NOT_FOUND, "there is only POST /hooks/git\n");
        }
        if request.method() != Method::POST {
            return say(StatusCode::METHOD_NOT_ALLOWED, "there is only POST /hooks/git\n");
        }
        let secret = match Secret::read(&self.secret_file) {
            Ok(secret) => secret,
            Err(error) => {
                error!(%error, "no call of the web hook can be checked");
                return say(StatusCode::INTERNAL_SERVER_ERROR, "the hook has no secret\n");
            }
        };
        let (head, mut body) = request.into_parts();
        let mut call = Call::new(&secret, |name| head.headers.get(name)?.to_str().ok());
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return say(StatusCode::BAD_REQUEST, "the body was cut\n") };
            let Some(piece) = frame.data_ref() else { continue };
            bytes += piece.len() as u64;
            if bytes > BODY_BYTES_MAX {
                return say(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n");
            }
            call.update(piece);
        }
        if !call.is_genuine() {
            self.note_refusal();
            return say(StatusCode::UNAUTHORIZED, "the signature is missing or wrong\n");
        }
        debug!("a git server says that something was pushed");
        // One that waits already is this one.
        let _ = self.looks.try_send(());
        say(StatusCode::ACCEPTED, "looking\n")
    }

    fn note_refusal(&self) {
        let refused = self.refused.get() + 1;
        self.refused.set(refused);
        if self.told.get().is_none_or(|told| told.elapsed() >= TELL_PAUSE) {
            self.told.set(Some(Instant::now()));
            warn!(refused, "a call of the web hook had no signature or a wrong one");
        }
    }
}

fn say(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
