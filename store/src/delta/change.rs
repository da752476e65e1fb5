//! What differs between two trees, and the two streams of contents that follow from it.

use std::collections::HashSet;

use crate::digest::BlobId;
use crate::locator::stored_blobs;
use crate::tree::{Entry, Tree, TreeError};

/// Entries of a tree that stay, and those after them that go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) stay: u64,
    pub(crate) go: u64,
}

/// The way from one tree to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The entries that go. One that changed goes and comes.
    pub(crate) gone: Tree,
    /// The entries that come.
    pub(crate) came: Tree,
    /// The stored contents of what goes, in path order: the old stream.
    pub(crate) old: Vec<(BlobId, u64)>,
    /// The stored contents of what comes that no entry of the old tree has, in path order: the new stream.
    pub(crate) new: Vec<(BlobId, u64)>,
}

impl Change {
    /// What differs between two trees, and which entries of the first stay.
    pub(crate) fn between(from: &Tree, to: &Tree) -> Result<(Self, Vec<Run>), TreeError> {
        let (mut gone, mut came, mut runs) = (Vec::new(), Vec::new(), Runs::default());
        for (old, new) in from.beside(to) {
            if old.is_some() && old == new {
                runs.stay();
                continue;
            }
            if let Some(old) = old {
                runs.go();
                gone.push(old.clone());
            }
            came.extend(new.cloned());
        }
        let change = Self::of(from, Tree::from_entries(gone)?, Tree::from_entries(came)?);
        Ok((change, runs.list))
    }

    /// The change whose parts are known.
    pub(crate) fn of(from: &Tree, gone: Tree, came: Tree) -> Self {
        let here: HashSet<BlobId> = from.blobs().map(|(blob, _)| blob).collect();
        let old = stored_blobs(&gone);
        let new = stored_blobs(&came).into_iter().filter(|(blob, _)| !here.contains(blob)).collect();
        Self { gone, came, old, new }
    }

    /// Bytes of the new stream.
    pub(crate) fn new_bytes(&self) -> u64 {
        total(&self.new)
    }

    /// Bytes of the old stream.
    pub(crate) fn old_bytes(&self) -> u64 {
        total(&self.old)
    }
}

/// The entries of `from` that go; `None` if it has fewer than the runs speak of.
pub(crate) fn gone(from: &Tree, runs: &[Run]) -> Option<Result<Tree, TreeError>> {
    let mut gone = Vec::new();
    let mut rest = from.entries();
    for run in runs {
        rest = rest.get(usize::try_from(run.stay).ok()?..)?;
        let (go, after) = rest.split_at_checked(usize::try_from(run.go).ok()?)?;
        gone.extend_from_slice(go);
        rest = after;
    }
    Some(Tree::from_entries(gone))
}

/// The tree that `from` becomes when some of its entries go and others come.
pub(crate) fn changed(from: &Tree, gone: &Tree, came: &Tree) -> Result<Tree, TreeError> {
    let mut going = gone.entries().iter().peekable();
    let stays = |entry: &&Entry| going.next_if(|gone| gone.path == entry.path).is_none();
    let mut entries: Vec<Entry> = from.entries().iter().filter(stays).cloned().collect();
    entries.extend_from_slice(came.entries());
    Tree::from_entries(entries)
}

fn total(stream: &[(BlobId, u64)]) -> u64 {
    // A tree's sizes come from elsewhere: a sum that does not fit is larger than any bound.
    stream.iter().fold(0u64, |sum, (_, size)| sum.saturating_add(*size))
}

#[derive(Default)]
struct Runs {
    list: Vec<Run>,
    stay: u64,
}

impl Runs {
    fn stay(&mut self) {
        self.stay += 1;
    }

    fn go(&mut self) {
        match self.list.last_mut() {
            Some(run) if self.stay == 0 => run.go += 1,
            _ => self.list.push(Run { stay: std::mem::take(&mut self.stay), go: 1 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::EntryPath;
    use crate::tree::Kind;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let entry = |(path, content): &(&str, &str)| Entry {
            path: EntryPath::new(*path).unwrap(),
            kind: Kind::File {
                size: content.len() as u64,
                blob: BlobId::of(content.as_bytes()),
                executable: content.starts_with("#!"),
            },
        };
        Tree::from_entries(files.iter().map(entry).collect()).unwrap()
    }

    fn names(stream: &[(BlobId, u64)], among: &[&str]) -> Vec<String> {
        let name = |blob: &BlobId| among.iter().find(|text| BlobId::of(text.as_bytes()) == *blob).unwrap();
        stream.iter().map(|(blob, _)| (*name(blob)).to_owned()).collect()
    }

    #[test]
    fn the_runs_and_what_came_give_the_new_tree() {
        let from = tree(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")]);
        let to = tree(&[("b", "2"), ("c", "three"), ("cc", "new"), ("e", "5")]);
        let (change, runs) = Change::between(&from, &to).unwrap();
        assert_eq!(runs, [Run { stay: 0, go: 1 }, Run { stay: 1, go: 2 }]);
        let went = gone(&from, &runs).unwrap().unwrap();
        assert_eq!(went, change.gone);
        assert_eq!(changed(&from, &went, &change.came).unwrap(), to);
        assert_eq!(Change::of(&from, went, change.came.clone()), change);
    }

    #[test]
    fn the_streams_hold_each_content_once_in_path_order() {
        let from = tree(&[("a", "same"), ("b", "old"), ("c", "old"), ("d", "stays"), ("e", "")]);
        let to = tree(&[("a", "x"), ("b", "stays"), ("c", "y"), ("d", "stays"), ("f", "x"), ("g", "")]);
        let (change, _) = Change::between(&from, &to).unwrap();
        let among = ["same", "old", "stays", "x", "y"];
        assert_eq!(names(&change.old, &among), ["same", "old"]);
        assert_eq!(names(&change.new, &among), ["x", "y"], "`stays` is there, the empty content needs none");
        assert_eq!((change.old_bytes(), change.new_bytes()), (7, 2));
    }

    #[test]
    fn equal_trees_differ_in_nothing() {
        let same = tree(&[("a", "1"), ("b", "2")]);
        let (change, runs) = Change::between(&same, &same).unwrap();
        assert_eq!((runs.len(), change.gone.entries().len(), change.new_bytes()), (0, 0, 0));
        assert_eq!(changed(&same, &change.gone, &change.came).unwrap(), same);
    }

    #[test]
    fn runs_past_the_end_of_the_tree_are_refused() {
        let from = tree(&[("a", "1"), ("b", "2")]);
        assert!(gone(&from, &[Run { stay: 1, go: 2 }]).is_none());
        assert!(gone(&from, &[Run { stay: 3, go: 1 }]).is_none());
        assert!(gone(&from, &[Run { stay: u64::MAX, go: 1 }]).is_none());
    }
}
