//! The walk: names, kinds and metadata, no contents.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rayon::prelude::*;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

use super::cache::Stamp;
use super::{LayerSource, Mapping, ScanError};
use crate::path::{EntryPath, escape};

/// Something that goes into the layer.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: EntryPath,
    pub(super) source: Spot,
    pub(super) kind: FoundKind,
}

impl Found {
    /// Bytes of a file; nothing else has any.
    pub(super) const fn size(&self) -> u64 {
        match self.kind {
            FoundKind::File { stamp, .. } => stamp.size,
            FoundKind::Link(_) | FoundKind::EmptyDir => 0,
        }
    }
}

/// Where something was found. Neighbours share their directory, so that it is named, and opened, once.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) dir: Arc<Path>,
    pub(super) name: Box<OsStr>,
}

impl Spot {
    fn of(path: &Path) -> Self {
        let dir = path.parent().unwrap_or(Path::new("/"));
        Self { dir: dir.into(), name: path.file_name().unwrap_or_default().into() }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.join(&*self.name)
    }
}

#[derive(Debug)]
pub(super) enum FoundKind {
    File { stamp: Stamp, executable: bool },
    Link(Box<[u8]>),
    EmptyDir,
}

/// What one directory gave.
#[derive(Default)]
struct Harvest {
    found: Vec<Found>,
    left_out: Vec<String>,
}

/// An open directory and what is in it, by name.
struct Listed {
    dir: OwnedFd,
    names: Vec<(Box<[u8]>, FileType)>,
}

/// A directory in a directory, and how many entries of that one stand before it.
struct Below {
    at: usize,
    from: PathBuf,
    to: Vec<u8>,
}

struct Walk<'a> {
    layer: &'a LayerSource,
    exclude: Gitignore,
}

/// Everything of all mappings, each in tree order, and what is always left out.
pub(super) fn walk(layer: &LayerSource) -> Result<(Vec<Found>, Vec<String>), ScanError> {
    let walk = Walk { layer, exclude: patterns(layer)? };
    let mut all = Harvest::default();
    for mapping in &layer.files {
        all.add(walk.mapping(mapping)?);
    }
    all.left_out.sort();
    all.left_out.dedup();
    Ok((all.found, all.left_out))
}

impl Harvest {
    /// What stands below, put in where its directory's name stands.
    fn with(self, below: &[Below], parts: Vec<Self>) -> Self {
        if parts.is_empty() {
            return self;
        }
        let total = self.found.len() + parts.iter().map(|part| part.found.len()).sum::<usize>();
        let mut all = Self { found: Vec::with_capacity(total), left_out: self.left_out };
        let mut own = self.found.into_iter();
        let mut taken = 0;
        for (Below { at, .. }, part) in below.iter().zip(parts) {
            all.found.extend(own.by_ref().take(at - taken));
            taken = *at;
            all.add(part);
        }
        all.found.extend(own);
        all
    }

    fn add(&mut self, mut other: Self) {
        self.found.append(&mut other.found);
        self.left_out.append(&mut other.left_out);
    }
}

fn patterns(layer: &LayerSource) -> Result<Gitignore, ScanError> {
    let mut builder = GitignoreBuilder::new("");
    let malformed = |pattern: &str, error: ignore::Error| ScanError::Pattern {
        layer: layer.name.to_string(),
        pattern: pattern.to_owned(),
        why: error.to_string(),
    };
    for pattern in &layer.exclude {
        builder.add_line(None, pattern).map_err(|error| malformed(pattern, error))?;
    }
    builder.build().map_err(|error| malformed("", error))
}

impl Walk<'_> {
    fn mapping(&self, mapping: &Mapping) -> Result<Harvest, ScanError> {
        let from = self.layer.root.join(&mapping.from);
        let to = mapping.to.trim_matches('/').as_bytes();
        let stat = match rustix::fs::lstat(&from) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Err(ScanError::Missing { layer: self.name(), path: from }),
            Err(errno) => return Err(ScanError::io(&self.layer.name, "look at", &from, errno.into())),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = std::fs::read_link(&from).unwrap_or_default().display().to_string();
                Err(ScanError::SourceIsLink { layer: self.name(), path: from, target })
            }
            FileType::Directory => self.directory(&from, to),
            _ => {
                // A file keeps its name unless it is given one.
                let spot = Spot::of(&from);
                let to = if to.is_empty() { spot.name.as_bytes() } else { to };
                let mut harvest = Harvest::default();
                self.entry(spot.clone(), to.to_vec(), &stat, &mut harvest)?;
                Ok(harvest)
            }
        }
    }

    fn name(&self) -> String {
        self.layer.name.to_string()
    }

    /// One directory: its own entries here, those below on any core.
    fn directory(&self, from: &Path, to: &[u8]) -> Result<Harvest, ScanError> {
        let listed = self.list(from)?;
        let mut own = Harvest::default();
        let mut below = Vec::new();
        if listed.names.is_empty() && !to.is_empty() {
            own.found.push(self.found(Spot::of(from), to.to_vec(), FoundKind::EmptyDir)?);
        }
        let dir: Arc<Path> = from.into();
        for (name, kind) in &listed.names {
            let path = join(to, name);
            let spot = || Spot { dir: Arc::clone(&dir), name: OsStr::from_bytes(name).into() };
            let stat = || self.stat(&listed.dir, name, &spot);
            // Not every file system says the kind in the list.
            let kind = match kind {
                FileType::Unknown => FileType::from_raw_mode(stat()?.st_mode),
                kind => *kind,
            };
            if self.is_left_out(&path) {
                own.left_out.push(escape(&path));
            } else if self.is_excluded(&path, kind == FileType::Directory) {
                continue;
            } else if kind == FileType::Directory {
                below.push(Below { at: own.found.len(), from: spot().path(), to: path });
            } else {
                self.entry(spot(), path, &stat()?, &mut own)?;
            }
        }
        // Closes the directory: the walk may be deep, on many cores.
        drop(listed);
        let parts: Vec<Harvest> =
            below.par_iter().map(|below| self.descend(below)).collect::<Result<_, _>>()?;
        Ok(own.with(&below, parts))
    }

    fn descend(&self, below: &Below) -> Result<Harvest, ScanError> {
        // Checks the depth before the recursion uses it.
        EntryPath::new(&*below.to).map_err(|source| ScanError::Path { layer: self.name(), source })?;
        self.directory(&below.from, &below.to)
    }

    /// The names in a directory, in order, with the open directory.
    fn list(&self, from: &Path) -> Result<Listed, ScanError> {
        let failed = |errno: Errno| ScanError::io(&self.layer.name, "list", from, errno.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(from, flags, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((name.into(), entry.file_type()));
            }
        }
        names.sort_unstable_by(|(a, _): &(Box<[u8]>, _), (b, _)| a.cmp(b));
        Ok(Listed { dir, names })
    }

    fn stat(&self, dir: &OwnedFd, name: &[u8], spot: &impl Fn() -> Spot) -> Result<Stat, ScanError> {
        rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| match errno {
            Errno::NOENT => ScanError::Changed { layer: self.name(), path: spot().path() },
            _ => ScanError::io(&self.layer.name, "look at", &spot().path(), errno.into()),
        })
    }

    fn entry(
        &self,
        source: Spot,
        path: Vec<u8>,
        stat: &Stat,
        harvest: &mut Harvest,
    ) -> Result<(), ScanError> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let at = source.path();
                let target = std::fs::read_link(&at)
                    .map_err(|error| ScanError::io(&self.layer.name, "read the link", &at, error))?;
                FoundKind::Link(target.into_os_string().into_vec().into_boxed_slice())
            }
            FileType::RegularFile => {
                self.check_bits(&source, stat.st_mode)?;
                FoundKind::File { stamp: Stamp::of(stat), executable: stat.st_mode & 0o100 != 0 }
            }
            kind => {
                let path = source.path();
                return Err(ScanError::Special { layer: self.name(), kind: special(kind), path });
            }
        };
        harvest.found.push(self.found(source, path, kind)?);
        Ok(())
    }

    fn found(&self, source: Spot, path: Vec<u8>, kind: FoundKind) -> Result<Found, ScanError> {
        let path = EntryPath::new(path).map_err(|source| ScanError::Path { layer: self.name(), source })?;
        Ok(Found { path, source, kind })
    }

    fn check_bits(&self, spot: &Spot, mode: RawMode) -> Result<(), ScanError> {
        let bits = [(0o4000, "setuid", "u-s"), (0o2000, "setgid", "g-s"), (0o1000, "sticky", "-t")];
        match bits.into_iter().find(|(bit, ..)| mode & bit != 0) {
            None => Ok(()),
            Some((_, bit, remedy)) => {
                Err(ScanError::SpecialBit { layer: self.name(), path: spot.path(), bit, remedy })
            }
        }
    }

    fn is_excluded(&self, path: &[u8], is_dir: bool) -> bool {
        self.exclude.matched(Path::new(OsStr::from_bytes(path)), is_dir).is_ignore()
    }

    /// Repositories, landfall's own state, and secrets go into no layer by accident.
    fn is_left_out(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let is_env_file = || self.layer.env_files.iter().any(|file| file.as_bytes() == name);
        !self.layer.env && (name == b".git" || name == b".landfall" || is_env_file())
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        _ => "device",
    }
}
