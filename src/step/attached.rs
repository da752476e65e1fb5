//! A runner seen from the agent.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use super::job::{Job, Report};
use super::limits::{JOB_BYTES_MAX, REPORT_WAIT};
use super::{Runner, StepError};
use crate::proc;
use crate::start::shim::SUBCOMMAND;

/// A running command. Dropping it ends the command (unless it outlives its agent by order).
pub(crate) struct Attached {
    child: Child,
    /// Held open: its end tells the runner to stop.
    stdin: Option<ChildStdin>,
    /// The runner's session, which it leads.
    session: Option<u32>,
    said: Vec<u8>,
    timeout: Option<Duration>,
    grace: Duration,
}

impl Attached {
    /// Starts a runner for this job.
    pub(crate) async fn begin(runner: &Runner, job: &Job) -> Result<Self, StepError> {
        let failed = |source| StepError::Runner { executable: runner.executable.clone(), source };
        let mut child = command(runner).spawn().map_err(failed)?;
        let mut stdin = child.stdin.take();
        if let Some(stdin) = &mut stdin {
            // A runner that is gone already is noticed when its report is missing.
            let _ = stdin.write_all(&line(job).map_err(failed)?).await;
        }
        Ok(Self {
            session: child.id(),
            child,
            stdin,
            said: Vec::new(),
            timeout: job.timeout.map(|timeout| timeout.duration()),
            grace: job.grace.duration(),
        })
    }

    /// Waits for the command's own end (or its timeout). May be dropped and called again.
    pub(crate) async fn wait(&mut self) -> Result<Report, StepError> {
        match self.timeout {
            Some(timeout) => self.report_within(timeout + self.grace + REPORT_WAIT).await,
            None => self.report().await,
        }
    }

    /// Ends the command and everything below it, and reports.
    pub(crate) async fn stop(mut self) -> Result<Report, StepError> {
        self.stdin = None;
        self.report_within(self.grace + REPORT_WAIT).await
    }

    async fn report_within(&mut self, limit: Duration) -> Result<Report, StepError> {
        if let Ok(report) = timeout(limit, self.report()).await {
            return report;
        }
        let _ = self.child.start_kill();
        self.end_session();
        Err(lost(format!("it did not report within {limit:?}")))
    }

    async fn report(&mut self) -> Result<Report, StepError> {
        if let Some(out) = &mut self.child.stdout {
            let read = out.take(JOB_BYTES_MAX as u64).read_to_end(&mut self.said).await;
            read.map_err(|error| lost(error.to_string()))?;
        }
        let status = self.child.wait().await.map_err(|error| lost(error.to_string()))?;
        serde_json::from_slice(&self.said).map_err(|_| {
            self.end_session();
            lost(self.last_words(status))
        })
    }

    /// A killed runner can no longer end what it ran: its session is what can still be told.
    fn end_session(&self) {
        for member in self.session.into_iter().flat_map(proc::session) {
            proc::signal(member.id, Signal::KILL);
        }
    }

    /// A runner that cannot even begin says why in plain text.
    fn last_words(&self, status: ExitStatus) -> String {
        format!("{} ({status})", String::from_utf8_lossy(&self.said))
    }
}

fn command(runner: &Runner) -> Command {
    let mut command = Command::new(&runner.executable);
    command.arg0("landfall").args([SUBCOMMAND, "run"]).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn line(job: &Job) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(job)?;
    line.push(b'\n');
    Ok(line)
}

fn lost(why: String) -> StepError {
    StepError::Lost { why }
}
