//! Why an archive could not be written or read.

use std::io;
use std::path::PathBuf;

use landfall_store::archive::{ExportError, ImportError};
use landfall_store::artifact::ArtifactError;
use landfall_store::disjoint::OverlapError;
use landfall_store::path::PathError;
use landfall_store::{Name, StoreError};

use crate::migrations::NoMigrations;
use crate::recipe::{RecipeError, VersionError};

/// Why an archive could not be written or read. What was half written is gone.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The system refused the file.
    #[error("{path}: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The name does not say which kind of archive.
    #[error("{path}: the name of an archive ends in .tar, .tgz, .tar.gz or .tar.zst")]
    UnknownFormat {
        /// The name.
        path: PathBuf,
    },
    /// `SOURCE_DATE_EPOCH` is no number.
    #[error("SOURCE_DATE_EPOCH is `{0}`, not a number of seconds")]
    Epoch(String),
    /// It could not be written.
    #[error("{path}: {source}")]
    Export {
        /// The archive.
        path: PathBuf,
        /// What happened.
        source: ExportError,
    },
    /// It is damaged or hostile.
    #[error("{path}: {source}")]
    Import {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: ImportError,
    },
    /// The archive is one artifact, another one was asked for.
    #[error("{path}: it is {what} `{found}`, not `{asked}`")]
    Another {
        /// The archive.
        path: PathBuf,
        /// The app, the version or the environment.
        what: &'static str,
        /// What the archive says.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// Nothing says what it is.
    #[error("{path}: nothing in it says what its {what} is")]
    Unnamed {
        /// The archive.
        path: PathBuf,
        /// The app or the version.
        what: &'static str,
        /// The option that does.
        option: &'static str,
    },
    /// Files, and no word on what to do with them.
    #[error("{path}: it has no landfall.toml, so nothing says how it is prepared, started and checked")]
    NoRecipe {
        /// The archive.
        path: PathBuf,
    },
    /// The environment is not one of the recipe in the archive.
    #[error("{path}: its recipe has no environment `{environment}`")]
    UnknownEnvironment {
        /// The archive.
        path: PathBuf,
        /// What was asked for.
        environment: Name,
    },
    /// A light artifact with somebody's dependencies in it.
    #[error(
        "{path}: it holds {found}, but the step `{step}` of its recipe installs dependencies on the host"
    )]
    PackedModules {
        /// The archive.
        path: PathBuf,
        /// The first such path.
        found: String,
        /// The step.
        step: Name,
    },
    /// Migrations that are not in the archive.
    #[error(transparent)]
    Migrations(#[from] NoMigrations),
    /// The recipe in the archive is none.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// What stands for a version is none.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// Packed paths contend with shared ones.
    #[error(transparent)]
    Overlap(#[from] OverlapError),
    /// A shared path that no release can have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Files that do not make a tree.
    #[error(transparent)]
    Tree(#[from] landfall_store::tree::TreeError),
    /// The artifact's document breaks a rule.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The store could not take or give it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ArchiveError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Another { .. } => "an exported archive keeps what it is; leave the option out",
            Self::Unnamed { option, .. } => {
                return Some(format!("say {option}, or put a landfall.toml into it"));
            }
            Self::NoRecipe { .. } => {
                "`landfall init` writes a recipe: put it at the top of the archive, or make the archive with `landfall pack --archive`"
            }
            Self::PackedModules { .. } => {
                "a light artifact never carries node_modules: make the archive without it"
            }
            Self::Import { source: ImportError::Truncated { .. } | ImportError::Read { .. }, .. } => {
                "copy it again and compare the sizes"
            }
            Self::Migrations(_) => NoMigrations::HINT,
            Self::Recipe(error) => return error.hint().map(str::to_owned),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
