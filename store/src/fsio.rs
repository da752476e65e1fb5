//! The file-system calls that durability and safety hang on, in one place.
//!
//! Everything works relative to an open directory and on a single name, or through [`open_beneath`], which
//! never passes a symbolic link. Files get their final mode when they are created. Calls that only Linux has
//! stand here and nowhere else.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use crate::tag::{Precision, Tag};

/// Threads that create, link or read files side by side: more than this gave nothing in measurements, and a
/// directory's lock is shared anyway.
const DISK_THREADS_MAX: usize = 4;
/// Bytes of path handed to the kernel in one call, below PATH_MAX; longer ones are walked in pieces.
const PATH_PIECE_BYTES_MAX: usize = 3072;

/// A file-system call that failed: what was tried, on which path, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", .path.display())]
pub struct FsError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

/// Names the path of a failed call.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, FsError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, FsError> {
        self.map_err(|source| FsError { action, path: path.as_ref().to_owned(), source: source.into() })
    }
}

/// An owner and group for files that the app may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What `lstat` says, as far as anything here cares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub kind: FileType,
    pub mode: u32,
    pub size: u64,
    pub mtime: Tag,
    pub links: u64,
    pub inode: (u64, u64),
}

impl From<Stat> for Facts {
    // The fields' widths differ between platforms; on this one some casts do nothing.
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the fields of a stat differ in width and sign between systems"
    )]
    fn from(stat: Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode as u32 & 0o7777,
            size: stat.st_size as u64,
            mtime: Tag { sec: stat.st_mtime as i64, nsec: stat.st_mtime_nsec as u32 },
            links: stat.st_nlink as u64,
            inode: (stat.st_dev as u64, stat.st_ino as u64),
        }
    }
}

impl Facts {
    pub fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    pub fn is_link(&self) -> bool {
        self.kind == FileType::Symlink
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const CREATE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory that an operator named; links on the way are theirs.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, FsError> {
    rustix::fs::open(path, DIRECTORY, Mode::empty()).at("open the directory", path)
}

/// Opens a directory by one name; a link is refused.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Whether opening a directory failed because something else has the name.
pub(crate) fn is_no_directory(error: &io::Error) -> bool {
    // `ELOOP` is the answer to a link that must not be followed.
    error.kind() == io::ErrorKind::NotADirectory || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// A second descriptor of an open directory, with a read position of its own.
pub(crate) fn reopen(dir: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    open_dir(dir, b".")
}

/// Opens the directory at a relative path; neither `..` nor a symbolic link is passed on the way.
pub(crate) fn open_beneath(top: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    if path.is_empty() {
        return reopen(top);
    }
    if path.len() <= PATH_PIECE_BYTES_MAX
        && let Some(opened) = openat2_dir(top, path)
    {
        return opened;
    }
    let mut dir = None::<OwnedFd>;
    for name in path.split(|byte| *byte == b'/') {
        dir = Some(open_dir(dir.as_ref().map_or(top, AsFd::as_fd), name)?);
    }
    dir.map_or_else(|| reopen(top), Ok)
}

/// Opens a directory by one name, but neither a link nor anything that is mounted there.
pub(crate) fn open_dir_here(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let opened = open_dir(dir, name)?;
    let (outer, inner) = (facts_of(dir)?.inode.0, facts_of(opened.as_fd())?.inode.0);
    if outer != inner || is_mount_point(dir, name) {
        return Err(io::ErrorKind::CrossesDevices.into());
    }
    Ok(opened)
}

/// Also finds a part of the same file system mounted a second time.
#[cfg(target_os = "linux")]
fn is_mount_point(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    matches!(rustix::fs::openat2(dir, name, DIRECTORY, Mode::empty(), resolve), Err(Errno::XDEV))
}

#[cfg(not(target_os = "linux"))]
fn is_mount_point(_: BorrowedFd<'_>, _: &[u8]) -> bool {
    false
}

/// Lets the owner of a directory use it. Holds the directory itself while it does so, so that a link put in
/// its place meanwhile is not followed.
#[cfg(target_os = "linux")]
pub(crate) fn grant_owner(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), Mode::RWXU)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn grant_owner(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// `None`: this kernel or sandbox has no `openat2`.
#[cfg(target_os = "linux")]
fn openat2_dir(top: BorrowedFd<'_>, path: &[u8]) -> Option<io::Result<OwnedFd>> {
    use rustix::fs::ResolveFlags;
    static MISSING: OnceLock<()> = OnceLock::new();
    if MISSING.get().is_some() {
        return None;
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(top, path, DIRECTORY, Mode::empty(), resolve) {
        Err(Errno::NOSYS | Errno::PERM) => {
            MISSING.get_or_init(|| ());
            None
        }
        answer => Some(answer.map_err(Into::into)),
    }
}

#[cfg(not(target_os = "linux"))]
fn openat2_dir(_: BorrowedFd<'_>, _: &[u8]) -> Option<io::Result<OwnedFd>> {
    None
}

/// Opens a regular file for reading; a link is refused, a fifo or device does not block and is refused.
pub(crate) fn open_file(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
    if !facts_of(file.as_fd())?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok(file)
}

/// Creates a file that must not exist.
pub(crate) fn create(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<File> {
    Ok(File::from(rustix::fs::openat(dir, name, CREATE, Mode::from_raw_mode(mode))?))
}

/// Creates a file to read and write that loses its name at once.
pub(crate) fn create_nameless(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags = CREATE.difference(OFlags::WRONLY) | OFlags::RDWR;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
    unlink(dir, name)?;
    Ok(file)
}

pub(crate) fn make_dir(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))?)
}

/// Makes a directory unless there is one.
pub(crate) fn ensure_dir(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<OwnedFd> {
    match make_dir(dir, name, mode) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => open_dir(dir, name),
    }
}

pub(crate) fn link(from: BorrowedFd<'_>, name: &[u8], to: BorrowedFd<'_>, new: &[u8]) -> Result<(), Errno> {
    rustix::fs::linkat(from, name, to, new, AtFlags::empty())
}

pub(crate) fn symlink(target: &[u8], dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::symlinkat(target, dir, name)?)
}

pub(crate) fn read_link(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes())
}

/// `lstat` by one name.
pub(crate) fn facts(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Facts> {
    Ok(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.into())
}

/// `lstat` by one name; `None` if nothing has it.
pub(crate) fn facts_if_any(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Facts>> {
    match facts(dir, name) {
        Ok(facts) => Ok(Some(facts)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Size and time of the last change of status by one name; `None` if nothing has it.
// The field's width differs between platforms; on this one the cast does nothing.
#[allow(clippy::unnecessary_cast, reason = "the fields of a stat differ in width between systems")]
pub(crate) fn size_and_change(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<(u64, i64)>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some((Facts::from(stat).size, stat.st_ctime as i64))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn facts_of(file: BorrowedFd<'_>) -> io::Result<Facts> {
    Ok(rustix::fs::fstat(file)?.into())
}

pub(crate) fn unlink(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)
}

pub(crate) fn remove_dir(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Renames over whatever has the new name.
pub(crate) fn rename(from: BorrowedFd<'_>, name: &[u8], to: BorrowedFd<'_>, new: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::renameat(from, name, to, new)?)
}

/// Renames unless something has the new name: [`io::ErrorKind::AlreadyExists`].
pub(crate) fn rename_new(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    new: &[u8],
) -> io::Result<()> {
    match rustix::fs::renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        // File systems without the flag. Only landfall writes here, under a lock, so asking first is enough.
        Err(Errno::INVAL | Errno::NOSYS) => match facts_if_any(to, new)? {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => rename(from, name, to, new),
        },
        answer => Ok(answer?),
    }
}

/// Sets the modification time.
pub(crate) fn set_mtime(file: BorrowedFd<'_>, mtime: Tag) -> io::Result<()> {
    let last_modification = Timespec { tv_sec: mtime.sec as _, tv_nsec: mtime.nsec as _ };
    let last_access = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT as _ };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access, last_modification })?)
}

pub(crate) fn set_mode(file: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

pub(crate) fn set_owner(file: BorrowedFd<'_>, owner: Owner) -> io::Result<()> {
    Ok(rustix::fs::fchown(file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?)
}

/// Who owns an open file, and its permissions.
pub(crate) fn ownership(file: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_uid, Facts::from(stat).mode))
}

/// Makes a file's content, or a directory's names, durable.
pub(crate) fn sync(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fsync(file)?)
}

/// Makes everything on the file system durable. An error since `any` was opened is reported (Linux 5.8).
#[cfg(target_os = "linux")]
pub(crate) fn sync_all(any: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::syncfs(any)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn sync_all(any: BorrowedFd<'_>) -> io::Result<()> {
    rustix::fs::sync();
    sync(any)
}

/// Shares the content of one file with another; fails where the file system cannot.
#[cfg(target_os = "linux")]
pub(crate) fn clone_content(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn clone_content(_: BorrowedFd<'_>, _: BorrowedFd<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The user landfall runs as.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A name in a directory, with the kind the directory gave for it, if it did.
pub(crate) struct Listed {
    pub name: Vec<u8>,
    kind: FileType,
}

impl Listed {
    /// Whether it is a directory; asks the file system if the listing did not tell.
    pub fn is_dir(&self, dir: BorrowedFd<'_>) -> io::Result<bool> {
        match self.kind {
            FileType::Unknown => Ok(facts_if_any(dir, &self.name)?.is_some_and(|facts| facts.is_dir())),
            kind => Ok(kind == FileType::Directory),
        }
    }
}

/// The names in a directory, unsorted, without `.` and `..`.
pub(crate) fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<Listed>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(Listed { name: name.to_owned(), kind: entry.file_type() });
        }
    }
    Ok(names)
}

/// A name nobody else has taken: the prefix and 16 random hex digits. Not a secret.
pub(crate) fn fresh_name(prefix: &str) -> String {
    // Each `RandomState` has keys of its own, from the system's randomness.
    format!("{prefix}{:016x}", RandomState::new().build_hasher().finish())
}

/// Makes a directory with a fresh name and locks it: whoever finds the lock free knows that its owner is dead.
pub(crate) fn make_owned_dir(dir: BorrowedFd<'_>, prefix: &str, mode: u32) -> io::Result<(String, OwnedFd)> {
    loop {
        let name = fresh_name(prefix);
        make_dir(dir, name.as_bytes(), mode)?;
        match claim(dir, name.as_bytes()) {
            Ok(Some(owned)) => return Ok((name, owned)),
            // Somebody who cleans up took it for abandoned between the two calls.
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Locks a directory whose owner is dead; `None` while the owner lives or once it is gone.
pub(crate) fn claim(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<OwnedFd>> {
    let owned = open_dir(dir, name)?;
    match rustix::fs::flock(&owned, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok((facts_of(owned.as_fd())?.links > 0).then_some(owned)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is free on a file system for whoever asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Free {
    pub bytes: u64,
    /// `None`: this file system makes inodes as they are needed.
    pub inodes: Option<u64>,
}

pub(crate) fn free(dir: BorrowedFd<'_>) -> io::Result<Free> {
    let stat = rustix::fs::fstatvfs(dir)?;
    Ok(Free {
        bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: (stat.f_files > 0).then_some(stat.f_favail),
    })
}

/// What creating a file in a directory comes to, here and under this umask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    pub precision: Precision,
    /// The umask or a default ACL takes bits away, so every mode must be set once more.
    pub masked: bool,
}

/// Finds out by making a file and removing it.
pub(crate) fn probe(dir: BorrowedFd<'_>) -> io::Result<Manners> {
    let name = fresh_name(".probe-");
    let file = create(dir, name.as_bytes(), 0o755)?;
    let seen = (|| {
        set_mtime(file.as_fd(), Tag::PROBE)?;
        facts_of(file.as_fd())
    })();
    unlink(dir, name.as_bytes())?;
    let seen = seen?;
    let precision = if seen.mtime == Tag::PROBE { Precision::Exact } else { Precision::Seconds };
    Ok(Manners { precision, masked: seen.mode != 0o755 })
}

/// Writes a whole new file with exactly this mode and modification time.
pub(crate) fn write_new(
    dir: BorrowedFd<'_>,
    name: &[u8],
    content: &[u8],
    mode: u32,
    masked: bool,
    mtime: Tag,
) -> io::Result<File> {
    let mut file = create(dir, name, mode)?;
    let done = (|| {
        file.write_all(content)?;
        finish(&file, mode, masked, mtime)
    })();
    match done {
        Ok(()) => Ok(file),
        Err(error) => {
            // The first error is the one to tell; a leftover has no name that anybody trusts.
            let _ = unlink(dir, name);
            Err(error)
        }
    }
}

/// Gives a written file its mode, if the umask took some of it, and then its modification time.
pub(crate) fn finish(file: &File, mode: u32, masked: bool, mtime: Tag) -> io::Result<()> {
    if masked {
        set_mode(file.as_fd(), mode)?;
    }
    set_mtime(file.as_fd(), mtime)
}

/// Runs work on the threads that touch the disk.
pub(crate) fn on_disk_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    static POOL: OnceLock<Option<rayon::ThreadPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(DISK_THREADS_MAX);
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok()
    });
    match pool {
        Some(pool) => pool.install(work),
        // No threads of our own to be had: rayon's shared ones, or at worst this one.
        None => work(),
    }
}
