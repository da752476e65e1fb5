//! `[build]`: what makes the files that are packed.

use std::collections::BTreeMap;

use landfall_store::Name;

use super::{command, keys};
use crate::document::{Problem, Shape, Table, Value};
use crate::spec::Command;

/// The key of `run.<environment>` that serves every environment without a key of its own.
const FALLBACK: &str = "default";

/// What runs before packing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRecipe {
    default: Option<Command>,
    by_environment: BTreeMap<Name, Command>,
}

impl BuildRecipe {
    /// The command for a pack of this environment; `None`: for one without.
    /// No answer: the recipe builds other environments only, which is the caller's error to report.
    pub fn command_for(&self, environment: Option<&Name>) -> Option<&Command> {
        environment.and_then(|environment| self.by_environment.get(environment)).or(self.default.as_ref())
    }

    /// The environments that have a command of their own.
    pub fn environments(&self) -> impl Iterator<Item = &Name> {
        self.by_environment.keys()
    }
}

pub(super) fn read(value: &Value<'_>) -> Result<BuildRecipe, Problem> {
    let table = value.table(keys::BUILD)?;
    for (key, wrap) in [("run", run as Wrap), ("shell", shell)] {
        if let Some(found) = table.get(key)
            && matches!(found.shape(), Shape::Table(_))
        {
            alone(&table, key)?;
            return each(&found, wrap);
        }
    }
    let default = Some(command::required(&table)?);
    Ok(BuildRecipe { default, by_environment: BTreeMap::new() })
}

type Wrap = fn(&Value<'_>) -> Result<Command, Problem>;

fn run(value: &Value<'_>) -> Result<Command, Problem> {
    command::arguments(value).map(Command::Run)
}

fn shell(value: &Value<'_>) -> Result<Command, Problem> {
    value.text().map(|line| Command::Shell(line.to_owned()))
}

fn alone(table: &Table<'_>, key: &str) -> Result<(), Problem> {
    let other = if key == "run" { "shell" } else { "run" };
    table.get(other).map_or(Ok(()), |value| Err(value.invalid("`run` and `shell` exclude each other")))
}

fn each(value: &Value<'_>, wrap: Wrap) -> Result<BuildRecipe, Problem> {
    let mut build = BuildRecipe { default: None, by_environment: BTreeMap::new() };
    for (key, value) in value.map()?.entries() {
        let command = wrap(&value)?;
        if key == FALLBACK {
            build.default = Some(command);
        } else {
            let environment = name(key, &value)?;
            build.by_environment.insert(environment, command);
        }
    }
    Ok(build)
}

fn name(key: &str, value: &Value<'_>) -> Result<Name, Problem> {
    key.parse().map_err(|error: landfall_store::name::NameError| value.invalid(error.to_string()))
}
