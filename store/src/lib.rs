//! A content-addressed store for deployable artifacts: bytes in, verified bytes out.
//!
//! A directory tree becomes a canonical [`tree`], its files become blobs gathered in immutable packs, and a
//! set of trees becomes an [`artifact`] with one hash that names every byte of it. Hosts fetch only what they
//! lack, verify every byte before it gets a name, and build release directories from a local cache.
//!
//! The crate knows no git, no host configuration and no processes. See `docs/formats.md` for the bytes.

pub mod archive;
pub mod artifact;
pub mod backend;
pub mod blob;
pub mod cache;
pub mod collect;
pub mod contents;
pub mod delta;
pub mod digest;
pub mod disjoint;
mod error;
pub mod fetch;
pub mod fsio;
mod inflate;
pub mod json;
pub mod layout;
pub mod lease;
pub mod limits;
pub mod location;
pub mod locator;
mod make;
pub mod materialise;
pub mod name;
pub mod object;
pub mod outside;
pub mod pack;
pub mod path;
pub mod place;
pub mod prepared;
pub mod push;
pub mod refs;
pub mod remove;
pub mod repair;
pub mod reports;
pub mod scan;
#[cfg(feature = "schema")]
mod schema;
pub mod scrub;
pub mod segments;
mod spool;
mod store;
pub mod sweep;
pub mod tag;
pub mod tree;
pub mod union;
pub mod verified;
pub mod verify;
mod writeback;

pub use artifact::{Artifact, Layer};
pub use digest::{ArtifactId, BlobId, Digest, PackId, TreeId};
pub use error::StoreError;
pub use name::{Name, Version};
pub use path::EntryPath;
pub use store::Store;
pub use tree::{Entry, Kind, Tree};
