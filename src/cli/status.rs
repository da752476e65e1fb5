//! `landfall status`: what should run, what runs, since when, is it well, and if not, what to type next.

use clap::Args;
use jiff::Timestamp;
use landfall_store::Name;

use super::context::Context;
use super::exit::Exit;
use super::look::{Looking, record_error};
use super::report::{Report, Tone, columns};
use super::text::{WIDTH, ago, cut, wrap};
use super::{Outcome, io_runtime};
use crate::status::{Health, Status, Sync, assess, look};

/// Show what should run here, what runs, and whether it is well.
///
/// Three axes: SYNC says whether the release that runs is the one the state asks for, HEALTH how what runs is,
/// and the operation, if there is one, what the agent does this second. `OutOfSync` with `Healthy` means that
/// an older release serves; below the table stands why, and what to type next.
///
/// Works with the agent stopped, the store unreachable and the state unreadable. Changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall status                  every app of this host
  landfall status web -o json      one app, with conditions, for scripts
  landfall status --check && …     go on only if everything is synced and healthy")]
pub struct StatusArgs {
    /// One app [default: every app of this host].
    pub app: Option<Name>,
    /// Exit with 0 only if everything is synced and healthy, else with 1.
    #[arg(long)]
    pub check: bool,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// Runs the command.
pub fn run(args: &StatusArgs, context: &Context) -> Outcome {
    let looking = Looking::new(context, args.env.as_ref())?;
    let runtime = io_runtime()?;
    let mut items = Vec::new();
    for app in looking.chosen(args.app.as_ref())? {
        let site = looking.site(&app)?;
        let view = runtime.block_on(look(&site, &looking.around(&app))).map_err(record_error)?;
        items.push(assess(&view));
    }
    let table = |report: &Report| show(report, &items, &looking);
    context.report.items("StatusList", &items, table);
    let fine = !items.is_empty() && items.iter().all(Status::is_synced_and_healthy);
    Ok(if args.check && !fine { Exit::Differs } else { Exit::Done })
}

fn show(report: &Report, items: &[Status], looking: &Looking) {
    if items.is_empty() {
        let environment = &looking.environment;
        report.line(format!("no app in `{environment}` on this host yet"));
        report.say(format!("next: landfall deploy <app> {environment} <version>"));
    }
    for line in table(report, items, Timestamp::now()) {
        report.line(line);
    }
    if !looking.has_agent() {
        report.line(format!("no agent is running on {}: `landfall watch`", looking.root().display()));
    }
}

/// The table, and below it a paragraph for each app that is not fine.
fn table(report: &Report, items: &[Status], now: Timestamp) -> Vec<String> {
    if items.is_empty() {
        return Vec::new();
    }
    let mut lines = fitting(report, items, now);
    for item in items.iter().filter(|item| !item.is_fine() || item.removed) {
        lines.extend(paragraph(report, item));
    }
    lines
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
    let plain = |detail| columns(&rows(items, detail, now, |text, _| text.to_owned()));
    let fits = |detail: &&Detail| plain(**detail).iter().all(|line| line.chars().count() <= WIDTH);
    let detail = DETAILS.iter().find(fits).copied().unwrap_or(DETAILS[DETAILS.len() - 1]);
    columns(&rows(items, detail, now, |text, tone| report.tone(text, tone)))
}

fn rows(
    items: &[Status],
    detail: Detail,
    now: Timestamp,
    tone: impl Fn(&str, Tone) -> String,
) -> Vec<Vec<String>> {
    let head = ["APP", "ENV", "SYNC", "HEALTH", "RUNNING", "DESIRED", "SINCE"];
    let head = head.iter().map(|word| tone(word, Tone::Strong)).collect();
    let row = |item: &Status| {
        let running = item.running.as_ref().map(|running| (Some(&running.version), running.artifact));
        let desired = item.desired.as_ref().map(|desired| (desired.version.as_ref(), desired.artifact));
        let cell = |name: Option<_>| name.map_or_else(|| "-".to_owned(), |(v, a)| artifact(v, a, detail));
        let since = item.running.as_ref().and_then(|running| running.since);
        vec![
            item.app.to_string(),
            item.environment.to_string(),
            tone(&format!("{:?}", item.sync), sync_tone(item)),
            match item.removed {
                true => "-".to_owned(),
                false => tone(&format!("{:?}", item.health), health_tone(item.health)),
            },
            cell(running),
            if item.removed { "absent".to_owned() } else { cell(desired) },
            since.map_or_else(|| "-".to_owned(), |since| ago(since, now)),
        ]
    };
    std::iter::once(head).chain(items.iter().map(row)).collect()
}

fn artifact(
    version: Option<&landfall_store::Version>,
    artifact: landfall_store::ArtifactId,
    detail: Detail,
) -> String {
    let mut digits = artifact.short();
    digits.truncate(detail.digits);
    match version {
        Some(version) if detail.version > 0 => format!("{} {digits}", cut(version.as_str(), detail.version)),
        _ => digits,
    }
}

fn paragraph(report: &Report, item: &Status) -> Vec<String> {
    let mut lines =
        vec![String::new(), report.tone(&format!("{}/{}", item.app, item.environment), Tone::Strong)];
    lines.extend(wrap(&item.message, "  ", WIDTH));
    if let Some(next) = &item.next {
        lines.extend(wrap(&format!("next: {next}"), "  ", WIDTH));
    }
    lines
}

/// What a person holds back is not shown as if all were well.
fn sync_tone(item: &Status) -> Tone {
    match item.sync {
        Sync::Synced if item.health != Health::Suspended => Tone::Good,
        Sync::Synced | Sync::OutOfSync | Sync::Unknown => Tone::Changing,
    }
}

const fn health_tone(health: Health) -> Tone {
    match health {
        Health::Healthy => Tone::Good,
        Health::Progressing | Health::Suspended | Health::Unknown => Tone::Changing,
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
            desired: Some(Wanted { artifact: id(desired), version: Some(version(desired)) }),
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
            suspended: None,
            pinned: None,
            conditions: Vec::new(),
            message: "it runs and is healthy".to_owned(),
            next: None,
            agent: true,
        }
    }

    fn shown(items: &[Status]) -> Vec<String> {
        table(&Report::plain(), items, now())
    }

    #[test]
    fn a_fine_app_is_one_line() {
        let item = status("web", "2.13.4", "2.13.4");
        assert_eq!(
            shown(&[item]),
            [
                "APP  ENV         SYNC    HEALTH   RUNNING          DESIRED          SINCE",
                "web  production  Synced  Healthy  2.13.4 67bfe7a6  2.13.4 67bfe7a6  1d21h",
            ]
        );
    }

    #[test]
    fn an_app_that_is_not_fine_gets_a_paragraph_with_what_to_type_next() {
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
                "APP     ENV         SYNC       HEALTH   RUNNING          DESIRED          SINCE",
                "web     production  OutOfSync  Healthy  2.13.4 67bfe7a6  2.14.0 243861bc  1d21h",
                "worker  production  OutOfSync  Healthy  1.0.0 6131ede3   1.1.0 07c7664d   1d21h",
                "",
                "web/production",
                "  2.14.0 (fb5011dcc81e) failed here in attempt 7: health check `main` failed:",
                "  GET http://127.0.0.1:3100/api/health answered 500; 2.13.4 runs and is healthy",
                "  next: `landfall describe web` shows the evidence; deploy a fixed version",
                "",
                "worker/production",
                "  attempt 3 of 1.1.0 (000000000000) is Preparing",
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
            assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
            let digits = &id(items[0].running.as_ref().unwrap().version.as_str()).short()[..8];
            assert!(lines[1].contains(digits), "{lines:#?}");
        }
    }
}
