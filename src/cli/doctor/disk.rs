//! Room on the file system of the root, and what it can do.

use std::path::Path;

use landfall_store::cache::HostCache;
use landfall_store::place::ModeFacts;
use rustix::fs::{statfs, statvfs};

use super::examine::Finding;
use crate::cli::report::bytes;
use crate::host::Host;

const SPACE: &str = "space";
const INODES: &str = "inodes";
const FILES: &str = "files";

/// Below this a deploy is likely to fail.
const BYTES_MIN: u64 = 512 << 20;
/// Below this somebody should look.
const BYTES_LOW: u64 = 2 << 30;
/// The same for inodes: one release of a Node app has tens of thousands of files.
const INODES_MIN: u64 = 50_000;
const INODES_LOW: u64 = 200_000;

/// Magic numbers of statfs(2) that matter here.
const TMPFS: u64 = 0x0102_1994;
const NFS: u64 = 0x6969;
const OVERLAY: u64 = 0x794c_7630;

/// What is free.
#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: u64,
    /// `None`: the file system makes them as it needs them.
    inodes: Option<u64>,
    magic: u64,
}

/// Looks at the root, or at what it would be made in.
pub fn findings(host: &Host) -> Vec<Finding> {
    let root = host.root.path();
    let Some(dir) = root.ancestors().find(|dir| dir.is_dir()) else { return Vec::new() };
    let room = match (statvfs(dir), statfs(dir)) {
        (Ok(facts), Ok(kind)) => Room {
            bytes: facts.f_bavail.saturating_mul(facts.f_frsize),
            inodes: (facts.f_files > 0).then_some(facts.f_favail),
            magic: u64::try_from(kind.f_type).unwrap_or(0) & 0xffff_ffff,
        },
        (Err(error), _) | (_, Err(error)) => {
            let what = format!("{} cannot be asked for its room: {error}", dir.display());
            return vec![Finding::problem(SPACE, what, "mount the file system of the root")];
        }
    };
    let mut found = judge(dir, room);
    found.extend(host.root.path().join("objects").is_dir().then(|| links(host)).flatten());
    found
}

fn judge(dir: &Path, room: Room) -> Vec<Finding> {
    let at = dir.display();
    let make_room = format!("du -xh --max-depth 2 {at} | sort -h | tail; then free or add space");
    let free = format!("{} free on {at}", bytes(room.bytes));
    let mut found = vec![match room.bytes {
        0..BYTES_MIN => Finding::problem(SPACE, format!("only {free}"), make_room.clone()),
        BYTES_MIN..BYTES_LOW => Finding::warning(SPACE, format!("only {free}"), make_room.clone()),
        _ => Finding::good(SPACE, free),
    }];
    match room.inodes {
        Some(count @ 0..INODES_MIN) => {
            found.push(Finding::problem(INODES, format!("only {count} inodes free on {at}"), make_room));
        }
        Some(count @ INODES_MIN..INODES_LOW) => {
            found.push(Finding::warning(INODES, format!("only {count} inodes free on {at}"), make_room));
        }
        Some(_) | None => {}
    }
    let elsewhere = "put the root on a local disk: `--root DIR`, or mount one there";
    match room.magic {
        TMPFS => found.push(Finding::warning(
            FILES,
            format!("{at} is in memory: after a reboot landfall knows nothing of this host"),
            elsewhere,
        )),
        NFS => found.push(Finding::warning(
            FILES,
            format!("{at} is on NFS: locks and renames depend on a server that can be away"),
            elsewhere,
        )),
        OVERLAY => found.push(Finding::warning(
            FILES,
            format!("{at} is on an overlay: it goes with the container"),
            "mount a volume there",
        )),
        _ => {}
    }
    found
}

/// What a release costs here. Says nothing where it cannot be found out.
fn links(host: &Host) -> Option<Finding> {
    let cache = HostCache::open(host.root.path()).ok()?;
    let releases = host.root.apps();
    let facts = ModeFacts::observe(&cache, &releases, Vec::new()).ok()?;
    Some(match (facts.links_work, facts.reflinks_work) {
        (_, true) => Finding::good(FILES, "reflinks work: a release shares its blocks with the cache"),
        (true, false) => Finding::good(FILES, "hard links work: apps with a user of their own share files"),
        (false, false) => Finding::warning(
            FILES,
            "neither hard links nor reflinks work between cache and releases: each release is a full copy",
            "keep the cache and `dir` of the apps on one file system",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::examine::Level;
    use super::*;

    const EXT4: u64 = 0xef53;

    fn levels(bytes: u64, inodes: Option<u64>, magic: u64) -> Vec<(&'static str, Level)> {
        let found = judge(Path::new("/srv"), Room { bytes, inodes, magic });
        found.iter().map(|finding| (finding.check, finding.level)).collect()
    }

    #[test]
    fn little_room_is_a_warning_and_none_is_a_problem() {
        assert_eq!(levels(10 << 30, Some(1 << 20), EXT4), [(SPACE, Level::Good)]);
        assert_eq!(levels(1 << 30, None, EXT4), [(SPACE, Level::Warning)]);
        assert_eq!(levels(1 << 20, None, EXT4), [(SPACE, Level::Problem)]);
        assert_eq!(levels(10 << 30, Some(10), EXT4), [(SPACE, Level::Good), (INODES, Level::Problem)]);
        assert_eq!(levels(10 << 30, Some(60_000), EXT4)[1], (INODES, Level::Warning));
    }

    #[test]
    fn file_systems_that_forget_or_go_away_are_named() {
        for magic in [TMPFS, NFS, OVERLAY] {
            assert_eq!(levels(10 << 30, None, magic)[1], (FILES, Level::Warning), "{magic:x}");
        }
    }
}
