//! `landfall wait`: until an app is as asked.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use landfall_store::Name;

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::look::{Looking, record_error};
use super::order::duration;
use super::{Outcome, io_runtime};
use crate::changes::{Changes, WatchError};
use crate::status::{Health, Operation, Status, Sync, assess, look};

/// The longest sleep without an event: that a process ended or that an agent died writes no file.
const LOOK_AT_LEAST: Duration = Duration::from_secs(2);

/// Wait until an app of this host is as asked.
///
/// Sleeps until something changes, and looks again. Works from the files, also with the agent stopped; then it
/// says so, because nothing will change by itself. Exit status: 0 it is so, 14 it was not within --timeout.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall wait web --for synced && ./announce      what the state asks for runs and is healthy
  landfall wait web --for healthy --timeout 30s     what runs is healthy, whichever version it is")]
pub struct WaitFor {
    /// The app.
    pub app: Name,
    /// As what.
    #[arg(long = "for", value_enum, value_name = "WHAT")]
    pub goal: Goal,
    /// How long to wait.
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Goal {
    /// What runs proved healthy and its processes run.
    Healthy,
    /// The release that the state asks for runs and is healthy.
    Synced,
    /// No attempt is in progress.
    Idle,
    /// The app is suspended, here or in the state.
    Suspended,
    /// The app is neither suspended nor pinned.
    Released,
}

impl Goal {
    fn is_reached(self, status: &Status) -> bool {
        let held = status.suspended.is_some() || status.pinned.is_some();
        match self {
            Self::Healthy => status.health == Health::Healthy,
            Self::Synced => status.sync == Sync::Synced && status.health == Health::Healthy,
            Self::Idle => status.operation == Operation::Idle,
            Self::Suspended => status.suspended.is_some(),
            Self::Released => !held,
        }
    }
}

/// Runs the command.
pub fn run(args: &WaitFor, context: &Context) -> Outcome {
    let deadline = Instant::now() + args.timeout;
    let runtime = io_runtime()?;
    let mut changes = Changes::new().map_err(watch_error)?;
    let mut told = false;
    loop {
        // Word of changes first, then the look: what happens in between is not missed.
        let host = context.host()?;
        changes.widen(&host.root.accepted(), host.root.path()).map_err(watch_error)?;
        if let Ok(state) = context.state_file()
            && let Ok(state) = std::path::absolute(state)
            && let Some(dir) = state.parent()
        {
            changes.widen(&state, dir).map_err(watch_error)?;
        }
        let looking = Looking::new(context, args.env.as_ref())?;
        changes.widen(&looking.dir(&args.app).history(), host.root.path()).map_err(watch_error)?;
        let status = status(&looking, &args.app, &runtime)?;
        if args.goal.is_reached(&status) {
            context.report.items("StatusList", &[&status], |report| {
                report.line(format!("{}: {}", args.app, status.message));
            });
            return Ok(Exit::Done);
        }
        if !looking.has_agent() && !told {
            told = true;
            let root = looking.root().display();
            context.report.say(format!(
                "no agent works on {root}: nothing changes by itself; `landfall watch` starts one"
            ));
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(out_of_time(args, &status));
        }
        changes.another_look(deadline.min(now + LOOK_AT_LEAST));
    }
}

fn status(looking: &Looking, app: &Name, runtime: &tokio::runtime::Runtime) -> Result<Status, CliError> {
    looking.chosen(Some(app))?;
    let site = looking.site(app)?;
    let view = runtime.block_on(look(&site, &looking.around(app))).map_err(record_error)?;
    Ok(assess(&view))
}

fn out_of_time(args: &WaitFor, status: &Status) -> CliError {
    let goal = args.goal.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let WaitFor { app, timeout, .. } = args;
    let what = format!("{app} was not {goal} within {timeout:?}: {}", status.message);
    let cli = CliError::new(Exit::TimedOut, "TimedOut", what);
    match &status.next {
        Some(next) => cli.hint(next.clone()),
        None => cli.hint(format!("`landfall describe {app}` shows more")),
    }
}

fn watch_error(error: WatchError) -> CliError {
    CliError::new(Exit::Error, "WatchFailed", error)
        .hint("raise fs.inotify.max_user_instances if the limit is reached")
}
