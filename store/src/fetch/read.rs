//! Reading runs: range, frames, contents, sink. Each worker holds one frame, whatever the layer's size.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::large::LargeContent;
use super::plan::{Piece, Run};
use super::{Progress, Watch};
use crate::backend::Backend;
use crate::blob::{BlobSink, Want};
use crate::error::StoreError;
use crate::layout;
use crate::locator::PackFrame;
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

/// Why a run ended early: its source is bad, or nothing more can be kept.
enum Stop {
    Source(String),
    Fatal(StoreError),
}

impl Reader<'_> {
    /// Reads all runs with as many workers as the backend has use for; gives back what it could not get.
    pub(crate) fn read(&self, runs: &[Run]) -> Result<Vec<Miss>, StoreError> {
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let misses = Mutex::new(Vec::new());
        let work = || -> Result<(), StoreError> {
            let mut decoder = FrameDecoder::new().map_err(StoreError::Compress)?;
            while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let done = self.read_run(run, &mut decoder, &misses);
                if done.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                done?;
            }
            Ok(())
        };
        let workers = self.backend.cost().parallel.clamp(1, runs.len().max(1));
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            handles.into_iter().try_for_each(|handle| match handle.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        Ok(misses.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn read_run(
        &self,
        run: &Run,
        decoder: &mut FrameDecoder,
        misses: &Mutex<Vec<Miss>>,
    ) -> Result<(), StoreError> {
        let miss = |want: Want, why: String| {
            misses.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(Miss { want, why });
        };
        match run {
            Run::Large { want, frames } => match self.read_large(want, frames) {
                Ok(()) => Ok(()),
                Err(Stop::Source(why)) => {
                    miss(*want, why);
                    Ok(())
                }
                Err(Stop::Fatal(error)) => Err(error),
            },
            Run::Frames { pack, frames } => {
                let mut source = None;
                for (frame, pieces) in frames {
                    let place = PackFrame { pack: *pack, frame: *frame };
                    let raw = self.read_frame(&mut source, frames, place, decoder);
                    for piece in pieces {
                        match raw.as_ref().map_err(Clone::clone).and_then(|raw| slice(raw, piece)) {
                            Ok(content) => match self.keep(&piece.want, content) {
                                Ok(()) => {}
                                Err(Stop::Source(why)) => {
                                    miss(piece.want, format!("{}: {why}", shown(pack)));
                                }
                                Err(Stop::Fatal(error)) => return Err(error),
                            },
                            Err(why) => miss(piece.want, format!("{}: {why}", shown(pack))),
                        }
                    }
                    self.tick()?;
                }
                Ok(())
            }
        }
    }

    /// Reads one frame of a run from its stream, which is opened at the first frame and again after a failure.
    fn read_frame<'s>(
        &'s self,
        stream: &mut Option<(u64, Box<dyn Read + Send + 's>)>,
        run: &[(Frame, Vec<Piece>)],
        place: PackFrame,
        decoder: &mut FrameDecoder,
    ) -> Result<Vec<u8>, String> {
        let PackFrame { pack, frame } = place;
        let end = run.last().map_or(0, |(last, _)| last.offset + u64::from(last.stored));
        let (mut at, mut reader) = match stream.take() {
            Some(open) => open,
            None => {
                let key = layout::pack(&pack);
                let reader = self.backend.read(&key, frame.offset, end - frame.offset);
                (frame.offset, reader.map_err(|error| error.to_string())?)
            }
        };
        let stored = read_exactly(&mut *reader, &mut at, frame).map_err(|error| error.to_string())?;
        self.count(stored.len());
        *stream = Some((at, reader));
        decoder.decode(&stored, frame.offset, frame.raw as usize).map_err(|error| error.to_string())
    }

    fn read_large(&self, want: &Want, frames: &[PackFrame]) -> Result<(), Stop> {
        let count = |length: usize| {
            self.count(length);
            self.tick().map_err(io::Error::other)
        };
        let content = LargeContent::open(self.backend, frames, Box::new(count));
        let mut content = content.map_err(|error| Stop::Source(error.to_string()))?;
        let put = self.sink.put(want, &mut content);
        match content.fault {
            None => self.kept(want, put),
            Some(_) if (self.watch.cancel)() => Err(Stop::Fatal(StoreError::Cancelled)),
            Some(fault) => Err(Stop::Source(fault)),
        }
    }

    fn count(&self, stored: usize) {
        self.counters.moved.fetch_add(stored as u64, Ordering::Relaxed);
        self.counters.frames.fetch_add(1, Ordering::Relaxed);
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

fn slice<'r>(raw: &'r [u8], piece: &Piece) -> Result<&'r [u8], String> {
    let from = piece.offset as usize;
    usize::try_from(piece.want.size)
        .ok()
        .and_then(|size| raw.get(from..from.checked_add(size)?))
        .ok_or_else(|| "its content is not inside its frame".to_owned())
}

/// Skips to a frame and reads it; never more than its length is allocated.
pub(super) fn read_exactly(
    mut reader: &mut (dyn Read + Send),
    at: &mut u64,
    frame: Frame,
) -> io::Result<Vec<u8>> {
    let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "the pack ends before its frame does");
    let gap = frame.offset.saturating_sub(*at);
    if io::copy(&mut Read::by_ref(&mut reader).take(gap), &mut io::sink())? != gap {
        return Err(short());
    }
    let length = frame.stored as usize;
    let mut stored = Vec::with_capacity(length);
    reader.take(length as u64).read_to_end(&mut stored)?;
    if stored.len() != length {
        return Err(short());
    }
    *at = frame.offset + length as u64;
    Ok(stored)
}
