//! `landfall pack`: a directory becomes an artifact.

use std::path::{Path, PathBuf};

use clap::Args;
use landfall_store::{Name, Version};
use serde_json::{Value, json};

use super::Outcome;
use super::archive::archive_error;
use super::context::{Context, store_error};
use super::error::CliError;
use super::exit::Exit;
use super::progress::Progress;
use super::push::{delta_json, delta_line};
use super::report::{Format, Report, Tone, bytes, columns, span};
use crate::archive::{self, Stamp};
use crate::pack::{self, BuildOutput, Event, PackError, PackReport, PackRequest, PackedLayer, Watch};
use crate::recipe::RecipeError;

const EXAMPLES: &str = "\
Examples:
  landfall pack                                  build and pack this directory for every environment
  landfall pack --env prod --no-build            pack what is built, with prod's env layer only
  landfall pack --env prod --archive out/         also write out/<app>-v<version>-<time>.tgz
  id=$(landfall pack apps/web --version 1.4.0)   the artifact's id is all that stdout gets

The same files give the same id on every machine. A second pack of an unchanged directory reads no file.
Next: `landfall deploy <app> <env> <version>` names the artifact in the desired state.";

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Pack {
    /// The directory with landfall.toml.
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Build and pack for this environment only; the artifact can run in no other.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
    /// The artifact's version [default: the recipe's].
    #[arg(long, value_name = "VERSION")]
    pub version: Option<Version>,
    /// Also write it as an archive, with this name or under the usual one in this directory:
    /// <app>-v<version>-<time>.tgz. The name says the kind: .tgz, .tar.zst or .tar.
    #[arg(long, value_name = "PATH|DIR")]
    pub archive: Option<PathBuf>,
    /// The time in the archive's usual name [default: now].
    #[arg(long, value_name = "MM-DD-HH-mm", requires = "archive")]
    pub time: Option<Stamp>,
    /// Pack what is there; run no build.
    #[arg(long)]
    pub no_build: bool,
    /// Another recipe than DIR/landfall.toml.
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Take the version from the artifact that has it.
    #[arg(long)]
    pub move_version: bool,
    /// Make no deltas. They are made only where the store is no directory: from what the state asks for and
    /// from the app's last three versions, so that hosts that have one of them fetch little.
    #[arg(long)]
    pub no_delta: bool,
}

/// Runs the command.
pub fn run(args: &Pack, context: &Context) -> Outcome {
    let cache_dir = context.root()?.scan_cache();
    let store = context.store()?;
    let deployed = match args.no_delta || store.dir().is_some() {
        true => None,
        false => Some(context.deployed()),
    };
    if let Some(path) = &args.archive {
        archive::prepare(path).map_err(archive_error)?;
    }
    let progress = Progress::new(&context.report);
    let packed = {
        let tell = |event: Event<'_>| show(&progress, &event);
        pack::pack(&PackRequest {
            dir: &args.dir,
            recipe: args.recipe.as_deref(),
            environment: args.env.as_ref(),
            version: args.version.as_ref(),
            build: build_output(args, context),
            store: &store,
            cache_dir: Some(&cache_dir),
            move_version: args.move_version,
            deployed: deployed.as_ref(),
            watch: &Watch(&tell),
        })
        .map_err(pack_error)?
    };
    let archive = match &args.archive {
        Some(path) => Some(write_archive(path, args.time.as_ref(), &packed, context)?),
        None => None,
    };
    drop(progress);
    print(&packed, archive.as_deref(), context);
    Ok(Exit::Done)
}

fn write_archive(
    path: &Path,
    time: Option<&Stamp>,
    packed: &PackReport,
    context: &Context,
) -> Result<PathBuf, CliError> {
    let stamp = time.cloned().unwrap_or_else(Stamp::now);
    let path = archive::destination(path, &packed.app, &packed.version, &stamp);
    archive::export(&context.open_store()?, &packed.artifact, &path).map_err(archive_error)?;
    Ok(path)
}

const fn build_output(args: &Pack, context: &Context) -> BuildOutput {
    match (args.no_build, context.report.is_quiet()) {
        (true, _) => BuildOutput::Skip,
        (false, true) => BuildOutput::Errors,
        (false, false) => BuildOutput::Show,
    }
}

fn show(progress: &Progress, event: &Event<'_>) {
    match event {
        // The build talks for itself.
        Event::Building(_) => {}
        Event::Scanning { layer } => progress.step(format!("reading layer {layer}")),
        Event::Storing { files, bytes } => progress.count("storing", *files, *bytes),
        Event::Comparing { layer, from } => progress.step(format!("layer {layer}: delta from {from}")),
    }
}

/// The id for people and scripts; all of it for machines.
pub fn print(packed: &PackReport, archive: Option<&Path>, context: &Context) {
    let report = &context.report;
    talk(packed, context.global.verbose, report);
    if let Some(archive) = archive {
        report.say(format!("archive: {}", archive.display()));
    }
    match report.format() {
        Format::Table => report.line(packed.artifact.to_string()),
        Format::Json | Format::Ndjson => report.json(&to_json(packed, archive)),
    }
}

/// What a person wants to know, on stderr.
fn talk(packed: &PackReport, verbose: bool, report: &Report) {
    let environment = packed.environment.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    report.say(format!("{} {}{environment}", packed.app, packed.version));
    let rows: Vec<Vec<String>> = packed.layers.iter().map(row).collect();
    columns(&rows).iter().for_each(|line| report.say(format!("  {line}")));
    let read: u64 = packed.layers.iter().map(|layer| layer.files_read).sum();
    let stored = if packed.existed { "already in the store" } else { "stored" };
    report.say(format!(
        "{stored}: {} written, {read} files read, {}",
        bytes(packed.stored_bytes),
        span(packed.took.as_millis() as u64)
    ));
    packed.deltas.iter().for_each(|delta| report.say(format!("  {}", delta_line(delta))));
    for warning in &packed.warnings {
        report.say(format!("{}: {warning}", report.tone_err("warning", Tone::Changing)));
    }
    for layer in packed.layers.iter().filter(|_| verbose) {
        layer
            .left_out
            .iter()
            .for_each(|path| report.say(format!("left out of layer {}: {path}", layer.name)));
    }
}

fn row(layer: &PackedLayer) -> Vec<String> {
    let name = match &layer.environment {
        Some(environment) => format!("{} ({environment})", layer.name),
        None => layer.name.to_string(),
    };
    let new = match layer.new_bytes {
        0 => "nothing new".to_owned(),
        new => format!("{} new", bytes(new)),
    };
    vec![name, format!("{} files", layer.files), bytes(layer.bytes), new]
}

fn to_json(packed: &PackReport, archive: Option<&Path>) -> Value {
    let mut object = json!({
        "artifact": packed.artifact,
        "app": packed.app,
        "version": packed.version,
        "layers": packed.layers.iter().map(layer_json).collect::<Vec<_>>(),
        "stored_bytes": packed.stored_bytes,
        "deltas": packed.deltas.iter().map(delta_json).collect::<Vec<_>>(),
        "existed": packed.existed,
        "warnings": packed.warnings,
        "took_ms": packed.took.as_millis() as u64,
    });
    if let Some(environment) = &packed.environment {
        object["environment"] = json!(environment);
    }
    if let Some(archive) = archive {
        object["archive"] = json!(archive);
    }
    object
}

fn layer_json(layer: &PackedLayer) -> Value {
    let mut object = json!({
        "name": layer.name,
        "tree": layer.tree,
        "files": layer.files,
        "bytes": layer.bytes,
        "new_bytes": layer.new_bytes,
        "files_read": layer.files_read,
        "left_out": layer.left_out,
    });
    if let Some(environment) = &layer.environment {
        object["environment"] = json!(environment);
    }
    object
}

/// How a refused pack is told.
pub fn pack_error(error: PackError) -> CliError {
    let hint = error.hint();
    let (exit, reason) = match error {
        PackError::Store(error) if !is_change(&error) => return store_error(error),
        PackError::Recipe(RecipeError::Missing { .. })
        | PackError::NoDirectory { .. }
        | PackError::NotADirectory { .. } => (Exit::NotFound, "NoRecipe"),
        PackError::Recipe(_) => (Exit::Invalid, "RecipeInvalid"),
        PackError::UnknownEnvironment { .. } => (Exit::Invalid, "UnknownEnvironment"),
        PackError::Env(_) => (Exit::Invalid, "EnvInvalid"),
        PackError::NothingBuilds { .. } => (Exit::Invalid, "NothingBuilds"),
        PackError::BuildNotStarted { .. } | PackError::BuildFailed { .. } => (Exit::Step, "BuildFailed"),
        PackError::VersionFile { .. }
        | PackError::VersionNotStarted { .. }
        | PackError::VersionFailed { .. }
        | PackError::Version(_) => (Exit::Invalid, "VersionUnknown"),
        PackError::Overlap(_) | PackError::Path(_) | PackError::Artifact(_) => {
            (Exit::Invalid, "LayersContend")
        }
        PackError::Scan(_)
        | PackError::PackedModules { .. }
        | PackError::LinksIntoSource { .. }
        | PackError::Migrations(_)
        | PackError::PacksStore { .. }
        | PackError::Store(_) => (Exit::Invalid, "LayerInvalid"),
    };
    let cli = CliError::new(exit, reason, &error);
    match hint {
        Some(hint) => cli.hint(hint),
        None => cli,
    }
}

/// The input moved under the pack: nothing is wrong with the store.
const fn is_change(error: &landfall_store::StoreError) -> bool {
    use landfall_store::StoreError;
    matches!(error, StoreError::Changed { .. } | StoreError::Source { .. })
}
