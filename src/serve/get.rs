//! Reading: objects, lists, health.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use landfall_store::backend::{Access, Backend, DirObject, Key, Listed};
use landfall_store::object::ObjectKind;
use serde_json::json;

use super::answer::{self, Answer, Refusal, cannot};
use super::body::{FilePart, Payload};
use super::limits::CHUNK_BYTES;
use super::range::{self, Selection};
use super::route::{Gates, may_read_private};
use super::state::{Serving, blocking};
use super::tokens::Caller;

/// Bytes of objects that are hashed for their tag at each request: some milliseconds.
const HASHED_BYTES_MAX: u64 = 16 << 20;
/// For a year, which is what caches take "for ever" to be.
const FOR_EVER: &str = "max-age=31536000, immutable";

/// An object, or the part of it that the request's headers ask for.
pub async fn object(
    serving: &Serving,
    kind: ObjectKind,
    method: &Method,
    headers: &HeaderMap,
    caller: &Caller,
) -> Result<Answer, Refusal> {
    let key = kind.key();
    let store = serving.store();
    let found = blocking(move || {
        let object = store.open_object(&kind.key())?;
        let tag = tag(&kind, &object).map_err(|error| cannot("read", &kind.key(), &error))?;
        Ok::<_, Refusal>(Found { object, tag, kind })
    })
    .await?
    .inspect_err(|refusal| complain(&key, refusal))?;
    // Who may read a report is settled by whose it is.
    if found.object.access == Access::Private && !matches!(found.kind, ObjectKind::Report(_)) {
        may_read_private(serving.gates(), caller)?;
    }
    Ok(found.answer(method, headers, serving.gates()))
}

/// What the disk refuses is the operator's to know, beside the client.
fn complain(key: &Key, refusal: &Refusal) {
    if refusal.status().is_server_error() {
        tracing::error!(%key, reason = refusal.reason(), "cannot be served: {}", refusal.message());
    }
}

/// The strong entity tag: the hash of the object's bytes, which its key has where all its copies have the same, so
/// that it is the same on every server that has the same bytes. Only of a large delta it is of what the file is.
pub(super) fn tag(kind: &ObjectKind, object: &DirObject) -> std::io::Result<String> {
    Ok(match kind.digest() {
        Some(digest) => format!("\"{digest}\""),
        None if object.size > HASHED_BYTES_MAX => {
            let written = object.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("\"{}-{:x}\"", object.size, written.as_nanos())
        }
        None => format!("\"{}\"", blake3::Hasher::new().update_reader(object.content()?)?.finalize()),
    })
}

struct Found {
    object: DirObject,
    tag: String,
    kind: ObjectKind,
}

impl Found {
    fn answer(self, method: &Method, headers: &HeaderMap, gates: Gates) -> Answer {
        let modified = httpdate::fmt_http_date(self.object.modified);
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let is_known = text(header::IF_NONE_MATCH).is_some_and(|known| range::names(known, &self.tag));
        let size = self.object.size;
        // A range is for GET alone (RFC 9110, 14.2).
        let ranged =
            *method == Method::GET && range::is_current(text(header::IF_RANGE), &self.tag, &modified);
        let selection = range::select(text(header::RANGE).filter(|_| ranged), size);
        let mut own = self.headers(&modified, gates);
        let (status, first, length) = match selection {
            _ if is_known => (StatusCode::NOT_MODIFIED, 0, 0),
            Selection::Whole => (StatusCode::OK, 0, size),
            Selection::Part { first, length } => {
                put(&mut own, header::CONTENT_RANGE, format!("bytes {first}-{}/{size}", first + length - 1));
                (StatusCode::PARTIAL_CONTENT, first, length)
            }
            Selection::Unsatisfiable => {
                let refusal = Refusal::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "RangeNotSatisfiable",
                    format!("the object has {size} bytes"),
                );
                let mut answer = refusal.answer();
                put(answer.headers_mut(), header::CONTENT_RANGE, format!("bytes */{size}"));
                return answer;
            }
        };
        if status != StatusCode::NOT_MODIFIED {
            own.insert(header::CONTENT_LENGTH, length.into());
        }
        let sent = *method == Method::GET && length > 0;
        let payload = if sent {
            Payload::File(FilePart::new(self.object.file, first, length))
        } else {
            Payload::Nothing
        };
        let mut answer = Response::new(payload);
        *answer.status_mut() = status;
        *answer.headers_mut() = own;
        answer
    }

    fn headers(&self, modified: &str, gates: Gates) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mime = if self.kind.key().name().ends_with(".json") {
            "application/json"
        } else {
            "application/octet-stream"
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(mime));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        put(&mut headers, header::ETAG, self.tag.clone());
        put(&mut headers, header::LAST_MODIFIED, modified.to_owned());
        // A shared cache must not give to others what needed a token.
        let who = if gates.read || self.object.access == Access::Private { "private" } else { "public" };
        let cache = match &self.kind {
            ObjectKind::Report(_) => "no-store".to_owned(),
            kind if kind.is_immutable() => format!("{who}, {FOR_EVER}"),
            _ => "no-cache".to_owned(),
        };
        put(&mut headers, header::CACHE_CONTROL, cache);
        headers
    }
}

/// Sets a header whose text is made of digits, hex and fixed words.
fn put(headers: &mut HeaderMap, name: header::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// Every object below a directory: one JSON document, made while it is sent.
pub async fn list(serving: &Serving, under: Key) -> Result<Answer, Refusal> {
    let store = serving.store();
    let found = blocking(move || store.list(&under).map_err(Refusal::from)).await??;
    let mut answer = Response::new(Payload::Pieces(Box::new(Pieces {
        items: found.into_iter(),
        begun: false,
        ended: false,
    })));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

struct Pieces {
    items: std::vec::IntoIter<Listed>,
    begun: bool,
    ended: bool,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut text = String::new();
        if !self.begun {
            text.push_str("{\"apiVersion\":\"landfall/v1\",\"kind\":\"ObjectList\",\"items\":[");
        }
        while text.len() < CHUNK_BYTES {
            let Some(item) = self.items.next() else {
                text.push_str("]}\n");
                self.ended = true;
                break;
            };
            // Keys have no character that JSON escapes. Writing to a string cannot fail.
            let comma = if self.begun { "," } else { "" };
            let (key, size, modified) = (&item.key, item.size, milliseconds(item.modified));
            let _ = write!(text, "{comma}{{\"key\":\"{key}\",\"size\":{size},\"modified_ms\":{modified}}}");
            self.begun = true;
        }
        self.begun = true;
        Some(text.into())
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the store can be read.
pub async fn health(serving: &Serving) -> Result<Answer, Refusal> {
    let store = serving.store();
    let proved = blocking(move || {
        let object = store.open_object(&ObjectKind::Record.key())?;
        let mut content =
            object.content().map_err(|error| cannot("read", &ObjectKind::Record.key(), &error))?;
        ObjectKind::Record.prove(&mut content, &*store).map_err(Refusal::from)
    });
    match proved.await? {
        Ok(()) => Ok(answer::document_answer(
            StatusCode::OK,
            &json!({"apiVersion": crate::cli::report::API_VERSION, "kind": "Health", "healthy": true}),
        )),
        Err(refusal) => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "StoreUnreadable",
            refusal.message().to_owned(),
        )),
    }
}

/// What Prometheus reads.
pub async fn metrics(serving: &Serving) -> Result<Answer, Refusal> {
    let store = serving.store();
    let disk = blocking(move || store.room().ok()).await?;
    let text = serving.metrics().text(disk.map(|room| (room.total, room.free)));
    Ok(answer::text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
}
