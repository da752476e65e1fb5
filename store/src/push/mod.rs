//! Pushing: into a store, only what it lacks, in an order in which everything that an object refers to is
//! durable before it: packs, their `.idx`, tree, locator, artifact, version. The artifact is the commit
//! point; a push that dies before leaves objects that nothing names, and a later one finds and uses them.

mod copy;
mod known;
mod reuse;
mod stream;

pub use self::copy::copy;
use self::reuse::{Known, reusable};
use self::stream::{Stream, StreamError};
use crate::artifact::{Artifact, Layer};
use crate::backend::{Access, Key, Put};
use crate::blob::BlobSource;
use crate::digest::{ArtifactId, BlobId, TreeId};
use crate::error::StoreError;
use crate::fetch::Watch;
use crate::inflate::deflate;
use crate::layout;
use crate::limits::TREE_BYTES_MAX;
use crate::locator::{self, Places, places_in, stored_blobs};
use crate::name::Name;
use crate::pack::Written;
use crate::refs::{self, Provenance};
use crate::segments;
use crate::store::Store;
use crate::tree::{Entry, Kind, Tree};

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
    /// Who watches.
    pub watch: Watch<'a>,
}

impl Default for PushOptions<'_> {
    fn default() -> Self {
        Self { level: LEVEL, move_version: false, provenance: Provenance::default(), watch: Watch::NOBODY }
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
    Push::new(store, artifact, options)?.run(layers)
}

struct Push<'a> {
    store: &'a Store,
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
    ) -> Result<Self, StoreError> {
        store.check_writable()?;
        let id = artifact.id()?;
        Ok(Self { store, artifact, id, options, from: None, known: None, stored_bytes: 0, uploaded: 0 })
    }

    fn run(mut self, contents: &[LayerContent<'_>]) -> Result<PushReport, StoreError> {
        refs::check_version(self.store, self.artifact, self.id, self.options.move_version)?;
        // A lease belongs here, and the list of sweeps after it, once stores are collected: nothing is ever
        // deleted now, so there is nothing to be protected from.
        let existed = self.has(&layout::artifact(&self.id))?;
        let mut layers = Vec::new();
        for layer in &self.artifact.layers {
            let content = contents.iter().find(|content| content.id == layer.tree).ok_or_else(|| {
                StoreError::Layer { layer: layer.name.to_string(), why: "its content was not given" }
            })?;
            layers.push(self.push_layer(layer, content)?);
        }
        self.put(&layout::artifact(&self.id), &self.artifact.encode()?, Access::Public)?;
        refs::write_version(
            self.store,
            self.artifact,
            self.id,
            self.options.move_version,
            &self.options.provenance,
        )?;
        Ok(PushReport {
            artifact: self.id,
            stored_bytes: self.stored_bytes,
            uploaded: self.uploaded,
            layers,
            existed,
        })
    }

    fn push_layer(&mut self, layer: &Layer, content: &LayerContent<'_>) -> Result<PushedLayer, StoreError> {
        let mut pushed = PushedLayer {
            name: layer.name.clone(),
            environment: layer.environment.clone(),
            tree: layer.tree,
            new_bytes: 0,
        };
        // A tree without its locator is a push that died between the two, or a locator that was lost.
        if self.has(&layout::tree(&layer.tree))? && self.has(&layout::locator(&layer.tree))? {
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
        let packs = self.pack(layer, content, &missing, access)?;
        self.learn(&packs, access);
        places.extend(packs.iter().flat_map(|pack| places_in(pack.id, &pack.directory)));
        self.put_tree(content, &places, access)?;
        Ok(pushed)
    }

    fn known(&mut self) -> Result<&mut Known, StoreError> {
        if self.known.is_none() {
            self.known = Some(known::known(self.store, self.artifact)?);
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
        places: &Places,
        access: Access,
    ) -> Result<(), StoreError> {
        let text = content.tree.encode();
        if access == Access::Public && segments::in_segments(content.tree.files()) {
            self.put_segments(content.id, &text)?;
        } else {
            let tree = deflate(&text, self.options.level).map_err(StoreError::Compress)?;
            self.put(&layout::tree(&content.id), &tree, access)?;
        }
        let key = layout::locator(&content.id);
        let locator = locator::encode(content.tree, content.id, 1, places)
            .map_err(|error| self.store.damaged(&key, error))?;
        self.store.backend().replace(&key, &locator)?;
        self.stored_bytes += locator.len() as u64;
        self.uploaded += 1;
        Ok(())
    }

    /// The list is of no use with the frames of another level or version, so it is written only beside its own.
    fn put_segments(&mut self, id: TreeId, text: &[u8]) -> Result<(), StoreError> {
        let (stored, list) = segments::encode(text, id, self.options.level).map_err(StoreError::Compress)?;
        let key = layout::tree(&id);
        let backend = self.store.backend();
        let own = match backend.size(&key)? {
            None => true,
            Some(_) => backend.find(&key, TREE_BYTES_MAX as u64)?.is_none_or(|found| found == stored),
        };
        if own {
            self.put(&layout::segments(&id), &list, Access::Public)?;
        }
        self.put(&key, &stored, Access::Public)
    }

    fn has(&self, key: &Key) -> Result<bool, StoreError> {
        Ok(self.store.backend().size(key)?.is_some())
    }

    fn put(&mut self, key: &Key, bytes: &[u8], access: Access) -> Result<(), StoreError> {
        if self.store.backend().put_new(key, bytes, access)? == Put::Stored {
            self.stored_bytes += bytes.len() as u64;
            self.uploaded += 1;
        }
        Ok(())
    }
}

/// The first file with a content, for messages.
fn path_of(tree: &Tree, blob: BlobId) -> String {
    let holds = |entry: &&Entry| matches!(entry.kind, Kind::File { blob: own, .. } if own == blob);
    tree.entries().iter().find(holds).map_or_else(|| blob.to_string(), |entry| entry.path.to_string())
}
