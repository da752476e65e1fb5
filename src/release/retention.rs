//! Which releases stay on the host.
//!
//! Current, desired, last healthy and the newest N *healthy* ones stay. Failed ones never count and never
//! push a good one out. A record that cannot be read stops the cleaning with nothing removed.

use std::collections::BTreeSet;

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

/// Sets aside what is superfluous: gone at once, deleted when the trash is emptied. Returns the names.
pub fn sweep(
    dir: &AppDir,
    history: &History,
    keep_healthy: usize,
    desired: Option<&str>,
) -> Result<Vec<String>, RecordError> {
    let mut needed: BTreeSet<String> = desired.map(str::to_owned).into_iter().collect();
    needed.extend(switch::named(&RealDisk, dir)?);
    let releases = dir.releases();
    let io = RecordError::io(&releases);
    let on_disk: Vec<String> =
        RealDisk.list(&releases).map_err(io)?.into_iter().filter(|name| !name.starts_with('.')).collect();
    let gone = superfluous(&on_disk, &history.healthy(), keep_healthy, &needed);
    for name in &gone {
        remove::set_aside(&releases, name)
            .map_err(|error| RecordError::io(releases.join(name))(std::io::Error::other(error)))?;
    }
    Ok(gone)
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
