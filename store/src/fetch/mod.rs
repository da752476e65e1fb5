//! Fetching: from a store to a place that keeps contents, only what that place lacks.
//!
//! Every byte is verified: artifacts and trees against their ids before they are parsed, contents by the
//! sink. A locator, an `.idx` and a pack's directory are hints about where to look. When a place gives
//! something else than was asked for, it is read once more, then every other pack that holds the content is
//! tried, and only then is it an error, which names the content and a file that needs it.

mod budget;
pub mod delta;
mod directories;
mod large;
mod memory;
mod objects;
mod plan;
mod queue;
mod read;
mod source;
mod stream;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use rayon::prelude::*;

pub(crate) use directories::{PackList, from_trailer as own_directory, inside_pack, of_pack, packs};
pub use objects::{artifact, tree};
use read::{Counters, Miss, Reader};
pub use source::StoreSource;

use crate::backend::BackendError;
use crate::blob::{BlobSink, Want};
use crate::digest::{BlobId, TreeId};
use crate::error::StoreError;
use crate::layout;
use crate::limits::LOCATOR_RAW_BYTES_MAX;
use crate::locator::{self, Place, Places};
use crate::store::Store;
use crate::tree::{Kind, Tree};

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

/// Brings every content of `trees` that `sink` lacks. What arrived stays when it fails, so that the next
/// try asks only for the rest.
pub fn blobs(
    store: &Store,
    trees: &[&Tree],
    sink: &dyn BlobSink,
    watch: &Watch<'_>,
) -> Result<FetchReport, StoreError> {
    let mut missing = missing(trees, sink)?;
    let counters = Counters::default();
    let total = Progress {
        blobs_total: missing.len() as u64,
        bytes_total: missing.iter().map(|want| want.size).sum(),
        ..Progress::default()
    };
    let reader = Reader { backend: store.backend(), sink, watch, counters: &counters, total };
    keep_empty(&mut missing, sink, &counters)?;
    let located = locate(store, trees, &missing)?;
    let misses = read_located(&reader, &missing, &located)?;
    if !misses.is_empty() {
        read_elsewhere(store, &reader, misses, &located, trees)?;
    }
    Ok(FetchReport {
        bytes_moved: counters.moved.load(Ordering::Relaxed),
        blobs: counters.blobs.load(Ordering::Relaxed),
        frames: counters.frames.load(Ordering::Relaxed),
    })
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
    wants(trees)
        .into_par_iter()
        .filter_map(|want| match sink.has(&want) {
            Ok(true) => None,
            Ok(false) => Some(Ok(want)),
            Err(source) => Some(Err(StoreError::Sink { blob: want.blob, source })),
        })
        .collect()
}

/// The empty content is in no pack.
fn keep_empty(missing: &mut Vec<Want>, sink: &dyn BlobSink, counters: &Counters) -> Result<(), StoreError> {
    for want in missing.extract_if(.., |want| want.size == 0) {
        let put = sink.put(&want, &mut std::io::empty());
        put.map_err(|source| StoreError::Sink { blob: want.blob, source })?;
        counters.blobs.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The places that the trees' locators give; a locator that is missing or unusable gives none.
fn locate(store: &Store, trees: &[&Tree], missing: &[Want]) -> Result<Places, StoreError> {
    let mut places = Places::new();
    if missing.is_empty() {
        return Ok(places);
    }
    let wanted: HashSet<BlobId> = missing.iter().map(|want| want.blob).collect();
    for tree in trees {
        if tree.blobs().any(|(blob, _)| wanted.contains(&blob) && !places.contains_key(&blob)) {
            places.extend(places_of(store, tree, tree.id())?);
        }
    }
    Ok(places)
}

/// The places a tree's locator gives; none if it is missing, or unusable twice.
pub(crate) fn places_of(store: &Store, tree: &Tree, id: TreeId) -> Result<Places, StoreError> {
    let mut problem = None;
    for _ in 0..2 {
        let bytes = match store.backend().find(&layout::locator(&id), LOCATOR_RAW_BYTES_MAX as u64) {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(BackendError::TooLarge { .. }) => return Ok(Places::new()),
            Err(error) => return Err(error.into()),
        };
        match locator::decode(&bytes, tree, id) {
            Ok(places) => return Ok(places),
            Err(error) => problem = Some(error),
        }
    }
    if let Some(error) = problem {
        tracing::warn!(%error, "looking into the packs' directories instead");
    }
    Ok(Places::new())
}

/// Reads what has a place, and tells what has none.
fn read_located(reader: &Reader<'_>, missing: &[Want], places: &Places) -> Result<Vec<Miss>, StoreError> {
    let (located, lost): (Vec<&Want>, Vec<&Want>) =
        missing.iter().partition(|want| places.contains_key(&want.blob));
    let lost = lost.into_iter().map(|want| Miss { want: *want, why: "no locator names it".to_owned() });
    let mut misses = reader.read_at(&located, places)?;
    misses.extend(lost);
    Ok(misses)
}

/// Tries every other place that any pack's directory gives.
fn read_elsewhere(
    store: &Store,
    reader: &Reader<'_>,
    mut misses: Vec<Miss>,
    tried: &Places,
    trees: &[&Tree],
) -> Result<(), StoreError> {
    let mut others = other_places(store, &misses, tried)?;
    loop {
        let mut lost = Vec::new();
        let mut round = Places::new();
        for miss in misses.drain(..) {
            let next = round.get(&miss.want.blob).cloned();
            let next = next.or_else(|| others.get_mut(&miss.want.blob).and_then(Vec::pop));
            match next {
                Some(place) => {
                    round.insert(miss.want.blob, place);
                    lost.push((miss.want, true, miss.why));
                }
                None => lost.push((miss.want, false, miss.why)),
            }
        }
        if let Some((want, _, why)) = lost.iter().find(|(_, found, _)| !found) {
            return Err(unavailable(store, want, why, lost.len(), trees));
        }
        if lost.is_empty() {
            return Ok(());
        }
        let wants: Vec<_> = lost.iter().map(|(want, ..)| want).collect();
        misses = reader.read_at(&wants, &round)?;
    }
}

fn other_places(
    store: &Store,
    misses: &[Miss],
    tried: &Places,
) -> Result<HashMap<BlobId, Vec<Place>>, StoreError> {
    let wanted: HashMap<BlobId, u64> = misses.iter().map(|miss| (miss.want.blob, miss.want.size)).collect();
    let mut others: HashMap<BlobId, Vec<Place>> = HashMap::new();
    for (pack, _) in packs(store)?.packs {
        let directory = match of_pack(store, &pack) {
            Ok(directory) => directory,
            Err(error) => {
                tracing::warn!(%error, "cannot look into a pack");
                continue;
            }
        };
        let sizes = directory.objects().iter().map(|object| object.size);
        for ((blob, place), size) in locator::places_in(pack, &directory).zip(sizes) {
            if wanted.get(&blob) == Some(&size) && tried.get(&blob) != Some(&place) {
                others.entry(blob).or_default().push(place);
            }
        }
    }
    Ok(others)
}

fn unavailable(store: &Store, want: &Want, why: &str, lost: usize, trees: &[&Tree]) -> StoreError {
    let needs = |entry: &&crate::Entry| matches!(entry.kind, Kind::File { blob, .. } if blob == want.blob);
    let mut files = trees.iter().flat_map(|tree| tree.entries()).filter(needs);
    let path = files.next().map_or_else(String::new, |entry| entry.path.to_string());
    let more = files.count() + lost.saturating_sub(1);
    store.unavailable(want.blob, path, more, why)
}
