//! A content of several frames as a stream: one frame is in memory at a time.

use std::io::{self, Read};

use super::read::read_exactly;
use crate::backend::{Backend, BackendError};
use crate::layout;
use crate::locator::PackFrame;
use crate::pack::FrameDecoder;

pub(super) struct LargeContent<'a> {
    stream: Box<dyn Read + Send + 'a>,
    decoder: FrameDecoder,
    frames: std::slice::Iter<'a, PackFrame>,
    raw: Vec<u8>,
    at: usize,
    /// Told the length of each frame that was read; an error ends the stream.
    on_frame: Box<dyn FnMut(usize) -> io::Result<()> + 'a>,
    /// Set when the stream, not its reader, is at fault.
    pub(super) fault: Option<String>,
}

impl<'a> LargeContent<'a> {
    /// Opens the range of `frames`, which must follow each other in one pack.
    pub(super) fn open(
        backend: &'a dyn Backend,
        frames: &'a [PackFrame],
        on_frame: Box<dyn FnMut(usize) -> io::Result<()> + 'a>,
    ) -> io::Result<Self> {
        let other = |error: BackendError| io::Error::other(error.to_string());
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Err(io::Error::other("it has no frames"));
        };
        let follows = |pair: &[PackFrame]| {
            pair[0].pack == pair[1].pack
                && pair[0].frame.offset + u64::from(pair[0].frame.stored) == pair[1].frame.offset
        };
        if !frames.windows(2).all(follows) {
            return Err(io::Error::other("its frames are not consecutive"));
        }
        let length = last.frame.offset + u64::from(last.frame.stored) - first.frame.offset;
        let stream = backend.read(&layout::pack(&first.pack), first.frame.offset, length).map_err(other)?;
        Ok(Self {
            stream,
            decoder: FrameDecoder::new()?,
            frames: frames.iter(),
            raw: Vec::new(),
            at: 0,
            on_frame,
            fault: None,
        })
    }

    fn next_frame(&mut self, PackFrame { frame, .. }: PackFrame) -> io::Result<()> {
        let mut at = frame.offset;
        let stored = read_exactly(&mut *self.stream, &mut at, frame)?;
        (self.on_frame)(stored.len())?;
        let raw = self.decoder.decode(&stored, frame.offset, frame.raw as usize);
        self.raw = raw.map_err(io::Error::other)?;
        self.at = 0;
        Ok(())
    }
}

impl Read for LargeContent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.raw.len()
            && let Some(next) = self.frames.next()
            && let Err(error) = self.next_frame(*next)
        {
            self.fault = Some(error.to_string());
            return Err(error);
        }
        let length = buffer.len().min(self.raw.len() - self.at);
        buffer[..length].copy_from_slice(&self.raw[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}
