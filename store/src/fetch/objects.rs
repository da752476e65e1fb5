//! Reading single objects: their bytes against their names, before anything is parsed.

use crate::artifact::Artifact;
use crate::backend::{BackendError, Key};
use crate::digest::{ArtifactId, TreeId};
use crate::error::StoreError;
use crate::inflate::inflate;
use crate::layout;
use crate::limits::{ARTIFACT_BYTES_MAX, TREE_BYTES_MAX};
use crate::store::Store;
use crate::tree::Tree;

/// Reads an artifact and verifies its bytes against its id.
pub fn artifact(store: &Store, id: &ArtifactId) -> Result<Artifact, StoreError> {
    let key = layout::artifact(id);
    read_twice(store, &key, ARTIFACT_BYTES_MAX, |bytes| {
        if ArtifactId::of(&bytes) != *id {
            return Err("its bytes do not match its id".to_owned());
        }
        Artifact::decode(&bytes).map_err(|error| error.to_string())
    })
}

/// Reads a tree and verifies its canonical bytes against its id.
pub fn tree(store: &Store, id: &TreeId) -> Result<Tree, StoreError> {
    let key = layout::tree(id);
    read_twice(store, &key, TREE_BYTES_MAX, |stored| {
        let bytes = inflate(&stored, TREE_BYTES_MAX).map_err(|error| error.to_string())?;
        if TreeId::of(&bytes) != *id {
            return Err("its bytes do not match its id".to_owned());
        }
        Tree::decode(&bytes).map_err(|error| error.to_string())
    })
}

fn read_twice<T>(
    store: &Store,
    key: &Key,
    max: usize,
    check: impl Fn(Vec<u8>) -> Result<T, String>,
) -> Result<T, StoreError> {
    read_checked(store, key, max, check)?.map_err(|why| store.damaged(key, why))
}

/// Reads and checks an object; an answer that fails the check may have been damaged on its way, so it is asked
/// for once more, and once of every other place. The inner error says what is wrong with all of them.
pub(super) fn read_checked<T>(
    store: &Store,
    key: &Key,
    max: usize,
    check: impl Fn(Vec<u8>) -> Result<T, String>,
) -> Result<Result<T, String>, BackendError> {
    let mut again = true;
    loop {
        let checked = match store.backend().get(key, max as u64) {
            Ok(bytes) => check(bytes),
            Err(BackendError::TooLarge { .. }) => Err("it is larger than any".to_owned()),
            Err(error) => return Err(error),
        };
        match checked {
            Err(why) if again => {
                tracing::warn!(object = %key, why, "damaged, reading it again");
                again = store.backend().mistrust(key);
            }
            checked => return Ok(checked),
        }
    }
}
