//! zstd with bounds: nothing is read into memory that has not been paid for.

use std::io::{self, Read};

use crate::limits::{INFLATION_MAX, WINDOW_LOG_MAX};

/// Room for small objects, whose ratio may be anything.
const FLOOR_BYTES: usize = 1 << 20;

/// Decompresses to at most `max` bytes, and at most [`INFLATION_MAX`] times what went in.
pub(crate) fn inflate(compressed: &[u8], max: usize) -> io::Result<Vec<u8>> {
    let bound = max.min(compressed.len().saturating_mul(INFLATION_MAX).max(FLOOR_BYTES));
    let mut decoder = zstd::Decoder::with_buffer(compressed)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut raw = Vec::new();
    decoder.take(bound as u64 + 1).read_to_end(&mut raw)?;
    if raw.len() > bound {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it decompresses to more than it may"));
    }
    Ok(raw)
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
}
