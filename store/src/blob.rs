//! Where contents come from and go to: the seam between the store's formats and a host's files.

use std::io::{self, Read};

use crate::digest::BlobId;
use crate::pack::FrameBytes;

/// A content that is wanted, and in which forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Want {
    /// Its id.
    pub blob: BlobId,
    /// Its size in bytes, as the tree says.
    pub size: u64,
    /// Whether files with the execute bit need it. A host cache keeps one inode per (content, bit).
    pub executable: bool,
}

/// Contents by id: a scanned directory, an unpacked archive, a host's cache.
pub trait BlobSource: Sync {
    /// Opens a content of `size` bytes. The reader may be wrong; whoever reads must verify.
    fn open(&self, blob: &BlobId, size: u64) -> io::Result<Box<dyn Read + '_>>;

    /// A frame of just these contents in this order, at this level, if one was compressed when they were read
    /// and hashed, so that nobody need read or verify them again.
    fn frame(&self, _blobs: &[(BlobId, u64)], _level: i32) -> Option<FrameBytes> {
        None
    }
}

/// A place that keeps contents.
pub trait BlobSink: Sync {
    /// Whether the content is already here, whole and verified.
    fn has(&self, want: &Want) -> io::Result<bool>;

    /// Takes one content. Reads `content` to its end, hashing, and keeps nothing unless it has exactly
    /// `want.size` bytes that hash to `want.blob`; otherwise the error kind is [`io::ErrorKind::InvalidData`].
    fn put(&self, want: &Want, content: &mut dyn Read) -> io::Result<()>;
}
