//! Processes of an app that landfall did not start: known since it was adopted, ended when landfall takes over.
//!
//! Until the first deploy they are left alone. Then two could not hold one port, so they are ended where the new
//! release is started: by the identity they were recorded with, never by a pid alone, and out of the process manager
//! that would bring them back.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, RealDisk};
use crate::layout::AppDir;
use crate::proc::{self, Holder};
use crate::record::RecordError;
use crate::record::sealed::{self, Sealed};
use crate::spec::StopSpec;
use crate::start::pm2::foreign;
use crate::start::{Account, ProcessId};

/// Time for killed processes to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// What runs an adopted app, until landfall does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Its processes, main ones first.
    pub processes: Vec<ProcessId>,
    /// The account they run as.
    pub user: u32,
    /// The TCP ports they listen on.
    pub ports: Vec<u16>,
    /// The entry of a pm2 that keeps them running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pm2: Option<Pm2Entry>,
    /// How they are asked to stop.
    pub stop: StopSpec,
}

/// An entry of somebody's pm2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pm2Entry {
    /// Its `PM2_HOME`.
    pub home: PathBuf,
    /// Its name there.
    pub name: String,
    /// The program that talks to it.
    pub program: PathBuf,
    /// The search path by which it finds node.
    pub path: String,
    /// The account of its daemon, where that is not landfall's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
}

impl Sealed for Adopted {
    const KIND: &'static str = "adopted";
}

/// Why they could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// landfall's own record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Their pm2 could not be asked.
    #[error("the entry `{name}` of the pm2 in {home} could not be deleted: {why}")]
    Pm2 {
        /// The entry.
        name: String,
        /// Its `PM2_HOME`.
        home: PathBuf,
        /// What was tried and what it said.
        why: String,
    },
    /// One outlived everything, or belongs to somebody else.
    #[error("{0} runs the app outside landfall and could not be ended")]
    Alive(Holder),
}

impl Adopted {
    /// What runs the app outside landfall, if it was adopted and not taken over yet.
    pub fn read(dir: &AppDir) -> Result<Option<Self>, RecordError> {
        sealed::read(&RealDisk, &record(dir))
    }

    /// Makes it durable.
    pub fn write(&self, dir: &AppDir) -> Result<(), RecordError> {
        sealed::write(&RealDisk, &record(dir), self)
    }

    /// Those that still run.
    pub fn living(&self) -> Vec<ProcessId> {
        let mut living: Vec<ProcessId> =
            self.processes.iter().copied().filter(|id| proc::is_alive(*id)).collect();
        if let Some(pm2) = &self.pm2 {
            // A reload has given it other workers.
            living.extend(foreign::workers(&pm2.home, &pm2.name));
        }
        let below: Vec<ProcessId> =
            living.iter().flat_map(|id| proc::descendants(id.pid)).map(|stat| stat.id).collect();
        living.extend(below);
        living.sort_unstable_by_key(|id| (id.started_ticks, id.pid));
        living.dedup();
        living
    }

    /// Ends them, and forgets them once they are gone.
    pub async fn take_over(dir: &AppDir) -> Result<(), TakeOverError> {
        let Some(adopted) = Self::read(dir)? else { return Ok(()) };
        let living = adopted.living();
        tracing::info!(processes = living.len(), "ending what runs the app outside landfall");
        if let Some(pm2) = &adopted.pm2 {
            pm2.delete(adopted.stop.grace.duration()).await?;
        }
        adopted.end(living).await?;
        let path = record(dir);
        RealDisk.remove(&path).map_err(RecordError::io(path))?;
        Ok(())
    }

    async fn end(&self, known: Vec<ProcessId>) -> Result<(), TakeOverError> {
        let asked = foreign::signal(&self.stop.signal).unwrap_or(Signal::TERM);
        let mut left = known;
        for (signal, limit) in [(asked, self.stop.grace.duration()), (Signal::KILL, KILL_WAIT)] {
            left.extend(self.living());
            left.retain(|id| proc::is_alive(*id));
            for id in &left {
                proc::signal(*id, signal);
            }
            let deadline = tokio::time::Instant::now() + limit;
            for id in &left {
                // They end side by side: what is left of the time is for all.
                let rest = deadline.saturating_duration_since(tokio::time::Instant::now());
                proc::exited_within(*id, rest).await;
            }
        }
        left.retain(|id| proc::is_alive(*id));
        match left.into_iter().find_map(Holder::of) {
            Some(holder) => Err(TakeOverError::Alive(holder)),
            None => Ok(()),
        }
    }
}

impl Pm2Entry {
    async fn delete(&self, grace: Duration) -> Result<(), TakeOverError> {
        let failed =
            |why: String| TakeOverError::Pm2 { name: self.name.clone(), home: self.home.clone(), why };
        foreign::delete(self, grace).await.map_err(|error| failed(error.to_string()))
    }
}

fn record(dir: &AppDir) -> PathBuf {
    dir.run().join("adopted")
}
