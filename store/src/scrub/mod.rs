//! Reading a whole store: every object against its name, and who needs what is damaged or missing.
//!
//! Each pack is read once, in order, some of them side by side; trees one after the other. So memory is bounded
//! by a few frames, one tree, and 33 bytes for each content that trees need.
//!
//! [`repair`] takes away what keeps a later push from storing damaged contents again; it needs no content.

mod needs;
mod pack;
mod repair;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

pub use repair::repair;
use serde::Serialize;

use self::needs::Needs;
use self::pack::Checked;
use crate::artifact::Artifact;
use crate::backend::{BackendError, Key};
use crate::digest::{ArtifactId, BlobId, PackId, TreeId};
use crate::error::StoreError;
use crate::fetch::{self, Progress, Watch};
use crate::layout;
use crate::limits::{LOCATOR_RAW_BYTES_MAX, RECORD_BYTES_MAX};
use crate::locator;
use crate::name::{Name, Version};
use crate::object::{ObjectKind, Unfit};
use crate::pack::FrameDecoder;
use crate::refs::{self, Reference};
use crate::store::Store;
use crate::sweep::Family;
use crate::tree::Tree;

/// Packs that are read side by side: more would take more memory than a check may.
const PACKS_MAX: usize = 4;
/// Lost contents that are named one by one.
const LOST_NAMED_MAX: usize = 20;

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Fault {
    /// Its bytes are not what its name says.
    Damaged,
    /// Something names it and it is not there.
    Missing,
}

/// An object that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its kind in one word.
    pub kind: &'static str,
    /// Its key; for a content that no pack gives, its id.
    pub object: String,
    /// What is wrong.
    pub fault: Fault,
    /// How it was noticed.
    pub why: String,
    /// The artifacts that cannot be had whole because of it.
    pub needed_by: BTreeSet<ArtifactId>,
    /// The trees of these that a push must store again.
    trees: BTreeSet<TreeId>,
}

impl Damage {
    fn new(kind: &'static str, object: impl ToString, fault: Fault, why: impl ToString) -> Self {
        Self {
            kind,
            object: object.to_string(),
            fault,
            why: why.to_string(),
            needed_by: BTreeSet::new(),
            trees: BTreeSet::new(),
        }
    }
}

/// An artifact in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its app.
    pub app: Name,
    /// Its version.
    pub version: Option<Version>,
}

/// What a store turned out to be.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Artifacts that were read.
    pub artifacts: u64,
    /// Trees that were read.
    pub trees: u64,
    /// Packs that were read.
    pub packs: u64,
    /// Contents in them that are whole.
    pub contents: u64,
    /// Bytes of packs that were read.
    pub bytes: u64,
    /// What is not as it should be: first what something needs.
    pub damages: Vec<Damage>,
    /// The artifacts that could be read, for messages.
    pub known: BTreeMap<ArtifactId, Known>,
}

impl Report {
    /// Whether nothing that is needed is damaged or missing.
    pub fn is_whole(&self) -> bool {
        self.damages.iter().all(|damage| damage.needed_by.is_empty() && damage.kind != "version")
    }
}

/// Reads everything, or, with `only`, what one artifact needs. An error is a store that does not answer.
pub fn verify(store: &Store, only: Option<ArtifactId>, watch: &Watch<'_>) -> Result<Report, StoreError> {
    let mut scrub = Scrub { store, watch, report: Report::default(), trees: BTreeMap::new() };
    let ids = match only {
        Some(id) => vec![id],
        None => refs::ids(store)?,
    };
    ids.iter().try_for_each(|id| scrub.artifact(id))?;
    if only.is_none() {
        scrub.versions()?;
        scrub.other_trees()?;
        scrub.hints()?;
    }
    let mut needs = scrub.read_trees()?;
    needs.close();
    scrub.read_packs(&needs, only.is_some())?;
    scrub.report.damages.sort_by_key(|damage| damage.needed_by.is_empty());
    Ok(scrub.report)
}

struct Scrub<'a> {
    store: &'a Store,
    watch: &'a Watch<'a>,
    report: Report,
    /// Who needs each tree.
    trees: BTreeMap<TreeId, BTreeSet<ArtifactId>>,
}

/// An answer that is damage, apart from no answer at all.
fn damage<T>(
    answer: Result<T, StoreError>,
    kind: &'static str,
    key: &Key,
) -> Result<Result<T, Damage>, StoreError> {
    match answer {
        Ok(value) => Ok(Ok(value)),
        Err(StoreError::Damaged { why, .. }) => Ok(Err(Damage::new(kind, key, Fault::Damaged, why))),
        Err(StoreError::Backend(BackendError::NotFound { .. })) => {
            Ok(Err(Damage::new(kind, key, Fault::Missing, "it is not there")))
        }
        Err(error) => Err(error),
    }
}

impl Scrub<'_> {
    fn artifact(&mut self, id: &ArtifactId) -> Result<(), StoreError> {
        self.stop()?;
        self.report.artifacts += 1;
        match damage(fetch::artifact(self.store, id), "artifact", &layout::artifact(id))? {
            Ok(artifact) => self.learn(*id, &artifact),
            Err(mut damage) => {
                damage.needed_by.insert(*id);
                self.report.damages.push(damage);
            }
        }
        Ok(())
    }

    fn learn(&mut self, id: ArtifactId, artifact: &Artifact) {
        let known = Known { app: artifact.app.clone(), version: refs::version_of(artifact) };
        self.report.known.insert(id, known);
        for layer in &artifact.layers {
            self.trees.entry(layer.tree).or_default().insert(id);
        }
    }

    /// Versions that cannot be read, or that name an artifact that is not there.
    fn versions(&mut self) -> Result<(), StoreError> {
        let backend = self.store.backend();
        for item in backend.list(&layout::references())? {
            if Family::of(&item.key) != Some(Family::Ref) {
                continue;
            }
            self.stop()?;
            let bytes = match backend.find(&item.key, RECORD_BYTES_MAX) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(BackendError::TooLarge { .. }) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            match serde_json::from_slice::<Reference>(&bytes) {
                Ok(reference) => {
                    let id = reference.artifact();
                    let is_listed = self.report.known.contains_key(&id)
                        || self.report.damages.iter().any(|damage| damage.needed_by.contains(&id));
                    // Pushed since the list was made, or lost.
                    if !is_listed {
                        self.artifact(&id)?;
                    }
                }
                Err(why) => self.report.damages.push(Damage::new("version", &item.key, Fault::Damaged, why)),
            }
        }
        Ok(())
    }

    /// Trees that no artifact has: of a push that is under way, or that died.
    fn other_trees(&mut self) -> Result<(), StoreError> {
        for item in self.store.backend().list(&layout::trees())? {
            if let Some(Family::Tree(id)) = Family::of(&item.key) {
                self.trees.entry(id).or_default();
            }
        }
        Ok(())
    }

    /// Lists of segments, deltas, hints: whatever only makes a fetch quicker.
    fn hints(&mut self) -> Result<(), StoreError> {
        let backend = self.store.backend();
        for directory in ["segments", "deltas", "hints"] {
            let under = Key::new(directory).map_err(|error| self.store.damaged(directory, error))?;
            for item in backend.list(&under)? {
                self.stop()?;
                let (Some(kind), Some(family)) = (ObjectKind::of(&item.key), Family::of(&item.key)) else {
                    continue;
                };
                let proved = match backend.read(&item.key, 0, u64::MAX) {
                    Ok(mut content) => kind.prove(&mut content, backend),
                    // Collected since the list was made.
                    Err(BackendError::NotFound { .. }) => continue,
                    Err(error) => return Err(error.into()),
                };
                match proved {
                    Ok(()) | Err(Unfit::TooEarly { .. }) => {}
                    Err(Unfit::Other { why, .. }) => {
                        self.report.damages.push(Damage::new(family.label(), &item.key, Fault::Damaged, why));
                    }
                    Err(Unfit::Backend(error)) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Every tree and its locator, one after the other.
    fn read_trees(&mut self) -> Result<Needs, StoreError> {
        let mut needs = Needs::default();
        for (id, needed_by) in self.trees.clone() {
            self.stop()?;
            self.report.trees += 1;
            match damage(fetch::tree(self.store, &id), "tree", &layout::tree(&id))? {
                Ok(tree) => {
                    if !needed_by.is_empty() {
                        needs.add(tree.blobs().filter(|(_, size)| *size > 0).map(|(blob, _)| blob));
                    }
                    self.check_locator(&tree, id)?;
                }
                Err(damage) => {
                    self.report.damages.push(Damage { needed_by, trees: [id].into(), ..damage });
                }
            }
        }
        Ok(needs)
    }

    fn check_locator(&mut self, tree: &Tree, id: TreeId) -> Result<(), StoreError> {
        let key = layout::locator(&id);
        let found = match self.store.backend().find(&key, LOCATOR_RAW_BYTES_MAX as u64) {
            Ok(found) => {
                found.map(|bytes| locator::decode(&bytes, tree, id).map_err(|error| error.to_string()))
            }
            Err(BackendError::TooLarge { .. }) => Some(Err("it is larger than any".to_owned())),
            Err(error) => return Err(error.into()),
        };
        let damage = match found {
            Some(Ok(_)) => return Ok(()),
            Some(Err(why)) => Damage::new("locator", &key, Fault::Damaged, why),
            None => {
                Damage::new("locator", &key, Fault::Missing, "fetches read the packs' directories instead")
            }
        };
        self.report.damages.push(Damage { trees: [id].into(), ..damage });
        Ok(())
    }

    fn read_packs(&mut self, needs: &Needs, only_needed: bool) -> Result<(), StoreError> {
        let mut packs = fetch::packs(self.store)?.packs;
        if only_needed {
            packs.retain(|(pack, _)| match fetch::of_pack(self.store, pack) {
                Ok(directory) => directory.objects().iter().any(|object| needs.has(&object.blob)),
                Err(_) => true,
            });
        }
        // The largest first, so that no thread is left with a long one at the end.
        packs.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        let checked = self.check_packs(&packs, needs)?;
        for (pack, checked) in &checked {
            self.report.packs += 1;
            self.report.bytes += checked.bytes;
            self.report.contents += checked.contents;
            if let Some(why) = &checked.index_fault {
                self.report.damages.push(Damage::new("index", layout::index(pack), Fault::Damaged, why));
            }
        }
        let blamed = self.blame(needs, &checked)?;
        for (pack, checked) in &checked {
            if let Some(why) = &checked.fault {
                let mut damage = Damage::new("pack", layout::pack(pack), Fault::Damaged, why);
                if let Some((trees, artifacts)) = blamed.get(pack) {
                    (damage.trees, damage.needed_by) = (trees.clone(), artifacts.clone());
                }
                self.report.damages.push(damage);
            }
        }
        Ok(())
    }

    fn check_packs(
        &self,
        packs: &[(PackId, u64)],
        needs: &Needs,
    ) -> Result<Vec<(PackId, Checked)>, StoreError> {
        let bytes_total = packs.iter().map(|(_, size)| size).sum();
        let (next, moved, done) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
        let tick = |read: u64| {
            let moved = moved.fetch_add(read, Ordering::Relaxed) + read;
            (self.watch.progress)(Progress { bytes: moved, bytes_total, moved, ..Progress::default() });
            self.stop()
        };
        let work = || -> Result<(), StoreError> {
            let mut decoder = FrameDecoder::new().map_err(StoreError::Compress)?;
            while let Some((pack, size)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                match pack::check(self.store, pack, needs, &mut decoder, &tick) {
                    Ok(checked) => {
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done.push((*pack, Checked { bytes: *size, ..checked }));
                    }
                    // Collected since the list was made: nothing needed it.
                    Err(StoreError::Backend(BackendError::NotFound { .. })) => {}
                    Err(error) => {
                        next.store(packs.len(), Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(())
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = cores.min(PACKS_MAX).clamp(1, packs.len().max(1));
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            handles.into_iter().try_for_each(|handle| match handle.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(pack, _)| *pack);
        Ok(done)
    }

    /// Reads the trees again to find out who needs what no pack gives. Damaged packs get the blame for theirs;
    /// the rest is missing.
    fn blame(
        &mut self,
        needs: &Needs,
        checked: &[(PackId, Checked)],
    ) -> Result<HashMap<PackId, (BTreeSet<TreeId>, BTreeSet<ArtifactId>)>, StoreError> {
        let mut blamed: HashMap<PackId, (BTreeSet<TreeId>, BTreeSet<ArtifactId>)> = HashMap::new();
        let lost = needs.lost();
        if lost == 0 {
            return Ok(blamed);
        }
        let mut culprits: HashMap<BlobId, PackId> = HashMap::new();
        for (pack, checked) in checked {
            culprits.extend(checked.bad.iter().map(|blob| (*blob, *pack)));
        }
        let is_there: HashSet<PackId> = checked.iter().map(|(pack, _)| *pack).collect();
        let mut missing: BTreeMap<String, Damage> = BTreeMap::new();
        for (id, needed_by) in self.trees.clone().into_iter().filter(|(_, needed_by)| !needed_by.is_empty()) {
            self.stop()?;
            let Ok(tree) = damage(fetch::tree(self.store, &id), "tree", &layout::tree(&id))? else {
                continue;
            };
            let lost: HashSet<BlobId> =
                tree.blobs().map(|(blob, _)| blob).filter(|blob| needs.is_lost(blob)).collect();
            if lost.is_empty() {
                continue;
            }
            let places = fetch::places_of(self.store, &tree, id)?;
            for blob in lost {
                let named = places.get(&blob).and_then(|place| place.frames.first()).map(|frame| frame.pack);
                let culprit =
                    culprits.get(&blob).copied().or_else(|| named.filter(|pack| is_there.contains(pack)));
                if let Some(pack) = culprit {
                    let (trees, artifacts) = blamed.entry(pack).or_default();
                    trees.insert(id);
                    artifacts.extend(&needed_by);
                    continue;
                }
                let absent = match named {
                    Some(pack) => {
                        Damage::new("pack", layout::pack(&pack), Fault::Missing, "a locator names it")
                    }
                    None => Damage::new("content", blob, Fault::Missing, "no pack has it"),
                };
                if missing.len() < LOST_NAMED_MAX || missing.contains_key(&absent.object) {
                    let entry = missing.entry(absent.object.clone()).or_insert(absent);
                    entry.needed_by.extend(&needed_by);
                    entry.trees.insert(id);
                }
            }
        }
        // A pack whose directory cannot be read, or whose locator lies, has no fault of a content of its own.
        for pack in blamed.keys() {
            let has_fault = checked.iter().any(|(checked, found)| checked == pack && found.fault.is_some());
            if !has_fault {
                let key = layout::pack(pack);
                let mut damage =
                    Damage::new("pack", &key, Fault::Damaged, "it lacks what a locator says it has");
                (damage.trees, damage.needed_by) = blamed[pack].clone();
                missing.insert(key.to_string(), damage);
            }
        }
        tracing::debug!(lost, needed = needs.len(), "contents that no pack gives");
        self.report.damages.extend(missing.into_values());
        Ok(blamed)
    }

    fn stop(&self) -> Result<(), StoreError> {
        if (self.watch.cancel)() { Err(StoreError::Cancelled) } else { Ok(()) }
    }
}
