//! `examples/nest-prisma`, installed and built for real, once per machine.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{hash, tools};

/// What the recipe of the example packs, and the recipe itself.
const PACKED: [&str; 8] = [
    "landfall.toml",
    "package.json",
    "package.production.json",
    "pnpm-lock.yaml",
    "prisma.config.ts",
    "ecosystem.config.cjs",
    "prisma",
    "dist",
];
const ENV_FILES: [&str; 6] =
    [".env.dev", ".env.dev.local", ".env.staging", ".env.staging.local", ".env.prod", ".env.prod.local"];

/// The example on this machine.
#[derive(Debug)]
pub struct NestApp {
    dir: PathBuf,
}

/// Builds it, or finds it built.
pub fn built() -> NestApp {
    let example = tools::repository().join("examples/nest-prisma");
    let changes = tools::repository().join("tests/nest_prisma");
    let key = hash::of(&[&example, &changes], "1: pnpm install, one build");
    NestApp { dir: tools::cached("nest-app", &key, |dir| build_all(&example, &changes, dir)) }
}

impl NestApp {
    /// Every package of the lockfile, so that hosts install without a network.
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// The whole source with its dependencies, for builds. Held by one test at a time.
    pub fn workshop(&self) -> (PathBuf, File) {
        let lock = tools::lock_file("locks", "nest-workshop");
        lock.lock().expect("the lock of the workshop");
        (self.dir.join("work"), lock)
    }

    /// What a build left, of version `1.0.0`, `1.1.0` (another migration), `1.2.0` (one that fails) or `1.3.0` (the
    /// same put right): a directory that `landfall pack --no-build` packs.
    pub fn version(&self, version: &str) -> PathBuf {
        self.dir.join(version)
    }

    /// A copy of the first version, to be spoiled.
    pub fn copy(&self, into: &Path) -> PathBuf {
        tools::copy(&self.version("1.0.0"), into);
        into.to_owned()
    }
}

/// `pnpm …` in a directory, with a store of its own.
fn pnpm(dir: &Path, store: &Path, arguments: &[&str]) {
    let system = std::env::var_os("PATH").expect("PATH");
    let dirs = [tools::pnpm()].into_iter().chain(std::env::split_paths(&system));
    let path = std::env::join_paths(dirs).expect("a search path");
    let set = [
        format!("PATH={}", path.to_string_lossy()),
        format!("npm_config_store_dir={}", store.display()),
        // No native engine is used, and none is to be looked for.
        "PRISMA_SCHEMA_ENGINE_BINARY=/bin/false".to_owned(),
        "PRISMA_QUERY_ENGINE_LIBRARY=/bin/false".to_owned(),
        "CHECKPOINT_DISABLE=1".to_owned(),
    ];
    let set = set.iter().map(String::as_str);
    tools::run(dir, "env", &set.chain(["pnpm"]).chain(arguments.iter().copied()).collect::<Vec<_>>());
}

fn build_all(example: &Path, changes: &Path, dir: &Path) {
    let (work, store) = (dir.join("work"), dir.join("store"));
    tools::copy(example, &work);
    pnpm(&work, &store, &["install", "--frozen-lockfile", "--prefer-offline"]);
    tools::copy(&changes.join("common"), &work);
    pnpm(&work, &store, &["run", "build", "--prod"]);
    let mut before = work;
    for (version, change) in
        [("1.0.0", None), ("1.1.0", Some("v2")), ("1.2.0", Some("v3")), ("1.3.0", Some("v4"))]
    {
        let into = dir.join(version);
        take(&before, &into);
        set_version(&into, version);
        if let Some(change) = change {
            tools::copy(&changes.join(change), &into);
        }
        before = into;
    }
    let failing = dir.join("1.3.0/prisma/schema/migrations/20260320090000_captain");
    std::fs::remove_dir_all(failing).expect("the migration that fails");
}

fn take(from: &Path, into: &Path) {
    std::fs::create_dir_all(into).expect("a version's directory");
    for part in PACKED.iter().chain(&ENV_FILES) {
        tools::run(from, "cp", &["-a", part, &into.to_string_lossy()]);
    }
}

fn set_version(dir: &Path, version: &str) {
    for file in ["package.json", "package.production.json"] {
        let path = dir.join(file);
        let text = std::fs::read_to_string(&path).expect("a manifest");
        let own = text.lines().find(|line| line.starts_with("  \"version\"")).expect("a version");
        let new = text.replacen(own, &format!("  \"version\": \"{version}\","), 1);
        std::fs::write(path, new).expect("a manifest");
    }
}
