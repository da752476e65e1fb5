//! Writing: uploads and removals.
//!
//! An upload goes into a file of the store that has no key yet, is proved against its key there, and gets the key
//! only then. Whatever ends it before (a cut, a kill, a wrong byte, a full disk) leaves nothing behind that a
//! reader could meet.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::{Request, StatusCode};
use landfall_store::backend::wire::{ACCESS_HEADER, WRITE_HEADER, WRITE_OVER};
use landfall_store::backend::{Access, Backend, BackendError, DirBackend, DirUpload, Put, Upload};
use landfall_store::object::ObjectKind;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::answer::{Answer, Refusal, busy, disk_full, empty};
use super::limits::{CHUNKS_AHEAD, DRAINED_BYTES, SPARE_BYTES};
use super::metrics::Became;
use super::range;
use super::reports;
use super::state::{Serving, blocking};

/// Takes an object.
pub async fn object(
    serving: &Serving,
    kind: ObjectKind,
    request: Request<Incoming>,
    received: Arc<AtomicU64>,
) -> Result<Answer, Refusal> {
    let (head, mut body) = request.into_parts();
    match take(serving, kind, &head.headers, &mut body, &received).await {
        Ok(became) => Ok(match became {
            Became::Stored => empty(StatusCode::CREATED),
            Became::Existed | Became::Healed | Became::Replaced => empty(StatusCode::NO_CONTENT),
        }),
        Err(refusal) => {
            drain(body, &received).await;
            Err(refusal)
        }
    }
}

/// Reads a refused body to its end: a sender who is cut off in the middle never reads the answer.
pub async fn drain(mut body: Incoming, received: &AtomicU64) {
    let mut left = DRAINED_BYTES;
    if body.size_hint().lower() > left {
        return;
    }
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        received.fetch_add(bytes, Ordering::Relaxed);
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

async fn take(
    serving: &Serving,
    kind: ObjectKind,
    headers: &HeaderMap,
    body: &mut Incoming,
    received: &AtomicU64,
) -> Result<Became, Refusal> {
    let length = length_of(body, headers, kind.bytes_max().min(serving.upload_bytes()))?;
    let (places, changing) = match kind {
        ObjectKind::Report(_) => (&serving.reports, &serving.reporting),
        _ => (&serving.uploads, &serving.changing),
    };
    let wish = Wish::of(&kind, headers);
    let Ok(place) = Arc::clone(places).try_acquire_owned() else { return Err(busy("uploads")) };
    let store = serving.store();
    let (chunks, arriving) = mpsc::channel(CHUNKS_AHEAD);
    let taking = Taking {
        store,
        kind: kind.clone(),
        length,
        wish,
        proofs: Arc::clone(&serving.proofs),
        changing: Arc::clone(changing),
    };
    let taken = tokio::spawn(blocking(move || taking.run(arriving, place)));
    send(body, chunks, received).await;
    let became = taken.await.map_err(|_| cut())???;
    serving.metrics().uploaded(kind.label(), became);
    Ok(became)
}

/// Passes a body on until it ends, fails, or nobody wants more of it.
async fn send(body: &mut Incoming, chunks: mpsc::Sender<Bytes>, received: &AtomicU64) {
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        received.fetch_add(data.len() as u64, Ordering::Relaxed);
        if chunks.send(data).await.is_err() {
            return;
        }
    }
}

fn length_of(body: &Incoming, headers: &HeaderMap, max: u64) -> Result<u64, Refusal> {
    if headers.contains_key(header::CONTENT_RANGE) || headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "NotWhole",
            "an object is uploaded whole and as it is",
        ));
    }
    let length = body.size_hint().exact();
    let length = length.ok_or_else(|| {
        Refusal::new(
            StatusCode::LENGTH_REQUIRED,
            "LengthRequired",
            "an upload says its length before it begins",
        )
    })?;
    if length > max {
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "TooLarge",
            format!("{length} bytes; an object of this kind has at most {max} here"),
        ));
    }
    Ok(length)
}

/// How an object is to be written.
struct Wish {
    access: Access,
    /// In place of what is there, even if that is the same.
    over: bool,
    /// Only if there is none.
    new: bool,
    /// Only if what is there has one of these tags.
    known: Option<String>,
}

impl Wish {
    fn of(kind: &ObjectKind, headers: &HeaderMap) -> Self {
        // What is no text is none of the words that are known, and no tag.
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        // What hosts say of themselves is nobody else's business.
        let private =
            matches!(kind, ObjectKind::Report(_)) || text(ACCESS_HEADER) == Some(Access::Private.as_str());
        Self {
            access: if private { Access::Private } else { Access::Public },
            over: text(WRITE_HEADER) == Some(WRITE_OVER),
            new: text(header::IF_NONE_MATCH.as_str()) == Some("*"),
            known: text(header::IF_MATCH.as_str()).map(str::to_owned),
        }
    }
}

/// One upload, on a thread of its own.
struct Taking {
    store: Arc<DirBackend>,
    kind: ObjectKind,
    length: u64,
    wish: Wish,
    proofs: Arc<tokio::sync::Semaphore>,
    changing: Arc<std::sync::Mutex<()>>,
}

impl Taking {
    fn run(
        self,
        mut arriving: mpsc::Receiver<Bytes>,
        _place: OwnedSemaphorePermit,
    ) -> Result<Became, Refusal> {
        let room = self.store.room()?;
        if room.free < self.length.saturating_add(SPARE_BYTES) {
            return Err(disk_full(&format!("{} bytes are free", room.free)));
        }
        let key = self.kind.key();
        let mut upload = self.store.receive(&key, self.wish.access)?;
        let written = |error| {
            Refusal::from(BackendError::Io {
                action: "write",
                key: key.to_string(),
                at: String::new(),
                source: error,
            })
        };
        let mut left = self.length;
        while let Some(chunk) = arriving.blocking_recv() {
            upload.write_all(&chunk).map_err(written)?;
            left = left.saturating_sub(chunk.len() as u64);
        }
        if left > 0 {
            return Err(cut());
        }
        self.prove(&upload)?;
        self.publish(upload)
    }

    fn prove(&self, upload: &DirUpload<'_>) -> Result<(), Refusal> {
        let _turn = tokio::runtime::Handle::current().block_on(self.proofs.acquire());
        let key = self.kind.key();
        let mut content = upload.content().map_err(|error| super::answer::cannot("read", &key, &error))?;
        self.kind.prove(&mut content, &*self.store).map_err(Refusal::from)
    }

    fn publish(&self, upload: DirUpload<'_>) -> Result<Became, Refusal> {
        let key = self.kind.key();
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_condition()?;
        if let ObjectKind::Report(document) = &self.kind {
            reports::admit(&*self.store, document, self.length)?;
        }
        if self.kind.is_mutable() && !self.wish.new || self.wish.over {
            Box::new(upload).overwrite(&key)?;
            return Ok(Became::Replaced);
        }
        match self.is_whole()? {
            None => match Box::new(upload).commit(&key)? {
                Put::Stored => Ok(Became::Stored),
                Put::Existed => Ok(Became::Existed),
            },
            Some(_) if self.kind.is_mutable() => Err(changed()),
            Some(true) => Ok(Became::Existed),
            // What was proved takes the place of what cannot be.
            Some(false) => {
                Box::new(upload).overwrite(&key)?;
                Ok(Became::Healed)
            }
        }
    }

    /// Whether what is there under the key is the object; `None`: nothing is.
    fn is_whole(&self) -> Result<Option<bool>, Refusal> {
        let key = self.kind.key();
        let object = match self.store.open_object(&key) {
            Ok(object) => object,
            Err(BackendError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut content = object.content().map_err(|error| super::answer::cannot("read", &key, &error))?;
        Ok(Some(self.kind.prove(&mut content, &*self.store).is_ok()))
    }

    fn check_condition(&self) -> Result<(), Refusal> {
        let Some(known) = &self.wish.known else { return Ok(()) };
        let key = self.kind.key();
        let object = match self.store.open_object(&key) {
            Ok(object) => object,
            Err(BackendError::NotFound { .. }) => return Err(changed()),
            Err(error) => return Err(error.into()),
        };
        let tag = super::get::tag(&self.kind, &object);
        let tag = tag.map_err(|error: io::Error| super::answer::cannot("read", &key, &error))?;
        if range::names(known, &tag) { Ok(()) } else { Err(changed()) }
    }
}

fn changed() -> Refusal {
    Refusal::new(StatusCode::PRECONDITION_FAILED, "Changed", "the object is not what the request says it is")
}

fn cut() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "Cut", "the upload ended before its length")
}

/// Removes an object; it is no error if it does not exist.
pub async fn remove(serving: &Serving, kind: ObjectKind) -> Result<Answer, Refusal> {
    if !kind.is_removable() {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "NotRemovable",
            "without this object the store is none",
        ));
    }
    let store = serving.store();
    blocking(move || store.delete(&kind.key()).map_err(Refusal::from)).await??;
    Ok(empty(StatusCode::NO_CONTENT))
}
