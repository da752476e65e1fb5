//! What passes between the agent and a shim: files in `run/processes/<process>/`.
//!
//! `launch.json` (0600) carries the order with the environment and is removed as soon as it is read;
//! `record.json` is the shim's own account of what it runs; `stop.json` says how a stop is wanted;
//! `lock` is held by the shim for as long as it lives; at `socket` it hands out the app's listening socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::proc;
use crate::spec::Millis;
use crate::start::command::RunAs;
use crate::start::{Exit, ProcessId};

/// What a shim is to run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) start_id: String,
    pub(crate) argv: Vec<String>,
    pub(crate) release_dir: PathBuf,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) run_as: Option<RunAs>,
    pub(crate) instances: u32,
    pub(crate) restart_delay: Option<Millis>,
    pub(crate) stop: StopOrder,
    pub(crate) log: PathBuf,
    #[serde(default)]
    pub(crate) listen: Option<Listen>,
}

/// The listening socket that the processes are given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    /// What the app finds it by, in `LISTEN_FDNAMES`.
    pub(crate) name: String,
    /// Where the shim that holds it hands it out; none: nobody holds it.
    pub(crate) from: Option<PathBuf>,
}

/// How a shim is to stop its processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopOrder {
    pub(crate) signal: String,
    pub(crate) grace: Millis,
    pub(crate) argv: Option<Vec<String>>,
}

/// What a shim says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Raised when a field changes its meaning.
    pub(crate) format: u32,
    /// The boot of the machine in which these pids mean what they say; none: written by an older landfall.
    #[serde(default)]
    pub(crate) boot: Option<String>,
    pub(crate) start_id: String,
    pub(crate) release_dir: PathBuf,
    pub(crate) shim: ProcessId,
    /// One for each instance that runs.
    pub(crate) processes: Vec<ProcessId>,
    pub(crate) restarts: u32,
    pub(crate) last_exit: Option<Exit>,
    pub(crate) gave_up: bool,
    pub(crate) stop: StopOrder,
    /// The address of the listening socket it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listens: Option<SocketAddr>,
}

impl Record {
    /// Whether its pids are of this boot: those of another name strangers.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.boot.is_none() || self.boot == proc::boot()
    }
}

/// The format this landfall writes.
pub(crate) const RECORD_FORMAT: u32 = 1;

/// The shim's answer to whoever launched it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Every instance was started and the record is on disk.
    Started,
    /// Nothing runs, and why.
    Failed(String),
}

/// The files of one slot.
#[derive(Debug, Clone)]
pub(crate) struct SlotFiles {
    pub(crate) dir: PathBuf,
}

impl SlotFiles {
    pub(crate) fn new(run_dir: &Path, process: &landfall_store::Name) -> Self {
        Self { dir: run_dir.join("processes").join(process.as_str()) }
    }

    pub(crate) fn launch(&self) -> PathBuf {
        self.dir.join("launch.json")
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.dir.join("record.json")
    }

    pub(crate) fn stop(&self) -> PathBuf {
        self.dir.join("stop.json")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }
}
