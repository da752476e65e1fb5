//! Staying with an app in the foreground, and what Ctrl-C means before and after the verdict.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Outcome;
use super::error::CliError;
use super::exit::Exit;
use super::follow_logs::{self, Follow};
use super::report::Report;
use crate::disk::RealDisk;
use crate::layout::AppDir;
use crate::observe;
use crate::pending::Pending;
use crate::proc;
use crate::record::journal::{Failure, Journal, Stage};
use crate::record::release::ReleaseRecord;
use crate::start::{Exit as End, ProcessId, SlotFacts};
use crate::tail::Place;
use crate::watch::Site;

/// Time for a supervisor to write down how its process ended.
const EXIT_WAIT: Duration = Duration::from_secs(5);
/// Between two looks at that.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Lines of a log to begin with: what the app said at its start.
const LINES: usize = 50;

/// Ctrl-C or SIGTERM.
struct Stop(Signal, Signal);

impl Stop {
    fn listen() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(|error| CliError::new(Exit::Error, "Signals", error));
        Ok(Self(listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?))
    }

    async fn wished(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

/// Ctrl-C while an attempt runs. The first asks it to end at its next safe point before the switch; after the switch
/// there is none, because nothing proved would run.
pub struct Interrupts {
    count: watch::Receiver<u32>,
    dir: AppDir,
}

impl Interrupts {
    /// Listens from now on.
    pub fn listen(dir: &AppDir, report: Report) -> Result<Self, CliError> {
        let mut stop = Stop::listen()?;
        let (send, count) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                stop.wished().await;
                report.say(
                    "ending at the next safe point; once more ends at once, and the next landfall goes on",
                );
                send.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { count, dir: dir.clone() })
    }

    /// Whether somebody wished for an end.
    pub fn once(&self) -> bool {
        *self.count.borrow() > 0
    }

    /// Whether the attempt is to end here.
    pub fn before_the_switch(&self) -> bool {
        let switched = || {
            let journal = Journal::read(&RealDisk, &self.dir);
            journal.is_ok_and(|journal| journal.is_some_and(|journal| journal.stage >= Stage::Switching))
        };
        self.once() && !switched()
    }

    /// Ends with the next wish.
    pub fn next(&self) -> Pending<'static, ()> {
        let mut count = self.count.clone();
        count.mark_unchanged();
        Box::pin(async move {
            if count.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    /// Ends with the second wish.
    pub async fn twice(&self) {
        let mut count = self.count.clone();
        if count.wait_for(|count| *count > 1).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Shows what the app prints until it ends or somebody wishes it to; then nothing of it runs, and the status is its
/// own.
pub async fn until_it_ends(site: &Site, report: Report) -> Outcome {
    let mut stop = Stop::listen()?;
    let app = site.app().map_err(super::look::record_error)?;
    let (_, record) = observe::current(&app, site.effects()).await;
    let Some(record) = record else { return Ok(Exit::Done) };
    report.say("attached: Ctrl-C stops the app (--detach leaves it running)");
    let place = Place { label: app.name.to_string(), dir: site.dir.logs(), only: None };
    let logs = follow_logs::until_nobody_reads(
        Follow { several_apps: false, places: vec![place], lines: Some(LINES) },
        report,
    );
    let shown = async {
        // Without a reader the app goes on all the same.
        drop(logs.await);
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        () = stop.wished() => None,
        end = first_end(site, &record) => Some(end?),
        () = shown => None,
    };
    site.stop().await.map_err(failed)?;
    let end = match ended {
        Some(end) => end,
        None => facts(site, &record).await?.into_iter().find_map(|facts| facts.last_exit),
    };
    Ok(match end {
        Some(End::Code(code)) => Exit::Own(u8::try_from(code).unwrap_or(u8::MAX)),
        Some(End::Signal(signal)) => Exit::Own(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        None => Exit::Done,
    })
}

/// Waits for the end of any process of the release, and says how it ended.
async fn first_end(site: &Site, record: &ReleaseRecord) -> Result<Option<End>, CliError> {
    let mut watched = JoinSet::new();
    let running = facts(site, record).await?.into_iter().flat_map(|facts| facts.processes);
    for id in running {
        watched.spawn(async move {
            proc::exited(id).await;
            id
        });
    }
    match watched.join_next().await {
        Some(Ok(ended)) => how(site, record, ended).await,
        Some(Err(error)) => Err(CliError::new(Exit::Error, "Internal", error)),
        // It had ended before it was looked at.
        None => Ok(facts(site, record).await?.into_iter().find_map(|facts| facts.last_exit)),
    }
}

/// The supervisor writes it down a moment after the end.
async fn how(site: &Site, record: &ReleaseRecord, ended: ProcessId) -> Result<Option<End>, CliError> {
    let written = async {
        loop {
            let known = facts(site, record).await?.into_iter().find_map(|facts| facts.last_exit);
            if known.is_some() {
                return Ok(known);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tracing::debug!(pid = ended.pid, "a process of the app ended");
    tokio::time::timeout(EXIT_WAIT, written).await.unwrap_or(Ok(None))
}

async fn facts(site: &Site, record: &ReleaseRecord) -> Result<Vec<SlotFacts>, CliError> {
    let processes = site.processes();
    let mut all = Vec::new();
    for start in processes.starts(record) {
        let manager = processes.manager(start.manager).map_err(failed)?;
        let slot = processes.slot(&start.name);
        all.push(
            manager.inspect(&slot).await.map_err(|error| CliError::new(Exit::Error, "StartFailed", error))?,
        );
    }
    Ok(all)
}

fn failed(failure: Failure) -> CliError {
    CliError::new(Exit::Error, failure.reason, failure.message)
}
