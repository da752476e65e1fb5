//! Puts right what a check found, in place and without a gap for readers.
//!
//! Every file is made anew beside the wrong one and renamed over it. If the cache's own object is wrong, it
//! gets a new inode first, and every release that names the content is linked to that: repairing only the
//! one in which the damage was seen would leave the others with the bad inode.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::blob::{BlobSink, BlobSource, Want};
use crate::cache::{CacheError, HostCache, hash, object_mode, object_path};
use crate::contents::{Class, ContentsError, Directory, Item};
use crate::fsio::{self, At, FsError, Owner};
use crate::make::{Counters, Durability, Maker, NewFile};
use crate::path::EntryPath;
use crate::place::Mode;
use crate::remove::{self, RemoveError};
use crate::tag::Tag;
use crate::tree::Kind;
use crate::verify::{Expected, Fault, Report};
use crate::writeback::Writeback;

/// Why a repair stopped. What it had done until then is right and stays.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The layers do not fit together.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file-system call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// Something extra could not be removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
}

/// A release directory and what it should hold.
#[derive(Debug, Clone, Copy)]
pub struct Installed<'a> {
    /// Where.
    pub dir: &'a Path,
    /// What.
    pub expected: Expected<'a>,
}

/// What a repair works with.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// The host's contents.
    pub cache: &'a HostCache,
    /// Where a content comes from whose object is wrong, too.
    pub source: Option<&'a dyn BlobSource>,
    /// Where the contents of env files come from.
    pub secrets: &'a dyn BlobSource,
    /// How shared files are made.
    pub mode: Mode,
    /// Who owns private files and secrets.
    pub owner: Option<Owner>,
}

/// What a repair came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Objects of the cache that got a new inode.
    pub objects: u64,
    /// Paths made anew, in all releases.
    pub paths: u64,
    /// Modification times set back.
    pub times: u64,
    /// Extra paths removed.
    pub removed: u64,
    /// Paths that could not be repaired, because their content is nowhere to be had.
    pub left: Vec<EntryPath>,
}

/// Repairs `release` after the `report` on it, and every file of `others` that has the same bad content.
pub fn repair(
    tools: &Tools<'_>,
    release: &Installed<'_>,
    report: &Report,
    others: &[Installed<'_>],
) -> Result<Repaired, RepairError> {
    let mut repaired = Repaired::default();
    let bad: HashSet<&[u8]> = report
        .missing
        .iter()
        .chain(report.damaged.iter().map(|damage| &damage.path))
        .map(EntryPath::as_bytes)
        .collect();
    let site = Site::open(tools, release)?;
    let directories = release.expected.contents.directories()?;
    site.remove_extra(report, &mut repaired)?;
    site.directories(&directories, &bad, report, &mut repaired)?;

    let items = |wanted: &dyn Fn(&Item<'_>) -> bool| -> Vec<(&Directory<'_>, Item<'_>)> {
        let all = directories.iter().flat_map(|dir| dir.items.iter().map(move |item| (dir, *item)));
        all.filter(|(_, item)| wanted(item)).collect()
    };
    let wrong = items(&|item| bad.contains(item.entry.path.as_bytes()));
    let wants: HashSet<Want> = wrong.iter().filter_map(|(_, item)| shared_content(item)).collect();
    let lost = heal_objects(tools, &wants, &mut repaired)?;
    for (dir, item) in wrong {
        if shared_content(&item).is_some_and(|want| lost.contains(&want)) {
            repaired.left.push(item.entry.path.clone());
        } else {
            site.replace(dir, &item)?;
            repaired.paths += 1;
        }
    }
    let benign: HashSet<&[u8]> = report.benign.iter().map(EntryPath::as_bytes).collect();
    for (dir, item) in items(&|item| benign.contains(item.entry.path.as_bytes())) {
        site.set_time(dir, &item)?;
        repaired.times += 1;
    }
    site.sync()?;
    for other in others.iter().filter(|other| other.dir != release.dir) {
        repaired.paths += relink(tools, other, &wants, &lost)?;
    }
    Ok(repaired)
}

/// The content that an item shares with the cache.
fn shared_content(item: &Item<'_>) -> Option<Want> {
    let (want, _) = item.file()?;
    (item.class != Class::Secret && want.size > 0).then_some(want)
}

/// Gives every object among `wants` whose bytes are wrong a new inode; returns those that are nowhere right.
fn heal_objects(
    tools: &Tools<'_>,
    wants: &HashSet<Want>,
    repaired: &mut Repaired,
) -> Result<HashSet<Want>, RepairError> {
    let mut lost = HashSet::new();
    let run = tools.cache.receive()?;
    for want in wants {
        if object_is_right(tools.cache, want) {
            continue;
        }
        let put = match tools.source {
            Some(source) => source.open(&want.blob, want.size).and_then(|mut from| run.put(want, &mut from)),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if let Err(error) = put {
            tracing::warn!(blob = %want.blob, %error, "a damaged content cannot be had anew");
            lost.insert(*want);
            continue;
        }
        tools.cache.forget(want)?;
    }
    repaired.objects += run.commit()?;
    Ok(lost)
}

/// Whether the object has the right bytes. A mode or time that is wrong around them is set right.
fn object_is_right(cache: &HostCache, want: &Want) -> bool {
    let right = || -> io::Result<bool> {
        let file = fsio::open_file(cache.objects(), object_path(want).as_bytes())?;
        if hash(&file)? != want.blob {
            return Ok(false);
        }
        fsio::finish(&file, object_mode(want), true, Tag::of(&want.blob))?;
        Ok(true)
    };
    right().unwrap_or(false)
}

/// Makes every file of a release anew that should have one of these contents and has not.
fn relink(
    tools: &Tools<'_>,
    release: &Installed<'_>,
    wants: &HashSet<Want>,
    lost: &HashSet<Want>,
) -> Result<u64, RepairError> {
    let site = Site::open(tools, release)?;
    let mut relinked = 0;
    for dir in release.expected.contents.directories()? {
        for item in &dir.items {
            let Some(want) = shared_content(item).filter(|want| wants.contains(want)) else { continue };
            if !lost.contains(&want)
                && !release.expected.ignore.covers(item.entry.path.as_bytes())
                && !site.has_content(&dir, item, &want)
            {
                site.replace(&dir, item)?;
                relinked += 1;
            }
        }
    }
    if relinked > 0 {
        site.sync()?;
    }
    Ok(relinked)
}

struct Site<'a> {
    top: OwnedFd,
    dir: &'a Path,
    maker: Maker<'a>,
}

impl<'a> Site<'a> {
    fn open(tools: &Tools<'a>, release: &Installed<'a>) -> Result<Self, RepairError> {
        let top = fsio::open_root(release.dir)?;
        let manners = fsio::probe(top.as_fd()).at("create files in", release.dir)?;
        let maker = Maker {
            cache: tools.cache,
            secrets: tools.secrets,
            mode: tools.mode,
            owner: tools.owner,
            manners,
            durability: Durability::AtTheEnd(Writeback::of(top.as_fd()).at("open", release.dir)?),
            counters: Counters::default(),
        };
        Ok(Self { top, dir: release.dir, maker })
    }

    fn at(&self, path: &[u8]) -> PathBuf {
        self.dir.join(std::ffi::OsStr::from_bytes(path))
    }

    fn open_dir(&self, path: &[u8]) -> Result<OwnedFd, FsError> {
        fsio::open_beneath(self.top.as_fd(), path).at("open", self.at(path))
    }

    fn remove_extra(&self, report: &Report, repaired: &mut Repaired) -> Result<(), RepairError> {
        for extra in &report.extra {
            let path = extra.as_os_str().as_bytes();
            let (parent, name) = split(path);
            let dir = self.open_dir(parent)?;
            remove::remove_at(dir.as_fd(), &self.at(parent), name)?;
            repaired.removed += 1;
        }
        Ok(())
    }

    /// Parents first: makes those that are missing, or that are no directories, and sets modes right.
    fn directories(
        &self,
        directories: &[Directory<'_>],
        bad: &HashSet<&[u8]>,
        report: &Report,
        repaired: &mut Repaired,
    ) -> Result<(), RepairError> {
        for dir in directories.iter().filter(|dir| bad.contains(dir.path)) {
            let (parent, name) = split(dir.path);
            let above = self.open_dir(parent)?;
            let wrong_type =
                report.damaged.iter().any(|d| d.path.as_bytes() == dir.path && d.fault == Fault::Type);
            if wrong_type {
                remove::remove_at(above.as_fd(), &self.at(parent), name)?;
            }
            let made = fsio::ensure_dir(above.as_fd(), name, 0o755).at("make", self.at(dir.path))?;
            fsio::set_mode(made.as_fd(), 0o755).at("set the mode of", self.at(dir.path))?;
            repaired.paths += 1;
        }
        Ok(())
    }

    fn has_content(&self, dir: &Directory<'_>, item: &Item<'_>, want: &Want) -> bool {
        let Ok(opened) = fsio::open_beneath(self.top.as_fd(), dir.path) else { return false };
        fsio::open_file(opened.as_fd(), item.name())
            .and_then(|file| hash(&file))
            .is_ok_and(|blob| blob == want.blob)
    }

    fn replace(&self, dir: &Directory<'_>, item: &Item<'_>) -> Result<(), RepairError> {
        let opened = self.open_dir(dir.path)?;
        let path = self.at(item.entry.path.as_bytes());
        let new = fsio::fresh_name(".lf-");
        self.make(opened.as_fd(), new.as_bytes(), item).at("make anew", &path)?;
        let rename = || fsio::rename(opened.as_fd(), new.as_bytes(), opened.as_fd(), item.name());
        match rename() {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                remove::remove_at(opened.as_fd(), &self.at(dir.path), item.name())?;
                rename().at("replace", &path)?;
            }
            renamed => renamed.at("replace", &path)?,
        }
        // Renaming one link of an inode over another does nothing at all and reports success.
        match fsio::unlink(opened.as_fd(), new.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Ok(Err(error).at("remove", &path)?),
            _ => Ok(()),
        }
    }

    fn make(&self, dir: BorrowedFd<'_>, name: &[u8], item: &Item<'_>) -> io::Result<()> {
        match (&item.entry.kind, item.file()) {
            (Kind::Link { target }, _) => fsio::symlink(target, dir, name),
            (_, Some((want, mode))) => {
                let file = NewFile { dir, name, mode, want, class: item.class };
                let made = self.maker.make(&file, &mut Vec::new());
                if made.is_err() {
                    // The first error is the one to tell; the name is nobody's.
                    let _ = fsio::unlink(dir, name);
                }
                made
            }
            (_, None) => Ok(()),
        }
    }

    fn set_time(&self, dir: &Directory<'_>, item: &Item<'_>) -> Result<(), FsError> {
        let Some((want, _)) = item.file() else { return Ok(()) };
        let opened = self.open_dir(dir.path)?;
        fsio::open_file(opened.as_fd(), item.name())
            .and_then(|file| fsio::set_mtime(file.as_fd(), Tag::of(&want.blob)))
            .at("set the time of", self.at(item.entry.path.as_bytes()))
    }

    fn sync(&self) -> Result<(), FsError> {
        fsio::sync_all(self.top.as_fd()).at("make durable", self.dir)
    }
}

/// A path's directory and its name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::join;

    #[test]
    fn a_path_splits_where_it_joins() {
        for path in [&b"a"[..], b"a/b", b"a/b/c"] {
            let (dir, name) = split(path);
            assert_eq!(join(dir, name), path);
        }
    }
}
