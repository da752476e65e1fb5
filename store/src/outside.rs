//! Paths of a release that live outside it: made beneath a directory of their own, and linked to.
//!
//! What stands there may belong to the app, so nothing is reached through a link that the app could have put
//! there. A link that only landfall's own account could have made is the operator's, and stands for the path.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::fsio::{self, At, Facts, FsError, Owner};
use crate::path::EntryPath;

/// What a path should be where nothing stands yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0600.
    File,
}

/// Why a path could not be had.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// A file-system call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A link stands where the app could have put it.
    #[error("{0} is a link that the app could have made, and is not followed: put a directory or file there")]
    Link(PathBuf),
    /// Something else stands in the way.
    #[error("{0} is neither a directory nor a file")]
    Kind(PathBuf),
}

/// Makes `path` beneath `top`, with the directories above it, and gives it to `owner`. What is there already is
/// left as it is, whatever it holds.
pub fn ensure(
    top: &Path,
    path: &EntryPath,
    wanted: Wanted,
    owner: Option<Owner>,
) -> Result<(), OutsideError> {
    let mut dir = fsio::open_root(top)?;
    let mut so_far = top.to_owned();
    let last = path.components().count() - 1;
    for (depth, name) in path.components().enumerate() {
        so_far.push(std::ffi::OsStr::from_bytes(name));
        let found = fsio::facts_if_any(dir.as_fd(), name).at("look at", &so_far)?;
        match found {
            None if depth == last && wanted == Wanted::File => {
                let file = fsio::create(dir.as_fd(), name, 0o600).at("create", &so_far)?;
                return Ok(settle(file.as_fd(), dir.as_fd(), owner).at("hand over", &so_far)?);
            }
            None => {
                fsio::make_dir(dir.as_fd(), name, 0o755).at("create the directory", &so_far)?;
                let made = fsio::open_dir(dir.as_fd(), name).at("open", &so_far)?;
                fsio::set_mode(made.as_fd(), 0o755).at("set the mode of", &so_far)?;
                let owner = owner.filter(|_| depth == last);
                settle(made.as_fd(), dir.as_fd(), owner).at("hand over", &so_far)?;
                dir = made;
            }
            Some(facts) if facts.is_dir() => {
                dir = fsio::open_dir(dir.as_fd(), name).at("open", &so_far)?;
                if let Some(owner) = owner.filter(|_| depth == last) {
                    take_over(dir.as_fd(), owner).at("hand over", &so_far)?;
                }
            }
            Some(facts) if facts.is_file() && depth == last => return Ok(()),
            Some(facts) if facts.is_link() && depth == last => {
                return match only_landfall_writes(dir.as_fd()).at("look at", &so_far)? {
                    true => Ok(()),
                    false => Err(OutsideError::Link(so_far)),
                };
            }
            Some(facts) => return Err(in_the_way(facts, so_far)),
        }
    }
    Ok(())
}

fn in_the_way(facts: Facts, path: PathBuf) -> OutsideError {
    if facts.is_link() { OutsideError::Link(path) } else { OutsideError::Kind(path) }
}

fn settle(made: BorrowedFd<'_>, above: BorrowedFd<'_>, owner: Option<Owner>) -> io::Result<()> {
    if let Some(owner) = owner {
        fsio::set_owner(made, owner)?;
    }
    fsio::sync(made)?;
    fsio::sync(above)
}

/// A directory of landfall's own, made on the way to another path, becomes the app's.
fn take_over(dir: BorrowedFd<'_>, owner: Owner) -> io::Result<()> {
    let (now, _) = fsio::ownership(dir)?;
    if now == fsio::own_uid() && now != owner.uid { fsio::set_owner(dir, owner) } else { Ok(()) }
}

/// Nobody but landfall's own account (and root) could have put a name there.
fn only_landfall_writes(dir: BorrowedFd<'_>) -> io::Result<bool> {
    let (owner, mode) = fsio::ownership(dir)?;
    Ok((owner == fsio::own_uid() || owner == 0) && mode & 0o022 == 0)
}

/// Makes `path` beneath `top` a link to `target`, with the directories above it. Nothing may stand there.
pub fn link(top: &Path, path: &EntryPath, target: &Path) -> Result<(), OutsideError> {
    let full = || top.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
    let opened = fsio::open_root(top)?;
    let dir = above(opened, path).at("open the directory of", full())?;
    fsio::symlink(target.as_os_str().as_bytes(), dir.as_fd(), path.file_name())
        .at("create the link", full())?;
    Ok(fsio::sync(dir.as_fd()).at("make durable", full())?)
}

fn above(top: OwnedFd, path: &EntryPath) -> io::Result<OwnedFd> {
    let mut dir = top;
    for name in path.parent().unwrap_or_default().split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    {
        dir = fsio::ensure_dir(dir.as_fd(), name, 0o755)?;
    }
    Ok(dir)
}

/// Whether `path` beneath `top` is that link still.
pub fn is_linked(top: &Path, path: &EntryPath, target: &Path) -> Result<bool, OutsideError> {
    let full = || top.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
    let opened = fsio::open_root(top)?;
    let dir = match fsio::open_beneath(opened.as_fd(), path.parent().unwrap_or_default()) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound || fsio::is_no_directory(&error) => {
            return Ok(false);
        }
        Err(error) => return Ok(Err(error).at("open the directory of", full())?),
    };
    let found = fsio::facts_if_any(dir.as_fd(), path.file_name()).at("look at", full())?;
    if !found.is_some_and(|facts| facts.is_link()) {
        return Ok(false);
    }
    let leads = fsio::read_link(dir.as_fd(), path.file_name()).at("read the link", full())?;
    Ok(leads == target.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    #[test]
    fn directories_and_files_are_made_once_and_what_is_there_is_left() {
        let top = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            ensure(top.path(), &path("a/uploads"), Wanted::Directory, None).unwrap();
            ensure(top.path(), &path("data/app.db"), Wanted::File, None).unwrap();
        }
        fs::write(top.path().join("data/app.db"), "rows").unwrap();
        ensure(top.path(), &path("data/app.db"), Wanted::File, None).unwrap();
        // A file that an older tool left is as good as a directory.
        ensure(top.path(), &path("data/app.db"), Wanted::Directory, None).unwrap();
        assert_eq!(fs::read_to_string(top.path().join("data/app.db")).unwrap(), "rows");
        let mode = fs::metadata(top.path().join("data/app.db")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_link_counts_only_where_nobody_but_landfall_could_have_put_it() {
        let (top, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(elsewhere.path(), top.path().join("uploads")).unwrap();
        ensure(top.path(), &path("uploads"), Wanted::Directory, None).unwrap();
        // Through it nothing is made.
        let through = ensure(top.path(), &path("uploads/in"), Wanted::Directory, None);
        assert!(matches!(through, Err(OutsideError::Link(_))), "{through:?}");
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let planted = ensure(top.path(), &path("uploads"), Wanted::Directory, None);
        assert!(matches!(planted, Err(OutsideError::Link(_))), "{planted:?}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_is_made_and_known_again_and_never_through_another_link() {
        let (top, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = elsewhere.path().join("uploads");
        link(top.path(), &path("public/uploads"), &target).unwrap();
        assert!(is_linked(top.path(), &path("public/uploads"), &target).unwrap());
        assert!(!is_linked(top.path(), &path("public/uploads"), elsewhere.path()).unwrap());
        assert!(!is_linked(top.path(), &path("public/other"), &target).unwrap());
        symlink(elsewhere.path(), top.path().join("out")).unwrap();
        assert!(link(top.path(), &path("out/x"), &target).is_err());
        assert!(!is_linked(top.path(), &path("out/x"), &target).unwrap());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
