//! Pushing a change. Where somebody else pushed first, their commits are taken and the change is made again upon
//! them: the same edit of what stands there by then, never a merge of two texts. Where they changed the very same
//! entry, a person has to look, and the work tree is as it was before the change.

use std::path::Path;

use landfall_store::Name;

use super::change::{Change, ChangeError, Changed, Commit, Policy, change};
use super::git::{self, GitError, Refusal};
use crate::state::{DesiredState, EnvironmentState};

/// Times that somebody else may be quicker, before it is told instead of tried again.
const ROUNDS_MAX: usize = 8;

/// Why a change is not pushed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Git did not push, for another reason than that somebody was quicker.
    #[error(transparent)]
    Git(GitError),
    /// Somebody changed the same entry.
    #[error("`{app}` in `{environment}` was changed by somebody else: {theirs}; nothing was changed here")]
    SameEntry {
        /// Which app.
        app: Name,
        /// Which environment.
        environment: Name,
        /// Their commit: its subject and author.
        theirs: String,
    },
    /// This branch has other commits that do not go on top of theirs.
    #[error("other commits of this branch do not go on top of what was pushed meanwhile: {0}")]
    Rebase(GitError),
    /// The change cannot be made on top of theirs.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Others are quicker every time.
    #[error("somebody else pushed first, {ROUNDS_MAX} times in a row")]
    Busy,
}

/// Pushes what was just changed; gives back the change as it was made in the end.
pub fn publish(wanted: &Change<'_>, mut made: Changed) -> Result<Changed, PublishError> {
    let file = std::fs::canonicalize(wanted.file).unwrap_or_else(|_| wanted.file.to_owned());
    let dir = file.parent().unwrap_or(Path::new("/"));
    for _ in 0..ROUNDS_MAX {
        match git::push_branch(dir) {
            Ok(()) => return Ok(made),
            Err(Refusal::Behind) => {}
            Err(Refusal::Other(error)) => return Err(PublishError::Git(error)),
        }
        made = again(wanted, made, &file, dir)?;
    }
    Err(PublishError::Busy)
}

/// Makes the change on top of what others pushed.
fn again(wanted: &Change<'_>, made: Changed, file: &Path, dir: &Path) -> Result<Changed, PublishError> {
    git::fetch(dir).map_err(PublishError::Git)?;
    let ours = match &made {
        Changed::Written(written) => match &written.commit {
            Commit::Made(commit) => Some(commit.clone()),
            Commit::None(_) => None,
        },
        Changed::Already(_) => None,
    };
    let Some(ours) = ours else {
        // Only older commits of this branch are to be pushed; what they found in force may have changed since.
        git::onto_upstream(dir).map_err(PublishError::Rebase)?;
        return Ok(change(&Change { policy: Policy::Must, ..*wanted })?);
    };
    let before = entry(file, dir, &format!("{ours}^"), wanted).map_err(PublishError::Git)?;
    let theirs = entry(file, dir, git::UPSTREAM, wanted).map_err(PublishError::Git)?;
    git::undo(dir, &ours).map_err(PublishError::Git)?;
    if before != theirs && !names(theirs.as_ref(), wanted) {
        return Err(PublishError::SameEntry {
            app: wanted.app.clone(),
            environment: wanted.environment.clone(),
            theirs: git::who_changed(dir, file.file_name().unwrap_or_default()),
        });
    }
    if let Err(error) = git::onto_upstream(dir) {
        git::redo(dir, &ours).map_err(PublishError::Git)?;
        return Err(PublishError::Rebase(error));
    }
    Ok(change(&Change { policy: Policy::Must, ..*wanted })?)
}

/// Whether they made the same choice.
fn names(entry: Option<&EnvironmentState>, wanted: &Change<'_>) -> bool {
    let target = entry.and_then(|entry| entry.target.as_ref());
    target.is_some_and(|target| target.artifact == wanted.to.artifact)
}

fn entry(
    file: &Path,
    dir: &Path,
    commit: &str,
    wanted: &Change<'_>,
) -> Result<Option<EnvironmentState>, GitError> {
    let text = git::show(dir, file.file_name().unwrap_or_default(), commit)?;
    let state = text.and_then(|text| DesiredState::parse(&text, file).ok());
    Ok(state.and_then(|state| Some(state.resolve(wanted.app, wanted.environment).ok()?.state.clone())))
}
