//! `landfall state`: check, explain and describe the state file.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use landfall_store::{ArtifactId, Name, Store, fetch};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::Outcome;
use super::context::{Context, parse_store, store_error};
use super::error::CliError;
use super::exit::Exit;
use super::report::{API_VERSION, Format, Tone};
use crate::disk::{Disk, RealDisk};
use crate::proposal::misfit;
use crate::source::Source;
use crate::source::git::Trouble;
use crate::state::{
    Desired, DesiredState, EnvironmentState, Finding, ResolveError, STATE_BYTES_MAX, Severity, StateError,
    lint, schema,
};

/// Check, explain and describe the state file.
#[derive(Debug, Subcommand)]
pub enum State {
    /// Judge a state file as every host would, and list all that is wrong with it.
    #[command(after_help = "\
Examples:
  landfall state lint                          ./deploy-state.json; exit code 3 if a host would refuse it
  landfall state lint state.json -o json       for CI: file, line, column, JSON pointer, hint
  landfall state lint --store /srv/artifacts   and that the store has every artifact it names")]
    Lint(Lint),
    /// Say what an app should run in an environment.
    #[command(after_help = "\
Examples:
  landfall state resolve --app web --env prod
  landfall state resolve --app web --env prod -o json")]
    Resolve(Resolve),
    /// Take a commit that this host refused: a branch that was set back or rewritten on purpose.
    ///
    /// Only the newest commit of the branch, and only while it is refused. It must hold a valid state. Who took it
    /// and why is recorded; from then on commits must come after this one. Works with the agent stopped.
    #[command(after_help = "\
Example:
  landfall state accept 7f3a9c2e51d0 --reason 'branch rebuilt after INC-881'")]
    Accept(Accept),
    /// Print the JSON Schema of the state file, for editors and CI.
    #[command(after_help = "\
Example:
  landfall state schema > deploy-state.schema.json")]
    Schema,
}

/// What to check.
#[derive(Debug, Args)]
pub struct Lint {
    /// The file [default: the one of --state].
    pub file: Option<PathBuf>,
}

/// What to take.
#[derive(Debug, Args)]
pub struct Accept {
    /// The commit, as `landfall status` shows it: its id or at least 7 digits of it.
    pub commit: String,
    /// Why.
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub reason: String,
    /// Who [default: the account this runs as].
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// What to look up.
#[derive(Debug, Args)]
pub struct Resolve {
    /// The app.
    #[arg(long)]
    pub app: Name,
    /// The environment.
    #[arg(long = "env", value_name = "ENV")]
    pub environment: Name,
}

/// Runs the command.
pub fn run(command: &State, context: &Context) -> Outcome {
    match command {
        State::Lint(args) => run_lint(args, context),
        State::Resolve(args) => run_resolve(args, context),
        State::Accept(args) => {
            super::order::accept_state(&args.commit, args.by.as_deref(), &args.reason, context)
        }
        State::Schema => {
            context.report.json(&schema());
            Ok(Exit::Done)
        }
    }
}

fn run_lint(args: &Lint, context: &Context) -> Outcome {
    let (file, text) = match &args.file {
        Some(file) => (file.clone(), read(file)?),
        None => newest(context)?,
    };
    let mut findings = lint(&text, &file);
    if let Some(store) = &context.global.store {
        let store = context.address(parse_store(store)?).open().map_err(store_error)?;
        findings.extend(unsupplied(&text, &file, &store));
    }
    let items: Vec<Item<'_>> = findings.iter().map(|finding| Item::of(finding, &file)).collect();
    context.report.items("FindingList", &items, |report| {
        findings.iter().for_each(|finding| tell(finding, &file, report));
    });
    let wrong = findings.iter().any(|finding| finding.severity == Severity::Error);
    if findings.is_empty() {
        context.report.say(format!("{}: nothing to say against it.", file.display()));
    }
    Ok(if wrong { Exit::Invalid } else { Exit::Done })
}

/// The state where this command's host has it, and what it is called. A repository is fetched anew; whether its
/// newest commit would be accepted is not asked here.
fn newest(context: &Context) -> Result<(PathBuf, String), CliError> {
    let copy = super::copy::Copy::new()?;
    match context.source(copy.cache())? {
        Source::File(file) => Ok((file.path().to_owned(), read(file.path())?)),
        Source::Git(git) => {
            let found =
                super::io_runtime()?.block_on(git.found(None)).map_err(|trouble| trouble_error(&trouble))?;
            let path = git.path().to_owned();
            let text = String::from_utf8(found.bytes);
            let text = text.map_err(|_| state_error(&StateError::NotUtf8 { path: path.clone() }))?;
            Ok((path, text))
        }
    }
}

/// How a repository that cannot be read is told.
pub fn trouble_error(trouble: &Trouble) -> CliError {
    CliError::new(Exit::Source, trouble.fault.reason(), trouble).hint(trouble.fault.hint())
}

fn read(file: &Path) -> Result<String, CliError> {
    let unreadable = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::InvalidData => StateError::TooLarge {
            path: file.to_owned(),
            bytes: std::fs::metadata(file).map_or(STATE_BYTES_MAX + 1, |facts| facts.len()),
        },
        _ => StateError::Unreadable { path: file.to_owned(), source },
    };
    let bytes = RealDisk.read(file, STATE_BYTES_MAX).map_err(|error| state_error(&unreadable(error)))?;
    let bytes = bytes.ok_or_else(|| state_error(&StateError::Missing { path: file.to_owned() }))?;
    String::from_utf8(bytes).map_err(|_| state_error(&StateError::NotUtf8 { path: file.to_owned() }))
}

/// How a state that is none is told.
pub fn state_error(error: &StateError) -> CliError {
    let (exit, reason) = match error {
        StateError::Missing { .. } => (Exit::NotFound, "StateMissing"),
        StateError::Unreadable { .. } => (Exit::Source, "SourceUnreachable"),
        StateError::Invalid(_) | StateError::TooLarge { .. } | StateError::NotUtf8 { .. } => {
            (Exit::Invalid, "StateInvalid")
        }
    };
    CliError { hint: error.hint().map(str::to_owned), ..CliError::new(exit, reason, error) }
}

fn tell(finding: &Finding, file: &Path, report: &super::report::Report) {
    let (word, tone) = match finding.severity {
        Severity::Error => ("error", Tone::Bad),
        Severity::Warning => ("warning", Tone::Changing),
    };
    // A message with a place begins with file and place already.
    let at = if finding.place.is_some() { String::new() } else { format!("{}: ", file.display()) };
    report.line(format!("{}: {at}{}", report.tone(word, tone), finding.message));
    if let Some(hint) = &finding.hint {
        report.line(format!("  {}: {hint}", report.tone("hint", Tone::Quiet)));
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StateFinding")]
pub struct Item<'a> {
    severity: &'static str,
    app: Option<&'a Name>,
    file: &'a Path,
    line: Option<usize>,
    column: Option<usize>,
    pointer: Option<&'a str>,
    message: &'a str,
    hint: Option<&'a str>,
}

impl<'a> Item<'a> {
    fn of(finding: &'a Finding, file: &'a Path) -> Self {
        let place = finding.place.as_ref();
        Self {
            severity: match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            app: finding.app.as_ref(),
            file,
            line: place.map(|(line, _, _)| *line),
            column: place.map(|(_, column, _)| *column),
            pointer: place.map(|(_, _, pointer)| pointer.as_str()),
            message: &finding.message,
            hint: finding.hint.as_deref(),
        }
    }
}

/// Targets that the store does not have, or that are not what the state says of them.
fn unsupplied(text: &str, file: &Path, store: &Store) -> Vec<Finding> {
    let Ok(state) = DesiredState::parse(text, file) else { return Vec::new() };
    let apps = state.apps.iter().filter_map(|(name, app)| Some((name, app.as_ref().ok()?)));
    let mut findings = Vec::new();
    for (app, part) in apps {
        for (environment, part) in &part.environments {
            let Some(target) = &part.target else { continue };
            let wrong = supply(store, app, environment, &target.artifact, target.version.as_ref());
            let keys = ["apps", app.as_str(), "environments", environment.as_str(), "target", "artifact"];
            let hint = "`landfall ls` lists what the store has";
            findings.extend(wrong.map(|message| {
                Finding::about(Severity::Error, app, &keys, message, hint).placed(text, file)
            }));
        }
    }
    findings
}

fn supply(
    store: &Store,
    app: &Name,
    environment: &Name,
    id: &ArtifactId,
    version: Option<&landfall_store::Version>,
) -> Option<String> {
    let artifact = match fetch::artifact(store, id) {
        Ok(artifact) => artifact,
        Err(error) => return Some(error.to_string()),
    };
    misfit(&artifact, id, app, environment, version)
}

fn run_resolve(args: &Resolve, context: &Context) -> Outcome {
    let (file, text) = newest(context)?;
    let state = DesiredState::parse(&text, &file).map_err(|error| state_error(&error))?;
    let desired = state.resolve(&args.app, &args.environment).map_err(|error| resolve_error(&error))?;
    match context.report.format() {
        Format::Table => explain(&desired, context),
        Format::Json | Format::Ndjson => context.report.json(&json!(Resolved {
            api_version: API_VERSION,
            kind: "Desired",
            app: desired.app,
            environment: desired.environment,
            absent: desired.target().is_none(),
            blocked: desired.target().is_some_and(|target| desired.block_of(&target.artifact).is_some()),
            spec: desired.state,
        })),
    }
    Ok(Exit::Done)
}

/// What the state says of an app, in the form machines rely on.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Desired")]
pub struct Resolved<'a> {
    #[schemars(extend("const" = API_VERSION))]
    api_version: &'static str,
    #[schemars(extend("const" = "Desired"))]
    kind: &'static str,
    app: &'a Name,
    environment: &'a Name,
    /// The app is to be removed from the hosts.
    absent: bool,
    blocked: bool,
    spec: &'a EnvironmentState,
}

/// How an app that the state does not name is told.
pub fn resolve_error(error: &ResolveError) -> CliError {
    let meant = |name: &Name| format!("did you mean `{name}`?");
    let (exit, reason, hint) = match error {
        ResolveError::NoApp { nearest, .. } => (Exit::NotFound, "NoApp", nearest.as_ref().map(meant)),
        ResolveError::NoEnvironment { nearest, .. } => {
            (Exit::NotFound, "NoEnvironment", nearest.as_ref().map(meant))
        }
        ResolveError::Invalid(problem) => (Exit::Invalid, "StateInvalid", problem.hint().map(str::to_owned)),
    };
    CliError { hint, ..CliError::new(exit, reason, error) }
}

fn explain(desired: &Desired<'_>, context: &Context) {
    let mut rows = vec![("app", desired.app.to_string()), ("environment", desired.environment.to_string())];
    match desired.target() {
        None => rows.push(("state", "absent: to be removed from the hosts".to_owned())),
        Some(target) => {
            rows.push(("artifact", target.artifact.to_string()));
            rows.extend(target.version.as_ref().map(|version| ("version", version.to_string())));
            rows.extend(target.reason.clone().map(|reason| ("reason", reason)));
            rows.extend(target.by.clone().map(|by| ("by", by)));
            let block = desired.block_of(&target.artifact);
            rows.extend(block.map(|block| ("blocked", format!("{} ({})", block.reason, block.by))));
        }
    }
    if let Some(suspend) = desired.suspend() {
        let until =
            suspend.until.map_or_else(|| "without an end".to_owned(), |until| format!("until {until}"));
        rows.push(("suspended", format!("{} ({}, {until})", suspend.reason, suspend.by)));
    }
    rows.extend(desired.state.retain.map(|retain| ("retain", retain.to_string())));
    rows.extend(desired.state.reconcile_requested_at.map(|at| ("reconcile", at.to_string())));
    if let Some(health) = &desired.state.health {
        rows.push(("health", serde_json::to_string(health).expect("limits are numbers and text")));
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    super::report::columns(&rows).iter().for_each(|line| context.report.line(line));
}
