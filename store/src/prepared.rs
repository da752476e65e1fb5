//! The prepared tree: what a release directory holds once its steps have run, and how it is frozen.
//!
//! Steps leave files that their user owns and that may share an inode with something outside (package
//! managers link from stores of their own). Freezing gives such files an inode of their own, takes every
//! write bit and, as root, the ownership, and sets the mtime tag, so that from then on one `lstat` tells
//! whether a file is still what it was when the release became ready.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rayon::prelude::*;

use crate::blob::Want;
use crate::cache::{HostCache, copy_all, hash, object_mode, object_path};
use crate::contents::PathSet;
use crate::digest::BlobId;
use crate::fsio::{self, At, Facts, FsError, Owner};
use crate::path::{EntryPath, PathError};
use crate::tag::Tag;
use crate::tree::{Entry, Kind, Tree, TreeError};
use crate::verified::Verified;
use crate::verify::{RESERVED_DIR, join};

/// Why a directory could not be read as a tree.
#[derive(Debug, thiserror::Error)]
pub enum PreparedError {
    /// A file-system call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A path that no tree can hold.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A set of entries that no tree can hold.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A device, socket or fifo.
    #[error("{0} is neither a file, a directory nor a link; the step that made it must remove it")]
    Special(PathBuf),
}

/// Reads a directory as a tree, hashing every file. Changes nothing.
pub fn snapshot(dir: &Path, ignore: &PathSet) -> Result<Tree, PreparedError> {
    walk(dir, ignore, None)
}

/// Reads a directory as a tree and makes each file fit for a comparison by `lstat`: an inode of its own or
/// the cache's, mode 0444 or 0555, the tag of its content; directories 0755; everything root's if landfall
/// is root. Call it when no process of a step is left.
pub fn freeze(dir: &Path, ignore: &PathSet, cache: &HostCache) -> Result<Tree, PreparedError> {
    let tree = walk(dir, ignore, Some(cache))?;
    let top = fsio::open_root(dir)?;
    fsio::sync_all(top.as_fd()).at("make durable", dir)?;
    Ok(tree)
}

fn walk(dir: &Path, ignore: &PathSet, freeze_to: Option<&HostCache>) -> Result<Tree, PreparedError> {
    let top = fsio::open_root(dir)?;
    let walk = Walk { top: top.as_fd(), dir, ignore, freeze_to, found: Mutex::default() };
    let mut level = vec![Vec::new()];
    // Level by level: no recursion, and each level's directories in parallel.
    while !level.is_empty() {
        let below: Vec<Vec<Vec<u8>>> = fsio::on_disk_threads(|| {
            level.par_iter().map(|path| walk.directory(path)).collect::<Result<_, PreparedError>>()
        })?;
        level = below.into_iter().flatten().collect();
    }
    let found = walk.found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Tree::from_entries(found)?)
}

struct Walk<'a> {
    top: BorrowedFd<'a>,
    dir: &'a Path,
    ignore: &'a PathSet,
    /// Absent: nothing is changed.
    freeze_to: Option<&'a HostCache>,
    found: Mutex<Vec<Entry>>,
}

impl Walk<'_> {
    /// Notes what stands in the directory and returns the directories in it.
    fn directory(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, PreparedError> {
        let opened = fsio::open_beneath(self.top, path).at("open", self.at(path))?;
        if self.freeze_to.is_some() {
            freeze_directory(opened.as_fd()).at("freeze", self.at(path))?;
        }
        let (mut entries, mut below) = (Vec::new(), Vec::new());
        let listed = fsio::list(opened.as_fd()).at("list", self.at(path))?;
        let is_empty = listed.is_empty();
        for name in listed.into_iter().map(|listed| listed.name) {
            let path = join(path, &name);
            if path == RESERVED_DIR || self.ignore.covers(&path) {
                continue;
            }
            match self.look(opened.as_fd(), &name, &path)? {
                Some(kind) => entries.push(Entry { path: EntryPath::new(path)?, kind }),
                None => below.push(path),
            }
        }
        if is_empty && !path.is_empty() {
            entries.push(Entry { path: EntryPath::new(path)?, kind: Kind::EmptyDir });
        }
        self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).append(&mut entries);
        Ok(below)
    }

    /// `None`: a directory.
    fn look(&self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Option<Kind>, PreparedError> {
        let facts = fsio::facts(dir, name).at("look at", self.at(path))?;
        if facts.is_dir() {
            return Ok(None);
        }
        if facts.is_link() {
            let target = fsio::read_link(dir, name).at("read the link", self.at(path))?;
            return Ok(Some(Kind::Link { target: target.into_boxed_slice() }));
        }
        if !facts.is_file() {
            return Err(PreparedError::Special(self.at(path)));
        }
        let file = fsio::open_file(dir, name).at("open", self.at(path))?;
        let blob = match self.freeze_to {
            Some(cache) => freeze_file(cache, dir, name, &file, facts).at("freeze", self.at(path))?,
            None => hash(&file).at("read", self.at(path))?,
        };
        Ok(Some(Kind::File { size: facts.size, blob, executable: facts.mode & 0o100 != 0 }))
    }

    fn at(&self, path: &[u8]) -> PathBuf {
        self.dir.join(std::ffi::OsStr::from_bytes(path))
    }
}

fn freeze_directory(dir: BorrowedFd<'_>) -> io::Result<()> {
    take_ownership(dir)?;
    fsio::set_mode(dir, 0o755)
}

fn freeze_file(
    cache: &HostCache,
    dir: BorrowedFd<'_>,
    name: &[u8],
    file: &File,
    facts: Facts,
) -> io::Result<BlobId> {
    let blob = hash(file)?;
    let want = Want { blob, size: facts.size, executable: facts.mode & 0o100 != 0 };
    if is_object(cache, &want, facts)? {
        return Ok(blob);
    }
    if facts.links == 1 {
        settle(file, &want)?;
        return Ok(blob);
    }
    own_inode(dir, name, file, &want)?;
    Ok(blob)
}

fn is_object(cache: &HostCache, want: &Want, facts: Facts) -> io::Result<bool> {
    let object = fsio::facts_if_any(cache.objects(), object_path(want).as_bytes())?;
    Ok(object.is_some_and(|object| object.inode == facts.inode && object.mode == object_mode(want)))
}

/// A copy takes the file's place, so that whoever holds the other links holds nothing of the release.
fn own_inode(dir: BorrowedFd<'_>, name: &[u8], file: &File, want: &Want) -> io::Result<()> {
    use std::io::Seek;
    let new = fsio::fresh_name(".lf-");
    let mut copy = fsio::create(dir, new.as_bytes(), 0o600)?;
    let mut from = file;
    from.rewind()?;
    copy_all(&mut Verified::new(from, want.blob, want.size), &mut copy)?;
    settle(&copy, want)?;
    fsio::rename(dir, new.as_bytes(), dir, name)
}

fn settle(file: &File, want: &Want) -> io::Result<()> {
    take_ownership(file.as_fd())?;
    fsio::finish(file, object_mode(want), true, Tag::of(&want.blob))
}

fn take_ownership(file: BorrowedFd<'_>) -> io::Result<()> {
    match fsio::own_uid() {
        0 => fsio::set_owner(file, Owner { uid: 0, gid: 0 }),
        _ => Ok(()),
    }
}
