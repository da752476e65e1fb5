//! Why a directory could not be packed.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use landfall_store::artifact::ArtifactError;
use landfall_store::disjoint::OverlapError;
use landfall_store::path::PathError;
use landfall_store::scan::ScanError;
use landfall_store::{Name, StoreError};

use crate::env::EnvError;
use crate::migrations::NoMigrations;
use crate::recipe::{RecipeError, VersionError};

/// Why a directory could not be packed. Except for [`PackError::Store`], nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// No such directory.
    #[error("{path}: {source}")]
    NoDirectory {
        /// What was to be packed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file where a directory is needed.
    #[error("{path} is not a directory")]
    NotADirectory {
        /// What was to be packed.
        path: PathBuf,
    },
    /// There is no usable recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The recipe has environments, but not this one.
    #[error("the environment `{environment}` is not in `[env] environments`: {}", names(.known))]
    UnknownEnvironment {
        /// What was asked for.
        environment: Name,
        /// What there is.
        known: Vec<Name>,
    },
    /// The recipe builds other environments only.
    #[error("`[build]` has no command for {}, only for {}", every(.environment), names(.known))]
    NothingBuilds {
        /// What was asked for.
        environment: Option<Name>,
        /// What there is.
        known: Vec<Name>,
    },
    /// An env file is missing or malformed.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The build's program cannot be run.
    #[error("the build `{command}` cannot be started: {source}")]
    BuildNotStarted {
        /// As the recipe has it.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The build failed.
    #[error("the build `{command}` failed: {status}")]
    BuildFailed {
        /// As the recipe has it.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The file that holds the version cannot be read.
    #[error("{path}: the version cannot be read: {source}")]
    VersionFile {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The command that prints the version cannot be run.
    #[error("the version's command `{command}` cannot be started: {source}")]
    VersionNotStarted {
        /// As the recipe has it.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The command that prints the version failed.
    #[error("the version's command `{command}` failed: {status}")]
    VersionFailed {
        /// As the recipe has it.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// What was found is no version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A directory cannot be a layer.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Two layers contend for a path.
    #[error(transparent)]
    Overlap(#[from] OverlapError),
    /// A light artifact with this machine's dependencies in it.
    #[error(
        "layer \"{layer}\": {path} is part of a packed node_modules, but the step `{step}` installs \
         dependencies on the host"
    )]
    PackedModules {
        /// The layer.
        layer: Name,
        /// The first such path.
        path: String,
        /// The step that installs.
        step: Name,
    },
    /// Migrations that are not in the artifact.
    #[error(transparent)]
    Migrations(#[from] NoMigrations),
    /// A link that works here and nowhere else.
    #[error("layer \"{layer}\": {at} links to {target}, which is {leads_to} here and not in the release")]
    LinksIntoSource {
        /// The layer.
        layer: Name,
        /// The link.
        at: String,
        /// Its target.
        target: String,
        /// What it leads to on this machine.
        leads_to: String,
    },
    /// The store is part of what is packed into it.
    #[error("layer \"{layer}\": it holds the store {store} itself")]
    PacksStore {
        /// The layer.
        layer: Name,
        /// The store.
        store: PathBuf,
    },
    /// A shared path that no release can have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The artifact's document breaks a rule.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn names(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

fn every(environment: &Option<Name>) -> String {
    environment.as_ref().map_or_else(|| "every environment".to_owned(), |name| format!("`{name}`"))
}

impl PackError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Recipe(error) => return error.hint().map(str::to_owned),
            Self::Env(EnvError::NotFound { path }) => return Some(env_file_hint(path)),
            Self::Env(error) => return error.hint().map(str::to_owned),
            Self::Scan(error) => return error.hint(),
            Self::Overlap(_) => "add the path to `exclude` of one layer, or give the layers different roles",
            Self::NoDirectory { .. } | Self::NotADirectory { .. } => {
                "give the directory that holds landfall.toml: `landfall pack path/to/app`"
            }
            Self::UnknownEnvironment { .. } => "give one of them to --env, or add it to `[env] environments`",
            Self::NothingBuilds { .. } => {
                "say --env, or add `run.default` to `[build]`; --no-build packs what is there"
            }
            Self::BuildNotStarted { .. } => "install the program, or correct `[build]`; --no-build skips it",
            Self::BuildFailed { .. } => "its output is above; nothing was stored",
            Self::VersionFile { .. } => "correct `version` in landfall.toml, or give --version",
            Self::VersionNotStarted { .. } | Self::VersionFailed { .. } | Self::Version(_) => {
                "give --version, or correct `version` in landfall.toml"
            }
            Self::PackedModules { .. } => {
                "a light artifact never carries this machine's node_modules: exclude it, or remove the step"
            }
            Self::Migrations(_) => NoMigrations::HINT,
            Self::LinksIntoSource { .. } => {
                "pack what it links to, or let the build copy the file instead of linking it"
            }
            Self::PacksStore { .. } => {
                "exclude the store's directory from the layer, or give another --store"
            }
            Self::Store(StoreError::VersionTaken { .. }) => {
                "give it another --version, or say --move-version if nobody relies on the old one"
            }
            Self::Store(StoreError::Changed { .. } | StoreError::Source { .. }) => {
                "is a build still running? pack again when it is done"
            }
            Self::Path(_) | Self::Artifact(_) | Self::Store(_) => return None,
        };
        Some(hint.to_owned())
    }
}

fn env_file_hint(path: &std::path::Path) -> String {
    let file = path.file_name().unwrap_or_default().display();
    format!("write {file} beside landfall.toml (it may be empty), or take its environment out of `[env]`")
}
