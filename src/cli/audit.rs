//! `landfall audit`: which hash ran where, from when to when, who asked for it, and with what result.

use clap::Args;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use landfall_store::{ArtifactId, Name, Store, refs};
use serde::Serialize;

use super::change::{called, change_error, short};
use super::context::{Context, store_error};
use super::error::CliError;
use super::exit::Exit;
use super::look::{Looking, record_error};
use super::report::{Report, Tone, columns};
use super::text::{cut, local, wrap};
use super::{Outcome, io_runtime};
use crate::audit::{self, AcceptedOn, Run, join, log, runs};
use crate::commit::history::HistoryError;
use crate::disk::RealDisk;
use crate::fleet::{self, ReadError};
use crate::record::acceptances::{self, Acceptance, Chained};
use crate::record::history::{History, Outcome as Result_};
use crate::source::Source;
use crate::trust::Signers;

/// Say which artifact ran where, from when to when, who asked for it, in which commit, and with what result.
///
/// Joins the log of the state repository with the histories of every host that reports to the store, and of this
/// machine. The log is that of the state's work tree, and on a host whose host.toml names a repository that of the
/// agent's own copy. Each history is a chain of hashes, and checked. Times in service are by the clock of each host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  landfall audit web                        everything there is on record, oldest first
  landfall audit web prod --at '2026-11-18 03:00'   what ran on the night of
  landfall audit web --artifact 4f1c0b7e    where this has ever run
  landfall audit web prod --csv > web.csv   for a spreadsheet")]
pub struct Audit {
    /// The app.
    pub app: Name,
    /// One environment [default: all].
    #[arg(value_name = "ENV")]
    pub environment: Option<Name>,
    /// Only what was in service at this time: `2026-11-18`, `2026-11-18 03:00` (local time), `2026-11-18T03:00:00Z`.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub at: Option<Timestamp>,
    /// Only this artifact: its id, at least 8 of its digits, or its version.
    #[arg(long, value_name = "ARTIFACT")]
    pub artifact: Option<String>,
    /// Comma-separated values, with a header.
    #[arg(long)]
    pub csv: bool,
}

/// Runs the command.
pub fn run(args: &Audit, context: &Context) -> Outcome {
    let (mut found, mut accepted) = (Vec::new(), Vec::new());
    let store = context.open_store();
    if let Ok(store) = &store {
        reported(store, args, context, &mut found, &mut accepted)?;
    }
    own(args, context, &mut found, &mut accepted)?;
    let log = state_log(args, context)?;
    if let Err(error) = &store {
        context.report.say(format!("no host's report can be read: {}", error.message));
    }
    let mut all = join(found, &log);
    all.retain(|run| args.environment.as_ref().is_none_or(|environment| *environment == run.environment));
    if let Some(moment) = args.at {
        all.retain(|run| run.covers(moment));
    }
    if let Some(text) = &args.artifact {
        let wanted = named(text, &all, args, store.as_ref().ok())?;
        all.retain(|run| run.artifact == wanted);
    }
    let accepted = audit::accept(&mut all, accepted);
    if args.csv {
        return csv(&all, &context.report);
    }
    context.report.items_beside("AuditList", &all, ("acceptances", &accepted), |report| {
        table(report, &all, args, Timestamp::now()).iter().for_each(|line| report.line(line));
        accepted.iter().flat_map(|one| acceptance(report, one)).for_each(|line| report.line(line));
        if all.is_empty() {
            report.say(format!("nothing of `{}` is on record that fits", args.app));
        }
    });
    Ok(Exit::Done)
}

/// A moment as people type it; without a zone it is this machine's time.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let civil = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(DateTime::from));
    let zoned = civil.and_then(|civil| civil.to_zoned(TimeZone::system()));
    zoned.map(|zoned| zoned.timestamp()).map_err(|error| error.to_string())
}

/// What the hosts that report have on record. A host whose record is broken is named, and left out.
fn reported(
    store: &Store,
    args: &Audit,
    context: &Context,
    found: &mut Vec<Run>,
    accepted: &mut Vec<AcceptedOn>,
) -> Result<(), CliError> {
    for host in fleet::hosts(store).map_err(store_error)? {
        let on_record = host.report.and_then(|report| {
            acceptances::check(&report.acceptances).map_err(ReadError::Acceptances)?;
            Ok((fleet::history(store, &report, &args.app)?, report.acceptances))
        });
        match on_record {
            Ok((history, taken)) => {
                found.extend(runs(&host.host, history.entries()));
                accepted.extend(on(&host.host, taken));
            }
            Err(ReadError::Store(error)) => return Err(store_error(error)),
            Err(error) => {
                let what = format!("{} in {} is left out: {error}", host.host, host.environment);
                context.report.say(what);
            }
        }
    }
    Ok(())
}

fn on(host: &Name, taken: Vec<Chained>) -> impl Iterator<Item = AcceptedOn> {
    taken.into_iter().map(|accepted| AcceptedOn { host: host.clone(), accepted })
}

/// What this machine has on record and has not reported.
fn own(
    args: &Audit,
    context: &Context,
    found: &mut Vec<Run>,
    accepted: &mut Vec<AcceptedOn>,
) -> Result<(), CliError> {
    // A machine that is no host has nothing to add.
    let Ok(looking) = Looking::new(context, args.environment.as_ref()) else { return Ok(()) };
    let host = looking.shared.host.config.host.clone();
    let taken = acceptances::read(&RealDisk, &looking.shared.host.root).map_err(record_error)?;
    let new: Vec<AcceptedOn> = on(&host, taken).filter(|one| !accepted.contains(one)).collect();
    accepted.extend(new);
    let own = own_runs(args, &looking, &host, found)?;
    found.extend(own);
    Ok(())
}

fn own_runs(args: &Audit, looking: &Looking, host: &Name, reported: &[Run]) -> Result<Vec<Run>, CliError> {
    let history = History::read(&RealDisk, &looking.dir(&args.app)).map_err(record_error)?;
    let new = |run: &Run| {
        let same =
            |old: &Run| old.host == run.host && old.environment == run.environment && old.entry == run.entry;
        !reported.iter().any(same)
    };
    let mut own = runs(host, history.entries());
    let last = own.iter().rposition(|run| !new(run));
    Ok(match last {
        // Its own word is newer than its report.
        Some(last) if last + 1 < own.len() => own.split_off(last + 1),
        Some(_) => Vec::new(),
        None => own,
    })
}

fn state_log(args: &Audit, context: &Context) -> Result<Vec<crate::audit::Noted>, CliError> {
    let signers = context.config().ok().and_then(|config| config.trust.allowed_signers);
    let without = |why: &str| {
        context.report.say(format!("no commit can be named: {why}"));
        Ok(Vec::new())
    };
    let Ok(file) = context.state_file() else {
        return match cached_log(args, context)? {
            Some(log) => Ok(log),
            None => without("the agent has not fetched the state repository yet"),
        };
    };
    match log(&file, &args.app, signers.as_deref()) {
        Ok(log) => Ok(log),
        Err(HistoryError::Git(error)) => without(&error.to_string()),
        Err(HistoryError::File(error)) => Err(change_error(error.into())),
    }
}

/// The log as the agent of this host has it in its cache: nothing is fetched for an audit.
fn cached_log(args: &Audit, context: &Context) -> Result<Option<Vec<crate::audit::Noted>>, CliError> {
    let host = context.host()?;
    let Source::Git(source) = context.source(host.root.repository())? else { return Ok(None) };
    let signers = host.config.trust.allowed_signers.as_deref().map(Signers::read).transpose();
    let signers = signers.map_err(|error| CliError::new(Exit::Invalid, "SignersUnreadable", error))?;
    let found = io_runtime()?.block_on(audit::log_of(&source, &args.app, signers.as_ref()));
    found.map_err(|fault| CliError::new(Exit::Source, fault.reason(), &fault).hint(fault.hint()))
}

/// The artifact a person names: of those on record first, because the store may have forgotten it.
fn named(text: &str, all: &[Run], args: &Audit, store: Option<&Store>) -> Result<ArtifactId, CliError> {
    let hex = text.strip_prefix("b3:").unwrap_or(text);
    let fits = |run: &&Run| {
        let prefix = hex.len() >= refs::PREFIX_DIGITS_MIN && run.artifact.0.to_string().starts_with(hex);
        prefix || run.version.as_ref().is_some_and(|version| version.as_str() == text)
    };
    let mut known: Vec<ArtifactId> = all.iter().filter(fits).map(|run| run.artifact).collect();
    known.sort();
    known.dedup();
    match (known.as_slice(), store) {
        ([one], _) => Ok(*one),
        ([], Some(store)) => refs::resolve(store, Some(&args.app), text).map_err(store_error),
        ([], None) => {
            let what = format!("no artifact `{text}` of `{}` is on record", args.app);
            Err(CliError::new(Exit::NotFound, "ArtifactUnknown", what))
        }
        _ => {
            let what = format!("`{text}` was the name of several artifacts");
            Err(CliError::new(Exit::NotFound, "ArtifactAmbiguous", what).hint("give more digits of the id"))
        }
    }
}

fn table(report: &Report, all: &[Run], args: &Audit, now: Timestamp) -> Vec<String> {
    if all.is_empty() {
        return Vec::new();
    }
    let zone = TimeZone::system();
    let mut head = vec!["FROM", "UNTIL", "HOST", "ENV", "VERSION", "RESULT", "BY"];
    let one = args.environment.is_some();
    if one {
        head.retain(|word| *word != "ENV");
    }
    let head = head.iter().map(|word| report.tone(word, Tone::Strong)).collect();
    let row = |run: &Run| {
        let dash = || "-".to_owned();
        let time = |when: Option<Timestamp>| when.map(|when| local(when, now, &zone));
        let until = match (run.from, run.until) {
            (Some(_), None) => "now".to_owned(),
            (_, until) => time(until).unwrap_or_else(dash),
        };
        let mut row = vec![
            time(run.from).unwrap_or_else(dash),
            until,
            run.host.as_ref().map_or_else(dash, |host| cut(host.as_str(), 12)),
            cut(run.environment.as_str(), 8),
            called(run.version.as_ref(), &run.artifact),
            result(report, run),
            run.by.as_deref().map_or_else(dash, |by| cut(by.split('@').next().unwrap_or(by), 10)),
        ];
        if one {
            row.remove(3);
        }
        row
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(all.iter().map(row)).collect();
    let mut lines = Vec::new();
    for (number, line) in columns(&rows).into_iter().enumerate() {
        lines.push(line);
        let Some(run) = number.checked_sub(1).and_then(|number| all.get(number)) else { continue };
        let about = about(run);
        if !about.is_empty() {
            lines.extend(wrap(&about, "    ", report.width()));
        }
    }
    lines
}

fn result(report: &Report, run: &Run) -> String {
    let Some(result) = run.result else { return report.tone("not seen", Tone::Quiet) };
    let tone = match result {
        Result_::Healthy | Result_::Adopted | Result_::Removed => Tone::Good,
        Result_::Reverted | Result_::Superseded | Result_::Interrupted | Result_::Unverified => {
            Tone::Changing
        }
        Result_::Failed | Result_::Refused => Tone::Bad,
    };
    report.tone(&result.to_string(), tone)
}

/// A commit that an operator took although the host had refused it.
fn acceptance(report: &Report, one: &AcceptedOn) -> Vec<String> {
    let Acceptance { commit, from, refusal, by, reason, at, .. } = &one.accepted.acceptance;
    let from = from.as_deref().map(|from| format!("{} → ", short(from))).unwrap_or_default();
    let text = format!(
        "{} accepted {from}{} at {at:.0} by {by}: {reason} (it had refused: {refusal})",
        one.host,
        short(commit)
    );
    wrap(&text, "", report.width())
}

/// Why, and by which commit.
fn about(run: &Run) -> String {
    let mut told: Vec<String> = Vec::new();
    told.extend(run.reason.clone());
    told.extend(run.why.clone());
    told.extend(
        run.accepted.as_ref().map(|one| format!("accepted by {} although refused: {}", one.by, one.reason)),
    );
    if let Some(commit) = &run.commit {
        let id = &commit.id[..commit.id.len().min(12)];
        told.push(format!("commit {id} by {}, {}", commit.author, commit.signature));
    }
    told.join("; ")
}

/// One line of the CSV, in its order of columns.
#[derive(Serialize)]
struct Line<'a> {
    app: &'a Name,
    environment: &'a Name,
    host: Option<&'a Name>,
    artifact: String,
    version: Option<String>,
    attempt: Option<u64>,
    result: Option<String>,
    reason: Option<&'a str>,
    from: Option<String>,
    until: Option<String>,
    tried: Option<String>,
    by: Option<&'a str>,
    why: Option<&'a str>,
    commit: Option<&'a str>,
    commit_author: Option<&'a str>,
    commit_time: Option<String>,
    signature: Option<String>,
    entry: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(run: &'a Run) -> Self {
        let time = |when: Option<Timestamp>| when.map(|when| when.to_string());
        let commit = run.commit.as_ref();
        Self {
            app: &run.app,
            environment: &run.environment,
            host: run.host.as_ref(),
            artifact: run.artifact.to_string(),
            version: run.version.as_ref().map(ToString::to_string),
            attempt: run.attempt,
            result: run.result.map(|result| result.to_string()),
            reason: run.reason.as_deref(),
            from: time(run.from),
            until: time(run.until),
            tried: time(run.tried),
            by: run.by.as_deref(),
            why: run.why.as_deref(),
            commit: commit.map(|commit| commit.id.as_str()).or(run.state_commit.as_deref()),
            commit_author: commit.map(|commit| commit.author.as_str()),
            commit_time: time(commit.map(|commit| commit.time)),
            signature: commit.map(|commit| commit.signature.to_string()),
            entry: run.entry.as_deref(),
        }
    }
}

fn csv(all: &[Run], report: &Report) -> Outcome {
    let unwritable = |error: &dyn std::fmt::Display| CliError::new(Exit::Error, "CsvUnwritable", error);
    let mut writer = csv::Writer::from_writer(Vec::new());
    for run in all {
        writer.serialize(Line::of(run)).map_err(|error| unwritable(&error))?;
    }
    let text = writer.into_inner().map_err(|error| unwritable(&error))?;
    report.raw(&text);
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_day_a_local_time_or_an_instant() {
        assert_eq!(moment("2026-11-18T03:00:00Z").unwrap().to_string(), "2026-11-18T03:00:00Z");
        for text in ["2026-11-18", "2026-11-18 03:00", "2026-11-18T03:00:00"] {
            assert!(moment(text).is_ok(), "{text}");
        }
        assert!(moment("last night").is_err());
    }
}
