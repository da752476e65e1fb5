//! A person's desk: a state repository, a store, and nothing of the machine they sit at.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use landfall_store::push::{PushOptions, push};
use landfall_store::scan::{LayerSource, Mapping, ScanOptions, scan};
use landfall_store::{Artifact, Layer, Store};
use serde_json::Value;
use tempfile::TempDir;

use crate::{process, waiting};

/// An artifact that no store has.
pub const STRANGER: &str = "b3:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub struct Desk(TempDir);

impl Desk {
    /// A directory, a store, no git.
    pub fn bare() -> Self {
        let desk = Self(tempfile::Builder::new().prefix("landfall-desk-").tempdir().unwrap());
        std::fs::create_dir(desk.path("home")).unwrap();
        std::fs::create_dir(desk.path("state")).unwrap();
        Store::create(&desk.path("root/store")).unwrap();
        desk
    }

    /// The same with the state in a work tree that has one commit.
    pub fn in_git() -> Self {
        let desk = Self::bare();
        desk.git(&["init", "--quiet", "--initial-branch=main"]);
        desk.git(&["config", "user.name", "Maria"]);
        desk.git(&["config", "user.email", "maria@example.org"]);
        desk.git(&["commit", "--quiet", "--allow-empty", "-m", "begin"]);
        desk
    }

    /// A path on the desk; a bare file name is one of the state's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        let at_top = ["home", "state", "remote.git"].contains(&name) || name.contains('/');
        if at_top { self.0.path().join(name) } else { self.0.path().join("state").join(name) }
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn write_committed(&self, text: &str) {
        self.write("deploy-state.json", text);
        self.git(&["add", "deploy-state.json"]);
        self.git(&["commit", "--quiet", "-m", "by hand"]);
    }

    pub fn state(&self) -> String {
        std::fs::read_to_string(self.path("deploy-state.json")).unwrap()
    }

    pub fn target(&self, app: &str, environment: &str) -> Value {
        let state: Value = serde_json::from_str(&self.state()).unwrap();
        state["apps"][app]["environments"][environment]["target"].clone()
    }

    /// Stores a version of an app with one file in it.
    pub fn artifact(&self, app: &str, version: &str, environment: Option<&str>) -> String {
        let release = serde_json::json!({ "version": version });
        self.stored(app, environment, &[("version.txt", version)], &release)
    }

    /// Stores an artifact with these files, and this said of its release.
    fn stored(
        &self,
        app: &str,
        environment: Option<&str>,
        files: &[(&str, &str)],
        release: &Value,
    ) -> String {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let scanned = scan(&source(dir.path()), &ScanOptions::default()).unwrap();
        let layer = Layer {
            bytes: scanned.tree.bytes(),
            environment: None,
            files: scanned.tree.files(),
            mount: String::new(),
            name: "app".parse().unwrap(),
            roles: vec![],
            tree: scanned.tree.id(),
        };
        let release = release.as_object().unwrap().clone();
        let environment = environment.map(|name| name.parse().unwrap());
        let artifact = Artifact::new(app.parse().unwrap(), environment, vec![layer], release).unwrap();
        let store = Store::open(&self.path("root/store")).unwrap();
        push(&store, &artifact, &[scanned.content()], &PushOptions::default()).unwrap();
        artifact.id().unwrap().to_string()
    }

    /// Any program on this desk.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .env("USER", "maria")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CEILING_DIRECTORIES", self.0.path())
            .current_dir(self.path("state"))
            .stdin(Stdio::null());
        command
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let output = self.program("git").args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn hook(&self, name: &str, script: &str) {
        let hook = self.path("state/.git/hooks").join(name);
        std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
        std::fs::write(&hook, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(hook, PermissionsExt::from_mode(0o755)).unwrap();
    }

    pub fn with_remote(&self) {
        let remote = self.path("remote.git").display().to_string();
        self.git(&["init", "--quiet", "--bare", &remote]);
        self.git(&["remote", "add", "origin", &remote]);
        self.git(&["push", "--quiet", "--set-upstream", "origin", "HEAD~1:refs/heads/main"]);
        self.git(&["branch", "--quiet", "--set-upstream-to=origin/main"]);
    }

    pub fn landfall(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_landfall"));
        command.args(arguments).arg("--root").arg(self.path("root/"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::of(&self.landfall(arguments).output().unwrap())
    }
}

fn source(dir: &Path) -> LayerSource {
    LayerSource {
        name: "app".parse().unwrap(),
        root: dir.to_owned(),
        files: vec![Mapping { from: ".".into(), to: String::new() }],
        exclude: vec![],
        env: false,
        env_files: vec![],
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }
}

/// The agent of a desk's host; everything that was started ends with it.
pub struct Agent {
    process: Option<Child>,
    dir: PathBuf,
}

impl Desk {
    /// Starts `landfall watch` for prod, and waits until it has its root.
    pub fn agent(&self) -> Agent {
        let log = std::fs::File::create(self.path("home/agent.log")).unwrap();
        let mut command = self.landfall(&["watch", "--env", "prod"]);
        command.stdout(Stdio::null()).stderr(log);
        let process = command.spawn().unwrap();
        let lock = self.path("root/lock");
        let held = || landfall::host::is_locked(&lock);
        waiting::wait_until("the agent holds its root", Duration::from_secs(60), held);
        Agent { process: Some(process), dir: self.0.path().canonicalize().unwrap() }
    }

    /// Stores a version that runs until it is stopped, and whose check passes or not.
    pub fn service(&self, version: &str, well: bool) -> String {
        let check = if well { "true" } else { "false" };
        let release = serde_json::json!({
            "version": version,
            "start": [{
                "name": "main", "manager": "direct", "command": { "run": ["sleep", "100000"] },
                "instances": 1, "stop": { "signal": "SIGTERM", "grace": 1000 }
            }],
            "health": [{
                "name": "main", "check": { "run": [check] }, "attempts": 2, "interval": 50, "timeout": 1000,
                "successes": 1, "settle": 50
            }]
        });
        self.stored("web", None, &[("version.txt", version)], &release)
    }
}

impl Agent {
    /// Ends it as an operator would; what it started goes on.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        process.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
        for _ in 0..50 {
            let left = process::belonging_to(&self.dir);
            if left.is_empty() {
                return;
            }
            left.iter().for_each(|one| process::kill(one.pid));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
