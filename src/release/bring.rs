//! From a store to this host: manifest, trees, contents, every byte verified before it has a name.

use landfall_store::backend::BackendError;
use landfall_store::cache::CacheError;
use landfall_store::fetch::{self, Watch};
use landfall_store::{Artifact, ArtifactId, Layer, Store, StoreError, Tree};

use super::{FRESH, Inner, failure, spec_of};
use crate::disk::{Disk, RealDisk};
use crate::effects::Fetched;
use crate::record::journal::{Class, Failure};
use crate::record::release::ReleaseRecord;
use crate::spec::{ManagerKind, ReleaseSpec, StepKind, StepSpec, applies};

/// Release features this landfall can act on.
const FEATURES: [&str; 0] = [];

impl Inner {
    /// Everything of an artifact that belongs on this host.
    pub(super) fn bring(&self, id: &ArtifactId) -> Result<Fetched, Failure> {
        let artifact = self.manifest(id)?;
        self.judge(id, &artifact)?;
        let mut trees = Vec::new();
        let mut layers = Vec::new();
        for layer in artifact.layers_for(&self.service.environment, &self.service.roles) {
            if layer.is_env() {
                self.bring_env(layer)?;
            } else {
                trees.push(self.bring_tree(layer)?);
                layers.push(layer.tree);
            }
        }
        self.bring_contents(&trees)?;
        let bound = self.bind(id, &artifact)?;
        let record = ReleaseRecord {
            release: bound.release.clone(),
            app: self.service.app.clone(),
            environment: self.service.environment.clone(),
            settings: bound.settings,
            roles: self.service.roles.clone(),
            progress: FRESH,
            layers,
            prepared_tree: None,
            spec: bound.spec,
            start: Some(self.service.start),
            skipped: bound.skipped,
            landfall: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(Fetched { release: bound.release, record })
    }

    fn store(&self) -> Result<Store, Failure> {
        self.store.open().map_err(supply)
    }

    fn manifest(&self, id: &ArtifactId) -> Result<Artifact, Failure> {
        if let Some(artifact) = self.kept_artifact(id) {
            return Ok(artifact);
        }
        let artifact = fetch::artifact(&self.store()?, id).map_err(supply)?;
        let bytes = artifact.encode().map_err(|error| failure(Class::Supply, "DigestMismatch", error))?;
        let path = self.artifact_path(id);
        RealDisk.create_dir(&self.root.artifacts()).and_then(|()| RealDisk.replace(&path, &bytes)).map_err(
            |error| failure(Class::Supply, "InsufficientSpace", format!("{}: {error}", path.display())),
        )?;
        Ok(artifact)
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
        if let Some(unbuilt) = unbuilt(&spec) {
            let what =
                format!("{id} asks for {unbuilt}, which this landfall cannot do yet: install a newer one");
            return refuse("FeatureUnknown", what);
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

    fn bring_tree(&self, layer: &Layer) -> Result<Tree, Failure> {
        if let Some(tree) = self.kept_tree(layer.tree) {
            return Ok(tree);
        }
        let tree = fetch::tree(&self.store()?, &layer.tree).map_err(supply)?;
        self.keep_tree(layer.tree, &tree)?;
        Ok(tree)
    }

    fn bring_contents(&self, trees: &[Tree]) -> Result<(), Failure> {
        // Whole contents that a killed agent left are kept; everything else of it goes.
        self.cache()?.adopt().map_err(cache)?;
        let trees: Vec<&Tree> = trees.iter().collect();
        let wants = fetch::wants(&trees);
        let host = self.cache()?;
        let missing: Vec<_> = wants.iter().filter(|want| !host.has(want).unwrap_or(false)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let bytes = missing.iter().map(|want| want.size).sum();
        host.room(bytes, missing.len() as u64).map_err(cache)?;
        let incoming = host.receive().map_err(cache)?;
        let fetched = fetch::blobs(&self.store()?, &trees, &incoming, &Watch::NOBODY).map_err(supply)?;
        incoming.commit().map_err(cache)?;
        tracing::info!(blobs = fetched.blobs, bytes = fetched.bytes_moved, "fetched");
        Ok(())
    }

    fn bring_env(&self, layer: &Layer) -> Result<(), Failure> {
        let vault = self.vault();
        if vault.tree(layer.tree).is_some() {
            return Ok(());
        }
        let full = |error: std::io::Error| {
            failure(Class::Supply, "InsufficientSpace", format!("env layer: {error}"))
        };
        vault.prepare().map_err(full)?;
        let store = self.store()?;
        let tree = fetch::tree(&store, &layer.tree).map_err(supply)?;
        fetch::blobs(&store, &[&tree], &vault, &Watch::NOBODY).map_err(supply)?;
        vault.keep_tree(layer.tree, &tree).map_err(full)
    }
}

/// What a recipe may say and this landfall does not do: refused rather than ignored.
fn unbuilt(spec: &ReleaseSpec) -> Option<&'static str> {
    let systemd = spec.start.iter().any(|start| start.manager == ManagerKind::Systemd);
    systemd.then_some("manager = \"systemd\"")
}

fn supply(error: StoreError) -> Failure {
    let reason = match &error {
        StoreError::Backend(BackendError::NotFound { .. }) | StoreError::NotAStore(_) => "NotFound",
        StoreError::Damaged { .. } | StoreError::Unavailable { .. } => "DigestMismatch",
        StoreError::Sink { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            "InsufficientSpace"
        }
        _ => "FetchFailed",
    };
    failure(Class::Supply, reason, error)
}

fn cache(error: CacheError) -> Failure {
    let reason = match &error {
        CacheError::NoSpace { .. } | CacheError::NoInodes { .. } => "InsufficientSpace",
        CacheError::Fs(_) => "CacheUnusable",
    };
    failure(Class::Supply, reason, error)
}
