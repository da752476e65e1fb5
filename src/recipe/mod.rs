//! The recipe: `landfall.toml`, how an app is packed and what a host does with it.
//!
//! [`Recipe::parse`] is total: what it returns can be packed and released, or it names the file, line and
//! key that cannot. It reads no other file, so the recipe inside an archive is read the same way as the one
//! in a working tree.

mod build;
mod command;
mod consistency;
pub use consistency::installs_dependencies;
mod environment;
mod health;
pub mod keys;
mod layer;
mod path;
mod preflight;
pub mod preset;
mod process;
mod reserved;
mod step;
mod version;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_store::{Name, Tree, Version};

pub use build::BuildRecipe;
pub use layer::{FileMap, LayerKind, LayerRecipe};
pub use process::pm2_mode;
pub(crate) use process::{INSTANCES_MAX, mode as parse_mode, parse_manager, unknown as unknown_word};
pub use version::{VersionError, VersionSource};

use crate::document::{Document, Notation, Problem, Table, Value, parse_toml};
use crate::migrations::{self, NoMigrations};
use crate::spec::{EnvSpec, HealthSpec, PathsSpec, PreflightSpec, ReleaseSpec, StartSpec, StepSpec};

/// The recipe's name at the root of a source tree or an archive.
pub const FILE_NAME: &str = "landfall.toml";

/// Bytes of a recipe: the longest one seen is under 8 KiB; more is not a recipe.
pub const RECIPE_BYTES_MAX: u64 = 1 << 20;

/// Healthy releases a recipe may ask to keep: beyond this disks fill, not histories.
const RETAIN_RELEASES_MAX: u32 = 1_000;

/// Why there is no recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The text is not a recipe.
    #[error(transparent)]
    Invalid(#[from] Problem),
    /// No such file.
    #[error("{path}: there is no recipe here")]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// Too large to be one.
    #[error("{path}: {bytes} bytes are no recipe: at most {RECIPE_BYTES_MAX}")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How large it is.
        bytes: u64,
    },
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl RecipeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Invalid(problem) => problem.hint(),
            Self::Missing { .. } => Some("`landfall init` writes one from what it finds"),
            Self::TooLarge { .. } | Self::Unreadable { .. } => None,
        }
    }
}

/// A whole recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// What it is the recipe of.
    pub app: Name,
    /// Where the version comes from.
    pub version: VersionSource,
    /// What runs before packing, on the build machine.
    pub build: Option<BuildRecipe>,
    /// What is packed, in the order of the file.
    pub layers: Vec<LayerRecipe>,
    release: Acting,
}

/// The part that acts on a host: a [`ReleaseSpec`] without its version.
#[derive(Debug, Clone, PartialEq)]
struct Acting {
    env: EnvSpec,
    paths: PathsSpec,
    steps: Vec<StepSpec>,
    start: Vec<StartSpec>,
    health: Vec<HealthSpec>,
    preflight: Vec<PreflightSpec>,
    retain: Option<u32>,
    /// Where migrate steps have their migrations, in the release.
    migrations: BTreeMap<Name, String>,
}

impl Recipe {
    /// Parses a recipe. `path` is only named in problems.
    pub fn parse(text: &str, path: &Path) -> Result<Self, RecipeError> {
        let root = parse_toml(text, path)?;
        let document = Document { file: path, text, notation: Notation::Toml };
        Ok(recipe(&document.root(&root))?)
    }

    /// Reads and parses a recipe file.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        Self::parse(&read_text(path)?, path)
    }

    /// What a host does with the artifact of this recipe, migrations not yet listed.
    pub fn release_spec(&self, version: Version) -> ReleaseSpec {
        let Acting { env, paths, steps, start, health, preflight, retain, migrations: _ } =
            self.release.clone();
        let requires = Vec::new();
        ReleaseSpec { version, requires, env, paths, steps, start, health, preflight, retain }
    }

    /// The same with the migrations of its steps listed, as these trees have them.
    pub fn release_of(&self, version: Version, trees: &[&Tree]) -> Result<ReleaseSpec, NoMigrations> {
        let mut spec = self.release_spec(version);
        migrations::list(&mut spec, &self.release.migrations, trees)?;
        Ok(spec)
    }

    /// The env part, which packing needs before there is a version.
    pub fn env(&self) -> &EnvSpec {
        &self.release.env
    }

    /// The paths that are not plain read-only release files.
    pub fn paths(&self) -> &PathsSpec {
        &self.release.paths
    }

    /// The step that installs dependencies on the host, if one does. An artifact of such a recipe never
    /// holds `node_modules`: packing refuses a tree that has one.
    pub fn installs_dependencies(&self) -> Option<&Name> {
        consistency::install_step(&self.release.steps).map(|step| &step.name)
    }
}

fn recipe(root: &Value<'_>) -> Result<Recipe, Problem> {
    let table = root.table(keys::RECIPE)?;
    let layers = table.read("layer", layer::read_all)?.unwrap_or_default();
    let release = acting(&table)?;
    let recipe = Recipe {
        app: table.need("app")?.parse()?,
        version: version::read(&table.need("version")?)?,
        build: table.read("build", build::read)?,
        layers,
        release,
    };
    consistency::check(&table, &recipe.layers, &recipe.release)?;
    Ok(recipe)
}

fn acting(table: &Table<'_>) -> Result<Acting, Problem> {
    let start = table.read("start", process::read_all)?.unwrap_or_default();
    let preflight = table.read("preflight", |value| preflight::read_all(value, &start))?;
    let (steps, migrations) = table.read("step", step::read_all)?.unwrap_or_default();
    Ok(Acting {
        env: table.read("env", environment::read)?.unwrap_or_default(),
        paths: table.read("paths", path::read_all)?.unwrap_or_default(),
        steps,
        health: table.read("health", health::read_all)?.unwrap_or_default(),
        preflight: preflight::with_defaults(preflight.unwrap_or_default(), &start),
        retain: table.read("retain", retain)?.flatten(),
        migrations,
        start,
    })
}

fn retain(value: &Value<'_>) -> Result<Option<u32>, Problem> {
    value.table(keys::RETAIN)?.read("releases", |releases| releases.count(1, RETAIN_RELEASES_MAX))
}

fn read_text(path: &Path) -> Result<String, RecipeError> {
    let unreadable = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => RecipeError::Missing { path: path.to_owned() },
        _ => RecipeError::Unreadable { path: path.to_owned(), source },
    };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > RECIPE_BYTES_MAX {
        return Err(RecipeError::TooLarge { path: path.to_owned(), bytes });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// Names are given in arrays of tables; a single table has `fallback`.
fn names<T>(
    value: &Value<'_>,
    fallback: &str,
    read: impl Fn(&Table<'_>, Name) -> Result<T, Problem>,
    known: &[&str],
) -> Result<Vec<T>, Problem> {
    let mut seen: Vec<Name> = Vec::new();
    let mut items = Vec::new();
    let values = value.one_or_many()?;
    let alone = values.len() == 1;
    for value in values {
        let table = value.table(known)?;
        let name = match table.get("name") {
            Some(name) => name.parse()?,
            None if alone => fallback_name(&value, fallback)?,
            None => table.need("name")?.parse()?,
        };
        if seen.contains(&name) {
            let what = format!("the name `{name}` is used twice");
            return Err(value.problem(crate::document::ProblemKind::Duplicate, what));
        }
        items.push(read(&table, name.clone())?);
        seen.push(name);
    }
    Ok(items)
}

fn fallback_name(value: &Value<'_>, fallback: &str) -> Result<Name, Problem> {
    fallback.parse().map_err(|error: landfall_store::name::NameError| value.invalid(error.to_string()))
}

fn roles(table: &Table<'_>) -> Result<Vec<Name>, Problem> {
    let roles = table.read("roles", |roles| roles.set(Value::parse))?;
    match roles {
        Some(roles) if roles.is_empty() => Err(table
            .need("roles")?
            .invalid("no role at all selects no host")
            .with_hint("leave `roles` out to mean every role")),
        roles => Ok(roles.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
