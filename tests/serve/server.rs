//! A server of a store in a temporary directory.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use landfall_store::backend::{Backend, HttpBackend, Key};
use rustix::process::Signal;
use tempfile::TempDir;

use super::client::{Answer, ask};
use super::support::source::Source;
use super::support::store_server::StoreServer;
pub use super::support::store_server::token_file;

pub const PUSH_TOKEN: &str = "push-canary-4b7d0c51a9e2f3688d";
pub const READ_TOKEN: &str = "read-canary-91c3aa0de4575f26b1";
pub const WEB_1_TOKEN: &str = "web-1-canary-6b1f0a3377c2d9e540";
pub const WEB_2_TOKEN: &str = "web-2-canary-0d5e8c71ab9f263418";

const RECIPE: &str = r#"app = "web"
version = "VERSION"

[[layer]]
name = "app"
files = [{ from = "app", to = "app" }]

[[layer]]
name = "env"
kind = "env"

[env]
environments = ["prod"]
local = "optional"

[start]
manager = "direct"
run = ["sleep", "100000"]
stop = { signal = "SIGTERM", grace = "1s" }

[health]
run = ["true"]
attempts = 3
interval = "100ms"
successes = 1
settle = "100ms"
timeout = "30s"
"#;

/// The program under test, without anything of the caller's environment that it reads.
pub fn landfall() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    for name in
        ["LANDFALL_STORE", "LANDFALL_ROOT", "LANDFALL_CONFIG", "LANDFALL_STORE_TOKEN_FILE", "RUST_LOG"]
    {
        command.env_remove(name);
    }
    command
}

/// Bytes that do not compress and differ by seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Packs a version of an app into a store: a file of its own, one that all versions have, and an env layer.
pub fn pack(store: &Path, version: &str, bytes: usize) {
    let seed = u64::from_le_bytes(blake3::hash(version.as_bytes()).as_bytes()[..8].try_into().unwrap());
    let source = Source::new(&RECIPE.replace("VERSION", version))
        .with("app/own.bin", &noise(seed, bytes))
        .with("app/common.bin", &noise(0, 200_000))
        .with(".env.prod", format!("SECRET=canary-{version}\n").as_bytes());
    let packed = landfall()
        .args(["--store", store.to_str().unwrap(), "-q", "pack", "--env", "prod"])
        .arg(source.path())
        .output()
        .unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
}

/// Every object of a store in a directory.
pub fn objects(store: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(store, store, &mut found);
    found.sort();
    found
}

/// The first object with this beginning and end.
pub fn object(store: &Path, begins: &str, ends: &str) -> String {
    let fits = |key: &String| key.starts_with(begins) && key.ends_with(ends);
    objects(store).into_iter().find(fits).unwrap_or_else(|| panic!("no {begins}*{ends}"))
}

/// Whether only its owner may read it.
pub fn is_private(store: &Path, key: &str) -> bool {
    fs::metadata(store.join(key)).unwrap().permissions().mode() & 0o004 == 0
}

/// A running server. Killed when dropped.
pub struct Served {
    server: StoreServer,
    pub url: String,
    pub at: SocketAddr,
    /// Tokens, log and store are in here.
    pub dir: TempDir,
}

impl Served {
    /// Serves a new store, with options; `PUSH`, `READ` and `REPORT` stand for the token files.
    pub fn start(options: &[&str]) -> Self {
        Self::of(tempfile::tempdir().unwrap(), options)
    }

    /// Serves the store in `store` of a directory; makes an empty one if there is none.
    pub fn of(dir: TempDir, options: &[&str]) -> Self {
        let store = dir.path().join("store");
        landfall_store::Store::create(&store).unwrap();
        Self::of_at(dir, "127.0.0.1:0", options)
    }

    pub fn of_at(dir: TempDir, listen: &str, options: &[&str]) -> Self {
        token_file(dir.path(), "push", PUSH_TOKEN);
        token_file(dir.path(), "read", READ_TOKEN);
        token_file(dir.path(), "report", &format!("web-1 {WEB_1_TOKEN}\nweb-2 {WEB_2_TOKEN}"));
        let place = |option: &&str| match *option {
            "PUSH" => dir.path().join("push"),
            "READ" => dir.path().join("read"),
            "REPORT" => dir.path().join("report"),
            other => other.into(),
        };
        let mut command = landfall();
        command
            .arg("serve")
            .arg(dir.path().join("store"))
            .args(["--listen", listen])
            .args(options.iter().map(place))
            .current_dir(dir.path());
        let server = StoreServer::start(&mut command, &dir.path().join("log"));
        let url = server.url.clone();
        let at = url.split_once("://").unwrap().1.parse().unwrap();
        Self { server, url, at, dir }
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        ask(self.at, "GET", path, headers, b"")
    }

    pub fn put(&self, key: &str, token: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut all = vec![("Authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        ask(self.at, "PUT", &format!("/{key}"), &all, body)
    }

    /// The client that pushes use.
    pub fn client(&self, token: &str) -> HttpBackend {
        HttpBackend::open(&self.url, Some(&self.dir.path().join(token))).unwrap()
    }

    pub fn has(&self, key: &str) -> bool {
        self.client("push").size(&Key::new(key).unwrap()).unwrap().is_some()
    }

    pub fn signal(&self, signal: Signal) {
        self.server.signal(signal);
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.server.wait()
    }

    /// Kills it and gives back its directory.
    pub fn kill(self) -> TempDir {
        drop(self.server);
        self.dir
    }
}
