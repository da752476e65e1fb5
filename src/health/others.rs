//! Processes that make a good answer worth nothing, or that stand in a release's way.

use std::collections::HashSet;

use super::attest::Answerer;
use super::probe::{Asking, port};
use super::verify::{Started, answerer};
use crate::proc::{self, Holder, Stat};
use crate::spec::{HealthSpec, ManagerKind, StartSpec};
use crate::start::ProcessId;

/// Under pm2: a worker too many, too few or not of this start, or a process left in another release. While
/// there is one, the next answer may come from it.
pub(super) fn mixed(started: &Started<'_>, workers: &[ProcessId]) -> Option<String> {
    odd_worker(started, workers).or_else(|| left_behind(started))
}

fn odd_worker(started: &Started<'_>, workers: &[ProcessId]) -> Option<String> {
    let wanted = started.launch.spec.instances;
    if u32::try_from(workers.len()) != Ok(wanted) {
        return Some(format!("{} workers run where {wanted} should", workers.len()));
    }
    let own = answerer(started).processes();
    let odd = workers.iter().find(|id| !own.contains(id))?;
    Some(format!("worker {} is not of this start", Holder::of(*odd)?))
}

fn left_behind(started: &Started<'_>) -> Option<String> {
    let own = answerer(started).processes().into_iter();
    let users: HashSet<u32> = own.filter_map(|id| proc::user(id.pid)).collect();
    // A person's shell in an old release is no server of it.
    let is_service =
        |stat: &Stat| !stat.has_terminal && proc::user(stat.id.pid).is_some_and(|user| users.contains(&user));
    let elsewhere = |stat: &Stat| !proc::works_under(stat.id, &started.launch.release_dir);
    let mut all = proc::working_under(&started.launch.slot.releases_dir).into_iter();
    let other = all.find(|stat| is_service(stat) && elsewhere(stat))?;
    Some(format!("{} still runs another release", Holder::of(other.id)?))
}

/// Whoever else listens on a port that a check asks. Who shares its socket with this start is no stranger.
pub(super) fn port_holders(checks: &[HealthSpec], asking: &Asking<'_>) -> Vec<(u16, Holder)> {
    if asking.answerers.is_empty() {
        return Vec::new();
    }
    let mut own: Vec<u32> = asking.answerers.iter().flat_map(Answerer::processes).map(|id| id.pid).collect();
    own.extend(asking.supervisors.iter().map(|id| id.pid));
    for shim in &asking.beside {
        own.push(shim.pid);
        own.extend(proc::descendants(shim.pid).iter().map(|stat| stat.id.pid));
    }
    let ports: HashSet<u16> = checks.iter().filter_map(|spec| port(spec, asking)).collect();
    let held = ports.into_iter().flat_map(|port| proc::listeners(port).into_iter().map(move |by| (port, by)));
    held.filter(|(_, holder)| !own.contains(&holder.pid) && !is_pm2(holder)).collect()
}

/// systemd itself listens for an app whose socket it passes on.
pub(crate) fn holds_its_socket(holder: &Holder, start: &StartSpec) -> bool {
    holder.pid == proc::INIT && start.manager == ManagerKind::Systemd && start.socket.is_some()
}

/// Under pm2 cluster the daemon listens for its workers: it is no stranger.
fn is_pm2(holder: &Holder) -> bool {
    holder.command.starts_with("PM2")
}
