//! Binding an artifact to its environment: the two env files from wherever they come, resolved and named.

use std::collections::BTreeMap;
use std::path::PathBuf;

use landfall_store::{Artifact, ArtifactId, BlobId, Kind, Name};
use serde::{Deserialize, Serialize};

use super::identity::Settings;
use super::{Inner, failure, spec_of};
use crate::effects::Known;
use crate::env::{self, EnvError, EnvInput, Layer, LayerKind, Place, ResolvedEnv};
use crate::record::journal::{Class, Failure};
use crate::record::release::ReleaseRef;
use crate::spec::{EnvSpec, ReleaseSpec};

/// Where env files may come from instead of the artifact.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EnvFiles {
    /// `--env-file`.
    pub base: Option<PathBuf>,
    /// `--env-local-file`.
    pub local: Option<PathBuf>,
    /// `env_dir` of host.toml.
    pub dir: Option<PathBuf>,
    /// `[apps.<app>].env` of host.toml.
    pub host: BTreeMap<String, String>,
}

/// An artifact bound to an environment of this host.
pub(super) struct Bound {
    pub spec: ReleaseSpec,
    pub release: ReleaseRef,
    pub settings: landfall_store::Digest,
    pub env: ResolvedEnv,
    pub files: Vec<(String, Layer)>,
    pub skipped: Vec<Name>,
}

impl Inner {
    /// What the artifact would be here, without asking anybody.
    pub(super) fn known(&self, id: &ArtifactId) -> Option<Known> {
        let artifact = self.kept_artifact(id)?;
        match self.bind(id, &artifact) {
            Ok(bound) => Some(Known { release: bound.release, settings: bound.settings }),
            Err(failure) => {
                tracing::debug!(artifact = %id.short(), %failure.message, "its identity is not known now");
                None
            }
        }
    }

    /// Resolves the env and derives the identity.
    pub(super) fn bind(&self, id: &ArtifactId, artifact: &Artifact) -> Result<Bound, Failure> {
        let spec = spec_of(artifact).map_err(|error| {
            let what =
                format!("{id}: this landfall cannot read what the artifact says of its release: {error}");
            failure(Class::Refused, "ReleaseUnreadable", what)
        })?;
        let asked = env::asked_of(&spec.env, artifact, &self.service.environment, &self.service.roles);
        let base = self.env_layer(&asked, artifact, LayerKind::Base)?;
        let local = self.env_layer(&asked, artifact, LayerKind::Local)?;
        let resolved = self.resolve(
            id,
            &asked,
            base.as_ref().map(|(_, layer)| layer),
            local.as_ref().map(|(_, layer)| layer),
            None,
        )?;
        let skipped = self.skip.among(&spec.steps);
        let settings = Settings {
            artifact: *id,
            environment: &self.service.environment,
            roles: &self.service.roles,
            user: self.service.account.as_ref().map(|account| account.name.as_str()),
            start: self.service.start,
            skipped: &skipped,
        };
        let identity = settings.identity(resolved.fingerprint(&self.secret));
        let release = ReleaseRef::new(*id, identity, spec.version.clone());
        let files: Vec<(String, Layer)> = base.into_iter().chain(local).collect();
        let named = |kind| {
            files
                .iter()
                .find(|(name, _)| *name == env::file_name(&asked, &self.service.environment, kind))
                .map(|(_, layer)| layer)
        };
        let env =
            self.resolve(id, &asked, named(LayerKind::Base), named(LayerKind::Local), Some(&release.name))?;
        Ok(Bound { settings: settings.digest(), spec, release, env, files, skipped })
    }

    fn resolve(
        &self,
        id: &ArtifactId,
        spec: &EnvSpec,
        base: Option<&Layer>,
        local: Option<&Layer>,
        release: Option<&str>,
    ) -> Result<ResolvedEnv, Failure> {
        let landfall = own_keys(&self.service.app, &self.service.environment, id, release);
        let input = EnvInput {
            place: Place::Host,
            spec,
            environment: Some(&self.service.environment),
            clean: &self.clean_env,
            base,
            local,
            host: &self.env_files.host,
            landfall: &landfall,
        };
        env::resolve(&input).map_err(|error| refused(&error))
    }

    /// A layer's file: the flag's, else the host's, else the artifact's. `None`: the recipe has no env layers,
    /// or nobody supplies this one.
    fn env_layer(
        &self,
        spec: &EnvSpec,
        artifact: &Artifact,
        kind: LayerKind,
    ) -> Result<Option<(String, Layer)>, Failure> {
        let flag = match kind {
            LayerKind::Base => self.env_files.base.as_deref(),
            LayerKind::Local => self.env_files.local.as_deref(),
        };
        if spec.environments.is_empty() && flag.is_none() {
            return Ok(None);
        }
        let file = env::file_name(spec, &self.service.environment, kind);
        let found = env::find_layer(flag, self.env_files.dir.as_deref(), None, &file)
            .map_err(|error| refused(&error))?;
        let layer = match found {
            Some((layer, _)) => Some(layer),
            None => self.packed_env_file(artifact, &file)?,
        };
        Ok(layer.map(|layer| (file, layer)))
    }

    /// Private files that came with the env files: those of an adopted app. Placed as they are.
    pub(super) fn private_files(&self, artifact: &Artifact) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let read = |(path, blob): (String, BlobId)| {
            let bytes = self.vault().read(blob);
            let gone = |error| failure(Class::Supply, "EnvLayerMissing", format!("`{path}`: {error}"));
            bytes.map_err(gone).map(|bytes| (path.clone(), bytes))
        };
        self.private(artifact).into_iter().map(read).collect()
    }

    /// Their names.
    pub(super) fn private_names(&self, artifact: &Artifact) -> Vec<String> {
        self.private(artifact).into_iter().map(|(path, _)| path).collect()
    }

    fn private(&self, artifact: &Artifact) -> Vec<(String, BlobId)> {
        let Ok(spec) = spec_of(artifact) else { return Vec::new() };
        let own = [LayerKind::Base, LayerKind::Local]
            .map(|kind| env::file_name(&spec.env, &self.service.environment, kind));
        let vault = self.vault();
        let layers = artifact.layers_for(&self.service.environment, &self.service.roles);
        let trees = layers.filter(|layer| layer.is_env()).filter_map(|layer| vault.tree(layer.tree));
        let entries = trees.flat_map(|tree| tree.entries().to_vec());
        entries
            .filter_map(|entry| match entry.kind {
                Kind::File { blob, .. } => {
                    Some((String::from_utf8(entry.path.as_bytes().to_vec()).ok()?, blob))
                }
                Kind::Link { .. } | Kind::EmptyDir => None,
            })
            .filter(|(path, _)| !own.contains(path))
            .collect()
    }

    fn packed_env_file(&self, artifact: &Artifact, file: &str) -> Result<Option<Layer>, Failure> {
        let vault = self.vault();
        for layer in
            artifact.layers_for(&self.service.environment, &self.service.roles).filter(|layer| layer.is_env())
        {
            let gone = |what: String| failure(Class::Supply, "EnvLayerMissing", what);
            let tree = vault
                .tree(layer.tree)
                .ok_or_else(|| gone(format!("env layer {} is not on this host", layer.tree)))?;
            let Some(entry) = tree.get(file.as_bytes()) else { continue };
            let Kind::File { blob, .. } = entry.kind else { continue };
            let bytes = vault.read(blob).map_err(|error| gone(format!("`{file}`: {error}")))?;
            let layer = env::parse_layer(std::path::Path::new(file), bytes);
            return layer.map(Some).map_err(|error| refused(&error));
        }
        Ok(None)
    }
}

/// `LANDFALL_*`. The release's name is known only once the env has been fingerprinted, which these do not enter.
fn own_keys(
    app: &Name,
    environment: &Name,
    id: &ArtifactId,
    release: Option<&str>,
) -> BTreeMap<String, String> {
    let pairs = [
        ("LANDFALL_APP", Some(app.to_string())),
        ("LANDFALL_ENV", Some(environment.to_string())),
        ("LANDFALL_ARTIFACT", Some(id.to_string())),
        ("LANDFALL_RELEASE", Some(release.unwrap_or_default().to_owned())),
    ];
    pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

fn refused(error: &EnvError) -> Failure {
    let what = match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    };
    failure(Class::Refused, "EnvInvalid", what)
}
