//! One change of one target: judged, written, committed.

use std::path::{Path, PathBuf};

use landfall_store::{ArtifactId, Name};

use super::choose::Chosen;
use super::file::{FileError, StateFile};
use super::git::{self, GitError};
use super::message::{Verb, message};
use super::publish::Edit;
use super::standing::{NotCommitted, Standing, standing};
use crate::state::{
    Blocked, DesiredState, EditError, EnvironmentState, StateError, Suspend, Target, TargetEdit, first_file,
    set_target,
};

/// Whether an edit is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// If the file stands in a git work tree and had no changes of its own; else only edited.
    IfClean,
    /// Or not made at all.
    Must,
    /// Only edited.
    Never,
}

/// What should change.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The state file; it need not exist.
    pub file: &'a Path,
    /// Which app.
    pub app: &'a Name,
    /// In which environment.
    pub environment: &'a Name,
    /// What it should run.
    pub to: &'a Chosen,
    /// Why.
    pub reason: Option<&'a str>,
    /// Who.
    pub by: &'a str,
    /// How the commit's message calls it.
    pub verb: Verb,
    /// Whether to commit.
    pub policy: Policy,
}

/// What came of it.
#[derive(Debug)]
pub enum Changed {
    /// The state named this artifact already; nothing was written.
    Already(Target),
    /// The state names it now.
    Written(Box<Written>),
}

/// A change that was made.
#[derive(Debug)]
pub struct Written {
    /// The file, with links resolved.
    pub file: PathBuf,
    /// What it named before.
    pub from: Option<Target>,
    /// What it names now.
    pub to: Target,
    /// Its commit.
    pub commit: Commit,
    /// The file is new.
    pub first: bool,
    /// Hosts will not act on it while this is in the state.
    pub suspended: Option<Suspend>,
}

/// Whether the change is in git.
#[derive(Debug)]
pub enum Commit {
    /// In this commit, which holds nothing else.
    Made(String),
    /// Not, and why.
    None(NotCommitted),
}

/// Why nothing was changed: the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What stands in it.
    #[error(transparent)]
    State(#[from] StateError),
    /// The edit.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The state blocks the artifact.
    #[error("the state blocks {artifact} for `{app}`: {reason} ({by})")]
    Blocked {
        /// Which app.
        app: Name,
        /// The artifact.
        artifact: ArtifactId,
        /// Why.
        reason: String,
        /// Who blocked it.
        by: String,
    },
    /// It had to be committed, and cannot be.
    #[error("{file} was not changed, because the change could not be committed: {why}")]
    CannotCommit {
        /// The file.
        file: PathBuf,
        /// Why.
        why: NotCommitted,
    },
    /// Git was asked to commit and did not; the file was put back.
    #[error("{file} was put back as it was: {source}")]
    NotCommitted {
        /// The file.
        file: PathBuf,
        /// What git said.
        source: GitError,
    },
}

impl ChangeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(FileError::NoDirectory { .. }) => {
                Some("create the directory, or name another file with --state".to_owned())
            }
            Self::File(FileError::Busy { .. }) => Some("end it, or wait for it, and try again".to_owned()),
            Self::File(_) => None,
            Self::State(error) => error.hint().map(str::to_owned),
            Self::Edit(error) => error.hint().map(str::to_owned),
            Self::Blocked { .. } => {
                Some("deploy another artifact, or remove the entry under `blocked` in the state".to_owned())
            }
            Self::CannotCommit { file, why } => {
                why.hint(file).or_else(|| Some("without --push the file is edited all the same".to_owned()))
            }
            Self::NotCommitted { source: GitError::Refused { words, .. }, .. }
                if words.contains("user.email") =>
            {
                Some("tell git who you are: `git config --global user.email you@example.com`".to_owned())
            }
            Self::NotCommitted { .. } => Some("`--no-commit` edits the file and leaves git alone".to_owned()),
        }
    }
}

/// Makes the change. On an error the file is as it was.
pub fn change(change: &Change<'_>) -> Result<Changed, ChangeError> {
    let file = StateFile::hold(change.file)?;
    let before = file.read()?;
    let old = before.as_deref().and_then(|text| target(text, file.path(), change));
    if let Some(block) = before.as_deref().and_then(|text| block(text, file.path(), change)) {
        return Err(ChangeError::Blocked {
            app: change.app.clone(),
            artifact: block.artifact,
            reason: block.reason,
            by: block.by,
        });
    }
    if let Some(old) = &old
        && old.artifact == change.to.artifact
        && old.version.as_ref().is_none_or(|version| Some(version) == change.to.version.as_ref())
    {
        return Ok(Changed::Already(old.clone()));
    }
    let after = edited(before.as_deref(), file.path(), change)?;
    let message = message(change.verb, change.app, change.environment, old.as_ref(), &wanted(change));
    let commit = write(&file, before.as_deref(), &after, &message, change.policy)?;
    let (path, first) = (file.path().to_owned(), before.is_none());
    let suspended = suspended(&after, &path, change);
    let written = Written { file: path, from: old, to: wanted(change), commit, first, suspended };
    Ok(Changed::Written(Box::new(written)))
}

impl Edit for Change<'_> {
    type Made = Changed;

    fn file(&self) -> &Path {
        self.file
    }

    fn entry(&self) -> (&Name, &Name) {
        (self.app, self.environment)
    }

    fn again(&self) -> Result<Changed, ChangeError> {
        change(&Change { policy: Policy::Must, ..*self })
    }

    fn commit(made: &Changed) -> Option<&str> {
        match made {
            Changed::Written(written) => written.commit.id(),
            Changed::Already(_) => None,
        }
    }

    fn is_in(&self, entry: Option<&EnvironmentState>) -> bool {
        let target = entry.and_then(|entry| entry.target.as_ref());
        target.is_some_and(|target| target.artifact == self.to.artifact)
    }
}

impl Commit {
    /// Its id.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Made(id) => Some(id),
            Self::None(_) => None,
        }
    }
}

fn suspended(text: &str, path: &Path, change: &Change<'_>) -> Option<Suspend> {
    let state = DesiredState::parse(text, path).ok()?;
    state.resolve(change.app, change.environment).ok()?.suspend().cloned()
}

fn wanted(change: &Change<'_>) -> Target {
    Target {
        artifact: change.to.artifact,
        version: change.to.version.clone(),
        reason: change.reason.map(str::to_owned),
        by: Some(change.by.to_owned()),
    }
}

/// What the text names now. A text that is no state names nothing; the edit itself says what is wrong with it.
fn target(text: &str, path: &Path, change: &Change<'_>) -> Option<Target> {
    let state = DesiredState::parse(text, path).ok()?;
    state.resolve(change.app, change.environment).ok()?.target().cloned()
}

fn block(text: &str, path: &Path, change: &Change<'_>) -> Option<Blocked> {
    let state = DesiredState::parse(text, path).ok()?;
    let app = state.apps.get(change.app)?.as_ref().ok()?;
    app.blocked.iter().find(|block| block.artifact == change.to.artifact).cloned()
}

fn edited(before: Option<&str>, path: &Path, change: &Change<'_>) -> Result<String, EditError> {
    let edit = TargetEdit {
        artifact: change.to.artifact,
        version: change.to.version.as_ref(),
        reason: change.reason,
        by: Some(change.by),
    };
    match before {
        Some(text) => set_target(text, path, change.app, change.environment, &edit),
        None => {
            let text = first_file(change.app, change.environment, &edit);
            // A reason that no state may hold is found here and not by the hosts.
            set_target(&text, path, change.app, change.environment, &edit)
        }
    }
}

/// Puts the text in the file's place and commits it alone, as far as the policy asks.
pub(super) fn write(
    file: &StateFile,
    before: Option<&str>,
    after: &str,
    message: &str,
    policy: Policy,
) -> Result<Commit, ChangeError> {
    let standing = match policy {
        Policy::Never => Standing::Not(NotCommitted::Asked),
        Policy::IfClean | Policy::Must => standing(file),
    };
    match (standing, policy) {
        (Standing::Not(why), Policy::Must) => {
            Err(ChangeError::CannotCommit { file: file.path().to_owned(), why })
        }
        (Standing::Not(why), Policy::IfClean | Policy::Never) => {
            file.replace(after)?;
            Ok(Commit::None(why))
        }
        (Standing::Clean, _) => {
            file.replace(after)?;
            let name = file.path().file_name().unwrap_or_default();
            let committed = git::commit(file.dir(), name, message).map(Commit::Made);
            committed.map_err(|source| put_back(file, before, source))
        }
    }
}

/// Hosts must not run what the repository's own hooks refused.
fn put_back(file: &StateFile, before: Option<&str>, source: GitError) -> ChangeError {
    match file.restore(before) {
        Ok(()) => ChangeError::NotCommitted { file: file.path().to_owned(), source },
        Err(error) => ChangeError::File(error),
    }
}
