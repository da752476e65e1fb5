//! A suspension in the state, or its end: judged, written, committed, as a change of a target is.

use std::path::{Path, PathBuf};

use landfall_store::Name;

use super::change::{ChangeError, Commit, Policy, write};
use super::file::StateFile;
use super::message::pause_message;
use super::publish::Edit;
use crate::state::{DesiredState, EditError, EnvironmentState, StateError, Suspend, set_suspend};

/// What should change.
#[derive(Debug, Clone, Copy)]
pub struct Pause<'a> {
    /// The state file.
    pub file: &'a Path,
    /// Which app.
    pub app: &'a Name,
    /// In which environment.
    pub environment: &'a Name,
    /// The suspension; `None`: it ends.
    pub to: Option<&'a Suspend>,
    /// Why it ends.
    pub reason: Option<&'a str>,
    /// Whether to commit.
    pub policy: Policy,
}

/// What came of it.
#[derive(Debug)]
pub enum Paused {
    /// The state said so already; nothing was written.
    Already(Option<Suspend>),
    /// The state says so now.
    Written(Box<PauseWritten>),
}

/// A suspension that was written, or taken out.
#[derive(Debug)]
pub struct PauseWritten {
    /// The file, with links resolved.
    pub file: PathBuf,
    /// What was in force before.
    pub from: Option<Suspend>,
    /// What is in force now.
    pub to: Option<Suspend>,
    /// Its commit.
    pub commit: Commit,
}

/// Makes the change. On an error the file is as it was.
pub fn pause(pause: &Pause<'_>) -> Result<Paused, ChangeError> {
    let file = StateFile::hold(pause.file)?;
    let Some(before) = file.read()? else {
        return Err(StateError::Missing { path: file.path().to_owned() }.into());
    };
    let (app, environment) = (pause.app, pause.environment);
    let after = set_suspend(&before, file.path(), app, environment, pause.to)?;
    let from = suspension(&before, file.path(), pause)?;
    if from.as_ref() == pause.to {
        return Ok(Paused::Already(from));
    }
    let message = pause_message(app, environment, from.as_ref(), pause.to, pause.reason);
    let commit = write(&file, Some(&before), &after, &message, pause.policy)?;
    let (path, to) = (file.path().to_owned(), pause.to.cloned());
    Ok(Paused::Written(Box::new(PauseWritten { file: path, from, to, commit })))
}

fn suspension(text: &str, path: &Path, pause: &Pause<'_>) -> Result<Option<Suspend>, ChangeError> {
    let state = DesiredState::parse(text, path)?;
    let found = state.resolve(pause.app, pause.environment).map_err(EditError::Unknown)?;
    Ok(found.suspend().cloned())
}

impl Edit for Pause<'_> {
    type Made = Paused;

    fn file(&self) -> &Path {
        self.file
    }

    fn entry(&self) -> (&Name, &Name) {
        (self.app, self.environment)
    }

    fn again(&self) -> Result<Paused, ChangeError> {
        pause(&Pause { policy: Policy::Must, ..*self })
    }

    fn commit(made: &Paused) -> Option<&str> {
        match made {
            Paused::Written(written) => written.commit.id(),
            Paused::Already(_) => None,
        }
    }

    fn is_in(&self, entry: Option<&EnvironmentState>) -> bool {
        entry.is_some_and(|entry| entry.suspend.as_ref() == self.to)
    }
}
