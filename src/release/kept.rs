//! What this host has of artifacts, and where what comes goes: secrets to the vault, everything else to the cache.

use std::collections::HashSet;
use std::io::{self, Read};

use landfall_store::blob::{BlobSink, BlobSource, Want};
use landfall_store::cache::{HostCache, Incoming};
use landfall_store::fetch::{self, Kept};
use landfall_store::{Layer, Name, Tree, TreeId};

use super::Inner;
use super::vault::{ENV_FILE_BYTES_MAX, Vault};
use crate::disk::{Disk, RealDisk};
use crate::switch;

/// Releases whose trees a new one is compared with.
const RELEASES_MAX: usize = 4;

/// What this host has, for one service.
pub(super) struct OnHost<'a> {
    inner: &'a Inner,
    pub(super) cache: &'a HostCache,
    pub(super) vault: Vault,
    /// Layers of releases on disk, the one in service first.
    layers: Vec<(Name, TreeId)>,
}

impl<'a> OnHost<'a> {
    pub(super) fn new(inner: &'a Inner, cache: &'a HostCache) -> Self {
        Self { inner, cache, vault: inner.vault(), layers: layers_on_disk(inner) }
    }

    /// Whether nothing of these layers need be fetched.
    pub(super) fn has_all<'l>(&self, mut layers: impl Iterator<Item = &'l Layer>) -> bool {
        layers.all(|layer| {
            let text = self.tree(&layer.tree);
            let tree = text.and_then(|text| Tree::decode(&text).ok());
            tree.is_some_and(|tree| {
                // An env layer's tree is kept only after its contents.
                layer.is_env()
                    || fetch::wants(&[&tree]).iter().all(|want| self.cache.has(want).unwrap_or(false))
            })
        })
    }
}

/// Records that cannot be read are for others to complain about: here they only save bytes.
fn layers_on_disk(inner: &Inner) -> Vec<(Name, TreeId)> {
    let dir = &inner.service.dir;
    let current = switch::named(&RealDisk, dir).ok().flatten();
    let mut names = RealDisk.list(&dir.releases()).unwrap_or_default();
    names.retain(|name| !name.starts_with('.'));
    // Names begin with the version, so the last ones are likely to be the newest.
    names.sort_by_key(|name| (current.as_ref() == Some(name), name.clone()));
    let records = names.iter().rev().take(RELEASES_MAX).filter_map(|name| inner.load(name).ok());
    let artifacts = records.filter_map(|record| inner.kept_artifact(&record.release.artifact));
    let layers = artifacts.flat_map(|artifact| artifact.layers.into_iter().filter(|layer| !layer.is_env()));
    layers.map(|layer| (layer.name, layer.tree)).collect()
}

impl Kept for OnHost<'_> {
    fn tree(&self, id: &TreeId) -> Option<Vec<u8>> {
        self.inner.kept_text(*id).or_else(|| self.vault.tree(*id).map(|tree| tree.encode()))
    }

    fn like(&self, layer: &Layer) -> Vec<TreeId> {
        let (same, others): (Vec<_>, Vec<_>) = self.layers.iter().partition(|(name, _)| *name == layer.name);
        let mut seen = HashSet::from([layer.tree]);
        same.into_iter().chain(others).map(|(_, tree)| *tree).filter(|tree| seen.insert(*tree)).collect()
    }

    fn has(&self, layer: &Layer, want: &Want) -> io::Result<bool> {
        if layer.is_env() { self.vault.has(want) } else { self.cache.has(want) }
    }

    fn contents(&self) -> &dyn BlobSource {
        self.cache
    }
}

/// Where the contents of a fetch go.
pub(super) struct Destinations<'a> {
    vault: &'a Vault,
    incoming: &'a Incoming<'a>,
    secret: HashSet<Want>,
    /// Those of the secret ones that stand in other layers as well.
    open: HashSet<Want>,
}

impl<'a> Destinations<'a> {
    pub(super) fn new<'t>(
        vault: &'a Vault,
        incoming: &'a Incoming<'a>,
        trees: impl Iterator<Item = (&'t Layer, &'t Tree)>,
    ) -> Self {
        let (env, packed): (Vec<_>, Vec<_>) = trees.partition(|(layer, _)| layer.is_env());
        let wants = |trees: Vec<(&Layer, &'t Tree)>| {
            fetch::wants(&trees.into_iter().map(|(_, tree)| tree).collect::<Vec<_>>())
        };
        let secret: HashSet<Want> = wants(env).into_iter().collect();
        let open = if secret.is_empty() { Vec::new() } else { wants(packed) };
        let open = open.into_iter().filter(|want| secret.contains(want)).collect();
        Self { vault, incoming, secret, open }
    }

    fn of(&self, want: &Want) -> (bool, bool) {
        let secret = self.secret.contains(want);
        (secret, !secret || self.open.contains(want))
    }
}

impl BlobSink for Destinations<'_> {
    fn has(&self, want: &Want) -> io::Result<bool> {
        let (secret, open) = self.of(want);
        Ok((!secret || self.vault.has(want)?) && (!open || self.incoming.has(want)?))
    }

    fn put(&self, want: &Want, content: &mut dyn Read) -> io::Result<()> {
        match self.of(want) {
            (false, _) => self.incoming.put(want, content),
            (true, false) => self.vault.put(want, content),
            (true, true) => {
                let mut bytes = Vec::new();
                content.take(ENV_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
                self.vault.put(want, &mut bytes.as_slice())?;
                self.incoming.put(want, &mut bytes.as_slice())
            }
        }
    }
}
