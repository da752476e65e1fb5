//! What the system lends to the agent: descriptors, file events, a clock.

use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, getrlimit};

use super::examine::Finding;

const LIMITS: &str = "limits";
const EVENTS: &str = "inotify";
const CLOCK: &str = "clock";
const SYSTEM: &str = "system";

/// Descriptors below which a host of several apps runs out.
const DESCRIPTORS_MIN: u64 = 1024;

/// Looks at the machine alone.
pub fn findings() -> Vec<Finding> {
    let descriptors = getrlimit(Resource::Nofile).current;
    [proc_is_there(), limits(descriptors), events(), synchronised()].into_iter().flatten().collect()
}

/// Health and drift rest on it.
fn proc_is_there() -> Option<Finding> {
    let seen = Path::new("/proc/self/stat").exists();
    (!seen).then(|| {
        Finding::problem(
            SYSTEM,
            "/proc is not mounted: landfall cannot see processes",
            "mount -t proc proc /proc",
        )
    })
}

fn limits(descriptors: Option<u64>) -> Option<Finding> {
    let few = descriptors.filter(|count| *count < DESCRIPTORS_MIN)?;
    let what = format!("at most {few} open files are allowed here (ulimit -n)");
    Some(Finding::warning(LIMITS, what, "ulimit -n 65536; in a unit: LimitNOFILE=65536"))
}

/// Asks the kernel for what the agent will ask for.
fn events() -> Option<Finding> {
    let watcher = notify::recommended_watcher(|_: notify::Result<notify::Event>| {});
    let watched = watcher.and_then(|mut watcher| {
        notify::Watcher::watch(&mut watcher, Path::new("/"), notify::RecursiveMode::NonRecursive)
    });
    Some(match watched {
        Ok(()) => Finding::good(EVENTS, "the kernel tells of changed files"),
        Err(error) => Finding::problem(
            EVENTS,
            format!("the kernel does not tell of changed files: {error}"),
            "sudo sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288",
        ),
    })
}

/// Only shown times and the ends of suspensions and pins depend on it. Says nothing where nobody knows.
fn synchronised() -> Option<Finding> {
    let asked =
        Command::new("timedatectl").args(["show", "--property", "NTPSynchronized", "--value"]).output();
    let answer = asked.ok().filter(|answer| answer.status.success())?;
    match String::from_utf8_lossy(&answer.stdout).trim() {
        "yes" => Some(Finding::good(CLOCK, "the clock is synchronised")),
        "no" => Some(Finding::warning(
            CLOCK,
            "the clock is not synchronised: shown times and `until` are as wrong as it is",
            "sudo timedatectl set-ntp true",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_are_named_and_enough_are_not_worth_a_word() {
        assert!(limits(Some(256)).unwrap().message.contains("256"));
        assert_eq!(limits(Some(1024)), None);
        assert_eq!(limits(None), None, "no limit at all");
    }
}
