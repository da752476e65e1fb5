//! Three versions of `examples/next-app`, built for real, once per machine.

use std::path::{Path, PathBuf};

use super::{hash, tools};

/// What the recipe of the example packs, and the recipe itself.
const PACKED: [&str; 7] = [
    "landfall.toml",
    "package.json",
    ".env.prod",
    ".env.prod.local",
    "public",
    ".next/standalone",
    ".next/static",
];

/// Directories that `landfall pack --no-build` packs.
#[derive(Debug)]
pub struct NextApp {
    /// The example as it is.
    pub v1: PathBuf,
    /// Another page, another value in the base layer, one key less.
    pub v2: PathBuf,
    /// Says it is broken, but not in a trial run: only the live health check can see it.
    pub v3: PathBuf,
    /// The same build, broken in a trial run too.
    pub v4: PathBuf,
}

/// Builds them, or finds them built.
pub fn built() -> NextApp {
    let example = tools::repository().join("examples/next-app");
    let changes = tools::repository().join("tests/next_app");
    let key = hash::of(&[&example, &changes], "1: npm ci, three builds in one directory");
    let dir = tools::cached("next-app", &key, |dir| build_all(&example, &changes, dir));
    NextApp { v1: dir.join("v1"), v2: dir.join("v2"), v3: dir.join("v3"), v4: dir.join("v4") }
}

/// One work directory for all: later builds find the dependencies and Next's own cache.
fn build_all(example: &Path, changes: &Path, dir: &Path) {
    let work = dir.join("work");
    tools::copy(example, &work);
    tools::npm_ci(&work);
    tools::copy(&changes.join("common"), &work);
    build(&work, "1.0.0", &dir.join("v1"));
    tools::copy(&changes.join("v2"), &work);
    build(&work, "1.1.0", &dir.join("v2"));
    tools::copy(&changes.join("v3"), &work);
    build(&work, "1.2.0", &dir.join("v3"));
    broken_from_the_start(&work, &dir.join("v4"));
    std::fs::remove_dir_all(work).expect("the work directory");
}

fn build(work: &Path, version: &str, into: &Path) {
    set_version(work, version);
    tools::run(work, "npm", &["run", "build"]);
    take(work, into);
}

/// The same code as v3; the base env layer makes the difference.
fn broken_from_the_start(work: &Path, into: &Path) {
    set_version(work, "1.3.0");
    take(work, into);
    let base = into.join(".env.prod");
    let text = std::fs::read_to_string(&base).expect("the base layer");
    std::fs::write(base, format!("{text}HARBOUR_DEFECT=\"always\"\n")).expect("the base layer");
}

fn set_version(work: &Path, version: &str) {
    tools::run(work, "npm", &["pkg", "set", &format!("version={version}")]);
}

fn take(work: &Path, into: &Path) {
    std::fs::create_dir_all(into.join(".next")).expect("a version's directory");
    for part in PACKED {
        // Root disks can be slow at creating files, and these never change: links, not copies, except what is edited.
        let how = if part.starts_with(".env") || part == "package.json" { "-a" } else { "-al" };
        tools::run(work, "cp", &[how, part, &into.join(part).to_string_lossy()]);
    }
}

/// Limits the health check for tests, in the state, where an operator would: the recipe of the example gives a broken
/// release the whole minute of the script it replaces; and one answer may take as long as a machine stands still. The
/// app must be in the state already.
pub fn shorten_trials(host: &super::Host) {
    let state = host.state();
    let text = std::fs::read_to_string(&state).expect("the state");
    let mut document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    document["apps"]["harbour"]["environments"]["prod"]["health"] =
        serde_json::json!({"attempts": 30, "interval": "1s", "timeout": "5s"});
    let new = state.with_extension("new");
    std::fs::write(&new, format!("{document:#}\n")).expect("a new state");
    std::fs::rename(new, &state).expect("the state");
    let mut commit = host.program("git");
    commit.args(["commit", "--quiet", "--all", "--message", "Shorter trials"]);
    assert!(commit.current_dir(state.parent().expect("a directory")).status().expect("git").success());
}
