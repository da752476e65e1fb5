//! Compares a release directory with what it should hold.
//!
//! Fast: one `lstat` per file; the mtime tag stands for the content. Deep: every byte is read and hashed.
//! Either way a file whose time alone is wrong is read, so that a harmless `touch` is told from damage.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::cache::hash;
use crate::contents::{Contents, ContentsError, Directory, Item, PathSet};
use crate::fsio::{self, At, Facts, FsError};
use crate::path::EntryPath;
use crate::tag::{Precision, Tag};
use crate::tree::Kind;

/// The directory at the top of a release that is landfall's own and in no tree.
pub const RESERVED_DIR: &[u8] = b".landfall";

/// Why a release could not be checked; what a check finds is in the [`Report`].
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The layers do not fit together.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// A file-system call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
}

/// What a release directory should hold.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Its files.
    pub contents: &'a Contents<'a>,
    /// Paths that are nobody's business: env files, `writable`, `shared`. `.landfall` always is.
    pub ignore: &'a PathSet,
    /// How much of a time its file system keeps.
    pub precision: Precision,
}

/// How thorough a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// One `lstat` per file.
    Fast,
    /// Every byte.
    Deep,
}

/// What is wrong with something that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A file where a directory should be, and so on.
    #[error("it is another kind of file")]
    Type,
    /// Other permissions.
    #[error("its mode is {got:04o} instead of {want:04o}")]
    Mode {
        /// As it should be.
        want: u32,
        /// As it is.
        got: u32,
    },
    /// Another size.
    #[error("it has {got} bytes instead of {want}")]
    Size {
        /// As it should be.
        want: u64,
        /// As it is.
        got: u64,
    },
    /// Other bytes.
    #[error("its content is another")]
    Content,
    /// A link to somewhere else.
    #[error("it links to somewhere else")]
    Target,
}

/// A damaged path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which.
    pub path: EntryPath,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What a check found. Lists are sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Not there.
    pub missing: Vec<EntryPath>,
    /// There, but in no tree.
    pub extra: Vec<PathBuf>,
    /// There, but wrong.
    pub damaged: Vec<Damage>,
    /// The content is right and the time is not.
    pub benign: Vec<EntryPath>,
    /// Files, links and directories looked at.
    pub checked: u64,
}

impl Report {
    /// Whether the release is exactly what it should be, but for modification times.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.damaged.is_empty()
    }

    fn join(mut self, other: Self) -> Self {
        self.missing.extend(other.missing);
        self.extra.extend(other.extra);
        self.damaged.extend(other.damaged);
        self.benign.extend(other.benign);
        self.checked += other.checked;
        self
    }

    fn sorted(mut self) -> Self {
        self.missing.sort();
        self.extra.sort();
        self.damaged.sort_by(|a, b| a.path.cmp(&b.path));
        self.benign.sort();
        self
    }
}

/// Compares the directory `dir` with what it should hold.
pub fn verify(dir: &Path, expected: &Expected<'_>, depth: Depth) -> Result<Report, VerifyError> {
    let top = fsio::open_root(dir)?;
    let check = Check { top: top.as_fd(), dir, expected, depth };
    let directories = expected.contents.directories()?;
    let report = fsio::on_disk_threads(|| {
        directories
            .par_iter()
            .map(|directory| check.directory(directory))
            .try_reduce(Report::default, |a, b| Ok(a.join(b)))
    })?;
    Ok(report.sorted())
}

struct Check<'a> {
    top: BorrowedFd<'a>,
    dir: &'a Path,
    expected: &'a Expected<'a>,
    depth: Depth,
}

impl Check<'_> {
    fn directory(&self, wanted: &Directory<'_>) -> Result<Report, FsError> {
        if self.is_ignored(wanted.path) {
            return Ok(Report::default());
        }
        let mut report = Report { checked: 1 + wanted.items.len() as u64, ..Report::default() };
        match fsio::open_beneath(self.top, wanted.path) {
            Ok(opened) => self.opened(wanted, &opened, &mut report)?,
            Err(error) => self.not_opened(wanted, error, &mut report)?,
        }
        Ok(report)
    }

    /// Its files are missing then, whatever stands in its place.
    fn not_opened(
        &self,
        wanted: &Directory<'_>,
        error: io::Error,
        report: &mut Report,
    ) -> Result<(), FsError> {
        let path = entry_path(wanted.path);
        if error.kind() == io::ErrorKind::NotFound {
            report.missing.extend(path);
        } else if fsio::is_no_directory(&error) {
            report.damaged.extend(path.map(|path| Damage { path, fault: Fault::Type }));
        } else {
            return Err(error).at("open", self.at(wanted.path));
        }
        let missing = wanted.items.iter().map(|item| &item.entry.path);
        report.missing.extend(missing.filter(|path| !self.is_ignored(path.as_bytes())).cloned());
        Ok(())
    }

    fn opened(&self, wanted: &Directory<'_>, opened: &OwnedFd, report: &mut Report) -> Result<(), FsError> {
        let io = |error: io::Error, name: &[u8]| Err(error).at("check", self.at(&join(wanted.path, name)));
        if let Err(error) = self.own_mode(wanted, opened, report) {
            return io(error, b"");
        }
        let listed = fsio::list(opened.as_fd()).at("list", self.at(wanted.path))?;
        let mut seen = vec![false; wanted.items.len()];
        for entry in &listed {
            let found = wanted.items.binary_search_by(|item| item.name().cmp(&entry.name));
            if let Ok(at) = found {
                seen[at] = true;
                if let Err(error) = self.item(&wanted.items[at], opened.as_fd(), report) {
                    return io(error, &entry.name);
                }
            } else if !wanted.dirs.contains(entry.name.as_slice()) {
                self.unknown(join(wanted.path, &entry.name), report)?;
            }
        }
        let unseen = wanted.items.iter().zip(seen).filter(|(_, seen)| !seen).map(|(item, _)| item);
        let unseen = unseen.map(|item| &item.entry.path).filter(|path| !self.is_ignored(path.as_bytes()));
        report.missing.extend(unseen.cloned());
        Ok(())
    }

    fn own_mode(&self, wanted: &Directory<'_>, opened: &OwnedFd, report: &mut Report) -> io::Result<()> {
        if wanted.private {
            return Ok(());
        }
        let Some(path) = entry_path(wanted.path) else { return Ok(()) };
        let got = fsio::facts_of(opened.as_fd())?.mode;
        if got != 0o755 {
            report.damaged.push(Damage { path, fault: Fault::Mode { want: 0o755, got } });
        }
        Ok(())
    }

    /// Something that no tree has: extra, unless it is ignored or only leads to what is.
    fn unknown(&self, path: Vec<u8>, report: &mut Report) -> Result<(), FsError> {
        if self.is_ignored(&path) {
            return Ok(());
        }
        if self.expected.ignore.reaches_below(&path)
            && let Ok(opened) = fsio::open_beneath(self.top, &path)
        {
            for entry in fsio::list(opened.as_fd()).at("list", self.at(&path))? {
                self.unknown(join(&path, &entry.name), report)?;
            }
            return Ok(());
        }
        report.extra.push(PathBuf::from(std::ffi::OsStr::from_bytes(&path)));
        Ok(())
    }

    fn item(&self, item: &Item<'_>, dir: BorrowedFd<'_>, report: &mut Report) -> io::Result<()> {
        let path = &item.entry.path;
        if self.is_ignored(path.as_bytes()) {
            return Ok(());
        }
        let facts = fsio::facts(dir, item.name())?;
        match self.judge(item, dir, facts)? {
            Judgement::Right => {}
            Judgement::Benign => report.benign.push(path.clone()),
            Judgement::Wrong(fault) => report.damaged.push(Damage { path: path.clone(), fault }),
        }
        Ok(())
    }

    fn judge(&self, item: &Item<'_>, dir: BorrowedFd<'_>, facts: Facts) -> io::Result<Judgement> {
        let Some((want, mode)) = item.file() else { return judge_link(item, dir, facts) };
        if !facts.is_file() {
            return Ok(Judgement::Wrong(Fault::Type));
        }
        if facts.size != want.size {
            return Ok(Judgement::Wrong(Fault::Size { want: want.size, got: facts.size }));
        }
        let tagged = self.expected.precision.agrees(Tag::of(&want.blob), facts.mtime);
        if (self.depth == Depth::Deep || !tagged) && hash(&fsio::open_file(dir, item.name())?)? != want.blob {
            return Ok(Judgement::Wrong(Fault::Content));
        }
        if facts.mode != mode {
            return Ok(Judgement::Wrong(Fault::Mode { want: mode, got: facts.mode }));
        }
        Ok(if tagged { Judgement::Right } else { Judgement::Benign })
    }

    fn is_ignored(&self, path: &[u8]) -> bool {
        let reserved = path.strip_prefix(RESERVED_DIR);
        reserved.is_some_and(|rest| rest.is_empty() || rest[0] == b'/') || self.expected.ignore.covers(path)
    }

    fn at(&self, path: &[u8]) -> PathBuf {
        self.dir.join(std::ffi::OsStr::from_bytes(path))
    }
}

enum Judgement {
    Right,
    Benign,
    Wrong(Fault),
}

fn judge_link(item: &Item<'_>, dir: BorrowedFd<'_>, facts: Facts) -> io::Result<Judgement> {
    let Kind::Link { target } = &item.entry.kind else { return Ok(Judgement::Wrong(Fault::Type)) };
    if !facts.is_link() {
        return Ok(Judgement::Wrong(Fault::Type));
    }
    let right = fsio::read_link(dir, item.name())? == **target;
    Ok(if right { Judgement::Right } else { Judgement::Wrong(Fault::Target) })
}

/// `None` for the top.
fn entry_path(path: &[u8]) -> Option<EntryPath> {
    EntryPath::new(path).ok()
}

pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_owned() } else { [dir, b"/", name].concat() }
}
