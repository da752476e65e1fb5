//! The log of the state repository: which commit made which target of an app.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name, Version};

use super::{Commit, Signature};
use crate::commit::history::{self, HistoryError, LogCommit};
use crate::state::DesiredState;

/// Commits of the state that are read: years of several deploys a day.
const COMMITS_MAX: usize = 20_000;

/// A commit and the targets of one app that it made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The commit.
    pub commit: Commit,
    /// What it changed.
    pub named: Vec<Naming>,
}

/// A target that a commit made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// Which app.
    pub app: Name,
    /// In which environment.
    pub environment: Name,
    /// Which artifact.
    pub artifact: ArtifactId,
    /// The version that the state gives it.
    pub version: Option<Version>,
    /// Who, as the state says.
    pub by: Option<String>,
    /// Why, as the state says.
    pub why: Option<String>,
}

/// The commits that changed the state file, oldest first. `signers`: the file of allowed signers that git checks
/// signatures with. A commit whose file is no state made no targets.
pub fn log(file: &Path, app: &Name, signers: Option<&Path>) -> Result<Vec<Noted>, HistoryError> {
    let mut noted = Vec::new();
    let mut before = BTreeMap::new();
    for LogCommit { facts, text } in history::commits_of(file, COMMITS_MAX, signers)? {
        let after = text.and_then(|text| targets(&text, file, app));
        let Some(after) = after else {
            noted.push(Noted { commit: facts.into(), named: Vec::new() });
            continue;
        };
        let changed = |naming: &&Naming| {
            let same = |old: &Naming| old.artifact == naming.artifact;
            !before.get(&naming.environment).is_some_and(same)
        };
        let named = after.values().filter(changed).cloned().collect();
        noted.push(Noted { commit: facts.into(), named });
        before = after;
    }
    Ok(noted)
}

fn targets(text: &str, file: &Path, app: &Name) -> Option<BTreeMap<Name, Naming>> {
    let state = DesiredState::parse(text, file).ok()?;
    let part = state.apps.get(app)?.as_ref().ok()?;
    let naming = |(environment, part): (&Name, &crate::state::EnvironmentState)| {
        let target = part.target.as_ref()?;
        let naming = Naming {
            app: app.clone(),
            environment: environment.clone(),
            artifact: target.artifact,
            version: target.version.clone(),
            by: target.by.clone(),
            why: target.reason.clone(),
        };
        Some((environment.clone(), naming))
    };
    Some(part.environments.iter().filter_map(naming).collect())
}

impl From<history::Facts> for Commit {
    fn from(facts: history::Facts) -> Self {
        let signature = match facts.signature.as_str() {
            "N" => Signature::None,
            "G" if facts.signer.is_empty() => Signature::UnknownSigner,
            "G" => Signature::Good(facts.signer),
            "U" => Signature::UnknownSigner,
            "E" => Signature::NotChecked,
            _ => Signature::Bad,
        };
        let time = Timestamp::from_second(facts.time).unwrap_or_default();
        Self { id: facts.id, author: facts.author, time, subject: facts.subject, signature }
    }
}
