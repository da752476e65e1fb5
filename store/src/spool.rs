//! The bytes of an upload until its key is known: a pack is named by its content, a request by its address.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::Bytes;

use crate::fsio;

/// What is held in memory: trees, locators, artifacts and env layers as a rule; packs go to a file.
const MEMORY_BYTES: usize = 1 << 20;

/// Bytes in memory, or, when they become many, in a nameless file of the system's temporary directory that
/// only this process can read. Nothing is left of it when it is dropped, however the process ends.
#[derive(Default)]
pub(crate) struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    size: u64,
}

impl Spool {
    /// Bytes written so far.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// A part of what was written: `length` bytes from `offset` on, fewer at the end.
    pub(crate) fn part(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let length = length.min(usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX));
        let Some(file) = &self.file else {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.memory.len());
            return Ok(Bytes::copy_from_slice(&self.memory[from..from + length]));
        };
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() && self.memory.len() + bytes.len() > MEMORY_BYTES {
            let mut file = nameless()?;
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        let written = match &mut self.file {
            Some(file) => file.write(bytes)?,
            None => self.memory.write(bytes)?,
        };
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of the system's temporary directory without a name: nothing is left of it when it is closed.
pub(crate) fn nameless() -> io::Result<File> {
    let dir: PathBuf = std::env::temp_dir();
    let create = || {
        let opened = fsio::open_root(&dir).map_err(io::Error::other)?;
        fsio::create_nameless(opened.as_fd(), fsio::fresh_name(".landfall-").as_bytes())
    };
    create().map_err(|error| {
        io::Error::new(error.kind(), format!("no room for a pack in {} (TMPDIR): {error}", dir.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_in_parts_from_memory_and_from_a_file() {
        for size in [0, 10, MEMORY_BYTES, MEMORY_BYTES + 1, 3 * MEMORY_BYTES] {
            let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut spool = Spool::default();
            for piece in bytes.chunks(100_003) {
                spool.write_all(piece).unwrap();
            }
            assert_eq!(spool.size(), size as u64);
            assert_eq!(spool.file.is_some(), size > MEMORY_BYTES);
            let mut read = Vec::new();
            while (read.len() as u64) < spool.size() {
                read.extend_from_slice(&spool.part(read.len() as u64, 700_001).unwrap());
            }
            assert_eq!(read, bytes);
            assert!(spool.part(spool.size(), 5).unwrap().is_empty());
        }
    }
}
