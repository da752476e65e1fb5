//! A pack as it comes from its place: a stream with a position.

use std::io::{self, Read};

use crate::backend::{Backend, BackendError, Opened};
use crate::digest::PackId;
use crate::layout;
use crate::pack::Frame;

pub(super) struct PackStream<'a> {
    reader: Box<dyn Read + Send + 'a>,
    at: u64,
    /// Whether it is the whole pack, because its place has no ranges.
    pub(super) whole: bool,
    /// Whether it ended early: nothing more comes.
    pub(super) broken: bool,
}

impl<'a> PackStream<'a> {
    /// Opens a pack from `from` to `to`, or whole.
    pub(super) fn open(
        backend: &'a dyn Backend,
        pack: &PackId,
        from: u64,
        to: u64,
    ) -> Result<Self, BackendError> {
        let opened = backend.open(&layout::pack(pack), from, to.saturating_sub(from))?;
        Ok(match opened {
            Opened::Part(reader) => Self { reader, at: from, whole: false, broken: false },
            Opened::Whole(reader) => Self { reader, at: 0, whole: true, broken: false },
        })
    }

    /// The offset of the next byte.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// Skips to a frame and reads it, into `stored` of just its length.
    pub(super) fn frame(&mut self, frame: Frame, stored: &mut [u8]) -> io::Result<()> {
        let Some(gap) = frame.offset.checked_sub(self.at) else {
            return Err(io::Error::other("the frame overlaps another"));
        };
        let read = self.read(gap, stored);
        self.broken |= read.is_err();
        read
    }

    fn read(&mut self, gap: u64, stored: &mut [u8]) -> io::Result<()> {
        let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "the pack ends before its frame does");
        let skipped = io::copy(&mut self.reader.by_ref().take(gap), &mut io::sink())?;
        self.at += skipped;
        if skipped != gap {
            return Err(short());
        }
        match self.reader.read_exact(stored) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(short()),
            read => read?,
        }
        self.at += stored.len() as u64;
        Ok(())
    }
}
