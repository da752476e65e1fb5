//! What git thinks of the state file before it is touched, and so whether the edit may be committed.

use std::fmt;
use std::path::Path;

use super::file::StateFile;
use super::git::{self, GitError};

/// How the file stands in git.
#[derive(Debug)]
pub enum Standing {
    /// As committed, or about to be the first of its kind: an edit can be committed alone.
    Clean,
    /// It cannot, and why.
    Not(NotCommitted),
}

/// Why an edit was not committed. Shown after "not committed: ".
#[derive(Debug)]
pub enum NotCommitted {
    /// Nobody wanted it.
    Asked,
    /// There is no git on this machine.
    NoGit,
    /// The file is in no work tree.
    NoWorkTree,
    /// It had changes of its own.
    Dirty,
    /// It exists, and git was never told of it.
    Untracked,
    /// Git is told to leave it out.
    Ignored,
    /// Git will not work here; its words.
    GitRefuses(String),
}

impl fmt::Display for NotCommitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("--no-commit"),
            Self::NoGit => f.write_str("there is no git on this machine"),
            Self::NoWorkTree => f.write_str("the file is not in a git work tree"),
            Self::Dirty => f.write_str("the file had uncommitted changes before this one"),
            Self::Untracked => f.write_str("the file was there before and is not in git"),
            Self::Ignored => f.write_str("git ignores the file"),
            Self::GitRefuses(words) => write!(f, "git refuses: {words}"),
        }
    }
}

impl NotCommitted {
    /// What to do about it.
    pub fn hint(&self, file: &Path) -> Option<String> {
        let file = file.display();
        match self {
            Self::Dirty => Some(format!("look at `git diff {file}`, then `git commit {file}`")),
            Self::Untracked => Some(format!("`git add {file}`, then `git commit`")),
            Self::Asked | Self::NoGit | Self::NoWorkTree | Self::Ignored | Self::GitRefuses(_) => None,
        }
    }
}

/// Looks, changes nothing.
pub(super) fn standing(file: &StateFile) -> Standing {
    match look(file) {
        Ok(standing) => standing,
        Err(GitError::NotRun(_)) => Standing::Not(NotCommitted::NoGit),
        Err(GitError::Refused { words, .. }) => Standing::Not(NotCommitted::GitRefuses(words)),
    }
}

fn look(file: &StateFile) -> Result<Standing, GitError> {
    let dir = file.dir();
    if !git::is_work_tree(dir)? {
        return Ok(Standing::Not(NotCommitted::NoWorkTree));
    }
    let Some(name) = file.path().file_name() else { return Ok(Standing::Not(NotCommitted::NoWorkTree)) };
    Ok(match git::status(dir, name)?.as_str() {
        "" if !file.path().exists() && git::is_ignored(dir, name)? => Standing::Not(NotCommitted::Ignored),
        "" => Standing::Clean,
        "??" => Standing::Not(NotCommitted::Untracked),
        "!!" => Standing::Not(NotCommitted::Ignored),
        _ => Standing::Not(NotCommitted::Dirty),
    })
}
