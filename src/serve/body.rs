//! The bytes of answers: from memory, from a file, from a long list; each read only as fast as it is taken.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::limits::CHUNK_BYTES;
use super::log::Line;

/// What an answer carries.
pub enum Payload {
    /// Nothing.
    Nothing,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A part of a file.
    File(FilePart),
    /// Pieces made one by one.
    Pieces(Box<dyn Iterator<Item = Bytes> + Send>),
}

impl Payload {
    /// Bytes in memory.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// How many bytes it has, where that is known before the last is made.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Nothing => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File(part) => Some(part.left),
            Self::Pieces(_) => None,
        }
    }
}

/// Bytes of a file that are still to be sent.
pub struct FilePart {
    file: Arc<File>,
    at: u64,
    left: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FilePart {
    /// `length` bytes of a file from `first` on.
    pub fn new(file: File, first: u64, length: u64) -> Self {
        Self { file: Arc::new(file), at: first, left: length, reading: None }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let (file, at) = (Arc::clone(&self.file), self.at);
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let reading =
            self.reading.get_or_insert_with(|| tokio::task::spawn_blocking(move || read(&file, at, length)));
        let read =
            ready!(Pin::new(reading).poll(context)).unwrap_or_else(|error| Err(io::Error::other(error)));
        self.reading = None;
        if let Ok(bytes) = &read {
            self.at += bytes.len() as u64;
            self.left -= bytes.len() as u64;
        }
        Poll::Ready(Some(read))
    }
}

fn read(file: &File, at: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; length];
    // A file that became shorter is an error: its length was promised.
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}

/// An answer's bytes, with the line of the log that is written when they end, or are given up.
pub struct Counted {
    payload: Payload,
    line: Line,
}

impl Counted {
    /// Counts what `payload` gives.
    pub const fn new(payload: Payload, line: Line) -> Self {
        Self { payload, line }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let next = match &mut this.payload {
            Payload::Nothing => None,
            Payload::Bytes(bytes) if bytes.is_empty() => None,
            Payload::Bytes(bytes) => Some(Ok(std::mem::take(bytes))),
            Payload::File(part) => ready!(part.poll_next(context)),
            Payload::Pieces(pieces) => pieces.next().map(Ok),
        };
        match &next {
            Some(Ok(bytes)) => this.line.sent(bytes.len()),
            Some(Err(error)) => tracing::error!(%error, "an answer is cut: its object cannot be read"),
            None => this.line.complete(),
        }
        Poll::Ready(next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.payload.size() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.payload.size().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
