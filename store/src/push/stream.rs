//! Contents into packs: read, verify and compress on every core, written in order.
//!
//! Which contents share a frame follows from their order and sizes alone, and a pack is closed by what was
//! written, in order. So the same contents in the same order give the same packs, whatever the machine.
//!
//! ```text
//! dispatcher ──jobs──► workers: read, verify, compress
//!      └─────order of the jobs──────► writer: packs ──► commits (fsync) beside the next pack
//! ```
//! Both queues are bounded, so memory does not grow with the layer.

use std::io::{Read, Write};
use std::thread::{Scope, ScopedJoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::backend::{Access, BackendError, Upload};
use crate::blob::BlobSource;
use crate::digest::{BlobId, PackId};
use crate::error::StoreError;
use crate::fetch::Watch;
use crate::layout;
use crate::lease::Claim;
use crate::limits::{FRAME_RAW_BYTES_MAX, PACK_BYTES_TARGET};
use crate::pack::frames::{FrameEncoder, groups, is_large};
use crate::pack::{FrameBytes, PackError, PackWriter, Written};
use crate::store::Store;
use crate::sweep::Condemned;

/// Frames in flight for each worker: enough to ride out one slow frame.
const FRAMES_AHEAD: usize = 4;
/// Packs whose `fsync` may run beside the next pack.
const COMMITS_IN_FLIGHT: usize = 2;

/// What is to be packed, from where, for whom.
pub(crate) struct Stream<'a> {
    pub(crate) store: &'a Store,
    pub(crate) source: &'a dyn BlobSource,
    pub(crate) blobs: &'a [(BlobId, u64)],
    pub(crate) access: Access,
    pub(crate) level: i32,
    pub(crate) watch: Watch<'a>,
    pub(crate) lease: &'a Claim<'a>,
    pub(crate) condemned: &'a Condemned,
}

/// Why contents could not be packed; the caller knows their names.
pub(crate) enum StreamError {
    Changed(BlobId),
    Source(BlobId, std::io::Error),
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for StreamError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

type Frame = Result<FrameBytes, StreamError>;

enum Work<'a> {
    Small(&'a [(BlobId, u64)]),
    /// A part of a large content; the first part carries its id and size.
    Part(Vec<u8>, Option<(BlobId, u64)>),
}

struct Job<'a> {
    work: Work<'a>,
    done: Sender<Frame>,
}

impl Stream<'_> {
    /// Packs everything; the packs are durable when it returns.
    pub(crate) fn run(&self) -> Result<Vec<Written>, StreamError> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let (jobs, job_queue) = bounded(workers * FRAMES_AHEAD);
        let (order, frames) = bounded(workers * FRAMES_AHEAD);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let queue = job_queue.clone();
                scope.spawn(move || self.work(&queue));
            }
            drop(job_queue);
            scope.spawn(move || self.dispatch(&jobs, &order));
            Writer::new(self, scope).run(&frames)
        })
    }

    /// Sends every frame's job, until the writer has given up.
    fn dispatch<'s>(&'s self, jobs: &Sender<Job<'s>>, order: &Sender<Receiver<Frame>>) {
        let send = |work: Work<'s>| -> bool {
            let (done, frame) = bounded(1);
            order.send(frame).is_ok() && jobs.send(Job { work, done }).is_ok()
        };
        for group in groups(self.blobs) {
            let sent = match group {
                [(blob, size)] if is_large(*size) => match self.split(*blob, *size, &send) {
                    Ok(sent) => sent,
                    Err(error) => {
                        let (done, frame) = bounded(1);
                        // Whoever waits for the frame gets the error; if nobody does, another came first.
                        let _ = done.send(Err(error));
                        let _ = order.send(frame);
                        false
                    }
                },
                small => send(Work::Small(small)),
            };
            if !sent {
                return;
            }
        }
    }

    /// Reads a large content once, in order, and sends it in parts.
    fn split<'s>(
        &'s self,
        blob: BlobId,
        size: u64,
        send: &impl Fn(Work<'s>) -> bool,
    ) -> Result<bool, StreamError> {
        let failed = |error| StreamError::Source(blob, error);
        let mut reader = self.source.open(&blob, size).map_err(failed)?;
        let mut hasher = blake3::Hasher::new();
        let mut left = size;
        while left > 0 {
            let length = left.min(FRAME_RAW_BYTES_MAX as u64);
            let mut part = Vec::with_capacity(length as usize);
            reader.by_ref().take(length).read_to_end(&mut part).map_err(failed)?;
            hasher.update(&part);
            if (part.len() as u64) < length {
                return Err(StreamError::Changed(blob));
            }
            let begins = (left == size).then_some((blob, size));
            left -= length;
            if left == 0 && BlobId(hasher.finalize().into()) != blob {
                return Err(StreamError::Changed(blob));
            }
            if !send(Work::Part(part, begins)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn work(&self, queue: &Receiver<Job<'_>>) {
        let mut encoder = FrameEncoder::new(self.level, self.access);
        // Kept from frame to frame: fresh memory of this size costs page faults each time.
        let mut raw = Vec::new();
        for job in queue {
            let frame = match &mut encoder {
                Ok(encoder) => self.frame(job.work, &mut raw, encoder),
                Err(error) => {
                    Err(StreamError::Store(StoreError::Compress(std::io::Error::other(error.to_string()))))
                }
            };
            // Nobody waits once the writer has given up.
            let _ = job.done.send(frame);
        }
    }

    fn frame(&self, work: Work<'_>, buffer: &mut Vec<u8>, encoder: &mut FrameEncoder) -> Frame {
        let (raw, blobs) = match &work {
            Work::Small(blobs) => {
                if let Some(made) = self.made(blobs) {
                    return Ok(made);
                }
                self.read(blobs, buffer)?;
                (buffer.as_slice(), blobs.to_vec())
            }
            Work::Part(part, begins) => (part.as_slice(), begins.iter().copied().collect()),
        };
        Ok(encoder.encode(raw, blobs).map_err(StoreError::Compress)?)
    }

    /// The frame, if the source made it already. One made for everybody is none for a private pack.
    fn made(&self, blobs: &[(BlobId, u64)]) -> Option<FrameBytes> {
        let made = || self.source.frame(blobs, self.level);
        (self.access == Access::Public).then(made).flatten()
    }

    fn read(&self, blobs: &[(BlobId, u64)], raw: &mut Vec<u8>) -> Result<(), StreamError> {
        raw.clear();
        blobs.iter().try_for_each(|(blob, size)| self.read_one(*blob, *size, raw))
    }

    fn read_one(&self, blob: BlobId, size: u64, raw: &mut Vec<u8>) -> Result<(), StreamError> {
        let start = raw.len();
        let failed = |error| StreamError::Source(blob, error);
        let reader = self.source.open(&blob, size).map_err(failed)?;
        reader.take(size + 1).read_to_end(raw).map_err(failed)?;
        if (raw.len() - start) as u64 != size || BlobId::of(&raw[start..]) != blob {
            return Err(StreamError::Changed(blob));
        }
        Ok(())
    }
}

type Commit<'scope> = ScopedJoinHandle<'scope, Result<(), StoreError>>;

struct Writer<'s, 'scope, 'env> {
    stream: &'s Stream<'env>,
    scope: &'scope Scope<'scope, 'env>,
    open: Option<PackWriter<Box<dyn Upload + 's>>>,
    done: Vec<Written>,
    commits: std::collections::VecDeque<Commit<'scope>>,
}

impl<'s: 'scope, 'scope, 'env> Writer<'s, 'scope, 'env> {
    fn new(stream: &'s Stream<'env>, scope: &'scope Scope<'scope, 'env>) -> Self {
        Self { stream, scope, open: None, done: Vec::new(), commits: Default::default() }
    }

    fn run(mut self, frames: &Receiver<Receiver<Frame>>) -> Result<Vec<Written>, StreamError> {
        for frame in frames {
            let Ok(frame) = frame.recv() else {
                return Err(StoreError::Compress(std::io::Error::other("a worker ended early")).into());
            };
            self.write(&frame?)?;
            self.stream.lease.keep()?;
            if (self.stream.watch.cancel)() {
                return Err(StoreError::Cancelled.into());
            }
        }
        self.close()?;
        while let Some(commit) = self.commits.pop_front() {
            join(commit)?;
        }
        Ok(self.done)
    }

    fn write(&mut self, frame: &FrameBytes) -> Result<(), StreamError> {
        let full =
            |pack: &PackWriter<_>| pack.written() >= PACK_BYTES_TARGET || !pack.has_room(frame.blobs.len());
        // A content never continues in another pack.
        if !frame.blobs.is_empty() && self.open.as_ref().is_some_and(full) {
            self.close()?;
        }
        let pack = match &mut self.open {
            Some(pack) => pack,
            None => {
                let backend = self.stream.store.backend();
                let upload = backend.begin(Some(&layout::packs()), self.stream.access)?;
                self.open.insert(PackWriter::new(upload))
            }
        };
        pack.push(frame).map_err(|source| self.stream.cannot_write(source))?;
        Ok(())
    }

    fn close(&mut self) -> Result<(), StreamError> {
        let Some(pack) = self.open.take() else { return Ok(()) };
        let store = self.stream.store;
        let (upload, written) = pack.finish().map_err(|error: PackError| store.damaged("packs", error))?;
        if self.commits.len() >= COMMITS_IN_FLIGHT
            && let Some(oldest) = self.commits.pop_front()
        {
            join(oldest)?;
        }
        let (id, index) = (written.id, written.index.clone());
        let (access, condemned) = (self.stream.access, self.stream.condemned);
        self.commits.push_back(self.scope.spawn(move || {
            // Packs of env layers have no index, so that no other layer ever finds their contents.
            let index = (access == Access::Public).then_some(index.as_slice());
            put_pack(store, upload, &id, index, condemned)
        }));
        self.done.push(written);
        Ok(())
    }
}

impl Stream<'_> {
    fn cannot_write(&self, source: std::io::Error) -> StoreError {
        BackendError::io("write a pack to", &layout::packs(), self.store.location(), source).into()
    }
}

/// Gives a whole pack its key, and then its directory one, if it has any. A pack that is there without its
/// directory is not relied on: somebody took it away because the pack is damaged.
pub(super) fn put_pack(
    store: &Store,
    upload: Box<dyn Upload + '_>,
    id: &PackId,
    index: Option<&[u8]>,
    condemned: &Condemned,
) -> Result<(), StoreError> {
    let (pack, at) = (layout::pack(id), layout::index(id));
    let trusted = index.is_some()
        && !condemned.has(&pack)
        && !condemned.has(&at)
        && store.backend().size(&at)?.is_some();
    if trusted {
        upload.commit(&pack)?;
    } else {
        upload.overwrite(&pack)?;
    }
    if let Some(index) = index {
        let mut upload = store.backend().begin(Some(&layout::packs()), Access::Public)?;
        upload.write_all(index).map_err(|source| BackendError::io("write", &at, store.location(), source))?;
        if trusted {
            upload.commit(&at)?;
        } else {
            upload.overwrite(&at)?;
        }
    }
    Ok(())
}

fn join(commit: Commit<'_>) -> Result<(), StoreError> {
    commit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
