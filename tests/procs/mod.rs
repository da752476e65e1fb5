//! Slots, launches and waiting, shared by the tests that start real processes.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use landfall::spec::{Command, ManagerKind, Millis, StartSpec, StopSpec};
use landfall::start::{Launch, Slot};

pub fn landfall() -> PathBuf {
    env!("CARGO_BIN_EXE_landfall").into()
}

/// Runs a future as the agent does: one thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// An app's directory with releases `a` and `b`.
pub struct App {
    dir: tempfile::TempDir,
    pub root: PathBuf,
    /// Where managers keep their records.
    pub run_dir: PathBuf,
}

impl App {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("landfall-procs").tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["releases/a", "releases/b", "run", "logs"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        let run_dir = root.join("run");
        Self { dir, root, run_dir }
    }

    pub fn release(&self, name: &str) -> PathBuf {
        self.root.join("releases").join(name)
    }

    pub fn slot(&self) -> Slot {
        Slot {
            app: "web".parse().unwrap(),
            environment: "prod".parse().unwrap(),
            process: "main".parse().unwrap(),
            run_dir: self.run_dir.clone(),
            logs_dir: self.root.join("logs"),
            releases_dir: self.root.join("releases"),
            current: self.root.join("current"),
            account: None,
        }
    }

    /// A launch of a release; `start_id` is new each time.
    pub fn launch(&self, release: &str, command: Command) -> Launch {
        let start_id = format!("{:032x}", fastrand::u128(..));
        let path = std::env::var("PATH").unwrap();
        Launch {
            slot: self.slot(),
            spec: start_spec(command),
            release_dir: self.release(release),
            env: BTreeMap::from([
                ("PATH".to_owned(), path),
                ("LANDFALL_START".to_owned(), start_id.clone()),
                ("RELEASE".to_owned(), release.to_owned()),
            ]),
            start_id,
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.slot().log_path()).unwrap_or_default()
    }
}

pub fn shell(line: &str) -> Command {
    Command::Shell(line.to_owned())
}

pub fn start_spec(command: Command) -> StartSpec {
    StartSpec {
        name: "main".parse().unwrap(),
        manager: ManagerKind::Direct,
        command,
        instances: 1,
        roles: Vec::new(),
        stop: stop_spec(2_000),
        memory_max: None,
        mode: None,
        ready: false,
        listen_timeout: None,
        restart_delay: None,
        node_args: Vec::new(),
        socket: None,
    }
}

pub fn stop_spec(grace_ms: u64) -> StopSpec {
    StopSpec { signal: "SIGTERM".to_owned(), grace: Millis(grace_ms), command: None }
}

/// Waits until something holds, at most 20 s.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Live processes that work under a directory.
pub fn working_under(dir: &Path) -> Vec<landfall::proc::Stat> {
    landfall::proc::working_under(dir)
}
