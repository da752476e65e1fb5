//! Reading what a plan says: range, frames, contents, sink. Memory is bounded whatever the layer's size.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::budget::{Budget, Room};
use super::large::{LargeContent, Raw};
use super::plan::{self, PackRuns, Part, Piece};
use super::queue::{Queue, Taken};
use super::stream::PackStream;
use super::{Progress, Watch};
use crate::backend::{Backend, BackendError};
use crate::blob::{BlobSink, Want};
use crate::digest::PackId;
use crate::error::StoreError;
use crate::layout;
use crate::locator::{PackFrame, Places};
use crate::pack::{Frame, FrameDecoder, shown};

/// A content that a place did not give, and why.
pub(crate) struct Miss {
    pub(crate) want: Want,
    pub(crate) why: String,
}

/// Counts of everything read so far, shared by workers and rounds.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) moved: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) blobs: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

pub(crate) struct Reader<'a> {
    pub(crate) backend: &'a dyn Backend,
    pub(crate) sink: &'a dyn BlobSink,
    pub(crate) watch: &'a Watch<'a>,
    pub(crate) counters: &'a Counters,
    pub(crate) total: Progress,
}

/// Why a content was not kept: its source is bad, or nothing more can be read or kept.
enum Stop {
    Source(String),
    Fatal(StoreError),
}

/// What one reading of a plan could not get.
#[derive(Default)]
struct Missed {
    /// Because its pack gave something else than was asked for.
    wrong: Vec<Miss>,
    /// These packs.
    packs: HashSet<PackId>,
    /// Because its pack cannot be opened: the backend tried what there is to try.
    gone: Vec<Miss>,
}

/// What all workers of one reading share.
struct Reading {
    queue: Queue,
    budget: Budget,
    stop: AtomicBool,
    missed: Mutex<Missed>,
}

impl Reading {
    fn missed(&self) -> MutexGuard<'_, Missed> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrong(&self, pack: &PackId, wants: impl Iterator<Item = Want>, why: &str) {
        let mut missed = self.missed();
        missed.packs.insert(*pack);
        missed.wrong.extend(misses(pack, wants, why));
    }

    fn gone(&self, pack: &PackId, wants: impl Iterator<Item = Want>, why: &str) {
        self.missed().gone.extend(misses(pack, wants, why));
    }
}

fn misses(pack: &PackId, wants: impl Iterator<Item = Want>, why: &str) -> impl Iterator<Item = Miss> {
    let why = format!("{}: {why}", shown(pack));
    wants.map(move |want| Miss { want, why: why.clone() })
}

impl Reader<'_> {
    /// Reads wants at their places. What came out wrong is read once more, because a flip on the way is not
    /// damage, and as often as there is another place to read it from.
    pub(crate) fn read_at(&self, wants: &[&Want], places: &Places) -> Result<Vec<Miss>, StoreError> {
        let mut missed = self.read(wants, places)?;
        let mut again = true;
        while again && !missed.wrong.is_empty() {
            again = false;
            for pack in &missed.packs {
                again |= self.backend.mistrust(&layout::pack(pack));
            }
            let wants: Vec<&Want> = missed.wrong.iter().map(|miss| &miss.want).collect();
            let mut next = self.read(&wants, places)?;
            next.gone.append(&mut missed.gone);
            missed = next;
        }
        missed.gone.append(&mut missed.wrong);
        Ok(missed.gone)
    }

    /// Reads wants at their places, with as many workers as the backend has use for.
    fn read(&self, wants: &[&Want], places: &Places) -> Result<Missed, StoreError> {
        let place = |want: &&Want| Some((**want, places.get(&want.blob)?.clone()));
        let wanted: Vec<_> = wants.iter().filter_map(place).collect();
        let cost = self.backend.cost();
        let plan = plan::runs(&wanted, cost);
        let runs = plan.iter().map(|pack: &PackRuns| pack.runs.len()).sum::<usize>();
        let reading = Reading {
            queue: Queue::new(plan),
            budget: Budget::new(),
            stop: AtomicBool::new(false),
            missed: Mutex::default(),
        };
        let work = || {
            let done = self.work(&reading);
            if done.is_err() {
                reading.stop.store(true, Ordering::Relaxed);
            }
            done
        };
        std::thread::scope(|scope| {
            let workers = cost.parallel.min(runs);
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            handles.into_iter().try_for_each(|handle| match handle.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        Ok(reading.missed.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn work(&self, reading: &Reading) -> Result<(), StoreError> {
        let mut decoder = FrameDecoder::new().map_err(StoreError::Compress)?;
        while let Some(mut taken) = reading.queue.take(self.backend.cost().per_object) {
            let (from, to) = match (taken.run.first(), taken.run.last()) {
                (Some(first), Some(last)) => (first.offset(), last.end()),
                _ => (0, 0),
            };
            match PackStream::open(self.backend, &taken.pack, from, to) {
                Ok(stream) if stream.whole => self.read_whole(stream, &mut taken, reading, &mut decoder)?,
                Ok(mut stream) => {
                    let mut parts = std::mem::take(&mut taken.run).into_iter();
                    self.read_parts(&mut stream, &taken.pack, &mut parts, reading, &mut decoder)?;
                    reading.queue.done(&taken, false);
                }
                Err(error) => {
                    let why = fatal(error)?;
                    reading.gone(&taken.pack, taken.run.iter().flat_map(Part::wants), &why);
                    reading.queue.done(&taken, false);
                }
            }
            if reading.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes everything of a pack from a stream of all of it, unless another stream does so already.
    fn read_whole(
        &self,
        mut stream: PackStream<'_>,
        taken: &mut Taken,
        reading: &Reading,
        decoder: &mut FrameDecoder,
    ) -> Result<(), StoreError> {
        let claimed = reading.queue.claim(taken);
        let whole = claimed.is_some();
        let mut parts = claimed.unwrap_or_default();
        while !parts.is_empty() {
            let mut next = parts.into_iter();
            self.read_parts(&mut stream, &taken.pack, &mut next, reading, decoder)?;
            parts = reading.queue.given_back(taken, stream.at());
            parts.sort_by_key(Part::offset);
        }
        reading.queue.done(taken, whole);
        Ok(())
    }

    /// Reads parts from one stream. One that is damaged costs itself only; a stream that breaks costs the rest.
    fn read_parts(
        &self,
        stream: &mut PackStream<'_>,
        pack: &PackId,
        parts: &mut dyn Iterator<Item = Part>,
        reading: &Reading,
        decoder: &mut FrameDecoder,
    ) -> Result<(), StoreError> {
        for part in parts {
            if reading.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let read = match &part {
                _ if stream.broken => Err(Stop::Source("it was cut short".to_owned())),
                Part::Frame(frame, pieces) => self.read_frame(stream, pack, *frame, pieces, reading, decoder),
                Part::Large(want, frames) => self.read_large(stream, want, frames, reading, decoder),
            };
            match read {
                Ok(()) => {}
                Err(Stop::Source(why)) => {
                    reading.wrong(pack, part.wants(), &why);
                }
                Err(Stop::Fatal(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_frame(
        &self,
        stream: &mut PackStream<'_>,
        pack: &PackId,
        frame: Frame,
        pieces: &[Piece],
        reading: &Reading,
        decoder: &mut FrameDecoder,
    ) -> Result<(), Stop> {
        let raw = self.decoded(stream, frame, reading, decoder)?;
        for piece in pieces {
            let kept = slice(raw.as_ref(), piece).and_then(|content| self.keep(&piece.want, content));
            match kept {
                Ok(()) => {}
                Err(Stop::Source(why)) => {
                    reading.wrong(pack, std::iter::once(piece.want), &why);
                }
                Err(fatal) => return Err(fatal),
            }
        }
        self.tick().map_err(Stop::Fatal)
    }

    fn read_large(
        &self,
        stream: &mut PackStream<'_>,
        want: &Want,
        frames: &[PackFrame],
        reading: &Reading,
        decoder: &mut FrameDecoder,
    ) -> Result<(), Stop> {
        let mut stopped = None;
        let next = |frame| {
            let read = self.tick().map_err(Stop::Fatal);
            match read.and_then(|()| self.decoded(stream, frame, reading, decoder)) {
                Ok(raw) => Ok(Box::new(raw) as Raw<'_>),
                Err(stop) => {
                    stopped = Some(stop);
                    Err(io::Error::other("the pack ends here"))
                }
            }
        };
        let mut content = LargeContent::new(frames, Box::new(next)).map_err(source)?;
        let put = self.sink.put(want, &mut content);
        let fault = content.fault.take();
        drop(content);
        match (stopped, fault) {
            (Some(stop), _) => Err(stop),
            (None, Some(fault)) => Err(Stop::Source(fault)),
            (None, None) => self.kept(want, put),
        }
    }

    /// The next frame, decompressed.
    fn decoded<'r>(
        &self,
        stream: &mut PackStream<'_>,
        frame: Frame,
        reading: &'r Reading,
        decoder: &mut FrameDecoder,
    ) -> Result<Room<'r>, Stop> {
        let mut room = reading.budget.room(frame).map_err(source)?;
        if let Err(error) = stream.frame(frame, room.stored()) {
            let why = error.to_string();
            let unanswered = error.into_inner().and_then(|inner| inner.downcast::<BackendError>().ok());
            return Err(match unanswered {
                Some(error) => fatal(*error).map_or_else(Stop::Fatal, Stop::Source),
                None => Stop::Source(why),
            });
        }
        self.counters.moved.fetch_add(u64::from(frame.stored), Ordering::Relaxed);
        self.counters.frames.fetch_add(1, Ordering::Relaxed);
        room.decode(decoder).map_err(source)?;
        Ok(room)
    }

    fn keep(&self, want: &Want, mut content: &[u8]) -> Result<(), Stop> {
        let put = self.sink.put(want, &mut content);
        self.kept(want, put)
    }

    fn kept(&self, want: &Want, put: io::Result<()>) -> Result<(), Stop> {
        match put {
            Ok(()) => {
                self.counters.blobs.fetch_add(1, Ordering::Relaxed);
                self.counters.bytes.fetch_add(want.size, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(Stop::Source("the content does not match its id".to_owned()))
            }
            Err(source) => Err(Stop::Fatal(StoreError::Sink { blob: want.blob, source })),
        }
    }

    /// Reports, and asks whether to go on.
    fn tick(&self) -> Result<(), StoreError> {
        (self.watch.progress)(Progress {
            blobs: self.counters.blobs.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
            moved: self.counters.moved.load(Ordering::Relaxed),
            ..self.total
        });
        if (self.watch.cancel)() { Err(StoreError::Cancelled) } else { Ok(()) }
    }
}

fn source(error: impl ToString) -> Stop {
    Stop::Source(error.to_string())
}

/// Why a pack cannot be read, if others may still be: a place that does not answer, or not to us, will not do
/// so for the next pack either.
fn fatal(error: BackendError) -> Result<String, StoreError> {
    match error {
        BackendError::Unreachable { .. } | BackendError::Denied { .. } => Err(error.into()),
        other => Ok(other.to_string()),
    }
}

fn slice<'r>(raw: &'r [u8], piece: &Piece) -> Result<&'r [u8], Stop> {
    let from = piece.offset as usize;
    usize::try_from(piece.want.size)
        .ok()
        .and_then(|size| raw.get(from..from.checked_add(size)?))
        .ok_or_else(|| Stop::Source("its content is not inside its frame".to_owned()))
}
