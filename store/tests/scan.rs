//! A directory becomes the same tree everywhere, or a clear error.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{scanned, source, write};
use landfall_store::push;
use landfall_store::scan::{
    Ahead, LayerSource, Mapping, ScanError, ScanOptions, ScannedLayer, scan, scan_ahead,
};

fn paths(layer: &ScannedLayer) -> Vec<String> {
    layer.tree.entries().iter().map(|entry| entry.path.to_string()).collect()
}

fn error(dir: &Path) -> String {
    scan(&source("static", dir), &ScanOptions::default()).unwrap_err().to_string()
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn a_link_out_of_the_layer_is_an_error_in_the_contracts_words() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("dist/b", "")]);
    symlink("/srv/src/a.js", dir.path().join("dist/a.js")).unwrap();
    assert_eq!(error(dir.path()), "layer \"static\": dist/a.js links to /srv/src/a.js, outside the release");
}

#[test]
fn what_no_release_can_hold_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("thing");
    for (mode, bit) in [(0o4755, "setuid"), (0o2755, "setgid"), (0o1644, "sticky")] {
        std::fs::write(&path, "x").unwrap();
        chmod(&path, mode);
        let text = error(dir.path());
        assert!(text.contains("thing") && text.contains(bit), "{text}");
    }
    std::fs::remove_file(&path).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
    assert!(error(dir.path()).contains("is a fifo"));
    std::fs::remove_file(&path).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(error(dir.path()).contains("is a socket"));
}

#[test]
fn a_missing_source_and_a_source_that_is_a_link_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("real/a", "")]);
    symlink("real", dir.path().join("link")).unwrap();
    let from = |from: &str| {
        let files = vec![Mapping { from: from.into(), to: String::new() }];
        scan(&LayerSource { files, ..source("app", dir.path()) }, &ScanOptions::default())
    };
    assert!(matches!(from("gone").unwrap_err(), ScanError::Missing { .. }));
    assert!(matches!(from("link").unwrap_err(), ScanError::SourceIsLink { target, .. } if target == "real"));
}

#[test]
fn files_go_where_they_are_mapped_and_excludes_see_the_paths_of_the_layer() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[("package.production.json", "{}"), ("out/a.js", ""), ("out/doc/a.md", ""), ("out/doc/keep.md", "")],
    );
    write(dir.path(), &[("out/empty/", "")]);
    let map = |from: &str, to: &str| Mapping { from: from.into(), to: to.to_owned() };
    let files = vec![map("package.production.json", "package.json"), map("out", "lib")];
    let exclude = vec!["lib/**/*.md".to_owned(), "!lib/doc/keep.md".to_owned()];
    let layer =
        scan(&LayerSource { files, exclude, ..source("app", dir.path()) }, &ScanOptions::default()).unwrap();
    assert_eq!(paths(&layer), ["lib/a.js", "lib/doc/keep.md", "lib/empty", "package.json"]);
}

#[test]
fn a_directory_emptied_by_exclude_is_not_recorded_and_an_empty_one_is() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("emptied/a.md", ""), ("empty/", ""), ("a", "")]);
    let exclude = vec!["*.md".to_owned()];
    let layer = scan(&LayerSource { exclude, ..source("app", dir.path()) }, &ScanOptions::default()).unwrap();
    assert_eq!(paths(&layer), ["a", "empty"]);
}

#[test]
fn two_mappings_may_share_directories_but_not_files() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("one/a", "1"), ("one/cache/", ""), ("two/b", "2"), ("two/cache/x", "")]);
    let map = |from: &str| Mapping { from: from.into(), to: String::new() };
    let files = vec![map("one"), map("two")];
    let both = LayerSource { files, ..source("app", dir.path()) };
    assert_eq!(paths(&scan(&both, &ScanOptions::default()).unwrap()), ["a", "b", "cache/x"]);
    write(dir.path(), &[("two/a", "other")]);
    let error = scan(&both, &ScanOptions::default()).unwrap_err().to_string();
    assert!(error.contains("`a` stands in the tree twice"), "{error}");
}

#[test]
fn repositories_and_secrets_are_left_out_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[(".git/HEAD", ""), (".landfall/x", ""), (".env.prod", "S=1"), ("a", ""), (".env", "")],
    );
    let source = LayerSource { env_files: vec![".env.prod".to_owned()], ..source("app", dir.path()) };
    let layer = scan(&source, &ScanOptions::default()).unwrap();
    assert_eq!(paths(&layer), [".env", "a"]);
    assert_eq!(layer.left_out, [".env.prod", ".git", ".landfall"]);
    let env = scan(&LayerSource { env: true, ..source }, &ScanOptions::default()).unwrap();
    assert!(paths(&env).contains(&".env.prod".to_owned()));
}

#[test]
fn a_dangling_link_inside_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a", "")]);
    symlink("gone", dir.path().join("link")).unwrap();
    let layer = scanned(dir.path());
    assert_eq!(layer.warnings, ["layer \"app\": link links to gone, which is not in this layer"]);
}

#[test]
fn an_unchanged_layer_is_scanned_without_opening_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a", "1"), ("d/b", "2"), ("c", "3")]);
    let options = ScanOptions { cache_dir: Some(cache.path().to_owned()) };
    let again = || scan(&source("app", dir.path()), &options).unwrap();
    // Wait for the file system's clock to leave the tick in which the files were written.
    wait_for_a_settled_clock(cache.path(), &dir.path().join("c"));
    let first = again();
    assert_eq!((first.counters.files, first.counters.hashed), (3, 3));
    let second = again();
    assert_eq!((second.counters.hashed, second.counters.bytes_read), (0, 0));
    assert_eq!(second.id, first.id);

    write(dir.path(), &[("d/b", "9")]);
    let third = again();
    assert_eq!(third.counters.hashed, 1, "only what changed is read");
    assert_ne!(third.id, first.id);
}

/// A scan trusts times that are 20 ms older than its start.
fn wait_for_a_settled_clock(dir: &Path, file: &Path) {
    let written = file.metadata().unwrap().modified().unwrap();
    let probe = dir.join("probe");
    loop {
        std::fs::write(&probe, "x").unwrap();
        let now = probe.metadata().unwrap().modified().unwrap();
        if now.duration_since(written).is_ok_and(|age| age.as_millis() > 40) {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_file_that_changes_between_scan_and_push_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a", "1"), ("d/big", "before")]);
    let layer = scanned(dir.path());
    write(dir.path(), &[("d/big", "after!")]);
    let at = tempfile::tempdir().unwrap();
    let store = landfall_store::Store::create(at.path()).unwrap();
    let error = common::push_scanned(&store, "1", &layer).unwrap_err().to_string();
    assert!(error.contains("\"app\": d/big changed while it was packed"), "{error}");
    assert!(landfall_store::refs::ids(&store).unwrap().is_empty());
}

#[test]
fn what_was_compressed_while_it_was_read_is_stored_as_it_would_be_without_and_no_file_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [0, 7, 900_000, 1_300_000, 5_000_000, 40, 2_100_000, 3, 700_000, 700_000, 800_000];
    let lay_out = || {
        for (at, size) in sizes.into_iter().enumerate() {
            // Seeds repeat, so that some contents begin alike.
            write(dir.path(), &[(&format!("d{}/f{at}", at % 4), &common::noise(at as u32 % 9, size))]);
        }
    };
    lay_out();
    let source = source("app", dir.path());
    let at = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let stores = [0, 1].map(|n| landfall_store::Store::create(at[n].path()).unwrap());
    let names = |n: usize| {
        let path = |path: &std::path::PathBuf| path.strip_prefix(at[n].path()).unwrap().to_owned();
        let mut names: Vec<_> = common::files_below(at[n].path()).iter().map(path).collect();
        names.retain(|name| !name.ends_with("landfall-store.json"));
        names
    };

    common::push_scanned(&stores[0], "1", &scan(&source, &ScanOptions::default()).unwrap()).unwrap();
    let ahead =
        || Ahead::new(push::look(&stores[1], &"web".parse().unwrap()).unwrap().contents(), push::LEVEL);
    let layer = scan_ahead(&source, &ScanOptions::default(), &mut ahead()).unwrap();
    // The one content that is larger than a frame is still read by the push.
    let large = "d0/f4";
    for file in common::files_below(dir.path()).iter().filter(|file| !file.ends_with(large)) {
        std::fs::remove_file(file).unwrap();
    }
    common::push_scanned(&stores[1], "1", &layer).unwrap();
    assert_eq!(names(0), names(1), "the same objects, packs too");

    lay_out();
    write(dir.path(), &[("new", "only this is new")]);
    let layer = scan_ahead(&source, &ScanOptions::default(), &mut ahead()).unwrap();
    std::fs::remove_file(dir.path().join("new")).unwrap();
    let pushed = common::push_scanned(&stores[1], "2", &layer).unwrap();
    assert_eq!(pushed.layers[0].new_bytes, 16, "what the store has is neither kept nor stored again");
}
