//! `current`: the one place that reads and moves it.
//!
//! It is a relative link `releases/<name>`, replaced by renaming a new link over it, so that it resolves at
//! every instant from the first healthy release on. `ln -sfn` would remove it first.

use std::path::Path;

use crate::disk::Disk;
use crate::layout::AppDir;
use crate::record::RecordError;
use crate::record::release::ReleaseRef;

/// Points `current` at a release, durably.
pub fn to(disk: &dyn Disk, dir: &AppDir, release: &ReleaseRef) -> Result<(), RecordError> {
    let link = dir.current();
    if named(disk, dir)?.as_deref() == Some(release.name.as_str()) {
        return Ok(());
    }
    disk.point(&link, &dir.link_to(&release.name)).map_err(RecordError::io(link))
}

/// Removes `current`: only when nothing was ever healthy here.
pub fn away(disk: &dyn Disk, dir: &AppDir) -> Result<(), RecordError> {
    disk.remove(&dir.current()).map_err(RecordError::io(dir.current()))
}

/// The release name that `current` holds, if it is a link of landfall's form.
pub fn named(disk: &dyn Disk, dir: &AppDir) -> Result<Option<String>, RecordError> {
    let link = dir.current();
    let Some(target) = disk.read_link(&link).map_err(RecordError::io(&link))? else { return Ok(None) };
    let name = target.strip_prefix(Path::new("releases")).ok().and_then(Path::to_str);
    match name {
        Some(name) if !name.is_empty() && !name.contains('/') && name != ".." => Ok(Some(name.to_owned())),
        _ => Err(RecordError::Damaged {
            path: link,
            why: format!("it points to {}, not to a release of this app", target.display()),
        }),
    }
}
