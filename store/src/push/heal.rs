//! What a store already has of an artifact, read in full and put right from another store that has it whole.
//!
//! Nothing here has to succeed for a copy to be right: what cannot be put right in place is taken away, and the
//! copy that follows stores it anew.

use std::collections::HashSet;
use std::io::{Read, Write};

use super::copy::CHUNK_BYTES;
use crate::artifact::Layer;
use crate::backend::{Access, BackendError, Key};
use crate::delta::Hints;
use crate::digest::{ArtifactId, PackId};
use crate::error::StoreError;
use crate::fetch::{self, Watch};
use crate::inflate::deflate;
use crate::layout;
use crate::limits::{HINTS_BYTES_MAX, LOCATOR_RAW_BYTES_MAX};
use crate::locator::{self, stored_blobs};
use crate::object::{ObjectKind, Unfit};
use crate::push::LEVEL;
use crate::store::Store;

/// What a look at a store's objects came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healed {
    /// Objects that were read.
    pub checked: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that were not what their keys say: put right, or removed for the next copy to store again.
    pub damaged: Vec<Key>,
}

/// Reads the objects of artifacts in `to`, and puts right from `from` what is damaged. Each object is read once,
/// however many artifacts need it.
pub struct Healer<'a> {
    from: &'a Store,
    to: &'a Store,
    watch: Watch<'a>,
    seen: HashSet<Key>,
    healed: Healed,
}

impl<'a> Healer<'a> {
    /// From one store to another.
    pub fn new(from: &'a Store, to: &'a Store, watch: Watch<'a>) -> Self {
        Self { from, to, watch, seen: HashSet::new(), healed: Healed::default() }
    }

    /// What was done so far.
    pub fn done(self) -> Healed {
        self.healed
    }

    /// Reads everything that `to` has of an artifact. What it lacks is for the copy to bring.
    pub fn heal(&mut self, id: &ArtifactId) -> Result<(), StoreError> {
        let artifact = fetch::artifact(self.from, id)?;
        if self.is_damaged(&ObjectKind::Artifact(*id))? {
            self.to.backend().overwrite(&layout::artifact(id), &artifact.encode()?, Access::Public)?;
        }
        artifact.layers.iter().try_for_each(|layer| self.heal_layer(layer))?;
        self.heal_deltas(id, &artifact.layers)
    }

    /// Only their form can be seen to be wrong. Then they go: without them packs give the same.
    fn heal_deltas(&mut self, id: &ArtifactId, layers: &[Layer]) -> Result<(), StoreError> {
        let key = layout::hints(id);
        if self.is_damaged(&ObjectKind::Hints(*id))? {
            return self.remove(&key);
        }
        let Some(bytes) = self.to.backend().find(&key, HINTS_BYTES_MAX)? else { return Ok(()) };
        let hints = Hints::decode(&bytes);
        for layer in layers {
            for base in hints.to(&layer.tree) {
                if self.is_damaged(&ObjectKind::Delta(layer.tree, base.tree))? {
                    self.remove(&layout::delta(&layer.tree, &base.tree))?;
                }
            }
        }
        Ok(())
    }

    fn heal_layer(&mut self, layer: &Layer) -> Result<(), StoreError> {
        let (tree, access) = (fetch::tree(self.from, &layer.tree)?, access_of(layer));
        if self.is_damaged(&ObjectKind::Segments(layer.tree))? {
            self.remove(&layout::segments(&layer.tree))?;
        }
        if self.is_damaged(&ObjectKind::Tree(layer.tree))? {
            // Other bytes than before: a list of their frames would be wrong.
            self.remove(&layout::segments(&layer.tree))?;
            let stored = deflate(&tree.encode(), LEVEL).map_err(StoreError::Compress)?;
            self.to.backend().overwrite(&layout::tree(&layer.tree), &stored, access)?;
        }
        let key = layout::locator(&layer.tree);
        let Some(bytes) = self.to.backend().find(&key, LOCATOR_RAW_BYTES_MAX as u64)? else { return Ok(()) };
        let Ok(places) = locator::decode(&bytes, &tree, layer.tree) else {
            self.healed.damaged.push(key.clone());
            return self.remove(&key);
        };
        let frames = stored_blobs(&tree).into_iter().filter_map(|(blob, _)| places.get(&blob));
        let packs: HashSet<PackId> =
            frames.flat_map(|place| place.frames.iter()).map(|frame| frame.pack).collect();
        let mut whole = true;
        for pack in packs {
            whole &= self.heal_pack(pack, access)?;
        }
        // What is in no whole pack has no place: the copy finds or stores it, and writes the locator anew.
        if whole { Ok(()) } else { self.remove(&key) }
    }

    /// Whether the pack is whole in the end.
    fn heal_pack(&mut self, pack: PackId, access: Access) -> Result<bool, StoreError> {
        let key = layout::pack(&pack);
        let lost = self.to.backend().size(&key)?.is_none();
        if lost || (self.is_damaged(&ObjectKind::Pack(pack))? && !self.copy_pack(pack, access)?) {
            // Without its directory no push takes it for a place of contents.
            self.remove(&layout::index(&pack))?;
            return Ok(false);
        }
        if access == Access::Public && self.is_damaged(&ObjectKind::Index(pack))? {
            let directory = fetch::inside_pack(self.to, &pack)?;
            let index = directory.encode().map_err(|error| self.to.damaged(layout::index(&pack), error))?;
            self.to.backend().overwrite(&layout::index(&pack), &index, access)?;
        }
        Ok(true)
    }

    /// Writes the other store's pack of this name in place of a damaged one. False: it has none that is whole.
    fn copy_pack(&self, pack: PackId, access: Access) -> Result<bool, StoreError> {
        let key = layout::pack(&pack);
        let mut reader = match self.from.backend().read(&key, 0, u64::MAX) {
            Ok(reader) => reader,
            Err(BackendError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let to = self.to.backend();
        let mut upload = to.begin(key.top().as_ref(), access)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let read = reader.read(&mut buffer);
            let count =
                read.map_err(|source| BackendError::io("read", &key, self.from.location(), source))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            upload
                .write_all(&buffer[..count])
                .map_err(|source| BackendError::io("write", &key, to.location(), source))?;
            self.go_on()?;
        }
        if pack.0 != hasher.finalize().into() {
            return Ok(false);
        }
        upload.overwrite(&key)?;
        Ok(true)
    }

    /// Whether `to` has this object and it is not what its key says, twice: a bit may flip on the way.
    fn is_damaged(&mut self, kind: &ObjectKind) -> Result<bool, StoreError> {
        let key = kind.key();
        self.go_on()?;
        let Some(size) = self.to.backend().size(&key)?.filter(|_| self.seen.insert(key.clone())) else {
            return Ok(false);
        };
        self.healed.checked += 1;
        self.healed.bytes += size;
        if self.proved(kind)? || self.proved(kind)? {
            return Ok(false);
        }
        tracing::warn!(object = %key, store = self.to.location(), "damaged");
        self.healed.damaged.push(key);
        Ok(true)
    }

    fn proved(&self, kind: &ObjectKind) -> Result<bool, StoreError> {
        let backend = self.to.backend();
        let mut content = backend.read(&kind.key(), 0, u64::MAX)?;
        match kind.prove(&mut content, backend) {
            Ok(()) => Ok(true),
            Err(Unfit::Other { .. } | Unfit::TooEarly { .. }) => Ok(false),
            Err(Unfit::Backend(error)) => Err(error.into()),
        }
    }

    fn remove(&self, key: &Key) -> Result<(), StoreError> {
        Ok(self.to.backend().delete(key)?)
    }

    fn go_on(&self) -> Result<(), StoreError> {
        if (self.watch.cancel)() { Err(StoreError::Cancelled) } else { Ok(()) }
    }
}

fn access_of(layer: &Layer) -> Access {
    if layer.is_env() { Access::Private } else { Access::Public }
}
