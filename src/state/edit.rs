//! Changing one target in a state file, with every other byte left as it is.

use std::path::Path;

use landfall_store::{ArtifactId, Name, Version};

use super::read::{AppError, DesiredState, StateError};
use super::resolve::ResolveError;
use super::splice::{Fresh, Splice};
use crate::document::{Node, parse_json};

/// What a target becomes. A field that is `None` is removed: an old reason would be a lie about a new target.
/// Keys of the target that begin with `x-` stay.
#[derive(Debug, Clone)]
pub struct TargetEdit<'a> {
    /// The artifact.
    pub artifact: ArtifactId,
    /// Its version.
    pub version: Option<&'a Version>,
    /// Why.
    pub reason: Option<&'a str>,
    /// Who.
    pub by: Option<&'a str>,
}

/// Why a state was not edited. The text is as it was.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file is not a state: an edit could only hide that.
    #[error(transparent)]
    State(#[from] StateError),
    /// The app's part would still be refused after the edit.
    #[error(transparent)]
    App(#[from] AppError),
    /// The app is marked for removal.
    #[error("`{app}` in `{environment}` is marked \"state\": \"absent\": a target would have no effect")]
    Absent {
        /// Which app.
        app: Name,
        /// Which environment.
        environment: Name,
    },
}

impl EditError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::State(error) => error.hint(),
            Self::App(problem) => problem.hint(),
            Self::Absent { .. } => Some("remove the `state` key first"),
        }
    }
}

impl TargetEdit<'_> {
    fn fields(&self) -> [(&'static str, Option<String>); 4] {
        [
            ("artifact", Some(self.artifact.to_string())),
            ("version", self.version.map(ToString::to_string)),
            ("reason", self.reason.map(str::to_owned)),
            ("by", self.by.map(str::to_owned)),
        ]
    }

    fn fresh(&self) -> Fresh {
        let text = |(key, value): (&str, Option<String>)| Some((key.to_owned(), Fresh::Text(value?)));
        Fresh::Table(self.fields().into_iter().filter_map(text).collect())
    }
}

/// The text with `app`'s target in `environment` changed, or added in the file's own style. What comes back
/// parses, and resolves to the target that was asked for; so a state without any app may get its first one.
pub fn set_target(
    text: &str,
    path: &Path,
    app: &Name,
    environment: &Name,
    edit: &TargetEdit<'_>,
) -> Result<String, EditError> {
    let before = DesiredState::parse(text, path);
    match (edited(text, path, app, environment, edit), before) {
        // The file's own error is the one to tell: the edit's would speak of lines that nobody wrote.
        (Err(_), Err(own)) => Err(own.into()),
        (edited, _) => edited,
    }
}

fn edited(
    text: &str,
    path: &Path,
    app: &Name,
    environment: &Name,
    edit: &TargetEdit<'_>,
) -> Result<String, EditError> {
    let place = ["apps", app.as_str(), "environments", environment.as_str(), "target"];
    let edited = apply(text, path, &place, edit)?;
    took_effect(&edited, path, app, environment, edit)?;
    Ok(edited)
}

/// The text of a new file with this one target.
pub fn first_file(app: &Name, environment: &Name, edit: &TargetEdit<'_>) -> String {
    let target = nest(&["apps", app.as_str(), "environments", environment.as_str(), "target"], edit.fresh());
    let version = ("apiVersion".to_owned(), Fresh::Text(super::API_VERSION.to_owned()));
    Fresh::Table(vec![version, target]).to_text() + "\n"
}

fn nest(place: &[&str], inner: Fresh) -> (String, Fresh) {
    match place {
        [] => (String::new(), inner),
        [key] => ((*key).to_owned(), inner),
        [key, rest @ ..] => ((*key).to_owned(), Fresh::Table(vec![nest(rest, inner)])),
    }
}

fn apply(text: &str, path: &Path, place: &[&str], edit: &TargetEdit<'_>) -> Result<String, StateError> {
    let parse = |text: &str| parse_json(text, path);
    let root = parse(text)?;
    let mut table: &Node = &root;
    for (depth, key) in place.iter().enumerate() {
        match table.get(key) {
            Some(value) => table = value,
            None => {
                let (key, fresh) = nest(&place[depth..], edit.fresh());
                return Ok(Splice::new(text, &root).insert(table, &key, &fresh));
            }
        }
    }
    let mut edited = text.to_owned();
    for (field, value) in edit.fields() {
        let root = parse(&edited)?;
        // The place was found above, and no field of the target moves it.
        let Some(target) = place.iter().try_fold(&root, |table, key| table.get(key)) else {
            break;
        };
        edited = Splice::new(&edited, &root).set(target, field, value.as_deref());
    }
    Ok(edited)
}

fn took_effect(
    edited: &str,
    path: &Path,
    app: &Name,
    environment: &Name,
    edit: &TargetEdit<'_>,
) -> Result<(), EditError> {
    let state = DesiredState::parse(edited, path)?;
    let absent = || EditError::Absent { app: app.clone(), environment: environment.clone() };
    match state.resolve(app, environment) {
        Ok(desired) if desired.target().is_some_and(|target| target.artifact == edit.artifact) => Ok(()),
        Err(ResolveError::Invalid(problem)) => Err(EditError::App(problem)),
        Ok(_) | Err(_) => Err(absent()),
    }
}
