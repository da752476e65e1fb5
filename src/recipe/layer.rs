//! `[[layer]]`: which files go into which tree.

use std::path::PathBuf;

use landfall_store::Name;
use landfall_store::limits::LAYERS_MAX;

use super::{keys, path, reserved, roles};
use crate::document::{Problem, ProblemKind, Table, Value};

/// The name every env layer has, and no other layer may have.
const ENV_LAYER: &str = "env";

/// What a layer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Files of the app.
    Files,
    /// The two env files of one environment; packed once per environment.
    Env,
}

/// One layer of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRecipe {
    /// Unique, except that every env layer is named `env`.
    pub name: Name,
    /// Hosts that get it; empty: all.
    pub roles: Vec<Name>,
    /// The only environment that gets it.
    pub environment: Option<Name>,
    /// What it holds.
    pub kind: LayerKind,
    /// What is packed, and where it lands; empty for an env layer.
    pub files: Vec<FileMap>,
    /// gitignore patterns of paths left out, relative to the layer's root after `to`.
    pub exclude: Vec<String>,
}

/// A file or directory and its place in the release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileMap {
    /// Relative to the recipe's directory; `.` is that directory.
    pub from: PathBuf,
    /// A directory's contents go under it (empty: the release's top); a file gets exactly this name.
    pub to: String,
}

pub(super) fn read_all(value: &Value<'_>) -> Result<Vec<LayerRecipe>, Problem> {
    let values = value.one_or_many()?;
    if values.len() > LAYERS_MAX {
        return Err(value.invalid(format!("more than {LAYERS_MAX} layers")));
    }
    let mut layers: Vec<LayerRecipe> = Vec::new();
    for value in values {
        let layer = read(&value)?;
        refuse_a_twin(&value, &layer, &layers)?;
        layers.push(layer);
    }
    Ok(layers)
}

fn read(value: &Value<'_>) -> Result<LayerRecipe, Problem> {
    let table = value.table(keys::LAYER)?;
    reserved::refuse(&table, reserved::LAYER, "reserved for a later format")?;
    mount(&table)?;
    let layer = LayerRecipe {
        name: table.need("name")?.parse()?,
        roles: roles(&table)?,
        environment: table.read("environment", Value::parse)?,
        kind: table.read("kind", kind)?.unwrap_or(LayerKind::Files),
        files: table.read("files", |files| files.set(file))?.unwrap_or_default(),
        exclude: table.read("exclude", |list| list.set(pattern))?.unwrap_or_default(),
    };
    by_kind(&table, layer)
}

/// What each kind of layer needs and cannot have.
fn by_kind(table: &Table<'_>, layer: LayerRecipe) -> Result<LayerRecipe, Problem> {
    let named_env = layer.name.as_str() == ENV_LAYER;
    match layer.kind {
        LayerKind::Env if !named_env => {
            Err(table.need("name")?.invalid("an env layer is always named `env`"))
        }
        LayerKind::Env => ["files", "exclude", "environment"].iter().find_map(|key| table.get(key)).map_or(
            Ok(layer),
            |value| {
                Err(value
                    .invalid("an env layer holds the two env files of its environment and nothing else")
                    .with_hint("`[env] environments` says which ones there are"))
            },
        ),
        LayerKind::Files if named_env => Err(table
            .need("name")?
            .invalid("the name `env` belongs to the env layer")
            .with_hint("add `kind = \"env\"`, or choose another name")),
        LayerKind::Files if layer.files.is_empty() => Err(table
            .value()
            .problem(ProblemKind::Missing, format!("layer `{}` has no `files`", layer.name))
            .with_hint("files = [{ from = \"dist\", to = \"dist\" }]")),
        LayerKind::Files => Ok(layer),
    }
}

fn refuse_a_twin(value: &Value<'_>, layer: &LayerRecipe, earlier: &[LayerRecipe]) -> Result<(), Problem> {
    let twin =
        earlier.iter().find(|other| other.name == layer.name && other.environment == layer.environment);
    match twin {
        Some(_) => {
            Err(value
                .problem(ProblemKind::Duplicate, format!("the layer `{}` is declared twice", layer.name)))
        }
        None => Ok(()),
    }
}

fn mount(table: &Table<'_>) -> Result<(), Problem> {
    match table.get("mount") {
        Some(mount) if !mount.text()?.is_empty() => Err(mount
            .problem(ProblemKind::Reserved, "the only mount is \"\", the release's top")
            .with_hint("`to` of `files` places things in subdirectories")),
        _ => Ok(()),
    }
}

fn kind(value: &Value<'_>) -> Result<LayerKind, Problem> {
    match value.text()? {
        "env" => Ok(LayerKind::Env),
        "files" => Ok(LayerKind::Files),
        other => Err(value.invalid(format!("`{other}` is not a kind of layer: files or env"))),
    }
}

fn file(value: &Value<'_>) -> Result<FileMap, Problem> {
    let table = value.table(keys::FILES)?;
    let from = path::source(&table.need("from")?)?;
    let to = match table.get("to") {
        Some(to) if to.text()?.is_empty() => String::new(),
        Some(to) => path::release(&to)?,
        None if from.as_os_str() == "." => String::new(),
        None => from.to_string_lossy().into_owned(),
    };
    match to.split('/').next() {
        Some(".landfall") => Err(value.invalid("`.landfall` belongs to landfall itself")),
        _ => Ok(FileMap { from, to }),
    }
}

fn pattern(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    let bare = text.strip_prefix('!').unwrap_or(text);
    if bare.trim().is_empty() || text.starts_with('#') {
        return Err(value.invalid(format!("`{text}` is not a pattern that excludes anything")));
    }
    Ok(text.to_owned())
}
