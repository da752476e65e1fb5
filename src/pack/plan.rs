//! What a pack for an environment holds: layers of the recipe, and the env files beside it.

use std::path::{Path, PathBuf};

use landfall_store::Name;
use landfall_store::scan::{LayerSource, Mapping};

use super::PackError;
use crate::env::{self, EnvError, Layer, LayerKind};
use crate::recipe::{self, LayerRecipe, Recipe};
use crate::spec::EnvSpec;

/// A layer that is going to be scanned.
pub(super) struct PlannedLayer {
    pub(super) name: Name,
    pub(super) roles: Vec<Name>,
    pub(super) environment: Option<Name>,
    pub(super) source: LayerSource,
}

/// The env files of every environment that is packed, read and found well formed.
pub(super) struct EnvFiles(Vec<EnvPair>);

/// The two env files of one environment.
pub(super) struct EnvPair {
    pub(super) environment: Name,
    pub(super) base: Layer,
    pub(super) local: Option<Layer>,
}

/// Refuses an environment that the recipe does not have.
pub(super) fn check_environment(recipe: &Recipe, asked: Option<&Name>) -> Result<(), PackError> {
    let known = &recipe.env().environments;
    match asked {
        Some(asked) if !known.is_empty() && !known.contains(asked) => {
            Err(PackError::UnknownEnvironment { environment: asked.clone(), known: known.clone() })
        }
        _ => Ok(()),
    }
}

/// The environments whose env layers are stored: the one that is packed for, else every one.
fn stored_environments<'a>(spec: &'a EnvSpec, packed: Option<&'a Name>) -> Vec<&'a Name> {
    spec.environments.iter().filter(|own| packed.is_none_or(|packed| packed == *own)).collect()
}

impl EnvFiles {
    /// Reads them: the base layer must be there, the local one need not be.
    pub(super) fn read(dir: &Path, spec: &EnvSpec, packed: Option<&Name>) -> Result<Self, EnvError> {
        let pair = |environment: &Name| {
            let file = |kind| dir.join(env::file_name(spec, environment, kind));
            Ok(EnvPair {
                environment: environment.clone(),
                base: env::read_layer(&file(LayerKind::Base))?,
                local: optional(env::read_layer(&file(LayerKind::Local)))?,
            })
        };
        stored_environments(spec, packed).into_iter().map(pair).collect::<Result<_, _>>().map(Self)
    }

    /// The files of one environment.
    pub(super) fn of(&self, environment: &Name) -> Option<&EnvPair> {
        self.0.iter().find(|pair| pair.environment == *environment)
    }

    /// Secrets that end up in the store as they are.
    pub(super) fn warnings(&self) -> Vec<String> {
        let unsealed = self.0.iter().filter_map(|pair| Some((&pair.environment, pair.local.as_ref()?)));
        unsealed
            .map(|(environment, local)| {
                let file = local.path.file_name().unwrap_or_default().display();
                format!(
                    "layer \"env\" ({environment}): {file} is stored unsealed; whoever reads the store reads \
                     it (keep it in `env_dir` on the hosts instead)"
                )
            })
            .collect()
    }
}

fn optional(read: Result<Layer, EnvError>) -> Result<Option<Layer>, EnvError> {
    match read {
        Ok(layer) => Ok(Some(layer)),
        Err(EnvError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The layers of a pack, env layers included.
pub(super) fn layers(
    dir: &Path,
    recipe: &Recipe,
    env: &EnvFiles,
    packed: Option<&Name>,
) -> Vec<PlannedLayer> {
    let env_files = env_file_names(recipe.env());
    let wanted = |layer: &&LayerRecipe| match (&layer.environment, packed) {
        (Some(own), Some(packed)) => own == packed,
        _ => true,
    };
    let mut planned = Vec::new();
    for layer in recipe.layers.iter().filter(wanted) {
        match layer.kind {
            recipe::LayerKind::Files => planned.push(files_layer(dir, layer, &env_files)),
            recipe::LayerKind::Env => planned.extend(env.0.iter().map(|pair| env_layer(dir, layer, pair))),
        }
    }
    planned
}

fn files_layer(dir: &Path, layer: &LayerRecipe, env_files: &[String]) -> PlannedLayer {
    let mapping = |file: &recipe::FileMap| Mapping { from: file.from.clone(), to: file.to.clone() };
    PlannedLayer {
        name: layer.name.clone(),
        roles: layer.roles.clone(),
        environment: layer.environment.clone(),
        source: LayerSource {
            name: layer.name.clone(),
            root: dir.to_owned(),
            files: layer.files.iter().map(mapping).collect(),
            exclude: layer.exclude.clone(),
            env: false,
            env_files: env_files.to_vec(),
        },
    }
}

fn env_layer(dir: &Path, layer: &LayerRecipe, pair: &EnvPair) -> PlannedLayer {
    let mapping = |layer: &Layer| {
        let name = layer.path.file_name().unwrap_or_default();
        Mapping { from: PathBuf::from(name), to: name.to_string_lossy().into_owned() }
    };
    PlannedLayer {
        name: layer.name.clone(),
        roles: layer.roles.clone(),
        environment: Some(pair.environment.clone()),
        source: LayerSource {
            name: layer.name.clone(),
            root: dir.to_owned(),
            files: [Some(&pair.base), pair.local.as_ref()].into_iter().flatten().map(mapping).collect(),
            exclude: Vec::new(),
            env: true,
            env_files: Vec::new(),
        },
    }
}

/// The names of all env files, whichever environment is packed: none may slip into another layer.
fn env_file_names(spec: &EnvSpec) -> Vec<String> {
    let kinds = [LayerKind::Base, LayerKind::Local];
    spec.environments
        .iter()
        .flat_map(|environment| kinds.map(|kind| env::file_name(spec, environment, kind)))
        .collect()
}
