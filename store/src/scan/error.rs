//! Why a directory cannot be a layer.

use std::io;
use std::path::{Path, PathBuf};

use super::LayerSource;
use crate::path::{LinkError, PathError};
use crate::tree::TreeError;

/// Why a directory cannot be a layer. Each names the layer and the path.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A file or directory cannot be read.
    #[error("layer \"{layer}\": cannot {action} {}: {source}", .path.display())]
    Io {
        /// The layer.
        layer: String,
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// `from` names nothing.
    #[error("layer \"{layer}\": {} does not exist", .path.display())]
    Missing {
        /// The layer.
        layer: String,
        /// The path.
        path: PathBuf,
    },
    /// `from` is a link: what it names could change without the recipe.
    #[error("layer \"{layer}\": {} is a link to {target}", .path.display())]
    SourceIsLink {
        /// The layer.
        layer: String,
        /// The path.
        path: PathBuf,
        /// Where it leads.
        target: String,
    },
    /// Something that is no file, directory or link.
    #[error("layer \"{layer}\": {} is a {kind}; only files, directories and links can be packed", .path.display())]
    Special {
        /// The layer.
        layer: String,
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A file with more rights than a release may give.
    #[error("layer \"{layer}\": {} has the {bit} bit, which no release may give", .path.display())]
    SpecialBit {
        /// The layer.
        layer: String,
        /// The path.
        path: PathBuf,
        /// Which.
        bit: &'static str,
        /// The mode argument that removes it.
        remedy: &'static str,
    },
    /// A file is not what it was.
    #[error("layer \"{layer}\": {} changed while it was read", .path.display())]
    Changed {
        /// The layer.
        layer: String,
        /// The path.
        path: PathBuf,
    },
    /// A link that leaves the release.
    #[error("layer \"{layer}\": {at} links to {target}, outside the release")]
    LinkOutside {
        /// The layer.
        layer: String,
        /// The link.
        at: String,
        /// Its target.
        target: String,
    },
    /// A pattern that does not parse.
    #[error("layer \"{layer}\": the pattern `{pattern}` of `exclude` is malformed: {why}")]
    Pattern {
        /// The layer.
        layer: String,
        /// The pattern.
        pattern: String,
        /// What is wrong.
        why: String,
    },
    /// A path that a layer cannot hold.
    #[error("layer \"{layer}\": {source}")]
    Path {
        /// The layer.
        layer: String,
        /// What is wrong.
        source: PathError,
    },
    /// Entries that cannot stand beside each other.
    #[error("layer \"{layer}\": {source}")]
    Tree {
        /// The layer.
        layer: String,
        /// What is wrong.
        source: TreeError,
    },
}

impl ScanError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing { .. } => "is the app built? otherwise correct `from` of the layer",
            Self::SourceIsLink { .. } => "name the file or directory itself",
            Self::Special { .. } => "exclude it, or pack a directory without it",
            Self::SpecialBit { path, remedy, .. } => {
                return Some(format!("`chmod {remedy} {}`, or exclude the file", path.display()));
            }
            Self::Changed { .. } => "is a build still running? pack again when it is done",
            Self::LinkOutside { .. } => "pack what it links to, or exclude the link",
            Self::Pattern { .. } => "patterns are written as in .gitignore",
            Self::Io { .. } => "pack as a user who may read it, or exclude it",
            Self::Path { .. } | Self::Tree { .. } => "rename the file, or exclude it",
        };
        Some(hint.to_owned())
    }

    pub(super) fn io(layer: &impl ToString, action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { layer: layer.to_string(), action, path: path.to_owned(), source }
    }

    pub(super) fn link(source: &LayerSource, error: LinkError) -> Self {
        let layer = source.name.to_string();
        match error {
            LinkError::Outside(at, target) => Self::LinkOutside { layer, at, target },
            malformed => Self::Tree { layer, source: TreeError::Link(malformed) },
        }
    }

    pub(super) fn tree(source: &LayerSource, error: TreeError) -> Self {
        Self::Tree { layer: source.name.to_string(), source: error }
    }
}
