//! Releases on this host: from an artifact in a store to a directory that may become `current`.
//!
//! `bring` fetches and verifies, `envs` binds the artifact to its environment, `build` makes the directory,
//! `steps` runs the recipe's commands in it, `check` compares a release with its recorded tree. What is heavy of
//! that is a piece of `work`, done by a `worker`.

mod assets;
mod bring;
mod build;
mod check;
mod envs;
mod evidence;
pub mod identity;
mod inspect;
mod kept;
mod outside;
mod retention;
mod steps;
mod vault;
mod work;
pub mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use landfall_store::cache::HostCache;
use landfall_store::location::StoreAddress;
use landfall_store::{Artifact, ArtifactId, Tree, TreeId};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::disk::{Disk, RealDisk};
use crate::effects::{self, Depth, Fetched, Known, Setback, Stepped, Supply};
use crate::gc::{Limits, Scope};
use crate::host::{Host, Secret};
use crate::layout::{ReleaseDir, Root};
use crate::pending::Pending;
use crate::processes::Service;
use crate::record::journal::{Class, Failure};
use crate::record::release::{Progress, ReleaseRecord, ReleaseRef};
use crate::record::sealed;
use crate::spec::{ReleaseSpec, StepSpec};

pub use envs::EnvFiles;
pub use evidence::forget;
pub use inspect::{Checkable, is_intact};
pub use retention::{Needed, clear, empty_trash, removable, sweep};
pub use steps::Skip;
use vault::Vault;
use work::{Product, Work};

/// Makes releases of one service.
pub struct HostSupply {
    inner: Inner,
    host: Host,
    /// Of all apps of this host together.
    places: Arc<Semaphore>,
    runner: crate::step::Runner,
}

/// What the work needs to know: plain data, which travels to the process that does it.
#[derive(Serialize, Deserialize)]
struct Inner {
    root: Root,
    store: StoreAddress,
    /// What the environment of every process of the app begins with.
    clean_env: BTreeMap<String, String>,
    secret: Secret,
    service: Place,
    env_files: EnvFiles,
    /// Whether this host runs migrate steps; one that does not waits for their checks.
    migrator: bool,
    #[serde(skip)]
    cache: OnceLock<HostCache>,
    skip: Skip,
}

/// What it needs of the service.
#[derive(Serialize, Deserialize)]
struct Place {
    app: landfall_store::Name,
    environment: landfall_store::Name,
    dir: crate::layout::AppDir,
    roles: Vec<landfall_store::Name>,
    account: Option<crate::start::Account>,
    start: crate::config::StartOverride,
}

impl HostSupply {
    /// The supply of this service on this host. The host cache is opened with its first use, so that looking
    /// at a host makes nothing on it.
    pub fn new(
        host: &Host,
        secret: Secret,
        service: &Service,
        env_files: EnvFiles,
        places: Arc<Semaphore>,
    ) -> Self {
        let inner = Inner {
            root: host.root.clone(),
            store: host.store.clone(),
            clean_env: host.clean_env(service.account.as_ref()),
            secret,
            service: Place {
                app: service.app.clone(),
                environment: service.environment.clone(),
                dir: service.dir.clone(),
                roles: service.roles.clone(),
                account: service.account.clone(),
                start: service.start,
            },
            env_files,
            migrator: host.config.migrator,
            cache: OnceLock::new(),
            skip: Skip::default(),
        };
        Self { inner, host: host.clone(), places, runner: service.runner.clone() }
    }

    /// The same, which leaves steps out.
    #[must_use]
    pub const fn without(mut self, skip: Skip) -> Self {
        self.inner.skip = skip;
        self
    }

    /// Has it done by a process of its own: other apps go on, and its memory goes with it.
    async fn work<T: TryFrom<Product, Error = Failure>>(&self, work: Work) -> Result<T, Failure> {
        self.tried(work).await.map_err(|setback| setback.failure)
    }

    async fn tried<T: TryFrom<Product, Error = Failure>>(&self, work: Work) -> Result<T, Setback> {
        Ok(worker::done(&self.inner, work).await?.try_into()?)
    }

    /// The same for work that takes room: where there is none, what nothing needs goes first.
    async fn with_room<T: TryFrom<Product, Error = Failure>>(&self, work: Work) -> Result<T, Setback> {
        match self.tried(work.clone()).await {
            Err(full) if full.failure.reason == "InsufficientSpace" => {
                tracing::warn!(why = %full.failure.message, "the disk is short: removing what nothing needs");
                if let Err(failure) = self.collect(Limits { max_bytes: Some(0), young_too: true }).await {
                    tracing::warn!(%failure.message, "nothing could be removed");
                    return Err(full);
                }
                self.tried(work).await
            }
            done => done,
        }
    }

    async fn collect(&self, limits: Limits) -> Result<(), Failure> {
        let scope = Scope::of(&self.host, &self.inner.service.environment)
            .map_err(|error| failure(Class::Host, "NotCollected", error))?;
        self.work(Work::Collect(scope, limits)).await
    }

    /// Collects, if that was not done for a while.
    pub async fn collect_if_due(&self) {
        let stamp = self.host.root.collected();
        let age = std::fs::metadata(&stamp).and_then(|found| found.modified()).map(|then| then.elapsed());
        // A time in the future says that the clock was set: then it is due as well.
        if matches!(age, Ok(Ok(age)) if age < COLLECT_EVERY) {
            return;
        }
        let limits = Limits { max_bytes: self.host.config.cache_max_bytes, young_too: false };
        let done = match self.collect(limits).await {
            Ok(()) => RealDisk.replace(&stamp, b"").map_err(|error| format!("{}: {error}", stamp.display())),
            Err(failure) => Err(failure.message),
        };
        if let Err(why) = done {
            tracing::warn!(%why, "the cache was not cleaned");
        }
    }
}

/// Between two collections of an agent that has nothing else to remove.
const COLLECT_EVERY: Duration = Duration::from_secs(3600);

impl Inner {
    /// The contents this host has, opened once.
    fn cache(&self) -> Result<&HostCache, Failure> {
        if let Some(cache) = self.cache.get() {
            return Ok(cache);
        }
        let cache = HostCache::open(self.root.path())
            .map_err(|error| failure(Class::Host, "CacheUnusable", error))?;
        Ok(self.cache.get_or_init(|| cache))
    }

    fn release_dir(&self, name: &str) -> ReleaseDir {
        ReleaseDir(self.service.dir.release(name))
    }

    fn vault(&self) -> Vault {
        Vault::new(self.service.dir.run().join("env"))
    }

    fn artifact_path(&self, id: &ArtifactId) -> PathBuf {
        self.root.artifacts().join(format!("{}.json", id.0))
    }

    fn tree_path(&self, id: TreeId) -> PathBuf {
        let hex = id.to_string();
        self.root.trees().join(&hex[..2]).join(&hex[2..])
    }

    /// A tree this host keeps, verified.
    fn kept_tree(&self, id: TreeId) -> Option<Tree> {
        Tree::decode(&self.kept_text(id)?).ok()
    }

    /// Its canonical bytes.
    fn kept_text(&self, id: TreeId) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.tree_path(id)).ok()?;
        (TreeId::of(&bytes) == id).then_some(bytes)
    }

    fn keep_tree(&self, id: TreeId, tree: &Tree) -> Result<(), Failure> {
        if self.kept_text(id).is_some() {
            return Ok(());
        }
        self.keep_text(id, tree.encode())
    }

    /// Keeps a tree by its canonical bytes.
    fn keep_text(&self, id: TreeId, text: Vec<u8>) -> Result<(), Failure> {
        if self.kept_text(id).is_some() {
            return Ok(());
        }
        let path = self.tree_path(id);
        let dir = path.parent().expect("a tree's path has two levels");
        RealDisk
            .create_dir(dir)
            .and_then(|()| RealDisk.replace_large(&path, text))
            .map_err(|error| failure(Class::Host, "RecordFailed", format!("{}: {error}", path.display())))
    }

    /// An artifact's manifest, if this host keeps it.
    fn kept_artifact(&self, id: &ArtifactId) -> Option<Artifact> {
        let bytes = std::fs::read(self.artifact_path(id)).ok()?;
        let artifact = Artifact::decode(&bytes).ok()?;
        (ArtifactId::of(&bytes) == *id).then_some(artifact)
    }

    fn load(&self, name: &str) -> Result<ReleaseRecord, Failure> {
        let path = self.release_dir(name).record();
        match sealed::read::<ReleaseRecord>(&RealDisk, &path) {
            Ok(Some(record)) if record.release.name == name => Ok(record),
            Ok(Some(record)) => Err(failure(
                Class::Host,
                "RecordDamaged",
                format!("{} speaks of {}", path.display(), record.release.name),
            )),
            Ok(None) => {
                Err(failure(Class::Host, "ReleaseMissing", format!("{} is not there", path.display())))
            }
            Err(error) => Err(failure(Class::Host, "RecordDamaged", error)),
        }
    }
}

impl HostSupply {
    /// Brings `assets` up to these releases, newest first.
    pub async fn keep_assets(&self, newest_first: Vec<String>) -> Result<(), Failure> {
        self.work(Work::KeepAssets(newest_first)).await
    }

    /// Puts large logs aside that nobody else bounds: those that the app writes itself, and those that systemd
    /// writes. A shim never lets its own become so large.
    pub fn rotate_logs(&self) {
        let service = &self.inner.service;
        let (app, dirs) = (service.app.clone(), [service.dir.own_logs(), service.dir.logs()]);
        tokio::task::spawn_blocking(move || {
            for dir in dirs {
                if let Err(error) = crate::own_logs::rotate(&dir) {
                    tracing::warn!(%app, %error, "a log of the app was not rotated");
                }
            }
        });
    }
}

/// What of the artifact acts on hosts.
pub fn spec_of(artifact: &Artifact) -> Result<ReleaseSpec, serde_json::Error> {
    serde_json::from_value(serde_json::Value::Object(artifact.release.clone()))
}

impl Supply for HostSupply {
    fn known<'a>(&'a self, artifact: &'a ArtifactId) -> Pending<'a, Option<Known>> {
        let id = *artifact;
        Box::pin(async move { self.inner.known(&id) })
    }

    fn fetch<'a>(&'a self, artifact: &'a ArtifactId) -> Pending<'a, Result<Fetched, Setback>> {
        let id = *artifact;
        Box::pin(async move { self.with_room(Work::Bring(id)).await.map(Fetched::of) })
    }

    fn place<'a>(&'a self) -> Pending<'a, effects::Place> {
        Box::pin(async {
            let place = Arc::clone(&self.places).acquire_owned().await;
            place.map_or_else(|_| effects::Place::free(), effects::Place::one_of_few)
        })
    }

    fn build<'a>(&'a self, fetched: &'a Fetched) -> Pending<'a, Result<(), Failure>> {
        let work = Work::Build(Box::new(fetched.record.clone()));
        Box::pin(async move { self.with_room(work).await.map_err(|setback| setback.failure) })
    }

    fn step<'a>(
        &'a self,
        record: &'a ReleaseRecord,
        step: &'a StepSpec,
        attempt: u64,
        give_way: Pending<'a, ()>,
    ) -> Pending<'a, Result<Stepped, Failure>> {
        Box::pin(self.run_step(record, step, attempt, give_way))
    }

    fn migrates(&self) -> bool {
        self.inner.migrator
    }

    fn check<'a>(
        &'a self,
        record: &'a ReleaseRecord,
        step: &'a StepSpec,
        attempt: u64,
        give_way: Pending<'a, ()>,
    ) -> Pending<'a, Result<Option<String>, Failure>> {
        Box::pin(self.run_check(record, step, attempt, give_way))
    }

    fn discard<'a>(&'a self, release: &'a ReleaseRef) -> Pending<'a, Result<(), Failure>> {
        Box::pin(self.work(Work::Discard(release.clone())))
    }

    fn finish<'a>(&'a self, fetched: &'a Fetched) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async move {
            // Nothing worth a process of its own where nothing was run.
            if self.inner.is_finished(&fetched.record) {
                return Ok(());
            }
            self.work(Work::Finish(Box::new(fetched.record.clone()))).await
        })
    }

    fn load<'a>(&'a self, name: &'a str) -> Pending<'a, Result<ReleaseRecord, Failure>> {
        Box::pin(async move { self.inner.load(name) })
    }

    fn verify<'a>(
        &'a self,
        release: &'a ReleaseRef,
        depth: Depth,
    ) -> Pending<'a, Result<ReleaseRecord, Failure>> {
        Box::pin(self.work(Work::Check(release.clone(), depth)))
    }
}

pub(crate) fn failure(class: Class, reason: &str, message: impl ToString) -> Failure {
    Failure { class, reason: reason.to_owned(), message: message.to_string() }
}

/// A record that says nothing of progress yet.
pub(crate) const FRESH: Progress = Progress::Materialised;
