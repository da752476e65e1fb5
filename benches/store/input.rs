//! The tree that everything is measured on, with a recipe beside it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const RECIPE: &str = r#"app = "bench"
version = "0"

[[layer]]
name = "deps"
files = [{ from = "node_modules", to = "node_modules" }]

[[layer]]
name = "app"
files = [{ from = "index.txt", to = "index.txt" }]
"#;

/// An app directory with the big `node_modules`, and a place to work in, on one file system.
#[derive(Debug)]
pub struct Input {
    pub app: PathBuf,
    pub work: PathBuf,
    pub files: u64,
    pub bytes: u64,
}

impl Input {
    /// Takes `DIR/input/node_modules`, as `bench/inputs.sh` makes it.
    pub fn find(dir: &Path) -> Self {
        let app = dir.join("input");
        let (files, bytes) = weigh(&app.join("node_modules"));
        assert!(files > 1_000, "{}: bench/inputs.sh makes the input", app.display());
        std::fs::write(app.join("landfall.toml"), RECIPE).unwrap();
        std::fs::write(app.join("index.txt"), "first\n").unwrap();
        let work = dir.join("work");
        std::fs::remove_dir_all(&work).ok();
        std::fs::create_dir_all(&work).unwrap();
        Self { app, work, files, bytes }
    }
}

/// Regular files below a directory and their bytes.
pub fn weigh(dir: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        let (files, bytes) = if kind.is_dir() {
            weigh(&entry.path())
        } else if kind.is_file() {
            (1, entry.metadata().unwrap().len())
        } else {
            (0, 0)
        };
        sum = (sum.0 + files, sum.1 + bytes);
    }
    sum
}

/// Removes a directory or file left by an earlier round.
pub fn clear(path: &Path) {
    std::fs::remove_dir_all(path).or_else(|_| std::fs::remove_file(path)).ok();
}

/// A shell line, for peers that are pipelines.
pub fn shell(line: &str, dir: &Path) {
    let status =
        Command::new("sh").args(["-ec", line]).current_dir(dir).stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{line}: {status}");
}

/// `landfall …`, what it prints on stdout.
pub fn landfall(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_landfall"))
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "landfall {arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
