//! Layers that may meet in one release must not contend for a path.

use crate::artifact::Layer;
use crate::path::{EntryPath, tree_order};
use crate::tree::{Kind, Tree};

/// Two claims on one path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverlapError {
    /// Both layers have it.
    #[error("`{path}` is in layer \"{first}\" and in layer \"{second}\"; exclude it in one of them")]
    Both {
        /// The path.
        path: EntryPath,
        /// One layer.
        first: String,
        /// The other.
        second: String,
    },
    /// A file or link where the other layer has a directory.
    #[error(
        "`{above}` in layer \"{first}\" is no directory, but layer \"{second}\" has `{below}`; exclude one of them"
    )]
    Below {
        /// The file or link.
        above: EntryPath,
        /// Its layer.
        first: String,
        /// The path below it.
        below: EntryPath,
        /// Its layer.
        second: String,
    },
    /// A packed path where a shared one is linked in.
    #[error(
        "`{path}` in layer \"{layer}\" is at or under the shared path `{shared}`; exclude it from the layer"
    )]
    Shared {
        /// The packed path.
        path: EntryPath,
        /// Its layer.
        layer: String,
        /// The shared path.
        shared: String,
    },
    /// A shared path below something that is no directory.
    #[error("the shared path `{shared}` is below `{path}` in layer \"{layer}\", which is no directory")]
    SharedBelow {
        /// The packed path.
        path: EntryPath,
        /// Its layer.
        layer: String,
        /// The shared path.
        shared: String,
    },
}

/// Checks all layers that some (role, environment) takes together, and every layer against the shared paths.
///
/// Directories may be common, empty ones too; a file, a link, or an empty directory with another's link or
/// file at the same path may not.
pub fn check(layers: &[(&Layer, &Tree)], shared: &[EntryPath]) -> Result<(), OverlapError> {
    for (index, (layer, tree)) in layers.iter().enumerate() {
        check_shared(layer, tree, shared)?;
        for (other, other_tree) in &layers[index + 1..] {
            if layer.may_meet(other) {
                check_pair((layer, tree), (other, other_tree))?;
            }
        }
    }
    Ok(())
}

/// A merge of both sorted trees: whatever contends with an entry directly follows it.
fn check_pair(first: (&Layer, &Tree), second: (&Layer, &Tree)) -> Result<(), OverlapError> {
    let (a, b) = (first.1.entries(), second.1.entries());
    let (mut i, mut j) = (0, 0);
    // The nearest file or link of each side that may have something of the other side below it.
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        match x.path.cmp(&y.path) {
            std::cmp::Ordering::Equal => {
                if x.kind != Kind::EmptyDir || y.kind != Kind::EmptyDir {
                    return Err(OverlapError::Both {
                        path: x.path.clone(),
                        first: shown(first.0),
                        second: shown(second.0),
                    });
                }
                (i, j) = (i + 1, j + 1);
            }
            std::cmp::Ordering::Less => {
                if x.kind != Kind::EmptyDir && y.path.is_at_or_below(x.path.as_bytes()) {
                    return Err(below(first.0, &x.path, second.0, &y.path));
                }
                i += 1;
            }
            std::cmp::Ordering::Greater => {
                if y.kind != Kind::EmptyDir && x.path.is_at_or_below(y.path.as_bytes()) {
                    return Err(below(second.0, &y.path, first.0, &x.path));
                }
                j += 1;
            }
        }
    }
    Ok(())
}

fn below(first: &Layer, above: &EntryPath, second: &Layer, below: &EntryPath) -> OverlapError {
    OverlapError::Below {
        above: above.clone(),
        first: shown(first),
        below: below.clone(),
        second: shown(second),
    }
}

fn check_shared(layer: &Layer, tree: &Tree, shared: &[EntryPath]) -> Result<(), OverlapError> {
    for path in shared {
        let entries = tree.entries();
        let order = |entry: &crate::Entry| tree_order(entry.path.as_bytes(), path.as_bytes());
        let at = entries.partition_point(|entry| order(entry).is_lt());
        if let Some(entry) = entries.get(at).filter(|entry| entry.path.is_at_or_below(path.as_bytes())) {
            return Err(OverlapError::Shared {
                path: entry.path.clone(),
                layer: shown(layer),
                shared: path.to_string(),
            });
        }
        let above = at.checked_sub(1).and_then(|before| entries.get(before));
        if let Some(entry) =
            above.filter(|entry| entry.kind != Kind::EmptyDir && path.is_at_or_below(entry.path.as_bytes()))
        {
            return Err(OverlapError::SharedBelow {
                path: entry.path.clone(),
                layer: shown(layer),
                shared: path.to_string(),
            });
        }
    }
    Ok(())
}

/// A layer's name, with its environment where it has one.
fn shown(layer: &Layer) -> String {
    match &layer.environment {
        Some(environment) => format!("{} ({environment})", layer.name),
        None => layer.name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::BlobId;
    use crate::tree::Entry;

    fn tree(paths: &[&str]) -> Tree {
        let entry = |path: &&str| {
            let kind = match path.strip_suffix('/') {
                Some(_) => Kind::EmptyDir,
                None => Kind::File { size: 1, blob: BlobId::of(b"x"), executable: false },
            };
            Entry { path: EntryPath::new(path.trim_end_matches('/')).unwrap(), kind }
        };
        Tree::from_entries(paths.iter().map(entry).collect()).unwrap()
    }

    fn layer(name: &str, roles: &[&str], environment: Option<&str>) -> Layer {
        Layer {
            bytes: 0,
            environment: environment.map(|name| name.parse().unwrap()),
            files: 0,
            mount: String::new(),
            name: name.parse().unwrap(),
            roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
            tree: Tree::default().id(),
        }
    }

    fn both(a: &[&str], b: &[&str]) -> Result<(), OverlapError> {
        let (one, two) = (layer("one", &[], None), layer("two", &[], None));
        let forth = check(&[(&one, &tree(a)), (&two, &tree(b))], &[]);
        let back = check(&[(&two, &tree(b)), (&one, &tree(a))], &[]);
        assert_eq!(forth.is_ok(), back.is_ok(), "{a:?} {b:?}");
        forth
    }

    #[test]
    fn directories_may_be_common_and_files_may_not() {
        assert!(both(&["d/a", "e"], &["d/b", "f"]).is_ok());
        assert!(both(&["d/"], &["d/"]).is_ok());
        assert!(both(&["d/"], &["d/x"]).is_ok(), "an empty directory that another layer fills");
        let error = both(&["a", "d/x"], &["b", "d/x"]).unwrap_err().to_string();
        assert!(error.contains("d/x") && error.contains("\"one\"") && error.contains("\"two\""), "{error}");
        assert!(both(&["d"], &["d/"]).is_err());
    }

    #[test]
    fn a_file_where_the_other_layer_has_a_directory_is_refused() {
        assert!(matches!(both(&["d"], &["a", "d/x/y", "d-"]), Err(OverlapError::Below { .. })));
        assert!(both(&["d"], &["d-x", "d.y"]).is_ok());
        assert!(both(&["a", "d"], &["d/e/"]).is_err());
    }

    #[test]
    fn layers_that_never_meet_may_overlap() {
        let trees = [tree(&["a"]), tree(&["a"])];
        let prod = layer("env", &[], Some("prod"));
        let dev = layer("env", &[], Some("dev"));
        assert!(check(&[(&prod, &trees[0]), (&dev, &trees[1])], &[]).is_ok());
        let (web, files) = (layer("web", &["server"], None), layer("files", &["static"], None));
        assert!(check(&[(&web, &trees[0]), (&files, &trees[1])], &[]).is_ok());
        assert!(check(&[(&prod, &trees[0]), (&files, &trees[1])], &[]).is_err());
    }

    #[test]
    fn nothing_is_packed_at_or_under_a_shared_path_and_no_file_above_it() {
        let one = layer("one", &[], None);
        let check = |paths: &[&str]| check(&[(&one, &tree(paths))], &[EntryPath::new("data/up").unwrap()]);
        assert!(matches!(check(&["data/up"]), Err(OverlapError::Shared { .. })));
        assert!(matches!(check(&["data/a", "data/up/x"]), Err(OverlapError::Shared { .. })));
        assert!(matches!(check(&["data"]), Err(OverlapError::SharedBelow { .. })));
        assert!(check(&["data/upper", "data/a"]).is_ok());
    }
}
