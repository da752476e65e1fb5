//! `landfall diff`: what changed between two artifacts.

use clap::Args;
use landfall_store::{Name, refs};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::Outcome;
use super::context::{Context, store_error};
use super::exit::Exit;
use super::report::{API_VERSION, Format, Report, Tone, bytes};
use crate::diff::{self, Change, DependencyChange, Difference, FileChange, LayerDifference, Shape, Side};

/// Files of one layer that are listed without -v.
const FILES_SHOWN: usize = 40;

const EXAMPLES: &str = "\
Examples:
  landfall diff 1.3.0 1.4.0        files and dependencies that changed
  landfall diff 1.3.0 1.4.0 -v     all of them, however many
  landfall diff a b -o json        for scripts; exit status 1 says that they differ";

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Diff {
    /// An id, at least 8 of its digits, or a version.
    #[arg(value_name = "FROM")]
    pub from: String,
    /// The artifact to compare it with.
    #[arg(value_name = "TO")]
    pub to: String,
    /// The app, where several have such a version.
    #[arg(long, value_name = "APP")]
    pub app: Option<Name>,
}

/// Runs the command.
pub fn run(args: &Diff, context: &Context) -> Outcome {
    let store = context.open_store()?;
    let resolve = |text: &str| refs::resolve(&store, args.app.as_ref(), text).map_err(store_error);
    let (from, to) = (resolve(&args.from)?, resolve(&args.to)?);
    let difference = diff::compare(&store, &from, &to).map_err(store_error)?;
    match context.report.format() {
        Format::Table => show(&difference, context.global.verbose, &context.report),
        Format::Json | Format::Ndjson => context.report.json(&json!(DifferenceList::of(&difference))),
    }
    Ok(if difference.is_none() { Exit::Done } else { Exit::Differs })
}

/// The changed files as items; the rest beside them.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DifferenceList<'a> {
    #[schemars(extend("const" = API_VERSION))]
    api_version: &'static str,
    #[schemars(extend("const" = "DifferenceList"))]
    kind: &'static str,
    from: &'a Side,
    to: &'a Side,
    items: Vec<File<'a>>,
    layers: Vec<Layer<'a>>,
    dependencies: &'a [DependencyChange],
    /// Keys of the release part that changed.
    release: &'a [String],
}

/// A path that differs, in its layer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChangedFile")]
struct File<'a> {
    layer: &'a Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a Name>,
    #[serde(flatten)]
    change: &'a FileChange,
}

/// How much of a layer differs.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChangedLayer")]
struct Layer<'a> {
    name: &'a Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a Name>,
    change: Change,
    added: usize,
    removed: usize,
    changed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<RolesChange<'a>>,
}

/// The roles a layer was for, and is for.
#[derive(Serialize, JsonSchema)]
struct RolesChange<'a> {
    from: &'a [Name],
    to: &'a [Name],
}

impl<'a> DifferenceList<'a> {
    fn of(difference: &'a Difference) -> Self {
        Self {
            api_version: API_VERSION,
            kind: "DifferenceList",
            from: &difference.from,
            to: &difference.to,
            items: difference.layers.iter().flat_map(files_of).collect(),
            layers: difference.layers.iter().map(Layer::of).collect(),
            dependencies: &difference.dependencies,
            release: &difference.release,
        }
    }
}

fn files_of(layer: &LayerDifference) -> impl Iterator<Item = File<'_>> {
    let (name, environment) = (&layer.name, layer.environment.as_ref());
    layer.files.iter().map(move |change| File { layer: name, environment, change })
}

impl<'a> Layer<'a> {
    fn of(layer: &'a LayerDifference) -> Self {
        Self {
            name: &layer.name,
            environment: layer.environment.as_ref(),
            change: layer.change,
            added: count(layer, Change::Added),
            removed: count(layer, Change::Removed),
            changed: count(layer, Change::Changed),
            roles: layer.roles.as_ref().map(|(from, to)| RolesChange { from, to }),
        }
    }
}

const fn word(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Changed => "changed",
    }
}

fn count(layer: &LayerDifference, change: Change) -> usize {
    layer.files.iter().filter(|file| file.change == change).count()
}

fn show(difference: &Difference, verbose: bool, report: &Report) {
    report.line(format!("{} -> {}", side(&difference.from), side(&difference.to)));
    if difference.is_none() {
        report.line("the same artifact");
        return;
    }
    for layer in &difference.layers {
        show_layer(layer, verbose, report);
    }
    if !difference.dependencies.is_empty() {
        report.line(report.tone("dependencies", Tone::Strong));
    }
    difference.dependencies.iter().for_each(|change| report.line(dependency(change)));
    if !difference.release.is_empty() {
        report.line(format!("release part: {} changed", difference.release.join(", ")));
    }
}

fn side(side: &Side) -> String {
    let version = side.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let environment = side.environment.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    format!("{}{version}{environment} {}", side.app, side.artifact.short())
}

fn show_layer(layer: &LayerDifference, verbose: bool, report: &Report) {
    let environment = layer.environment.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let whole = match layer.change {
        Change::Changed => String::new(),
        change => format!(" {}", word(change)),
    };
    let counts: Vec<String> = [Change::Added, Change::Removed, Change::Changed]
        .into_iter()
        .filter(|change| count(layer, *change) > 0)
        .map(|change| format!("{} {}", count(layer, change), word(change)))
        .collect();
    let heading = format!("layer {}{environment}{whole}: {}", layer.name, counts.join(", "));
    report.line(report.tone(heading.trim_end_matches(": "), Tone::Strong));
    if let Some((from, to)) = &layer.roles {
        report.line(format!("  roles: {} -> {}", roles(from), roles(to)));
    }
    let shown = if verbose { usize::MAX } else { FILES_SHOWN };
    layer.files.iter().take(shown).for_each(|file| report.line(file_line(file, report)));
    if layer.files.len() > shown {
        report.line(format!("  ... and {} more (-v shows all)", layer.files.len() - shown));
    }
}

fn roles(roles: &[Name]) -> String {
    match roles {
        [] => "every role".to_owned(),
        roles => roles.iter().map(Name::as_str).collect::<Vec<_>>().join(", "),
    }
}

fn file_line(file: &FileChange, report: &Report) -> String {
    let (sign, tone) = match file.change {
        Change::Added => ("+", Tone::Good),
        Change::Removed => ("-", Tone::Bad),
        Change::Changed => ("~", Tone::Changing),
    };
    let what = match (&file.from, &file.to) {
        (Some(from), Some(to)) => format!("{} -> {}", shape(from), shape(to)),
        (Some(one), None) | (None, Some(one)) => shape(one),
        (None, None) => String::new(),
    };
    format!("  {} {}  {what}", report.tone(sign, tone), file.path)
}

fn shape(shape: &Shape) -> String {
    match shape {
        Shape::File { size, executable: true } => format!("{} executable", bytes(*size)),
        Shape::File { size, .. } => bytes(*size),
        Shape::Link { target } => format!("link to {target}"),
        Shape::Directory => "empty directory".to_owned(),
    }
}

fn dependency(change: &DependencyChange) -> String {
    let list = |versions: &[String]| match versions {
        [] => "none".to_owned(),
        versions => versions.join(", "),
    };
    format!("  {}  {} -> {}", change.name, list(&change.from), list(&change.to))
}
