//! Runs one command of a release to its end, and nothing of it beyond that.
//!
//! The command runs below a runner (`landfall shim run`), the subreaper of all it starts: forked twice, in a
//! session of its own, deaf to SIGTERM or with its output closed, everything is ended with the command or at
//! its timeout. Output is kept as head and tail within [`limits::OUTPUT_BYTES_MAX`], however much is printed.

mod attached;
mod capture;
mod job;
pub mod limits;
pub(crate) mod runner;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use attached::Attached;
pub(crate) use job::{End, Job, OnAgentDeath};

use crate::spec::{Command, Millis, StepKind};
use crate::start::{Account, Exit, argv};

/// Exit status by which a step says that trying again may help (`EX_TEMPFAIL`).
pub const TRANSIENT_STATUS: i32 = 75;

/// The landfall binary that serves as runner.
#[derive(Debug, Clone)]
pub struct Runner {
    executable: PathBuf,
}

impl Runner {
    /// Runners are this very program.
    pub fn of_this_program() -> Self {
        Self::with_executable(crate::proc::OWN_PROGRAM.into())
    }

    /// Runners are this landfall binary.
    pub fn with_executable(executable: PathBuf) -> Self {
        Self { executable }
    }
}

/// One run of a command.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// What runs; `${KEY}` in its argument list is expanded from `env`.
    pub command: &'a Command,
    /// A migration outlives a killed agent, up to its timeout: half of it may be worse than none.
    pub kind: StepKind,
    /// Time until everything of it is ended.
    pub timeout: Millis,
    /// The working directory.
    pub dir: PathBuf,
    /// The complete environment.
    pub env: &'a BTreeMap<String, String>,
    /// The account it runs as; none: landfall's own.
    pub account: Option<&'a Account>,
    /// Where its output goes; replaced if it exists.
    pub log: PathBuf,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepEnd {
    /// It returned 0.
    Ok,
    /// It returned [`TRANSIENT_STATUS`]: another try may help.
    Transient,
    /// It ended otherwise.
    Failed(Exit),
    /// It was ended at its timeout.
    TimedOut,
    /// It could not be started, and why.
    NotStarted(String),
}

/// What is known after a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// How it ended.
    pub end: StepEnd,
    /// Its last lines, at most [`limits::TAIL_LINES_MAX`].
    pub tail: Vec<String>,
    /// Bytes it printed, kept or not.
    pub output_bytes: u64,
    /// Processes it left behind, which were killed.
    pub left_behind: u32,
}

/// The step could not even be tried: no fault of the release.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The runner could not be started.
    #[error("{}: the step runner did not start: {source}", executable.display())]
    Runner {
        /// Which binary.
        executable: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The runner ended without a report (killed, or out of memory). Its session was killed; what had left
    /// the session may still run.
    #[error("the step runner was lost ({why}): nothing is known of the step's end")]
    Lost {
        /// What is known.
        why: String,
    },
}

/// Runs a step to its end. Dropping the future ends the step, unless it is a migration.
pub async fn run(runner: &Runner, run: &Run<'_>) -> Result<StepReport, StepError> {
    let report = run_until(runner, run, std::future::pending()).await?;
    Ok(report.expect("nothing makes it give way"))
}

/// Runs a step to its end, or until `give_way` ends. Then everything the step started is ended before this
/// returns `None`. A migration does not give way.
pub async fn run_until(
    runner: &Runner,
    run: &Run<'_>,
    give_way: impl Future<Output = ()>,
) -> Result<Option<StepReport>, StepError> {
    let argv = match argv(run.command, run.env) {
        Ok(argv) => argv,
        Err(missing) => return Ok(Some(not_started(missing.to_string()))),
    };
    let mut attached = Attached::begin(runner, &job(run, argv)).await?;
    tokio::select! {
        biased;
        ended = attached.wait() => return Ok(Some(report(ended?))),
        () = give_way, if run.kind != StepKind::Migrate => {}
    }
    attached.stop().await?;
    Ok(None)
}

fn job(run: &Run<'_>, argv: Vec<String>) -> Job {
    Job {
        argv,
        dir: run.dir.clone(),
        env: run.env.clone(),
        run_as: run.account.map(Into::into),
        timeout: Some(run.timeout),
        stop_signal: "SIGTERM".to_owned(),
        grace: limits::STOP_GRACE,
        log: Some(run.log.clone()),
        on_agent_death: match run.kind {
            StepKind::Migrate => OnAgentDeath::Finish,
            StepKind::Prepare | StepKind::After => OnAgentDeath::End,
        },
        listen: None,
    }
}

fn report(report: job::Report) -> StepReport {
    StepReport {
        end: match report.end {
            End::Exited(Exit::Code(0)) => StepEnd::Ok,
            End::Exited(Exit::Code(TRANSIENT_STATUS)) => StepEnd::Transient,
            End::Exited(exit) => StepEnd::Failed(exit),
            End::TimedOut => StepEnd::TimedOut,
            End::Stopped => StepEnd::NotStarted("landfall stopped it".to_owned()),
            End::NotStarted(why) => StepEnd::NotStarted(why),
        },
        tail: report.tail,
        output_bytes: report.output_bytes,
        left_behind: report.left_behind,
    }
}

fn not_started(why: String) -> StepReport {
    StepReport { end: StepEnd::NotStarted(why), tail: Vec::new(), output_bytes: 0, left_behind: 0 }
}
