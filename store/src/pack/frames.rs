//! Which contents share a frame, and how a frame is compressed: the same for the same contents in the same order.

use std::io;

use super::FrameBytes;
use crate::backend::Access;
use crate::digest::BlobId;
use crate::limits::{FRAME_RAW_BYTES_MAX, FRAME_RAW_BYTES_TARGET};

/// Whether a content is larger than a frame, and so travels alone, in parts.
pub(crate) const fn is_large(size: u64) -> bool {
    size > FRAME_RAW_BYTES_MAX as u64
}

/// Whether a frame of `total` bytes is closed before a content of `size`.
pub(crate) const fn is_closed(total: u64, size: u64) -> bool {
    total > 0 && total + size > FRAME_RAW_BYTES_TARGET as u64
}

/// Neighbours until a frame is full; what is larger than that stands alone.
pub(crate) fn groups(mut blobs: &[(BlobId, u64)]) -> impl Iterator<Item = &[(BlobId, u64)]> {
    std::iter::from_fn(move || {
        let mut total = 0;
        let fits = |(_, size): &&(BlobId, u64)| {
            let fits = !is_closed(total, *size);
            total += *size;
            fits
        };
        let count = blobs.iter().take_while(fits).count();
        let (group, rest) = blobs.split_at(count);
        blobs = rest;
        (!group.is_empty()).then_some(group)
    })
}

/// Compresses frames; one for each thread.
pub(crate) struct FrameEncoder(zstd::bulk::Compressor<'static>);

impl FrameEncoder {
    pub(crate) fn new(level: i32, access: Access) -> io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        // The flag is part of each frame, so a private pack never has the bytes, and with them the name and
        // the mode, of a public one, even where the contents are equal.
        compressor.include_checksum(access == Access::Public)?;
        Ok(Self(compressor))
    }

    /// A frame of `raw`, in which `blobs` begin.
    pub(crate) fn encode(&mut self, raw: &[u8], blobs: Vec<(BlobId, u64)>) -> io::Result<FrameBytes> {
        let raw_bytes = u32::try_from(raw.len()).map_err(io::Error::other)?;
        Ok(FrameBytes { stored: self.0.compress(raw)?, raw: raw_bytes, blobs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FRAME_STORED_BYTES_MAX;

    fn sizes(of: &[u64]) -> Vec<Vec<u64>> {
        let blobs: Vec<_> = of.iter().map(|size| (BlobId::of(&size.to_le_bytes()), *size)).collect();
        groups(&blobs).map(|group| group.iter().map(|(_, size)| *size).collect()).collect()
    }

    #[test]
    fn the_largest_frame_that_cannot_be_shrunk_is_within_its_bound() {
        let mut state = 1u64;
        let raw: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(FRAME_RAW_BYTES_MAX)
        .collect();
        for access in [Access::Public, Access::Private] {
            let frame = FrameEncoder::new(3, access).unwrap().encode(&raw, Vec::new()).unwrap();
            assert!(frame.stored.len() > raw.len() && frame.stored.len() <= FRAME_STORED_BYTES_MAX);
        }
    }

    #[test]
    fn neighbours_fill_a_frame_and_what_is_larger_stands_alone() {
        const FULL: u64 = FRAME_RAW_BYTES_TARGET as u64;
        assert_eq!(sizes(&[FULL - 1, 1, 1]), [vec![FULL - 1, 1], vec![1]]);
        assert_eq!(sizes(&[1, FULL, 1]), [vec![1], vec![FULL], vec![1]]);
        assert_eq!(sizes(&[1, FULL + 1, 1]), [vec![1], vec![FULL + 1], vec![1]]);
        assert_eq!(sizes(&[3 * FULL, 3 * FULL]), [vec![3 * FULL], vec![3 * FULL]]);
        assert!(sizes(&[]).is_empty());
    }
}
