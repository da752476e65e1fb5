//! What `landfall` does only as a part of something larger: filling a host's cache, and making a release from it.
//! `bench/peers` measures the second as a process, as it measures `cp -a`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on must stop")]

use std::io::{self, Read};
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use landfall_store::blob::BlobSource;
use landfall_store::cache::HostCache;
use landfall_store::contents::Contents;
use landfall_store::fetch::{self, Watch};
use landfall_store::materialise::{Job, materialise};
use landfall_store::{BlobId, Store, Tree, refs};

/// One operation of the store.
#[derive(Debug, Parser)]
enum Operation {
    /// Fetches a version's contents into a cache.
    Fill(What),
    /// Makes a release of a version from a cache that holds its contents.
    Materialise {
        #[command(flatten)]
        what: What,
        /// Its directory, with the release's name.
        #[arg(long)]
        releases: PathBuf,
        #[arg(long)]
        mode: Mode,
    },
}

#[derive(Debug, clap::Args)]
struct What {
    #[arg(long)]
    store: PathBuf,
    #[arg(long)]
    cache: PathBuf,
    app: String,
    version: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    Link,
    Copy,
}

fn main() {
    match Operation::parse() {
        Operation::Fill(what) => fill(&what),
        Operation::Materialise { what, releases, mode } => make(&what, &releases, mode),
    }
}

impl What {
    /// The trees of the version, as a host has them.
    fn trees(&self, store: &Store) -> Vec<Tree> {
        let app = self.app.parse().unwrap();
        let reference = refs::version(store, &app, &self.version.parse().unwrap()).unwrap().unwrap();
        let artifact = fetch::artifact(store, &reference.artifact()).unwrap();
        artifact.layers.iter().map(|layer| fetch::tree(store, &layer.tree).unwrap()).collect()
    }
}

fn fill(what: &What) {
    let store = Store::open(&what.store).unwrap();
    let cache = HostCache::open(&what.cache).unwrap();
    let incoming = cache.receive().unwrap();
    let trees = what.trees(&store);
    fetch::blobs(&store, &trees.iter().collect::<Vec<_>>(), &incoming, &Watch::NOBODY).unwrap();
    incoming.commit().unwrap();
}

fn make(what: &What, release: &std::path::Path, mode: Mode) {
    let store = Store::open(&what.store).unwrap();
    let cache = HostCache::open(&what.cache).unwrap();
    let trees = what.trees(&store);
    let contents = Contents { layers: trees.iter().collect(), ..Contents::default() };
    let job = Job {
        cache: &cache,
        contents: &contents,
        secrets: &Nothing,
        mode: match mode {
            Mode::Link => landfall_store::place::Mode::Link,
            Mode::Copy => landfall_store::place::Mode::Copy,
        },
        owner: None,
        writable: &[],
        releases: release.parent().unwrap(),
    };
    materialise(&job).unwrap().publish(release.file_name().unwrap().to_str().unwrap()).unwrap();
}

/// A release without env layers has no secrets.
struct Nothing;

impl BlobSource for Nothing {
    fn open(&self, blob: &BlobId, _: u64) -> io::Result<Box<dyn Read + '_>> {
        Err(io::Error::other(format!("{blob} is not an env file")))
    }
}
