//! Packing: a directory and its recipe become an artifact in a store.
//!
//! [`pack`] reads top to bottom: recipe, env files, build, version, scan, rules, store. Nothing is stored
//! before every rule holds, so a refused pack leaves no artifact behind.

mod assemble;
mod build;
mod error;
mod origin;
mod plan;
mod progress;
mod rules;
mod version;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use landfall_store::location::StoreAddress;
use landfall_store::push::{self, Deltas, LayerContent, PushOptions, PushReport, PushedDelta};
use landfall_store::scan::{self, ScanOptions, ScannedLayer};
use landfall_store::{Artifact, ArtifactId, Name, StoreError, TreeId, Version};

pub use build::BuildOutput;
pub use error::PackError;
use plan::PlannedLayer;
pub use progress::{Event, Watch};
pub use rules::packed_modules;

use crate::recipe::{self, Recipe, RecipeError};

/// What to pack, and where to put it.
#[derive(Clone, Copy)]
pub struct PackRequest<'a> {
    /// The source tree; `from` paths of the recipe are relative to it.
    pub dir: &'a Path,
    /// The recipe; absent: `landfall.toml` in `dir`.
    pub recipe: Option<&'a Path>,
    /// Build and pack for this environment only; absent: for every one.
    pub environment: Option<&'a Name>,
    /// Instead of the recipe's version.
    pub version: Option<&'a Version>,
    /// Whether `[build]` runs, and where its output goes.
    pub build: BuildOutput,
    /// The store; made when there is something to put in it.
    pub store: &'a StoreAddress,
    /// Where stat caches are kept; absent: every file is read.
    pub cache_dir: Option<&'a Path>,
    /// Whether the version may be taken from another artifact.
    pub move_version: bool,
    /// What each app's environments should run, to make deltas from; absent: none are made.
    pub deployed: Option<&'a BTreeMap<Name, Vec<ArtifactId>>>,
    /// Who is told how far it is.
    pub watch: &'a Watch<'a>,
}

/// What a pack came to.
#[derive(Debug, Clone)]
pub struct PackReport {
    /// The artifact, now in the store.
    pub artifact: ArtifactId,
    /// What it is a version of.
    pub app: Name,
    /// The version it carries.
    pub version: Version,
    /// The environment it is bound to, if any.
    pub environment: Option<Name>,
    /// Its layers, in the artifact's order.
    pub layers: Vec<PackedLayer>,
    /// Bytes written to the store, compressed.
    pub stored_bytes: u64,
    /// Deltas that were made.
    pub deltas: Vec<PushedDelta>,
    /// Whether the store had it already.
    pub existed: bool,
    /// Things worth a person's look.
    pub warnings: Vec<String>,
    /// From start to end.
    pub took: Duration,
}

/// One layer of a packed artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedLayer {
    /// Its name.
    pub name: Name,
    /// Its environment, if it is for one.
    pub environment: Option<Name>,
    /// Its tree.
    pub tree: TreeId,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of contents that the store did not have.
    pub new_bytes: u64,
    /// Files that were opened; the others are as the stat cache knows them.
    pub files_read: u64,
    /// Paths that every layer leaves out and that were there: repositories, landfall's own, env files.
    pub left_out: Vec<String>,
}

/// A layer of the recipe as it stood on disk.
struct Scanned {
    planned: PlannedLayer,
    found: ScannedLayer,
}

/// Packs a directory. Until the store has the whole artifact, nothing in it names any part of it.
pub fn pack(request: &PackRequest<'_>) -> Result<PackReport, PackError> {
    let started = Instant::now();
    let dir = directory(request.dir)?;
    let recipe = read_recipe(&dir, request.recipe)?;
    plan::check_environment(&recipe, request.environment)?;
    let env = plan::EnvFiles::read(&dir, recipe.env(), request.environment)?;
    build::run(&dir, &recipe, &env, request)?;
    let version = version::find(&dir, &recipe.version, request.version)?;
    let known = look(request, &recipe)?;
    let layers = scan_all(&dir, &recipe, &env, &known, request)?;
    let artifact = assemble::artifact(&recipe, version.clone(), request.environment, &layers)?;
    rules::check(&recipe, &artifact, &layers)?;
    rules::no_packed_store(&dir, request.store, &layers)?;
    let mut warnings = env.warnings();
    warnings.extend(rules::dangling_links(&dir, &recipe, &layers)?);
    let pushed = store(request, &artifact, &layers, &known, &dir)?;
    let report = PackReport {
        artifact: pushed.artifact,
        app: artifact.app.clone(),
        version,
        environment: artifact.environment.clone(),
        layers: assemble::report(&artifact, &layers, &pushed),
        stored_bytes: pushed.stored_bytes,
        deltas: pushed.deltas,
        existed: pushed.existed,
        warnings,
        took: started.elapsed(),
    };
    // Lists of every file: taking them apart takes tens of milliseconds, for which nobody need wait. Without a
    // thread it is done here.
    let _ = std::thread::Builder::new().spawn(move || drop((layers, known)));
    Ok(report)
}

/// The source tree by one name, so that its stat cache is found however it was typed.
fn directory(dir: &Path) -> Result<PathBuf, PackError> {
    match dir.canonicalize() {
        Ok(found) if found.is_dir() => Ok(found),
        Ok(found) => Err(PackError::NotADirectory { path: found }),
        Err(source) => Err(PackError::NoDirectory { path: dir.to_owned(), source }),
    }
}

fn read_recipe(dir: &Path, named: Option<&Path>) -> Result<Recipe, RecipeError> {
    match named {
        Some(path) => Recipe::read(path),
        None => Recipe::read(&dir.join(recipe::FILE_NAME)),
    }
}

/// What the store has already, so that what it lacks is compressed while it is read. A store that does not exist
/// yet has nothing, and is not made for the sake of asking.
fn look(request: &PackRequest<'_>, recipe: &Recipe) -> Result<push::Known, StoreError> {
    match request.store.open_alone() {
        Ok(store) => push::look(&store, &recipe.app),
        Err(StoreError::NotAStore(_)) => Ok(push::Known::default()),
        Err(error) => Err(error),
    }
}

/// Layers are scanned in the order in which a push stores them: what an earlier one has, a later one need not.
fn scan_all(
    dir: &Path,
    recipe: &Recipe,
    env: &plan::EnvFiles,
    known: &push::Known,
    request: &PackRequest<'_>,
) -> Result<Vec<Scanned>, PackError> {
    let mut planned = plan::layers(dir, recipe, env, request.environment);
    planned.sort_by(|a, b| (&a.name, &a.environment).cmp(&(&b.name, &b.environment)));
    let options = ScanOptions { cache_dir: request.cache_dir.map(Path::to_owned) };
    let mut ahead = scan::Ahead::new(known.contents(), push::LEVEL);
    let mut layers = Vec::new();
    for planned in planned {
        request.watch.tell(Event::Scanning { layer: &planned.name });
        let found = if planned.source.env {
            scan::scan(&planned.source, &options)
        } else {
            scan::scan_ahead(&planned.source, &options, &mut ahead)
        };
        layers.push(Scanned { planned, found: found? });
    }
    Ok(layers)
}

fn store(
    request: &PackRequest<'_>,
    artifact: &Artifact,
    layers: &[Scanned],
    known: &push::Known,
    dir: &Path,
) -> Result<PushReport, StoreError> {
    let store = request.store.create()?;
    let totals = progress::Totals::new(request.watch);
    let sources = totals.over(layers);
    let contents: Vec<LayerContent<'_>> = layers
        .iter()
        .zip(&sources)
        .map(|(layer, source)| LayerContent { source, ..layer.found.content() })
        .collect();
    let tell = |layer: &Name, from: &str| request.watch.tell(Event::Comparing { layer, from });
    let options = PushOptions {
        move_version: request.move_version,
        provenance: origin::provenance(dir),
        known: Some(known),
        deltas: request.deployed.map(|deployed| Deltas { deployed, tell: &tell }),
        ..PushOptions::default()
    };
    push::push(&store, artifact, &contents, &options)
}
