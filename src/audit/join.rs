//! Runs and commits put together. Pure.

use std::collections::HashSet;

use landfall_store::ArtifactId;

use super::log::{Naming, Noted};
use super::{Commit, Run};

/// Gives each run the commit that asked for it, and adds what the state asked for and no host tried. In the order
/// in which things happened.
pub fn join(mut runs: Vec<Run>, log: &[Noted]) -> Vec<Run> {
    for run in &mut runs {
        run.commit = asking(run, log).cloned();
    }
    let tried: HashSet<(&str, ArtifactId)> =
        runs.iter().map(|run| (run.environment.as_str(), run.artifact)).collect();
    let unseen: Vec<Run> = log
        .iter()
        .flat_map(|noted| noted.named.iter().map(move |naming| (naming, &noted.commit)))
        .filter(|(naming, _)| !tried.contains(&(naming.environment.as_str(), naming.artifact)))
        .map(|(naming, commit)| unseen(naming, commit))
        .collect();
    runs.extend(unseen);
    runs.sort_by_key(Run::when);
    runs
}

/// The newest commit that named the artifact there, of those that the host had read when it tried. A host that did
/// not know its commit goes by the time; clocks differ, so that the first commit is believed even if it seems younger.
fn asking<'a>(run: &Run, log: &'a [Noted]) -> Option<&'a Commit> {
    let names = |noted: &&Noted| {
        let same = |naming: &Naming| naming.environment == run.environment && naming.artifact == run.artifact;
        noted.named.iter().any(same)
    };
    let read = run.state_commit.as_deref().and_then(|id| log.iter().position(|noted| noted.commit.id == id));
    let before = |noted: &&Noted| run.tried.is_none_or(|tried| noted.commit.time <= tried);
    let found = match read {
        Some(read) => log[..=read].iter().rev().find(names),
        None => log.iter().rev().filter(names).find(before).or_else(|| log.iter().find(names)),
    };
    found.map(|noted| &noted.commit)
}

fn unseen(naming: &Naming, commit: &Commit) -> Run {
    Run {
        app: naming.app.clone(),
        environment: naming.environment.clone(),
        host: None,
        artifact: naming.artifact,
        version: naming.version.clone(),
        attempt: None,
        result: None,
        reason: None,
        from: None,
        until: None,
        tried: None,
        state_commit: None,
        by: naming.by.clone(),
        why: naming.why.clone(),
        commit: Some(commit.clone()),
        entry: None,
        accepted: None,
    }
}
