//! Answers, and refusals in words.

use std::io;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use landfall_store::backend::{BackendError, Key};
use landfall_store::object::Unfit;
use serde_json::json;

use super::body::Payload;
use super::limits::RETRY_AFTER_SECONDS;
use crate::cli::report::API_VERSION;

/// An answer before its bytes are counted.
pub type Answer = Response<Payload>;

/// Why a request is not served. It never repeats what the request said of itself but the key.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    reason: &'static str,
    message: String,
    hint: Option<&'static str>,
    headers: Box<HeaderMap>,
}

impl Refusal {
    /// A refusal: `reason` is one word for machines.
    pub fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        let mut headers = Box::new(HeaderMap::new());
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"landfall\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        Self { status, reason, message: message.into(), hint: None, headers }
    }

    /// There is no such object.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the store has no such object")
    }

    /// With what to do about it.
    #[must_use]
    pub const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// With the methods that are possible.
    #[must_use]
    pub fn allow(self, methods: &'static str) -> Self {
        self.header(header::ALLOW, HeaderValue::from_static(methods))
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Its status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// What it says.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// One word for it.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    /// The answer that says it.
    pub fn answer(self) -> Answer {
        let mut document = json!({
            "apiVersion": API_VERSION,
            "kind": "Error",
            "reason": self.reason,
            "message": self.message,
        });
        if let Some(hint) = self.hint {
            document["hint"] = hint.into();
        }
        let mut answer = document_answer(self.status, &document);
        answer.headers_mut().extend(*self.headers);
        answer
    }
}

/// A JSON document. None is kept by caches.
pub fn document_answer(status: StatusCode, document: &serde_json::Value) -> Answer {
    text(status, "application/json", format!("{document}\n"))
}

/// A text that no cache keeps.
pub fn text(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Payload::bytes(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A status and nothing else.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Payload::Nothing);
    *answer.status_mut() = status;
    answer
}

impl From<BackendError> for Refusal {
    fn from(error: BackendError) -> Self {
        match &error {
            BackendError::NotFound { .. } => Self::not_found(),
            BackendError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", error.to_string())
            }
            BackendError::Io { action, key, source, .. } => of_io(action, key, source),
            BackendError::Denied { .. } | BackendError::Setup { .. } | BackendError::Unreachable { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "StoreFailed", error.to_string())
            }
        }
    }
}

impl From<Unfit> for Refusal {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Other { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "DigestMismatch", unfit.to_string())
            }
            Unfit::TooEarly { .. } => Self::new(StatusCode::CONFLICT, "TooEarly", unfit.to_string()),
            Unfit::Backend(error) => error.into(),
        }
    }
}

/// What the disk said. Where the store lies is the server's own business.
fn of_io(action: &str, key: &str, source: &io::Error) -> Refusal {
    let at = format!("cannot {action} `{key}`: {source}");
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => disk_full(&at),
        io::ErrorKind::PermissionDenied => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "Unreadable", at)
            .hint("the server runs as another user than the store's owner"),
        _ => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "StoreFailed", at),
    }
}

/// There is no room for an upload.
pub fn disk_full(why: &str) -> Refusal {
    Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "DiskFull", format!("no room for this object: {why}"))
        .hint("`landfall store gc` makes room; what is stored stays readable")
}

/// What a request for an object could not read.
pub fn cannot(action: &'static str, key: &Key, error: &io::Error) -> Refusal {
    of_io(action, key.as_str(), error)
}

/// The server has too much to do.
pub fn busy(what: &'static str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Busy", format!("too many {what} at once: come again"))
}
