//! What changes a store behind HTTP, and what a server says of it beyond single objects: the words of
//! `landfall serve`. A static server knows none of them, and that is said.
//!
//! Everything here may be asked for twice: an object that arrived although its answer was lost exists at the next
//! try, and what replaces or removes comes to the same each time.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use tokio::time::timeout;

use super::HttpBackend;
use super::effort::Effort;
use super::request::{Fault, asked_pause, unanswered};
use crate::backend::wire::{ACCESS_HEADER, List, Refusal, WRITE_HEADER, WRITE_OVER};
use crate::backend::{Access, BackendError, Key, Listed, Put, Upload};
use crate::spool::Spool;

/// Bytes of an upload that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes of an answer that explains itself.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Bytes of a list: two million objects.
const LIST_BYTES_MAX: usize = 256 << 20;

const READ_ONLY: &str =
    "a static server takes no uploads: push to a directory and copy that, or to a server of `landfall serve`";
const NO_LISTS: &str = "a static server has no lists: name artifacts by version or by full id";

impl HttpBackend {
    pub(super) fn begin_upload(&self, access: Access) -> HttpUpload<'_> {
        HttpUpload { backend: self, access, spool: Spool::default() }
    }

    pub(super) fn overwrite(&self, key: &Key, bytes: &[u8]) -> Result<(), BackendError> {
        let mut upload = self.begin_upload(Access::Public);
        upload.write_all(bytes).map_err(|source| BackendError::io("write", key, self.shown(), source))?;
        upload.send(key, true).map(drop)
    }

    pub(super) fn remove(&self, key: &Key) -> Result<(), BackendError> {
        let done = self.change("delete", key, 0, || self.authorized(Method::DELETE, self.url(key)));
        match done {
            Ok(_) | Err(BackendError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn listed(&self, under: &Key) -> Result<Vec<Listed>, BackendError> {
        let mut url = self.base.clone();
        let path = format!("{}/", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.set_query(Some(&format!("list={under}")));
        let mut effort = Effort::new(self.patience.in_all(0));
        let answered = loop {
            let begun = Instant::now();
            let answered = self.runtime.run(self.ask_list(url.clone()));
            effort.waited += begun.elapsed();
            match answered {
                Ok(answered) => break Ok(answered),
                Err(fault) => {
                    if let Err(fault) = effort.wait(fault, &self.patience) {
                        break Err(fault);
                    }
                }
            }
        };
        let none = || self.unable("list", under, NO_LISTS);
        let list = match answered {
            Ok(Some(text)) => serde_json::from_slice::<List>(&text).map_err(|_| none())?,
            Ok(None) | Err(Fault::Missing) => return Err(none()),
            Err(fault) => return Err(self.error("list", under, fault)),
        };
        let listed = |item: crate::backend::wire::Item| {
            let key = Key::new(item.key).map_err(|error| {
                let source = io::Error::new(io::ErrorKind::InvalidData, error.to_string());
                BackendError::Io { action: "list", key: under.to_string(), at: self.shown(), source }
            })?;
            let modified = UNIX_EPOCH.checked_add(Duration::from_millis(item.modified_ms));
            Ok(Listed { key, size: item.size, modified: modified.unwrap_or(UNIX_EPOCH) })
        };
        let mut listed: Vec<_> = list.items.into_iter().map(listed).collect::<Result<_, BackendError>>()?;
        listed.sort();
        Ok(listed)
    }

    /// The bytes of a list; `None`: the server answers something else, as static ones do.
    async fn ask_list(&self, url: Url) -> Result<Option<Vec<u8>>, Fault> {
        let sent = timeout(self.patience.answer, self.authorized(Method::GET, url).send()).await;
        let mut response = self.answered(sent)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Ok(None),
            _ => return refusal(response).await.map_or(Ok(None), Err),
        }
        let mut text = Vec::new();
        loop {
            let chunk = timeout(self.patience.answer, response.chunk()).await;
            match chunk.map_err(|_| Fault::Slow("the list does not go on".to_owned()))? {
                Ok(Some(bytes)) if text.len() + bytes.len() > LIST_BYTES_MAX => {
                    return Err(Fault::Final("its list has no end".to_owned()));
                }
                Ok(Some(bytes)) => text.extend_from_slice(&bytes),
                Ok(None) => return Ok(Some(text)),
                Err(error) => return Err(unanswered(&error)),
            }
        }
    }

    /// A request with the token. No redirect is followed, so it goes to this address's origin alone.
    fn authorized(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url);
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.clone()),
            None => request,
        }
    }

    /// Sends a request that changes the store, until it is answered for good.
    fn change(
        &self,
        action: &'static str,
        key: &Key,
        bytes: u64,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<StatusCode, BackendError> {
        let allowed = self.patience.in_all(bytes);
        let mut effort = Effort::new(allowed);
        loop {
            let begun = Instant::now();
            let tried = self.runtime.run(async {
                let sent = timeout(self.patience.answer.saturating_add(allowed), request().send()).await;
                let response = self.answered(sent)?;
                match response.status() {
                    status @ (StatusCode::CREATED | StatusCode::NO_CONTENT) => Ok(Some(status)),
                    // A server that takes a PUT for a GET has stored nothing.
                    status if status.is_success() => Ok(None),
                    _ => refusal(response).await.map_or(Ok(None), Err),
                }
            });
            effort.waited += begun.elapsed();
            let fault = match tried {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => return Err(self.unable(action, key, READ_ONLY)),
                Err(fault) => fault,
            };
            effort.wait(fault, &self.patience).map_err(|fault| self.error(action, key, fault))?;
        }
    }

    fn answered(
        &self,
        sent: Result<Result<Response, reqwest::Error>, tokio::time::error::Elapsed>,
    ) -> Result<Response, Fault> {
        match sent {
            Ok(answered) => answered.map_err(|error| unanswered(&error)),
            Err(_) => Err(Fault::Slow("no answer in time".to_owned())),
        }
    }

    fn unable(&self, action: &'static str, key: &Key, why: &str) -> BackendError {
        let source = io::Error::new(io::ErrorKind::Unsupported, why);
        BackendError::Io { action, key: key.to_string(), at: self.shown(), source }
    }
}

/// Why a request was not served: what the server says of it, and whether another try may help. `None`: it is no
/// server of `landfall serve`, and knows no such requests.
pub(super) async fn refusal(mut response: Response) -> Option<Fault> {
    let (status, after) = (response.status(), asked_pause(&response));
    let mut text = Vec::new();
    while let Ok(Ok(Some(bytes))) = timeout(Duration::from_secs(10), response.chunk()).await {
        text.extend_from_slice(&bytes);
        if text.len() > REFUSAL_BYTES_MAX {
            break;
        }
    }
    let said = serde_json::from_slice::<Refusal>(&text).ok();
    let why = said.as_ref().map_or_else(|| status.to_string(), Refusal::to_string);
    Some(match status.as_u16() {
        404 | 405 | 410 | 501 if said.is_none() => return None,
        404 | 410 => Fault::Missing,
        401 | 403 => Fault::Denied(why),
        408 | 425 | 429 | 500 | 502..=504 => Fault::Passing { why, after },
        300..=399 => Fault::Final(format!("{status}: give the address that it redirects to")),
        _ => Fault::Final(why),
    })
}

/// An object on its way. Its key is its content's, so it is kept until the last byte is known.
pub(super) struct HttpUpload<'a> {
    backend: &'a HttpBackend,
    access: Access,
    spool: Spool,
}

impl HttpUpload<'_> {
    fn send(self, key: &Key, over: bool) -> Result<Put, BackendError> {
        let Self { backend, access, spool } = self;
        let (size, spool) = (spool.size(), Arc::new(spool));
        let status = backend.change("write", key, size, || {
            let request = backend
                .authorized(Method::PUT, backend.url(key))
                .header(CONTENT_LENGTH, size)
                .header(ACCESS_HEADER, access.as_str())
                .body(reqwest::Body::wrap_stream(pieces(Arc::clone(&spool))));
            if over { request.header(WRITE_HEADER, WRITE_OVER) } else { request }
        })?;
        Ok(if status == StatusCode::CREATED { Put::Stored } else { Put::Existed })
    }
}

/// What was spooled, piece by piece, from its beginning.
fn pieces(spool: Arc<Spool>) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    futures_util::stream::try_unfold(0, move |at| {
        let spool = Arc::clone(&spool);
        async move {
            let piece = spool.part(at, CHUNK_BYTES)?;
            Ok((!piece.is_empty()).then(|| (piece.clone(), at + piece.len() as u64)))
        }
    })
}

impl Write for HttpUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.spool.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for HttpUpload<'_> {
    fn commit(self: Box<Self>, key: &Key) -> Result<Put, BackendError> {
        self.send(key, false)
    }

    fn overwrite(self: Box<Self>, key: &Key) -> Result<(), BackendError> {
        self.send(key, true).map(drop)
    }
}
