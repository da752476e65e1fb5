//! The same tree has the same ids and the same packs, whoever packs it, in whatever order it was made.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{Contents, files_below, noise, push_scanned, scanned};
use landfall_store::Store;
use landfall_store::fetch::{self, Watch};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Node {
    File { size: usize, seed: u32, executable: bool },
    Link(String),
    Dir,
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        8 => (0usize..3000, 0u32..5, any::<bool>())
            .prop_map(|(size, seed, executable)| Node::File { size, seed, executable }),
        1 => (300_000usize..600_000, 0u32..5).prop_map(|(size, seed)| Node::File { size, seed, executable: false }),
        1 => "[a-c]{1,2}".prop_map(Node::Link),
        1 => Just(Node::Dir),
    ]
}

fn tree() -> impl Strategy<Value = Vec<(String, Node)>> {
    // A name of a file is upper case, of a directory lower case: no path stands below a file.
    prop::collection::btree_map("([a-c][a-c é%]{0,2}/){0,3}[A-F][A-F~ü ]{0,3}", node(), 0..25)
        .prop_map(|map| map.into_iter().collect())
}

fn make(dir: &Path, nodes: &[(String, Node)], mode: u32) {
    for (path, node) in nodes {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::File { size, seed, executable } => {
                std::fs::write(&path, noise(*seed, *size)).unwrap();
                let mode = if *executable { mode | 0o100 } else { mode };
                std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            }
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::Dir => std::fs::create_dir(&path).unwrap(),
        }
    }
}

/// Another file system than the usual one where there is one, and one on which `fsync` is cheap.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let name = |path: &std::path::PathBuf| path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
    files_below(dir).iter().map(name).filter(|name| name != "landfall-store.json").collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p15_the_same_tree_has_the_same_ids_and_comes_back_whole(nodes in tree(), turn in 0usize..25) {
        let dirs = [tempfile::tempdir().unwrap(), in_memory(), in_memory(), in_memory()];
        make(dirs[0].path(), &nodes, 0o644);
        let mut other = nodes.clone();
        other.reverse();
        other.rotate_left(turn.min(nodes.len()));
        // Another umask, another time, another order.
        make(dirs[1].path(), &other, 0o600);
        let stores = [Store::create(dirs[2].path()).unwrap(), Store::create(dirs[3].path()).unwrap()];
        let layers = [scanned(dirs[0].path()), scanned(dirs[1].path())];
        let ids = [0, 1].map(|n| push_scanned(&stores[n], "1", &layers[n]).unwrap().artifact);
        prop_assert_eq!(ids[0], ids[1]);
        prop_assert_eq!(names(dirs[2].path()), names(dirs[3].path()), "the same objects, packs too");

        let artifact = fetch::artifact(&stores[0], &ids[0]).unwrap();
        let tree = fetch::tree(&stores[0], &artifact.layers[0].tree).unwrap();
        prop_assert_eq!(&tree, &layers[1].tree);
        let sink = Contents::default();
        fetch::blobs(&stores[0], &[&tree], &sink, &Watch::NOBODY).unwrap();
        prop_assert!(sink.complete(&tree));
    }
}
