//! The log of the state repository: which commit made which target of an app.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name, Version};

use super::{Commit, Signature};
use crate::commit::history::{self, HistoryError, LogCommit};
use crate::source::git::{Fault, GitSource, Headline, Logged, headline};
use crate::state::DesiredState;
use crate::trust::{Signers, Unsigned, signed_by};

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
    let commits = history::commits_of(file, COMMITS_MAX, signers)?;
    Ok(noted(commits.into_iter().map(|LogCommit { facts, text }| (facts.into(), text)), file, app))
}

/// The same of a repository that the agent of this host has fetched; `None`: it has not yet. Signatures are checked
/// as the agent checks them.
pub async fn log_of(
    source: &GitSource,
    app: &Name,
    signers: Option<&Signers>,
) -> Result<Option<Vec<Noted>>, Fault> {
    let Some(commits) = source.log(COMMITS_MAX).await? else { return Ok(None) };
    let commits = commits.into_iter().map(|logged| (commit_of(&logged, signers), logged.text));
    Ok(Some(noted(commits, source.path(), app)))
}

fn commit_of(logged: &Logged, signers: Option<&Signers>) -> Commit {
    let Headline { author, time, subject } = headline(&logged.raw);
    let signature = match signed_by(&logged.id, &logged.raw, signers, time) {
        Ok(Some(name)) => Signature::Good(name),
        Ok(None) | Err(Unsigned::OtherKind) => Signature::NotChecked,
        Err(Unsigned::Missing) => Signature::None,
        Err(Unsigned::UnknownKey { .. }) => Signature::UnknownSigner,
        Err(_) => Signature::Bad,
    };
    Commit { id: logged.id.to_string(), author, time, subject, signature }
}

fn noted(commits: impl Iterator<Item = (Commit, Option<String>)>, file: &Path, app: &Name) -> Vec<Noted> {
    let mut noted = Vec::new();
    let mut before = BTreeMap::new();
    for (commit, text) in commits {
        let after = text.and_then(|text| targets(&text, file, app));
        let Some(after) = after else {
            noted.push(Noted { commit, named: Vec::new() });
            continue;
        };
        let changed = |naming: &&Naming| {
            let same = |old: &Naming| old.artifact == naming.artifact;
            !before.get(&naming.environment).is_some_and(same)
        };
        let named = after.values().filter(changed).cloned().collect();
        noted.push(Noted { commit, named });
        before = after;
    }
    noted
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
