//! Signals and ends of processes by identity: a reused pid is never signalled.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::is_alive;
use crate::start::ProcessId;

/// Sends a signal to exactly this process. False: it is gone, or landfall may not.
pub fn signal(id: ProcessId, signal: Signal) -> bool {
    open(id, PidfdFlags::empty()).is_some_and(|fd| pidfd_send_signal(fd, signal).is_ok())
}

/// The identity is checked after opening: from then on the descriptor cannot mean another process.
fn open(id: ProcessId, flags: PidfdFlags) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(id.pid).ok()?)?;
    let fd = pidfd_open(pid, flags).ok()?;
    is_alive(id).then_some(fd)
}

/// Returns when this process has ended.
pub async fn exited(id: ProcessId) {
    let Some(fd) = open(id, PidfdFlags::NONBLOCK) else {
        return;
    };
    if let Ok(fd) = watch(fd) {
        let _ = fd.readable().await;
    }
}

#[expect(
    deprecated,
    reason = "deprecated for types that do not own their descriptor; this one does, and the successor is unsafe"
)]
fn watch(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// Waits for the end of a process. False: it outlived the time.
pub async fn exited_within(id: ProcessId, limit: Duration) -> bool {
    tokio::time::timeout(limit, exited(id)).await.is_ok()
}
