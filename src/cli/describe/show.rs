//! A description for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::report::{Report, Tone, bytes, columns, span};
use super::super::status::header;
use super::super::text::{ago, local, wrap};
use super::{Attempt, Description, InProgress, Quarantined, Release, evidence};
use crate::record::controls::Decision;
use crate::record::history::Entry;
use crate::record::journal::{After, Class, Stage, StageTime};
use crate::status::{Condition, ConditionStatus, Kind, Status};

/// Everything about an app.
pub fn description(report: &Report, description: &Description) {
    let now = Timestamp::now();
    header(report, &description.status, now).into_iter().for_each(|line| report.line(line));
    conditions(report, &description.status);
    if let Some(shown) = &description.in_progress {
        in_progress(report, shown, now);
    }
    for shown in &description.attempts {
        report.line("");
        attempt(report, shown);
    }
    quarantine(report, &description.quarantine);
    decisions(report, &description.decisions);
    releases(report, &description.releases);
    if !description.status.agent {
        report.line("");
        report.line("no agent is running on this root: `landfall watch`");
    }
}

/// Decisions shown to people; `-o json` has all.
const DECISIONS_SHOWN: usize = 10;

fn decisions(report: &Report, decisions: &[Decision]) {
    if decisions.is_empty() {
        return;
    }
    report.line("");
    title(report, "Decided here");
    let now = Timestamp::now();
    for decision in decisions.iter().take(DECISIONS_SHOWN) {
        let about = decision.about.as_deref().map(|about| format!(" {about}")).unwrap_or_default();
        let until = decision.until.map(|until| format!(" until {until:.0}")).unwrap_or_default();
        let why = decision.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let at = local(decision.at, now, &TimeZone::system());
        indented(report, &format!("{at} {}{about}{until} by {}{why}", decision.what, decision.by));
    }
}

fn title(report: &Report, text: &str) {
    report.line(report.tone(text, Tone::Strong));
}

fn indented(report: &Report, text: &str) {
    wrap(text, "  ", report.width()).into_iter().for_each(|line| report.line(line));
}

fn conditions(report: &Report, status: &Status) {
    report.line("");
    title(report, "Conditions");
    let now = Timestamp::now();
    let row = |condition: &Condition| {
        vec![
            format!("  {:?}", condition.kind),
            report.tone(&format!("{:?}", condition.status), tone(condition)),
            condition.reason.clone(),
            condition.last_transition.map_or_else(|| "-".to_owned(), |since| ago(since, now)),
        ]
    };
    let rows: Vec<Vec<String>> = status.conditions.iter().map(row).collect();
    for (condition, line) in status.conditions.iter().zip(columns(&rows)) {
        report.line(line);
        // The answer above says it already.
        if tone(condition) != Tone::Good && condition.message != status.message {
            wrap(&condition.message, "      ", report.width()).into_iter().for_each(|line| report.line(line));
        }
    }
}

fn in_progress(report: &Report, shown: &InProgress, now: Timestamp) {
    report.line("");
    title(report, &format!("Attempt {}: in progress", shown.attempt));
    let started = local(shown.started, now, &TimeZone::system());
    indented(report, &format!("{} started {started} ({})", shown.artifact.short(), ago(shown.started, now)));
    let done = timeline(&shown.stages);
    let so_far = if done.is_empty() { String::new() } else { format!("{done}, ") };
    indented(report, &format!("{so_far}{} now", shown.stage));
    if let Some(waiting) = &shown.waiting {
        indented(report, &format!("waits after try {}: {}", waiting.tried, waiting.failure.message));
    }
}

/// `Fetching 12ms, Preparing 1.2s`.
fn timeline(stages: &[StageTime]) -> String {
    let told: Vec<String> = stages.iter().map(|time| format!("{} {}", time.stage, span(time.ms))).collect();
    told.join(", ")
}

/// Positive conditions are good when they are true, negative ones are only there when something is amiss.
const fn tone(condition: &Condition) -> Tone {
    match (condition.kind, condition.status) {
        (Kind::Reconciling, _) | (_, ConditionStatus::Unknown) => Tone::Changing,
        (Kind::Stalled | Kind::Quarantined | Kind::RolledBack | Kind::Drifted, _) => Tone::Bad,
        (_, ConditionStatus::True) => Tone::Good,
        (_, ConditionStatus::False) => Tone::Bad,
    }
}

/// One attempt.
pub fn attempt(report: &Report, attempt: &Attempt) {
    let entry = &attempt.entry;
    let now = Timestamp::now();
    title(report, &format!("Attempt {}: {}", entry.attempt, entry.result));
    let version = entry.release.as_ref().map(|release| release.version.to_string());
    let by = entry.target.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
    let why = entry.target.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let what =
        format!("{} {}{by}{why}", version.unwrap_or_else(|| "?".to_owned()), entry.target.artifact.short());
    indented(report, &what);
    let started = local(entry.started, now, &TimeZone::system());
    indented(report, &format!("started {started}, took {}", span(entry.took_ms)));
    if !entry.stages.is_empty() {
        indented(report, &timeline(&entry.stages));
    }
    indented(report, &stages(entry));
    if let Some(failure) = &entry.failure {
        indented(report, &format!("{}: {}", failure.reason, failure.message));
    }
    match &entry.after {
        Some(After::Failed(failure)) => indented(report, &format!("after steps: {}", failure.message)),
        Some(After::CutShort) => {
            indented(report, "after steps: cut short by the end of the agent, not run again")
        }
        Some(After::Superseded) => indented(report, "after steps: left out, a newer state came first"),
        Some(After::Done) | None => {}
    }
    if let Some(next) = entry.next_try() {
        indented(
            report,
            &format!("tried again at {} if nothing changes", local(next, now, &TimeZone::system())),
        );
    }
    if let Some(kept) = &attempt.evidence {
        evidence::lines(kept).into_iter().for_each(|line| report.line(format!("    {line}")));
    }
    for log in &attempt.step_logs {
        report.line(format!("    step log: {}", log.display()));
    }
}

/// The last stage it was in. After a revert the class of the failure tells where it turned back.
fn stages(entry: &Entry) -> String {
    let class = entry.failure.as_ref().map(|failure| failure.class);
    match (entry.stage, class) {
        (Stage::Reverting, Some(Class::Start | Class::Manager)) => {
            "failed in Starting, then Reverting".to_owned()
        }
        (Stage::Reverting, _) => "failed in Verifying, then Reverting".to_owned(),
        (stage, Some(_)) => format!("failed in {stage}"),
        (stage, None) => format!("ended in {stage}"),
    }
}

fn quarantine(report: &Report, items: &[Quarantined]) {
    if items.is_empty() {
        return;
    }
    report.line("");
    title(report, "Quarantine");
    let now = Timestamp::now();
    for item in items {
        let since = local(item.since, now, &TimeZone::system());
        let what = format!(
            "{} {} since {since}, attempt {}: {}",
            item.version,
            item.artifact.short(),
            item.attempt,
            item.failure.message
        );
        indented(report, &what);
        let lifted = match item.left {
            true => "one fresh attempt when the state names it again: it has named something else since",
            false => {
                "not tried again until the artifact or its env is another, or the state names something else and then this again"
            }
        };
        wrap(lifted, "    ", report.width()).into_iter().for_each(|line| report.line(line));
    }
}

fn releases(report: &Report, items: &[Release]) {
    if items.is_empty() {
        return;
    }
    report.line("");
    title(report, "Releases on disk");
    let row = |item: &Release| {
        let marks = [
            (item.current, "current"),
            (item.healthy, "proved healthy"),
            (item.quarantined, "quarantined"),
            (!item.prepared, "unfinished"),
        ];
        let marks: Vec<&str> = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
        vec![
            format!("  {}", item.release),
            item.artifact.map_or_else(|| "-".to_owned(), |artifact| artifact.short()),
            item.bytes.map_or_else(|| "-".to_owned(), bytes),
            item.files.map_or_else(
                || "-".to_owned(),
                |files| format!("{files} {}", if files == 1 { "file" } else { "files" }),
            ),
            marks.join(", "),
        ]
    };
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    columns(&rows).into_iter().for_each(|line| report.line(line));
}
