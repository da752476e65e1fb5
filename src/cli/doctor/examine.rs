//! What is missing on this host before it can deploy, each with what mends it.
//!
//! Each room gathers a few facts and judges them with pure functions; none leaves anything on the host or needs the
//! lock, and none waits for longer than a server takes to answer.

use landfall_store::Name;
use schemars::JsonSchema;
use serde::Serialize;

use super::app::App;
use super::{agent, app, disk, kernel, root, supply};
use crate::host::Host;
use crate::state::DesiredState;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub enum Level {
    /// As it should be.
    Good,
    /// It works, and will bite some day.
    Warning,
    /// A deploy would fail, or an app would not come up.
    Problem,
}

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "DoctorFinding")]
pub struct Finding {
    /// What was looked at: one word, stable.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// The app it is about, if it is about one.
    pub app: Option<Name>,
    /// What was found.
    pub message: String,
    /// What mends it.
    pub fix: Option<String>,
}

impl Finding {
    /// Nothing to do.
    pub fn good(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Level::Good, app: None, message: message.into(), fix: None }
    }

    /// Something to look at some day.
    pub fn warning(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warning, fix: Some(fix.into()), ..Self::good(check, message) }
    }

    /// Something that must be mended.
    pub fn problem(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Problem, fix: Some(fix.into()), ..Self::good(check, message) }
    }

    /// The same about an app.
    #[must_use]
    pub fn of(self, app: &Name) -> Self {
        Self { app: Some(app.clone()), ..self }
    }
}

/// A host to be examined.
#[derive(Debug)]
pub struct Patient<'a> {
    /// Host, root, configuration.
    pub host: &'a Host,
    /// Its environment.
    pub environment: &'a Name,
    /// The state, if it could be read.
    pub state: Option<&'a DesiredState>,
}

/// What can be said of any machine, without a configuration.
pub fn machine() -> Vec<Finding> {
    kernel::findings()
}

/// Everything about this host and its apps.
pub fn host(patient: &Patient<'_>) -> Vec<Finding> {
    let mut found = root::findings(patient.host);
    found.extend(disk::findings(patient.host));
    let (store, of_store) = supply::store(patient.host);
    found.extend(of_store);
    found.extend(agent::findings(patient.host));
    for app in app::all(patient) {
        let examined = App { patient, name: &app, store: store.as_ref() };
        found.extend(examined.findings().into_iter().map(|finding| finding.of(&app)));
    }
    found
}
