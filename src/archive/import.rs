//! From an archive into a store.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use landfall_store::archive::{self, Imported, Limits};
use landfall_store::blob::{BlobSource, Want};
use landfall_store::disjoint;
use landfall_store::location::StoreAddress;
use landfall_store::push::{self, LayerContent, PushOptions, PushReport};
use landfall_store::refs::Provenance;
use landfall_store::{Artifact, Entry, EntryPath, Kind, Layer, Name, Store, Tree, Version, refs};

use super::ArchiveError;
use crate::env::{self, LayerKind};
use crate::pack::{PackReport, PackedLayer};
use crate::recipe::{self, Recipe, VersionSource};
use crate::spec::{EnvSpec, PathsSpec, ReleaseSpec};

/// The layer that holds an archive without an artifact.
const LAYER: &str = "app";
/// A version where neither an option nor the recipe gives one.
const MANIFEST: &str = "package.json";
/// Bytes of a file that holds a version.
const VERSION_FILE_BYTES_MAX: u64 = 1 << 20;

/// What to import, and as what.
#[derive(Debug, Clone, Copy)]
pub struct ImportRequest<'a> {
    /// The archive.
    pub archive: &'a Path,
    /// The app; absent: what the archive says.
    pub app: Option<&'a Name>,
    /// The version; absent: what the archive says.
    pub version: Option<&'a Version>,
    /// The one environment it may run in; absent: what the archive says, else any.
    pub environment: Option<&'a Name>,
    /// The store; made when there is something to put in it.
    pub store: &'a StoreAddress,
    /// Where contents wait, without a name, until the whole archive is read. Made if it does not exist.
    pub spool_dir: &'a Path,
    /// Whether the version may be taken from another artifact.
    pub move_version: bool,
    /// Whether it is refused, before anything of it is stored, if nothing says how it is released.
    pub must_start: bool,
}

/// Reads an archive to its end, checks all of it, and stores it as an artifact.
pub fn import(request: &ImportRequest<'_>) -> Result<PackReport, ArchiveError> {
    let started = Instant::now();
    let imported = read(request)?;
    let (artifact, trees) = match &imported.artifact {
        Some(artifact) => (as_it_was(request, artifact)?, imported.trees.clone()),
        None => fresh(request, &imported)?,
    };
    let store = request.store.create()?;
    let pushed = store_it(request, &store, &artifact, &trees, &imported)?;
    let version = refs::version_of(&artifact).ok_or_else(|| unnamed(request, "version", "--version"))?;
    Ok(PackReport {
        artifact: pushed.artifact,
        app: artifact.app.clone(),
        version,
        environment: artifact.environment.clone(),
        layers: artifact.layers.iter().zip(&pushed.layers).map(report).collect(),
        stored_bytes: pushed.stored_bytes,
        deltas: pushed.deltas,
        existed: pushed.existed,
        warnings: warnings(&imported, &artifact),
        took: started.elapsed(),
    })
}

fn read(request: &ImportRequest<'_>) -> Result<Imported, ArchiveError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| ArchiveError::Io { path, source }
    };
    let file = File::open(request.archive).map_err(at(request.archive))?;
    std::fs::create_dir_all(request.spool_dir).map_err(at(request.spool_dir))?;
    archive::import(file, request.spool_dir, Limits::default())
        .map_err(|source| ArchiveError::Import { path: request.archive.to_owned(), source })
}

fn store_it(
    request: &ImportRequest<'_>,
    store: &Store,
    artifact: &Artifact,
    trees: &[Tree],
    imported: &Imported,
) -> Result<PushReport, ArchiveError> {
    let contents: Vec<LayerContent<'_>> =
        trees.iter().map(|tree| LayerContent { id: tree.id(), tree, source: &imported.contents }).collect();
    let time = jiff::Timestamp::now();
    let time = time.round(jiff::Unit::Second).unwrap_or(time).to_string();
    let options = PushOptions {
        move_version: request.move_version,
        provenance: Provenance { time: Some(time), ..Provenance::default() },
        ..PushOptions::default()
    };
    Ok(push::push(store, artifact, &contents, &options)?)
}

fn report((layer, pushed): (&Layer, &push::PushedLayer)) -> PackedLayer {
    PackedLayer {
        name: layer.name.clone(),
        environment: layer.environment.clone(),
        tree: layer.tree,
        files: layer.files,
        bytes: layer.bytes,
        new_bytes: pushed.new_bytes,
        files_read: layer.files,
        left_out: Vec::new(),
    }
}

fn warnings(imported: &Imported, artifact: &Artifact) -> Vec<String> {
    let starts = artifact.release.contains_key("start");
    let nothing_starts = imported.artifact.is_none() && !starts;
    let text = "nothing says how it starts: it is stored, and hosts will only place its files";
    if nothing_starts { vec![text.to_owned()] } else { Vec::new() }
}

fn unnamed(request: &ImportRequest<'_>, what: &'static str, option: &'static str) -> ArchiveError {
    ArchiveError::Unnamed { path: request.archive.to_owned(), what, option }
}

/// An exported artifact keeps its identity: options may only say what it is already.
fn as_it_was(request: &ImportRequest<'_>, artifact: &Artifact) -> Result<Artifact, ArchiveError> {
    let version = refs::version_of(artifact);
    let environment = artifact.environment.as_ref();
    let claims = [
        ("app", request.app.map(Name::as_str), Some(artifact.app.as_str())),
        ("version", request.version.map(Version::as_str), version.as_ref().map(Version::as_str)),
        ("environment", request.environment.map(Name::as_str), environment.map(Name::as_str)),
    ];
    let wrong = claims.into_iter().find(|(_, asked, found)| asked.is_some() && asked != found);
    match wrong {
        None => Ok(artifact.clone()),
        Some((what, asked, found)) => Err(ArchiveError::Another {
            path: request.archive.to_owned(),
            what,
            found: found.unwrap_or("any").to_owned(),
            asked: asked.unwrap_or_default().to_owned(),
        }),
    }
}

/// An archive of plain files becomes one layer, and an env layer for each environment whose files it has.
fn fresh(request: &ImportRequest<'_>, imported: &Imported) -> Result<(Artifact, Vec<Tree>), ArchiveError> {
    let tree = imported.trees.first().cloned().unwrap_or_default();
    let recipe = recipe_of(request, imported)?;
    if recipe.is_none() && request.must_start {
        return Err(ArchiveError::NoRecipe { path: request.archive.to_owned() });
    }
    let app = request.app.or(recipe.as_ref().map(|recipe| &recipe.app));
    let app = app.ok_or_else(|| unnamed(request, "app", "--app"))?.clone();
    let version = version(request, imported, recipe.as_ref(), &tree)?;
    let spec = match &recipe {
        Some(recipe) => recipe.release_of(version, &[&tree])?,
        None => files_only(version),
    };
    check_environment(request, &spec.env)?;
    no_packed_modules(request, recipe.as_ref(), &tree)?;
    let parts = divide(&tree, &spec.env, request.environment)?;
    assemble(app, request.environment, &spec, parts)
}

fn assemble(
    app: Name,
    environment: Option<&Name>,
    spec: &ReleaseSpec,
    parts: Vec<(Option<Name>, Tree)>,
) -> Result<(Artifact, Vec<Tree>), ArchiveError> {
    let layers = parts.iter().map(|(environment, tree)| layer(environment.as_ref(), tree)).collect();
    let artifact = Artifact::new(app, environment.cloned(), layers, spec.to_map())?;
    let tree_of = |layer: &Layer| {
        let tree = parts.iter().find(|(own, _)| *own == layer.environment);
        tree.map(|(_, tree)| tree.clone()).expect("every layer was made of a part")
    };
    let trees: Vec<Tree> = artifact.layers.iter().map(tree_of).collect();
    let pairs: Vec<(&Layer, &Tree)> = artifact.layers.iter().zip(&trees).collect();
    let shared = spec.paths.shared.iter().map(|path| EntryPath::new(path.as_str()));
    disjoint::check(&pairs, &shared.collect::<Result<Vec<_>, _>>()?)?;
    Ok((artifact, trees))
}

fn recipe_of(request: &ImportRequest<'_>, imported: &Imported) -> Result<Option<Recipe>, ArchiveError> {
    let Some(bytes) = &imported.recipe else { return Ok(None) };
    // Where it stands, for messages.
    let path = request.archive.join(recipe::FILE_NAME);
    Ok(Some(Recipe::parse(&String::from_utf8_lossy(bytes), &path)?))
}

fn files_only(version: Version) -> ReleaseSpec {
    ReleaseSpec {
        version,
        requires: Vec::new(),
        env: EnvSpec::default(),
        paths: PathsSpec::default(),
        steps: Vec::new(),
        start: Vec::new(),
        health: Vec::new(),
        preflight: Vec::new(),
        retain: None,
    }
}

/// The option's, the recipe's, or that of the `package.json` in the archive. No command of an archive is run.
fn version(
    request: &ImportRequest<'_>,
    imported: &Imported,
    recipe: Option<&Recipe>,
    tree: &Tree,
) -> Result<Version, ArchiveError> {
    let file = match (request.version, recipe.map(|recipe| &recipe.version)) {
        (Some(version), _) | (None, Some(VersionSource::Fixed(version))) => return Ok(version.clone()),
        (None, Some(VersionSource::File(file))) => file.as_path(),
        (None, Some(VersionSource::Command(_))) => return Err(unnamed(request, "version", "--version")),
        (None, None) => Path::new(MANIFEST),
    };
    let text = text_of(imported, tree, file).ok_or_else(|| unnamed(request, "version", "--version"))?;
    Ok(VersionSource::in_file(file, &text)?)
}

fn text_of(imported: &Imported, tree: &Tree, file: &Path) -> Option<String> {
    let entry = tree.get(file.as_os_str().as_encoded_bytes())?;
    let Kind::File { size, blob, executable } = entry.kind else { return None };
    let want = Want { blob, size, executable };
    let mut text = String::new();
    if want.size <= VERSION_FILE_BYTES_MAX {
        let mut content = imported.contents.open(&want.blob, want.size).ok()?;
        std::io::Read::read_to_string(&mut content, &mut text).ok()?;
    }
    Some(text)
}

fn check_environment(request: &ImportRequest<'_>, spec: &EnvSpec) -> Result<(), ArchiveError> {
    match request.environment {
        Some(asked) if !spec.environments.is_empty() && !spec.environments.contains(asked) => {
            Err(ArchiveError::UnknownEnvironment {
                path: request.archive.to_owned(),
                environment: asked.clone(),
            })
        }
        _ => Ok(()),
    }
}

fn no_packed_modules(
    request: &ImportRequest<'_>,
    recipe: Option<&Recipe>,
    tree: &Tree,
) -> Result<(), ArchiveError> {
    let Some(step) = recipe.and_then(Recipe::installs_dependencies) else { return Ok(()) };
    match crate::pack::packed_modules(tree) {
        None => Ok(()),
        Some(path) => Err(ArchiveError::PackedModules {
            path: request.archive.to_owned(),
            found: path.to_string(),
            step: step.clone(),
        }),
    }
}

/// The tree without env files, and the env files of each environment. Bound to one environment, those of the
/// others are left behind, as they are when packing.
fn divide(
    tree: &Tree,
    spec: &EnvSpec,
    bound: Option<&Name>,
) -> Result<Vec<(Option<Name>, Tree)>, ArchiveError> {
    let owner = |entry: &Entry| {
        let name = entry.path.as_bytes();
        spec.environments.iter().find(|environment| {
            [LayerKind::Base, LayerKind::Local]
                .iter()
                .any(|kind| env::file_name(spec, environment, *kind).as_bytes() == name)
        })
    };
    let of = |wanted: Option<&Name>| {
        let entries = tree.entries().iter().filter(|entry| owner(entry) == wanted).cloned();
        Tree::from_entries(entries.collect())
    };
    let mut parts = vec![(None, of(None)?)];
    for environment in spec.environments.iter().filter(|own| bound.is_none_or(|bound| bound == *own)) {
        let files = of(Some(environment))?;
        if !files.entries().is_empty() {
            parts.push((Some(environment.clone()), files));
        }
    }
    Ok(parts)
}

fn layer(environment: Option<&Name>, tree: &Tree) -> Layer {
    let name = if environment.is_some() { landfall_store::artifact::ENV_LAYER } else { LAYER };
    Layer {
        bytes: tree.bytes(),
        environment: environment.cloned(),
        files: tree.files(),
        mount: String::new(),
        name: name.parse().expect("both are names"),
        roles: Vec::new(),
        tree: tree.id(),
    }
}
