//! `landfall status`: what should run, what runs, since when, is it well, and if not, what to type next.

mod detail;
mod fleet;
mod live;
mod table;

use clap::Args;
use landfall_store::Name;

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::look::{Looking, record_error};
use super::report::Report;
use super::{Outcome, io_runtime};
use crate::status::{Status, assess, look};

pub use detail::header;
pub use fleet::Item as FleetItem;

/// Show what should run here, what runs, and whether it is well.
///
/// Three axes: SYNC says whether the release that runs is the one the state asks for, HEALTH how what runs is,
/// and the operation, if there is one, what the agent does this second. `OutOfSync` with `Healthy` means that
/// an older release serves; under each app that is not well stands why, and what to type next.
///
/// Works with the agent stopped, the store unreachable and the state unreadable. Changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall status                  every app of this host
  landfall status web              one app, in more detail
  landfall status --watch          follow it; Ctrl-C ends it
  landfall status --watch -o ndjson    one line for each change, for scripts
  landfall status --fleet          every host that reports to the store
  landfall status web -o json      one app, with conditions, for scripts
  landfall status --check && …     go on only if everything is synced and healthy

Exit status with --check: 0 every app is synced and healthy, 1 one is not, or there is none, or the state
is stale.")]
pub struct StatusArgs {
    /// One app [default: every app of this host].
    pub app: Option<Name>,
    /// Exit with 0 only if everything is synced and healthy, else with 1.
    #[arg(long, conflicts_with = "watch")]
    pub check: bool,
    /// Go on showing it as it changes, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
    /// Every host that reports to the store, instead of this one.
    #[arg(long, conflicts_with = "watch")]
    pub fleet: bool,
    /// The environment, where host.toml does not say; with --fleet only its hosts.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// Runs the command.
pub fn run(args: &StatusArgs, context: &Context) -> Outcome {
    if args.fleet {
        return fleet::run(args, context);
    }
    let runtime = io_runtime()?;
    if args.watch {
        return runtime.block_on(live::run(args, context));
    }
    let seen = runtime.block_on(Seen::now(args, context))?;
    context.report.items("StatusList", &seen.items, |report| {
        seen.lines(report).iter().for_each(|line| report.line(line));
        if seen.items.is_empty() {
            report.say(format!("next: landfall deploy <app> {} <version>", seen.looking.environment));
        }
    });
    let fine = !seen.items.is_empty()
        && seen.items.iter().all(|item| item.is_synced_and_healthy() && !item.is_stale());
    Ok(if args.check && !fine { Exit::Differs } else { Exit::Done })
}

/// One look at the host.
struct Seen {
    items: Vec<Status>,
    looking: Looking,
    /// One app was asked for by name.
    alone: bool,
}

impl Seen {
    async fn now(args: &StatusArgs, context: &Context) -> Result<Self, CliError> {
        let looking = Looking::new(context, args.env.as_ref())?;
        let mut items = Vec::new();
        for app in looking.chosen(args.app.as_ref())? {
            let site = looking.site(&app)?;
            let view = look(&site, &looking.around(&app)).await.map_err(record_error)?;
            items.push(assess(&view));
        }
        Ok(Self { items, looking, alone: args.app.is_some() })
    }

    /// What people read.
    fn lines(&self, report: &Report) -> Vec<String> {
        let now = jiff::Timestamp::now();
        let mut lines = match self.items.as_slice() {
            [] => vec![format!("no app in `{}` on this host yet", self.looking.environment)],
            [one] if self.alone => detail::lines(report, one, now),
            items => table::lines(report, items, now),
        };
        if !self.looking.has_agent() {
            let root = self.looking.root().display();
            let what =
                format!("no agent is running on {root}, so nothing is deployed or healed: `landfall watch`");
            lines.push(String::new());
            lines.extend(super::text::wrap(&what, "", report.width()));
        }
        if let Some(refused) = self.looking.refused() {
            let what = format!(
                "host.toml was refused, and the one that was read before stays in force: {}",
                refused.why
            );
            lines.push(String::new());
            lines.extend(super::text::wrap(&what, "", report.width()));
        }
        lines
    }
}
