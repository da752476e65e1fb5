//! A delta gives the bytes that packs give, or it gives nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::{Contents, artifact, content, layer, noise};
use landfall_store::blob::Want;
use landfall_store::delta::{Base, Hints};
use landfall_store::fetch::{FetchReport, Watch, delta};
use landfall_store::push::{Deltas, PushOptions, PushReport, push};
use landfall_store::{ArtifactId, BlobId, Entry, EntryPath, Kind, Name, Store, Tree, layout};

/// A tree in memory: contents by path.
type Files = BTreeMap<String, Vec<u8>>;

fn tree(files: &Files) -> Tree {
    let entry = |(path, content): (&String, &Vec<u8>)| Entry {
        path: EntryPath::new(path.as_str()).unwrap(),
        kind: Kind::File {
            size: content.len() as u64,
            blob: BlobId::of(content),
            executable: content.starts_with(b"#!"),
        },
    };
    Tree::from_entries(files.iter().map(entry).collect()).unwrap()
}

fn contents(files: &Files) -> Contents {
    let made = Contents::default();
    for content in files.values() {
        let (blob, size) = (BlobId::of(content), content.len() as u64);
        let want = Want { blob, size, executable: content.starts_with(b"#!") };
        made.0.lock().unwrap().insert(want, content.clone());
    }
    made
}

struct World {
    dir: tempfile::TempDir,
    store: Store,
    deployed: BTreeMap<Name, Vec<ArtifactId>>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path()).unwrap();
        Self { dir, store, deployed: BTreeMap::new() }
    }

    fn push(&self, version: &str, files: &Files) -> PushReport {
        let (tree, contents) = (tree(files), contents(files));
        let artifact = artifact(version, vec![layer("app", None, &tree)]);
        let deltas = Deltas { deployed: &self.deployed, tell: &|_, _| {} };
        let options = PushOptions { deltas: Some(deltas), ..PushOptions::default() };
        push(&self.store, &artifact, &[content(&tree, &contents)], &options).unwrap()
    }

    fn hints(&self, id: &ArtifactId) -> Hints {
        std::fs::read(self.path(layout::hints(id).as_str()))
            .map_or_else(|_| Hints::default(), |bytes| Hints::decode(&bytes))
    }

    fn base(&self, id: &ArtifactId, to: &Files, from: &Files) -> Base {
        let from = tree(from).id();
        self.hints(id).best(&tree(to).id(), |tree| *tree == from).expect("a delta from there")
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir.path().join(key)
    }

    fn bring(&self, base: &Base, from: &Files, to: &Files, have: &Contents) -> (Contents, FetchReport) {
        let sink = contents(from);
        let to = tree(to);
        let (brought, report) =
            delta::bring(&self.store, base, &tree(from), to.id(), have, &sink, &Watch::NOBODY).unwrap();
        assert_eq!(brought, to);
        assert!(sink.complete(&to));
        (sink, report)
    }

    /// Two versions, a delta between them.
    fn upgraded(from: &Files, to: &Files) -> (Self, Base) {
        let world = Self::new();
        world.push("1.0.0", from);
        let id = world.push("2.0.0", to).artifact;
        let base = world.base(&id, to, from);
        (world, base)
    }

    fn lose_packs(&self) {
        std::fs::remove_dir_all(self.path("packs")).unwrap();
    }
}

fn noisy(seed: u32, length: usize) -> Vec<u8> {
    noise(seed, length).into_bytes()
}

/// An app of a few dozen files, and its next version: files edited, moved, renamed with an edit, removed, made
/// executable, added.
fn versions() -> (Files, Files) {
    let mut old: Files = (0..40).map(|n| (format!("lib/m{n:02}.js"), noisy(n, 4_000))).collect();
    old.insert("run".into(), noisy(100, 600));
    old.insert("empty".into(), Vec::new());
    old.insert("chunks/page-1a2b.js".into(), noisy(101, 30_000));
    let mut new = old.clone();
    new.get_mut("lib/m07.js").unwrap().splice(1_000..1_010, *b"edited");
    let moved = new.remove("lib/m08.js").unwrap();
    new.insert("src/m08.js".into(), moved);
    let mut renamed = new.remove("chunks/page-1a2b.js").unwrap();
    renamed.extend_from_slice(b"and more");
    new.insert("chunks/page-3c4d.js".into(), renamed);
    new.remove("lib/m09.js");
    new.get_mut("run").unwrap().splice(0..0, *b"#!");
    new.insert("added".into(), b"new".to_vec());
    (old, new)
}

#[test]
fn a_delta_brings_the_tree_and_its_contents_without_any_pack() {
    let (old, new) = versions();
    let (world, base) = World::upgraded(&old, &new);
    world.lose_packs();
    let (sink, report) = world.bring(&base, &old, &new, &contents(&old));
    assert_eq!(sink.get(&BlobId::of(&new["chunks/page-3c4d.js"])).unwrap(), new["chunks/page-3c4d.js"]);
    assert!(base.bytes < 1_000, "{} bytes for three edits and a move", base.bytes);
    assert_eq!((report.bytes_moved, report.frames), (base.bytes, 1), "the whole object, once");
}
