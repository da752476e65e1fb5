//! zstd with bounds: nothing is read into memory that has not been paid for.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use crate::limits::{INFLATION_MAX, WINDOW_LOG_MAX};

/// Room for small objects, whose ratio may be anything.
const FLOOR_BYTES: usize = 1 << 20;

/// Decompresses to at most `max` bytes, and at most [`INFLATION_MAX`] times what went in.
pub(crate) fn inflate(compressed: &[u8], max: usize) -> io::Result<Vec<u8>> {
    let bound = bound(compressed.len(), max);
    let mut decoder = zstd::Decoder::with_buffer(compressed)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut raw = Vec::new();
    decoder.take(bound as u64 + 1).read_to_end(&mut raw)?;
    if raw.len() > bound {
        return Err(too_much());
    }
    Ok(raw)
}

/// Decompresses a stream within the same bounds as [`inflate`], holding none of it in memory. More than it may
/// give is an error of the read.
pub(crate) fn inflating<'a>(compressed: impl Read + 'a, max: usize) -> io::Result<impl Read + 'a> {
    let stored = Rc::new(Cell::new(0));
    let counted = Counted { inner: compressed, count: Rc::clone(&stored) };
    let mut decoder = zstd::Decoder::new(counted)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(Bounded { inner: decoder, raw: 0, stored, max })
}

struct Counted<R> {
    inner: R,
    count: Rc<Cell<usize>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.set(self.count.get() + count);
        Ok(count)
    }
}

struct Bounded<R> {
    inner: R,
    raw: usize,
    stored: Rc<Cell<usize>>,
    max: usize,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.raw += count;
        if self.raw > bound(self.stored.get(), self.max) {
            return Err(too_much());
        }
        Ok(count)
    }
}

fn bound(stored: usize, max: usize) -> usize {
    max.min(stored.saturating_mul(INFLATION_MAX).max(FLOOR_BYTES))
}

fn too_much() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it decompresses to more than it may")
}

/// Compresses with a checksum, in a window that every reader accepts.
pub(crate) fn deflate(raw: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.include_checksum(true)?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::WindowLog(21))?;
    compressor.compress(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_refused_and_plain_content_is_not() {
        let bomb = deflate(&vec![0; 64 << 20], 3).unwrap();
        assert!(inflate(&bomb, 256 << 20).is_err());
        let plain = vec![7; 1 << 20];
        assert_eq!(inflate(&deflate(&plain, 3).unwrap(), 1 << 20).unwrap(), plain);
        assert!(inflate(&deflate(&plain, 3).unwrap(), (1 << 20) - 1).is_err());
    }

    #[test]
    fn a_stream_has_the_same_bounds() {
        let read = |compressed: &[u8], max| -> io::Result<Vec<u8>> {
            let mut raw = Vec::new();
            inflating(compressed, max)?.read_to_end(&mut raw).map(|_| raw)
        };
        assert!(read(&deflate(&vec![0; 64 << 20], 3).unwrap(), 256 << 20).is_err());
        let plain = deflate(&vec![7; 1 << 20], 3).unwrap();
        assert_eq!(read(&plain, 1 << 20).unwrap(), vec![7; 1 << 20]);
        assert!(read(&plain, (1 << 20) - 1).is_err());
        assert!(read(&plain[..plain.len() - 5], 1 << 20).is_err(), "a part is not the whole");
    }
}
