//! From a store to this host: manifest, trees, contents, every byte verified before it has a name.

use landfall_store::backend::BackendError;
use landfall_store::cache::CacheError;
use landfall_store::fetch::{Session, Watch};
use landfall_store::{Artifact, ArtifactId, Layer, StoreError, Tree, TreeId};

use super::kept::{Destinations, OnHost};
use super::{FRESH, Inner, failure, spec_of};
use crate::disk::{Disk, RealDisk};
use crate::effects::{Fetched, Setback};
use crate::record::fetching::Told;
use crate::record::journal::{Class, Failure};
use crate::record::release::ReleaseRecord;
use crate::spec::{StepKind, StepSpec, applies};

/// Release features this landfall can act on.
const FEATURES: [&str; 0] = [];

impl Inner {
    /// Everything of an artifact that belongs on this host. What arrived stays when it fails.
    pub(super) fn bring(&self, id: &ArtifactId) -> Result<Fetched, Setback> {
        // Whole contents that a killed agent left are kept; everything else of it goes.
        self.cache()?.adopt().map_err(cache)?;
        let kept = OnHost::new(self, self.cache()?);
        let told = Told::new(&self.service.dir);
        let tell = |now| told.tell(now);
        let watch = Watch { progress: &tell, ..Watch::NOBODY };
        let artifact = match self.kept_artifact(id) {
            Some(artifact) => {
                self.judge(id, &artifact)?;
                if !kept.has_all(self.layers(&artifact)) {
                    let store = self.store.reach().map_err(supply)?;
                    self.bring_layers(id, &artifact, Session::new(&store, &kept, watch), &kept)?;
                }
                artifact
            }
            None => {
                let store = self.store.reach().map_err(supply)?;
                let mut session = Session::new(&store, &kept, watch);
                let artifact = session.manifest(id).map_err(supply)?;
                self.keep_artifact(id, &artifact)?;
                // What must not run here is refused before anything else of it is moved.
                self.judge(id, &artifact)?;
                self.bring_layers(id, &artifact, session, &kept)?;
                artifact
            }
        };
        let bound = self.bind(id, &artifact)?;
        let packed = self.layers(&artifact).filter(|layer| !layer.is_env());
        let record = ReleaseRecord {
            release: bound.release.clone(),
            app: self.service.app.clone(),
            environment: self.service.environment.clone(),
            settings: bound.settings,
            roles: self.service.roles.clone(),
            progress: FRESH,
            layers: packed.map(|layer| layer.tree).collect(),
            prepared_tree: None,
            spec: bound.spec,
            start: Some(self.service.start),
            skipped: bound.skipped,
            landfall: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(Fetched { release: bound.release, record })
    }

    /// The layers that belong on this host.
    fn layers<'a>(&'a self, artifact: &'a Artifact) -> impl Iterator<Item = &'a Layer> {
        artifact.layers_for(&self.service.environment, &self.service.roles)
    }

    fn keep_artifact(&self, id: &ArtifactId, artifact: &Artifact) -> Result<(), Failure> {
        let bytes = artifact.encode().map_err(|error| failure(Class::Supply, "DigestMismatch", error))?;
        let path = self.artifact_path(id);
        RealDisk.create_dir(&self.root.artifacts()).and_then(|()| RealDisk.replace(&path, &bytes)).map_err(
            |error| failure(Class::Supply, "InsufficientSpace", format!("{}: {error}", path.display())),
        )
    }

    fn bring_layers(
        &self,
        id: &ArtifactId,
        artifact: &Artifact,
        mut session: Session<'_>,
        kept: &OnHost<'_>,
    ) -> Result<(), Setback> {
        let full = |error: std::io::Error| {
            failure(Class::Supply, "InsufficientSpace", format!("env layer: {error}"))
        };
        let layers: Vec<&Layer> = self.layers(artifact).collect();
        if layers.iter().any(|layer| layer.is_env()) {
            kept.vault.prepare().map_err(full)?;
        }
        let came = session.documents(id, &layers);
        let packed = session.trees().filter(|(layer, _)| !layer.is_env());
        let trees: Vec<(TreeId, Vec<u8>)> = packed.map(|(layer, tree)| (layer.tree, tree.encode())).collect();
        let secret: Vec<(TreeId, Tree)> = session
            .trees()
            .filter(|(layer, _)| layer.is_env())
            .map(|(layer, tree)| (layer.tree, tree.clone()))
            .collect();
        // Millions of bytes, for whose durability the contents need not wait.
        let (brought, listed) = std::thread::scope(|scope| {
            let keep = |(id, text): (TreeId, Vec<u8>)| self.keep_text(id, text);
            let listing = scope.spawn(move || trees.into_iter().try_for_each(keep));
            let brought = came.map_err(supply).and_then(|()| self.bring_contents(session, kept));
            (brought, listing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        brought?;
        listed?;
        // A tree in the vault says that its contents are there.
        Ok(secret.iter().try_for_each(|(id, tree)| kept.vault.keep_tree(*id, tree)).map_err(full)?)
    }

    fn bring_contents(&self, session: Session<'_>, kept: &OnHost<'_>) -> Result<(), Setback> {
        let missing = session.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let bytes = missing.iter().map(|want| want.size).sum();
        kept.cache.room(bytes, missing.len() as u64).map_err(cache)?;
        let incoming = kept.cache.receive().map_err(cache)?;
        let destinations = Destinations::new(&kept.vault, &incoming, session.trees());
        let fetched = session.contents(&destinations).map_err(supply)?;
        incoming.commit().map_err(cache)?;
        tracing::info!(blobs = fetched.blobs, bytes = fetched.bytes_moved, "fetched");
        Ok(())
    }

    /// Refuses what must not run here before anything of it is moved.
    fn judge(&self, id: &ArtifactId, artifact: &Artifact) -> Result<(), Failure> {
        let refuse = |reason: &str, what: String| Err(failure(Class::Refused, reason, what));
        let (app, environment) = (&self.service.app, &self.service.environment);
        if artifact.app != *app {
            return refuse("WrongApp", format!("{id} is an artifact of `{}`, not of `{app}`", artifact.app));
        }
        if let Some(only) = &artifact.environment
            && only != environment
        {
            return refuse(
                "WrongEnvironment",
                format!("{id} was packed for `{only}` and may not run in `{environment}`"),
            );
        }
        let spec = spec_of(artifact).map_err(|error| {
            failure(
                Class::Refused,
                "ReleaseUnreadable",
                format!("{id}: {error}; a newer landfall may be needed"),
            )
        })?;
        if let Some(unknown) = spec.requires.iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
            return refuse(
                "FeatureUnknown",
                format!("{id} requires `{unknown}`, which this landfall cannot do: install a newer one"),
            );
        }
        let applying =
            |step: &&StepSpec| step.kind == StepKind::Migrate && applies(&step.roles, &self.service.roles);
        if !self.migrator
            && let Some(step) = spec.steps.iter().filter(applying).find(|step| step.check.is_none())
        {
            return Err(super::steps::without_check(step));
        }
        if spec.start.is_empty()
            && spec.steps.is_empty()
            && spec.health.is_empty()
            && artifact.layers.is_empty()
        {
            return refuse("Empty", format!("{id} has no layers and starts nothing"));
        }
        Ok(())
    }
}

fn supply(error: StoreError) -> Setback {
    let reason = match &error {
        StoreError::Backend(BackendError::NotFound { .. }) | StoreError::NotAStore(_) => "NotFound",
        StoreError::Damaged { .. } | StoreError::Unavailable { .. } => "DigestMismatch",
        StoreError::Sink { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            "InsufficientSpace"
        }
        _ => "FetchFailed",
    };
    let retry_after = error.retry_after();
    Setback { failure: failure(Class::Supply, reason, error), retry_after }
}

fn cache(error: CacheError) -> Failure {
    let reason = match &error {
        CacheError::NoSpace { .. } | CacheError::NoInodes { .. } => "InsufficientSpace",
        CacheError::Fs(_) => "CacheUnusable",
    };
    failure(Class::Supply, reason, error)
}
