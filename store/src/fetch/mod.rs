//! Fetching: from a store to a place that keeps contents, only what that place lacks.
//!
//! Every byte is verified: artifacts and trees against their ids before they are parsed, contents by the
//! sink. A locator, an `.idx` and a pack's directory are hints about where to look. When a place gives
//! something else than was asked for, it is read once more, then every other pack that holds the content is
//! tried, and only then is it an error, which names the content and a file that needs it.

mod ask;
mod budget;
mod contents;
pub mod delta;
mod directories;
mod large;
mod memory;
mod objects;
mod plan;
mod queue;
mod read;
mod rounds;
mod session;
mod source;
mod stream;

use std::collections::HashSet;

use rayon::prelude::*;

pub(crate) use contents::places_of;
pub(crate) use directories::{PackList, from_trailer as own_directory, inside_pack, of_pack, packs};
pub use objects::{artifact, tree};
pub use session::{Kept, Session};
pub use source::StoreSource;

use crate::blob::{BlobSink, Want};
use crate::digest::{BlobId, TreeId};
use crate::error::StoreError;
use crate::store::Store;
use crate::tree::{Kind, Tree};
use contents::{Located, Missing, keep_empty, locators};

/// How far a fetch is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Contents that arrived.
    pub blobs: u64,
    /// Contents that were missing at the start.
    pub blobs_total: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that were missing at the start.
    pub bytes_total: u64,
    /// Bytes read from the store, compressed.
    pub moved: u64,
}

/// Who watches a fetch or a push. Both functions are called from several threads, once a frame.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Told how far it is.
    pub progress: &'a (dyn Fn(Progress) + Sync),
    /// Asked whether to stop.
    pub cancel: &'a (dyn Fn() -> bool + Sync),
}

impl Watch<'_> {
    /// Nobody.
    pub const NOBODY: Watch<'static> = Watch { progress: &|_| {}, cancel: &|| false };
}

/// What a fetch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchReport {
    /// Bytes of contents read from packs, compressed.
    pub bytes_moved: u64,
    /// Contents that were missing and arrived.
    pub blobs: u64,
    /// Frames decoded.
    pub frames: u64,
}

/// What a fetch would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Contents that are missing.
    pub blobs: u64,
    /// Their bytes, not compressed.
    pub unpacked: u64,
    /// Bytes of deltas and packs that would be read for them, compressed.
    pub moved: u64,
    /// Layers that would come by a delta.
    pub deltas: u64,
}

/// Brings every content of `trees` that `sink` lacks. What arrived stays when it fails, so that the next
/// try asks only for the rest.
pub fn blobs(
    store: &Store,
    trees: &[&Tree],
    sink: &dyn BlobSink,
    watch: &Watch<'_>,
) -> Result<FetchReport, StoreError> {
    let missing = Missing::new(missing(trees, sink)?);
    let wanted: HashSet<BlobId> = missing.wants.iter().map(|want| want.blob).collect();
    let lack: Vec<&&Tree> =
        trees.iter().filter(|tree| tree.blobs().any(|(blob, _)| wanted.contains(&blob))).collect();
    let ids: Vec<TreeId> = lack.par_iter().map(|tree| tree.id()).collect();
    let found = locators(store, &ids, watch)?;
    let located = lack.into_iter().zip(ids).zip(found);
    let located: Vec<Located<'_>> =
        located.map(|((tree, id), locator)| Located { tree, id, locator }).collect();
    contents::bring(store, &located, missing, sink, watch)
}

/// The distinct contents of trees, in both forms where both are used.
pub fn wants(trees: &[&Tree]) -> Vec<Want> {
    let mut seen = HashSet::new();
    let files = trees.iter().flat_map(|tree| tree.entries()).filter_map(|entry| match entry.kind {
        Kind::File { size, blob, executable } => Some(Want { blob, size, executable }),
        Kind::Link { .. } | Kind::EmptyDir => None,
    });
    files.filter(|want| seen.insert(*want)).collect()
}

fn missing(trees: &[&Tree], sink: &dyn BlobSink) -> Result<Vec<Want>, StoreError> {
    lacking(wants(trees), sink)
}

/// Those of them that a place does not have.
fn lacking(wants: Vec<Want>, sink: &dyn BlobSink) -> Result<Vec<Want>, StoreError> {
    wants
        .into_par_iter()
        .filter_map(|want| match sink.has(&want) {
            Ok(true) => None,
            Ok(false) => Some(Ok(want)),
            Err(source) => Some(Err(StoreError::Sink { blob: want.blob, source })),
        })
        .collect()
}
