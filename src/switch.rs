//! `current`: the one place that reads and moves it.
//!
//! It is a relative link `releases/<name>`, replaced by renaming a new link over it, so that it resolves at
//! every instant from the first healthy release on. `ln -sfn` would remove it first.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::layout::AppDir;
use crate::record::RecordError;
use crate::record::release::ReleaseRef;

/// What stands where `current` belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linked {
    /// Nothing.
    Nothing,
    /// A link of landfall's form, to the release of this name.
    Release(String),
    /// A link that landfall did not make.
    Elsewhere(PathBuf),
}

/// Points `current` at a release, durably. A link that somebody else made is replaced; what is no link is not.
pub fn to(disk: &dyn Disk, dir: &AppDir, release: &ReleaseRef) -> Result<(), RecordError> {
    let link = dir.current();
    if found(disk, dir)? == Linked::Release(release.name.clone()) {
        return Ok(());
    }
    disk.point(&link, &dir.link_to(&release.name)).map_err(RecordError::io(link))
}

/// Removes `current`: only when nothing was ever healthy here.
pub fn away(disk: &dyn Disk, dir: &AppDir) -> Result<(), RecordError> {
    disk.remove(&dir.current()).map_err(RecordError::io(dir.current()))
}

/// What `current` is. An error where it is no link: then it is somebody's own.
pub fn found(disk: &dyn Disk, dir: &AppDir) -> Result<Linked, RecordError> {
    let link = dir.current();
    let target = match disk.read_link(&link) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let why = "it is no link but a file or directory that landfall did not make, so it is left as it is; move it away, and landfall puts its link back".to_owned();
            return Err(RecordError::Damaged { path: link, why });
        }
        Err(error) => return Err(RecordError::io(link)(error)),
    };
    let Some(target) = target else { return Ok(Linked::Nothing) };
    let name = target.strip_prefix(Path::new("releases")).ok().and_then(Path::to_str);
    Ok(match name {
        Some(name) if !name.is_empty() && !name.contains('/') && name != ".." => {
            Linked::Release(name.to_owned())
        }
        _ => Linked::Elsewhere(target),
    })
}

/// The release name that `current` holds, if it is a link of landfall's form.
pub fn named(disk: &dyn Disk, dir: &AppDir) -> Result<Option<String>, RecordError> {
    match found(disk, dir)? {
        Linked::Nothing => Ok(None),
        Linked::Release(name) => Ok(Some(name)),
        Linked::Elsewhere(target) => Err(RecordError::Damaged {
            path: dir.current(),
            why: format!("it points to {}, not to a release of this app", target.display()),
        }),
    }
}
