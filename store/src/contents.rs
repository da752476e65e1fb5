//! What a release holds: its layers' trees merged into directories, and how each file stands in it.

use std::collections::{HashMap, HashSet};

use crate::blob::Want;
use crate::path::{EntryPath, is_at_or_below, tree_order};
use crate::tree::{Entry, Kind, Tree};

/// A set of paths that stands for everything at and below them.
///
/// In tree order, and none of them below another: what a path covers follows it directly, so that the last one before
/// a path is the only one that may cover it.
#[derive(Debug, Clone, Default)]
pub struct PathSet(Vec<Box<[u8]>>);

impl PathSet {
    fn new(mut paths: Vec<Box<[u8]>>) -> Self {
        paths.sort_unstable_by(|a, b| tree_order(a, b));
        paths.dedup_by(|path, before| is_at_or_below(path, before));
        Self(paths)
    }

    /// Whether the path or a directory above it is in the set.
    pub fn covers(&self, path: &[u8]) -> bool {
        let after = self.0.partition_point(|own| tree_order(own, path).is_le());
        after.checked_sub(1).is_some_and(|last| is_at_or_below(path, &self.0[last]))
    }

    /// Whether something in the set lies below the directory.
    pub(crate) fn reaches_below(&self, dir: &[u8]) -> bool {
        self.0.iter().any(|path| path.len() > dir.len() && is_at_or_below(path, dir))
    }
}

impl<'a> FromIterator<&'a EntryPath> for PathSet {
    fn from_iter<I: IntoIterator<Item = &'a EntryPath>>(paths: I) -> Self {
        Self::new(paths.into_iter().map(|path| path.as_bytes().into()).collect())
    }
}

impl FromIterator<EntryPath> for PathSet {
    fn from_iter<I: IntoIterator<Item = EntryPath>>(paths: I) -> Self {
        Self::new(paths.into_iter().map(|path| path.as_bytes().into()).collect())
    }
}

/// What a release holds.
#[derive(Debug, Clone, Default)]
pub struct Contents<'a> {
    /// Trees whose files come from the cache.
    pub layers: Vec<&'a Tree>,
    /// Trees whose files are secrets: never in the cache, private, mode 0600.
    pub env: Vec<&'a Tree>,
    /// Paths whose files are private copies that their owner may write: `writes` and `writable`.
    pub private: PathSet,
}

/// Why layers cannot stand in one release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentsError {
    /// One path in two layers.
    #[error("`{0}` stands in two layers of the release; layers that meet must not share paths")]
    Twice(EntryPath),
    /// A path of one layer below a file or link of another.
    #[error("`{0}` is a directory in one layer of the release and a file or link in another")]
    FileAndDirectory(EntryPath),
}

/// How a file stands in a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Read-only, may share the cache's inode.
    Shared,
    /// A copy of its own, writable by its owner.
    Private,
    /// As private, and readable by its owner alone.
    Secret,
}

/// One file or link of a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    pub entry: &'a Entry,
    pub class: Class,
}

impl Item<'_> {
    pub fn name(&self) -> &[u8] {
        self.entry.path.file_name()
    }

    /// The content and mode, unless it is a link.
    pub fn file(&self) -> Option<(Want, u32)> {
        let Kind::File { size, blob, executable } = self.entry.kind else { return None };
        let mode = match (self.class, executable) {
            (Class::Shared, false) => 0o444,
            (Class::Shared, true) => 0o555,
            (Class::Private, false) => 0o644,
            (Class::Private, true) => 0o755,
            (Class::Secret, _) => 0o600,
        };
        Some((Want { blob, size, executable }, mode))
    }
}

/// One directory with its files and links, sorted by name, and the names of its directories.
#[derive(Debug, Default)]
pub(crate) struct Directory<'a> {
    /// Empty at the top.
    pub path: &'a [u8],
    pub items: Vec<Item<'a>>,
    pub dirs: HashSet<&'a [u8]>,
    pub private: bool,
}

impl<'a> Contents<'a> {
    /// Every directory, each after the one that holds it and before everything that does not lie below it.
    pub(crate) fn directories(&self) -> Result<Vec<Directory<'a>>, ContentsError> {
        let mut merge = Merge::default();
        let layers = self.layers.iter().map(|tree| (tree, false));
        for (tree, secret) in layers.chain(self.env.iter().map(|tree| (tree, true))) {
            for entry in tree.entries() {
                merge.add(entry, secret, &self.private);
            }
        }
        merge.finish(&self.private)
    }
}

#[derive(Default)]
struct Merge<'a> {
    index: HashMap<&'a [u8], usize>,
    dirs: Vec<Directory<'a>>,
    last: usize,
}

impl<'a> Merge<'a> {
    fn add(&mut self, entry: &'a Entry, secret: bool, private: &PathSet) {
        if entry.kind == Kind::EmptyDir {
            self.directory(entry.path.as_bytes());
            return;
        }
        let parent = entry.path.parent().unwrap_or_default();
        if self.dirs.get(self.last).is_none_or(|last| last.path != parent) {
            self.last = self.directory(parent);
        }
        let class = match secret {
            true => Class::Secret,
            false if private.covers(entry.path.as_bytes()) => Class::Private,
            false => Class::Shared,
        };
        self.dirs[self.last].items.push(Item { entry, class });
    }

    /// The directory's place, made with everything above it if need be.
    fn directory(&mut self, path: &'a [u8]) -> usize {
        if let Some(at) = self.index.get(path) {
            return *at;
        }
        if !path.is_empty() {
            let parent = self.directory(parent_of(path));
            self.dirs[parent].dirs.insert(name_of(path));
        }
        self.dirs.push(Directory { path, ..Directory::default() });
        self.index.insert(path, self.dirs.len() - 1);
        self.dirs.len() - 1
    }

    fn finish(mut self, private: &PathSet) -> Result<Vec<Directory<'a>>, ContentsError> {
        self.directory(&[]);
        for dir in &mut self.dirs {
            dir.items.sort_unstable_by(|a, b| a.name().cmp(b.name()));
            dir.private = private.covers(dir.path);
            check(dir)?;
        }
        self.dirs.sort_unstable_by(|a, b| tree_order(a.path, b.path));
        Ok(self.dirs)
    }
}

fn check(dir: &Directory<'_>) -> Result<(), ContentsError> {
    for pair in dir.items.windows(2) {
        if pair[0].name() == pair[1].name() {
            return Err(ContentsError::Twice(pair[1].entry.path.clone()));
        }
    }
    match dir.items.iter().find(|item| dir.dirs.contains(item.name())) {
        Some(item) => Err(ContentsError::FileAndDirectory(item.entry.path.clone())),
        None => Ok(()),
    }
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&[], |at| &path[..at])
}

fn name_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |at| &path[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::BlobId;

    fn file(path: &str) -> Entry {
        let kind = Kind::File { size: 1, blob: BlobId::of(b"x"), executable: false };
        Entry { path: EntryPath::new(path).unwrap(), kind }
    }

    fn tree(paths: &[&str]) -> Tree {
        Tree::from_entries(paths.iter().map(|path| file(path)).collect()).unwrap()
    }

    fn contents<'a>(layers: &[&'a Tree]) -> Contents<'a> {
        Contents { layers: layers.to_vec(), ..Contents::default() }
    }

    #[test]
    fn layers_may_share_directories_but_no_path() {
        let (a, b) = (tree(&["d/a"]), tree(&["d/b"]));
        let merged = contents(&[&a, &b]);
        let dirs = merged.directories().unwrap();
        assert_eq!(dirs.iter().map(|dir| dir.path).collect::<Vec<_>>(), [&b""[..], b"d"]);
        assert!(matches!(contents(&[&a, &a]).directories(), Err(ContentsError::Twice(_))));
    }

    #[test]
    fn b02_a_path_below_another_layers_file_is_refused() {
        let (a, b) = (tree(&["d/a"]), tree(&["d"]));
        for layers in [[&a, &b], [&b, &a]] {
            assert!(matches!(contents(&layers).directories(), Err(ContentsError::FileAndDirectory(_))));
        }
    }

    #[test]
    fn a_set_covers_what_lies_below_and_not_what_merely_begins_alike() {
        let set: PathSet = [EntryPath::new("a/b").unwrap()].into_iter().collect();
        assert!(set.covers(b"a/b") && set.covers(b"a/b/c"));
        assert!(!set.covers(b"a/bc") && !set.covers(b"a") && !PathSet::default().covers(b"a"));
    }

    proptest::proptest! {
        #[test]
        fn a_set_covers_what_looking_at_each_of_its_paths_says(
            own in proptest::collection::vec("[ab.](/?[ab.-]){0,4}", 0..6),
            asked in proptest::collection::vec("[ab.](/?[ab.-]){0,5}", 1..20),
        ) {
            let own: Vec<EntryPath> = own.iter().filter_map(|path| EntryPath::new(path.as_str()).ok()).collect();
            let set: PathSet = own.iter().collect();
            for path in &asked {
                let expected = own.iter().any(|own| is_at_or_below(path.as_bytes(), own.as_bytes()));
                proptest::prop_assert_eq!(set.covers(path.as_bytes()), expected, "{} in {:?}", path, own);
            }
        }
    }
}
