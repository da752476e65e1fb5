//! Whatever happens to a store's bytes: the right content, or an error that names the object. Never a panic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::faulty::Faulty;
use common::{Contents, artifact, files_below, layer, push_scanned, scanned, write};
use landfall_store::backend::Backend;
use landfall_store::fetch::{self, Watch};
use landfall_store::push::{PushOptions, push};
use landfall_store::scan::ScannedLayer;
use landfall_store::{ArtifactId, Store, StoreError};

struct Scene {
    source: tempfile::TempDir,
    dir: tempfile::TempDir,
    app: ScannedLayer,
    id: ArtifactId,
}

fn scene() -> Scene {
    scene_with(300_000)
}

/// Its large content has a frame of its own.
fn scene_of_two_frames() -> Scene {
    scene_with(landfall_store::limits::FRAME_RAW_BYTES_TARGET + 1)
}

fn scene_with(noise: usize) -> Scene {
    let source = tempfile::tempdir().unwrap();
    write(source.path(), &[("a", "first content"), ("b", "second content"), ("d/c", "third")]);
    write(source.path(), &[("noise", &common::noise(1, noise))]);
    let app = scanned(source.path());
    let dir = tempfile::tempdir().unwrap();
    let id = push_scanned(&Store::create(dir.path()).unwrap(), "1.0.0", &app).unwrap().artifact;
    Scene { source, dir, app, id }
}

/// The whole way a host goes, from the id to every content.
fn fetch_all(store: &Store, id: &ArtifactId) -> Result<Contents, StoreError> {
    let artifact = fetch::artifact(store, id)?;
    let tree = fetch::tree(store, &artifact.layers[0].tree)?;
    let sink = Contents::default();
    fetch::blobs(store, &[&tree], &sink, &Watch::NOBODY)?;
    assert!(sink.complete(&tree), "a fetch that succeeds is complete");
    Ok(sink)
}

fn object(dir: &Path, kind: &str) -> PathBuf {
    let of_kind = |path: &PathBuf| path.to_str().unwrap().contains(kind);
    files_below(dir).into_iter().find(of_kind).unwrap()
}

/// Runs a fetch for each damaged form of an object; gives back how many failed.
fn with_each_damage(scene: &Scene, kind: &str, stride: usize) -> (usize, usize) {
    let path = object(scene.dir.path(), kind);
    let whole = std::fs::read(&path).unwrap();
    let store = Store::open(scene.dir.path()).unwrap();
    let flips = (0..whole.len()).step_by(stride).map(|at| {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        flipped
    });
    let cuts = (0..whole.len()).step_by(stride).map(|end| whole[..end].to_vec());
    let longer = [whole.as_slice(), b"x"].concat();
    let (mut all, mut failed) = (0, 0);
    for damaged in flips.chain(cuts).chain([longer]) {
        std::fs::write(&path, damaged).unwrap();
        all += 1;
        if let Err(error) = fetch_all(&store, &scene.id) {
            failed += 1;
            let text = error.to_string();
            let named = path.file_stem().unwrap().to_str().unwrap().get(..12).unwrap();
            assert!(text.contains(named) || text.contains("content "), "{kind}: {text}");
        }
    }
    std::fs::write(&path, whole).unwrap();
    fetch_all(&store, &scene.id).unwrap();
    (all, failed)
}

#[test]
fn every_damaged_artifact_is_refused() {
    let (all, failed) = with_each_damage(&scene(), "/artifacts/", 1);
    assert_eq!(all, failed);
}

#[test]
fn every_damaged_tree_is_refused_unless_its_canonical_bytes_are_whole() {
    let (all, failed) = with_each_damage(&scene(), "/trees/", 1);
    assert!(failed + 3 >= all, "{failed} of {all}: only zstd's unused bits may go unnoticed");
}

#[test]
fn a_damaged_locator_costs_time_only() {
    let scene = scene();
    let (_, failed) = with_each_damage(&scene, "/loc/", 1);
    assert_eq!(failed, 0);
    std::fs::remove_file(object(scene.dir.path(), "/loc/")).unwrap();
    fetch_all(&Store::open(scene.dir.path()).unwrap(), &scene.id).unwrap();
}

#[test]
fn a_damaged_index_costs_time_only_even_without_a_locator() {
    let scene = scene();
    std::fs::remove_file(object(scene.dir.path(), "/loc/")).unwrap();
    assert_eq!(with_each_damage(&scene, ".idx", 3).1, 0);
    std::fs::remove_file(object(scene.dir.path(), ".idx")).unwrap();
    fetch_all(&Store::open(scene.dir.path()).unwrap(), &scene.id).unwrap();
}

#[test]
fn a_damaged_pack_names_the_content_and_a_file_that_needs_it() {
    let scene = scene_of_two_frames();
    let path = object(scene.dir.path(), ".lfp");
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[100_000] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    let store = Store::open(scene.dir.path()).unwrap();
    let error = fetch_all(&store, &scene.id).err().unwrap();
    assert!(matches!(&error, StoreError::Unavailable { path, .. } if path == "noise"), "{error}");
    assert!(error.to_string().contains(&path.file_name().unwrap().to_str().unwrap()[..12]), "{error}");
    std::fs::write(&path, whole).unwrap();
    with_each_damage(&scene, ".lfp", 9973);
}

#[test]
fn a_content_that_another_pack_holds_is_taken_from_there() {
    let scene = scene_of_two_frames();
    let store = Store::open(scene.dir.path()).unwrap();
    let noise = scene.app.tree.get(b"noise").unwrap().clone();
    // Another app's layer with the same content, pushed where the store knows of nothing: two packs.
    let other = tempfile::tempdir().unwrap();
    let tree = landfall_store::Tree::from_entries(vec![noise]).unwrap();
    let alone = artifact("9", vec![layer("other", None, &tree)]);
    let content = common::content(&tree, &scene.app.source);
    push(&Store::create(other.path()).unwrap(), &alone, &[content], &PushOptions::default()).unwrap();
    for file in files_below(&other.path().join("packs")) {
        let to = scene.dir.path().join(file.strip_prefix(other.path()).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(file, to).unwrap();
    }
    let artifact = fetch::artifact(&store, &scene.id).unwrap();
    let tree = fetch::tree(&store, &artifact.layers[0].tree).unwrap();
    let largest = files_below(&scene.dir.path().join("packs"))
        .into_iter()
        .filter(|path| path.extension().unwrap() == "lfp")
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    bytes[100_000] ^= 4;
    std::fs::write(&largest, &bytes).unwrap();
    let sink = Contents::default();
    fetch::blobs(&store, &[&tree], &sink, &Watch::NOBODY).unwrap();
    assert!(sink.complete(&tree));
}

#[test]
fn a_bit_that_flips_on_the_way_only_once_is_not_damage() {
    let scene = scene();
    let mut backend = Faulty::new(scene.dir.path());
    backend.flip_first_reads = true;
    let store = Store::with_backend(Box::new(backend)).unwrap();
    fetch_all(&store, &scene.id).unwrap();
}

#[test]
fn a_push_cut_short_at_any_write_leaves_the_artifact_absent_or_whole_and_the_next_one_heals() {
    let scene = scene();
    let app = scanned(scene.source.path());
    for writes in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let backend = Arc::new(Faulty::new(dir.path()));
        let store = Store::create_with(Box::new(Shared(backend.clone()))).unwrap();
        backend.writes_left.store(writes, Ordering::SeqCst);
        let pushed = push_scanned(&store, "1.0.0", &app);
        backend.writes_left.store(-1, Ordering::SeqCst);
        let id = artifact("1.0.0", vec![layer("app", None, &app.tree)]).id().unwrap();
        assert!(
            files_below(dir.path()).iter().all(|path| !path.to_str().unwrap().contains(".new-")),
            "nothing half-written stays"
        );
        match landfall_store::refs::ids(&store).unwrap().as_slice() {
            [] => assert!(pushed.is_err()),
            [found] => assert!(*found == id && fetch_all(&store, &id).is_ok()),
            more => panic!("{more:?}"),
        }
        push_scanned(&store, "1.0.0", &app).unwrap();
        fetch_all(&store, &id).unwrap();
        if pushed.is_ok() {
            assert!(writes > 10, "a push has many writes");
            return;
        }
    }
}

/// A backend that the test can still reach.
struct Shared(Arc<Faulty>);

impl Backend for Shared {
    fn location(&self) -> String {
        self.0.location()
    }
    fn cost(&self) -> landfall_store::backend::Cost {
        self.0.cost()
    }
    fn now(&self) -> Result<std::time::SystemTime, landfall_store::backend::BackendError> {
        self.0.now()
    }
    fn size(
        &self,
        key: &landfall_store::backend::Key,
    ) -> Result<Option<u64>, landfall_store::backend::BackendError> {
        self.0.size(key)
    }
    fn read(
        &self,
        key: &landfall_store::backend::Key,
        offset: u64,
        length: u64,
    ) -> Result<Box<dyn std::io::Read + Send + '_>, landfall_store::backend::BackendError> {
        self.0.read(key, offset, length)
    }
    fn begin(
        &self,
        under: Option<&landfall_store::backend::Key>,
        access: landfall_store::backend::Access,
    ) -> Result<Box<dyn landfall_store::backend::Upload + '_>, landfall_store::backend::BackendError> {
        self.0.begin(under, access)
    }
    fn replace(
        &self,
        key: &landfall_store::backend::Key,
        bytes: &[u8],
    ) -> Result<(), landfall_store::backend::BackendError> {
        self.0.replace(key, bytes)
    }
    fn list(
        &self,
        under: &landfall_store::backend::Key,
    ) -> Result<Vec<landfall_store::backend::Listed>, landfall_store::backend::BackendError> {
        self.0.list(under)
    }
    fn delete(
        &self,
        key: &landfall_store::backend::Key,
    ) -> Result<(), landfall_store::backend::BackendError> {
        self.0.delete(key)
    }
}
