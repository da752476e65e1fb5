//! From store to store: only what is missing, and every byte verified on the way.
//!
//! A pack of which the other store lacks most is copied as it is; of other packs the missing contents are
//! packed anew. An env layer's contents always are, so that its pack keeps its own rules.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};

use super::reuse::{Known, reusable};
use super::stream::put_pack;
use super::{LayerContent, Push, PushOptions, PushReport, Try, under_lease};
use crate::artifact::Layer;
use crate::backend::{Access, BackendError};
use crate::digest::{ArtifactId, Digest, PackId};
use crate::error::StoreError;
use crate::fetch::{self, Progress, StoreSource};
use crate::layout;
use crate::locator::{PackFrame, Places, places_in, stored_blobs};
use crate::pack::Directory;
use crate::refs;
use crate::store::Store;
use crate::tree::Tree;

pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// Copies an artifact with its layers and its version. `options.provenance` is not used: the version keeps
/// the one it has.
pub fn copy(
    id: &ArtifactId,
    from: &Store,
    to: &Store,
    options: &PushOptions<'_>,
) -> Result<PushReport, StoreError> {
    let artifact = fetch::artifact(from, id)?;
    let mut options = options.clone();
    if let Some(name) = refs::version_of(&artifact)
        && let Some(reference) = refs::version(from, &artifact.app, &name)?
    {
        options.provenance = reference.provenance;
    }
    under_lease(to, &options, |lease, condemned| {
        let mut push = Push::new(to, &artifact, &options, lease, condemned)?;
        push.from = Some(from);
        push.copy(from)
    })
}

impl Push<'_> {
    fn copy(mut self, from: &Store) -> Result<Try, StoreError> {
        refs::check_version(self.store, self.artifact, self.id, self.options.move_version)?;
        let artifact = self.artifact;
        let mut layers = Vec::new();
        for layer in &artifact.layers {
            layers.push(self.read_layer(from, layer)?);
        }
        let mut packs = BTreeMap::new();
        for (layer, (tree, source)) in artifact.layers.iter().zip(&layers) {
            if let (Some(source), false) = (source, layer.is_env()) {
                self.choose_packs(from, tree, source.places(), &mut packs)?;
            }
        }
        self.copy_packs(from, &packs)?;
        let contents: Vec<_> = artifact
            .layers
            .iter()
            .zip(&layers)
            .map(|(layer, (tree, source))| LayerContent {
                id: layer.tree,
                tree,
                source: source.as_ref().map_or(&Nothing, |source| source),
            })
            .collect();
        self.run(&contents)
    }

    /// A layer's tree, and its contents unless the other store has the layer.
    fn read_layer<'f>(
        &self,
        from: &'f Store,
        layer: &Layer,
    ) -> Result<(Tree, Option<StoreSource<'f>>), StoreError> {
        if self.has(&layout::tree(&layer.tree))? && self.has(&layout::locator(&layer.tree))? {
            return Ok((Tree::default(), None));
        }
        let tree = fetch::tree(from, &layer.tree)?;
        let source = StoreSource::new(from, &tree)?;
        Ok((tree, Some(source)))
    }

    /// The packs of a layer that are worth copying as they are.
    fn choose_packs(
        &mut self,
        from: &Store,
        tree: &Tree,
        places: &Places,
        chosen: &mut BTreeMap<PackId, Directory>,
    ) -> Result<(), StoreError> {
        for pack in mostly_missing(tree, places, self.known()?) {
            let directory = match fetch::of_pack(from, &pack) {
                Ok(directory) => directory,
                Err(error) => {
                    tracing::warn!(%error, "its contents are packed anew");
                    continue;
                }
            };
            let live = live_bytes(places, tree, pack);
            // Of a pack that serves other layers too, only the contents are taken.
            if live * 2 >= directory.frames_end() {
                chosen.insert(pack, directory);
            }
        }
        Ok(())
    }

    fn copy_packs(&mut self, from: &Store, packs: &BTreeMap<PackId, Directory>) -> Result<(), StoreError> {
        let mut far = Progress {
            blobs_total: packs.len() as u64,
            bytes_total: packs.values().map(Directory::frames_end).sum(),
            ..Progress::default()
        };
        for (pack, directory) in packs {
            self.copy_pack(from, *pack, directory, &mut far)?;
            far.blobs += 1;
        }
        Ok(())
    }

    fn copy_pack(
        &mut self,
        from: &Store,
        pack: PackId,
        directory: &Directory,
        far: &mut Progress,
    ) -> Result<(), StoreError> {
        let to = self.store.backend();
        let key = layout::pack(&pack);
        let failed = |source| BackendError::io("read", &key, from.location(), source);
        let mut upload = to.begin(Some(&layout::packs()), Access::Public)?;
        let mut reader = from.backend().read(&key, 0, u64::MAX)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut size = 0u64;
        loop {
            let count = reader.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            size += count as u64;
            upload
                .write_all(&buffer[..count])
                .map_err(|source| BackendError::io("write", &key, to.location(), source))?;
            far.bytes = far.bytes_total.min(far.bytes + count as u64);
            far.moved += count as u64;
            (self.options.watch.progress)(*far);
            self.lease.keep()?;
            if (self.options.watch.cancel)() {
                return Err(StoreError::Cancelled);
            }
        }
        if Digest::from(hasher.finalize()) != pack.0 {
            tracing::warn!(%pack, store = from.location(), "damaged; what is whole of it is packed anew");
            return Ok(());
        }
        let index = directory.encode().map_err(|error| from.damaged(layout::index(&pack), error))?;
        put_pack(self.store, upload, &pack, Some(&index), &self.condemned)?;
        self.stored_bytes += size + index.len() as u64;
        self.uploaded += 2;
        let known = self.known()?;
        known.pack_bytes.insert(pack, directory.frames_end());
        known.places.extend(places_in(pack, directory));
        Ok(())
    }
}

/// The source of a layer that the other store has: nothing is read from it.
struct Nothing;

impl crate::blob::BlobSource for Nothing {
    fn open(&self, _blob: &crate::digest::BlobId, _size: u64) -> std::io::Result<Box<dyn Read + '_>> {
        Err(std::io::Error::other("the layer was there a moment ago"))
    }
}

/// The packs in which most of what the layer has is missing in the other store.
fn mostly_missing(tree: &Tree, places: &Places, known: &Known) -> Vec<PackId> {
    let blobs = stored_blobs(tree);
    let reused = reusable(&blobs, known);
    let mut bytes: BTreeMap<PackId, (u64, u64)> = BTreeMap::new();
    for (blob, size) in &blobs {
        let Some(pack) = places.get(blob).and_then(|place| place.frames.first()).map(|frame| frame.pack)
        else {
            continue;
        };
        let (missing, all) = bytes.entry(pack).or_default();
        *all += size;
        *missing += if reused.contains_key(blob) { 0 } else { *size };
    }
    bytes.into_iter().filter(|(_, (missing, all))| missing * 2 >= *all).map(|(pack, _)| pack).collect()
}

/// Bytes of the frames of a pack that a tree needs.
fn live_bytes(places: &Places, tree: &Tree, pack: PackId) -> u64 {
    let blobs = stored_blobs(tree);
    let frames = blobs.iter().filter_map(|(blob, _)| places.get(blob)).flat_map(|place| place.frames.iter());
    let frames: HashSet<&PackFrame> = frames.filter(|frame| frame.pack == pack).collect();
    frames.into_iter().map(|frame| u64::from(frame.frame.stored)).sum()
}
