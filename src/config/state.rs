//! `[state]`: where desired state comes from.

use std::path::{Path, PathBuf};

use super::{keys, relative_to};
use crate::document::{Problem, ProblemKind, Table, Value};
use crate::spec::Millis;

/// The file in a state repository.
const PATH: &str = "deploy-state.json";
/// The branch of a state repository.
const BRANCH: &str = "main";
/// Time between two looks at the repository.
const POLL: Millis = Millis(30_000);
/// The shortest pause between two looks: below it a thousand hosts are an attack on their git server.
const POLL_MS_MIN: u64 = 5_000;

/// Where desired state comes from and how often it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateConfig {
    /// The place.
    pub location: StateLocation,
    /// Time between two looks at a repository; a file is watched.
    pub poll: Millis,
    /// Which changes of the repository's history are accepted.
    pub history: History,
}

/// A file or a file in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateLocation {
    /// A file on this host.
    File(PathBuf),
    /// A file of a git repository.
    Git {
        /// The repository, then its mirrors in order.
        remotes: Vec<String>,
        /// The branch.
        branch: String,
        /// The file in it.
        path: String,
    },
}

/// Which changes of a state repository's history are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// Only commits that descend from the last accepted one.
    FastForward,
    /// Any: for development environments.
    Any,
}

pub(super) fn read(value: &Value<'_>, base: &Path) -> Result<StateConfig, Problem> {
    let table = value.table(keys::STATE)?;
    let location = match (table.get("git"), table.get("file")) {
        (Some(git), None) => repository(&table, &git)?,
        (None, Some(file)) => {
            only_for_git(&table)?;
            StateLocation::File(relative_to(base, &file)?)
        }
        _ => return Err(value.invalid("[state] has exactly one of `git` and `file`")),
    };
    Ok(StateConfig {
        location,
        poll: table.read("poll", poll)?.unwrap_or(POLL),
        history: table.read("history", history)?.unwrap_or(History::FastForward),
    })
}

fn repository(table: &Table<'_>, git: &Value<'_>) -> Result<StateLocation, Problem> {
    let mut remotes = vec![remote(git)?];
    remotes.extend(table.read("mirrors", |list| list.set(remote))?.unwrap_or_default());
    Ok(StateLocation::Git {
        remotes,
        branch: table.read("branch", branch)?.unwrap_or_else(|| BRANCH.to_owned()),
        path: table.read("path", path)?.unwrap_or_else(|| PATH.to_owned()),
    })
}

fn only_for_git(table: &Table<'_>) -> Result<(), Problem> {
    let stray = ["branch", "poll", "path", "history", "mirrors"];
    match stray.iter().find_map(|key| table.get(key)) {
        Some(value) => {
            Err(value.problem(ProblemKind::Invalid, "this is for a state repository; a file is watched"))
        }
        None => Ok(()),
    }
}

/// An address git is given: never an option, never with a password that would end up in logs.
fn remote(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    if text.is_empty() || text.starts_with('-') || text.contains(|c: char| c.is_control() || c == ' ') {
        return Err(value.invalid("this is not an address of a git repository"));
    }
    let authority = text.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
    if authority.is_some_and(|host| host.split_once('@').is_some_and(|(user, _)| user.contains(':'))) {
        return Err(value
            .invalid("the repository's address has a password in it: it would end up in logs")
            .with_hint("use a deploy key (ssh://) or a git credential helper"));
    }
    Ok(text.to_owned())
}

fn branch(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._/+-".contains(c);
    let well_formed = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(allowed)
        && !text.contains("..")
        && !text.contains("//")
        && !text.ends_with(['/', '.'])
        && !text.ends_with(".lock");
    if well_formed { Ok(text.to_owned()) } else { Err(value.invalid(format!("`{text}` is not a branch"))) }
}

fn path(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    let fault = |part: &str| matches!(part, "" | "." | "..") || part.eq_ignore_ascii_case(".git");
    if text.contains(['\0', ':', '\\', '\n']) || text.split('/').any(fault) {
        return Err(value.invalid(format!("`{text}` is not a path inside the repository")));
    }
    Ok(text.to_owned())
}

fn poll(value: &Value<'_>) -> Result<Millis, Problem> {
    let poll = value.duration()?;
    if poll.0 < POLL_MS_MIN {
        return Err(value
            .invalid("less than 5s between two looks at the repository")
            .with_hint("`landfall reconcile` or a webhook is quicker than any poll"));
    }
    Ok(poll)
}

fn history(value: &Value<'_>) -> Result<History, Problem> {
    match value.text()? {
        "fast-forward" => Ok(History::FastForward),
        "any" => Ok(History::Any),
        other => Err(value.invalid(format!("`{other}` is neither `fast-forward` nor `any`"))),
    }
}
