//! What a store has already: all its indexes while they are small, else those of the app's own versions.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::reuse::Known;
use crate::digest::PackId;
use crate::error::StoreError;
use crate::fetch::{self, PackList};
use crate::layout;
use crate::limits::INDEX_BYTES_MAX;
use crate::locator::{PackFrame, Places, places_in};
use crate::name::Name;
use crate::refs;
use crate::store::Store;
use crate::sweep::Condemned;

/// Earlier versions of an app that are compared when the store's indexes are too large to load.
const BASES_MAX: usize = 3;

/// What a store has for an artifact of `app`, as far as it matters to know it before the push. Nothing here is a
/// promise: a push looks again, and reads only the directories of the packs that are new since.
pub fn look(store: &Store, app: &Name) -> Result<Known, StoreError> {
    known(store, app, &Condemned::read(store)?, None)
}

/// What a store has; `before` is what an earlier look found.
pub(super) fn known(
    store: &Store,
    app: &Name,
    condemned: &Condemned,
    before: Option<&Known>,
) -> Result<Known, StoreError> {
    let mut list = fetch::packs(store)?;
    // What may be removed at any time is as good as gone.
    list.packs.retain(|(pack, _)| !condemned.has(&layout::pack(pack)));
    list.indexed
        .retain(|(pack, _)| !condemned.has(&layout::index(pack)) && !condemned.has(&layout::pack(pack)));
    let total: u64 = list.indexed.iter().map(|(_, bytes)| bytes).sum();
    let mut known = if total <= INDEX_BYTES_MAX {
        from_indexes(store, &list, before)
    } else {
        from_versions(store, app, &list)?
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

fn from_indexes(store: &Store, list: &PackList, before: Option<&Known>) -> Known {
    let mut known = before.cloned().unwrap_or_default();
    let listed: HashSet<PackId> = list.indexed.iter().map(|(pack, _)| *pack).collect();
    known.read.retain(|pack| listed.contains(pack));
    known.pack_bytes.retain(|pack, _| known.read.contains(pack));
    known.places.retain(|_, place| place.frames.iter().all(|frame| known.read.contains(&frame.pack)));
    let read = |pack: &PackId| match fetch::of_pack(store, pack) {
        Ok(directory) => Some((*pack, directory)),
        Err(error) => {
            tracing::warn!(%error, "a pack's contents are uploaded again where they are needed");
            None
        }
    };
    let new: Vec<PackId> = listed.difference(&known.read).copied().collect();
    let directories: Vec<_> = new.par_iter().filter_map(read).collect();
    for (pack, directory) in &directories {
        known.places.extend(places_in(*pack, directory));
        known.pack_bytes.insert(*pack, directory.frames_end());
        known.read.insert(*pack);
    }
    known
}

/// The contents of the latest versions' layers, as their locators place them.
fn from_versions(store: &Store, app: &Name, list: &PackList) -> Result<Known, StoreError> {
    let mut versions = refs::versions(store, app)?;
    versions.sort_by_key(|(_, reference)| std::cmp::Reverse(reference.seq));
    let mut places = Places::new();
    for (_, reference) in versions.iter().take(BASES_MAX) {
        let Ok(base) = fetch::artifact(store, &reference.artifact()) else { continue };
        for layer in base.layers.iter().filter(|layer| !layer.is_env()) {
            let Ok(tree) = fetch::tree(store, &layer.tree) else { continue };
            places.extend(fetch::places_of(store, &tree, layer.tree)?);
        }
    }
    Ok(Known { places, pack_bytes: list.packs.iter().copied().collect(), read: HashSet::new() })
}
