//! Materialise and verify from the host cache, against extracting the archive of the same tree.

use std::path::Path;

use landfall_store::blob::{BlobSink, BlobSource};
use landfall_store::cache::HostCache;
use landfall_store::contents::{Contents, PathSet};
use landfall_store::fetch;
use landfall_store::materialise::{Job, materialise};
use landfall_store::place::Mode;
use landfall_store::scan::{self, LayerSource, Mapping, ScanOptions, ScannedLayer};
use landfall_store::verify::{Depth, Expected, verify};

use super::input::{self, Input};
use super::pack;
use super::sample::Samples;
use super::table::Table;

const EXTRACT: &str = "mkdir work/extracted && zstd -dcq work/peer.tar.zst | tar -xf - -C work/extracted";
const PEER: &str = "`zstd -dc \\| tar -x`";

pub fn measure(input: &Input, rounds: usize, table: &mut Table) {
    let dir = input.app.parent().expect("an input in a directory");
    pack::archive(input);
    let layer = scanned(input);
    let cache = HostCache::open(&input.work.join("host")).unwrap();
    fill(&cache, &layer);
    let contents = Contents { layers: vec![&layer.tree], ..Contents::default() };
    let releases = input.work.join("releases");
    std::fs::create_dir_all(&releases).unwrap();
    let make = |mode| {
        let job = Job {
            cache: &cache,
            contents: &contents,
            secrets: &Nothing,
            mode,
            owner: None,
            writable: &[],
            releases: &releases,
        };
        materialise(&job).unwrap().publish("made").unwrap();
    };

    let [mut extract, mut link, mut copy, mut fast, mut deep] = [const { Samples::new() }; 5];
    for _ in 0..rounds {
        extract.take(|| input::shell(EXTRACT, dir));
        input::clear(&input.work.join("extracted"));
        copy.take(|| make(Mode::Copy));
        input::clear(&releases.join("made"));
        link.take(|| make(Mode::Link));
        fast.take(|| check(&releases.join("made"), &cache, &contents, Depth::Fast));
        deep.take(|| check(&releases.join("made"), &cache, &contents, Depth::Deep));
        input::clear(&releases.join("made"));
    }
    table.against("materialise, hard links", &link, (PEER, &extract), 1.0 / 5.0);
    table.against("materialise, copies", &copy, (PEER, &extract), 1.0);
    table.against("verify, fast", &fast, (PEER, &extract), 1.0 / 10.0);
    table.against("verify, every byte", &deep, (PEER, &extract), 1.0);
}

fn scanned(input: &Input) -> ScannedLayer {
    let source = LayerSource {
        name: "deps".parse().unwrap(),
        root: input.app.clone(),
        files: vec![Mapping { from: "node_modules".into(), to: "node_modules".into() }],
        exclude: Vec::new(),
        env: false,
        env_files: Vec::new(),
    };
    scan::scan(&source, &ScanOptions::default()).unwrap()
}

fn fill(cache: &HostCache, layer: &ScannedLayer) {
    let incoming = cache.receive().unwrap();
    for want in fetch::wants(&[&layer.tree]) {
        let mut content = layer.source.open(&want.blob, want.size).unwrap();
        incoming.put(&want, &mut content).unwrap();
    }
    incoming.commit().unwrap();
}

fn check(release: &Path, cache: &HostCache, contents: &Contents<'_>, depth: Depth) {
    let ignore = PathSet::default();
    let expected = Expected { contents, ignore: &ignore, precision: cache.precision() };
    let report = verify(release, &expected, depth).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

/// A release without env layers has no secrets.
struct Nothing;

impl BlobSource for Nothing {
    fn open(&self, blob: &landfall_store::BlobId, _: u64) -> std::io::Result<Box<dyn std::io::Read + '_>> {
        Err(std::io::Error::other(format!("{blob} is not an env file")))
    }
}
