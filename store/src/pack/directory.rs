//! A pack's directory: which content is where.

use serde::{Deserialize, Serialize};

use super::PackError;
use crate::digest::BlobId;
use crate::inflate::{deflate, inflate};
use crate::limits::{
    FRAME_RAW_BYTES_MAX, PACK_DIRECTORY_BYTES_MAX, PACK_DIRECTORY_RAW_BYTES_MAX, PACK_OBJECTS_MAX,
};

const LEVEL: i32 = 3;

/// A zstd frame: offset in the pack, compressed and uncompressed length, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(u64, u32, u32)", into = "(u64, u32, u32)")]
pub struct Frame {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes in the file.
    pub stored: u32,
    /// Its bytes uncompressed, at most [`FRAME_RAW_BYTES_MAX`].
    pub raw: u32,
}

impl From<(u64, u32, u32)> for Frame {
    fn from((offset, stored, raw): (u64, u32, u32)) -> Self {
        Self { offset, stored, raw }
    }
}

impl From<Frame> for (u64, u32, u32) {
    fn from(frame: Frame) -> Self {
        (frame.offset, frame.stored, frame.raw)
    }
}

/// A content in a pack. One of more than [`FRAME_RAW_BYTES_MAX`] bytes continues in the frames that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(BlobId, u32, u32, u64)", into = "(BlobId, u32, u32, u64)")]
pub struct Object {
    /// Its id.
    pub blob: BlobId,
    /// The frame it begins in.
    pub frame: u32,
    /// Where in the uncompressed frame.
    pub offset: u32,
    /// Its size in bytes.
    pub size: u64,
}

impl From<(BlobId, u32, u32, u64)> for Object {
    fn from((blob, frame, offset, size): (BlobId, u32, u32, u64)) -> Self {
        Self { blob, frame, offset, size }
    }
}

impl From<Object> for (BlobId, u32, u32, u64) {
    fn from(object: Object) -> Self {
        (object.blob, object.frame, object.offset, object.size)
    }
}

/// What a pack holds, checked: its objects tile its frames, its frames tile the file's beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    frames: Vec<Frame>,
    objects: Vec<Object>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u32,
    frames: Vec<Frame>,
    objs: Vec<Object>,
}

impl Directory {
    /// Checks frames and objects.
    pub fn new(frames: Vec<Frame>, objects: Vec<Object>) -> Result<Self, PackError> {
        let directory = Self { frames, objects };
        directory.check().map_err(PackError::Directory)?;
        Ok(directory)
    }

    /// The frames, in file order.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The objects, in file order.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// The offset behind the last frame.
    pub fn frames_end(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.offset + u64::from(frame.stored))
    }

    /// The compressed form, as it stands in the pack and in its `.idx`.
    pub fn encode(&self) -> Result<Vec<u8>, PackError> {
        let wire = Wire { v: 1, frames: self.frames.clone(), objs: self.objects.clone() };
        let malformed = |error: String| PackError::Directory(error);
        let text = serde_json::to_vec(&wire).map_err(|error| malformed(error.to_string()))?;
        deflate(&text, LEVEL).map_err(|error| malformed(error.to_string()))
    }

    /// Reads the compressed form.
    pub fn decode(compressed: &[u8]) -> Result<Self, PackError> {
        let malformed = |why: &dyn ToString| PackError::Directory(why.to_string());
        if compressed.len() as u64 > PACK_DIRECTORY_BYTES_MAX {
            return Err(malformed(&"it is larger than any"));
        }
        let text = inflate(compressed, PACK_DIRECTORY_RAW_BYTES_MAX).map_err(|error| malformed(&error))?;
        let wire: Wire = serde_json::from_slice(&text).map_err(|error| malformed(&error))?;
        if wire.v != 1 {
            return Err(malformed(&format!("version {} needs a newer landfall", wire.v)));
        }
        Self::new(wire.frames, wire.objs)
    }

    fn check(&self) -> Result<(), String> {
        if self.objects.len() > PACK_OBJECTS_MAX {
            return Err(format!("{} objects; {PACK_OBJECTS_MAX} are possible", self.objects.len()));
        }
        let mut end = 0u64;
        for (index, frame) in self.frames.iter().enumerate() {
            if frame.offset != end {
                return Err(format!("frame {index} begins at {} instead of {end}", frame.offset));
            }
            if frame.stored == 0 || frame.raw == 0 || frame.raw as usize > FRAME_RAW_BYTES_MAX {
                return Err(format!("frame {index} has an impossible length"));
            }
            end += u64::from(frame.stored);
        }
        self.check_tiling()
    }

    /// Each object begins where the last one ended, and the last one ends with the last frame.
    fn check_tiling(&self) -> Result<(), String> {
        let (mut frame, mut offset) = (0usize, 0u32);
        for object in &self.objects {
            let misplaced = || format!("content {} is not where the one before it ended", object.blob);
            if object.frame as usize != frame || object.offset != offset || object.size == 0 {
                return Err(misplaced());
            }
            let raw = |index: usize| self.frames.get(index).map(|frame| u64::from(frame.raw));
            let room = raw(frame).ok_or_else(misplaced)? - u64::from(offset);
            if object.size < room {
                // It fits: `size < room <= FRAME_RAW_BYTES_MAX`.
                offset += object.size as u32;
                continue;
            }
            if object.size > room && offset != 0 {
                return Err(misplaced());
            }
            // From the beginning of the frame: `offset` is below its length here.
            let mut left = object.size.checked_add(u64::from(offset)).ok_or_else(misplaced)?;
            while left > 0 {
                left = left.checked_sub(raw(frame).ok_or_else(misplaced)?).ok_or_else(misplaced)?;
                frame += 1;
            }
            offset = 0;
        }
        if frame != self.frames.len() || offset != 0 {
            return Err("its contents do not fill its frames".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(offset: u64, stored: u32, raw: u32) -> Frame {
        Frame { offset, stored, raw }
    }

    fn object(frame: u32, offset: u32, size: u64) -> Object {
        Object { blob: BlobId::of(&[frame as u8, offset as u8]), frame, offset, size }
    }

    #[test]
    fn a_directory_reads_back_as_itself() {
        let max = FRAME_RAW_BYTES_MAX as u32;
        let directory = Directory::new(
            vec![frame(0, 10, 30), frame(10, 99, max), frame(109, 7, 5)],
            vec![object(0, 0, 10), object(0, 10, 20), object(1, 0, u64::from(max) + 5)],
        )
        .unwrap();
        assert_eq!(Directory::decode(&directory.encode().unwrap()).unwrap(), directory);
        assert_eq!(directory.frames_end(), 116);
    }

    #[test]
    fn hostile_directories_get_an_error() {
        let max = FRAME_RAW_BYTES_MAX as u32;
        let cases: &[(&[Frame], &[Object])] = &[
            (&[frame(1, 10, 30)], &[object(0, 0, 30)]),
            (&[frame(0, 10, 30), frame(9, 10, 30)], &[object(0, 0, 30), object(1, 0, 30)]),
            (&[frame(0, 10, max + 1)], &[object(0, 0, u64::from(max) + 1)]),
            (&[frame(0, 0, 30)], &[object(0, 0, 30)]),
            (&[frame(0, 10, 30)], &[object(0, 0, 20)]),
            (&[frame(0, 10, 30)], &[object(0, 0, 31)]),
            (&[frame(0, 10, 30)], &[object(0, 0, 20), object(0, 10, 20)]),
            (&[frame(0, 10, 30)], &[object(0, 0, 30), object(1, 0, 1)]),
            (&[frame(0, 10, 30)], &[object(7, 0, 30)]),
            (&[frame(0, 10, 30)], &[object(0, 0, u64::MAX)]),
            (&[frame(0, 10, 30)], &[object(0, 0, 0), object(0, 0, 30)]),
            (&[frame(0, 10, 30)], &[]),
        ];
        for (frames, objects) in cases {
            let result = Directory::new(frames.to_vec(), objects.to_vec());
            assert!(result.is_err(), "{frames:?} {objects:?} was accepted");
        }
    }

    #[test]
    fn an_endless_directory_is_refused_before_it_is_in_memory() {
        let bomb = deflate(&vec![b' '; PACK_DIRECTORY_RAW_BYTES_MAX + 1], 3).unwrap();
        assert!(Directory::decode(&bomb).is_err());
    }
}
