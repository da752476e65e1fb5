//! `landfall plan`: what this host's agent would do, or what a change of the state would do anywhere, without
//! doing it.

mod change;
mod item;
mod markdown;
mod text;
mod words;

use std::collections::BTreeSet;

use clap::Args;
use landfall_store::Name;

use super::context::Context;
use super::copy::Copy;
use super::error::CliError;
use super::exit::Exit;
use super::report::{Report, Tone, columns};
use super::{Outcome, io_runtime};
use crate::host::Host;
use crate::outlook::outlook;
use crate::preview::Documents;
use crate::source::SourceError;
use crate::state::StateError;
use crate::watch::{self, Accepted, AgentError, StateProblem};
pub use item::Item;
use item::{Action, Named};

/// Say what would be done, on this host or by a change of the state, and do nothing.
///
/// Without `--from`: what the agent of this host would do now. With it: what a change of the state would do, app by
/// app and environment by environment: artifact, files, dependencies, migrations, bytes to fetch, the way back, and
/// what stands against it. That needs the state's repository and the store, and no host; hosts that report to the
/// store are shown one by one. Bytes are those that a host fetches which has the artifact before and nothing else.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 nothing to do, 1 something to do, 3 invalid, 6 artifact not available, 10 refused, 11 suspended.

Examples:
  landfall plan                       every app of this host
  landfall plan web -o json           one app, for scripts
  landfall plan --state next.json     what another state would do here
  landfall plan --from HEAD           what the edited work tree would do, everywhere
  landfall plan --from origin/main --to HEAD --markdown    for the comment of a pull request")]
pub struct Plan {
    /// The app [default: every app of this host, or of both revisions].
    pub app: Option<Name>,
    /// The environment, where host.toml does not say; with --from, this one only.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
    /// Compare the state with that of this revision: a branch, a tag, a commit, HEAD.
    #[arg(long, value_name = "REV")]
    pub from: Option<String>,
    /// The revision that is compared [default: the work tree].
    #[arg(long, value_name = "REV", requires = "from")]
    pub to: Option<String>,
    /// As Markdown, for a comment.
    #[arg(long, requires = "from")]
    pub markdown: bool,
}

/// Runs the command.
pub fn run(args: &Plan, context: &Context) -> Outcome {
    match &args.from {
        Some(from) => change::run(from, args, context),
        None => on_this_host(args, context),
    }
}

fn on_this_host(args: &Plan, context: &Context) -> Outcome {
    let host = context.host()?;
    let environment = context.environment(&host, args.env.as_ref())?;
    let accepted = read(context, &host)?;
    let apps = apps(args, &host, &environment, &accepted)?;
    let store = host.store.open().map_err(super::context::store_error);
    let documents = Documents { host: &host, store: store.as_ref().ok() };
    let runtime = io_runtime()?;
    let mut items = Vec::new();
    for app in &apps {
        let seen = runtime.block_on(outlook(&host, &environment, &accepted, app));
        let seen = seen.map_err(super::watch::agent_error)?;
        items.push(Item::of(app, &environment, &seen, &documents));
    }
    context.report.items("PlanList", &items, |report| tell(&items, report));
    let worst = items.iter().map(|item| item.exit).max_by_key(|exit| exit.code());
    Ok(worst.unwrap_or(Exit::Done))
}

fn read(context: &Context, host: &Host) -> Result<Accepted, CliError> {
    let copy = Copy::new()?;
    let source = context.source(copy.cache())?;
    let runtime = io_runtime()?;
    let newest = runtime.block_on(watch::newest(&source, host));
    let newest = newest.map_err(|problem| match problem {
        StateProblem::Source(SourceError::Missing { path }) => {
            super::state::state_error(&StateError::Missing { path })
        }
        StateProblem::Invalid(error) => super::state::state_error(&error),
        StateProblem::Record(error) => super::look::record_error(error),
        problem => super::watch::agent_error(AgentError::State(problem)),
    })?;
    let commit = runtime.block_on(source.commit()).or(newest.commit.clone());
    Ok(Accepted { commit, ..newest })
}

fn apps(
    args: &Plan,
    host: &Host,
    environment: &Name,
    accepted: &Accepted,
) -> Result<BTreeSet<Name>, CliError> {
    let Some(app) = &args.app else {
        let state = &accepted.state;
        let present = state.apps_in(environment).filter(|app| !state.is_absent(app, environment));
        // Of what was never here there is nothing to remove.
        let was_here = |app: &&Name| host.root.apps().join(app.as_str()).join(environment.as_str()).is_dir();
        let leaving = state.apps.keys().filter(|app| state.is_absent(app, environment)).filter(was_here);
        let named = present.chain(leaving).filter(|app| host.config.app(app).is_some());
        return Ok(named.cloned().collect());
    };
    // An app whose part is refused is shown as such; one that is not there has no plan.
    if let Err(error) = accepted.state.resolve(app, environment)
        && !matches!(error, crate::state::ResolveError::Invalid(_))
        && !accepted.state.is_absent(app, environment)
    {
        return Err(super::state::resolve_error(&error));
    }
    if host.config.app(app).is_none() {
        let what = format!("`{app}` is not among the apps of this host's host.toml");
        return Err(CliError::new(Exit::NotFound, "OtherApps", what));
    }
    Ok(BTreeSet::from([app.clone()]))
}

fn tell(items: &[Item], report: &Report) {
    if items.is_empty() {
        report.say("the state names no app of this host.");
    }
    let rows: Vec<Vec<String>> = items.iter().map(|item| row(item, report)).collect();
    let lines = columns(&rows);
    for (item, line) in items.iter().zip(lines) {
        report.line(line);
        item.details().iter().for_each(|detail| report.line(format!("  {detail}")));
    }
}

fn row(item: &Item, report: &Report) -> Vec<String> {
    let (word, tone) = match item.action {
        Action::None => ("nothing to do", Tone::Good),
        Action::Deploy => ("deploy", Tone::Changing),
        Action::Switch => ("switch", Tone::Changing),
        Action::Restart => ("restart", Tone::Changing),
        Action::Remove => ("remove", Tone::Changing),
        Action::Hold => ("hold", Tone::Bad),
        Action::Refuse => ("refused", Tone::Bad),
        Action::Unavailable => ("not available", Tone::Bad),
    };
    let (from, to) = (Named::shown(item.from.as_ref()), Named::shown(item.to.as_ref()));
    let way = if item.action == Action::None || from == to { from } else { format!("{from} → {to}") };
    vec![format!("{}/{}", item.app, item.environment), report.tone(word, tone), way]
}
