//! A process as the kernel counts it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a process holds now, memory in KiB.
#[derive(Debug, Clone, Default)]
pub struct Held {
    pub resident: u64,
    pub peak: u64,
    /// Its own: heap, stacks, data it wrote to.
    pub anonymous: u64,
    /// Pages of files it has mapped, its program above all; the kernel takes them back when it needs room.
    pub mapped: u64,
    pub threads: u64,
    pub descriptors: u64,
}

pub fn held(pid: u32) -> Held {
    let status = PathBuf::from(format!("/proc/{pid}/status"));
    let field = |name| field(&status, name);
    Held {
        resident: field("VmRSS:"),
        peak: field("VmHWM:"),
        anonymous: field("RssAnon:"),
        mapped: field("RssFile:") + field("RssShmem:"),
        threads: field("Threads:"),
        descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64,
    }
}

/// The most memory that the children of a process held together while `work` went on, in KiB.
pub fn peak_below(pid: u32, work: impl FnOnce()) -> u64 {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut peak = 0;
            while !over.load(Ordering::Relaxed) {
                peak = peak.max(children(pid).map(resident).sum());
                std::thread::sleep(Duration::from_millis(20));
            }
            peak
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|why| std::panic::resume_unwind(why));
        looking.join().unwrap()
    })
}

fn children(pid: u32) -> impl Iterator<Item = u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>().into_iter()
}

fn resident(pid: u32) -> u64 {
    field(Path::new(&format!("/proc/{pid}/status")), "VmRSS:")
}

/// How often each thread gave up the processor of its own will: once for each time it was woken.
pub fn sleeps(pid: u32) -> BTreeMap<PathBuf, u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .map(|task| task.unwrap().path())
        .map(|task| (task.clone(), field(&task.join("status"), "voluntary_ctxt_switches:")))
        .collect()
}

/// Processor time a process and its threads have used, without its children.
pub fn cpu(pid: u32) -> Duration {
    times(pid, [11, 12])
}

/// Processor time that the ended children of a process have used.
pub fn cpu_of_children(pid: u32) -> Duration {
    times(pid, [13, 14])
}

/// Fields of `/proc/PID/stat`, counted from the state that follows the program's name, summed.
fn times(pid: u32, fields: [usize; 2]) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name stands in brackets and may hold spaces.
    let after_name = &stat[stat.rfind(')').unwrap() + 2..];
    let ticks = |at: usize| after_name.split(' ').nth(at).unwrap().parse::<u64>().unwrap();
    let sum: u64 = fields.into_iter().map(ticks).sum();
    Duration::from_secs_f64(sum as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Live processes with a name below `dir` in their arguments or their working directory.
pub fn belonging_to(dir: &Path) -> Vec<(u32, String)> {
    let name = dir.to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            (cwd.starts_with(dir) || command.contains(&name)).then_some((pid, command))
        })
        .collect()
}

fn field(path: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("x 0");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// KiB as people say it.
pub fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
