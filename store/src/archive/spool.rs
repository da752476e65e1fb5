//! Contents of an archive, kept by their hashes in one nameless file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::blob::BlobSource;
use crate::digest::BlobId;
use crate::fsio::{self, At, FsError};
use crate::verified::Verified;

/// Contents by id. The file that holds them has no name, so nothing is left when this is dropped, however
/// the process ends.
#[derive(Debug)]
pub struct Spool {
    file: File,
    path: PathBuf,
    end: u64,
    places: HashMap<BlobId, (u64, u64)>,
}

impl Spool {
    /// Keeps contents on the file system of `dir`.
    pub(super) fn new(dir: &Path) -> Result<Self, FsError> {
        let opened = fsio::open_root(dir)?;
        let name = fsio::fresh_name(".spool-");
        let file = fsio::create_nameless(opened.as_fd(), name.as_bytes()).at("create a file in", dir)?;
        Ok(Self { file, path: dir.to_owned(), end: 0, places: HashMap::new() })
    }

    /// Whether the content is here.
    pub fn has(&self, blob: &BlobId) -> bool {
        self.places.contains_key(blob)
    }

    /// Begins a content; what an earlier one left unfinished is overwritten.
    pub(super) fn begin(&mut self) -> Adding<'_> {
        Adding { at: self.end, spool: self, hasher: blake3::Hasher::new() }
    }
}

/// A content that is being added.
pub(super) struct Adding<'a> {
    spool: &'a mut Spool,
    at: u64,
    hasher: blake3::Hasher,
}

impl Adding<'_> {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FsError> {
        self.hasher.update(bytes);
        self.spool.file.write_all_at(bytes, self.at).at("write to a file in", &self.spool.path)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Keeps the content, once.
    pub fn finish(self) -> BlobId {
        let blob = BlobId(self.hasher.finalize().into());
        let (start, size) = (self.spool.end, self.at - self.spool.end);
        if !self.spool.has(&blob) {
            self.spool.places.insert(blob, (start, size));
            self.spool.end = self.at;
        }
        blob
    }
}

impl BlobSource for Spool {
    fn open(&self, blob: &BlobId, size: u64) -> io::Result<Box<dyn Read + '_>> {
        let (start, length) = *self.places.get(blob).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("the archive has no content {blob}"))
        })?;
        let piece = Piece { file: &self.file, at: start, end: start + length };
        Ok(Box::new(Verified::new(piece, *blob, size)))
    }
}

struct Piece<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Piece<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
