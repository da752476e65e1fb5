//! Collection of a store: what is needed stays through every kill and every loss, what is not goes in two runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::model::{Habits, Seat, World};
use common::{Contents, files_below, push_scanned, scanned, write};
use landfall_store::fetch::{self, Watch};
use landfall_store::sweep::{Policy, Request, SweepPlan, collect, preview};
use landfall_store::{ArtifactId, Store, StoreError};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Only the newest version stays.
const NEWEST: Policy = Policy { versions: 1, age: DAY, grace: Duration::from_secs(72 * 3600) };

fn request(roots: &BTreeMap<ArtifactId, String>) -> Request<'_> {
    Request { policy: NEWEST, ..Request::new(roots) }
}

fn is_whole(store: &Store, id: &ArtifactId) -> Result<(), StoreError> {
    let artifact = fetch::artifact(store, id)?;
    for layer in &artifact.layers {
        let tree = fetch::tree(store, &layer.tree)?;
        let sink = Contents::default();
        fetch::blobs(store, &[&tree], &sink, &Watch::NOBODY)?;
        assert!(sink.complete(&tree));
    }
    Ok(())
}

/// A source with files of these names and contents.
fn source(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), files);
    dir
}

/// A store in memory whose clock tests move.
fn world() -> (Arc<World>, Store) {
    let world = World::new(1, SystemTime::UNIX_EPOCH + DAY * 9000, Habits::default());
    let store = open(&world, None);
    (world, store)
}

fn open(world: &Arc<World>, dies_after: Option<u64>) -> Store {
    Store::create_with(Box::new(Seat::new(world, 0, dies_after))).unwrap()
}

fn labels(plan: &SweepPlan) -> (Vec<&'static str>, Vec<&'static str>) {
    let of = |items: &[landfall_store::sweep::Item]| items.iter().map(|item| item.family.label()).collect();
    (of(&plan.condemn), of(&plan.remove))
}

const ALL: [&str; 6] = ["version", "artifact", "locator", "tree", "index", "pack"];

#[test]
fn what_nothing_needs_goes_in_two_runs_a_grace_apart() {
    let (world, store) = world();
    let old = push_scanned(&store, "1.0", &scanned(source(&[("a", "1")]).path())).unwrap().artifact;
    let new = push_scanned(&store, "2.0", &scanned(source(&[("a", "2")]).path())).unwrap().artifact;
    let roots = BTreeMap::new();
    assert_eq!(labels(&collect(&store, &request(&roots)).unwrap().plan), (vec![], vec![]), "too young");
    world.advance(DAY * 10);
    let first = collect(&store, &request(&roots)).unwrap();
    assert_eq!(labels(&first.plan), (ALL.to_vec(), vec![]));
    is_whole(&store, &old).unwrap();
    world.advance(DAY * 2);
    let early = collect(&store, &request(&roots)).unwrap();
    assert_eq!((labels(&early.plan), early.plan.waiting.len()), ((vec![], vec![]), 6));
    is_whole(&store, &old).unwrap();
    world.advance(DAY);
    assert_eq!(labels(&collect(&store, &request(&roots)).unwrap().plan), (vec![], ALL.to_vec()));
    assert!(is_whole(&store, &old).is_err());
    is_whole(&store, &new).unwrap();
    let left = world.keys();
    assert_eq!(left.len(), 7, "the record and one artifact with its five: {left:?}");
}

#[test]
fn whatever_is_named_again_before_the_sweep_stays() {
    let (world, store) = world();
    let source_of_old = source(&[("a", "1")]);
    let old = push_scanned(&store, "1.0", &scanned(source_of_old.path())).unwrap().artifact;
    push_scanned(&store, "2.0", &scanned(source(&[("a", "2")]).path())).unwrap();
    world.advance(DAY * 10);
    collect(&store, &request(&BTreeMap::new())).unwrap();
    world.advance(DAY * 4);
    // The state names it again.
    let roots = BTreeMap::from([(old, "the state".to_owned())]);
    let run = collect(&store, &request(&roots)).unwrap();
    assert_eq!(run.plan.remove, []);
    is_whole(&store, &old).unwrap();
    // It is condemned again, and pushed again.
    collect(&store, &request(&BTreeMap::new())).unwrap();
    let again = push_scanned(&store, "1.0", &scanned(source_of_old.path())).unwrap();
    assert!(again.existed);
    world.advance(DAY * 4 - Duration::from_secs(3600 * 30));
    collect(&store, &request(&BTreeMap::new())).unwrap();
    is_whole(&store, &old).unwrap();
}

#[test]
fn a_writer_keeps_a_run_from_removing_and_a_dead_ones_lease_ends_by_itself() {
    let (world, store) = world();
    let old = push_scanned(&store, "1.0", &scanned(source(&[("a", "1")]).path())).unwrap().artifact;
    push_scanned(&store, "2.0", &scanned(source(&[("a", "2")]).path())).unwrap();
    world.advance(DAY * 10);
    collect(&store, &request(&BTreeMap::new())).unwrap();
    world.advance(DAY * 4);
    // A push that is killed right after it left its lease.
    let dying = open(&world, Some(5));
    push_scanned(&dying, "3.0", &scanned(source(&[("a", "3")]).path())).unwrap_err();
    assert!(world.keys().iter().any(|key| key.starts_with("leases/")));
    let run = collect(&store, &request(&BTreeMap::new())).unwrap();
    assert_eq!(run.writer.unwrap().kind, "push");
    is_whole(&store, &old).unwrap();
    world.advance(Duration::from_secs(3601));
    assert!(collect(&store, &request(&BTreeMap::new())).unwrap().writer.is_none());
    assert!(is_whole(&store, &old).is_err());
}

#[test]
fn p10_a_root_that_cannot_be_read_stops_the_run_with_nothing_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    push_scanned(&store, "1.0", &scanned(source(&[("a", "1")]).path())).unwrap();
    push_scanned(&store, "2.0", &scanned(source(&[("a", "2")]).path())).unwrap();
    age(dir.path());
    for kind in ["artifacts/", "trees/", "refs/"] {
        let everything = files_below(dir.path());
        for path in everything.iter().filter(|path| path.to_str().unwrap().contains(kind)) {
            let whole = std::fs::read(path).unwrap();
            std::fs::write(path, &whole[..whole.len() / 2]).unwrap();
            let roots = fetch_ids(&store);
            assert!(collect(&store, &request(&roots)).is_err(), "{}", path.display());
            assert_eq!(files_below(dir.path()), everything, "nothing was condemned");
            std::fs::write(path, whole).unwrap();
        }
    }
    age(dir.path());
    let roots = BTreeMap::new();
    assert_eq!(collect(&store, &request(&roots)).unwrap().plan.condemn.len(), 6);
}

fn fetch_ids(store: &Store) -> BTreeMap<ArtifactId, String> {
    landfall_store::refs::ids(store).unwrap().into_iter().map(|id| (id, "test".to_owned())).collect()
}

/// Makes everything a month old.
fn age(dir: &Path) {
    for path in files_below(dir) {
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - DAY * 30).unwrap();
    }
}

#[test]
fn i14_what_is_only_a_hint_can_be_lost_or_lie_without_costing_data() {
    for (kind, lie) in [("/loc/", false), (".idx", false), (".idx", true), ("/loc/", true)] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path()).unwrap();
        let old = push_scanned(&store, "1.0", &scanned(source(&[("a", "1"), ("b", "old")]).path())).unwrap();
        let new = push_scanned(&store, "2.0", &scanned(source(&[("a", "1"), ("b", "new")]).path())).unwrap();
        let of_kind: Vec<PathBuf> = files_below(dir.path())
            .into_iter()
            .filter(|path| path.to_str().unwrap().contains(kind))
            .collect();
        let other = std::fs::read(&of_kind[0]).unwrap();
        for path in &of_kind {
            if lie { std::fs::write(path, &other).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        for _ in 0..3 {
            age(dir.path());
            collect(&store, &request(&BTreeMap::new())).unwrap();
        }
        is_whole(&store, &new.artifact).unwrap_or_else(|error| panic!("{kind} {lie}: {error}"));
        assert!(is_whole(&store, &old.artifact).is_err());
    }
}

#[test]
fn what_is_needed_of_a_wasteful_pack_moves_and_the_pack_goes() {
    let (world, store) = world();
    let noise: Vec<String> = (0..4).map(|seed| common::noise(seed, 400_000)).collect();
    let files = [("a", noise[0].as_str()), ("b", &noise[1]), ("c", &noise[2]), ("d", &noise[3])];
    push_scanned(&store, "1.0", &scanned(source(&files).path())).unwrap();
    let second = push_scanned(&store, "2.0", &scanned(source(&files[..3]).path())).unwrap();
    world.advance(DAY * 10);
    let packs = || world.keys().iter().filter(|key| key.ends_with(".lfp")).count();
    let roots = BTreeMap::new();
    let repack = Request { repack: true, ..request(&roots) };
    assert_eq!(collect(&store, &repack).unwrap().repacked.packs, 0, "three quarters are needed");
    // Small contents share a frame, so a quarter of them is as quick to fetch from the old pack.
    let third = push_scanned(&store, "3.0", &scanned(source(&files[..1]).path())).unwrap();
    assert_eq!([second, third.clone()].map(|pushed| pushed.layers[0].new_bytes), [0, 0]);
    assert_eq!(packs(), 1);
    world.advance(DAY * 10);
    let run = collect(&store, &repack).unwrap();
    assert_eq!((run.repacked.packs, run.repacked.locators, packs()), (1, 1, 2));
    assert!(labels(&run.plan).0.contains(&"pack"), "the old one is condemned, not removed");
    is_whole(&store, &third.artifact).unwrap();
    world.advance(DAY * 4);
    collect(&store, &repack).unwrap();
    assert_eq!(packs(), 1);
    is_whole(&store, &third.artifact).unwrap();
}

#[test]
fn a_kill_at_every_call_of_a_push_and_of_a_run_loses_nothing_and_leaves_nothing() {
    let (mut calls, mut finished) = (0, [false; 2]);
    for step in 0.. {
        if finished == [true; 2] {
            break;
        }
        for (which, is_finished) in finished.iter_mut().enumerate() {
            let (world, store) = world();
            let old = source(&[("a", "1"), ("b", "both")]);
            push_scanned(&store, "1.0", &scanned(old.path())).unwrap();
            let kept =
                push_scanned(&store, "2.0", &scanned(source(&[("a", "2"), ("b", "both")]).path())).unwrap();
            world.advance(DAY * 10);
            collect(&store, &request(&BTreeMap::new())).unwrap();
            world.advance(DAY * 4);
            let roots = BTreeMap::new();
            let repack = Request { repack: true, ..request(&roots) };
            let seat = Seat::new(&world, 0, Some(step));
            // Opening it is a call, too.
            let died = match Store::create_with(Box::new(seat)) {
                Err(_) => true,
                Ok(store) if which == 0 => push_scanned(&store, "1.0", &scanned(old.path())).is_err(),
                Ok(store) => collect(&store, &repack).is_err(),
            };
            calls += u64::from(died);
            *is_finished |= !died;
            is_whole(&store, &kept.artifact).unwrap_or_else(|error| panic!("{which}, call {step}: {error}"));
            // The next ones converge: the push succeeds, and what the dead one left goes.
            world.advance(Duration::from_secs(4000));
            let again = push_scanned(&store, "1.0", &scanned(old.path())).unwrap();
            is_whole(&store, &again.artifact).unwrap_or_else(|error| panic!("{which}, call {step}: {error}"));
            world.advance(DAY * 30);
            let roots = BTreeMap::from([(kept.artifact, "the state".to_owned())]);
            for _ in 0..3 {
                collect(&store, &request(&roots)).unwrap();
                world.advance(DAY * 4);
            }
            is_whole(&store, &kept.artifact).unwrap();
            let left = world.keys();
            assert!(!left.iter().any(|key| key.starts_with("gc/") || key.starts_with("leases/")), "{left:?}");
            assert!(preview(&store, &request(&roots)).unwrap().1.condemn.is_empty());
        }
    }
    println!("{calls} kills");
    assert!(calls > 60, "{calls}");
}
