//! The state file on disk: read, replaced whole, and changed by one landfall at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::disk::{Disk, RealDisk};
use crate::state::STATE_BYTES_MAX;

/// How long another landfall may take to change the same directory's state: as long as a commit hook may.
const LOCK_WAIT_S_MAX: Duration = Duration::from_secs(60);
/// Mode of a first file, less the process's umask: state holds no secrets.
const FIRST_MODE: u32 = 0o666;

/// Why the state file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is no directory to put it into.
    #[error("{path}: there is no directory {dir}")]
    NoDirectory {
        /// The file.
        path: PathBuf,
        /// The directory that is missing.
        dir: PathBuf,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not text.
    #[error("{path}: the state is not UTF-8")]
    NotUtf8 {
        /// Which file.
        path: PathBuf,
    },
    /// Another landfall is at it and does not end.
    #[error("{path}: another landfall has been changing it for a minute")]
    Busy {
        /// Which file.
        path: PathBuf,
    },
}

/// The state file, with links resolved, held against every other landfall that changes it.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    _held: File,
}

impl StateFile {
    /// Finds the file, which need not exist, and waits for its turn.
    pub(super) fn hold(path: &Path) -> Result<Self, FileError> {
        let path = real(path)?;
        let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
        if !dir.is_dir() {
            return Err(FileError::NoDirectory { path, dir });
        }
        let held = lock(&dir).map_err(io_at(&path))?.ok_or_else(|| FileError::Busy { path: path.clone() })?;
        Ok(Self { path, _held: held })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Its text; `None`: there is no such file yet.
    pub(super) fn read(&self) -> Result<Option<String>, FileError> {
        let bytes = RealDisk.read(&self.path, STATE_BYTES_MAX).map_err(io_at(&self.path))?;
        let text =
            |bytes| String::from_utf8(bytes).map_err(|_| FileError::NotUtf8 { path: self.path.clone() });
        bytes.map(text).transpose()
    }

    /// Puts `text` in the file's place, durably. Mode and owner stay as they are.
    pub(super) fn replace(&self, text: &str) -> Result<(), FileError> {
        let new = self.path.with_file_name(format!(".landfall-new-{:016x}", fastrand::u64(..)));
        let written = write_like(&self.path, &new, text).and_then(|()| std::fs::rename(&new, &self.path));
        if written.is_err() {
            // The name was never given, so nobody can have seen it; the first error is the one to report.
            drop(std::fs::remove_file(&new));
        }
        written.and_then(|()| File::open(self.dir())?.sync_all()).map_err(io_at(&self.path))
    }

    /// Puts back what was there before; `None`: nothing.
    pub(super) fn restore(&self, before: Option<&str>) -> Result<(), FileError> {
        match before {
            Some(text) => self.replace(text),
            None => RealDisk.remove(&self.path).map_err(io_at(&self.path)),
        }
    }
}

/// A link to the state leads to the file that is edited; a rename over the link would cut it.
fn real(path: &Path) -> Result<PathBuf, FileError> {
    match std::fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let absolute = std::path::absolute(path).map_err(io_at(path))?;
            let dir = absolute.parent().and_then(|dir| std::fs::canonicalize(dir).ok());
            Ok(match (dir, absolute.file_name()) {
                (Some(dir), Some(name)) => dir.join(name),
                _ => absolute,
            })
        }
        Err(error) => Err(io_at(path)(error)),
    }
}

/// The lock is on the directory, because the file itself is replaced. `None`: not in time.
fn lock(dir: &Path) -> io::Result<Option<File>> {
    let held = File::open(dir)?;
    match flock(&held, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(Some(held)),
        Err(Errno::WOULDBLOCK) => {}
        // Network file systems cannot lock a directory; there git's own lock on its index is the only one.
        Err(Errno::BADF | Errno::NOLCK | Errno::OPNOTSUPP) => return Ok(Some(held)),
        Err(error) => return Err(error.into()),
    }
    // The kernel has no lock with a deadline; a thread that still waits when it passes ends with the process.
    let (mine, theirs) = mpsc::channel();
    std::thread::spawn(move || {
        let locked = flock(&held, FlockOperation::LockExclusive).map(|()| held);
        drop(mine.send(locked));
    });
    match theirs.recv_timeout(LOCK_WAIT_S_MAX) {
        Ok(locked) => Ok(Some(locked?)),
        Err(_) => Ok(None),
    }
}

fn write_like(old: &Path, new: &Path, text: &str) -> io::Result<()> {
    let like = match std::fs::metadata(old) {
        Ok(like) => Some(like),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FIRST_MODE).open(new)?;
    if let Some(like) = like {
        if like.uid() != rustix::process::geteuid().as_raw() {
            // Only root may give files away; for anybody else the new file is their own, as with any editor.
            drop(fchown(&file, Some(like.uid()), Some(like.gid())));
        }
        file.set_permissions(std::fs::Permissions::from_mode(like.mode() & 0o7777))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> FileError + '_ {
    move |source| FileError::Io { path: path.to_owned(), source }
}
