//! From what a person types to one artifact that may run where they say.

use landfall_store::{Artifact, ArtifactId, Name, Store, StoreError, Version, fetch, refs};

/// An artifact that is in the store, belongs to the app and fits the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Its id.
    pub artifact: ArtifactId,
    /// The version it carries.
    pub version: Option<Version>,
    /// It carries env files for these environments, and not for the one asked for: every host needs its own.
    pub env_for_others: Vec<Name>,
}

/// Why there is no such artifact.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// Meant as an id, and not one.
    #[error("`{text}` is not an artifact id: {why}")]
    NotAnId {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The store does not have it, or cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another app's.
    #[error("{artifact} is an artifact of `{of}`, not of `{app}`")]
    WrongApp {
        /// The artifact.
        artifact: ArtifactId,
        /// Its app.
        of: Name,
        /// The app asked for.
        app: Name,
    },
    /// Packed for another environment.
    #[error("{artifact} was packed for `{only}` and may not run in `{environment}`")]
    WrongEnvironment {
        /// The artifact.
        artifact: ArtifactId,
        /// Its environment.
        only: Name,
        /// The environment asked for.
        environment: Name,
    },
}

impl ChooseError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotAnId { .. } => Some(format!(
                "give the full id, its first {} hex digits or more, or a version: `landfall ls` lists them",
                refs::PREFIX_DIGITS_MIN
            )),
            Self::Store(StoreError::Ambiguous { .. }) => Some("give more digits of the id".to_owned()),
            Self::Store(StoreError::UnknownArtifact { .. }) => {
                Some("`landfall ls` lists what the store has; `landfall pack` adds to it".to_owned())
            }
            Self::Store(_) => None,
            Self::WrongApp { of, .. } => Some(format!("`landfall deploy {of} …` deploys it")),
            Self::WrongEnvironment { environment, .. } => Some(format!(
                "pack it with `--env {environment}`, or without `--env` to make one artifact for every environment"
            )),
        }
    }
}

/// The artifact that `text` means: a full id, a unique beginning of at least 8 hex digits, or a version.
pub fn choose(store: &Store, app: &Name, environment: &Name, text: &str) -> Result<Chosen, ChooseError> {
    spelling(text)?;
    let id = refs::resolve(store, Some(app), text)?;
    let artifact = fetch::artifact(store, &id)?;
    if artifact.app != *app {
        return Err(ChooseError::WrongApp { artifact: id, of: artifact.app, app: app.clone() });
    }
    match &artifact.environment {
        Some(only) if only != environment => Err(ChooseError::WrongEnvironment {
            artifact: id,
            only: only.clone(),
            environment: environment.clone(),
        }),
        _ => Ok(Chosen {
            artifact: id,
            version: refs::version_of(&artifact),
            env_for_others: env_for_others(&artifact, environment),
        }),
    }
}

fn env_for_others(artifact: &Artifact, environment: &Name) -> Vec<Name> {
    let env_layers = artifact.layers.iter().filter(|layer| layer.is_env());
    let others: Vec<Name> = env_layers.filter_map(|layer| layer.environment.clone()).collect();
    if others.contains(environment) { Vec::new() } else { others }
}

/// What says of itself that it is an id must be one, or enough of one. Anything else may be a version.
/// [`choose`] asks this too; by itself it needs no store.
pub fn spelling(text: &str) -> Result<(), ChooseError> {
    let Some(hex) = text.strip_prefix("b3:") else { return Ok(()) };
    let refuse = |why| Err(ChooseError::NotAnId { text: text.to_owned(), why });
    match hex.len() {
        _ if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => {
            refuse("only the digits 0-9 and a-f follow `b3:`")
        }
        0..refs::PREFIX_DIGITS_MIN => refuse("too few digits"),
        refs::PREFIX_DIGITS_MIN..=64 => Ok(()),
        _ => refuse("more than 64 digits"),
    }
}
