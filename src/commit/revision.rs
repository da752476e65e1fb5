//! The state file as it stands in a revision of its repository.

use std::path::{Path, PathBuf};

use super::file::{FileError, StateFile};
use super::git::{self, GitError};

/// A revision, and the file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The commit that it names.
    pub commit: String,
    /// The file; `None`: the commit does not have it, or it is no text.
    pub text: Option<String>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Git.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The file has no revisions.
    #[error("{file} is not in a git work tree, so it has no revisions")]
    NoWorkTree {
        /// The file.
        file: PathBuf,
    },
    /// The repository does not know it.
    #[error("there is no commit `{name}` in the repository of {file}")]
    Unknown {
        /// What was named.
        name: String,
        /// The file.
        file: PathBuf,
    },
}

/// The file at a revision that a person names.
pub fn at(file: &Path, name: &str) -> Result<Revision, RevisionError> {
    let file = StateFile::hold(file)?;
    let dir = file.dir();
    if !git::is_work_tree(dir)? {
        return Err(RevisionError::NoWorkTree { file: file.path().to_owned() });
    }
    let commit = git::commit_named(dir, name)?;
    let commit = commit
        .ok_or_else(|| RevisionError::Unknown { name: name.to_owned(), file: file.path().to_owned() })?;
    let own = file.path().file_name().unwrap_or_default().to_string_lossy();
    let text = git::contents(dir, &[format!("{commit}:./{own}")])?.pop().flatten();
    Ok(Revision { commit, text })
}
