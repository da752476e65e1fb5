//! Where the time of a pack and a fetch goes, on a tree of your own:
//! `LANDFALL_BENCH_TREE=$PWD/node_modules cargo bench -p landfall-store --bench phases`

#![allow(clippy::print_stdout, reason = "a benchmark's output is its result")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on must stop")]

use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use landfall_store::artifact::Artifact;
use landfall_store::blob::{BlobSink, Want};
use landfall_store::fetch::{self, Watch};
use landfall_store::push::{LEVEL, PushOptions, look, push};
use landfall_store::scan::{Ahead, LayerSource, Mapping, ScanOptions, ScannedLayer, scan_ahead};
use landfall_store::{BlobId, Layer, Store};

const ROUNDS: usize = 5;

/// Verifies contents and keeps none: what a fetch costs before a disk is written.
struct Verifier;

impl BlobSink for Verifier {
    fn has(&self, _want: &Want) -> io::Result<bool> {
        Ok(false)
    }
    fn put(&self, want: &Want, content: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(want.size as usize);
        content.read_to_end(&mut bytes)?;
        if BlobId::of(&bytes) == want.blob { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

fn artifact(layer: &ScannedLayer) -> Artifact {
    let layer = Layer {
        bytes: layer.tree.bytes(),
        environment: None,
        files: layer.tree.files(),
        mount: String::new(),
        name: "deps".parse().unwrap(),
        roles: vec![],
        tree: layer.id,
    };
    Artifact::new("bench".parse().unwrap(), None, vec![layer], serde_json::Map::new()).unwrap()
}

fn timed<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = work();
    times.push(start.elapsed());
    value
}

fn main() {
    let Some(tree) = std::env::var_os("LANDFALL_BENCH_TREE") else {
        println!("LANDFALL_BENCH_TREE names no directory: nothing is measured");
        return;
    };
    let source = LayerSource {
        name: "deps".parse().unwrap(),
        root: tree.into(),
        files: vec![Mapping { from: ".".into(), to: String::new() }],
        exclude: vec![],
        env: false,
        env_files: vec![],
    };
    let names = ["scan", "push", "scan again", "push again", "fetch"];
    let mut times: [Vec<Duration>; 5] = Default::default();
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir().unwrap();
        round(&source, dir.path(), &mut times);
    }
    for (name, mut times) in names.iter().zip(times) {
        times.sort();
        println!("{name:>12}: median {:>9.3?}, best {:>9.3?}", times[ROUNDS / 2], times[0]);
    }
}

fn round(source: &LayerSource, dir: &Path, times: &mut [Vec<Duration>; 5]) {
    let store = Store::create(&dir.join("store")).unwrap();
    let options = ScanOptions { cache_dir: Some(dir.join("cache")) };
    let scan = || {
        let known = look(&store, &"bench".parse().unwrap()).unwrap();
        scan_ahead(source, &options, &mut Ahead::new(known.contents(), LEVEL)).unwrap()
    };
    let layer = timed(&mut times[0], scan);
    let pushed = |layer: &ScannedLayer| {
        push(&store, &artifact(layer), &[layer.content()], &PushOptions::default()).unwrap()
    };
    let report = timed(&mut times[1], || pushed(&layer));
    let again = timed(&mut times[2], scan);
    timed(&mut times[3], || pushed(&again));
    timed(&mut times[4], || fetch::blobs(&store, &[&layer.tree], &Verifier, &Watch::NOBODY).unwrap());
    println!("{:?}, {} bytes stored, again {:?}", layer.counters, report.stored_bytes, again.counters);
}
