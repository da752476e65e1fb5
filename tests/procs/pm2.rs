//! Real pm2, installed once from its lockfile, with a daemon of its own for each test.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use landfall::start::pm2::Pm2;

/// A `PM2_HOME` whose daemon ends with the test, whatever comes of it.
pub struct Daemon {
    _dir: tempfile::TempDir,
    pub home: PathBuf,
    program: PathBuf,
}

impl Daemon {
    pub fn new() -> Self {
        // Short: a socket's name has room for 108 bytes.
        let dir = tempfile::Builder::new().prefix("lf-pm2-").tempdir_in("/tmp").unwrap();
        Self { home: dir.path().canonicalize().unwrap().join("home"), _dir: dir, program: installed() }
    }

    pub fn manager(&self) -> Pm2 {
        Pm2::with_program(self.program.clone(), self.home.clone(), &search_path()).unwrap()
    }

    pub fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.home.join("pm2.pid")).ok()?.trim().parse().ok()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.home.exists() {
            let mut kill = Command::new(&self.program);
            let _ = kill.arg("kill").env("PM2_HOME", &self.home).output();
        }
    }
}

pub fn search_path() -> String {
    std::env::var("PATH").unwrap()
}

/// The pm2 of `tests/tools/pm2`, installed beside the build's other products.
fn installed() -> PathBuf {
    let bin = Path::new(env!("CARGO_BIN_EXE_landfall"));
    let dir = bin.parent().unwrap().parent().unwrap().join("tools/pm2");
    fs::create_dir_all(&dir).unwrap();
    let lock = File::create(dir.join("lock")).unwrap();
    lock.lock().unwrap();
    install(&dir);
    dir.join("node_modules/.bin/pm2")
}

fn install(dir: &Path) {
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/pm2");
    let lockfile = fs::read(wanted.join("package-lock.json")).unwrap();
    let done = dir.join("installed");
    if fs::read(&done).is_ok_and(|installed| installed == lockfile) {
        return;
    }
    for file in ["package.json", "package-lock.json"] {
        fs::copy(wanted.join(file), dir.join(file)).unwrap();
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]).current_dir(dir);
    let output = npm.output().unwrap_or_else(|error| panic!("install Node.js 20 or newer with npm: {error}"));
    assert!(output.status.success(), "npm ci: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(done, lockfile).unwrap();
}
