//! What makes two artifacts different: files layer by layer, dependencies, and what hosts do with them.
//!
//! Only trees are walked; of contents nothing is read but the lockfiles and manifests that changed.

mod dependencies;
mod read;
mod tree;

use std::collections::BTreeSet;

use landfall_store::{Artifact, ArtifactId, Layer, Name, Store, StoreError, Tree, fetch};
use schemars::JsonSchema;
use serde::Serialize;

pub use dependencies::DependencyChange;
pub(crate) use read::content;
pub use tree::{Change, FileChange, Shape};

/// Two artifacts beside each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The one that changes are told from.
    pub from: Side,
    /// The one that changes lead to.
    pub to: Side,
    /// Layers that are not equal, by name and environment.
    pub layers: Vec<LayerDifference>,
    /// Dependencies whose versions changed, by name.
    pub dependencies: Vec<DependencyChange>,
    /// Keys of the release part that changed: `start`, `health`, ….
    pub release: Vec<String>,
}

/// One of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Side {
    /// Its id.
    pub artifact: ArtifactId,
    /// What it is a version of.
    pub app: Name,
    /// The version it carries.
    pub version: Option<landfall_store::Version>,
    /// The environment it is bound to.
    pub environment: Option<Name>,
}

/// One layer that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerDifference {
    /// Its name.
    pub name: Name,
    /// Its environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Name>,
    /// Whether it is there at all in both.
    pub change: Change,
    /// The roles it was for, and is for, where that changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<(Vec<Name>, Vec<Name>)>,
    /// Its files, in tree order.
    pub files: Vec<FileChange>,
}

impl Difference {
    /// Whether both are one artifact.
    pub fn is_none(&self) -> bool {
        self.from.artifact == self.to.artifact
    }
}

/// Every path of a tree as one that is new.
pub fn added(tree: &Tree) -> Vec<FileChange> {
    tree::compare(&Tree::default(), tree)
}

/// Compares two artifacts of a store.
pub fn compare(store: &Store, from: &ArtifactId, to: &ArtifactId) -> Result<Difference, StoreError> {
    let (a, b) = (fetch::artifact(store, from)?, fetch::artifact(store, to)?);
    let mut layers = Vec::new();
    let mut found = dependencies::Found::default();
    for (old, new) in pairs(&a, &b) {
        let trees = (tree_of(store, old)?, tree_of(store, new)?);
        let files = tree::compare(&trees.0, &trees.1);
        if !files.is_empty() {
            read::dependencies(store, (&trees.0, &trees.1), &files, &mut found)?;
        }
        layers.extend(layer_difference(old, new, files));
    }
    Ok(Difference {
        from: side(*from, &a),
        to: side(*to, &b),
        layers,
        dependencies: found.changes(),
        release: changed_keys(&a, &b),
    })
}

fn side(artifact: ArtifactId, document: &Artifact) -> Side {
    Side {
        artifact,
        app: document.app.clone(),
        version: landfall_store::refs::version_of(document),
        environment: document.environment.clone(),
    }
}

/// Every layer of either with its namesake of the other.
fn pairs<'a>(a: &'a Artifact, b: &'a Artifact) -> Vec<(Option<&'a Layer>, Option<&'a Layer>)> {
    let keys: BTreeSet<_> = a.layers.iter().chain(&b.layers).map(key).collect();
    let find = |artifact: &'a Artifact, wanted| artifact.layers.iter().find(|layer| key(layer) == wanted);
    keys.into_iter().map(|wanted| (find(a, wanted), find(b, wanted))).collect()
}

fn key(layer: &Layer) -> (&Name, Option<&Name>) {
    (&layer.name, layer.environment.as_ref())
}

fn tree_of(store: &Store, layer: Option<&Layer>) -> Result<Tree, StoreError> {
    layer.map_or_else(|| Ok(Tree::default()), |layer| fetch::tree(store, &layer.tree))
}

fn layer_difference(
    old: Option<&Layer>,
    new: Option<&Layer>,
    files: Vec<FileChange>,
) -> Option<LayerDifference> {
    let (change, layer) = match (old, new) {
        (Some(_), Some(layer)) => (Change::Changed, layer),
        (None, Some(layer)) => (Change::Added, layer),
        (Some(layer), None) => (Change::Removed, layer),
        (None, None) => return None,
    };
    let roles = old.zip(new).filter(|(old, new)| old.roles != new.roles);
    let roles = roles.map(|(old, new)| (old.roles.clone(), new.roles.clone()));
    if change == Change::Changed && files.is_empty() && roles.is_none() {
        return None;
    }
    let (name, environment) = (layer.name.clone(), layer.environment.clone());
    Some(LayerDifference { name, environment, change, roles, files })
}

fn changed_keys(a: &Artifact, b: &Artifact) -> Vec<String> {
    let keys: BTreeSet<&String> = a.release.keys().chain(b.release.keys()).collect();
    keys.into_iter().filter(|key| a.release.get(*key) != b.release.get(*key)).cloned().collect()
}
