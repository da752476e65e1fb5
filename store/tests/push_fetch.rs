//! What goes into a store comes out of it, and nothing moves twice.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Contents, artifact, files_below, layer, push_scanned, scanned, write};
use landfall_store::fetch::{self, Watch};
use landfall_store::push::{PushOptions, push};
use landfall_store::scan::{ScanOptions, scan};
use landfall_store::{Store, StoreError, refs};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    (dir, store)
}

#[test]
fn what_was_pushed_is_fetched_byte_for_byte() {
    let source = tempfile::tempdir().unwrap();
    let large: String =
        (0..1_500_000u32).map(|n| char::from(b'a' + (n.wrapping_mul(n) % 23) as u8)).collect();
    let huge = large.repeat(7);
    write(
        source.path(),
        &[("a/one", "1"), ("a/same", "1"), ("empty", ""), ("dir/", ""), ("large", &large), ("huge", &huge)],
    );
    std::fs::set_permissions(source.path().join("a/one"), PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("one", source.path().join("a/link")).unwrap();

    let (_dir, store) = store();
    let app = scanned(source.path());
    let report = push_scanned(&store, "1.0.0", &app).unwrap();
    assert!(!report.existed && report.stored_bytes > 0);

    let artifact = fetch::artifact(&store, &report.artifact).unwrap();
    let tree = fetch::tree(&store, &artifact.layers[0].tree).unwrap();
    assert_eq!(tree, app.tree);
    let sink = Contents::default();
    let fetched = fetch::blobs(&store, &[&tree], &sink, &Watch::NOBODY).unwrap();
    assert!(sink.complete(&tree));
    assert_eq!(fetched.blobs, 5, "`1` in both forms, empty, large, huge");
    assert_eq!(sink.get(&landfall_store::BlobId::of(huge.as_bytes())).unwrap(), huge.as_bytes());

    let again = fetch::blobs(&store, &[&tree], &sink, &Watch::NOBODY).unwrap();
    assert_eq!(again, Default::default(), "nothing is missing, nothing moves");
}

#[test]
fn a_second_push_of_the_same_writes_nothing() {
    let source = tempfile::tempdir().unwrap();
    write(source.path(), &[("a", "1"), ("b", "2")]);
    let (dir, store) = store();
    push_scanned(&store, "1.0.0", &scanned(source.path())).unwrap();
    let before = files_below(dir.path());
    let report = push_scanned(&store, "1.0.0", &scanned(source.path())).unwrap();
    assert!(report.existed);
    assert_eq!((report.stored_bytes, report.uploaded), (0, 0));
    assert_eq!(files_below(dir.path()), before);
}

#[test]
fn a_second_version_stores_only_what_is_new() {
    let source = tempfile::tempdir().unwrap();
    let text: Vec<_> = (0..200).map(|n| (format!("f{n}"), format!("content {n}").repeat(50))).collect();
    write(source.path(), &text.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect::<Vec<_>>());
    let (_dir, store) = store();
    push_scanned(&store, "1.0.0", &scanned(source.path())).unwrap();
    write(source.path(), &[("f7", "changed")]);
    let v2 = scanned(source.path());
    let report = push_scanned(&store, "2.0.0", &v2).unwrap();
    assert_eq!(report.layers[0].new_bytes, 7);
    let sink = Contents::default();
    fetch::blobs(&store, &[&v2.tree], &sink, &Watch::NOBODY).unwrap();
    assert!(sink.complete(&v2.tree));
}

#[test]
fn a_version_is_not_given_to_another_artifact_unless_it_may_move() {
    let source = tempfile::tempdir().unwrap();
    let (_dir, store) = store();
    write(source.path(), &[("a", "1")]);
    let first = push_scanned(&store, "1.0.0", &scanned(source.path())).unwrap().artifact;
    write(source.path(), &[("a", "2")]);
    let app = scanned(source.path());
    let error = push_scanned(&store, "1.0.0", &app).unwrap_err();
    assert!(matches!(&error, StoreError::VersionTaken { existing, .. } if *existing == first), "{error}");

    let options = PushOptions { move_version: true, ..Default::default() };
    let artifact = artifact("1.0.0", vec![layer("app", None, &app.tree)]);
    let second = push(&store, &artifact, &[app.content()], &options).unwrap().artifact;
    let reference = refs::version(&store, &artifact.app, &"1.0.0".parse().unwrap()).unwrap().unwrap();
    assert_eq!((reference.artifact(), reference.seq), (second, 2));
}

#[test]
fn env_layers_have_private_packs_that_nothing_shares() {
    let (dir, store) = store();
    let sources = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // The same content in an env layer and in an open one.
    write(sources[0].path(), &[(".env.prod", "SECRET=1")]);
    write(sources[1].path(), &[("copy", "SECRET=1")]);
    let env = scan(
        &landfall_store::scan::LayerSource { env: true, ..common::source("env", sources[0].path()) },
        &ScanOptions::default(),
    )
    .unwrap();
    let app = scanned(sources[1].path());
    let artifact =
        artifact("1.0.0", vec![layer("env", Some("prod"), &env.tree), layer("app", None, &app.tree)]);
    push(&store, &artifact, &[env.content(), app.content()], &PushOptions::default()).unwrap();

    let modes: Vec<_> = files_below(&dir.path().join("packs"))
        .into_iter()
        .map(|path| {
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            (path.extension().unwrap().to_str().unwrap().to_owned(), mode)
        })
        .collect();
    let count =
        |kind: &str, mode: u32| modes.iter().filter(|found| **found == (kind.to_owned(), mode)).count();
    assert_eq!((count("lfp", 0o600), count("lfp", 0o644), count("idx", 0o644)), (1, 1, 1), "{modes:?}");
    assert_eq!(modes.len(), 3);
}
