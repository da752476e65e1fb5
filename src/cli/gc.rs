//! `landfall gc`: what of this host's disk nothing needs any more, and its removal.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::Outcome;
use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::look::Looking;
use super::report::{Report, bytes};
use crate::document::units;
use crate::gc::{Collected, GcError, Limits, Scope, run as collect};

/// Remove cached contents, trees, manifests and env files that nothing on this host needs.
///
/// Needed is what a release on disk, an attempt in progress, a pin, or the state's wish for this host names; it
/// is never removed. Of the rest, contents go once they were let go of for a day and the cache takes more than
/// [cache] max_bytes, those let go of longest ago first; without that key the cache may take twice what is
/// needed, and always 1 GiB beyond it. Unneeded trees, manifests and env files go after a day.
///
/// The agent does the same by itself, about once an hour after a deploy, and when the disk is short. Old
/// releases and the evidence of old attempts it removes after each attempt. This command may run beside it. A
/// record that cannot be read stops it with nothing removed.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 done, 12 a deploy uses the cache now, 20 a record cannot be read.

Examples:
  landfall gc --dry-run            what would go
  landfall gc --max-bytes 5GiB     let the cache take no more, whatever the age of what goes
  landfall gc --max-bytes 0B       everything that nothing needs")]
pub struct Gc {
    /// Say what would go, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// What the cache may take, in place of [cache] max_bytes; what nothing needs then goes whatever its age.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_bytes: Option<u64>,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<landfall_store::Name>,
}

fn size(text: &str) -> Result<u64, String> {
    units::size(text).map_err(|error| error.to_string())
}

/// What is said of it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Collection")]
pub struct Item {
    #[serde(flatten)]
    collected: Collected,
}

/// Runs the command.
pub fn run(args: &Gc, context: &Context) -> Outcome {
    let looking = Looking::new(context, args.env.as_ref())?;
    let host = &looking.shared.host;
    let limits = Limits {
        max_bytes: args.max_bytes.or(host.config.cache_max_bytes),
        young_too: args.max_bytes.is_some(),
    };
    let scope = Scope::of(host, &looking.environment).map_err(gc_error)?;
    let collected = collect(&scope, &limits, args.dry_run).map_err(gc_error)?;
    let items = [Item { collected }];
    context.report.items("GcList", &items, |report| show(report, &items[0].collected));
    Ok(Exit::Done)
}

fn gc_error(error: GcError) -> CliError {
    let (exit, reason, hint) = match &error {
        GcError::Busy => (Exit::Conflict, "CacheBusy", "try again when the deploy is over"),
        GcError::Record(_) => (Exit::Error, "RecordFailed", "`landfall recover` mends records"),
        GcError::Tree { .. } => {
            (Exit::Error, "TreeMissing", "`landfall verify` says which releases are whole")
        }
        GcError::Cache(_) | GcError::Io { .. } => (Exit::Error, "IoError", "look at the disk of this host"),
    };
    CliError::new(exit, reason, &error).hint(hint)
}

fn show(report: &Report, collected: &Collected) {
    let Collected {
        cache_bytes,
        needed_bytes,
        max_bytes,
        contents,
        content_bytes,
        documents,
        document_bytes,
        removed,
    } = *collected;
    let verb = if removed { "removed" } else { "would remove" };
    report.line(format!("{verb} {contents} contents, {}", bytes(content_bytes)));
    report.line(format!("{verb} {documents} trees, manifests and env files, {}", bytes(document_bytes)));
    let left = cache_bytes - content_bytes;
    report.line(format!(
        "cache: {} of at most {}, {} of it needed by releases",
        bytes(left),
        bytes(max_bytes),
        bytes(needed_bytes)
    ));
    if left > max_bytes {
        let why =
            if left > needed_bytes { "the rest was let go of within a day" } else { "all of it is needed" };
        report.say(format!("the cache stays above its bound: {why}"));
    }
}
