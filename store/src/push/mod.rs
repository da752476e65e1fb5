//! Pushing: into a store, only what it lacks, in an order in which everything that an object refers to is
//! durable before it: packs, their `.idx`, tree, locator, deltas, hints, artifact, version. The artifact is
//! the commit point; a push that dies before leaves objects that nothing names, and a later one finds and
//! uses them.
//!
//! A push runs under a lease ([`crate::lease`]), so that nothing is collected meanwhile, and on top of it
//! relies on nothing that is condemned: what a tombstone names counts as gone and is written anew. Tombstones
//! are read as it begins and again before the artifact is written; if a new one names what this push found in
//! the store, it begins again, and what it has stored so far is found.

mod copy;
mod delta;
mod heal;
mod known;
mod reuse;
mod stream;

use std::collections::HashSet;
use std::time::Duration;

pub use self::copy::copy;
pub use self::delta::{Deltas, PushedDelta};
pub use self::heal::{Healed, Healer};
pub use self::known::look;
pub use self::reuse::Known;
use self::reuse::reusable;
pub(crate) use self::stream::{Stream, StreamError};
use crate::artifact::{Artifact, Layer};
use crate::backend::{Access, Key, Put};
use crate::blob::BlobSource;
use crate::digest::{ArtifactId, BlobId, PackId, TreeId};
use crate::error::StoreError;
use crate::fetch::Watch;
use crate::inflate::deflate;
use crate::layout;
use crate::lease::{self, Claim, Pace};
use crate::limits::{ARTIFACT_BYTES_MAX, RECORD_BYTES_MAX, TREE_BYTES_MAX};
use crate::locator::{self, Places, places_in, stored_blobs};
use crate::name::Name;
use crate::pack::Written;
use crate::refs::{self, Provenance};
use crate::segments;
use crate::store::Store;
use crate::sweep::Condemned;
use crate::tree::{Entry, Kind, Tree};

/// Tries of one push; each but the first is the doing of a collection that condemned what the push relied on.
const TRIES_MAX: usize = 10;
/// A younger artifact or version needs no renewal: no collection condemns anything of this age.
const YOUNG: Duration = Duration::from_secs(3600);

/// The zstd level of packs and trees unless another is asked for.
pub const LEVEL: i32 = 3;

/// A layer's content: its tree, and where its files' contents can be read.
#[derive(Clone, Copy)]
pub struct LayerContent<'a> {
    /// The tree's id.
    pub id: TreeId,
    /// The tree.
    pub tree: &'a Tree,
    /// Its contents.
    pub source: &'a dyn BlobSource,
}

/// How to push.
#[derive(Clone)]
pub struct PushOptions<'a> {
    /// The zstd level.
    pub level: i32,
    /// Whether a version may be given to another artifact.
    pub move_version: bool,
    /// What is written beside the version.
    pub provenance: Provenance,
    /// What [`look`] found in the store; absent: nobody looked.
    pub known: Option<&'a Known>,
    /// From what deltas are made; absent: none are.
    pub deltas: Option<Deltas<'a>>,
    /// Who watches. Only [`copy`] tells how far it is, in packs and their stored bytes.
    pub watch: Watch<'a>,
    /// How long the lease lasts.
    pub pace: Pace<'a>,
}

impl Default for PushOptions<'_> {
    fn default() -> Self {
        Self {
            level: LEVEL,
            move_version: false,
            provenance: Provenance::default(),
            known: None,
            deltas: None,
            watch: Watch::NOBODY,
            pace: Pace::REAL,
        }
    }
}

/// What a push did for one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedLayer {
    /// Its name.
    pub name: Name,
    /// Its environment, if it is for one.
    pub environment: Option<Name>,
    /// Its tree.
    pub tree: TreeId,
    /// Bytes of the contents that had to be stored, uncompressed.
    pub new_bytes: u64,
}

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushReport {
    /// The artifact, now in the store.
    pub artifact: ArtifactId,
    /// Bytes written to the store, compressed, with all directories, trees and locators.
    pub stored_bytes: u64,
    /// Objects that were written.
    pub uploaded: u64,
    /// Each layer, in the artifact's order.
    pub layers: Vec<PushedLayer>,
    /// Deltas that were made.
    pub deltas: Vec<PushedDelta>,
    /// Whether the store had the artifact already.
    pub existed: bool,
}

/// Stores an artifact with its layers. `layers` holds the content of every layer of `artifact`, in any order.
pub fn push(
    store: &Store,
    artifact: &Artifact,
    layers: &[LayerContent<'_>],
    options: &PushOptions<'_>,
) -> Result<PushReport, StoreError> {
    under_lease(store, options, |lease, condemned| {
        Push::new(store, artifact, options, lease, condemned)?.run(layers)
    })
}

/// What became of one try.
enum Try {
    Done(PushReport),
    /// What it found in the store was condemned meanwhile.
    Condemned,
}

/// Tries until nothing that a try relied on was condemned under it; each further try is a tombstone's doing.
fn under_lease(
    store: &Store,
    options: &PushOptions<'_>,
    attempt: impl Fn(&Claim<'_>, Condemned) -> Result<Try, StoreError>,
) -> Result<PushReport, StoreError> {
    store.check_writable()?;
    let lease = Claim::lease(store, "push", options.pace)?;
    lease::wait_for_sweeps(&lease, options.watch.cancel)?;
    for _ in 0..TRIES_MAX {
        if let Try::Done(report) = attempt(&lease, Condemned::read(store)?)? {
            return Ok(report);
        }
    }
    Err(StoreError::Condemned { at: store.location() })
}

struct Push<'a> {
    store: &'a Store,
    lease: &'a Claim<'a>,
    condemned: Condemned,
    /// What the artifact relies on: trees, locators, packs.
    relied_on: HashSet<Key>,
    artifact: &'a Artifact,
    id: ArtifactId,
    options: &'a PushOptions<'a>,
    /// The store that contents come from, if it is not files.
    from: Option<&'a Store>,
    /// What the store has; loaded when the first layer needs it.
    known: Option<Known>,
    stored_bytes: u64,
    uploaded: u64,
}

impl<'a> Push<'a> {
    fn new(
        store: &'a Store,
        artifact: &'a Artifact,
        options: &'a PushOptions<'a>,
        lease: &'a Claim<'a>,
        condemned: Condemned,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            store,
            lease,
            condemned,
            relied_on: HashSet::new(),
            artifact,
            id: artifact.id()?,
            options,
            from: None,
            known: None,
            stored_bytes: 0,
            uploaded: 0,
        })
    }

    fn run(mut self, contents: &[LayerContent<'_>]) -> Result<Try, StoreError> {
        refs::check_version(self.store, self.artifact, self.id, self.options.move_version)?;
        let existed = self.store.backend().size(&layout::artifact(&self.id))?.is_some();
        let mut layers = Vec::new();
        for layer in &self.artifact.layers {
            let content = contents.iter().find(|content| content.id == layer.tree).ok_or_else(|| {
                StoreError::Layer { layer: layer.name.to_string(), why: "its content was not given" }
            })?;
            layers.push(self.push_layer(layer, content)?);
            self.lease.keep()?;
        }
        let deltas = self.put_deltas(contents)?;
        if !self.condemned.learn(self.store)?.is_disjoint(&self.relied_on) {
            return Ok(Try::Condemned);
        }
        self.lease.check()?;
        self.put_artifact(existed)?;
        // If this machine slept since the check, a collection may have gone by without seeing the artifact.
        self.lease.check()?;
        let version = refs::write_version(
            self.store,
            self.artifact,
            self.id,
            self.options.move_version,
            &self.options.provenance,
        )?;
        if let Some(key) = version {
            self.renew(&key, RECORD_BYTES_MAX)?;
        }
        Ok(Try::Done(PushReport {
            artifact: self.id,
            stored_bytes: self.stored_bytes,
            uploaded: self.uploaded,
            layers,
            deltas,
            existed,
        }))
    }

    /// The commit point. One that was there may be damaged, or old enough to be condemned at any time.
    fn put_artifact(&mut self, existed: bool) -> Result<(), StoreError> {
        let (key, bytes) = (layout::artifact(&self.id), self.artifact.encode()?);
        if !existed {
            return self.put(&key, &bytes, Access::Public);
        }
        let whole =
            self.store.backend().find(&key, ARTIFACT_BYTES_MAX as u64)?.is_some_and(|old| old == bytes);
        if whole && !self.condemned.has(&key) {
            return self.renew(&key, ARTIFACT_BYTES_MAX as u64);
        }
        self.store.backend().overwrite(&key, &bytes, Access::Public)?;
        self.stored_bytes += bytes.len() as u64;
        self.uploaded += 1;
        Ok(())
    }

    /// Lets the age of a small object begin now, unless it did a moment ago: young ones are not condemned.
    fn renew(&self, key: &Key, max: u64) -> Result<(), StoreError> {
        let backend = self.store.backend();
        let listed = backend.list(&key.parent().unwrap_or_else(|| key.clone()))?;
        let Some(item) = listed.into_iter().find(|item| item.key == *key) else { return Ok(()) };
        let age = backend.now()?.duration_since(item.modified).unwrap_or_default();
        if age < YOUNG && !self.condemned.has(key) {
            return Ok(());
        }
        match backend.find(key, max)? {
            Some(bytes) => Ok(backend.replace(key, &bytes)?),
            None => Ok(()),
        }
    }

    fn push_layer(&mut self, layer: &Layer, content: &LayerContent<'_>) -> Result<PushedLayer, StoreError> {
        let mut pushed = PushedLayer {
            name: layer.name.clone(),
            environment: layer.environment.clone(),
            tree: layer.tree,
            new_bytes: 0,
        };
        // A tree without its locator is a push that died between the two, or a locator that was lost.
        let (tree, locator) = (layout::tree(&layer.tree), layout::locator(&layer.tree));
        let has = self.has(&tree)? && self.has(&locator)?;
        self.relied_on.extend([tree, locator]);
        if has {
            return Ok(pushed);
        }
        let access = if layer.is_env() { Access::Private } else { Access::Public };
        let blobs = stored_blobs(content.tree);
        let mut places = match access {
            Access::Public => reusable(&blobs, self.known()?),
            // Secrets are neither found in other layers' packs nor by them.
            Access::Private => Places::new(),
        };
        let missing: Vec<_> = blobs.into_iter().filter(|(blob, _)| !places.contains_key(blob)).collect();
        pushed.new_bytes = missing.iter().map(|(_, size)| size).sum();
        let (packs, stored) = std::thread::scope(|scope| {
            // Nothing of it depends on the packs, and writing those leaves processors idle.
            let tree = scope.spawn(|| StoredTree::of(content, self.options.level, access));
            let packs = self.pack(layer, content, &missing, access);
            (packs, tree.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (packs, stored) = (packs?, stored?);
        self.learn(&packs, access);
        places.extend(packs.iter().flat_map(|pack| places_in(pack.id, &pack.directory)));
        let packs = places.values().flat_map(|place| place.frames.iter()).map(|frame| frame.pack);
        let packs: HashSet<PackId> = packs.collect();
        self.relied_on.extend(packs.iter().flat_map(|pack| [layout::pack(pack), layout::index(pack)]));
        self.put_tree(content, &stored, &places, access)?;
        Ok(pushed)
    }

    fn known(&mut self) -> Result<&mut Known, StoreError> {
        if self.known.is_none() {
            self.known =
                Some(known::known(self.store, &self.artifact.app, &self.condemned, self.options.known)?);
        }
        Ok(self.known.get_or_insert_default())
    }

    fn pack(
        &self,
        layer: &Layer,
        content: &LayerContent<'_>,
        missing: &[(BlobId, u64)],
        access: Access,
    ) -> Result<Vec<Written>, StoreError> {
        let stream = Stream {
            store: self.store,
            source: content.source,
            blobs: missing,
            access,
            level: self.options.level,
            watch: self.options.watch,
            lease: self.lease,
            condemned: &self.condemned,
        };
        stream.run().map_err(|error| self.explain(layer, content.tree, error))
    }

    /// Names the layer and the path of what went wrong.
    fn explain(&self, layer: &Layer, tree: &Tree, error: StreamError) -> StoreError {
        let path = |blob| path_of(tree, blob);
        let layer = layer.name.to_string();
        match (error, self.from) {
            (StreamError::Store(error), _) => error,
            (StreamError::Changed(blob), None) => StoreError::Changed { layer, path: path(blob) },
            (StreamError::Source(blob, source), None) => {
                StoreError::Source { layer, path: path(blob), source }
            }
            (StreamError::Changed(blob), Some(from)) => {
                from.unavailable(blob, path(blob), 0, "the content does not match its id")
            }
            (StreamError::Source(blob, source), Some(from)) => from.unavailable(blob, path(blob), 0, source),
        }
    }

    /// Later layers find what this one stored.
    fn learn(&mut self, packs: &[Written], access: Access) {
        for pack in packs {
            self.stored_bytes += pack.size;
            self.uploaded += 1;
            if access == Access::Private {
                continue;
            }
            self.stored_bytes += pack.index.len() as u64;
            self.uploaded += 1;
            if let Some(known) = &mut self.known {
                known.pack_bytes.insert(pack.id, pack.directory.frames_end());
                for (blob, place) in places_in(pack.id, &pack.directory) {
                    known.places.entry(blob).or_insert(place);
                }
            }
        }
    }

    fn put_tree(
        &mut self,
        content: &LayerContent<'_>,
        stored: &StoredTree,
        places: &Places,
        access: Access,
    ) -> Result<(), StoreError> {
        if let Some(list) = &stored.segments {
            self.put_segments(content.id, &stored.bytes, list)?;
        } else {
            self.put(&layout::tree(&content.id), &stored.bytes, access)?;
        }
        let key = layout::locator(&content.id);
        let locator = locator::encode(content.tree, content.id, 1, places)
            .map_err(|error| self.store.damaged(&key, error))?;
        self.store.backend().replace(&key, &locator)?;
        self.stored_bytes += locator.len() as u64;
        self.uploaded += 1;
        Ok(())
    }

    fn put_deltas(&mut self, contents: &[LayerContent<'_>]) -> Result<Vec<PushedDelta>, StoreError> {
        let Some(deltas) = self.options.deltas else { return Ok(Vec::new()) };
        let maker = delta::Maker {
            store: self.store,
            lease: self.lease,
            condemned: &self.condemned,
            near: self.from,
            artifact: self.artifact,
            id: self.id,
            deltas,
            contents,
            watch: self.options.watch,
        };
        // Hosts do without: what ails the store is found by what is written after this.
        let outcome = match maker.run() {
            Err(error) if !matches!(error, StoreError::Cancelled) => {
                tracing::warn!(%error, "no more deltas; hosts fetch packs");
                delta::Outcome::default()
            }
            outcome => outcome?,
        };
        self.stored_bytes += outcome.stored_bytes;
        self.uploaded += outcome.uploaded;
        Ok(outcome.made)
    }

    /// The list is of no use with the frames of another level or version, so it is written only beside its own.
    fn put_segments(&mut self, id: TreeId, stored: &[u8], list: &[u8]) -> Result<(), StoreError> {
        let key = layout::tree(&id);
        let backend = self.store.backend();
        let own = match backend.size(&key)? {
            None => true,
            Some(_) if self.condemned.has(&key) => true,
            Some(_) => backend.find(&key, TREE_BYTES_MAX as u64)?.is_none_or(|found| found == stored),
        };
        if own {
            self.put(&layout::segments(&id), list, Access::Public)?;
        }
        self.put(&key, stored, Access::Public)
    }

    /// Whether an object is there to stay.
    fn has(&self, key: &Key) -> Result<bool, StoreError> {
        Ok(!self.condemned.has(key) && self.store.backend().size(key)?.is_some())
    }

    fn put(&mut self, key: &Key, bytes: &[u8], access: Access) -> Result<(), StoreError> {
        let backend = self.store.backend();
        let put = if self.condemned.has(key) {
            backend.overwrite(key, bytes, access).map(|()| Put::Stored)
        } else {
            backend.put_new(key, bytes, access)
        };
        if put? == Put::Stored {
            self.stored_bytes += bytes.len() as u64;
            self.uploaded += 1;
        }
        Ok(())
    }
}

/// A tree as a store keeps it.
struct StoredTree {
    bytes: Vec<u8>,
    /// Where it is cut: the list of its segments.
    segments: Option<Vec<u8>>,
}

impl StoredTree {
    fn of(content: &LayerContent<'_>, level: i32, access: Access) -> Result<Self, StoreError> {
        let text = content.tree.encode();
        if access == Access::Public && segments::in_segments(content.tree.files()) {
            let (bytes, list) = segments::encode(&text, content.id, level).map_err(StoreError::Compress)?;
            return Ok(Self { bytes, segments: Some(list) });
        }
        let bytes = deflate(&text, level).map_err(StoreError::Compress)?;
        Ok(Self { bytes, segments: None })
    }
}

/// The first file with a content, for messages.
fn path_of(tree: &Tree, blob: BlobId) -> String {
    let holds = |entry: &&Entry| matches!(entry.kind, Kind::File { blob: own, .. } if own == blob);
    tree.entries().iter().find(holds).map_or_else(|| blob.to_string(), |entry| entry.path.to_string())
}
