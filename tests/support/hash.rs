//! Names for caches: a hash of everything that went in.

use std::path::{Path, PathBuf};

/// Every file below a directory, as sorted paths relative to it, without what a build leaves there.
pub fn files_of(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(dir, dir, &mut files);
    files.sort();
    files
}

fn collect(root: &Path, dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory of sources") {
        let path = entry.expect("an entry of sources").path();
        if path.ends_with("node_modules") || path.ends_with(".next") {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, into);
        } else {
            into.push(path.strip_prefix(root).expect("a path below its root").to_owned());
        }
    }
}

/// Short hash of the names and contents of directories, and of a word that names how they are used.
pub fn of(dirs: &[&Path], recipe: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(recipe.as_bytes());
    for dir in dirs {
        for file in files_of(dir) {
            let content = std::fs::read(dir.join(&file)).expect("a source file");
            hasher.update(file.as_os_str().as_encoded_bytes());
            hasher.update(blake3::hash(&content).as_bytes());
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}
