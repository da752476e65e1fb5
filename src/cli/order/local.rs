//! `landfall rollback --local`: back on this host alone, with store and state out of reach.

use clap::Args;
use jiff::Timestamp;
use landfall_store::{ArtifactId, Name};

use super::commands::{End, duration};
use super::{Given, actor, ask, carry_out, tell, tick};
use crate::cli::context::{Context, host_error};
use crate::cli::exit::Exit;
use crate::cli::look::{Looking, record_error};
use crate::cli::{Outcome, verdict, wait};
use crate::control::{Order, Word};
use crate::door::Request;
use crate::follow::Follow;
use crate::host::HostError;
use crate::inventory;
use crate::migrations::{self, MigrationChange};
use crate::plan::Hold;
use crate::reconcile::Tick;
use crate::record::RecordError;
use crate::spec::ReleaseSpec;

/// How long a pin lasts where nobody says.
const PIN_SPAN: &str = "24h";
/// How long the agent is followed to its verdict.
const FOLLOW_LIMIT: &str = "5m";

/// A rollback of this host alone.
#[derive(Debug, Args)]
#[command(next_help_heading = "On this host alone")]
pub struct LocalArgs {
    /// Go back on this host alone, to a release that is here: a pin with an end, 24h unless --for or --until says.
    /// Needs neither store nor state; `landfall unpin` ends it. --reason is needed.
    #[arg(long, requires = "reason", conflicts_with_all = ["push", "no_commit", "wait"])]
    pub local: bool,
    /// When it ends.
    #[command(flatten)]
    pub end: End,
}

/// What goes back, where to and why.
pub struct Wish<'a> {
    pub app: &'a Name,
    pub environment: Option<&'a Name>,
    pub to: Option<&'a str>,
    pub reason: &'a str,
    pub by: Option<&'a str>,
    pub end: &'a End,
}

/// Runs it: pins, and sees it through to the verdict.
pub fn run(wish: &Wish<'_>, context: &Context) -> Outcome {
    let looking = Looking::new(context, wish.environment)?;
    looking.chosen(Some(wish.app))?;
    let word = Word { app: wish.app.clone(), by: actor(wish.by), order: order(wish)? };
    let host = &looking.shared.host;
    let before = inventory::current_spec(&looking.dir(wish.app));
    match host.lock() {
        Ok(_lock) => {
            let given = carry_out(&looking, &word)?;
            context.report.line(&given.done.message);
            tell_migrations(&looking, wish.app, before.as_ref(), given.done.artifact.as_ref(), context);
            ended(tick(host, &looking.environment, wish.app)?.tick, context)
        }
        Err(HostError::Locked { .. }) => follow(&looking, wish, word, before.as_ref(), context),
        Err(error) => Err(host_error(error)),
    }
}

fn order(wish: &Wish<'_>) -> Result<Order, crate::cli::error::CliError> {
    let until = match wish.end.moment()? {
        Some(until) => until,
        None => {
            let span = duration(PIN_SPAN).unwrap_or_default();
            Timestamp::now().saturating_add(span).unwrap_or(Timestamp::MAX)
        }
    };
    Ok(Order::Pin { to: wish.to.map(str::to_owned), reason: wish.reason.to_owned(), until })
}

/// What the database has that the release does not know.
fn tell_migrations(
    looking: &Looking,
    app: &Name,
    before: Option<&ReleaseSpec>,
    artifact: Option<&ArtifactId>,
    context: &Context,
) {
    let after = artifact.and_then(|artifact| inventory::spec_of(&looking.dir(app), artifact));
    let Some((before, after)) = before.zip(after) else { return };
    let changes = migrations::compare(Some(before), &after);
    let told = changes.iter().flat_map(MigrationChange::sentences);
    told.for_each(|sentence| context.report.say(format!("{sentence}.")));
}

fn follow(
    looking: &Looking,
    wish: &Wish<'_>,
    word: Word,
    before: Option<&ReleaseSpec>,
    context: &Context,
) -> Outcome {
    let host = &looking.shared.host;
    let follow = Follow::begin(host, wish.app, &looking.environment);
    let follow = follow.map_err(wait::follow_error)?;
    let done = ask(host, Request::App(word))?;
    let artifact = done.artifact;
    tell(Some(wish.app), &Given { done, by_agent: true }, context);
    tell_migrations(looking, wish.app, before, artifact.as_ref(), context);
    let Some(artifact) = artifact else { return Ok(Exit::Done) };
    let limit = duration(FOLLOW_LIMIT).unwrap_or_default();
    wait::wait(follow, host, &artifact, limit, context.report).map(|waited| waited.exit)
}

/// How a tick of our own ended.
fn ended(tick: Result<Tick, RecordError>, context: &Context) -> Outcome {
    match tick {
        Ok(Tick::Attempted(entry)) => {
            wait::tell_verdict(&entry, context.report);
            Ok(verdict::code_of(&entry))
        }
        Ok(Tick::Held(Hold::Pinned(_)) | Tick::InSync { .. } | Tick::Removed) => {
            context.report.say("it runs already: nothing to do.");
            Ok(Exit::Done)
        }
        Ok(Tick::Held(hold)) => {
            context.report.say(format!("nothing is done now: {hold}"));
            Ok(verdict::code_of_hold(&hold))
        }
        Ok(Tick::Refused(refusal)) => {
            context.report.say(format!("not tried: {refusal}"));
            Ok(Exit::Refused)
        }
        Err(error) => Err(record_error(error)),
    }
}
