//! How many round trips a fetch takes, which requests they are, and what comes of wrong answers to them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use common::faulty_http::{Fault, Request, Server};
use common::{Contents, artifact, content, layer, noise};
use landfall_store::backend::Meter;
use landfall_store::blob::{BlobSink, BlobSource, Want};
use landfall_store::fetch::{Estimate, FetchReport, Kept, Session, Watch};
use landfall_store::location::{StoreAddress, StoreLocation};
use landfall_store::push::{Deltas, PushOptions, push};
use landfall_store::{
    Artifact, ArtifactId, BlobId, Entry, EntryPath, Kind, Layer, Store, StoreError, Tree, TreeId, layout,
};

/// A layer in memory: contents by path.
type Files = BTreeMap<String, String>;

/// Large enough to be stored in segments.
fn large(seed: u32) -> Files {
    (0..3_000).map(|n| (format!("node_modules/p{:02}/f{n}.js", n % 60), noise(seed + n, 40))).collect()
}

fn small(text: &str) -> Files {
    (0..5).map(|n| (format!("dist/{n}.js"), format!("{text} {n}"))).collect()
}

fn changed(files: &Files, paths: &[usize]) -> Files {
    let mut files = files.clone();
    let all: Vec<String> = files.keys().cloned().collect();
    for path in paths {
        files.insert(all[*path].clone(), format!("changed {path}"));
    }
    files
}

fn tree(files: &Files) -> Tree {
    let entry = |(path, text): (&String, &String)| {
        let (size, blob) = (text.len() as u64, BlobId::of(text.as_bytes()));
        Entry {
            path: EntryPath::new(path.as_str()).unwrap(),
            kind: Kind::File { size, blob, executable: false },
        }
    };
    Tree::from_entries(files.iter().map(entry).collect()).unwrap()
}

/// Contents of any size of layer, found at once.
struct Source(HashMap<BlobId, Vec<u8>>);

impl Source {
    fn of(files: &Files) -> Self {
        Self(files.values().map(|text| (BlobId::of(text.as_bytes()), text.clone().into_bytes())).collect())
    }
}

impl BlobSource for Source {
    fn open(&self, blob: &BlobId, _size: u64) -> io::Result<Box<dyn io::Read + '_>> {
        let bytes = self.0.get(blob).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Box::new(io::Cursor::new(bytes)))
    }
}

/// A host: trees and contents in memory.
#[derive(Default)]
struct Host {
    trees: HashMap<TreeId, Vec<u8>>,
    order: Vec<TreeId>,
    contents: Contents,
}

impl Host {
    fn with(layers: &[&Files]) -> Self {
        let mut host = Self::default();
        for files in layers {
            host.keep(&tree(files));
            for text in files.values() {
                let want =
                    Want { blob: BlobId::of(text.as_bytes()), size: text.len() as u64, executable: false };
                host.contents.put(&want, &mut text.as_bytes()).unwrap();
            }
        }
        host
    }

    fn keep(&mut self, tree: &Tree) {
        self.order.push(tree.id());
        self.trees.insert(tree.id(), tree.encode());
    }
}

impl Kept for Host {
    fn tree(&self, id: &TreeId) -> Option<Vec<u8>> {
        self.trees.get(id).cloned()
    }
    fn like(&self, layer: &Layer) -> Vec<TreeId> {
        self.order.iter().filter(|id| **id != layer.tree).copied().collect()
    }
    fn has(&self, _layer: &Layer, want: &Want) -> io::Result<bool> {
        self.contents.has(want)
    }
    fn contents(&self) -> &dyn BlobSource {
        &self.contents
    }
}

/// A store in a directory.
struct World {
    dir: tempfile::TempDir,
    store: Store,
    deltas: bool,
}

impl World {
    fn new(deltas: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path()).unwrap();
        Self { dir, store, deltas }
    }

    fn push(&self, version: &str, layers: &[(&str, &Files)]) -> ArtifactId {
        let made: Vec<(Tree, Source)> =
            layers.iter().map(|(_, files)| (tree(files), Source::of(files))).collect();
        let named = layers.iter().zip(&made).map(|((name, _), (tree, _))| layer(name, None, tree)).collect();
        let contents: Vec<_> = made.iter().map(|(tree, source)| content(tree, source)).collect();
        let deployed = BTreeMap::new();
        let deltas = self.deltas.then_some(Deltas { deployed: &deployed, tell: &|_, _| {} });
        let options = PushOptions { deltas, ..PushOptions::default() };
        push(&self.store, &artifact(version, named), &contents, &options).unwrap().artifact
    }

    fn remove(&self, kind: &str) {
        std::fs::remove_dir_all(self.dir.path().join(kind)).unwrap();
    }
}

fn reach(server: &Server) -> Store {
    StoreAddress::from(StoreLocation::Http(server.url())).reach().unwrap()
}

/// The whole way of a host that knows nothing but the artifact's id.
fn fetch(server: &Server, id: &ArtifactId, host: &Host) -> Result<(Artifact, FetchReport), StoreError> {
    let store = reach(server);
    let mut session = Session::new(&store, host, Watch::NOBODY);
    let artifact = session.manifest(id)?;
    let layers: Vec<&Layer> = artifact.layers.iter().collect();
    session.documents(id, &layers)?;
    let trees: Vec<Tree> = session.trees().map(|(_, tree)| tree.clone()).collect();
    assert_eq!(trees.iter().map(Tree::id).collect::<HashSet<_>>().len(), trees.len());
    let report = session.contents(&host.contents)?;
    for (layer, tree) in artifact.layers.iter().zip(&trees) {
        assert_eq!(tree.id(), layer.tree);
        let all = host.contents.0.lock().unwrap();
        assert!(tree.blobs().all(|(blob, size)| all.contains_key(&Want { blob, size, executable: false })));
    }
    Ok((artifact, report))
}

fn kinds(server: &Server) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for request in server.requests() {
        *kinds.entry(request.path.split('/').next().unwrap().to_owned()).or_default() += 1;
    }
    kinds
}

/// What holds for every fetch from an honest server, with so many layers, packs and trees in segments.
fn is_thrifty(server: &Server, layers: usize, packs: usize, in_segments: usize) {
    let requests = server.requests();
    let most = 2 + 2 * layers + 8 * (packs + in_segments);
    assert!(requests.len() <= most, "{} requests: {requests:#?}", requests.len());
    assert!(server.in_flight_max() <= 8, "{} at once", server.in_flight_max());
    let mut taken: Vec<(String, u64, u64)> = Vec::new();
    for Request { path, range, .. } in requests {
        let (from, to) = range.unwrap_or((0, u64::MAX));
        let twice = taken.iter().any(|(other, a, b)| *other == path && from <= *b && to >= *a);
        assert!(!twice, "{path} {from}-{to} was asked for twice");
        taken.push((path, from, to));
    }
}

/// What a host would move, found out beforehand: contents, and documents.
fn estimate(server: &Server, id: &ArtifactId, host: &Host) -> (Estimate, u64) {
    let meter = Meter::default();
    let store = reach(server).metered(&meter);
    let mut session = Session::new(&store, host, Watch::NOBODY);
    let artifact = session.manifest(id).unwrap();
    let layers: Vec<&Layer> = artifact.layers.iter().collect();
    session.documents(id, &layers).unwrap();
    (session.estimate().unwrap(), meter.bytes())
}

#[test]
fn an_estimate_says_what_the_fetch_then_moves_by_packs_by_deltas_and_by_both() {
    for deltas in [false, true] {
        let world = World::new(deltas);
        let (deps, dist) = (large(1), small("one"));
        let first = world.push("1.0.0", &[("deps", &deps), ("dist", &dist)]);
        let (newer, other) = (changed(&deps, &[3, 700, 2_999]), small("two"));
        let second = world.push("2.0.0", &[("deps", &newer), ("dist", &other)]);
        let whole = || Host::with(&[&deps, &dist]);
        let partly = || Host::with(&[&deps, &changed(&newer, &[9])]);
        let hosts: [(&str, ArtifactId, Host); 5] = [
            ("nothing here", first, Host::default()),
            ("nothing here, the newer one", second, Host::default()),
            ("the older one here", second, whole()),
            ("some of it here", second, partly()),
            ("all of it here", second, Host::with(&[&newer, &other])),
        ];
        for (case, id, host) in hosts {
            let server = Server::of(world.dir.path());
            let (estimate, documents) = estimate(&server, &id, &host);
            let asked = server.bytes();
            assert!(!deltas || case != "the older one here" || estimate.deltas > 0, "{case}: {estimate:?}");
            assert!(deltas || estimate.deltas == 0, "{case}");
            server.forget();
            let (_, report) = fetch(&server, &id, &host).unwrap();
            assert_eq!(
                (estimate.moved, estimate.blobs),
                (report.bytes_moved, report.blobs),
                "{case} {deltas}"
            );
            // What the server sent is a little more: gaps between frames, and what was buffered of a delta.
            let sent = server.bytes();
            let told = estimate.moved + documents;
            assert!(told <= sent && sent - told <= sent / 10, "{case} {deltas}: {told} of {sent}");
            assert!(asked <= sent.max(64 << 10), "{case}: finding out costs {asked} of {sent}");
        }
    }
}

#[test]
fn a_first_fetch_takes_three_round_trips() {
    let world = World::new(false);
    let (deps, dist) = (large(1), small("one"));
    let id = world.push("1.0.0", &[("deps", &deps), ("dist", &dist)]);
    let server = Server::in_rounds(world.dir.path());
    fetch(&server, &id, &Host::default()).unwrap();
    assert_eq!(server.rounds(), 3, "{:?}", kinds(&server));
    is_thrifty(&server, 2, 2, 0);
    assert_eq!(kinds(&server).get("segments"), None, "nothing here is like the tree: the list is of no use");
}

#[test]
fn an_upgrade_without_a_delta_takes_four_round_trips_and_the_changed_segments() {
    let world = World::new(false);
    let one = large(1);
    world.push("1.0.0", &[("deps", &one)]);
    let two = changed(&one, &[7, 1_500, 2_900]);
    let id = world.push("2.0.0", &[("deps", &two)]);
    let server = Server::in_rounds(world.dir.path());
    let (_, report) = fetch(&server, &id, &Host::with(&[&one])).unwrap();
    assert_eq!(server.rounds(), 4, "{:?}", kinds(&server));
    assert_eq!(report.blobs, 3);
    is_thrifty(&server, 1, 1, 1);
    let whole = std::fs::metadata(world.dir.path().join(layout::tree(&tree(&two).id()).as_str())).unwrap();
    assert!(server.bytes() < whole.len() / 3, "{} bytes beside {}", server.bytes(), whole.len());
}

#[test]
fn an_upgrade_with_a_delta_takes_three_round_trips_at_most_and_no_locator() {
    let world = World::new(true);
    let (one, web) = (large(1), small("one"));
    world.push("1.0.0", &[("deps", &one), ("web", &web)]);
    let two = changed(&one, &[7, 1_500, 2_900]);
    let id = world.push("2.0.0", &[("deps", &two), ("web", &small("two"))]);
    let server = Server::in_rounds(world.dir.path());
    fetch(&server, &id, &Host::with(&[&one, &web])).unwrap();
    assert!(server.rounds() <= 3, "{:?}", kinds(&server));
    let deps = tree(&two).id().to_string();
    let asked = |kind: &str| {
        server.requests().iter().any(|asked| asked.path.contains(kind) && asked.path.contains(&deps))
    };
    assert!(asked("deltas/") && !asked("loc/") && !asked("trees/"), "{:?}", kinds(&server));
    is_thrifty(&server, 2, 1, 0);
}

#[test]
fn a_delta_that_is_listed_and_not_there_costs_round_trips_and_nothing_else() {
    let world = World::new(true);
    let one = large(1);
    world.push("1.0.0", &[("deps", &one)]);
    let id = world.push("2.0.0", &[("deps", &changed(&one, &[7]))]);
    world.remove("deltas");
    let server = Server::in_rounds(world.dir.path());
    fetch(&server, &id, &Host::with(&[&one])).unwrap();
    assert_eq!(server.rounds(), 5, "the four without a delta and the wasted one");
}

#[test]
fn a_second_version_with_unchanged_layers_asks_for_the_manifest_and_hints_only() {
    let world = World::new(false);
    let deps = large(1);
    world.push("1.0.0", &[("deps", &deps)]);
    let id = world.push("2.0.0", &[("deps", &deps)]);
    let server = Server::in_rounds(world.dir.path());
    let (_, report) = fetch(&server, &id, &Host::with(&[&deps])).unwrap();
    assert_eq!(report, FetchReport::default());
    assert_eq!(server.rounds(), 1);
    assert_eq!(kinds(&server), BTreeMap::from([("artifacts".to_owned(), 1), ("hints".to_owned(), 1)]));
}

#[test]
fn what_is_here_whole_is_asked_of_nobody() {
    let world = World::new(false);
    let deps = large(1);
    world.push("1.0.0", &[("deps", &deps)]);
    let server = Server::in_rounds(world.dir.path());
    let (store, host) = (reach(&server), Host::with(&[&deps]));
    let mut session = Session::new(&store, &host, Watch::NOBODY);
    let layer = layer("deps", None, &tree(&deps));
    let id = artifact("1.0.0", vec![layer.clone()]).id().unwrap();
    session.documents(&id, &[&layer]).unwrap();
    assert!(session.missing().is_empty());
    session.contents(&host.contents).unwrap();
    assert_eq!(server.requests().len(), 0);
}

/// The same contents in other packs, as a store has them after packing anew.
fn packed_anew(world: &World, version: &str, files: &Files) -> World {
    let anew = World::new(false);
    // A neighbour in the same frames makes them other packs.
    let mut more = files.clone();
    more.insert("a neighbour".to_owned(), "of another app".to_owned());
    anew.push("0", &[("deps", &more)]);
    anew.push(version, &[("deps", files)]);
    std::fs::copy(world.dir.path().join("landfall-store.json"), anew.dir.path().join("landfall-store.json"))
        .unwrap();
    anew
}

fn copy_below(from: &std::path::Path, to: &std::path::Path) {
    for path in common::files_below(from) {
        let to = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(path, to).unwrap();
    }
}

#[test]
fn a_stale_locator_costs_two_round_trips() {
    let world = World::new(false);
    let deps = large(1);
    let id = world.push("1.0.0", &[("deps", &deps)]);
    let anew = packed_anew(&world, "1.0.0", &deps);
    let server = Server::in_rounds(world.dir.path());
    // The contents are packed anew just after the host has read the locator.
    let (from, to) = (anew.dir.path().to_owned(), world.dir.path().to_owned());
    let once = std::sync::Once::new();
    server.misbehave(move |request| {
        if request.path.starts_with("packs/") {
            once.call_once(|| {
                std::fs::remove_dir_all(to.join("packs")).unwrap();
                copy_below(&from.join("packs"), &to.join("packs"));
                copy_below(&from.join("loc"), &to.join("loc"));
            });
        }
        Fault::None
    });
    fetch(&server, &id, &Host::default()).unwrap();
    assert_eq!(server.rounds(), 5, "manifest, tree and locator, packs; locator, packs: {:?}", kinds(&server));
    assert_eq!(kinds(&server)["loc"], 2);
    drop(anew);
}

#[test]
fn without_a_locator_that_is_right_the_error_names_a_content() {
    let world = World::new(false);
    let deps = large(1);
    let id = world.push("1.0.0", &[("deps", &deps)]);
    world.remove("packs");
    let error = fetch(&Server::of(world.dir.path()), &id, &Host::default()).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
}

/// Whether all of a tree is asked for: up to the bound of trees.
fn is_whole_tree(asked: &Request) -> bool {
    asked.path.starts_with("trees/") && asked.range.is_none_or(|(_, last)| last > 16 << 20)
}

/// An upgrade from a server that does something to the requests of a kind.
fn upgraded_with(fault: impl Fn(&Request) -> Fault + Send + Sync + 'static) -> (Server, World) {
    let world = World::new(false);
    let one = large(1);
    world.push("1.0.0", &[("deps", &one)]);
    let id = world.push("2.0.0", &[("deps", &changed(&one, &[7, 1_500, 2_900]))]);
    let server = Server::of(world.dir.path());
    server.misbehave(fault);
    fetch(&server, &id, &Host::with(&[&one])).unwrap();
    (server, world)
}

#[test]
fn a_damaged_or_absent_list_costs_the_whole_tree_and_nothing_else() {
    let flipped = |at: usize| {
        move |request: &Request| match request.path.starts_with("segments/") {
            true => Fault::Flip(at),
            false => Fault::None,
        }
    };
    for at in [0, 9, 40, 90] {
        let (server, _world) = upgraded_with(flipped(at));
        assert!(server.requests().iter().any(is_whole_tree));
    }
    upgraded_with(|request| match request.path.starts_with("segments/") {
        true => Fault::Status(404, vec![]),
        false => Fault::None,
    });
}

#[test]
fn damaged_segments_cost_the_whole_tree_and_nothing_else() {
    let (server, _world) = upgraded_with(|request| match request.path.starts_with("trees/") {
        true if !is_whole_tree(request) => Fault::Flip(30),
        _ => Fault::None,
    });
    assert!(server.requests().iter().any(is_whole_tree));
}

#[test]
fn a_server_without_ranges_gives_the_tree_whole_and_it_is_used() {
    let (server, _world) = upgraded_with(|_| Fault::IgnoreRange);
    assert!(!server.requests().iter().any(is_whole_tree), "what came was thrown away");
}

#[test]
fn what_is_no_store_or_a_newer_one_is_called_that() {
    let world = World::new(false);
    let id = world.push("1.0.0", &[("dist", &small("one"))]);
    world.remove("artifacts");
    let record = world.dir.path().join("landfall-store.json");
    let fetched = || fetch(&Server::of(world.dir.path()), &id, &Host::default()).unwrap_err();
    assert!(matches!(fetched(), StoreError::Backend(_)), "{}", fetched());
    std::fs::write(&record, r#"{"format":2,"min_reader":2,"min_writer":2,"features":[],"id":"u"}"#).unwrap();
    assert!(matches!(fetched(), StoreError::NewerFormat { .. }), "{}", fetched());
    std::fs::remove_file(&record).unwrap();
    assert!(matches!(fetched(), StoreError::NotAStore(_)), "{}", fetched());
}

#[test]
fn a_fetch_that_is_not_wanted_any_more_stops_before_its_next_request() {
    let world = World::new(false);
    let id = world.push("1.0.0", &[("deps", &large(1)), ("dist", &small("one"))]);
    let server = Server::of(world.dir.path());
    let (store, host) = (reach(&server), Host::default());
    for stop_after in 0..4 {
        server.forget();
        let cancel = || server.requests().len() > stop_after;
        let watch = Watch { progress: &|_| {}, cancel: &cancel };
        let mut session = Session::new(&store, &host, watch);
        let fetched = session.manifest(&id).and_then(|artifact| {
            session.documents(&id, &artifact.layers.iter().collect::<Vec<_>>())?;
            session.contents(&host.contents)
        });
        assert!(matches!(fetched, Err(StoreError::Cancelled)), "{stop_after}: {fetched:?}");
        assert!(server.requests().len() <= stop_after + 8);
    }
}
