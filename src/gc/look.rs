//! What is on a host, and what of it something needs.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use landfall_store::cache::HostCache;
use landfall_store::collect::Object;
use landfall_store::{Artifact, ArtifactId, BlobId, Kind, Name, Tree, TreeId};

use super::{AppOnHost, Document, GcError, Scope};
use crate::disk::{Disk, RealDisk};
use crate::layout::ReleaseDir;
use crate::record::controls::Controls;
use crate::record::history::History;
use crate::record::journal::Journal;
use crate::record::quarantine::Quarantine;
use crate::record::release::ReleaseRecord;
use crate::record::sealed;

/// Everything a plan looks at.
#[derive(Debug, Default)]
pub struct Facts {
    /// Contents in the cache.
    pub objects: Vec<Object>,
    /// Contents that something needs, in the cache or not.
    pub needed: HashSet<BlobId>,
    /// Trees, manifests, env files.
    pub documents: Vec<Document>,
    /// Now, in seconds since 1970.
    pub now: i64,
}

impl Facts {
    /// Whether something needs a content.
    pub fn needs(&self, object: &Object) -> bool {
        self.needed.contains(&object.want.blob)
    }

    /// Bytes in the cache that something needs.
    pub fn needed_bytes(&self) -> u64 {
        self.objects.iter().filter(|object| self.needs(object)).map(|object| object.want.size).sum()
    }
}

/// What the apps' records name.
#[derive(Default)]
struct Roots {
    /// Trees of releases on disk: they must be here.
    trees: Vec<(TreeId, String)>,
    /// Artifacts whose layers here are needed as far as they are here.
    artifacts: HashSet<ArtifactId>,
    /// Artifacts of which only the manifest is needed.
    manifests: HashSet<ArtifactId>,
}

/// Looks. Changes nothing.
pub fn look(scope: &Scope, cache: &HostCache) -> Result<Facts, GcError> {
    let mut roots = Roots::default();
    roots.artifacts.extend(&scope.wanted);
    for app in &scope.apps {
        roots.of_app(app)?;
    }
    let mut needed = HashSet::new();
    let mut trees = HashSet::new();
    for (id, release) in &roots.trees {
        if trees.insert(*id) {
            let tree = tree(scope, *id)
                .ok_or_else(|| GcError::Tree { release: release.clone(), tree: id.to_string() })?;
            needed.extend(blobs(&tree));
        }
    }
    let mut env = HashSet::new();
    for id in &roots.artifacts {
        let Some(artifact) = manifest(scope, id) else { continue };
        for layer in &artifact.layers {
            if layer.is_env() {
                env.insert(layer.tree);
            } else if for_here(&layer.roles, &scope.roles) && trees.insert(layer.tree) {
                // Not here: it is fetched again, with what it names.
                needed.extend(tree(scope, layer.tree).iter().flat_map(blobs));
            }
        }
    }
    let mut documents = Vec::new();
    let keep = |id: &ArtifactId| roots.artifacts.contains(id) || roots.manifests.contains(id);
    documents_in(&scope.root.artifacts(), &mut documents, |name| {
        Some(keep(&ArtifactId(name.strip_suffix(".json")?.parse().ok()?)))
    })?;
    for shard in list(&scope.root.trees())? {
        documents_in(&scope.root.trees().join(&shard), &mut documents, |name| {
            Some(trees.contains(&TreeId(format!("{shard}{name}").parse().ok()?)))
        })?;
    }
    for app in &scope.apps {
        env_documents(app, &env, &mut documents)?;
    }
    let objects = cache.contents()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(Facts { objects, needed, documents, now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX) })
}

impl Roots {
    fn of_app(&mut self, app: &AppOnHost) -> Result<(), GcError> {
        let dir = &app.dir;
        // Read to its end: a history that does not hold together says nothing reliable of what is needed.
        History::read(&RealDisk, dir)?;
        if let Some(journal) = Journal::read(&RealDisk, dir)? {
            self.artifacts.insert(journal.target.artifact);
            let releases = [journal.to, journal.from, journal.healthy].into_iter().flatten();
            self.artifacts.extend(releases.map(|release| release.artifact));
        }
        self.artifacts.extend(Controls::read(&RealDisk, dir)?.pin.map(|pin| pin.release.artifact));
        let quarantine = Quarantine::read(&RealDisk, dir)?;
        self.manifests.extend(quarantine.items.iter().map(|item| item.release.artifact));
        for name in list(&dir.releases())?.iter().filter(|name| !name.starts_with('.')) {
            let path = ReleaseDir(dir.release(name)).record();
            let Some(record) = sealed::read::<ReleaseRecord>(&RealDisk, &path)? else { continue };
            self.artifacts.insert(record.release.artifact);
            let trees = record.layers.iter().chain(&record.prepared_tree);
            self.trees.extend(trees.map(|tree| (*tree, name.clone())));
        }
        Ok(())
    }
}

fn for_here(roles: &[Name], own: &[Name]) -> bool {
    crate::spec::applies(roles, own)
}

fn manifest(scope: &Scope, id: &ArtifactId) -> Option<Artifact> {
    let bytes = std::fs::read(scope.root.artifacts().join(format!("{}.json", id.0))).ok()?;
    (ArtifactId::of(&bytes) == *id).then(|| Artifact::decode(&bytes).ok())?
}

fn tree(scope: &Scope, id: TreeId) -> Option<Tree> {
    let hex = id.to_string();
    let bytes = std::fs::read(scope.root.trees().join(&hex[..2]).join(&hex[2..])).ok()?;
    (TreeId::of(&bytes) == id).then(|| Tree::decode(&bytes).ok())?
}

fn blobs(tree: &Tree) -> Vec<BlobId> {
    let blob = |entry: &landfall_store::Entry| match entry.kind {
        Kind::File { blob, .. } => Some(blob),
        Kind::Link { .. } | Kind::EmptyDir => None,
    };
    tree.entries().iter().filter_map(blob).collect()
}

/// Env files are kept by their trees: a file that no kept tree names goes with the tree that named it.
fn env_documents(
    app: &AppOnHost,
    needed: &HashSet<TreeId>,
    documents: &mut Vec<Document>,
) -> Result<(), GcError> {
    let dir = app.dir.run().join("env");
    let mut files = HashSet::new();
    for name in list(&dir)? {
        let Some(id) = name.strip_suffix(".tree").and_then(|hex| hex.parse().ok()).map(TreeId) else {
            continue;
        };
        let bytes = std::fs::read(dir.join(&name)).map_err(io(&dir.join(&name)))?;
        if needed.contains(&id)
            && let Ok(tree) = Tree::decode(&bytes)
        {
            files.extend(blobs(&tree));
        }
    }
    documents_in(&dir, documents, |name| match name.strip_suffix(".tree") {
        Some(hex) => Some(needed.contains(&TreeId(hex.parse().ok()?))),
        None => Some(files.contains(&BlobId(name.parse().ok()?))),
    })
}

/// Notes the files of a directory whose names say what they are; `needed` gives `None` for any other.
fn documents_in(
    dir: &Path,
    documents: &mut Vec<Document>,
    needed: impl Fn(&str) -> Option<bool>,
) -> Result<(), GcError> {
    for name in list(dir)? {
        let Some(needed) = needed(&name) else { continue };
        let path = dir.join(&name);
        let found: Metadata = std::fs::symlink_metadata(&path).map_err(io(&path))?;
        if found.is_file() {
            documents.push(Document { path, bytes: found.len(), changed: found.mtime(), needed });
        }
    }
    Ok(())
}

fn list(dir: &Path) -> Result<Vec<String>, GcError> {
    RealDisk.list(dir).map_err(io(dir))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> GcError {
    let path: PathBuf = path.to_owned();
    move |source| GcError::Io { path, source }
}
