//! Writing a pack from frames that are compressed already.

use std::io::{self, Write};

use super::{Directory, Frame, Object, PackError, SKIPPABLE, SKIPPABLE_HEADER_BYTES, Trailer, sum};
use crate::digest::{BlobId, PackId};
use crate::limits::PACK_OBJECTS_MAX;

/// A compressed frame and what begins in it.
#[derive(Debug)]
pub struct FrameBytes {
    /// The zstd frame.
    pub stored: Vec<u8>,
    /// Its bytes uncompressed.
    pub raw: u32,
    /// Contents that begin in it, one behind the other, with their whole sizes.
    pub blobs: Vec<(BlobId, u64)>,
}

/// A finished pack.
#[derive(Debug)]
pub struct Written {
    /// Its id.
    pub id: PackId,
    /// Its size in bytes.
    pub size: u64,
    /// What it holds.
    pub directory: Directory,
    /// The directory's compressed form, for the `.idx`.
    pub index: Vec<u8>,
}

/// Writes one pack to any place, hashing as it goes. Equal frames give an equal pack.
pub struct PackWriter<W> {
    out: W,
    hasher: blake3::Hasher,
    written: u64,
    frames: Vec<Frame>,
    objects: Vec<Object>,
}

impl<W: Write> PackWriter<W> {
    /// Begins a pack.
    pub fn new(out: W) -> Self {
        Self { out, hasher: blake3::Hasher::new(), written: 0, frames: Vec::new(), objects: Vec::new() }
    }

    /// Bytes of the frames so far.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Whether `more` objects fit.
    pub fn has_room(&self, more: usize) -> bool {
        self.objects.len() + more <= PACK_OBJECTS_MAX
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: &FrameBytes) -> io::Result<()> {
        let too_long = |_| io::Error::other("a frame has more than 4 GiB");
        let index = u32::try_from(self.frames.len()).map_err(too_long)?;
        let stored = u32::try_from(frame.stored.len()).map_err(too_long)?;
        self.frames.push(Frame { offset: self.written, stored, raw: frame.raw });
        let mut offset = 0u64;
        for (blob, size) in &frame.blobs {
            let within = u32::try_from(offset).map_err(too_long)?;
            self.objects.push(Object { blob: *blob, frame: index, offset: within, size: *size });
            offset += size;
        }
        self.emit(&frame.stored)
    }

    /// Writes the directory and the trailer; gives back the place it wrote to.
    pub fn finish(mut self) -> Result<(W, Written), PackError> {
        let directory = Directory::new(std::mem::take(&mut self.frames), std::mem::take(&mut self.objects))?;
        let index = directory.encode()?;
        let failed = |error: io::Error| PackError::Directory(error.to_string());
        self.emit(&tail(&index, self.written)?).map_err(failed)?;
        self.out.flush().map_err(failed)?;
        let id = PackId(self.hasher.finalize().into());
        Ok((self.out, Written { id, size: self.written, directory, index }))
    }

    fn emit(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// What follows the frames of a pack, which end at `frames_end`: the directory in its compressed form, and where
/// it is.
pub(crate) fn tail(index: &[u8], frames_end: u64) -> Result<Vec<u8>, PackError> {
    let offset = frames_end + SKIPPABLE_HEADER_BYTES;
    let trailer = Trailer { offset, length: index.len() as u64, sum: sum(index) }.encode();
    let length = u32::try_from(index.len() + trailer.len())
        .map_err(|_| PackError::Directory("it is larger than any".to_owned()))?;
    Ok([&SKIPPABLE.to_le_bytes()[..], &length.to_le_bytes(), index, &trailer].concat())
}

#[cfg(test)]
mod tests {
    use super::super::{FrameDecoder, TRAILER_BYTES};
    use super::*;
    use crate::inflate::deflate;

    fn sample() -> (Vec<u8>, Written) {
        let mut writer = PackWriter::new(Vec::new());
        for text in [&b"hello world"[..], b"second"] {
            let (a, b) = text.split_at(4);
            let blobs = [a, b].map(|part| (BlobId::of(part), part.len() as u64)).to_vec();
            let stored = deflate(text, 3).unwrap();
            writer.push(&FrameBytes { stored, raw: text.len() as u32, blobs }).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read_directory(pack: &[u8]) -> Result<Directory, PackError> {
        let at = pack.len().checked_sub(TRAILER_BYTES).ok_or(PackError::Trailer)?;
        let trailer = Trailer::decode(&pack[at..], pack.len() as u64)?;
        trailer.directory(&pack[trailer.offset as usize..][..trailer.length as usize])
    }

    #[test]
    fn a_pack_reads_back_and_stock_zstd_yields_its_contents() {
        let (pack, written) = sample();
        assert_eq!(PackId(crate::Digest::of(&pack)), written.id);
        assert_eq!(read_directory(&pack).unwrap(), written.directory);
        assert_eq!(zstd::decode_all(&pack[..]).unwrap(), b"hello worldsecond");
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed() {
        let (pack, written) = sample();
        for end in 0..pack.len() {
            assert!(read_directory(&pack[..end]).is_err(), "cut at {end}");
        }
        let mut harmless = 0;
        for at in 0..pack.len() {
            for bit in 0..8 {
                let mut flipped = pack.clone();
                flipped[at] ^= 1 << bit;
                let frames_end = written.directory.frames_end() as usize;
                // The skippable frame's own header is for stock tools; landfall never reads it.
                if (frames_end..frames_end + 8).contains(&at) {
                    continue;
                }
                harmless += usize::from(reads_whole(&flipped));
            }
        }
        // zstd's frame header has bits that change nothing; with them every content still matched its id.
        assert!(harmless <= 2 * written.directory.frames().len(), "{harmless}");
    }

    /// What a fetch does: the directory, each frame, each content against its id.
    fn reads_whole(pack: &[u8]) -> bool {
        let Ok(directory) = read_directory(pack) else { return false };
        let mut decoder = FrameDecoder::new().unwrap();
        let raw: Option<Vec<_>> = directory
            .frames()
            .iter()
            .map(|frame| {
                let stored = &pack[frame.offset as usize..][..frame.stored as usize];
                decoder.decode(stored, frame.offset, frame.raw as usize).ok()
            })
            .collect();
        raw.is_some_and(|raw| {
            directory.objects().iter().all(|object| {
                let from = object.offset as usize;
                BlobId::of(&raw[object.frame as usize][from..from + object.size as usize]) == object.blob
            })
        })
    }
}
