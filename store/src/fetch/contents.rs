//! Contents by locators: the ranges they give, then what a newer locator gives, then the packs' own directories.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::ask::{each, find};
use super::directories::{of_pack, packs};
use super::objects::read_checked;
use super::read::{Counters, Miss, Reader};
use super::{FetchReport, Progress, Watch};
use crate::backend::BackendError;
use crate::blob::{BlobSink, Want};
use crate::digest::{BlobId, PackId, TreeId};
use crate::error::StoreError;
use crate::layout;
use crate::limits::LOCATOR_RAW_BYTES_MAX;
use crate::locator::{self, Place, Places};
use crate::store::Store;
use crate::tree::{Kind, Tree};

/// A tree whose contents are wanted, and its locator as it was read.
pub(super) struct Located<'a> {
    pub(super) tree: &'a Tree,
    pub(super) id: TreeId,
    pub(super) locator: Option<Vec<u8>>,
}

/// Which contents are missing, and what was when the fetch began.
pub(super) struct Missing {
    pub(super) wants: Vec<Want>,
    pub(super) total: Progress,
}

impl Missing {
    pub(super) fn new(wants: Vec<Want>) -> Self {
        let total = Progress {
            blobs_total: wants.len() as u64,
            bytes_total: wants.iter().map(|want| want.size).sum(),
            ..Progress::default()
        };
        Self { wants, total }
    }
}

/// Brings what is missing of these trees. What arrived stays when it fails.
pub(super) fn bring(
    store: &Store,
    located: &[Located<'_>],
    mut missing: Missing,
    sink: &dyn BlobSink,
    watch: &Watch<'_>,
) -> Result<FetchReport, StoreError> {
    let counters = Counters::default();
    keep_empty(&mut missing.wants, sink, &counters)?;
    let reader = Reader { backend: store.backend(), sink, watch, counters: &counters, total: missing.total };
    let search = Search { store, located, reader: &reader };
    search.bring(&missing.wants)?;
    Ok(FetchReport {
        bytes_moved: counters.moved.load(Ordering::Relaxed),
        blobs: counters.blobs.load(Ordering::Relaxed),
        frames: counters.frames.load(Ordering::Relaxed),
    })
}

/// Bytes of packs that hold these contents, as the locators say; of one that no locator knows, its own bytes.
pub(super) fn stored_bytes(store: &Store, located: &[Located<'_>], wants: &[Want]) -> u64 {
    let places = places(store, located, &blobs(wants));
    let mut frames = HashSet::new();
    let mut unlocated = 0;
    for want in wants.iter().filter(|want| want.size > 0) {
        match places.get(&want.blob) {
            Some(place) => frames.extend(place.frames.iter().map(|frame| (frame.pack, frame.frame))),
            None => unlocated += want.size,
        }
    }
    frames.iter().map(|(_, frame)| u64::from(frame.stored)).sum::<u64>() + unlocated
}

/// The empty content is in no pack.
pub(super) fn keep_empty(
    missing: &mut Vec<Want>,
    sink: &dyn BlobSink,
    counters: &Counters,
) -> Result<(), StoreError> {
    for want in missing.extract_if(.., |want| want.size == 0) {
        let put = sink.put(&want, &mut std::io::empty());
        put.map_err(|source| StoreError::Sink { blob: want.blob, source })?;
        counters.blobs.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The locators of trees; none where there is none.
pub(super) fn locators(
    store: &Store,
    trees: &[TreeId],
    watch: &Watch<'_>,
) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
    let ask = |id: &TreeId| find(store.backend(), &layout::locator(id), LOCATOR_RAW_BYTES_MAX as u64, watch);
    each(store.backend(), trees, ask).into_iter().collect()
}

/// The places that locators give for what is wanted.
fn places(store: &Store, located: &[Located<'_>], wanted: &HashSet<BlobId>) -> Places {
    let mut places = Places::new();
    for Located { tree, id, locator } in located {
        let lacks = |(blob, _): (BlobId, u64)| wanted.contains(&blob) && !places.contains_key(&blob);
        let Some(bytes) = locator.as_ref().filter(|_| tree.blobs().any(lacks)) else { continue };
        match locator::decode(bytes, tree, *id) {
            Ok(mut found) => {
                found.retain(|blob, _| wanted.contains(blob));
                if places.is_empty() {
                    places = found;
                } else {
                    places.extend(found);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "asking for it again");
                store.backend().mistrust(&layout::locator(id));
            }
        }
    }
    places
}

/// The places a tree's locator gives; none if it is missing, or unusable twice.
pub(crate) fn places_of(store: &Store, tree: &Tree, id: TreeId) -> Result<Places, StoreError> {
    let decode = |bytes: Vec<u8>| locator::decode(&bytes, tree, id).map_err(|error| error.to_string());
    match read_checked(store, &layout::locator(&id), LOCATOR_RAW_BYTES_MAX, decode) {
        Ok(Ok(places)) => Ok(places),
        Ok(Err(why)) => {
            tracing::warn!(why, "looking into the packs' directories instead");
            Ok(Places::new())
        }
        Err(BackendError::NotFound { .. }) => Ok(Places::new()),
        Err(error) => Err(error.into()),
    }
}

struct Search<'a> {
    store: &'a Store,
    located: &'a [Located<'a>],
    reader: &'a Reader<'a>,
}

impl Search<'_> {
    fn bring(&self, wants: &[Want]) -> Result<(), StoreError> {
        let first = places(self.store, self.located, &blobs(wants));
        let (here, lost): (Vec<&Want>, Vec<&Want>) =
            wants.iter().partition(|want| first.contains_key(&want.blob));
        let mut misses = self.reader.read_at(&here, &first)?;
        misses
            .extend(lost.into_iter().map(|want| Miss { want: *want, why: "no locator names it".to_owned() }));
        let mut tried = vec![first];
        if !misses.is_empty() {
            misses = self.by_newer_locators(misses, &mut tried)?;
        }
        if misses.is_empty() { Ok(()) } else { self.by_directories(misses, &tried) }
    }

    /// A locator may be from before its contents were packed anew, or have been damaged on its way.
    fn by_newer_locators(&self, misses: Vec<Miss>, tried: &mut Vec<Places>) -> Result<Vec<Miss>, StoreError> {
        let missed = blobs(misses.iter().map(|miss| &miss.want));
        let stale: Vec<&Located<'_>> = self
            .located
            .iter()
            .filter(|located| located.locator.is_some())
            .filter(|located| located.tree.blobs().any(|(blob, _)| missed.contains(&blob)))
            .collect();
        let again = |located: &&Located<'_>| places_of(self.store, located.tree, located.id);
        let mut newer = Places::new();
        for places in each(self.store.backend(), &stale, again) {
            newer.extend(places?.into_iter().filter(|(blob, _)| missed.contains(blob)));
        }
        let is_new = |miss: &Miss| {
            newer.get(&miss.want.blob).is_some_and(|place| !was_tried(tried, &miss.want.blob, place))
        };
        let (hopeful, mut lost): (Vec<Miss>, Vec<Miss>) = misses.into_iter().partition(is_new);
        let wants: Vec<&Want> = hopeful.iter().map(|miss| &miss.want).collect();
        lost.extend(self.reader.read_at(&wants, &newer)?);
        tried.push(newer);
        Ok(lost)
    }

    /// Tries every other place that any pack's directory gives.
    fn by_directories(&self, mut misses: Vec<Miss>, tried: &[Places]) -> Result<(), StoreError> {
        let mut others = self.other_places(&misses, tried)?;
        loop {
            let mut found = Places::new();
            for miss in &misses {
                // A content may be missed in two forms: both come from one place.
                let blob = miss.want.blob;
                if !found.contains_key(&blob)
                    && let Some(place) = others.get_mut(&blob).and_then(Vec::pop)
                {
                    found.insert(blob, place);
                }
            }
            if let Some(miss) = misses.iter().find(|miss| !found.contains_key(&miss.want.blob)) {
                return Err(self.unavailable(miss, misses.len()));
            }
            let wants: Vec<&Want> = misses.iter().map(|miss| &miss.want).collect();
            misses = self.reader.read_at(&wants, &found)?;
            if misses.is_empty() {
                return Ok(());
            }
        }
    }

    fn other_places(
        &self,
        misses: &[Miss],
        tried: &[Places],
    ) -> Result<HashMap<BlobId, Vec<Place>>, StoreError> {
        let wanted = misses.iter().map(|miss| (miss.want.blob, miss.want.size)).collect();
        other_places(self.store, &wanted, tried)
    }

    fn unavailable(&self, miss: &Miss, lost: usize) -> StoreError {
        let needs =
            |entry: &&crate::Entry| matches!(entry.kind, Kind::File { blob, .. } if blob == miss.want.blob);
        let mut files = self.located.iter().flat_map(|located| located.tree.entries()).filter(needs);
        let path = files.next().map_or_else(String::new, |entry| entry.path.to_string());
        let more = files.count() + lost.saturating_sub(1);
        self.store.unavailable(miss.want.blob, path, more, &miss.why)
    }
}

fn blobs<'a>(wants: impl IntoIterator<Item = &'a Want>) -> HashSet<BlobId> {
    wants.into_iter().map(|want| want.blob).collect()
}

fn was_tried(tried: &[Places], blob: &BlobId, place: &Place) -> bool {
    tried.iter().any(|places| places.get(blob) == Some(place))
}

/// Every place of these contents, with their sizes, that was not tried: as the directories say of all packs
/// of the store, or of those that the tried places name, where a store cannot be listed.
pub(super) fn other_places(
    store: &Store,
    wanted: &HashMap<BlobId, u64>,
    tried: &[Places],
) -> Result<HashMap<BlobId, Vec<Place>>, StoreError> {
    let mut ids: Vec<PackId> = packs(store)?.packs.into_iter().map(|(pack, _)| pack).collect();
    let named = tried.iter().flat_map(HashMap::values).flat_map(|place| place.frames.iter());
    ids.extend(named.map(|frame| frame.pack));
    ids.sort_unstable();
    ids.dedup();
    let mut others: HashMap<BlobId, Vec<Place>> = HashMap::new();
    // One after the other: each may take tens of mebibytes.
    for pack in &ids {
        let directory = match of_pack(store, pack) {
            Ok(directory) => directory,
            Err(error) => {
                tracing::warn!(%error, "cannot look into a pack");
                continue;
            }
        };
        let sizes = directory.objects().iter().map(|object| object.size);
        for ((blob, place), size) in locator::places_in(*pack, &directory).zip(sizes) {
            if wanted.get(&blob) == Some(&size) && !was_tried(tried, &blob, &place) {
                others.entry(blob).or_default().push(place);
            }
        }
    }
    Ok(others)
}
