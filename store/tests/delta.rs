//! A delta gives the bytes that packs give, or it gives nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use common::faulty::Faulty;
use common::{Contents, artifact, content, layer, noise};
use landfall_store::blob::{BlobSink, Want};
use landfall_store::delta::{Base, Hints};
use landfall_store::fetch::{self, FetchReport, Watch, delta};
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

#[test]
fn a_content_that_only_changes_its_mode_is_taken_from_what_is_here() {
    let entry = |executable| Entry {
        path: EntryPath::new("tool").unwrap(),
        kind: Kind::File { size: 4, blob: BlobId::of(b"tool"), executable },
    };
    let many = |executable: bool| {
        let other =
            (0..300).map(|n| Entry { path: EntryPath::new(format!("f{n}")).unwrap(), ..entry(false) });
        Tree::from_entries(other.chain([entry(executable)]).collect()).unwrap()
    };
    let (old, new) = (many(false), many(true));
    let world = World::new();
    let have = Contents::default();
    have.0.lock().unwrap().insert(want(b"tool", false), b"tool".to_vec());
    let deltas = Deltas { deployed: &world.deployed, tell: &|_, _| {} };
    let options = PushOptions { deltas: Some(deltas), ..PushOptions::default() };
    for (version, tree) in [("1", &old), ("2", &new)] {
        let artifact = artifact(version, vec![layer("app", None, tree)]);
        push(&world.store, &artifact, &[content(tree, &have)], &options).unwrap();
    }
    world.lose_packs();
    let id = artifact("2", vec![layer("app", None, &new)]).id().unwrap();
    let base = world.hints(&id).best(&new.id(), |_| true).unwrap();
    let sink = Contents::default();
    delta::bring(&world.store, &base, &old, new.id(), &have, &sink, &Watch::NOBODY).unwrap();
    assert!(sink.complete(&new));
}

fn want(content: &[u8], executable: bool) -> Want {
    Want { blob: BlobId::of(content), size: content.len() as u64, executable }
}

/// Pseudo-random numbers, the same for a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    fn content(&mut self) -> Vec<u8> {
        let length = [0, 1, 40, 900, 5_000][self.roll(5)];
        let mut content = noisy(self.roll(9) as u32, length);
        if self.roll(4) == 0 {
            content.splice(0..0, *b"#!");
        }
        content
    }

    fn path(&mut self) -> String {
        format!("d{}/{}f{}", self.roll(4), ["", "sub/", "a-"][self.roll(3)], self.roll(12))
    }

    fn edit(&mut self, files: &mut Files) {
        for _ in 0..self.roll(9) {
            let some = files.keys().nth(self.roll(files.len().max(1))).cloned();
            match (self.roll(4), some) {
                (0, Some(path)) => drop(files.remove(&path)),
                (1, Some(path)) => {
                    let moved = files.remove(&path).unwrap();
                    files.insert(self.path(), moved);
                }
                (2, Some(path)) => files.get_mut(&path).unwrap().extend_from_slice(b"more"),
                _ => drop(files.insert(self.path(), self.content())),
            }
        }
    }
}

#[test]
fn whatever_changed_a_delta_gives_exactly_the_new_tree() {
    let mut used = 0;
    for seed in 1..=60 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
        let mut old = Files::new();
        (0..30).for_each(|_| drop(old.insert(dice.path(), dice.content())));
        let mut new = old.clone();
        dice.edit(&mut new);
        let world = World::new();
        world.push("1.0.0", &old);
        let id = world.push("2.0.0", &new).artifact;
        let (from, to) = (tree(&old).id(), tree(&new).id());
        let Some(base) = world.hints(&id).best(&to, |tree| *tree == from) else { continue };
        used += 1;
        world.lose_packs();
        world.bring(&base, &old, &new, &contents(&old));
    }
    assert!(used >= 20, "only {used} of 60 upgrades had a delta worth it");
}

#[test]
fn equal_trees_need_no_delta_and_removals_alone_no_contents() {
    let (old, _) = versions();
    let world = World::new();
    world.push("1.0.0", &old);
    let same = world.push("1.0.1", &old);
    assert_eq!((same.deltas, world.hints(&same.artifact)), (vec![], Hints::default()));
    let mut less = old.clone();
    less.retain(|path, _| !path.contains("m0"));
    let id = world.push("2.0.0", &less).artifact;
    let base = world.base(&id, &less, &old);
    world.lose_packs();
    let (_, report) = world.bring(&base, &old, &less, &contents(&old));
    assert_eq!((report.blobs, report.frames), (0, 0));
}

#[test]
fn deltas_are_never_needed() {
    let (old, new) = versions();
    let (world, base) = World::upgraded(&old, &new);
    std::fs::remove_dir_all(world.path("deltas")).unwrap();
    world.bring(&base, &old, &new, &contents(&old));
    std::fs::remove_dir_all(world.path("hints")).unwrap();
    world.bring(&base, &old, &new, &contents(&old));
}

/// Makes a whole delta a damaged one.
type Spoil = Box<dyn Fn(&mut Vec<u8>)>;

#[test]
fn whatever_is_wrong_with_a_delta_packs_give_the_same_bytes() {
    let (old, new) = versions();
    let (world, base) = World::upgraded(&old, &new);
    let path = world.path(layout::delta(&tree(&new).id(), &base.tree).as_str());
    let good = std::fs::read(&path).unwrap();
    let whole = contents(&old);
    let spoilt: Vec<(&str, Spoil)> = vec![
        ("cut", Box::new(|bytes| bytes.truncate(bytes.len() / 2))),
        ("empty", Box::new(Vec::clear)),
        ("another kind", Box::new(|bytes| bytes[0] = b'X')),
        ("a newer format", Box::new(|bytes| bytes[7] = b'2')),
        ("flipped at its end", Box::new(|bytes| *bytes.last_mut().unwrap() ^= 1)),
        ("flipped in its tree", Box::new(|bytes| bytes[60] ^= 1)),
    ];
    for (what, spoil) in spoilt {
        let mut bytes = good.clone();
        spoil(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let (_, report) = world.bring(&base, &old, &new, &whole);
        assert!(report.bytes_moved > 0, "{what}");
    }
    std::fs::write(&path, &good).unwrap();
    for bytes in [0, 7, base.bytes - 1] {
        world.bring(&Base { bytes, ..base }, &old, &new, &whole);
    }
    let (_, report) = world.bring(&Base { bytes: u64::MAX, ..base }, &old, &new, &whole);
    assert_eq!(report.bytes_moved, base.bytes, "a hint that says too much does no harm");
}

#[test]
fn a_base_that_is_missing_or_damaged_here_sends_the_host_to_the_packs() {
    let (old, new) = versions();
    let (world, base) = World::upgraded(&old, &new);
    let lost = BlobId::of(&old["chunks/page-1a2b.js"]);
    for damage in [true, false] {
        let have = contents(&old);
        have.0.lock().unwrap().retain(|want, content| {
            if damage && want.blob == lost {
                content[10] ^= 1;
            }
            damage || want.blob != lost
        });
        let (sink, _) = world.bring(&base, &old, &new, &have);
        assert_eq!(sink.get(&BlobId::of(&new["lib/m07.js"])).unwrap(), new["lib/m07.js"]);
    }
}

#[test]
fn a_delta_to_another_tree_or_from_another_one_is_noticed() {
    let (old, new) = versions();
    let (world, base) = World::upgraded(&old, &new);
    let mut third = new.clone();
    third.insert("third".into(), b"3".to_vec());
    let id = world.push("3.0.0", &third).artifact;
    let to_third = world.base(&id, &third, &old);
    let at = |to: &Files| world.path(layout::delta(&tree(to).id(), &base.tree).as_str());
    std::fs::copy(at(&new), at(&third)).unwrap();
    world.bring(&to_third, &old, &third, &contents(&old));
    // The base is what the hint says, but the host took another tree for it.
    world.bring(&base, &third, &new, &contents(&third));
}

/// Each either an error or the right bytes, in bounded memory, without a panic.
#[test]
fn ten_thousand_spoilt_deltas_give_the_right_bytes_or_none() {
    let mut old: Files = (0..12).map(|n| (format!("f{n:02}"), noisy(n, 700))).collect();
    old.insert("dir/sub".into(), noisy(77, 300));
    let mut new = old.clone();
    new.get_mut("f03").unwrap().extend_from_slice(b"tail");
    new.remove("f07");
    new.insert("g".into(), noisy(5, 900));
    let (world, base) = World::upgraded(&old, &new);
    let path = world.path(layout::delta(&tree(&new).id(), &base.tree).as_str());
    let good = std::fs::read(&path).unwrap();
    let (from, to, have) = (tree(&old), tree(&new), contents(&old));
    let (mut dice, mut refused) = (Dice(0x2545_f491_4f6c_dd1d), 0);
    for case in 0..10_000 {
        let mut bytes = good.clone();
        for _ in 0..=dice.roll(3) {
            let at = dice.roll(bytes.len());
            match dice.roll(6) {
                0 => bytes.truncate(at + 1),
                // One byte stays to be spoilt.
                1 if bytes.len() > 1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, dice.roll(256) as u8),
                3 => bytes[at] = 0xff,
                // The head is where the numbers are.
                4 => bytes[at % 24] = dice.roll(256) as u8,
                _ => bytes[at] ^= 1 << dice.roll(8),
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let sink = contents(&old);
        let mut report = FetchReport::default();
        let base = Base { bytes: bytes.len() as u64, ..base };
        let missing: Vec<Want> =
            fetch::wants(&[&to]).into_iter().filter(|want| !sink.has(want).unwrap()).collect();
        let done = delta::Delta::open(&world.store, &base, &from, to.id())
            .and_then(|(_, delta)| delta.contents(missing, &have, &sink, &Watch::NOBODY, &mut report));
        match done {
            Ok(()) => assert!(sink.complete(&to), "case {case}"),
            Err(delta::DeltaError::Unusable { .. }) => refused += 1,
            Err(error) => panic!("case {case}: {error}"),
        }
    }
    assert!(refused > 9_000, "{refused} of 10,000 were noticed");
}

#[test]
fn deltas_start_from_what_is_deployed_and_from_the_last_three_versions() {
    let (old, _) = versions();
    let mut world = World::new();
    let version = |n: u32| {
        let mut files = old.clone();
        files.insert("version".into(), noisy(n, 50));
        files
    };
    let ids: Vec<ArtifactId> =
        (0..6).map(|n| world.push(&format!("{n}.0.0"), &version(n)).artifact).collect();
    let bases = |id: &ArtifactId, n: u32| -> Vec<usize> {
        let hints = world.hints(id);
        let known = |base: Base| (0..6).find(|n| tree(&version(*n)).id() == base.tree).unwrap() as usize;
        let mut found: Vec<usize> = hints.to(&tree(&version(n)).id()).map(known).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(bases(&ids[5], 5), [2, 3, 4]);
    world.deployed.insert("web".parse().unwrap(), vec![ids[0], ids[4]]);
    world.deployed.insert("other".parse().unwrap(), vec![ids[1]]);
    let report = world.push("7.0.0", &version(7));
    let from: Vec<String> =
        report.deltas.iter().map(|delta| delta.version.clone().unwrap().to_string()).collect();
    assert_eq!(from, ["0.0.0", "4.0.0", "5.0.0", "3.0.0"], "another app's artifacts are none");
    let again = world.push("7.0.0", &version(7));
    assert_eq!((again.deltas, again.stored_bytes), (vec![], 0), "what is there is not made again");
}

#[test]
fn a_delta_that_saves_little_is_not_made() {
    let world = World::new();
    let files = |seed: u32| -> Files { (0..4).map(|n| (format!("f{n}"), noisy(seed + n, 40_000))).collect() };
    world.push("1.0.0", &files(1));
    let report = world.push("2.0.0", &files(50));
    assert_eq!(report.deltas, []);
    assert!(!world.path("deltas").exists());
}

#[test]
fn secrets_are_in_no_delta_and_no_hint() {
    let world = World::new();
    let (old, new) = versions();
    let canary = |n: u32| -> Files {
        BTreeMap::from([(".env.prod".to_owned(), format!("CANARY{n}=").into_bytes().repeat(400))])
    };
    let deltas = Deltas { deployed: &world.deployed, tell: &|_, _| {} };
    let options = PushOptions { deltas: Some(deltas), ..PushOptions::default() };
    for (n, app) in [(1, &old), (2, &new)] {
        let (app, app_contents) = (tree(app), contents(app));
        let (env, env_contents) = (tree(&canary(n)), contents(&canary(n)));
        let layers = vec![layer("env", Some("prod"), &env), layer("app", None, &app)];
        let artifact = artifact(&format!("{n}.0.0"), layers);
        let given = [content(&app, &app_contents), content(&env, &env_contents)];
        let report = push(&world.store, &artifact, &given, &options).unwrap();
        assert_eq!(report.deltas.len(), n as usize - 1, "of the app's layer alone");
    }
    let secret = [canary(1), canary(2)].map(|files| tree(&files).id().to_string());
    for kind in ["deltas", "hints"] {
        for file in common::files_below(&world.path(kind)) {
            let bytes = std::fs::read(&file).unwrap();
            let text = format!("{} {}", file.display(), String::from_utf8_lossy(&bytes));
            assert!(!text.contains("CANARY") && !secret.iter().any(|id| text.contains(id)), "{text}");
        }
    }
}

/// Noise that is quick to make.
fn large(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

const MIB: usize = 1 << 20;
/// Bytes inserted into the middle of a large content.
const INSERTED: usize = 70_000;

/// Two contents that have groups of their own, with an insertion in the middle of each.
fn large_versions() -> (Files, Files) {
    let old: Files = [("one.bin", 26 * MIB), ("two.bin", 27 * MIB)]
        .map(|(name, length)| (name.to_owned(), large(length as u64, length)))
        .into();
    let mut new = old.clone();
    for (seed, content) in new.values_mut().enumerate() {
        let middle = content.len() / 2;
        content.splice(middle..middle, large(seed as u64 + 7, INSERTED));
    }
    (old, new)
}

#[test]
fn insertions_into_large_contents_cost_little_more_than_what_was_inserted_and_a_cut_costs_one_group() {
    let (old, new) = large_versions();
    let (world, base) = World::upgraded(&old, &new);
    let bound = 2 * INSERTED as u64 * 3 / 2 + 100_000;
    assert!(base.bytes <= bound, "{} bytes, {bound} allowed", base.bytes);
    world.lose_packs();

    // Cut in the second half, when the groups of the first content are done.
    let mut faulty = Faulty::new(world.dir.path());
    *faulty.cut_deltas_at.get_mut() = (base.bytes * 3 / 4) as i64;
    let reads = Arc::clone(&faulty.reads);
    let store = Store::with_backend(Box::new(faulty)).unwrap();
    let (from, to, sink) = (tree(&old), tree(&new), contents(&old));
    let (_, report) =
        delta::bring(&store, &base, &from, to.id(), &contents(&old), &sink, &Watch::NOBODY).unwrap();
    assert!(sink.complete(&to));
    assert_eq!(report.frames, 4, "no group was unpacked twice");
    let reads: Vec<(u64, u64)> = reads
        .lock()
        .unwrap()
        .iter()
        .filter(|(key, ..)| key.ends_with(".lfd"))
        .map(|read| (read.1, read.2))
        .collect();
    assert_eq!(reads.len(), 2, "{reads:?}");
    assert_eq!(reads[0], (0, base.bytes));
    assert!(reads[1].0 > base.bytes / 4 && reads[1].0 <= base.bytes * 3 / 4, "{reads:?}");

    // A later run asks only for what the earlier one did not bring.
    let one = sink
        .0
        .lock()
        .unwrap()
        .iter()
        .find(|(_, content)| content.len() == 26 * MIB + INSERTED)
        .map(|(want, content)| (*want, content.clone()));
    let partial = contents(&old);
    partial.0.lock().unwrap().extend(one);
    let again = delta::bring(&world.store, &base, &from, to.id(), &contents(&old), &partial, &Watch::NOBODY)
        .unwrap()
        .1;
    assert_eq!((again.frames, again.blobs), (2, 1));
}

/// A delta as the first landfall that made them wrote it. Every later one must read it.
const GOLDEN: &str = "\
    4c4644454c544131010002ab01770199060087062928b52ffd20ab75030002c9181590a579a01e55\
    ed748b79f7be421362e5336279dd0980a140080c031627db9d7a43d7f6b27d14978f549839c8696f\
    0e26b8c78a97b5336dbbaa24dda966412504653fe352d08e7aa253c1fb9e39f69d4e06e9f60e527d\
    38cdaa79f222de8daa8b300d02000210b14a4c1028b52ffd601902fd0000b8616e64206f6e65206d\
    6f72650a23212f62696e2f73680a0100ff14560208";

#[test]
fn a_delta_of_the_first_format_is_read() {
    let line = |n: u32| format!("line {n} of a file that stays as it was\n");
    let text: String = (0..20).map(line).collect();
    let old: Files =
        [("a.txt", text.clone()), ("b.txt", "gone\n".to_owned()), ("c.txt", "stays\n".to_owned())]
            .map(|(path, content)| (path.to_owned(), content.into_bytes()))
            .into();
    let mut new = old.clone();
    new.remove("b.txt");
    new.insert("a.txt".into(), format!("{text}and one more\n").into_bytes());
    new.insert("bin/run".into(), b"#!/bin/sh\n".to_vec());
    let (world, base) = World::upgraded(&old, &new);
    let path = world.path(layout::delta(&tree(&new).id(), &base.tree).as_str());
    let bytes: Vec<u8> =
        (0..GOLDEN.len()).step_by(2).map(|at| u8::from_str_radix(&GOLDEN[at..at + 2], 16).unwrap()).collect();
    std::fs::write(&path, &bytes).unwrap();
    world.lose_packs();
    let base = Base { bytes: bytes.len() as u64, ..base };
    world.bring(&base, &old, &new, &contents(&old));
}
