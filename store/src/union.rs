//! Several releases' files in one directory: the newest release's file has a path that several claim.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use crate::blob::{BlobSink, Want};
use crate::cache::{CacheError, HostCache};
use crate::contents::PathSet;
use crate::fsio;
use crate::tree::{Entry, Kind, Tree, TreeError};

/// The files and links at and below `paths` of all trees, newest first, as one tree. A file of an older release
/// that stands where a newer one has a directory, or below a newer one's file, is left out.
pub fn merged(newest_first: &[Tree], paths: &PathSet) -> Result<Tree, TreeError> {
    let mut entries: BTreeMap<&[u8], &Entry> = BTreeMap::new();
    let mut dirs: HashSet<&[u8]> = HashSet::new();
    for tree in newest_first {
        let kept = tree.entries().iter().filter(|entry| entry.kind != Kind::EmptyDir);
        for entry in kept.filter(|entry| paths.covers(entry.path.as_bytes())) {
            let path = entry.path.as_bytes();
            let free = !entries.contains_key(path)
                && !dirs.contains(path)
                && !above(path).any(|dir| entries.contains_key(dir));
            if free {
                entries.insert(path, entry);
                dirs.extend(above(path));
            }
        }
    }
    Tree::from_entries(entries.into_values().cloned().collect())
}

fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

/// Puts contents of a tree that the cache lacks into it, out of a directory that was prepared as `release`: what a
/// step made was never fetched. Every byte is verified. What the directory does not have is left to others.
pub fn take_in(cache: &HostCache, dir: &Path, release: &Tree, tree: &Tree) -> Result<u64, CacheError> {
    let lacking =
        |entry: &&Entry| release.get(entry.path.as_bytes()).is_some_and(|own| own.kind == entry.kind);
    let incoming = cache.receive()?;
    let top = fsio::open_root(dir)?;
    for entry in tree.entries().iter().filter(lacking) {
        let Kind::File { size, blob, executable } = entry.kind else { continue };
        let want = Want { blob, size, executable };
        let put = || -> io::Result<()> {
            if incoming.has(&want)? {
                return Ok(());
            }
            let opened = fsio::open_beneath(top.as_fd(), entry.path.parent().unwrap_or_default())?;
            let mut file = fsio::open_file(opened.as_fd(), entry.path.file_name())?;
            incoming.put(&want, &mut file)
        };
        use crate::fsio::At;
        put().at("take in", dir.join(entry.path.to_string()))?;
    }
    incoming.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::BlobId;
    use crate::path::EntryPath;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let entry = |(path, text): &(&str, &str)| Entry {
            path: EntryPath::new(*path).unwrap(),
            kind: Kind::File {
                size: text.len() as u64,
                blob: BlobId::of(text.as_bytes()),
                executable: false,
            },
        };
        Tree::from_entries(files.iter().map(entry).collect()).unwrap()
    }

    fn dist() -> PathSet {
        [EntryPath::new("dist").unwrap()].into_iter().collect()
    }

    #[test]
    fn the_newest_release_has_the_path_that_several_claim_and_nothing_else_is_kept() {
        let newest = tree(&[("dist/index.html", "new"), ("dist/a.2.js", "2"), ("server.js", "x")]);
        let older = tree(&[("dist/index.html", "old"), ("dist/a.1.js", "1"), ("server.js", "y")]);
        let both = merged(&[newest, older], &dist()).unwrap();
        assert_eq!(both, tree(&[("dist/index.html", "new"), ("dist/a.1.js", "1"), ("dist/a.2.js", "2")]));
    }

    #[test]
    fn a_path_that_is_a_file_in_one_release_and_a_directory_in_another_is_the_newest_ones() {
        let file = tree(&[("dist/a", "file")]);
        let directory = tree(&[("dist/a/b", "below"), ("dist/c", "c")]);
        let merge = |trees: &[&Tree]| {
            merged(&trees.iter().map(|tree| (*tree).clone()).collect::<Vec<_>>(), &dist()).unwrap()
        };
        assert_eq!(merge(&[&file, &directory]), tree(&[("dist/a", "file"), ("dist/c", "c")]));
        assert_eq!(merge(&[&directory, &file]), directory);
    }
}
