//! Reading the few contents a comparison needs, verified, into memory.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use landfall_store::blob::{BlobSink, Want};
use landfall_store::fetch::{self, Watch};
use landfall_store::{BlobId, Entry, Kind, Store, StoreError, Tree};

use super::dependencies::{Evidence, Found, Which};
use super::tree::FileChange;

/// Bytes of one lockfile or manifest: the largest lockfile seen is under 4 MiB.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Installed packages whose manifests are read; an upgrade of more is a new tree, not a change.
const FILES_MAX: usize = 20_000;

/// Reads what the changed files of one layer say about dependencies.
pub(super) fn dependencies(
    store: &Store,
    trees: (&Tree, &Tree),
    changes: &[FileChange],
    found: &mut Found,
) -> Result<(), StoreError> {
    let mut relevant: Vec<(&str, Evidence)> = changes
        .iter()
        .filter_map(|change| Some((change.path.as_str(), Evidence::at(&change.path)?)))
        .collect();
    // The most exact kinds are read; manifests of a thousand packages say nothing that their lockfile does not.
    let best = relevant.iter().map(|(_, evidence)| *evidence).min();
    relevant.retain(|(_, evidence)| best.is_some_and(|best| *evidence <= best.max(Evidence::PnpmLock)));
    relevant.truncate(FILES_MAX);
    for (which, tree) in [(Which::Old, trees.0), (Which::New, trees.1)] {
        let wanted: Vec<(Want, Evidence)> =
            relevant.iter().filter_map(|(path, evidence)| Some((want(tree, path)?, *evidence))).collect();
        let contents = contents(store, tree, &wanted)?;
        for (want, evidence) in wanted {
            if let Some(bytes) = contents.get(&want.blob) {
                found.take(which, evidence, &String::from_utf8_lossy(bytes));
            }
        }
    }
    Ok(())
}

fn want(tree: &Tree, path: &str) -> Option<Want> {
    let raw = landfall_store::path::unescape(path)?;
    match tree.get(&raw) {
        Some(Entry { kind: Kind::File { size, blob, executable }, .. }) if *size <= FILE_BYTES_MAX => {
            Some(Want { blob: *blob, size: *size, executable: *executable })
        }
        _ => None,
    }
}

fn contents(
    store: &Store,
    tree: &Tree,
    wanted: &[(Want, Evidence)],
) -> Result<HashMap<BlobId, Vec<u8>>, StoreError> {
    let memory = Memory { wanted: wanted.iter().map(|(want, _)| *want).collect(), kept: Mutex::default() };
    if !memory.wanted.is_empty() {
        fetch::blobs(store, &[tree], &memory, &Watch::NOBODY)?;
    }
    Ok(memory.kept.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// One file of a tree, verified; `None`: the tree has no such file, or it is too large to be read here.
pub(crate) fn content(store: &Store, tree: &Tree, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(want) = want(tree, path) else { return Ok(None) };
    Ok(contents(store, tree, &[(want, Evidence::NpmLock)])?.remove(&want.blob))
}

/// Keeps some contents, and claims to have all others.
struct Memory {
    wanted: HashSet<Want>,
    kept: Mutex<HashMap<BlobId, Vec<u8>>>,
}

impl BlobSink for Memory {
    fn has(&self, want: &Want) -> io::Result<bool> {
        Ok(!self.wanted.contains(want))
    }

    fn put(&self, want: &Want, content: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        content.take(want.size + 1).read_to_end(&mut bytes)?;
        if BlobId::of(&bytes) != want.blob {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the content does not match its id"));
        }
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(want.blob, bytes);
        Ok(())
    }
}
