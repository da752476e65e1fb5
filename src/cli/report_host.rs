//! `landfall report`: this host's status and histories, left in the store for everybody who reads it.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use landfall_store::backend::BackendError;
use landfall_store::{Name, StoreError};
use schemars::JsonSchema;
use serde::Serialize;

use super::context::{Context, store_error};
use super::error::CliError;
use super::exit::Exit;
use super::look::{Looking, record_error};
use super::report::{API_VERSION, bytes};
use super::{Outcome, io_runtime};
use crate::disk::{Disk, RealDisk};
use crate::fleet::{self, AppReport, Chain, HostReport, Published};
use crate::record::RecordError;
use crate::record::acceptances;
use crate::record::history::{HISTORY_BYTES_MAX, History};
use crate::record::quarantine::Quarantine;
use crate::status::{assess, look};

/// Leave this host's status and histories in the store.
///
/// `status --fleet` and `audit` read them from any machine that can read the store. The agent does this by itself
/// where host.toml says `[report] to = "store"`. Needs a store that takes writes from this host, and no agent.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  landfall report                  once, as the agent does after every attempt")]
pub struct ReportArgs {
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// What was left.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HostReported")]
pub struct Item {
    host: Name,
    environment: Name,
    apps: usize,
    documents: u64,
    bytes: u64,
}

/// Runs the command.
pub fn run(args: &ReportArgs, context: &Context) -> Outcome {
    let looking = Looking::new(context, args.env.as_ref())?;
    let mut histories = BTreeMap::new();
    let mut apps = Vec::new();
    let runtime = io_runtime()?;
    for app in looking.chosen(None)? {
        let (report, history) = runtime.block_on(app_report(&looking, &app))?;
        apps.push(report);
        histories.insert(app, history);
    }
    let config = &looking.shared.host.config;
    let report = HostReport {
        api_version: API_VERSION.to_owned(),
        kind: "HostReport".to_owned(),
        host: config.host.clone(),
        environment: looking.environment.clone(),
        roles: config.roles.clone(),
        landfall: env!("CARGO_PKG_VERSION").to_owned(),
        reported: Timestamp::now(),
        every_ms: config.report.as_ref().map_or(0, |report| report.every.0),
        apps,
        acceptances: acceptances::read(&RealDisk, &looking.shared.host.root).map_err(record_error)?,
    };
    let store = looking.shared.host.reports_to().open().map_err(store_error)?;
    let published = fleet::publish(&store, &report, &histories).map_err(report_error)?;
    tell(&report, published, context);
    Ok(Exit::Done)
}

async fn app_report(looking: &Looking, app: &Name) -> Result<(AppReport, (Vec<u8>, History)), CliError> {
    let site = looking.site(app)?;
    let view = look(&site, &looking.around(app)).await.map_err(record_error)?;
    let dir = looking.dir(app);
    // The checked history first: lines that are appended meanwhile are reported next time.
    let history = History::read(&RealDisk, &dir).map_err(record_error)?;
    let path = dir.history();
    let unreadable = |source| record_error(RecordError::io(&path)(source));
    let bytes = RealDisk.read(&path, HISTORY_BYTES_MAX).map_err(unreadable)?.unwrap_or_default();
    let quarantine = Quarantine::read(&RealDisk, &dir).map_err(record_error)?;
    let status = serde_json::to_value(assess(&view))
        .map_err(|error| CliError::new(Exit::Error, "StatusUnwritable", error))?;
    let report = AppReport {
        app: app.clone(),
        status,
        quarantined: quarantine.in_force().map(|item| item.release.artifact).collect(),
        history: Chain { entries: history.entries().len() as u64, last: history.last_hash() },
    };
    Ok((report, (bytes, history)))
}

fn tell(report: &HostReport, published: Published, context: &Context) {
    let item = Item {
        host: report.host.clone(),
        environment: report.environment.clone(),
        apps: report.apps.len(),
        documents: published.documents,
        bytes: published.bytes,
    };
    context.report.items("HostReportedList", &[&item], |out| {
        let apps = if item.apps == 1 { "app" } else { "apps" };
        out.line(format!(
            "{} in {}: {} {apps}, {}",
            item.host,
            item.environment,
            item.apps,
            bytes(item.bytes)
        ));
    });
}

/// How it is told that a report could not be left.
fn report_error(error: StoreError) -> CliError {
    match error {
        StoreError::Backend(error @ BackendError::Denied { .. }) => CliError::new(
            Exit::Supply,
            "StoreReadOnly",
            error,
        )
        .hint(
            "give this host the right to write below `status/` (`landfall serve`: a line with its name in the \
             file of --report-token-file, and `[report] token_file` here), or say `[report] to = \"off\"` in \
             host.toml",
        ),
        error => store_error(error),
    }
}
