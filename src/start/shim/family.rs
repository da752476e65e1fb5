//! The processes below this one, to the last: a subreaper sees every orphan come back to it, so whoever
//! leaves its group or session, or forks twice, is still found and ended.
//!
//! Only for a process whose every child belongs to one job (the shim, the step runner).

use std::io;
use std::process::Command;
use std::time::Instant;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal as listen};
use tokio::time::sleep;

use super::limits::{FREEZE_WAIT, KILL_WAIT, LOOK_AGAIN, LOOK_AGAIN_MAX};
use crate::proc::{self, Stat};
use crate::start::Exit;

/// The descendants of this process.
pub(crate) struct Family {
    child_changed: Signals,
    ended: Vec<(u32, Exit)>,
}

impl Family {
    /// Becomes the subreaper of everything started from now on.
    pub(crate) fn new() -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        Ok(Self { child_changed: listen(SignalKind::child())?, ended: Vec::new() })
    }

    /// Starts a child in a process group of its own; its end is reported by [`Family::next_end`].
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<std::process::Child> {
        use std::os::unix::process::CommandExt;
        command.process_group(0).spawn()
    }

    /// The next child that ended, adopted ones included.
    pub(crate) async fn next_end(&mut self) -> (u32, Exit) {
        loop {
            self.reap();
            if !self.ended.is_empty() {
                return self.ended.remove(0);
            }
            self.child_changed.recv().await;
        }
    }

    /// How this child ended, if it has: later [`Family::next_end`] does not report it again.
    pub(crate) fn take_end(&mut self, pid: u32) -> Option<Exit> {
        self.reap();
        let at = self.ended.iter().position(|(ended, _)| *ended == pid)?;
        Some(self.ended.remove(at).1)
    }

    /// How this child ended, once it has; none: the time was up first.
    pub(crate) async fn end_before(&mut self, pid: u32, deadline: Instant) -> Option<Exit> {
        let mut pause = LOOK_AGAIN;
        loop {
            if let Some(exit) = self.take_end(pid) {
                return Some(exit);
            }
            if Instant::now() >= deadline {
                return None;
            }
            self.wait_for_change(&mut pause).await;
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            self.ended.extend(how(status).map(|exit| (pid, exit)));
        }
    }

    /// Asks these process groups to stop and waits until they are empty or the time is up. True: empty.
    pub(crate) async fn ask(&mut self, groups: &[u32], signal: Signal, deadline: Instant) -> bool {
        for group in groups {
            signal_group(*group, signal);
        }
        self.gone_before(groups, deadline).await
    }

    /// Waits until these process groups are empty. False: the time was up first.
    pub(crate) async fn gone_before(&mut self, groups: &[u32], deadline: Instant) -> bool {
        let mut pause = LOOK_AGAIN;
        while groups.iter().any(|group| !proc::group(*group).is_empty()) {
            if Instant::now() >= deadline {
                return false;
            }
            self.wait_for_change(&mut pause).await;
        }
        true
    }

    /// Kills every member of these groups and waits for their end.
    pub(crate) async fn kill_groups(&mut self, groups: &[u32]) -> bool {
        self.ask(groups, Signal::KILL, Instant::now() + KILL_WAIT).await
    }

    /// Ends every descendant. False: some outlived [`KILL_WAIT`] (only the kernel can hold them).
    ///
    /// All are stopped before the first is killed: a stopped process cannot fork, and still counts against
    /// its user's process limit, so even a fork bomb under a limit comes to an end.
    pub(crate) async fn kill_all(&mut self) -> bool {
        self.freeze().await;
        let deadline = Instant::now() + KILL_WAIT;
        let mut pause = LOOK_AGAIN;
        loop {
            self.reap();
            let left = living();
            if left.is_empty() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            send(&left, Signal::KILL);
            self.wait_for_change(&mut pause).await;
        }
    }

    async fn freeze(&mut self) {
        let deadline = Instant::now() + FREEZE_WAIT;
        loop {
            let moving: Vec<Stat> = living().into_iter().filter(|stat| !stat.is_stopped()).collect();
            if moving.is_empty() || Instant::now() >= deadline {
                return;
            }
            send(&moving, Signal::STOP);
            // Stopping is announced to nobody here: the state in /proc is the only sign.
            sleep(LOOK_AGAIN / 5).await;
            self.reap();
        }
    }

    /// The end of a child is an event; the end of somebody else's child (a group member that was not
    /// orphaned) is only seen by looking.
    async fn wait_for_change(&mut self, pause: &mut std::time::Duration) {
        let _ = tokio::time::timeout(*pause, self.child_changed.recv()).await;
        self.reap();
        *pause = (*pause * 2).min(LOOK_AGAIN_MAX);
    }
}

fn living() -> Vec<Stat> {
    let mut below = proc::descendants(std::process::id());
    below.retain(Stat::is_live);
    below
}

fn send(targets: &[Stat], signal: Signal) {
    for target in targets {
        proc::signal(target.id, signal);
    }
}

/// Signals a whole group. The group was started by the caller, and its number is not reused while a member
/// lives; an empty one is an error that means "done".
pub(crate) fn signal_group(group: u32, signal: Signal) {
    if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

fn how(status: WaitStatus) -> Option<Exit> {
    let code = status.exit_status().map(Exit::Code);
    code.or_else(|| status.terminating_signal().map(Exit::Signal))
}
