//! Every app of a host on one line, and below each that is not well why, and what to type next.

use jiff::Timestamp;
use landfall_store::{ArtifactId, Version};

use crate::cli::report::{Report, Tone, columns};
use crate::cli::text::{ago, cut, wrap};
use crate::status::{Condition, ConditionStatus, Health, Kind, Operation, Status, Sync};

/// Columns before a reason.
const INDENT: &str = "    ";

/// The table with its reasons.
pub fn lines(report: &Report, items: &[Status], now: Timestamp) -> Vec<String> {
    let mut rows = fitting(report, items, now).into_iter();
    let mut lines: Vec<String> = rows.by_ref().take(1).collect();
    for (item, row) in items.iter().zip(rows) {
        lines.push(row);
        if !item.is_fine() || item.removed {
            lines.extend(wrap(&item.message, INDENT, report.width()));
        }
        if let Some(next) = &item.next {
            lines.extend(wrap(&format!("next: {next}"), INDENT, report.width()));
        }
    }
    lines.extend(summary(items));
    lines
}

/// One line that tells of many apps whether there is anything to read above.
fn summary(items: &[Status]) -> Option<String> {
    const MANY: usize = 4;
    if items.len() < MANY {
        return None;
    }
    let well = items.iter().filter(|item| item.is_fine()).count();
    let sick = items.iter().filter(|item| mark_of(item) == Mark::Bad).count();
    let mut told = vec![format!("{} apps: {well} well", items.len())];
    told.extend((sick > 0).then(|| format!("{sick} not")));
    let rest = items.len() - well - sick;
    told.extend((rest > 0).then(|| format!("{rest} to look at or on their way")));
    Some(told.join(", "))
}

/// What an app needs, at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Good,
    Moving,
    Look,
    Bad,
    Paused,
}

/// Suspended, pinned, without an agent or on a stale state: never good.
pub fn mark_of(item: &Status) -> Mark {
    if item.health == Health::Suspended {
        return Mark::Paused;
    }
    if item.operation != Operation::Idle {
        return Mark::Moving;
    }
    if item.removed {
        return Mark::Good;
    }
    match item.health {
        Health::Degraded | Health::Missing => Mark::Bad,
        Health::Progressing => Mark::Moving,
        Health::Healthy if item.is_fine() && is_watched(item) => Mark::Good,
        Health::Healthy | Health::Unknown | Health::Suspended => Mark::Look,
    }
}

/// An agent works here, on a state that it can read.
fn is_watched(item: &Status) -> bool {
    let blind = |said: &Condition| said.kind == Kind::SourceReady && said.status == ConditionStatus::False;
    item.agent && !item.conditions.iter().any(blind)
}

/// The sign of an app, in its colour.
pub fn sign(report: &Report, item: &Status) -> (&'static str, Tone) {
    let marks = report.marks();
    match mark_of(item) {
        Mark::Good => (marks.good, Tone::Good),
        Mark::Moving => (marks.moving, Tone::Changing),
        Mark::Look => (marks.look, Tone::Changing),
        Mark::Bad => (marks.bad, Tone::Bad),
        Mark::Paused => (marks.paused, Tone::Changing),
    }
}

/// How much of an artifact's name a cell holds.
#[derive(Clone, Copy)]
struct Detail {
    version: usize,
    digits: usize,
}

/// From talkative to terse; the first that fits is taken, else the last.
const DETAILS: [Detail; 4] = [
    Detail { version: usize::MAX, digits: 12 },
    Detail { version: usize::MAX, digits: 8 },
    Detail { version: 8, digits: 8 },
    Detail { version: 0, digits: 8 },
];

fn fitting(report: &Report, items: &[Status], now: Timestamp) -> Vec<String> {
    let plain = |detail| columns(&rows(report, items, detail, now, |text, _| text.to_owned()));
    let fits = |detail: &&Detail| plain(**detail).iter().all(|line| line.chars().count() <= report.width());
    let detail = DETAILS.iter().find(fits).copied().unwrap_or(DETAILS[DETAILS.len() - 1]);
    columns(&rows(report, items, detail, now, |text, tone| report.tone(text, tone)))
}

fn rows(
    report: &Report,
    items: &[Status],
    detail: Detail,
    now: Timestamp,
    tone: impl Fn(&str, Tone) -> String,
) -> Vec<Vec<String>> {
    let head = ["", "APP", "ENV", "SYNC", "HEALTH", "RUNNING", "DESIRED", "SINCE"];
    let head = head.iter().map(|word| if word.is_empty() { String::new() } else { tone(word, Tone::Strong) });
    let row = |item: &Status| {
        let running = item.running.as_ref().map(|running| (Some(&running.version), running.artifact));
        let desired = item.desired.as_ref().map(|desired| (desired.version.as_ref(), desired.artifact));
        let cell = |name: Option<_>| name.map_or_else(|| "-".to_owned(), |(v, a)| artifact(v, a, detail));
        let since = item.running.as_ref().and_then(|running| running.since);
        let (mark, of_mark) = sign(report, item);
        vec![
            tone(mark, of_mark),
            cut(item.app.as_str(), NAME_COLUMNS),
            cut(item.environment.as_str(), NAME_COLUMNS),
            tone(&format!("{:?}", item.sync), sync_tone(item)),
            tone(&health(item), health_tone(item)),
            cell(running),
            cell(desired),
            since.map_or_else(|| "-".to_owned(), |since| ago(since, now)),
        ]
    };
    std::iter::once(head.collect()).chain(items.iter().map(row)).collect()
}

/// Columns of a name: with them the tersest table fits 80.
const NAME_COLUMNS: usize = 16;

/// What the agent does this second says more than that something is under way.
fn health(item: &Status) -> String {
    match (item.health, item.operation, item.removed) {
        (_, _, true) => "Removed".to_owned(),
        (Health::Suspended, ..) if item.pinned.is_some() => "Pinned".to_owned(),
        (Health::Progressing, Operation::In(stage), _) => stage.to_string(),
        (health, ..) => format!("{health:?}"),
    }
}

fn artifact(version: Option<&Version>, artifact: ArtifactId, detail: Detail) -> String {
    let mut digits = artifact.short();
    digits.truncate(detail.digits);
    match version {
        Some(version) if detail.version > 0 => format!("{} {digits}", cut(version.as_str(), detail.version)),
        _ => digits,
    }
}

/// In the colour of the axis.
pub fn sync_tone(item: &Status) -> Tone {
    match item.sync {
        Sync::Synced if item.health != Health::Suspended => Tone::Good,
        Sync::Synced | Sync::OutOfSync | Sync::Unknown => Tone::Changing,
    }
}

/// In the colour of the axis; what nobody watches is not green.
pub fn health_tone(item: &Status) -> Tone {
    match item.health {
        Health::Healthy if is_watched(item) => Tone::Good,
        _ if item.removed => Tone::Quiet,
        Health::Healthy | Health::Progressing | Health::Suspended | Health::Unknown => Tone::Changing,
        Health::Degraded | Health::Missing => Tone::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::journal::Stage;
    use crate::status::{Operation, Running, Wanted};
    use landfall_store::ArtifactId;

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    fn id(name: &str) -> ArtifactId {
        ArtifactId::of(name.as_bytes())
    }

    fn status(app: &str, running: &str, desired: &str) -> Status {
        let version = |text: &str| text.parse().unwrap();
        Status {
            app: app.parse().unwrap(),
            environment: "production".parse().unwrap(),
            host: "web-1".parse().unwrap(),
            sync: if running == desired { Sync::Synced } else { Sync::OutOfSync },
            health: Health::Healthy,
            operation: Operation::Idle,
            removed: false,
            desired: Some(Wanted {
                artifact: id(desired),
                version: Some(version(desired)),
                by: None,
                why: None,
            }),
            running: Some(Running {
                artifact: id(running),
                version: version(running),
                pid: Some(1),
                pids: vec![1],
                since: Some("2026-11-18T14:20:03Z".parse().unwrap()),
                attested: true,
            }),
            last_healthy: Some(id(running)),
            rollback_target: None,
            state_commit: None,
            source: None,
            last_attempt: None,
            suspended: None,
            pinned: None,
            conditions: Vec::new(),
            message: "it runs and is healthy".to_owned(),
            next: None,
            agent: true,
        }
    }

    fn shown(items: &[Status]) -> Vec<String> {
        lines(&Report::plain(), items, now())
    }

    #[test]
    fn a_fine_app_is_one_line() {
        let item = status("web", "2.13.4", "2.13.4");
        assert_eq!(
            shown(&[item]),
            [
                "   APP  ENV         SYNC    HEALTH   RUNNING          DESIRED          SINCE",
                "✓  web  production  Synced  Healthy  2.13.4 67bfe7a6  2.13.4 67bfe7a6  1d21h",
            ]
        );
    }

    #[test]
    fn an_app_that_is_not_fine_has_its_reason_below_it_with_what_to_type_next() {
        let mut item = status("web", "2.13.4", "2.14.0");
        item.message = "2.14.0 (fb5011dcc81e) failed here in attempt 7: health check `main` failed: GET \
                        http://127.0.0.1:3100/api/health answered 500; 2.13.4 runs and is healthy"
            .to_owned();
        item.next = Some("`landfall describe web` shows the evidence; deploy a fixed version".to_owned());
        let mut moving = status("worker", "1.0.0", "1.1.0");
        moving.operation = Operation::In(Stage::Preparing);
        moving.message = "attempt 3 of 1.1.0 (000000000000) is Preparing".to_owned();
        assert_eq!(
            shown(&[item, moving]),
            [
                "   APP     ENV         SYNC       HEALTH   RUNNING   DESIRED   SINCE",
                "!  web     production  OutOfSync  Healthy  67bfe7a6  243861bc  1d21h",
                "    2.14.0 (fb5011dcc81e) failed here in attempt 7: health check `main` failed:",
                "    GET http://127.0.0.1:3100/api/health answered 500; 2.13.4 runs and is",
                "    healthy",
                "    next: `landfall describe web` shows the evidence; deploy a fixed version",
                "↻  worker  production  OutOfSync  Healthy  6131ede3  07c7664d  1d21h",
                "    attempt 3 of 1.1.0 (000000000000) is Preparing",
            ]
        );
    }

    #[test]
    fn ids_get_shorter_before_a_line_gets_longer_than_a_terminal() {
        let long = "2026.11.20-rc.4+build.1234567";
        for items in [
            vec![status("web", "2.13.4", "2.14.0")],
            vec![status("accounts-backend", "2.13.4", "2.14.0")],
            vec![status("web", long, "2.14.0"), status("accounts-backend", long, long)],
        ] {
            let lines = shown(&items);
            assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
            let digits = &id(items[0].running.as_ref().unwrap().version.as_str()).short()[..8];
            assert!(lines[1].contains(digits), "{lines:#?}");
        }
    }

    #[test]
    fn a_wide_terminal_shows_more_of_each_artifact() {
        let items = [status("web", "2.13.4", "2.14.0")];
        let wide = lines(&Report::plain().wide(120), &items, now());
        assert!(wide[1].contains("2.13.4 67bfe7a6a502"), "{wide:#?}");
    }

    #[test]
    fn green_is_only_what_is_well_wanted_and_watched() {
        let fine = status("web", "1", "1");
        assert_eq!((mark_of(&fine), health_tone(&fine)), (Mark::Good, Tone::Good));
        let said = |kind, status| Condition {
            kind,
            status,
            reason: String::new(),
            message: String::new(),
            last_transition: None,
        };
        let blind = vec![said(Kind::SourceReady, ConditionStatus::False)];
        for (mark, other) in [
            (Mark::Paused, Status { health: Health::Suspended, ..fine.clone() }),
            (Mark::Look, Status { agent: false, ..fine.clone() }),
            (Mark::Look, Status { conditions: blind, ..fine.clone() }),
            (Mark::Bad, Status { health: Health::Degraded, ..fine.clone() }),
            (Mark::Moving, Status { health: Health::Progressing, ..fine.clone() }),
        ] {
            assert_eq!(mark_of(&other), mark);
            assert_ne!(health_tone(&other), Tone::Good, "{other:#?}");
        }
        assert_eq!(mark_of(&status("web", "1", "2")), Mark::Look, "an older release serves");
    }

    #[test]
    fn many_apps_are_summed_up() {
        let mut items: Vec<Status> = ["a", "b", "c", "d"].map(|app| status(app, "1", "1")).into();
        items[1].health = Health::Degraded;
        assert_eq!(shown(&items).last().map(String::as_str), Some("4 apps: 3 well, 1 not"));
    }
}
