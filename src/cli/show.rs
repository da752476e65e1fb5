//! `landfall show`: what an artifact is and what hosts do with it.

use clap::Args;
use landfall_store::path::escape;
use landfall_store::refs::Provenance;
use landfall_store::{Artifact, ArtifactId, BlobId, Entry, Kind, Layer, Name, Store, fetch, refs};
use schemars::JsonSchema;
use serde::Serialize;

use super::Outcome;
use super::context::{Context, store_error};
use super::error::CliError;
use super::exit::Exit;
use super::report::{Report, bytes, columns, span};
use crate::release::spec_of;
use crate::spec::{Check, Command, HealthSpec, ManagerKind, ReleaseSpec, StartSpec, StepKind, StepSpec};

const EXAMPLES: &str = "\
Examples:
  landfall show 1.4.0                  layers, steps, start and health of a version
  landfall show b3:9f2c41d07a55        the same by the beginning of an id
  landfall show 1.4.0 --files app      every file of one layer
  landfall show 1.4.0 -o json          the manifest itself";

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Show {
    /// An id, at least 8 of its digits, or a version.
    #[arg(value_name = "ARTIFACT")]
    pub artifact: String,
    /// List the files instead, of one layer or of all.
    #[arg(long, value_name = "LAYER", num_args = 0..=1)]
    pub files: Option<Option<Name>>,
    /// The app, where several have such a version.
    #[arg(long, value_name = "APP")]
    pub app: Option<Name>,
}

/// An artifact with its manifest, in the form machines rely on.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Manifest {
    artifact: ArtifactId,
    manifest: Artifact,
    provenance: Option<Provenance>,
}

/// One entry of a layer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LayerEntry")]
pub struct File {
    layer: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<Name>,
    path: String,
    #[serde(flatten)]
    what: What,
}

/// What stands at its path.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "kind")]
enum What {
    File { size: u64, blob: BlobId, executable: bool },
    Link { target: String },
    Directory,
}

/// Runs the command.
pub fn run(args: &Show, context: &Context) -> Outcome {
    let store = context.open_store()?;
    let id = refs::resolve(&store, args.app.as_ref(), &args.artifact).map_err(store_error)?;
    let artifact = fetch::artifact(&store, &id).map_err(store_error)?;
    match &args.files {
        Some(layer) => files(&store, &artifact, layer.as_ref(), &context.report),
        None => manifest(&store, id, &artifact, &context.report),
    }
}

fn manifest(store: &Store, id: ArtifactId, artifact: &Artifact, report: &Report) -> Outcome {
    let reference = match refs::version_of(artifact) {
        Some(version) => refs::version(store, &artifact.app, &version).map_err(store_error)?,
        None => None,
    };
    let origin = reference.filter(|reference| reference.artifact() == id).map(|found| found.provenance);
    let item = Manifest { artifact: id, manifest: artifact.clone(), provenance: origin.clone() };
    report.items("ManifestList", &[item], |report| {
        let mut lines = vec![
            pair("artifact", &id.to_string()),
            pair("app", artifact.app.as_str()),
            pair("environment", artifact.environment.as_ref().map_or("any", Name::as_str)),
        ];
        let noted = origin.iter().flat_map(|origin| {
            [("packed", &origin.time), ("on", &origin.builder), ("commit", &origin.commit)]
        });
        lines.extend(noted.filter_map(|(key, value)| Some(pair(key, value.as_ref()?))));
        lines.push("layers".to_owned());
        lines.extend(indented(artifact.layers.iter().map(layer_row).collect()));
        match spec_of(artifact) {
            Ok(spec) => lines.extend(release(&spec)),
            Err(error) => lines.push(pair("release", &format!("a newer landfall is needed: {error}"))),
        }
        lines.iter().for_each(|line| report.line(line));
    });
    Ok(Exit::Done)
}

fn pair(key: &str, value: &str) -> String {
    format!("{key:<12} {value}")
}

fn indented(rows: Vec<Vec<String>>) -> Vec<String> {
    columns(&rows).into_iter().map(|line| format!("  {line}")).collect()
}

fn layer_row(layer: &Layer) -> Vec<String> {
    vec![
        layer_name(layer),
        format!("{} files", layer.files),
        bytes(layer.bytes),
        layer.tree.0.short(),
        for_roles(&layer.roles),
    ]
}

fn layer_name(layer: &Layer) -> String {
    match &layer.environment {
        Some(environment) => format!("{} ({environment})", layer.name),
        None => layer.name.to_string(),
    }
}

fn for_roles(roles: &[Name]) -> String {
    match roles {
        [] => String::new(),
        roles => format!("for {}", names(roles)),
    }
}

fn names(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

/// What hosts do with it, section by section.
fn release(spec: &ReleaseSpec) -> Vec<String> {
    let mut lines = vec![pair("version", spec.version.as_str())];
    let lists = [
        ("env", names(&spec.env.environments)),
        ("required", spec.env.required.join(", ")),
        ("writable", spec.paths.writable.join(", ")),
        ("shared", spec.paths.shared.join(", ")),
        ("retain", spec.retain.map(|count| format!("{count} healthy releases")).unwrap_or_default()),
    ];
    lines.extend(lists.iter().filter(|(_, text)| !text.is_empty()).map(|(key, text)| pair(key, text)));
    let sections = [
        ("steps", spec.steps.iter().map(step_row).collect::<Vec<_>>()),
        ("start", spec.start.iter().map(start_row).collect()),
        ("health", spec.health.iter().map(health_row).collect()),
    ];
    for (heading, rows) in sections.into_iter().filter(|(_, rows)| !rows.is_empty()) {
        lines.push(heading.to_owned());
        lines.extend(indented(rows));
    }
    lines
}

fn step_row(step: &StepSpec) -> Vec<String> {
    let kind = match step.kind {
        StepKind::Prepare => "prepare",
        StepKind::Migrate => "migrate",
        StepKind::After => "after",
    };
    let within = format!("within {}", span(step.timeout.0));
    vec![step.name.to_string(), kind.to_owned(), within, command(&step.command)]
}

fn start_row(start: &StartSpec) -> Vec<String> {
    let manager = match start.manager {
        ManagerKind::Direct => "direct",
        ManagerKind::Pm2 => "pm2",
        ManagerKind::Systemd => "systemd",
    };
    vec![start.name.to_string(), format!("{manager} x {}", start.instances), command(&start.command)]
}

fn health_row(health: &HealthSpec) -> Vec<String> {
    let asked = match &health.check {
        Check::Http(url) => format!("GET {url}"),
        Check::Tcp(address) => format!("connect to {address}"),
        Check::Run(arguments) => arguments.join(" "),
    };
    let holds = health.body_contains.as_ref().map(|text| format!("holds {text}")).unwrap_or_default();
    let tries = format!("{} x {}", health.attempts, span(health.interval.0));
    vec![health.name.to_string(), asked, tries, holds]
}

fn command(command: &Command) -> String {
    match command {
        Command::Run(arguments) => arguments.join(" "),
        Command::Shell(line) => format!("sh: {line}"),
    }
}

fn files(store: &Store, artifact: &Artifact, only: Option<&Name>, report: &Report) -> Outcome {
    let wanted: Vec<&Layer> =
        artifact.layers.iter().filter(|layer| only.is_none_or(|only| *only == layer.name)).collect();
    if let (Some(only), true) = (only, wanted.is_empty()) {
        let known: Vec<Name> = artifact.layers.iter().map(|layer| layer.name.clone()).collect();
        return Err(CliError::new(Exit::NotFound, "UnknownLayer", format!("there is no layer `{only}`"))
            .hint(format!("the layers are: {}", names(&known))));
    }
    let mut items = Vec::new();
    let mut rows = Vec::new();
    for layer in wanted {
        let tree = fetch::tree(store, &layer.tree).map_err(store_error)?;
        items.extend(tree.entries().iter().map(|entry| file(layer, entry)));
        rows.extend(tree.entries().iter().map(|entry| file_row(layer, entry)));
    }
    report.items("FileList", &items, |report| columns(&rows).iter().for_each(|line| report.line(line)));
    Ok(Exit::Done)
}

fn file(layer: &Layer, entry: &Entry) -> File {
    File {
        layer: layer.name.clone(),
        environment: layer.environment.clone(),
        path: entry.path.to_string(),
        what: match &entry.kind {
            Kind::File { size, blob, executable } => {
                What::File { size: *size, blob: *blob, executable: *executable }
            }
            Kind::Link { target } => What::Link { target: escape(target) },
            Kind::EmptyDir => What::Directory,
        },
    }
}

fn file_row(layer: &Layer, entry: &Entry) -> Vec<String> {
    let path = entry.path.to_string();
    let (size, path) = match &entry.kind {
        Kind::File { size, executable, .. } => {
            (bytes(*size), if *executable { format!("{path}*") } else { path })
        }
        Kind::Link { target } => ("link".to_owned(), format!("{path} -> {}", escape(target))),
        Kind::EmptyDir => ("dir".to_owned(), format!("{path}/")),
    };
    vec![layer_name(layer), size, path]
}
