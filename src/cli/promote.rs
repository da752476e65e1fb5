//! `landfall promote`: what one environment runs, also in another.

use std::path::Path;

use clap::Args;
use landfall_store::{ArtifactId, Name};

use super::Outcome;
use super::change::{self, ChangeArgs, Wish};
use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::wait::WaitArgs;
use crate::commit::{self, Verb};
use crate::disk::RealDisk;
use crate::record::history::{Entry, History, Outcome as Result_};
use crate::state::{DesiredState, Target};

/// From where to where, and how the change is made.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  landfall promote web --from staging --to prod                 what staging should run, in prod too
  landfall promote web --from staging --to prod --push --wait   and push, and follow this host's agent")]
pub struct Promote {
    /// The app.
    pub app: Name,
    /// The environment that has it.
    #[arg(long, value_name = "ENV")]
    pub from: Name,
    /// The environment that gets it.
    #[arg(long, value_name = "ENV")]
    pub to: Name,
    /// How the change is made.
    #[command(flatten)]
    pub change: ChangeArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Runs the command.
pub fn run(args: &Promote, context: &Context) -> Outcome {
    if args.from == args.to {
        let what = format!("`{}` is both where it comes from and where it goes", args.from);
        return Err(CliError::new(Exit::Usage, "SameEnvironment", what));
    }
    let target = desired(&context.state_file()?, args)?;
    let to = change::named(&args.app, &args.to, &target.artifact.to_string(), context)?;
    let name = change::called(to.version.as_ref(), &to.artifact);
    context.report.say(fared(&name, &to.artifact, args, context)?);
    let wish = Wish {
        app: &args.app,
        environment: &args.to,
        to: &to,
        verb: Verb::Promote,
        reason: Some(format!("promoted from {}", args.from)),
    };
    change::run(&wish, &args.change, &args.wait, context)
}

/// What the environment it comes from should run.
fn desired(file: &Path, args: &Promote) -> Result<Target, CliError> {
    let state = DesiredState::read(file).map_err(|error| super::state::state_error(&error))?;
    if state.is_absent(&args.app, &args.from) {
        let what = format!("`{}` in `{}` is marked \"state\": \"absent\"", args.app, args.from);
        return Err(CliError::new(Exit::Invalid, "Absent", what));
    }
    let found = state.resolve(&args.app, &args.from).map_err(|error| super::state::resolve_error(&error))?;
    found.target().cloned().ok_or_else(|| {
        let what = format!("`{}` in `{}` has no target", args.app, args.from);
        CliError::new(Exit::NotFound, "NoTarget", what)
    })
}

/// What this host knows of it where it comes from. What failed there is not promoted.
fn fared(name: &str, artifact: &ArtifactId, args: &Promote, context: &Context) -> Result<String, CliError> {
    let from = &args.from;
    let history = history(args, context)?;
    match commit::last_verdict(history.entries(), artifact) {
        None => Ok(format!("{name}: its health in {from} is unknown, this machine never ran it there.")),
        Some(Entry { attempt, result: Result_::Healthy, .. }) => {
            Ok(format!("{name}: it proved healthy here in {from}, in attempt {attempt}."))
        }
        Some(Entry { attempt, result, .. }) => {
            let what =
                format!("{name} did not prove healthy in {from}: attempt {attempt} here ended {result}");
            let hint = format!(
                "`landfall describe {} --env {from}` shows why; `landfall deploy {} {} {name}` deploys it all the same",
                args.app, args.app, args.to
            );
            Err(CliError::new(Exit::Refused, "NotHealthy", what).hint(hint))
        }
    }
}

fn history(args: &Promote, context: &Context) -> Result<History, CliError> {
    let host = context.host()?;
    let config = host.config.app(&args.app).unwrap_or_default();
    let dir = host.root.app(&args.app, &args.from, config.dir.as_deref());
    History::read(&RealDisk, &dir).map_err(|error| CliError::new(Exit::Error, "RecordFailed", error))
}
