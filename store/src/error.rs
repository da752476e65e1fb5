//! Why a store could not give or take what it was asked to.

use std::io;
use std::time::Duration;

use crate::artifact::ArtifactError;
use crate::backend::BackendError;
use crate::digest::{ArtifactId, BlobId};
use crate::name::{Name, Version};

/// What went wrong with a store or one of its objects.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The place of the store failed or lacks an object.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// No `landfall-store.json`.
    #[error("{0} is not a landfall store: it has no landfall-store.json")]
    NotAStore(String),
    /// A kind of store that this landfall cannot open.
    #[error("{0}: this landfall works with directories and HTTP servers only")]
    Unbuilt(String),
    /// The store's own record does not parse.
    #[error("landfall-store.json in {at} is damaged: {why}")]
    Record {
        /// The store.
        at: String,
        /// What is wrong with it.
        why: String,
    },
    /// A newer store.
    #[error(
        "the store {at} has format {format} and needs a landfall that {verb} store format {needed}; this one \
         knows {known}: install a newer landfall"
    )]
    NewerFormat {
        /// The store.
        at: String,
        /// Its format.
        format: u32,
        /// `reads` or `writes`.
        verb: &'static str,
        /// The least format number needed.
        needed: u32,
        /// What this landfall knows.
        known: u32,
    },
    /// The store has a feature that this landfall would destroy by writing.
    #[error("the store {at} uses `{feature}`, which this landfall cannot write: install a newer landfall")]
    UnknownFeature {
        /// The store.
        at: String,
        /// The feature.
        feature: String,
    },
    /// An object's bytes are not what its name says, twice.
    #[error(
        "`{object}` in the store {at} is damaged: {why}; push its artifact again from an undamaged store"
    )]
    Damaged {
        /// Its key.
        object: String,
        /// The store.
        at: String,
        /// How it was noticed.
        why: String,
    },
    /// A content can be had from no pack.
    #[error(
        "content {} of `{path}`{} cannot be had from the store {at}: {why}; push its artifact again from an \
         undamaged store", .blob.0.short(), others(.more)
    )]
    Unavailable {
        /// The content.
        blob: BlobId,
        /// The first file that needs it.
        path: String,
        /// How many other files are affected by this or other unavailable contents.
        more: usize,
        /// The store.
        at: String,
        /// What was tried, by pack.
        why: String,
    },
    /// A document does not have its form.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A version that is taken.
    #[error(
        "version {version} of {app} is artifact b3:{} already, this one is b3:{}", .existing.short(), .new.short()
    )]
    VersionTaken {
        /// The app.
        app: Name,
        /// The version.
        version: Version,
        /// What it names.
        existing: ArtifactId,
        /// What was pushed.
        new: ArtifactId,
    },
    /// No artifact by this name.
    #[error("no artifact `{text}` in the store {at}{}", listed(.candidates))]
    UnknownArtifact {
        /// What was asked for.
        text: String,
        /// The store.
        at: String,
        /// What there is.
        candidates: Vec<String>,
    },
    /// The name could only be found in a list, and the store gives none.
    #[error("`{text}` cannot be looked up in the store {at}: its server gives no lists")]
    Unlisted {
        /// What was asked for.
        text: String,
        /// The store.
        at: String,
    },
    /// Several artifacts by this name.
    #[error("`{text}` may be any of several artifacts{}", listed(.candidates))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// What it may mean.
        candidates: Vec<String>,
    },
    /// A file is not what it was when it was scanned.
    #[error("layer \"{layer}\": {path} changed while it was packed; nothing refers to what was stored")]
    Changed {
        /// The layer.
        layer: String,
        /// The path in it.
        path: String,
    },
    /// A content that is to be stored cannot be read.
    #[error("layer \"{layer}\": cannot read {path}: {source}")]
    Source {
        /// The layer.
        layer: String,
        /// The path in it.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The caller's layers do not fit the artifact.
    #[error("layer \"{layer}\": {why}")]
    Layer {
        /// The layer.
        layer: String,
        /// What does not fit.
        why: &'static str,
    },
    /// The receiver of contents failed.
    #[error("cannot keep content {}: {source}", .blob.0.short())]
    Sink {
        /// The content.
        blob: BlobId,
        /// The receiver's answer.
        source: io::Error,
    },
    /// A compressor failed.
    #[error("cannot compress: {0}")]
    Compress(io::Error),
    /// Whoever writes held no lease for a while.
    #[error(
        "the lease on the store {at} ended before its work did: it was not renewed for {term_s} s (did this \
         machine sleep?), and a collection may have run since; nothing refers to what was stored: run it again"
    )]
    Lapsed {
        /// The store.
        at: String,
        /// How long a lease lasts.
        term_s: u64,
    },
    /// A collection removes objects now.
    #[error("a collection is removing objects of the store {at} now; try again when it is done")]
    Sweeping {
        /// The store.
        at: String,
    },
    /// Collections condemn what a push relies on faster than it can finish.
    #[error(
        "collections of the store {at} condemned what this push relies on, again and again; run it again"
    )]
    Condemned {
        /// The store.
        at: String,
    },
    /// The caller asked to stop.
    #[error("interrupted; what is already there stays and is used by the next run")]
    Cancelled,
}

impl StoreError {
    /// How long the store's server asked to be left alone.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Backend(BackendError::Unreachable { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }
}

fn others(more: &usize) -> String {
    if *more == 0 { String::new() } else { format!(" (and of {more} other files)") }
}

fn listed(found: &[String]) -> String {
    if found.is_empty() { String::new() } else { format!("; there are: {}", found.join(", ")) }
}
