//! A store in a directory.
//!
//! # Order of writes, and why
//!
//! An object is visible under its key only when it is whole and on disk, so that a reader, a kill or a power
//! loss at any moment meets either nothing or the object:
//!
//! 1. The bytes go to a file `.new-…` in the object's top directory. Keys never begin with `.`, so no list
//!    and no read can meet it. Its mode is set by `fchmod`: the umask of whoever pushes must not decide who
//!    can fetch.
//! 2. `fsync` of the file. Without it, a file system with delayed allocation may keep the name and lose the
//!    bytes. If it fails, the attempt is lost: after a failed `fsync` the kernel may have dropped the dirty
//!    pages, and a second `fsync` would succeed without writing them.
//! 3. `link` to the key. It fails if the key exists, so two pushers of one object cannot disturb each other or
//!    a reader. (`rename` replaces silently; it is used where a file system has no hard links, and to replace
//!    an object of the wrong size, which can only be damage, because equal keys have equal bytes.)
//! 4. `fsync` of the directory that got the name, and, when it was created for it, of each directory above up
//!    to the first that existed. A directory's own entry is part of its parent.
//!
//! A mutable object is written like 1 and 2, then renamed over its key, then its directory is synced.
//! What a killed pusher left in `.new-…` is removed by the next store that is opened for writing, once its
//! writer's lock is gone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RawMode};
use rustix::io::Errno;

use super::{Access, Backend, BackendError, Cost, Key, Listed, Put, Upload};

const NEW_PREFIX: &str = ".new-";
const DIR_MODE: RawMode = 0o755;
/// Tries to name something in a directory that others may remove when it is empty.
const PARENT_TRIES: usize = 16;
/// Younger leftovers may belong to a pusher that has not taken its lock yet.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// Objects as files of a directory.
pub struct DirBackend {
    path: PathBuf,
    root: OwnedFd,
}

impl DirBackend {
    /// Opens an existing directory.
    pub fn open(path: &Path) -> Result<Self, BackendError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| at(path, "open", errno))?;
        Ok(Self { path: path.to_owned(), root })
    }

    /// Opens a directory for writing; creates it and what is missing above it.
    pub fn create(path: &Path) -> Result<Self, BackendError> {
        std::fs::create_dir_all(path).map_err(|source| at(path, "create", source))?;
        let backend = Self::open(path)?;
        backend.remove_leftovers();
        Ok(backend)
    }

    /// An object's file, for whoever passes it on: what is open stays what it was, whatever happens to its key.
    pub fn open_object(&self, key: &Key) -> Result<DirObject, BackendError> {
        let file = self.open_file(key)?;
        let facts = file.metadata().map_err(|source| self.fail("look at", key, source))?;
        if !facts.is_file() {
            return Err(BackendError::NotFound { key: key.clone(), at: self.location() });
        }
        let access = if facts.mode() & 0o004 == 0 { Access::Private } else { Access::Public };
        let modified = facts.modified().map_err(|source| self.fail("look at", key, source))?;
        Ok(DirObject { file, size: facts.len(), modified, access })
    }

    /// Begins an object that will be proved before it gets its key.
    pub fn receive(&self, key: &Key, access: Access) -> Result<DirUpload<'_>, BackendError> {
        self.new_file(key.top().as_ref(), access)
    }

    /// How much room there is on the file system.
    pub fn room(&self) -> Result<Room, BackendError> {
        let facts = rustix::fs::fstatvfs(&self.root).map_err(|errno| at(&self.path, "look at", errno))?;
        let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
        Ok(Room { total: bytes(facts.f_blocks), free: bytes(facts.f_bavail) })
    }

    fn fail(&self, action: &'static str, key: &Key, errno: impl Into<io::Error>) -> BackendError {
        BackendError::io(action, key, self.location(), errno.into())
    }

    fn open_file(&self, key: &Key) -> Result<File, BackendError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.root, key.as_str(), flags, Mode::empty())
            .map_err(|errno| self.fail("read", key, errno))?;
        Ok(File::from(file))
    }

    fn new_file(&self, top: Option<&Key>, access: Access) -> Result<DirUpload<'_>, BackendError> {
        let top = top.map_or(".", Key::as_str);
        let failed = |action, source: io::Error| BackendError::Io {
            action,
            key: top.to_owned(),
            at: self.location(),
            source,
        };
        if top != "." {
            self.make_dir(top).map_err(|errno| failed("create", errno.into()))?;
        }
        let name = format!("{top}/{NEW_PREFIX}{}", unique());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = match access {
            Access::Public => Mode::from_raw_mode(0o644),
            Access::Private => Mode::from_raw_mode(0o600),
        };
        let private = Mode::from_raw_mode(0o600);
        let open = || -> rustix::io::Result<OwnedFd> {
            let file = rustix::fs::openat(&self.root, &name, flags, private)?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            rustix::fs::fchmod(&file, mode)?;
            Ok(file)
        };
        let file = open().map_err(|errno| failed("begin an object in", errno.into()))?;
        Ok(DirUpload { backend: self, file: File::from(file), name, size: 0 })
    }

    /// Makes one directory; whether it is new.
    fn make_dir(&self, name: &str) -> rustix::io::Result<bool> {
        match rustix::fs::mkdirat(&self.root, name, Mode::from_raw_mode(DIR_MODE)) {
            Ok(()) => {
                rustix::fs::chmodat(&self.root, name, Mode::from_raw_mode(DIR_MODE), AtFlags::empty())?;
                self.sync_dir(name.rsplit_once('/').map_or(".", |(above, _)| above))?;
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Gives something a name in the directories of `key`. Whoever deletes the last object of a directory
    /// removes it, which may be between its making and the naming: then it is made again.
    fn in_parents<T>(
        &self,
        key: &Key,
        name: impl Fn() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<rustix::io::Result<T>> {
        let mut left = PARENT_TRIES;
        loop {
            let made = key.parents().try_for_each(|parent| self.make_dir(parent).map(drop));
            let named = match made {
                Ok(()) => name(),
                Err(errno) => Err(errno),
            };
            left -= 1;
            match (named, made) {
                (Err(Errno::NOENT), _) if left > 0 => {}
                (_, Err(errno)) => return Err(errno),
                (named, Ok(())) => return Ok(named),
            }
        }
    }

    fn sync_dir(&self, name: &str) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::fsync(rustix::fs::openat(&self.root, name, flags, Mode::empty())?)
    }

    fn sync_parent(&self, key: &Key) -> rustix::io::Result<()> {
        self.sync_dir(key.parents().last().unwrap_or("."))
    }

    /// Removes the directory of a deleted object if it was the last one there, and makes the deletion durable.
    /// The directories at the top stay: uploads begin in them.
    fn tidy_parent(&self, key: &Key) -> rustix::io::Result<()> {
        let parents: Vec<&str> = key.parents().collect();
        if let [.., above, parent] = parents.as_slice()
            && rustix::fs::unlinkat(&self.root, *parent, AtFlags::REMOVEDIR).is_ok()
        {
            return self.sync_dir(above);
        }
        match self.sync_parent(key) {
            // Somebody else deleted what was left there.
            Err(Errno::NOENT) => Ok(()),
            synced => synced,
        }
    }

    /// Gives a synced new file its key.
    fn publish(&self, new: &str, key: &Key, size: u64) -> Result<Put, BackendError> {
        let link = || rustix::fs::linkat(&self.root, new, &self.root, key.as_str(), AtFlags::empty());
        let linked = self.in_parents(key, link);
        let linked = linked.map_err(|errno| self.fail("create the directory of", key, errno))?;
        let put = match linked {
            Ok(()) => Put::Stored,
            Err(Errno::EXIST) if self.size(key)? == Some(size) => Put::Existed,
            Err(Errno::EXIST | Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                return self.rename_over(new, key).map(|()| Put::Stored);
            }
            Err(errno) => return Err(self.fail("write", key, errno)),
        };
        self.sync_parent(key).map_err(|errno| self.fail("make durable", key, errno))?;
        Ok(put)
    }

    /// Gives a synced new file its key, in place of what has it.
    fn rename_over(&self, new: &str, key: &Key) -> Result<(), BackendError> {
        let rename = || rustix::fs::renameat(&self.root, new, &self.root, key.as_str());
        let renamed = self.in_parents(key, rename);
        renamed
            .map_err(|errno| self.fail("create the directory of", key, errno))?
            .map_err(|errno| self.fail("write", key, errno))?;
        self.sync_parent(key).map_err(|errno| self.fail("make durable", key, errno))
    }

    fn remove_leftovers(&self) {
        self.remove_leftovers_in(".");
        let Ok(tops) = read_names(&self.root, ".") else { return };
        for (top, kind) in tops {
            if kind == FileType::Directory {
                self.remove_leftovers_in(&top);
            }
        }
    }

    fn remove_leftovers_in(&self, top: &str) {
        for (name, _) in read_names(&self.root, top).unwrap_or_default() {
            if !name.starts_with(NEW_PREFIX) {
                continue;
            }
            let name = format!("{top}/{name}");
            if self.is_abandoned(&name).unwrap_or(false) {
                tracing::debug!(file = name, store = %self.path.display(), "removing what a killed push left");
                // Another pusher may have removed it; a failure costs disk space only.
                let _ = rustix::fs::unlinkat(&self.root, &name, AtFlags::empty());
            }
        }
    }

    fn is_abandoned(&self, name: &str) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::openat(&self.root, name, flags, Mode::empty())?);
        let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
        let unlocked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        Ok(unlocked && age > LEFTOVER_AGE)
    }

    fn list_into(&self, under: &Key, found: &mut Vec<Listed>) -> Result<(), BackendError> {
        let names = match read_names(&self.root, under.as_str()) {
            Ok(names) => names,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.fail("list", under, errno)),
        };
        for (name, _) in names {
            // What has no key is none of the store's: new files, editors' backups.
            let Ok(key) = under.join(&name) else { continue };
            let stat = match rustix::fs::statat(&self.root, key.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(self.fail("list", &key, errno)),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => self.list_into(&key, found)?,
                FileType::RegularFile => {
                    let modified = modified(&stat);
                    found.push(Listed { key, size: stat.st_size as u64, modified });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn at(path: &Path, action: &'static str, source: impl Into<io::Error>) -> BackendError {
    BackendError::Io { action, key: ".".to_owned(), at: path.display().to_string(), source: source.into() }
}

/// When a file was written. A time before 1970 is as old as any.
fn modified(stat: &rustix::fs::Stat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::new(seconds, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

fn read_names(root: &OwnedFd, name: &str) -> rustix::io::Result<Vec<(String, FileType)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::new(rustix::fs::openat(root, name, flags, Mode::empty())?)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

/// A name that no other writer of this machine has: process and counter. Another machine's on a shared
/// file system is caught by `O_EXCL`, and the nanoseconds make it unlikely.
fn unique() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    format!("{}-{}-{nanos}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// All of them.
    pub total: u64,
    /// Those that this process may still fill.
    pub free: u64,
}

/// An object that was found, open.
#[derive(Debug)]
pub struct DirObject {
    /// Its file.
    pub file: File,
    /// Its bytes.
    pub size: u64,
    /// When it was written.
    pub modified: SystemTime,
    /// Who may read it.
    pub access: Access,
}

impl DirObject {
    /// Its bytes from the first on.
    pub fn content(&self) -> io::Result<impl Read + use<>> {
        Ok(RangeReader { file: self.file.try_clone()?, at: 0, left: self.size })
    }
}

/// An object being written into a directory. Dropped without an end of [`Upload`], it never existed.
pub struct DirUpload<'a> {
    backend: &'a DirBackend,
    file: File,
    name: String,
    size: u64,
}

impl DirUpload<'_> {
    /// What was written so far, from the first byte on.
    pub fn content(&self) -> io::Result<impl Read + use<>> {
        Ok(RangeReader { file: self.file.try_clone()?, at: 0, left: self.size })
    }
}

impl Write for DirUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for DirUpload<'_> {
    fn commit(self: Box<Self>, key: &Key) -> Result<Put, BackendError> {
        self.file.sync_all().map_err(|errno| self.backend.fail("make durable", key, errno))?;
        self.backend.publish(&self.name, key, self.size)
    }

    fn overwrite(self: Box<Self>, key: &Key) -> Result<(), BackendError> {
        self.file.sync_all().map_err(|errno| self.backend.fail("make durable", key, errno))?;
        self.backend.rename_over(&self.name, key)
    }
}

impl Drop for DirUpload<'_> {
    fn drop(&mut self) {
        // After a link it is the second name, after a rename it is gone; a failure leaves a file that the
        // next writer removes.
        let _ = rustix::fs::unlinkat(&self.backend.root, &self.name, AtFlags::empty());
    }
}

struct RangeReader {
    file: File,
    at: u64,
    left: u64,
}

impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

impl Backend for DirBackend {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn cost(&self) -> Cost {
        // A range of a local file is a system call: small runs keep every core busy.
        let parallel = std::thread::available_parallelism().map_or(1, usize::from);
        Cost { parallel, per_object: parallel, gap_bytes: 16 << 10, run_bytes: 2 << 20, whole_percent: 100 }
    }

    /// The clock of the file system that gives objects their times: on a network mount it is the server's.
    fn now(&self) -> Result<SystemTime, BackendError> {
        let probe = self.new_file(None, Access::Private)?;
        let modified = probe.file.metadata().and_then(|facts| facts.modified());
        modified.map_err(|source| at(&self.path, "ask the time of", source))
    }

    fn size(&self, key: &Key) -> Result<Option<u64>, BackendError> {
        match rustix::fs::statat(&self.root, key.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_size as u64)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(self.fail("look at", key, errno)),
        }
    }

    fn read(&self, key: &Key, offset: u64, length: u64) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        Ok(Box::new(RangeReader { file: self.open_file(key)?, at: offset, left: length }))
    }

    fn begin(&self, under: Option<&Key>, access: Access) -> Result<Box<dyn Upload + '_>, BackendError> {
        let top = under.map(|under| under.top().unwrap_or_else(|| under.clone()));
        Ok(Box::new(self.new_file(top.as_ref(), access)?))
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), BackendError> {
        let mut upload = self.new_file(key.top().as_ref(), Access::Public)?;
        upload.write_all(bytes).map_err(|errno| self.fail("write", key, errno))?;
        Box::new(upload).overwrite(key)
    }

    fn list(&self, under: &Key) -> Result<Vec<Listed>, BackendError> {
        let mut found = Vec::new();
        self.list_into(under, &mut found)?;
        found.sort();
        Ok(found)
    }

    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        match rustix::fs::unlinkat(&self.root, key.as_str(), AtFlags::empty()) {
            Ok(()) => self.tidy_parent(key).map_err(|errno| self.fail("delete", key, errno)),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.fail("delete", key, errno)),
        }
    }
}
