//! `landfall status --fleet`: every host that reports to the store, from any machine that reads it.

use jiff::Timestamp;
use landfall_store::Name;
use schemars::JsonSchema;
use serde::Serialize;

use super::StatusArgs;
use crate::cli::Outcome;
use crate::cli::change::called;
use crate::cli::context::{Context, store_error};
use crate::cli::exit::Exit;
use crate::cli::report::{Report, Tone, columns};
use crate::cli::text::{ago, wrap};
use crate::fleet::{self, Called, Glance, HostReport, Reported};

/// Columns before a reason.
const INDENT: &str = "    ";

/// One app on one host, as that host said.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "FleetStatus")]
pub struct Item {
    host: Name,
    environment: Name,
    /// Absent where the host reports no app, or its report cannot be read.
    app: Option<Name>,
    /// When the host said it, by its own clock.
    reported: Option<Timestamp>,
    /// It should have reported again by now.
    overdue: bool,
    /// What it said; absent where that cannot be read.
    #[serde(flatten)]
    said: Option<Glance>,
    /// Why its report cannot be read.
    error: Option<String>,
    #[serde(skip)]
    is_fine: bool,
}

/// Runs `status --fleet`.
pub fn run(args: &StatusArgs, context: &Context) -> Outcome {
    let store = context.open_store()?;
    let now = Timestamp::now();
    let hosts = fleet::hosts(&store).map_err(store_error)?;
    let asked = |environment: &Name| args.env.as_ref().is_none_or(|env| env == environment);
    let mut items: Vec<Item> =
        hosts.iter().filter(|host| asked(&host.environment)).flat_map(|host| items_of(host, now)).collect();
    if let Some(app) = &args.app {
        items.retain(|item| item.app.as_ref().is_none_or(|here| here == app));
    }
    context.report.items("FleetStatusList", &items, |report| {
        lines(report, &items, now).iter().for_each(|line| report.line(line));
        if items.is_empty() {
            report.say(format!("no host reports to the store {}", store.location()));
            report.say("next: `[report] to = \"store\"` in each host.toml");
        }
    });
    let fine = !items.is_empty() && items.iter().all(|item| item.is_fine);
    Ok(if args.check && !fine { Exit::Differs } else { Exit::Done })
}

fn items_of(reported: &Reported, now: Timestamp) -> Vec<Item> {
    match &reported.report {
        Ok(report) if report.apps.is_empty() => vec![bare(reported, Some((report, now)), None)],
        Ok(report) => report
            .apps
            .iter()
            .map(|app| Item {
                app: Some(app.app.clone()),
                is_fine: !report.is_overdue(now) && app.glance().is_some_and(|said| is_fine(&said)),
                error: app
                    .glance()
                    .is_none()
                    .then(|| "its landfall writes another form of status".to_owned()),
                said: app.glance(),
                ..bare(reported, Some((report, now)), None)
            })
            .collect(),
        Err(error) => vec![bare(reported, None, Some(error.to_string()))],
    }
}

fn bare(reported: &Reported, report: Option<(&HostReport, Timestamp)>, error: Option<String>) -> Item {
    let overdue = report.is_some_and(|(report, now)| report.is_overdue(now));
    Item {
        host: reported.host.clone(),
        environment: reported.environment.clone(),
        app: None,
        reported: report.map(|(report, _)| report.reported),
        overdue,
        said: None,
        is_fine: !overdue && error.is_none(),
        error,
    }
}

fn is_fine(said: &Glance) -> bool {
    said.sync == "Synced" && (said.health == "Healthy" || said.removed)
}

fn lines(report: &Report, items: &[Item], now: Timestamp) -> Vec<String> {
    if items.is_empty() {
        return Vec::new();
    }
    let head = ["HOST", "ENV", "APP", "HEALTH", "SYNC", "RUNNING", "REPORTED"];
    let head = head.iter().map(|word| report.tone(word, Tone::Strong)).collect();
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(items.iter().map(|item| row(report, item, now))).collect();
    let mut lines = Vec::new();
    for (number, line) in columns(&rows).into_iter().enumerate() {
        lines.push(line);
        let Some(item) = number.checked_sub(1).and_then(|number| items.get(number)) else { continue };
        let why = item.said.as_ref().filter(|said| !is_fine(said)).map(|said| &said.message);
        for what in why.into_iter().chain(&item.error) {
            lines.extend(wrap(what, INDENT, report.width()));
        }
        if item.overdue {
            lines.extend(wrap("it has not reported since: is its agent running?", INDENT, report.width()));
        }
    }
    lines
}

fn row(report: &Report, item: &Item, now: Timestamp) -> Vec<String> {
    let dash = || "-".to_owned();
    let said = item.said.as_ref();
    let running = said.and_then(|said| said.running.as_ref());
    let reported = item.reported.map_or_else(dash, |then| ago(then, now));
    vec![
        item.host.to_string(),
        item.environment.to_string(),
        item.app.as_ref().map_or_else(dash, Name::to_string),
        said.map_or_else(dash, |said| report.tone(&said.health, tone(said))),
        said.map_or_else(dash, |said| said.sync.clone()),
        running.map_or_else(dash, |Called { artifact, version }| called(version.as_ref(), artifact)),
        if item.overdue { report.tone(&reported, Tone::Bad) } else { reported },
    ]
}

fn tone(said: &Glance) -> Tone {
    match said.health.as_str() {
        "Healthy" => Tone::Good,
        "Progressing" | "Suspended" | "Unknown" => Tone::Changing,
        _ => Tone::Bad,
    }
}
