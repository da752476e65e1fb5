//! Reading a file once: its hash, and, while there is room, its bytes for packing.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use bytes::{Bytes, BytesMut};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::ScanError;
use super::cache::Stamp;
use super::walk::Spot;
use crate::digest::BlobId;
use crate::limits::FRAME_RAW_BYTES_MAX;
use crate::name::Name;

/// Read at a time from a large file.
const CHUNK_BYTES: usize = 1 << 20;
/// Small files are read into buffers of this size, one behind the other.
const BUFFER_BYTES: usize = 256 << 10;
/// Files up to this size are read in one piece: what fits into a frame.
const SMALL_BYTES: u64 = FRAME_RAW_BYTES_MAX as u64;
/// Larger files are hashed by several threads.
const PARALLEL_HASH_BYTES: u64 = 16 << 20;

/// A file's content.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) blob: BlobId,
    /// Its bytes, if they were wanted.
    pub(super) bytes: Option<Bytes>,
    /// Bytes that were read; `None`: the stat cache knew it.
    pub(super) read: Option<u64>,
}

/// Opens a file that may have become anything since it was listed: no link is followed, no fifo waited for.
pub(super) fn open(dir: impl AsFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?))
}

/// Whether a content of this size is wanted, so that its bytes are kept.
pub(super) type Wanted<'a> = &'a (dyn Fn(&BlobId, u64) -> bool + Sync);

/// Reads and hashes a file; an error if it is not the same before, during and after. `buffer` is room to
/// read in, kept from file to file: fresh memory costs page faults each time.
pub(super) fn read(
    layer: &Name,
    dir: impl AsFd,
    spot: &Spot,
    stamp: &Stamp,
    (wanted, buffer): (Wanted<'_>, &mut BytesMut),
) -> Result<Content, ScanError> {
    let changed = || ScanError::Changed { layer: layer.to_string(), path: spot.path() };
    let failed = |error: io::Error| ScanError::io(layer, "read", &spot.path(), error);
    let is_same = |file: &File| rustix::fs::fstat(file).map(|stat| Stamp::of(&stat) == *stamp);
    let mut file =
        open(dir, &spot.name).map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::LOOP) => changed(),
            _ => failed(error),
        })?;
    let content = if stamp.size <= SMALL_BYTES {
        read_small(&mut file, stamp.size, wanted, buffer)
    } else {
        read_large(&mut file, stamp.size, buffer)
    };
    let content = content.map_err(failed)?;
    if content.read != Some(stamp.size) || !is_same(&file).map_err(|errno| failed(errno.into()))? {
        return Err(changed());
    }
    Ok(content)
}

/// One read where the file is as it was listed: it fills less than the room for one byte more.
fn read_small(file: &mut File, size: u64, wanted: Wanted<'_>, buffer: &mut BytesMut) -> io::Result<Content> {
    let room = size as usize + 1;
    if buffer.capacity() < room {
        *buffer = BytesMut::with_capacity(room.max(BUFFER_BYTES));
    }
    buffer.resize(room, 0);
    let mut length = 0;
    while length < room {
        let count = file.read(&mut buffer[length..room])?;
        length += count;
        if count == 0 || length as u64 == size {
            break;
        }
    }
    let blob = BlobId::of(&buffer[..length]);
    // What is wanted keeps its place in the buffer; the next file is read behind it.
    let bytes = wanted(&blob, size).then(|| buffer.split_to(length).freeze());
    Ok(Content { blob, bytes, read: Some(length as u64) })
}

fn read_large(file: &mut File, size: u64, buffer: &mut BytesMut) -> io::Result<Content> {
    let mut hasher = blake3::Hasher::new();
    if buffer.len() < CHUNK_BYTES {
        buffer.resize(CHUNK_BYTES, 0);
    }
    let mut read = 0;
    while read <= size {
        let count = file.read(buffer)?;
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
    Ok(Content { blob: BlobId(hasher.finalize().into()), bytes: None, read: Some(read) })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Reads a file that was something else when it was listed.
    fn read_after(change: impl FnOnce(&Path)) -> Result<Content, ScanError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("busy");
        std::fs::write(&path, "as listed").unwrap();
        let stamp = Stamp::of(&rustix::fs::lstat(&path).unwrap());
        change(&path);
        let spot = Spot { dir: dir.path().into(), name: OsStr::new("busy").into() };
        let opened = File::open(dir.path()).unwrap();
        read(&"app".parse().unwrap(), &opened, &spot, &stamp, (&|_, _| false, &mut BytesMut::new()))
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
