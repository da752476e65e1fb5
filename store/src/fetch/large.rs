//! A content of several frames as a stream: one frame is in memory at a time.

use std::io::{self, Read};

use crate::locator::PackFrame;
use crate::pack::{Frame, FrameDecoder};

/// Gives the stored bytes of frames that follow each other.
pub(super) type NextFrame<'a> = Box<dyn FnMut(Frame) -> io::Result<Vec<u8>> + 'a>;

pub(super) struct LargeContent<'a> {
    next: NextFrame<'a>,
    decoder: FrameDecoder,
    frames: std::slice::Iter<'a, PackFrame>,
    raw: Vec<u8>,
    at: usize,
    /// Set when the stream, not its reader, is at fault.
    pub(super) fault: Option<String>,
}

impl<'a> LargeContent<'a> {
    /// The content of `frames`, which must follow each other in one pack, as `next` gives them.
    pub(super) fn new(frames: &'a [PackFrame], next: NextFrame<'a>) -> io::Result<Self> {
        let follows = |pair: &[PackFrame]| {
            pair[0].pack == pair[1].pack
                && pair[0].frame.offset.checked_add(u64::from(pair[0].frame.stored))
                    == Some(pair[1].frame.offset)
        };
        if !frames.windows(2).all(follows) {
            return Err(io::Error::other("its frames are not consecutive"));
        }
        let decoder = FrameDecoder::new()?;
        Ok(Self { next, decoder, frames: frames.iter(), raw: Vec::new(), at: 0, fault: None })
    }

    fn next_frame(&mut self, PackFrame { frame, .. }: PackFrame) -> io::Result<()> {
        (self.raw, self.at) = (Vec::new(), 0);
        let stored = (self.next)(frame)?;
        let raw = self.decoder.decode(&stored, frame.offset, frame.raw as usize);
        self.raw = raw.map_err(io::Error::other)?;
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
