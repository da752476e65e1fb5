//! pm2's processes as the kernel shows them: pm2 itself is not asked.

use std::fs;
use std::path::{Path, PathBuf};

use crate::proc;
use crate::start::ProcessId;

/// The daemon of this `PM2_HOME`, if it lives. A stale pid file that names another process is not believed.
pub(super) fn daemon(home: &Path) -> Option<ProcessId> {
    let pid = fs::read_to_string(home.join("pm2.pid")).ok()?.trim().parse().ok()?;
    let id = proc::identity(pid)?;
    has(pid, "PM2_HOME", home.to_str()?.as_bytes()).then_some(id)
}

/// Whether this daemon would start this worker again when it dies.
pub(super) fn starts_again(daemon: ProcessId, worker: ProcessId) -> bool {
    proc::stat(worker.pid).is_some_and(|stat| stat.id == worker && stat.parent == daemon.pid)
}

/// Every live daemon of this `PM2_HOME`: two pm2 programs that start at the same moment, as after a reboot, may
/// each have started one.
pub(super) fn daemons(home: &Path) -> Vec<ProcessId> {
    sorted(of_home(home).filter(|id| proc::arguments(id.pid).first().is_some_and(|title| is_daemon(title))))
}

fn is_daemon(title: &str) -> bool {
    title.starts_with("PM2 v") && title.contains("God Daemon")
}

/// A `pm2 resurrect` that is at work in this `PM2_HOME`.
pub(super) fn resurrecting(home: &Path) -> Option<ProcessId> {
    let resurrects = |id: &ProcessId| proc::arguments(id.pid).iter().any(|argument| argument == "resurrect");
    of_home(home).find(resurrects)
}

fn of_home(home: &Path) -> impl Iterator<Item = ProcessId> {
    let all = proc::all().into_iter().filter(proc::Stat::is_live).map(|stat| stat.id);
    all.filter(|id| home.to_str().is_some_and(|home| has(id.pid, "PM2_HOME", home.as_bytes())))
}

/// Every live worker of this name, whoever its parent is: a dead daemon leaves orphans, and of two daemons each
/// may have its own.
pub(super) fn workers(home: &Path, name: &str) -> Vec<ProcessId> {
    let all = proc::all().into_iter().filter(proc::Stat::is_live).map(|stat| stat.id);
    sorted(all.filter(|id| is_worker(id.pid, home, name)))
}

/// The entry that a process is a worker of: `PM2_HOME` and name.
pub(super) fn entry_of(pid: u32) -> Option<(PathBuf, String)> {
    let environment = proc::environment(pid);
    let value = |key: &[u8]| {
        let found = environment.iter().find(|(own, _)| own == key);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    let home = PathBuf::from(value(b"PM2_HOME")?);
    let name = match value(b"pm2_env") {
        Some(json) => named_in(json.as_bytes())?,
        None => value(b"pm_id").and(value(b"name"))?,
    };
    workers(&home, &name).iter().any(|id| id.pid == pid).then_some((home, name))
}

fn sorted(ids: impl Iterator<Item = ProcessId>) -> Vec<ProcessId> {
    let mut ids: Vec<ProcessId> = ids.collect();
    ids.sort_unstable_by_key(|id| (id.started_ticks, id.pid));
    ids
}

fn has(pid: u32, key: &str, value: &[u8]) -> bool {
    let environment = proc::environment(pid);
    environment.iter().any(|(own, its)| own == key.as_bytes() && its == value)
}

/// pm2 names a worker in the environment it starts it with: as a plain key in fork mode, inside the JSON of
/// `pm2_env` in cluster mode. What the app starts itself inherits none of it.
fn is_worker(pid: u32, home: &Path, name: &str) -> bool {
    let environment = proc::environment(pid);
    let value =
        |key: &[u8]| environment.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_slice());
    if value(b"PM2_HOME") != home.to_str().map(str::as_bytes) {
        return false;
    }
    match value(b"pm2_env") {
        Some(json) => named_in(json).as_deref() == Some(name),
        None => value(b"name") == Some(name.as_bytes()) && value(b"pm_id").is_some(),
    }
}

fn named_in(json: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_slice::<Named>(json).ok().map(|named| named.name)
}
