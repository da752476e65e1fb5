//! A running tree, sorted: what is copied as it is, what stays private, what stays where it is, what is in the way.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::AdoptError;
use super::find::Found;

/// Files of a tree that only some may read; more of them are no secrets but a umask.
const PRIVATE_FILES_MAX: usize = 1_000;
/// Bytes of one of them.
const PRIVATE_BYTES_MAX: u64 = 1 << 20;
/// Links that lead out of the tree, told in one message.
const LINKS_TOLD_MAX: usize = 5;
/// Directories that are no part of an app.
const LEFT_OUT: [&str; 2] = [".git", ".landfall"];

/// What becomes of a tree.
#[derive(Debug, Clone, Default)]
pub struct Sorted {
    /// Paths that are left out of the copy.
    pub exclude: Vec<String>,
    /// Files that not everybody may read, and `.env` files: copied privately.
    pub private: Vec<Private>,
    /// Directories that stay where they are, and where that is.
    pub shared: Vec<(String, PathBuf)>,
    /// Files the app's output goes to: left behind, landfall keeps its logs itself.
    pub outputs: Vec<String>,
}

/// A file that is copied privately.
#[derive(Debug, Clone)]
pub struct Private {
    /// Where it is in the tree.
    pub path: String,
    /// Below which directory it is read, and by which name.
    from: (PathBuf, PathBuf),
}

impl Private {
    /// Its content. No link is followed: who owns the tree could point one anywhere.
    pub fn read(&self) -> Result<Vec<u8>, AdoptError> {
        let (root, name) = &self.from;
        let at = |source: io::Error| AdoptError::Io { path: root.join(name), source };
        let dir = File::open(root).map_err(at)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened: OwnedFd =
            openat2(&dir, name, flags, Mode::empty(), resolve).map_err(|errno| at(errno.into()))?;
        let mut bytes = Vec::new();
        File::from(opened).take(PRIVATE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(at)?;
        match bytes.len() as u64 > PRIVATE_BYTES_MAX {
            true => Err(AdoptError::PrivateTooLarge(self.path.clone())),
            false => Ok(bytes),
        }
    }
}

/// What somebody decided about paths of the tree.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Left out.
    pub exclude: Vec<String>,
    /// Stay where they are.
    pub shared: Vec<String>,
}

/// Sorts a tree. Looks only.
pub fn sort(found: &Found, wishes: &Wishes) -> Result<Sorted, AdoptError> {
    let mut walk = Walk { found, wishes, sorted: Sorted::default(), outside: Vec::new() };
    walk.sorted.exclude.clone_from(&wishes.exclude);
    walk.note_open_files()?;
    for path in &wishes.shared {
        let real = found.tree.join(path);
        let target = real.canonicalize().map_err(|source| AdoptError::Io { path: real, source })?;
        walk.share(path.clone(), target)?;
    }
    walk.dir(Path::new(""), false)?;
    if !walk.outside.is_empty() {
        return Err(AdoptError::LinksOutside(walk.outside));
    }
    if walk.sorted.private.len() > PRIVATE_FILES_MAX {
        return Err(AdoptError::TooManyPrivate(walk.sorted.private.len()));
    }
    Ok(walk.sorted)
}

struct Walk<'a> {
    found: &'a Found,
    wishes: &'a Wishes,
    sorted: Sorted,
    outside: Vec<String>,
}

impl Walk<'_> {
    fn dir(&mut self, dir: &Path, private: bool) -> Result<(), AdoptError> {
        let real = self.found.tree.join(dir);
        let at = |source| AdoptError::Io { path: real.clone(), source };
        let mut names: Vec<_> = fs::read_dir(&real)
            .map_err(at)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()
            .map_err(at)?;
        names.sort();
        for name in names {
            let path = dir.join(&name);
            let Some(text) = path.to_str().map(str::to_owned) else { continue };
            if LEFT_OUT.iter().any(|own| name == *own) || self.is_settled(&text) {
                continue;
            }
            let real = self.found.tree.join(&path);
            let found =
                fs::symlink_metadata(&real).map_err(|source| AdoptError::Io { path: real, source })?;
            let private = private || !for_everybody(&found);
            if found.is_symlink() {
                self.link(text)?;
            } else if found.is_dir() {
                self.dir(&path, private)?;
            } else if found.is_file() && (private || is_env(&text)) {
                self.keep_private(text.clone(), (self.found.tree.clone(), PathBuf::from(text)));
            }
        }
        Ok(())
    }

    /// Left out, or shared: at the path or above it.
    fn is_settled(&self, path: &str) -> bool {
        let above = |own: &str| Path::new(path).starts_with(own);
        self.sorted.exclude.iter().any(|own| above(own))
            || self.sorted.shared.iter().any(|(own, _)| above(own))
    }

    fn keep_private(&mut self, path: String, from: (PathBuf, PathBuf)) {
        self.sorted.exclude.push(path.clone());
        self.sorted.private.push(Private { path, from });
    }

    /// Links within the tree are copied; those into `shared/` beside the releases are shared; all others are
    /// somebody's decision.
    fn link(&mut self, path: String) -> Result<(), AdoptError> {
        let real = self.found.tree.join(&path);
        let Ok(target) = real.canonicalize() else { return Ok(()) };
        if target.starts_with(&self.found.tree) {
            return Ok(());
        }
        let below = self.found.shared.as_ref().and_then(|shared| {
            let rest = target.strip_prefix(shared).ok()?.to_owned();
            Some((shared.clone(), rest))
        });
        match below {
            Some(_) if target.is_dir() => return self.share(path, target),
            Some(from) if target.is_file() => self.keep_private(path, from),
            _ if self.outside.len() < LINKS_TOLD_MAX => {
                self.outside.push(format!("{path} → {}", target.display()));
            }
            _ => {}
        }
        Ok(())
    }

    fn share(&mut self, path: String, target: PathBuf) -> Result<(), AdoptError> {
        if !target.is_dir() {
            return Err(AdoptError::NotADirectory(target));
        }
        self.sorted.exclude.push(path.clone());
        self.sorted.shared.push((path, target));
        Ok(())
    }

    /// What the app has open for writing in its tree would be torn by a copy, and read-only in a release.
    fn note_open_files(&mut self) -> Result<(), AdoptError> {
        for id in self.found.family() {
            for (fd, path) in written(id.pid) {
                let Ok(inside) = path.strip_prefix(&self.found.tree) else { continue };
                let inside = inside.to_string_lossy().into_owned();
                let settled = |own: &String| Path::new(&inside).starts_with(own);
                if self.wishes.exclude.iter().chain(&self.wishes.shared).any(settled) {
                    continue;
                }
                match fd {
                    1 | 2 if !self.sorted.outputs.contains(&inside) => {
                        self.sorted.exclude.push(inside.clone());
                        self.sorted.outputs.push(inside);
                    }
                    1 | 2 => {}
                    _ => return Err(AdoptError::Writes { pid: id.pid, path: inside }),
                }
            }
        }
        Ok(())
    }
}

fn for_everybody(found: &Metadata) -> bool {
    let mode = found.permissions().mode();
    if found.is_dir() { mode & 0o001 != 0 } else { mode & 0o004 != 0 || found.is_symlink() }
}

/// Names of dotenv files; examples are none.
fn is_env(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let example = ["example", "sample", "template", "dist"].iter().any(|end| name.ends_with(end));
    (name == ".env" || name.starts_with(".env.")) && !example
}

/// Regular files that a process has open for writing, and by which descriptor.
fn written(pid: u32) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let fd: u32 = entry.file_name().to_str()?.parse().ok()?;
            let path = fs::read_link(entry.path()).ok()?;
            let is_file = fs::metadata(entry.path()).is_ok_and(|found| found.is_file() && found.nlink() > 0);
            (is_file && writes(pid, fd)).then_some((fd, path))
        })
        .collect()
}

fn writes(pid: u32, fd: u32) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
    flags & 0o3 != 0
}
