//! The walk: names, kinds and metadata, no contents.

use std::fs::{DirEntry, Metadata};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rayon::prelude::*;

use super::cache::Stamp;
use super::{LayerSource, Mapping, ScanError};
use crate::path::{EntryPath, escape};

/// Something that goes into the layer.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: EntryPath,
    pub(super) source: PathBuf,
    pub(super) kind: FoundKind,
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

struct Walk<'a> {
    layer: &'a LayerSource,
    exclude: Gitignore,
}

/// Everything of all mappings, in no particular order, and what is always left out.
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
        let metadata = match std::fs::symlink_metadata(&from) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ScanError::Missing { layer: self.name(), path: from });
            }
            Err(error) => return Err(ScanError::io(&self.layer.name, "look at", &from, error)),
        };
        if metadata.is_symlink() {
            let target = std::fs::read_link(&from).unwrap_or_default().display().to_string();
            return Err(ScanError::SourceIsLink { layer: self.name(), path: from, target });
        }
        if metadata.is_dir() {
            return self.directory(&from, to);
        }
        // A file keeps its name unless it is given one.
        let to = if to.is_empty() { from.file_name().unwrap_or_default().as_encoded_bytes() } else { to };
        let mut harvest = Harvest::default();
        self.entry(from.clone(), to.to_vec(), &metadata, &mut harvest)?;
        Ok(harvest)
    }

    fn name(&self) -> String {
        self.layer.name.to_string()
    }

    /// One directory: its own entries here, those below on any core.
    fn directory(&self, from: &Path, to: &[u8]) -> Result<Harvest, ScanError> {
        let failed = |error| ScanError::io(&self.layer.name, "list", from, error);
        let mut harvest = Harvest::default();
        let mut below = Vec::new();
        let mut is_empty = true;
        for entry in std::fs::read_dir(from).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            is_empty = false;
            let path = join(to, entry.file_name().as_encoded_bytes());
            let is_dir = entry.file_type().map_err(failed)?.is_dir();
            if self.is_left_out(&path) {
                harvest.left_out.push(escape(&path));
            } else if self.is_excluded(&path, is_dir) {
                continue;
            } else if is_dir {
                below.push((entry.path(), path));
            } else {
                let metadata = self.metadata(&entry)?;
                self.entry(entry.path(), path, &metadata, &mut harvest)?;
            }
        }
        if is_empty && !to.is_empty() {
            harvest.found.push(self.found(from.to_owned(), to.to_vec(), FoundKind::EmptyDir)?);
        }
        let below: Vec<Harvest> =
            below.par_iter().map(|(from, to)| self.descend(from, to)).collect::<Result<_, _>>()?;
        below.into_iter().for_each(|part| harvest.add(part));
        Ok(harvest)
    }

    fn descend(&self, from: &Path, to: &[u8]) -> Result<Harvest, ScanError> {
        // Checks the depth before the recursion uses it.
        EntryPath::new(to).map_err(|source| ScanError::Path { layer: self.name(), source })?;
        self.directory(from, to)
    }

    fn metadata(&self, entry: &DirEntry) -> Result<Metadata, ScanError> {
        entry.metadata().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ScanError::Changed { layer: self.name(), path: entry.path() },
            _ => ScanError::io(&self.layer.name, "look at", &entry.path(), error),
        })
    }

    fn entry(
        &self,
        source: PathBuf,
        path: Vec<u8>,
        metadata: &Metadata,
        harvest: &mut Harvest,
    ) -> Result<(), ScanError> {
        let kind = if metadata.is_symlink() {
            let target = std::fs::read_link(&source)
                .map_err(|error| ScanError::io(&self.layer.name, "read the link", &source, error))?;
            FoundKind::Link(target.into_os_string().into_vec().into_boxed_slice())
        } else if metadata.is_file() {
            self.check_bits(&source, metadata)?;
            let executable = metadata.permissions().mode() & 0o100 != 0;
            FoundKind::File { stamp: Stamp::of(metadata), executable }
        } else {
            return Err(ScanError::Special { layer: self.name(), kind: special(metadata), path: source });
        };
        harvest.found.push(self.found(source, path, kind)?);
        Ok(())
    }

    fn found(&self, source: PathBuf, path: Vec<u8>, kind: FoundKind) -> Result<Found, ScanError> {
        let path = EntryPath::new(path).map_err(|source| ScanError::Path { layer: self.name(), source })?;
        Ok(Found { path, source, kind })
    }

    fn check_bits(&self, path: &Path, metadata: &Metadata) -> Result<(), ScanError> {
        let mode = metadata.permissions().mode();
        let bits = [(0o4000, "setuid", "u-s"), (0o2000, "setgid", "g-s"), (0o1000, "sticky", "-t")];
        match bits.into_iter().find(|(bit, ..)| mode & bit != 0) {
            None => Ok(()),
            Some((_, bit, remedy)) => {
                Err(ScanError::SpecialBit { layer: self.name(), path: path.to_owned(), bit, remedy })
            }
        }
    }

    fn is_excluded(&self, path: &[u8], is_dir: bool) -> bool {
        use std::os::unix::ffi::OsStrExt;
        self.exclude.matched(Path::new(std::ffi::OsStr::from_bytes(path)), is_dir).is_ignore()
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

fn special(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}
