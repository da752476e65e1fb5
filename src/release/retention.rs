//! Which releases stay on the host.
//!
//! Current, desired, last healthy and the newest N *healthy* ones stay. Failed ones never count and never
//! push a good one out. Beside these stay the newest N that were switched to without being started: landfall
//! cannot know which of them still runs. A record that cannot be read stops the cleaning with nothing removed.

use std::collections::BTreeSet;
use std::path::Path;

use landfall_store::remove;

use crate::disk::{Disk, RealDisk};
use crate::layout::{AppDir, ReleaseDir};
use crate::record::RecordError;
use crate::record::controls::Controls;
use crate::record::history::History;
use crate::record::journal::Journal;
use crate::record::release::{ReleaseRecord, ReleaseRef};
use crate::record::sealed;
use crate::switch;

/// Names that go, of those on disk: of each kind of releases, newest first, `keep` stay. Pure.
pub fn superfluous(
    on_disk: &[String],
    kinds: [&[&ReleaseRef]; 2],
    keep: usize,
    needed: &BTreeSet<String>,
) -> Vec<String> {
    let newest = |kind: &[&ReleaseRef]| -> Vec<String> {
        let names = kind.iter().map(|release| &release.name).filter(|name| on_disk.contains(name));
        names.take(keep.max(1)).cloned().collect()
    };
    let kept: BTreeSet<String> = kinds.into_iter().flat_map(newest).collect();
    on_disk.iter().filter(|name| !kept.contains(*name) && !needed.contains(*name)).cloned().collect()
}

/// Releases that stay whatever their age: linked, on trial or going on trial, where a revert goes, pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needed(BTreeSet<String>);

impl Needed {
    /// What an app's records say. A record that cannot be read is an error: then nothing may be removed.
    pub fn of(dir: &AppDir, history: &History) -> Result<Self, RecordError> {
        let mut names: BTreeSet<String> = switch::named(&RealDisk, dir)?.into_iter().collect();
        if let Some(journal) = Journal::read(&RealDisk, dir)? {
            let all = [journal.to, journal.from, journal.healthy];
            names.extend(all.into_iter().flatten().map(|release| release.name));
        }
        names.extend(Controls::read(&RealDisk, dir)?.pin.map(|pin| pin.release.name));
        // What was tried last may be what is wanted.
        names.extend(
            history.last().and_then(|entry| entry.release.as_ref()).map(|release| release.name.clone()),
        );
        names.extend(history.healthy().first().map(|release| release.name.clone()));
        Ok(Self(names))
    }
}

/// Releases of an app that nothing needs. Changes nothing.
pub fn removable(
    dir: &AppDir,
    history: &History,
    keep: usize,
    needed: &Needed,
) -> Result<Vec<String>, RecordError> {
    let mut on_disk = Vec::new();
    for name in listed(&dir.releases())? {
        // A directory without a record is none of landfall's; it is not touched.
        if sealed::read::<ReleaseRecord>(&RealDisk, &ReleaseDir(dir.release(&name)).record())?.is_some() {
            on_disk.push(name);
        }
    }
    Ok(superfluous(&on_disk, [&history.healthy(), &history.unproved()], keep, &needed.0))
}

/// Sets aside what is superfluous; [`empty_trash`] deletes it. Returns the names.
pub fn sweep(
    dir: &AppDir,
    history: &History,
    keep: usize,
    needed: &Needed,
) -> Result<Vec<String>, RecordError> {
    let gone = removable(dir, history, keep, needed)?;
    for name in &gone {
        set_aside(&dir.releases(), name)?;
    }
    Ok(gone)
}

/// Removes every release of an app that is gone from this host, and landfall's records of its processes, which
/// hold secrets. `shared/`, logs, attempts and the history stay. Only once `current` is gone; does nothing where
/// nothing is left. Returns the names.
pub fn clear(dir: &AppDir) -> Result<Vec<String>, RecordError> {
    if let Some(name) = switch::named(&RealDisk, dir)? {
        let why = format!("it names {name}, and what is in service is not removed");
        return Err(RecordError::Damaged { path: dir.current(), why });
    }
    let releases = dir.releases();
    let gone = listed(&releases)?;
    for name in &gone {
        set_aside(&releases, name)?;
    }
    let assets = dir.assets();
    if RealDisk.read_link(&assets).map_err(RecordError::io(&assets))?.is_some() {
        RealDisk.remove(&assets).map_err(RecordError::io(&assets))?;
    }
    for (parent, path) in [(dir.own(), dir.run()), (dir.visible(), dir.unions())] {
        if let Some(name) = path.file_name().filter(|_| path.exists()) {
            set_aside(parent, &name.to_string_lossy())?;
        }
    }
    Ok(gone)
}

/// Deletes what was set aside in an app's directories. Takes as long as it takes: not on the agent's own thread.
pub fn empty_trash(dir: &AppDir) -> Result<(), RecordError> {
    for parent in [dir.releases(), dir.own().to_owned(), dir.visible().to_owned()] {
        if parent.is_dir() {
            remove::empty_trash(&parent)
                .map_err(|error| RecordError::io(&parent)(std::io::Error::other(error)))?;
        }
    }
    Ok(())
}

/// Releases on disk, prepared or not; what is hidden is being built or removed.
fn listed(releases: &Path) -> Result<Vec<String>, RecordError> {
    let names = RealDisk.list(releases).map_err(RecordError::io(releases))?;
    Ok(names.into_iter().filter(|name| !name.starts_with('.')).collect())
}

fn set_aside(parent: &Path, name: &str) -> Result<(), RecordError> {
    remove::set_aside(parent, name)
        .map_err(|error| RecordError::io(parent.join(name))(std::io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_store::{ArtifactId, Digest};

    fn release(name: &str) -> ReleaseRef {
        let hash = Digest::of(name.as_bytes());
        ReleaseRef { name: name.to_owned(), ..ReleaseRef::new(ArtifactId(hash), hash, "1".parse().unwrap()) }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn b36_b37_b38_failed_releases_never_push_out_good_ones_and_zero_keeps_the_last() {
        let on_disk = names(&["a", "b", "c", "bad1", "bad2"]);
        let healthy = [release("c"), release("b"), release("a")];
        let healthy: Vec<&ReleaseRef> = healthy.iter().collect();
        let needed = BTreeSet::from(["bad2".to_owned()]);
        assert_eq!(superfluous(&on_disk, [&healthy, &[]], 2, &needed), names(&["a", "bad1"]));
        assert_eq!(superfluous(&on_disk, [&healthy, &[]], 0, &needed), names(&["a", "b", "bad1"]));
        assert_eq!(superfluous(&on_disk, [&healthy, &[]], 9, &needed), names(&["bad1"]));
    }

    #[test]
    fn a_healthy_release_that_is_gone_does_not_count() {
        let healthy = [release("gone"), release("b"), release("a")];
        let healthy: Vec<&ReleaseRef> = healthy.iter().collect();
        assert_eq!(superfluous(&names(&["a", "b"]), [&healthy, &[]], 1, &BTreeSet::new()), names(&["a"]));
    }

    #[test]
    fn releases_that_somebody_else_starts_stay_beside_healthy_ones_and_push_none_out() {
        let on_disk = names(&["old", "proved", "by-hand-1", "by-hand-2", "by-hand-3", "failed"]);
        let (healthy, by_hand) = ([release("proved"), release("old")], ["3", "2", "1"]);
        let by_hand = by_hand.map(|number| release(&format!("by-hand-{number}")));
        let healthy: Vec<&ReleaseRef> = healthy.iter().collect();
        let by_hand: Vec<&ReleaseRef> = by_hand.iter().collect();
        let goes = superfluous(&on_disk, [&healthy, &by_hand], 1, &BTreeSet::new());
        assert_eq!(goes, names(&["old", "by-hand-1", "by-hand-2", "failed"]));
        let goes = superfluous(&on_disk, [&healthy, &by_hand], 2, &BTreeSet::new());
        assert_eq!(goes, names(&["by-hand-1", "failed"]));
    }
}
