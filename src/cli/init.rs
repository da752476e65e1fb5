//! `landfall init`: a first recipe from what a directory holds.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use landfall_store::Name;

use super::Outcome;
use super::context::{Context, io};
use super::error::CliError;
use super::exit::Exit;
use super::report::{Format, Report};
use crate::recipe::preset::{self, Facts, PRESETS, Preset, PresetError};
use crate::recipe::{self, Recipe};

const EXAMPLES: &str = "\
Examples:
  landfall init                         look at this directory and write landfall.toml
  landfall init --preset koa --app api  say what it is, and what to call it

Presets: next, nest-prisma, koa, node, static, binary. Nothing in the directory is run.";

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Init {
    /// The app's directory.
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// The kind of app [default: the one that fits].
    #[arg(long, value_name = "PRESET")]
    pub preset: Option<Preset>,
    /// The app's name [default: the one in its manifest].
    #[arg(long, value_name = "APP")]
    pub app: Option<Name>,
    /// Replace a landfall.toml that is there.
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
pub fn run(args: &Init, context: &Context) -> Outcome {
    if !args.dir.is_dir() {
        let what = format!("{}: there is no such directory", args.dir.display());
        return Err(CliError::new(Exit::NotFound, "NoDirectory", what));
    }
    let (found, mut facts) = preset::detect(&args.dir).map_err(preset_error)?;
    let preset = args.preset.unwrap_or(found);
    if let Some(app) = &args.app {
        facts.app = app.to_string();
    }
    let text = preset::render(preset, &facts);
    let path = args.dir.join(recipe::FILE_NAME);
    // What init writes, pack must be able to read.
    let parsed =
        Recipe::parse(&text, &path).map_err(|error| CliError::new(Exit::Error, "PresetBroken", error))?;
    write(&path, &text, args.force)?;
    tell(preset, &facts, &parsed, &args.dir, &context.report);
    match context.report.format() {
        Format::Table => context.report.line(path.display().to_string()),
        Format::Json | Format::Ndjson => context.report.json(&serde_json::json!({
            "path": path, "preset": name_of(preset), "app": facts.app,
        })),
    }
    Ok(Exit::Done)
}

/// A recipe that people wrote is theirs.
fn write(path: &Path, text: &str, force: bool) -> Result<(), CliError> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = options.open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let what = format!("{}: there is a recipe already", path.display());
            CliError::new(Exit::Conflict, "RecipeExists", what).hint("--force replaces it")
        }
        _ => io(path, &error),
    })?;
    file.write_all(text.as_bytes()).map_err(|error| io(path, &error))
}

fn tell(preset: Preset, facts: &Facts, parsed: &Recipe, dir: &Path, report: &Report) {
    report.say(format!("{} is a {} app", facts.app, name_of(preset)));
    let environments: Vec<&str> = parsed.env().environments.iter().map(Name::as_str).collect();
    let found = [
        ("version from", facts.version_file.clone()),
        ("lockfile", facts.lockfile.clone()),
        ("entry", facts.entry.clone()),
        ("env files of", (!environments.is_empty()).then(|| environments.join(", "))),
        (
            "layers",
            Some(parsed.layers.iter().map(|layer| layer.name.as_str()).collect::<Vec<_>>().join(", ")),
        ),
    ];
    for (what, value) in found {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            report.say(format!("  {what:<12} {value}"));
        }
    }
    report.say("next:");
    report.say("  read landfall.toml; add .landfall/ to .gitignore");
    let here = if dir == Path::new(".") { String::new() } else { format!(" {}", dir.display()) };
    match environments.first() {
        Some(environment) => report.say(format!("  landfall pack{here} --env {environment}")),
        None => report.say(format!("  landfall pack{here}")),
    }
}

fn name_of(preset: Preset) -> &'static str {
    PRESETS.iter().find(|(_, known)| *known == preset).map_or("", |(name, _)| *name)
}

fn preset_error(error: PresetError) -> CliError {
    CliError::new(Exit::Invalid, "DirectoryUnclear", error)
}
