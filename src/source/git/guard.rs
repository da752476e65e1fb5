//! A fetch that does not outlive the agent: `landfall git-guard <agent> <program> <arguments>…`.
//!
//! Between the agent and git stands this process, the first of git's process group. It passes git's end on, and
//! ends the whole group when the agent is gone: git alone would leave the helpers that speak with the server.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpgrp, getpid, getppid, kill_process_group, pidfd_open};

use crate::proc::OWN_PROGRAM;

/// How this program is asked for it.
pub const SUBCOMMAND: &str = "git-guard";

/// This program of git under guard, for this process. The caller makes it the first of a group.
pub(super) fn command(git: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(OWN_PROGRAM);
    command.arg0("landfall").arg(SUBCOMMAND).arg(std::process::id().to_string()).arg(git);
    command
}

/// Runs the command under guard, and ends as it does.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match guard(arguments) {
        Ok(code) => code.into(),
        Err(error) => {
            // Nobody to tell where the agent is gone.
            drop(writeln!(io::stderr(), "landfall git-guard: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn guard(mut arguments: impl Iterator<Item = OsString>) -> io::Result<u8> {
    let (agent, program) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let not_alone = || io::Error::other("is started by landfall itself: see `landfall help`");
    let agent = agent.to_str().and_then(|pid| Pid::from_raw(pid.parse().ok()?)).ok_or_else(not_alone)?;
    if getpgrp() != getpid() {
        return Err(not_alone());
    }
    let agents_end = pidfd_open(agent, PidfdFlags::empty())?;
    // After opening: from here on the descriptor cannot mean another process.
    if getppid() != Some(agent) {
        return Err(io::Error::other("the agent that ordered this is gone"));
    }
    let mut git = Command::new(program).args(arguments).spawn()?;
    let gits_end = pidfd_open(Pid::from_child(&git), PidfdFlags::empty())?;
    loop {
        let mut ends = [PollFd::new(&gits_end, PollFlags::IN), PollFd::new(&agents_end, PollFlags::IN)];
        match poll(&mut ends, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [git_ended, agent_ended] = ends.map(|end| !end.revents().is_empty());
        if git_ended {
            return Ok(code(git.wait()?));
        }
        if agent_ended {
            kill_process_group(getpgrp(), Signal::KILL)?;
        }
    }
}

/// As a shell tells an end: a signal is 128 and its number.
fn code(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
