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

/// Live workers of this name under the daemon, oldest first.
pub(super) fn workers(daemon: ProcessId, home: &Path, name: &str) -> Vec<ProcessId> {
    let children = proc::children(daemon.pid).into_iter().map(|stat| stat.id);
    sorted(children.filter(|id| is_worker(id.pid, home, name)))
}

/// Every live worker of this name, whoever its parent is: a dead daemon leaves orphans.
pub(super) fn workers_of_any(home: &Path, name: &str) -> Vec<ProcessId> {
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
    workers_of_any(&home, &name).iter().any(|id| id.pid == pid).then_some((home, name))
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
