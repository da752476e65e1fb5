//! The connection below `object_store`: the process's own client, with bounds, and a look at what answers say
//! beside what was asked: the server's time, and the bucket's region.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use tokio::time::Sleep;

use super::settings::HOW_TO_GIVE_CREDENTIALS;
use crate::backend::client::{self, Trust};

/// How long an answer may take to begin, with the time to send what was asked: a part of 8 MiB at 1 Mbit/s.
const ANSWER: Duration = Duration::from_secs(90);
/// How long an answer may pause.
const PAUSE: Duration = Duration::from_secs(30);
/// How long a machine's metadata service, which is beside it, may take.
const METADATA: Duration = Duration::from_secs(2);
/// Bytes of an answer that is no object: an error, or a page of a thousand keys.
const WORDS_BYTES_MAX: u64 = 8 << 20;

/// What the server's answers said last.
#[derive(Debug, Default)]
pub(super) struct Heard {
    date: Mutex<Option<SystemTime>>,
    region: Mutex<Option<String>>,
}

impl Heard {
    /// The server's time in its latest answer.
    pub(super) fn date(&self) -> Option<SystemTime> {
        *self.date.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The region that the server says the bucket is in.
    pub(super) fn region(&self) -> Option<String> {
        self.region.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn listen(&self, answer: &HttpResponse) {
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(date) = header("date").and_then(|date| httpdate::parse_http_date(date).ok()) {
            *self.date.lock().unwrap_or_else(PoisonError::into_inner) = Some(date);
        }
        if let Some(region) = header("x-amz-bucket-region") {
            *self.region.lock().unwrap_or_else(PoisonError::into_inner) = Some(region.to_owned());
        }
    }
}

/// Makes clients for `object_store`.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) heard: Arc<Heard>,
    /// Who is trusted instead of the platform's certificate authorities.
    pub(super) authorities: Option<PathBuf>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |error: io::Error| object_store::Error::Generic { store: "S3", source: Box::new(error) };
        // Only what asks the machine it runs on for credentials is allowed plain http by these options; whether
        // the bucket's endpoint may be plain is the user's word in its address.
        if options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|allowed| allowed == "true") {
            let client = client::build(METADATA, Trust::Platform).map_err(failed)?;
            return Ok(HttpClient::new(Metadata(client)));
        }
        let client = match &self.authorities {
            Some(file) => client::trusting(file),
            None => client::shared(),
        };
        Ok(HttpClient::new(Server { client: client.map_err(failed)?, heard: Arc::clone(&self.heard) }))
    }
}

/// The bucket's server.
#[derive(Debug)]
struct Server {
    client: reqwest::Client,
    heard: Arc<Heard>,
}

#[async_trait]
impl HttpService for Server {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let words = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("list-type=") || query.contains("upload"));
        let answer = within(ANSWER, self.client.call(request)).await?;
        self.heard.listen(&answer);
        let bound = if words || !answer.status().is_success() { WORDS_BYTES_MAX } else { u64::MAX };
        Ok(answer.map(|body| HttpResponseBody::new(Bounded::new(body, bound))))
    }
}

/// What gives this machine or container its credentials.
#[derive(Debug)]
struct Metadata(reqwest::Client);

/// Nothing gives this machine credentials.
#[derive(Debug, thiserror::Error)]
#[error("no credentials, and this machine has no role that would give it some: {HOW_TO_GIVE_CREDENTIALS}")]
struct NoRole(#[source] HttpError);

#[async_trait]
impl HttpService for Metadata {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Of a kind that is not tried again: most machines simply have no such service.
        let none = |error| HttpError::new(HttpErrorKind::Unknown, NoRole(error));
        let answer = within(METADATA, self.0.call(request)).await.map_err(none)?;
        Ok(answer.map(|body| HttpResponseBody::new(Bounded::new(body, WORDS_BYTES_MAX))))
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late(limit)))
}

fn late(limit: Duration) -> HttpError {
    let why = format!("no answer within {} s", limit.as_secs());
    HttpError::new(HttpErrorKind::Timeout, io::Error::new(io::ErrorKind::TimedOut, why))
}

/// An answer that may neither stall nor, where it is words, be endless.
struct Bounded {
    body: HttpResponseBody,
    left: u64,
    pause: Pin<Box<Sleep>>,
}

impl Bounded {
    fn new(body: HttpResponseBody, bytes_max: u64) -> Self {
        Self { body, left: bytes_max, pause: Box::pin(tokio::time::sleep(PAUSE)) }
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            return self.pause.as_mut().poll(context).map(|()| Some(Err(late(PAUSE))));
        };
        self.pause.as_mut().reset(tokio::time::Instant::now() + PAUSE);
        let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        match self.left.checked_sub(length as u64) {
            Some(left) => {
                self.left = left;
                Poll::Ready(frame)
            }
            None => {
                let endless = io::Error::other("the server's answer is longer than any of its kind");
                Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Decode, endless))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
