//! What no table can see alone: layers against each other, against paths and against steps.

use std::collections::BTreeSet;

use super::path::is_at_or_under;
use super::{Acting, FileMap, LayerKind, LayerRecipe};
use crate::document::{Problem, ProblemKind, Table};
use crate::spec::{Command, ManagerKind, StepKind, StepSpec};

/// What Node options that keep links begin with.
const KEEPS_LINKS: &str = "--preserve-symlinks";

const MODULES: &str = "node_modules";

pub(super) fn check(table: &Table<'_>, layers: &[LayerRecipe], release: &Acting) -> Result<(), Problem> {
    env_layers(table, layers, release)?;
    no_layer_packs_what_another_packs(table, layers)?;
    nothing_is_packed_where_something_is_shared(table, layers, release)?;
    paths_are_of_one_kind(table, release)?;
    no_option_that_keeps_links_under_pm2(table, release)?;
    no_packed_modules_beside_an_install(table, layers, release)
}

fn env_layers(table: &Table<'_>, layers: &[LayerRecipe], release: &Acting) -> Result<(), Problem> {
    let environments = &release.env.environments;
    let has_layer = layers.iter().any(|layer| layer.kind == LayerKind::Env);
    if has_layer && environments.is_empty() {
        return Err(refuse(table, "layer", "the env layer has no environments")
            .with_hint("[env] environments = [\"dev\", \"prod\"]"));
    }
    if !has_layer && !environments.is_empty() {
        return Err(refuse(table, "env", "`environments` without an env layer")
            .with_hint("add [[layer]] name = \"env\", kind = \"env\", or remove `environments`"));
    }
    let stray = layers.iter().filter_map(|layer| layer.environment.as_ref());
    match stray.into_iter().find(|name| has_layer && !environments.contains(name)) {
        Some(name) => Err(refuse(
            table,
            "layer",
            format!("the environment `{name}` of a layer is not in `[env] environments`"),
        )),
        None => Ok(()),
    }
}

fn no_layer_packs_what_another_packs(table: &Table<'_>, layers: &[LayerRecipe]) -> Result<(), Problem> {
    for (index, layer) in layers.iter().enumerate() {
        for other in layers[..index].iter().filter(|other| meet(layer, other)) {
            if let Some(file) = overlap(layer, other) {
                let what = format!(
                    "the layers `{}` and `{}` both pack `{}`, and some host gets both",
                    other.name,
                    layer.name,
                    file.from.display()
                );
                return Err(refuse(table, "layer", what)
                    .with_hint("give them different roles, or pack it in one of them"));
            }
        }
    }
    Ok(())
}

/// Some (role, environment) selects both layers.
fn meet(a: &LayerRecipe, b: &LayerRecipe) -> bool {
    let role = a.roles.is_empty() || b.roles.is_empty() || a.roles.iter().any(|role| b.roles.contains(role));
    let environment = match (&a.environment, &b.environment) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    role && environment
}

/// The same source for the same place without an `exclude` that could part them. Anything subtler is found
/// when the trees are packed.
fn overlap<'a>(a: &'a LayerRecipe, b: &LayerRecipe) -> Option<&'a FileMap> {
    let told_apart = !a.exclude.is_empty() || !b.exclude.is_empty();
    let theirs: BTreeSet<&FileMap> = b.files.iter().collect();
    a.files.iter().find(|file| !told_apart && theirs.contains(file))
}

fn nothing_is_packed_where_something_is_shared(
    table: &Table<'_>,
    layers: &[LayerRecipe],
    release: &Acting,
) -> Result<(), Problem> {
    for shared in release.paths.outside() {
        for layer in layers {
            if let Some(file) = layer.files.iter().find(|file| is_at_or_under(&file.to, shared)) {
                let what = format!(
                    "layer `{}` packs `{}` at or under the shared path `{shared}`",
                    layer.name, file.to
                );
                return Err(refuse(table, "layer", what)
                    .with_hint("a shared path lives outside the releases: nothing packed can be there"));
            }
        }
    }
    Ok(())
}

fn paths_are_of_one_kind(table: &Table<'_>, release: &Acting) -> Result<(), Problem> {
    let paths = &release.paths;
    let mut outside: Vec<&String> = paths.outside().collect();
    let meet = |a: &str, b: &str| is_at_or_under(a, b) || is_at_or_under(b, a);
    let clash = paths.writable.iter().find(|path| outside.iter().any(|other| meet(path, other)));
    if let Some(path) = clash {
        return Err(refuse(table, "paths", format!("`{path}` is both writable and shared"))
            .with_hint("writable is fresh in each release, shared outlives them: choose one"));
    }
    let kept = paths
        .keep
        .iter()
        .find(|path| paths.writable.iter().chain(outside.iter().copied()).any(|other| meet(path, other)));
    if let Some(path) = kept {
        return Err(refuse(table, "paths", format!("`{path}` is kept, and also writable or shared"))
            .with_hint("only files that never change after the release is made can be kept for later ones"));
    }
    outside.sort_unstable();
    let nested = outside.iter().enumerate().find_map(|(at, path)| {
        let inner = outside[at + 1..].iter().find(|other| is_at_or_under(other, path))?;
        Some((*path, *inner))
    });
    match nested {
        Some((path, inner)) => {
            let what = format!("`{inner}` lies in `{path}`, and both live outside the release");
            Err(refuse(table, "paths", what).with_hint("name the outer one alone"))
        }
        None => Ok(()),
    }
}

/// `[start]` refuses the option among its arguments; this one comes in by the environment.
fn no_option_that_keeps_links_under_pm2(table: &Table<'_>, release: &Acting) -> Result<(), Problem> {
    let pm2 = release.start.iter().any(|process| process.manager == ManagerKind::Pm2);
    let options = release.env.set.get("NODE_OPTIONS").filter(|options| pm2 && options.contains(KEEPS_LINKS));
    match options {
        Some(_) => {
            Err(refuse(table, "env", format!("NODE_OPTIONS with `{KEEPS_LINKS}` cannot be used with pm2"))
                .with_hint("a worker would load modules through `current` and change release under its feet"))
        }
        None => Ok(()),
    }
}

fn no_packed_modules_beside_an_install(
    table: &Table<'_>,
    layers: &[LayerRecipe],
    release: &Acting,
) -> Result<(), Problem> {
    let Some(step) = install_step(&release.steps) else {
        return Ok(());
    };
    let packed = layers.iter().find_map(|layer| Some((layer, packed_modules(layer)?)));
    match packed {
        Some((layer, file)) => Err(refuse(
            table,
            "layer",
            format!(
                "layer `{}` packs {MODULES} from `{}`, but the step `{}` installs dependencies on the host",
                layer.name, file.from.display(), step.name
            ),
        )
        .with_hint("a light artifact never carries this machine's node_modules: remove the files entry, or the install step")),
        None => Ok(()),
    }
}

fn packed_modules(layer: &LayerRecipe) -> Option<&FileMap> {
    layer.files.iter().find(|file| {
        file.to.split('/').any(|part| part == MODULES)
            || file.from.components().any(|part| part.as_os_str() == MODULES)
    })
}

/// A prepare step that runs a Node package manager's install.
pub(super) fn install_step(steps: &[StepSpec]) -> Option<&StepSpec> {
    steps.iter().find(|step| installs_dependencies(step))
}

/// Whether a step installs dependencies on the host: by its command, or because it is called `install`.
pub fn installs_dependencies(step: &StepSpec) -> bool {
    step.kind == StepKind::Prepare && installs(&step.command)
}

fn installs(command: &Command) -> bool {
    let words: Vec<&str> = match command {
        Command::Run(arguments) => arguments.iter().map(String::as_str).collect(),
        Command::Shell(line) => line.split(|c: char| c.is_whitespace() || ";&|()".contains(c)).collect(),
    };
    words
        .iter()
        .enumerate()
        .any(|(at, word)| is_package_manager(word) && first_verb(&words[at + 1..]).is_some_and(is_install))
}

fn is_package_manager(word: &str) -> bool {
    ["npm", "pnpm", "yarn", "bun"].contains(&word.rsplit('/').next().unwrap_or(word))
}

fn first_verb<'a>(words: &[&'a str]) -> Option<&'a str> {
    words.iter().copied().find(|word| !word.is_empty() && !word.starts_with('-'))
}

fn is_install(verb: &str) -> bool {
    ["install", "i", "ci", "clean-install"].contains(&verb)
}

/// A problem at the top-level key `key`.
fn refuse(table: &Table<'_>, key: &str, what: impl Into<String>) -> Problem {
    match table.need(key) {
        Ok(value) => value.problem(ProblemKind::Invalid, what),
        Err(missing) => missing,
    }
}
