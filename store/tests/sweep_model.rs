//! Pushers and collectors in a store in memory, in thousands of orders, with crashes and suspensions: whatever
//! was pushed can be fetched as long as it is to stay, and in the end nothing else is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::model::{Dice, Habits, Seat, World};
use common::{Contents, layer};
use landfall_store::artifact::Artifact;
use landfall_store::blob::BlobSource;
use landfall_store::fetch::{self, Watch};
use landfall_store::lease::Pace;
use landfall_store::push::{LayerContent, PushOptions, push};
use landfall_store::sweep::{Policy, Request, collect};
use landfall_store::{ArtifactId, BlobId, Entry, EntryPath, Kind, Store, StoreError, Tree};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer than any schedule lasts after its setting: what is pushed in it stays.
const POLICY: Policy =
    Policy { versions: 1, age: Duration::from_secs(400 * 24 * 3600), grace: Duration::from_secs(72 * 3600) };

/// The n-th of a few small contents, of which everything is made, so that pushers share and revive.
struct Words;

fn word(n: u64) -> Vec<u8> {
    format!("content {n}").repeat(1 + n as usize).into_bytes()
}

impl BlobSource for Words {
    fn open(&self, blob: &BlobId, _: u64) -> io::Result<Box<dyn Read + '_>> {
        let found = (0..8).map(word).find(|word| BlobId::of(word) == *blob).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(found)))
    }
}

/// A tree of the words whose bits are set.
fn tree(set: u64) -> Tree {
    let file = |n: u64| {
        let word = word(n);
        let kind = Kind::File { size: word.len() as u64, blob: BlobId::of(&word), executable: false };
        Entry { path: EntryPath::new(format!("f{n}")).unwrap(), kind }
    };
    Tree::from_entries((0..8).filter(|n| set >> n & 1 == 1).map(file).collect()).unwrap()
}

/// What one pusher pushes: an open layer and an env layer.
struct Cargo {
    artifact: Artifact,
    trees: [Tree; 2],
}

fn cargo(app: &str, set: u64) -> Cargo {
    let trees = [tree(set), tree(1 << (set % 8))];
    let layers = vec![layer("app", None, &trees[0]), layer("env", Some("prod"), &trees[1])];
    let release = serde_json::json!({ "version": format!("1.{set}") }).as_object().unwrap().clone();
    Cargo { artifact: Artifact::new(app.parse().unwrap(), None, layers, release).unwrap(), trees }
}

impl Cargo {
    fn push(&self, store: &Store, world: &World, from: SystemTime) -> Result<ArtifactId, StoreError> {
        let elapsed = || world.now().duration_since(from).unwrap_or_default();
        let pause = |time| world.advance(time);
        let pace = Pace { term: HOUR, elapsed: &elapsed, pause: &pause };
        let contents = self.trees.each_ref().map(|tree| LayerContent { id: tree.id(), tree, source: &Words });
        let options = PushOptions { move_version: true, pace, ..Default::default() };
        push(store, &self.artifact, &contents, &options).map(|report| report.artifact)
    }
}

/// One run of the collection; how many objects it removed.
fn gc(
    store: &Store,
    world: &World,
    from: SystemTime,
    roots: &BTreeMap<ArtifactId, String>,
    repack: bool,
) -> Result<usize, StoreError> {
    let elapsed = || world.now().duration_since(from).unwrap_or_default();
    let pause = |time| world.advance(time);
    let pace = Pace { term: HOUR, elapsed: &elapsed, pause: &pause };
    let run = collect(store, &Request { policy: POLICY, repack, pace, ..Request::new(roots) })?;
    Ok(if run.writer.is_some() { 0 } else { run.plan.remove.len() })
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

/// What happened over all schedules: the test must have seen it.
#[derive(Default)]
struct Seen {
    pushed: AtomicU64,
    lapsed: AtomicU64,
    killed: AtomicU64,
    collected: AtomicU64,
    kept_away: AtomicU64,
    removed: AtomicU64,
}

/// One schedule.
fn live(seed: u64, pools: &[rayon::ThreadPool], seen: &Seen) {
    let mut dice = Dice(seed);
    // A clock that has nothing to do with this machine's.
    let start = SystemTime::UNIX_EPOCH + DAY * (365 * (10 + dice.below(90)) as u32);
    let habits = Habits { ignores_conditions: dice.one_in(2), sleeps: [0, 60, 200][dice.below(3) as usize] };
    let world = World::new(seed, start, habits);
    let outside = || Store::create_with(Box::new(Seat::new(&world, 0, None))).unwrap();
    let store = outside();
    // Old things, half of them condemned, which pushers are about to want again.
    let mut roots = BTreeMap::new();
    let old_sets: Vec<u64> = (0..3).map(|_| 1 + dice.below(255)).collect();
    for (n, set) in old_sets.iter().enumerate() {
        let old = cargo("old", *set);
        let id = old.push(&store, &world, start).unwrap();
        if n == 0 {
            roots.insert(id, "the state".to_owned());
        }
    }
    world.advance(DAY * 500);
    // Mostly condemned long enough ago, so that a collector removes what a pusher wants again.
    for _ in 0..[1, 1, 1, 0, 2][dice.below(5) as usize] {
        gc(&store, &world, start, &roots, false).unwrap();
        world.advance(DAY * [4, 4, 1][dice.below(3) as usize]);
    }

    let pushed: Mutex<HashMap<ArtifactId, SystemTime>> = Mutex::default();
    for _ in 0..1 + dice.below(2) {
        let pushers = 1 + dice.below(3) as usize;
        let collectors = 1 + dice.below(2) as usize;
        let actors: Vec<usize> = (1..=pushers).chain((0..collectors).map(|n| 100 + n)).collect();
        world.enter(&actors);
        std::thread::scope(|scope| {
            for (&actor, pool) in actors.iter().zip(pools) {
                let dies = dice.one_in(4).then(|| dice.below(60));
                let repack = dice.one_in(3);
                let again = (!dice.one_in(4)).then(|| old_sets[dice.below(3) as usize]);
                let cargo = match again {
                    Some(set) => cargo("old", set),
                    None => cargo("new", 1 + dice.below(255)),
                };
                let (world, roots, pushed) = (&world, &roots, &pushed);
                scope.spawn(move || {
                    pool.install(|| {
                        let _leaves = Leaves(world, actor);
                        // The seat of somebody who is killed is not cleaned up by its own last words.
                        let Ok(store) = Store::with_backend(Box::new(Seat::new(world, actor, dies))) else {
                            return;
                        };
                        let result = if actor >= 100 {
                            gc(&store, world, start, roots, repack).map(|removed| {
                                seen.removed.fetch_add(u64::from(removed > 0), Ordering::Relaxed);
                                seen.collected.fetch_add(1, Ordering::Relaxed)
                            })
                        } else {
                            cargo.push(&store, world, start).map(|id| {
                                pushed.lock().unwrap().insert(id, world.now());
                                seen.pushed.fetch_add(1, Ordering::Relaxed)
                            })
                        };
                        match result {
                            Ok(_) => {}
                            Err(StoreError::Lapsed { .. }) => {
                                seen.lapsed.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(StoreError::Sweeping { .. }) => {
                                seen.kept_away.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) if error.to_string().contains("killed") => {
                                seen.killed.fetch_add(1, Ordering::Relaxed);
                            }
                            // A collector that read what another one removed stops with nothing removed.
                            Err(error) if actor >= 100 => drop(error),
                            Err(error) => panic!("seed {seed}: pusher {actor}: {error}"),
                        }
                    })
                });
            }
        });
        check(seed, &outside(), &pushed, &roots);
        world.advance(HOUR * dice.below(200) as u32);
    }
    settle(seed, &world, start, &pushed, &roots, &outside());
}

struct Leaves<'a>(&'a Arc<World>, usize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

fn check(
    seed: u64,
    store: &Store,
    pushed: &Mutex<HashMap<ArtifactId, SystemTime>>,
    roots: &BTreeMap<ArtifactId, String>,
) {
    for id in pushed.lock().unwrap().keys().chain(roots.keys()) {
        is_whole(store, id).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// Later runs lose nothing, and when everything but the roots is past its time they leave nothing else.
fn settle(
    seed: u64,
    world: &World,
    start: SystemTime,
    pushed: &Mutex<HashMap<ArtifactId, SystemTime>>,
    roots: &BTreeMap<ArtifactId, String>,
    store: &Store,
) {
    for _ in 0..3 {
        world.advance(DAY * 4);
        gc(store, world, start, roots, true).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        check(seed, store, pushed, roots);
    }
    world.advance(DAY * 500);
    for _ in 0..3 {
        gc(store, world, start, roots, false).unwrap();
        world.advance(DAY * 4);
    }
    check(seed, store, &Mutex::default(), roots);
    let left = world.keys();
    assert!(
        !left.iter().any(|key| key.starts_with("gc/") || key.starts_with("leases/")),
        "seed {seed}: {left:?}"
    );
    let artifacts = left.iter().filter(|key| key.starts_with("artifacts/")).count();
    // The root, and the last version of each app.
    assert!((1..=3).contains(&artifacts), "seed {seed}: {left:?}");
    let trees = left.iter().filter(|key| key.starts_with("trees/")).count();
    assert!(trees <= 2 * artifacts, "seed {seed}: {left:?}");
}

fn schedules(name: &str, from: u64, count: u64) {
    let seen = Seen::default();
    let next = AtomicU64::new(from);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // One for each actor: whoever waits for its turn must not hold a thread that another one needs.
                let pool = || rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
                let pools: Vec<_> = (0..5).map(|_| pool()).collect();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    live(seed, &pools, &seen);
                }
            });
        }
    });
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{name}: {count} schedules: {} pushes, {} collections, {} killed, {} pushes that slept too long, {} \
         collections kept away, {} that removed something",
        of(&seen.pushed),
        of(&seen.collected),
        of(&seen.killed),
        of(&seen.lapsed),
        of(&seen.kept_away),
        of(&seen.removed)
    );
    assert!(
        [&seen.pushed, &seen.collected, &seen.killed, &seen.lapsed, &seen.removed]
            .iter()
            .all(|n| of(n) > count / 1000)
    );
}

#[test]
fn nothing_that_is_to_stay_is_ever_lost() {
    // Ten thousand take minutes; every run of the tests does a part of them.
    let asked = std::env::var("SCHEDULES").ok().and_then(|count| count.parse().ok());
    schedules("model", 1, asked.unwrap_or(400));
}
