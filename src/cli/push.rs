//! `landfall push`: copy artifacts to another store.

use std::path::PathBuf;

use clap::Args;
use landfall_store::push::{self, Healed, Healer, PushOptions, PushReport};
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
  landfall push --all --to https://artifacts.internal:8443 --token-file push.token
  landfall push --all --verify --to /mnt/artifacts   and read what is there, and mend it

A push that is interrupted leaves nothing half done; the next one goes on where it stopped. A directory that was
pushed to is all that a static web server needs to serve hosts; env layers in it, which hold secrets, are readable
by its owner only.";

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
    /// A file whose first line is the token that the other store's server asks for [default: the one of
    /// --store-token-file].
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Read every byte of what the other store has already, and write again what is damaged.
    #[arg(long)]
    pub verify: bool,
    /// Take the version from the artifact that has it there.
    #[arg(long)]
    pub move_version: bool,
}

/// Runs the command.
pub fn run(args: &Push, context: &Context) -> Outcome {
    let from = context.open_store()?;
    let ids = asked(args, &from)?;
    let mut to = context.address(parse_store(&args.to)?);
    to.token_file = args.token_file.clone().or(to.token_file);
    let to = to.create().map_err(store_error)?;
    let options = PushOptions { move_version: args.move_version, ..PushOptions::default() };
    let mut pushed = Vec::new();
    let progress = Progress::new(&context.report);
    let mut healer = Healer::new(&from, &to, options.watch);
    for id in ids {
        if args.verify {
            progress.step(format!("reading {}", id.short()));
            healer.heal(&id).map_err(store_error)?;
        }
        progress.step(format!("copying {}", id.short()));
        pushed.push(push::copy(&id, &from, &to, &options).map_err(store_error)?);
    }
    drop(progress);
    show(&pushed, &args.to, &context.report);
    if args.verify {
        say_healed(&healer.done(), &context.report);
    }
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

fn say_healed(healed: &Healed, report: &Report) {
    for key in &healed.damaged {
        report.say(format!("{key} was damaged and is stored again"));
    }
    report.say(format!(
        "{} objects read, {}: {}",
        healed.checked,
        bytes(healed.bytes),
        if healed.damaged.is_empty() { "whole" } else { "whole now" }
    ));
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
