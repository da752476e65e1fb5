//! What the host's files promise: the cache, releases, verification, repair, removal.
#![allow(clippy::unwrap_used, reason = "clippy spares tests, but not the functions beside them")]

mod support;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use landfall_store::blob::{BlobSink, BlobSource, Want};
use landfall_store::cache::{Adopted, CacheError, HostCache};
use landfall_store::contents::{Contents, PathSet};
use landfall_store::fsio::Owner;
use landfall_store::materialise::{Job, MaterialiseError, clean, materialise};
use landfall_store::place::{Mode, ModeFacts, choose_mode};
use landfall_store::prepared::{PreparedError, freeze, snapshot};
use landfall_store::remove::{RemoveError, empty_trash, remove, set_aside};
use landfall_store::repair::{Installed, Repaired, Tools, repair};
use landfall_store::tag::Tag;
use landfall_store::verify::{Depth, Expected, Fault, Report, verify};
use landfall_store::{BlobId, Tree};

use support::*;

const SERVICE_UID: u32 = 65534;

fn want(content: &[u8], executable: bool) -> Want {
    Want { blob: BlobId::of(content), size: content.len() as u64, executable }
}

fn sample() -> Made {
    Made::default()
        .file("a.txt", "alpha")
        .file("d/b.txt", "beta")
        .executable("d/run", "beta")
        .file("d/e/empty", "")
        .link("d/e/up", "../b.txt")
        .empty_dir("d/nothing")
}

fn expected<'a>(world: &World, contents: &'a Contents<'a>, ignore: &'a PathSet) -> Expected<'a> {
    Expected { contents, ignore, precision: world.cache.precision() }
}

fn check(world: &World, dir: &Path, tree: &Tree, depth: Depth) -> Report {
    verify(dir, &expected(world, &layers(&[tree]), &PathSet::default()), depth).unwrap()
}

fn tools(world: &World) -> Tools<'_> {
    Tools { cache: &world.cache, source: None, secrets: &NOTHING, mode: Mode::Link, owner: None }
}

#[test]
fn an_object_is_read_only_and_carries_the_tag_of_its_content() {
    let world = World::new();
    fill(&world.cache, &sample());
    for executable in [false, true] {
        let object = world.object(b"beta", executable);
        let meta = object.metadata().unwrap();
        assert_eq!(meta.mode() & 0o7777, if executable { 0o555 } else { 0o444 });
        let tag = Tag::of(&BlobId::of(b"beta"));
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (tag.sec, i64::from(tag.nsec)));
        assert_eq!(fs::read(object).unwrap(), b"beta");
    }
    assert!(!world.cache.has(&want(b"alpha", true)).unwrap(), "an inode has one mode");
    assert!(world.names("root/incoming").is_empty());
}

#[test]
fn i3_bytes_that_do_not_match_never_get_a_name() {
    let world = World::new();
    let big = vec![7; 3 << 20];
    let run = world.cache.receive().unwrap();
    for (content, named) in
        [(&b"alphb"[..], &b"alpha"[..]), (b"alph", b"alpha"), (b"alphaa", b"alpha"), (b"x", b"")]
    {
        let refused = run.put(&want(named, false), &mut &*content).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{content:?}");
    }
    for wrong in [&big[1..], &[&big[..], &[0]].concat(), &[&big[1..], &[0]].concat()] {
        assert!(run.put(&want(&big, false), &mut &*wrong).is_err());
    }
    assert_eq!(run.commit().unwrap(), 0);
    assert!(world.names("root/objects").is_empty() && world.names("root/incoming").is_empty());
}

#[test]
fn a_content_larger_than_memory_would_hold_is_taken_in_and_read_back() {
    let world = World::new();
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let made = Made::default().file("big", &big);
    fill(&world.cache, &made);
    let mut back = Vec::new();
    world.cache.open(&BlobId::of(&big), big.len() as u64).unwrap().read_to_end(&mut back).unwrap();
    assert!(back == big);
    for mode in [Mode::Copy, Mode::Link] {
        let dir = world.release(&made.tree(), mode, &format!("{mode:?}"));
        assert!(check(&world, &dir, &made.tree(), Depth::Deep).is_whole());
    }
}

#[test]
fn one_object_and_many_objects_are_both_committed() {
    for count in [1, 64, 65, 200] {
        let world = World::new();
        let mut made = Made::default();
        for n in 0..count {
            made = made.file(&format!("f{n}"), format!("content {n}"));
        }
        fill(&world.cache, &made);
        assert!(wants(&made.tree()).iter().all(|want| world.cache.has(want).unwrap()));
        assert!(world.names("root/incoming").is_empty());
    }
}

#[test]
fn two_threads_that_take_in_the_same_content_make_one_object() {
    let world = World::new();
    let run = world.cache.receive().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|_| run.put(&want(b"same", false), &mut &b"same"[..]).unwrap()));
        }
    });
    assert_eq!(run.commit().unwrap(), 1);
    assert!(world.cache.has(&want(b"same", false)).unwrap());
}

#[test]
fn what_a_dead_run_left_is_adopted_after_a_rehash_or_removed() {
    let world = World::new();
    let run = world.cache.receive().unwrap();
    run.put(&want(b"whole", true), &mut &b"whole"[..]).unwrap();
    run.put(&want(b"spoiled", false), &mut &b"spoiled"[..]).unwrap();
    let live = world.cache.receive().unwrap();
    live.put(&want(b"live", false), &mut &b"live"[..]).unwrap();
    drop(run);
    let dead = world.names("root/incoming").into_iter().find(|name| {
        world.dir.path().join("root/incoming").join(name).join(format!("{}x", BlobId::of(b"whole"))).exists()
    });
    let dead = world.dir.path().join("root/incoming").join(dead.unwrap());
    fs::write(dead.join(BlobId::of(b"spoiled").to_string()), "spoilt!").unwrap();
    fs::write(dead.join("part-1"), "half").unwrap();
    symlink("/etc/passwd", dead.join(BlobId::of(b"link").to_string())).unwrap();

    assert_eq!(world.cache.adopt().unwrap(), Adopted { objects: 1, removed: 3 });
    assert!(world.cache.has(&want(b"whole", true)).unwrap());
    assert!(!world.cache.has(&want(b"spoiled", false)).unwrap());
    assert_eq!(world.names("root/incoming").len(), 1, "the live run is left alone");
    assert_eq!(live.commit().unwrap(), 1);
    assert!(world.names("root/incoming").is_empty());
}

#[test]
fn a_damaged_object_is_not_had_and_is_replaced_by_the_next_run() {
    let world = World::new();
    fill(&world.cache, &sample());
    let object = world.object(b"alpha", false);
    fs::write(&object, "ALPHA").unwrap();
    assert!(!world.cache.has(&want(b"alpha", false)).unwrap());
    let mut read = Vec::new();
    assert!(world.cache.open(&BlobId::of(b"alpha"), 5).unwrap().read_to_end(&mut read).is_err());
    fill(&world.cache, &sample());
    assert_eq!(fs::read(object).unwrap(), b"alpha");
    assert!(world.cache.has(&want(b"alpha", false)).unwrap());
}

#[test]
fn an_intact_object_keeps_its_inode_when_another_run_brings_it_again() {
    let world = World::new();
    let (first, second) = (world.cache.receive().unwrap(), world.cache.receive().unwrap());
    for run in [&first, &second] {
        run.put(&want(b"twice", false), &mut &b"twice"[..]).unwrap();
    }
    first.commit().unwrap();
    let before = inode(&world.object(b"twice", false));
    second.commit().unwrap();
    assert_eq!(inode(&world.object(b"twice", false)), before);
}

#[test]
fn a_release_holds_exactly_its_tree_in_every_mode() {
    let world = World::new();
    fill(&world.cache, &sample());
    let tree = sample().tree();
    for mode in [Mode::Link, Mode::Reflink, Mode::Copy] {
        let staged = world.stage(&layers(&[&tree]), mode);
        let counts = staged.counts();
        assert_eq!(counts.linked + counts.reflinked + counts.copied, 4, "{mode:?}");
        // `benches/reflink.sh` runs this where reflinks must work.
        if mode == Mode::Reflink && std::env::var_os("LANDFALL_TEST_REFLINKS").is_some() {
            assert_eq!(counts.reflinked, 3);
        }
        let dir = staged.publish(&format!("{mode:?}")).unwrap();
        let report = check(&world, &dir, &tree, Depth::Deep);
        assert!(report.is_whole() && report.benign.is_empty() && report.checked == 9, "{report:?}");
        assert_eq!(snapshot(&dir, &PathSet::default()).unwrap(), tree);
        assert_eq!(support::mode(&dir.join("a.txt")), 0o444);
        assert_eq!(support::mode(&dir.join("d/run")), 0o555);
        assert_eq!(support::mode(&dir.join("d")), 0o755);
        let shares = inode(&dir.join("a.txt")) == inode(&world.object(b"alpha", false));
        assert_eq!(shares, mode == Mode::Link);
        assert_eq!(dir.join("d/e/empty").metadata().unwrap().nlink(), 1, "empty files are never linked");
    }
}

#[test]
fn layers_and_env_files_stand_together_with_their_own_modes_and_owners() {
    let world = World::new();
    let app = sample().file(".next/cache/seed", "seed");
    let env = Made::default().file(".env.production", "KEY=secret");
    fill(&world.cache, &app);
    let (app_tree, env_tree) = (app.tree(), env.tree());
    let writable = [path(".next/cache"), path("tmp/uploads")];
    let contents =
        Contents { layers: vec![&app_tree], env: vec![&env_tree], private: writable.iter().collect() };
    let releases = world.releases();
    let job = Job {
        secrets: &env.memory,
        owner: Some(Owner { uid: SERVICE_UID, gid: SERVICE_UID }),
        writable: &writable,
        ..world.job(&contents, Mode::Link, &releases)
    };
    let dir = materialise(&job).unwrap().publish("one").unwrap();
    let facts = |at: &str| {
        let meta = dir.join(at).metadata().unwrap();
        (meta.mode() & 0o7777, meta.uid())
    };
    assert_eq!(facts(".env.production"), (0o600, SERVICE_UID));
    assert_eq!(facts(".next/cache/seed"), (0o644, SERVICE_UID));
    assert_eq!(facts(".next/cache"), (0o755, SERVICE_UID));
    assert_eq!(facts(".next"), (0o755, 0));
    assert_eq!(facts("tmp/uploads"), (0o755, SERVICE_UID));
    assert_eq!(facts("a.txt"), (0o444, 0));
    assert!(!world.object(b"KEY=secret", false).exists(), "a secret never enters the cache");
    let ignore: PathSet = writable.iter().collect();
    assert!(verify(&dir, &expected(&world, &contents, &ignore), Depth::Fast).unwrap().is_whole());
    fs::write(dir.join("tmp/stray"), "").unwrap();
    let report = verify(&dir, &expected(&world, &contents, &ignore), Depth::Fast).unwrap();
    assert_eq!(report.extra, [Path::new("tmp/stray")], "only what is ignored is ignored");
}

#[test]
fn a18_the_service_user_cannot_write_through_a_link() {
    let world = World::new();
    fill(&world.cache, &sample());
    let dir = world.release(&sample().tree(), Mode::Link, "one");
    for script in ["echo x >a.txt", "echo x >>a.txt", "chmod u+w a.txt", "touch a.txt", "rm -f a.txt", ">new"]
    {
        let status = Command::new("/bin/sh")
            .args(["-c", script])
            .current_dir(&dir)
            .uid(SERVICE_UID)
            .gid(SERVICE_UID)
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success(), "`{script}` worked");
    }
    assert!(check(&world, &dir, &sample().tree(), Depth::Deep).is_whole());
}

#[test]
fn b18_a_write_through_a_link_is_found_and_repaired_in_every_release() {
    let world = World::new();
    fill(&world.cache, &sample());
    let (tree, other) = (sample().tree(), Made::default().file("x/y", "alpha").tree());
    let (one, two) = (world.release(&tree, Mode::Link, "one"), world.release(&other, Mode::Link, "two"));
    let bad = inode(&one.join("a.txt"));
    // Root may: the mode does not stop it.
    fs::write(one.join("a.txt"), "EVIL!").unwrap();

    let report = check(&world, &one, &tree, Depth::Fast);
    assert_eq!(report.damaged.len(), 1);
    assert_eq!(report.damaged[0].fault, Fault::Content);
    assert!(!check(&world, &two, &other, Depth::Fast).is_whole(), "the inode is shared");

    let (contents, others) = (layers(&[&tree]), layers(&[&other]));
    let none = PathSet::default();
    let installed = Installed { dir: &one, expected: expected(&world, &contents, &none) };
    let second = Installed { dir: &two, expected: expected(&world, &others, &none) };
    let source = sample().memory;
    let with_source = Tools { source: Some(&source), ..tools(&world) };
    let repaired = repair(&with_source, &installed, &report, &[installed, second]).unwrap();
    assert_eq!(repaired, Repaired { objects: 1, paths: 2, ..Repaired::default() });
    for (dir, tree) in [(&one, &tree), (&two, &other)] {
        assert!(check(&world, dir, tree, Depth::Deep).is_whole());
    }
    assert_ne!(inode(&one.join("a.txt")), bad);
    assert_eq!(inode(&one.join("a.txt")), inode(&two.join("x/y")));
    assert_eq!(inode(&one.join("a.txt")), inode(&world.object(b"alpha", false)));
}

#[test]
fn damage_that_cannot_be_had_anew_is_named_and_left() {
    let world = World::new();
    fill(&world.cache, &sample());
    let tree = sample().tree();
    let dir = world.release(&tree, Mode::Link, "one");
    fs::write(dir.join("a.txt"), "EVIL!").unwrap();
    let (contents, none) = (layers(&[&tree]), PathSet::default());
    let installed = Installed { dir: &dir, expected: expected(&world, &contents, &none) };
    let repaired = repair(&tools(&world), &installed, &check(&world, &dir, &tree, Depth::Fast), &[]).unwrap();
    assert_eq!(repaired.left, [path("a.txt")]);
}

#[test]
fn every_kind_of_drift_is_found_and_put_right() {
    let world = World::new();
    fill(&world.cache, &sample());
    let tree = sample().tree();
    type Drift = fn(&Path);
    let drifts: &[(&str, Drift)] = &[
        ("file gone", |dir| fs::remove_file(dir.join("a.txt")).unwrap()),
        ("directory gone", |dir| fs::remove_dir_all(dir.join("d")).unwrap()),
        ("empty directory gone", |dir| fs::remove_dir(dir.join("d/nothing")).unwrap()),
        ("file added", |dir| fs::write(dir.join("d/new"), "").unwrap()),
        ("directory added", |dir| fs::create_dir_all(dir.join("new/deep")).unwrap()),
        ("file in an empty directory", |dir| fs::write(dir.join("d/nothing/x"), "").unwrap()),
        ("link elsewhere", |dir| {
            fs::remove_file(dir.join("d/e/up")).unwrap();
            symlink("/etc/passwd", dir.join("d/e/up")).unwrap();
        }),
        ("file became a link to its like", |dir| {
            fs::rename(dir.join("a.txt"), dir.join("../moved")).unwrap();
            symlink("../moved", dir.join("a.txt")).unwrap();
        }),
        ("directory became a link to its like", |dir| {
            fs::rename(dir.join("d"), dir.join("../moved-d")).unwrap();
            symlink("../moved-d", dir.join("d")).unwrap();
        }),
        ("directory became a file", |dir| {
            fs::remove_dir(dir.join("d/nothing")).unwrap();
            fs::write(dir.join("d/nothing"), "").unwrap();
        }),
        ("file became a directory", |dir| {
            fs::remove_file(dir.join("a.txt")).unwrap();
            fs::create_dir_all(dir.join("a.txt/x")).unwrap();
        }),
        ("file became a fifo", |dir| {
            fs::remove_file(dir.join("a.txt")).unwrap();
            assert!(Command::new("mkfifo").arg(dir.join("a.txt")).status().unwrap().success());
        }),
        ("file mode", |dir| {
            fs::set_permissions(dir.join("a.txt"), PermissionsExt::from_mode(0o666)).unwrap()
        }),
        ("directory mode", |dir| {
            fs::set_permissions(dir.join("d"), PermissionsExt::from_mode(0o777)).unwrap()
        }),
        ("replaced by an equal size", |dir| {
            fs::remove_file(dir.join("a.txt")).unwrap();
            fs::write(dir.join("a.txt"), "ALPHA").unwrap();
        }),
        ("empty file filled", |dir| fs::write(dir.join("d/e/empty"), "x").unwrap()),
    ];
    for (index, (what, drift)) in drifts.iter().enumerate() {
        let dir = world.release(&tree, Mode::Link, &format!("r{index}"));
        drift(&dir);
        let report = check(&world, &dir, &tree, Depth::Fast);
        assert!(!report.is_whole(), "{what}: not found");
        let (contents, none) = (layers(&[&tree]), PathSet::default());
        let installed = Installed { dir: &dir, expected: expected(&world, &contents, &none) };
        let repaired = repair(&tools(&world), &installed, &report, &[]).unwrap();
        assert!(repaired.left.is_empty(), "{what}: {repaired:?}");
        let after = check(&world, &dir, &tree, Depth::Deep);
        assert!(after.is_whole() && after.benign.is_empty(), "{what}: {after:?}");
        let _ = fs::remove_dir_all(world.releases().join("moved-d"));
    }
}

#[test]
fn a_touch_is_benign_and_only_the_time_is_set_back() {
    let world = World::new();
    fill(&world.cache, &sample());
    let tree = sample().tree();
    let dir = world.release(&tree, Mode::Link, "one");
    fs::File::open(dir.join("a.txt")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    let report = check(&world, &dir, &tree, Depth::Fast);
    assert!(report.is_whole());
    assert_eq!(report.benign, [path("a.txt")]);
    let before = inode(&dir.join("a.txt"));
    let (contents, none) = (layers(&[&tree]), PathSet::default());
    let installed = Installed { dir: &dir, expected: expected(&world, &contents, &none) };
    assert_eq!(repair(&tools(&world), &installed, &report, &[]).unwrap().times, 1);
    assert!(check(&world, &dir, &tree, Depth::Fast).benign.is_empty());
    assert_eq!(inode(&dir.join("a.txt")), before);
}

#[test]
fn only_a_deep_check_finds_a_forged_time() {
    let world = World::new();
    fill(&world.cache, &sample());
    let tree = sample().tree();
    let dir = world.release(&tree, Mode::Copy, "one");
    let file = dir.join("a.txt");
    let time = file.metadata().unwrap().modified().unwrap();
    fs::write(&file, "ALPHA").unwrap();
    fs::File::open(&file).unwrap().set_modified(time).unwrap();
    assert!(check(&world, &dir, &tree, Depth::Fast).is_whole());
    assert_eq!(check(&world, &dir, &tree, Depth::Deep).damaged[0].fault, Fault::Content);
}

#[test]
fn p4_every_changed_byte_of_a_file_is_found_by_the_fast_check() {
    let world = World::new();
    let content: Vec<u8> = (0..=255).collect();
    let made = Made::default().file("f", &content);
    fill(&world.cache, &made);
    let dir = world.release(&made.tree(), Mode::Copy, "one");
    let mut flips = 0;
    for at in 0..content.len() {
        for bit in 0..8 {
            let mut changed = content.clone();
            changed[at] ^= 1 << bit;
            fs::write(dir.join("f"), changed).unwrap();
            let report = check(&world, &dir, &made.tree(), Depth::Fast);
            assert_eq!(report.damaged[0].fault, Fault::Content);
            flips += 1;
        }
    }
    assert_eq!(flips, 2048);
}

#[test]
fn i5_a_release_that_is_not_published_is_never_seen_under_its_name() {
    let world = World::new();
    fill(&world.cache, &sample());
    let tree = sample().tree();
    let staged = world.stage(&layers(&[&tree]), Mode::Link);
    assert!(staged.path().file_name().unwrap().to_str().unwrap().starts_with(".stage-"));
    assert_eq!(clean(&world.releases()).unwrap(), 0, "a live stage is left alone");
    drop(staged);
    assert!(world.names("releases").is_empty());

    // What a killed builder leaves: the directory, without a lock.
    fs::create_dir_all(world.releases().join(".stage-dead/d")).unwrap();
    assert_eq!(clean(&world.releases()).unwrap(), 1);
    assert!(world.names("releases").is_empty());
}

#[test]
fn a_release_is_never_built_over_another_or_under_a_name_that_hides() {
    let world = World::new();
    fill(&world.cache, &sample());
    let tree = sample().tree();
    world.release(&tree, Mode::Link, "one");
    let again = world.stage(&layers(&[&tree]), Mode::Link).publish("one");
    assert!(matches!(again, Err(MaterialiseError::Exists(_))));
    for name in ["", ".", "..", ".x", "a/b", "../x", "a\0b"] {
        let refused = world.stage(&layers(&[&tree]), Mode::Link).publish(name);
        assert!(matches!(refused, Err(MaterialiseError::Name(_))), "{name:?}");
    }
    assert_eq!(world.names("releases"), ["one"]);
}

#[test]
fn a_missing_content_stops_the_build_by_its_id_and_leaves_nothing() {
    let world = World::new();
    let tree = sample().tree();
    for mode in [Mode::Link, Mode::Reflink, Mode::Copy] {
        let contents = layers(&[&tree]);
        let refused = materialise(&world.job(&contents, mode, &world.releases()));
        assert!(matches!(refused, Err(MaterialiseError::Blob { .. })), "{mode:?}");
        assert!(world.names("releases").is_empty());
    }
}

#[test]
fn a_damaged_object_is_never_copied_into_a_release() {
    let world = World::new();
    fill(&world.cache, &sample());
    let object = world.object(b"alpha", false);
    let time = object.metadata().unwrap().modified().unwrap();
    fs::write(&object, "ALPHA").unwrap();
    fs::File::open(&object).unwrap().set_modified(time).unwrap();
    let tree = sample().tree();
    let contents = layers(&[&tree]);
    let refused = materialise(&world.job(&contents, Mode::Copy, &world.releases()));
    assert!(matches!(refused, Err(MaterialiseError::Blob { blob, .. }) if blob == BlobId::of(b"alpha")));
    assert!(world.names("releases").is_empty());
}

#[test]
fn more_files_than_a_file_system_gives_links_are_copied_instead() {
    // ext4 gives 65,000; file systems that give more just link them all.
    const FILES: usize = 65_100;
    let world = World::new();
    let blob = BlobId::of(b"popular");
    let mut made = Made::default().file("first", "popular");
    made.entries.extend((0..FILES).map(|n| landfall_store::Entry {
        path: path(&format!("d{}/{n}", n % 100)),
        kind: landfall_store::Kind::File { size: 7, blob, executable: false },
    }));
    fill(&world.cache, &made);
    let tree = made.tree();
    let staged = world.stage(&layers(&[&tree]), Mode::Link);
    let counts = staged.counts();
    assert_eq!(counts.linked + counts.copied, FILES as u64 + 1);
    let dir = staged.publish("one").unwrap();
    assert!(check(&world, &dir, &tree, Depth::Fast).is_whole());
}

#[test]
fn the_mode_that_is_chosen_fits_what_works_here() {
    let world = World::new();
    let observe =
        |users: &[u32]| ModeFacts::observe(&world.cache, &world.releases(), users.to_vec()).unwrap();
    assert!(observe(&[]).links_work);
    assert_eq!(choose_mode(&observe(&[SERVICE_UID])), Mode::Link);
    assert_ne!(choose_mode(&observe(&[0])), Mode::Link);
    assert!(world.names("releases").is_empty() && world.names("root/objects").is_empty());
}

/// A file system of its own, unmounted at the end. Without the right to mount, the test fails and says so.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "this test needs the right to mount a tmpfs: run it as root with CAP_SYS_ADMIN"
        );
        Self(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn p5_a_full_disk_refuses_new_objects_and_keeps_old_ones() {
    let disk = Tmpfs::new("size=1m");
    let world = World::within(tempfile::tempdir_in(disk.0.path()).unwrap());
    fill(&world.cache, &sample());
    let tree = sample().tree();
    let dir = world.release(&tree, Mode::Link, "one");

    assert!(matches!(world.cache.room(4 << 20, 1), Err(CacheError::NoSpace { .. })));
    let mut filled = 0;
    let run = world.cache.receive().unwrap();
    let refused = loop {
        let content = vec![filled; 100_000];
        match run.put(&want(&content, false), &mut &*content) {
            Ok(()) => filled += 1,
            Err(error) => break error,
        }
    };
    assert!(filled > 0);
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull, "{refused}");
    run.discard().unwrap();
    assert!(world.names("root/incoming").is_empty());
    assert!(check(&world, &dir, &tree, Depth::Deep).is_whole(), "the running release is untouched");
    world.cache.room(400_000, 10).unwrap();
}

#[test]
fn p5_a_disk_that_fills_while_a_release_is_built_leaves_no_part_of_it() {
    let disk = Tmpfs::new("size=1m");
    let world = World::within(tempfile::tempdir_in(disk.0.path()).unwrap());
    let mut made = sample();
    for n in 0..6_u8 {
        made = made.file(&format!("big{n}"), vec![n; 90_000]);
    }
    fill(&world.cache, &made);
    let tree = made.tree();
    let contents = layers(&[&tree]);
    let refused = materialise(&world.job(&contents, Mode::Copy, &world.releases()));
    assert!(matches!(refused, Err(MaterialiseError::Blob { ref source, .. })
        if source.kind() == io::ErrorKind::StorageFull));
    assert!(world.names("releases").is_empty());
    assert!(wants(&tree).iter().all(|want| world.cache.has(want).unwrap()));
    let linked = world.release(&tree, Mode::Link, "one");
    assert!(check(&world, &linked, &tree, Depth::Deep).is_whole(), "links need no room");
}

#[test]
fn p5_a_disk_without_inodes_is_noticed_before_the_work() {
    let disk = Tmpfs::new("size=1m,nr_inodes=64");
    let world = World::within(tempfile::tempdir_in(disk.0.path()).unwrap());
    assert!(matches!(world.cache.room(1, 64), Err(CacheError::NoInodes { .. })));
    world.cache.room(1, 10).unwrap();
}

#[test]
fn a_cache_on_another_file_system_is_copied_from() {
    let disk = Tmpfs::new("size=4m");
    let world = World::new();
    fill(&world.cache, &sample());
    let facts = ModeFacts::observe(&world.cache, disk.0.path(), vec![SERVICE_UID]).unwrap();
    assert_eq!(choose_mode(&facts), Mode::Copy);
    // Even when it is told otherwise: a bind mount looks like the same file system until a link is tried.
    let tree = sample().tree();
    let contents = layers(&[&tree]);
    let staged = materialise(&world.job(&contents, Mode::Link, disk.0.path())).unwrap();
    assert_eq!(staged.counts().copied, 4);
    let dir = staged.publish("one").unwrap();
    assert!(check(&world, &dir, &tree, Depth::Deep).is_whole());
}

#[test]
fn b16_a_tree_of_ten_thousand_levels_is_removed() {
    let world = World::new();
    make_deep(&world.releases(), 10_000);
    remove(&world.releases(), "deep").unwrap();
    assert!(world.names("releases").is_empty());
}

/// Far deeper than any path can name.
fn make_deep(parent: &Path, levels: usize) {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = open(parent, flags, Mode::empty()).unwrap();
    for level in 0..levels {
        let name = if level == 0 { "deep" } else { "d" };
        mkdirat(&at, name, Mode::RWXU).unwrap();
        at = openat(&at, name, flags, Mode::empty()).unwrap();
    }
    rustix::fs::symlinkat("/etc", &at, "out").unwrap();
}

#[test]
fn b17_removal_follows_no_link_and_leaves_everything_outside_alone() {
    let world = World::new();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("dir")).unwrap();
    fs::write(outside.path().join("dir/file"), "precious").unwrap();
    let before = fingerprint(outside.path());

    let dir = world.releases().join("one");
    fs::create_dir_all(dir.join("sub/deeper")).unwrap();
    symlink(outside.path(), dir.join("a-link")).unwrap();
    symlink(outside.path().join("dir"), dir.join("sub/b-link")).unwrap();
    symlink("../../..", dir.join("sub/deeper/up")).unwrap();
    symlink(outside.path(), world.releases().join("two")).unwrap();
    fs::create_dir(dir.join(".up-1")).unwrap();
    remove(&world.releases(), "one").unwrap();
    remove(&world.releases(), "two").unwrap();
    remove(&world.releases(), "never-was").unwrap();

    assert_eq!(fingerprint(outside.path()), before);
    assert!(world.names("releases").is_empty());
}

#[test]
fn a_removal_that_was_cut_short_is_finished_later() {
    let world = World::new();
    fill(&world.cache, &sample());
    world.release(&sample().tree(), Mode::Link, "one");
    set_aside(&world.releases(), "one").unwrap();
    let trash = world.releases().join(world.names("releases").remove(0));
    fs::rename(trash.join("d/e"), trash.join(".up-1")).unwrap();
    assert_eq!(empty_trash(&world.releases()).unwrap(), 1);
    assert!(world.names("releases").is_empty());
    assert!(world.cache.has(&want(b"alpha", false)).unwrap(), "the cache keeps its own link");
}

#[test]
fn nothing_behind_a_mount_is_removed() {
    let world = World::new();
    let dir = world.releases().join("one/mnt");
    fs::create_dir_all(&dir).unwrap();
    let disk = Tmpfs::new("size=64k");
    fs::write(disk.0.path().join("precious"), "x").unwrap();
    let bound = Command::new("mount").arg("--bind").arg(disk.0.path()).arg(&dir).status().unwrap();
    assert!(bound.success(), "this test needs the right to mount");
    let refused = remove(&world.releases(), "one");
    assert!(disk.0.path().join("precious").exists());
    let trash = world.releases().join(world.names("releases").remove(0));
    assert!(Command::new("umount").arg(trash.join("mnt")).status().unwrap().success());
    assert!(matches!(refused, Err(RemoveError::Mount(..))), "{refused:?}");
    empty_trash(&world.releases()).unwrap();
    assert!(world.names("releases").is_empty());
}

#[test]
fn freezing_gives_linked_files_an_inode_of_their_own_and_takes_write_bits_and_ownership() {
    let world = World::new();
    fill(&world.cache, &sample());
    let dir = world.release(&sample().tree(), Mode::Link, "one");
    let store = world.dir.path().join("pnpm-store");
    fs::write(&store, "module.exports = 1").unwrap();
    fs::create_dir(dir.join("node_modules")).unwrap();
    fs::set_permissions(dir.join("node_modules"), PermissionsExt::from_mode(0o777)).unwrap();
    fs::hard_link(&store, dir.join("node_modules/m.js")).unwrap();
    fs::write(dir.join("made.sh"), "#!/bin/sh").unwrap();
    fs::set_permissions(dir.join("made.sh"), PermissionsExt::from_mode(0o4777)).unwrap();
    chown(dir.join("made.sh"), Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    fs::create_dir(dir.join("cache")).unwrap();
    fs::write(dir.join("cache/mine"), "x").unwrap();
    let ignore: PathSet = [path("cache")].iter().collect();

    let tree = freeze(&dir, &ignore, &world.cache).unwrap();
    assert_eq!(store.metadata().unwrap().nlink(), 1);
    assert_eq!(fs::read(dir.join("node_modules/m.js")).unwrap(), b"module.exports = 1");
    assert_eq!(mode(&dir.join("node_modules/m.js")), 0o444);
    assert_eq!(mode(&dir.join("node_modules")), 0o755);
    assert_eq!(mode(&dir.join("made.sh")), 0o555);
    assert_eq!(dir.join("made.sh").metadata().unwrap().uid(), 0);
    assert_eq!(mode(&dir.join("cache/mine")), 0o644, "what is ignored is left alone");
    assert_eq!(inode(&dir.join("a.txt")), inode(&world.object(b"alpha", false)), "links to the cache stay");
    assert!(tree.get(b"node_modules/m.js").is_some() && tree.get(b"cache/mine").is_none());

    let report = verify(&dir, &expected(&world, &layers(&[&tree]), &ignore), Depth::Fast).unwrap();
    assert!(report.is_whole() && report.benign.is_empty(), "{report:?}");
    fs::write(&store, "module.exports = 2").unwrap();
    let report = verify(&dir, &expected(&world, &layers(&[&tree]), &ignore), Depth::Deep).unwrap();
    assert!(report.is_whole(), "a later write from outside does not reach the release");
}

#[test]
fn a_step_that_leaves_a_device_or_fifo_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap().success());
    assert!(matches!(snapshot(dir.path(), &PathSet::default()), Err(PreparedError::Special(_))));
}

#[test]
fn i13_a_harsh_umask_changes_no_mode() {
    let this = std::env::current_exe().unwrap();
    let output = Command::new("/bin/sh")
        .args(["-c", "umask 077; exec \"$0\" --exact under_a_harsh_umask --ignored"])
        .arg(this)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[test]
#[ignore = "run by i13_a_harsh_umask_changes_no_mode, in a process whose umask is 077"]
fn under_a_harsh_umask() {
    let world = World::new();
    fill(&world.cache, &sample());
    for (name, mode) in [("link", Mode::Link), ("copy", Mode::Copy)] {
        let dir = world.release(&sample().tree(), mode, name);
        assert!(check(&world, &dir, &sample().tree(), Depth::Deep).is_whole());
        assert_eq!(support::mode(&dir.join("d")), 0o755);
        assert_eq!(support::mode(&dir), 0o755);
    }
}

#[test]
fn a_cache_that_is_opened_twice_is_one_cache() {
    let world = World::new();
    fill(&world.cache, &sample());
    let again = HostCache::open(&world.dir.path().join("root")).unwrap();
    assert!(again.has(&want(b"alpha", false)).unwrap());
    assert_eq!(again.adopt().unwrap(), Adopted::default());
}
