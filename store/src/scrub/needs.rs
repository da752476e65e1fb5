//! Contents that trees need, and whether any pack gives them: 33 bytes each, however many trees need them.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::digest::BlobId;

/// A set that is filled, then closed, then marked from many threads.
#[derive(Default)]
pub(super) struct Needs {
    blobs: Vec<BlobId>,
    found: Vec<AtomicBool>,
}

impl Needs {
    /// Adds what one tree needs.
    pub(super) fn add(&mut self, blobs: impl Iterator<Item = BlobId>) {
        let mut more: Vec<BlobId> = blobs.filter(|blob| self.blobs.binary_search(blob).is_err()).collect();
        if !more.is_empty() {
            self.blobs.append(&mut more);
            self.blobs.sort_unstable();
            self.blobs.dedup();
        }
    }

    /// Nothing is added any more.
    pub(super) fn close(&mut self) {
        self.found = self.blobs.iter().map(|_| AtomicBool::new(false)).collect();
    }

    pub(super) fn len(&self) -> usize {
        self.blobs.len()
    }

    pub(super) fn has(&self, blob: &BlobId) -> bool {
        self.blobs.binary_search(blob).is_ok()
    }

    /// A pack gives it.
    pub(super) fn found(&self, blob: &BlobId) {
        if let Ok(index) = self.blobs.binary_search(blob)
            && let Some(found) = self.found.get(index)
        {
            found.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it is needed and no pack gives it.
    pub(super) fn is_lost(&self, blob: &BlobId) -> bool {
        let found = self.blobs.binary_search(blob).ok().and_then(|index| self.found.get(index));
        found.is_some_and(|found| !found.load(Ordering::Relaxed))
    }

    /// How many of them no pack gives.
    pub(super) fn lost(&self) -> u64 {
        self.found.iter().filter(|found| !found.load(Ordering::Relaxed)).count() as u64
    }
}
