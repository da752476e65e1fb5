//! `[build]`: the command that makes the files, with the env layers of the environment it builds for.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{self, Stdio};

use landfall_store::Name;

use super::plan::EnvFiles;
use super::{Event, PackError, PackRequest};
use crate::env::{self, EnvError, EnvInput, Place, key};
use crate::recipe::{BuildRecipe, Recipe};
use crate::spec::Command;

/// Whether the build runs, and where what it prints goes. Never to stdout, which belongs to the artifact's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildOutput {
    /// It does not run: the files are there.
    Skip,
    /// To stderr.
    Show,
    /// Only its errors, to stderr.
    Errors,
}

/// Runs the recipe's build, if it has one.
pub(super) fn run(
    dir: &Path,
    recipe: &Recipe,
    files: &EnvFiles,
    request: &PackRequest<'_>,
) -> Result<(), PackError> {
    let Some(build) = recipe.build.as_ref().filter(|_| request.build != BuildOutput::Skip) else {
        return Ok(());
    };
    let command = command_for(build, request.environment)?;
    let env = environment(recipe, files, request.environment)?;
    let expanded = env::expand_command(command, &env)?;
    request.watch.tell(Event::Building(command));
    let stdout = if request.build == BuildOutput::Show { std::io::stderr().into() } else { Stdio::null() };
    let status = process(&expanded)
        .current_dir(dir)
        .envs(env)
        .stdin(Stdio::null())
        .stdout(stdout)
        .status()
        .map_err(|source| PackError::BuildNotStarted { command: shown(command), source })?;
    if status.success() { Ok(()) } else { Err(PackError::BuildFailed { command: shown(command), status }) }
}

fn command_for<'a>(build: &'a BuildRecipe, environment: Option<&Name>) -> Result<&'a Command, PackError> {
    build.command_for(environment).ok_or_else(|| PackError::NothingBuilds {
        environment: environment.cloned(),
        known: build.environments().cloned().collect(),
    })
}

/// What was inherited, below what the recipe and the env layers say: a build gets what its release will get.
fn environment(
    recipe: &Recipe,
    files: &EnvFiles,
    environment: Option<&Name>,
) -> Result<BTreeMap<String, String>, EnvError> {
    let pair = environment.and_then(|environment| files.of(environment));
    let input = EnvInput {
        place: Place::Build,
        spec: recipe.env(),
        environment,
        clean: &inherited(),
        base: pair.map(|pair| &pair.base),
        local: pair.and_then(|pair| pair.local.as_ref()),
        host: &BTreeMap::new(),
        landfall: &own_keys(recipe, environment),
    };
    Ok(env::resolve(&input)?.vars())
}

/// This process's environment without landfall's own keys. What is not UTF-8 is inherited all the same, but
/// cannot be referred to.
fn inherited() -> BTreeMap<String, String> {
    let pairs = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    pairs.filter(|(name, _)| !name.starts_with(key::OWN_PREFIX)).collect()
}

fn own_keys(recipe: &Recipe, environment: Option<&Name>) -> BTreeMap<String, String> {
    let pairs =
        [("LANDFALL_APP", Some(recipe.app.to_string())), ("LANDFALL_ENV", environment.map(Name::to_string))];
    pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

fn process(command: &Command) -> process::Command {
    match command {
        Command::Run(arguments) => {
            let (program, rest) = arguments.split_first().expect("a recipe's command names its program");
            let mut process = process::Command::new(program);
            process.args(rest);
            process
        }
        Command::Shell(line) => {
            let mut process = process::Command::new("/bin/sh");
            process.args(["-c", line]);
            process
        }
    }
}

/// As the recipe has it: references to secrets stay references.
pub(super) fn shown(command: &Command) -> String {
    match command {
        Command::Run(arguments) => arguments.join(" "),
        Command::Shell(line) => line.clone(),
    }
}
