//! What is in a store, and what of it is needed. Reads everything that may need something, and stops at the
//! first thing that it cannot read: what is not understood may need anything.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

use rayon::prelude::*;

use super::Family;
use super::keep::{Named, Policy, Why, is_younger, keep};
use super::tombstone::{self, Tombstone};
use crate::backend::Key;
use crate::digest::{ArtifactId, BlobId, PackId, TreeId};
use crate::error::StoreError;
use crate::fetch;
use crate::layout;
use crate::lease::{self, Note};
use crate::limits::RECORD_BYTES_MAX;
use crate::name::Name;
use crate::refs::Reference;
use crate::store::Store;

/// Called between objects: an error stops the look.
pub(super) type Tick<'a> = dyn Fn() -> Result<(), StoreError> + Sync + 'a;

/// One object that may be collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub family: Family,
    /// Its key.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub written: SystemTime,
}

/// How much of a pack is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackUse {
    /// Bytes of all its contents, uncompressed.
    pub all: u64,
    /// Bytes of those that a tree needs which is to stay.
    pub live: u64,
    /// Whether it must stay: a locator that stays names it, or no other pack that stays has a content of it.
    pub needed: bool,
}

/// Everything a plan is made from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What the store's clock says.
    pub now: SystemTime,
    /// Every object that may be collected, in the order of removal.
    pub objects: Vec<Object>,
    /// The artifacts that stay, and why.
    pub artifacts: BTreeMap<ArtifactId, Why>,
    /// Versions by the artifact that they name.
    pub versions: HashMap<Key, ArtifactId>,
    /// The trees that stay.
    pub trees: HashSet<TreeId>,
    /// Every pack whose directory can be read.
    pub packs: HashMap<PackId, PackUse>,
    /// What earlier runs condemned.
    pub tombstones: Vec<Tombstone>,
    /// Who writes.
    pub leases: Vec<Note>,
    /// Who sweeps.
    pub sweeps: Vec<Note>,
    /// Roots of the caller's that the store does not hold.
    pub absent: usize,
    /// Packs whose directory cannot be read: nobody knows what they hold, so they stay.
    pub unreadable: Vec<Key>,
    /// Contents of trees that stay which no pack holds.
    pub lost: u64,
}

impl Facts {
    /// Of an empty store.
    pub fn at(now: SystemTime) -> Self {
        Self {
            now,
            objects: Vec::new(),
            artifacts: BTreeMap::new(),
            versions: HashMap::new(),
            trees: HashSet::new(),
            packs: HashMap::new(),
            tombstones: Vec::new(),
            leases: Vec::new(),
            sweeps: Vec::new(),
            absent: 0,
            unreadable: Vec::new(),
            lost: 0,
        }
    }
}

/// Looks. Changes nothing.
pub(super) fn look(
    store: &Store,
    roots: &BTreeMap<ArtifactId, String>,
    policy: &Policy,
    tick: &Tick<'_>,
) -> Result<Facts, StoreError> {
    let now = store.backend().now()?;
    let mut facts = Facts { objects: objects(store)?, ..Facts::at(now) };
    facts.tombstones = tombstone::read_all(store)?;
    facts.leases = lease::leases(store)?;
    facts.sweeps = lease::sweeps(store)?;
    let artifacts: HashMap<ArtifactId, SystemTime> = facts
        .objects
        .iter()
        .filter_map(|object| match object.family {
            Family::Artifact(id) => Some((id, object.written)),
            _ => None,
        })
        .collect();
    facts.absent = roots.keys().filter(|id| !artifacts.contains_key(id)).count();
    let versions = versions(store, &facts.objects, tick)?;
    facts.versions = versions.iter().map(|(key, named)| (key.clone(), named.artifact)).collect();
    let versions: Vec<Named> = versions.into_iter().map(|(_, named)| named).collect();
    facts.artifacts = keep(&versions, roots, &artifacts, policy, now);
    facts.trees = trees(store, &facts, policy, now, tick)?;
    reach_packs(store, &mut facts, tick)?;
    Ok(facts)
}

fn objects(store: &Store) -> Result<Vec<Object>, StoreError> {
    let mut found = Vec::new();
    for directory in Family::DIRECTORIES {
        let under = Key::new(directory).map_err(|error| store.damaged(directory, error))?;
        let listed = store.backend().list(&under)?;
        found.extend(listed.into_iter().filter_map(|item| {
            let family = Family::of(&item.key)?;
            Some(Object { family, key: item.key, size: item.size, written: item.modified })
        }));
    }
    found.sort_by(|a, b| (a.family, &a.key).cmp(&(b.family, &b.key)));
    Ok(found)
}

fn versions(store: &Store, objects: &[Object], tick: &Tick<'_>) -> Result<Vec<(Key, Named)>, StoreError> {
    let refs = objects.iter().filter(|object| object.family == Family::Ref);
    let read = |object: &Object| -> Result<Option<(Key, Named)>, StoreError> {
        tick()?;
        let Some(bytes) = store.backend().find(&object.key, RECORD_BYTES_MAX)? else { return Ok(None) };
        let reference: Reference =
            serde_json::from_slice(&bytes).map_err(|error| store.damaged(&object.key, error))?;
        let app = object.key.as_str().split('/').nth(1).and_then(|app| app.parse::<Name>().ok());
        let version = object.key.name().strip_suffix(".json").and_then(|name| name.parse().ok());
        let (app, version) =
            app.zip(version).ok_or_else(|| store.damaged(&object.key, "it names no version of an app"))?;
        let named = Named {
            app,
            version,
            artifact: reference.artifact(),
            seq: reference.seq,
            written: object.written,
        };
        Ok(Some((object.key.clone(), named)))
    };
    refs.collect::<Vec<_>>().into_par_iter().filter_map(|object| read(object).transpose()).collect()
}

/// The trees of every artifact that stays, and those that were written a moment ago: their artifact may be
/// about to follow.
fn trees(
    store: &Store,
    facts: &Facts,
    policy: &Policy,
    now: SystemTime,
    tick: &Tick<'_>,
) -> Result<HashSet<TreeId>, StoreError> {
    let of = |id: &ArtifactId| {
        tick()?;
        let artifact = fetch::artifact(store, id)?;
        Ok(artifact.layers.iter().map(|layer| layer.tree).collect::<Vec<_>>())
    };
    let ids: Vec<&ArtifactId> = facts.artifacts.keys().collect();
    let of_artifacts: Vec<Vec<TreeId>> = ids.into_par_iter().map(of).collect::<Result<_, StoreError>>()?;
    let mut trees: HashSet<TreeId> = of_artifacts.into_iter().flatten().collect();
    trees.extend(facts.objects.iter().filter_map(|object| match object.family {
        Family::Tree(id) if is_younger(object.written, policy.grace, now) => Some(id),
        _ => None,
    }));
    Ok(trees)
}

/// What trees need: contents, and the packs that their locators name.
#[derive(Default)]
struct Needs {
    contents: HashSet<BlobId>,
    packs: HashSet<PackId>,
}

fn reach_packs(store: &Store, facts: &mut Facts, tick: &Tick<'_>) -> Result<(), StoreError> {
    let of = |id: &TreeId| -> Result<Needs, StoreError> {
        tick()?;
        let tree = fetch::tree(store, id)?;
        let places = fetch::places_of(store, &tree, *id)?;
        let packs = places.values().flat_map(|place| place.frames.iter()).map(|frame| frame.pack).collect();
        let contents = tree.blobs().filter(|(_, size)| *size > 0).map(|(blob, _)| blob).collect();
        Ok(Needs { contents, packs })
    };
    let join = |mut a: Needs, b: Needs| {
        a.contents.extend(b.contents);
        a.packs.extend(b.packs);
        Ok(a)
    };
    let trees: Vec<&TreeId> = facts.trees.iter().collect();
    let needs = trees.into_par_iter().map(of).try_reduce(Needs::default, join)?;
    let packs = facts.objects.iter().filter_map(|object| match object.family {
        Family::Pack(id) => Some(id),
        _ => None,
    });
    let indexed: HashSet<PackId> = facts
        .objects
        .iter()
        .filter_map(|object| match object.family {
            Family::Index(id) => Some(id),
            _ => None,
        })
        .collect();
    let (named, others): (Vec<PackId>, Vec<PackId>) = packs.partition(|pack| needs.packs.contains(pack));
    // Contents for which a pack that stays is known, and those that are in any pack.
    let (mut covered, mut anywhere) = (HashSet::<BlobId>::new(), HashSet::<BlobId>::new());
    for (packs, are_named) in [(named, true), (others, false)] {
        let read = |pack: PackId| -> Result<(PackId, Option<Held>), StoreError> {
            tick()?;
            Ok((pack, held(store, &pack, &needs)?))
        };
        let held: Vec<_> = packs.into_par_iter().map(read).collect::<Result<_, StoreError>>()?;
        for (pack, held) in held {
            let Some(held) = held else {
                facts.unreadable.push(layout::pack(&pack));
                continue;
            };
            let needed = are_named || held.live.iter().any(|blob| !covered.contains(blob));
            // A pack without its directory beside it belongs to an env layer, or is damaged: nobody else finds
            // its contents, so they count as being nowhere else.
            if are_named && indexed.contains(&pack) {
                covered.extend(&held.live);
            }
            anywhere.extend(held.live);
            facts.packs.insert(pack, PackUse { needed, ..held.used });
        }
    }
    facts.lost = needs.contents.difference(&anywhere).count() as u64;
    Ok(())
}

/// What a pack holds of what is needed.
struct Held {
    live: Vec<BlobId>,
    used: PackUse,
}

/// By the directory inside the pack: a copy that lies must not cost a pack. `None`: it cannot be read.
fn held(store: &Store, pack: &PackId, needs: &Needs) -> Result<Option<Held>, StoreError> {
    let directory = match fetch::inside_pack(store, pack) {
        Ok(directory) => directory,
        Err(StoreError::Damaged { why, .. }) => {
            tracing::warn!(%pack, why, "it stays: nobody knows what it holds");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut held = Held { live: Vec::new(), used: PackUse { all: 0, live: 0, needed: false } };
    for object in directory.objects() {
        held.used.all += object.size;
        if needs.contents.contains(&object.blob) {
            held.used.live += object.size;
            held.live.push(object.blob);
        }
    }
    Ok(Some(held))
}
