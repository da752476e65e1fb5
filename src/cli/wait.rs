//! `--wait`: this host's agent followed to its verdict, or where none works here every host that reports.

use std::time::Duration;

use clap::Args;
use landfall_store::{ArtifactId, Name, Store};
use serde_json::{Value, json};

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::report::{Report, Tone, span};
use super::stages::Stages;
use super::{io_runtime, verdict};
use crate::disk::RealDisk;
use crate::document::units;
use crate::fleet::FleetFollow;
use crate::follow::{Ended, Follow, FollowError};
use crate::host::Host;
use crate::plan::Desired;
use crate::record::controls::Controls;
use crate::record::history::{Entry, Outcome};
use crate::watch;

/// Whether and how long to wait.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Follow this host's agent to its verdict, or without an agent here every host of the environment that reports
    /// to the store; the exit code is the verdict's, of several the worst.
    #[arg(long)]
    pub wait: bool,
    /// How long to follow.
    #[arg(long, requires = "wait", default_value = "5m", value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).map(|limit| limit.duration()).map_err(|error| error.to_string())
}

/// Who is followed through a change.
pub enum Watched {
    /// Nobody.
    Nobody,
    /// The agent of this host.
    Agent(Box<Host>),
    /// Every host that reports to this store.
    Fleet(Store),
}

/// Whom to follow: an agent that works here, else hosts that report. Neither is an error, before anything is
/// changed.
pub fn watched(
    args: &WaitArgs,
    app: &Name,
    environment: &Name,
    context: &Context,
) -> Result<Watched, CliError> {
    if !args.wait {
        return Ok(Watched::Nobody);
    }
    let error = match host(app, environment, context) {
        Ok(host) => return Ok(Watched::Agent(Box::new(host))),
        Err(error) if matches!(error.exit, Exit::NoAgent | Exit::Usage) => error,
        Err(error) => return Err(error),
    };
    // What a store that cannot be read says of hosts is no better than the error there is already.
    let Ok(store) = context.open_store() else { return Err(error) };
    match FleetFollow::begin(&store, app, environment, jiff::Timestamp::now()) {
        Ok(Some(_)) => Ok(Watched::Fleet(store)),
        Ok(None) | Err(_) => Err(error),
    }
}

/// This host, if its agent could be followed through this change.
fn host(app: &Name, environment: &Name, context: &Context) -> Result<Host, CliError> {
    let host = context.host()?;
    if let Some(own) = host.config.environment.as_ref().filter(|own| *own != environment) {
        let what = format!("this host is in `{own}`: its agent does nothing for `{environment}`");
        return Err(CliError::new(Exit::Usage, "OtherEnvironment", what).hint("leave out --wait"));
    }
    if host.config.app(app).is_none() {
        let what = format!("`{app}` is not among the apps of this host's host.toml");
        return Err(CliError::new(Exit::Usage, "OtherApps", what).hint("leave out --wait"));
    }
    if !host.is_locked() {
        return Err(
            no_agent(&host).hint("start it with `landfall watch`, or leave out --wait; nothing was changed")
        );
    }
    refuse_while_held(&host, app, environment)?;
    Ok(host)
}

/// What waits behind a person's word here would be followed in vain.
fn refuse_while_held(host: &Host, app: &Name, environment: &Name) -> Result<(), CliError> {
    let dir = host.app_dir(app, environment);
    let controls = Controls::read(&RealDisk, &dir).map_err(super::look::record_error)?;
    let word = match watch::last(host).map_err(super::look::record_error)? {
        Some(accepted) => watch::desired(&accepted, app, environment),
        None => Desired::NotInState,
    };
    let (reason, what, hint) = match word.under(&controls, jiff::Timestamp::now()) {
        Desired::Suspended { why, .. } => ("Suspended", format!("suspended: {why}"), "resume"),
        Desired::Pinned { pin, .. } => ("Pinned", format!("pinned to {pin}"), "unpin"),
        _ => return Ok(()),
    };
    let what =
        format!("`{app}` is {what} on this host: there is no verdict to wait for; nothing was changed");
    Err(CliError::new(Exit::Suspended, reason, what)
        .hint(format!("`landfall {hint} {app}` first, or leave out --wait to change the state alone")))
}

fn no_agent(host: &Host) -> CliError {
    let what = format!("no agent works on {}", host.root.path().display());
    CliError::new(Exit::NoAgent, "NoAgent", what)
}

/// Begins to look, before the state is changed.
pub fn begin<'a>(host: &'a Host, app: &'a Name, environment: &'a Name) -> Result<Follow<'a>, CliError> {
    Follow::begin(host, app, environment).map_err(follow_error)
}

/// A verdict, for the exit code and for machines.
pub struct Waited {
    pub exit: Exit,
    pub document: Value,
}

/// Waits, tells of every stage, and says how it ended.
pub fn wait(
    follow: Follow<'_>,
    host: &Host,
    artifact: &ArtifactId,
    limit: Duration,
    report: Report,
) -> Result<Waited, CliError> {
    let runtime = io_runtime()?;
    let dir = follow.dir().clone();
    let mut stages = Stages::new(&dir, report);
    let ended = follow.to_the_verdict(artifact, limit, &runtime, &mut |journal| stages.tell(journal));
    drop(stages);
    match ended.map_err(follow_error)? {
        Ended::Verdict(entry) => {
            tell_verdict(&entry, report);
            Ok(Waited { exit: verdict::code_of(&entry), document: json!(entry) })
        }
        Ended::InSync => {
            report.say("it runs already: nothing to do.");
            Ok(Waited { exit: Exit::Done, document: json!({ "result": "InSync" }) })
        }
        Ended::Refused(refusal) => {
            Err(CliError::new(Exit::Refused, "Refused", format!("the agent will not try it: {refusal}"))
                .hint("deploy another artifact"))
        }
        Ended::Held(hold) => Err(CliError::new(
            verdict::code_of_hold(&hold),
            "Held",
            format!("the agent does nothing now: {hold}"),
        )),
        Ended::TimedOut(stage) => Err(CliError::new(
            Exit::TimedOut,
            "TimedOut",
            match stage {
                Some(stage) => format!("no verdict within {limit:?}; the agent is in {stage} and goes on"),
                None => format!("the agent did not begin within {limit:?}"),
            },
        )
        .hint("`landfall status` shows what it does; does it read this state file?")),
        Ended::NoAgent => {
            Err(no_agent(host).hint("it ended while it was followed; `landfall watch` starts it"))
        }
    }
}

pub(super) fn tell_verdict(entry: &Entry, report: Report) {
    let tone = match entry.result {
        Outcome::Healthy | Outcome::Adopted | Outcome::Removed => Tone::Good,
        Outcome::Superseded | Outcome::Interrupted | Outcome::Unverified => Tone::Changing,
        Outcome::Reverted | Outcome::Failed | Outcome::Refused => Tone::Bad,
    };
    let result = report.tone_err(&entry.result.to_string(), tone);
    report.say(format!("  {result} in {} (attempt {})", span(entry.took_ms), entry.attempt));
    if let Some(failure) = &entry.failure {
        report.say(format!("  {}: {}", failure.reason, failure.message));
    }
    if let (Outcome::Reverted, Some(previous)) = (entry.result, &entry.previous) {
        report.say(format!("  {} {} serves again", previous.version, previous.artifact.short()));
    }
    if entry.result == Outcome::Superseded {
        report.say("  the state names something else now, and the agent went on to that");
    }
    if matches!(entry.result, Outcome::Reverted | Outcome::Failed) {
        report.say(format!("hint: `landfall describe {}` shows the evidence", entry.app));
    }
}

pub fn follow_error(error: FollowError) -> CliError {
    let reason = match &error {
        FollowError::Watch(_) => "WatchFailed",
        FollowError::Record(_) => "RecordFailed",
    };
    CliError::new(Exit::Error, reason, error)
}
