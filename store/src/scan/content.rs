//! Reading a file once: its hash, and, while there is room, its bytes for packing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::ScanError;
use super::cache::Stamp;
use crate::digest::BlobId;
use crate::limits::FRAME_RAW_BYTES_TARGET;
use crate::name::Name;

/// Read at a time from a large file.
const CHUNK_BYTES: usize = 1 << 20;
/// Larger files are hashed by several threads.
const PARALLEL_HASH_BYTES: u64 = 16 << 20;

/// A file's content.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) blob: BlobId,
    /// Its bytes, if they are kept.
    pub(super) kept: Option<Box<[u8]>>,
    /// Bytes that were read; `None`: the stat cache knew it.
    pub(super) read: Option<u64>,
}

/// A budget of bytes that may stay in memory.
pub(super) struct Keeper(AtomicU64);

impl Keeper {
    pub(super) const fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    fn takes(&self, size: u64) -> bool {
        let take = |left: u64| left.checked_sub(size);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// Opens a file that may have become anything since it was listed: no link is followed, no fifo waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// Reads and hashes a file; an error if it is not the same before, during and after.
pub(super) fn read(layer: &Name, path: &Path, stamp: &Stamp, keeper: &Keeper) -> Result<Content, ScanError> {
    let changed = || ScanError::Changed { layer: layer.to_string(), path: path.to_owned() };
    let failed = |error: io::Error| ScanError::io(layer, "read", path, error);
    let is_same = |file: &File| file.metadata().map(|metadata| Stamp::of(&metadata) == *stamp);
    let mut file = open(path).map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::LOOP) => changed(),
        _ => failed(error),
    })?;
    let content = if stamp.size <= FRAME_RAW_BYTES_TARGET as u64 {
        read_small(&mut file, stamp.size, keeper)
    } else {
        read_large(&mut file, stamp.size)
    };
    let content = content.map_err(failed)?;
    if content.read != Some(stamp.size) || !is_same(&file).map_err(failed)? {
        return Err(changed());
    }
    Ok(content)
}

fn read_small(file: &mut File, size: u64, keeper: &Keeper) -> io::Result<Content> {
    let mut bytes = Vec::with_capacity(size as usize + 1);
    file.take(size + 1).read_to_end(&mut bytes)?;
    let blob = BlobId::of(&bytes);
    let read = Some(bytes.len() as u64);
    let kept = (size > 0 && keeper.takes(size)).then(|| bytes.into_boxed_slice());
    Ok(Content { blob, kept, read })
}

fn read_large(file: &mut File, size: u64) -> io::Result<Content> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut read = 0;
    while read <= size {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        if size >= PARALLEL_HASH_BYTES {
            hasher.update_rayon(&buffer[..count]);
        } else {
            hasher.update(&buffer[..count]);
        }
        read += count as u64;
    }
    Ok(Content { blob: BlobId(hasher.finalize().into()), kept: None, read: Some(read) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file that was something else when it was listed.
    fn read_after(change: impl FnOnce(&Path)) -> Result<Content, ScanError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("busy");
        std::fs::write(&path, "as listed").unwrap();
        let stamp = Stamp::of(&path.symlink_metadata().unwrap());
        change(&path);
        read(&"app".parse().unwrap(), &path, &stamp, &Keeper::new(0))
    }

    #[test]
    fn a_file_that_is_not_what_was_listed_is_an_error_that_names_it() {
        let changes: [fn(&Path); 5] = [
            |path| std::fs::write(path, "longer than listed").unwrap(),
            |path| std::fs::write(path, "short").unwrap(),
            |path| std::fs::remove_file(path).unwrap(),
            |path| {
                std::fs::rename(path, path.with_extension("old")).unwrap();
                std::os::unix::fs::symlink("busy.old", path).unwrap();
            },
            |path| {
                let other = path.with_extension("new");
                std::fs::write(&other, "as listed").unwrap();
                std::fs::rename(other, path).unwrap();
            },
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let error = read_after(change).unwrap_err();
            assert!(
                matches!(&error, ScanError::Changed { path, .. } if path.ends_with("busy")),
                "{index}: {error}"
            );
        }
        assert_eq!(read_after(|_| {}).unwrap().blob, BlobId::of(b"as listed"));
    }
}
