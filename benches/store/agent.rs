//! What an idle agent costs, as `/proc` counts it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Until what a deploy left behind (threads that wait for more work, memory) is gone.
const CALM: Duration = Duration::from_secs(30);
/// Long enough for several of its timers.
const WATCHED: Duration = Duration::from_secs(60);

/// An idle agent's cost.
#[derive(Debug)]
pub struct Idle {
    pub resident_kib: u64,
    pub peak_kib: u64,
    pub threads: usize,
    pub wakeups_per_s: f64,
}

/// Watches a process that has nothing to do.
pub fn idle(pid: u32) -> Idle {
    std::thread::sleep(CALM);
    let start = Instant::now();
    let before = switches(pid);
    std::thread::sleep(WATCHED);
    // A thread that ended meanwhile counts with what it had; one that began counts from nothing.
    let wakeups: u64 = switches(pid)
        .iter()
        .map(|(task, now)| now.saturating_sub(before.get(task).copied().unwrap_or(0)))
        .sum();
    let status = PathBuf::from(format!("/proc/{pid}/status"));
    Idle {
        resident_kib: field(&status, "VmRSS:"),
        peak_kib: field(&status, "VmHWM:"),
        threads: tasks(pid).len(),
        wakeups_per_s: wakeups as f64 / start.elapsed().as_secs_f64(),
    }
}

/// A thread that wakes up leaves the processor of its own will soon after.
fn switches(pid: u32) -> BTreeMap<PathBuf, u64> {
    let count = |task: &PathBuf| field(&task.join("status"), "voluntary_ctxt_switches:");
    tasks(pid).into_iter().map(|task| (task.clone(), count(&task))).collect()
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    dir.map(|task| task.unwrap().path()).collect()
}

fn field(status: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("x 0");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}
