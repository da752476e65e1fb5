//! `landfall store verify`: is everything in the store what its name says, and who needs what is not?

use clap::Args;
use landfall_store::fetch::{Progress as Read, Watch};
use landfall_store::lease::Pace;
use landfall_store::scrub::{self, Damage, Fault, Report as Found};
use landfall_store::{ArtifactId, Name, Version, refs};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::Outcome;
use crate::cli::context::{Context, store_error};
use crate::cli::exit::Exit;
use crate::cli::progress::Progress;
use crate::cli::report::{Report, Tone, bytes};

/// Artifacts named for one damaged object in the table.
const NAMED_MAX: usize = 5;

/// Read everything in the store, and name what is damaged or missing and which artifacts need it.
///
/// Every pack is read to its end and every content hashed; so are artifacts, trees, versions, locators and the
/// copies of the packs' directories. What nothing needs, or what can be had from another pack, is reported and
/// is no failure.
///
/// A store is healed by pushing the same content again: `store verify --repair` first, so that the push does
/// not take for granted what is damaged, then `landfall pack` or `landfall push` where the content is.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 everything that is needed is whole, 6 it is not.

Examples:
  landfall store verify                        the whole store
  landfall store verify --artifact 1.4.0       what one artifact needs
  landfall store verify --repair && landfall pack .")]
pub struct Verify {
    /// Only what this artifact needs: an id, at least 8 of its digits, or a version.
    #[arg(long, value_name = "ARTIFACT")]
    pub artifact: Option<String>,
    /// The app, where several have such a version.
    #[arg(long, value_name = "APP", requires = "artifact")]
    pub app: Option<Name>,
    /// Take what is damaged out of the way of later pushes, which then store it again.
    #[arg(long)]
    pub repair: bool,
}

/// An artifact that cannot be had whole.
#[derive(Debug, Serialize, JsonSchema)]
struct Affected {
    artifact: ArtifactId,
    app: Option<Name>,
    version: Option<Version>,
}

/// What is wrong with an object.
#[derive(Debug, Serialize, JsonSchema)]
enum Verdict {
    /// Its bytes are not what its name says.
    Damaged,
    /// Something names it and it is not there.
    Missing,
}

/// One object that is not as it should be.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StoreDamage")]
pub struct Item {
    kind: &'static str,
    object: String,
    result: Verdict,
    why: String,
    /// Artifacts that cannot be had whole because of it; none: nothing needs it, or it can be had elsewhere.
    needed_by: Vec<Affected>,
}

/// Runs the command.
pub fn run(args: &Verify, context: &Context) -> Outcome {
    // Mirrors are no part of it: what they have, the store may lack.
    let address = context.store()?;
    let address = landfall_store::location::StoreAddress { mirrors: Vec::new(), ..address };
    let store = address.open().map_err(store_error)?;
    let only = match &args.artifact {
        Some(text) => Some(refs::resolve(&store, args.app.as_ref(), text).map_err(store_error)?),
        None => None,
    };
    let progress = Progress::new(&context.report);
    progress.step("reading artifacts and trees");
    let tell = |read: Read| progress.count("reading packs", 1, read.bytes);
    let watch = Watch { progress: &tell, cancel: &|| false };
    let found = scrub::verify(&store, only, &watch).map_err(store_error)?;
    let taken = if args.repair && !found.damages.is_empty() {
        Some(scrub::repair(&store, &found, Pace::REAL).map_err(store_error)?)
    } else {
        None
    };
    drop(progress);
    let items: Vec<Item> = found.damages.iter().map(|damage| item(damage, &found)).collect();
    context.report.items("StoreVerifyList", &items, |report| show(report, &found, &items));
    if let Some(taken) = taken {
        context.report.say(format!(
            "{} objects are out of the way: push the artifacts again from where their content is",
            taken.len()
        ));
    } else if !found.is_whole() {
        context.report.say("`landfall store verify --repair`, then a push of the same content, heals this");
    }
    Ok(if found.is_whole() { Exit::Done } else { Exit::Supply })
}

fn item(damage: &Damage, found: &Found) -> Item {
    let affected = |id: &ArtifactId| {
        let known = found.known.get(id);
        Affected {
            artifact: *id,
            app: known.map(|known| known.app.clone()),
            version: known.and_then(|known| known.version.clone()),
        }
    };
    Item {
        kind: damage.kind,
        object: damage.object.clone(),
        result: match damage.fault {
            Fault::Damaged => Verdict::Damaged,
            Fault::Missing => Verdict::Missing,
        },
        why: damage.why.clone(),
        needed_by: damage.needed_by.iter().map(affected).collect(),
    }
}

fn show(report: &Report, found: &Found, items: &[Item]) {
    for item in items {
        let (word, tone) = match (&item.result, item.needed_by.is_empty()) {
            (Verdict::Damaged, false) => ("damaged", Tone::Bad),
            (Verdict::Missing, false) => ("missing", Tone::Bad),
            (Verdict::Damaged, true) => ("damaged", Tone::Changing),
            (Verdict::Missing, true) => ("missing", Tone::Changing),
        };
        report.line(format!("{} {} {}: {}", report.tone(word, tone), item.kind, item.object, item.why));
        let names = item.needed_by.iter().take(NAMED_MAX).map(named).collect::<Vec<_>>().join(", ");
        let more = item.needed_by.len().saturating_sub(NAMED_MAX);
        report.line(match (names.is_empty(), more) {
            (true, _) => "  nothing needs it".to_owned(),
            (false, 0) => format!("  needed by {names}"),
            (false, more) => format!("  needed by {names} and {more} more"),
        });
    }
    let verdict = match (items.is_empty(), found.is_whole()) {
        (true, _) => "whole",
        (false, true) => "everything that is needed is whole",
        (false, false) => "not whole",
    };
    report.line(format!(
        "{verdict}: {} artifacts, {} trees, {} packs, {} contents, {} read",
        found.artifacts,
        found.trees,
        found.packs,
        found.contents,
        bytes(found.bytes)
    ));
}

fn named(affected: &Affected) -> String {
    let short = affected.artifact.short();
    match (&affected.app, &affected.version) {
        (Some(app), Some(version)) => format!("{app} {version} (b3:{short})"),
        (Some(app), None) => format!("{app} (b3:{short})"),
        _ => format!("b3:{short}"),
    }
}
