//! Word of this host for everybody who reads the store: `landfall report` in a process of its own, after every
//! attempt and from time to time. What comes of it is logged and decides nothing.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::agent::until;
use super::apps::jittered;
use crate::proc::OWN_PROGRAM;

/// Time for one report: far more than a slow store needs for a few small documents.
const REPORT_LIMIT: Duration = Duration::from_secs(60);
/// Attempts that end together are one report.
const GATHER: Duration = Duration::from_millis(500);
/// Bytes of a complaint that are logged.
const COMPLAINT_BYTES_MAX: u64 = 4_000;

/// How an agent reports.
#[derive(Debug, Clone)]
pub struct Reporting {
    /// What the program is called with.
    pub arguments: Vec<OsString>,
    /// After how long it reports again without any news.
    pub every: Duration,
}

/// What is next.
pub(super) enum Turn {
    Begin,
    Note(Result<(), String>),
}

/// When the next report is due, and what came of the last.
pub(super) struct Reporter {
    reporting: Option<Reporting>,
    due: Option<Instant>,
    /// Something happened since the report under way was begun.
    news: bool,
    underway: bool,
    complaint: Option<String>,
    ended: UnboundedReceiver<Result<(), String>>,
    end: UnboundedSender<Result<(), String>>,
}

impl Reporter {
    pub(super) fn new(reporting: Option<Reporting>) -> Self {
        let (end, ended) = unbounded_channel();
        let due = reporting.as_ref().map(|_| Instant::now() + GATHER);
        Self { reporting, due, news: false, underway: false, complaint: None, ended, end }
    }

    /// Other settings count from now on.
    pub(super) fn set(&mut self, reporting: Option<Reporting>) {
        self.due = reporting.as_ref().map(|_| Instant::now() + GATHER);
        self.reporting = reporting;
    }

    /// There is something to tell.
    pub(super) fn news(&mut self) {
        self.news = true;
        let soon = Instant::now() + GATHER;
        if self.reporting.is_some() && !self.underway {
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// Waits for the moment to begin a report, or for the end of the one under way.
    pub(super) async fn turn(&mut self) -> Turn {
        let due = self.due.filter(|_| !self.underway);
        tokio::select! {
            () = until(due) => Turn::Begin,
            Some(outcome) = self.ended.recv() => Turn::Note(outcome),
        }
    }

    /// Takes it.
    pub(super) fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Begin => self.begin(),
            Turn::Note(outcome) => self.note(outcome),
        }
    }

    /// Begins one.
    fn begin(&mut self) {
        let Some(reporting) = self.reporting.clone() else { return };
        (self.underway, self.news, self.due) = (true, false, None);
        let end = self.end.clone();
        tokio::task::spawn_local(async move {
            if end.send(report(&reporting.arguments).await).is_err() {
                debug!("a report ended while the agent was stopping");
            }
        });
    }

    /// Takes note of it. The same complaint is logged once.
    fn note(&mut self, outcome: Result<(), String>) {
        self.underway = false;
        let pause = self.reporting.as_ref().map(|reporting| jittered(reporting.every));
        self.due = pause.map(|pause| Instant::now() + if self.news { GATHER } else { pause });
        match (outcome, self.complaint.take()) {
            (Ok(()), Some(_)) => info!("this host is reported again"),
            (Ok(()), None) => {}
            (Err(why), before) => {
                if before.as_ref() != Some(&why) {
                    warn!(%why, "this host is not shown as reporting; its apps are not concerned");
                }
                self.complaint = Some(why);
            }
        }
    }
}

async fn report(arguments: &[OsString]) -> Result<(), String> {
    match tokio::time::timeout(REPORT_LIMIT, run(arguments)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("it took more than {} s", REPORT_LIMIT.as_secs())),
    }
}

/// Dropping the future ends the process.
async fn run(arguments: &[OsString]) -> Result<(), String> {
    let mut command = tokio::process::Command::new(OWN_PROGRAM);
    command.arg0("landfall").args(arguments).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut words = Vec::new();
    if let Some(errors) = &mut child.stderr {
        // A full pipe would hold the process up: the rest is read and dropped.
        errors.take(COMPLAINT_BYTES_MAX).read_to_end(&mut words).await.map_err(|error| error.to_string())?;
        tokio::io::copy(errors, &mut tokio::io::sink()).await.map_err(|error| error.to_string())?;
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    Err(if words.is_empty() { status.to_string() } else { words })
}
