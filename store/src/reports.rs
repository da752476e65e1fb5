//! Small documents that hosts leave beside the artifacts: what runs on them, and what they have tried. To the
//! store they are opaque; whoever reads one checks it.
//!
//! They are no part of any artifact, collection passes them by, and only their writers replace them.

use std::time::SystemTime;

use crate::backend::{Key, KeyError};
use crate::error::StoreError;
use crate::layout;
use crate::store::Store;

/// Bytes of one document: the statuses of hundreds of apps, or hundreds of attempts.
pub const REPORT_BYTES_MAX: u64 = 4 << 20;

/// A document that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name, as it was given.
    pub name: String,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
}

/// Why a name is none.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It could leave its place.
    #[error(transparent)]
    Name(#[from] KeyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes a document, in place of an older one of its name. Durable when it returns.
pub fn put(store: &Store, name: &str, bytes: &[u8]) -> Result<(), ReportError> {
    let key = key(name)?;
    store.backend().replace(&key, bytes).map_err(|error| StoreError::from(error).into())
}

/// Reads a document; `None`: there is none.
pub fn get(store: &Store, name: &str) -> Result<Option<Vec<u8>>, ReportError> {
    let key = key(name)?;
    store.backend().find(&key, REPORT_BYTES_MAX).map_err(|error| StoreError::from(error).into())
}

/// Every document there is, in order of names.
pub fn list(store: &Store) -> Result<Vec<Found>, ReportError> {
    let top = layout::reports();
    let listed = store.backend().list(&top).map_err(StoreError::from)?;
    let name = |key: &Key| key.as_str().strip_prefix(top.as_str())?.strip_prefix('/').map(str::to_owned);
    Ok(listed
        .into_iter()
        .filter_map(|item| Some(Found { name: name(&item.key)?, modified: item.modified }))
        .collect())
}

fn key(name: &str) -> Result<Key, KeyError> {
    layout::reports().join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_replaced_whole_listed_by_its_name_and_never_leaves_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path()).unwrap();
        assert_eq!(get(&store, "web-1/host.json").unwrap(), None);
        put(&store, "web-1/host.json", b"one").unwrap();
        put(&store, "web-1/host.json", b"two").unwrap();
        assert_eq!(get(&store, "web-1/host.json").unwrap().unwrap(), b"two");
        let names: Vec<String> = list(&store).unwrap().into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["web-1/host.json"]);
        for bad in ["../artifacts/x", "/etc/passwd", "", "a//b"] {
            assert!(put(&store, bad, b"x").is_err(), "{bad:?}");
        }
    }
}
