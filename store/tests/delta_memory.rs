//! Memory of making and applying a delta, whatever the tree's size: in processes of their own, since the
//! kernel counts a process's peak once and for all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;

use common::{artifact, content, layer};
use landfall_store::blob::{BlobSink, BlobSource, Want};
use landfall_store::delta::Hints;
use landfall_store::fetch::{self, Watch, delta};
use landfall_store::push::{Deltas, PushOptions, push};
use landfall_store::{BlobId, Entry, EntryPath, Kind, Store, Tree, layout};

const FILES: u64 = 10;
const FILE_BYTES: u64 = 50_000_000;
const INSERTED: u64 = 70_000;
const BLOCK_BYTES: u64 = 4096;
const MEMORY_MAX: u64 = 256 << 20;
/// What a child process is to do, and where.
const ROLE: &str = "LANDFALL_TEST_DELTA_ROLE";
const STORE: &str = "LANDFALL_TEST_DELTA_STORE";

/// A file that is made while it is read: blocks of a few random bytes and zeros. In version 2 something is
/// inserted in the middle.
struct Made {
    file: u64,
    version: u64,
    at: u64,
}

impl Made {
    fn length(version: u64) -> u64 {
        FILE_BYTES + (version - 1) * INSERTED
    }

    /// The bytes from here to the end of a block, or less.
    fn block(&self) -> ([u8; BLOCK_BYTES as usize], usize) {
        let middle = FILE_BYTES / 2;
        let inserted = (self.version - 1) * INSERTED;
        // Where these bytes are in version 1; what is inserted is from elsewhere.
        let (source, until) = match self.at {
            at if at < middle => (at, middle - at),
            at if at < middle + inserted => (at + (1 << 40), middle + inserted - at),
            at => (at - inserted, Self::length(self.version) - at),
        };
        let (number, offset) = (source / BLOCK_BYTES, source % BLOCK_BYTES);
        let mut block = [0; BLOCK_BYTES as usize];
        let mut state = (number << 8 | self.file).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for word in block.chunks_mut(8).take(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let length = until.min(BLOCK_BYTES - offset) as usize;
        block.copy_within(offset as usize..offset as usize + length, 0);
        (block, length)
    }
}

impl Read for Made {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == Self::length(self.version) {
            return Ok(0);
        }
        let (block, length) = self.block();
        let length = length.min(buffer.len());
        buffer[..length].copy_from_slice(&block[..length]);
        self.at += length as u64;
        Ok(length)
    }
}

/// A version of the tree, and its contents.
struct Version {
    tree: Tree,
    files: BTreeMap<BlobId, u64>,
    number: u64,
}

impl Version {
    fn new(number: u64) -> Self {
        let mut entries = Vec::new();
        let mut files = BTreeMap::new();
        for file in 0..FILES {
            let mut hasher = blake3::Hasher::new();
            io::copy(&mut Made { file, version: number, at: 0 }, &mut hasher).unwrap();
            let blob = BlobId(hasher.finalize().into());
            files.insert(blob, file);
            let kind = Kind::File { size: Made::length(number), blob, executable: false };
            entries.push(Entry { path: EntryPath::new(format!("data/{file}.bin")).unwrap(), kind });
        }
        Self { tree: Tree::from_entries(entries).unwrap(), files, number }
    }
}

impl BlobSource for Version {
    fn open(&self, blob: &BlobId, _size: u64) -> io::Result<Box<dyn Read + '_>> {
        let file = *self.files.get(blob).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Made { file, version: self.number, at: 0 }))
    }
}

/// Verifies and forgets.
struct Proved;

impl BlobSink for Proved {
    fn has(&self, _: &Want) -> io::Result<bool> {
        Ok(false)
    }

    fn put(&self, want: &Want, content: &mut dyn Read) -> io::Result<()> {
        let mut hasher = blake3::Hasher::new();
        let size = io::copy(content, &mut hasher)?;
        let same = size == want.size && BlobId(hasher.finalize().into()) == want.blob;
        if same { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

fn make(dir: &Path) {
    let store = Store::create(dir).unwrap();
    for number in [1, 2] {
        let version = Version::new(number);
        let artifact = artifact(&format!("{number}.0.0"), vec![layer("app", None, &version.tree)]);
        let deltas = Deltas { deployed: &BTreeMap::new(), tell: &|_, _| {} };
        let options = PushOptions { deltas: Some(deltas), ..PushOptions::default() };
        let report = push(&store, &artifact, &[content(&version.tree, &version)], &options).unwrap();
        assert_eq!(report.deltas.len() as u64, number - 1);
    }
}

fn apply(dir: &Path) {
    let (old, new) = (Version::new(1), Version::new(2));
    let id = artifact("2.0.0", vec![layer("app", None, &new.tree)]).id().unwrap();
    let hints = std::fs::read(dir.join(layout::hints(&id).as_str())).unwrap();
    let base = Hints::decode(&hints).best(&new.tree.id(), |_| true).unwrap();
    let bound = FILES * INSERTED * 3 / 2 + 100_000;
    assert!(base.bytes <= bound, "{} bytes, {bound} allowed", base.bytes);
    let store = Store::open(dir).unwrap();
    let mut report = Default::default();
    let (_, delta) = delta::Delta::open(&store, &base, &old.tree, new.tree.id()).unwrap();
    delta.contents(fetch::wants(&[&new.tree]), &old, &Proved, &Watch::NOBODY, &mut report).unwrap();
    assert_eq!(report.blobs, FILES);
}

/// What a child process does; nothing in the test program itself.
#[test]
fn child() {
    let Some((role, dir)) = std::env::var_os(ROLE).zip(std::env::var_os(STORE)) else { return };
    if role == "make" {
        make(Path::new(&dir))
    } else {
        apply(Path::new(&dir))
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10;
    println!("peak memory of {role:?}: {} MiB", peak >> 20);
    assert!(peak <= MEMORY_MAX, "{} MiB", peak >> 20);
}

#[test]
fn a_delta_of_a_tree_of_500_mb_is_made_and_applied_in_256_mib() {
    let dir = tempfile::tempdir().unwrap();
    for role in ["make", "apply"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(ROLE, role)
            .env(STORE, dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{said}\n{}", String::from_utf8_lossy(&child.stderr));
        print!("{}", said.lines().filter(|line| line.contains("peak")).collect::<String>() + "\n");
    }
}
