//! Hostile trees, archives and directories: each is refused with a reason, and nothing outside is touched.
#![allow(clippy::unwrap_used, reason = "clippy spares tests, but not the functions beside them")]

#[path = "common/faulty_http.rs"]
mod faulty_http;
mod support;

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use landfall_store::archive::{ImportError, Limits, import};
use landfall_store::backend::HttpBackend;
use landfall_store::blob::{BlobSink, Want};
use landfall_store::contents::{Contents, PathSet};
use landfall_store::fetch::{self, Watch};
use landfall_store::materialise::{MaterialiseError, materialise};
use landfall_store::place::Mode;
use landfall_store::verify::{Depth, Expected, verify};
use landfall_store::{BlobId, Entry, Kind, Store, StoreError, Tree, TreeId, layout};
use tar::{EntryType, Header};

use support::*;

/// What nothing hostile may change: looked at before and after.
struct Canary {
    world: World,
    before: Vec<String>,
}

impl Canary {
    fn new() -> Self {
        let world = World::new();
        let outside = world.dir.path().join("outside");
        std::fs::create_dir_all(outside.join("dir")).unwrap();
        std::fs::write(outside.join("dir/file"), "precious").unwrap();
        symlink("dir", outside.join("link")).unwrap();
        let sibling = Made::default().file("package.json", "{}");
        fill(&world.cache, &sibling);
        world.release(&sibling.tree(), Mode::Link, "sibling");
        std::fs::create_dir(world.dir.path().join("spool")).unwrap();
        let before = Self::look(&world);
        Self { world, before }
    }

    fn look(world: &World) -> Vec<String> {
        let places = ["outside", "releases/sibling", "root/objects"];
        places.iter().flat_map(|place| fingerprint(&world.dir.path().join(place))).collect()
    }

    fn is_untouched(&self) {
        assert_eq!(Self::look(&self.world), self.before);
        assert_eq!(self.world.names("releases"), ["sibling"]);
        assert!(self.world.names("root/incoming").is_empty());
        assert!(self.world.names("spool").is_empty());
    }

    fn import(&self, archive: &[u8]) -> Result<(), ImportError> {
        let start = Instant::now();
        let imported = import(archive, &self.world.dir.path().join("spool"), Limits::default());
        assert!(start.elapsed() < Duration::from_secs(30), "it took {:?}", start.elapsed());
        imported.map(drop)
    }
}

/// One tar member, with whatever a hostile hand would put into it.
#[derive(Clone)]
struct Evil {
    header: Header,
    body: Vec<u8>,
}

fn member(kind: EntryType, name: &[u8], body: &[u8]) -> Evil {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(body.len() as u64);
    header.set_cksum();
    Evil { header, body: body.to_owned() }
}

fn file(name: &str) -> Evil {
    member(EntryType::Regular, name.as_bytes(), b"evil")
}

fn dir(name: &str) -> Evil {
    member(EntryType::Directory, name.as_bytes(), b"")
}

fn linked(kind: EntryType, name: &str, to: &str) -> Evil {
    let evil = member(kind, name.as_bytes(), b"");
    evil.with(|header| header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes()))
}

fn link(name: &str, to: &str) -> Evil {
    linked(EntryType::Symlink, name, to)
}

fn hard(name: &str, to: &str) -> Evil {
    linked(EntryType::Link, name, to)
}

fn pax(records: &str) -> Evil {
    member(EntryType::XHeader, b"pax", records.as_bytes())
}

/// A well-formed extended header: what is wrong with it is what it says.
fn says(record: &str) -> Evil {
    // The length counts itself, in two digits here.
    pax(&format!("{} {record}\n", record.len() + 4))
}

fn long(name: &[u8]) -> Evil {
    member(EntryType::GNULongName, b"././@LongLink", name)
}

impl Evil {
    fn with(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.header);
        self.header.set_cksum();
        self
    }
}

fn archive(members: &[Evil]) -> Vec<u8> {
    let mut tar = Vec::new();
    for member in members {
        tar.extend_from_slice(member.header.as_bytes());
        tar.extend_from_slice(&member.body);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn hand_made() -> Vec<(&'static str, Vec<u8>)> {
    let of = |members: &[Evil]| archive(members);
    let size = |text: &'static [u8]| {
        archive(&[file("a").with(|header| header.as_old_mut().size[..text.len()].copy_from_slice(text))])
    };
    let good = archive(&[file("a")]);
    let mut no_sum = good.clone();
    no_sum[0] = b'b';
    let mut hidden = *file("a").header.as_bytes();
    hidden[5] = b'x';
    let mut hidden = Evil { header: Header::from_byte_slice(&hidden).clone(), body: b"evil".to_vec() };
    hidden.header.set_cksum();
    let half_zstd = zstd::encode_all(&good[..], 3).unwrap();
    vec![
        ("climbs", of(&[file("../a")])),
        ("climbs later", of(&[file("a/../../b")])),
        ("climbs within", of(&[file("a/../b")])),
        ("climbs after a dot", of(&[file("./../a")])),
        ("is only two dots", of(&[file("..")])),
        ("a directory climbs", of(&[dir("../")])),
        ("absolute", of(&[file("/etc/passwd")])),
        ("absolute after a dot", of(&[file(".//etc/passwd")])),
        ("absolute directory", of(&[dir("/")])),
        ("empty name", of(&[file("")])),
        ("only a dot", of(&[file(".")])),
        ("a dot inside", of(&[file("a/./b")])),
        ("a double slash", of(&[file("a//b")])),
        ("b10: a file with a closing slash", of(&[file("a/")])),
        ("b10: text behind the NUL", of(&[hidden])),
        ("b10: a long NUL", of(&[long(b"a\0b\0"), file("c")])),
        ("b10: an empty long name", of(&[long(b"\0"), file("c")])),
        ("b10: a component too long", of(&[long(&[b'a'; 256]), file("c")])),
        ("b10: a path too long", of(&[long(&b"aaaaaaa/".repeat(600)), file("c")])),
        ("b15: too deep", of(&[long(&[&b"a/".repeat(128)[..], b"a"].concat()), file("c")])),
        ("b01: a link, then a file of its name", of(&[link("a", "b"), file("a")])),
        ("b01: a file, then a link of its name", of(&[file("a"), link("a", "b")])),
        ("b02: a path below a link", of(&[link("a", "b"), file("a/x")])),
        ("b02: a directory below a link", of(&[link("a", "b"), dir("a/x/")])),
        ("b02: a link where paths go through", of(&[file("a/x"), link("a", "b")])),
        ("b03: a link, then a directory of its name", of(&[link("a", "b"), dir("a/")])),
        ("b03: a directory, then a link of its name", of(&[dir("a/"), link("a", "b")])),
        ("a path below a file", of(&[file("a"), file("a/x")])),
        ("b04: a link to a sibling release", of(&[link("a", "../sibling")])),
        ("a link to an absolute path", of(&[link("a", "/etc/passwd")])),
        ("a link that climbs in the middle", of(&[link("a/b", "x/../../../c")])),
        ("a link to nothing", of(&[link("a", "")])),
        ("a hard link out", of(&[hard("a", "/etc/passwd")])),
        ("a hard link that climbs", of(&[hard("a", "../sibling/package.json")])),
        ("a hard link to what comes later", of(&[hard("a", "b"), file("b")])),
        ("a hard link to a link", of(&[link("b", "c"), hard("a", "b")])),
        ("a hard link to a directory", of(&[dir("b/"), hard("a", "b")])),
        ("a hard link to itself", of(&[hard("a", "a")])),
        ("b09: one file twice", of(&[file("a"), file("a")])),
        ("b09: one file twice, with a dot", of(&[file("a"), file("./a")])),
        ("b09: an archive behind the archive", [&good[..], &good].concat()),
        ("b09: a byte behind the archive", [&good[..], b"x"].concat()),
        ("b09: a byte behind the compressed archive", [&gzip(&good)[..], b"x"].concat()),
        ("no end mark", good[..good.len() - 1024].to_vec()),
        ("half an end mark", good[..good.len() - 512].to_vec()),
        ("cut inside a header", good[..100].to_vec()),
        ("cut inside a content", good[..514].to_vec()),
        ("cut gzip", gzip(&good)[..40].to_vec()),
        ("cut zstd", half_zstd[..half_zstd.len() - 1].to_vec()),
        ("nothing at all", vec![]),
        ("no tar", b"PK\x03\x04 this is a zip".repeat(100)),
        ("a wrong checksum", no_sum),
        ("a fifo", of(&[member(EntryType::Fifo, b"a", b"")])),
        ("a block device", of(&[member(EntryType::Block, b"a", b"")])),
        ("a character device", of(&[member(EntryType::Char, b"a", b"")])),
        ("a sparse file", of(&[member(EntryType::GNUSparse, b"a", b"")])),
        ("an unknown kind", of(&[member(EntryType::new(b'Z'), b"a", b"")])),
        ("b11: setuid", of(&[file("a").with(|header| header.set_mode(0o4755))])),
        ("b11: setgid", of(&[file("a").with(|header| header.set_mode(0o2755))])),
        ("b05: landfall's own name", of(&[file(".landfall/release.json")])),
        ("b05: landfall's own directory", of(&[dir(".landfall/")])),
        ("b05: a link in its place", of(&[link(".landfall", "a")])),
        ("b05: an artifact that comes late", of(&[file("a"), file(".landfall/artifact.json")])),
        ("b12: an artifact that is none", of(&[file(".landfall/artifact.json")])),
        ("b12: a tree without an artifact", of(&[file(&format!(".landfall/trees/{}", BlobId::of(b"evil")))])),
        ("b06: a size beyond all limits", size(b"77777777777\0")),
        ("b19: a size of 2^63", size(b"\x80\0\0\0\x80\0\0\0\0\0\0\0")),
        ("b19: a size that wraps", size(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
        ("b07: a size above 64 bits", size(b"\x80\0\0\x01\0\0\0\0\0\0\0\x04")),
        ("b07: a size with a sign", size(b"+0000000004\0")),
        ("b07: a size of letters", size(b"four\0\0\0\0\0\0\0\0")),
        ("b07: a link with content", of(&[link("a", "b").with(|header| header.set_size(512))])),
        ("b07: a directory with content", of(&[dir("a/").with(|header| header.set_size(512)), file("b")])),
        ("b07: two sizes", of(&[says("size=10240"), file("a")])),
        ("b08: a record without an end", of(&[pax("12 path=abcde"), file("a")])),
        ("b08: a record longer than it is", of(&[pax("99 path=a\n"), file("a")])),
        ("b08: an unknown record", of(&[says("GNU.sparse.major=1"), file("a")])),
        ("b08: one record twice", of(&[pax("9 path=b\n9 path=c\n"), file("a")])),
        ("b08: an extended header for nothing", of(&[file("a"), pax("9 path=b\n")])),
        ("b08: two extended headers", of(&[pax("9 path=b\n"), pax("9 path=c\n"), file("a")])),
        ("b08: two ways to name one", of(&[pax("9 path=b\n"), long(b"c"), file("a")])),
        ("b10: an extended name that climbs", of(&[says("path=../bbb"), file("a")])),
        ("b10: an empty extended name", of(&[pax("8 path=\n"), file("a")])),
        ("b10: an extended link that leads out", of(&[says("linkpath=/etc"), link("a", "b")])),
        ("b10: one name for all", of(&[member(EntryType::XGlobalHeader, b"g", b"9 path=b\n"), file("a")])),
        ("b07: another format", of(&[file("a").with(|header| header.as_mut_bytes()[262] = b'7')])),
        ("an extended header beyond its limit", of(&[pax(&"13 comment=x\n".repeat(90_000)), file("a")])),
    ]
}

#[test]
fn the_harmless_twin_of_each_extended_header_is_accepted() {
    let canary = Canary::new();
    for members in [
        vec![says("size=4"), file("a")],
        vec![pax("11 size=4\n"), file("a")],
        vec![says("path=bbbbbb"), file("a")],
        vec![says("linkpath=etc"), link("a", "b")],
        vec![says("comment=hello"), file("a")],
        vec![long(b"bb\0"), file("a")],
    ] {
        let read = canary.import(&archive(&members));
        // One lies about its length by one, so that this test can fail.
        assert_eq!(read.is_err(), members[0].body == b"11 size=4\n", "{read:?}");
    }
    canary.is_untouched();
}

#[test]
fn p6_every_hand_made_archive_is_refused_by_name_and_changes_nothing() {
    let canary = Canary::new();
    let cases = hand_made();
    assert!(cases.len() >= 45, "{}", cases.len());
    for (what, tar) in &cases {
        for bytes in [tar.clone(), gzip(tar), zstd::encode_all(&tar[..], 1).unwrap()] {
            let refused = canary.import(&bytes).err().unwrap_or_else(|| panic!("{what}: accepted"));
            assert!(!refused.to_string().is_empty());
            // The compressed forms of a file with bytes behind it differ: there the bytes are inside.
        }
    }
    canary.is_untouched();
    println!("{} hand-made archives, each in 3 forms, were refused", cases.len());
}

/// A small, seeded source of choices: the same archives in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }

    fn name(&mut self) -> String {
        (0..=self.roll(3))
            .map(|_| *self.pick(&["a", "b", "lib", "x.js", "dist"]))
            .collect::<Vec<_>>()
            .join("/")
    }
}

/// A few members that are all right, with directories of their own so that they collide with nothing.
fn harmless(dice: &mut Dice) -> Vec<Evil> {
    (0..dice.roll(6)).map(|n| file(&format!("good{n}/{}", dice.name()))).collect()
}

fn hostile_members(dice: &mut Dice) -> Vec<Evil> {
    let name = dice.name();
    let up = "../".repeat(1 + dice.roll(6));
    match dice.roll(12) {
        0 => vec![file(&format!("{up}{name}"))],
        1 => vec![file(&format!("{name}/{up}{name}"))],
        2 => vec![file(&format!("/{name}"))],
        3 => vec![link(&name, "elsewhere"), file(&format!("{name}/x"))],
        4 => vec![link(&name, &format!("{up}{up}{up}{name}"))],
        5 => vec![link(&name, &format!("/{name}"))],
        6 => vec![hard(&name, &format!("{up}{name}"))],
        7 => vec![file(&name), file(&name)],
        8 => {
            let kind =
                *dice.pick(&[EntryType::Fifo, EntryType::Char, EntryType::Block, EntryType::GNUSparse]);
            vec![member(kind, name.as_bytes(), b"")]
        }
        9 => {
            let bits = *dice.pick(&[0o4000, 0o2000, 0o1000, 0o7000]);
            vec![file(&name).with(|header| header.set_mode(0o755 | bits))]
        }
        10 => vec![file(&format!(".landfall/{name}"))],
        _ => vec![link(&name, "b"), dir(&format!("{name}/"))],
    }
}

#[test]
fn p6_a_thousand_generated_archives_are_refused_and_change_nothing() {
    const CASES: usize = 1_200;
    let canary = Canary::new();
    let mut dice = Dice(20_261_120);
    for case in 0..CASES {
        let mut members = harmless(&mut dice);
        let at = dice.roll(members.len() + 1);
        members.splice(at..at, hostile_members(&mut dice));
        members.extend(
            harmless(&mut dice)
                .into_iter()
                .map(|evil| evil.with(|header| header.as_old_mut().name[..4].copy_from_slice(b"last"))),
        );
        let tar = archive(&members);
        let bytes = if case % 3 == 0 { gzip(&tar) } else { tar };
        assert!(canary.import(&bytes).is_err(), "case {case} was accepted");
    }
    canary.is_untouched();
    println!("{CASES} generated archives were refused");
}

#[test]
fn p6_a_thousand_generated_trees_are_refused_and_change_nothing() {
    const CASES: usize = 1_200;
    let canary = Canary::new();
    let mut dice = Dice(7);
    let hash = BlobId::of(b"evil");
    for case in 0..CASES {
        let mut lines: Vec<String> = (0..dice.roll(5)).map(|n| format!("F 4 {hash} good{n}")).collect();
        let name = dice.name();
        let up = "../".repeat(1 + dice.roll(6));
        let bad = match dice.roll(14) {
            0 => format!("F 4 {hash} {up}{name}"),
            1 => format!("F 4 {hash} /{name}"),
            2 => format!("F 4 {hash} z{name}/./x"),
            3 => format!("F 4 {hash} z{name}//x"),
            4 => format!("L {up}{up}{up}x z{name}"),
            5 => format!("L /etc z{name}"),
            6 => format!("L x z{name}\nF 4 {hash} z{name}/x"),
            7 => format!("F 4 {hash} z{name}\nF 4 {hash} z{name}"),
            8 => format!("F {} {hash} z{name}", u64::MAX),
            9 => format!("P 0 {hash} z{name}"),
            10 => format!("F 4 {hash} z%2E%2E/{name}"),
            11 => format!("F 4 {hash} z%00{name}"),
            12 => format!("F 04 {hash} z{name}"),
            _ => format!("D z{name}\nF 4 {hash} z{name}/x"),
        };
        lines.push(bad);
        let text = format!("landfall-tree 1\n{}\n", lines.join("\n"));
        assert!(Tree::decode(text.as_bytes()).is_err(), "case {case} was accepted:\n{text}");
    }
    canary.is_untouched();
    println!("{CASES} generated trees were refused");
}

#[test]
fn b02_b04_layers_that_are_harmless_alone_cannot_combine_into_an_escape() {
    let canary = Canary::new();
    let link = Made::default().link("d", "e").tree();
    let below = Made::default().file("d/x", "evil").tree();
    let same = Made::default().file("d", "evil").tree();
    for layers in [vec![&link, &below], vec![&below, &link], vec![&link, &same], vec![&same, &below]] {
        let contents = Contents { layers, ..Contents::default() };
        let releases = canary.world.releases();
        let refused = materialise(&canary.world.job(&contents, Mode::Copy, &releases));
        assert!(matches!(refused, Err(MaterialiseError::Contents(_))));
    }
    canary.is_untouched();
}

#[test]
fn b02_a_writable_path_that_leads_through_a_link_is_refused() {
    let canary = Canary::new();
    let tree = Made::default().link("tmp", "other").empty_dir("other").tree();
    let contents = layers(&[&tree]);
    let releases = canary.world.releases();
    let writable = [path("tmp/cache")];
    let job = landfall_store::materialise::Job {
        writable: &writable,
        ..canary.world.job(&contents, Mode::Copy, &releases)
    };
    assert!(materialise(&job).is_err());
    canary.is_untouched();
}

#[test]
fn i12_checks_and_repairs_follow_no_link_that_was_put_in_a_release() {
    let canary = Canary::new();
    let outside = canary.world.dir.path().join("outside");
    let made = Made::default().file("dir/file", "precious");
    let world = World::new();
    fill(&world.cache, &made);
    let dir = world.release(&made.tree(), Mode::Copy, "one");
    std::fs::remove_dir_all(dir.join("dir")).unwrap();
    symlink(outside.join("dir"), dir.join("dir")).unwrap();
    let (tree, none) = (made.tree(), PathSet::default());
    let contents = layers(&[&tree]);
    let expected = Expected { contents: &contents, ignore: &none, precision: world.cache.precision() };
    let report = verify(&dir, &expected, Depth::Deep).unwrap();
    assert!(!report.is_whole(), "the same bytes behind a link are not the release's");
    let tools = landfall_store::repair::Tools {
        cache: &world.cache,
        source: None,
        secrets: &NOTHING,
        mode: Mode::Copy,
        owner: None,
    };
    let installed = landfall_store::repair::Installed { dir: &dir, expected };
    landfall_store::repair::repair(&tools, &installed, &report, &[]).unwrap();
    assert!(verify(&dir, &expected, Depth::Deep).unwrap().is_whole());
    canary.is_untouched();
}

#[test]
fn b19_a_claimed_size_reserves_no_memory() {
    let canary = Canary::new();
    let before = resident_kib();
    let run = canary.world.cache.receive().unwrap();
    for size in [u64::MAX, 1 << 53, 1 << 40] {
        let want = Want { blob: BlobId::of(b"evil"), size, executable: false };
        assert!(run.put(&want, &mut &b"evil"[..]).is_err());
    }
    run.discard().unwrap();
    for (_, tar) in hand_made() {
        let _ = canary.import(&tar);
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
    canary.is_untouched();
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Half a gibibyte of zeros in a few kilobytes.
fn bomb() -> Vec<u8> {
    let zeros = std::io::Read::take(std::io::repeat(0), 512 << 20);
    zstd::encode_all(zeros, 1).unwrap()
}

#[test]
fn p6_a_hostile_store_over_http_is_refused_in_bounded_memory() {
    let canary = Canary::new();
    let dir = canary.world.dir.path().join("store");
    Store::create(&dir).unwrap();
    let put = |key: landfall_store::backend::Key, bytes: &[u8]| {
        let path = dir.join(key.as_str());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let server = faulty_http::Server::of(&dir);
    let open = || Store::with_backend(Box::new(HttpBackend::open(&server.url(), None).unwrap())).unwrap();
    let hash = BlobId::of(b"evil");
    let before = resident_kib();

    // Trees whose bytes are what their ids say, and evil all the same.
    let lines = [
        format!("F 4 {hash} ../x"),
        format!("F 4 {hash} /etc/passwd"),
        format!("F {} {hash} x", 1u64 << 63),
        format!("F {} {hash} x", u64::MAX),
        format!("P 4 {hash} x"),
        "L ../../x x".to_owned(),
        format!("L x d\nF 4 {hash} d/x"),
    ];
    for line in lines {
        let text = format!("landfall-tree 1\n{line}\n");
        let id = TreeId::of(text.as_bytes());
        put(layout::tree(&id), &zstd::encode_all(text.as_bytes(), 1).unwrap());
        let refused = fetch::tree(&open(), &id);
        assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{line}: {refused:?}");
    }
    // Bytes that are not what their ids say: a bomb, another object, nothing.
    let id = TreeId::of(b"promised");
    for bytes in [bomb(), b"{\"app\":\"web\"}".to_vec(), Vec::new()] {
        put(layout::tree(&id), &bytes);
        put(layout::artifact(&landfall_store::ArtifactId(id.0)), &bytes);
        assert!(matches!(fetch::tree(&open(), &id), Err(StoreError::Damaged { .. })));
        assert!(fetch::artifact(&open(), &landfall_store::ArtifactId(id.0)).is_err());
    }
    // A good tree of a huge file, and locators that lie about it.
    let kind = Kind::File { size: (1 << 53) - 1, blob: hash, executable: false };
    let tree = Tree::from_entries(vec![Entry { path: path("x"), kind }]).unwrap();
    let huge = serde_json::json!({ "v": 1, "tree": tree.id(), "gen": 1, "packs": [tree.id()],
        "frames": [[0, u64::MAX - 1, u32::MAX, u32::MAX]], "objs": [0, 0] });
    for locator in [bomb(), b"zstd?".to_vec(), zstd::encode_all(huge.to_string().as_bytes(), 1).unwrap()] {
        put(layout::locator(&tree.id()), &locator);
        let run = canary.world.cache.receive().unwrap();
        let refused = fetch::blobs(&open(), &[&tree], &run, &Watch::NOBODY);
        run.discard().unwrap();
        assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
    drop(server);
    canary.is_untouched();
}
