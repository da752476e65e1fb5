//! How much memory this process may still take: what the kernel has, and what its control group leaves.

use std::path::{Path, PathBuf};

/// Bytes, as far as the kernel tells; `None` where it does not.
pub(crate) fn available() -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let host = meminfo(&read(Path::new("/proc/meminfo"))?)?;
    let groups = groups(&read(Path::new("/proc/self/cgroup")).unwrap_or_default());
    let left = groups.iter().filter_map(|group| {
        left(
            &read(&group.join("memory.max"))?,
            &read(&group.join("memory.current"))?,
            &read(&group.join("memory.stat"))?,
        )
    });
    left.chain([host]).min()
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The directories of the control group and all above it, of the unified hierarchy.
fn groups(text: &str) -> Vec<PathBuf> {
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let top = Path::new("/sys/fs/cgroup");
    top.join(path).ancestors().take_while(|group| group.starts_with(top)).map(Path::to_owned).collect()
}

/// What a group's limit leaves. Pages of files count as free: the kernel takes them back when it needs them.
fn left(max: &str, current: &str, stat: &str) -> Option<u64> {
    let max: u64 = max.trim().parse().ok()?;
    let current: u64 = current.trim().parse().ok()?;
    let files: u64 = stat.lines().find_map(|line| line.strip_prefix("file ")?.parse().ok())?;
    Some(max.saturating_sub(current.saturating_sub(files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_memory_and_the_groups_limit_are_read() {
        assert_eq!(meminfo("MemTotal:  9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(meminfo("MemTotal: 9 kB\n"), None);
        assert_eq!(left("1000\n", "900\n", "anon 1\nfile 300\n"), Some(400));
        assert_eq!(left("1000\n", "2900\n", "file 300\n"), Some(0));
        assert_eq!(left("max\n", "900\n", "file 300\n"), None, "no limit");
        assert!(available().is_none_or(|bytes| bytes > 0));
    }

    #[test]
    fn every_group_above_is_asked() {
        let found = groups("1:name=systemd:/x\n0::/system.slice/app.service\n");
        let top = Path::new("/sys/fs/cgroup");
        assert_eq!(found, [top.join("system.slice/app.service"), top.join("system.slice"), top.to_owned()]);
        assert_eq!(groups("0::/\n"), [top]);
        assert_eq!(groups("4:memory:/x\n"), Vec::<PathBuf>::new());
    }
}
