//! Where a rollback without a goal goes: the last version that proved healthy here, never "the one before".

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name, Version};

use super::file::{FileError, StateFile};
use super::git::{self, GitError};
use crate::record::history::{Entry, Outcome};
use crate::state::DesiredState;

/// Commits of the state that are searched for an older target: years of several deploys a day.
const LOG_COMMITS_MAX: usize = 2_000;

/// Whether an artifact may be gone back to.
pub type Usable<'a> = &'a dyn Fn(&ArtifactId) -> bool;

/// A goal, and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Previous {
    /// It proved healthy on this host.
    Healthy {
        /// The artifact.
        artifact: ArtifactId,
        /// Its version.
        version: Version,
        /// The attempt that proved it.
        attempt: u64,
        /// When, by the wall clock of this host.
        when: Timestamp,
    },
    /// An older commit of the state names it; nothing here knows how it fared.
    Named {
        /// The artifact.
        artifact: ArtifactId,
        /// The version that commit gives it.
        version: Option<Version>,
        /// The commit.
        commit: String,
    },
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum PreviousError {
    /// The state file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its log cannot be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The file has no log.
    #[error("{file} is not in a git work tree, so its older versions are not known")]
    NoLog {
        /// The file.
        file: PathBuf,
    },
}

impl Previous {
    /// The artifact.
    pub const fn artifact(&self) -> ArtifactId {
        match self {
            Self::Healthy { artifact, .. } | Self::Named { artifact, .. } => *artifact,
        }
    }
}

/// The artifact that proved healthy here most recently, other than `now`. One whose latest attempt failed
/// does not count, whatever it was before. Pure.
pub fn in_history(entries: &[Entry], now: Option<&ArtifactId>, usable: Usable<'_>) -> Option<Previous> {
    let mut judged = std::collections::HashSet::new();
    for entry in entries.iter().rev().filter(|entry| is_verdict(entry)) {
        let artifact = entry.target.artifact;
        let newest = judged.insert(artifact);
        let Some(release) = &entry.release else { continue };
        if newest && entry.result == Outcome::Healthy && Some(&artifact) != now && usable(&artifact) {
            let (version, attempt, when) = (release.version.clone(), entry.attempt, entry.started);
            return Some(Previous::Healthy { artifact, version, attempt, when });
        }
    }
    None
}

/// The newest verdict on an artifact. Pure.
pub fn last_verdict<'a>(entries: &'a [Entry], artifact: &ArtifactId) -> Option<&'a Entry> {
    entries.iter().rev().filter(|entry| is_verdict(entry)).find(|entry| entry.target.artifact == *artifact)
}

/// Whether an entry says something about the release itself.
fn is_verdict(entry: &Entry) -> bool {
    match entry.result {
        Outcome::Healthy | Outcome::Adopted | Outcome::Reverted => true,
        Outcome::Failed => entry.failure.as_ref().is_some_and(|failure| failure.class.blames_the_release()),
        Outcome::Superseded
        | Outcome::Interrupted
        | Outcome::Refused
        | Outcome::Removed
        | Outcome::Unverified => false,
    }
}

/// The artifact that the newest older commit of the state names, other than `now`.
pub fn in_log(
    file: &Path,
    app: &Name,
    environment: &Name,
    now: Option<&ArtifactId>,
    usable: Usable<'_>,
) -> Result<Option<Previous>, PreviousError> {
    let file = StateFile::hold(file)?;
    let no_log = || PreviousError::NoLog { file: file.path().to_owned() };
    if !git::is_work_tree(file.dir())? {
        return Err(no_log());
    }
    let name = file.path().file_name().ok_or_else(no_log)?;
    for commit in git::commits(file.dir(), name, LOG_COMMITS_MAX)? {
        let Some(text) = git::show(file.dir(), name, &commit)? else { continue };
        let Ok(state) = DesiredState::parse(&text, file.path()) else { continue };
        let Ok(desired) = state.resolve(app, environment) else { continue };
        let Some(target) = desired.target() else { continue };
        if Some(&target.artifact) != now && usable(&target.artifact) {
            let (artifact, version) = (target.artifact, target.version.clone());
            return Ok(Some(Previous::Named { artifact, version, commit }));
        }
    }
    Ok(None)
}
