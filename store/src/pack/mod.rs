//! Packs: immutable files that hold many contents, compressed in frames.
//!
//! ```text
//! frame*                   zstd frames; decompressed and joined they are the contents
//! skippable frame          zstd(directory JSON), then 32 bytes:
//!   "LFPACK1\n", u64le offset of the directory, u64le its length, first 8 bytes of BLAKE3(compressed directory)
//! ```
//!
//! `zstd -dc` of a pack yields its contents. The directory's objects tile its frames, and the frames tile the
//! file up to the directory, so there is no room for an overlap, a gap or a claim beyond the end.

mod directory;
pub(crate) mod frames;
mod write;

use std::io;

pub use directory::{Directory, Frame, Object};
pub(crate) use write::tail;
pub use write::{FrameBytes, PackWriter, Written};

use crate::digest::PackId;
use crate::limits::{FRAME_RAW_BYTES_MAX, PACK_DIRECTORY_BYTES_MAX};

/// Bytes at the end of a pack that say where its directory is.
pub const TRAILER_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"LFPACK1\n";
const SKIPPABLE: u32 = 0x184D_2A5C;
/// The magic number and the length of a skippable frame.
const SKIPPABLE_HEADER_BYTES: u64 = 8;

/// Why bytes are not a pack, or a part of one.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// No trailer at the end.
    #[error("it does not end in a pack's trailer: truncated, or no pack")]
    Trailer,
    /// The directory does not lie where it must.
    #[error("its trailer places the directory outside the file, or away from its end")]
    DirectoryPlace,
    /// The directory's checksum differs.
    #[error("its directory does not match the checksum in the trailer")]
    DirectorySum,
    /// The directory does not parse.
    #[error("its directory is malformed: {0}")]
    Directory(String),
    /// A frame does not decompress to what the directory says.
    #[error("the frame at byte {offset} is damaged: {why}")]
    Frame {
        /// Where it begins.
        offset: u64,
        /// How it was noticed.
        why: String,
    },
}

/// Where a pack's directory is, as its last [`TRAILER_BYTES`] bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Offset of the compressed directory.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    sum: [u8; 8],
}

impl Trailer {
    /// Reads the last bytes of a pack of `size` bytes; refuses a directory that is not right before them.
    pub fn decode(bytes: &[u8], size: u64) -> Result<Self, PackError> {
        let bytes: &[u8; TRAILER_BYTES] = bytes.try_into().map_err(|_| PackError::Trailer)?;
        let (magic, rest) = bytes.split_at(8);
        if magic != MAGIC {
            return Err(PackError::Trailer);
        }
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| rest[at + index]));
        let trailer =
            Self { offset: number(0), length: number(8), sum: std::array::from_fn(|index| rest[16 + index]) };
        let end = trailer.offset.checked_add(trailer.length).and_then(|end| end.checked_add(32));
        if end != Some(size)
            || trailer.length > PACK_DIRECTORY_BYTES_MAX
            || trailer.offset < SKIPPABLE_HEADER_BYTES
        {
            return Err(PackError::DirectoryPlace);
        }
        Ok(trailer)
    }

    fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.length.to_le_bytes());
        bytes[24..].copy_from_slice(&self.sum);
        bytes
    }

    /// Checks and reads the directory that stands at [`offset`](Self::offset).
    pub fn directory(&self, compressed: &[u8]) -> Result<Directory, PackError> {
        if compressed.len() as u64 != self.length || sum(compressed) != self.sum {
            return Err(PackError::DirectorySum);
        }
        let directory = Directory::decode(compressed)?;
        if directory.frames_end() + SKIPPABLE_HEADER_BYTES != self.offset {
            return Err(PackError::DirectoryPlace);
        }
        Ok(directory)
    }
}

fn sum(bytes: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(bytes);
    std::array::from_fn(|index| hash.as_bytes()[index])
}

/// Decompresses frames; one for each thread.
pub struct FrameDecoder(zstd::bulk::Decompressor<'static>);

impl FrameDecoder {
    /// A decoder.
    pub fn new() -> io::Result<Self> {
        Ok(Self(zstd::bulk::Decompressor::new()?))
    }

    /// Decompresses the frame at `offset` into exactly `raw_bytes`, which are at most
    /// [`FRAME_RAW_BYTES_MAX`]; no more than that is ever allocated.
    pub fn decode(&mut self, compressed: &[u8], offset: u64, raw_bytes: usize) -> Result<Vec<u8>, PackError> {
        if raw_bytes > FRAME_RAW_BYTES_MAX {
            let why = format!("it claims {raw_bytes} bytes; {FRAME_RAW_BYTES_MAX} are possible");
            return Err(PackError::Frame { offset, why });
        }
        let mut raw = vec![0; raw_bytes];
        self.decode_into(compressed, offset, &mut raw)?;
        Ok(raw)
    }

    /// Decompresses the frame at `offset`, which must fill `raw` exactly.
    pub(crate) fn decode_into(
        &mut self,
        compressed: &[u8],
        offset: u64,
        raw: &mut [u8],
    ) -> Result<(), PackError> {
        let damaged = |why: String| PackError::Frame { offset, why };
        let wanted = raw.len();
        let length =
            self.0.decompress_to_buffer(compressed, raw).map_err(|error| damaged(error.to_string()))?;
        if length != wanted {
            return Err(damaged(format!("it has {length} bytes instead of {wanted}")));
        }
        Ok(())
    }
}

/// A pack by its id and size, for messages.
pub(crate) fn shown(id: &PackId) -> String {
    format!("pack {}", id.0.short())
}
