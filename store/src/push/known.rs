//! What a store has already: all its indexes while they are small, else those of the app's own versions.

use std::collections::HashMap;

use rayon::prelude::*;

use super::reuse::Known;
use crate::artifact::Artifact;
use crate::digest::PackId;
use crate::error::StoreError;
use crate::fetch::{self, PackList};
use crate::layout;
use crate::limits::INDEX_BYTES_MAX;
use crate::locator::{PackFrame, Places, places_in};
use crate::refs;
use crate::store::Store;
use crate::sweep::Condemned;

/// Earlier versions of an app that are compared when the store's indexes are too large to load.
const BASES_MAX: usize = 3;

pub(super) fn known(store: &Store, artifact: &Artifact, condemned: &Condemned) -> Result<Known, StoreError> {
    let mut list = fetch::packs(store)?;
    // What may be removed at any time is as good as gone.
    list.packs.retain(|(pack, _)| !condemned.has(&layout::pack(pack)));
    list.indexed
        .retain(|(pack, _)| !condemned.has(&layout::index(pack)) && !condemned.has(&layout::pack(pack)));
    let total: u64 = list.indexed.iter().map(|(_, bytes)| bytes).sum();
    let mut known = if total <= INDEX_BYTES_MAX {
        from_indexes(store, &list)
    } else {
        from_versions(store, artifact, &list)?
    };
    // An index or a locator may outlive its pack.
    let packs: HashMap<PackId, u64> = list.packs.into_iter().collect();
    known.places.retain(|_, place| place.frames.iter().all(|frame| is_inside(frame, &packs)));
    Ok(known)
}

fn is_inside(PackFrame { pack, frame }: &PackFrame, packs: &HashMap<PackId, u64>) -> bool {
    let end = frame.offset.checked_add(u64::from(frame.stored));
    end.zip(packs.get(pack)).is_some_and(|(end, bytes)| end <= *bytes)
}

fn from_indexes(store: &Store, list: &PackList) -> Known {
    let read = |(pack, _): &(PackId, u64)| match fetch::of_pack(store, pack) {
        Ok(directory) => Some((*pack, directory)),
        Err(error) => {
            tracing::warn!(%error, "a pack's contents are uploaded again where they are needed");
            None
        }
    };
    let directories: Vec<_> = list.indexed.par_iter().filter_map(read).collect();
    Known {
        places: directories.iter().flat_map(|(pack, directory)| places_in(*pack, directory)).collect(),
        pack_bytes: directories.iter().map(|(pack, directory)| (*pack, directory.frames_end())).collect(),
    }
}

/// The contents of the latest versions' layers, as their locators place them.
fn from_versions(store: &Store, artifact: &Artifact, list: &PackList) -> Result<Known, StoreError> {
    let mut versions = refs::versions(store, &artifact.app)?;
    versions.sort_by_key(|(_, reference)| std::cmp::Reverse(reference.seq));
    let mut places = Places::new();
    for (_, reference) in versions.iter().take(BASES_MAX) {
        let Ok(base) = fetch::artifact(store, &reference.artifact()) else { continue };
        for layer in base.layers.iter().filter(|layer| !layer.is_env()) {
            let Ok(tree) = fetch::tree(store, &layer.tree) else { continue };
            places.extend(fetch::places_of(store, &tree, layer.tree)?);
        }
    }
    Ok(Known { places, pack_bytes: list.packs.iter().copied().collect() })
}
