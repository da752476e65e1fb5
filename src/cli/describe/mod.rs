//! `landfall describe`: everything known of one app here, for the moment when `status` is not enough.

mod evidence;
mod show;

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use landfall_store::{ArtifactId, Name};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::history;
use super::look::{Looking, record_error};
use super::{Outcome, io_runtime};
use crate::deploy::App;
use crate::disk::{Disk, RealDisk};
use crate::layout::AppDir;
use crate::record::controls::Decision;
use crate::record::history::Entry;
use crate::record::journal::{Failure, Journal, Stage, StageTime, Waiting};
use crate::record::release::Progress;
use crate::status::{Status, assess, look};
use crate::switch;
use crate::watch::Site;

/// Show everything known of one app here: axes, conditions, the last attempt with its evidence, what is
/// quarantined and how that is lifted, and the releases on disk.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall describe web                why is it as it is?
  landfall describe web --attempt 7    one attempt: stages, failure, evidence, step logs
  landfall describe web -o json        for scripts")]
pub struct DescribeArgs {
    /// The app.
    pub app: Name,
    /// This attempt only.
    #[arg(long, value_name = "NUMBER")]
    pub attempt: Option<u64>,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// One attempt, with what was kept of it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AttemptInFull")]
pub struct Attempt {
    #[serde(skip)]
    entry: Entry,
    /// The same as `landfall history` tells it.
    #[serde(flatten)]
    item: history::Item,
    /// What was seen when it failed.
    evidence: Option<Value>,
    /// Output of its steps.
    step_logs: Vec<PathBuf>,
}

/// A release identity that failed here.
#[derive(Debug, Serialize, JsonSchema)]
struct Quarantined {
    artifact: ArtifactId,
    version: String,
    release: String,
    attempt: u64,
    since: Timestamp,
    failure: Failure,
    /// The state has named something else since: naming it again is one fresh attempt.
    left: bool,
}

/// A release on disk.
#[derive(Debug, Serialize, JsonSchema)]
struct Release {
    release: String,
    artifact: Option<ArtifactId>,
    version: Option<String>,
    current: bool,
    /// It proved healthy here.
    healthy: bool,
    /// It failed here and is not tried again for now.
    quarantined: bool,
    prepared: bool,
    bytes: Option<u64>,
    files: Option<u64>,
}

/// An attempt without an end.
#[derive(Debug, Serialize, JsonSchema)]
struct InProgress {
    attempt: u64,
    artifact: ArtifactId,
    started: Timestamp,
    stage: Stage,
    /// How long the stages before took, in their order.
    stages: Vec<StageTime>,
    /// A pause inside the attempt.
    waiting: Option<Waiting>,
}

/// Everything.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AppDescription")]
pub struct Description {
    #[serde(flatten)]
    status: Status,
    /// The attempt that is under way, or was cut short.
    in_progress: Option<InProgress>,
    attempts: Vec<Attempt>,
    quarantine: Vec<Quarantined>,
    /// What operators decided about the app on this host, newest first.
    decisions: Vec<Decision>,
    releases: Vec<Release>,
}

/// Runs the command.
pub fn run(args: &DescribeArgs, context: &Context) -> Outcome {
    let looking = Looking::new(context, args.env.as_ref())?;
    looking.chosen(Some(&args.app))?;
    let site = looking.site(&args.app)?;
    let app = site.app().map_err(record_error)?;
    if let Some(number) = args.attempt {
        let attempt = asked(&app, number)?;
        context.report.items("AttemptList", std::slice::from_ref(&attempt), |report| {
            show::attempt(report, &attempt);
        });
        return Ok(Exit::Done);
    }
    let view = io_runtime()?.block_on(look(&site, &looking.around(&args.app))).map_err(record_error)?;
    let description = Description {
        status: assess(&view),
        in_progress: view.journal.as_ref().map(in_progress),
        attempts: attempts(&app),
        quarantine: quarantine(&app),
        decisions: app.controls.decisions.iter().rev().cloned().collect(),
        releases: releases(&site, &app)?,
    };
    context.report.items("Description", std::slice::from_ref(&description), |report| {
        show::description(report, &description);
    });
    Ok(Exit::Done)
}

fn in_progress(journal: &Journal) -> InProgress {
    InProgress {
        attempt: journal.attempt,
        artifact: journal.target.artifact,
        started: journal.started,
        stage: journal.stage,
        stages: journal.stages.clone(),
        waiting: journal.waiting.clone(),
    }
}

fn asked(app: &App, number: u64) -> Result<Attempt, CliError> {
    let found = app.history.entries().iter().find(|entry| entry.attempt == number);
    found.map(|entry| attempt(&app.dir, entry)).ok_or_else(|| {
        let what = format!("there was no attempt {number} of `{}` here", app.name);
        let hint = match app.history.last() {
            Some(last) => {
                format!("the last one was {}; `landfall history {}` lists them", last.attempt, app.name)
            }
            None => "nothing was ever tried".to_owned(),
        };
        CliError::new(Exit::NotFound, "NoAttempt", what).hint(hint)
    })
}

/// The newest one; and, where another one is why the desired release is refused, that one too.
fn attempts(app: &App) -> Vec<Attempt> {
    let last = app.history.last();
    let refusing = app.quarantine.items.iter().rev().find(|item| !item.left).map(|item| item.attempt);
    let wanted = |entry: &&Entry| {
        last.is_some_and(|last| last.attempt == entry.attempt) || refusing == Some(entry.attempt)
    };
    app.history.entries().iter().rev().filter(wanted).map(|entry| attempt(&app.dir, entry)).collect()
}

fn attempt(dir: &AppDir, entry: &Entry) -> Attempt {
    let place = dir.attempt(entry.attempt);
    let names = RealDisk.list(&place).unwrap_or_default();
    Attempt {
        item: history::item(entry),
        evidence: evidence::read(&place),
        step_logs: names.iter().filter(|name| name.ends_with(".log")).map(|name| place.join(name)).collect(),
        entry: entry.clone(),
    }
}

fn quarantine(app: &App) -> Vec<Quarantined> {
    let item = |item: &crate::record::quarantine::Quarantined| Quarantined {
        artifact: item.release.artifact,
        version: item.release.version.to_string(),
        release: item.release.name.clone(),
        attempt: item.attempt,
        since: item.since,
        failure: item.failure.clone(),
        left: item.left,
    };
    app.quarantine.items.iter().rev().map(item).collect()
}

fn releases(site: &Site, app: &App) -> Result<Vec<Release>, CliError> {
    let names = site
        .supply()
        .releases()
        .map_err(|failure| CliError::new(Exit::Error, failure.reason, failure.message))?;
    let current = switch::named(&RealDisk, &site.dir).unwrap_or_default();
    let healthy: Vec<&str> = app.history.healthy().iter().map(|release| release.name.as_str()).collect();
    let refused =
        |name: &str| app.quarantine.items.iter().any(|item| item.release.name == name && !item.left);
    let mut releases: Vec<Release> = names
        .into_iter()
        .map(|name| Release {
            quarantined: refused(&name),
            ..release(site, name, current.as_deref(), &healthy)
        })
        .collect();
    let rank = |release: &Release| healthy.iter().position(|name| *name == release.release);
    releases.sort_by_key(|release| (!release.current, rank(release).unwrap_or(usize::MAX)));
    Ok(releases)
}

fn release(site: &Site, name: String, current: Option<&str>, healthy: &[&str]) -> Release {
    let record = site.supply().record(&name).ok();
    let size = site.supply().checkable(&name).ok().map(|release| release.size());
    Release {
        artifact: record.as_ref().map(|record| record.release.artifact),
        version: record.as_ref().map(|record| record.release.version.to_string()),
        current: current == Some(name.as_str()),
        healthy: healthy.contains(&name.as_str()),
        quarantined: false,
        prepared: record.is_some_and(|record| record.progress == Progress::Prepared),
        bytes: size.map(|(bytes, _)| bytes),
        files: size.map(|(_, files)| files),
        release: name,
    }
}
