//! How far a pack is.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use landfall_store::blob::BlobSource;
use landfall_store::pack::FrameBytes;
use landfall_store::scan::ScannedSource;
use landfall_store::{BlobId, Name};

use super::Scanned;
use crate::spec::Command;

/// What a pack is doing.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// `[build]` runs.
    Building(&'a Command),
    /// A layer's files are looked at, and read where the stat cache does not know them.
    Scanning {
        /// Which.
        layer: &'a Name,
    },
    /// Contents that the store lacks go into it.
    Storing {
        /// Contents read so far.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A delta is made.
    Comparing {
        /// To this layer.
        layer: &'a Name,
        /// From this version.
        from: &'a str,
    },
}

/// Who is told. Called from several threads.
#[derive(Clone, Copy)]
pub struct Watch<'a>(pub &'a (dyn Fn(Event<'_>) + Sync));

impl Watch<'_> {
    /// Nobody.
    pub const NOBODY: Watch<'static> = Watch(&|_| {});

    pub(super) fn tell(&self, event: Event<'_>) {
        (self.0)(event);
    }
}

/// The contents of a layer, counted as they are read.
pub(super) struct Counted<'a> {
    source: &'a ScannedSource,
    totals: &'a Totals<'a>,
}

/// What all layers of a pack have given so far.
pub(super) struct Totals<'a> {
    files: AtomicU64,
    bytes: AtomicU64,
    watch: &'a Watch<'a>,
}

impl<'a> Totals<'a> {
    pub(super) fn new(watch: &'a Watch<'a>) -> Self {
        Self { files: AtomicU64::new(0), bytes: AtomicU64::new(0), watch }
    }

    /// The contents of each layer.
    pub(super) fn over(&'a self, layers: &'a [Scanned]) -> Vec<Counted<'a>> {
        layers.iter().map(|layer| Counted { source: &layer.found.source, totals: self }).collect()
    }
}

impl Totals<'_> {
    fn count(&self, files: u64, bytes: u64) {
        let files = self.files.fetch_add(files, Ordering::Relaxed) + files;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.watch.tell(Event::Storing { files, bytes });
    }
}

impl BlobSource for Counted<'_> {
    fn open(&self, blob: &BlobId, size: u64) -> io::Result<Box<dyn Read + '_>> {
        self.totals.count(1, size);
        self.source.open(blob, size)
    }

    fn frame(&self, blobs: &[(BlobId, u64)], level: i32) -> Option<FrameBytes> {
        let frame = self.source.frame(blobs, level)?;
        self.totals.count(blobs.len() as u64, u64::from(frame.raw));
        Some(frame)
    }
}
