//! Changing one target or one suspension in a state file, with every other byte left as it is.

use std::path::Path;

use landfall_store::{ArtifactId, Name, Version};

use super::model::Suspend;
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
    /// The state does not name it.
    #[error(transparent)]
    Unknown(ResolveError),
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
            Self::Unknown(_) => None,
        }
    }
}

impl TargetEdit<'_> {
    fn fields(&self) -> [Field; 4] {
        [
            ("artifact", Some(self.artifact.to_string())),
            ("version", self.version.map(ToString::to_string)),
            ("reason", self.reason.map(str::to_owned)),
            ("by", self.by.map(str::to_owned)),
        ]
    }
}

/// A key of an object, and what it becomes; `None`: it goes.
type Field = (&'static str, Option<String>);

fn fresh(fields: &[Field]) -> Fresh {
    let text = |(key, value): &Field| Some(((*key).to_owned(), Fresh::Text(value.clone()?)));
    Fresh::Table(fields.iter().filter_map(text).collect())
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
    let edited = apply(text, path, &place, &edit.fields())?;
    took_effect(&edited, path, app, environment, edit)?;
    Ok(edited)
}

/// The text with `app`'s suspension in `environment` set, or taken out, and every other byte as it is.
pub fn set_suspend(
    text: &str,
    path: &Path,
    app: &Name,
    environment: &Name,
    suspend: Option<&Suspend>,
) -> Result<String, EditError> {
    let before = DesiredState::parse(text, path)?;
    before.resolve(app, environment).map_err(|error| match error {
        ResolveError::Invalid(problem) => EditError::App(problem),
        unknown => EditError::Unknown(unknown),
    })?;
    let place = ["apps", app.as_str(), "environments", environment.as_str()];
    let edited = match suspend {
        Some(suspend) => apply(text, path, &[&place[..], &["suspend"]].concat(), &fields_of(suspend))?,
        None => {
            let root = parse_json(text, path).map_err(StateError::from)?;
            let table = place.iter().try_fold(&root, |table, key| table.get(key));
            table
                .map_or_else(|| text.to_owned(), |table| Splice::new(text, &root).set(table, "suspend", None))
        }
    };
    let after = DesiredState::parse(&edited, path)?;
    match after.resolve(app, environment) {
        Ok(_) => Ok(edited),
        Err(ResolveError::Invalid(problem)) => Err(EditError::App(problem)),
        Err(unknown) => Err(EditError::Unknown(unknown)),
    }
}

fn fields_of(suspend: &Suspend) -> Vec<Field> {
    vec![
        ("reason", Some(suspend.reason.clone())),
        ("by", Some(suspend.by.clone())),
        ("until", suspend.until.map(|until| until.to_string())),
    ]
}

/// The text of a new file with this one target.
pub fn first_file(app: &Name, environment: &Name, edit: &TargetEdit<'_>) -> String {
    let target =
        nest(&["apps", app.as_str(), "environments", environment.as_str(), "target"], fresh(&edit.fields()));
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

fn apply(text: &str, path: &Path, place: &[&str], fields: &[Field]) -> Result<String, StateError> {
    let parse = |text: &str| parse_json(text, path);
    let root = parse(text)?;
    let mut table: &Node = &root;
    for (depth, key) in place.iter().enumerate() {
        match table.get(key) {
            Some(value) => table = value,
            None => {
                let (key, fresh) = nest(&place[depth..], fresh(fields));
                return Ok(Splice::new(text, &root).insert(table, &key, &fresh));
            }
        }
    }
    let mut edited = text.to_owned();
    for (field, value) in fields {
        let root = parse(&edited)?;
        // The place was found above, and no field of it moves it.
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
