//! `landfall push`: copy artifacts to another store.

use clap::Args;
use landfall_store::push::{self, PushOptions, PushReport};
use landfall_store::{ArtifactId, Name, Store, refs};
use serde_json::{Value, json};

use super::Outcome;
use super::context::{Context, parse_store, store_error};
use super::error::CliError;
use super::exit::Exit;
use super::progress::Progress;
use super::report::{Format, Report, bytes};

const EXAMPLES: &str = "\
Examples:
  landfall push 1.4.0 --to /mnt/artifacts      what that store lacks of one version
  landfall push --all --to /mnt/artifacts      every artifact of this store

A push that is interrupted leaves nothing half done; the next one goes on where it stopped.";

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Push {
    /// Ids, at least 8 of their digits, or versions.
    #[arg(value_name = "ARTIFACT", required_unless_present = "all", conflicts_with = "all")]
    pub artifacts: Vec<String>,
    /// Every artifact of this store.
    #[arg(long)]
    pub all: bool,
    /// The store they are copied to; made if it does not exist.
    #[arg(long, value_name = "STORE")]
    pub to: String,
    /// The app, where several have such a version.
    #[arg(long, value_name = "APP")]
    pub app: Option<Name>,
    /// Take the version from the artifact that has it there.
    #[arg(long)]
    pub move_version: bool,
}

/// Runs the command.
pub fn run(args: &Push, context: &Context) -> Outcome {
    let from = context.open_store()?;
    let ids = asked(args, &from)?;
    let to = context.address(parse_store(&args.to)?).create().map_err(store_error)?;
    let options = PushOptions { move_version: args.move_version, ..PushOptions::default() };
    let mut pushed = Vec::new();
    let progress = Progress::new(&context.report);
    for id in ids {
        progress.step(format!("copying {}", id.short()));
        pushed.push(push::copy(&id, &from, &to, &options).map_err(store_error)?);
    }
    drop(progress);
    show(&pushed, &args.to, &context.report);
    Ok(Exit::Done)
}

/// All names are understood before anything is copied.
fn asked(args: &Push, from: &Store) -> Result<Vec<ArtifactId>, CliError> {
    if args.all {
        return refs::ids(from).map_err(store_error);
    }
    let resolve = |text: &String| refs::resolve(from, args.app.as_ref(), text).map_err(store_error);
    args.artifacts.iter().map(resolve).collect()
}

fn show(pushed: &[PushReport], to: &str, report: &Report) {
    let items: Vec<Value> = pushed.iter().map(to_json).collect();
    for done in pushed.iter().filter(|_| report.format() == Format::Table) {
        let what = if done.existed { "was there already" } else { "copied" };
        report.say(format!("{} {what}, {} written to {to}", done.artifact.short(), bytes(done.stored_bytes)));
    }
    report.items("PushList", &items, |report| {
        pushed.iter().for_each(|done| report.line(done.artifact.to_string()));
    });
}

fn to_json(done: &PushReport) -> Value {
    json!({
        "artifact": done.artifact,
        "existed": done.existed,
        "stored_bytes": done.stored_bytes,
        "uploaded": done.uploaded,
    })
}
