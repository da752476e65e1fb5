//! What all requests share.

use std::sync::Arc;

use hyper::StatusCode;
use landfall_store::backend::DirBackend;
use tokio::sync::Semaphore;

use super::answer::Refusal;
use super::limits::{PROOFS, REPORTS, UPLOADS};
use super::metrics::Metrics;
use super::route::Gates;
use super::tokens::Doors;

/// A store being served.
pub struct Serving {
    store: Arc<DirBackend>,
    doors: Doors,
    metrics: Arc<Metrics>,
    upload_bytes: u64,
    pub(super) uploads: Arc<Semaphore>,
    pub(super) reports: Arc<Semaphore>,
    pub(super) proofs: Arc<Semaphore>,
    /// Held while a mutable object is compared and replaced.
    pub(super) changing: Arc<std::sync::Mutex<()>>,
    /// The same for reports, while what a host has left is counted, too.
    pub(super) reporting: Arc<std::sync::Mutex<()>>,
}

impl Serving {
    /// Serves this store to those whom the doors let in.
    pub fn new(store: DirBackend, doors: Doors, upload_bytes: u64) -> Self {
        Self {
            store: Arc::new(store),
            doors,
            metrics: Arc::default(),
            upload_bytes,
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            reports: Arc::new(Semaphore::new(REPORTS)),
            proofs: Arc::new(Semaphore::new(PROOFS)),
            changing: Arc::default(),
            reporting: Arc::default(),
        }
    }

    /// The store.
    pub fn store(&self) -> Arc<DirBackend> {
        Arc::clone(&self.store)
    }

    /// Who may come in.
    pub const fn doors(&self) -> &Doors {
        &self.doors
    }

    /// What that means for requests.
    pub const fn gates(&self) -> Gates {
        Gates {
            push: self.doors.push.is_some(),
            read: self.doors.read.is_some(),
            report: self.doors.report.is_some(),
        }
    }

    /// Everything that is counted.
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Bytes that one upload may have.
    pub const fn upload_bytes(&self) -> u64 {
        self.upload_bytes
    }
}

/// Runs what waits for the disk beside the network's threads.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a request failed inside");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "the server failed; its log says more")
    })
}
