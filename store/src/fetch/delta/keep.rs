//! Keeping what a delta gives.

use std::io::{self, Read};
use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::{DeltaError, Ids};
use crate::blob::{BlobSink, BlobSource, Want};
use crate::error::StoreError;
use crate::fetch::read::Counters;
use crate::fetch::{Progress, Watch};

/// Keeps what was proved.
pub(super) struct Keeper<'a> {
    pub(super) ids: Ids,
    pub(super) sink: &'a dyn BlobSink,
    pub(super) watch: &'a Watch<'a>,
    pub(super) counters: &'a Counters,
    pub(super) total: Progress,
}

impl Keeper<'_> {
    /// Keeps a content if it is what it is named for.
    pub(super) fn put(&self, want: &Want, content: &mut dyn Read) -> Result<(), DeltaError> {
        match self.sink.put(want, content) {
            Ok(()) => {
                self.counters.blobs.fetch_add(1, Ordering::Relaxed);
                self.counters.bytes.fetch_add(want.size, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(self.ids.unusable(format!("content {} comes out wrong", want.blob.0.short())))
            }
            Err(source) => Err(DeltaError::Fatal(StoreError::Sink { blob: want.blob, source })),
        }
    }

    /// Contents that are here in another form.
    pub(super) fn take_over(&self, wants: &[Want], have: &dyn BlobSource) -> Result<(), DeltaError> {
        wants.par_iter().try_for_each(|want| {
            let lacks =
                |error| self.ids.unusable(format!("content {} is not here: {error}", want.blob.0.short()));
            self.put(want, &mut have.open(&want.blob, want.size).map_err(lacks)?)
        })
    }

    /// Reports, and asks whether to go on.
    pub(super) fn tick(&self) -> Result<(), DeltaError> {
        (self.watch.progress)(Progress {
            blobs: self.counters.blobs.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
            moved: self.counters.moved.load(Ordering::Relaxed),
            ..self.total
        });
        if (self.watch.cancel)() { Err(DeltaError::Fatal(StoreError::Cancelled)) } else { Ok(()) }
    }
}
