//! Pushing a change. Where somebody else pushed first, their commits are taken and the change is made again upon
//! them: the same edit of what stands there by then, never a merge of two texts. Where they changed the very same
//! entry, a person has to look, and the work tree is as it was before the change.

use std::path::Path;

use landfall_store::Name;

use super::change::ChangeError;
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

/// An edit of one app's entry in one environment, as often as it takes to have it pushed.
pub trait Edit {
    /// What came of it.
    type Made;

    /// The state file.
    fn file(&self) -> &Path;

    /// Which entry.
    fn entry(&self) -> (&Name, &Name);

    /// Makes it again, on what stands in the file by now. It must be committed.
    fn again(&self) -> Result<Self::Made, ChangeError>;

    /// The commit it is in; `None`: nothing had to be written.
    fn commit(made: &Self::Made) -> Option<&str>;

    /// Whether an entry says already what the edit would.
    fn is_in(&self, entry: Option<&EnvironmentState>) -> bool;
}

/// Pushes what was just changed; gives back the change as it was made in the end.
pub fn publish<E: Edit>(edit: &E, mut made: E::Made) -> Result<E::Made, PublishError> {
    let file = std::fs::canonicalize(edit.file()).unwrap_or_else(|_| edit.file().to_owned());
    let dir = file.parent().unwrap_or(Path::new("/"));
    for _ in 0..ROUNDS_MAX {
        match git::push_branch(dir) {
            Ok(()) => return Ok(made),
            Err(Refusal::Behind) => {}
            Err(Refusal::Other(error)) => return Err(PublishError::Git(error)),
        }
        made = again(edit, &made, &file, dir)?;
    }
    Err(PublishError::Busy)
}

/// Makes the change on top of what others pushed.
fn again<E: Edit>(edit: &E, made: &E::Made, file: &Path, dir: &Path) -> Result<E::Made, PublishError> {
    git::fetch(dir).map_err(PublishError::Git)?;
    let Some(ours) = E::commit(made) else {
        // Only older commits of this branch are to be pushed; what they found in force may have changed since.
        git::onto_upstream(dir).map_err(PublishError::Rebase)?;
        return Ok(edit.again()?);
    };
    let (app, environment) = edit.entry();
    let entry = |commit: &str| entry(file, dir, commit, app, environment).map_err(PublishError::Git);
    let (before, theirs) = (entry(&format!("{ours}^"))?, entry(git::UPSTREAM)?);
    git::undo(dir, ours).map_err(PublishError::Git)?;
    if before != theirs && !edit.is_in(theirs.as_ref()) {
        return Err(PublishError::SameEntry {
            app: app.clone(),
            environment: environment.clone(),
            theirs: git::who_changed(dir, file.file_name().unwrap_or_default()),
        });
    }
    if let Err(error) = git::onto_upstream(dir) {
        git::redo(dir, ours).map_err(PublishError::Git)?;
        return Err(PublishError::Rebase(error));
    }
    Ok(edit.again()?)
}

fn entry(
    file: &Path,
    dir: &Path,
    commit: &str,
    app: &Name,
    environment: &Name,
) -> Result<Option<EnvironmentState>, GitError> {
    let text = git::show(dir, file.file_name().unwrap_or_default(), commit)?;
    let state = text.and_then(|text| DesiredState::parse(&text, file).ok());
    Ok(state.and_then(|state| Some(state.resolve(app, environment).ok()?.state.clone())))
}
