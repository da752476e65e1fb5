//! One connection: its bounds, and its requests one after the other.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::answer::{Answer, Refusal, busy};
use super::body::Counted;
use super::limits::{
    BUFFER_BYTES, HEAD_BYTES, HEAD_TIME, HEADERS, REQUEST_TIME, SLOWEST_BYTES_A_SECOND, TURNING_AWAY_TIME,
};
use super::log::Line;
use super::route::{Route, authorize};
use super::state::Serving;
use super::{get, put};

/// Until when a connection may live as things are. Each request moves it by what its bytes may take.
pub struct Patience {
    began: Instant,
    /// Milliseconds after `began`.
    ends: AtomicU64,
}

impl Patience {
    fn new(time: Duration) -> Self {
        let patience = Self { began: Instant::now(), ends: AtomicU64::new(0) };
        patience.allow(time);
        patience
    }

    /// From now on this long.
    fn allow(&self, time: Duration) {
        let ends = (self.began.elapsed() + time).as_millis();
        self.ends.store(u64::try_from(ends).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// From now on as long as a request with so many bytes may take.
    fn allow_bytes(&self, bytes: u64) {
        self.allow(REQUEST_TIME + Duration::from_secs(bytes / SLOWEST_BYTES_A_SECOND));
    }

    async fn lost(&self) {
        loop {
            let ends = self.began + Duration::from_millis(self.ends.load(Ordering::Relaxed));
            if ends <= Instant::now() {
                return;
            }
            sleep_until(ends).await;
        }
    }
}

/// Serves a connection until it ends, loses patience, or the server stops and its request is answered.
pub async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: SocketAddr,
    serving: Arc<Serving>,
    mut stopping: watch::Receiver<bool>,
) {
    let patience = Arc::new(Patience::new(REQUEST_TIME));
    let own = Arc::clone(&patience);
    let service = service_fn(move |request| {
        let (serving, patience) = (Arc::clone(&serving), Arc::clone(&own));
        async move { Ok::<_, Infallible>(answer(&serving, request, peer, &patience).await) }
    });
    let mut connection = std::pin::pin!(http().serve_connection(TokioIo::new(io), service));
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a connection ended early");
                }
                return;
            }
            () = patience.lost() => {
                tracing::info!(%peer, "a connection is closed: it was too slow");
                return;
            }
            Ok(()) = stopping.changed() => connection.as_mut().graceful_shutdown(),
        }
    }
}

/// Tells a connection for which there is no room to come again.
pub async fn turn_away(io: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    let service = service_fn(|_: Request<Incoming>| async {
        let (mut head, payload) = busy("connections").answer().into_parts();
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let bytes = match payload {
            super::body::Payload::Bytes(bytes) => bytes,
            _ => hyper::body::Bytes::new(),
        };
        Ok::<_, Infallible>(Response::from_parts(head, http_body_util::Full::new(bytes)))
    });
    let connection = http().serve_connection(TokioIo::new(io), service);
    // Whoever does not even read this is just closed.
    let _ = tokio::time::timeout(TURNING_AWAY_TIME, connection).await;
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(HEADERS)
        .max_header_size(HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES);
    http
}

async fn answer(
    serving: &Serving,
    request: Request<Incoming>,
    peer: SocketAddr,
    patience: &Patience,
) -> Response<Counted> {
    patience.allow_bytes(request.body().size_hint().exact().unwrap_or(0));
    let mut line = Line::new(serving.metrics(), request.method(), request.uri().path(), peer);
    let is_head = *request.method() == Method::HEAD;
    let (answer, reason) = match route(serving, request, &line).await {
        Ok(answer) => (answer, None),
        Err(refusal) => {
            let reason = refusal.reason();
            (refusal.answer(), Some(reason))
        }
    };
    let (mut head, mut payload) = answer.into_parts();
    let bytes = payload.size().unwrap_or(0);
    if is_head {
        if let Some(bytes) = payload.size()
            && !head.headers.contains_key(header::CONTENT_LENGTH)
            && !head.status.is_informational()
            && head.status != hyper::StatusCode::NOT_MODIFIED
        {
            head.headers.insert(header::CONTENT_LENGTH, bytes.into());
        }
        payload = super::body::Payload::Nothing;
    }
    patience.allow_bytes(bytes);
    line.answers(head.status, reason, if is_head { 0 } else { bytes });
    Response::from_parts(head, Counted::new(payload, line))
}

async fn route(serving: &Serving, request: Request<Incoming>, line: &Line) -> Result<Answer, Refusal> {
    let route = Route::of(request.uri().path(), request.uri().query());
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let caller = serving.doors().caller(authorization);
    let method = request.method().clone();
    if let Err(refusal) = authorize(serving.gates(), &caller, &method, &route) {
        put::drain(request.into_body(), &line.received()).await;
        return Err(refusal);
    }
    match (method, route) {
        (Method::PUT, Route::Object(kind)) => put::object(serving, kind, request, line.received()).await,
        (Method::DELETE, Route::Object(kind)) => put::remove(serving, kind).await,
        (method, Route::Object(kind)) => {
            get::object(serving, kind, &method, request.headers(), &caller).await
        }
        (_, Route::Health) => get::health(serving).await,
        (_, Route::Metrics) => get::metrics(serving).await,
        (_, Route::List(under)) => get::list(serving, under).await,
        (_, Route::Unknown) => Err(Refusal::not_found()),
    }
}
