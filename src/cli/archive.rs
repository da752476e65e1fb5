//! `landfall import` and `landfall export`: artifacts that travel as files.

use std::path::PathBuf;

use clap::Args;
use landfall_store::archive::ImportError;
use landfall_store::{Name, Version, fetch, refs};
use serde_json::json;

use super::Outcome;
use super::context::{Context, io, store_error};
use super::error::CliError;
use super::exit::Exit;
use super::progress::Progress;
use super::report::Format;
use crate::archive::{self, ArchiveError, ImportRequest, Stamp};

const IMPORT_EXAMPLES: &str = "\
Examples:
  landfall import backend-v1.2.0-11-20-14-05.tgz          what `pack --archive` or `export` wrote
  landfall import site.tar.zst --app site --version 7     any other archive

An exported archive gives back the artifact it was made of, with the same id. In any other one, a landfall.toml
at the top is the recipe; without it the files can be stored, but nothing says how they start.";

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub struct Import {
    /// The archive.
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,
    /// What it is a version of [default: what the archive says].
    #[arg(long, value_name = "APP")]
    pub app: Option<Name>,
    /// Its version [default: what the archive says].
    #[arg(long, value_name = "VERSION")]
    pub version: Option<Version>,
    /// The one environment it may run in [default: what the archive says, else any].
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
    /// Take the version from the artifact that has it.
    #[arg(long)]
    pub move_version: bool,
}

/// Runs `import`.
pub fn import(args: &Import, context: &Context) -> Outcome {
    let (store, spool_dir) = (context.store()?, context.root()?.spool());
    let progress = Progress::new(&context.report);
    progress.step(format!("importing {}", args.archive.display()));
    let imported = archive::import(&ImportRequest {
        archive: &args.archive,
        app: args.app.as_ref(),
        version: args.version.as_ref(),
        environment: args.env.as_ref(),
        store: &store,
        spool_dir: &spool_dir,
        move_version: args.move_version,
        must_start: false,
    })
    .map_err(archive_error)?;
    drop(progress);
    super::pack::print(&imported, None, context);
    Ok(Exit::Done)
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  landfall export 1.2.0 --archive web.tar.zst     the name says the kind: .tgz, .tar.zst or .tar
  landfall export 1.2.0 --archive out/            under the usual name: web-v1.2.0-11-20-14-05.tgz

The same artifact gives the same bytes each time. `landfall import` is the way back, with the same id.";

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct Export {
    /// An id, at least 8 of its digits, or a version.
    #[arg(value_name = "ARTIFACT")]
    pub artifact: String,
    /// The archive, or the directory it goes to.
    #[arg(long, value_name = "PATH|DIR")]
    pub archive: PathBuf,
    /// The time in the archive's usual name [default: now].
    #[arg(long, value_name = "MM-DD-HH-mm")]
    pub time: Option<Stamp>,
    /// The app, where several have such a version.
    #[arg(long, value_name = "APP")]
    pub app: Option<Name>,
}

/// Runs `export`.
pub fn export(args: &Export, context: &Context) -> Outcome {
    let store = context.open_store()?;
    let id = refs::resolve(&store, args.app.as_ref(), &args.artifact).map_err(store_error)?;
    let artifact = fetch::artifact(&store, &id).map_err(store_error)?;
    let version = refs::version_of(&artifact).ok_or_else(|| {
        CliError::new(Exit::Supply, "NoVersion", format!("{id} carries no version: it is not landfall's"))
    })?;
    archive::prepare(&args.archive).map_err(archive_error)?;
    let stamp = args.time.clone().unwrap_or_else(Stamp::now);
    let path = archive::destination(&args.archive, &artifact.app, &version, &stamp);
    let progress = Progress::new(&context.report);
    progress.step(format!("writing {}", path.display()));
    archive::export(&store, &id, &path).map_err(archive_error)?;
    drop(progress);
    match context.report.format() {
        Format::Table => context.report.line(path.display().to_string()),
        Format::Json | Format::Ndjson => context.report.json(&json!({"artifact": id, "archive": path})),
    }
    Ok(Exit::Done)
}

/// How a refused archive is told.
pub fn archive_error(error: ArchiveError) -> CliError {
    let hint = error.hint();
    let (exit, reason) = match error {
        ArchiveError::Store(error) => return store_error(error),
        ArchiveError::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
            let what = format!("{}: {source}", path.display());
            return CliError::new(Exit::NotFound, "NotFound", what);
        }
        ArchiveError::Io { path, source } => return io(&path, &source),
        ArchiveError::Import { source: ImportError::Spool(_), .. } => (Exit::Error, "IoError"),
        ArchiveError::Export { .. } => (Exit::Supply, "ExportFailed"),
        ArchiveError::UnknownFormat { .. } | ArchiveError::Epoch(_) | ArchiveError::Unnamed { .. } => {
            (Exit::Usage, "Usage")
        }
        _ => (Exit::Invalid, "ArchiveInvalid"),
    };
    let cli = CliError::new(exit, reason, &error);
    match hint {
        Some(hint) => cli.hint(hint),
        None => cli,
    }
}
