//! Archives in and out: what goes out comes back, the same everywhere, and stock tools agree.
#![allow(clippy::unwrap_used, reason = "clippy spares tests, but not the functions beside them")]

mod support;

use std::io::Read;
use std::path::Path;
use std::process::Command;

use landfall_store::archive::{Export, Format, ImportError, Imported, Limits, Refusal, export, import};
use landfall_store::blob::BlobSource;
use landfall_store::contents::PathSet;
use landfall_store::prepared::snapshot;
use landfall_store::{Artifact, BlobId, Entry, EntryPath, Kind, Layer, Tree};
use proptest::prelude::*;

use support::*;

const FORMATS: [Format; 3] = [Format::Tar, Format::Gzip, Format::Zstd];

fn written(artifact: Option<&Artifact>, trees: &[Tree], source: &dyn BlobSource, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    export(&Export { artifact, trees, source, format, mtime_s: 0 }, &mut out).unwrap();
    out
}

fn read(archive: &[u8]) -> Result<Imported, ImportError> {
    let spool = tempfile::tempdir().unwrap();
    let imported = import(archive, spool.path(), Limits::default());
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0, "nothing is left in the spool");
    imported
}

fn content(imported: &Imported, blob: &BlobId, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    imported.contents.open(blob, size).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn sample() -> Made {
    let deep = "d/".repeat(60) + "deep.txt";
    Made::default()
        .file("a.txt", "alpha")
        .executable("bin/run", "#!/bin/sh\n")
        .file("bin/empty", "")
        .file("bin/block", vec![7; 512])
        .file("bin/more", vec![8; 70_000])
        .link("bin/up", "../a.txt")
        .link("bin/far", &("x/".repeat(80) + "y"))
        .empty_dir("cache")
        .file(&"n".repeat(101), "long name")
        .file(&("p".repeat(120) + "/" + &"q".repeat(90)), "in two fields")
        .file(&("p".repeat(200) + "/x"), "too long for the fields")
        .file(&deep, "deep")
        .file("ümläut/ß", "not ascii")
}

fn layer(name: &str, environment: Option<&str>, roles: &[&str], tree: &Tree) -> Layer {
    Layer {
        bytes: tree.bytes(),
        environment: environment.map(|name| name.parse().unwrap()),
        files: tree.files(),
        mount: String::new(),
        name: name.parse().unwrap(),
        roles: roles.iter().map(|name| name.parse().unwrap()).collect(),
        tree: tree.id(),
    }
}

/// An artifact whose layers have, for different roles, different things at the same paths.
fn artifact() -> (Artifact, Vec<Tree>, Memory) {
    let parts = [
        ("app", None, vec![], sample()),
        ("env", Some("dev"), vec![], Made::default().file(".env.local", "A=dev")),
        ("env", Some("prod"), vec![], Made::default().file(".env.local", "A=prod")),
        (
            "server",
            None,
            vec!["server"],
            Made::default().file("x", "server").file("y", "same").empty_dir("z"),
        ),
        (
            "static",
            None,
            vec!["static"],
            Made::default().file("x/y", "static").file("y", "same").link("z", "y"),
        ),
    ];
    let mut memory = Memory::default();
    let (mut layers, mut trees) = (vec![], vec![]);
    for (name, environment, roles, made) in parts {
        memory.0.extend(made.memory.0.clone());
        layers.push(layer(name, environment, &roles, &made.tree()));
        trees.push(made.tree());
    }
    let release = serde_json::json!({"version": "1.0.0"}).as_object().unwrap().clone();
    let artifact = Artifact::new("web".parse().unwrap(), None, layers, release).unwrap();
    (artifact, trees, memory)
}

#[test]
fn an_exported_tree_comes_back_in_every_format() {
    let made = sample();
    for format in FORMATS {
        let imported = read(&written(None, &[made.tree()], &made.memory, format)).unwrap();
        assert_eq!(imported.trees, [made.tree()], "{format:?}");
        assert!(imported.artifact.is_none() && imported.recipe.is_none());
        for (blob, size) in made.tree().blobs() {
            assert_eq!(content(&imported, &blob, size), made.memory.0[&blob]);
        }
    }
}

#[test]
fn an_artifact_keeps_its_id_although_its_layers_have_different_files_at_one_path() {
    let (artifact, trees, memory) = artifact();
    for format in FORMATS {
        let imported = read(&written(Some(&artifact), &trees, &memory, format)).unwrap();
        let back = imported.artifact.as_ref().unwrap();
        assert_eq!(back.id().unwrap(), artifact.id().unwrap());
        assert_eq!(imported.trees, trees);
        for (blob, size) in trees.iter().flat_map(Tree::blobs) {
            assert_eq!(content(&imported, &blob, size), memory.0[&blob]);
        }
    }
}

#[test]
fn the_tar_bytes_are_the_same_for_ever() {
    let (artifact, trees, memory) = artifact();
    let tar = written(Some(&artifact), &trees, &memory, Format::Tar);
    assert_eq!(BlobId::of(&tar).to_string(), GOLDEN);
    assert_eq!(written(Some(&artifact), &trees, &memory, Format::Tar), tar);
}
const GOLDEN: &str = "36b0602d35a144dc029081b5fb2aca2a6d081d21b6dadb2c49e256823fa3c918";

#[test]
fn gzip_says_nothing_about_when_and_where() {
    let made = sample();
    let gzip = written(None, &[made.tree()], &made.memory, Format::Gzip);
    assert_eq!(gzip[3..8], [0, 0, 0, 0, 0], "no name, no time");
    assert_eq!(gzip[9], 255, "no system");
    assert_eq!(written(None, &[made.tree()], &made.memory, Format::Gzip), gzip);
}

fn run(dir: &Path, program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn gnu_tar_unpacks_an_export_to_the_same_tree() {
    let made = sample();
    let dir = tempfile::tempdir().unwrap();
    let (tar, out) = (dir.path().join("a.tar"), dir.path().join("out"));
    std::fs::write(&tar, written(None, &[made.tree()], &made.memory, Format::Tar)).unwrap();
    std::fs::create_dir(&out).unwrap();
    run(&out, "tar", &["-xpf", "../a.tar"]);
    assert_eq!(snapshot(&out, &PathSet::default()).unwrap(), made.tree());
}

#[test]
fn what_gnu_tar_packs_is_read_in_all_its_formats() {
    let made = sample();
    let dir = tempfile::tempdir().unwrap();
    let (tar, out) = (dir.path().join("a.tar"), dir.path().join("out"));
    std::fs::write(&tar, written(None, &[made.tree()], &made.memory, Format::Tar)).unwrap();
    std::fs::create_dir(&out).unwrap();
    run(&out, "tar", &["-xpf", "../a.tar"]);
    std::fs::hard_link(out.join("a.txt"), out.join("zz-hard")).unwrap();
    let tree = snapshot(&out, &PathSet::default()).unwrap();
    for args in [
        &["--format=gnu", "-cf", "../b.tar", "."][..],
        &["--format=pax", "-cf", "../b.tar", "."],
        &["--format=pax", "-czf", "../b.tar", "."],
        &["--format=gnu", "--zstd", "-cf", "../b.tar", "."],
        &["--format=gnu", "--numeric-owner", "--sort=name", "-b", "1", "-cf", "../b.tar", "."],
    ] {
        run(&out, "tar", args);
        let archive = std::fs::read(dir.path().join("b.tar")).unwrap();
        assert_eq!(read(&archive).unwrap().trees, std::slice::from_ref(&tree), "{args:?}");
    }
    // The older formats cannot hold the long names.
    for name in
        tree.entries().iter().map(|entry| entry.path.as_path()).filter(|path| path.as_os_str().len() > 90)
    {
        let _ = std::fs::remove_file(out.join(name));
    }
    std::fs::remove_file(out.join("bin/far")).unwrap();
    for path in [&"p".repeat(120), &"p".repeat(200)] {
        std::fs::remove_dir_all(out.join(path)).unwrap();
    }
    std::fs::remove_dir_all(out.join("d")).unwrap();
    let tree = snapshot(&out, &PathSet::default()).unwrap();
    for format in ["--format=v7", "--format=ustar"] {
        run(&out, "tar", &[format, "-cf", "../b.tar", "."]);
        let archive = std::fs::read(dir.path().join("b.tar")).unwrap();
        assert_eq!(read(&archive).unwrap().trees, std::slice::from_ref(&tree), "{format}");
    }
}

#[test]
fn a_recipe_at_the_top_is_found_and_stays_a_file() {
    let made = Made::default().file("landfall.toml", "app = \"web\"").file("sub/landfall.toml", "no");
    let imported = read(&written(None, &[made.tree()], &made.memory, Format::Gzip)).unwrap();
    assert_eq!(imported.recipe.as_deref(), Some(&b"app = \"web\""[..]));
    assert_eq!(imported.trees, [made.tree()]);
}

#[test]
fn a_source_that_lies_spoils_the_export_and_not_the_archive() {
    let made = sample();
    let mut lying = made.memory.clone();
    lying.0.insert(BlobId::of(b"alpha"), b"ALPHA".to_vec());
    let job =
        Export { artifact: None, trees: &[made.tree()], source: &lying, format: Format::Tar, mtime_s: 0 };
    let refused = export(&job, &mut Vec::new()).unwrap_err().to_string();
    assert!(refused.contains("a.txt"), "{refused}");
}

#[test]
fn p4_every_changed_byte_of_an_artifacts_archive_is_refused_or_changes_nothing() {
    let made = Made::default().file("a", "alpha").link("l", "a").empty_dir("d");
    let artifact = {
        let layers = vec![layer("app", None, &[], &made.tree())];
        Artifact::new("web".parse().unwrap(), None, layers, serde_json::Map::new()).unwrap()
    };
    let mut refused = 0;
    for format in FORMATS {
        let archive = written(Some(&artifact), &[made.tree()], &made.memory, format);
        for at in 0..archive.len() {
            let mut changed = archive.clone();
            changed[at] ^= 1 << (at % 8);
            match read(&changed) {
                Err(_) => refused += 1,
                // A changed byte of the artifact itself makes another artifact, which has another id. Under
                // the same id nothing is different: times, owners and padding are not kept.
                Ok(read) => {
                    let id = read.artifact.expect("it is still the archive of an artifact").id().unwrap();
                    assert!(id != artifact.id().unwrap() || read.trees == [made.tree()], "byte {at}");
                }
            }
        }
        for end in 0..archive.len() {
            let cut = read(&archive[..end]);
            assert!(cut.is_err(), "{format:?} cut to {end} of {} was accepted", archive.len());
        }
        for tail in [&b"\0"[..], b"x", &[0x1f], b"landfall"] {
            let longer = [&archive[..], tail].concat();
            let plain_zero = format == Format::Tar && tail == b"\0";
            assert_eq!(read(&longer).is_err(), !plain_zero, "{format:?} with {tail:?} behind it");
        }
    }
    assert!(refused > 2_000, "{refused}");
}

#[test]
fn p6_a_bomb_is_refused_before_it_fills_anything() {
    let bomb = Made::default().file("zeros", vec![0; 80 << 20]);
    for format in [Format::Gzip, Format::Zstd] {
        let archive = written(None, &[bomb.tree()], &bomb.memory, format);
        assert!(archive.len() < 200 << 10, "it is a bomb");
        let refused = read(&archive).unwrap_err();
        assert!(matches!(refused, ImportError::TooLarge { .. }), "{refused}");
    }
    let spool = tempfile::tempdir().unwrap();
    let made = sample();
    let archive = written(None, &[made.tree()], &made.memory, Format::Zstd);
    for limits in [
        Limits { bytes: 50_000, ..Limits::default() },
        Limits { members: 10, ..Limits::default() },
        Limits { name_bytes: 200, ..Limits::default() },
    ] {
        let refused = import(&archive[..], spool.path(), limits).unwrap_err();
        assert!(matches!(refused, ImportError::TooLarge { .. }), "{limits:?}: {refused}");
    }
}

#[test]
fn an_artifacts_archive_with_something_smuggled_in_or_left_out_is_refused() {
    let (artifact, trees, memory) = artifact();
    let tar = written(Some(&artifact), &trees, &memory, Format::Tar);
    let members = split(&tar);
    let stray = split(&written(
        None,
        &[Made::default().file("zz", "stray").tree()],
        &Made::default().file("zz", "stray").memory,
        Format::Tar,
    ));
    let with_stray = join(members.iter().chain(&stray));
    assert!(matches!(read(&with_stray), Err(ImportError::Member { refusal: Refusal::Stray, .. })));
    let mut left_out = 0;
    for out in 0..members.len() {
        let rest = join(members.iter().enumerate().filter(|(at, _)| *at != out).map(|(_, member)| member));
        match read(&rest) {
            Err(_) => left_out += 1,
            // A directory or link says nothing that the trees do not say, and contents are found by their id.
            Ok(imported) => assert_eq!(imported.artifact.unwrap().id().unwrap(), artifact.id().unwrap()),
        }
    }
    assert!(left_out > artifact.layers.len() + 5, "{left_out}");
    let mut moved = members.clone();
    moved.swap(0, 1);
    assert!(matches!(read(&join(&moved)), Err(ImportError::Member { refusal: Refusal::Reserved, .. })));
}

/// The members of a tar, each with its extended header.
fn split(tar: &[u8]) -> Vec<Vec<u8>> {
    let (mut members, mut at, mut start) = (vec![], 0, 0);
    while tar[at] != 0 {
        let header = tar::Header::from_byte_slice(&tar[at..at + 512]);
        at += 512 + header.entry_size().unwrap().next_multiple_of(512) as usize;
        if header.entry_type() != tar::EntryType::XHeader {
            members.push(tar[start..at].to_vec());
            start = at;
        }
    }
    members
}

fn join<'a>(members: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut tar: Vec<u8> = members.into_iter().flatten().copied().collect();
    tar.extend([0; 1024]);
    tar
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-c]{1,3}".prop_map(String::into_bytes),
        1 => "[a-z]{90,110}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(1..=255_u8, 1..200),
    ]
}

fn any_entry() -> impl Strategy<Value = (Vec<u8>, u8, Vec<u8>)> {
    let path = proptest::collection::vec(any_name(), 1..5).prop_map(|names| names.join(&b'/'));
    (path, 0..5_u8, proptest::collection::vec(any::<u8>(), 0..2000))
}

proptest! {
    #[test]
    fn import_is_the_inverse_of_export(parts in proptest::collection::vec(any_entry(), 0..20)) {
        let mut made = Made::default();
        for (at, kind, bytes) in parts {
            let Ok(path) = EntryPath::new(at) else { continue };
            let blob = BlobId::of(&bytes);
            let kind = match kind {
                0 => Kind::EmptyDir,
                1 => Kind::Link { target: b"a".as_slice().into() },
                executable => Kind::File { size: bytes.len() as u64, blob, executable: executable == 2 },
            };
            let mut entries = made.entries.clone();
            entries.push(Entry { path, kind });
            if Tree::from_entries(entries.clone()).is_ok() {
                made.entries = entries;
                made.memory.0.insert(blob, bytes);
            }
        }
        for format in FORMATS {
            let imported = read(&written(None, &[made.tree()], &made.memory, format)).unwrap();
            prop_assert_eq!(&imported.trees, &[made.tree()]);
        }
    }

    #[test]
    fn p7_any_bytes_are_read_or_refused_and_nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = read(&bytes);
    }
}
