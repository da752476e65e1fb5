//! One app in detail: the first part of a description, and how its last attempt went.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use landfall_store::{ArtifactId, Version};

use super::table::{health_tone, sign, sync_tone};
use crate::cli::report::{Report, Tone, columns, span};
use crate::cli::text::{ago, local, wrap};
use crate::status::{LastAttempt, Operation, Running, Status, Wanted};

/// The answer, and where to read on.
pub fn lines(report: &Report, status: &Status, now: Timestamp) -> Vec<String> {
    let mut lines = header(report, status, now);
    if status.last_attempt.is_some() {
        lines.push(String::new());
        let more = format!("`landfall describe {}` shows conditions, attempts and evidence", status.app);
        lines.extend(wrap(&more, "  ", report.width()));
    }
    lines
}

/// Axes, what should run, what runs, and why.
pub fn header(report: &Report, status: &Status, now: Timestamp) -> Vec<String> {
    let (mark, tone) = sign(report, status);
    let name = format!("{}/{} on {}", status.app, status.environment, status.host);
    let mut lines = vec![format!("{} {}", report.tone(mark, tone), report.tone(&name, Tone::Strong))];
    lines.extend(columns(&rows(report, status, now)));
    lines.push(String::new());
    lines.extend(wrap(&status.message, "  ", report.width()));
    if let Some(next) = &status.next {
        lines.extend(wrap(&format!("next: {next}"), "  ", report.width()));
    }
    lines
}

fn rows(report: &Report, status: &Status, now: Timestamp) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: Option<String>| {
        rows.extend(value.map(|value| vec![format!("  {name}"), value]));
    };
    row("sync", Some(report.tone(&format!("{:?}", status.sync), sync_tone(status))));
    row("health", Some(report.tone(&format!("{:?}", status.health), health_tone(status))));
    let busy = status.operation != Operation::Idle;
    row("operation", busy.then(|| report.tone(&status.operation.to_string(), Tone::Changing)));
    row("should run", status.desired.as_ref().map(wanted));
    let running = status.running.as_ref();
    row("runs", running.map(|running| named(Some(&running.version), running.artifact)));
    row("processes", running.map(processes));
    row("since", running.and_then(|running| running.since).map(|since| moment(since, now)));
    row("last healthy", status.last_healthy.map(|artifact| artifact.short()));
    row("rollback to", status.rollback_target.map(|artifact| artifact.short()));
    row("state commit", status.state_commit.as_deref().map(|commit| commit.chars().take(12).collect()));
    if let Some(source) = &status.source {
        row("state from", Some(source.place.clone()));
        let accepted = source.accepted.as_deref().map(|commit| commit.chars().take(12).collect::<String>());
        row(
            "accepted",
            accepted.map(|commit| match &source.signed_by {
                Some(by) => format!("{commit} signed by {by}"),
                None => commit,
            }),
        );
        row("last contact", source.contact.map(|at| moment(at, now)));
    }
    row("last attempt", status.last_attempt.as_ref().map(|last| attempt(last, now)));
    rows
}

fn named(version: Option<&Version>, artifact: ArtifactId) -> String {
    format!("{} {}", version.map_or("?", |version| version.as_str()), artifact.short())
}

fn wanted(wanted: &Wanted) -> String {
    let by = wanted.by.as_deref().map(|by| format!(", by {by}")).unwrap_or_default();
    let why = wanted.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}{by}{why}", named(wanted.version.as_ref(), wanted.artifact))
}

fn processes(running: &Running) -> String {
    if running.pids.is_empty() {
        return "none: files only".to_owned();
    }
    let pids: Vec<String> = running.pids.iter().map(u32::to_string).collect();
    let proof = if running.attested { "all in this release" } else { "not proved to be in this release" };
    format!("{} ({proof})", pids.join(", "))
}

fn moment(then: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", local(then, now, &TimeZone::system()), ago(then, now))
}

fn attempt(last: &LastAttempt, now: Timestamp) -> String {
    let why = last.reason.as_deref().map(|reason| format!(", {reason}")).unwrap_or_default();
    format!(
        "{}: {}{why}, {} ago, took {}",
        last.attempt,
        last.result,
        ago(last.started, now),
        span(last.took_ms)
    )
}
