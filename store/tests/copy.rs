//! From store to store only what is missing moves, and everything is verified.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Contents, files_below, noise, push_scanned, scanned, write};
use landfall_store::fetch::{self, Watch};
use landfall_store::push::{PushOptions, copy};
use landfall_store::{Store, StoreError};

fn stores() -> ([tempfile::TempDir; 2], [Store; 2]) {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let stores = [Store::create(dirs[0].path()).unwrap(), Store::create(dirs[1].path()).unwrap()];
    (dirs, stores)
}

fn packs(dir: &std::path::Path) -> Vec<String> {
    files_below(&dir.join("packs"))
        .iter()
        .map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_copy_has_the_same_packs_and_the_second_version_moves_only_its_own() {
    let (dirs, [from, to]) = stores();
    let source = tempfile::tempdir().unwrap();
    let huge = noise(9, 5_000_000);
    write(source.path(), &[("a", &noise(1, 400_000)), ("b", &noise(2, 400_000)), ("huge", &huge)]);
    let v1 = push_scanned(&from, "1", &scanned(source.path())).unwrap().artifact;
    let first = copy(&v1, &from, &to, &PushOptions::default()).unwrap();
    assert_eq!(packs(dirs[0].path()), packs(dirs[1].path()));

    write(source.path(), &[("c", &noise(3, 1000))]);
    let app = scanned(source.path());
    let v2 = push_scanned(&from, "2", &app).unwrap().artifact;
    let second = copy(&v2, &from, &to, &PushOptions::default()).unwrap();
    assert!(second.stored_bytes * 100 < first.stored_bytes, "{second:?}");
    let sink = Contents::default();
    fetch::blobs(&to, &[&app.tree], &sink, &Watch::NOBODY).unwrap();
    assert!(sink.complete(&app.tree));

    let third = copy(&v2, &from, &to, &PushOptions::default()).unwrap();
    assert_eq!((third.stored_bytes, third.existed), (0, true));
    assert_eq!(landfall_store::refs::list(&to).unwrap().len(), 2, "versions travel too");
}

#[test]
fn a_store_without_locators_can_still_be_copied() {
    let (dirs, [from, to]) = stores();
    let source = tempfile::tempdir().unwrap();
    write(source.path(), &[("a", "one"), ("huge", &noise(9, 5_000_000))]);
    let app = scanned(source.path());
    let id = push_scanned(&from, "1", &app).unwrap().artifact;
    std::fs::remove_dir_all(dirs[0].path().join("loc")).unwrap();
    copy(&id, &from, &to, &PushOptions::default()).unwrap();
    let sink = Contents::default();
    fetch::blobs(&to, &[&app.tree], &sink, &Watch::NOBODY).unwrap();
    assert!(sink.complete(&app.tree));
}

#[test]
fn a_damaged_pack_is_never_copied_and_the_error_names_the_file() {
    let (dirs, [from, to]) = stores();
    let source = tempfile::tempdir().unwrap();
    write(
        source.path(),
        &[("a", "one"), ("noise", &noise(9, landfall_store::limits::FRAME_RAW_BYTES_TARGET + 1))],
    );
    let id = push_scanned(&from, "1", &scanned(source.path())).unwrap().artifact;
    let pack = files_below(&dirs[0].path().join("packs"))
        .into_iter()
        .find(|path| path.extension().unwrap() == "lfp")
        .unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let error = copy(&id, &from, &to, &PushOptions::default()).unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable { path, .. } if path == "noise"), "{error}");
    assert!(landfall_store::refs::ids(&to).unwrap().is_empty());
}
