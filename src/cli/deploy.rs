//! `landfall deploy`: which artifact an app should run.

use clap::Args;
use landfall_store::Name;

use super::Outcome;
use super::change::{self, ChangeArgs, Wish};
use super::context::Context;
use super::wait::WaitArgs;
use crate::commit::Verb;

/// Which artifact, where, and how the change is made.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  landfall deploy web prod 1.4.0                      by version
  landfall deploy web prod 4f1c0b7e -m 'login fix'    by the first digits of the id, with a reason
  landfall deploy web prod $(landfall pack) --push    what was just packed, for every host
  landfall deploy web prod 1.4.0 --wait               and follow this host's agent to the verdict")]
pub struct Deploy {
    /// The app.
    pub app: Name,
    /// The environment.
    #[arg(value_name = "ENV")]
    pub environment: Name,
    /// The artifact: its id, a unique beginning of it (at least 8 digits), or its version.
    pub artifact: String,
    /// How the change is made.
    #[command(flatten)]
    pub change: ChangeArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Runs the command.
pub fn run(args: &Deploy, context: &Context) -> Outcome {
    let to = change::named(&args.app, &args.environment, &args.artifact, context)?;
    let wish =
        Wish { app: &args.app, environment: &args.environment, to: &to, verb: Verb::Deploy, reason: None };
    change::run(&wish, &args.change, &args.wait, context)
}
