//! What passes between the agent and a runner: a job down its standard input, a report up its output.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spec::Millis;
use crate::start::Exit;
use crate::start::RunAs;
use crate::start::shim::order::Listen;

/// One command to run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) argv: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) run_as: Option<RunAs>,
    /// None: until it ends or is stopped.
    pub(crate) timeout: Option<Millis>,
    pub(crate) stop_signal: String,
    pub(crate) grace: Millis,
    /// None: only the last lines are kept, for the report.
    pub(crate) log: Option<PathBuf>,
    pub(crate) on_agent_death: OnAgentDeath,
    /// A listening socket it is given.
    pub(crate) listen: Option<Listen>,
}

/// What becomes of the command when nobody holds the runner's input open any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OnAgentDeath {
    /// It is ended.
    End,
    /// It runs on, to its timeout at most.
    Finish,
}

/// How the command ended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    Exited(Exit),
    TimedOut,
    /// Its runner was told to stop it.
    Stopped,
    NotStarted(String),
}

/// What the runner knows afterwards.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) end: End,
    pub(crate) tail: Vec<String>,
    pub(crate) output_bytes: u64,
    pub(crate) left_behind: u32,
}
