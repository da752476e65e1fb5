//! `landfall history`: every attempt there was, newest first.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use landfall_store::{ArtifactId, Name, Version};
use schemars::JsonSchema;
use serde::Serialize;

use super::Outcome;
use super::change::short;
use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::look::{Looking, record_error};
use super::report::{Report, Tone, columns, span};
use super::text::{cut, local};
use crate::disk::RealDisk;
use crate::record::RecordError;
use crate::record::acceptances::{self, Acceptance, Chained};
use crate::record::history::{Entry, History, Outcome as Result_};
use crate::record::journal::StageTime;

/// Show every attempt to bring an app to a release, newest first.
///
/// The history is append-only: each entry names its parent by hash, so that one that was cut, changed, moved or
/// dropped is detected. `--verify` checks that; every other command that reads it does so, too. Below the attempts
/// stand commits of the state that operators took on this host with `landfall state accept`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall history web             the newest twenty attempts
  landfall history web -n 0        all of them
  landfall history web --verify    check the chain of hashes
  landfall describe web --attempt 7    what is known of one attempt")]
pub struct HistoryArgs {
    /// The app.
    pub app: Name,
    /// Check the chain and say what came of it, instead of the entries.
    #[arg(long)]
    pub verify: bool,
    /// At most this many entries; 0: all.
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub number: Option<usize>,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// Entries shown to people unless they ask for more.
const SHOWN: usize = 20;

/// One attempt, in the form machines rely on.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Attempt")]
pub struct Item {
    attempt: u64,
    app: Name,
    environment: Name,
    artifact: ArtifactId,
    version: Option<Version>,
    result: Result_,
    stage: String,
    reason: Option<String>,
    message: Option<String>,
    started: Timestamp,
    took_ms: u64,
    /// How long each stage took, in their order.
    stages: Vec<StageTime>,
    /// When an agent tries the same again if nothing changes.
    next_try: Option<Timestamp>,
    by: Option<String>,
    why: Option<String>,
    state_commit: Option<String>,
    previous: Option<ArtifactId>,
    entry: String,
    parent: String,
}

/// What a check of the chain came to.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HistoryCheck")]
pub struct Checked {
    app: Name,
    environment: Name,
    entries: usize,
    /// Commits that operators of this host took although it had refused them; their chain was checked, too.
    acceptances: usize,
    unbroken: bool,
    last: String,
}

/// Runs the command.
pub fn run(args: &HistoryArgs, context: &Context) -> Outcome {
    let looking = Looking::new(context, args.env.as_ref())?;
    looking.chosen(Some(&args.app))?;
    let history = History::read(&RealDisk, &looking.dir(&args.app)).map_err(broken)?;
    let accepted = acceptances::read(&RealDisk, &looking.shared.host.root).map_err(broken)?;
    if args.verify {
        verified(&context.report, &looking, &args.app, &history, accepted.len());
    } else {
        list(&context.report, args, &history, &accepted);
    }
    Ok(Exit::Done)
}

fn verified(report: &Report, looking: &Looking, app: &Name, history: &History, acceptances: usize) {
    let checked = Checked {
        app: app.clone(),
        environment: looking.environment.clone(),
        entries: history.entries().len(),
        acceptances,
        unbroken: true,
        last: history.last_hash().to_string(),
    };
    let said = format!("{} entries, unbroken, last {}", checked.entries, history.last_hash().short());
    report.items("HistoryCheckList", &[checked], |report| report.line(said));
}

fn broken(error: RecordError) -> CliError {
    let cli = record_error(error);
    match cli.reason.as_str() {
        "RecordDamaged" => CliError { reason: "HistoryDamaged".to_owned(), ..cli }
            .hint("what runs is not touched; restore `history` and `history.head` from a backup"),
        _ => cli,
    }
}

fn list(report: &Report, args: &HistoryArgs, history: &History, accepted: &[Chained]) {
    let default = if report.format() == super::report::Format::Table { SHOWN } else { 0 };
    let most = match args.number.unwrap_or(default) {
        0 => usize::MAX,
        count => count,
    };
    let entries: Vec<&Entry> = history.entries().iter().rev().take(most).collect();
    let items: Vec<Item> = entries.iter().map(|entry| item(entry)).collect();
    report.items_beside("HistoryList", &items, ("acceptances", accepted), |report| {
        let (now, zone) = (Timestamp::now(), TimeZone::system());
        for line in table(report, &entries, now, &zone) {
            report.line(line);
        }
        let shown = accepted.iter().rev().take(most);
        shown.for_each(|one| report.line(acceptance(report, &one.acceptance, now, &zone)));
        let older = history.entries().len() - entries.len();
        if older > 0 {
            report.say(format!("{older} older; `-n 0` shows all"));
        }
        if entries.is_empty() {
            report.say(format!("nothing was ever tried with `{}` here", args.app));
        }
    });
}

/// A commit that an operator took although this host had refused it, in a line below the attempts.
fn acceptance(report: &Report, one: &Acceptance, now: Timestamp, zone: &TimeZone) -> String {
    let (at, commit) = (local(one.at, now, zone), short(&one.commit));
    let word = report.tone("state accepted", Tone::Changing);
    let from = one.from.as_deref().map(|from| format!("{} → ", short(from))).unwrap_or_default();
    format!("{word}  {from}{commit}  {at}  {}  {}", person(&one.by), one.reason)
}

/// An attempt as machines read it.
pub fn item(entry: &Entry) -> Item {
    Item {
        attempt: entry.attempt,
        app: entry.app.clone(),
        environment: entry.environment.clone(),
        artifact: entry.target.artifact,
        version: version(entry).cloned(),
        result: entry.result,
        stage: entry.stage.to_string(),
        reason: entry.failure.as_ref().map(|failure| failure.reason.clone()),
        message: entry.failure.as_ref().map(|failure| failure.message.clone()),
        started: entry.started,
        took_ms: entry.took_ms,
        stages: entry.stages.clone(),
        next_try: entry.next_try(),
        by: entry.target.by.clone(),
        why: entry.target.why.clone(),
        state_commit: entry.target.state_commit.clone(),
        previous: entry.previous.as_ref().map(|release| release.artifact),
        entry: entry.hash().to_string(),
        parent: entry.parent.to_string(),
    }
}

fn version(entry: &Entry) -> Option<&Version> {
    entry.release.as_ref().map(|release| &release.version).or(entry.target.version.as_ref())
}

/// The table; only the last column is cut to fit.
fn table(report: &Report, entries: &[&Entry], now: Timestamp, zone: &TimeZone) -> Vec<String> {
    if entries.is_empty() {
        return Vec::new();
    }
    let plain = columns(&rows(entries, now, zone, |text, _| text.to_owned()));
    let coloured = columns(&rows(entries, now, zone, |text, tone| report.tone(text, tone)));
    let why = std::iter::once("WHY".to_owned()).chain(entries.iter().map(|entry| why(entry)));
    let lines = plain.iter().zip(coloured).zip(why);
    let width = plain.iter().map(|line| line.chars().count()).max().unwrap_or(0) + 2;
    let whole = |((plain, coloured), why): ((&String, String), String)| {
        let room = report.width().saturating_sub(width).max(MOST_CUT);
        let pad = " ".repeat(width - plain.chars().count());
        format!("{coloured}{pad}{}", cut(&why, room)).trim_end().to_owned()
    };
    lines.map(whole).collect()
}

/// Characters of the reason that are shown however wide the rest is.
const MOST_CUT: usize = 12;

fn rows(
    entries: &[&Entry],
    now: Timestamp,
    zone: &TimeZone,
    tone: impl Fn(&str, Tone) -> String,
) -> Vec<Vec<String>> {
    let head = ["#", "VERSION", "ARTIFACT", "RESULT", "STARTED", "TOOK", "BY"];
    let head = head.iter().map(|word| tone(word, Tone::Strong)).collect();
    let row = |entry: &&Entry| {
        vec![
            entry.attempt.to_string(),
            version(entry).map_or_else(|| "-".to_owned(), |version| cut(version.as_str(), 12)),
            entry.target.artifact.short(),
            tone(&entry.result.to_string(), result_tone(entry.result)),
            local(entry.started, now, zone),
            took(entry.took_ms),
            by(entry),
        ]
    };
    std::iter::once(head).chain(entries.iter().map(row)).collect()
}

/// From ten seconds on, whole ones are exact enough.
fn took(ms: u64) -> String {
    match ms {
        10_000..60_000 => format!("{}s", ms / 1000),
        _ => span(ms),
    }
}

/// A person's short name: of a mail address what stands before the `@`.
fn person(by: &str) -> String {
    cut(by.split('@').next().unwrap_or(by), 10)
}

/// Why it failed, in one word, else what it put right, else why it was asked for.
fn why(entry: &Entry) -> String {
    match (&entry.failure, entry.heals) {
        (Some(failure), _) => failure.reason.clone(),
        (None, Some(heals)) => heals.to_string(),
        (None, None) => entry.target.why.clone().unwrap_or_default(),
    }
}

/// Who asked for it; what is put right nobody has to ask for.
fn by(entry: &Entry) -> String {
    match (entry.heals, entry.target.by.as_deref()) {
        (Some(_), _) => "landfall".to_owned(),
        (None, Some(by)) => person(by),
        (None, None) => "-".to_owned(),
    }
}

const fn result_tone(result: Result_) -> Tone {
    match result {
        Result_::Healthy | Result_::Adopted | Result_::Removed => Tone::Good,
        Result_::Reverted | Result_::Superseded | Result_::Interrupted | Result_::Unverified => {
            Tone::Changing
        }
        Result_::Failed | Result_::Refused => Tone::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::history::NO_PARENT;
    use crate::record::journal::{Class, Failure, Stage, Target};

    fn entry(attempt: u64, version: &str, result: Result_, failure: Option<Failure>) -> Entry {
        let target = Target {
            version: Some(version.parse().unwrap()),
            by: Some("maria@acme.example".to_owned()),
            why: Some("release of the week".to_owned()),
            ..Target::of(ArtifactId::of(version.as_bytes()))
        };
        Entry {
            attempt,
            app: "web".parse().unwrap(),
            environment: "prod".parse().unwrap(),
            target,
            release: None,
            result,
            stage: Stage::Committing,
            failure,
            heals: None,
            previous: None,
            started: "2026-11-18T14:20:03Z".parse().unwrap(),
            took_ms: 38_400,
            stages: vec![],
            retry_in_ms: None,
            stopped: false,
            after: None,
            parent: NO_PARENT,
        }
    }

    #[test]
    fn the_newest_attempt_is_first_and_every_line_fits_a_terminal() {
        let failure = Failure {
            class: Class::Health,
            reason: "HealthCheckFailed".to_owned(),
            message: "a long sentence".to_owned(),
        };
        let entries = [
            entry(57, "2.14.0", Result_::Reverted, Some(failure)),
            entry(56, "2.13.4", Result_::Healthy, None),
        ];
        let entries: Vec<&Entry> = entries.iter().collect();
        let lines =
            table(&Report::plain(), &entries, "2026-11-20T12:00:00Z".parse().unwrap(), &TimeZone::UTC);
        assert_eq!(
            lines,
            [
                "#   VERSION  ARTIFACT      RESULT    STARTED      TOOK  BY     WHY",
                "57  2.14.0   243861bc17cb  Reverted  11-18 14:20  38s   maria  HealthCheckFailed",
                "56  2.13.4   67bfe7a6a502  Healthy   11-18 14:20  38s   maria  release of the w…",
            ]
        );
        assert!(lines.iter().all(|line| line.chars().count() <= 80));
    }
}
