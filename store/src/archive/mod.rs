//! Archives: `.tar`, `.tgz` and `.tar.zst` in and out.
//!
//! An archive is a form to travel in, never the form on a host. What comes in is untrusted: it becomes a tree
//! and contents kept by their hashes, so that no path of an archive is ever used as a path, and everything
//! that two readers could understand differently is refused. What goes out is the same byte for byte,
//! wherever and whenever it is written.
//!
//! An archive of an artifact begins with landfall's own members: `.landfall/artifact.json`, then
//! `.landfall/trees/<id>` for each tree, then `.landfall/blobs/<id>` for contents that have no path in the
//! archive, because layers that never meet have different files at one path. Import divides the archive by
//! them and checks each, so the artifact keeps its id.

pub mod export;
pub mod import;

mod header;
mod input;
mod names;
mod pax;
mod spool;

pub use export::{Export, ExportError, export};
pub use import::{Imported, import};
pub use input::Limits;
pub use names::{ImportError, Refusal};
pub use spool::Spool;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Not at all. Its bytes are a promise across versions of landfall.
    Tar,
    /// gzip. Its bytes are the same for one version of landfall.
    Gzip,
    /// zstd, with a checksum. Its bytes are the same for one version of landfall.
    Zstd,
}

impl Format {
    /// The format that a file name asks for.
    pub fn of_name(name: &str) -> Option<Self> {
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
        match () {
            () if ends(&[".tar"]) => Some(Self::Tar),
            () if ends(&[".tgz", ".tar.gz"]) => Some(Self::Gzip),
            () if ends(&[".tzst", ".tar.zst"]) => Some(Self::Zstd),
            () => None,
        }
    }
}

/// Bytes of a tar block.
const BLOCK_BYTES: usize = 512;
/// Where landfall's own members stand.
const RESERVED: &[u8] = b".landfall/";
const ARTIFACT_MEMBER: &[u8] = b".landfall/artifact.json";
const TREES: &[u8] = b".landfall/trees/";
const BLOBS: &[u8] = b".landfall/blobs/";
/// A recipe, if it stands at the top of an archive without an artifact.
const RECIPE: &[u8] = b"landfall.toml";
