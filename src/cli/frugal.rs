//! An agent waits for weeks between deploys, and a deploy of 30,000 files needs 50 MiB for seconds. glibc keeps
//! what was freed, in an arena for each thread that worked, unless it is told otherwise before the program
//! starts; so the agent starts itself once more, in place, with glibc's settings in its environment.
//!
//! Measured in `docs/benchmarks.md`. Other C libraries ignore the settings; with the feature `jemalloc` they
//! are not needed.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// glibc's settings: two arenas, as many as there are threads that work at once; large blocks and a free top
/// go back to the system at once. One arena saved another 1 MiB and made deploys 15 % slower.
const SETTINGS: [(&str, &str); 4] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TOP_PAD_", "0"),
    ("MALLOC_TRIM_THRESHOLD_", "65536"),
];

/// Starts this program again, in this process, with the settings. Returns if they are there already, if
/// somebody chose others, or if it cannot be done: then the agent only needs more memory.
pub fn restart_with_a_frugal_allocator() {
    let chosen = SETTINGS.iter().any(|(key, _)| std::env::var_os(key).is_some());
    if chosen || cfg!(feature = "jemalloc") {
        return;
    }
    match std::env::current_exe() {
        Ok(program) => {
            let arguments = std::env::args_os().skip(1);
            let error = Command::new(program).args(arguments).envs(SETTINGS).exec();
            tracing::debug!(%error, "not restarted with a frugal allocator");
        }
        Err(error) => tracing::debug!(%error, "not restarted with a frugal allocator"),
    }
}
