//! Everything that is wrong with a state file, in one pass, for CI.

use std::path::Path;

use landfall_store::Name;

use super::model::AppState;
use super::read::{DesiredState, StateError};
use crate::document::{Document, Notation, Problem, parse_json};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Hosts would act on it, but somebody should look.
    Warning,
    /// Hosts would refuse the file, or this app's part of it.
    Error,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The app it concerns; `None`: all of them.
    pub app: Option<Name>,
    /// What is wrong, with its place where it has one.
    pub message: String,
    /// The place: line and column from 1, and the JSON pointer.
    pub place: Option<(usize, usize, String)>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    /// A finding about the value at these keys; where the file has no such value, one without a place.
    pub fn about(severity: Severity, app: &Name, keys: &[&str], message: String, hint: &str) -> Self {
        let pointer = keys.iter().fold(String::new(), |at, key| Notation::Json.key(&at, key));
        let (message, hint) = (message, Some(hint.to_owned()));
        Self { severity, app: Some(app.clone()), message, place: Some((0, 0, pointer)), hint }
    }

    /// The same with line and column, and both in the message.
    #[must_use]
    pub fn placed(self, text: &str, path: &Path) -> Self {
        let Some((0, _, pointer)) = &self.place else { return self };
        let Some(problem) = problem_at(text, path, pointer, &self.message) else {
            return Self { place: None, ..self };
        };
        let place = Some((problem.line(), problem.column(), problem.at().to_owned()));
        Self { message: problem.to_string(), place, ..self }
    }
}

/// A problem with the value at a pointer.
fn problem_at(text: &str, path: &Path, pointer: &str, what: &str) -> Option<Problem> {
    let root = parse_json(text, path).ok()?;
    let document = Document { file: path, text, notation: Notation::Json };
    // Names of apps, environments and keys hold none of the characters that a pointer escapes.
    let keys = pointer.split('/').skip(1);
    let value = keys.into_iter().try_fold(document.root(&root), |value, key| value.map().ok()?.get(key))?;
    Some(value.invalid(what))
}

/// Judges a state as every host would, and collects all findings instead of stopping at the first.
pub fn lint(text: &str, path: &Path) -> Vec<Finding> {
    match DesiredState::parse(text, path) {
        Ok(state) => {
            let findings = state.apps.iter().flat_map(|(name, app)| judge(name, app));
            findings.map(|finding| finding.placed(text, path)).collect()
        }
        Err(StateError::Invalid(problem)) => vec![refused(None, &problem)],
        Err(error) => vec![Finding {
            severity: Severity::Error,
            app: None,
            message: error.to_string(),
            place: None,
            hint: error.hint().map(str::to_owned),
        }],
    }
}

fn judge(name: &Name, app: &Result<AppState, Problem>) -> Vec<Finding> {
    match app {
        Err(problem) => vec![refused(Some(name), problem)],
        Ok(app) => blocked_targets(name, app).chain(suspended_for_ever(name, app)).collect(),
    }
}

fn refused(app: Option<&Name>, problem: &Problem) -> Finding {
    Finding {
        severity: Severity::Error,
        app: app.cloned(),
        message: problem.to_string(),
        place: Some((problem.line(), problem.column(), problem.at().to_owned())),
        hint: problem.hint().map(str::to_owned),
    }
}

fn blocked_targets<'a>(name: &'a Name, app: &'a AppState) -> impl Iterator<Item = Finding> + 'a {
    app.environments.iter().filter_map(move |(environment, state)| {
        let target = state.target.as_ref()?;
        let block = app.blocked.iter().find(|block| block.artifact == target.artifact)?;
        let message = format!(
            "`{name}` in `{environment}` targets {}, which is blocked: {} ({})",
            target.artifact, block.reason, block.by
        );
        let keys = ["apps", name.as_str(), "environments", environment.as_str(), "target", "artifact"];
        let hint = "target another artifact, or remove the block";
        Some(Finding::about(Severity::Error, name, &keys, message, hint))
    })
}

fn suspended_for_ever<'a>(name: &'a Name, app: &'a AppState) -> impl Iterator<Item = Finding> + 'a {
    app.environments.iter().filter_map(move |(environment, state)| {
        let suspend = state.suspend.as_ref().filter(|suspend| suspend.until.is_none())?;
        let message = format!("`{name}` in `{environment}` is suspended without an end: {}", suspend.reason);
        let keys = ["apps", name.as_str(), "environments", environment.as_str(), "suspend"];
        Some(Finding::about(Severity::Warning, name, &keys, message, "give it an `until`"))
    })
}
