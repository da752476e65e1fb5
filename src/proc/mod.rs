//! Facts about processes, from `/proc`.
//!
//! A pid alone is never trusted: every fact is tied to a [`ProcessId`], the pid with its start time. Facts
//! about a process that ends while it is read are simply absent. Zombies count as dead.

mod pidfd;
mod sockets;
mod stat;

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use pidfd::{exited, exited_within, signal};
pub use sockets::{Holder, Socket, SocketState, listeners, listening, owners, server_end, user_name};
pub use stat::Stat;

use crate::start::ProcessId;

/// The kernel's clock ticks since boot, now: comparable with [`ProcessId::started_ticks`].
pub fn now_ticks() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let hertz = rustix::param::clock_ticks_per_second();
    let whole = u64::try_from(now.tv_sec).unwrap_or(0) * hertz;
    whole + u64::try_from(now.tv_nsec).unwrap_or(0) * hertz / 1_000_000_000
}

/// This very program, as a path to start it by: also after another one was installed in its place, so that
/// whoever gives an order and whoever takes it are of one version.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// Pid of the init system.
pub const INIT: u32 = 1;

/// Lets the kernel call this process by its program's name, not by the last part of [`OWN_PROGRAM`].
pub fn take_own_name() {
    // Only what `ps` shows depends on it.
    let _ = fs::write("/proc/self/comm", "landfall");
}

/// This boot of the machine, by the kernel's own random name for it. Start times count from the boot, so a pid
/// with its start time means nothing in another one.
pub fn boot() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// The identity of the process that has this pid now; none if there is no live one.
pub fn identity(pid: u32) -> Option<ProcessId> {
    stat(pid).filter(Stat::is_live).map(|stat| stat.id)
}

/// Whether exactly this process still runs.
pub fn is_alive(id: ProcessId) -> bool {
    identity(id.pid) == Some(id)
}

/// What `/proc/<pid>/stat` says, zombies included.
pub fn stat(pid: u32) -> Option<Stat> {
    Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Every process there is, zombies included.
pub fn all() -> Vec<Stat> {
    pids().filter_map(stat).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Live direct children of a process.
pub fn children(pid: u32) -> Vec<Stat> {
    let mut found = all();
    found.retain(|stat| stat.parent == pid && stat.is_live());
    found
}

/// Everything below a process, zombies included, nearest first.
pub fn descendants(pid: u32) -> Vec<Stat> {
    below(pid, all())
}

fn below(root: u32, mut others: Vec<Stat>) -> Vec<Stat> {
    let mut known = HashSet::from([root]);
    let mut found = Vec::new();
    loop {
        let (near, far): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|stat| known.contains(&stat.parent) && !known.contains(&stat.id.pid));
        if near.is_empty() {
            return found;
        }
        known.extend(near.iter().map(|stat| stat.id.pid));
        found.extend(near);
        others = far;
    }
}

/// Live members of a process group.
pub fn group(id: u32) -> Vec<Stat> {
    let mut found = all();
    found.retain(|stat| stat.group == id && stat.is_live());
    found
}

/// Live members of a session, without its leader.
pub fn session(leader: u32) -> Vec<Stat> {
    let mut found = all();
    found.retain(|stat| stat.session == leader && stat.id.pid != leader && stat.is_live());
    found
}

/// A working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkingDir {
    /// Where it is, or was.
    pub path: PathBuf,
    /// It has been removed since.
    pub deleted: bool,
}

/// The working directory of a process, if landfall may read it.
pub fn cwd(pid: u32) -> Option<WorkingDir> {
    let link = PathBuf::from(format!("/proc/{pid}/cwd"));
    let path = fs::read_link(&link).ok()?;
    // The kernel appends a mark to the name of a removed directory; a living one may end in it as well.
    let deleted = fs::metadata(&link).is_ok_and(|dir| dir.nlink() == 0);
    Some(match deleted {
        true => WorkingDir { path: without_mark(path), deleted },
        false => WorkingDir { path, deleted },
    })
}

fn without_mark(path: PathBuf) -> PathBuf {
    let bytes = path.into_os_string().into_vec();
    let bare = bytes.strip_suffix(b" (deleted)").unwrap_or(&bytes);
    PathBuf::from(std::ffi::OsStr::from_bytes(bare))
}

/// Live processes that work in this directory or below it, whatever links lead to it.
pub fn working_under(dir: &Path) -> Vec<Stat> {
    let dir = real(dir);
    let mut found = all();
    found.retain(|stat| stat.is_live() && cwd(stat.id.pid).is_some_and(|cwd| cwd.path.starts_with(&dir)));
    found
}

/// Whether a process works in this directory or below it, whatever links lead to it.
pub fn works_under(id: ProcessId, dir: &Path) -> bool {
    cwd(id.pid).is_some_and(|cwd| cwd.path.starts_with(real(dir))) && is_alive(id)
}

/// The kernel names directories without links; a directory that is gone keeps the name it is given by.
fn real(dir: &Path) -> PathBuf {
    dir.canonicalize().unwrap_or_else(|_| dir.to_owned())
}

/// The effective user id of a process.
pub fn user(pid: u32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|dir| dir.uid())
}

/// The environment a process was started with (not what it changed since), if landfall may read it.
pub fn environment(pid: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).filter_map(pair).collect()
}

fn pair(entry: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let at = entry.iter().position(|byte| *byte == b'=')?;
    Some((entry[..at].to_vec(), entry[at + 1..].to_vec()))
}

/// The service unit of systemd whose control group holds a process; none for a person's session.
pub fn unit(pid: u32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    unit_in(&groups)
}

fn unit_in(groups: &str) -> Option<String> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let unit = path.rsplit('/').find(|part| part.ends_with(".service"))?;
    (!unit.starts_with("user@")).then(|| unit.to_owned())
}

/// The arguments of a process as it shows them now: a program may have replaced them by a title.
pub fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Live processes that were started with `key=value` in their environment.
pub fn started_with(key: &str, value: &str) -> Vec<ProcessId> {
    let wanted = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let carriers = pids().filter(|pid| environment(*pid).contains(&wanted));
    carriers.filter_map(identity).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sleeper(dir: &Path) -> std::process::Child {
        Command::new("sleep")
            .arg("60")
            .current_dir(dir)
            .env("LANDFALL_PROC_TEST", dir)
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_process_is_known_by_pid_and_start_time() {
        let own = identity(std::process::id()).unwrap();
        assert!(is_alive(own));
        assert!(!is_alive(ProcessId { started_ticks: own.started_ticks + 1, ..own }));
        assert!(own.started_ticks <= now_ticks());
    }

    #[test]
    fn a_process_started_now_is_not_older_than_now() {
        let before = now_ticks();
        let mut child = sleeper(Path::new("/"));
        assert!(identity(child.id()).unwrap().started_ticks >= before);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = sleeper(Path::new("/"));
        let id = identity(child.id()).unwrap();
        child.kill().unwrap();
        while stat(id.pid).is_some_and(|stat| stat.is_live()) {
            std::thread::yield_now();
        }
        assert!(stat(id.pid).is_some(), "not reaped yet");
        assert!(!is_alive(id));
        child.wait().unwrap();
    }

    #[test]
    fn a_removed_working_directory_is_known_by_its_old_name() {
        let parent = tempfile::tempdir().unwrap();
        let parent = parent.path().canonicalize().unwrap();
        let dir = parent.join("release");
        fs::create_dir(&dir).unwrap();
        let mut child = sleeper(&dir);
        fs::remove_dir(&dir).unwrap();
        assert_eq!(cwd(child.id()), Some(WorkingDir { path: dir, deleted: true }));
        assert!(working_under(&parent).iter().any(|stat| stat.id.pid == child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_directory_is_known_by_any_link_that_leads_to_it() {
        let parent = tempfile::tempdir().unwrap();
        let (dir, link) = (parent.path().join("real"), parent.path().join("link"));
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        let mut child = sleeper(&dir);
        assert!(working_under(&link).iter().any(|stat| stat.id.pid == child.id()));
        assert!(works_under(identity(child.id()).unwrap(), &link));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_directory_that_is_named_deleted_is_not_taken_for_removed() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().canonicalize().unwrap().join("a (deleted)");
        fs::create_dir(&dir).unwrap();
        let mut child = sleeper(&dir);
        assert_eq!(cwd(child.id()), Some(WorkingDir { path: dir, deleted: false }));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn processes_are_found_by_the_environment_they_started_with() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = sleeper(dir.path());
        let found = started_with("LANDFALL_PROC_TEST", dir.path().to_str().unwrap());
        assert_eq!(found.iter().map(|id| id.pid).collect::<Vec<_>>(), [child.id()]);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_unit_is_read_from_the_control_group() {
        let unit = |path: &str| unit_in(&format!("1:name=systemd:{path}\n0::{path}\n"));
        assert_eq!(unit("/system.slice/legacy.service").as_deref(), Some("legacy.service"));
        assert_eq!(
            unit("/landfall.slice/landfall-a..b..c@2.service/x").unwrap(),
            "landfall-a..b..c@2.service"
        );
        assert_eq!(unit("/user.slice/user-0.slice/user@0.service/init.scope"), None);
        assert_eq!(unit("/user.slice/user-0.slice/session-1.scope"), None);
    }

    #[test]
    fn descendants_include_grandchildren() {
        let mut child = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        while descendants(child.id()).is_empty() {
            std::thread::yield_now();
        }
        let grandchild = descendants(child.id())[0].id;
        assert!(descendants(std::process::id()).iter().any(|stat| stat.id == grandchild));
        signal(grandchild, rustix::process::Signal::KILL);
        child.wait().unwrap();
    }
}
