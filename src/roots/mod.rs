//! Every artifact that a desired state names, now and in its past, within a window: what a collection of the
//! store must keep. Whatever of the past cannot be read is an error: it may name anything.

mod git;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use landfall_store::ArtifactId;

use crate::state::FILE_NAME;

/// How much of the past counts.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Of each app and environment, the artifacts asked for last.
    pub versions: usize,
    /// Everything asked for since then, in seconds since 1970.
    pub since: u64,
}

/// What a state names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// Each artifact, and in words where it is named.
    pub artifacts: BTreeMap<ArtifactId, String>,
    /// Commits that were read.
    pub commits: usize,
    /// Whether the state has a past: it is in a git repository.
    pub has_past: bool,
}

/// Why nobody knows what a state names.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// No such file or repository.
    #[error("{path}: there is no state file and no git repository here")]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// git cannot be started.
    #[error("cannot run git to read the state's past: {source}")]
    NoGit {
        /// What the system said.
        source: std::io::Error,
    },
    /// git refused.
    #[error("{dir}: git {what} failed: {words}")]
    Git {
        /// The repository.
        dir: PathBuf,
        /// What was asked.
        what: &'static str,
        /// What it said.
        words: String,
    },
    /// git went away in the middle.
    #[error("{dir}: git ended before it had answered: {source}")]
    Pipe {
        /// The repository.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A clone without all of its past.
    #[error("{dir}: {why}, so the state's past is not all here")]
    Gap {
        /// The repository.
        dir: PathBuf,
        /// What it lacks.
        why: &'static str,
    },
}

/// Reads a state file, or a repository with one at its top, and its history on every branch.
pub fn of_state(path: &Path, window: &Window) -> Result<Roots, RootsError> {
    let (dir, name) = if path.is_dir() {
        (path.to_owned(), FILE_NAME.to_owned())
    } else {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().and_then(|name| name.to_str());
        (dir.to_owned(), name.ok_or_else(|| RootsError::Missing { path: path.to_owned() })?.to_owned())
    };
    if !dir.is_dir() {
        return Err(RootsError::Missing { path: path.to_owned() });
    }
    let mut roots = Roots::default();
    let file = dir.join(&name);
    let is_there = match std::fs::read(&file) {
        Ok(bytes) => {
            name_all(&bytes, &format!("the state {}", file.display()), &mut roots.artifacts);
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(source) => return Err(RootsError::Unreadable { path: file, source }),
    };
    match git::prefix(&dir)? {
        Some(prefix) => {
            roots.has_past = true;
            past(&dir, &format!("{prefix}{name}"), window, &mut roots)?;
        }
        None if is_there => {}
        None => return Err(RootsError::Missing { path: path.to_owned() }),
    }
    if !is_there && roots.commits == 0 {
        return Err(RootsError::Missing { path: path.to_owned() });
    }
    Ok(roots)
}

fn past(dir: &Path, file: &str, window: &Window, roots: &mut Roots) -> Result<(), RootsError> {
    if let Some(why) = git::gap(dir)? {
        return Err(RootsError::Gap { dir: dir.to_owned(), why });
    }
    let commits = git::commits(dir, file)?;
    roots.commits = commits.len();
    // What a commit within the window replaced was in force when the window began.
    let within = |commit: &&git::Commit| commit.time >= window.since;
    let mut counts: BTreeSet<String> = git::tips(dir)?.into_iter().collect();
    counts.extend(
        commits.iter().filter(within).flat_map(|commit| commit.parents.iter().chain([&commit.id])).cloned(),
    );
    let mut asked: Vec<String> = commits.into_iter().map(|commit| commit.id).collect();
    let known: BTreeSet<&String> = asked.iter().collect();
    let tips: Vec<String> = counts.iter().filter(|id| !known.contains(id)).cloned().collect();
    asked.extend(tips);
    let mut last: HashMap<(String, String), BTreeSet<ArtifactId>> = HashMap::new();
    git::contents(dir, file, &asked, |commit, content| {
        let Some(content) = content else { return };
        let what = format!("the state in commit {}", commit.get(..12).unwrap_or(commit));
        if counts.contains(commit) {
            name_all(content, &what, &mut roots.artifacts);
        }
        for (app, environment, id) in targets(content) {
            let seen = last.entry((app, environment)).or_default();
            if seen.len() < window.versions && seen.insert(id) {
                roots.artifacts.entry(id).or_insert_with(|| what.clone());
            }
        }
    })
}

/// Every artifact id in a text, whatever the text is: a state that no host would accept may be mended later.
fn name_all(text: &[u8], what: &str, into: &mut BTreeMap<ArtifactId, String>) {
    for at in text.windows(3).enumerate().filter(|(_, bytes)| *bytes == b"b3:").map(|(at, _)| at + 3) {
        let id = text.get(at..at + 64).and_then(|hex| std::str::from_utf8(hex).ok()?.parse().ok());
        if let Some(id) = id {
            into.entry(ArtifactId(id)).or_insert_with(|| what.to_owned());
        }
    }
}

/// What a state asks for: app, environment, artifact. Nothing of what does not parse; `name_all` has that.
fn targets(text: &[u8]) -> Vec<(String, String, ArtifactId)> {
    let mut found = Vec::new();
    let Ok(state) = serde_json::from_slice::<serde_json::Value>(text) else { return found };
    let apps = state.get("apps").and_then(|apps| apps.as_object());
    for (app, state) in apps.into_iter().flatten() {
        let environments = state.get("environments").and_then(|environments| environments.as_object());
        for (environment, wish) in environments.into_iter().flatten() {
            let id = wish.pointer("/target/artifact").and_then(|id| id.as_str()?.parse().ok());
            if let Some(id) = id {
                found.push((app.clone(), environment.clone(), id));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ArtifactId {
        ArtifactId(landfall_store::Digest::of(&[n]))
    }

    #[test]
    fn every_id_in_a_text_is_found_even_where_the_text_is_no_state() {
        let mut found = BTreeMap::new();
        let text = format!("<<<<<<< HEAD\n\"{}\",b3:b3:zz {}", id(1), id(2));
        name_all(text.as_bytes(), "here", &mut found);
        assert_eq!(found.keys().copied().collect::<BTreeSet<_>>(), [id(1), id(2)].into());
        assert!(targets(text.as_bytes()).is_empty());
    }
}
