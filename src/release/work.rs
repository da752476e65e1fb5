//! The heavy work on releases: lists of every file, contents, hashes. It is done in a process of its own.

use landfall_store::ArtifactId;
use landfall_store::collect::hold;
use serde::{Deserialize, Serialize};

use super::{Inner, failure};
use crate::effects::{Depth, Setback};
use crate::gc::{self, GcError, Limits, Scope};
use crate::record::content::Content;
use crate::record::journal::{Class, Failure};
use crate::record::release::{ReleaseRecord, ReleaseRef};

/// One piece of it, as it is ordered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// Everything of an artifact that belongs on this host. Gives the record of its release.
    Bring(ArtifactId),
    /// The release's directory, before its steps; where it has none, prepared.
    Build(Box<ReleaseRecord>),
    /// Freezes the directory after the last step and marks it prepared.
    Finish(Box<ReleaseRecord>),
    /// Drops a release that was not prepared to its end.
    Discard(ReleaseRef),
    /// Compares a release with its record. Gives the record.
    Check(ReleaseRef, Depth),
    /// Brings `assets` up to these releases, newest first.
    KeepAssets(Vec<String>),
    /// Removes from the host's cache what nothing needs.
    Collect(Scope, Limits),
    /// Compares the release of this name with its record, and mends nothing. Gives what differs.
    LookOver(String),
}

impl Work {
    /// Whether it needs this host's processors and disk for long.
    pub(super) const fn makes_a_release(&self) -> bool {
        matches!(self, Self::Build(_) | Self::Finish(_))
    }
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Product {
    /// A release as it is on disk.
    Record(Box<ReleaseRecord>),
    /// How its files differ.
    Content(Content),
    /// The work itself was all.
    Nothing,
}

impl TryFrom<Product> for ReleaseRecord {
    type Error = Failure;

    fn try_from(product: Product) -> Result<Self, Failure> {
        match product {
            Product::Record(record) => Ok(*record),
            Product::Content(_) | Product::Nothing => Err(mixed_up()),
        }
    }
}

impl TryFrom<Product> for Content {
    type Error = Failure;

    fn try_from(product: Product) -> Result<Self, Failure> {
        match product {
            Product::Content(content) => Ok(content),
            Product::Record(_) | Product::Nothing => Err(mixed_up()),
        }
    }
}

impl TryFrom<Product> for () {
    type Error = Failure;

    fn try_from(product: Product) -> Result<Self, Failure> {
        match product {
            Product::Nothing => Ok(()),
            Product::Record(_) | Product::Content(_) => Err(mixed_up()),
        }
    }
}

fn mixed_up() -> Failure {
    failure(Class::Host, "WorkerLost", "landfall's helper process answered something else than it was asked")
}

/// A cache that a deploy uses is left for the next time.
fn collect(scope: &Scope, limits: &Limits) -> Result<(), Failure> {
    match gc::run(scope, limits, false) {
        Ok(collected) if collected.contents + collected.documents > 0 => {
            tracing::info!(
                contents = collected.contents,
                bytes = collected.content_bytes,
                documents = collected.documents,
                "removed from the cache what nothing needs"
            );
            Ok(())
        }
        Ok(_) | Err(GcError::Busy) => Ok(()),
        Err(error) => Err(failure(Class::Host, "NotCollected", error)),
    }
}

impl Inner {
    /// Does it, on this thread and the store's.
    pub(super) fn perform(&self, work: Work) -> Result<Product, Setback> {
        let record = |record| Product::Record(Box::new(record));
        if let Work::Collect(scope, limits) = work {
            return Ok(collect(&scope, &limits).map(|()| Product::Nothing)?);
        }
        // What this work finds in the cache stays there until it is done.
        let _hold = hold(self.root.path()).map_err(|error| failure(Class::Host, "CacheUnusable", error))?;
        let done = match work {
            Work::Collect(..) => Ok(Product::Nothing),
            Work::Bring(artifact) => return self.bring(&artifact).map(|fetched| record(fetched.record)),
            Work::Build(release) => self.build(&release).map(|()| Product::Nothing),
            Work::Finish(release) => self.finish(&release).map(|()| Product::Nothing),
            Work::Discard(release) => self.discard(&release.name).map(|()| Product::Nothing),
            Work::Check(release, depth) => self.check(&release, depth).map(record),
            Work::KeepAssets(releases) => self.keep_assets(&releases).map(|()| Product::Nothing),
            Work::LookOver(name) => self.look_over(&name).map(Product::Content),
        };
        done.map_err(Setback::from)
    }
}
