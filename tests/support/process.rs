//! Processes as the kernel shows them, read here once more on purpose: a test must not trust the code it tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A live process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub cwd: PathBuf,
    pub command: String,
}

/// Live processes whose working directory is at or below a directory.
pub fn working_under(dir: &Path) -> Vec<Process> {
    all().filter(|process| process.cwd.starts_with(dir)).collect()
}

/// Live processes that hold a name below a directory in their arguments or their working directory.
pub fn belonging_to(dir: &Path) -> Vec<Process> {
    let name = dir.to_string_lossy().into_owned();
    all().filter(|process| process.cwd.starts_with(dir) || process.command.contains(&name)).collect()
}

fn all() -> impl Iterator<Item = Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|entry| read(entry.ok()?.file_name().to_str()?.parse().ok()?))
}

/// A process that is alive and not a zombie (which has no working directory).
pub fn read(pid: u32) -> Option<Process> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let cwd = std::fs::read_link(dir.join("cwd")).ok()?;
    let command = std::fs::read(dir.join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    Some(Process { pid, cwd, command: command.trim_end().to_owned() })
}

/// The environment a process was started with, as everybody who may read it sees it.
pub fn started_with(pid: u32) -> BTreeMap<String, String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split('\0')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// Ends one process that a test started, at once.
pub fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
}
