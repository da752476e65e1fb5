//! Why an archive is refused, always with the member and where it stands.

use crate::artifact::ArtifactError;
use crate::digest::{BlobId, TreeId};
use crate::disjoint::OverlapError;
use crate::fsio::FsError;
use crate::path::{LinkError, PathError, escape};
use crate::tree::TreeError;

/// Why an archive could not be imported. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The bytes could not be read, or not be decompressed.
    #[error("cannot read the archive after {offset} bytes of tar: {source}")]
    Read {
        /// How far the tar was read.
        offset: u64,
        /// The system's or the decompressor's answer.
        source: std::io::Error,
    },
    /// The archive ends inside a member or without its end mark.
    #[error(
        "the archive ends after {offset} bytes of tar without its end mark: it was cut short, copy it again"
    )]
    Truncated {
        /// Where.
        offset: u64,
    },
    /// Bytes after the end mark.
    #[error("the archive goes on after its end mark at byte {offset}: it is damaged or two archives in one")]
    Trailing {
        /// Where the end mark ends.
        offset: u64,
    },
    /// A limit is exceeded.
    #[error("the archive {what}, more than the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A member is refused.
    #[error("member `{}` at byte {offset} of the tar: {refusal}", escape(.name))]
    Member {
        /// Its name, as far as it could be read.
        name: Vec<u8>,
        /// Where its header begins.
        offset: u64,
        /// Why.
        refusal: Refusal,
    },
    /// The files do not make a tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The artifact in the archive is none.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A tree that the artifact names does not come with it.
    #[error("the archive has no tree {0}, which its artifact names: it is incomplete")]
    NoTree(TreeId),
    /// A content that a tree names does not come with it.
    #[error("the archive has no content {0}, which the tree {1} names: it is incomplete")]
    NoContent(BlobId, TreeId),
    /// A layer's description does not fit its tree.
    #[error(
        "layer `{0}` of the archive's artifact claims another number of files or bytes than its tree has"
    )]
    Counts(crate::name::Name),
    /// Two layers that may meet have one path.
    #[error(transparent)]
    Overlap(#[from] OverlapError),
    /// The place for its contents failed.
    #[error(transparent)]
    Spool(#[from] FsError),
}

/// Why a member is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not a path inside the archive.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A link that leads out.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The header's checksum is wrong.
    #[error("the checksum of its header is wrong: this is no tar, or a damaged one")]
    Checksum,
    /// A field of the header cannot be read in exactly one way.
    #[error("the {0} in its header is malformed")]
    Field(&'static str),
    /// A device, fifo, sparse file or something else that a release cannot hold.
    #[error("it is of kind `{}`; only files, directories and links are possible", escape(&[*.0]))]
    Kind(u8),
    /// A file with setuid, setgid or sticky bit.
    #[error("its mode is {0:04o}; a release holds no setuid, setgid or sticky files")]
    SetId(u32),
    /// A size on something that has no content.
    #[error("it has a size of {0} bytes, but its kind has no content")]
    Size(u64),
    /// A hard link to nothing that came before.
    #[error("it is a hard link to `{}`, which is no file before it in the archive", escape(.0))]
    HardLink(Vec<u8>),
    /// The name is taken.
    #[error("another member has the same name")]
    Duplicate,
    /// Something above it is no directory.
    #[error("it stands below `{}`, which is no directory", escape(.0))]
    Below(Vec<u8>),
    /// A reserved name.
    #[error(
        "`.landfall` is reserved for landfall's own exports, in their own order: export again, or leave it out"
    )]
    Reserved,
    /// Not in any tree of the artifact.
    #[error("it is not what the archive's artifact says stands there")]
    Stray,
    /// Extended header fields that contradict each other, or that landfall does not know.
    #[error("its extended header: {0}")]
    Extended(String),
    /// Content under a name that is not its id.
    #[error("its content does not have the id that it is named for")]
    WrongId,
    /// Larger than such a member may be.
    #[error("it has {size} bytes; {limit} are possible")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
}
