//! The end of one start: its shim, and what a killed shim left.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::sleep;

use super::remove_if_there;
use crate::proc;
use crate::start::shim::family::signal_group;
use crate::start::shim::limits::{KILL_WAIT, LOOK_AGAIN, LOOK_AGAIN_MAX, SHIM_STOP_WAIT};
use crate::start::shim::order::{Record, SlotFiles, StopOrder};
use crate::start::shim::signals::named;
use crate::start::{ProcessId, Slot, StartError, durable};

/// Ends every process of this start. One that does not run is a success.
pub(super) async fn end(
    slot: &Slot,
    files: &SlotFiles,
    record: &Record,
    stop: &StopOrder,
) -> Result<(), StartError> {
    // Processes of another boot are gone, and their numbers belong to strangers now.
    if !record.is_of_this_boot() {
        return Ok(());
    }
    end_shim(files, record, stop).await?;
    // Only when the shim was killed is there anything left: it ends all it has before it ends itself.
    end_orphans(slot, record, stop).await
}

async fn end_shim(files: &SlotFiles, record: &Record, stop: &StopOrder) -> Result<(), StartError> {
    if !proc::is_alive(record.shim) {
        return Ok(());
    }
    // Without a stop file (a full disk) the shim stops as it was told at its start.
    let _ = durable::write_json(&files.stop(), 0o600, stop);
    proc::signal(record.shim, Signal::TERM);
    if !proc::exited_within(record.shim, stop.grace.duration() + SHIM_STOP_WAIT).await {
        proc::signal(record.shim, Signal::KILL);
        proc::exited_within(record.shim, KILL_WAIT).await;
    }
    remove_if_there(&files.stop())
}

/// Ends what a killed shim left: known by the recorded identities, by their groups, by the shim's session,
/// and by the start's random id in their environment.
async fn end_orphans(slot: &Slot, record: &Record, stop: &StopOrder) -> Result<(), StartError> {
    let left = orphans(record);
    if left.is_empty() {
        return Ok(());
    }
    let signal = named(&stop.signal).unwrap_or(Signal::TERM);
    for main in record.processes.iter().filter(|id| proc::is_alive(**id)) {
        signal_group(main.pid, signal);
    }
    let left = outlived(left, record, stop.grace.duration(), |_| ()).await;
    let kill = |id| {
        proc::signal(id, Signal::KILL);
    };
    match outlived(left, record, KILL_WAIT, kill).await.first() {
        Some(id) => Err(would_not_die(slot, id.pid)),
        None => Ok(()),
    }
}

fn orphans(record: &Record) -> Vec<ProcessId> {
    let mut found = proc::started_with("LANDFALL_START", &record.start_id);
    found.extend(proc::session(record.shim.pid).into_iter().map(|stat| stat.id));
    for main in record.processes.iter().filter(|id| proc::is_alive(**id)) {
        found.push(*main);
        found.extend(proc::group(main.pid).into_iter().map(|stat| stat.id));
        let below = proc::descendants(main.pid).into_iter();
        found.extend(below.filter(proc::Stat::is_live).map(|stat| stat.id));
    }
    found.sort_unstable_by_key(|id| id.pid);
    found.dedup();
    found
}

/// Those that still live when the time is up, newcomers included; `each` is done to them at every look.
async fn outlived(
    mut known: Vec<ProcessId>,
    record: &Record,
    limit: Duration,
    each: impl Fn(ProcessId),
) -> Vec<ProcessId> {
    let deadline = Instant::now() + limit;
    let mut pause = LOOK_AGAIN;
    loop {
        known.extend(orphans(record));
        known.retain(|id| proc::is_alive(*id));
        if known.is_empty() || Instant::now() >= deadline {
            return known;
        }
        known.iter().copied().for_each(&each);
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_AGAIN_MAX);
    }
}

fn would_not_die(slot: &Slot, pid: u32) -> StartError {
    StartError::WouldNotDie {
        process: slot.process.clone(),
        pid,
        waited_ms: u64::try_from(KILL_WAIT.as_millis()).unwrap_or(u64::MAX),
    }
}
