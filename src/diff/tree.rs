//! Two trees, walked together. Pure.

use landfall_store::path::escape;
use landfall_store::{Entry, Kind, Tree};
use schemars::JsonSchema;
use serde::Serialize;

/// What happened to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another one.
    Changed,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Shape {
    /// A file.
    File {
        /// Its bytes.
        size: u64,
        /// Mode 0755 instead of 0644.
        executable: bool,
    },
    /// A link.
    Link {
        /// Where it leads, escaped as in a tree.
        target: String,
    },
    /// A directory without entries.
    Directory,
}

/// One path that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileChange {
    /// What happened.
    pub change: Change,
    /// The path, escaped as in a tree.
    pub path: String,
    /// What stood there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Shape>,
    /// What stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Shape>,
}

/// Every path that differs, in tree order.
pub fn compare(a: &Tree, b: &Tree) -> Vec<FileChange> {
    a.beside(b).filter_map(|(from, to)| change(from, to)).collect()
}

fn change(from: Option<&Entry>, to: Option<&Entry>) -> Option<FileChange> {
    let change = match (from, to) {
        (Some(from), Some(to)) if from.kind == to.kind => return None,
        (Some(_), Some(_)) => Change::Changed,
        (Some(_), None) => Change::Removed,
        (None, Some(_)) => Change::Added,
        (None, None) => return None,
    };
    let path = from.or(to)?.path.to_string();
    Some(FileChange { change, path, from: from.map(shape), to: to.map(shape) })
}

fn shape(entry: &Entry) -> Shape {
    match &entry.kind {
        Kind::File { size, executable, .. } => Shape::File { size: *size, executable: *executable },
        Kind::Link { target } => Shape::Link { target: escape(target) },
        Kind::EmptyDir => Shape::Directory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_store::{BlobId, EntryPath};

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

    fn told(a: &[(&str, &str)], b: &[(&str, &str)]) -> Vec<(Change, String)> {
        compare(&tree(a), &tree(b)).into_iter().map(|change| (change.change, change.path)).collect()
    }

    #[test]
    fn equal_trees_have_no_difference() {
        let files = [("a", "1"), ("b/c", "2")];
        assert_eq!(told(&files, &files), []);
    }

    #[test]
    fn every_path_that_differs_is_told_once_in_tree_order() {
        let changes = told(
            &[("a", "1"), ("b/c", "2"), ("gone", "3"), ("z", "9")],
            &[("a", "1"), ("b/c", "changed"), ("new", "4"), ("z", "9"), ("zz", "5")],
        );
        let paths = [
            (Change::Changed, "b/c".to_owned()),
            (Change::Removed, "gone".to_owned()),
            (Change::Added, "new".to_owned()),
            (Change::Added, "zz".to_owned()),
        ];
        assert_eq!(changes, paths);
    }

    #[test]
    fn an_execute_bit_alone_is_a_change() {
        let (mut a, b) = (tree(&[("run", "#!")]).entries().to_vec(), tree(&[("run", "#!")]));
        if let Kind::File { executable, .. } = &mut a[0].kind {
            *executable = false;
        }
        let changes = compare(&Tree::from_entries(a).unwrap(), &b);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].from, Some(Shape::File { size: 2, executable: false }));
    }

    #[test]
    fn a_comparison_read_backwards_is_the_opposite() {
        let (a, b) = (tree(&[("a", "1"), ("b", "2")]), tree(&[("b", "3"), ("c", "4")]));
        let mut back = compare(&b, &a);
        for change in &mut back {
            (change.from, change.to) = (change.to.take(), change.from.take());
            change.change = match change.change {
                Change::Added => Change::Removed,
                Change::Removed => Change::Added,
                Change::Changed => Change::Changed,
            };
        }
        assert_eq!(back, compare(&a, &b));
    }
}
