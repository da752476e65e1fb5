//! Where desired state comes from. A source hands over bytes and says which commit they are; judging them is
//! not its business.

pub mod file;
pub mod git;

use std::path::{Path, PathBuf};

use file::FileSource;
use git::GitSource;

/// A place with desired state.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file on this host, watched.
    File(FileSource),
    /// A file in a git repository, asked again and again.
    Git(GitSource),
}

impl Source {
    /// The file that messages about its content name.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(file) => file.path(),
            Self::Git(git) => git.path(),
        }
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        match self {
            Self::File(file) => file.path().display().to_string(),
            Self::Git(git) => git.place(),
        }
    }

    /// The commit whose content the source has, as far as that is known only by looking.
    pub async fn commit(&self) -> Option<String> {
        match self {
            Self::File(file) => file.commit().await,
            // It was known when the state was accepted.
            Self::Git(_) => None,
        }
    }
}

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such file (yet).
    #[error("{path}: there is no such state file")]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Bytes of a state file: thousands of apps.
pub const STATE_BYTES_MAX: u64 = 1 << 20;
