//! A content of several frames as a stream: one frame is in memory at a time.

use std::io::{self, Read};

use crate::locator::PackFrame;
use crate::pack::Frame;

/// A decompressed frame.
pub(super) type Raw<'a> = Box<dyn AsRef<[u8]> + 'a>;
/// Reads frames that follow each other.
pub(super) type NextFrame<'a> = Box<dyn FnMut(Frame) -> io::Result<Raw<'a>> + 'a>;

pub(super) struct LargeContent<'a> {
    next: NextFrame<'a>,
    frames: std::slice::Iter<'a, PackFrame>,
    raw: Option<Raw<'a>>,
    at: usize,
    /// Set when the stream, not its reader, is at fault.
    pub(super) fault: Option<String>,
}

impl<'a> LargeContent<'a> {
    /// The content of `frames`, which must follow each other in one pack, as `next` gives them. A frame is
    /// dropped before the next one is asked for.
    pub(super) fn new(frames: &'a [PackFrame], next: NextFrame<'a>) -> io::Result<Self> {
        let follows = |pair: &[PackFrame]| {
            pair[0].pack == pair[1].pack
                && pair[0].frame.offset.checked_add(u64::from(pair[0].frame.stored))
                    == Some(pair[1].frame.offset)
        };
        if !frames.windows(2).all(follows) {
            return Err(io::Error::other("its frames are not consecutive"));
        }
        Ok(Self { next, frames: frames.iter(), raw: None, at: 0, fault: None })
    }

    fn left(&self) -> &[u8] {
        self.raw.as_ref().map_or(&[], |raw| &(**raw).as_ref()[self.at..])
    }
}

impl Read for LargeContent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left().is_empty()
            && let Some(next) = self.frames.next()
        {
            (self.raw, self.at) = (None, 0);
            match (self.next)(next.frame) {
                Ok(raw) => self.raw = Some(raw),
                Err(error) => {
                    self.fault = Some(error.to_string());
                    return Err(error);
                }
            }
        }
        let left = self.left();
        let length = buffer.len().min(left.len());
        buffer[..length].copy_from_slice(&left[..length]);
        self.at += length;
        Ok(length)
    }
}
