//! `landfall ls`: what a store has, or which releases this host has.

use clap::Args;
use landfall_store::Name;
use landfall_store::refs::Provenance;
use landfall_store::refs::{self, ArtifactInfo};
use landfall_store::{ArtifactId, Version};
use schemars::JsonSchema;
use serde::Serialize;

use super::Outcome;
use super::context::{Context, io, store_error};
use super::exit::Exit;
use super::report::{Report, Tone, bytes, columns};
use crate::inventory::{self, Installed};

/// Columns that an app's name may take: with them the table fits 80.
const APP_COLUMNS: usize = 19;
/// Columns that a version may take.
const VERSION_COLUMNS: usize = 20;

const EXAMPLES: &str = "\
Examples:
  landfall ls                every artifact of the store, newest first
  landfall ls web -o json    those of one app, for scripts
  landfall ls --releases     which release directory on this host holds which artifact";

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Ls {
    /// Only this app's.
    #[arg(value_name = "APP")]
    pub app: Option<Name>,
    /// List the releases on this host instead, with the artifact of each.
    #[arg(long)]
    pub releases: bool,
}

/// Runs the command.
pub fn run(args: &Ls, context: &Context) -> Outcome {
    if args.releases { releases(args, context) } else { artifacts(args, context) }
}

fn is_asked(args: &Ls, app: &Name) -> bool {
    args.app.as_ref().is_none_or(|asked| asked == app)
}

fn artifacts(args: &Ls, context: &Context) -> Outcome {
    let store = context.open_store()?;
    let mut found = refs::list(&store).map_err(store_error)?;
    found.retain(|info| is_asked(args, &info.app));
    let items: Vec<Stored> = found.iter().map(Stored::of).collect();
    context.report.items("ArtifactList", &items, |report| {
        let rows = found.iter().map(artifact_row);
        table(report, &["APP", "VERSION", "ARTIFACT", "ENV", "SIZE", "LAYERS"], rows.collect());
    });
    Ok(Exit::Done)
}

/// An artifact of the store, in the form machines rely on.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Stored {
    artifact: ArtifactId,
    app: Name,
    version: Option<Version>,
    environment: Option<Name>,
    layers: usize,
    files: u64,
    bytes: u64,
    seq: Option<u64>,
    provenance: Option<Provenance>,
}

impl Stored {
    fn of(info: &ArtifactInfo) -> Self {
        Self {
            artifact: info.id,
            app: info.app.clone(),
            version: info.version.clone(),
            environment: info.environment.clone(),
            layers: info.layers,
            files: info.files,
            bytes: info.bytes,
            seq: info.seq,
            provenance: info.provenance.clone(),
        }
    }
}

fn artifact_row(info: &ArtifactInfo) -> Vec<String> {
    vec![
        cut(info.app.as_str(), APP_COLUMNS),
        info.version
            .as_ref()
            .map_or_else(|| "-".to_owned(), |version| cut(version.as_str(), VERSION_COLUMNS)),
        info.id.short(),
        info.environment.as_ref().map_or_else(|| "any".to_owned(), |name| cut(name.as_str(), 10)),
        bytes(info.bytes),
        info.layers.to_string(),
    ]
}

fn releases(args: &Ls, context: &Context) -> Outcome {
    let root = context.root()?;
    let (mut found, damaged) =
        inventory::releases(&root, &context.config()?).map_err(|error| io(&root.apps(), &error))?;
    found.retain(|release| is_asked(args, &release.app));
    for error in damaged {
        context.report.say(format!("{}: {error}", context.report.tone_err("warning", Tone::Changing)));
    }
    context.report.items("ReleaseList", &found, |report| {
        let rows = found.iter().map(release_row);
        table(report, &["", "APP", "ENV", "RELEASE", "ARTIFACT"], rows.collect());
    });
    Ok(Exit::Done)
}

fn release_row(release: &Installed) -> Vec<String> {
    vec![
        if release.current { "*" } else { "" }.to_owned(),
        cut(release.app.as_str(), APP_COLUMNS),
        cut(release.environment.as_str(), 10),
        release.release.clone(),
        release.artifact.short(),
    ]
}

/// Lines under their headings; nothing at all says nothing.
fn table(report: &Report, headings: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        report.say("nothing yet");
        return;
    }
    let mut all = vec![headings.iter().map(|heading| (*heading).to_owned()).collect()];
    all.extend(rows);
    columns(&all).iter().for_each(|line| report.line(line));
}

/// At most so many characters.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_longest_names_fits_80_columns() {
        let info = ArtifactInfo {
            id: landfall_store::ArtifactId::of(b"x"),
            app: "a".repeat(63).parse().unwrap(),
            version: Some("1".repeat(128).parse().unwrap()),
            environment: Some("e".repeat(63).parse().unwrap()),
            layers: 256,
            files: 1_000_000,
            bytes: 999_000_000_000,
            seq: Some(1),
            provenance: None,
        };
        let line = &columns(&[artifact_row(&info)])[0];
        assert!(line.chars().count() <= 80, "{line}");
    }
}
