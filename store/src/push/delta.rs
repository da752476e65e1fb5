//! Deltas to what is pushed, from what hosts are likely to have: what is deployed, and the app's last
//! versions, since hosts lag. Only ever a saving: without one, or when one cannot be made, hosts fetch packs.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;

use super::LayerContent;
use crate::artifact::{Artifact, Layer};
use crate::backend::{Access, BackendError, Key};
use crate::blob::BlobSource;
use crate::delta::{Base, Change, Hints, MakeError, make};
use crate::digest::{ArtifactId, TreeId};
use crate::error::StoreError;
use crate::fetch::{self, StoreSource, Watch};
use crate::layout;
use crate::lease::Claim;
use crate::limits::HINTS_BYTES_MAX;
use crate::locator::{PackFrame, Places};
use crate::name::{Name, Version};
use crate::refs;
use crate::store::Store;
use crate::sweep::Condemned;
use crate::tree::Tree;

/// Versions of an app from which deltas are made, beside what is deployed: a host that was off during two
/// releases still has one. Each costs a second or so and a few per cent of the release's size.
const VERSIONS_BACK: usize = 3;
/// A delta is made if it has at most this much of the bytes that its packs would take.
const WORTH_PERCENT: u64 = 60;
/// What a tree costs at most without a delta: the segments of it that changed.
const TREE_COST_MAX: u64 = 32 << 10;

/// From what deltas are made.
#[derive(Clone, Copy)]
pub struct Deltas<'a> {
    /// What each app's environments should run.
    pub deployed: &'a BTreeMap<Name, Vec<ArtifactId>>,
    /// Told before one is made: the layer, and what it starts from.
    pub tell: &'a (dyn Fn(&Name, &str) + Sync),
}

/// A delta that a push made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedDelta {
    /// The layer.
    pub layer: Name,
    /// The version it starts from, if that has one.
    pub version: Option<Version>,
    /// The tree it starts from.
    pub from: TreeId,
    /// Its bytes.
    pub bytes: u64,
}

/// An artifact that hosts are likely to have.
struct Candidate {
    artifact: Artifact,
    version: Option<Version>,
    id: ArtifactId,
}

impl Candidate {
    fn shown(&self) -> String {
        self.version.as_ref().map_or_else(|| self.id.short(), Version::to_string)
    }

    /// The layer that another artifact's layer takes the place of. Secrets are never compared with anything.
    fn counterpart(&self, layer: &Layer) -> Option<&Layer> {
        let same =
            |own: &&Layer| own.name == layer.name && own.environment == layer.environment && !own.is_env();
        self.artifact.layers.iter().find(same)
    }
}

/// What making the deltas of a push came to.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) made: Vec<PushedDelta>,
    pub(super) stored_bytes: u64,
    pub(super) uploaded: u64,
}

/// Why there is no delta.
enum Skip {
    /// It would save too little.
    NotWorth(String),
    /// It could not be made.
    Failed(String),
    /// Nobody wants one any more.
    Stop,
}

impl<E: std::error::Error> From<E> for Skip {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A push whose packs, trees and locators are stored.
pub(super) struct Maker<'a> {
    pub(super) store: &'a Store,
    pub(super) lease: &'a Claim<'a>,
    pub(super) condemned: &'a Condemned,
    /// Another store, asked first: reading from it costs less.
    pub(super) near: Option<&'a Store>,
    pub(super) artifact: &'a Artifact,
    pub(super) id: ArtifactId,
    pub(super) deltas: Deltas<'a>,
    pub(super) contents: &'a [LayerContent<'a>],
    pub(super) watch: Watch<'a>,
}

impl<'a> Maker<'a> {
    /// Makes the deltas that are worth it and not there yet, and writes down which there are.
    pub(super) fn run(&self) -> Result<Outcome, StoreError> {
        let mut outcome = Outcome::default();
        let candidates = self.candidates()?;
        if candidates.is_empty() {
            return Ok(outcome);
        }
        let key = layout::hints(&self.id);
        let stored = self.store.backend().find(&key, HINTS_BYTES_MAX).ok().flatten();
        let mut hints = stored.as_deref().map(Hints::decode).unwrap_or_default();
        for layer in self.artifact.layers.iter().filter(|layer| !layer.is_env()) {
            self.run_layer(layer, &candidates, &mut hints, &mut outcome)?;
        }
        let bytes = hints.encode().map_err(|error| self.store.damaged(&key, error))?;
        let same = stored.as_ref() == Some(&bytes) && !self.condemned.has(&key);
        if !hints.is_empty() && !same {
            self.store.backend().replace(&key, &bytes)?;
            outcome.stored_bytes += bytes.len() as u64;
            outcome.uploaded += 1;
        }
        Ok(outcome)
    }

    /// What hosts are likely to have: what is deployed, then the last versions.
    fn candidates(&self) -> Result<Vec<Candidate>, StoreError> {
        let app = &self.artifact.app;
        let mut versions = refs::versions(self.store, app)?;
        versions.sort_by_key(|(_, reference)| std::cmp::Reverse(reference.seq));
        let versions = versions.iter().map(|(_, reference)| reference.artifact());
        let deployed = self.deltas.deployed.get(app).map_or(&[][..], Vec::as_slice);
        let ids = bases(self.id, deployed, versions);
        Ok(ids.into_iter().filter_map(|id| self.candidate(id)).collect())
    }

    fn candidate(&self, id: ArtifactId) -> Option<Candidate> {
        match self.read(|store| fetch::artifact(store, &id)) {
            Ok(artifact) => {
                let version = refs::version_of(&artifact);
                (artifact.app == self.artifact.app).then_some(Candidate { id, artifact, version })
            }
            Err(error) => {
                tracing::info!(artifact = %id, %error, "no delta is made from it");
                None
            }
        }
    }

    fn run_layer(
        &self,
        layer: &Layer,
        candidates: &[Candidate],
        hints: &mut Hints,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let mut wanted = Vec::new();
        let mut seen = HashSet::from([layer.tree]);
        for candidate in candidates {
            let Some(from) = candidate.counterpart(layer).map(|layer| layer.tree) else { continue };
            if !seen.insert(from) {
                continue;
            }
            let key = layout::delta(&layer.tree, &from);
            match self.store.backend().size(&key)?.filter(|_| !self.condemned.has(&key)) {
                Some(bytes) => hints.add(layer.tree, Base { tree: from, bytes }),
                None => {
                    wanted.push((from, candidate));
                    true
                }
            };
        }
        if wanted.is_empty() {
            return Ok(());
        }
        // Of a layer that the store had, a copy was given no contents.
        let given = self.contents.iter().find(|content| content.tree.id() == layer.tree);
        let stored;
        let (tree, source): (&Tree, &dyn BlobSource) = match given {
            Some(content) => (content.tree, content.source),
            None => {
                stored = self.read(|store| opened(store, layer.tree))?;
                (&stored.0, &stored.1)
            }
        };
        let costs = Costs::new(self.store, tree, layer.tree)?;
        for (from, candidate) in wanted {
            let shown = candidate.shown();
            (self.deltas.tell)(&layer.name, &shown);
            let pieces = match self.delta(from, (tree, source), &costs) {
                Ok(pieces) => pieces,
                Err(Skip::Stop) => return Err(StoreError::Cancelled),
                Err(Skip::NotWorth(why)) => {
                    tracing::info!(layer = %layer.name, from = shown, why, "no delta");
                    continue;
                }
                Err(Skip::Failed(why)) => {
                    tracing::warn!(layer = %layer.name, from = shown, why, "no delta; hosts fetch packs");
                    continue;
                }
            };
            // There is none, or one that is condemned.
            let bytes = self.put(&layout::delta(&layer.tree, &from), pieces)?;
            self.lease.keep()?;
            outcome.stored_bytes += bytes;
            outcome.uploaded += 1;
            hints.add(layer.tree, Base { tree: from, bytes });
            let (layer, version) = (layer.name.clone(), candidate.version.clone());
            outcome.made.push(PushedDelta { layer, version, from, bytes });
        }
        Ok(())
    }

    fn delta(&self, from: TreeId, to: (&Tree, &dyn BlobSource), costs: &Costs) -> Result<Vec<Vec<u8>>, Skip> {
        let (old, contents) = self.read(|store| opened(store, from))?;
        let (change, runs) = Change::between(&old, to.0)?;
        let max = costs.of(&change) * WORTH_PERCENT / 100;
        match make(&change, runs, &contents, to.1, max, &self.watch) {
            Ok(pieces) => Ok(pieces),
            Err(MakeError::Cancelled) => Err(Skip::Stop),
            Err(error @ MakeError::NotWorth(_)) => Err(Skip::NotWorth(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    fn put(&self, key: &Key, pieces: Vec<Vec<u8>>) -> Result<u64, StoreError> {
        let backend = self.store.backend();
        let mut upload = backend.begin(Some(&layout::deltas()), Access::Public)?;
        let mut bytes = 0;
        for piece in pieces {
            let failed = |source| BackendError::io("write", key, self.store.location(), source);
            upload.write_all(&piece).map_err(failed)?;
            bytes += piece.len() as u64;
        }
        upload.overwrite(key)?;
        Ok(bytes)
    }

    /// From the near store, or else from the one that is pushed to.
    fn read<T>(&self, read: impl Fn(&'a Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self.near.map(&read) {
            Some(Ok(found)) => Ok(found),
            Some(Err(_)) | None => read(self.store),
        }
    }
}

/// A tree of a store with its contents.
fn opened(store: &Store, id: TreeId) -> Result<(Tree, StoreSource<'_>), StoreError> {
    let tree = fetch::tree(store, &id)?;
    let source = StoreSource::new(store, &tree)?;
    Ok((tree, source))
}

/// The artifacts that deltas to `to` start from: what is deployed, and the latest others of `versions`, which
/// are in the order of their age, the youngest first.
fn bases(
    to: ArtifactId,
    deployed: &[ArtifactId],
    versions: impl Iterator<Item = ArtifactId>,
) -> Vec<ArtifactId> {
    let mut seen = HashSet::from([to]);
    let back = versions.filter(|id| *id != to).take(VERSIONS_BACK);
    deployed.iter().copied().chain(back).filter(|id| seen.insert(*id)).collect()
}

/// What fetching a tree costs without a delta.
struct Costs {
    tree: u64,
    places: Places,
}

impl Costs {
    fn new(store: &Store, tree: &Tree, id: TreeId) -> Result<Self, StoreError> {
        let size = store.backend().size(&layout::tree(&id))?.unwrap_or_default();
        Ok(Self { tree: size.min(TREE_COST_MAX), places: fetch::places_of(store, tree, id)? })
    }

    /// Bytes of the frames that hold what is new, and of the tree.
    fn of(&self, change: &Change) -> u64 {
        let places = change.new.iter().filter_map(|(blob, _)| self.places.get(blob));
        let frames: HashSet<&PackFrame> = places.flat_map(|place| place.frames.iter()).collect();
        self.tree + frames.into_iter().map(|frame| u64::from(frame.frame.stored)).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn id(number: u8) -> ArtifactId {
        ArtifactId(Digest::from_bytes([number; 32]))
    }

    #[test]
    fn deltas_start_from_what_is_deployed_and_from_the_last_versions_each_once() {
        let versions = || [9, 8, 7, 6, 5].map(id).into_iter();
        assert_eq!(bases(id(9), &[], versions()), [8, 7, 6].map(id), "a new version against the last three");
        assert_eq!(bases(id(1), &[id(5), id(8), id(5)], versions()), [5, 8, 9, 7].map(id));
        assert_eq!(bases(id(1), &[id(1)], [].into_iter()), []);
    }
}
