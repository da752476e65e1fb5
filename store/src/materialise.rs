//! Builds a release directory from trees and the cache, beside its final place, and then names it.
//!
//! Order: directories with their files (threads, each making names relative to an open directory), links last,
//! so that nothing is ever opened through a path that could hold a link. Then everything is made durable, and
//! only then can the directory get its final name. A directory that has that name is complete.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::blob::BlobSource;
use crate::cache::HostCache;
use crate::contents::{Contents, ContentsError, Directory, Item};
use crate::digest::BlobId;
use crate::fsio::{self, At, FsError, Owner};
pub use crate::make::Materialised;
use crate::make::{Counters, Durability, Maker, NewFile};
use crate::path::{EntryPath, is_at_or_below};
use crate::place::Mode;
use crate::remove::{self, RemoveError};
use crate::tree::Kind;
use crate::writeback::Writeback;

/// The beginning of the name of every directory that is being built.
const STAGE_PREFIX: &str = ".stage-";
/// Files of one directory that are made in one go, so that one large directory occupies all threads.
const FILES_PER_TURN: usize = 256;
/// Turns that a thread takes at least: neighbours in the tree share the directories above them.
const TURNS_PER_THREAD_MIN: usize = 16;
/// Up to this many new inodes are made durable one by one, above that the whole file system once.
const FSYNC_INODES_MAX: usize = 64;

/// Why a release could not be built.
#[derive(Debug, thiserror::Error)]
pub enum MaterialiseError {
    /// The layers do not fit together.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// A file-system call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A content is not where it should be, or not what it should be.
    #[error("`{path}` cannot be made: content {blob}: {source}; fetch it again")]
    Blob {
        /// The path that needs it.
        path: EntryPath,
        /// The content.
        blob: BlobId,
        /// What happened.
        source: io::Error,
    },
    /// The final name is taken.
    #[error("{0} exists already; a release directory is never built over another")]
    Exists(PathBuf),
    /// The final name cannot be a directory's.
    #[error("`{0}` cannot be the name of a release directory")]
    Name(String),
    /// Leftovers could not be removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
}

/// A release to be built.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Where contents come from.
    pub cache: &'a HostCache,
    /// What it holds.
    pub contents: &'a Contents<'a>,
    /// Where the contents of the env trees come from.
    pub secrets: &'a dyn BlobSource,
    /// How shared files are made. Files that this fails for are copied.
    pub mode: Mode,
    /// Who owns private files, private directories and secrets; none: landfall's own user.
    pub owner: Option<Owner>,
    /// Directories that are made if no tree has them, private ones: the app's `writable` paths.
    pub writable: &'a [EntryPath],
    /// The directory that holds the app's releases.
    pub releases: &'a Path,
}

/// A complete and durable release directory that has no final name yet. Dropped, it is removed.
#[derive(Debug)]
pub struct Staged {
    releases: OwnedFd,
    releases_path: PathBuf,
    name: String,
    dir: OwnedFd,
    counts: Materialised,
    published: bool,
}

impl Staged {
    /// Where it stands now. What is written here before [`Staged::publish`] must be made durable by whoever
    /// writes it; the names in the top directory are made so by `publish`.
    pub fn path(&self) -> PathBuf {
        self.releases_path.join(&self.name)
    }

    /// What building came to.
    pub fn counts(&self) -> Materialised {
        self.counts
    }

    /// Gives it its final name, durably. Fails if the name is taken.
    pub fn publish(mut self, name: &str) -> Result<PathBuf, MaterialiseError> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(MaterialiseError::Name(name.to_owned()));
        }
        let path = self.releases_path.join(name);
        fsio::sync(self.dir.as_fd()).at("make durable", self.path())?;
        let (releases, old) = (self.releases.as_fd(), self.name.as_bytes());
        match fsio::rename_new(releases, old, releases, name.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(MaterialiseError::Exists(path));
            }
            renamed => renamed.at("rename to", &path)?,
        }
        self.published = true;
        fsio::sync(self.releases.as_fd()).at("make durable", &self.releases_path)?;
        Ok(path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) =
                remove::remove_at(self.releases.as_fd(), &self.releases_path, self.name.as_bytes())
        {
            tracing::warn!(path = %self.path().display(), %error, "a stage is left for the next cleaning");
        }
    }
}

/// Builds and makes durable what the job describes.
pub fn materialise(job: &Job<'_>) -> Result<Staged, MaterialiseError> {
    let directories = job.contents.directories()?;
    let releases = fsio::open_root(job.releases)?;
    let (name, dir) = fsio::make_owned_dir(releases.as_fd(), STAGE_PREFIX, 0o755)
        .at("create a directory in", job.releases)?;
    // From here on an error removes the stage.
    let mut staged = Staged {
        releases,
        releases_path: job.releases.to_owned(),
        name,
        dir,
        counts: Materialised::default(),
        published: false,
    };
    let path = staged.path();
    let manners = fsio::probe(staged.dir.as_fd()).at("create files in", &path)?;
    fsio::set_mode(staged.dir.as_fd(), 0o755).at("set the mode of", &path)?;
    let durability = if count_inodes(&directories) <= FSYNC_INODES_MAX {
        Durability::Each
    } else {
        Durability::AtTheEnd(Writeback::of(staged.dir.as_fd()).at("open", &path)?)
    };
    let build = Build {
        job,
        top: staged.dir.as_fd(),
        path: &path,
        maker: Maker {
            cache: job.cache,
            secrets: job.secrets,
            mode: job.mode,
            owner: job.owner,
            manners,
            durability,
            counters: Counters::default(),
        },
    };
    build.run(&directories)?;
    let counts = build.maker.counters.read();
    staged.counts = counts;
    Ok(staged)
}

/// Removes what dead builds left in a directory of releases, and what was being removed from it.
pub fn clean(releases: &Path) -> Result<u64, MaterialiseError> {
    let dir = fsio::open_root(releases)?;
    let mut cleaned = 0;
    for entry in fsio::list(dir.as_fd()).at("list", releases)? {
        let Some(name) = std::str::from_utf8(&entry.name).ok().filter(|name| name.starts_with(STAGE_PREFIX))
        else {
            continue;
        };
        let path = releases.join(name);
        if fsio::claim(dir.as_fd(), name.as_bytes()).at("lock", &path)?.is_some() {
            remove::remove_at(dir.as_fd(), releases, name.as_bytes())?;
            cleaned += 1;
        }
    }
    Ok(cleaned + remove::empty_trash(releases)?)
}

fn count_inodes(directories: &[Directory<'_>]) -> usize {
    directories.iter().map(|dir| 1 + dir.items.len()).sum()
}

struct Build<'a> {
    job: &'a Job<'a>,
    top: BorrowedFd<'a>,
    path: &'a Path,
    maker: Maker<'a>,
}

/// Some of the items of one directory.
type Turn<'a> = (&'a Directory<'a>, &'a [Item<'a>]);

/// A directory's files in turns; one without files has a turn too, in which it is made.
fn turns_of<'a>(dir: &'a Directory<'a>) -> impl Iterator<Item = Turn<'a>> {
    let empty = dir.items.is_empty().then_some((dir, &[][..]));
    dir.items.chunks(FILES_PER_TURN).map(move |items| (dir, items)).chain(empty)
}

/// Makes directories and their files in the order of the tree, holding open the directories above the current
/// one: at most as many as the tree is deep.
struct Walker<'a> {
    build: &'a Build<'a>,
    above: Vec<(&'a [u8], OwnedFd)>,
    buffer: Vec<u8>,
}

impl<'a> Walker<'a> {
    fn new(build: &'a Build<'a>) -> Self {
        Self { build, above: Vec::new(), buffer: Vec::new() }
    }

    fn make(&mut self, (dir, items): Turn<'a>) -> Result<(), MaterialiseError> {
        let build = self.build;
        self.enter(dir.path).at("create the directory", build.at(dir.path))?;
        let opened = self.above.last().map_or(build.top, |(_, opened)| opened.as_fd());
        for item in items {
            let Some((want, mode)) = item.file() else { continue };
            let file = NewFile { dir: opened, name: item.name(), mode, want, class: item.class };
            build.maker.make(&file, &mut self.buffer).map_err(|source| MaterialiseError::Blob {
                path: item.entry.path.clone(),
                blob: want.blob,
                source,
            })?;
        }
        Ok(())
    }

    /// Opens a directory, made with everything above it unless another thread was here first: nobody but the
    /// threads of this build has any business in a stage.
    fn enter(&mut self, path: &'a [u8]) -> io::Result<()> {
        while self.above.last().is_some_and(|(above, _)| !is_at_or_below(path, above)) {
            self.above.pop();
        }
        loop {
            let (done, parent) = match self.above.last() {
                Some((above, opened)) => (above.len(), opened.as_fd()),
                None => (0, self.build.top),
            };
            if done == path.len() {
                return Ok(());
            }
            let start = if done == 0 { 0 } else { done + 1 };
            let end = path[start..].iter().position(|byte| *byte == b'/').map_or(path.len(), |at| start + at);
            let name = &path[start..end];
            let opened = match self.build.make_directory(parent, name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fsio::open_dir(parent, name)?,
                made => made?,
            };
            self.above.push((&path[..end], opened));
        }
    }
}

impl Build<'_> {
    fn run(&self, directories: &[Directory<'_>]) -> Result<(), MaterialiseError> {
        let turns: Vec<Turn<'_>> = directories.iter().flat_map(turns_of).collect();
        fsio::on_disk_threads(|| {
            turns
                .par_iter()
                .with_min_len(TURNS_PER_THREAD_MIN)
                .try_for_each_init(|| Walker::new(self), |walker, turn| walker.make(*turn))?;
            turns.par_iter().try_for_each(|turn| self.make_links(*turn))
        })?;
        self.make_writable()?;
        self.hand_over(directories)?;
        self.sync(directories)
    }

    fn at(&self, path: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.path.join(std::ffi::OsStr::from_bytes(path))
    }

    fn make_directory(&self, parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
        fsio::make_dir(parent, name, 0o755)?;
        let made = fsio::open_dir(parent, name)?;
        if self.maker.manners.masked {
            fsio::set_mode(made.as_fd(), 0o755)?;
        }
        Ok(made)
    }

    fn make_links(&self, (dir, items): Turn<'_>) -> Result<(), MaterialiseError> {
        let mut links = items.iter().filter_map(|item| match &item.entry.kind {
            Kind::Link { target } => Some((item, target)),
            Kind::File { .. } | Kind::EmptyDir => None,
        });
        let Some(first) = links.next() else { return Ok(()) };
        let opened = fsio::open_beneath(self.top, dir.path).at("open", self.at(dir.path))?;
        for (item, target) in std::iter::once(first).chain(links) {
            fsio::symlink(target, opened.as_fd(), item.name())
                .at("create the link", self.at(item.entry.path.as_bytes()))?;
        }
        Ok(())
    }

    /// Makes the `writable` directories that no tree has, and gives them to their owner.
    fn make_writable(&self) -> Result<(), MaterialiseError> {
        for path in self.job.writable {
            self.make_writable_path(path).at("create the writable path", self.at(path.as_bytes()))?;
        }
        Ok(())
    }

    fn make_writable_path(&self, path: &EntryPath) -> io::Result<()> {
        let mut at = fsio::reopen(self.top)?;
        let last = path.components().count() - 1;
        for (depth, name) in path.components().enumerate() {
            match fsio::facts_if_any(at.as_fd(), name)? {
                None => at = self.make_directory(at.as_fd(), name)?,
                // A packed file that the app may write is a private copy already.
                Some(facts) if facts.is_file() && depth == last => return Ok(()),
                Some(_) => at = fsio::open_dir(at.as_fd(), name)?,
            }
        }
        self.job.owner.map_or(Ok(()), |owner| fsio::set_owner(at.as_fd(), owner))
    }

    /// Gives private directories to their owner, after everything that landfall makes in them.
    fn hand_over(&self, directories: &[Directory<'_>]) -> Result<(), MaterialiseError> {
        let Some(owner) = self.job.owner else { return Ok(()) };
        for dir in directories.iter().filter(|dir| dir.private) {
            let opened = fsio::open_beneath(self.top, dir.path).at("open", self.at(dir.path))?;
            fsio::set_owner(opened.as_fd(), owner).at("change the owner of", self.at(dir.path))?;
        }
        Ok(())
    }

    /// The durability point. Few directories one by one (their files are durable already), bottom up.
    fn sync(&self, directories: &[Directory<'_>]) -> Result<(), MaterialiseError> {
        if let Durability::AtTheEnd(_) = self.maker.durability {
            return Ok(fsio::sync_all(self.top).at("make durable", self.path)?);
        }
        for dir in directories.iter().rev() {
            let opened = fsio::open_beneath(self.top, dir.path).at("open", self.at(dir.path))?;
            fsio::sync(opened.as_fd()).at("make durable", self.at(dir.path))?;
        }
        // Those above a writable path may be in no tree.
        for path in self.job.writable {
            let slashes = path.as_bytes().iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
            for above in slashes.map(|(at, _)| &path.as_bytes()[..at]) {
                let opened = fsio::open_beneath(self.top, above).at("open", self.at(above))?;
                fsio::sync(opened.as_fd()).at("make durable", self.at(above))?;
            }
        }
        fsio::sync(self.top).at("make durable", self.path)?;
        Ok(())
    }
}
