//! Scanned layers and a recipe, put together: the artifact, and the report of a pack. Pure.

use landfall_store::push::PushReport;
use landfall_store::{Artifact, Layer, Name, Tree, Version};

use super::{PackError, PackedLayer, Scanned};
use crate::recipe::Recipe;

/// The artifact that names all of it.
pub(super) fn artifact(
    recipe: &Recipe,
    version: Version,
    environment: Option<&Name>,
    layers: &[Scanned],
) -> Result<Artifact, PackError> {
    let trees: Vec<&Tree> = layers.iter().map(|scanned| &scanned.found.tree).collect();
    let layers = layers.iter().map(layer).collect();
    let release = recipe.release_of(version, &trees)?.to_map();
    Ok(Artifact::new(recipe.app.clone(), environment.cloned(), layers, release)?)
}

fn layer(scanned: &Scanned) -> Layer {
    let Scanned { planned, found } = scanned;
    Layer {
        bytes: found.tree.bytes(),
        environment: planned.environment.clone(),
        files: found.tree.files(),
        mount: String::new(),
        name: planned.name.clone(),
        roles: planned.roles.clone(),
        tree: found.id,
    }
}

/// What is told of each layer.
pub(super) fn report(artifact: &Artifact, layers: &[Scanned], pushed: &PushReport) -> Vec<PackedLayer> {
    let told = |layer: &Layer| {
        let is_it = |scanned: &&Scanned| {
            scanned.planned.name == layer.name && scanned.planned.environment == layer.environment
        };
        let scanned = layers.iter().find(is_it);
        let stored = pushed
            .layers
            .iter()
            .find(|pushed| pushed.name == layer.name && pushed.environment == layer.environment);
        PackedLayer {
            name: layer.name.clone(),
            environment: layer.environment.clone(),
            tree: layer.tree,
            files: layer.files,
            bytes: layer.bytes,
            new_bytes: stored.map_or(0, |stored| stored.new_bytes),
            files_read: scanned.map_or(0, |scanned| scanned.found.counters.hashed),
            left_out: scanned.map(|scanned| scanned.found.left_out.clone()).unwrap_or_default(),
        }
    };
    artifact.layers.iter().map(told).collect()
}
