//! `landfall plan --from … --to …`: what a change of the state would do, for whoever reviews it. Needs the state's
//! repository and the store, and no host.

use std::path::Path;

use jiff::Timestamp;
use landfall_store::backend::Meter;

use super::{Plan, markdown, text};
use crate::cli::Outcome;
use crate::cli::change::change_error;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::state::state_error;
use crate::commit::revision::{self, Revision, RevisionError};
use crate::fleet::{self, HostReport};
use crate::proposal::{Action, Proposed, Scales, changes, weigh};
use crate::state::{DesiredState, StateError};

/// The two ends, as people read them.
pub struct Ends {
    pub from: String,
    pub to: String,
}

/// Runs `plan --from`.
pub fn run(from: &str, args: &Plan, context: &Context) -> Outcome {
    let file = context.state_file()?;
    let old = revision::at(&file, from).map_err(revision_error)?;
    let new = match &args.to {
        Some(to) => Some(revision::at(&file, to).map_err(revision_error)?),
        None => None,
    };
    let before = before(&old, &file, context);
    let after = match &new {
        Some(new) => {
            let text = new.text.as_deref().ok_or_else(|| missing(&file, new))?;
            parse(text, &file, new)?
        }
        None => DesiredState::read(&file).map_err(|error| state_error(&error))?,
    };
    let named = |name: &str, revision: &Revision| match revision.commit.starts_with(name) {
        true => short(&revision.commit).to_owned(),
        false => format!("{name} ({})", short(&revision.commit)),
    };
    let ends = Ends {
        from: named(from, &old),
        to: match (&args.to, &new) {
            (Some(name), Some(new)) => named(name, new),
            _ => "the work tree".to_owned(),
        },
    };
    let items = weighed(args, before.as_ref(), &after, context)?;
    if args.markdown {
        context.report.raw(markdown::render(&ends, &items).as_bytes());
    } else {
        context.report.items("StatePlanList", &items, |report| text::tell(&ends, &items, report));
    }
    let worst = items.iter().map(exit_of).max_by_key(|exit| exit.code());
    Ok(worst.unwrap_or(Exit::Done))
}

fn weighed(
    args: &Plan,
    before: Option<&DesiredState>,
    after: &DesiredState,
    context: &Context,
) -> Result<Vec<Proposed>, CliError> {
    let mut all = changes(before, after);
    all.retain(|change| args.app.as_ref().is_none_or(|app| *app == change.app));
    all.retain(|change| args.env.as_ref().is_none_or(|environment| *environment == change.environment));
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let (store, meter) = (context.open_store()?, Meter::default());
    let metered = context.open_store()?.metered(&meter);
    let hosts = reports(&store, context);
    let now = Timestamp::now();
    let scales = Scales { store: &store, metered: (&metered, &meter), hosts: &hosts, now };
    Ok(all.iter().map(|change| weigh(change, &scales)).collect())
}

/// Hosts that report. That they cannot be asked is said, and no reason not to plan.
fn reports(store: &landfall_store::Store, context: &Context) -> Vec<HostReport> {
    let found = match fleet::hosts(store) {
        Ok(found) => found,
        Err(error) => {
            context.report.say(format!("no host's report can be read: {error}"));
            return Vec::new();
        }
    };
    let usable = found.into_iter().filter_map(|reported| match reported.report {
        Ok(report) => Some(report),
        Err(error) => {
            let (host, environment) = (reported.host, reported.environment);
            context.report.say(format!("{host} in {environment} is left out: {error}"));
            None
        }
    });
    usable.collect()
}

/// The state that is changed. One that no host takes is what a change may be about: it counts as none.
fn before(old: &Revision, file: &Path, context: &Context) -> Option<DesiredState> {
    let parsed = DesiredState::parse(old.text.as_deref()?, file);
    let told = |error: &StateError| {
        context.report.say(format!("commit {} has no state that hosts take: {error}", short(&old.commit)));
    };
    parsed.inspect_err(told).ok()
}

fn parse(text: &str, file: &Path, at: &Revision) -> Result<DesiredState, CliError> {
    DesiredState::parse(text, file).map_err(|error| {
        let cli = state_error(&error);
        CliError { message: format!("commit {}: {}", short(&at.commit), cli.message), ..cli }
    })
}

fn missing(file: &Path, at: &Revision) -> CliError {
    let cli = state_error(&StateError::Missing { path: file.to_owned() });
    CliError { message: format!("commit {}: {}", short(&at.commit), cli.message), ..cli }
}

fn short(commit: &str) -> &str {
    crate::cli::change::short(commit)
}

fn exit_of(item: &Proposed) -> Exit {
    match item.action {
        Action::Deploy | Action::Remove | Action::Forget | Action::Settings => Exit::Differs,
        Action::Unavailable => Exit::Supply,
        Action::Refuse if item.conflicts.iter().any(|conflict| conflict.reason == "Blocked") => Exit::Refused,
        Action::Refuse => Exit::Invalid,
    }
}

fn revision_error(error: RevisionError) -> CliError {
    match error {
        RevisionError::File(error) => change_error(error.into()),
        RevisionError::Git(error) => CliError::new(Exit::Source, "RevisionUnreadable", error),
        RevisionError::NoWorkTree { .. } => CliError::new(Exit::NotFound, "NoWorkTree", error)
            .hint("name the state file of a clone: --state path/to/deploy-state.json"),
        RevisionError::Unknown { .. } => CliError::new(Exit::NotFound, "NoRevision", error)
            .hint("a shallow clone has too few commits: `git fetch --unshallow`, or fetch the branch"),
    }
}
