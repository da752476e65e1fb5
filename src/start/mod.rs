//! Process managers: who starts, reloads, inspects and stops the app's processes.
//!
//! A manager's own word is never proof that a release works. It says what it was asked to run and what it
//! sees; [`crate::health`] judges from `/proc` and from probes.

mod command;
pub mod direct;
mod durable;
pub mod pm2;
pub mod preflight;
pub mod shim;
pub mod strangers;
pub mod systemd;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_store::Name;
use serde::{Deserialize, Serialize};

use crate::pending::Pending;
use crate::plan::Running;
use crate::spec::{StartSpec, StopSpec};

pub(crate) use command::{RunAs, prepare};
pub use command::{argv, listens};

/// The account a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

/// One process of one app and environment on this host, whatever release it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The app.
    pub app: Name,
    /// Its environment.
    pub environment: Name,
    /// The process's name in the recipe.
    pub process: Name,
    /// `<app dir>/run`: the manager's own records, outside the releases.
    pub run_dir: PathBuf,
    /// Where its output goes.
    pub logs_dir: PathBuf,
    /// `<app dir>/releases`, to tell this app's processes from others by their working directory.
    pub releases_dir: PathBuf,
    /// `<app dir>/current`.
    pub current: PathBuf,
    /// The account it runs as; none: landfall's own.
    pub account: Option<Account>,
}

impl Slot {
    /// The file that holds its latest output; older ones stand beside it as `.1`, `.2`, ….
    pub fn log_path(&self) -> PathBuf {
        self.logs_dir.join(format!("{}.log", self.process))
    }
}

/// A wish to run one release in a slot.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Which process.
    pub slot: Slot,
    /// What to run; `${KEY}` in its argument lists is expanded from `env` by the manager.
    pub spec: StartSpec,
    /// The release's directory (resolved, not through `current`).
    pub release_dir: PathBuf,
    /// The complete environment of the process; nothing else is inherited.
    pub env: BTreeMap<String, String>,
    /// Random per start; also in `env` as `LANDFALL_START`.
    pub start_id: String,
}

/// A process as the kernel knows it: a pid alone is reused, a pid with its start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks since boot.
    pub started_ticks: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It returned this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// What is seen of a slot now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotFacts {
    /// The start this manager was last asked for, if it still knows.
    pub start_id: Option<String>,
    /// The release directory of that start.
    pub release_dir: Option<PathBuf>,
    /// Live processes of the app itself (not the shim or the pm2 daemon), main one first.
    pub processes: Vec<ProcessId>,
    /// Who starts them again when they die: the shim, the pm2 daemon. None: nobody does.
    pub supervisor: Option<ProcessId>,
    /// Restarts since that start.
    pub restarts: u32,
    /// How it last ended, if it is not running.
    pub last_exit: Option<Exit>,
    /// The manager starts again what is not there now: nobody else needs to.
    pub returns: bool,
    /// The manager has stopped trying (restart budget used up, pm2 `errored`).
    pub gave_up: bool,
    /// The supervisor of an older start that goes on serving, on the same socket, until this one is proved.
    pub beside: Option<ProcessId>,
}

/// An older start that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its own random id.
    pub start_id: String,
    /// No process of it is older.
    pub since_ticks: u64,
}

impl SlotFacts {
    /// How these processes run, where so many of this release should.
    pub fn running(&self, release_dir: &Path, instances: u32) -> Running {
        if self.release_dir.as_deref() != Some(release_dir) {
            return Running::No;
        }
        // One too many is as wrong as one too few: two sets of workers started at once.
        let whole = self.processes.len() == usize::try_from(instances).unwrap_or(usize::MAX);
        match (self.supervisor, whole) {
            _ if self.gave_up => Running::GaveUp,
            (Some(_), true) => Running::Yes,
            (Some(_), false) if self.returns => Running::Returning,
            (None, true) => Running::Unsupervised,
            (_, false) => Running::No,
        }
    }
}

/// Why a manager could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The manager itself does not work (pm2 missing, daemon dead): no fault of the release.
    #[error("{manager} is not available: {why}")]
    ManagerDown {
        /// Which manager.
        manager: &'static str,
        /// What was tried and what it said.
        why: String,
    },
    /// The manager refused this launch.
    #[error("{manager} could not start `{process}`: {why}")]
    Refused {
        /// Which manager.
        manager: &'static str,
        /// Which process.
        process: Name,
        /// What it said.
        why: String,
    },
    /// A process could not be ended.
    #[error("`{process}` (pid {pid}) is still alive {waited_ms} ms after it was killed")]
    WouldNotDie {
        /// Which process.
        process: Name,
        /// Its pid.
        pid: u32,
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// The manager's own records under `run/` could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Starts, inspects and stops the processes of a slot. Each call is bounded in time by the manager itself.
///
/// All implementations pass the same contract tests.
pub trait Manager {
    /// Whether the manager works at all. Changes nothing that runs.
    fn ready<'a>(&'a self, slot: &'a Slot) -> Pending<'a, Result<(), StartError>>;

    /// Replaces whatever runs in the slot by this launch, or puts it beside what serves until it is settled, where
    /// both can be given one listening socket. Returns when the manager has done its part;
    /// whether the release works is not its to say. Starting the same `start_id` twice is one start.
    fn start<'a>(&'a self, launch: &'a Launch) -> Pending<'a, Result<(), StartError>>;

    /// What is seen of the slot now. A slot never started is `SlotFacts::default()`.
    fn inspect<'a>(&'a self, slot: &'a Slot) -> Pending<'a, Result<SlotFacts, StartError>>;

    /// Goes back from the last start to the one that serves beside it, if that runs this launch's release, whole:
    /// it is not started again. None: there is no such one, and nothing was done.
    fn keep<'a>(&'a self, _: &'a Launch) -> Pending<'a, Result<Option<Kept>, StartError>> {
        Box::pin(async { Ok(None) })
    }

    /// The last start is proved: what served beside it ends.
    fn settle<'a>(&'a self, _: &'a Slot) -> Pending<'a, Result<(), StartError>> {
        Box::pin(async { Ok(()) })
    }

    /// Ends every process of the slot, by the identity recorded when it was started, the whole group, with
    /// the kill behind the grace. A slot that does not run is a success.
    fn stop<'a>(&'a self, slot: &'a Slot, stop: &'a StopSpec) -> Pending<'a, Result<(), StartError>>;

    /// As [`Manager::stop`], and nothing of the slot comes back after a reboot.
    fn forget<'a>(&'a self, slot: &'a Slot, stop: &'a StopSpec) -> Pending<'a, Result<(), StartError>> {
        self.stop(slot, stop)
    }

    /// Makes the running set survive a reboot, where the manager does that itself (pm2 save).
    fn persist<'a>(&'a self, slot: &'a Slot) -> Pending<'a, Result<(), StartError>>;
}
