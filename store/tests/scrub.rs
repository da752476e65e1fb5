//! Checking a store: every damage is found and named with who needs it, and a push after a repair heals it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};

use common::{files_below, push_scanned, scanned, write};
use landfall_store::fetch::Watch;
use landfall_store::lease::Pace;
use landfall_store::scan::ScannedLayer;
use landfall_store::scrub::{Fault, repair, verify};
use landfall_store::{ArtifactId, Store};

struct Scene {
    dir: tempfile::TempDir,
    _source: tempfile::TempDir,
    app: ScannedLayer,
    id: ArtifactId,
}

fn scene() -> Scene {
    let source = tempfile::tempdir().unwrap();
    write(source.path(), &[("a", "first"), ("b", "second"), ("large", &common::noise(1, 9_000_000))]);
    let app = scanned(source.path());
    let dir = tempfile::tempdir().unwrap();
    let id = push_scanned(&Store::create(dir.path()).unwrap(), "1.0.0", &app).unwrap().artifact;
    Scene { dir, _source: source, app, id }
}

fn objects(dir: &Path) -> Vec<PathBuf> {
    let all = files_below(dir).into_iter();
    all.filter(|path| path.file_name().is_some_and(|name| name != "landfall-store.json")).collect()
}

fn kind(path: &Path) -> &'static str {
    let text = path.to_str().unwrap();
    let kinds = [
        ("/artifacts/", "artifact"),
        ("/trees/", "tree"),
        ("/loc/", "locator"),
        ("/refs/", "version"),
        (".idx", "index"),
        (".lfp", "pack"),
    ];
    kinds.iter().find(|(part, _)| text.contains(part)).unwrap().1
}

#[test]
fn a_whole_store_is_called_whole() {
    let scene = scene();
    let store = Store::open(scene.dir.path()).unwrap();
    for only in [None, Some(scene.id)] {
        let report = verify(&store, only, &Watch::NOBODY).unwrap();
        assert!(report.is_whole() && report.damages.is_empty(), "{:?}", report.damages);
        assert_eq!((report.artifacts, report.trees, report.packs, report.contents), (1, 1, 1, 3));
        assert!(report.bytes > 1_000_000);
    }
}

#[test]
fn every_damaged_or_missing_object_is_named_with_who_needs_it_and_healed_by_a_push() {
    let scene = scene();
    let store = Store::open(scene.dir.path()).unwrap();
    let mut damaged = 0;
    for path in objects(scene.dir.path()) {
        let whole = std::fs::read(&path).unwrap();
        let last = whole.len() - 1;
        let cases = [Some(0), Some(last / 3), Some(last), None];
        for case in cases {
            match case {
                Some(at) => {
                    let mut flipped = whole.clone();
                    flipped[at] ^= 0x10;
                    std::fs::write(&path, flipped).unwrap();
                }
                None => std::fs::remove_file(&path).unwrap(),
            }
            let what = format!("{} {case:?}", kind(&path));
            let report = verify(&store, None, &Watch::NOBODY).unwrap();
            let needed = !matches!(kind(&path), "locator" | "index" | "version");
            let named = report.damages.iter().find(|damage| damage.kind == kind(&path));
            match (kind(&path), case) {
                // Nobody can tell that it ever was there.
                ("artifact" | "version" | "index", None) => {}
                // zstd has bits that mean nothing; a number in a reference may be another number.
                ("version" | "tree" | "locator" | "index", Some(_)) if named.is_none() => {}
                _ => {
                    let named = named.unwrap_or_else(|| panic!("{what}: {:?}", report.damages));
                    damaged += 1;
                    let fault = if case.is_some() { Fault::Damaged } else { Fault::Missing };
                    assert_eq!(named.fault, fault, "{what}");
                    assert!(path.to_str().unwrap().ends_with(&named.object), "{what}: {}", named.object);
                    if needed && kind(&path) != "pack" {
                        assert!(named.needed_by.contains(&scene.id), "{what}");
                    }
                }
            }
            if kind(&path) == "pack" && case == Some(last / 3) {
                assert!(!report.is_whole(), "{what}");
            }
            repair(&store, &report, Pace::REAL).unwrap();
            push_scanned(&store, "1.0.0", &scene.app).unwrap();
            let healed = verify(&store, None, &Watch::NOBODY).unwrap();
            let unhealed: Vec<_> = healed.damages.iter().filter(|damage| damage.kind != "version").collect();
            assert!(unhealed.is_empty(), "{what}: {unhealed:?}");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &whole).unwrap();
        }
    }
    assert!(damaged >= 12, "{damaged}");
}

#[test]
fn what_can_be_had_from_another_pack_is_no_failure() {
    let scene = scene();
    let store = Store::open(scene.dir.path()).unwrap();
    let pack = |path: &PathBuf| kind(path) == "pack";
    let first = objects(scene.dir.path()).into_iter().find(pack).unwrap();
    // Without its directory beside it nobody finds the first pack, so the same contents are stored again, with
    // another level as another pack.
    std::fs::remove_file(first.with_extension("idx")).unwrap();
    let locator = objects(scene.dir.path()).into_iter().find(|path| kind(path) == "locator").unwrap();
    std::fs::remove_file(locator).unwrap();
    let options = landfall_store::push::PushOptions { level: 1, ..Default::default() };
    let artifact = common::artifact("1.0.0", vec![common::layer("app", None, &scene.app.tree)]);
    landfall_store::push::push(&store, &artifact, &[scene.app.content()], &options).unwrap();
    assert_eq!(objects(scene.dir.path()).iter().filter(|path| pack(path)).count(), 2);
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let report = verify(&store, None, &Watch::NOBODY).unwrap();
    assert!(report.is_whole());
    assert_eq!(report.damages.len(), 1, "{:?}", report.damages);
    assert_eq!((report.damages[0].kind, report.damages[0].needed_by.len()), ("pack", 0));
}
