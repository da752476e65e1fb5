//! `landfall push`: copy artifacts to another store.

use std::path::PathBuf;

use clap::Args;
use landfall_store::fetch::{Progress as Copied, Watch};
use landfall_store::push::{self, Deltas, Healed, Healer, PushOptions, PushReport, PushedDelta};
use landfall_store::refs::{self, ArtifactInfo};
use landfall_store::{ArtifactId, Name, Store};
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

Deltas are made from what the state asks for and from the app's last three versions, so that hosts that
have one of them fetch little. With --all only the newest version of each app gets them.
A push that is interrupted leaves nothing half done; the next one goes on where it stopped. A directory that was
pushed to is all that a static web server needs; env layers in it, which hold secrets, only its owner can read.";

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
    /// Make no deltas; hosts fetch what they lack from packs.
    #[arg(long)]
    pub no_delta: bool,
}

/// Runs the command.
pub fn run(args: &Push, context: &Context) -> Outcome {
    let from = context.open_store()?;
    let ids = asked(args, &from)?;
    let deployed = if args.no_delta { None } else { Some(context.deployed()) };
    let mut to = context.address(parse_store(&args.to)?);
    to.token_file = args.token_file.clone().or(to.token_file);
    let to = to.create().map_err(store_error)?;
    let mut pushed = Vec::new();
    let progress = Progress::new(&context.report);
    let tell = |layer: &Name, from: &str| progress.step(format!("layer {layer}: delta from {from}"));
    let mut healer = Healer::new(&from, &to, Watch::NOBODY);
    for (id, newest) in ids {
        if args.verify {
            progress.step(format!("reading {}", id.short()));
            healer.heal(&id).map_err(store_error)?;
        }
        progress.step(format!("copying {}", id.short()));
        let deltas = deployed.as_ref().filter(|_| newest);
        let deltas = deltas.map(|deployed| Deltas { deployed, tell: &tell });
        let what = format!("copying {}", id.short());
        let count = |now: Copied| progress.count_of(&what, now.blobs, now.bytes, now.bytes_total);
        let watch = Watch { progress: &count, ..Watch::NOBODY };
        let options =
            PushOptions { move_version: args.move_version, deltas, watch, ..PushOptions::default() };
        pushed.push(push::copy(&id, &from, &to, &options).map_err(store_error)?);
    }
    drop(progress);
    show(&pushed, &args.to, &context.report);
    if args.verify {
        say_healed(&healer.done(), &context.report);
    }
    Ok(Exit::Done)
}

/// What is to be copied, and whether hosts will go to it. All names are understood before anything is copied.
fn asked(args: &Push, from: &Store) -> Result<Vec<(ArtifactId, bool)>, CliError> {
    if args.all {
        let ids = refs::ids(from).map_err(store_error)?;
        return Ok(in_order(ids, &refs::list(from).map_err(store_error)?));
    }
    let resolve =
        |text: &String| Ok((refs::resolve(from, args.app.as_ref(), text).map_err(store_error)?, true));
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

/// Older versions first, as they were made, so that the other store counts them in the same order; and
/// whether each is the newest of its app.
fn in_order(mut ids: Vec<ArtifactId>, infos: &[ArtifactInfo]) -> Vec<(ArtifactId, bool)> {
    let age = |id: &ArtifactId| infos.iter().find(|info| info.id == *id).and_then(|info| info.seq);
    ids.sort_by_key(age);
    let newest = |id: &ArtifactId| {
        let Some(info) = infos.iter().find(|info| info.id == *id) else { return false };
        let of_app = infos.iter().filter(|other| other.app == info.app);
        info.seq.is_some() && of_app.map(|other| other.seq).max() == Some(info.seq)
    };
    ids.into_iter().map(|id| (id, newest(&id))).collect()
}

fn show(pushed: &[PushReport], to: &str, report: &Report) {
    let items: Vec<Value> = pushed.iter().map(to_json).collect();
    for done in pushed.iter().filter(|_| report.format() == Format::Table) {
        let what = if done.existed { "was there already" } else { "copied" };
        report.say(format!("{} {what}, {} written to {to}", done.artifact.short(), bytes(done.stored_bytes)));
        done.deltas.iter().for_each(|delta| report.say(format!("  {}", delta_line(delta))));
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
        "deltas": done.deltas.iter().map(delta_json).collect::<Vec<_>>(),
    })
}

/// A delta for people.
pub(super) fn delta_line(delta: &PushedDelta) -> String {
    let from = delta.version.as_ref().map_or_else(|| delta.from.0.short(), ToString::to_string);
    format!("layer {}: {} for hosts that have {from}", delta.layer, bytes(delta.bytes))
}

/// A delta for machines.
pub(super) fn delta_json(delta: &PushedDelta) -> Value {
    json!({"layer": delta.layer, "from": delta.from, "version": delta.version, "bytes": delta.bytes})
}
