//! What packs say they hold: their `.idx`, or, where that is missing or damaged, the directory at their end.

use std::io::Read;

use crate::backend::{Backend, BackendError};
use crate::digest::PackId;
use crate::error::StoreError;
use crate::layout;
use crate::limits::PACK_DIRECTORY_BYTES_MAX;
use crate::pack::{Directory, PackError, TRAILER_BYTES, Trailer};
use crate::store::Store;

/// The packs of a store, with the size of their `.idx` if they have one, and their own.
pub(crate) struct PackList {
    /// All packs, by id.
    pub(crate) packs: Vec<(PackId, u64)>,
    /// Those with an `.idx`, and its size.
    pub(crate) indexed: Vec<(PackId, u64)>,
}

pub(crate) fn packs(store: &Store) -> Result<PackList, StoreError> {
    let mut list = PackList { packs: Vec::new(), indexed: Vec::new() };
    let listed = match store.backend().list(&layout::packs()) {
        Err(error) if error.is_unsupported() => {
            tracing::debug!(%error, "no pack is known but those that locators name");
            Vec::new()
        }
        listed => listed?,
    };
    for item in listed {
        if let Some(id) = layout::digest_of(&item.key, "lfp") {
            list.packs.push((PackId(id), item.size));
        } else if let Some(id) = layout::digest_of(&item.key, "idx") {
            list.indexed.push((PackId(id), item.size));
        }
    }
    Ok(list)
}

/// The directory of a pack. Believed no further than a locator: contents found through it are verified.
pub(crate) fn of_pack(store: &Store, pack: &PackId) -> Result<Directory, StoreError> {
    if let Some(directory) = from_index(store, pack)? {
        return Ok(directory);
    }
    inside_pack(store, pack)
}

/// The directory inside a pack, whatever its `.idx` says.
pub(crate) fn inside_pack(store: &Store, pack: &PackId) -> Result<Directory, StoreError> {
    // Once more before it is called damaged: a bit may have flipped on the way.
    match from_trailer(store.backend(), pack)? {
        Ok(directory) => Ok(directory),
        Err(_) => {
            from_trailer(store.backend(), pack)?.map_err(|error| store.damaged(layout::pack(pack), error))
        }
    }
}

fn from_index(store: &Store, pack: &PackId) -> Result<Option<Directory>, StoreError> {
    let key = layout::index(pack);
    let bytes = match store.backend().find(&key, PACK_DIRECTORY_BYTES_MAX) {
        Ok(Some(bytes)) => bytes,
        Ok(None) | Err(BackendError::TooLarge { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match Directory::decode(&bytes) {
        Ok(directory) => Ok(Some(directory)),
        Err(error) => {
            tracing::warn!(object = %key, %error, "damaged, reading the pack's own directory");
            Ok(None)
        }
    }
}

/// The directory at a pack's own end.
pub(crate) fn from_trailer(
    backend: &dyn Backend,
    pack: &PackId,
) -> Result<Result<Directory, PackError>, BackendError> {
    let key = layout::pack(pack);
    let size = backend
        .size(&key)?
        .ok_or_else(|| BackendError::NotFound { key: key.clone(), at: backend.location() })?;
    let read = |offset: u64, length: u64| {
        let mut bytes = Vec::new();
        let mut reader = backend.read(&key, offset, length)?;
        let read = reader.read_to_end(&mut bytes);
        read.map_err(|source| BackendError::io("read", &key, backend.location(), source))?;
        Ok(bytes)
    };
    let Some(at) = size.checked_sub(TRAILER_BYTES as u64) else { return Ok(Err(PackError::Trailer)) };
    let trailer = match Trailer::decode(&read(at, TRAILER_BYTES as u64)?, size) {
        Ok(trailer) => trailer,
        Err(error) => return Ok(Err(error)),
    };
    Ok(trailer.directory(&read(trailer.offset, trailer.length)?))
}
