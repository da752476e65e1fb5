//! What a deploy would change on this host: files between two releases, and contents to fetch.

use std::collections::HashMap;

use landfall_store::cache::HostCache;
use landfall_store::{Artifact, ArtifactId, Kind, Name, Store, Tree, TreeId, fetch};
use schemars::JsonSchema;
use serde::Serialize;

use crate::host::Host;
use crate::record::release::ReleaseRecord;

/// Packed files that differ. Env files and what steps make are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Files {
    /// Only in the new one.
    pub added: u64,
    /// In both, with other content, mode or kind.
    pub changed: u64,
    /// Only in the old one.
    pub removed: u64,
}

/// Contents that this host lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Missing {
    /// How many.
    pub contents: u64,
    /// Their bytes, not compressed.
    pub bytes: u64,
}

/// The difference between two releases; pure.
pub fn files(old: &[Tree], new: &[Tree]) -> Files {
    let mut before: HashMap<&[u8], &Kind> = entries(old).collect();
    let mut files = Files::default();
    for (path, kind) in entries(new) {
        match before.remove(path) {
            None => files.added += 1,
            Some(old) if old != kind => files.changed += 1,
            Some(_) => {}
        }
    }
    files.removed = before.len() as u64;
    files
}

/// Files and links; that a directory is empty is no file.
fn entries(trees: &[Tree]) -> impl Iterator<Item = (&[u8], &Kind)> {
    let entries = trees.iter().flat_map(Tree::entries).map(|entry| (entry.path.as_bytes(), &entry.kind));
    entries.filter(|(_, kind)| !matches!(kind, Kind::EmptyDir))
}

/// What this host would have to fetch; `None`: it has no cache yet, so everything.
pub fn missing(cache: Option<&HostCache>, trees: &[Tree]) -> Missing {
    let trees: Vec<&Tree> = trees.iter().collect();
    let mut missing = Missing::default();
    for want in fetch::wants(&trees) {
        let here = cache.is_some_and(|cache| cache.has(&want).unwrap_or(false));
        if !here && want.size > 0 {
            missing.contents += 1;
            missing.bytes += want.size;
        }
    }
    missing
}

/// Reads documents from this host where it has them, else from the store; every one is verified.
#[derive(Debug)]
pub struct Documents<'a> {
    /// The host.
    pub host: &'a Host,
    /// The store, if it can be reached.
    pub store: Option<&'a Store>,
}

impl Documents<'_> {
    /// An artifact's manifest; an error says why nobody has it.
    pub fn artifact(&self, id: &ArtifactId) -> Result<Artifact, String> {
        let path = self.host.root.artifacts().join(format!("{}.json", id.0));
        let kept = std::fs::read(path).ok().filter(|bytes| ArtifactId::of(bytes) == *id);
        match (kept.and_then(|bytes| Artifact::decode(&bytes).ok()), self.store) {
            (Some(artifact), _) => Ok(artifact),
            (None, Some(store)) => fetch::artifact(store, id).map_err(|error| error.to_string()),
            (None, None) => Err(format!("{id} is not on this host, and the store cannot be read")),
        }
    }

    /// The trees of an artifact that belong on this host, without env files.
    pub fn trees(&self, artifact: &Artifact, environment: &Name) -> Result<Vec<Tree>, String> {
        let layers = artifact.layers_for(environment, &self.host.config.roles);
        layers.filter(|layer| !layer.is_env()).map(|layer| self.tree(layer.tree)).collect()
    }

    /// The trees a release was made of.
    pub fn trees_of(&self, release: &ReleaseRecord) -> Result<Vec<Tree>, String> {
        release.layers.iter().map(|id| self.tree(*id)).collect()
    }

    fn tree(&self, id: TreeId) -> Result<Tree, String> {
        let hex = id.to_string();
        let path = self.host.root.trees().join(&hex[..2]).join(&hex[2..]);
        let kept = std::fs::read(path).ok().filter(|bytes| TreeId::of(bytes) == id);
        match (kept.and_then(|bytes| Tree::decode(&bytes).ok()), self.store) {
            (Some(tree), _) => Ok(tree),
            (None, Some(store)) => fetch::tree(store, &id).map_err(|error| error.to_string()),
            (None, None) => Err(format!("tree {id} is not on this host, and the store cannot be read")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_store::{BlobId, Entry, EntryPath};

    fn tree(files: &[(&str, &str)]) -> Tree {
        let entry = |(path, text): &(&str, &str)| Entry {
            path: EntryPath::new(path.as_bytes()).unwrap(),
            kind: Kind::File {
                size: text.len() as u64,
                blob: BlobId::of(text.as_bytes()),
                executable: false,
            },
        };
        Tree::from_entries(files.iter().map(entry).collect()).unwrap()
    }

    #[test]
    fn files_that_move_between_layers_are_no_difference() {
        let old = [tree(&[("a", "1"), ("b", "2"), ("gone", "3")])];
        let new = [tree(&[("b", "2")]), tree(&[("a", "other"), ("new", "4")])];
        assert_eq!(files(&old, &new), Files { added: 1, changed: 1, removed: 1 });
        assert_eq!(files(&old, &old), Files::default());
    }

    #[test]
    fn equal_contents_are_fetched_once_and_empty_ones_never() {
        let trees = [tree(&[("a", "same"), ("b", "same"), ("empty", "")])];
        assert_eq!(missing(None, &trees), Missing { contents: 1, bytes: 4 });
    }
}
