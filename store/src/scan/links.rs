//! Links that lead nowhere inside a tree.

use crate::name::Name;
use crate::path::{EntryPath, escape};
use crate::tree::{Kind, Tree};

/// Links followed before a path is called a loop: what Linux allows.
const HOPS_MAX: usize = 40;

/// The links whose targets are not in this tree, with those targets. They may be in another layer.
pub fn dangling(tree: &Tree) -> Vec<(EntryPath, String)> {
    tree.entries()
        .iter()
        .filter_map(|entry| match &entry.kind {
            Kind::Link { target } if !leads_somewhere(tree, &entry.path, target) => {
                Some((entry.path.clone(), escape(target)))
            }
            _ => None,
        })
        .collect()
}

pub(super) fn warning(layer: &Name, at: &EntryPath, target: &str) -> String {
    format!("layer \"{layer}\": {at} links to {target}, which is not in this layer")
}

fn leads_somewhere(tree: &Tree, at: &EntryPath, target: &[u8]) -> bool {
    let mut here: Vec<Vec<u8>> = components(at.parent().unwrap_or_default());
    let mut todo: Vec<Vec<u8>> = components(target);
    todo.reverse();
    let mut hops = 0;
    while let Some(next) = todo.pop() {
        if next == b".." {
            if here.pop().is_none() {
                return false;
            }
            continue;
        }
        here.push(next);
        let path = here.join(&b'/');
        if let Some(Kind::Link { target }) = tree.get(&path).map(|entry| &entry.kind) {
            hops += 1;
            if hops > HOPS_MAX {
                return false;
            }
            here.pop();
            todo.extend(components(target).into_iter().rev());
        } else if !exists(tree, &path) {
            return false;
        }
    }
    true
}

fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// Whether an entry stands at the path or below it.
fn exists(tree: &Tree, path: &[u8]) -> bool {
    let at =
        tree.entries().partition_point(|entry| crate::path::tree_order(entry.path.as_bytes(), path).is_lt());
    tree.entries().get(at).is_some_and(|entry| entry.path.is_at_or_below(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Entry;

    fn tree(entries: &[(&str, Option<&str>)]) -> Tree {
        let entry = |(path, target): &(&str, Option<&str>)| Entry {
            path: EntryPath::new(*path).unwrap(),
            kind: match target {
                Some(target) => Kind::Link { target: target.as_bytes().into() },
                None => Kind::EmptyDir,
            },
        };
        Tree::from_entries(entries.iter().map(entry).collect()).unwrap()
    }

    #[test]
    fn only_links_that_lead_nowhere_are_named() {
        let tree = tree(&[
            ("a/dir", Some("../b")),
            ("a/file", Some("dir/c/d")),
            ("a/gone", Some("dir/x")),
            ("b/c/d", None),
            ("loop", Some("loop")),
            ("top", Some("b/..")),
        ]);
        let found: Vec<_> = dangling(&tree).iter().map(|(at, _)| at.to_string()).collect();
        assert_eq!(found, ["a/gone", "loop"]);
    }
}
