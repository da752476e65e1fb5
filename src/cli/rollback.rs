//! `landfall rollback`: an older artifact again, by a person's decision.

use std::path::Path;

use clap::Args;
use landfall_store::{ArtifactId, Name, Store, fetch};

use super::Outcome;
use super::change::{self, ChangeArgs, Wish};
use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::order::{self, LocalArgs};
use super::wait::WaitArgs;
use crate::commit::{self, Chosen, Previous, PreviousError, Verb};
use crate::disk::RealDisk;
use crate::migrations::{self, MigrationChange};
use crate::record::history::{Entry, History, Outcome as Result_};
use crate::release::spec_of;
use crate::state::{DesiredState, Target};

/// Where to, and how the change is made.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  landfall rollback web prod                          to the last that proved healthy here; says which and why
  landfall rollback web prod --to 1.3.0 -m 'typo'     to a version, with a reason
  landfall rollback web prod --wait                   and follow this host's agent to the verdict
  landfall rollback web --local -m 'bad checkout'     on this host alone, with store and state out of reach")]
pub struct Rollback {
    /// The app.
    pub app: Name,
    /// The environment; with --local it may be left out.
    #[arg(value_name = "ENV", required_unless_present = "local")]
    pub environment: Option<Name>,
    /// The artifact: its id, a unique beginning of it (at least 8 digits), or its version
    /// [default: the last that proved healthy].
    #[arg(long, value_name = "ARTIFACT")]
    pub to: Option<String>,
    /// How the change is made.
    #[command(flatten)]
    pub change: ChangeArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// On this host alone.
    #[command(flatten)]
    pub local: LocalArgs,
}

/// Which app, where, and which artifact was named.
struct Goal<'a> {
    app: &'a Name,
    environment: &'a Name,
    to: Option<&'a str>,
}

/// Runs the command.
pub fn run(args: &Rollback, context: &Context) -> Outcome {
    let to = args.to.as_deref();
    match (&args.environment, args.local.local) {
        (Some(environment), false) => edit(&Goal { app: &args.app, environment, to }, args, context),
        (environment, _) => {
            let wish = order::LocalWish {
                app: &args.app,
                environment: environment.as_ref(),
                to,
                reason: args.change.reason.as_deref().unwrap_or_default(),
                by: args.change.by.as_deref(),
                end: &args.local.end,
            };
            order::roll_back_here(&wish, context)
        }
    }
}

/// Edits the state.
fn edit(goal: &Goal<'_>, args: &Rollback, context: &Context) -> Outcome {
    let file = context.state_file()?;
    let now = target_now(&file, goal)?;
    let named = match goal.to {
        Some(text) => text.to_owned(),
        None => previous(goal, &file, &now, &context.open_store()?, context)?.to_string(),
    };
    let to = change::named(goal.app, goal.environment, &named, context)?;
    if goal.to.is_some() {
        context.report.say(fared(&to, &history(goal, context)?));
    }
    tell_migrations(&now, &to, &context.open_store()?, context);
    let wish = Wish {
        app: goal.app,
        environment: goal.environment,
        to: &to,
        verb: Verb::RollBack,
        reason: Some(reason(&now, &to)),
    };
    change::run(&wish, &args.change, &args.wait, context)
}

/// What the database has that the artifact does not know. Nothing is said where the store has only one of them.
fn tell_migrations(now: &Target, to: &Chosen, store: &Store, context: &Context) {
    let spec = |id: &ArtifactId| fetch::artifact(store, id).ok().and_then(|artifact| spec_of(&artifact).ok());
    let Some((before, after)) = spec(&now.artifact).zip(spec(&to.artifact)) else { return };
    let changes = migrations::compare(Some(&before), &after);
    let told = changes.iter().flat_map(MigrationChange::sentences);
    told.for_each(|sentence| context.report.say(format!("{sentence}.")));
}

/// What this host knows of a goal that a person named.
fn fared(to: &Chosen, history: &History) -> String {
    let name = change::called(to.version.as_ref(), &to.artifact);
    match commit::last_verdict(history.entries(), &to.artifact) {
        None => format!("back to {name}: its health is unknown, this machine never ran it."),
        Some(Entry { attempt, result: Result_::Healthy, .. }) => {
            format!("back to {name}: it proved healthy here in attempt {attempt}.")
        }
        Some(Entry { attempt, result, .. }) => {
            format!("back to {name}: careful, attempt {attempt} of it here ended {result}.")
        }
    }
}

fn reason(now: &Target, to: &Chosen) -> String {
    let called = change::called(now.version.as_ref(), &now.artifact);
    let verb = if now.artifact == to.artifact { "stays at" } else { "rolled back from" };
    format!("{verb} {called}")
}

/// What should run now: without it there is nothing to go back from.
fn target_now(file: &Path, args: &Goal<'_>) -> Result<Target, CliError> {
    let state = DesiredState::read(file).map_err(|error| super::state::state_error(&error))?;
    let desired =
        state.resolve(args.app, args.environment).map_err(|error| super::state::resolve_error(&error))?;
    desired.target().cloned().ok_or_else(|| {
        let what = format!("`{}` in `{}` is marked \"state\": \"absent\"", args.app, args.environment);
        CliError::new(Exit::Invalid, "Absent", what)
    })
}

fn previous(
    args: &Goal<'_>,
    file: &Path,
    now: &Target,
    store: &Store,
    context: &Context,
) -> Result<ArtifactId, CliError> {
    let state = DesiredState::read(file).map_err(|error| super::state::state_error(&error))?;
    let usable = |artifact: &ArtifactId| {
        let blocked = state
            .resolve(args.app, args.environment)
            .is_ok_and(|desired| desired.block_of(artifact).is_some());
        !blocked && fits(store, args, artifact)
    };
    let history = history(args, context)?;
    let found = match commit::in_history(history.entries(), Some(&now.artifact), &usable) {
        Some(found) => found,
        None => in_log(args, file, now, &usable)?,
    };
    context.report.say(why(&found, context));
    Ok(found.artifact())
}

/// What other hosts will have to fetch must be there.
fn fits(store: &Store, args: &Goal<'_>, artifact: &ArtifactId) -> bool {
    fetch::artifact(store, artifact).is_ok_and(|artifact| {
        artifact.app == *args.app && artifact.environment.is_none_or(|only| only == *args.environment)
    })
}

fn history(args: &Goal<'_>, context: &Context) -> Result<History, CliError> {
    let host = context.host()?;
    let config = host.config.app(args.app).unwrap_or_default();
    let dir = host.root.app(args.app, args.environment, config.dir.as_deref());
    History::read(&RealDisk, &dir).map_err(|error| {
        CliError::new(Exit::Error, "RecordFailed", error)
            .hint("name the artifact to go back to: --to VERSION")
    })
}

fn in_log(
    args: &Goal<'_>,
    file: &Path,
    now: &Target,
    usable: commit::Usable<'_>,
) -> Result<Previous, CliError> {
    let none = || {
        let Goal { app, environment, .. } = args;
        let what = format!(
            "nothing to go back to: neither this host nor the state's log knows another artifact of `{app}` in `{environment}` that the store has and the state does not block"
        );
        CliError::new(Exit::NotFound, "NoRollbackTarget", what)
            .hint("name one: --to VERSION; `landfall ls` lists what the store has")
    };
    let found = commit::in_log(file, args.app, args.environment, Some(&now.artifact), usable);
    match found {
        Ok(found) => found.ok_or_else(none),
        Err(PreviousError::NoLog { .. }) => Err(none()),
        Err(PreviousError::File(error)) => Err(change::change_error(error.into())),
        Err(error @ PreviousError::Git(_)) => Err(CliError::new(Exit::Source, "LogUnreadable", error)
            .hint("name the artifact to go back to: --to VERSION")),
    }
}

fn why(found: &Previous, context: &Context) -> String {
    let report = context.report;
    match found {
        Previous::Healthy { artifact, version, attempt, when } => format!(
            "back to {}: it proved {} here in attempt {attempt}, {}.",
            change::called(Some(version), artifact),
            report.tone_err("healthy", super::report::Tone::Good),
            when.strftime("%Y-%m-%d %H:%M:%SZ"),
        ),
        Previous::Named { artifact, version, commit } => format!(
            "back to {}: the state named it before, in commit {}; its health is {}: this machine never ran it.",
            change::called(version.as_ref(), artifact),
            change::short(commit),
            report.tone_err("unknown", super::report::Tone::Changing),
        ),
    }
}
