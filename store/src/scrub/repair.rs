//! Making a damaged store ready to be healed by pushes: what is damaged is taken away, or out of the way, so that
//! the next push of the same content does not take it for granted.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use super::{Damage, Fault, Report};
use crate::backend::{Access, BackendError, Key};
use crate::digest::{Digest, PackId};
use crate::error::StoreError;
use crate::fetch;
use crate::layout;
use crate::lease::{self, Claim, Pace};
use crate::limits::PACK_DIRECTORY_BYTES_MAX;
use crate::pack::{self, Directory};
use crate::store::Store;
use crate::sweep::Family;

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Takes away what `report` found, as far as a push can store it again; gives back the keys that changed.
///
/// - a damaged version, tree, locator or directory copy is removed; a copy whose pack is whole is written anew;
/// - a pack whose frames are whole is put together again from them and the copy of its directory;
/// - another damaged pack loses its directory copy, so that no push relies on it any more, and trees that need what it
///   or no pack gives lose their locators, so that a push packs these contents anew. The pack itself stays: what
///   is whole in it can still be fetched, and a push of the same pack replaces it.
///
/// A damaged artifact stays too: a push of it replaces it.
pub fn repair(store: &Store, report: &Report, pace: Pace<'_>) -> Result<Vec<Key>, StoreError> {
    store.check_writable()?;
    let lease = Claim::lease(store, "repair", pace)?;
    lease::wait_for_sweeps(&lease, &|| false)?;
    let mut gone: BTreeSet<Key> = BTreeSet::new();
    let damaged_packs: BTreeSet<&str> =
        of_kind(report, "pack").map(|damage| damage.object.as_str()).collect();
    for damage in &report.damages {
        let family = Key::new(damage.object.as_str()).ok().and_then(|key| Family::of(&key));
        match family {
            Some(Family::Pack(id)) if rebuild(store, &id)? => continue,
            // The only directory of a pack that nothing is lost from stays.
            Some(Family::Pack(id)) if damage.needed_by.is_empty() && !has_directory(store, &id)? => {}
            Some(Family::Pack(id)) => gone.extend([layout::index(&id)]),
            Some(Family::Index(id)) if !damaged_packs.contains(layout::pack(&id).as_str()) => {
                rewrite_index(store, &id)?;
            }
            Some(Family::Tree(id)) => gone.extend([layout::tree(&id), layout::segments(&id)]),
            Some(Family::Artifact(_)) => {}
            Some(_) if damage.fault == Fault::Damaged => gone.extend(Key::new(damage.object.as_str())),
            Some(_) | None => {}
        }
        gone.extend(damage.trees.iter().map(layout::locator));
        lease.keep()?;
    }
    let mut changed = Vec::new();
    for key in gone {
        lease.keep()?;
        if store.backend().size(&key)?.is_some() {
            store.backend().delete(&key)?;
            changed.push(key);
        }
    }
    Ok(changed)
}

fn of_kind<'a>(report: &'a Report, kind: &'static str) -> impl Iterator<Item = &'a Damage> {
    report.damages.iter().filter(move |damage| damage.kind == kind)
}

/// Whether the directory inside a pack can be read.
fn has_directory(store: &Store, id: &PackId) -> Result<bool, StoreError> {
    match fetch::inside_pack(store, id) {
        Ok(_) => Ok(true),
        Err(StoreError::Damaged { .. } | StoreError::Backend(BackendError::NotFound { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a pack anew from its own frames and the copy of its directory, if that gives the pack it is named for.
fn rebuild(store: &Store, id: &PackId) -> Result<bool, StoreError> {
    let backend = store.backend();
    let (key, at) = (layout::pack(id), layout::index(id));
    let (Some(_), Ok(Some(index))) = (backend.size(&key)?, backend.find(&at, PACK_DIRECTORY_BYTES_MAX))
    else {
        return Ok(false);
    };
    let Ok(directory) = Directory::decode(&index) else { return Ok(false) };
    let Ok(tail) = pack::tail(&index, directory.frames_end()) else { return Ok(false) };
    let mut hasher = blake3::Hasher::new();
    let mut upload = backend.begin(Some(&layout::packs()), Access::Public)?;
    let mut frames = backend.read(&key, 0, directory.frames_end())?.chain(tail.as_slice());
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = frames.read(&mut buffer);
        let count = read.map_err(|source| BackendError::io("read", &key, store.location(), source))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        let written = upload.write_all(&buffer[..count]);
        written.map_err(|source| BackendError::io("write", &key, store.location(), source))?;
    }
    if Digest::from(hasher.finalize()) != id.0 {
        return Ok(false);
    }
    upload.overwrite(&key)?;
    Ok(true)
}

fn rewrite_index(store: &Store, id: &PackId) -> Result<(), StoreError> {
    let key = layout::index(id);
    let directory = fetch::inside_pack(store, id)?;
    let bytes = directory.encode().map_err(|error| store.damaged(&key, error))?;
    Ok(store.backend().overwrite(&key, &bytes, Access::Public)?)
}
