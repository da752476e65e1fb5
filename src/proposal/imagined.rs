//! A host as a fetch sees it, that has one artifact and nothing else.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};

use landfall_store::blob::{BlobSource, Want};
use landfall_store::fetch::{self, Kept};
use landfall_store::{Artifact, BlobId, Layer, Name, Store, StoreError, TreeId};

/// What such a host has.
#[derive(Default)]
pub(super) struct Imagined {
    trees: HashMap<TreeId, Vec<u8>>,
    layers: Vec<(Name, TreeId)>,
    contents: HashSet<Want>,
}

impl Imagined {
    /// A host with these layers of an artifact.
    pub(super) fn with(store: &Store, layers: &[&Layer]) -> Result<Self, StoreError> {
        let mut host = Self::default();
        for layer in layers {
            let tree = fetch::tree(store, &layer.tree)?;
            host.contents.extend(fetch::wants(&[&tree]));
            host.trees.insert(layer.tree, tree.encode());
            if !layer.is_env() {
                host.layers.push((layer.name.clone(), layer.tree));
            }
        }
        Ok(host)
    }
}

impl Kept for Imagined {
    fn tree(&self, id: &TreeId) -> Option<Vec<u8>> {
        self.trees.get(id).cloned()
    }

    fn like(&self, layer: &Layer) -> Vec<TreeId> {
        let (same, others): (Vec<_>, Vec<_>) = self.layers.iter().partition(|(name, _)| *name == layer.name);
        same.into_iter().chain(others).map(|(_, tree)| *tree).filter(|tree| *tree != layer.tree).collect()
    }

    fn has(&self, _layer: &Layer, want: &Want) -> io::Result<bool> {
        Ok(want.size == 0 || self.contents.contains(want))
    }

    fn contents(&self) -> &dyn BlobSource {
        self
    }
}

/// Nothing is ever made of what it has.
impl BlobSource for Imagined {
    fn open(&self, _blob: &BlobId, _size: u64) -> io::Result<Box<dyn Read + '_>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The layers of an artifact that belong on a host of these roles; `None`: of every role.
pub(super) fn layers_for<'a>(
    artifact: &'a Artifact,
    environment: &'a Name,
    roles: Option<&'a [Name]>,
) -> Vec<&'a Layer> {
    match roles {
        Some(roles) => artifact.layers_for(environment, roles).collect(),
        None => {
            let own = |layer: &&Layer| layer.environment.as_ref().is_none_or(|only| only == environment);
            artifact.layers.iter().filter(own).collect()
        }
    }
}
