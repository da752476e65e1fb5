//! Real programs from npm, installed once per lockfile below `target/tools`, whichever test comes first.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::hash;

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `target/tools`: made by tests, kept between runs, removed by `cargo clean`.
pub fn dir() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a temporary directory below target");
    target.join("tools")
}

/// A file to lock, in a family of its own.
pub fn lock_file(family: &str, name: &str) -> File {
    let dir = dir().join(family);
    std::fs::create_dir_all(&dir).expect("target/tools");
    File::create(dir.join(format!("{name}.lock"))).expect("a lock file")
}

/// The directory `<name>-<key>`, made by `build` the first time. A build that fails or is killed leaves nothing
/// that a later run would take for whole: it happens under another name.
pub fn cached(name: &str, key: &str, build: impl FnOnce(&Path)) -> PathBuf {
    let done = dir().join(format!("{name}-{key}"));
    let lock = lock_file("locks", &format!("{name}-{key}"));
    lock.lock().expect("the lock of a cached tool");
    if !done.exists() {
        let partial = dir().join(format!(".{name}-{key}"));
        std::fs::remove_dir_all(&partial).ok();
        std::fs::create_dir_all(&partial).expect("target/tools");
        build(&partial);
        std::fs::rename(&partial, &done).expect("the finished tool");
    }
    done
}

/// Runs a program to its end; what it says is shown only when it fails.
#[track_caller]
pub fn run(dir: &Path, program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .env("NEXT_TELEMETRY_DISABLED", "1")
        .env("CI", "true")
        .env_remove("NODE_ENV")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?} in {}: {}\n{}{}",
        dir.display(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// Installs what a lockfile pins, and nothing else.
pub fn npm_ci(dir: &Path) {
    run(dir, "npm", &["ci", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"]);
}

/// The directory with the `pm2` program, for a `PATH`.
pub fn pm2() -> PathBuf {
    from_npm("pm2")
}

/// The directory with the `pnpm` program, for a `PATH`.
pub fn pnpm() -> PathBuf {
    from_npm("pnpm")
}

/// What `tests/tools/<name>` pins.
fn from_npm(name: &str) -> PathBuf {
    let source = repository().join("tests/tools").join(name);
    let installed = cached(name, &hash::of(&[&source], "npm ci"), |dir| {
        copy(&source, dir);
        npm_ci(dir);
    });
    installed.join("node_modules/.bin")
}

/// Copies sources over a directory, file by file.
pub fn copy(from: &Path, to: &Path) {
    for file in hash::files_of(from) {
        let target = to.join(&file);
        std::fs::create_dir_all(target.parent().expect("a file in a directory")).expect("a directory");
        std::fs::copy(from.join(&file), target).expect("a copied file");
    }
}
