//! The host's cache: one read-only file per content and execute bit, named by the content's id.
//!
//! ```text
//! objects/ab/<62 hex>     0444, mtime = tag of the id
//! objects/ab/<62 hex>x    0555, the same content for executable files
//! incoming/<run>/         verified, but not yet durable
//! ```
//!
//! A file under `objects/` is whole, verified and durable: nothing is renamed there before it is. The empty
//! content is never kept; empty files are created. There is no database: one `lstat` says whether an object
//! is intact.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::blob::{BlobSink, BlobSource, Want};
use crate::digest::{BlobId, Digest};
use crate::fsio::{self, At, FsError, Manners};
use crate::tag::{Precision, Tag};
use crate::verified::{CHUNK_BYTES, Verified, WHOLE_BYTES_MAX, read_whole};
use crate::writeback::Writeback;

/// New objects up to this count are made durable one by one; above, the whole file system once. A thousand
/// fsyncs cost a second where one syncfs costs a fifth, and few fsyncs spare a busy host a full flush.
const FSYNC_OBJECTS_MAX: usize = 64;

/// Why the cache could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file-system call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// Not enough room for bytes.
    #[error(
        "{path} needs {need} bytes free and has {free}: remove old releases, or make the file system larger"
    )]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes needed, with 5 % to spare.
        need: u64,
        /// Bytes free.
        free: u64,
    },
    /// Not enough room for files.
    #[error(
        "{path} needs {need} inodes free and has {free}: remove old releases, or make the file system larger"
    )]
    NoInodes {
        /// Where.
        path: PathBuf,
        /// Inodes needed, with 5 % to spare.
        need: u64,
        /// Inodes free.
        free: u64,
    },
}

/// The contents on this host. Cheap to ask, safe to share between threads and processes.
#[derive(Debug)]
pub struct HostCache {
    root: PathBuf,
    objects: OwnedFd,
    incoming: OwnedFd,
    manners: Manners,
}

/// What leftovers of dead runs came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Objects that were whole and are in the cache now.
    pub objects: u64,
    /// Files that were not, and are gone.
    pub removed: u64,
}

impl HostCache {
    /// Opens the cache under `root`, making what is missing. Leaves leftovers of dead runs to
    /// [`HostCache::adopt`].
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        std::fs::create_dir_all(root).at("create the directory", root)?;
        let top = fsio::open_root(root)?;
        // Private: the app reaches an object through a release or not at all.
        let room = |name: &str| {
            fsio::ensure_dir(top.as_fd(), name.as_bytes(), 0o700).at("create the directory", root.join(name))
        };
        let (objects, incoming) = (room("objects")?, room("incoming")?);
        let manners = fsio::probe(objects.as_fd()).at("create files in", root.join("objects"))?;
        Ok(Self { root: root.to_owned(), objects, incoming, manners })
    }

    /// How much of a modification time its file system keeps.
    pub fn precision(&self) -> Precision {
        self.manners.precision
    }

    /// Whether the object is here with the right size, mode and tag: one `lstat`.
    pub fn has(&self, want: &Want) -> io::Result<bool> {
        if want.size == 0 {
            return Ok(true);
        }
        let Some(facts) = fsio::facts_if_any(self.objects(), object_path(want).as_bytes())? else {
            return Ok(false);
        };
        Ok(facts.is_file()
            && facts.size == want.size
            && facts.mode == object_mode(want)
            && self.manners.precision.agrees(Tag::of(&want.blob), facts.mtime))
    }

    /// The file of a content, unread; in its other form if it is not here in the one that is wanted.
    pub(crate) fn object(&self, want: &Want) -> io::Result<File> {
        let open = |want: &Want| fsio::open_file(self.objects(), object_path(want).as_bytes());
        open(want).or_else(|_| open(&Want { executable: !want.executable, ..*want }))
    }

    /// Begins a run that takes contents in. They get into the cache with [`Incoming::commit`]; those of a
    /// run that is dropped or dies wait for [`HostCache::adopt`].
    pub fn receive(&self) -> Result<Incoming<'_>, CacheError> {
        let (name, dir) = fsio::make_owned_dir(self.incoming.as_fd(), "run-", 0o700)
            .at("create a directory in", self.root.join("incoming"))?;
        self.run(name.into_bytes(), dir)
    }

    /// Takes over what dead runs left: whole objects are re-hashed and kept, everything else is removed.
    /// Runs that are alive are left alone.
    pub fn adopt(&self) -> Result<Adopted, CacheError> {
        let path = self.root.join("incoming");
        let mut adopted = Adopted::default();
        for run in fsio::list(self.incoming.as_fd()).at("list", &path)? {
            match fsio::claim(self.incoming.as_fd(), &run.name) {
                Ok(Some(dir)) => self.adopt_run(run.name, dir, &mut adopted)?,
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).at("lock a leftover in", &path)?,
            }
        }
        Ok(adopted)
    }

    fn adopt_run(&self, name: Vec<u8>, dir: OwnedFd, adopted: &mut Adopted) -> Result<(), CacheError> {
        let run = self.run(name, dir)?;
        for file in fsio::list(run.dir.as_fd()).at("list", run.path())? {
            if run.adopt_file(&file.name).at("adopt a leftover in", run.path())? {
                adopted.objects += 1;
            } else {
                adopted.removed += 1;
            }
        }
        run.commit()?;
        Ok(())
    }

    /// Checks that this many bytes and new files fit, with 5 % to spare.
    pub fn room(&self, bytes: u64, inodes: u64) -> Result<(), CacheError> {
        check_room(self.objects(), &self.root, bytes, inodes)
    }

    /// Forgets an object whose bytes were found wrong, so that it is fetched again. Releases that link to
    /// the bad file keep it until they are repaired.
    pub(crate) fn forget(&self, want: &Want) -> Result<(), CacheError> {
        let path = object_path(want);
        match fsio::unlink(self.objects(), path.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Ok(Err(error).at("remove the object", self.root.join("objects").join(path))?)
            }
            _ => Ok(()),
        }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    /// `objects/`, to which [`object_path`] is relative. Only landfall writes below it.
    pub(crate) fn objects(&self) -> BorrowedFd<'_> {
        self.objects.as_fd()
    }

    fn run(&self, name: Vec<u8>, dir: OwnedFd) -> Result<Incoming<'_>, CacheError> {
        let writeback = Writeback::of(dir.as_fd()).at("open", self.root.join("incoming"))?;
        Ok(Incoming { cache: self, name, dir, taken: Mutex::default(), writeback })
    }
}

/// Checks that this many bytes and new files fit on the file system of `path`, with 5 % to spare.
pub fn room_at(path: &Path, bytes: u64, inodes: u64) -> Result<(), CacheError> {
    check_room(fsio::open_root(path)?.as_fd(), path, bytes, inodes)
}

fn check_room(dir: BorrowedFd<'_>, path: &Path, bytes: u64, inodes: u64) -> Result<(), CacheError> {
    let free = fsio::free(dir).at("ask for the free space of", path)?;
    let with_spare = |need: u64| need.saturating_add(need / 20);
    let (path, need) = (path.to_owned(), with_spare(bytes));
    if need > free.bytes {
        return Err(CacheError::NoSpace { path, need, free: free.bytes });
    }
    match free.inodes {
        Some(free) if with_spare(inodes) > free => {
            Err(CacheError::NoInodes { path, need: with_spare(inodes), free })
        }
        _ => Ok(()),
    }
}

/// The mode of an object, and of every release file that shares its inode.
pub(crate) fn object_mode(want: &Want) -> u32 {
    if want.executable { 0o555 } else { 0o444 }
}

/// The object's path relative to `objects/`.
pub(crate) fn object_path(want: &Want) -> String {
    let mut path = want.blob.to_string();
    path.insert(2, '/');
    if want.executable {
        path.push('x');
    }
    path
}

impl BlobSource for HostCache {
    /// Verified while it is read, whatever was asked for.
    fn open(&self, blob: &BlobId, size: u64) -> io::Result<Box<dyn Read + '_>> {
        if size == 0 {
            return Ok(Box::new(Verified::new(io::empty(), *blob, 0)));
        }
        Ok(Box::new(Verified::new(self.object(&Want { blob: *blob, size, executable: false })?, *blob, size)))
    }
}

/// A run that takes contents in. Its directory is locked while it lives.
///
/// No file of it has the name of a content before its bytes are verified.
#[derive(Debug)]
pub struct Incoming<'a> {
    cache: &'a HostCache,
    name: Vec<u8>,
    dir: OwnedFd,
    taken: Mutex<Taken>,
    writeback: Writeback,
}

#[derive(Debug, Default)]
struct Taken {
    wants: Vec<Want>,
    /// All of them while they are few enough to be synced one by one.
    files: Vec<File>,
}

impl BlobSink for Incoming<'_> {
    fn has(&self, want: &Want) -> io::Result<bool> {
        Ok(self.cache.has(want)?
            || fsio::facts_if_any(self.dir.as_fd(), incoming_name(want).as_bytes())?.is_some())
    }

    fn put(&self, want: &Want, content: &mut dyn Read) -> io::Result<()> {
        if want.size > WHOLE_BYTES_MAX {
            return self.put_large(want, content);
        }
        // The size is bounded here, so a lying one cannot reserve memory.
        let mut bytes = Vec::with_capacity(want.size as usize + 1);
        read_whole(content, &want.blob, want.size, &mut bytes)?;
        if want.size == 0 {
            return Ok(());
        }
        let (mode, tag) = (object_mode(want), Tag::of(&want.blob));
        let name = incoming_name(want);
        match fsio::write_new(self.dir.as_fd(), name.as_bytes(), &bytes, mode, self.masked(), tag) {
            Ok(file) => {
                self.take(*want, file);
                Ok(())
            }
            // Another thread has put the same content.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Incoming<'_> {
    /// Makes everything taken in durable and then gives it its place in the cache; returns how many objects
    /// are new. After an error nothing is lost: what was taken in waits for [`HostCache::adopt`].
    pub fn commit(self) -> Result<u64, CacheError> {
        let taken = std::mem::take(&mut *self.taken());
        self.sync(&taken).at("make durable", self.path())?;
        for want in &taken.wants {
            self.place(want).at("move an object out of", self.path())?;
        }
        if taken.wants.len() <= FSYNC_OBJECTS_MAX {
            self.sync_shards(&taken.wants).at("make durable", self.cache.root.join("objects"))?;
        }
        self.remove().at("remove", self.path())?;
        Ok(taken.wants.len() as u64)
    }

    /// Removes everything taken in.
    pub fn discard(self) -> Result<(), CacheError> {
        self.taken().files.clear();
        for file in fsio::list(self.dir.as_fd()).at("list", self.path())? {
            fsio::unlink(self.dir.as_fd(), &file.name).at("remove a file in", self.path())?;
        }
        Ok(self.remove().at("remove", self.path())?)
    }

    fn path(&self) -> PathBuf {
        self.cache.root.join("incoming").join(String::from_utf8_lossy(&self.name).as_ref())
    }

    fn masked(&self) -> bool {
        self.cache.manners.masked
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // A poisoned list is still a true list: pushes do not panic half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, want: Want, file: File) {
        self.writeback.wrote(want.size);
        let mut taken = self.taken();
        taken.wants.push(want);
        if taken.wants.len() <= FSYNC_OBJECTS_MAX {
            taken.files.push(file);
        } else {
            taken.files.clear();
        }
    }

    /// Contents that do not fit in memory are hashed while they are written, under a name that says nothing.
    fn put_large(&self, want: &Want, content: &mut dyn Read) -> io::Result<()> {
        let part = fsio::fresh_name("part-");
        let mut file = fsio::create(self.dir.as_fd(), part.as_bytes(), object_mode(want))?;
        let written = self.write_large(&mut file, want, content).and_then(|()| {
            let dir = self.dir.as_fd();
            fsio::rename_new(dir, part.as_bytes(), dir, incoming_name(want).as_bytes())
        });
        match written {
            Ok(()) => {
                self.take(*want, file);
                Ok(())
            }
            Err(error) => {
                fsio::unlink(self.dir.as_fd(), part.as_bytes())?;
                if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
            }
        }
    }

    fn write_large(&self, file: &mut File, want: &Want, content: &mut dyn Read) -> io::Result<()> {
        copy_all(&mut Verified::new(content, want.blob, want.size), file)?;
        fsio::finish(file, object_mode(want), self.masked(), Tag::of(&want.blob))
    }

    fn sync(&self, taken: &Taken) -> io::Result<()> {
        if taken.wants.len() > FSYNC_OBJECTS_MAX || taken.files.len() < taken.wants.len() {
            return fsio::sync_all(self.dir.as_fd());
        }
        taken.files.iter().try_for_each(|file| fsio::sync(file.as_fd()))
    }

    fn place(&self, want: &Want) -> io::Result<()> {
        let (name, path) = (incoming_name(want), object_path(want));
        let objects = self.cache.objects();
        let place = || fsio::rename_new(self.dir.as_fd(), name.as_bytes(), objects, path.as_bytes());
        let placed = match place() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fsio::ensure_dir(objects, shard(want).as_bytes(), 0o700)?;
                place()
            }
            placed => placed,
        };
        match placed {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.settle(want, &name, &path),
            placed => placed,
        }
    }

    /// There is one already: ours is dropped, unless that one is damaged.
    fn settle(&self, want: &Want, name: &str, path: &str) -> io::Result<()> {
        if self.cache.has(want)? {
            return fsio::unlink(self.dir.as_fd(), name.as_bytes());
        }
        fsio::rename(self.dir.as_fd(), name.as_bytes(), self.cache.objects(), path.as_bytes())
    }

    fn sync_shards(&self, wants: &[Want]) -> io::Result<()> {
        let mut shards: Vec<String> = wants.iter().map(shard).collect();
        shards.sort();
        shards.dedup();
        for shard in &shards {
            fsio::sync(fsio::open_dir(self.cache.objects(), shard.as_bytes())?.as_fd())?;
        }
        if shards.is_empty() { Ok(()) } else { fsio::sync(self.cache.objects()) }
    }

    fn remove(&self) -> io::Result<()> {
        fsio::remove_dir(self.cache.incoming.as_fd(), &self.name)
    }

    /// Whether the leftover is a whole object; if not, it is removed.
    fn adopt_file(&self, name: &[u8]) -> io::Result<bool> {
        if let Some((blob, executable)) = parse_name(name)
            && let Ok(file) = fsio::open_file(self.dir.as_fd(), name)
            && hash(&file)? == blob
        {
            let want = Want { blob, size: fsio::facts_of(file.as_fd())?.size, executable };
            if want.size > 0 {
                fsio::finish(&file, object_mode(&want), true, Tag::of(&blob))?;
                self.take(want, file);
                return Ok(true);
            }
        }
        fsio::unlink(self.dir.as_fd(), name)?;
        Ok(false)
    }
}

fn incoming_name(want: &Want) -> String {
    let mut name = want.blob.to_string();
    if want.executable {
        name.push('x');
    }
    name
}

fn shard(want: &Want) -> String {
    let mut hex = want.blob.to_string();
    hex.truncate(2);
    hex
}

fn parse_name(name: &[u8]) -> Option<(BlobId, bool)> {
    let name = std::str::from_utf8(name).ok()?;
    let hex = name.strip_suffix('x').unwrap_or(name);
    Some((BlobId(hex.parse::<Digest>().ok()?), hex.len() != name.len()))
}

/// The id of a file's content.
pub(crate) fn hash(mut file: &File) -> io::Result<BlobId> {
    thread_local! {
        /// Kept from file to file: fresh memory of this size costs system calls and page faults each time.
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK_BYTES]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut hasher = blake3::Hasher::new();
        loop {
            match file.read(buffer) {
                Ok(0) => return Ok(BlobId(hasher.finalize().into())),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    })
}

pub(crate) fn copy_all(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}
