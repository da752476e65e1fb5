//! Which releases stay on the host.
//!
//! Current, desired, last healthy and the newest N *healthy* ones stay. Failed ones never count and never
//! push a good one out. A record that cannot be read stops the cleaning with nothing removed.

use std::collections::BTreeSet;
use std::path::Path;

use landfall_store::remove;

use crate::disk::{Disk, RealDisk};
use crate::layout::AppDir;
use crate::record::RecordError;
use crate::record::history::History;
use crate::record::release::ReleaseRef;
use crate::switch;

/// Names that go, of those on disk. Pure.
pub fn superfluous(
    on_disk: &[String],
    healthy: &[&ReleaseRef],
    keep_healthy: usize,
    needed: &BTreeSet<String>,
) -> Vec<String> {
    let on_disk_and_healthy =
        healthy.iter().map(|release| &release.name).filter(|name| on_disk.contains(name));
    let kept: BTreeSet<&String> = on_disk_and_healthy.take(keep_healthy.max(1)).collect();
    on_disk.iter().filter(|name| !kept.contains(name) && !needed.contains(*name)).cloned().collect()
}

/// Sets aside what is superfluous; [`empty_trash`] deletes it. Returns the names.
pub fn sweep(
    dir: &AppDir,
    history: &History,
    keep_healthy: usize,
    desired: Option<&str>,
) -> Result<Vec<String>, RecordError> {
    let mut needed: BTreeSet<String> = desired.map(str::to_owned).into_iter().collect();
    needed.extend(switch::named(&RealDisk, dir)?);
    let releases = dir.releases();
    let gone = superfluous(&listed(&releases)?, &history.healthy(), keep_healthy, &needed);
    for name in &gone {
        set_aside(&releases, name)?;
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
    if dir.run().exists() {
        set_aside(dir.own(), "run")?;
    }
    Ok(gone)
}

/// Deletes what was set aside in an app's directories. Takes as long as it takes: not on the agent's own thread.
pub fn empty_trash(dir: &AppDir) -> Result<(), RecordError> {
    for parent in [dir.releases(), dir.own().to_owned()] {
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
        assert_eq!(superfluous(&on_disk, &healthy, 2, &needed), names(&["a", "bad1"]));
        assert_eq!(superfluous(&on_disk, &healthy, 0, &needed), names(&["a", "b", "bad1"]));
        assert_eq!(superfluous(&on_disk, &healthy, 9, &needed), names(&["bad1"]));
    }

    #[test]
    fn a_healthy_release_that_is_gone_does_not_count() {
        let healthy = [release("gone"), release("b"), release("a")];
        let healthy: Vec<&ReleaseRef> = healthy.iter().collect();
        assert_eq!(superfluous(&names(&["a", "b"]), &healthy, 1, &BTreeSet::new()), names(&["a"]));
    }
}
