//! Packs of which most is not needed any more: what is needed moves to new packs, the trees' locators follow,
//! and the old packs are condemned like anything else that nothing needs.

use std::collections::HashSet;

use super::Request;
use super::keep::is_younger;
use super::look::Facts;
use super::{Condemned, Family};
use crate::backend::Access;
use crate::digest::{BlobId, PackId, TreeId};
use crate::error::StoreError;
use crate::fetch::{self, StoreSource};
use crate::layout;
use crate::lease::{self, Claim};
use crate::limits::LOCATOR_RAW_BYTES_MAX;
use crate::locator::{self, Place, Places, places_in, stored_blobs};
use crate::push::{Stream, StreamError};
use crate::store::Store;

/// What was packed anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repacked {
    /// Packs whose needed contents moved.
    pub packs: u64,
    /// Compressed bytes written for them.
    pub bytes: u64,
    /// Locators written anew.
    pub locators: u64,
}

/// Moves what is needed out of packs of which less than half is.
pub(super) fn repack(store: &Store, request: &Request<'_>, facts: &Facts) -> Result<Repacked, StoreError> {
    let wasteful = wasteful(facts, request);
    if wasteful.is_empty() {
        return Ok(Repacked::default());
    }
    let lease = Claim::lease(store, "repack", request.pace)?;
    lease::wait_for_sweeps(&lease, request.watch.cancel)?;
    let condemned = Condemned::read(store)?;
    let (mut moved, mut blobs, mut trees) = (Places::new(), Vec::new(), Vec::new());
    for id in &facts.trees {
        let tree = fetch::tree(store, id)?;
        let places = fetch::places_of(store, &tree, *id)?;
        let mut is_affected = false;
        for (blob, size) in stored_blobs(&tree) {
            let Some(place) = places.get(&blob).filter(|place| is_in(place, &wasteful)) else { continue };
            is_affected = true;
            if moved.insert(blob, place.clone()).is_none() {
                blobs.push((blob, size));
            }
        }
        if is_affected {
            trees.push(*id);
        }
        lease.keep()?;
    }
    if blobs.is_empty() {
        return Ok(Repacked::default());
    }
    // In the order of their old places, so that each old frame is read once and neighbours stay neighbours.
    blobs.sort_by_key(|(blob, _)| moved.get(blob).map(|place| (place.frames.first().copied(), place.offset)));
    let source = StoreSource::at(store, moved);
    let stream = Stream {
        store,
        source: &source,
        blobs: &blobs,
        access: Access::Public,
        level: request.level,
        watch: request.watch,
        lease: &lease,
        condemned: &condemned,
    };
    let packs = stream.run().map_err(|error| explain(store, error))?;
    let places: Places = packs.iter().flat_map(|pack| places_in(pack.id, &pack.directory)).collect();
    for id in &trees {
        relocate(store, *id, &places, &wasteful)?;
        lease.keep()?;
    }
    Ok(Repacked {
        packs: wasteful.len() as u64,
        bytes: packs.iter().map(|pack| pack.size + pack.index.len() as u64).sum(),
        locators: trees.len() as u64,
    })
}

/// Packs that anybody may share, older than the grace, of which less than half is needed. Packs of env layers
/// have no directory beside them and are left alone: their contents are never mixed.
fn wasteful(facts: &Facts, request: &Request<'_>) -> HashSet<PackId> {
    let indexed = facts.objects.iter().filter_map(|object| match object.family {
        Family::Index(id) if !is_younger(object.written, request.policy.grace, facts.now) => Some(id),
        _ => None,
    });
    let is_wasteful = |id: &PackId| {
        facts.packs.get(id).is_some_and(|pack| pack.needed && pack.live > 0 && pack.live < pack.all / 2)
    };
    indexed.filter(is_wasteful).collect()
}

fn is_in(place: &Place, packs: &HashSet<PackId>) -> bool {
    place.frames.iter().any(|frame| packs.contains(&frame.pack))
}

/// Writes a tree's locator with the new places.
fn relocate(store: &Store, id: TreeId, new: &Places, wasteful: &HashSet<PackId>) -> Result<(), StoreError> {
    let key = layout::locator(&id);
    let tree = fetch::tree(store, &id)?;
    let mut places = fetch::places_of(store, &tree, id)?;
    for (blob, place) in &mut places {
        if is_in(place, wasteful)
            && let Some(moved) = new.get(blob)
        {
            *place = moved.clone();
        }
    }
    let old = store.backend().find(&key, LOCATOR_RAW_BYTES_MAX as u64)?;
    let generation = old.and_then(|bytes| locator::generation(&bytes)).unwrap_or(0) + 1;
    let bytes =
        locator::encode(&tree, id, generation, &places).map_err(|error| store.damaged(&key, error))?;
    Ok(store.backend().replace(&key, &bytes)?)
}

fn explain(store: &Store, error: StreamError) -> StoreError {
    let named = |blob: BlobId| format!("content {}", blob.0.short());
    match error {
        StreamError::Store(error) => error,
        StreamError::Changed(blob) => store.damaged(named(blob), "the content does not match its id"),
        StreamError::Source(blob, source) => store.damaged(named(blob), source),
    }
}
