//! What one app in one environment should run.

use std::collections::BTreeMap;

use landfall_store::{ArtifactId, Name};

use super::model::{AppState, Blocked, EnvironmentState, Presence, Suspend, Target};
use super::read::{AppError, DesiredState};
use crate::document::nearest;

/// The answer to "what should run here?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desired<'a> {
    /// Which app.
    pub app: &'a Name,
    /// In which environment.
    pub environment: &'a Name,
    /// Its part of the state.
    pub state: &'a EnvironmentState,
    /// What nobody may deploy.
    pub blocked: &'a [Blocked],
    presence: Presence,
}

impl<'a> Desired<'a> {
    /// What should run; `None`: the app is to be removed.
    pub fn target(&self) -> Option<&'a Target> {
        match self.presence {
            Presence::Absent => None,
            Presence::Present => self.state.target.as_ref(),
        }
    }

    /// The pause, if there is one.
    pub fn suspend(&self) -> Option<&'a Suspend> {
        self.state.suspend.as_ref()
    }

    /// Why this artifact may not be deployed, if it may not.
    pub fn block_of(&self, artifact: &ArtifactId) -> Option<&'a Blocked> {
        self.blocked.iter().find(|blocked| blocked.artifact == *artifact)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The file does not have this app.
    #[error("the state has no app `{app}`")]
    NoApp {
        /// Which app.
        app: Name,
        /// The app that was probably meant.
        nearest: Option<Name>,
    },
    /// The app is not in this environment.
    #[error("the state has no environment `{environment}` of `{app}`")]
    NoEnvironment {
        /// Which app.
        app: Name,
        /// Which environment.
        environment: Name,
        /// The environment that was probably meant.
        nearest: Option<Name>,
    },
    /// The app's part is refused.
    #[error(transparent)]
    Invalid(#[from] AppError),
}

impl DesiredState {
    /// What `app` should run in `environment`.
    pub fn resolve(&self, app: &Name, environment: &Name) -> Result<Desired<'_>, ResolveError> {
        let (app, state) = self
            .apps
            .get_key_value(app)
            .ok_or_else(|| ResolveError::NoApp { app: app.clone(), nearest: meant(app, self.apps.keys()) })?;
        let state = state.as_ref().map_err(Clone::clone)?;
        resolve_in(app, state, environment)
    }

    /// Whether the app is to be removed from the hosts of `environment`.
    pub fn is_absent(&self, app: &Name, environment: &Name) -> bool {
        let Some(Ok(state)) = self.apps.get(app) else { return false };
        let part = state.environments.get(environment).map(|part| part.state);
        [Some(state.state), part].contains(&Some(Presence::Absent))
    }

    /// What each app should run, in any of its environments.
    pub fn artifacts(&self) -> BTreeMap<Name, Vec<ArtifactId>> {
        let parts = self.apps.iter().filter_map(|(name, state)| Some((name, state.as_ref().ok()?)));
        let targets = |state: &AppState| -> Vec<ArtifactId> {
            state.environments.values().filter_map(|part| Some(part.target.as_ref()?.artifact)).collect()
        };
        parts.map(|(name, state)| (name.clone(), targets(state))).collect()
    }

    /// The apps that have a part for `environment`, or whose part is refused; in order of their names.
    pub fn apps_in(&self, environment: &Name) -> impl Iterator<Item = &Name> {
        self.apps.iter().filter_map(move |(name, state)| match state {
            Ok(state) => state.environments.contains_key(environment).then_some(name),
            Err(_) => Some(name),
        })
    }
}

fn resolve_in<'a>(
    app: &'a Name,
    state: &'a AppState,
    environment: &Name,
) -> Result<Desired<'a>, ResolveError> {
    let found = state.environments.get_key_value(environment);
    let (environment, part) = found.ok_or_else(|| ResolveError::NoEnvironment {
        app: app.clone(),
        environment: environment.clone(),
        nearest: meant(environment, state.environments.keys()),
    })?;
    let absent = [state.state, part.state].contains(&Presence::Absent);
    let presence = if absent { Presence::Absent } else { Presence::Present };
    Ok(Desired { app, environment, state: part, blocked: &state.blocked, presence })
}

fn meant<'a>(name: &Name, known: impl Iterator<Item = &'a Name> + Clone) -> Option<Name> {
    let near = nearest(name.as_str(), known.clone().map(Name::as_str))?;
    known.into_iter().find(|name| name.as_str() == near).cloned()
}
