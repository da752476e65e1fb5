//! The file system where durability matters, as few operations as the agent's records and `current` need.
//!
//! Every method that changes something returns only when the change survives a power cut. Bulk data (objects,
//! release trees) goes through `landfall-store`, which has its own durability points.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// Durable file operations on landfall's own records.
pub trait Disk {
    /// The content, or `None` if there is no such file. At most `limit` bytes, else `InvalidData`.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>>;
    /// Puts a file of mode 0600 in place, whole or not at all.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Adds to the end of a file of mode 0600, creating it.
    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Removes a file; one that is not there is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Where a symbolic link points; `None` if nothing is there; an error if something else is.
    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>>;
    /// Makes `link` point to `target`: whoever resolves it sees the old or the new one at every instant.
    fn point(&self, link: &Path, target: &Path) -> io::Result<()>;
    /// Creates a directory and its parents.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted; none if it is not there.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
}

/// The kernel's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = Vec::new();
        file.take(limit + 1).read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("larger than {limit} bytes")));
        }
        Ok(Some(content))
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        put(path, content)
    }

    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let new = !path.try_exists()?;
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_data()?;
        if new { sync_parent(path) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Ok(()) => sync_parent(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        match std::fs::read_link(path) {
            Ok(target) => Ok(Some(target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn point(&self, link: &Path, target: &Path) -> io::Result<()> {
        let temporary = temporary_beside(link);
        symlink(target, &temporary)?;
        if let Err(error) = std::fs::rename(&temporary, link) {
            drop(std::fs::remove_file(&temporary));
            return Err(error);
        }
        sync_parent(link)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_dir(parent)?;
        }
        match std::fs::create_dir(path) {
            Ok(()) => sync_parent(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

impl RealDisk {
    /// [`Disk::replace`] for large contents: their memory is free again before the disk is waited for.
    pub fn replace_large(&self, path: &Path, content: Vec<u8>) -> io::Result<()> {
        put(path, content)
    }
}

fn put(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, content).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // The name was never given, so nobody can have seen it; the first error is the one to report.
        drop(std::fs::remove_file(&temporary));
    }
    written?;
    sync_parent(path)
}

/// Marks temporary names, so that leftovers of a crash can be told from records.
pub const TEMPORARY_PREFIX: &str = ".landfall-new-";

fn temporary_beside(path: &Path) -> PathBuf {
    path.with_file_name(format!("{TEMPORARY_PREFIX}{:016x}", fastrand::u64(..)))
}

fn write_new(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_ref())?;
    drop(content);
    file.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
