//! Rules that only whole trees can break: contending layers, packed modules, links that lead elsewhere.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use landfall_store::disjoint;
use landfall_store::location::StoreAddress;
use landfall_store::path::escape;
use landfall_store::scan::dangling;
use landfall_store::{Artifact, Entry, EntryPath, Kind, Layer, Tree};

use super::{PackError, Scanned};
use crate::recipe::Recipe;
use crate::spec::PathsSpec;

const MODULES: &[u8] = b"node_modules";

/// Refuses trees that cannot become a release.
pub(super) fn check(recipe: &Recipe, artifact: &Artifact, layers: &[Scanned]) -> Result<(), PackError> {
    no_packed_modules(recipe, layers)?;
    let pairs: Vec<(&Layer, &Tree)> =
        artifact.layers.iter().filter_map(|layer| Some((layer, tree_of(layer, layers)?))).collect();
    let shared: Vec<EntryPath> =
        recipe.paths().shared.iter().map(|path| EntryPath::new(path.as_str())).collect::<Result<_, _>>()?;
    disjoint::check(&pairs, &shared)?;
    Ok(())
}

fn tree_of<'a>(layer: &Layer, layers: &'a [Scanned]) -> Option<&'a Tree> {
    layers.iter().find(|scanned| scanned.found.id == layer.tree).map(|scanned| &scanned.found.tree)
}

/// Where the host installs dependencies, this machine's never travel.
fn no_packed_modules(recipe: &Recipe, layers: &[Scanned]) -> Result<(), PackError> {
    let Some(step) = recipe.installs_dependencies() else { return Ok(()) };
    for layer in layers {
        if let Some(path) = packed_modules(&layer.found.tree) {
            return Err(PackError::PackedModules {
                layer: layer.planned.name.clone(),
                path: path.to_string(),
                step: step.clone(),
            });
        }
    }
    Ok(())
}

/// A store below the source tree would grow with every pack by what it held before.
pub(super) fn no_packed_store(dir: &Path, store: &StoreAddress, layers: &[Scanned]) -> Result<(), PackError> {
    // A store elsewhere, or one that does not exist yet, has nothing to be packed.
    let Some(Ok(place)) = store.dir().map(Path::canonicalize) else { return Ok(()) };
    for layer in layers {
        for file in &layer.planned.source.files {
            let Ok(below) = place.strip_prefix(dir.join(&file.from)) else { continue };
            let inside = Path::new(&file.to).join(below);
            let holds = |entry: &Entry| entry.path.as_path().starts_with(&inside);
            if layer.found.tree.entries().iter().any(holds) {
                let layer = layer.planned.name.clone();
                return Err(PackError::PacksStore { layer, store: place });
            }
        }
    }
    Ok(())
}

/// The first path of a tree that is a `node_modules` or below one.
pub fn packed_modules(tree: &Tree) -> Option<&EntryPath> {
    let mut paths = tree.entries().iter().map(|entry| &entry.path);
    paths.find(|path| path.components().any(|part| part == MODULES))
}

/// Links that lead nowhere in the release: an error if they work only here, because they lead back into the
/// source tree, else a warning.
pub(super) fn dangling_links(
    dir: &Path,
    recipe: &Recipe,
    layers: &[Scanned],
) -> Result<Vec<String>, PackError> {
    let mut warnings = Vec::new();
    for layer in layers.iter().filter(|layer| !layer.found.warnings.is_empty()) {
        let together = union(layer, layers);
        for (at, target) in dangling(&together).into_iter().filter(|(at, _)| is_of(layer, at)) {
            if is_made_on_the_host(&at, &target, recipe.paths()) {
                continue;
            }
            if let Some(leads_to) = source_outside(dir, layer, &at, recipe) {
                let layer = layer.planned.name.clone();
                return Err(PackError::LinksIntoSource { layer, at: at.to_string(), target, leads_to });
            }
            warnings.push(format!(
                "layer \"{}\": {at} links to {target}, which is not in the release",
                layer.planned.name
            ));
        }
    }
    Ok(warnings)
}

fn is_of(layer: &Scanned, at: &EntryPath) -> bool {
    layer.found.tree.get(at.as_bytes()).is_some()
}

/// Shared and writable paths stand in every release, though no layer has them.
fn is_made_on_the_host(at: &EntryPath, target: &str, paths: &PathsSpec) -> bool {
    let above = at.as_path().parent().unwrap_or(Path::new(""));
    let leads_to = lexical(&above.join(target));
    paths.shared.iter().chain(&paths.writable).any(|path| leads_to.starts_with(path))
}

/// A layer with all that some host gets beside it.
fn union(layer: &Scanned, layers: &[Scanned]) -> Tree {
    let beside = |other: &&Scanned| {
        let (a, b) = (&layer.planned, &other.planned);
        a.environment.is_none() || b.environment.is_none() || a.environment == b.environment
    };
    let entries = layers.iter().filter(beside).flat_map(|other| other.found.tree.entries());
    let kept = entries.filter(|entry| entry.kind != Kind::EmptyDir).cloned();
    let mut entries: Vec<Entry> = kept.collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    entries.dedup_by(|a, b| a.path == b.path);
    Tree::from_entries(entries).unwrap_or_else(|_| layer.found.tree.clone())
}

/// The file or directory of the source tree that a link leads to, if nothing that is packed holds it. What
/// an install step makes on the host is expected to be missing.
fn source_outside(dir: &Path, layer: &Scanned, at: &EntryPath, recipe: &Recipe) -> Option<String> {
    let link = on_disk(dir, layer, at)?;
    let target = std::fs::read_link(&link).ok()?;
    let installed = recipe.installs_dependencies().is_some();
    if installed && target.components().any(|part| part.as_os_str().as_bytes() == MODULES) {
        return None;
    }
    let leads_to = lexical(&link.parent()?.join(&target));
    let packed = layer.planned.source.files.iter().any(|file| leads_to.starts_with(dir.join(&file.from)));
    (leads_to.exists() && !packed).then(|| escape(leads_to.as_os_str().as_bytes()))
}

/// Where an entry of a layer was found.
fn on_disk(dir: &Path, layer: &Scanned, at: &EntryPath) -> Option<PathBuf> {
    layer.planned.source.files.iter().find_map(|file| {
        let rest = match file.to.as_str() {
            "" => at.as_bytes(),
            to => at.as_bytes().strip_prefix(to.as_bytes())?,
        };
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        let path = dir.join(&file.from).join(OsStr::from_bytes(rest));
        std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()).then_some(path)
    })
}

/// A path without `.` and `..`, resolved by its text alone.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}
