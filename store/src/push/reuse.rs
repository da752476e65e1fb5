//! Which contents of a layer need no upload: pure, from what the store has.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::digest::{BlobId, PackId};
use crate::limits::{LOCATOR_SPARE_PACKS_MAX, PACK_BYTES_TARGET};
use crate::locator::{PackFrame, Place, Places};

/// What a store is known to have.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub(super) places: Places,
    /// Bytes of each pack's frames.
    pub(super) pack_bytes: HashMap<PackId, u64>,
    /// The packs whose directories were read.
    pub(super) read: HashSet<PackId>,
}

impl Known {
    /// The contents.
    pub fn contents(&self) -> impl Iterator<Item = BlobId> {
        self.places.keys().copied()
    }
}

/// The places of `blobs` that are worth reusing. Those left out are to be uploaded again.
///
/// A layer patched together from many packs, or from packs of which it needs little, is slow to fetch. So a
/// locator names at most [`LOCATOR_SPARE_PACKS_MAX`] packs beside those that its bytes would fill, and at
/// least half of the bytes of the packs it reuses are its own; the packs with the least of it are given up.
pub(super) fn reusable(blobs: &[(BlobId, u64)], known: &Known) -> Places {
    let mut found: Places = blobs
        .iter()
        .filter_map(|(blob, size)| {
            Some((*blob, known.places.get(blob).filter(|place| holds(place, *size))?.clone()))
        })
        .collect();
    let mut live = live_bytes(&found);
    while is_scattered(&live, known) {
        let Some(least) = live.iter().min_by_key(|(pack, bytes)| (**bytes, **pack)).map(|(pack, _)| *pack)
        else {
            break;
        };
        live.remove(&least);
        found.retain(|_, place| place.frames.iter().all(|frame| frame.pack != least));
    }
    found
}

/// Whether a place is as large as the content it claims to hold.
fn holds(place: &Place, size: u64) -> bool {
    let raw: u64 = place.frames.iter().map(|frame| u64::from(frame.frame.raw)).sum();
    u64::from(place.offset) + size <= raw
}

fn live_bytes(places: &Places) -> BTreeMap<PackId, u64> {
    let frames: HashSet<PackFrame> = places.values().flat_map(|place| place.frames.iter().copied()).collect();
    let mut live = BTreeMap::new();
    for frame in frames {
        *live.entry(frame.pack).or_default() += u64::from(frame.frame.stored);
    }
    live
}

fn is_scattered(live: &BTreeMap<PackId, u64>, known: &Known) -> bool {
    let used: u64 = live.values().sum();
    let whole: u64 = live.keys().filter_map(|pack| known.pack_bytes.get(pack)).sum();
    let packs_max = LOCATOR_SPARE_PACKS_MAX as u64 + used / PACK_BYTES_TARGET;
    live.len() as u64 > packs_max || whole > used * 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::pack::Frame;

    const MIB: u64 = 1 << 20;

    /// `packs[i]` = (bytes of the pack, bytes of it that the layer needs).
    fn scene(packs: &[(u64, u64)]) -> (Vec<(BlobId, u64)>, Known) {
        let mut known = Known::default();
        let mut blobs = Vec::new();
        for (index, (whole, live)) in packs.iter().enumerate() {
            let pack = PackId(Digest::from_bytes([index as u8; 32]));
            let blob = BlobId::of(&[index as u8]);
            let frame = Frame { offset: 0, stored: *live as u32, raw: 100 };
            known.pack_bytes.insert(pack, *whole);
            known.places.insert(blob, Place { frames: [PackFrame { pack, frame }].into(), offset: 0 });
            blobs.push((blob, 100));
        }
        (blobs, known)
    }

    fn reused(packs: &[(u64, u64)]) -> usize {
        let (blobs, known) = scene(packs);
        reusable(&blobs, &known).len()
    }

    #[test]
    fn a_layer_reuses_packs_that_are_mostly_its_own() {
        assert_eq!(reused(&[(32 * MIB, 30 * MIB), (MIB, MIB)]), 2);
    }

    #[test]
    fn a_scrap_of_a_large_pack_is_uploaded_again() {
        assert_eq!(reused(&[(32 * MIB, 1000)]), 0);
    }

    #[test]
    fn the_ninth_small_pack_makes_the_smallest_ones_be_rewritten() {
        assert_eq!(reused(&[(MIB, MIB); 8]), 8);
        assert_eq!(reused(&[(MIB, MIB); 9]), 8);
    }

    #[test]
    fn a_large_layer_may_have_as_many_packs_as_it_fills() {
        assert_eq!(reused(&[(32 * MIB, 32 * MIB); 40]), 40);
    }

    #[test]
    fn a_place_too_small_for_its_content_is_not_believed() {
        let (mut blobs, known) = scene(&[(MIB, MIB)]);
        blobs[0].1 = 101;
        assert!(reusable(&blobs, &known).is_empty());
    }
}
