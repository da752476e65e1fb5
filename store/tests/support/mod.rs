//! What the tests of host files share: small worlds to build in, and an eye on everything outside them.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use landfall_store::blob::{BlobSink, BlobSource, Want};
use landfall_store::cache::HostCache;
use landfall_store::contents::Contents;
use landfall_store::materialise::{Job, Staged, materialise};
use landfall_store::place::Mode;
use landfall_store::{BlobId, Entry, EntryPath, Kind, Tree};

/// Contents in memory.
#[derive(Default, Clone)]
pub struct Memory(pub BTreeMap<BlobId, Vec<u8>>);

impl BlobSource for Memory {
    fn open(&self, blob: &BlobId, _: u64) -> io::Result<Box<dyn Read + '_>> {
        let bytes = self.0.get(blob).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(bytes.as_slice()))
    }
}

/// A tree with its contents.
#[derive(Default, Clone)]
pub struct Made {
    pub entries: Vec<Entry>,
    pub memory: Memory,
}

pub fn path(text: &str) -> EntryPath {
    EntryPath::new(text).unwrap()
}

impl Made {
    pub fn file(self, at: &str, content: impl AsRef<[u8]>) -> Self {
        self.content(at, content.as_ref(), false)
    }

    pub fn executable(self, at: &str, content: impl AsRef<[u8]>) -> Self {
        self.content(at, content.as_ref(), true)
    }

    fn content(mut self, at: &str, content: &[u8], executable: bool) -> Self {
        let blob = BlobId::of(content);
        self.memory.0.insert(blob, content.to_owned());
        let kind = Kind::File { size: content.len() as u64, blob, executable };
        self.entries.push(Entry { path: path(at), kind });
        self
    }

    pub fn link(mut self, at: &str, target: &str) -> Self {
        self.entries.push(Entry { path: path(at), kind: Kind::Link { target: target.as_bytes().into() } });
        self
    }

    pub fn empty_dir(mut self, at: &str) -> Self {
        self.entries.push(Entry { path: path(at), kind: Kind::EmptyDir });
        self
    }

    pub fn tree(&self) -> Tree {
        Tree::from_entries(self.entries.clone()).unwrap()
    }
}

pub fn wants(tree: &Tree) -> Vec<Want> {
    tree.entries()
        .iter()
        .filter_map(|entry| match entry.kind {
            Kind::File { size, blob, executable } => Some(Want { blob, size, executable }),
            Kind::Link { .. } | Kind::EmptyDir => None,
        })
        .collect()
}

/// Brings a tree's contents into the cache.
pub fn fill(cache: &HostCache, made: &Made) {
    let run = cache.receive().unwrap();
    for want in wants(&made.tree()) {
        if !run.has(&want).unwrap() {
            run.put(&want, &mut made.memory.open(&want.blob, want.size).unwrap()).unwrap();
        }
    }
    run.commit().unwrap();
}

/// A directory with a cache and a directory of releases, open to other users.
pub struct World {
    pub dir: tempfile::TempDir,
    pub cache: HostCache,
}

impl World {
    pub fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    pub fn within(dir: tempfile::TempDir) -> Self {
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir(dir.path().join("releases")).unwrap();
        let cache = HostCache::open(&dir.path().join("root")).unwrap();
        Self { dir, cache }
    }

    pub fn releases(&self) -> PathBuf {
        self.dir.path().join("releases")
    }

    pub fn object(&self, content: &[u8], executable: bool) -> PathBuf {
        let hex = BlobId::of(content).to_string();
        let name = format!("{}{}", &hex[2..], if executable { "x" } else { "" });
        self.dir.path().join("root/objects").join(&hex[..2]).join(name)
    }

    pub fn stage(&self, contents: &Contents<'_>, mode: Mode) -> Staged {
        materialise(&self.job(contents, mode, &self.releases())).unwrap()
    }

    pub fn job<'a>(&'a self, contents: &'a Contents<'a>, mode: Mode, releases: &'a Path) -> Job<'a> {
        Job { cache: &self.cache, contents, secrets: &NOTHING, mode, owner: None, writable: &[], releases }
    }

    pub fn release(&self, tree: &Tree, mode: Mode, name: &str) -> PathBuf {
        self.stage(&layers(&[tree]), mode).publish(name).unwrap()
    }

    pub fn names(&self, below: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.path().join(below))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A source of secrets where there are none.
pub static NOTHING: Memory = Memory(BTreeMap::new());

pub fn layers<'a>(trees: &[&'a Tree]) -> Contents<'a> {
    Contents { layers: trees.to_vec(), ..Contents::default() }
}

pub fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

pub fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

/// Everything that could have changed below a directory: names, kinds, inodes, modes, owners, times, contents.
pub fn fingerprint(dir: &Path) -> Vec<String> {
    let mut seen = vec![describe(dir)];
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        if entry.symlink_metadata().unwrap().is_dir() {
            seen.extend(fingerprint(&entry));
        } else {
            seen.push(describe(&entry));
        }
    }
    seen
}

fn describe(path: &Path) -> String {
    let meta = path.symlink_metadata().unwrap();
    let content = if meta.is_file() { std::fs::read(path).unwrap() } else { Vec::new() };
    format!(
        "{} {} {:o} {}:{} {}.{} {}.{} {:?} {}",
        path.display(),
        meta.ino(),
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
        std::fs::read_link(path).ok(),
        BlobId::of(&content),
    )
}
