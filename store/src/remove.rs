//! Removes release directories, of any depth, without following anything out of them.
//!
//! A directory is renamed aside first, which is instant and can be done while processes still run in it, and
//! then emptied. Directories inside it are moved up beside each other before they are emptied, so that depth
//! costs neither stack nor descriptors, and a removal that is cut short goes on where it was.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::fsio::{self, At, FsError};

/// The beginning of the name of everything that waits for its removal.
const TRASH_PREFIX: &str = ".trash-";

/// Why something could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// A file-system call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// Another file system, or a part of this one, is mounted inside.
    #[error(
        "{0} has something mounted in it (`{1}`), and nothing behind a mount is removed: unmount it first"
    )]
    Mount(PathBuf, String),
}

/// Renames `name` in `parent` aside, durably, and removes it. Not there: nothing to do.
pub fn remove(parent: &Path, name: &str) -> Result<(), RemoveError> {
    let dir = fsio::open_root(parent)?;
    remove_at(dir.as_fd(), parent, name.as_bytes())
}

/// Renames `name` in `parent` aside, durably; [`empty_trash`] removes it later. Not there: nothing to do.
pub fn set_aside(parent: &Path, name: &str) -> Result<(), RemoveError> {
    let dir = fsio::open_root(parent)?;
    rename_aside(dir.as_fd(), parent, name.as_bytes())?;
    Ok(())
}

/// Removes everything that was set aside in `parent`; returns how much that was.
pub fn empty_trash(parent: &Path) -> Result<u64, RemoveError> {
    let dir = fsio::open_root(parent)?;
    let mut removed = 0;
    for entry in fsio::list(dir.as_fd()).at("list", parent)? {
        if entry.name.starts_with(TRASH_PREFIX.as_bytes()) {
            empty_and_remove(dir.as_fd(), parent, &entry.name)?;
            removed += 1;
        }
    }
    Ok(removed)
}

pub(crate) fn remove_at(parent: BorrowedFd<'_>, path: &Path, name: &[u8]) -> Result<(), RemoveError> {
    match rename_aside(parent, path, name)? {
        Some(trash) => empty_and_remove(parent, path, trash.as_bytes()),
        None => Ok(()),
    }
}

fn rename_aside(parent: BorrowedFd<'_>, path: &Path, name: &[u8]) -> Result<Option<String>, RemoveError> {
    let trash = fsio::fresh_name(TRASH_PREFIX);
    match fsio::rename(parent, name, parent, trash.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        renamed => renamed.at("rename aside", path.join(OsStr::from_bytes(name)))?,
    }
    // The name must not come back after a crash, half emptied.
    fsio::sync(parent).at("make durable", path)?;
    Ok(Some(trash))
}

fn empty_and_remove(parent: BorrowedFd<'_>, path: &Path, name: &[u8]) -> Result<(), RemoveError> {
    let full = path.join(OsStr::from_bytes(name));
    match open_to_empty(parent, name) {
        Ok(trash) => {
            Trash { dir: trash.as_fd(), path: &full, moved: 0 }.empty()?;
            fsio::remove_dir(parent, name).at("remove", &full)?;
        }
        Err(error) if fsio::is_no_directory(&error) => fsio::unlink(parent, name).at("remove", &full)?,
        Err(error) => return Err(FsError { action: "open", path: full, source: error }.into()),
    }
    Ok(())
}

struct Trash<'a> {
    dir: BorrowedFd<'a>,
    path: &'a Path,
    moved: u64,
}

impl Trash<'_> {
    /// Empties itself and then, one after another, the directories that were moved up.
    fn empty(&mut self) -> Result<(), RemoveError> {
        let mut waiting = Vec::new();
        self.empty_one(self.dir, true, &mut waiting)?;
        while let Some(name) = waiting.pop() {
            let opened = open_to_empty(self.dir, &name).map_err(|error| self.explain(error, &name))?;
            self.empty_one(opened.as_fd(), false, &mut waiting)?;
            fsio::remove_dir(self.dir, &name).map_err(|error| self.explain(error, &name))?;
        }
        Ok(())
    }

    fn empty_one(
        &mut self,
        dir: BorrowedFd<'_>,
        is_top: bool,
        waiting: &mut Vec<Vec<u8>>,
    ) -> Result<(), RemoveError> {
        for entry in fsio::list(dir).at("list a directory in", self.path)? {
            if !entry.is_dir(dir).at("look at an entry in", self.path)? {
                fsio::unlink(dir, &entry.name).at("remove a file in", self.path)?;
            } else if is_top {
                waiting.push(entry.name);
            } else {
                waiting.push(self.move_up(dir, &entry.name)?);
            }
        }
        Ok(())
    }

    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>, RemoveError> {
        loop {
            self.moved += 1;
            let new = format!(".up-{}", self.moved).into_bytes();
            let moved = match fsio::rename_new(dir, name, self.dir, &new) {
                // The directory's `..` changes, which needs write permission on itself.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    open_to_empty(dir, name).and_then(|_| fsio::rename_new(dir, name, self.dir, &new))
                }
                moved => moved,
            };
            match moved {
                Ok(()) => return Ok(new),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.explain(error, name)),
            }
        }
    }

    fn explain(&self, source: io::Error, name: &[u8]) -> RemoveError {
        use io::ErrorKind::{CrossesDevices, ResourceBusy};
        if matches!(source.kind(), ResourceBusy | CrossesDevices) {
            return RemoveError::Mount(self.path.to_owned(), String::from_utf8_lossy(name).into_owned());
        }
        FsError { action: "remove a directory in", path: self.path.to_owned(), source }.into()
    }
}

/// Opens a directory so that it can be emptied, whatever its mode says, but not one behind a mount.
fn open_to_empty(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let opened = match fsio::open_dir_here(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            fsio::grant_owner(dir, name)?;
            fsio::open_dir_here(dir, name)?
        }
        opened => opened?,
    };
    if fsio::own_uid() != 0 {
        fsio::set_mode(opened.as_fd(), 0o700)?;
    }
    Ok(opened)
}
