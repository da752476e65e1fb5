//! `suspend`, `resume`, `unpin`, `retry`, `reconcile`, `recover`.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use landfall_store::Name;

use super::{actor, ask, run, tell};
use crate::cli::change::GitArgs;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::look::{Looking, record_error};
use crate::cli::{Outcome, pause};
use crate::control::{self, Order};
use crate::document::units;
use crate::door::Request;

/// Who orders, and where.
#[derive(Debug, Args)]
pub struct Who {
    /// Who says so [default: who called sudo, else the account of this process].
    #[arg(long, value_name = "WHO")]
    pub by: Option<String>,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// When something ends by itself.
#[derive(Debug, Args)]
pub struct End {
    /// When it ends by itself: 2026-11-21T18:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "span")]
    pub until: Option<Timestamp>,
    /// The same from now on: 30m, 2h, 72h.
    #[arg(long = "for", value_name = "SPAN", value_parser = duration)]
    pub span: Option<Duration>,
}

pub fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).map(|limit| limit.duration()).map_err(|error| error.to_string())
}

impl End {
    /// The moment, if there is one.
    pub fn moment(&self) -> Result<Option<Timestamp>, CliError> {
        let Some(span) = self.span else { return Ok(self.until) };
        let end = Timestamp::now().checked_add(span);
        end.map(Some).map_err(|error| CliError::new(Exit::Usage, "TimeInvalid", error))
    }
}

/// Where a suspension is said, and taken back.
#[derive(Debug, Args)]
pub struct Where {
    /// The environment: the state is edited, for every host of it [without it: this host is ordered].
    #[arg(value_name = "ENV")]
    pub environment: Option<Name>,
    /// This host alone, also where an environment is named.
    #[arg(long)]
    pub local: bool,
    /// What becomes of the edit in git.
    #[command(flatten)]
    pub git: GitArgs,
}

/// Stop applying and healing, until `landfall resume`.
///
/// With an environment it is an edit of the state, for every host of that environment: committed and pushed as a
/// deploy is. Without one, or with --local, this host is ordered, also with the agent stopped and the state out of
/// reach. What runs goes on; the state is still read and `status` still looks. An attempt that has not come to the
/// switch is given up; one that has is brought to its verdict. Whoever looks sees why, by whom and until when, and
/// nothing suspended is ever shown green.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall suspend web prod --reason 'release freeze' --until 2026-11-21T18:00:00Z --push
  landfall suspend web --reason 'disk swap' --for 2h         this host alone
  landfall suspend web --local --reason 'fair' --by maria    the same, said so")]
pub struct Suspend {
    /// The app.
    pub app: Name,
    /// Where.
    #[command(flatten)]
    pub place: Where,
    /// Why.
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub reason: String,
    /// When it ends.
    #[command(flatten)]
    pub end: End,
    /// Who.
    #[command(flatten)]
    pub who: Who,
}

/// End a suspension: applying and healing go on.
///
/// With an environment it is taken out of the state, without one, or with --local, it is that of this host that
/// ends, also with the agent stopped. One that stands in the state is ended there only.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall resume web prod --push             what the state suspended
  landfall resume web --reason 'disk is in'   what this host was told")]
pub struct Resume {
    /// The app.
    pub app: Name,
    /// Where.
    #[command(flatten)]
    pub place: Where,
    /// Why.
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who.
    #[command(flatten)]
    pub who: Who,
}

/// End a pin of `landfall rollback --local`: the state counts again.
///
/// Works with the agent stopped.
#[derive(Debug, Args)]
pub struct Unpin {
    /// The app.
    pub app: Name,
    /// Why.
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who.
    #[command(flatten)]
    pub who: Who,
}

/// Try again what failed here.
///
/// Lets the desired artifact out of quarantine, starts a release once more that would not run, and ends the pause
/// after an artifact could not be had. Works with the agent stopped: it tries when it starts.
#[derive(Debug, Args)]
pub struct Retry {
    /// The app.
    pub app: Name,
    /// Why.
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who.
    #[command(flatten)]
    pub who: Who,
}

/// Let the agent look at the state and at an app now.
///
/// Deploys an env file that was edited since the start, and ends pauses. A quarantined release stays where it
/// is: that is `landfall retry`. Needs a running agent.
#[derive(Debug, Args)]
pub struct Reconcile {
    /// The app [default: every app of this host].
    pub app: Option<Name>,
    /// Why.
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who.
    #[command(flatten)]
    pub who: Who,
}

/// Go on with an app whose records cannot be read.
///
/// Unreadable records are copied to `aside/` and replaced by what can be proved, never by a guess: the history
/// goes on from the entries whose chain holds, the quarantine is made again from it, and of an unreadable attempt
/// only its number is used up. If it cannot be read any more whether the app was suspended, it is suspended until
/// `landfall resume`. What runs is not touched. Works with the agent stopped.
#[derive(Debug, Args)]
pub struct Recover {
    /// The app.
    pub app: Name,
    /// Show what cannot be read, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Why.
    #[arg(short = 'm', long, value_name = "TEXT", required_unless_present = "dry_run")]
    pub reason: Option<String>,
    /// Who.
    #[command(flatten)]
    pub who: Who,
}

/// Runs the command.
pub fn suspend(args: &Suspend, context: &Context) -> Outcome {
    let until = args.end.moment()?;
    match args.place.of_state(&args.who)? {
        Some(environment) => {
            let pause = Some((args.reason.as_str(), until));
            pause::run(&args.app, environment, pause, None, args.who.by.as_deref(), &args.place.git, context)
        }
        None => {
            let order = Order::Suspend { reason: args.reason.clone(), until };
            ordinary(&args.app, &args.place.here(&args.who), order, context)
        }
    }
}

/// Runs the command.
pub fn resume(args: &Resume, context: &Context) -> Outcome {
    match args.place.of_state(&args.who)? {
        Some(environment) => {
            let (reason, by) = (args.reason.as_deref(), args.who.by.as_deref());
            pause::run(&args.app, environment, None, reason, by, &args.place.git, context)
        }
        None => {
            let order = Order::Resume { reason: args.reason.clone() };
            ordinary(&args.app, &args.place.here(&args.who), order, context)
        }
    }
}

impl Where {
    /// The environment whose state is edited; `None`: this host is meant.
    fn of_state(&self, who: &Who) -> Result<Option<&Name>, CliError> {
        let usage = |what: &str| Err(CliError::new(Exit::Usage, "WhereUnclear", what));
        if self.environment.is_some() && who.env.is_some() {
            return usage("the environment is named twice: once is enough");
        }
        match &self.environment {
            Some(environment) if !self.local => Ok(Some(environment)),
            _ if self.git.push || self.git.no_commit => usage(
                "--push and --no-commit are for an edit of the state: name the environment, without --local",
            ),
            _ => Ok(None),
        }
    }

    /// Who orders this host, and where.
    fn here(&self, who: &Who) -> Who {
        Who { by: who.by.clone(), env: self.environment.clone().or_else(|| who.env.clone()) }
    }
}

/// Runs the command.
pub fn unpin(args: &Unpin, context: &Context) -> Outcome {
    ordinary(&args.app, &args.who, Order::Unpin { reason: args.reason.clone() }, context)
}

/// Runs the command.
pub fn retry(args: &Retry, context: &Context) -> Outcome {
    ordinary(&args.app, &args.who, Order::Retry { reason: args.reason.clone() }, context)
}

fn ordinary(app: &Name, who: &Who, order: Order, context: &Context) -> Outcome {
    let looking = Looking::new(context, who.env.as_ref())?;
    let given = run(&looking, app, who.by.as_deref(), order)?;
    tell(Some(app), &given, context);
    Ok(Exit::Done)
}

/// Runs the command.
pub fn reconcile(args: &Reconcile, context: &Context) -> Outcome {
    let looking = Looking::new(context, args.who.env.as_ref())?;
    let host = &looking.shared.host;
    if !host.is_locked() {
        let what = format!("no agent works on {}", host.root.path().display());
        return Err(CliError::new(Exit::NoAgent, "NoAgent", what)
            .hint("`landfall watch` starts it; `landfall watch --once` reconciles once without it"));
    }
    let by = actor(args.who.by.as_deref());
    let request = match &args.app {
        None => Request::ReconcileAll { by, reason: args.reason.clone() },
        Some(app) => {
            looking.chosen(Some(app))?;
            let order = Order::Reconcile { reason: args.reason.clone() };
            Request::App(control::Word { app: app.clone(), by, order })
        }
    };
    let done = ask(host, request)?;
    tell(args.app.as_ref(), &super::Given { done, by_agent: true }, context);
    Ok(Exit::Done)
}

/// Runs the command.
pub fn recover(args: &Recover, context: &Context) -> Outcome {
    let Some(reason) = args.reason.clone().filter(|_| !args.dry_run) else {
        return found(args, context);
    };
    ordinary(&args.app, &args.who, Order::Recover { reason }, context)
}

/// What cannot be read. Exit 1 if there is anything.
fn found(args: &Recover, context: &Context) -> Outcome {
    let looking = Looking::new(context, args.who.env.as_ref())?;
    looking.chosen(Some(&args.app))?;
    let damages = control::find(&looking.dir(&args.app)).map_err(record_error)?;
    for damage in &damages {
        context.report.line(format!("{}: {}", damage.path.display(), damage.why));
    }
    if damages.is_empty() {
        context.report.line(format!("every record of {} can be read", args.app));
        return Ok(Exit::Done);
    }
    context.report.say(format!("next: landfall recover {} --reason '…' sets them aside", args.app));
    Ok(Exit::Differs)
}
