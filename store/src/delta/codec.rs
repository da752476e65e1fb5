//! zstd against a prefix: in one call each way, so that neither side needs a window of its own.

use std::io;

use zstd::zstd_safe::{CParameter, DCtx, compress_bound, get_error_name};

/// Prefix and input together above which long distances are searched for: below, the level's own window
/// sees everything.
const LONG_BYTES_MIN: usize = 1 << 20;

/// Compresses against a prefix that the reader has too.
pub(crate) fn compress(prefix: &[u8], raw: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::default();
    compressor.set_parameter(CParameter::CompressionLevel(level))?;
    // Every byte is hashed by whoever reads it.
    compressor.include_checksum(false)?;
    let all = prefix.len() + raw.len();
    compressor.set_parameter(CParameter::WindowLog(window_log(all)))?;
    if all >= LONG_BYTES_MIN {
        compressor.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    }
    compressor.context_mut().ref_prefix(prefix).map_err(failed)?;
    // Room for the worst case, of which only what is written is ever touched.
    let mut stored = Vec::with_capacity(compress_bound(raw.len()));
    compressor.compress_to_buffer(raw, &mut stored)?;
    stored.shrink_to_fit();
    Ok(stored)
}

/// Decompresses exactly `length` bytes into `raw`: never more than its room, which is made for them.
pub(crate) fn decompress(prefix: &[u8], stored: &[u8], length: usize, raw: &mut Vec<u8>) -> io::Result<()> {
    raw.clear();
    raw.reserve_exact(length);
    let mut context = DCtx::create();
    context.ref_prefix(prefix).map_err(failed)?;
    context.decompress(raw, stored).map_err(failed)?;
    if raw.len() != length {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it decompresses to another length"));
    }
    Ok(())
}

fn window_log(bytes: usize) -> u32 {
    const LEAST: u32 = 10;
    bytes.max(1).next_power_of_two().trailing_zeros().max(LEAST)
}

fn failed(code: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::super::make::LEVEL_ABOVE;
    use super::*;

    #[test]
    fn a_part_of_a_large_content_that_only_moved_costs_next_to_nothing() {
        let mut old = vec![0; 40_000_000];
        blake3::Hasher::new().finalize_xof().fill(&mut old);
        // A copy: what overlaps its own prefix would be another case.
        let moved = old[12_000_123..28_000_123].to_vec();
        let stored = compress(&old, &moved, LEVEL_ABOVE).unwrap();
        assert!(stored.len() < 4_000, "{}", stored.len());
        let mut raw = Vec::new();
        decompress(&old, &stored, moved.len(), &mut raw).unwrap();
        assert!(raw == moved);
    }
}
