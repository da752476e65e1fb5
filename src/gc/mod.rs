//! Collection on a host: what of cached contents, trees, manifests and env files nothing needs any more.
//!
//! [`look`] reads everything that may need something and stops at the first record it cannot read; [`plan`] is
//! pure; [`run`] does both and then removes. Old releases are not its business: they go after each attempt, and
//! what they alone needed is what is found here.

mod look;
mod plan;

use std::path::PathBuf;

use landfall_store::cache::HostCache;
use landfall_store::collect;
use landfall_store::{ArtifactId, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::layout::{AppDir, Root};
use crate::record::RecordError;

pub use look::{Facts, look};
pub use plan::{Document, Limits, Plan, plan};

/// Whose needs count: every app on this host, and what the state asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scope {
    /// Everything landfall keeps on this host.
    pub root: Root,
    /// Its apps, in every environment.
    pub apps: Vec<AppOnHost>,
    /// Artifacts that the state asks for here.
    pub wanted: Vec<ArtifactId>,
    /// The parts of apps that run here.
    pub roles: Vec<Name>,
}

/// One app in one environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppOnHost {
    /// Its environment.
    pub environment: Name,
    /// Its directories.
    pub dir: AppDir,
}

/// Why nothing was collected.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// A record cannot be read, so nobody knows what it needs.
    #[error("{0}; nothing was removed")]
    Record(#[from] RecordError),
    /// A tree of a release on disk is not there, so nobody knows its files.
    #[error("release {release} needs tree {tree}, which is not on this host or damaged; nothing was removed")]
    Tree {
        /// The release.
        release: String,
        /// The tree.
        tree: String,
    },
    /// The cache.
    #[error(transparent)]
    Cache(#[from] landfall_store::cache::CacheError),
    /// The accepted state or a directory.
    #[error("{path}: {source}; nothing was removed")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A deploy uses the cache.
    #[error("a deploy uses the cache now; nothing was removed")]
    Busy,
}

/// What a collection came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Collected {
    /// Bytes of contents in the cache before.
    pub cache_bytes: u64,
    /// Of these, bytes that releases on disk, in flight, pinned or wanted need.
    pub needed_bytes: u64,
    /// What the cache may take.
    pub max_bytes: u64,
    /// Contents that go, and their bytes.
    pub contents: u64,
    /// Their bytes.
    pub content_bytes: u64,
    /// Trees, manifests and env files that go.
    pub documents: u64,
    /// Their bytes.
    pub document_bytes: u64,
    /// They are gone; else they would go.
    pub removed: bool,
}

impl Scope {
    /// Everything on this host, with the state that was last accepted.
    pub fn of(host: &Host, environment: &Name) -> Result<Self, GcError> {
        let mut apps = Vec::new();
        let all = host.root.apps();
        for app in names(&all)? {
            let dir = host.config.apps.as_ref().and_then(|apps| apps.get(&app)?.dir.clone());
            for environment in names(&all.join(app.as_str()))? {
                let dir = host.root.app(&app, &environment, dir.as_deref());
                apps.push(AppOnHost { environment, dir });
            }
        }
        let accepted = crate::watch::last(host)?;
        let wanted = accepted.iter().flat_map(|accepted| {
            let state = &accepted.state;
            state
                .apps_in(environment)
                .filter_map(|app| Some(state.resolve(app, environment).ok()?.target()?.artifact))
        });
        Ok(Self { root: host.root.clone(), apps, wanted: wanted.collect(), roles: host.config.roles.clone() })
    }
}

fn names(dir: &std::path::Path) -> Result<Vec<Name>, GcError> {
    use crate::disk::{Disk, RealDisk};
    let listed = RealDisk.list(dir).map_err(|source| GcError::Io { path: dir.to_owned(), source })?;
    Ok(listed.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Looks, plans, and unless it is only to be told, removes.
pub fn run(scope: &Scope, limits: &Limits, dry_run: bool) -> Result<Collected, GcError> {
    if !scope.root.path().join("objects").is_dir() {
        return Ok(Collected::default());
    }
    let cache = HostCache::open(scope.root.path())?;
    let alone = if dry_run { None } else { Some(collect::alone(scope.root.path())?.ok_or(GcError::Busy)?) };
    let facts = look(scope, &cache)?;
    let plan = plan(&facts, limits);
    let mut collected = plan.summary(&facts, limits);
    if let Some(alone) = alone {
        // Documents last: while contents go, a crash leaves nothing that is half known.
        for object in &plan.objects {
            cache.discard(object, &alone)?;
        }
        for document in &plan.documents {
            match std::fs::remove_file(&document.path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(GcError::Io { path: document.path.clone(), source });
                }
                _ => {}
            }
        }
        collected.removed = true;
    }
    Ok(collected)
}
