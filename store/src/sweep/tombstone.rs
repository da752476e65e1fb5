//! Tombstones: what a run of the collection condemned, for a later run to remove. Nothing else is ever removed.

use std::collections::{BTreeSet, HashSet};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Family, Item};
use crate::backend::{Access, BackendError, Key, Listed};
use crate::error::StoreError;
use crate::inflate::{deflate, inflate};
use crate::layout;
use crate::limits::{TOMBSTONE_BYTES_MAX, TOMBSTONE_RAW_BYTES_MAX};
use crate::store::Store;

const LEVEL: i32 = 3;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u32,
    keys: Vec<String>,
}

/// What one run condemned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Its key.
    pub key: Key,
    /// When it was written, by the store's clock.
    pub written: SystemTime,
    /// What it condemns; `None` if it cannot be understood: then it condemns nothing.
    pub condemned: Option<Vec<Key>>,
}

/// Condemns objects. Durable when it returns.
pub(super) fn write(store: &Store, run: &str, condemned: &[Item]) -> Result<(), StoreError> {
    let key = layout::tombstone(run);
    let keys = condemned.iter().map(|item| item.key.to_string()).collect();
    let text = serde_json::to_vec(&Wire { v: 1, keys }).map_err(|error| store.damaged(&key, error))?;
    let bytes = deflate(&text, LEVEL).map_err(StoreError::Compress)?;
    store.backend().put_new(&key, &bytes, Access::Public)?;
    Ok(())
}

/// Every tombstone.
pub(super) fn read_all(store: &Store) -> Result<Vec<Tombstone>, StoreError> {
    let listed = store.backend().list(&layout::runs())?;
    listed.into_iter().filter(|item| layout::is_tombstone(&item.key)).map(|item| read(store, item)).collect()
}

fn read(store: &Store, item: Listed) -> Result<Tombstone, StoreError> {
    let Listed { key, modified: written, .. } = item;
    let mut condemned = None;
    // Once more before it is called damaged: a bit may have flipped on the way.
    for _ in 0..2 {
        // One that is not there any more condemns nothing: what it named is gone or was spared.
        condemned = match store.backend().find(&key, TOMBSTONE_BYTES_MAX) {
            Ok(Some(bytes)) => decode(&bytes),
            Ok(None) => Some(Vec::new()),
            Err(BackendError::TooLarge { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if condemned.is_some() {
            break;
        }
    }
    Ok(Tombstone { key, written, condemned })
}

/// Whether bytes have the form of a tombstone.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    decode(bytes).map(drop).ok_or_else(|| "no tombstone has this form".to_owned())
}

fn decode(bytes: &[u8]) -> Option<Vec<Key>> {
    let text = inflate(bytes, TOMBSTONE_RAW_BYTES_MAX).ok()?;
    let wire: Wire = serde_json::from_slice(&text).ok()?;
    (wire.v == 1).then_some(())?;
    wire.keys.into_iter().map(|key| Key::new(key).ok().filter(|key| Family::of(key).is_some())).collect()
}

/// What a writer must not rely on: everything that is condemned as it begins.
#[derive(Default)]
pub(crate) struct Condemned {
    read: BTreeSet<Key>,
    keys: HashSet<Key>,
}

impl Condemned {
    /// Reads every tombstone there is.
    pub(crate) fn read(store: &Store) -> Result<Self, StoreError> {
        let mut all = Self::default();
        all.learn(store)?;
        Ok(all)
    }

    /// Whether an object is condemned: it may go at any time after this writer's lease.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    /// Reads tombstones that are new; gives back what they condemn.
    pub(crate) fn learn(&mut self, store: &Store) -> Result<HashSet<Key>, StoreError> {
        let mut new = HashSet::new();
        for item in store.backend().list(&layout::runs())? {
            if layout::is_tombstone(&item.key) && !self.read.contains(&item.key) {
                let tombstone = read(store, item)?;
                self.read.insert(tombstone.key);
                new.extend(tombstone.condemned.unwrap_or_default());
            }
        }
        self.keys.extend(new.iter().cloned());
        Ok(new)
    }
}
